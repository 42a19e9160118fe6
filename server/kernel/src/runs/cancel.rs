//! Cancel: a wish in; a run that begins nothing more, whose open steps are stopped and whose done ones are undone, out.

use super::close;
use crate::dispatcher::LimitKey;
use crate::input::{Effect, Reply};
use crate::{Dispatcher, Turn, View};
use coretex_domain::run::{Closing, RunState, Trouble};
use coretex_domain::{Namespace, RunId, RunKey};
use std::sync::Arc;

pub(crate) fn cancel(
    view: &mut View,
    (namespace, run_id): (&Namespace, &RunId),
    (reason, actor): (Arc<str>, Arc<str>),
    turn: &mut Turn,
) -> Reply {
    let key = run_id.key(namespace);
    let Some(open) = view.run(key).filter(|open| open.run.plea.namespace == *namespace) else {
        return if view.has_run(key) { Reply::RunAway } else { Reply::NotOpen };
    };
    // One that is ending already, for whatever reason, goes on with that, but for what it does after a failure.
    match open.run.ending.is_none() {
        true => stop(view, key, reason, actor, turn),
        false => close::stop_after_failure(view, key, wish(reason), turn),
    }
    let now = view.run(key).map(|open| open.run.clone());
    now.map_or(Reply::NotOpen, |run| Reply::Run(Ok(run)))
}

fn stop(view: &mut View, key: RunKey, reason: Arc<str>, actor: Arc<str>, turn: &mut Turn) {
    close::end_early(view, key, Closing { state: RunState::Cancelled, error: wish(reason), actor }, turn);
}

fn wish(reason: Arc<str>) -> Trouble {
    let message = if reason.is_empty() { "the run was cancelled".into() } else { reason };
    Trouble { step: "".into(), kind: "CANCELLED".into(), message }
}

/// Why a run ends for a newer one.
pub const TAKEN: &str = "a newer run with the same concurrency key takes its place";

/// The oldest run that holds a place of the key ends for a newer one.
pub(super) fn make_room(view: &mut View, dispatcher: &Dispatcher, slot: &LimitKey, turn: &mut Turn) {
    // Keys of runs sort by the time they were made.
    let mut holders: Vec<RunKey> =
        dispatcher.holders(slot).iter().map(|holder| RunKey(holder.job.0)).collect();
    holders.sort_unstable();
    for key in holders {
        if let Some(parked) = view.runs.parked.get(&key) {
            let namespace = parked.namespace().clone();
            let effect = parked.id(key).map(|run_id| Effect::CancelRun { namespace, run_id });
            return turn.effects.extend(effect);
        }
        if view.run(key).is_some_and(|open| open.run.ending.is_none()) {
            return stop(view, key, TAKEN.into(), "system:run".into(), turn);
        }
    }
}
