//! Files put into FAT volumes of other systems, made by mkfs.vfat and mtools and judged by fsck.vfat and mtools.

#![allow(clippy::unwrap_used)]

mod oracle;

use std::collections::BTreeMap;
use std::io::{self, Cursor, Seek, SeekFrom, Write};
use std::path::Path;

use lycia_media::fat::{InsertError, Insertion, Limits, Reader, names_in, read_file, structures};
use lycia_tree::{Content, Node, Timestamp, Tree};
use oracle::{TIME, put, root_owned, run};

const TOOLS: &str = "mtools";

fn now() -> Timestamp {
    Timestamp::from_seconds(TIME)
}

fn noise(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32)
        .map(|at| ((at ^ seed).wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

/// What we bring.
fn ours(version: u32) -> Tree {
    let mut tree = Tree::new(root_owned(0o755));
    for (path, bytes) in [
        ("/EFI/Lycia Linux/grubx64.efi", noise(200_000, version)),
        (
            "/EFI/Lycia Linux/grub.cfg",
            format!("set version={version}\n").into_bytes(),
        ),
        ("/EFI/BOOT/BOOTX64.EFI", noise(200_000, version)),
        (
            "/EFI/BOOT/grub.cfg",
            format!("set version={version}\n").into_bytes(),
        ),
    ] {
        put(
            &mut tree,
            path,
            root_owned(0o644),
            Node::Regular(Content::from(bytes)),
        );
    }
    tree
}

/// A volume of another system, fragmented: `arguments` go to mkfs.vfat.
fn theirs(size: u64, arguments: &[&str], folder: &Path) -> Vec<u8> {
    let path = folder.join("esp.img");
    std::fs::File::create(&path).unwrap().set_len(size).unwrap();
    let mut all = arguments.to_vec();
    let shown = path.display().to_string();
    all.extend(["-n", "SYSTEM", "-i", "12345678", &shown]);
    run("dosfstools", "mkfs.vfat", &all, b"");
    let tool = |program: &str, arguments: &[&str]| {
        let mut all = vec!["-i", shown.as_str()];
        all.extend(arguments);
        run(TOOLS, program, &all, b"");
    };
    let put = |name: &str, bytes: Vec<u8>| {
        let from = folder.join("from");
        std::fs::write(&from, bytes).unwrap();
        tool("mcopy", &[&from.display().to_string(), name]);
    };
    for folder in [
        "::/EFI",
        "::/EFI/Microsoft",
        "::/EFI/Microsoft/Boot",
        "::/EFI/debian",
        "::/loader",
    ] {
        tool("mmd", &[folder]);
    }
    put("::/EFI/Microsoft/Boot/bootmgfw.efi", noise(150_000, 1));
    for number in 0..40 {
        put(
            &format!("::/loader/an entry with a long name {number}.conf"),
            noise(3000, number),
        );
        put(&format!("::/EFI/Microsoft/Boot/bcd{number}"), noise(5000, number));
    }
    put("::/EFI/debian/shimx64.efi", noise(90_000, 3));
    // Holes of every size, and slots to be used again.
    for number in (0..40).step_by(2) {
        tool("mdel", &[&format!("::/EFI/Microsoft/Boot/bcd{number}")]);
        tool(
            "mdel",
            &[&format!("::/loader/an entry with a long name {number}.conf")],
        );
    }
    std::fs::read(path).unwrap()
}

/// Every file with its content, as mtools reads them.
fn files(image: &[u8], folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let path = folder.join("read.img");
    std::fs::write(&path, image).unwrap();
    let out = folder.join("out");
    let _ = std::fs::remove_dir_all(&out);
    std::fs::create_dir(&out).unwrap();
    run(
        TOOLS,
        "mcopy",
        &[
            "-s",
            "-n",
            "-i",
            &path.display().to_string(),
            "::/*",
            &out.display().to_string(),
        ],
        b"",
    );
    let mut found = BTreeMap::new();
    let mut waiting = vec![out.clone()];
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(&out).unwrap().display().to_string();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn fsck(image: &[u8], folder: &Path) {
    let path = folder.join("fsck.img");
    std::fs::write(&path, image).unwrap();
    let text = run(
        "dosfstools",
        "fsck.vfat",
        &["-n", "-v", &path.display().to_string()],
        b"",
    );
    assert!(
        !text.contains("Free cluster summary wrong") && !text.contains("differ"),
        "{text}"
    );
}

fn read_with_ours(image: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let tree = Reader::open(Cursor::new(image), Limits::default())
        .unwrap()
        .tree()
        .unwrap();
    tree.walk()
        .filter_map(|entry| {
            let content = entry.inode.content()?;
            let name = String::from_utf8(entry.path.clone()).unwrap();
            Some((name.trim_start_matches('/').to_owned(), content.bytes().to_vec()))
        })
        .collect()
}

fn volumes() -> Vec<(&'static str, u64, &'static [&'static str])> {
    vec![
        ("FAT12", 3 << 20, &["-F", "12", "-s", "4"]),
        ("FAT16", 16 << 20, &["-F", "16"]),
        ("FAT32", 36 << 20, &["-F", "32", "-s", "1"]),
        ("large sectors", 12 << 20, &["-F", "12", "-S", "4096", "-s", "1"]),
    ]
}

fn insert(image: &[u8], tree: &Tree) -> Vec<u8> {
    let insertion = Insertion::new(Cursor::new(image), tree, now()).unwrap();
    let mut out = Cursor::new(image.to_vec());
    insertion.write(&mut out).unwrap();
    out.into_inner()
}

#[test]
fn others_stay_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    for (name, size, arguments) in volumes() {
        let image = theirs(size, arguments, folder.path());
        let before = files(&image, folder.path());
        assert_eq!(before.len(), 42, "{name}");
        let mut now_there = image.clone();
        // Put in, put in again, replaced by another version.
        for version in [1, 1, 2] {
            let places = structures(Cursor::new(&now_there), 2).unwrap();
            let old = now_there.clone();
            now_there = insert(&now_there, &ours(version));
            fsck(&now_there, folder.path());
            let after = files(&now_there, folder.path());
            let mut expected = before.clone();
            expected.extend(read_with_ours_tree(&ours(version)));
            assert_eq!(
                after.keys().collect::<Vec<_>>(),
                expected.keys().collect::<Vec<_>>(),
                "{name}"
            );
            assert!(after == expected, "{name}: contents differ");
            // What is written over lies within what was announced, or in clusters that were free.
            let restored = restore(&now_there, &old, &places.ranges);
            assert!(
                files(&restored, folder.path()) == files(&old, folder.path()),
                "{name}"
            );
        }
        let disk = || Cursor::new(&now_there);
        assert_eq!(
            read_file(disk(), "efi/boot/GRUB.CFG", 11).unwrap().as_deref(),
            Some(&b"set version"[..])
        );
        assert_eq!(read_file(disk(), "efi/none/GRUB.CFG", 11).unwrap(), None);
        assert_eq!(names_in(disk(), "EFI/boot").unwrap(), ["BOOTX64.EFI", "grub.cfg"]);
        // The same again writes nothing.
        assert!(
            Insertion::new(Cursor::new(&now_there), &ours(2), now())
                .unwrap()
                .is_empty()
        );
    }
}

fn read_with_ours_tree(tree: &Tree) -> BTreeMap<String, Vec<u8>> {
    tree.walk()
        .filter_map(|entry| {
            let name = String::from_utf8(entry.path.clone()).unwrap();
            Some((
                name.trim_start_matches('/').to_owned(),
                entry.inode.content()?.bytes().to_vec(),
            ))
        })
        .collect()
}

fn restore(image: &[u8], old: &[u8], ranges: &[std::ops::Range<u64>]) -> Vec<u8> {
    let mut out = image.to_vec();
    for range in ranges {
        let range = range.start as usize..range.end as usize;
        out[range.clone()].copy_from_slice(&old[range]);
    }
    out
}

/// A disk that takes so many writes.
struct Stopping {
    disk: Cursor<Vec<u8>>,
    left: usize,
    writes: usize,
}

impl Write for Stopping {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writes += 1;
        if self.left == 0 {
            return Err(io::Error::other("the disk does not answer"));
        }
        self.left -= 1;
        self.disk.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Stopping {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.disk.seek(to)
    }
}

#[test]
fn cut_short_at_any_write() {
    let folder = tempfile::tempdir().unwrap();
    for (name, size, arguments) in &volumes()[..3] {
        let image = insert(&theirs(*size, arguments, folder.path()), &ours(1));
        let before = read_with_ours(&image);
        let whole = insert(&image, &ours(2));
        let new = read_with_ours_tree(&ours(2));
        let insertion = Insertion::new(Cursor::new(&image), &ours(2), now()).unwrap();
        let mut counter = Stopping {
            disk: Cursor::new(image.clone()),
            left: usize::MAX,
            writes: 0,
        };
        insertion.write(&mut counter).unwrap();
        assert!(counter.writes > 8, "{name}: {}", counter.writes);
        // Larger volumes take longer: some of theirs.
        let step = if *size > 20 << 20 { 5 } else { 1 };
        for at in (0..counter.writes).step_by(step) {
            let mut stopped = Stopping {
                disk: Cursor::new(image.clone()),
                left: at,
                writes: 0,
            };
            insertion.write(&mut stopped).unwrap_err();
            // Each file is the old one or the new one.
            for (path, bytes) in read_with_ours(stopped.disk.get_ref()) {
                let good = before.get(&path) == Some(&bytes) || new.get(&path) == Some(&bytes);
                assert!(good, "{name}, write {at}: {path}");
            }
            // Written again, it is as if nothing had happened.
            insertion.write(&mut stopped.disk).unwrap();
            assert!(*stopped.disk.get_ref() == whole, "{name}, write {at}");
        }
    }
}

#[test]
fn directories_grow_and_names_are_found_whatever_their_case() {
    let folder = tempfile::tempdir().unwrap();
    let image = theirs(36 << 20, &["-F", "32", "-s", "1"], folder.path());
    let mut tree = Tree::new(root_owned(0o755));
    for number in 0..300 {
        let path = format!("/efi/MICROSOFT/boot/another file with a name {number}.txt");
        put(
            &mut tree,
            &path,
            root_owned(0o644),
            Node::Regular(number.to_string().into_bytes().into()),
        );
    }
    let after = insert(&image, &tree);
    fsck(&after, folder.path());
    let found = files(&after, folder.path());
    assert_eq!(found.len(), 342);
    assert_eq!(
        found["EFI/Microsoft/Boot/another file with a name 299.txt"],
        b"299"
    );
    assert_eq!(found["EFI/Microsoft/Boot/bootmgfw.efi"], noise(150_000, 1));
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let image = theirs(3 << 20, &["-F", "12", "-s", "4"], folder.path());
    let mut tree = ours(1);
    put(
        &mut tree,
        "/EFI/large",
        root_owned(0o644),
        Node::Regular(vec![1; 3 << 20].into()),
    );
    let Err(InsertError::Space { free, needed }) = Insertion::new(Cursor::new(&image), &tree, now()) else {
        panic!()
    };
    assert!(free < 3 << 20 && needed > free, "{free} {needed}");
    assert_eq!(structures(Cursor::new(&image), 0).unwrap().free, free);
    // A file where a directory should be, and the other way round.
    for path in ["/EFI/debian/shimx64.efi/x", "/EFI/Microsoft"] {
        let mut tree = Tree::new(root_owned(0o755));
        put(
            &mut tree,
            path,
            root_owned(0o644),
            Node::Regular(b"x".to_vec().into()),
        );
        let refused = Insertion::new(Cursor::new(&image), &tree, now());
        assert!(matches!(refused, Err(InsertError::Entry { .. })), "{path}");
    }
    // The root of FAT12 cannot grow.
    let mut tree = Tree::new(root_owned(0o755));
    for number in 0..600 {
        put(
            &mut tree,
            &format!("/{number}"),
            root_owned(0o644),
            Node::Regular(Content::empty()),
        );
    }
    let refused = Insertion::new(Cursor::new(&image), &tree, now());
    assert!(matches!(refused, Err(InsertError::Entry { .. })));
}

#[test]
fn a_damaged_volume_is_not_written_to() {
    let folder = tempfile::tempdir().unwrap();
    let image = theirs(36 << 20, &["-F", "32", "-s", "1"], folder.path());
    let reserved = usize::from(u16::from_le_bytes([image[14], image[15]])) * 512;
    let length = u32::from_le_bytes(image[36..40].try_into().unwrap()) as usize * 512;
    // Copies that differ; a chain that leads into free clusters; two chains with the same cluster.
    let mut differ = image.clone();
    differ[reserved + length + 400] ^= 1;
    let spoil = |cluster: usize, value: u32| {
        let mut image = image.clone();
        for copy in 0..2 {
            let at = reserved + copy * length + cluster * 4;
            image[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        image
    };
    // The loader's chain is the longest run: its second cluster is one that has a follower.
    let entry = |cluster: usize| {
        u32::from_le_bytes(
            image[reserved + cluster * 4..reserved + cluster * 4 + 4]
                .try_into()
                .unwrap(),
        ) & 0x0fff_ffff
    };
    let inside = (20..2000)
        .find(|&at| entry(at) as usize == at + 1 && entry(at + 1) as usize == at + 2)
        .unwrap();
    for (what, bad) in [
        ("copies", differ),
        ("free", spoil(inside, 0)),
        ("loop", spoil(inside, inside as u32)),
        ("shared", spoil(inside, 3)),
        ("outside", spoil(inside, 0x0fff_fff0)),
    ] {
        let refused = Insertion::new(Cursor::new(&bad), &ours(1), now());
        assert!(matches!(refused, Err(InsertError::Damaged { .. })), "{what}");
    }
}
