//! A root of any size is built in little memory.

use std::process::Stdio;
use std::time::Duration;

use crate::small::Small;

/// Bytes of the files of the root.
const FILES: [u64; 3] = [200 << 20, 150 << 20, 50 << 20];
/// Most that the program may have resident: that of the largest promise, for a root of 600 MB.
const MOST: u64 = 256 << 20;

#[test]
fn a_root_larger_than_the_memory_promised_is_built_within_it() {
    let small = Small::new(1 << 20);
    for (number, length) in FILES.into_iter().enumerate() {
        let path = small.path(&format!("overlays/extra/usr/share/large/{number}"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Holes here, bytes as others for the build: they are copied, hashed and looked at, and take no time to compress.
        std::fs::File::create(path).unwrap().set_len(length).unwrap();
    }
    assert!(FILES.iter().sum::<u64>() > MOST);
    // Contents of which each piece is another, for as many threads as take the most.
    let mut state = 88_172_645_463_325_252u64;
    let mut noise = Vec::with_capacity(24 << 20);
    while noise.len() < 24 << 20 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        noise.extend_from_slice(format!("{:06x} ", state & 0xff_ffff).as_bytes());
    }
    std::fs::write(small.path("overlays/extra/usr/share/large/words"), &noise).unwrap();
    drop(noise);
    let disk = "[disk]\nplatform = \"plain\"\n";
    for (outputs, tables) in [
        ("\"iso\"", String::new()),
        ("\"tar\"", "[tar]\ncompression = \"zstd\"\nlevel = 1\n".to_owned()),
        (
            "\"tar\"",
            "[tar]\ncompression = \"zstd\"\nlevel = 19\n".to_owned(),
        ),
        ("\"tar\"", "[tar]\ncompression = \"xz\"\nlevel = 1\n".to_owned()),
        ("\"tar\"", "[tar]\ncompression = \"gzip\"\nlevel = 1\n".to_owned()),
        ("\"disk\"", disk.to_owned()),
        ("\"disk\"", format!("{disk}formats = [\"xz\"]\nlevel = 0\n")),
        ("\"oci\"", "[oci]\ncompression = \"zstd\"\nlevel = 3\n".to_owned()),
    ] {
        small.write(
            "configs/platforms/plain.toml",
            "summary = \"A root\"\narchitectures = [\"x86_64\"]\n[table]\nkind = \"gpt\"\n[boot]\nloader = \"none\"\n\
             [[partition]]\nname = \"root\"\ntype = \"linux-root-x86_64\"\nfile-system = \"ext4\"\nmount = \"/\"\n",
        );
        small.write(
            "configs/images/small.toml",
            &format!(
                "repositories = [\"local\"]\npackages = [\"kernel\", \"filler\"]\noverlays = [\"extra\"]\noutputs = [{outputs}]\n\
                 [initramfs]\nlevel = 3\n[squashfs]\nlevel = 3\n{tables}"
            ),
        );
        let mut command = small.build();
        command
            .args(["--jobs", "8", "--output"])
            .arg(small.path("output"))
            .stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut peak = 0;
        let status = loop {
            // Of the program alone: what wait4(2) tells includes this process, which the child was before it became the program, and other tests are large.
            peak = high_water(child.id()).map_or(peak, |now| now.max(peak));
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success() && peak > 0, "{outputs} {tables}: {status}");
        println!("{outputs} {tables:?}: {} MiB", peak >> 20);
        assert!(peak < MOST, "{outputs} {tables}: {} MiB resident", peak >> 20);
    }
}

/// Most bytes that a process had resident (`VmHWM`, proc(5)), once it is the program.
fn high_water(process: u32) -> Option<u64> {
    let program = std::fs::read_link(format!("/proc/{process}/exe")).ok()?;
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    (program.file_name()? == "lycia").then_some(kilobytes * 1024)
}
