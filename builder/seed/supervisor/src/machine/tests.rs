//! Boots, failures and shutdowns in the simulated world.

use std::time::Duration;

use proptest::prelude::*;

use super::simulation::World;
use super::{CommandError, Exit, State};
use lycia_dinit::description::DependencyKind;

const SECOND: Duration = Duration::from_secs(1);

fn seconds(number: f64) -> Duration {
    Duration::from_secs_f64(number)
}

#[test]
fn starts_in_parallel_and_in_dependency_order() {
    let mut world = World::new(&[
        (
            "boot",
            "type = internal\ndepends-on: a\ndepends-on: b\nwaits-for: c\n",
        ),
        ("a", "type = scripted\ncommand = x\ndepends-on: base\n"),
        ("b", "type = scripted\ncommand = x\ndepends-on: base\n"),
        ("c", "command = x\n"),
        ("base", "type = scripted\ncommand = x\n"),
    ]);
    world.start("boot").run_for(SECOND);
    assert_eq!(
        world.news(),
        [
            "0.0 run base",
            "0.0 run c",
            "0.0 [  OK  ] c",
            "0.1 [  OK  ] base",
            "0.1 run a",
            "0.1 run b",
            "0.2 [  OK  ] a",
            "0.2 [  OK  ] b",
            "0.2 [  OK  ] boot",
        ]
    );
}

#[test]
fn failure_goes_to_hard_dependents_only() {
    let mut world = World::new(&[
        ("boot", "type = internal\nwaits-for: top\ndepends-on: ok\n"),
        ("top", "type = internal\ndepends-on: mid\n"),
        ("mid", "type = internal\ndepends-ms: bad\nwaits-for: bad\n"),
        ("bad", "type = scripted\ncommand = x\n"),
        ("ok", "type = internal\nwaits-for: bad\n"),
    ])
    .behave("bad", |b| b.start_exit = Exit::Code(3));
    world.start("boot").run_for(SECOND);
    assert_eq!(world.state("boot"), State::Started);
    assert_eq!(world.state("ok"), State::Started);
    assert_eq!(world.state("top"), State::Stopped);
    assert_eq!(world.machine.failure(world.id("top")), Some("mid did not start"));
    assert_eq!(
        world.machine.failure(world.id("bad")),
        Some("its start command ended with exit status 3")
    );
    // A failed service can be tried again.
    world.behaviours.clear();
    world.start("top").run_for(SECOND);
    assert_eq!(world.state("bad"), State::Started);
    assert_eq!(world.state("top"), State::Started);
}

#[test]
fn boot_fails_when_a_hard_dependency_cannot_be_run() {
    let mut world = World::new(&[
        ("boot", "type = internal\ndepends-on: a\n"),
        ("a", "command = x\n"),
    ])
    .behave("a", |b| b.cannot_spawn = true);
    world.start("boot").run_for(SECOND);
    assert_eq!(
        world.news(),
        [
            "0.0 run a",
            "0.0 [FAILED] a: no such program",
            "0.0 [FAILED] boot: a did not start",
            "0.0 all stopped"
        ]
    );
}

#[test]
fn unneeded_dependencies_stop_and_shared_ones_stay() {
    let mut world = World::new(&[
        ("one", "type = internal\ndepends-on: shared\ndepends-on: own\n"),
        ("two", "type = internal\ndepends-on: shared\n"),
        ("shared", "command = x\n"),
        ("own", "command = x\n"),
    ]);
    world.start("one").start("two").run_for(SECOND);
    let one = world.id("one");
    world.machine.release(world.now, one);
    world.act();
    world.run_for(SECOND);
    assert_eq!(world.state("own"), State::Stopped);
    assert_eq!(world.state("shared"), State::Started);
    let shared = world.id("shared");
    assert_eq!(
        world.machine.stop(world.now, shared, false),
        Err(CommandError::Needed {
            name: "shared".into(),
            dependents: vec!["two".into()]
        })
    );
    world.machine.stop(world.now, shared, true).unwrap();
    world.act();
    world.run_for(SECOND);
    assert_eq!(
        (world.state("two"), world.state("shared")),
        (State::Stopped, State::Stopped)
    );
    assert!(world.at("[STOPPD] two") < world.at("SIGTERM to shared"));
}

