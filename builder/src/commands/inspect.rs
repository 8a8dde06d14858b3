//! `lycia inspect`

use lycia_inspect::{InspectError, Limits};

use super::{print, repo::json};
use crate::cli::InspectArgs;
use crate::error::{Error, Kind, Result, io_kind, shown};
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
    let Some(first) = report.faults.first() else {
        return Ok(());
    };
    // One line, whatever the medium has in its names.
    let first = shown(&first.to_string(), |_| false);
    let said = match report.faults.len() {
        1 => first,
        count => format!("{count} things are wrong, the first of them: {first}"),
    };
    Err(Error::new(
        Kind::Target,
        format!("{}: {said}", args.file.display()),
    ))
}

/// Why a file was not inspected, as our error.
pub fn refuse(error: InspectError) -> Error {
    let kind = match &error {
        // A directory or a device, which is nothing that this machine could do better.
        InspectError::Read { source, .. } if source.kind() == std::io::ErrorKind::InvalidInput => Kind::Input,
        InspectError::Read { source, .. } => io_kind(source),
        InspectError::Unknown { .. } => Kind::Input,
    };
    Error::new(kind, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_the_users_fault() {
        for path in [".", "/dev/null", "/none/such"] {
            let error = lycia_inspect::inspect(path.as_ref(), &Limits::default())
                .map_err(refuse)
                .expect_err(path);
            assert_eq!(error.kind(), Kind::Input, "{error}");
            assert!(error.to_string().contains(path), "{error}");
        }
    }
}
