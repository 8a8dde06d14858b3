use super::*;
use crate::answers::Secrets;
use crate::device::fake::Fake;
use crate::fixture::{Fixture, KERNEL};
use crate::plan::tests::disk;
use crate::probe::SCHEMA;

const ROOT: &str = "01234567-89ab-cdef-0123-456789abcdef";
const HOME: &str = "11111111-89ab-cdef-0123-456789abcdef";

/// Stands for mounts: folders, and the text that would say that they are mounts.
struct Fakes {
    folder: tempfile::TempDir,
    mountinfo: String,
}

impl Fakes {
    /// Mount point, type, device, subvolume, options.
    fn new(mounts: &[(&str, &str, &str, &str, &str)]) -> Fakes {
        let folder = tempfile::tempdir().unwrap();
        let mut mountinfo = "22 1 0:20 / /proc rw - proc proc rw\n".to_owned();
        for (at, (place, kind, device, root, options)) in mounts.iter().enumerate() {
            let path = folder.path().join(place.trim_start_matches('/'));
            fs::create_dir_all(&path).unwrap();
            let shown = path.display().to_string();
            let shown = shown.trim_end_matches('/');
            mountinfo.push_str(&format!(
                "{} 22 254:{at} {root} {shown} rw,relatime shared:1 - {kind} {device} {options}\n",
                30 + at
            ));
        }
        Fakes { folder, mountinfo }
    }

    fn answers(&self, disk: &str, boot: &str) -> (AnswersFile, Answers) {
        let text = format!(
            "schema = 1\n[disk]\nlayout = \"directory\"\ndirectory = \"{}\"\n{disk}\n[root]\npassword-hash = \"$6$a$b./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./0123456789ABCDEFGHI\"\n[boot]\n{boot}\n",
            self.folder.path().display()
        );
        let file = AnswersFile::parse(&text, "a").unwrap();
        let answers = file.resolve(Secrets::Read).unwrap();
        (file, answers)
    }

    fn look(&self, disk: &str) -> Result<Ground, EngineError> {
        Ground::look(&self.answers(disk, "").1, &self.mountinfo, &known, &plain)
    }

    fn put(&self, path: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "here before").unwrap();
    }
}

fn known(device: &str) -> Vec<Superblock> {
    let (kind, uuid) = match device {
        "/dev/vda1" => ("vfat", "ABCD-1234"),
        "/dev/vda2" => ("btrfs", ROOT),
        "/dev/vda3" => ("xfs", HOME),
        "/dev/vda4" => ("ext4", ROOT),
        "/dev/vda5" => ("swap", "5a5a5a5a-89ab-cdef-0123-456789abcdef"),
        _ => return Vec::new(),
    };
    vec![Superblock {
        kind,
        label: None,
        other_label: None,
        uuid: Some(uuid.to_owned()),
    }]
}

fn plain(device: &str) -> Option<&'static str> {
    (device == "/dev/mapper/vault").then_some("an encrypted volume")
}

fn machine() -> Machine {
    Machine {
        schema: SCHEMA,
        firmware: Firmware::Bios,
        memory: None,
        disks: vec![disk(2 << 30, 512)],
        network: Vec::new(),
    }
}

const WHOLE: [(&str, &str, &str, &str, &str); 4] = [
    ("/", "btrfs", "/dev/vda2", "/@", "rw,compress=zstd:3,subvol=/@"),
    ("/boot/efi", "vfat", "/dev/vda1", "/", "rw"),
    ("/home", "xfs", "/dev/vda3", "/", "rw"),
    (
        "/srv",
        "btrfs",
        "/dev/vda2",
        "/@srv",
        "rw,compress=zstd:3,subvol=/@srv",
    ),
];

