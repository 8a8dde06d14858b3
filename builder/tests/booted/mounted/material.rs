//! Trees to be judged, and the lines that the guest should write of them.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use lycia_tree::{Content, Device, Follow, Kind, Metadata, Node, Pack, Timestamp, Tree};
use sha2::{Digest as _, Sha256};

/// The time of what has no other.
pub const TIME: Timestamp = Timestamp {
    seconds: 1_700_000_000,
    nanoseconds: 0,
};
/// Files beyond this are hashed in parts, as `init.c` does.
const WHOLE: usize = 64 << 20;
const PART: usize = 1 << 20;

/// What of a tree a file system keeps.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    nanoseconds: bool,
    xattrs: bool,
    /// Modes, owners, links, and all kinds of nodes.
    unix: bool,
    /// An entry of the file system's own.
    own: &'static str,
}

impl Sight {
    pub const EXT4: Sight = Sight {
        nanoseconds: true,
        xattrs: true,
        unix: true,
        own: "/lost+found",
    };
    pub const SQUASHFS: Sight = Sight {
        nanoseconds: false,
        xattrs: true,
        unix: true,
        own: "",
    };
    pub const EROFS: Sight = Sight {
        nanoseconds: true,
        ..Sight::SQUASHFS
    };
    pub const ISO9660: Sight = Sight {
        nanoseconds: false,
        xattrs: false,
        unix: true,
        // Where directories of more than 8 levels lie for those that do not read Rock Ridge.
        own: "/rr_moved",
    };
    pub const FAT: Sight = Sight {
        nanoseconds: false,
        xattrs: false,
        unix: false,
        own: "",
    };

