//! Repository configuration: which indexes there are and where their packages lie (apk-v3 facts,
//! sections 8 and 16).
//!
//! A line is empty, a `#` comment, a variable
//! `set [-default] KEY=VALUE`, or a repository
//! `[ndx|v2|v3] [@tag] URL [component…]`. `${KEY}` stands for a variable, `${APK_ARCH}` for the primary
//! architecture. The first error of a file ends that file: earlier lines stay, later files are read.
//!
//! ```
//! use lycia_apk::metadata::PackageInfo;
//! use lycia_apk::repositories::Repositories;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut repositories = Repositories::new("x86_64");
//! let text = "set mirror=https://mirror.example\nv3 @user ${mirror}/current/user\n";
//! repositories.add_file("/etc/apk/repositories", text)?;
//! let [user] = repositories.list() else { panic!("one line names one repository") };
//! assert_eq!(user.index_url, "https://mirror.example/current/user/x86_64/Packages.adb");
//! assert_eq!(user.tags, [Some("user".to_owned())]);
//! let package = PackageInfo {
//!     name: "hello".into(),
//!     version: "1.0-r0".into(),
//!     arch: "x86_64".into(),
//!     ..PackageInfo::default()
//! };
//! assert_eq!(
//!     user.package_url(&package, None)?,
//!     "https://mirror.example/current/user/x86_64/hello-1.0-r0.apk"
//! );
//! let error = repositories.add_file("/etc/apk/repositories", "v4 /srv").unwrap_err();
//! assert_eq!(error.line, 1);
//! # Ok(())
//! # }
//! ```

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::index;
use crate::metadata::PackageInfo;
use crate::package::PackageError;
use crate::solver::{MAX_REPOSITORIES, MAX_TAGS};

/// The longest URL or value after its variables are replaced, in bytes.
const MAX_EXPANDED: usize = 4095;
/// Where packages lie below a repository with one folder per architecture.
const DEFAULT_TREE_SPEC: &str = "${arch}/${name}-${version}.apk";

/// How a repository is laid out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Layout {
    /// `base/ARCH/APKINDEX.tar.gz`, and packages in a folder per architecture. The index may be of either
    /// format.
    V2,
    /// `base/ARCH/Packages.adb`, and packages in a folder per architecture.
    V3,
    /// The URL is that of an index; packages lie beside it.
    Index,
}

/// A repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repository {
    /// How it is laid out.
    pub layout: Layout,
    /// Where packages are looked for, without a slash at the end.
    pub base: String,
    /// Where its index is: a URL or an absolute path.
    pub index_url: String,
    /// The tags under which it was configured, in order; `None` is "without tag".
    pub tags: Vec<Option<String>>,
}

impl Repository {
    /// Whether the index must be of the v3 format; otherwise it may be of either.
    pub fn requires_v3(&self) -> bool {
        self.index_url.ends_with(".adb")
    }

    /// The path of the index if it is a local file.
    pub fn local_index(&self) -> Option<&str> {
        local_path(&self.index_url)
    }

    /// The URL or path of a package's file. `spec` is the `pkgname-spec` of the index, if it has one.
    pub fn package_url(&self, info: &PackageInfo, spec: Option<&str>) -> Result<String, PackageError> {
        let spec = spec.unwrap_or(match self.layout {
            Layout::V2 | Layout::V3 => DEFAULT_TREE_SPEC,
            Layout::Index => index::DEFAULT_SPEC,
        });
        let path = index::expand_spec(spec, info)?;
        Ok(if path.contains("://") {
            path
        } else {
            format!("{}/{path}", self.base)
        })
    }

    /// The name of the index in a package cache.
    pub fn cached_index_name(&self) -> String {
        let digest = Sha256::digest(self.index_url.as_bytes());
        let digits: String = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("APKINDEX.{digits}.tar.gz")
    }
}

/// The name of a package's file in a package cache; nothing without an identity, or where the name or
/// version would lead out of the cache.
pub fn cached_package_name(info: &PackageInfo) -> Option<String> {
    info.hashes.as_ref()?;
    index::expand_spec("${name}-${version}.${hash:8}.apk", info).ok()
}

/// The path that a URL means if it is local: no scheme, or `file:`.
pub fn local_path(url: &str) -> Option<&str> {
    if let Some(path) = url.strip_prefix("file:") {
        return Some(
            path.strip_prefix("//localhost")
                .or_else(|| path.strip_prefix("//"))
                .unwrap_or(path),
        );
    }
    (!url.contains("://") && !url.starts_with("test:")).then_some(url)
}

