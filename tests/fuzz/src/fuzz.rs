//! libFuzzer's program: `LYCIA_FUZZ_TARGET` names the target. `run.sh` builds and starts it.
#![no_main]

use std::sync::LazyLock;

use lycia_fuzz::Target;

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("LYCIA_FUZZ_TARGET").unwrap_or_default();
    lycia_fuzz::target(&name).unwrap_or_else(|| {
        let names: Vec<&str> = lycia_fuzz::targets().map(|target| target.name).collect();
        panic!(
            "LYCIA_FUZZ_TARGET is `{name}`; it must be one of {}",
            names.join(", ")
        )
    })
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    (TARGET.run)(bytes);
});
