//! Small media of every kind, and what is seen of them.

#![allow(dead_code, reason = "no test uses all of them")]

use std::io::Cursor;

use lycia_inspect::{Limits, Part, Report, compare, inspect_bytes};
use lycia_media::compress::Compression;
use lycia_media::partition::Guid;
use lycia_media::{compress, cpio, disk, erofs, ext4, fat, iso9660, qcow2, squashfs, tar};
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
        .write(b"live/filesystem.squashfs.sha256", metadata.clone(), sum.into())
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

/// The least of an EFI program for x86-64 that GRUB's modules lie in, with a configuration among them.
pub fn efi_program() -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, b"MZ");
    put(0x3c, &0x80u32.to_le_bytes());
    put(0x80, b"PE\0\0");
    put(0x84, &0x8664u16.to_le_bytes());
    put(0x86, &2u16.to_le_bytes());
    for (at, name, start) in [(0x98, &b".text"[..], 512u32), (0xc0, b"mods", 768)] {
        put(at, name);
        put(at + 16, &256u32.to_le_bytes());
        put(at + 20, &start.to_le_bytes());
    }
    let config = b"search --label LYCIA\0";
    put(768, b"mimg\0\0\0\0");
    put(776, &24u64.to_le_bytes());
    put(792, &2u32.to_le_bytes());
    put(796, &(8 + config.len() as u32).to_le_bytes());
    put(800, config);
    bytes
}

/// A volume with an EFI program where firmware looks for it.
pub fn program_volume() -> Vec<u8> {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    put(
        &mut tree,
        "/EFI/BOOT/BOOTX64.EFI",
        0o644,
        Node::Regular(efi_program().into()),
    );
    let volume = fat::Volume {
        label: Some("ESP".to_owned()),
        serial: 7,
        time: TIME,
        width: None,
        size: 1 << 20,
    };
    fat::image(&tree, &volume).unwrap()
}

/// A disk that a BIOS boots with GRUB: boot sector, core image.
pub fn bios_disk() -> Vec<u8> {
    let mut code = [0x90u8; 440];
    code[0x180..0x185].copy_from_slice(b"GRUB ");
    code[0x5c..0x64].copy_from_slice(&2048u64.to_le_bytes());
    let mut core = vec![0x55u8; 11 * 512];
    core[..512].fill(0);
    core[100..107].copy_from_slice(b"loading");
    core[500..508].copy_from_slice(&2049u64.to_le_bytes());
    core[508..510].copy_from_slice(&10u16.to_le_bytes());
    core[520..524].copy_from_slice(&4000u32.to_le_bytes());
    let mut layout = disk::Layout::new(Guid::derive(b"test", "disk"));
    layout.size = Some(4 << 20);
    layout.boot_code = &code;
    let mut bios = disk::Partition::new(
        "bios",
        Guid::BIOS_BOOT,
        Guid::derive(b"test", "bios"),
        disk::Size::Bytes(1 << 20),
    );
    bios.content = disk::Content::Bytes(Content::from(core));
    layout.partitions = vec![bios];
    let mut bytes = Cursor::new(vec![0; 4 << 20]);
    let plan = disk::Plan::new(&layout).unwrap();
    plan.write(&mut bytes, &mut |_| {}).unwrap();
    bytes.into_inner()
}

/// An ISO image that boots in every way, with Joliet.
pub fn boot_iso() -> Vec<u8> {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let mut core = vec![0x33u8; 5000];
    core[200..207].copy_from_slice(b"loading");
    for (path, content) in [
        ("/boot/grub/i386-pc/eltorito.img", core),
        (
            "/boot/grub/grub.cfg",
            b"menuentry 'x' {\n linux /vmlinuz quiet\n}\n".to_vec(),
        ),
        ("/docs/read me.txt", b"text\n".to_vec()),
        ("/docs/empty", Vec::new()),
    ] {
        put(&mut tree, path, 0o644, Node::Regular(content.into()));
    }
    put(&mut tree, "/docs/link", 0o777, Node::Symlink(b"empty".to_vec()));
    let mut code = [0x90u8; 440];
    code[0x180..0x185].copy_from_slice(b"GRUB ");
    let image = iso9660::Image {
        volume_id: "TEST",
        system_id: "",
        volume_set_id: "",
        publisher: "",
        preparer: "",
        application: "",
        time: TIME,
        uuid: iso9660::VolumeTime::new(TIME).unwrap(),
        joliet: true,
        files: &tree,
        boot: iso9660::Boot {
            bios: Some(iso9660::Bios {
                image: b"/boot/grub/i386-pc/eltorito.img".to_vec(),
            }),
            efi: Some(iso9660::Efi {
                esp: program_volume().into(),
            }),
            hybrid: Some(iso9660::Hybrid {
                code: Some(code),
                signature: 5,
                disk: Guid::derive(b"test", "iso disk"),
                image_partition: Guid::derive(b"test", "iso"),
                esp_partition: Guid::derive(b"test", "iso esp"),
            }),
        },
    };
    let mut bytes = Vec::new();
    image.plan().unwrap().write(&mut bytes, &mut |_| {}).unwrap();
    bytes
}

