//! `lycia lock`, `lycia why`, `lycia diff`, and builds that obey a lock.

use std::process::Command;

use lycia::error::Kind;
use lycia_apk::index::IndexHash;
use lycia_apk::metadata::Acl;

use crate::http::Served;
use crate::program::{LYCIA, read, run, succeed, text, tool};
use crate::small::{Small, file_of_its_own};

fn refused(command: &mut Command, kind: Kind, parts: &[&str]) {
    let ended = run(command);
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(i32::from(kind.code())), "{said}");
    for part in parts {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
}

fn lycia(small: &Small, arguments: &[&str]) -> Command {
    let mut command = small.lycia();
    command.args(arguments);
    command
}

fn lock_of(small: &Small) -> String {
    text(&read(&small.path("configs/images/small.x86_64.lock")))
}

/// The version that a lock has of a package.
fn version(lock: &str, package: &str) -> String {
    let part = lock.split(&format!("name = \"{package}\"\n")).nth(1);
    let part = part.unwrap_or_else(|| panic!("no {package} in {lock}"));
    let version = part.split("version = \"").nth(1).unwrap();
    version.split('"').next().unwrap().to_owned()
}

/// The repository gets newer builds of two packages.
fn move_on(small: &Small) {
    small.package("filler", "2-r0", &[], file_of_its_own("filler"));
    small.package("kernel", "1-r1", &["base", "extra"], file_of_its_own("kernel"));
    small.package("extra", "1-r0", &[], file_of_its_own("extra"));
    small.index();
}

