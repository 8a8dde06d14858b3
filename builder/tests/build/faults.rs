//! Whole builds among failing disks, kills and inputs that change: at each of hundreds of points there is a clear error with
//! the right exit code or a whole image, nothing half done, no litter, and the next run gives the same bytes as ever.
//!
//! strace makes real system calls of a real build fail (`-e inject`), or kills it at them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::program::{names, read, run, succeed, text, tool};
use crate::small::{Small, file_of_its_own};

/// System calls by which something is written, made or named.
const CALLS: &str = "?write,?pwrite64,?writev,?fsync,?fdatasync,?rename,?renameat,?renameat2,?link,?linkat,?mkdir,?mkdirat,\
    ?ftruncate,?fallocate,?copy_file_range,?sendfile,?unlink,?unlinkat,?rmdir";
/// Points that have an effect: a call that fails, a kill, an input that changes under a build.
const FAILURES: usize = 100;
const KILLS: usize = 60;
const CHANGES: usize = 40;
/// Where the points lie follows from this number, or from that in `LYCIA_FAULTS`.
const SEED: u64 = 20_260;
/// What gets its name last: when one of them is there, all that belongs to it is.
const MEDIA: [&str; 6] = [
    "small-x86_64.iso",
    "small-x86_64.img",
    "small-x86_64.qcow2",
    "small-x86_64.netboot.tar",
    "small-x86_64.tar.zst",
    "small-x86_64.oci.tar",
];
/// How names begin that a killed run leaves and the next one removes.
const HIDDEN: &str = ".lycia-";

/// Results by name.
type Results = BTreeMap<String, Vec<u8>>;

/// Numbers that are the same in every run (splitmix64).
struct Random(u64);

impl Random {
    fn new(stream: u64) -> Random {
        let seed = std::env::var("LYCIA_FAULTS").map_or(SEED, |seed| seed.parse().unwrap());
        println!("LYCIA_FAULTS={seed}, stream {stream}");
        Random(seed.wrapping_mul(1000).wrapping_add(stream))
    }

    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((value ^ (value >> 31)) % most.max(1) as u64) as usize
    }
}

/// A project with what its image should be.
struct Trial {
    small: Small,
    reference: Results,
    /// What it was with another overlay: every second point begins with it.
    older: Results,
    /// What a point began with.
    before: Results,
    /// Points so far, and how many of them had an effect.
    points: usize,
    effective: usize,
}

impl Trial {
    fn new() -> Trial {
        let small = Small::new(200_000);
        small.define_everything();
        small.write("overlays/extra/etc/motd", "good evening\n");
        succeed(small.build().arg("--output").arg(small.path("older")));
        let older = small.results(&small.path("older"));
        small.write("overlays/extra/etc/motd", "good day\n");
        succeed(small.build().arg("--output").arg(small.path("first")));
        let reference = small.results(&small.path("first"));
        for name in MEDIA {
            assert!(reference[name] != older[name], "{name} is as before");
        }
        std::fs::create_dir(small.path("watched")).unwrap();
        Trial {
            small,
            reference,
            older,
            before: Results::new(),
            points: 0,
            effective: 0,
        }
    }

    /// A build into `output`, in surroundings where litter shows.
    fn build(&self) -> Command {
        let mut command = self.small.build();
        let watched = self.small.path("watched");
        command
            .args(["--jobs", "2", "--output"])
            .arg(self.small.path("output"))
            .current_dir(&watched)
            .env("HOME", &watched)
            .env("TMPDIR", &watched)
            .stdin(Stdio::null());
        command
    }

