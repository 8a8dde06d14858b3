//! The table of settings and options, and readers of their values.

use std::time::Duration;

use super::{Bound, Problem, Resource};
use crate::suggest;

/// What a line of a description sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    Type,
    Command,
    StopCommand,
    WorkingDir,
    RunAs,
    EnvFile,
    Restart,
    SmoothRecovery,
    RestartDelay,
    RestartLimitInterval,
    RestartLimitCount,
    StartTimeout,
    StopTimeout,
    TermSignal,
    PidFile,
    DependsOn,
    PreparedBy,
    DependsMs,
    WaitsFor,
    DependsOnDir,
    DependsMsDir,
    WaitsForDir,
    After,
    Before,
    ChainTo,
    ReadyNotification,
    LogType,
    Logfile,
    LogfilePermissions,
    LogfileUid,
    LogfileGid,
    LogBufferSize,
    Options,
    LoadOptions,
    Limit(Resource),
    Nice,
    Ioprio,
    OomScoreAdj,
    /// Valid, without effect here and without harm.
    Ignored,
    /// Valid, and the service must not run without it.
    Refused,
}

/// Every setting of dinit 0.22 with its meaning here.
pub(super) const SETTINGS: &[(&str, Setting)] = &[
    ("type", Setting::Type),
    ("command", Setting::Command),
    ("stop-command", Setting::StopCommand),
    ("working-dir", Setting::WorkingDir),
    ("run-as", Setting::RunAs),
    ("env-file", Setting::EnvFile),
    ("restart", Setting::Restart),
    ("smooth-recovery", Setting::SmoothRecovery),
    ("restart-delay", Setting::RestartDelay),
    ("restart-limit-interval", Setting::RestartLimitInterval),
    ("restart-limit-count", Setting::RestartLimitCount),
    ("start-timeout", Setting::StartTimeout),
    ("stop-timeout", Setting::StopTimeout),
    ("term-signal", Setting::TermSignal),
    ("termsignal", Setting::TermSignal),
    ("pid-file", Setting::PidFile),
    ("depends-on", Setting::DependsOn),
    ("prepared-by", Setting::PreparedBy),
    ("depends-ms", Setting::DependsMs),
    ("waits-for", Setting::WaitsFor),
    ("depends-on.d", Setting::DependsOnDir),
    ("depends-ms.d", Setting::DependsMsDir),
    ("waits-for.d", Setting::WaitsForDir),
    ("after", Setting::After),
    ("before", Setting::Before),
    ("chain-to", Setting::ChainTo),
    ("ready-notification", Setting::ReadyNotification),
    ("log-type", Setting::LogType),
    ("logfile", Setting::Logfile),
    ("logfile-permissions", Setting::LogfilePermissions),
    ("logfile-uid", Setting::LogfileUid),
    ("logfile-gid", Setting::LogfileGid),
    ("log-buffer-size", Setting::LogBufferSize),
    ("options", Setting::Options),
    ("load-options", Setting::LoadOptions),
    ("rlimit-nofile", Setting::Limit(Resource::OpenFiles)),
    ("rlimit-core", Setting::Limit(Resource::Core)),
    ("rlimit-data", Setting::Limit(Resource::Data)),
    ("rlimit-addrspace", Setting::Limit(Resource::AddressSpace)),
    ("nice", Setting::Nice),
    ("ioprio", Setting::Ioprio),
    ("oom-score-adj", Setting::OomScoreAdj),
    ("inittab-id", Setting::Ignored),
    ("inittab-line", Setting::Ignored),
    ("socket-listen", Setting::Refused),
    ("socket-permissions", Setting::Refused),
    ("socket-uid", Setting::Refused),
    ("socket-gid", Setting::Refused),
    ("capabilities", Setting::Refused),
    ("securebits", Setting::Refused),
    ("run-in-cgroup", Setting::Refused),
    ("consumer-of", Setting::Refused),
];

/// Names of all settings, for completion and suggestions.
pub const SETTING_NAMES: [&str; SETTINGS.len()] = {
    let mut names = [""; SETTINGS.len()];
    let mut index = 0;
    while index < SETTINGS.len() {
        names[index] = SETTINGS[index].0;
        index += 1;
    }
    names
};

/// Words of the `options` setting.
pub const OPTION_NAMES: &[&str] = &[
    "runs-on-console",
    "starts-on-console",
    "shares-console",
    "unmask-intr",
    "starts-rwfs",
    "starts-log",
    "pass-cs-fd",
    "start-interruptible",
    "skippable",
    "signal-process-only",
    "always-chain",
    "kill-all-on-stop",
    "no-new-privs",
];

pub(super) fn not_one_of(
    setting: &'static str,
    value: &str,
    allowed: &'static str,
    known: &[&'static str],
) -> Problem {
    let hint = suggest::hint(value, known.iter().copied());
    Problem::NotOneOf {
        setting,
        value: value.into(),
        allowed,
        hint,
    }
}

pub(super) fn bad(setting: &'static str, value: &str, wanted: &'static str) -> Problem {
    Problem::BadValue {
        setting,
        value: value.into(),
        wanted,
    }
}

/// Seconds with an optional fraction; a comma counts as the point.
pub(super) fn seconds(setting: &'static str, value: &str) -> Result<Duration, Problem> {
    let error = || bad(setting, value, "a time in seconds, like 10 or 0.2");
    let (whole, fraction) = value.split_once(['.', ',']).unwrap_or((value, ""));
    let digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(error());
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_| error())?
    };
    let nanos = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    // A year is beyond any service; it keeps sums of clock and limit far from overflow.
    if whole > 31_536_000 {
        return Err(bad(setting, value, "a time below one year"));
    }
    Ok(Duration::new(whole, nanos))
}