#[test]
fn restarts_with_delay_and_limit() {
    let mut world = World::new(&[(
        "a",
        "command = x\nrestart = yes\nrestart-limit-count = 3\nrestart-limit-interval = 10\nrestart-delay = 0.5\n",
    )])
    .behave("a", |b| b.lives = Some(seconds(0.1)));
    world.start("a").run_for(20 * SECOND);
    assert_eq!(world.count("run a"), 4, "{:#?}", world.log);
    assert!(world.log.contains(&"0.5 run a".into()) && world.log.contains(&"1.5 run a".into()));
    assert_eq!(world.count("[FAILED] a: restarting too often, left stopped"), 1);
    assert_eq!(world.state("a"), State::Stopped);
    assert_eq!(world.count("all stopped"), 1);
}

#[test]
fn restarts_go_on_when_they_are_rare() {
    let text = "command = x\nrestart-limit-count = 2\nrestart-limit-interval = 3\n";
    let mut world = World::new(&[("a", text)]).behave("a", |b| b.lives = Some(2 * SECOND));
    world.start("a").run_for(60 * SECOND);
    assert_eq!(world.state("a"), State::Started);
    assert!(world.count("run a") >= 29, "{}", world.count("run a"));
}

#[test]
fn on_failure_looks_at_the_exit() {
    for (exit, again) in [
        (Exit::Code(0), false),
        (Exit::Code(1), true),
        (Exit::Signal(libc::SIGTERM), false),
        (Exit::Signal(libc::SIGSEGV), true),
    ] {
        let mut world = World::new(&[("a", "command = x\nrestart = on-failure\n")]);
        world.start("a").run_for(SECOND).kill("a", exit).run_for(SECOND);
        assert_eq!(world.state("a") == State::Started, again, "{exit}");
    }
}

#[test]
fn smooth_recovery_keeps_dependents_up() {
    let mut world = World::new(&[
        ("top", "command = y\nrestart = no\ndepends-on: a\n"),
        (
            "a",
            "command = x\nsmooth-recovery = yes\nrestart = no\nrestart-limit-count = 2\n",
        ),
    ]);
    world.start("top").run_for(SECOND).news();
    world.kill("a", Exit::Signal(libc::SIGKILL)).run_for(SECOND);
    assert_eq!(
        world.news(),
        [
            "1.0 [ ENDED] a: its process ended with SIGKILL",
            "1.0 [ AGAIN] a: its process is started again",
            "1.0 run a"
        ]
    );
    assert_eq!(world.state("a"), State::Started);
    world
        .kill("a", Exit::Code(1))
        .kill("a", Exit::Code(1))
        .run_for(seconds(0.005));
    assert_eq!(
        world.state("a"),
        State::Stopping,
        "waits for top, which is signalled"
    );
    world.run_for(SECOND);
    assert!(world.at("SIGTERM to top") < world.at("[STOPPD] a"));
}

#[test]
fn a_dying_dependency_takes_dependents_along_and_both_return() {
    let mut world = World::new(&[
        ("boot", "type = internal\nwaits-for: top\n"),
        ("top", "command = y\ndepends-on: a\n"),
        ("a", "command = x\n"),
    ]);
    world.start("boot").run_for(SECOND).news();
    world.kill("a", Exit::Code(1)).run_for(SECOND);
    assert_eq!(
        (world.state("top"), world.state("a")),
        (State::Started, State::Started),
        "{:#?}",
        world.log
    );
    assert!(world.at("[STOPPD] top") < world.at("run a"));
    assert!(world.at("run a") < world.at("run top"));
    assert_eq!(world.state("boot"), State::Started);
}

#[test]
fn a_dependent_without_restart_stays_down() {
    let mut world = World::new(&[
        ("boot", "type = internal\nwaits-for: top\nwaits-for: a\n"),
        ("top", "command = y\ndepends-on: a\nrestart = no\n"),
        ("a", "command = x\n"),
    ]);
    world
        .start("boot")
        .run_for(SECOND)
        .kill("a", Exit::Code(1))
        .run_for(SECOND);
    assert_eq!(
        (world.state("top"), world.state("a")),
        (State::Stopped, State::Started)
    );
}

