//! A guest of 512 bytes: writes a message on the serial port and the VGA text screen, then writes back what it gets
//! from the serial port and the keyboard. Escape powers it off.

/// What the guest writes first, with a terminal sequence in it.
pub const MESSAGE: &[u8] = b"Lycia \x1b[1mtest\x1b[0m guest\r\nready> \0";

/// 16-bit code at 0x7c00. One instruction a line; the jumps are relative to the next one.
const CODE: &[u8] = &[
    0x31, 0xc0, // xor ax, ax
    0x8e, 0xd8, // mov ds, ax
    0x8e, 0xd0, // mov ss, ax
    0xbc, 0x00, 0x7c, // mov sp, 0x7c00
    0xbe, 0x59, 0x7c, // mov si, message
    // next:
    0xac, // lodsb
    0x84, 0xc0, // test al, al
    0x74, 0x05, // jz wait
    0xe8, 0x2d, 0x00, // call put
    0xeb, 0xf6, // jmp next
    // wait: does the serial port have a byte?
    0xba, 0xfd, 0x03, // mov dx, 0x3fd
    0xec, // in al, dx
    0xa8, 0x01, // test al, 1
    0x74, 0x06, // jz keyboard
    0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xec, // in al, dx
    0xeb, 0x0a, // jmp got
    // keyboard: does the BIOS have a key?
    0xb4, 0x01, // mov ah, 1
    0xcd, 0x16, // int 0x16
    0x74, 0xec, // jz wait
    0x30, 0xe4, // xor ah, ah
    0xcd, 0x16, // int 0x16
    // got:
    0x3c, 0x1b, // cmp al, 0x1b
    0x74, 0x05, // jz off
    0xe8, 0x0c, 0x00, // call put
    0xeb, 0xdf, // jmp wait
    // off: ACPI S5 of the q35 board
    0xba, 0x04, 0x06, // mov dx, 0x604
    0xb8, 0x00, 0x20, // mov ax, 0x2000
    0xef, // out dx, ax
    0xf4, // hlt
    0xeb, 0xfd, // jmp to the hlt
    // put: al on the screen and, when it takes one, to the serial port
    0x60, // pusha
    0xb4, 0x0e, // mov ah, 0x0e
    0xbb, 0x07, 0x00, // mov bx, 7
    0xcd, 0x10, // int 0x10
    0x61, // popa
    0x50, // push ax
    0xba, 0xfd, 0x03, // mov dx, 0x3fd
    0xec, // in al, dx
    0xa8, 0x20, // test al, 0x20
    0x74, 0xfb, // jz to the in
    0x58, // pop ax
    0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xee, // out dx, al
    0xc3, // ret
];

/// A disk that begins with the boot sector; SeaBIOS does not read from a disk without a whole cylinder.
pub fn disk() -> Vec<u8> {
    let mut disk = boot_sector();
    disk.resize(1 << 20, 0);
    disk
}

fn boot_sector() -> Vec<u8> {
    assert_eq!(CODE.len(), 0x59, "the message's address is in the code");
    let mut sector = [CODE, MESSAGE].concat();
    assert!(sector.len() <= 510);
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    sector
}
