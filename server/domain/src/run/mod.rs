//! A run of a workflow, and the fold of its history.

pub mod body;
pub mod event;
mod id;
mod state;
mod step;
#[cfg(test)]
mod tests;

pub use body::Part;
pub use event::{At, Closing, Entry, Event, Opening, Outcome, Signal, Trouble, Value, Work};
pub use id::{CHOSEN_LEN_MAX, RunId, RunKey};
pub use state::{Phase, RunState, StepState};
pub use step::{Bits, Items, More, Scope, Step};

use crate::id::{Namespace, ShardId};
use crate::time::Time;
use std::sync::Arc;

/// List of a workflow: its steps.
pub const STEPS: u32 = 0;
/// List of a workflow: what is done after a failure.
pub const ON_FAILURE: u32 = 1;

/// What a run was asked for; it never changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Plea {
    pub id: RunId,
    pub namespace: Namespace,
    pub workflow: Arc<str>,
    pub version: u64,
    /// JSON, with the defaults of the schema.
    pub input: Value,
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    pub actor: Arc<str>,
    /// Names the request, so that its repeat is known.
    pub fingerprint: u128,
    /// When it is ended as TIMED_OUT.
    pub deadline: Option<Time>,
    /// Runs that share it wait for each other, so many at a time.
    pub concurrency: Option<(Arc<str>, u32)>,
    /// Whether a part of it holds its configuration.
    pub has_config: bool,
    pub lineage: Option<Lineage>,
}

/// The run it was forked from.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Lineage {
    pub run_id: Arc<str>,
    /// The first step that was done again.
    pub step: Arc<str>,
}

/// A run and all that happened to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub plea: Arc<Plea>,
    pub shard: ShardId,
    pub phase: Phase,
    /// How it ended, or is to end.
    pub ending: Option<Closing>,
    pub scopes: Vec<Scope>,
    /// What would have to be undone, in the order in which it was done.
    pub undoable: Vec<(At, Option<u32>)>,
    /// What is being undone.
    pub undoing: Option<(At, Option<u32>)>,
    /// Signals no step took yet, by their number in the history.
    pub signals: Vec<(u64, Signal)>,
    /// Ids of the newest signals, so that a repeat is known.
    pub signal_ids: Vec<Arc<str>>,
    pub output: Option<Value>,
    /// Open jobs; questions to people are not among them.
    pub working: u32,
    /// Open questions, times and signals that are waited for.
    pub waiting: u32,
    /// Length of the history; rises by one with each entry.
    pub revision: u64,
    pub create_time: Time,
    pub update_time: Time,
    pub start_time: Option<Time>,
    pub end_time: Option<Time>,
    pub expire_time: Option<Time>,
    /// The newest entries; earlier ones are parts of the run.
    pub history: Vec<Entry>,
}

/// An event that does not fit how the run stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    pub run: RunId,
    pub event: &'static str,
    pub why: &'static str,
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "event {} does not fit run {}: {}", self.event, self.run, self.why)
    }
}

impl std::error::Error for Unfit {}

// === impl Run: what it says ===

impl Run {
    /// A new run with its first history entry.
    pub fn made(plea: Arc<Plea>, now: Time) -> Run {
        let event = Event::Made { actor: plea.actor.clone() };
        Run {
            shard: plea.id.shard(&plea.namespace),
            plea,
            phase: Phase::Queued,
            ending: None,
            scopes: Vec::new(),
            undoable: Vec::new(),
            undoing: None,
            signals: Vec::new(),
            signal_ids: Vec::new(),
            output: None,
            working: 0,
            waiting: 0,
            revision: 1,
            create_time: now,
            update_time: now,
            start_time: None,
            end_time: None,
            expire_time: None,
            history: vec![Entry { seq: 1, time: now, event }],
        }
    }

    pub fn id(&self) -> &RunId {
        &self.plea.id
    }

    pub fn key(&self) -> RunKey {
        self.plea.id.key(&self.plea.namespace)
    }

    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    pub fn state(&self) -> RunState {
        match self.phase {
            Phase::Queued => RunState::Pending,
            Phase::Over => self.ending.as_ref().map_or(RunState::Succeeded, |ending| ending.state),
            Phase::Going if self.working == 0 && self.waiting > 0 => RunState::Waiting,
            Phase::Going | Phase::Closing | Phase::Undoing | Phase::AfterFailure => RunState::Running,
        }
    }

