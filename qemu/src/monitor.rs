//! QEMU's machine protocol (QMP): one JSON object a line over a stream.

use crate::error::Error;
use crate::process::{Shared, deadline};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest line taken from QEMU.
const LINE_LIMIT: usize = 1 << 20;
/// Events kept that nobody asked for.
const EVENTS_LIMIT: usize = 1000;

/// Something QEMU tells of itself, for example `SHUTDOWN` or `RESET`.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// QMP's name of it.
    pub name: String,
    /// Its data; empty when it has none.
    pub data: Map<String, Value>,
}

#[derive(Debug, PartialEq)]
enum Message {
    Greeting,
    Return {
        id: Option<u64>,
        value: Value,
    },
    Error {
        id: Option<u64>,
        class: String,
        description: String,
    },
    Event(Event),
}

impl Message {
    fn parse(line: &[u8]) -> Result<Self, String> {
        let mut object: Map<String, Value> =
            serde_json::from_slice(line).map_err(|error| format!("not a JSON object: {error}"))?;
        let id = object.get("id").and_then(Value::as_u64);
        if let Some(value) = object.remove("return") {
            return Ok(Self::Return { id, value });
        }
        if let Some(error) = object.get("error") {
            let text = |key: &str| error.get(key).and_then(Value::as_str).map(str::to_owned);
            let (class, description) = text("class")
                .zip(text("desc"))
                .ok_or("an error without class and description")?;
            return Ok(Self::Error {
                id,
                class,
                description,
            });
        }
        if let Some(name) = object.get("event").and_then(Value::as_str) {
            let name = name.to_owned();
            let data = match object.remove("data") {
                Some(Value::Object(data)) => data,
                None => Map::new(),
                Some(_) => return Err(format!("the data of event {name} is not an object")),
            };
            return Ok(Self::Event(Event { name, data }));
        }
        if object.contains_key("QMP") {
            return Ok(Self::Greeting);
        }
        Err("a message of no known kind".into())
    }
}

/// A QMP session.
#[derive(Debug)]
pub(crate) struct Monitor {
    shared: Arc<Shared>,
    stream: UnixStream,
    partial: Vec<u8>,
    events: VecDeque<Event>,
    last_id: u64,
}

impl Monitor {
    /// Waits for QEMU's greeting and enters command mode.
    pub(crate) fn open(shared: Arc<Shared>, stream: UnixStream, limit: Duration) -> Result<Self, Error> {
        let mut monitor = Self {
            shared,
            stream,
            partial: Vec::new(),
            events: VecDeque::new(),
            last_id: 0,
        };
        let awaited = "the greeting of QEMU's monitor";
        match monitor.message(awaited, deadline(limit), limit)? {
            Message::Greeting => {}
            other => return Err(protocol(awaited, format!("{other:?}"))),
        }
        monitor.execute("qmp_capabilities", Value::Null, limit)?;
        Ok(monitor)
    }

    pub(crate) fn execute(
        &mut self,
        command: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, Error> {
        self.last_id += 1;
        let id = self.last_id;
        let mut request = json!({ "execute": command, "id": id });
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        let awaited = format!("the answer of QEMU's monitor to {command}");
        if let Err(source) = self.stream.write_all(format!("{request}\n").as_bytes()) {
            return Err(match source.kind() {
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => self.shared.ended(&awaited),
                _ => Error::Host {
                    doing: "writing to QEMU's monitor",
                    source,
                },
            });
        }
        let deadline = deadline(limit);
        loop {
            match self.message(&awaited, deadline, limit)? {
                Message::Event(event) => self.keep(event),
                Message::Return {
                    id: Some(answer),
                    value,
                } if answer == id => return Ok(value),
                Message::Error {
                    id: answer,
                    class,
                    description,
                } if answer.is_none_or(|answer| answer == id) => {
                    return Err(Error::Refused {
                        command: command.to_owned(),
                        class,
                        description,
                    });
                }
                // The late answer to a command whose limit was over.
                Message::Return { id: Some(answer), .. } | Message::Error { id: Some(answer), .. }
                    if answer < id => {}
                other => return Err(protocol(command, format!("{other:?}"))),
            }
        }
    }

    /// The next event with this name, also one that came before the call and was not taken yet.
    pub(crate) fn wait_event(&mut self, name: &str, limit: Duration) -> Result<Event, Error> {
        let deadline = deadline(limit);
        let awaited = format!("the event {name}");
        loop {
            let at = self.events.iter().position(|event| event.name == name);
            if let Some(event) = at.and_then(|at| self.events.remove(at)) {
                return Ok(event);
            }
            match self.message(&awaited, deadline, limit)? {
                Message::Event(event) => self.keep(event),
                Message::Return { .. } | Message::Error { .. } => {}
                Message::Greeting => return Err(protocol(&awaited, "a second greeting".into())),
            }
        }
    }

    fn keep(&mut self, event: Event) {
        if self.events.len() == EVENTS_LIMIT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    fn message(&mut self, awaited: &str, deadline: Instant, limit: Duration) -> Result<Message, Error> {
        let mut buffer = [0; 16 << 10];
        loop {
            if let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.partial.drain(..=end).collect();
                return Message::parse(&line).map_err(|why| protocol(awaited, why));
            }
            if self.partial.len() > LINE_LIMIT {
                return Err(protocol(
                    awaited,
                    format!("a line longer than {LINE_LIMIT} bytes"),
                ));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.shared.timeout(awaited, limit));
            }
            let host = |source| Error::Host {
                doing: "reading from QEMU's monitor",
                source,
            };
            self.stream.set_read_timeout(Some(left)).map_err(host)?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(self.shared.ended(awaited)),
                Ok(length) => self.partial.extend_from_slice(&buffer[..length]),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionReset => return Err(self.shared.ended(awaited)),
                    _ => return Err(host(error)),
                },
            }
        }
    }
}

