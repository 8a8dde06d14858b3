//! Repositories of a definition, with what this run takes from elsewhere.

use std::path::{Component, Path, PathBuf};

use super::typed::{self, RepositoriesFile, RepositoryTable};
use super::{Location, Overrides, Project, Repository};
use crate::error::{Error, Kind, Result};

/// The repositories of `configs/repositories/DEFINITION.toml` for `arch`.
pub fn resolve(project: &Project, definition: &str, arch: &str) -> Result<Vec<Repository>> {
    let path = typed::file(&project.configs(), "repositories", definition)?;
    let file: RepositoriesFile = typed::read(&path)?;
    let tables = file.repository.into_iter().enumerate();
    tables
        .map(|(number, table)| {
            let name = format!("{definition}/{}", number + 1);
            one(project, name, &table, arch).map_err(|error| error.context(path.display()))
        })
        .collect()
}

fn one(project: &Project, name: String, table: &RepositoryTable, arch: &str) -> Result<Repository> {
    let wrong = |message: String| Error::new(Kind::Input, message);
    let expand = |text: &str| text.replace("${arch}", arch).trim_end_matches('/').to_owned();
    let canonical = expand(&table.location);
    let mut texts = vec![canonical.clone()];
    texts.extend(table.mirrors.iter().map(|mirror| expand(mirror)));
    let replaced = project.overrides.apply(&texts);
    let elsewhere = replaced.is_some();
    let mut locations = Vec::new();
    for text in replaced.as_ref().unwrap_or(&texts) {
        locations.push(location(text)?);
    }
    let location = join(locations).ok_or_else(|| {
        wrong(format!(
            "`{canonical}`: only servers (https, http) can be mirrors of each other"
        ))
    })?;
    if table.unsigned && !matches!(location, Location::Directory(_)) {
        return Err(wrong(format!(
            "`{canonical}`: only a local folder may be unsigned"
        )));
    }
    if table.in_root && !(canonical.starts_with("https://") || canonical.starts_with("http://")) {
        return Err(wrong(format!(
            "`{canonical}`: `in-root` is for URLs of servers, which a running root can reach"
        )));
    }
    let mut keys = Vec::new();
    for key in table.keys.iter().filter(|key| *key != "seed:") {
        keys.extend(key_files(&project.configs(), &key.replace("${arch}", arch))?);
    }
    let trusted = !keys.is_empty() || (elsewhere && !project.overrides.trust.is_empty());
    if !trusted && location != Location::Seed && !table.unsigned {
        return Err(wrong(format!("`{canonical}` has no keys")).hint("add `keys = [\"keys/NAME.pub\"]`"));
    }
    Ok(Repository {
        name,
        location,
        canonical,
        layout: table.layout,
        tag: table.tag.clone(),
        keys,
        guests: if elsewhere {
            project.overrides.trust.clone()
        } else {
            Vec::new()
        },
        unsigned: table.unsigned,
        in_root: table.in_root,
    })
}

fn location(text: &str) -> Result<Location> {
    if text == "seed:" {
        return Ok(Location::Seed);
    }
    if text.starts_with("https://") || text.starts_with("http://") {
        return Ok(Location::Http(vec![text.to_owned()]));
    }
    if let Some(path) = lycia_apk::repositories::local_path(text).filter(|path| path.starts_with('/')) {
        return Ok(Location::Directory(PathBuf::from(path)));
    }
    Err(Error::new(Kind::Input, format!("`{text}` is no location"))
        .hint("a location is seed:, an absolute path, or a URL of https, http or file"))
}

/// Several servers as one location; nothing else can be several.
fn join(locations: Vec<Location>) -> Option<Location> {
    let mut locations = locations.into_iter();
    let mut joined = locations.next()?;
    for next in locations {
        match (&mut joined, next) {
            (Location::Http(urls), Location::Http(more)) => urls.extend(more),
            _ => return None,
        }
    }
    Some(joined)
}

