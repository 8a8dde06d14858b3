//! Value areas and streams that no builder writes.

use super::container::{BlockKind, Container, ContainerWriter};
use super::value::{Value, tag};
use super::writer::ValueWriter;
use super::{AdbError, Compression, Schema, decode, encode};
use crate::limits::Limits;
use crate::metadata::{Acl, DirEntry, FileEntry, FileKind, Package, PackageInfo, ScriptKind};

/// The value area of a package whose parts the closure chooses: info fields and the paths array.
fn crafted(make: impl FnOnce(&mut ValueWriter, &mut [Value; 21]) -> Value) -> Vec<u8> {
    let mut writer = ValueWriter::new();
    let mut info = [Value::NULL; 21];
    info[0] = writer.blob(b"victim");
    info[1] = writer.blob(b"1-r0");
    info[11] = writer.integer(1);
    let paths = make(&mut writer, &mut info);
    let info = writer.object(&info);
    let root = writer.object(&[info, paths]);
    writer.finish(root).unwrap()
}

fn owner(writer: &mut ValueWriter) -> Value {
    let root = writer.blob(b"root");
    let mode = writer.integer(0o644);
    writer.object(&[mode, root, root])
}

fn refusal(payload: &[u8]) -> String {
    decode::package(payload, &Limits::default())
        .unwrap_err()
        .to_string()
}

#[test]
fn a_crafted_package_is_read() {
    let payload = crafted(|_, _| Value::NULL);
    let package = decode::package(&payload, &Limits::default()).unwrap();
    assert_eq!(package.info.name, "victim");
    assert!(package.paths.is_empty());
}

