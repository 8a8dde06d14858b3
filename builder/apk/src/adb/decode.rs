//! Value areas to values (apk-v3(5), "Package schema", "Index schema").

use super::check::{hard_link_path, join};
use super::value::{Payload, Slots, Value};
use super::{AdbError, Damage, validate_info, validate_package};
use crate::limits::{Limits, PATH_MAX, SCRIPT_MAX, TEXT_MAX, XATTR_MAX};
use crate::metadata::{
    Acl, Dependency, Digest, DirEntry, FileEntry, FileKind, Match, Package, PackageInfo, ScriptKind,
};
use std::collections::HashMap;
use std::fmt::Display;
use std::mem::size_of;

/// The scripts in slot order.
pub(crate) const SCRIPTS: [ScriptKind; 7] = [
    ScriptKind::Trigger,
    ScriptKind::PreInstall,
    ScriptKind::PostInstall,
    ScriptKind::PreDeinstall,
    ScriptKind::PostDeinstall,
    ScriptKind::PreUpgrade,
    ScriptKind::PostUpgrade,
];

pub(crate) const TYPE_MASK: u16 = 0o170000;
pub(crate) const TYPE_REGULAR: u16 = 0o100000;
pub(crate) const TYPE_SYMLINK: u16 = 0o120000;
pub(crate) const TYPE_CHARACTER: u16 = 0o020000;
pub(crate) const TYPE_BLOCK: u16 = 0o060000;
pub(crate) const TYPE_FIFO: u16 = 0o010000;

trait Within<T> {
    fn within<D: Display>(self, place: impl FnOnce() -> D) -> Result<T, AdbError>;
}

impl<T, E: Into<AdbError>> Within<T> for Result<T, E> {
    fn within<D: Display>(self, place: impl FnOnce() -> D) -> Result<T, AdbError> {
        self.map_err(|error| match error.into() {
            AdbError::Damage(damage) => AdbError::Damage(damage.within(place())),
            other => other,
        })
    }
}

struct Decoder<'a, 'l> {
    payload: Payload<'a>,
    limits: &'l Limits,
    entries: u64,
    decoded: u64,
}

/// An index as stored.
pub(crate) struct DecodedIndex {
    pub(crate) description: String,
    pub(crate) packages: Vec<PackageInfo>,
    pub(crate) pkgname_spec: Option<String>,
}

/// Reads and checks the value area of a package.
pub(crate) fn package(payload: &[u8], limits: &Limits) -> Result<Package, AdbError> {
    let mut decoder = Decoder::new(payload, limits)?;
    let root = decoder.payload.object(decoder.payload.root()).within(|| "root")?;
    let mut package = Package {
        info: decoder.info(root.field(1)).within(|| "info")?,
        ..Package::default()
    };
    let uid = package.info.hashes.as_ref().map_or(0, |uid| uid.0.len());
    if !matches!(uid, 0 | 20) {
        let problem = format!("a unique id of {uid} bytes, it has 20");
        return Err(Damage::new(problem).within("info, hashes").into());
    }
    let mut hard_link_hashes = Vec::new();
    for (number, value) in decoder
        .array(root.field(2), size_of::<DirEntry>())
        .within(|| "paths")?
        .iter()
        .enumerate()
    {
        let directory = decoder
            .directory(value, &mut hard_link_hashes)
            .within(|| format!("paths[{number}]"))?;
        package.paths.push(directory);
    }
    let scripts = decoder.payload.object(root.field(3)).within(|| "scripts")?;
    for (slot, kind) in SCRIPTS.into_iter().enumerate() {
        let body = decoder
            .blob(scripts.field(slot + 1), SCRIPT_MAX)
            .within(|| format!("scripts, {kind:?}"))?;
        if !body.is_empty() {
            package.scripts.push((kind, body.to_vec()));
        }
    }
    for (number, value) in decoder
        .array(root.field(4), size_of::<String>())
        .within(|| "triggers")?
        .iter()
        .enumerate()
    {
        package
            .triggers
            .push(decoder.text(value).within(|| format!("triggers[{number}]"))?);
    }
    package.replaces_priority = decoder
        .payload
        .integer(root.field(5))
        .within(|| "replaces-priority")?;
    validate_package(&package)?;
    check_hard_link_hashes(&package, hard_link_hashes)?;
    Ok(package)
}

