//! Triggers that have no native implementation: left to the first boot, or refused.

use lycia::error::Kind;
use lycia_apk::metadata::{Acl, ScriptKind};
use serde_json::Value;

use crate::program::{read, run, succeed, text, tool};
use crate::small::Small;

const TIME: u64 = 1_700_000_000;

/// A root with services, and with a package whose trigger nobody here knows.
fn project(services: &[(&str, &str)]) -> Small {
    let small = Small::new(0);
    small.package("services", "1-r0", &["base"], |package| {
        for (path, content) in services {
            package
                .file(
                    path.as_bytes(),
                    Acl::root(0o644),
                    TIME,
                    content.as_bytes().to_vec(),
                )
                .unwrap();
        }
    });
    small.package("cache", "2.1-r3", &["base"], |package| {
        package.trigger("+/usr/share/icons/*");
        package.script(ScriptKind::Trigger, "#!/usr/bin/sh\nmake-cache \"$@\"\n");
        for path in [
            "usr/share/icons/a b/one",
            "usr/share/icons/c/two",
            "usr/share/other/three",
        ] {
            package
                .file(path.as_bytes(), Acl::root(0o644), TIME, b"icon\n".to_vec())
                .unwrap();
        }
        package.symlink(b"lib", b"usr/lib", TIME).unwrap();
        package.symlink(b"bin", b"usr/bin", TIME).unwrap();
    });
    small.index();
    small.write(
        "configs/images/small.toml",
        "repositories = [\"local\"]\npackages = [\"services\", \"cache\"]\noutputs = [\"tar\"]\n",
    );
    small
}

#[test]
fn a_trigger_that_is_not_known_waits_for_the_first_boot() {
    let small = project(&[(
        "usr/lib/dinit.d/boot",
        "type = internal\nwaits-for.d: /etc/dinit.d/boot.d\n",
    )]);
    succeed(small.build().arg("--output").arg(small.path("output")));
    let tar = || {
        let mut command = tool("bsdtar", "libarchive-tools");
        command
            .args(["-xOf"])
            .arg(small.path("output/small-x86_64.tar.zst"));
        command
    };
    let of_root = |path: &str| text(&succeed(tar().arg(path)).stdout);
    assert_eq!(
        of_root("usr/lib/lycia/first-boot.d/000-cache"),
        "cache\nlib/apk/exec/cache-2.1-r3.trigger\n/usr/share/icons/a b\n/usr/share/icons/c\n"
    );
    assert_eq!(
        of_root("usr/lib/apk/exec/cache-2.1-r3.trigger"),
        "#!/usr/bin/sh\nmake-cache \"$@\"\n"
    );
    assert!(of_root("etc/dinit.d/lycia-first-boot").contains("command = /usr/lib/lycia/first-boot\n"));
    let mut list = tool("bsdtar", "libarchive-tools");
    let list = text(&succeed(list.arg("-tvf").arg(small.path("output/small-x86_64.tar.zst"))).stdout);
    assert!(
        list.contains("etc/dinit.d/boot.d/lycia-first-boot -> ../lycia-first-boot"),
        "{list}"
    );
    let manifest: Value =
        serde_json::from_slice(&read(&small.path("output/small-x86_64.manifest.json"))).unwrap();
    assert!(manifest.to_string().contains("trigger first-boot"), "{manifest}");
}

#[test]
fn a_trigger_that_is_not_known_is_refused_where_that_is_asked_for() {
    let small = project(&[]);
    let refused = run(small
        .build()
        .arg("--strict")
        .arg("--output")
        .arg(small.path("output")));
    let said = text(&refused.stderr);
    assert_eq!(
        refused.status.code(),
        Some(i32::from(Kind::Target.code())),
        "{said}"
    );
    assert!(
        said.contains("no native implementation") && said.contains("cache"),
        "{said}"
    );
    assert!(!small.path("output").exists() || crate::program::names(&small.path("output")).is_empty());
    // Without dinit there is nobody to run it, and nothing is left behind.
    succeed(small.build().arg("--output").arg(small.path("output")));
    let mut list = tool("bsdtar", "libarchive-tools");
    let list = text(&succeed(list.arg("-tf").arg(small.path("output/small-x86_64.tar.zst"))).stdout);
    assert!(!list.contains("first-boot"), "{list}");
}
