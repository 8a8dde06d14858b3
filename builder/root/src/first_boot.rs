//! Triggers that have no native implementation, left to the first boot.
//!
//! A one-shot dinit service runs each script as apk would have run it when the packages were installed (facts of
//! apk 3: working directory `/`, name `lib/apk/exec/PACKAGE-VERSION.trigger`, the directories that matched as
//! arguments, an environment of `PATH`, `APK_SCRIPT` and `APK_PACKAGE` alone, nothing to read), and then
//! removes itself. apk has no command that runs triggers again: `apk fix PACKAGE` installs the package anew,
//! for which it needs the repository. A script that fails stays and runs at the next boot.

use lycia_tree::{Content, Follow, Metadata, Timestamp, Tree};

use crate::glob::lookup;
use crate::services::{self, Enabled};
use crate::{RootError, text};

/// The service.
pub const SERVICE: &str = "lycia-first-boot";
const RUNNER: &str = "usr/lib/lycia/first-boot";
const QUEUE: &str = "usr/lib/lycia/first-boot.d";
const DESCRIPTION: &str = "etc/dinit.d/lycia-first-boot";
/// Where apk runs scripts from.
const SCRIPTS: &str = "lib/apk/exec";
/// What is there when local file systems are; the first that a root has is waited for.
const MILESTONES: &[&str] = &["local.target", "early-fs-local.target"];
/// What is not to begin before it is done: logins, which may be graphical.
const LOGIN: &str = "login.target";

/// A trigger that is to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trigger {
    /// The package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// Its script.
    pub script: Vec<u8>,
    /// Directories that match its globs, absolute.
    pub directories: Vec<Vec<u8>>,
}

/// Puts the service and the scripts into a root, in the order given; gives the paths that were made, or none
/// where the root has no dinit that could run it.
///
/// # Errors
/// When a name or a path cannot be written down, or a file of that name is there.
pub fn install(
    tree: &mut Tree,
    triggers: &[Trigger],
    time: Timestamp,
) -> Result<Option<Vec<Vec<u8>>>, RootError> {
    if triggers.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let has = |tree: &Tree, service: &str| {
        ["etc/dinit.d", "usr/lib/dinit.d"]
            .iter()
            .any(|folder| lookup(tree, format!("{folder}/{service}").as_bytes(), Follow::All).is_some())
    };
    if !has(tree, "boot") {
        return Ok(None);
    }
    let mut files: Vec<(String, u16, Vec<u8>)> = Vec::new();
    for (number, trigger) in triggers.iter().enumerate() {
        let Trigger {
            package,
            version,
            script,
            directories,
        } = trigger;
        let plain = |text: &str| {
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._~@:".contains(&byte);
            !text.is_empty() && !text.starts_with('.') && text.bytes().all(fits)
        };
        if !plain(package) || !plain(version) || directories.iter().any(|path| path.contains(&b'\n')) {
            return Err(RootError::File {
                file: package.escape_debug().to_string(),
                what: "its trigger cannot be left to the first boot: a name or a directory has characters that no list holds".to_owned(),
            });
        }
        let path = format!("{SCRIPTS}/{package}-{version}.trigger");
        let mut entry = format!("{package}\n{path}\n").into_bytes();
        for directory in directories {
            entry.extend_from_slice(directory);
            entry.push(b'\n');
        }
        files.push((path, 0o755, script.clone()));
        files.push((format!("{QUEUE}/{number:03}-{package}"), 0o644, entry));
    }
    let mut description = format!(
        "# Runs what packages could not run while this system was made, once. See /{RUNNER}.\ntype = scripted\n\
         command = /{RUNNER}\nstart-timeout = 900\nrestart = no\n"
    );
    if let Some(milestone) = MILESTONES.iter().find(|name| has(tree, name)) {
        description += &format!("depends-on = {milestone}\n");
    }
    if has(tree, LOGIN) {
        description += &format!("before = {LOGIN}\n");
    }
    files.push((DESCRIPTION.to_owned(), 0o644, description.into_bytes()));
    files.push((RUNNER.to_owned(), 0o755, Vec::new()));
    for (path, ..) in &files {
        if lookup(tree, path.as_bytes(), Follow::Parents).is_some() {
            return Err(RootError::File {
                file: path.clone(),
                what: "is there already, where a file for the first boot is to be".to_owned(),
            });
        }
    }
    let mut written = Vec::new();
    let mut write = |tree: &mut Tree, path: &str, mode: u16, bytes: Vec<u8>| -> Result<(), RootError> {
        tree.write(path.as_bytes(), Metadata::new(mode, time), Content::from(bytes))?;
        written.push(tree.canonical(path.as_bytes(), Follow::All)?);
        Ok(())
    };
    for (path, mode, bytes) in files {
        write(tree, &path, mode, bytes)?;
    }
    let link = match services::enable(tree, SERVICE, time)? {
        Enabled::Made(path) => path,
        Enabled::Already => Vec::new(),
    };
    let link = String::from_utf8_lossy(&link).into_owned();
    write(tree, RUNNER, 0o755, runner(&link).into_bytes())?;
    written.extend((!link.is_empty()).then(|| link.into_bytes()));
    written.sort();
    written.dedup();
    Ok(Some(written))
}

