//! A table that people edit by hand: the layout `table`.

use std::collections::BTreeSet;

use super::typed::DiskTable;
use super::{Layout, parse_size};
use crate::plan::ALIGNMENT;

/// What a partition becomes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Use {
    /// The root.
    Root,
    /// `/boot`.
    Boot,
    /// A new `/home`.
    Home,
    /// The EFI system partition.
    Esp,
    /// The BIOS boot partition.
    BiosBoot,
    /// Swap.
    Swap,
}

impl Use {
    /// All.
    pub const ALL: [Use; 6] = [
        Use::Root,
        Use::Boot,
        Use::Home,
        Use::Esp,
        Use::BiosBoot,
        Use::Swap,
    ];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Use::Root => "root",
            Use::Boot => "boot",
            Use::Home => "home",
            Use::Esp => "esp",
            Use::BiosBoot => "bios-boot",
            Use::Swap => "swap",
        }
    }

    /// By its word.
    #[must_use]
    pub fn named(word: &str) -> Option<Use> {
        Use::ALL.into_iter().find(|one| one.word() == word)
    }

    /// Bytes that it has at least.
    #[must_use]
    pub const fn least(self) -> u64 {
        const MIB: u64 = 1 << 20;
        match self {
            Use::Root => crate::plan::MINIMUM_ROOT,
            Use::Boot => 64 * MIB,
            Use::Home => 16 * MIB,
            Use::Esp => 33 * MIB,
            Use::BiosBoot | Use::Swap => MIB,
        }
    }
}

/// Where a partition lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In one that is there, by number.
    There(u32),
    /// In free space.
    New {
        /// Bytes; what is left if none.
        size: Option<u64>,
        /// First byte; wherever it fits if none.
        start: Option<u64>,
    },
}

/// A table as it is wanted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Edited {
    /// Everything goes, and the table is a new one.
    pub fresh: bool,
    /// Numbers of partitions that go.
    pub delete: BTreeSet<u32>,
    /// Partitions that are used, in the order in which they were named.
    pub used: Vec<(Use, Place)>,
}

impl Edited {
    /// Whether a use is given to a partition.
    #[must_use]
    pub fn has(&self, wanted: Use) -> bool {
        self.used.iter().any(|(given, _)| *given == wanted)
    }
}

/// What a table that was typed means; `wrong` hears what is wrong with which key.
pub(super) fn resolve(disk: &DiskTable, wrong: &mut dyn FnMut(String, String)) -> Layout {
    let mut edited = Edited {
        fresh: disk.new_table,
        delete: disk.delete.iter().copied().collect(),
        used: Vec::new(),
    };
    let mut rests = 0;
    for (at, typed) in disk.partition.iter().enumerate() {
        let key = |name: &str| format!("disk.partition[{at}].{name}");
        let Some(wanted) = Use::named(&typed.used) else {
            let words = Use::ALL.map(Use::word);
            let near = crate::toml_file::nearest(&typed.used, words).map_or_else(
                || format!("there are {}", words.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            wrong(key("use"), format!("there is no use `{}`; {near}", typed.used));
            continue;
        };
        if edited.has(wanted) {
            wrong(key("use"), format!("there is a `{}` already", wanted.word()));
        }
        let mut bytes = |name: &str, text: &Option<String>| {
            text.as_deref().and_then(|text| match parse_size(text) {
                Ok(bytes) => Some(bytes),
                Err(why) => {
                    wrong(key(name), why);
                    None
                }
            })
        };
        let size = bytes("size", &typed.size).filter(|_| typed.size.as_deref() != Some("rest"));
        let start = bytes("start", &typed.start);
        let place = match typed.number {
            Some(number) => {
                if typed.size.is_some() || typed.start.is_some() {
                    wrong(
                        key("number"),
                        "a partition that is there keeps its place: leave `size` and `start` out, or `number`".to_owned(),
                    );
                }
                if disk.new_table || disk.delete.contains(&number) {
                    wrong(key("number"), format!("partition {number} goes"));
                }
                Place::There(number)
            }
            None => {
                if let Some(start) = start.filter(|start| start % ALIGNMENT != 0 || *start == 0) {
                    wrong(
                        key("start"),
                        format!("partitions begin at whole MiB, behind the first; {start} is none"),
                    );
                }
                if let Some(size) = size.filter(|size| *size < wanted.least()) {
                    wrong(
                        key("size"),
                        format!(
                            "a `{}` has at least {} bytes, not {size}",
                            wanted.word(),
                            wanted.least()
                        ),
                    );
                }
                rests += usize::from(size.is_none() && start.is_none());
                Place::New { size, start }
            }
        };
        let clash = edited
            .used
            .iter()
            .any(|(_, other)| matches!((other, place), (Place::There(a), Place::There(b)) if *a == b));
        if clash {
            wrong(key("number"), "it has another use already".to_owned());
        }
        edited.used.push((wanted, place));
    }
    if rests > 1 {
        wrong(
            "disk.partition".to_owned(),
            "only one can take what is left: give the others a `size`".to_owned(),
        );
    }
    if !edited.has(Use::Root) {
        wrong(
            "disk.partition".to_owned(),
            "say which partition becomes the root".to_owned(),
        );
    }
    if disk.new_table && !disk.delete.is_empty() {
        wrong(
            "disk.delete".to_owned(),
            "everything goes where the table is a new one".to_owned(),
        );
    }
    if !edited.has(Use::Esp) && !edited.has(Use::BiosBoot) && disk.esp.is_none() {
        wrong(
            "disk.partition".to_owned(),
            "nothing could start the system: have a partition for `esp` or `bios-boot`, or keep one with `esp`"
                .to_owned(),
        );
    }
    if edited.has(Use::Esp) && disk.esp.is_some() {
        wrong(
            "disk.esp".to_owned(),
            "there is a new EFI system partition".to_owned(),
        );
    }
    if edited.has(Use::Home) && disk.home.is_some() {
        wrong("disk.home".to_owned(), "there is a new /home".to_owned());
    }
    if disk.encrypt {
        if !edited.has(Use::Boot) {
            wrong(
                "disk.partition".to_owned(),
                "GRUB cannot read an encrypted root: have a partition for `boot`".to_owned(),
            );
        }
        for (wanted, what) in [(Use::Swap, "swap"), (Use::Home, "/home")] {
            if edited.has(wanted) {
                wrong(
                    "disk.partition".to_owned(),
                    format!("{what} on a partition of its own would not be encrypted: leave it in the root"),
                );
            }
        }
    }
    for (key, given) in [
        ("esp-size", disk.esp_size.is_some()),
        ("boot-size", disk.boot_size.is_some()),
        ("root-size", disk.root_size.is_some()),
        ("swap-size", disk.swap_size.is_some()),
    ] {
        if given {
            wrong(
                format!("disk.{key}"),
                "it means nothing under layout `table`: give `size` with the partition".to_owned(),
            );
        }
    }
    Layout::Table(edited)
}
