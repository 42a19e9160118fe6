//! What every commit must keep: legality, one terminal, fences, keys, dead letters, slots.

use super::Oracle;
use super::life::{Life, Setting};
use crate::cover::Cover;
use crate::store::SimStore;
use coretex_domain::JobKey;
use coretex_domain::job::{Close, Event, EventKind, Job, StateKind, machine};
use coretex_ports::{Group, Write};
use std::sync::Arc;

/// After a change of settings, leases that were decided before it may still arrive.
const SETTLE_MS: u64 = 90_000;

impl Oracle {
    /// `store` is as it was before.
    pub(crate) fn on_commit(&mut self, store: &SimStore, group: &Group, cover: &mut Cover, now: u64) {
        if group.epoch != store.epoch {
            let (ours, newest) = (group.epoch, store.epoch);
            self.violate("I-18", || format!("a group of epoch {ours} was taken in epoch {newest}"));
        }
        for write in &group.writes {
            match write {
                Write::Topic(row) => self.rows.entry(row.name.clone()).or_default().push((now, row.clone())),
                Write::Key(row) => {
                    let other = store.keys.get(&row.key).filter(|old| old.job_id != row.job_id);
                    if let Some(other) = other {
                        let (old, new) = (other.job_id.clone(), row.job_id.clone());
                        self.violate("I-05", || format!("key {} named {old} and is given to {new}", row.key));
                    }
                }
                Write::DeadLetter(letter) => {
                    self.check_letter(store, group, letter.job_id.key(&letter.namespace))
                }
                Write::Job { .. }
                | Write::DeadLetterEnd { .. }
                | Write::Session(_)
                | Write::SessionEnd(_)
                | Write::Secret(..)
                | Write::Resource(_)
                | Write::ResourceEnd(_)
                | Write::Output { .. } => {}
            }
        }
        self.check_approvals(store, group);
        self.check_families(store, group, cover);
        self.check_runs(store, group, cover);
        // A job may be written more than once in a group: each write stands on the one before.
        let mut written: Vec<&Arc<Job>> = Vec::new();
        for write in &group.writes {
            if let Write::Job { job, fresh } = write {
                let earlier = written.iter().rev().find(|w| w.key() == job.key()).copied();
                let old = earlier.or_else(|| store.jobs.get(&job.key())).cloned();
                written.push(job);
                self.check_job(old.as_deref(), job, *fresh as usize, cover);
                self.check_rows(store, group, old.as_deref(), job);
                self.count_leases(old.as_deref(), job, now);
            }
        }
    }

    fn check_job(&mut self, old: Option<&Job>, job: &Arc<Job>, fresh: usize, cover: &mut Cover) {
        let id = &job.id;
        let len = job.history.len();
        let before = old.map_or(0, |o| o.history.len());
        if before + fresh != len || job.revision != len as u64 {
            let revision = job.revision;
            return self.violate("I-01", || {
                format!("job {id}: {before} entries + {fresh} fresh ≠ {len}, revision {revision}")
            });
        }
        if old.is_some_and(|o| o.history[..] != job.history[..before]) {
            return self.violate("I-17", || format!("job {id}: its past was changed"));
        }
        if !job.is_fold_of_history() {
            return self.violate("I-17", || format!("job {id}: the record is not the fold of its history"));
        }
        self.check_after_end(old, job);
        let mut life = self.lives.remove(&job.key()).unwrap_or_default();
        let open_before = old.and_then(|o| o.state.lease()).map(|l| l.serial);
        let rows = self.rows.get(&job.spec.topic).map_or(&[][..], |rows| rows.as_slice());
        let caps = [old.and_then(Job::constraints), job.constraints()];
        let lived = live_through(&mut life, old, &Setting { job, rows, caps }, cover);
        match lived {
            Err((promise, what)) => return self.violate(promise, || format!("job {id}: {what}")),
            Ok(traces) => traces.iter().for_each(|(actor, did)| self.trace_of(actor, did)),
        }
        self.check_expiry_of(old, job);
        self.check_budget(old, job, &job.history[before..]);
        self.count_rule(old, job);
        self.compare(&life, job);
        self.check_result(&life, open_before, old, job);
        self.lives.insert(job.key(), life);
    }

