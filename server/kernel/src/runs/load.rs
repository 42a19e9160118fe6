//! Load: runs as the store has them in; a view that goes on with them out. And the other way round: a run that only
//! waits for times and signals is left to the store.

use super::{OpenRun, Parked, advance, wait};
use crate::dispatcher::{Holder, LimitKey};
use crate::input::{LoadRun, Reply};
use crate::{Dispatcher, Turn, View};
use coretex_domain::run::{At, Phase, Work};
use coretex_domain::{Namespace, Run, RunId, RunKey, Span, Time};
use std::sync::Arc;

/// A run that goes on sooner than this stays in memory.
const PARK_FROM: Span = Span::secs(10);

/// True for a run that only waits for times and signals.
fn only_waits(run: &Run) -> bool {
    let is_wait = |work: Option<Work>| {
        matches!(work, Some(Work::Timer { .. } | Work::Signal { .. } | Work::Group | Work::Groups { .. }))
    };
    run.phase == Phase::Going
        && run.working == 0
        && run.waiting > 0
        && run.open_steps().all(|(_, step)| is_wait(step.work))
}

/// Leaves a run to the store, if it only waits, and for long enough.
pub(crate) fn park(view: &mut View, key: RunKey) {
    let Some(open) = view.runs.open.get(&key) else { return };
    let is_busy = !open.ready.is_empty() || !open.asked.is_empty();
    let far = open.run.update_time + PARK_FROM;
    if is_busy || open.timer < far || !only_waits(&open.run) {
        return;
    }
    let (run, due) = (open.run.clone(), open.timer);
    view.runs.open.remove(&key);
    view.runs.parked.insert(key, parked(&run, due));
}

fn parked(run: &Run, due: Time) -> Parked {
    Parked {
        namespace: run.plea.namespace.clone(),
        chosen: (!run.id().is_made()).then(|| run.id().as_str().into()),
        due,
        revision: low(run.revision),
        is_called: false,
    }
}

/// Enough of a revision to tell it from those around it.
fn low(revision: u64) -> u32 {
    (revision & u64::from(u32::MAX)) as u32
}

impl Parked {
    pub(super) fn id(&self, key: RunKey) -> Option<RunId> {
        match &self.chosen {
            Some(name) => RunId::parse(name).ok(),
            None => key.id(),
        }
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

/// A run comes back that was left to the store.
pub(crate) fn load(view: &mut View, dispatcher: &mut Dispatcher, load: LoadRun, turn: &mut Turn) -> Reply {
    let key = load.run.key();
    let is_it = view.runs.parked.get(&key).is_some_and(|parked| parked.revision == low(load.run.revision));
    if !is_it {
        return Reply::None;
    }
    if let Some(parked) = view.runs.parked.remove(&key) {
        view.runs.timers.remove(&(parked.due, key));
    }
    view.runs.open.insert(key, OpenRun::new(load.run, load.plan, load.configs));
    // It stays until whoever wanted it has looked at it.
    view.set_run_timer(key);
    resume(view, key, turn);
    wait::ring(view, key, turn);
    advance::advance(view, dispatcher, key, turn);
    Reply::None
}

/// Finds what of a loaded run may go on.
pub(super) fn resume(view: &mut View, key: RunKey, turn: &mut Turn) {
    view.complete_configs(key);
    let Some(open) = view.runs.open.get_mut(&key) else { return };
    for scope in 0..open.run.scopes.len() as u32 {
        if open.run.may_begin(scope) {
            open.find_ready(scope);
        }
    }
    let steps: Vec<(At, Option<Work>)> = open.run.open_steps().map(|(at, step)| (at, step.work)).collect();
    let is_unopened = open.run.phase == Phase::Going && open.run.scopes.is_empty();
    for (at, work) in steps {
        match work {
            Some(Work::Items { .. } | Work::Groups { .. }) => turn.items_ended.push((key, at)),
            Some(Work::Signal { .. }) => wait::listen(view, key, at, turn),
            _ => {}
        }
    }
    debug_assert!(!is_unopened, "a run and its steps are opened in one commit");
    turn.to_close.push(key);
}

// === impl View: recovery ===

impl View {
    /// Takes in an open run as it was stored. One that only waits needs no more than that.
    pub fn recover_run(&mut self, dispatcher: &mut Dispatcher, run: &Arc<Run>, rest: Option<LoadRun>) {
        let key = run.key();
        let due = run.next_due().unwrap_or(Time::NEVER);
        if let Some((slot, _)) = LimitKey::of_run(&run.plea) {
            match run.phase {
                Phase::Queued => {
                    self.runs.queued.entry(slot).or_default().insert((run.create_time, key));
                }
                _ => dispatcher.hold_slot(&slot, Holder { job: key.as_holder(), serial: 0 }),
            }
        }
        match rest {
            Some(rest) => {
                let mut open = OpenRun::new(rest.run, rest.plan, rest.configs);
                open.timer = due;
                self.runs.open.insert(key, open);
                self.runs.to_resume.push(key);
            }
            None => {
                self.runs.parked.insert(key, parked(run, due));
            }
        }
        if due != Time::NEVER {
            self.runs.timers.insert((due, key));
        }
    }

    /// True if a stored run has to be in memory, with what it needs, to go on.
    pub fn must_load(run: &Run) -> bool {
        !only_waits(run)
    }

    /// True while loaded runs have not gone on.
    pub fn has_loaded_runs(&self) -> bool {
        !self.runs.to_resume.is_empty()
    }
}

/// A place of a concurrency key may be had: runs that wait for it begin, as they came.
pub(crate) fn admit_queued(view: &mut View, dispatcher: &mut Dispatcher, slot: &LimitKey, turn: &mut Turn) {
    while let Some((at, key)) = view.runs.queued.get(slot).and_then(|queue| queue.first().copied()) {
        let Some(open) = view.run(key).filter(|open| open.run.phase == Phase::Queued) else {
            remove_queued(view, slot, (at, key));
            continue;
        };
        let limit = open.run.plea.concurrency.as_ref().map_or(1, |(_, limit)| *limit);
        let holder = Holder { job: key.as_holder(), serial: 0 };
        if !dispatcher.take_slot(slot, holder, limit, view.who) {
            return;
        }
        remove_queued(view, slot, (at, key));
        super::start::begin(view, key, turn);
        advance::advance(view, dispatcher, key, turn);
    }
}

fn remove_queued(view: &mut View, slot: &LimitKey, at: (Time, RunKey)) {
    if let Some(queue) = view.runs.queued.get_mut(slot) {
        queue.remove(&at);
        if queue.is_empty() {
            view.runs.queued.remove(slot);
        }
    }
}