    /// The same under strace, with more arguments for it.
    ///
    /// With its filter the other calls run at full speed; a signal can only be injected without it, since at the stops that the
    /// filter makes the kernel takes none.
    fn traced(&self, filter: bool, arguments: &[String]) -> Command {
        let plain = self.build();
        let mut command = tool("strace", "strace");
        command
            .args(["-f", "-qq"])
            .args(filter.then_some("--seccomp-bpf"))
            .arg("-o")
            .arg(self.small.path("trace"))
            .args(arguments)
            .arg(plain.get_program())
            .args(plain.get_args())
            .current_dir(plain.get_current_dir().unwrap());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Every third point begins with an empty store, so that unpacking is under way, too.
    fn begin(&mut self) {
        self.points += 1;
        if self.points.is_multiple_of(3) {
            let _ = std::fs::remove_dir_all(self.small.path("store"));
        }
        let output = self.small.path("output");
        let _ = std::fs::remove_dir_all(&output);
        self.before.clear();
        if self.points.is_multiple_of(2) {
            std::fs::create_dir(&output).unwrap();
            for (name, bytes) in &self.older {
                std::fs::write(output.join(name), bytes).unwrap();
            }
            self.before.clone_from(&self.older);
        }
    }

    /// What must hold after an error: everything is as it was.
    fn unchanged(&self, point: &str) {
        let output = self.small.path("output");
        let results = if output.exists() {
            self.small.results(&output)
        } else {
            Results::new()
        };
        assert!(
            results == self.before,
            "{point}: the outputs are not as before: {:?}",
            results.keys()
        );
    }

    /// What must hold after any end: whole files, and no other; `others` are what the image may be besides.
    fn check(&self, point: &str, others: &[&Results]) {
        let output = self.small.path("output");
        if output.exists() {
            let mut results = self.small.results(&output);
            results.retain(|name, _| !name.starts_with(HIDDEN));
            let mut all: Vec<&Results> = vec![&self.reference];
            all.extend(Some(&self.before).filter(|before| !before.is_empty()));
            all.extend(others);
            for (name, bytes) in &results {
                assert!(
                    all.iter().any(|one| one.get(name) == Some(bytes)),
                    "{point}: {name} has {} bytes that it should not",
                    bytes.len()
                );
            }
            if MEDIA.iter().any(|name| results.contains_key(*name)) {
                let belongs = |one: &Results| {
                    one.iter().all(|(name, bytes)| {
                        results.get(name) == Some(bytes)
                            || MEDIA.contains(&name.as_str()) && !results.contains_key(name)
                    })
                };
                assert!(
                    all.iter().any(|one| belongs(one)),
                    "{point}: a medium is there without what belongs to it: {:?}",
                    results.keys()
                );
            }
        }
        let litter = names(&self.small.path("watched"));
        assert!(litter.is_empty(), "{point}: litter: {litter:?}");
    }

    /// The next run, with nothing in its way.
    fn recover(&self, point: &str) {
        let output = run(&mut self.build());
        assert!(
            output.status.success(),
            "the run after {point}: {}\n{}",
            output.status,
            text(&output.stderr)
        );
        let results = self.small.results(&self.small.path("output"));
        assert!(
            results == self.reference,
            "the run after {point} gave another result"
        );
    }

    /// How often each call is made by one thread at most, in a build with an empty store over older outputs.
    fn count(&mut self) -> Vec<(String, usize)> {
        // The second point is one with older outputs.
        self.points = 1;
        self.begin();
        self.points = 0;
        let _ = std::fs::remove_dir_all(self.small.path("store"));
        succeed(&mut self.traced(true, &["-e".to_owned(), format!("trace={CALLS}")]));
        let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
        for line in text(&read(&self.small.path("trace"))).lines() {
            let Some((thread, rest)) = line.split_once(' ') else {
                continue;
            };
            let Some((call, _)) = rest.trim_start().split_once('(') else {
                continue;
            };
            if call
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            {
                *counts.entry((call.to_owned(), thread.to_owned())).or_default() += 1;
            }
        }
        let mut most: BTreeMap<String, usize> = BTreeMap::new();
        for ((call, _), count) in counts {
            let known = most.entry(call).or_default();
            *known = count.max(*known);
        }
        self.check("counting", &[]);
        most.into_iter().collect()
    }
}

/// A point among the calls: each call is as likely as any other, since those that are rare are those that matter, and of a call each
/// time that it is made.
fn point(counts: &[(String, usize)], random: &mut Random) -> (String, usize) {
    let (call, count) = &counts[random.below(counts.len())];
    (call.clone(), 1 + random.below(*count))
}

/// What a part of the test came to.
struct Tally {
    points: usize,
    effective: usize,
}

impl Trial {
    /// Whether there are points enough. A point can miss, since threads share the work in another way each time: those that do are made up
    /// for, but not without end.
    fn enough(&self, wanted: usize) -> bool {
        assert!(
            self.points <= 2 * wanted,
            "only {} of {} points had an effect",
            self.effective,
            self.points
        );
        self.effective >= wanted
    }