/// A hard link repeats its file's hash, and the installed database records that copy.
fn check_hard_link_hashes(
    package: &Package,
    links: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>,
) -> Result<(), AdbError> {
    if links.is_empty() {
        return Ok(());
    }
    let mut hashes: HashMap<Vec<u8>, &[u8]> = HashMap::new();
    for directory in &package.paths {
        for file in &directory.files {
            if let FileKind::Regular { hash } = &file.kind {
                hashes.insert(join(&directory.path, &file.name), hash);
            }
        }
    }
    for (path, target, hash) in links {
        if hashes
            .get(hard_link_path(&target))
            .is_some_and(|other| **other != *hash)
        {
            let problem = format!("its hash is not that of {}", target.escape_ascii());
            return Err(Damage::new(problem)
                .within(format_args!("hard link {}", path.escape_ascii()))
                .into());
        }
    }
    Ok(())
}

/// Reads the value area of an index and checks every entry.
pub(crate) fn index(payload: &[u8], limits: &Limits) -> Result<DecodedIndex, AdbError> {
    let mut decoder = Decoder::new(payload, limits)?;
    let root = decoder.payload.object(decoder.payload.root()).within(|| "root")?;
    let description = decoder.text(root.field(1)).within(|| "description")?;
    let elements = decoder
        .array(root.field(2), size_of::<PackageInfo>())
        .within(|| "packages")?;
    let mut packages = Vec::with_capacity(elements.len());
    for (number, value) in elements.iter().enumerate() {
        let info = decoder.info(value).within(|| format!("packages[{number}]"))?;
        let place = || match info.name.is_empty() {
            true => format!("packages[{number}]"),
            false => format!("packages[{number}] {}", info.name.escape_debug()),
        };
        validate_info(&info).within(place)?;
        let hash = info.hashes.as_ref().map_or(0, |hash| hash.0.len());
        if !matches!(hash, 20 | 32 | 64) {
            let problem = format!("{hash} bytes, an identity has 20, 32 or 64");
            return Err(Damage::new(problem).within("hashes").within(place()).into());
        }
        packages.push(info);
    }
    let spec = decoder.text(root.field(3)).within(|| "pkgname-spec")?;
    Ok(DecodedIndex {
        description,
        packages,
        pkgname_spec: (!spec.is_empty()).then_some(spec),
    })
}

impl<'a, 'l> Decoder<'a, 'l> {
    fn new(payload: &'a [u8], limits: &'l Limits) -> Result<Self, AdbError> {
        Ok(Decoder {
            payload: Payload::new(payload)?,
            limits,
            entries: 0,
            decoded: 0,
        })
    }

    /// Counts what is about to be made, so that shared values cannot multiply without bound.
    fn charge(&mut self, entries: usize, bytes: usize) -> Result<(), AdbError> {
        self.entries = self.entries.saturating_add(entries as u64);
        self.decoded = self.decoded.saturating_add(bytes as u64);
        if self.entries > self.limits.entries {
            return Err(AdbError::Limit {
                what: "the number of array elements in the metadata".into(),
                limit: self.limits.entries,
            });
        }
        if self.decoded > self.limits.decoded {
            return Err(AdbError::Limit {
                what: "the decoded size of the metadata in bytes".into(),
                limit: self.limits.decoded,
            });
        }
        Ok(())
    }

