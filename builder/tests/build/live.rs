//! The seed's live image, built once for all tests, and once more elsewhere.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::manifests;
use crate::program::{
    LYCIA, checkout, copy_privately, give_away, open_folder, read, sha256, succeed, text, tool, unprivileged,
};

/// The image `live` as a user builds it.
pub struct Live {
    /// Where the seed and the packs are that it was built from.
    pub store: PathBuf,
    /// Where the results are.
    pub output: PathBuf,
    /// What `--json` printed.
    pub json: serde_json::Value,
}

impl Live {
    /// A result by the end of its name.
    pub fn file(&self, end: &str) -> PathBuf {
        self.output.join(format!("live-x86_64.{end}"))
    }

    /// The manifest.
    pub fn manifest(&self) -> serde_json::Value {
        serde_json::from_slice(&read(&self.file("manifest.json"))).unwrap()
    }
}

/// The image of the checkout and of the seed as they are now. It stays in the target folder until the
/// next run.
pub fn live() -> &'static Live {
    static LIVE: OnceLock<Live> = OnceLock::new();
    LIVE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("build-live");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).unwrap();
        }
        let (store, output) = (folder.join("store"), folder.join("output"));
        copy_seed(&users_store(), &store);
        let built = succeed(
            Command::new(LYCIA)
                .env_remove("SOURCE_DATE_EPOCH")
                .arg("--project")
                .arg(checkout())
                .arg("--cache")
                .arg(&store)
                .args(["build", "live", "--json", "--output"])
                .arg(&output),
        );
        let json = serde_json::from_slice(&built.stdout).unwrap();
        Live { store, output, json }
    })
}

#[test]
fn the_images_of_the_seed_are_as_committed() {
    let live = live();
    manifests::hold_built("live", &live.output);
    let folder = tempfile::tempdir().unwrap();
    for image in ["disk", "netboot"] {
        succeed(
            Command::new(LYCIA)
                .env_remove("SOURCE_DATE_EPOCH")
                .arg("--project")
                .arg(checkout())
                .arg("--cache")
                .arg(&live.store)
                .args(["build", image, "--output"])
                .arg(folder.path()),
        );
        manifests::hold_built(image, folder.path());
    }
    // Images that differ from these in packages, and take as long again to build.
    let project = lycia::definition::Project::find(Some(&checkout())).unwrap();
    for name in ["live-hardware", "rescue"] {
        let locked = folder.path().join(format!("{name}.lock"));
        succeed(
            Command::new(LYCIA)
                .env_remove("SOURCE_DATE_EPOCH")
                .arg("--project")
                .arg(checkout())
                .arg("--cache")
                .arg(&live.store)
                .args(["lock", name, "--output"])
                .arg(&locked),
        );
        let lock = lycia::lock::Lock::read(&locked).unwrap();
        let mut lines = format!("world {}\n", lock.world.join(" "));
        for (place, packages) in [
            ("root", &lock.package),
            ("initramfs", &lock.initramfs),
            ("offered", &lock.offered),
        ] {
            let shown = |one: &lycia::lock::LockedPackage| format!("{place} {} {}\n", one.name, one.version);
            lines.extend(packages.iter().map(shown));
        }
        let image = project.image(name, "x86_64").unwrap();
        for (config, text) in [
            ("grub.cfg", lycia::grub::menu(&image, &[])),
            ("loopback.cfg", lycia::grub::loopback(&image, &[])),
        ] {
            lines.extend(text.lines().map(|line| format!("{config} {line}\n")));
        }
        manifests::hold_lines(name, &lines);
    }
}

/// The same image, built by another user from the first one's lock in other surroundings.
pub struct Elsewhere {
    /// SHA-256 of the ISO.
    pub iso: String,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The lock.
    pub lock: Vec<u8>,
    /// The `.sha256` file.
    pub checksums: Vec<u8>,
    /// What strace saw.
    pub trace: String,
}

