//! The definition of a disk of Chimera Linux, built from a repository of the same shape.

use crate::chimera::{Chimera, KERNEL};
use crate::judge::{of_ext4, of_fat, parts, sound_ext4, sound_table};
use crate::program::{names, succeed};

/// The boards that chimera-live makes images for, and their architectures.
const BOARDS: [(&str, &str); 6] = [
    ("chimera-pbp", "aarch64"),
    ("chimera-rockpro64", "aarch64"),
    ("chimera-rock64", "aarch64"),
    ("chimera-quartzpro64", "aarch64"),
    ("chimera-rpi", "aarch64"),
    ("chimera-unmatched", "riscv64"),
];

#[test]
fn what_the_definitions_for_boards_make() {
    let repositories = ["aarch64", "riscv64"].map(|arch| (arch, Chimera::of(arch)));
    // Two at once: most of the time goes into zeros that are compressed.
    let (first, second) = BOARDS.split_at(3);
    std::thread::scope(|scope| {
        for boards in [first, second] {
            let repositories = &repositories;
            scope.spawn(move || {
                for (image, arch) in boards {
                    let (_, chimera) = repositories.iter().find(|(of, _)| of == arch).unwrap();
                    succeed(chimera.build(image, image).args(["--arch", arch]));
                    crate::manifests::hold_of(image, arch, &chimera.path(image));
                }
            });
        }
    });
}

#[test]
fn the_disk_of_chimera() {
    let chimera = Chimera::new();
    succeed(&mut chimera.build("chimera-disk", "output"));
    assert_eq!(
        names(&chimera.path("output")),
        [
            "chimera-disk-x86_64.SHA256SUMS",
            "chimera-disk-x86_64.cdx.json",
            "chimera-disk-x86_64.disk.manifest.json",
            "chimera-disk-x86_64.img",
            "chimera-disk-x86_64.img.sha256",
            "chimera-disk-x86_64.lock",
            "chimera-disk-x86_64.qcow2",
            "chimera-disk-x86_64.qcow2.sha256",
            "chimera-disk-x86_64.spdx.json",
        ]
    );
    crate::manifests::hold("chimera-disk", &chimera.path("output"));
    let disk = chimera.path("output/chimera-disk-x86_64.img");
    sound_table(&disk);
    let parts = parts(&disk);
    let (esp, root) = (&parts[1], &parts[2]);
    sound_ext4(&disk, root);
    assert_eq!(&of_fat(&disk, esp, "EFI/BOOT/BOOTX64.EFI")[..2], b"MZ");
    assert_eq!(
        of_ext4(&disk, root, "/etc/apk/world"),
        "base-full\ngrub-i386-pc\ngrub-x86_64-efi\nlinux-stable\n"
    );
    let database = of_ext4(&disk, root, "/usr/lib/apk/db/installed");
    let installed = |name: &str| {
        database.contains(&format!("\nP:{name}\n")) || database.starts_with(&format!("P:{name}\n"))
    };
    for name in [
        "base-full-core",
        "musl",
        "dinit-chimera-udev",
        "chimera-repo-main",
    ] {
        assert!(installed(name), "{name} is not in {database}");
    }
    // Of a live medium alone, and of the initramfs alone.
    for name in ["base-live", "limine", "lycia-init"] {
        assert!(!installed(name), "{name} is in {database}");
    }
    assert_eq!(
        of_ext4(&disk, root, &format!("/boot/vmlinuz-{KERNEL}")),
        "the kernel\n"
    );
    assert_eq!(of_ext4(&disk, root, "/etc/hostname"), "chimera\n");
    let fstab = of_ext4(&disk, root, "/etc/fstab");
    assert!(
        fstab.contains("  /  ext4  ") && fstab.contains("  /boot/efi  vfat  "),
        "{fstab}"
    );
    assert!(of_ext4(&disk, root, "/etc/shadow").starts_with("root:$6$"));
    let menu = of_ext4(&disk, root, "/boot/grub/grub.cfg");
    assert!(
        menu.contains("init=/usr/bin/init loglevel=4 growroot console=tty0 console=ttyS0,115200 quiet"),
        "{menu}"
    );
    assert!(menu.contains("menuentry 'Chimera Linux'"), "{menu}");
}
