//! Our part of each line, done in a process of its own, so that its memory is that of this work alone.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use lycia_media::compress::{Branches, Compression};
use lycia_media::cpio::{Options, Segments, Xattrs};
use lycia_media::iso9660::{Boot, Image, VolumeTime};
use lycia_media::partition::Guid;
use lycia_media::squashfs::{self, Bcj, Compressor};
use lycia_media::{ext4, fat, qcow2};
use lycia_tree::Timestamp;

use crate::material;
use crate::measure::Clock;

/// The first word of the command line of such a process.
pub const WORD: &str = "--work";

const TIME: Timestamp = Timestamp {
    seconds: 1_600_000_000,
    nanoseconds: 0,
};
/// Bytes of the EFI system partition.
pub const ESP: u64 = 64 << 20;

/// Does what `words` say: the work, what was prepared or is read, the output, the number of threads, and what else it wants.
pub fn run(words: &[String]) {
    let [work, input, output, jobs, more] = words else {
        panic!("five words behind {WORD}, not {words:?}");
    };
    let (input, output) = (Path::new(input), Path::new(output));
    let jobs: usize = jobs.parse().unwrap();
    let create = || {
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(output)
            .unwrap()
    };
    match work.as_str() {
        "generate" => material::generate(
            output,
            match more.as_str() {
                "esp" => &material::ESP,
                _ => &material::LARGE,
            },
        ),
        "prepare" => material::prepare(input, output),
        "ext4-size" => {
            let size = ext4::fitting_size(&material::tree(input), &volume(0), 100 << 20).unwrap();
            std::fs::write(output, size.to_string()).unwrap();
        }
        "squashfs" => {
            let options = squashfs::Options {
                compressor: match more.as_str() {
                    "xz" => Compressor::Xz {
                        preset: 6,
                        bcj: Bcj::None,
                    },
                    "xz-x86" => Compressor::Xz {
                        preset: 6,
                        bcj: Bcj::X86,
                    },
                    level => Compressor::Zstd {
                        level: level.parse().unwrap(),
                    },
                },
                jobs,
                ..squashfs::Options::default()
            };
            let tree = material::tree(input);
            let clock = Clock::start();
            squashfs::write(&tree, &options, &mut create(), &|_, _| {}).unwrap();
            clock.tell();
        }
        "ext4" => {
            let tree = material::tree(input);
            let volume = volume(more.parse().unwrap());
            let clock = Clock::start();
            ext4::write(&mut create(), 0, &tree, &volume).unwrap();
            clock.tell();
        }
        "fat" => {
            let tree = material::tree(input);
            let clock = Clock::start();
            let mut out = create();
            out.set_len(ESP).unwrap();
            let volume = fat::Volume {
                label: Some("ESP".to_owned()),
                serial: 0x1234_5678,
                time: TIME,
                width: None,
                size: ESP,
            };
            fat::write(&mut out, 0, &tree, &volume).unwrap();
            clock.tell();
        }
        "iso" => {
            let tree = material::tree(input);
            let image = Image {
                volume_id: "BENCH",
                system_id: "",
                volume_set_id: "",
                publisher: "",
                preparer: "",
                application: "",
                time: TIME,
                uuid: VolumeTime::new(TIME).unwrap(),
                joliet: true,
                files: &tree,
                boot: Boot::default(),
            };
            let clock = Clock::start();
            let out = BufWriter::with_capacity(1 << 20, create());
            image.plan().unwrap().write(out, &mut |_| ()).unwrap();
            clock.tell();
        }
        "cpio" => {
            let compression = match more.as_str() {
                "xz" => Compression::xz_for_kernel(Branches::None),
                level => Compression::zstd(level.parse().unwrap()),
            };
            let options = Options { xattrs: Xattrs::Drop };
            let tree = material::tree(input);
            let clock = Clock::start();
            let mut segments = Segments::new(BufWriter::with_capacity(1 << 20, create()));
            segments
                .compressed(&tree, &options, &compression, jobs as u32)
                .unwrap();
            segments.finish().unwrap().flush().unwrap();
            clock.tell();
        }
        "qcow2" => {
            let size = input.metadata().unwrap().len();
            let clock = Clock::start();
            qcow2::write(&mut File::open(input).unwrap(), size, &mut create(), &mut |_| ()).unwrap();
            clock.tell();
        }
        other => panic!("no work is called {other}"),
    }
}

fn volume(size: u64) -> ext4::Volume {
    ext4::Volume::new(size, Guid::derive(b"benchmark", "volume"), TIME)
}
