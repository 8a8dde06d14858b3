//! Hashes of contents by threads beside the one that unpacks: hashing takes longer than unpacking, and one large package (a kernel) would leave the other
//! processors idle.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use super::Hasher;

/// Pieces that wait for a thread, at most. With their size it is what bounds the memory.
const WAITING: usize = 8;

/// A piece of a file's content.
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    /// With the first one: what hashes the file.
    pub(super) begins: Option<Hasher>,
    /// With the last one: the file's number, and the hash that its content must have.
    pub(super) ends: Option<(usize, Vec<u8>)>,
}

/// Threads that hash. A content that is not what it should be is told of some time later, at the latest by [`Hashing::finish`].
pub(super) struct Hashing<'scope> {
    threads: Vec<(SyncSender<Piece>, ScopedJoinHandle<'scope, Option<usize>>)>,
    /// Buffers that are free again.
    free: Receiver<Vec<u8>>,
    turn: usize,
}

impl<'scope> Hashing<'scope> {
    /// With `count` threads, one at least.
    pub(super) fn new(scope: &'scope Scope<'scope, '_>, count: usize) -> Hashing<'scope> {
        let count = count.max(1);
        let (give, free) = sync_channel(WAITING * count);
        let threads = (0..count)
            .map(|_| {
                let (send, pieces) = sync_channel(WAITING);
                let give = give.clone();
                (send, scope.spawn(move || hash(&pieces, &give)))
            })
            .collect();
        Hashing {
            threads,
            free,
            turn: 0,
        }
    }

    /// A buffer of `length` bytes.
    pub(super) fn buffer(&self, length: usize) -> Vec<u8> {
        let mut buffer = self.free.try_recv().unwrap_or_default();
        buffer.resize(length, 0);
        buffer
    }

    /// Takes a piece. False where a thread has found a content that is not what it should be.
    pub(super) fn take(&mut self, piece: Piece) -> bool {
        let ends = piece.ends.is_some();
        let taken = self.threads[self.turn].0.send(piece).is_ok();
        if ends {
            // Whole files go round: a hash is of one thread.
            self.turn = (self.turn + 1) % self.threads.len();
        }
        taken
    }

    /// Waits for everything; the number of the first file whose content is not what it should be.
    pub(super) fn finish(self) -> Option<usize> {
        let mut wrong = None;
        for (send, thread) in self.threads {
            drop(send);
            let found = match thread.join() {
                Ok(found) => found,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            wrong = [wrong, found].into_iter().flatten().min();
        }
        wrong
    }
}

/// Hashes the files whose pieces come; ends with the number of the first that is not what it should be.
fn hash(pieces: &Receiver<Piece>, give: &SyncSender<Vec<u8>>) -> Option<usize> {
    let mut hasher = None;
    for piece in pieces {
        if let Some(begins) = piece.begins {
            hasher = Some(begins);
        }
        if let Some(hasher) = &mut hasher {
            hasher.update(&piece.bytes);
        }
        if let Some((number, wanted)) = piece.ends
            && hasher.take().map(Hasher::finish) != Some(wanted)
        {
            return Some(number);
        }
        // There is room for every buffer that is in use; where nobody takes them any more, they go.
        let _ = give.try_send(piece.bytes);
    }
    None
}
