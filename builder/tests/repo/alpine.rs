//! The definition of Alpine with s6, and an allocator for every program, built from a v2 repository made here: packages of
//! concatenated gzip members, RSA signatures by openssl, APKINDEX.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use lycia::error::Kind;
use lycia_apk::index::Index;
use lycia_apk::keys::KeyRing;
use lycia_apk::package::Trust;

use crate::http::Served;
use crate::program::{LYCIA, checkout, open_folder, read, run, sha256, succeed, text, tool};

/// The file name of the key, by which v2 signatures name it.
const KEY: &str = "test-6165ee59.rsa.pub";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A header of ustar, with the content.
fn member(name: &str, kind: u8, mode: u32, link: &str, content: &[u8]) -> Vec<u8> {
    let mut head = vec![0u8; 512];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"14524770400\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    put(265, b"root");
    put(297, b"root");
    let sum: u32 = head.iter().map(|&byte| u32::from(byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    head.extend_from_slice(content);
    head.resize(head.len().next_multiple_of(512), 0);
    head
}

fn sha1(bytes: &[u8]) -> Vec<u8> {
    let mut child = tool("openssl", "openssl")
        .args(["dgst", "-sha1", "-binary"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    child.wait_with_output().unwrap().stdout
}

/// A regular file with its checksum, as abuild-tar writes it.
fn file(name: &str, content: &str) -> Vec<u8> {
    let sum: String = sha1(content.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // "LENGTH APK-TOOLS.checksum.SHA1=40 digits\n", of which the length counts itself.
    let rest = format!(" APK-TOOLS.checksum.SHA1={sum}\n");
    let record = format!("{}{rest}", rest.len() + 2);
    let mode = if name.contains("bin/") { 0o755 } else { 0o644 };
    [
        member("pax", b'x', 0o644, "", record.as_bytes()),
        member(name, b'0', mode, "", content.as_bytes()),
    ]
    .concat()
}

/// Text of base 64 (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place > chunk.len() { '=' } else { digit as char });
        }
    }
    text
}

#[derive(Default)]
struct Spec {
    name: &'static str,
    /// It says `noarch`, while the index says the architecture of its folder, as Alpine's do.
    for_every_arch: bool,
    depends: &'static str,
    provides: &'static str,
    replaces: &'static str,
    scripts: &'static [(&'static str, &'static str)],
    folders: &'static [&'static str],
    links: &'static [(&'static str, &'static str)],
    files: &'static [(&'static str, &'static str)],
}

struct Alpine {
    folder: tempfile::TempDir,
}

impl Alpine {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The signature member of a compressed member.
    fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        std::fs::write(self.path("message"), bytes).unwrap();
        let made = succeed(
            tool("openssl", "openssl")
                .args(["dgst", "-sha1", "-sign"])
                .arg(self.path("private.pem"))
                .arg(self.path("message")),
        );
        gzip(&member(
            &format!(".SIGN.RSA.{KEY}"),
            b'0',
            0o644,
            "",
            &made.stdout,
        ))
    }

    /// Writes a package; gives its record of the index.
    fn package(&self, folder: &Path, spec: &Spec) -> String {
        let mut data = Vec::new();
        let mut size = 0;
        for path in spec.folders {
            data.extend(member(&format!("{path}/"), b'5', 0o755, "", b""));
        }
        for (path, target) in spec.links {
            data.extend(member(path, b'2', 0o777, target, b""));
        }
        for (path, content) in spec.files {
            data.extend(file(path, content));
            size += content.len();
        }
        // As abuild has it: 0 is for packages without anything.
        if !data.is_empty() || !spec.scripts.is_empty() {
            size = size.max(1);
        }
        data.extend([0; 1024]);
        let data = gzip(&data);
        let mut info = format!(
            "# made by a test\npkgname = {}\npkgver = 1.0-r0\npkgdesc = of a test\nurl = none\nbuilddate = 1700000000\n\
             size = {size}\narch = {}\norigin = {}\nlicense = MIT\n",
            spec.name,
            if spec.for_every_arch { "noarch" } else { "x86_64" },
            spec.name
        );
        for (key, words) in [
            ("depend", spec.depends),
            ("provides", spec.provides),
            ("replaces", spec.replaces),
        ] {
            for word in words.split(' ').filter(|word| !word.is_empty()) {
                info.push_str(&format!("{key} = {word}\n"));
            }
        }
        info.push_str(&format!("datahash = {}\n", sha256(&data)));
        let mut control = member(".PKGINFO", b'0', 0o644, "", info.as_bytes());
        for (kind, body) in spec.scripts {
            control.extend(member(&format!(".{kind}"), b'0', 0o755, "", body.as_bytes()));
        }
        let control = gzip(&control);
        let whole = [self.sign(&control), control.clone(), data].concat();
        std::fs::write(folder.join(format!("{}-1.0-r0.apk", spec.name)), &whole).unwrap();
        let mut record = format!(
            "C:Q1{}\nP:{}\nV:1.0-r0\nA:x86_64\nS:{}\nI:{}\nT:of a test\nU:none\nL:MIT\no:{}\nt:1700000000\n",
            base64(&sha1(&control)),
            spec.name,
            whole.len(),
            size,
            spec.name
        );
        for (key, words) in [("D", spec.depends), ("p", spec.provides)] {
            if !words.is_empty() {
                record.push_str(&format!("{key}:{words}\n"));
            }
        }
        record
    }

    fn repository(&self, name: &str, packages: &[Spec]) {
        let folder = self.path("www").join(name).join("x86_64");
        std::fs::create_dir_all(&folder).unwrap();
        let records: Vec<String> = packages.iter().map(|spec| self.package(&folder, spec)).collect();
        let mut body = member("DESCRIPTION", b'0', 0o644, "", b"made by a test");
        body.extend(member(
            "APKINDEX",
            b'0',
            0o644,
            "",
            (records.join("\n") + "\n").as_bytes(),
        ));
        body.extend([0; 1024]);
        let body = gzip(&body);
        std::fs::write(folder.join("APKINDEX.tar.gz"), [self.sign(&body), body].concat()).unwrap();
    }

    fn new() -> Alpine {
        let alpine = Alpine {
            folder: open_folder(),
        };
        succeed(
            tool("openssl", "openssl")
                .args([
                    "genpkey",
                    "-quiet",
                    "-algorithm",
                    "RSA",
                    "-pkeyopt",
                    "rsa_keygen_bits:2048",
                    "-out",
                ])
                .arg(alpine.path("private.pem")),
        );
        succeed(
            tool("openssl", "openssl")
                .args(["pkey", "-pubout", "-in"])
                .arg(alpine.path("private.pem"))
                .arg("-out")
                .arg(alpine.path(KEY)),
        );
        alpine.repository(
            "alpine/latest-stable/main",
            &[
                Spec {
                    name: "alpine-baselayout",
                    depends: "/bin/sh",
                    folders: &[
                        "bin",
                        "dev",
                        "etc",
                        "etc/profile.d",
                        "lib",
                        "proc",
                        "root",
                        "run",
                        "sbin",
                        "sys",
                        "tmp",
                        "usr",
                        "usr/bin",
                        "usr/lib",
                        "var",
                    ],
                    files: &[
                        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
                        ("etc/group", "root:x:0:root\n"),
                        ("etc/profile", "for one in /etc/profile.d/*.sh; do . $one; done\n"),
                    ],
                    ..Spec::default()
                },
                Spec {
                    name: "alpine-keys",
                    for_every_arch: true,
                    folders: &["etc", "etc/apk", "etc/apk/keys"],
                    files: &[("etc/apk/keys/alpine.rsa.pub", "a key\n")],
                    ..Spec::default()
                },
                Spec {
                    name: "musl",
                    provides: "so:libc.musl-x86_64.so.1=1",
                    folders: &["lib"],
                    files: &[("lib/ld-musl-x86_64.so.1", "libc\n")],
                    ..Spec::default()
                },
                Spec {
                    name: "libc-utils",
                    for_every_arch: true,
                    depends: "musl-utils",
                    ..Spec::default()
                },
                Spec {
                    name: "musl-utils",
                    depends: "so:libc.musl-x86_64.so.1",
                    folders: &["usr", "usr/bin"],
                    files: &[("usr/bin/getconf", "a program\n")],
                    ..Spec::default()
                },
                Spec {
                    name: "apk-tools",
                    depends: "so:libc.musl-x86_64.so.1",
                    folders: &["sbin"],
                    files: &[("sbin/apk", "a program\n")],
                    ..Spec::default()
                },
                Spec {
                    name: "busybox",
                    depends: "so:libc.musl-x86_64.so.1",
                    scripts: &[(
                        "post-install",
                        "#!/bin/busybox sh\nexec /bin/busybox --install -s\n",
                    )],
                    folders: &["bin"],
                    files: &[("bin/busybox", "a program\n")],
                    ..Spec::default()
                },
                Spec {
                    name: "busybox-binsh",
                    depends: "busybox",
                    provides: "/bin/sh=1 cmd:sh=1.0-r0",
                    folders: &["bin"],
                    links: &[("bin/sh", "/bin/busybox")],
                    ..Spec::default()
                },
                Spec {
                    name: "skalibs-libs",
                    depends: "so:libc.musl-x86_64.so.1",
                    provides: "so:libskarnet.so.2.14=2.14.4.0",
                    folders: &["usr", "usr/lib"],
                    files: &[("usr/lib/libskarnet.so.2.14", "a library\n")],
                    ..Spec::default()
                },
                Spec {
                    name: "execline",
                    depends: "so:libskarnet.so.2.14",
                    folders: &["usr", "usr/bin"],
                    files: &[("usr/bin/execlineb", "a program\n")],
                    ..Spec::default()
                },
                Spec {
                    name: "s6",
                    depends: "execline so:libskarnet.so.2.14",
                    folders: &["usr", "usr/bin"],
                    files: &[("usr/bin/s6-svscan", "a program\n")],
                    ..Spec::default()
                },
            ],
        );
        alpine.repository(
            "alpine/latest-stable/community",
            &[
                Spec {
                    name: "mimalloc",
                    depends: "so:libc.musl-x86_64.so.1",
                    folders: &["usr", "usr/lib"],
                    files: &[("usr/lib/libmimalloc.so", "a library\n")],
                    ..Spec::default()
                },
                Spec {
                    name: "jemalloc",
                    depends: "so:libc.musl-x86_64.so.1",
                    folders: &["usr", "usr/lib"],
                    files: &[("usr/lib/libjemalloc.so.2", "a library\n")],
                    ..Spec::default()
                },
                Spec {
                    name: "mimalloc-global",
                    depends: "mimalloc",
                    provides: "malloc-global=1",
                    folders: &["etc", "etc/profile.d"],
                    files: &[(
                        "etc/profile.d/mimalloc.sh",
                        "export LD_PRELOAD=/usr/lib/libmimalloc.so\n",
                    )],
                    ..Spec::default()
                },
                Spec {
                    name: "jemalloc-global",
                    depends: "jemalloc",
                    provides: "malloc-global=1",
                    folders: &["etc", "etc/profile.d"],
                    files: &[(
                        "etc/profile.d/jemalloc.sh",
                        "export LD_PRELOAD=/usr/lib/libjemalloc.so.2\n",
                    )],
                    ..Spec::default()
                },
            ],
        );
        // A project with this checkout's definitions and one that adds an allocator.
        crate::program::copy_privately(&checkout().join("configs"), &alpine.path("project/configs"));
        crate::program::copy_privately(&checkout().join("overlays"), &alpine.path("project/overlays"));
        std::fs::write(
            alpine.path("project/configs/images/mimalloc.toml"),
            "include = [\"alpine-s6\"]\npackages = [\"mimalloc-global\"]\n",
        )
        .unwrap();
        alpine
    }

    fn build(&self, served: &Served, image: &str) -> Command {
        let mut command = Command::new(LYCIA);
        command
            .arg("--project")
            .arg(self.path("project"))
            .arg("--cache")
            .arg(self.path("store"))
            .args(["build", image, "--mirror"])
            .arg(format!("https://dl-cdn.alpinelinux.org={}", served.url))
            .arg("--trust")
            .arg(self.path(KEY))
            .arg("--output")
            .arg(self.path(image));
        command
    }
}

