//! Packages without files that stand in world by themselves, as `apk add --virtual` makes them.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::dependency;
use crate::metadata::{Digest, PackageInfo};
use crate::version;

/// A virtual package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Virtual {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
}

impl fmt::Display for Virtual {
    /// As in world.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.name, self.version)
    }
}

impl Virtual {
    /// Reads `NAME` or `NAME=VERSION`; the version is 0 where none is given. None where it is neither.
    #[must_use]
    pub fn parse(text: &str) -> Option<Virtual> {
        let (name, version) = text.split_once('=').unwrap_or((text, "0"));
        let parsed = dependency::parse(name);
        let plain = parsed.is_ok_and(|parsed| parsed.version.is_empty() && parsed.to_string() == name);
        (plain && !name.starts_with('!') && version::is_valid(version)).then(|| Virtual {
            name: name.to_owned(),
            version: version.to_owned(),
        })
    }

    /// What apk would know of it. Its identity follows from its name and version, where apk takes a number of the moment.
    #[must_use]
    pub fn info(&self) -> PackageInfo {
        let digest = Sha256::digest(format!("lycia virtual package\0{}\0{}", self.name, self.version));
        PackageInfo {
            name: self.name.clone(),
            version: self.version.clone(),
            hashes: Some(Digest(digest[..20].to_vec())),
            description: "virtual meta package".to_owned(),
            arch: "noarch".to_owned(),
            ..PackageInfo::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions() {
        for (text, shown) in [
            ("a", "a=0"),
            ("musl-safety-override=1.2-r3", "musl-safety-override=1.2-r3"),
        ] {
            assert_eq!(Virtual::parse(text).unwrap().to_string(), shown);
        }
        for text in ["", "!a", "a b", "a=x", "a>1", "a="] {
            assert_eq!(Virtual::parse(text), None, "{text}");
        }
        let info = Virtual::parse("a=1").unwrap().info();
        assert_eq!(info.installed_size, 0);
        assert_ne!(info.hashes, Virtual::parse("a=2").unwrap().info().hashes);
    }
}
