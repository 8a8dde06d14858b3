//! From words and configuration to what is to be done. What was typed is checked here once; the rest of the
//! program works with values that make sense.

use crate::cmdline::{Support, Word, parameter};
use crate::config::Config;
use crate::device::Wish;
use crate::verity::{self, OnCorruption, Verity};
use std::time::Duration;

/// Longest wait that can be asked for.
pub const WAIT_LIMIT: Duration = Duration::from_secs(600);
const DEFAULT_WAIT: Duration = Duration::from_secs(30);

/// The steps of a boot, in order. `break=` takes their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Mount proc, sysfs, devtmpfs and a tmpfs on /run; read the command line.
    Start,
    /// Load the modules of the configuration and of the devices found so far.
    Modules,
    /// Find and mount the medium or the root.
    Find,
    /// Check the image against its checksum.
    Verify,
    /// Copy to memory, attach the image, make the overlay.
    Assemble,
    /// Edit the files of the live root: user, password, services.
    Setup,
    /// Move the mounts, free the initramfs, start init.
    Handover,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 7] = [
        Self::Start,
        Self::Modules,
        Self::Find,
        Self::Verify,
        Self::Assemble,
        Self::Setup,
        Self::Handover,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Modules => "modules",
            Self::Find => "find",
            Self::Verify => "verify",
            Self::Assemble => "assemble",
            Self::Setup => "setup",
            Self::Handover => "handover",
        }
    }

    /// The step of that name, or of the name initramfs-tools has for the same place.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let other = match name {
            "top" => Some(Self::Modules),
            "premount" | "mount" => Some(Self::Find),
            "bottom" => Some(Self::Setup),
            "init" => Some(Self::Handover),
            _ => None,
        };
        other.or_else(|| Self::ALL[1..].iter().copied().find(|step| step.name() == name))
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Size of the tmpfs that takes the changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlaySize(String);

impl OverlaySize {
    /// `N%` up to 100, or a number of bytes with an optional k, m or g.
    ///
    /// # Errors
    /// Says what forms there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        let (digits, unit) = lower.split_at(
            lower
                .find(|character: char| !character.is_ascii_digit())
                .unwrap_or(lower.len()),
        );
        let number = digits.parse::<u64>().ok().filter(|number| *number > 0);
        match (number, unit) {
            (Some(number), "%") if number <= 100 => Ok(Self(lower)),
            (Some(_), "" | "k" | "m" | "g") => Ok(Self(lower)),
            _ => Err(format!(
                "overlay-size={text}: write N% (1 to 100), or bytes with k, m or g"
            )),
        }
    }

    /// As tmpfs takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A live boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// The device to take as soon as it appears.
    pub wish: Wish,
    /// What is also taken after a few seconds (see [`crate::find::SECOND_CHOICE_AFTER`]).
    pub second: Option<Wish>,
    /// ISO file to boot from, an absolute path inside a file system.
    pub iso_file: Option<String>,
    /// Path of the image on the medium, relative.
    pub image: String,
    /// Longest wait for the medium.
    pub wait: Duration,
    /// Copy to memory.
    pub to_ram: bool,
    /// Read everything and check it first.
    pub verify: bool,
    /// Check each block of the image when it is read.
    pub verity: Option<Verity>,
    /// Memory for changes.
    pub overlay_size: OverlaySize,
    /// What to change in the root.
    pub setup: Setup,
}

/// Changes to the root of a live system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Name of the live user.
    pub user: String,
    /// Its password and root's.
    pub password: Password,
    /// Its login shell, if one is asked for.
    pub shell: Option<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// Services to enable; `a|b` is the first of them that exists.
    pub services: Vec<String>,
    /// Services that were named on the command line: not having them is worth a warning.
    pub asked_services: Vec<String>,
    /// Replace /etc/fstab.
    pub fstab: bool,
    /// Enable network services.
    pub networking: bool,
    /// Enable display managers.
    pub gui: bool,
}

/// A password in one of two forms.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// Clear text.
    Clear(String),
    /// As in /etc/shadow.
    Hash(String),
}

impl std::fmt::Debug for Password {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("(not shown)")
    }
}

