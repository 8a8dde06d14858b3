//! Where a redirect leads: a reference resolved against the URL that it was got from (RFC 3986, section 5.2).

/// The URL that `reference` means in an answer of `base`, without its fragment; nothing where it is no http or https URL.
pub fn resolve(base: &str, reference: &str) -> Option<String> {
    let reference = reference.trim().split('#').next().unwrap_or_default();
    let (scheme, rest) = base.split_once("://")?;
    let after_authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(after_authority);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let url = if let Some((other, _)) = split_scheme(reference) {
        if !["http", "https"]
            .iter()
            .any(|known| other.eq_ignore_ascii_case(known))
        {
            return None;
        }
        reference.to_owned()
    } else if reference.starts_with("//") {
        format!("{scheme}:{reference}")
    } else if reference.starts_with('/') {
        format!("{scheme}://{authority}{}", without_dots(reference))
    } else if reference.is_empty() || reference.starts_with('?') {
        format!("{scheme}://{authority}{path}{reference}")
    } else {
        let folder = path.rfind('/').map_or("/", |end| &path[..=end]);
        format!(
            "{scheme}://{authority}{}",
            without_dots(&format!("{folder}{reference}"))
        )
    };
    // A host is what all the rest is about.
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?']).next().filter(|host| !host.is_empty())?;
    Some(format!(
        "{}://{host}{}",
        scheme.to_ascii_lowercase(),
        &rest[host.len()..]
    ))
}

/// A scheme, and what follows its colon.
fn split_scheme(reference: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = reference.split_once(':')?;
    let first = scheme.bytes().next()?;
    let sound = first.is_ascii_alphabetic()
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    sound.then_some((scheme, rest))
}

/// A path without `.` and `..`; what follows a question mark stays as it is.
fn without_dots(path: &str) -> String {
    let (path, query) = match path.find('?') {
        Some(at) => path.split_at(at),
        None => (path, ""),
    };
    let mut kept: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." => {}
            ".." => drop(kept.pop()),
            part => {
                kept.push(part);
                continue;
            }
        }
        // They name a folder.
        if last {
            kept.push("");
        }
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved() {
        for (base, reference, url) in [
            ("http://a/b/c", "http://d/e", Some("http://d/e")),
            ("http://a/b/c", "HTTPS://d:8/e?f#g", Some("https://d:8/e?f")),
            ("https://a/b/c", "//d/e", Some("https://d/e")),
            ("http://a:1/b/c?q", "/d/e", Some("http://a:1/d/e")),
            ("http://a/b/c", "d", Some("http://a/b/d")),
            ("http://a/b/", "d/../e/./f", Some("http://a/b/e/f")),
            ("http://a/b/c/d", "../../..", Some("http://a/")),
            ("http://a/b/c/d", ".", Some("http://a/b/c/")),
            ("http://a/b/c", "?x=/../y", Some("http://a/b/c?x=/../y")),
            ("http://a/b/c?q", "", Some("http://a/b/c")),
            ("http://a", "d", Some("http://a/d")),
            ("http://a/b/c", "d?x=/../y", Some("http://a/b/d?x=/../y")),
            ("http://a/b/c", "./d:e", Some("http://a/b/d:e")),
            ("http://a/b/c", "file:///etc/passwd", None),
            ("http://a/b/c", "d:e", None),
            ("http://a/b/c", "http:///e", None),
            ("http://a/b/c", "http:e", None),
        ] {
            assert_eq!(resolve(base, reference).as_deref(), url, "{base} {reference}");
        }
    }
}
