//! What cannot be built is refused with one message, the exit code of its kind, and no output.

use std::path::Path;
use std::process::Command;

use lycia::error::Kind;

use crate::program::{LYCIA, names, run, succeed, text, tool};
use crate::small::{Small, file_of_its_own, new_key};

/// Runs a build into `small`'s folder `output`, which must fail by `kind` with one message that has all of
/// `parts`.
fn refused(small: &Small, command: &mut Command, kind: Kind, parts: &[&str]) {
    let output = small.path("output");
    let ended = run(command.arg("--output").arg(&output));
    judge(&ended, kind, parts);
    let left = if output.is_dir() {
        names(&output)
    } else {
        Vec::new()
    };
    assert!(left.is_empty(), "left in the output: {left:?}");
}

fn judge(ended: &std::process::Output, kind: Kind, parts: &[&str]) {
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(i32::from(kind.code())), "{said}");
    assert!(said.starts_with("lycia: "), "{said}");
    assert_eq!(said.matches("lycia: ").count(), 1, "{said}");
    assert!(!said.contains("panicked"), "{said}");
    for part in parts {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
    assert!(ended.stdout.is_empty(), "{}", text(&ended.stdout));
}

/// A project that builds, so that what is broken afterwards is what fails.
fn sound() -> Small {
    let small = Small::new(0);
    succeed(small.build().arg("--output").arg(small.path("sound")));
    // What is in the store must not excuse what is in the repository.
    small
}

#[test]
fn an_index_signed_by_another_key_is_refused() {
    let small = sound();
    let (other, _) = new_key("small.pub");
    small.index_signed(&[other]);
    let kind = Kind::Verification;
    refused(&small, &mut small.build(), kind, &["local/1", "Packages.adb"]);
    small.index_signed(&[]);
    refused(&small, &mut small.build(), kind, &["local/1", "Packages.adb"]);
    let path = small.path("repository/x86_64/Packages.adb");
    small.index();
    let whole = crate::program::read(&path);
    std::fs::write(&path, &whole[..whole.len() - 9]).unwrap();
    refused(&small, &mut small.build(), kind, &["local/1", "Packages.adb"]);
}

#[test]
fn a_package_that_is_not_the_indexed_one_is_refused() {
    let small = sound();
    let path = small.package_file("filler", "1-r0");
    let whole = crate::program::read(&path);
    // With the packs that were made of the sound one, and without.
    for cold in [false, true] {
        let store = small.path("store");
        // The same name and version, signed by the trusted key, but not what the index announced.
        small.package("filler", "1-r0", &[], file_of_its_own("other"));
        if cold {
            std::fs::remove_dir_all(&store).unwrap();
        }
        refused(&small, &mut small.build(), Kind::Verification, &["filler 1-r0"]);
        std::fs::write(&path, &whole).unwrap();
    }
    // One signed by another key, which the index announces.
    let (other, _) = new_key("small.pub");
    small.package_signed("filler", "1-r0", &[], file_of_its_own("other"), &[other]);
    small.index();
    refused(&small, &mut small.build(), Kind::Verification, &["filler 1-r0"]);
    std::fs::write(&path, &whole).unwrap();
    small.index();
    // Damage anywhere: head, metadata, contents, end.
    for place in [0, whole.len() / 4, whole.len() / 2, whole.len() - 2] {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x20;
        std::fs::write(&path, &bytes).unwrap();
        let _ = std::fs::remove_dir_all(small.path("store"));
        refused(&small, &mut small.build(), Kind::Verification, &["filler"]);
    }
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let _ = std::fs::remove_dir_all(small.path("store"));
    refused(&small, &mut small.build(), Kind::Verification, &["filler"]);
    std::fs::remove_file(&path).unwrap();
    refused(&small, &mut small.build(), Kind::Input, &["filler-1-r0.apk"]);
}

#[test]
fn packages_that_cannot_be_had_together_are_refused_by_name() {
    let small = sound();
    for (packages, parts) in [
        (&["kernel", "no-such-package"][..], &["no-such-package"][..]),
        (&["kernel", "left", "right"], &["left", "right"]),
        (&["kernel", "needy"], &["needy", "no-such-thing"]),
        (&["kernel>=2"], &["kernel"]),
    ] {
        small.define_packages(packages);
        refused(&small, &mut small.build(), Kind::Solver, parts);
    }
}