    fn array(&mut self, value: Value, element: usize) -> Result<Slots<'a>, AdbError> {
        let slots = self.payload.array(value)?;
        self.charge(slots.len(), slots.len().saturating_mul(element))?;
        Ok(slots)
    }

    fn blob(&mut self, value: Value, limit: usize) -> Result<&'a [u8], AdbError> {
        let bytes = self.payload.blob(value)?;
        if bytes.len() > limit {
            return Err(Damage::new(format!("a blob of {} bytes, the limit is {limit}", bytes.len())).into());
        }
        self.charge(0, bytes.len())?;
        Ok(bytes)
    }

    fn text(&mut self, value: Value) -> Result<String, AdbError> {
        let bytes = self.blob(value, TEXT_MAX)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_string()),
            Err(error) => Err(Damage::new(format!("text that is not UTF-8: {error}")).into()),
        }
    }

    fn info(&mut self, value: Value) -> Result<PackageInfo, AdbError> {
        let slots = self.payload.object(value)?;
        let mut text = |slot: usize, field: &str| self.text(slots.field(slot)).within(|| field.to_string());
        let mut info = PackageInfo {
            name: text(1, "name")?,
            version: text(2, "version")?,
            description: text(4, "description")?,
            arch: text(5, "arch")?,
            license: text(6, "license")?,
            origin: text(7, "origin")?,
            maintainer: text(8, "maintainer")?,
            url: text(9, "url")?,
            ..PackageInfo::default()
        };
        let hashes = self.blob(slots.field(3), 64).within(|| "hashes")?;
        info.hashes = (!hashes.is_empty()).then(|| Digest(hashes.to_vec()));
        info.repo_commit = self.blob(slots.field(10), 64).within(|| "repo-commit")?.to_vec();
        let number = |slot: usize, field: &str| {
            self.payload
                .integer(slots.field(slot))
                .within(|| field.to_string())
        };
        info.build_time = number(11, "build-time")?;
        info.installed_size = number(12, "installed-size")?;
        info.file_size = number(13, "file-size")?;
        info.provider_priority = number(14, "provider-priority")?;
        info.layer = number(20, "layer")?;
        let mut list = |slot: usize, field: &str| self.dependencies(slots.field(slot), field);
        info.depends = list(15, "depends")?;
        info.provides = list(16, "provides")?;
        info.replaces = list(17, "replaces")?;
        info.install_if = list(18, "install-if")?;
        info.recommends = list(19, "recommends")?;
        for (number, tag) in self
            .array(slots.field(21), size_of::<String>())
            .within(|| "tags")?
            .iter()
            .enumerate()
        {
            info.tags
                .push(self.text(tag).within(|| format!("tags[{number}]"))?);
        }
        Ok(info)
    }

    fn dependencies(&mut self, value: Value, field: &str) -> Result<Vec<Dependency>, AdbError> {
        let elements = self
            .array(value, size_of::<Dependency>())
            .within(|| field.to_string())?;
        let mut list = Vec::with_capacity(elements.len());
        for (number, value) in elements.iter().enumerate() {
            list.push(self.dependency(value).within(|| format!("{field}[{number}]"))?);
        }
        Ok(list)
    }

    fn dependency(&mut self, value: Value) -> Result<Dependency, AdbError> {
        let slots = self.payload.object(value)?;
        let name = self.text(slots.field(1)).within(|| "name")?;
        let version = self.text(slots.field(2)).within(|| "version")?;
        let stored = self.payload.integer(slots.field(3)).within(|| "match")?;
        let bits = u8::try_from(stored)
            .map_err(|_| Damage::new(format!("unknown comparison bits {stored:#x}")).within("match"))?;
        let op = match bits {
            bits if version.is_empty() => bits | Match::ANY.0,
            0 => Match::EQUAL,
            bits => bits,
        };
        Ok(Dependency {
            name,
            version,
            op: Match(op),
            tag: None,
        })
    }

    /// `links` collects path, target and hash of hard links.
    fn directory(
        &mut self,
        value: Value,
        links: &mut Vec<(Vec<u8>, Vec<u8>, Vec<u8>)>,
    ) -> Result<DirEntry, AdbError> {
        let slots = self.payload.object(value)?;
        let path = self.blob(slots.field(1), PATH_MAX).within(|| "name")?.to_vec();
        let shown = || path.escape_ascii();
        let acl = self.acl(slots.field(2)).within(|| "acl").within(shown)?;
        let elements = self
            .array(slots.field(3), size_of::<FileEntry>())
            .within(|| "files")
            .within(shown)?;
        let mut files = Vec::with_capacity(elements.len());
        for (number, value) in elements.iter().enumerate() {
            let (file, hash) = self
                .file(value)
                .within(|| format!("files[{number}]"))
                .within(shown)?;
            if let (FileKind::HardLink { target }, true) = (&file.kind, !hash.is_empty()) {
                links.push((join(&path, &file.name), target.clone(), hash.to_vec()));
            }
            files.push(file);
        }
        Ok(DirEntry { path, acl, files })
    }

    fn file(&mut self, value: Value) -> Result<(FileEntry, &'a [u8]), AdbError> {
        let slots = self.payload.object(value)?;
        let name = self.blob(slots.field(1), PATH_MAX).within(|| "name")?.to_vec();
        let shown = || name.escape_ascii();
        let acl = self.acl(slots.field(2)).within(|| "acl").within(shown)?;
        let size = self
            .payload
            .integer(slots.field(3))
            .within(|| "size")
            .within(shown)?;
        let mtime = self
            .payload
            .integer(slots.field(4))
            .within(|| "mtime")
            .within(shown)?;
        let hash = self.blob(slots.field(5), 64).within(|| "hash").within(shown)?;
        let target = self
            .blob(slots.field(6), PATH_MAX + 2)
            .within(|| "target")
            .within(shown)?;
        let kind = match target.split_first_chunk::<2>() {
            None if target.is_empty() => FileKind::Regular { hash: hash.to_vec() },
            None => return Err(Damage::new("a target of 1 byte")).within(shown),
            Some((kind, data)) => target_kind(u16::from_le_bytes(*kind), data).within(shown)?,
        };
        Ok((
            FileEntry {
                name,
                acl,
                size,
                mtime,
                kind,
            },
            hash,
        ))
    }

    fn acl(&mut self, value: Value) -> Result<Acl, AdbError> {
        let slots = self.payload.object(value)?;
        let mode = self.payload.integer(slots.field(1)).within(|| "mode")?;
        let mode = u16::try_from(mode)
            .ok()
            .filter(|mode| mode & !0o7777 == 0)
            .ok_or_else(|| Damage::new(format!("mode {mode:o} has more than permission bits")))?;
        let user = self.text(slots.field(2)).within(|| "user")?;
        let group = self.text(slots.field(3)).within(|| "group")?;
        let mut xattrs = Vec::new();
        for value in self
            .array(slots.field(4), size_of::<(Vec<u8>, Vec<u8>)>())
            .within(|| "xattrs")?
            .iter()
        {
            let bytes = self.blob(value, XATTR_MAX).within(|| "xattrs")?;
            let Some(end) = bytes.iter().position(|&byte| byte == 0) else {
                return Err(Damage::new("an extended attribute without a NUL after its name").into());
            };
            xattrs.push((bytes[..end].to_vec(), bytes[end + 1..].to_vec()));
        }
        Ok(Acl {
            mode,
            user,
            group,
            xattrs,
            ids: None,
        })
    }
}

