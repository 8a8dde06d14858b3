//! The Linux kernel judges the file systems that we write: a guest mounts each of them and lists all it sees (names, types, modes,
//! owners, links, sizes, times, attributes, contents), and every line must be what the tree says.
//!
//! One boot for all of them: a partition of one disk each, in a table of ours. The guest's init is `mounted/init.c`.

mod material;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::direct;
use lycia_apk::keys::KeyRing;
use lycia_apk::metadata::Package;
use lycia_apk::package::{self, Expect, PayloadSink, Trust};
use lycia_media::iso9660::{self, VolumeTime};
use lycia_media::partition::Guid;
use lycia_media::partition::gpt::{Partition, Table};
use lycia_media::partition::mbr::Mbr;
use lycia_media::squashfs::{self, Bcj, Compressor};
use lycia_media::{cpio, erofs, ext4, fat};
use lycia_tree::{Device, Metadata, Node, Tree};
use material::{Sight, TIME, fat_tree, for_iso9660, lines, rich};

/// Room for the guest's listings.
const LISTING: u64 = 64 << 20;
const SECTOR: u64 = 512;

/// A file system on the disk.
struct Written<'t> {
    name: String,
    kind: &'static str,
    options: &'static str,
    tree: &'t Tree,
    sight: Sight,
    /// Where the disk has it.
    first: u64,
    length: u64,
}

/// The disk while it is filled.
struct Disk<'t> {
    file: File,
    end: u64,
    written: Vec<Written<'t>>,
}

impl<'t> Disk<'t> {
    /// Writes a file system behind the others. `write` is given where it begins, and says how long it is.
    fn add(
        &mut self,
        name: &str,
        mount: (&'static str, &'static str),
        tree: &'t Tree,
        sight: Sight,
        write: impl FnOnce(&mut File, u64) -> u64,
    ) {
        let first = self.end;
        let length = write(&mut self.file, first);
        self.end = (first + length).next_multiple_of(1 << 20);
        self.written.push(Written {
            name: name.to_owned(),
            kind: mount.0,
            options: mount.1,
            tree,
            sight,
            first,
            length,
        });
    }

    /// Writes bytes that are at hand.
    fn add_bytes(
        &mut self,
        name: &str,
        mount: (&'static str, &'static str),
        tree: &'t Tree,
        sight: Sight,
        bytes: &[u8],
    ) {
        self.add(name, mount, tree, sight, |file, at| {
            file.seek(SeekFrom::Start(at)).unwrap();
            file.write_all(bytes).unwrap();
            bytes.len() as u64
        });
    }

    /// Writes the table.
    fn finish(mut self) -> Vec<Written<'t>> {
        let sectors = self.end / SECTOR + 2048;
        self.file.set_len(sectors * SECTOR).unwrap();
        let mut table = Table::new(Guid::derive(b"judge", "disk"), SECTOR as u32, sectors);
        table.partitions = self
            .written
            .iter()
            .enumerate()
            .map(|(index, written)| Partition {
                number: index as u32 + 1,
                kind: Guid::LINUX_DATA,
                guid: Guid::derive(b"judge", &written.name),
                first: written.first / SECTOR,
                last: (written.first + written.length.next_multiple_of(SECTOR)) / SECTOR - 1,
                attributes: 0,
                name: written.name.clone(),
            })
            .collect();
        for (sector, bytes) in [
            (0, Mbr::protective(sectors).encode().to_vec()),
            (1, table.primary().unwrap()),
            (table.backup_sector(), table.backup().unwrap()),
        ] {
            self.file.seek(SeekFrom::Start(sector * SECTOR)).unwrap();
            self.file.write_all(&bytes).unwrap();
        }
        self.written
    }
}

fn squashfs_image(tree: &Tree, compressor: Compressor, block_size: u32) -> Vec<u8> {
    let options = squashfs::Options {
        compressor,
        block_size,
        ..squashfs::Options::default()
    };
    let mut out = Cursor::new(Vec::new());
    squashfs::write(tree, &options, &mut out, &|_, _| {}).unwrap();
    out.into_inner()
}