#[test]
fn bad_values_are_named() {
    type Craft = fn(&mut ValueWriter, &mut [Value; 21]) -> Value;
    let table: [(&str, Craft); 22] = [
        ("depends[0]: it has no name", |w, info| {
            let version = w.blob(b"1");
            let nameless = w.object(&[Value::NULL, version]);
            info[14] = w.array(&[nameless]);
            Value::NULL
        }),
        ("depends[0]: it has no name", |w, info| {
            let name = w.blob(b"x");
            let good = w.object(&[name]);
            info[14] = w.array(&[Value::NULL, good]);
            Value::NULL
        }),
        ("unknown comparison bits 0x20", |w, info| {
            let (name, version) = (w.blob(b"x"), w.blob(b"1"));
            let bits = w.integer(0x20);
            let object = w.object(&[name, version, bits]);
            info[15] = w.array(&[object]);
            Value::NULL
        }),
        ("unknown comparison bits 0x101", |w, info| {
            let (name, version) = (w.blob(b"x"), w.blob(b"1"));
            let bits = w.integer(0x101);
            let object = w.object(&[name, version, bits]);
            info[15] = w.array(&[object]);
            Value::NULL
        }),
        ("\"not a version\" is no valid version", |w, info| {
            let (name, version) = (w.blob(b"x"), w.blob(b"not a version"));
            let object = w.object(&[name, version]);
            info[16] = w.array(&[object]);
            Value::NULL
        }),
        ("name: a blob was expected, a number is there", |w, info| {
            info[0] = w.integer(5);
            Value::NULL
        }),
        (
            "name: a blob was expected, a special value is there",
            |_, info| {
                info[0] = Value(1);
                Value::NULL
            },
        ),
        ("build-time: a number was expected, a blob is there", |w, info| {
            info[10] = w.blob(b"x");
            Value::NULL
        }),
        ("license: text that is not UTF-8", |w, info| {
            info[5] = w.blob(b"\xff\xfe");
            Value::NULL
        }),
        ("url: contains the control character U+0085", |w, info| {
            info[8] = w.blob("x\u{85}y".as_bytes());
            Value::NULL
        }),
        ("is no valid package name", |w, info| {
            info[0] = w.blob(b"a\0b");
            Value::NULL
        }),
        (
            "description: a blob of 131073 bytes, the limit is 131072",
            |w, info| {
                info[3] = w.blob(&vec![b'x'; (128 << 10) + 1]);
                Value::NULL
            },
        ),
        ("points into the preamble (offset 4)", |_, info| {
            info[3] = Value::new(tag::BLOB_8, 4);
            Value::NULL
        }),
        ("is outside the metadata", |_, info| {
            info[3] = Value::new(tag::BLOB_32, 0x0fff_fffc);
            Value::NULL
        }),
        ("a number at offset 9 is not aligned to 4 bytes", |_, info| {
            info[10] = Value::new(tag::INT_64, 9);
            Value::NULL
        }),
        ("a value of unknown type is there", |_, info| {
            info[3] = Value::new(0xf, 0);
            Value::NULL
        }),
        ("hashes: a unique id of 3 bytes, it has 20", |w, info| {
            info[2] = w.blob(b"abc");
            Value::NULL
        }),
        ("tags[0]: \"a b\" is no valid tag", |w, info| {
            let tag = w.blob(b"a b");
            info[20] = w.array(&[tag]);
            Value::NULL
        }),
        ("repo-commit: 3 bytes", |w, info| {
            info[9] = w.blob(b"abc");
            Value::NULL
        }),
        ("file type 140000 is not allowed", |w, _| {
            let acl = owner(w);
            let name = w.blob(b"socket");
            let target = w.blob(&0o140000u16.to_le_bytes());
            let file = w.object(&[name, acl, Value::NULL, Value::NULL, Value::NULL, target]);
            let files = w.array(&[file]);
            let directory = w.object(&[Value::NULL, acl, files]);
            w.array(&[directory])
        }),
        ("a device number of 4 bytes, it has 8", |w, _| {
            let acl = owner(w);
            let name = w.blob(b"null");
            let target = w.blob(&[0, 0o040, 1, 2, 3, 4]);
            let file = w.object(&[name, acl, Value::NULL, Value::NULL, Value::NULL, target]);
            let files = w.array(&[file]);
            let directory = w.object(&[Value::NULL, acl, files]);
            w.array(&[directory])
        }),
        ("an object has 300 fields, the limit is 256", |w, info| {
            let one = w.integer(1);
            info[14] = Value::NULL;
            let many = w.array(&[one; 300]);
            w.array(&[many])
        }),
    ];
    for (expected, craft) in table {
        let message = refusal(&crafted(craft));
        assert!(
            message.contains(expected),
            "{message:?} does not contain {expected:?}"
        );
    }
}

#[test]
fn slot_counts_must_be_possible() {
    let base = crafted(|_, _| Value::NULL);
    let root = u32::from_le_bytes(base[4..8].try_into().unwrap()) as usize & 0x0fff_ffff;
    for (count, expected) in [
        (0u32, "slot count of 0"),
        (u32::MAX, "outside the metadata"),
        (1 << 29, "outside"),
    ] {
        let mut payload = base.clone();
        payload[root..root + 4].copy_from_slice(&count.to_le_bytes());
        let message = refusal(&payload);
        assert!(message.contains(expected), "{count}: {message}");
    }
}

#[test]
fn preambles() {
    for (payload, expected) in [
        (&b""[..], "metadata of 0 bytes has no preamble"),
        (b"\0\0\0\0\0\0\0", "metadata of 7 bytes has no preamble"),
        (b"\x01\0\0\0\0\0\0\0", "incompatible ADB version 1"),
        (b"\0\0\x01\0\0\0\0\0", "reserved field of the ADB preamble"),
        (b"\0\0\0\0\0\0\0\0", "the package has no name"),
        (b"\0\x07\0\0\0\0\0\0", "the package has no name"),
    ] {
        let message = refusal(payload);
        assert!(message.contains(expected), "{message}");
    }
}