#[test]
fn a_lock_keeps_what_it_can_and_upgrades_what_it_is_told() {
    let small = Small::new(0);
    refused(
        &mut lycia(&small, &["lock", "small", "--check"]),
        Kind::Input,
        &["there is no lock"],
    );
    refused(
        &mut lycia(&small, &["lock", "small", "--upgrade", "filler"]),
        Kind::Input,
        &["there is no lock"],
    );
    succeed(&mut lycia(&small, &["lock", "small"]));
    let first = lock_of(&small);
    succeed(&mut lycia(&small, &["lock", "small", "--check"]));
    move_on(&small);
    // Nothing that is locked has to go.
    let again = succeed(&mut lycia(&small, &["lock", "small"]));
    assert_eq!(text(&again.stdout), "no difference\n");
    assert_eq!(lock_of(&small), first);

    let one = succeed(&mut lycia(&small, &["lock", "small", "--upgrade", "filler"]));
    let said = text(&one.stdout);
    assert!(said.contains("upgraded   filler 1-r0 -> 2-r0"), "{said}");
    assert!(said.contains("1 upgraded; "), "{said}");
    let second = lock_of(&small);
    assert_eq!(version(&second, "filler"), "2-r0");
    assert_eq!(version(&second, "kernel"), "1-r0");

    std::fs::write(small.path("old.lock"), &first).unwrap();
    let all = succeed(&mut lycia(&small, &["lock", "small", "--upgrade", "--json"]));
    let all: serde_json::Value = serde_json::from_slice(&all.stdout).unwrap();
    let whats: Vec<&str> = all["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["what"].as_str().unwrap())
        .collect();
    assert_eq!(whats, ["added", "upgraded"], "{all}");
    assert_eq!(all["packages"][0]["name"], "extra");
    assert_eq!(version(&lock_of(&small), "kernel"), "1-r1");

    let diff = succeed(Command::new(LYCIA).current_dir(small.path(".")).args([
        "diff",
        "old.lock",
        "configs/images/small.x86_64.lock",
    ]));
    let said = text(&diff.stdout);
    for part in [
        "added      extra  1-r0",
        "upgraded   filler 1-r0 -> 2-r0",
        "upgraded   kernel 1-r0 -> 1-r1",
        "1 added, 2 upgraded",
    ] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    let mut command = Command::new(LYCIA);
    command
        .current_dir(small.path("."))
        .args(["diff", "--check", "old.lock"]);
    succeed(command.arg("old.lock"));
    let mut command = Command::new(LYCIA);
    command
        .current_dir(small.path("."))
        .args(["diff", "--check", "old.lock"]);
    refused(
        command.arg("configs/images/small.x86_64.lock"),
        Kind::Verification,
        &["differ"],
    );
    let mut command = Command::new(LYCIA);
    command
        .current_dir(small.path("."))
        .args(["diff", "old.lock", "repository/x86_64/filler-1-r0.apk"]);
    refused(
        &mut command,
        Kind::Usage,
        &["one is a lock and the other a medium"],
    );

    // What the repository no longer has is replaced, and nothing else.
    std::fs::write(small.path("configs/images/small.x86_64.lock"), &first).unwrap();
    std::fs::remove_file(small.package_file("filler", "1-r0")).unwrap();
    small.index();
    refused(
        &mut lycia(&small, &["lock", "small", "--check"]),
        Kind::Verification,
        &[
            "not up to date",
            "upgraded   filler 1-r0 -> 2-r0",
            "hint: lycia lock small",
        ],
    );
    assert_eq!(lock_of(&small), first);
    succeed(&mut lycia(&small, &["lock", "small"]));
    let third = lock_of(&small);
    assert_eq!(
        (&*version(&third, "filler"), &*version(&third, "kernel")),
        ("2-r0", "1-r0")
    );
    // The order of a lock does not tell of what was before.
    assert_eq!(
        second
            .lines()
            .filter(|line| line.starts_with("name"))
            .collect::<Vec<_>>(),
        third
            .lines()
            .filter(|line| line.starts_with("name"))
            .collect::<Vec<_>>()
    );
    refused(
        &mut lycia(&small, &["lock", "small", "--upgrade", "no-such-package"]),
        Kind::Solver,
        &["no-such-package"],
    );
}

/// The same packages stay the same when an index names them by the other form of their hash.
#[test]
fn a_lock_holds_under_each_form_of_hash() {
    let small = Small::new(0);
    let served = Served::new(&small.path("repository"));
    small.write(
        "configs/repositories/local.toml",
        &format!(
            "[[repository]]\nlocation = \"{}\"\nkeys = [\"keys/*.pub\"]\n",
            served.url
        ),
    );
    succeed(&mut lycia(&small, &["lock", "small"]));
    let locked = || {
        let mut command = small.build();
        command
            .args(["--locked", "--force", "--output"])
            .arg(small.path("out"));
        command
    };
    succeed(&mut locked());
    let iso = read(&small.path("out/small-x86_64.iso"));
    for hash in [IndexHash::Sha256_160, IndexHash::Sha256] {
        small.index_hashed(hash);
        succeed(&mut locked());
        assert!(read(&small.path("out/small-x86_64.iso")) == iso);
        succeed(&mut lycia(&small, &["lock", "small", "--check"]));
    }
    // What only the store has is found under the name that it has there. Names of media follow from the text of the lock.
    small.index_hashed(IndexHash::Sha256_160);
    let again = succeed(&mut lycia(&small, &["lock", "small"]));
    assert_eq!(text(&again.stdout), "no difference\n");
    std::fs::remove_dir_all(small.path("store/packages")).unwrap();
    small.index_hashed(IndexHash::Sha256);
    succeed(&mut locked());
    let iso = read(&small.path("out/small-x86_64.iso"));
    std::fs::remove_file(small.package_file("filler", "1-r0")).unwrap();
    small.index_hashed(IndexHash::Sha256);
    succeed(&mut locked());
    assert!(read(&small.path("out/small-x86_64.iso")) == iso);
}

/// Two repositories have the same packages, and the first is for those that ask for its tag.
#[test]
fn packages_are_of_the_repository_whose_tag_is_asked_for() {
    let small = Small::new(0);
    let location = small.path("repository");
    let location = location.display();
    small.write(
        "configs/repositories/local.toml",
        &format!(
            "[[repository]]\nlocation = \"{location}\"\ntag = \"edge\"\nkeys = [\"keys/*.pub\"]\n\
             [[repository]]\nlocation = \"{location}\"\nkeys = [\"keys/*.pub\"]\n"
        ),
    );
    succeed(small.build().arg("--output").arg(small.path("output")));
    let lock = text(&read(&small.path("output/small-x86_64.lock")));
    assert!(!lock.contains("repository = \"local/1\""), "{lock}");
    let iso = "output/small-x86_64.iso";
    let database = of_root(&small, iso, "lib/apk/db/installed");
    assert!(!database.contains("\ns:"), "{database}");
    // The lock says the same.
    std::fs::copy(
        small.path("output/small-x86_64.lock"),
        small.path("configs/images/small.x86_64.lock"),
    )
    .unwrap();
    succeed(
        small
            .build()
            .arg("--locked")
            .arg("--output")
            .arg(small.path("locked")),
    );
    assert!(small.results(&small.path("locked")) == small.results(&small.path("output")));
}

#[test]
fn a_lock_that_cannot_be_read_is_not_thrown_away() {
    let small = Small::new(0);
    succeed(&mut lycia(&small, &["lock", "small"]));
    let damaged = lock_of(&small).replace("version = 1\n", "version = one\n");
    small.write("configs/images/small.x86_64.lock", &damaged);
    for arguments in [
        &["lock", "small"][..],
        &["lock", "small", "--check"],
        &["lock", "small", "--upgrade"],
        &["lock", "small", "--upgrade", "filler"],
    ] {
        refused(
            &mut lycia(&small, arguments),
            Kind::Input,
            &["small.x86_64.lock", "hint: bring it back as it was, or remove it"],
        );
    }
    assert_eq!(lock_of(&small), damaged);
    std::fs::remove_file(small.path("configs/images/small.x86_64.lock")).unwrap();
    succeed(&mut lycia(&small, &["lock", "small"]));
}

#[test]
fn a_locked_build_outlives_the_repository_by_its_store() {
    let small = Small::new(0);
    let served = Served::new(&small.path("repository"));
    small.write(
        "configs/repositories/local.toml",
        &format!(
            "[[repository]]\nlocation = \"{}\"\nkeys = [\"keys/*.pub\"]\n",
            served.url
        ),
    );
    succeed(&mut lycia(&small, &["lock", "small"]));
    succeed(small.build().arg("--output").arg(small.path("first")));
    move_on(&small);
    std::fs::remove_file(small.package_file("filler", "1-r0")).unwrap();
    small.index();
    let mut locked = small.build();
    locked.arg("--locked").arg("--output").arg(small.path("second"));
    succeed(&mut locked);
    assert!(small.results(&small.path("first")) == small.results(&small.path("second")));
    // Damaged in the store, it is as good as gone.
    let store = small.path("store/packages");
    for name in crate::program::names(&store) {
        let path = store.join(&name);
        let bytes = read(&path);
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    }
    refused(
        &mut locked,
        Kind::Verification,
        &["filler: locked is 1-r0", "has 2-r0"],
    );
    std::fs::remove_dir_all(small.path("store")).unwrap();
    refused(
        &mut locked,
        Kind::Verification,
        &[
            "the lock is not obeyed",
            "filler: locked is 1-r0",
            "hint: `lycia lock small`",
        ],
    );
}

#[test]
fn a_lock_holds_what_a_medium_offers_too() {
    let small = Small::new(0);
    small.write(
        "configs/install/small.toml",
        "schema = 1\nname = \"Small\"\npackages = [\"base\"]\n\
         [[kernel]]\npackage = \"kernel\"\n\
         [[set]]\nname = \"one\"\npackages = [\"left\"]\n[[set]]\nname = \"other\"\npackages = [\"right\"]\n",
    );
    small.define("[install]\ndefinition = \"small\"\n");
    succeed(&mut lycia(&small, &["lock", "small"]));
    let first = lock_of(&small);
    let offered = |lock: &str| -> Vec<String> {
        let parts = lock.split("[[offered]]\n").skip(1);
        let name = |part: &str| part.split('"').nth(1).unwrap().to_owned();
        parts.map(name).collect()
    };
    // Those that exclude each other, too.
    assert_eq!(offered(&first), ["base", "kernel", "left", "right"]);
    let mut locked = small.build();
    locked.arg("--locked").arg("--output").arg(small.path("first"));
    succeed(&mut locked);
    assert_eq!(text(&read(&small.path("first/small-x86_64.lock"))), first);

    // A package of the medium alone moves on: nothing is taken in its place silently.
    small.package("right", "2-r0", &["extra"], file_of_its_own("right"));
    small.package("extra", "1-r0", &[], file_of_its_own("extra"));
    small.index();
    refused(
        &mut locked,
        Kind::Verification,
        &[
            "the lock is not obeyed",
            "right: locked to be offered is 1-r0",
            "an installation would take 2-r0",
            "extra: an installation would take 1-r0",
            "which is not locked",
            "hint: `lycia lock small`",
        ],
    );
    refused(
        &mut lycia(&small, &["lock", "small", "--check"]),
        Kind::Verification,
        &[
            "added      extra 1-r0 (offered)",
            "upgraded   right 1-r0 -> 2-r0 (offered)",
        ],
    );
    succeed(&mut lycia(&small, &["lock", "small"]));
    assert_eq!(
        offered(&lock_of(&small)),
        ["base", "extra", "kernel", "left", "right"]
    );
    succeed(&mut locked);
    // It can be named, though it is always what an installation would take now, and nothing else moves with it.
    small.package("filler", "2-r0", &[], file_of_its_own("filler"));
    small.package("right", "3-r0", &["extra"], file_of_its_own("right"));
    small.index();
    let one = succeed(&mut lycia(&small, &["lock", "small", "--upgrade", "right"]));
    let said = text(&one.stdout);
    assert!(
        said.contains("upgraded   right 2-r0 -> 3-r0 (offered)") && said.contains("1 upgraded"),
        "{said}"
    );
    assert_eq!(version(&lock_of(&small), "filler"), "1-r0");
    refused(
        &mut lycia(&small, &["lock", "small", "--upgrade", "rihgt"]),
        Kind::Solver,
        &["rihgt"],
    );
    let why = |arguments: &[&str]| text(&succeed(lycia(&small, &["why"]).args(arguments)).stdout);
    assert_eq!(
        why(&["extra", "small"]),
        "an installation from small with other asks for right 3-r0\nright needs extra 1-r0\n"
    );
    // In the root and offered, by several choices.
    assert_eq!(
        why(&["base", "small"]),
        "the image small asks for kernel 1-r0\nkernel needs base 1-r0\n\n\
         an installation from small with network asks for base 1-r0\n\
         so do 3 more installations: with kernel, one, other\n"
    );
    let json: serde_json::Value = serde_json::from_str(&why(&["base", "small", "--json"])).unwrap();
    assert_eq!(json[0]["list"], "package");
    assert_eq!(json[1]["list"], "offered");
    assert_eq!(json[1]["offers"][3], "other");
    // An image of the same packages that is no medium has nothing to offer.
    let definition = text(&read(&small.path("configs/images/small.toml")));
    let root_only = definition.replace("outputs = [\"iso\"]", "outputs = [\"tar\"]");
    small.write("configs/images/small.toml", &root_only);
    refused(
        &mut locked,
        Kind::Verification,
        &[
            "right: locked to be offered is 3-r0",
            "no installation wants it any more",
        ],
    );
    // Another build of the same version is another package.
    small.write("configs/images/small.toml", &definition);
    small.package("left", "1-r0", &["!right", "base"], file_of_its_own("left"));
    small.index();
    refused(
        &mut locked,
        Kind::Verification,
        &[
            "left: locked to be offered is 1-r0 (",
            "an installation would take 1-r0 (",
        ],
    );
}

#[test]
fn why_tells_the_chain_of_needs() {
    let small = Small::new(0);
    small.package("shell", "3-r1", &["base", "kernel>=1"], file_of_its_own("shell"));
    small.package("deep", "1-r0", &["shell"], file_of_its_own("deep"));
    small.index();
    small.define_packages(&["kernel", "deep"]);
    let why = |arguments: &[&str]| text(&succeed(lycia(&small, &["why"]).args(arguments)).stdout);
    assert_eq!(why(&["deep", "small"]), "the image small asks for deep 1-r0\n");
    assert_eq!(
        why(&["shell", "small"]),
        "the image small asks for deep 1-r0\ndeep needs shell 3-r1\n"
    );
    assert_eq!(
        why(&["base", "small"]),
        "the image small asks for kernel 1-r0\nkernel needs base 1-r0\nit is needed by 1 more: shell\n"
    );
    let json: serde_json::Value = serde_json::from_str(&why(&["shell", "small", "--json"])).unwrap();
    assert_eq!(json[0]["list"], "package");
    assert_eq!(json[0]["chain"][0]["reason"], "world");
    assert_eq!(json[0]["chain"][1]["package"], "shell");
    assert_eq!(json[0]["needed-by"][0], "deep");
    // Without an image, all are asked.
    assert_eq!(why(&["deep"]), "the image small asks for deep 1-r0\n");
    let json: serde_json::Value = serde_json::from_str(&why(&["deep", "--json"])).unwrap();
    assert_eq!(json[0]["image"], "small");
    refused(
        &mut lycia(&small, &["why", "left"]),
        Kind::Input,
        &["left is not part of any image that was asked: ", "small"],
    );
    refused(
        &mut lycia(&small, &["why", "left", "small"]),
        Kind::Input,
        &[
            "left is not part of the image small",
            "could be had",
            "left 1-r0 (local/1)",
        ],
    );
    refused(
        &mut lycia(&small, &["why", "kernl", "small"]),
        Kind::Input,
        &["did you mean `kernel`?"],
    );
    refused(
        &mut lycia(&small, &["why", "quite-another-thing", "small"]),
        Kind::Input,
        &["no repository of the image has it"],
    );
}

/// A file of the root inside an ISO, by independent programs.
fn of_root(small: &Small, iso: &str, path: &str) -> String {
    let squashfs = small.path("filesystem.squashfs");
    let extracted = succeed(
        tool("bsdtar", "libarchive-tools")
            .args(["-xOf"])
            .arg(small.path(iso))
            .arg("live/filesystem.squashfs"),
    );
    std::fs::write(&squashfs, extracted.stdout).unwrap();
    let file = succeed(
        tool("unsquashfs", "squashfs-tools")
            .arg("-cat")
            .arg(&squashfs)
            .arg(path),
    );
    text(&file.stdout)
}

#[test]
fn a_virtual_package_is_in_world_and_in_the_database() {
    let small = Small::new(0);
    small.package(
        "other-libc",
        "1-r0",
        &["safety-override"],
        file_of_its_own("other-libc"),
    );
    small.index();
    small.define_packages(&["kernel", "other-libc"]);
    refused(
        small.build().arg("--output").arg(small.path("output")),
        Kind::Solver,
        &["safety-override"],
    );
    let definition = text(&read(&small.path("configs/images/small.toml")));
    small.write(
        "configs/images/small.toml",
        &format!("virtual = [\"safety-override\"]\n{definition}"),
    );
    succeed(&mut lycia(&small, &["lock", "small"]));
    assert!(
        lock_of(&small).contains("repository = \"virtual:\""),
        "{}",
        lock_of(&small)
    );
    succeed(
        small
            .build()
            .arg("--locked")
            .arg("--output")
            .arg(small.path("output")),
    );
    let iso = "output/small-x86_64.iso";
    let world = of_root(&small, iso, "etc/apk/world");
    assert_eq!(world, "kernel\nother-libc\nsafety-override=0\n");
    let database = of_root(&small, iso, "lib/apk/db/installed");
    let record = database
        .split("\n\n")
        .find(|record| record.contains("P:safety-override\n"));
    let record = record.unwrap_or_else(|| panic!("{database}"));
    for line in ["V:0", "A:noarch", "S:0", "I:0", "T:virtual meta package"] {
        assert!(record.lines().any(|one| one == line), "no {line} in {record}");
    }
    let why = succeed(&mut lycia(&small, &["why", "safety-override", "small"]));
    assert!(
        text(&why.stdout).starts_with("the image small asks for safety-override 0"),
        "{}",
        text(&why.stdout)
    );
}

#[test]
fn the_initramfs_takes_its_init_from_a_package_that_the_root_has_not() {
    let small = Small::new(0);
    // As on Chimera: nothing of ours in the distribution's repository.
    small.package("base", "2-r0", &[], |package| {
        for (path, text) in [
            ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
            ("etc/group", "root:x:0:\n"),
            ("usr/bin/sh", "a shell\n"),
        ] {
            package
                .file(
                    path.as_bytes(),
                    Acl::root(0o644),
                    1_700_000_000,
                    text.as_bytes().to_vec(),
                )
                .unwrap();
        }
    });
    for version in ["1-r0", "2-r0"] {
        let init = format!("init {version}\n");
        small.package("lycia-init", version, &["not-to-be-had"], |package| {
            package
                .file(
                    b"usr/lib/lycia/init",
                    Acl::root(0o755),
                    1_700_000_000,
                    init.into_bytes(),
                )
                .unwrap();
        });
        let tools = small.path("tools/x86_64");
        std::fs::create_dir_all(&tools).unwrap();
        let from = small.package_file("lycia-init", version);
        std::fs::rename(&from, tools.join(from.file_name().unwrap())).unwrap();
    }
    small.index();
    let lycia_repo = |arguments: &[&str]| {
        let mut command = Command::new(LYCIA);
        command
            .current_dir(small.path("."))
            .args(["--quiet", "repo"])
            .args(arguments);
        succeed(&mut command);
    };
    lycia_repo(&["key", "tools.rsa"]);
    lycia_repo(&["index", "tools", "--sign", "tools.rsa", "--untrusted"]);
    std::fs::rename(small.path("tools.rsa.pub"), small.path("configs/keys/tools.pub")).unwrap();
    small.write(
        "configs/repositories/tools.toml",
        &format!(
            "[[repository]]\nlocation = \"{}\"\nkeys = [\"keys/*.pub\"]\n",
            small.path("tools").display()
        ),
    );
    small.define("");
    refused(
        small.build().arg("--output").arg(small.path("output")),
        Kind::Target,
        &["init"],
    );
    let definition = text(&read(&small.path("configs/images/small.toml")));
    small.write(
        "configs/images/small.toml",
        &definition.replace(
            "[initramfs]\n",
            "[initramfs]\nrepositories = [\"tools\"]\npackages = [\"lycia-init\"]\n",
        ),
    );
    succeed(small.build().arg("--output").arg(small.path("output")));
    let lock = text(&read(&small.path("output/small-x86_64.lock")));
    assert!(lock.contains("[[initramfs]]"), "{lock}");
    let iso = "output/small-x86_64.iso";
    assert!(!of_root(&small, iso, "lib/apk/db/installed").contains("lycia-init"));
    let initrd = succeed(
        tool("bsdtar", "libarchive-tools")
            .args(["-xOf"])
            .arg(small.path(iso))
            .arg("live/initrd"),
    );
    std::fs::write(small.path("initrd.zst"), initrd.stdout).unwrap();
    let cpio = succeed(tool("zstd", "zstd").args(["-dcq"]).arg(small.path("initrd.zst")));
    std::fs::write(small.path("initrd.cpio"), cpio.stdout).unwrap();
    let init = succeed(
        tool("bsdtar", "libarchive-tools")
            .arg("-xOf")
            .arg(small.path("initrd.cpio"))
            .arg("init"),
    );
    assert_eq!(text(&init.stdout), "init 2-r0\n");
    // Locked, it stays; upgraded, it goes on.
    std::fs::copy(
        small.path("output/small-x86_64.lock"),
        small.path("configs/images/small.x86_64.lock"),
    )
    .unwrap();
    succeed(&mut lycia(&small, &["lock", "small", "--check"]));
    succeed(
        small
            .build()
            .arg("--locked")
            .arg("--output")
            .arg(small.path("again")),
    );
    assert!(small.results(&small.path("again")) == small.results(&small.path("output")));
    let why = succeed(&mut lycia(&small, &["why", "lycia-init", "small"]));
    assert_eq!(
        text(&why.stdout),
        "the initramfs of small takes files from lycia-init 2-r0\n"
    );
    small.package("lycia-init", "3-r0", &["not-to-be-had"], file_of_its_own("init"));
    let from = small.package_file("lycia-init", "3-r0");
    std::fs::rename(&from, small.path("tools/x86_64").join(from.file_name().unwrap())).unwrap();
    lycia_repo(&["index", "tools", "--sign", "tools.rsa", "--untrusted"]);
    small.package("filler", "2-r0", &[], file_of_its_own("filler"));
    small.index();
    succeed(&mut lycia(&small, &["lock", "small"]));
    assert_eq!(version(&lock_of(&small), "lycia-init"), "2-r0");
    let one = succeed(&mut lycia(&small, &["lock", "small", "--upgrade", "lycia-init"]));
    let said = text(&one.stdout);
    assert!(said.contains("lycia-init 2-r0 -> 3-r0"), "{said}");
    assert_eq!(version(&lock_of(&small), "lycia-init"), "3-r0");
    // What was not named stays.
    assert_eq!(version(&lock_of(&small), "filler"), "1-r0");
    // With one of the root at once.
    succeed(&mut lycia(
        &small,
        &["lock", "small", "--upgrade", "lycia-init", "filler"],
    ));
    assert_eq!(version(&lock_of(&small), "filler"), "2-r0");
}