/// What is wrong with a line.
#[derive(Clone, PartialEq, Eq, Error, Debug)]
pub enum Problem {
    /// Blanks in front, or a word is missing.
    #[error("expected [ndx|v2|v3] [@tag] URL [component…] or set [-default] KEY=VALUE")]
    Syntax,
    /// A first word that is none of the known ones.
    #[error("unknown keyword {0:?}; expected ndx, v2, v3, set, a tag or a URL")]
    Keyword(String),
    /// An option of `set` that there is not.
    #[error("unknown option {0:?} of set; there is only -default")]
    Option(String),
    /// A bad variable definition.
    #[error(
        "bad variable definition {0:?}; a name has letters, digits and _, starts with a letter and not with APK_"
    )]
    Definition(String),
    /// A variable that nothing set.
    #[error("variable {0} is not defined")]
    UndefinedVariable(String),
    /// `${` that nothing closes, or a length that is no number.
    #[error("bad variable reference in {0:?}; write ${{NAME}} or ${{NAME:length}}")]
    Reference(String),
    /// Too much text.
    #[error("the text grows beyond {MAX_EXPANDED} bytes when its variables are replaced")]
    TooLong,
    /// Neither a URL nor an absolute path.
    #[error("{0:?} is neither a URL nor an absolute path")]
    Url(String),
    /// One too many.
    #[error("there may be {MAX_REPOSITORIES} repositories at most")]
    TooManyRepositories,
    /// One too many.
    #[error("there may be {MAX_TAGS} repository tags at most")]
    TooManyTags,
}

/// A bad line.
#[derive(Clone, PartialEq, Eq, Error, Debug)]
#[error("{file}:{line}: {problem}")]
pub struct LineError {
    /// The name of the file, as given.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: Problem,
}

/// The repositories that configuration names, in order.
#[derive(Clone, Debug)]
pub struct Repositories {
    arch: String,
    variables: BTreeMap<String, String>,
    list: Vec<Repository>,
}

impl Repositories {
    /// Starts without repositories. `arch` is the primary architecture.
    pub fn new(arch: &str) -> Self {
        Repositories {
            arch: arch.into(),
            variables: BTreeMap::from([("APK_ARCH".into(), arch.into())]),
            list: Vec::new(),
        }
    }

    /// What has been configured so far. The place in the list is the repository's number.
    pub fn list(&self) -> &[Repository] {
        &self.list
    }

    /// Gives up the builder for its repositories.
    pub fn into_list(self) -> Vec<Repository> {
        self.list
    }

    /// Adds a repository named on the command line: no keywords; relative paths are allowed.
    pub fn add_argument(&mut self, argument: &str) -> Result<(), LineError> {
        self.line(argument, false).map_err(|problem| LineError {
            file: "<command line>".into(),
            line: 1,
            problem,
        })
    }

    /// Adds lines given on the command line (`--repository-config`). They are independent: a bad one does
    /// not hide those after it. The errors are returned.
    pub fn add_configuration(&mut self, text: &str) -> Vec<LineError> {
        let mut errors = Vec::new();
        for (number, line) in (1..).zip(text.split('\n')) {
            if let Err(problem) = self.line(line, true) {
                errors.push(LineError {
                    file: "<command line>".into(),
                    line: number,
                    problem,
                });
            }
        }
        errors
    }

    /// Adds the lines of a file up to its first error.
    pub fn add_file(&mut self, name: &str, content: &str) -> Result<(), LineError> {
        for (number, line) in (1..).zip(content.split('\n')) {
            self.line(line, true).map_err(|problem| LineError {
                file: name.into(),
                line: number,
                problem,
            })?;
        }
        Ok(())
    }

