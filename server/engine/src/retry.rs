//! Retry by hand: an ended job named; a new job of its spec, or the one an earlier retry made.

use crate::api::{Accepted, Caller, FollowAs};
use crate::mail::{Mail, ReplyTo, Submitted};
use crate::{Engine, namespaces, submit};
use coretex_domain::{Job, JobId, Namespace, Payload, Reason, Refusal, RunId};
use coretex_kernel::input::{Input, RetryByHand};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// Look-ups before a retry that keeps meeting newer answers is refused.
const LOOKS_MAX: usize = 4;

#[derive(Clone)]
pub(crate) struct Retry<'a> {
    /// Input in the place of the old one.
    pub(crate) edited: Option<Payload>,
    pub(crate) request_id: &'a str,
    /// Makes nothing if the job was retried under another id before.
    pub(crate) only_first: bool,
    pub(crate) follow: Option<FollowAs>,
}

pub(crate) enum Retried {
    As(Accepted),
    /// It was retried before, as this job.
    Before(JobId),
}

pub(crate) async fn retry(
    engine: &Engine,
    caller: &Caller,
    id: &JobId,
    asked: Retry<'_>,
) -> Result<Retried, Refusal> {
    submit::refuse_growth(&engine.shared, 1)?;
    let bytes = || asked.edited.as_ref().map_or(0, |input| input.data.len() as u64);
    let _place = namespaces::place_of_jobs(&engine.shared, &caller.namespace, 1, bytes).await?;
    for _ in 0..LOOKS_MAX {
        if let Some(retried) = look_and_retry(engine, caller, id, asked.clone()).await? {
            return Ok(retried);
        }
    }
    Err(crate::reloaded())
}

/// The id of a retry that has a request id: the same for the same job and request.
pub(crate) fn id_of(namespace: &Namespace, request_id: &str, old: &JobId) -> JobId {
    submit::derived_id(namespace, &format!("{request_id}\0{old}"), 0, old.shard(namespace))
}

/// None if the look-ups were stale, or the loop was loaded again meanwhile.
async fn look_and_retry(
    engine: &Engine,
    caller: &Caller,
    id: &JobId,
    asked: Retry<'_>,
) -> Result<Option<Retried>, Refusal> {
    let (shared, namespace) = (&engine.shared, &caller.namespace);
    let who = shared.loop_of(id.shard(namespace));
    let looked_at = shared.departed[who].load(Ordering::Acquire);
    let old = engine.get(namespace, id).await?;
    refuse_step(&old)?;
    // The new job lives on the old one's shard, so that both links are one commit.
    let (new_id, known) = if asked.request_id.is_empty() {
        (JobId::make(shared.env.clock.now().wall.0, shared.env.dice.bits(), old.shard), None)
    } else {
        let new_id = id_of(namespace, asked.request_id, id);
        let known = engine.batch_get(namespace, vec![new_id.clone()]).await?;
        (new_id, known.into_iter().flatten().next())
    };
    if let Some(first) = old.rare().retried_as.as_ref().filter(|first| asked.only_first && **first != new_id)
    {
        return Ok(Some(Retried::Before(first.clone())));
    }
    let actor = (!caller.actor.is_empty()).then(|| Box::from(&*caller.actor));
    let only_first = asked.only_first;
    let config = match shared.catalog.configs.of(namespace) {
        Some(configs) => configs.for_job(&old.spec)?,
        None => None,
    };
    let retry = RetryByHand { old, new_id, edited: asked.edited, actor, known, only_first, config };
    let (answer, done) = oneshot::channel();
    let input = Input::RetryByHand(Box::new(retry), looked_at);
    shared.post(who, Mail::Decide(input, ReplyTo::Submit { answer, follow: asked.follow }))?;
    match done.await {
        Ok(Ok(Submitted::Done(mut answers))) => match answers.pop() {
            Some(answer) => answer.map(|accepted| Some(Retried::As(accepted))),
            None => Ok(None),
        },
        // A job without a name of its own may have been made all the same: it must not be made twice.
        Err(_) if asked.request_id.is_empty() && !only_first => Err(crate::reloaded()),
        Ok(Ok(Submitted::LookAgain(_))) | Err(_) => Ok(None),
        Ok(Err(refusal)) => Err(refusal),
    }
}

fn refuse_step(old: &Arc<Job>) -> Result<(), Refusal> {
    let (Some(run_id), Some(step)) = (RunId::of_job(&old.id), RunId::path_of(&old.id)) else { return Ok(()) };
    let message = format!(
        "job {} is the step {step} of run {run_id}; RerunFrom does a run again from a step on",
        old.id
    );
    Err(Refusal::new(Reason::StepOfRun, message).fact("run_id", run_id.as_str()).fact("step_id", step))
}
