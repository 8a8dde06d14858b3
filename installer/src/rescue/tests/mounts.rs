//! Roots that only the kernel reads: found by their superblocks, mounted, checked. What stands for the kernel puts files into the directory.

use super::*;
use crate::plan::tests::disk;
use crate::probe::{Firmware, Machine, SCHEMA};
use std::process::Command;

const UUID: &str = "6a1f0f3e-0000-4000-8000-00000000000a";
const BOOT: &str = "6a1f0f3e-0000-4000-8000-00000000000b";

/// A kernel that has file systems made of texts.
#[derive(Default)]
struct Fake {
    /// Files by node and subvolume; of the top the subvolume is empty.
    files: BTreeMap<(String, String), Vec<(String, String)>>,
    /// Calls in words; the directory is `ROOT`.
    calls: Vec<String>,
    root: PathBuf,
    mounted: Vec<(PathBuf, String)>,
    /// Whatever is mounted with this word fails.
    fail: Option<String>,
    /// What a program ends with; none where it is missing.
    code: Option<i32>,
}

impl Fake {
    fn shown(&self, path: &Path) -> String {
        path.display()
            .to_string()
            .replace(self.root.to_str().unwrap(), "ROOT")
    }

    fn has(&mut self, node: &str, subvolume: &str, files: &[(&str, &str)]) {
        let files = files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        let key = (node.to_owned(), subvolume.to_owned());
        self.files.entry(key).or_default().extend(files);
    }
}

/// What the kernel makes of the link that an open directory is.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap()
}

