use super::*;
use crate::engine::tests::{ANSWERS, run};
use crate::plan::tests::disk;
use crate::probe::Firmware;
use crate::show;
use proptest::prelude::*;
use std::os::unix::fs::symlink;

/// A device that counts what is read of it, and does not give a part of it.
struct Flawed {
    device: Device,
    bad: Option<Span>,
    read: u64,
}

impl BlockDevice for Flawed {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn sector(&self) -> u32 {
        self.device.sector()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let wanted = Span {
            start: offset,
            size: buffer.len() as u64,
        };
        self.read += wanted.size;
        if self.bad.is_some_and(|bad| bad.overlaps(wanted)) {
            return Err(io::Error::other("a bad sector"));
        }
        self.device.read_at(offset, buffer)
    }

    fn write_at(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        panic!("something was written");
    }

    fn flush(&mut self) -> io::Result<()> {
        panic!("something was flushed");
    }
}

fn bare(size: u64) -> Machine {
    Machine {
        schema: crate::probe::SCHEMA,
        firmware: Firmware::Bios,
        memory: None,
        disks: vec![disk(size, 512)],
        network: Vec::new(),
    }
}

/// One installation for all: it is the dear part.
#[test]
fn what_an_installation_made_is_found_without_the_kernels_help() {
    let run = run(ANSWERS);
    let prepared = run.prepare().unwrap();
    run.execute(&prepared);
    let dev = tempfile::tempdir().unwrap();
    symlink(run.image.path(), dev.path().join("sda")).unwrap();
    let mut machine = run.machine.clone();
    read(&mut machine, dev.path());
    let disk = &machine.disks[0];
    assert_eq!((disk.table, &disk.unread), (Some(TableKind::Gpt), &None));
    let by_type = |name: &str| {
        let mut all = disk.partitions.iter();
        let found = all.find(|one| one.kind.as_ref().is_some_and(|kind| kind.words() == name));
        found.unwrap_or_else(|| panic!("{name}: {:#?}", disk.partitions))
    };
    let esp = &by_type("EFI system").contents;
    assert_eq!(esp.file_system.as_deref(), Some("vfat"));
    assert!(esp.uuid.is_some() && esp.system.is_none());
    assert_eq!(
        by_type("Linux swap").contents.file_system.as_deref(),
        Some("swap")
    );
    let mut roots = disk.partitions.iter().filter(|one| one.contents.system.is_some());
    let root = roots.next().unwrap();
    assert!(roots.next().is_none());
    assert_eq!(root.contents.file_system.as_deref(), Some("ext4"));
    assert!(root.contents.looked_into && root.contents.label.as_deref() == Some("root"));
    let line = show::facts(root);
    assert!(
        line.starts_with("ext4 \"root\", ") && line.contains("(host box)"),
        "{line}"
    );
    let all = show::on_disk(disk);
    assert!(all.contains("GPT") && all.contains("(host box)"), "{all}");
    let text = show::machine(&machine);
    let uuid = root.contents.uuid.clone().unwrap();
    for part in ["table    GPT", "type EFI system", "(host box)", "UUID", &uuid] {
        assert!(text.contains(part), "{part}: {text}");
    }

    // What is read does not grow with the disk, and a bad place is told of the partition that it is in.
    let (place, number) = (root.start, root.number);
    for bad in [
        None,
        Some(Span {
            start: place,
            size: 512,
        }),
    ] {
        let mut device = Flawed {
            device: Device::open_read(run.image.path(), 512).unwrap(),
            bad: None,
            read: 0,
        };
        let found = found::look(&mut device).unwrap();
        device.bad = bad;
        let mut disk = run.machine.disks[0].clone();
        look(&mut disk, &mut device, &found);
        assert!(device.read < 16 << 20, "{} bytes were read", device.read);
        for partition in &disk.partitions {
            let unread = partition.contents.unread.as_deref();
            let expected = (bad.is_some() && partition.number == number).then_some("a bad sector");
            assert_eq!(unread, expected, "{}", partition.number);
        }
    }
}

