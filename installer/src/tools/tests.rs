use super::*;
use crate::device::fake::Fake;

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn a_system_says_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let tools = Running::at(root);
    assert_eq!(tools.ready(Kind::Ext4, false), Ok(()));
    assert!(
        tools
            .ready(Kind::Btrfs, false)
            .unwrap_err()
            .contains("mkfs.btrfs")
    );
    put(root, "usr/bin/mkfs.btrfs", "");
    assert!(tools.ready(Kind::Btrfs, false).unwrap_err().contains("no btrfs,"));
    put(root, "sbin/btrfs", "");
    assert!(
        tools
            .ready(Kind::Btrfs, false)
            .unwrap_err()
            .contains("module btrfs")
    );
    put(root, "proc/sys/kernel/osrelease", "6.1.0-x\n");
    put(
        root,
        "lib/modules/6.1.0-x/modules.dep",
        "kernel/fs/xfs/xfs.ko.xz: kernel/lib/libcrc32c.ko.xz\nkernel/fs/btrfs/btrfs.ko: a.ko\n",
    );
    assert_eq!(tools.ready(Kind::Btrfs, false), Ok(()));
    // What this program writes itself it encrypts itself; the kernel has to do so for the others.
    assert_eq!(tools.ready(Kind::Ext4, true), Ok(()));
    assert!(tools.ready(Kind::Btrfs, true).unwrap_err().contains("dm_crypt"));
    put(
        root,
        "lib/modules/6.1.0-x/modules.builtin",
        "kernel/drivers/md/dm-crypt.ko\n",
    );
    assert_eq!(tools.ready(Kind::Btrfs, true), Ok(()));
    // What only needs the module has none.
    put(root, "usr/bin/mkfs.f2fs", "");
    assert!(
        tools
            .ready(Kind::F2fs, false)
            .unwrap_err()
            .contains("module f2fs")
    );
    put(root, "proc/filesystems", "nodev\tsysfs\n\tf2fs\n");
    assert_eq!(tools.ready(Kind::F2fs, false), Ok(()));
    put(root, "usr/bin/mkfs.xfs", "");
    assert_eq!(tools.ready(Kind::Xfs, false), Ok(()));
}

#[test]
fn a_failing_program_is_named_with_its_arguments_and_last_words() {
    let mut device = Fake::new(1 << 20, 512);
    let mut tools = Running::default();
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; done; echo wrong >&2; exit 3";
    let error = tools
        .run(&mut device, "sh", &["-c".to_owned(), script.to_owned()])
        .unwrap_err()
        .to_string();
    assert!(error.contains("`sh -c for i in"), "{error}");
    assert!(error.contains("exit status: 3"), "{error}");
    assert!(error.ends_with("line 10\nwrong"), "{error}");
    assert!(!error.contains("line 3\n"), "{error}");
    let error = tools.run(&mut device, "no-such-program", &[]).unwrap_err();
    assert!(error.to_string().contains("`no-such-program` could not be run"));
    tools.run(&mut device, "true", &[]).unwrap();
}

#[test]
fn a_disk_that_is_no_file_cannot_be_exposed() {
    let mut device = Fake::new(1 << 20, 512);
    let span = Span { start: 0, size: 4096 };
    let error = Running::default().expose(&mut device, span).unwrap_err();
    assert!(matches!(error, ToolError::Kernel { .. }), "{error}");
}

#[test]
fn folders_of_killed_processes_go() {
    let (run, proc) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(proc.path().join("7")).unwrap();
    for name in [
        "lycia-root-7-abc",
        "lycia-root-8-abc",
        "lycia-root-9-full/file",
        "lycia-root-abc",
        "other-8-abc",
    ] {
        fs::create_dir_all(run.path().join(name)).unwrap();
    }
    remove_left_folders(run.path(), proc.path());
    let mut left: Vec<_> = fs::read_dir(run.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(
        left,
        [
            "lycia-root-7-abc",
            "lycia-root-9-full",
            "lycia-root-abc",
            "other-8-abc"
        ]
    );
}
