//! The same lock gives the same bytes.

use crate::live::{elsewhere, live};
use crate::program::{is_root, read, sha256, succeed, text};
use crate::small::Small;

#[test]
fn another_user_elsewhere_builds_the_same_live_image() {
    if !is_root() {
        println!("not root: both builds ran as this user");
    }
    let (first, second) = (live(), elsewhere());
    let lock = read(&first.file("lock"));
    assert_eq!(text(&second.lock), text(&lock), "locks");
    // Not by assert_eq: they have a megabyte each.
    assert!(
        second.manifest == read(&first.file("manifest.json")),
        "manifests differ"
    );
    assert_eq!(second.checksums, read(&first.file("iso.sha256")));
    assert_eq!(second.iso, sha256(&read(&first.file("iso"))), "ISOs");
}

#[test]
fn threads_time_zone_locale_umask_and_folder_do_not_show() {
    let small = Small::new(6 << 20);
    let mut reference = None;
    for (number, (jobs, umask, zone, locale)) in [
        ("1", "022", "UTC", "C"),
        ("2", "000", "America/St_Johns", "de_DE.UTF-8"),
        ("7", "027", "Asia/Kathmandu", "ja_JP.UTF-8"),
    ]
    .into_iter()
    .enumerate()
    {
        let output = small.path(&format!("out{number}"));
        let store = small.path(&format!("store{number}"));
        let mut command = std::process::Command::new("sh");
        command
            .args(["-c", "umask $1; shift; exec \"$@\"", "sh", umask])
            .arg(crate::program::LYCIA)
            .arg("--cache")
            .arg(store)
            .args(["--quiet", "--jobs", jobs, "build", "small", "--output"])
            .arg(&output)
            // The project is found upwards from here.
            .current_dir(small.path(["configs", "overlays", "."][number]))
            .env_remove("SOURCE_DATE_EPOCH")
            .env("TZ", zone)
            .env("LC_ALL", locale);
        succeed(&mut command);
        let results = small.results(&output);
        assert_eq!(results.len(), 7, "{:?}", results.keys());
        match &reference {
            None => reference = Some(results),
            Some(reference) => {
                for (name, bytes) in reference {
                    assert!(results[name] == *bytes, "{name} differs in run {number}");
                }
            }
        }
    }
}

#[test]
fn the_folder_of_a_repository_does_not_show() {
    let small = Small::new(0);
    small.define_everything();
    let build = |output: &str| {
        succeed(small.build().arg("--output").arg(small.path(output)));
        small.results(&small.path(output))
    };
    let first = build("one");
    let (here, there) = (small.path("repository"), small.path("elsewhere/packages"));
    std::fs::create_dir(small.path("elsewhere")).unwrap();
    std::fs::rename(&here, &there).unwrap();
    let configs = small.path("configs/repositories/local.toml");
    let text = text(&read(&configs)).replace(&here.display().to_string(), &there.display().to_string());
    std::fs::write(&configs, text).unwrap();
    let second = build("two");
    for (name, bytes) in &first {
        // The lock beside the outputs says where the packages are on this machine.
        let local = [".lock", ".SHA256SUMS"]
            .iter()
            .any(|ending| name.ends_with(ending));
        assert!(local || second[name] == *bytes, "{name} differs");
        let folder = small.path("").display().to_string();
        let inside = bytes
            .windows(folder.len())
            .any(|window| window == folder.as_bytes());
        assert!(local || !inside, "{name} names a folder of this machine");
    }
    assert!(first["small-x86_64.lock"] != second["small-x86_64.lock"]);
}

#[test]
fn what_an_image_is_made_of_shows_in_its_bytes() {
    // The comparison above can tell images apart.
    let small = Small::new(0);
    let build = |output: &str| {
        succeed(small.build().arg("--output").arg(small.path(output)));
        let name = "small-x86_64.iso";
        small.results(&small.path(output))[name].clone()
    };
    let first = build("one");
    std::fs::write(small.path("overlays/extra/etc/motd"), "another day\n").unwrap();
    assert!(build("two") != first);
}
