//! What the binary tells the gateway. Every bound has a default that fits one machine.

use crate::access::Access;
use crate::metrics::Counts;
use crate::tls::Tls;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of [`crate::serve`].
#[derive(Clone)]
pub struct GatewaySettings {
    /// Signs page and resume tokens. The same on all nodes of an installation, and over restarts.
    pub token_key: [u8; 32],
    /// Version and commit of the product, for `GetServerInfo`.
    pub version: String,
    pub commit: String,
    /// `dev` or `production`.
    pub profile: String,
    /// Address as people write it, for `GetServerInfo`.
    pub listen: String,
    /// Names the installation, for `GetServerInfo`.
    pub cluster_id: String,
    /// Largest payload, result or checkpoint, bytes.
    pub payload_max: usize,
    /// Largest request, reply or frame after decompression, bytes.
    pub message_max: usize,
    /// Size at which the store refuses submits, for `GetServerInfo`. 0: none is known.
    pub store_max_bytes: u64,
    /// Served over TLS when given.
    pub tls: Option<Tls>,
    /// Who may call. By default everybody: the binary allows that on loopback only.
    pub access: Access,
    /// What API keys of the store are hashed with, the same on all nodes and over restarts. `None`: none are kept or believed.
    pub key_pepper: Option<Vec<u8>>,
    /// Names a request may be addressed to, without ports. `None` allows all.
    pub allowed_hosts: Option<Vec<String>>,
    /// Origins of pages that may call besides this server's own, such as `https://console.example`.
    pub allowed_origins: Vec<String>,
    /// Whether server reflection answers.
    pub reflection: bool,
    /// Whether `/metrics` is on this listener; see also [`crate::serve_metrics`].
    pub metrics: bool,
    /// What is counted; hand a clone to [`crate::serve_metrics`].
    pub counts: Counts,
    pub connections_max: usize,
    /// Connections from one IPv4 address or one IPv6 network (/64).
    pub connections_per_address_max: usize,
    /// A connection on which nothing is asked for so long is closed.
    pub connection_idle_max: Duration,
    /// A connection of this age (give or take a tenth) takes no new calls: clients connect anew and spread out.
    /// `None`: they may grow as old as they like.
    pub connection_age_max: Option<Duration>,
    /// What is still open on an old connection after this is cut.
    pub connection_age_grace: Duration,
    /// Streams per connection.
    pub streams_max: u32,
    /// HTTP/2 windows, bytes.
    pub stream_window: u32,
    pub connection_window: u32,
    /// Whether namespaces must be created before they are used.
    pub namespaces_declared: bool,
    /// Watches open at a time.
    pub watches_max: usize,
    /// Directory below which `BackupStore` may write. `None` allows any absolute path.
    pub backup_root: Option<PathBuf>,
    /// How long open calls and streams may take when the server goes down.
    pub shutdown_grace: Duration,
    /// Serve `SafetyService` and health, and nothing else.
    pub only_safety: bool,
    /// More routes of the same port, such as a dashboard: asked for every path that is not the gateway's own.
    pub routes: Option<axum::Router>,
}

impl Default for GatewaySettings {
    /// The development profile. The token key is all zero: set it.
    fn default() -> GatewaySettings {
        GatewaySettings {
            token_key: [0; 32],
            version: env!("CARGO_PKG_VERSION").to_owned(),
            commit: String::new(),
            profile: "dev".to_owned(),
            listen: String::new(),
            cluster_id: String::new(),
            payload_max: coretex_domain::limits::PAYLOAD_MAX,
            message_max: coretex_domain::limits::MESSAGE_MAX,
            store_max_bytes: 0,
            tls: None,
            access: Access::open(),
            key_pepper: None,
            allowed_hosts: None,
            allowed_origins: Vec::new(),
            reflection: true,
            metrics: true,
            counts: Counts::default(),
            connections_max: 10_000,
            connections_per_address_max: 2_500,
            connection_idle_max: Duration::from_secs(300),
            connection_age_max: None,
            // The longest wait is answered by then.
            connection_age_grace: Duration::from_secs(660),
            streams_max: 256,
            stream_window: 4 << 20,
            connection_window: 16 << 20,
            namespaces_declared: false,
            watches_max: 10_000,
            backup_root: None,
            shutdown_grace: Duration::from_secs(10),
            only_safety: false,
            routes: None,
        }
    }
}
