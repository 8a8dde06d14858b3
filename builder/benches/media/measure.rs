//! Measuring processes, by turns, and the table.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What one process took, with those that it waited for.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// By the clock.
    pub wall: f64,
    /// By the clock, of the whole process: with what it does before the work begins.
    pub whole: f64,
    /// On processors, user and system.
    pub processors: f64,
    /// Highest resident memory of one of its processes, in MiB.
    pub memory: f64,
    /// Bytes of the result.
    pub bytes: u64,
}

/// Runs a program to its end.
// It is waited for by `wait4`, which tells its memory, too.
#[allow(clippy::zombie_processes)]
pub fn run(command: &mut Command) -> Usage {
    let started = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{:?} cannot be run: {error}", command.get_program()));
    let mut usage = wait(&child, command);
    usage.wall = started.elapsed().as_secs_f64();
    usage.whole = usage.wall;
    usage
}

/// Waits for a process and says what it took, but for the time.
fn wait(child: &Child, command: &Command) -> Usage {
    let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    // SAFETY: both places are of this function and live as long as the call; the child is ours, and nobody else waits for it.
    let waited = unsafe { libc::wait4(child.id() as i32, &raw mut status, 0, usage.as_mut_ptr()) };
    assert!(waited > 0 && status == 0, "{command:?} ended with {status}");
    // SAFETY: zeros are a value of every field, and the call filled them in.
    let usage = unsafe { usage.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Usage {
        wall: 0.0,
        whole: 0.0,
        processors: seconds(usage.ru_utime) + seconds(usage.ru_stime),
        memory: usage.ru_maxrss as f64 / 1024.0,
        bytes: 0,
    }
}

/// Time and processors since a moment, of this process and its threads. A build has the tree in memory: what it takes to read it
/// back here is none of the work.
pub struct Clock(Instant, f64);

impl Clock {
    /// Starts now.
    pub fn start() -> Clock {
        Clock(Instant::now(), own_processors())
    }

    /// Tells the process that waits for this one.
    pub fn tell(self) {
        let (wall, processors) = (self.0.elapsed().as_secs_f64(), own_processors() - self.1);
        println!("{wall} {processors}");
    }
}

fn own_processors() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the place is of this function and lives as long as the call, which writes a time into it.
    let told = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(told, 0);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// As [`run`], of a process that tells what its work took by a [`Clock`].
// As in `run`.
#[allow(clippy::zombie_processes)]
pub fn run_telling(command: &mut Command) -> Usage {
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{:?} cannot be run: {error}", command.get_program()));
    let mut told = String::new();
    std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut told).unwrap();
    let mut usage = wait(&child, command);
    usage.whole = started.elapsed().as_secs_f64();
    let mut words = told.split_whitespace().map(|word| word.parse().unwrap());
    if let (Some(wall), Some(processors)) = (words.next(), words.next()) {
        (usage.wall, usage.processors) = (wall, processors);
    }
    usage
}

/// Rounds of one line of the table.
#[derive(Clone, Copy)]
pub struct Rounds {
    /// At most so many.
    pub most: usize,
    /// No further one once so much time has passed.
    pub time: Duration,
}

/// What is wanted of a line: time and, where it matters, size, as multiples of the other's.
#[derive(Clone, Copy)]
pub struct Target(pub f64, pub Option<f64>);

/// Lines whose target was missed.
static MISSED: AtomicUsize = AtomicUsize::new(0);

/// How many lines missed their target so far.
pub fn missed() -> usize {
    MISSED.load(Ordering::Relaxed)
}

