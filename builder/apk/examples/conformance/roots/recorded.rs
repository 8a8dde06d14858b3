//! What was recorded of a root, and what the corpus has to install.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use lycia_apk::database::Database;
use lycia_apk::index::Index;
use lycia_apk::install::{DigestKind, InTree, Present};
use lycia_apk::keys::KeyRing;
use lycia_apk::metadata::FileKind;
use lycia_apk::package::{self, Contents, Expect, Trust};
use lycia_tree::{Content, Device, Metadata, Node, Timestamp, Tree};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// What a file holds, as far as it was recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    Directory,
    File {
        size: Option<u64>,
        sha256: Option<String>,
        group: Option<u64>,
    },
    Symlink(Vec<u8>),
    Device {
        kind: String,
        major: u32,
        minor: u32,
    },
}

/// One entry of `tree.json`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub kind: Kind,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Option<i64>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A recorded root.
#[derive(Clone, Default)]
pub struct Root {
    pub entries: BTreeMap<Vec<u8>, Entry>,
    pub installed: Vec<u8>,
    pub triggers: Vec<u8>,
    pub scripts: Vec<u8>,
    pub world: Vec<u8>,
    pub arch: Vec<u8>,
    pub calls: String,
}

/// Bytes that are no UTF-8 were written by Python as lone surrogates, which JSON readers refuse: they are put
/// where nothing else is, in plane 16.
fn readable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\udc") {
        let (front, tail) = rest.split_at(at);
        out.push_str(front);
        let high = front.len() >= 6
            && ["\\ud8", "\\ud9", "\\uda", "\\udb"].contains(&&front[front.len() - 6..front.len() - 2]);
        let byte = tail
            .get(4..6)
            .and_then(|digits| u32::from_str_radix(digits, 16).ok());
        match byte.and_then(|byte| char::from_u32(0x0010_ff00 + byte)) {
            Some(character) if !high => out.push(character),
            _ => out.push_str(&tail[..6]),
        }
        rest = &tail[6..];
    }
    out.push_str(rest);
    out
}

fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for character in text.chars() {
        match u32::from(character).checked_sub(0x0010_ff00) {
            Some(byte @ 0x80..=0xff) => out.push(byte as u8),
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .filter_map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok())
        .collect()
}

impl Root {
    pub fn read(folder: &Path) -> Result<Root, String> {
        let optional = |name: &str| fs::read(folder.join(name)).unwrap_or_default();
        let text = String::from_utf8(optional("tree.json")).map_err(|_| "tree.json is not UTF-8")?;
        let listed: Vec<Value> =
            serde_json::from_str(&readable(&text)).map_err(|error| format!("tree.json: {error}"))?;
        let mut entries = BTreeMap::new();
        for entry in listed {
            let text = |key: &str| entry[key].as_str().unwrap_or_default();
            let number = |key: &str| entry[key].as_u64().unwrap_or(0) as u32;
            let mode = u16::from_str_radix(text("mode").trim_start_matches("0o"), 8)
                .map_err(|_| "a mode is not octal")?;
            let device = |at: usize| entry["rdev"][at].as_u64().unwrap_or(0) as u32;
            let kind = match text("type") {
                "dir" => Kind::Directory,
                "symlink" => Kind::Symlink(bytes(text("target"))),
                "file" => Kind::File {
                    size: entry["size"].as_u64(),
                    sha256: entry["sha256"].as_str().map(str::to_owned),
                    group: entry["hardlink_group"].as_u64(),
                },
                other => Kind::Device {
                    kind: other.to_owned(),
                    major: device(0),
                    minor: device(1),
                },
            };
            let xattrs = entry["xattrs"].as_object().into_iter().flatten();
            let xattrs = xattrs
                .map(|(name, value)| (bytes(name), hex(value.as_str().unwrap_or_default())))
                .collect();
            let (uid, gid, mtime) = (number("uid"), number("gid"), entry["mtime"].as_i64());
            entries.insert(
                bytes(text("path")),
                Entry {
                    kind,
                    mode,
                    uid,
                    gid,
                    mtime,
                    xattrs,
                },
            );
        }
        Ok(Root {
            entries,
            installed: optional("installed"),
            triggers: optional("triggers"),
            scripts: optional("scripts.tar.gz"),
            world: optional("world"),
            arch: optional("arch"),
            calls: String::from_utf8_lossy(&optional("rec.log")).into_owned(),
        })
    }

