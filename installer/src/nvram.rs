//! Entries of the firmware's boot menu: variables `Boot####` and `BootOrder` (UEFI 2.10 §3.1.3, §3.3), as files of efivarfs.
//!
//! A variable's file has its attributes in four bytes, then its value, and is written in one call. The entry is written before the order names it, so that a
//! write that fails leaves an order in which everything is there.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use lycia_media::partition::gpt;

/// Vendor GUID of the variables (`EFI_GLOBAL_VARIABLE`), in file names.
const GLOBAL: &str = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
/// Non-volatile, seen by boot services and at run time.
const ATTRIBUTES: u32 = 7;
/// `LOAD_OPTION_ACTIVE`
const ACTIVE: u32 = 1;
/// Longest variable that is read, in bytes.
const VARIABLE_MAX: u64 = 64 << 10;

/// What an entry starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What people read in the firmware's menu.
    pub description: String,
    /// Number of the EFI system partition.
    pub partition: u32,
    /// Its first sector.
    pub first: u64,
    /// Its sectors.
    pub sectors: u64,
    /// Its GUID as the table has it.
    pub guid: [u8; 16],
    /// The image: `\EFI\BOOT\BOOTX64.EFI`.
    pub path: String,
}

impl Entry {
    /// The entry that starts an image of a partition.
    #[must_use]
    pub fn of(partition: &gpt::Partition, description: &str, path: String) -> Entry {
        Entry {
            description: description.to_owned(),
            partition: partition.number,
            first: partition.first,
            sectors: partition.last - partition.first + 1,
            guid: partition.guid.to_disk(),
            path,
        }
    }
}

/// What became of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It was written under this number.
    Written(u16),
    /// It was there, and the first, already.
    Already(u16),
}

/// Why there is no entry.
#[derive(Debug, thiserror::Error)]
pub enum NvramError {
    /// The firmware or the kernel refuses.
    #[error("{doing} the firmware's variable {name}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The variable.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// All numbers are taken.
    #[error("the firmware has no number left for a boot entry")]
    Full,
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}

/// The device path of an image: a hard-drive node, a file-path node and the end (UEFI 2.10 §10.3.5).
fn device_path(entry: &Entry) -> Vec<u8> {
    let mut out = vec![4, 1, 42, 0];
    out.extend_from_slice(&entry.partition.to_le_bytes());
    out.extend_from_slice(&entry.first.to_le_bytes());
    out.extend_from_slice(&entry.sectors.to_le_bytes());
    out.extend_from_slice(&entry.guid);
    // A GPT, a signature that is a GUID.
    out.extend_from_slice(&[2, 2]);
    let path = utf16(&entry.path);
    out.extend_from_slice(&[4, 4]);
    out.extend_from_slice(&((path.len() + 4) as u16).to_le_bytes());
    out.extend_from_slice(&path);
    out.extend_from_slice(&[0x7f, 0xff, 4, 0]);
    out
}

/// `EFI_LOAD_OPTION`
fn load_option(entry: &Entry) -> Vec<u8> {
    let path = device_path(entry);
    let mut out = ACTIVE.to_le_bytes().to_vec();
    out.extend_from_slice(&(path.len() as u16).to_le_bytes());
    out.extend_from_slice(&utf16(&entry.description));
    out.extend_from_slice(&path);
    out
}

/// What a load option starts.
#[derive(Default)]
struct Started {
    description: String,
    /// GUID of the partition.
    guid: Option<[u8; 16]>,
    /// The image.
    path: String,
}

fn text_of(units: &[u8]) -> String {
    let units = units
        .chunks_exact(2)
        .map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    char::decode_utf16(units.take_while(|&unit| unit != 0))
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// What a load option starts; none where it is no whole one.
fn started(option: &[u8]) -> Option<Started> {
    let length = usize::from(u16::from_le_bytes([*option.get(4)?, *option.get(5)?]));
    let units = option[6..].chunks_exact(2);
    let end = units.clone().position(|unit| unit == [0, 0])?;
    let start = 6 + (end + 1) * 2;
    let mut path = option.get(start..start + length)?;
    let mut out = Started {
        description: text_of(&option[6..start]),
        ..Started::default()
    };
    while let Some(&[kind, sub, low, high]) = path.first_chunk::<4>() {
        let length = usize::from(u16::from_le_bytes([low, high]));
        let Some(node) = path.get(4..length) else { break };
        match (kind, sub) {
            (4, 1) => out.guid = node.get(20..36).and_then(|guid| guid.try_into().ok()),
            (4, 4) => out.path.push_str(&text_of(node)),
            _ => {}
        }
        path = &path[length..];
    }
    Some(out)
}

impl Started {
    /// Whether it is the same image of the same partition, whatever it is called and wherever the partition is now.
    fn same_image(&self, entry: &Entry) -> bool {
        self.guid == Some(entry.guid) && self.path.eq_ignore_ascii_case(&entry.path)
    }

    /// Whether it is what an earlier installation of the same system wrote for a partition that no disk has any more.
    fn is_left_of(&self, entry: &Entry, partitions: &BTreeSet<[u8; 16]>) -> bool {
        self.description == entry.description
            && self.path.eq_ignore_ascii_case(&entry.path)
            && self.guid.is_some_and(|guid| !partitions.contains(&guid))
    }
}

struct Variables<'a>(&'a Path);

