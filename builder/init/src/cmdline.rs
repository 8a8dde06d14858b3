//! The kernel command line: words, and the table of the parameters this program knows.

/// One word of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Name, up to the first `=`.
    pub name: String,
    /// What followed the `=`, without quotes; None for a bare word.
    pub value: Option<String>,
}

/// Splits a command line as the kernel does (`lib/cmdline.c`, `next_arg`): white space separates, double
/// quotes protect it. Words after a lone `--` are for the init of the new root and left out.
#[must_use]
pub fn split(line: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut current = String::new();
    let (mut quoted, mut started) = (false, false);
    for character in line.chars().chain([' ']) {
        match character {
            '"' => {
                quoted = !quoted;
                started = true;
            }
            space if space.is_ascii_whitespace() && !quoted => {
                if started {
                    words.push(std::mem::take(&mut current));
                }
                started = false;
            }
            other => {
                current.push(other);
                started = true;
            }
        }
    }
    // A quote that is never closed reaches to the end.
    if quoted && started {
        words.push(current.trim_end().to_owned());
    }
    words
        .into_iter()
        .take_while(|word| word != "--")
        .map(|word| word_of(&word))
        .collect()
}

fn word_of(word: &str) -> Word {
    match word.split_once('=') {
        Some((name, value)) => Word {
            name: name.to_owned(),
            value: Some(value.to_owned()),
        },
        None => Word {
            name: word.to_owned(),
            value: None,
        },
    }
}

/// What is done with a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// It works.
    Works,
    /// It is known from chimera-live or other initramfs programs and has no effect here; a warning says so.
    NotYet,
    /// It is for the kernel or for dinit; named here because people look for it here.
    PassedOn,
}

/// A documented parameter.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Name on the command line.
    pub name: &'static str,
    /// How its value is written, empty for a bare word.
    pub value: &'static str,
    /// What is done with it.
    pub support: Support,
    /// One line for people.
    pub help: &'static str,
}

const fn works(name: &'static str, value: &'static str, help: &'static str) -> Parameter {
    Parameter {
        name,
        value,
        support: Support::Works,
        help,
    }
}

const fn not_yet(name: &'static str, help: &'static str) -> Parameter {
    Parameter {
        name,
        value: "",
        support: Support::NotYet,
        help,
    }
}

const fn passed_on(name: &'static str, value: &'static str, help: &'static str) -> Parameter {
    Parameter {
        name,
        value,
        support: Support::PassedOn,
        help,
    }
}

