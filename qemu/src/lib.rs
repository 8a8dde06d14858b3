//! Boots media under QEMU, scripts consoles, takes screenshots, reports.
