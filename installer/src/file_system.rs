//! File systems of a root, and what each needs: of the medium, the kernel, the boot loader and the files of the installed system.
//!
//! ext4 is written by this program. The others are made by their own programs and filled by the kernel, see [`crate::tools`].

use serde::Serialize;

use crate::answers::Layout;
use crate::plan::Action;

/// A file system that a root can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Written by this program.
    #[default]
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// F2FS.
    F2fs,
}

impl Kind {
    /// All.
    pub const ALL: [Kind; 4] = [Kind::Ext4, Kind::Xfs, Kind::Btrfs, Kind::F2fs];

    /// As answers, mount(8), the kernel's module and GRUB's module (but for ext4, which is `ext2` there) have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
            Kind::Btrfs => "btrfs",
            Kind::F2fs => "f2fs",
        }
    }

    /// By its name.
    #[must_use]
    pub fn named(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What happens to the region of a root of this kind.
    #[must_use]
    pub const fn action(self) -> Action {
        match self {
            Kind::Ext4 => Action::Ext4,
            Kind::Xfs => Action::Xfs,
            Kind::Btrfs => Action::Btrfs,
            Kind::F2fs => Action::F2fs,
        }
    }

    /// Programs of the running system that make it; none for what this program writes.
    #[must_use]
    pub const fn programs(self) -> &'static [&'static str] {
        match self {
            Kind::Ext4 => &[],
            Kind::Xfs => &["mkfs.xfs"],
            Kind::Btrfs => &["mkfs.btrfs", "btrfs"],
            Kind::F2fs => &["mkfs.f2fs"],
        }
    }

    /// What its own structures take at most of a root of a few gigabytes, beside what ext4 would.
    #[must_use]
    pub const fn overhead(self) -> u64 {
        match self {
            Kind::Ext4 => 0,
            // Xfs has a log of 64 MiB and reserves, Btrfs keeps metadata twice in chunks, F2FS keeps 5 % and six open segments.
            Kind::Xfs | Kind::Btrfs | Kind::F2fs => 256 << 20,
        }
    }
}

/// The sixth field of fstab(5) of a file system by its name: 1 for a root that is checked at the start, 2 for others, 0 for what repairs itself when it is
/// mounted and whose checker does nothing at a start.
#[must_use]
pub fn check_pass(name: &str, root: bool) -> u8 {
    match name {
        "xfs" | "btrfs" => 0,
        _ if root => 1,
        _ => 2,
    }
}

/// A subvolume of Btrfs at the top of the file system.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Subvolume {
    /// Where it is mounted; `/` for the root.
    pub mount_point: String,
    /// Its name.
    pub name: String,
}

/// The file system of a root as somebody wants it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct FileSystem {
    /// Which.
    pub kind: Kind,
    /// Subvolumes by mount point, that of the root first; none but for Btrfs.
    pub subvolumes: Vec<Subvolume>,
    /// What files are compressed with, as Btrfs' mount option has it.
    pub compression: Option<String>,
}

/// A program and its arguments.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// The program.
    pub program: &'static str,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl std::fmt::Display for Command {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.program)?;
        self.arguments
            .iter()
            .try_for_each(|word| write!(formatter, " {word}"))
    }
}

impl FileSystem {
    /// The subvolume of the root, with its name.
    fn root_subvolume(&self) -> Option<&Subvolume> {
        self.subvolumes.first()
    }

    /// What mount(2) gets beside flags, without the subvolume.
    #[must_use]
    pub fn data(&self) -> String {
        self.compression
            .as_ref()
            .map(|how| format!("compress={how}"))
            .unwrap_or_default()
    }

    /// Options of a mount for fstab.
    fn options(&self, subvolume: Option<&Subvolume>) -> String {
        let mut options = vec!["rw".to_owned(), "relatime".to_owned()];
        options.extend(self.compression.as_ref().map(|how| format!("compress={how}")));
        options.extend(subvolume.map(|subvolume| format!("subvol=/{}", subvolume.name)));
        options.join(",")
    }

    /// Mounts of the installed system: directory, options, pass of checks. The root comes first.
    #[must_use]
    pub fn mounts(&self) -> Vec<(String, String, u8)> {
        let pass = |root| check_pass(self.kind.name(), root);
        if self.subvolumes.is_empty() {
            return vec![("/".to_owned(), self.options(None), pass(true))];
        }
        let mounted = self.subvolumes.iter().map(|subvolume| {
            let root = subvolume.mount_point == "/";
            (
                subvolume.mount_point.clone(),
                self.options(Some(subvolume)),
                pass(root),
            )
        });
        mounted.collect()
    }