fn target_kind(kind: u16, data: &[u8]) -> Result<FileKind, Damage> {
    let device = || -> Result<(u32, u32), Damage> {
        let bytes = <[u8; 8]>::try_from(data)
            .map_err(|_| Damage::new(format!("a device number of {} bytes, it has 8", data.len())))?;
        let device = u64::from_le_bytes(bytes);
        let major = (device >> 8 & 0xfff) | (device >> 32 & 0xffff_f000);
        let minor = (device & 0xff) | (device >> 12 & 0xffff_ff00);
        Ok((major as u32, minor as u32))
    };
    match kind {
        TYPE_SYMLINK => Ok(FileKind::Symlink {
            target: data.to_vec(),
        }),
        TYPE_REGULAR => Ok(FileKind::HardLink {
            target: data.to_vec(),
        }),
        TYPE_CHARACTER => device().map(|(major, minor)| FileKind::CharDevice { major, minor }),
        TYPE_BLOCK => device().map(|(major, minor)| FileKind::BlockDevice { major, minor }),
        TYPE_FIFO => match device()? {
            (0, 0) => Ok(FileKind::Fifo),
            _ => Err(Damage::new("a named pipe with a device number")),
        },
        _ if kind & !TYPE_MASK != 0 => Err(Damage::new(format!("file type {kind:o} has permission bits"))),
        _ => Err(Damage::new(format!("file type {kind:o} is not allowed"))),
    }
}
