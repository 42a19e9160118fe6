//! What asking promises: one answer per question, children made once and bound as was said, no budget given twice.

use super::Oracle;
use crate::cover::Cover;
use crate::store::SimStore;
use crate::wire::Question;
use coretex_domain::job::StateKind;
use coretex_domain::receipt::{Dimension, Receipt, Spawned, Told};
use coretex_domain::{Job, JobId, JobKey, Reason};
use coretex_ports::{Group, Write};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeSet;
use std::sync::Arc;

const PROMISE: &str = "FAMILY";
const SPAWNS_MAX: usize = 256;
const DEPTH_MAX: u32 = 32;
const BOUND_MAX: usize = 4_096;
/// Who cancels what ends with its parent.
const ACTOR: &str = "system:parent";

/// Memory of families.
#[derive(Default)]
pub(super) struct Kin {
    /// What was spawned under each name of each job.
    names: FxHashMap<(JobKey, Arc<str>), Vec<JobId>>,
    /// Answers, by job, lease and number.
    told: FxHashMap<(JobKey, u32, u64), Told>,
    /// Open jobs that end with their parent.
    bound: FxHashMap<JobKey, BTreeSet<JobKey>>,
    /// Tokens that jobs gave to their children and did not get back.
    lent: FxHashMap<JobKey, u64>,
}

/// A group over the store it comes to. Only jobs that are of a family are looked at here.
struct After<'a> {
    store: &'a SimStore,
    jobs: FxHashMap<JobKey, &'a Arc<Job>>,
    /// In the order in which they are written.
    order: Vec<JobKey>,
}

// === impl After ===

impl<'a> After<'a> {
    fn of(store: &'a SimStore, group: &'a Group) -> After<'a> {
        let (mut jobs, mut order) = (FxHashMap::default(), Vec::new());
        for write in &group.writes {
            if let Write::Job { job, .. } = write
                && job.family().is_some()
                && jobs.insert(job.key(), job).is_none()
            {
                order.push(job.key());
            }
        }
        After { store, jobs, order }
    }

    fn job(&self, key: JobKey) -> Option<&'a Arc<Job>> {
        self.jobs.get(&key).copied().or_else(|| self.store.jobs.get(&key))
    }

    fn open(&self, key: JobKey) -> Option<&'a Arc<Job>> {
        self.job(key).filter(|job| !job.state.kind().is_terminal())
    }

    /// Each job of the group with what the store has of it.
    fn each(&self) -> impl Iterator<Item = (JobKey, &'a Arc<Job>, Option<&'a Arc<Job>>)> {
        self.order.iter().filter_map(|key| Some((*key, *self.jobs.get(key)?, self.store.jobs.get(key))))
    }

    /// Jobs that end in this group.
    fn ends(&self) -> impl Iterator<Item = (JobKey, &'a Arc<Job>)> {
        let is_end = |old: Option<&Arc<Job>>| old.is_none_or(|old| !old.state.kind().is_terminal());
        self.each()
            .filter(move |(_, job, old)| job.state.kind().is_terminal() && is_end(*old))
            .map(|(key, job, _)| (key, job))
    }
}

fn parent_of(job: &Job) -> Option<JobKey> {
    job.family().filter(|family| family.depth > 0)?;
    let parent = JobId::parse(job.spec.options().parent_job_id.as_deref()?).ok()?;
    Some(parent.key(&job.namespace))
}

fn root_of(job: &Job) -> Option<&JobId> {
    job.family()?.root.as_ref()
}

fn borrowed(job: &Job) -> u64 {
    job.family().map_or(0, |family| family.borrowed.tokens)
}

fn used(job: &Job) -> u64 {
    job.rare().usage.as_ref().map_or(0, |used| used.tokens_in + used.tokens_out)
}

/// The tokens a job may use: its own limit, lowered by its rule.
pub(super) fn limit_of(job: &Job) -> Option<u64> {
    let own = job.spec.options().budget.max_tokens;
    let ruled = job.decision.as_ref().and_then(|d| d.constraints()).and_then(|c| c.budgets.max_tokens);
    own.into_iter().chain(ruled).min()
}

