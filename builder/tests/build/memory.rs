//! A root of any size is built in little memory.

use std::process::Stdio;

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
        // It is waited for by `wait4`, which tells its memory, too.
        #[allow(clippy::zombie_processes)]
        let child = command.spawn().unwrap();
        let (mut status, mut usage) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
        // SAFETY: both places are of this function and live as long as the call; the child is ours, and nobody else waits.
        let waited = unsafe { libc::wait4(child.id() as i32, &raw mut status, 0, usage.as_mut_ptr()) };
        assert!(waited > 0 && status == 0, "{outputs} {tables}: {status}");
        // SAFETY: zeros are a value of every field, and the call filled them in.
        let peak = unsafe { usage.assume_init() }.ru_maxrss as u64 * 1024;
        println!("{outputs} {tables:?}: {} MiB", peak >> 20);
        assert!(peak < MOST, "{outputs} {tables}: {} MiB resident", peak >> 20);
    }
}
