//! Requests for http URLs through an HTTP proxy: the whole URL is named to it (RFC 9112, section 3.2.2).
//!
//! ureq opens a tunnel (`CONNECT`) whatever the scheme, and proxies refuse tunnels to port 80: their usual configuration
//! allows those to 443 alone. So the connection is made to the proxy, and the first line of what ureq sends is changed.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, TcpConnector, Transport,
};

/// An agent that sends requests for http URLs to `proxy`, which is one of plain HTTP.
pub fn agent(config: Config, proxy: &ureq::Proxy) -> ureq::Agent {
    let credentials = proxy.username().map(|name| {
        let text = format!("{name}:{}", proxy.password().unwrap_or_default());
        format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(text))
    });
    let connector = ().chain(TcpConnector::default()).chain(WholeUrl {
        credentials: credentials.unwrap_or_default(),
    });
    let resolver = OfProxy {
        proxy: proxy.uri().clone(),
        resolver: DefaultResolver::default(),
    };
    ureq::Agent::with_parts(config, connector, resolver)
}

/// Gives the addresses of the proxy whatever is asked for.
#[derive(Debug)]
struct OfProxy {
    proxy: Uri,
    resolver: DefaultResolver,
}

impl Resolver for OfProxy {
    fn resolve(
        &self,
        _: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        self.resolver.resolve(&self.proxy, config, timeout)
    }
}

/// Puts [`Requests`] on a connection to the proxy.
struct WholeUrl {
    /// A line of the head, or nothing.
    credentials: String,
}

impl fmt::Debug for WholeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the credentials.
        f.write_str("WholeUrl")
    }
}

impl<In: Transport> Connector<In> for WholeUrl {
    type Out = Requests<In>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Requests<In>>, ureq::Error> {
        let authority = details.uri.authority().map_or("", |authority| authority.as_str());
        // Credentials for the server are in a field of the head.
        let host = authority.rsplit('@').next().unwrap_or_default();
        Ok(chained.map(|inner| Requests {
            inner,
            origin: format!("http://{host}"),
            credentials: self.credentials.clone(),
        }))
    }
}

/// A connection on which every request names the whole URL. All requests of this program are GETs without a body, so
/// that whatever is sent begins with one.
struct Requests<T> {
    inner: T,
    origin: String,
    credentials: String,
}

impl<T> fmt::Debug for Requests<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Requests({})", self.origin)
    }
}

impl<T: Transport> Transport for Requests<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let output = self.inner.buffers().output();
        let amount = match with_whole_url(&output[..amount], &self.origin, &self.credentials) {
            None => amount,
            Some(head) => {
                let too_long = || {
                    let problem = "the head of the request is longer than the buffer for it";
                    ureq::Error::Io(std::io::Error::other(problem))
                };
                output
                    .get_mut(..head.len())
                    .ok_or_else(too_long)?
                    .copy_from_slice(&head);
                head.len()
            }
        };
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }
}

/// The head of a request with the whole URL, and with `credentials` as its first field; nothing where no head of a
/// request for a path begins.
fn with_whole_url(head: &[u8], origin: &str, credentials: &str) -> Option<Vec<u8>> {
    let path = head.strip_prefix(b"GET ").filter(|rest| rest.starts_with(b"/"))?;
    let line = path.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let mut whole = Vec::with_capacity(head.len() + origin.len() + credentials.len());
    whole.extend_from_slice(b"GET ");
    whole.extend_from_slice(origin.as_bytes());
    whole.extend_from_slice(&path[..line]);
    whole.extend_from_slice(credentials.as_bytes());
    whole.extend_from_slice(&path[line..]);
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_url_takes_the_place_of_the_path() {
        let head = b"GET /a/b?c HTTP/1.1\r\nhost: example.org:81\r\n\r\n";
        assert_eq!(
            with_whole_url(head, "http://example.org:81", "").unwrap(),
            b"GET http://example.org:81/a/b?c HTTP/1.1\r\nhost: example.org:81\r\n\r\n"
        );
        assert_eq!(
            with_whole_url(head, "http://x", "Proxy-Authorization: Basic eA==\r\n").unwrap(),
            b"GET http://x/a/b?c HTTP/1.1\r\nProxy-Authorization: Basic eA==\r\nhost: example.org:81\r\n\r\n"
        );
        for other in [
            &b"rest of a head\r\n\r\n"[..],
            b"GET http://x/ HTTP/1.1\r\n",
            b"GET /",
            b"",
        ] {
            assert_eq!(with_whole_url(other, "http://x", ""), None);
        }
    }
}
