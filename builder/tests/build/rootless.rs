//! A build asks for no privilege and starts nothing of the target.

use crate::live::{TRACED, elsewhere};
use crate::program::{is_root, open_folder, read, run, text, tool};

/// Lines of a trace that a build must not make. Starting a program is judged by its name.
fn offences(trace: &str, programs: &[&str]) -> Vec<String> {
    let call = |line: &str| {
        // `PID  call(arguments) = result`
        let rest = line.split_once(' ').map_or("", |(_, rest)| rest.trim_start());
        rest.split_once('(')
            .map(|(name, arguments)| (name.to_owned(), arguments.to_owned()))
    };
    trace
        .lines()
        .filter(|line| {
            let Some((name, arguments)) = call(line) else {
                // Exits, signals and the second halves of calls.
                return false;
            };
            match name.as_str() {
                "execve" | "execveat" => {
                    let path = arguments.split('"').nth(1).unwrap_or("");
                    let program = path.rsplit('/').next().unwrap_or("");
                    !programs.contains(&program)
                }
                // Threads and children share every namespace unless told.
                "clone" | "clone3" | "fork" | "vfork" => arguments.contains("CLONE_NEW"),
                "socket" => !arguments.starts_with("AF_UNIX"),
                _ if name.starts_with("<...") => false,
                _ => true,
            }
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_watch_sees_what_a_build_must_not_do() {
    let folder = open_folder();
    let trace = folder.path().join("trace");
    // Fails or not: the attempt counts.
    run(tool("strace", "strace")
        .args(["-f", "--seccomp-bpf", "-qq", "-e", TRACED, "-o"])
        .arg(&trace)
        .args(["sh", "-c", "mkfifo fifo; unshare --mount true; chroot / true"])
        .current_dir(folder.path()));
    let found = offences(&text(&read(&trace)), &["sh"]).join("\n");
    for call in ["mknod", "unshare(", "chroot(", "execve("] {
        assert!(found.contains(call), "{call} is not among\n{found}");
    }
}

#[test]
fn a_build_needs_no_privilege_and_runs_nothing_of_the_target() {
    if !is_root() {
        println!("not root: the build ran as this user");
    }
    let trace = &elsewhere().trace;
    let found = offences(trace, &["lycia", "grub-mkimage"]);
    assert!(found.is_empty(), "{}", found.join("\n"));
    let started = |name: &str| {
        trace
            .lines()
            .filter(|line| line.contains("execve(") && line.contains(name) && !line.contains("= -1"))
            .count()
    };
    // Were they not seen, the trace would prove nothing.
    assert_eq!(started("lycia\""), 1, "{trace}");
    assert_eq!(started("grub-mkimage\""), 2, "{trace}");
}
