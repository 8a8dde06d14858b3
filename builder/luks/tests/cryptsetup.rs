//! Volumes judged by cryptsetup, and cryptsetup's volumes opened.

#![allow(clippy::unwrap_used)]

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use lycia_luks::{Cipher, DATA_OFFSET, Kdf, LuksError, Settings, make, open};

const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";
const PASSPHRASE: &[u8] = b"correct horse";
const KDFS: [Kdf; 2] = [
    Kdf::Argon2id {
        time: 4,
        memory: 32 << 10,
        lanes: 4,
    },
    Kdf::Pbkdf2 { iterations: 1000 },
];

/// Not random, so that a failure comes again.
fn counter() -> impl FnMut(&mut [u8]) -> io::Result<()> {
    let mut state = 1u64;
    move |bytes| {
        for byte in bytes {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 33) as u8;
        }
        Ok(())
    }
}

fn cryptsetup(arguments: &[&str], input: &[u8]) -> (bool, String) {
    let mut child = Command::new("cryptsetup")
        .args(arguments)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cryptsetup is missing: install the Debian package cryptsetup-bin");
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status.success(), text)
}

fn opened(path: &Path, passphrase: &[u8]) -> Result<lycia_luks::Opened, LuksError> {
    let file = std::fs::File::open(path).unwrap();
    open(&mut |at, bytes| file.read_exact_at(bytes, at), passphrase)
}

#[test]
fn cryptsetup_takes_what_is_made() {
    let folder = tempfile::tempdir().unwrap();
    for (number, (kdf, sector_size)) in KDFS.into_iter().zip([512, 4096]).enumerate() {
        let path = folder.path().join(number.to_string());
        let shown = path.display().to_string();
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .unwrap();
        file.set_len(DATA_OFFSET + (1 << 20)).unwrap();
        let mut random = counter();
        let mut key = vec![0; 64];
        random(&mut key).unwrap();
        let settings = Settings {
            uuid: UUID.to_owned(),
            label: "root".to_owned(),
            kdf,
            sector_size,
        };
        let header = make(&settings, &key, PASSPHRASE, &mut random).unwrap();
        file.write_all_at(&header, 0).unwrap();
        let mut data: Vec<u8> = (0..1u32 << 20).map(|at| (at / 512) as u8).collect();
        let plain = data.clone();
        Cipher::new(&key, sector_size).unwrap().encrypt(0, &mut data);
        file.write_all_at(&data, DATA_OFFSET).unwrap();
        let (good, text) = cryptsetup(&["luksDump", &shown], b"");
        assert!(
            good && text.contains(UUID) && text.contains("aes-xts-plain64"),
            "{text}"
        );
        assert!(cryptsetup(&["luksDump", "--dump-json-metadata", &shown], b"").0);
        let test = ["open", "--test-passphrase", "--key-file", "-", &shown];
        let (good, text) = cryptsetup(&test, PASSPHRASE);
        assert!(good, "{text}");
        assert!(!cryptsetup(&test, b"wrong horse").0);
        // The key as cryptsetup gets it out of the slot.
        let out = folder.path().join("key");
        let dump = [
            "luksDump",
            "--dump-volume-key",
            "--volume-key-file",
            out.to_str().unwrap(),
            "-q",
            "--key-file",
            "-",
            &shown,
        ];
        let (good, text) = cryptsetup(&dump, PASSPHRASE);
        assert!(good, "{text}");
        assert_eq!(std::fs::read(&out).unwrap(), key);
        std::fs::remove_file(&out).unwrap();
        // The data as another implementation of XTS decrypts them, sector by sector.
        let script = "import sys\nfrom cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes\nkey = bytes.fromhex(sys.argv[2])\n\
                      size = int(sys.argv[3])\ndata = open(sys.argv[1], 'rb').read()[16 << 20:]\n\
                      for at in range(0, len(data), size):\n    tweak = (at // 512).to_bytes(16, 'little')\n    \
                      d = Cipher(algorithms.AES(key), modes.XTS(tweak)).decryptor()\n    sys.stdout.buffer.write(d.update(data[at:at + size]) + d.finalize())\n";
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let output = Command::new("/usr/bin/python3")
            .args(["-c", script, &shown, &hex, &sector_size.to_string()])
            .output()
            .expect("python3 is missing: install the Debian package python3-cryptography");
        assert!(
            output.status.success(),
            "python3-cryptography is needed: {output:?}"
        );
        assert!(output.stdout == plain);
        // And our own reader.
        let volume = opened(&path, PASSPHRASE).unwrap();
        assert_eq!(
            (volume.uuid.as_str(), volume.offset, volume.sector_size),
            (UUID, DATA_OFFSET, sector_size)
        );
        assert_eq!(*volume.key, key);
        volume.cipher().unwrap().decrypt(0, &mut data);
        assert!(data == plain);
        assert!(matches!(opened(&path, b"wrong"), Err(LuksError::Passphrase)));
    }
}

