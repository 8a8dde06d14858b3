//! Makes a root a live system's root: plain edits of files under it.
//!
//! The same things are set up as chimera-live does in its initramfs: user, passwords, doas or sudo, host
//! name, fstab, services.

use crate::accounts::{Accounts, Made, NewUser};
use crate::password::{salt_from, sha512_crypt};
use crate::request::{Password, Setup};
use crate::rootdir::{Access, RootDir};
use crate::services::{self, Enabled};
use rustix::fs::FileType;
use std::io;

/// Groups a live user joins if they exist.
const GROUPS: &[&str] = &["wheel", "audio", "video"];
/// Deepest directory of `/etc/skel` that is copied.
const SKEL_DEPTH: usize = 8;

/// Something that went wrong on a path.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path} of the new root: {source}")]
pub struct SetupError {
    /// What was being done.
    pub doing: &'static str,
    /// On what.
    pub path: String,
    /// Why it failed.
    pub source: io::Error,
}

/// What was done, for the log.
#[derive(Debug, Default)]
pub struct Report {
    /// Things to know.
    pub notes: Vec<String>,
    /// Things to warn of.
    pub warnings: Vec<String>,
}

/// The edits of one root.
#[derive(Debug)]
struct Editor<'a> {
    root: &'a RootDir,
    /// Who owns new files of the system: root, except in tests.
    system: Access,
    report: Report,
}

/// Sets up the root. `salt` is used if the password is in clear text.
///
/// # Errors
/// On the first file that cannot be changed.
pub fn set_up(root: &RootDir, setup: &Setup, salt: &[u8; 12]) -> Result<Report, SetupError> {
    set_up_as(root, setup, salt, Access::root(0))
}

fn set_up_as(root: &RootDir, setup: &Setup, salt: &[u8; 12], system: Access) -> Result<Report, SetupError> {
    let mut editor = Editor {
        root,
        system,
        report: Report::default(),
    };
    editor.hostname(setup)?;
    editor.fstab(setup)?;
    editor.machine_id()?;
    let user = editor.user(setup, salt)?;
    editor.privileges(&setup.user, user.as_ref())?;
    editor.services(setup)?;
    Ok(editor.report)
}

