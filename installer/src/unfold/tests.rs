use super::*;
use lycia_tree::{Content, Device};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};

const TIME: Timestamp = Timestamp {
    seconds: 1_700_000_000,
    nanoseconds: 5,
};

/// As root anything can be owned; as anybody else only what is one's own.
fn owner() -> (u32, u32) {
    if rustix::process::geteuid().is_root() {
        (1234, 5678)
    } else {
        (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        )
    }
}

fn metadata(mode: u16) -> Metadata {
    let (uid, gid) = owner();
    Metadata::new(mode, TIME).owned_by(uid, gid)
}

fn tree() -> Tree {
    let mut tree = Tree::new(metadata(0o755));
    for folder in ["usr", "usr/bin", "home", "home/tester", "var"] {
        tree.make_directory(folder.as_bytes(), metadata(0o750)).unwrap();
    }
    let id = tree
        .insert(
            b"usr/bin/doas",
            metadata(0o4755),
            Node::Regular(b"program".to_vec().into()),
        )
        .unwrap();
    tree.link(id, b"usr/bin/sudo").unwrap();
    tree.link(id, b"home/tester/doas").unwrap();
    tree.insert(
        b"usr/bin/sh",
        metadata(0o777),
        Node::Symlink(b"../nowhere".to_vec()),
    )
    .unwrap();
    tree.insert(b"var/pipe", metadata(0o640), Node::Fifo).unwrap();
    let mut attributed = metadata(0o600);
    attributed
        .xattrs
        .insert(b"user.lycia".to_vec(), b"value".to_vec());
    tree.write(
        b"home/tester/.profile",
        attributed,
        Content::from("export A=1\n".to_owned()),
    )
    .unwrap();
    tree.write(b"home/tester/empty", metadata(0o000), Content::empty())
        .unwrap();
    tree
}

fn places(folder: &Path) -> Vec<Place> {
    let names = [("/", "@"), ("/home", "@home")];
    names
        .map(|(mount_point, name)| {
            let directory = folder.join(name);
            fs::create_dir(&directory).unwrap();
            Place {
                mount_point: mount_point.to_owned(),
                directory,
                kept: false,
            }
        })
        .to_vec()
}

#[test]
fn everything_is_as_the_tree_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let places = places(folder.path());
    let mut tree = tree();
    if rustix::process::geteuid().is_root() {
        let node = Node::CharDevice(Device { major: 5, minor: 1 });
        // Not every sandbox lets its root make devices.
        let trial = rustix::fs::mknodat(
            CWD,
            folder.path().join("trial"),
            FileType::CharacterDevice,
            Mode::RUSR,
            rustix::fs::makedev(5, 1),
        );
        if trial.is_ok() {
            tree.insert(b"var/console", metadata(0o600), node).unwrap();
        }
    }
    let mut last = (0, 1);
    unfold(&tree, &places, None, &mut |done, total| last = (done, total)).unwrap();
    assert_eq!(last.0, last.1);
    let (root, home) = (&places[0].directory, &places[1].directory);
    // The directory to mount on is there, and empty.
    assert_eq!(fs::read_dir(root.join("home")).unwrap().count(), 0);
    let (uid, gid) = owner();
    let mut seen = 0;
    for entry in tree.walk() {
        let path = match inside(&entry.path, b"/home") {
            Some(rest) => home.join(OsStr::from_bytes(rest.strip_prefix(b"/").unwrap_or(rest))),
            None => root.join(OsStr::from_bytes(entry.relative())),
        };
        let name = path.display();
        let data = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        seen += 1;
        assert_eq!((data.uid(), data.gid()), (uid, gid), "{name}");
        assert_eq!((data.mtime(), data.mtime_nsec()), (1_700_000_000, 5), "{name}");
        if !data.is_symlink() {
            assert_eq!(
                data.permissions().mode() & 0o7777,
                u32::from(entry.inode.metadata.mode),
                "{name}"
            );
        }
        match entry.inode.node() {
            None => assert!(data.is_dir(), "{name}"),
            Some(Node::Regular(content)) => {
                assert_eq!(data.len(), content.len(), "{name}");
                if data.permissions().mode() & 0o400 != 0 {
                    assert_eq!(fs::read(&path).unwrap(), content.bytes(), "{name}");
                }
            }
            Some(Node::Symlink(target)) => {
                assert_eq!(
                    fs::read_link(&path).unwrap().as_os_str().as_bytes(),
                    target,
                    "{name}"
                );
            }
            Some(Node::Fifo) => assert!(data.file_type().is_fifo(), "{name}"),
            Some(Node::CharDevice(_)) => {
                assert!(data.file_type().is_char_device(), "{name}");
                assert_eq!(data.rdev(), rustix::fs::makedev(5, 1), "{name}");
            }
            Some(_) => unreachable!(),
        }
    }
    assert_eq!(seen, tree.walk().count());
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(root.join("usr/bin/doas")), inode(root.join("usr/bin/sudo")));
    // What would be a link across file systems is a file of its own.
    assert_ne!(inode(root.join("usr/bin/doas")), inode(home.join("tester/doas")));
    let mut value = [0; 16];
    let length = rustix::fs::lgetxattr(home.join("tester/.profile"), "user.lycia", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"value");
}

