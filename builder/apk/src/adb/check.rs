//! What names, versions, texts and paths may look like.
//!
//! apk's builder enforces most of this and its readers nothing, although the text database has no way to
//! escape a newline and paths are followed in a root file system. Here readers and writers both check.

use super::Damage;
use crate::limits::{
    DEPENDENCY_NAME_MAX, DEVICE_MAJOR_MAX, DEVICE_MINOR_MAX, NAME_MAX, OWNER_MAX, PACKAGE_NAME_MAX, PATH_MAX,
    SCRIPT_MAX, TEXT_MAX, XATTR_MAX,
};
use crate::metadata::{Acl, Dependency, FileEntry, FileKind, Match, Package, PackageInfo, ScriptKind};
use crate::version;
use std::collections::{HashMap, HashSet};

fn package_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._+-".contains(&byte)
}

/// Whether a text is a package name: `[A-Za-z0-9][A-Za-z0-9._+-]*`, at most 255 bytes.
pub fn is_package_name(name: &str) -> bool {
    name.len() <= PACKAGE_NAME_MAX
        && name.bytes().all(package_name_byte)
        && name
            .bytes()
            .next()
            .is_some_and(|first| first.is_ascii_alphanumeric())
}

/// Whether a text can name a dependency or something provided: the characters of package names and
/// `, : / [ ]`, at most 1024 bytes.
pub fn is_dependency_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= DEPENDENCY_NAME_MAX
        && name
            .bytes()
            .all(|byte| package_name_byte(byte) || b",:/[]".contains(&byte))
}

/// Refuses what has more bytes than it may, and names the bound.
fn bounded(what: &str, bytes: usize, limit: usize) -> Result<(), Damage> {
    match bytes > limit {
        true => Err(Damage::new(format!(
            "{what} of {bytes} bytes, the limit is {limit}"
        ))),
        false => Ok(()),
    }
}

fn text(field: &str, text: &str) -> Result<(), Damage> {
    bounded("a text", text.len(), TEXT_MAX).map_err(|damage| damage.within(field))?;
    if let Some(character) = text.chars().find(|c| c.is_control()) {
        let problem = format!("contains the control character U+{:04X}", u32::from(character));
        return Err(Damage::new(problem).within(field));
    }
    Ok(())
}