// === impl Oracle ===

impl Oracle {
    /// `store` is as it was before the group.
    pub(super) fn check_families(&mut self, store: &SimStore, group: &Group, cover: &mut Cover) {
        for write in &group.writes {
            if let Write::Job { job, .. } = write {
                self.check_reserve(store.jobs.get(&job.key()), job);
            }
        }
        let after = After::of(store, group);
        if after.order.is_empty() {
            return;
        }
        let mut born = FxHashSet::default();
        for (key, job, old) in after.each() {
            self.check_spawns(&after, key, job, old.map(|old| &**old), &mut born, cover);
        }
        for (key, job, old) in after.each() {
            let is_retry = job.rare().retry_of.is_some();
            if old.is_none() && parent_of(job).is_some() && !is_retry && !born.contains(&key) {
                self.violate(PROMISE, || format!("job {} was made and nobody spawned it", job.id));
            }
            self.check_stop(&after, job, old.map(|old| &**old), cover);
        }
        self.check_ends(&after);
        self.check_loans(&after);
    }

    /// An attempt may set aside what is left, and its end frees that.
    fn check_reserve(&mut self, old: Option<&Arc<Job>>, job: &Arc<Job>) {
        let rare = job.rare();
        let (reserved, id) = (rare.reserved.tokens, &job.id);
        if !rare.reserved.is_empty() && job.state.lease().is_none() {
            self.violate("BUDGET", || format!("job {id} holds {reserved} tokens without an attempt"));
        }
        let held = |job: &Job| job.rare().reserved.tokens + job.lent().tokens;
        let before = old.map_or(0, |old| held(old));
        if let Some(limit) = limit_of(job).filter(|_| held(job) > before) {
            // What was used meanwhile may have come out of what was set aside.
            let (held, used) = (held(job), old.map_or(0, |old| used(old)));
            if held + used > limit {
                self.violate("BUDGET", || {
                    format!("job {id} has {used} tokens used and {held} given away of {limit}")
                });
            }
        }
    }

    fn check_spawns(
        &mut self,
        after: &After<'_>,
        key: JobKey,
        job: &Arc<Job>,
        old: Option<&Job>,
        born: &mut FxHashSet<JobKey>,
        cover: &mut Cover,
    ) {
        let spawns = job.family().map_or(&[][..], |family| &family.spawns);
        let earlier = old.and_then(Job::family).map_or(&[][..], |family| &family.spawns);
        let id = &job.id;
        if !spawns.starts_with(earlier) || spawns.len() > SPAWNS_MAX {
            return self.violate(PROMISE, || format!("job {id}: {} spawns after {earlier:?}", spawns.len()));
        }
        let fresh = &spawns[earlier.len()..];
        // Under a lease that was committed before, and is not being cancelled.
        let may = old.is_some_and(|old| old.state.lease().is_some() && !old.is_cancel_requested());
        if !fresh.is_empty() && !may {
            self.violate(PROMISE, || format!("job {id} made jobs without an attempt"));
        }
        for spawn in fresh {
            let ids = spawn.child_ids(&job.namespace, id);
            cover.spawned += ids.len() as u64;
            let mut given = 0;
            for child in &ids {
                born.insert(child.key(&job.namespace));
                given += self.check_birth(after, key, job, child);
            }
            *self.kin.lent.entry(key).or_default() += given;
            let name = (key, spawn.name.clone());
            if let Some(first) = self.kin.names.insert(name, ids) {
                self.violate(PROMISE, || format!("job {id} made `{}` twice, at first {first:?}", spawn.name));
            }
        }
    }

