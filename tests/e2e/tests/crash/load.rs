//! Clients that never take silence for an answer: every request whose outcome is unknown is repeated with the same
//! keys until the server says what became of it, and everything it says is kept.

use coretex_contract::v1 as pb;
use coretex_contract::v1::payload::Body;
use coretex_e2e::api::{Api, proto_duration, spec};
use coretex_e2e::steady::{Outcome, Plan, Planner};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::{Code, Request, Response, Status};

pub(crate) const TOPIC: &str = "job.crash";
const CLIENTS: u64 = 16;
/// Each client sends five jobs per tick: together some 330 per second while the server is up.
const TICK: Duration = Duration::from_millis(240);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// What the workers are to do with a job, written into its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    Quick,
    Slow,
    FailsOnce,
    FailsAlways,
}

/// Everything the server said yes to.
#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) acked: HashMap<String, Script>,
    /// Jobs whose cancel was accepted.
    pub(crate) cancelled: Vec<String>,
    /// Answers that contradict an earlier one.
    pub(crate) conflicts: Vec<String>,
    pub(crate) unknown_resolved: u64,
}

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Book>>,
}

struct Client {
    api: Api,
    name: String,
    dice: StdRng,
    book: Book,
    number: u64,
}

// === impl Script ===

impl Script {
    fn roll(dice: &mut StdRng) -> Script {
        match dice.random_range(0..100) {
            0..80 => Script::Quick,
            80..90 => Script::Slow,
            90..97 => Script::FailsOnce,
            _ => Script::FailsAlways,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Script::Quick => "quick",
            Script::Slow => "slow",
            Script::FailsOnce => "fails once",
            Script::FailsAlways => "fails always",
        }
    }
}

/// Plays the script of each job.
pub(crate) fn planner() -> Planner {
    Arc::new(|assignment| {
        let body = assignment.input.as_ref().and_then(|payload| payload.body.as_ref());
        let Some(Body::Data(text)) = body else { return Plan::echo() };
        match (text.as_ref(), assignment.attempt) {
            (b"slow", _) => Plan::after(Duration::from_millis(120), Outcome::Echo),
            (b"fails once", 1) | (b"fails always", _) => Plan::after(Duration::ZERO, Outcome::Fail("Flaky")),
            _ => Plan::echo(),
        }
    })
}

// === impl Load ===

impl Load {
    pub(crate) fn start(url: &str, seed: u64) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).map(|n| {
            let client = Client {
                api: Api::to(url),
                name: format!("{seed:x}-{n}"),
                dice: StdRng::seed_from_u64(seed.wrapping_add(n)),
                book: Book::default(),
                number: 0,
            };
            tokio::spawn(client.run(stop.clone()))
        });
        Load { clients: clients.collect(), stop }
    }

    /// Lets every client resolve what it has open, and joins their books.
    pub(crate) async fn stop(self) -> Book {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Book::default();
        for client in self.clients {
            let book = client.await.expect("a client does not fail");
            all.acked.extend(book.acked);
            all.cancelled.extend(book.cancelled);
            all.conflicts.extend(book.conflicts);
            all.unknown_resolved += book.unknown_resolved;
        }
        all
    }
}

// === impl Client ===

impl Client {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Book {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            self.batch().await;
            self.keyed().await;
            self.named().await;
        }
        self.book
    }

    fn spec(&mut self) -> (pb::JobSpec, Script) {
        self.number += 1;
        let script = Script::roll(&mut self.dice);
        let retry_policy = Some(pb::RetryPolicy {
            max_attempts: Some(2),
            initial_backoff: Some(proto_duration(Duration::from_millis(100))),
            ..Default::default()
        });
        let payload = Some(pb::Payload::data("text/plain", script.text().as_bytes()));
        (pb::JobSpec { payload, retry_policy, ..spec(TOPIC) }, script)
    }

    /// Three jobs in one call, made repeatable by its request id.
    async fn batch(&mut self) {
        let (specs, scripts): (Vec<_>, Vec<_>) = (0..3).map(|_| self.spec()).unzip();
        let request =
            pb::BatchSubmitJobsRequest { specs, request_id: format!("{}-{}", self.name, self.number) };
        let jobs = self.api.jobs();
        let call = move |request| {
            let mut jobs = jobs.clone();
            async move { jobs.batch_submit_jobs(request).await }
        };
        let reply = self.resolve(request, call).await;
        for (result, script) in reply.results.into_iter().zip(scripts) {
            match result.outcome {
                Some(pb::submit_result::Outcome::Job(job)) => self.acked(job.job_id, script),
                other => self.book.conflicts.push(format!("an item of a batch: {other:?}")),
            }
        }
    }

    /// One job under an idempotency key; now and then asked for again after the yes.
    async fn keyed(&mut self) {
        let (mut spec, script) = self.spec();
        spec.idempotency_key = format!("key-{}-{}", self.name, self.number);
        let first = self.submit(spec.clone()).await;
        if self.dice.random_ratio(1, 4) {
            let again = self.submit(spec.clone()).await;
            if again != first {
                let key = spec.idempotency_key;
                self.book.conflicts.push(format!("{key} names {first} and {again}"));
            }
        }
        self.acked(first, script);
    }

    /// One job under an id of the client's own; some are cancelled.
    async fn named(&mut self) {
        let (mut spec, script) = self.spec();
        spec.job_id = format!("own-{}-{}", self.name, self.number);
        let wanted = spec.job_id.clone();
        let id = self.submit(spec).await;
        if id != wanted {
            self.book.conflicts.push(format!("{wanted} became {id}"));
        }
        self.acked(id.clone(), script);
        if self.dice.random_ratio(1, 5) {
            self.cancel(id).await;
        }
    }

    async fn submit(&mut self, spec: pb::JobSpec) -> String {
        let request = pb::SubmitJobRequest { spec: Some(spec), request_id: String::new() };
        let jobs = self.api.jobs();
        let call = move |request| {
            let mut jobs = jobs.clone();
            async move { jobs.submit_job(request).await }
        };
        let reply = self.resolve(request, call).await;
        reply.job.map(|job| job.job_id).unwrap_or_default()
    }

    async fn cancel(&mut self, job_id: String) {
        let request = pb::CancelJobRequest { job_id: job_id.clone(), ..Default::default() };
        loop {
            match self.api.jobs().cancel_job(timed(request.clone())).await {
                Ok(_) => return self.book.cancelled.push(job_id),
                Err(status) if status.code() == Code::FailedPrecondition => return,
                Err(status) if is_definite(&status) => {
                    return self.book.conflicts.push(format!("cancel of {job_id}: {status}"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn acked(&mut self, job_id: String, script: Script) {
        self.book.acked.insert(job_id, script);
    }

    /// Repeats a call until its outcome is known. A definite no to a sound request is a contradiction.
    async fn resolve<Q: Clone, A: Default, F>(&mut self, request: Q, call: impl Fn(Request<Q>) -> F) -> A
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let mut tries = 0;
        loop {
            match call(timed(request.clone())).await {
                Ok(reply) => {
                    self.book.unknown_resolved += u64::from(tries > 0);
                    return reply.into_inner();
                }
                Err(status) if is_definite(&status) => {
                    self.book.conflicts.push(format!("a sound request was refused: {status}"));
                    return A::default();
                }
                Err(_) => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

/// Codes that say for sure that nothing was done and never will be.
fn is_definite(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::AlreadyExists
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::OutOfRange
            | Code::DataLoss
    )
}
