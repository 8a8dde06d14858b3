//! What PID 1 of the initramfs reads: superblocks of strange disks, the kernel's command line, its own
//! configuration, module indexes.

use lycia_init::config::Config;
use lycia_init::modules::ModuleIndex;
use lycia_init::request::Request;
use lycia_init::superblock::identify;
use lycia_init::{cmdline, handover};

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