#[test]
fn what_cryptsetup_makes_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    for (name, arguments) in [
        (
            "argon2id",
            &[
                "--pbkdf",
                "argon2id",
                "--pbkdf-memory",
                "65536",
                "--pbkdf-force-iterations",
                "4",
            ][..],
        ),
        (
            "argon2i",
            &[
                "--pbkdf",
                "argon2i",
                "--pbkdf-memory",
                "32768",
                "--pbkdf-force-iterations",
                "4",
                "--key-size",
                "256",
            ],
        ),
        (
            "pbkdf2",
            &[
                "--pbkdf",
                "pbkdf2",
                "--pbkdf-force-iterations",
                "1000",
                "--sector-size",
                "4096",
            ],
        ),
    ] {
        let path = folder.path().join(name);
        let shown = path.display().to_string();
        std::fs::File::create(&path).unwrap().set_len(20 << 20).unwrap();
        let mut all = vec!["luksFormat", "-q", "--type", "luks2", "--key-file", "-"];
        all.extend(arguments);
        all.push(&shown);
        let (good, text) = cryptsetup(&all, PASSPHRASE);
        assert!(good, "{text}");
        let volume = opened(&path, PASSPHRASE).unwrap();
        let out = folder.path().join("key");
        let dump = [
            "luksDump",
            "--dump-volume-key",
            "--volume-key-file",
            out.to_str().unwrap(),
            "-q",
            "--key-file",
            "-",
            &shown,
        ];
        assert!(cryptsetup(&dump, PASSPHRASE).0);
        assert_eq!(*volume.key, std::fs::read(&out).unwrap(), "{name}");
        std::fs::remove_file(&out).unwrap();
        // Without its first copy the second one does.
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(&[0; 4096], 0).unwrap();
        assert_eq!(*opened(&path, PASSPHRASE).unwrap().key, *volume.key);
        file.write_all_at(&[0; 4096], 0x4000).unwrap();
        assert!(matches!(opened(&path, PASSPHRASE), Err(LuksError::NoHeader)));
    }
}

#[test]
fn hostile_headers_are_refused() {
    let mut random = counter();
    let key = vec![7; 64];
    let settings = Settings {
        uuid: UUID.to_owned(),
        label: String::new(),
        kdf: KDFS[1],
        sector_size: 512,
    };
    let header = make(&settings, &key, PASSPHRASE, &mut random).unwrap();
    // The text is changed and summed up again, as somebody who can write to the disk would.
    let with = |from: &str, to: &str| {
        use sha2::Digest as _;
        let mut bytes = header.to_vec();
        for at in [0, 16384] {
            let text = String::from_utf8_lossy(&bytes[at + 4096..at + 16384]).replace('\0', "");
            assert!(text.contains(from), "{text}");
            let text = text.replace(from, to);
            bytes[at + 4096..at + 16384].fill(0);
            bytes[at + 4096..at + 4096 + text.len()].copy_from_slice(text.as_bytes());
            bytes[at + 448..at + 512].fill(0);
            let sum = sha2::Sha256::digest(&bytes[at..at + 16384]);
            bytes[at + 448..at + 480].copy_from_slice(&sum);
        }
        bytes
    };
    let read = |bytes: &[u8]| {
        open(
            &mut |at, out: &mut [u8]| {
                let mut rest = bytes.get(at as usize..).unwrap_or_default();
                rest.read_exact(out)
            },
            PASSPHRASE,
        )
    };
    assert!(read(&with("\"tokens\"", "\"tokens\"")).is_ok());
    for (from, to) in [
        ("\"stripes\":4000", "\"stripes\":4000000000"),
        ("\"iterations\":1000,", "\"iterations\":4294967295,"),
        (
            "\"key_size\":64,\"type\":\"luks2\"",
            "\"key_size\":4096,\"type\":\"luks2\"",
        ),
        ("\"offset\":\"32768\"", "\"offset\":\"18446744073709551615\""),
        ("\"stripes\":4000", "\"stripes\":0"),
        ("\"type\":\"crypt\"", "\"type\":\"linear\""),
    ] {
        assert!(read(&with(from, to)).is_err(), "{to}");
    }
    let argon = with(
        "{\"hash\":\"sha256\",\"iterations\":1000,",
        "{\"time\":4,\"memory\":4294967295,\"cpus\":4,\"hash\":\"sha256\",\"iterations\":1000,",
    );
    assert!(read(&argon).is_ok(), "still PBKDF2");
    assert!(matches!(read(&header[..100]), Err(LuksError::NoHeader)));
}
