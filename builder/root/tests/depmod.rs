//! The module indexes beside those of kmod's depmod, and read by kmod's programs.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod modules;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use lycia_root::depmod;
use lycia_tree::{Follow, Metadata, Node, Timestamp, Tree};
use modules::{Spec, build};
use proptest::prelude::*;

const VERSION: &str = "6.1.0-test";
const TIME: Timestamp = Timestamp {
    seconds: 0,
    nanoseconds: 0,
};
/// What is compared byte by byte.
const FILES: [&str; 10] = [
    "modules.dep",
    "modules.dep.bin",
    "modules.alias",
    "modules.alias.bin",
    "modules.softdep",
    "modules.symbols",
    "modules.symbols.bin",
    "modules.builtin.bin",
    "modules.builtin.alias.bin",
    "modules.devname",
];

/// Files of a kernel's folder, and files elsewhere in the root.
type Files = BTreeMap<String, Vec<u8>>;

/// A program of kmod.
fn kmod(program: &str) -> Command {
    let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"]
        .map(|folder| Path::new(folder).join(program))
        .into_iter()
        .find(|path| path.exists());
    Command::new(found.unwrap_or_else(|| panic!("{program} is not on this machine: install kmod (Debian)")))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The root with the files below the kernel's folder, on disk.
fn on_disk(files: &Files) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("usr/lib")).unwrap();
    std::os::unix::fs::symlink("usr/lib", root.path().join("lib")).unwrap();
    for (path, bytes) in files {
        let path = root.path().join("usr/lib/modules").join(VERSION).join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    root
}

fn in_tree(files: &Files, configuration: &str) -> Tree {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    tree.make_directories(b"usr/lib", Metadata::new(0o755, TIME))
        .unwrap();
    let link = Node::Symlink(b"usr/lib".to_vec());
    tree.insert(b"lib", Metadata::new(0o777, TIME), link).unwrap();
    let folder = format!("usr/lib/modules/{VERSION}");
    for (path, bytes) in files {
        let path = format!("{folder}/{path}");
        tree.write(path.as_bytes(), Metadata::new(0o644, TIME), bytes.clone().into())
            .unwrap();
    }
    tree.write(
        b"etc/depmod.d/test.conf",
        Metadata::new(0o644, TIME),
        configuration.into(),
    )
    .unwrap();
    tree
}

/// What ours and kmod's make of the same modules; texts whose order is that of kmod's hash table are sorted.
fn both(files: &Files, configuration: &str) -> (Files, Files) {
    let root = on_disk(files);
    let conf = tempfile::tempdir().unwrap();
    std::fs::write(conf.path().join("test.conf"), configuration).unwrap();
    run(kmod("depmod")
        .args(["-b".as_ref(), root.path().as_os_str(), "-C".as_ref()])
        .arg(conf.path())
        .arg(VERSION));
    let mut tree = in_tree(files, configuration);
    depmod::run(&mut tree, VERSION, TIME).unwrap();
    assert!(
        depmod::run(&mut tree, VERSION, TIME).unwrap().is_empty(),
        "twice is once"
    );
    let sorted = |name: &str, bytes: Vec<u8>| {
        if name != "modules.symbols" {
            return bytes;
        }
        let mut lines: Vec<&[u8]> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
        lines.sort();
        lines.concat()
    };
    let mut ours = Files::new();
    let mut theirs = Files::new();
    for name in FILES {
        let relative = format!("usr/lib/modules/{VERSION}/{name}");
        let bytes = std::fs::read(root.path().join(&relative)).unwrap();
        // Where the list that an index is made of is missing, kmod leaves an empty file.
        if !bytes.is_empty() || !name.ends_with(".bin") {
            theirs.insert(name.to_owned(), sorted(name, bytes));
        }
        if let Some(id) = tree.find(relative.as_bytes(), Follow::All).unwrap() {
            let bytes = tree.inode(id).content().unwrap().bytes().to_vec();
            ours.insert(name.to_owned(), sorted(name, bytes));
        }
    }
    (ours, theirs)
}

fn assert_same(files: &Files, configuration: &str) {
    let (ours, theirs) = both(files, configuration);
    let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs));
    for (name, bytes) in &ours {
        let shown = |bytes: &[u8]| bytes.escape_ascii().to_string().replace("\\n", "\n");
        assert_eq!(shown(bytes), shown(&theirs[name]), "{name}");
    }
}