/// What [`Elsewhere`] is traced for: whatever wants a privilege, makes a namespace, reaches a network or
/// starts a program. A `?` stands before calls that not every architecture has.
pub const TRACED: &str = "trace=?mount,?umount2,?fsopen,?fsmount,?move_mount,?open_tree,?unshare,?setns,?clone,\
    ?clone3,?fork,?vfork,?chroot,?pivot_root,?mknod,?mknodat,?chown,?fchown,?lchown,?fchownat,?setuid,?setgid,\
    ?setreuid,?setregid,?setresuid,?setresgid,?setgroups,?init_module,?finit_module,?socket,?bpf,?execve,?execveat";

/// The image built under strace, unprivileged if we can be, with one thread, a cold store of packs,
/// another umask, time zone, locale, folder and checkout.
pub fn elsewhere() -> &'static Elsewhere {
    static ELSEWHERE: OnceLock<Elsewhere> = OnceLock::new();
    ELSEWHERE.get_or_init(|| {
        let first = live();
        let folder = open_folder();
        let at = |name: &str| folder.path().join(name);
        copy_seed(&first.store, &at("store"));
        for part in ["configs", "overlays"] {
            copy_privately(&checkout().join(part), &at("project").join(part));
        }
        std::fs::copy(first.file("lock"), at("the.lock")).unwrap();
        // The target folder may be closed to other users.
        std::fs::copy(LYCIA, at("lycia")).unwrap();
        std::fs::create_dir(at("nowhere")).unwrap();
        give_away(folder.path());

        let strace = tool("strace", "strace").get_program().to_owned();
        let mut command = Command::new("sh");
        command
            .args(["-c", "umask 077; exec \"$@\"", "sh"])
            .arg(strace)
            .args(["-f", "--seccomp-bpf", "-qq", "-s", "200", "-e", TRACED, "-o"])
            .arg(at("trace"))
            .arg("../lycia")
            .args(["--project", "../project", "--cache", "../store", "--jobs", "1"])
            .args([
                "--quiet",
                "build",
                "live",
                "--lock",
                "../the.lock",
                "--locked",
                "--output",
                "../out",
            ])
            .current_dir(at("nowhere"))
            .env("HOME", at("nowhere"))
            .env("TMPDIR", at("nowhere"))
            .env("TZ", "Pacific/Kiritimati")
            .env("LANG", "tr_TR.UTF-8")
            .env("LC_ALL", "tr_TR.UTF-8")
            // A lock says its own time.
            .env("SOURCE_DATE_EPOCH", "86400");
        unprivileged(&mut command);
        succeed(&mut command);
        let left = crate::program::names(&at("nowhere"));
        assert!(
            left.is_empty(),
            "litter in HOME, TMPDIR or the current folder: {left:?}"
        );
        let result = |end: &str| read(&at("out").join(format!("live-x86_64.{end}")));
        Elsewhere {
            iso: sha256(&result("iso")),
            manifest: result("manifest.json"),
            lock: result("lock"),
            checksums: result("iso.sha256"),
            trace: text(&read(&at("trace"))),
        }
    })
}

/// The store that `lycia setup` fills.
fn users_store() -> PathBuf {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    base.or_else(home).unwrap().join("lycia")
}

/// Copies the repository of the seed and its public key, and nothing else: no pack, no private key.
fn copy_seed(from: &Path, to: &Path) {
    let from = from.join("seed");
    assert!(
        from.join("repository/x86_64/Packages.adb").is_file(),
        "there is no seed in {}: run `lycia setup`",
        from.display()
    );
    for (part, end) in [("keys", ".pub"), ("repository/x86_64", "")] {
        let target = to.join("seed").join(part);
        std::fs::create_dir_all(&target).unwrap();
        for entry in std::fs::read_dir(from.join(part)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().ends_with(end) {
                std::fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
            }
        }
    }
}