/// The word for a line whose target was missed or met.
fn verdict(is_missed: bool) -> &'static str {
    if is_missed {
        MISSED.fetch_add(1, Ordering::Relaxed);
        "MISSED"
    } else {
        "met"
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

/// Processes waiting for processors just now, as the kernel counts them.
pub fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// Prints the head of the table.
pub fn head() {
    println!(
        "{:<8} {:<28} {:>2} {:>5} | {:>7} {:>7} {:>6} {:>6} | {:>7} {:>7} {:>6} | {:>6} {:>6} {:>6} | {:>7}",
        "input",
        "work",
        "n",
        "load",
        "ours s",
        "other s",
        "ratio",
        "whole",
        "cpu s",
        "other",
        "ratio",
        "size",
        "MiB",
        "other",
        "target"
    );
}

/// Does both works by turns and prints a line: medians, and what each is of the other's. `ours` and `theirs` give what they
/// took and where the result is.
pub fn line(
    input: &str,
    work: &str,
    rounds: Rounds,
    target: Target,
    ours: &mut dyn FnMut() -> Usage,
    theirs: &mut dyn FnMut() -> Usage,
) {
    let (before, started) = (load(), Instant::now());
    let (mut our, mut their) = (Vec::new(), Vec::new());
    loop {
        // What the other wrote is on the disk before the next one starts.
        rustix::fs::sync();
        our.push(ours());
        rustix::fs::sync();
        their.push(theirs());
        if our.len() >= rounds.most || started.elapsed() >= rounds.time {
            break;
        }
    }
    let of = |all: &[Usage], field: fn(&Usage) -> f64| median(all.iter().map(field).collect());
    let wall = (of(&our, |usage| usage.wall), of(&their, |usage| usage.wall));
    let whole = of(&our, |usage| usage.whole) / of(&their, |usage| usage.whole);
    let processors = (
        of(&our, |usage| usage.processors),
        of(&their, |usage| usage.processors),
    );
    let memory = (of(&our, |usage| usage.memory), of(&their, |usage| usage.memory));
    let size = (our[0].bytes > 0 && their[0].bytes > 0).then(|| our[0].bytes as f64 / their[0].bytes as f64);
    let Target(time, most) = target;
    let slow = wall.0 / wall.1 > time;
    let large = size.zip(most).is_some_and(|(size, most)| size > most);
    let verdict = format!("{time:.2} {}", verdict(slow || large));
    println!(
        "{input:<8} {work:<28} {:>2} {before:>5} | {:>7.2} {:>7.2} {:>6.3} {whole:>6.3} | {:>7.2} {:>7.2} {:>6.3} | {:>6} \
         {:>6.1} {:>6.1} | {verdict}",
        our.len(),
        wall.0,
        wall.1,
        wall.0 / wall.1,
        processors.0,
        processors.1,
        processors.0 / processors.1,
        size.map_or("-".to_owned(), |size| format!("{size:.4}")),
        memory.0,
        memory.1,
    );
}

/// Does a work that nobody else does, once, and prints a line: its memory counts, in MiB.
pub fn alone(input: &str, work: &str, most: f64, ours: impl FnOnce() -> Usage) {
    let before = load();
    let usage = ours();
    let verdict = verdict(usage.memory > most);
    println!(
        "{input:<8} {work:<28} {:>2} {before:>5} | {:>7.2} {:>7} {:>6} {:>6} | {:>7.2} {:>7} {:>6} | {:>6} {:>6.1} {:>6} | \
         {most:.0} MiB {verdict}",
        1, usage.wall, "-", "-", "-", usage.processors, "-", "-", "-", usage.memory, "-"
    );
}

/// Does a work that nobody else does, over and over, and prints a line: its time counts, in seconds by the clock.
pub fn timed(input: &str, work: &str, rounds: Rounds, most: f64, ours: &mut dyn FnMut() -> Usage) {
    let (before, started) = (load(), Instant::now());
    let mut all = Vec::new();
    loop {
        all.push(ours());
        if all.len() >= rounds.most || started.elapsed() >= rounds.time {
            break;
        }
    }
    let of = |field: fn(&Usage) -> f64| median(all.iter().map(field).collect());
    let wall = of(|usage| usage.wall);
    let verdict = verdict(wall >= most);
    println!(
        "{input:<8} {work:<28} {:>2} {before:>5} | {wall:>7.2} {:>7} {:>6} {:>6} | {:>7.2} {:>7} {:>6} | {:>6} {:>6.1} {:>6} | \
         {most:.0} s {verdict}",
        all.len(),
        "-",
        "-",
        "-",
        of(|usage| usage.processors),
        "-",
        "-",
        "-",
        of(|usage| usage.memory),
        "-"
    );
}

/// Bytes of a file.
pub fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}
