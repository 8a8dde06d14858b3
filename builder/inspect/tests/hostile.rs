//! Files that claim more than a reader should take.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod samples;

use lycia_inspect::{Limits, Report, inspect_bytes};
use lycia_media::iso9660::{self, VolumeTime};
use lycia_media::partition::Guid;
use lycia_media::{disk, fat};
use lycia_tree::{Content, Metadata, Node, Tree};

use samples::{TIME, archive, erofs_image, faults, look, put, squashfs_image, tarball, zstd};

/// Bytes of names that the tests allow.
const NAMES: u64 = 200_000;

fn bounded(bytes: &[u8]) -> Report {
    let limits = Limits {
        names: NAMES,
        ..Limits::default()
    };
    inspect_bytes("test", &Content::from(bytes), &limits).expect("it is something")
}

/// Bytes of names, links and attributes that a report holds.
fn held(report: &Report) -> u64 {
    let items = report.part.walk().into_iter().flat_map(|part| &part.files);
    items
        .map(|item| {
            let xattrs = item.xattrs.iter().map(|(name, value)| name.len() + value.len());
            item.path.len() + item.target.as_ref().map_or(0, String::len) + xattrs.sum::<usize>()
        })
        .sum::<usize>() as u64
}

fn assert_bounded(format: &str, bytes: &[u8]) {
    // Without the bound there is far more, and nothing is wrong with it.
    let all = look(bytes);
    assert!(held(&all) > 4 * NAMES, "{format}: {} bytes", held(&all));
    let report = bounded(bytes);
    assert!(held(&report) <= NAMES, "{format}: {} bytes", held(&report));
    let told = faults(&report);
    assert!(
        told.iter()
            .any(|fault| fault.contains("more") && fault.contains("bytes of")),
        "{format}: {told:?}"
    );
}

/// A file with a long attribute and many names.
fn many_names(value: usize) -> Tree {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let mut metadata = Metadata::new(0o644, TIME);
    metadata.xattrs.insert(b"user.long".to_vec(), vec![b'v'; value]);
    let id = tree
        .insert(b"/first", metadata, Node::Regular("content".into()))
        .unwrap();
    for number in 0..400 {
        tree.link(id, format!("/name-{number}").as_bytes()).unwrap();
    }
    tree
}

/// Symbolic links as long as they may be.
fn long_links() -> Tree {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    for number in 0..400 {
        let text = "abcdefg/".repeat(500).into_bytes();
        put(&mut tree, &format!("/links/{number}"), 0o777, Node::Symlink(text));
    }
    tree
}

fn iso(tree: &Tree) -> Vec<u8> {
    let image = iso9660::Image {
        volume_id: "TEST",
        system_id: "",
        volume_set_id: "",
        publisher: "",
        preparer: "",
        application: "",
        time: TIME,
        uuid: VolumeTime::new(TIME).unwrap(),
        joliet: false,
        files: tree,
        boot: iso9660::Boot::default(),
    };
    let mut bytes = Vec::new();
    image.plan().unwrap().write(&mut bytes, &mut |_| {}).unwrap();
    bytes
}

#[test]
fn attributes_that_many_names_share_are_counted_for_each() {
    assert_bounded("squashfs", &squashfs_image(&many_names(60_000)));
    assert_bounded("erofs", &erofs_image(&many_names(60_000)));
    assert_bounded("ext4", &samples::ext4_volume(&many_names(3000)));
}

#[test]
fn attributes_that_many_inodes_of_erofs_share_are_counted_for_each() {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let mut file = |path: String, name: &[u8], value: Vec<u8>| {
        let mut metadata = Metadata::new(0o644, TIME);
        metadata.xattrs.insert(name.to_vec(), value);
        tree.insert(path.as_bytes(), metadata, Node::Regular("content".into()))
            .unwrap();
    };
    file("/0".to_owned(), b"user.b", vec![b'V'; 60_000]);
    for number in 1..200 {
        file(format!("/{number}"), b"user.a", b"MARK".to_vec());
    }
    let mut bytes = erofs_image(&tree);
    let long = [&[1, 1][..], &60_000u16.to_le_bytes(), b"bVVVV"].concat();
    let at = bytes
        .windows(long.len())
        .position(|window| window == long)
        .unwrap();
    // The shared ones are counted in units of 4 bytes from the image's beginning on.
    let id = u32::try_from(at / 4).unwrap().to_le_bytes();
    let short = b"\x01\x01\x04\x00aMARK";
    let places: Vec<usize> = (12..bytes.len() - short.len())
        .filter(|&at| bytes[at..].starts_with(short))
        .collect();
    assert_eq!(places.len(), 199);
    for at in places {
        bytes[at - 12 + 4] = 3;
        bytes[at..at + 12].copy_from_slice(&id.repeat(3));
    }
    assert_bounded("erofs", &bytes);
}

