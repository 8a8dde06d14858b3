use super::*;
use crate::elf::tests::compile;
use crate::keys::tests::small_key;
use lycia_apk::metadata::Package;
use lycia_apk::package::{Contents, Expect, Trust, read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

struct Bench {
    dir: tempfile::TempDir,
    key: Key,
}

impl Bench {
    fn new() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let key = small_key(&dir.path().join("keys"));
        Bench { dir, key }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("result/out")
    }

    fn file(&self, path: &str, content: &[u8], mode: u32) {
        let path = self.out().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn make(&self, packages: &str) -> Result<PackagesRecord> {
        fs::create_dir_all(self.out()).unwrap();
        let text = format!(
            "name = \"x\"\nversion = \"1.2-r0\"\nsummary = \"an x\"\nlicense = \"MIT\"\nepoch = 1000\n{packages}"
        );
        let recipe = Recipe::parse(Path::new("x.toml"), &text).unwrap();
        let target = Target {
            arch: "x86_64".into(),
            triple: String::new(),
            rust_target: String::new(),
            debian_arch: String::new(),
            debian_multiarch: String::new(),
            environment: BTreeMap::new(),
        };
        make(
            &recipe,
            &target,
            &ResultDir(self.dir.path().join("result")),
            "hash",
            &self.key,
        )
    }

    fn read(&self, made: &Made) -> (Package, Contents) {
        let bytes = fs::read(self.dir.path().join("result/packages/hash").join(&made.file)).unwrap();
        assert_eq!(bytes.len() as u64, made.bytes);
        let mut contents = Contents::default();
        let expect = Expect {
            trust: Trust::Required,
            ..Expect::default()
        };
        let verified = read(&bytes, &self.key.ring().unwrap(), &expect, &mut contents).unwrap();
        assert_eq!(verified.identity.to_string(), made.identity);
        (verified.package, contents)
    }
}

/// `path mode owner:group kind` of everything in a package.
fn listing(package: &Package) -> Vec<String> {
    let mut lines = Vec::new();
    for dir in &package.paths {
        let path = String::from_utf8_lossy(&dir.path);
        lines.push(format!(
            "{path}/ {:o} {}:{}",
            dir.acl.mode, dir.acl.user, dir.acl.group
        ));
        for file in &dir.files {
            assert_eq!(file.mtime, 1000);
            let kind = match &file.kind {
                FileKind::Regular { .. } => format!("file {}", file.size),
                FileKind::Symlink { target } => format!("-> {}", String::from_utf8_lossy(target)),
                FileKind::HardLink { target } => format!("= {}", String::from_utf8_lossy(target)),
                FileKind::CharDevice { major, minor } => format!("char {major},{minor}"),
                FileKind::BlockDevice { major, minor } => format!("block {major},{minor}"),
                FileKind::Fifo => "fifo".into(),
            };
            let name = String::from_utf8_lossy(&file.name);
            lines.push(format!(
                "{path}/{name} {:o} {}:{} {kind}",
                file.acl.mode, file.acl.user, file.acl.group
            ));
        }
    }
    lines
}

fn texts(list: &[Dependency]) -> Vec<String> {
    list.iter().map(|d| d.to_string()).collect()
}

#[test]
fn a_package_read_back_has_normal_modes_and_stated_nodes() {
    let bench = Bench::new();
    bench.file("usr/bin/su", b"#!/bin/sh\n", 0o700);
    bench.file("etc/x.conf", b"conf", 0o666);
    fs::hard_link(bench.out().join("etc/x.conf"), bench.out().join("etc/y.conf")).unwrap();
    std::os::unix::fs::symlink("su", bench.out().join("usr/bin/sudo")).unwrap();
    fs::create_dir_all(bench.out().join("var/empty")).unwrap();
    let record = bench
        .make(
            r##"
[[package]]
name = "x"
files = ["usr/**", "etc/**", "var/**"]
depends = ["base-files", "y>=2"]
replaces = ["old"]
triggers = ["/usr/share/x"]
provider-priority = 7
[package.scripts]
trigger = "#!/bin/sh\ntrue\n"
[[package.entry]]
path = "usr/bin/su"
mode = "4755"
group = "wheel"
[[package.entry]]
path = "dev/console"
kind = "char"
major = 5
minor = 1
mode = "620"
group = "tty"
[[package.entry]]
path = "tmp"
kind = "dir"
mode = "1777"
[[package.entry]]
path = "etc"
mode = "700"
[[package.entry]]
path = "bin"
kind = "symlink"
target = "usr/bin"
"##,
        )
        .unwrap();
    let (package, contents) = bench.read(&record.packages[0]);
    assert_eq!(
        listing(&package),
        [
            "/ 755 root:root",
            "/bin 777 root:root -> usr/bin",
            "dev/ 755 root:root",
            "dev/console 620 root:tty char 5,1",
            "etc/ 700 root:root",
            "etc/x.conf 644 root:root file 4",
            "etc/y.conf 644 root:root = etc/x.conf",
            "tmp/ 1777 root:root",
            "usr/ 755 root:root",
            "usr/bin/ 755 root:root",
            "usr/bin/su 4755 root:wheel file 10",
            "usr/bin/sudo 777 root:root -> su",
            "var/ 755 root:root",
            "var/empty/ 755 root:root",
        ]
    );
    let info = &package.info;
    assert_eq!(
        (&*info.name, &*info.version, &*info.description),
        ("x", "1.2-r0", "an x")
    );
    assert_eq!(
        (&*info.arch, &*info.license, &*info.origin, info.build_time),
        ("x86_64", "MIT", "x", 1000)
    );
    assert_eq!(texts(&info.depends), ["base-files", "y>=2"]);
    assert_eq!(texts(&info.provides), ["cmd:su=1.2-r0", "cmd:sudo=1.2-r0"]);
    assert_eq!((info.provider_priority, info.installed_size), (7, 14));
    assert_eq!(package.triggers, ["/usr/share/x"]);
    assert_eq!(package.scripts.len(), 1);
    assert_eq!(contents.files.iter().map(|(.., c)| c.len()).sum::<usize>(), 14);
}

#[test]
fn packages_are_the_same_bytes_every_time() {
    let bytes = || {
        let bench = Bench::new();
        bench.file("usr/bin/a", b"a", 0o755);
        bench.file("usr/share/b", &[7; 100_000], 0o644);
        let made = bench.make("[[package]]\nname = \"x\"\nfiles = [\"**\"]").unwrap();
        fs::read(
            bench
                .dir
                .path()
                .join("result/packages/hash")
                .join(&made.packages[0].file),
        )
        .unwrap()
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn libraries_give_provides_and_depends() {
    let bench = Bench::new();
    let scratch = tempfile::tempdir().unwrap();
    let library = |name: &str, arguments: &[&str]| {
        let all: Vec<&str> = [
            "--target=x86_64-linux-musl",
            "-shared",
            "-fPIC",
            "-L.",
            "-Wl,--no-as-needed",
        ]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
        compile(scratch.path(), name, &all)
    };
    let c = library("libc.so", &["-Wl,-soname,libc.so"]);
    let one = library("libone.so", &["-Wl,-soname,libone.so.1", "-lc"]);
    let two = library("libtwo.so", &["-Wl,-soname,libtwo.so.2", "-lone", "-lc"]);
    let plugin = library("plugin.so", &["-Wl,-soname,plugin.so", "-ltwo"]);
    bench.file("usr/lib/libc.so", &c, 0o755);
    bench.file("usr/lib/libone.so.1.5.2", &one, 0o755);
    bench.file("usr/lib/libtwo.so.2", &two, 0o755);
    bench.file("usr/lib/x/plugin.so", &plugin, 0o755);
    let record = bench
        .make(
            r#"
[[package]]
name = "c"
files = ["usr/lib/libc.so"]
provides = ["so:libc.so=9"]
[[package]]
name = "one"
files = ["usr/lib/libone*"]
[[package]]
name = "two"
files = ["usr/lib/libtwo*", "usr/lib/x/*"]
so-ignore = ["libc.so"]
"#,
        )
        .unwrap();
    let info = |number: usize| bench.read(&record.packages[number]).0.info;
    assert_eq!(texts(&info(0).provides), ["so:libc.so=9"]);
    assert_eq!(texts(&info(1).provides), ["so:libone.so.1=1.5.2"]);
    assert_eq!(texts(&info(1).depends), ["so:libc.so"]);
    assert_eq!(texts(&info(2).provides), ["so:libtwo.so.2=2"]);
    assert_eq!(texts(&info(2).depends), ["so:libone.so.1"]);
}

#[test]
fn a_program_of_the_host_is_refused() {
    let bench = Bench::new();
    let scratch = tempfile::tempdir().unwrap();
    let program = compile(scratch.path(), "p", &["--target=aarch64-linux-musl", "-static"]);
    bench.file("usr/bin/p", &program, 0o755);
    let error = bench
        .make("[[package]]\nname = \"x\"\nfiles = [\"**\"]")
        .unwrap_err()
        .to_string();
    assert!(error.contains("usr/bin/p is for another machine"), "{error}");
    bench
        .make("[[package]]\nname = \"x\"\nfiles = [\"**\"]\nelf-scan = false")
        .unwrap();
}

/// Each row: packages, and what the message must hold. `$OUT` has usr/a, usr/b/c and the empty usr/d.
#[test]
fn claims_that_do_not_add_up_are_told() {
    let bench = Bench::new();
    bench.file("usr/a", b"a", 0o644);
    bench.file("usr/b/c", b"c", 0o644);
    fs::create_dir_all(bench.out().join("usr/d")).unwrap();
    let all = "files = [\"usr/**\"]";
    for (packages, wanted) in [
        (
            "[[package]]\nname = \"x\"\nfiles = [\"usr/a\"]".to_owned(),
            "no package takes usr/b/c, usr/d;",
        ),
        (
            format!("[[package]]\nname = \"x\"\n{all}\n[[package]]\nname = \"y\"\nfiles = [\"usr/a\"]"),
            "more than one package takes usr/a (x, y)",
        ),
        (
            format!(
                "[[package]]\nname = \"x\"\n{}",
                all.replace("]", ", \"usr/zzz*\"]")
            ),
            "\"usr/zzz*\" matches nothing",
        ),
        (
            format!("[[package]]\nname = \"x\"\n{}", all.replace("]", ", \"usr/b\"]")),
            "matches only directories that have content; write \"usr/b/**\"",
        ),
        (
            format!("[[package]]\nname = \"x\"\n{all}\n[[package.entry]]\npath = \"usr/no\""),
            "there is an entry for usr/no",
        ),
        (
            format!("[[package]]\nname = \"x\"\n{all}\n[[package.entry]]\npath = \"usr/a\"\nkind = \"fifo\""),
            "usr/a is in $OUT and stated as a node",
        ),
        (
            format!("[[package]]\nname = \"x\"\n{all}\ndepends = [\"a b\"]"),
            "package x:",
        ),
    ] {
        let error = bench.make(&packages).unwrap_err().to_string();
        assert!(error.contains(wanted), "{packages}\n{error}");
        assert!(!bench.dir.path().join("result/packages/hash").exists());
    }
    let fine =
        "unpackaged = [\"usr/d\"]\nsysroot = [\"usr/b/**\"]\n[[package]]\nname = \"x\"\nfiles = [\"usr/a\"]";
    bench.make(fine).unwrap();
}

#[test]
fn devices_left_in_out_are_refused() {
    let bench = Bench::new();
    fs::create_dir_all(bench.out()).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        bench.out().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let error = bench
        .make("[[package]]\nname = \"x\"\nfiles = [\"*\"]")
        .unwrap_err()
        .to_string();
    assert!(error.contains("pipe is a device, pipe or socket"), "{error}");
}

#[test]
fn versions_of_libraries_come_from_file_names() {
    for (name, wanted) in [
        ("libx.so.1.2.3", "1.2.3"),
        ("libx.so", "0"),
        ("libx.so.1", "1"),
        ("libx.so.", "0"),
        ("libx.so.q", "0"),
    ] {
        assert_eq!(library_version(name), wanted, "{name}");
    }
}
