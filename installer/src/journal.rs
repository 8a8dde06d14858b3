//! The journal: written to the target disk itself before anything else, so that it survives a power cut.
//!
//! It lies where the plan says, in a place that the plan gives up anyway and that no table or header occupies. In it are a copy of every table and header that
//! will be written over, the hash of the plan, how far it was carried out, and the answers without their secrets. It stays after
//! a finished installation: as long as nothing has grown over it, the old table can be brought back. That of an interrupted one counts only while the disk has
//! the tables that it had when the installation began: who partitions it anew and puts another system there must not lose that to a resumption.
//!
//! Form: two header blocks of 4096 bytes that are written in turn, so that a torn write leaves the other; a JSON description; the copies, each on
//! a boundary of 4096 bytes. Numbers are little-endian.

use std::collections::BTreeSet;
use std::io;

use lycia_media::partition::{gpt, mbr};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::apply::Step;
use crate::device::{BlockDevice, Reading, Span};
use crate::found::{hex, mbr_partitions};
use crate::plan::Plan;
use crate::probe::Firmware;

const MAGIC: &[u8; 8] = b"LYCIAJ03";
const BLOCK: u64 = 4096;
/// Where the description begins.
const DESCRIPTION: u64 = 2 * BLOCK;
/// Largest description that is read, in bytes.
const DESCRIPTION_MAX: u64 = 512 << 10;
const MIB: u64 = 1 << 20;
/// How far below the end of a partition or a gap a journal is looked for, in MiB.
pub(crate) const REACH: u64 = 160;
/// Largest copy that is read at once, in bytes.
const COPY_MAX: u64 = 1 << 30;
/// Bytes of the entries of a GPT of usual size (UEFI 2.10 §5.3.1).
const ENTRIES: u64 = 16 << 10;
/// Bytes of a header that its checksum covers.
const HEADER: usize = 96;

/// How an installation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was begun.
    Applying,
    /// It was finished.
    Done,
}

/// A range that was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Copy {
    start: u64,
    size: u64,
    /// Where the copy is, from the journal's first byte.
    at: u64,
    sha256: String,
}

/// What a run that goes on with an interrupted one has to know of it. No secret is in it: the disk is not encrypted where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notes {
    /// The answers, as TOML, without passwords and without where they were read from.
    pub answers: String,
    /// Consoles of the installed system, which those of another start of the medium need not be.
    pub consoles: Vec<String>,
    /// The firmware that started the medium: it decides what the plan says of booting, and another start may be by the other one.
    pub firmware: Firmware,
    /// Logins that had a password: it has to be given again.
    pub passwords: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    plan: String,
    layout: String,
    disk_size: u64,
    /// SHA-256 of the disk's tables when the installation began.
    tables: String,
    journal: Span,
    nonce: [u8; 16],
    notes: Notes,
    copies: Vec<Copy>,
}

/// What went wrong with a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk refuses.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A copy is not what it was.
    #[error("the journal's copy of bytes {start} to {end} is damaged; nothing was written back")]
    Damaged {
        /// First byte.
        start: u64,
        /// Byte behind the last.
        end: u64,
    },
    /// There is too much to copy.
    #[error("the journal has no room for its description")]
    Room,
}

/// SHA-256 of where partition tables lie: the first sector, and the GPT with its backup.
fn tables(device: &mut dyn BlockDevice) -> io::Result<[u8; 32]> {
    let (size, sector) = (device.size(), u64::from(device.sector()));
    let (head, tail) = ((2 * sector + ENTRIES).min(size), (sector + ENTRIES).min(size));
    let mut bytes = vec![0; (head + tail) as usize];
    let (first, last) = bytes.split_at_mut(head as usize);
    device.read_at(0, first)?;
    device.read_at(size - tail, last)?;
    Ok(Sha256::digest(&bytes).into())
}