#[test]
fn a_reserved_file_has_its_size_and_all_its_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let mut tree = Tree::new(metadata(0o755));
    let id = tree
        .insert(b"swapfile", metadata(0o600), Node::Regular(vec![7; 4096].into()))
        .unwrap();
    let places = places(folder.path());
    let reserved = Reserved {
        id,
        size: 1 << 20,
        in_place: false,
    };
    unfold(&tree, &places, Some(reserved), &mut |_, _| ()).unwrap();
    let path = places[0].directory.join("swapfile");
    let data = fs::metadata(&path).unwrap();
    assert_eq!(data.len(), 1 << 20);
    assert!(data.blocks() * 512 >= 1 << 20);
    let bytes = fs::read(path).unwrap();
    assert!(bytes[..4096].iter().all(|&byte| byte == 7));
    assert!(bytes[4096..].iter().all(|&byte| byte == 0));
}

#[test]
fn what_is_there_already_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let places = places(folder.path());
    fs::create_dir_all(places[1].directory.join("tester")).unwrap();
    let error = unfold(&tree(), &places, None, &mut |_, _| ()).unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("/home/tester"), "{error}");
}

#[test]
fn a_place_is_a_whole_directory() {
    assert_eq!(inside(b"/home/a", b"/home"), Some(&b"/a"[..]));
    assert_eq!(inside(b"/home", b"/home"), Some(&b""[..]));
    assert_eq!(inside(b"/homes", b"/home"), None);
    assert_eq!(inside(b"/x", b"/"), Some(&b"/x"[..]));
}

#[test]
fn what_is_kept_is_left_alone_and_what_leads_there_is_used() {
    let folder = tempfile::tempdir().unwrap();
    // As if something were mounted on /home/tester of the root.
    let (root, kept) = (folder.path().join("root"), folder.path().join("root/home/tester"));
    fs::create_dir_all(&kept).unwrap();
    fs::write(kept.join("precious"), "mine").unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o711)).unwrap();
    let place = |mount_point: &str, directory: &Path, kept| Place {
        mount_point: mount_point.to_owned(),
        directory: directory.to_owned(),
        kept,
    };
    let places = [place("/", &root, false), place("/home/tester", &kept, true)];
    unfold(&tree(), &places, None, &mut |_, _| ()).unwrap();
    let names: Vec<String> = fs::read_dir(&kept)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, ["precious"]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(&kept), mode(&root.join("home"))), (0o711, 0o750));
    assert!(root.join("usr/bin/doas").exists());
}
