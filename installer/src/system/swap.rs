//! Compressed swap in memory of the installed system.

use std::fmt::Write as _;

use super::configure::{ConfigureError, Configured, Writer};

/// Where newer releases of Chimera's dinit services read it.
const CHIMERA: &str = "etc/dinit-zram.conf.d/lycia-install.conf";

/// What [`zram`] writes, in words.
pub(crate) const FILES: &str =
    "/etc/lycia/zram.sh and /etc/dinit.d/lycia-zram, or what dinit-chimera's zram-device reads";

/// Sets a zram device of `size` bytes up as swap of high priority; adds its line to `fstab` where the distribution wants one.
pub(super) fn zram(writer: &mut Writer<'_>, size: u64, fstab: &mut String) -> Configured {
    if writer.there("usr/lib/dinit.d/zram-device")? {
        // dinit-chimera's service: an INI file, a service of the device's name, and swap as of any other device.
        writer.put(
            CHIMERA,
            0o644,
            format!("# Written by lycia-install.\n[zram0]\nsize = {size}\nalgorithm = zstd\nformat = mkswap -U clear %0\n"),
        )?;
        writer.put("etc/modules-load.d/zram.conf", 0o644, "zram\n")?;
        lycia_root::services::enable(writer.tree, "zram-device@zram0", writer.time)?;
        let _ = writeln!(fstab, "/dev/zram0  none  swap  sw,pri=100,nofail  0  0");
        return Ok(());
    }
    if !writer.there("usr/lib/dinit.d/early-swap")? || !writer.there("usr/bin/mkswap")? {
        return Err(ConfigureError::Impossible {
            key: "disk.zram-size",
            what: "no package sets compressed swap up (dinit-chimera's zram-device, or the seed's services with mkswap)"
                .to_owned(),
        });
    }
    writer.put(
        "etc/lycia/zram.sh",
        0o755,
        format!(
            "#!/bin/sh\n# Compressed swap in memory, written by lycia-install.\nset -eu\nexport PATH=/usr/bin\n\ncase ${{1:-}} in\nstart)\n    \
             modprobe zram\n    echo 1 > /sys/block/zram0/reset\n    \
             # Not every kernel has it; its own choice will do then.\n    \
             echo zstd > /sys/block/zram0/comp_algorithm 2> /dev/null || true\n    \
             echo {size} > /sys/block/zram0/disksize\n    mkswap /dev/zram0 > /dev/null\n    swapon -p 100 /dev/zram0\n    ;;\nstop)\n    \
             swapoff /dev/zram0\n    echo 1 > /sys/block/zram0/reset\n    ;;\n*)\n    echo 'usage: zram.sh start|stop' >&2\n    exit 2\n    ;;\nesac\n"
        ),
    )?;
    writer.put(
        "etc/dinit.d/lycia-zram",
        0o644,
        "# Compressed swap in memory, as chosen when this system was installed.\ntype = scripted\ncommand = /etc/lycia/zram.sh start\n\
         stop-command = /etc/lycia/zram.sh stop\ndepends-on: early-fs-local.target\nbefore: local.target\n",
    )?;
    lycia_root::services::enable(writer.tree, "lycia-zram", writer.time)?;
    Ok(())
}
