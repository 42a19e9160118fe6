//! Questions of workers in the middle of an attempt: bound to an open lease, answered once, and the same ever after.
//!
//! A question is looked up first; what is new is judged here and decided by the owner of the job, which writes the answer
//! down. The answer leaves after that.

mod policy;
mod receipts;
mod secret;
mod spawn;

pub use receipts::{ReceiptPage, ReceiptQuery};

use crate::api::{AskOfWorker, AskQuestion, ServerFrame};
use crate::events::refusal_of;
use crate::sessions::{Asking, Stay, job_of_lease, shard_of};
use crate::shared::Shared;
use crate::tell;
use coretex_domain::limits::ASKS_PER_SECOND;
use coretex_domain::receipt::{Grant, Receipt, Spawned, Told};
use coretex_domain::{Job, Reason, Refusal, Span};
use coretex_kernel::input::{Ask, Input, Reply};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Look-ups before a question that keeps meeting reloads is refused.
const LOOKS_MAX: usize = 4;

/// Takes a question in. Its answer goes to whatever stream the session has by then.
pub(crate) fn take(shared: &Arc<Shared>, stay: &Arc<Stay>, mut ask: AskOfWorker) {
    crate::redact::question(&mut ask.question);
    let (lease_id, ask_id) = (ask.lease_id, ask.ask_id);
    let refusal = match stay.ask_begins(lease_id, ask_id, shared.env.clock.now().mono) {
        Asking::New => {
            let (shared, stay) = (shared.clone(), stay.clone());
            tokio::spawn(async move {
                let answer = decide(&shared, &stay, &ask).await;
                let frame = frame_of(&shared, &stay, &ask, answer).await;
                stay.ask_done(lease_id, ask_id);
                stay.send_control(frame);
            });
            return;
        }
        Asking::UnderWay => return,
        Asking::NotHeld => stale(lease_id),
        Asking::TooMany(wait) => {
            let message = format!("a lease asks at most {ASKS_PER_SECOND} times a second");
            Refusal::new(Reason::RateLimited, message).retry_after(wait)
        }
    };
    stay.send_control(answer_of(&ask, Err(refusal)));
}

fn answer_of(ask: &AskOfWorker, answer: Result<Told, Refusal>) -> ServerFrame {
    let decision_id = ask.receipt_name.get().cloned().unwrap_or_default();
    ServerFrame::Answer { lease_id: ask.lease_id, ask_id: ask.ask_id, decision_id, answer: Box::new(answer) }
}

/// What goes to the worker. Values of secrets join it here, after everything that is written down about them.
async fn frame_of(
    shared: &Shared,
    stay: &Stay,
    ask: &AskOfWorker,
    answer: Result<Told, Refusal>,
) -> ServerFrame {
    let AskQuestion::Secret { names } = &ask.question else {
        return answer_of(ask, answer.map_err(worth_repeating));
    };
    let values = answer.and_then(|_| secret::values(shared, &stay.namespace(), names));
    let told = match values {
        Ok(values) => secret::record(shared, stay, ask, names, None).await.map(|()| values),
        Err(refusal) if refusal.reason == Reason::SecretRefused => {
            Err(secret::record(shared, stay, ask, names, Some(&refusal)).await.err().unwrap_or(refusal))
        }
        Err(refusal) => Err(refusal),
    };
    match told {
        Ok(values) => ServerFrame::Secrets { lease_id: ask.lease_id, ask_id: ask.ask_id, values },
        Err(refusal) => answer_of(ask, Err(worth_repeating(refusal))),
    }
}

/// What may go better the next time says when: the number of the question makes a repeat harmless.
fn worth_repeating(refusal: Refusal) -> Refusal {
    let is_passing = match refusal.reason.class() {
        coretex_domain::refusal::Class::Unavailable => true,
        _ => matches!(refusal.reason, Reason::Overloaded | Reason::PolicyUnavailable),
    };
    match refusal.retry_after {
        None if is_passing => refusal.retry_after(Span(500)),
        _ => refusal,
    }
}

fn stale(lease_id: u64) -> Refusal {
    Refusal::new(Reason::StaleLease, format!("lease {lease_id} is closed, or was never this session's"))
}

async fn decide(shared: &Arc<Shared>, stay: &Stay, ask: &AskOfWorker) -> Result<Told, Refusal> {
    for _ in 0..LOOKS_MAX {
        if let Some(told) = look_and_decide(shared, stay, ask).await? {
            return told;
        }
    }
    Err(crate::reloaded())
}