/// A boot of an installed root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The device.
    pub wish: Wish,
    /// File system types to try; empty means what the superblock says.
    pub types: Vec<String>,
    /// Mount options for the file system.
    pub options: String,
    /// Mount read-only.
    pub read_only: bool,
    /// Longest wait for the device.
    pub wait: Duration,
    /// Grow the partition and the file system to the end of the disk.
    pub grow: bool,
    /// What is opened before it is looked for.
    pub encrypted: Option<Encrypted>,
}

/// A LUKS2 volume that holds the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encrypted {
    /// UUID of the volume.
    pub uuid: String,
    /// Name below `/dev/mapper`.
    pub name: String,
}

impl Encrypted {
    /// `UUID=NAME`
    ///
    /// # Errors
    /// Says what form there is.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plain = |text: &str, extra: &[u8], most: usize| {
            (1..=most).contains(&text.len())
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
        };
        match text.split_once('=') {
            Some((uuid, name)) if plain(uuid, b"-", 39) && plain(name, b"-_", 64) && name != "control" => {
                Ok(Self {
                    uuid: uuid.to_ascii_lowercase(),
                    name: name.to_owned(),
                })
            }
            _ => Err(format!("`{text}` is not UUID=NAME")),
        }
    }
}

/// What to boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// A live system.
    Live(Box<Live>),
    /// An installed system.
    Installed(Installed),
}

/// What to do when a boot fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Start a shell on every console.
    Shell,
    /// Reboot after this long.
    Reboot(Duration),
}

/// Everything the command line and the configuration ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What to boot, or why that cannot be told.
    pub boot: Result<Boot, String>,
    /// Programs to try as init, in this order.
    pub init: Vec<String>,
    /// What to do on failure.
    pub on_failure: OnFailure,
    /// Step to stop before.
    pub stop_before: Option<Step>,
    /// Modules not to load by device.
    pub blacklist: Vec<String>,
    /// Only warnings on the console.
    pub quiet: bool,
    /// Everything on the console.
    pub debug: bool,
    /// Things to tell.
    pub warnings: Vec<String>,
}

fn seconds(word: &Word, limit: Duration, warnings: &mut Vec<String>) -> Option<Duration> {
    let value = word.value.as_deref().unwrap_or_default();
    let Ok(number) = value.parse::<u64>() else {
        warnings.push(format!("{}={value}: not a number of seconds; ignored", word.name));
        return None;
    };
    let asked = Duration::from_secs(number);
    if asked > limit {
        warnings.push(format!(
            "{}={value}: the longest wait is {} s; using that",
            word.name,
            limit.as_secs()
        ));
    }
    Some(asked.min(limit))
}

/// A user name that useradd would take.
fn is_user_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 32
        && bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-'))
}

fn is_host_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 64
        && !name.starts_with(['-', '.'])
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

fn is_field(text: &str) -> bool {
    !text.is_empty() && !text.contains([':', '\n', '\0'])
}

/// An ISO file parameter: an optional device and an absolute path without `..`.
fn iso_file(value: &str) -> Result<(Option<Wish>, String), String> {
    let bad = || format!("`{value}` is not a path to an ISO file; write /PATH.iso or /dev/NAME/PATH.iso");
    let (device, path) = match value.strip_prefix("/dev/") {
        // The device node ends where the path begins; nodes with a directory of their own are rare.
        Some(rest) => {
            let (name, path) = rest.split_once('/').ok_or_else(bad)?;
            (Some(Wish::Node(format!("/dev/{name}"))), path)
        }
        None => (None, value),
    };
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.is_empty() || parts.contains(&"..") {
        return Err(bad());
    }
    Ok((device, format!("/{}", parts.join("/"))))
}

/// Joins directory and file of the image, refusing ways out of the medium.
fn image_path(directory: &str, file: &str) -> Result<String, String> {
    let parts: Vec<&str> = directory
        .split('/')
        .chain(file.split('/'))
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if parts.contains(&"..") {
        return Err(format!("live-media-path={directory} leads out of the medium"));
    }
    Ok(parts.join("/"))
}

