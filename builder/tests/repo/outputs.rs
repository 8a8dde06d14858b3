//! Root tarballs and container images, judged by GNU tar, bsdtar and skopeo.

use std::path::Path;
use std::process::Command;

use lycia::error::Kind;
use lycia_apk::metadata::Acl;

use crate::program::{names, read, run, sha256, succeed, text, tool};
use crate::small::{Small, file_of_its_own};

fn refused(command: &mut Command, kind: Kind, parts: &[&str]) {
    let ended = run(command);
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(i32::from(kind.code())), "{said}");
    for part in parts {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
}

/// A project without a kernel, whose image is written as `outputs`.
fn project(outputs: &str, more: &str) -> Small {
    let small = Small::new(0);
    small.package("caps", "1-r0", &["base"], |package| {
        let mut acl = Acl::root(0o4755);
        acl.xattrs = vec![(
            b"security.capability".to_vec(),
            b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec(),
        )];
        package
            .file(b"usr/bin/ping", acl, 1_700_000_000, b"a program\n".to_vec())
            .unwrap();
        package.hard_link(b"usr/bin/ping6", b"usr/bin/ping").unwrap();
        package.symlink(b"usr/bin/p", b"ping", 1_700_000_000).unwrap();
    });
    small.index();
    define(&small, outputs, "\"base\", \"caps\"", more);
    small
}

fn define(small: &Small, outputs: &str, packages: &str, more: &str) {
    small.write(
        "configs/images/small.toml",
        &format!("repositories = [\"local\"]\npackages = [{packages}]\noverlays = [\"extra\"]\noutputs = [{outputs}]\n{more}"),
    );
}

/// `lycia inspect` finds nothing wrong with an output, and ends with 0.
fn sound(small: &Small, path: &Path) {
    let said = text(&succeed(small.lycia().arg("inspect").arg(path)).stdout);
    assert!(said.ends_with("nothing is wrong\n"), "{said}");
}

