//! The door of every gRPC call: who calls, whether they may, in which namespace, until when. Behind it a panic is caught, a status of the
//! transport becomes one of ours, and the call is counted.

mod body;
mod floods;
mod trail;

pub(crate) use floods::{count_floods, tell_floods};

use crate::access::leash::Leash;
use crate::access::principal::Principal;
use crate::call::Call;
use crate::connection::{InUse, Link};
use crate::gate::Gate;
use crate::status;
use body::{Counted, Observed};
use coretex_contract::NAMESPACE_METADATA;
use coretex_domain::names::{check_namespace, shown};
use coretex_domain::{Namespace, Reason, Refusal};
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response};
use std::convert::Infallible;
use std::hash::{BuildHasher, Hasher};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::Service;
use trail::{Outcome, Trail};

const REQUEST_ID: &str = "x-request-id";
const REQUEST_ID_LEN_MAX: usize = 128;
/// Needs no credential: it tells serving from not serving, and nothing else.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// Tells what the contract says, to anybody who is known; only where it is switched on.
const REFLECTION: &str = "/grpc.reflection.";

#[derive(Clone)]
pub(crate) struct Door {
    gate: Arc<Gate>,
    routes: Routes,
    ids: Arc<RequestIds>,
}

/// Makes request ids: a start nobody guesses, and a count.
struct RequestIds {
    start: u64,
    next: AtomicU64,
}

impl Door {
    pub(crate) fn new(gate: Arc<Gate>, routes: Routes) -> Door {
        let start = std::hash::RandomState::new().build_hasher().finish();
        Door { gate, routes, ids: Arc::new(RequestIds { start, next: AtomicU64::new(0) }) }
    }

    fn request_id(&self, headers: &HeaderMap) -> Arc<str> {
        let given = headers.get(REQUEST_ID).and_then(|v| v.to_str().ok());
        let usable = |id: &&str| {
            !id.is_empty() && id.len() <= REQUEST_ID_LEN_MAX && id.bytes().all(|b| b.is_ascii_graphic())
        };
        match given.filter(usable) {
            Some(id) => id.into(),
            None => {
                let n = self.ids.next.fetch_add(1, Ordering::Relaxed);
                format!("{:016x}", self.ids.start.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).into()
            }
        }
    }

    /// Establishes who calls, and whether they may. The path is looked up letter for letter: what is no method of the
    /// contract, of the health or of the reflection reaches nothing behind this door.
    async fn admit(
        &self,
        (path, method): (&str, usize),
        headers: &HeaderMap,
        link: Option<&Arc<Link>>,
        trail: &mut Option<Trail>,
        request_id: Arc<str>,
    ) -> Result<Call, Refusal> {
        let guard = &self.gate.guard;
        let known = |principal: &Arc<Principal>, trail: &mut Option<Trail>| {
            if let Some(trail) = trail {
                trail.principal = Some(principal.clone());
            }
        };
        let principal = if path.starts_with(HEALTH) {
            let nobody = guard.nobody();
            known(&nobody, trail);
            nobody
        } else {
            let clock = &self.gate.engine.env().clock;
            let found = guard.who(headers, link.map(Arc::as_ref), || clock.now()).await;
            let principal = found.map_err(|turned| {
                if let Some(trail) = trail.as_mut() {
                    trail.why = turned.why;
                }
                turned.refusal
            })?;
            known(&principal, trail);
            guard.take_call(&principal, || clock.now())?;
            match self.gate.metrics.methods.known(method) {
                Some(method) => method.check(&principal)?,
                None if path.starts_with(REFLECTION) => {}
                None => return Err(Refusal::new(Reason::UnknownMethod, "there is no such method")),
            }
            principal
        };
        let namespace = namespace(headers)?;
        // What is not there and what is not theirs look alike.
        let is_absent = self.gate.settings.namespaces_declared
            && (!principal.may_use(namespace) || !self.gate.engine.has_namespace(namespace));
        if is_absent && !path.starts_with(HEALTH) {
            return Err(crate::api::namespaces::not_found(namespace));
        }
        if !principal.may_use(namespace) {
            let message = format!("this identity may not use namespace {namespace}");
            return Err(Refusal::new(Reason::PermissionDenied, message));
        }
        Ok(Call {
            request_id,
            namespace: Namespace::new(namespace),
            principal,
            deadline: timeout(headers)?.and_then(|t| Instant::now().checked_add(t)),
            trace: headers
                .get("traceparent")
                .and_then(|v| v.to_str().ok())
                .and_then(crate::wire::spec::trace_of),
            link: link.map(InUse::of),
            subject: std::sync::OnceLock::new(),
        })
    }

