//! Writers and readers of media formats: cpio, squashfs, FAT, GPT/MBR, ISO 9660.
