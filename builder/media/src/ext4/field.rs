//! Little-endian numbers in records. Places are constants of the formats, inside records of fixed size.

pub(super) fn put16(record: &mut [u8], at: usize, value: u16) {
    record[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn put32(record: &mut [u8], at: usize, value: u32) {
    record[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn put64(record: &mut [u8], at: usize, value: u64) {
    record[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

pub(super) fn get16(record: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([record[at], record[at + 1]])
}

pub(super) fn get32(record: &[u8], at: usize) -> u32 {
    u32::from(get16(record, at)) | u32::from(get16(record, at + 2)) << 16
}
