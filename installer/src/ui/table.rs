//! The editor of partition tables: commands that change the answers, and the table as rows.

use crate::answers::parse_size;
use crate::answers::table::Use;
use crate::answers::typed::{DiskTable, PartitionTable};
use crate::probe::Disk;
use crate::show;

const MIB: u64 = 1 << 20;

/// What the screen says.
pub(super) const WORDS: &str = "What is not named stays. Commands: `new USE SIZE` (or `rest`), `use NUMBER USE`, `keep NUMBER`, `delete NUMBER`, `remove USE`, `fresh` (a new table: everything goes), `clear`. USE is root, boot, home, esp, bios-boot or swap.";

/// Columns of what is in a partition: with all others they fill a line of 76.
const FACTS: usize = 33;

/// A row of the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Row {
    /// What is there and what becomes of it, in columns.
    pub text: String,
    /// Everything that is known of what is there, where the columns have no room for it.
    pub facts: Option<String>,
    /// What the row is about.
    pub about: About,
}

impl Row {
    /// All of it, for those who read line by line.
    pub(super) fn line(&self) -> String {
        match &self.facts {
            Some(facts) => format!("{}  ({facts})", self.text),
            None => self.text.clone(),
        }
    }
}

/// Text in a column: cut, which is shown, or filled.
fn column(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return format!("{text:<width$}");
    }
    let mut cut: String = text.chars().take(width - 1).collect();
    cut.push('~');
    cut
}

/// What a row is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum About {
    /// A partition that is there.
    There(u32),
    /// Free space, so many bytes.
    Free(u64),
    /// A new partition.
    New(Use),
}

fn use_of(word: &str) -> Result<Use, String> {
    Use::named(word).ok_or_else(|| format!("`{word}` is none of {}", Use::ALL.map(Use::word).join(", ")))
}

fn forget(disk: &mut DiskTable, number: u32) {
    disk.delete.retain(|one| *one != number);
    disk.partition.retain(|one| one.number != Some(number));
    disk.esp = disk.esp.filter(|esp| *esp != number);
    disk.home = disk.home.filter(|home| *home != number);
}

/// Obeys a command.
pub(super) fn command(disk: &mut DiskTable, there: Option<&Disk>, line: &str) -> Result<(), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |text: &str| -> Result<u32, String> {
        let number = text
            .parse()
            .map_err(|_| format!("`{text}` is no number of a partition"))?;
        let known = there.is_none_or(|disk| disk.partitions.iter().any(|one| one.number == number));
        if known {
            Ok(number)
        } else {
            Err(format!("there is no partition {number}"))
        }
    };
    match words.as_slice() {
        ["clear"] => {
            (disk.new_table, disk.esp, disk.home) = (false, None, None);
            disk.delete.clear();
            disk.partition.clear();
        }
        ["fresh"] => {
            (disk.new_table, disk.esp, disk.home) = (true, None, None);
            disk.delete.clear();
            disk.partition.retain(|one| one.number.is_none());
        }
        ["delete", one] => {
            let one = number(one)?;
            forget(disk, one);
            disk.delete.push(one);
            disk.delete.sort_unstable();
        }
        ["keep", one] => {
            forget(disk, number(one)?);
            disk.new_table = false;
        }
        ["use", one, what] => {
            let (one, what) = (number(one)?, use_of(what)?);
            forget(disk, one);
            disk.new_table = false;
            disk.partition.retain(|used| used.used != what.word());
            disk.partition.push(PartitionTable {
                used: what.word().to_owned(),
                number: Some(one),
                ..PartitionTable::default()
            });
        }
        ["new", what, size @ ..] => {
            let what = use_of(what)?;
            let size = match size {
                [] | ["rest"] => None,
                size => {
                    let size = size.join(" ");
                    parse_size(&size)?;
                    Some(size)
                }
            };
            disk.partition.retain(|used| used.used != what.word());
            disk.partition.push(PartitionTable {
                used: what.word().to_owned(),
                size,
                ..PartitionTable::default()
            });
        }
        ["remove", what] => {
            let what = use_of(what)?;
            let before = disk.partition.len();
            disk.partition.retain(|used| used.used != what.word());
            if disk.partition.len() == before {
                return Err(format!("there is no `{}` to remove", what.word()));
            }
        }
        _ => return Err(format!("`{line}` is no command")),
    }
    Ok(())
}

/// The commands that a key gives partitions one after the other: from kept to each use, deleted, and kept again.
pub(super) fn next(disk: &DiskTable, number: u32) -> String {
    let now = disk.partition.iter().find(|one| one.number == Some(number));
    let uses = Use::ALL;
    match now {
        None if disk.delete.contains(&number) => format!("keep {number}"),
        None => format!("use {number} {}", uses[0].word()),
        Some(one) => match uses.iter().position(|each| each.word() == one.used) {
            Some(at) if at + 1 < uses.len() => format!("use {number} {}", uses[at + 1].word()),
            _ => format!("delete {number}"),
        },
    }
}

