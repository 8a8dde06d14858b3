//! Values to value areas, in the order of apk's own builder: the same package gives the same bytes, and so
//! the same identity.

use super::check::{hard_link_path, join};
use super::decode::{SCRIPTS, TYPE_BLOCK, TYPE_CHARACTER, TYPE_FIFO, TYPE_REGULAR, TYPE_SYMLINK};
use super::value::Value;
use super::writer::ValueWriter;
use super::{AdbError, Damage, validate_info, validate_package};
use crate::limits::TEXT_MAX;
use crate::metadata::{Acl, Dependency, FileEntry, FileKind, Match, Package, PackageInfo, ScriptKind};
use crate::version;
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;

const INFO_SLOTS: usize = 21;
/// Bytes of the unique id that a package carries inside.
const UID: usize = 20;

/// The value area of a package, with its unique id computed (whatever `info.hashes` says).
pub(crate) fn package(package: &Package) -> Result<Vec<u8>, AdbError> {
    validate_package(package)?;
    let mut writer = ValueWriter::new();
    let mut info = info_fields(&mut writer, &package.info);
    let replaces_priority = writer.optional(package.replaces_priority);
    let paths = directories(&mut writer, package);
    // apk's builder writes this number even when it is 0.
    info[11] = writer.integer(package.info.installed_size);
    let (uid, uid_offset) = writer.unshared_blob(&[0; UID]);
    info[2] = uid;
    let info = writer.object(&info);
    let paths = writer.array(&paths);
    let scripts: Vec<Value> = SCRIPTS
        .iter()
        .map(|kind| writer.blob(script(package, *kind)))
        .collect();
    let scripts = writer.object(&scripts);
    let triggers: Vec<Value> = package
        .triggers
        .iter()
        .map(|glob| writer.blob(glob.as_bytes()))
        .collect();
    let triggers = writer.array(&triggers);
    let root = writer.object(&[info, paths, scripts, triggers, replaces_priority]);
    let mut payload = writer.finish(root).ok_or_else(too_large)?;
    let digest = Sha256::digest(&payload);
    payload[uid_offset..uid_offset + UID].copy_from_slice(&digest[..UID]);
    Ok(payload)
}

/// The value area of an index. The entries are sorted here, by name, version and identity.
pub(crate) fn index(
    description: &str,
    packages: &[PackageInfo],
    pkgname_spec: Option<&str>,
    hash_length: usize,
) -> Result<Vec<u8>, AdbError> {
    if description.len() > TEXT_MAX || description.chars().any(char::is_control) {
        let problem = match description.len() {
            length if length > TEXT_MAX => format!("a text of {length} bytes, the limit is {TEXT_MAX}"),
            _ => "it has a control character".to_owned(),
        };
        return Err(Damage::new(problem).within("description").into());
    }
    let mut sorted: Vec<&PackageInfo> = packages.iter().collect();
    sorted.sort_by(|a, b| {
        let identity = |info: &PackageInfo| info.hashes.as_ref().map(|hash| hash.0.clone());
        (a.name.as_bytes().cmp(b.name.as_bytes()))
            .then_with(|| version::compare(&a.version, &b.version))
            .then_with(|| a.version.cmp(&b.version))
            .then_with(|| identity(a).cmp(&identity(b)))
    });
    let mut writer = ValueWriter::new();
    let description = writer.blob(description.as_bytes());
    let mut elements = Vec::with_capacity(sorted.len());
    for info in sorted {
        let named =
            |damage: Damage| damage.within(format_args!("index entry {}-{}", info.name, info.version));
        validate_info(info).map_err(named)?;
        let hash = info.hashes.as_ref().map_or(&[][..], |hash| &hash.0);
        if hash.len() < hash_length
            || !matches!(hash.len(), 20 | 32 | 64)
            || hash.len() == 64 && hash_length != 64
        {
            let problem = format!(
                "an identity of {} bytes cannot give one of {hash_length}",
                hash.len()
            );
            return Err(named(Damage::new(problem)).into());
        }
        let mut fields = info_fields(&mut writer, info);
        fields[11] = writer.integer(info.installed_size);
        fields[12] = writer.optional(info.file_size);
        fields[2] = writer.blob(&hash[..hash_length]);
        elements.push(writer.object(&fields));
    }
    let packages = writer.array(&elements);
    let spec = writer.blob(pkgname_spec.unwrap_or_default().as_bytes());
    let root = writer.object(&[description, packages, spec]);
    writer.finish(root).ok_or_else(too_large)
}

fn too_large() -> AdbError {
    AdbError::Limit {
        what: "the size of the metadata, for which the format has 28-bit offsets,".into(),
        limit: 1 << 28,
    }
}

fn script(package: &Package, kind: ScriptKind) -> &[u8] {
    package
        .scripts
        .iter()
        .find(|(other, _)| *other == kind)
        .map_or(&[], |(_, body)| body)
}

