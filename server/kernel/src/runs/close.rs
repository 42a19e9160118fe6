//! Close: a failure, a cancel or the time in; open steps stopped, what was done undone, the end out (I-26).

use super::advance::trouble;
use super::decide::{Asked, ask};
use super::{advance, jobs, retention, settle};
use crate::input::Effect;
use crate::mutant::Mutant;
use crate::path::cancel;
use crate::{Dispatcher, Turn, View};
use coretex_domain::run::{
    At, Closing, Event, ON_FAILURE, Opening, Outcome, Phase, RunState, Scope, StepState, Trouble, Value, Work,
};
use coretex_domain::{JobKey, Reason, RunKey};
use coretex_workflow::{Decided, Site};
use std::sync::Arc;

/// Who stops the jobs of a run.
const ACTOR: &str = "system:run";

/// A list of steps has failed: that of the workflow itself takes the run with it.
pub(super) fn fail_list(view: &mut View, key: RunKey, scope: u32, error: Trouble, turn: &mut Turn) {
    let Some(found) = view.run(key).and_then(|open| open.run.scope(scope)) else { return };
    if found.owner.is_none() && found.list != ON_FAILURE {
        return fail(view, key, error, turn);
    }
    if view.apply_run(key, Event::GroupClosing { scope, error }, turn) {
        stop_list(view, key, scope, "a step of its group failed", turn);
    }
}

/// The run has failed.
pub(super) fn fail(view: &mut View, key: RunKey, error: Trouble, turn: &mut Turn) {
    end_early(view, key, Closing { state: RunState::Failed, error, actor: "".into() }, turn);
}

/// The run took longer than it may.
pub(super) fn time_out(view: &mut View, key: RunKey, turn: &mut Turn) {
    let error = trouble(Reason::RunTimeout, "", "the run took longer than its timeout");
    end_early(view, key, Closing { state: RunState::TimedOut, error, actor: "".into() }, turn);
}

/// Stops everything of a run that is open; then it is undone, and ends.
pub(super) fn end_early(view: &mut View, key: RunKey, closing: Closing, turn: &mut Turn) {
    let why = format!("its run ends as {}: {}", closing.state, closing.error.message);
    if !view.apply_run(key, Event::Closing(closing), turn) {
        return;
    }
    let goes_on = view.is_planted(Mutant::BeginsAfterCancel);
    if let Some(open) = view.runs.open.get_mut(&key).filter(|_| !goes_on) {
        open.ready.clear();
        open.asked.clear();
    }
    stop_list(view, key, 0, &why, turn);
    turn.to_close.push(key);
}

/// Stops the open steps of a list. What has a lease ends when its worker says so, or its grace is over.
fn stop_list(view: &mut View, key: RunKey, scope: u32, why: &str, turn: &mut Turn) {
    let Some(found) = view.run(key).and_then(|open| open.run.scope(scope)) else { return };
    let open: Vec<At> = (0..found.steps.len() as u32)
        .filter(|place| found.steps[*place as usize].is_open())
        .map(|place| At { scope, place })
        .collect();
    for at in open {
        stop_step(view, key, at, why, turn);
    }
    check_list(view, key, scope, turn);
}

fn stop_step(view: &mut View, key: RunKey, at: At, why: &str, turn: &mut Turn) {
    let Some(open) = view.run(key) else { return };
    let Some(step) = open.run.step(at).filter(|step| step.is_open()) else { return };
    match step.work {
        Some(Work::Timer { .. } | Work::Signal { .. }) => {
            settle::end_step(view, key, at, Outcome::new(StepState::Cancelled), turn);
        }
        work if settle::is_group(work) => {
            // Also a list without an open step is to end: its next ones were being worked out.
            for scope in step.scopes().to_vec() {
                let is_idle =
                    view.run(key).and_then(|open| open.run.scope(scope)).is_none_or(|one| one.open == 0);
                if is_idle && view.is_planted(Mutant::GroupNotStopped) {
                    continue;
                }
                stop_list(view, key, scope, why, turn);
            }
        }
        _ => {
            let reason: Arc<str> = why.into();
            stop_jobs(view, super::open_jobs(open, at), &reason, turn);
            // Nothing of it may be open: its next items were being worked out.
            turn.items_ended.push((key, at));
        }
    }
}

