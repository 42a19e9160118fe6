//! Streams outlive the moment their caller was asked: they are looked at again, and ended when the caller may no longer.

use super::principal::Principal;
use bytes::Bytes;
use coretex_domain::{Reason, Refusal};
use futures::task::AtomicWaker;
use http_body::{Frame, SizeHint};
use rustc_hash::FxHashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;

/// All streams that are open.
#[derive(Default)]
pub(crate) struct Leashes {
    next: AtomicU64,
    open: Mutex<FxHashMap<u64, Arc<Ends>>>,
}

/// What both directions of a stream look at.
struct Ends {
    principal: Arc<Principal>,
    is_cut: AtomicBool,
    inbound: AtomicWaker,
    outbound: AtomicWaker,
}

/// One stream's. Forgotten when the stream ends.
pub(crate) struct Leash {
    id: u64,
    leashes: Arc<Leashes>,
    ends: Arc<Ends>,
}

/// What a stream that was cut says.
pub(crate) fn refusal() -> Refusal {
    Refusal::new(Reason::Unauthenticated, "the credential this stream began with is no longer valid")
}

// === impl Leashes ===

impl Leashes {
    pub(crate) fn take(self: &Arc<Self>, principal: Arc<Principal>) -> Leash {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let ends = Arc::new(Ends {
            principal,
            is_cut: AtomicBool::new(false),
            inbound: AtomicWaker::new(),
            outbound: AtomicWaker::new(),
        });
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(id, ends.clone());
        Leash { id, leashes: self.clone(), ends }
    }

    /// Ends the streams of all who may no longer. Says how many.
    pub(crate) fn cut_unless(&self, may_stay: impl Fn(&Principal) -> bool) -> usize {
        let open: Vec<Arc<Ends>> =
            self.open.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        let mut cut = 0;
        for ends in open {
            if !may_stay(&ends.principal) && !ends.is_cut.swap(true, Ordering::AcqRel) {
                ends.inbound.wake();
                ends.outbound.wake();
                cut += 1;
            }
        }
        cut
    }
}

// === impl Leash ===

impl Leash {
    /// Whether the response is to end. Wakes the task that asked once it is.
    pub(crate) fn is_cut(&self, cx: &Context<'_>) -> bool {
        self.ends.outbound.register(cx.waker());
        self.ends.is_cut.load(Ordering::Acquire)
    }

    /// What the caller sends, up to the cut. A caller that does not read its answers is stopped here.
    pub(crate) fn bound(&self, body: Body) -> Body {
        Body::new(Inbound { inner: body, ends: self.ends.clone() })
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        self.leashes.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

// === Inbound ===

struct Inbound {
    inner: Body,
    ends: Arc<Ends>,
}

impl http_body::Body for Inbound {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.ends.inbound.register(cx.waker());
        if self.ends.is_cut.load(Ordering::Acquire) {
            return Poll::Ready(Some(Err(crate::status::of(&refusal(), ""))));
        }
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_domain::access::Roles;
    use http_body_util::BodyExt as _;

    #[tokio::test]
    async fn a_cut_reaches_who_waits_and_who_does_not_read() {
        let leashes = Arc::new(Leashes::default());
        let named =
            |name: &str| Arc::new(Principal { name: name.into(), ..Principal::anonymous(Roles::ADMIN) });
        let (stays, goes) = (leashes.take(named("stays")), leashes.take(named("goes")));
        let pending =
            http_body_util::StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Status>>());
        let mut body = goes.bound(Body::new(pending));
        let reading = tokio::spawn(async move { body.frame().await });
        tokio::task::yield_now().await;
        assert_eq!(leashes.cut_unless(|p| &*p.name == "stays"), 1);
        let frame = reading.await.expect("no panic").expect("an end");
        assert_eq!(frame.map(|_| ()).expect_err("cut").code(), tonic::Code::Unauthenticated);
        let is_cut = |leash: &Leash| leash.is_cut(&Context::from_waker(futures::task::noop_waker_ref()));
        assert!(is_cut(&goes) && !is_cut(&stays));
        assert_eq!(leashes.cut_unless(|p| &*p.name == "stays"), 0, "once");
        drop((stays, goes));
        assert!(leashes.open.lock().expect("no panic").is_empty(), "forgotten with its stream");
    }
}
