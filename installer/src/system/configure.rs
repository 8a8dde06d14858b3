//! Configuration files of the installed system.

use std::fmt::Write as _;
use std::net::IpAddr;

use lycia_init::accounts::{Accounts, NewUser};
use lycia_tree::{Content, Follow, Metadata, Node, Timestamp, Tree, TreeError};

use super::{Parts, PreparedMount};
use crate::answers::{Login, Network};
use crate::file_system::check_pass;
use crate::toml_file::nearest;

/// Password field of a login that nobody can use.
const LOCKED: &str = "!";
const DEFAULT_SHELL: &str = "/bin/sh";

/// Why an answer does not fit the packages.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// The tree refuses a path.
    #[error("configuring the system: {0}")]
    Tree(#[from] TreeError),
    /// A service cannot be enabled.
    #[error("configuring the system: {0}")]
    Service(#[from] lycia_root::RootError),
    /// Something that no package has.
    #[error("{key}: the packages have no {what} `{name}`{}", near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    Unknown {
        /// The key of the answers.
        key: &'static str,
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// The nearest that there is.
        near: Option<String>,
    },
    /// Something that the packages cannot do.
    #[error("{key}: {what}")]
    Impossible {
        /// The key of the answers.
        key: &'static str,
        /// Why.
        what: String,
    },
}

pub(super) type Configured<T = ()> = Result<T, ConfigureError>;

pub(super) struct Writer<'t> {
    pub(super) tree: &'t mut Tree,
    pub(super) time: Timestamp,
    warnings: Vec<String>,
}

impl Writer<'_> {
    pub(super) fn there(&self, path: &str) -> Configured<bool> {
        Ok(self.tree.find(path.as_bytes(), Follow::All)?.is_some())
    }

    fn text(&self, path: &str) -> String {
        let bytes = self.tree.read(path.as_bytes()).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    pub(super) fn put(&mut self, path: &str, mode: u16, text: impl Into<Content>) -> Configured {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        if !folder.is_empty() {
            self.tree
                .make_directories(folder.as_bytes(), Metadata::new(0o755, self.time))?;
        }
        self.tree
            .write(path.as_bytes(), Metadata::new(mode, self.time), text.into())?;
        Ok(())
    }

    /// Names of the files below a folder, without what follows the first dot of `until`.
    fn names(&self, folder: &str, until: &str) -> Vec<String> {
        let Ok(Some(id)) = self.tree.find(folder.as_bytes(), Follow::All) else {
            return Vec::new();
        };
        let walk = self.tree.walk_from(b"", id);
        let names = walk
            .filter(|entry| !entry.inode.is_directory())
            .filter_map(|entry| {
                let name = std::str::from_utf8(entry.name()).ok()?;
                Some(name.split_once(until).map_or(name, |(stem, _)| stem).to_owned())
            });
        names.collect()
    }
}

/// Configures the system; says what the user should know.
///
/// # Errors
/// When an answer names something that the packages do not have.
pub fn configure(tree: &mut Tree, parts: &Parts<'_>, time: Timestamp) -> Configured<Vec<String>> {
    let mut writer = Writer {
        tree,
        time,
        warnings: Vec::new(),
    };
    let answers = parts.answers;
    writer.put("etc/hostname", 0o644, format!("{}\n", answers.hostname))?;
    // Told to be filled at the first boot: no two machines share it.
    writer.put("etc/machine-id", 0o444, "uninitialized\n")?;
    fstab(&mut writer, parts)?;
    timezone(&mut writer, &answers.timezone)?;
    if let Some(keymap) = &answers.keymap {
        keyboard(&mut writer, keymap)?;
    }
    if let Some(locale) = &answers.locale {
        writer.put("etc/locale.conf", 0o644, format!("LANG={locale}\n"))?;
        writer.put(
            "etc/profile.d/locale.sh",
            0o644,
            format!("export LANG={locale}\n"),
        )?;
    }
    accounts(&mut writer, parts)?;
    network(&mut writer, &answers.network)?;
    for service in parts.install.services.iter().chain(&answers.services) {
        lycia_root::services::enable(writer.tree, service, time)?;
    }
    Ok(writer.warnings)
}