fn quoted(bytes: &[u8]) -> String {
    let mut shown: String = bytes
        .iter()
        .take(80)
        .flat_map(|b| b.escape_ascii())
        .map(char::from)
        .collect();
    if bytes.len() > 80 {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

/// Checks a dependency as it stands in a package or an index: no repository tag, a sound name and version.
pub fn validate_dependency(dependency: &Dependency) -> Result<(), Damage> {
    let Dependency {
        name,
        version,
        op,
        tag,
    } = dependency;
    if name.is_empty() {
        return Err(Damage::new("it has no name"));
    }
    bounded("a dependency name", name.len(), DEPENDENCY_NAME_MAX)?;
    if !is_dependency_name(name) {
        return Err(Damage::new(format!(
            "{} is no valid dependency name",
            quoted(name.as_bytes())
        )));
    }
    if tag.is_some() {
        return Err(Damage::new(format!(
            "{name} has a repository tag, which only world may have"
        )));
    }
    if op.0 & !0x1f != 0 {
        return Err(Damage::new(format!(
            "{name} has unknown comparison bits {:#x}",
            op.0
        )));
    }
    if version.is_empty() {
        return Ok(());
    }
    let digest_match = op.0 & !Match::CONFLICT == Match::LESS | Match::GREATER;
    bounded("the version of a dependency", version.len(), DEPENDENCY_NAME_MAX)
        .map_err(|damage| damage.within(name))?;
    let sound = if digest_match {
        version.bytes().all(|b| b.is_ascii_graphic())
    } else {
        version::is_valid(version)
    };
    if !sound {
        return Err(Damage::new(format!(
            "{name}: {} is no valid version",
            quoted(version.as_bytes())
        )));
    }
    Ok(())
}

/// Checks everything that a package or an index says in its info object, `hashes` excepted.
pub fn validate_info(info: &PackageInfo) -> Result<(), Damage> {
    if info.name.is_empty() {
        return Err(Damage::new("the package has no name").within("name"));
    }
    for (field, what, value) in [
        ("name", "a package name", &info.name),
        ("version", "a version", &info.version),
        ("arch", "an architecture", &info.arch),
    ] {
        bounded(what, value.len(), PACKAGE_NAME_MAX).map_err(|damage| damage.within(field))?;
    }
    if !is_package_name(&info.name) {
        let problem = format!("{} is no valid package name", quoted(info.name.as_bytes()));
        return Err(Damage::new(problem).within("name"));
    }
    if !version::is_valid(&info.version) {
        let problem = format!("{} is no valid version", quoted(info.version.as_bytes()));
        return Err(Damage::new(problem).within("version"));
    }
    // It becomes a part of URLs and is as harmless as a package name there.
    if !info.arch.is_empty() && !is_package_name(&info.arch) {
        let problem = format!("{} is no valid architecture", quoted(info.arch.as_bytes()));
        return Err(Damage::new(problem).within("arch"));
    }
    for (field, value) in [
        ("description", &info.description),
        ("license", &info.license),
        ("origin", &info.origin),
        ("maintainer", &info.maintainer),
        ("url", &info.url),
    ] {
        text(field, value)?;
    }
    if !matches!(info.repo_commit.len(), 0 | 20 | 32) {
        let problem = format!("{} bytes, a commit id has 20 or 32", info.repo_commit.len());
        return Err(Damage::new(problem).within("repo-commit"));
    }
    for (field, list) in [
        ("depends", &info.depends),
        ("provides", &info.provides),
        ("replaces", &info.replaces),
        ("install-if", &info.install_if),
        ("recommends", &info.recommends),
    ] {
        for (index, dependency) in list.iter().enumerate() {
            validate_dependency(dependency)
                .map_err(|damage| damage.within(format_args!("{field}[{index}]")))?;
        }
    }
    for (index, tag) in info.tags.iter().enumerate() {
        let tag_byte = |b: u8| b.is_ascii_alphanumeric() || b"_+,-.:/=[]".contains(&b);
        bounded("a tag", tag.len(), DEPENDENCY_NAME_MAX)
            .map_err(|damage| damage.within(format_args!("tags[{index}]")))?;
        if tag.is_empty() || !tag.bytes().all(tag_byte) {
            let problem = format!("{} is no valid tag", quoted(tag.as_bytes()));
            return Err(Damage::new(problem).within(format_args!("tags[{index}]")));
        }
    }
    Ok(())
}

fn component(name: &[u8]) -> Result<(), Damage> {
    let problem = match name {
        b"" => "is empty".to_string(),
        b"." | b".." => format!("is {}", quoted(name)),
        _ if name.len() > NAME_MAX => format!("has {} bytes, the limit is {NAME_MAX}", name.len()),
        _ => match name.iter().find(|&&b| b == b'/' || b.is_ascii_control()) {
            Some(b'/') => "contains a slash".to_string(),
            Some(byte) => format!("contains the control character {byte:#04x}"),
            None => return Ok(()),
        },
    };
    Err(Damage::new(format!("a path component {problem}")))
}

/// Checks a path of a package: components joined by single slashes, no slash at either end, no `.` or `..`,
/// no control character. The root directory is the empty path and not for this function.
pub fn validate_path(path: &[u8]) -> Result<(), Damage> {
    bounded("a path", path.len(), PATH_MAX)?;
    path.split(|&byte| byte == b'/').try_for_each(component)
}

fn owner(role: &str, name: &str) -> Result<(), Damage> {
    if name.is_empty() {
        return Err(Damage::new(format!("no {role} name")));
    }
    bounded(&format!("a {role} name"), name.len(), OWNER_MAX)?;
    if name
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || c == ':' || c == '/')
    {
        return Err(Damage::new(format!(
            "{} is no valid {role} name",
            quoted(name.as_bytes())
        )));
    }
    Ok(())
}

fn acl(acl: &Acl) -> Result<(), Damage> {
    if acl.mode & !0o7777 != 0 {
        return Err(Damage::new(format!(
            "mode {:o} has more than permission bits",
            acl.mode
        )));
    }
    owner("user", &acl.user)?;
    owner("group", &acl.group)?;
    let mut names = HashSet::new();
    for (name, value) in &acl.xattrs {
        bounded("the name of an extended attribute", name.len(), NAME_MAX)?;
        if name.is_empty() || name.iter().any(|b| b.is_ascii_control()) {
            return Err(Damage::new(format!(
                "{} is no valid extended attribute name",
                quoted(name)
            )));
        }
        if name.len() + 1 + value.len() > XATTR_MAX {
            return Err(Damage::new(format!(
                "extended attribute {} of {} bytes, the limit is {XATTR_MAX}",
                quoted(name),
                value.len()
            )));
        }
        if !names.insert(name) {
            return Err(Damage::new(format!(
                "extended attribute {} is there twice",
                quoted(name)
            )));
        }
    }
    Ok(())
}

fn entry(file: &FileEntry) -> Result<(), Damage> {
    component(&file.name)?;
    acl(&file.acl)?;
    match &file.kind {
        FileKind::Regular { hash } if !matches!(hash.len(), 20 | 32 | 64) => Err(Damage::new(format!(
            "a regular file needs a hash of 20, 32 or 64 bytes, {} are there",
            hash.len()
        ))),
        FileKind::CharDevice { major, minor } | FileKind::BlockDevice { major, minor }
            if *major > DEVICE_MAJOR_MAX || *minor > DEVICE_MINOR_MAX =>
        {
            Err(Damage::new(format!(
                "a device {major}:{minor}, the limit is {DEVICE_MAJOR_MAX}:{DEVICE_MINOR_MAX}"
            )))
        }
        FileKind::Symlink { target } => {
            if target.is_empty() {
                return Err(Damage::new("a symbolic link without a target"));
            }
            bounded("a symbolic link target", target.len(), PATH_MAX)?;
            match target.iter().find(|b| b.is_ascii_control()) {
                Some(byte) => Err(Damage::new(format!(
                    "a symbolic link target with the control character {byte:#04x}"
                ))),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// A hard link's stored target as a path of the package. apk's builder writes `./name` when the first name
/// lies in the root directory (apk itself cannot install such a link).
pub fn hard_link_path(target: &[u8]) -> &[u8] {
    match target.strip_prefix(b"./") {
        Some(name) if !name.contains(&b'/') => name,
        _ => target,
    }
}

pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        name.to_vec()
    } else {
        [directory, b"/", name].concat()
    }
}

/// Checks a package as a whole: its info, every path, owners, links, scripts and triggers. A path occurs
/// once, nothing lies below a non-directory of the same package, and a hard link names an earlier file.
pub fn validate_package(package: &Package) -> Result<(), Damage> {
    validate_info(&package.info).map_err(|damage| damage.within("info"))?;
    validate_paths(package)?;
    let mut kinds: Vec<ScriptKind> = Vec::new();
    for (kind, body) in &package.scripts {
        if body.is_empty() || body.len() > SCRIPT_MAX {
            let problem = format!("a script of {} bytes (1 to {SCRIPT_MAX} are allowed)", body.len());
            return Err(Damage::new(problem).within(format_args!("scripts, {kind:?}")));
        }
        if kinds.contains(kind) {
            return Err(Damage::new("there twice").within(format_args!("scripts, {kind:?}")));
        }
        kinds.push(*kind);
    }
    for (index, trigger) in package.triggers.iter().enumerate() {
        bounded("a trigger", trigger.len(), PATH_MAX)
            .map_err(|damage| damage.within(format_args!("triggers[{index}]")))?;
        let sound = !trigger.is_empty() && !trigger.chars().any(|c| c.is_control() || c == ' ');
        if !sound {
            let problem = format!("{} is no valid trigger", quoted(trigger.as_bytes()));
            return Err(Damage::new(problem).within(format_args!("triggers[{index}]")));
        }
    }
    let something = package.scripts.iter().any(|(_, body)| !body.is_empty())
        || package.paths.iter().any(|directory| !directory.files.is_empty());
    if package.info.installed_size == 0 && something {
        let problem = "is 0, which marks a package without files or scripts, but there are some";
        return Err(Damage::new(problem).within("info, installed-size"));
    }
    Ok(())
}

fn validate_paths(package: &Package) -> Result<(), Damage> {
    let place = |number: usize, path: &[u8]| format!("paths[{number}] {}", quoted(path));
    let mut directories: HashSet<&[u8]> = HashSet::with_capacity(package.paths.len());
    for (number, directory) in package.paths.iter().enumerate() {
        let check = || -> Result<(), Damage> {
            if !directory.path.is_empty() {
                validate_path(&directory.path)?;
            }
            acl(&directory.acl)
        };
        check().map_err(|damage| damage.within(place(number, &directory.path)))?;
        if !directories.insert(&directory.path) {
            let problem = "the directory is there twice";
            return Err(Damage::new(problem).within(place(number, &directory.path)));
        }
    }
    let mut files: HashMap<Vec<u8>, &FileEntry> = HashMap::new();
    for (number, directory) in package.paths.iter().enumerate() {
        for (index, file) in directory.files.iter().enumerate() {
            let path = join(&directory.path, &file.name);
            let check = || -> Result<(), Damage> {
                entry(file)?;
                bounded("a path", path.len(), PATH_MAX)?;
                if directories.contains(path.as_slice()) {
                    return Err(Damage::new("it is a directory of the package too"));
                }
                if files.contains_key(&path) {
                    return Err(Damage::new("the file is there twice"));
                }
                if let FileKind::HardLink { target } = &file.kind {
                    hard_link(target, &files)?;
                }
                Ok(())
            };
            check().map_err(|damage| {
                let file = format!("files[{index}] {}", quoted(&file.name));
                damage.within(file).within(place(number, &directory.path))
            })?;
            files.insert(path, file);
        }
    }
    for (number, directory) in package.paths.iter().enumerate() {
        let ends = directory
            .path
            .iter()
            .enumerate()
            .filter(|&(_, &byte)| byte == b'/')
            .map(|(end, _)| end);
        for end in ends {
            if files.contains_key(&directory.path[..end]) {
                let problem = format!(
                    "it lies below {}, which is no directory here",
                    quoted(&directory.path[..end])
                );
                return Err(Damage::new(problem).within(place(number, &directory.path)));
            }
        }
    }
    Ok(())
}

fn hard_link(target: &[u8], earlier: &HashMap<Vec<u8>, &FileEntry>) -> Result<(), Damage> {
    let path = hard_link_path(target);
    validate_path(path).map_err(|damage| damage.within("hard link target"))?;
    match earlier.get(path) {
        None => Err(Damage::new(format!(
            "hard link to {}, which is no earlier file of the package",
            quoted(target)
        ))),
        Some(FileEntry {
            kind: FileKind::HardLink { .. },
            ..
        }) => Err(Damage::new(format!(
            "hard link to {}, which is a hard link itself",
            quoted(target)
        ))),
        Some(_) => Ok(()),
    }
}
