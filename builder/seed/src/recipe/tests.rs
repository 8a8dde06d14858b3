use super::*;

const GOOD: &str = r##"
name = "x"
version = "1.0-r0"
summary = "s"
needs = ["y"]
[[source]]
kind = "debian-source"
source = "x"
file = "x_1.orig.tar.gz"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
unpack = "x"
[[step]]
name = "build"
run = "true"
[[package]]
name = "x"
files = ["usr/**", "!usr/include/**"]
[package.scripts]
trigger = "#!/bin/sh\ntrue"
[[package.entry]]
path = "usr/bin/su"
mode = "4755"
"##;

fn parse(text: &str) -> Result<Recipe, Vec<String>> {
    Recipe::parse(Path::new("configs/seed/x.toml"), text)
}

#[test]
fn a_good_recipe_means_what_it_says() {
    let recipe = parse(GOOD).unwrap();
    assert_eq!(recipe.epoch, DEFAULT_EPOCH);
    assert_eq!(recipe.needs, ["y"]);
    assert_eq!(recipe.sources[0].strip, 1);
    let package = &recipe.packages[0];
    assert!(package.files.matches(b"usr/bin/x"));
    assert!(!package.files.matches(b"usr/include/x.h"));
    assert_eq!(package.entries[0].mode, Some(0o4755));
    assert!(package.elf_scan);
}

#[test]
fn a_later_pattern_takes_back_and_gives_again() {
    let patterns = Patterns::new(["a/**", "!a/b/**", "a/b/keep"]).unwrap();
    assert!(patterns.matches(b"a/x"));
    assert!(!patterns.matches(b"a/b/x"));
    assert!(patterns.matches(b"a/b/keep"));
}

/// Each row: what is replaced in the good recipe, by what, and what the message must hold.
#[test]
fn faults_are_named_with_file_line_and_hint() {
    for (from, to, wanted) in [
        (
            "summary",
            "sumary",
            "configs/seed/x.toml:4: unknown key `sumary`; did you mean `summary`?",
        ),
        (
            "files =",
            "fils =",
            "x.toml:17: unknown key `fils`; did you mean `files`?",
        ),
        (
            "unpack =",
            "unpck =",
            "x.toml:11: unknown key `unpck`; did you mean `unpack`?",
        ),
        (
            "run =",
            "zzzzzz =",
            "x.toml:14: unknown key `zzzzzz`; known keys here: name, run",
        ),
        ("mode =", "mod =", "did you mean `mode`?"),
        ("summary = \"s\"", "", "the key `summary` is missing"),
        (
            "name = \"x\"\nversion",
            "name = \"z\"\nversion",
            "x.toml:2: name is \"z\" but the file is x.toml",
        ),
        ("1.0-r0", "1.0", "x.toml:3: \"1.0\" is not an apk version"),
        ("needs = [\"y\"]", "needs = [\"x\"]", "cannot need itself"),
        ("needs = [\"y\"]", "needs = [\"y\", \"y\"]", "needed twice"),
        ("debian-source", "debian-sorce", "did you mean \"debian-source\"?"),
        (
            "sha256 = \"0000",
            "sha256 = \"000G",
            "is not 64 lower-case hex digits",
        ),
        ("unpack = \"x\"", "unpack = \"../x\"", "must be a relative path"),
        ("unpack = \"x\"", "unpack = \"/x\"", "must be a relative path"),
        (
            "unpack = \"x\"",
            "unpack = \"x\"\npatches = [\"a/../b\"]",
            "must be a relative path",
        ),
        (
            "unpack = \"x\"",
            "unpack = \"x\"\npackage = \"x\"",
            "`package` means nothing for kind",
        ),
        ("unpack = \"x\"", "", "needs the key `unpack`"),
        (
            "run = \"true\"",
            "run = \"\"",
            "needs a name and something to run",
        ),
        ("usr/**", "/usr/**", "must be relative"),
        ("usr/**", "usr/[", "[ without ]"),
        ("trigger =", "triger =", "did you mean `trigger`?"),
        ("4755", "9755", "is not octal"),
        ("4755", "14755", "is not octal"),
        ("mode = \"4755\"", "kind = \"char\"", "needs `major` and `minor`"),
        ("mode = \"4755\"", "kind = \"symlink\"", "needs `target`"),
        ("mode = \"4755\"", "target = \"x\"", "`target` goes with kind"),
        (
            "path = \"usr/bin/su\"",
            "path = \"/usr/bin/su\"",
            "must be a relative path",
        ),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let faults = parse(&GOOD.replacen(from, to, 1)).unwrap_err();
        assert!(
            faults.iter().any(|f| f.contains(wanted)),
            "{from} -> {to}: {faults:?}"
        );
    }
}

#[test]
fn all_faults_come_at_once() {
    let text = GOOD
        .replace("1.0-r0", "x")
        .replace("4755", "z")
        .replace("usr/**", "/usr");
    assert_eq!(parse(&text).unwrap_err().len(), 3);
}

#[test]
fn newest_and_from_index_belong_together() {
    let binary = |version: &str, sha256: &str| {
        let source = format!(
            "kind = \"debian-binary\"\npackage = \"x\"\nversion = \"{version}\"\nsha256 = \"{sha256}\"\nunpack = \"x\""
        );
        let start = GOOD.find("kind = ").unwrap();
        let end = GOOD.find("[[step]]").unwrap();
        parse(&format!("{}{source}\n{}", &GOOD[..start], &GOOD[end..]))
    };
    let zeros = "0".repeat(64);
    assert!(binary("newest", "from-index").is_ok());
    assert!(binary("1-1", &zeros).is_ok());
    assert!(binary("newest", &zeros).is_err());
    assert!(binary("1-1", "from-index").is_err());
}