fn fstab(writer: &mut Writer<'_>, parts: &Parts<'_>) -> Configured {
    let places = parts.places;
    let mut text = "# device  directory  type  options  dump  pass\n".to_owned();
    for (directory, options, pass) in parts.answers.disk.file_system.mounts() {
        writer
            .tree
            .make_directories(directory.as_bytes(), Metadata::new(0o755, writer.time))?;
        let _ = writeln!(
            text,
            "UUID={}  {directory}  {}  {options}  0  {pass}",
            places.root_uuid, places.root_type
        );
    }
    for one in &places.prepared {
        if one.mount_point.starts_with('/') {
            writer
                .tree
                .make_directories(one.mount_point.as_bytes(), Metadata::new(0o755, writer.time))?;
        }
        let _ = writeln!(
            text,
            "UUID={}  {}  {}  {}  0  {}",
            one.uuid, one.mount_point, one.kind, one.options, one.pass
        );
    }
    let apart = places.boot_uuid.as_ref();
    if let Some(uuid) = apart.filter(|_| places.prepared_at("/boot").is_none()) {
        let _ = writeln!(text, "UUID={uuid}  /boot  ext4  rw,relatime,nodev,nosuid  0  2");
    }
    if let Some(uuid) = &places.volume_uuid {
        // crypttab(5); the initramfs has opened it when anybody reads this.
        let line = format!(
            "# name  device  key  options\n{}  UUID={uuid}  none  luks\n",
            crate::encryption::NAME
        );
        writer.put("etc/crypttab", 0o644, line)?;
    }
    if let Some(uuid) = &places.esp_uuid {
        writer
            .tree
            .make_directories(b"boot/efi", Metadata::new(0o755, writer.time))?;
        let _ = writeln!(
            text,
            "UUID={uuid}  /boot/efi  vfat  rw,umask=0077,noauto,nofail  0  2"
        );
    }
    if let Some((uuid, kind)) = &places.home {
        let pass = check_pass(kind, false);
        let _ = writeln!(text, "UUID={uuid}  /home  {kind}  rw,relatime  0  {pass}");
    }
    if let Some(uuid) = &places.new_home {
        writer
            .tree
            .make_directories(b"home", Metadata::new(0o755, writer.time))?;
        let _ = writeln!(text, "UUID={uuid}  /home  ext4  rw,relatime  0  2");
    }
    if let Some(uuid) = &places.swap_uuid {
        let _ = writeln!(text, "UUID={uuid}  none  swap  sw  0  0");
    }
    if parts.answers.disk.swap_file.is_some() {
        let _ = writeln!(text, "/{}  none  swap  sw  0  0", crate::swap::FILE);
    }
    if let Some(size) = parts.answers.disk.zram {
        super::swap::zram(writer, size, &mut text)?;
    }
    writer.put("etc/fstab", 0o644, text)
}

fn timezone(writer: &mut Writer<'_>, zone: &str) -> Configured {
    const FOLDER: &str = "usr/share/zoneinfo";
    let path = format!("{FOLDER}/{zone}");
    // Without any file the C library has UTC.
    if zone == "UTC" && !writer.there(&path)? {
        return Ok(());
    }
    let file = writer.tree.find(path.as_bytes(), Follow::All)?;
    if file.is_none_or(|id| writer.tree.inode(id).content().is_none()) {
        let id = writer.tree.find(FOLDER.as_bytes(), Follow::All)?;
        let known: Vec<String> = id
            .map(|id| {
                writer
                    .tree
                    .walk_from(b"", id)
                    .filter_map(|entry| String::from_utf8(entry.path).ok())
                    .collect()
            })
            .unwrap_or_default();
        let near = nearest(zone, known.iter().map(|name| name.trim_start_matches('/')));
        return Err(ConfigureError::Unknown {
            key: "system.timezone",
            what: "time zone",
            name: zone.to_owned(),
            near: near.map(str::to_owned),
        });
    }
    if writer.tree.find(b"etc/localtime", Follow::Parents)?.is_some() {
        writer.tree.remove(b"etc/localtime")?;
    }
    let target = format!("../{path}").into_bytes();
    writer.tree.insert(
        b"etc/localtime",
        Metadata::new(0o777, writer.time),
        Node::Symlink(target),
    )?;
    Ok(())
}

