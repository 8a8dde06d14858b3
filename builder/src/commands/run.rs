//! `lycia run` and `lycia test`

use std::time::{Duration, Instant};

use lycia_qemu::{Accelerator, Architecture, Firmware};

use super::{Context, print, seed};
use crate::booted::{Cell, Trial, is_disk, manifest_of};
use crate::cli::{RunArgs, TestArgs};
use crate::definition::platform::Secret;
use crate::definition::{Image, Location};
use crate::error::{Error, Explain as _, Kind, Result, io};

/// `lycia run`
pub fn run(context: &Context, args: &RunArgs) -> Result<()> {
    let progress = context.progress();
    let (name, arch) = (&args.build.image.image, &args.build.image.source.arch);
    let image = context.project_for(&args.build.image)?.image(name, arch)?;
    if args.setup {
        context.install(false)?;
        if image
            .repositories
            .iter()
            .any(|repository| repository.location == Location::Seed)
        {
            seed::update(context, arch)?;
        }
    }
    let built = context.build(&args.build)?;
    let iso = built.iso().or(built.disk()).ok_or_else(|| {
        Error::new(
            Kind::Input,
            format!("the image {name} has neither an ISO nor a disk (raw or qcow2) among its outputs"),
        )
    })?;
    let (user, password) = login(&image, is_disk(iso))?;
    let architecture = Architecture::from_name(arch)
        .ok_or_else(|| Error::new(Kind::Host, format!("no machine is known for {arch}")))?;
    let cell = Cell {
        firmware: if args.uefi { Firmware::Uefi } else { Firmware::Bios },
        disk: args.disk || is_disk(iso),
    };
    let machine = cell.machine(architecture, iso);
    let by_hand = machine
        .command_line()
        .explain(Kind::Host, || "booting the medium".to_owned())?;
    if args.interactive {
        progress.say("Ctrl-a x ends the guest");
        let status = machine
            .run_in_terminal()
            .explain(Kind::Host, || "booting the medium".to_owned())?;
        if status.success() {
            return Ok(());
        }
        return Err(Error::new(Kind::Target, format!("QEMU ended with {status}")));
    }

    let accelerator =
        Accelerator::probe(architecture).explain(Kind::Host, || "choosing how to run guests".to_owned())?;
    progress.say(&format!(
        "booting {} as {cell} under QEMU ({})",
        iso.display(),
        accelerator.name()
    ));
    let started = Instant::now();
    let limit = Duration::from_secs(args.limit);
    let mut guest = machine
        .start()
        .explain(Kind::Host, || "booting the medium".to_owned())?;
    let target = |error: lycia_qemu::Error| {
        Error::new(Kind::Target, error).context(format!("booting {}", iso.display()))
    };
    guest.stage("the login prompt");
    guest.serial.expect("login:", limit).map_err(target)?;
    let took = started.elapsed();
    if let Some(path) = &args.screenshot {
        guest
            .screenshot(path)
            .explain(Kind::Host, || format!("writing {}", path.display()))?;
    }
    guest.stage("the login as root");
    guest.serial.login("root", password, limit).map_err(target)?;
    let kernel = guest
        .serial
        .run("uname -a", limit)
        .and_then(lycia_qemu::Output::successful)
        .map_err(target)?;
    guest.serial.send_line("poweroff").map_err(target)?;
    guest.wait_exit(limit).map_err(target)?;
    progress.say(&format!(
        "{:<10} {:>6.1} s  login prompt",
        "boot",
        took.as_secs_f64()
    ));
    print(
        format!(
            "\n{}\n\nThe guest reached its login; {} with the password `{}`.\n\
             The medium:    {}\n\
             Boot by hand:  lycia run {name} --interactive\n\
             or:            {by_hand}\n",
            kernel.trim(),
            user.map_or_else(
                || "root logs in".to_owned(),
                |user| format!("root and {user} log in")
            ),
            password,
            iso.display(),
        )
        .as_bytes(),
    )
}

/// The live user, if there is one, and root's password.
fn login(image: &Image, disk: bool) -> Result<(Option<&str>, &str)> {
    match (&image.disk, disk) {
        (Some(disk), true) => match &disk.password {
            Secret::Clear(password) => Ok((None, password)),
            _ => Err(Error::new(
                Kind::Input,
                format!("nobody knows root's password on the disk of {}", image.name),
            )
            .hint("boot it by hand, or give `[disk]` a password in clear text")),
        },
        _ => Ok((Some(&image.live.user), &image.live.password)),
    }
}

/// `lycia test`
pub fn test(context: &Context, args: &TestArgs) -> Result<()> {
    let progress = context.progress();
    let manifest = manifest_of(&args.iso)?;
    let image = context.project()?.image(&manifest.image, &manifest.arch)?;
    let mut cells = Vec::new();
    for name in &args.cell {
        cells.push(Cell::from_name(name).ok_or_else(|| {
            let known = Cell::ALL.map(|cell| cell.to_string()).join(", ");
            Error::new(Kind::Usage, format!("`{name}` is no cell")).hint(format!("there are: {known}"))
        })?);
    }
    let disk = is_disk(&args.iso);
    let fits = |cell: &Cell| cell.disk || !disk;
    if let Some(cell) = cells.iter().find(|cell| !fits(cell)) {
        return Err(Error::new(
            Kind::Usage,
            format!("{} is a disk: it does not boot as {cell}", args.iso.display()),
        ));
    }
    if cells.is_empty() {
        cells.extend(Cell::ALL.into_iter().filter(fits));
    }
    let (user, password) = login(&image, disk)?;
    if let Some(folder) = &args.artifacts {
        io(std::fs::create_dir_all(folder), || {
            format!("making {}", folder.display())
        })?;
    }
    let trial = Trial {
        medium: &args.iso,
        manifest: &manifest,
        password,
        user,
        artifacts: args.artifacts.as_deref(),
        limit: Duration::from_secs(args.limit),
    };
    for cell in cells {
        let stages = trial.boot(cell)?;
        let stages: Vec<String> = stages
            .iter()
            .map(|(stage, took)| format!("{stage} {:.1} s", took.as_secs_f64()))
            .collect();
        progress.say(&format!("{cell:<10} as the manifest says: {}", stages.join(", ")));
    }
    Ok(())
}
