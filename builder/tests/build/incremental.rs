//! What did not change is not done again, and that does not show in any byte.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use crate::program::{LYCIA, names, read, succeed, text, tool};
use crate::small::Small;

/// What a build into `output` with a store says.
fn build_with(small: &Small, store: &str, output: &str, more: &[&str]) -> String {
    let mut command = Command::new(LYCIA);
    command
        .env_remove("SOURCE_DATE_EPOCH")
        .args(["build", "small", "--project"])
        .arg(small.path("."))
        .arg("--cache")
        .arg(small.path(store))
        .arg("--output")
        .arg(small.path(output))
        .args(more);
    text(&succeed(&mut command).stderr)
}

fn build(small: &Small, output: &str, more: &[&str]) -> String {
    build_with(small, "store", output, more)
}

/// How many of the blocks were known, and how many there were.
fn blocks(said: &str) -> (u64, u64) {
    let numbers = said
        .split("squashfs, ")
        .nth(1)
        .unwrap_or_else(|| panic!("{said}"));
    let mut words = numbers.split_whitespace();
    let known = words.next().unwrap().parse().unwrap();
    (known, words.nth(1).unwrap().parse().unwrap())
}

#[test]
fn nothing_is_written_again_where_nothing_changed() {
    let small = Small::new(1 << 20);
    let first = build(&small, "out", &[]);
    assert!(!first.contains("unchanged"), "{first}");
    let iso = small.path("out/small-x86_64.iso");
    let before = iso.metadata().unwrap();
    let results = small.results(&small.path("out"));
    let second = build(&small, "out", &[]);
    assert!(second.contains("unchanged"), "{second}");
    assert_eq!(iso.metadata().unwrap().ino(), before.ino());

    // Asked for, or where an output is not what was written, all is written again, and the same.
    assert!(!build(&small, "out", &["--force"]).contains("unchanged"));
    std::fs::write(&iso, "someone was here").unwrap();
    assert!(!build(&small, "out", &[]).contains("unchanged"));
    std::fs::remove_file(small.path("out/small-x86_64.manifest.json")).unwrap();
    assert!(!build(&small, "out", &[]).contains("unchanged"));
    assert!(small.results(&small.path("out")) == results);

    // Each kind of input counts.
    for (path, content) in [
        ("overlays/extra/etc/motd", "another day\n"),
        ("overlays/extra/etc/new", "a new file\n"),
    ] {
        std::fs::write(small.path(path), content).unwrap();
        assert!(!build(&small, "out", &[]).contains("unchanged"), "{path}");
        assert!(build(&small, "out", &[]).contains("unchanged"), "{path}");
    }
    small.define("[live]\nlabel = \"OTHER\"\n");
    assert!(!build(&small, "out", &[]).contains("unchanged"));
}

#[test]
fn blocks_that_were_compressed_before_are_the_same_bytes() {
    let small = Small::new(6 << 20);
    let cold = blocks(&build(&small, "cold", &[]));
    assert_eq!(cold.0, 0);
    assert!(cold.1 > 40, "{cold:?}");
    // Another folder, so that nothing is there to stay.
    let warm = blocks(&build(&small, "warm", &[]));
    assert_eq!(warm, (cold.1, cold.1));
    let [cold_iso, warm_iso] = ["cold", "warm"].map(|name| small.results(&small.path(name)));
    assert!(cold_iso == warm_iso);

    // One file of an overlay: nearly all is known, and the bytes are those of a store that knows nothing.
    std::fs::write(small.path("overlays/extra/etc/motd"), "another day\n").unwrap();
    let changed = blocks(&build(&small, "changed", &[]));
    assert!(changed.1 - changed.0 <= 3, "{changed:?}");
    let said = build_with(&small, "empty-store", "fresh", &[]);
    assert_eq!(blocks(&said).0, 0);
    let image = |folder: &str| read(&small.path(folder).join("small-x86_64.iso"));
    assert!(image("changed") == image("fresh"));
}

