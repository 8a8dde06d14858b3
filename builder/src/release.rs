//! What lies beside the outputs of a build for those who get them: bills of materials, checksums, a signature of these.

use std::path::{Path, PathBuf};

use lycia_apk::keys::{KeyRing, SigningKey};
use sha2::{Digest as _, Sha256};

use crate::build::{Built, Made, Options, Written};
use crate::choice::Choice;
use crate::error::{Error, Explain as _, Kind, Result, io};
use crate::lock::Lock;
use crate::manifest::hex;
use crate::root::Root;
use crate::sbom;
use crate::store::write_whole;

/// How the file of all checksums of an image ends.
pub const SUMS: &str = ".SHA256SUMS";

/// Where the signature of a file lies.
pub fn signature(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// Reads a private key.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn key(path: &Path) -> Result<SigningKey> {
    let doing = || format!("reading the key {}", path.display());
    let pem = io(std::fs::read(path), doing)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    SigningKey::from_pem(&name, &pem).explain(Kind::Input, doing)
}

fn signed(key: &SigningKey, sums: &[u8], path: &Path) -> Result<Vec<u8>> {
    key.sign_detached(sums)
        .explain(Kind::Internal, || format!("signing {}", path.display()))
}

/// Writes the bills of materials of `files`, and the checksums of all of them, signed where that is wanted.
///
/// # Errors
/// When they cannot be written.
pub fn write(
    lock: &Lock,
    root: &Root,
    choice: &Choice,
    files: &[Written],
    options: &Options,
    made: &mut Made,
) -> Result<Vec<Written>> {
    let stem = format!("{}-{}", lock.image, lock.arch);
    // Names of what is built from the root; lists of checksums and the rest are about them.
    let outputs: Vec<Written> = files
        .iter()
        .filter(|file| !matches!(&*file.kind, "manifest" | "lock" | "checksums"))
        .cloned()
        .collect();
    let mut more = Vec::new();
    let [spdx, cyclonedx] = sbom::documents(lock, root, choice, &outputs, &made.hosts);
    for (ending, text) in [("spdx.json", spdx), ("cdx.json", cyclonedx)] {
        let path = options.output.join(format!("{stem}.{ending}"));
        more.push(made.beside("sbom", path, text.as_bytes())?);
    }
    let mut lines: Vec<String> = files
        .iter()
        .chain(&more)
        .filter(|file| file.kind != "checksums")
        .map(|file| {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy();
            format!("{}  {name}\n", file.sha256)
        })
        .collect();
    lines.sort_by(|one, other| one[66..].cmp(&other[66..]));
    lines.dedup();
    let path = options.output.join(format!("{stem}{SUMS}"));
    let sums = lines.concat();
    more.push(made.beside("checksums", path.clone(), sums.as_bytes())?);
    if let Some(key) = &options.sign {
        let signature = signed(key, sums.as_bytes(), &path)?;
        more.push(made.beside("signature", self::signature(&path), &signature)?);
    }
    Ok(more)
}

/// Signs the checksums of a build with a private key, unless that was done: `NAME.SHA256SUMS.sig`, which
/// `openssl dgst -sha512 -verify` takes.
///
/// # Errors
/// When the signature cannot be written.
pub fn sign(built: &mut Built, key: &SigningKey) -> Result<()> {
    if built.files.iter().any(|file| file.kind == "signature") {
        return Ok(());
    }
    let sums: Vec<PathBuf> = built
        .files
        .iter()
        .map(|file| file.path.clone())
        .filter(|path| path.to_string_lossy().ends_with(SUMS))
        .collect();
    for path in sums {
        let bytes = io(std::fs::read(&path), || format!("reading {}", path.display()))?;
        let signature = signed(key, &bytes, &path)?;
        let beside = self::signature(&path);
        write_whole(&beside, &signature)?;
        built.files.push(Written {
            kind: "signature".into(),
            path: beside,
            size: signature.len() as u64,
            sha256: hex(&Sha256::digest(&signature)),
        });
    }
    Ok(())
}

/// Verifies a file by the signed checksums beside it, and says which these are.
///
/// # Errors
/// When there are none, they are not signed by the key, or do not fit the file, whose SHA-256 is `sha256`.
pub fn verify(file: &Path, sha256: &str, key: &Path) -> Result<PathBuf> {
    let pem = io(std::fs::read(key), || {
        format!("reading the key {}", key.display())
    })?;
    let mut ring = KeyRing::new();
    let named = key.file_name().unwrap_or_default().to_string_lossy();
    ring.add_pem(&named, &pem)
        .explain(Kind::Input, || "reading the key".to_owned())?;
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let name = file
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut lists: Vec<PathBuf> = io(std::fs::read_dir(folder), || {
        format!("reading {}", folder.display())
    })?
    .filter_map(|entry| Some(entry.ok()?.path()))
    .filter(|path| path.to_string_lossy().ends_with("SHA256SUMS"))
    .collect();
    lists.sort();
    let mut unsigned = None;
    for list in lists {
        let text = io(std::fs::read_to_string(&list), || {
            format!("reading {}", list.display())
        })?;
        let sum = text.lines().find_map(|line| {
            let (sum, listed) = line.split_once("  ")?;
            (listed == name).then_some(sum)
        });
        let Some(sum) = sum else { continue };
        let beside = signature(&list);
        let Ok(signed) = std::fs::read(&beside) else {
            unsigned = Some(list);
            continue;
        };
        if ring.verify_detached(text.as_bytes(), &signed).is_none() {
            return Err(Error::new(
                Kind::Verification,
                format!(
                    "{} is no signature of {} by {named}",
                    beside.display(),
                    list.display()
                ),
            ));
        }
        if sum != sha256 {
            return Err(Error::new(
                Kind::Verification,
                format!(
                    "the SHA-256 of {} is {sha256}, {} says {sum}",
                    file.display(),
                    list.display()
                ),
            ));
        }
        return Ok(list);
    }
    let why = match unsigned {
        Some(list) => format!("{} names {name}, but is not signed", list.display()),
        None => format!("no SHA256SUMS beside {} names it", file.display()),
    };
    Err(Error::new(Kind::Verification, why).hint("lycia build --sign KEY writes signed checksums"))
}
