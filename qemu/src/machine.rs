//! The machine a medium is booted on, and QEMU's command line for it.

use crate::accelerator::Accelerator;
use crate::error::Error;
use crate::firmware::{Firmware, FirmwareFiles};
use crate::guest::Guest;
use crate::report::REPORT_PORT;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// The guest's processor architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// A q35 PC.
    X86_64,
    /// QEMU's `virt` board.
    Aarch64,
}

impl Architecture {
    /// As Linux names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// From the name that Linux and Chimera use.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::X86_64, Self::Aarch64]
            .into_iter()
            .find(|each| each.name() == name)
    }

    /// That of this host, where this crate knows it.
    pub fn host() -> Option<Self> {
        Self::from_name(std::env::consts::ARCH)
    }
}

/// How a medium is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediumKind {
    /// An optical drive on virtio-scsi (`/dev/sr0`); cloud kernels have no AHCI. Always read-only.
    Cdrom,
    /// A virtio block device (`/dev/vda`).
    Disk,
    /// A USB stick (`/dev/sda`).
    Usb,
}

/// What happens to the guest's writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Writes {
    /// The device refuses them.
    Refused,
    /// They go to a temporary file and are lost with the guest; the medium's file is not changed.
    Discarded,
    /// They go to the medium's file.
    Kept,
}

/// A file that the machine sees as a drive. Its format is qcow2 if its name ends so, else raw: what is in it is never asked,
/// for a guest can write that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Medium {
    /// An image file, or a block device.
    pub path: PathBuf,
    /// How it is attached.
    pub kind: MediumKind,
    /// What happens to writes.
    pub writes: Writes,
    /// Bytes of a logical and physical sector of a [`MediumKind::Disk`]: 512 or 4096. BIOS boots from 512 alone.
    pub sector: u32,
}

impl Medium {
    /// An image in an optical drive.
    pub fn cdrom(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            kind: MediumKind::Cdrom,
            writes: Writes::Refused,
            sector: 512,
        }
    }

    /// A disk whose writes are kept.
    pub fn disk(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            kind: MediumKind::Disk,
            writes: Writes::Kept,
            sector: 512,
        }
    }

    /// A disk with sectors of 4096 bytes, as their owners see them (4Kn), whose writes are kept.
    pub fn disk_4k(path: impl Into<PathBuf>) -> Self {
        Self {
            sector: 4096,
            ..Self::disk(path)
        }
    }

    /// A disk whose writes are lost with the guest.
    pub fn disk_snapshot(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            kind: MediumKind::Disk,
            writes: Writes::Discarded,
            sector: 512,
        }
    }

    /// An image on a USB stick; writes are lost with the guest.
    pub fn usb(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            kind: MediumKind::Usb,
            writes: Writes::Discarded,
            sector: 512,
        }
    }
}

/// A TCP port of the guest made reachable on 127.0.0.1 of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Forward {
    /// The port on 127.0.0.1.
    pub host: u16,
    /// The port in the guest.
    pub guest: u16,
}

impl Forward {
    /// Forwards a port that is free on 127.0.0.1 now.
    ///
    /// # Errors
    /// No port is free.
    pub fn to(guest: u16) -> Result<Self, Error> {
        let host = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(|source| Error::Host {
                doing: "looking for a free port on 127.0.0.1",
                source,
            })?
            .port();
        Ok(Self { host, guest })
    }
}

/// A TCP port of 127.0.0.1 of the host made reachable for the guest, at 10.0.2.100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// The port at [`Service::ADDRESS`] in the guest's network.
    pub guest: u16,
    /// The port on 127.0.0.1.
    pub host: u16,
}

impl Service {
    /// Where the guest finds services.
    pub const ADDRESS: &str = "10.0.2.100";

    /// Every connection gets a process of its own that passes bytes on in both directions; a channel of QEMU's own would serve one connection only.
    fn option(self) -> String {
        format!(
            ",guestfwd=tcp:{}:{}-cmd:bash -c 'exec 3<>/dev/tcp/127.0.0.1/{}; cat <&3 & cat >&3'",
            Self::ADDRESS,
            self.guest,
            self.host
        )
    }
}