#[test]
fn what_is_mounted_is_planned_and_written() {
    let fakes = Fakes::new(&WHOLE);
    fakes.put("home/ann/precious");
    fakes.put("boot/efi/EFI/Other/other.efi");
    let (file, answers) = fakes.answers(
        "keep = [\"/home\"]\nswap-partitions = [\"/dev/vda5\"]",
        "bios-disk = \"S1\"",
    );
    let mut ground = Ground::look(&answers, &fakes.mountinfo, &known, &plain).unwrap();
    let mut device = Fake::new(2 << 30, 512);
    device.write_at(0, &[0x11; 512]).unwrap();
    ground.bios = Some(BiosDisk {
        path: "/dev/sda".to_owned(),
        serial: None,
        number: 1,
        span: Span {
            start: 1 << 20,
            size: 1 << 20,
        },
        sector: 512,
        used: true,
    });
    let fixture = Fixture::new();
    let prepared = prepare(&fixture.medium(), &machine(), &answers, "", ground, &|_| false).unwrap();
    let text = prepared.text();
    for line in [
        "/dev/vda2  /  btrfs  rw,relatime,compress=zstd:3,subvol=/@",
        "/dev/vda3  /home  xfs  rw,relatime  UUID=11111111-89ab-cdef-0123-456789abcdef  (kept)",
        "/dev/vda1  /boot/efi  vfat",
        "/dev/vda5  swap",
        "BIOS: boot sector of /dev/sda",
        "BIOS: a boot loader is there now and is written over",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(prepared.confirm(&Consent::default()).is_err());
    let typed = |path: &Path| Consent {
        hash: None,
        typed: Some(path.display().to_string()),
    };
    assert!(prepared.confirm(&typed(Path::new("/mnt"))).is_err());
    prepared.confirm(&typed(fakes.folder.path())).unwrap();
    // Owners cannot be given by others than root.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    prepared
        .execute(&file, Some(&mut device), scratch.path(), &mut |_| ())
        .unwrap();
    let read = |path: &str| {
        fs::read_to_string(fakes.folder.path().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let fstab = read("etc/fstab");
    let lines: Vec<&str> = fstab.lines().skip(1).collect();
    assert_eq!(
        lines,
        [
            format!("UUID={ROOT}  /  btrfs  rw,relatime,compress=zstd:3,subvol=/@  0  0"),
            format!("UUID={HOME}  /home  xfs  rw,relatime  0  0"),
            format!("UUID={ROOT}  /srv  btrfs  rw,relatime,compress=zstd:3,subvol=/@srv  0  0"),
            "UUID=5a5a5a5a-89ab-cdef-0123-456789abcdef  none  swap  sw  0  0".to_owned(),
            "UUID=ABCD-1234  /boot/efi  vfat  rw,umask=0077,noauto,nofail  0  2".to_owned(),
        ]
    );
    assert!(read("boot/grub/grub.cfg").contains(&format!("linux /@/boot/vmlinuz-{KERNEL}")));
    assert!(read("boot/efi/EFI/BOOT/grub.cfg").contains("/@/boot/grub"));
    // What others have there stays.
    for path in ["home/ann/precious", "boot/efi/EFI/Other/other.efi"] {
        assert_eq!(read(path), "here before");
    }
    // The code is written, the table of the first sector stays; the core image lies in its partition.
    let first = device.bytes(0, 512);
    assert!(first[..CODE_LEN].iter().any(|&byte| byte != 0x11));
    assert!(first[CODE_LEN..].iter().all(|&byte| byte == 0x11));
    assert!(device.bytes(1 << 20, 512).iter().any(|&byte| byte != 0));
    assert!(
        device
            .content()
            .keys()
            .all(|&at| at == 0 || ((1 << 20)..(2 << 20)).contains(&at))
    );
    // What was there before is kept.
    let kept = |name: &str| {
        fs::read(
            fakes
                .folder
                .path()
                .join("var/log/lycia-install/bios-before")
                .join(name),
        )
        .unwrap()
    };
    assert_eq!(kept("first-sector"), [0x11; 512]);
    assert!(kept("bios-boot").iter().all(|&byte| byte == 0) && kept("bios-boot").len() > 10_000);
    // A second time there is something in the way.
    let error = fakes.look("keep = [\"/home\"]").unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
}

#[test]
fn what_is_no_place_for_a_root_is_refused() {
    let said = |mounts: &[(&str, &str, &str, &str, &str)], disk: &str| {
        Fakes::new(mounts).look(disk).unwrap_err().to_string()
    };
    let root = ("/", "ext4", "/dev/vda4", "/", "rw");
    for (mounts, disk, expected) in [
        (vec![], "", "nothing is mounted on"),
        (
            vec![("/home", "xfs", "/dev/vda3", "/", "rw")],
            "",
            "nothing is mounted on",
        ),
        (vec![("/", "tmpfs", "tmpfs", "/", "rw")], "", "unmount it"),
        (
            vec![("/", "ext4", "/dev/mapper/vault", "/", "rw")],
            "",
            "/dev/mapper/vault (/) is an encrypted volume",
        ),
        (
            vec![root],
            "swap-partitions = [\"/dev/mapper/vault\"]",
            "/dev/mapper/vault (swap) is an encrypted volume",
        ),
        (vec![root, ("/proc", "proc", "proc", "/", "rw")], "", "unmount it"),
        (
            vec![("/", "vfat", "/dev/vda1", "/", "rw")],
            "",
            "a root cannot be vfat",
        ),
        (vec![root], "keep = [\"/home\"]", "nothing is mounted on /home"),
        (
            vec![root, ("/boot/efi", "xfs", "/dev/vda3", "/", "rw")],
            "",
            "is xfs and not FAT",
        ),
        (
            vec![root, ("/boot", "btrfs", "/dev/vda2", "/@boot", "rw")],
            "",
            "GRUB sees Btrfs from its top",
        ),
        (
            vec![root],
            "swap-partitions = [\"/dev/vda3\"]",
            "no swap with a UUID",
        ),
    ] {
        let error = said(&mounts, disk);
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let fakes = Fakes::new(&WHOLE);
    fakes.put("etc/passwd");
    let error = fakes.look("").unwrap_err().to_string();
    assert!(
        error.contains("is not empty") && error.contains("/etc"),
        "{error}"
    );
    // What is mounted elsewhere must be empty, too, unless it is kept; folders that lead to mounts are not in the way.
    let fakes = Fakes::new(&WHOLE);
    fakes.put("home/ann/x");
    assert!(fakes.look("").unwrap_err().to_string().contains("home/ann"));
    fakes.look("keep = [\"/home\"]").unwrap();
    fs::create_dir(fakes.folder.path().join("lost+found")).unwrap();
    fakes.look("keep = [\"/home\"]").unwrap();
    fakes.put("boot/vmlinuz");
    assert!(
        fakes
            .look("keep = [\"/home\"]")
            .unwrap_err()
            .to_string()
            .contains("boot/vmlinuz")
    );
    // Nothing would start it.
    let fakes = Fakes::new(&[root]);
    let (_, answers) = fakes.answers("", "");
    let ground = Ground::look(&answers, &fakes.mountinfo, &known, &plain).unwrap();
    let fixture = Fixture::new();
    let Err(error) = prepare(&fixture.medium(), &machine(), &answers, "", ground, &|_| false) else {
        panic!("nothing starts it")
    };
    assert!(error.to_string().contains("boot.bios-disk"), "{error}");
}

#[test]
fn swap_is_recognised() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let uuid = Identity::new([3; 16]).swap();
    fs::write(file.path(), crate::swap::header(1 << 20, uuid)).unwrap();
    let found = identify(file.path().to_str().unwrap());
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].kind, found[0].uuid.clone()),
        ("swap", Some(uuid.to_string()))
    );
    assert!(identify("/no/such/device").is_empty());
}

