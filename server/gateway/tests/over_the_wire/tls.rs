//! TLS on the same port. The key beside this file protects nothing but these tests.

use crate::running_server::Server;
use coretex_gateway::{GatewaySettings, Tls};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CA: &[u8] = include_bytes!("tls/ca.pem");
const CERT: &[u8] = include_bytes!("tls/cert.pem");
const KEY: &[u8] = include_bytes!("tls/key.pem");

fn tls(cert: &[u8], key: &[u8]) -> GatewaySettings {
    let tls = Tls { cert_pem: cert.to_vec(), key_pem: key.to_vec(), client_ca_pem: None, files: None };
    GatewaySettings { tls: Some(tls), ..Default::default() }
}

async fn get_healthz(server: &Server, alpn: &[u8]) -> Result<String, std::io::Error> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CA).expect("a certificate")).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let socket = tokio::net::TcpStream::connect(server.addr).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    // The peer may end without a farewell.
    let _ = stream.read_to_end(&mut answer).await;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn a_certificate_makes_the_port_speak_tls() {
    let server = Server::with(tls(CERT, KEY)).await;
    assert!(get_healthz(&server, b"http/1.1").await.expect("an answer").starts_with("HTTP/1.1 200"));
    assert!(get_healthz(&server, b"spdy/1").await.is_err(), "no protocol in common");
    assert!(
        !server.http("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.contains("200"),
        "never in the clear"
    );
    server.stop().await;
}

#[tokio::test]
async fn unusable_certificates_are_a_start_failure() {
    for (cert, key, word) in [
        (&b"nonsense"[..], KEY, "no certificate"),
        (CERT, &b"nonsense"[..], "key cannot be read"),
        (CA, KEY, "certificate and key"),
    ] {
        let fault = Server::failing(tls(cert, key)).await;
        assert!(fault.to_string().contains(word), "{word}: {fault}");
    }
}
