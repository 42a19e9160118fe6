//! One request and its answer, over one connection to an address that was judged.

use super::egress::{Egress, unreachable};
use super::request::Request;
use super::target::Host;
use crate::StepFailure;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

/// Bytes of an answer that are read.
pub(super) const BODY_MAX: usize = 10 << 20;

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) body: Bytes,
}

pub(super) async fn exchange(
    egress: &Egress,
    tls: &Arc<rustls::ClientConfig>,
    request: &Request,
) -> Result<Answer, StepFailure> {
    let socket = egress.connect(&request.target).await?;
    if !request.target.is_secure {
        return over(socket, request).await;
    }
    let name = match &request.target.host {
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|error| said(request, &error))?,
        Host::Address(address) => ServerName::IpAddress((*address).into()),
    };
    let stream = TlsConnector::from(tls.clone()).connect(name, socket).await;
    over(stream.map_err(|error| said(request, &error))?, request).await
}

fn said(request: &Request, error: &dyn std::fmt::Display) -> StepFailure {
    unreachable(format!("{}: {error}", request.target.origin()))
}

async fn over<S>(stream: S, request: &Request) -> Result<Answer, StepFailure>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| said(request, &error))?;
    // What goes wrong on it, the answer says as well.
    let _connection = AbortOnDrop(tokio::spawn(async move { drop(connection.await) }));
    let mut sent = http::Request::builder()
        .method(request.method.clone())
        .uri(&request.target.path)
        .body(Full::new(request.body.clone()))
        .map_err(|error| StepFailure::new(crate::given::INVALID, format!("input.url: {error}")))?;
    *sent.headers_mut() = request.headers.clone();
    let authority = http::HeaderValue::from_str(&request.target.authority());
    sent.headers_mut().insert(http::header::HOST, authority.map_err(|error| said(request, &error))?);
    sent.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
    let response = sender.send_request(sent).await.map_err(|error| said(request, &error))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, BODY_MAX).collect().await.map_err(|error| {
        match error.is::<LengthLimitError>() {
            true => {
                StepFailure::new("RESULT_TOO_LARGE", format!("the answer has more than {BODY_MAX} bytes"))
            }
            false => said(request, &error),
        }
    })?;
    Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() })
}

/// The authorities of this machine, and those of the settings besides.
pub(super) fn tls(authorities: Option<&[u8]>) -> Result<Arc<rustls::ClientConfig>, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = authorities {
        let before = roots.len();
        for cert in CertificateDer::pem_slice_iter(pem) {
            let cert = cert.map_err(|error| format!("a certificate cannot be read: {error}"))?;
            roots.add(cert).map_err(|error| format!("a certificate cannot be used: {error}"))?;
        }
        if roots.len() == before {
            return Err("it holds no certificate".into());
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