#[test]
fn milestones_are_needed_once() {
    let mut world = World::new(&[
        ("top", "command = y\ndepends-ms: m\n"),
        ("m", "command = x\nrestart = no\n"),
    ]);
    world
        .start("top")
        .run_for(SECOND)
        .kill("m", Exit::Code(1))
        .run_for(SECOND);
    assert_eq!(
        (world.state("top"), world.state("m")),
        (State::Started, State::Stopped)
    );
    let mut world = World::new(&[
        ("top", "command = y\ndepends-ms: m\n"),
        ("m", "type=scripted\ncommand = x\n"),
    ])
    .behave("m", |b| b.start_exit = Exit::Code(1));
    world.start("top").run_for(SECOND);
    assert_eq!(world.state("top"), State::Stopped);
}

#[test]
fn orderings_wait_without_pulling_in() {
    let mut world = World::new(&[
        (
            "boot",
            "type = internal\nwaits-for: late\nwaits-for: early\nwaits-for: first\n",
        ),
        (
            "late",
            "type = scripted\ncommand = x\nafter: early\nafter: idle\n",
        ),
        ("early", "type = scripted\ncommand = x\n"),
        ("first", "type = scripted\ncommand = x\nbefore: early\n"),
        ("idle", "type = scripted\ncommand = x\n"),
    ]);
    world.start("boot").run_for(SECOND);
    assert!(world.at("[  OK  ] first") < world.at("run early"));
    assert!(world.at("[  OK  ] early") < world.at("run late"));
    assert_eq!(world.state("idle"), State::Stopped);
    // A failure ends the waiting, too.
    let mut world = World::new(&[
        ("boot", "type = internal\nwaits-for: late\nwaits-for: early\n"),
        ("late", "type = scripted\ncommand = x\nafter: early\n"),
        ("early", "type = scripted\ncommand = x\n"),
    ])
    .behave("early", |b| b.start_exit = Exit::Code(1));
    world.start("boot").run_for(SECOND);
    assert_eq!(world.state("late"), State::Started);
}

#[test]
fn shutdown_is_the_start_in_reverse() {
    let mut world = World::new(&[
        ("boot", "type = internal\ndepends-on: sys\nwaits-for: app\n"),
        ("app", "command = x\nwaits-for: log\ndepends-on: sys\n"),
        ("log", "command = x\ndepends-on: sys\n"),
        ("sys", "type = scripted\ncommand = x\nstop-command = y\n"),
        ("z", "command = x\nafter: log\n"),
    ]);
    world.start("boot").start("z").run_for(SECOND).news();
    world.shut_down().run_for(SECOND);
    assert!(
        world.at("[STOPPD] app") < world.at("SIGTERM to log"),
        "soft dependencies count, too"
    );
    assert!(
        world.at("[STOPPD] z") < world.at("SIGTERM to log"),
        "and orderings"
    );
    assert!(world.at("[STOPPD] log") < world.at("run stop of sys"));
    assert_eq!(
        world.log.last().unwrap().split_once(' ').unwrap().1,
        "all stopped"
    );
    let boot = world.id("boot");
    assert_eq!(
        world.machine.start(world.now, boot),
        Err(CommandError::ShuttingDown("boot".into()))
    );
}

#[test]
fn stubborn_processes_are_killed_at_the_limit() {
    let mut world =
        World::new(&[("a", "command = x\nstop-timeout = 3\n")]).behave("a", |b| b.stubborn = true);
    world.start("a").run_for(SECOND).shut_down().run_for(10 * SECOND);
    assert!(world.log.contains(&"1.0 SIGTERM to a".into()));
    assert!(world.log.contains(&"4.0 [KILLED] a: did not stop in time".into()));
    assert!(world.log.contains(&"4.0 SIGKILL to a".into()));
    assert_eq!(world.count("all stopped"), 1);
}

