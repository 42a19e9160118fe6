//! Handlers: what runs a job, and the one decision it makes when it fails.

use crate::ctx::Ctx;
use crate::payload::{FromPayload, IntoPayload, Payload};
use crate::request::JobRequest;
use crate::verdict::{HandlerError, INPUT_DECODE, OUTPUT_ENCODE};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// Something that runs jobs with an input of type `I`: any `async fn(Ctx, I) -> Result<O, HandlerError>`, and every `#[job]`.
pub trait Handler<I>: Send + Sync {
    /// What it returns.
    type Output: IntoPayload;

    /// Runs one attempt.
    fn handle(&self, ctx: Ctx, input: I) -> impl Future<Output = Result<Self::Output, HandlerError>> + Send;
}

impl<I, O, F, Fut> Handler<I> for F
where
    F: Fn(Ctx, I) -> Fut + Send + Sync,
    Fut: Future<Output = Result<O, HandlerError>> + Send,
    O: IntoPayload,
{
    type Output = O;

    fn handle(&self, ctx: Ctx, input: I) -> impl Future<Output = Result<O, HandlerError>> + Send {
        self(ctx, input)
    }
}

/// A kind of job with its types, so that callers submit with checked ones. `#[job]` writes this.
pub trait JobType {
    /// Its topic.
    const TOPIC: &'static str;
    /// What it takes.
    type Input: IntoPayload + FromPayload;
    /// What it returns.
    type Output: IntoPayload + FromPayload;

    /// A request with the defaults of the handler.
    fn request(input: Self::Input) -> JobRequest<Self::Output> {
        JobRequest::typed(Self::TOPIC, input)
    }
}

/// What a job returns. Only results have it, so that what is none is refused by name.
#[diagnostic::on_unimplemented(message = "a job returns `Result<Output, HandlerError>`, not `{Self}`")]
pub trait JobResult {
    /// What it returns when it succeeds.
    type Output;
}

impl<O> JobResult for Result<O, HandlerError> {
    type Output = O;
}

/// A value whose methods are jobs. `#[jobs]` writes this.
pub trait JobSet: Send + Sync + 'static {
    /// Handlers that share the value.
    fn bind_all(this: Arc<Self>) -> Vec<Binding>;
}

impl<T: JobSet> Bind for T {
    fn bindings(self) -> Vec<Binding> {
        T::bind_all(Arc::new(self))
    }
}

impl<T: JobSet> Bind for Arc<T> {
    fn bindings(self) -> Vec<Binding> {
        T::bind_all(self)
    }
}

/// What a worker can be given: a [`Binding`], a `#[job]` function, a value with `#[jobs]`.
pub trait Bind {
    /// Its handlers.
    fn bindings(self) -> Vec<Binding>;
}

/// A handler and the topic it serves.
#[must_use = "a binding does nothing until it is bound to a worker"]
pub struct Binding {
    pub(crate) topic: String,
    pub(crate) lane: Option<LaneOptions>,
    pub(crate) idempotent: bool,
    pub(crate) is_blocking: bool,
    pub(crate) invoke: Arc<dyn Invoke>,
}

#[derive(Clone, Debug)]
pub(crate) struct LaneOptions {
    pub(crate) name: String,
    pub(crate) slots: Option<u32>,
}

/// A handler without its types.
pub(crate) trait Invoke: Send + Sync {
    fn start(&self, ctx: Ctx, input: Payload) -> Run;
}

/// One attempt under way.
pub(crate) enum Run {
    Async(Pin<Box<dyn Future<Output = Ended> + Send>>),
    Blocking(Box<dyn FnOnce() -> Ended + Send>),
    Refused(HandlerError),
}

pub(crate) type Ended = Result<Payload, HandlerError>;

// === impl Binding ===

impl Binding {
    /// An async handler.
    pub fn new<I, H>(topic: impl Into<String>, handler: H) -> Self
    where
        H: Handler<I> + 'static,
        I: FromPayload + Send + 'static,
    {
        let handler = Arc::new(handler);
        let start = move |ctx: Ctx, input: Payload| match I::from_payload(input) {
            Ok(input) => {
                let handler = handler.clone();
                Run::Async(Box::pin(async move { encode(handler.handle(ctx, input).await) }))
            }
            Err(error) => Run::Refused(undecodable(&error)),
        };
        Self::of(topic, false, start)
    }

    /// A handler that blocks or computes: it runs on a thread of its own.
    pub fn blocking<I, O, F>(topic: impl Into<String>, handler: F) -> Self
    where
        F: Fn(Ctx, I) -> Result<O, HandlerError> + Send + Sync + 'static,
        I: FromPayload + Send + 'static,
        O: IntoPayload,
    {
        let handler = Arc::new(handler);
        let start = move |ctx: Ctx, input: Payload| match I::from_payload(input) {
            Ok(input) => {
                let handler = handler.clone();
                Run::Blocking(Box::new(move || encode(handler(ctx, input))))
            }
            Err(error) => Run::Refused(undecodable(&error)),
        };
        Self::of(topic, true, start)
    }

    fn of(
        topic: impl Into<String>,
        is_blocking: bool,
        start: impl Fn(Ctx, Payload) -> Run + Send + Sync + 'static,
    ) -> Self {
        Self {
            topic: topic.into(),
            lane: None,
            idempotent: false,
            is_blocking,
            invoke: Arc::new(Start(start)),
        }
    }

    /// Runs in a lane of its own with so many slots, rather than in the worker's common one.
    pub fn slots(mut self, slots: u32) -> Self {
        let name = self.lane.map_or_else(|| self.topic.clone(), |lane| lane.name);
        self.lane = Some(LaneOptions { name, slots: Some(slots) });
        self
    }

    /// Runs in the lane of this name, together with others that name it.
    pub fn lane(mut self, name: impl Into<String>) -> Self {
        let slots = self.lane.and_then(|lane| lane.slots);
        self.lane = Some(LaneOptions { name: name.into(), slots });
        self
    }

    /// The handler may run twice without harm. Shown to people; changes no promise.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Its topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }
}

impl Bind for Binding {
    fn bindings(self) -> Vec<Binding> {
        vec![self]
    }
}

impl Bind for Vec<Binding> {
    fn bindings(self) -> Vec<Binding> {
        self
    }
}

impl std::fmt::Debug for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binding")
            .field("topic", &self.topic)
            .field("lane", &self.lane)
            .finish_non_exhaustive()
    }
}

struct Start<F>(F);

impl<F: Fn(Ctx, Payload) -> Run + Send + Sync> Invoke for Start<F> {
    fn start(&self, ctx: Ctx, input: Payload) -> Run {
        (self.0)(ctx, input)
    }
}

fn encode<O: IntoPayload>(result: Result<O, HandlerError>) -> Ended {
    result?.into_payload().map_err(|error| HandlerError::terminal_of(OUTPUT_ENCODE, error.message()))
}

fn undecodable(error: &crate::Error) -> HandlerError {
    HandlerError::terminal_of(INPUT_DECODE, error.message())
}
