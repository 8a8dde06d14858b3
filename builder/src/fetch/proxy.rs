//! Which proxy a URL is fetched through, by the variables that curl and others read.

use std::net::IpAddr;

/// Proxies by scheme, and hosts that are reached without one.
#[derive(Clone, Default, Debug)]
pub struct Proxies {
    http: Option<String>,
    https: Option<String>,
    direct: Vec<String>,
}

impl Proxies {
    /// From variables: `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in small letters or capitals, small ones
    /// first. Empty ones count as not set.
    pub fn from(variable: impl Fn(&str) -> Option<String>) -> Proxies {
        let either = |name: &str| {
            let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
            set(name).or_else(|| set(&name.to_ascii_uppercase()))
        };
        let url = |name: &str| {
            let value = either(name).or_else(|| either("all_proxy"))?;
            let value = value.trim();
            Some(match value.contains("://") {
                true => value.to_owned(),
                false => format!("http://{value}"),
            })
        };
        let list = either("no_proxy").unwrap_or_default();
        Proxies {
            http: url("http_proxy"),
            https: url("https_proxy"),
            direct: list
                .split([',', ' '])
                .map(|entry| entry.trim().to_ascii_lowercase())
                .filter(|entry| !entry.is_empty())
                .collect(),
        }
    }

    /// The proxies that there are.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        let both = [self.http.as_deref(), self.https.as_deref()];
        let same = both[0] == both[1];
        both.into_iter().take(if same { 1 } else { 2 }).flatten()
    }

    /// The proxy for `url`, unless it is reached without.
    pub fn of(&self, url: &str) -> Option<&str> {
        let (scheme, rest) = url.split_once("://")?;
        let proxy = match scheme {
            "http" => self.http.as_deref(),
            _ => self.https.as_deref(),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let direct = self.direct.iter().any(|entry| is_named(host, entry));
        proxy.filter(|_| !direct)
    }
}

/// A proxy's URL as it may be shown.
pub fn without_credentials(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", rest.rsplit('@').next().unwrap_or_default()),
        None => url.to_owned(),
    }
}

/// Whether an entry of `no_proxy` means `host`, which may have a port. `example.org` and `.example.org` mean the
/// domain and all below it, `*` means everything; an entry with a port means that port only. An address means itself
/// however it is written, and `10.0.0.0/8` all addresses of that network; names are not resolved for it.
fn is_named(host: &str, entry: &str) -> bool {
    if entry == "*" {
        return true;
    }
    let host = host.to_ascii_lowercase();
    let (name, port) = split_port(&host);
    let (wanted, wanted_port) = split_port(entry);
    if wanted_port.is_some() && wanted_port != port {
        return false;
    }
    if let Ok(address) = name.parse::<IpAddr>() {
        let (network, length) = match wanted.split_once('/') {
            Some((network, length)) => (network, length.parse().ok()),
            None => (wanted, Some(u32::MAX)),
        };
        if let (Ok(network), Some(length)) = (network.parse(), length) {
            return is_within(address, network, length);
        }
    }
    let wanted = wanted.trim_start_matches('*').trim_start_matches('.');
    if wanted.is_empty() {
        return false;
    }
    name == wanted
        || name
            .strip_suffix(wanted)
            .is_some_and(|front| front.ends_with('.'))
}

/// Whether the first `length` bits of two addresses are the same, and the addresses of one kind.
fn is_within(address: IpAddr, network: IpAddr, length: u32) -> bool {
    let differ = match (address, network) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => return false,
    };
    let bits = if address.is_ipv4() { 32 } else { 128 };
    differ >= length.min(bits)
}

/// Host and port; brackets around an IPv6 address are taken off.
fn split_port(host: &str) -> (&str, Option<&str>) {
    if let Some(rest) = host.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').unwrap_or((rest, ""));
        return (address, rest.strip_prefix(':'));
    }
    match host.split_once(':') {
        // More than one colon and no brackets: an IPv6 address alone.
        Some((_, rest)) if rest.contains(':') => (host, None),
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::from(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn each_scheme_has_its_variable() {
        let both = proxies(&[("http_proxy", "http://a:1"), ("HTTPS_PROXY", "b:2")]);
        assert_eq!(both.of("http://host/x"), Some("http://a:1"));
        assert_eq!(both.of("https://host/x"), Some("http://b:2"));
        assert_eq!(both.urls().collect::<Vec<_>>(), ["http://a:1", "http://b:2"]);
        let all = proxies(&[("ALL_PROXY", "socks5://c:3"), ("http_proxy", "")]);
        assert_eq!(all.of("http://host/"), Some("socks5://c:3"));
        assert_eq!(all.urls().count(), 1);
        let small = proxies(&[("http_proxy", "http://small"), ("HTTP_PROXY", "http://LARGE")]);
        assert_eq!(small.of("http://host/"), Some("http://small"));
        assert_eq!(proxies(&[]).of("http://host/"), None);
    }

    #[test]
    fn hosts_of_no_proxy_are_reached_directly() {
        for (list, url, direct) in [
            ("*", "http://any.example/x", true),
            ("example.org", "http://example.org/x", true),
            ("example.org", "http://EXAMPLE.org:80/x", true),
            ("example.org", "http://www.example.org/x", true),
            ("example.org", "http://notexample.org/x", false),
            (".example.org", "http://www.example.org/", true),
            (".example.org", "http://example.org/", true),
            ("*.example.org", "https://www.example.org/", true),
            ("other, example.org", "http://example.org/", true),
            ("example.org:8080", "http://example.org:8080/", true),
            ("example.org:8080", "http://example.org/", false),
            ("127.0.0.1", "http://127.0.0.1:4242/x", true),
            ("::1", "http://[::1]:4242/x", true),
            ("localhost", "http://user@localhost/x", true),
            (".", "http://example.org/", false),
            ("", "http://example.org/", false),
            ("10.0.0.0/8", "http://10.200.3.4:80/", true),
            ("10.0.0.0/8", "http://11.0.0.1/", false),
            ("10.0.0.0/8", "http://10.example.org/", false),
            ("192.168.4.0/22", "http://192.168.7.255/", true),
            ("192.168.4.0/22", "http://192.168.8.0/", false),
            ("192.168.4.9/32", "http://192.168.4.9/", true),
            ("192.168.4.9/32", "http://192.168.4.8/", false),
            ("0.0.0.0/0", "http://1.2.3.4/", true),
            ("0.0.0.0/0", "http://[::1]/", false),
            ("fd00::/8", "http://[fdab::1]:8080/", true),
            ("fd00::/8", "http://[fe80::1]/", false),
            ("0:0::1", "http://[::1]/", true),
            ("10.0.0.0/x", "http://10.0.0.1/", false),
            ("10.0.0.0/33", "http://10.0.0.0/", true),
            ("10.0.0.1", "http://110.0.0.1/", false),
        ] {
            let proxies = proxies(&[("all_proxy", "http://p"), ("no_proxy", list)]);
            assert_eq!(proxies.of(url).is_none(), direct, "{list} {url}");
        }
    }
}
