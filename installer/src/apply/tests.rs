//! The engine on disks in memory that fail or stop at every single write.

use super::*;
use crate::answers::table::{Edited, Place, Use};
use crate::answers::{self, Layout};
use crate::device::fake::{Fake, Fault};
use crate::found::look;
use crate::plan::layout::lay_out;
use crate::plan::tests::{BOTH, disk, sfdisk_dump, wanted, with_esp, with_logical, with_partitions};
use crate::probe::Firmware;
use crate::tools::fake::FakeTools;
use lycia_media::partition::gpt;
use lycia_tree::{Metadata, Tree};

const TIME: Timestamp = Timestamp {
    seconds: 1_700_000_000,
    nanoseconds: 0,
};
const IDENTITY: Identity = Identity { nonce: [7; 16] };
fn notes() -> Notes {
    Notes {
        answers: "schema = 1\n".to_owned(),
        consoles: vec!["tty0".to_owned()],
        firmware: Firmware::Bios,
        passwords: vec!["root".to_owned()],
    }
}

struct Case {
    fake: Fake,
    tools: FakeTools,
    file_system: FileSystem,
    plan: Plan,
    root: Tree,
    esp: Tree,
    core: Vec<u8>,
    swap_file: Option<(InodeId, u64)>,
    /// Encrypts the root where the plan says so: always with the same key, for runs to be compared.
    sealed: Option<std::rc::Rc<Sealed>>,
}

fn tree() -> Tree {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    for number in 0..20u32 {
        let path = format!("usr/lib/{}/file{number}", number % 4);
        let folder = format!("usr/lib/{}", number % 4);
        tree.make_directories(folder.as_bytes(), Metadata::new(0o755, TIME))
            .unwrap();
        tree.write(
            path.as_bytes(),
            Metadata::new(0o644, TIME),
            vec![number as u8; 3000 * number as usize].into(),
        )
        .unwrap();
    }
    tree
}

fn passphrase() -> crate::encryption::Passphrase {
    crate::encryption::Passphrase::new(b"correct horse".to_vec().into()).unwrap()
}

fn case(mut fake: Fake, layout: &answers::Disk) -> Case {
    let found = look(&mut fake).unwrap();
    let plan = lay_out(&disk(fake.size(), fake.sector()), &found, layout, BOTH)
        .unwrap()
        .check()
        .unwrap();
    fake.writes = 0;
    let mut esp = Tree::new(Metadata::new(0o755, TIME));
    esp.make_directories(b"EFI/BOOT", Metadata::new(0o755, TIME))
        .unwrap();
    esp.write(
        b"EFI/BOOT/BOOTX64.EFI",
        Metadata::new(0o644, TIME),
        vec![9; 5000].into(),
    )
    .unwrap();
    let mut root = tree();
    let file_system = layout.file_system.clone();
    // The folder that stands for a mount may be on a file system that cannot reserve blocks as Btrfs does.
    let swap_file = matches!(file_system.kind, Kind::Ext4 | Kind::Xfs)
        .then(|| crate::swap::file(&mut root, 20 << 20, IDENTITY.swap_file(), TIME).unwrap());
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    if file_system.kind != Kind::Ext4 {
        // Not only root runs tests, and nobody else can give files away.
        let ids: Vec<InodeId> = root.walk().map(|entry| entry.id).collect();
        for id in ids {
            let metadata = root.metadata_mut(id);
            (metadata.uid, metadata.gid) = (uid.as_raw(), gid.as_raw());
        }
    }
    let sealed = layout.encryption.as_ref().map(|_| {
        let settings = lycia_luks::Settings {
            uuid: IDENTITY.volume().to_string(),
            label: String::new(),
            kdf: lycia_luks::Kdf::Pbkdf2 { iterations: 10 },
            sector_size: fake.sector(),
        };
        let mut state = 0u8;
        let mut random = |bytes: &mut [u8]| {
            for byte in bytes {
                state = state.wrapping_mul(5).wrapping_add(7);
                *byte = state;
            }
            Ok(())
        };
        std::rc::Rc::new(
            Sealed::with_key(&settings, vec![0x5e; 64].into(), &passphrase(), &mut random).unwrap(),
        )
    });
    Case {
        fake,
        tools: FakeTools::default(),
        file_system,
        plan,
        root,
        swap_file,
        sealed,
        esp,
        core: vec![0xc0; 70_000],
    }
}