impl Variables<'_> {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.join(format!("{name}-{GLOBAL}"))
    }

    /// The value; none where there is no such variable.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, NvramError> {
        let failed = |source| NvramError::Io {
            doing: "reading",
            name: name.to_owned(),
            source,
        };
        let file = match File::open(self.path(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut bytes = Vec::new();
        file.take(VARIABLE_MAX).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Some(bytes.get(4..).unwrap_or_default().to_vec()))
    }

    fn write(&self, name: &str, value: &[u8]) -> Result<(), NvramError> {
        let failed = |source| NvramError::Io {
            doing: "writing",
            name: name.to_owned(),
            source,
        };
        let mut bytes = ATTRIBUTES.to_le_bytes().to_vec();
        bytes.extend_from_slice(value);
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.path(name))
            .map_err(failed)?;
        // The kernel takes a variable in one call or not at all.
        let written = file.write(&bytes).map_err(failed)?;
        if written != bytes.len() {
            return Err(failed(io::ErrorKind::WriteZero.into()));
        }
        let size = file.metadata().map_err(failed)?.len();
        if size > bytes.len() as u64 {
            file.set_len(bytes.len() as u64).map_err(failed)?;
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), NvramError> {
        fs::remove_file(self.path(name)).map_err(|source| NvramError::Io {
            doing: "removing",
            name: name.to_owned(),
            source,
        })
    }

    /// Numbers of the entries that are there, in order.
    fn numbers(&self) -> Result<Vec<u16>, NvramError> {
        let failed = |source| NvramError::Io {
            doing: "listing",
            name: "Boot####".to_owned(),
            source,
        };
        let mut out = Vec::new();
        for entry in fs::read_dir(self.0).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let number = name
                .to_str()
                .and_then(|name| name.strip_suffix(GLOBAL)?.strip_suffix('-'));
            let number = number
                .and_then(|name| name.strip_prefix("Boot"))
                .filter(|digits| digits.len() == 4);
            out.extend(number.and_then(|digits| u16::from_str_radix(digits, 16).ok()));
        }
        out.sort_unstable();
        Ok(out)
    }
}

/// What making an entry the first changes.
struct Change {
    /// Number of the entry.
    number: u16,
    /// Its variable as it is to be, where it is not.
    option: Option<Vec<u8>>,
    /// The order as it is to be, where it is not.
    order: Option<Vec<u16>>,
    /// Entries that go.
    left: Vec<u16>,
}

impl Change {
    fn is_none(&self) -> bool {
        self.option.is_none() && self.order.is_none() && self.left.is_empty()
    }
}

fn change(
    variables: &Variables<'_>,
    entry: &Entry,
    partitions: &BTreeSet<[u8; 16]>,
) -> Result<Change, NvramError> {
    let option = load_option(entry);
    let numbers = variables.numbers()?;
    let order: Vec<u16> = variables
        .read("BootOrder")?
        .unwrap_or_default()
        .chunks_exact(2)
        .map(|two| u16::from_le_bytes([two[0], two[1]]))
        .collect();
    let (mut own, mut left) = (None, Vec::new());
    for &number in &numbers {
        let value = variables.read(&format!("Boot{number:04X}"))?.unwrap_or_default();
        let Some(there) = started(&value) else { continue };
        if own.is_none() && there.same_image(entry) {
            own = Some((number, value));
        } else if there.is_left_of(entry, partitions) {
            left.push((number, value));
        }
    }
    if own.is_none() && !left.is_empty() {
        own = Some(left.remove(0));
    }
    let left: Vec<u16> = left.into_iter().map(|(number, _)| number).collect();
    let (number, there) = match own {
        Some((number, value)) => (number, value == option),
        None => {
            // A number that the order names without an entry belongs to something that may come back.
            let free = (0..=u16::MAX).find(|number| !numbers.contains(number) && !order.contains(number));
            (free.ok_or(NvramError::Full)?, false)
        }
    };
    let mut new = vec![number];
    let stays = |other: &u16| *other != number && !left.contains(other);
    new.extend(order.iter().copied().filter(stays));
    Ok(Change {
        number,
        option: (!there).then_some(option),
        order: (new != order).then_some(new),
        left,
    })
}

