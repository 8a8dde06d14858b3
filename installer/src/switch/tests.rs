use super::*;
use crate::allocator::{Allocator, inspect};
use crate::answers::Secrets;
use crate::answers::typed::AnswersFile;
use crate::fixture::{Fixture, MALLOCNG, SCUDO, write_tree};
use crate::system::{Parts, Places, assemble};

fn root(fixture: &Fixture) -> tempfile::TempDir {
    let medium = fixture.medium();
    let text = "schema = 1\n[disk]\nlayout = \"directory\"\ndirectory = \"/mnt\"\n[root]\npassword-hash = \"$6$a$b\"\n";
    let answers = AnswersFile::parse(text, "a")
        .unwrap()
        .resolve(Secrets::Read)
        .unwrap();
    let world = crate::engine::world(&medium, &answers).unwrap();
    let repositories = crate::engine::repositories(&medium, &answers).unwrap();
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
        bios_boot: None,
    };
    let parts = Parts {
        install: &medium.install,
        answers: &answers,
        world: &world,
        keys: &repositories.key_files,
        efi_image: None,
        consoles: &[],
        places: &places,
        records: &[],
    };
    let system = assemble(unpacked, &parts).unwrap();
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

/// What a root says of its allocator: nothing contradicts, and everything agrees.
fn agrees(root: &Path, allocator: Allocator) {
    let report = inspect(root).unwrap();
    assert_eq!(report.allocator, Some(allocator), "{}", report.text());
    assert!(report.contradictions.is_empty(), "{}", report.text());
    let owner = if allocator == Allocator::Scudo {
        "musl"
    } else {
        "musl-mallocng"
    };
    assert_eq!(report.owner.as_deref(), Some(owner), "{}", report.text());
    for entry in walk(root) {
        assert!(!entry.contains(ASIDE), "{entry} is left over");
    }
}

fn walk(root: &Path) -> Vec<String> {
    let output = std::process::Command::new("find").arg(root).output().unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn back_and_forth() {
    let fixture = Fixture::new();
    let (root, medium) = (root(&fixture), fixture.medium());
    agrees(root.path(), Allocator::Scudo);
    let said = switch(root.path(), &medium, "mallocng").unwrap();
    assert!(
        said.contains("removed musl") || said.contains("installed musl-mallocng"),
        "{said}"
    );
    agrees(root.path(), Allocator::Mallocng);
    assert!(root.path().join("usr/share/doc/mallocng").exists());
    assert!(
        switch(root.path(), &medium, "mallocng")
            .unwrap()
            .contains("already")
    );
    switch(root.path(), &medium, "scudo").unwrap();
    agrees(root.path(), Allocator::Scudo);
    assert!(!root.path().join("usr/share/doc/mallocng").exists());
    let error = switch(root.path(), &medium, "scuda").unwrap_err().to_string();
    assert!(error.contains("did you mean `scudo`?"), "{error}");
    assert!(switch(&root.path().join("none"), &medium, "scudo").is_err());
}

#[test]
fn a_kill_at_any_operation_leaves_a_whole_library_and_is_finished_by_the_next_run() {
    let fixture = Fixture::new();
    let medium = fixture.medium();
    let scudo = root(&fixture);
    let mallocng = copy(scudo.path());
    switch(mallocng.path(), &medium, "mallocng").unwrap();
    let mut points = 0;
    for (from, name, to) in [
        (&scudo, "mallocng", Allocator::Mallocng),
        (&mallocng, "scudo", Allocator::Scudo),
    ] {
        for stop in 1.. {
            let root = copy(from.path());
            let mut count = 0;
            let result = switch_with(root.path(), &medium, name, &mut |_| {
                count += 1;
                if count == stop {
                    Err(io::Error::other("killed"))
                } else {
                    Ok(())
                }
            });
            // Whatever happened, there is a whole C library under the loader's name.
            let library = fs::read(root.path().join("usr/lib/ld-musl-x86_64.so.1")).unwrap();
            assert!(
                library == SCUDO || library == MALLOCNG,
                "{name} stopped at {stop}"
            );
            let database = inspect(root.path()).unwrap();
            assert!(
                database.owner.is_some(),
                "{name} stopped at {stop}: {}",
                database.text()
            );
            if result.is_ok() {
                break;
            }
            points += 1;
            // Finished by the next run, or taken back by the other choice.
            let other = copy(root.path());
            switch(root.path(), &medium, name).unwrap();
            agrees(root.path(), to);
            let back = if name == "scudo" { "mallocng" } else { "scudo" };
            switch(other.path(), &medium, back).unwrap();
            switch(other.path(), &medium, name).unwrap();
            agrees(other.path(), to);
        }
    }
    assert!(points > 30, "{points}");
}
