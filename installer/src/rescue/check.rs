//! Checking file systems with their own programs.

use std::io;
use std::path::PathBuf;

use super::RescueError;
use super::host::Host;
use crate::file_system::Kind;

/// What checks a file system.
struct Checker {
    program: &'static str,
    arguments: &'static [&'static str],
    /// The package that has it.
    package: &'static str,
    /// Exit codes after which the file system is sound.
    sound: std::ops::RangeInclusive<i32>,
    /// What to do where it is not.
    advice: &'static str,
}

const fn checker(kind: Kind) -> Checker {
    match kind {
        // 1 and 2: faults were repaired.
        Kind::Ext4 => Checker {
            program: "e2fsck",
            arguments: &["-f", "-p"],
            package: "e2fsprogs",
            sound: 0..=2,
            advice: "what it said tells which; `e2fsck -f` asks what to do about each",
        },
        // Its codes are no range, see `check`.
        Kind::Xfs => Checker {
            program: "xfs_repair",
            arguments: &["-e"],
            package: "xfsprogs",
            sound: 0..=0,
            advice: "it repairs what it can; copy what is still readable from it before anything else is tried",
        },
        Kind::Btrfs => Checker {
            program: "btrfs",
            arguments: &["check", "--readonly"],
            package: "btrfs-progs",
            sound: 0..=0,
            advice: "this was a check that writes nothing. `btrfs check --repair` can make it worse and is never run by this verb: \
                     first copy what is readable (`mount -o ro,rescue=all`, or `btrfs restore`)",
        },
        // As of e2fsck; before version 1.14 there was only 0 and 255.
        Kind::F2fs => Checker {
            program: "fsck.f2fs",
            arguments: &["-a"],
            package: "f2fs-tools",
            sound: 0..=3,
            advice: "what it said tells which; `fsck.f2fs -f` checks everything and asks",
        },
    }
}

/// xfs_repair(8): the log has changes that are to be replayed.
const XFS_LOG: i32 = 2;
/// xfs_repair(8) with `-e`: faults were repaired.
const XFS_REPAIRED: i32 = 4;

/// Checks a file system; all but Btrfs are repaired, too.
pub(super) fn check(host: &mut dyn Host, node: &str, kind: Kind) -> Result<(), RescueError> {
    let checker = checker(kind);
    let mut arguments = checker.arguments.to_vec();
    arguments.push(node);
    let code = host.run(checker.program, &arguments).map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            RescueError::NoChecker {
                node: node.to_owned(),
                kind: kind.name(),
                program: checker.program,
                package: checker.package,
            }
        } else {
            RescueError::Io {
                doing: "running the check of",
                path: PathBuf::from(node),
                source,
            }
        }
    })?;
    match (kind, code) {
        (Kind::Xfs, Some(XFS_REPAIRED)) => Ok(()),
        (Kind::Xfs, Some(XFS_LOG)) => Err(RescueError::Log(node.to_owned())),
        (_, Some(code)) if checker.sound.contains(&code) => Ok(()),
        (_, code) => Err(RescueError::Faults {
            node: node.to_owned(),
            program: checker.program,
            code: code.unwrap_or(-1),
            advice: checker.advice,
        }),
    }
}
