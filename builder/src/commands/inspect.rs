//! `lycia inspect`

use lycia_inspect::{InspectError, Limits};

use super::{print, repo::json};
use crate::cli::InspectArgs;
use crate::error::{Error, Kind, Result, io_kind};
use crate::release;

/// `lycia inspect`
pub fn inspect(args: &InspectArgs) -> Result<()> {
    let mut report = lycia_inspect::inspect(&args.file, &Limits::default()).map_err(refuse)?;
    if let Some(key) = &args.verify {
        let list = release::verify(&args.file, &report.sha256, key)?;
        report
            .beside
            .push(format!("{}, signed by {}", list.display(), key.display()));
    }
    if args.json {
        if !args.files {
            report.without_files();
        }
        print(json(&report)?.as_bytes())?;
    } else {
        print(report.text(args.files).as_bytes())?;
    }
    match report.faults.len() {
        0 => Ok(()),
        1 => Err(Error::new(
            Kind::Target,
            format!("{}: {}", args.file.display(), report.faults[0]),
        )),
        count => Err(Error::new(
            Kind::Target,
            format!(
                "{}: {count} things are wrong, the first of them: {}",
                args.file.display(),
                report.faults[0]
            ),
        )),
    }
}

/// Why a file was not inspected, as our error.
pub fn refuse(error: InspectError) -> Error {
    let kind = match &error {
        InspectError::Read { source, .. } => io_kind(source),
        InspectError::Unknown { .. } => Kind::Input,
    };
    Error::new(kind, error)
}