/// An array that is shared by many directories describes millions of files in a few kilobytes.
#[test]
fn shared_arrays_do_not_multiply_without_bound() {
    let payload = crafted(|w, _| {
        let acl = owner(w);
        let mut files = Vec::new();
        for number in 0..4096u32 {
            let name = w.blob(format!("{number}").as_bytes());
            let hash = w.blob(&[0; 32]);
            let size = w.integer(0);
            files.push(w.object(&[name, acl, size, Value::NULL, hash]));
        }
        let files = w.array(&files);
        let mut directories = Vec::new();
        for number in 0..1024u32 {
            let name = w.blob(format!("d{number}").as_bytes());
            directories.push(w.object(&[name, acl, files]));
        }
        w.array(&directories)
    });
    assert!(payload.len() < 400_000);
    let message = refusal(&payload);
    assert!(
        message.contains("number of array elements in the metadata is beyond the limit of 1048576"),
        "{message}"
    );
    let few = Limits {
        decoded: 1 << 20,
        ..Limits::default()
    };
    let message = decode::package(&payload, &few).unwrap_err().to_string();
    assert!(
        message.contains("decoded size of the metadata in bytes is beyond the limit of 1048576"),
        "{message}"
    );
}

/// Both tags are read for arrays and for objects; integers of every width; blobs with wider lengths than
/// they need.
#[test]
fn other_builders_choices_are_read() {
    let payload = crafted(|w, info| {
        let name = w.blob(b"so:libx.so.1");
        let object = w.object(&[name]);
        let list = w.tagged_array(&[object]);
        info[14] = list;
        info[10] = w.integer(u64::from(u32::MAX) + 5);
        info[13] = w.integer(1 << 28);
        Value::NULL
    });
    let package = decode::package(&payload, &Limits::default()).unwrap();
    assert_eq!(package.info.depends[0].name, "so:libx.so.1");
    assert_eq!(package.info.build_time, u64::from(u32::MAX) + 5);
    assert_eq!(package.info.provider_priority, 1 << 28);

    // A name as 16- and 32-bit blobs, in an area written by hand.
    for (tag, prefix) in [(tag::BLOB_16, 2usize), (tag::BLOB_32, 4)] {
        let mut area = vec![0u8; 8];
        let name = Value::new(tag, 8);
        area.extend_from_slice(&6u32.to_le_bytes()[..prefix]);
        area.extend_from_slice(b"victim");
        let version = Value::new(tag::BLOB_8, area.len() as u32);
        area.extend_from_slice(b"\x011");
        area.resize(area.len().next_multiple_of(4), 0);
        let info = Value::new(tag::OBJECT, area.len() as u32);
        for word in [3, name.0, version.0] {
            area.extend_from_slice(&word.to_le_bytes());
        }
        let root = Value::new(tag::ARRAY, area.len() as u32);
        for word in [2, info.0] {
            area.extend_from_slice(&word.to_le_bytes());
        }
        area[4..8].copy_from_slice(&root.0.to_le_bytes());
        assert_eq!(
            decode::package(&area, &Limits::default()).unwrap().info.name,
            "victim"
        );
    }
}

#[test]
fn equal_contents_are_shared_and_alignment_wins() {
    let mut writer = ValueWriter::new();
    let a = writer.blob(b"abc");
    assert_eq!(writer.blob(b"abc"), a);
    assert_eq!(a.low(), 8);
    // The bytes of the number 0x63626103 are there already, at an offset that fits.
    let number = writer.integer(0x6362_6103);
    assert_eq!((number.tag(), number.low()), (tag::INT_32, 8));
    let odd = writer.blob(b"x");
    assert_eq!(odd.low(), 12);
    let shifted = writer.blob(b"bcd");
    assert_eq!(shifted.low(), 14);
    let number = writer.integer(0x6463_6203);
    assert_eq!(number.low(), 20, "14 does not fit a number");
    assert_eq!(writer.blob(b"bcd").low(), 20, "the pool points at the newer copy");
    assert_eq!(writer.object(&[Value::NULL, Value::NULL]), Value::NULL);
    assert_eq!(writer.blob(b""), Value::NULL);
}

