//! What a plan says of the system: mounts, boot entries, packages, users, files.

use super::ROOT_LABEL;
use crate::answers::{Answers, Login, Network};
use crate::medium::{Medium, MediumError};
use crate::plan::{Action, Plan, PlannedUser, Role, System as PlannedSystem};
use crate::show;
use crate::source::{Chosen, Repositories};
use crate::system;

/// Mounts and boot entries of a plan for a disk.
pub(super) fn of_disk(plan: &Plan, medium: &Medium, answers: &Answers, uefi: bool) -> Described {
    let encrypted = plan.region(Action::LuksHeader).is_some();
    let root = if encrypted {
        "root (LUKS2, aes-xts-plain64)"
    } else {
        "root"
    };
    let file_system = &answers.disk.file_system;
    let name = file_system.kind.name();
    let mut mounts: Vec<String> = file_system
        .mounts()
        .iter()
        .map(|(directory, options, _)| match options.as_str() {
            "rw,relatime" => format!("{root}  {directory}  {name}"),
            options => format!("{root}  {directory}  {name}  {options}"),
        })
        .collect();
    let sector = plan.disk().logical_sector;
    let commands = file_system
        .make("ROOT", ROOT_LABEL, "UUID", sector)
        .map(|command| command.to_string());
    if plan.region(Action::BootExt4).is_some() {
        mounts.push("boot  /boot  ext4".to_owned());
    }
    let mut boot = Vec::new();
    if plan.region(Action::Fat32).is_some() {
        mounts.push("EFI system partition  /boot/efi  vfat".to_owned());
        boot.push("UEFI: \\EFI\\BOOT on the EFI system partition (the fallback path)".to_owned());
    }
    if let Some(shared) = plan.partition(Role::SharedEsp) {
        mounts.push(format!("partition {}  /boot/efi  vfat (kept)", shared.number));
        let vendor = &plan.draft().folder;
        boot.push(format!(
            "UEFI: \\EFI\\{vendor} on partition {}, which is kept",
            shared.number
        ));
        boot.push(if plan.draft().fallback {
            "UEFI: \\EFI\\BOOT there too (the fallback path, which was free or ours)".to_owned()
        } else {
            format!("UEFI: \\EFI\\BOOT there is another system's and stays; choose \\EFI\\{vendor} in the firmware's menu")
        });
        if vendor != medium.install.vendor() {
            boot.push(format!(
                "UEFI: \\EFI\\{} there starts another system and stays as it is",
                medium.install.vendor()
            ));
        }
    }
    if uefi
        && answers.nvram
        && (plan.partition(Role::SharedEsp).is_some() || plan.region(Action::Fat32).is_some())
    {
        boot.push(format!(
            "UEFI: an entry `{}` before all others in the firmware's menu",
            medium.install.name
        ));
    }
    if plan.region(Action::BootLoader).is_some() {
        boot.push("BIOS: boot sector, core image in the BIOS boot partition".to_owned());
    }
    let has_uefi = plan.partition(Role::SharedEsp).is_some() || plan.region(Action::Fat32).is_some();
    let has_bios = plan.region(Action::BootLoader).is_some();
    if if uefi { !has_uefi } else { !has_bios } {
        boot.push(format!(
            "this machine runs with {} now and would not start it",
            if uefi { "UEFI" } else { "BIOS" }
        ));
    }
    if let Some(home) = plan.partition(Role::Home) {
        mounts.push(format!(
            "partition {}  /home  {} (kept)",
            home.number,
            home.file_system.as_deref().unwrap_or("auto")
        ));
    }
    if plan.region(Action::HomeExt4).is_some() {
        mounts.push("home  /home  ext4".to_owned());
    }
    if plan.region(Action::Swap).is_some() {
        mounts.push("swap".to_owned());
    }
    mounts.extend(swap_lines(answers));
    Described {
        mounts,
        commands: commands.into_iter().collect(),
        boot,
        encrypted,
    }
}

/// Swap that needs no partition.
pub(crate) fn swap_lines(answers: &Answers) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(size) = answers.disk.swap_file {
        lines.push(format!("/{}  swap  {}", crate::swap::FILE, show::size(size)));
    }
    if let Some(size) = answers.disk.zram {
        lines.push(format!(
            "/dev/zram0  swap  {} in memory, compressed",
            show::size(size)
        ));
    }
    lines
}

/// What only the layout knows of a system that is planned.
pub(crate) struct Described {
    pub mounts: Vec<String>,
    pub commands: Vec<String>,
    pub boot: Vec<String>,
    pub encrypted: bool,
}

