//! The same with the kernel that runs, on loop devices: for root alone, who asks for it with `--ignored`.

use super::mounts::ran;
use super::*;

/// A loop device that goes with this.
struct Loop {
    image: tempfile::NamedTempFile,
    node: String,
}

impl Loop {
    fn new(size: u64) -> Loop {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(size).unwrap();
        let node = ran(
            "losetup",
            "mount",
            &["-f", "--show", image.path().to_str().unwrap()],
        );
        Loop { image, node }
    }

    fn digest(&self) -> String {
        ran("sync", "coreutils", &[]);
        ran("sha256sum", "coreutils", &[self.image.path().to_str().unwrap()])
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        ran("losetup", "mount", &["-d", &self.node]);
    }
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// Makes a system as small as one can be.
fn fill(node: &str, kind: Kind, uuid: &str, at: &Path) {
    let mut kernel = Kernel;
    kernel
        .mount(node, at, kind.name(), MountFlags::NODEV, "")
        .unwrap();
    let subvolume = |name: &str| {
        let path = at.join(name);
        ran(
            "btrfs",
            "btrfs-progs",
            &["subvolume", "create", path.to_str().unwrap()],
        );
        path
    };
    let root = match kind {
        Kind::Btrfs => {
            fs::write(subvolume("@home").join("inside"), "").unwrap();
            subvolume("@")
        }
        _ => at.to_owned(),
    };
    for folder in ["dev", "proc", "sys", "run", "home", "etc"] {
        fs::create_dir(root.join(folder)).unwrap();
    }
    let option = |name: &str| match kind {
        Kind::Btrfs => format!("rw,compress=zstd:3,subvol=/{name}"),
        _ => "rw".to_owned(),
    };
    let name = kind.name();
    let mut fstab = format!("UUID={uuid} / {name} {} 0 0\n", option("@"));
    if kind == Kind::Btrfs {
        fstab.push_str(&format!("UUID={uuid} /home {name} {} 0 0\n", option("@home")));
    }
    fs::write(root.join("etc/fstab"), fstab).unwrap();
    fs::write(root.join("etc/hostname"), "box\n").unwrap();
    fs::write(root.join("etc/os-release"), "PRETTY_NAME=\"Small\"\n").unwrap();
    if kind == Kind::Btrfs {
        let copy = [root.to_str().unwrap(), &format!("{}-before", root.display())];
        ran(
            "btrfs",
            "btrfs-progs",
            &[&["subvolume", "snapshot", "-r"], &copy[..]].concat(),
        );
    }
    kernel.unmount(at).unwrap();
}

#[test]
#[ignore = "needs root, loop devices, and a kernel with one of xfs, btrfs and f2fs; run it alone"]
fn the_kernel_mounts_what_was_found() {
    let known = fs::read_to_string("/proc/filesystems").unwrap();
    let there = |kind: &Kind| {
        known
            .lines()
            .any(|line| line.split_whitespace().next_back() == Some(kind.name()))
    };
    let kinds: Vec<Kind> = [Kind::Xfs, Kind::Btrfs, Kind::F2fs]
        .into_iter()
        .filter(there)
        .collect();
    assert!(!kinds.is_empty(), "the kernel has none of them: {known}");
    for kind in kinds {
        the_kernel_mounts(kind);
    }
}

fn survey_of(device: &Loop, kind: Kind, uuid: &str) -> Survey {
    // A loop device has the name that a partition of `/dev/loop` would have.
    let number = device.node.strip_prefix("/dev/loop").unwrap();
    let mut survey = Survey::default();
    survey.unread.push(Unread {
        root: Root {
            disk: "/dev/loop".to_owned(),
            partition: number.parse().unwrap(),
            uuid: uuid.to_owned(),
            kind,
            volume: None,
        },
        label: None,
        used: Vec::new(),
        seen: Seen::Not,
    });
    survey
}

fn look(survey: &mut Survey, folder: &Path) {
    privately(|| {
        survey.look(&mut Kernel, folder);
        // What is left mounted goes with the namespace.
        Kernel
            .mount("none", folder, "tmpfs", MountFlags::NODEV, "")
            .unwrap();
    })
    .unwrap();
}

/// As after a loss of power.
fn a_log_stays_until_it_is_mounted(device: &Loop, one: &Target, folder: &Path, fresh: &dyn Fn() -> Survey) {
    one.mount(&mut Kernel, folder).unwrap();
    fs::write(folder.join("etc/late"), "").unwrap();
    let shutdown = ["-x", "-c", "shutdown -f", folder.to_str().unwrap()];
    ran("xfs_io", "xfsprogs", &shutdown);
    unmount_system(&mut Kernel, folder).unwrap();
    let before = device.digest();
    let mut survey = fresh();
    look(&mut survey, folder);
    assert_eq!(survey.systems[0].hostname.as_deref(), Some("box"), "{survey:?}");
    let error = one.check(&mut Kernel).unwrap_err();
    assert!(matches!(error, RescueError::Log(_)), "{error}");
    assert_eq!(device.digest(), before, "the log was replayed");
    // What the error says.
    one.mount(&mut Kernel, folder).unwrap();
    assert!(folder.join("etc/late").exists());
    unmount_system(&mut Kernel, folder).unwrap();
    one.check(&mut Kernel).unwrap();
}

fn the_kernel_mounts(kind: Kind) {
    let uuid = "0d5ad6a0-3c1f-4a0e-9a3e-2f6f6f6f0001";
    let device = Loop::new(512 << 20);
    let make = FileSystem {
        kind,
        ..FileSystem::default()
    };
    let make = make.make(&device.node, "root", uuid, 512).unwrap();
    let words: Vec<&str> = make.arguments.iter().map(String::as_str).collect();
    ran(make.program, "of its file system", &words);
    let folder = tempfile::tempdir().unwrap();
    fill(&device.node, kind, uuid, folder.path());
    let (before, mounts_before) = (device.digest(), mounts());
    let fresh = || survey_of(&device, kind, uuid);
    let mut survey = fresh();
    look(&mut survey, folder.path());
    let one = &survey.systems[0];
    assert_eq!(
        (one.hostname.as_deref(), one.name.as_deref(), survey.systems.len()),
        (Some("box"), Some("Small"), 1),
        "{survey:?}"
    );
    assert_eq!(mounts(), mounts_before);
    assert_eq!(device.digest(), before, "looking wrote to {kind:?}");

    let one = survey.select(Some("box")).unwrap();
    let mounted = one.mount(&mut Kernel, folder.path()).unwrap();
    let btrfs = kind == Kind::Btrfs;
    assert_eq!(mounted.file_system.grub_folder(), if btrfs { "/@" } else { "" });
    assert_eq!(folder.path().join("home/inside").exists(), btrfs);
    assert!(folder.path().join("proc/self/mountinfo").exists());
    fs::write(folder.path().join("etc/new"), "").unwrap();
    unmount_system(&mut Kernel, folder.path()).unwrap();
    assert_eq!(mounts(), mounts_before);
    one.check(&mut Kernel).unwrap();

    if kind == Kind::Xfs {
        a_log_stays_until_it_is_mounted(&device, &one, folder.path(), &fresh);
    }

    // Data alone: everything is as it was.
    let top = if btrfs { "subvolid=5" } else { "" };
    let mut kernel = Kernel;
    kernel
        .mount(&device.node, folder.path(), kind.name(), MountFlags::NODEV, top)
        .unwrap();
    let subvolumes = kernel.subvolumes(folder.path()).unwrap();
    for name in ["etc", "@/etc", "@-before"] {
        let path = folder.path().join(name);
        match (name, path.exists()) {
            (_, false) => {}
            ("@-before", true) => {
                ran(
                    "btrfs",
                    "btrfs-progs",
                    &["subvolume", "delete", path.to_str().unwrap()],
                );
            }
            (_, true) => fs::remove_dir_all(path).unwrap(),
        }
    }
    kernel.unmount(folder.path()).unwrap();
    if btrfs {
        assert_eq!(subvolumes, ["@", "@-before", "@home"]);
    }
    let error = one.mount(&mut Kernel, folder.path()).unwrap_err();
    assert!(matches!(error, RescueError::NoSystem { .. }), "{error}");
    assert_eq!(mounts(), mounts_before);
}