/// Every parameter with a meaning to this program, in the order of the documentation.
pub const PARAMETERS: &[Parameter] = &[
    works(
        "boot",
        "live",
        "boot the live system of the medium (the default when no root= is given)",
    ),
    works(
        "live-media",
        "WHAT",
        "/dev/NAME, LABEL=, [PART]UUID=, PARTLABEL=, removable, removable-usb",
    ),
    works("bootfrom", "WHAT", "the same as live-media="),
    works(
        "live-media-path",
        "DIR",
        "directory of the medium that holds the image (default live)",
    ),
    works(
        "live-media-timeout",
        "SECONDS",
        "longest wait for the medium (default 30, at most 600)",
    ),
    works(
        "ignore_uuid",
        "",
        "accept any medium with the right label or content",
    ),
    works(
        "findiso",
        "/PATH.iso",
        "boot from an ISO file on any file system that can be read",
    ),
    works(
        "fromiso",
        "[/dev/NAME]/PATH.iso",
        "the same, optionally on a named device",
    ),
    works("isofrom", "[/dev/NAME]/PATH.iso", "the same as fromiso="),
    works("toram", "", "copy the system to memory and let go of the medium"),
    works("verify", "", "read the whole medium and check it before use"),
    works(
        "dm-verity-root-hash",
        "[FILE:]HASH",
        "check each block of the image when it is read (dm-verity, SHA-256)",
    ),
    works(
        "dm-verity-oncorruption",
        "WHAT",
        "ignore, restart or panic on a damaged block (default: reading it fails)",
    ),
    works(
        "overlay-size",
        "SIZE",
        "memory for changes: N%, or bytes with k, m or g (default 50%)",
    ),
    works("union", "overlay", "the only union file system there is"),
    works("live-user", "NAME", "name of the live user (default anon)"),
    works(
        "live-password",
        "TEXT",
        "password of the live user and of root (default chimera)",
    ),
    works("live-shell", "PATH", "login shell of the live user"),
    works("hostname", "NAME", "host name of the live system"),
    works("services", "A,B", "services to enable in addition"),
    works("nofstab", "", "leave /etc/fstab of the image as it is"),
    works("nonetworking", "", "enable no network service"),
    works("nogui", "", "enable no display manager"),
    works("skipconfig", "", "nofstab and nonetworking together"),
    works("nopersistence", "", "nothing is kept, as always here"),
    works(
        "root",
        "WHAT",
        "an installed root: /dev/NAME, [PART]LABEL=, [PART]UUID=",
    ),
    works(
        "rootfstype",
        "TYPE[,TYPE]",
        "file system type of the root (default: as its superblock says)",
    ),
    works(
        "rd.luks.name",
        "UUID=NAME",
        "open the LUKS2 volume first; the passphrase is asked for on every console",
    ),
    works("rootflags", "OPTIONS", "mount options of the root"),
    works(
        "ro",
        "",
        "mount the root read-only (the default; dinit remounts it)",
    ),
    works("rw", "", "mount the root read-write"),
    works(
        "rootdelay",
        "SECONDS",
        "longest wait for the root (default 30, at most 600)",
    ),
    works("rootwait", "[SECONDS]", "wait for the root up to 600 seconds"),
    works(
        "growroot",
        "",
        "grow the last partition, if it is the root's, and its ext4 to the disk",
    ),
    works(
        "init",
        "PATH",
        "program to start in the new root (default /usr/bin/init, then /sbin/init)",
    ),
    works(
        "panic",
        "SECONDS",
        "on failure reboot after so many seconds instead of starting a shell",
    ),
    works(
        "break",
        "STEP",
        "stop before modules, find, verify, assemble, setup or handover",
    ),
    works(
        "modprobe.blacklist",
        "A,B",
        "modules that are not loaded by device",
    ),
    works("quiet", "", "only warnings and errors on the console"),
    works("debug", "", "show everything"),
    works("lycia.debug", "", "show everything of this program"),
    not_yet(
        "live-media-offset",
        "the medium must begin at the start of a device",
    ),
    not_yet("todisk", "install instead, or use toram"),
    not_yet("persistence", "changes are lost at power-off"),
    not_yet("persistence-encryption", "changes are lost at power-off"),
    not_yet("persistence-label", "changes are lost at power-off"),
    not_yet("persistence-media", "changes are lost at power-off"),
    not_yet("persistence-method", "changes are lost at power-off"),
    not_yet("persistence-path", "changes are lost at power-off"),
    not_yet("persistence-read-only", "changes are lost at power-off"),
    not_yet("persistence-storage", "changes are lost at power-off"),
    not_yet("fetch", "there is no network in the initramfs"),
    not_yet("httpfs", "there is no network in the initramfs"),
    not_yet("ftpfs", "there is no network in the initramfs"),
    not_yet("netboot", "there is no network in the initramfs"),
    not_yet("nfsroot", "there is no network in the initramfs"),
    not_yet("nfsopts", "there is no network in the initramfs"),
    not_yet("nfsoverlay", "there is no network in the initramfs"),
    not_yet("iscsi", "there is no network in the initramfs"),
    not_yet("ip", "there is no network in the initramfs"),
    not_yet("dns", "there is no network in the initramfs"),
    not_yet("dhcp", "there is no network in the initramfs"),
    not_yet("nodhcp", "there is no network in the initramfs"),
    not_yet("ethdevice", "there is no network in the initramfs"),
    not_yet("ethdevice-timeout", "there is no network in the initramfs"),
    not_yet("BOOTIF", "there is no network in the initramfs"),
    not_yet(
        "dm-verity-enforce-roothash-signature",
        "root hashes are not signed",
    ),
    not_yet("ramdisk-size", "use overlay-size"),
    not_yet("module", "there is one image per medium"),
    not_yet("exposedroot", "the root is always an overlay"),
    not_yet("plainroot", "use root= without boot=live"),
    not_yet("skipunion", "the root is always an overlay"),
    not_yet("forcefsck", "the root is checked by dinit after the hand-over"),
    not_yet("resume", "there is no resume from hibernation"),
    not_yet("cryptdevice", "encrypted roots cannot be opened yet"),
    passed_on(
        "dinit_skip_volumes",
        "",
        "dinit: do not assemble volumes of other systems (put it on every live entry)",
    ),
    passed_on("single", "", "dinit: single-user mode"),
    passed_on(
        "console",
        "DEVICE",
        "kernel: console; a failure is shown on each and a shell is started on each",
    ),
];

