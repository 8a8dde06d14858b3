//! Where answers come from: a file, a server, a drive with a label, or whatever the kernel's command line names.
//!
//! Nothing is mounted: FAT, ext4 and ISO 9660 are read as they are on the drive, which is opened for reading alone.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use lycia_media::{ext4, fat, iso9660};

use crate::answers::FILE_MAX;
use crate::device::{BlockDevice, Disk, Span, Window};
use crate::found::{file_system, hex, look};
use crate::probe::{self, Machine};
use crate::source::http;

/// The word of the kernel's command line.
pub const PARAMETER: &str = "lycia.answers";
/// Label of the drive. FAT has room for eleven letters: there it is the first eleven of these.
pub const LABEL: &str = "LYCIA_ANSWERS";
/// Letters of a FAT label.
const FAT_LABEL: usize = 11;
/// The file in the topmost folder of the drive.
pub const NAME: &str = "answers.toml";
/// Most bytes of an ISO that is read: it holds answers and nothing else.
const ISO_MAX: u64 = 64 << 20;
/// Most entries and bytes of a FAT volume.
const FAT_LIMITS: fat::Limits = fat::Limits {
    entries: 4096,
    bytes: 64 << 20,
};

/// A place that answers come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A file of this machine.
    File(PathBuf),
    /// A server.
    Url {
        /// `http` or `https`, without the pin.
        url: String,
        /// SHA-256 that the file must have, in hexadecimal.
        sha256: Option<String>,
    },
    /// The drive with the label [`LABEL`].
    Drive,
    /// What the kernel's command line names; the drive where it names nothing.
    Auto,
}

/// Why there are no answers.
#[derive(Debug, thiserror::Error)]
pub enum ObtainError {
    /// The place is written wrongly.
    #[error("`{text}` is no place of answers: {why}")]
    Origin {
        /// What was written.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something cannot be read.
    #[error("reading {place}: {why}")]
    Read {
        /// What.
        place: String,
        /// Why not.
        why: String,
    },
    /// The file is not the one that was pinned.
    #[error("{url} has the SHA-256 {found}, not {expected}: it is another file than the one that was pinned")]
    Pin {
        /// Where it came from.
        url: String,
        /// What it has.
        found: String,
        /// What was asked for.
        expected: String,
    },
    /// There is no drive, or there are several.
    #[error(
        "{count} drives have the label {LABEL} (on FAT {}){}", &LABEL[..FAT_LABEL],
        if *count == 0 { ": label one so and put answers.toml into its topmost folder, or name the answers with `lycia.answers=` or --answers" } else { ": leave one of them plugged in" }
    )]
    Drives {
        /// How many.
        count: usize,
    },
}

impl Origin {
    /// From what was typed: `drive`, `auto`, an address with or without `#sha256=HEX`, or a path.
    ///
    /// # Errors
    /// When an address has a scheme that is not known, a pin is no SHA-256, or an address that anybody on the way can change has none.
    pub fn parse(text: &str) -> Result<Origin, ObtainError> {
        let wrong = |why: &str| ObtainError::Origin {
            text: text.to_owned(),
            why: why.to_owned(),
        };
        match text {
            "" => return Err(wrong("it is empty")),
            "drive" => return Ok(Origin::Drive),
            "auto" => return Ok(Origin::Auto),
            _ => {}
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Origin::File(text.into()));
        };
        match scheme {
            "file" if rest.starts_with('/') => return Ok(Origin::File(rest.into())),
            "http" | "https" => {}
            _ => return Err(wrong("there are https://, http://, file:///, `drive` and paths")),
        }
        let (url, sha256) = match text.split_once('#') {
            None => (text, None),
            Some((url, pin)) => {
                let digits = pin
                    .strip_prefix("sha256=")
                    .filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
                    .ok_or_else(|| wrong("after `#` there is `sha256=` with 64 hexadecimal digits"))?;
                (url, Some(digits.to_ascii_lowercase()))
            }
        };
        if scheme == "http" && sha256.is_none() {
            return Err(wrong(
                "anybody on the way can change what http brings: use https, or add #sha256=HEX of the file",
            ));
        }
        Ok(Origin::Url {
            url: url.to_owned(),
            sha256,
        })
    }

    /// What the kernel's command line names, if anything; the last one counts.
    ///
    /// # Errors
    /// As [`Origin::parse`].
    pub fn of_command_line(text: &str) -> Result<Option<Origin>, ObtainError> {
        let mut values = text.split_whitespace().filter_map(|word| {
            let value = word.strip_prefix(PARAMETER)?;
            value.strip_prefix('=')
        });
        values.next_back().map(Origin::parse).transpose()
    }

    /// The text of the answers, and what people know the place by.
    ///
    /// # Errors
    /// When they cannot be had.
    pub fn read(
        &self,
        machine: &Machine,
        dev: &Path,
        command_line: &str,
    ) -> Result<(String, String), ObtainError> {
        match self {
            Origin::File(path) => {
                let place = path.display().to_string();
                let failed = |error: std::io::Error| ObtainError::Read {
                    place: place.clone(),
                    why: error.to_string(),
                };
                let file = std::fs::File::open(path).map_err(failed)?;
                let mut bytes = Vec::new();
                file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
                Ok((text(bytes, &place)?, place))
            }
            Origin::Url { url, sha256 } => {
                let bytes = http::get(url, FILE_MAX).map_err(|why| ObtainError::Read {
                    place: url.clone(),
                    why,
                })?;
                let found = hex(&bytes);
                match sha256 {
                    Some(expected) if *expected != found => Err(ObtainError::Pin {
                        url: url.clone(),
                        found,
                        expected: expected.clone(),
                    }),
                    _ => Ok((text(bytes, url)?, url.clone())),
                }
            }
            Origin::Drive => drive(machine, dev),
            Origin::Auto => match Origin::of_command_line(command_line)? {
                Some(Origin::Auto) | None => drive(machine, dev),
                Some(origin) => origin.read(machine, dev, command_line),
            },
        }
    }
}

