//! ext4 volumes with every combination of options, judged by e2fsck, debugfs, dumpe2fs, resize2fs and blkid, and
//! read back by our own reader.

#![allow(clippy::unwrap_used)]

mod ext4_support;
mod oracle;

use std::io::{Read, Seek, SeekFrom, Write};

use ext4_support::debugfs::compare_with_debugfs;
use ext4_support::{check, compare_trees, many, read_back, reopen, tree_with_xattrs, volume, written};
use lycia_media::ext4::{BlockSize, Existing, Inodes, Journal, Plan, Volume, fitting_size, write};
use lycia_tree::{Node, Pack, Tree};
use oracle::{put, root_owned, run};

const MIB: u64 = 1 << 20;
const BLOCK_SIZES: [BlockSize; 3] = [BlockSize::B1024, BlockSize::B2048, BlockSize::B4096];

/// The same tree without the link that blocks of 1 KiB have no room for.
fn tree_for(block_size: BlockSize) -> Tree {
    let mut tree = tree_with_xattrs();
    if block_size == BlockSize::B1024 {
        tree.remove(b"/far").unwrap();
        let text = "some/where/".repeat(93).into_bytes();
        put(&mut tree, "/far", root_owned(0o777), Node::Symlink(text));
    }
    tree
}

#[test]
fn every_combination_of_options_is_clean() {
    for block_size in BLOCK_SIZES {
        let tree = tree_for(block_size);
        for bits in 0..32 {
            let set = |bit: u32| bits >> bit & 1 == 1;
            let volume = Volume {
                block_size,
                checksums: set(0),
                wide: set(1),
                growth: set(2),
                journal: if set(3) { Journal::BySize } else { Journal::None },
                existing: if set(4) {
                    Existing::Zeros
                } else {
                    Existing::Unknown
                },
                ..volume(20 * MIB)
            };
            let image = written(&tree, &volume);
            check(&image);
            compare_trees(&tree, &read_back(&image));
        }
    }
}

#[test]
fn debugfs_sees_the_tree() {
    for block_size in BLOCK_SIZES {
        let tree = tree_for(block_size);
        let image = written(
            &tree,
            &Volume {
                block_size,
                ..volume(24 * MIB)
            },
        );
        compare_with_debugfs(&tree, &image);
    }
}

/// The lines of dumpe2fs that say how a volume is built.
fn built(image: &std::path::Path) -> Vec<String> {
    let text = run("e2fsprogs", "dumpe2fs", &["-h", image.to_str().unwrap()], b"");
    let wanted = [
        "Filesystem features",
        "Default mount options",
        "Filesystem state",
        "Errors behavior",
        "Filesystem OS type",
        "Inode count",
        "Block count",
        "Reserved block count",
        "First block",
        "Block size",
        "Fragment size",
        "Group descriptor size",
        "Reserved GDT blocks",
        "Blocks per group",
        "Fragments per group",
        "Inodes per group",
        "Inode blocks per group",
        "Flex block group size",
        "Mount count",
        "Maximum mount count",
        "Check interval",
        "Reserved blocks uid",
        "First inode",
        "Inode size",
        "Required extra isize",
        "Desired extra isize",
        "Journal inode",
        "Default directory hash",
        "Journal backup",
        "Checksum type",
        "Journal features",
        "Total journal size",
        "Total journal blocks",
        "Max transaction length",
        "Journal sequence",
        "Journal start",
    ];
    let lines: Vec<String> = text
        .lines()
        .filter(|line| wanted.iter().any(|name| line.starts_with(&format!("{name}:"))))
        .map(str::to_owned)
        .collect();
    assert!(lines.len() > 28, "{text}");
    lines
}

#[test]
fn built_as_mke2fs_builds() {
    let tree = many(10);
    for size in [8, 20, 150, 600, 5000] {
        for block_size in BLOCK_SIZES {
            let ours = written(
                &tree,
                &Volume {
                    block_size,
                    ..volume(size * MIB)
                },
            );
            check(&ours);
            let theirs = tempfile::NamedTempFile::new().unwrap();
            theirs.as_file().set_len(size * MIB).unwrap();
            let features = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,\
                            sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";
            let block = block_size.bytes().to_string();
            run(
                "e2fsprogs",
                "mke2fs",
                &[
                    "-q",
                    "-F",
                    "-t",
                    "ext4",
                    "-b",
                    &block,
                    "-O",
                    features,
                    theirs.path().to_str().unwrap(),
                ],
                b"",
            );
            // mke2fs rounds the reserve in floating point, and the inodes of many groups twice.
            let rounded = |line: &String| !line.starts_with("Reserved block count");
            let mut lines = [built(ours.path()), built(theirs.path())];
            for lines in &mut lines {
                lines.retain(rounded);
            }
            assert_eq!(lines[0], lines[1], "{size} MiB, {block}");
        }
    }
}

