//! Whom a request may reach: public addresses over the usual ports, and what the settings allow besides.
//!
//! A name is resolved once, every address it has is judged, and the connection goes to one of those that were: what the
//! name means a moment later does not matter.

use super::address::{Network, not_public};
use super::target::{Host, Target};
use crate::StepFailure;
use futures::future::BoxFuture;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Addresses of one name that are looked at.
const ADDRESSES_MAX: usize = 16;
const PORTS: [u16; 2] = [80, 443];

/// One thing that is allowed besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allow {
    /// A host by its name, or an address; whatever the name means, at this port or at those that all have.
    Host { name: String, port: Option<u16> },
    /// Addresses, at the ports that all have.
    Network(Network),
    /// A port of every address that may be called.
    Port(u16),
}

/// The way to other machines.
pub trait Net: fmt::Debug + Send + Sync {
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>>;
}

/// The network of this machine.
#[derive(Debug)]
pub struct System;

/// Judges every address before it is connected to.
#[derive(Debug)]
pub(crate) struct Egress {
    allowed: Vec<Allow>,
    net: Arc<dyn Net>,
}

// === impl System ===

impl Net for System {
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(address))
    }
}

// === impl Egress ===

impl Egress {
    pub(crate) fn new(allowed: Vec<Allow>, net: Arc<dyn Net>) -> Egress {
        Egress { allowed, net }
    }

    /// A connection to one of the addresses of the target, all of which may be called.
    pub(crate) async fn connect(&self, target: &Target) -> Result<TcpStream, StepFailure> {
        self.check_port(target)?;
        let mut addresses = match &target.host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => {
                let found = self.net.resolve(name.clone()).await;
                found.map_err(|error| unreachable(format!("{name} cannot be resolved: {error}")))?
            }
        };
        addresses.truncate(ADDRESSES_MAX);
        for address in &addresses {
            self.check(target, *address)?;
        }
        let mut last = unreachable(format!("{} has no address", target.host));
        for address in addresses {
            match self.net.connect(SocketAddr::new(address, target.port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = unreachable(format!("{} cannot be reached: {error}", target.origin())),
            }
        }
        Err(last)
    }

    fn check_port(&self, target: &Target) -> Result<(), StepFailure> {
        let allows = |one: &Allow| match one {
            Allow::Port(port) => *port == target.port,
            Allow::Host { port, .. } => *port == Some(target.port) && self.is_named(one, target),
            Allow::Network(_) => false,
        };
        if PORTS.contains(&target.port) || self.allowed.iter().any(allows) {
            return Ok(());
        }
        Err(refused(format!("port {} of {} may not be called; 80 and 443 may", target.port, target.host)))
    }

    fn check(&self, target: &Target, address: IpAddr) -> Result<(), StepFailure> {
        let Some(what) = not_public(address) else { return Ok(()) };
        let allows = |one: &Allow| match one {
            Allow::Network(network) => network.has(address),
            Allow::Host { .. } => self.is_named(one, target),
            Allow::Port(_) => false,
        };
        match self.allowed.iter().any(allows) {
            true => Ok(()),
            // Which address it is is nobody's business who does not keep the server.
            false => Err(refused(format!("{} may not be called: its address is {what}", target.host))),
        }
    }

    fn is_named(&self, one: &Allow, target: &Target) -> bool {
        match one {
            Allow::Host { name, port } => {
                *name == target.host.to_string() && port.is_none_or(|port| port == target.port)
            }
            Allow::Network(_) | Allow::Port(_) => false,
        }
    }
}

pub(crate) fn refused(why: String) -> StepFailure {
    StepFailure::new("EGRESS_REFUSED", format!("{why}; `steps.http.allow` names what may be called besides"))
}

pub(crate) fn unreachable(why: String) -> StepFailure {
    StepFailure::passing("HTTP_UNREACHABLE", why)
}

// === impl Allow ===

impl FromStr for Allow {
    type Err = String;

    /// `HOST`, `HOST:PORT`, `ADDRESS/BITS` or `:PORT`.
    fn from_str(text: &str) -> Result<Allow, String> {
        let port_of = |port: &str| {
            let port = port.parse::<u16>().ok().filter(|port| *port > 0);
            port.ok_or_else(|| format!("`{text}` has no port from 1 to 65535 after the colon"))
        };
        if let Some(port) = text.strip_prefix(':').filter(|port| !port.contains(':')) {
            return Ok(Allow::Port(port_of(port)?));
        }
        if text.contains('/') {
            return Network::parse(text).map(Allow::Network);
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port_of(port)?)),
            Some(_) => (text, None),
            None => (text, None),
        };
        let bare = host.parse::<std::net::Ipv6Addr>().map(|address| Host::Address(address.into()));
        let host = bare.or_else(|_| Host::parse(host)).map_err(|told| format!("`{text}` {told}"))?;
        Ok(Allow::Host { name: host.to_string(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_a_host_a_network_or_a_port() {
        let host = |name: &str, port| Ok(Allow::Host { name: name.into(), port });
        assert_eq!("api.Internal".parse(), host("api.internal", None));
        assert_eq!("api.internal:8080".parse(), host("api.internal", Some(8080)));
        assert_eq!("127.0.0.1:8080".parse(), host("127.0.0.1", Some(8080)));
        assert_eq!("[::1]:8080".parse(), host("[::1]", Some(8080)));
        assert_eq!("::1".parse(), host("[::1]", None));
        assert_eq!(":8443".parse(), Ok(Allow::Port(8443)));
        assert!(matches!("10.0.0.0/8".parse(), Ok(Allow::Network(_))));
        for bad in [
            "",
            ":",
            ":0",
            ":x",
            "a:0",
            "a:99999",
            "10.0.0.1/8",
            "a b",
            "*",
            "*.internal",
            "http://a",
            "0x7f.1",
            "u@a",
        ] {
            assert!(bad.parse::<Allow>().is_err(), "{bad}");
        }
    }
}
