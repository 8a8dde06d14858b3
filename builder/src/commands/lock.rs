//! `lycia lock`, `lycia why` and `lycia diff`

use super::{Context, print, repo::json};
use crate::choice::{self, Obeyed, Open};
use crate::cli::{DiffArgs, LockArgs, WhyArgs};
use crate::definition::{Project, typed};
use crate::difference::{Difference, Subject};
use crate::error::{Error, Kind, Result};
use crate::lock::Lock;
use crate::store::write_whole;
use crate::why::Why;

/// `lycia lock`
pub fn lock(context: &Context, args: &LockArgs) -> Result<()> {
    let project = context.project_for(&args.image)?;
    let store = context.store()?;
    let image = project.image(&args.image.image, &args.image.source.arch)?;
    let open = Open::new(&image, &store, &context.client()?)?;
    let path = args
        .output
        .clone()
        .unwrap_or_else(|| choice::lock_path(&project, &image.name, &image.arch));
    // A lock that cannot be read says what somebody wanted all the same.
    let old = match path.is_file() {
        true => Some(Lock::read(&path).map_err(|error| {
            error.hint(format!(
                "bring it back as it was, or remove it, and `lycia lock {}` makes it anew",
                image.name
            ))
        })?),
        false => None,
    };
    let chosen = match (&old, &args.upgrade) {
        (Some(old), Some(names)) if !names.is_empty() => choice::solve_keeping(&image, &open, old, names)?,
        (_, Some(names)) if !names.is_empty() => {
            return Err(Error::new(
                Kind::Input,
                format!("there is no lock {} to upgrade packages of", path.display()),
            )
            .hint(format!("make it with `lycia lock {}`", image.name)));
        }
        (Some(old), None) if old.image == image.name && old.arch == image.arch => {
            choice::solve_keeping(&image, &open, old, &[])?
        }
        // Nothing to keep, or nothing that is to be kept.
        _ => choice::solve(&image, &open)?,
    };
    let mut new = Lock::new(&image, &open, &chosen, choice::epoch(&chosen.root)?);
    if let Some(old) = &old
        && std::env::var_os("SOURCE_DATE_EPOCH").is_none()
        && old.package.len() == new.package.len()
        && old.package.iter().zip(&new.package).all(|(old, new)| old.is(new))
    {
        new.epoch = old.epoch;
    }
    let difference = old.as_ref().map(|old| Difference::new(old, &new));
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
    let project = context.project_with(&args.source)?;
    let (arch, package) = (&args.source.arch, &args.package);
    if let Some(name) = &args.image {
        return show(&ask(context, &project, name, arch, package)??, args.json);
    }
    let mut names = typed::names(&project.configs(), "images");
    let has_lock = |name: &String| choice::lock_path(&project, name, arch).is_file();
    if names.iter().any(has_lock) {
        names.retain(has_lock);
    }
    let (mut found, mut without, mut unasked) = (Vec::new(), Vec::new(), Vec::new());
    for name in names {
        match ask(context, &project, &name, arch, package) {
            Ok(Ok(answers)) => found.extend(answers),
            Ok(Err(_)) => without.push(name),
            Err(error) => unasked.push(format!("{name} could not be asked: {error}")),
        }
    }
    for line in &unasked {
        context.progress().say(line);
    }
    if found.is_empty() {
        let error = match without.as_slice() {
            [] => Error::new(Kind::Input, "no image could be asked"),
            asked => Error::new(
                Kind::Input,
                format!(
                    "{package} is not part of any image that was asked: {}",
                    asked.join(", ")
                ),
            ),
        };
        return Err(error.hint(format!("`lycia why {package} IMAGE` says more of one")));
    }
    show(&found, args.json)
}

fn show(answers: &[Why], as_json: bool) -> Result<()> {
    if as_json {
        return print(json(&answers)?.as_bytes());
    }
    let texts: Vec<String> = answers.iter().map(Why::text).collect();
    print(texts.join("\n").as_bytes())
}

/// Why a package is part of one image, by the lists of its lock. The outer error is of an image that cannot be asked, the inner one of a package
/// that it does not have.
fn ask(
    context: &Context,
    project: &Project,
    name: &str,
    arch: &str,
    package: &str,
) -> Result<Result<Vec<Why>>> {
    let store = context.store()?;
    let image = project.image(name, arch)?;
    let open = Open::new(&image, &store, &context.client()?)?;
    let mut warnings = Vec::new();
    let (_, chosen) = choice::choose(project, &image, &open, &store, &Obeyed::default(), &mut warnings)?;
    Ok(Why::of(&image, &open, &chosen, package))
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
