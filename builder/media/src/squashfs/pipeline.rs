//! The compression of data blocks on all processors.
//!
//! One thread hands out blocks and writes results in the order in which the blocks were handed out, so
//! that the bytes do not depend on the number of workers. Blocks of files are slices of mapped packs: they
//! are read by the worker that compresses them. The number of blocks between the two ends is bounded.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use super::blocks::{BlockStore, Known, key};
use super::codec::Encoder;
use super::{Compressor, SquashfsError};

/// Bytes of blocks and results that may be on their way at once.
const IN_FLIGHT: usize = 48 << 20;

/// The bytes of a block before compression.
#[derive(Clone)]
pub(super) enum Block<'t> {
    /// Part of a file. One of zeros only is a hole and takes no room.
    File(&'t [u8]),
    /// Ends of files. Shared, since it may have to be stored as it is.
    Fragment(Arc<[u8]>),
}

impl Block<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Block::File(bytes) => bytes,
            Block::Fragment(bytes) => bytes,
        }
    }
}

/// What became of a block.
pub(super) enum Outcome {
    /// All zeros.
    Hole,
    /// Did not shrink.
    Raw,
    /// Compressed.
    Packed(Vec<u8>),
}

/// A block in its turn, with what the caller attached to it.
pub(super) struct Done<'t, T> {
    pub(super) label: T,
    pub(super) block: Block<'t>,
    pub(super) outcome: Outcome,
}

impl<T> Done<'_, T> {
    /// The bytes to store.
    pub(super) fn stored(&self) -> &[u8] {
        match &self.outcome {
            Outcome::Hole => &[],
            Outcome::Raw => self.block.bytes(),
            Outcome::Packed(bytes) => bytes,
        }
    }

    /// Bytes before compression.
    pub(super) fn len(&self) -> usize {
        self.block.bytes().len()
    }
}

struct Waiting<'t, T> {
    label: T,
    block: Block<'t>,
    outcome: Option<Outcome>,
}

type Work<'t> = (u64, Block<'t>);

/// Workers, and the blocks between them and the writer.
pub(super) struct Pipeline<'t, T> {
    work: Sender<Work<'t>>,
    results: Receiver<(u64, io::Result<Outcome>)>,
    waiting: VecDeque<Waiting<'t, T>>,
    /// Number of the first of `waiting`.
    first: u64,
    most: usize,
}

impl<'t, T> Pipeline<'t, T> {
    /// Starts `jobs` workers. They end when the pipeline is dropped.
    pub(super) fn new<'scope, 'env>(
        scope: &'scope Scope<'scope, 'env>,
        compressor: &Compressor,
        block_size: usize,
        jobs: usize,
        known: Option<&'scope dyn BlockStore>,
    ) -> Result<Pipeline<'t, T>, SquashfsError>
    where
        't: 'scope,
    {
        let (work, queue) = channel::<Work<'t>>();
        let queue = Arc::new(Mutex::new(queue));
        let (sender, results) = channel();
        for _ in 0..jobs {
            let queue = Arc::clone(&queue);
            let sender = sender.clone();
            let compressor = *compressor;
            let mut encoder = Encoder::new(&compressor).map_err(SquashfsError::compress("setting up"))?;
            std::thread::Builder::new()
                .name("squashfs".to_owned())
                .spawn_scoped(scope, move || {
                    loop {
                        // Only one waits at the queue, the others wait for the lock: the same to them.
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                        let Ok((number, block)) = next else { break };
                        // A result must come whatever happens: the writer waits for it.
                        let result = catch_unwind(AssertUnwindSafe(|| {
                            compress(&mut encoder, &compressor, &block, known)
                        }))
                        .unwrap_or_else(|_| Err(io::Error::other("the compressor panicked")));
                        if sender.send((number, result)).is_err() {
                            break;
                        }
                    }
                })
                .map_err(|source| SquashfsError::Io {
                    doing: "starting a compression thread for",
                    source,
                })?;
        }
        Ok(Pipeline {
            work,
            results,
            waiting: VecDeque::new(),
            first: 0,
            most: (IN_FLIGHT / (2 * block_size)).clamp(jobs + 1, 8 * jobs + 8),
        })
    }

    /// Hands out a block. When too many are on their way, waits and gives those that are done to `write`.
    pub(super) fn submit(
        &mut self,
        label: T,
        block: Block<'t>,
        write: &mut dyn FnMut(Done<'t, T>) -> Result<(), SquashfsError>,
    ) -> Result<(), SquashfsError> {
        while self.waiting.len() >= self.most {
            self.receive(write)?;
        }
        let number = self.first + self.waiting.len() as u64;
        self.waiting.push_back(Waiting {
            label,
            block: block.clone(),
            outcome: None,
        });
        self.work
            .send((number, block))
            .map_err(|_| SquashfsError::worker())
    }

    /// Waits for all blocks.
    pub(super) fn finish(
        mut self,
        write: &mut dyn FnMut(Done<'t, T>) -> Result<(), SquashfsError>,
    ) -> Result<(), SquashfsError> {
        while !self.waiting.is_empty() {
            self.receive(write)?;
        }
        Ok(())
    }

    fn receive(
        &mut self,
        write: &mut dyn FnMut(Done<'t, T>) -> Result<(), SquashfsError>,
    ) -> Result<(), SquashfsError> {
        let (number, outcome) = self.results.recv().map_err(|_| SquashfsError::worker())?;
        let outcome = outcome.map_err(SquashfsError::compress("compressing a block of"))?;
        self.waiting[(number - self.first) as usize].outcome = Some(outcome);
        while let Some(waiting) = self.waiting.pop_front() {
            match waiting.outcome {
                Some(outcome) => {
                    self.first += 1;
                    write(Done {
                        label: waiting.label,
                        block: waiting.block,
                        outcome,
                    })?;
                }
                None => {
                    self.waiting.push_front(waiting);
                    break;
                }
            }
        }
        Ok(())
    }
}

fn compress(
    encoder: &mut Encoder,
    compressor: &Compressor,
    block: &Block<'_>,
    known: Option<&dyn BlockStore>,
) -> io::Result<Outcome> {
    if let Block::File(bytes) = block
        && is_zero(bytes)
    {
        return Ok(Outcome::Hole);
    }
    let found = known.map(|store| (store, key(compressor, block.bytes())));
    if let Some((store, key)) = &found {
        match store.get(key) {
            Some(Known::Raw) => return Ok(Outcome::Raw),
            // One that is not smaller is no result of ours.
            Some(Known::Packed(packed)) if packed.len() < block.bytes().len() => {
                return Ok(Outcome::Packed(packed));
            }
            _ => {}
        }
    }
    let packed = encoder.encode(block.bytes())?;
    if let Some((store, key)) = &found {
        store.put(key, packed);
    }
    Ok(match packed {
        Some(packed) => Outcome::Packed(packed.to_vec()),
        None => Outcome::Raw,
    })
}

fn is_zero(bytes: &[u8]) -> bool {
    // By pieces, so that the inner loop can be done in wide registers and still ends early.
    bytes
        .chunks(256)
        .all(|piece| piece.iter().fold(0, |sum, byte| sum | byte) == 0)
}
