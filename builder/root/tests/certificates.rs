//! Links to certificates beside those of `openssl rehash`.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use lycia_root::certificates::{self, hash_links};
use lycia_tree::{Follow, Metadata, Timestamp, Tree};

fn openssl() -> Command {
    let found = ["/usr/bin/openssl", "/usr/local/bin/openssl"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    Command::new(found.expect("openssl is not on this machine: install openssl (Debian)"))
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
}

/// What `openssl rehash` links in a folder with the given files.
fn rehash(files: &[(Vec<u8>, Vec<u8>)]) -> BTreeMap<String, Vec<u8>> {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(std::ffi::OsStr::from_bytes(name)), bytes).unwrap();
    }
    run(openssl().arg("rehash").arg(folder.path()));
    let links = std::fs::read_dir(folder.path()).unwrap().filter_map(|entry| {
        let entry = entry.unwrap();
        let target = std::fs::read_link(entry.path()).ok()?;
        let name = entry.file_name().into_string().unwrap();
        Some((name, target.as_os_str().as_bytes().to_vec()))
    });
    links.collect()
}

fn assert_same(mut files: Vec<(Vec<u8>, Vec<u8>)>) -> usize {
    files.sort();
    let borrowed: Vec<(&[u8], &[u8])> = files
        .iter()
        .map(|(name, bytes)| (name.as_slice(), bytes.as_slice()))
        .collect();
    let ours = hash_links(&borrowed);
    assert_eq!(ours.links, rehash(&files));
    ours.links.len()
}

/// A certificate of its own key with the given subject; `mask` says which type of text it gets.
fn certificate(folder: &Path, subject: &str, mask: &str) -> Vec<u8> {
    let config = folder.join("config");
    std::fs::write(
        &config,
        format!("[req]\ndistinguished_name = names\nstring_mask = {mask}\nutf8 = yes\n[names]\n"),
    )
    .unwrap();
    let key = folder.join("key");
    run(openssl()
        .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
        .arg(&key));
    let out = folder.join("out");
    run(openssl()
        .args([
            "req", "-x509", "-new", "-utf8", "-days", "9", "-subj", subject, "-config",
        ])
        .arg(&config)
        .arg("-key")
        .arg(&key)
        .arg("-out")
        .arg(&out));
    std::fs::read(out).unwrap()
}

#[test]
fn subjects_of_every_form_as_openssl_has_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (subject, mask) in [
        ("/C=DE/O=Two   Words  /CN= Upper CASE", "default"),
        ("/C=DE/O=two words/CN=upper case", "utf8only"),
        ("/CN=\u{c9}t\u{e9} \u{4e16}\u{754c}", "utf8only"),
        ("/CN=\u{c9}t\u{e9}", "MASK:0x4"),
        ("/CN=\u{4e16} B  C", "MASK:0x800"),
        ("/CN=\u{4e16} U", "MASK:0x100"),
        ("/CN=a+OU=b+O=c/DC=example/emailAddress=A@B.example", "nombstr"),
        ("/serialNumber=0001/x500UniqueIdentifier=xyz/CN=d", "default"),
        ("/", "default"),
    ] {
        let name = format!("{:02}.pem", files.len()).into_bytes();
        files.push((name, certificate(folder.path(), subject, mask)));
    }
    // The same once more, two in one file, none, and one with words around it.
    files.push((b"90.crt".to_vec(), files[0].1.clone()));
    files.push((
        b"91.pem".to_vec(),
        [files[1].1.clone(), files[2].1.clone()].concat(),
    ));
    files.push((b"92.pem".to_vec(), b"nothing\n".to_vec()));
    let around = [
        b"# words\nmore: words\n".as_slice(),
        &certificate(folder.path(), "/CN=w", "default"),
        b"\nend\n",
    ];
    files.push((b"93.cer".to_vec(), around.concat()));
    let broken = b"-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n";
    files.push((b"94.pem".to_vec(), broken.to_vec()));
    assert_eq!(assert_same(files), 10);
}

#[test]
fn all_of_debians_authorities_as_openssl_has_them() {
    let folder = Path::new("/usr/share/ca-certificates/mozilla");
    let entries = std::fs::read_dir(folder)
        .expect("there are no certificates on this machine: install ca-certificates (Debian)");
    let files: Vec<(Vec<u8>, Vec<u8>)> = entries
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_encoded_bytes();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect();
    assert!(assert_same(files) > 100);
}

#[test]
fn openssl_finds_an_authority_by_the_links_of_a_tree() {
    let folder = tempfile::tempdir().unwrap();
    let time = Timestamp::from_seconds(0);
    let mut tree = Tree::new(Metadata::new(0o755, time));
    let mut certificates = Vec::new();
    for name in ["One (x)", "Two"] {
        let bytes = certificate(folder.path(), &format!("/CN={name}"), "default");
        let path = format!("usr/share/ca-certificates/a/{name}.crt");
        tree.write(path.as_bytes(), Metadata::new(0o644, time), bytes.clone().into())
            .unwrap();
        certificates.push(bytes);
    }
    let hook = b"etc/ca-certificates/update.d/c_rehash";
    tree.write(hook, Metadata::new(0o755, time), "".into()).unwrap();
    let list = "a/One (x).crt\n!a/Two.crt\na/gone.crt\n";
    tree.write(
        b"etc/ca-certificates.conf",
        Metadata::new(0o644, time),
        list.into(),
    )
    .unwrap();
    let step = certificates::run(&mut tree, time).unwrap();
    assert_eq!(
        step.warnings,
        ["etc/ca-certificates.conf, line 3: there is no a/gone.crt"]
    );
    assert!(certificates::run(&mut tree, time).unwrap().written.is_empty());
    let link = tree
        .resolve(b"etc/ssl/certs/ca-cert-One_=x=.pem", Follow::Parents)
        .unwrap();
    assert_eq!(
        tree.inode(link).symlink(),
        Some(b"/usr/share/ca-certificates/a/One (x).crt".as_slice())
    );
    // What each link of the folder leads to, on disk.
    let on_disk = folder.path().join("certs");
    std::fs::create_dir(&on_disk).unwrap();
    let id = tree.resolve(b"etc/ssl/certs", Follow::All).unwrap();
    let names: Vec<Vec<u8>> = tree.inode(id).entries().unwrap().keys().cloned().collect();
    for name in names {
        let bytes = tree
            .read(&[b"etc/ssl/certs/".as_slice(), &name].concat())
            .unwrap();
        std::fs::write(on_disk.join(String::from_utf8(name).unwrap()), bytes).unwrap();
    }
    let verify = |certificate: &[u8]| {
        let file = folder.path().join("leaf");
        std::fs::write(&file, certificate).unwrap();
        let output = openssl()
            .args(["verify", "-CApath"])
            .arg(&on_disk)
            .arg(&file)
            .output()
            .unwrap();
        output.status.success()
    };
    assert!(verify(&certificates[0]));
    assert!(!verify(&certificates[1]), "it was not wanted");
}
