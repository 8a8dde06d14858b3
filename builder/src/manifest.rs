//! The manifest beside an image: every package and every entry of the root, with where it is from.

use lycia_apk::metadata::Digest as Identity;
use lycia_tree::{Content, Footprint, Kind as InodeKind, Node, display};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::attribution;
use crate::error::Result;
use crate::lock::Lock;
use crate::root::{Kernel, Root};

/// Version of the format.
const FORMAT: u32 = 1;

/// A manifest, written as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Manifest {
    /// Version of the format, 1.
    pub version: u32,
    /// Name of the image.
    pub image: String,
    /// Architecture.
    pub arch: String,
    /// Seconds since 1970 that date the image.
    pub epoch: u64,
    /// Volume label and UUID of the medium, where there is one.
    #[serde(default, skip_serializing_if = "Medium::is_none")]
    pub medium: Medium,
    /// Version of the kernel that boots, where one does.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernel: String,
    /// The packages asked for, as in `/etc/apk/world`.
    pub world: Vec<String>,
    /// Installed packages by name.
    pub packages: Vec<Package>,
    /// Entries of the root in the order of a walk.
    pub files: Vec<File>,
}

/// How the medium is found.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Medium {
    /// Volume label.
    pub label: String,
    /// UUID as blkid shows it.
    pub uuid: String,
    /// Root hash of the live image's dm-verity tree, in hexadecimal; empty without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub verity: String,
}

impl Medium {
    fn is_none(&self) -> bool {
        self.label.is_empty() && self.uuid.is_empty()
    }
}

/// An installed package.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Package {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// The hash in the index.
    pub identity: String,
    /// Repository.
    pub repository: String,
    /// SPDX expression.
    pub license: String,
    /// Bytes of the package file.
    pub size: u64,
    /// Bytes of its files.
    pub installed_size: u64,
}

/// An entry of the root.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct File {
    /// Absolute path; bytes that are no UTF-8 are escaped.
    pub path: String,
    /// `file`, `directory`, `symlink`, `char`, `block`, `fifo` or `socket`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Permission bits in octal.
    pub mode: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes, of a file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<u64>,
    /// SHA-256 of the content, of a file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sha256: Option<String>,
    /// Text, of a link.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub target: Option<String>,
    /// `MAJOR:MINOR`, of a device.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub device: Option<String>,
    /// Where it is from: `package NAME-VERSION`, `overlay NAME`, or `lycia: ` and the trigger or step that made it. Of a
    /// directory that several packages have, the first by name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<String>,
}

impl Manifest {
    /// The manifest of a root.
    ///
    /// # Errors
    /// When something is in it of which nothing is known to have made it.
    pub fn new(lock: &Lock, root: &Root, kernel: Option<&Kernel>, medium: Medium) -> Result<Manifest> {
        let repository = |name: &str| {
            let locked = lock.package.iter().find(|package| package.name == name);
            locked
                .map(|package| package.repository.clone())
                .unwrap_or_default()
        };
        let packages = root
            .database
            .packages
            .iter()
            .map(|package| Package {
                name: package.info.name.clone(),
                version: package.info.version.clone(),
                identity: package
                    .info
                    .hashes
                    .as_ref()
                    .map(Identity::to_string)
                    .unwrap_or_default(),
                repository: repository(&package.info.name),
                license: package.info.license.clone(),
                size: package.info.file_size,
                installed_size: package.info.installed_size,
            })
            .collect();
        let mut origins = attribution::of(root)?;
        let mut footprint = Footprint::new();
        let files = root.tree.walk().map(|entry| {
            let metadata = &entry.inode.metadata;
            let mut file = File {
                path: display(&entry.path),
                mode: format!("{:04o}", metadata.mode),
                uid: metadata.uid,
                gid: metadata.gid,
                from: origins.remove(&entry.path),
                ..File::default()
            };
            let node = match entry.inode.kind() {
                InodeKind::Directory { .. } => {
                    file.kind = "directory".to_owned();
                    return file;
                }
                InodeKind::Node(node) => node,
            };
            match node {
                Node::Regular(content) => {
                    file.kind = "file".to_owned();
                    file.size = Some(content.len());
                    file.sha256 = Some(sum_with(content, &mut footprint));
                }
                Node::Symlink(target) => {
                    file.kind = "symlink".to_owned();
                    file.target = Some(display(target));
                }
                Node::CharDevice(device) | Node::BlockDevice(device) => {
                    let char = matches!(node, Node::CharDevice(_));
                    file.kind = if char { "char" } else { "block" }.to_owned();
                    file.device = Some(format!("{}:{}", device.major, device.minor));
                }
                Node::Fifo => file.kind = "fifo".to_owned(),
                Node::Socket => file.kind = "socket".to_owned(),
            }
            file
        });
        Ok(Manifest {
            version: FORMAT,
            image: lock.image.clone(),
            arch: lock.arch.clone(),
            epoch: lock.epoch,
            medium,
            kernel: kernel.map(|kernel| kernel.version.clone()).unwrap_or_default(),
            world: lock.world.clone(),
            packages,
            files: files.collect(),
        })
    }

    /// As JSON with a final newline.
    pub fn json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// SHA-256 of a content in hexadecimal.
pub fn sum(content: &Content) -> String {
    sum_with(content, &mut Footprint::new())
}

/// As [`sum`], of one of many contents.
pub fn sum_with(content: &Content, footprint: &mut Footprint) -> String {
    let mut hash = Sha256::new();
    footprint.pieces(content).for_each(|piece| hash.update(piece));
    hex(&hash.finalize())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
