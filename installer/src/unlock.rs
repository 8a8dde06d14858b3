//! Finding installed systems, and opening the encrypted ones with a passphrase that is typed, in a file or in a descriptor.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;
use lycia_installer::file_system::Kind;
use lycia_installer::probe::{Views, probe};
use lycia_installer::rescue::{self, Kernel, RescueError, Root, Seen, Survey, Target};
use lycia_installer::{secret, show};
use zeroize::Zeroizing;

use crate::line;
use crate::verbs::Failure;

/// How often a passphrase may be typed wrong.
const TRIES: u32 = 3;

/// Where the passphrase of an encrypted root comes from.
#[derive(Debug, Clone, Args)]
pub struct UnlockArgs {
    /// The passphrase of an encrypted root is the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase_fd")]
    passphrase_file: Option<PathBuf>,
    /// The same from an open file descriptor
    #[arg(long, value_name = "NUMBER")]
    passphrase_fd: Option<i32>,
}

impl UnlockArgs {
    /// Whether one was given.
    pub fn is_given(&self) -> bool {
        self.passphrase_file.is_some() || self.passphrase_fd.is_some()
    }

    /// The passphrase that was given; none if it is to be asked for.
    fn given(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        let line = match (&self.passphrase_file, self.passphrase_fd) {
            (Some(path), _) => secret::line_of_file(path),
            (None, Some(number)) => secret::line_of_descriptor(number),
            (None, None) => return Ok(None),
        };
        Ok(Some(line?))
    }
}

/// What is on this machine's disks.
pub fn survey() -> Result<Survey, Failure> {
    let machine = probe(&Views {
        sysfs: "/sys".into(),
        proc: "/proc".into(),
        dev: "/dev".into(),
    })?;
    Ok(rescue::survey(&machine, Path::new("/dev")))
}

/// Opens encrypted volumes for reading. Without a passphrase one is asked for, where somebody is there who could be asked.
pub fn unlock(survey: &mut Survey, args: &UnlockArgs) -> Result<(), Failure> {
    if survey.locked.is_empty() {
        return Ok(());
    }
    if let Some(passphrase) = args.given()? {
        return match survey.unlock(passphrase.as_bytes())? {
            0 => Err(RescueError::Passphrase.into()),
            _ => Ok(()),
        };
    }
    if !std::io::stdin().is_terminal() {
        return Ok(());
    }
    for _ in 0..TRIES {
        let nodes: Vec<String> = survey.locked.iter().map(rescue::Volume::node).collect();
        let question = format!("Passphrase of {} (it is not shown): ", nodes.join(", "));
        let Some(line) = line::ask_secret(&question)? else {
            break;
        };
        if survey.unlock(line.as_bytes())? > 0 {
            return Ok(());
        }
        eprintln!("That passphrase opens nothing.");
    }
    Err(RescueError::Passphrase.into())
}

/// Mounts file systems that cannot be read otherwise, read-only and seen by nobody else, to find the systems in them.
pub fn look(survey: &mut Survey) -> Result<(), Failure> {
    if survey.unread.is_empty() {
        return Ok(());
    }
    let folder = crate::verbs::mount_point("lycia-look-")?;
    let done = rescue::privately(|| survey.look(&mut Kernel, folder.path()));
    done.map_err(|source| Failure::File {
        doing: "looking into file systems, which only root may, by way of",
        path: folder.path().to_owned(),
        source,
    })
}

/// The system that was asked for. Nothing is mounted and nobody is asked for a passphrase where that is not needed.
pub fn system(selector: Option<&str>, args: &UnlockArgs) -> Result<Target, Failure> {
    let mut found = survey()?;
    let look_again = |found: &mut Survey| match found.select(selector) {
        Err(RescueError::Unread(_)) => look(found),
        _ => Ok(()),
    };
    look_again(&mut found)?;
    if matches!(found.select(selector), Err(RescueError::Locked(_))) {
        unlock(&mut found, args)?;
        look_again(&mut found)?;
    }
    Ok(found.select(selector)?)
}

/// What lies around a root.
fn around(root: &Root) -> String {
    match &root.volume {
        Some(volume) => format!("  in LUKS2 {}", volume.uuid()),
        None => String::new(),
    }
}

fn in_use(used: &[String]) -> String {
    match used {
        [] => String::new(),
        used => format!("  in use: {}", show::printable(&used.join(", "))),
    }
}

