//! The bundle of certificate authorities, `/etc/ssl/certs/ca-certificates.crt`, and OpenSSL's links to single
//! certificates by the hash of their subjects, as `openssl rehash` (openssl-rehash(1)) makes them.

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

/// A hook of Chimera's and Alpine's `update-ca-certificates`, whose links have a prefix; Debian's have none.
const HOOKS: &[&str] = &[
    "etc/ca-certificates/update.d/c_rehash",
    "etc/ca-certificates/update.d/certhash",
];

/// Makes bundle and links where the root has certificates. A list `etc/ca-certificates.conf` says which of
/// the distribution's are wanted (a line that begins with `!` takes one out); without it all are. Those in
/// `usr/local` are added in any case.
///
/// # Errors
/// When the tree's paths are broken.
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
            let found = tree.find(&path, Follow::All)?;
            if found.is_none_or(|id| tree.inode(id).content().is_none()) {
                step.warnings.push(format!(
                    "etc/ca-certificates.conf, line {}: there is no {}",
                    number + 1,
                    name.escape_debug()
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
    if paths.len() > COUNT_MAX {
        return Err(RootError::File {
            file: SOURCE.to_owned(),
            what: format!("has more than {COUNT_MAX} certificates"),
        });
    }
    let mut prefix = "";
    for hook in HOOKS {
        if tree.find(hook.as_bytes(), Follow::Parents)?.is_some() {
            prefix = "ca-cert-";
        }
    }
    let mut bundle = Vec::new();
    // By the name of the link; of two certificates with one the later counts.
    let mut links: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for path in &paths {
        let bytes = tree.read(path)?;
        if blocks(bytes).is_empty() {
            step.warnings
                .push(format!("{} holds no PEM certificate", display(path)));
            continue;
        }
        bundle.extend_from_slice(bytes);
        if !bundle.ends_with(b"\n") {
            bundle.push(b'\n');
        }
        links.insert(link_name(prefix, name(path)), path.clone());
    }
    tree.make_directories(FOLDER.as_bytes(), Metadata::new(0o755, time))?;
    let file = format!("{FOLDER}/ca-certificates.crt");
    replace(tree, file.as_bytes(), 0o644, bundle, time, &mut step.written)?;

    let mut certificates = Vec::new();
    for (link, path) in &links {
        symlink(tree, link, [b"/".as_slice(), path].concat(), time, &mut step)?;
        certificates.push((link.clone(), tree.read(path)?.to_vec()));
    }
    let files: Vec<(&[u8], &[u8])> = certificates
        .iter()
        .map(|(link, bytes)| (link.as_slice(), bytes.as_slice()))
        .collect();
    let hashes = hash_links(&files);
    for (hash, link) in &hashes.links {
        symlink(tree, hash.as_bytes(), link.clone(), time, &mut step)?;
    }
    step.warnings.extend(hashes.skipped);
    Ok(step)
}

/// Makes a link in the folder of certificates.
fn symlink(
    tree: &mut Tree,
    name: &[u8],
    target: Vec<u8>,
    time: Timestamp,
    step: &mut Step,
) -> Result<(), RootError> {
    let path = [FOLDER.as_bytes(), b"/", name].concat();
    let node = Node::Symlink(target);
    if let Some(id) = tree.find(&path, Follow::Parents)? {
        if tree.inode(id).node() == Some(&node) {
            return Ok(());
        }
        tree.remove(&path)?;
    }
    tree.insert(&path, Metadata::new(0o777, time), node)?;
    step.written.push(tree.canonical(&path, Follow::Parents)?);
    Ok(())
}

/// The name of the link to a certificate's file, as `update-ca-certificates` has it: without blanks,
/// commas and parentheses.
fn link_name(prefix: &str, file: &[u8]) -> Vec<u8> {
    let stem = file.strip_suffix(b".crt").unwrap_or(file);
    let plain = stem.iter().map(|&byte| match byte {
        b' ' | b',' => b'_',
        b'(' | b')' => b'=',
        byte => byte,
    });
    [prefix.as_bytes(), &plain.collect::<Vec<u8>>(), b".pem"].concat()
}

/// Links by hash.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct HashLinks {
    /// Names like `5ed36f99.0` with the files that they are to lead to.
    pub links: BTreeMap<String, Vec<u8>>,
    /// Files that got none, with why.
    pub skipped: Vec<String>,
}

/// The links that `openssl rehash` makes for files of a folder, which come in the order of their names: for
/// each that holds exactly one certificate the hash of its subject and a number, which counts different
/// certificates of one hash.
pub fn hash_links(files: &[(&[u8], &[u8])]) -> HashLinks {
    let mut found = HashLinks::default();
    let mut known: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for (file, bytes) in files {
        let mut skip = |why: &str| found.skipped.push(format!("{}: {why}", display(file)));
        let blocks = blocks(bytes);
        let [block] = blocks.as_slice() else {
            skip("it does not hold exactly one certificate, and gets no link by hash");
            continue;
        };
        let Some((certificate, hash)) = decode(block).and_then(|der| {
            let hash = subject_hash(subject(&der)?)?;
            Some((der, hash))
        }) else {
            skip("its certificate cannot be read, and gets no link by hash");
            continue;
        };
        let same = known.entry(hash.clone()).or_default();
        if same.contains(&certificate) {
            continue;
        }
        found
            .links
            .insert(format!("{hash}.{}", same.len()), file.to_vec());
        same.push(certificate);
    }
    found
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

/// The bodies of the certificates of a PEM text (RFC 7468); OpenSSL knows three names of them.
fn blocks(pem: &[u8]) -> Vec<&str> {
    let Ok(mut rest) = std::str::from_utf8(pem) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        rest = after;
        let Some((label, after)) = rest.split_once("-----") else {
            break;
        };
        if !matches!(label, "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE") {
            continue;
        }
        let Some((body, after)) = after.split_once(&format!("-----END {label}-----")) else {
            break;
        };
        found.push(body);
        rest = after;
    }
    found
}

fn decode(body: &str) -> Option<Vec<u8>> {
    let compact: String = body.split_ascii_whitespace().collect();
    let mut der = STANDARD.decode(compact).ok()?;
    // Of a trusted certificate what OpenSSL adds does not count.
    let rest = element(&der)?.2.len();
    der.truncate(der.len() - rest);
    Some(der)
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
///
/// None of what is no name.
fn subject_hash(subject: &[u8]) -> Option<String> {
    let mut canonical = Vec::new();
    let mut sets = subject;
    while !sets.is_empty() {
        let (0x31, set, rest) = element(sets)? else {
            return None;
        };
        sets = rest;
        let mut attributes = Vec::new();
        let mut members = set;
        while !members.is_empty() {
            let (0x30, attribute, rest) = element(members)? else {
                return None;
            };
            members = rest;
            let (0x06, oid, value) = element(attribute)? else {
                return None;
            };
            let (tag, text, _) = element(value)?;
            let mut body = encode(0x06, oid);
            if is_text(tag) {
                body.extend(encode(0x0c, normal(tag, text)?.as_bytes()));
            } else {
                body.extend(encode(tag, text));
            }
            attributes.push(encode(0x30, &body));
        }
        attributes.sort();
        canonical.extend(encode(0x31, &attributes.concat()));
    }
    let digest = Sha1::digest(&canonical);
    let number = u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]);
    Some(format!("{number:08x}"))
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

/// Whether OpenSSL takes the type for text: UTF8String, PrintableString, TeletexString, IA5String,
/// VisibleString, UniversalString and BMPString. Others are left as they are.
fn is_text(tag: u8) -> bool {
    matches!(tag, 0x0c | 0x13 | 0x14 | 0x16 | 0x1a | 0x1c | 0x1e)
}

/// The canonical form of a text; none where its bytes are none of its type.
fn normal(tag: u8, bytes: &[u8]) -> Option<String> {
    let text: String = match tag {
        0x0c => std::str::from_utf8(bytes).ok()?.to_owned(),
        0x1e => {
            let (pairs, []) = bytes.as_chunks::<2>() else {
                return None;
            };
            let points = pairs.iter().map(|&pair| u32::from(u16::from_be_bytes(pair)));
            points.map(char::from_u32).collect::<Option<_>>()?
        }
        0x1c => {
            let (fours, []) = bytes.as_chunks::<4>() else {
                return None;
            };
            let points = fours.iter().map(|&four| u32::from_be_bytes(four));
            points.map(char::from_u32).collect::<Option<_>>()?
        }
        // Of one byte a letter, taken for Latin-1.
        _ => bytes.iter().map(|&byte| char::from(byte)).collect(),
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
        assert_eq!(normal(0x14, b"\xe9 A").unwrap(), "\u{e9} a");
        for (tag, bytes) in [
            (0x0c, b"\xff".as_slice()),
            (0x1e, b"a"),
            (0x1e, b"\xd8\0"),
            (0x1c, b"abc"),
        ] {
            assert_eq!(normal(tag, bytes), None, "{tag} {bytes:?}");
        }
        assert!(!is_text(0x03));
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
            let pem = [b"-----BEGIN CERTIFICATE-----\n".as_slice(), &bytes, b"-----END CERTIFICATE-----"].concat();
            let _ = hash_links(&[(b"a", &pem), (b"b", &bytes)]);
        }
    }
}