fn keyboard(writer: &mut Writer<'_>, keymap: &str) -> Configured {
    const FOLDER: &str = "usr/share/bkeymaps";
    if writer.there(FOLDER)? {
        let known = writer.names(FOLDER, ".bmap");
        if !known.iter().any(|name| name == keymap) {
            return Err(ConfigureError::Unknown {
                key: "system.keymap",
                what: "keyboard layout",
                name: keymap.to_owned(),
                near: nearest(keymap, known.iter().map(String::as_str)).map(str::to_owned),
            });
        }
        writer.put("etc/keymap", 0o644, format!("{keymap}\n"))
    } else if writer.there("etc/default/keyboard")? || writer.there("usr/bin/setupcon")? {
        // console-setup (keyboard(5)), as in Chimera.
        writer.put(
            "etc/default/keyboard",
            0o644,
            format!("XKBMODEL=\"pc105\"\nXKBLAYOUT=\"{keymap}\"\nXKBVARIANT=\"\"\nXKBOPTIONS=\"\"\n"),
        )
    } else {
        Err(ConfigureError::Impossible {
            key: "system.keymap",
            what: "no package knows keyboard layouts".to_owned(),
        })
    }
}

fn ssh_keys(writer: &mut Writer<'_>, home: &str, uid: u32, gid: u32, login: &Login) -> Configured {
    if login.ssh_keys.is_empty() {
        return Ok(());
    }
    let folder = format!("{home}/.ssh");
    let path = format!("{folder}/authorized_keys");
    let own = |mode| Metadata::new(mode, writer.time).owned_by(uid, gid);
    let (directory, file) = (own(0o700), own(0o600));
    writer.tree.make_directory(folder.as_bytes(), directory)?;
    writer.tree.write(
        path.as_bytes(),
        file,
        format!("{}\n", login.ssh_keys.join("\n")).into(),
    )?;
    if !writer.there("usr/bin/sshd")? && !writer.there("usr/sbin/sshd")? {
        writer
            .warnings
            .push("ssh keys were written, but no package has sshd".to_owned());
    }
    Ok(())
}

fn accounts(writer: &mut Writer<'_>, parts: &Parts<'_>) -> Configured {
    let answers = parts.answers;
    let mut accounts = Accounts {
        passwd: writer.text("etc/passwd"),
        group: writer.text("etc/group"),
        shadow: writer.text("etc/shadow"),
        gshadow: writer.text("etc/gshadow"),
    };
    let field = |login: &Login| {
        login
            .password
            .as_ref()
            .map_or(LOCKED, |hash| hash.field())
            .to_owned()
    };
    accounts.set_password("root", &field(&answers.root));
    let groups: Vec<String> = accounts
        .group
        .lines()
        .filter_map(|line| line.split(':').next().map(str::to_owned))
        .collect();
    let mut homes = Vec::new();
    for user in &answers.users {
        if let Some(unknown) = user.groups.iter().find(|group| !groups.contains(group)) {
            return Err(ConfigureError::Unknown {
                key: "user.groups",
                what: "group",
                name: unknown.clone(),
                near: nearest(unknown, groups.iter().map(String::as_str)).map(str::to_owned),
            });
        }
        if accounts
            .passwd
            .lines()
            .any(|line| line.split(':').next() == Some(user.name.as_str()))
        {
            return Err(ConfigureError::Impossible {
                key: "user.name",
                what: format!("a package makes a user `{}` already", user.name),
            });
        }
        let shell = user.shell.as_deref().unwrap_or(DEFAULT_SHELL);
        if !writer.there(shell)? {
            return Err(ConfigureError::Unknown {
                key: "user.shell",
                what: "program",
                name: shell.to_owned(),
                near: None,
            });
        }
        let mut joined: Vec<&str> = user.groups.iter().map(String::as_str).collect();
        if user.admin && !joined.contains(&"wheel") {
            joined.push("wheel");
        }
        let hash = field(&user.login);
        let made = accounts.add_user(&NewUser {
            name: &user.name,
            hash: &hash,
            shell,
            groups: &joined,
        });
        homes.push((made, &user.login));
    }
    let files = [
        ("etc/passwd", 0o644, accounts.passwd),
        ("etc/group", 0o644, accounts.group),
        ("etc/shadow", 0o600, accounts.shadow),
        ("etc/gshadow", 0o600, accounts.gshadow),
    ];
    for (path, mode, text) in files {
        if text.is_empty() {
            continue;
        }
        // The owner that a package or shadow's trigger gave it stays; nobody gets to read what was closed.
        let id = writer
            .tree
            .update(path.as_bytes(), Metadata::new(mode, writer.time), text.into())?;
        let metadata = writer.tree.metadata_mut(id);
        metadata.mtime = writer.time;
        if mode == 0o600 {
            metadata.mode &= 0o7640;
        }
    }
    ssh_keys(writer, "root", 0, 0, &answers.root)?;
    for (made, login) in homes {
        let home = made.home.trim_start_matches('/').to_owned();
        let kept = |one: &PreparedMount| one.kept && one.mount_point == "/home";
        if parts.places.home.is_some() || parts.places.prepared.iter().any(kept) {
            writer.warnings.push(format!(
                "/{home} is on the partition that is kept: it must belong to number {} there",
                made.uid
            ));
            if !login.ssh_keys.is_empty() {
                writer.warnings.push(format!(
                    "ssh keys were not written to /{home}, which is on the partition that is kept"
                ));
            }
            continue;
        }
        writer
            .tree
            .make_directories(b"home", Metadata::new(0o755, writer.time))?;
        let own = Metadata::new(0o700, writer.time).owned_by(made.uid, made.gid);
        writer.tree.make_directory(home.as_bytes(), own)?;
        skeleton(writer, &home, made.uid, made.gid)?;
        ssh_keys(writer, &home, made.uid, made.gid, login)?;
    }
    if answers.users.iter().any(|user| user.admin) {
        if writer.there("usr/bin/doas")? {
            writer.put("etc/doas.conf", 0o600, "permit persist :wheel\n")?;
        } else {
            let other = "no package has doas: members of wheel become root by `su` with root's password";
            writer.warnings.push(other.to_owned());
        }
    }
    Ok(())
}

