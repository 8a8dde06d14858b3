//! Checks of single answers. Each says what is wrong in words.

use std::net::IpAddr;

type Checked<T = ()> = Result<T, String>;

/// A host name (RFC 1123 §2.1): labels of letters, digits and hyphens.
pub(super) fn hostname(text: &str) -> Checked {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if text.len() <= 64 && text.split('.').all(label) {
        Ok(())
    } else {
        Err(format!(
            "`{text}` is no host name: letters, digits and hyphens, parts divided by dots, 64 in all"
        ))
    }
}

/// A path below `/usr/share/zoneinfo`.
pub(super) fn timezone(text: &str) -> Checked {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-_.".contains(&byte))
    };
    if text.len() <= 64 && text.split('/').all(part) {
        Ok(())
    } else {
        Err(format!(
            "`{text}` is no time zone; they look like `Europe/Prague` or `UTC`"
        ))
    }
}

/// A name that becomes a file name or a word of a configuration file.
pub(super) fn check_word(text: &str) -> Checked {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@+,".contains(&byte);
    if !text.is_empty() && text.len() <= 64 && !text.starts_with(['.', '-']) && text.bytes().all(plain) {
        Ok(())
    } else {
        Err(format!(
            "`{text}` is no name: letters, digits, `-`, `_`, `.`, `@`"
        ))
    }
}

/// A login name.
pub(super) fn user_name(text: &str) -> Checked {
    let first = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let rest = text
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte));
    if text == "root" || text == "nobody" {
        Err(format!("`{text}` exists already"))
    } else if first && rest && text.len() <= 32 {
        Ok(())
    } else {
        Err(format!(
            "`{text}` is no login name: small letters, digits, `-` and `_`, a letter first, at most 32"
        ))
    }
}

pub(super) fn check_groups(groups: &[String]) -> Checked {
    groups.iter().try_for_each(|group| check_word(group))
}

/// An absolute path without anything that a colon-separated file would take apart.
pub(super) fn absolute(text: &str) -> Checked {
    if text.starts_with('/')
        && text.len() <= 255
        && !text.contains(|c: char| c.is_control() || c == ':' || c.is_whitespace())
    {
        Ok(())
    } else {
        Err(format!("`{text}` is no absolute path"))
    }
}

/// One line of `authorized_keys` (sshd(8)), without options.
pub(super) fn ssh_key(line: &str) -> Checked {
    use base64::Engine as _;
    let mut words = line.split_whitespace();
    let (kind, body) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let known = ["ssh-", "ecdsa-", "sk-"]
        .iter()
        .any(|start| kind.starts_with(start));
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(body)
        .unwrap_or_default();
    // The body begins with the kind again, behind its length (RFC 4253 §6.6).
    let inside = bytes
        .first_chunk::<4>()
        .map(|length| u32::from_be_bytes(*length) as usize)
        .and_then(|length| bytes.get(4..4usize.checked_add(length)?));
    if known && inside == Some(kind.as_bytes()) && !line.contains(|c: char| c.is_control()) {
        Ok(())
    } else {
        Err("this is no public key: give a whole line of an id_….pub file".into())
    }
}

/// Name of a network interface.
pub(super) fn interface(text: &str) -> Checked {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"/:%'\"\\$`".contains(&byte);
    if (1..=15).contains(&text.len()) && text.bytes().all(plain) && text != "." && text != ".." {
        Ok(())
    } else {
        Err(format!("`{text}` is no interface name"))
    }
}

/// `ADDRESS/PREFIX`
pub(super) fn network_address(text: &str) -> Checked<(IpAddr, u8)> {
    let wrong = || format!("`{text}` is no address with prefix; they look like 192.0.2.7/24");
    let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    if prefix == 0 || prefix > bits {
        return Err(wrong());
    }
    Ok((address, prefix))
}

/// A value of `console=` for a serial line.
pub(super) fn console(text: &str) -> Checked {
    let (port, options) = text.split_once(',').unwrap_or((text, "115200"));
    let letters = port.trim_end_matches(|c: char| c.is_ascii_digit());
    let speed = options.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
        && options.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !letters.is_empty()
        && letters.len() < port.len()
        && port.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && speed
    {
        Ok(())
    } else {
        Err(format!(
            "`{text}` is no serial console; they look like `ttyS0,115200`"
        ))
    }
}