/// A root of another kind.
fn of(kind: Kind, layout: answers::Disk) -> answers::Disk {
    let subvolume = |name: &str, mount_point: &str| crate::file_system::Subvolume {
        mount_point: mount_point.to_owned(),
        name: name.to_owned(),
    };
    answers::Disk {
        file_system: FileSystem {
            kind,
            subvolumes: match kind {
                Kind::Btrfs => vec![subvolume("@", "/"), subvolume("@lib", "/usr/lib/1")],
                _ => Vec::new(),
            },
            compression: (kind == Kind::Btrfs).then(|| "zstd:3".to_owned()),
        },
        ..layout
    }
}

/// Small partitions, so that hundreds of runs cost seconds.
fn small(layout: Layout) -> answers::Disk {
    answers::Disk {
        esp_size: 64 << 20,
        root_size: Some(600 << 20),
        swap_size: Some(8 << 20),
        ..wanted(layout)
    }
}

impl Case {
    /// The same, from the beginning.
    fn again(&self) -> Case {
        Case {
            fake: self.fake.clone(),
            tools: FakeTools::default(),
            file_system: self.file_system.clone(),
            plan: self.plan.clone(),
            root: self.root.clone(),
            esp: self.esp.clone(),
            core: self.core.clone(),
            swap_file: self.swap_file,
            sealed: self.sealed.clone(),
        }
    }

    fn run(&mut self, journal: Option<Journal>) -> Result<(), ApplyError> {
        let contents = Contents {
            root: &self.root,
            boot: Some(&self.esp),
            home: Some(&self.esp),
            sealed: self.sealed.as_deref(),
            esp: Some(&self.esp),
            core: Some(&self.core),
            boot_code: Some([0xb0; CODE_LEN]),
            swap_file: self.swap_file,
            file_system: &self.file_system,
            label: "root",
            time: TIME,
            notes: &notes(),
        };
        apply(
            &mut self.fake,
            &mut self.tools,
            &self.plan,
            &contents,
            IDENTITY,
            journal,
            &mut |_, _, _| (),
        )
    }

    /// What must be as it was after an undo: everything that was saved, and everything that the plan keeps.
    fn untouchable(&self) -> Vec<Span> {
        let kept = self
            .plan
            .regions()
            .iter()
            .filter(|region| !region.action.writes())
            .map(|region| region.span);
        self.plan.draft().saved.iter().copied().chain(kept).collect()
    }
}

/// Compares ranges of two disks without looking at what neither has.
fn same(a: &Fake, b: &Fake, ranges: &[Span]) -> Result<(), String> {
    let pages: std::collections::BTreeSet<u64> =
        a.content().into_keys().chain(b.content().into_keys()).collect();
    for at in pages {
        for range in ranges {
            let start = at.max(range.start);
            let end = (at + 4096).min(range.end());
            if start < end && a.bytes(start, (end - start) as usize) != b.bytes(start, (end - start) as usize)
            {
                return Err(format!("bytes {start} to {end} differ"));
            }
        }
    }
    Ok(())
}

/// Contents of files, none of directories, by path.
type Files = std::collections::BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The files of the shared EFI system partition.
fn shared_files(fake: &mut Fake, plan: &Plan) -> Option<Files> {
    let span = plan.region(Action::FatInsert)?.span;
    let mut nothing = |_| ();
    let window = Window::new(fake, span, &mut nothing);
    let tree = fat::Reader::open(window, fat::Limits::default())
        .unwrap()
        .tree()
        .unwrap();
    let file = |entry: lycia_tree::Entry<'_>| {
        let content = entry.inode.content().map(|content| content.bytes().to_vec());
        (entry.path, content)
    };
    Some(tree.walk().map(file).collect())
}

fn whole(fake: &Fake) -> Vec<Span> {
    vec![Span {
        start: 0,
        size: fake.size(),
    }]
}

