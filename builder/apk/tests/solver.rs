//! The solver from outside: what it says when it fails, hostile universes, large ones.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod v2_index;

use lycia_apk::dependency::{is_met_by, parse_list, parse_world};
use lycia_apk::metadata::{Dependency, Digest, PackageInfo};
use lycia_apk::solver::{
    Command, Operation, Request, Solution, SolveError, Universe, UniverseBuilder, UniverseError, select,
    solve,
};

/// A package written as `name version [priority] | depends | provides | install_if`.
fn package(text: &str) -> PackageInfo {
    let mut parts = text.split('|').map(str::trim);
    let mut head = parts.next().unwrap().split(' ');
    let mut list = || parse_list(parts.next().unwrap_or_default()).unwrap();
    PackageInfo {
        name: head.next().unwrap().into(),
        version: head.next().unwrap().into(),
        installed_size: 1,
        provider_priority: head.next().map_or(0, |priority| priority.parse().unwrap()),
        // Records that say the same are the same package.
        hashes: Some(Digest(format!("{text:_<20}").into_bytes())),
        depends: list(),
        provides: list(),
        install_if: list(),
        ..PackageInfo::default()
    }
}

type Repository<'t> = (Option<&'t str>, &'t [&'t str]);

fn universe(installed: &[&str], repositories: &[Repository<'_>]) -> Universe {
    let mut builder = UniverseBuilder::new(["x86_64"]);
    for text in installed {
        builder.installed(package(text), None).unwrap();
    }
    for (tag, packages) in repositories {
        builder
            .repository([*tag], packages.iter().map(|text| package(text)))
            .unwrap();
    }
    builder.finish().unwrap()
}

fn world(text: &str) -> Vec<Dependency> {
    parse_world(text).unwrap()
}

fn shown(universe: &Universe, solution: &Solution) -> String {
    let mut text = Vec::new();
    for change in solution
        .changes
        .iter()
        .filter(|change| change.operation != Operation::Keep)
    {
        let info = universe.info(change.new.or(change.old).unwrap());
        let tag = change
            .tag
            .as_ref()
            .map(|tag| format!("@{tag}"))
            .unwrap_or_default();
        text.push(format!(
            "{} {}{tag}-{}",
            change.operation, info.name, info.version
        ));
    }
    text.join(", ")
}

fn run(installed: &[&str], repositories: &[Repository<'_>], entries: &str, command: Command) -> String {
    let universe = universe(installed, repositories);
    let request = Request {
        world: world(entries),
        command,
        ..Request::default()
    };
    solve(&universe, &request).map_or_else(|error| error.to_string(), |solution| shown(&universe, &solution))
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn explanations() {
    let cases: [(&[Repository<'_>], &str, &str); 16] = [
        (
            &[(None, &["app 1|lib>=2", "lib 1"])],
            "app",
            "world entry app cannot be met: app-1 needs lib>=2, but there is only lib-1",
        ),
        (
            &[(None, &["k 1|nothere"])],
            "k",
            "world entry k cannot be met: k-1 needs nothere, but no package provides it",
        ),
        (
            &[(None, &["a 1|b", "b 1|c", "c 1|d", "d 1|nothere"])],
            "a",
            "world entry a cannot be met: d-1 (needed by c-1, needed by b-1, needed by a-1) needs nothere, but \
             no package provides it",
        ),
        (
            &[(None, &[])],
            "nothere",
            "world entry nothere cannot be met: world needs nothere, but no package provides it",
        ),
        (
            &[(
                None,
                &[
                    "a 1|b c", "b 2|y", "b 1", "y 1|x=2", "c 1|x=1", "x 1", "x 2", "q 1", "r 1",
                ],
            )],
            "q a r",
            "world entry a cannot be met: y-1 (needed by b-2, needed by a-1) needs x=2, but x-1 does not match; \
             x-2 does not match x=1, which c-1 needs",
        ),
        (
            &[(None, &["exim 1||mta", "postfix 1||mta"])],
            "mta",
            "world entry mta cannot be met: world needs mta, but exim-1 provides it without version or \
             priority, so world has to name exim; postfix-1 provides it without version or priority, so world \
             has to name postfix",
        ),
        (
            &[(None, &["a 1||feat=1", "b 1||feat", "c 1", "d 1", "e 1"])],
            "c a d b e",
            "world entries a, b cannot be met together: world needs b, but b-1 provides feat, which is taken by \
             whatever provides a",
        ),
        (
            &[(None, &["q 1"]), (Some("edge"), &["z 1"])],
            "z",
            "world entry z cannot be met: world needs z, but z-1 is only in repositories tagged @edge; world \
             has to say z@edge to allow it",
        ),
        (
            &[(None, &["a 1|!b", "b 1", "c 1|b", "d 1"])],
            "a c d",
            "world entries a, c cannot be met together: a-1 has !b, but b-1 (needed by c-1) is there",
        ),
        (
            &[(None, &["f 1|g=1.x.y", "g 1"])],
            "f",
            "world entry f cannot be met: world needs f, but f-1 has the dependency g=1.x.y, which compares \
             with something that is no version",
        ),
        (
            &[(None, &["a 1", "b 1", "c 1|nonesuch|| a b"])],
            "a b",
            "world entries a, b cannot be met together: c-1 (installed with a and b) needs nonesuch, but no \
             package provides it",
        ),
        (
            &[(None, &["a 1", "b 1|a"])],
            "b !a",
            "world entries !a, b cannot be met together: world has !a, but a-1 (needed by b-1) is there",
        ),
        (
            &[(None, &["a 1", "a 2", "b 1||a=3"])],
            "a>3",
            "world entry a>3 cannot be met: world needs a>3, but there is only a-1, a-2, b-1 with a=3",
        ),
        (
            &[(None, &["a 1", "b 1|a>2"])],
            "a=1 b",
            "world entry b cannot be met: b-1 needs a>2, but there is only a-1",
        ),
        (
            &[(None, &["a 1", "a 2", "b 1|a>1"])],
            "a=1 b",
            "world entries a=1, b cannot be met together: b-1 needs a>1, but a-1 does not match; a-2 does not \
             match a=1, which world needs",
        ),
        (
            &[(None, &["a 1|a2 !a2", "a2 1"])],
            "a",
            "world entry a cannot be met: a-1 has !a2, but a2-1 (needed by a-1) is there",
        ),
    ];
    for (repositories, entries, expected) in cases {
        let universe = universe(&[], repositories);
        let error = select(&universe, &world(entries)).unwrap_err();
        assert!(matches!(error, SolveError::Unsolvable(_)), "{entries}");
        assert_eq!(error.to_string(), expected, "{entries}");
    }
}

#[test]
fn other_refusals() {
    let repositories: &[Repository<'_>] = &[(None, &["a 1"])];
    let delete = Command::Delete {
        names: names(&["x", "y", "a*"]),
        dependants: false,
    };
    assert_eq!(run(&[], repositories, "a", delete), "no such package: x, y");
    assert_eq!(
        run(&[], repositories, "a@edge", Command::Satisfy),
        "world entry a@edge asks for a repository tag that no repository has; configure one as \"@tag url\""
    );
    let universe = universe(&[], repositories);
    let mut entries = world("a=1");
    entries[0].version = "1.x".into();
    assert!(matches!(
        select(&universe, &entries),
        Err(SolveError::BadVersion { .. })
    ));
}

#[test]
fn commands() {
    let main: &[&str] = &[
        "app 1|lib",
        "app 2|lib>=2",
        "lib 1",
        "lib 2",
        "lib 2.5",
        "doc 1||| app tool",
        "tool 1",
    ];
    let repositories: &[Repository<'_>] = &[(None, main)];
    let add = |text: &str, upgrade, latest| Command::Add {
        entries: world(text),
        upgrade,
        latest,
    };
    let upgrade = |list: &[&str], ignore, available| Command::Upgrade {
        names: names(list),
        ignore,
        available,
        latest: false,
        prune: false,
    };
    let fix = |depends| Command::Fix {
        names: names(&["app"]),
        reinstall: false,
        upgrade: false,
        depends,
    };
    let old: &[&str] = &["lib 1", "app 1|lib"];
    for (installed, entries, command, expected) in [
        (
            &[][..],
            "",
            add("app", false, false),
            "Installing lib-2.5, Installing app-2",
        ),
        (
            &[],
            "lib=1",
            add("app", false, false),
            "Installing lib-1, Installing app-1",
        ),
        (
            &[],
            "tool app",
            Command::Satisfy,
            "Installing lib-2.5, Installing app-2, Installing tool-1, Installing doc-1",
        ),
        (old, "app", add("app", false, false), ""),
        (
            old,
            "app",
            add("app", true, false),
            "Upgrading lib-2.5, Upgrading app-2",
        ),
        (
            old,
            "app",
            upgrade(&[], false, false),
            "Upgrading lib-2.5, Upgrading app-2",
        ),
        (old, "app", upgrade(&["lib"], false, false), "Upgrading lib-2.5"),
        (old, "app", upgrade(&["lib"], true, false), ""),
        (old, "app", upgrade(&["l*b"], true, false), ""),
        (old, "app", fix(false), "Reinstalling app-1"),
        (old, "app", fix(true), "Reinstalling lib-1, Reinstalling app-1"),
        (
            old,
            "app",
            Command::Delete {
                names: names(&["app"]),
                dependants: false,
            },
            "Purging app-1, Purging lib-1",
        ),
        (
            old,
            "app lib",
            Command::Delete {
                names: names(&["lib"]),
                dependants: true,
            },
            "Purging app-1, Purging lib-1",
        ),
        (
            &["lib 7", "app 1|lib"],
            "app",
            upgrade(&[], false, true),
            "Downgrading lib-2.5, Upgrading app-2",
        ),
        (
            &["lib 7", "app 1|lib"],
            "app lib",
            upgrade(&["app"], false, false),
            "Upgrading app-2",
        ),
    ] {
        assert_eq!(
            run(installed, repositories, entries, command.clone()),
            expected,
            "{entries} {command:?}"
        );
    }
    let prune = Command::Upgrade {
        names: Vec::new(),
        ignore: false,
        available: false,
        latest: false,
        prune: true,
    };
    assert_eq!(
        run(&["gone 1"], repositories, "gone tool", prune),
        "Purging gone-1, Installing tool-1"
    );
}

#[test]
fn world_afterwards_and_unmet_entries() {
    let universe = universe(&[], &[(None, &["b 1", "a 1", "C 1"])]);
    let mut request = Request {
        world: world("b a"),
        command: Command::Add {
            entries: world("C a=1"),
            upgrade: false,
            latest: false,
        },
        drop_unmet: false,
    };
    let solution = solve(&universe, &request).unwrap();
    assert_eq!(solution.world, world("a=1 b C"));
    assert!(solution.unmet.is_empty());

    request.world = world("b missing");
    assert!(solve(&universe, &request).is_err());
    request.drop_unmet = true;
    let solution = solve(&universe, &request).unwrap();
    assert_eq!(solution.world, world("a=1 b C missing"));
    assert_eq!(solution.unmet, world("missing"));
}

#[test]
fn where_packages_come_from() {
    let shared = "shared 1";
    let universe = universe(
        &[],
        &[
            (None, &["a 1|shared b@x"].map(|_| "a 1|shared b")),
            (None, &[shared, "b 1"]),
            (None, &[shared, "b 2"]),
        ],
    );
    let chosen = select(&universe, &world("a")).unwrap();
    let found: Vec<_> = chosen
        .iter()
        .map(|chosen| (universe.info(chosen.package).name.as_str(), chosen.repository))
        .collect();
    assert_eq!(found, [("shared", Some(1)), ("b", Some(2)), ("a", Some(0))]);
    assert_eq!(
        universe.repositories(chosen[0].package).collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(universe.packages().len(), 4);
    assert_eq!(universe.providers_of("b").len(), 2);
    assert!(universe.providers_of("nothing").is_empty());
}

#[test]
fn files_and_virtual_packages_come_from_nowhere() {
    let mut builder = UniverseBuilder::new(["x86_64"]);
    builder.repository([None], [package("a 1")]).unwrap();
    let file = builder.file(package("f 1|a")).unwrap();
    builder
        .virtual_package(".set", "1", parse_list("f").unwrap())
        .unwrap();
    let universe = builder.finish().unwrap();
    let chosen = select(&universe, &world(".set")).unwrap();
    let from: Vec<_> = chosen.iter().map(|chosen| chosen.repository).collect();
    assert_eq!(from, [Some(0), None, None]);
    assert_eq!(chosen[1].package, file);
    assert!(universe.is_file(file) && !universe.is_installed(file));
}

#[test]
fn of_a_virtual_packages_dependencies_on_one_name_the_last_counts() {
    let mut builder = UniverseBuilder::new(["x86_64"]);
    let packages = ["a 1", "a 2", "b 1"].map(package);
    builder.repository([None], packages).unwrap();
    let id = builder
        .virtual_package(".set", "1", parse_list("a=1 b a").unwrap())
        .unwrap();
    let universe = builder.finish().unwrap();
    assert_eq!(universe.info(id).depends, parse_list("a b").unwrap());
    let chosen = select(&universe, &world(".set")).unwrap();
    let versions: Vec<_> = chosen
        .iter()
        .map(|chosen| universe.info(chosen.package).version.as_str())
        .collect();
    assert_eq!(versions, ["2", "1", "1"]);
}

/// `del -r` looks at each package once: one that met a doomed package which it does not need stays, though it needs
/// another.
#[test]
fn dependants_go_depth_first_and_are_asked_once() {
    let request = |installed: &[&str], entries: &str, name: &str| -> Result<Vec<Dependency>, ()> {
        let universe = universe(installed, &[(None, installed)]);
        let request = Request {
            world: world(entries),
            command: Command::Delete {
                names: vec![name.into()],
                dependants: true,
            },
            drop_unmet: false,
        };
        solve(&universe, &request)
            .map(|solution| solution.world)
            .map_err(|_| ())
    };
    assert_eq!(request(&["a 1", "b 1|a", "c 1|b"], "c", "a"), Ok(world("")));
    assert_eq!(request(&["a 1", "b 1|a", "c 1"], "b c", "a"), Ok(world("c")));
    // One speaks of a without needing the a that there is, and needs the other, which needs a. Which of them is met
    // first depends on their names.
    let results = [("x", "y"), ("y", "x")].map(|(asks, needs)| {
        let (first, second) = (format!("{asks} 1|a>5 {needs}"), format!("{needs} 1|a"));
        request(&["a 1", &first, &second], asks, "a")
    });
    assert!(
        results.contains(&Ok(world(""))) && results.contains(&Err(())),
        "{results:?}"
    );
}

#[test]
fn foreign_packages_are_not_chosen() {
    let mut builder = UniverseBuilder::new(["x86_64"]);
    let foreign = PackageInfo {
        arch: "riscv64".into(),
        ..package("a 2")
    };
    let ours = PackageInfo {
        arch: "x86_64".into(),
        ..package("a 1")
    };
    builder.repository([None], [foreign, ours]).unwrap();
    let universe = builder.finish().unwrap();
    let chosen = select(&universe, &world("a")).unwrap();
    assert_eq!(universe.info(chosen[0].package).version, "1");
    let error = select(&universe, &world("a=2")).unwrap_err().to_string();
    assert!(
        error.ends_with("world needs a=2, but a-1 does not match; a-2 is for riscv64, not for x86_64"),
        "{error}"
    );
}

#[test]
fn too_many_repositories_and_tags() {
    let mut builder = UniverseBuilder::new(["x86_64"]);
    for _ in 0..32 {
        builder.repository([None], []).unwrap();
    }
    assert_eq!(
        builder.repository([None], []),
        Err(UniverseError::TooManyRepositories)
    );
    let mut builder = UniverseBuilder::new(["x86_64"]);
    let tags: Vec<String> = (0..16).map(|number| format!("t{number}")).collect();
    let result = builder.repository(tags.iter().map(|tag| Some(tag.as_str())), []);
    assert_eq!(result, Err(UniverseError::TooManyTags { tag: "t15".into() }));
}

/// Random universes of few names, which is where rules meet.
mod random {
    use lycia_apk::index::Index;
    use lycia_apk::keys::KeyRing;
    use lycia_apk::package::Trust;
    use proptest::prelude::*;
    use sha2::Digest as _;

    use super::*;

    fn dependency() -> impl Strategy<Value = String> {
        "!?[abcdev]((=|<|>|>=|<=|~)[123])?"
    }

    fn record() -> impl Strategy<Value = String> {
        let list = |what: BoxedStrategy<String>, most| prop::collection::vec(what, 0..most);
        let depends = list(dependency().boxed(), 4);
        let provides = list("[abv](=[123])?".boxed(), 2);
        let install_if = list(dependency().boxed(), 3);
        ("[abcde]", "[123]", "( [12])?", depends, provides, install_if).prop_map(
            |(name, version, priority, depends, mut provides, install_if)| {
                // A package that provides its own name clashes with itself.
                provides.retain(|entry| !entry.starts_with(&name));
                provides.dedup_by_key(|entry| entry.as_bytes()[0]);
                let lists = [depends, provides, install_if].map(|list| list.join(" "));
                format!("{name} {version}{priority}|{}", lists.join("|"))
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_solution_meets_every_dependency(
            records in prop::collection::vec(record(), 1..12),
            entries in prop::collection::vec(dependency(), 1..4),
        ) {
            let records: Vec<&str> = records.iter().map(String::as_str).collect();
            let (first, second) = records.split_at(records.len() / 2);
            let universe = universe(&[], &[(None, first), (None, second)]);
            let entries = world(&entries.join(" "));
            let chosen = match select(&universe, &entries) {
                Ok(chosen) => chosen,
                // Rare: apk is content with it, this crate is not.
                Err(SolveError::Inconsistent { .. }) => return Ok(()),
                Err(error) => {
                    prop_assert!(matches!(error, SolveError::Unsolvable(_)), "{}", error);
                    prop_assert!(!error.to_string().contains("contradict each other"), "{}", error);
                    return Ok(());
                }
            };
            let infos: Vec<&PackageInfo> = chosen.iter().map(|chosen| universe.info(chosen.package)).collect();
            let met = |wanted: &Dependency, by: Option<&PackageInfo>| {
                let mut others = infos.iter().filter(|info| by.is_none_or(|by| !std::ptr::eq(**info, by)));
                match wanted.op.is_conflict() {
                    true => others.all(|info| is_met_by(wanted, info)),
                    false => infos.iter().any(|info| is_met_by(wanted, info)),
                }
            };
            for wanted in &entries {
                prop_assert!(met(wanted, None), "world needs {}", wanted);
            }
            for info in &infos {
                for wanted in &info.depends {
                    prop_assert!(met(wanted, Some(info)), "{} needs {}", info.name, wanted);
                }
            }
            let again = super::universe(&[], &[(None, first), (None, second)]);
            prop_assert_eq!(select(&again, &entries).unwrap(), chosen);
        }

        /// What a repository tells in another order is chosen from alike: as records, and read from a v2 index, which
        /// keeps whatever order it was written in.
        #[test]
        fn the_order_of_an_index_does_not_matter(
            (told, shuffled) in prop::collection::vec(record(), 1..12)
                .prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())),
            entries in prop::collection::vec(dependency(), 1..4),
        ) {
            let entries = world(&entries.join(" "));
            let chosen = |packages: Vec<PackageInfo>| {
                let mut builder = UniverseBuilder::new(["x86_64"]);
                builder.repository([None], packages).unwrap();
                let universe = builder.finish().unwrap();
                match select(&universe, &entries) {
                    Ok(chosen) => Ok(chosen
                        .iter()
                        .map(|chosen| universe.info(chosen.package).clone())
                        .collect::<Vec<_>>()),
                    Err(error) => Err(error.to_string()),
                }
            };
            let results = [told, shuffled].map(|records| {
                let packages: Vec<PackageInfo> = records
                    .iter()
                    .map(|text| PackageInfo {
                        hashes: Some(Digest(sha2::Sha256::digest(text)[..20].to_vec())),
                        ..package(text)
                    })
                    .collect();
                let records: Vec<String> = packages.iter().map(v2_index::record).collect();
                let bytes = v2_index::of_records(&records);
                let index = Index::read(&bytes, &KeyRing::new(), Trust::AllowUntrusted).unwrap();
                assert_eq!(index.packages.len(), packages.len());
                (chosen(packages), chosen(index.packages))
            });
            prop_assert_eq!(&results[0], &results[1]);
        }
    }
}

/// What was taken after its name had been decided against is named.
#[test]
fn late_comers_are_named() {
    let second: &[&str] = &["a 1||v=1|", "a 1|c|b|!v"];
    let universe = universe(&[], &[(None, &["c 1||b=1|!v"]), (None, second)]);
    let error = select(&universe, &world("!v")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "world entry !v cannot be met: c-1 and a-1 both provide b"
    );
}

/// Hostile universes. None may panic, overflow the stack, or go on for long.
mod hostile {
    use super::*;

    fn build(packages: Vec<PackageInfo>) -> Result<Universe, UniverseError> {
        let mut builder = UniverseBuilder::new(["x86_64"]);
        builder.repository([None], packages)?;
        builder.finish()
    }

    fn many(name: &str, count: usize) -> String {
        (0..count).map(|number| format!("{name}{number} ")).collect()
    }

    #[test]
    fn cycles_and_contradictions() {
        let universe = universe(
            &[],
            &[(
                None,
                &[
                    "c1 1|c2",
                    "c2 1|c3",
                    "c3 1|c1",
                    "own 1|own",
                    "not 1|!not",
                    "both 1|z !z",
                    "z 1",
                    "i1 1||| i2",
                    "i2 1||| i1",
                    "self 1||self=1",
                    "twice 1||v=1 v=2",
                    "alias 1||alias",
                    "if 1||| if",
                ],
            )],
        );
        let count = |text| {
            select(&universe, &world(text))
                .map(|chosen| chosen.len())
                .map_err(|_| ())
        };
        assert_eq!(count("c1"), Ok(3));
        assert_eq!(count("c3 c2"), Ok(3));
        assert_eq!(count("own"), Ok(1));
        // A package's conflict does not speak of itself.
        assert_eq!(count("not"), Ok(1));
        assert_eq!(count("both"), Err(()));
        assert_eq!(count("i1"), Ok(2));
        assert_eq!(count("if"), Ok(1));
        // apk counts a name that one package takes twice, with versions, as a clash with itself.
        assert_eq!(count("self"), Err(()));
        assert_eq!(count("twice"), Err(()));
        assert_eq!(count("alias"), Err(()));
    }

    #[test]
    fn a_chain_of_dependencies_does_not_use_the_native_stack() {
        const LENGTH: usize = 100_000;
        let link = |number: usize| package(&format!("p{number} 1|p{}", number + 1));
        let mut packages: Vec<_> = (0..LENGTH - 1).map(link).collect();
        packages.push(package(&format!("p{} 1", LENGTH - 1)));
        let universe = build(packages.clone()).unwrap();
        let chosen = select(&universe, &world("p0")).unwrap();
        assert_eq!(chosen.len(), LENGTH);
        assert_eq!(universe.info(chosen[0].package).name, format!("p{}", LENGTH - 1));

        // The same chain installed and taken away again.
        let mut builder = UniverseBuilder::new(["x86_64"]);
        for package in packages {
            builder.installed(package, None).unwrap();
        }
        let universe = builder.finish().unwrap();
        let command = Command::Delete {
            names: vec!["p0".into()],
            dependants: true,
        };
        let request = Request {
            world: world("p0"),
            command,
            drop_unmet: false,
        };
        assert_eq!(solve(&universe, &request).unwrap().changes.len(), LENGTH);
    }

    #[test]
    fn a_chain_of_install_if_does_not_use_the_native_stack() {
        const LENGTH: usize = 50_000;
        let link = |number: usize| package(&format!("p{} 1||| p{number}", number + 1));
        let mut packages: Vec<_> = (0..LENGTH - 1).map(link).collect();
        packages.push(package("p0 1"));
        assert_eq!(
            select(&build(packages).unwrap(), &world("p0")).unwrap().len(),
            LENGTH
        );
    }

    #[test]
    fn a_hundred_thousand_provided_names() {
        let universe = build(vec![
            package(&format!("wide 1||{}", many("n", 100_000))),
            package("user 1|wide n5"),
            package("rival 1||n7=1"),
        ])
        .unwrap();
        assert_eq!(select(&universe, &world("user")).unwrap().len(), 2);
        assert!(select(&universe, &world("user rival")).is_err());
    }

    #[test]
    fn one_name_provided_a_hundred_thousand_times_is_given_up() {
        let universe = build(vec![package(&format!("wide 1||{}", "n=1 ".repeat(100_000)))]).unwrap();
        assert!(matches!(
            select(&universe, &world("n")),
            Err(SolveError::GaveUp | SolveError::Unsolvable(_))
        ));
    }

    #[test]
    fn many_dependencies_of_many_names_are_refused() {
        let package = package(&format!("wide 1|{}|{}", many("d", 20_000), many("n", 20_000)));
        assert!(matches!(
            build(vec![package]),
            Err(UniverseError::TooManyRelations { .. })
        ));
    }

    #[test]
    fn a_star_of_conflicts() {
        // Every package conflicts with every other one.
        let all = |except: usize| {
            (0..300)
                .filter(|number| *number != except)
                .map(|number| format!("!p{number} "))
                .collect::<String>()
        };
        let universe = build(
            (0..300)
                .map(|number| package(&format!("p{number} 1|{}", all(number))))
                .collect(),
        )
        .unwrap();
        assert_eq!(select(&universe, &world("p0")).unwrap().len(), 1);
        assert!(select(&universe, &world(&many("p", 300))).is_err());
    }
}

/// A universe like a distribution's, made by counting: libraries that provide sonames, programs that need
/// several of them, documentation that installs itself. Sizes only: no time is asserted.
#[test]
fn a_large_world() {
    const SOURCES: usize = 3000;
    let mut packages = Vec::new();
    for number in 0..SOURCES {
        // Each library needs some of those before it.
        let earlier: String = [7, 31, 113, 977]
            .iter()
            .filter(|step| number >= **step)
            .map(|step| format!("so:lib{}.so.1>=1 ", (number - step) * 7 / 8))
            .collect();
        let names: String = (0..6).map(|n| format!("cmd:tool{number}.{n}=1-r0 ")).collect();
        packages.push(package(&format!(
            "lib{number} 1-r0|{earlier}|so:lib{number}.so.1=1"
        )));
        packages.push(package(&format!(
            "prog{number} 1-r0|so:lib{number}.so.1>=1 lib{number}|{names}"
        )));
        packages.push(package(&format!("prog{number}-man 1-r0|||prog{number}=1-r0 man")));
        packages.push(package(&format!(
            "lib{number}-devel 1-r0|lib{number}=1-r0|pc:lib{number}=1"
        )));
    }
    packages.push(package("man 1-r0"));
    let mut builder = UniverseBuilder::new(["x86_64"]);
    builder.repository([None], packages).unwrap();
    let universe = builder.finish().unwrap();
    let entries: String = (0..700)
        .map(|number| format!("prog{} ", number * 4))
        .collect::<String>()
        + "man";
    let chosen = select(&universe, &world(&entries)).unwrap();
    assert!(chosen.len() > 2000, "{}", chosen.len());
    // Whatever a package needs is there, and comes before it: there are no cycles here.
    let mut there = std::collections::BTreeSet::new();
    for chosen in &chosen {
        let info = universe.info(chosen.package);
        for wanted in &info.depends {
            assert!(
                there.contains(&wanted.name),
                "{} before {}",
                info.name,
                wanted.name
            );
        }
        there.insert(info.name.clone());
        there.extend(info.provides.iter().map(|entry| entry.name.clone()));
    }
    assert_eq!(select(&universe, &world(&entries)).unwrap(), chosen);
}