/// Copies `/etc/skel` into a home directory.
fn skeleton(writer: &mut Writer<'_>, home: &str, uid: u32, gid: u32) -> Configured {
    let Some(id) = writer.tree.find(b"etc/skel", Follow::All)? else {
        return Ok(());
    };
    let entries: Vec<(Vec<u8>, Metadata, Option<Node>)> = writer
        .tree
        .walk_from(b"", id)
        .filter(|entry| !entry.path.is_empty())
        .map(|entry| {
            let metadata = entry.inode.metadata.clone().owned_by(uid, gid);
            (entry.path.clone(), metadata, entry.inode.node().cloned())
        })
        .collect();
    for (path, metadata, node) in entries {
        let place = [home.as_bytes(), &path].concat();
        match node {
            Some(node) => drop(writer.tree.insert(&place, metadata, node)?),
            None => drop(writer.tree.make_directory(&place, metadata)?),
        }
    }
    Ok(())
}

fn network(writer: &mut Writer<'_>, network: &Network) -> Configured {
    let seed = writer.there("usr/lib/dinit.d/udhcpc")?;
    let dhcpcd = writer.there("usr/bin/dhcpcd")?;
    match network {
        Network::Dhcp => {
            if dhcpcd && !seed {
                lycia_root::services::enable(writer.tree, "dhcpcd", writer.time)?;
            } else if !seed {
                writer
                    .warnings
                    .push("no package asks for an address by DHCP".to_owned());
            }
            Ok(())
        }
        // A description in /etc wins over the package's.
        Network::Off => {
            if seed {
                writer.put(
                    "etc/dinit.d/udhcpc",
                    0o644,
                    "# No network was asked for.\ntype = internal\n",
                )?;
            }
            Ok(())
        }
        Network::Static {
            interface,
            address,
            prefix,
            gateway,
            dns,
        } => {
            let servers: Vec<String> = dns.iter().map(IpAddr::to_string).collect();
            if dhcpcd && !seed {
                let mut text = writer.text("etc/dhcpcd.conf");
                let family = if address.is_ipv4() {
                    "ip_address"
                } else {
                    "ip6_address"
                };
                let _ = write!(
                    text,
                    "\ninterface {interface}\nstatic {family}={address}/{prefix}\n"
                );
                match gateway {
                    Some(IpAddr::V6(_)) => {
                        return Err(ConfigureError::Impossible {
                            key: "network.gateway",
                            what: "dhcpcd takes an IPv6 gateway from the router's advertisements alone: leave it out".to_owned(),
                        });
                    }
                    Some(gateway) => {
                        let _ = writeln!(text, "static routers={gateway}");
                    }
                    None => {}
                }
                if !servers.is_empty() {
                    let _ = writeln!(text, "static domain_name_servers={}", servers.join(" "));
                }
                writer.put("etc/dhcpcd.conf", 0o644, text)?;
                lycia_root::services::enable(writer.tree, "dhcpcd", writer.time)?;
                return Ok(());
            }
            if !seed {
                return Err(ConfigureError::Impossible {
                    key: "network.kind",
                    what: "no package can set a static address (dhcpcd, or the seed's services)".to_owned(),
                });
            }
            let mut script = format!(
                "#!/bin/sh\n# Static address of {interface}, written by lycia-install.\nset -eu\nexport PATH=/usr/bin\n\n\
                 # Hardware may be slow to appear.\nleft=60\nuntil [ -e '/sys/class/net/{interface}' ]; do\n    left=$((left - 1))\n    \
                 [ \"$left\" -gt 0 ] || exit 1\n    sleep 1\ndone\nip link set dev '{interface}' up\n\
                 ip addr replace {address}/{prefix} dev '{interface}'\n"
            );
            if let Some(gateway) = gateway {
                let family = if gateway.is_ipv4() { "-4" } else { "-6" };
                let _ = writeln!(
                    script,
                    "ip {family} route replace default via {gateway} dev '{interface}'"
                );
            }
            writer.put("etc/lycia/static-network.sh", 0o755, script)?;
            writer.put(
                "etc/dinit.d/udhcpc",
                0o644,
                "# In place of DHCP: the static address of the installation.\ntype = scripted\ncommand = /etc/lycia/static-network.sh\n\
                 depends-on: pre-network.target\nbefore: network.target\n",
            )?;
            if !servers.is_empty() {
                let text: String = servers
                    .iter()
                    .map(|server| format!("nameserver {server}\n"))
                    .collect();
                writer.put("etc/resolv.conf", 0o644, text)?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_gateway_is_refused_where_dhcpcd_would_not_take_it() {
        let time = Timestamp::from_seconds(0);
        for (gateway, right) in [("192.0.2.1", true), ("2001:db8::1", false)] {
            let mut tree = Tree::new(Metadata::new(0o755, time));
            tree.make_directories(b"usr/bin", Metadata::new(0o755, time))
                .unwrap();
            tree.make_directories(b"etc", Metadata::new(0o755, time)).unwrap();
            tree.make_directories(b"usr/lib/dinit.d", Metadata::new(0o755, time))
                .unwrap();
            let file = Metadata::new(0o644, time);
            tree.write(b"usr/bin/dhcpcd", file.clone(), b"a program".to_vec().into())
                .unwrap();
            let boot = b"type = internal\nwaits-for.d: /etc/dinit.d/boot.d\n".to_vec();
            tree.write(b"usr/lib/dinit.d/boot", file.clone(), boot.into())
                .unwrap();
            tree.write(
                b"usr/lib/dinit.d/dhcpcd",
                file,
                b"type = process\ncommand = /usr/bin/dhcpcd\n".to_vec().into(),
            )
            .unwrap();
            let mut writer = Writer {
                tree: &mut tree,
                time,
                warnings: Vec::new(),
            };
            let gateway: IpAddr = gateway.parse().unwrap();
            let address = if right { "192.0.2.9" } else { "2001:db8::9" };
            let result = network(
                &mut writer,
                &Network::Static {
                    interface: "eth0".to_owned(),
                    address: address.parse().unwrap(),
                    prefix: 24,
                    gateway: Some(gateway),
                    dns: Vec::new(),
                },
            );
            match right {
                true => {
                    result.unwrap();
                    let text = writer.text("etc/dhcpcd.conf");
                    assert!(text.contains("static routers=192.0.2.1"), "{text}");
                }
                false => assert!(result.unwrap_err().to_string().contains("network.gateway")),
            }
        }
    }
}
