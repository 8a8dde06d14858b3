//! What PID 1 of the initramfs reads: superblocks of strange disks, the kernel's command line, its own
//! configuration, module indexes.

use lycia_init::config::Config;
use lycia_init::modules::ModuleIndex;
use lycia_init::request::Request;
use lycia_init::superblock::identify;
use lycia_init::{cmdline, grow, handover};

use crate::{Target, media, texts};

pub const TARGETS: &[Target] = &[
    Target {
        name: "superblock",
        run: |bytes| {
            let found = identify(bytes);
            found.iter().for_each(|superblock| {
                let _ = superblock.has_label("SEED");
            });
            !found.is_empty()
        },
        seeds: || {
            (media::TARGETS[0].seeds)()
                .into_iter()
                .chain((media::TARGETS[1].seeds)())
                .collect()
        },
    },
    // A table that is taken gives writes that lie within the disk.
    Target {
        name: "growth",
        run: |bytes| {
            let size = (bytes.len() as u64).saturating_mul(3) / 512 * 512;
            let mut taken = grow::ext4_size(bytes).is_some();
            for number in 0..6 {
                match grow::plan(bytes, size, 512, number) {
                    Ok(Some(growth)) => {
                        assert!(growth.start + growth.length <= size);
                        let inside = |(place, bytes): &(u64, Vec<u8>)| place + bytes.len() as u64 <= size;
                        assert!(growth.writes.iter().all(inside));
                        taken = true;
                    }
                    Ok(None) => taken = true,
                    Err(_) => {}
                }
            }
            taken
        },
        seeds: || {
            use lycia_media::partition::Guid;
            use lycia_media::partition::gpt::{Partition, Table};
            use lycia_media::partition::mbr::{Mbr, Record};
            let table = Table {
                partitions: vec![Partition {
                    number: 1,
                    kind: Guid::LINUX_DATA,
                    guid: Guid::derive(b"fuzz", "root"),
                    first: 40,
                    last: 60,
                    attributes: 0,
                    name: "root".to_owned(),
                }],
                ..Table::new(Guid::derive(b"fuzz", "disk"), 512, 128)
            };
            let mut gpt = Mbr::protective(128).encode().to_vec();
            gpt.extend(table.primary().unwrap_or_default());
            gpt.resize((table.backup_sector() * 512) as usize, 0);
            gpt.extend(table.backup().unwrap_or_default());
            let mut mbr = Mbr::new();
            mbr.records[0] = Some(Record {
                active: true,
                kind: 0x83,
                first: 2,
                sectors: 9,
            });
            let mut dos = mbr.encode().to_vec();
            dos.resize(16 << 10, 0);
            vec![gpt, dos]
        },
    },
    Target {
        name: "command-line",
        run: |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let words = cmdline::split(&text);
            let _ = cmdline::module_options(&words, "loop");
            let _ = cmdline::consoles(&words);
            let (config, warnings) = Config::parse(&text);
            let _ = Request::new(&words, &config);
            warnings.is_empty()
        },
        seeds: || {
            texts(&[
                "medium-label = SEED\nmodules = loop overlay\nlive-user = anon\n",
                "hostname = seed\nlive-path = live\nsquashfs = filesystem.squashfs\n",
            ])
        },
    },
    Target {
        name: "module-index",
        run: |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let mut parts = text.split("\n---\n");
            let mut part = || parts.next().unwrap_or_default();
            let modules = ModuleIndex::parse(part(), part(), part(), part());
            let names = modules.matching("pci:v00001234d00005678sv0sd0bc01sc06i01");
            let _ = modules.load_order(&names);
            let _ = handover::interpreter(bytes);
            !modules.is_empty()
        },
        seeds: || {
            texts(&[
                "kernel/a.ko: kernel/b.ko\nkernel/b.ko:\n---\nalias pci:v00001234d*sv*sd*bc*sc*i* a\n---\nsoftdep a pre: c\n---\nkernel/c.ko\n",
            ])
        },
    },
];