    pub fn error(&self) -> Option<&Trouble> {
        self.ending.as_ref().map(|ending| &ending.error)
    }

    pub fn scope(&self, scope: u32) -> Option<&Scope> {
        self.scopes.get(scope as usize)
    }

    pub fn step(&self, at: At) -> Option<&Step> {
        self.scope(at.scope)?.steps.get(at.place as usize)
    }

    /// True while steps of this list may begin.
    pub fn may_begin(&self, scope: u32) -> bool {
        let mut next = Some(scope);
        while let Some(one) = next.and_then(|scope| self.scope(scope)) {
            if one.closing.is_some() {
                return false;
            }
            let is_after_failure = one.owner.is_none() && one.list == ON_FAILURE;
            if one.owner.is_none() {
                let phase = if is_after_failure { Phase::AfterFailure } else { Phase::Going };
                return self.phase == phase;
            }
            next = one.owner.map(|owner| owner.scope);
        }
        false
    }

    /// The next time something of it is due.
    pub fn next_due(&self) -> Option<Time> {
        let may_time_out = matches!(self.phase, Phase::Queued | Phase::Going);
        let whole = self.plea.deadline.filter(|_| may_time_out);
        let waits = if self.waiting == 0 { None } else { self.timers().map(|(at, _)| at).min() };
        [whole, waits].into_iter().flatten().min()
    }

    /// Times that steps wait for.
    pub fn timers(&self) -> impl Iterator<Item = (Time, At)> {
        self.open_steps().filter_map(|(at, step)| match step.work {
            Some(Work::Timer { due }) => Some((due, at)),
            Some(Work::Signal { due }) => due.map(|due| (due, at)),
            _ => None,
        })
    }

    /// Steps that are begun and not over.
    pub fn open_steps(&self) -> impl Iterator<Item = (At, &Step)> {
        let scopes = self.scopes.iter().enumerate().filter(|(_, scope)| scope.open > 0);
        scopes.flat_map(|(n, scope)| {
            let steps = scope.steps.iter().enumerate().filter(|(_, step)| step.is_open());
            steps.map(move |(place, step)| (At { scope: n as u32, place: place as u32 }, step))
        })
    }

    /// Bytes of the signals that no step took yet.
    pub fn signal_bytes(&self) -> usize {
        self.signals.iter().map(|(_, signal)| signal.data.len()).sum()
    }
}

// === impl Run: the fold ===

impl Run {
    /// Rebuilds a run from all of its history.
    pub fn fold(plea: Arc<Plea>, history: &[Entry]) -> Result<Run, Unfit> {
        let [first, rest @ ..] = history else {
            return Err(Unfit { run: plea.id.clone(), event: "RUN_STARTED", why: "there is no history" });
        };
        let mut run = Run::made(plea, first.time);
        rest.iter().try_for_each(|entry| run.apply(entry.time, entry.event.clone()))?;
        Ok(run)
    }

    /// True if both say the same of how a run stands, whatever of their histories they hold.
    pub fn stands_as(&self, other: &Run) -> bool {
        self.phase == other.phase
            && self.ending == other.ending
            && self.scopes == other.scopes
            && self.undoable == other.undoable
            && self.undoing == other.undoing
            && self.signals == other.signals
            && self.signal_ids == other.signal_ids
            && self.output == other.output
            && (self.working, self.waiting, self.revision) == (other.working, other.waiting, other.revision)
            && (self.start_time, self.end_time) == (other.start_time, other.end_time)
    }

    /// Takes one event: refuses what does not fit, changes the state, appends to the history.
    pub fn apply(&mut self, time: Time, event: Event) -> Result<(), Unfit> {
        if self.is_over() {
            return Err(self.unfit(&event, "it is over"));
        }
        self.take(time, &event)?;
        self.revision += 1;
        self.update_time = time;
        self.history.push(Entry { seq: self.revision, time, event });
        Ok(())
    }

    fn unfit(&self, event: &Event, why: &'static str) -> Unfit {
        Unfit { run: self.plea.id.clone(), event: event.name(), why }
    }

