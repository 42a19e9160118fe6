//! The front of the port: which requests are gRPC, which are plain HTTP, and which are for nobody.

use crate::door::Door;
use crate::gate::Gate;
use crate::metrics;
use coretex_domain::{Reason, Refusal};
use http::header::{CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use std::convert::Infallible;
use std::sync::Arc;
use tonic::body::Body;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer, Service, ServiceExt};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone)]
pub(crate) struct Front {
    gate: Arc<Gate>,
    grpc: GrpcWebService<Door>,
}

impl Front {
    pub(crate) fn new(gate: Arc<Gate>, door: Door) -> Front {
        Front { gate, grpc: GrpcWebLayer::new().layer(door) }
    }

    pub(crate) async fn serve(mut self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        if let Err(refusal) = self.check_host(&request) {
            return Ok(refused(StatusCode::MISDIRECTED_REQUEST, &refusal));
        }
        if let Err(refusal) = self.check_origin(&request) {
            return Ok(refused(StatusCode::FORBIDDEN, &refusal));
        }
        let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        if !kind.starts_with(b"application/grpc") {
            return Ok(self.plain(request).await);
        }
        if !is_method_path(request.uri().path()) {
            let refusal = Refusal::new(Reason::UnknownMethod, "the path is no method of gRPC");
            return Ok(refused(StatusCode::NOT_FOUND, &refusal));
        }
        let grpc = &mut self.grpc;
        match Service::<Request<Incoming>>::call(grpc, request).await {
            Ok(response) => Ok(response.map(Body::new)),
            Err(never) => match never {},
        }
    }

    async fn plain(&self, request: Request<Incoming>) -> Response<Body> {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.uri().path() {
            "/livez" if is_read => text(StatusCode::OK, "text/plain", "ok\n"),
            "/healthz" | "/readyz" if is_read => match self.gate.engine.is_ready() {
                true => text(StatusCode::OK, "text/plain", "ok\n"),
                false => text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "not ready\n"),
            },
            "/metrics" if is_read && self.gate.settings.metrics => {
                text(StatusCode::OK, OPEN_METRICS, metrics::render(&self.gate).await)
            }
            _ => match &self.gate.settings.routes {
                Some(routes) => {
                    let request = request.map(axum::body::Body::new);
                    match routes.clone().oneshot(request).await {
                        Ok(response) => response.map(Body::new),
                        Err(never) => match never {},
                    }
                }
                None => refused(
                    StatusCode::NOT_FOUND,
                    &Refusal::new(Reason::UnknownMethod, "there is no such route"),
                ),
            },
        }
    }

    fn check_host(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        let Some(allowed) = &self.gate.settings.allowed_hosts else { return Ok(()) };
        let host = host_of(request).unwrap_or_default();
        if allowed.iter().any(|name| name.eq_ignore_ascii_case(bare(host))) {
            return Ok(());
        }
        let shown = coretex_domain::names::shown(host);
        Err(Refusal::new(Reason::HostNotAllowed, format!("this server does not answer for host {shown}")))
    }

    /// A page of another origin may not call: browsers say where a page is from.
    fn check_origin(&self, request: &Request<Incoming>) -> Result<(), Refusal> {
        let Some(origin) = request.headers().get(ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or_default();
        let own = origin.split_once("://").map(|(_, rest)| rest);
        let is_own = own.is_some() && own == host_of(request);
        if is_own || self.gate.settings.allowed_origins.iter().any(|o| o == origin) {
            return Ok(());
        }
        let shown = coretex_domain::names::shown(origin);
        Err(Refusal::new(Reason::OriginNotAllowed, format!("pages from {shown} may not call this server")))
    }
}

fn host_of(request: &Request<Incoming>) -> Option<&str> {
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    authority.or_else(|| request.headers().get(HOST).and_then(|h| h.to_str().ok()))
}

/// A host without its port.
fn bare(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// `/package.Service/Method`, and nothing that could be read in another way.
fn is_method_path(path: &str) -> bool {
    let is_name = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.ends_with('.')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'_')
    };
    match path.strip_prefix('/').and_then(|p| p.split_once('/')) {
        Some((service, method)) => is_name(service) && is_name(method) && !method.contains('.'),
        None => false,
    }
}

fn text(status: StatusCode, kind: &'static str, body: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Body::new(http_body_util::Full::new(bytes::Bytes::from(body.into()))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// A refusal of plain HTTP, which a gRPC client understands too.
fn refused(status: StatusCode, refusal: &Refusal) -> Response<Body> {
    let grpc = crate::status::of(refusal, "");
    let body = serde_json::json!({"error": {
        "code": format!("{:?}", grpc.code()), "reason": refusal.reason.name(), "message": refusal.message,
    }});
    let mut response = text(status, "application/json", body.to_string());
    // Fails only for a message that is no header, and ours are escaped.
    let _ = grpc.add_header(response.headers_mut());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_paths_are_no_methods() {
        assert!(is_method_path("/coretex.v1.JobService/SubmitJob"));
        for bad in [
            "",
            "/",
            "coretex.v1.JobService/SubmitJob",
            "//coretex.v1.JobService/SubmitJob",
            "/coretex.v1.JobService//SubmitJob",
            "/coretex.v1.JobService/SubmitJob/",
            "/coretex.v1.JobService/SubmitJob.",
            "/coretex.v1.JobService./SubmitJob",
            "/coretex.v1.JobService/%53ubmitJob",
            "/coretex.v1.JobService/../SubmitJob",
            "/coretex.v1.JobService/Submit Job",
            "/coretex.v1.JobService",
        ] {
            assert!(!is_method_path(bad), "{bad}");
        }
    }

    #[test]
    fn hosts_lose_their_port_only() {
        assert_eq!(bare("localhost:7070"), "localhost");
        assert_eq!(bare("[::1]:7070"), "[::1]");
        assert_eq!(bare("localhost"), "localhost");
    }
}
