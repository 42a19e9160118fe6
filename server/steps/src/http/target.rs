//! Where a request goes: an address of the web in its parts, read so that nothing in it can mean two things.

use coretex_domain::names::shown;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const URL_MAX: usize = 8 << 10;
const HOST_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// A host as it is written: a name, in lower case and without a dot at its end, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Name(String),
    Address(IpAddr),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) is_secure: bool,
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// Path and query, as they are sent.
    pub(crate) path: String,
}

// === impl Target ===

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Target, String> {
        if url.len() > URL_MAX {
            return Err(format!("has {} bytes, at most {URL_MAX} are taken", url.len()));
        }
        if let Some(c) = url.chars().find(|c| !c.is_ascii_graphic() || "\\\"<>^`{|}".contains(*c)) {
            return Err(format!("has {c:?} in it, which must be written with % (in names: as xn--)"));
        }
        let url = url.split('#').next().unwrap_or_default();
        let uri: http::Uri = url.parse().map_err(|error| format!("is no address of the web: {error}"))?;
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err("must begin with https:// or http://".into()),
        };
        let authority = uri.authority().ok_or("names no host")?;
        if authority.as_str().contains('@') {
            return Err("must not have a user or password in it; use the header authorization".into());
        }
        let host = Host::parse(authority.host())?;
        let rest = authority.as_str().get(authority.host().len()..).unwrap_or_default();
        let port = match rest.strip_prefix(':') {
            None if rest.is_empty() => {
                if is_secure {
                    443
                } else {
                    80
                }
            }
            Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => {
                port.parse().ok().filter(|port| *port > 0).ok_or("has a port that is none")?
            }
            Some(_) | None => return Err("has a port that is none".into()),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Target { is_secure, host, port, path })
    }

    /// The target that a `Location` means, seen from this one.
    pub(crate) fn join(&self, location: &str) -> Result<Target, String> {
        let location = location.trim_matches(' ');
        let scheme = if self.is_secure { "https" } else { "http" };
        let origin = format!("{scheme}://{}:{}", self.host, self.port);
        let path = self.path.split('?').next().unwrap_or_default();
        let has_scheme = location.split(['/', '?', '#']).next().is_some_and(|first| first.contains(':'));
        let url = if has_scheme {
            location.to_owned()
        } else if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{origin}{location}")
        } else if location.starts_with('?') || location.is_empty() {
            format!("{origin}{path}{location}")
        } else {
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            format!("{origin}{directory}/{location}")
        };
        Target::parse(&url)
    }

    /// True if both are one server, as far as headers may be shown to it.
    pub(crate) fn is_same_origin(&self, other: &Target) -> bool {
        (self.is_secure, &self.host, self.port) == (other.is_secure, &other.host, other.port)
    }

    /// As the header `host` wants it.
    pub(crate) fn authority(&self) -> String {
        match (self.is_secure, self.port) {
            (true, 443) | (false, 80) => self.host.to_string(),
            (_, port) => format!("{}:{port}", self.host),
        }
    }

    /// Without path and query, which may hold secrets.
    pub(crate) fn origin(&self) -> String {
        format!("{}://{}", if self.is_secure { "https" } else { "http" }, self.authority())
    }
}

// === impl Host ===

