//! Writing a layout.

use std::io::{self, Write};

use lycia_tree::{Content, Footprint};

use super::eltorito::boot_record;
use super::field::{VolumeTime, both_16, both_32};
use super::hierarchy::Hierarchy;
use super::layout::{DESCRIPTORS, Layout};
use super::names::joliet_field;
use super::{BLOCK, IsoError};

/// Bytes that are handed to the output at once.
const CHUNK: usize = 8 << 20;

impl Layout<'_> {
    /// Writes the image from its first byte to its last; `progress` is told the bytes written so far, from
    /// time to time.
    ///
    /// # Errors
    /// When the output refuses.
    pub fn write(&self, out: impl Write, progress: &mut dyn FnMut(u64)) -> Result<(), IsoError> {
        let mut out = Blocks {
            out,
            position: 0,
            footprint: Footprint::new(),
            progress,
        };
        self.write_head(&mut out)?;
        let hierarchies = || [Some(&self.iso), self.joliet.as_ref()].into_iter().flatten();
        for hierarchy in hierarchies() {
            for (block, big_endian) in hierarchy.path_tables.into_iter().zip([false, true]) {
                out.at(block, &hierarchy.path_table(big_endian))?;
            }
        }
        for hierarchy in hierarchies() {
            for (index, directory) in hierarchy.directories.iter().enumerate() {
                let (mut bytes, continuation) = self.encode(hierarchy, index)?;
                bytes.extend_from_slice(&continuation);
                out.at(directory.block, &bytes)?;
            }
        }
        for file in &self.files {
            let inode = self.image.files.inode(file.inode);
            match (&self.bios, inode.content()) {
                (Some((bios, filled)), _) if *bios == file.inode => out.at(file.block, filled)?,
                (_, Some(content)) if file.len > 0 => out.content(file.block, content)?,
                _ => {}
            }
        }
        if let (Some(block), Some(efi)) = (self.esp, &self.image.boot.efi) {
            out.content(block, &efi.esp)?;
        }
        if let Some((_, table)) = &self.table {
            let backup = table.backup()?;
            out.pad_to(self.size() - backup.len() as u64)?;
            out.put(&backup)?;
        }
        out.pad_to(self.size())?;
        out.out.flush().map_err(IsoError::Write)
    }

    /// The system area, the volume descriptors and the boot catalog.
    fn write_head(&self, out: &mut Blocks<'_, impl Write>) -> Result<(), IsoError> {
        if let Some((mbr, table)) = &self.table {
            out.put(&mbr.encode())?;
            out.put(&table.primary()?)?;
        }
        out.at(DESCRIPTORS, &self.descriptor(&self.iso)?)?;
        if let Some((block, _)) = &self.catalog {
            out.put(&boot_record(*block))?;
        }
        if let Some(joliet) = &self.joliet {
            out.put(&self.descriptor(joliet)?)?;
        }
        let mut terminator = vec![0; BLOCK as usize];
        terminator[..7].copy_from_slice(b"\xffCD001\x01");
        out.put(&terminator)?;
        if let Some((block, catalog)) = &self.catalog {
            out.at(*block, catalog)?;
        }
        Ok(())
    }

    /// A volume descriptor (ECMA-119, 8.4 and 8.5): the primary one, or Joliet's, which has its texts in UCS-2.
    fn descriptor(&self, hierarchy: &Hierarchy) -> Result<Vec<u8>, IsoError> {
        let image = self.image;
        let joliet = self
            .joliet
            .as_ref()
            .is_some_and(|joliet| std::ptr::eq(joliet, hierarchy));
        let text = |text: &str, len: usize| match joliet {
            true => joliet_field(text, len),
            false => {
                let mut bytes = text.as_bytes().to_vec();
                bytes.resize(len, b' ');
                bytes
            }
        };
        let created = VolumeTime::new(image.time).ok_or(IsoError::Date(image.time.seconds))?;
        let (records, _) = self.encode(hierarchy, 0)?;

        let mut bytes = Vec::with_capacity(BLOCK as usize);
        bytes.push(if joliet { 2 } else { 1 });
        bytes.extend_from_slice(b"CD001\x01\0");
        bytes.extend_from_slice(&text(image.system_id, 32));
        bytes.extend_from_slice(&text(image.volume_id, 32));
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&both_32(self.blocks));
        // Joliet's level 3, by its escape sequence.
        bytes.extend_from_slice(if joliet { b"%/E" } else { &[0; 3] });
        bytes.resize(120, 0);
        bytes.extend_from_slice(&both_16(1));
        bytes.extend_from_slice(&both_16(1));
        bytes.extend_from_slice(&both_16(BLOCK as u16));
        bytes.extend_from_slice(&both_32(hierarchy.path_table_len));
        bytes.extend_from_slice(&hierarchy.path_tables[0].to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&hierarchy.path_tables[1].to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        // The root's own record, without system use.
        bytes.push(34);
        bytes.extend_from_slice(&records[1..34]);
        for field in [
            image.volume_set_id,
            image.publisher,
            image.preparer,
            image.application,
        ] {
            bytes.extend_from_slice(&text(field, 128));
        }
        // Files with copyright, abstract and bibliography: none.
        for _ in 0..3 {
            bytes.extend_from_slice(&text("", 37));
        }
        bytes.extend_from_slice(&created.encode());
        bytes.extend_from_slice(&image.uuid.encode());
        for _ in 0..2 {
            bytes.extend_from_slice(b"0000000000000000\0");
        }
        bytes.push(1);
        bytes.resize(BLOCK as usize, 0);
        Ok(bytes)
    }
}

/// The output, of which it is known how far it is.
struct Blocks<'a, W> {
    out: W,
    position: u64,
    footprint: Footprint,
    progress: &'a mut dyn FnMut(u64),
}

impl<W: Write> Blocks<'_, W> {
    /// Writes `bytes` at `block`, with zeros up to there.
    fn at(&mut self, block: u32, bytes: &[u8]) -> Result<(), IsoError> {
        self.pad_to(u64::from(block) * BLOCK)?;
        self.put(bytes)
    }

    /// Writes a file at `block`, with zeros up to there.
    fn content(&mut self, block: u32, content: &Content) -> Result<(), IsoError> {
        self.pad_to(u64::from(block) * BLOCK)?;
        let mut footprint = std::mem::take(&mut self.footprint);
        let written = footprint.pieces(content).try_for_each(|piece| self.put(piece));
        self.footprint = footprint;
        written
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), IsoError> {
        for chunk in bytes.chunks(CHUNK) {
            self.out.write_all(chunk).map_err(IsoError::Write)?;
            self.position += chunk.len() as u64;
            (self.progress)(self.position);
        }
        Ok(())
    }

    fn pad_to(&mut self, position: u64) -> Result<(), IsoError> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let Some(mut left) = position.checked_sub(self.position) else {
            // The plan gave the same place out twice: nothing may be written over something else.
            return Err(IsoError::Write(io::Error::other(format!(
                "the layout goes back from byte {} to {position}",
                self.position
            ))));
        };
        while left > 0 {
            let len = left.min(ZEROS.len() as u64) as usize;
            self.out.write_all(&ZEROS[..len]).map_err(IsoError::Write)?;
            left -= len as u64;
        }
        self.position = position;
        Ok(())
    }
}
