//! Partition tables other than the usual one, from platform files.

use crate::devices::same_table;
use crate::forms::{define, project};
use crate::judge::{bytes, dump, of_ext4, parts, sound_ext4, sound_table, superblock};
use crate::program::{read, run, succeed, text};

const ROOT: &str = "[[partition]]\nname = \"root\"\ntype = \"linux\"\nfile-system = \"ext4\"\nmount = \"/\"\nslack = \"8M\"\n";

fn built(platform: &str, disk: &str) -> (crate::small::Small, std::path::PathBuf) {
    let small = project("\"disk\"", "");
    small.write(
        "configs/platforms/own.toml",
        &format!("summary = \"x\"\narchitectures = [\"x86_64\"]\n{platform}"),
    );
    define(&small, "\"disk\"", &format!("platform = \"own\"\n{disk}"));
    succeed(small.build().arg("--output").arg(small.path("output")));
    let path = small.path("output/small-x86_64.img");
    (small, path)
}

#[test]
fn an_mbr_alone_with_grub_behind_it() {
    let small = project("\"disk\"", "platform = \"x86_64-bios\"\nslack = \"8M\"");
    succeed(small.build().arg("--output").arg(small.path("output")));
    let disk = small.path("output/small-x86_64.img");
    let parts = parts(&disk);
    assert_eq!((parts.len(), parts[0].start), (1, 1 << 20));
    let lines = dump(&disk);
    assert!(lines[0].starts_with("label:dos"), "{lines:?}");
    assert!(lines.last().unwrap().contains("type=83, bootable"), "{lines:?}");
    sound_ext4(&disk, &parts[0]);
    // The boot sector's code leads to the core image at sector 1, and that to sector 2.
    assert_eq!(bytes(&disk, 0x5c, 8), 1u64.to_le_bytes());
    assert_eq!(bytes(&disk, 1024 - 12, 8), 2u64.to_le_bytes());
    assert!(bytes(&disk, 440, 4) != [0; 4], "no signature");
    assert!(of_ext4(&disk, &parts[0], "/boot/grub/grub.cfg").contains("menuentry 'Small'"));
    same_table(
        &small,
        &disk,
        "label: dos\nunit: sectors\nstart=2048, bootable, type=83\n",
    );
}

#[test]
fn the_table_of_pcs_is_that_of_a_script_for_sfdisk() {
    // Types by their GUIDs in the UEFI and the Discoverable Partitions Specification, sizes in sectors.
    let small = project("\"disk\"", "platform = \"x86_64\"\nslack = \"8M\"");
    succeed(small.build().arg("--output").arg(small.path("output")));
    let disk = small.path("output/small-x86_64.img");
    sound_table(&disk);
    same_table(
        &small,
        &disk,
        "label: gpt\nunit: sectors\nfirst-lba: 34\n\
         name=bios, start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\n\
         name=esp, start=4096, size=131072, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\n\
         name=root, start=135168, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709\n",
    );
    // No partition has an attribute.
    let lines = dump(&disk);
    assert!(!lines.iter().any(|line| line.contains("attrs")), "{lines:?}");
}

#[test]
fn a_hybrid_mbr_shows_what_the_platform_says() {
    let platform = format!(
        "[table]\nkind = \"hybrid\"\n[[table.shown]]\npartition = \"firmware\"\ntype = \"0x0c\"\nactive = true\n[boot]\nloader = \"none\"\n\
         [[partition]]\nname = \"firmware\"\ntype = \"basic-data\"\nattributes = [\"legacy-boot\", \"63\"]\nsize = \"16M\"\nfile-system = \"fat\"\n\
         label = \"FW\"\n[[partition.file]]\nfrom = \"/etc/motd\"\nto = \"docs/greeting.txt\"\n{ROOT}"
    );
    let (_small, disk) = built(&platform, "");
    sound_table(&disk);
    let parts = parts(&disk);
    assert_eq!(
        crate::judge::of_fat(&disk, &parts[0], "docs/greeting.txt"),
        b"good day\n"
    );
    let lines = dump(&disk);
    assert!(
        lines
            .iter()
            .any(|line| line.contains("attrs=\"LegacyBIOSBootableGUID:63\"")),
        "{lines:?}"
    );
    // The MBR: first what covers the table, then what is shown.
    let record = |slot: usize| bytes(&disk, 446 + 16 * slot as u64, 16);
    assert_eq!(record(0)[4], 0xee);
    assert_eq!((record(1)[0], record(1)[4]), (0x80, 0x0c));
    assert_eq!(record(1)[8..12], 2048u32.to_le_bytes());
    assert_eq!(record(1)[12..16], (16u32 << 11).to_le_bytes());
}

#[test]
fn sectors_of_4096_bytes() {
    let platform = format!("[table]\nkind = \"gpt\"\nsector-size = 4096\n[boot]\nloader = \"none\"\n{ROOT}");
    let (_small, disk) = built(&platform, "size = \"64M\"");
    assert_eq!(disk.metadata().unwrap().len(), 64 << 20);
    assert_eq!(bytes(&disk, 4096, 8), b"EFI PART");
    let first = u64::from_le_bytes(bytes(&disk, 2 * 4096 + 32, 8).try_into().unwrap());
    assert_eq!(first, 256);
    let root = crate::judge::Part {
        start: 1 << 20,
        size: 0,
        name: String::new(),
    };
    sound_ext4(&disk, &root);
    // The disk's size is given: the root has all of it.
    assert!(superblock(&disk, &root).contains("Block count:              15872"));
}