#[test]
fn start_timeouts_interrupt_then_kill() {
    let text = "type = scripted\ncommand = x\nstart-timeout = 5\nstop-timeout = 2\n";
    let mut world = World::new(&[("a", text)]).behave("a", |b| b.stubborn = true);
    world.start("a").run_for(20 * SECOND);
    let log = world.news();
    assert!(
        log.contains(&"5.0 [FAILED] a: did not start within 5 s".into()),
        "{log:#?}"
    );
    assert!(log.contains(&"5.0 SIGINT to a".into()));
    assert!(log.contains(&"7.0 SIGKILL to a".into()));
    assert_eq!(world.state("a"), State::Stopped);
    let text = "type = scripted\ncommand = x\nstart-timeout = 0\n";
    let mut world = World::new(&[("a", text)]).behave("a", |b| b.start_takes = 10_000 * SECOND);
    world.start("a").run_for(9_000 * SECOND);
    assert_eq!(world.state("a"), State::Starting);
}

#[test]
fn readiness_decides_when_a_process_is_started() {
    let text = "command = x\nready-notification = pipefd:3\nstart-timeout = 4\n";
    let mut world = World::new(&[("top", "command = y\ndepends-on: a\n"), ("a", text)])
        .behave("a", |b| b.ready_after = Some(2 * SECOND));
    world.start("top").run_for(SECOND);
    assert_eq!(world.state("top"), State::Starting);
    world.run_for(2 * SECOND);
    assert_eq!(world.state("top"), State::Started);
    let mut world = World::new(&[("a", text)]);
    world.start("a").run_for(10 * SECOND);
    assert_eq!(world.state("a"), State::Stopped);
    assert!(world.log.contains(&"4.0 SIGTERM to a".into()));
    let mut world = World::new(&[("a", text)]);
    world.start("a").kill("a", Exit::Code(9));
    assert_eq!(
        world.machine.failure(world.id("a")),
        Some("ended with exit status 9 before it was ready")
    );
    let mut world = World::new(&[("a", text)]);
    let id = world.id("a");
    world.start("a");
    world.machine.ready(world.now, id, false);
    world.act();
    world.run_for(SECOND);
    assert_eq!(
        world.machine.failure(id),
        Some("closed its readiness descriptor without a message")
    );
}

#[test]
fn background_processes_are_found_and_watched() {
    let text = "type = bgprocess\ncommand = x\npid-file = /run/x\n";
    let mut world = World::new(&[("a", text)]);
    world.start("a").run_for(SECOND);
    assert_eq!(world.state("a"), State::Started);
    world.kill("a", Exit::Code(1)).run_for(SECOND);
    assert_eq!((world.state("a"), world.count("run a")), (State::Started, 2));
    let mut world = World::new(&[("a", text)]).behave("a", |b| b.daemon = Err("no pid-file".into()));
    world.start("a").run_for(SECOND);
    assert_eq!(world.machine.failure(world.id("a")), Some("no pid-file"));
}

#[test]
fn the_console_is_held_by_one_at_a_time() {
    let text = "type = scripted\ncommand = x\noptions: starts-on-console\n";
    let mut world = World::new(&[
        (
            "boot",
            "type = internal\nwaits-for: a\nwaits-for: b\nwaits-for: c\nwaits-for: d\n",
        ),
        ("a", text),
        ("b", text),
        ("c", "type = scripted\ncommand = x\n"),
        ("d", "command = x\noptions: runs-on-console\nafter: a\nafter: b\n"),
    ]);
    world.start("boot").run_for(SECOND);
    let log = world.news();
    let position = |end: &str| log.iter().position(|line| line.ends_with(end)).unwrap();
    assert!(position("[  OK  ] a") < position("run b") || position("[  OK  ] b") < position("run a"));
    assert!(
        position("run c") < position("[  OK  ] a"),
        "others are not held up"
    );
    assert_eq!(
        log.iter().filter(|line| line.ends_with("console free")).count(),
        1,
        "{log:#?}"
    );
    world.kill("d", Exit::Code(0)).run_for(seconds(0.1));
    assert!(
        world.count("console free") == 1 && world.count("console taken") == 1,
        "restarted on it"
    );
}

