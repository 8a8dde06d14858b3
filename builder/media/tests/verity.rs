//! Hash trees, judged by veritysetup.

#![allow(clippy::unwrap_used)]

mod oracle;

use std::io::Write;

use lycia_media::partition::Guid;
use lycia_media::verity::{BLOCK, HashTree, VerityError, area_len};
use oracle::{output, run};
use tempfile::NamedTempFile;

fn data(blocks: usize) -> Vec<u8> {
    (0..blocks * BLOCK / 4)
        .flat_map(|at| (at as u32).wrapping_mul(0x9e37_79b9).to_le_bytes())
        .collect()
}

fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn uuid() -> Guid {
    Guid::derive(b"test", "verity")
}

#[test]
fn veritysetup_makes_the_same_and_verifies_ours() {
    // One block, one level, its end, two levels, three.
    for blocks in [1, 2, 127, 128, 129, 128 * 128, 128 * 128 + 1] {
        for salt in [&b""[..], b"\x01\xfe salt"] {
            let data = data(blocks);
            let tree = HashTree::new(&mut &data[..], salt).unwrap();
            let area = tree.area(uuid());
            assert_eq!(area.len() as u64, tree.area_len());
            assert_eq!(area.len() as u64, area_len(data.len() as u64));
            let (data, ours) = (file(&data), file(&area));
            let (data, ours) = (data.path().to_str().unwrap(), ours.path().to_str().unwrap());
            run(
                "cryptsetup-bin",
                "veritysetup",
                &["verify", data, ours, &tree.root_hex()],
                b"",
            );
            let theirs = NamedTempFile::new().unwrap();
            let salt: String = salt.iter().map(|byte| format!("{byte:02x}")).collect();
            let salt = format!("--salt={}", if salt.is_empty() { "-" } else { &salt });
            let uuid = format!("--uuid={}", uuid());
            run(
                "cryptsetup-bin",
                "veritysetup",
                &["format", data, theirs.path().to_str().unwrap(), &salt, &uuid],
                b"",
            );
            assert!(std::fs::read(theirs.path()).unwrap() == area, "{blocks} {salt}");
        }
    }
}

#[test]
fn one_flipped_bit_is_found() {
    let mut data = data(300);
    let tree = HashTree::new(&mut &data[..], b"s").unwrap();
    tree.verify(&mut &data[..]).unwrap();
    let area = file(&tree.area(uuid()));
    for at in [0, 4095, 4096, 300 * BLOCK - 1] {
        data[at] ^= 1;
        assert!(
            matches!(tree.verify(&mut &data[..]), Err(VerityError::Changed(block)) if block as usize == at / BLOCK)
        );
        let changed = file(&data);
        let arguments = [
            "verify",
            changed.path().to_str().unwrap(),
            area.path().to_str().unwrap(),
            &tree.root_hex(),
        ];
        assert!(
            !output("cryptsetup-bin", "veritysetup", &arguments, b"")
                .status
                .success()
        );
        data[at] ^= 1;
    }
}

#[test]
fn what_cannot_be_hashed_is_refused() {
    assert!(matches!(
        HashTree::new(&mut &[][..], b""),
        Err(VerityError::Length(0))
    ));
    let part = HashTree::new(&mut &data(2)[..5000], b"");
    assert!(matches!(part, Err(VerityError::Length(5000))));
    let salt = HashTree::new(&mut &data(1)[..], &[0; 257]);
    assert!(matches!(salt, Err(VerityError::Salt(257))));
    let tree = HashTree::new(&mut &data(3)[..], b"").unwrap();
    assert!(matches!(
        tree.verify(&mut &data(2)[..]),
        Err(VerityError::Length(8192))
    ));
}

#[test]
fn the_table_is_what_the_kernel_takes() {
    let tree = HashTree::new(&mut &data(130)[..], b"\xab").unwrap();
    assert_eq!(tree.sectors(), 1040);
    assert_eq!(
        tree.table("/dev/loop0", "/dev/loop0", 130 * 4096),
        format!(
            "1 /dev/loop0 /dev/loop0 4096 4096 130 131 sha256 {} ab",
            tree.root_hex()
        )
    );
}
