use super::*;
use crate::answers::Secrets;
use crate::answers::typed::AnswersFile;
use crate::fixture::{Fixture, KERNEL};

const ANSWERS: &str = "schema = 1\n[disk]\nselect = \"S1\"\nlayout = \"erase\"\n[root]\npassword-hash = \"$6$a$b./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./0123456789ABCDEFGHI\"\n";

fn made(fixture: &Fixture, lines: &str, boot_uuid: Option<&str>) -> Result<System, SystemError> {
    let medium = fixture.medium();
    let text = ANSWERS.replace("layout", &format!("{lines}\nlayout"));
    let answers = AnswersFile::parse(&text, "a")
        .unwrap()
        .resolve(Secrets::Read)
        .unwrap();
    // As of a medium that promises too much: what counts is what the packages have.
    let mut asked = answers.clone();
    asked.disk.file_system = FileSystem::default();
    let world = crate::engine::world(&medium, &crate::engine::Wanted::from(&asked)).unwrap();
    let repositories =
        crate::engine::repositories(&medium, &answers.source, answers.allocator.as_deref()).unwrap();
    let chosen = repositories.solve(&world).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let unpacked = repositories
        .unpack(&chosen, scratch.path(), &mut |_, _| ())
        .unwrap();
    let image = std::fs::read(medium.directory.join("EFI/BOOT/BOOTX64.EFI")).unwrap();
    let places = Places {
        root_uuid: "r".into(),
        root_type: answers.disk.file_system.kind.name(),
        esp_uuid: Some("E".into()),
        shared_esp: None,
        boot_uuid: boot_uuid.map(str::to_owned),
        volume_uuid: None,
        swap_uuid: None,
        swap_file: Identity::new([0; 16]).swap_file(),
        home: None,
        new_home: None,
        bios_boot: Some(1 << 20),
        prepared: Vec::new(),
    };
    assemble(
        Packages::new(unpacked).unwrap(),
        &Parts {
            install: &medium.install,
            programs: &[],
            answers: &answers,
            world: &world,
            keys: &repositories.key_files,
            efi_image: Some(&image),
            consoles: &[],
            places: &places,
            mirror: 0,
            records: &[],
        },
    )
}

fn text(tree: &Tree, path: &str) -> String {
    String::from_utf8(tree.read(path.as_bytes()).unwrap().to_vec()).unwrap()
}

#[test]
fn a_root_of_btrfs_is_mounted_and_read_by_its_subvolume() {
    let fixture = Fixture::new();
    let plain = made(&fixture, "", None).unwrap();
    assert_eq!(
        text(&plain.root, "etc/fstab").lines().nth(1),
        Some("UUID=r  /  ext4  rw,relatime  0  1")
    );
    let lines = "filesystem = \"btrfs\"\nsubvolumes = { \"@\" = \"/\", \"@srv\" = \"/srv/data\" }";
    let system = made(&fixture, lines, None).unwrap();
    let fstab = text(&system.root, "etc/fstab");
    let lines_of: Vec<&str> = fstab.lines().skip(1).take(2).collect();
    assert_eq!(
        lines_of,
        [
            "UUID=r  /  btrfs  rw,relatime,subvol=/@  0  0",
            "UUID=r  /srv/data  btrfs  rw,relatime,subvol=/@srv  0  0"
        ]
    );
    // Without a directory there would be nothing to mount on, and nothing of the subvolume would be written.
    let folder = system.root.find(b"srv/data", Follow::All).unwrap().unwrap();
    assert!(system.root.inode(folder).is_directory());
    let menu = text(&system.root, "boot/grub/grub.cfg");
    assert!(
        menu.contains(&format!(
            "linux /@/boot/vmlinuz-{KERNEL} root=UUID=r ro rootfstype=btrfs rootflags=subvol=@ quiet"
        )),
        "{menu}"
    );
    let early = text(system.esp.as_ref().unwrap(), "EFI/BOOT/grub.cfg");
    assert!(early.contains("set prefix=($root)/@/boot/grub"), "{early}");
    // The core image for BIOS has the module, which makes it larger; ext4's is what it was.
    let (with, without) = (system.core.unwrap(), plain.core.unwrap());
    assert!(
        with.len() > without.len() + 10_000,
        "{} {}",
        with.len(),
        without.len()
    );
    // GRUB reads /boot apart instead, and needs no module for the root.
    let apart = made(&fixture, lines, Some("b")).unwrap();
    let menu = text(apart.boot.as_ref().unwrap(), "grub/grub.cfg");
    assert!(
        menu.contains(&format!("--set=root b\n    linux /vmlinuz-{KERNEL} root=UUID=r")),
        "{menu}"
    );
    assert!(apart.core.unwrap().len() < with.len());
}

#[test]
fn a_kernel_without_the_module_is_found_out() {
    let fixture = Fixture::new();
    let Err(error) = made(&fixture, "filesystem = \"xfs\"", None) else {
        panic!("this kernel mounts no xfs")
    };
    let said = error.to_string();
    assert!(said.contains(KERNEL) && said.contains("no module xfs"), "{said}");
}
