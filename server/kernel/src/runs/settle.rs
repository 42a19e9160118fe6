//! Settle: a job of a run that ended in; its step, and what hangs on it, out. Each outcome is taken once (I-25).

use super::{advance, close};
use crate::mutant::Mutant;
use crate::{Dispatcher, Turn, View};
use coretex_domain::job::{Job, StateKind};
use coretex_domain::run::{At, Event, Outcome, StepState, Trouble, Work};
use coretex_domain::{JobKey, RunKey};
use coretex_workflow::Piece;
use std::sync::Arc;

/// Takes the end of a job into its run. Says which run has to go on.
pub(super) fn job_ended(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    job_key: JobKey,
    turn: &mut Turn,
) -> Option<RunKey> {
    let job = view.job(job_key)?.clone();
    if view.is_planted(Mutant::StepEndLost) {
        return None;
    }
    let forgets = view.is_planted(Mutant::UndoForgotten);
    let of_run = job.of_run()?;
    let key = job.run()?;
    let (at, index) = (of_run.at, of_run.index);
    let open = view.runs.open.get_mut(&key)?;
    let is_undoable = open.plan.step(&open.run, at).is_some_and(|planned| planned.is_undoable());
    let mut outcome = outcome_of(&job);
    outcome.is_undoable = is_undoable && !forgets && !of_run.is_undo && outcome.state == StepState::Succeeded;
    if of_run.is_undo {
        view.apply_run(key, Event::UndoEnded { at, index, outcome }, turn);
        close::undo_next(view, dispatcher, key, turn);
        return Some(key);
    }
    if let (StepState::Succeeded, Some(result)) = (outcome.state, &job.result) {
        open.keep(Piece::Result(at, index), &result.data);
    } else if outcome.state == StepState::Succeeded {
        open.keep(Piece::Result(at, index), &bytes::Bytes::new());
    }
    match index {
        Some(index) => {
            view.apply_run(key, Event::ItemEnded { at, index, outcome: outcome.clone() }, turn);
            after_item(view, dispatcher, key, at, turn);
        }
        None => end_step(view, key, at, outcome, turn),
    }
    Some(key)
}

/// How the job of a step ended.
fn outcome_of(job: &Arc<Job>) -> Outcome {
    let state = match job.state.kind() {
        StateKind::Succeeded => StepState::Succeeded,
        StateKind::Cancelled => StepState::Cancelled,
        _ => StepState::Failed,
    };
    let error = (state != StepState::Succeeded).then(|| Trouble {
        step: coretex_domain::RunId::path_of(&job.id).unwrap_or_default().into(),
        kind: job.failure().map_or_else(|| job.state.kind().name().into(), |failure| failure.kind.clone()),
        message: why(job),
    });
    Outcome { error, attempts: job.counters.attempts, ..Outcome::new(state) }
}

/// Why it did not succeed, in words; a line, not a page.
fn why(job: &Job) -> Arc<str> {
    const MESSAGE_MAX: usize = 1_024;
    let said = match (job.failure(), &job.rare().cancel, &job.decision) {
        (Some(failure), ..) => failure.message.clone(),
        (None, Some(cancel), _) => cancel.reason.clone(),
        (None, None, Some(decision)) if job.state.kind() == StateKind::Denied => decision.reason.clone(),
        (None, None, _) => format!("the job ended as {}", job.state.kind().name()).into(),
    };
    if said.len() <= MESSAGE_MAX {
        return said;
    }
    let cut = (0..=MESSAGE_MAX).rev().find(|at| said.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &said[..cut]).into()
}