fn hexadecimal(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn failed(doing: &'static str) -> impl Fn(io::Error) -> JournalError {
    move |source| JournalError::Io { doing, source }
}

/// What a header block says.
struct Header {
    generation: u64,
    state: State,
    step: u32,
    /// Of the description, in bytes.
    length: u64,
    /// Of the description.
    hash: [u8; 32],
    finished: [u8; 32],
}

/// A journal on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    description: Description,
    description_len: u64,
    description_hash: [u8; 32],
    generation: u64,
    state: State,
    step: u32,
    /// SHA-256 of the disk's tables when the installation was finished.
    finished: [u8; 32],
}

impl Journal {
    /// Begins: copies what `plan` says into its journal. When this returns, everything is on the disk.
    ///
    /// # Errors
    /// When the disk refuses. Nothing but the journal's own place was written then.
    pub fn begin(
        device: &mut dyn BlockDevice,
        plan: &Plan,
        nonce: [u8; 16],
        notes: Notes,
    ) -> Result<Journal, JournalError> {
        let span = plan.journal();
        let write = failed("writing the journal");
        let read = failed("reading what the journal saves");
        // An older journal in this place ends first.
        device.zero(span.start, DESCRIPTION).map_err(&write)?;
        device.flush().map_err(&write)?;
        let tables = hexadecimal(&tables(device).map_err(&read)?);
        let mut copies = Vec::new();
        let mut at = DESCRIPTION + DESCRIPTION_MAX;
        for saved in &plan.draft().saved {
            let mut hash = Sha256::new();
            let mut done = 0;
            let mut buffer = vec![0; MIB as usize];
            while done < saved.size {
                let count = (saved.size - done).min(MIB) as usize;
                device
                    .read_at(saved.start + done, &mut buffer[..count])
                    .map_err(&read)?;
                hash.update(&buffer[..count]);
                if at + done + count as u64 > span.size {
                    return Err(JournalError::Room);
                }
                device
                    .write_at(span.start + at + done, &buffer[..count])
                    .map_err(&write)?;
                done += count as u64;
            }
            copies.push(Copy {
                start: saved.start,
                size: saved.size,
                at,
                sha256: hexadecimal(&hash.finalize().into()),
            });
            at = (at + saved.size).next_multiple_of(BLOCK);
        }
        let description = Description {
            plan: plan.hash(),
            layout: plan.draft().layout.to_owned(),
            disk_size: plan.disk().size,
            tables,
            journal: span,
            nonce,
            notes,
            copies,
        };
        let text = serde_json::to_vec(&description).map_err(|error| JournalError::Io {
            doing: "writing the journal",
            source: error.into(),
        })?;
        if text.len() as u64 > DESCRIPTION_MAX {
            return Err(JournalError::Room);
        }
        device.write_at(span.start + DESCRIPTION, &text).map_err(&write)?;
        device.flush().map_err(&write)?;
        let mut journal = Journal {
            description,
            description_len: text.len() as u64,
            description_hash: Sha256::digest(&text).into(),
            generation: 0,
            state: State::Applying,
            step: 0,
            finished: [0; 32],
        };
        journal.write_header(device)?;
        Ok(journal)
    }

    fn header(&self) -> Vec<u8> {
        let state: u32 = match self.state {
            State::Applying => 1,
            State::Done => 2,
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.generation.to_le_bytes());
        bytes.extend_from_slice(&state.to_le_bytes());
        bytes.extend_from_slice(&self.step.to_le_bytes());
        bytes.extend_from_slice(&self.description_len.to_le_bytes());
        bytes.extend_from_slice(&self.description_hash);
        bytes.extend_from_slice(&self.finished);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes.resize(BLOCK as usize, 0);
        bytes
    }

    /// Writes the next header beside the one that holds; when it returns, the new one holds.
    fn write_header(&mut self, device: &mut dyn BlockDevice) -> Result<(), JournalError> {
        let write = failed("writing the journal");
        self.generation += 1;
        let at = self.description.journal.start + self.generation % 2 * BLOCK;
        device.write_at(at, &self.header()).map_err(&write)?;
        device.flush().map_err(&write)
    }