/// All fields but hashes, installed-size and file-size, which come later in the builder's order.
fn info_fields(writer: &mut ValueWriter, info: &PackageInfo) -> [Value; INFO_SLOTS] {
    let mut fields = [Value::NULL; INFO_SLOTS];
    fields[0] = writer.blob(info.name.as_bytes());
    fields[1] = writer.blob(info.version.as_bytes());
    fields[3] = writer.blob(info.description.as_bytes());
    fields[4] = writer.blob(info.arch.as_bytes());
    fields[5] = writer.blob(info.license.as_bytes());
    fields[6] = writer.blob(info.origin.as_bytes());
    fields[7] = writer.blob(info.maintainer.as_bytes());
    fields[8] = writer.blob(info.url.as_bytes());
    fields[9] = writer.blob(&info.repo_commit);
    fields[10] = writer.optional(info.build_time);
    fields[13] = writer.optional(info.provider_priority);
    fields[14] = dependencies(writer, &info.depends);
    fields[15] = dependencies(writer, &info.provides);
    fields[16] = dependencies(writer, &info.replaces);
    fields[17] = dependencies(writer, &info.install_if);
    fields[18] = dependencies(writer, &info.recommends);
    fields[19] = writer.optional(info.layer);
    let tags: Vec<Value> = info.tags.iter().map(|tag| writer.blob(tag.as_bytes())).collect();
    fields[20] = writer.array(&tags);
    fields
}

fn dependencies(writer: &mut ValueWriter, list: &[Dependency]) -> Value {
    let mut elements: Vec<(&Dependency, Value)> = list
        .iter()
        .map(|dependency| {
            let name = writer.blob(dependency.name.as_bytes());
            let version = writer.blob(dependency.version.as_bytes());
            let op = match dependency.op {
                Match(Match::EQUAL) if !dependency.version.is_empty() => Value::NULL,
                op if dependency.version.is_empty() && !op.is_conflict() => Value::NULL,
                Match(op) if dependency.version.is_empty() => writer.integer(u64::from(op | Match::ANY.0)),
                Match(op) => writer.integer(u64::from(op)),
            };
            (dependency, writer.object(&[name, version, op]))
        })
        .collect();
    elements.sort_by(|(a, _), (b, _)| {
        (a.name.as_bytes().cmp(b.name.as_bytes()))
            .then_with(|| version::compare(&a.version, &b.version))
            .then_with(|| a.op.cmp(&b.op))
    });
    let mut values: Vec<Value> = elements.into_iter().map(|(_, value)| value).collect();
    values.dedup();
    writer.array(&values)
}

fn directories(writer: &mut ValueWriter, package: &Package) -> Vec<Value> {
    // A file that has further names is recognized by apk's builder at its first name, where it makes the
    // target blob of the names to come.
    let mut first_names: HashMap<&[u8], &[u8]> = HashMap::new();
    let mut hashes: HashMap<Vec<u8>, &[u8]> = HashMap::new();
    for directory in &package.paths {
        for file in &directory.files {
            match &file.kind {
                FileKind::HardLink { target } => {
                    first_names.insert(hard_link_path(target), target);
                }
                FileKind::Regular { hash } => {
                    hashes.insert(join(&directory.path, &file.name), hash);
                }
                _ => {}
            }
        }
    }
    let mut values = Vec::with_capacity(package.paths.len());
    for directory in &package.paths {
        let mut files = Vec::with_capacity(directory.files.len());
        for file in &directory.files {
            if !first_names.is_empty()
                && let Some(target) = first_names.get(join(&directory.path, &file.name).as_slice())
            {
                writer.blob(&target_blob(TYPE_REGULAR, target));
            }
            files.push(self::file(writer, file, &hashes));
        }
        let name = writer.blob(&directory.path);
        let acl = acl(writer, &directory.acl);
        let files = writer.array(&files);
        values.push(writer.object(&[name, acl, files]));
    }
    values
}

fn file(writer: &mut ValueWriter, file: &FileEntry, hashes: &HashMap<Vec<u8>, &[u8]>) -> Value {
    let device = |kind: u16, major: u32, minor: u32| {
        let (major, minor) = (u64::from(major), u64::from(minor));
        let device = (major & 0xfff) << 8 | minor & 0xff | (minor & !0xff) << 12 | (major & !0xfff) << 32;
        target_blob(kind, &device.to_le_bytes())
    };
    let (hash, target): (&[u8], Vec<u8>) = match &file.kind {
        FileKind::Regular { hash } => (hash, Vec::new()),
        FileKind::HardLink { target } => (
            hashes.get(hard_link_path(target)).copied().unwrap_or_default(),
            target_blob(TYPE_REGULAR, target),
        ),
        FileKind::Symlink { target } => (&[], target_blob(TYPE_SYMLINK, target)),
        FileKind::CharDevice { major, minor } => (&[], device(TYPE_CHARACTER, *major, *minor)),
        FileKind::BlockDevice { major, minor } => (&[], device(TYPE_BLOCK, *major, *minor)),
        FileKind::Fifo => (&[], device(TYPE_FIFO, 0, 0)),
    };
    let name = writer.blob(&file.name);
    let hash = writer.blob(hash);
    let target = writer.blob(&target);
    let mtime = writer.integer(file.mtime);
    let size = writer.integer(file.size);
    let acl = acl(writer, &file.acl);
    writer.object(&[name, acl, size, mtime, hash, target])
}

fn target_blob(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes(), data].concat()
}

fn acl(writer: &mut ValueWriter, acl: &Acl) -> Value {
    let mode = writer.integer(u64::from(acl.mode));
    let user = writer.blob(acl.user.as_bytes());
    let group = writer.blob(acl.group.as_bytes());
    let mut xattrs: Vec<(Vec<u8>, Value)> = acl
        .xattrs
        .iter()
        .map(|(name, value)| {
            let content = [name, &[0][..], value].concat();
            let value = writer.blob(&content);
            (content, value)
        })
        .collect();
    xattrs.sort_by(|a, b| a.0.cmp(&b.0));
    let xattrs: Vec<Value> = xattrs.into_iter().map(|(_, value)| value).collect();
    let xattrs = writer.tagged_array(&xattrs);
    writer.object(&[mode, user, group, xattrs])
}
