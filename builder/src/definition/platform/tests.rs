use super::*;

const GOOD: &str = "summary = \"x\"\narchitectures = [\"x86_64\"]\n[table]\nkind = \"gpt\"\n[boot]\nloader = \"grub\"\n\
    [[partition]]\nname = \"bios\"\ntype = \"bios-boot\"\nsize = \"1M\"\n\
    [[partition]]\nname = \"root\"\nfile-system = \"ext4\"\nmount = \"/\"\n";

fn checked(text: &str) -> Result<Platform> {
    check(typed::parse(text, Path::new("p.toml"))?, "p", "x86_64")
}

#[test]
fn sizes() {
    for (text, bytes) in [
        ("7", 7),
        ("34s", 34 * 512),
        ("2K", 2048),
        ("3M", 3 << 20),
        ("1GiB", 1 << 30),
    ] {
        assert_eq!(size(text).unwrap(), bytes, "{text}");
    }
    for text in ["", "M", "-1", "1.5G", "1 G", "1Q", "99999999999T", "0x10"] {
        assert!(size(text).is_err(), "{text}");
    }
}

#[test]
fn every_platform_of_this_checkout_is_understood() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("configs");
    let platforms = all(&configs).unwrap();
    let names: Vec<&str> = platforms.iter().map(|one| one.name.as_str()).collect();
    for name in [
        "pbp",
        "quartzpro64",
        "rock64",
        "rockpro64",
        "rpi",
        "unmatched",
        "x86_64",
        "x86_64-bios",
    ] {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[test]
fn each_wrong_platform_says_what_is_wrong() {
    checked(GOOD).unwrap();
    let more = |text: &str| format!("{GOOD}{text}\n");
    let swapped = |from: &str, to: &str| GOOD.replace(from, to);
    for (text, part) in [
        (
            swapped("architectures = [\"x86_64\"]", "architectures = [\"riscv64\"]"),
            "not for x86_64",
        ),
        (swapped("mount = \"/\"", ""), "no partition is mounted at /"),
        (swapped("\"ext4\"", "\"fat\""), "the root is no ext4"),
        (swapped("\"ext4\"", "\"ext9\""), "no file system"),
        (
            swapped("file-system", "file-sistem"),
            "did you mean `file-system`?",
        ),
        (swapped("kind = \"gpt\"", "kind = \"hybrid\""), "[[table.shown]]"),
        (
            swapped(
                "kind = \"gpt\"",
                "kind = \"hybrid\"\n[[table.shown]]\npartition = \"b\"\ntype = \"0x0c\"",
            ) + &"[[partition]]\nname = \"b\"\nsize = \"1M\"\n".repeat(2),
            "several partitions `b`",
        ),
        (swapped("\"gpt\"", "\"gtp\""), "gtp"),
        (
            more("type = \"linux-rot-x86_64\""),
            "did you mean `linux-root-x86_64`?",
        ),
        (more("type = \"0x83\""), "for MBRs"),
        (more("attributes = [\"64\"]"), "no attribute"),
        (more("size = \"1M\"\nslack = \"1M\""), "no slack"),
        (more("start = \"1 sector\""), "no size"),
        (
            more("[[partition]]\nname = \"b\""),
            "neither a size nor a file system",
        ),
        (
            more("[[partition]]\nname = \"b\"\nsize = \"1M\"\nmount = \"/x\""),
            "no file-system",
        ),
        (
            more("[[partition]]\nname = \"b\"\nfile-system = \"fat\"\nmount = \"/../x\""),
            "no path",
        ),
        (
            more("[[partition]]\nname = \"b\"\nfile-system = \"fat\"\nmount = \"/boot/\""),
            "GRUB reads /boot",
        ),
        (
            more("[[partition]]\nname = \"b\"\nfile-system = \"fat\"\njournal = true"),
            "only ext4",
        ),
        (
            more("[[partition]]\nname = \"b\"\nfile-system = \"ext4\"\nmount = \"/\""),
            "two partitions",
        ),
        (more("label = \"seventeen-bytes--\""), "at most 16 bytes"),
        (
            more("[[partition]]\nname = \"b\"\nfile-system = \"fat\"\nlabel = \"TWELVE-BYTES\""),
            "at most 11 characters",
        ),
        (
            more("[[partition]]\nname = \"b\"\nfile-system = \"fat\"\nlabel = \"A+B\""),
            "at most 11 characters",
        ),
        (more("active = true"), "legacy-boot"),
        (
            swapped("\"gpt\"", "\"mbr\"") + "attributes = [\"grow\"]\n",
            "an MBR has none",
        ),
        (
            swapped("kind = \"gpt\"", "kind = \"mbr\"\nactive-placeholder = true"),
            "active-placeholder",
        ),
        (
            swapped("\"gpt\"", "\"mbr\"")
                + "active = true\n[[partition]]\nname = \"b\"\nsize = \"1M\"\nactive = true\n",
            "two partitions are active",
        ),
        (
            more("[[raw]]\nname = \"spl\"\nfile = \"/x\"\noffset = \"a\""),
            "raw `spl`",
        ),
    ] {
        let error = match checked(&text) {
            Ok(_) => panic!("accepted: {text}"),
            Err(error) => error,
        };
        assert_eq!(error.kind(), Kind::Input, "{text}");
        let shown = error.to_string();
        assert!(shown.contains(part), "no `{part}` in `{shown}`");
    }
}

#[test]
fn a_disk_that_grub_cannot_boot_from_is_refused() {
    let platform = |table: &str, partitions: &[&str]| {
        let partitions: Vec<String> = partitions
            .iter()
            .map(|one| format!("[[partition]]\n{one}\n"))
            .collect();
        checked(&format!(
            "summary = \"x\"\narchitectures = [\"x86_64\"]\n[table]\n{table}\n[boot]\nloader = \"grub\"\n{}",
            partitions.concat()
        ))
    };
    let root = "name = \"root\"\nfile-system = \"ext4\"\nmount = \"/\"";
    let bios = "name = \"bios\"\ntype = \"bios-boot\"\nsize = \"1M\"";
    let esp = "name = \"esp\"\ntype = \"esp\"\nfile-system = \"fat\"\nmount = \"/boot/efi\"";
    let bare = "name = \"esp\"\ntype = \"esp\"\nsize = \"8M\"";
    let used = "name = \"bios\"\ntype = \"bios-boot\"\nfile-system = \"fat\"";
    let mount = |place: &str| format!("name = \"b\"\nfile-system = \"ext4\"\nmount = \"{place}\"");
    let (gpt, mbr) = ("kind = \"gpt\"", "kind = \"mbr\"");
    for (table, partitions) in [
        (gpt, &[bios, root][..]),
        (gpt, &[esp, root]),
        (gpt, &[bios, esp, root, &mount("/boot-more")]),
        (mbr, &[root]),
        ("kind = \"gpt\"\nsector-size = 4096", &[esp, root]),
    ] {
        platform(table, partitions).unwrap();
    }
    for (table, partitions, part) in [
        (gpt, &[root][..], "no firmware finds GRUB"),
        (
            "kind = \"hybrid\"\n[[table.shown]]\npartition = \"root\"\ntype = \"0x83\"",
            &[root],
            "no firmware finds GRUB",
        ),
        (gpt, &[bare, root], "`esp`, and it has no FAT"),
        (gpt, &[bios, bare, root], "`esp`, and it has no FAT"),
        (gpt, &[used, root], "`bios`, and it has a file-system"),
        (gpt, &[esp, used, root], "`bios`, and it has a file-system"),
        (gpt, &[bios, root, &mount("/boot/grub")], "for /boot/grub out"),
        (
            gpt,
            &[esp, root, &mount("boot//grub/fonts/")],
            "for /boot/grub/fonts out",
        ),
        (
            "kind = \"gpt\"\nsector-size = 4096",
            &[bios, esp, root],
            "512 bytes",
        ),
        ("kind = \"mbr\"\nsector-size = 4096", &[root], "512 bytes"),
    ] {
        let error = platform(table, partitions).expect_err(part);
        assert_eq!(error.kind(), Kind::Input);
        let shown = error.to_string();
        assert!(shown.contains(part), "no `{part}` in `{shown}`");
    }
}

#[test]
fn types_of_no_partition_are_refused() {
    let mbr = |kind: &str| checked(&(GOOD.replace("\"gpt\"", "\"mbr\"") + &format!("type = \"{kind}\"\n")));
    let shown = |kind: &str| {
        checked(&GOOD.replace(
            "kind = \"gpt\"",
            &format!("kind = \"hybrid\"\n[[table.shown]]\npartition = \"root\"\ntype = \"{kind}\""),
        ))
    };
    for kind in ["0x00", "0x05", "0x0f", "0x0F", "0x85", "0xee"] {
        for error in [mbr(kind).unwrap_err(), shown(kind).unwrap_err()] {
            assert_eq!(error.kind(), Kind::Input);
            let text = error.to_string();
            assert!(text.contains(&format!("the type {kind} is that of")), "{text}");
        }
    }
    for kind in ["0x83", "0x0c", "0xef"] {
        mbr(kind).unwrap();
        shown(kind).unwrap();
    }
    let nil = format!("{GOOD}type = \"00000000-0000-0000-0000-000000000000\"\n");
    assert!(checked(&nil).unwrap_err().to_string().contains("not used"));
}

#[test]
fn an_image_changes_what_a_platform_says_of_the_root() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("configs");
    let project = Project {
        root: configs.parent().unwrap().to_owned(),
        overrides: crate::definition::Overrides::default(),
    };
    let table = |text: &str| typed::parse::<DiskTable>(text, Path::new("i.toml")).unwrap();
    let usual = resolve(&project, &DiskTable::default(), "x86_64").unwrap();
    assert_eq!(usual.forms, [Form::Raw]);
    assert_eq!((usual.platform.name.as_str(), usual.grow), ("x86_64", true));
    assert_eq!(usual.password, Secret::Locked);
    let root = |disk: &Disk| disk.platform.partitions[disk.platform.root].clone();
    assert_eq!(root(&usual).file_system, FileSystem::Ext4(true));
    let sized = resolve(
        &project,
        &table("size = \"4G\"\njournal = false\nformats = [\"xz\", \"qcow2\", \"xz\"]\ngrow = false"),
        "x86_64",
    )
    .unwrap();
    assert_eq!((sized.size, root(&sized).size), (Some(4 << 30), Size::Rest));
    assert_eq!(root(&sized).file_system, FileSystem::Ext4(false));
    assert_eq!(sized.forms, [Form::Compressed(Compression::Xz(6)), Form::Qcow2]);
    for (text, part) in [
        ("formats = [\"vmdk\"]", "no format"),
        ("formats = []", "no format is wanted"),
        ("size = \"1G\"\nslack = \"1M\"", "no slack"),
        ("password = \"a\"\npassword-hash = \"b\"", "one is enough"),
        ("password-hash = \"a:b\"", "/etc/shadow"),
        ("hostname = \"a b\"", "hostname"),
        ("platform = \"pbp\"", "not for x86_64"),
        ("platform = \"x86-64\"", "did you mean `x86_64`?"),
        ("formats = [\"gz\"]\nlevel = 12", "level 12"),
    ] {
        let shown = resolve(&project, &table(text), "x86_64").unwrap_err().to_string();
        assert!(shown.contains(part), "no `{part}` in `{shown}`");
    }
}