/// An item is over: the next one begins, or the step is over too.
pub(super) fn after_item(view: &mut View, dispatcher: &mut Dispatcher, key: RunKey, at: At, turn: &mut Turn) {
    let Some(open) = view.run(key) else { return };
    let (Some(planned), Some(step)) = (open.plan.step(&open.run, at), open.run.step(at)) else { return };
    let Some(items) = step.items() else { return };
    let is_failing = planned.fails_with_item() && !items.failed.is_empty();
    let is_stopped = !open.run.may_begin(at.scope);
    if items.open() > 0 {
        if is_failing && !is_stopped {
            let trouble = item_trouble(view, key, at);
            close::stop_items(view, key, at, trouble, turn);
        } else if !is_stopped {
            advance::fill(view, dispatcher, key, at, turn);
        }
        return;
    }
    let is_whole = items.over.count() == items.count;
    let outcome = if is_failing {
        Outcome::failed(item_trouble(view, key, at))
    } else if is_whole {
        Outcome::new(StepState::Succeeded)
    } else if is_stopped {
        Outcome::new(StepState::Cancelled)
    } else {
        return advance::fill(view, dispatcher, key, at, turn);
    };
    end_step(view, key, at, outcome, turn);
}

/// Why a step fails with its items: the error of the first of them that failed otherwise than by being stopped.
fn item_trouble(view: &View, key: RunKey, at: At) -> Trouble {
    let unknown =
        || Trouble { step: "".into(), kind: "ITEM_FAILED".into(), message: "an item failed".into() };
    let Some(open) = view.run(key) else { return unknown() };
    if let Some(error) = open.run.step(at).and_then(|step| step.error()) {
        return error.clone();
    }
    let entries = open.run.history.iter().filter_map(|entry| match &entry.event {
        Event::ItemEnded { at: other, outcome, .. } if *other == at => Some(outcome),
        _ => None,
    });
    let mut found = entries.filter(|outcome| outcome.state == StepState::Failed);
    found.find_map(|outcome| outcome.error.clone()).unwrap_or_else(unknown)
}

/// A step is over; what waits for it may begin, or its list ends with it.
pub(super) fn end_step(view: &mut View, key: RunKey, at: At, outcome: Outcome, turn: &mut Turn) {
    let (state, error) = (outcome.state, outcome.error.clone());
    let is_hasty = view.is_planted(Mutant::NeedsNotCounted);
    if !view.apply_run(key, Event::Ended { at, outcome }, turn) {
        return;
    }
    let Some(open) = view.runs.open.get_mut(&key) else { return };
    open.items.remove(&at);
    let Some(planned) = open
        .plan
        .clone()
        .step(&open.run, at)
        .map(|planned| (planned.fails_its_list(), planned.dependents.clone(), planned.id().clone()))
    else {
        return;
    };
    let (fails, dependents, id) = planned;
    let is_failure = matches!(state, StepState::Failed | StepState::Cancelled) && fails;
    if is_failure && open.run.may_begin(at.scope) {
        let cancelled =
            || Trouble { step: id, kind: "CANCELLED".into(), message: "the step was cancelled".into() };
        close::fail_list(view, key, at.scope, error.unwrap_or_else(cancelled), turn);
    } else if let Some(left) = open.left.get_mut(at.scope as usize) {
        for place in dependents {
            let Some(count) = left.get_mut(place as usize) else { continue };
            *count = count.saturating_sub(1);
            if *count == 0 || is_hasty {
                open.ready.push_back(At { scope: at.scope, place });
            }
        }
    }
    close::check_list(view, key, at.scope, turn);
}

/// The group a list belongs to hears of its end.
pub(super) fn list_ended(view: &mut View, key: RunKey, scope: u32, turn: &mut Turn) {
    let Some(found) = view.run(key).and_then(|open| open.run.scope(scope)) else { return };
    let Some(owner) = found.owner else { return };
    let is_whole = found.over as usize == found.steps.len() && found.closing.is_none();
    let outcome = match (&found.closing, is_whole) {
        (Some(error), _) => Outcome::failed(error.clone()),
        (None, true) => Outcome::new(StepState::Succeeded),
        (None, false) => Outcome::new(StepState::Cancelled),
    };
    match found.index {
        Some(index) => {
            if view.apply_run(key, Event::ItemEnded { at: owner, index, outcome }, turn) {
                turn.items_ended.push((key, owner));
            }
        }
        None => end_step(view, key, owner, outcome, turn),
    }
}

/// True while the step of a run is open for its jobs.
pub(super) fn is_group(work: Option<Work>) -> bool {
    matches!(work, Some(Work::Group | Work::Groups { .. }))
}