    /// A request that was refused must leave no trace (I-04).
    pub(super) fn trace_of(&mut self, actor: &str, did: &str) {
        let Some(exec) = actor.strip_prefix('e').and_then(|n| n.parse::<u64>().ok()) else { return };
        let known = self.execs.entry(exec).or_default();
        known.traces += 1;
        if known.was_denied {
            self.violate("I-04", || format!("request e{exec} was refused and then {did}"));
        }
    }

    fn check_after_end(&mut self, old: Option<&Job>, job: &Job) {
        let Some(old) = old.filter(|o| o.state.kind().is_terminal()) else { return };
        if old.state != job.state || old.result != job.result || old.counters != job.counters {
            self.violate("I-02", || format!("job {} changed after its end", job.id));
        }
    }

    /// The kernel's record and the model of it, side by side.
    fn compare(&mut self, life: &Life, job: &Job) {
        let c = job.counters;
        let ours = (life.attempts, life.lost, life.released, life.deliveries, life.serial);
        let theirs = (c.attempts, c.lost, c.released, c.deliveries, c.lease_serial);
        if ours != theirs {
            self.violate("I-07", || format!("job {}: counters {theirs:?}, the model has {ours:?}", job.id));
        }
        if life.lease != job.state.lease().map(|l| l.serial) || life.is_over != job.state.kind().is_terminal()
        {
            self.violate("I-08", || {
                format!("job {}: state {:?}, the model has {life:?}", job.id, job.state.kind())
            });
        }
        if self.cancelled.contains(&job.key()) && life.lease.is_some() && life.cancel.is_none() {
            self.violate("I-13", || format!("job {}: leased after its cancel was confirmed", job.id));
        }
    }

    /// A result counts if and only if it came under the open lease (I-09).
    fn check_result(&mut self, life: &Life, open_before: Option<u32>, old: Option<&Job>, job: &Job) {
        let has_succeeded = job.state.kind() == StateKind::Succeeded;
        if !has_succeeded || old.is_some_and(|o| o.state.kind().is_terminal()) {
            return;
        }
        let said =
            job.result.as_ref().map(|r| String::from_utf8_lossy(&r.data).into_owned()).unwrap_or_default();
        let said = serde_json::from_str::<serde_json::Value>(&said)
            .ok()
            .and_then(|value| value["by"].as_str().map(str::to_owned))
            .unwrap_or(said);
        let by = said.split(':').next().unwrap_or_default();
        let open = open_before.unwrap_or(life.serial);
        if by != "*" && by != open.to_string() && by != life.serial.to_string() {
            self.violate("I-09", || format!("job {}: result `{said}` was taken under lease {open}", job.id));
        }
    }

    /// Rows that must come with a job: its key with the first entry, its dead letter with the last.
    fn check_rows(&mut self, store: &SimStore, group: &Group, old: Option<&Job>, job: &Arc<Job>) {
        let key = job.key();
        if old.is_none()
            && let Some(name) = &job.spec.options().idempotency_key
        {
            let here = group
                .writes
                .iter()
                .any(|w| matches!(w, Write::Key(row) if row.key == *name && row.job_id == job.id));
            let before = store.keys.get(name).is_some_and(|row| row.job_id == job.id);
            if !here && !before {
                self.violate("I-05", || format!("job {} was made without the row of its key {name}", job.id));
            }
        }
        let kind = job.state.kind();
        if kind.is_terminal() && old.is_none_or(|o| !o.state.kind().is_terminal()) {
            let letters = group
                .writes
                .iter()
                .filter(|w| matches!(w, Write::DeadLetter(row) if row.job_id.key(&row.namespace) == key))
                .count();
            let may_be_off = self
                .rows
                .get(&job.spec.topic)
                .is_some_and(|rows| rows.iter().any(|(_, row)| row.settings.dead_letters_off));
            let wanted = usize::from(kind.leaves_dead_letter());
            if letters != wanted && !(letters == 0 && may_be_off) {
                self.violate("I-14", || {
                    format!("job {} ended {} with {letters} dead letters", job.id, kind.name())
                });
            }
        }
    }