#[test]
fn the_kernel_says_what_a_device_is_made_of() {
    let sysfs = tempfile::tempdir().unwrap();
    let nodes = tempfile::tempdir().unwrap();
    let class = sysfs.path().join("class/block");
    fs::create_dir_all(&class).unwrap();
    let put = |place: &str, uuid: Option<&str>| {
        let place = sysfs.path().join("devices").join(place);
        fs::create_dir_all(place.join("dm")).unwrap();
        if let Some(uuid) = uuid {
            fs::write(place.join("dm/uuid"), uuid).unwrap();
        }
        let name = place.file_name().unwrap();
        fs::write(nodes.path().join(name), "").unwrap();
        std::os::unix::fs::symlink(&place, class.join(name)).unwrap();
    };
    put("pci0/nvme/nvme0n1/nvme0n1p1", None);
    put("pci0/host0/block/sda", None);
    put("virtual/block/dm-0", Some("CRYPT-LUKS2-0123-vault\n"));
    put("virtual/block/dm-1", Some("LVM-abc\n"));
    put("virtual/block/dm-2", Some("mpath-1\n"));
    put("virtual/block/md127", None);
    put("virtual/block/md0/md0p1", None);
    std::os::unix::fs::symlink(nodes.path().join("dm-0"), nodes.path().join("vault")).unwrap();
    for (device, expected) in [
        ("nvme0n1p1", None),
        ("sda", None),
        ("vault", Some("an encrypted volume")),
        ("dm-1", Some("a logical volume of LVM")),
        ("dm-2", Some("a device of the device mapper")),
        ("md127", Some("an array of md (RAID)")),
        ("md0p1", Some("an array of md (RAID)")),
        ("none", None),
    ] {
        let node = nodes.path().join(device);
        assert_eq!(
            stacked(sysfs.path(), node.to_str().unwrap()),
            expected,
            "{device}"
        );
    }
}

/// What another system is started by is not written over unasked.
#[test]
fn of_several_bios_boot_partitions_it_is_the_empty_one() {
    let of = |used: &[bool]| {
        let mut device = crate::plan::tests::with_partitions(2 << 30, 512, &[(1, 1), (2, 1), (3, 1)]);
        let (mut table, _) =
            lycia_media::partition::gpt::Table::read(&mut crate::device::Reading::new(&mut device), 512)
                .unwrap();
        table.partitions.truncate(used.len());
        for (one, used) in table.partitions.iter_mut().zip(used) {
            one.kind = Guid::BIOS_BOOT;
            device
                .write_at(one.first * 512, &[u8::from(*used) * 0x52; 512])
                .unwrap();
        }
        device.write_at(512, &table.primary().unwrap()).unwrap();
        let found = crate::found::look(&mut device).unwrap();
        bios_disk(&disk(2 << 30, 512), &found, &mut device)
            .map(|bios| (bios.number, bios.used))
            .map_err(|error| error.to_string())
    };
    assert_eq!(of(&[true]), Ok((1, true)));
    assert_eq!(of(&[false]), Ok((1, false)));
    assert_eq!(of(&[true, false]), Ok((2, false)));
    for used in [&[true, true, true][..], &[false, true, false]] {
        let error = of(used).unwrap_err();
        assert!(
            error.contains("several BIOS boot partitions (1, 2, 3)"),
            "{error}"
        );
    }
    assert!(of(&[]).unwrap_err().contains("no BIOS boot partition"));
}
