//! Section `metrics`: a listener of its own.

use super::layers::Layers;
use super::listen::{Listen, address};
use super::refusal::Refusal;
use std::net::SocketAddr;

/// Where metrics are read, besides `/metrics` of the dev profile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    pub listen: Option<SocketAddr>,
}

impl Metrics {
    pub fn build(layers: &mut Layers) -> Option<Metrics> {
        match layers.value("metrics.listen") {
            Some(_) => address(layers, "metrics.listen").map(|listen| Metrics { listen: Some(listen) }),
            None => Some(Metrics::default()),
        }
    }

    pub fn validate(&self, listen: &Listen, layers: &mut Layers) {
        let Some(own) = self.listen else { return };
        if own == listen.address {
            layers.refuse_value("metrics.listen", format!("{own} is the address of listen.address too"));
        }
        if !own.ip().is_loopback() {
            let mend = "listen on 127.0.0.1 and let a collector on this machine read it";
            let message = format!("{own} is reachable from other machines, and metrics have no login");
            layers.refuse_at("metrics.listen", Refusal::new("R1", message, mend));
        }
    }
}
