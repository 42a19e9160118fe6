//! The history of a run to the wire: one kind per thing that happened, the step by its name, and a sentence for people.

use super::{state, step_state};
use crate::wire::time::timestamp;
use coretex_contract::v1 as pb;
use coretex_domain::filter::print_time;
use coretex_domain::run::{
    At, Closing, Entry, Event, ON_FAILURE, Opening, Outcome, RunState, StepState, Trouble, Work,
};
use coretex_engine::RunView;
use prost::Message;

/// Entries of the history of a run after a number, as many as fit but at least one; and the number of the last of them.
pub(crate) fn events(
    view: &RunView,
    entries: &[Entry],
    after: u64,
    bytes_max: usize,
) -> (Vec<pb::RunEvent>, u64) {
    let (mut events, mut last, mut bytes) = (Vec::with_capacity(entries.len()), after, 0);
    for entry in entries {
        let written = event(view, entry);
        bytes += written.encoded_len() + 4;
        if bytes > bytes_max && !events.is_empty() {
            break;
        }
        last = entry.seq;
        events.push(written);
    }
    (events, last)
}

/// One entry of the history of this run. The run may be ahead of it.
fn event(view: &RunView, entry: &Entry) -> pb::RunEvent {
    let told = &entry.event;
    let at = step_of(view, told);
    pb::RunEvent {
        sequence: entry.seq,
        time: Some(timestamp(entry.time)),
        r#type: kind(told).into(),
        step_id: at.map(|at| view.name_of(at, None)).unwrap_or_default(),
        index: index(told),
        job_id: job(view, told),
        attempt: outcome(told).map_or(0, |outcome| outcome.attempts),
        actor: actor(told),
        state: step_is(told).map_or(pb::StepState::Unspecified, step_state).into(),
        message: message(view, told),
        run_state: run_is(told).map_or(pb::RunState::Unspecified, state).into(),
        error_type: trouble(told).map(|trouble| trouble.kind.to_string()).unwrap_or_default(),
        signal: signal(view, told).unwrap_or_default().to_owned(),
    }
}

fn kind(event: &Event) -> pb::RunEventType {
    use pb::RunEventType as T;
    match event {
        Event::Made { .. } => T::RunStarted,
        Event::Began => T::RunBegan,
        Event::Opened(_) => T::StepsOpened,
        Event::Started { .. } => T::StepStarted,
        Event::ItemsStarted { .. } => T::ItemsStarted,
        Event::ItemEnded { .. } => T::ItemEnded,
        Event::Ended { .. } => T::StepEnded,
        Event::Signalled(_) => T::SignalReceived,
        Event::Heard { .. } => T::SignalTaken,
        Event::GroupClosing { .. } => T::GroupClosing,
        Event::Closing(_) => T::RunClosing,
        Event::UndoStarted { .. } => T::UndoStarted,
        Event::UndoEnded { .. } => T::UndoEnded,
        Event::Over { .. } => T::RunEnded,
    }
}

fn step_of(view: &RunView, event: &Event) -> Option<At> {
    match event {
        Event::GroupClosing { scope, .. } => view.run.scope(*scope)?.owner,
        other => other.at(),
    }
}

fn index(event: &Event) -> Option<u32> {
    match event {
        Event::ItemEnded { index, .. } => Some(*index),
        Event::UndoStarted { index, .. } | Event::UndoEnded { index, .. } => *index,
        Event::Opened(opening) => opening.index,
        Event::Made { .. }
        | Event::Began
        | Event::Started { .. }
        | Event::ItemsStarted { .. }
        | Event::Ended { .. }
        | Event::Signalled(_)
        | Event::Heard { .. }
        | Event::GroupClosing { .. }
        | Event::Closing(_)
        | Event::Over { .. } => None,
    }
}

/// The job an event is about, as it is named.
fn job(view: &RunView, event: &Event) -> String {
    let work = |at: At| view.run.step(at).and_then(|step| step.work);
    let named = |path: &str| view.run.id().job(path).to_string();
    match event {
        Event::Started { at, work: Work::Job | Work::Approval } => named(&view.name_of(*at, None)),
        Event::Ended { at, .. } if matches!(work(*at), Some(Work::Job | Work::Approval)) => {
            named(&view.name_of(*at, None))
        }
        Event::ItemEnded { at, index, .. } if matches!(work(*at), Some(Work::Items { .. })) => {
            named(&view.name_of(*at, Some(*index)))
        }
        Event::UndoStarted { at, index } => named(&view.plan.job_path(&view.run, *at, *index, true)),
        Event::UndoEnded { at, index, outcome } if outcome.state != StepState::Skipped => {
            named(&view.plan.job_path(&view.run, *at, *index, true))
        }
        Event::Made { .. }
        | Event::Began
        | Event::Opened(_)
        | Event::Started { .. }
        | Event::ItemsStarted { .. }
        | Event::ItemEnded { .. }
        | Event::Ended { .. }
        | Event::Signalled(_)
        | Event::Heard { .. }
        | Event::GroupClosing { .. }
        | Event::Closing(_)
        | Event::UndoEnded { .. }
        | Event::Over { .. } => String::new(),
    }
}

fn outcome(event: &Event) -> Option<&Outcome> {
    match event {
        Event::ItemEnded { outcome, .. }
        | Event::Ended { outcome, .. }
        | Event::UndoEnded { outcome, .. } => Some(outcome),
        Event::Made { .. }
        | Event::Began
        | Event::Opened(_)
        | Event::Started { .. }
        | Event::ItemsStarted { .. }
        | Event::Signalled(_)
        | Event::Heard { .. }
        | Event::GroupClosing { .. }
        | Event::Closing(_)
        | Event::UndoStarted { .. }
        | Event::Over { .. } => None,
    }
}

