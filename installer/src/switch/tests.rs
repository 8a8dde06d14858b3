mod chimera;

use super::*;
use crate::allocator::{Allocator, Report, inspect};
use crate::answers::Secrets;
use crate::answers::typed::AnswersFile;
use crate::fixture::{Fixture, MALLOCNG, MIMALLOC, RPMALLOC, SCUDO, write_tree};
use crate::system::{Packages, Parts, Places, assemble};

fn root(fixture: &Fixture) -> tempfile::TempDir {
    let medium = fixture.medium();
    let text = "schema = 1\n[disk]\nlayout = \"directory\"\ndirectory = \"/mnt\"\n[root]\npassword-hash = \"$6$a$b./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./0123456789ABCDEFGHI\"\n";
    let answers = AnswersFile::parse(text, "a")
        .unwrap()
        .resolve(Secrets::Read)
        .unwrap();
    let mut world = crate::engine::world(&medium, &crate::engine::Wanted::from(&answers)).unwrap();
    // Hundreds of modules that no allocator changes, and every copy of the root would have.
    world.retain(|entry| !entry.starts_with("grub"));
    let repositories =
        crate::engine::repositories(&medium, &answers.source, answers.allocator.as_deref()).unwrap();
    let chosen = repositories.solve(&world).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let unpacked = repositories
        .unpack(&chosen, scratch.path(), &mut |_, _| ())
        .unwrap();
    let places = Places {
        root_uuid: "x".into(),
        root_type: "ext4",
        esp_uuid: None,
        shared_esp: None,
        boot_uuid: None,
        volume_uuid: None,
        swap_uuid: None,
        swap_file: crate::apply::Identity::new([0; 16]).swap_file(),
        home: None,
        new_home: None,
        bios_boot: None,
        prepared: Vec::new(),
    };
    let parts = Parts {
        install: &medium.install,
        answers: &answers,
        world: &world,
        keys: &repositories.key_files,
        efi_image: None,
        consoles: &[],
        places: &places,
        mirror: 0,
        records: &[],
        programs: &crate::engine::programs(&medium).unwrap(),
    };
    let system = assemble(Packages::new(unpacked).unwrap(), &parts).unwrap();
    let directory = tempfile::tempdir().unwrap();
    write_tree(&system.root, directory.path());
    directory
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(from.join("."))
        .arg(to.path())
        .status()
        .unwrap();
    assert!(status.success());
    to
}

/// Every choice of the medium: its name, the allocator inside the C library, the one that is preloaded.
const CHOICES: [(&str, Allocator, Option<Allocator>); 4] = [
    ("scudo", Allocator::Scudo, None),
    ("mallocng", Allocator::Mallocng, None),
    ("fast", Allocator::Scudo, Some(Allocator::Rpmalloc)),
    ("safe", Allocator::Scudo, Some(Allocator::Mimalloc)),
];

/// What a root says of its allocator: nothing contradicts, and everything agrees.
fn agrees(root: &Path, name: &str) {
    let report = inspect(root).unwrap();
    let (_, inside, preloaded) = CHOICES.into_iter().find(|choice| choice.0 == name).unwrap();
    assert_eq!(report.allocator, Some(inside), "{}", report.text());
    assert!(report.contradictions.is_empty(), "{}", report.text());
    let library = report.preload.as_ref();
    assert_eq!(
        library.and_then(|one| one.allocator),
        preloaded,
        "{}",
        report.text()
    );
    assert_eq!(library.is_some(), preloaded.is_some(), "{}", report.text());
    let owner = if inside == Allocator::Scudo {
        "musl"
    } else {
        "musl-mallocng"
    };
    assert_eq!(report.owner.as_deref(), Some(owner), "{}", report.text());
    let environment = fs::read_to_string(root.join("etc/dinit/environment")).unwrap();
    assert_eq!(
        environment.contains("LD_PRELOAD"),
        preloaded.is_some(),
        "{environment}"
    );
    for name in ["fast", "safe"] {
        let there = root.join(format!("usr/lib/lib{name}-global.so")).exists();
        assert_eq!(
            there,
            library.is_some_and(|one| one.library.contains(name)),
            "{name}"
        );
    }
    assert_eq!(root.join("etc/profile.d").exists(), preloaded.is_some());
    for entry in walk(root) {
        assert!(!entry.contains(ASIDE), "{entry} is left over");
    }
}

/// Whether programs run: there is a whole C library, and what is to be preloaded is whole or not there, which musl passes over.
fn runs(root: &Path, at: &str) -> Report {
    let library = fs::read(root.join("usr/lib/ld-musl-x86_64.so.1")).unwrap();
    assert!(library == SCUDO || library == MALLOCNG, "{at}");
    for (name, whole) in [("fast", RPMALLOC), ("safe", MIMALLOC)] {
        if let Ok(bytes) = fs::read(root.join(format!("usr/lib/lib{name}-global.so"))) {
            assert!(bytes == whole, "{at}: {name} is torn");
        }
    }
    let report = inspect(root).unwrap();
    assert!(report.owner.is_some(), "{at}: {}", report.text());
    report
}