#[test]
fn interruptible_and_skippable_starts() {
    let text = "type = scripted\ncommand = x\noptions: start-interruptible\n";
    let mut world = World::new(&[("a", text)]).behave("a", |b| b.start_takes = 100 * SECOND);
    world.start("a").run_for(SECOND);
    let id = world.id("a");
    world.machine.stop(world.now, id, false).unwrap();
    world.act();
    world.run_for(SECOND);
    assert_eq!(world.state("a"), State::Stopped);
    assert_eq!(world.machine.failure(id), None, "cancelled is not failed");
    assert!(world.count("SIGINT to a") == 1);
    // Not interruptible: runs to its end, then stops.
    let mut world = World::new(&[("a", "type = scripted\ncommand = x\n")]);
    world.start("a");
    world.machine.stop(world.now, 0, false).unwrap();
    world.act();
    world.run_for(SECOND);
    assert!(world.at("[  OK  ] a") < world.at("[STOPPD] a"));
    let text = "type = scripted\ncommand = x\noptions: skippable\n";
    let mut world = World::new(&[("a", text)]);
    world
        .start("a")
        .kill("a", Exit::Signal(libc::SIGINT))
        .run_for(SECOND);
    assert_eq!(world.state("a"), State::Started);
}

#[test]
fn chains() {
    let mut world = World::new(&[
        ("single", "command = sh\nrestart = no\nchain-to = boot\n"),
        ("boot", "type = internal\n"),
    ]);
    world
        .start("single")
        .kill("single", Exit::Code(0))
        .run_for(SECOND);
    assert_eq!(world.state("boot"), State::Started);
    let mut world = World::new(&[
        ("single", "command = sh\nrestart = no\nchain-to = boot\n"),
        ("boot", "type = internal\n"),
    ]);
    world
        .start("single")
        .kill("single", Exit::Code(1))
        .run_for(SECOND);
    assert_eq!(world.state("boot"), State::Stopped, "not after a failure");
}

#[test]
fn triggers_wakes_and_new_dependencies() {
    let mut world = World::new(&[
        ("boot", "type = internal\ndepends-on: t\n"),
        ("t", "type = triggered\n"),
        ("getty", "command = x\n"),
    ]);
    let (t, boot, getty) = (world.id("t"), world.id("boot"), world.id("getty"));
    world.start("boot").run_for(SECOND);
    assert_eq!(world.state("boot"), State::Starting);
    world.machine.trigger(world.now, t, true).unwrap();
    world.act();
    assert_eq!(world.state("boot"), State::Started);
    assert_eq!(
        world.machine.wake(world.now, getty),
        Err(CommandError::NothingHolds("getty".into()))
    );
    assert_eq!(
        world
            .machine
            .add_dependency(world.now, t, boot, DependencyKind::Soft),
        Err(CommandError::Circle {
            from: "t".into(),
            to: "boot".into()
        })
    );
    world
        .machine
        .add_dependency(world.now, boot, getty, DependencyKind::Soft)
        .unwrap();
    world.machine.wake(world.now, getty).unwrap();
    world.act();
    assert_eq!(world.state("getty"), State::Started);
    assert!(!world.machine.status(getty).explicit);
    world
        .machine
        .remove_dependency(world.now, boot, getty, DependencyKind::Soft)
        .unwrap();
    world.act();
    world.run_for(SECOND);
    assert_eq!(world.state("getty"), State::Stopped);
}

#[test]
fn restart_by_command_takes_dependents_along() {
    let mut world = World::new(&[
        ("top", "command = x\nrestart = no\ndepends-on: a\n"),
        ("a", "command = x\nrestart = no\nprepared-by: prep\n"),
        ("prep", "type = scripted\ncommand = x\n"),
    ]);
    world.start("top").run_for(SECOND).news();
    let a = world.id("a");
    assert!(matches!(
        world.machine.restart(world.now, a, false),
        Err(CommandError::Needed { .. })
    ));
    world.machine.restart(world.now, a, true).unwrap();
    world.act();
    world.run_for(SECOND);
    assert_eq!(
        (world.state("top"), world.state("a")),
        (State::Started, State::Started)
    );
    assert_eq!(
        (
            world.count("run top"),
            world.count("run a"),
            world.count("run prep")
        ),
        (1, 1, 1),
        "{:#?}",
        world.log
    );
}