fn protocol(command: &str, why: String) -> Error {
    Error::Protocol {
        command: command.to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let parse = |text: &str| Message::parse(text.as_bytes());
        assert_eq!(
            parse(r#"{"QMP": {"version": {}, "capabilities": ["oob"]}}"#),
            Ok(Message::Greeting)
        );
        assert_eq!(
            parse(r#"{"return": {"a": 1}, "id": 7}"#),
            Ok(Message::Return {
                id: Some(7),
                value: json!({"a": 1})
            })
        );
        assert_eq!(
            parse(r#"{"error": {"class": "GenericError", "desc": "no"}, "id": 7}"#),
            Ok(Message::Error {
                id: Some(7),
                class: "GenericError".into(),
                description: "no".into()
            })
        );
        let event = parse(r#"{"timestamp": {"seconds": 1}, "event": "SHUTDOWN", "data": {"guest": true}}"#);
        assert!(
            matches!(event, Ok(Message::Event(event)) if event.name == "SHUTDOWN" && event.data["guest"] == true)
        );
        assert!(matches!(parse(r#"{"event": "STOP"}"#), Ok(Message::Event(event)) if event.data.is_empty()));
        for bad in [
            "",
            "[]",
            "7",
            "{",
            r#"{"error": 1}"#,
            r#"{"event": 1}"#,
            r#"{"event": "A", "data": 1}"#,
            "{}",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    /// A QEMU that says exactly `lines` and then closes.
    fn open(lines: &str) -> Result<Monitor, Error> {
        let (ours, mut qemu) = UnixStream::pair().unwrap();
        qemu.write_all(lines.as_bytes()).unwrap();
        qemu.shutdown(std::net::Shutdown::Write).unwrap();
        let monitor = Monitor::open(Shared::new(None), ours, Duration::from_secs(5));
        // The other end stays open for writing.
        drop(qemu);
        monitor
    }

    #[test]
    fn sessions() {
        let greeting = "{\"QMP\": {}}\r\n";
        let ready = "{\"return\": {}, \"id\": 1}\r\n";
        assert!(open(&format!("{greeting}{ready}")).is_ok());
        assert!(open(&format!("{greeting}{{\"event\": \"RESET\"}}\n{ready}")).is_ok());
        assert!(matches!(open(""), Err(Error::Ended { .. })));
        assert!(matches!(open("hello\n"), Err(Error::Protocol { .. })));
        assert!(matches!(open(ready), Err(Error::Protocol { .. })));
        assert!(matches!(
            open(&format!("{greeting}{{\"return\": {{}}, \"id\": 9}}\n")),
            Err(Error::Protocol { .. })
        ));
        let refused = "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"what?\"}, \"id\": 1}\n";
        assert!(matches!(
            open(&format!("{greeting}{refused}")),
            Err(Error::Refused { .. })
        ));
        let endless = "x".repeat(LINE_LIMIT + 100_000);
        let (ours, mut qemu) = UnixStream::pair().unwrap();
        let writer = std::thread::spawn(move || qemu.write_all(endless.as_bytes()));
        assert!(matches!(
            Monitor::open(Shared::new(None), ours, Duration::from_secs(5)),
            Err(Error::Protocol { .. })
        ));
        let _ = writer.join().unwrap();
    }
}
