//! Small media of every kind, and what is seen of them.

#![allow(dead_code, reason = "no test uses all of them")]

use std::io::Cursor;

use lycia_inspect::{Limits, Part, Report, compare, inspect_bytes};
use lycia_media::compress::Compression;
use lycia_media::partition::Guid;
use lycia_media::{compress, cpio, disk, erofs, ext4, fat, qcow2, squashfs, tar};
use lycia_tree::{Content, Device, Metadata, Node, Timestamp, Tree};

pub const TIME: Timestamp = Timestamp {
    seconds: 1_600_000_000,
    nanoseconds: 0,
};

pub fn put(tree: &mut Tree, path: &str, mode: u16, node: Node) {
    let folder = path.rsplit_once('/').unwrap().0;
    tree.make_directories(folder.as_bytes(), Metadata::new(0o755, TIME))
        .unwrap();
    tree.insert(path.as_bytes(), Metadata::new(mode, TIME).owned_by(0, 5), node)
        .unwrap();
}

pub fn root() -> Tree {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let file = |bytes: &[u8]| Node::Regular(Content::from(bytes));
    put(&mut tree, "/etc/motd", 0o644, file(b"welcome\n"));
    put(
        &mut tree,
        "/usr/bin/tool",
        0o755,
        file(&b"0123456789abcdef".repeat(5000)),
    );
    put(&mut tree, "/usr/bin/link", 0o777, Node::Symlink(b"tool".to_vec()));
    let device = Device { major: 1, minor: 3 };
    put(&mut tree, "/dev/null", 0o666, Node::CharDevice(device));
    put(&mut tree, "/run/pipe", 0o600, Node::Fifo);
    let database = "C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:tool\nV:1.2-r3\nA:x86_64\nL:MIT\no:tool\n\n";
    put(
        &mut tree,
        "/usr/lib/apk/db/installed",
        0o644,
        file(database.as_bytes()),
    );
    put(&mut tree, "/etc/apk/world", 0o644, file(b"tool\n"));
    put(
        &mut tree,
        "/boot/extlinux/extlinux.conf",
        0o644,
        file(b"LABEL a\n LINUX /boot/vmlinuz-1\n APPEND quiet\n"),
    );
    tree
}

pub fn ext4_volume(tree: &Tree) -> Vec<u8> {
    let size = 4 << 20;
    let mut bytes = Cursor::new(vec![0; size]);
    let volume = ext4::Volume::new(size as u64, Guid::derive(b"test", "volume"), TIME);
    ext4::write(&mut bytes, 0, tree, &volume).unwrap();
    bytes.into_inner()
}

pub fn squashfs_image(tree: &Tree) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let options = squashfs::Options {
        jobs: 1,
        block_size: 4096,
        ..squashfs::Options::default()
    };
    squashfs::write(tree, &options, &mut bytes, &|_, _| {}).unwrap();
    bytes.into_inner()
}

pub fn esp() -> Tree {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let program = Node::Regular(vec![b'M'; 9000].into());
    tree.make_directories(b"EFI/BOOT", Metadata::new(0o755, TIME))
        .unwrap();
    tree.insert(b"EFI/BOOT/BOOTX64.TXT", Metadata::new(0o644, TIME), program)
        .unwrap();
    tree
}

pub fn disk_image(tree: &Tree) -> Vec<u8> {
    let esp = esp();
    let mut layout = disk::Layout::new(Guid::derive(b"test", "disk"));
    layout.size = Some(16 << 20);
    let mut one = disk::Partition::new(
        "esp",
        Guid::EFI_SYSTEM,
        Guid::derive(b"test", "esp"),
        disk::Size::Bytes(2 << 20),
    );
    one.content = disk::Content::Fat {
        tree: &esp,
        volume: fat::Volume {
            label: Some("ESP".to_owned()),
            serial: 7,
            time: TIME,
            width: None,
            size: 2 << 20,
        },
    };
    let mut two = disk::Partition::new(
        "root",
        Guid::LINUX_ROOT_X86_64,
        Guid::derive(b"test", "root"),
        disk::Size::Rest,
    );
    two.content = disk::Content::Ext4 {
        tree,
        volume: ext4::Volume::new(4 << 20, Guid::derive(b"test", "volume"), TIME),
    };
    layout.partitions = vec![one, two];
    let mut bytes = Cursor::new(vec![0; 16 << 20]);
    let plan = disk::Plan::new(&layout).unwrap();
    plan.write(&mut bytes, &mut |_| {}).unwrap();
    bytes.into_inner()
}

