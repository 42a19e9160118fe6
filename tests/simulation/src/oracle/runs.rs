//! What runs promise: the record is the fold of its history, steps begin when what they need is over, each job is told
//! once, nothing begins in a run that ends but what undoes it, and what was decided is decided so again (I-24 … I-28).

mod known;
mod replay;

use super::Oracle;
use crate::cover::Cover;
use crate::runs::RunWish;
use crate::store::SimStore;
use bytes::Bytes;
use coretex_domain::resource::Kind as ResourceKind;
use coretex_domain::run::{At, Event, Part, Phase, Work};
use coretex_domain::{Job, JobId, JobKey, Resource, Run, RunKey};
use coretex_kernel::dispatcher::LimitKey;
use coretex_ports::{Group, Write};
use coretex_workflow::{Decided, Plan, Site};
use known::{Known, live};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Memory of runs.
#[derive(Default)]
pub(super) struct Runs {
    known: FxHashMap<RunKey, Known>,
    /// Open jobs of runs.
    jobs: FxHashMap<RunKey, BTreeSet<JobKey>>,
    /// Runs that hold a place of their key.
    holders: BTreeMap<LimitKey, BTreeSet<RunKey>>,
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