    /// Words for the kernel's command line, which the initramfs mounts the root by.
    #[must_use]
    pub fn arguments(&self) -> String {
        if self.kind == Kind::Ext4 {
            return String::new();
        }
        let mut words = format!("rootfstype={}", self.kind.name());
        let mut options: Vec<String> = self
            .root_subvolume()
            .map(|subvolume| format!("subvol={}", subvolume.name))
            .into_iter()
            .collect();
        options.extend(self.compression.as_ref().map(|how| format!("compress={how}")));
        if !options.is_empty() {
            words.push_str(&format!(" rootflags={}", options.join(",")));
        }
        words
    }

    /// Where the root begins for GRUB, which sees Btrfs from its top: empty, or `/@`.
    #[must_use]
    pub fn grub_folder(&self) -> String {
        self.root_subvolume()
            .map(|subvolume| format!("/{}", subvolume.name))
            .unwrap_or_default()
    }

    /// The module that GRUB's core image needs to read the root, beside those that every core image has.
    #[must_use]
    pub fn grub_module(&self) -> Option<&'static str> {
        (self.kind != Kind::Ext4).then(|| self.kind.name())
    }

    /// What makes the file system on `node`, with sectors of `sector` bytes; none for what this program writes.
    ///
    /// What GRUB 2.06 cannot read is left out by name, so that a newer program makes no root that does not boot: of XFS counters of extents with 64 bits.
    /// Nothing is discarded: what the file system does not use keeps its old bytes, as with ext4.
    #[must_use]
    pub fn make(&self, node: &str, label: &str, uuid: &str, sector: u32) -> Option<Command> {
        let sector = sector.to_string();
        let meta = format!("crc=1,finobt=1,reflink=1,bigtime=1,inobtcount=1,uuid={uuid}");
        let size = format!("size={sector}");
        let (program, words): (_, Vec<&str>) = match self.kind {
            Kind::Ext4 => return None,
            Kind::Xfs => (
                "mkfs.xfs",
                vec![
                    "-f",
                    "-K",
                    "-q",
                    "-L",
                    label,
                    "-s",
                    &size,
                    "-m",
                    &meta,
                    "-i",
                    "sparse=1,nrext64=0",
                ],
            ),
            Kind::Btrfs => (
                "mkfs.btrfs",
                vec![
                    "-f", "-K", "-q", "-L", label, "-U", uuid, "-s", "4096", "-d", "single", "-m", "dup",
                ],
            ),
            Kind::F2fs => ("mkfs.f2fs", vec!["-f", "-q", "-t", "0", "-l", label, "-U", uuid]),
        };
        let mut arguments: Vec<String> = words.into_iter().map(str::to_owned).collect();
        arguments.push(node.to_owned());
        Some(Command { program, arguments })
    }
}

/// Directories that must be there before anything is mounted, or where something else is.
const NEVER: [&str; 12] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/tmp",
];

pub(crate) fn subvolume_name(name: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@-_.".contains(&byte);
    if !name.is_empty() && name.len() <= 64 && !name.starts_with(['.', '-']) && name.bytes().all(plain) {
        Ok(())
    } else {
        Err(format!(
            "`{name}` is no name of a subvolume: letters, digits, `@`, `-`, `_` and `.`, without folders"
        ))
    }
}

fn mount_point(path: &str) -> Result<(), String> {
    let plain = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"@-_.".contains(&byte))
    };
    if path == "/" {
        return Ok(());
    }
    let parts = path
        .strip_prefix('/')
        .filter(|rest| rest.split('/').all(plain) && path.len() <= 255);
    if parts.is_none() {
        return Err(format!(
            "`{path}` is no directory to mount on: an absolute path of letters, digits, `@`, `-`, `_` and `.`, without a slash at its end"
        ));
    }
    let inside = |folder: &&&str| path == **folder || path.starts_with(&format!("{folder}/"));
    match NEVER.iter().find(inside) {
        // The root must be able to start by itself, and what the firmware and GRUB read has its own places.
        Some(folder) => Err(format!(
            "{folder} belongs to the root's own subvolume, or to other file systems: choose a directory such as /home or /var/log"
        )),
        None => Ok(()),
    }
}

