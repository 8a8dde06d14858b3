//! `lycia repo key`, `index`, `sign` and `verify`.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::process::Command;

use lycia::error::Kind;
use lycia_apk::index::Index;
use lycia_apk::keys::KeyRing;
use lycia_apk::package::Trust;

use crate::program::{LYCIA, names, read, run, succeed, text, tool};
use crate::small::{Small, file_of_its_own, new_key};

fn repo(small: &Small) -> Command {
    let mut command = Command::new(LYCIA);
    command.current_dir(small.path(".")).args(["--quiet", "repo"]);
    command
}

fn refused(command: &mut Command, kind: Kind, parts: &[&str]) {
    let ended = run(command);
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(i32::from(kind.code())), "{said}");
    for part in parts {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
}

/// A project whose repository is signed by a key that `lycia repo key` made.
fn keyed() -> Small {
    let small = Small::new(0);
    succeed(repo(&small).args(["key", "me.rsa"]));
    let packages: Vec<String> = names(&small.path("repository/x86_64"))
        .into_iter()
        .filter(|name| name.ends_with(".apk"))
        .map(|name| format!("repository/x86_64/{name}"))
        .collect();
    succeed(
        repo(&small)
            .args(["sign", "--replace", "--key", "me.rsa"])
            .args(&packages),
    );
    small
}

#[test]
fn a_repository_is_keyed_signed_indexed_verified_and_built_from() {
    let small = keyed();
    let private = small.path("me.rsa").metadata().unwrap();
    assert_eq!(private.permissions().mode() & 0o777, 0o600);
    // An independent program reads both halves.
    let public = succeed(
        tool("openssl", "openssl")
            .args(["pkey", "-pubout", "-in"])
            .arg(small.path("me.rsa")),
    );
    assert_eq!(text(&public.stdout), text(&read(&small.path("me.rsa.pub"))));
    refused(
        repo(&small).args(["key", "me.rsa"]),
        Kind::Input,
        &["there already"],
    );

    // The index of before names files of other lengths.
    refused(
        repo(&small).args(["verify", "repository", "--key", "me.rsa.pub"]),
        Kind::Verification,
        &["untrusted"],
    );
    let made =
        succeed(repo(&small).args(["index", "repository", "--sign", "me.rsa", "--apkindex", "--json"]));
    let made: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
    assert_eq!(made[0]["packages"], 6, "{made}");
    let folder = small.path("repository/x86_64");
    assert_eq!(
        read(&folder.join("Packages.adb")),
        read(&folder.join("APKINDEX.tar.gz"))
    );
    let checked = succeed(repo(&small).args(["verify", "repository", "--key", "me.rsa.pub", "--json"]));
    let checked: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(checked[0]["sound"], 6, "{checked}");
    assert_eq!(checked[0]["signed-by"], "me.rsa.pub", "{checked}");
    assert_eq!(checked.as_array().unwrap().len(), 1, "{checked}");
    // The same again gives the same bytes, under both names without asking for it.
    let before = read(&folder.join("Packages.adb"));
    let is_linked = || {
        let of = |name: &str| folder.join(name).metadata().unwrap().ino();
        of("Packages.adb") == of("APKINDEX.tar.gz")
    };
    succeed(repo(&small).args(["index", "repository", "--sign", "me.rsa"]));
    assert!(read(&folder.join("Packages.adb")) == before && is_linked());
    for name in ["Packages.adb", "APKINDEX.tar.gz"] {
        succeed(
            repo(&small)
                .args(["sign", "--replace", "--key", "me.rsa"])
                .arg(folder.join(name)),
        );
        assert!(
            read(&folder.join("Packages.adb")) == before && is_linked(),
            "{name}"
        );
    }
    // One folder by itself, from within it.
    let mut here = Command::new(LYCIA);
    here.current_dir(&folder)
        .args(["--quiet", "repo", "index", ".", "--sign"]);
    succeed(here.arg(small.path("me.rsa")));
    assert!(read(&folder.join("Packages.adb")) == before);

    std::fs::copy(small.path("me.rsa.pub"), small.path("configs/keys/small.pub")).unwrap();
    succeed(small.build().arg("--output").arg(small.path("output")));
}