    /// A line of the guest without what the file system does not keep; none of what is its own.
    pub fn seen(self, line: &str) -> Option<String> {
        let mut fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
        if fields.len() != 12 || (!self.own.is_empty() && fields[0] == self.own) {
            // A line of another form is an error of the guest, and differs from every line.
            return (fields.len() != 12).then(|| line.to_owned());
        }
        if fields[0] == "/" {
            // What the file system has of its own counts among the links of the root.
            fields[5] = "0".to_owned();
        }
        if !self.nanoseconds {
            fields[8] = "0".to_owned();
        }
        if self.own == Sight::ISO9660.own {
            // Linux 6.1 computes dates of ISO 9660 in 32 bits, whatever the medium says (`fs/isofs/util.c`).
            let seconds: i64 = fields[7].parse().unwrap_or(0);
            fields[7] = (seconds as i32).to_string();
        }
        if !self.unix {
            for at in [2, 3, 4, 5, 9] {
                fields[at] = "0".to_owned();
            }
            if fields[0] == "/" {
                // The root of a FAT volume has no entry of its own with a time.
                fields[7] = "0".to_owned();
            }
        }
        if !self.xattrs {
            fields[10].clear();
        }
        Some(fields.join("\t"))
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        match byte {
            b'\\' => text.push_str("\\5c"),
            33..=126 => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\{byte:02x}")),
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn digest(bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    if bytes.len() <= WHOLE {
        hash.update(bytes);
    } else {
        let middle = bytes.len() / 2;
        hash.update(&bytes[..PART]);
        hash.update(&bytes[middle..middle + PART]);
        hash.update(&bytes[bytes.len() - PART..]);
    }
    hex(&hash.finalize())
}

/// The lines of a tree, in the order in which the guest walks.
pub fn lines(tree: &Tree, sight: Sight) -> Vec<String> {
    tree.walk()
        .map(|entry| {
            let metadata = &entry.inode.metadata;
            let (kind, size, device, content) = match entry.inode.kind() {
                Kind::Directory { .. } => ('d', 0, (0, 0), String::new()),
                Kind::Node(node) => match node {
                    Node::Regular(content) => ('-', content.len(), (0, 0), digest(content.bytes())),
                    Node::Symlink(target) => ('l', target.len() as u64, (0, 0), escaped(target)),
                    Node::CharDevice(Device { major, minor }) => ('c', 0, (*major, *minor), String::new()),
                    Node::BlockDevice(Device { major, minor }) => ('b', 0, (*major, *minor), String::new()),
                    Node::Fifo => ('p', 0, (0, 0), String::new()),
                    Node::Socket => ('s', 0, (0, 0), String::new()),
                },
            };
            let links = match entry.inode.entries() {
                Some(entries) => {
                    2 + entries
                        .iter()
                        .filter(|(_, id)| tree.inode(**id).is_directory())
                        .count() as u64
                }
                None => u64::from(entry.inode.names()),
            };
            let xattrs: String = metadata
                .xattrs
                .iter()
                .map(|(name, value)| format!("{}={},", escaped(name), hex(value)))
                .collect();
            let line = format!(
                "{}\t{kind}\t{:o}\t{}\t{}\t{links}\t{size}\t{}\t{}\t{}:{}\t{xattrs}\t{content}",
                escaped(&entry.path),
                metadata.mode,
                metadata.uid,
                metadata.gid,
                metadata.mtime.seconds,
                metadata.mtime.nanoseconds,
                device.0,
                device.1,
            );
            sight.seen(&line).unwrap()
        })
        .collect()
}

/// Bytes that no compressor makes smaller, the same on every machine.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    })
    .take(length)
    .collect()
}

fn words(length: usize, seed: usize) -> Vec<u8> {
    (0..)
        .flat_map(|number: usize| format!("{} and {seed}, ", number * number % 9973).into_bytes())
        .take(length)
        .collect()
}

fn at(seconds: i64, nanoseconds: u32) -> Timestamp {
    Timestamp { seconds, nanoseconds }
}

fn change(tree: &mut Tree, path: &str, how: impl FnOnce(&mut Metadata)) {
    let id = tree.resolve(path.as_bytes(), Follow::All).unwrap();
    how(tree.metadata_mut(id));
}

/// A tree with everything that a root can have, and a directory of `many` files.
pub fn rich(many: usize) -> Tree {
    let meta = |mode| Metadata::new(mode, TIME);
    let mut tree = Tree::new(meta(0o755));
    for path in [
        "bin",
        "dev",
        "etc/empty",
        "home/user",
        "many",
        "run",
        "tmp",
        "usr/share/big",
        "names",
    ] {
        tree.make_directories(path.as_bytes(), meta(0o755)).unwrap();
    }
    let file = |bytes: Vec<u8>| Node::Regular(bytes.into());

    // Modes, owners, links.
    let tool = tree
        .insert(b"bin/tool", meta(0o4755), file(words(40_000, 1)))
        .unwrap();
    for name in ["bin/alias", "home/user/tool", "usr/tool"] {
        tree.link(tool, name.as_bytes()).unwrap();
    }
    for (name, mode, uid, gid) in [
        ("etc/shadow", 0o640, 0, 42),
        ("home/user/own", 0o600, 1000, 1000),
        ("home/user/far", 0o444, 100_000, 65_537),
        ("home/user/farther", 0o2755, 4_000_000_000, 4_294_967_000),
        ("home/user/none", 0, 65_534, 65_534),
        ("home/user/odd", 0o7777, 1, 2),
    ] {
        let metadata = meta(mode).owned_by(uid, gid);
        tree.insert(name.as_bytes(), metadata, file(name.into())).unwrap();
    }
    change(&mut tree, "tmp", |metadata| metadata.mode = 0o1777);
    for (name, node) in [
        ("dev/null", Node::CharDevice(Device { major: 1, minor: 3 })),
        (
            "dev/nvme0n1",
            Node::BlockDevice(Device {
                major: 259,
                minor: 300,
            }),
        ),
        (
            "dev/wide",
            Node::BlockDevice(Device {
                major: 4095,
                minor: 0xf_ffff,
            }),
        ),
        ("run/pipe", Node::Fifo),
        ("run/socket", Node::Socket),
    ] {
        tree.insert(name.as_bytes(), meta(0o660).owned_by(0, 6), node)
            .unwrap();
    }

    // Links of all lengths around those where formats change their ways.
    for length in [1, 59, 60, 61, 250, 1000] {
        let target: Vec<u8> = b"some/where/".iter().copied().cycle().take(length).collect();
        let name = format!("names/link-{length}");
        tree.insert(name.as_bytes(), meta(0o777), Node::Symlink(target))
            .unwrap();
    }

    // Names.
    for name in [
        vec![b'n'; 255],
        b"a name with spaces\nand a newline".to_vec(),
        b"\xff\xfe not UTF-8".to_vec(),
        "ünï\u{1f600}".into(),
        b"back\\slash".to_vec(),
        b"-dash".to_vec(),
        b"...".to_vec(),
        b"UPPER".to_vec(),
        b"upper".to_vec(),
        b"semi;1".to_vec(),
    ] {
        let path = [b"names/", &name[..]].concat();
        tree.insert(&path, meta(0o644), file(name)).unwrap();
    }

    // Attributes.
    let mut metadata = meta(0o755);
    // cap_net_raw+ep (VFS_CAP_REVISION_2).
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    metadata
        .xattrs
        .insert(b"security.capability".to_vec(), capability.to_vec());
    tree.insert(b"bin/ping", metadata, file(words(3000, 2))).unwrap();
    let mut metadata = meta(0o644);
    for (name, value) in [
        ("user.empty", Vec::new()),
        ("user.binary", (0..=255).collect()),
        ("user.long", noise(450, 9)),
        ("trusted.overlay.opaque", b"y".to_vec()),
    ] {
        metadata.xattrs.insert(name.into(), value);
    }
    tree.insert(b"etc/attributes", metadata.clone(), file(b"x".to_vec()))
        .unwrap();
    // The same again, which formats may share.
    tree.insert(b"etc/attributes2", metadata, file(b"y".to_vec()))
        .unwrap();
    change(&mut tree, "etc/empty", |metadata| {
        metadata
            .xattrs
            .insert(b"user.directory".to_vec(), b"yes".to_vec());
    });

    // Times.
    for (number, time) in [
        at(0, 0),
        at(1, 1),
        at(1_700_000_000, 999_999_999),
        at(2_147_483_647, 500_000_000),
        at(2_147_483_648, 1),
        at(4_102_444_800, 123_456_789),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("etc/time-{number}");
        tree.insert(
            name.as_bytes(),
            Metadata::new(0o644, time),
            file(name.clone().into()),
        )
        .unwrap();
    }

    // Contents: sizes around blocks, holes, what packs well and what does not, copies.
    for size in [
        0, 1, 511, 512, 1023, 1024, 4095, 4096, 4097, 131_071, 131_072, 131_073, 1_048_577,
    ] {
        let name = format!("usr/share/size-{size}");
        tree.insert(name.as_bytes(), meta(0o644), file(words(size, size)))
            .unwrap();
    }
    let mut holes = vec![0; 9 << 20];
    holes[..5].copy_from_slice(b"start");
    holes[3 << 20..(3 << 20) + 6].copy_from_slice(b"middle");
    let last = holes.len() - 3;
    holes[last..].copy_from_slice(b"end");
    for (name, bytes) in [
        ("noise", noise(700_000, 7)),
        ("copy-of-noise", noise(700_000, 7)),
        ("words", words(3_000_000, 5)),
        ("holes", holes),
        ("zeros", vec![0; 300_000]),
    ] {
        let path = format!("usr/share/big/{name}");
        tree.insert(path.as_bytes(), meta(0o644), file(bytes)).unwrap();
    }

    // Deep.
    let mut path = String::from("usr/deep");
    for level in 0..40 {
        tree.make_directories(path.as_bytes(), meta(0o755)).unwrap();
        let inside = format!("{path}/file");
        tree.insert(inside.as_bytes(), meta(0o644), file(format!("{level}").into()))
            .unwrap();
        path.push_str(&format!("/level-{level}"));
    }

    // Many, with names whose order is not that of their hashes, and as many directories as make blocks of their own.
    for number in 0..many {
        let path = format!("many/{number:05}-{}", "name".repeat(number % 9));
        let content = if number % 16 == 0 {
            words(number % 700, number)
        } else {
            Vec::new()
        };
        tree.insert(path.as_bytes(), meta(0o644), file(content)).unwrap();
    }
    for number in 0..many.div_ceil(50) {
        let path = format!("usr/many/{number}");
        tree.make_directories(path.as_bytes(), meta(0o700)).unwrap();
    }
    tree
}

/// A tree with a file of more than 4 GiB, nearly all of it a hole, which is a file in `folder` for as long.
pub fn huge(folder: &Path) -> Tree {
    const LENGTH: u64 = (4 << 30) + (5 << 20) + 77;
    let mut tree = rich(10);
    let path = folder.join("huge");
    let mut file = File::create_new(&path).unwrap();
    file.write_all(&words(100_000, 3)).unwrap();
    file.write_all_at(&words(200_000, 4), LENGTH / 2 + 100).unwrap();
    file.write_all_at(&noise(50_000, 5), LENGTH - 50_000).unwrap();
    let pack = Pack::open(&path, LENGTH).unwrap();
    let content: Content = pack.range(0, LENGTH).unwrap();
    tree.write(b"usr/share/huge", Metadata::new(0o644, TIME), content)
        .unwrap();
    tree
}

/// As [`rich`], with names that Linux shows whole: of those in Rock Ridge it cuts what has 254 bytes or more (`fs/isofs/rock.c`).
pub fn for_iso9660(many: usize) -> Tree {
    let mut tree = rich(many);
    let name = |length| [b"names/".to_vec(), vec![b'n'; length]].concat();
    tree.rename(&name(255), &name(253)).unwrap();
    tree
}

/// What FAT can hold.
pub fn fat_tree() -> Tree {
    let meta = |seconds| Metadata::new(0o755, at(seconds, 0));
    let mut tree = Tree::new(meta(TIME.seconds));
    for (number, path) in [
        "EFI/BOOT/BOOTX64.EFI",
        "readme.txt",
        "UPPER.TXT",
        "Mixed.Case",
        "a long name of a file.with.dots",
        "many/deep/directories/of/which/none/is/short/file",
        "ünï/größe.txt",
        "grin\u{1f600}.txt",
        "tilde~1.txt",
        "longname1.txt",
        "longname2.txt",
        "longname3.txt",
    ]
    .into_iter()
    .enumerate()
    {
        // The format has even seconds from 1980 on.
        let time = 315_532_800 + number as i64 * 86_400 * 365;
        if let Some((folder, _)) = path.rsplit_once('/') {
            tree.make_directories(folder.as_bytes(), meta(time)).unwrap();
        }
        tree.write(path.as_bytes(), meta(time), words(number * 7000, number).into())
            .unwrap();
    }
    for size in [0, 1, 511, 512, 513, 2047, 2048, 2049, 65_536, 3_000_000] {
        let path = format!("sizes/of {size} bytes");
        tree.make_directories(b"sizes", meta(TIME.seconds)).unwrap();
        tree.write(path.as_bytes(), meta(TIME.seconds), noise(size, 11).into())
            .unwrap();
    }
    tree.make_directories(b"files", meta(TIME.seconds)).unwrap();
    for number in 0..600 {
        let path = format!("files/file number {number}.bin");
        tree.write(path.as_bytes(), meta(TIME.seconds), words(number, number).into())
            .unwrap();
    }
    tree.make_directories(b"empty", meta(TIME.seconds)).unwrap();
    tree
}
