//! The engine with small made-up recipes: caching, reasons, failures, parallel runs, kills.

#![allow(clippy::unwrap_used)]

use lycia_apk::index::Index;
use lycia_apk::keys::KeyRing;
use lycia_apk::package::Trust;
use lycia_seed::{Event, Outcome, Progress, RecipeStatus, Report, SeedError, SeedOptions, State};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A project with recipes and a store. The key is made by openssl, an independent program, and small.
struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    /// Where a recipe is built.
    fn scratch(&self, recipe: &str) -> std::path::PathBuf {
        self.dir.path().join("store/seed").join("work").join(recipe)
    }

    fn new(recipes: &[(&str, &str)]) -> Project {
        let project = Project {
            dir: tempfile::tempdir().unwrap(),
        };
        project.write(
            "configs/seed/target/x86_64.toml",
            "arch = \"x86_64\"\ntriple = \"x86_64-linux-musl\"\nrust-target = \"r\"\ndebian-arch = \"amd64\"\n\
             debian-multiarch = \"m\"\n[environment]\nFLAG = \"-I${SYSROOT}\"\n",
        );
        project.write(
            "configs/seed/host-tools.toml",
            "no-such-tool-lycia = \"some-package\"\n[files]\n",
        );
        for (name, text) in recipes {
            project.recipe(name, text);
        }
        let keys = project.dir.path().join("store/seed/keys");
        fs::create_dir_all(&keys).unwrap();
        let made = Command::new("openssl")
            .args([
                "genpkey",
                "-quiet",
                "-algorithm",
                "RSA",
                "-pkeyopt",
                "rsa_keygen_bits:2048",
                "-out",
            ])
            .arg(keys.join("lycia-seed-00000000.rsa"))
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("openssl is missing: install the Debian package openssl");
        assert!(made.success());
        use std::os::unix::fs::PermissionsExt;
        let private = keys.join("lycia-seed-00000000.rsa");
        fs::set_permissions(private, fs::Permissions::from_mode(0o600)).unwrap();
        project
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn recipe(&self, name: &str, text: &str) {
        let head = format!("name = \"{name}\"\nversion = \"1.0-r0\"\nsummary = \"test\"\n");
        self.write(&format!("configs/seed/{name}.toml"), &(head + text));
    }

    fn options(&self) -> SeedOptions {
        let mut options = SeedOptions::new(self.dir.path(), &self.dir.path().join("store"));
        options.jobs = 2;
        options.offline = true;
        options
    }

    fn build(&self) -> Report {
        lycia_seed::build(&self.options(), &mut ()).unwrap()
    }

    fn only(&self, name: &str) -> Report {
        let options = SeedOptions {
            only: vec![name.into()],
            ..self.options()
        };
        lycia_seed::build(&options, &mut ()).unwrap()
    }

    fn explain(&self) -> Vec<RecipeStatus> {
        lycia_seed::explain(&self.options()).unwrap()
    }

    fn status(&self, name: &str) -> RecipeStatus {
        self.explain().into_iter().find(|s| s.name == name).unwrap()
    }

    /// Names in the index, which must verify with the store's public key.
    fn index(&self, report: &Report) -> Vec<String> {
        let mut ring = KeyRing::new();
        ring.add_pem("key", &fs::read(&report.key).unwrap()).unwrap();
        let bytes = fs::read(report.repository.join("Packages.adb")).unwrap();
        let index = Index::read(&bytes, &ring, Trust::Required).unwrap();
        for info in &index.packages {
            let file = report
                .repository
                .join(format!("{}-{}.apk", info.name, info.version));
            assert_eq!(fs::metadata(file).unwrap().len(), info.file_size);
        }
        index.packages.into_iter().map(|info| info.name).collect()
    }
}

fn outcomes(report: &Report) -> Vec<(String, Outcome)> {
    report
        .recipes
        .iter()
        .map(|r| (r.name.clone(), r.outcome.clone()))
        .collect()
}

fn simple(name: &str, more: &str, script: &str) -> String {
    format!(
        "{more}\n[[step]]\nname = \"build\"\nrun = '''\n{script}\n'''\n\
         [[package]]\nname = \"{name}\"\nfiles = [\"usr/**\"]\n"
    )
}

