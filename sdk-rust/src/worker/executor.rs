//! Runs handlers on the caller's runtime. In: batches of jobs to start. Out: how each ended. Never panics with a handler.
//!
//! A handler that has shown that it ends at its first poll, quickly, is polled right here: a task per job would cost more than the job.
//! All others get a task (or, when they block, a thread) each.

use crate::ctx::Ctx;
use crate::handler::{Ended, Invoke, Run};
use crate::payload::Payload;
use crate::verdict::{HandlerError, PANIC};
use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A first poll that takes no longer than this may be made here.
const QUICK: Duration = Duration::from_micros(50);
/// So many quick first polls in a row make a handler a quick one.
const STREAK: u32 = 16;
/// Ends are passed on at the latest after so many, or so long.
const ENDS_MAX: usize = 64;
const ENDS_DELAY_MAX: Duration = Duration::from_micros(500);

/// A handler and what is known about its pace.
pub(crate) struct Bound {
    pub(crate) is_blocking: bool,
    invoke: Arc<dyn Invoke>,
    quick_in_a_row: AtomicU32,
}

/// A job to start.
pub(crate) struct Start {
    pub(crate) ctx: Ctx,
    pub(crate) input: Payload,
    pub(crate) bound: Arc<Bound>,
}

/// How a job ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) lease_id: u64,
    pub(crate) outcome: Outcome,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Returned(Ended),
    /// Its task was ended from outside.
    Aborted,
}

/// News from handlers. As many are under way as there are leases, which credit bounds.
#[derive(Debug)]
pub(crate) enum News {
    Ended(End),
    ManyEnded(Vec<End>),
    /// A running job has something to say about itself.
    Noted(u64),
}

pub(crate) type NewsSender = mpsc::UnboundedSender<News>;

/// Starts what comes in until the sender is gone.
pub(crate) async fn run_lane(mut starts: mpsc::UnboundedReceiver<Vec<Start>>, news: NewsSender) {
    // The handlers have their own tasks for waiting: what is polled here must not see an exhausted budget.
    tokio::task::coop::unconstrained(async {
        while let Some(batch) = starts.recv().await {
            start_all(batch, &news);
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn start_all(batch: Vec<Start>, news: &NewsSender) {
    let mut ends = Vec::with_capacity(batch.len().min(ENDS_MAX));
    let mut now = Instant::now();
    let mut passed_on = now;
    for start in batch {
        let lease_id = start.ctx.lease_id();
        if let Some(outcome) = begin(start, &mut now, news) {
            ends.push(End { lease_id, outcome });
        }
        if ends.len() >= ENDS_MAX || (!ends.is_empty() && now - passed_on > ENDS_DELAY_MAX) {
            tell(news, News::ManyEnded(std::mem::take(&mut ends)));
            passed_on = now;
        }
    }
    if !ends.is_empty() {
        tell(news, News::ManyEnded(ends));
    }
}

/// Starts one job; the outcome if it ended at once.
fn begin(start: Start, now: &mut Instant, news: &NewsSender) -> Option<Outcome> {
    let Start { ctx, input, bound } = start;
    ctx.started(*now);
    let lease_id = ctx.lease_id();
    let guard = || Guard { lease_id, news: news.clone(), is_done: false };
    let run = catch_unwind(AssertUnwindSafe(|| bound.invoke.start(ctx.clone(), input)));
    match run {
        Err(panic) => Some(panicked(&*panic)),
        Ok(Run::Refused(error)) => Some(Outcome::Returned(Err(error))),
        Ok(Run::Blocking(work)) => {
            let guard = guard();
            tokio::task::spawn_blocking(move || {
                let outcome = catch_unwind(AssertUnwindSafe(work));
                guard.done(outcome.map_or_else(|panic| panicked(&*panic), Outcome::Returned));
            });
            None
        }
        Ok(Run::Async(mut handler)) => {
            if bound.is_quick() {
                let mut cx = Context::from_waker(Waker::noop());
                let poll = catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(&mut cx)));
                let before = std::mem::replace(now, Instant::now());
                bound.polled(!matches!(poll, Ok(Poll::Pending)), *now - before);
                match poll {
                    Err(panic) => return Some(panicked(&*panic)),
                    Ok(Poll::Ready(ended)) => return Some(Outcome::Returned(ended)),
                    Ok(Poll::Pending) => {}
                }
            }
            let task = tokio::spawn(supervise(handler, bound, guard()));
            ctx.runs_in(task.abort_handle());
            None
        }
    }
}

async fn supervise(
    mut handler: std::pin::Pin<Box<dyn Future<Output = Ended> + Send>>,
    bound: Arc<Bound>,
    guard: Guard,
) {
    let mut is_first = true;
    let outcome = poll_fn(|cx| {
        let before = std::mem::take(&mut is_first).then(Instant::now);
        let poll = catch_unwind(AssertUnwindSafe(|| handler.as_mut().poll(cx)));
        if let Some(before) = before {
            bound.polled(!matches!(poll, Ok(Poll::Pending)), before.elapsed());
        }
        match poll {
            Err(panic) => Poll::Ready(panicked(&*panic)),
            Ok(Poll::Ready(ended)) => Poll::Ready(Outcome::Returned(ended)),
            Ok(Poll::Pending) => Poll::Pending,
        }
    });
    guard.done(outcome.await);
}

fn panicked(panic: &(dyn Any + Send)) -> Outcome {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    let message = text.unwrap_or_else(|| "the handler panicked".into());
    tracing::error!(message, "a handler panicked");
    Outcome::Returned(Err(HandlerError::new(PANIC, message)))
}

fn tell(news: &NewsSender, what: News) {
    // The session may be gone; then nobody waits for the outcome.
    let _ = news.send(what);
}

/// Tells how a job ended, also when its task is dropped.
struct Guard {
    lease_id: u64,
    news: NewsSender,
    is_done: bool,
}

impl Guard {
    fn done(mut self, outcome: Outcome) {
        self.is_done = true;
        tell(&self.news, News::Ended(End { lease_id: self.lease_id, outcome }));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.is_done {
            tell(&self.news, News::Ended(End { lease_id: self.lease_id, outcome: Outcome::Aborted }));
        }
    }
}

// === impl Bound ===

impl Bound {
    pub(crate) fn new(is_blocking: bool, invoke: Arc<dyn Invoke>) -> Self {
        Self { is_blocking, invoke, quick_in_a_row: AtomicU32::new(0) }
    }

    fn is_quick(&self) -> bool {
        self.quick_in_a_row.load(Ordering::Relaxed) >= STREAK
    }

    fn polled(&self, has_ended: bool, took: Duration) {
        let streak = self.quick_in_a_row.load(Ordering::Relaxed);
        let next = if has_ended && took <= QUICK { streak.saturating_add(1).min(STREAK) } else { 0 };
        if next != streak {
            self.quick_in_a_row.store(next, Ordering::Relaxed);
        }
    }
}