    fn read(device: &mut dyn BlockDevice, start: u64) -> Option<Journal> {
        let mut newest: Option<Header> = None;
        let mut block = vec![0; BLOCK as usize];
        for slot in 0..2 {
            device.read_at(start + slot * BLOCK, &mut block).ok()?;
            let word = |at: usize| Some(u32::from_le_bytes(block.get(at..at + 4)?.try_into().ok()?));
            let long = |at: usize| Some(u64::from_le_bytes(block.get(at..at + 8)?.try_into().ok()?));
            if &block[..8] != MAGIC || crc32fast::hash(&block[..HEADER]) != word(HEADER)? {
                continue;
            }
            let state = match word(16)? {
                1 => State::Applying,
                2 => State::Done,
                _ => continue,
            };
            let hash: [u8; 32] = block[32..64].try_into().ok()?;
            let found = Header {
                generation: long(8)?,
                state,
                step: word(20)?,
                length: long(24)?,
                hash,
                finished: block[64..HEADER].try_into().ok()?,
            };
            if newest
                .as_ref()
                .is_none_or(|newest| newest.generation < found.generation)
            {
                newest = Some(found);
            }
        }
        let Header {
            generation,
            state,
            step,
            length,
            hash,
            finished,
        } = newest?;
        if length > DESCRIPTION_MAX {
            return None;
        }
        let mut text = vec![0; length as usize];
        device.read_at(start + DESCRIPTION, &mut text).ok()?;
        if <[u8; 32]>::from(Sha256::digest(&text)) != hash {
            return None;
        }
        let description: Description = serde_json::from_slice(&text).ok()?;
        // A copy of the disk's bytes somewhere else is not this disk's journal.
        let here = description.journal.start == start && description.disk_size == device.size();
        let inside = description.copies.iter().all(|copy| {
            let end = |start: u64| start.checked_add(copy.size);
            end(copy.at).is_some_and(|end| end <= description.journal.size)
                && end(copy.start).is_some_and(|end| end <= device.size())
                && copy.size <= COPY_MAX
        });
        (here && inside).then_some(Journal {
            description,
            description_len: length,
            description_hash: hash,
            generation,
            state,
            step,
            finished,
        })
    }

    /// Whether the disk was partitioned anew since this interrupted installation began: what is there now is somebody else's. While the table itself was
    /// being written, that cannot be told from a torn write.
    fn is_stale(&self, device: &mut dyn BlockDevice) -> io::Result<bool> {
        let table_step = Step::ALL.len() as u32 - 1;
        if self.state == State::Done || self.step >= table_step {
            return Ok(false);
        }
        Ok(hexadecimal(&tables(device)?) != self.description.tables)
    }

