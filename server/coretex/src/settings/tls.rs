//! Section `tls`: the certificate and its key, checked before anybody relies on them.

use super::layers::Layers;
use super::refusal::Refusal;
use coretex_gateway::certificate_validity;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// PEM text that was checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    pub cert_pem: Vec<u8>,
    pub key_pem: Vec<u8>,
    /// Authorities of client certificates.
    pub client_ca_pem: Option<Vec<u8>>,
    /// Where they were read.
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("client_ca", &self.client_ca_pem.is_some()).finish_non_exhaustive()
    }
}

const CERT_MEND: &str = "name a PEM file with BEGIN CERTIFICATE blocks, the server's own first";
const KEY_MEND: &str = "name a PEM file with one unencrypted BEGIN PRIVATE KEY block, mode 600";

impl Tls {
    pub fn build(layers: &mut Layers) -> Option<Tls> {
        let (cert_path, key_path) = (layers.text("tls.cert"), layers.text("tls.key"));
        let (cert_path, key_path) = match (cert_path, key_path) {
            (Some(cert), Some(key)) => (cert, key),
            (None, None) => {
                if layers.text("tls.client_ca").is_some() {
                    layers.refuse_at(
                        "tls.client_ca",
                        Refusal::new("R4", "there is no tls.cert", "set tls.cert and tls.key too"),
                    );
                }
                return None;
            }
            (Some(_), None) => {
                layers.refuse_at(
                    "tls.cert",
                    Refusal::new("R4", "there is a certificate but no tls.key", KEY_MEND),
                );
                return None;
            }
            (None, Some(_)) => {
                layers.refuse_at("tls.key", Refusal::new("R4", "there is a key but no tls.cert", CERT_MEND));
                return None;
            }
        };
        let cert_pem = read(layers, "tls.cert", &cert_path, CERT_MEND);
        let key_pem = read(layers, "tls.key", &key_path, KEY_MEND);
        let client_ca = layers.text("tls.client_ca").map(PathBuf::from);
        let client_ca_pem = match layers.text("tls.client_ca") {
            Some(path) => {
                let pem = read(layers, "tls.client_ca", &path, CERT_MEND)?;
                certificates(layers, "tls.client_ca", &path, &pem)?;
                Some(pem)
            }
            None => None,
        };
        let (cert_pem, key_pem) = (cert_pem?, key_pem?);
        if is_open(&key_path) {
            let message = format!("{key_path} can be read by other users of this machine");
            layers.refuse_at("tls.key", Refusal::new("R4", message, format!("chmod 600 {key_path}")));
        }
        let certs = certificates(layers, "tls.cert", &cert_path, &cert_pem)?;
        let key = private_key(layers, &key_path, &key_pem)?;
        if let Err(error) = CertifiedKey::from_der(certs, key, &rustls::crypto::ring::default_provider()) {
            let message = format!("{key_path} is not the key of {cert_path}: {error}");
            layers.refuse_at(
                "tls.key",
                Refusal::new("R4", message, "use the key the certificate was made with"),
            );
            return None;
        }
        Some(Tls {
            cert_pem,
            key_pem,
            client_ca_pem,
            cert: cert_path.into(),
            key: key_path.into(),
            client_ca,
        })
    }
}

fn read(layers: &mut Layers, key: &'static str, path: &str, mend: &str) -> Option<Vec<u8>> {
    match std::fs::read(path) {
        Ok(pem) => Some(pem),
        Err(error) => {
            layers.refuse_at(key, Refusal::new("R4", format!("cannot read {path}: {error}"), mend));
            None
        }
    }
}

fn is_open(path: &str) -> bool {
    std::fs::metadata(path).is_ok_and(|facts| facts.permissions().mode() & 0o007 != 0)
}

fn certificates(
    layers: &mut Layers,
    key: &'static str,
    path: &str,
    pem: &[u8],
) -> Option<Vec<CertificateDer<'static>>> {
    let certs: Vec<_> = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
    let Some(first) = certs.first() else {
        let has_key = String::from_utf8_lossy(pem).contains("PRIVATE KEY");
        let message = match has_key {
            true => format!("{path} has a key in it, not a certificate"),
            false => format!("{path} has no certificate in it"),
        };
        layers.refuse_at(key, Refusal::new("R4", message, CERT_MEND));
        return None;
    };
    let now = layers.now;
    let problem = match certificate_validity(first) {
        None => Some(format!("the certificate in {path} cannot be read")),
        Some((_, end)) if end < now => Some(format!("the certificate in {path} has expired")),
        Some((start, _)) if start > now => Some(format!("the certificate in {path} is not valid yet")),
        Some(_) => None,
    };
    if let Some(message) = problem {
        layers.refuse_at(key, Refusal::new("R4", message, "get a new certificate, or correct the clock"));
        return None;
    }
    Some(certs)
}

fn private_key(layers: &mut Layers, path: &str, pem: &[u8]) -> Option<PrivateKeyDer<'static>> {
    if let Ok(key) = PrivateKeyDer::from_pem_slice(pem) {
        return Some(key);
    }
    let text = String::from_utf8_lossy(pem);
    let what = match () {
        () if text.contains("ENCRYPTED") => "is encrypted",
        () if text.contains("BEGIN CERTIFICATE") => "has a certificate in it, not a key",
        () => "has no private key in it",
    };
    layers.refuse_at("tls.key", Refusal::new("R4", format!("{path} {what}"), KEY_MEND));
    None
}