/// Whether [`write()`] would change nothing.
///
/// # Errors
/// When the variables cannot be read.
pub fn is_first(efivars: &Path, entry: &Entry, partitions: &BTreeSet<[u8; 16]>) -> Result<bool, NvramError> {
    change(&Variables(efivars), entry, partitions).map(|change| change.is_none())
}

/// Makes `entry` the first of the firmware's menu. An entry that starts the same image is written anew rather than another one added, and so is one of an
/// earlier installation of the same system whose partition is none of `partitions`, the GUIDs that the disks of this machine have; further ones of those
/// go. Entries of others stay as they are, in their order.
///
/// # Errors
/// When the firmware refuses. The fallback path does not need an entry.
pub fn write(efivars: &Path, entry: &Entry, partitions: &BTreeSet<[u8; 16]>) -> Result<Outcome, NvramError> {
    let variables = Variables(efivars);
    let change = change(&variables, entry, partitions)?;
    let number = change.number;
    if change.is_none() {
        return Ok(Outcome::Already(number));
    }
    if let Some(option) = &change.option {
        variables.write(&format!("Boot{number:04X}"), option)?;
    }
    if let Some(order) = &change.order {
        let value: Vec<u8> = order.iter().flat_map(|number| number.to_le_bytes()).collect();
        variables.write("BootOrder", &value)?;
    }
    // The order names them no more.
    for number in change.left {
        variables.remove(&format!("Boot{number:04X}"))?;
    }
    Ok(Outcome::Written(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        Entry {
            description: "Lycia \u{17e}".to_owned(),
            partition: 1,
            first: 2048,
            sectors: 1_048_576,
            guid: [
                0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe, 1, 2, 3, 4, 5, 6, 7, 8,
            ],
            path: "\\EFI\\lycia\\grubx64.efi".to_owned(),
        }
    }

    /// GUIDs of partitions that disks have.
    fn there() -> BTreeSet<[u8; 16]> {
        [entry().guid, [9; 16]].into()
    }

    fn put(folder: &Path, name: &str, value: &[u8]) {
        let bytes = [&7u32.to_le_bytes()[..], value].concat();
        fs::write(folder.join(format!("{name}-{GLOBAL}")), bytes).unwrap();
    }

    /// Reads an entry with an implementation of its own, as efibootmgr shows it.
    fn shown(folder: &Path, name: &str) -> String {
        let script = r#"
import struct, sys, uuid
data = open(sys.argv[1], 'rb').read()
attributes, active, length = struct.unpack_from('<IIH', data)
end = 10
while data[end:end + 2] != b'\0\0':
    end += 2
print(attributes, active, data[10:end].decode('utf-16-le'), end=' ')
path = data[end + 2:]
assert len(path) == length, (len(path), length)
while path:
    kind, sub, size = struct.unpack_from('<BBH', path)
    node, path = path[4:size], path[size:]
    if (kind, sub) == (4, 1):
        number, start, count, guid, form, signature = struct.unpack('<IQQ16sBB', node)
        assert (form, signature) == (2, 2)
        print('HD(%d,GPT,%s,0x%x,0x%x)' % (number, uuid.UUID(bytes_le=guid), start, count), end='/')
    elif (kind, sub) == (4, 4):
        print('File(%s)' % node.decode('utf-16-le').rstrip('\0'))
    else:
        assert (kind, sub, size) == (0x7f, 0xff, 4) and not path
"#;
        let output = std::process::Command::new("python3")
            .args(["-c", script])
            .arg(folder.join(format!("{name}-{GLOBAL}")))
            .output()
            .expect("python3 is missing: install the Debian package python3");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn value(folder: &Path, name: &str) -> Vec<u8> {
        fs::read(folder.join(format!("{name}-{GLOBAL}"))).unwrap()
    }

    #[test]
    fn an_entry_is_added_once_and_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let windows = load_option(&Entry {
            description: "Windows Boot Manager".to_owned(),
            path: "\\EFI\\Microsoft\\Boot\\bootmgfw.efi".to_owned(),
            ..entry()
        });
        put(at, "Boot0000", &windows);
        put(at, "Boot0002", b"\x01\0\0\0junk");
        put(at, "BootOrder", &[0, 0, 2, 0, 1, 0]);
        put(at, "BootCurrent", &[0, 0]);
        fs::write(
            at.join("Boot0003-00000000-0000-0000-0000-000000000000"),
            b"another vendor's",
        )
        .unwrap();
        // 1 is named by the order; 3 is the first that nobody has.
        assert_eq!(write(at, &entry(), &there()).unwrap(), Outcome::Written(3));
        assert_eq!(
            shown(at, "Boot0003"),
            "7 1 Lycia \u{17e} HD(1,GPT,76543210-ba98-fedc-0102-030405060708,0x800,0x100000)/File(\\EFI\\lycia\\grubx64.efi)\n"
        );
        assert_eq!(value(at, "BootOrder"), [7, 0, 0, 0, 3, 0, 0, 0, 2, 0, 1, 0]);
        assert_eq!(value(at, "Boot0000")[4..], windows);
        let all = |at: &Path| {
            let mut names: Vec<(String, Vec<u8>)> = fs::read_dir(at)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .map(|path| (path.display().to_string(), fs::read(&path).unwrap()))
                .collect();
            names.sort();
            names
        };
        let before = all(at);
        assert_eq!(write(at, &entry(), &there()).unwrap(), Outcome::Already(3));
        assert_eq!(all(at), before);
        // The same image under another name is the same entry, and shorter names leave nothing behind.
        let renamed = Entry {
            description: "L".to_owned(),
            path: "\\efi\\LYCIA\\grubx64.efi".to_owned(),
            ..entry()
        };
        assert_eq!(write(at, &renamed, &there()).unwrap(), Outcome::Written(3));
        assert!(shown(at, "Boot0003").starts_with("7 1 L HD("));
        assert_eq!(all(at).len(), before.len());
        // Another partition's is another.
        let other = Entry {
            guid: [9; 16],
            ..entry()
        };
        assert_eq!(write(at, &other, &there()).unwrap(), Outcome::Written(4));
        assert_eq!(value(at, "BootOrder"), [7, 0, 0, 0, 4, 0, 3, 0, 0, 0, 2, 0, 1, 0]);
    }

    #[test]
    fn what_earlier_installations_left_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        let of = |guid: u8| Entry {
            guid: [guid; 16],
            ..entry()
        };
        // Two were erased since; the third is another system's, and the fourth is on a disk that is there.
        let elsewhere = load_option(&Entry {
            description: "Another system".to_owned(),
            ..of(3)
        });
        put(at, "Boot0000", &load_option(&of(1)));
        put(at, "Boot0001", &load_option(&of(2)));
        put(at, "Boot0002", &elsewhere);
        put(at, "Boot0003", &load_option(&of(9)));
        put(at, "BootOrder", &[2, 0, 1, 0, 0, 0, 3, 0]);
        assert_eq!(write(at, &entry(), &there()).unwrap(), Outcome::Written(0));
        assert_eq!(value(at, "BootOrder"), [7, 0, 0, 0, 0, 0, 2, 0, 3, 0]);
        assert!(shown(at, "Boot0000").contains("76543210-ba98-fedc-0102-030405060708"));
        assert!(!at.join(format!("Boot0001-{GLOBAL}")).exists());
        assert_eq!(value(at, "Boot0002")[4..], elsewhere);
        assert_eq!(value(at, "Boot0003")[4..], load_option(&of(9)));
        assert_eq!(write(at, &entry(), &there()).unwrap(), Outcome::Already(0));
    }

    #[test]
    fn firmware_without_anything_and_without_variables() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            write(folder.path(), &entry(), &there()).unwrap(),
            Outcome::Written(0)
        );
        assert_eq!(value(folder.path(), "BootOrder"), [7, 0, 0, 0, 0, 0]);
        let error = write(&folder.path().join("none"), &entry(), &there())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("listing the firmware's variable"), "{error}");
    }

    #[test]
    fn any_bytes_are_looked_at() {
        let option = load_option(&entry());
        let same_image = |option: &[u8]| started(option).is_some_and(|there| there.same_image(&entry()));
        assert!(same_image(&option));
        for end in 0..option.len() {
            assert!(!same_image(&option[..end]), "{end}");
            let mut spoilt = option.clone();
            spoilt[end] ^= 0xff;
            same_image(&spoilt);
        }
    }
}