    /// Whether the tables are others than this finished installation wrote.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn was_partitioned_since(&self, device: &mut dyn BlockDevice) -> io::Result<bool> {
        Ok(self.state == State::Done && tables(device)? != self.finished)
    }

    /// Looks for a journal on a disk: below every place where a plan may have put one, judged by the tables that can be read. That of an interrupted
    /// installation whose disk was partitioned anew since is none. Only reads.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn find(device: &mut dyn BlockDevice) -> io::Result<Option<Journal>> {
        let size = device.size();
        let sector = device.sector();
        let mut ends = BTreeSet::from([size]);
        let mut first = [0; 512];
        if size >= 512 {
            device.read_at(0, &mut first)?;
        }
        if let Ok(table) = mbr::Mbr::decode(&first) {
            for partition in mbr_partitions(device, &table)?.0 {
                ends.extend([partition.span.start, partition.span.end()]);
            }
        }
        match gpt::Table::read(&mut Reading::new(device), sector) {
            Ok((table, _)) => {
                for partition in &table.partitions {
                    ends.extend([
                        partition.first * u64::from(sector),
                        (partition.last + 1) * u64::from(sector),
                    ]);
                }
            }
            Err(gpt::GptError::Io(error)) => return Err(error),
            Err(_) => {}
        }
        let mut places = BTreeSet::new();
        for end in ends.into_iter().filter(|end| *end <= size) {
            let last = end / MIB;
            places.extend((last.saturating_sub(REACH)..=last).map(|unit| unit * MIB));
        }
        let mut found: Option<Journal> = None;
        let mut magic = [0; 8];
        for place in places.into_iter().filter(|place| place + DESCRIPTION <= size) {
            let mut begins = false;
            for slot in 0..2 {
                device.read_at(place + slot * BLOCK, &mut magic)?;
                begins |= &magic == MAGIC;
            }
            if !begins {
                continue;
            }
            if let Some(journal) = Journal::read(device, place)
                && !journal.is_stale(device)?
            {
                // One that is not finished matters more than an old finished one.
                let better = found.as_ref().is_none_or(|old| old.state == State::Done);
                if better {
                    found = Some(journal);
                }
            }
        }
        Ok(found)
    }

    /// How the installation stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Number of the first step that is not known to be finished.
    #[must_use]
    pub fn step(&self) -> u32 {
        self.step
    }

    /// Hash of the plan.
    #[must_use]
    pub fn plan(&self) -> &str {
        &self.description.plan
    }

    /// What the UUIDs are made from.
    #[must_use]
    pub fn nonce(&self) -> [u8; 16] {
        self.description.nonce
    }

    /// What going on needs to know.
    #[must_use]
    pub fn notes(&self) -> &Notes {
        &self.description.notes
    }

    /// The disk as it was before the installation began, for reading.
    ///
    /// # Errors
    /// When a copy cannot be read or is damaged.
    pub fn original<'a>(&self, device: &'a mut dyn BlockDevice) -> Result<Original<'a>, JournalError> {
        let copies = self.copies(device)?;
        Ok(Original { device, copies })
    }

    /// Every copy, checked.
    fn copies(&self, device: &mut dyn BlockDevice) -> Result<Vec<(u64, Vec<u8>)>, JournalError> {
        let mut copies = Vec::new();
        for copy in &self.description.copies {
            let mut bytes = vec![0; copy.size as usize];
            device
                .read_at(self.description.journal.start + copy.at, &mut bytes)
                .map_err(failed("reading the journal"))?;
            if hex(&bytes) != copy.sha256 {
                return Err(JournalError::Damaged {
                    start: copy.start,
                    end: copy.start + copy.size,
                });
            }
            copies.push((copy.start, bytes));
        }
        Ok(copies)
    }

    /// Records that the steps before `step` are finished and on the disk.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn advance(&mut self, device: &mut dyn BlockDevice, step: u32) -> Result<(), JournalError> {
        self.step = step;
        self.write_header(device)
    }

    /// Records that everything is finished.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(&mut self, device: &mut dyn BlockDevice) -> Result<(), JournalError> {
        self.finished = tables(device).map_err(failed("reading the tables that were written"))?;
        self.state = State::Done;
        self.write_header(device)
    }

    /// Writes every table and header back as it was and ends the journal. It can be repeated if it is interrupted. Contents of partitions that were
    /// written over by new file systems do not come back.
    ///
    /// # Errors
    /// When a copy is damaged (nothing was written then) or the disk refuses.
    pub fn undo(self, device: &mut dyn BlockDevice) -> Result<(), JournalError> {
        let start = self.description.journal.start;
        let write = failed("writing back what was saved");
        let mut copies = self.copies(device)?;
        // The beginning of the disk comes last: the old table holds when everything that it names is there.
        copies.sort_by_key(|(start, _)| std::cmp::Reverse(*start));
        for (start, bytes) in copies {
            device.write_at(start, &bytes).map_err(&write)?;
            device.flush().map_err(&write)?;
        }
        device.zero(start, DESCRIPTION).map_err(&write)?;
        device.flush().map_err(&write)
    }
}

/// A disk as it was: what was copied in place of what is there now. It cannot be written.
pub struct Original<'a> {
    device: &'a mut dyn BlockDevice,
    copies: Vec<(u64, Vec<u8>)>,
}

impl BlockDevice for Original<'_> {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn sector(&self) -> u32 {
        self.device.sector()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.device.read_at(offset, buffer)?;
        let end = offset + buffer.len() as u64;
        for (start, bytes) in &self.copies {
            let (from, to) = (offset.max(*start), end.min(start + bytes.len() as u64));
            if from < to {
                let source = &bytes[(from - start) as usize..(to - start) as usize];
                buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(source);
            }
        }
        Ok(())
    }

    fn write_at(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::PermissionDenied))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
