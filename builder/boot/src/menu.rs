//! GRUB's menu of an installed system.

use std::fmt::Write as _;

/// An installed system, as its menu sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Installed<'a> {
    /// What people read.
    pub title: &'a str,
    /// UUID of the root file system.
    pub root_uuid: &'a str,
    /// Where the root begins in its file system, as GRUB sees it: empty, or `/@` of a subvolume of Btrfs.
    pub root_folder: &'a str,
    /// UUID of the file system of `/boot`, where it has one of its own.
    pub boot_uuid: Option<&'a str>,
    /// Versions of its kernels, the preferred one first; each has `/boot/vmlinuz-VERSION` and
    /// `/boot/initramfs-VERSION.img`.
    pub kernels: &'a [String],
    /// Values of `console=`, the last one being `/dev/console`.
    pub consoles: &'a [String],
    /// Words for the kernel. One with quotes, backslashes or `$`, as a menu that was read may have, is GRUB's language already.
    pub arguments: &'a str,
    /// Seconds that the menu waits.
    pub timeout: u32,
}

/// Path of the first sector that a disk had before the system was installed beside others, for BIOS. Where it is, the menu starts it.
pub const PREVIOUS: &str = "boot/grub/previous.img";
/// What the menu calls it.
pub const PREVIOUS_TITLE: &str = "What this disk started before";

/// Path of a kernel's initramfs.
#[must_use]
pub fn initramfs_path(version: &str) -> String {
    format!("boot/initramfs-{version}.img")
}

/// `ttyS0,115200` as the unit 0 and the speed.
#[must_use]
pub fn serial_unit(console: &str) -> Option<(u32, u32)> {
    let (port, speed) = console.split_once(',').unwrap_or((console, "115200"));
    let unit = port.strip_prefix("ttyS")?.parse().ok()?;
    let digits: String = speed.chars().take_while(char::is_ascii_digit).collect();
    Some((unit, digits.parse().ok()?))
}

/// A title inside quotes of GRUB's language.
fn quoted(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && *c != '\'').collect()
}

/// Words for the kernel as words of GRUB's language: in quotes where they have what it would take for its own.
fn words_of(arguments: &str) -> Vec<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.,:=/@%+-".contains(c);
    let mut quote = None;
    let mut words = Vec::new();
    for word in arguments.split_whitespace() {
        let written = quote.is_some() || word.contains(['\'', '"', '\\', '$']);
        for c in word.chars() {
            quote = match quote {
                None if matches!(c, '\'' | '"') => Some(c),
                Some(open) if open == c => None,
                same => same,
            };
        }
        words.push(if written || word.chars().all(plain) {
            word.to_owned()
        } else {
            format!("'{word}'")
        });
    }
    words
}