impl Overrides {
    /// From pairs `FROM=TO` and files of keys.
    ///
    /// # Errors
    /// When a pair is none, or a key is given and no mirror.
    pub fn new(mirrors: &[String], trust: &[PathBuf]) -> Result<Overrides> {
        let usage = |message: String| Error::new(Kind::Usage, message);
        let mut pairs = Vec::new();
        for text in mirrors {
            let (from, to) = text
                .split_once('=')
                .filter(|(from, to)| !from.is_empty() && !to.is_empty())
                .ok_or_else(|| {
                    usage(format!("`--mirror {text}` is not FROM=TO"))
                        .hint("--mirror https://repo.example=http://127.0.0.1:8080")
                })?;
            pairs.push((from.to_owned(), to.to_owned()));
        }
        if pairs.is_empty() && !trust.is_empty() {
            return Err(
                usage("--trust is about repositories that --mirror replaces".to_owned())
                    .hint("a key that is always trusted belongs into the repository's definition"),
            );
        }
        Ok(Overrides {
            mirrors: pairs,
            trust: trust.to_vec(),
        })
    }

    /// The locations in place of `texts`; none where nothing is replaced.
    fn apply(&self, texts: &[String]) -> Option<Vec<String>> {
        let replaced: Vec<String> = texts
            .iter()
            .filter_map(|text| {
                self.mirrors.iter().find_map(|(from, to)| {
                    let from = from.trim_end_matches('/');
                    let rest = text.strip_prefix(from)?;
                    let whole = rest.is_empty() || rest.starts_with('/');
                    whole.then(|| format!("{}{rest}", to.trim_end_matches('/')))
                })
            })
            .collect();
        (!replaced.is_empty()).then_some(replaced)
    }

    /// Refuses a replacement that is of none of the repositories, which would be a slip of the pen.
    ///
    /// # Errors
    /// As said.
    pub fn check<'r>(&self, repositories: impl Iterator<Item = &'r Repository>) -> Result<()> {
        let known: Vec<&str> = repositories.map(|one| one.canonical.as_str()).collect();
        for (from, _) in &self.mirrors {
            let from = from.trim_end_matches('/');
            if !known.iter().any(|location| location.starts_with(from)) {
                return Err(
                    Error::new(Kind::Usage, format!("--mirror: no repository is below {from}"))
                        .hint(format!("there are: {}", known.join(", "))),
                );
            }
        }
        Ok(())
    }
}

/// The key files that `pattern` names below `configs`, sorted.
fn key_files(configs: &Path, pattern: &str) -> Result<Vec<PathBuf>> {
    let relative = Path::new(pattern);
    if relative
        .components()
        .any(|part| !matches!(part, Component::Normal(_)))
    {
        return Err(Error::new(
            Kind::Input,
            format!("`{pattern}` is not a path below configs"),
        ));
    }
    let path = configs.join(relative);
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let mut found = Vec::new();
    match name.split_once('*') {
        None => found.extend(path.is_file().then(|| path.clone())),
        Some((front, back)) => {
            let folder = path.parent().unwrap_or(configs);
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let fits =
                    name.len() >= front.len() + back.len() && name.starts_with(front) && name.ends_with(back);
                if fits && entry.path().is_file() {
                    found.push(entry.path());
                }
            }
        }
    }
    if found.is_empty() {
        return Err(Error::new(
            Kind::Input,
            format!("there is no key {}", path.display()),
        )
        .hint(
            "put the public key of the repository there: a system or container of the distribution has it in /etc/apk/keys",
        ));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_what_they_look_like() {
        let folder = || Some(Location::Directory(PathBuf::from("/srv/repository")));
        for (text, expected) in [
            ("seed:", Some(Location::Seed)),
            ("/srv/repository", folder()),
            ("file:/srv/repository", folder()),
            ("file:///srv/repository", folder()),
            ("file://localhost/srv/repository", folder()),
            (
                "https://h/r",
                Some(Location::Http(vec!["https://h/r".to_owned()])),
            ),
            ("file://other/srv/repository", None),
            ("file:srv/repository", None),
            ("srv/repository", None),
            ("ftp://h/r", None),
            ("", None),
        ] {
            assert_eq!(location(text).ok(), expected, "{text}");
        }
    }
}
