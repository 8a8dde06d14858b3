//! The files of packages that triggers and services read.

use std::path::PathBuf;

use lycia_dinit::catalogue::Loader;
use lycia_dinit::environment::{self, Environment};
use lycia_dinit::files::MemoryFiles;
use lycia_root::{certificates, depmod, hwdb, mandoc, sysusers, tmpfiles};
use lycia_tree::{Metadata, Timestamp, Tree};

use crate::{Target, texts};

pub const TARGETS: &[Target] = &[
    Target {
        name: "sysusers",
        run: |bytes| sysusers::run(&mut with("/usr/lib/sysusers.d/seed.conf", bytes), TIME).is_ok(),
        seeds: || {
            texts(&[
                "# users\nu root 0 \"Super User\" /root /bin/sh\ng wheel 10\nu _seed - \"A seed\" /var/empty\nm _seed wheel\nr - 500-600\n",
                "u! dbus -\ng input -\ng wheel 10\nu a 100:wheel - - /bin/sh\n",
            ])
        },
    },
    Target {
        name: "tmpfiles",
        run: |bytes| tmpfiles::run(&mut with("/usr/lib/tmpfiles.d/seed.conf", bytes), TIME).is_ok(),
        seeds: || {
            texts(&[
                "d /var/log 0755 root root -\nf /etc/seed 0644 root root - text\nL /etc/link - - - - ../run/x\n",
                "d! /srv/a\nd- /srv/b\nd$ /srv/c\nf= /srv/d - - - - x\nf^ /srv/e - - - - cred\nf~ /srv/f - - - - aGk=\nL? /srv/g - - - - /etc\n\
                 f+!~- /srv/h :0640 :root - ~am:1h aGk=\nw+ /etc/passwd - - - - more\n",
                "v /srv/v\nq /srv/q\nQ /srv/Q\ne /srv 0700\nF /srv/F - - - - x\nC+ /srv/C - - - - /usr/lib\nx /srv/x\nX /srv/X\nR /srv/q\n\
                 p+ /srv/p\nc /srv/c1 0666 - - - 1:3\nb /srv/b1 - - - - 8:0\nt /srv - - - - user.a=b\nT /srv - - - - user.c=\"d e\"\n\
                 a /srv - - - - u:root:r\nA+ /srv - - - - g:root:rX\nh /srv - - - - +C\nH /srv - - - - +C\nm /srv 0711\nZ /srv ~0755 root :root\n",
                "D /tmp/seed 1777 root root 10d\nz /var/log 0750 root root\nr /etc/gone\nC /etc/copy - - - - /etc/passwd\n",
            ])
        },
    },
    Target {
        name: "certificates",
        run: |bytes| {
            let mut tree = with("/usr/share/ca-certificates/seed.crt", bytes);
            certificates::run(&mut tree, TIME).is_ok_and(|step| step.warnings.is_empty())
        },
        seeds: || vec![CERTIFICATE.as_bytes().to_vec()],
    },
    Target {
        name: "hwdb",
        run: |bytes| {
            let source = hwdb::Source {
                path: "/usr/lib/udev/hwdb.d/seed.hwdb",
                bytes,
            };
            hwdb::compile(&[source]).is_ok_and(|database| database.warnings.is_empty())
        },
        seeds: || {
            texts(&[
                "# mice\nmouse:usb:v046dpc018:name:*:\nmouse:usb:v046dpc019:name:*:\n MOUSE_DPI=1000@125\n WHEEL=15\n\nusb:v1D6B*\n ID=Linux\n",
            ])
        },
    },
    Target {
        name: "manual",
        run: |bytes| {
            let mut tree = with("/usr/share/man/man1/seed.1", bytes);
            let step = mandoc::run(&mut tree, TIME);
            step.is_ok_and(|step| step.warnings.is_empty() && !step.written.is_empty())
        },
        seeds: || {
            texts(&[
                ".\\\" a seed\n.de Sp\n.if t .sp .5v\n..\n.ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n.nr rF 0\n.if (\\n(rF:(\\n(.g==0)) \\{\\\n. nr % 0\n.\\}\n\
                 .tr \\(*W-\n.TH SEED 1 \"2024\" \"x\"\n.SH \"NAME\"\nseed, seedling \\- don\\*(Aqt \\fBgrow\\fP\\|\\(em\n.Sp\n.SH X\n",
                ".Dd January 1, 2024\n.Dt SEED 1 AMD64\n.Os\n.Sh NAME\n.Nm seed ,\n.Nm seedling\n.Nd what \\*[lq]grows\n.Sh SYNOPSIS\n",
                ".so man1/seed.1\n.als XX SH\n.TH A 1\n.XX NAME\na \\- \\w'abc'\\h'1n'\\[u2014]\\N'34'\n",
            ])
        },
    },
    Target {
        name: "module",
        run: |bytes| {
            let mut tree = with("/usr/lib/modules/6.1/kernel/seed.ko", bytes);
            depmod::run(&mut tree, "6.1", TIME).is_ok()
        },
        seeds: || vec![module()],
    },
    Target {
        name: "dinit-service",
        run: dinit,
        seeds: || {
            texts(&[
                "type = process\ncommand = /usr/bin/seed --arg \"two words\" $HOME\nrestart = true\ndepends-on: early\nwaits-for.d: boot.d\nlogfile = /var/log/seed.log\noptions: signal-process-only\n",
                "type = scripted\ncommand = /usr/bin/seed start\nstop-command = /usr/bin/seed stop\nbefore = login.target\n@include-opt /etc/dinit.d/more\nsmooth-recovery = yes\nstart-timeout = 30.5\n",
                "type = bgprocess\ncommand = /usr/bin/seed\npid-file = /run/seed.pid\nterm-signal = INT\nrestart-limit-count = 3\n@meta enable-via boot\n",
            ])
        },
    },
    Target {
        name: "dinit-environment",
        run: |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let original = Environment::from([("HOME".to_owned(), "/".to_owned())]);
            environment::apply(&text, &original, &mut original.clone()).is_ok()
        },
        seeds: || {
            texts(&[
                "PATH=/usr/bin\n# comment\n!unset HOME\n!import HOME\n",
                "!clear\nA=b c\n",
            ])
        },
    },
];