/// `/boot/grub/grub.cfg`.
#[must_use]
pub fn text(system: &Installed<'_>) -> String {
    let mut out = format!(
        "# Written by lycia-install. `lycia-install boot-repair` writes it again.\nset default=0\nset timeout={}\n",
        system.timeout
    );
    let serial = system.consoles.iter().find_map(|console| serial_unit(console));
    if let Some((unit, speed)) = serial {
        // UEFI firmware mirrors its console to a serial line by itself.
        let _ = write!(
            out,
            "if [ \"$grub_platform\" = pc ]; then\n    if serial --unit={unit} --speed={speed}; then\n        \
             terminal_input console serial\n        terminal_output console serial\n    fi\nfi\n"
        );
    }
    let mut words = vec![format!("root=UUID={}", system.root_uuid), "ro".to_owned()];
    words.extend(words_of(system.arguments));
    words.extend(system.consoles.iter().map(|console| format!("console={console}")));
    let words = words.join(" ");
    for (at, version) in system.kernels.iter().enumerate() {
        let title = if at == 0 {
            system.title.to_owned()
        } else {
            format!("{} ({version})", system.title)
        };
        entry(
            &mut out,
            &title,
            &format!("linux-{version}"),
            version,
            system,
            &format!("{words} quiet"),
        );
        entry(
            &mut out,
            &format!("{} ({version}, verbose, one user)", system.title),
            &format!("single-{version}"),
            version,
            system,
            &format!("{words} loglevel=7 single"),
        );
    }
    let previous = PREVIOUS.rsplit('/').next().unwrap_or(PREVIOUS);
    let _ = write!(
        out,
        "if [ \"$grub_platform\" = pc -a -f \"$prefix/{previous}\" ]; then\n    menuentry '{PREVIOUS_TITLE}' --id previous {{\n        \
         chainloader \"$prefix/{previous}\"\n    }}\nfi\n"
    );
    out.push_str(
        "if [ \"$grub_platform\" = efi ]; then\n    \
         if search --no-floppy --set=windows --file /EFI/Microsoft/Boot/bootmgfw.efi; then\n        \
         menuentry 'Windows' --id windows {\n            chainloader ($windows)/EFI/Microsoft/Boot/bootmgfw.efi\n        }\n    fi\n    \
         menuentry 'Firmware settings' --id firmware {\n        fwsetup\n    }\nfi\n",
    );
    out
}

fn entry(out: &mut String, title: &str, id: &str, version: &str, system: &Installed<'_>, words: &str) {
    let (uuid, folder) = boot_place(system.root_uuid, system.root_folder, system.boot_uuid);
    let initramfs = initramfs_path(version);
    let initramfs = initramfs.strip_prefix("boot").unwrap_or(&initramfs);
    let _ = write!(
        out,
        "menuentry '{}' --id {id} {{\n    search --no-floppy --fs-uuid --set=root {uuid}\n    linux {folder}/vmlinuz-{version} {words}\n    \
         initrd {folder}{initramfs}\n}}\n",
        quoted(title),
    );
}

/// The file system that has what GRUB reads, and the folder that is `/boot` in it.
fn boot_place<'a>(root_uuid: &'a str, root_folder: &str, boot_uuid: Option<&'a str>) -> (&'a str, String) {
    match boot_uuid {
        Some(uuid) => (uuid, String::new()),
        None => (root_uuid, format!("{root_folder}/boot")),
    }
}

/// What a core image runs first: it finds the root, or `/boot` where that has a file system of its own, by its UUID, on whatever disk it is.
#[must_use]
pub fn early(root_uuid: &str, boot_uuid: Option<&str>) -> String {
    early_in(root_uuid, "", boot_uuid)
}

