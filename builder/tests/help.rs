//! What the program says of itself: every command has help that fits a terminal, with an example.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use clap::CommandFactory as _;

/// Every command with the words that lead to it.
fn commands(command: &clap::Command, words: &[String], found: &mut Vec<Vec<String>>) {
    for below in command
        .get_subcommands()
        .filter(|below| below.get_name() != "help")
    {
        let mut path = words.to_vec();
        path.push(below.get_name().to_owned());
        commands(below, &path, found);
        found.push(path);
    }
}

#[test]
fn help_fits_80_columns_and_has_an_example() {
    let mut found = vec![Vec::new()];
    commands(&lycia::cli::Cli::command(), &[], &mut found);
    assert!(found.len() > 18, "{found:?}");
    // Those that are their own example.
    let plain = ["images", "completions", "man"];
    for words in found {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_lycia"))
            .args(&words)
            .arg("--help")
            .env("COLUMNS", "200")
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "lycia {}: {line}", words.join(" "));
        }
        let exempt = words.last().is_some_and(|word| plain.contains(&word.as_str()));
        assert!(
            exempt || text.contains("Example: lycia "),
            "lycia {}: {text}",
            words.join(" ")
        );
    }
}

#[test]
fn an_unknown_option_is_a_usage_error() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_lycia"))
        .args(["repo", "serve", "--lisen", "x"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("--listen"));
}
