//! Start: a checked request in; a new run whose first steps are on their way, or the run an earlier request made, out.
//!
//! Refuses: an id that was used for another request, and a concurrency key without a place where it says so.

use super::{OpenRun, advance, part};
use crate::dispatcher::{Holder, LimitKey};
use crate::input::{KeptStep, Reply, StartRun, Write};
use crate::mutant::Mutant;
use crate::{Dispatcher, Turn, View};
use bytes::Bytes;
use coretex_domain::limits::RUN_INLINE_MAX;
use coretex_domain::run::{At, Event, Opening, Outcome, Part, Phase, STEPS, Value};
use coretex_domain::{Reason, Refusal, Run, RunKey};
use coretex_workflow::{Piece, model::OnConflict};
use std::sync::Arc;

pub(crate) fn start(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    start: Box<StartRun>,
    turn: &mut Turn,
) -> Reply {
    let key = start.plea.id.key(&start.plea.namespace);
    if let Some(open) = view.run(key).filter(|open| open.run.plea.namespace == start.plea.namespace) {
        return Reply::Started(same(&open.run, &start).map(|run| (run, true)));
    }
    if view.has_run(key) {
        return Reply::RunAway;
    }
    if view.may_have_departed(key.as_holder(), start.looked_at) {
        return Reply::StartAgain(start);
    }
    let slot = LimitKey::of_run(&start.plea);
    let has_place = match &slot {
        Some((slot, limit)) => take_place(view, dispatcher, (slot, *limit), key),
        None => true,
    };
    if let (false, OnConflict::Reject, Some((slot, limit))) = (has_place, start.on_conflict, &slot) {
        return Reply::Started(Err(no_place(dispatcher, slot, *limit)));
    }
    make(view, key, *start, turn);
    match (has_place, slot) {
        (true, _) => begin(view, key, turn),
        (false, Some((slot, _))) => queue(view, dispatcher, slot, key, turn),
        (false, None) => {}
    }
    advance::advance(view, dispatcher, key, turn);
    match view.run(key) {
        Some(open) => Reply::Started(Ok((open.run.clone(), false))),
        None => Reply::RunAway,
    }
}

/// The run of an earlier request, if it was the same.
pub(crate) fn same(run: &Arc<Run>, start: &StartRun) -> Result<Arc<Run>, Refusal> {
    if run.plea.fingerprint == start.plea.fingerprint {
        return Ok(run.clone());
    }
    let message = format!("run {} exists, and was started with something else", run.id());
    Err(Refusal::new(Reason::IdempotencyConflict, message).fact("run_id", run.id().as_str()))
}

/// A place is refused to a new run while others wait for one.
fn take_place(
    view: &View,
    dispatcher: &mut Dispatcher,
    (slot, limit): (&LimitKey, u32),
    key: RunKey,
) -> bool {
    if view.is_planted(Mutant::RunPlaceIgnored) {
        return true;
    }
    let holder = Holder { job: key.as_holder(), serial: 0 };
    !view.runs.queued.contains_key(slot) && dispatcher.take_slot(slot, holder, limit, view.who)
}

fn no_place(dispatcher: &Dispatcher, slot: &LimitKey, limit: u32) -> Refusal {
    let held = dispatcher.holders(slot).len();
    let message =
        format!("concurrency: {held} of {limit} runs with this key are open, and the workflow refuses more");
    Refusal::new(Reason::RunConcurrency, message)
}

fn make(view: &mut View, key: RunKey, start: StartRun, turn: &mut Turn) {
    let now = turn.now.wall;
    let run = Run::made(Arc::new(start.plea), now);
    if matches!(run.plea.input, Value::Apart(_)) {
        turn.rows.push(Write::Resource(Arc::new(part(&run, &Part::Input, now, start.input.clone()))));
    }
    if let Some(body) = configs_to_body(&start.configs) {
        turn.rows.push(Write::Resource(Arc::new(part(&run, &Part::Config, now, body))));
    }
    let mut open = OpenRun::new(Arc::new(run), start.plan, start.configs);
    open.keep(Piece::Input, &start.input);
    view.runs.open.insert(key, open);
    turn.touch_run(key, 1);
    if let Some(signal) = start.signal {
        view.apply_run(key, Event::Signalled(signal), turn);
    }
    view.set_run_timer(key);
    if !start.kept.is_empty() {
        turn.kept.push((key, start.kept));
    }
}