fn some_package() -> Package {
    let file = |name: &str, kind: FileKind| FileEntry {
        name: name.into(),
        acl: Acl {
            xattrs: vec![(b"user.x".to_vec(), b"\0\x01".to_vec())],
            ..Acl::root(0o644)
        },
        size: 0,
        mtime: 1_700_000_000,
        kind,
    };
    Package {
        info: PackageInfo {
            name: "sample".into(),
            version: "1.2_rc1-r3".into(),
            arch: "x86_64".into(),
            build_time: 5_000_000_000,
            installed_size: 1,
            ..PackageInfo::default()
        },
        paths: vec![
            DirEntry {
                path: Vec::new(),
                acl: Acl::root(0o755),
                files: Vec::new(),
            },
            DirEntry {
                path: b"dev".to_vec(),
                acl: Acl::root(0o755),
                files: vec![
                    file("console", FileKind::CharDevice { major: 5, minor: 1 }),
                    file(
                        "disk",
                        FileKind::BlockDevice {
                            major: 0xfff,
                            minor: 0xf_ffff,
                        },
                    ),
                    file("empty", FileKind::Regular { hash: vec![7; 32] }),
                    file("fifo", FileKind::Fifo),
                    file(
                        "link",
                        FileKind::Symlink {
                            target: b"../x".to_vec(),
                        },
                    ),
                    file(
                        "same",
                        FileKind::HardLink {
                            target: b"dev/empty".to_vec(),
                        },
                    ),
                ],
            },
        ],
        scripts: vec![
            (ScriptKind::Trigger, b"#!/bin/sh\n".to_vec()),
            (ScriptKind::PreUpgrade, b"x".to_vec()),
        ],
        triggers: vec!["+/usr/lib/*".into()],
        replaces_priority: 70_000_000_000,
    }
}

#[test]
fn every_kind_of_entry_round_trips() {
    let package = some_package();
    let payload = encode::package(&package).unwrap();
    let mut back = decode::package(&payload, &Limits::default()).unwrap();
    assert_eq!(back.info.hashes.take().unwrap().0.len(), 20);
    assert_eq!(back, package);
    assert_eq!(encode::package(&back).unwrap(), payload);
}

/// The writer refuses what the reader would.
#[test]
fn writers_refuse_what_readers_refuse() {
    type Spoil = fn(&mut Package);
    let table: [(&str, Spoil); 14] = [
        ("is no valid package name", |p| p.info.name = "-x".into()),
        ("is no valid version", |p| p.info.version = "1.x".into()),
        ("is no valid architecture", |p| p.info.arch = "..".into()),
        ("a path component is empty", |p| {
            p.paths[1].path = b"dev/".to_vec()
        }),
        ("a path component is empty", |p| {
            p.paths[1].path = b"/dev".to_vec()
        }),
        ("mode 100644 has more than permission bits", |p| {
            p.paths[1].files[0].acl.mode = 0o100644
        }),
        ("\"ro ot\" is no valid user name", |p| {
            p.paths[0].acl.user = "ro ot".into()
        }),
        ("no group name", |p| p.paths[0].acl.group = String::new()),
        ("extended attribute \"user.x\" is there twice", |p| {
            let again = p.paths[1].files[0].acl.xattrs[0].clone();
            p.paths[1].files[0].acl.xattrs.push(again);
        }),
        ("which is a hard link itself", |p| {
            let mut more = p.paths[1].files[5].clone();
            more.name = b"third".to_vec();
            more.kind = FileKind::HardLink {
                target: b"dev/same".to_vec(),
            };
            p.paths[1].files.push(more);
        }),
        ("it lies below \"dev/link\", which is no directory here", |p| {
            let below = DirEntry {
                path: b"dev/link/below".to_vec(),
                acl: Acl::root(0o755),
                files: Vec::new(),
            };
            p.paths.push(below);
        }),
        ("installed-size: is 0", |p| p.info.installed_size = 0),
        ("triggers[0]: \"/a /b\" is no valid trigger", |p| {
            p.triggers[0] = "/a /b".into()
        }),
        ("scripts, Trigger: there twice", |p| {
            p.scripts[1].0 = ScriptKind::Trigger
        }),
    ];
    for (expected, spoil) in table {
        let mut package = some_package();
        spoil(&mut package);
        let message = encode::package(&package).unwrap_err().to_string();
        assert!(
            message.contains(expected),
            "{message:?} does not contain {expected:?}"
        );
    }
}

