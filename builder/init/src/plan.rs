//! What is mounted where, as data: computed first, carried out by [`crate::assemble`].

use crate::request::Live;

/// Where the medium is mounted.
pub const MEDIUM: &str = "/run/live/medium";
/// Where the file system that holds an ISO file is mounted.
pub const ISO_HOME: &str = "/run/live/findiso";
/// Where the copy in memory is.
pub const RAM: &str = "/run/live/ram";
/// Where what can be installed is kept in memory.
pub const KEPT: &str = "/run/live/kept";
/// Where the image is mounted, without changes.
pub const IMAGE: &str = "/run/live/rootfs";
/// Where the changes are.
pub const OVERLAY: &str = "/run/live/overlay";
/// Where the new root is put together.
pub const NEW_ROOT: &str = "/newroot";

/// One step of putting the root together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Compare a file with the checksum beside it.
    Verify {
        /// The file.
        file: String,
    },
    /// Mount a tmpfs.
    MountTmpfs {
        /// Where.
        target: &'static str,
        /// `size=` as tmpfs takes it.
        size: String,
    },
    /// Copy a file, and check it on the way if asked.
    Copy {
        /// From here.
        from: String,
        /// To here.
        to: String,
        /// Compare with the checksum beside `from`.
        verify: bool,
    },
    /// Copy what can be installed from the medium into a tmpfs of its size, if memory allows; a failure is only worth a warning.
    Keep,
    /// Put what was kept in the place of the medium.
    PutKept,
    /// Unmount what is no longer needed; a failure is only worth a warning.
    Release {
        /// What is mounted there.
        target: &'static str,
    },
    /// Attach a file to a loop device and mount it read-only.
    MountFile {
        /// The file.
        file: String,
        /// Where.
        target: &'static str,
        /// File system type.
        kind: &'static str,
    },
    /// Make the upper and work directories, with owner and mode of the image's root on the upper.
    MakeLayers,
    /// Mount the overlay.
    MountOverlay {
        /// Where.
        target: &'static str,
    },
}

/// The steps from a mounted medium to a new root.
///
/// `image_size` is the size of the image in bytes.
#[must_use]
pub fn live_actions(live: &Live, image_size: u64) -> Vec<Action> {
    let on_medium = format!("{MEDIUM}/{}", live.image);
    let mut actions = Vec::new();
    let image = if live.to_ram {
        let name = live.image.rsplit('/').next().unwrap_or(&live.image);
        let in_ram = format!("{RAM}/{name}");
        // A page more than the file for the directory.
        actions.push(Action::MountTmpfs {
            target: RAM,
            size: (image_size.next_multiple_of(4096) + 65536).to_string(),
        });
        actions.push(Action::Copy {
            from: on_medium,
            to: in_ram.clone(),
            verify: live.verify,
        });
        actions.push(Action::Keep);
        actions.push(Action::Release { target: MEDIUM });
        if live.iso_file.is_some() {
            actions.push(Action::Release { target: ISO_HOME });
        }
        actions.push(Action::PutKept);
        in_ram
    } else {
        if live.verify {
            actions.push(Action::Verify {
                file: on_medium.clone(),
            });
        }
        on_medium
    };
    actions.push(Action::MountFile {
        file: image,
        target: IMAGE,
        kind: "squashfs",
    });
    actions.push(Action::MountTmpfs {
        target: OVERLAY,
        size: live.overlay_size.as_str().to_owned(),
    });
    actions.push(Action::MakeLayers);
    actions.push(Action::MountOverlay { target: NEW_ROOT });
    actions
}

/// Memory that must remain for the running system beside a copy of the image, in bytes.
pub const RAM_RESERVE: u64 = 192 << 20;

/// Whether an image fits in memory.
///
/// # Errors
/// Says how much is there and how much is needed.
pub fn fits_in_ram(image_size: u64, available: u64) -> Result<(), String> {
    let needed = image_size.saturating_add(RAM_RESERVE);
    if available >= needed {
        return Ok(());
    }
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Err(format!(
        "the image has {} MiB and the system needs {} MiB beside it, but {} MiB of memory are free",
        mib(image_size),
        mib(RAM_RESERVE),
        available >> 20
    ))
}

