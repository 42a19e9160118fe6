//! Changing runs: cancelled, signalled. A run that waits in the store is brought back first.

use super::evaluate::bring;
use super::{RunView, not_found, stored};
use crate::api::Caller;
use crate::shared::Shared;
use crate::{Engine, ask};
use coretex_domain::run::{RunState, Signal};
use coretex_domain::{Namespace, Reason, Refusal, Run, RunId, Span};
use coretex_kernel::input::{Input, Reply};
use std::sync::Arc;

/// How often a run is brought back for one call before it is given up: it may leave memory again meanwhile.
const TRIES_MAX: usize = 8;

impl Engine {
    /// Cancels a run. OK means that no step of it begins any more, ever, but those that undo what was done.
    pub async fn cancel_run(
        &self,
        caller: &Caller,
        id: &RunId,
        reason: Arc<str>,
    ) -> Result<RunView, Refusal> {
        let namespace = &caller.namespace;
        let input = || Input::CancelRun {
            namespace: namespace.clone(),
            run_id: id.clone(),
            reason: reason.clone(),
            actor: caller.actor.clone(),
        };
        let run = match change(&self.shared, namespace, id, input).await? {
            Some(run) => run,
            None => {
                let run = stored(&self.shared, namespace, id).await?.ok_or_else(|| not_found(id))?;
                if run.state() != RunState::Cancelled {
                    return Err(ended(&run));
                }
                run
            }
        };
        self.view_run(run, false).await
    }

    /// Sends a signal to a run. One that comes before a step waits for it is kept.
    pub async fn signal_run(&self, caller: &Caller, id: &RunId, signal: Signal) -> Result<RunView, Refusal> {
        let signal = Signal { actor: caller.actor.clone(), ..signal };
        let run = self::signal(&self.shared, &caller.namespace, id, signal).await?;
        self.view_run(run, false).await
    }
}

/// Cancels a run on behalf of something that started it; one that has ended needs no cancelling.
pub(crate) async fn cancel(
    shared: &Arc<Shared>,
    namespace: &Namespace,
    run_id: &RunId,
    (reason, actor): (Arc<str>, Arc<str>),
) -> Result<(), Refusal> {
    let input = || Input::CancelRun {
        namespace: namespace.clone(),
        run_id: run_id.clone(),
        reason: reason.clone(),
        actor: actor.clone(),
    };
    change(shared, namespace, run_id, input).await.map(drop)
}

/// Cancels a run for a newer one.
pub(crate) async fn take_place(shared: Arc<Shared>, namespace: Namespace, run_id: RunId) {
    let why = (coretex_kernel::TAKEN.into(), "system:run".into());
    if let Err(refusal) = cancel(&shared, &namespace, &run_id, why).await {
        tracing::warn!(%refusal, run = %run_id, "a run could not be cancelled for a newer one, which waits on");
    }
}

pub(super) async fn signal(
    shared: &Arc<Shared>,
    namespace: &Namespace,
    id: &RunId,
    signal: Signal,
) -> Result<Arc<Run>, Refusal> {
    let input =
        || Input::SignalRun { namespace: namespace.clone(), run_id: id.clone(), signal: signal.clone() };
    match change(shared, namespace, id, input).await? {
        Some(run) => Ok(run),
        None => {
            let run = stored(shared, namespace, id).await?.ok_or_else(|| not_found(id))?;
            let is_repeat = !signal.id.is_empty() && run.signal_ids.contains(&signal.id);
            if is_repeat { Ok(run) } else { Err(ended(&run)) }
        }
    }
}

/// Why a run that its loop does not have takes no changes.
fn ended(run: &Run) -> Refusal {
    if !run.is_over() {
        // Its loop was asked before it was made.
        let message = format!("run {} has just been made; ask again", run.id());
        return Refusal::new(Reason::Overloaded, message).retry_after(Span(100));
    }
    let state = run.state();
    Refusal::new(Reason::RunEnded, format!("run {} has ended as {state}", run.id()))
        .fact("state", state.name())
}

/// Sends a change to the loop of a run; none if the run is not open.
async fn change(
    shared: &Arc<Shared>,
    namespace: &Namespace,
    id: &RunId,
    input: impl Fn() -> Input,
) -> Result<Option<Arc<Run>>, Refusal> {
    let who = shared.loop_of(id.shard(namespace));
    for _ in 0..TRIES_MAX {
        match ask(shared, who, input()).await? {
            Reply::Run(answer) => return answer.map(Some),
            Reply::RunAway => bring(shared, namespace, id).await?,
            _ => return Ok(None),
        }
    }
    Err(Refusal::new(Reason::Overloaded, "the run keeps leaving memory; ask again").retry_after(Span(100)))
}