/// None if the loop was loaded again between the look-up and the decision.
async fn look_and_decide(
    shared: &Arc<Shared>,
    stay: &Stay,
    ask: &AskOfWorker,
) -> Result<Option<Result<Told, Refusal>>, Refusal> {
    let session = stay.session().session_id;
    let who = shared.loop_of(shard_of(ask.lease_id));
    let looked_at = shared.departed[who].load(Ordering::Acquire);
    let job = job_of_lease(shared, session, ask.lease_id).await.ok_or_else(|| stale(ask.lease_id))?;
    let serial = job.state.lease().map(|lease| lease.serial).ok_or_else(|| stale(ask.lease_id))?;
    let name = Receipt::name(&job.id, serial, ask.ask_id);
    ask.receipt_name.get_or_init(|| name);
    let asked = fingerprint(&ask.question);
    let key = Receipt::key(&job.namespace, &job.id, serial, ask.ask_id);
    if let Some(row) = shared.read_resources(vec![key]).await?.first() {
        return Ok(Some(repeated(Receipt::of(row), asked, ask.ask_id)));
    }
    if let Some(error) = shared.store.refuses_growth() {
        return Err(refusal_of(error).retry_after(Span::secs(5)));
    }
    let told = judge(shared, &job, &ask.question).await?;
    let receipt = Receipt { serial, ask_id: ask.ask_id, asked, told };
    let ask_of = Ask { session, lease_id: ask.lease_id, job: job.key(), looked_at, receipt };
    let reply = match &ask.question {
        AskQuestion::Spawn(spawn) => spawn::make(shared, who, &job, spawn, ask_of).await?,
        AskQuestion::Policy(_) | AskQuestion::Budget { .. } | AskQuestion::Secret { .. } => {
            tell(shared, who, Input::Ask(Box::new(ask_of))).await?
        }
    };
    match reply {
        Reply::Told(told) => Ok(told),
        _ => Err(crate::reloaded()),
    }
}

/// The answer of the first time.
fn repeated(receipt: Option<Receipt>, asked: u128, ask_id: u64) -> Result<Told, Refusal> {
    match receipt {
        Some(receipt) if receipt.asked == asked => Ok(receipt.told),
        Some(_) => {
            let message = format!("ask_id: {ask_id} came before under this lease with another question");
            Err(Refusal::new(Reason::IdempotencyConflict, message))
        }
        None => Err(Refusal::new(Reason::DataCorruption, format!("the receipt of ask {ask_id} is damaged"))),
    }
}

async fn judge(shared: &Arc<Shared>, job: &Arc<Job>, question: &AskQuestion) -> Result<Told, Refusal> {
    match question {
        AskQuestion::Policy(ask) => Ok(Told::Ruling(Box::new(policy::rule(shared, job, ask).await?))),
        // How much of it is granted the owner of the job says.
        AskQuestion::Budget { dimension, amount, model } => Ok(Told::Grant(Grant {
            dimension: *dimension,
            asked: *amount,
            granted: 0,
            remaining: None,
            model: model.clone(),
        })),
        // So does it which jobs were made.
        AskQuestion::Spawn(ask) => Ok(Told::Spawned(Spawned { name: ask.name.clone(), jobs: Vec::new() })),
        AskQuestion::Secret { names } => secret::may_have(shared, job, names),
    }
}

/// Hash of all that was asked.
fn fingerprint(question: &AskQuestion) -> u128 {
    let mut hash = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    match question {
        AskQuestion::Policy(ask) => {
            part(b"policy");
            part(ask.action.as_bytes());
            part(ask.resource.as_bytes());
            part(ask.args.content_type.name().as_bytes());
            part(&ask.args.data);
            part(ask.args_digest.as_bytes());
            ask.risk_tags.iter().for_each(|tag| part(tag.as_bytes()));
        }
        AskQuestion::Budget { dimension, amount, model } => {
            part(b"budget");
            part(dimension.name().as_bytes());
            part(&amount.to_le_bytes());
            part(model.as_bytes());
        }
        AskQuestion::Spawn(ask) => {
            part(b"spawn");
            part(ask.name.as_bytes());
            part(&[u8::from(ask.close_with_parent)]);
            ask.specs.iter().for_each(|spec| part(&spec.fingerprint().to_le_bytes()));
        }
        AskQuestion::Secret { names } => {
            part(b"secret");
            names.iter().for_each(|name| part(name.as_bytes()));
        }
    }
    let mut bits = [0; 16];
    bits.copy_from_slice(&hash.finalize().as_bytes()[..16]);
    u128::from_le_bytes(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_domain::receipt::Dimension;

    #[test]
    fn another_question_under_the_same_number_is_refused() {
        let question =
            |amount| AskQuestion::Budget { dimension: Dimension::Tokens, amount, model: "".into() };
        let asked = fingerprint(&question(5));
        assert_ne!(asked, fingerprint(&question(6)));
        let told = Told::Grant(Grant {
            dimension: Dimension::Tokens,
            asked: 5,
            granted: 5,
            remaining: None,
            model: "".into(),
        });
        let receipt = || Some(Receipt { serial: 1, ask_id: 1, asked, told: told.clone() });
        assert_eq!(repeated(receipt(), asked, 1).ok(), Some(told.clone()));
        let reason = |found: Result<Told, Refusal>| found.err().map(|refusal| refusal.reason);
        assert_eq!(reason(repeated(receipt(), asked + 1, 1)), Some(Reason::IdempotencyConflict));
        assert_eq!(reason(repeated(None, asked, 1)), Some(Reason::DataCorruption));
    }
}