fn spec(info: &[&str], exports: &[&str], imports: &[&str]) -> Spec {
    Spec {
        info: info.iter().map(|&line| line.to_owned()).collect(),
        exports: exports
            .iter()
            .zip(0x1000..)
            .map(|(&name, checksum)| (name.to_owned(), checksum))
            .collect(),
        versions: true,
        imports: imports.iter().map(|&name| name.to_owned()).collect(),
        weak: Vec::new(),
    }
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = liblzma::write::XzEncoder::new(Vec::new(), 0);
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// A kernel with everything that an index can hold.
fn kernel() -> Files {
    let mut files = Files::new();
    let mut add = |path: &str, bytes: Vec<u8>| {
        files.insert(path.to_owned(), bytes);
    };
    add(
        "kernel/fs/fuse-x.ko",
        build(&spec(
            &[
                "alias=char-major-10-229",
                "alias=devname:fuse",
                "alias=fs-fuse",
                "alias=fs-fuse-[0-9]*",
                "alias=bad]",
            ],
            &["fuse_one", "fuse_two"],
            &["printk", "crc_start"],
        )),
    );
    add(
        "kernel/lib/crc.ko.xz",
        xz(&build(&spec(
            &["alias=crypto-crc", "softdep=pre: fuse-x"],
            &["crc_start"],
            &["table"],
        ))),
    );
    add(
        "kernel/lib/table.ko.zst",
        zstd::encode_all(build(&spec(&[], &["table"], &[])).as_slice(), 1).unwrap(),
    );
    let mut plain = spec(
        &["alias=of:N*T*Cacme,x-1"],
        &["unchecked"],
        &["fuse_two", "table"],
    );
    plain.versions = false;
    plain.weak = vec!["fuse_one".to_owned(), "nobody_has".to_owned()];
    add("kernel/drivers/plain.ko", build(&plain));
    add(
        "kernel/drivers/user.ko",
        build(&spec(
            &["alias=block-major-7-*", "alias=devname:half"],
            &[],
            &["unchecked", ".table"],
        )),
    );
    add("updates/old.ko", build(&spec(&["alias=new"], &[], &[])));
    add(
        "kernel/drivers/old.ko",
        build(&spec(&["alias=old"], &[], &["unchecked"])),
    );
    add("build/nothing.ko", build(&spec(&["alias=never"], &[], &[])));
    add(
        "modules.order",
        b"kernel/lib/table.ko\nkernel/drivers/user.ko\nkernel/lib/crc.ko\nkernel/gone.ko\nkernel/fs/fuse-x.ko\n\
          kernel/drivers/plain.ko\nkernel/drivers/old.ko\nupdates/old.ko\n"
            .to_vec(),
    );
    add(
        "modules.builtin",
        b"kernel/fs/ext4/ext4.ko\nkernel/lib/libcrc32c-x.ko\n".to_vec(),
    );
    add(
        "modules.builtin.modinfo",
        b"ext4.alias=fs-ext4\0ext4.license=GPL\0ext4.alias=ext3\0other.alias=fs-ext4\0x.alias=a]\0nothing\0"
            .to_vec(),
    );
    files
}

#[test]
fn the_same_bytes_as_kmod() {
    assert_same(&kernel(), "");
    let mut files = kernel();
    files.remove("modules.builtin.modinfo");
    assert_same(&files, "");
}

#[test]
fn modules_of_one_name_as_kmod_chooses() {
    assert_same(&kernel(), "search built-in updates\n");
    assert_same(&kernel(), "override old * kernel/drivers\n");
    assert_same(&kernel(), "override old 5.* kernel/drivers\nexclude lib\n");
}

#[test]
fn an_empty_kernel() {
    let files = Files::from([
        ("modules.order".to_owned(), Vec::new()),
        ("modules.builtin".to_owned(), Vec::new()),
    ]);
    assert_same(&files, "");
}

#[test]
fn kmod_reads_what_was_written() {
    let files = kernel();
    let root = on_disk(&files);
    let mut tree = in_tree(&files, "");
    for path in depmod::run(&mut tree, VERSION, TIME).unwrap() {
        let to: PathBuf = root.path().join(String::from_utf8(path[1..].to_vec()).unwrap());
        // Texts would be read where an index could not.
        if to.extension().is_some_and(|end| end == "bin") {
            std::fs::write(to, tree.read(&path).unwrap()).unwrap();
        }
    }
    let base = root.path().to_str().unwrap();
    let shown = |name: &str| {
        let text = run(kmod("modprobe").args(["-d", base, "-S", VERSION, "-D", name]));
        let lines = text.lines().map(|line| {
            let path = line.split_whitespace().nth(1).unwrap_or_default();
            path.rsplit('/').next().unwrap().to_owned()
        });
        lines.collect::<Vec<_>>()
    };
    assert_eq!(
        shown("user"),
        ["table.ko.zst", "crc.ko.xz", "fuse-x.ko", "plain.ko", "user.ko"]
    );
    assert_eq!(shown("fs-fuse"), ["table.ko.zst", "crc.ko.xz", "fuse-x.ko"]);
    assert_eq!(shown("fs-fuse_7").last().unwrap(), "fuse-x.ko");
    assert_eq!(shown("symbol:table"), ["table.ko.zst"]);
    // Built in: nothing is loaded from a file.
    let builtin = run(kmod("modprobe").args(["-d", base, "-S", VERSION, "-D", "ext4"]));
    assert_eq!(builtin, "builtin ext4\n");
    let builtin = run(kmod("modprobe").args(["-d", base, "-S", VERSION, "-D", "ext3"]));
    assert_eq!(builtin, "builtin ext4\n");
    let aliases = run(kmod("modinfo").args(["-b", base, "-k", VERSION, "-F", "alias", "fuse-x"]));
    assert!(aliases.contains("devname:fuse"), "{aliases}");
}

#[test]
fn modules_in_a_circle_are_refused() {
    let files = Files::from([
        ("a.ko".to_owned(), build(&spec(&[], &["a"], &["b"]))),
        ("b.ko".to_owned(), build(&spec(&[], &["b"], &["c"]))),
        ("c.ko".to_owned(), build(&spec(&[], &["c"], &["a"]))),
        ("d.ko".to_owned(), build(&spec(&[], &["d"], &["a"]))),
    ]);
    let error = depmod::run(&mut in_tree(&files, ""), VERSION, TIME)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("circle") && error.matches(" -> ").count() == 3,
        "{error}"
    );
}

