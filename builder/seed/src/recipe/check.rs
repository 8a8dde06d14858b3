//! From what was typed to what it means, collecting every fault on the way.

use super::{
    BinaryVersion, DEFAULT_EPOCH, Entry, Node, Origin, PackageRecipe, Patterns, Recipe, Source, Step,
    position, typed,
};
use crate::error::nearest;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// A recipe being checked.
pub(super) struct Check<'a> {
    pub file: &'a Path,
    pub text: &'a str,
    /// One line each, starting with file and line.
    pub faults: Vec<String>,
}

impl Check<'_> {
    pub fn fault(&mut self, span: Option<Range<usize>>, what: impl AsRef<str>) {
        let place = position(self.file, self.text, span);
        self.faults.push(format!("{place}: {}", what.as_ref()));
    }

    pub fn recipe(&mut self, typed: typed::Recipe) -> Recipe {
        let name = typed.name.get_ref().clone();
        let stem = self
            .file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name != stem {
            self.fault(
                Some(typed.name.span()),
                format!("name is {name:?} but the file is {stem}.toml; they must be equal"),
            );
        }
        if !is_package_name(&name) {
            self.fault(Some(typed.name.span()), format!("{name:?} is not a package name"));
        }
        if !is_version(typed.version.get_ref()) {
            let text = format!("{:?} is not an apk version, as 1.2.3-r0", typed.version.get_ref());
            self.fault(Some(typed.version.span()), text);
        }
        if typed.step.is_empty() && !typed.source.is_empty() {
            self.fault(None, "there are sources but no [[step]] that uses them");
        }
        let mut needs = Vec::new();
        for need in &typed.needs {
            if *need.get_ref() == name {
                self.fault(Some(need.span()), "a recipe cannot need itself");
            } else if needs.contains(need.get_ref()) {
                self.fault(Some(need.span()), format!("{} is needed twice", need.get_ref()));
            } else {
                needs.push(need.get_ref().clone());
            }
        }
        let sysroot = self.patterns(&typed.sysroot);
        let unpackaged = self.patterns(&typed.unpackaged);
        let sources: Vec<Source> = typed.source.into_iter().filter_map(|s| self.source(s)).collect();
        let mut steps: Vec<Step> = Vec::new();
        for step in typed.step {
            let span = step.span();
            let step = step.into_inner();
            if steps.iter().any(|s| s.name == step.name) {
                self.fault(Some(span), format!("there are two steps named {:?}", step.name));
            } else if step.name.is_empty() || step.run.trim().is_empty() {
                self.fault(Some(span), "a step needs a name and something to run");
            } else if step.run.contains('\0') {
                self.fault(Some(span), "a script cannot hold a NUL byte");
            } else {
                steps.push(Step {
                    name: step.name,
                    run: step.run,
                });
            }
        }
        let mut packages: Vec<PackageRecipe> = Vec::new();
        for package in typed.package {
            let span = package.span();
            let package = self.package(package);
            if packages.iter().any(|p| p.name == package.name) {
                self.fault(
                    Some(span),
                    format!("there are two packages named {}", package.name),
                );
            }
            packages.push(package);
        }
        Recipe {
            name,
            version: typed.version.into_inner(),
            summary: typed.summary,
            url: typed.url,
            license: typed.license,
            maintainer: typed.maintainer,
            needs,
            tools: typed.tools,
            cost: typed.cost,
            epoch: typed.epoch.unwrap_or(DEFAULT_EPOCH),
            sysroot,
            unpackaged,
            skip_if: typed.skip_if,
            sources,
            steps,
            packages,
        }
    }

    fn patterns(&mut self, typed: &[Spanned<String>]) -> Patterns {
        let mut all = Vec::new();
        for text in typed {
            match Patterns::new([text.get_ref().as_str()]) {
                Ok(one) => all.extend(one.0),
                Err(why) => self.fault(Some(text.span()), why),
            }
        }
        Patterns(all)
    }

    fn relative(&mut self, span: &Range<usize>, key: &str, text: &str) -> PathBuf {
        if !is_relative(text) {
            self.fault(
                Some(span.clone()),
                format!("{key} = {text:?} must be a relative path without empty, . or .. parts"),
            );
        }
        PathBuf::from(text)
    }

    fn source(&mut self, typed: Spanned<typed::Source>) -> Option<Source> {
        let span = typed.span();
        let typed = typed.into_inner();
        let kind = typed.kind.get_ref().clone();
        const COMMON: [&str; 5] = ["kind", "unpack", "patches", "strip", "raw"];
        let own: &[&str] = match kind.as_str() {
            "debian-source" => &["source", "file", "component", "version", "suite", "sha256"],
            "debian-binary" => &[
                "package",
                "version",
                "newest-matching",
                "suite",
                "arch",
                "file",
                "sha256",
            ],
            "crate" => &["name", "version", "sha256"],
            "tree" => &["path", "paths", "exclude", "crates"],
            _ => {
                let known = ["debian-source", "debian-binary", "crate", "tree"];
                let hint = nearest(&kind, known).map(|k| format!("; did you mean {k:?}?"));
                self.fault(
                    Some(typed.kind.span()),
                    format!(
                        "unknown kind of source {kind:?}{}",
                        hint.unwrap_or_else(|| format!("; known: {}", known.join(", ")))
                    ),
                );
                return None;
            }
        };
        for (key, given) in [
            ("sha256", typed.sha256.is_some()),
            ("file", typed.file.is_some()),
            ("source", typed.source.is_some()),
            ("component", typed.component.is_some()),
            ("package", typed.package.is_some()),
            ("name", typed.name.is_some()),
            ("version", typed.version.is_some()),
            ("newest-matching", typed.newest_matching.is_some()),
            ("suite", typed.suite.is_some()),
            ("arch", typed.arch.is_some()),
            ("path", typed.path.is_some()),
            ("paths", !typed.paths.is_empty()),
            ("exclude", !typed.exclude.is_empty()),
            ("crates", !typed.crates.is_empty()),
        ] {
            if given && !own.contains(&key) {
                self.fault(
                    Some(span.clone()),
                    format!(
                        "the key `{key}` means nothing for kind {kind:?}; its keys are {}, {}",
                        COMMON.join(", "),
                        own.join(", ")
                    ),
                );
            }
        }
        let before = self.faults.len();
        let required = |check: &mut Self, key: &str, value: Option<String>| -> String {
            if value.is_none() {
                check.fault(
                    Some(span.clone()),
                    format!("a source of kind {kind:?} needs the key `{key}`"),
                );
            }
            value.unwrap_or_default()
        };
        let unpack = required(self, "unpack", typed.unpack);
        let origin = match kind.as_str() {
            "debian-source" => Origin::DebianSource {
                source: required(self, "source", typed.source),
                file: required(self, "file", typed.file),
                component: typed.component.unwrap_or_else(|| "main".into()),
                suite: typed.suite,
                sha256: required(self, "sha256", typed.sha256),
            },
            "debian-binary" => {
                let package = required(self, "package", typed.package);
                let version = required(self, "version", typed.version);
                let sha256 = required(self, "sha256", typed.sha256);
                let version = if version == "newest" {
                    if sha256 != "from-index" || typed.file.is_some() {
                        self.fault(
                            Some(span.clone()),
                            "version = \"newest\" goes with sha256 = \"from-index\" and without file",
                        );
                    }
                    BinaryVersion::Newest {
                        matching: typed.newest_matching.unwrap_or_default(),
                    }
                } else {
                    if sha256 == "from-index" || typed.newest_matching.is_some() {
                        self.fault(
                            Some(span.clone()),
                            "sha256 = \"from-index\" and newest-matching go with version = \"newest\" only",
                        );
                    }
                    BinaryVersion::Pinned {
                        version,
                        file: typed.file,
                        sha256,
                    }
                };
                Origin::DebianBinary {
                    package,
                    version,
                    suite: typed.suite,
                    arch: typed.arch,
                }
            }
            "crate" => Origin::Crate {
                name: required(self, "name", typed.name),
                version: required(self, "version", typed.version),
                sha256: required(self, "sha256", typed.sha256),
            },
            _ => {
                let path = required(self, "path", typed.path);
                // A missing path is told already.
                let path = if path == "." || path.is_empty() {
                    PathBuf::new()
                } else {
                    self.relative(&span, "path", &path)
                };
                if !typed.crates.is_empty() && path != Path::new("") {
                    self.fault(Some(span.clone()), "`crates` goes with path = \".\"");
                }
                if !typed.crates.is_empty() && (!typed.paths.is_empty() || !typed.exclude.is_empty()) {
                    self.fault(
                        Some(span.clone()),
                        "`crates` chooses the files; drop `paths` and `exclude`",
                    );
                }
                let paths = typed
                    .paths
                    .iter()
                    .map(|p| self.relative(&span, "paths", p))
                    .collect();
                let exclude = Patterns::new(typed.exclude.iter().map(String::as_str)).unwrap_or_else(|why| {
                    self.fault(Some(span.clone()), why);
                    Patterns::default()
                });
                Origin::Tree {
                    path,
                    paths,
                    exclude,
                    crates: typed.crates,
                }
            }
        };
        if self.faults.len() > before {
            return None;
        }
        let sha256 = match &origin {
            Origin::DebianSource { sha256, .. } | Origin::Crate { sha256, .. } => Some(sha256),
            Origin::DebianBinary {
                version: BinaryVersion::Pinned { sha256, .. },
                ..
            } => Some(sha256),
            _ => None,
        };
        if let Some(sha256) = sha256
            && !is_sha256(sha256)
        {
            self.fault(
                Some(span.clone()),
                format!("sha256 = {sha256:?} is not 64 lower-case hex digits"),
            );
        }
        match &origin {
            Origin::DebianSource {
                source,
                file,
                component,
                ..
            } => {
                for (key, text) in [("source", source), ("file", file), ("component", component)] {
                    if !is_file_name(text) {
                        self.fault(Some(span.clone()), format!("{key} = {text:?} is not a file name"));
                    }
                }
            }
            Origin::DebianBinary { package, version, .. } => {
                if !is_file_name(package) {
                    self.fault(
                        Some(span.clone()),
                        format!("package = {package:?} is not a package name"),
                    );
                }
                if let BinaryVersion::Pinned { file: Some(file), .. } = version {
                    self.relative(&span, "file", file);
                }
            }
            Origin::Crate { name, version, .. } => {
                for (key, text) in [("name", name), ("version", version)] {
                    if !is_file_name(text) {
                        self.fault(Some(span.clone()), format!("{key} = {text:?} cannot be right"));
                    }
                }
            }
            Origin::Tree { .. } => {
                if typed.raw || typed.strip.is_some() {
                    self.fault(
                        Some(span.clone()),
                        "`raw` and `strip` mean nothing for kind \"tree\"",
                    );
                }
            }
        }
        let strip = typed.strip.unwrap_or(match origin {
            Origin::DebianSource { .. } | Origin::Crate { .. } => 1,
            _ => 0,
        });
        Some(Source {
            unpack: self.relative(&span, "unpack", &unpack),
            patches: typed
                .patches
                .iter()
                .map(|p| self.relative(&span, "patches", p))
                .collect(),
            strip,
            raw: typed.raw,
            origin,
        })
    }

    fn package(&mut self, typed: Spanned<typed::Package>) -> PackageRecipe {
        let span = typed.span();
        let typed = typed.into_inner();
        if !is_package_name(&typed.name) {
            self.fault(
                Some(span.clone()),
                format!("{:?} is not a package name", typed.name),
            );
        }
        if let Some(version) = &typed.version
            && !is_version(version)
        {
            self.fault(
                Some(span.clone()),
                format!("{version:?} is not an apk version, as 1.2.3-r0"),
            );
        }
        const MOMENTS: [&str; 7] = [
            "trigger",
            "pre-install",
            "post-install",
            "pre-deinstall",
            "post-deinstall",
            "pre-upgrade",
            "post-upgrade",
        ];
        for moment in typed.scripts.keys() {
            if !MOMENTS.contains(&moment.as_str()) {
                let hint = nearest(moment, MOMENTS).map(|m| format!("; did you mean `{m}`?"));
                self.fault(
                    Some(span.clone()),
                    format!("unknown script `{moment}`{}", hint.unwrap_or_default()),
                );
            }
        }
        if !typed.triggers.is_empty() && !typed.scripts.contains_key("trigger") {
            self.fault(Some(span.clone()), "there are triggers but no script `trigger`");
        }
        let mut seen = BTreeSet::new();
        let mut entries = Vec::new();
        for entry in typed.entry {
            if !seen.insert(entry.get_ref().path.clone()) {
                self.fault(
                    Some(entry.span()),
                    format!("two entries for {}", entry.get_ref().path),
                );
            }
            entries.extend(self.entry(entry));
        }
        PackageRecipe {
            files: self.patterns(&typed.files),
            name: typed.name,
            version: typed.version,
            description: typed.description,
            url: typed.url,
            license: typed.license,
            arch: typed.arch,
            depends: typed.depends,
            provides: typed.provides,
            replaces: typed.replaces,
            replaces_priority: typed.replaces_priority,
            provider_priority: typed.provider_priority,
            install_if: typed.install_if,
            recommends: typed.recommends,
            triggers: typed.triggers,
            scripts: typed.scripts.into_iter().collect(),
            entries,
            elf_scan: typed.elf_scan.unwrap_or(true),
            so_ignore: typed.so_ignore,
        }
    }

    fn entry(&mut self, typed: Spanned<typed::Entry>) -> Option<Entry> {
        let span = typed.span();
        let typed = typed.into_inner();
        let before = self.faults.len();
        self.relative(&span, "path", &typed.path);
        let numbers = typed.major.zip(typed.minor);
        let node = match typed.kind.as_deref() {
            None => None,
            Some("dir") => Some(Node::Directory),
            Some("fifo") => Some(Node::Fifo),
            Some("symlink") => match &typed.target {
                Some(target) if !target.is_empty() => Some(Node::Symlink(target.clone())),
                _ => {
                    self.fault(Some(span.clone()), "an entry of kind \"symlink\" needs `target`");
                    None
                }
            },
            Some(kind @ ("char" | "block")) => match numbers {
                Some((major, minor)) if kind == "char" => Some(Node::Char(major, minor)),
                Some((major, minor)) => Some(Node::Block(major, minor)),
                None => {
                    self.fault(
                        Some(span.clone()),
                        format!("an entry of kind {kind:?} needs `major` and `minor`"),
                    );
                    None
                }
            },
            Some(other) => {
                let known = ["dir", "char", "block", "fifo", "symlink"];
                self.fault(
                    Some(span.clone()),
                    format!("unknown kind of entry {other:?}; known: {}", known.join(", ")),
                );
                None
            }
        };
        let device = matches!(node, Some(Node::Char(..) | Node::Block(..)));
        if (typed.major.is_some() || typed.minor.is_some()) && !device {
            self.fault(
                Some(span.clone()),
                "`major` and `minor` go with kind \"char\" or \"block\"",
            );
        }
        if typed.target.is_some() && !matches!(node, Some(Node::Symlink(_))) {
            self.fault(Some(span.clone()), "`target` goes with kind \"symlink\"");
        }
        let mode = typed.mode.and_then(|text| match u16::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o7777 && !text.starts_with('+') => Some(mode),
            _ => {
                self.fault(
                    Some(span.clone()),
                    format!("mode = {text:?} is not octal, as \"4755\""),
                );
                None
            }
        });
        let text = |value: Option<String>| value.unwrap_or_else(|| "root".into());
        (self.faults.len() == before).then(|| Entry {
            path: typed.path,
            node,
            mode,
            owner: text(typed.owner),
            group: text(typed.group),
        })
    }
}

/// Whether a path is relative and stays below its root.
fn is_relative(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\0', '\n'])
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn is_file_name(name: &str) -> bool {
    is_relative(name) && !name.contains('/')
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_package_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+._-".contains(&b))
}

/// `1.2.6-r0`: the apk version with a revision, which packages must have.
fn is_version(version: &str) -> bool {
    let Some((upstream, revision)) = version.rsplit_once("-r") else {
        return false;
    };
    !revision.is_empty()
        && revision.bytes().all(|b| b.is_ascii_digit())
        && upstream.starts_with(|c: char| c.is_ascii_digit())
        && upstream
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._~".contains(&b))
}