impl Editor<'_> {
    fn access(&self, mode: u32) -> Access {
        Access { mode, ..self.system }
    }

    fn text(&self, path: &str) -> Result<String, SetupError> {
        self.root.read_text(path).map_err(|source| SetupError {
            doing: "reading",
            path: path.into(),
            source,
        })
    }

    fn put(&self, path: &str, content: &str, mode: u32) -> Result<(), SetupError> {
        self.root
            .rewrite(path, content.as_bytes(), self.access(mode))
            .map_err(|source| SetupError {
                doing: "writing",
                path: path.into(),
                source,
            })
    }

    fn dirs(&self, path: &str) -> Result<(), SetupError> {
        self.root
            .make_dirs(path, self.access(0o755))
            .map_err(|source| SetupError {
                doing: "making the directory",
                path: path.into(),
                source,
            })
    }

    fn hostname(&mut self, setup: &Setup) -> Result<(), SetupError> {
        let name = match &setup.hostname {
            Some(name) => {
                self.dirs("/etc")?;
                self.put("/etc/hostname", &format!("{name}\n"), 0o644)?;
                name.clone()
            }
            None => self.text("/etc/hostname")?.trim().to_owned(),
        };
        if name.is_empty() {
            return Ok(());
        }
        // syslog daemons look their own name up; without these lines that goes to a name server.
        let mut hosts = self.text("/etc/hosts")?;
        let before = hosts.len();
        for address in ["127.0.0.1", "::1"] {
            let known = hosts.lines().any(|line| {
                let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
                words.next() == Some(address) && words.any(|word| word == name)
            });
            if !known {
                if !hosts.is_empty() && !hosts.ends_with('\n') {
                    hosts.push('\n');
                }
                hosts.push_str(&format!("{address} {name}\n"));
            }
        }
        if hosts.len() != before {
            self.put("/etc/hosts", &hosts, 0o644)?;
        }
        Ok(())
    }

    fn fstab(&mut self, setup: &Setup) -> Result<(), SetupError> {
        if !setup.fstab {
            self.report
                .notes
                .push("/etc/fstab is left as it is (nofstab)".into());
            return Ok(());
        }
        self.dirs("/etc")?;
        self.put(
            "/etc/fstab",
            "# A live system: the initramfs has mounted what is needed.\n",
            0o644,
        )
    }

    /// A real id in an image would be the same on every machine that boots it.
    fn machine_id(&mut self) -> Result<(), SetupError> {
        let id = self.text("/etc/machine-id")?;
        if matches!(id.trim(), "" | "uninitialized") {
            return Ok(());
        }
        self.report
            .warnings
            .push("the image carries a machine-id; replaced by `uninitialized`".into());
        self.put("/etc/machine-id", "uninitialized\n", 0o444)
    }

    fn shell(&mut self, setup: &Setup) -> String {
        if let Some(shell) = &setup.shell {
            if self.root.is_program(shell) {
                return shell.clone();
            }
            self.report.warnings.push(format!(
                "live-shell: {shell} is not in the image; using the default"
            ));
        }
        let default = ["/usr/bin/mksh", "/bin/sh", "/usr/bin/sh"]
            .into_iter()
            .find(|shell| self.root.is_program(shell));
        default.unwrap_or("/bin/sh").to_owned()
    }

    /// Returns what was made, or None if the live user is root itself.
    fn user(&mut self, setup: &Setup, salt: &[u8; 12]) -> Result<Option<Made>, SetupError> {
        let mut accounts = Accounts {
            passwd: self.text("/etc/passwd")?,
            group: self.text("/etc/group")?,
            shadow: self.text("/etc/shadow")?,
            gshadow: self.text("/etc/gshadow")?,
        };
        let before = accounts.clone();
        let hash = match &setup.password {
            Password::Hash(hash) => hash.clone(),
            Password::Clear(text) => sha512_crypt(text.as_bytes(), salt_from(salt).as_bytes(), None),
        };
        accounts.set_password("root", &hash);
        let made = if setup.user == "root" {
            None
        } else {
            let shell = self.shell(setup);
            Some(accounts.add_user(&NewUser {
                name: &setup.user,
                hash: &hash,
                shell: &shell,
                groups: GROUPS,
            }))
        };
        self.dirs("/etc")?;
        self.put("/etc/passwd", &accounts.passwd, 0o644)?;
        self.put("/etc/group", &accounts.group, 0o644)?;
        self.put("/etc/shadow", &accounts.shadow, 0o600)?;
        if accounts.gshadow != before.gshadow {
            self.put("/etc/gshadow", &accounts.gshadow, 0o600)?;
        }
        if let Some(made) = &made {
            self.report.notes.push(format!(
                "live user {} ({}), {}, groups {}",
                setup.user,
                made.uid,
                if made.existed { "was in the image" } else { "new" },
                made.groups.join(" ")
            ));
            self.home(made)?;
        }
        Ok(made)
    }

    fn home(&mut self, made: &Made) -> Result<(), SetupError> {
        let home = made.home.trim_end_matches('/');
        if made.existed || home.is_empty() || self.root.is_dir(home) {
            return Ok(());
        }
        if let Some((parent, _)) = home.rsplit_once('/')
            && !parent.is_empty()
        {
            self.dirs(parent)?;
        }
        // In tests an ordinary user cannot give files away.
        let owner = |mode| {
            if self.system.uid == 0 {
                Access {
                    uid: made.uid,
                    gid: made.gid,
                    mode,
                }
            } else {
                self.access(mode)
            }
        };
        let failed = |path: &str, source| SetupError {
            doing: "filling the home directory",
            path: path.into(),
            source,
        };
        self.root
            .make_dir(home, owner(0o700))
            .map_err(|source| failed(home, source))?;
        let mut todo = vec![(String::new(), 0)];
        while let Some((inside, depth)) = todo.pop() {
            let from = format!("/etc/skel{inside}");
            if !self.root.is_dir(&from) {
                continue;
            }
            for entry in self.root.list(&from).map_err(|source| failed(&from, source))? {
                let inside = format!("{inside}/{}", entry.name);
                let (from, to) = (format!("/etc/skel{inside}"), format!("{home}{inside}"));
                let copied = (|| {
                    match entry.kind {
                        FileType::Directory if depth < SKEL_DEPTH => {
                            self.root.make_dir(&to, owner(self.root.access(&from)?.1.mode))?;
                            todo.push((inside.clone(), depth + 1));
                        }
                        FileType::RegularFile => {
                            let mode = self.root.access(&from)?.1.mode & 0o777;
                            self.root.write(&to, &self.root.read(&from)?, owner(mode))?;
                        }
                        FileType::Symlink => {
                            if let Some(target) = self.root.read_link(&from) {
                                self.root.link(&to, &target, owner(0))?;
                            }
                        }
                        _ => {}
                    }
                    Ok(())
                })();
                copied.map_err(|source| failed(&to, source))?;
            }
        }
        Ok(())
    }

    /// Lets the live user become root with its password.
    fn privileges(&mut self, user: &str, made: Option<&Made>) -> Result<(), SetupError> {
        let Some(made) = made else { return Ok(()) };
        let wheel = made.groups.iter().any(|group| group == "wheel");
        let doas = format!(
            "permit persist {}{}\n",
            if wheel { ":" } else { "" },
            if wheel { "wheel" } else { user }
        );
        let sudo = format!(
            "{}{} ALL=(ALL:ALL) ALL\n",
            if wheel { "%" } else { "" },
            if wheel { "wheel" } else { user }
        );
        if let Some(directory) = ["/etc/doas.conf.d", "/etc/doas.d"]
            .into_iter()
            .find(|path| self.root.is_dir(path))
        {
            self.put(&format!("{directory}/lycia-live.conf"), &doas, 0o600)?;
        } else if self.root.is_program("/usr/bin/doas") {
            let text = self.text("/etc/doas.conf")?;
            if !text.contains(doas.trim_end()) {
                let gap = if text.is_empty() || text.ends_with('\n') {
                    ""
                } else {
                    "\n"
                };
                // Whatever the mode was: doas takes no file that others can write.
                self.root
                    .write(
                        "/etc/doas.conf",
                        format!("{text}{gap}{doas}").as_bytes(),
                        self.access(0o600),
                    )
                    .map_err(|source| SetupError {
                        doing: "writing",
                        path: "/etc/doas.conf".into(),
                        source,
                    })?;
            }
        }
        if self.root.is_dir("/etc/sudoers.d") {
            self.put("/etc/sudoers.d/lycia-live", &sudo, 0o440)?;
        }
        Ok(())
    }

    fn services(&mut self, setup: &Setup) -> Result<(), SetupError> {
        let failed = |name: &str, source| SetupError {
            doing: "enabling the service",
            path: name.into(),
            source,
        };
        let unwanted = |name: &str| {
            (!setup.networking && services::NETWORK.contains(&name))
                || (!setup.gui && services::GRAPHICAL.contains(&name))
        };
        let all = services::NETWORK.iter().chain(services::GRAPHICAL);
        for name in
            all.filter(|name| unwanted(name) && !setup.asked_services.iter().any(|asked| asked == *name))
        {
            if services::disable(self.root, name).map_err(|source| failed(name, source))? {
                self.report.notes.push(format!("service {name} is disabled"));
            }
        }
        let mut names = Vec::new();
        for choice in &setup.services {
            match choice.split('|').find(|name| services::exists(self.root, name)) {
                Some(name) if !unwanted(name) => names.push(name),
                Some(_) => {}
                None => self
                    .report
                    .notes
                    .push(format!("service {choice} is not in the image")),
            }
        }
        for name in &setup.asked_services {
            if services::exists(self.root, name) {
                names.push(name);
            } else {
                self.report
                    .warnings
                    .push(format!("services={name}: there is no such service in the image"));
            }
        }
        for name in names {
            match services::enable(self.root, name, self.system).map_err(|source| failed(name, source))? {
                Enabled::Link(link) => self
                    .report
                    .notes
                    .push(format!("service {name} is enabled by {link}")),
                Enabled::Missing => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::split;
    use crate::config::Config;
    use crate::request::{Boot, Request};
    use crate::rootdir::tests::own;

    fn root(files: &[(&str, &str, u32)]) -> (tempfile::TempDir, RootDir) {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        for (path, text, mode) in files {
            root.make_dirs(path.rsplit_once('/').unwrap().0, own(0o755))
                .unwrap();
            if !path.ends_with('/') {
                root.write(path, text.as_bytes(), own(*mode)).unwrap();
            }
        }
        (dir, root)
    }

    fn image() -> (tempfile::TempDir, RootDir) {
        root(&[
            ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644),
            ("/etc/group", "root:x:0:\nwheel:x:4:\n", 0o644),
            ("/etc/shadow", "root:*:::::::\n", 0o600),
            ("/etc/hostname", "image\n", 0o644),
            ("/etc/hosts", "127.0.0.1 localhost image\n::1 localhost", 0o644),
            ("/etc/fstab", "/dev/sda1 / ext4\n", 0o644),
            ("/etc/skel/.profile", "export A=1\n", 0o644),
            ("/etc/skel/.config/x/y", "y", 0o600),
            ("/etc/doas.conf.d/", "", 0),
            ("/etc/dinit.d/boot.d/", "", 0),
            ("/usr/lib/dinit.d/dhcpcd", "type = process\n", 0o644),
            ("/usr/lib/dinit.d/sshd", "type = process\n", 0o644),
            ("/usr/lib/dinit.d/gdm", "type = process\n", 0o644),
            ("/bin/sh", "#!", 0o755),
        ])
    }

    fn run(root: &RootDir, line: &str) -> Report {
        let config = Config {
            services: vec!["networkmanager|dhcpcd".into(), "gdm".into()],
            ..Config::default()
        };
        match Request::new(&split(line), &config).boot {
            Ok(Boot::Live(live)) => set_up_as(root, &live.setup, &[7; 12], own(0)).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn text(root: &RootDir, path: &str) -> String {
        String::from_utf8(root.read(path).unwrap()).unwrap()
    }

    #[test]
    fn an_image_becomes_a_live_system() {
        let (_dir, root) = image();
        let report = run(&root, "boot=live services=sshd,nope");
        let hash = sha512_crypt(b"chimera", salt_from(&[7; 12]).as_bytes(), None);
        assert_eq!(
            text(&root, "/etc/shadow"),
            format!("root:{hash}:::::::\nanon:{hash}::0:99999:7:::\n")
        );
        assert_eq!(root.access("/etc/shadow").unwrap().1.mode, 0o600);
        assert!(text(&root, "/etc/passwd").ends_with("anon:x:1000:1000:anon:/home/anon:/bin/sh\n"));
        assert_eq!(
            text(&root, "/etc/group"),
            "root:x:0:\nwheel:x:4:anon\nanon:x:1000:\n"
        );
        assert_eq!(
            text(&root, "/etc/hosts"),
            "127.0.0.1 localhost image\n::1 localhost\n::1 image\n"
        );
        assert!(!text(&root, "/etc/fstab").contains("sda1"));
        assert_eq!(
            text(&root, "/etc/doas.conf.d/lycia-live.conf"),
            "permit persist :wheel\n"
        );
        assert_eq!(text(&root, "/home/anon/.config/x/y"), "y");
        assert_eq!(root.access("/home/anon").unwrap().1.mode, 0o700);
        for name in ["sshd", "dhcpcd", "gdm"] {
            assert_eq!(
                root.read_link(&format!("/etc/dinit.d/boot.d/{name}")),
                Some(format!("../{name}"))
            );
        }
        assert_eq!(
            report.warnings,
            ["services=nope: there is no such service in the image"]
        );
        assert!(!root.is_file("/etc/machine-id"));
    }

    #[test]
    fn parameters_hold_things_back() {
        let (_dir, root) = image();
        root.link("/etc/dinit.d/boot.d/dhcpcd", "../dhcpcd", own(0))
            .unwrap();
        run(
            &root,
            "boot=live nofstab nonetworking nogui hostname=box live-user=me",
        );
        assert!(text(&root, "/etc/fstab").contains("sda1"));
        assert_eq!(text(&root, "/etc/hostname"), "box\n");
        for name in ["dhcpcd", "gdm"] {
            assert_eq!(root.read_link(&format!("/etc/dinit.d/boot.d/{name}")), None);
        }
        assert!(root.is_dir("/home/me"));
    }

    #[test]
    fn what_is_asked_for_by_name_wins() {
        let (_dir, root) = image();
        run(&root, "boot=live nogui services=gdm");
        assert!(root.read_link("/etc/dinit.d/boot.d/gdm").is_some());
    }

    #[test]
    fn the_live_user_may_be_root_and_twice_is_once() {
        let (_dir, root) = image();
        run(&root, "boot=live live-user=root live-password=x");
        assert!(!text(&root, "/etc/passwd").contains("1000"));
        run(&root, "boot=live");
        let once = (
            text(&root, "/etc/passwd"),
            text(&root, "/etc/group"),
            text(&root, "/etc/hosts"),
        );
        run(&root, "boot=live");
        assert_eq!(
            once,
            (
                text(&root, "/etc/passwd"),
                text(&root, "/etc/group"),
                text(&root, "/etc/hosts")
            )
        );
    }

    #[test]
    fn an_almost_empty_root_is_enough() {
        let (_dir, root) = root(&[
            ("/usr/bin/doas", "", 0o755),
            ("/etc/machine-id", "0123456789\n", 0o444),
            ("/etc/sudoers.d/", "", 0),
        ]);
        let report = run(&root, "boot=live live-shell=/bin/none");
        assert_eq!(text(&root, "/etc/doas.conf"), "permit persist anon\n");
        assert_eq!(
            text(&root, "/etc/sudoers.d/lycia-live"),
            "anon ALL=(ALL:ALL) ALL\n"
        );
        assert_eq!(text(&root, "/etc/machine-id"), "uninitialized\n");
        assert_eq!(report.warnings.len(), 2);
    }
}