/// `MemAvailable` of `/proc/meminfo` in bytes.
#[must_use]
pub fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim()
        .strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

/// The SHA-256 in a checksum file for `name`: lines as sha256sum(1) writes them, or the sum alone.
#[must_use]
pub fn expected_sum(text: &str, name: &str) -> Option<String> {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(sum) = words.next() else { continue };
        let file = words
            .next()
            .map(|file| file.trim_start_matches('*').rsplit('/').next().unwrap_or(file));
        if sum.len() == 64
            && sum.bytes().all(|byte| byte.is_ascii_hexdigit())
            && file.is_none_or(|file| file == name)
        {
            return Some(sum.to_ascii_lowercase());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmdline::split;
    use crate::config::Config;
    use crate::request::{Boot, Request};

    fn actions(line: &str) -> Vec<Action> {
        match Request::new(&split(line), &Config::default()).boot {
            Ok(Boot::Live(live)) => live_actions(&live, 5000),
            other => panic!("{other:?}"),
        }
    }

    fn tail(file: &str, size: &str) -> Vec<Action> {
        vec![
            Action::MountFile {
                file: file.into(),
                target: IMAGE,
                kind: "squashfs",
            },
            Action::MountTmpfs {
                target: OVERLAY,
                size: size.into(),
            },
            Action::MakeLayers,
            Action::MountOverlay { target: NEW_ROOT },
        ]
    }

    const FILE: &str = "/run/live/medium/live/filesystem.squashfs";

    #[test]
    fn from_the_medium() {
        assert_eq!(actions("boot=live"), tail(FILE, "50%"));
        assert_eq!(actions("boot=live overlay-size=1G"), tail(FILE, "1g"));
    }

    #[test]
    fn checked_first() {
        let mut expected = vec![Action::Verify { file: FILE.into() }];
        expected.extend(tail(FILE, "50%"));
        assert_eq!(actions("boot=live verify"), expected);
    }

    #[test]
    fn in_memory_everything_below_is_let_go() {
        let in_ram = "/run/live/ram/filesystem.squashfs";
        let mut expected = vec![
            Action::MountTmpfs {
                target: RAM,
                size: (8192 + 65536).to_string(),
            },
            Action::Copy {
                from: FILE.into(),
                to: in_ram.into(),
                verify: true,
            },
            Action::Keep,
            Action::Release { target: MEDIUM },
            Action::Release { target: ISO_HOME },
            Action::PutKept,
        ];
        expected.extend(tail(in_ram, "50%"));
        assert_eq!(actions("boot=live toram verify findiso=/a.iso"), expected);
    }

    #[test]
    fn memory() {
        assert_eq!(
            available_memory("MemTotal: 5 kB\nMemAvailable:   1000 kB\n"),
            Some(1_024_000)
        );
        assert_eq!(available_memory("MemTotal: 5 kB\n"), None);
        assert!(fits_in_ram(1 << 20, RAM_RESERVE + (1 << 20)).is_ok());
        assert_eq!(
            fits_in_ram(300 << 20, 400 << 20).unwrap_err(),
            "the image has 300 MiB and the system needs 192 MiB beside it, but 400 MiB of memory are free"
        );
        assert!(fits_in_ram(u64::MAX, 1).is_err());
    }

    #[test]
    fn checksum_files() {
        let sum = "AB".repeat(32);
        let lower = sum.to_lowercase();
        for text in [
            format!("{sum}\n"),
            format!("{sum}  live/f\n"),
            format!("{sum} *f\n"),
            format!("x y\n{lower}  f"),
        ] {
            assert_eq!(
                expected_sum(&text, "f").as_deref(),
                Some(lower.as_str()),
                "{text}"
            );
        }
        for text in [
            String::new(),
            format!("{sum}  other\n"),
            "abcd  f\n".into(),
            "g".repeat(64),
        ] {
            assert_eq!(expected_sum(&text, "f"), None, "{text}");
        }
    }
}
