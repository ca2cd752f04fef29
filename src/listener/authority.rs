//! Which host a request is for: said once, or said twice and the same (RFC 9112 3.2, RFC 9113 8.3.1).

use std::fmt;
use std::str::FromStr;

use http::Request;
use http::Version;
use http::header::HOST;
use thiserror::Error;

/// A host, and the port if one was named.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Lower case, without trailing dot; an IPv6 address in its brackets.
    pub host: String,
    /// The port, if named.
    pub port: Option<u16>,
}

impl FromStr for HostPort {
    type Err = BadAuthority;

    fn from_str(text: &str) -> Result<Self, BadAuthority> {
        parse(text.as_bytes())
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// Why a request's host is not believed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BadAuthority {
    /// No host at all.
    #[error("the request names no host")]
    Missing,
    /// More than one `Host`.
    #[error("the request has {0} Host headers")]
    Repeated(usize),
    /// No host name.
    #[error("\"{0}\" is not a host in ASCII, with or without port")]
    Malformed(String),
    /// Target and header name different hosts.
    #[error("the target says {target}, the Host header {header}")]
    Disagree {
        /// From `:authority` or an absolute target.
        target: HostPort,
        /// From `Host`.
        header: HostPort,
    },
}

/// The one host that `request` is for.
///
/// # Errors
/// When none is named, several are, or the name is none.
pub fn authority<B>(request: &Request<B>) -> Result<HostPort, BadAuthority> {
    let mut headers = request.headers().get_all(HOST).iter();
    let header = match (headers.next(), headers.count()) {
        (None, _) => None,
        (Some(value), 0) => Some(parse(value.as_bytes())?),
        // SECURITY: two programs would pick two of them.
        (Some(_), more) => return Err(BadAuthority::Repeated(more + 1)),
    };
    let target = match request.uri().authority() {
        Some(authority) => Some(parse(authority.as_str().as_bytes())?),
        None => None,
    };
    match (target, header) {
        // RFC 9113 8.3.1: a Host that is there has to agree. RFC 9112 3.2.2 would let the target win.
        (Some(target), Some(header)) if !same(&target, &header, request) => {
            Err(BadAuthority::Disagree { target, header })
        }
        // RFC 9112 3.2: HTTP/1.1 without Host is 400, whatever the target says.
        (Some(_), None) if request.version() == Version::HTTP_11 => Err(BadAuthority::Missing),
        (Some(one), _) | (None, Some(one)) => Ok(one),
        (None, None) => Err(BadAuthority::Missing),
    }
}

fn same<B>(one: &HostPort, other: &HostPort, request: &Request<B>) -> bool {
    let default = match request.uri().scheme_str() {
        Some("http") => 80,
        _ => 443,
    };
    let port = |this: &HostPort| this.port.unwrap_or(default);
    one.host == other.host && port(one) == port(other)
}

fn parse(value: &[u8]) -> Result<HostPort, BadAuthority> {
    let malformed = || BadAuthority::Malformed(value.escape_ascii().to_string());
    let text = std::str::from_utf8(value).map_err(|_| malformed())?;
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        // RFC 3986 3.2.3: an empty port is the default one.
        None | Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some(digits.parse().map_err(|_| malformed())?)
        }
        Some(_) => return Err(malformed()),
    };
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if is_name(&host) || is_ipv6(&host) {
        Ok(HostPort { host, port })
    } else {
        Err(malformed())
    }
}

/// Names come in their ASCII form (RFC 5890 A-labels); anything else is two names to two programs.
fn is_name(host: &str) -> bool {
    host.len() <= 253
        && host.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })
}

fn is_ipv6(host: &str) -> bool {
    host.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(uri: &str, hosts: &[&str]) -> Result<String, BadAuthority> {
        let mut request = Request::builder().uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        authority(&request.body(()).unwrap()).map(|host| host.to_string())
    }

    #[test]
    fn a_host_is_one_plain_name() {
        for (uri, host, wanted) in [
            ("/", "Intranet.Example.COM", "intranet.example.com"),
            (
                "/",
                "intranet.example.com.:8443",
                "intranet.example.com:8443",
            ),
            ("/", "intranet.example.com:", "intranet.example.com"),
            ("/", "[::1]:8443", "[::1]:8443"),
            ("/", "[::1]", "[::1]"),
            ("/", "xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("https://a.example/", "a.example:443", "a.example"),
        ] {
            assert_eq!(ask(uri, &[host]).as_deref(), Ok(wanted), "{host}");
        }
        for host in [
            "",
            ".",
            "a..b",
            "a b",
            "a/b",
            "a@b",
            "a:b",
            "a:99999",
            "bücher.example",
            "[::1",
            "::1",
            "a\\b",
            "a,b",
            "a#b",
            "a?b",
            "%61.example",
            "a:+1",
        ] {
            assert!(ask("/", &[host]).is_err(), "{host}");
        }
    }

    #[test]
    fn hosts_that_disagree_are_refused() {
        assert_eq!(ask("/", &[]), Err(BadAuthority::Missing));
        assert_eq!(ask("/", &["a", "a"]), Err(BadAuthority::Repeated(2)));
        for (uri, host) in [
            ("https://a.example/", "b.example"),
            ("https://a.example:1/", "a.example"),
            ("https://evil@a.example/", "a.example"),
        ] {
            assert!(ask(uri, &[host]).is_err(), "{uri} {host}");
        }
    }
}