    async fn pass(mut self, mut request: Request<Body>) -> Response<Body> {
        let start = Instant::now();
        let path = request.uri().path().to_owned();
        let request_id = self.request_id(request.headers());
        let metrics = self.gate.metrics.clone();
        let method = metrics.methods.find(&path);
        let (mutates, streams) =
            metrics.methods.all.get(method).map_or((false, false), |m| (m.mutates, m.streams));
        let (headers, link) = (request.headers(), request.extensions().get::<Arc<Link>>());
        let mut counted = Counted {
            metrics,
            method,
            mutates,
            start,
            request_id: request_id.clone(),
            is_open: true,
            trail: Some(self.trail(&path, method, &request_id, link)),
        };
        let admitted = self.admit((&path, method), headers, link, &mut counted.trail, request_id.clone());
        let call = match admitted.await {
            Ok(call) => Arc::new(call),
            Err(refusal) => return counted.refuse(status::of(&refusal, &request_id)).await,
        };
        if let Err(refusal) = counted.let_in(&call) {
            return counted.refuse(status::of(&refusal, &request_id)).await;
        }
        let deadline = call.deadline;
        tracing::trace!(%path, %request_id, namespace = %call.namespace, actor = %call.principal.name, "call");
        let leash = if streams { self.gate.guard.leash(&call.principal) } else { None };
        if let Some(leash) = &leash {
            request = request.map(|body| leash.bound(body));
        }
        request.extensions_mut().insert(call);
        let answering = AssertUnwindSafe(self.routes.call(request)).catch_unwind();
        let answered = match deadline {
            None => answering.await,
            Some(at) => match tokio::time::timeout_at(at.into(), answering).await {
                Ok(answered) => answered,
                Err(_) => return counted.refuse(status::deadline_passed(mutates, &request_id)).await,
            },
        };
        match answered {
            Ok(Ok(response)) => counted.follow(response, deadline, (streams, leash)).await,
            Ok(Err(never)) => match never {},
            Err(panic) => {
                counted.panicked(panic.as_ref());
                counted.refuse(status::fault(&request_id)).await
            }
        }
    }

    fn trail(&self, path: &str, method: usize, request_id: &Arc<str>, link: Option<&Arc<Link>>) -> Trail {
        // The path of a method of ours is in the table.
        let path = self.gate.metrics.methods.known(method).map_or(path, |_| "").to_owned();
        Trail {
            gate: self.gate.clone(),
            method,
            path,
            request_id: request_id.clone(),
            peer: link.map(|link| link.peer),
            principal: None,
            why: String::new(),
            call: None,
        }
    }
}

fn namespace(headers: &HeaderMap) -> Result<&str, Refusal> {
    let Some(given) = headers.get(NAMESPACE_METADATA) else { return Ok("default") };
    let text = given.to_str().map_err(|_| Refusal::field(NAMESPACE_METADATA, "must be ASCII"))?;
    match text {
        "" => Ok("default"),
        text => check_namespace(text).map(|()| text).map_err(|m| Refusal::field(NAMESPACE_METADATA, m)),
    }
}

/// The time the caller gives, from `grpc-timeout`: up to eight digits and a unit.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(given) = headers.get("grpc-timeout") else { return Ok(None) };
    let text = given.to_str().unwrap_or_default();
    let bad =
        || Refusal::field("grpc-timeout", format!("must be digits and one of HMSmun, got {}", shown(text)));
    let unit = text.chars().last().ok_or_else(bad)?;
    let digits = &text[..text.len() - unit.len_utf8()];
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let n: u64 = digits.parse().map_err(|_| bad())?;
    match unit {
        'H' => Ok(Some(Duration::from_secs(n * 3_600))),
        'M' => Ok(Some(Duration::from_secs(n * 60))),
        'S' => Ok(Some(Duration::from_secs(n))),
        'm' => Ok(Some(Duration::from_millis(n))),
        'u' => Ok(Some(Duration::from_micros(n))),
        'n' => Ok(Some(Duration::from_nanos(n))),
        _ => Err(bad()),
    }
}

