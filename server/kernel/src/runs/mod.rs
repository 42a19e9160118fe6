//! Runs of workflows: a graph of steps that goes on in the turn in which something of it ended.
//!
//! A step that does work is a job of the same shard, so what ends a job, the step it was, and the jobs that follow are
//! one commit. Times and signals are the run's own. A run that only waits for these leaves memory and comes back when
//! one of them does.

mod advance;
mod cancel;
mod close;
mod decide;
mod explain;
mod jobs;
mod load;
mod settle;
mod start;
mod wait;

pub use cancel::TAKEN;
pub use decide::value_of;
pub(crate) use load::admit_queued;
pub(crate) use wait::tick;

use crate::dispatcher::LimitKey;
use crate::input::{Configs, Input, Reply, Write};
use crate::{Dispatcher, Turn, View};
use bytes::Bytes;
use coretex_domain::limits::{RETENTION_DEFAULT, RUN_PIECE};
use coretex_domain::run::{At, Event, Part, RunKey, StepState, body::history_to_body};
use coretex_domain::{JobKey, Namespace, Resource, Run, RunId, Time};
use coretex_workflow::{Piece, Plan, Site};
use load::park;
use rustc_hash::FxHashMap;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// A result up to this many bytes stays at hand for the steps that follow.
const AT_HAND_MAX: usize = 4 << 10;
/// What one run keeps at hand of these.
const AT_HAND_TOTAL_MAX: usize = 64 << 10;

/// The runs of a loop.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    pub(crate) open: FxHashMap<RunKey, OpenRun>,
    /// Runs that only wait: their records are in the store.
    pub(crate) parked: FxHashMap<RunKey, Parked>,
    pub(crate) timers: BTreeSet<(Time, RunKey)>,
    /// Runs that wait for a place of their key, as they came.
    pub(crate) queued: FxHashMap<LimitKey, BTreeSet<(Time, RunKey)>>,
    /// Runs that were loaded and have not gone on since.
    pub(crate) to_resume: Vec<RunKey>,
}

/// A run in memory.
#[derive(Debug)]
pub(crate) struct OpenRun {
    pub(crate) run: Arc<Run>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) configs: Configs,
    /// Per list as begun and step: how many of those it needs are not over.
    left: Vec<Vec<u16>>,
    /// Steps that may begin.
    ready: VecDeque<At>,
    /// What is being worked out elsewhere, and the revision it is worked out of.
    asked: FxHashMap<Site, u64>,
    /// Short results, as the steps that follow will want them.
    at_hand: FxHashMap<Piece, Bytes>,
    at_hand_bytes: usize,
    /// What open steps are done for.
    items: FxHashMap<At, Arc<serde_json::Value>>,
    timer: Time,
}

/// What is left in memory of a run that only waits.
#[derive(Debug)]
pub(crate) struct Parked {
    namespace: Namespace,
    /// The id of one a client named; any other is in its key.
    chosen: Option<Box<str>>,
    due: Time,
    revision: u32,
    is_called: bool,
}

/// Decides one input about a run.
pub(crate) fn decide(view: &mut View, dispatcher: &mut Dispatcher, input: Input, turn: &mut Turn) -> Reply {
    match input {
        Input::StartRun(start) => start::start(view, dispatcher, start, turn),
        Input::LoadRun(load) => load::load(view, dispatcher, *load, turn),
        Input::Evaluated(found) => {
            decide::evaluated(view, dispatcher, *found, turn);
            Reply::None
        }
        Input::CancelRun { namespace, run_id, reason, actor } => {
            cancel::cancel(view, (&namespace, &run_id), (reason, actor), turn)
        }
        Input::SignalRun { namespace, run_id, signal } => {
            wait::signal(view, dispatcher, (&namespace, &run_id), signal, turn)
        }
        Input::GetRun { namespace, run_id } => match view.find_run(&namespace, &run_id) {
            Some(run) => Reply::Run(Ok(run.clone())),
            None if view.has_run(run_id.key(&namespace)) => Reply::RunAway,
            None => Reply::NotOpen,
        },
        Input::ExplainRun { namespace, run_id } => {
            explain::explain(view, dispatcher, (&namespace, &run_id), turn)
        }
        // The others are not about runs.
        _ => Reply::None,
    }
}

