use super::*;
use crate::plan::tests::disk;
use crate::probe::{Firmware, SCHEMA};
use std::process::Command;

const ANSWERS: &str = "schema = 1\n# some answers\n";

#[test]
fn places() {
    let pin = "ab".repeat(32);
    for (text, origin) in [
        ("answers.toml", Origin::File("answers.toml".into())),
        ("file:///a/b.toml", Origin::File("/a/b.toml".into())),
        ("drive", Origin::Drive),
        ("auto", Origin::Auto),
        (
            "https://example.org/a.toml",
            Origin::Url {
                url: "https://example.org/a.toml".into(),
                sha256: None,
            },
        ),
        (
            &format!("http://example.org/a.toml#sha256={}", pin.to_uppercase()),
            Origin::Url {
                url: "http://example.org/a.toml".into(),
                sha256: Some(pin.clone()),
            },
        ),
    ] {
        assert_eq!(Origin::parse(text).unwrap(), origin, "{text}");
    }
    for (text, why) in [
        ("", "empty"),
        ("http://example.org/a.toml", "sha256"),
        ("https://example.org/a.toml#sha256=12", "64 hexadecimal"),
        ("https://example.org/a.toml#md5=12", "64 hexadecimal"),
        ("ftp://example.org/a.toml", "https://"),
        ("file://a/b", "file:///"),
    ] {
        let error = Origin::parse(text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    let line = "root=UUID=1 lycia.answers=/a lycia.answersx=/c lycia.answers=drive quiet";
    assert_eq!(Origin::of_command_line(line).unwrap(), Some(Origin::Drive));
    assert_eq!(Origin::of_command_line("quiet").unwrap(), None);
    assert!(Origin::of_command_line("lycia.answers=gopher://x").is_err());
}

fn made(program: &str, package: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|_| panic!("{program} is missing: install the Debian package {package}"));
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A machine whose disks are files of a folder.
fn machine(names: &[(&str, u64)]) -> Machine {
    Machine {
        schema: SCHEMA,
        firmware: Firmware::Bios,
        memory: None,
        disks: names
            .iter()
            .map(|(name, size)| {
                let mut disk = disk(*size, 512);
                disk.name = (*name).to_owned();
                disk.path = format!("/dev/{name}");
                disk
            })
            .collect(),
        network: Vec::new(),
    }
}

/// Volumes that other programs made.
#[test]
fn drives() {
    let folder = tempfile::tempdir().unwrap();
    let dev = folder.path();
    let source = dev.join("source");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("answers.toml"), ANSWERS).unwrap();
    let path = |name: &str| dev.join(name).display().to_string();
    let empty = |name: &str, size: u64| {
        std::fs::File::create(dev.join(name))
            .unwrap()
            .set_len(size)
            .unwrap();
    };
    empty("none", 4 << 20);
    empty("fat", 4 << 20);
    made("mkfs.vfat", "dosfstools", &["-n", "LYCIA_ANSWE", &path("fat")]);
    made(
        "mcopy",
        "mtools",
        &["-i", &path("fat"), &path("source/answers.toml"), "::/"],
    );
    empty("ext", 8 << 20);
    let tree = path("source");
    made(
        "mke2fs",
        "e2fsprogs",
        &[
            "-q",
            "-t",
            "ext4",
            "-L",
            "LYCIA_ANSWERS",
            "-d",
            &tree,
            &path("ext"),
        ],
    );
    made(
        "xorriso",
        "xorriso",
        &[
            "-as",
            "mkisofs",
            "-quiet",
            "-V",
            "LYCIA_ANSWERS",
            "-R",
            "-o",
            &path("iso"),
            &tree,
        ],
    );
    made(
        "xorriso",
        "xorriso",
        &[
            "-as",
            "mkisofs",
            "-quiet",
            "-V",
            "LYCIA_ANSWERS",
            "-o",
            &path("plain"),
            &tree,
        ],
    );
    // A FAT partition behind a table, as on a bought stick.
    empty("stick", 16 << 20);
    let mut child = Command::new("sfdisk")
        .args(["--quiet", &path("stick")])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("sfdisk is missing: install the Debian package fdisk");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"2048,8192,c\n").unwrap();
    assert!(child.wait().unwrap().success());
    let volume = std::fs::read(dev.join("fat")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(
        &std::fs::File::options()
            .write(true)
            .open(dev.join("stick"))
            .unwrap(),
        &volume,
        1 << 20,
    )
    .unwrap();
    let size = |name: &str| std::fs::metadata(dev.join(name)).unwrap().len();
    for name in ["fat", "ext", "iso", "plain", "stick"] {
        let machine = machine(&[("none", size("none")), (name, size(name)), ("gone", 1 << 20)]);
        let (text, place) = Origin::Drive
            .read(&machine, dev, "")
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(text, ANSWERS, "{name}");
        assert!(place.contains(name), "{place}");
    }
    // A label alone is no answer; and of two drives none is taken.
    empty("bare", 8 << 20);
    made(
        "mke2fs",
        "e2fsprogs",
        &["-q", "-t", "ext4", "-L", "LYCIA_ANSWERS", &path("bare")],
    );
    let said = |names: &[&str], line: &str| {
        let names: Vec<(&str, u64)> = names.iter().map(|name| (*name, size(name))).collect();
        let machine = machine(&names);
        match Origin::Auto.read(&machine, dev, line) {
            Ok((text, _)) => text,
            Err(error) => error.to_string(),
        }
    };
    assert!(said(&["bare"], "").contains("no answers.toml"));
    assert!(said(&["none"], "").contains("0 drives"));
    assert!(said(&["fat", "ext"], "").contains("2 drives"));
    // The command line goes before the drive.
    let file = format!("lycia.answers={}", path("source/answers.toml"));
    assert_eq!(said(&["none"], &file), ANSWERS);
    assert!(said(&["fat"], "lycia.answers=/none/of/this").contains("/none/of/this"));
    assert_eq!(said(&["fat"], "lycia.answers=drive"), ANSWERS);
}