fn queue(view: &mut View, dispatcher: &mut Dispatcher, slot: LimitKey, key: RunKey, turn: &mut Turn) {
    let Some(open) = view.run(key) else { return };
    let at = (open.run.create_time, key);
    view.runs.queued.entry(slot.clone()).or_default().insert(at);
    ask_for_room(view, dispatcher, &slot, key, turn);
}

/// Ends the oldest run with its key, if its workflow says that a newer one takes the place.
fn ask_for_room(view: &mut View, dispatcher: &Dispatcher, slot: &LimitKey, key: RunKey, turn: &mut Turn) {
    let concurrency = view.run(key).and_then(|open| open.plan.definition.concurrency.as_ref());
    if concurrency.is_some_and(|one| one.on_conflict == OnConflict::CancelOldest) {
        super::cancel::make_room(view, dispatcher, slot, turn);
    }
}

/// A run that was loaded while it waits for a place: nobody remembers that it does, and one may be free.
pub(super) fn queue_again(view: &mut View, dispatcher: &mut Dispatcher, key: RunKey, turn: &mut Turn) {
    let is_forgotten = view.is_planted(Mutant::RunQueueForgotten);
    let is_queued = |open: &&OpenRun| open.run.phase == Phase::Queued && !is_forgotten;
    let Some(open) = view.run(key).filter(is_queued) else { return };
    let Some((slot, _)) = LimitKey::of_run(&open.run.plea) else { return };
    super::load::admit_queued(view, dispatcher, &slot, turn);
    // It has asked for room before: only if that was lost on the way it asks again.
    let is_ending = |key: RunKey| view.run(key).is_some_and(|open| open.run.ending.is_some());
    let ending = dispatcher.holders(&slot).iter().filter(|holder| is_ending(RunKey(holder.job.0))).count();
    let queued = view.runs.queued.get(&slot).map_or(0, |queue| queue.len());
    let waits = view.run(key).is_some_and(|open| open.run.phase == Phase::Queued);
    if waits && ending < queued {
        ask_for_room(view, dispatcher, &slot, key, turn);
    }
}

/// The run has its place: its first steps may begin.
pub(super) fn begin(view: &mut View, key: RunKey, turn: &mut Turn) {
    let Some(open) = view.run(key) else { return };
    let size = open.plan.size(STEPS);
    view.apply_run(key, Event::Began, turn);
    view.apply_run(key, Event::Opened(Opening { list: STEPS, owner: None, index: None, size }), turn);
    let kept = turn.kept.iter().position(|(one, _)| *one == key).map(|at| turn.kept.swap_remove(at).1);
    for step in kept.into_iter().flatten() {
        keep_step(view, key, step, turn);
    }
    if let Some(open) = view.runs.open.get_mut(&key) {
        open.count_needs(0);
        open.find_ready(0);
    }
}

/// A step of the run it was forked from: over before it began, with what it gave.
fn keep_step(view: &mut View, key: RunKey, step: KeptStep, turn: &mut Turn) {
    let at = At { scope: 0, place: step.place };
    let output = step.output.map(|text| keep_value(view, key, Part::Step(at), text, turn));
    let outcome = Outcome { error: step.error, attempts: step.attempts, output, ..Outcome::new(step.state) };
    view.apply_run(key, Event::Ended { at, outcome }, turn);
}

/// A value of a run: in its record if it is short, otherwise a part of its own.
pub(super) fn keep_value(view: &View, key: RunKey, name: Part, text: Arc<str>, turn: &mut Turn) -> Value {
    match view.run(key) {
        Some(open) if text.len() > RUN_INLINE_MAX => {
            let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
            let body = Bytes::copy_from_slice(text.as_bytes());
            turn.rows.push(Write::Resource(Arc::new(part(&open.run, &name, turn.now.wall, body))));
            Value::Apart(length)
        }
        _ => Value::Here(text),
    }
}

/// What is kept of the configuration: by the id of a step, that of the run under none.
fn configs_to_body(configs: &crate::input::Configs) -> Option<Bytes> {
    let of_run = configs.of_run.iter().map(|one| ("", one));
    let of_steps = configs.of_steps.iter().map(|(id, one)| (&**id, one));
    let all: serde_json::Map<_, _> =
        of_run.chain(of_steps).map(|(id, one)| (id.to_owned(), one.to_json())).collect();
    (!all.is_empty()).then(|| serde_json::Value::Object(all).to_string().into())
}
