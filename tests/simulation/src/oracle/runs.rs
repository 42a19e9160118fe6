//! What runs promise: the record is the fold of its history, steps begin when what they need is over, each job is told
//! once, nothing begins in a run that ends but what undoes it, and what was decided is decided so again (I-24 … I-28).

mod replay;

use super::Oracle;
use crate::cover::Cover;
use crate::runs::RunWish;
use crate::store::SimStore;
use bytes::Bytes;
use coretex_domain::job::StateKind;
use coretex_domain::resource::Kind as ResourceKind;
use coretex_domain::run::body::history_of_body;
use coretex_domain::run::{At, Entry, Event, ON_FAILURE, Outcome, Part, Phase, RunState, StepState, Work};
use coretex_domain::{Job, JobId, JobKey, Resource, Run, RunKey};
use coretex_kernel::dispatcher::LimitKey;
use coretex_ports::{Group, Write};
use coretex_workflow::{Decided, Plan, Site, model::Kind};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Verdict = Result<(), (&'static str, String)>;

fn wrong(promise: &'static str, what: impl Into<String>) -> Verdict {
    Err((promise, what.into()))
}

/// Memory of runs.
#[derive(Default)]
pub(super) struct Runs {
    known: FxHashMap<RunKey, Known>,
    /// Open jobs of runs.
    jobs: FxHashMap<RunKey, BTreeSet<JobKey>>,
    /// Runs that hold a place of their key.
    holders: BTreeMap<LimitKey, BTreeSet<RunKey>>,
}

/// A run, told a second time: from what was committed of its history, entry by entry.
#[derive(Clone)]
struct Known {
    /// With the whole of its history.
    model: Run,
    /// What would have to be undone, by the jobs that succeeded.
    done: Vec<(At, Option<u32>)>,
    /// The first entry that is in the record itself.
    from: u64,
}

/// A group over the store it comes to.
pub(super) struct After<'a> {
    store: &'a SimStore,
    jobs: FxHashMap<JobKey, &'a Arc<Job>>,
    parts: FxHashMap<Arc<str>, &'a Arc<Resource>>,
}

// === impl After ===

impl<'a> After<'a> {
    fn of(store: &'a SimStore, group: &'a Group) -> After<'a> {
        let mut after = After { store, jobs: FxHashMap::default(), parts: FxHashMap::default() };
        for write in &group.writes {
            match write {
                Write::Job { job, .. } if job.of_run().is_some() => {
                    after.jobs.insert(job.key(), job);
                }
                Write::Resource(row) if row.kind == ResourceKind::RunPart => {
                    after.parts.insert(row.name.clone(), row);
                }
                _ => {}
            }
        }
        after
    }

    fn job(&self, run: &Run, path: &str) -> Option<&'a Arc<Job>> {
        let id: JobId = run.id().job(path);
        let key = id.key(&run.plea.namespace);
        self.jobs.get(&key).copied().or_else(|| self.store.jobs.get(&key)).filter(|job| job.id == id)
    }

    /// A job that ends in this group.
    fn ended(&self, run: &Run, path: &str) -> Option<&'a Arc<Job>> {
        let job = self.job(run, path).filter(|job| job.state.kind().is_terminal())?;
        let before = self.store.jobs.get(&job.key());
        before.is_none_or(|old| !old.state.kind().is_terminal()).then_some(job)
    }

    /// A job that is made in this group.
    fn made(&self, run: &Run, path: &str) -> Option<&'a Arc<Job>> {
        self.job(run, path).filter(|job| !self.store.jobs.contains_key(&job.key()))
    }

    fn part(&self, run: &Run, part: &Part) -> Option<Bytes> {
        let here = self.parts.get(&part.name(run.id())).map(|row| row.body.clone());
        here.or_else(|| self.store.part(run, part))
    }
}

// === impl Oracle ===

