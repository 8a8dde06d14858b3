//! Booting a medium and comparing what runs with its manifest.