pub(crate) fn describe(
    prepared_world: &[String],
    chosen: &[Chosen],
    repositories: &Repositories,
    medium: &Medium,
    answers: &Answers,
    consoles: &[String],
    described: Described,
) -> Result<PlannedSystem, MediumError> {
    let Described {
        mounts,
        commands,
        boot,
        encrypted,
    } = described;
    let login = |name: &str, groups: Vec<String>, shell: &str, login: &Login| PlannedUser {
        name: name.to_owned(),
        groups,
        shell: shell.to_owned(),
        password: login.password.is_some(),
        ssh_keys: login.ssh_keys.len(),
    };
    let mut users = vec![login("root", Vec::new(), "/bin/sh", &answers.root)];
    for user in &answers.users {
        let mut groups = user.groups.clone();
        if user.admin {
            groups.push("wheel".to_owned());
        }
        users.push(login(
            &user.name,
            groups,
            user.shell.as_deref().unwrap_or("/bin/sh"),
            &user.login,
        ));
    }
    let mut packages: Vec<String> = chosen
        .iter()
        .map(|one| format!("{}-{}", one.entry.name, one.entry.version))
        .collect();
    packages.sort();
    let files = files(medium, answers, repositories, encrypted);
    let mut arguments = vec![medium.install.boot.arguments.clone(), answers.arguments.clone()];
    arguments.extend(consoles.iter().map(|console| format!("console={console}")));
    arguments.retain(|word| !word.is_empty());
    Ok(PlannedSystem {
        title: medium.install.name.clone(),
        source: repositories.names(),
        world: prepared_world.to_vec(),
        packages,
        installed_size: chosen.iter().map(|one| one.entry.installed_size).sum(),
        kernel: medium.kernel(answers.kernel.as_deref())?.package.clone(),
        allocator: medium
            .allocator(answers.allocator.as_deref())?
            .map(|one| one.name.clone())
            .unwrap_or_default(),
        hostname: answers.hostname.clone(),
        timezone: answers.timezone.clone(),
        keymap: answers.keymap.clone(),
        locale: answers.locale.clone(),
        users,
        network: match &answers.network {
            Network::Dhcp => "DHCP".to_owned(),
            Network::Off => "none".to_owned(),
            Network::Static {
                interface,
                address,
                prefix,
                gateway,
                ..
            } => {
                let via = gateway
                    .map(|gateway| format!(" via {gateway}"))
                    .unwrap_or_default();
                format!("{interface} {address}/{prefix}{via}")
            }
        },
        dns: match &answers.network {
            Network::Static { dns, .. } => dns.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        },
        keys: repositories
            .key_files
            .iter()
            .map(|(name, pem)| format!("{name} {}", crate::found::hex(pem)))
            .collect(),
        ssh_keys: std::iter::once(("root", &answers.root))
            .chain(answers.users.iter().map(|user| (user.name.as_str(), &user.login)))
            .flat_map(|(name, login)| login.ssh_keys.iter().map(move |line| (name, line)))
            .map(|(name, line)| format!("{name} {}", crate::found::hex(line.as_bytes())))
            .collect(),
        timeout: answers.timeout,
        services: medium
            .install
            .services
            .iter()
            .chain(&answers.services)
            .cloned()
            .collect(),
        mounts,
        commands,
        boot,
        arguments: arguments.join(" "),
        files,
    })
}

/// Files that are written beside those of packages. What only the packages decide, as whose service sets a static address, is named for each.
fn files(medium: &Medium, answers: &Answers, repositories: &Repositories, encrypted: bool) -> Vec<String> {
    let mut files: Vec<String> = [
        "/etc/hostname",
        "/etc/machine-id (uninitialised)",
        "/etc/fstab",
        "/etc/localtime",
        "/etc/passwd",
        "/etc/group",
        "/etc/shadow",
        "/etc/apk/world",
        "/etc/apk/arch",
        "/etc/apk/repositories",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut put = |there: bool, path: &str| {
        if there {
            files.push(path.to_owned());
        }
    };
    for (name, _) in &repositories.key_files {
        put(true, &format!("/etc/apk/keys/{name}"));
    }
    put(true, "/lib/apk/db");
    put(encrypted, "/etc/crypttab");
    put(answers.keymap.is_some(), "/etc/keymap, or /etc/default/keyboard");
    put(
        answers.locale.is_some(),
        "/etc/locale.conf, /etc/profile.d/locale.sh",
    );
    put(
        answers.users.iter().any(|user| user.admin),
        "/etc/doas.conf (where a package has doas)",
    );
    put(!answers.root.ssh_keys.is_empty(), "/root/.ssh/authorized_keys");
    for user in &answers.users {
        put(true, &format!("/home/{} (from /etc/skel)", user.name));
        put(
            !user.login.ssh_keys.is_empty(),
            &format!("/home/{}/.ssh/authorized_keys", user.name),
        );
    }
    match &answers.network {
        Network::Dhcp => {}
        Network::Off => put(true, "/etc/dinit.d/udhcpc (where a package has it)"),
        Network::Static { dns, .. } => {
            put(
                true,
                "/etc/dhcpcd.conf, or /etc/dinit.d/udhcpc and /etc/lycia/static-network.sh",
            );
            put(!dns.is_empty(), "/etc/resolv.conf (without dhcpcd)");
        }
    }
    put(
        answers.disk.swap_file.is_some(),
        &format!("/{}", crate::swap::FILE),
    );
    put(answers.disk.zram.is_some(), system::ZRAM_FILES);
    for service in medium.install.services.iter().chain(&answers.services) {
        put(true, &format!("/etc/dinit.d/boot.d/{service} (link)"));
    }
    for program in medium.programs().unwrap_or_default() {
        put(true, &format!("/{}", program.0));
    }
    put(true, "/boot/grub (menu, modules)");
    let early = answers
        .keymap
        .as_deref()
        .filter(|_| medium.install.initramfs.keymaps);
    let asks = format!(
        " (asks for the passphrase with the keyboard layout `{}`)",
        early.unwrap_or("us")
    );
    put(
        true,
        &format!(
            "/boot/initramfs-VERSION.img{}",
            if encrypted { asks.as_str() } else { "" }
        ),
    );
    put(
        true,
        &format!("/{} (plan, answers without secrets, log)", crate::log::FOLDER),
    );
    files
}
