//! `lycia lock`, `lycia why` and `lycia diff`

use super::{Context, print, repo::json};
use crate::choice::{self, Obeyed, Open};
use crate::cli::{DiffArgs, LockArgs, WhyArgs};
use crate::difference::{Difference, Subject};
use crate::error::{Error, Kind, Result};
use crate::lock::Lock;
use crate::store::write_whole;
use crate::why::Why;

/// `lycia lock`
pub fn lock(context: &Context, args: &LockArgs) -> Result<()> {
    let project = context.project_for(&args.image)?;
    let store = context.store()?;
    let image = project.image(&args.image.image, &args.image.arch)?;
    let open = Open::new(&image, &store, &context.client()?)?;
    let path = args
        .output
        .clone()
        .unwrap_or_else(|| choice::lock_path(&project, &image.name, &image.arch));
    let old = match path.is_file() {
        true => Some(Lock::read(&path)),
        false => None,
    };
    let chosen = match (&old, &args.upgrade) {
        (Some(Ok(old)), Some(names)) if !names.is_empty() => {
            choice::solve_keeping(&image, &open, old, names)?
        }
        (_, Some(names)) if !names.is_empty() => {
            return Err(Error::new(
                Kind::Input,
                format!("there is no lock {} to upgrade packages of", path.display()),
            )
            .hint(format!("make it with `lycia lock {}`", image.name)));
        }
        (Some(Ok(old)), None) if old.image == image.name && old.arch == image.arch => {
            choice::solve_keeping(&image, &open, old, &[])?
        }
        // Nothing to keep, or nothing that is to be kept; a lock that cannot be read is made anew.
        _ => choice::solve(&image, &open)?,
    };
    let mut new = Lock::new(&image, &open, &chosen, choice::epoch(&chosen.root)?);
    if let Some(Ok(old)) = &old
        && std::env::var_os("SOURCE_DATE_EPOCH").is_none()
        && old.package == new.package
    {
        new.epoch = old.epoch;
    }
    let difference = match &old {
        Some(Ok(old)) => Some(Difference::new(old, &new)),
        _ => None,
    };
    if args.check {
        return match difference {
            Some(difference) if difference.is_empty() => {
                context
                    .progress()
                    .say(&format!("{} is up to date", path.display()));
                Ok(())
            }
            Some(difference) => Err(Error::new(
                Kind::Verification,
                format!(
                    "{} is not up to date:\n{}",
                    path.display(),
                    difference.text().trim_end()
                ),
            )
            .hint(format!("lycia lock {}", image.name))),
            None => Err(
                Error::new(Kind::Input, format!("there is no lock {}", path.display()))
                    .hint(format!("make it with `lycia lock {}`", image.name)),
            ),
        };
    }
    write_whole(&path, new.text().as_bytes())?;
    context.progress().say(&format!(
        "{} packages locked in {}",
        new.package.len(),
        path.display()
    ));
    match difference {
        Some(difference) if args.json => print(json(&difference)?.as_bytes()),
        None if args.json => print(b"null\n"),
        Some(difference) => print(difference.text().as_bytes()),
        None => Ok(()),
    }
}

/// `lycia why`
pub fn why(context: &Context, args: &WhyArgs) -> Result<()> {
    let project = context.project_for(&args.image)?;
    let store = context.store()?;
    let image = project.image(&args.image.image, &args.image.arch)?;
    let open = Open::new(&image, &store, &context.client()?)?;
    let mut warnings = Vec::new();
    let (_, chosen) = choice::choose(&project, &image, &open, &store, &Obeyed::default(), &mut warnings)?;
    let why = Why::new(&image, &open.root, &chosen.root, &args.package)?;
    if args.json {
        return print(json(&why)?.as_bytes());
    }
    print(why.text().as_bytes())
}

/// `lycia diff`
pub fn diff(args: &DiffArgs) -> Result<()> {
    let difference = Subject::open(&args.old)?.compare(&Subject::open(&args.new)?)?;
    if args.json {
        print(json(&difference)?.as_bytes())?;
    } else {
        print(difference.text().as_bytes())?;
    }
    if args.check && !difference.is_empty() {
        return Err(Error::new(
            Kind::Verification,
            format!("{} and {} differ", args.old.display(), args.new.display()),
        ));
    }
    Ok(())
}