    fn line(&mut self, line: &str, keywords: bool) -> Result<(), Problem> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (mut word, mut rest) = first_word(line).ok_or(Problem::Syntax)?;
        let mut layout = None;
        if keywords && !word.starts_with(['@', '$']) && !is_url(word) {
            layout = Some(match word {
                "set" => return self.set(rest),
                "ndx" => Layout::Index,
                "v2" => Layout::V2,
                "v3" => Layout::V3,
                _ => return Err(Problem::Keyword(word.into())),
            });
            (word, rest) = first_word(rest).ok_or(Problem::Syntax)?;
        }
        let mut tag = None;
        if let Some(name) = word.strip_prefix('@') {
            tag = Some(name).filter(|name| !name.is_empty()).map(str::to_owned);
            if tag.is_none() {
                return Err(Problem::Syntax);
            }
            (word, rest) = first_word(rest).ok_or(Problem::Syntax)?;
        }
        // The URL's own end decides, not what its variables put there.
        let layout = layout.unwrap_or(match word.ends_with(".adb") || word.ends_with(".tar.gz") {
            true => Layout::Index,
            false => Layout::V2,
        });
        let url = self.expand(word)?;
        let url = url.trim_end_matches('/');
        // Nothing is left of the root directory.
        let root = url.is_empty() && word.starts_with('/') && layout != Layout::Index;
        if !root && (url.is_empty() || (keywords && !is_url(url))) {
            return Err(Problem::Url(url.into()));
        }
        if rest.is_empty() {
            return self.add(layout, url, tag);
        }
        let components = self.expand(rest)?;
        for component in components.split(' ').filter(|component| !component.is_empty()) {
            let slash = if root { "" } else { "/" };
            self.add(layout, &format!("{url}{slash}{component}"), tag.clone())?;
        }
        Ok(())
    }

    fn set(&mut self, line: &str) -> Result<(), Problem> {
        let mut rest = line;
        let mut only_default = false;
        while rest.starts_with('-') {
            let (option, after) = first_word(rest).ok_or(Problem::Syntax)?;
            if option != "-default" {
                return Err(Problem::Option(option.into()));
            }
            only_default = true;
            rest = after;
        }
        let sound = |key: &str| {
            key.starts_with(|c: char| c.is_ascii_alphabetic())
                && key
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
                && !key.starts_with("APK_")
        };
        let (key, value) = rest
            .split_once('=')
            .filter(|(key, _)| sound(key))
            .ok_or_else(|| Problem::Definition(rest.into()))?;
        let value = self.expand(value)?;
        if !(only_default && self.variables.contains_key(key)) {
            self.variables.insert(key.into(), value);
        }
        Ok(())
    }

    /// Replaces variables.
    fn expand(&self, text: &str) -> Result<String, Problem> {
        let bad = || Problem::Reference(text.into());
        let mut expanded = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            expanded.push_str(before);
            let (reference, after) = after.split_once('}').ok_or_else(bad)?;
            let (name, length) = match reference.split_once(':') {
                Some((name, length)) => (name, length.parse().map_err(|_| bad())?),
                None => (reference, usize::MAX),
            };
            let value = self
                .variables
                .get(name)
                .ok_or_else(|| Problem::UndefinedVariable(name.into()))?;
            expanded.extend(value.chars().take(length));
            if expanded.len() > MAX_EXPANDED {
                return Err(Problem::TooLong);
            }
            rest = after;
        }
        expanded.push_str(rest);
        if expanded.len() > MAX_EXPANDED {
            Err(Problem::TooLong)
        } else {
            Ok(expanded)
        }
    }

    fn add(&mut self, layout: Layout, url: &str, tag: Option<String>) -> Result<(), Problem> {
        if let Some(tag) = &tag {
            let mut tags: Vec<&String> = self
                .list
                .iter()
                .flat_map(|known| known.tags.iter().flatten())
                .collect();
            tags.push(tag);
            tags.sort_unstable();
            tags.dedup();
            if tags.len() > MAX_TAGS {
                return Err(Problem::TooManyTags);
            }
        }
        let (base, index_url) = match layout {
            Layout::Index => (
                url.rsplit_once('/').map_or(".", |(base, _)| base).to_owned(),
                url.to_owned(),
            ),
            Layout::V2 | Layout::V3 => {
                let base = url.trim_end_matches('/').to_owned();
                let file = if layout == Layout::V3 {
                    "Packages.adb"
                } else {
                    "APKINDEX.tar.gz"
                };
                let index_url = format!("{base}/{}/{file}", self.arch);
                (base, index_url)
            }
        };
        let same = |known: &&mut Repository| known.base == base && known.index_url == index_url;
        if let Some(known) = self.list.iter_mut().find(same) {
            // The same repository again only gets one more tag.
            if !known.tags.contains(&tag) {
                known.tags.push(tag);
            }
            return Ok(());
        }
        if self.list.len() >= MAX_REPOSITORIES {
            return Err(Problem::TooManyRepositories);
        }
        self.list.push(Repository {
            layout,
            base,
            index_url,
            tags: vec![tag],
        });
        Ok(())
    }
}

