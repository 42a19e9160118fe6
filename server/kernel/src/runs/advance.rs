//! Advance: steps that may begin in; jobs, lists, times and waits out. Every step of a run begins here.

use super::decide::{Asked, ask};
use super::start::keep_value;
use super::{close, jobs, settle, wait};
use crate::input::Write;
use crate::mutant::Mutant;
use crate::{Dispatcher, Turn, View};
use coretex_domain::limits::PAYLOAD_MAX;
use coretex_domain::run::{At, Event, Opening, Outcome, Part, StepState, Trouble, Work};
use coretex_domain::{Reason, RunKey};
use coretex_workflow::{Decided, Piece, Site};
use serde_json::Value as Json;
use std::sync::Arc;

/// Begins everything of a run that may begin.
pub(super) fn advance(view: &mut View, dispatcher: &mut Dispatcher, key: RunKey, turn: &mut Turn) {
    while let Some(at) = view.runs.open.get_mut(&key).and_then(|open| open.ready.pop_front()) {
        begin(view, dispatcher, key, at, turn);
    }
}

fn begin(view: &mut View, dispatcher: &mut Dispatcher, key: RunKey, at: At, turn: &mut Turn) {
    let Some(open) = view.run(key) else { return };
    let is_pending = open.run.step(at).is_some_and(|step| step.state == StepState::Pending);
    let may_begin = open.run.may_begin(at.scope) || view.is_planted(Mutant::BeginsAfterCancel);
    if !is_pending || !may_begin {
        return;
    }
    match ask(view, key, Site::Begin(at), turn) {
        Asked::Elsewhere => {}
        Asked::Here(decided) => begun(view, dispatcher, key, at, decided, turn),
    }
}

/// What a step is to do is known.
pub(super) fn begun(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    key: RunKey,
    at: At,
    decided: Result<Decided, Box<Trouble>>,
    turn: &mut Turn,
) {
    let start =
        |view: &mut View, work: Work, turn: &mut Turn| view.apply_run(key, Event::Started { at, work }, turn);
    match decided {
        Err(trouble) => settle::end_step(view, key, at, Outcome::failed(*trouble), turn),
        Ok(Decided::Skip) => settle::end_step(view, key, at, Outcome::new(StepState::Skipped), turn),
        Ok(Decided::Job(spec)) => {
            if start(view, Work::Job, turn) {
                jobs::make(view, dispatcher, key, (at, None, false), *spec, turn);
            }
        }
        Ok(Decided::Approval(spec)) => {
            if start(view, Work::Approval, turn) {
                jobs::make(view, dispatcher, key, (at, None, false), *spec, turn);
            }
        }
        Ok(Decided::Items(items)) => begin_items(view, dispatcher, key, at, items, turn),
        Ok(Decided::Timer(due)) => {
            start(view, Work::Timer { due }, turn);
        }
        Ok(Decided::Signal { due }) => {
            if start(view, Work::Signal { due }, turn) {
                wait::listen(view, key, at, turn);
            }
        }
        Ok(Decided::Group) => {
            if start(view, Work::Group, turn) {
                open_list(view, key, at, None, turn);
            }
        }
        // Answers to other questions.
        Ok(Decided::Jobs(_) | Decided::Output(_) | Decided::Heard(_)) => {}
    }
}

fn begin_items(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    key: RunKey,
    at: At,
    items: Arc<Json>,
    turn: &mut Turn,
) {
    let Some(open) = view.runs.open.get_mut(&key) else { return };
    let is_group = open.plan.step(&open.run, at).is_some_and(|planned| planned.inner.is_some());
    let text = items.to_string();
    if text.len() > PAYLOAD_MAX {
        let message = format!("for_each: the items are {} bytes of JSON, at most {PAYLOAD_MAX}", text.len());
        let step = open.plan.job_path(&open.run, at, None, false).into();
        let trouble = Trouble { step, kind: "EXPRESSION_LIMIT".into(), message: message.into() };
        return settle::end_step(view, key, at, Outcome::failed(trouble), turn);
    }
    let count = items.as_array().map_or(0, Vec::len) as u32;
    if count > 0 {
        open.items.insert(at, items);
        let body = text.into_bytes().into();
        let row = super::part(&open.run, &Part::Items(at), turn.now.wall, body);
        turn.rows.push(Write::Resource(Arc::new(row)));
    }
    let work = if is_group { Work::Groups { count } } else { Work::Items { count } };
    view.apply_run(key, Event::Started { at, work }, turn);
    if count == 0 {
        return settle::end_step(view, key, at, Outcome::new(StepState::Succeeded), turn);
    }
    fill(view, dispatcher, key, at, turn);
}