fn cases() -> Vec<(&'static str, Case)> {
    let gpt = || with_partitions(4 << 30, 512, &[(1, 300), (301, 900), (2500, 400)]);
    vec![
        ("empty", case(Fake::new(2 << 30, 512), &small(Layout::Erase))),
        ("erase", case(gpt(), &small(Layout::Erase))),
        ("alongside", case(gpt(), &small(Layout::Alongside))),
        (
            "replace",
            case(
                gpt(),
                &answers::Disk {
                    swap_size: None,
                    ..small(Layout::Replace([2].into()))
                },
            ),
        ),
        (
            "partitions",
            case(
                gpt(),
                &wanted(Layout::Partitions {
                    root: 2,
                    esp: Some(1),
                    bios_boot: Some(3),
                    swap: None,
                    boot: None,
                }),
            ),
        ),
        (
            "edited table",
            case(
                gpt(),
                &wanted(Layout::Table(Edited {
                    fresh: false,
                    delete: [2].into(),
                    used: vec![
                        (Use::Esp, Place::There(1)),
                        (Use::Home, Place::There(3)),
                        (
                            Use::Root,
                            Place::New {
                                size: Some(600 << 20),
                                start: Some(400 << 20),
                            },
                        ),
                    ],
                })),
            ),
        ),
        (
            "new table",
            case(
                gpt(),
                &wanted(Layout::Table(Edited {
                    fresh: true,
                    delete: [].into(),
                    used: [
                        (Use::BiosBoot, 1u64),
                        (Use::Esp, 64),
                        (Use::Boot, 64),
                        (Use::Root, 600),
                        (Use::Home, 40),
                        (Use::Swap, 8),
                    ]
                    .map(|(wanted, mib)| {
                        (
                            wanted,
                            Place::New {
                                size: Some(mib << 20),
                                start: None,
                            },
                        )
                    })
                    .to_vec(),
                })),
            ),
        ),
        (
            "shared EFI system partition",
            case(
                with_esp(),
                &answers::Disk {
                    esp: Some(1),
                    ..small(Layout::Alongside)
                },
            ),
        ),
        (
            "encrypted",
            case(
                Fake::new(2 << 30, 512),
                &answers::Disk {
                    encryption: Some(answers::Encryption { passphrase: None }),
                    boot_size: Some(64 << 20),
                    swap_size: None,
                    ..small(Layout::Erase)
                },
            ),
        ),
        (
            "xfs",
            case(
                with_partitions(4 << 30, 4096, &[(1, 300), (2500, 400)]),
                &of(
                    Kind::Xfs,
                    answers::Disk {
                        esp_size: 300 << 20,
                        ..small(Layout::Erase)
                    },
                ),
            ),
        ),
        ("btrfs", case(gpt(), &of(Kind::Btrfs, small(Layout::Alongside)))),
        (
            "encrypted btrfs",
            case(
                Fake::new(2 << 30, 4096),
                &of(
                    Kind::Btrfs,
                    answers::Disk {
                        encryption: Some(answers::Encryption { passphrase: None }),
                        boot_size: Some(64 << 20),
                        swap_size: None,
                        esp_size: 300 << 20,
                        ..small(Layout::Erase)
                    },
                ),
            ),
        ),
        (
            "f2fs",
            case(
                gpt(),
                &of(
                    Kind::F2fs,
                    answers::Disk {
                        swap_size: None,
                        ..small(Layout::Replace([2].into()))
                    },
                ),
            ),
        ),
        (
            "large sectors",
            case(
                with_partitions(4 << 30, 4096, &[(1, 300), (2500, 400)]),
                &answers::Disk {
                    esp_size: 300 << 20,
                    ..small(Layout::Erase)
                },
            ),
        ),
        (
            "erased logical partitions",
            case(with_logical(), &small(Layout::Erase)),
        ),
        (
            "logical partition",
            case(
                with_logical(),
                &wanted(Layout::Partitions {
                    root: 5,
                    esp: Some(1),
                    bios_boot: None,
                    swap: Some(6),
                    boot: None,
                }),
            ),
        ),
    ]
}

#[test]
fn logical_partitions_come_back_as_sfdisk_made_them() {
    let dump = sfdisk_dump(&with_logical());
    assert!(
        ["disk5 : ", "disk6 : ", "disk7 : "]
            .iter()
            .all(|part| dump.contains(part)),
        "{dump}"
    );
    for (name, mut case) in cases()
        .into_iter()
        .filter(|(name, _)| name.contains("logical partition"))
    {
        // With everything on the way to the last write.
        let mut whole_run = case.again();
        whole_run.run(None).unwrap();
        case.fake.fault = Some(Fault::Stop(whole_run.fake.writes - 3));
        assert!(case.run(None).is_err());
        case.fake.revive();
        for mut fake in [whole_run.fake, case.fake] {
            assert!(undo(&mut fake).unwrap().is_some(), "{name}");
            assert_eq!(sfdisk_dump(&fake), dump, "{name}");
        }
    }
}