impl Host {
    pub(crate) fn parse(host: &str) -> Result<Host, String> {
        if let Some(inner) = host.strip_prefix('[') {
            let inner = inner.strip_suffix(']').unwrap_or_default();
            let address: Ipv6Addr =
                inner.parse().map_err(|_| format!("names {}, which is no address", shown(host)))?;
            return Ok(Host::Address(address.into()));
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let is_label = |label: &str| {
            (1..=LABEL_MAX).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if name.len() > HOST_MAX || !name.split('.').all(is_label) {
            return Err(format!("names {}, which is no host", shown(host)));
        }
        let last = name.rsplit('.').next().unwrap_or_default();
        // What ends with a number is an address to some readers: then it must be one to all of them.
        let is_number = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
        match name.parse::<Ipv4Addr>() {
            Ok(address) if host.len() == name.len() => Ok(Host::Address(address.into())),
            Ok(_) | Err(_) if is_number => {
                Err(format!("names {}; write an address with four plain numbers", shown(host)))
            }
            Ok(_) | Err(_) => Ok(Host::Name(name)),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Adds names and values to a query, written so that they come out as they went in.
pub(crate) fn with_query(path: &str, pairs: &[(String, String)]) -> String {
    let mut out = path.to_owned();
    for (name, value) in pairs {
        out.push(if out.contains('?') { '&' } else { '?' });
        encode(name, &mut out);
        out.push('=');
        encode(value, &mut out);
    }
    out
}

fn encode(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin_and_path(url: &str) -> String {
        Target::parse(url)
            .map(|target| format!("{} {}", target.origin(), target.path))
            .unwrap_or_else(|told| told)
    }

    #[test]
    fn addresses_are_read_in_one_way() {
        for (url, wanted) in [
            ("https://example.org", "https://example.org /"),
            ("http://EXAMPLE.org.:80/a?b=c#d", "http://example.org /a?b=c"),
            ("https://example.org:8443?x", "https://example.org:8443 /?x"),
            ("http://[2606:4700::1111]:8080/", "http://[2606:4700::1111]:8080 /"),
            ("http://93.184.216.34/", "http://93.184.216.34 /"),
        ] {
            assert_eq!(origin_and_path(url), wanted);
        }
        for url in [
            "",
            "example.org",
            "//example.org",
            "ftp://example.org",
            "file:///etc/passwd",
            "http://",
            "http:///x",
            "http://a b/",
            "http://a\\b/",
            "http://user@example.org/",
            "http://user:pass@example.org/",
            "http://example.org@127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.0.0.1/",
            "http://0177.0.0.1/",
            "http://127.0.0.1./",
            "http://1.2.3/",
            "http://example.org:0/",
            "http://example.org:/",
            "http://example.org:99999/",
            "http://example.org:+80/",
            "http://ex%61mple.org/",
            "http://exämple.org/",
            "http://a..b/",
            "http://[::1/",
            "http://[fe80::1%25eth0]/",
            "http://[1.2.3.4]/",
            "http://example.org\t/",
            "http://example.org\r\nx: y/",
            "gopher://x",
            "http://①②⑦.0.0.1/",
            "javascript:x",
        ] {
            assert!(Target::parse(url).is_err(), "{url:?}: {:?}", Target::parse(url));
        }
    }

    #[test]
    fn locations_are_seen_from_where_they_were_said() {
        let from = Target::parse("https://example.org/a/b?c=d").expect("a target");
        for (location, wanted) in [
            ("/x?y", "https://example.org /x?y"),
            ("x", "https://example.org /a/x"),
            ("?y", "https://example.org /a/b?y"),
            ("//other.org/x", "https://other.org /x"),
            ("http://other.org:8080/x", "http://other.org:8080 /x"),
            ("x?u=http://y", "https://example.org /a/x?u=http://y"),
        ] {
            let target = from.join(location).expect("a target");
            assert_eq!(format!("{} {}", target.origin(), target.path), wanted);
        }
        assert!(from.join("ftp://x").is_err() && from.join("http://u@x/").is_err());
    }

    #[test]
    fn names_and_values_of_a_query_cannot_end_it() {
        let pairs = [("a b".to_owned(), "c&d=e#f".to_owned()), ("ü".to_owned(), String::new())];
        assert_eq!(with_query("/x?y=1", &pairs), "/x?y=1&a%20b=c%26d%3De%23f&%C3%BC=");
        assert_eq!(with_query("/", &pairs[..1]), "/?a%20b=c%26d%3De%23f");
    }
}