fn walk(root: &Path) -> Vec<String> {
    let output = std::process::Command::new("find").arg(root).output().unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn between_all_of_them() {
    let fixture = Fixture::new();
    let (root, medium) = (root(&fixture), fixture.medium());
    agrees(root.path(), "scudo");
    for (from, _, _) in CHOICES {
        for (to, _, _) in CHOICES {
            switch(root.path(), &medium, from).unwrap();
            let said = switch(root.path(), &medium, to).unwrap();
            assert_eq!(said.contains("already"), from == to, "{from} to {to}: {said}");
            agrees(root.path(), to);
        }
    }
    switch(root.path(), &medium, "mallocng").unwrap();
    assert!(root.path().join("usr/share/doc/mallocng").exists());
    switch(root.path(), &medium, "scudo").unwrap();
    assert!(!root.path().join("usr/share/doc/mallocng").exists());
    let error = switch(root.path(), &medium, "scuda").unwrap_err().to_string();
    assert!(error.contains("did you mean `scudo`?"), "{error}");
    assert!(switch(&root.path().join("none"), &medium, "scudo").is_err());
}

/// A system that runs has no medium: it changes by its own repositories, with its own keys.
#[test]
fn by_the_repositories_of_the_system_itself() {
    let fixture = Fixture::new();
    let (root, medium) = (root(&fixture), fixture.medium());
    let repositories = root.path().join("etc/apk/repositories");
    let index = medium.packages().join("x86_64/Packages.adb");
    fs::write(
        &repositories,
        format!("# those of the machine\n{}\n", index.display()),
    )
    .unwrap();
    let own = Medium::of_system(root.path()).unwrap();
    assert_eq!(own.install, medium.install);
    for name in ["mallocng", "fast", "scudo"] {
        switch(root.path(), &own, name).unwrap();
        agrees(root.path(), name);
    }
    // Its keys alone are trusted, and without repositories nothing is changed.
    let keys = root.path().join("etc/apk/keys");
    fs::rename(&keys, root.path().join("elsewhere")).unwrap();
    assert!(matches!(
        switch(root.path(), &own, "mallocng"),
        Err(SwitchError::Source(_))
    ));
    fs::rename(root.path().join("elsewhere"), &keys).unwrap();
    fs::write(&repositories, "/nowhere/x86_64/Packages.adb\n").unwrap();
    assert!(matches!(
        switch(root.path(), &own, "mallocng"),
        Err(SwitchError::Source(_))
    ));
    agrees(root.path(), "scudo");
}

#[test]
fn an_environment_that_somebody_changed_stays_and_is_told() {
    let fixture = Fixture::new();
    let (root, medium) = (root(&fixture), fixture.medium());
    fs::write(root.path().join("etc/dinit/environment"), "EDITOR=vi\n").unwrap();
    switch(root.path(), &medium, "fast").unwrap();
    let report = inspect(root.path()).unwrap();
    assert_eq!(
        fs::read_to_string(root.path().join("etc/dinit/environment")).unwrap(),
        "EDITOR=vi\n"
    );
    // As apk has it: the package's file lies beside it.
    assert!(root.path().join("etc/dinit/environment.apk-new").exists());
    assert!(
        report
            .contradictions
            .iter()
            .any(|one| one.contains("for services")),
        "{}",
        report.text()
    );
}

#[test]
fn a_kill_at_any_operation_leaves_programs_running_and_is_finished_by_the_next_run() {
    let fixture = Fixture::new();
    let medium = fixture.medium();
    let first = root(&fixture);
    let mut points = 0;
    for (from, to) in [
        ("scudo", "mallocng"),
        ("mallocng", "scudo"),
        ("mallocng", "fast"),
        ("fast", "safe"),
        ("safe", "mallocng"),
        ("fast", "scudo"),
    ] {
        let start = copy(first.path());
        switch(start.path(), &medium, from).unwrap();
        for stop in 1.. {
            let root = copy(start.path());
            let mut count = 0;
            let result = switch_with(root.path(), &medium, to, &mut |_| {
                count += 1;
                if count == stop {
                    Err(io::Error::other("killed"))
                } else {
                    Ok(())
                }
            });
            runs(root.path(), &format!("{from} to {to}, stopped at {stop}"));
            if result.is_ok() {
                break;
            }
            points += 1;
            // Finished by the next run, or taken back by the old choice.
            let other = copy(root.path());
            switch(root.path(), &medium, to).unwrap();
            agrees(root.path(), to);
            switch(other.path(), &medium, from).unwrap();
            switch(other.path(), &medium, to).unwrap();
            agrees(other.path(), to);
        }
    }
    assert!(points > 100, "{points}");
}
