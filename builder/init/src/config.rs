//! `/etc/lycia-init.conf` of the initramfs: what the builder knows about the medium it is writing.
//!
//! Lines are `key = value`; `#` begins a comment line; a value may stand in double quotes. The kernel
//! command line overrides what is said here.

/// The configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Volume label of the medium.
    pub medium_label: Option<String>,
    /// UUID of the medium as blkid spells it (for an ISO: its modification date).
    pub medium_uuid: Option<String>,
    /// Directory of the medium that holds the image.
    pub live_path: String,
    /// File name of the image in that directory.
    pub squashfs: String,
    /// Modules to load first, in this order.
    pub modules: Vec<String>,
    /// Name of the live user.
    pub live_user: String,
    /// Hash of the password of the live user and of root, as in `/etc/shadow`.
    pub live_password_hash: Option<String>,
    /// Password in clear text, used when there is no hash.
    pub live_password: String,
    /// Login shell of the live user.
    pub live_shell: Option<String>,
    /// Host name of the live system.
    pub hostname: Option<String>,
    /// Services to enable. `a|b` means the first of them that the image has.
    pub services: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            medium_label: None,
            medium_uuid: None,
            live_path: "live".into(),
            squashfs: "filesystem.squashfs".into(),
            modules: Vec::new(),
            live_user: "anon".into(),
            live_password_hash: None,
            live_password: "chimera".into(),
            live_shell: None,
            hostname: None,
            services: Vec::new(),
        }
    }
}

impl Config {
    /// Reads a configuration. A line that is not understood is reported and skipped: a typing error must
    /// not make a medium unbootable.
    #[must_use]
    pub fn parse(text: &str) -> (Self, Vec<String>) {
        let mut config = Self::default();
        let mut warnings = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = index + 1;
            let Some((key, value)) = line.split_once('=') else {
                warnings.push(format!(
                    "/etc/lycia-init.conf:{number}: no `=` in `{line}`; line skipped"
                ));
                continue;
            };
            let (key, value) = (key.trim(), unquoted(value.trim()));
            let words = || value.split_whitespace().map(str::to_owned).collect();
            let text = || (!value.is_empty()).then(|| value.to_owned());
            match key {
                "medium-label" => config.medium_label = text(),
                "medium-uuid" => config.medium_uuid = text(),
                "live-path" => config.live_path = value.trim_matches('/').to_owned(),
                "squashfs" => config.squashfs = value.trim_matches('/').to_owned(),
                "modules" => config.modules = words(),
                "live-user" => config.live_user = value.to_owned(),
                "live-password-hash" => config.live_password_hash = text(),
                "live-password" => config.live_password = value.to_owned(),
                "live-shell" => config.live_shell = text(),
                "hostname" => config.hostname = text(),
                "services" => config.services = words(),
                _ => warnings.push(format!(
                    "/etc/lycia-init.conf:{number}: unknown key `{key}`; line skipped"
                )),
            }
        }
        (config, warnings)
    }
}

fn unquoted(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        let (config, warnings) = Config::parse(
            "# written by the builder\n\
             medium-label = CHIMERA_LIVE\n\
             medium-uuid=2026-01-02-03-04-05-06\n\
             live-path = /boot/live/\n\
             squashfs = root.squashfs\n\
             modules = loop  squashfs overlay\n\
             live-user = guest\n\
             live-password-hash = $6$salt$hash\n\
             live-password = \" spaced = \"\n\
             live-shell = /usr/bin/mksh\n\
             hostname = chimera\n\
             services = networkmanager|dhcpcd sshd\n",
        );
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(
            config,
            Config {
                medium_label: Some("CHIMERA_LIVE".into()),
                medium_uuid: Some("2026-01-02-03-04-05-06".into()),
                live_path: "boot/live".into(),
                squashfs: "root.squashfs".into(),
                modules: vec!["loop".into(), "squashfs".into(), "overlay".into()],
                live_user: "guest".into(),
                live_password_hash: Some("$6$salt$hash".into()),
                live_password: " spaced = ".into(),
                live_shell: Some("/usr/bin/mksh".into()),
                hostname: Some("chimera".into()),
                services: vec!["networkmanager|dhcpcd".into(), "sshd".into()],
            }
        );
    }

    #[test]
    fn mistakes_are_reported_with_their_line_and_skipped() {
        let (config, warnings) = Config::parse("medium_label = X\nhello\nhostname =\n");
        assert_eq!(config, Config::default());
        assert_eq!(warnings.len(), 2);
        assert!(
            warnings[0].contains(":1: unknown key `medium_label`"),
            "{warnings:?}"
        );
        assert!(warnings[1].contains(":2: no `=`"), "{warnings:?}");
    }
}
