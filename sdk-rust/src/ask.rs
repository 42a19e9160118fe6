//! What a handler asks the server while it runs: may this be done, may so much be spent.
//!
//! Each question has a number under the lease, and is sent again with it after the stream broke: the answer is that of the first time.

use crate::constraints::Constraints;
use crate::ctx::Ctx;
use crate::error::{Code, Error, Result};
use crate::payload::{IntoPayload, json_of_struct};
use crate::raw::pb;
use crate::raw::pb::answer::Answer;
use crate::raw::pb::ask::Question;
use crate::time::of_span;
use std::time::Duration;

/// Times a question is asked again when the server says it may.
const REPEATS_MAX: u32 = 8;

/// Something a handler wants to do, in the words of policies. A text is an action on nothing in particular.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "an action is asked about with `ctx.guard`"]
pub struct Action {
    name: String,
    resource: String,
    risk_tags: Vec<String>,
}

/// What policy allows, and how.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Guarded {
    /// Id of the recorded answer.
    pub decision_id: String,
    /// Policy that answered.
    pub policy: String,
    /// Rule that decided.
    pub rule_id: String,
    /// Why, in words.
    pub reason: String,
    /// What must be observed while it is done: the handler's to keep.
    pub constraints: Constraints,
    /// How long the answer may be relied on.
    pub ttl: Duration,
}

/// A limit of a job's budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BudgetDimension {
    /// Model tokens, read and written together.
    Tokens,
    /// Cost in millionths of the installation's currency.
    CostMicros,
}

/// A part of the budget set aside for this attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Granted {
    /// What was asked for.
    pub amount: u64,
    /// What is left to be asked for. `None`: nothing limits it.
    pub remaining: Option<u64>,
}

// === impl Action ===

impl Action {
    /// An action: `[a-z0-9][a-z0-9._-]{0,63}`, for example `repo.write`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// What it is done to. At most 256 bytes; rules see it as the label `resource`.
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resource = resource.into();
        self
    }

    /// A risk tag, besides those of the job.
    pub fn risk_tag(mut self, tag: impl Into<String>) -> Self {
        self.risk_tags.push(tag.into());
        self
    }
}

impl<T: Into<String>> From<T> for Action {
    fn from(name: T) -> Self {
        Self::new(name)
    }
}

// === impl Ctx: questions ===

impl Ctx {
    /// Asks whether the handler may do something with these arguments (at most 64 KiB), and records the answer. An error with the
    /// reason `POLICY_DENIED` or `APPROVAL_REQUIRED` says no: its facts are `decision_id`, `policy` and `rule_id`. Other errors say that there
    /// was no answer, which is no leave either.
    pub async fn guard(&self, action: impl Into<Action>, args: impl IntoPayload) -> Result<Guarded> {
        let Action { name, resource, risk_tags } = action.into();
        let args = args.into_payload()?;
        let args = (!args.is_empty()).then(|| args.into_pb());
        let ask = pb::PolicyAsk { action: name, resource, args, args_digest: String::new(), risk_tags };
        match self.ask("ask.policy", Question::Policy(ask)).await? {
            Answer::Policy(verdict) => guarded(verdict),
            _ => Err(Error::unexpected("another answer than was asked for")),
        }
    }

    /// Sets aside a part of the job's budget: all of it, or an error with the reason `BUDGET_EXCEEDED` whose fact `remaining` is what is
    /// left. What the handler reports with [`used`](Ctx::used) comes out of it; the end of the attempt gives back the rest.
    pub async fn budget(&self, dimension: BudgetDimension, amount: u64) -> Result<Granted> {
        let dimension = match dimension {
            BudgetDimension::Tokens => pb::BudgetDimension::Tokens,
            BudgetDimension::CostMicros => pb::BudgetDimension::CostMicros,
        };
        let ask = pb::BudgetAsk { dimension: dimension.into(), amount, model: String::new() };
        match self.ask("ask.budget", Question::Budget(ask)).await? {
            Answer::Budget(grant) => granted(&grant, amount),
            _ => Err(Error::unexpected("another answer than was asked for")),
        }
    }

