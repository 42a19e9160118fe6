//! What a handler knows about its job, and what it can say while it runs.

use crate::client::Client;
use crate::constraints::{BudgetLeft, Constraints};
use crate::error::{Code, Error, Result};
use crate::job::{Job, Usage};
use crate::payload::{FromPayload, IntoPayload, Payload, json_of_struct};
use crate::raw::pb;
use crate::time::of_span;
use crate::verdict::{Cancelled, HandlerError, Release, cut};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// Longest line of progress.
const PROGRESS_MESSAGE_MAX: usize = 1_024;

/// The job a handler runs. Cheap to clone.
#[derive(Clone)]
pub struct Ctx {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    assignment: pb::Assignment,
    job: pb::JobRef,
    received: Instant,
    limits: Mutex<Limits>,
    is_stopped: AtomicBool,
    stop_reason: OnceLock<String>,
    stopped: Notify,
    abort: Mutex<Abort>,
    notes: Mutex<Notes>,
    sink: Arc<dyn Sink>,
    /// The configuration, once it was asked for.
    config: tokio::sync::OnceCell<Payload>,
    /// Questions asked so far, and those of them that made jobs.
    asked: AtomicU64,
    spawned: AtomicU64,
}

#[derive(Default)]
struct Limits {
    started: Option<Instant>,
    extended: Option<Instant>,
}

#[derive(Default)]
struct Abort {
    is_asked: bool,
    task: Option<tokio::task::AbortHandle>,
}

/// What the handler said about itself and has not been passed on.
#[derive(Default)]
struct Notes {
    progress: Option<Said>,
    checkpoint: Option<Payload>,
    is_dirty: bool,
    has_new_checkpoint: bool,
    /// What this attempt used, in all and not yet passed on.
    used: pb::Usage,
    unreported: Option<pb::Usage>,
    streams: BTreeMap<String, Written>,
}

/// How far the handler said it is.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) fraction: Option<f64>,
    pub(crate) message: String,
}

/// What is to be passed on: the newest of each.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) progress: Option<Said>,
    pub(crate) checkpoint: Option<Payload>,
    pub(crate) usage: Option<pb::Usage>,
}

#[derive(Default)]
struct Written {
    offset: u64,
    dropped: u64,
}

/// Where a context passes things on to: a session, or a test.
pub(crate) trait Sink: Send + Sync {
    /// The job has something new to say about itself.
    fn noted(&self, lease_id: u64);
    /// Takes a piece of output, or refuses it because its window is full.
    fn output(&self, output: pb::Output) -> Result<(), pb::Output>;
    /// Wakes when there may be room for output again.
    fn room(&self) -> &Notify;
    /// Largest checkpoint, bytes.
    fn payload_max(&self) -> usize;
    /// Passes a question on, now and to every later stream until it is answered. The answer does not come if the lease ends first.
    fn ask(&self, feature: &str, ask: pb::Ask) -> Result<oneshot::Receiver<pb::Answer>>;
    /// Nobody waits for this answer any more.
    fn forget_ask(&self, lease_id: u64, ask_id: u64);
    /// Asks the server what did not come with the job; none in a test.
    fn client(&self) -> Option<&Client>;
    /// A child of the job, where there is no server to be asked.
    fn child(&self, _job_id: &str) -> Option<Job> {
        None
    }
}

// === what is known ===