/// What the guest can reach. The outside world is not among the choices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// No network card.
    #[default]
    None,
    /// A network of its own with DHCP (QEMU's user network, restricted), reached only through the forwards.
    Isolated(Vec<Forward>),
    /// The same without forwards, with a TFTP server of QEMU's own that the machine boots from.
    Boot {
        /// The folder that the server has. Nothing is written to it.
        folder: PathBuf,
        /// The file in it that DHCP names.
        file: String,
    },
}

impl Network {
    /// As `-nic` takes it, but for the folder to boot from.
    fn words(&self) -> String {
        match self {
            Network::None => "none".to_owned(),
            Network::Isolated(forwards) => {
                let forwards = forwards
                    .iter()
                    .map(|each| format!(",hostfwd=tcp:127.0.0.1:{}-:{}", each.host, each.guest))
                    .collect::<String>();
                format!("user,model=virtio-net-pci,restrict=on{forwards}")
            }
            Network::Boot { .. } => "user,model=virtio-net-pci,restrict=on".to_owned(),
        }
    }
}

/// A kernel started by QEMU itself, without a boot loader.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirectBoot {
    /// The kernel.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initramfs: Option<PathBuf>,
    /// Its command line.
    pub command_line: String,
}

/// A machine that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The processor.
    pub architecture: Architecture,
    /// What it starts with.
    pub firmware: Firmware,
    /// The UEFI firmware's files; those of the host's packages when absent.
    pub firmware_files: Option<FirmwareFiles>,
    /// Keeps UEFI variables between guests in this file, which is made from the template when absent; otherwise
    /// each guest has its own fresh ones.
    pub uefi_variables: Option<PathBuf>,
    /// Drives, in boot order.
    pub media: Vec<Medium>,
    /// A kernel to start directly in place of the media.
    pub direct_boot: Option<DirectBoot>,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Processors.
    pub cpus: u32,
    /// What the guest can reach.
    pub network: Network,
    /// What the guest can reach of this machine, where it has a network.
    pub services: Vec<Service>,
    /// QEMU ends when the guest reboots.
    pub no_reboot: bool,
    /// Opens a window; otherwise the screen exists only for screenshots.
    pub window: bool,
    /// Seeds QEMU's random numbers (also those of an emulated RDRAND), for runs that repeat. Not for secrets.
    pub seed: Option<u64>,
    /// Sets the guest's real-time clock at its start, UTC, as `2026-01-31T12:00:00`.
    pub start_time: Option<String>,
    /// Keeps the raw bytes of the serial console in this file.
    pub serial_log: Option<PathBuf>,
    /// The accelerator; [`Accelerator::probe`] decides when absent.
    pub accelerator: Option<Accelerator>,
}

/// Where the machine's ends lead.
pub(crate) enum Wiring<'a> {
    /// Connected sockets with these descriptor numbers in QEMU.
    Sockets {
        serial: i32,
        monitor: i32,
        report: i32,
        variables: Option<&'a Path>,
    },
    /// The terminal that QEMU is started from.
    Terminal,
}

impl Machine {
    /// A machine without media: 1 GiB, 2 processors, no network, ending when the guest reboots.
    pub fn new(architecture: Architecture, firmware: Firmware) -> Self {
        Self {
            architecture,
            firmware,
            firmware_files: None,
            uefi_variables: None,
            media: Vec::new(),
            direct_boot: None,
            memory_mib: 1024,
            cpus: 2,
            network: Network::None,
            services: Vec::new(),
            no_reboot: true,
            window: false,
            seed: None,
            start_time: None,
            serial_log: None,
            accelerator: None,
        }
    }

    /// Starts QEMU.
    ///
    /// # Errors
    /// A program, firmware or medium is missing, the machine contradicts itself, or QEMU refuses it.
    pub fn start(&self) -> Result<Guest, Error> {
        Guest::start(self)
    }

