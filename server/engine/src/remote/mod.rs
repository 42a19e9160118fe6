//! A policy kernel in another process: asked once a job is durable, its answer comes back as an input of the loop.
//!
//! An outage defers jobs and never decides about them: they stay PENDING and are asked about again when the breaker lets
//! questions through.

mod breaker;

pub use breaker::Standing;

use crate::mail::{Mail, ReplyTo};
use crate::metrics::add;
use crate::shared::Shared;
use breaker::Breaker;
use coretex_domain::config::Applied;
use coretex_domain::job::Spec;
use coretex_domain::policy::{Answer, Decision, Policy};
use coretex_domain::{Job, Namespace, Span, Time};
use coretex_kernel::input::{Input, Ruled};
use coretex_ports::BoxFuture;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Questions on their way at a time.
const ASKED_MAX: usize = 256;
/// A kernel that takes longer does not answer. Its own bound is far below.
const ANSWER_MAX: Span = Span::secs(2);
/// How often the kernel is asked which policies it judges by, so that a change is noticed without a job.
const VERSION_EVERY: Span = Span::secs(2);

/// What is asked about one job.
#[derive(Clone, Debug)]
pub struct Question {
    pub namespace: Namespace,
    /// Whoever logged in to submit it.
    pub submitter: Option<Arc<str>>,
    pub spec: Arc<Spec>,
    /// The configuration it was submitted under.
    pub config: Option<Arc<Applied>>,
}

/// A policy kernel elsewhere. An error is an outage, in words for the operator.
pub trait RemoteKernel: std::fmt::Debug + Send + Sync + 'static {
    fn judge(&self, question: Question) -> BoxFuture<Result<Arc<Decision>, String>>;
    /// The number that stands for all policies in force there.
    fn version(&self) -> BoxFuture<Result<u64, String>>;
}

/// What the loops and the façade share of it.
#[derive(Default)]
pub(crate) struct Link {
    breaker: Mutex<Breaker>,
}

impl Link {
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn standing(&self) -> Standing {
        self.breaker().standing()
    }
}

/// One job, answered or not.
struct Answered {
    job: Arc<Job>,
    result: Result<Arc<Decision>, String>,
}

/// Asks for as long as the engine lives.
pub(crate) async fn run(
    shared: Arc<Shared>,
    kernel: Arc<dyn RemoteKernel>,
    mut inbox: mpsc::UnboundedReceiver<Arc<Job>>,
) {
    let mut asked = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            Some(answered) = asked.next(), if !asked.is_empty() => take(&shared, answered).await,
            job = inbox.recv(), if asked.len() < ASKED_MAX => {
                let Some(job) = job else { return };
                let now = shared.env.clock.now().wall;
                let admitted = shared.remote.breaker().admit(now);
                match admitted {
                    Ok(()) => asked.push(ask(shared.clone(), kernel.clone(), job)),
                    Err(until) => defer(&shared, &job, until, "it did not answer lately").await,
                }
            }
        }
    }
}

async fn ask(shared: Arc<Shared>, kernel: Arc<dyn RemoteKernel>, job: Arc<Job>) -> Answered {
    let question = Question {
        namespace: job.namespace.clone(),
        submitter: job.submitter().map(Into::into),
        spec: job.spec.clone(),
        config: job.rare().config.clone(),
    };
    let until = shared.env.clock.now().mono + ANSWER_MAX;
    let result = tokio::select! {
        result = kernel.judge(question) => result,
        () = shared.env.clock.sleep_until(until) => Err(format!("no answer within {} s", ANSWER_MAX.0 / 1_000)),
    };
    Answered { job, result }
}

async fn take(shared: &Arc<Shared>, answered: Answered) {
    let Answered { job, result } = answered;
    match result {
        Ok(decision) => {
            shared.remote.breaker().succeeded();
            learn(shared, decision.policy_version).await;
            answer(shared, &job, Answer::Decided(decision)).await;
        }
        Err(why) => {
            add(&shared.metrics.policy_outages, 1);
            let now = shared.env.clock.now().wall;
            let until = shared.remote.breaker().failed(now);
            if matches!(shared.remote.standing(), Standing::Open(_)) {
                tracing::warn!(why, "the policy kernel does not answer; jobs wait");
            }
            defer(shared, &job, until, &why).await;
        }
    }
}

async fn defer(shared: &Arc<Shared>, job: &Job, until: Time, why: &str) {
    // Jobs of one outage do not come back all at once.
    let spread = Span((shared.env.dice.bits() % 500) as u64);
    let reason = format!("POLICY_UNAVAILABLE: the policy kernel cannot be asked: {why}").into();
    answer(shared, job, Answer::Deferred { until: until + spread, reason }).await;
}

async fn answer(shared: &Arc<Shared>, job: &Job, answer: Answer) {
    let ruled = Ruled { key: job.key(), revision: job.revision, answer };
    let mail = Mail::Decide(Input::Ruled(Box::new(ruled)), ReplyTo::Nobody);
    // A loop that is gone or loaded again asks anew about what it finds.
    let _ = shared.post_waiting(shared.loop_of(job.shard), mail).await;
}

/// Puts a version in force that the kernel judges by now: what was admitted under another is asked about again.
async fn learn(shared: &Arc<Shared>, version: u64) {
    if shared.policy().version == version {
        return;
    }
    let policy = Arc::new(Policy::remote(version));
    shared.set_policy(policy.clone());
    for who in 0..shared.mailboxes.len() {
        let mail = Mail::Decide(Input::SetPolicy(policy.clone()), ReplyTo::Nobody);
        let _ = shared.post_waiting(who, mail).await;
    }
}

/// Notices when the kernel judges by other policies, for as long as the engine lives.
pub(crate) async fn follow(shared: Arc<Shared>, kernel: Arc<dyn RemoteKernel>) {
    loop {
        if let Ok(version) = kernel.version().await {
            learn(&shared, version).await;
        }
        let next = shared.env.clock.now().mono + VERSION_EVERY;
        shared.env.clock.sleep_until(next).await;
    }
}
