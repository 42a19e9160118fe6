//! Certificates of the port: read, checked, and taken anew when their files change.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio_rustls::TlsAcceptor;

/// A certificate chain and its key, PEM.
#[derive(Clone)]
pub struct Tls {
    pub cert_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
    /// When given, clients must show a certificate of one of these authorities.
    pub client_ca_pem: Option<Vec<u8>>,
    /// Where they were read from, and are read again. `None`: they stay as they are.
    pub files: Option<TlsFiles>,
}

/// Files that may change while the server runs. New connections meet the new content.
#[derive(Clone)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
    /// How often they are looked at.
    pub every: Duration,
}

/// What meets new connections.
pub(crate) struct Acceptors {
    newest: RwLock<TlsAcceptor>,
    first: Tls,
}

// === impl TlsFiles ===

impl TlsFiles {
    /// All of them, if all can be read.
    fn read(&self) -> io::Result<Tls> {
        let read = |path: &PathBuf| {
            std::fs::read(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
        };
        Ok(Tls {
            cert_pem: read(&self.cert)?,
            key_pem: read(&self.key)?,
            client_ca_pem: self.client_ca.as_ref().map(read).transpose()?,
            files: None,
        })
    }
}

// === impl Acceptors ===

impl Acceptors {
    pub(crate) fn new(tls: Tls) -> io::Result<Arc<Acceptors>> {
        Ok(Arc::new(Acceptors { newest: RwLock::new(acceptor(&tls)?), first: tls }))
    }

    pub(crate) fn newest(&self) -> TlsAcceptor {
        self.newest.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes what is new in the files. What cannot be used is said once, and the old goes on.
    pub(crate) async fn follow_files(self: Arc<Self>) {
        let Some(files) = self.first.files.clone() else { return };
        let is_same = |a: &Tls, b: &Tls| {
            (&a.cert_pem, &a.key_pem, &a.client_ca_pem) == (&b.cert_pem, &b.key_pem, &b.client_ca_pem)
        };
        // Content is compared, not time: links that change, as orchestrators make them, keep their old times.
        let (mut seen, mut unreadable) = (self.first.clone(), false);
        loop {
            tokio::time::sleep(files.every).await;
            let reader = files.clone();
            let read = match tokio::task::spawn_blocking(move || reader.read()).await {
                Ok(Ok(tls)) => tls,
                Ok(Err(error)) => {
                    if !std::mem::replace(&mut unreadable, true) {
                        tracing::warn!(%error, "certificates cannot be read; the old ones are kept");
                    }
                    continue;
                }
                Err(_) => return,
            };
            unreadable = false;
            if is_same(&read, &seen) {
                continue;
            }
            match acceptor(&read) {
                Ok(made) => {
                    *self.newest.write().unwrap_or_else(PoisonError::into_inner) = made;
                    tracing::info!("new certificates are in use");
                }
                Err(error) => {
                    tracing::warn!(%error, "new certificates cannot be used; the old ones are kept")
                }
            }
            seen = read;
        }
    }
}

fn acceptor(tls: &Tls) -> io::Result<TlsAcceptor> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("TLS: {what}"));
    let certs: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(&tls.cert_pem).collect();
    let certs = certs.map_err(|e| bad(&format!("the certificate cannot be read: {e}")))?;
    if certs.is_empty() {
        return Err(bad("the certificate file holds no certificate"));
    }
    let key = PrivateKeyDer::from_pem_slice(&tls.key_pem)
        .map_err(|e| bad(&format!("the key cannot be read: {e}")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| bad(&e.to_string()))?;
    let config = match &tls.client_ca_pem {
        None => config.with_no_client_auth(),
        Some(pem) => {
            let mut roots = rustls::RootCertStore::empty();
            for cert in CertificateDer::pem_slice_iter(pem) {
                let cert = cert.map_err(|e| bad(&format!("the client CA cannot be read: {e}")))?;
                roots.add(cert).map_err(|e| bad(&format!("the client CA is not usable: {e}")))?;
            }
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            config.with_client_cert_verifier(verifier.build().map_err(|e| bad(&e.to_string()))?)
        }
    };
    let mut config =
        config.with_single_cert(certs, key).map_err(|e| bad(&format!("certificate and key: {e}")))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