/// The entry of `name` in [`PARAMETERS`].
#[must_use]
pub fn parameter(name: &str) -> Option<&'static Parameter> {
    PARAMETERS.iter().find(|parameter| parameter.name == name)
}

/// Parameters for a module: `module.option=value` words, and bare `module.option`, joined for
/// finit_module(2). `-` and `_` are the same in module names.
#[must_use]
pub fn module_options(words: &[Word], module: &str) -> String {
    let module = module.replace('-', "_");
    let mut out = Vec::new();
    for word in words {
        let Some((owner, option)) = word.name.split_once('.') else {
            continue;
        };
        if owner.replace('-', "_") != module || option.is_empty() {
            continue;
        }
        out.push(match &word.value {
            Some(value) if value.contains([' ', '\t']) => format!("{option}=\"{value}\""),
            Some(value) => format!("{option}={value}"),
            None => option.to_owned(),
        });
    }
    out.join(" ")
}

/// Consoles named on the command line, without options: `ttyS0` for `console=ttyS0,115200n8`.
#[must_use]
pub fn consoles(words: &[Word]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for word in words {
        if let ("console", Some(value)) = (word.name.as_str(), &word.value) {
            let name = value
                .split(',')
                .next()
                .unwrap_or_default()
                .trim_start_matches("/dev/");
            if !name.is_empty() && name != "null" && !out.iter().any(|seen| seen == name) {
                out.push(name.to_owned());
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(line: &str) -> Vec<(String, Option<String>)> {
        split(line)
            .into_iter()
            .map(|word| (word.name, word.value))
            .collect()
    }

    fn bare(name: &str) -> (String, Option<String>) {
        (name.into(), None)
    }

    fn set(name: &str, value: &str) -> (String, Option<String>) {
        (name.into(), Some(value.into()))
    }

    #[test]
    fn words() {
        for (line, expected) in [
            ("", vec![]),
            ("  \n", vec![]),
            (
                "quiet  root=LABEL=x\n",
                vec![bare("quiet"), set("root", "LABEL=x")],
            ),
            ("a=", vec![set("a", "")]),
            (
                "live-password=\"a b\" c",
                vec![set("live-password", "a b"), bare("c")],
            ),
            ("\"findiso=/my iso.iso\"", vec![set("findiso", "/my iso.iso")]),
            ("a=\"open end ", vec![set("a", "open end")]),
            ("a -- boot=live", vec![bare("a")]),
            ("\"\" b", vec![bare(""), bare("b")]),
        ] {
            assert_eq!(pairs(line), expected, "{line:?}");
        }
    }

    #[test]
    fn options_of_modules() {
        let words = split("usb-storage.quirks=1:2:u libata.force=\"a b\" loop.max_part=8 snd_hda.on quiet");
        assert_eq!(module_options(&words, "usb_storage"), "quirks=1:2:u");
        assert_eq!(module_options(&words, "libata"), "force=\"a b\"");
        assert_eq!(module_options(&words, "snd-hda"), "on");
        assert_eq!(module_options(&words, "ext4"), "");
    }

    #[test]
    fn console_names() {
        let words = split("console=tty0 console=ttyS0,115200n8 console=null console=ttyS0 console=");
        assert_eq!(consoles(&words), ["tty0", "ttyS0"]);
    }

    #[test]
    fn the_table_names_nothing_twice() {
        let mut names: Vec<_> = PARAMETERS.iter().map(|parameter| parameter.name).collect();
        names.sort_unstable();
        let before = names.len();
        names.dedup();
        assert_eq!(names.len(), before);
    }

    #[test]
    fn the_document_describes_every_parameter_and_no_other() {
        let document = include_str!("../README.md");
        for parameter in PARAMETERS {
            let heading = if parameter.value.is_empty() {
                format!("| `{}` |", parameter.name)
            } else {
                format!("| `{}={}` |", parameter.name, parameter.value)
            };
            assert!(
                document.contains(&format!("{heading} {} |", parameter.help)),
                "README.md lacks: {heading} {}",
                parameter.help
            );
        }
        let rows = document.lines().filter(|line| line.starts_with("| `")).count();
        let others = document
            .split("## Parameters")
            .next()
            .unwrap()
            .lines()
            .filter(|line| line.starts_with("| `"))
            .count();
        assert_eq!(rows - others, PARAMETERS.len());
    }

    proptest! {
        #[test]
        fn any_line_splits(line in "[ -~\n\t\u{e4}]{0,200}") {
            for word in split(&line) {
                prop_assert!(!word.name.contains('"'));
            }
        }
    }
}
