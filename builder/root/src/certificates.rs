//! The bundle of certificate authorities, `/etc/ssl/certs/ca-certificates.crt`, and OpenSSL's links to single
//! certificates by the hash of their subjects.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lycia_tree::{Follow, Metadata, Node, Timestamp, Tree, display};
use sha1::{Digest as _, Sha1};

use crate::{RootError, Step, replace};

const SOURCE: &str = "usr/share/ca-certificates";
const LOCAL: &str = "usr/local/share/ca-certificates";
const LIST: &[u8] = b"etc/ca-certificates.conf";
const FOLDER: &str = "etc/ssl/certs";
/// Most certificates taken.
const COUNT_MAX: usize = 10_000;

/// Makes bundle and links where the root has certificates. A list `etc/ca-certificates.conf` says which of
/// the distribution's are wanted (a line that begins with `!` takes one out); without it all are.
///
/// # Errors
/// When a file that is wanted is missing.
pub fn run(tree: &mut Tree, time: Timestamp) -> Result<Step, RootError> {
    let mut step = Step::default();
    let mut paths = Vec::new();
    if tree.find(LIST, Follow::All)?.is_some() {
        let text = String::from_utf8_lossy(tree.read(LIST)?).into_owned();
        for (number, line) in text.lines().enumerate() {
            let name = line.trim();
            if name.is_empty() || name.starts_with(['#', '!']) {
                continue;
            }
            let path = format!("{SOURCE}/{name}").into_bytes();
            if tree.find(&path, Follow::All)?.is_none() {
                step.warnings.push(format!(
                    "etc/ca-certificates.conf, line {}: there is no {name}",
                    number + 1
                ));
                continue;
            }
            paths.push(path);
        }
    } else {
        below(tree, SOURCE, &mut paths)?;
    }
    below(tree, LOCAL, &mut paths)?;
    if paths.is_empty() {
        return Ok(step);
    }
    // By name, as a reader expects them; the folder decides between equals.
    paths.sort_by(|a, b| name(a).cmp(name(b)).then_with(|| a.cmp(b)));
    paths.truncate(COUNT_MAX);
    let mut bundle = Vec::new();
    let mut links: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for path in &paths {
        let bytes = tree.read(path)?;
        let Some(certificate) = decode(bytes) else {
            step.warnings
                .push(format!("{} holds no PEM certificate", display(path)));
            continue;
        };
        bundle.extend_from_slice(bytes);
        if !bundle.ends_with(b"\n") {
            bundle.push(b'\n');
        }
        match subject(&certificate) {
            Some(subject) => links.entry(subject_hash(subject)).or_default().push(path.clone()),
            None => step
                .warnings
                .push(format!("{}: its subject cannot be read", display(path))),
        }
    }
    tree.make_directories(FOLDER.as_bytes(), Metadata::new(0o755, time))?;
    let file = format!("{FOLDER}/ca-certificates.crt");
    replace(tree, file.as_bytes(), 0o644, bundle, time, &mut step.written)?;
    let mut link = |tree: &mut Tree, path: String, target: Vec<u8>| -> Result<(), RootError> {
        let node = Node::Symlink(target);
        if let Some(id) = tree.find(path.as_bytes(), Follow::Parents)?
            && tree.inode(id).node() == Some(&node)
        {
            return Ok(());
        }
        tree.insert(path.as_bytes(), Metadata::new(0o777, time), node)?;
        step.written
            .push(tree.canonical(path.as_bytes(), Follow::Parents)?);
        Ok(())
    };
    for (hash, paths) in links {
        for (number, path) in paths.iter().enumerate() {
            let pem = [name(path).strip_suffix(b".crt").unwrap_or(name(path)), b".pem"].concat();
            let absolute = [b"/".as_slice(), path].concat();
            link(
                tree,
                format!("{FOLDER}/{}", String::from_utf8_lossy(&pem)),
                absolute,
            )?;
            link(tree, format!("{FOLDER}/{hash}.{number}"), pem)?;
        }
    }
    Ok(step)
}

/// Certificates `*.crt` below a folder.
fn below(tree: &Tree, folder: &str, paths: &mut Vec<Vec<u8>>) -> Result<(), RootError> {
    if let Some(id) = tree.find(folder.as_bytes(), Follow::All)? {
        let found = tree
            .walk_from(folder.as_bytes(), id)
            .filter(|entry| entry.inode.content().is_some());
        paths.extend(
            found
                .map(|entry| entry.path)
                .filter(|path| path.ends_with(b".crt")),
        );
    }
    Ok(())
}

fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// The first certificate of a PEM text (RFC 7468).
fn decode(pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, rest) = text.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    let compact: String = body.split_ascii_whitespace().collect();
    STANDARD.decode(compact).ok()
}

