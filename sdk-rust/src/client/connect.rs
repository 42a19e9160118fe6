//! Connecting: address, identity, TLS, timeouts.

use super::{Client, Shared};
use crate::error::{Code, Error, Result, reason};
use crate::raw::Identity;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity as TlsIdentity};

/// Flow-control windows: HTTP/2's own 64 KiB would throttle a worker's one stream.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// Address used when none is given.
pub const DEFAULT_ADDR: &str = "http://127.0.0.1:7070";

/// Options of a [`Client`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it connects"]
pub struct ClientBuilder {
    addr: String,
    pub(crate) namespace: String,
    api_key: Option<String>,
    tls: TlsPaths,
    connect_timeout: Duration,
    pub(crate) call_timeout: Duration,
    pub(crate) retry_for: Duration,
}

#[derive(Clone, Debug, Default)]
struct TlsPaths {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    domain: Option<String>,
}

impl ClientBuilder {
    pub(crate) fn new(addr: impl Into<String>) -> Self {
        Self {
            addr: addr.into(),
            namespace: "default".into(),
            api_key: None,
            tls: TlsPaths::default(),
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            retry_for: Duration::from_secs(30),
        }
    }

    /// Reads `CORETEX_ADDR`, `CORETEX_NAMESPACE` and `CORETEX_API_KEY`.
    pub(crate) fn from_env() -> Self {
        let read = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut builder = Self::new(read("CORETEX_ADDR").unwrap_or_else(|| DEFAULT_ADDR.into()));
        if let Some(namespace) = read("CORETEX_NAMESPACE") {
            builder.namespace = namespace;
        }
        builder.api_key = read("CORETEX_API_KEY");
        builder
    }

    /// Namespace of every call. Default `default`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Credential of every call.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.api_key = Some(key.into());
        self
    }

    /// PEM file with the certificates to trust. Default: those of the system.
    pub fn tls_ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls.ca = Some(path.into());
        self
    }

    /// PEM files with a client certificate and its key.
    pub fn tls_identity(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        (self.tls.cert, self.tls.key) = (Some(cert.into()), Some(key.into()));
        self
    }

    /// Name expected in the server's certificate. Default: the host of the address.
    pub fn tls_domain(mut self, domain: impl Into<String>) -> Self {
        self.tls.domain = Some(domain.into());
        self
    }

    /// How long a connection may take. Default 10 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a call may take, waits aside. Default 30 s.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// How long calls are repeated while the server is not there or the outcome is not known. Zero: never. Default 30 s.
    pub fn retry_for(mut self, span: Duration) -> Self {
        self.retry_for = span;
        self
    }

    /// Connects. Refuses when the options are not valid or the server does not answer.
    pub async fn connect(self) -> Result<Client> {
        let channel = self.dial().await?;
        self.client(channel)
    }

    pub(crate) async fn dial(&self) -> Result<Channel> {
        self.endpoint()?.connect().await.map_err(|error| self.unreachable(error))
    }

    /// The same options for another address of the installation.
    pub(crate) fn at(&self, addr: String) -> Self {
        let scheme = self.addr.split_once("://").map_or("http", |(scheme, _)| scheme);
        let addr = if addr.contains("://") { addr } else { format!("{scheme}://{addr}") };
        Self { addr, ..self.clone() }
    }

    /// A client that connects with its first call. Must be called within a tokio runtime.
    pub fn connect_lazy(self) -> Result<Client> {
        let channel = self.endpoint()?.connect_lazy();
        self.client(channel)
    }

    fn client(self, channel: Channel) -> Result<Client> {
        Ok(Client::of(Shared { identity: self.identity()?, channel, can_dial: true, options: self }))
    }

    pub(crate) fn identity(&self) -> Result<Identity> {
        let text = |what: &str, value: String| {
            value.parse().map_err(|_| Error::option(format!("{what} has characters that cannot be sent")))
        };
        let bearer = self.api_key.as_ref().map(|key| text("the API key", format!("Bearer {key}")));
        let mut authorization: Option<tonic::metadata::MetadataValue<_>> = bearer.transpose()?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Ok(Identity { namespace: text("the namespace", self.namespace.clone())?, authorization })
    }

    fn endpoint(&self) -> Result<Endpoint> {
        let addr = match self.addr.contains("://") {
            true => self.addr.clone(),
            false => format!("http://{}", self.addr),
        };
        let refuse = |error: &dyn std::fmt::Display| {
            Error::option(format!("`{}` is not an address such as `{DEFAULT_ADDR}`: {error}", self.addr))
        };
        let endpoint = Endpoint::from_shared(addr.clone()).map_err(|error| refuse(&error))?;
        let endpoint = endpoint
            .user_agent(concat!("coretex-sdk-rust/", env!("CARGO_PKG_VERSION")))
            .map_err(|error| refuse(&error))?
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        match addr.starts_with("https://") {
            true => endpoint.tls_config(self.tls.load()?).map_err(|error| refuse(&error)),
            false if self.tls.ca.is_some() || self.tls.cert.is_some() => {
                Err(Error::option(format!("TLS files are given, but `{addr}` is not an https:// address")))
            }
            false => Ok(endpoint),
        }
    }

    fn unreachable(&self, error: tonic::transport::Error) -> Error {
        let mut message = format!("cannot reach {}", self.addr);
        let mut cause = std::error::Error::source(&error);
        while let Some(inner) = cause {
            message = format!("{message}: {inner}");
            cause = inner.source();
        }
        Error::new(Code::Unavailable, reason::UNREACHABLE, message).with_source(error)
    }
}

// === impl TlsPaths ===

impl TlsPaths {
    fn load(&self) -> Result<ClientTlsConfig> {
        let mut config = match &self.ca {
            Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let (Some(cert), Some(key)) = (&self.cert, &self.key) {
            config = config.identity(TlsIdentity::from_pem(read(cert)?, read(key)?));
        }
        if let Some(domain) = &self.domain {
            config = config.domain_name(domain);
        }
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| Error::option(format!("cannot read {}: {error}", path.display())))
}
