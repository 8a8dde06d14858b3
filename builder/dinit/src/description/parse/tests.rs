//! Table and property tests of the parser.

use super::*;
use crate::files::MemoryFiles;
use proptest::prelude::*;

fn with(files: &MemoryFiles, name: &str, text: &str) -> Result<Description, Vec<String>> {
    let mut files = files.clone();
    let base = split_name(name).0.to_owned();
    let path = PathBuf::from(format!("/etc/dinit.d/{base}"));
    files.add(&path, text);
    let environment: Environment = [("TTY", "ttyS0"), ("ARGS", "-a -b")]
        .map(|(k, v)| (k.into(), v.into()))
        .into();
    let context = Context {
        files: &files,
        environment: &environment,
    };
    parse(&context, name, &path).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn good(text: &str) -> Description {
    with(&MemoryFiles::default(), "x", text).unwrap()
}

fn errors(text: &str) -> Vec<String> {
    with(&MemoryFiles::default(), "x", text).unwrap_err()
}

#[test]
fn a_full_description() {
    let d = good(concat!(
        "# a daemon\n",
        "type = process\n",
        "command = /usr/bin/daemon -n \\\n   \"two words\" # runs in front\n",
        "command += --tty $TTY\n",
        "restart = on-failure\n",
        "smooth-recovery: yes\n",
        "restart-delay = 0.5\nrestart-limit-interval = 20\nrestart-limit-count = 0\n",
        "start-timeout = 0\nstop-timeout = 2.5\n",
        "termsignal = HUP\n",
        "ready-notification = pipefd:4\n",
        "depends-on: base\ndepends-ms: mile\nwaits-for: soft\nprepared-by: prep\n",
        "before: later\nafter: sooner\nchain-to = next\n",
        "logfile = /var/log/x.log\nlogfile-permissions = 640\n",
        "options: runs-on-console signal-process-only\noptions: starts-rwfs\n",
        "rlimit-nofile = 1024:4096\nnice = -5\noom-score-adj = 100\nioprio = best-effort:3\n",
        "load-options: export-passwd-vars sub-vars\n",
        "@meta enable-via login.target\n",
        "inittab-id = 1\n",
    ));
    assert_eq!(
        d.command,
        ["/usr/bin/daemon", "-n", "two words", "--tty", "ttyS0"]
    );
    assert_eq!(
        (d.command_at.line, d.kind, d.restart),
        (3, Kind::Process, Restart::OnFailure)
    );
    assert_eq!(
        (d.restart_delay.as_millis(), d.restart_limit_interval.as_secs()),
        (500, 20)
    );
    assert_eq!((d.restart_limit_count, d.start_timeout), (0, None));
    assert_eq!(d.stop_timeout, Some(Duration::from_millis(2500)));
    assert_eq!(d.term_signal, Some(libc::SIGHUP));
    assert_eq!(d.ready, Some(Readiness::Descriptor(4)));
    let kinds: Vec<_> = d
        .dependencies
        .iter()
        .map(|d| (d.kind.word(), d.name.as_str(), d.at.line))
        .collect();
    assert_eq!(
        kinds,
        [
            ("depends-on", "base", 15),
            ("depends-ms", "mile", 16),
            ("waits-for", "soft", 17),
            ("prepared-by", "prep", 18)
        ]
    );
    assert_eq!(
        (d.before[0].name.as_str(), d.after[0].name.as_str()),
        ("later", "sooner")
    );
    assert_eq!(d.chain_to.as_deref(), Some("next"));
    assert_eq!((d.log, d.logfile_mode), (Log::File, 0o640));
    assert!(d.options.runs_on_console && d.options.starts_on_console && d.options.starts_rwfs);
    assert!(d.options.signal_process_only && d.smooth_recovery && d.export_passwd_vars);
    assert_eq!(
        (d.nice, d.oom_score_adj, d.io_priority),
        (Some(-5), Some(100), Some(2 << 13 | 3))
    );
    assert_eq!(d.enable_via.as_deref(), Some("login.target"));
    assert!(d.unsupported.is_empty());
}

#[test]
fn defaults_are_dinits() {
    let d = good("command = x\n");
    assert_eq!(
        (d.kind, d.restart, d.log),
        (Kind::Process, Restart::Always, Log::None)
    );
    assert_eq!(d.start_timeout, Some(Duration::from_secs(60)));
    assert_eq!(d.stop_timeout, Some(Duration::from_secs(10)));
    assert_eq!((d.restart_limit_count, d.restart_delay.as_millis()), (3, 200));
    assert_eq!(d.working_dir, Path::new("/etc/dinit.d"));
}

#[test]
fn every_error_has_file_and_line() {
    let table: &[(&str, &str)] = &[
        ("type = internal\nfrob = 1\n", "x:2: unknown setting `frob`"),
        (
            "type = internal\ndepend-on: b\n",
            "x:2: unknown setting `depend-on` (did you mean `depends-on`?)",
        ),
        (
            "type = internal\n\nnonsense\n",
            "x:3: expected `setting = value` or `setting: value`",
        ),
        (
            "type = internal\n= x\n",
            "x:2: expected `setting = value` or `setting: value`",
        ),
        (
            "type = internal\nnice + 3\n",
            "x:2: expected `setting = value` or `setting: value`",
        ),
        (
            "type = proces\n",
            "x:1: type: `proces` is not one of process, bgprocess, scripted, internal, triggered (did you mean `process`?)",
        ),
        (
            "type = internal\nrestart = maybe\n",
            "x:2: restart: `maybe` is not one of yes, true, on-failure, no, false",
        ),
        (
            "type = internal\nsmooth-recovery = 1\n",
            "x:2: smooth-recovery: `1` is not one of yes, true, no, false",
        ),
        (
            "type = internal\nstart-timeout = soon\n",
            "x:2: start-timeout: `soon` is not a time in seconds, like 10 or 0.2",
        ),
        (
            "type = internal\nrestart-limit-count = -1\n",
            "x:2: restart-limit-count: `-1` is not a number in range",
        ),
        (
            "type = internal\nterm-signal = TREM\n",
            "x:2: term-signal: `TREM` is not one of none and the signal names without SIG (did you mean `TERM`?)",
        ),
        (
            "type = internal\ndepends-on: .x\n",
            "x:2: `.x` is not a service name (letters, digits, `.` not first, `-`, `_`; `@argument` at the end)",
        ),
        (
            "type = internal\ndepends-on: a/b\n",
            "x:2: `a/b` is not a service name (letters, digits, `.` not first, `-`, `_`; `@argument` at the end)",
        ),
        (
            "type = internal\noptions: run-on-console\n",
            "x:2: options: `run-on-console` is not one of the options of dinit-service(5) (did you mean `runs-on-console`?)",
        ),
        (
            "type = internal\nload-options: all\n",
            "x:2: load-options: `all` is not one of export-passwd-vars, export-service-name",
        ),
        (
            "type = internal\nready-notification = fd:3\n",
            "x:2: ready-notification: `fd:3` is not pipefd:NUMBER or pipevar:NAME",
        ),
        (
            "type = internal\nlog-type = disk\n",
            "x:2: log-type: `disk` is not one of file, buffer, pipe, none",
        ),
        (
            "type = internal\nlogfile-permissions = 999\n",
            "x:2: logfile-permissions: `999` is not an octal mode, like 640",
        ),
        (
            "type = internal\nnice = low\n",
            "x:2: nice: `low` is not a number in range",
        ),
        (
            "type = internal\noom-score-adj = 2000\n",
            "x:2: oom-score-adj: `2000` is not a number in range",
        ),
        (
            "type = internal\nrlimit-core = x\n",
            "x:2: rlimit-core: `x` is not a number in range",
        ),
        (
            "type = internal\nrun-as = a b\n",
            "x:2: run-as: `a b` is not a user name or number",
        ),
        (
            "type = internal\nnice += 3\n",
            "x:2: `nice` cannot be appended to: `+=` is for command, stop-command, capabilities and securebits",
        ),
        (
            "command = a #b\\\n",
            "x:1: the file ends after a continuation backslash",
        ),
        (
            "command = a#b\n",
            "x:1: a `#` comment must be separated from the value by white space (or write `\\#`)",
        ),
        ("command = \"a\n", "x:1: a double quote is not closed"),
        (
            "type = internal\n@inculde y\n",
            "x:2: unknown meta command `@inculde` (did you mean `include`?)",
        ),
        ("type = internal\n@include\n", "x:2: `@include` takes one path"),
        (
            "type = internal\n@include none\n",
            "x:2: included file /etc/dinit.d/none does not exist (use @include-opt if it may be absent)",
        ),
        (
            "type = internal\n@meta enable-via\n",
            "x:2: `@meta enable-via` takes one service name",
        ),
        (
            "type = internal\n@include x\n",
            "x:2: includes are nested deeper than 8",
        ),
        (
            "command = run $1\n",
            "x:1: command: `$1` is used, but the service was named without an argument (`name@argument`)",
        ),
        (
            "command = run\nstop-command = ${A\n",
            "x:2: stop-command: `${A`: only `}`, `-word}`, `+word}`, `:-word}` and `:+word}` may follow the name",
        ),
        (
            "type = scripted\n",
            "x: type `scripted` needs the setting `command`",
        ),
        ("restart = no\n", "x: type `process` needs the setting `command`"),
        (
            "type = bgprocess\ncommand = x\n",
            "x: type `bgprocess` needs the setting `pid-file`",
        ),
        (
            "type = bgprocess\ncommand = x\npid-file = y\nready-notification = pipefd:3\n",
            "x: `ready-notification` cannot be used with type `bgprocess`",
        ),
        (
            "command = x\noptions: kill-all-on-stop\n",
            "x: `kill-all-on-stop` cannot be used with type `process`",
        ),
        (
            "command = x\nlog-type = file\n",
            "x: type `log-type = file` needs the setting `logfile`",
        ),
    ];
    for (text, expected) in table {
        let found = errors(text);
        assert_eq!(
            found.last().unwrap(),
            &format!("/etc/dinit.d/{expected}"),
            "{text}"
        );
    }
}

#[test]
fn all_errors_of_a_file_are_told() {
    let found = errors("typ = internal\nnice = x\ndepends-on: /\n");
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn valid_but_not_implemented_is_listed() {
    let d = good(
        "command = x\nsocket-listen = /run/x\ncapabilities += ^cap\noptions: pass-cs-fd\nlog-type = pipe\n",
    );
    let listed: Vec<_> = d.unsupported.iter().map(|u| (u.what, u.at.line)).collect();
    assert_eq!(
        listed,
        [
            ("socket-listen", 2),
            ("capabilities", 3),
            ("option pass-cs-fd", 4),
            ("log-type = pipe", 5)
        ]
    );
}

#[test]
fn arguments_directories_includes_and_env_files() {
    let mut files = MemoryFiles::default();
    files
        .add("/etc/dinit.d/boot.d/b", "")
        .add("/etc/dinit.d/boot.d/a", "")
        .add("/etc/dinit.d/boot.d/.c", "");
    files.add(
        "/etc/dinit.d/inc/part",
        "depends-on: from-part\nwaits-for.d: more.d\n@include-opt none\n",
    );
    files.add("/etc/dinit.d/inc/more.d/m", "");
    files.add("/etc/dinit.d/x.env", "SPEED=9600\nARGS=-z\n");
    let d = with(
        &files,
        "x@tty1",
        concat!(
            "command = getty $1 $SPEED $/ARGS ${NONE:-d}\nenv-file = x.env\n",
            "waits-for.d: boot.d\nwaits-for.d: absent.d\n@include inc/part\ndepends-on: y@$1\n",
            "pid-file = /run/$1.pid\nlogfile = $1.log\n"
        ),
    )
    .unwrap();
    assert_eq!(d.command, ["getty", "tty1", "9600", "-z", "d"]);
    let names: Vec<_> = d
        .dependencies
        .iter()
        .map(|d| (d.name.as_str(), d.from_directory))
        .collect();
    assert_eq!(
        names,
        [
            ("a", true),
            ("b", true),
            ("from-part", false),
            ("m", true),
            ("y@tty1", false)
        ]
    );
    assert_eq!(d.dependencies[2].at.to_string(), "/etc/dinit.d/inc/part:1");
    assert_eq!(d.pid_file.as_deref(), Some(Path::new("/run/tty1.pid")));
    assert_eq!(d.logfile.as_deref(), Some(Path::new("/etc/dinit.d/tty1.log")));
    assert_eq!(d.environment.get("SPEED").map(String::as_str), Some("9600"));
}

#[test]
fn hostile_sizes_are_refused() {
    let huge = "#".repeat(MAX_FILE_BYTES + 1);
    assert_eq!(
        errors(&huge)[0],
        format!("/etc/dinit.d/x: the file is larger than {MAX_FILE_BYTES} bytes")
    );
    let many = "depends-on: a\n".repeat(MAX_DEPENDENCIES + 1);
    assert_eq!(
        errors(&many)[0],
        "/etc/dinit.d/x:1025: more than 1024 dependencies"
    );
    let mut files = MemoryFiles::default();
    files.add("/etc/dinit.d/x", vec![0xff, 0xfe]);
    let environment = Environment::new();
    let context = Context {
        files: &files,
        environment: &environment,
    };
    let found = parse(&context, "x", Path::new("/etc/dinit.d/x")).unwrap_err();
    assert_eq!(found[0].to_string(), "/etc/dinit.d/x: the file is not UTF-8 text");
    assert!(errors("command = \u{0}\n")[0].contains("control character 0x00"));
}

#[test]
fn names() {
    for name in ["a", "a.b-c_D9", "é", "getty@ttyS0", "a@b@c"] {
        assert!(is_service_name(name), "{name}");
    }
    for name in [
        "",
        ".a",
        "a b",
        "a/b",
        "@x",
        "a@",
        "a@b/c",
        "a@b c",
        "a:b",
        &"x".repeat(256),
    ] {
        assert!(!is_service_name(name), "{name}");
    }
}

/// Lines near the grammar, so that the property test gets behind the first checks.
fn some_line() -> impl Strategy<Value = String> {
    let setting = prop_oneof![
        proptest::sample::select(SETTING_NAMES.to_vec()).prop_map(str::to_owned),
        "[a-z.@ -]{0,12}"
    ];
    let operator = proptest::sample::select(vec!["=", ":", "+=", " = ", "", "+"]);
    let value = prop_oneof![
        "[a-z0-9$ {}:\"\\\\#.,/-]{0,20}",
        proptest::sample::select(vec![
            "yes", "internal", "scripted", "1.5", "TERM", "a b", "$1", "x"
        ])
        .prop_map(str::to_owned)
    ];
    (setting, operator, value).prop_map(|(a, b, c)| format!("{a}{b}{c}\n"))
}

proptest! {
    #[test]
    fn the_parser_never_panics(lines in proptest::collection::vec(some_line(), 0..12), junk in "\\PC{0,40}") {
        let _ = with(&MemoryFiles::default(), "x@arg", &lines.concat());
        let _ = with(&MemoryFiles::default(), "x", &junk);
    }

    #[test]
    fn commands_round_trip(words in proptest::collection::vec("[ -~é\t]{0,10}", 1..6)) {
        let escaped: Vec<String> = words.iter().map(|word| word.replace('$', "$$")).collect();
        let text = format!("command = {}\n", crate::text::quote_words(&escaped));
        let description = good(&text);
        prop_assert_eq!(description.command, words);
    }
}
