use super::*;
use proptest::prelude::*;

const SMALL: &str = "
schema = 1
[disk]
select = \"S5Y1\"
layout = \"erase\"
[root]
password-hash = \"$6$salt$hash./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./0123456789ABCDEF\"
";

fn resolve(text: &str) -> Result<Answers, String> {
    let file = AnswersFile::parse(text, "a.toml").map_err(|error| error.to_string())?;
    file.resolve(Secrets::Read).map_err(|error| error.to_string())
}

#[test]
fn the_least_that_is_needed() {
    let answers = resolve(SMALL).unwrap();
    assert_eq!(answers.disk.layout, Layout::Erase);
    assert_eq!(answers.disk.esp_size, ESP_SIZE);
    assert_eq!(
        (answers.hostname.as_str(), answers.timezone.as_str()),
        ("lycia", "UTC")
    );
    assert_eq!(answers.network, Network::Dhcp);
    assert_eq!(answers.source, Source::Local);
    assert_eq!(answers.serial, Serial::AsNow);
}

#[test]
fn unknown_keys_are_refused_with_line_and_suggestion() {
    for (text, expected) in [
        (
            "schema = 1\n[disk]\nselekt = \"x\"\n",
            "a.toml, line 3: unknown field `selekt`",
        ),
        ("schema = 1\n[disk]\nselekt = \"x\"\n", "did you mean `select`?"),
        ("schema = 1\n[disc]\n", "did you mean `disk`?"),
        (
            "schema = 1\n[[user]]\npasword-hash = \"x\"\n",
            "did you mean `password-hash`?",
        ),
        (
            "schema = 1\n[root]\npassword = \"x\"\n",
            "unknown field `password`",
        ),
        ("schema = 2\n", "this program reads 1"),
        ("", "begin it with `schema = 1`"),
        ("schema = \n", "line 1"),
    ] {
        let error = resolve(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn one_thing_wrong_at_a_time() {
    for (line, expected) in [
        ("[system]\nhostname = \"-x\"", "system.hostname"),
        ("[system]\ntimezone = \"../etc/passwd\"", "system.timezone"),
        ("[system]\nkeymap = \"a/b\"", "system.keymap"),
        (
            "[network]\nkind = \"static\"\ninterface = \"eth0\"",
            "network.address",
        ),
        ("[network]\nkind = \"statik\"", "network.kind"),
        ("[network]\naddress = \"192.0.2.1/24\"", "network.address"),
        (
            "[network]\nkind = \"static\"\ninterface = \"eth0\"\naddress = \"192.0.2.1/33\"",
            "network.address",
        ),
        (
            "[network]\nkind = \"static\"\ninterface = \"eth0\"\naddress = \"192.0.2.1/24\"\ngateway = \"2001:db8::1\"",
            "network.gateway",
        ),
        ("[packages]\nextra = [\"a b\"]", "packages.extra[0]"),
        ("[[user]]\nname = \"Bob\"", "user[0].name"),
        ("[[user]]\nname = \"root\"", "user[0].name"),
        (
            "[[user]]\nname = \"bob\"\n[[user]]\nname = \"bob\"",
            "user[1].name",
        ),
        ("[[user]]\nname = \"bob\"\nshell = \"sh\"", "user[0].shell"),
        ("[[user]]\nname = \"bob\"\npassword-hash = \"secret\"", "user[0]"),
        (
            "[[user]]\nname = \"bob\"\nssh-keys = [\"ssh-rsa AAAA\"]",
            "user[0].ssh-keys[0]",
        ),
        ("[boot]\nserial = \"ttyS\"", "boot.serial"),
        ("[boot]\narguments = \"a' b\"", "boot.arguments"),
        ("[boot]\narguments = 'a\"b'", "boot.arguments"),
        ("[source]\nkind = \"network\"", "source.repositories"),
        ("[services]\nenable = [\"../x\"]", "services.enable[0]"),
    ] {
        let error = resolve(&format!("{SMALL}{line}\n")).unwrap_err();
        assert!(error.starts_with(expected), "{line}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn a_root_has_a_size_that_a_disk_can_have() {
    let with = |size: &str| resolve(&SMALL.replace("[disk]\n", &format!("[disk]\nroot-size = \"{size}\"\n")));
    for size in ["1 MiB", "16 MiB", "18446744073709 MB", "9 EiB"] {
        let error = with(size).unwrap_err();
        assert!(error.starts_with("disk.root-size"), "{size}: {error}");
    }
    assert_eq!(with("512 MiB").unwrap().disk.root_size, Some(512 << 20));
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let error = resolve("schema = 1\n[system]\nhostname = \"_\"\n").unwrap_err();
    for key in [
        "disk.layout",
        "disk.select",
        "system.hostname",
        "root: nobody could log in",
    ] {
        assert!(error.contains(key), "{key}: {error}");
    }
}

#[test]
fn layouts() {
    let with = |disk: &str| {
        resolve(&format!(
            "schema = 1\n[disk]\n{disk}\n[root]\npassword-hash = \"$6$salt$hash./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./0123456789ABCDEF\"\n"
        ))
    };
    assert_eq!(
        with("select = \"x\"\nlayout = \"replace\"\nreplace = [3, 4]\nhome = 5")
            .unwrap()
            .disk
            .layout,
        Layout::Replace([3, 4].into())
    );
    assert_eq!(
        with("select = \"x\"\nlayout = \"partitions\"\npartitions = { root = 2, esp = 1 }")
            .unwrap()
            .disk
            .layout,
        Layout::Partitions {
            root: 2,
            esp: Some(1),
            bios_boot: None,
            swap: None,
            boot: None
        }
    );
    assert_eq!(
        with("layout = \"directory\"\ndirectory = \"/mnt\"")
            .unwrap()
            .disk
            .layout,
        Layout::Directory("/mnt".into())
    );
    for (disk, key) in [
        (
            "select = \"x\"\nlayout = \"replace\"\nreplace = [3]\nhome = 3",
            "disk.home",
        ),
        ("select = \"x\"\nlayout = \"erase\"\nhome = 3", "disk.home"),
        (
            "select = \"x\"\nlayout = \"erase\"\nreplace = [3]",
            "disk.replace",
        ),
        ("select = \"x\"\nlayout = \"replace\"", "disk.replace"),
        (
            "select = \"x\"\nlayout = \"earse\"",
            "disk.layout: there is no layout `earse`; did you mean `erase`?",
        ),
        (
            "select = \"x\"\nlayout = \"partitions\"\npartitions = { rot = 1 }",
            "disk.partitions.root",
        ),
        (
            "select = \"x\"\nlayout = \"partitions\"\npartitions = { root = 1, swap = 1 }",
            "disk.partitions.swap",
        ),
        (
            "select = \"x\"\nlayout = \"directory\"\ndirectory = \"/mnt\"",
            "disk.select",
        ),
        ("layout = \"directory\"\ndirectory = \"mnt\"", "disk.directory"),
        ("layout = \"erase\"", "disk.select"),
        (
            "select = \"x\"\nlayout = \"erase\"\nesp-size = \"1 MiB\"",
            "disk.esp-size",
        ),
    ] {
        let error = with(disk).unwrap_err();
        assert!(error.contains(key), "{disk}: {error}");
    }
}

#[test]
fn sizes() {
    for (text, bytes) in [
        ("512 MiB", 512 << 20),
        ("20GiB", 20 << 30),
        ("2 GB", 2_000_000_000),
        ("1T", 1 << 40),
    ] {
        assert_eq!(parse_size(text), Ok(bytes));
    }
    for text in [
        "",
        "5",
        "MiB",
        "-1 MiB",
        "1.5 GiB",
        "0 MiB",
        "99999999999 TiB",
        "5 parsecs",
    ] {
        assert!(parse_size(text).is_err(), "{text}");
    }
}

#[test]
fn a_public_key_is_known_by_its_inside() {
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me@here";
    assert_eq!(check::ssh_key(key), Ok(()));
    for bad in [
        &key.replace("ssh-ed25519", "ssh-rsa"),
        "ssh-ed25519",
        "",
        &key.replace(' ', "\n"),
        "ssh-ed25519 !!!",
    ] {
        assert!(check::ssh_key(bad).is_err(), "{bad}");
    }
}

#[test]
fn nothing_secret_is_shown_or_saved_for_the_journal() {
    let text = format!(
        "{SMALL}[[user]]\nname = \"bob\"\npassword-hash = \"$6$pepper$hash./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./0123456789ABCDEF\"\n[confirm]\nserial = \"N1\"\n"
    );
    let file = AnswersFile::parse(&text, "a").unwrap();
    let saved = file.without_secrets().text().unwrap();
    let shown = format!("{:?}", file.resolve(Secrets::Read).unwrap());
    for secret in [
        "$6$salt$hash./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./0123456789ABCDEF",
        "pepper",
    ] {
        assert!(
            !saved.contains(secret) && !shown.contains(secret),
            "{saved} {shown}"
        );
    }
    assert!(saved.contains("bob"));
    // Who goes on with it agrees again.
    assert_eq!(file.for_journal().confirm, Default::default());
    assert!(!saved.contains("confirm"), "{saved}");
}

proptest! {
    #[test]
    fn saved_answers_read_back(host in "[a-z]{1,9}", size in 1u64..5000, groups in proptest::collection::vec("[a-z]{1,5}", 0..3), nic in any::<bool>()) {
        let mut file = AnswersFile { schema: 1, ..AnswersFile::default() };
        file.disk.select = Some(host.clone());
        file.disk.layout = Some("erase".into());
        file.disk.swap_size = Some(format!("{size} MiB"));
        file.system.hostname = Some(host);
        file.user.push(typed::UserTable { name: "u".into(), groups, admin: nic, ..typed::UserTable::default() });
        if nic { file.network.kind = Some("none".into()); }
        let text = file.text().unwrap();
        prop_assert_eq!(AnswersFile::parse(&text, "x").unwrap(), file);
    }

    #[test]
    fn any_text_is_an_answer_or_an_error(text in "([a-z.\\[\\]=\"0-9 -]{0,40}\n){0,8}") {
        let _ = resolve(&text);
    }
}
