//! A build that is killed leaves nothing half done.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::program::{names, succeed};
use crate::small::Small;

/// Moments that the run is killed at.
const MOMENTS: u32 = 20;

#[test]
fn a_build_killed_at_any_moment_leaves_nothing_half_done() {
    let small = Small::new(24 << 20);
    let reference = small.path("reference");
    small.write("overlays/extra/etc/motd", "good evening\n");
    succeed(small.build().arg("--output").arg(small.path("older")));
    let older = small.results(&small.path("older"));
    small.write("overlays/extra/etc/motd", "good day\n");
    // The second run is the one with packs in the store.
    succeed(small.build().arg("--output").arg(&reference));
    let started = Instant::now();
    succeed(small.build().arg("--output").arg(&reference));
    let whole = started.elapsed();
    let reference = small.results(&reference);

    let (output, watched) = (small.path("output"), small.path("watched"));
    std::fs::create_dir(&watched).unwrap();
    let mut killed = 0;
    for moment in 0..MOMENTS {
        std::fs::create_dir_all(&output).unwrap();
        // Every other run has an older image to replace, and every fourth an empty store.
        let old = moment % 2 == 1;
        let iso = "small-x86_64.iso";
        if old {
            for (name, bytes) in &older {
                std::fs::write(output.join(name), bytes).unwrap();
            }
        }
        if moment % 4 == 3 {
            std::fs::remove_dir_all(small.path("store")).unwrap();
        }
        let mut child = small
            .build()
            .arg("--output")
            .arg(&output)
            .current_dir(&watched)
            .env("HOME", &watched)
            .env("TMPDIR", &watched)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(whole * moment / (MOMENTS - 1));
        // Fails when it has ended; it is not reaped before.
        child.kill().unwrap();
        let status = child.wait().unwrap();
        killed += u32::from(status.signal() == Some(9));
        assert!(
            status.signal() == Some(9) || status.success(),
            "moment {moment}: {status}"
        );

        let mut results = small.results(&output);
        // What a killed run leaves under such names goes with the next.
        results.retain(|name, _| !name.starts_with(".lycia-"));
        for (name, bytes) in &results {
            let whole = reference.get(name) == Some(bytes) || (old && older.get(name) == Some(bytes));
            assert!(
                whole,
                "moment {moment}: {name} has {} bytes that it should not",
                bytes.len()
            );
        }
        if results.contains_key(iso) {
            assert!(
                results == reference || old && results == older,
                "moment {moment}: the ISO is there without what belongs to it: {:?}",
                results.keys()
            );
        }
        assert_eq!(names(&watched), Vec::<String>::new(), "moment {moment}");
        std::fs::remove_dir_all(&output).unwrap();
    }
    println!("{killed} of {MOMENTS} runs were killed within {whole:?}");
    assert!(
        killed >= MOMENTS / 2,
        "only {killed} runs were killed: the moments prove nothing"
    );

    succeed(small.build().arg("--output").arg(&output));
    assert!(
        small.results(&output) == reference,
        "the run after the kills gave another result"
    );
    succeed(small.lycia().arg("clean"));
    let scratch = small.path("store/scratch");
    assert!(!scratch.exists() || names(&scratch).is_empty());
    let packs = names(&small.path("store/packs"));
    assert!(!packs.iter().any(|name| name.starts_with('.')), "{packs:?}");
}

#[test]
fn a_second_build_that_is_killed_leaves_nothing_beside_the_outputs() {
    let small = Small::new(8 << 20);
    let (output, scratch) = (small.path("output"), small.path("store/scratch"));
    let verify = || {
        let mut command = small.build();
        command.args(["--verify", "--output"]).arg(&output);
        command
    };
    let left = || {
        let all = if scratch.exists() {
            names(&scratch)
        } else {
            Vec::new()
        };
        all.into_iter()
            .filter(|name| name.starts_with("verify-"))
            .collect::<Vec<_>>()
    };
    let mut child = verify()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(120);
    while left().is_empty() {
        assert!(
            child.try_wait().unwrap().is_none(),
            "it ended without a second build"
        );
        assert!(Instant::now() < deadline, "no second build began");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    let killed = left();
    assert_eq!(killed.len(), 1);
    let beside = |name: &String| name.starts_with('.');
    assert_eq!(names(&output).into_iter().find(beside), None);
    // The second build may still run for a moment, until it misses what is taken away.
    succeed(&mut verify());
    assert!(!left().contains(&killed[0]), "{:?}", left());
    assert_eq!(names(&output).into_iter().find(beside), None);
}
