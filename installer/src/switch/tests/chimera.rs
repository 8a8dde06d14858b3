//! A root of the shape of Chimera's: one of two C libraries, and a package without files that lets the other one in.

use super::*;
use crate::fixture::MIMALLOC_LIBC;
use lycia_apk::solver::{Command, Request};
use lycia_root::assembly;

const OVERRIDE: &str = "musl-safety-override";

/// As an installation with the allocator `name` leaves it.
fn chimera(fixture: &Fixture, name: &str) -> tempfile::TempDir {
    let medium = fixture.medium();
    let table = medium.allocator(Some(name)).unwrap().unwrap();
    let repositories = Repositories::local(&medium.packages(), "x86_64", medium.keys().unwrap())
        .unwrap()
        .with_virtuals(table.virtual_packages());
    let mut world = medium.install.packages.clone();
    world.extend(table.world());
    let chosen = repositories.solve(&world).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let unpacked = repositories
        .unpack(&chosen, scratch.path(), &mut |_, _| ())
        .unwrap();
    let time = Timestamp::from_seconds(0);
    let mut tree = Tree::new(Metadata::new(0o755, time));
    let options = lycia_root::Options { time, strict: false };
    let installed = assembly::install(&mut tree, unpacked, &options).unwrap();
    let world: Vec<_> = world
        .iter()
        .map(|entry| dependency::parse_world_entry(entry).unwrap())
        .collect();
    let records = assembly::Records {
        world: &world,
        arch: "x86_64",
        keys: &repositories.key_files,
        repositories: &[],
    };
    installed.record(&mut tree, &records).unwrap();
    let directory = tempfile::tempdir().unwrap();
    write_tree(&tree, directory.path());
    directory
}

fn file(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap()
}

fn database(root: &Path) -> Database {
    let mut snapshot = Snapshot {
        root,
        tree: Tree::new(Metadata::new(0o755, Timestamp::from_seconds(0))),
        seen: BTreeSet::new(),
    };
    snapshot.with_content(&format!("{DIRECTORY}/installed")).unwrap();
    Database::load(&snapshot.tree).unwrap()
}

/// World, the installed packages and the library say the same, and nothing else is different from an installation with this choice.
fn is(root: &Path, name: &str, installed: &Path) {
    let report = inspect(root).unwrap();
    assert!(report.contradictions.is_empty(), "{}", report.text());
    assert_eq!(report.allocator.unwrap().to_string(), name, "{}", report.text());
    for path in ["etc/apk/world", "usr/lib/apk/db/installed"] {
        let lines =
            |root: &Path| -> BTreeSet<String> { file(root, path).lines().map(str::to_owned).collect() };
        assert_eq!(lines(root), lines(installed), "{path}");
    }
    let names = |root: &Path| -> BTreeSet<String> {
        let at = root.to_str().unwrap().len();
        walk(root).iter().map(|path| path[at..].to_owned()).collect()
    };
    assert_eq!(names(root), names(installed));
}

#[test]
fn in_both_directions_with_the_package_without_files() {
    let fixture = Fixture::chimera("1.2.6");
    let medium = fixture.medium();
    let (first, other) = (chimera(&fixture, "mimalloc"), chimera(&fixture, "mallocng"));
    assert_eq!(file(first.path(), "etc/apk/world"), "base-full\n");
    assert_eq!(
        file(other.path(), "etc/apk/world"),
        "base-full\nmusl-mallocng\nmusl-safety-override=0\n"
    );
    let root = copy(first.path());
    for _ in 0..2 {
        let said = switch(root.path(), &medium, "mallocng").unwrap();
        assert!(said.contains(&format!("installed {OVERRIDE}-0")), "{said}");
        is(root.path(), "mallocng", other.path());
        assert!(
            switch(root.path(), &medium, "mallocng")
                .unwrap()
                .contains("already")
        );
        let said = switch(root.path(), &medium, "mimalloc").unwrap();
        assert!(said.contains(&format!("removed {OVERRIDE}")), "{said}");
        is(root.path(), "mimalloc", first.path());
    }
    // Somebody gave consent and went no further: it is in world already, and stays what it is.
    let world = root.path().join("etc/apk/world");
    fs::write(&world, "base-full\nmusl-safety-override=0\n").unwrap();
    switch(root.path(), &medium, "mallocng").unwrap();
    is(root.path(), "mallocng", other.path());
}

#[test]
fn a_kill_at_any_operation_leaves_programs_running() {
    let fixture = Fixture::chimera("1.2.6");
    let medium = fixture.medium();
    let roots = [chimera(&fixture, "mimalloc"), chimera(&fixture, "mallocng")];
    let names = ["mimalloc", "mallocng"];
    let mut points = 0;
    for (from, to) in [(0, 1), (1, 0)] {
        for stop in 1.. {
            let root = copy(roots[from].path());
            let mut count = 0;
            let result = switch_with(root.path(), &medium, names[to], &mut |_| {
                count += 1;
                match count == stop {
                    true => Err(io::Error::other("killed")),
                    false => Ok(()),
                }
            });
            let at = format!("{} to {}, stopped at {stop}", names[from], names[to]);
            let library = fs::read(root.path().join("usr/lib/ld-musl-x86_64.so.1")).unwrap();
            assert!(library == MIMALLOC_LIBC || library == MALLOCNG, "{at}");
            assert!(inspect(root.path()).unwrap().owner.is_some(), "{at}");
            if result.is_ok() {
                break;
            }
            points += 1;
            let other = copy(root.path());
            switch(root.path(), &medium, names[to]).unwrap();
            is(root.path(), names[to], roots[to].path());
            // The old choice takes it back.
            switch(other.path(), &medium, names[from]).unwrap();
            switch(other.path(), &medium, names[to]).unwrap();
            is(other.path(), names[to], roots[to].path());
        }
    }
    assert!(points > 20, "{points}");
}

/// `apk upgrade` in the target, which knows of no medium: newer packages come, and the C library stays the chosen one.
#[test]
fn an_upgrade_keeps_the_choice() {
    let newer = Fixture::chimera("1.2.7");
    let newer = newer.medium();
    let newer = Repositories::local(&newer.packages(), "x86_64", newer.keys().unwrap()).unwrap();
    let fixture = Fixture::chimera("1.2.6");
    let medium = fixture.medium();
    for (name, library, other) in [
        ("mimalloc", "musl", "musl-mallocng"),
        ("mallocng", "musl-mallocng", "musl"),
    ] {
        let root = chimera(&fixture, "mimalloc");
        switch(root.path(), &medium, name).unwrap();
        let request = Request {
            world: dependency::parse_world(&file(root.path(), "etc/apk/world")).unwrap(),
            command: Command::Upgrade {
                names: Vec::new(),
                ignore: false,
                available: false,
                latest: false,
                prune: false,
            },
            drop_unmet: false,
        };
        let changes = newer.steps(&database(root.path()), &request).unwrap();
        let put: Vec<String> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Put(chosen) => Some(format!("{} {}", chosen.entry.name, chosen.entry.version)),
                _ => None,
            })
            .collect();
        assert!(put.contains(&format!("{library} 1.2.7-r1")), "{name}: {put:?}");
        assert!(
            !put.iter().any(|one| one.starts_with(&format!("{other} "))),
            "{name}: {put:?}"
        );
        let removed = changes.iter().any(|change| matches!(change, Change::Remove(_)));
        assert!(!removed, "{name}: {changes:?}");
        let kept = |change: &Change| matches!(change, Change::Keep(one, _) if one == OVERRIDE);
        assert_eq!(changes.iter().any(kept), name == "mallocng", "{changes:?}");
    }
}