#[test]
fn a_repository_of_the_second_version_makes_tarballs_and_containers() {
    let alpine = Alpine::new();
    let served = Served::new(&alpine.path("www"));
    // The whole repository, every byte of it.
    let mut verify = Command::new(LYCIA);
    verify
        .args(["--quiet", "repo", "verify", "--json"])
        .arg(alpine.path("www/alpine/latest-stable/main"));
    let report: serde_json::Value =
        serde_json::from_slice(&succeed(verify.arg("--key").arg(alpine.path(KEY))).stdout).unwrap();
    assert_eq!(report[0]["sound"], 11, "{report}");
    assert_eq!(report[0]["signed-by"], KEY);

    let built = succeed(&mut alpine.build(&served, "alpine-s6"));
    let said = text(&built.stderr);
    assert!(
        said.contains("busybox has a post-install script, which was not run"),
        "{said}"
    );
    let strict = run(alpine.build(&served, "alpine-s6").arg("--strict"));
    assert_eq!(
        strict.status.code(),
        Some(i32::from(Kind::Target.code())),
        "{}",
        text(&strict.stderr)
    );

    crate::manifests::hold("alpine-s6", &alpine.path("alpine-s6"));
    let tarball = alpine.path("alpine-s6/alpine-s6-x86_64.tar.gz");
    let of = |tarball: &Path, path: &str| {
        let mut command = tool("tar", "tar");
        text(&succeed(command.arg("-xOf").arg(tarball).arg(path)).stdout)
    };
    let list = text(&succeed(tool("tar", "tar").arg("-tf").arg(&tarball)).stdout);
    for name in [
        "usr/bin/s6-svscan",
        "usr/lib/libskarnet.so.2.14",
        "etc/s6/",
        "bin/sh",
        "lib/apk/db/installed",
    ] {
        assert!(list.lines().any(|line| line == name), "no {name} in {list}");
    }
    let database = of(&tarball, "lib/apk/db/installed");
    let record = database
        .split("\n\n")
        .find(|record| record.contains("P:s6\n"))
        .unwrap();
    assert!(record.contains("C:Q1"), "{record}");
    assert!(record.contains("R:s6-svscan\na:0:0:755\nZ:Q1"), "{record}");
    assert_eq!(
        of(&tarball, "etc/apk/world"),
        "alpine-baselayout\nalpine-keys\napk-tools\nbusybox-binsh\nlibc-utils\ns6\n"
    );
    // Where the definition has them, whatever mirror was asked.
    assert_eq!(
        of(&tarball, "etc/apk/repositories"),
        "https://dl-cdn.alpinelinux.org/alpine/latest-stable/main\n\
         https://dl-cdn.alpinelinux.org/alpine/latest-stable/community\n"
    );
    let image = alpine.path("alpine-s6/alpine-s6-x86_64.oci.tar");
    let mut inspect = tool("skopeo", "skopeo");
    inspect
        .args(["inspect", "--config"])
        .arg(format!("oci-archive:{}", image.display()));
    let config: serde_json::Value = serde_json::from_slice(&succeed(&mut inspect).stdout).unwrap();
    assert_eq!(
        config["config"]["Entrypoint"],
        serde_json::json!(["/usr/bin/s6-svscan", "/etc/s6"])
    );

    // The allocator that every program gets, and not two of them.
    succeed(&mut alpine.build(&served, "mimalloc"));
    let tarball = alpine.path("mimalloc/mimalloc-x86_64.tar.gz");
    assert_eq!(
        of(&tarball, "etc/profile.d/mimalloc.sh"),
        "export LD_PRELOAD=/usr/lib/libmimalloc.so\n"
    );
    assert_eq!(of(&tarball, "usr/lib/libmimalloc.so"), "a library\n");
    std::fs::write(
        alpine.path("project/configs/images/mimalloc.toml"),
        "include = [\"alpine-s6\"]\npackages = [\"mimalloc-global\", \"jemalloc-global\"]\n",
    )
    .unwrap();
    let both = run(&mut alpine.build(&served, "mimalloc"));
    assert_eq!(both.status.code(), Some(i32::from(Kind::Solver.code())));
    let said = text(&both.stderr);
    assert!(
        said.contains("mimalloc-global") && said.contains("jemalloc-global"),
        "{said}"
    );

    // One flipped byte in what is signed is found.
    let path = alpine.path("www/alpine/latest-stable/main/x86_64/s6-1.0-r0.apk");
    let whole = read(&path);
    // The signature's own part vouches for itself: where it still says what it said, a flip there changes nothing.
    let magic = |at: &usize| whole[*at..].starts_with(&[0x1f, 0x8b, 8, 0]);
    let control = (1..whole.len()).find(magic).unwrap();
    for place in (control..whole.len()).step_by((whole.len() - control) / 12) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x04;
        std::fs::write(&path, &bytes).unwrap();
        let _ = std::fs::remove_dir_all(alpine.path("store"));
        let ended = run(&mut alpine.build(&served, "alpine-s6"));
        assert_eq!(
            ended.status.code(),
            Some(i32::from(Kind::Verification.code())),
            "byte {place}: {}",
            text(&ended.stderr)
        );
    }
}