#[test]
fn a_wrong_definition_is_refused_with_its_place() {
    let small = sound();
    let file = "small.toml";
    for (more, parts) in [
        (
            "pakages = [\"x\"]",
            &[file, "line 5", "pakages", "did you mean `packages`?"][..],
        ),
        ("services = 3", &[file, "line 5"]),
        ("= nothing", &[file, "line 5"]),
        ("include = [\"smal\"]", &["smal", "did you mean `small`?"]),
        ("kernel = \"9.9\"", &["vmlinuz"]),
    ] {
        small.define(more);
        let kind = if more.starts_with("kernel") {
            Kind::Target
        } else {
            Kind::Input
        };
        refused(&small, &mut small.build(), kind, parts);
    }
    std::fs::write(small.path("configs/images/small.toml"), b"summary = \"\xff\"\n").unwrap();
    refused(&small, &mut small.build(), Kind::Input, &[file]);
    small.define("");
    let mut other = small.lycia();
    other.args(["build", "smol"]);
    refused(
        &small,
        &mut other,
        Kind::Input,
        &["smol.toml", "did you mean `small`?"],
    );
    refused(
        &small,
        small.build().args(["--arch", "m68k"]),
        Kind::Input,
        &["m68k", "x86_64"],
    );
    std::fs::remove_file(small.path("configs/keys/small.pub")).unwrap();
    refused(&small, &mut small.build(), Kind::Input, &["local.toml", "no key"]);
}

#[test]
fn a_project_that_is_none_is_refused() {
    let folder = crate::program::open_folder();
    let mut command = Command::new(LYCIA);
    command
        .arg("--cache")
        .arg(folder.path().join("store"))
        .args(["build", "small"]);
    judge(
        &run(command.current_dir(folder.path())),
        Kind::Input,
        &["configs/images", "--project"],
    );
    judge(
        &run(command.arg("--project").arg(folder.path())),
        Kind::Input,
        &["configs/images"],
    );
    // The command line is clap's to judge; its messages are its own.
    let ended = run(Command::new(LYCIA).args(["build", "small", "--lok"]));
    assert_eq!(ended.status.code(), Some(2), "{}", text(&ended.stderr));
    assert!(text(&ended.stderr).contains("--lok"));
}