/// What answers say of the file system, as they are typed.
#[derive(Clone, Copy, Debug)]
pub struct Typed<'a> {
    /// `disk.filesystem`
    pub name: Option<&'a str>,
    /// `disk.subvolumes`: directory by name.
    pub subvolumes: &'a std::collections::BTreeMap<String, String>,
    /// `disk.compression`
    pub compression: Option<&'a str>,
    /// Whether a partition is kept as `/home`.
    pub home: bool,
    /// Whether there is a swap file.
    pub swap_file: bool,
}

/// What the answers mean; `wrong` hears of every key that cannot be, and why.
pub fn resolve(typed: &Typed<'_>, layout: &Layout, wrong: &mut dyn FnMut(&str, String)) -> FileSystem {
    let kind = match typed.name {
        None => Kind::Ext4,
        Some(name) => Kind::named(name).unwrap_or_else(|| {
            let known = Kind::ALL.map(Kind::name);
            let near = match crate::toml_file::nearest(name, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", known.join(", ")),
            };
            wrong(
                "disk.filesystem",
                format!("a root cannot be `{name}` here; {near}"),
            );
            Kind::Ext4
        }),
    };
    if let Layout::Directory(_) = layout
        && typed.name.is_some()
    {
        wrong(
            "disk.filesystem",
            "with the layout `directory` it is the one that is mounted there".to_owned(),
        );
    }
    if typed.swap_file && kind == Kind::F2fs {
        wrong(
            "disk.swap-file-size",
            "F2FS moves its files, so that no swap can be in one: take `swap-size` or `zram-size`".to_owned(),
        );
    }
    if kind != Kind::Btrfs {
        for (key, there) in [
            ("disk.subvolumes", !typed.subvolumes.is_empty()),
            ("disk.compression", typed.compression.is_some()),
        ] {
            if there {
                wrong(key, "it means nothing unless filesystem is `btrfs`".to_owned());
            }
        }
        return FileSystem {
            kind,
            ..FileSystem::default()
        };
    }
    FileSystem {
        kind,
        subvolumes: subvolumes(typed, wrong),
        compression: typed
            .compression
            .filter(|how| *how != "none")
            .and_then(|how| match compression(how) {
                Ok(()) => Some(how.to_owned()),
                Err(why) => {
                    wrong("disk.compression", why);
                    None
                }
            }),
    }
}

pub(crate) fn compression(how: &str) -> Result<(), String> {
    let (name, level) = match how.split_once(':') {
        Some((name, level)) => (name, level.parse::<u8>().ok()),
        None => (how, Some(1)),
    };
    let most = match name {
        "zstd" => 15,
        "zlib" => 9,
        "lzo" if !how.contains(':') => 1,
        _ => 0,
    };
    match level {
        Some(level) if (1..=most).contains(&level) => Ok(()),
        _ => Err(format!(
            "`{how}` is no compression: zstd or zstd:1 to zstd:15, zlib or zlib:1 to zlib:9, lzo, none"
        )),
    }
}

fn subvolumes(typed: &Typed<'_>, wrong: &mut dyn FnMut(&str, String)) -> Vec<Subvolume> {
    let own = |name: &str, mount_point: &str| Subvolume {
        mount_point: mount_point.to_owned(),
        name: name.to_owned(),
    };
    if typed.subvolumes.is_empty() {
        let mut made = vec![own("@", "/")];
        if !typed.home {
            made.push(own("@home", "/home"));
        }
        return made;
    }
    let mut made: Vec<Subvolume> = Vec::new();
    for (name, place) in typed.subvolumes {
        let key = format!("disk.subvolumes.{name}");
        if let Err(why) = subvolume_name(name).and_then(|()| mount_point(place)) {
            wrong(&key, why);
        } else if let Some(other) = made.iter().find(|other| other.mount_point == *place) {
            wrong(&key, format!("`{}` is mounted on {place} already", other.name));
        } else if typed.home && (place == "/home" || place.starts_with("/home/")) {
            wrong(
                &key,
                "the partition that `home` keeps is mounted on /home".to_owned(),
            );
        } else {
            made.push(own(name, place));
        }
    }
    // Sorted by mount point: the root first, what is mounted inside of another after it.
    made.sort();
    if made.first().is_none_or(|first| first.mount_point != "/") {
        wrong(
            "disk.subvolumes",
            "say which one is the root: \"@\" = \"/\"".to_owned(),
        );
    }
    made
}

#[cfg(test)]
mod tests;
