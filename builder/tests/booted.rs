//! The embedded seed's live ISO boots to a login, with BIOS and UEFI, as CD and as disk, and what runs is what the
//! manifest says.
//!
//! One test for all four ways, one after another: guests under emulation take all the machine has.

#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn the_live_iso_boots_every_way_and_is_what_its_manifest_says() {
    let project = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = tempfile::tempdir().unwrap();
    let lycia = |arguments: &[&str]| {
        let status = Command::new(env!("CARGO_BIN_EXE_lycia"))
            .arg("--project")
            .arg(project)
            .args(arguments)
            .current_dir(output.path())
            .status()
            .unwrap();
        assert!(
            status.success(),
            "lycia {} ended with {status}",
            arguments.join(" ")
        );
    };
    lycia(&["build", "live", "--output", "."]);
    lycia(&[
        "test",
        "live-x86_64.iso",
        "--artifacts",
        "pictures",
        "--limit",
        "600",
    ]);
    for cell in ["bios-cd", "bios-disk", "uefi-cd", "uefi-disk"] {
        for picture in ["menu", "login"] {
            let path = output.path().join(format!("pictures/{cell}-{picture}.png"));
            assert!(path.metadata().unwrap().len() > 500, "{}", path.display());
        }
    }
}