#[test]
fn identity_shows() {
    let image = written(
        &many(1),
        &Volume {
            label: b"root label".to_vec(),
            ..volume(8 * MIB)
        },
    );
    let path = image.path().to_str().unwrap();
    let found = run("util-linux", "blkid", &["-p", "-o", "export", path], b"");
    let expected = volume(0).uuid.to_string().to_lowercase();
    assert!(found.contains(&format!("UUID={expected}\n")), "{found}");
    assert!(found.contains("LABEL=root\\ label\n"), "{found}");
    assert!(found.contains("TYPE=ext4\n"), "{found}");
    let header = run("e2fsprogs", "dumpe2fs", &["-h", path], b"");
    let seed = volume(0).hash_seed.to_string().to_lowercase();
    assert!(
        header.contains(&format!("Directory Hash Seed:      {seed}\n")),
        "{header}"
    );
}

#[test]
fn large_directories_have_an_index() {
    for (count, block_size, sums) in [
        (60, BlockSize::B1024, true),
        (3000, BlockSize::B1024, false),
        // Two levels.
        (12_000, BlockSize::B1024, true),
        (12_000, BlockSize::B4096, true),
    ] {
        let tree = many(count);
        let image = written(
            &tree,
            &Volume {
                block_size,
                checksums: sums,
                ..volume(40 * MIB)
            },
        );
        check(&image);
        compare_trees(&tree, &read_back(&image));
        let index = ext4_support::debugfs::run(image.path(), "htree_dump /d");
        assert!(index.contains("Root node dump"), "{index}");
        let levels = if count == 12_000 && block_size == BlockSize::B1024 {
            1
        } else {
            0
        };
        assert!(index.contains(&format!("Indirect levels: {levels}\n")), "{index}");
    }
}

#[test]
fn grows_and_shrinks() {
    for block_size in BLOCK_SIZES {
        for growth in [true, false] {
            let tree = tree_for(block_size);
            let volume = Volume {
                block_size,
                growth,
                ..volume(20 * MIB)
            };
            let image = written(&tree, &volume);
            let path = image.path().to_str().unwrap();
            for size in ["300M", "1500M", "24M"] {
                run("e2fsprogs", "resize2fs", &[path, size], b"");
                check(&image);
                compare_trees(&tree, &read_back(&image));
            }
        }
    }
}

#[test]
fn from_small_to_very_large() {
    let tree = tree_with_xattrs();
    for (size, block_size) in [
        (8 * MIB, BlockSize::B4096),
        (8 * MIB + 12_345, BlockSize::B4096),
        // A last group that holds nothing is left out, and one that just holds its own records is not.
        (128 * MIB + 100 * 4096, BlockSize::B4096),
        (129 * MIB, BlockSize::B4096),
        (9 * MIB, BlockSize::B2048),
        (3 << 40, BlockSize::B4096),
        (100 << 30, BlockSize::B2048),
    ] {
        let volume = Volume {
            block_size,
            ..volume(size)
        };
        let image = written(&tree, &volume);
        let file = image.as_file().metadata().unwrap();
        use std::os::unix::fs::MetadataExt;
        // The journal and unused tables are not on disk; copies of the table of groups are.
        assert!(
            file.blocks() * 512 < 4 * MIB + size / 8192,
            "{size}: {}",
            file.blocks() * 512
        );
        check(&image);
        compare_trees(&tree, &read_back(&image));
    }
}

#[test]
fn long_files_have_trees_of_extents() {
    let mut tree = Tree::new(root_owned(0o755));
    let mut bytes = vec![0; 420 << 20];
    for at in (0..bytes.len()).step_by(7 << 20) {
        bytes[at..at + 8].copy_from_slice(&(at as u64).to_le_bytes());
    }
    let pack = Pack::from_bytes(bytes);
    for (name, offset, len) in [("/long", 3, 400 << 20), ("/next", 100, 5000)] {
        let content = pack.range(offset, len).unwrap();
        put(&mut tree, name, root_owned(0o644), Node::Regular(content));
    }
    let volume = Volume {
        block_size: BlockSize::B1024,
        ..volume(480 * MIB)
    };
    let image = written(&tree, &volume);
    check(&image);
    compare_trees(&tree, &read_back(&image));
    let extents = ext4_support::debugfs::run(image.path(), "extents /long");
    assert!(extents.contains(" 1/ 1 "), "{extents}");
}