impl Oracle {
    /// A run is told of: never ahead of its commit, and as it was asked for (I-04, I-05, I-13).
    pub(crate) fn on_run_told(&mut self, wish: &RunWish, run: &Run, store: &SimStore) {
        let id = run.id();
        let Some(stored) = store.run(&run.plea.namespace, id) else {
            return self.violate("I-03", || format!("run {id} was told of and is not in the store"));
        };
        if stored.revision < run.revision {
            let (told, has) = (run.revision, stored.revision);
            self.violate("I-04", || format!("run {id} was told at revision {told}, the store has {has}"));
        }
        let history = self.runs.known.get(&run.key()).map_or(&[][..], |known| &known.model.history);
        let has_signal = |wanted: &Arc<str>| {
            history.iter().any(|one| matches!(&one.event, Event::Signalled(signal) if signal.id == *wanted))
        };
        match wish {
            RunWish::Start(starting) if starting.fingerprint() != stored.plea.fingerprint => {
                self.violate("I-05", || format!("run {id} is another than was asked for"));
            }
            RunWish::Cancel { .. } if stored.ending.is_none() => {
                self.violate("I-13", || format!("run {id} was said to be cancelled and goes on"));
            }
            RunWish::Signal { signal, .. } if !signal.id.is_empty() && !has_signal(&signal.id) => {
                let name = signal.name.clone();
                self.violate("SIGNAL", || format!("signal {name} was taken and run {id} does not have it"));
            }
            _ => {}
        }
    }

    /// Places of keys of runs that were ever held.
    pub(crate) fn run_slots(&self) -> Vec<LimitKey> {
        self.runs.holders.keys().cloned().collect()
    }

    /// `store` is as it was before the group.
    pub(super) fn check_runs(&mut self, store: &SimStore, group: &Group, cover: &mut Cover) {
        let after = After::of(store, group);
        let mut touched: BTreeSet<RunKey> = BTreeSet::new();
        for (key, job) in &after.jobs {
            let Some(run) = job.run() else { continue };
            touched.insert(run);
            let open = self.runs.jobs.entry(run).or_default();
            match job.state.kind().is_terminal() {
                true => open.remove(key),
                false => open.insert(*key),
            };
        }
        for write in &group.writes {
            let Write::Resource(row) = write else { continue };
            if row.kind == ResourceKind::Run {
                match Run::of_resource(row) {
                    Ok(run) => {
                        touched.insert(run.key());
                        self.check_run(&after, run, cover);
                    }
                    Err(what) => self.violate("I-39", || what),
                }
            }
        }
        for key in touched {
            self.check_jobs(key);
        }
    }

    fn check_run(&mut self, after: &After<'_>, run: Run, cover: &mut Cover) {
        let Some(plan) = self.plans.get(&run.plea.workflow).cloned() else { return };
        let key = run.key();
        let known = self.runs.known.remove(&key);
        let mut actors = Vec::new();
        match live(known, after, &plan, &run, cover, &mut actors) {
            Ok(known) => drop(self.runs.known.insert(key, known)),
            Err((promise, what)) => {
                let id = run.id();
                self.violate(promise, || format!("run {id}: {what}"));
            }
        }
        for (actor, did) in actors {
            self.trace_of(&actor, did);
        }
        self.check_place(&run);
    }

    /// Places of concurrency keys are never given twice (I-28).
    fn check_place(&mut self, run: &Run) {
        let Some((slot, limit)) = LimitKey::of_run(&run.plea) else { return };
        let holders = self.runs.holders.entry(slot).or_default();
        match run.phase {
            Phase::Queued | Phase::Over => holders.remove(&run.key()),
            Phase::Going | Phase::Closing | Phase::Undoing | Phase::AfterFailure => holders.insert(run.key()),
        };
        let count = holders.len();
        if count > limit as usize {
            let key = run.plea.concurrency.clone();
            self.violate("I-28", || format!("{count} runs go on with the key {key:?}"));
        }
    }

