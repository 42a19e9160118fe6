//! Explain: why an open run stands where it stands.

use super::{OpenRun, open_jobs};
use crate::input::{Cause, Explanation, Reply};
use crate::path::explain::causes_of;
use crate::{Dispatcher, Turn, View};
use coretex_domain::run::{At, Phase, Step, Work};
use coretex_domain::{Namespace, RunId};
use coretex_workflow::model::Kind;

/// Steps that are told one by one.
const STEPS_MAX: usize = 20;

pub(crate) fn explain(
    view: &mut View,
    dispatcher: &Dispatcher,
    (namespace, run_id): (&Namespace, &RunId),
    turn: &mut Turn,
) -> Reply {
    let key = run_id.key(namespace);
    let Some(open) = view.run(key).filter(|open| open.run.plea.namespace == *namespace) else {
        return if view.has_run(key) { Reply::RunAway } else { Reply::NotOpen };
    };
    let mut causes = Vec::new();
    let run = &open.run;
    match run.phase {
        Phase::Queued => {
            let (name, limit) = run.plea.concurrency.clone().unwrap_or_default();
            causes.push(cause("RUN_QUEUED", format!("runs with the key `{name}` hold all {limit} places")));
        }
        Phase::Closing | Phase::Undoing | Phase::AfterFailure => {
            let why = run.error().map(|error| error.message.to_string()).unwrap_or_default();
            causes.push(cause("RUN_ENDING", format!("it is to end: {why}")));
            if let Some((at, index)) = run.undoing {
                let path = open.plan.job_path(run, at, index, true);
                causes.push(cause("UNDOING", format!("{path} runs; {} more to undo", run.undoable.len())));
            }
        }
        Phase::Going | Phase::Over => {}
    }
    let steps: Vec<(At, &Step)> = run.open_steps().take(STEPS_MAX).collect();
    for (at, step) in steps {
        causes.extend(of_step(view, dispatcher, open, (at, step), turn));
    }
    if causes.is_empty() && !open.asked.is_empty() {
        causes.push(cause("EVALUATING", "what a step is given is being worked out".into()));
    }
    let summary = match causes.first() {
        Some(first) => format!("{}: {}", run.state(), first.message),
        None => format!("{}: its steps go on", run.state()),
    };
    // It may leave memory again.
    turn.touch_run(key, 0);
    Reply::Explained(Explanation { summary, causes })
}

fn of_step(
    view: &View,
    dispatcher: &Dispatcher,
    open: &OpenRun,
    (at, step): (At, &Step),
    turn: &Turn,
) -> Vec<Cause> {
    let path = open.plan.job_path(&open.run, at, None, false);
    let found = match step.work {
        Some(Work::Timer { due }) => {
            Cause { eta: Some(due), ..cause("TIMER", format!("step {path} waits for its time")) }
        }
        Some(Work::Signal { due }) => {
            let name = match open.plan.step(&open.run, at).map(|planned| &planned.step.kind) {
                Some(Kind::WaitEvent(wait)) => wait.name.to_string(),
                _ => String::new(),
            };
            Cause { eta: due, ..cause("SIGNAL", format!("step {path} waits for the signal `{name}`")) }
        }
        Some(Work::Items { count } | Work::Groups { count }) => {
            let over = step.items().map_or(0, |items| items.over.count());
            let mut causes = vec![cause(
                "ITEMS",
                format!("{} of {count} items of step {path} are left", count - over.min(count)),
            )];
            let first = open_jobs(open, at).into_iter().find_map(|job| view.job(job));
            causes.extend(first.into_iter().flat_map(|job| causes_of(view, dispatcher, job, turn.now)));
            return causes;
        }
        Some(Work::Job | Work::Approval) => {
            let job = open_jobs(open, at).into_iter().find_map(|job| view.job(job));
            let Some(job) = job else { return Vec::new() };
            let told = causes_of(view, dispatcher, job, turn.now);
            let state = job.state.kind().name();
            let own = cause("STEP", format!("step {path} is {state}"));
            return if told.is_empty() {
                vec![own]
            } else {
                told.into_iter().map(|one| of_path(one, &path)).collect()
            };
        }
        Some(Work::Group) | None => return Vec::new(),
    };
    vec![found]
}

fn of_path(cause: Cause, path: &str) -> Cause {
    Cause { message: format!("step {path}: {}", cause.message), ..cause }
}

fn cause(kind: &'static str, message: String) -> Cause {
    Cause { kind, message, holders: Vec::new(), eta: None }
}