/// Goes on with everything that ended in this turn, until nothing follows from it.
pub(crate) fn follow(view: &mut View, dispatcher: &mut Dispatcher, turn: &mut Turn) {
    for key in std::mem::take(&mut view.runs.to_resume) {
        load::resume(view, key, turn);
        start::queue_again(view, dispatcher, key, turn);
        advance::advance(view, dispatcher, key, turn);
    }
    loop {
        if let Some(key) = turn.steps_ended.pop_front() {
            if let Some(run) = settle::job_ended(view, dispatcher, key, turn) {
                advance::advance(view, dispatcher, run, turn);
            }
        } else if !close::follow(view, dispatcher, turn) {
            return;
        }
    }
}

/// Writes what this turn made of its runs; those that are over leave memory, those that only wait are left to the store.
pub(crate) fn file(view: &mut View, turn: &mut Turn) -> Vec<Write> {
    let touched = std::mem::take(&mut turn.runs_touched);
    let mut writes = Vec::with_capacity(touched.len());
    for (key, fresh) in touched {
        move_history(view, key, turn);
        let Some(open) = view.runs.open.get(&key) else { continue };
        let run = open.run.clone();
        // One that was only looked at has nothing to write.
        if fresh > 0 {
            writes.push(Write::Run { run: run.clone(), fresh });
        }
        if run.is_over() {
            view.remove_run(key);
        } else {
            view.set_run_timer(key);
            park(view, key);
        }
    }
    writes
}

/// Older entries become parts of their own, so that the record stays short.
fn move_history(view: &mut View, key: RunKey, turn: &mut Turn) {
    let Some(open) = view.runs.open.get_mut(&key) else { return };
    while open.run.history.len() >= 2 * RUN_PIECE {
        let run = Arc::make_mut(&mut open.run);
        let moved: Vec<_> = run.history.drain(..RUN_PIECE).collect();
        let piece = moved.first().map_or(0, |entry| (entry.seq - 1) / RUN_PIECE as u64);
        let body = history_to_body(&moved);
        turn.rows.push(Write::Resource(Arc::new(part(run, &Part::History(piece), turn.now.wall, body))));
    }
}

fn part(run: &Run, part: &Part, now: Time, body: Bytes) -> Resource {
    part.to_resource(run.id(), &run.plea.namespace, run.shard, now, body)
}

// === impl View: the one way to change a run ===

impl View {
    pub(crate) fn run(&self, key: RunKey) -> Option<&OpenRun> {
        self.runs.open.get(&key)
    }

    /// An open run in memory, by name.
    pub fn find_run(&self, namespace: &Namespace, id: &RunId) -> Option<&Arc<Run>> {
        let open = self.run(id.key(namespace))?;
        (open.run.plea.namespace == *namespace && open.run.plea.id == *id).then_some(&open.run)
    }

    /// Applies an event to a run. What does not fit changes nothing and is reported.
    pub(crate) fn apply_run(&mut self, key: RunKey, event: Event, turn: &mut Turn) -> bool {
        let Some(open) = self.runs.open.get_mut(&key) else { return false };
        match Arc::make_mut(&mut open.run).apply(turn.now.wall, event) {
            Ok(()) => {
                turn.touch_run(key, 1);
                true
            }
            Err(unfit) => {
                turn.unfit.push(unfit);
                false
            }
        }
    }

    pub(crate) fn set_run_timer(&mut self, key: RunKey) {
        let is_lost = self.is_planted(crate::mutant::Mutant::RunTimerLost);
        let Some(open) = self.runs.open.get_mut(&key) else { return };
        let due = open.run.next_due().unwrap_or(Time::NEVER);
        if open.timer == due {
            return;
        }
        if open.timer != Time::NEVER {
            self.runs.timers.remove(&(open.timer, key));
        }
        open.timer = due;
        if due != Time::NEVER && !is_lost {
            self.runs.timers.insert((due, key));
        }
    }