fn text(bytes: Vec<u8>, place: &str) -> Result<String, ObtainError> {
    let failed = |why: &str| ObtainError::Read {
        place: place.to_owned(),
        why: why.to_owned(),
    };
    if bytes.len() as u64 > FILE_MAX {
        return Err(failed(&format!("it is larger than {FILE_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8 text"))
}

/// Whether a file system with this label is the drive.
fn is_label(kind: &str, label: Option<&str>) -> bool {
    let wanted = if kind == "vfat" {
        &LABEL[..FAT_LABEL]
    } else {
        LABEL
    };
    label.is_some_and(|label| label.eq_ignore_ascii_case(wanted))
}

/// The volumes of a disk that have the label: their kind and place.
fn volumes(device: &mut dyn BlockDevice) -> Vec<(String, Span)> {
    let whole = Span {
        start: 0,
        size: device.size(),
    };
    let mut out = Vec::new();
    // A stick without a table, or an optical disc; an ISO on a stick may look like both.
    if let Some(found) = file_system(device, whole)
        && [&found.label, &found.other_label]
            .iter()
            .any(|label| is_label(found.kind, label.as_deref()))
    {
        return vec![(found.kind.to_owned(), whole)];
    }
    if let Ok(found) = look(device) {
        for partition in found.partitions {
            if let Some(kind) = partition.file_system
                && is_label(&kind, partition.label.as_deref())
            {
                out.push((kind, partition.span));
            }
        }
    }
    out
}

fn drive(machine: &Machine, dev: &Path) -> Result<(String, String), ObtainError> {
    let mut found = Vec::new();
    for disk in machine.disks.iter().filter(|disk| disk.size > 0) {
        let path = dev.join(&disk.name);
        // What cannot be read, such as an empty drive, is not it.
        let Ok(mut device) = Disk::open_read(&path, disk.logical_sector) else {
            continue;
        };
        for (kind, span) in volumes(&mut device) {
            found.push((disk, kind, span));
        }
    }
    let [(disk, kind, span)] = &found[..] else {
        return Err(ObtainError::Drives { count: found.len() });
    };
    let place = format!("{NAME} of the drive {LABEL} ({})", disk.path);
    let failed = |why: String| ObtainError::Read {
        place: place.clone(),
        why,
    };
    let bytes = file_of(disk, dev, kind, *span).map_err(failed)?;
    Ok((text(bytes, &place)?, place.clone()))
}

/// [`NAME`] of the volume in a part of a disk, read by this program's own readers.
fn file_of(disk: &probe::Disk, dev: &Path, kind: &str, span: Span) -> Result<Vec<u8>, String> {
    let mut device =
        Disk::open_read(&dev.join(&disk.name), disk.logical_sector).map_err(|error| error.to_string())?;
    let mut nothing = |_| ();
    let mut part = Window::new(&mut device, span, &mut nothing);
    let too_large = || format!("it is larger than {FILE_MAX} bytes");
    let not_there = || format!("the volume has no {NAME} in its topmost folder");
    match kind {
        "ext4" => {
            let mut reader =
                ext4::Reader::open(part, ext4::Limits::default()).map_err(|error| error.to_string())?;
            let path = format!("/{NAME}");
            let file = reader.lookup(path.as_bytes()).map_err(|_| not_there())?;
            if file.size > FILE_MAX {
                return Err(too_large());
            }
            let mut bytes = Vec::new();
            reader
                .copy(&file, &mut bytes)
                .map_err(|error| error.to_string())?;
            Ok(bytes)
        }
        "vfat" => {
            let tree = fat::Reader::open(part, FAT_LIMITS)
                .and_then(|mut reader| reader.tree())
                .map_err(|error| error.to_string())?;
            let entry = tree.walk().find(|entry| {
                let name = entry.relative();
                name.eq_ignore_ascii_case(NAME.as_bytes())
            });
            let content = entry.and_then(|entry| entry.inode.content().cloned());
            let content = content.ok_or_else(not_there)?;
            if content.len() > FILE_MAX {
                return Err(too_large());
            }
            Ok(content.bytes().to_vec())
        }
        "iso9660" => {
            if span.size > ISO_MAX {
                return Err(format!(
                    "the disc is larger than {} MiB; make one that holds the answers alone",
                    ISO_MAX >> 20
                ));
            }
            let mut image = Vec::new();
            part.seek(SeekFrom::Start(0))
                .and_then(|_| part.take(ISO_MAX).read_to_end(&mut image))
                .map_err(|error| error.to_string())?;
            let volume =
                iso9660::inspect(&image, &iso9660::Limits::default()).map_err(|error| error.to_string())?;
            // Without Rock Ridge names are in capitals and short, and may end in a version.
            let wanted: [&[u8]; 3] = [b"/answers.toml", b"/answers.tom", b"/answers.tom;1"];
            let entry = volume
                .entries
                .iter()
                .find(|entry| wanted.iter().any(|name| entry.path.eq_ignore_ascii_case(name)));
            let entry = entry.ok_or_else(not_there)?;
            if entry.len() > FILE_MAX {
                return Err(too_large());
            }
            Ok(entry.content(&image).flatten().copied().collect())
        }
        other => Err(format!(
            "it has the file system {other}; FAT, ext4 and ISO 9660 are read"
        )),
    }
}

#[cfg(test)]
mod tests;