#[test]
fn the_tree_may_have_its_own_lost_and_found() {
    let mut tree = many(3);
    tree.make_directory(b"/lost+found", root_owned(0o711)).unwrap();
    put(&mut tree, "/lost+found/#12", root_owned(0o600), Node::Fifo);
    let image = written(&tree, &volume(8 * MIB));
    check(&image);
    compare_trees(&tree, &read_back(&image));
    let found = ext4_support::debugfs::run(image.path(), "stat /lost+found");
    assert!(found.contains("Inode: 11 "), "{found}");
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let tree = tree_with_xattrs();
    let bytes = |volume: &Volume| {
        let image = written(&tree, volume);
        std::fs::read(image.path()).unwrap()
    };
    let first = volume(16 * MIB);
    assert!(bytes(&first) == bytes(&first));
    let mut other = first.clone();
    other.hash_seed = other.uuid;
    assert!(bytes(&first) != bytes(&other));
}

/// What lies around the volume is not touched, also where the volume does not use its last bytes.
#[test]
fn nothing_else_is_written() {
    let tree = tree_with_xattrs();
    for existing in [Existing::Zeros, Existing::Unknown] {
        let mut file = tempfile::tempfile().unwrap();
        let size = 9 * MIB + 1234;
        let (before, behind) = (vec![0xa5; MIB as usize], vec![0x5a; 4096]);
        file.write_all(&before).unwrap();
        file.seek(SeekFrom::Start(MIB + size)).unwrap();
        file.write_all(&behind).unwrap();
        let volume = Volume {
            existing,
            ..volume(size)
        };
        write(&mut file, MIB, &tree, &volume).unwrap();
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert!(bytes[..MIB as usize] == before && bytes[(MIB + size) as usize..] == behind);
        let mut part = tempfile::NamedTempFile::new().unwrap();
        part.write_all(&bytes[MIB as usize..(MIB + size) as usize])
            .unwrap();
        check(&part);
    }
}

#[test]
fn sizes_fit() {
    for block_size in BLOCK_SIZES {
        for (tree, spare) in [
            (tree_for(block_size), 0),
            (tree_for(block_size), 100 * MIB),
            (many(20_000), 5 * MIB),
        ] {
            let mut volume = Volume {
                block_size,
                ..volume(0)
            };
            volume.size = fitting_size(&tree, &volume, spare).unwrap();
            let plan = Plan::new(&tree, &volume).unwrap();
            assert!(plan.available() >= spare);
            assert!(plan.free_inodes() > 0);
            check(&written(&tree, &volume));
            // Not much less would do.
            volume.size = volume.size.saturating_sub(volume.size / 16 + 2 * MIB);
            let less = Plan::new(&tree, &volume).map(|plan| plan.available());
            assert!(
                less.as_ref().is_ok_and(|&left| left < spare) || less.is_err(),
                "{less:?}"
            );
        }
    }
}

#[test]
fn numbers_of_inodes() {
    let tree = many(2000);
    for (inodes, least) in [
        (Inodes::BySize, 5000),
        (Inodes::Count(0), 2013),
        (Inodes::Count(30_000), 30_000),
        (Inodes::PerBytes(1024), 20_000),
        (Inodes::PerBytes(1 << 20), 2013),
    ] {
        let volume = Volume {
            inodes,
            ..volume(20 * MIB)
        };
        let plan = Plan::new(&tree, &volume).unwrap();
        let all = plan.free_inodes() + 2012;
        assert!((least..least * 13 / 10 + 32).contains(&all), "{inodes:?}: {all}");
        check(&written(&tree, &volume));
    }
}

#[test]
fn journals_of_a_given_size() {
    let tree = many(20);
    for blocks in [1024, 5000, 33_000] {
        let volume = Volume {
            journal: Journal::Blocks(blocks),
            ..volume(200 * MIB)
        };
        let image = written(&tree, &volume);
        check(&image);
        // e2fsck opens the journal to replay it.
        let file = reopen(&image);
        drop(file);
        let found = ext4_support::debugfs::run(image.path(), "logdump -S");
        assert!(
            found.contains(&format!("Journal size:             {}M", blocks / 256))
                || found.contains("Journal starts at block"),
            "{found}"
        );
    }
}
