//! `WatchRun`: the history of one run as it happens, each entry once, until the run is over.

use super::{Runs, only_id};
use crate::api::Replies;
use crate::api::jobs::end_with;
use crate::api::lookup::look;
use crate::api::watch::SILENCE_MAX;
use crate::call::Call;
use crate::wire::job::Look;
use crate::wire::run as write;
use coretex_contract::v1 as pb;
use coretex_domain::{Reason, Refusal, Run};
use coretex_engine::RunWatch;
use futures::stream;
use std::sync::Arc;

/// Entries of one message, and their bytes.
const ENTRIES_MAX: usize = 100;
const ENTRIES_BYTES_MAX: usize = 256 << 10;

struct Watch {
    runs: Runs,
    call: Arc<Call>,
    look: Look,
    changes: RunWatch,
    /// The newest state that is known.
    run: Arc<Run>,
    /// Number of the last entry that was sent.
    sent: u64,
    is_over: bool,
    _place: crate::gate::WatchPlace,
}

pub(super) async fn open(
    runs: Runs,
    call: Arc<Call>,
    request: pb::WatchRunRequest,
) -> Result<Replies<pb::WatchRunResponse>, Refusal> {
    let look = look(request.view, request.payload_format, pb::View::Basic)?;
    let id = only_id(&request.run_id)?;
    let place = runs.0.watch_place(&call.namespace)?;
    // Watched before it is read, so that nothing falls between the two.
    let changes = runs.0.engine.watch_run(&call.namespace, &id);
    let run = runs.known(&call.namespace, &request.run_id).await?.run;
    let sent = request.after_sequence;
    if sent > run.revision {
        let message = format!("the history of run {id} has {} entries, got {sent}", run.revision);
        return Err(Refusal::field("after_sequence", message));
    }
    let watch = Watch { runs, call, look, changes, run, sent, is_over: false, _place: place };
    Ok(Box::pin(stream::unfold(watch, |mut watch| async move {
        let message = watch.next().await?;
        let message = message.or_else(|refusal| end_with(&refusal, &watch.call));
        Some((message, watch))
    })))
}

impl Watch {
    async fn next(&mut self) -> Option<Result<pb::WatchRunResponse, Refusal>> {
        if self.is_over || (self.run.is_over() && self.sent >= self.run.revision) {
            return None;
        }
        let step = match self.sent < self.run.revision {
            true => self.tell().await,
            false => self.wait().await,
        };
        self.is_over = step.is_err();
        Some(step)
    }

    /// Waits until there is more to tell, or it is time for a sign of life.
    async fn wait(&mut self) -> Result<pb::WatchRunResponse, Refusal> {
        let gate = self.runs.0.clone();
        let newer = async {
            loop {
                match self.changes.next().await {
                    // What was read at the beginning may be ahead of what is told first.
                    Some(run) if run.revision <= self.sent => {}
                    other => return other,
                }
            }
        };
        tokio::select! {
            biased;
            () = gate.closed() => return Err(going_down()),
            found = tokio::time::timeout(SILENCE_MAX, newer) => match found {
                Ok(Some(run)) => self.run = run,
                Ok(None) => return Err(going_down()),
                Err(_silence) => {}
            },
        }
        self.tell().await
    }

    /// The next entries, with the run as it stands.
    async fn tell(&mut self) -> Result<pb::WatchRunResponse, Refusal> {
        let engine = &self.runs.0.engine;
        let entries = engine.history_of(&self.run, self.sent, ENTRIES_MAX).await?;
        let mut view = engine.view_run(self.run.clone(), false).await?;
        let (events, sent) = write::events(&view, &entries, self.sent, ENTRIES_BYTES_MAX);
        self.sent = sent;
        // Payloads come with the end, and only then.
        if self.look.view == pb::View::Full && self.run.is_over() && sent >= self.run.revision {
            view = engine.view_run(self.run.clone(), true).await?;
        }
        let room = self.runs.0.settings.message_max.saturating_sub(2 * ENTRIES_BYTES_MAX);
        let run = write::write(&view, self.look, room);
        Ok(pb::WatchRunResponse { events, run: Some(run), last_sequence: sent })
    }
}

fn going_down() -> Refusal {
    Refusal::new(Reason::ShuttingDown, "the server goes down; go on with the last `last_sequence`")
}