    pub(crate) async fn ask(&self, feature: &str, question: Question) -> Result<Answer> {
        let ask = pb::Ask { ask_id: self.next_ask(), lease_id: self.lease_id(), question: Some(question) };
        let mut repeats = 0;
        loop {
            let waiting = Waiting { ctx: self, ask_id: ask.ask_id };
            let answer = self.sink().ask(feature, ask.clone())?.await;
            drop(waiting);
            let answer = answer.map_err(|_| {
                Error::new(
                    Code::FailedPrecondition,
                    "STALE_LEASE",
                    "the lease ended before there was an answer",
                )
            })?;
            match answer.answer {
                Some(Answer::Error(error)) => match of_span(error.retry_after) {
                    Some(wait) if repeats < REPEATS_MAX => {
                        repeats += 1;
                        tokio::time::sleep(wait).await;
                    }
                    wait => return Err(refused(&error, wait)),
                },
                Some(answer) => return Ok(answer),
                None => return Err(Error::unexpected("an answer of a later version")),
            }
        }
    }
}

/// A handler that no longer waits leaves no question behind.
struct Waiting<'a> {
    ctx: &'a Ctx,
    ask_id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.ctx.sink().forget_ask(self.ctx.lease_id(), self.ask_id);
    }
}

fn guarded(verdict: pb::PolicyVerdict) -> Result<Guarded> {
    use pb::Verdict;
    let answered = verdict.verdict();
    let pb::PolicyVerdict { decision_id, policy, rule_id, reason, constraints, ttl, .. } = verdict;
    let refusal = match answered {
        Verdict::Allow | Verdict::AllowWithConstraints => {
            let constraints = constraints.map(json_of_struct).map(Constraints::of).unwrap_or_default();
            let ttl = of_span(ttl).unwrap_or_default();
            return Ok(Guarded { decision_id, policy, rule_id, reason, constraints, ttl });
        }
        Verdict::RequireApproval => Error::new(
            Code::PermissionDenied,
            "APPROVAL_REQUIRED",
            format!("rule {rule_id} asks for an approval, which is not waited for inside a job: {reason}"),
        ),
        Verdict::Throttle => Error::new(
            Code::PermissionDenied,
            "POLICY_DENIED",
            format!("rule {rule_id} has a rate, and rates count jobs only: {reason}"),
        ),
        // What this version does not know is no leave.
        Verdict::Deny | Verdict::Unspecified => {
            let message = format!("rule {rule_id} of policy {policy} denies it: {reason}");
            Error::new(Code::PermissionDenied, "POLICY_DENIED", message)
        }
    };
    Err(refusal
        .with_fact("decision_id", decision_id)
        .with_fact("policy", policy)
        .with_fact("rule_id", rule_id))
}

fn granted(grant: &pb::BudgetGrant, amount: u64) -> Result<Granted> {
    match grant.verdict() {
        pb::BudgetVerdict::Granted => Ok(Granted { amount, remaining: grant.remaining }),
        pb::BudgetVerdict::Unlimited => Ok(Granted { amount, remaining: None }),
        pb::BudgetVerdict::Exceeded | pb::BudgetVerdict::Unspecified => {
            let left = grant.remaining.unwrap_or_default();
            let message = format!("{amount} asked for of the budget, {left} left");
            let error = Error::new(Code::ResourceExhausted, "BUDGET_EXCEEDED", message);
            Err(error.with_fact("remaining", left.to_string()))
        }
    }
}

fn refused(error: &pb::AskError, wait: Option<Duration>) -> Error {
    let reason = pb::ErrorReason::try_from(error.code).unwrap_or_default().short_name();
    let code = match reason {
        "INVALID_FIELD" | "INVALID_JSON" | "PAYLOAD_TOO_LARGE" => Code::InvalidArgument,
        "IDEMPOTENCY_CONFLICT" => Code::AlreadyExists,
        "RATE_LIMITED" | "OVERLOADED" | "QUOTA_EXCEEDED" | "TOO_MANY" | "BUDGET_EXCEEDED" | "STORE_FULL" => {
            Code::ResourceExhausted
        }
        _ if wait.is_some() => Code::Unavailable,
        _ => Code::FailedPrecondition,
    };
    let refused = Error::new(code, reason, error.message.clone());
    match wait {
        Some(wait) => refused.with_retry_after(wait),
        None => refused,
    }
}