/// Begins as many items of a step as its window has room for.
pub(super) fn fill(view: &mut View, dispatcher: &mut Dispatcher, key: RunKey, at: At, turn: &mut Turn) {
    let Some(open) = view.run(key) else { return };
    let (Some(planned), Some(step)) = (open.plan.step(&open.run, at), open.run.step(at)) else { return };
    let Some(items) = step.items().filter(|_| open.run.may_begin(at.scope)) else { return };
    let most = if view.is_planted(Mutant::WindowIgnored) { u32::MAX } else { planned.max_parallel() };
    let room = most.saturating_sub(items.open());
    let count = room.min(items.count.saturating_sub(items.begun));
    if count == 0 || is_stopping(open, at) {
        return;
    }
    let first = items.begun;
    if matches!(step.work, Some(Work::Groups { .. })) {
        for index in first..first + count {
            open_list(view, key, at, Some(index), turn);
        }
        return;
    }
    let is_asked =
        open.asked.keys().any(|site| matches!(site, Site::Items { at: other, .. } if *other == at));
    if is_asked {
        return;
    }
    if let Asked::Here(decided) = ask(view, key, Site::Items { at, first, count }, turn) {
        filled(view, dispatcher, key, (at, first), decided, turn);
    }
}

/// True if an item of a step failed that takes the step with it.
pub(super) fn is_stopping(open: &super::OpenRun, at: At) -> bool {
    let fails = open.plan.step(&open.run, at).is_some_and(|planned| planned.fails_with_item());
    fails && open.run.step(at).and_then(|step| step.items()).is_some_and(|items| !items.failed.is_empty())
}

/// What the next items are given is known.
pub(super) fn filled(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    key: RunKey,
    (at, first): (At, u32),
    decided: Result<Decided, Box<Trouble>>,
    turn: &mut Turn,
) {
    match decided {
        Ok(Decided::Jobs(specs)) => {
            let count = specs.len() as u32;
            if view.apply_run(key, Event::ItemsStarted { at, count }, turn) {
                for (index, spec) in (first..).zip(specs) {
                    jobs::make(view, dispatcher, key, (at, Some(index), false), spec, turn);
                }
            }
        }
        // One item without a value is the end of the step: the others are stopped first.
        Err(trouble) => close::stop_items(view, key, at, *trouble, turn),
        Ok(_) => {}
    }
}

/// Begins a list of steps that belongs to one.
fn open_list(view: &mut View, key: RunKey, owner: At, index: Option<u32>, turn: &mut Turn) {
    let Some(open) = view.run(key) else { return };
    let Some(list) = open.plan.step(&open.run, owner).and_then(|planned| planned.inner) else { return };
    let scope = open.run.scopes.len() as u32;
    let size = open.plan.size(list);
    if view.apply_run(key, Event::Opened(Opening { list, owner: Some(owner), index, size }), turn)
        && let Some(open) = view.runs.open.get_mut(&key)
    {
        open.count_needs(scope);
        open.find_ready(scope);
    }
}

/// All steps are over: what the run gives is worked out, then it is over too.
pub(super) fn conclude(view: &mut View, key: RunKey, turn: &mut Turn) {
    if let Asked::Here(decided) = ask(view, key, Site::Output, turn) {
        concluded(view, key, decided, turn);
    }
}

pub(super) fn concluded(
    view: &mut View,
    key: RunKey,
    decided: Result<Decided, Box<Trouble>>,
    turn: &mut Turn,
) {
    match decided {
        Ok(Decided::Output(output)) => {
            let output = output.map(|text| keep_value(view, key, Part::Output, text, turn));
            close::finish(view, key, output, turn);
        }
        Ok(_) => {}
        Err(trouble) => {
            let trouble = Trouble { step: "".into(), ..*trouble };
            close::fail(view, key, trouble, turn);
        }
    }
}

/// Kinds of trouble that runs themselves have.
pub(super) fn trouble(kind: Reason, step: &str, message: impl Into<Arc<str>>) -> Trouble {
    Trouble { step: step.into(), kind: kind.name().into(), message: message.into() }
}

/// Whether a piece may be read from the record at once.
pub(super) fn inline(run: &coretex_domain::Run, piece: Piece) -> Option<Arc<str>> {
    use coretex_domain::run::Value;
    let value = match piece {
        Piece::Input => Some(&run.plea.input),
        Piece::Step(at) => run.step(at)?.more.as_ref()?.output.as_ref(),
        Piece::Config | Piece::Items(_) | Piece::Result(..) => None,
    };
    match value? {
        Value::Here(text) => Some(text.clone()),
        Value::Apart(_) => None,
    }
}
