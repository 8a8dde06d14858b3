//! `lycia repo`

use std::io::Write as _;
use std::net::SocketAddr;

use super::{Context, print};
use crate::cli::{HashForm, RepoArgs, RepoCommand, RepoIndexArgs, RepoServeArgs, RepoVerifyArgs};
use crate::error::{Error, Explain as _, Kind, Result, io};
use crate::repository::{self, Indexing};
use crate::serve::{Patience, Server};

/// `lycia repo`
pub fn repo(context: &Context, args: &RepoArgs) -> Result<()> {
    match &args.command {
        RepoCommand::Key { path } => {
            let public = repository::make_key(path)?;
            let text = format!("{}\n{}\n", path.display(), public.display());
            print(text.as_bytes())
        }
        RepoCommand::Index(args) => index(context, args),
        RepoCommand::Sign(args) => {
            let keys = repository::signing_keys(&args.key)?;
            let mut packages = false;
            for path in &args.files {
                let kind = repository::sign(path, &keys, args.replace)?;
                packages |= kind == "package";
                context
                    .progress()
                    .say(&format!("signed the {kind} {}", path.display()));
            }
            if packages {
                // A signature makes a package longer, and the index has its length.
                context.progress().say("now index again: `lycia repo index`");
            }
            Ok(())
        }
        RepoCommand::Verify(args) => verify(context, args),
        RepoCommand::Serve(args) => serve(context, args),
    }
}

/// A value as JSON with a final newline. What a terminal would obey is escaped in its strings, where alone it can be.
pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    let plain = serde_json::to_string_pretty(value).explain(Kind::Internal, || "writing JSON".to_owned())?;
    let mut text = String::with_capacity(plain.len() + 1);
    for letter in plain.chars() {
        match letter {
            '\n' => text.push('\n'),
            // All of these have four digits.
            letter if lycia_inspect::acts(letter) => text.push_str(&format!("\\u{:04x}", u32::from(letter))),
            letter => text.push(letter),
        }
    }
    text.push('\n');
    Ok(text)
}

fn index(context: &Context, args: &RepoIndexArgs) -> Result<()> {
    let sign = repository::signing_keys(&args.sign)?;
    let mut keys = repository::public_keys(&args.key)?;
    for key in &sign {
        let doing = || format!("reading the key {}", key.name());
        let public = key.public_pem().explain(Kind::Input, doing)?;
        // v2 signatures name the file of the public half.
        keys.add_pem(&format!("{}.pub", key.name()), public.as_bytes())
            .explain(Kind::Input, doing)?;
    }
    let written = repository::make_indexes(
        &args.directory,
        &Indexing {
            keys,
            untrusted: args.untrusted,
            sign,
            hash: match args.hash {
                HashForm::Sha256 => lycia_apk::index::IndexHash::Sha256,
                HashForm::Sha256_160 => lycia_apk::index::IndexHash::Sha256_160,
            },
            description: args.description.clone(),
            link: args.apkindex,
            jobs: context.jobs(),
        },
    )?;
    if args.json {
        return print(json(&written)?.as_bytes());
    }
    for one in &written {
        context.progress().say(&format!(
            "{}: {} packages, {:.1} MiB{}",
            one.path.display(),
            one.packages,
            crate::build::mebibytes(one.size),
            if args.sign.is_empty() { ", not signed" } else { "" }
        ));
    }
    Ok(())
}

fn verify(context: &Context, args: &RepoVerifyArgs) -> Result<()> {
    if args.key.is_empty() && !args.untrusted {
        return Err(Error::new(Kind::Usage, "no key to verify with")
            .hint("give public keys with --key, or --untrusted to check everything but signatures"));
    }
    let keys = repository::public_keys(&args.key)?;
    let reports = repository::verify(&args.directory, &keys, args.untrusted, context.jobs())?;
    let problems: Vec<String> = reports
        .iter()
        .flat_map(|report| report.problems.clone())
        .collect();
    if args.json {
        print(json(&reports)?.as_bytes())?;
    } else {
        for report in &reports {
            let signer = match &report.signed_by {
                Some(name) => format!("signed by {name}"),
                None => "no trusted signature".to_owned(),
            };
            context.progress().say(&format!(
                "{}: {} packages are as the index says, {signer}",
                report.index.display(),
                report.sound
            ));
            for name in &report.unindexed {
                context
                    .progress()
                    .say(&format!("warning: {name} is not in the index"));
            }
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::new(Kind::Verification, problems.join("\n  "))
        .context(format!("verifying {}", args.directory.display()))
        .hint("what is damaged has to be brought again; `lycia repo index` indexes what is there"))
}

fn serve(context: &Context, args: &RepoServeArgs) -> Result<()> {
    let address: SocketAddr = args.listen.parse().map_err(|_| {
        Error::new(
            Kind::Usage,
            format!("`{}` is not an address with a port", args.listen),
        )
        .hint("such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080")
    })?;
    let quiet = context.global.quiet;
    let server = Server::bind(&args.directory, address, Patience::default(), move |served| {
        if !quiet {
            // A log whose reader went away is no reason to stop.
            let _ = writeln!(
                std::io::stderr(),
                "{} {} {}",
                served.request,
                served.status,
                served.bytes
            );
        }
    })?;
    if !address.ip().is_loopback() {
        context
            .progress()
            .say("warning: everybody who reaches this machine can read the folder");
    }
    print(format!("http://{}\n", server.address()).as_bytes())?;
    io(std::io::stdout().flush(), || {
        "writing to standard output".to_owned()
    })?;
    server.run()
}

#[cfg(test)]
mod tests {
    use super::json;

    #[test]
    fn json_does_nothing_on_a_terminal() {
        let evil = "a\u{1b}[2J\u{9b}1m\u{7f}\u{202e}\u{e9}\n";
        let text = json(&[evil]).unwrap();
        assert_eq!(text, "[\n  \"a\\u001b[2J\\u009b1m\\u007f\\u202e\u{e9}\\n\"\n]\n");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).unwrap(), [evil]);
    }
}