/// Splits off the first word and the blanks behind it; nothing when the line starts with a blank.
fn first_word(line: &str) -> Option<(&str, &str)> {
    let (word, rest) = line.split_at(line.find([' ', '\t']).unwrap_or(line.len()));
    (!word.is_empty()).then(|| (word, rest.trim_start_matches([' ', '\t'])))
}

fn is_url(word: &str) -> bool {
    word.starts_with('/') || word.contains("://")
}

/// The folders of a root that hold repository files beside `etc/apk/repositories`, the first shadowing
/// the second.
pub const CONFIGURATION_FOLDERS: [&str; 2] = ["etc/apk/repositories.d", "lib/apk/repositories.d"];

/// Which of the files in the [`CONFIGURATION_FOLDERS`] are read, and in which order: those named `*.list`
/// that are not hidden, sorted by name, one of each name. The folder is given by its place.
pub fn configuration_files<'a>(folders: [&[&'a str]; 2]) -> Vec<(usize, &'a str)> {
    let mut files = BTreeMap::new();
    for (folder, names) in folders.into_iter().enumerate() {
        for name in names {
            if name.ends_with(".list") && !name.starts_with('.') {
                files.entry(*name).or_insert(folder);
            }
        }
    }
    files.into_iter().map(|(name, folder)| (folder, name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Digest;

    fn read(text: &str) -> (Vec<String>, Option<LineError>) {
        let mut repositories = Repositories::new("x86_64");
        let error = repositories.add_file("f", text).err();
        (
            repositories
                .list
                .into_iter()
                .map(|repository| repository.index_url)
                .collect(),
            error,
        )
    }

    #[test]
    fn lines() {
        for (text, urls) in [
            ("", &[][..]),
            ("# x\n\n", &[]),
            ("v3 /", &["/x86_64/Packages.adb"]),
            ("//", &["/x86_64/APKINDEX.tar.gz"]),
            ("/a", &["/a/x86_64/APKINDEX.tar.gz"]),
            ("v2 /a/", &["/a/x86_64/APKINDEX.tar.gz"]),
            ("v3 /a//", &["/a/x86_64/Packages.adb"]),
            ("ndx /a/i", &["/a/i"]),
            ("/a/i.adb", &["/a/i.adb"]),
            ("https://h/i.tar.gz", &["https://h/i.tar.gz"]),
            (
                "v3 https://h/p a b",
                &[
                    "https://h/p/a/x86_64/Packages.adb",
                    "https://h/p/b/x86_64/Packages.adb",
                ],
            ),
            ("set A=/a\n${A}/b", &["/a/b/x86_64/APKINDEX.tar.gz"]),
            ("set A=abcdef\nv3 /${A:2}", &["/ab/x86_64/Packages.adb"]),
            (
                "set A=1\nset -default A=2\nset -default B=3\nv3 /${A}${B}",
                &["/13/x86_64/Packages.adb"],
            ),
            (
                "set A=a  b\nv3 /x ${A}",
                &["/x/a/x86_64/Packages.adb", "/x/b/x86_64/Packages.adb"],
            ),
            ("v3 /${APK_ARCH}", &["/x86_64/x86_64/Packages.adb"]),
            ("set A=\nv3 /a${A}", &["/a/x86_64/Packages.adb"]),
        ] {
            let (found, error) = read(text);
            assert_eq!(
                (found.as_slice(), error),
                (
                    &urls.iter().map(ToString::to_string).collect::<Vec<_>>()[..],
                    None
                ),
                "{text}"
            );
        }
    }

    #[test]
    fn errors_end_a_file() {
        type Check = fn(&Problem) -> bool;
        let cases: [(&str, Check); 14] = [
            (" v3 /a", |p| *p == Problem::Syntax),
            ("v3", |p| *p == Problem::Syntax),
            ("v3 @t", |p| *p == Problem::Syntax),
            ("v3 @ /a", |p| *p == Problem::Syntax),
            ("v4 /a", |p| *p == Problem::Keyword("v4".into())),
            ("v3 a", |p| *p == Problem::Url("a".into())),
            ("ndx ///", |p| *p == Problem::Url(String::new())),
            ("v3 /${X}", |p| *p == Problem::UndefinedVariable("X".into())),
            ("v3 /${X", |p| matches!(p, Problem::Reference(_))),
            ("v3 /${APK_ARCH:x}", |p| matches!(p, Problem::Reference(_))),
            ("set APK_X=1", |p| matches!(p, Problem::Definition(_))),
            ("set 1=1", |p| matches!(p, Problem::Definition(_))),
            ("set X", |p| matches!(p, Problem::Definition(_))),
            ("set -x X=1", |p| *p == Problem::Option("-x".into())),
        ];
        for (line, check) in cases {
            let (found, error) = read(&format!("/before\n{line}\n/after"));
            let error = error.unwrap();
            assert_eq!(found, ["/before/x86_64/APKINDEX.tar.gz"], "{line}");
            assert_eq!((error.file.as_str(), error.line), ("f", 2));
            assert!(check(&error.problem), "{line}: {error}");
        }
    }

    #[test]
    fn variables_cannot_grow_without_bound() {
        let mut text = String::from("set A0=0123456789\n");
        for n in 1..64 {
            text += &format!("set A{n}=${{A{}}}${{A{}}}\n", n - 1, n - 1);
        }
        assert_eq!(read(&text).1.unwrap().problem, Problem::TooLong);
    }

    #[test]
    fn limits() {
        let many: String = (0..33).map(|n| format!("v3 /{n}\n")).collect();
        let (found, error) = read(&many);
        assert_eq!(
            (found.len(), error.unwrap().problem),
            (32, Problem::TooManyRepositories)
        );
        let many: String = (0..16).map(|n| format!("v3 @t{n} /{n}\n")).collect();
        let (found, error) = read(&many);
        assert_eq!((found.len(), error.unwrap().problem), (15, Problem::TooManyTags));
    }

    #[test]
    fn the_same_repository_gets_more_tags() {
        let mut repositories = Repositories::new("x86_64");
        repositories
            .add_file("f", "v3 /a\nv3 @t /a/\nv3 @t /a\nv2 /a")
            .unwrap();
        let list = repositories.into_list();
        assert_eq!(list.len(), 2);
        assert_eq!(list[0].tags, [None, Some("t".to_owned())]);
    }

    #[test]
    fn arguments_and_configuration() {
        let mut repositories = Repositories::new("x86_64");
        repositories.add_argument("@t rel/dir").unwrap();
        repositories.add_argument("x.adb").unwrap();
        assert_eq!(repositories.add_configuration("bad\nv3 /a\nalso bad").len(), 2);
        let list = repositories.list();
        assert_eq!(list[0].index_url, "rel/dir/x86_64/APKINDEX.tar.gz");
        assert_eq!(
            (list[1].base.as_str(), list[1].index_url.as_str()),
            (".", "x.adb")
        );
        assert_eq!(list[2].index_url, "/a/x86_64/Packages.adb");
    }

    #[test]
    fn package_places() {
        let info = PackageInfo {
            name: "feather".into(),
            version: "2-r0".into(),
            arch: "noarch".into(),
            hashes: Some(Digest(vec![0xab; 32])),
            ..PackageInfo::default()
        };
        let mut repositories = Repositories::new("x86_64");
        repositories
            .add_file("f", "v3 https://h/r\nndx /p/q/i.adb\nv2 file:///l")
            .unwrap();
        let list = repositories.list();
        let url = |n: usize, spec| list[n].package_url(&info, spec).unwrap();
        assert_eq!(url(0, None), "https://h/r/noarch/feather-2-r0.apk");
        assert_eq!(url(1, None), "/p/q/feather-2-r0.apk");
        assert_eq!(
            url(0, Some("p/${name:2}/${name}-${hash:4}.apk")),
            "https://h/r/p/fe/feather-abab.apk"
        );
        assert_eq!(url(0, Some("http://m/${name}.apk")), "http://m/feather.apk");
        assert!(list[0].package_url(&info, Some("../${name}.apk")).is_err());
        assert_eq!(cached_package_name(&info).unwrap(), "feather-2-r0.abababab.apk");
        let outside = PackageInfo {
            name: "../x".into(),
            ..info
        };
        assert!(list[0].package_url(&outside, None).is_err());
        assert_eq!(cached_package_name(&outside), None);
        assert!(list[0].requires_v3() && !list[2].requires_v3());
        assert_eq!(list[0].local_index(), None);
        assert_eq!(list[2].local_index(), Some("/l/x86_64/APKINDEX.tar.gz"));
        // The first bytes of `printf https://h/r/x86_64/Packages.adb | sha256sum`.
        assert_eq!(list[0].cached_index_name(), "APKINDEX.44cdcec9.tar.gz");
    }

    #[test]
    fn folders_are_merged_by_name() {
        let merged = configuration_files([&["b.list", ".h.list", "x.txt"], &["b.list", "a.list", "c.list~"]]);
        assert_eq!(merged, [(1, "a.list"), (0, "b.list")]);
    }
}