impl Request {
    /// Works out what is asked for.
    #[must_use]
    #[allow(clippy::too_many_lines)] // one arm per parameter
    pub fn new(words: &[Word], config: &Config) -> Self {
        let mut warnings = Vec::new();
        let (mut live_asked, mut root) = (false, None);
        let mut encrypted = None;
        let (mut media, mut iso, mut path) = (None, None, config.live_path.clone());
        let (mut live_wait, mut root_wait) = (DEFAULT_WAIT, DEFAULT_WAIT);
        let (mut to_ram, mut verify, mut ignore_uuid) = (false, false, false);
        let (mut root_hash, mut on_corruption) = (None, OnCorruption::Fail);
        let mut overlay_size = OverlaySize("50%".into());
        let mut setup = Setup {
            user: config.live_user.clone(),
            password: match &config.live_password_hash {
                Some(hash) => Password::Hash(hash.clone()),
                None => Password::Clear(config.live_password.clone()),
            },
            shell: config.live_shell.clone(),
            hostname: config.hostname.clone(),
            services: config.services.clone(),
            asked_services: Vec::new(),
            fstab: true,
            networking: true,
            gui: true,
        };
        let (mut types, mut options, mut read_only) = (Vec::new(), String::new(), true);
        let mut init = vec!["/usr/bin/init".to_owned(), "/sbin/init".to_owned()];
        let (mut on_failure, mut stop_before) = (OnFailure::Shell, None);
        let (mut blacklist, mut quiet, mut debug) = (Vec::new(), false, false);
        let mut grow = false;

        for word in words {
            let value = word.value.as_deref().unwrap_or_default();
            let list = || {
                value
                    .split(',')
                    .filter(|part| !part.is_empty())
                    .map(str::to_owned)
            };
            match word.name.as_str() {
                "boot" if value == "live" => live_asked = true,
                "boot" if word.value.is_some() => {
                    warnings.push(format!(
                        "boot={value}: only boot=live has a meaning here; ignored"
                    ));
                }
                "live-media" | "bootfrom" => media = Some(value.to_owned()),
                "live-media-path" => path = value.to_owned(),
                "live-media-timeout" => {
                    live_wait = seconds(word, WAIT_LIMIT, &mut warnings).unwrap_or(live_wait);
                }
                "ignore_uuid" => ignore_uuid = true,
                "findiso" | "fromiso" | "isofrom" if !value.is_empty() => iso = Some(value.to_owned()),
                "toram" => {
                    to_ram = true;
                    if !value.is_empty() && !config.squashfs.starts_with(value) {
                        warnings.push(format!(
                            "toram={value}: there is one image on the medium, and it is copied"
                        ));
                    }
                }
                "verify" => verify = true,
                "dm-verity-root-hash" => root_hash = Some(value.to_owned()),
                "dm-verity-oncorruption" => match OnCorruption::named(value) {
                    Some(named) => on_corruption = named,
                    None => warnings.push(format!(
                        "dm-verity-oncorruption={value}: there are ignore, restart and panic; reading damage fails"
                    )),
                },
                "overlay-size" => match OverlaySize::parse(value) {
                    Ok(size) => overlay_size = size,
                    Err(error) => warnings.push(format!("{error}; using {}", overlay_size.as_str())),
                },
                "union" if value != "overlay" => {
                    warnings.push(format!("union={value}: overlay is the only one; using it"));
                }
                "live-user" if is_user_name(value) => setup.user = value.to_owned(),
                "live-user" => warnings.push(format!(
                    "live-user={value}: not a user name (a-z, 0-9, _ and -, at most 32); using {}",
                    setup.user
                )),
                "live-password" if !value.is_empty() && !value.contains('\n') => {
                    setup.password = Password::Clear(value.to_owned());
                }
                "live-password" => warnings.push("live-password= is empty; the default stays".into()),
                "live-shell" if value.starts_with('/') && is_field(value) => {
                    setup.shell = Some(value.to_owned())
                }
                "live-shell" => warnings.push(format!("live-shell={value}: not an absolute path; ignored")),
                "hostname" if is_host_name(value) => setup.hostname = Some(value.to_owned()),
                "hostname" => warnings.push(format!("hostname={value}: not a host name; ignored")),
                "services" => setup.asked_services.extend(list()),
                "nofstab" => setup.fstab = false,
                "nonetworking" => setup.networking = false,
                "skipconfig" => (setup.fstab, setup.networking) = (false, false),
                "nogui" => setup.gui = false,
                "root" => root = Some(value.to_owned()),
                "rootfstype" => types = list().collect(),
                "rootflags" => options = value.to_owned(),
                "rd.luks.name" => match Encrypted::parse(value) {
                    Ok(volume) => encrypted = Some(volume),
                    Err(error) => warnings.push(format!("rd.luks.name: {error}")),
                },
                "ro" => read_only = true,
                "rw" => read_only = false,
                "growroot" => grow = true,
                "rootdelay" => root_wait = seconds(word, WAIT_LIMIT, &mut warnings).unwrap_or(root_wait),
                "rootwait" if word.value.is_none() => root_wait = WAIT_LIMIT,
                "rootwait" => root_wait = seconds(word, WAIT_LIMIT, &mut warnings).unwrap_or(root_wait),
                "init" if value.starts_with('/') => init = vec![value.to_owned()],
                "panic" => match value.parse::<i64>() {
                    Ok(0) => on_failure = OnFailure::Shell,
                    Ok(number) => {
                        let wait = Duration::from_secs(number.max(0).unsigned_abs());
                        on_failure = OnFailure::Reboot(wait.min(Duration::from_secs(86_400)));
                    }
                    Err(_) => warnings.push(format!("panic={value}: not a number of seconds; ignored")),
                },
                "break" => match Step::named(value) {
                    Some(step) => stop_before = Some(step),
                    None => warnings.push(format!(
                        "break={value}: no such step; there are {}",
                        Step::ALL[1..]
                            .iter()
                            .map(|step| step.name())
                            .collect::<Vec<_>>()
                            .join(", ")
                    )),
                },
                "modprobe.blacklist" => {
                    blacklist.extend(list().map(|name| crate::modules::module_name(&name)))
                }
                "quiet" => quiet = true,
                "debug" | "lycia.debug" => debug = true,
                name => {
                    if let Some(known) = parameter(name)
                        && known.support == Support::NotYet
                    {
                        warnings.push(format!(
                            "{name} is not implemented and has no effect: {}",
                            known.help
                        ));
                    }
                }
            }
        }
        if let Password::Hash(hash) = &setup.password
            && !is_field(hash)
        {
            warnings.push(
                "live-password-hash of the configuration is not a shadow field; no password is set".into(),
            );
            setup.password = Password::Hash("!".into());
        }
        if !is_user_name(&setup.user) {
            warnings.push(format!(
                "live-user = {} of the configuration is not a user name; using anon",
                setup.user
            ));
            setup.user = "anon".into();
        }

        let has_medium = config.medium_label.is_some() || config.medium_uuid.is_some();
        let boot = if live_asked || root.is_none() && (has_medium || media.is_some() || iso.is_some()) {
            (|| {
                let image = image_path(&path, &config.squashfs)?;
                let label = config.medium_label.clone().map(Wish::Label);
                let uuid = config
                    .medium_uuid
                    .clone()
                    .map(Wish::Uuid)
                    .filter(|_| !ignore_uuid);
                let (mut wish, mut second) = match media.as_deref() {
                    Some("removable") => (Wish::Removable, None),
                    Some("removable-usb") => (Wish::RemovableUsb, None),
                    Some(text) => (
                        Wish::parse(text).map_err(|error| format!("live-media: {error}"))?,
                        None,
                    ),
                    None => match (uuid, label) {
                        (Some(uuid), label) => (uuid, label),
                        (None, Some(label)) => (label, ignore_uuid.then_some(Wish::Any)),
                        (None, None) => (Wish::Any, None),
                    },
                };
                let mut file = None;
                if let Some(value) = &iso {
                    let (device, path) = iso_file(value)?;
                    // The label and UUID of the configuration are those of the ISO, not of the disk with it.
                    wish = match (device, media.is_some()) {
                        (Some(device), _) => device,
                        (None, true) => wish,
                        (None, false) => Wish::Any,
                    };
                    second = None;
                    file = Some(path);
                }
                let verity = match &root_hash {
                    Some(value) => Some(Verity {
                        root_hash: verity::root_hash(value, &config.squashfs)?,
                        on_corruption,
                    }),
                    None => None,
                };
                Ok(Boot::Live(Box::new(Live {
                    wish,
                    second,
                    iso_file: file,
                    image,
                    wait: live_wait,
                    to_ram,
                    verify,
                    verity,
                    overlay_size,
                    setup,
                })))
            })()
        } else if let Some(root) = root {
            Wish::parse(&root)
                .map_err(|error| format!("root: {error}"))
                .map(|wish| {
                    Boot::Installed(Installed {
                        wish,
                        types,
                        options,
                        read_only,
                        wait: root_wait,
                        grow,
                        encrypted,
                    })
                })
        } else {
            Err("neither boot=live nor root= is on the command line, and the initramfs has no medium configured".into())
        };
        Self {
            boot,
            init,
            on_failure,
            stop_before,
            blacklist,
            quiet,
            debug,
            warnings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::{PARAMETERS, split};

    fn config() -> Config {
        Config {
            medium_label: Some("CHIMERA".into()),
            medium_uuid: Some("2026-01".into()),
            ..Config::default()
        }
    }

    fn request(line: &str) -> Request {
        Request::new(&split(line), &config())
    }

    fn live(line: &str) -> Live {
        match request(line).boot {
            Ok(Boot::Live(live)) => *live,
            other => panic!("{line}: {other:?}"),
        }
    }

    fn installed(line: &str) -> Installed {
        match request(line).boot {
            Ok(Boot::Installed(installed)) => installed,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn a_root_grows_only_when_asked() {
        assert!(installed("root=UUID=a-b ro growroot").grow);
        assert!(!installed("root=UUID=a-b ro").grow);
    }

    #[test]
    fn the_medium() {
        for (line, wish, second) in [
            (
                "boot=live",
                Wish::Uuid("2026-01".into()),
                Some(Wish::Label("CHIMERA".into())),
            ),
            (
                "",
                Wish::Uuid("2026-01".into()),
                Some(Wish::Label("CHIMERA".into())),
            ),
            (
                "boot=live ignore_uuid",
                Wish::Label("CHIMERA".into()),
                Some(Wish::Any),
            ),
            (
                "boot=live live-media=/dev/sr0",
                Wish::Node("/dev/sr0".into()),
                None,
            ),
            ("boot=live bootfrom=removable-usb", Wish::RemovableUsb, None),
            (
                "boot=live root=/dev/sda1",
                Wish::Uuid("2026-01".into()),
                Some(Wish::Label("CHIMERA".into())),
            ),
            ("boot=live findiso=/x.iso", Wish::Any, None),
            (
                "boot=live findiso=/x.iso live-media=LABEL=disk",
                Wish::Label("disk".into()),
                None,
            ),
            ("fromiso=/dev/sda1/a//b.iso", Wish::Node("/dev/sda1".into()), None),
        ] {
            let live = live(line);
            assert_eq!((live.wish, live.second), (wish, second), "{line}");
        }
        assert_eq!(
            live("fromiso=/dev/sda1/a//b.iso").iso_file.as_deref(),
            Some("/a/b.iso")
        );
        assert_eq!(live("live-media-path=/x/").image, "x/filesystem.squashfs");
        assert!(request("findiso=/../x.iso").boot.is_err());
        assert!(request("isofrom=/dev/sda1").boot.is_err());
        assert!(request("live-media-path=../x").boot.is_err());
        assert!(request("live-media=sr0").boot.is_err());
    }

    #[test]
    fn without_a_configured_medium_something_must_be_asked_for() {
        let request = |line: &str| Request::new(&split(line), &Config::default());
        assert!(
            request("quiet")
                .boot
                .unwrap_err()
                .contains("neither boot=live nor root=")
        );
        let Ok(Boot::Live(live)) = request("boot=live").boot else {
            panic!()
        };
        assert_eq!(live.wish, Wish::Any);
    }

    #[test]
    fn an_installed_root() {
        let root = installed("root=UUID=ab rootfstype=btrfs,ext4 rootflags=subvol=@ rw rootdelay=5");
        assert_eq!(root.wish, Wish::Uuid("ab".into()));
        assert_eq!(root.types, ["btrfs", "ext4"]);
        assert_eq!(root.options, "subvol=@");
        assert!(!root.read_only);
        assert_eq!(root.wait, Duration::from_secs(5));
        assert!(installed("root=/dev/vda2").read_only);
        assert_eq!(installed("root=/dev/vda2 rootwait").wait, WAIT_LIMIT);
        assert!(
            request("root=/dev/mapper/crypt")
                .boot
                .unwrap_err()
                .contains("does not name a device")
        );
    }

    #[test]
    fn settings_of_the_live_system() {
        let setup = live("live-user=me live-password=\"a b\" live-shell=/usr/bin/zsh hostname=box services=sshd,,x nofstab nonetworking nogui").setup;
        assert_eq!(
            (
                setup.user.as_str(),
                setup.shell.as_deref(),
                setup.hostname.as_deref()
            ),
            ("me", Some("/usr/bin/zsh"), Some("box"))
        );
        assert!(setup.password == Password::Clear("a b".into()));
        assert_eq!(setup.asked_services, ["sshd", "x"]);
        assert!(!setup.fstab && !setup.networking && !setup.gui);
        let setup = live("skipconfig").setup;
        assert!(!setup.fstab && !setup.networking && setup.gui);
        assert_eq!(
            (
                setup.user.as_str(),
                setup.password == Password::Clear("chimera".into())
            ),
            ("anon", true)
        );
    }

    #[test]
    fn nonsense_is_reported_and_the_default_stays() {
        for (line, part) in [
            ("boot=nfs", "boot=nfs"),
            ("live-user=Root:0", "not a user name"),
            ("live-password=", "empty"),
            ("live-shell=sh", "absolute"),
            ("hostname=a_b", "host name"),
            ("overlay-size=120%", "overlay-size=120%"),
            ("overlay-size=", "overlay-size="),
            ("union=aufs", "overlay is the only one"),
            ("live-media-timeout=soon", "seconds"),
            ("live-media-timeout=100000", "longest wait"),
            ("panic=x", "panic=x"),
            (
                "break=lunch",
                "there are modules, find, verify, assemble, setup, handover",
            ),
        ] {
            let warnings = request(line).warnings;
            assert!(
                warnings.len() == 1 && warnings[0].contains(part),
                "{line}: {warnings:?}"
            );
        }
        assert_eq!(live("overlay-size=120%").overlay_size.as_str(), "50%");
        assert_eq!(live("live-media-timeout=100000").wait, WAIT_LIMIT);
    }

    #[test]
    fn every_parameter_that_does_nothing_is_announced_once() {
        for parameter in PARAMETERS {
            let warnings = request(&format!("{}=1", parameter.name)).warnings;
            let announced = warnings
                .iter()
                .filter(|text| text.contains("is not implemented"))
                .count();
            assert_eq!(
                announced,
                usize::from(parameter.support == Support::NotYet),
                "{}",
                parameter.name
            );
        }
    }

    #[test]
    fn failure_and_stops() {
        assert_eq!(
            request("panic=10").on_failure,
            OnFailure::Reboot(Duration::from_secs(10))
        );
        assert_eq!(request("panic=-1").on_failure, OnFailure::Reboot(Duration::ZERO));
        assert_eq!(request("panic=0").on_failure, OnFailure::Shell);
        for step in &Step::ALL[1..] {
            assert_eq!(request(&format!("break={step}")).stop_before, Some(*step));
        }
        assert_eq!(request("break=bottom").stop_before, Some(Step::Setup));
        assert_eq!(request("init=/bin/sh").init, ["/bin/sh"]);
        assert_eq!(
            request("modprobe.blacklist=nouveau,i2c-x").blacklist,
            ["nouveau", "i2c_x"]
        );
    }

    #[test]
    fn root_hashes_of_dm_verity() {
        let hash = "0c".repeat(32);
        let found = live(&format!(
            "boot=live dm-verity-root-hash={hash} dm-verity-oncorruption=panic"
        ));
        assert_eq!(
            found.verity,
            Some(Verity {
                root_hash: hash.clone(),
                on_corruption: OnCorruption::Panic
            })
        );
        assert_eq!(live("boot=live").verity, None);
        // One that cannot be used is no reason to go on without.
        for bad in ["", "12", &format!("other.squashfs:{hash}")] {
            let boot = request(&format!("boot=live dm-verity-root-hash={bad}")).boot;
            assert!(boot.is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes() {
        for good in ["50%", "100%", "1", "512M", "2g", "64k"] {
            assert!(OverlaySize::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "0", "0%", "101%", "1t", "-1", "1.5g", "5%,mode=777"] {
            assert!(OverlaySize::parse(bad).is_err(), "{bad}");
        }
    }
}