#[test]
fn packages_for_every_architecture_are_indexed_where_alpine_keeps_them() {
    let alpine = Alpine::new();
    let root = alpine.path("www/alpine/latest-stable/main");
    let folder = root.join("x86_64");
    let repo = |verb: &str, root: &Path| {
        let mut command = Command::new(LYCIA);
        command
            .args(["--quiet", "repo", verb])
            .arg(root)
            .arg("--key")
            .arg(alpine.path(KEY));
        command
    };
    succeed(&mut repo("index", &root));
    let bytes = read(&folder.join("Packages.adb"));
    let index = Index::read(&bytes, &KeyRing::new(), Trust::AllowUntrusted).unwrap();
    assert_eq!(index.packages.len(), 11);
    assert!(index.packages.iter().all(|entry| entry.arch == "x86_64"));
    // The key that signs the index is trusted for packages by the name that they name it by.
    std::fs::copy(
        alpine.path("private.pem"),
        alpine.path(KEY.strip_suffix(".pub").unwrap()),
    )
    .unwrap();
    let mut own = Command::new(LYCIA);
    own.args(["--quiet", "repo", "index"]).arg(&root).arg("--sign");
    succeed(own.arg(alpine.path(KEY.strip_suffix(".pub").unwrap())));
    succeed(&mut repo("verify", &root));
    // The same under a name that is none of an architecture.
    let other = alpine.path("some");
    std::fs::create_dir(&other).unwrap();
    std::fs::copy(
        folder.join("alpine-keys-1.0-r0.apk"),
        other.join("alpine-keys-1.0-r0.apk"),
    )
    .unwrap();
    let ended = run(&mut repo("index", &other));
    assert_eq!(ended.status.code(), Some(i32::from(Kind::Verification.code())));
    let said = text(&ended.stderr);
    assert!(said.contains("it is for noarch"), "{said}");
    // In a folder of its own it stays what it is.
    let everywhere = root.join("noarch");
    std::fs::create_dir(&everywhere).unwrap();
    std::fs::rename(
        folder.join("alpine-keys-1.0-r0.apk"),
        everywhere.join("alpine-keys-1.0-r0.apk"),
    )
    .unwrap();
    succeed(&mut repo("index", &root));
    let bytes = read(&folder.join("Packages.adb"));
    let index = Index::read(&bytes, &KeyRing::new(), Trust::AllowUntrusted).unwrap();
    let archs: Vec<&str> = index.packages.iter().map(|one| &*one.arch).collect();
    assert_eq!(archs.iter().filter(|arch| **arch == "noarch").count(), 1);
    let keys = index.packages.iter().find(|one| one.name == "alpine-keys");
    assert_eq!(keys.unwrap().arch, "noarch");
}

