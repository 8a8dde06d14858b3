//! What is mounted where, as data: computed first, carried out by [`crate::assemble`].

use crate::request::Live;
use crate::verity::{self, Verity};

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
/// The list of checksums of the medium's files, at its top.
pub const CHECKSUMS: &str = "sha256sum.txt";
/// Where the new root is put together.
pub const NEW_ROOT: &str = "/newroot";

/// One step of putting the root together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Compare every file of the medium that is in its list of checksums, but for those that are checked otherwise.
    VerifyFiles {
        /// The list, as sha256sum(1) writes it, of paths relative to the medium.
        list: String,
        /// Paths that are left out.
        except: Vec<String>,
    },
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
    /// Make a device of a file and the hash tree beside it, which checks each block that is read.
    OpenVerity {
        /// The file.
        file: String,
        /// What it must be.
        verity: Verity,
    },
    /// Read all of that device.
    ReadThrough {
        /// The file, for messages.
        file: String,
    },
    /// Mount that device read-only.
    MountVerity {
        /// The file, for messages.
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
    if live.verify {
        actions.push(Action::VerifyFiles {
            list: format!("{MEDIUM}/{CHECKSUMS}"),
            except: vec![live.image.clone(), verity::hashes_of(&live.image)],
        });
    }
    let sum = live.verify && live.verity.is_none();
    let image = if live.to_ram {
        let name = live.image.rsplit('/').next().unwrap_or(&live.image);
        let in_ram = format!("{RAM}/{name}");
        let tree = match live.verity {
            Some(_) => verity::hashes_len(image_size),
            None => 0,
        };
        // A page more than the file for the directory.
        actions.push(Action::MountTmpfs {
            target: RAM,
            size: (image_size.next_multiple_of(4096) + 65536 + tree).to_string(),
        });
        actions.push(Action::Copy {
            from: on_medium.clone(),
            to: in_ram.clone(),
            verify: sum,
        });
        if live.verity.is_some() {
            actions.push(Action::Copy {
                from: verity::hashes_of(&on_medium),
                to: verity::hashes_of(&in_ram),
                verify: false,
            });
        }
        actions.push(Action::Keep);
        actions.push(Action::Release { target: MEDIUM });
        if live.iso_file.is_some() {
            actions.push(Action::Release { target: ISO_HOME });
        }
        actions.push(Action::PutKept);
        in_ram
    } else {
        if sum {
            actions.push(Action::Verify {
                file: on_medium.clone(),
            });
        }
        on_medium
    };
    let (target, kind) = (IMAGE, "squashfs");
    match &live.verity {
        Some(verity) => {
            actions.push(Action::OpenVerity {
                file: image.clone(),
                verity: verity.clone(),
            });
            if live.verify {
                actions.push(Action::ReadThrough { file: image.clone() });
            }
            actions.push(Action::MountVerity {
                file: image,
                target,
                kind,
            });
        }
        None => actions.push(Action::MountFile {
            file: image,
            target,
            kind,
        }),
    }
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

/// Paths and sums of a list as sha256sum(1) writes it: relative paths that stay below where they begin.
#[must_use]
pub fn listed_sums(text: &str) -> Vec<(String, String)> {
    let mut out: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let Some((sum, path)) = line.split_once(' ') else {
            continue;
        };
        let path = path.trim_start_matches([' ', '*']).trim_start_matches("./");
        let inside = !path.is_empty() && !path.starts_with('/') && path.split('/').all(|part| part != "..");
        if sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()) && inside {
            out.push((path.to_owned(), sum.to_ascii_lowercase()));
        }
    }
    out
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
        let mut expected = vec![files(), Action::Verify { file: FILE.into() }];
        expected.extend(tail(FILE, "50%"));
        assert_eq!(actions("boot=live verify"), expected);
    }

    fn files() -> Action {
        Action::VerifyFiles {
            list: "/run/live/medium/sha256sum.txt".into(),
            except: vec![
                "live/filesystem.squashfs".into(),
                "live/filesystem.squashfs.verity".into(),
            ],
        }
    }

    #[test]
    fn through_dm_verity() {
        let hash = "5a".repeat(32);
        let file = || FILE.to_owned();
        let open = |file: String| Action::OpenVerity {
            file,
            verity: Verity {
                root_hash: hash.clone(),
                on_corruption: verity::OnCorruption::Fail,
            },
        };
        let mount = |file: String| Action::MountVerity {
            file,
            target: IMAGE,
            kind: "squashfs",
        };
        let line = format!("boot=live dm-verity-root-hash={hash}");
        let mut expected = vec![open(file()), mount(file())];
        expected.extend_from_slice(&tail(FILE, "50%")[1..]);
        assert_eq!(actions(&line), expected);

        expected.insert(1, Action::ReadThrough { file: file() });
        expected.insert(0, files());
        assert_eq!(actions(&format!("{line} verify")), expected);

        let in_ram = || "/run/live/ram/filesystem.squashfs".to_owned();
        let copied = actions(&format!("{line} toram verify"));
        assert_eq!(
            copied[2..9],
            [
                Action::Copy {
                    from: file(),
                    to: in_ram(),
                    verify: false
                },
                Action::Copy {
                    from: format!("{FILE}.verity"),
                    to: format!("{}.verity", in_ram()),
                    verify: false
                },
                Action::Keep,
                Action::Release { target: MEDIUM },
                Action::PutKept,
                open(in_ram()),
                Action::ReadThrough { file: in_ram() },
            ]
        );
    }

    #[test]
    fn in_memory_everything_below_is_let_go() {
        let in_ram = "/run/live/ram/filesystem.squashfs";
        let mut expected = vec![
            files(),
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
    fn lists_of_sums() {
        let sum = "AB".repeat(32);
        let lower = sum.to_lowercase();
        let text =
            format!("# x\n{sum}  ./a b\n{sum} *c/d\n{sum}  /etc/passwd\n{sum}  a/../../b\n{sum}\nzz  e\n");
        assert_eq!(
            listed_sums(&text),
            [("a b".to_owned(), lower.clone()), ("c/d".to_owned(), lower)]
        );
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
