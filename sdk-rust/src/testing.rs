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

use crate::ask::BudgetDimension;
use crate::ctx::{Ctx, Sink};
use crate::error::Result;
use crate::handler::Handler;
use crate::job::{Job, Usage};
use crate::payload::{IntoPayload, Payload, struct_of};
use crate::raw::pb;
use crate::verdict::HandlerError;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Instant;
use tokio::sync::{Notify, oneshot};

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
    /// Actions it asked leave for, in order.
    pub guarded: Vec<String>,
    /// What it asked for of its budget, in order.
    pub budgeted: Vec<(BudgetDimension, u64)>,
    /// Children it made, in order, as topic and input. Their ids are `child_1`, `child_2` and so on.
    pub spawned: Vec<(String, Payload)>,
}

/// A job for a handler under test.
#[derive(Debug)]
#[must_use = "a call does nothing until it is made"]
pub struct Call {
    assignment: pb::Assignment,
    cancel: Option<String>,
    answers: Answers,
}

/// What questions are answered.
#[derive(Clone, Debug, Default)]
struct Answers {
    verdicts: BTreeMap<String, pb::PolicyVerdict>,
    tokens: Option<u64>,
    cost_micros: Option<u64>,
    children: BTreeMap<String, Payload>,
    secrets: BTreeMap<String, pb::SecretValue>,
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
        let job = pb::JobRef { job_id, topic: topic.into(), ..Default::default() };
        let assignment = pb::Assignment {
            lease_id: 1,
            job: Some(job),
            attempt: 1,
            max_attempts: 3,
            idempotency_token: "test".into(),
            ..Default::default()
        };
        Self { assignment, cancel: None, answers: Answers::default() }
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

    /// An action the policy denies. All that are not named it allows.
    pub fn denies(mut self, action: impl Into<String>, reason: impl Into<String>) -> Self {
        let verdict = pb::PolicyVerdict { reason: reason.into(), ..verdict(pb::Verdict::Deny) };
        self.answers.verdicts.insert(action.into(), verdict);
        self
    }

    /// An action the policy allows with constraints, as a rule states them.
    pub fn constrains(mut self, action: impl Into<String>, constraints: serde_json::Value) -> Self {
        let constraints = Some(struct_of(constraints));
        let verdict = pb::PolicyVerdict { constraints, ..verdict(pb::Verdict::AllowWithConstraints) };
        self.answers.verdicts.insert(action.into(), verdict);
        self
    }

    /// What may be set aside of the budget. Without it nothing is limited.
    pub fn budget(mut self, dimension: BudgetDimension, limit: u64) -> Self {
        match dimension {
            BudgetDimension::Tokens => self.answers.tokens = Some(limit),
            BudgetDimension::CostMicros => self.answers.cost_micros = Some(limit),
        }
        self
    }

    /// What the handler of every child with this topic returns, for handlers that wait for their children.
    pub fn child(mut self, topic: impl Into<String>, result: impl IntoPayload) -> Result<Self> {
        self.answers.children.insert(topic.into(), result.into_payload()?);
        Ok(self)
    }

    /// A secret the job refers to, and its value. All others are refused.
    pub fn secret(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let name = name.into();
        self.assignment.secret_refs.push(name.clone());
        self.answers.secrets.insert(name.clone(), pb::SecretValue { name, value: value.into() });
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
        let Seen { progress, checkpoints, output, used, guarded, budgeted, spawned } = seen;
        Called { result, progress, checkpoints, output, used, guarded, budgeted, spawned }
    }

    fn ctx(self) -> (Ctx, Arc<Notebook>) {
        let notebook = Arc::new(Notebook { answers: Mutex::new(self.answers), ..Notebook::default() });
        let ctx = Ctx::new(self.assignment, Instant::now(), notebook.clone());
        notebook.ctx.get_or_init(|| Arc::downgrade(&ctx.inner));
        if let Some(reason) = self.cancel {
            ctx.stop(&reason);
        }
        (ctx, notebook)
    }
}

/// Ids of children begin with it.
const CHILD: &str = "child_";