impl Ctx {
    pub(crate) fn new(mut assignment: pb::Assignment, received: Instant, sink: Arc<dyn Sink>) -> Self {
        let job = assignment.job.take().unwrap_or_default();
        let inner = Inner {
            assignment,
            job,
            received,
            limits: Mutex::default(),
            is_stopped: AtomicBool::new(false),
            stop_reason: OnceLock::new(),
            stopped: Notify::new(),
            abort: Mutex::default(),
            notes: Mutex::default(),
            sink,
            config: tokio::sync::OnceCell::new(),
            asked: AtomicU64::new(0),
            spawned: AtomicU64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Id of the job.
    pub fn id(&self) -> &str {
        &self.inner.job.job_id
    }

    /// Its topic.
    pub fn topic(&self) -> &str {
        &self.inner.job.topic
    }

    pub(crate) fn assignment(&self) -> &pb::Assignment {
        &self.inner.assignment
    }

    /// Number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.inner.assignment.attempt
    }

    /// Attempts in all.
    pub fn max_attempts(&self) -> u32 {
        self.inner.assignment.max_attempts
    }

    /// When the handler must be done: the end of this attempt's time or of the job's, whichever is first.
    pub fn deadline(&self) -> Option<Instant> {
        let limits = lock(&self.inner.limits);
        limits.extended.or_else(|| self.limits(&limits).into_iter().flatten().min())
    }

    /// End of the job's time, and of this attempt's.
    fn limits(&self, limits: &Limits) -> [Option<Instant>; 2] {
        let from = |start: Instant, span| of_span(span).and_then(|limit| start.checked_add(limit));
        let Inner { assignment, received, .. } = &*self.inner;
        let started = limits.started.unwrap_or(*received);
        [from(*received, assignment.deadline), from(started, assignment.start_to_close)]
    }

    /// Kind of the failure when the deadline passes.
    pub(crate) fn deadline_kind(&self) -> &'static str {
        match self.limits(&lock(&self.inner.limits)) {
            [Some(total), own] if own.is_none_or(|own| total <= own) => "TOTAL_TIMEOUT",
            _ => "START_TO_CLOSE_TIMEOUT",
        }
    }

    /// Time left until the deadline.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Hand this to systems that deduplicate: the same over attempts, a new one for a retry by hand.
    pub fn idempotency_token(&self) -> &str {
        &self.inner.assignment.idempotency_token
    }

