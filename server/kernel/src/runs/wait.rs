//! Wait: times and signals in; steps that waited for them out. A signal that comes first is kept (I-26 of waits: never lost).

use super::advance::trouble;
use super::decide::{Asked, ask};
use super::{advance, close, settle};
use crate::input::{Effect, Reply};
use crate::mutant::Mutant;
use crate::{Dispatcher, Turn, View};
use coretex_domain::limits::{RUN_HISTORY_MAX, SIGNALS_KEPT_BYTES_MAX, SIGNALS_KEPT_MAX};
use coretex_domain::run::{At, Event, Outcome, Phase, Signal, StepState, Trouble, Value, Work};
use coretex_domain::{Namespace, Reason, Refusal, RunId, RunKey, Time};
use coretex_workflow::{Decided, Site, model::Kind};
use std::sync::Arc;

/// Most runs one turn wakes, so that a flood of them does not hold up the rest.
const TICK_MAX: usize = 4_096;

/// Runs whose time has come.
pub(crate) fn tick(view: &mut View, dispatcher: &mut Dispatcher, turn: &mut Turn) {
    let now = turn.now.wall;
    for _ in 0..TICK_MAX {
        let Some((at, key)) = view.runs.timers.first().copied().filter(|(at, _)| *at <= now) else { break };
        view.runs.timers.remove(&(at, key));
        if let Some(parked) = view.runs.parked.get_mut(&key) {
            if !std::mem::replace(&mut parked.is_called, true) {
                let namespace = parked.namespace().clone();
                turn.effects.extend(parked.id(key).map(|run_id| Effect::LoadRun { namespace, run_id }));
            }
            continue;
        }
        if let Some(open) = view.runs.open.get_mut(&key) {
            open.timer = Time::NEVER;
        }
        ring(view, key, turn);
        // Filed under its next time, also where nothing was due after all.
        turn.touch_run(key, 0);
        advance::advance(view, dispatcher, key, turn);
    }
}

/// Everything of a run that is due.
pub(super) fn ring(view: &mut View, key: RunKey, turn: &mut Turn) {
    let now = turn.now.wall;
    let Some(open) = view.run(key) else { return };
    let may_time_out = matches!(open.run.phase, Phase::Queued | Phase::Going);
    if may_time_out && open.run.plea.deadline.is_some_and(|at| at <= now) {
        return close::time_out(view, key, turn);
    }
    let mut due: Vec<(Time, At)> = open.run.timers().filter(|(at, _)| *at <= now).collect();
    due.sort_unstable();
    for (_, at) in due {
        let Some(step) = view.run(key).and_then(|open| open.run.step(at)).filter(|step| step.is_open())
        else {
            continue;
        };
        let outcome = match step.work {
            Some(Work::Timer { .. }) => Outcome::new(StepState::Succeeded),
            _ => Outcome::failed(no_signal(view, key, at)),
        };
        settle::end_step(view, key, at, outcome, turn);
    }
}

fn no_signal(view: &View, key: RunKey, at: At) -> Trouble {
    let name = view.run(key).and_then(|open| {
        let planned = open.plan.step(&open.run, at)?;
        let path = open.plan.job_path(&open.run, at, None, false);
        match &planned.step.kind {
            Kind::WaitEvent(wait) => Some((path, wait.name.clone())),
            _ => None,
        }
    });
    let (path, name) = name.unwrap_or_default();
    trouble(Reason::SignalTimeout, &path, format!("no signal `{name}` came in time"))
}

/// A signal to a run.
pub(crate) fn signal(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    (namespace, run_id): (&Namespace, &RunId),
    signal: Signal,
    turn: &mut Turn,
) -> Reply {
    let key = run_id.key(namespace);
    let Some(open) = view.run(key).filter(|open| open.run.plea.namespace == *namespace) else {
        return if view.has_run(key) { Reply::RunAway } else { Reply::NotOpen };
    };
    if !signal.id.is_empty() && open.run.signal_ids.contains(&signal.id) {
        return Reply::Run(Ok(open.run.clone()));
    }
    if let Err(refusal) = has_room(open, &signal) {
        return Reply::Run(Err(refusal));
    }
    let name = signal.name.clone();
    if view.is_planted(Mutant::SignalLost) && waits_for(open, &name).is_empty() {
        return Reply::Run(Ok(open.run.clone()));
    }
    view.apply_run(key, Event::Signalled(signal), turn);
    let waits = view.run(key).map(|open| waits_for(open, &name)).unwrap_or_default();
    for at in waits {
        listen(view, key, at, turn);
    }
    advance::advance(view, dispatcher, key, turn);
    let now = view.run(key).map(|open| open.run.clone());
    now.map_or(Reply::NotOpen, |run| Reply::Run(Ok(run)))
}