impl Counted {
    /// The call is let in, unless it must leave a record and none can be written.
    fn let_in(&mut self, call: &Arc<Call>) -> Result<(), Refusal> {
        let Some(trail) = &mut self.trail else { return Ok(()) };
        trail.call = Some(call.clone());
        trail.check()
    }

    /// A response that is nothing but a status, once its record is durable. A refusal stands whether or not it was recorded.
    async fn refuse(mut self, status: Status) -> Response<Body> {
        self.written(|| Outcome::of(&status)).await.unwrap_or_default();
        self.close_with(status)
    }

    /// Writes what the call leaves.
    async fn written(&mut self, outcome: impl FnOnce() -> Outcome) -> Result<(), Refusal> {
        match self.trail.take().and_then(|trail| trail.write(outcome())) {
            Some(writing) => writing.await,
            None => Ok(()),
        }
    }

    fn close_with(&mut self, status: Status) -> Response<Body> {
        self.close(status.code());
        let mut response = status.into_http();
        self.echo(&mut response);
        response
    }

    fn echo(&self, response: &mut Response<Body>) {
        if let Ok(id) = HeaderValue::from_str(&self.request_id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
    }

    /// Mends what the transport said, and watches the body of the rest. One answer is recorded before it leaves, a stream
    /// when it ends.
    async fn follow(
        mut self,
        mut response: Response<Body>,
        deadline: Option<Instant>,
        (streams, leash): (bool, Option<Leash>),
    ) -> Response<Body> {
        let said = response.headers().get(Status::GRPC_STATUS).map(|v| Code::from_bytes(v.as_bytes()));
        let Some(code) = said else {
            if !streams && self.written(Outcome::ok).await.is_err() {
                let status = status::unrecorded(&self.request_id);
                return self.close_with(status);
            }
            self.echo(&mut response);
            return response.map(|inner| Body::new(Observed::new(inner, self, deadline, leash)));
        };
        if let Some(refusal) = self.mended(code, response.headers()) {
            let mut mended = status::of(&refusal, &self.request_id).into_http();
            if let Some(known) = response.headers().get("grpc-accept-encoding") {
                mended.headers_mut().insert("grpc-accept-encoding", known.clone());
            }
            response = mended;
        }
        let status = Status::from_header_map(response.headers());
        let code = status.as_ref().map_or(code, Status::code);
        let written = self.written(|| status.as_ref().map_or_else(Outcome::ok, Outcome::of)).await;
        if written.is_err() && code == Code::Ok {
            let status = status::unrecorded(&self.request_id);
            return self.close_with(status);
        }
        self.close(code);
        self.echo(&mut response);
        response
    }
}

impl Service<Request<Body>> for Door {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let door = self.clone();
        Box::pin(async move { Ok(door.pass(request).await) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).expect("a header"));
        headers
    }

    #[test]
    fn timeouts_are_those_of_grpc() {
        for (text, millis) in
            [("5S", 5_000), ("250m", 250), ("1M", 60_000), ("1H", 3_600_000), ("1000u", 1), ("0m", 0)]
        {
            assert_eq!(
                timeout(&headers("grpc-timeout", text)),
                Ok(Some(Duration::from_millis(millis))),
                "{text}"
            );
        }
        for bad in ["", "5", "S", "-1S", "5 S", "999999999S", "5x", "5é"] {
            assert!(timeout(&headers("grpc-timeout", bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn namespaces_are_checked() {
        assert_eq!(namespace(&HeaderMap::new()), Ok("default"));
        assert_eq!(namespace(&headers("coretex-namespace", "team-a")), Ok("team-a"));
        assert!(namespace(&headers("coretex-namespace", "Team A")).is_err());
    }
}