/// A number as strtoull(3) with base 0 reads it: decimal, 0x… or 0….
pub(super) fn unsigned(setting: &'static str, value: &str, max: u64) -> Result<u64, Problem> {
    let parsed = if let Some(hex) = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        u64::from_str_radix(hex, 16)
    } else if value.len() > 1 && value.starts_with('0') {
        u64::from_str_radix(&value[1..], 8)
    } else {
        value.parse()
    };
    match parsed {
        Ok(number) if number <= max && !value.contains('+') => Ok(number),
        _ => Err(bad(setting, value, "a number in range")),
    }
}

pub(super) fn signed(setting: &'static str, value: &str, min: i32, max: i32) -> Result<i32, Problem> {
    match value.parse::<i32>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(bad(setting, value, "a number in range")),
    }
}

pub(super) fn octal(setting: &'static str, value: &str) -> Result<u32, Problem> {
    match u32::from_str_radix(value, 8) {
        Ok(mode) if mode <= 0o7777 && !value.starts_with('+') => Ok(mode),
        _ => Err(bad(setting, value, "an octal mode, like 640")),
    }
}

/// `soft:hard`, either may be missing, `-` removes a limit, one value sets both.
pub(super) fn limit(setting: &'static str, value: &str) -> Result<(Bound, Bound), Problem> {
    let bound = |text: &str| match text {
        "" => Ok(Bound::Unchanged),
        "-" => Ok(Bound::Unlimited),
        number => unsigned(setting, number, u64::MAX - 1).map(Bound::At),
    };
    match value.split_once(':') {
        None if value.is_empty() => Err(bad(setting, value, "a limit, like 1024:4096")),
        None => bound(value).map(|both| (both, both)),
        Some((soft, hard)) => Ok((bound(soft)?, bound(hard)?)),
    }
}

/// `none`, `idle`, `realtime:N`, `best-effort:N` as the value of ioprio_set(2): class in the bits from 13.
pub(super) fn io_priority(value: &str) -> Result<u16, Problem> {
    const WANTED: &str = "one of none, idle, realtime:0 to 7, best-effort:0 to 7";
    let level = |text: &str| match unsigned("ioprio", text, 7) {
        Ok(level) => Ok(level as u16),
        Err(_) => Err(bad("ioprio", value, WANTED)),
    };
    match value.split_once(':') {
        None if value == "none" => Ok(0),
        None if value == "idle" => Ok(3 << 13),
        Some(("realtime", text)) => Ok(1 << 13 | level(text)?),
        Some(("best-effort", text)) => Ok(2 << 13 | level(text)?),
        _ => Err(bad("ioprio", value, WANTED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let good = |value: &str| seconds("start-timeout", value).unwrap();
        assert_eq!(good("10"), Duration::from_secs(10));
        assert_eq!(good("0.2"), Duration::from_millis(200));
        assert_eq!(good("0,25"), Duration::from_millis(250));
        assert_eq!(good(".5"), Duration::from_millis(500));
        assert_eq!(good("1.0000000019"), Duration::new(1, 1));
        for wrong in [
            "",
            ".",
            "-1",
            "1s",
            "1.2.3",
            "99999999999999999999",
            "40000000",
            "+1",
        ] {
            assert!(seconds("start-timeout", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(unsigned("nice", "0x10", 100).unwrap(), 16);
        assert_eq!(unsigned("nice", "010", 100).unwrap(), 8);
        assert_eq!(unsigned("nice", "0", 100).unwrap(), 0);
        for wrong in ["", "x", "101", "+1", "-1", "0x", "09"] {
            assert!(unsigned("nice", wrong, 100).is_err(), "{wrong}");
        }
        assert_eq!(octal("socket-permissions", "640").unwrap(), 0o640);
        assert!(octal("socket-permissions", "888").is_err());
        assert_eq!(limit("rlimit-core", "1:2").unwrap(), (Bound::At(1), Bound::At(2)));
        assert_eq!(
            limit("rlimit-core", ":-").unwrap(),
            (Bound::Unchanged, Bound::Unlimited)
        );
        assert_eq!(limit("rlimit-core", "7").unwrap(), (Bound::At(7), Bound::At(7)));
        assert!(limit("rlimit-core", "").is_err());
        assert!(limit("rlimit-core", "1:2:3").is_err());
        assert_eq!(io_priority("idle").unwrap(), 3 << 13);
        assert_eq!(io_priority("best-effort:7").unwrap(), 2 << 13 | 7);
        assert!(io_priority("best-effort:8").is_err());
    }

    #[test]
    fn setting_names_are_unique() {
        let mut names = SETTING_NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), SETTINGS.len());
    }
}