#[test]
fn compressed_outputs_take_what_is_known_and_are_the_same_bytes() {
    let small = Small::new(16 << 20);
    small.define_everything();
    let path = small.path("configs/images/small.toml");
    let text = text(&read(&path)).replace(
        "formats = [\"raw\", \"qcow2\"]",
        "formats = [\"zst\", \"gz\"]\nlevel = 1",
    );
    std::fs::write(path, text).unwrap();
    // Of each output, how many blocks were known, and how many there are.
    let known = |said: &str| -> Vec<(u64, u64)> {
        said.lines()
            .filter_map(|line| {
                let (before, after) = line.split_once(" of ")?;
                let all = after.split_once(" blocks known")?.0;
                let known = before.rsplit(' ').next()?;
                Some((known.parse().ok()?, all.parse().ok()?))
            })
            .collect()
    };
    let cold = known(&build(&small, "cold", &[]));
    // Two disks, tarball, layer; squashfs has a test of its own.
    assert_eq!(cold.len(), 4, "{cold:?}");
    let warm = known(&build(&small, "warm", &[]));
    assert!(warm.iter().all(|(known, all)| known == all), "{warm:?}");
    let results = |folder: &str| small.results(&small.path(folder));
    assert!(results("cold") == results("warm"));

    std::fs::write(small.path("overlays/extra/etc/motd"), "another day\n").unwrap();
    let changed = known(&build(&small, "changed", &[]));
    for (known, all) in &changed {
        assert!(all - known <= 3 && known > &0, "{changed:?}");
    }
    build_with(&small, "empty-store", "fresh", &[]);
    assert!(results("changed") == results("fresh"));
}

#[test]
fn a_pack_that_was_damaged_on_the_disk_is_made_anew() {
    let small = Small::new(0);
    build(&small, "first", &[]);
    let results = small.results(&small.path("first"));
    let packs = names(&small.path("store/packs"));
    assert_eq!(packs.len(), 3, "{packs:?}");
    // Once each: the first byte of the contents, the last, one of what is behind them, and a lost end.
    type Damage = fn(&mut Vec<u8>);
    let damage: [(&str, Damage); 4] = [
        ("first", |bytes| bytes[0] ^= 1),
        ("last", |bytes| {
            let last = bytes.len() - 21;
            bytes[last] ^= 0x80;
        }),
        ("end", |bytes| *bytes.last_mut().unwrap() ^= 4),
        ("cut", |bytes| bytes.truncate(bytes.len() - 1)),
    ];
    for (what, damage) in damage {
        let mut whole = Vec::new();
        for name in &packs {
            let path = small.path("store/packs").join(name);
            let mut bytes = read(&path);
            whole.push(bytes.clone());
            damage(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
        }
        let said = build(&small, what, &["--force"]);
        assert!(small.results(&small.path(what)) == results, "{what}");
        assert_eq!(said.matches("is damaged").count(), 3, "{what}: {said}");
        assert_eq!(said.matches("made anew").count(), 3, "{what}: {said}");
        for (name, whole) in packs.iter().zip(whole) {
            assert!(read(&small.path("store/packs").join(name)) == whole, "{what}");
        }
        assert!(
            !build(&small, "after", &["--force"]).contains("damaged"),
            "{what}"
        );
    }
    // Where the package is no better, there is no image.
    let pack = small.path("store/packs").join(&packs[0]);
    let mut bytes = read(&pack);
    bytes[0] ^= 1;
    std::fs::write(&pack, bytes).unwrap();
    for name in names(&small.path("repository/x86_64")) {
        if name.ends_with(".apk") {
            let path = small.path("repository/x86_64").join(name);
            let mut bytes = read(&path);
            let last = bytes.len() - 9;
            bytes[last] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }
    }
    let mut command = small.build();
    let ended = crate::program::run(command.arg("--force").arg("--output").arg(small.path("none")));
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(4), "{said}");
    for part in [
        "is damaged: its checksum does not fit its contents",
        "cannot be made anew from the package",
    ] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
}

