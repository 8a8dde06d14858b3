//! PID 1 of the initramfs. See the library for what it does.
//!
//! The program has its own C `main`: the one of the standard library aborts when standard input, output
//! and error are closed and /dev/null does not exist, which is how the kernel starts an initramfs that
//! carries no device nodes.
#![no_main]

use lycia_init::cmdline::{PARAMETERS, Support};
use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

fn help() {
    println!(
        "lycia-init {}: PID 1 of an initramfs\n\n\
         Usage: /init of an initramfs, started by the kernel as process 1\n       \
         lycia-init --version | --help\n       \
         lycia-init -q -- NAME    (called by the kernel) load a module\n\n\
         Kernel parameters:",
        env!("CARGO_PKG_VERSION")
    );
    for parameter in PARAMETERS
        .iter()
        .filter(|parameter| parameter.support == Support::Works)
    {
        let value = if parameter.value.is_empty() {
            String::new()
        } else {
            format!("={}", parameter.value)
        };
        println!("  {}{value}\n      {}", parameter.name, parameter.help);
    }
    println!("\nExample: boot=live toram live-user=me services=sshd quiet");
}

/// Started by the C library.
///
/// # Safety
/// `values` must point to `count` valid strings that live as long as the program, as C's `main` is given.
// SAFETY: no other function of this program is called `main`, and the C library calls it once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(count: c_int, values: *const *const c_char) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    let arguments: Vec<OsString> = (1..count)
        .map(|index| {
            // SAFETY: the caller promises `count` valid strings, and `index` is below that.
            let value = unsafe { CStr::from_ptr(*values.add(index)) };
            OsStr::from_bytes(value.to_bytes()).to_owned()
        })
        .collect();
    if std::process::id() == 1 {
        lycia_init::boot::run(arguments);
    }
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    match words.as_slice() {
        ["--version" | "-V"] => println!("lycia-init {}", env!("CARGO_PKG_VERSION")),
        ["--help" | "-h"] => help(),
        ["-q", "--", name] => return lycia_init::kmod::modprobe(name),
        _ => {
            eprintln!(
                "lycia-init: this is not process 1. The program is the /init of an initramfs; run on a \
                 working system it would mount over it. See lycia-init --help."
            );
            return 2;
        }
    }
    0
}