    /// The command that boots this machine by hand, its serial console on the terminal, quoted for a shell. UEFI
    /// variables are thrown away at the end.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn command_line(&self) -> Result<String, Error> {
        let program = find_program(self.architecture)?;
        let words = std::iter::once(OsString::from(program)).chain(self.arguments(&Wiring::Terminal)?);
        Ok(words.map(|word| shell_quote(&word)).collect::<Vec<_>>().join(" "))
    }

    /// Runs the machine with its serial console on this process's terminal until it ends. `Ctrl-a x` ends it from
    /// the keyboard, `Ctrl-a c` gives QEMU's monitor.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn run_in_terminal(&self) -> Result<ExitStatus, Error> {
        let mut command = Command::new(find_program(self.architecture)?);
        command.args(self.arguments(&Wiring::Terminal)?);
        let host = |source| Error::Host {
            doing: "running QEMU",
            source,
        };
        crate::process::spawn(command, Vec::new())
            .and_then(|mut child| child.wait())
            .map_err(host)
    }

    pub(crate) fn accelerator(&self) -> Result<Accelerator, Error> {
        match self.accelerator {
            Some(accelerator) => Ok(accelerator),
            None => Accelerator::probe(self.architecture),
        }
    }

    pub(crate) fn firmware_files(&self) -> Result<Option<FirmwareFiles>, Error> {
        match (self.firmware, &self.firmware_files) {
            (Firmware::Bios, _) => Ok(None),
            (Firmware::Uefi, Some(files)) => Ok(Some(files.clone())),
            (Firmware::Uefi, None) => FirmwareFiles::find(self.architecture).map(Some),
        }
    }

    fn check(&self) -> Result<(), Error> {
        let refuse = |why: String| Err(Error::Machine { why });
        if self.architecture == Architecture::Aarch64
            && self.firmware == Firmware::Bios
            && self.direct_boot.is_none()
        {
            return refuse("aarch64 has no BIOS; use UEFI, or boot a kernel directly".into());
        }
        if self.memory_mib < 16 || self.cpus == 0 || self.cpus > 255 {
            return refuse(format!("{} MiB and {} processors", self.memory_mib, self.cpus));
        }
        let forwards = match &self.network {
            Network::None | Network::Boot { .. } => &[][..],
            Network::Isolated(forwards) => forwards,
        };
        if let Some(forward) = forwards
            .iter()
            .find(|forward| forward.host == 0 || forward.guest == 0)
        {
            return refuse(format!("port 0 in {forward:?}"));
        }
        if let Some(time) = &self.start_time {
            let shape = |(at, byte): (usize, u8)| match at {
                4 | 7 => byte == b'-',
                10 => byte == b'T',
                13 | 16 => byte == b':',
                _ => byte.is_ascii_digit(),
            };
            if time.len() != 19 || !time.bytes().enumerate().all(shape) {
                return refuse(format!("the start time {time:?} is not like 2026-01-31T12:00:00"));
            }
        }
        for medium in &self.media {
            if !matches!((medium.kind, medium.sector), (_, 512) | (MediumKind::Disk, 4096)) {
                return refuse(format!(
                    "{} has sectors of {} bytes",
                    medium.path.display(),
                    medium.sector
                ));
            }
            if medium.kind == MediumKind::Cdrom && medium.writes == Writes::Kept {
                return refuse(format!(
                    "{} is a CD: nothing can be written to it",
                    medium.path.display()
                ));
            }
            let metadata = std::fs::metadata(&medium.path).map_err(|source| Error::File {
                doing: "opening the medium",
                path: medium.path.clone(),
                source,
            })?;
            if !metadata.is_file() && !metadata.file_type().is_block_device() {
                return refuse(format!(
                    "{} is neither a file nor a block device",
                    medium.path.display()
                ));
            }
        }
        Ok(())
    }

    /// QEMU's arguments.
    pub(crate) fn arguments(&self, wiring: &Wiring<'_>) -> Result<Vec<OsString>, Error> {
        self.check()?;
        let mut words = Words::default();
        let accelerator = self.accelerator()?;
        words.flag("-nodefaults").flag("-no-user-config");
        words.option(
            "-machine",
            match self.architecture {
                Architecture::X86_64 => "q35",
                Architecture::Aarch64 => "virt",
            },
        );
        words.option("-accel", accelerator.name());
        words.option("-cpu", if accelerator.is_kvm() { "host" } else { "max" });
        words.option("-m", &format!("{}M", self.memory_mib));
        words.option("-smp", &self.cpus.to_string());
        if let Some(files) = self.firmware_files()? {
            words.path(
                "-drive",
                "if=pflash,unit=0,format=raw,readonly=on,file.driver=file,file.filename=",
                &files.code,
            );
            let start = "if=pflash,unit=1,format=raw,file.driver=file,file.filename=";
            match (wiring, &self.uefi_variables) {
                (
                    Wiring::Sockets {
                        variables: Some(variables),
                        ..
                    },
                    _,
                ) => words.path("-drive", start, variables),
                (_, Some(variables)) if variables.exists() => words.path("-drive", start, variables),
                _ => words.path(
                    "-drive",
                    &start.replace("unit=1", "unit=1,snapshot=on"),
                    &files.variables,
                ),
            };
        }
        self.drives(&mut words);
        // A network card takes no place among media: the firmware is told to begin with it.
        words.option(
            "-boot",
            match &self.network {
                Network::Boot { .. } => "menu=off,order=n",
                Network::None | Network::Isolated(_) => "menu=off,strict=on",
            },
        );
        if let Some(boot) = &self.direct_boot {
            words.path("-kernel", "", &boot.kernel);
            if let Some(initramfs) = &boot.initramfs {
                words.path("-initrd", "", initramfs);
            }
            words.option("-append", &boot.command_line);
        }
        if let Network::Boot { folder, file } = &self.network {
            let start = format!(
                "user,model=virtio-net-pci,restrict=on,bootfile={},tftp=",
                file.replace(',', ",,")
            );
            words.path("-nic", &start, folder);
        } else {
            let mut network = self.network.words();
            if matches!(self.network, Network::Isolated(_)) {
                network.extend(self.services.iter().map(|service| service.option()));
            }
            words.option("-nic", &network);
        }
        match self.architecture {
            Architecture::X86_64 => words.option("-vga", "std"),
            // The board has neither a screen nor a keyboard.
            Architecture::Aarch64 => words
                .option("-device", "virtio-gpu-pci")
                .option("-device", "qemu-xhci,id=input")
                .option("-device", "usb-kbd,bus=input.0"),
        };
        if !self.window {
            words.option("-display", "none");
        }
        if self.no_reboot {
            words.flag("-no-reboot");
        }
        if let Some(seed) = self.seed {
            words.option("-seed", &seed.to_string());
        }
        if let Some(time) = &self.start_time {
            words.option("-rtc", &format!("base={time},clock=vm"));
        }
        self.ends(&mut words, wiring);
        Ok(words.0)
    }

    fn drives(&self, words: &mut Words) {
        let has = |kind| self.media.iter().any(|medium| medium.kind == kind);
        if has(MediumKind::Cdrom) {
            words.option("-device", "virtio-scsi-pci,id=scsi");
        }
        if has(MediumKind::Usb) {
            words.option("-device", "qemu-xhci,id=usb");
        }
        for (number, medium) in self.media.iter().enumerate() {
            let writes = match medium.writes {
                Writes::Refused => "readonly=on",
                Writes::Discarded if medium.kind == MediumKind::Cdrom => "readonly=on",
                Writes::Discarded => "snapshot=on",
                Writes::Kept => "readonly=off",
            };
            let qcow2 = medium.path.extension().is_some_and(|ending| ending == "qcow2");
            let format = if qcow2 { "qcow2" } else { "raw" };
            words.path(
                "-drive",
                &format!(
                    "if=none,id=medium{number},format={format},{writes},file.driver=file,file.filename="
                ),
                &medium.path,
            );
            // A kernel that QEMU starts itself has the first place.
            let order = number + usize::from(self.direct_boot.is_some());
            let place = format!("drive=medium{number},bootindex={order}");
            words.option(
                "-device",
                &match medium.kind {
                    MediumKind::Cdrom => format!("scsi-cd,bus=scsi.0,{place}"),
                    MediumKind::Disk if medium.sector != 512 => format!(
                        "virtio-blk-pci,serial=lycia-{number},logical_block_size={0},physical_block_size={0},{place}",
                        medium.sector
                    ),
                    MediumKind::Disk => format!("virtio-blk-pci,serial=lycia-{number},{place}"),
                    MediumKind::Usb => {
                        format!("usb-storage,bus=usb.0,serial=lycia-{number},removable=on,{place}")
                    }
                },
            );
        }
    }

    fn ends(&self, words: &mut Words, wiring: &Wiring<'_>) {
        match wiring {
            Wiring::Sockets {
                serial,
                monitor,
                report,
                ..
            } => {
                let socket = format!("socket,id=serial,fd={serial}");
                match &self.serial_log {
                    Some(log) => words.path("-chardev", &format!("{socket},logappend=off,logfile="), log),
                    None => words.option("-chardev", &socket),
                };
                words
                    .option("-serial", "chardev:serial")
                    .option("-chardev", &format!("socket,id=monitor,fd={monitor}"))
                    .option("-mon", "chardev=monitor,mode=control")
                    // Stopped until its owner is ready.
                    .flag("-S")
                    .option("-chardev", &format!("socket,id=report,fd={report}"))
                    .option("-device", "virtio-serial-pci,id=ports")
                    .option(
                        "-device",
                        &format!("virtserialport,bus=ports.0,nr=1,chardev=report,name={REPORT_PORT}"),
                    );
            }
            Wiring::Terminal => {
                match &self.serial_log {
                    Some(log) => words
                        .path(
                            "-chardev",
                            "stdio,id=serial,mux=on,signal=off,logappend=off,logfile=",
                            log,
                        )
                        .option("-serial", "chardev:serial")
                        .option("-mon", "chardev=serial"),
                    None => words.option("-serial", "mon:stdio"),
                };
            }
        }
    }
}