    /// The job's labels.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.inner.assignment.labels
    }

    /// Its priority.
    pub fn priority(&self) -> i32 {
        self.inner.assignment.priority
    }

    /// W3C `traceparent` to continue. Empty without one.
    pub fn trace_context(&self) -> &str {
        &self.inner.assignment.trace_context
    }

    /// Seed for handlers that need chance, the same over attempts.
    pub fn random_seed(&self) -> u64 {
        self.inner.assignment.random_seed
    }

    /// What policy wants observed. Nothing is set where it allowed the job as it is.
    pub fn constraints(&self) -> Constraints {
        let policy = self.inner.assignment.policy.as_ref();
        let constraints = policy.and_then(|policy| policy.constraints.clone());
        constraints.map(json_of_struct).map(Constraints::of).unwrap_or_default()
    }

    /// What is left of the job's budget, less what this attempt said it used.
    pub fn budget_left(&self) -> BudgetLeft {
        BudgetLeft::of(&self.inner.assignment.budget, &lock(&self.inner.notes).used)
    }

    /// Digest of the configuration the job was submitted under. Empty without one.
    pub fn config_digest(&self) -> &str {
        &self.inner.assignment.config_digest
    }

    /// The configuration the job was submitted under, the same over attempts; an empty map without one. Small ones come with the
    /// job; one of more than 16 KiB is asked for, once.
    pub async fn config<T: FromPayload>(&self) -> Result<T> {
        let config = self.inner.config.get_or_try_init(|| self.find_config());
        T::from_payload(config.await?.clone())
    }

    async fn find_config(&self) -> Result<Payload> {
        let assignment = &self.inner.assignment;
        match (&assignment.config, self.inner.sink.client()) {
            (Some(config), _) => Ok(Payload::from_pb(config.clone())),
            (None, Some(client)) if !assignment.config_digest.is_empty() => {
                Payload::json(&client.config_of_job(self.id()).await?.data)
            }
            (None, _) => Ok(Payload::new(crate::payload::JSON, &b"{}"[..])),
        }
    }

    /// Who asked for the job. Empty when nobody was named.
    pub fn actor_id(&self) -> &str {
        self.inner.assignment.metadata.as_ref().map_or("", |metadata| &metadata.actor_id)
    }

    /// The run and the step it belongs to. `None` for a job on its own.
    pub fn run(&self) -> Option<(&str, &str)> {
        let job = &self.inner.job;
        (!job.run_id.is_empty()).then_some((job.run_id.as_str(), job.step_id.as_str()))
    }

    /// The last checkpoint of this or an earlier attempt, if there is one.
    pub fn last_checkpoint<T: FromPayload>(&self) -> Result<Option<T>> {
        let own = lock(&self.inner.notes).checkpoint.clone();
        let earlier = || self.inner.assignment.last_checkpoint.clone().map(Payload::from_pb);
        own.or_else(earlier).filter(|checkpoint| !checkpoint.is_empty()).map(T::from_payload).transpose()
    }

    pub(crate) fn lease_id(&self) -> u64 {
        self.inner.assignment.lease_id
    }

    pub(crate) fn next_ask(&self) -> u64 {
        self.inner.asked.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn next_spawn(&self) -> u64 {
        self.inner.spawned.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn sink(&self) -> &dyn Sink {
        &*self.inner.sink
    }

    pub(crate) fn shared_sink(&self) -> Arc<dyn Sink> {
        self.inner.sink.clone()
    }

    pub(crate) fn lease_token(&self) -> &Bytes {
        &self.inner.assignment.lease_token
    }
}

// === what can be said ===

impl Ctx {
    /// Says how far the job is, from 0 to 1. The latest word wins; it is passed on a few times a second at most.
    pub fn progress(&self, fraction: f64, message: impl Into<String>) {
        let mut notes = lock(&self.inner.notes);
        let fraction = fraction.is_finite().then(|| fraction.clamp(0.0, 1.0));
        notes.progress = Some(Said { fraction, message: cut(message.into(), PROGRESS_MESSAGE_MAX) });
        self.note(notes);
    }

    /// Says what was used since the last word on it. Counts against the budget: an attempt that goes beyond it is stopped, and
    /// the job fails with `BUDGET_EXCEEDED`.
    pub fn used(&self, usage: Usage) {
        let usage = usage.into_pb();
        let mut notes = lock(&self.inner.notes);
        add(&mut notes.used, &usage);
        add(notes.unreported.get_or_insert_default(), &usage);
        self.note(notes);
    }

    /// Keeps a state from which the next attempt can go on. The latest wins.
    pub fn checkpoint<T: IntoPayload>(&self, state: T) -> Result<()> {
        let checkpoint = state.into_payload()?;
        let most = self.inner.sink.payload_max();
        if checkpoint.len() > most {
            let message = format!("a checkpoint has at most {most} bytes, this one {}", checkpoint.len());
            return Err(Error::new(Code::ResourceExhausted, "PAYLOAD_TOO_LARGE", message));
        }
        let mut notes = lock(&self.inner.notes);
        (notes.checkpoint, notes.has_new_checkpoint) = (Some(checkpoint), true);
        self.note(notes);
        Ok(())
    }

    fn note(&self, mut notes: MutexGuard<'_, Notes>) {
        let was_dirty = std::mem::replace(&mut notes.is_dirty, true);
        drop(notes);
        if !was_dirty {
            self.inner.sink.noted(self.lease_id());
        }
    }

    /// Writes a line to the job's stream `log`. Lines that come faster than they can be sent are dropped, and counted.
    pub fn log(&self, line: impl AsRef<str>) {
        self.output("log", format!("{}\n", line.as_ref()));
    }

    /// Writes to a stream of the job, for example `tokens`. What comes faster than it can be sent is dropped, and counted.
    pub fn output(&self, stream: &str, chunk: impl Into<Bytes>) {
        let chunk = chunk.into();
        let size = chunk.len() as u64;
        let mut notes = lock(&self.inner.notes);
        let written = notes.streams.entry(stream.to_owned()).or_default();
        let piece = self.piece(stream, chunk, written, pb::OutputDurability::Ephemeral);
        match self.inner.sink.output(piece) {
            Ok(()) => written.dropped = 0,
            Err(_) => written.dropped += size,
        }
        written.offset += size;
    }

    /// Writes to a stream that is kept with the job's record. Waits when it is written faster than it can be sent.
    pub async fn output_durable(&self, stream: &str, chunk: impl Into<Bytes>) {
        let chunk = chunk.into();
        loop {
            let room = self.inner.sink.room().notified();
            {
                let mut notes = lock(&self.inner.notes);
                let written = notes.streams.entry(stream.to_owned()).or_default();
                let piece = self.piece(stream, chunk.clone(), written, pb::OutputDurability::Durable);
                if self.inner.sink.output(piece).is_ok() {
                    (written.offset, written.dropped) = (written.offset + chunk.len() as u64, 0);
                    return;
                }
            }
            room.await;
        }
    }

    fn piece(&self, stream: &str, chunk: Bytes, written: &Written, how: pb::OutputDurability) -> pb::Output {
        pb::Output {
            lease_id: self.lease_id(),
            stream: stream.to_owned(),
            first_offset: written.offset,
            chunks: vec![chunk],
            durability: how.into(),
            end: false,
            dropped: written.dropped,
        }
    }

    /// What to return to give the job back unfinished: `return Err(ctx.release())`. The attempt is not counted.
    pub fn release(&self) -> HandlerError {
        Release.into()
    }

    /// Takes what was said and not passed on.
    pub(crate) fn take_news(&self) -> Option<News> {
        let mut notes = lock(&self.inner.notes);
        if !std::mem::take(&mut notes.is_dirty) {
            return None;
        }
        let has_new = std::mem::take(&mut notes.has_new_checkpoint);
        let checkpoint = notes.checkpoint.clone().filter(|_| has_new);
        Some(News { progress: notes.progress.take(), checkpoint, usage: notes.unreported.take() })
    }
}

// === being stopped ===

impl Ctx {
    /// True once the handler should stop: the job was cancelled, is out of time, or is no longer this worker's.
    pub fn is_cancelled(&self) -> bool {
        self.inner.is_stopped.load(Ordering::Acquire)
    }

    /// Refuses once the handler should stop: `ctx.check()?` between two steps.
    pub fn check(&self) -> Result<(), Cancelled> {
        match self.is_cancelled() {
            true => Err(self.stopped()),
            false => Ok(()),
        }
    }

    /// Waits until the handler should stop: `return Err(ctx.cancelled().await.into())` in a `select!`.
    pub async fn cancelled(&self) -> Cancelled {
        loop {
            let stopped = self.inner.stopped.notified();
            if self.is_cancelled() {
                return self.stopped();
            }
            stopped.await;
        }
    }

    fn stopped(&self) -> Cancelled {
        Cancelled { reason: self.inner.stop_reason.get().cloned().unwrap_or_default() }
    }

    /// Tells the handler to stop. The first reason is kept.
    pub(crate) fn stop(&self, reason: &str) {
        self.inner.stop_reason.get_or_init(|| reason.to_owned());
        self.inner.is_stopped.store(true, Ordering::Release);
        self.inner.stopped.notify_waiters();
    }

    /// Ends the handler's task at its next await.
    pub(crate) fn abort(&self) {
        let mut abort = lock(&self.inner.abort);
        abort.is_asked = true;
        if let Some(task) = &abort.task {
            task.abort();
        }
    }

    /// The task that runs the handler.
    pub(crate) fn runs_in(&self, task: tokio::task::AbortHandle) {
        let mut abort = lock(&self.inner.abort);
        if abort.is_asked {
            task.abort();
        }
        abort.task = Some(task);
    }

    pub(crate) fn started(&self, now: Instant) {
        lock(&self.inner.limits).started = Some(now);
    }

    pub(crate) fn extend(&self, deadline: Option<Instant>) {
        lock(&self.inner.limits).extended = deadline;
    }
}

impl std::fmt::Debug for Ctx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ctx")
            .field("id", &self.id())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}

/// Sums up, as the server does.
fn add(sum: &mut pb::Usage, more: &pb::Usage) {
    sum.cpu_ms = sum.cpu_ms.saturating_add(more.cpu_ms);
    sum.peak_rss = sum.peak_rss.max(more.peak_rss);
    sum.tokens_in = sum.tokens_in.saturating_add(more.tokens_in);
    sum.tokens_out = sum.tokens_out.saturating_add(more.tokens_out);
    sum.cost_micros = sum.cost_micros.saturating_add(more.cost_micros);
    sum.tool_calls = sum.tool_calls.saturating_add(more.tool_calls);
    if !more.model.is_empty() {
        sum.model.clone_from(&more.model);
    }
}

/// A panic while one of these is held leaves nothing half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