const TIME: Timestamp = Timestamp {
    seconds: 1_600_000_000,
    nanoseconds: 0,
};

/// Valid for a moment in 2020, and of no one: `openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes`.
const CERTIFICATE: &str = include_str!("certificate.pem");

/// A root with one file, and what the triggers need to begin.
fn with(path: &str, bytes: &[u8]) -> Tree {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let files: [(&str, &[u8]); 3] = [
        ("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"),
        ("/etc/group", b"root:x:0:\n"),
        (path, bytes),
    ];
    for (path, bytes) in files {
        let folder = &path[..path.rfind('/').unwrap_or(0)];
        let _ = tree.make_directories(folder.as_bytes(), Metadata::new(0o755, TIME));
        let _ = tree.write(path.as_bytes(), Metadata::new(0o644, TIME), bytes.to_vec().into());
    }
    tree
}

/// A relocatable file for x86-64 with a section of module information.
fn module() -> Vec<u8> {
    let information = b"alias=pci:v00001234d*\0depends=\0license=GPL\0name=seed\0softdep=pre: other\0";
    let names = b"\0.modinfo\0.shstrtab\0";
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |bytes: &mut Vec<u8>, value: u16| bytes.extend_from_slice(&value.to_le_bytes());
    half(&mut bytes, 1);
    half(&mut bytes, 62);
    bytes.extend_from_slice(&1u32.to_le_bytes());
    let names_at = 64 + information.len() as u64;
    let table_at = (names_at + names.len() as u64).next_multiple_of(8);
    for value in [0, 0, table_at] {
        bytes.extend_from_slice(&value.to_le_bytes());
    }
    bytes.extend_from_slice(&0u32.to_le_bytes());
    for value in [64, 0, 0, 64, 3, 2] {
        half(&mut bytes, value);
    }
    bytes.extend_from_slice(information);
    bytes.extend_from_slice(names);
    bytes.resize(table_at as usize, 0);
    for (name, kind, at, length) in [
        (0u32, 0u32, 0, 0),
        (1, 1, 64, information.len() as u64),
        (10, 3, names_at, names.len() as u64),
    ] {
        bytes.extend_from_slice(&name.to_le_bytes());
        bytes.extend_from_slice(&kind.to_le_bytes());
        for value in [0, 0, at, length] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes.extend_from_slice(&[0; 8]);
        for value in [1u64, 0] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
    }
    bytes
}

fn dinit(bytes: &[u8]) -> bool {
    let mut files = MemoryFiles::default();
    files.add("/etc/dinit.d/seed", bytes.to_vec());
    files.add_program("/usr/bin/seed", b"#!/bin/sh\n".to_vec());
    let directories = [PathBuf::from("/etc/dinit.d")];
    let environment = Environment::new();
    let loader = Loader {
        files: &files,
        directories: &directories,
        environment: &environment,
    };
    let _ = lycia_dinit::check::check(&loader, &lycia_dinit::check::Request::default());
    loader.describe("seed").is_ok()
}
