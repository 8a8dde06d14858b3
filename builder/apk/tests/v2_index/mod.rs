//! v2 indexes (apk-v2(5)) made by hand: this crate writes none.

#![allow(dead_code, clippy::unwrap_used)] // each test program uses its part; helpers of tests are tests

use std::io::Write as _;

use base64::Engine as _;
use lycia_apk::metadata::{Dependency, PackageInfo};

/// The text record of a package. Its identity is cut to 20 bytes, which v2 has.
pub fn record(info: &PackageInfo) -> String {
    let identity = &info.hashes.as_ref().unwrap().0[..20];
    let identity = base64::engine::general_purpose::STANDARD.encode(identity);
    let mut text = format!(
        "C:Q1{identity}\nP:{}\nV:{}\nS:{}\nI:{}\n",
        info.name, info.version, info.file_size, info.installed_size
    );
    for (letter, value) in [
        ('A', &info.arch),
        ('T', &info.description),
        ('U', &info.url),
        ('L', &info.license),
    ] {
        if !value.is_empty() {
            text.push_str(&format!("{letter}:{value}\n"));
        }
    }
    if info.provider_priority > 0 {
        text.push_str(&format!("k:{}\n", info.provider_priority));
    }
    for (letter, list) in [
        ('D', &info.depends),
        ('p', &info.provides),
        ('i', &info.install_if),
    ] {
        if !list.is_empty() {
            let words: Vec<String> = list.iter().map(Dependency::to_string).collect();
            text.push_str(&format!("{letter}:{}\n", words.join(" ")));
        }
    }
    text
}

/// An unsigned `APKINDEX.tar.gz` of records, in their order.
pub fn of_records(records: &[String]) -> Vec<u8> {
    let text: String = records.iter().map(|record| format!("{record}\n")).collect();
    gzip(
        &[
            tar_entry("DESCRIPTION", b"made by hand"),
            tar_entry("APKINDEX", text.as_bytes()),
            vec![0; 1024],
        ]
        .concat(),
    )
}

/// A gzip stream.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A file in a tar archive, of ustar's form.
pub fn tar_entry(name: &str, content: &[u8]) -> Vec<u8> {
    let mut head = vec![0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"14524770400\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = head.iter().map(|&byte| u32::from(byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut entry = [head, content.to_vec()].concat();
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}
