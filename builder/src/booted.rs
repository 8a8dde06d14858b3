//! Booting a medium and comparing what runs with its manifest.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lycia_qemu::{Architecture, Facts, Firmware, Guest, Machine, Medium};

use crate::error::{Error, Explain as _, Kind, Result, io};
use crate::manifest::Manifest;

/// A way of starting a medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cell {
    /// What the machine starts with.
    pub firmware: Firmware,
    /// As a disk; otherwise as a CD.
    pub disk: bool,
}

impl Cell {
    /// All ways that a PC has.
    pub const ALL: [Cell; 4] = [
        Cell {
            firmware: Firmware::Bios,
            disk: false,
        },
        Cell {
            firmware: Firmware::Bios,
            disk: true,
        },
        Cell {
            firmware: Firmware::Uefi,
            disk: false,
        },
        Cell {
            firmware: Firmware::Uefi,
            disk: true,
        },
    ];

    /// The cell of a name such as `bios-cd`.
    pub fn from_name(name: &str) -> Option<Cell> {
        Cell::ALL.into_iter().find(|cell| cell.to_string() == name)
    }

    /// The machine that starts `medium` this way.
    pub fn machine(self, architecture: Architecture, medium: &Path) -> Machine {
        let mut machine = Machine::new(architecture, self.firmware);
        machine.media.push(if self.disk {
            Medium::disk_snapshot(medium)
        } else {
            Medium::cdrom(medium)
        });
        machine
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let firmware = match self.firmware {
            Firmware::Bios => "bios",
            Firmware::Uefi => "uefi",
        };
        write!(f, "{firmware}-{}", if self.disk { "disk" } else { "cd" })
    }
}

/// What is booted, and within which limits.
#[derive(Clone, Debug)]
pub struct Trial<'a> {
    /// The ISO or disk.
    pub medium: &'a Path,
    /// What is on it.
    pub manifest: &'a Manifest,
    /// Root's password, which is the live user's too.
    pub password: &'a str,
    /// The live user; none of a system that is installed on a disk.
    pub user: Option<&'a str>,
    /// For pictures and transcripts.
    pub artifacts: Option<&'a Path>,
    /// For each stage.
    pub limit: Duration,
}

/// The stages of a boot that was as it should be, with their times.
pub type Stages = Vec<(&'static str, Duration)>;

impl Trial<'_> {
    /// Boots the medium in one way: the menu, the default entry, the guest's own report, logins as root and as the live
    /// user, and a clean end. Everything is compared with the manifest.
    ///
    /// # Errors
    /// With the stage that failed and the end of the console, or with every difference from the manifest.
    pub fn boot(&self, cell: Cell) -> Result<Stages> {
        self.boot_cell(cell)
            .map_err(|error| error.context(format!("booting {} as {cell}", self.medium.display())))
    }

    fn picture(&self, guest: &mut Guest, cell: Cell, name: &str) -> Result<()> {
        let Some(folder) = self.artifacts else {
            return Ok(());
        };
        let path = folder.join(format!("{cell}-{name}.png"));
        let screen = guest
            .screenshot(&path)
            .explain(Kind::Host, || "taking a picture".to_owned())?;
        if screen.is_blank() {
            return Err(Error::new(
                Kind::Target,
                format!("the screen is blank at the {name}"),
            ));
        }
        Ok(())
    }

    fn boot_cell(&self, cell: Cell) -> Result<Stages> {
        let target = |error: lycia_qemu::Error| Error::new(Kind::Target, error);
        let arch = &self.manifest.arch;
        let architecture = Architecture::from_name(arch)
            .ok_or_else(|| Error::new(Kind::Host, format!("no machine is known for {arch}")))?;
        let mut guest = cell
            .machine(architecture, self.medium)
            .start()
            .explain(Kind::Host, || "starting the guest".to_owned())?;
        let mut stages = Stages::new();
        let mut started = Instant::now();
        let mut over = |stage| {
            stages.push((stage, started.elapsed()));
            started = Instant::now();
        };

        guest.stage("the GRUB menu");
        guest.serial.expect("GNU GRUB", self.limit).map_err(target)?;
        guest
            .serial
            .expect("will be executed automatically", self.limit)
            .map_err(target)?;
        self.picture(&mut guest, cell, "menu")?;
        over("menu");

        guest.stage("the boot of the default entry");
        let facts = guest.report.collect(self.limit).map_err(target)?;
        over("report");
        guest.serial.expect("login:", self.limit).map_err(target)?;
        self.picture(&mut guest, cell, "login")?;
        over("login");

        guest.stage("the login as root");
        guest
            .serial
            .login("root", self.password, self.limit)
            .map_err(target)?;
        let ask = |guest: &Guest, command: &str| {
            guest
                .serial
                .run(command, self.limit)
                .and_then(lycia_qemu::Output::successful)
                .map_err(target)
        };
        let mut seen = Seen {
            uname: ask(&guest, "uname -a")?,
            mounts: ask(&guest, "cat /proc/mounts")?,
            world: ask(&guest, "cat /etc/apk/world")?,
            services: ask(&guest, "seedctl list --plain || dinitctl list")?,
            facts,
            differences: Vec::new(),
        };
        seen.compare(self.manifest, self.user);
        over("root");

        if let Some(user) = self.user {
            guest.stage("the login as the live user");
            guest.serial.send_line("exit").map_err(target)?;
            guest.serial.expect("login:", self.limit).map_err(target)?;
            guest
                .serial
                .login(user, self.password, self.limit)
                .map_err(target)?;
            let who = ask(&guest, "id -un; id -u; pwd")?;
            let home = format!("/home/{user}");
            if who.split_whitespace().collect::<Vec<_>>() != [user, "1000", home.as_str()] {
                seen.differences
                    .push(format!("the live user is `{}`", who.trim()));
            }
            over("user");
            guest.serial.send_line("exit").map_err(target)?;
            guest.serial.expect("login:", self.limit).map_err(target)?;
            guest
                .serial
                .login("root", self.password, self.limit)
                .map_err(target)?;
        }

        guest.stage("the end");
        guest.serial.send_line("poweroff").map_err(target)?;
        let status = guest.wait_exit(self.limit).map_err(target)?;
        over("poweroff");
        if let Some(folder) = self.artifacts {
            let path = folder.join(format!("{cell}-serial.txt"));
            io(std::fs::write(&path, guest.serial.transcript()), || {
                format!("writing {}", path.display())
            })?;
        }
        if !status.success() {
            seen.differences.push(format!("QEMU ended with {status}"));
        }
        if seen.differences.is_empty() {
            return Ok(stages);
        }
        Err(Error::new(
            Kind::Target,
            format!(
                "what runs is not what the manifest says:\n  {}",
                seen.differences.join("\n  ")
            ),
        ))
    }
}

