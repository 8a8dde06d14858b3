//! The installed database against what the reference implementation wrote for the same roots.

#![allow(clippy::unwrap_used)]

mod corpus;

use std::io::Read as _;

use lycia_apk::database::{Database, ReadError};

fn unzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

#[test]
fn reference_databases_round_trip_byte_for_byte() {
    let Some(corpus) = corpus::corpus() else { return };
    let mut compared = 0;
    for root in std::fs::read_dir(corpus.join("expected/roots")).unwrap() {
        for step in std::fs::read_dir(root.unwrap().path()).into_iter().flatten() {
            let step = step.unwrap().path();
            let Ok(installed) = std::fs::read(step.join("installed")) else {
                continue;
            };
            let triggers = std::fs::read(step.join("triggers")).unwrap_or_default();
            let scripts = std::fs::read(step.join("scripts.tar.gz")).unwrap_or_default();
            let database = Database::read(&installed, &triggers, &scripts)
                .unwrap_or_else(|error| panic!("{}: {error}", step.display()));
            let written = database.write_installed().unwrap();
            assert_eq!(
                String::from_utf8_lossy(&written),
                String::from_utf8_lossy(&installed),
                "{}",
                step.display()
            );
            assert_eq!(database.write_triggers(), triggers, "{}", step.display());
            if !scripts.is_empty() {
                assert!(
                    unzip(&database.write_scripts()) == unzip(&scripts),
                    "{}: scripts differ",
                    step.display()
                );
            }
            let mut sorted = database.clone();
            sorted.sort();
            assert_eq!(sorted, database, "{}: order of records", step.display());
            compared += 1;
        }
    }
    println!("{compared} databases compared");
    assert!(compared > 20);
}

#[test]
fn damaged_databases_name_the_line() {
    for (text, line) in [
        ("C:Q1AAAA\n", 1),
        ("P:a\nR:file\n", 2),
        ("P:a\nF:usr\nZ:Q1\n", 3),
        ("P:a\nV:1\nS:many\n", 3),
        ("C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:a\nV:1\n\nnonsense\n", 5),
        ("P:a\nV:1\n\n", 3),
        ("C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:a\n\n", 3),
        ("C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nV:1\n", 3),
        ("P:a\nW:what\n", 2),
        ("P:a\nF:x\nM:0:0\n", 3),
        ("P:a\nD:=1\n", 2),
    ] {
        match Database::read(text.as_bytes(), b"", b"") {
            Err(ReadError::Line { line: found, .. }) => assert_eq!(found, line, "{text:?}"),
            other => panic!("{text:?}: {other:?}"),
        }
    }
    let stranger = b"Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA= /usr\n";
    assert!(matches!(
        Database::read(b"", stranger, b""),
        Err(ReadError::Trigger { .. })
    ));
    assert!(matches!(
        Database::read(b"", b"", b"not gzip"),
        Err(ReadError::Scripts(_))
    ));
}

#[test]
fn a_line_break_cannot_make_a_record() {
    let mut database = Database::default();
    let mut package = lycia_apk::database::InstalledPackage::default();
    package.info.name = "a".to_owned();
    package.info.description = "x\nP:b".to_owned();
    database.packages.push(package);
    assert!(database.write_installed().is_err());
}
