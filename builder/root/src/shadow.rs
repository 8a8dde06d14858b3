//! `/etc/shadow` and `/etc/gshadow`: a line for every user and group that has none, as pwconv and grpconv make
//! them (shadow(5), gshadow(5)).

use std::collections::BTreeSet;

use lycia_tree::{Follow, Timestamp, Tree};

use crate::{RootError, replace};

const DAY: i64 = 86_400;

/// Completes both files; says what it wrote. Passwords that stand in `passwd` move to `shadow`.
pub fn run(tree: &mut Tree, time: Timestamp) -> Result<Vec<Vec<u8>>, RootError> {
    let mut written = Vec::new();
    if tree.find(b"etc/passwd", Follow::All)?.is_none() {
        return Ok(written);
    }
    let day = time.seconds.max(0) / DAY;
    let blank = |name: &str, password: &str| format!("{name}:{password}:{day}:0:99999:7:::");
    convert(tree, "etc/passwd", "etc/shadow", &blank, time, &mut written)?;
    if tree.find(b"etc/group", Follow::All)?.is_some() {
        let blank = |name: &str, password: &str| format!("{name}:{password}::");
        convert(tree, "etc/group", "etc/gshadow", &blank, time, &mut written)?;
    }
    Ok(written)
}

fn convert(
    tree: &mut Tree,
    open: &str,
    secret: &str,
    blank: &dyn Fn(&str, &str) -> String,
    time: Timestamp,
    written: &mut Vec<Vec<u8>>,
) -> Result<(), RootError> {
    let text = |tree: &Tree, path: &str| -> Result<String, RootError> {
        match tree.find(path.as_bytes(), Follow::All)? {
            None => Ok(String::new()),
            Some(_) => Ok(String::from_utf8_lossy(tree.read(path.as_bytes())?).into_owned()),
        }
    };
    let people = text(tree, open)?;
    let secrets = text(tree, secret)?;
    let have: BTreeSet<&str> = secrets
        .lines()
        .filter_map(|line| line.split(':').next())
        .collect();
    let mut moved = String::new();
    let mut lines = String::new();
    for line in people.lines() {
        let mut fields: Vec<&str> = line.split(':').collect();
        if fields.len() < 3 || fields[0].is_empty() || fields[0].starts_with(['+', '-']) {
            moved.push_str(line);
            moved.push('\n');
            continue;
        }
        let (name, password) = (fields[0], fields[1]);
        if !have.contains(name) {
            // `x` says "see shadow", where there is nothing: locked until somebody sets one.
            let password = match password {
                "x" | "" | "*" => "!*",
                set => set,
            };
            lines.push_str(&blank(name, password));
            lines.push('\n');
        }
        fields[1] = "x";
        moved.push_str(&fields.join(":"));
        moved.push('\n');
    }
    let names: BTreeSet<&str> = people.lines().filter_map(|line| line.split(':').next()).collect();
    let mut whole = String::new();
    for line in secrets
        .lines()
        .filter(|line| line.split(':').next().is_some_and(|name| names.contains(name)))
    {
        whole.push_str(line);
        whole.push('\n');
    }
    whole.push_str(&lines);
    replace(tree, open.as_bytes(), 0o644, moved.into_bytes(), time, written)?;
    replace(tree, secret.as_bytes(), 0o600, whole.into_bytes(), time, written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lycia_tree::Metadata;

    #[test]
    fn every_user_gets_a_line_once() {
        let time = Timestamp::from_seconds(20_000 * DAY);
        let mut tree = Tree::new(Metadata::new(0o755, time));
        let file = || Metadata::new(0o644, time);
        tree.write(
            b"etc/passwd",
            file(),
            "root:x:0:0::/root:/bin/sh\nbob:$6$h:1:1::/:/bin/sh\n".into(),
        )
        .unwrap();
        tree.write(b"etc/group", file(), "root:x:0:\n".into()).unwrap();
        tree.write(
            b"etc/shadow",
            Metadata::new(0o640, time),
            "root:*:1:::::: \ngone:x:1::::::\n".into(),
        )
        .unwrap();
        assert!(!run(&mut tree, time).unwrap().is_empty());
        let text = |path: &[u8]| String::from_utf8(tree.read(path).unwrap().to_vec()).unwrap();
        assert_eq!(
            text(b"etc/shadow"),
            "root:*:1:::::: \nbob:$6$h:20000:0:99999:7:::\n"
        );
        assert_eq!(
            text(b"etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nbob:x:1:1::/:/bin/sh\n"
        );
        assert_eq!(text(b"etc/gshadow"), "root:!*::\n");
        let mode = |path: &[u8]| tree.inode(tree.resolve(path, Follow::All).unwrap()).metadata.mode;
        assert_eq!((mode(b"etc/shadow"), mode(b"etc/gshadow")), (0o640, 0o600));
        assert!(run(&mut tree, time).unwrap().is_empty());
    }
}