fn iso_image(tree: &Tree) -> Vec<u8> {
    let image = iso9660::Image {
        volume_id: "JUDGED",
        system_id: "LINUX",
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

fn fill<'t>(disk: &mut Disk<'t>, [full, small, huge, iso, fats]: [&'t Tree; 5]) {
    let ext4_volume = |tree: &Tree, journal, block_size, wide| {
        let mut volume = ext4::Volume::new(0, Guid::derive(b"judge", "ext4"), TIME);
        volume.journal = journal;
        volume.block_size = block_size;
        volume.wide = wide;
        volume.checksums = wide;
        volume.size = ext4::fitting_size(tree, &volume, 4 << 20).unwrap();
        volume
    };
    for (name, tree, journal, block_size, wide) in [
        (
            "ext4-journal",
            full,
            ext4::Journal::Blocks(1024),
            ext4::BlockSize::B4096,
            true,
        ),
        (
            "ext4-plain",
            huge,
            ext4::Journal::None,
            ext4::BlockSize::B4096,
            true,
        ),
        (
            "ext4-1k-narrow",
            small,
            ext4::Journal::None,
            ext4::BlockSize::B1024,
            false,
        ),
    ] {
        let volume = ext4_volume(tree, journal, block_size, wide);
        disk.add(name, ("ext4", "-"), tree, Sight::EXT4, |file, at| {
            ext4::write(file, at, tree, &volume).unwrap();
            volume.size
        });
    }
    let xz = Compressor::Xz {
        preset: 6,
        bcj: Bcj::X86,
    };
    for (name, tree, compressor, block) in [
        ("squashfs-zstd", full, Compressor::Zstd { level: 3 }, 128 << 10),
        ("squashfs-xz", small, xz, 256 << 10),
        ("squashfs-gzip", small, Compressor::Gzip { level: 6 }, 4096),
        ("squashfs-lz4", small, Compressor::Lz4 { level: 1 }, 128 << 10),
        ("squashfs-lz4-high", huge, Compressor::Lz4 { level: 12 }, 1 << 20),
    ] {
        let image = squashfs_image(tree, compressor, block);
        disk.add_bytes(name, ("squashfs", "-"), tree, Sight::SQUASHFS, &image);
    }
    let mut image = Cursor::new(Vec::new());
    let volume = erofs::Volume {
        label: b"judged".to_vec(),
        uuid: Guid::derive(b"judge", "erofs"),
        time: TIME,
    };
    erofs::write(&mut image, full, &volume).unwrap();
    disk.add_bytes("erofs", ("erofs", "-"), full, Sight::EROFS, &image.into_inner());
    let image = iso_image(iso);
    disk.add_bytes("iso9660", ("iso9660", "-"), iso, Sight::ISO9660, &image);
    for (name, width, mebibytes) in [
        ("fat12", fat::Width::Fat12, 12),
        ("fat16", fat::Width::Fat16, 40),
        ("fat32", fat::Width::Fat32, 80),
    ] {
        let volume = fat::Volume {
            label: Some("JUDGED".to_owned()),
            serial: 0x1234_5678,
            time: TIME,
            width: Some(width),
            size: mebibytes << 20,
        };
        let options = "tz=UTC,iocharset=ascii,utf8";
        disk.add(name, ("vfat", options), fats, Sight::FAT, |file, at| {
            fat::write(file, at, fats, &volume).unwrap();
            volume.size
        });
    }
}

/// The seed's kernel package in the store that `lycia setup` fills.
fn kernel_package() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let folder = base.or_else(home).unwrap().join("lycia/seed/repository/x86_64");
    let found = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("linux-cloud-")
        });
    found.unwrap_or_else(|| panic!("there is no seed in {}: run `lycia setup`", folder.display()))
}

/// Keeps what is wanted of a package.
#[derive(Default)]
struct Wanted {
    name: Option<Vec<u8>>,
    files: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Modules that the guest has; those of the list that are built into the kernel are not there.
const MODULES: [&str; 14] = [
    "virtio_blk",
    "squashfs",
    "isofs",
    "cdrom",
    "erofs",
    "fat",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "nls_utf8",
    "libcrc32c",
    "crc32c_generic",
    "virtio_pci",
    "virtio",
];

impl PayloadSink for Wanted {
    fn begin(&mut self, package: &Package, directory: usize, file: usize) -> std::io::Result<()> {
        let name = &package.paths[directory].files[file].name;
        let text = String::from_utf8_lossy(name);
        let stem = text.strip_suffix(".ko").unwrap_or_default().replace('-', "_");
        self.name =
            (text.starts_with("vmlinuz-") || MODULES.contains(&stem.as_str()) || stem.starts_with("virtio"))
                .then(|| name.clone());
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if let Some(name) = &self.name {
            self.files
                .entry(name.clone())
                .or_default()
                .extend_from_slice(bytes);
        }
        Ok(())
    }

