//! apk packages, indexes, signatures, versions, solver and installed database.
