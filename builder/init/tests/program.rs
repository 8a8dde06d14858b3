//! The program on a working system: it must do nothing there.
// Lint exceptions for tests do not reach the helpers beside them.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lycia-init"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn it_refuses_when_it_is_not_process_1() {
    for arguments in [&[][..], &["--frobnicate"], &["-q"]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("not process 1"));
    }
}

#[test]
fn version_and_help() {
    let output = run(&["--version"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        format!("lycia-init {}\n", env!("CARGO_PKG_VERSION"))
    );
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    assert!(help.contains("live-media-timeout=SECONDS"));
    for line in help.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
}