#[test]
fn a_lock_is_obeyed_or_the_difference_named() {
    let small = sound();
    let kind = Kind::Verification;
    refused(
        &small,
        small.build().arg("--locked"),
        Kind::Input,
        &["--locked", "small.x86_64.lock", "lycia lock small"],
    );
    refused(
        &small,
        small.build().args(["--lock", "no-such.lock"]),
        Kind::Input,
        &["no-such.lock"],
    );
    succeed(small.lycia().args(["lock", "small"]));
    let path = small.path("configs/images/small.x86_64.lock");
    let lock = text(&crate::program::read(&path));
    succeed(
        small
            .build()
            .arg("--locked")
            .arg("--output")
            .arg(small.path("locked")),
    );
    // The lock is that of the build without one, and so is all else.
    assert!(small.results(&small.path("locked")) == small.results(&small.path("sound")));

    let write = |text: &str| std::fs::write(&path, text).unwrap();
    let identity = lock
        .split("identity = \"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap();
    write(&lock.replace(identity, &"0".repeat(identity.len())));
    refused(&small, &mut small.build(), kind, &["not obeyed", "000000000000"]);
    write(&lock.replace("name = \"filler\"", "name = \"vanished\""));
    refused(&small, &mut small.build(), kind, &["not obeyed", "vanished"]);
    write(&lock.replace("version = 1\n", "version = 99\n"));
    refused(&small, &mut small.build(), Kind::Input, &["99", "lycia lock"]);
    write(&lock.replace("epoch", "epok"));
    refused(
        &small,
        &mut small.build(),
        Kind::Input,
        &["small.x86_64.lock", "epok"],
    );
    write(&lock);
    small.define_packages(&["kernel", "filler", "left"]);
    refused(&small, &mut small.build(), kind, &["left", "not locked"]);
    small.define("");
    // The repository moves on; the lock does not.
    std::fs::remove_file(small.package_file("filler", "1-r0")).unwrap();
    small.package("filler", "2-r0", &[], file_of_its_own("filler"));
    small.index();
    refused(&small, &mut small.build(), kind, &["filler", "1-r0", "2-r0"]);
    std::fs::remove_file(&path).unwrap();
    succeed(small.build().arg("--output").arg(small.path("output")));
    // What the definition no longer asks for is a difference, too.
    std::fs::remove_dir_all(small.path("output")).unwrap();
    succeed(small.lycia().args(["lock", "small"]));
    small.define_packages(&["kernel"]);
    refused(&small, &mut small.build(), kind, &["filler"]);
}

#[test]
fn a_missing_program_is_named_with_its_package() {
    let small = sound();
    refused(
        &small,
        small.build().env("PATH", small.path("nowhere")),
        Kind::Host,
        &["grub-mkimage", "grub-common"],
    );
}

#[test]
fn a_place_that_takes_no_output_is_refused() {
    let small = sound();
    let ended = run(small.build().args(["--output", "/proc/lycia-test"]));
    judge(&ended, Kind::Host, &["/proc/lycia-test", "that you may write to"]);
    small.write("file", "in the way\n");
    let ended = run(small.build().arg("--output").arg(small.path("file")));
    judge(&ended, Kind::Host, &["file"]);
    assert_eq!(crate::program::read(&small.path("file")), b"in the way\n");
    let mut command = Command::new(LYCIA);
    command.arg("--project").arg(small.path(".")).args([
        "--quiet",
        "--cache",
        "/proc/lycia-test",
        "build",
        "small",
    ]);
    refused(&small, &mut command, Kind::Host, &["/proc/lycia-test"]);
}

#[test]
fn a_limit_on_the_size_of_files_ends_the_build_without_output() {
    let small = sound();
    // 512 KiB: less than the ISO, more than what comes before.
    let build = small.build();
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -f 1024; exec \"$@\"", "sh"])
        .arg(build.get_program())
        .args(build.get_args());
    refused(&small, &mut limited, Kind::Host, &["writing", "too large"]);
}

/// `build` under strace, which makes the `number`th `call` of its first thread fail as on a full disk.
fn full_disk(build: &Command, call: &str, number: usize, trace: &Path) -> Command {
    let mut command = tool("strace", "strace");
    command
        .args(["-qq", "-e", &format!("trace={call}"), "-e"])
        .arg(format!("inject={call}:error=ENOSPC:when={number}"))
        .arg("-o")
        .arg(trace)
        .arg(build.get_program())
        .args(build.get_args());
    command
}

#[test]
fn a_disk_that_fills_up_at_any_moment_leaves_no_image() {
    let small = sound();
    let trace = small.path("trace");
    let iso = small.path("output/small-x86_64.iso");
    for call in ["write", "fsync", "linkat"] {
        // As many calls as a build makes; a failure that never comes ends the counting.
        let _ = std::fs::remove_dir_all(small.path("output"));
        let mut counting = full_disk(&small.build(), call, 65_535, &trace);
        succeed(counting.arg("--output").arg(small.path("output")));
        let calls = text(&crate::program::read(&trace))
            .lines()
            .filter(|line| line.starts_with(call))
            .count();
        assert!(calls > 3, "{calls} of {call}");
        let whole = crate::program::read(&iso);
        let mut tried = 0;
        let mut forgiven = 0;
        // The last `write`s are the report of the finished build.
        let last = if call == "write" { calls - 1 } else { calls };
        let step = (last / 8).max(1);
        for number in (1..=last).step_by(step) {
            let _ = std::fs::remove_dir_all(small.path("output"));
            let mut command = full_disk(&small.build(), call, number, &trace);
            let ended = run(command.arg("--output").arg(small.path("output")));
            let said = text(&ended.stderr);
            tried += 1;
            // What the store keeps for the speed of the next build may fail; then the image is whole.
            if ended.status.success() {
                assert!(crate::program::read(&iso) == whole, "{call} {number} of {calls}");
                forgiven += 1;
                continue;
            }
            assert!(!iso.exists(), "{call} {number} of {calls} left an ISO: {said}");
            judge(&ended, Kind::Host, &["No space left"]);
        }
        assert!(
            forgiven * 2 < tried,
            "{call}: {forgiven} of {tried} did not end the build"
        );
    }
}