fn trouble(event: &Event) -> Option<&Trouble> {
    match event {
        Event::GroupClosing { error, .. } => Some(error),
        Event::Closing(closing) => Some(&closing.error),
        Event::Over { error, .. } => error.as_ref(),
        other => outcome(other)?.error.as_ref(),
    }
}

fn step_is(event: &Event) -> Option<StepState> {
    match event {
        Event::Started { work, .. } => Some(begun(*work)),
        Event::ItemsStarted { .. } | Event::UndoStarted { .. } => Some(StepState::Running),
        other => outcome(other).map(|outcome| outcome.state),
    }
}

fn begun(work: Work) -> StepState {
    match work {
        Work::Job | Work::Items { .. } | Work::Group | Work::Groups { .. } => StepState::Running,
        Work::Approval | Work::Timer { .. } | Work::Signal { .. } => StepState::Waiting,
    }
}

fn run_is(event: &Event) -> Option<RunState> {
    match event {
        Event::Closing(closing) => Some(closing.state),
        Event::Over { state, .. } => Some(*state),
        _ => None,
    }
}

fn actor(event: &Event) -> String {
    match event {
        Event::Made { actor } => actor.to_string(),
        Event::Signalled(signal) => signal.actor.to_string(),
        Event::Closing(Closing { actor, state, .. }) => match (&**actor, state) {
            ("", RunState::TimedOut) => "system:timer".into(),
            ("", RunState::Failed) => "system:run".into(),
            (actor, _) => actor.to_owned(),
        },
        Event::Began
        | Event::Opened(_)
        | Event::Started { .. }
        | Event::ItemsStarted { .. }
        | Event::ItemEnded { .. }
        | Event::Ended { .. }
        | Event::Heard { .. }
        | Event::GroupClosing { .. }
        | Event::UndoStarted { .. }
        | Event::UndoEnded { .. }
        | Event::Over { .. } => String::new(),
    }
}

fn signal<'a>(view: &'a RunView, event: &'a Event) -> Option<&'a str> {
    match event {
        Event::Signalled(signal) => Some(&signal.name),
        Event::Heard { at, .. } => view.signal_of(*at),
        _ => None,
    }
}

// === in words ===

fn message(view: &RunView, event: &Event) -> String {
    match event {
        Event::Made { .. } => match &view.run.plea.lineage {
            Some(from) => format!("forked from step {} of run {}", from.step, from.run_id),
            None => format!("workflow {}, version {}", view.run.plea.workflow, view.run.plea.version),
        },
        Event::Began => match &view.run.plea.concurrency {
            Some((key, limit)) => format!("has one of {limit} places of the key `{key}`"),
            None => "its steps may begin".into(),
        },
        Event::Opened(opening) => opened(*opening),
        Event::Started { at, work } => started(view, *at, *work),
        Event::ItemsStarted { count, .. } => format!("{count} more items begun"),
        Event::Signalled(signal) => format!("signal `{}`, {} bytes", signal.name, signal.data.len()),
        Event::Heard { signal, .. } => format!("took the signal of entry {signal}"),
        Event::GroupClosing { error, .. } => format!("the rest is stopped: {}", because(error)),
        Event::Closing(closing) => format!("is to end as {}: {}", closing.state, because(&closing.error)),
        Event::UndoStarted { .. } => "its compensation begins".into(),
        Event::ItemEnded { outcome, .. }
        | Event::Ended { outcome, .. }
        | Event::UndoEnded { outcome, .. } => ended(outcome),
        Event::Over { error: Some(error), state, .. } => format!("{state}: {}", because(error)),
        Event::Over { error: None, state, .. } => state.name().to_owned(),
    }
}

fn because(error: &Trouble) -> String {
    match &*error.step {
        "" => format!("{}: {}", error.kind, error.message),
        step => format!("step {step}: {}: {}", error.kind, error.message),
    }
}

fn opened(opening: Opening) -> String {
    let size = opening.size;
    match (opening.owner, opening.index) {
        (Some(_), Some(index)) => format!("{size} steps for item {index}"),
        (Some(_), None) => format!("{size} steps of the group"),
        (None, _) if opening.list == ON_FAILURE => format!("{size} steps of on_failure"),
        (None, _) => format!("{size} steps of the workflow"),
    }
}

fn started(view: &RunView, at: At, work: Work) -> String {
    match work {
        Work::Job => "its job was made".into(),
        Work::Approval => "people are asked".into(),
        Work::Items { count } => format!("a job for each of {count} items"),
        Work::Group => "its steps begin".into(),
        Work::Groups { count } => format!("its steps for each of {count} items"),
        Work::Timer { due } => format!("waits until {}", print_time(due)),
        Work::Signal { due } => {
            let name = view.signal_of(at).unwrap_or_default();
            let until = due.map(|due| format!(" until {}", print_time(due))).unwrap_or_default();
            format!("waits for the signal `{name}`{until}")
        }
    }
}

fn ended(outcome: &Outcome) -> String {
    let after = match outcome.attempts {
        0 | 1 => String::new(),
        n => format!(" after {n} attempts"),
    };
    match &outcome.error {
        Some(error) => format!("{}{after}: {}: {}", outcome.state, error.kind, error.message),
        None => format!("{}{after}", outcome.state),
    }
}
