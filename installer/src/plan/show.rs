//! The plan as text, as JSON, and its hash.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Draft, Lost, LostWhole, Plan, Role, System, TableChange};
use crate::found::hex;
use crate::show::{printable, size};

fn quoted(text: Option<&String>) -> String {
    // Debug spelling quotes what devices and people have put into names.
    format!("{:?}", text.map(String::as_str).unwrap_or_default())
}

fn lost_words(lost: &Lost) -> String {
    let mut words = String::new();
    for (name, value) in [
        ("", &lost.file_system),
        ("label ", &lost.label),
        ("name ", &lost.name),
    ] {
        if let Some(value) = value {
            let _ = write!(words, "  {name}{}", printable(value));
        }
    }
    words
}

fn whole_words(whole: &LostWhole) -> String {
    let label = whole.label.as_ref();
    let label = label.map(|label| format!(" \"{label}\"")).unwrap_or_default();
    let system = system_words(", ", whole.system.as_ref());
    printable(&format!("{}{label}{system}", whole.file_system))
}

fn system_words(before: &str, system: Option<&String>) -> String {
    system.map_or_else(String::new, |system| format!("{before}{}", printable(system)))
}

impl Plan {
    /// The text that is hashed: everything that is known and everything that will be done, in one fixed form.
    #[must_use]
    pub fn canonical(&self) -> String {
        let plan = self.draft();
        let disk = &plan.disk;
        let mut out = format!(
            "lycia-plan {}\nlayout {}\nmodel {}\nserial {}\n",
            plan.schema,
            plan.layout,
            quoted(disk.model.as_ref()),
            quoted(disk.serial.as_ref())
        );
        for id in &disk.by_id {
            let _ = writeln!(out, "by-id {id:?}");
        }
        if disk.serial.is_none() && disk.by_id.is_empty() {
            // Nothing better identifies it.
            let _ = writeln!(out, "path {:?}", disk.path);
        }
        let _ = writeln!(
            out,
            "size {} sectors {}/{} table {} {}",
            disk.size, disk.logical_sector, disk.physical_sector, disk.table, disk.digest
        );
        for old in &plan.lost {
            let _ = writeln!(
                out,
                "lost {} {} {}{:?}",
                old.number,
                old.span.start,
                old.span.size,
                lost_words(old)
            );
        }
        if let Some(whole) = &plan.lost_whole {
            let _ = writeln!(
                out,
                "lost whole {:?} {}",
                whole.file_system,
                quoted(whole.label.as_ref())
            );
        }
        for partition in &plan.partitions {
            let _ = writeln!(
                out,
                "partition {} {:?} {} {} {}",
                partition.number,
                partition.role,
                partition.span.start,
                partition.span.size,
                if partition.existing { "existing" } else { "new" }
            );
        }
        for region in &plan.regions {
            let part = region
                .partition
                .map(|number| format!(" part {number}"))
                .unwrap_or_default();
            let _ = writeln!(
                out,
                "range {} {} {}: {}{part}",
                region.span.start,
                region.span.end(),
                region.purpose,
                region.action.words()
            );
        }
        if !plan.folder.is_empty() {
            let _ = writeln!(out, "boot folder {}", plan.folder);
        }
        if plan.fallback {
            let _ = writeln!(out, "fallback path written");
        }
        for saved in &plan.saved {
            let _ = writeln!(out, "saved {} {}", saved.start, saved.end());
        }
        if let Some(system) = &plan.system {
            // Field by field in the order of the type, numbers and lists included.
            let _ = writeln!(
                out,
                "system {}",
                serde_json::to_string(system).unwrap_or_default()
            );
        }
        out
    }

    /// SHA-256 of [`Self::canonical`], in hexadecimal. The device node takes no part where the disk has a serial
    /// number or a by-id name: the node may be another after the next boot. Neither do passwords, nor the UUIDs, which are drawn when
    /// the plan is applied.
    #[must_use]
    pub fn hash(&self) -> String {
        hex(self.canonical().as_bytes())
    }

    /// What somebody types to confirm the plan: the kernel's name of the disk.
    #[must_use]
    pub fn short_name(&self) -> &str {
        let path = &self.disk().path;
        path.rsplit('/').next().unwrap_or(path)
    }