    /// A child as it was made: in one commit with its spawn, for the first time. What it was given.
    fn check_birth(&mut self, after: &After<'_>, key: JobKey, parent: &Job, id: &JobId) -> u64 {
        let child_key = id.key(&parent.namespace);
        let child = after.jobs.get(&child_key).filter(|_| !after.store.jobs.contains_key(&child_key));
        let Some(child) = child else {
            self.violate(PROMISE, || format!("child {id} of {} was not made with its spawn", parent.id));
            return 0;
        };
        let depth = child.depth();
        let top = if parent.depth() == 0 { Some(&parent.id) } else { root_of(parent) };
        if top.is_none() || root_of(child) != top {
            self.violate(PROMISE, || format!("child {id} has {:?} above it all", root_of(child)));
        }
        if parent_of(child) != Some(key) || depth != parent.depth() + 1 || depth > DEPTH_MAX {
            self.violate(PROMISE, || format!("child {id} is {depth} deep, its parent {}", parent.depth()));
        }
        if child.submitter() != parent.submitter() {
            self.violate(PROMISE, || format!("child {id} stands for {:?}", child.submitter()));
        }
        let (given, own) = (borrowed(child), child.spec.options().budget.max_tokens);
        let wanted = limit_of(parent).and(own).unwrap_or(0);
        if given != wanted {
            self.violate("BUDGET", || format!("child {id} was given {given} of its {own:?} tokens"));
        }
        if child.family().is_some_and(|family| family.closes_with_parent) {
            self.kin.bound.entry(key).or_default().insert(child_key);
            let together = self.bound_together(after, key);
            if together > BOUND_MAX {
                self.violate(PROMISE, || format!("{together} jobs end with one"));
            }
        }
        given
    }

    /// Open jobs that end with the outermost job above.
    fn bound_together(&self, after: &After<'_>, key: JobKey) -> usize {
        let is_bound = |job: &&Arc<Job>| job.family().is_some_and(|family| family.closes_with_parent);
        let mut top = key;
        while let Some(above) = after.open(top).filter(is_bound).and_then(|job| parent_of(job)) {
            top = above;
        }
        let (mut to_visit, mut count) = (vec![top], 0);
        while let Some(next) = to_visit.pop() {
            let children = self.kin.bound.get(&next).into_iter().flatten();
            let open = children.filter(|child| after.open(**child).is_some());
            open.for_each(|child| {
                count += 1;
                to_visit.push(*child);
            });
        }
        count
    }

    /// We stop a child if and only if its parent did not succeed.
    fn check_stop(&mut self, after: &After<'_>, job: &Arc<Job>, old: Option<&Job>, cover: &mut Cover) {
        let by_us = |job: &Job| job.rare().cancel.as_ref().is_some_and(|cancel| &*cancel.actor == ACTOR);
        if !by_us(job) || old.is_some_and(by_us) {
            return;
        }
        cover.closed_with_parent += 1;
        let state = parent_of(job).and_then(|key| after.job(key)).map(|parent| parent.state.kind());
        let is_bound = job.family().is_some_and(|family| family.closes_with_parent);
        if !is_bound || state.is_none_or(|state| !state.is_terminal() || state == StateKind::Succeeded) {
            self.violate(PROMISE, || {
                format!("job {} was stopped for its parent, which is {state:?}", job.id)
            });
        }
    }

    fn check_ends(&mut self, after: &After<'_>) {
        for (key, job) in after.ends() {
            if let Some(siblings) = parent_of(job).and_then(|parent| self.kin.bound.get_mut(&parent)) {
                siblings.remove(&key);
            }
        }
        for (key, job) in after.ends() {
            let children = self.kin.bound.remove(&key).unwrap_or_default();
            if job.state.kind() == StateKind::Succeeded {
                continue;
            }
            let goes_on = |child: &JobKey| after.open(*child).filter(|job| !job.is_cancel_requested());
            if let Some(child) = children.iter().find_map(goes_on) {
                let state = job.state.kind().name();
                self.violate(PROMISE, || format!("child {} goes on, {} ended {state}", child.id, job.id));
            }
        }
    }