/// Two preparers of one service used to restart each other through it without end.
#[test]
fn preparing_services_come_to_rest() {
    let mut world = World::new(&[
        ("top", "type = internal\nprepared-by: left\nprepared-by: right\n"),
        ("left", "command = x\nprepared-by: base\n"),
        ("right", "command = x\nprepared-by: dying\n"),
        ("base", "type = internal\n"),
        ("dying", "command = x\n"),
    ]);
    world.start("top").run_for(SECOND).news();
    world.kill("dying", Exit::Code(1)).run_for(5 * SECOND);
    for name in ["top", "left", "right", "base", "dying"] {
        assert_eq!(world.state(name), State::Started, "{name}: {:#?}", world.log);
    }
    assert!(
        world.count("run left") <= 2 && world.count("run right") <= 2,
        "{:#?}",
        world.log
    );
}

#[test]
fn kill_all_on_stop_waits_a_second() {
    let mut world = World::new(&[("a", "type = internal\noptions: kill-all-on-stop\n")]);
    world.start("a").shut_down().run_for(3 * SECOND);
    assert!(world.log.contains(&"0.0 SIGTERM to all".into()));
    assert!(world.log.contains(&"1.0 SIGKILL to all".into()));
    assert!(world.log.contains(&"1.0 [STOPPD] a".into()));
}

/// A graph without cycles: service i may depend only on lower ones.
fn some_graph() -> impl Strategy<Value = Vec<(String, String)>> {
    let service = (
        0..6usize,
        proptest::collection::vec((0..6usize, 0..100usize), 0..4),
    );
    proptest::collection::vec(service, 1..14).prop_map(|list| {
        let kinds = [
            "type = internal\n",
            "type = scripted\ncommand = x\n",
            "type = scripted\ncommand = x\nstop-command = y\n",
            "command = x\n",
            "command = x\nrestart = no\n",
            "type = scripted\ncommand = x\noptions: starts-on-console\n",
        ];
        let words = [
            "depends-on",
            "depends-ms",
            "waits-for",
            "after",
            "waits-for",
            "prepared-by",
        ];
        list.iter()
            .enumerate()
            .map(|(index, (kind, edges))| {
                let mut text = kinds[*kind].to_owned();
                for (word, to) in edges.iter().filter(|_| index > 0) {
                    text += &format!("{}: s{}\n", words[*word], to % index);
                }
                (format!("s{index}"), text)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever fails and dies on the way: every boot comes to rest, hard dependencies of what is up are
    /// up, and a shutdown ends with everything stopped.
    #[test]
    fn every_world_comes_to_rest(
        graph in some_graph(),
        bad in proptest::collection::vec(0..14usize, 0..4),
        dying in proptest::collection::vec(0..14usize, 0..4),
        stops in proptest::collection::vec((0..14usize, 0..5usize), 0..6),
    ) {
        let services: Vec<(&str, &str)> = graph.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let mut world = World::new(&services);
        for index in bad {
            world = world.behave(&format!("s{index}"), |b| { b.start_exit = Exit::Code(1); b.cannot_spawn = index % 2 == 0; });
        }
        for index in dying {
            world = world.behave(&format!("s{index}"), |b| b.lives = Some(seconds(0.3)));
        }
        let top = format!("s{}", graph.len() - 1);
        world.start(&top).run_for(seconds(0.15));
        for (index, what) in stops {
            let id = index % graph.len();
            let _ = match what {
                0 => world.machine.stop(world.now, id, true),
                1 => world.machine.restart(world.now, id, true),
                2 => world.machine.start(world.now, id),
                3 => { world.machine.release(world.now, id); Ok(()) }
                _ => world.machine.wake(world.now, id),
            };
            world.act();
            world.run_for(seconds(0.07));
        }
        world.run_for(120 * SECOND);
        for id in 0..graph.len() {
            let status = world.machine.status(id);
            prop_assert!(matches!(status.state, State::Started | State::Stopped), "{} is {:?}, waits for {:?}\n{:#?}", status.name, status.state, status.waits, world.log);
            if status.state == State::Started {
                for (kind, name) in &status.dependencies {
                    if matches!(kind, DependencyKind::Hard | DependencyKind::PreparedBy) {
                        prop_assert_eq!(world.state(name), State::Started, "{} needs {}", status.name, name);
                    }
                }
            }
        }
        world.news();
        world.shut_down().run_for(120 * SECOND);
        prop_assert_eq!(world.count("all stopped"), 1);
        for id in 0..graph.len() {
            prop_assert_eq!(world.machine.state(id), State::Stopped);
        }
    }
}