    /// The plan for people.
    #[must_use]
    pub fn text(&self) -> String {
        let plan = self.draft();
        let disk = &plan.disk;
        let doing = match plan.layout {
            "erase" => "Erase",
            "alongside" => "Use free space on",
            "replace" => "Replace partitions of",
            _ => "Use partitions of",
        };
        let mut out = format!("{doing} {} ({})\n", disk.path, size(disk.size));
        for (name, value) in [("model", disk.model.as_ref()), ("serial", disk.serial.as_ref())] {
            if let Some(value) = value {
                let _ = writeln!(out, "  {name:<8} {}", printable(value));
            }
        }
        for id in &disk.by_id {
            let _ = writeln!(out, "  by-id    {}", printable(id));
        }
        let _ = writeln!(
            out,
            "  sectors  {} logical, {} physical\n  table    {}",
            disk.logical_sector, disk.physical_sector, disk.table
        );
        if let Some(whole) = &plan.lost_whole {
            let _ = writeln!(
                out,
                "\nThe whole disk holds {}; it will be lost.",
                whole_words(whole)
            );
        } else if plan.lost.is_empty() {
            out.push_str("\nNo partition is lost.\n");
        } else {
            out.push_str("\nThese partitions and everything on them will be lost:\n");
            for old in &plan.lost {
                let _ = writeln!(
                    out,
                    "  {:>3}  {:>10}  from byte {}{}{}",
                    old.number,
                    size(old.span.size),
                    old.span.start,
                    lost_words(old),
                    system_words("  ", old.system.as_ref())
                );
            }
        }
        kept(&mut out, plan);
        let _ = writeln!(out, "\n{:>16} {:>16}  part  what", "first byte", "last byte");
        for region in &plan.regions {
            let number = region
                .partition
                .map(|number| number.to_string())
                .unwrap_or_default();
            let _ = writeln!(
                out,
                "{:>16} {:>16}  {number:<4}  {}: {}",
                region.span.start,
                region.span.end() - 1,
                region.purpose,
                region.action.words()
            );
        }
        let table = match plan.table {
            TableChange::New => "A new GPT is written last.",
            TableChange::Edited => "The GPT is written last, with the partitions that it keeps.",
            TableChange::Kept => "The table is not written.",
        };
        let _ = writeln!(out, "\n{table} No other disk is opened for writing.");
        if let Some(planned) = &plan.system {
            system(&mut out, planned);
        }
        let _ = writeln!(out, "\nplan {}", self.hash());
        out
    }

    /// The plan for machines.
    ///
    /// # Errors
    /// Never in practice: every field is a number or text.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        #[derive(Serialize)]
        struct Whole<'a> {
            hash: String,
            #[serde(flatten)]
            plan: &'a Draft,
        }
        serde_json::to_string_pretty(&Whole {
            hash: self.hash(),
            plan: self.draft(),
        })
    }
}

fn kept(out: &mut String, plan: &Draft) {
    let kept: Vec<_> = plan
        .partitions
        .iter()
        .filter(|one| matches!(one.role, Role::SharedEsp | Role::Home | Role::Other))
        .collect();
    if kept.is_empty() {
        return;
    }
    out.push_str("\nThese partitions are kept:\n");
    for one in kept {
        let what = one.file_system.as_deref().unwrap_or("no known file system");
        let home = match one.role {
            Role::Home => ", becomes /home",
            Role::SharedEsp => ", gets files added; those of other systems stay",
            _ => "",
        };
        let _ = writeln!(
            out,
            "  {:>3}  {:>10}  {}{home}",
            one.number,
            size(one.span.size),
            printable(what)
        );
    }
}

/// The system that is installed, for people.
pub(crate) fn system(out: &mut String, system: &System) {
    let _ = writeln!(
        out,
        "\n{}: {} packages, {}",
        system.title,
        system.packages.len(),
        size(system.installed_size)
    );
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(out, "  {name:<10} {}", printable(value));
        }
    };
    line("source", &system.source.join(" "));
    line("kernel", &system.kernel);
    line("allocator", &system.allocator);
    line("host name", &system.hostname);
    line("time zone", &system.timezone);
    line("keyboard", system.keymap.as_deref().unwrap_or_default());
    line("locale", system.locale.as_deref().unwrap_or_default());
    for user in &system.users {
        let password = if user.password { "password" } else { "no password" };
        let keys = match user.ssh_keys {
            0 => String::new(),
            count => format!(", {count} ssh keys"),
        };
        let groups = if user.groups.is_empty() {
            String::new()
        } else {
            format!(", groups {}", user.groups.join(" "))
        };
        line(
            "user",
            &format!("{} ({password}{keys}{groups}, {})", user.name, user.shell),
        );
    }
    line("network", &system.network);
    line("dns", &system.dns.join(" "));
    for key in &system.keys {
        line("trusts", key);
    }
    line("services", &system.services.join(" "));
    for mount in &system.mounts {
        line("mount", mount);
    }
    for command in &system.commands {
        line("runs", command);
    }
    for boot in &system.boot {
        line("boot", boot);
    }
    line("arguments", &system.arguments);
    line("world", &system.world.join(" "));
    for file in &system.files {
        line("writes", file);
    }
}
