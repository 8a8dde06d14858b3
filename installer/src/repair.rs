//! The verb that makes an installed system start again.

use std::path::Path;

use lycia_installer::boot_repair::{self, Broken, Firmware, esp_partition};
use lycia_installer::device::Disk;
use lycia_installer::engine::EngineError;
use lycia_installer::found::look;
use lycia_installer::kernel;
use lycia_installer::medium::Medium;
use lycia_installer::probe::{self, Views, probe};
use lycia_installer::rescue::{self, Kernel, Target};

use crate::verbs::{Failure, ask, other_partitions};

/// How often a disk is tried that is still in use, a tenth of a second apart.
const TRIES: u32 = 50;

/// Opens a disk for writing. An encrypted volume that was in use on it is taken away by the kernel when nobody asks any more: its name goes first, its hold of
/// the disk a moment later.
fn open_when_free(path: &Path, sector: u32) -> std::io::Result<Disk> {
    for _ in 1..TRIES {
        match Disk::open_write(path, sector) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            other => return other,
        }
    }
    Disk::open_write(path, sector)
}

/// Shows what would be written to make a system start, writes it. Gives what is left to say.
pub fn boot_repair(
    one: &Target,
    medium: &Path,
    confirm: Option<&str>,
    dry_run: bool,
) -> Result<String, Failure> {
    let medium = Medium::open(medium).map_err(EngineError::Medium)?;
    let machine = probe(&Views {
        sysfs: "/sys".into(),
        proc: "/proc".into(),
        dev: "/dev".into(),
    })?;
    let dev = Path::new("/dev");
    let disk = machine
        .disks
        .iter()
        .find(|disk| disk.path == one.root.disk)
        .ok_or_else(|| Failure::Refused(format!("{} is gone", one.root.disk)))?;
    let path = dev.join(&disk.name);
    let failed = |doing: &'static str| {
        let path = path.clone();
        move |source| Failure::File { doing, path, source }
    };
    let folder = tempfile::Builder::new()
        .prefix("lycia-repair-")
        .tempdir_in("/run")?;
    let root = folder.path();
    let mut device = Disk::open_read(&path, disk.logical_sector).map_err(failed("opening"))?;
    let mounted = one.mount_alone(&mut Kernel, root)?;
    let esp = look(&mut device)
        .ok()
        .and_then(|found| esp_partition(root, &found))
        .and_then(|(number, _, _)| rescue::mount_esp(&one.root.disk, number, root));
    let efivars = Path::new("/sys/firmware/efi/efivars");
    let others = other_partitions(&machine, disk, dev);
    let firmware = matches!(machine.firmware, probe::Firmware::Uefi { .. }).then_some(Firmware {
        efivars,
        others: &others,
    });
    let command_line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let boot = mounted.boot.as_ref();
    let mut files = || -> Result<Option<boot_repair::Repair>, Failure> {
        let broken = Broken {
            disk: &one.root.disk,
            root,
            root_uuid: &one.root.uuid,
            file_system: &mounted.file_system,
            boot_uuid: boot.map(|boot| boot.uuid.as_str()),
            boot_kind: boot.and_then(|boot| boot.kind.as_deref()),
            volume_uuid: one.root.volume.as_ref().map(|volume| volume.uuid()),
            esp: esp.as_deref(),
            firmware,
            command_line: &command_line,
        };
        let repair = boot_repair::plan(&broken, &medium, &mut device)?;
        print!("{}", repair.text());
        if dry_run || repair.is_done() {
            return Ok(None);
        }
        let typed = match confirm {
            Some(name) => Some(name.to_owned()),
            None => ask(&disk.name)?,
        };
        if typed.as_deref() != Some(disk.name.as_str()) {
            return Err(Failure::Refused(format!(
                "not confirmed: give `--confirm {}`. Nothing was written",
                disk.name
            )));
        }
        repair.write_files(root, esp.as_deref(), &mut device)?;
        Ok(Some(repair))
    };
    let planned = files();
    drop(device);
    // With everything below it.
    let unmounted = rescue::unmount_system(&mut Kernel, root);
    let planned = planned?;
    unmounted?;
    let Some(repair) = planned else {
        return Ok(String::new());
    };
    let mut device = open_when_free(&path, disk.logical_sector).map_err(failed("opening for writing"))?;
    repair.write_disk(&mut device)?;
    let _ = kernel::read_table_again(device.file());
    if let Some(warning) = repair.write_entry(efivars) {
        eprintln!("lycia-install: {warning}");
    }
    Ok(format!("{} starts from {} again\n", one.node(), one.root.disk))
}