impl Host for Fake {
    fn mount(
        &mut self,
        node: &str,
        target: &Path,
        kind: &str,
        flags: MountFlags,
        data: &str,
    ) -> io::Result<()> {
        let target = real(target);
        let write = if flags.contains(MountFlags::RDONLY) {
            "ro"
        } else {
            "rw"
        };
        assert!(flags.contains(MountFlags::NODEV));
        let shown = self.shown(&target);
        let call = format!("mount {node} {shown} {kind} {write} {data:?}");
        self.calls.push(call.clone());
        if self.fail.as_ref().is_some_and(|word| call.contains(word)) {
            return Err(io::Error::other("refused"));
        }
        let subvolume = data.split(',').find_map(|word| word.strip_prefix("subvol="));
        let subvolume = subvolume.unwrap_or_default().trim_matches('/');
        let top = data.split(',').any(|word| word == "subvolid=5");
        let mut any = false;
        for ((at, name), files) in &self.files {
            if at != node || (!top && name != subvolume) {
                continue;
            }
            any = true;
            let folder = if top { target.join(name) } else { target.clone() };
            fs::create_dir_all(&folder).unwrap();
            for (path, text) in files {
                let path = folder.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                match text.strip_prefix("-> ") {
                    Some(to) => symlink(to, path).unwrap(),
                    None if text == "folder" => fs::create_dir_all(path).unwrap(),
                    None => fs::write(path, text).unwrap(),
                }
            }
        }
        if !any {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.mounted.push((target, node.to_owned()));
        Ok(())
    }

    fn bind(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let to = real(to);
        self.calls
            .push(format!("bind {} {}", from.display(), self.shown(&to)));
        self.mounted.push((to, "bound".to_owned()));
        Ok(())
    }

    fn unmount(&mut self, target: &Path) -> io::Result<()> {
        self.calls.push(format!("unmount {}", self.shown(target)));
        let at = self.mounted.iter().rposition(|(place, _)| place == target);
        self.mounted.remove(at.ok_or(io::ErrorKind::InvalidInput)?);
        for entry in fs::read_dir(target).unwrap() {
            let path = entry.unwrap().path();
            match fs::symlink_metadata(&path).unwrap().is_dir() {
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
        }
        Ok(())
    }

    fn mountinfo(&self) -> io::Result<String> {
        let lines = self
            .mounted
            .iter()
            .map(|(place, source)| format!("1 1 0:1 / {} rw - kind {source} rw\n", place.display()));
        Ok(lines.collect())
    }

    fn subvolumes(&self, _: &Path) -> io::Result<Vec<String>> {
        let names = self.files.keys().map(|(_, name)| name.clone());
        Ok(names.filter(|name| !name.is_empty()).collect())
    }

    fn run(&mut self, program: &str, arguments: &[&str]) -> io::Result<Option<i32>> {
        self.calls.push(format!("{program} {}", arguments.join(" ")));
        match self.code {
            Some(code) => Ok(Some(code)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

const FOLDERS: [(&str, &str); 6] = [
    ("dev", "folder"),
    ("proc", "folder"),
    ("sys", "folder"),
    ("run", "folder"),
    ("home", "folder"),
    ("var/log", "folder"),
];

fn root(kind: Kind) -> Root {
    Root {
        disk: "/dev/vda".to_owned(),
        partition: 3,
        uuid: UUID.to_owned(),
        kind,
        volume: None,
    }
}

fn survey_of(kind: Kind) -> Survey {
    let mut survey = Survey::default();
    survey.unread.push(Unread {
        root: root(kind),
        label: None,
        used: Vec::new(),
        seen: Seen::Not,
    });
    survey
        .nodes
        .insert(BOOT.to_owned(), ("/dev/vda2".to_owned(), "ext4".to_owned()));
    survey
}

fn target(kind: Kind) -> Target {
    survey_of(kind).select(Some(&UUID.to_uppercase())).unwrap()
}

fn fake() -> (Fake, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake {
        root: real(folder.path()),
        ..Fake::default()
    };
    (fake, folder)
}

fn fstab(root: &str) -> String {
    format!(
        "# device\nUUID={UUID}  /  btrfs  rw,relatime,compress=zstd:3,subvol=/{root}  0  0\n\
         UUID={UUID}  /var/log  btrfs  rw,subvol=/@log  0  0\n\
         UUID={UUID}  /home  btrfs  rw,relatime,compress=zstd:3,subvol=/@home  0  0\n\
         UUID={UUID}  /snapshots  btrfs  noauto,subvol=/@snapshots  0  0\n\
         UUID={UUID}  /run/top  btrfs  rw,subvol=/@log  0  0\n\
         UUID={BOOT}  /var/other  ext4  rw  0  2\n"
    )
}

fn btrfs() -> (Fake, tempfile::TempDir) {
    let (mut fake, folder) = fake();
    let node = "/dev/vda3";
    fake.has(node, "", &[]);
    for name in ["@", "@before-upgrade"] {
        // A copy of a subvolume says of itself what the original does.
        fake.has(node, name, &FOLDERS);
        fake.has(
            node,
            name,
            &[("etc/fstab", &fstab("@")), ("etc/hostname", "box\n")],
        );
    }
    fake.has(node, "@home", &[("ann/.profile", "")]);
    fake.has(node, "@log", &[("messages", "")]);
    (fake, folder)
}

#[test]
fn a_root_in_a_subvolume_is_mounted_with_the_others() {
    let (mut fake, folder) = btrfs();
    let one = target(Kind::Btrfs);
    let mounted = one.mount(&mut fake, folder.path()).unwrap();
    assert_eq!(
        fake.calls,
        [
            "mount /dev/vda3 ROOT btrfs ro \"subvolid=5\"",
            "unmount ROOT",
            "mount /dev/vda3 ROOT btrfs rw \"subvol=/@,compress=zstd:3\"",
            "mount /dev/vda3 ROOT/home btrfs rw \"subvol=/@home\"",
            "mount /dev/vda3 ROOT/var/log btrfs rw \"subvol=/@log\"",
            "bind /dev ROOT/dev",
            "bind /proc ROOT/proc",
            "bind /sys ROOT/sys",
            "bind /run ROOT/run",
        ]
    );
    assert_eq!(
        mounted.file_system.arguments(),
        "rootfstype=btrfs rootflags=subvol=@,compress=zstd:3"
    );
    assert_eq!(mounted.boot, None);
    assert!(folder.path().join("home/ann/.profile").exists());
    fake.calls.clear();
    unmount_system(&mut fake, folder.path()).unwrap();
    let order = ["run", "sys", "proc", "dev", "var/log", "home"].map(|name| format!("unmount ROOT/{name}"));
    assert_eq!(fake.calls[..6], order);
    assert_eq!(fake.calls[6..], ["unmount ROOT"]);
    assert!(fake.mounted.is_empty());
}

#[test]
fn a_subvolume_that_is_lost_is_told_and_nothing_stays_mounted() {
    let (mut fake, folder) = btrfs();
    fake.fail = Some("@home".to_owned());
    let error = target(Kind::Btrfs).mount(&mut fake, folder.path()).unwrap_err();
    assert!(error.to_string().contains("/home: refused"), "{error}");
    assert!(fake.mounted.is_empty(), "{:?}", fake.mounted);
    // One that a start does not need.
    let text = fstab("@").replace(
        "rw,relatime,compress=zstd:3,subvol=/@home",
        "nofail,subvol=/@home",
    );
    fake.has("/dev/vda3", "@", &[("etc/fstab", &text)]);
    target(Kind::Btrfs).mount(&mut fake, folder.path()).unwrap();
}

#[test]
fn systems_that_share_a_file_system_are_told_apart_by_their_names() {
    let (mut fake, folder) = btrfs();
    fake.has("/dev/vda3", "@second", &FOLDERS);
    fake.has(
        "/dev/vda3",
        "@second",
        &[("etc/fstab", &fstab("@second")), ("etc/hostname", "other")],
    );
    let error = target(Kind::Btrfs).mount(&mut fake, folder.path()).unwrap_err();
    assert!(error.to_string().contains("/dev/vda3: @, @second."), "{error}");
    assert!(fake.mounted.is_empty());

    let mut survey = survey_of(Kind::Btrfs);
    for selector in [None, Some("other")] {
        let error = survey.select(selector).unwrap_err();
        assert!(
            matches!(&error, RescueError::Unread(uuid) if uuid == UUID),
            "{error}"
        );
    }
    fake.calls.clear();
    survey.look(&mut fake, folder.path());
    assert_eq!(
        fake.calls,
        [
            "mount /dev/vda3 ROOT btrfs ro \"subvolid=5,rescue=nologreplay\"",
            "unmount ROOT"
        ]
    );
    assert!(survey.unread.is_empty());
    assert!(matches!(
        survey.select(None),
        Err(RescueError::Count { count: 2, .. })
    ));
    let one = survey.select(Some("other")).unwrap();
    one.mount(&mut fake, folder.path()).unwrap();
    assert!(
        fake.calls
            .contains(&"mount /dev/vda3 ROOT btrfs rw \"subvol=/@second,compress=zstd:3\"".to_owned()),
        "{:?}",
        fake.calls
    );
}

#[test]
fn a_file_system_without_a_system_is_given_back_unchanged() {
    for (kind, node_data) in [(Kind::Xfs, ""), (Kind::F2fs, ""), (Kind::Btrfs, "subvolid=5")] {
        let (mut fake, folder) = fake();
        fake.has("/dev/vda3", "", &[("films/one", "")]);
        let error = target(kind).mount(&mut fake, folder.path()).unwrap_err();
        assert!(
            matches!(error, RescueError::NoSystem { .. }) && error.to_string().contains("/dev/vda3"),
            "{error}"
        );
        assert_eq!(
            error.to_string().contains("subvolume right below"),
            kind == Kind::Btrfs
        );
        let name = kind.name();
        assert_eq!(
            fake.calls,
            [
                format!("mount /dev/vda3 ROOT {name} ro {node_data:?}"),
                "unmount ROOT".to_owned()
            ]
        );
        // Looked into, it is no longer in the way of anybody.
        let mut survey = survey_of(kind);
        survey.look(&mut fake, folder.path());
        assert_eq!(survey.unread[0].seen, Seen::NoSystem);
        assert!(matches!(
            survey.select(None),
            Err(RescueError::Count { count: 0, .. })
        ));
        assert!(fake.mounted.is_empty());
    }
}

#[test]
fn what_cannot_be_mounted_may_be_anything() {
    let (mut fake, folder) = fake();
    fake.fail = Some("xfs".to_owned());
    let mut survey = survey_of(Kind::Xfs);
    survey.look(&mut fake, folder.path());
    assert_eq!(fake.calls, ["mount /dev/vda3 ROOT xfs ro \"norecovery\""]);
    assert!(matches!(&survey.unread[0].seen, Seen::Failed(why) if why.contains("refused")));
    assert!(matches!(survey.select(None), Err(RescueError::Unread(_))));
    assert!(survey.select(Some(UUID)).is_ok());
}

#[test]
fn boot_apart_is_found_by_the_fstab_that_is_mounted() {
    let (mut fake, folder) = fake();
    fake.has("/dev/vda2", "", &[("vmlinuz-1", "")]);
    fake.has("/dev/vda3", "", &FOLDERS);
    let text = format!("UUID={UUID} / f2fs rw 0 1\nUUID={BOOT} /boot ext4 rw 0 2\n");
    fake.has("/dev/vda3", "", &[("etc/fstab", &text), ("boot", "folder")]);
    let one = target(Kind::F2fs);
    let mounted = one.mount(&mut fake, folder.path()).unwrap();
    let boot = mounted.boot.unwrap();
    assert_eq!(
        (boot.node.as_deref(), boot.kind.as_deref()),
        (Some("/dev/vda2"), Some("ext4"))
    );
    assert_eq!(
        fake.calls[..4],
        [
            "mount /dev/vda3 ROOT f2fs ro \"\"",
            "unmount ROOT",
            "mount /dev/vda3 ROOT f2fs rw \"\"",
            "mount /dev/vda2 ROOT/boot ext4 rw \"\"",
        ]
    );
    unmount_system(&mut fake, folder.path()).unwrap();
    let mut lost = one.clone();
    lost.nodes.clear();
    let error = lost.mount(&mut fake, folder.path()).unwrap_err();
    assert!(matches!(&error, RescueError::BootMissing(uuid) if uuid == BOOT));
    assert!(fake.mounted.is_empty());
}

/// A root of ext4 with four other file systems in its fstab, of which one is nowhere.
fn with_others() -> (Fake, tempfile::TempDir, Target) {
    let (mut fake, folder) = fake();
    let text = format!(
        "UUID={UUID} / ext4 rw 0 1\nUUID=D00D-0001 /boot/efi vfat rw,umask=0077,noauto,nofail 0 2\nUUID=u-data /home/data btrfs ro,subvol=/@data 0 0\n\
         UUID=u-home /home ext4 rw 0 2\nUUID=u-gone /srv ext4 nofail 0 2\nUUID=u-home /away ext4 noauto 0 2\nUUID=u-swap none swap sw 0 0\n\
         UUID=u-home /run/media ext4 rw 0 2\n"
    );
    fake.has("/dev/vda3", "", &FOLDERS);
    let more = [
        ("etc/fstab", text.as_str()),
        ("boot/efi", "folder"),
        ("srv", "folder"),
        ("away", "folder"),
    ];
    fake.has("/dev/vda3", "", &more);
    fake.has("/dev/vda1", "", &[("EFI/BOOT/BOOTX64.EFI", "")]);
    fake.has("/dev/vdb1", "", &[("data", "folder"), ("ann/.profile", "")]);
    fake.has("/dev/vdb2", "@data", &[("inside", "")]);
    let mut one = target(Kind::Xfs);
    one.root.kind = Kind::Ext4;
    for (uuid, node, kind) in [
        ("d00d-0001", "/dev/vda1", "vfat"),
        ("u-home", "/dev/vdb1", "ext4"),
        ("u-data", "/dev/vdb2", "btrfs"),
    ] {
        one.nodes
            .insert(uuid.to_owned(), (node.to_owned(), kind.to_owned()));
    }
    (fake, folder, one)
}

#[test]
fn what_fstab_names_of_other_file_systems_is_mounted() {
    let (mut fake, folder, one) = with_others();
    let mounted = one.mount(&mut fake, folder.path()).unwrap();
    let calls = [
        "mount /dev/vda3 ROOT ext4 rw \"\"",
        "mount /dev/vda1 ROOT/boot/efi vfat rw \"umask=0077\"",
        "mount /dev/vdb1 ROOT/home ext4 rw \"\"",
        "mount /dev/vdb2 ROOT/home/data btrfs ro \"subvol=/@data\"",
        "bind /dev ROOT/dev",
        "bind /proc ROOT/proc",
        "bind /sys ROOT/sys",
        "bind /run ROOT/run",
    ];
    assert_eq!(fake.calls, calls);
    let gone = "/srv (UUID=u-gone): no disk has it, or it is in an encrypted volume";
    assert_eq!(mounted.left_out, [gone]);
    assert!(folder.path().join("home/data/inside").exists());
    fake.calls.clear();
    unmount_system(&mut fake, folder.path()).unwrap();
    assert_eq!(
        fake.calls[4..7],
        ["home/data", "home", "boot/efi"].map(|name| format!("unmount ROOT/{name}"))
    );
    assert!(fake.mounted.is_empty());
    // Who repairs what starts it changes nothing else.
    fake.calls.clear();
    one.mount_alone(&mut fake, folder.path()).unwrap();
    assert_eq!(fake.calls, [&calls[..1], &calls[4..]].concat());
}

#[test]
fn a_file_system_that_is_not_mounted_leaves_the_rest() {
    let (mut fake, folder, one) = with_others();
    fake.fail = Some("/dev/vdb1".to_owned());
    let mounted = one.mount(&mut fake, folder.path()).unwrap();
    let [home, data, srv] = &mounted.left_out[..] else {
        panic!("{:?}", mounted.left_out)
    };
    assert_eq!(home, "/home (UUID=u-home): mounting /dev/vdb1: refused");
    assert!(
        data.starts_with("/home/data (UUID=u-data): ") && srv.starts_with("/srv "),
        "{data} {srv}"
    );
    assert!(folder.path().join("boot/efi/EFI").exists());
    unmount_system(&mut fake, folder.path()).unwrap();
    assert!(fake.mounted.is_empty());
    // One of another root is told of, too.
    let (mut fake, folder) = btrfs();
    let mounted = target(Kind::Btrfs).mount(&mut fake, folder.path()).unwrap();
    assert!(
        mounted.left_out[0].starts_with("/var/other (UUID="),
        "{:?}",
        mounted.left_out
    );
}

#[test]
fn links_of_a_root_lead_nowhere_outside_of_it() {
    let (mut fake, folder) = fake();
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir_all(outside.path().join("there")).unwrap();
    fs::write(outside.path().join("hostname"), "secret").unwrap();
    let away = |name: &str| format!("-> {}", outside.path().join(name).display());
    fake.has("/dev/vda3", "", &[]);
    fake.has("/dev/vda3", "@home", &[]);
    fake.has("/dev/vda3", "@", &FOLDERS[..4]);
    fake.has(
        "/dev/vda3",
        "@",
        &[
            (
                "etc/fstab",
                &fstab("@").replace("rw,subvol=/@log", "noauto,subvol=/@log"),
            ),
            ("etc/hostname", &away("hostname")),
            ("home", &away("there")),
        ],
    );
    let mut survey = survey_of(Kind::Btrfs);
    survey.look(&mut fake, folder.path());
    assert_eq!(survey.systems[0].hostname, None);
    let error = target(Kind::Btrfs).mount(&mut fake, folder.path()).unwrap_err();
    assert!(error.to_string().contains("home"), "{error}");
    assert!(
        !fake.calls.iter().any(|call| call.contains("@home")),
        "{:?}",
        fake.calls
    );
    // One that leads to a directory of the root is followed.
    let at = ("/dev/vda3".to_owned(), "@".to_owned());
    fake.files.get_mut(&at).unwrap().pop();
    fake.has("/dev/vda3", "@", &[("users", "folder"), ("home", "-> /users")]);
    target(Kind::Btrfs).mount(&mut fake, folder.path()).unwrap();
    assert!(
        fake.calls
            .contains(&"mount /dev/vda3 ROOT/users btrfs rw \"subvol=/@home\"".to_owned()),
        "{:?}",
        fake.calls
    );
}

#[test]
fn checks_are_made_by_the_programs_of_the_file_systems() {
    let calls = [
        (Kind::Ext4, "e2fsck -f -p /dev/vda3", "e2fsprogs"),
        (Kind::Xfs, "xfs_repair -e /dev/vda3", "xfsprogs"),
        (Kind::Btrfs, "btrfs check --readonly /dev/vda3", "btrfs-progs"),
        (Kind::F2fs, "fsck.f2fs -a /dev/vda3", "f2fs-tools"),
    ];
    for (kind, call, package) in calls {
        let mut fake = Fake::default();
        let one = target(kind);
        let error = one.check(&mut fake).unwrap_err().to_string();
        assert!(
            error.contains(&format!("install the package {package}")),
            "{error}"
        );
        fake.code = Some(0);
        one.check(&mut fake).unwrap();
        assert_eq!(fake.calls, [call, call]);
    }
    // What the programs' manuals say of their exit codes.
    for (kind, code, sound) in [
        (Kind::Ext4, 1, true),
        (Kind::Ext4, 2, true),
        (Kind::Ext4, 4, false),
        (Kind::Xfs, 1, false),
        (Kind::Xfs, 4, true),
        (Kind::Btrfs, 1, false),
        (Kind::F2fs, 1, true),
        (Kind::F2fs, 4, false),
        (Kind::F2fs, 255, false),
    ] {
        let mut fake = Fake {
            code: Some(code),
            ..Fake::default()
        };
        let checked = target(kind).check(&mut fake);
        assert_eq!(checked.is_ok(), sound, "{kind:?} {code}: {checked:?}");
        if let Err(error) = checked {
            assert!(matches!(error, RescueError::Faults { .. }), "{error}");
            if kind == Kind::Btrfs {
                assert!(error.to_string().contains("never run by this verb"), "{error}");
            }
        }
    }
    let mut fake = Fake {
        code: Some(2),
        ..Fake::default()
    };
    let error = target(Kind::Xfs).check(&mut fake).unwrap_err();
    assert!(matches!(error, RescueError::Log(_)), "{error}");
    assert!(error.to_string().contains("Mount it"), "{error}");
}

pub(super) fn ran(program: &str, package: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}: install the Debian package {package}"));
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn what_other_programs_made_is_listed_and_selected_by_its_uuid() {
    const MIB: u64 = 1 << 20;
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(2048 * MIB).unwrap();
    let path = image.path().to_str().unwrap().to_owned();
    let parts: [(&str, &str, &[&str], u64, &str); 6] = [
        ("mkfs.vfat", "dosfstools", &[], 64, "ef00"),
        ("mkswap", "util-linux", &[], 64, "8200"),
        ("mkfs.xfs", "xfsprogs", &["-q", "-L", "roots"], 400, "8300"),
        ("mkfs.btrfs", "btrfs-progs", &["-q"], 256, "8300"),
        ("mkfs.f2fs", "f2fs-tools", &["-q"], 256, "8300"),
        ("mkfs.ext4", "e2fsprogs", &["-q"], 64, "8300"),
    ];
    let (mut at, mut uuids) = (1, Vec::new());
    for (number, (program, package, arguments, size, code)) in parts.into_iter().enumerate() {
        let number = number + 1;
        let part = tempfile::NamedTempFile::new().unwrap();
        part.as_file().set_len(size * MIB).unwrap();
        let name = part.path().to_str().unwrap();
        ran(program, package, &[arguments, &[name]].concat());
        uuids.push(ran(
            "blkid",
            "util-linux",
            &["-p", "-o", "value", "-s", "UUID", name],
        ));
        let new = format!("{number}:{at}M:+{size}M");
        ran(
            "sgdisk",
            "gdisk",
            &["-n", &new, "-t", &format!("{number}:{code}"), &path],
        );
        ran(
            "dd",
            "coreutils",
            &[
                &format!("if={name}"),
                &format!("of={path}"),
                "bs=1M",
                &format!("seek={at}"),
                "conv=notrunc,sparse",
            ],
        );
        at += size;
    }
    let dev = tempfile::tempdir().unwrap();
    symlink(image.path(), dev.path().join("sda")).unwrap();
    let machine = Machine {
        schema: SCHEMA,
        firmware: Firmware::Bios,
        memory: None,
        disks: vec![disk(2048 * MIB, 512)],
        network: Vec::new(),
    };
    let found = survey(&machine, dev.path());
    // Neither swap, EFI system partition nor an ext4 that was read and has no system.
    assert!(found.systems.is_empty() && found.locked.is_empty(), "{found:?}");
    let listed: Vec<(String, &str, Kind, Option<&str>)> = found
        .unread
        .iter()
        .map(|one| {
            (
                one.root.node(),
                one.root.uuid.as_str(),
                one.root.kind,
                one.label.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            (
                "/dev/sda3".to_owned(),
                uuids[2].as_str(),
                Kind::Xfs,
                Some("roots")
            ),
            ("/dev/sda4".to_owned(), uuids[3].as_str(), Kind::Btrfs, None),
            ("/dev/sda5".to_owned(), uuids[4].as_str(), Kind::F2fs, None),
        ]
    );
    for one in &found.unread {
        assert_eq!(
            found.select(Some(&one.root.uuid)).unwrap().node(),
            one.root.node()
        );
    }
    assert!(matches!(found.select(None), Err(RescueError::Unread(_))));
    let json: serde_json::Value = serde_json::to_value(&found).unwrap();
    assert_eq!(json["unread"][0]["kind"], "xfs");
    assert_eq!(json["unread"][0]["seen"], "not");
    assert_eq!(json["unread"][0]["uuid"], uuids[2].as_str());
}