/// Jobs that ended earlier in the same turn are about to be told to their run: they stay as they ended.
fn stop_jobs(view: &mut View, jobs: Vec<JobKey>, reason: &Arc<str>, turn: &mut Turn) {
    for key in jobs {
        let is_planted = view.is_planted(Mutant::StepStoppedTwice);
        if view.job(key).is_some_and(|job| is_planted || !job.state.kind().is_terminal()) {
            cancel::stop(view, key, reason.clone(), ACTOR.into(), turn);
        }
    }
}

/// The items of a step are stopped, because one of them failed.
pub(super) fn stop_items(view: &mut View, key: RunKey, at: At, error: Trouble, turn: &mut Turn) {
    let Some(open) = view.run(key) else { return };
    let Some(step) = open.run.step(at) else { return };
    if step.items().is_none_or(|items| items.open() == 0) {
        return settle::end_step(view, key, at, Outcome::failed(error), turn);
    }
    let scopes = step.scopes().to_vec();
    stop_jobs(view, super::open_jobs(open, at), &"another item of its step failed".into(), turn);
    for scope in scopes {
        let is_open = view.run(key).is_some_and(|open| {
            let is_begun =
                |index| open.run.step(at).and_then(|s| s.items()).is_some_and(|i| i.is_open(index));
            let found = open.run.scope(scope).filter(|one| one.closing.is_none());
            found.and_then(|one| one.index).is_some_and(is_begun)
        });
        if is_open && view.apply_run(key, Event::GroupClosing { scope, error: error.clone() }, turn) {
            stop_list(view, key, scope, "another item of its step failed", turn);
        }
    }
}

/// A list whose steps are over, or which is stopped and has none open, has ended.
pub(super) fn check_list(view: &mut View, key: RunKey, scope: u32, turn: &mut Turn) {
    let Some(open) = view.run(key) else { return };
    let Some(found) = open.run.scope(scope) else { return };
    let is_whole = found.over as usize == found.steps.len();
    if found.open > 0 || (!is_whole && open.run.may_begin(scope)) {
        return;
    }
    match found.owner {
        Some(owner) => {
            let is_told = match (found.index, open.run.step(owner)) {
                (Some(index), Some(step)) => step.items().is_none_or(|items| !items.is_open(index)),
                (None, Some(step)) => !step.is_open(),
                (_, None) => true,
            };
            if !is_told {
                settle::list_ended(view, key, scope, turn);
            }
        }
        None => turn.to_close.push(key),
    }
}

/// The outermost steps are over or stopped: the run goes on to its end.
pub(super) fn go_on(view: &mut View, dispatcher: &mut Dispatcher, key: RunKey, turn: &mut Turn) {
    let Some(open) = view.run(key) else { return };
    let is_settled = open.run.scopes.iter().all(|scope| scope.open == 0);
    match open.run.phase {
        Phase::Going => {
            let root = open.run.scope(0);
            let is_whole = root.is_some_and(|root| root.over as usize == root.steps.len());
            if is_settled && is_whole && !open.asked.contains_key(&Site::Output) {
                advance::conclude(view, key, turn);
            }
        }
        Phase::Closing | Phase::Undoing if is_settled => undo_next(view, dispatcher, key, turn),
        Phase::AfterFailure => {
            let is_ours = |one: &&Scope| one.owner.is_none() && one.list == ON_FAILURE;
            let list = open.run.scopes.iter().find(is_ours);
            if is_settled && list.is_some_and(Scope::is_over) {
                finish(view, key, None, turn);
            }
        }
        Phase::Queued | Phase::Closing | Phase::Undoing | Phase::Over => {}
    }
}

