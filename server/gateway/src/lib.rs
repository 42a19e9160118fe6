#![doc = include_str!("../README.md")]

mod access;
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
mod tls;
mod tokens;
mod wire;

pub use access::certificate::CertificateRule;
pub use access::jwt::{Algorithm, ClaimRules, Issuer, KeySource, RoleNames};
pub use access::keys::{ApiKeys, Identity, KeyHash, key_of, pepper_id, prefix_of, random_bytes};
pub use access::principal::{Principal, PrincipalKind};
pub use access::validity::of as certificate_validity;
pub use access::{Access, Authority, KeyFault};
pub use kernel_client::KernelClient;
pub use metrics::Counts;
pub use serve::{serve, serve_metrics};
pub use settings::GatewaySettings;
pub use tls::{Tls, TlsFiles};
