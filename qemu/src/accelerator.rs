//! Chooses between KVM and QEMU's own translator (TCG).
//!
//! That `/dev/kvm` opens says little: in a container or a nested guest it may fail or hang later. So a tiny guest must
//! answer under KVM before a real one is started under it, and even then KVM has to be asked for: there are hosts
//! where the tiny guest answered and a Linux kernel hung.

use crate::error::Error;
use crate::machine::Architecture;
use crate::process::{self, deadline};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// Environment variable that decides: `tcg`, which is also meant where it is unset; `auto`, KVM where a test guest
/// answers under it; or `kvm`, which is an error where none does.
pub const ACCELERATOR_VARIABLE: &str = "LYCIA_QEMU_ACCEL";

/// How long the tiny guest may take. Under a working KVM it takes less than a second.
const PROBE_LIMIT: Duration = Duration::from_secs(4);

/// How guest code is executed. KVM comes from [`probe`](Self::probe) only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Accelerator(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Tcg,
    Kvm,
}

/// An accelerator and why it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The choice.
    pub accelerator: Accelerator,
    /// The reason, in one sentence without a full stop.
    pub reason: String,
}

impl Accelerator {
    /// QEMU's translator: slow, everywhere.
    pub const TCG: Self = Self(Kind::Tcg);

    /// The accelerator for guests of `architecture`, as [`ACCELERATOR_VARIABLE`] says. Where KVM may be used, it is
    /// tried once per process, which takes a few seconds at most.
    ///
    /// # Errors
    /// [`ACCELERATOR_VARIABLE`] has an unknown value, or asks for KVM where it does not work.
    pub fn probe(architecture: Architecture) -> Result<Self, Error> {
        Self::explain(architecture).map(|probe| probe.accelerator)
    }

    /// As [`probe`](Self::probe), with the reason.
    ///
    /// # Errors
    /// As [`probe`](Self::probe).
    pub fn explain(architecture: Architecture) -> Result<Probe, Error> {
        choose(std::env::var_os(ACCELERATOR_VARIABLE), || kvm(architecture))
    }

    /// As QEMU names it: `kvm` or `tcg`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Tcg => "tcg",
            Kind::Kvm => "kvm",
        }
    }

    /// Whether guest code runs on the processor itself.
    pub fn is_kvm(self) -> bool {
        self.0 == Kind::Kvm
    }

    #[cfg(test)]
    pub(crate) const KVM_IN_ARGV_ONLY: Self = Self(Kind::Kvm);
}

fn choose(
    wanted: Option<std::ffi::OsString>,
    kvm: impl FnOnce() -> Result<Duration, String>,
) -> Result<Probe, Error> {
    let tcg = |reason| Probe {
        accelerator: Accelerator::TCG,
        reason,
    };
    let answered = |time: Duration| Probe {
        accelerator: Accelerator(Kind::Kvm),
        reason: format!("a test guest answered under KVM after {} ms", time.as_millis()),
    };
    match wanted.as_ref().map(|value| value.to_str()) {
        None | Some(Some("")) => Ok(tcg(format!(
            "KVM is used only where {ACCELERATOR_VARIABLE} asks for it: a test guest can answer where a real one hangs"
        ))),
        Some(Some("auto")) => Ok(kvm().map_or_else(tcg, answered)),
        Some(Some("tcg")) => Ok(tcg(format!("{ACCELERATOR_VARIABLE} says so"))),
        Some(Some("kvm")) => kvm().map(answered).map_err(|why| Error::Accelerator {
            why: format!("{ACCELERATOR_VARIABLE} asks for KVM, but {why}; unset it or set it to tcg"),
        }),
        Some(_) => Err(Error::Accelerator {
            why: format!("{ACCELERATOR_VARIABLE} is {wanted:?}; it may be tcg, auto, kvm or unset"),
        }),
    }
}

/// How long a test guest took under KVM, or why there is none; found out once.
fn kvm(architecture: Architecture) -> Result<Duration, String> {
    static X86_64: OnceLock<Result<Duration, String>> = OnceLock::new();
    static AARCH64: OnceLock<Result<Duration, String>> = OnceLock::new();
    let result = match architecture {
        Architecture::X86_64 => &X86_64,
        Architecture::Aarch64 => &AARCH64,
    };
    result
        .get_or_init(|| {
            if Architecture::host() != Some(architecture) {
                return Err(format!("this host is not {}", architecture.name()));
            }
            let wanted = rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK;
            rustix::fs::access("/dev/kvm", wanted).map_err(|error| format!("/dev/kvm: {error}"))?;
            answer(architecture, "kvm", PROBE_LIMIT)
        })
        .clone()
}