#[test]
fn gzip_is_read() {
    let files = Files::from([(
        "a.ko.gz".to_owned(),
        gz(&build(&spec(&["alias=x-y"], &["a"], &[]))),
    )]);
    let mut tree = in_tree(&files, "");
    depmod::run(&mut tree, VERSION, TIME).unwrap();
    let alias = tree
        .read(format!("lib/modules/{VERSION}/modules.alias").as_bytes())
        .unwrap();
    assert!(alias.ends_with(b"\nalias x-y a\n"));
}

/// Alpine's `lib` is a folder of its own, where kmod looks whatever lies below `usr`.
#[test]
fn a_root_that_is_not_merged_is_indexed() {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let module = build(&spec(&["alias=x-y"], &["a"], &[]));
    let path = format!("lib/modules/{VERSION}/kernel/a.ko");
    tree.write(path.as_bytes(), Metadata::new(0o644, TIME), module.into())
        .unwrap();
    tree.make_directories(b"usr/lib/modules", Metadata::new(0o755, TIME))
        .unwrap();
    assert_eq!(depmod::kernels(&tree).unwrap(), [VERSION]);
    let listener = lycia_root::Listener {
        package: "kmod".to_owned(),
        globs: vec!["/lib/modules/*".to_owned()],
    };
    let options = lycia_root::Options {
        time: TIME,
        strict: true,
    };
    let report = lycia_root::run_triggers(&mut tree, &[listener], &options).unwrap();
    assert_eq!(report.ran, ["depmod"]);
    let read = |name: &str| {
        let path = format!("lib/modules/{VERSION}/{name}");
        String::from_utf8(tree.read(path.as_bytes()).unwrap().to_vec()).unwrap()
    };
    assert_eq!(read("modules.dep"), "kernel/a.ko:\n");
    assert!(read("modules.alias").ends_with("\nalias x-y a\n"));
    assert!(
        tree.read(format!("lib/modules/{VERSION}/modules.dep.bin").as_bytes())
            .is_ok()
    );
}

#[test]
fn what_would_break_lines_is_refused() {
    for (path, module, part) in [
        ("a.ko", spec(&["alias=a\nalias evil a"], &[], &[]), "alias"),
        ("a.ko", spec(&[], &["a\nb"], &[]), "symbol"),
        ("a b.ko", spec(&[], &[], &[]), "name of a module"),
    ] {
        let files = Files::from([(path.to_owned(), build(&module))]);
        let error = depmod::run(&mut in_tree(&files, ""), VERSION, TIME)
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Kernels of modules that export their own name and need some of those before them.
    #[test]
    fn any_kernel_as_kmod(
        modules in proptest::collection::vec(
            (proptest::collection::vec(any::<prop::sample::Index>(), 0..5), "[a-c_-]{1,4}", any::<bool>(), any::<bool>()),
            1..30,
        )
    ) {
        let mut files = Files::new();
        let mut order = String::new();
        for (at, (needs, alias, versions, ordered)) in modules.iter().enumerate() {
            let mut module = spec(&[&format!("alias={alias}")], &[&format!("symbol_{at}"), "shared"], &[]);
            module.versions = *versions;
            if at > 0 {
                module.imports = needs.iter().map(|need| format!("symbol_{}", need.index(at))).collect();
            }
            // One that is not in the list alone: more would come in the order of kmod's hash table.
            if *ordered || at > 0 {
                order += &format!("kernel/m{at}.ko\n");
            }
            files.insert(format!("kernel/m{at}.ko"), build(&module));
        }
        files.insert("modules.order".to_owned(), order.into_bytes());
        files.insert("modules.builtin".to_owned(), Vec::new());
        assert_same(&files, "");
    }
}