#[test]
fn paths_and_links_are_counted() {
    let tree = long_links();
    assert_bounded("iso9660", &iso(&tree));
    assert_bounded("tar", &tarball(&tree));
    assert_bounded("initramfs", &archive(&tree));
    // Long names in long folders.
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let folder = format!("/{}/{}", "a".repeat(200), "b".repeat(200));
    for number in 0..2500 {
        put(
            &mut tree,
            &format!("{folder}/{number}"),
            0o644,
            Node::Regular("".into()),
        );
    }
    let volume = fat::Volume {
        label: None,
        serial: 1,
        time: TIME,
        width: None,
        size: 4 << 20,
    };
    assert_bounded("fat", &fat::image(&tree, &volume).unwrap());
    assert_bounded("iso9660", &iso(&tree));
}

#[test]
fn any_number_in_the_lists_of_a_core_image_is_told() {
    let list = |start: u64, len: u16| -> Vec<String> {
        let mut sector = [0u8; 512];
        sector[..7].copy_from_slice(b"loading");
        sector[500..508].copy_from_slice(&start.to_le_bytes());
        sector[508..510].copy_from_slice(&len.to_le_bytes());
        let mut layout = disk::Layout::new(Guid::derive(b"test", "disk"));
        layout.size = Some(4 << 20);
        let mut bios = disk::Partition::new(
            "bios",
            Guid::BIOS_BOOT,
            Guid::derive(b"test", "bios"),
            disk::Size::Bytes(1 << 20),
        );
        bios.content = disk::Content::Bytes(Content::from(&sector[..]));
        layout.partitions = vec![bios];
        let mut bytes = std::io::Cursor::new(vec![0; 4 << 20]);
        let plan = disk::Plan::new(&layout).unwrap();
        plan.write(&mut bytes, &mut |_| {}).unwrap();
        faults(&look(&bytes.into_inner()))
    };
    assert_eq!(list(2049, 10), Vec::<String>::new());
    for start in [0, 1 << 54, u64::MAX / 512, u64::MAX / 512 + 1, u64::MAX] {
        let told = list(start, 1);
        assert!(
            told.iter()
                .any(|fault| fault.contains("outside of its partition")),
            "{start}: {told:?}"
        );
    }
}

#[test]
fn what_many_members_unpack_to_is_counted_together() {
    let file = |bytes: Vec<u8>| Node::Regular(bytes.into());
    let bomb = zstd(&vec![0; 900_000]);
    let mut kit = Tree::new(Metadata::new(0o755, TIME));
    put(
        &mut kit,
        "/boot.ipxe",
        0o644,
        file(b"#!ipxe\nkernel 0\nboot\n".to_vec()),
    );
    let mut sums = format!("{}  boot.ipxe\n", samples::look_sha(b"#!ipxe\nkernel 0\nboot\n"));
    for number in 0..5 {
        put(&mut kit, &format!("/{number}"), 0o644, file(bomb.clone()));
        sums.push_str(&format!("{}  {number}\n", samples::look_sha(&bomb)));
    }
    put(&mut kit, "/SHA256SUMS", 0o644, file(sums.into_bytes()));
    let kit = tarball(&kit);
    let told = |content: u64| {
        let limits = Limits {
            content,
            ..Limits::default()
        };
        let report = inspect_bytes("test", &Content::from(&kit[..]), &limits).unwrap();
        faults(&report)
    };
    assert_eq!(told(5 << 20), Vec::<String>::new());
    let few = told(2 << 20);
    assert_eq!(few.len(), 3, "{few:?}");
    assert!(
        few.iter()
            .all(|fault| fault.contains("unpacking: it is more than")),
        "{few:?}"
    );
}