fn writes(name: &str) -> String {
    format!("mkdir -p \"$OUT/usr/share\"; echo {name} > \"$OUT/usr/share/{name}\"")
}

#[test]
fn a_second_run_does_nothing_and_says_so_fast() {
    let project = Project::new(&[
        ("a", &simple("a", "sysroot = [\"usr/share/*\"]", &writes("a"))),
        (
            "b",
            &simple(
                "b",
                "needs = [\"a\"]",
                "test -f $SYSROOT/usr/share/a; test -f $NEEDS_A/usr/share/a; test \"$FLAG\" = \"-I$SYSROOT\"\n\
                 mkdir -p $OUT/usr; cp $SYSROOT/usr/share/a $OUT/usr/b",
            ),
        ),
    ]);
    let first = project.build();
    assert_eq!(
        outcomes(&first),
        [("a".into(), Outcome::Built), ("b".into(), Outcome::Built)]
    );
    assert!(first.is_complete());
    assert_eq!(project.index(&first), ["a", "b"]);
    let index = fs::metadata(first.repository.join("Packages.adb")).unwrap();
    let start = Instant::now();
    let second = project.build();
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(
        outcomes(&second),
        [("a".into(), Outcome::Cached), ("b".into(), Outcome::Cached)]
    );
    assert_eq!(second.recipes[0].seconds, first.recipes[0].seconds);
    assert_eq!(second.recipes[0].packages, first.recipes[0].packages);
    let again = fs::metadata(second.repository.join("Packages.adb")).unwrap();
    assert_eq!(
        index.modified().unwrap(),
        again.modified().unwrap(),
        "the index is left alone"
    );
    assert!(
        project
            .explain()
            .iter()
            .all(|s| s.state == State::Current && s.reasons.is_empty())
    );
}

#[test]
fn reasons_are_told_before_and_results_that_are_the_same_stop_the_wave() {
    let a = simple("a", "", &writes("a"));
    let b = simple("b", "needs = [\"a\"]", &writes("b"));
    let project = Project::new(&[("a", &a), ("b", &b)]);
    assert_eq!(project.status("a").reasons, ["it was never built here"]);
    project.build();
    // Another script, the same output.
    project.recipe("a", &a.replace("echo a", "echo   a"));
    let status = project.status("a");
    assert_eq!(
        (status.state, status.reasons),
        (State::Build, vec!["step build changed".to_owned()])
    );
    assert_eq!(project.status("b").state, State::Waits);
    let report = project.build();
    assert_eq!(
        outcomes(&report),
        [("a".into(), Outcome::Built), ("b".into(), Outcome::Cached)]
    );
    // Another output.
    project.recipe("a", &a.replace("echo a", "echo A"));
    let report = project.build();
    assert_eq!(report.recipe("b").unwrap().outcome, Outcome::Built);
    assert_eq!(
        report.recipe("b").unwrap().reasons,
        ["needs a, which was rebuilt and is different"]
    );
    // What only packages see does not run the steps.
    project.recipe(
        "a",
        &a.replace("echo a", "echo A")
            .replace("name = \"a\"\nf", "name = \"a\"\nurl = \"u\"\nf"),
    );
    assert_eq!(project.status("a").reasons, ["package a changed"]);
    let report = project.build();
    assert_eq!(
        outcomes(&report),
        [("a".into(), Outcome::Repackaged), ("b".into(), Outcome::Cached)]
    );
    let repeat = SeedOptions {
        force: vec!["b".into()],
        ..project.options()
    };
    let report = lycia_seed::build(&repeat, &mut ()).unwrap();
    assert_eq!(
        outcomes(&report),
        [("a".into(), Outcome::Cached), ("b".into(), Outcome::Built)]
    );
    assert_eq!(report.recipes[1].reasons, ["it was asked for"]);
}

#[test]
fn trees_of_the_project_are_inputs() {
    let source = "[[source]]\nkind = \"tree\"\npath = \"overlay\"\nunpack = \"o\"";
    let project = Project::new(&[(
        "a",
        &simple("a", source, "mkdir $OUT/usr; cp -r $SRC/o/. $OUT/usr/"),
    )]);
    project.write("overlay/etc/x", "1");
    project.write("other/y", "1");
    assert_eq!(project.build().recipes[0].outcome, Outcome::Built);
    project.write("other/y", "2");
    assert_eq!(project.build().recipes[0].outcome, Outcome::Cached);
    project.write("overlay/etc/x", "2");
    assert_eq!(project.status("a").reasons, ["source tree overlay in o changed"]);
    assert_eq!(project.build().recipes[0].outcome, Outcome::Built);
}

