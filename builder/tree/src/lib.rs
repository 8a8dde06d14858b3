//! A root file system as a value.