    fn tally(&self) -> Tally {
        Tally {
            points: self.points,
            effective: self.effective,
        }
    }
}

fn failing_calls() -> Tally {
    let mut trial = Trial::new();
    let mut random = Random::new(1);
    let counts = trial.count();
    for call in ["write", "fsync", "rename"] {
        let made = counts
            .iter()
            .any(|(name, count)| name.starts_with(call) && *count > 0);
        assert!(made, "no call of {call} was seen: {counts:?}");
    }
    while !trial.enough(FAILURES) {
        let (call, number) = point(&counts, &mut random);
        let (error, said) = [
            ("ENOSPC", "No space left on device"),
            ("EIO", "Input/output error"),
            ("EDQUOT", "Disk quota exceeded"),
        ][trial.points % 3];
        let point = format!("{error} at call {number} of {call}");
        trial.begin();
        let arguments = [
            "-e".to_owned(),
            format!("trace={call}"),
            "-e".to_owned(),
            format!("inject={call}:error={error}:when={number}"),
        ];
        let output = run(&mut trial.traced(true, &arguments));
        let message = text(&output.stderr);
        trial.effective += usize::from(text(&read(&trial.small.path("trace"))).contains("(INJECTED)"));
        match output.status.code() {
            // What only makes later runs quicker may fail, and taking an older output away under its other name.
            Some(0) => {
                let mut results = trial.small.results(&trial.small.path("output"));
                results.retain(|name, _| !name.starts_with(HIDDEN));
                assert!(results == trial.reference, "{point}: success without the image");
            }
            // A message that could not be written is no message.
            Some(6) if call == "write" && message.is_empty() => {}
            Some(6) => assert!(
                message.contains(said) || message.contains("grub-mkimage"),
                "{point}: the message does not say `{said}`: {message}"
            ),
            code => panic!("{point}: exit code {code:?} ({}): {message}", output.status),
        }
        if !output.status.success() {
            trial.unchanged(&point);
        }
        trial.check(&point, &[]);
        trial.recover(&point);
    }
    trial.tally()
}

fn kills() -> Tally {
    let mut trial = Trial::new();
    let mut random = Random::new(2);
    let counts = trial.count();
    while !trial.enough(KILLS) {
        let (call, number) = point(&counts, &mut random);
        let point = format!("a kill at call {number} of {call}");
        trial.begin();
        let arguments = [
            "-e".to_owned(),
            format!("trace={call}"),
            "-e".to_owned(),
            format!("inject={call}:signal=KILL:when={number}"),
        ];
        let Output { status, stderr, .. } = run(&mut trial.traced(false, &arguments));
        // strace ends as what it traced did; a child of the build that was killed is an error of the host.
        let killed = !status.success();
        trial.effective += usize::from(killed);
        let known = matches!(status.code(), None | Some(0 | 6 | 137));
        assert!(known, "{point}: {status}: {}", text(&stderr));
        trial.check(&point, &[]);
        trial.recover(&point);
    }
    trial.tally()
}

/// An input that changes under a build.
struct Change {
    what: &'static str,
    path: PathBuf,
    /// The other content; none: it is cut to half in place.
    other: Option<Vec<u8>>,
    /// Exit codes that a build may end with besides 0.
    codes: &'static [i32],
}

fn changing_inputs() -> Tally {
    let mut trial = Trial::new();
    let mut random = Random::new(3);
    let small = &trial.small;
    let motd = small.path("overlays/extra/etc/motd");
    let index = small.path("repository/x86_64/Packages.adb");
    let package = small.package_file("filler", "1-r0");

    // What the image is with the other overlay, and a whole index of the same repository with a package more.
    let first = read(&motd);
    std::fs::write(&motd, "good night\n").unwrap();
    succeed(small.build().arg("--output").arg(small.path("second")));
    let second = small.results(&small.path("second"));
    std::fs::write(&motd, &first).unwrap();
    let old_index = read(&index);
    small.package("more", "1-r0", &[], file_of_its_own("more"));
    small.index();
    let new_index = read(&index);
    std::fs::remove_file(small.package_file("more", "1-r0")).unwrap();
    std::fs::write(&index, old_index).unwrap();
    succeed(small.build().arg("--output").arg(small.path("third")));
    assert!(small.results(&small.path("third")) == trial.reference);

    let changes = [
        Change {
            what: "an overlay's file is replaced",
            path: motd,
            other: Some(b"good night\n".to_vec()),
            codes: &[3],
        },
        Change {
            what: "the index is replaced",
            path: index.clone(),
            other: Some(new_index),
            codes: &[3, 4],
        },
        Change {
            what: "the index is cut",
            path: index,
            other: None,
            codes: &[3, 4],
        },
        Change {
            what: "a package is replaced",
            path: package.clone(),
            other: Some(vec![7; 5000]),
            codes: &[3, 4, 6],
        },
        Change {
            what: "a package is cut",
            path: package,
            other: None,
            codes: &[3, 4, 6],
        },
    ];
    let started = Instant::now();
    trial.begin();
    let _ = std::fs::remove_dir_all(trial.small.path("store"));
    succeed(&mut trial.build());
    let whole = started.elapsed();
    trial.points = 0;
    // Builds that ended because of it, and did not read it before or write the image as it was.
    let mut noticed = 0;
    while !trial.enough(CHANGES) {
        let change = &changes[trial.points % changes.len()];
        let moment = whole * random.below(1000) as u32 / 1000;
        let point = format!("{} after {moment:?}", change.what);
        trial.begin();
        let _ = std::fs::remove_dir_all(trial.small.path("store"));
        let before = read(&change.path);
        let mut child = trial
            .build()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(moment);
        // A build that has ended before has nothing changed under it.
        trial.effective += usize::from(child.try_wait().unwrap().is_none());
        match &change.other {
            Some(other) => {
                // As editors and mirrors do: a new file takes the name.
                let aside = change.path.with_extension("new");
                std::fs::write(&aside, other).unwrap();
                std::fs::rename(&aside, &change.path).unwrap();
            }
            None => std::fs::File::options()
                .write(true)
                .open(&change.path)
                .unwrap()
                .set_len(before.len() as u64 / 2)
                .unwrap(),
        }
        let output = child.wait_with_output().unwrap();
        let message = text(&output.stderr);
        match output.status.code() {
            Some(0) => {}
            Some(code) if change.codes.contains(&code) => {
                noticed += 1;
                assert!(!message.trim().is_empty(), "{point}: no message");
            }
            _ => panic!("{point}: {}: {message}", output.status),
        }
        if !output.status.success() {
            trial.unchanged(&point);
        }
        trial.check(&point, &[&second]);
        std::fs::write(&change.path, &before).unwrap();
        trial.recover(&point);
    }
    assert!(noticed > 0, "no build saw that an input changed");
    trial.tally()
}

#[test]
fn builds_among_failing_disks_kills_and_changing_inputs() {
    let started = Instant::now();
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        // Two at once, for as many processors.
        let failing = scope.spawn(failing_calls);
        let rest = scope.spawn(|| [kills(), changing_inputs()]);
        let mut all = vec![failing.join().unwrap()];
        all.extend(rest.join().unwrap());
        all
    });
    let elapsed: Duration = started.elapsed();
    let effective: usize = tallies.iter().map(|one| one.effective).sum();
    let points: usize = tallies.iter().map(|one| one.points).sum();
    println!("{effective} of {points} points had an effect, in {elapsed:?}");
    assert!(effective >= 200, "only {effective} points had an effect");
}
