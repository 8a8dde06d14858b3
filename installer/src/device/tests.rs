use super::fake::Fake;
use super::*;

/// Numbers that repeat nowhere near.
fn bytes(len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect()
}

#[test]
fn pages_begin_where_pages_do() {
    let mut pages = Pages::default();
    for len in [1, 4096, 1 << 20, 5] {
        let got = pages.get(len);
        assert_eq!((got.len(), got.as_ptr().align_offset(PAGE)), (len, 0));
    }
}

/// Whether past the page cache or not: the same bytes, and nothing beside them.
#[test]
fn large_writes_are_the_same_past_the_page_cache() {
    let content = bytes(1 << 20);
    // Where the file system takes such writes; elsewhere they fall back.
    for place in [std::env::temp_dir(), env!("CARGO_MANIFEST_DIR").into()] {
        let folder = tempfile::tempdir_in(place).unwrap();
        let path = folder.path().join("disk");
        let mut expected = vec![0x11; 4 << 20];
        std::fs::write(&path, &expected).unwrap();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let mut disk = Disk::of(file, 512, true).unwrap();
        let mut pages = Pages::default();
        for (at, len, shift) in [
            (0, 1 << 20, 0),
            (1 << 20, 300_032, 0),
            (1_500_000, 100_000, 0),
            (2 << 20, 512 << 10, 8),
            (3 << 20, 4096, 0),
            ((4 << 20) - 65536, 65536, 0),
        ] {
            let from = &mut pages.get(len + shift)[shift..];
            from.copy_from_slice(&content[..len]);
            disk.write_at(at as u64, from).unwrap();
            expected[at..at + len].copy_from_slice(&content[..len]);
            let mut back = vec![0; len];
            disk.read_at(at as u64, &mut back).unwrap();
            assert!(back == content[..len], "{len} bytes at {at}");
        }
        disk.flush().unwrap();
        assert!(std::fs::read(&path).unwrap() == expected);
        let flags = rustix::fs::fcntl_getfl(&disk.file).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::DIRECT));
        assert!(disk.write_at((4 << 20) - 65536, &[0; 65537]).is_err());
    }
}

#[test]
fn gathered_writes_land_where_they_belong() {
    let content = bytes(3 << 20);
    for start in [1 << 20, (1 << 20) + 512] {
        let mut device = Fake::new(8 << 20, 512);
        let mut nothing = |_| ();
        let span = Span { start, size: 6 << 20 };
        let mut gather = Gather::new(Window::new(&mut device, span, &mut nothing));
        gather.write_all(&content[..100]).unwrap();
        gather.write_all(&content[100..2 << 20]).unwrap();
        gather.seek(SeekFrom::Start(4 << 20)).unwrap();
        gather.write_all(&content[2 << 20..]).unwrap();
        gather.seek(SeekFrom::Current(-5)).unwrap();
        gather.write_all(b"other").unwrap();
        // What does not fit is refused, as the window does.
        gather.seek(SeekFrom::End(-3)).unwrap();
        gather.write_all(b"123").unwrap();
        gather.finish().unwrap();
        let at = |at: u64, len: usize| device.bytes(start + at, len);
        assert!(at(0, 2 << 20) == content[..2 << 20]);
        assert!(at(4 << 20, (1 << 20) - 5) == content[2 << 20..(3 << 20) - 5]);
        assert_eq!(at((5 << 20) - 5, 5), b"other");
        assert_eq!(at((6 << 20) - 3, 3), b"123");
        assert!(at(2 << 20, 2 << 20).iter().all(|&byte| byte == 0));
        let mut nothing = |_| ();
        let mut gather = Gather::new(Window::new(&mut device, span, &mut nothing));
        gather.seek(SeekFrom::End(-2)).unwrap();
        assert!(gather.write_all(b"123").and_then(|()| gather.finish()).is_err());
    }
}