/// A boot sector that writes 0x2a to QEMU's debug exit port, which makes QEMU end with status 0x2a * 2 + 1.
fn boot_sector() -> [u8; 512] {
    let mut sector = [0; 512];
    // mov al, 0x2a; out 0xf4, al; hlt; jmp to the hlt
    sector[..7].copy_from_slice(&[0xb0, 0x2a, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd]);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// A bare image: movz w0, #8; movk w0, #0x8400, lsl #16 (PSCI SYSTEM_OFF, Arm DEN 0022); hvc #0; b to itself. QEMU
/// ends with status 0.
fn bare_image() -> Vec<u8> {
    [0x5280_0100u32, 0x72b0_8000, 0xd400_0002, 0x1400_0000]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
}

/// Starts the test guest under `accelerator` and measures how long it takes.
fn answer(architecture: Architecture, accelerator: &str, limit: Duration) -> Result<Duration, String> {
    let program = crate::machine::find_program(architecture).map_err(|error| error.to_string())?;
    let mut guest = tempfile::NamedTempFile::new().map_err(|error| format!("a temporary file: {error}"))?;
    let (code, expected) = match architecture {
        Architecture::X86_64 => (boot_sector().to_vec(), 0x2a * 2 + 1),
        Architecture::Aarch64 => (bare_image(), 0),
    };
    guest
        .write_all(&code)
        .map_err(|error| format!("a temporary file: {error}"))?;
    let mut command = probe_command(&program, architecture, accelerator, guest.path());
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0);
    let started = Instant::now();
    let mut child = process::spawn(command, Vec::new()).map_err(|error| format!("starting QEMU: {error}"))?;
    let deadline = deadline(limit);
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.code() == Some(expected) => return Ok(started.elapsed()),
            Ok(Some(status)) => return Err(format!("a test guest failed under {accelerator} ({status})")),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
            Ok(None) => {
                process::kill(child);
                return Err(format!(
                    "a test guest did not answer under {accelerator} within {limit:?}"
                ));
            }
            Err(error) => {
                process::kill(child);
                return Err(format!("waiting for a test guest: {error}"));
            }
        }
    }
}

fn probe_command(program: &Path, architecture: Architecture, accelerator: &str, guest: &Path) -> Command {
    let mut command = Command::new(program);
    let cpu = if accelerator == "kvm" { "host" } else { "max" };
    command.args([
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-nic",
        "none",
        "-display",
        "none",
    ]);
    command.args(["-accel", accelerator, "-cpu", cpu, "-m", "64"]);
    match architecture {
        Architecture::X86_64 => {
            let mut drive = std::ffi::OsString::from(
                "if=ide,format=raw,readonly=off,snapshot=on,file.driver=file,file.filename=",
            );
            drive.push(crate::machine::option_value(guest));
            command
                .args([
                    "-machine",
                    "pc",
                    "-device",
                    "isa-debug-exit,iobase=0xf4,iosize=1",
                    "-drive",
                ])
                .arg(drive);
        }
        Architecture::Aarch64 => {
            command.args(["-machine", "virt", "-kernel"]).arg(guest);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_decides() {
        let works = || Ok(Duration::from_millis(300));
        let fails = || Err("it hangs".to_owned());
        let never = || panic!("KVM is touched");
        assert!(choose(Some("auto".into()), works).unwrap().accelerator.is_kvm());
        let fallback = choose(Some("auto".into()), fails).unwrap();
        assert_eq!(
            (fallback.accelerator, fallback.reason.as_str()),
            (Accelerator::TCG, "it hangs")
        );
        assert_eq!(
            choose(Some("tcg".into()), never).unwrap().accelerator,
            Accelerator::TCG
        );
        assert!(choose(Some("kvm".into()), works).unwrap().accelerator.is_kvm());
        let message = choose(Some("kvm".into()), fails).unwrap_err().to_string();
        assert!(
            message.contains("it hangs") && message.contains(ACCELERATOR_VARIABLE),
            "{message}"
        );
        assert_eq!(choose(None, never).unwrap().accelerator, Accelerator::TCG);
        assert!(choose(Some("KVM".into()), never).is_err());
        assert_eq!(
            choose(Some("".into()), fails).unwrap().accelerator,
            Accelerator::TCG
        );
    }

    #[test]
    fn a_foreign_architecture_does_not_touch_kvm() {
        let foreign = match Architecture::host() {
            Some(Architecture::X86_64) => Architecture::Aarch64,
            _ => Architecture::X86_64,
        };
        assert!(kvm(foreign).unwrap_err().contains("this host is not"));
    }

    /// The guest that decides does answer where it can run, so that its silence means something.
    #[test]
    fn the_test_guest_answers_under_tcg() {
        for architecture in [Architecture::X86_64, Architecture::Aarch64] {
            answer(architecture, "tcg", Duration::from_secs(60)).unwrap();
        }
    }

    #[test]
    fn a_guest_that_cannot_answer_is_killed_in_time() {
        let started = Instant::now();
        let why = answer(Architecture::X86_64, "tcg", Duration::from_millis(1)).unwrap_err();
        assert!(why.contains("did not answer under tcg within 1ms"), "{why}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn the_probe_ends_within_its_limit() {
        let started = Instant::now();
        let result = kvm(Architecture::X86_64);
        assert!(
            started.elapsed() < PROBE_LIMIT + Duration::from_secs(8),
            "{:?}",
            started.elapsed()
        );
        let again = Instant::now();
        assert_eq!(kvm(Architecture::X86_64), result);
        assert!(again.elapsed() < Duration::from_millis(100), "the result is kept");
        if let Err(why) = result {
            assert_eq!(
                choose(Some("auto".into()), || Err(why)).unwrap().accelerator,
                Accelerator::TCG
            );
        }
    }
}