#[test]
fn a_fat_sized_by_its_content_has_sectors_of_4096_bytes() {
    let widths = ["fat12", "fat16", "fat32", "fat"];
    let partitions: Vec<String> = widths
        .iter()
        .map(|width| {
            format!(
                "[[partition]]\nname = \"{width}\"\nfile-system = \"{width}\"\n[[partition.file]]\nfrom = \"/etc/motd\"\n\
                 to = \"docs/greeting.txt\"\n"
            )
        })
        .collect();
    let platform = format!(
        "[table]\nkind = \"gpt\"\nsector-size = 4096\n[boot]\nloader = \"none\"\n{}{ROOT}",
        partitions.concat()
    );
    let (_small, disk) = built(&platform, "");
    for (number, width) in widths.iter().enumerate() {
        let entry = bytes(&disk, 2 * 4096 + 128 * number as u64, 128);
        let [first, last] = [32, 40].map(|at| u64::from_le_bytes(entry[at..at + 8].try_into().unwrap()));
        let part = crate::judge::Part {
            start: first * 4096,
            size: (last - first + 1) * 4096,
            name: String::new(),
        };
        assert_eq!(bytes(&disk, part.start + 11, 2), 4096u16.to_le_bytes(), "{width}");
        let label = if *width == "fat32" { 82 } else { 54 };
        let wanted = if *width == "fat" { "FAT12" } else { width };
        let named = text(&bytes(&disk, part.start + label, 5));
        assert_eq!(named, wanted.to_uppercase(), "{width}");
        crate::judge::sound_fat(&disk, &part);
        assert_eq!(
            crate::judge::of_fat(&disk, &part, "docs/greeting.txt"),
            b"good day\n",
            "{width}"
        );
    }
}

#[test]
fn partitions_of_one_name_are_told_apart() {
    let more = |mount: &str, system: &str| {
        format!(
            "[[partition]]\nname = \"\"\nfile-system = \"{system}\"\nmount = \"{mount}\"\nslack = \"1M\"\n"
        )
    };
    let platform = format!(
        "[table]\nkind = \"gpt\"\n[boot]\nloader = \"none\"\n{}{}{}{}",
        more("/", "ext4"),
        more("/my files", "ext4"),
        more("/mnt", "fat"),
        more("/media", "fat")
    );
    let (_small, disk) = built(&platform, "");
    let parts = parts(&disk);
    let fstab = of_ext4(&disk, &parts[0], "/etc/fstab");
    let lines: Vec<Vec<&str>> = fstab
        .lines()
        .filter(|line| line.starts_with("UUID="))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let uuids: std::collections::BTreeSet<&str> = lines.iter().map(|line| line[0]).collect();
    assert_eq!((lines.len(), uuids.len()), (4, 4), "{fstab}");
    for (part, mount) in parts.iter().zip(["/", "/my\\040files"]) {
        let shown = superblock(&disk, part);
        let uuid = shown
            .lines()
            .find_map(|line| line.strip_prefix("Filesystem UUID:"))
            .unwrap()
            .trim();
        assert!(fstab.contains(&format!("UUID={uuid}  {mount}  ext4")), "{fstab}");
    }
}

#[test]
fn what_a_platform_copies_to_the_root_is_in_the_manifest() {
    let platform = format!(
        "[table]\nkind = \"gpt\"\n[boot]\nloader = \"none\"\n{ROOT}\
         [[partition.file]]\nfrom = \"/etc/motd\"\nto = \"srv/greeting\"\n\
         [[partition.file]]\nfrom = \"/etc/fstab\"\nto = \"srv/table\"\n"
    );
    let (small, disk) = built(&platform, "");
    assert_eq!(of_ext4(&disk, &parts(&disk)[0], "/srv/greeting"), "good day\n");
    // Nothing is on it that the manifest does not have.
    succeed(small.lycia().arg("inspect").arg(&disk));
    let manifest = read(&small.path("output/small-x86_64.disk.manifest.json"));
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let from = |path: &str| {
        let files = manifest["files"].as_array().unwrap();
        let file = files.iter().find(|file| file["path"] == path);
        file.unwrap_or_else(|| panic!("no {path}"))["from"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(from("/srv/greeting"), "overlay extra");
    assert_eq!(from("/srv/table"), "lycia: assembly");
    assert_eq!(from("/etc/motd"), "overlay extra");
}

#[test]
fn what_does_not_fit_its_partition_is_the_roots_fault() {
    let small = project("\"disk\"", "");
    small.write(
        "configs/platforms/own.toml",
        &format!(
            "summary = \"x\"\narchitectures = [\"x86_64\"]\n[table]\nkind = \"gpt\"\n[boot]\nloader = \"none\"\n\
             [[partition]]\nname = \"small\"\nfile-system = \"fat\"\nsize = \"64K\"\n\
             [[partition.file]]\nfrom = \"usr/share/large\"\nto = \"large\"\n{ROOT}"
        ),
    );
    define(&small, "\"disk\"", "platform = \"own\"\n");
    let large = small.path("overlays/extra/usr/share/large");
    std::fs::create_dir_all(large.parent().unwrap()).unwrap();
    std::fs::write(large, vec![7; 200_000]).unwrap();
    let ended = run(small.build().arg("--output").arg(small.path("output")));
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(7), "{said}");
    assert!(said.contains("`small`"), "{said}");
}