/// Undoes what was done last, if anything is left; then the steps of `on_failure`; then it is over.
pub(super) fn undo_next(view: &mut View, dispatcher: &mut Dispatcher, key: RunKey, turn: &mut Turn) {
    let Some(open) = view.run(key) else { return };
    if open.run.undoing.is_some() || !matches!(open.run.phase, Phase::Closing | Phase::Undoing) {
        return;
    }
    let next = match view.is_planted(Mutant::UndoForward) {
        true => open.run.undoable.first(),
        false => open.run.undoable.last(),
    };
    if let Some((at, index)) = next.copied() {
        if let Asked::Here(decided) = ask(view, key, Site::Undo(at, index), turn) {
            undo(view, dispatcher, key, (at, index), decided, turn);
        }
        return;
    }
    let has_failed = open.run.ending.as_ref().is_some_and(|ending| ending.state != RunState::Cancelled);
    let size = open.plan.size(ON_FAILURE);
    let was_begun = !open.run.scopes.is_empty();
    if has_failed && size > 0 && was_begun {
        let scope = open.run.scopes.len() as u32;
        view.apply_run(
            key,
            Event::Opened(Opening { list: ON_FAILURE, owner: None, index: None, size }),
            turn,
        );
        if let Some(open) = view.runs.open.get_mut(&key) {
            open.count_needs(scope);
            open.find_ready(scope);
        }
        return advance::advance(view, dispatcher, key, turn);
    }
    finish(view, key, None, turn);
}

/// What is done after the failure is not wanted any more: the run ends as it failed.
pub(super) fn stop_after_failure(view: &mut View, key: RunKey, error: Trouble, turn: &mut Turn) {
    let Some(open) = view.run(key).filter(|open| open.run.phase == Phase::AfterFailure) else { return };
    let is_list = |one: &Scope| one.owner.is_none() && one.list == ON_FAILURE && one.closing.is_none();
    let Some(scope) = open.run.scopes.iter().position(is_list) else { return };
    fail_list(view, key, scope as u32, error, turn);
}

/// What undoes something is known. Where it cannot be had, that is noted, and the next is undone.
pub(super) fn undo(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    key: RunKey,
    (at, index): (At, Option<u32>),
    decided: Result<Decided, Box<Trouble>>,
    turn: &mut Turn,
) {
    if !view.apply_run(key, Event::UndoStarted { at, index }, turn) {
        return;
    }
    match decided {
        Ok(Decided::Job(spec)) => jobs::make(view, dispatcher, key, (at, index, true), *spec, turn),
        Ok(_) => undone(view, dispatcher, key, (at, index), Outcome::new(StepState::Skipped), turn),
        Err(trouble) => undone(view, dispatcher, key, (at, index), Outcome::failed(*trouble), turn),
    }
}

fn undone(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    key: RunKey,
    (at, index): (At, Option<u32>),
    outcome: Outcome,
    turn: &mut Turn,
) {
    view.apply_run(key, Event::UndoEnded { at, index, outcome }, turn);
    undo_next(view, dispatcher, key, turn);
}

/// The run is over.
pub(super) fn finish(view: &mut View, key: RunKey, output: Option<Value>, turn: &mut Turn) {
    let Some(open) = view.run(key) else { return };
    let state = open.run.ending.as_ref().map_or(RunState::Succeeded, |ending| ending.state);
    let keep = retention(view, &open.run);
    if !view.apply_run(key, Event::Over { state, error: None, output }, turn) {
        return;
    }
    let Some(open) = view.runs.open.get_mut(&key) else { return };
    let run = Arc::make_mut(&mut open.run);
    run.expire_time = run.end_time.map(|end| end + keep);
    let slot = crate::dispatcher::LimitKey::of_run(&run.plea).map(|(slot, _)| slot);
    let at = (run.create_time, key);
    if let Some(slot) = slot {
        let was_queued = view.runs.queued.get_mut(&slot).is_some_and(|queue| queue.remove(&at));
        if was_queued {
            view.runs.queued.retain(|_, queue| !queue.is_empty());
        } else {
            let holder = crate::dispatcher::Holder { job: key.as_holder(), serial: 0 };
            if !view.is_planted(Mutant::RunPlaceKept) {
                turn.effects.push(Effect::FreeSlot(slot, holder));
            }
        }
    }
}

/// Follows one thing that ended along the way. False if there is none.
pub(super) fn follow(view: &mut View, dispatcher: &mut Dispatcher, turn: &mut Turn) -> bool {
    let key = if let Some((key, at)) = turn.items_ended.pop() {
        let step = view.run(key).and_then(|open| open.run.step(at));
        if step.is_some_and(|step| step.is_open() && step.items().is_some()) {
            settle::after_item(view, dispatcher, key, at, turn);
        }
        key
    } else if let Some(key) = turn.to_close.pop() {
        go_on(view, dispatcher, key, turn);
        key
    } else {
        return false;
    };
    advance::advance(view, dispatcher, key, turn);
    true
}
