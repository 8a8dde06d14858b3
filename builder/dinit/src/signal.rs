//! Signal names as dinit writes them: without `SIG`.

/// Names and numbers of the signals that services may be sent (Linux numbers of this architecture).
pub const SIGNALS: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("TERM", libc::SIGTERM),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("ALRM", libc::SIGALRM),
    ("WINCH", libc::SIGWINCH),
];

/// Number of a signal from its name (with or without `SIG`) or its number.
pub fn number(name: &str) -> Option<i32> {
    let short = name.strip_prefix("SIG").unwrap_or(name);
    match SIGNALS.iter().find(|(known, _)| *known == short) {
        Some(&(_, number)) => Some(number),
        None => name.parse().ok().filter(|number| (1..=31).contains(number)),
    }
}

/// Name of a signal for messages.
pub fn name(number: i32) -> String {
    match number {
        libc::SIGSEGV => "SIGSEGV".into(),
        libc::SIGABRT => "SIGABRT".into(),
        libc::SIGPIPE => "SIGPIPE".into(),
        libc::SIGBUS => "SIGBUS".into(),
        libc::SIGILL => "SIGILL".into(),
        libc::SIGFPE => "SIGFPE".into(),
        libc::SIGPWR => "SIGPWR".into(),
        _ => match SIGNALS.iter().find(|&&(_, known)| known == number) {
            Some((name, _)) => format!("SIG{name}"),
            None => format!("signal {number}"),
        },
    }
}
