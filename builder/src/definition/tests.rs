//! Definitions read, joined and refused.

use super::*;

fn project(files: &[(&str, &str)]) -> (tempfile::TempDir, Project) {
    let directory = tempfile::tempdir().unwrap();
    let usual = [
        (
            "configs/architectures/x86_64.toml",
            "summary = \"PC\"\nserial-console = \"ttyS0,115200\"\n\
             [[grub]]\nplatform = \"i386-pc\"\nfirmware = \"bios\"\n",
        ),
        (
            "configs/repositories/seed.toml",
            "[[repository]]\nlocation = \"seed:\"\nkeys = [\"seed:\"]\n",
        ),
        ("configs/images/.keep", ""),
    ];
    for (path, text) in usual.iter().chain(files) {
        let path = directory.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let project = Project::find(Some(directory.path())).unwrap();
    (directory, project)
}

#[test]
fn includes_join_lists_and_single_values_win() {
    let (_keep, project) = project(&[
        (
            "configs/images/base.toml",
            "repositories = [\"seed\"]\npackages = [\"a\", \"b\"]\n[boot]\ntimeout = 9\ntitle = \"base\"\n",
        ),
        (
            "configs/images/live.toml",
            "include = [\"base\"]\npackages = [\"b\", \"c\"]\noutputs = [\"iso\"]\n[boot]\ntitle = \"live\"\n",
        ),
    ]);
    let image = project.image("live", "x86_64").unwrap();
    assert_eq!(image.packages, ["a", "b", "c"]);
    assert_eq!((image.boot.title.as_str(), image.boot.timeout), ("live", 9));
    assert_eq!(image.outputs, [Output::Iso]);
    assert_eq!(image.repositories[0].location, Location::Seed);
}

#[test]
fn each_wrong_definition_says_what_is_wrong() {
    let head = "repositories = [\"seed\"]\npackages = [\"a\"]\n";
    for (text, part) in [
        ("packages = [\"a\"]\n".to_owned(), "no repository"),
        ("repositories = [\"seed\"]\n".to_owned(), "no package"),
        (
            "repositories = [\"sed\"]\npackages = [\"a\"]\n".to_owned(),
            "did you mean `seed`?",
        ),
        (format!("{head}outputs = [\"floppy\"]\n"), "`floppy` is no output"),
        (format!("{head}overlays = [\"../x\"]\n"), "no overlay"),
        (format!("{head}[live]\nlabel = \"lower\"\n"), "label"),
        (format!("{head}[live]\nuser = \"a:b\"\n"), "live user"),
        (format!("{head}[squashfs]\nblock-size = 5000\n"), "power of two"),
        (
            format!("{head}[squashfs]\ncompression = \"rar\"\n"),
            "no compression",
        ),
        (format!("{head}[squashfs]\nlevel = 40\n"), "level 40"),
        (
            format!("{head}[boot]\nplatforms = [\"arm64-efi\"]\n"),
            "no GRUB platform",
        ),
        (format!("{head}[boot]\ntitle = \"a'b\"\n"), "quotes"),
        (format!("include = [\"live\"]\n{head}"), "include each other"),
        (format!("include = [\"lve\"]\n{head}"), "did you mean `live`?"),
        (
            format!("{head}[initramfs]\ncompression = \"gzip\"\n"),
            "zstd or xz",
        ),
    ] {
        let (_keep, project) = project(&[("configs/images/live.toml", &text)]);
        let error = project.image("live", "x86_64").unwrap_err();
        assert_eq!(error.kind(), Kind::Input, "{text}");
        assert!(error.to_string().contains(part), "{text} gave {error}");
    }
}

#[test]
fn virtual_packages_and_packages_of_the_initramfs() {
    let (_keep, project) = project(&[(
        "configs/images/live.toml",
        "repositories = [\"seed\"]\npackages = [\"a\"]\nvirtual = [\"musl-safety-override\", \"b=2\"]\n\
         [initramfs]\nrepositories = [\"seed\"]\npackages = [\"lycia-init\"]\n",
    )]);
    let image = project.image("live", "x86_64").unwrap();
    assert_eq!(image.world(), ["a", "musl-safety-override=0", "b=2"]);
    assert_eq!(image.initramfs.packages, ["lycia-init"]);
    for (text, part) in [
        ("virtual = [\"!a\"]\n", "no virtual package"),
        ("virtual = [\"a b\"]\n", "no virtual package"),
        ("virtual = [\"a=x\"]\n", "no virtual package"),
        ("[initramfs]\npackages = [\"x\"]\n", "no repository"),
    ] {
        let text = format!("repositories = [\"seed\"]\npackages = [\"a\"]\n{text}");
        let (_keep, project) = self::project(&[("configs/images/live.toml", &text)]);
        let error = project.image("live", "x86_64").unwrap_err().to_string();
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn a_mirror_replaces_the_front_of_locations() {
    let (keep, mut project) = project(&[
        (
            "configs/images/i.toml",
            "repositories = [\"r\"]\npackages = [\"a\"]\n",
        ),
        (
            "configs/repositories/r.toml",
            "[[repository]]\nlocation = \"https://h.invalid/current/main\"\n\
             mirrors = [\"https://m.invalid/chimera/main\"]\nkeys = [\"keys/one.pub\"]\n\
             [[repository]]\nlocation = \"https://h.invalid/current/user\"\nlayout = \"v2\"\n\
             keys = [\"keys/one.pub\"]\n",
        ),
        ("configs/keys/one.pub", ""),
    ]);
    let locations = |project: &Project| -> Vec<Location> {
        let image = project.image("i", "x86_64").unwrap();
        image.repositories.into_iter().map(|one| one.location).collect()
    };
    let http = |urls: &[&str]| Location::Http(urls.iter().map(|url| (*url).to_owned()).collect());
    assert_eq!(
        locations(&project),
        [
            http(&["https://h.invalid/current/main", "https://m.invalid/chimera/main"]),
            http(&["https://h.invalid/current/user"]),
        ]
    );
    let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    project.overrides.mirrors = vec![pair("https://h.invalid/current", "http://127.0.0.1:8080/c/")];
    project.overrides.trust = vec![keep.path().join("own.pub")];
    assert_eq!(
        locations(&project),
        [
            http(&["http://127.0.0.1:8080/c/main"]),
            http(&["http://127.0.0.1:8080/c/user"]),
        ]
    );
    let image = project.image("i", "x86_64").unwrap();
    assert_eq!(image.repositories[0].canonical, "https://h.invalid/current/main");
    assert_eq!(image.repositories[0].guests, [keep.path().join("own.pub")]);
    project.overrides.mirrors = vec![pair("https://h.invalid/current/user", "/srv/user")];
    assert_eq!(locations(&project)[1], Location::Directory("/srv/user".into()));
    let image = project.image("i", "x86_64").unwrap();
    assert_eq!(image.repositories[0].guests, Vec::<PathBuf>::new());
    project.overrides.mirrors = vec![pair("https://other.invalid", "/srv")];
    let error = project.image("i", "x86_64").unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(
        error.to_string().contains("https://h.invalid/current/main"),
        "{error}"
    );
}

#[test]
fn a_repository_needs_keys_unless_it_is_a_local_folder_that_says_so() {
    let image = (
        "configs/images/i.toml",
        "repositories = [\"r\"]\npackages = [\"a\"]\n",
    );
    let with = |text: &str| {
        let (keep, project) = project(&[
            image,
            ("configs/repositories/r.toml", text),
            ("configs/keys/one.rsa.pub", ""),
            ("configs/keys/two.rsa.pub", ""),
        ]);
        (keep, project.image("i", "x86_64"))
    };
    assert!(
        with("[[repository]]\nlocation = \"/r\"\n")
            .1
            .unwrap_err()
            .to_string()
            .contains("no keys")
    );
    assert!(
        with("[[repository]]\nlocation = \"/r\"\nunsigned = true\n")
            .1
            .is_ok()
    );
    let remote = "[[repository]]\nlocation = \"https://h.invalid/r\"\nunsigned = true\n";
    assert!(
        with(remote)
            .1
            .unwrap_err()
            .to_string()
            .contains("only a local folder")
    );
    assert!(with("[[repository]]\nlocation = \"ftp://h/r\"\n").1.is_err());
    let keyed = "[[repository]]\nlocation = \"https://h.invalid/${arch}/\"\nkeys = [\"keys/*.rsa.pub\"]\n";
    let (_keep, image) = with(keyed);
    let image = image.unwrap();
    assert_eq!(image.repositories[0].keys.len(), 2);
    assert_eq!(
        image.repositories[0].location,
        Location::Http(vec!["https://h.invalid/x86_64".to_owned()])
    );
    let outside = "[[repository]]\nlocation = \"/r\"\nkeys = [\"../x\"]\n";
    assert!(
        with(outside)
            .1
            .unwrap_err()
            .to_string()
            .contains("not a path below")
    );
}