/// An element of DER: its tag, its content, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // Longer lengths than these do not fit into memory.
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, rest) = rest.split_at_checked(count)?;
        (
            digits.iter().fold(0, |len, &digit| len << 8 | usize::from(digit)),
            rest,
        )
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// The content of the subject's Name of a certificate (RFC 5280, 4.1).
fn subject(certificate: &[u8]) -> Option<&[u8]> {
    let (0x30, whole, _) = element(certificate)? else {
        return None;
    };
    let (0x30, mut fields, _) = element(whole)? else {
        return None;
    };
    // version [0], where there is one; then serial number, signature, issuer, validity
    if let (0xa0, _, rest) = element(fields)? {
        fields = rest;
    }
    for _ in 0..4 {
        fields = element(fields)?.2;
    }
    let (0x30, subject, _) = element(fields)? else {
        return None;
    };
    Some(subject)
}

/// The hash that OpenSSL names links by since 1.0.0 (`X509_NAME_hash`): the first four bytes, little endian,
/// of the SHA-1 over the sets of the name with their strings in canonical form: UTF-8, without blanks at
/// the ends, one for several inside, in ASCII lower case.
fn subject_hash(subject: &[u8]) -> String {
    let mut canonical = Vec::new();
    let mut sets = subject;
    while let Some((0x31, set, rest)) = element(sets) {
        sets = rest;
        let mut attributes = Vec::new();
        let mut members = set;
        while let Some((0x30, attribute, rest)) = element(members) {
            members = rest;
            let Some((0x06, oid, value)) = element(attribute) else {
                continue;
            };
            let Some((tag, text, _)) = element(value) else {
                continue;
            };
            let mut body = encode(0x06, oid);
            match normal(tag, text) {
                Some(text) => body.extend(encode(0x0c, text.as_bytes())),
                None => body.extend(encode(tag, text)),
            }
            attributes.push(encode(0x30, &body));
        }
        attributes.sort();
        canonical.extend(encode(0x31, &attributes.concat()));
    }
    let digest = Sha1::digest(&canonical);
    format!(
        "{:08x}",
        u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
    )
}

fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    let len = content.len();
    if len < 0x80 {
        out.push(len as u8);
    } else {
        let digits: Vec<u8> = len
            .to_be_bytes()
            .into_iter()
            .skip_while(|&digit| digit == 0)
            .collect();
        out.push(0x80 | digits.len() as u8);
        out.extend(digits);
    }
    out.extend_from_slice(content);
    out
}

/// The canonical form of a string; none of a type that OpenSSL leaves as it is.
fn normal(tag: u8, bytes: &[u8]) -> Option<String> {
    let text = match tag {
        // UTF8String, PrintableString, IA5String, VisibleString
        0x0c | 0x13 | 0x16 | 0x1a => String::from_utf8_lossy(bytes).into_owned(),
        // TeletexString, taken for Latin-1
        0x14 => bytes.iter().map(|&byte| char::from(byte)).collect(),
        // BMPString
        0x1e => {
            let units: Vec<u16> = bytes
                .chunks_exact(2)
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16_lossy(&units)
        }
        // UniversalString
        0x1c => {
            let points = bytes
                .chunks_exact(4)
                .map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]));
            points
                .map(|point| char::from_u32(point).unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect()
        }
        _ => return None,
    };
    let space = |letter: char| letter.is_ascii_whitespace() || letter == '\x0b';
    let words: Vec<&str> = text.split(space).filter(|word| !word.is_empty()).collect();
    Some(words.join(" ").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Timestamp = Timestamp {
        seconds: 9,
        nanoseconds: 0,
    };

    #[test]
    fn strings_are_normalised() {
        assert_eq!(normal(0x13, b"  Two   Words ").unwrap(), "two words");
        assert_eq!(normal(0x1e, &[0, b'A', 0, b' ', 0, 0xe9]).unwrap(), "a \u{e9}");
        assert_eq!(normal(0x03, b"x"), None);
    }

    #[test]
    fn damaged_certificates_are_warnings() {
        let mut tree = Tree::new(Metadata::new(0o755, TIME));
        let file = || Metadata::new(0o644, TIME);
        let pem = "-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n";
        tree.write(b"usr/share/ca-certificates/a.crt", file(), pem.into())
            .unwrap();
        tree.write(b"usr/share/ca-certificates/b.crt", file(), "nothing".into())
            .unwrap();
        let step = run(&mut tree, TIME).unwrap();
        assert_eq!(step.warnings.len(), 2);
        assert_eq!(
            tree.read(b"etc/ssl/certs/ca-certificates.crt").unwrap(),
            pem.as_bytes()
        );
        assert!(run(&mut tree, TIME).unwrap().written.is_empty(), "twice is once");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = subject(&bytes).map(subject_hash);
            let _ = subject_hash(&bytes);
        }
    }
}