    fn take(&mut self, time: Time, event: &Event) -> Result<(), Unfit> {
        let taken = match event {
            Event::Made { .. } => Err("it was made before"),
            Event::Began => self.take_began(time),
            Event::Opened(opening) => self.take_opened(*opening),
            Event::Started { at, work } => self.take_started(*at, *work, time),
            Event::ItemsStarted { at, count } => self.take_items(*at, *count),
            Event::ItemEnded { at, index, outcome } => self.take_item_ended(*at, *index, outcome),
            Event::Ended { at, outcome } => self.take_ended(*at, outcome, time),
            Event::Signalled(signal) => self.take_signalled(signal),
            Event::Heard { signal, .. } => self.take_heard(*signal),
            Event::GroupClosing { scope, error } => self.take_group_closing(*scope, error),
            Event::Closing(closing) => self.take_closing(closing),
            Event::UndoStarted { at, index } => self.take_undo(*at, *index),
            Event::UndoEnded { at, index, outcome } => self.take_undone(*at, *index, outcome),
            Event::Over { state, error, output } => {
                return self
                    .take_over(*state, error.clone(), output.clone(), time)
                    .map_err(|why| self.unfit(event, why));
            }
        };
        taken.map_err(|why| self.unfit(event, why))
    }

    fn take_began(&mut self, time: Time) -> Result<(), &'static str> {
        if self.phase != Phase::Queued {
            return Err("it began before");
        }
        self.phase = Phase::Going;
        self.start_time = Some(time);
        Ok(())
    }

    fn take_opened(&mut self, opening: Opening) -> Result<(), &'static str> {
        let number = self.scopes.len() as u32;
        match opening.owner {
            Some(owner) => {
                let step = self.step_mut(owner).ok_or("there is no such step")?;
                step.more_mut().scopes.push(number);
                if let (Some(index), Some(items)) = (opening.index, &mut step.more_mut().items) {
                    items.begun = items.begun.max(index + 1);
                }
            }
            None if opening.list == ON_FAILURE => self.phase = Phase::AfterFailure,
            None if number > 0 => return Err("its steps were opened before"),
            None => {}
        }
        self.scopes.push(Scope::new(opening));
        Ok(())
    }

    fn take_started(&mut self, at: At, work: Work, time: Time) -> Result<(), &'static str> {
        let step = self.step_mut(at).ok_or("there is no such step")?;
        if step.state != StepState::Pending {
            return Err("the step was begun before");
        }
        step.start(work, time);
        self.scopes[at.scope as usize].open += 1;
        self.count_open(work, 1);
        Ok(())
    }

    fn count_open(&mut self, work: Work, by: i64) {
        let counted = match work {
            Work::Job => &mut self.working,
            Work::Approval | Work::Timer { .. } | Work::Signal { .. } => &mut self.waiting,
            Work::Items { .. } | Work::Group | Work::Groups { .. } => return,
        };
        *counted = u32::try_from(i64::from(*counted) + by).unwrap_or(0);
    }

    fn take_items(&mut self, at: At, count: u32) -> Result<(), &'static str> {
        let items = self.items_mut(at)?;
        if items.begun + count > items.count {
            return Err("there are fewer items");
        }
        items.begun += count;
        self.working += count;
        Ok(())
    }

    fn take_item_ended(&mut self, at: At, index: u32, outcome: &Outcome) -> Result<(), &'static str> {
        let is_job = self.step(at).is_some_and(|step| matches!(step.work, Some(Work::Items { .. })));
        let items = self.items_mut(at)?;
        if index >= items.begun || !items.over.insert(index) {
            return Err("the item is not open");
        }
        if outcome.state != StepState::Succeeded {
            items.failed.insert(index);
        }
        if outcome.is_undoable {
            self.undoable.push((at, Some(index)));
        }
        if is_job {
            self.working = self.working.saturating_sub(1);
        }
        Ok(())
    }

    fn take_ended(&mut self, at: At, outcome: &Outcome, time: Time) -> Result<(), &'static str> {
        let step = self.step_mut(at).ok_or("there is no such step")?;
        let (was_open, work) = (step.is_open(), step.work);
        if step.state.is_over() {
            return Err("the step is over");
        }
        if step.items().is_some_and(|items| items.open() > 0) {
            return Err("items of the step are open");
        }
        step.end(outcome, time);
        let scope = &mut self.scopes[at.scope as usize];
        scope.over += 1;
        if was_open {
            scope.open -= 1;
            if let Some(work) = work {
                self.count_open(work, -1);
            }
        }
        if outcome.is_undoable {
            self.undoable.push((at, None));
        }
        Ok(())
    }

    fn take_signalled(&mut self, signal: &Signal) -> Result<(), &'static str> {
        self.signals.push((self.revision + 1, signal.clone()));
        if !signal.id.is_empty() {
            if self.signal_ids.len() >= crate::limits::SIGNALS_KEPT_MAX {
                self.signal_ids.remove(0);
            }
            self.signal_ids.push(signal.id.clone());
        }
        Ok(())
    }

    fn take_heard(&mut self, signal: u64) -> Result<(), &'static str> {
        let found = self.signals.iter().position(|(seq, _)| *seq == signal);
        self.signals.remove(found.ok_or("there is no such signal")?);
        Ok(())
    }

    fn take_group_closing(&mut self, scope: u32, error: &Trouble) -> Result<(), &'static str> {
        let scope = self.scopes.get_mut(scope as usize).ok_or("there is no such list")?;
        if scope.closing.is_some() {
            return Err("the list is being stopped");
        }
        scope.closing = Some(error.clone());
        Ok(())
    }

    fn take_closing(&mut self, closing: &Closing) -> Result<(), &'static str> {
        if !matches!(self.phase, Phase::Queued | Phase::Going) {
            return Err("it is being ended");
        }
        self.phase = Phase::Closing;
        self.ending = Some(closing.clone());
        Ok(())
    }

    fn take_undo(&mut self, at: At, index: Option<u32>) -> Result<(), &'static str> {
        let is_next = self.undoable.last() == Some(&(at, index)) && self.undoing.is_none();
        if !is_next || !matches!(self.phase, Phase::Closing | Phase::Undoing) {
            return Err("it is not its turn to be undone");
        }
        self.phase = Phase::Undoing;
        self.undoable.pop();
        self.undoing = Some((at, index));
        self.working += 1;
        let step = self.step_mut(at).ok_or("there is no such step")?;
        step.more_mut().undo = Some(StepState::Running);
        Ok(())
    }

    fn take_undone(&mut self, at: At, index: Option<u32>, outcome: &Outcome) -> Result<(), &'static str> {
        if self.undoing.take() != Some((at, index)) {
            return Err("it is not being undone");
        }
        self.working = self.working.saturating_sub(1);
        let state = outcome.state;
        let step = self.step_mut(at).ok_or("there is no such step")?;
        step.more_mut().undo = Some(state);
        Ok(())
    }

    fn take_over(
        &mut self,
        state: RunState,
        error: Option<Trouble>,
        output: Option<Value>,
        time: Time,
    ) -> Result<(), &'static str> {
        let is_open = self.scopes.iter().any(|scope| scope.open > 0);
        let has_to_undo = state != RunState::Succeeded && !self.undoable.is_empty();
        if is_open || self.undoing.is_some() || has_to_undo {
            return Err("steps are open, or have to be undone");
        }
        if let Some(error) = error {
            let actor = self.ending.as_ref().map_or_else(|| "".into(), |ending| ending.actor.clone());
            self.ending = Some(Closing { state, error, actor });
        }
        if self.state_at_end() != state {
            return Err("it is to end otherwise");
        }
        self.phase = Phase::Over;
        self.end_time = Some(time);
        self.output = output;
        self.signals.clear();
        Ok(())
    }

    fn state_at_end(&self) -> RunState {
        self.ending.as_ref().map_or(RunState::Succeeded, |ending| ending.state)
    }

    fn step_mut(&mut self, at: At) -> Option<&mut Step> {
        self.scopes.get_mut(at.scope as usize)?.steps.get_mut(at.place as usize)
    }

    fn items_mut(&mut self, at: At) -> Result<&mut Items, &'static str> {
        let step = self.step_mut(at).ok_or("there is no such step")?;
        step.more.as_mut().and_then(|more| more.items.as_mut()).ok_or("the step has no items")
    }
}
