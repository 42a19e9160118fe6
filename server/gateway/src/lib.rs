#![doc = include_str!("../README.md")]

mod api;
mod call;
mod connection;
mod door;
mod front;
mod gate;
mod hot;
mod kernel_client;
mod methods;
mod metrics;
mod routes;
mod serve;
mod settings;
mod status;
mod stream;
mod tokens;
mod wire;

pub use kernel_client::KernelClient;
pub use metrics::Counts;
pub use serve::{serve, serve_metrics};
pub use settings::{ApiKeys, GatewaySettings, Identity, Tls};
