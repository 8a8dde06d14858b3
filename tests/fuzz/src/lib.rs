//! Fuzz targets for every parser of outside bytes.
//!
//! A target takes any bytes and says whether the parser took them. It must not panic, hang or take memory
//! without bound, and where a parser has a writer, what was read must come back from what is written.
//!
//! `cargo test -p lycia-fuzz` runs every target over its seeds, over the inputs in `hostile/` that were once a
//! fault, and over a fixed number of mutations. `run.sh SECONDS [TARGET…]` hands the targets to libFuzzer.

mod apk;
mod apk_v2;
mod images;
mod inspect;
mod media;
mod mutation;
mod root;
mod system;
mod volumes;

pub use mutation::Mutator;

/// Something that takes bytes from outside.
pub struct Target {
    /// Its name, and that of its folder in `hostile/`.
    pub name: &'static str,
    /// Parses the bytes; says whether they were taken.
    pub run: fn(&[u8]) -> bool,
    /// Inputs that are taken, made by our own writers.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[&[Target]] = &[
    apk::TARGETS,
    media::TARGETS,
    volumes::TARGETS,
    images::TARGETS,
    inspect::TARGETS,
    root::TARGETS,
    system::TARGETS,
];

/// All targets, one after another.
pub fn targets() -> impl Iterator<Item = &'static Target> {
    TARGETS.iter().copied().flatten()
}

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    targets().find(|target| target.name == name)
}

/// Seeds that are texts.
fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}
