//! The listening end of the control socket: clients, their bytes and limits. Requests are answered by
//! the supervisor.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::protocol::{GREETING, MAX_REQUEST_BYTES};

/// Most clients at a time; the oldest idle one goes when another comes.
const MAX_CLIENTS: usize = 32;
/// A client that has not sent a whole request after this time is cut off.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// Most reply bytes that wait for a client that does not read.
const MAX_REPLY_BYTES: usize = 4 << 20;

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    /// Tells connections apart after others have gone.
    pub serial: u64,
    input: Vec<u8>,
    output: Vec<u8>,
    since: Duration,
    /// It has a request in hand that is answered later.
    pub waits: bool,
    finished: bool,
}

impl Client {
    /// The descriptor to poll.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Whether bytes wait to be sent.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Queues data lines and the last line of a reply.
    pub fn reply(&mut self, data: &[String], last: &str) {
        for line in data {
            self.output.push(b' ');
            // A line is a line, whatever a service wrote into its log.
            self.output
                .extend(line.bytes().map(|byte| if byte == b'\n' { b' ' } else { byte }));
            self.output.push(b'\n');
            if self.output.len() > MAX_REPLY_BYTES {
                break;
            }
        }
        self.output.extend(last.replace('\n', " ").bytes());
        self.output.push(b'\n');
        self.waits = false;
        self.flush();
    }

    fn flush(&mut self) {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => self.finished = true,
                Ok(sent) => {
                    self.output.drain(..sent);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => self.finished = true,
            }
            return;
        }
    }
}

/// The socket and its clients.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    listener: Option<UnixListener>,
    /// Current connections.
    pub clients: Vec<Client>,
    next_serial: u64,
}

impl Control {
    /// Nothing is opened yet.
    pub fn new(path: PathBuf) -> Control {
        Control {
            path,
            listener: None,
            clients: Vec::new(),
            next_serial: 0,
        }
    }

    /// Where the socket is or will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The listener to poll.
    pub fn listener(&self) -> Option<&UnixListener> {
        self.listener.as_ref()
    }

    /// Opens the socket unless it is open and still where it belongs. Mode 0600 from the first moment.
    pub fn open(&mut self) -> io::Result<()> {
        if self.listener.is_some() && self.path.exists() {
            return Ok(());
        }
        if self.path.exists() {
            if UnixStream::connect(&self.path).is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another supervisor answers there",
                ));
            }
            std::fs::remove_file(&self.path)?;
        }
        // Under umask 0177 nobody else can connect between bind and chmod.
        let old = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
        let bound = UnixListener::bind(&self.path);
        rustix::process::umask(old);
        let listener = bound?;
        std::fs::set_permissions(&self.path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        self.listener = Some(listener);
        Ok(())
    }

    /// Takes new connections. Only root and the supervisor's own user are served.
    pub fn accept(&mut self, now: Duration) {
        let Some(listener) = &self.listener else { return };
        while let Ok((mut stream, _)) = listener.accept() {
            let own = rustix::process::getuid();
            let peer = rustix::net::sockopt::socket_peercred(&stream);
            let allowed = peer.is_ok_and(|peer| peer.uid.is_root() || peer.uid == own);
            if !allowed || stream.set_nonblocking(true).is_err() {
                continue;
            }
            if stream.write_all(format!("{GREETING}\n").as_bytes()).is_err() {
                continue;
            }
            if self.clients.len() >= MAX_CLIENTS {
                let idle = self.clients.iter().position(|client| !client.waits).unwrap_or(0);
                self.clients.remove(idle);
            }
            self.next_serial += 1;
            self.clients.push(Client {
                stream,
                serial: self.next_serial,
                input: Vec::new(),
                output: Vec::new(),
                since: now,
                waits: false,
                finished: false,
            });
        }
    }

    /// Reads and writes what can be; gives complete request lines with their client's serial.
    pub fn exchange(&mut self, now: Duration) -> Vec<(u64, Vec<u8>)> {
        let mut requests = Vec::new();
        for client in &mut self.clients {
            client.flush();
            let mut buffer = [0u8; 1024];
            // One request at a time: what comes behind it stays in the socket.
            while !client.waits && !client.finished && !client.input.contains(&b'\n') {
                match client.stream.read(&mut buffer) {
                    Ok(0) => client.finished = true,
                    Ok(length) => client.input.extend(&buffer[..length]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => client.finished = true,
                }
                if client.input.len() > MAX_REQUEST_BYTES && !client.input.contains(&b'\n') {
                    client.reply(&[], "error: the request is too long");
                    client.finished = true;
                }
            }
            if let Some(end) = client.input.iter().position(|&byte| byte == b'\n')
                && !client.waits
            {
                let rest = client.input.split_off(end + 1);
                let mut line = std::mem::replace(&mut client.input, rest);
                line.pop();
                client.since = now;
                client.waits = true;
                requests.push((client.serial, line));
            }
            if !client.waits && now.saturating_sub(client.since) > REQUEST_LIMIT {
                client.finished = true;
            }
        }
        self.clients
            .retain(|client| !client.finished || (client.waits && !client.stream_is_gone()));
        requests
    }

    /// When clients have to be looked at again without anything to read: at once for requests that were
    /// read together with an earlier one, later for silent ones.
    pub fn next_deadline(&self) -> Option<Duration> {
        let idle = self.clients.iter().filter(|client| !client.waits);
        idle.map(|client| match client.input.contains(&b'\n') {
            true => Duration::ZERO,
            false => client.since + REQUEST_LIMIT + Duration::from_millis(1),
        })
        .min()
    }

    /// A client that is still there.
    pub fn client(&mut self, serial: u64) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.serial == serial)
    }
}

impl Client {
    fn stream_is_gone(&self) -> bool {
        matches!(self.stream.take_error(), Ok(Some(_)) | Err(_))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if self.listener.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