/// As [`early`], of a root that begins in a folder of its file system: see [`Installed::root_folder`].
#[must_use]
pub fn early_in(root_uuid: &str, root_folder: &str, boot_uuid: Option<&str>) -> String {
    let (uuid, folder) = boot_place(root_uuid, root_folder, boot_uuid);
    format!("search --no-floppy --fs-uuid --set=root {uuid}\nset prefix=($root){folder}/grub\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Words that GRUB would take for its own, each as it stands in a menu.
    const TAKEN: [(&str, &str); 12] = [
        ("x | y", "x '|' y"),
        ("x&y", "'x&y'"),
        ("x<y", "'x<y'"),
        ("x>y", "'x>y'"),
        ("x;y", "'x;y'"),
        ("{", "'{'"),
        ("} a}", "'}' 'a}'"),
        ("#", "'#'"),
        ("#a `b` ~", "'#a' '`b`' '~'"),
        ("/*", "'/*'"),
        ("if fi", "if fi"),
        // As a menu has them that was read.
        ("'x&y' \"a | b\" & $c", "'x&y' \"a | b\" '&' $c"),
    ];

    fn menu(title: &str, consoles: &[String]) -> String {
        menu_with(title, consoles, "a=b  c")
    }

    fn menu_with(title: &str, consoles: &[String], arguments: &str) -> String {
        text(&Installed {
            title,
            root_uuid: "01234567-89ab-cdef-0123-456789abcdef",
            root_folder: "",
            boot_uuid: None,
            kernels: &["6.1.0".into(), "6.0.9".into()],
            consoles,
            arguments,
            timeout: 3,
        })
    }

    #[test]
    fn grub_understands_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("grub.cfg");
        let serial = || vec!["tty0".to_owned(), "ttyS0,115200".to_owned()];
        let mut menus = vec![("Lycia", vec![], "a=b  c"), ("It's\n}", serial(), "a=b  c")];
        menus.extend(TAKEN.iter().map(|(words, _)| ("Lycia", vec![], *words)));
        for (title, consoles, arguments) in menus {
            let text = menu_with(title, &consoles, arguments);
            std::fs::write(&path, &text).unwrap();
            let checked = Command::new("grub-script-check")
                .arg(&path)
                .output()
                .expect("grub-script-check is missing: install the Debian package grub-common");
            assert!(checked.status.success(), "{checked:?}\n{text}");
            assert_eq!(
                text.contains("serial --unit=0 --speed=115200"),
                !consoles.is_empty()
            );
        }
        let text = menu("Lycia", &["tty0".to_owned(), "ttyS0,115200".to_owned()]);
        assert!(text.contains(
            "linux /boot/vmlinuz-6.1.0 root=UUID=01234567-89ab-cdef-0123-456789abcdef ro a=b c console=tty0 console=ttyS0,115200 quiet\n"
        ));
        assert!(text.contains("menuentry 'Lycia (6.0.9)'"));
        for (words, written) in TAKEN {
            let text = menu_with("Lycia", &[], words);
            assert!(text.contains(&format!(" ro {written} quiet\n")), "{text}");
            // Read and written again, they stay as they are.
            assert_eq!(menu_with("Lycia", &[], written), text);
        }
        let apart = super::text(&Installed {
            title: "Lycia",
            root_uuid: "a",
            root_folder: "/@",
            boot_uuid: Some("b"),
            kernels: &["6.1.0".into()],
            consoles: &[],
            arguments: "",
            timeout: 3,
        });
        assert!(
            apart.contains(
                "--set=root b\n    linux /vmlinuz-6.1.0 root=UUID=a ro quiet\n    initrd /initramfs-6.1.0.img"
            ),
            "{apart}"
        );
    }

    #[test]
    fn what_the_disk_started_before_is_offered_under_bios() {
        let text = menu("Lycia", &[]);
        let entry = "if [ \"$grub_platform\" = pc -a -f \"$prefix/previous.img\" ]; then\n    \
                     menuentry 'What this disk started before' --id previous {\n        chainloader \"$prefix/previous.img\"\n";
        assert!(text.contains(entry), "{text}");
    }

    #[test]
    fn a_root_in_a_subvolume() {
        let text = text(&Installed {
            title: "Lycia",
            root_uuid: "a",
            root_folder: "/@",
            boot_uuid: None,
            kernels: &["6.1.0".into()],
            consoles: &[],
            arguments: "rootflags=subvol=@",
            timeout: 3,
        });
        assert!(
            text.contains(
                "--set=root a\n    linux /@/boot/vmlinuz-6.1.0 root=UUID=a ro rootflags=subvol=@ quiet\n    \
                 initrd /@/boot/initramfs-6.1.0.img\n"
            ),
            "{text}"
        );
        assert!(early_in("a", "/@", None).ends_with("set prefix=($root)/@/boot/grub\n"));
        assert!(early_in("a", "/@", Some("b")).ends_with("--set=root b\nset prefix=($root)/grub\n"));
    }

    #[test]
    fn serial_consoles() {
        assert_eq!(serial_unit("ttyS1,9600n8"), Some((1, 9600)));
        assert_eq!(serial_unit("ttyS1"), Some((1, 115_200)));
        assert_eq!(serial_unit("hvc0"), None);
    }
}
