//! The body of a response, watched to its end: its status is mended and counted, its deadline kept, a panic caught.

use super::trail::{Outcome, Trail};
use crate::access::leash::{self, Leash};
use crate::metrics::Metrics;
use crate::status;
use bytes::Bytes;
use coretex_domain::{Reason, Refusal};
use futures::future::BoxFuture;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::time::Sleep;
use tonic::body::Body;
use tonic::{Code, Status};

/// A call that is counted when it ends, however it ends.
pub(super) struct Counted {
    pub(super) metrics: Arc<Metrics>,
    pub(super) method: usize,
    pub(super) mutates: bool,
    pub(super) start: Instant,
    pub(super) request_id: Arc<str>,
    pub(super) is_open: bool,
    /// What it leaves in the audit; gone once that is written.
    pub(super) trail: Option<Trail>,
}

impl Counted {
    pub(super) fn close(&mut self, code: Code) {
        if std::mem::take(&mut self.is_open) {
            self.metrics.ended(self.method, code, self.start.elapsed());
        }
    }

    /// A refusal in the place of a status that is not ours.
    pub(super) fn mended(&self, code: Code, headers: &HeaderMap) -> Option<Refusal> {
        if code == Code::Ok || headers.contains_key(Status::GRPC_STATUS_DETAILS) {
            return None;
        }
        let status = Status::from_header_map(headers)?;
        let refusal = status::mend(code, status.message())?;
        if refusal.reason == Reason::ServerFault {
            self.metrics.faults.fetch_add(1, Ordering::Relaxed);
            tracing::error!(request_id = %self.request_id, message = status.message(), "a call failed by our fault");
        }
        Some(refusal)
    }

    pub(super) fn panicked(&self, panic: &(dyn Any + Send)) {
        let said =
            panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        self.metrics.panics.fetch_add(1, Ordering::Relaxed);
        self.metrics.faults.fetch_add(1, Ordering::Relaxed);
        tracing::error!(request_id = %self.request_id, panic = said.unwrap_or("?"), "a handler panicked");
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.close(Code::Cancelled);
        // Written by a task of its own: nobody is left to wait.
        drop(self.trail.take().map(|trail| trail.write(Outcome::abandoned())));
    }
}

pub(super) struct Observed {
    /// Gone once the end is sent.
    inner: Option<Body>,
    counted: Counted,
    deadline: Option<Pin<Box<Sleep>>>,
    /// Of a stream whose caller is known.
    leash: Option<Leash>,
    /// The end, while it waits for its record.
    last: Option<Last>,
}

struct Last {
    writing: BoxFuture<'static, Result<(), Refusal>>,
    frame: Option<Frame<Bytes>>,
    is_ok: bool,
}

impl Observed {
    pub(super) fn new(
        inner: Body,
        counted: Counted,
        deadline: Option<Instant>,
        leash: Option<Leash>,
    ) -> Observed {
        let deadline = deadline.map(|at| Box::pin(tokio::time::sleep_until(at.into())));
        Observed { inner: Some(inner), counted, deadline, leash, last: None }
    }

    fn end(&mut self, status: &Status) -> Frame<Bytes> {
        self.inner = None;
        self.counted.close(status.code());
        let mut trailers = HeaderMap::new();
        // Fails only for a message that is no header, and ours are escaped.
        let _ = status.add_header(&mut trailers);
        Frame::trailers(trailers)
    }

    fn looked_at(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let Some(trailers) = frame.trailers_ref() else { return frame };
        let code =
            trailers.get(Status::GRPC_STATUS).map_or(Code::Unknown, |v| Code::from_bytes(v.as_bytes()));
        match self.counted.mended(code, trailers) {
            Some(refusal) => {
                let status = status::of(&refusal, &self.counted.request_id);
                self.end(&status)
            }
            None => {
                self.counted.close(code);
                self.inner = None;
                frame
            }
        }
    }