/// Takes the place of a session.
#[derive(Default)]
struct Notebook {
    seen: Mutex<Seen>,
    answers: Mutex<Answers>,
    ctx: OnceLock<Weak<crate::ctx::Inner>>,
    room: Notify,
}

#[derive(Default)]
struct Seen {
    progress: Vec<(Option<f64>, String)>,
    checkpoints: Vec<Payload>,
    output: Vec<(String, bytes::Bytes)>,
    used: Vec<Usage>,
    guarded: Vec<String>,
    budgeted: Vec<(BudgetDimension, u64)>,
    spawned: Vec<(String, Payload)>,
}

fn verdict(verdict: pb::Verdict) -> pb::PolicyVerdict {
    pb::PolicyVerdict { verdict: verdict.into(), decision_id: "test".into(), ..Default::default() }
}

impl Answers {
    fn budget(&mut self, dimension: BudgetDimension, amount: u64) -> pb::BudgetGrant {
        let limit = match dimension {
            BudgetDimension::Tokens => &mut self.tokens,
            BudgetDimension::CostMicros => &mut self.cost_micros,
        };
        let (granted, verdict) = match limit {
            None => (0, pb::BudgetVerdict::Unlimited),
            Some(left) if amount <= *left => {
                *left -= amount;
                (amount, pb::BudgetVerdict::Granted)
            }
            Some(_) => (0, pb::BudgetVerdict::Exceeded),
        };
        pb::BudgetGrant { granted, remaining: *limit, verdict: verdict.into() }
    }

    fn secrets(&self, names: &[String]) -> pb::answer::Answer {
        let values: Option<Vec<_>> = names.iter().map(|name| self.secrets.get(name).cloned()).collect();
        match values {
            Some(values) => pb::answer::Answer::Secrets(pb::Secrets { values }),
            None => pb::answer::Answer::Error(pb::AskError {
                code: pb::ErrorReason::SecretRefused.into(),
                message: "the test has no such secret".into(),
                ..Default::default()
            }),
        }
    }
}

impl Notebook {
    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notebook {
    fn spawn(&self, ask: pb::SpawnAsk) -> pb::Spawned {
        let mut seen = self.lock();
        let mut job_ids = Vec::with_capacity(ask.specs.len());
        for spec in ask.specs {
            seen.spawned.push((spec.topic, spec.payload.map(Payload::from_pb).unwrap_or_default()));
            job_ids.push(format!("{CHILD}{}", seen.spawned.len()));
        }
        pb::Spawned { job_ids }
    }
}

impl Sink for Notebook {
    fn client(&self) -> Option<&crate::client::Client> {
        None
    }

