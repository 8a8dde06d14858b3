//! Which of two modules of one name counts: `depmod.d` (depmod.d(5)).

use lycia_tree::{Follow, Tree};

use crate::glob::glob;
use crate::{RootError, text};

const FOLDERS: &[&str] = &[
    "etc/depmod.d",
    "run/depmod.d",
    "usr/local/lib/depmod.d",
    "usr/lib/depmod.d",
    "lib/depmod.d",
];

/// What `depmod.d` says about one kernel.
#[derive(Default, Debug)]
pub struct Priority {
    /// Folders, the best first; `built-in` stands for all others.
    search: Vec<String>,
    /// Paths without their ends that win in any case.
    overrides: Vec<String>,
    /// Names of folders that hold no modules.
    exclude: Vec<String>,
}

impl Priority {
    /// Reads the configuration for the kernel `version`.
    pub fn read(tree: &Tree, version: &str) -> Result<Priority, RootError> {
        let mut priority = Priority::default();
        for (file, text) in text::files(tree, FOLDERS)? {
            priority.parse(tree, version, &file, &text)?;
        }
        if priority.search.is_empty() {
            priority.search.push("updates".to_owned());
        }
        Ok(priority)
    }

    fn parse(&mut self, tree: &Tree, version: &str, file: &str, text: &str) -> Result<(), RootError> {
        let text = text.replace("\\\n", " ");
        for (number, line) in text.lines().enumerate() {
            let wrong = |what: String| RootError::Line {
                file: file.to_owned(),
                line: number + 1,
                what,
            };
            if line.starts_with('#') {
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            let matches = |pattern: &str| pattern == "*" || glob(pattern.as_bytes(), version.as_bytes());
            match words.next() {
                None | Some("include" | "make_map_files") => {}
                Some("search") => self.search.extend(words.map(str::to_owned)),
                Some("exclude") => self.exclude.extend(words.map(str::to_owned)),
                Some("override") => match (words.next(), words.next(), words.next()) {
                    (Some(name), Some(pattern), Some(folder)) => {
                        if matches(pattern) {
                            self.overrides.push(format!("{folder}/{name}"));
                        }
                    }
                    _ => return Err(wrong("`override` takes a module, a version and a folder".into())),
                },
                Some("external") => match (words.next(), words.next()) {
                    (Some(pattern), Some(folder)) => {
                        if matches(pattern) && tree.find(folder.as_bytes(), Follow::All)?.is_some() {
                            return Err(wrong(format!(
                                "modules outside of the kernel's folder ({folder}) cannot be indexed"
                            )));
                        }
                    }
                    _ => return Err(wrong("`external` takes a version and a folder".into())),
                },
                Some(other) => return Err(wrong(format!("`{}` is no command", other.escape_debug()))),
            }
        }
        Ok(())
    }

    /// Whether modules are looked for in a folder of that name. Chimera's kmod is told to leave out
    /// `apk-dist`, whose files have their places elsewhere, and so it is where kmod is not installed.
    pub fn enters(&self, folder: &str) -> bool {
        !matches!(folder, "build" | "source" | "apk-dist") && !self.exclude.iter().any(|name| name == folder)
    }

    /// How much a module's file counts among those of its name: the larger, the more.
    pub fn of(&self, path: &str) -> usize {
        let folder_end = path.rfind('/').map_or(0, |at| at + 1);
        let end = path[folder_end..]
            .find('.')
            .map_or(path.len(), |dot| folder_end + dot);
        if self.overrides.iter().any(|name| *name == path[..end]) {
            return usize::MAX;
        }
        let below = |folder: &String| {
            path.strip_prefix(folder.as_str())
                .is_some_and(|rest| rest.starts_with('/'))
        };
        let found = self.search.iter().position(below);
        let place = found.or_else(|| self.search.iter().position(|folder| folder == "built-in"));
        place.map_or(0, |at| self.search.len() - at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lycia_tree::{Metadata, Timestamp};

    fn read(text: &str) -> Result<Priority, RootError> {
        let time = Timestamp::from_seconds(0);
        let mut tree = Tree::new(Metadata::new(0o755, time));
        let file = Metadata::new(0o644, time);
        tree.write(b"usr/lib/depmod.d/a.conf", file, text.into()).unwrap();
        tree.make_directories(b"srv/modules", Metadata::new(0o755, time))
            .unwrap();
        Priority::read(&tree, "6.1.0")
    }

    #[test]
    fn folders_have_an_order() {
        let usual = read("").unwrap();
        assert!(usual.of("updates/a.ko") > usual.of("kernel/a.ko"));
        assert!(usual.of("updatesx/a.ko") == usual.of("kernel/a.ko"));
        let set = read(
            "# c\nsearch first built-in \\\n last\nexclude old\noverride b-x 6.1* kernel/deep\noverride c 5.* kernel\n",
        )
        .unwrap();
        let order = ["kernel/deep/b-x.ko.xz", "first/b.ko", "kernel/c.ko", "last/b.ko"];
        assert!(
            order.windows(2).all(|pair| set.of(pair[0]) > set.of(pair[1])),
            "{set:?}"
        );
        assert!(set.enters("kernel") && !set.enters("old") && !set.enters("build"));
    }

    #[test]
    fn wrong_lines_are_named() {
        for (line, part) in [
            ("override a", "takes a module"),
            ("external *", "takes a version"),
            ("external * /srv/modules", "outside"),
            ("serch a", "`serch` is no command"),
        ] {
            let error = read(&format!("\n{line}\n")).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains(part), "{error}");
        }
        assert!(read("external * /nowhere\ninclude x\n").is_ok());
    }
}