#[test]
fn a_disk_that_cannot_be_read_is_told_and_the_others_are_read() {
    let dev = tempfile::tempdir().unwrap();
    let mut machine = bare(8 << 20);
    let mut other = machine.disks[0].clone();
    (other.name, other.path) = ("sdb".to_owned(), "/dev/sdb".to_owned());
    machine.disks.push(other);
    std::fs::File::create(dev.path().join("sdb"))
        .unwrap()
        .set_len(8 << 20)
        .unwrap();
    read(&mut machine, dev.path());
    let why = machine.disks[0].unread.as_deref().unwrap();
    assert!(why.contains("No such file"), "{why}");
    assert_eq!(machine.disks[0].table, None);
    assert_eq!(
        (machine.disks[1].table, &machine.disks[1].unread),
        (Some(TableKind::None), &None)
    );
    let text = show::machine(&machine);
    assert!(text.contains("CANNOT BE READ: No such file"), "{text}");
    assert!(show::on_disk(&machine.disks[0]).contains("CANNOT BE READ"));
}

/// A named pipe without a writer is opened as long as a dead disk is: for ever.
#[test]
fn a_disk_that_does_not_answer_is_told_and_the_others_are_read() {
    let dev = tempfile::tempdir().unwrap();
    let mut machine = bare(8 << 20);
    let mut other = machine.disks[0].clone();
    (other.name, other.path) = ("sdb".to_owned(), "/dev/sdb".to_owned());
    machine.disks.push(other);
    let pipe = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, dev.path().join("sda"), pipe).unwrap();
    std::fs::File::create(dev.path().join("sdb"))
        .unwrap()
        .set_len(8 << 20)
        .unwrap();
    read_within(&mut machine, dev.path(), Duration::from_secs(1));
    assert_eq!(
        machine.disks[0].unread.as_deref(),
        Some("it did not answer in 1 s")
    );
    assert_eq!(machine.disks[1].table, Some(TableKind::None));
}

#[test]
fn members_are_known_by_their_signatures() {
    let with = |at: usize, magic: &[u8], size: usize| {
        let mut head = vec![0; size];
        head[at..at + magic.len()].copy_from_slice(magic);
        head
    };
    let mut lvm = with(512, b"LABELONE", 8192);
    assert_eq!(member(&lvm), None);
    lvm[536..544].copy_from_slice(b"LVM2 001");
    assert_eq!(member(&lvm), Some("LVM2_member"));
    for (at, magic, expected) in [
        (4086, &b"SWAPSPACE2"[..], "swap"),
        (4096, &[0xfc, 0x4e, 0x2b, 0xa9], "linux_raid_member"),
        (3, b"-FVE-FS-", "BitLocker"),
    ] {
        assert_eq!(member(&with(at, magic, 8192)), Some(expected));
        // A partition that ends before.
        assert_eq!(member(&with(at, magic, 8192)[..at]), None);
    }
}

proptest! {
    /// Whatever lies where superblocks, signatures and tables are looked for.
    #[test]
    fn any_disk_is_read(mut bytes in proptest::collection::vec(any::<u8>(), 0..16384), at in 0usize..8192, which in 0usize..5) {
        let magic: &[u8] = [&b"SWAPSPACE2"[..], b"LABELONE", b"-FVE-FS-", b"EFI PART", b"\x55\xaa"][which];
        if let Some(place) = bytes.get_mut(at..at + magic.len()) {
            place.copy_from_slice(magic);
        }
        let dev = tempfile::tempdir().unwrap();
        std::fs::write(dev.path().join("sda"), &bytes).unwrap();
        let mut machine = bare(bytes.len().max(1) as u64);
        read(&mut machine, dev.path());
        let disk = &machine.disks[0];
        prop_assert!(disk.unread.is_some() != disk.table.is_some());
        let text = show::machine(&machine);
        prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
    }
}