fn wrap(payload: &[u8], compression: Compression) -> Vec<u8> {
    let mut writer = ContainerWriter::new(Vec::new(), Schema::Package, compression).unwrap();
    writer.block(BlockKind::Adb, payload).unwrap();
    writer.finish().unwrap()
}

fn open(bytes: &[u8]) -> Result<Vec<u8>, AdbError> {
    let mut container = Container::open(bytes, Schema::Package, &Limits::default())?;
    container.finish()?;
    Ok(container.payload)
}

const KINDS: [Compression; 5] = [
    Compression::None,
    Compression::Deflate(None),
    Compression::Deflate(Some(1)),
    Compression::Zstd(None),
    Compression::Zstd(Some(19)),
];

/// Nothing less and nothing more than a file is a file.
#[test]
fn every_prefix_and_every_suffix_is_refused() {
    let payload = encode::package(&some_package()).unwrap();
    for compression in KINDS {
        let bytes = wrap(&payload, compression);
        assert_eq!(bytes, wrap(&payload, compression));
        assert_eq!(open(&bytes).unwrap(), payload);
        for length in 0..bytes.len() {
            assert!(
                open(&bytes[..length]).is_err(),
                "{compression:?} cut to {length} of {}",
                bytes.len()
            );
        }
        for more in 1..20 {
            let longer = [&bytes[..], &vec![0; more]].concat();
            assert!(open(&longer).is_err(), "{compression:?} with {more} bytes more");
        }
    }
}

#[test]
fn several_zstd_frames_are_one_stream() {
    let payload = encode::package(&some_package()).unwrap();
    let plain = wrap(&payload, Compression::None);
    let mut bytes = b"ADBc\x02\x07".to_vec();
    for part in plain.chunks(100) {
        bytes.extend(zstd::encode_all(part, 3).unwrap());
    }
    assert_eq!(open(&bytes).unwrap(), payload);
    bytes.push(0x28);
    assert!(open(&bytes).is_err());
}

#[test]
fn one_wrapper_only() {
    let plain = wrap(
        &encode::package(&some_package()).unwrap(),
        Compression::Zstd(None),
    );
    let twice = [b"ADBc\x02\x00".to_vec(), zstd::encode_all(&plain[..], 3).unwrap()].concat();
    assert!(matches!(open(&twice), Err(AdbError::NotAdb(_))));
}

#[test]
fn blocks_in_the_wrong_place() {
    use BlockKind::{Adb, Data, Signature};
    let payload = encode::package(&some_package()).unwrap();
    for (kinds, expected) in [
        (&[Signature][..], "the first block is of kind Signature"),
        (&[], "no block follows it"),
        (&[Adb, Adb], "a second ADB block"),
        (&[Adb, Signature, Adb], "a second ADB block"),
        (&[Adb, Data], "a data block more"),
    ] {
        let mut writer = ContainerWriter::new(Vec::new(), Schema::Package, Compression::None).unwrap();
        for kind in kinds {
            writer.block(*kind, &payload).unwrap();
        }
        let message = open(&writer.finish().unwrap()).unwrap_err().to_string();
        assert!(
            message.contains(expected),
            "{message:?} does not contain {expected:?}"
        );
    }
}