    /// What comes next. After the end there is no inner body.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        let this = self;
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        if this.leash.as_ref().is_some_and(|leash| leash.is_cut(cx)) {
            let status = status::of(&leash::refusal(), &this.counted.request_id);
            return Poll::Ready(Some(this.end(&status)));
        }
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_frame(cx)));
        match polled {
            Err(panic) => {
                this.counted.panicked(panic.as_ref());
                let status = status::fault(&this.counted.request_id);
                Poll::Ready(Some(this.end(&status)))
            }
            Ok(Poll::Ready(Some(Ok(frame)))) => Poll::Ready(Some(this.looked_at(frame))),
            Ok(Poll::Ready(Some(Err(error)))) => {
                tracing::debug!(%error, "a response body broke");
                let status = status::fault(&this.counted.request_id);
                Poll::Ready(Some(this.end(&status)))
            }
            Ok(Poll::Ready(None)) => {
                this.counted.close(Code::Ok);
                this.inner = None;
                Poll::Ready(None)
            }
            Ok(Poll::Pending) => match this.deadline.as_mut().map(|d| d.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => {
                    let status = status::deadline_passed(this.counted.mutates, &this.counted.request_id);
                    Poll::Ready(Some(this.end(&status)))
                }
                Some(Poll::Pending) | None => Poll::Pending,
            },
        }
    }

    /// Begins to write what the call leaves, now that it is over.
    fn written(&mut self, frame: Option<Frame<Bytes>>) -> Result<Option<Frame<Bytes>>, Last> {
        let Some(trail) = self.counted.trail.take() else { return Ok(frame) };
        let status = frame.as_ref().and_then(Frame::trailers_ref).and_then(Status::from_header_map);
        let outcome = status.as_ref().map_or_else(Outcome::ok, Outcome::of);
        let is_ok = outcome.code == Code::Ok;
        match trail.write(outcome) {
            None => Ok(frame),
            Some(writing) => Err(Last { writing, frame, is_ok }),
        }
    }

    /// The end, once its record is durable.
    fn poll_last(last: &mut Last, request_id: &str, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        match last.writing.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(_)) if last.is_ok => {
                let mut trailers = HeaderMap::new();
                // Fails only for a message that is no header, and ours are escaped.
                let _ = status::unrecorded(request_id).add_header(&mut trailers);
                Poll::Ready(Some(Frame::trailers(trailers)))
            }
            Poll::Ready(Ok(()) | Err(_)) => Poll::Ready(last.frame.take()),
        }
    }
}

impl http_body::Body for Observed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if let Some(last) = &mut this.last {
                let end = std::task::ready!(Observed::poll_last(last, &this.counted.request_id, cx));
                this.last = None;
                return Poll::Ready(end.map(Ok));
            }
            let frame = std::task::ready!(this.step(cx));
            if this.inner.is_some() {
                return Poll::Ready(frame.map(Ok));
            }
            match this.written(frame) {
                Ok(frame) => return Poll::Ready(frame.map(Ok)),
                Err(last) => this.last = Some(last),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.last.is_none() && self.inner.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::Methods;
    use http_body_util::BodyExt;

    /// A body that does something odd.
    struct Odd(fn() -> Frame<Bytes>);

    impl http_body::Body for Odd {
        type Data = Bytes;
        type Error = Status;
        fn poll_frame(
            self: Pin<&mut Self>,
            _cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(Some(Ok((self.0)())))
        }
    }

    async fn end_of(body: Odd) -> (Code, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new(Arc::new(Methods::of_contract())));
        let counted = Counted {
            metrics: metrics.clone(),
            method: 0,
            mutates: true,
            start: Instant::now(),
            request_id: "r".into(),
            is_open: true,
            trail: None,
        };
        let mut observed = Observed::new(Body::new(body), counted, None, None);
        let frame = observed.frame().await.expect("a frame").expect("no error");
        let trailers = frame.into_trailers().expect("trailers");
        assert!(trailers.contains_key(Status::GRPC_STATUS_DETAILS), "a status of ours");
        assert!(observed.frame().await.is_none(), "nothing follows");
        (Status::from_header_map(&trailers).expect("a status").code(), metrics)
    }

    #[tokio::test]
    async fn a_panic_is_a_fault_of_ours_and_counted() {
        let (code, metrics) = end_of(Odd(|| panic!("a defect"))).await;
        assert_eq!((code, metrics.panics.load(Ordering::Relaxed)), (Code::Unavailable, 1));
    }

    #[tokio::test]
    async fn internal_never_leaves() {
        for status in ["13", "2"] {
            let odd: fn() -> Frame<Bytes> = match status {
                "13" => || {
                    Frame::trailers(
                        [(http::HeaderName::from_static("grpc-status"), "13".parse().expect("a value"))]
                            .into_iter()
                            .collect(),
                    )
                },
                _ => || {
                    Frame::trailers(
                        [(http::HeaderName::from_static("grpc-status"), "2".parse().expect("a value"))]
                            .into_iter()
                            .collect(),
                    )
                },
            };
            let (code, metrics) = end_of(Odd(odd)).await;
            assert_eq!((code, metrics.faults.load(Ordering::Relaxed)), (Code::Unavailable, 1), "{status}");
        }
    }
}