/// The table as rows: partitions that are there and free space between them as they lie, then what is new.
pub(super) fn rows(disk: &DiskTable, there: &Disk) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut at = MIB;
    let mut partitions: Vec<_> = there.partitions.iter().collect();
    partitions.sort_by_key(|one| one.start);
    let end = there.size.saturating_sub(MIB);
    let put_free = |rows: &mut Vec<Row>, from: u64, to: u64| {
        let size = to.saturating_sub(from);
        if size >= MIB {
            rows.push(Row {
                text: format!("   -  {:>9}  free", show::size(size)),
                facts: None,
                about: About::Free(size),
            });
        }
    };
    if disk.new_table {
        put_free(&mut rows, at, end);
    } else {
        for one in partitions {
            put_free(&mut rows, at, one.start);
            at = at.max(one.start.saturating_add(one.size));
            let given = disk.partition.iter().find(|used| used.number == Some(one.number));
            let fate = match given {
                Some(used) => format!("FORMATTED as {}", used.used),
                None if disk.delete.contains(&one.number) => "DELETED".to_owned(),
                None if disk.home == Some(one.number) => "kept as /home".to_owned(),
                None if disk.esp == Some(one.number) => "kept, files added (ESP)".to_owned(),
                None => "kept".to_owned(),
            };
            rows.push(Row {
                text: format!(
                    "{:>4}  {:>9}  {} {fate}",
                    one.number,
                    show::size(one.size),
                    column(&show::brief(one), FACTS),
                ),
                facts: Some(show::facts(one)),
                about: About::There(one.number),
            });
        }
        put_free(&mut rows, at, end);
    }
    for new in disk.partition.iter().filter(|one| one.number.is_none()) {
        let Some(wanted) = Use::named(&new.used) else {
            continue;
        };
        let place = new
            .start
            .as_ref()
            .map(|start| format!(" from {start}"))
            .unwrap_or_default();
        rows.push(Row {
            text: format!(
                " new  {:>9}  {}{place}",
                new.size.as_deref().unwrap_or("the rest"),
                new.used
            ),
            facts: None,
            about: About::New(wanted),
        });
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::disk;
    use crate::probe::Partition;

    fn there() -> Disk {
        let mut there = disk(64 << 30, 512);
        for (number, start, size) in [(1, 1, 512), (2, 513, 20_000), (5, 30_000, 8_000)] {
            there.partitions.push(Partition {
                name: format!("sda{number}"),
                number,
                start: start * MIB,
                size: size * MIB,
                label: Some(format!("part {number}")),
                ..Partition::default()
            });
        }
        there
    }

    #[test]
    fn commands_change_the_answers() {
        let there = there();
        let mut disk = DiskTable::default();
        let mut run = |line: &str| command(&mut disk, Some(&there), line).map(|()| disk.clone());
        run("delete 2").unwrap();
        run("new root 20 GiB").unwrap();
        run("new swap 2 GiB").unwrap();
        run("use 1 esp").unwrap();
        let made = run("new root").unwrap();
        assert_eq!(made.delete, [2]);
        let words: Vec<(&str, Option<u32>, Option<&str>)> = made
            .partition
            .iter()
            .map(|one| (one.used.as_str(), one.number, one.size.as_deref()))
            .collect();
        assert_eq!(
            words,
            [
                ("swap", None, Some("2 GiB")),
                ("esp", Some(1), None),
                ("root", None, None)
            ]
        );
        assert!(run("keep 2").unwrap().delete.is_empty());
        assert!(
            run("remove swap")
                .unwrap()
                .partition
                .iter()
                .all(|one| one.used != "swap")
        );
        for wrong in [
            "delete 9",
            "new attic",
            "new root much",
            "use 1",
            "format c:",
            "remove swap",
        ] {
            assert!(run(wrong).is_err(), "{wrong}");
        }
        let fresh = run("fresh").unwrap();
        assert!(fresh.new_table && fresh.partition.len() == 1);
        assert_eq!(run("clear").unwrap(), DiskTable::default());
    }

    #[test]
    fn a_key_goes_through_all_uses_and_back() {
        let there = there();
        let mut disk = DiskTable::default();
        let mut seen = Vec::new();
        for _ in 0..8 {
            let line = next(&disk, 5);
            seen.push(line.clone());
            command(&mut disk, Some(&there), &line).unwrap();
        }
        assert_eq!(seen[0], "use 5 root");
        assert_eq!(seen[6], "delete 5");
        assert_eq!(seen[7], "keep 5");
        assert_eq!(disk, DiskTable::default());
    }

    #[test]
    fn rows_lie_as_the_disk_does() {
        let there = there();
        let mut disk = DiskTable::default();
        for line in ["delete 2", "use 5 root", "new home rest"] {
            command(&mut disk, Some(&there), line).unwrap();
        }
        let about: Vec<About> = rows(&disk, &there).iter().map(|row| row.about).collect();
        assert!(
            matches!(
                about[..],
                [
                    About::There(1),
                    About::There(2),
                    About::Free(_),
                    About::There(5),
                    About::Free(_),
                    About::New(Use::Home)
                ]
            ),
            "{about:?}"
        );
        let text: Vec<String> = rows(&disk, &there).into_iter().map(|row| row.text).collect();
        assert!(
            text[1].ends_with("DELETED") && text[3].ends_with("FORMATTED as root"),
            "{text:#?}"
        );
    }
}