#[test]
fn padding_and_reserved_fields_are_zero() {
    let mut payload = encode::package(&some_package()).unwrap();
    payload.push(0);
    let good = wrap(&payload, Compression::None);
    assert!(open(&good).is_ok());
    let mut bytes = good.clone();
    *bytes.last_mut().unwrap() = 1;
    assert!(
        open(&bytes)
            .unwrap_err()
            .to_string()
            .contains("padding that is not zero")
    );
    // The same block with a long header, whose reserved word is wrong.
    let mut long = good[..8].to_vec();
    long.extend_from_slice(&(3u32 << 30).to_le_bytes());
    long.extend_from_slice(&[0; 4]);
    long.extend_from_slice(&(payload.len() as u64 + 16).to_le_bytes());
    long.extend_from_slice(&payload);
    long.resize(8 + (payload.len() + 16).next_multiple_of(8), 0);
    assert_eq!(open(&long).unwrap(), payload);
    long[12] = 1;
    assert!(
        open(&long)
            .unwrap_err()
            .to_string()
            .contains("reserved field of a block header")
    );
}

/// A length that is claimed takes no memory before its bytes arrive, and a stream cannot expand for ever.
#[test]
fn claims_are_not_believed() {
    let mut claim = b"ADB.pckg".to_vec();
    claim.extend_from_slice(&(100u32 << 20).to_le_bytes());
    claim.extend_from_slice(&[0; 100]);
    assert!(matches!(
        open(&claim),
        Err(AdbError::UnexpectedEnd("the metadata"))
    ));

    let zeros = vec![0u8; 100 << 20];
    claim.truncate(12);
    let stream = zstd::encode_all(&[&claim[..], &zeros].concat()[..], 3).unwrap();
    let bytes = [b"ADBc\x02\x00".to_vec(), stream].concat();
    let message = open(&bytes).unwrap_err().to_string();
    assert!(message.contains("more than 4096 times its size"), "{message}");
    let limits = Limits {
        package_metadata: 1 << 20,
        ..Limits::default()
    };
    let message = Container::open(&bytes, Schema::Package, &limits)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("bytes, is beyond the limit of 1048576"),
        "{message}"
    );
}

#[test]
fn compression_names() {
    for (text, compression) in [
        ("none", Compression::None),
        ("deflate", Compression::Deflate(None)),
        ("deflate:6", Compression::Deflate(Some(6))),
        ("zstd", Compression::Zstd(None)),
        ("zstd:22", Compression::Zstd(Some(22))),
    ] {
        assert_eq!(text.parse(), Ok(compression));
    }
    for text in [
        "",
        "none:1",
        "deflate:0",
        "deflate:10",
        "zstd:23",
        "zstd:",
        "xz",
        "zstd:-1",
    ] {
        assert!(text.parse::<Compression>().is_err(), "{text}");
    }
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        /// Any value area is read or refused.
        #[test]
        fn random_value_areas(words in prop::collection::vec(
            prop_oneof![any::<u32>(), (8u32..120, 0u32..16).prop_map(|(o, t)| t << 28 | o), 0u32..8], 0..30)) {
            let mut payload = vec![0; 4];
            payload.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            let _ = decode::package(&payload, &Limits::default());
            let _ = decode::index(&payload, &Limits::index());
        }

        /// A sound value area with some bytes changed is read or refused; what is read can be written.
        #[test]
        fn changed_value_areas(changes in prop::collection::vec((0usize..1000, any::<u8>()), 1..6)) {
            let mut payload = encode::package(&some_package()).unwrap();
            for (at, byte) in changes {
                let at = at % payload.len();
                payload[at] = byte;
            }
            if let Ok(package) = decode::package(&payload, &Limits::default()) {
                prop_assert!(encode::package(&package).is_ok());
            }
        }

        /// Any bytes behind any magic are read or refused.
        #[test]
        fn random_files(magic in prop::sample::select(vec![
            &b"ADB."[..], b"ADB.pckg", b"ADB.indx", b"ADBd", b"ADBc\x02\x00", b"ADBc\x01\x09", b"ADBc\x00\x00ADB.pckg", b"",
        ]), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let file = [magic, &bytes].concat();
            let _ = open(&file);
            let _ = Container::open(&file, Schema::Index, &Limits::index());
        }
    }
}
