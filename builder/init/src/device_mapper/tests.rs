//! Requests as bytes, and their order.

use super::request::{
    BUFFER_FULL, DEFERRED_REMOVE, REQUEST_MAX, SECURE_DATA, VERSION, header, put_u64, spec, u32_at,
};
use super::*;
use proptest::prelude::*;
use std::cell::RefCell;
use std::process::Command;

const VERITY: &str = "1 /dev/loop0 /dev/loop0 4096 4096 10 11 sha256 aabb -";

fn mapping<'a>(targets: &'a [Target<'a>]) -> Mapping<'a> {
    Mapping {
        name: "live",
        uuid: "CRYPT-VERITY-0011-live",
        read_only: true,
        secret: false,
        targets,
    }
}

const TWO: &[Target<'static>] = &[
    Target {
        start: 0,
        sectors: 80,
        kind: "verity",
        parameters: VERITY,
    },
    Target {
        start: 80,
        sectors: 16,
        kind: "linear",
        parameters: "7:1 32",
    },
];

/// Builds the same requests with the structures of the header, and prints them with the numbers of the ioctls.
const ORACLE: &str = r#"
#include <linux/dm-ioctl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
static union { char bytes[1024]; struct dm_ioctl head; } b;
static void begin(void) {
    memset(&b, 0, sizeof b);
    b.head.version[0] = DM_VERSION_MAJOR;
    b.head.data_size = b.head.data_start = sizeof b.head;
    strcpy(b.head.name, "live");
}
static void show(void) {
    for (unsigned i = 0; i < b.head.data_size; i++) printf("%02x", (unsigned char)b.bytes[i]);
    puts("");
}
static void add(unsigned long long start, unsigned long long sectors, const char *type, const char *words) {
    struct dm_target_spec *spec = (void *)(b.bytes + b.head.data_size);
    spec->sector_start = start;
    spec->length = sectors;
    strcpy(spec->target_type, type);
    strcpy((char *)(spec + 1), words);
    spec->next = (sizeof *spec + strlen(words) + 1 + 7) / 8 * 8;
    b.head.data_size += spec->next;
    b.head.target_count++;
}
int main(void) {
    printf("%lx %lx %lx %lx %lx\n", (long)DM_DEV_CREATE, (long)DM_DEV_REMOVE, (long)DM_DEV_SUSPEND,
           (long)DM_TABLE_LOAD, (long)DM_TABLE_STATUS);
    printf("%d %d %d %d\n", DM_NAME_LEN, DM_UUID_LEN, DM_MAX_TYPE_NAME, DM_VERSION_MAJOR);
    printf("%x %x %x %x %x\n", DM_READONLY_FLAG, DM_STATUS_TABLE_FLAG, DM_BUFFER_FULL_FLAG, DM_SECURE_DATA_FLAG, DM_DEFERRED_REMOVE);
    begin(); strcpy(b.head.uuid, "CRYPT-VERITY-0011-live"); show();
    begin(); b.head.flags = DM_READONLY_FLAG;
    add(0, 80, "verity", "1 /dev/loop0 /dev/loop0 4096 4096 10 11 sha256 aabb -");
    add(80, 16, "linear", "7:1 32"); show();
    begin(); b.head.flags = DM_READONLY_FLAG; show();
    begin(); b.head.dev = 0x12345678; show();
    return 0;
}
"#;

fn hex(bytes: &[u8]) -> String {
    crate::digest::hex(bytes)
}

#[test]
fn requests_are_what_a_c_compiler_makes_of_the_header() {
    let folder = tempfile::tempdir().unwrap();
    let (source, program) = (folder.path().join("dm.c"), folder.path().join("dm"));
    std::fs::write(&source, ORACLE).unwrap();
    let compiled = Command::new("cc")
        .arg("-o")
        .args([&program, &source])
        .status()
        .expect("this test needs the Debian packages gcc and linux-libc-dev");
    assert!(
        compiled.success(),
        "this test needs the Debian package linux-libc-dev"
    );
    let output = String::from_utf8(Command::new(&program).output().unwrap().stdout).unwrap();
    let dev = {
        let mut buffer = plain("live", "", 0).unwrap();
        put_u64(&mut buffer, header::DEV, 0x1234_5678);
        buffer
    };
    let requests = [
        Request::Create,
        Request::Remove,
        Request::Resume,
        Request::LoadTable,
        Request::TableStatus,
    ];
    let expected = [
        requests.map(|request| format!("{:x}", request.code())).join(" "),
        format!(
            "{} {} {} {}",
            NAME_MAX + 1,
            UUID_MAX + 1,
            TYPE_MAX + 1,
            VERSION[0]
        ),
        format!("{READ_ONLY:x} {STATUS_TABLE:x} {BUFFER_FULL:x} {SECURE_DATA:x} {DEFERRED_REMOVE:x}"),
        hex(&plain("live", "CRYPT-VERITY-0011-live", 0).unwrap()),
        hex(&table(&mapping(TWO)).unwrap()),
        hex(&plain("live", "", READ_ONLY).unwrap()),
        hex(&dev),
    ];
    assert_eq!(output.lines().collect::<Vec<_>>(), expected);
}

/// Records requests, and answers as it was told.
struct Fake {
    seen: RefCell<Vec<(Request, Vec<u8>)>>,
    fails: Option<(Request, i32)>,
}

impl Fake {
    fn new(fails: Option<(Request, i32)>) -> DeviceMapper<Self> {
        DeviceMapper::with(Self {
            seen: RefCell::default(),
            fails,
        })
    }
}

impl Requests for Fake {
    fn send(&self, request: Request, buffer: &mut [u8]) -> io::Result<()> {
        self.seen.borrow_mut().push((request, buffer.to_vec()));
        match self.fails {
            Some((failing, error)) if failing == request => Err(io::Error::from_raw_os_error(error)),
            _ => {
                put_u64(buffer, header::DEV, (254 << 8) | 3 | (1 << 20));
                Ok(())
            }
        }
    }
}

fn order(mapper: &DeviceMapper<Fake>) -> Vec<Request> {
    mapper
        .requests
        .seen
        .borrow()
        .iter()
        .map(|(request, _)| *request)
        .collect()
}

#[test]
fn a_device_is_created_loaded_and_started() {
    let mapper = Fake::new(None);
    let device = mapper.start(&mapping(TWO)).unwrap();
    assert_eq!(
        device,
        MappedDevice {
            node: "/dev/mapper/live".into(),
            major: 254,
            minor: 259,
        }
    );
    assert_eq!(
        order(&mapper),
        [Request::Create, Request::LoadTable, Request::Resume]
    );
}

#[test]
fn what_fails_leaves_nothing_and_says_what_it_was() {
    for (request, error, order_then, text) in [
        (
            Request::Create,
            libc::EBUSY,
            vec![Request::Create],
            "creating the mapped device `live`: Device or resource busy (os error 16); a device of that name or UUID is there already",
        ),
        (
            Request::LoadTable,
            libc::EINVAL,
            vec![Request::Create, Request::LoadTable, Request::Remove],
            "loading the table of the mapped device `live`: Invalid argument (os error 22); the kernel log says which word of the \
                 table is wrong, or which module is missing (dm-verity, dm-crypt)",
        ),
        (
            Request::Resume,
            libc::EIO,
            vec![
                Request::Create,
                Request::LoadTable,
                Request::Resume,
                Request::Remove,
            ],
            "starting the mapped device `live`: Input/output error (os error 5); the kernel log may say more",
        ),
    ] {
        let mapper = Fake::new(Some((request, error)));
        assert_eq!(mapper.start(&mapping(TWO)).unwrap_err().to_string(), text);
        assert_eq!(order(&mapper), order_then);
    }
}

#[test]
fn a_device_in_use_is_asked_for_a_bounded_time() {
    let mapper = Fake::new(Some((Request::Remove, libc::EBUSY)));
    assert!(
        mapper
            .remove("live")
            .unwrap_err()
            .to_string()
            .contains("it is in use")
    );
    assert_eq!(order(&mapper).len(), REMOVE_TRIES as usize);
}

#[test]
fn a_device_that_is_to_go_later_is_asked_for_once() {
    let mapper = Fake::new(None);
    mapper.remove_when_closed("live").unwrap();
    assert_eq!(order(&mapper), [Request::Remove]);
    let flags = u32_at(&mapper.requests.seen.borrow()[0].1, header::FLAGS);
    assert_eq!(flags, Some(DEFERRED_REMOVE));
    let gone = Fake::new(Some((Request::Remove, libc::ENXIO)));
    let error = gone.remove_when_closed("live").unwrap_err().to_string();
    assert!(error.contains("there is no such device"), "{error}");
}

#[test]
fn a_table_with_a_key_is_marked_and_never_shown() {
    let targets = [Target {
        start: 0,
        sectors: 8,
        kind: "crypt",
        parameters: "aes-xts-plain64 00ff 0 /dev/vda 32768",
    }];
    let secret = Mapping {
        secret: true,
        ..mapping(&targets)
    };
    assert!(!format!("{secret:?}").contains("00ff"));
    let flags = u32_at(&table(&secret).unwrap(), header::FLAGS).unwrap();
    assert_eq!(flags, READ_ONLY | SECURE_DATA);
    let zero = [Target {
        parameters: "00ff\0",
        ..targets[0]
    }];
    let error = table(&mapping(&zero)).unwrap_err().to_string();
    assert!(!error.contains("00ff") && error.contains("zero byte"), "{error}");
}

#[test]
fn words_that_no_request_can_carry_are_refused() {
    let long = "x".repeat(300);
    for name in ["", "a/b", ".", "..", "control", "a\0", long.as_str()] {
        assert!(plain(name, "", 0).is_err(), "{name}");
    }
    assert!(plain(&"x".repeat(NAME_MAX), &"y".repeat(UUID_MAX), 0).is_ok());
    assert!(plain("x", &"y".repeat(UUID_MAX + 1), 0).is_err());
    let much = "w ".repeat(REQUEST_MAX);
    for targets in [
        vec![],
        vec![Target { sectors: 0, ..TWO[0] }],
        vec![Target { start: 8, ..TWO[0] }],
        vec![TWO[0], Target { start: 81, ..TWO[1] }],
        vec![
            TWO[0],
            Target {
                sectors: u64::MAX,
                ..TWO[1]
            },
        ],
        vec![Target {
            kind: "sixteen-letters-",
            ..TWO[0]
        }],
        vec![Target {
            parameters: &much,
            ..TWO[0]
        }],
    ] {
        assert!(table(&mapping(&targets)).is_err(), "{targets:?}");
    }
}

/// An answer as the kernel gives it: each entry's `next` counts from the first.
fn answer(texts: &[&str]) -> Vec<u8> {
    let mut buffer = plain("live", "", 0).unwrap();
    put_u32(&mut buffer, header::TARGET_COUNT, texts.len() as u32);
    for text in texts {
        let at = buffer.len();
        let size = (spec::SIZE + text.len() + 1).next_multiple_of(8);
        buffer.resize(at + size, 0);
        buffer[at + spec::SIZE..at + spec::SIZE + text.len()].copy_from_slice(text.as_bytes());
        put_u32(&mut buffer, at + spec::NEXT, (at + size - header::SIZE) as u32);
    }
    buffer.resize(buffer.len() + 64, 0);
    buffer
}

#[test]
fn answers_are_read() {
    assert_eq!(answers(&answer(&[])).unwrap(), [""; 0]);
    assert_eq!(answers(&answer(&["V"])).unwrap(), ["V"]);
    assert_eq!(
        answers(&answer(&["C", "a much longer one", ""])).unwrap(),
        ["C", "a much longer one", ""]
    );
    let mut full = answer(&["V"]);
    put_u32(&mut full, header::FLAGS, BUFFER_FULL);
    assert!(answers(&full).is_err());
    let mut circle = answer(&["V", "V"]);
    put_u32(&mut circle, header::SIZE + spec::NEXT, 0);
    assert!(answers(&circle).is_err());
}

#[test]
fn device_numbers_are_taken_apart_as_the_kernel_puts_them_together() {
    for (major, minor) in [(253, 0), (254, 255), (254, 256), (4095, 0xf_ffff)] {
        let dev: u64 = (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12);
        assert_eq!(device_numbers(dev), (major as u32, minor as u32));
    }
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic(mut buffer in proptest::collection::vec(any::<u8>(), 0..700), count in 0u32..5, next in 0u32..400) {
        if buffer.len() > header::SIZE + spec::SIZE {
            put_u32(&mut buffer, header::FLAGS, 0);
            put_u32(&mut buffer, header::DATA_START, header::SIZE as u32);
            put_u32(&mut buffer, header::TARGET_COUNT, count);
            put_u32(&mut buffer, header::SIZE + spec::NEXT, next);
        }
        let _ = answers(&buffer);
    }
}