    pub fn database(&self) -> Result<Database, String> {
        Database::read(&self.installed, &self.triggers, &self.scripts).map_err(|error| error.to_string())
    }

    /// The tree, with every content that a package of the corpus has; what the others contain is known by
    /// digest only.
    pub fn tree(&self, corpus: &Corpus) -> Result<(Tree, Digests), String> {
        let time = |seconds: Option<i64>| Timestamp::from_seconds(seconds.unwrap_or(0));
        let mut tree = Tree::new(Metadata::new(0o755, time(None)));
        let mut digests = Digests::default();
        let mut groups = HashMap::new();
        for (path, entry) in &self.entries {
            let mut metadata = Metadata::new(entry.mode, time(entry.mtime)).owned_by(entry.uid, entry.gid);
            metadata.xattrs = entry.xattrs.clone().into_iter().collect();
            let failed = |error: lycia_tree::TreeError| format!("the recorded tree: {error}");
            let node = match &entry.kind {
                Kind::Directory => {
                    tree.make_directory(path, metadata).map_err(failed)?;
                    continue;
                }
                Kind::Symlink(target) => Node::Symlink(target.clone()),
                Kind::Device { kind, major, minor } => {
                    let device = Device {
                        major: *major,
                        minor: *minor,
                    };
                    match kind.as_str() {
                        "char" => Node::CharDevice(device),
                        "block" => Node::BlockDevice(device),
                        _ => Node::Fifo,
                    }
                }
                Kind::File { size, sha256, group } => {
                    if let Some(&id) = group.as_ref().and_then(|group| groups.get(group)) {
                        tree.link(id, path).map_err(failed)?;
                        // Times were recorded below usr only.
                        if entry.mtime.is_some() {
                            tree.metadata_mut(id).mtime = time(entry.mtime);
                        }
                        continue;
                    }
                    let known = sha256.as_ref().and_then(|sha256| corpus.content(sha256));
                    let absolute = [b"/", path.as_slice()].concat();
                    let content = match (known, sha256) {
                        (Some(content), _) => content,
                        (None, Some(sha256)) => {
                            digests.sha256.insert(absolute, sha256.clone());
                            // Never compared: the digest stands for it.
                            Content::from(vec![0; size.unwrap_or(0).min(1 << 20) as usize])
                        }
                        (None, None) => Content::empty(),
                    };
                    let id = tree
                        .insert(path, metadata, Node::Regular(content))
                        .map_err(failed)?;
                    if let Some(group) = group {
                        groups.insert(*group, id);
                    }
                    continue;
                }
            };
            tree.insert(path, metadata, node).map_err(failed)?;
        }
        Ok((tree, digests))
    }
}

/// SHA-256 of files whose contents are unknown, by absolute path.
#[derive(Clone, Default)]
pub struct Digests {
    pub sha256: HashMap<Vec<u8>, String>,
}

impl Present for Digests {
    fn digest(&self, tree: &Tree, path: &[u8], kind: DigestKind) -> Option<[u8; 20]> {
        match (self.sha256.get(path), kind) {
            (None, _) => InTree.digest(tree, path, kind),
            (Some(sha256), DigestKind::Sha256) => hex(sha256).get(..20)?.try_into().ok(),
            (Some(_), DigestKind::Sha1) => None,
        }
    }
}

/// A repository of the corpus or of a scenario.
#[derive(Clone)]
pub struct Repository {
    pub tag: Option<String>,
    /// Folder that stands for the base of the repository.
    pub base: PathBuf,
    pub index: PathBuf,
    /// The URL is that of the index, beside which the packages lie.
    pub beside: bool,
}

/// Contents of files by SHA-256.
type Known = Rc<RefCell<HashMap<String, Content>>>;