#[test]
fn a_second_flavour_compresses_only_what_it_does_not_share() {
    let small = Small::new(6 << 20);
    // Another image: one more package, another overlay, another name, another kernel line.
    small.write(
        "configs/images/flavour.toml",
        "repositories = [\"local\"]\npackages = [\"kernel\", \"filler\", \"left\"]\noverlays = [\"other\"]\n\
         outputs = [\"iso\"]\n[live]\nlabel = \"FLAVOUR\"\n[boot]\narguments = \"quiet\"\n[initramfs]\nlevel = 3\n\
         [squashfs]\nlevel = 9\n",
    );
    small.write("overlays/other/etc/issue", "another flavour\n");
    let flavour = |store: &str, output: &str| {
        let mut command = Command::new(LYCIA);
        command
            .env_remove("SOURCE_DATE_EPOCH")
            .args(["build", "flavour", "--project"])
            .arg(small.path("."))
            .arg("--cache")
            .arg(small.path(store))
            .arg("--output")
            .arg(small.path(output));
        blocks(&text(&succeed(&mut command).stderr))
    };
    let first = blocks(&build(&small, "first", &[]));
    assert_eq!(first.0, 0);
    let second = flavour("store", "second");
    assert!(second.1 > 40 && second.1 - second.0 <= 3, "{second:?}");
    let alone = flavour("empty-store", "alone");
    assert_eq!(alone, (0, second.1));
    let image = |folder: &str| read(&small.path(folder).join("flavour-x86_64.iso"));
    assert!(image("second") == image("alone"));
}

#[test]
fn what_a_medium_offers_is_the_repository_and_counts() {
    let small = Small::new(0);
    small.write(
        "configs/install/small.toml",
        "schema = 1\nname = \"Small\"\npackages = [\"base\"]\n[[kernel]]\npackage = \"kernel\"\n\
         [[set]]\nname = \"left\"\npackages = [\"left\"]\n[[set]]\nname = \"right\"\npackages = [\"right\"]\n",
    );
    small.define("[install]\ndefinition = \"small\"\n");
    build(&small, "out", &[]);
    let iso = small.path("out/small-x86_64.iso");
    let files = small.path("files");
    std::fs::create_dir(&files).unwrap();
    succeed(
        tool("bsdtar", "libarchive-tools")
            .arg("-xf")
            .arg(&iso)
            .arg("-C")
            .arg(&files)
            .arg("live"),
    );
    // Sets that exclude each other are both there, and what nobody offers is not.
    let packages = files.join("live/packages/x86_64");
    assert_eq!(
        names(&packages),
        [
            "Packages.adb",
            "base-1-r0.apk",
            "kernel-1-r0.apk",
            "left-1-r0.apk",
            "right-1-r0.apk"
        ]
    );
    for name in names(&packages) {
        let original = read(&small.path("repository/x86_64").join(&name));
        assert!(read(&packages.join(&name)) == original, "{name}");
    }
    assert_eq!(names(&files.join("live/packages/keys")), ["small.pub"]);
    let install = text(&read(&files.join("live/install.toml")));
    assert!(install.contains("arch = \"x86_64\""), "{install}");

    // What lies in the repository is what gets onto the medium, so that damage there matters though it was unpacked long ago.
    let path = small.package_file("right", "1-r0");
    let whole = read(&path);
    let mut damaged = whole.clone();
    let last = damaged.len() - 9;
    damaged[last] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    let mut command = small.build();
    let ended = crate::program::run(command.arg("--force").arg("--output").arg(small.path("none")));
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(4), "{said}");
    assert!(
        said.contains("verifying") && said.contains("right-1-r0.apk"),
        "{said}"
    );
    std::fs::write(&path, whole).unwrap();

    // A package that the root does not have is a part of the medium.
    assert!(build(&small, "out", &[]).contains("unchanged"));
    small.package("right", "2-r0", &[], |package| {
        let content = b"newer\n".to_vec();
        let acl = lycia_apk::metadata::Acl::root(0o644);
        package
            .file(b"usr/share/right", acl, 1_700_000_001, content)
            .unwrap();
    });
    small.index();
    assert!(!build(&small, "out", &[]).contains("unchanged"));
}