#[test]
fn alpaquita_has_an_allocator_for_every_program_once_its_key_is_there() {
    let alpine = Alpine::new();
    alpine.repository(
        "alpaquita/musl/stream/core",
        &[
            Spec {
                name: "musl-perf",
                provides: "so:libc.musl-x86_64.so.1=1 musl=1.0-r0",
                folders: &["lib"],
                files: &[("lib/ld-musl-x86_64.so.1", "libc\n")],
                ..Spec::default()
            },
            Spec {
                name: "apk-tools",
                depends: "so:libc.musl-x86_64.so.1",
                folders: &["sbin"],
                files: &[("sbin/apk", "a program\n")],
                ..Spec::default()
            },
            Spec {
                name: "busybox",
                depends: "so:libc.musl-x86_64.so.1",
                folders: &["bin"],
                files: &[("bin/busybox", "a program\n")],
                links: &[("bin/sh", "/bin/busybox")],
                ..Spec::default()
            },
        ],
    );
    alpine.repository(
        "alpaquita/musl/stream/universe",
        &[
            Spec {
                name: "mimalloc",
                depends: "so:libc.musl-x86_64.so.1",
                folders: &["usr", "usr/lib"],
                files: &[("usr/lib/libmimalloc.so", "a library\n")],
                ..Spec::default()
            },
            Spec {
                name: "mimalloc-global",
                depends: "mimalloc",
                folders: &["etc", "etc/profile.d"],
                files: &[(
                    "etc/profile.d/mimalloc.sh",
                    "export LD_PRELOAD=/usr/lib/libmimalloc.so\n",
                )],
                ..Spec::default()
            },
        ],
    );
    let served = Served::new(&alpine.path("www"));
    let build = || {
        let mut command = Command::new(LYCIA);
        command
            .arg("--project")
            .arg(alpine.path("project"))
            .arg("--cache")
            .arg(alpine.path("store"))
            .args(["build", "alpaquita", "--mirror"])
            .arg(format!("https://packages.bell-sw.com={}", served.url))
            .arg("--output")
            .arg(alpine.path("alpaquita"));
        command
    };
    let refused = run(&mut build());
    assert_eq!(refused.status.code(), Some(i32::from(Kind::Input.code())));
    let said = text(&refused.stderr);
    assert!(
        said.contains("there is no key")
            && said.contains("keys/alpaquita/*.rsa.pub")
            && said.contains("/etc/apk/keys"),
        "{said}"
    );
    let keys = alpine.path("project/configs/repositories/keys/alpaquita");
    std::fs::create_dir_all(&keys).unwrap();
    std::fs::copy(alpine.path(KEY), keys.join(KEY)).unwrap();
    succeed(&mut build());
    crate::manifests::hold("alpaquita", &alpine.path("alpaquita"));
    let tarball = alpine.path("alpaquita/alpaquita-x86_64.tar.gz");
    let mut read_file = tool("tar", "tar");
    read_file
        .arg("-xOf")
        .arg(&tarball)
        .arg("etc/profile.d/mimalloc.sh");
    assert_eq!(
        text(&succeed(&mut read_file).stdout),
        "export LD_PRELOAD=/usr/lib/libmimalloc.so\n"
    );
}