#[test]
fn a_failure_leaves_the_others_usable() {
    let project = Project::new(&[
        ("bad", &simple("bad", "", "echo this is why >&2; exit 3")),
        ("after", &simple("after", "needs = [\"bad\"]", &writes("after"))),
        ("later", &simple("later", "needs = [\"after\"]", &writes("later"))),
        ("good", &simple("good", "", &writes("good"))),
        (
            "tool",
            &simple("tool", "tools = [\"no-such-tool-lycia\"]", &writes("tool")),
        ),
        (
            "claim",
            &simple(
                "claim",
                "",
                "mkdir $OUT/usr; echo > $OUT/usr/x; echo > $OUT/stray",
            ),
        ),
    ]);
    let report = project.build();
    let why = |name: &str| match &report.recipe(name).unwrap().outcome {
        Outcome::Failed(why) => why.clone(),
        other => panic!("{name}: {other:?}"),
    };
    assert!(why("bad").contains("step build: exit status 3"), "{}", why("bad"));
    assert!(why("bad").contains("this is why"));
    assert!(why("bad").contains("failed.log"));
    assert!(why("tool").contains("no-such-tool-lycia (Debian package some-package)"));
    assert!(why("claim").contains("no package takes stray"));
    for name in ["after", "later"] {
        assert_eq!(
            report.recipe(name).unwrap().outcome,
            Outcome::Blocked {
                because: "bad".into()
            }
        );
    }
    assert_eq!(project.index(&report), ["good"]);
    assert!(!report.is_complete());
    // The steps of `claim` were fine: only its packages are made again.
    project.recipe(
        "claim",
        &simple(
            "claim",
            "unpackaged = [\"stray\"]",
            "mkdir $OUT/usr; echo > $OUT/usr/x; echo > $OUT/stray",
        ),
    );
    assert_eq!(project.only("claim").recipes[0].outcome, Outcome::Repackaged);
}

#[test]
fn a_selection_keeps_the_packages_of_the_others() {
    let project = Project::new(&[
        ("a", &simple("a", "", &writes("a"))),
        ("b", &simple("b", "", &writes("b"))),
    ]);
    project.build();
    project.recipe("a", &simple("a", "", &writes("a2")));
    let report = project.only("a");
    assert_eq!(outcomes(&report), [("a".into(), Outcome::Built)]);
    assert_eq!(project.index(&report), ["a", "b"]);
    // A recipe that is no more leaves the repository.
    fs::remove_file(project.dir.path().join("configs/seed/b.toml")).unwrap();
    let report = project.build();
    assert_eq!(project.index(&report), ["a"]);
    assert!(!report.repository.join("b-1.0-r0.apk").exists());
}

#[test]
fn what_the_host_has_is_skipped() {
    let project = Project::new(&[
        ("a", &simple("a", "skip-if = \"test -d /usr\"", "exit 1")),
        (
            "b",
            &simple(
                "b",
                "needs = [\"a\"]",
                &format!("test -d $NEEDS_A; {}", writes("b")),
            ),
        ),
    ]);
    let report = project.build();
    assert_eq!(
        outcomes(&report),
        [("a".into(), Outcome::Skipped), ("b".into(), Outcome::Built)]
    );
    assert_eq!(project.index(&report), ["b"]);
    assert!(project.build().recipes.iter().all(|r| r.outcome.is_usable()));
    project.recipe("a", &simple("a", "skip-if = \"false\"", &writes("a")));
    assert_eq!(
        project.status("a").reasons.last().unwrap(),
        "the host no longer has this, so it is built"
    );
}

/// Both recipes wait for a file that the other one makes: they end only when they run at the same time.
#[test]
fn independent_recipes_run_at_the_same_time() {
    let meet = tempfile::tempdir().unwrap();
    let meeting = |own: &str, other: &str| {
        let dir = meet.path().display();
        format!(
            "touch {dir}/{own}; while ! [ -e {dir}/{other} ]; do sleep 0.05; done\n{}",
            writes(own)
        )
    };
    let project = Project::new(&[
        ("a", &simple("a", "", &meeting("a", "b"))),
        ("b", &simple("b", "", &meeting("b", "a"))),
    ]);
    let canceller = project.options();
    let cancel = canceller.cancel.clone();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(60));
        cancel.cancel();
    });
    let report = lycia_seed::build(&canceller, &mut ()).unwrap();
    assert!(report.is_complete());
}

