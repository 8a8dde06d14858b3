//! Roots put together from packages.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use lycia_apk::install::Unpacked;
use lycia_apk::metadata::{Acl, DirEntry, Package, PackageInfo, ScriptKind};
use lycia_root::{Options, assembly};
use lycia_tree::{Metadata, Timestamp, Tree};

const TIME: Timestamp = Timestamp {
    seconds: 0,
    nanoseconds: 0,
};

/// A package that listens to its own folder.
fn listening(scripts: Vec<(ScriptKind, Vec<u8>)>) -> Unpacked {
    let info = PackageInfo {
        name: "icons".into(),
        version: "1-r0".into(),
        installed_size: 1,
        ..PackageInfo::default()
    };
    let folder = |path: &str| DirEntry {
        path: path.into(),
        acl: Acl::root(0o755),
        files: Vec::new(),
    };
    Unpacked {
        entry: info.clone(),
        package: Package {
            info,
            paths: ["usr", "usr/share", "usr/share/icons"].map(folder).to_vec(),
            scripts,
            triggers: vec!["/usr/share/icons".into()],
            ..Package::default()
        },
        ..Unpacked::default()
    }
}

#[test]
fn globs_without_a_script_call_for_nothing() {
    let script = vec![(ScriptKind::Trigger, b"#!/bin/sh\n".to_vec())];
    for (scripts, strict, expected) in [
        (script.clone(), false, Ok(1)),
        (script, true, Err(())),
        (Vec::new(), false, Ok(0)),
        (Vec::new(), true, Ok(0)),
    ] {
        let mut tree = Tree::new(Metadata::new(0o755, TIME));
        let options = Options { time: TIME, strict };
        let found = match assembly::install(&mut tree, vec![listening(scripts)], &options) {
            Ok(mut installed) => {
                installed.finish(&mut tree).unwrap();
                let of_trigger = installed.warnings.iter().filter(|line| line.contains("trigger"));
                Ok(of_trigger.count())
            }
            Err(_) => Err(()),
        };
        assert_eq!(found, expected, "strict: {strict}");
    }
}
