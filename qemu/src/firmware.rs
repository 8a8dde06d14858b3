//! Finds the UEFI firmware of the host's packages.

use crate::{Architecture, Error};
use std::path::{Path, PathBuf};

/// What a machine starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Firmware {
    /// SeaBIOS, which comes with QEMU; x86_64 only.
    Bios,
    /// EDK II: OVMF on x86_64, AAVMF on aarch64, without Secure Boot.
    Uefi,
}

/// A UEFI firmware: its code, and the template of its variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirmwareFiles {
    /// Mapped read-only as the first flash.
    pub code: PathBuf,
    /// Copied for each guest; the copy is the second flash.
    pub variables: PathBuf,
}

/// Code and variables that belong together, the preferred first. Debian, Fedora, Arch, then QEMU's own.
const X86_64: &[(&str, &str)] = &[
    (
        "/usr/share/OVMF/OVMF_CODE_4M.fd",
        "/usr/share/OVMF/OVMF_VARS_4M.fd",
    ),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    (
        "/usr/share/edk2/ovmf/OVMF_CODE_4M.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS_4M.fd",
    ),
    (
        "/usr/share/edk2/ovmf/OVMF_CODE.fd",
        "/usr/share/edk2/ovmf/OVMF_VARS.fd",
    ),
    (
        "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
        "/usr/share/edk2/x64/OVMF_VARS.4m.fd",
    ),
    (
        "/usr/share/edk2/x64/OVMF_CODE.fd",
        "/usr/share/edk2/x64/OVMF_VARS.fd",
    ),
    (
        "/usr/share/qemu/edk2-x86_64-code.fd",
        "/usr/share/qemu/edk2-i386-vars.fd",
    ),
];

const AARCH64: &[(&str, &str)] = &[
    (
        "/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd",
        "/usr/share/AAVMF/AAVMF_VARS.fd",
    ),
    ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
    (
        "/usr/share/edk2/aarch64/QEMU_EFI-silent-pflash.raw",
        "/usr/share/edk2/aarch64/vars-template-pflash.raw",
    ),
    (
        "/usr/share/edk2/aarch64/QEMU_CODE.fd",
        "/usr/share/edk2/aarch64/QEMU_VARS.fd",
    ),
    (
        "/usr/share/qemu/edk2-aarch64-code.fd",
        "/usr/share/qemu/edk2-arm-vars.fd",
    ),
];

impl FirmwareFiles {
    /// The UEFI firmware of this host for guests of `architecture`.
    ///
    /// # Errors
    /// [`Error::MissingFirmware`] names the Debian package.
    pub fn find(architecture: Architecture) -> Result<Self, Error> {
        Self::find_with(architecture, Path::is_file)
    }

    fn find_with(architecture: Architecture, exists: impl Fn(&Path) -> bool) -> Result<Self, Error> {
        let (table, package) = match architecture {
            Architecture::X86_64 => (X86_64, "ovmf"),
            Architecture::Aarch64 => (AARCH64, "qemu-efi-aarch64"),
        };
        table
            .iter()
            .find(|(code, variables)| exists(Path::new(code)) && exists(Path::new(variables)))
            .map(|(code, variables)| Self {
                code: code.into(),
                variables: variables.into(),
            })
            .ok_or_else(|| Error::MissingFirmware {
                architecture: architecture.name(),
                searched: table.iter().map(|(code, _)| *code).collect::<Vec<_>>().join(", "),
                package,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_whole() {
        let only_old = |path: &Path| {
            path.ends_with("OVMF_CODE_4M.fd")
                || path.to_string_lossy().contains("OVMF_VARS.fd")
                || path.ends_with("OVMF_CODE.fd")
        };
        let found = FirmwareFiles::find_with(Architecture::X86_64, only_old).unwrap();
        assert_eq!(found.code, Path::new("/usr/share/OVMF/OVMF_CODE.fd"));
        assert_eq!(found.variables, Path::new("/usr/share/OVMF/OVMF_VARS.fd"));
    }

    #[test]
    fn the_package_is_named() {
        for (architecture, package) in [
            (Architecture::X86_64, "package ovmf"),
            (Architecture::Aarch64, "package qemu-efi-aarch64"),
        ] {
            let message = FirmwareFiles::find_with(architecture, |_| false)
                .unwrap_err()
                .to_string();
            assert!(message.contains(package), "{message}");
            assert!(message.contains(architecture.name()), "{message}");
        }
    }
}