pub fn erofs_image(tree: &Tree) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let volume = erofs::Volume {
        label: b"root".to_vec(),
        uuid: Guid::derive(b"test", "erofs"),
        time: TIME,
    };
    erofs::write(&mut bytes, tree, &volume).unwrap();
    bytes.into_inner()
}

pub fn qcow2_image(raw: &[u8]) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    qcow2::write(&mut &raw[..], raw.len() as u64, &mut bytes, &mut |_| {}).unwrap();
    bytes.into_inner()
}

pub fn tarball(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    let options = tar::Options {
        root: true,
        ..tar::Options::default()
    };
    tar::write_tree(&mut bytes, tree, &options).unwrap();
    bytes
}

pub fn archive(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    cpio::write_tree(&mut bytes, tree, &cpio::Options::default()).unwrap();
    bytes
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    compress::compress(bytes, &Compression::zstd(3), 1).unwrap()
}

pub fn look(bytes: &[u8]) -> Report {
    inspect_bytes("test", &Content::from(bytes), &Limits::default()).expect("it is something")
}

pub fn faults(report: &Report) -> Vec<String> {
    report.faults.iter().map(ToString::to_string).collect()
}

/// The part that holds the root.
pub fn root_part(report: &Report) -> &Part {
    report
        .part
        .walk()
        .into_iter()
        .find(|part| part.files.iter().any(|item| item.path == "/etc/motd"))
        .expect("a root")
}

pub fn look_sha(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn difference(old: &[u8], new: &[u8]) -> lycia_inspect::Difference {
    let (old, new) = (Content::from(old), Content::from(new));
    let report = |content: &Content| inspect_bytes("x", content, &Limits::default()).unwrap();
    compare((&report(&old), &old), (&report(&new), &new))
}

/// The least of a kernel for x86 that says a version.
pub fn kernel() -> Vec<u8> {
    let mut bytes = vec![0x90; 4096];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0x1f1, &[1]);
    put(0x1f4, &u32::to_le_bytes((4096 - 1024) / 16));
    put(0x202, b"HdrS");
    put(0x206, &[0x0f, 2]);
    put(0x20e, &0x100u16.to_le_bytes());
    put(0x300, b"6.1.2-test (builder)\0");
    bytes
}

/// A kit for booting from a network, as the builder writes it.
pub fn kit(root: &Tree) -> Vec<u8> {
    let metadata = Metadata::new(0o644, TIME);
    let squash = squashfs_image(root);
    let mut inner = Tree::new(Metadata::new(0o755, TIME));
    inner
        .make_directories(b"live", Metadata::new(0o755, TIME))
        .unwrap();
    let sum = format!("{}  filesystem.squashfs\n", look_sha(&squash));
    inner
        .write(b"live/filesystem.squashfs", metadata.clone(), squash.into())
        .unwrap();
    inner
        .write(
            b"live/filesystem.squashfs.sha256",
            metadata.clone(),
            sum.into(),
        )
        .unwrap();
    let mut initramfs = Tree::new(Metadata::new(0o755, TIME));
    initramfs
        .write(
            b"init",
            Metadata::new(0o755, TIME),
            "#!/bin/sh\n".repeat(50).into(),
        )
        .unwrap();
    let script = "#!ipxe\nkernel vmlinuz initrd=initrd initrd=root.cpio boot=live console=ttyS0\ninitrd \
                  initrd\ninitrd root.cpio\nboot\n";
    let mut kit = Tree::new(Metadata::new(0o755, TIME));
    let mut sums = String::new();
    for (name, content) in [
        ("boot.ipxe", script.as_bytes().to_vec()),
        ("initrd", zstd(&archive(&initramfs))),
        ("root.cpio", archive(&inner)),
        ("vmlinuz", kernel()),
    ] {
        sums.push_str(&format!("{}  {name}\n", look_sha(&content)));
        kit.write(name.as_bytes(), metadata.clone(), content.into())
            .unwrap();
    }
    kit.write(b"SHA256SUMS", metadata, sums.into()).unwrap();
    let mut bytes = Vec::new();
    tar::write_tree(&mut bytes, &kit, &tar::Options::default()).unwrap();
    bytes
}
