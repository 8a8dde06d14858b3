//! Stands for programs and the kernel in tests: records what was asked for, fails where it is told to, and puts superblocks onto the disk in memory.

use super::*;
use crate::encryption::Inside;

/// The node of the range that is exposed.
pub(crate) const NODE: &str = "/dev/loop0";
/// The node of the volume on it.
pub(crate) const OPENED: &str = "/dev/mapper/lycia-luks";

/// Tools whose every call is written down.
#[derive(Default)]
pub(crate) struct FakeTools {
    /// Every call in words; the folder that is mounted is `TOP`.
    pub calls: Vec<String>,
    /// The call that fails, counted from 1.
    pub fail: Option<usize>,
    span: Option<Span>,
    volume: Option<lycia_luks::Opened>,
    mounted: Option<tempfile::TempDir>,
    /// Where the folder goes when it is unmounted, if it is to be kept.
    pub keep: Option<PathBuf>,
    /// Files that were in the folder when it was unmounted.
    pub files: Vec<String>,
}

impl FakeTools {
    fn call(&mut self, words: String) -> Result<(), ToolError> {
        self.calls.push(words.clone());
        if self.fail == Some(self.calls.len()) {
            return Err(ToolError::Program {
                command: words,
                how: "failed (exit status: 1)".to_owned(),
                said: "no space".to_owned(),
            });
        }
        Ok(())
    }
}

/// The superblock that the real program would write, as far as anybody looks at it.
fn superblock(program: &str, uuid: &str) -> (u64, Vec<u8>) {
    let digits: Vec<u8> = uuid.bytes().filter(|byte| *byte != b'-').collect();
    let uuid: Vec<u8> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let mut block = vec![0; 4096];
    let (start, magic, at): (u64, (usize, &[u8]), usize) = match program {
        "mkfs.xfs" => (0, (0, b"XFSB"), 32),
        "mkfs.btrfs" => (0x1_0000, (0x40, b"_BHRfS_M"), 0x20),
        "mkfs.f2fs" => (1024, (0, &[0x10, 0x20, 0xf5, 0xf2]), 108),
        other => panic!("{other} is run"),
    };
    block[magic.0..magic.0 + magic.1.len()].copy_from_slice(magic.1);
    block[at..at + 16].copy_from_slice(&uuid);
    (start, block)
}

fn uuid_of(arguments: &[String]) -> String {
    let flat = arguments.join(",");
    match flat.split(',').find_map(|word| word.strip_prefix("uuid=")) {
        Some(uuid) => uuid.to_owned(),
        None => {
            let at = arguments.iter().position(|word| word == "-U").unwrap();
            arguments[at + 1].clone()
        }
    }
}

impl Tools for FakeTools {
    fn ready(&self, _: Kind, _: bool) -> Result<(), String> {
        Ok(())
    }

    fn expose(&mut self, _: &mut dyn BlockDevice, span: Span) -> Result<String, ToolError> {
        assert_eq!(self.span, None, "one range at a time");
        self.call(format!("expose {} {}", span.start, span.end()))?;
        self.span = Some(span);
        Ok(NODE.to_owned())
    }

    fn encrypt(
        &mut self,
        _: &mut dyn BlockDevice,
        node: &str,
        size: u64,
        sealed: &Sealed,
    ) -> Result<String, ToolError> {
        assert_eq!(self.span.map(|span| span.size), Some(size));
        self.call(format!("encrypt {node}"))?;
        self.volume = Some(sealed.data(size));
        Ok(OPENED.to_owned())
    }

    fn run(
        &mut self,
        device: &mut dyn BlockDevice,
        program: &str,
        arguments: &[String],
    ) -> Result<(), ToolError> {
        let top = self
            .mounted
            .as_ref()
            .map(|folder| folder.path().display().to_string());
        let shown: Vec<String> = arguments
            .iter()
            .map(|word| match &top {
                Some(top) => word.replace(top.as_str(), "TOP"),
                None => word.clone(),
            })
            .collect();
        self.call(format!("{program} {}", shown.join(" ")))?;
        if program == "btrfs" {
            let [verb, create, directory] = arguments else {
                panic!()
            };
            assert_eq!((verb.as_str(), create.as_str()), ("subvolume", "create"));
            fs::create_dir(directory).unwrap();
            return Ok(());
        }
        // What a program writes of the disk is what was exposed.
        let span = self.span.expect("a program is run on a range");
        let node = arguments.last().map(String::as_str);
        let (start, block) = superblock(program, &uuid_of(arguments));
        let mut inside;
        let (device, at): (&mut dyn BlockDevice, u64) = match &self.volume {
            None => {
                assert_eq!(node, Some(NODE));
                (device, span.start + start)
            }
            Some(volume) => {
                assert_eq!(node, Some(OPENED));
                inside = Inside::new(device, span, volume.cipher().unwrap());
                (&mut inside, start)
            }
        };
        let mut there = vec![0; block.len()];
        let read = device.read_at(at, &mut there);
        // As mkfs.btrfs has it.
        if read.is_ok() && there == block {
            return Err(ToolError::Program {
                command: program.to_owned(),
                how: "failed (exit status: 1)".to_owned(),
                said: "ERROR: non-unique UUID".to_owned(),
            });
        }
        let written = device.write_at(at, &block);
        written.map_err(|source| ToolError::Kernel {
            doing: "writing",
            on: NODE.to_owned(),
            source,
        })
    }

    fn mount(
        &mut self,
        _: &mut dyn BlockDevice,
        node: &str,
        kind: Kind,
        data: &str,
    ) -> Result<PathBuf, ToolError> {
        self.call(format!("mount {node} {} {data:?}", kind.name()))?;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        self.mounted = Some(folder);
        Ok(path)
    }

    fn release(&mut self, _: &mut dyn BlockDevice) -> Result<(), ToolError> {
        (self.span, self.volume) = (None, None);
        if let Some(folder) = self.mounted.take() {
            let mut waiting = vec![folder.path().to_owned()];
            self.files.clear();
            while let Some(path) = waiting.pop() {
                for entry in fs::read_dir(path).unwrap() {
                    let path = entry.unwrap().path();
                    let name = path.strip_prefix(folder.path()).unwrap();
                    self.files.push(name.display().to_string());
                    if fs::symlink_metadata(&path).unwrap().is_dir() {
                        waiting.push(path);
                    }
                }
            }
            self.files.sort();
            if let Some(keep) = &self.keep {
                fs::rename(folder.keep(), keep).unwrap();
            }
        }
        self.call("release".to_owned())
    }
}
