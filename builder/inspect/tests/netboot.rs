//! Kits for booting from a network.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod samples;

use lycia_inspect::{Change, Limits, inspect};
use lycia_tree::Node;

use samples::{difference, faults, kit, look, look_sha, put, root, zstd};

#[test]
fn a_kit_is_looked_into() {
    let kit = kit(&root());
    for bytes in [kit.clone(), zstd(&kit)] {
        let report = look(&bytes);
        assert_eq!(faults(&report), Vec::<String>::new());
        let parts = report.part.walk();
        let part = |format: &str| {
            let found = parts.iter().find(|part| part.format == format);
            *found.unwrap_or_else(|| panic!("no {format}: {}", report.text(false)))
        };
        let own = part("netboot");
        assert_eq!(own.entries.len(), 1);
        assert_eq!(own.entries[0].kernel, "vmlinuz");
        assert_eq!(
            own.entries[0].arguments,
            "initrd=initrd initrd=root.cpio boot=live console=ttyS0"
        );
        assert_eq!(own.entries[0].initrd, "initrd root.cpio");
        assert_eq!(part("kernel").facts["version"], "6.1.2-test");
        let root = part("squashfs");
        assert!(
            root.place.ends_with("/root.cpio: /live/filesystem.squashfs"),
            "{}",
            root.place
        );
        let system = root.system.as_ref().expect("a system");
        assert_eq!(system.packages[0].name, "tool");
        assert_eq!(parts.iter().filter(|part| part.format == "initramfs").count(), 2);
    }
}

/// Where the content of a member lies.
fn member(kit: &[u8], name: &str) -> (usize, usize) {
    let mut header = name.as_bytes().to_vec();
    header.push(0);
    let at = (0..kit.len())
        .step_by(512)
        .find(|&at| kit[at..].starts_with(&header))
        .unwrap_or_else(|| panic!("no {name}"));
    let size = std::str::from_utf8(&kit[at + 124..at + 135]).unwrap();
    (at + 512, usize::from_str_radix(size, 8).unwrap())
}

#[test]
fn one_flipped_byte_of_a_kit_is_told() {
    let whole = kit(&root());
    for name in ["boot.ipxe", "initrd", "root.cpio", "vmlinuz", "SHA256SUMS"] {
        let (start, len) = member(&whole, name);
        for at in [0, len / 3, len / 2, len - 2] {
            let mut bytes = whole.clone();
            bytes[start + at] ^= 0x11;
            let told = faults(&look(&bytes));
            assert!(!told.is_empty(), "byte {at} of {name}");
            if name != "SHA256SUMS" {
                let named = format!("/{name}: its SHA-256 is");
                assert!(told.iter().any(|fault| fault.contains(&named)), "{told:?}");
            }
        }
    }
    // The same with sums that fit: the squashfs has its own.
    let (start, len) = member(&whole, "root.cpio");
    let old = look_sha(&whole[start..start + len]);
    let mut bytes = whole.clone();
    let at = bytes.windows(4).position(|window| window == b"hsqs").unwrap();
    bytes[at + 200] ^= 1;
    let new = look_sha(&bytes[start..start + len]);
    let text = bytes
        .windows(64)
        .position(|window| window == old.as_bytes())
        .unwrap();
    bytes[text..text + 64].copy_from_slice(new.as_bytes());
    let told = faults(&look(&bytes));
    assert!(
        told.iter()
            .any(|fault| fault.contains("/live/filesystem.squashfs: its SHA-256 is")),
        "{told:?}"
    );
}

#[test]
fn kits_are_compared_down_to_the_files_of_the_root() {
    let old = kit(&root());
    let mut changed = root();
    put(&mut changed, "/etc/new", 0o644, Node::Regular("n".into()));
    let found = difference(&old, &kit(&changed));
    let of_root: Vec<(&str, &[Change])> = found
        .files
        .iter()
        .filter(|file| file.place.ends_with("filesystem.squashfs"))
        .map(|file| (file.path.as_str(), &file.what[..]))
        .collect();
    assert_eq!(of_root, [("/etc/new", &[Change::Added][..])]);
}

#[test]
fn a_script_that_loads_what_is_not_there_is_told() {
    let mut bytes = kit(&root());
    let (start, len) = member(&bytes, "boot.ipxe");
    let text = String::from_utf8(bytes[start..start + len].to_vec()).unwrap();
    let text = text.replace("initrd root.cpio\nboot", "initrd room.cpio\nboot");
    bytes[start..start + len].copy_from_slice(text.as_bytes());
    let told = faults(&look(&bytes));
    assert!(
        told.iter()
            .any(|fault| fault.contains("loads room.cpio, which is not there")),
        "{told:?}"
    );
}

#[test]
fn the_manifest_beside_a_kit_is_held_against_its_root() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("box-x86_64.netboot.tar");
    let bytes = kit(&root());
    std::fs::write(&path, &bytes).unwrap();
    let report = inspect(&path, &Limits::default()).unwrap();
    let root = report
        .part
        .walk()
        .into_iter()
        .find(|part| part.system.is_some())
        .expect("a system")
        .clone();
    let sums = format!("{}  box-x86_64.netboot.tar\n", look_sha(&bytes));
    std::fs::write(folder.path().join("box-x86_64.SHA256SUMS"), sums).unwrap();
    let mut files = serde_json::to_value(&root.files).unwrap();
    let beside = |files: &serde_json::Value| {
        let text = serde_json::json!({"packages": [], "files": files}).to_string();
        std::fs::write(folder.path().join("box-x86_64.manifest.json"), text).unwrap();
        inspect(&path, &Limits::default()).unwrap()
    };
    let report = beside(&files);
    assert_eq!(faults(&report), Vec::<String>::new());
    assert_eq!(
        report.beside,
        ["box-x86_64.SHA256SUMS", "box-x86_64.manifest.json"]
    );
    files[1]["mode"] = "0111".into();
    let told = faults(&beside(&files));
    assert!(
        told.len() == 1 && told[0].contains("its mode is not that of box-x86_64.manifest.json"),
        "{told:?}"
    );
}
