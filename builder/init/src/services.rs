//! Enabling dinit services by links, as `dinitctl --offline enable` does: the link goes into the
//! `waits-for.d` directory of the service it hangs from, which is `boot` unless the file says
//! `@meta enable-via`.

use crate::rootdir::{Access, RootDir};
use std::io;

/// Where service descriptions are searched, first hit wins (dinit(8); /lib is /usr/lib in the target).
const SEARCH: &[&str] = &[
    "/etc/dinit.d",
    "/run/dinit.d",
    "/usr/local/lib/dinit.d",
    "/usr/lib/dinit.d",
    "/lib/dinit.d",
];
/// Where links go when the file of the service to hang from does not say.
const BOOT_LINKS: &str = "/etc/dinit.d/boot.d";

/// Services that bring up a network.
pub const NETWORK: &[&str] = &[
    "networkmanager",
    "dhcpcd",
    "connman",
    "connmand",
    "iwd",
    "wpa_supplicant",
    "systemd-networkd",
    "ifupdown-ng",
    "udhcpc",
];
/// Display managers.
pub const GRAPHICAL: &[&str] = &[
    "gdm",
    "sddm",
    "lightdm",
    "lxdm",
    "greetd",
    "slim",
    "xdm",
    "ly",
    "plasmalogin",
];

/// What became of a request to enable a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enabled {
    /// The link that was made or was there.
    Link(String),
    /// There is no such service.
    Missing,
}

/// Whether `name` can be a service name: no directory part, no leading dot.
#[must_use]
pub fn is_service_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['.', '@'])
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '@') || !c.is_ascii())
}

/// Directory of the description of `name`, without the argument after `@`.
fn find(root: &RootDir, name: &str) -> Option<(&'static str, String)> {
    let base = name.split('@').next().unwrap_or(name);
    SEARCH
        .iter()
        .map(|directory| (*directory, format!("{directory}/{base}")))
        .find(|(_, path)| root.is_file(path))
}

/// Whether the root has a description of `name`.
#[must_use]
pub fn exists(root: &RootDir, name: &str) -> bool {
    is_service_name(name) && find(root, name).is_some()
}

/// The value of `@meta enable-via` in a description.
fn enable_via(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("@meta") && words.next() == Some("enable-via"))
            .then(|| words.next())??
            .to_owned()
            .into()
    })
}

/// The value of `waits-for.d` in a description.
fn waits_for_dir(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.split(" #").next().unwrap_or(line).trim();
        let (key, value) = line.split_once([':', '='])?;
        (key.trim() == "waits-for.d").then(|| value.trim().trim_matches('"').to_owned())
    })
}

fn link_directory(root: &RootDir, via: &str) -> io::Result<String> {
    let Some((directory, path)) = find(root, via) else {
        return Ok(BOOT_LINKS.into());
    };
    Ok(
        match waits_for_dir(&String::from_utf8_lossy(&root.read(&path)?)) {
            Some(value) if value.starts_with('/') => value,
            Some(value) if !value.is_empty() => format!("{directory}/{value}"),
            _ => BOOT_LINKS.into(),
        },
    )
}

/// Enables `name`. Doing it twice changes nothing.
///
/// # Errors
/// If the link cannot be made.
pub fn enable(root: &RootDir, name: &str, owner: Access) -> io::Result<Enabled> {
    if !is_service_name(name) {
        return Ok(Enabled::Missing);
    }
    let Some((_, path)) = find(root, name) else {
        return Ok(Enabled::Missing);
    };
    let text = String::from_utf8_lossy(&root.read(&path)?).into_owned();
    let via = enable_via(&text)
        .filter(|via| is_service_name(via))
        .unwrap_or_else(|| "boot".into());
    let directory = link_directory(root, &via)?;
    root.make_dirs(&directory, Access { mode: 0o755, ..owner })?;
    let link = format!("{directory}/{name}");
    // A real file there enables the service just as well.
    if !root.is_file(&link) || root.read_link(&link).is_some() {
        root.link(&link, &format!("../{name}"), owner)?;
    }
    Ok(Enabled::Link(link))
}

/// Removes the administrator's link of `name`, if there is one.
///
/// # Errors
/// If it is there and stays.
pub fn disable(root: &RootDir, name: &str) -> io::Result<bool> {
    let link = format!("{BOOT_LINKS}/{name}");
    if !is_service_name(name) || root.read_link(&link).is_none() {
        return Ok(false);
    }
    root.remove(&link)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootdir::tests::own;

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, RootDir) {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        for (path, text) in files {
            root.make_dirs(path.rsplit_once('/').unwrap().0, own(0o755))
                .unwrap();
            root.write(path, text.as_bytes(), own(0o644)).unwrap();
        }
        (dir, root)
    }

    #[test]
    fn links_hang_where_the_files_say() {
        let (_dir, root) = root(&[
            (
                "/usr/lib/dinit.d/boot",
                "type = internal\nwaits-for.d: /etc/dinit.d/boot.d # links\n",
            ),
            (
                "/usr/lib/dinit.d/login.target",
                "type = internal\nwaits-for.d = \"login.d\"\n",
            ),
            ("/usr/lib/dinit.d/sshd", "type = process\n"),
            (
                "/usr/lib/dinit.d/seatd",
                "type = process\n@meta enable-via login.target\n",
            ),
            ("/usr/lib/dinit.d/lost", "@meta enable-via nowhere\n"),
            ("/etc/dinit.d/agetty", "type = process\n"),
        ]);
        for (name, link) in [
            ("sshd", "/etc/dinit.d/boot.d/sshd"),
            ("seatd", "/usr/lib/dinit.d/login.d/seatd"),
            ("lost", "/etc/dinit.d/boot.d/lost"),
            ("agetty@ttyS0", "/etc/dinit.d/boot.d/agetty@ttyS0"),
        ] {
            for _ in 0..2 {
                assert_eq!(enable(&root, name, own(0)).unwrap(), Enabled::Link(link.into()));
            }
            assert_eq!(root.read_link(link), Some(format!("../{name}")));
        }
        assert!(disable(&root, "sshd").unwrap() && !disable(&root, "sshd").unwrap());
    }

    #[test]
    fn what_is_not_there_is_not_linked() {
        let (_dir, root) = root(&[("/etc/passwd", "")]);
        for name in ["sshd", "../passwd", "", ".", "..", "a/b"] {
            assert_eq!(enable(&root, name, own(0)).unwrap(), Enabled::Missing, "{name}");
        }
        assert!(!root.is_dir("/etc/dinit.d"));
    }
}
