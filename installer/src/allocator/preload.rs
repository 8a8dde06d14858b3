//! Allocators that are loaded before the C library: `LD_PRELOAD` for services and for shells.

use super::Allocator;

/// dinit's environment file (dinit(8), "Files").
pub(super) const ENVIRONMENT: &str = "etc/dinit/environment";
/// What login shells read.
pub(super) const PROFILE: &str = "etc/profile.d/malloc-global.sh";
/// End of the names of the packages that bring such a library.
const SUFFIX: &str = "-global";

/// A library that every program loads first.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Preload {
    /// Its absolute path.
    pub library: String,
    /// Whether it is there.
    pub present: bool,
    /// What it is, by what only it contains.
    pub allocator: Option<Allocator>,
}

/// The value of `LD_PRELOAD` in a file of `NAME=VALUE` lines, with `export` or without; the last one counts.
pub(super) fn exported(text: &str) -> Option<&str> {
    text.lines()
        .map(str::trim)
        .filter_map(|line| {
            line.strip_prefix("export ")
                .unwrap_or(line)
                .trim()
                .strip_prefix("LD_PRELOAD=")
        })
        .map(|value| value.trim_matches(['"', '\'']))
        .rfind(|value| !value.is_empty())
}

/// The allocator in a library that stands by itself.
pub(super) fn allocator_in(library: &[u8]) -> Option<Allocator> {
    let has = |mark: &[u8]| library.windows(mark.len()).any(|window| window == mark);
    if !library.starts_with(b"\x7fELF") {
        None
    } else if has(b"mimalloc: ") || has(b"mi_malloc") {
        Some(Allocator::Mimalloc)
    } else if has(b"<jemalloc>") || has(b"MALLOC_CONF") {
        Some(Allocator::Jemalloc)
    } else if has(b"rpmalloc") {
        Some(Allocator::Rpmalloc)
    } else if has(b"Scudo ERROR") {
        Some(Allocator::Scudo)
    } else {
        None
    }
}

/// Whether a package brings such a library.
pub(super) fn is_package(name: &str) -> bool {
    name.ends_with(SUFFIX)
}

/// What world, the packages, the two files and the library say against each other. `services` and `shells` are what the two files export;
/// `dinit` says whether the root has services at all.
pub(super) fn contradictions(
    wanted: &[&str],
    installed: &[&str],
    services: Option<&str>,
    shells: Option<&str>,
    found: Option<&Preload>,
) -> Vec<String> {
    let mut out = Vec::new();
    for name in wanted.iter().filter(|name| !installed.contains(name)) {
        out.push(format!("{name} is in world but not installed"));
    }
    if installed.len() > 1 {
        out.push(format!(
            "more than one allocator is installed for all programs: {}",
            installed.join(" ")
        ));
    }
    if services != shells {
        let word = |value: Option<&str>| value.unwrap_or("nothing").to_owned();
        out.push(format!(
            "/{ENVIRONMENT} preloads {} for services, /{PROFILE} {} for shells",
            word(services),
            word(shells)
        ));
    }
    match found {
        Some(preload) if !preload.present => out.push(format!(
            "{} is to be preloaded and is not there: programs run without it",
            preload.library
        )),
        None if !installed.is_empty() => out.push(format!(
            "{} is installed, and nothing preloads it",
            installed.join(" ")
        )),
        _ => {}
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exports() {
        for (text, value) in [
            ("LD_PRELOAD=/usr/lib/a.so\n", Some("/usr/lib/a.so")),
            ("# LD_PRELOAD=/no\nPATH=/bin\n", None),
            (
                "export LD_PRELOAD=\"/a.so\"\nexport LD_PRELOAD=/b.so",
                Some("/b.so"),
            ),
            ("LD_PRELOAD=\n", None),
        ] {
            assert_eq!(exported(text), value, "{text}");
        }
    }

    #[test]
    fn what_does_not_agree() {
        let there = Preload {
            library: "/a.so".into(),
            present: true,
            allocator: None,
        };
        let gone = Preload {
            present: false,
            ..there.clone()
        };
        let a: &[&str] = &["a-global"];
        let path = Some("/a.so");
        for (wanted, installed, services, shells, found, problems) in [
            (a, a, path, path, Some(&there), 0),
            (&[], &[], None, None, None, 0),
            (a, &[], None, None, None, 1),
            (a, &["a-global", "b-global"], path, path, Some(&there), 1),
            (a, a, path, None, Some(&there), 1),
            (a, a, path, path, Some(&gone), 1),
            (a, a, None, None, None, 1),
        ] {
            let said = contradictions(wanted, installed, services, shells, found);
            assert_eq!(said.len(), problems, "{wanted:?} {installed:?}: {said:?}");
        }
    }
}
