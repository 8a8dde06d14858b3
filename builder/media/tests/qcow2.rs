//! qcow2 images, judged by qemu-img.

#![allow(clippy::unwrap_used)]

mod oracle;

use std::io::{Cursor, Read, Seek, SeekFrom, Write};

use lycia_media::qcow2::{Qcow2Error, write};
use oracle::run;
use proptest::prelude::*;
use tempfile::NamedTempFile;

/// A sparse disk with a few bytes at some places.
fn raw(size: u64, places: &[(u64, Vec<u8>)]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.as_file().set_len(size).unwrap();
    for (place, bytes) in places {
        file.seek(SeekFrom::Start(*place)).unwrap();
        file.write_all(bytes).unwrap();
    }
    file
}

fn check(raw: &NamedTempFile, size: u64) -> u64 {
    let mut image = NamedTempFile::new().unwrap();
    let mut source = std::fs::File::open(raw.path()).unwrap();
    let mut read = 0;
    let written = write(&mut source, size, image.as_file_mut(), &mut |bytes| read += bytes).unwrap();
    assert_eq!(read, size);
    assert_eq!(image.as_file().metadata().unwrap().len(), written.bytes);
    let (raw, image) = (raw.path().to_str().unwrap(), image.path().to_str().unwrap());
    let verdict = run("qemu-utils", "qemu-img", &["check", "-f", "qcow2", image], b"");
    assert!(verdict.contains("No errors were found"), "{verdict}");
    let verdict = run(
        "qemu-utils",
        "qemu-img",
        &["compare", "-f", "raw", "-F", "qcow2", raw, image],
        b"",
    );
    assert!(verdict.contains("Images are identical."), "{verdict}");
    let info = run("qemu-utils", "qemu-img", &["info", "--output=json", image], b"");
    assert!(info.contains(&format!("\"virtual-size\": {size},")), "{info}");
    assert!(info.contains("\"compat\": \"1.1\""), "{info}");
    written.data_clusters
}

#[test]
fn disks_of_many_sizes() {
    const CLUSTER: u64 = 64 << 10;
    const L2: u64 = 512 << 20;
    for size in [512, CLUSTER - 512, CLUSTER, CLUSTER + 512, L2, L2 + 512] {
        let end = (size - 512, vec![0xee; 512]);
        assert_eq!(
            check(&raw(size, &[(0, vec![1; 512]), end]), size),
            1 + u64::from(size > CLUSTER)
        );
    }
    assert_eq!(check(&raw(3 * CLUSTER, &[]), 3 * CLUSTER), 0);
}

#[test]
fn many_clusters_need_more_counts() {
    // More than the 32,768 clusters that one block counts, without their being on disk.
    struct Ones(u64);
    impl Read for Ones {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let len = buffer.len().min(self.0 as usize);
            buffer[..len].fill(0);
            if let Some(first) = buffer[..len].first_mut() {
                *first = 1;
            }
            self.0 -= len as u64;
            Ok(len)
        }
    }
    let size = 33_000 << 16;
    let mut image = NamedTempFile::new().unwrap();
    struct Sparse<'f>(&'f mut std::fs::File);
    impl Write for Sparse<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            // What is zero is left out, so that the test writes little.
            let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |at| at + 1);
            self.0.write_all(&bytes[..used])?;
            self.0.seek(SeekFrom::Current((bytes.len() - used) as i64))?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    impl Seek for Sparse<'_> {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            self.0.seek(to)
        }
    }
    let written = write(
        &mut Ones(size),
        size,
        &mut Sparse(image.as_file_mut()),
        &mut |_| (),
    )
    .unwrap();
    image.as_file().set_len(written.bytes).unwrap();
    assert_eq!(written.data_clusters, 33_000);
    let path = image.path().to_str().unwrap();
    let verdict = run("qemu-utils", "qemu-img", &["check", "-f", "qcow2", path], b"");
    assert!(verdict.contains("No errors were found"), "{verdict}");
}

#[test]
fn impossible_disks_are_refused() {
    for size in [511, 513, 1 << 56] {
        let refused = write(
            &mut std::io::empty(),
            size,
            &mut Cursor::new(Vec::new()),
            &mut |_| (),
        );
        assert!(matches!(refused, Err(Qcow2Error::Size(_))));
    }
    let short = write(
        &mut std::io::empty(),
        512,
        &mut Cursor::new(Vec::new()),
        &mut |_| (),
    );
    assert!(matches!(short, Err(Qcow2Error::Read(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_disks(
        sectors in 1u64..300_000,
        places in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>(), 1usize..200_000), 0..12),
    ) {
        let size = sectors * 512;
        let places: Vec<(u64, Vec<u8>)> = places
            .into_iter()
            .map(|(at, byte, len)| {
                let at = at.index(size as usize) as u64;
                (at, vec![byte; len.min((size - at) as usize)])
            })
            .collect();
        check(&raw(size, &places), size);
    }
}
