//! Reading system use entries: what Rock Ridge says of an entry.

use lycia_tree::Device;

use super::inspect::{InspectError, Limits, blocks, both_32, malformed};
use super::rock_ridge;

/// What the system use entries of a record say.
#[derive(Default)]
pub struct SystemUse {
    pub attributes: Option<[u32; 5]>,
    pub date: Option<[u8; 7]>,
    pub name: Option<Vec<u8>>,
    name_continues: bool,
    pub link: Option<Link>,
    pub device: Option<Device>,
    pub child: Option<u32>,
    pub parent: Option<u32>,
    pub relocated: bool,
}

/// The text of a symbolic link as far as it was read.
#[derive(Default)]
pub struct Link {
    text: Vec<u8>,
    /// A component, or the whole, goes on in the next entry.
    component_continues: bool,
    continues: bool,
    /// A slash is due before the next component.
    separate: bool,
}

impl Link {
    /// The text, when all of it was there.
    pub fn whole(&self) -> Option<&[u8]> {
        let whole = !self.continues && !self.component_continues && !self.text.is_empty();
        whole.then_some(self.text.as_slice())
    }

    fn add(&mut self, body: &[u8], place: &str) -> Result<(), InspectError> {
        let [flags, components @ ..] = body else {
            return Err(malformed(place, "an SL entry without flags"));
        };
        self.continues = flags & 1 != 0;
        let mut rest = components;
        while let [flags, len, tail @ ..] = rest {
            let len = usize::from(*len);
            let text = tail
                .get(..len)
                .ok_or_else(|| malformed(place, "a component of a link runs past its entry"))?;
            rest = &tail[len..];
            if !self.component_continues && self.separate {
                self.text.push(b'/');
            }
            match flags & 0x0e {
                0 => self.text.extend_from_slice(text),
                2 => self.text.push(b'.'),
                4 => self.text.extend_from_slice(b".."),
                8 => self.text.push(b'/'),
                _ => return Err(malformed(place, "a component of a link with several meanings")),
            }
            self.separate = flags & 8 == 0;
            self.component_continues = flags & 1 != 0;
            if self.text.len() > 64 << 10 || self.text.contains(&0) {
                return Err(malformed(place, "the text of a link is none"));
            }
        }
        if !rest.is_empty() {
            return Err(malformed(place, "a component of a link is cut"));
        }
        Ok(())
    }
}

impl SystemUse {
    /// Reads the entries in the system use `area` of a record, and those in `image` they continue in. `skip` bytes
    /// come before them, except in the record that says so.
    pub fn read(
        image: &[u8],
        limits: &Limits,
        area: &[u8],
        skip: usize,
        place: &str,
    ) -> Result<SystemUse, InspectError> {
        let mut read = SystemUse::default();
        let first = area.starts_with(b"SP");
        let mut area = if first {
            area
        } else {
            area.get(skip..).unwrap_or_default()
        };
        let mut total = area.len();
        loop {
            let mut next = None;
            let mut rest = area;
            while let [a, b, len, version, ..] = *rest {
                let len = usize::from(len);
                // What is too short for an entry is padding, as are zeros.
                if (a, b) == (0, 0) {
                    break;
                }
                if len < 4 || len > rest.len() || version != 1 {
                    return Err(malformed(place, "a system use entry of a wrong length"));
                }
                let body = &rest[4..len];
                rest = &rest[len..];
                match &[a, b] {
                    b"CE" => {
                        let body = exact::<24>(body, "CE", place)?;
                        next = Some((
                            both_32(&body, 0, place)?,
                            both_32(&body, 8, place)?,
                            both_32(&body, 16, place)?,
                        ));
                    }
                    b"ST" => break,
                    signature => read.add(signature, body, place)?,
                }
            }
            let Some((block, offset, len)) = next else {
                break;
            };
            total = total.saturating_add(len as usize).saturating_add(1);
            if total > limits.system_use {
                return Err(InspectError::Limit {
                    what: "bytes of system use in one entry",
                    limit: limits.system_use as u64,
                });
            }
            let bytes = blocks(image, block, u64::from(offset) + u64::from(len), place)?;
            area = &bytes[offset as usize..];
        }
        if read.name_continues {
            return Err(malformed(place, "a name without its end"));
        }
        Ok(read)
    }

    fn add(&mut self, signature: &[u8; 2], body: &[u8], place: &str) -> Result<(), InspectError> {
        match signature {
            b"PX" => {
                // The serial number came with the later version of Rock Ridge.
                let mut fields = [0; 5];
                let count = match body.len() {
                    32 => 4,
                    40 => 5,
                    _ => return Err(malformed(place, "a PX entry of a wrong length")),
                };
                for (index, field) in fields[..count].iter_mut().enumerate() {
                    *field = both_32(body, index * 8, place)?;
                }
                self.attributes = Some(fields);
            }
            b"TF" => {
                let [flags, stamps @ ..] = body else {
                    return Err(malformed(place, "a TF entry without flags"));
                };
                // Creation comes first; long stamps are as in the volume descriptor.
                let before = usize::from(flags & 1);
                if flags & 2 != 0 && flags & 0x80 == 0 {
                    let stamp = stamps
                        .get(before * 7..before * 7 + 7)
                        .ok_or_else(|| malformed(place, "a TF entry is cut"))?;
                    self.date = Some(exact(stamp, "TF", place)?);
                }
            }
            b"NM" => {
                let [flags, text @ ..] = body else {
                    return Err(malformed(place, "an NM entry without flags"));
                };
                if flags & 0x26 == 0 {
                    self.name.get_or_insert_default().extend_from_slice(text);
                    self.name_continues = flags & 1 != 0;
                }
            }
            b"SL" => self.link.get_or_insert_default().add(body, place)?,
            b"PN" => {
                let body = exact::<16>(body, "PN", place)?;
                let (major, minor) = rock_ridge::device(both_32(&body, 0, place)?, both_32(&body, 8, place)?);
                self.device = Some(Device { major, minor });
            }
            b"CL" => self.child = Some(both_32(&exact::<8>(body, "CL", place)?, 0, place)?),
            b"PL" => self.parent = Some(both_32(&exact::<8>(body, "PL", place)?, 0, place)?),
            b"RE" => self.relocated = true,
            // Entries that are not understood say nothing about the others.
            _ => {}
        }
        Ok(())
    }
}

fn exact<const LEN: usize>(bytes: &[u8], name: &str, place: &str) -> Result<[u8; LEN], InspectError> {
    bytes
        .try_into()
        .map_err(|_| malformed(place, format!("a {name} entry of a wrong length")))
}