    /// An open step of a job has an open job, and the other way round (I-25, I-26).
    fn check_jobs(&mut self, key: RunKey) {
        let open = self.runs.jobs.get(&key).cloned().unwrap_or_default();
        let Some(known) = self.runs.known.get(&key) else {
            if !open.is_empty() {
                self.violate("I-25", || format!("jobs of a run that is not there: {open:?}"));
            }
            return;
        };
        let run = &known.model;
        let Some(plan) = self.plans.get(&run.plea.workflow) else { return };
        let wanted: BTreeMap<JobKey, String> = wanted_jobs(plan, run)
            .into_iter()
            .map(|id| (id.key(&run.plea.namespace), id.to_string()))
            .collect();
        let missing = wanted.iter().find(|(job, _)| !open.contains(*job)).map(|(_, id)| id.clone());
        let orphan = open.iter().find(|job| !wanted.contains_key(*job)).copied();
        let id = run.id().clone();
        if let Some(missing) = missing {
            self.violate("I-25", || format!("run {id}: the step of {missing} is open and its job is not"));
        }
        if let Some(orphan) = orphan {
            self.violate("I-26", || {
                format!("run {id}: job {orphan:?} is open and no step of it waits for it")
            });
        }
    }

    /// True if a run waits for a signal nobody is bound to send, and for nothing else.
    pub(crate) fn waits_for_others(&self, run: &Run, store: &SimStore) -> bool {
        let Some(plan) = self.plans.get(&run.plea.workflow) else { return false };
        let after = After { store, jobs: FxHashMap::default(), parts: FxHashMap::default() };
        let is_for_ever = |work: Option<Work>| matches!(work, Some(Work::Signal { due: None }));
        let is_wait = |work: Option<Work>| {
            matches!(work, Some(Work::Signal { .. } | Work::Group | Work::Groups { .. }))
        };
        let can_hear =
            |at: At| matches!(after.decide(plan, run, Site::Hear(at)), Ok(Decided::Heard(Some(_))));
        run.open_steps().any(|(_, step)| is_for_ever(step.work))
            && run.open_steps().all(|(_, step)| is_wait(step.work))
            && !run
                .open_steps()
                .any(|(at, step)| matches!(step.work, Some(Work::Signal { .. })) && can_hear(at))
    }
}

/// The jobs a run has open, by what its record says.
fn wanted_jobs(plan: &Plan, run: &Run) -> Vec<JobId> {
    let mut wanted = Vec::new();
    let mut want = |at: At, index: Option<u32>, is_undo: bool| {
        wanted.push(run.id().job(&plan.job_path(run, at, index, is_undo)));
    };
    for (at, step) in run.open_steps() {
        match (step.work, step.items()) {
            (Some(Work::Job | Work::Approval), _) => want(at, None, false),
            (Some(Work::Items { .. }), Some(items)) => {
                (0..items.begun).filter(|n| items.is_open(*n)).for_each(|n| want(at, Some(n), false));
            }
            _ => {}
        }
    }
    if let Some((at, index)) = run.undoing {
        want(at, index, true);
    }
    wanted
}

