//! A machine with UEFI and sectors of 4096 bytes: packages from a server, another C library, which is taken back from outside, as is a boot loader that
//! was destroyed; then the running system goes through all allocators.

use std::io::Read as _;
use std::path::Path;

use lycia_qemu::{Architecture, Firmware, Machine, Medium, Network, Service};

use crate::machine::{
    LIMIT, Other, ROOT, ROOT_HASH, USER_HASH, Wanted, allocates, ask, empty, live, logged_in, off, refused,
    whole_root,
};
use crate::stick::{serve, stick};

/// In the order in which the running system goes through them: name, C library's allocator, what is preloaded.
const VARIANTS: [(&str, &str, Option<&str>); 6] = [
    ("mimalloc", "scudo", Some("libmimalloc-global.so")),
    ("mallocng", "mallocng", None),
    ("mimalloc-secure", "scudo", Some("libmimalloc-secure-global.so")),
    ("jemalloc", "scudo", Some("libjemalloc-global.so")),
    ("rpmalloc", "scudo", Some("librpmalloc-global.so")),
    ("scudo", "scudo", None),
];

fn answers(repository: &str) -> String {
    format!(
        "schema = 1
[disk]
select = \"lycia-1\"
layout = \"erase\"
swap-size = \"64M\"
[source]
kind = \"network\"
repositories = [\"v3 ${{mirror}}\"]
mirrors = [\"{repository}/nothing-here\", \"{repository}\"]
[packages]
allocator = \"mallocng\"
[system]
hostname = \"installed\"
timezone = \"Europe/Prague\"
keymap = \"de\"
locale = \"C.UTF-8\"
[network]
kind = \"static\"
interface = \"eth0\"
address = \"10.0.2.77/24\"
gateway = \"10.0.2.2\"
[services]
enable = [\"crond\"]
[root]
password-hash = \"{ROOT_HASH}\"
[[user]]
name = \"tester\"
admin = true
password-hash = \"{USER_HASH}\"
ssh-keys = [\"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEi3bZk2W0cO2pS8xUF2Vhk9oWc5o1mJ8mYxg9T0Qd7e tester\"]
[boot]
serial = \"ttyS0,115200\"
[confirm]
serial = \"lycia-1\"
"
    )
}

pub fn from_a_server(iso: &Path, rescue: &Path, project: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let disk = empty(folder.path(), "disk.img");
    let other = Other::new(folder.path());
    let server = serve(project);
    let repository = format!("http://{}:8080", Service::ADDRESS);
    let answers = stick(folder.path(), &answers(&repository));

    let mut machine = Machine::new(Architecture::X86_64, Firmware::Uefi);
    machine.network = Network::Isolated(vec![]);
    machine.services = vec![Service {
        guest: 8080,
        host: server.port,
    }];
    let media = [
        Medium::disk_4k(&disk),
        Medium::disk(&other.path),
        Medium::disk(&answers.path),
    ];
    let others = [&other, &answers];
    let guest = live(iso, &mut machine, &media, false);
    ask(
        &guest,
        "n=0; until ip -4 addr | grep -q 'inet 10\\.'; do n=$((n+1)); [ $n -lt 120 ] || exit 1; sleep 1; done",
    );
    guest.stage("the plan");
    // Without consent nothing is written.
    refused(&guest, "lycia-install install --answers drive --confirm 0000", 7);
    let mut beginning = vec![1; 1 << 20];
    std::fs::File::open(&disk)
        .and_then(|mut disk| disk.read_exact(&mut beginning))
        .unwrap();
    assert!(beginning.iter().all(|&byte| byte == 0), "something was written");
    guest.stage("the installation");
    let said = ask(&guest, "lycia-install install --answers drive");
    assert!(said.contains(&repository), "{said}");
    off(guest, &others);

    machine.media = media.to_vec();
    let guest = machine.start().unwrap();
    guest.stage("the installed system");
    let wanted = |inside| Wanted {
        allocator: (inside, None),
        root: "/dev/vda",
        swaps: &["/dev/vda2"],
    };
    logged_in(&guest, &wanted("mallocng"));
    let world = ask(&guest, "cat /etc/apk/world /etc/apk/repositories");
    // Of the mirror that had the packages.
    assert!(
        world.contains("musl-mallocng") && world.contains(&repository) && !world.contains("nothing-here"),
        "{world}"
    );
    let configured = ask(
        &guest,
        "cat /etc/keymap; ip -4 addr show dev eth0; ip route; pidof crond; sh -lc 'echo LANG=$LANG'; stat -c '%a %U' /home/tester/.ssh/authorized_keys",
    );
    for wanted in [
        "de\n",
        "10.0.2.77/24",
        "default via 10.0.2.2",
        "LANG=C.UTF-8",
        "600 tester",
    ] {
        assert!(
            configured.replace('\r', "").contains(wanted),
            "{wanted}: {configured}"
        );
    }
    off(guest, &others);

    // From outside, by the rescue medium: the allocator in one command, and what starts the system after the firmware finds nothing any more.
    let guest = live(rescue, &mut machine, &media, false);
    guest.stage("the rescue");
    let systems = ask(&guest, "lycia-install systems");
    assert!(systems.contains("installed"), "{systems}");
    let said = ask(&guest, "lycia-install allocator scudo --system installed");
    assert!(said.contains("the allocator is scudo now"), "{said}");
    ask(
        &guest,
        "mkdir -p /run/found && lycia-install mount /run/found && cd /run/found && rm boot/grub/grub.cfg boot/initramfs-* && cd / && lycia-install unmount /run/found",
    );
    let esp = ask(
        &guest,
        "for p in /dev/vda?; do dd if=$p bs=512 count=1 2>/dev/null | grep -q FAT && echo $p; done; true",
    );
    let esp = esp.trim();
    assert!(esp.starts_with("/dev/vda"), "{esp}");
    ask(&guest, &format!("dd if=/dev/zero of={esp} bs=1M count=8 && sync"));
    let shown = ask(&guest, "lycia-install boot-repair --dry-run");
    assert!(shown.contains("format the EFI system partition"), "{shown}");
    refused(&guest, "lycia-install boot-repair --confirm vdb", 7);
    let said = ask(&guest, "lycia-install boot-repair --confirm vda");
    assert!(said.contains("starts from /dev/vda again"), "{said}");
    off(guest, &others);

    // The medium is in the drive, and the firmware starts the disk.
    machine.media = media.to_vec();
    machine.media.push(Medium::cdrom(iso));
    machine.no_reboot = false;
    let guest = machine.start().unwrap();
    guest.stage("the rescued system");
    logged_in(&guest, &wanted("scudo"));
    let world = ask(&guest, "cat /etc/apk/world");
    assert!(
        !world.contains("mallocng") && !world.contains("safety-override"),
        "{world}"
    );
    guest.stage("all allocators");
    let change = |name: &str| {
        let said = ask(&guest, &format!("lycia-install allocator {name}"));
        assert!(said.contains(&format!("the allocator is {name} now")), "{said}");
        said
    };
    // By its own repository at first; then there is none, and the medium will do when it is there.
    for (name, inside, preloaded) in &VARIANTS[..3] {
        assert!(!change(name).contains("the medium is taken"));
        allocates(&guest, (inside, *preloaded), false);
    }
    drop(server);
    let said = refused(&guest, "lycia-install allocator jemalloc", 7);
    assert!(said.contains("--medium"), "{said}");
    ask(
        &guest,
        "mkdir -p /run/live/medium; modprobe -a sr_mod isofs; mount -t iso9660 -o ro /dev/sr0 /run/live/medium",
    );
    for (name, inside, preloaded) in &VARIANTS[3..] {
        assert!(change(name).contains("the medium is taken"));
        allocates(&guest, (inside, *preloaded), false);
    }
    // What was chosen is what the next start has, in services as well.
    let (name, inside, preloaded) = VARIANTS[2];
    change(name);
    guest.serial.send_line("reboot").unwrap();
    guest.stage("the next start");
    guest.serial.expect("login:", LIMIT).unwrap();
    guest.serial.login("root", ROOT, LIMIT).unwrap();
    allocates(&guest, (inside, preloaded), true);
    off(guest, &others);
    whole_root(&disk, 4096);
}