#[test]
fn a_finished_disk_is_what_the_plan_says() {
    for (name, mut case) in cases() {
        let before = case.fake.clone();
        case.run(None).unwrap_or_else(|error| panic!("{name}: {error}"));
        let found = look(&mut case.fake).unwrap();
        for partition in &case.plan.draft().partitions {
            let there = found.partitions.iter().find(|one| one.number == partition.number);
            assert_eq!(there.map(|one| one.span), Some(partition.span), "{name}");
        }
        let root = case.plan.root().unwrap().span;
        let read = match &case.sealed {
            None => found::file_system(&mut case.fake, root).unwrap(),
            Some(sealed) => {
                assert!(
                    found::file_system(&mut case.fake, root).is_none(),
                    "{name}: not encrypted"
                );
                let mut inside = Inside::new(&mut case.fake, root, sealed.cipher().unwrap());
                let whole = Span {
                    start: 0,
                    size: root.size,
                };
                found::file_system(&mut inside, whole).unwrap()
            }
        };
        assert_eq!(
            (read.kind, read.uuid),
            (case.file_system.kind.name(), Some(IDENTITY.root().to_string())),
            "{name}"
        );
        // Kept ranges are byte for byte what they were.
        let kept: Vec<Span> = case
            .plan
            .regions()
            .iter()
            .filter(|one| !one.action.writes())
            .map(|one| one.span)
            .collect();
        same(&before, &case.fake, &kept).unwrap_or_else(|error| panic!("{name}: {error}"));
        let journal = Journal::find(&mut case.fake).unwrap().expect(name);
        assert_eq!(
            (journal.state(), journal.notes()),
            (State::Done, &notes()),
            "{name}"
        );
        // The old table can be brought back even now.
        let ranges = case.untouchable();
        assert_eq!(undo(&mut case.fake).unwrap(), Some(State::Done));
        same(&before, &case.fake, &ranges).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(undo(&mut case.fake).unwrap(), None, "{name}");
    }
}

#[test]
fn programs_get_the_range_of_the_plan_and_nothing_else() {
    let uuid = IDENTITY.root();
    for (name, mut case) in cases() {
        case.run(None).unwrap_or_else(|error| panic!("{name}: {error}"));
        let root = case.plan.root().unwrap().span;
        let expose = format!("expose {} {}", root.start, root.end());
        let expected = match name {
            "xfs" => vec![
                expose,
                format!(
                    "mkfs.xfs -f -K -q -L root -s size=4096 -m crc=1,finobt=1,reflink=1,bigtime=1,inobtcount=1,uuid={uuid} -i sparse=1,nrext64=0 /dev/loop0"
                ),
                "mount /dev/loop0 xfs \"\"".to_owned(),
                "release".to_owned(),
            ],
            "btrfs" => vec![
                expose,
                format!("mkfs.btrfs -f -K -q -L root -U {uuid} -s 4096 -d single -m dup /dev/loop0"),
                "mount /dev/loop0 btrfs \"compress=zstd:3\"".to_owned(),
                "btrfs subvolume create TOP/@".to_owned(),
                "btrfs subvolume create TOP/@lib".to_owned(),
                "release".to_owned(),
            ],
            "encrypted btrfs" => {
                let node = crate::tools::fake::OPENED;
                vec![
                    expose,
                    "encrypt /dev/loop0".to_owned(),
                    format!("mkfs.btrfs -f -K -q -L root -U {uuid} -s 4096 -d single -m dup {node}"),
                    format!("mount {node} btrfs \"compress=zstd:3\""),
                    "btrfs subvolume create TOP/@".to_owned(),
                    "btrfs subvolume create TOP/@lib".to_owned(),
                    "release".to_owned(),
                ]
            }
            "f2fs" => vec![
                expose,
                format!("mkfs.f2fs -f -q -t 0 -l root -U {uuid} /dev/loop0"),
                "mount /dev/loop0 f2fs \"\"".to_owned(),
                "release".to_owned(),
            ],
            // What this program writes needs nobody.
            _ => Vec::new(),
        };
        assert_eq!(case.tools.calls, expected, "{name}");
        let files = &case.tools.files;
        let has = |path: &str| files.iter().any(|file| file == path);
        match name {
            "btrfs" | "encrypted btrfs" => {
                assert!(has("@/usr/lib/2/file2") && has("@lib/file1") && has("@/usr/lib/1"));
                assert!(!has("@/usr/lib/1/file1"), "{files:?}");
            }
            "xfs" | "f2fs" => assert!(has("usr/lib/1/file1"), "{name}: {files:?}"),
            _ => assert!(files.is_empty(), "{name}"),
        }
    }
}