/// The program of the service.
fn runner(link: &str) -> String {
    let link = text::shell_quoted(link);
    format!(
        r#"#!/bin/sh
# Runs the triggers of packages that could not run while this system was made, as apk would have run
# them, and then removes itself. What fails stays, and runs at the next boot.
umask 022
cd / || exit 1
failed=0
for entry in {QUEUE}/*; do
    [ -f "$entry" ] || continue
    {{
        IFS= read -r package
        IFS= read -r script
        set --
        while IFS= read -r directory; do
            set -- "$@" "$directory"
        done
    }} <"$entry"
    echo "first boot: running the trigger of $package"
    if env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin APK_SCRIPT=trigger "APK_PACKAGE=$package" "$script" "$@" </dev/null; then
        rm -f "$entry" "$script"
    else
        echo "first boot: the trigger of $package failed with status $?" >&2
        failed=1
    fi
done
[ "$failed" = 0 ] || exit 1
rm -f {link} {DESCRIPTION} {RUNNER}
rmdir {QUEUE} {SCRIPTS} 2>/dev/null
exit 0
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use lycia_tree::Node;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    const TIME: Timestamp = Timestamp {
        seconds: 0,
        nanoseconds: 0,
    };

    fn tree(services: &[&str]) -> Tree {
        let mut tree = Tree::new(Metadata::new(0o755, TIME));
        tree.make_directories(b"usr/lib", Metadata::new(0o755, TIME))
            .unwrap();
        tree.insert(
            b"lib",
            Metadata::new(0o777, TIME),
            Node::Symlink(b"usr/lib".to_vec()),
        )
        .unwrap();
        for name in services {
            let path = format!("usr/lib/dinit.d/{name}");
            let text = match *name {
                "boot" => "type = internal\nwaits-for.d: /etc/dinit.d/boot.d\n",
                _ => "type = internal\n",
            };
            tree.write(path.as_bytes(), Metadata::new(0o644, TIME), text.into())
                .unwrap();
        }
        tree
    }

    fn trigger(package: &str, script: &str) -> Trigger {
        Trigger {
            package: package.to_owned(),
            version: "1.0-r0".to_owned(),
            script: script.as_bytes().to_vec(),
            directories: vec![b"/usr/share/a b".to_vec(), b"/usr/share/$c".to_vec()],
        }
    }

    #[test]
    fn the_service_hangs_from_what_there_is() {
        let mut tree = tree(&["boot", "local.target", "login.target"]);
        install(&mut tree, &[trigger("glib", "#!/bin/sh\n")], TIME)
            .unwrap()
            .unwrap();
        let text = String::from_utf8(tree.read(DESCRIPTION.as_bytes()).unwrap().to_vec()).unwrap();
        assert!(
            text.contains("\ndepends-on = local.target\nbefore = login.target\n"),
            "{text}"
        );
        assert!(tree.read(b"etc/dinit.d/boot.d/lycia-first-boot").is_ok());
        let report = services::check(&tree);
        // The runner wants a shell, which this root has not.
        let missing: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
        assert!(
            missing.iter().all(|finding| finding.contains("/bin/sh")),
            "{missing:?}"
        );
        let again = install(&mut tree, &[trigger("glib", "")], TIME).unwrap_err();
        assert!(again.to_string().contains("is there already"), "{again}");
    }

    #[test]
    fn without_dinit_there_is_no_service() {
        assert_eq!(install(&mut tree(&[]), &[trigger("a", "")], TIME).unwrap(), None);
        assert_eq!(install(&mut tree(&[]), &[], TIME).unwrap(), Some(Vec::new()));
        for name in ["a/b", "a b", "", ".x"] {
            assert!(
                install(&mut tree(&["boot"]), &[trigger(name, "")], TIME).is_err(),
                "{name}"
            );
        }
    }

    /// Runs the runner in a folder on disk in place of `/`.
    #[test]
    fn scripts_run_as_apk_runs_them_and_all_is_gone_then() {
        let mut tree = tree(&["boot"]);
        let note = "#!/bin/sh\necho \"$0|$*|$#|$APK_PACKAGE|$APK_SCRIPT|$HOME|$(umask)|$(cat)\" >>log\n";
        let triggers = [
            trigger("one", note),
            trigger("two", "#!/bin/sh\n[ -e good ] || exit 3\necho two >>log\n"),
        ];
        let written = install(&mut tree, &triggers, TIME).unwrap().unwrap();
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("usr/lib")).unwrap();
        std::os::unix::fs::symlink("usr/lib", root.path().join("lib")).unwrap();
        for path in &written {
            let id = tree.resolve(path, Follow::Parents).unwrap();
            let to = root.path().join(std::str::from_utf8(&path[1..]).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            match tree.inode(id).content() {
                Some(content) => {
                    std::fs::write(&to, content.bytes()).unwrap();
                    let mode = u32::from(tree.inode(id).metadata.mode);
                    std::fs::set_permissions(&to, std::fs::Permissions::from_mode(mode)).unwrap();
                }
                None => std::os::unix::fs::symlink("../lycia-first-boot", to).unwrap(),
            }
        }
        // The root of the test is no root of a system.
        let runner = root.path().join(RUNNER);
        let here = root.path().to_str().unwrap();
        let text = std::fs::read_to_string(&runner).unwrap();
        let text = text
            .replace("cd /", &format!("cd {here}"))
            .replace(" /etc/", " etc/")
            .replace("'/etc/", "'etc/");
        std::fs::write(&runner, text).unwrap();
        let run = || Command::new(&runner).output().unwrap();
        let log = || std::fs::read_to_string(root.path().join("log")).unwrap();

        let first = run();
        assert_eq!(first.status.code(), Some(1), "{first:?}");
        assert!(
            String::from_utf8_lossy(&first.stderr).contains("of two failed with status 3"),
            "{first:?}"
        );
        assert_eq!(
            log(),
            "lib/apk/exec/one-1.0-r0.trigger|/usr/share/a b /usr/share/$c|2|one|trigger||0022|\n"
        );
        std::fs::write(root.path().join("good"), "").unwrap();
        assert!(run().status.success());
        assert!(
            log().ends_with("two\n") && log().lines().count() == 2,
            "{}",
            log()
        );
        for path in &written {
            let path = root.path().join(std::str::from_utf8(&path[1..]).unwrap());
            assert!(path.symlink_metadata().is_err(), "{} is left", path.display());
        }
        assert!(!root.path().join(QUEUE).exists() && !root.path().join(SCRIPTS).exists());
    }
}