/// Names that a program lists in a tarball.
fn listed(program: (&str, &str), path: &Path) -> Vec<String> {
    let output = succeed(tool(program.0, program.1).arg("-tf").arg(path));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn tarballs_are_read_alike_by_others_whatever_compressed_them() {
    let mut lists = Vec::new();
    for (compression, ending) in [("zstd", "zst"), ("xz", "xz"), ("gzip", "gz")] {
        let small = project(
            "\"tar\"",
            &format!("[tar]\ncompression = \"{compression}\"\nlevel = 3\n"),
        );
        succeed(small.build().arg("--output").arg(small.path("output")));
        let name = format!("small-x86_64.tar.{ending}");
        assert_eq!(
            names(&small.path("output")),
            [
                "small-x86_64.SHA256SUMS",
                "small-x86_64.cdx.json",
                "small-x86_64.lock",
                "small-x86_64.manifest.json",
                "small-x86_64.spdx.json",
                &name,
                &format!("{name}.sha256")
            ]
        );
        sound(&small, &small.path("output").join(&name));
        let path = small.path("output").join(&name);
        assert_eq!(
            text(&read(&small.path("output").join(format!("{name}.sha256")))),
            format!("{}  {name}\n", sha256(&read(&path)))
        );
        let (gnu, bsd) = (
            listed(("tar", "tar"), &path),
            listed(("bsdtar", "libarchive-tools"), &path),
        );
        assert_eq!(gnu, bsd);
        lists.push(gnu);
        let long = succeed(tool("tar", "tar").args(["--numeric-owner", "-tvf"]).arg(&path));
        let long = text(&long.stdout);
        let ping = long.lines().find(|line| line.contains("usr/bin/ping")).unwrap();
        assert!(ping.starts_with("-rwsr-xr-x 0/0"), "{ping}");
        assert!(long.contains("usr/bin/ping6 link to"), "{long}");
        // Capabilities travel as GNU tar and container runtimes know them.
        let plain = succeed(
            tool("bsdtar", "libarchive-tools")
                .args(["-cf", "-", "--format=mtree", "--options=all"])
                .arg(format!("@{}", path.display())),
        );
        assert!(text(&plain.stdout).contains("usr/bin/ping"));
        let raw = succeed(tool("bsdcat", "libarchive-tools").arg(&path)).stdout;
        assert!(
            raw.windows(33)
                .any(|bytes| bytes == b"SCHILY.xattr.security.capability=")
        );
        // The same elsewhere and with other threads.
        succeed(
            small
                .build()
                .args(["--jobs", "5"])
                .env("TZ", "Asia/Tokyo")
                .arg("--output")
                .arg(small.path("again")),
        );
        assert!(small.results(&small.path("output")) == small.results(&small.path("again")));
    }
    assert!(lists[0] == lists[1] && lists[1] == lists[2]);
    assert!(lists[0].contains(&"./".to_owned()), "{:?}", lists[0]);
}

#[test]
fn a_delta_over_its_base_is_the_root() {
    let small = project("\"tar\"", "");
    succeed(small.build().arg("--output").arg(small.path("base")));
    let base = small.path("base/small-x86_64.tar.zst");
    small.package("more", "1-r0", &[], file_of_its_own("more"));
    small.index();
    small.write("overlays/extra/etc/motd", "another day\n");
    define(&small, "\"tar\"", "\"base\", \"caps\", \"more\"", "");
    succeed(small.build().arg("--output").arg(small.path("whole")));
    succeed(
        small
            .build()
            .arg("--base")
            .arg(&base)
            .arg("--output")
            .arg(small.path("part")),
    );
    let delta = small.path("part/small-x86_64.delta.tar.zst");
    sound(&small, &delta);
    let list = listed(("tar", "tar"), &delta);
    for name in ["./", "etc/", "etc/motd", "usr/share/more/file"] {
        assert!(list.iter().any(|one| one == name), "no {name} in {list:?}");
    }
    for name in ["usr/bin/sh", "usr/bin/ping", "etc/passwd"] {
        assert!(!list.iter().any(|one| one == name), "{name} in {list:?}");
    }
    // Unpacked one over the other as an ordinary user, they are what the whole is; attributes are compared by the list.
    let unpack = |folder: &str, tarballs: &[&Path]| {
        let folder = small.path(folder);
        std::fs::create_dir(&folder).unwrap();
        for tarball in tarballs {
            succeed(
                tool("tar", "tar")
                    .args(["--no-same-owner", "--no-xattrs", "-xpf"])
                    .arg(tarball)
                    .arg("-C")
                    .arg(&folder),
            );
        }
        let listing = succeed(
            tool("bsdtar", "libarchive-tools")
                .args([
                    "-cf",
                    "-",
                    "--format=mtree",
                    "--options=sha256,mode,time,link,size",
                ])
                .arg("-C")
                .arg(&folder)
                .arg("."),
        );
        text(&listing.stdout)
    };
    let whole = unpack("one", &[&small.path("whole/small-x86_64.tar.zst")]);
    let joined = unpack("two", &[&base, &delta]);
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&whole), sorted(&joined));
    // What a tarball cannot do is told.
    define(&small, "\"tar\"", "\"base\"", "");
    let mut command = Command::new(crate::program::LYCIA);
    command
        .arg("--project")
        .arg(small.path("."))
        .arg("--cache")
        .arg(small.path("store"));
    let told = succeed(
        command
            .args(["build", "small"])
            .arg("--base")
            .arg(&base)
            .arg("--output")
            .arg(small.path("less")),
    );
    let said = text(&told.stderr);
    assert!(
        said.contains("cannot take it away") && said.contains("usr/bin/ping"),
        "{said}"
    );
    small.write(
        "no.tar",
        "this is no tarball, whatever its name says. It is long enough to be read as a header, and is none.",
    );
    refused(
        small
            .build()
            .arg("--base")
            .arg(small.path("no.tar"))
            .arg("--output")
            .arg(small.path("none")),
        Kind::Input,
        &["no.tar"],
    );
    small.define("");
    refused(
        small.build().arg("--base").arg(&base),
        Kind::Usage,
        &["--base", "tar", "oci"],
    );
}

/// What skopeo says of an image.
fn inspected(path: &Path, config: bool) -> serde_json::Value {
    let mut command = tool("skopeo", "skopeo");
    command.arg("inspect");
    if config {
        command.arg("--config");
    }
    let said = succeed(command.arg(format!("oci-archive:{}", path.display())));
    serde_json::from_slice(&said.stdout).unwrap()
}

/// Unpacks an image's layers with skopeo and GNU tar; gives what is in each.
fn layers(small: &Small, path: &Path, to: &str) -> Vec<Vec<String>> {
    let folder = small.path(to);
    succeed(
        tool("skopeo", "skopeo")
            .args(["--insecure-policy", "copy"])
            .arg(format!("oci-archive:{}", path.display()))
            .arg(format!("dir:{}", folder.display())),
    );
    let manifest: serde_json::Value = serde_json::from_slice(&read(&folder.join("manifest.json"))).unwrap();
    let digests = manifest["layers"].as_array().unwrap().iter();
    digests
        .map(|layer| {
            let digest = layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            listed(("bsdtar", "libarchive-tools"), &folder.join(digest))
        })
        .collect()
}

