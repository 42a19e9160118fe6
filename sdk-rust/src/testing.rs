//! Running handlers with no server.
//!
//! ```
//! # use coretex_sdk::{Ctx, HandlerError, testing};
//! async fn double(ctx: Ctx, input: u32) -> Result<u32, HandlerError> {
//!     ctx.progress(0.5, "half way");
//!     Ok(input * 2)
//! }
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let called = testing::call(double, 21).await;
//! assert_eq!(called.result.unwrap(), 42);
//! assert_eq!(called.progress, [(Some(0.5), "half way".to_owned())]);
//! # });
//! ```

use crate::ctx::{Ctx, Sink};
use crate::error::Result;
use crate::handler::Handler;
use crate::job::Usage;
use crate::payload::{IntoPayload, Payload, struct_of};
use crate::raw::pb;
use crate::verdict::HandlerError;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Instant;
use tokio::sync::Notify;

/// What a handler did.
#[derive(Debug)]
#[non_exhaustive]
pub struct Called<O> {
    /// What it returned.
    pub result: Result<O, HandlerError>,
    /// What it said about itself, in order.
    pub progress: Vec<(Option<f64>, String)>,
    /// Its checkpoints, in order.
    pub checkpoints: Vec<Payload>,
    /// What it wrote, as stream and bytes.
    pub output: Vec<(String, bytes::Bytes)>,
    /// What it said it used, in order.
    pub used: Vec<Usage>,
}

/// A job for a handler under test.
#[derive(Debug)]
#[must_use = "a call does nothing until it is made"]
pub struct Call {
    assignment: pb::Assignment,
    cancel: Option<String>,
}

/// Calls a handler with a job of no special kind: attempt 1 of 3, no deadline.
pub async fn call<I, H: Handler<I>>(handler: H, input: I) -> Called<H::Output> {
    Call::new("test").call(handler, input).await
}

// === impl Call ===

impl Call {
    /// A job of a topic.
    pub fn new(topic: impl Into<String>) -> Self {
        let job_id = "job_test".to_owned();
        let job =
            pb::JobRef { root_job_id: job_id.clone(), job_id, topic: topic.into(), ..Default::default() };
        let assignment = pb::Assignment {
            lease_id: 1,
            job: Some(job),
            attempt: 1,
            max_attempts: 3,
            idempotency_token: "test".into(),
            ..Default::default()
        };
        Self { assignment, cancel: None }
    }

    /// Number of the attempt.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.assignment.attempt = attempt;
        self
    }

    /// A label of the job.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.assignment.labels.insert(key.into(), value.into());
        self
    }

    /// The configuration it was submitted under, a map.
    pub fn config(mut self, config: impl IntoPayload) -> Result<Self> {
        self.assignment.config = Some(config.into_payload()?.into_pb());
        self.assignment.config_digest = "test".into();
        Ok(self)
    }

    /// Checkpoint of an earlier attempt.
    pub fn checkpoint(mut self, state: impl IntoPayload) -> Result<Self> {
        self.assignment.last_checkpoint = Some(state.into_payload()?.into_pb());
        Ok(self)
    }

    /// Constraints of a policy, as a rule states them.
    pub fn constraints(mut self, constraints: serde_json::Value) -> Self {
        let constraints = Some(struct_of(constraints));
        self.assignment.policy = Some(pb::AssignmentPolicy { constraints, ..Default::default() });
        self
    }

    /// Cancelled before it starts.
    pub fn cancelled(mut self, reason: impl Into<String>) -> Self {
        self.cancel = Some(reason.into());
        self
    }

    /// Calls the handler.
    pub async fn call<I, H: Handler<I>>(self, handler: H, input: I) -> Called<H::Output> {
        let (ctx, notebook) = self.ctx();
        let result = handler.handle(ctx, input).await;
        let seen = std::mem::take(&mut *notebook.lock());
        let Seen { progress, checkpoints, output, used } = seen;
        Called { result, progress, checkpoints, output, used }
    }

    fn ctx(self) -> (Ctx, Arc<Notebook>) {
        let notebook = Arc::new(Notebook::default());
        let ctx = Ctx::new(self.assignment, Instant::now(), notebook.clone());
        notebook.ctx.get_or_init(|| Arc::downgrade(&ctx.inner));
        if let Some(reason) = self.cancel {
            ctx.stop(&reason);
        }
        (ctx, notebook)
    }
}

/// Takes the place of a session.
#[derive(Default)]
struct Notebook {
    seen: Mutex<Seen>,
    ctx: OnceLock<Weak<crate::ctx::Inner>>,
    room: Notify,
}

#[derive(Default)]
struct Seen {
    progress: Vec<(Option<f64>, String)>,
    checkpoints: Vec<Payload>,
    output: Vec<(String, bytes::Bytes)>,
    used: Vec<Usage>,
}

impl Notebook {
    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Notebook {
    fn client(&self) -> Option<&crate::client::Client> {
        None
    }

    fn noted(&self, _lease_id: u64) {
        let Some(inner) = self.ctx.get().and_then(Weak::upgrade) else { return };
        let Some(news) = (Ctx { inner }).take_news() else { return };
        let mut seen = self.lock();
        seen.progress.extend(news.progress.map(|said| (said.fraction, said.message)));
        seen.checkpoints.extend(news.checkpoint);
        seen.used.extend(news.usage.map(Usage::from_pb));
    }

    fn output(&self, output: pb::Output) -> Result<(), pb::Output> {
        let pb::Output { stream, chunks, .. } = output;
        self.lock().output.extend(chunks.into_iter().map(|chunk| (stream.clone(), chunk)));
        Ok(())
    }

    fn room(&self) -> &Notify {
        &self.room
    }

    fn payload_max(&self) -> usize {
        1 << 20
    }
}
