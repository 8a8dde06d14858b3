//! What goes with an image: attribution of its files, bills of materials, checksums, a signature, a second build.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use lycia::error::Kind;
use serde_json::Value;

use crate::program::{read, run, succeed, text, tool};
use crate::small::Small;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&read(path)).unwrap()
}

#[test]
fn an_image_is_inspected_compared_attributed_listed_and_signed() {
    let small = Small::new(0);
    let (key, public) = (small.path("release.pem"), small.path("release.pub"));
    let openssl = |arguments: &[&str]| succeed(tool("openssl", "openssl").args(arguments)).stdout;
    let made = [
        "genpkey",
        "-quiet",
        "-algorithm",
        "RSA",
        "-pkeyopt",
        "rsa_keygen_bits:2048",
        "-out",
    ];
    openssl(&[&made[..], &[key.to_str().unwrap()]].concat());
    openssl(&[
        "pkey",
        "-in",
        key.to_str().unwrap(),
        "-pubout",
        "-out",
        public.to_str().unwrap(),
    ]);
    let output = small.path("output");
    succeed(small.build().arg("--sign").arg(&key).arg("--output").arg(&output));
    let iso = output.join("small-x86_64.iso");

    // Every path of the root is in the manifest once, and from somewhere.
    let inspected = succeed(small.lycia().args(["inspect", "--json", "--files"]).arg(&iso));
    let report: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(report["faults"], Value::Array(Vec::new()));
    assert_eq!(
        report["beside"].as_array().unwrap().len(),
        3,
        "{}",
        report["beside"]
    );
    let parts = report["part"]["parts"].as_array().unwrap();
    let root = parts.iter().find(|part| part["format"] == "squashfs").unwrap();
    let there: Vec<&str> = root["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["path"].as_str().unwrap())
        .collect();
    let manifest = json(&output.join("small-x86_64.manifest.json"));
    let mut from: BTreeMap<&str, &str> = BTreeMap::new();
    for file in manifest["files"].as_array().unwrap() {
        let path = file["path"].as_str().unwrap();
        assert!(
            from.insert(path, file["from"].as_str().unwrap()).is_none(),
            "{path} comes twice"
        );
    }
    assert_eq!(
        there.iter().copied().collect::<BTreeSet<_>>(),
        from.keys().copied().collect::<BTreeSet<_>>()
    );
    for (path, origin) in [
        ("/usr/bin/sh", "package base-1-r0"),
        ("/usr/share/filler", "package filler-1-r0"),
        ("/etc/motd", "overlay extra"),
        ("/etc/apk/world", "lycia: package database"),
        ("/", "lycia: assembly"),
    ] {
        assert_eq!(from[path], origin, "{path}");
    }

    bills(&output);

    // The signature is what openssl takes, over checksums that sha256sum takes.
    let sums = output.join("small-x86_64.SHA256SUMS");
    let signature = output.join("small-x86_64.SHA256SUMS.sig");
    openssl(&[
        "dgst",
        "-sha512",
        "-verify",
        public.to_str().unwrap(),
        "-signature",
        signature.to_str().unwrap(),
        sums.to_str().unwrap(),
    ]);
    let mut check = tool("sha256sum", "coreutils");
    succeed(
        check
            .args(["--strict", "--check", "small-x86_64.SHA256SUMS"])
            .current_dir(&output),
    );
    let verify = |file: &Path| {
        let mut command = small.lycia();
        command.args(["inspect", "--verify"]).arg(&public).arg(file);
        run(&mut command)
    };
    assert!(verify(&iso).status.success());
    // Checksums that were changed are not those that were signed; a file that was changed is not that of the checksums.
    let whole = read(&sums);
    std::fs::write(&sums, text(&whole).replace('a', "b")).unwrap();
    let said = verify(&iso);
    assert_eq!(
        said.status.code(),
        Some(i32::from(Kind::Verification.code())),
        "{}",
        text(&said.stderr)
    );
    std::fs::write(&sums, &whole).unwrap();
    let mut changed = read(&iso);
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    let other = small.path("other");
    std::fs::create_dir(&other).unwrap();
    let damaged = other.join("small-x86_64.iso");
    std::fs::write(&damaged, &changed).unwrap();
    for name in ["small-x86_64.SHA256SUMS", "small-x86_64.SHA256SUMS.sig"] {
        std::fs::copy(output.join(name), other.join(name)).unwrap();
    }
    assert_eq!(
        verify(&damaged).status.code(),
        Some(i32::from(Kind::Verification.code()))
    );
    // Without a key it is a medium that is not right.
    let ended = run(small.lycia().arg("inspect").arg(&damaged));
    assert_eq!(ended.status.code(), Some(i32::from(Kind::Target.code())));
    assert!(
        text(&ended.stdout).contains("SHA256SUMS says"),
        "{}",
        text(&ended.stdout)
    );
    let noise = small.path("noise");
    std::fs::write(&noise, "nothing\n").unwrap();
    let ended = run(small.lycia().arg("inspect").arg(&noise));
    assert_eq!(ended.status.code(), Some(i32::from(Kind::Input.code())));
    let ended = run(small.lycia().args(["diff", "--check"]).arg(&iso).arg(&damaged));
    assert_eq!(ended.status.code(), Some(i32::from(Kind::Verification.code())));
    assert!(
        text(&ended.stdout).contains(&format!("1 differ, {middle}-{middle}")),
        "{}",
        text(&ended.stdout)
    );

    // Another package and another file of an overlay show as what they are.
    small.package("filler", "2-r0", &[], crate::small::file_of_its_own("filler"));
    small.index();
    small.write("overlays/extra/etc/motd", "another day\n");
    let next = small.path("next");
    succeed(small.build().arg("--output").arg(&next));
    let compared = succeed(
        small
            .lycia()
            .args(["diff", "--json"])
            .arg(&iso)
            .arg(next.join("small-x86_64.iso")),
    );
    let difference: Value = serde_json::from_slice(&compared.stdout).unwrap();
    let packages = difference["packages"].as_array().unwrap();
    assert_eq!(packages.len(), 1, "{packages:?}");
    assert_eq!(
        (&packages[0]["key"], &packages[0]["new"]),
        (&"filler".into(), &"2-r0".into())
    );
    let files = difference["files"].as_array().unwrap();
    let what = |path: &str| {
        let file = files.iter().find(|file| file["path"] == path);
        file.map(|file| file["what"].clone())
    };
    assert_eq!(what("/etc/motd"), Some(serde_json::json!(["content"])));
    assert_eq!(what("/usr/share/filler/1"), Some(serde_json::json!(["removed"])));
    assert_eq!(what("/usr/share/filler/file"), Some(serde_json::json!(["added"])));
    assert_eq!(what("/usr/bin/sh"), None);
}

/// The bills of materials say of each package and output what the manifest and the checksums say.
fn bills(output: &Path) {
    let manifest = json(&output.join("small-x86_64.manifest.json"));
    let spdx = json(&output.join("small-x86_64.spdx.json"));
    let bom = json(&output.join("small-x86_64.cdx.json"));
    assert_eq!(
        (&spdx["spdxVersion"], &bom["specVersion"]),
        (&"SPDX-2.3".into(), &"1.6".into())
    );
    // Dated as the image is.
    assert_eq!(spdx["creationInfo"]["created"], "2023-11-14T22:13:20Z");
    assert_eq!(bom["metadata"]["timestamp"], "2023-11-14T22:13:20Z");
    let all = spdx["packages"].as_array().unwrap();
    let ids: BTreeSet<&str> = all.iter().map(|one| one["SPDXID"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), all.len(), "ids are unique");
    for one in spdx["relationships"].as_array().unwrap() {
        for end in ["spdxElementId", "relatedSpdxElement"] {
            let id = one[end].as_str().unwrap();
            assert!(id == "SPDXRef-DOCUMENT" || ids.contains(id), "{one}");
        }
    }
    let components = bom["components"].as_array().unwrap();
    let references: BTreeSet<&str> = components
        .iter()
        .map(|one| one["bom-ref"].as_str().unwrap())
        .collect();
    assert_eq!(references.len(), components.len());
    for one in bom["dependencies"].as_array().unwrap() {
        for needed in one["dependsOn"].as_array().unwrap() {
            assert!(references.contains(needed.as_str().unwrap()), "{needed}");
        }
    }
    for package in manifest["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let one = all.iter().find(|one| one["name"] == *name).unwrap();
        assert_eq!(one["versionInfo"], package["version"]);
        assert_eq!(one["licenseDeclared"], "MIT");
        let component = components.iter().find(|one| one["name"] == *name).unwrap();
        assert_eq!(component["version"], package["version"]);
        let purl = component["purl"].as_str().unwrap();
        assert!(purl.starts_with("pkg:apk/") && purl.contains(name), "{purl}");
        assert_eq!(one["externalRefs"][0]["referenceLocator"], component["purl"]);
    }
    let needs = |from: &str, to: &str| {
        spdx["relationships"].as_array().unwrap().iter().any(|one| {
            one["relationshipType"] == "DEPENDS_ON"
                && one["spdxElementId"] == format!("SPDXRef-Package-{from}")
                && one["relatedSpdxElement"] == format!("SPDXRef-Package-{to}")
        })
    };
    assert!(needs("kernel", "base") && !needs("base", "kernel"));
    let sums = text(&read(&output.join("small-x86_64.SHA256SUMS")));
    let iso = all.iter().find(|one| one["name"] == "small-x86_64.iso").unwrap();
    let sum = iso["checksums"][0]["checksumValue"].as_str().unwrap();
    assert!(sums.contains(&format!("{sum}  small-x86_64.iso")), "{sums}");
    for ending in ["cdx.json", "spdx.json", "manifest.json", "lock"] {
        assert!(sums.contains(&format!("  small-x86_64.{ending}\n")), "{sums}");
    }
}

#[test]
fn bills_name_what_the_initramfs_and_the_medium_have() {
    let small = Small::new(0);
    small.package("helper", "1-r0", &["base"], |package| {
        let acl = lycia_apk::metadata::Acl::root(0o755);
        package
            .file(b"usr/bin/helper", acl, 1_700_000_000, b"a program\n".to_vec())
            .unwrap();
    });
    small.index();
    small.write(
        "configs/install/small.toml",
        "schema = 1\nname = \"Small\"\npackages = [\"base\"]\n[[kernel]]\npackage = \"kernel\"\n\
         [[set]]\nname = \"left\"\npackages = [\"left\"]\n",
    );
    small.write(
        "configs/images/small.toml",
        "repositories = [\"local\"]\npackages = [\"kernel\", \"filler\"]\noutputs = [\"iso\"]\n[install]\n\
         definition = \"small\"\n[initramfs]\nlevel = 3\nrepositories = [\"local\"]\npackages = [\"helper\"]\nprograms = [\"/usr/bin/helper\"]\n",
    );
    let output = small.path("output");
    succeed(small.build().arg("--output").arg(&output));
    let spdx = json(&output.join("small-x86_64.spdx.json"));
    let related = |from: &str, kind: &str, to: &str| {
        spdx["relationships"].as_array().unwrap().iter().any(|one| {
            (
                &one["spdxElementId"],
                &one["relationshipType"],
                &one["relatedSpdxElement"],
            ) == (&from.into(), &kind.into(), &to.into())
        })
    };
    let (base, helper, left) = (
        "SPDXRef-Package-base",
        "SPDXRef-Package-helper.40.1-r0",
        "SPDXRef-Package-left.40.1-r0",
    );
    assert!(related("SPDXRef-Image", "CONTAINS", base));
    // The root and the medium have it.
    assert!(related(base, "OPTIONAL_COMPONENT_OF", "SPDXRef-Image"));
    assert!(related("SPDXRef-Image", "CONTAINS", "SPDXRef-Initramfs"));
    assert!(related("SPDXRef-Initramfs", "GENERATED_FROM", helper));
    assert!(!related("SPDXRef-Image", "CONTAINS", helper));
    assert!(related(left, "OPTIONAL_COMPONENT_OF", "SPDXRef-Image"));
    assert!(!related("SPDXRef-Image", "CONTAINS", left));
    let ids: Vec<&str> = spdx["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["SPDXID"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "{ids:?}");
    assert!([base, helper, left].iter().all(|id| ids.contains(id)), "{ids:?}");
    let bom = json(&output.join("small-x86_64.cdx.json"));
    let component = |name: &str| {
        let all = bom["components"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap().clone()
    };
    let needed = |reference: &str| {
        let all = bom["dependencies"].as_array().unwrap();
        all.iter().find(|one| one["ref"] == reference).unwrap()["dependsOn"].clone()
    };
    let has = |list: &Value, name: &str| {
        let purl = &component(name)["purl"];
        list.as_array().unwrap().contains(purl)
    };
    let (image, initramfs) = (needed("image:small-x86_64"), needed("initramfs:small-x86_64"));
    assert!(has(&image, "base") && !has(&image, "helper") && !has(&image, "left"));
    assert!(has(&initramfs, "helper") && !has(&initramfs, "left"));
    assert_eq!(component("left")["scope"], "optional");
    assert_eq!(component("base")["scope"], Value::Null);
}

#[test]
fn a_second_build_finds_what_depends_on_the_surroundings() {
    let small = Small::new(0);
    let output = small.path("output");
    let verified = |program: Option<&Path>| {
        let mut command = small.build();
        command.args(["--verify", "--force", "--output"]).arg(&output);
        if let Some(folder) = program {
            let path = std::env::var("PATH").unwrap();
            command.env("PATH", format!("{}:{path}", folder.display()));
        }
        run(&mut command)
    };
    let ended = verified(None);
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let left: Vec<String> = crate::program::names(&output)
        .into_iter()
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    // A program of the host whose output has the place in it where it was started.
    let folder = small.path("bin");
    std::fs::create_dir(&folder).unwrap();
    let real = lycia::host::locate("grub-mkimage").expect("grub-mkimage of the Debian package grub-common");
    let script = folder.join("grub-mkimage");
    let body = format!(
        r#"#!/bin/sh
out=
next=
for word; do
    [ -n "$next" ] && out=$word && next=
    [ "$word" = --output ] && next=1
done
{} "$@" || exit
printf %s "$(umask) $(pwd)" >> "$out"
"#,
        real.display()
    );
    std::fs::write(&script, body).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ended = verified(Some(&folder));
    let said = text(&ended.stderr);
    assert_eq!(
        ended.status.code(),
        Some(i32::from(Kind::Verification.code())),
        "{said}"
    );
    assert!(said.contains("two builds of the same lock differ"), "{said}");
    assert!(
        said.contains("small-x86_64.iso") && said.contains("content"),
        "{said}"
    );
}

#[test]
fn nothing_of_a_medium_reaches_a_terminal_as_it_is() {
    use lycia_media::tar;
    use lycia_tree::{Metadata, Timestamp, Tree};
    let small = Small::new(0);
    let metadata = |mode| Metadata::new(mode, Timestamp::from_seconds(5));
    let mut tree = Tree::new(metadata(0o755));
    let sums = format!("{}  \u{1b}[2J\u{9b}1m\u{202e}evil\n", "0".repeat(64));
    for (path, content) in [("boot.ipxe", "#!ipxe\n"), ("SHA256SUMS", &sums)] {
        tree.write(path.as_bytes(), metadata(0o644), content.into())
            .unwrap();
    }
    let mut bytes = Vec::new();
    tar::write_tree(&mut bytes, &tree, &tar::Options::default()).unwrap();
    let kit = small.path("kit.tar");
    std::fs::write(&kit, bytes).unwrap();
    for words in [
        &["inspect"][..],
        &["inspect", "--json"],
        &["inspect", "--json", "--files"],
    ] {
        let ended = run(small.lycia().args(words).arg(&kit));
        assert_eq!(ended.status.code(), Some(i32::from(Kind::Target.code())));
        for said in [text(&ended.stdout), text(&ended.stderr)] {
            let raw = |letter: char| letter != '\n' && letter.is_control() || letter == '\u{202e}';
            assert!(said.contains("evil") && !said.chars().any(raw), "{said:?}");
        }
    }
}

#[test]
fn what_was_there_stays_where_the_key_of_a_signature_is_none() {
    let small = Small::new(0);
    small.write(
        "configs/images/small.toml",
        "repositories = [\"local\"]\npackages = [\"base\"]\noverlays = [\"extra\"]\noutputs = [\"tar\"]\n",
    );
    let output = small.path("output");
    let (key, _) = crate::small::new_key("release.pub");
    let pem = small.path("release.pem");
    std::fs::write(&pem, key.private_pem().unwrap()).unwrap();
    let build = |key: &Path| run(small.build().arg("--output").arg(&output).arg("--sign").arg(key));
    let there = || -> BTreeMap<String, Vec<u8>> {
        let names = crate::program::names(&output).into_iter();
        names
            .map(|name| (name.clone(), read(&output.join(name))))
            .collect()
    };
    let ended = build(&pem);
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert!(text(&ended.stdout).contains("SHA256SUMS.sig"));
    let before = there();
    assert!(before.contains_key("small-x86_64.SHA256SUMS.sig"));
    // Another root, and keys that are none.
    small.write("overlays/extra/etc/motd", "another day\n");
    small.write("none.pem", "no key\n");
    for name in ["missing.pem", "none.pem"] {
        let ended = build(&small.path(name));
        let said = text(&ended.stderr);
        assert_eq!(ended.status.code(), Some(i32::from(Kind::Input.code())), "{said}");
        assert!(
            said.contains(&format!("reading the key {}", small.path(name).display())),
            "{said}"
        );
        assert!(there() == before, "{name}");
    }
    let ended = build(&pem);
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let after = there();
    assert!(before.keys().eq(after.keys()));
    let sums = "small-x86_64.SHA256SUMS";
    assert!(before[sums] != after[sums] && before[&format!("{sums}.sig")] != after[&format!("{sums}.sig")]);
    // Nothing changed: it is signed all the same.
    std::fs::remove_file(output.join(format!("{sums}.sig"))).unwrap();
    let ended = build(&pem);
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert!(there() == after);
}

#[test]
fn grub_of_this_machine_is_said_listed_and_refused_where_that_is_asked_for() {
    let small = Small::new(0);
    let output = small.path("output");
    // Warnings are a part of what `--quiet` leaves out.
    let mut loud = std::process::Command::new(crate::program::LYCIA);
    loud.args(["build", "small", "--project"])
        .arg(small.path("."))
        .arg("--cache")
        .arg(small.path("store"))
        .arg("--output")
        .arg(&output);
    let said = text(&succeed(&mut loud).stderr);
    for platform in ["i386-pc", "x86_64-efi"] {
        let wanted = format!("GRUB for {platform} is this machine's");
        assert!(said.contains(&wanted), "{said}");
        // The hash of the list of checksums that sha256sum writes of the files.
        let script = "cd \"$1\" && find . -maxdepth 1 -follow -type f -printf '%f\\n' | LC_ALL=C sort | xargs sha256sum \
                      | sha256sum";
        let folder = format!("/usr/lib/grub/{platform}");
        let mut sum = tool("sh", "dash");
        let sum = text(&succeed(sum.args(["-c", script, "sh", &folder])).stdout);
        let sum = sum.split(' ').next().unwrap();
        let name = format!("GRUB for {platform}");
        let of = |file: &str, list: &str| -> Value {
            let bill = json(&output.join(format!("small-x86_64.{file}")));
            let all = bill[list].as_array().unwrap();
            all.iter()
                .find(|one| one["name"] == name.as_str())
                .unwrap()
                .clone()
        };
        let spdx = of("spdx.json", "packages");
        assert_eq!(spdx["checksums"][0]["checksumValue"], sum);
        let cyclonedx = of("cdx.json", "components");
        assert_eq!(cyclonedx["hashes"][0]["content"], sum);
    }
    let strict = run(small
        .build()
        .arg("--strict")
        .arg("--output")
        .arg(small.path("strict")));
    let said = text(&strict.stderr);
    assert_eq!(
        strict.status.code(),
        Some(i32::from(Kind::Target.code())),
        "{said}"
    );
    assert!(said.contains("GRUB for i386-pc"), "{said}");
    assert_eq!(small.results(&small.path("strict")).len(), 0);
}
