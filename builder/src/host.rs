//! What the build host must have.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::{Error, Kind, Result, io};

/// Something that the host must have, and the Debian package that has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Need {
    /// A program to be found in `PATH`, or an absolute path.
    pub what: &'static str,
    /// The package.
    pub package: &'static str,
    /// What for.
    pub purpose: &'static str,
}

const fn need(what: &'static str, package: &'static str, purpose: &'static str) -> Need {
    Need {
        what,
        package,
        purpose,
    }
}

/// Needs of a build from repositories.
pub const BUILD: &[Need] = &[need("grub-mkimage", "grub-common", "joining GRUB images")];

/// Needs of booting what was built.
pub const RUN: &[Need] = &[
    need("qemu-system-x86_64", "qemu-system-x86", "booting media"),
    need("/usr/share/OVMF/OVMF_CODE.fd", "ovmf", "booting media with UEFI"),
];

/// Needs of the tests: programs that judge what was written.
pub const TEST: &[Need] = &[
    need("cryptsetup", "cryptsetup-bin", "opening encrypted volumes"),
    need(
        "/usr/lib/python3/dist-packages/cryptography/__init__.py",
        "python3-cryptography",
        "decrypting volumes another way",
    ),
    need("swaplabel", "util-linux", "checking swap files"),
    need("rdsquashfs", "squashfs-tools-ng", "reading squashfs back"),
    need("bsdtar", "libarchive-tools", "reading ISOs and archives back"),
    need("mkfs.exfat", "exfatprogs", "making file systems to be read"),
    need("mkfs.xfs", "xfsprogs", "making file systems to be read"),
    need("mkfs.btrfs", "btrfs-progs", "making file systems to be read"),
    need("mkfs.f2fs", "f2fs-tools", "making file systems to be read"),
    need("xfs_repair", "xfsprogs", "checking XFS"),
    need("btrfs", "btrfs-progs", "checking Btrfs"),
    need("mkfs.ntfs", "ntfs-3g", "making file systems to be read"),
    need("qemu-system-aarch64", "qemu-system-arm", "booting test guests"),
    need(
        "/usr/share/AAVMF/AAVMF_CODE.fd",
        "qemu-efi-aarch64",
        "booting test guests",
    ),
    need("make", "make", "testing the seed engine"),
    need("patch", "patch", "testing the seed engine"),
    need("clang-19", "clang-19", "testing the seed engine"),
    need("ld.lld-19", "lld-19", "testing the seed engine"),
    need("setpriv", "util-linux", "building as another user"),
    need("skopeo", "skopeo", "reading container images back"),
    need("tar", "tar", "reading tarballs back"),
    need("xorriso", "xorriso", "reading ISOs back"),
    need("unsquashfs", "squashfs-tools", "reading squashfs back"),
    need("fsck.vfat", "dosfstools", "checking FAT"),
    need("mcopy", "mtools", "reading FAT back"),
    need("sgdisk", "gdisk", "checking partition tables"),
    need("sfdisk", "fdisk", "checking partition tables"),
    need("debugfs", "e2fsprogs", "reading ext4 back"),
    need(
        "/usr/lib/ipxe/qemu/efi-virtio.rom",
        "ipxe-qemu",
        "booting test guests from the network",
    ),
    need("cpio", "cpio", "reading archives back"),
    need("xz", "xz-utils", "checking xz"),
    need("zstd", "zstd", "checking zstd"),
    need("strace", "strace", "seeing which system calls a build makes"),
    need("depmod", "kmod", "comparing module indexes"),
    need("openssl", "openssl", "comparing certificate hashes"),
    need(
        "/usr/share/ca-certificates/mozilla",
        "ca-certificates",
        "comparing certificate hashes",
    ),
    need("systemd-hwdb", "udev", "comparing hardware databases"),
    need("makewhatis", "mandoc", "comparing databases of manual pages"),
    need("systemd-sysusers", "systemd", "comparing system users"),
    need("systemd-tmpfiles", "systemd", "comparing temporary files"),
    need("mke2fs", "e2fsprogs", "making file systems to be read"),
    need("e2fsck", "e2fsprogs", "checking ext4"),
    need("grub-script-check", "grub-common", "checking boot menus"),
    need("qemu-img", "qemu-utils", "checking disk images"),
    need("fsck.erofs", "erofs-utils", "checking EROFS"),
    need("veritysetup", "cryptsetup-bin", "checking hash trees"),
    need("blkid", "util-linux", "comparing labels"),
    need(
        "/usr/lib/grub/i386-pc/kernel.img",
        "grub-pc-bin",
        "booting test media",
    ),
    need(
        "/usr/lib/grub/x86_64-efi/kernel.img",
        "grub-efi-amd64-bin",
        "booting test media",
    ),
];

/// The path of a program of the host.
///
/// # Errors
/// When it is not in `PATH`, with the package that has it.
pub fn find(program: &'static str) -> Result<PathBuf> {
    locate(program).ok_or_else(|| {
        let known = BUILD
            .iter()
            .chain(RUN)
            .chain(TEST)
            .find(|need| need.what == program);
        let error = Error::new(
            Kind::Host,
            format!("the program {program} is not on this machine"),
        );
        match known {
            Some(need) => error.hint(format!(
                "install {} (Debian), or run `lycia doctor --install`",
                need.package
            )),
            None => error,
        }
    })
}

/// A program in `PATH` or where system tools lie, or a path that is there.
pub fn locate(what: &str) -> Option<PathBuf> {
    if what.starts_with('/') {
        return Path::new(what).exists().then(|| PathBuf::from(what));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Not in an ordinary user's PATH on Debian.
    let system = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .map(|folder| folder.join(what))
        .find(|path| path.is_file())
}

/// Those of `needs` that are not met.
pub fn missing<'n>(needs: impl IntoIterator<Item = &'n Need>) -> Vec<Need> {
    needs
        .into_iter()
        .filter(|need| locate(need.what).is_none())
        .copied()
        .collect()
}

/// Installs Debian packages with apt-get.
///
/// # Errors
/// Where there is no apt-get, or it fails.
pub fn install(packages: &[String]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let apt = locate("apt-get").ok_or_else(|| {
        Error::new(Kind::Host, "there is no apt-get to install with")
            .hint(format!("install what these Debian packages hold: {list}"))
    })?;
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&apt);
        command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        // Standard output is for results.
        command.stdout(Stdio::from(std::io::stderr()));
        let status = io(command.status(), || "running apt-get".to_owned())?;
        if status.success() {
            return Ok(());
        }
        Err(
            Error::new(Kind::Host, format!("apt-get {} failed ({status})", arguments[0]))
                .hint(format!("as root: apt-get update && apt-get install {list}")),
        )
    };
    run(&["update", "-q"])?;
    let mut arguments = vec!["install", "-q", "-y", "--no-install-recommends"];
    arguments.extend(packages.iter().map(String::as_str));
    run(&arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        assert!(locate("sh").is_some());
        assert!(locate("/no/such/file").is_none());
        assert!(locate("no-such-program-anywhere").is_none());
        let error = find("no-such-program-anywhere").unwrap_err();
        assert_eq!(error.kind(), Kind::Host);
    }
}