/// What a guest said of itself.
struct Seen {
    uname: String,
    mounts: String,
    world: String,
    services: String,
    facts: Facts,
    differences: Vec<String>,
}

impl Seen {
    fn compare(&mut self, manifest: &Manifest, user: Option<&str>) {
        let mut differences = Vec::new();
        let mut expect = |is: bool, what: String| {
            if !is {
                differences.push(what);
            }
        };
        for uname in [self.uname.trim(), self.facts.get("uname").unwrap_or_default()] {
            let fits =
                uname.starts_with("Linux ") && uname.split_whitespace().any(|word| word == manifest.kernel);
            expect(fits, format!("uname says `{uname}`, not {}", manifest.kernel));
        }
        let reported: Vec<&str> = self.facts.all("mount").collect();
        for mounts in [self.mounts.lines().collect(), reported] {
            let expected: &[(&str, &str)] = match user {
                Some(_) => &[
                    ("overlay", "/"),
                    ("squashfs", "/run/live/rootfs"),
                    ("iso9660", "/run/live/medium"),
                ],
                None => &[("ext4", "/")],
            };
            for &(kind, place) in expected {
                let there = mounts.iter().any(|line: &&str| {
                    let fields: Vec<&str> = line.split(' ').collect();
                    fields.get(1) == Some(&place) && fields.get(2) == Some(&kind)
                });
                expect(there, format!("no {kind} is mounted at {place}"));
            }
        }
        let world: BTreeSet<&str> = manifest.world.iter().map(String::as_str).collect();
        let reported: BTreeSet<&str> = self.facts.all("world").collect();
        for have in [self.world.split_whitespace().collect(), reported] {
            expect(have == world, format!("world is {have:?}, not {world:?}"));
        }
        let packages: BTreeSet<String> = manifest
            .packages
            .iter()
            .map(|package| format!("{} {}", package.name, package.version))
            .collect();
        let installed: BTreeSet<String> = self.facts.all("installed").map(str::to_owned).collect();
        expect(
            installed == packages,
            format!("installed is {installed:?}, not {packages:?}"),
        );

        for line in self
            .services
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
        {
            expect(
                !line.to_ascii_lowercase().contains("fail"),
                format!("a service failed: {line}"),
            );
        }
        for wanted in [
            "boot",
            "system",
            "login.target",
            "network.target",
            "local.target",
            "lycia-report",
        ] {
            let running = self.services.lines().any(|line| {
                let mut words = line.split_whitespace();
                words.next() == Some(wanted) && words.next().is_some_and(|state| state == "started")
            });
            expect(running, format!("the service {wanted} is not started"));
        }
        let image = self
            .mounts
            .lines()
            .find(|line| line.split(' ').nth(1) == Some("/run/live/rootfs"));
        if let Some(line) = image {
            let mapped = line.starts_with("/dev/mapper/") || line.starts_with("/dev/dm-");
            expect(
                mapped || manifest.medium.verity.is_empty(),
                format!("the image is not read through dm-verity: {line}"),
            );
        }
        let stock = manifest
            .packages
            .iter()
            .any(|package| package.name == "musl-mallocng");
        let allocator = if stock { "mallocng" } else { "scudo" };
        let found = self.facts.get("allocator").unwrap_or_default();
        expect(
            found == allocator,
            format!("libc.so has the allocator {found}, not {allocator}"),
        );
        let user = user.unwrap_or("root");
        let passwd = format!("{user}:");
        expect(
            self.facts.all("user").any(|line| line.starts_with(&passwd)),
            format!("there is no user {user}"),
        );
        self.differences.extend(differences);
    }
}

/// Whether a file is a disk image and no ISO, by its name.
pub fn is_disk(medium: &Path) -> bool {
    medium
        .extension()
        .is_some_and(|ending| ending == "img" || ending == "qcow2")
}

/// The manifest beside an ISO or disk.
///
/// # Errors
/// When it is not there or is none.
pub fn manifest_of(medium: &Path) -> Result<Manifest> {
    if medium
        .extension()
        .is_some_and(|ending| matches!(ending.to_str(), Some("gz" | "xz" | "zst")))
    {
        return Err(Error::new(
            Kind::Usage,
            format!(
                "{} is compressed: a machine does not start from it",
                medium.display()
            ),
        )
        .hint("unpack it first"));
    }
    let path: PathBuf = if is_disk(medium) {
        crate::disk::manifest_path(medium)
    } else {
        medium.with_extension("manifest.json")
    };
    let text = io(std::fs::read_to_string(&path), || {
        format!("reading {}", path.display())
    })?;
    serde_json::from_str(&text).explain(Kind::Input, || format!("reading {}", path.display()))
}