#[test]
fn container_images_are_read_by_skopeo_and_reproducible() {
    let oci = "[oci]\nentrypoint = [\"/usr/bin/ping\"]\ncommand = [\"-c\", \"1\"]\nenvironment = [\"A=b\"]\n\
               directory = \"/root\"\nuser = \"0:0\"\nlabels = { purpose = \"test\" }\n";
    let small = project("\"oci\"", oci);
    succeed(small.build().arg("--output").arg(small.path("output")));
    let path = small.path("output/small-x86_64.oci.tar");
    sound(&small, &path);
    let about = inspected(&path, false);
    assert_eq!(
        (&about["Architecture"], &about["Os"]),
        (&"amd64".into(), &"linux".into())
    );
    assert_eq!(about["Labels"]["purpose"], "test");
    assert_eq!(about["Env"][0], "A=b");
    assert_eq!(about["Created"], "2023-11-14T22:13:20Z");
    let config = inspected(&path, true);
    assert_eq!(config["config"]["Entrypoint"][0], "/usr/bin/ping");
    assert_eq!(config["config"]["Cmd"], serde_json::json!(["-c", "1"]));
    assert_eq!(config["config"]["WorkingDir"], "/root");
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
    let lists = layers(&small, &path, "dir");
    assert!(lists[0].iter().any(|name| name == "usr/bin/ping6"), "{lists:?}");
    succeed(
        small
            .build()
            .args(["--jobs", "3"])
            .arg("--output")
            .arg(small.path("again")),
    );
    assert!(small.results(&small.path("output")) == small.results(&small.path("again")));

    // Over a base, in each compression that a base may have.
    define(
        &small,
        "\"tar\"",
        "\"base\", \"caps\"",
        "[tar]\ncompression = \"xz\"\n",
    );
    succeed(small.build().arg("--output").arg(small.path("base")));
    define(
        &small,
        "\"tar\"",
        "\"base\", \"caps\"",
        "[tar]\ncompression = \"gzip\"\n",
    );
    succeed(small.build().arg("--output").arg(small.path("base")));
    small.package("more", "1-r0", &[], file_of_its_own("more"));
    small.index();
    define(
        &small,
        "\"oci\"",
        "\"base\", \"more\"",
        "[oci]\ncompression = \"zstd\"\nlevel = 3\n",
    );
    for ending in ["xz", "gz"] {
        let base = small.path(&format!("base/small-x86_64.tar.{ending}"));
        let output = small.path(&format!("over-{ending}"));
        succeed(
            small
                .build()
                .arg("--base")
                .arg(&base)
                .arg("--output")
                .arg(&output),
        );
        let path = output.join("small-x86_64.oci.tar");
        let config = inspected(&path, true);
        let ids = config["rootfs"]["diff_ids"].as_array().unwrap();
        let plain = succeed(tool("bsdcat", "libarchive-tools").arg(&base)).stdout;
        assert_eq!(ids[0], format!("sha256:{}", sha256(&plain)));
        let lists = layers(&small, &path, &format!("dir-{ending}"));
        assert_eq!(lists.len(), 2);
        for name in [
            "usr/share/more/file",
            "usr/bin/.wh.ping",
            "usr/bin/.wh.ping6",
            "usr/bin/.wh.p",
        ] {
            assert!(
                lists[1].iter().any(|one| one == name),
                "no {name} in {:?}",
                lists[1]
            );
        }
        assert!(!lists[1].iter().any(|one| one == "etc/passwd"), "{:?}", lists[1]);
        assert!(lists[0].iter().any(|one| one == "etc/passwd"), "{:?}", lists[0]);
    }
}

#[test]
fn wrong_words_about_containers_are_refused() {
    for (more, part) in [
        ("[oci]\ncompression = \"xz\"\n", "gzip or zstd"),
        ("[oci]\nenvironment = [\"A\"]\n", "NAME=VALUE"),
        ("[oci]\nentrypint = [\"x\"]\n", "did you mean `entrypoint`?"),
        ("[tar]\nlevel = 99\n", "level 99"),
    ] {
        let small = project("\"oci\"", more);
        refused(&mut small.build(), Kind::Input, &[part]);
    }
}