/// Takes a run through what is new in its history, and compares what it comes to with the record.
fn live(
    known: Option<Known>,
    after: &After<'_>,
    plan: &Plan,
    run: &Run,
    cover: &mut Cover,
    actors: &mut Vec<(Arc<str>, &'static str)>,
) -> Result<Known, (&'static str, String)> {
    let is_new = known.is_none();
    let history = whole_history(after, run, known.as_ref())?;
    let Some(first) = history.first() else { return Err(("I-17", "it has no history".into())) };
    let mut known = known.unwrap_or_else(|| Known {
        model: Run::made(run.plea.clone(), first.time),
        done: Vec::new(),
        from: 1,
    });
    known.from = run.history.first().map_or(1, |entry| entry.seq);
    if is_new {
        cover.runs += 1;
        cover.runs_queued += u64::from(run.phase == Phase::Queued);
        actors.push((run.plea.actor.clone(), "started a run"));
        if first != &known.model.history[0] {
            return Err(("I-17", format!("it begins with {first:?}")));
        }
    }
    let old = known.model.history.len();
    for (n, entry) in history.iter().enumerate() {
        if n < old && known.model.history[n] != *entry {
            return Err(("I-17", format!("its past was changed: {entry:?}")));
        }
        if entry.seq != n as u64 + 1 {
            return Err(("I-17", format!("entry {} stands at place {}", entry.seq, n + 1)));
        }
        if n >= old {
            if entry.time < known.model.update_time {
                return Err(("I-22", format!("history goes back in time: {entry:?}")));
            }
            known.check(after, plan, entry, cover, actors)?;
            known
                .model
                .apply(entry.time, entry.event.clone())
                .map_err(|unfit| ("I-27", unfit.to_string()))?;
        }
    }
    if run.revision != history.len() as u64 {
        return Err(("I-17", format!("revision {} with {} entries", run.revision, history.len())));
    }
    if !known.model.stands_as(run) || known.model.plea != run.plea {
        return Err(("I-27", format!("the record is not the fold of its history: {run:?}")));
    }
    known.check_rest(plan, run)?;
    if run.is_over() {
        let folded = Run::fold(run.plea.clone(), &history).map_err(|unfit| ("I-27", unfit.to_string()))?;
        if !folded.stands_as(run) {
            return Err(("I-27", "all of its history gives another run".into()));
        }
    }
    Ok(known)
}

/// All entries: those in parts first. Parts that were read before are read again when the run is over.
fn whole_history(
    after: &After<'_>,
    run: &Run,
    known: Option<&Known>,
) -> Result<Vec<Entry>, (&'static str, String)> {
    let from = run.history.first().map_or(1, |entry| entry.seq);
    let before = (from - 1) as usize;
    let mut whole = Vec::with_capacity(before + run.history.len());
    match known.filter(|known| known.from == from && !run.is_over()) {
        Some(known) => whole.extend(known.model.history.iter().take(before).cloned()),
        None => {
            for piece in 0..before.div_ceil(coretex_domain::limits::RUN_PIECE) as u64 {
                let body = after.part(run, &Part::History(piece));
                let body = body.ok_or_else(|| ("I-27", format!("piece {piece} of its history is gone")))?;
                whole.extend(history_of_body(&body).map_err(|what| ("I-39", what))?);
            }
        }
    }
    whole.extend(run.history.iter().cloned());
    Ok(whole)
}

// === impl Known: may this happen now? ===

impl Known {
    fn check(
        &mut self,
        after: &After<'_>,
        plan: &Plan,
        entry: &Entry,
        cover: &mut Cover,
        actors: &mut Vec<(Arc<str>, &'static str)>,
    ) -> Verdict {
        match &entry.event {
            Event::Made { .. } => wrong("I-02", "made twice"),
            Event::Began | Event::UndoEnded { .. } => self.check_undone(after, plan, &entry.event),
            Event::Opened(opening) => self.check_opened(plan, opening.owner, opening.index),
            Event::Started { at, work } => {
                cover.steps += 1;
                self.may_begin(at.scope)?;
                self.needs_are_over(plan, *at)?;
                after.replays_begin(plan, &self.model, *at, *work, entry.time)
            }
            Event::ItemsStarted { at, count } => {
                cover.run_items += u64::from(*count);
                self.may_begin(at.scope)?;
                self.check_window(plan, *at, *count)?;
                after.replays_items(plan, &self.model, *at, *count, entry.time)
            }
            Event::ItemEnded { at, index, outcome } => {
                if self.work_of(*at).is_some_and(|work| matches!(work, Work::Items { .. })) {
                    self.job_ended(after, plan, *at, Some(*index), outcome)?;
                }
                Ok(())
            }
            Event::Ended { at, outcome } => self.check_ended(after, plan, *at, outcome, entry),
            Event::Signalled(signal) => {
                actors.push((signal.actor.clone(), "sent a signal"));
                Ok(())
            }
            Event::Heard { at, signal } => {
                cover.signals += 1;
                self.check_heard(after, plan, *at, *signal)
            }
            Event::GroupClosing { .. } => Ok(()),
            Event::Closing(closing) => {
                actors.push((closing.actor.clone(), "cancelled a run"));
                cover.runs_taken += u64::from(&*closing.error.message == coretex_kernel::TAKEN);
                let is_early = self.model.plea.deadline.is_none_or(|at| entry.time < at);
                match closing.state == RunState::TimedOut && is_early {
                    true => wrong("I-21", "timed out before its time"),
                    false => Ok(()),
                }
            }
            Event::UndoStarted { at, index } => {
                cover.undone += 1;
                match self.done.pop() {
                    Some(last) if last == (*at, *index) => Ok(()),
                    other => wrong("I-26", format!("{at:?} {index:?} is undone, the last done is {other:?}")),
                }
            }
            Event::Over { state, output, .. } => {
                cover.run_ended(*state);
                if *state != RunState::Succeeded && !self.done.is_empty() {
                    return wrong("I-26", format!("over as {state} with {:?} not undone", self.done));
                }
                match output {
                    Some(output) => after.replays_output(plan, &self.model, output, entry.time),
                    None => Ok(()),
                }
            }
        }
    }

    fn work_of(&self, at: At) -> Option<Work> {
        self.model.step(at).and_then(|step| step.work)
    }

    /// In a run that ends nothing begins but what undoes it, and what is done after a failure (I-26).
    fn may_begin(&self, scope: u32) -> Verdict {
        let mut root = self.model.scope(scope);
        while let Some(one) = root.filter(|one| one.owner.is_some()) {
            if one.closing.is_some() {
                return wrong("I-26", "a step began in a group that is being stopped");
            }
            root = one.owner.and_then(|owner| self.model.scope(owner.scope));
        }
        let is_after_failure = root.is_some_and(|one| one.list == ON_FAILURE);
        let is_cancelled = self.model.ending.as_ref().is_some_and(|e| e.state == RunState::Cancelled);
        let may = match (&self.model.ending, is_after_failure) {
            (None, after) => !after && self.model.phase == Phase::Going,
            (Some(_), after) => after && !is_cancelled && self.done.is_empty(),
        };
        if may { Ok(()) } else { wrong("I-26", format!("a step began in phase {:?}", self.model.phase)) }
    }

    fn needs_are_over(&self, plan: &Plan, at: At) -> Verdict {
        let (Some(planned), Some(scope)) = (plan.step(&self.model, at), self.model.scope(at.scope)) else {
            return wrong("I-24", format!("there is no step {at:?}"));
        };
        let open = planned.needs.iter().find(|need| !scope.steps[**need as usize].state.is_over());
        match open {
            Some(need) => {
                wrong("I-24", format!("step {} began before its need {need} was over", planned.id()))
            }
            None => Ok(()),
        }
    }

    fn check_opened(&self, plan: &Plan, owner: Option<At>, index: Option<u32>) -> Verdict {
        let Some(owner) = owner else { return Ok(()) };
        self.may_begin(owner.scope)?;
        match index {
            Some(_) => self.check_window(plan, owner, 1),
            None => Ok(()),
        }
    }

    /// So many items at a time, and none after one that fails the step.
    fn check_window(&self, plan: &Plan, at: At, count: u32) -> Verdict {
        let (Some(planned), Some(items)) =
            (plan.step(&self.model, at), self.model.step(at).and_then(|step| step.items()))
        else {
            return wrong("I-24", format!("{at:?} has no items"));
        };
        if items.open() + count > planned.max_parallel() {
            let (open, most) = (items.open(), planned.max_parallel());
            return wrong("WINDOW", format!("{count} more items with {open} open, at most {most} may be"));
        }
        match planned.fails_with_item() && !items.failed.is_empty() {
            true => wrong("WINDOW", "an item began after one failed that fails its step"),
            false => Ok(()),
        }
    }

    fn check_ended(
        &mut self,
        after: &After<'_>,
        plan: &Plan,
        at: At,
        outcome: &Outcome,
        entry: &Entry,
    ) -> Verdict {
        let Some(step) = self.model.step(at).cloned() else { return Ok(()) };
        if step.state == StepState::Pending {
            self.may_begin(at.scope)?;
            self.needs_are_over(plan, at)?;
            return after.replays_refusal(plan, &self.model, at, outcome.state, entry.time);
        }
        let succeeded = outcome.state == StepState::Succeeded;
        match step.work {
            Some(Work::Job | Work::Approval) => self.job_ended(after, plan, at, None, outcome),
            Some(Work::Timer { due }) if succeeded && entry.time < due => {
                wrong("I-21", format!("the time of {at:?} came {:?} early", due.since(entry.time)))
            }
            Some(Work::Signal { due }) if outcome.state == StepState::Failed => {
                let is_expression = outcome.error.as_ref().is_some_and(|e| e.kind.starts_with("EXPRESSION"));
                match is_expression || due.is_some_and(|due| entry.time >= due) {
                    true => Ok(()),
                    false => wrong("I-21", format!("the wait of {at:?} was given up early")),
                }
            }
            _ => Ok(()),
        }
    }

    /// The end of a job is told to its run in the same commit, once, and as it was (I-25).
    fn job_ended(
        &mut self,
        after: &After<'_>,
        plan: &Plan,
        at: At,
        index: Option<u32>,
        outcome: &Outcome,
    ) -> Verdict {
        let path = plan.job_path(&self.model, at, index, false);
        let Some(job) = after.ended(&self.model, &path) else {
            return wrong("I-25", format!("{path} ended as {:?} and its job did not", outcome.state));
        };
        let wanted = match job.state.kind() {
            StateKind::Succeeded => StepState::Succeeded,
            StateKind::Cancelled => StepState::Cancelled,
            _ => StepState::Failed,
        };
        if outcome.state != wanted {
            return wrong("I-25", format!("{path} ended as {:?}, its job as {:?}", outcome.state, wanted));
        }
        let is_undoable = plan.step(&self.model, at).is_some_and(|planned| planned.step.compensate.is_some());
        if wanted == StepState::Succeeded && is_undoable {
            self.done.push((at, index));
        }
        Ok(())
    }

    fn check_undone(&self, after: &After<'_>, plan: &Plan, event: &Event) -> Verdict {
        let Event::UndoEnded { at, index, outcome } = event else { return Ok(()) };
        let path = plan.job_path(&self.model, *at, *index, true);
        // Where there was nothing to undo it with, there is no job.
        match after.job(&self.model, &path) {
            Some(_) if after.ended(&self.model, &path).is_none() => {
                wrong("I-25", format!("{path} ended as {:?} and its job did not", outcome.state))
            }
            _ => Ok(()),
        }
    }

    fn check_heard(&self, after: &After<'_>, plan: &Plan, at: At, signal: u64) -> Verdict {
        let found = self.model.signals.iter().find(|(seq, _)| *seq == signal);
        let name = plan.step(&self.model, at).and_then(|planned| match &planned.step.kind {
            Kind::WaitEvent(wait) => Some(wait.name.clone()),
            _ => None,
        });
        if found.map(|(_, signal)| &signal.name) != name.as_ref() {
            return wrong("SIGNAL", format!("{at:?} waits for {name:?} and got {found:?}"));
        }
        match after.decide(plan, &self.model, Site::Hear(at)) {
            Ok(Decided::Heard(Some(first))) if first == signal => Ok(()),
            other => wrong("I-27", format!("{at:?} got signal {signal}, its match gives {other:?}")),
        }
    }

    /// A step that takes any signal of a name does not wait while there is one.
    fn check_rest(&self, plan: &Plan, run: &Run) -> Verdict {
        for (at, step) in run.open_steps() {
            let Some(Work::Signal { .. }) = step.work else { continue };
            let Some(Kind::WaitEvent(wait)) = plan.step(run, at).map(|planned| &planned.step.kind) else {
                continue;
            };
            if wait.matching.is_none() && run.signals.iter().any(|(_, signal)| signal.name == wait.name) {
                return wrong("SIGNAL", format!("{at:?} waits for {}, which is there", wait.name));
            }
        }
        Ok(())
    }
}