/// A disk with a partition that an MBR shows besides the GPT.
pub fn hybrid_disk() -> Vec<u8> {
    let mut layout = disk::Layout::new(Guid::derive(b"test", "disk"));
    layout.size = Some(8 << 20);
    layout.table = disk::Table::Hybrid(vec![disk::Shown {
        number: 1,
        kind: 0x0c,
        active: true,
    }]);
    let mut one = disk::Partition::new(
        "one",
        Guid::BASIC_DATA,
        Guid::derive(b"test", "one"),
        disk::Size::Bytes(2 << 20),
    );
    one.content = disk::Content::Bytes(Content::from(&b"content"[..]));
    layout.partitions = vec![one];
    let mut bytes = Cursor::new(vec![0; 8 << 20]);
    let plan = disk::Plan::new(&layout).unwrap();
    plan.write(&mut bytes, &mut |_| {}).unwrap();
    bytes.into_inner()
}

/// A container image of one layer.
pub fn container(tree: &Tree) -> Vec<u8> {
    container_of(&[tarball(tree)], false)
}

/// A container image of layers; as archives for several platforms have it, in an index of its own, beside one that is not there and
/// something that is no image.
pub fn container_of(layers: &[Vec<u8>], nested: bool) -> Vec<u8> {
    let descriptor = |bytes: &[u8]| serde_json::json!({"digest": format!("sha256:{}", look_sha(bytes)), "size": bytes.len()});
    let mut blobs: Vec<Vec<u8>> = layers.to_vec();
    let mut manifest = |layers: &[Vec<u8>], kind: Option<&str>| {
        let sums: Vec<String> = layers
            .iter()
            .map(|layer| format!("sha256:{}", look_sha(layer)))
            .collect();
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": sums},
        })
        .to_string();
        let layers: Vec<serde_json::Value> = layers
            .iter()
            .map(|layer| {
                let mut one = descriptor(layer);
                if let Some(kind) = kind {
                    one["mediaType"] = kind.into();
                }
                one
            })
            .collect();
        let manifest =
            serde_json::json!({"config": descriptor(config.as_bytes()), "layers": layers}).to_string();
        let described = descriptor(manifest.as_bytes());
        blobs.extend([config.into_bytes(), manifest.into_bytes()]);
        described
    };
    let mut top = manifest(layers, None);
    if nested {
        let said = b"{\"said\": \"about it\"}".to_vec();
        let mut about = manifest(std::slice::from_ref(&said), Some("application/vnd.in-toto+json"));
        blobs.push(said);
        let mut other = descriptor(b"an image that is elsewhere");
        for (one, architecture, os) in [
            (&mut top, "amd64", "linux"),
            (&mut about, "unknown", "unknown"),
            (&mut other, "arm64", "linux"),
        ] {
            one["platform"] = serde_json::json!({"architecture": architecture, "os": os});
        }
        let index = serde_json::json!({"manifests": [top, about, other]}).to_string();
        top = descriptor(index.as_bytes());
        top["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "latest"});
        blobs.push(index.into_bytes());
    }
    let index = serde_json::json!({"manifests": [top]}).to_string();
    let mut files = Tree::new(Metadata::new(0o755, TIME));
    let blobs = blobs
        .into_iter()
        .map(|bytes| (format!("/blobs/sha256/{}", look_sha(&bytes)), bytes));
    for (path, bytes) in blobs.chain([
        ("/index.json".to_owned(), index.into_bytes()),
        (
            "/oci-layout".to_owned(),
            b"{\"imageLayoutVersion\":\"1.0.0\"}".to_vec(),
        ),
    ]) {
        put(&mut files, &path, 0o644, Node::Regular(bytes.into()));
    }
    let mut bytes = Vec::new();
    tar::write_tree(&mut bytes, &files, &tar::Options::default()).unwrap();
    bytes
}
