use super::*;
use std::collections::BTreeMap;

const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

fn typed<'a>(name: &'a str, subvolumes: &'a BTreeMap<String, String>) -> Typed<'a> {
    Typed {
        name: Some(name),
        subvolumes,
        compression: None,
        home: false,
        swap_file: false,
    }
}

fn resolved(typed: &Typed<'_>) -> (FileSystem, Vec<String>) {
    let mut wrong = Vec::new();
    let made = resolve(typed, &Layout::Erase, &mut |key, what| {
        wrong.push(format!("{key}: {what}"));
    });
    (made, wrong)
}

fn table(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries
        .iter()
        .map(|(name, place)| ((*name).to_owned(), (*place).to_owned()))
        .collect()
}

#[test]
fn ext4_needs_nothing() {
    let file_system = FileSystem::default();
    assert_eq!(file_system.arguments(), "");
    assert_eq!(file_system.grub_folder(), "");
    assert_eq!(file_system.grub_module(), None);
    assert_eq!(file_system.make("/dev/loop0", "root", UUID, 512), None);
    assert_eq!(
        file_system.mounts(),
        [("/".to_owned(), "rw,relatime".to_owned(), 1)]
    );
}

#[test]
fn programs_get_exactly_these_arguments() {
    let none = BTreeMap::new();
    let line = |name: &str, sector| {
        let (made, wrong) = resolved(&typed(name, &none));
        assert!(wrong.is_empty(), "{wrong:?}");
        made.make("/dev/loop7", "root", UUID, sector).unwrap().to_string()
    };
    assert_eq!(
        line("xfs", 4096),
        format!(
            "mkfs.xfs -f -K -q -L root -s size=4096 -m crc=1,finobt=1,reflink=1,bigtime=1,inobtcount=1,uuid={UUID} -i sparse=1,nrext64=0 /dev/loop7"
        )
    );
    assert_eq!(
        line("btrfs", 512),
        format!("mkfs.btrfs -f -K -q -L root -U {UUID} -s 4096 -d single -m dup /dev/loop7")
    );
    assert_eq!(
        line("f2fs", 512),
        format!("mkfs.f2fs -f -q -t 0 -l root -U {UUID} /dev/loop7")
    );
}

#[test]
fn subvolumes_of_btrfs() {
    let none = BTreeMap::new();
    let (made, _) = resolved(&Typed {
        compression: Some("zstd:3"),
        ..typed("btrfs", &none)
    });
    assert_eq!(
        made.arguments(),
        "rootfstype=btrfs rootflags=subvol=@,compress=zstd:3"
    );
    assert_eq!(made.grub_folder(), "/@");
    assert_eq!(
        made.mounts(),
        [
            (
                "/".to_owned(),
                "rw,relatime,compress=zstd:3,subvol=/@".to_owned(),
                0
            ),
            (
                "/home".to_owned(),
                "rw,relatime,compress=zstd:3,subvol=/@home".to_owned(),
                0
            ),
        ]
    );
    // A partition that is kept takes the place.
    let (made, _) = resolved(&Typed {
        home: true,
        ..typed("btrfs", &none)
    });
    assert_eq!(made.mounts().len(), 1);
    // In the order in which they can be mounted, whatever their names.
    let given = table(&[("a", "/var/log"), ("b", "/var"), ("z", "/")]);
    let (made, wrong) = resolved(&typed("btrfs", &given));
    assert!(wrong.is_empty(), "{wrong:?}");
    let order: Vec<&str> = made
        .subvolumes
        .iter()
        .map(|one| one.mount_point.as_str())
        .collect();
    assert_eq!(order, ["/", "/var", "/var/log"]);
    assert_eq!(made.grub_folder(), "/z");
}

#[test]
fn what_cannot_be_is_refused_with_what_to_do() {
    let none = BTreeMap::new();
    let one = |typed: &Typed<'_>| {
        let (_, wrong) = resolved(typed);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        wrong[0].clone()
    };
    assert!(one(&typed("btfs", &none)).contains("did you mean `btrfs`?"));
    let given = table(&[("@", "/")]);
    assert!(one(&typed("xfs", &given)).contains("unless filesystem is `btrfs`"));
    assert!(
        one(&Typed {
            compression: Some("zstd"),
            ..typed("f2fs", &none)
        })
        .contains("disk.compression")
    );
    assert!(
        one(&Typed {
            swap_file: true,
            ..typed("f2fs", &none)
        })
        .contains("swap-size")
    );
    for how in ["zstd:16", "zstd:0", "gzip", "lzo:1", "zlib:10", "zstd:x"] {
        assert!(
            one(&Typed {
                compression: Some(how),
                ..typed("btrfs", &none)
            })
            .contains("is no compression"),
            "{how}"
        );
    }
    for (given, what) in [
        (table(&[("@home", "/home")]), "which one is the root"),
        (table(&[("@", "/"), ("x", "/")]), "mounted on / already"),
        (table(&[("@", "/"), ("x", "/usr/local")]), "/usr belongs"),
        (table(&[("@", "/"), ("x", "/boot")]), "/boot belongs"),
        (table(&[("@", "/"), ("x", "/home/")]), "no directory to mount on"),
        (
            table(&[("@", "/"), ("x", "/home/../etc")]),
            "no directory to mount on",
        ),
        (table(&[("@", "/"), ("x", "/a b")]), "no directory to mount on"),
        (table(&[("@", "/"), ("a/b", "/home")]), "no name of a subvolume"),
        (table(&[("@", "/"), ("a,b", "/home")]), "no name of a subvolume"),
    ] {
        let said = one(&typed("btrfs", &given));
        assert!(said.contains(what), "{said}");
    }
    let given = table(&[("@", "/"), ("@home", "/home")]);
    assert!(
        one(&Typed {
            home: true,
            ..typed("btrfs", &given)
        })
        .contains("`home` keeps")
    );
}

#[test]
fn checks_at_a_start() {
    for (name, root, pass) in [
        ("ext4", true, 1),
        ("ext4", false, 2),
        ("f2fs", true, 1),
        ("vfat", false, 2),
        ("xfs", true, 0),
        ("btrfs", false, 0),
    ] {
        assert_eq!(check_pass(name, root), pass, "{name}");
    }
}
