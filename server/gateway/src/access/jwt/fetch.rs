//! How public keys are read: from a file, or over HTTPS with bounds on everything.

use super::key_set::KeySource;
use futures::future::BoxFuture;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Size of a JWKS; real ones have a few KiB.
const BYTES_MAX: usize = 1 << 20;
/// From the name to the last byte.
const WITHIN: Duration = Duration::from_secs(5);

/// A way to the public keys of an issuer.
pub(super) trait Fetch: Send + Sync {
    fn fetch(&self) -> BoxFuture<'_, Result<Vec<u8>, String>>;
}

pub(super) fn of(source: KeySource) -> Box<dyn Fetch> {
    match source {
        KeySource::File(path) => Box::new(Local(path)),
        KeySource::Url { url, ca_pem } => Box::new(Remote { url, ca_pem }),
    }
}

// === Local ===

struct Local(PathBuf);

impl Fetch for Local {
    fn fetch(&self) -> BoxFuture<'_, Result<Vec<u8>, String>> {
        Box::pin(async {
            let path = self.0.clone();
            let read = tokio::task::spawn_blocking(move || {
                let facts = std::fs::metadata(&path)?;
                match facts.len() <= BYTES_MAX as u64 {
                    true => std::fs::read(&path),
                    false => Err(std::io::Error::other(format!("it has more than {BYTES_MAX} bytes"))),
                }
            });
            let read = read.await.map_err(|error| error.to_string())?;
            read.map_err(|error| format!("cannot read {}: {error}", self.0.display()))
        })
    }
}

// === Remote ===

struct Remote {
    url: String,
    ca_pem: Option<Vec<u8>>,
}

/// An address of HTTPS in parts.
pub(super) struct Place {
    host: String,
    port: u16,
    path: String,
}

impl Place {
    pub(super) fn parse(url: &str) -> Result<Place, String> {
        let uri: http::Uri = url.parse().map_err(|error| format!("it is no address: {error}"))?;
        if uri.scheme_str() != Some("https") {
            return Err("it does not begin with `https://`".into());
        }
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("a name or password has no place in it".into());
        }
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Place { host, port: authority.port_u16().unwrap_or(443), path })
    }

    /// As the header `Host` wants it.
    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == 443 { host } else { format!("{host}:{}", self.port) }
    }
}

impl Fetch for Remote {
    fn fetch(&self) -> BoxFuture<'_, Result<Vec<u8>, String>> {
        Box::pin(async {
            let read = tokio::time::timeout(WITHIN, self.get());
            let read = read.await.unwrap_or_else(|_| Err(format!("no answer within {} s", WITHIN.as_secs())));
            read.map_err(|why| format!("{}: {why}", self.url))
        })
    }
}

impl Remote {
    async fn get(&self) -> Result<Vec<u8>, String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let place = Place::parse(&self.url)?;
        let name = ServerName::try_from(place.host.clone()).map_err(|e| said(&e))?;
        let socket = TcpStream::connect((place.host.as_str(), place.port)).await.map_err(|e| said(&e))?;
        let connector = TlsConnector::from(Arc::new(self.tls()?));
        let stream = connector.connect(name, socket).await.map_err(|e| said(&e))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| said(&e))?;
        // Ends with the sender. What goes wrong on it, the answer says as well.
        let connection = AbortOnDrop(tokio::spawn(async move { drop(connection.await) }));
        let request = http::Request::get(&place.path)
            .header(http::header::HOST, place.authority())
            .header(http::header::ACCEPT, "application/json")
            .body(Empty::<bytes::Bytes>::new())
            .map_err(|e| said(&e))?;
        let response = sender.send_request(request).await.map_err(|e| said(&e))?;
        // A redirect is not followed: it would leave the choice of the host to somebody else.
        if response.status() != http::StatusCode::OK {
            return Err(format!("it answered {}", response.status()));
        }
        let body = Limited::new(response.into_body(), BYTES_MAX).collect().await.map_err(|e| said(&e))?;
        drop(connection);
        Ok(body.to_bytes().to_vec())
    }

    fn tls(&self) -> Result<rustls::ClientConfig, String> {
        let mut roots = rustls::RootCertStore::empty();
        match &self.ca_pem {
            Some(pem) => {
                for cert in CertificateDer::pem_slice_iter(pem) {
                    let cert = cert.map_err(|error| error.to_string())?;
                    roots.add(cert).map_err(|error| error.to_string())?;
                }
            }
            None => {
                let (added, _) =
                    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if added == 0 {
                    return Err("this machine has no authorities to check it with; set jwks_ca".into());
                }
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|error| error.to_string())?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