    /// What children did not use is their parent's again, and nothing else is.
    fn check_loans(&mut self, after: &After<'_>) {
        let mut owners: Vec<JobKey> = after.order.clone();
        for (_, job) in after.ends() {
            let Some(parent) = parent_of(job).filter(|parent| after.open(*parent).is_some()) else {
                continue;
            };
            let unused = borrowed(job).saturating_sub(used(job)).saturating_sub(job.lent().tokens);
            let lent = self.kin.lent.entry(parent).or_default();
            *lent = lent.saturating_sub(unused);
            owners.push(parent);
        }
        for key in owners {
            let Some(job) = after.open(key) else { continue };
            let (ours, theirs) = (self.kin.lent.get(&key).copied().unwrap_or(0), job.lent().tokens);
            if ours != theirs {
                self.violate("BUDGET", || {
                    format!("job {} says {theirs} tokens are with its children, {ours} are", job.id)
                });
            }
        }
    }

    /// A node answers a question: it is written down, and the same for ever.
    pub(crate) fn on_told(
        &mut self,
        job: &Job,
        ask_id: u64,
        question: &Question,
        answer: &Result<Told, Reason>,
        store: &SimStore,
    ) {
        let Some(serial) = job.state.lease().map(|lease| lease.serial) else { return };
        let told = match answer {
            Ok(told) => told,
            Err(reason) => return self.check_refused(job, question, *reason, store),
        };
        let name = Receipt::name(&job.id, serial, ask_id);
        let written = store.receipts.get(&name).and_then(|row| Receipt::of(row));
        if written.is_none_or(|written| written.told != *told) {
            self.violate("I-04", || format!("ask {name} was answered ahead of its receipt"));
        }
        let first = self.kin.told.entry((job.key(), serial, ask_id)).or_insert_with(|| told.clone());
        if first != told {
            let first = format!("{first:?}");
            self.violate(PROMISE, || format!("ask {name} was told {first} and then {told:?}"));
        }
        match told {
            Told::Spawned(spawned) => self.check_spawned(job, spawned, store),
            Told::Grant(grant) => {
                let is_whole = grant.granted == grant.asked || grant.granted == 0;
                if !is_whole || grant.dimension != Dimension::Tokens {
                    self.violate("BUDGET", || format!("ask {name} was granted {grant:?}"));
                }
            }
            Told::Ruling(_) | Told::Secrets(_) => {
                self.violate(PROMISE, || format!("nobody asked for that: {name} was told {told:?}"));
            }
        }
    }

    fn check_spawned(&mut self, job: &Job, spawned: &Spawned, store: &SimStore) {
        let (id, name) = (&job.id, &spawned.name);
        if self.kin.names.get(&(job.key(), name.clone())) != Some(&spawned.jobs) {
            self.violate(PROMISE, || format!("job {id}: `{name}` was told to be other jobs than were made"));
        }
        if spawned.jobs.iter().any(|child| !store.jobs.contains_key(&child.key(&job.namespace))) {
            self.violate("I-03", || format!("job {id}: `{name}` was told of and is not in the store"));
        }
    }

    /// Too many are too many only at the limits.
    fn check_refused(&mut self, job: &Job, question: &Question, reason: Reason, store: &SimStore) {
        let (Reason::TooMany, Question::Spawn(brood)) = (reason, question) else { return };
        let spawns = store.jobs.get(&job.key()).and_then(|job| job.family());
        let spawns = spawns.map_or(&[][..], |family| &family.spawns);
        let made: usize = spawns.iter().map(|spawn| spawn.count as usize).sum();
        let is_right = spawns.len() >= SPAWNS_MAX
            || job.depth() >= DEPTH_MAX
            || (brood.close_with_parent && made + brood.specs.len() > BOUND_MAX);
        if !is_right {
            let (id, depth) = (&job.id, job.depth());
            self.violate(PROMISE, || format!("job {id}, {depth} deep, may make no more after {spawns:?}"));
        }
    }
}