#[test]
fn a_program_that_fails_is_named_and_tried_again() {
    let mut points = 0;
    for (name, case) in cases() {
        let mut whole_run = case.again();
        whole_run.run(None).unwrap();
        for at in 1..=whole_run.tools.calls.len() {
            points += 1;
            let place = format!("{name}, call {at}");
            let mut stopped = case.again();
            stopped.tools.fail = Some(at);
            let error = stopped.run(None).unwrap_err().to_string();
            let call = &whole_run.tools.calls[at - 1];
            assert!(
                error.contains(&format!("`{call}` failed (exit status: 1):\nno space")),
                "{place}: {error}"
            );
            // Whatever failed, the range is given back.
            assert_eq!(
                stopped.tools.calls.last().map(String::as_str),
                Some("release"),
                "{place}"
            );
            let journal = Journal::find(&mut stopped.fake).unwrap().expect(&place);
            assert_eq!(journal.state(), State::Applying, "{place}");
            let ranges = stopped.untouchable();
            let mut undone = stopped.fake.clone();
            undo(&mut undone).unwrap();
            same(&case.fake, &undone, &ranges).unwrap_or_else(|error| panic!("{place}: {error}"));
            stopped.tools = FakeTools::default();
            stopped.run(Some(journal)).unwrap();
            assert_eq!(stopped.tools.calls, whole_run.tools.calls, "{place}");
            let journal = stopped.plan.journal();
            let behind = Span {
                start: journal.end(),
                size: case.fake.size() - journal.end(),
            };
            let before = Span {
                start: 0,
                size: journal.start,
            };
            same(&whole_run.fake, &stopped.fake, &[before, behind])
                .unwrap_or_else(|error| panic!("{place}, resumed: {error}"));
        }
    }
    assert!(points >= 14, "{points}");
}

/// Every write of every case, with one kind of fault.
fn at_every_write(fault: fn(u64) -> Fault) -> usize {
    let mut points = 0;
    for (name, case) in cases() {
        let mut whole_run = case.again();
        whole_run.run(None).unwrap();
        let writes = whole_run.fake.writes;
        // All of the first and last, where journal and tables are written, and every sixty-first between.
        let chosen = (1..=writes).filter(|at| *at <= 20 || *at + 20 > writes || at % 61 == 0);
        for at in chosen {
            points += 1;
            let place = format!("{name}, write {at} of {writes}");
            let mut stopped = case.again();
            stopped.fake.fault = Some(fault(at));
            assert!(stopped.run(None).is_err(), "{place}");
            stopped.fake.revive();
            let journal = Journal::find(&mut stopped.fake).unwrap();
            let ranges = stopped.untouchable();
            // The plan can be made again from what the journal kept.
            if let Some(journal) = &journal {
                let now = look(&mut journal.original(&mut stopped.fake).unwrap()).unwrap();
                assert_eq!(now, look(&mut case.fake.clone()).unwrap(), "{place}");
            }
            // Undone: every table, every header, everything that was kept is as it was.
            let mut undone = stopped.fake.clone();
            undo(&mut undone).unwrap_or_else(|error| panic!("{place}: {error}"));
            same(&case.fake, &undone, &ranges).unwrap_or_else(|error| panic!("{place}, undone: {error}"));
            assert!(
                shared_files(&mut undone, &case.plan) == shared_files(&mut case.fake.clone(), &case.plan),
                "{place}, undone: files of others"
            );
            // Resumed, or begun again where nothing but the journal's place was touched: as if nothing had happened.
            match &journal {
                // The very last write, of the header that says that all is done, may have got there.
                Some(journal) => assert!(journal.state() == State::Applying || at == writes, "{place}"),
                None => same(&case.fake, &stopped.fake, &ranges)
                    .unwrap_or_else(|error| panic!("{place}, no journal: {error}")),
            }
            stopped
                .run(journal)
                .unwrap_or_else(|error| panic!("{place}, resumed: {error}"));
            let journal = stopped.plan.journal();
            let all = [
                Span {
                    start: 0,
                    size: journal.start,
                },
                Span {
                    start: journal.end(),
                    size: case.fake.size() - journal.end(),
                },
            ];
            same(&whole_run.fake, &stopped.fake, &all)
                .unwrap_or_else(|error| panic!("{place}, resumed: {error}"));
        }
    }
    points
}