#[derive(Default)]
struct Words(Vec<OsString>);

impl Words {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    fn option(&mut self, option: &str, value: &str) -> &mut Self {
        self.flag(option).flag(value)
    }

    /// An option whose value ends with a path; with nothing before it, the path is the whole value.
    fn path(&mut self, option: &str, start: &str, path: &Path) -> &mut Self {
        self.flag(option);
        let mut value = OsString::from(start);
        if start.is_empty() {
            value.push(path)
        } else {
            value.push(option_value(path))
        }
        self.0.push(value);
        self
    }
}

/// A path as the value of a key in a QEMU option: commas are doubled.
pub(crate) fn option_value(path: &Path) -> OsString {
    let bytes = path.as_os_str().as_bytes();
    let mut value = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        value.push(byte);
        if byte == b',' {
            value.push(byte);
        }
    }
    OsString::from_vec(value)
}

/// A word quoted for a POSIX shell.
pub(crate) fn shell_quote(word: &OsStr) -> String {
    let text = word.to_string_lossy();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The emulator's path.
pub(crate) fn find_program(architecture: Architecture) -> Result<PathBuf, Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    find_program_in(architecture, std::env::split_paths(&path))
}

fn find_program_in(
    architecture: Architecture,
    directories: impl Iterator<Item = PathBuf>,
) -> Result<PathBuf, Error> {
    let (program, package) = match architecture {
        Architecture::X86_64 => ("qemu-system-x86_64", "qemu-system-x86"),
        Architecture::Aarch64 => ("qemu-system-aarch64", "qemu-system-arm"),
    };
    let executable =
        |path: &PathBuf| path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    directories
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(program))
        .find(executable)
        .ok_or(Error::MissingProgram { program, package })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKETS: Wiring<'_> = Wiring::Sockets {
        serial: 5,
        monitor: 6,
        report: 7,
        variables: None,
    };

    fn words(machine: &Machine, wiring: &Wiring<'_>) -> String {
        let words = machine.arguments(wiring).unwrap();
        words
            .iter()
            .map(|word| shell_quote(word))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn bios() -> Machine {
        Machine {
            accelerator: Some(Accelerator::TCG),
            ..Machine::new(Architecture::X86_64, Firmware::Bios)
        }
    }

    /// A machine for this file, with the part of the command line that differs.
    #[test]
    fn arguments() {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("a,b.iso");
        std::fs::write(&image, b"").unwrap();
        let name = image.to_str().unwrap().replace(',', ",,");
        let firmware = FirmwareFiles {
            code: "/firmware/code.fd".into(),
            variables: "/firmware/vars.fd".into(),
        };

        let plain = words(&bios(), &SOCKETS);
        assert_eq!(
            plain,
            "-nodefaults -no-user-config -machine q35 -accel tcg -cpu max -m 1024M -smp 2 -boot menu=off,strict=on \
             -nic none -vga std -display none -no-reboot -chardev socket,id=serial,fd=5 -serial chardev:serial \
             -chardev socket,id=monitor,fd=6 -mon chardev=monitor,mode=control -S -chardev socket,id=report,fd=7 \
             -device virtio-serial-pci,id=ports \
             -device virtserialport,bus=ports.0,nr=1,chardev=report,name=org.lycia.report"
        );

        type Change<'a> = &'a dyn Fn(&mut Machine);
        let drive = |id: u32, writes: &str| {
            format!("-drive if=none,id=medium{id},format=raw,{writes},file.driver=file,file.filename={name}")
        };
        let table: &[(Change<'_>, Vec<String>)] = &[
            (
                &|machine| machine.media.push(Medium::cdrom(&image)),
                vec![
                    "-device virtio-scsi-pci,id=scsi ".into(),
                    drive(0, "readonly=on"),
                    "-device scsi-cd,bus=scsi.0,drive=medium0,bootindex=0 ".into(),
                ],
            ),
            (
                &|machine| machine.media.extend([Medium::cdrom(&image), Medium::disk(&image)]),
                vec![
                    drive(1, "readonly=off"),
                    "-device virtio-blk-pci,serial=lycia-1,drive=medium1,bootindex=1 ".into(),
                ],
            ),
            (&|machine| machine.media.push(Medium::disk_snapshot(&image)), vec![drive(0, "snapshot=on")]),
            (
                &|machine| machine.media.push(Medium::disk_4k(&image)),
                vec![
                    "-device virtio-blk-pci,serial=lycia-0,logical_block_size=4096,physical_block_size=4096,drive=medium0,bootindex=0 "
                        .into(),
                ],
            ),
            (
                &|machine| {
                    machine.network = Network::Isolated(vec![]);
                    machine.services.push(Service { guest: 80, host: 8080 });
                },
                vec![
                    "restrict=on,guestfwd=tcp:10.0.2.100:80-cmd:bash -c ".into(),
                    "/dev/tcp/127.0.0.1/8080; ".into(),
                ],
            ),
            (
                &|machine| machine.media.push(Medium::usb(&image)),
                vec![
                    "-device qemu-xhci,id=usb ".into(),
                    "-device usb-storage,bus=usb.0,serial=lycia-0,removable=on,drive=medium0,bootindex=0 ".into(),
                ],
            ),
            (
                &|machine| {
                    machine.network =
                        Network::Isolated(vec![Forward { host: 2222, guest: 22 }, Forward { host: 8080, guest: 80 }]);
                },
                vec![
                    "-nic user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:2222-:22,hostfwd=tcp:127.0.0.1:8080-:80 "
                        .into(),
                ],
            ),
            (
                &|machine| {
                    machine.network = Network::Boot {
                        folder: "/kit,1".into(),
                        file: "boot.ipxe".into(),
                    };
                },
                vec![
                    "-boot menu=off,order=n ".into(),
                    "-nic user,model=virtio-net-pci,restrict=on,bootfile=boot.ipxe,tftp=/kit,,1 ".into(),
                ],
            ),
            (
                &|machine| {
                    machine.firmware = Firmware::Uefi;
                    machine.firmware_files = Some(firmware.clone());
                },
                vec![
                    "-drive if=pflash,unit=0,format=raw,readonly=on,file.driver=file,file.filename=/firmware/code.fd "
                        .into(),
                    "-drive if=pflash,unit=1,snapshot=on,format=raw,file.driver=file,file.filename=/firmware/vars.fd "
                        .into(),
                ],
            ),
            (
                &|machine| {
                    machine.architecture = Architecture::Aarch64;
                    machine.firmware = Firmware::Uefi;
                    machine.firmware_files = Some(firmware.clone());
                },
                vec![
                    "-machine virt ".into(),
                    "-device virtio-gpu-pci -device qemu-xhci,id=input -device usb-kbd,bus=input.0 ".into(),
                ],
            ),
            (
                &|machine| {
                    machine.direct_boot = Some(DirectBoot {
                        kernel: "/k,1".into(),
                        initramfs: Some("/i".into()),
                        command_line: "console=ttyS0 quiet".into(),
                    });
                },
                vec!["-kernel /k,1 -initrd /i -append 'console=ttyS0 quiet' ".into()],
            ),
            (
                &|machine| {
                    (machine.seed, machine.memory_mib, machine.cpus) = (Some(3), 512, 1);
                    machine.start_time = Some("2026-01-31T12:00:00".into());
                },
                vec!["-m 512M -smp 1 ".into(), "-seed 3 -rtc base=2026-01-31T12:00:00,clock=vm ".into()],
            ),
            (
                &|machine| machine.accelerator = Some(Accelerator::KVM_IN_ARGV_ONLY),
                vec!["-accel kvm -cpu host ".into()],
            ),
            (
                &|machine| machine.serial_log = Some("/log,1".into()),
                vec!["-chardev socket,id=serial,fd=5,logappend=off,logfile=/log,,1 ".into()],
            ),
        ];
        for (change, parts) in table {
            let mut machine = bios();
            change(&mut machine);
            let line = words(&machine, &SOCKETS);
            for part in parts {
                assert!(line.contains(part.as_str()), "{part}\nis not in\n{line}");
            }
            // The only network there is.
            assert_eq!(line.matches("-nic ").count(), 1);
            assert!(
                line.contains("-nic none") || line.contains("restrict=on"),
                "{line}"
            );
            assert!(!line.contains("-netdev"), "{line}");
        }
        let line = words(&bios(), &Wiring::Terminal);
        assert!(line.ends_with("-no-reboot -serial mon:stdio"), "{line}");
        assert!(!line.contains("fd="), "{line}");
        let open = Machine {
            no_reboot: false,
            window: true,
            ..bios()
        };
        assert!(!words(&open, &SOCKETS).contains("-no-reboot"));
        assert!(!words(&open, &SOCKETS).contains("-display"));
    }

    #[test]
    fn contradictions_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let absent = directory.path().join("absent.iso");
        type Change<'a> = &'a dyn Fn(&mut Machine);
        let table: &[(Change<'_>, &str)] = &[
            (&|machine| machine.architecture = Architecture::Aarch64, "no BIOS"),
            (&|machine| machine.memory_mib = 4, "4 MiB"),
            (&|machine| machine.cpus = 0, "0 processors"),
            (
                &|machine| machine.media.push(Medium::cdrom(&absent)),
                "opening the medium",
            ),
            (
                &|machine| machine.media.push(Medium::cdrom(directory.path())),
                "neither a file nor",
            ),
            (
                &|machine| {
                    machine.media.push(Medium {
                        writes: Writes::Kept,
                        ..Medium::cdrom(&absent)
                    })
                },
                "nothing can be written",
            ),
            (
                &|machine| machine.network = Network::Isolated(vec![Forward { host: 0, guest: 22 }]),
                "port 0",
            ),
            (
                &|machine| machine.start_time = Some("2026-01-31,clock=host".into()),
                "start time",
            ),
            (&|machine| machine.start_time = Some("now".into()), "start time"),
        ];
        for (change, why) in table {
            let mut machine = bios();
            change(&mut machine);
            let message = machine.arguments(&SOCKETS).unwrap_err().to_string();
            assert!(message.contains(why), "{why}: {message}");
        }
    }

    #[test]
    fn missing_programs_name_their_package() {
        let directory = tempfile::tempdir().unwrap();
        let search = |architecture| find_program_in(architecture, [directory.path().to_owned()].into_iter());
        let message = search(Architecture::X86_64).unwrap_err().to_string();
        assert!(
            message.contains("qemu-system-x86_64") && message.ends_with("package qemu-system-x86 has it")
        );
        let message = search(Architecture::Aarch64).unwrap_err().to_string();
        assert!(message.contains("qemu-system-arm"), "{message}");
        // A file that cannot be executed is not a program.
        std::fs::write(directory.path().join("qemu-system-x86_64"), b"").unwrap();
        assert!(search(Architecture::X86_64).is_err());
    }

    #[test]
    fn quoting() {
        for (word, quoted) in [
            ("plain-1.0,a=b", "plain-1.0,a=b"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$x", "'$x'"),
        ] {
            assert_eq!(shell_quote(OsStr::new(word)), quoted);
        }
    }
}