    /// Lets go of a run that is over. A look-up from before may not have seen it.
    fn remove_run(&mut self, key: RunKey) {
        if let Some(open) = self.runs.open.remove(&key) {
            self.runs.timers.remove(&(open.timer, key));
        }
        self.note_departed(key.as_holder());
    }

    /// Open runs, in memory or not.
    pub fn open_runs(&self) -> usize {
        self.runs.open.len() + self.runs.parked.len()
    }

    /// Whether an open run has this name, in memory or not.
    pub(crate) fn has_run(&self, key: RunKey) -> bool {
        self.runs.open.contains_key(&key) || self.runs.parked.contains_key(&key)
    }
}

// === impl OpenRun ===

impl OpenRun {
    fn new(run: Arc<Run>, plan: Arc<Plan>, configs: Configs) -> OpenRun {
        let mut open = OpenRun {
            run,
            plan,
            configs,
            left: Vec::new(),
            ready: VecDeque::new(),
            asked: FxHashMap::default(),
            at_hand: FxHashMap::default(),
            at_hand_bytes: 0,
            items: FxHashMap::default(),
            timer: Time::NEVER,
        };
        for scope in 0..open.run.scopes.len() as u32 {
            open.count_needs(scope);
        }
        open
    }

    /// Notes how many needs of each step of a list are not over.
    fn count_needs(&mut self, scope: u32) {
        let Some(found) = self.run.scope(scope) else { return };
        let is_open =
            |place: &&u32| !found.steps.get(**place as usize).is_some_and(|step| step.state.is_over());
        let left = (0..found.steps.len() as u32).map(|place| {
            let needs = self.plan.step_in(found.list, place).map_or(&[][..], |planned| &planned.needs);
            needs.iter().filter(is_open).count() as u16
        });
        let left = left.collect();
        let at = scope as usize;
        if self.left.len() <= at {
            self.left.resize_with(at + 1, Vec::new);
        }
        self.left[at] = left;
    }

    /// Steps of a list that may begin now.
    fn find_ready(&mut self, scope: u32) {
        let Some(found) = self.run.scope(scope) else { return };
        for place in 0..found.steps.len() {
            let is_free = self.left.get(scope as usize).and_then(|left| left.get(place)) == Some(&0);
            if is_free && found.steps[place].state == StepState::Pending {
                self.ready.push_back(At { scope, place: place as u32 });
            }
        }
    }

    /// Keeps a result for the steps that follow, if it is short and somebody may read it.
    fn keep(&mut self, piece: Piece, data: &Bytes) {
        if data.len() <= AT_HAND_MAX && self.at_hand_bytes + data.len() <= AT_HAND_TOTAL_MAX {
            self.at_hand_bytes += data.len();
            // A copy: what it is cut from may be a whole frame.
            self.at_hand.insert(piece, Bytes::copy_from_slice(data));
        }
    }
}

/// How long a run is kept once it is over.
pub(crate) fn retention(view: &View, run: &Run) -> coretex_domain::Span {
    view.retention_of(&run.plea.namespace).jobs.unwrap_or(RETENTION_DEFAULT)
}

/// The jobs of a run's step that are open.
pub(crate) fn open_jobs(open: &OpenRun, at: At) -> Vec<JobKey> {
    use coretex_domain::run::Work;
    let Some(step) = open.run.step(at) else { return Vec::new() };
    let key = |index: Option<u32>| {
        let path = open.plan.job_path(&open.run, at, index, false);
        open.run.id().job(&path).key(&open.run.plea.namespace)
    };
    match step.work {
        Some(Work::Job | Work::Approval) => vec![key(None)],
        Some(Work::Items { .. }) => match step.items() {
            Some(items) => (0..items.begun).filter(|n| items.is_open(*n)).map(|n| key(Some(n))).collect(),
            None => Vec::new(),
        },
        Some(Work::Group | Work::Groups { .. } | Work::Timer { .. } | Work::Signal { .. }) | None => {
            Vec::new()
        }
    }
}