    fn check_letter(&mut self, store: &SimStore, group: &Group, key: JobKey) {
        let ends = |w: &Write| matches!(w, Write::Job { job, .. } if job.key() == key && job.state.kind().leaves_dead_letter());
        if !group.writes.iter().any(ends) || store.letters.contains_key(&key) {
            self.violate("I-14", || format!("a dead letter without the end of its job: {key:?}"));
        }
    }

    /// Open leases per key and topic against their limits (I-28).
    fn count_leases(&mut self, old: Option<&Job>, job: &Arc<Job>, now: u64) {
        let was = old.is_some_and(|o| o.state.lease().is_some());
        let is = job.state.lease().is_some();
        let topic = job.spec.topic.clone();
        let change = |count: &mut u32| *count = (*count + u32::from(is)) - u32::from(was);
        let running = self.running.entry(topic.clone()).or_default();
        change(running);
        let running = *running;
        let rows = self.rows.get(&topic).map_or(&[][..], |rows| rows.as_slice());
        let is_new =
            is && old.and_then(|o| o.state.lease()).map(|l| l.serial) != job.state.lease().map(|l| l.serial);
        let mut broken = None;
        if let Some(key) = job.spec.options().concurrency_key.clone() {
            let count = self.slots.entry((topic.clone(), key.clone())).or_default();
            change(count);
            let limit =
                rows.iter().filter_map(|(_, r)| r.settings.concurrency_per_key).max().unwrap_or(1).max(1);
            if *count > limit {
                broken = Some(format!("{count} open leases of key {key}, at most {limit} may be"));
            }
        }
        if let (true, true, Some((since, row))) = (is_new, self.is_steady, rows.last())
            && now > since + SETTLE_MS
            && let Some(max) = row.settings.max_running
            && running > max
        {
            broken = Some(format!("{running} jobs of topic {topic} run, at most {max} may"));
        }
        if let Some(what) = broken {
            self.violate("I-28", || what);
        }
    }
}

/// Takes a job through its fresh entries. What requests left in it is returned: who, and what they did.
fn live_through(
    life: &mut Life,
    old: Option<&Job>,
    on: &Setting<'_>,
    cover: &mut Cover,
) -> Result<Vec<(String, &'static str)>, (&'static str, String)> {
    let mut state = old.map(|o| o.state.kind());
    let mut traces = Vec::new();
    for entry in &on.job.history[old.map_or(0, |o| o.history.len())..] {
        let kind = entry.event.kind();
        let next = match state {
            None if kind == EventKind::Submitted => Some(StateKind::Pending),
            None => None,
            Some(from) => machine::target(from, kind),
        };
        if next.is_none() {
            let from = state.map_or("nothing", StateKind::name);
            return Err(("I-01", format!("{} in {from}", kind.name())));
        }
        if let Some(from) = state {
            cover.moved(from, kind);
        }
        life.live(entry, on)?;
        state = next;
        match &entry.event {
            Event::AttemptFailed(closed) => {
                cover.duplicate_starts += u64::from(closed.0.close == Close::WorkerLost)
            }
            Event::Failed(closed) => cover.duplicate_starts += u64::from(closed.close == Close::WorkerLost),
            Event::Submitted { actor } => {
                traces.extend(actor.as_ref().map(|a| (a.to_string(), "made a job")))
            }
            Event::CancelRequested(cancel) => traces.push((cancel.actor.to_string(), "cancelled a job")),
            Event::Cancelled(Some(cancel)) => traces.push((cancel.actor.to_string(), "cancelled a job")),
            _ => {}
        }
    }
    Ok(traces)
}
