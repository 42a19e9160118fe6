//! A server that gives keys, and servers that give something else.

use super::*;
use rcgen::{CertificateParams, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Answers every request with this; its address and its own authority.
async fn serve(answer: Vec<u8>, ends: bool) -> (String, Vec<u8>) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let der = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], der)
        .expect("a pair");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let mut request = vec![0; 4_096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(&answer).await;
            if !ends {
                std::future::pending::<()>().await;
            }
            let _ = stream.shutdown().await;
        }
    });
    (format!("https://localhost:{port}/jwks"), certificate.pem().into_bytes())
}

async fn fetched(answer: &[u8], ends: bool) -> Result<Vec<u8>, String> {
    let (url, ca) = serve(answer.to_vec(), ends).await;
    Remote { url, ca_pem: Some(ca) }.fetch().await
}

#[tokio::test]
async fn keys_come_over_https() {
    let body = fetched(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", true).await;
    assert_eq!(body.as_deref(), Ok(&b"{}"[..]));
}

#[tokio::test]
async fn redirects_errors_and_floods_are_refused() {
    let redirect = b"HTTP/1.1 302 Found\r\nLocation: https://169.254.169.254/\r\nContent-Length: 0\r\n\r\n";
    let refused = fetched(redirect, true).await.expect_err("not followed");
    assert!(refused.contains("302"), "{refused}");
    let refused =
        fetched(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", true).await.expect_err("an error");
    assert!(refused.contains("500"), "{refused}");
    let mut flood = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", BYTES_MAX + 1).into_bytes();
    flood.resize(flood.len() + BYTES_MAX + 1, b' ');
    assert!(fetched(&flood, true).await.expect_err("too large").contains("limit"));
    assert!(fetched(b"nonsense", true).await.is_err());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for() {
    let refused = fetched(b"HTTP/1.1 200 OK\r\n", false).await.expect_err("too slow");
    assert!(refused.contains("within 5 s"), "{refused}");
}

#[tokio::test]
async fn an_unknown_authority_is_refused() {
    let (url, _) = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec(), true).await;
    let (_, other) = serve(Vec::new(), true).await;
    assert!(Remote { url, ca_pem: Some(other) }.fetch().await.is_err());
}

#[test]
fn addresses_are_of_https_and_nothing_else() {
    let place = Place::parse("https://id.example.org/keys?a=b").expect("good");
    assert_eq!(
        (place.authority().as_str(), place.port, place.path.as_str()),
        ("id.example.org", 443, "/keys?a=b")
    );
    assert_eq!(Place::parse("https://[::1]:8443").expect("good").authority(), "[::1]:8443");
    for bad in [
        "",
        "http://id.example.org",
        "file:///etc/passwd",
        "https://",
        "https://a:b@id.example.org/",
        "/keys",
    ] {
        assert!(Place::parse(bad).is_err(), "{bad}");
    }
}