    fn end(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Kernel and initramfs of the guest.
fn guest(folder: &Path, plan: &str) -> (PathBuf, PathBuf) {
    let init = folder.join("init");
    let compiled = Command::new("cc")
        .args(["-O2", "-static", "-Wall", "-Werror", "-o"])
        .arg(&init)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/booted/mounted/init.c"))
        .status()
        .expect("this test needs the Debian packages gcc and libc6-dev");
    assert!(compiled.success(), "the init of the guest does not compile");

    let bytes = std::fs::read(kernel_package()).unwrap();
    let mut wanted = Wanted::default();
    let expect = Expect {
        trust: Trust::AllowUntrusted,
        ..Expect::default()
    };
    package::read(&bytes, &KeyRing::new(), &expect, &mut wanted).unwrap();
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let meta = |mode| Metadata::new(mode, TIME);
    for name in ["dev", "modules"] {
        tree.make_directory(name.as_bytes(), meta(0o755)).unwrap();
    }
    let console = Node::CharDevice(Device { major: 5, minor: 1 });
    tree.insert(b"dev/console", meta(0o600), console).unwrap();
    tree.write(b"init", meta(0o755), std::fs::read(&init).unwrap().into())
        .unwrap();
    tree.write(b"plan", meta(0o644), plan.to_owned().into()).unwrap();
    let kernel = folder.join("kernel");
    for (name, content) in wanted.files {
        if name.starts_with(b"vmlinuz-") {
            std::fs::write(&kernel, content).unwrap();
        } else {
            let path = [b"modules/", &name[..]].concat();
            tree.write(&path, meta(0o644), content.into()).unwrap();
        }
    }
    let mut archive = cpio::Segments::new(Vec::new());
    archive.plain(&tree, &cpio::Options::default()).unwrap();
    let initramfs = folder.join("initramfs");
    std::fs::write(&initramfs, archive.finish().unwrap()).unwrap();
    (kernel, initramfs)
}

/// The guest's listings by name.
fn listings(file: &Path) -> BTreeMap<String, Vec<String>> {
    let mut text = Vec::new();
    BufReader::new(File::open(file).unwrap())
        .read_to_end(&mut text)
        .unwrap();
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    let text = String::from_utf8_lossy(&text[..end]).into_owned();
    assert!(
        text.ends_with("== end\n"),
        "the guest did not come to its end: …{}",
        &text[text.len().saturating_sub(300)..]
    );
    let mut all = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("== ") {
            heading.clone_into(&mut name);
            all.insert(name.clone(), Vec::new());
        } else if let Some(failed) = line.strip_prefix("!! ") {
            all.insert(failed.to_owned(), Vec::new());
        } else {
            all.get_mut(&name).unwrap().push(line.to_owned());
        }
    }
    all
}

#[test]
fn the_kernel_sees_in_every_file_system_what_the_tree_says() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (full, small, iso) = (rich(10_000), rich(40), for_iso9660(10_000));
    let huge = material::huge(folder.path());
    let fats = fat_tree();
    let mut disk = Disk {
        file: File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(at("disk"))
            .unwrap(),
        end: 1 << 20,
        written: Vec::new(),
    };
    fill(&mut disk, [&full, &small, &huge, &iso, &fats]);
    let written = disk.finish();
    let plan: String = written
        .iter()
        .enumerate()
        .map(|(index, one)| {
            format!(
                "/dev/vda{} {} {} {}\n",
                index + 1,
                one.kind,
                one.options,
                one.name
            )
        })
        .collect();
    let (kernel, initramfs) = guest(folder.path(), &plan);
    File::create(at("listing")).unwrap().set_len(LISTING).unwrap();
    let console = direct::boot(
        folder.path(),
        (&kernel, &initramfs),
        "quiet panic=-1",
        &[(&at("disk"), true), (&at("listing"), false)],
        None,
    );
    assert!(
        console.contains("lycia-judge: done"),
        "the guest said:\n{console}"
    );

    let seen = listings(&at("listing"));
    let mut wrong = Vec::new();
    for one in &written {
        let expected = lines(one.tree, one.sight);
        let Some(found) = seen.get(&one.name) else {
            wrong.push(format!("{}: not mounted; there is {:?}", one.name, seen.keys()));
            continue;
        };
        let found: Vec<String> = found.iter().filter_map(|line| one.sight.seen(line)).collect();
        assert!(expected.len() > 40);
        let differing = expected
            .iter()
            .zip(&found)
            .filter(|(expected, found)| expected != found)
            .take(4)
            .map(|(expected, found)| format!("\n  should be {expected}\n  is        {found}"))
            .collect::<String>();
        if !differing.is_empty() || expected.len() != found.len() {
            wrong.push(format!(
                "{}: {} entries, not {}{differing}",
                one.name,
                found.len(),
                expected.len()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}\n{console}", wrong.join("\n"));
}
