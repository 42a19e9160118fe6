//! Section `listen`: the one address, and the names it answers to.

use super::Profile;
use super::layers::Layers;
use super::refusal::Refusal;
use std::net::SocketAddr;

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub address: SocketAddr,
    /// Host names that requests may name, besides the address itself and loopback names.
    pub allowed_hosts: Vec<String>,
}

impl Listen {
    pub fn build(layers: &mut Layers) -> Option<Listen> {
        let address = address(layers, "listen.address")?;
        Some(Listen { address, allowed_hosts: layers.list("listen.allowed_hosts") })
    }

    pub fn validate(&self, profile: Profile, has_tls: bool, layers: &mut Layers) {
        let is_loopback = self.address.ip().is_loopback();
        match profile {
            Profile::Dev if !is_loopback => {
                let message = format!(
                    "{} is not a loopback address; `coretex dev` has no login and listens on loopback only",
                    self.address
                );
                let mend = "listen on 127.0.0.1 or [::1], or use `coretex server`, which has logins and TLS";
                layers.refuse_at("listen.address", Refusal::new("R5", message, mend));
            }
            Profile::Production if !is_loopback && !has_tls => {
                let message =
                    format!("{} is reachable from other machines and there is no TLS", self.address);
                let mend = "set tls.cert and tls.key, or listen on loopback behind a proxy that speaks TLS";
                layers.refuse_at("listen.address", Refusal::new("R1", message, mend));
            }
            Profile::Dev | Profile::Production => {}
        }
        let is_any = |host: &String| host == "*" || host.is_empty();
        if self.allowed_hosts.iter().any(is_any) {
            let mend = "name the hosts that clients use, for example `[jobs.example.org]`";
            layers.refuse_at("listen.allowed_hosts", Refusal::new("R11", "`*` allows every host name", mend));
        }
    }

    /// All names a request may be addressed to: those configured, the address itself, and loopback names where they reach it.
    pub fn hosts(&self) -> Vec<String> {
        let ip = self.address.ip();
        let mut hosts = self.allowed_hosts.clone();
        let own = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
        let loopback = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        hosts.extend(std::iter::once(own).filter(|_| !ip.is_unspecified()));
        hosts.extend(loopback.into_iter().filter(|_| ip.is_loopback() || ip.is_unspecified()));
        hosts.sort();
        hosts.dedup();
        hosts
    }
}

/// An address with a port, in words when it is none. Port 0 means a free one, for tests, and is refused here.
pub(super) fn address(layers: &mut Layers, key: &'static str) -> Option<SocketAddr> {
    let text = layers.text(key)?;
    let shown = text.replace("localhost:", "127.0.0.1:");
    let problem = match (shown.parse::<SocketAddr>(), shown.rsplit_once(':')) {
        (Ok(address), _) if address.port() > 0 => return Some(address),
        (Ok(_), _) => "port 0 is no port clients could know".to_owned(),
        (Err(_), Some((_, port))) if port.parse::<u64>().is_ok_and(|port| port > 65_535) => {
            format!("port {port} is above 65535")
        }
        (Err(_), Some((host, _))) if host.chars().any(char::is_alphabetic) && !host.contains('[') => {
            format!("`{host}` is a name; an IP address is wanted")
        }
        (Err(_), _) => "it is not IP:PORT".to_owned(),
    };
    layers.refuse_value(key, format!("`{text}` cannot be used: {problem}"));
    None
}
