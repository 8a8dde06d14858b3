//! A least rate at which a body has to come.

use std::io::{self, Read};
use std::time::{Duration, Instant};

/// A body that is given up when too little of it comes: the limit on the wait for more of it does not end a server that
/// sends a byte now and then.
pub struct Paced<R> {
    body: R,
    window: Duration,
    least: u64,
    began: Instant,
    came: u64,
}

impl<R: Read> Paced<R> {
    /// In each `window` of time at least `least` bytes have to come.
    pub fn new(body: R, window: Duration, least: u64) -> Paced<R> {
        Paced {
            body,
            window,
            least,
            began: Instant::now(),
            came: 0,
        }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(buffer)?;
        self.came += count as u64;
        let took = self.began.elapsed();
        if took >= self.window {
            // The end of a body is no lack.
            if count > 0 && self.came < self.least {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!(
                        "only {} bytes came in {} s, where {} are the least",
                        self.came,
                        took.as_secs(),
                        self.least
                    ),
                ));
            }
            (self.began, self.came) = (Instant::now(), 0);
        }
        Ok(count)
    }
}