/// Never more recipes than jobs, and a share of the jobs for each.
#[test]
fn no_more_recipes_than_jobs_run_at_the_same_time() {
    struct Count(usize, usize);
    impl Progress for Count {
        fn event(&mut self, event: Event<'_>) {
            match event {
                Event::Started { .. } => self.0 += 1,
                Event::Finished { .. } => self.0 -= 1,
                _ => {}
            }
            self.1 = self.1.max(self.0);
        }
    }
    let names = ["a", "b", "c", "d", "e"];
    let recipes: Vec<(&str, String)> = names
        .iter()
        .map(|n| {
            (
                *n,
                simple(
                    n,
                    "",
                    &format!(
                        "sleep 0.1; test $JOBS -le {}; test -n \"$MAKEFLAGS\"; {}",
                        // The last one has both when the others ended before it began.
                        if *n == "e" { 2 } else { 1 },
                        writes(n)
                    ),
                ),
            )
        })
        .collect();
    let borrowed: Vec<(&str, &str)> = recipes.iter().map(|(n, t)| (*n, t.as_str())).collect();
    let mut count = Count(0, 0);
    let report = lycia_seed::build(&Project::new(&borrowed).options(), &mut count).unwrap();
    assert!(report.is_complete(), "{:?}", outcomes(&report));
    assert_eq!(count.1, 2);
}

/// GNU make takes the cores that other recipes leave.
#[test]
fn make_shares_the_pool() {
    let makefile = "all: a b\na b:\n\t@echo start; sleep 0.3; echo end\n";
    let script = format!(
        "printf '{}' > Makefile; make; {}",
        makefile.replace('\n', "\\n").replace('\t', "\\t"),
        writes("a")
    );
    let project = Project::new(&[("a", &simple("a", "tools = [\"make\"]", &script))]);
    let report = project.build();
    assert!(report.is_complete(), "{:?}", outcomes(&report));
    let log = fs::read_to_string(report.recipes[0].result.as_ref().unwrap().join("log")).unwrap();
    assert!(log.contains("start\nstart\nend\nend\n"), "{log}");
    assert!(!log.contains("warning"), "{log}");
}

fn results(project: &Project, name: &str) -> usize {
    fs::read_dir(project.dir.path().join("store/seed/recipes").join(name))
        .map(|entries| entries.filter(|e| e.as_ref().unwrap().path().is_dir()).count())
        .unwrap_or(0)
}

#[test]
fn a_cancelled_run_keeps_what_was_whole_and_nothing_else() {
    let project = Project::new(&[
        ("quick", &simple("quick", "", &writes("quick"))),
        (
            "slow",
            &simple(
                "slow",
                "needs = [\"quick\"]",
                &format!("{}; sleep 300", writes("slow")),
            ),
        ),
        ("next", &simple("next", "needs = [\"slow\"]", &writes("next"))),
    ]);
    let options = project.options();
    let cancel = options.cancel.clone();
    let marker = project.scratch("slow").join("out/usr/share/slow");
    let waiter = std::thread::spawn(move || {
        let start = Instant::now();
        while !marker.exists() && start.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(10));
        }
        cancel.cancel();
    });
    let result = lycia_seed::build(&options, &mut ());
    waiter.join().unwrap();
    assert!(matches!(result, Err(SeedError::Cancelled)), "{result:?}");
    assert_eq!(
        (
            results(&project, "quick"),
            results(&project, "slow"),
            results(&project, "next")
        ),
        (1, 0, 0)
    );
}

/// Not a test of its own: the program that the next one starts and kills.
#[test]
#[ignore = "started by a_killed_run_leaves_nothing_under_a_final_name"]
fn the_run_that_is_killed() {
    let project = std::env::var_os("LYCIA_SEED_PROJECT").expect("set by the test that starts this");
    let project = Path::new(&project);
    lycia_seed::build(&SeedOptions::new(project, &project.join("store")), &mut ()).unwrap();
}