    fn child(&self, job_id: &str) -> Option<Job> {
        let number: usize = job_id.strip_prefix(CHILD)?.parse().ok()?;
        let (topic, _) = self.lock().spawned.get(number.checked_sub(1)?)?.clone();
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let result = answers.children.get(&topic)?.clone().into_pb();
        let spec = pb::JobSpec { topic, ..Default::default() };
        Some(Job::from_pb(pb::Job {
            job_id: job_id.to_owned(),
            state: pb::JobState::Succeeded.into(),
            spec: Some(spec),
            result: Some(result),
            ..Default::default()
        }))
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

    fn ask(&self, _feature: &str, ask: pb::Ask) -> Result<oneshot::Receiver<pb::Answer>> {
        use pb::{answer::Answer, ask::Question};
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = match ask.question {
            Some(Question::Policy(ask)) => {
                let known = answers.verdicts.get(&ask.action).cloned();
                self.lock().guarded.push(ask.action);
                Some(Answer::Policy(known.unwrap_or_else(|| verdict(pb::Verdict::Allow))))
            }
            Some(Question::Budget(ask)) => {
                let dimension = match ask.dimension() {
                    pb::BudgetDimension::CostMicros => BudgetDimension::CostMicros,
                    pb::BudgetDimension::Tokens | pb::BudgetDimension::Unspecified => BudgetDimension::Tokens,
                };
                self.lock().budgeted.push((dimension, ask.amount));
                Some(Answer::Budget(answers.budget(dimension, ask.amount)))
            }
            Some(Question::Spawn(ask)) => Some(Answer::Spawned(self.spawn(ask))),
            Some(Question::Secret(ask)) => Some(answers.secrets(&ask.names)),
            None => None,
        };
        let (answered, receiver) = oneshot::channel();
        // The receiver is right here.
        let _ = answered.send(pb::Answer { ask_id: ask.ask_id, lease_id: ask.lease_id, answer });
        Ok(receiver)
    }

    fn forget_ask(&self, _lease_id: u64, _ask_id: u64) {}

    fn room(&self) -> &Notify {
        &self.room
    }

    fn payload_max(&self) -> usize {
        1 << 20
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::JobRequest;

    async fn agent(ctx: Ctx, tokens: u64) -> Result<(Option<u32>, Option<u64>), HandlerError> {
        let leave = ctx.guard("repo.write", Payload::default()).await?;
        let granted = ctx.budget(BudgetDimension::Tokens, tokens).await?;
        Ok((leave.constraints.max_files, granted.remaining))
    }

    #[tokio::test]
    async fn questions_are_answered_as_the_test_says() {
        let called = call(agent, 5).await;
        assert_eq!(called.result.ok(), Some((None, None)), "without a word all is allowed");
        assert_eq!(called.guarded, ["repo.write"]);
        assert_eq!(called.budgeted, [(BudgetDimension::Tokens, 5)]);
        let job = || Call::new("test").budget(BudgetDimension::Tokens, 7);
        let constrained = job().constrains("repo.write", serde_json::json!({"diff": {"max_files": 3}}));
        assert_eq!(constrained.call(agent, 5).await.result.ok(), Some((Some(3), Some(2))));
        let kind = |called: Called<_>| called.result.err().map(|error: HandlerError| error.kind().to_owned());
        assert_eq!(kind(job().call(agent, 8).await).as_deref(), Some("BUDGET_EXCEEDED"));
        let denied = job().denies("repo.write", "no").call(agent, 1).await;
        assert!(denied.budgeted.is_empty());
        assert_eq!(kind(denied).as_deref(), Some("POLICY_DENIED"));
    }

    async fn halves(ctx: Ctx, parts: Vec<u32>) -> Result<u32, HandlerError> {
        let request = |part: u32| JobRequest::new("half").json(&part);
        let children = parts.into_iter().map(request).collect::<Result<Vec<_>>>()?;
        let mut sum = 0;
        for child in ctx.spawn_all(children).await? {
            sum += child.output().await?.parse::<u32>()?;
        }
        Ok(sum)
    }

    #[tokio::test]
    async fn children_are_seen_and_end_as_the_test_says() {
        let job = Call::new("test").child("half", Payload::json(&4).unwrap_or_default());
        let called = job.expect("a payload").call(halves, vec![7, 8]).await;
        assert_eq!(called.result.ok(), Some(8));
        let inputs: Vec<u32> = called.spawned.iter().filter_map(|(_, input)| input.parse().ok()).collect();
        assert_eq!(inputs, [7, 8]);
        let lost = call(halves, vec![7]).await.result.err().map(|error| error.message().to_owned());
        assert!(lost.is_some_and(|lost| lost.contains("Call::child")), "the test did not say how it ends");
    }

    #[tokio::test]
    async fn secrets_are_told_as_the_test_says_and_not_shown() {
        async fn reader(ctx: Ctx, name: String) -> Result<(usize, String), HandlerError> {
            let secret = ctx.secret(&name).await?;
            Ok((secret.expose().len(), format!("{secret:?} {:?}", ctx.secret_refs())))
        }
        let job = || Call::new("test").secret("DB", "hunter2-hunter2");
        let shown = (15, "Secret [\"DB\"]".to_owned());
        assert_eq!(job().call(reader, "DB".to_owned()).await.result.ok(), Some(shown.clone()));
        assert_eq!(job().call(reader, "secret://DB".to_owned()).await.result.ok(), Some(shown));
        let refused = job().call(reader, "OTHER".to_owned()).await.result.err();
        assert_eq!(refused.map(|error| error.kind().to_owned()).as_deref(), Some("SECRET_REFUSED"));
    }
}