/// The list of installed systems for people.
pub fn list(survey: &Survey) -> String {
    let word = |value: &Option<String>| show::printable(value.as_deref().unwrap_or("-"));
    let mut out = String::new();
    for one in &survey.systems {
        let mut line = format!(
            "{}  {}  {}  {}",
            one.root.node(),
            one.root.uuid,
            word(&one.hostname),
            word(&one.name)
        );
        if one.root.kind != Kind::Ext4 {
            line.push_str(&format!("  {}", one.root.kind.name()));
        }
        if let Some(subvolume) = &one.subvolume {
            line.push_str(&format!("  subvolume {}", show::printable(subvolume)));
        }
        line.push_str(&around(&one.root));
        if one.boot.as_ref().is_some_and(|boot| boot.node.is_none()) {
            line.push_str("  its /boot is on no disk");
        }
        if one.clean == Some(false) {
            line.push_str("  not unmounted cleanly");
        }
        out.push_str(&line);
        out.push('\n');
    }
    for one in &survey.unread {
        let label = one.label.as_deref().map(show::printable).unwrap_or_default();
        let gap = if label.is_empty() { "" } else { " " };
        let seen = match &one.seen {
            Seen::Not => "not read: its contents are seen when it is mounted (`systems --look`)".to_owned(),
            Seen::NoSystem => "no system in it".to_owned(),
            Seen::Failed(why) => format!("not read: {}", show::printable(why)),
        };
        out.push_str(&format!(
            "{}  {}  {}{gap}{label}, {seen}{}{}\n",
            one.root.node(),
            one.root.uuid,
            one.root.kind.name(),
            around(&one.root),
            in_use(&one.used)
        ));
    }
    for one in &survey.locked {
        let used = in_use(&one.used);
        out.push_str(&format!("{}  {}  LUKS2, locked{used}\n", one.node(), one.uuid));
    }
    for one in &survey.opened {
        let (volume, used) = (&one.volume, in_use(&one.volume.used));
        out.push_str(&format!(
            "{}  {}  LUKS2, opened: {}{used}\n",
            volume.node(),
            volume.uuid,
            one.words()
        ));
    }
    if out.is_empty() {
        out.push_str("no installed system was found\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use lycia_installer::rescue::{Installed, Unread};

    #[test]
    fn the_list_says_what_is_not_read_and_why() {
        let root = |partition, kind| Root {
            disk: "/dev/nvme0n1".to_owned(),
            partition,
            uuid: format!("u{partition}"),
            kind,
            volume: None,
        };
        let unread = |partition, kind, label: Option<&str>, used: &[&str], seen| Unread {
            root: root(partition, kind),
            label: label.map(str::to_owned),
            used: used.iter().map(|&word| word.to_owned()).collect(),
            seen,
        };
        let mut survey = Survey::default();
        assert_eq!(list(&survey), "no installed system was found\n");
        for (partition, kind, subvolume, clean) in [
            (1, Kind::Ext4, None, Some(false)),
            (2, Kind::Btrfs, Some("@"), None),
        ] {
            survey.systems.push(Installed {
                root: root(partition, kind),
                subvolume: subvolume.map(str::to_owned),
                name: None,
                hostname: Some("box".to_owned()),
                clean,
                boot: None,
            });
        }
        survey.unread = vec![
            unread(3, Kind::Xfs, Some("da\u{1b}ta"), &["/srv"], Seen::Not),
            unread(4, Kind::F2fs, None, &[], Seen::NoSystem),
            unread(5, Kind::Xfs, None, &[], Seen::Failed("busy".to_owned())),
        ];
        let shown = list(&survey);
        assert!(!shown.contains('\u{1b}'), "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "/dev/nvme0n1p1  u1  box  -  not unmounted cleanly");
        assert_eq!(lines[1], "/dev/nvme0n1p2  u2  box  -  btrfs  subvolume @");
        assert!(lines[2].starts_with("/dev/nvme0n1p3  u3  xfs da"), "{shown}");
        assert!(
            lines[2].ends_with(
                ", not read: its contents are seen when it is mounted (`systems --look`)  in use: /srv"
            ),
            "{shown}"
        );
        assert_eq!(lines[3], "/dev/nvme0n1p4  u4  f2fs, no system in it");
        assert_eq!(lines[4], "/dev/nvme0n1p5  u5  xfs, not read: busy");
    }
}