/// The program itself, killed with SIGKILL in the middle of a step; the next run waits for what it left
/// running, cleans up and succeeds.
#[test]
fn a_killed_run_leaves_nothing_under_a_final_name() {
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let script = format!(
        "{}; i=0; while ! [ -e {} ] && [ $i -lt 20 ]; do sleep 0.1; i=$((i+1)); done",
        writes("slow"),
        open.display()
    );
    let project = Project::new(&[("slow", &simple("slow", "", &script))]);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "the_run_that_is_killed"])
        .env("LYCIA_SEED_PROJECT", project.dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let marker = project.scratch("slow").join("out/usr/share/slow");
    let start = Instant::now();
    while !marker.exists() {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "the step never started"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(results(&project, "slow"), 0);
    assert!(
        !project
            .dir
            .path()
            .join("store/seed/repository/x86_64/Packages.adb")
            .exists()
    );
    fs::write(&open, "").unwrap();
    let report = project.build();
    assert_eq!(report.recipes[0].outcome, Outcome::Built);
    assert_eq!(results(&project, "slow"), 1);
    assert!(!project.scratch("slow").exists());
}

#[test]
fn two_runs_at_once_build_a_recipe_once() {
    let count = tempfile::tempdir().unwrap();
    let script = format!(
        "mktemp {}/XXXXXX; sleep 0.3; {}",
        count.path().display(),
        writes("a")
    );
    let project = Project::new(&[("a", &simple("a", "", &script))]);
    std::thread::scope(|scope| {
        let runs = [scope.spawn(|| project.build()), scope.spawn(|| project.build())];
        for run in runs {
            assert!(run.join().unwrap().is_complete());
        }
    });
    assert_eq!(fs::read_dir(count.path()).unwrap().count(), 1);
}

#[test]
fn scratch_paths_in_results_are_warned_of() {
    let project = Project::new(&[("a", &simple("a", "", "mkdir $OUT/usr; echo $BUILD > $OUT/usr/x"))]);
    let report = project.build();
    assert_eq!(
        report.recipes[0].warnings,
        ["usr/x holds the path of the scratch directory"]
    );
    assert_eq!(
        project.build().recipes[0].warnings.len(),
        1,
        "cached runs say so too"
    );
}

#[test]
fn a_source_that_cannot_be_had_stops_only_its_recipe() {
    let source = format!(
        "[[source]]\nkind = \"debian-source\"\nsource = \"musl\"\nfile = \"musl_1.orig.tar.gz\"\nsha256 = \"{}\"\nunpack = \"m\"",
        "0".repeat(64)
    );
    let project = Project::new(&[
        ("a", &simple("a", &source, "true")),
        ("b", &simple("b", "", &writes("b"))),
    ]);
    let report = project.build();
    let Outcome::Failed(why) = &report.recipe("a").unwrap().outcome else {
        panic!()
    };
    assert!(
        why.contains("recipe a: cannot get musl_1.orig.tar.gz") && why.contains("offline"),
        "{why}"
    );
    assert_eq!(report.recipe("b").unwrap().outcome, Outcome::Built);
}

#[test]
fn pruning_keeps_the_last_result_of_each_recipe() {
    let project = Project::new(&[
        ("a", &simple("a", "", &writes("one"))),
        ("b", &simple("b", "", &writes("b"))),
        ("bad", &simple("bad", "", "echo > $OUT/x; exit 1")),
    ]);
    project.build();
    project.recipe("a", &simple("a", "", &writes("two")));
    fs::remove_file(project.dir.path().join("configs/seed/b.toml")).unwrap();
    project.write(&format!("store/sources/{}-old.tar.gz", "0".repeat(64)), "old");
    project.build();
    assert_eq!((results(&project, "a"), results(&project, "b")), (2, 1));
    assert!(project.scratch("bad").exists(), "kept to look at");
    assert!(lycia_seed::prune(&project.options()).unwrap() > 0);
    assert_eq!((results(&project, "a"), results(&project, "b")), (1, 0));
    assert!(!project.scratch("bad").exists());
    assert_eq!(project.build().recipe("a").unwrap().outcome, Outcome::Cached);
    assert!(
        lycia_seed::prune(&project.options()).unwrap() < 1000,
        "only the failed recipe's scratch"
    );
}

#[test]
fn a_tree_that_is_not_there_fails_its_recipe_only() {
    let source = "[[source]]\nkind = \"tree\"\npath = \"nowhere\"\nunpack = \"o\"";
    let project = Project::new(&[
        ("a", &simple("a", source, "true")),
        ("b", &simple("b", "", &writes("b"))),
    ]);
    assert!(
        project.status("a").reasons[0].contains("nowhere"),
        "{:?}",
        project.status("a")
    );
    let report = project.build();
    assert!(matches!(&report.recipe("a").unwrap().outcome, Outcome::Failed(why) if why.contains("nowhere")));
    assert_eq!(report.recipe("b").unwrap().outcome, Outcome::Built);
}

/// apt's own helper reads file: URIs, so a mirror can be a directory.
#[test]
fn sources_come_from_the_archive_with_their_pinned_hash() {
    let mirror = tempfile::tempdir().unwrap();
    let pool = mirror.path().join("debian/pool/main/h/hello");
    fs::create_dir_all(pool.join("hello-1")).unwrap();
    fs::write(pool.join("hello-1/greeting"), "hello\n").unwrap();
    let tar = Command::new("tar")
        .args(["-C"])
        .arg(&pool)
        .args(["-czf"])
        .arg(pool.join("hello_1.orig.tar.gz"))
        .arg("hello-1")
        .status()
        .unwrap();
    assert!(tar.success());
    let sum = Command::new("sha256sum")
        .arg(pool.join("hello_1.orig.tar.gz"))
        .output()
        .unwrap();
    let sha256 = String::from_utf8(sum.stdout).unwrap()[..64].to_owned();
    let recipe = |sha256: &str, file: &str| {
        let source = format!(
            "[[source]]\nkind = \"debian-source\"\nsource = \"hello\"\nfile = \"{file}\"\nsha256 = \"{sha256}\"\n\
             unpack = \"h\"\npatches = [\"patches/p.patch\"]"
        );
        simple("a", &source, "mkdir $OUT/usr; cp $SRC/h/greeting $OUT/usr/")
    };
    let project = Project::new(&[("a", &recipe(&sha256, "hello_1.orig.tar.gz"))]);
    project.write(
        "configs/seed/patches/p.patch",
        "--- a/greeting\n+++ b/greeting\n@@ -1 +1 @@\n-hello\n+HELLO\n",
    );
    let mut options = project.options();
    options.offline = false;
    options.archive = Some(lycia_seed::ArchiveUris {
        main: format!("file:{}/debian", mirror.path().display()),
        security: format!("file:{}/none", mirror.path().display()),
    });
    let report = lycia_seed::build(&options, &mut ()).unwrap();
    let recipe_report = &report.recipes[0];
    assert_eq!(recipe_report.outcome, Outcome::Built);
    let greeting = recipe_report.result.as_ref().unwrap().join("out/usr/greeting");
    assert_eq!(fs::read_to_string(greeting).unwrap(), "HELLO\n");
    let stored = project
        .dir
        .path()
        .join(format!("store/sources/{sha256}-hello_1.orig.tar.gz"));
    assert!(stored.exists());
    assert!(
        fs::metadata(pool.join("hello_1.orig.tar.gz")).is_ok(),
        "the mirror keeps its file"
    );
    for (sha256, file, wanted) in [
        (
            "0".repeat(64),
            "hello_1.orig.tar.gz",
            "pool/main/h/hello/hello_1.orig.tar.gz",
        ),
        (
            sha256,
            "hello_2.orig.tar.gz",
            "pool/main/h/hello/hello_2.orig.tar.gz",
        ),
    ] {
        project.recipe("a", &recipe(&sha256, file));
        let report = lycia_seed::build(&options, &mut ()).unwrap();
        let Outcome::Failed(why) = &report.recipes[0].outcome else {
            panic!("{:?}", report.recipes[0])
        };
        assert!(why.contains(wanted) && why.contains("recipe a"), "{why}");
    }
    project.write(
        "configs/seed/patches/p.patch",
        "--- a/greeting\n+++ b/greeting\n@@ -1 +1 @@\n-hullo\n+HELLO\n",
    );
    project.recipe("a", &recipe(&"0".repeat(64), "hello_1.orig.tar.gz"));
    assert!(Path::new(&stored).exists());
}
