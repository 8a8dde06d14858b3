//! Partition tables: GPT (UEFI specification 2.10, section 5.3) and MBR (section 5.2).
//!
//! Both are values that turn into the sectors they occupy and back. Identifiers are the caller's, so that
//! the same table gives the same bytes; [`Guid::derive`] makes one from what it identifies.

pub mod gpt;
mod guid;
pub mod mbr;

pub use guid::{Guid, ParseGuidError};