#[test]
fn an_index_has_the_form_that_was_asked_for() {
    let small = keyed();
    let folder = small.path("repository/x86_64");
    succeed(repo(&small).args([
        "index",
        "repository",
        "--sign",
        "me.rsa",
        "--hash",
        "sha256-160",
        "--description",
        "mine",
    ]));
    let index = Index::read(
        &read(&folder.join("Packages.adb")),
        &KeyRing::new(),
        Trust::AllowUntrusted,
    )
    .unwrap();
    assert_eq!(index.description, "mine");
    assert!(
        index
            .packages
            .iter()
            .all(|one| one.hashes.as_ref().unwrap().0.len() == 20)
    );
    succeed(repo(&small).args(["verify", "repository", "--key", "me.rsa.pub"]));
    std::fs::copy(small.path("me.rsa.pub"), small.path("configs/keys/small.pub")).unwrap();
    succeed(small.build().arg("--output").arg(small.path("output")));
}

#[test]
fn packages_that_do_not_belong_are_refused_by_name() {
    let small = keyed();
    let index = |small: &Small| {
        let mut command = repo(small);
        command.args(["index", "repository", "--sign", "me.rsa"]);
        command
    };
    let folder = small.path("repository/x86_64");
    let before = read(&folder.join("Packages.adb"));
    // Of another key.
    small.package("stranger", "1-r0", &[], file_of_its_own("stranger"));
    refused(
        &mut index(&small),
        Kind::Verification,
        &[
            "1 packages cannot be indexed",
            "stranger-1-r0.apk",
            "untrusted",
            "--key",
        ],
    );
    assert!(read(&folder.join("Packages.adb")) == before);
    succeed(index(&small).args(["--key", "configs/keys"]));
    succeed(index(&small).arg("--untrusted"));
    // Damaged, and under another name.
    let whole = read(&small.package_file("stranger", "1-r0"));
    std::fs::write(small.package_file("stranger", "1-r0"), &whole[..40]).unwrap();
    std::fs::write(folder.join("other-2.apk"), &whole).unwrap();
    refused(
        index(&small).arg("--untrusted"),
        Kind::Verification,
        &[
            "2 packages",
            "stranger-1-r0.apk",
            "its name should be stranger-1-r0.apk",
        ],
    );
    // In the folder of another architecture.
    let wrong = small.path("repository/riscv64");
    std::fs::create_dir(&wrong).unwrap();
    std::fs::write(wrong.join("stranger-1-r0.apk"), &whole).unwrap();
    refused(
        index(&small).arg("--untrusted"),
        Kind::Verification,
        &["it is for x86_64"],
    );
    refused(
        repo(&small).args(["index", "configs"]),
        Kind::Input,
        &["has packages"],
    );
    refused(
        repo(&small).args(["sign", "--key", "me.rsa", "me.rsa"]),
        Kind::Input,
        &["neither a package", "nor an index"],
    );
    refused(
        repo(&small).args(["sign", "--key", "me.rsa.pub", "me.rsa"]),
        Kind::Input,
        &["me.rsa.pub"],
    );
}

#[test]
fn every_fault_of_a_repository_is_found() {
    let small = keyed();
    succeed(repo(&small).args(["index", "repository", "--sign", "me.rsa"]));
    let verify = |small: &Small| {
        let mut command = repo(small);
        command.args(["verify", "repository", "--key", "me.rsa.pub"]);
        command
    };
    succeed(&mut verify(&small));
    let path = small.package_file("base", "1-r0");
    let whole = read(&path);
    // One place in twenty: each runs the program.
    for place in (0..whole.len()).step_by(whole.len() / 20) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        std::fs::write(&path, &bytes).unwrap();
        refused(&mut verify(&small), Kind::Verification, &["base-1-r0.apk"]);
    }
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    refused(
        &mut verify(&small),
        Kind::Verification,
        &["bytes, the index says"],
    );
    std::fs::remove_file(&path).unwrap();
    refused(&mut verify(&small), Kind::Verification, &["base-1-r0.apk"]);
    std::fs::write(&path, &whole).unwrap();
    succeed(&mut verify(&small));
    let (_, public) = new_key("other.pub");
    small.write("other.pub", &public);
    refused(
        repo(&small).args(["verify", "repository", "--key", "other.pub"]),
        Kind::Verification,
        &["Packages.adb", "untrusted"],
    );
    refused(
        repo(&small).args(["verify", "repository"]),
        Kind::Usage,
        &["--key"],
    );
    succeed(repo(&small).args(["verify", "repository", "--untrusted"]));
    // A file that no index names is told, and no fault.
    std::fs::write(small.path("repository/x86_64/extra-1.apk"), b"x").unwrap();
    let checked = succeed(verify(&small).arg("--json"));
    assert!(text(&checked.stdout).contains("extra-1.apk"));
}