#[test]
fn a_disk_that_stops_at_any_write() {
    let points = at_every_write(Fault::Stop);
    assert!(points > 200, "{points}");
}

#[test]
fn a_power_cut_at_any_write() {
    let points = at_every_write(Fault::PowerCut);
    assert!(points > 200, "{points}");
}

#[test]
fn a_bad_sector_at_any_write() {
    let points = at_every_write(Fault::Once);
    assert!(points > 200, "{points}");
}

#[test]
fn an_undo_that_is_interrupted_is_done_again() {
    let mut case = cases().remove(1).1;
    let before = case.fake.clone();
    case.run(None).unwrap();
    let ranges = case.untouchable();
    for at in 1..20 {
        let mut fake = case.fake.clone();
        fake.writes = 0;
        fake.fault = Some(Fault::PowerCut(at));
        let first = undo(&mut fake);
        fake.revive();
        undo(&mut fake).unwrap();
        same(&before, &fake, &ranges).unwrap_or_else(|error| panic!("{at}: {error}"));
        if first.is_ok() {
            assert!(at > 2);
            return;
        }
    }
    panic!("an undo of so few ranges ends");
}

#[test]
fn a_changed_disk_is_refused_before_anything_is_written() {
    let mut case = cases().remove(1).1;
    case.fake.write_at(700, b"x").unwrap();
    let before = case.fake.clone();
    assert!(matches!(case.run(None), Err(ApplyError::Changed(_))));
    same(&before, &case.fake, &whole(&before)).unwrap();
    let mut other = cases().remove(2).1;
    other.fake = Fake::new(5 << 30, 512);
    assert!(matches!(other.run(None), Err(ApplyError::Changed(_))));
    assert!(other.fake.content().is_empty());
}

/// Somebody partitioned the disk after the power went: neither going on nor undoing may touch what is there now.
#[test]
fn an_interrupted_run_does_not_count_where_the_disk_was_partitioned_anew() {
    for (name, case) in cases() {
        let mut whole_run = case.again();
        whole_run.run(None).unwrap();
        let writes = whole_run.fake.writes;
        let mut told = [0, 0];
        for at in (1..writes).step_by((writes as usize / 5).max(1)) {
            let mut stopped = case.again();
            stopped.fake.fault = Some(Fault::Stop(at));
            assert!(stopped.run(None).is_err());
            stopped.fake.revive();
            let Some(journal) = Journal::find(&mut stopped.fake).unwrap() else {
                continue;
            };
            let place = format!("{name}, write {at}, step {}", journal.step());
            let begun = journal.step() + 1 < Step::ALL.len() as u32;
            // A byte of the first sector, of an entry of the GPT, of its backup.
            for offset in [440, 1024 + 16, stopped.fake.size() - 512] {
                let mut disk = stopped.fake.clone();
                let byte = disk.bytes(offset, 1)[0];
                disk.write_at(offset, &[byte ^ 1]).unwrap();
                let before = disk.clone();
                if begun {
                    assert_eq!(Journal::find(&mut disk).unwrap(), None, "{place}");
                    assert_eq!(undo(&mut disk).unwrap(), None, "{place}");
                    same(&before, &disk, &whole(&before)).unwrap_or_else(|error| panic!("{place}: {error}"));
                }
                told[usize::from(begun)] += 1;
            }
        }
        assert!(told[1] > 0, "{name}: {told:?}");
        // After a finished run it is said.
        let mut disk = whole_run.fake.clone();
        let journal = Journal::find(&mut disk).unwrap().unwrap();
        assert!(!journal.was_partitioned_since(&mut disk).unwrap(), "{name}");
        let byte = disk.bytes(440, 1)[0];
        disk.write_at(440, &[byte ^ 1]).unwrap();
        assert!(journal.was_partitioned_since(&mut disk).unwrap(), "{name}");
    }
}