fn has_room(open: &super::OpenRun, signal: &Signal) -> Result<(), Refusal> {
    let run = &open.run;
    // What is done after a failure may wait for signals, too.
    if !matches!(run.phase, Phase::Queued | Phase::Going | Phase::AfterFailure) {
        let message = format!("run {} is ending and hears no signals", run.id());
        return Err(Refusal::new(Reason::RunEnded, message));
    }
    let (kept, bytes) = (run.signals.len(), run.signal_bytes() + signal.data.len());
    if kept >= SIGNALS_KEPT_MAX || bytes > SIGNALS_KEPT_BYTES_MAX {
        let message = format!(
            "run {} keeps {kept} signals no step has taken; at most {SIGNALS_KEPT_MAX}, and {SIGNALS_KEPT_BYTES_MAX} bytes together",
            run.id()
        );
        return Err(Refusal::new(Reason::TooMany, message));
    }
    if run.revision >= RUN_HISTORY_MAX {
        return Err(Refusal::new(Reason::TooMany, format!("the history of run {} is full", run.id())));
    }
    Ok(())
}

/// Open steps that wait for a signal of this name, in order.
fn waits_for(open: &super::OpenRun, name: &str) -> Vec<At> {
    let is_ours = |at: &At| match open.plan.step(&open.run, *at).map(|planned| &planned.step.kind) {
        Some(Kind::WaitEvent(wait)) => &*wait.name == name,
        _ => false,
    };
    open.run.open_steps().map(|(at, _)| at).filter(is_ours).collect()
}

/// Gives a waiting step the first of the signals that it waits for.
pub(super) fn listen(view: &mut View, key: RunKey, at: At, turn: &mut Turn) {
    let has_any = view.run(key).is_some_and(|open| !open.run.signals.is_empty());
    if !has_any {
        return;
    }
    if let Asked::Here(decided) = ask(view, key, Site::Hear(at), turn) {
        heard(view, key, at, decided, turn);
    }
}

/// Which signal a step gets was worked out of how the run stood then. One may have come since, and the one it was to
/// get may be gone: then it is asked again.
pub(super) fn heard_elsewhere(
    view: &mut View,
    key: RunKey,
    (at, as_of): (At, u64),
    decided: Result<Decided, Box<Trouble>>,
    turn: &mut Turn,
) {
    let had_one = matches!(decided, Ok(Decided::Heard(Some(_))));
    heard(view, key, at, decided, turn);
    let Some(open) = view.run(key) else { return };
    let waits = open.run.step(at).is_some_and(|step| step.is_open());
    let is_missed = view.is_planted(Mutant::SignalMissed);
    if waits && !is_missed && (had_one || open.run.signals.iter().any(|(seq, _)| *seq > as_of)) {
        listen(view, key, at, turn);
    }
}

fn heard(view: &mut View, key: RunKey, at: At, decided: Result<Decided, Box<Trouble>>, turn: &mut Turn) {
    let Some(open) = view.run(key) else { return };
    if !open.run.step(at).is_some_and(|step| step.is_open()) {
        return;
    }
    match decided {
        Ok(Decided::Heard(Some(signal))) => {
            let Some(found) = open.run.signals.iter().find(|(seq, _)| *seq == signal) else { return };
            let output = Some(keep(&found.1));
            if view.apply_run(key, Event::Heard { at, signal }, turn) {
                settle::end_step(
                    view,
                    key,
                    at,
                    Outcome { output, ..Outcome::new(StepState::Succeeded) },
                    turn,
                );
            }
        }
        Ok(_) => {}
        Err(trouble) => settle::end_step(view, key, at, Outcome::failed(*trouble), turn),
    }
}

/// What came with a signal is short, and stays in the record.
fn keep(signal: &Signal) -> Value {
    Value::Here(Arc::clone(&signal.data))
}
