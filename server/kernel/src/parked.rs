//! Parked jobs: those that wait for a slot or a start of a key, outside of their queues until it may be had.
//!
//! A list per key, and in it one per class, in order of place. While a limit is free, each class with parked jobs has
//! one of them in its queue: that one brings the next when it leaves. So no class waits for another that nobody serves.

use crate::View;
use crate::dispatcher::{Holder, LimitKey};
use crate::limits::{LimitKind, own_slot, rule_slot};
use crate::mutant::Mutant;
use crate::path::dispatch::rate_of;
use crate::ready::Waiting;
use crate::view::ClassNo;
use coretex_domain::job::State;
use coretex_domain::{Job, JobKey};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};

/// Jobs of a class that return to the queue per freed slot or due start; the rest stay parked behind them.
const UNPARK_MAX: usize = 64;

/// Everything that is parked in a loop.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    behind: FxHashMap<LimitKey, BTreeMap<ClassNo, BTreeSet<(u64, JobKey)>>>,
}

impl Parked {
    pub(crate) fn len(&self) -> usize {
        self.behind.values().flat_map(BTreeMap::values).map(BTreeSet::len).sum()
    }

    pub(crate) fn park(&mut self, key: LimitKey, class: ClassNo, waiting: Waiting) {
        let behind = self.behind.entry(key).or_default().entry(class).or_default();
        behind.insert((waiting.place, waiting.key));
    }

    /// The key a job is parked behind, if it is.
    pub(crate) fn limit_of(&self, job: &Job) -> Option<&LimitKey> {
        let at = (job.place, job.key());
        let has_it =
            |lists: &BTreeMap<ClassNo, BTreeSet<(u64, JobKey)>>| lists.values().any(|l| l.contains(&at));
        self.behind.iter().find(|(_, lists)| has_it(lists)).map(|(key, _)| key)
    }

    fn take_first(&mut self, key: &LimitKey, class: ClassNo) -> Option<(u64, JobKey)> {
        let lists = self.behind.get_mut(key)?;
        let list = lists.get_mut(&class)?;
        let first = list.pop_first();
        if list.is_empty() {
            lists.remove(&class);
        }
        if lists.is_empty() {
            self.behind.remove(key);
        }
        first
    }

    fn classes(&self, key: &LimitKey) -> Vec<ClassNo> {
        self.behind.get(key).map(|lists| lists.keys().copied().collect()).unwrap_or_default()
    }
}

/// A slot or start of a key may be had: some jobs of each class come back to their places, and bring those behind
/// them as they leave the queue.
pub(crate) fn unpark(view: &mut View, key: &LimitKey) {
    for class in view.parked.classes(key) {
        revive(view, key, class, UNPARK_MAX);
    }
}

/// A job has left the queue, started or not: the next one parked behind its keys takes its turn there. Without it
/// the rest would wait for a slot or start that nobody is going to free.
pub(crate) fn revive_behind(view: &mut View, class: ClassNo, job: &Job) {
    if view.parked.behind.is_empty() || view.is_planted(Mutant::ParkedForgotten) {
        return;
    }
    let slot = own_slot(job, 0).map(|(key, _)| key);
    let rate = rate_of(view, job).map(|(key, _)| key);
    let rule = rule_slot(job, 0).map(|slot| slot.0);
    for key in [slot, rate, rule].into_iter().flatten() {
        revive(view, &key, class, 1);
    }
}

/// A job that misses another limit does not need its turn at the slots of its rule: the next one there gets it.
pub(crate) fn pass_on(view: &mut View, class: ClassNo, rule: Option<&(LimitKey, Holder)>) {
    if let Some((key, _)) = rule {
        revive(view, key, class, 1);
    }
}

/// The policy changed: what waits for a slot of a rule is judged again before it waits on.
pub(crate) fn revive_rules(view: &mut View) {
    let is_rule = |key: &&LimitKey| matches!(key.kind(), LimitKind::Rule(_));
    let mut rules: Vec<LimitKey> = view.parked.behind.keys().filter(is_rule).cloned().collect();
    rules.sort_unstable();
    for key in rules {
        for class in view.parked.classes(&key) {
            revive(view, &key, class, usize::MAX);
        }
    }
}

fn revive(view: &mut View, key: &LimitKey, class: ClassNo, most: usize) {
    let mut revived = 0;
    while revived < most {
        let Some((place, job_key)) = view.parked.take_first(key, class) else { break };
        let Some(job) = view.job(job_key).cloned() else { continue };
        if matches!(job.state, State::Scheduled) && job.place == place {
            view.push_ready(class, &job, job_key);
            revived += 1;
        }
    }
}