#[test]
fn the_journal_of_another_plan_is_not_resumed() {
    let mut case = cases().remove(1).1;
    case.fake.fault = Some(Fault::Stop(30));
    assert!(case.run(None).is_err());
    case.fake.revive();
    let journal = Journal::find(&mut case.fake).unwrap();
    assert!(journal.is_some());
    let other = cases().remove(2).1;
    case.plan = other.plan;
    assert!(matches!(case.run(journal), Err(ApplyError::Interrupted)));
}

#[test]
fn a_damaged_copy_is_not_written_back() {
    let mut case = cases().remove(1).1;
    case.run(None).unwrap();
    let at = case.plan.journal().start + 600 * 1024;
    let mut byte = case.fake.bytes(at, 1);
    byte[0] ^= 1;
    case.fake.write_at(at, &byte).unwrap();
    let before = case.fake.clone();
    assert!(matches!(
        undo(&mut case.fake),
        Err(ApplyError::Journal(JournalError::Damaged { .. }))
    ));
    same(&before, &case.fake, &whole(&before)).unwrap();
}

#[test]
fn independent_programs_accept_the_disk() {
    use std::io::Write as _;
    use std::process::Command;
    let directory = tempfile::tempdir().unwrap();
    for (number, (name, mut case)) in cases().into_iter().enumerate() {
        // sgdisk knows neither.
        if matches!(name, "large sectors" | "logical partition") {
            continue;
        }
        case.run(None).unwrap();
        let path = directory.path().join(format!("{number}.img"));
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(case.fake.size()).unwrap();
        for (at, page) in case.fake.content() {
            use std::os::unix::fs::FileExt as _;
            file.write_all_at(&page, at).unwrap();
        }
        let check = |program: &str, package: &str, arguments: &[&str], path: &std::path::Path| {
            let output = Command::new(program).args(arguments).arg(path).output();
            let output = output
                .unwrap_or_else(|_| panic!("{program} is missing: install the Debian package {package}"));
            assert!(output.status.success(), "{name}: {output:?}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let text = check("sgdisk", "gdisk", &["--verify"], &path);
        assert!(text.contains("No problems found"), "{name}: {text}");
        for (action, program, package, arguments) in [
            (Action::Ext4, "e2fsck", "e2fsprogs", &["-f", "-n"][..]),
            (Action::Fat32, "fsck.vfat", "dosfstools", &["-n"][..]),
            (Action::BootExt4, "e2fsck", "e2fsprogs", &["-f", "-n"][..]),
            (Action::FatInsert, "fsck.vfat", "dosfstools", &["-n"][..]),
        ] {
            let Some(span) = case.plan.region(action).map(|region| region.span) else {
                continue;
            };
            if action == Action::Ext4 && case.sealed.is_some() {
                continue;
            }
            let part = directory.path().join("part.img");
            let mut out = std::fs::File::create(&part).unwrap();
            out.set_len(span.size).unwrap();
            for (at, page) in case.fake.content().range(span.start..span.end()) {
                io::Seek::seek(&mut out, io::SeekFrom::Start(at - span.start)).unwrap();
                out.write_all(page).unwrap();
            }
            check(program, package, arguments, &part);
            if action == Action::Ext4 {
                // The swap file has all its blocks, and its header is one that util-linux takes.
                let text = check("debugfs", "e2fsprogs", &["-R", "stat /swapfile"], &part);
                assert!(
                    text.contains("Size: 20971520")
                        && text.contains("Blockcount: 40960")
                        && text.contains("Mode:  0600"),
                    "{text}"
                );
                let out = directory.path().join("swapfile");
                check(
                    "debugfs",
                    "e2fsprogs",
                    &["-R", &format!("dump /swapfile {}", out.display())],
                    &part,
                );
                let text = check("swaplabel", "util-linux", &[], &out);
                assert!(text.contains(&IDENTITY.swap_file().to_string()), "{text}");
            }
        }
        std::fs::remove_file(&path).unwrap();
    }
}

/// The encrypted root, opened by cryptsetup and decrypted by another implementation of XTS, is what e2fsck takes.
#[test]
fn an_encrypted_root_is_opened_by_others() {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let directory = tempfile::tempdir().unwrap();
    for sector in [512, 4096] {
        let wish = answers::Disk {
            encryption: Some(answers::Encryption { passphrase: None }),
            boot_size: Some(64 << 20),
            swap_size: None,
            esp_size: 300 << 20,
            ..small(Layout::Erase)
        };
        let mut case = case(Fake::new(2 << 30, sector), &wish);
        case.run(None).unwrap();
        let header = case.plan.region(Action::LuksHeader).unwrap().span;
        let data = case.plan.region(Action::Ext4).unwrap().span;
        let copy = |span: Span, name: &str| {
            use std::os::unix::fs::FileExt as _;
            let path = directory.path().join(name);
            let file = std::fs::File::create(&path).unwrap();
            file.set_len(span.size).unwrap();
            for (at, page) in case.fake.content().range(span.start..span.end()) {
                file.write_all_at(page, at - span.start).unwrap();
            }
            path
        };
        let volume = copy(header, "volume");
        std::fs::File::options()
            .write(true)
            .open(&volume)
            .unwrap()
            .set_len(header.size + data.size)
            .unwrap();
        let key = directory.path().join("key");
        let _ = std::fs::remove_file(&key);
        let mut child = Command::new("cryptsetup")
            .args([
                "luksDump",
                "-q",
                "--dump-volume-key",
                "--key-file",
                "-",
                "--volume-key-file",
            ])
            .arg(&key)
            .arg(&volume)
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("cryptsetup is missing: install the Debian package cryptsetup-bin");
        child.stdin.take().unwrap().write_all(b"correct horse").unwrap();
        assert!(child.wait().unwrap().success());
        let encrypted = copy(data, "encrypted");
        let plain = directory.path().join("plain");
        let script = "import sys, os\nfrom cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes\n\
            key = open(sys.argv[1], 'rb').read()\nsize = int(sys.argv[4])\nsource = open(sys.argv[2], 'rb')\ntarget = open(sys.argv[3], 'wb')\n\
            end = os.fstat(source.fileno()).st_size\ntarget.truncate(end)\nat = 0\nempty = bytes(4096)\n\
            while at < end:\n    block = source.read(4096)\n    if block != empty:\n        target.seek(at)\n        \
            for part in range(0, len(block), size):\n            tweak = ((at + part) // 512).to_bytes(16, 'little')\n            \
            d = Cipher(algorithms.AES(key), modes.XTS(tweak)).decryptor()\n            target.write(d.update(block[part:part + size]) + d.finalize())\n    at += 4096\n";
        let output = Command::new("/usr/bin/python3")
            .args(["-c", script])
            .args([&key, &encrypted, &plain])
            .arg(sector.to_string())
            .output()
            .expect("python3 is missing: install the Debian package python3-cryptography");
        assert!(
            output.status.success(),
            "python3-cryptography is needed: {output:?}"
        );
        let output = Command::new("e2fsck").args(["-f", "-n"]).arg(&plain).output();
        let output = output.expect("e2fsck is missing: install the Debian package e2fsprogs");
        assert!(output.status.success(), "{sector}: {output:?}");
    }
}

#[test]
fn swap_is_known_to_others() {
    let header = crate::swap::header(8 << 20, IDENTITY.swap());
    let found = lycia_init::superblock::identify(header.as_slice());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("swap");
    std::fs::write(&path, &header).unwrap();
    std::fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(8 << 20)
        .unwrap();
    let output = std::process::Command::new("blkid")
        .args(["-p", "-o", "export"])
        .arg(&path)
        .output();
    let output = output.expect("blkid is missing: install the Debian package util-linux");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("TYPE=swap") && text.contains(&IDENTITY.swap().to_string()),
        "{text} {found:?}"
    );
    assert_eq!(u32::from_le_bytes(header[1028..1032].try_into().unwrap()), 2047);
    let _ = gpt::NAME_MAX;
}