/// Everything that scenarios refer to.
pub struct Corpus {
    pub root: PathBuf,
    pub scenario: PathBuf,
    contents: Known,
}

thread_local! {
    static CONTENTS: RefCell<HashMap<PathBuf, Known>> = RefCell::default();
}

impl Corpus {
    /// The corpus is above the scenario, or where `LYCIA_CORPUS` says, or beside the checkout.
    pub fn find(scenario: &Path) -> Result<Corpus, String> {
        let scenario = fs::canonicalize(scenario).map_err(|error| error.to_string())?;
        let above = scenario.ancestors().map(Path::to_path_buf);
        let named = std::env::var_os("LYCIA_CORPUS").map(PathBuf::from);
        let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus/apk");
        let root = above
            .chain(named)
            .chain([beside])
            .find(|folder| folder.join("repo3/main").is_dir())
            .ok_or("no corpus with repo3/main above it; name one with LYCIA_CORPUS")?;
        let contents = CONTENTS.with(|all| {
            let mut all = all.borrow_mut();
            all.entry(root.clone())
                .or_insert_with(|| {
                    let mut contents = HashMap::new();
                    for folder in ["repo3/main", "repo3/pool", "repo2/main"] {
                        gather(&root.join(folder), &mut contents);
                    }
                    Rc::new(RefCell::new(contents))
                })
                .clone()
        });
        gather(&scenario.join("repo"), &mut contents.borrow_mut());
        Ok(Corpus {
            root,
            scenario,
            contents,
        })
    }

    pub fn content(&self, sha256: &str) -> Option<Content> {
        self.contents.borrow().get(sha256).cloned()
    }

    /// The keys of which the names are given.
    pub fn keys(&self, trusted: impl Fn(&str) -> bool) -> KeyRing {
        let mut keys = KeyRing::new();
        for folder in ["keys/trusted", "keys"] {
            let mut inside: Vec<PathBuf> = fs::read_dir(self.root.join(folder))
                .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
                .unwrap_or_default();
            inside.sort();
            for path in inside {
                let name = path
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                if trusted(&name)
                    && let Ok(pem) = fs::read(&path)
                {
                    let _ = keys.add_pem(&name, &pem);
                }
            }
        }
        keys
    }

    /// A repository of the corpus in the layout `v2` or `v3`.
    pub fn repository(&self, layout: &str, folder: &str, arch: &str, tag: Option<&str>) -> Repository {
        let base = self.root.join(folder);
        let file = if layout == "v3" {
            "Packages.adb"
        } else {
            "APKINDEX.tar.gz"
        };
        Repository {
            tag: tag.map(str::to_owned),
            index: base.join(arch).join(file),
            base,
            beside: false,
        }
    }
}

/// Adds the contents of all packages below a folder.
fn gather(folder: &Path, contents: &mut HashMap<String, Content>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path.is_dir() {
            gather(&path, contents);
        } else if path.extension().is_some_and(|extension| extension == "apk") {
            let expect = Expect {
                trust: Trust::AllowUntrusted,
                ..Expect::default()
            };
            let mut sink = Contents::default();
            let Ok(bytes) = fs::read(&path) else { continue };
            if package::read(&bytes, &KeyRing::new(), &expect, &mut sink).is_ok() {
                for (_, _, content) in sink.files {
                    let sha256: String = Sha256::digest(&content)
                        .iter()
                        .map(|byte| format!("{byte:02x}"))
                        .collect();
                    contents.insert(sha256, Content::from(content));
                }
            }
        }
    }
}

impl Repository {
    pub fn read(&self, keys: &KeyRing, trust: Trust) -> Result<Index, String> {
        let bytes = fs::read(&self.index).map_err(|error| format!("{}: {error}", self.index.display()))?;
        Index::read(&bytes, keys, trust).map_err(|error| format!("{}: {error}", self.index.display()))
    }
}

/// How many files of a package have a content.
pub fn regular_files(package: &lycia_apk::metadata::Package) -> usize {
    let files = package.paths.iter().flat_map(|directory| &directory.files);
    files
        .filter(|file| matches!(file.kind, FileKind::Regular { .. }))
        .count()
}
