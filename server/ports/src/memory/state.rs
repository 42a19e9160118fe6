//! The maps of the memory store. One lock holds them all; every call is one step.

use super::Fault;
use super::events::event_rows;
use crate::store::{
    Claim, Cleaned, EventRow, Group, JobSet, KeyRow, Outcome, Page, Row, Scan, Stats, StoreError, Write,
};
use bytes::Bytes;
use coretex_domain::dead_letter::DeadLetter;
use coretex_domain::limits::RUN_JOBS_PUT_OFF;
use coretex_domain::resource::{Kind, Resource, ResourceKey};
use coretex_domain::run::body::{parts_of, run_of_job};
use coretex_domain::session::Session;
use coretex_domain::topic::Topic;
use coretex_domain::{Job, JobId, JobKey, Namespace, SessionId, Time};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

type Place = (Namespace, Time, JobId);

/// Whether commits are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Open,
    /// An outcome was unknown: the owner must claim again first.
    ClaimFirst,
    Closed,
}

pub(super) struct State {
    gate: Gate,
    epoch: u64,
    jobs: FxHashMap<JobKey, Arc<Job>>,
    order: BTreeMap<Place, JobKey>,
    expiries: BTreeSet<(Time, JobKey)>,
    keys: FxHashMap<(Namespace, Arc<str>), Arc<KeyRow>>,
    keys_of_jobs: FxHashMap<JobKey, Vec<Arc<str>>>,
    dead: FxHashMap<JobKey, Arc<DeadLetter>>,
    sessions: BTreeMap<SessionId, Arc<Session>>,
    topics: BTreeMap<(Namespace, Arc<str>), Arc<Topic>>,
    secrets: BTreeMap<u32, [u8; 32]>,
    resources: BTreeMap<ResourceKey, Arc<Resource>>,
    outputs: FxHashMap<JobKey, BTreeMap<(Arc<str>, u64), Bytes>>,
    events: VecDeque<EventRow>,
    events_max: usize,
    /// Highest sequence used, per shard.
    sequences: Box<[u64; 256]>,
    /// Highest sequence no longer kept, per shard.
    compacted: Box<[u64; 256]>,
    stats: Stats,
}

impl State {
    pub(super) fn new(events_max: usize) -> State {
        State {
            gate: Gate::Open,
            epoch: 0,
            jobs: FxHashMap::default(),
            order: BTreeMap::new(),
            expiries: BTreeSet::new(),
            keys: FxHashMap::default(),
            keys_of_jobs: FxHashMap::default(),
            dead: FxHashMap::default(),
            sessions: BTreeMap::new(),
            topics: BTreeMap::new(),
            secrets: BTreeMap::new(),
            resources: BTreeMap::new(),
            outputs: FxHashMap::default(),
            events: VecDeque::new(),
            events_max,
            sequences: Box::new([0; 256]),
            compacted: Box::new([0; 256]),
            stats: Stats::default(),
        }
    }

    pub(super) fn reopen(&mut self) {
        self.gate = Gate::Open;
    }

    pub(super) fn close(&mut self) {
        self.gate = Gate::Closed;
    }

    pub(super) fn stats(&self) -> Stats {
        self.stats
    }

    pub(super) fn claim(&mut self) -> Result<Claim, StoreError> {
        self.check_open()?;
        self.gate = Gate::Open;
        self.epoch += 1;
        let open = self.order.values().filter_map(|key| self.jobs.get(key));
        Ok(Claim {
            epoch: self.epoch,
            open: open.filter(|job| !job.state.kind().is_terminal()).cloned().collect(),
            topics: self.topics.values().cloned().collect(),
            resources: self.resources.values().filter(|one| one.is_live).cloned().collect(),
            sessions: self.sessions.values().cloned().collect(),
            sequences: self.sequences.clone(),
            secrets: self.secrets.iter().map(|(id, secret)| (*id, *secret)).collect(),
        })
    }

    pub(super) fn commit(&mut self, group: Group, fault: Fault) -> Outcome {
        if let Err(refusal) = self.check_commit(&group) {
            return Outcome::Refused(refusal);
        }
        match fault {
            Fault::Pass => {
                self.apply(group);
                Outcome::Committed
            }
            Fault::Refuse(why) => Outcome::Refused(why),
            Fault::UnknownCommitted => {
                self.apply(group);
                self.gate = Gate::ClaimFirst;
                Outcome::Unknown("injected fault after the commit".into())
            }
            Fault::UnknownLost => {
                self.gate = Gate::ClaimFirst;
                Outcome::Unknown("injected fault before the commit".into())
            }
        }
    }

    fn check_commit(&self, group: &Group) -> Result<(), StoreError> {
        self.check_open()?;
        if self.gate == Gate::ClaimFirst {
            return Err(StoreError::Unavailable("the outcome of a commit is unknown; claim again".into()));
        }
        if group.epoch != self.epoch || self.epoch == 0 {
            return Err(StoreError::Fenced { ours: group.epoch, theirs: self.epoch });
        }
        Ok(())
    }

    fn check_open(&self) -> Result<(), StoreError> {
        match self.gate {
            Gate::Open | Gate::ClaimFirst => Ok(()),
            Gate::Closed => Err(StoreError::Unavailable("the store is closed".into())),
        }
    }

    fn apply(&mut self, group: Group) {
        self.stats.commits += 1;
        for write in group.writes {
            self.stats.records += 1;
            match write {
                Write::Job { job, fresh } => self.put_job(job, fresh as usize),
                Write::Key(row) => self.put_key(row),
                Write::DeadLetter(letter) => {
                    self.dead.insert(letter.job_id.key(&letter.namespace), letter);
                }
                Write::DeadLetterEnd { namespace, job_id } => {
                    self.dead.remove(&job_id.key(&namespace));
                }
                Write::Session(session) => {
                    self.sessions.insert(session.session_id, session);
                }
                Write::SessionEnd(id) => {
                    self.sessions.remove(&id);
                }
                Write::Topic(topic) => {
                    self.topics.insert((topic.namespace.clone(), topic.name.clone()), topic);
                }
                Write::Secret(id, secret) => {
                    self.secrets.insert(id, secret);
                }
                Write::Resource(one) => {
                    self.resources.insert(one.key(), one);
                }
                Write::ResourceEnd(key) => {
                    self.resources.remove(&key);
                }
                Write::Output { namespace, job_id, stream, offset, chunk } => {
                    self.outputs.entry(job_id.key(&namespace)).or_default().insert((stream, offset), chunk);
                }
            }
        }
    }

    fn put_job(&mut self, job: Arc<Job>, fresh: usize) {
        let (events, sequences) = (&mut self.events, &mut self.sequences);
        event_rows(&job, fresh, |row| {
            let highest = &mut sequences[usize::from(row.shard.0)];
            *highest = (*highest).max(row.entry.seq);
            events.push_back(row);
        });
        while self.events.len() > self.events_max {
            if let Some(row) = self.events.pop_front() {
                let dropped = &mut self.compacted[usize::from(row.shard.0)];
                *dropped = (*dropped).max(row.entry.seq);
            }
        }
        let key = job.key();
        if let Some(old) = self.jobs.insert(key, job.clone()) {
            self.stats.bytes = self.stats.bytes.saturating_sub(old.weight() as u64);
            if let Some(time) = old.expire_time.filter(|time| Some(*time) != job.expire_time) {
                self.expiries.remove(&(time, key));
            }
            if old.create_time != job.create_time {
                self.order.remove(&(old.namespace.clone(), old.create_time, old.id.clone()));
            }
        }
        self.stats.bytes += job.weight() as u64;
        self.order.insert((job.namespace.clone(), job.create_time, job.id.clone()), key);
        if let Some(time) = job.expire_time {
            self.expiries.insert((time, key));
        }
    }

    fn put_key(&mut self, row: Arc<KeyRow>) {
        self.keys_of_jobs.entry(row.job_id.key(&row.namespace)).or_default().push(row.key.clone());
        self.keys.insert((row.namespace.clone(), row.key.clone()), row);
    }

    fn find(&self, namespace: &Namespace, id: &JobId) -> Option<&Arc<Job>> {
        // Hashed names may collide and made ids carry no namespace, so the record has the last word.
        self.jobs.get(&id.key(namespace)).filter(|job| job.id == *id && job.namespace == *namespace)
    }

    pub(super) fn read(
        &self,
        namespace: &Namespace,
        ids: &[JobId],
    ) -> Result<Vec<Option<Arc<Job>>>, StoreError> {
        self.check_open()?;
        Ok(ids.iter().map(|id| self.find(namespace, id).cloned()).collect())
    }

    pub(super) fn read_key(&self, namespace: Namespace, key: Arc<str>) -> Result<Option<KeyRow>, StoreError> {
        self.check_open()?;
        Ok(self.keys.get(&(namespace, key)).map(|row| KeyRow::clone(row)))
    }

    pub(super) fn scan(&self, scan: Scan) -> Result<Page, StoreError> {
        self.check_open()?;
        match scan {
            Scan::Jobs { namespace, set, descending, after, from, to, limit, topic, state } => {
                let low = match &after {
                    Some((time, id)) if !descending => {
                        Bound::Excluded((namespace.clone(), *time, id.clone()))
                    }
                    Some(_) | None => Bound::Included((namespace.clone(), from, JobId::Made(0))),
                };
                let walk = self.order.range((low, Bound::Unbounded));
                let within = walk
                    .take_while(|((ns, time, _), _)| *ns == namespace && *time <= to)
                    .filter(|((_, time, _), _)| *time >= from)
                    .filter(|((_, time, id), _)| match &after {
                        Some(mark) if descending => (*time, id) < (mark.0, &mark.1),
                        Some(_) | None => true,
                    })
                    .filter(|(_, key)| match set {
                        JobSet::All => true,
                        JobSet::DeadLetters => self.dead.contains_key(key),
                    })
                    .filter_map(|(_, key)| self.jobs.get(key))
                    .filter(|job| topic.as_ref().is_none_or(|t| job.spec.topic == *t))
                    .filter(|job| state.is_none_or(|s| job.state.kind() == s));
                let rows = within.cloned().map(Row::Job);
                Ok(if descending {
                    page(rows.collect::<Vec<_>>().into_iter().rev(), limit)
                } else {
                    page(rows, limit)
                })
            }
            Scan::DeadLetters { namespace, ids } => {
                let found = ids.iter().filter_map(|id| self.find(&namespace, id));
                let kept = found.filter(|job| self.dead.contains_key(&job.key()));
                Ok(Page { rows: kept.cloned().map(Row::Job).collect(), more: false })
            }
            Scan::Resources { kind, namespace, descending, after, limit } => {
                Ok(self.scan_resources(kind, &namespace, descending, after.as_ref(), limit))
            }
            Scan::Named(keys) => {
                let found = keys.iter().filter_map(|key| self.resources.get(key));
                Ok(Page { rows: found.cloned().map(Row::Resource).collect(), more: false })
            }
            Scan::Events { after, limit } => self.scan_events(&after, limit),
            Scan::Output { namespace, job_id, stream, offset, limit } => {
                let chunks = self.outputs.get(&job_id.key(&namespace)).into_iter();
                let rows = chunks
                    .flat_map(|chunks| chunks.range((stream.clone(), offset)..=(stream.clone(), u64::MAX)))
                    .map(|((_, offset), chunk)| Row::Output { offset: *offset, chunk: chunk.clone() });
                Ok(page(rows, limit))
            }
        }
    }

    fn scan_events(&self, after: &[u64; 256], limit: usize) -> Result<Page, StoreError> {
        if after.iter().zip(self.compacted.iter()).any(|(after, dropped)| after < dropped) {
            return Err(StoreError::Compacted { oldest: self.compacted.clone() });
        }
        let new = self.events.iter().filter(|row| row.entry.seq > after[usize::from(row.shard.0)]);
        Ok(page(new.cloned().map(Row::Event), limit))
    }

    fn scan_resources(
        &self,
        kind: Kind,
        namespace: &Namespace,
        descending: bool,
        after: Option<&(Time, Arc<str>)>,
        limit: usize,
    ) -> Page {
        let first = ResourceKey::new(kind, namespace.clone(), "");
        let ours = self
            .resources
            .range(first..)
            .take_while(|(key, _)| key.kind == kind && key.namespace == *namespace);
        let mut found: Vec<&Arc<Resource>> = ours.map(|(_, one)| one).collect();
        let place = |one: &Resource| (one.create_time, one.name.clone());
        found.sort_by_key(|one| place(one));
        if descending {
            found.reverse();
        }
        let is_ahead = |one: &&Arc<Resource>| match after {
            None => true,
            Some(mark) if descending => place(one) < *mark,
            Some(mark) => place(one) > *mark,
        };
        page(found.into_iter().filter(is_ahead).cloned().map(Row::Resource), limit)
    }

    pub(super) fn clean(&mut self, now: Time, limit: usize) -> Result<Cleaned, StoreError> {
        self.check_open()?;
        let due = self.expiries.iter().take_while(|(time, _)| *time <= now).take(limit);
        let due: Vec<(Time, JobKey)> = due.copied().collect();
        let mut removed = 0;
        for (time, key) in &due {
            self.expiries.remove(&(*time, *key));
            if self.is_of_open_run(*key) {
                self.expiries.insert((now + RUN_JOBS_PUT_OFF, *key));
                continue;
            }
            removed += 1;
            self.dead.remove(key);
            self.outputs.remove(key);
            let Some(job) = self.jobs.remove(key) else { continue };
            self.stats.bytes = self.stats.bytes.saturating_sub(job.weight() as u64);
            self.order.remove(&(job.namespace.clone(), job.create_time, job.id.clone()));
            for name in self.keys_of_jobs.remove(key).unwrap_or_default() {
                let place = (job.namespace.clone(), name);
                if self.keys.get(&place).is_some_and(|row| row.job_id == job.id) {
                    self.keys.remove(&place);
                }
            }
        }
        let is_due = |one: &Resource| one.expire_time.is_some_and(|time| time <= now);
        let gone = self.resources.iter().filter(|(_, one)| is_due(one)).take(limit);
        let gone: Vec<ResourceKey> = gone.map(|(key, _)| key.clone()).collect();
        for key in &gone {
            self.resources.remove(key);
            if key.kind == Kind::Run {
                let (from, to) = parts_of(&key.name);
                let part = |name: String| ResourceKey::new(Kind::RunPart, key.namespace.clone(), name);
                let parts: Vec<_> =
                    self.resources.range(part(from)..part(to)).map(|(key, _)| key.clone()).collect();
                parts.iter().for_each(|part| drop(self.resources.remove(part)));
            }
        }
        let next_job = self.expiries.first().map(|(time, _)| *time);
        let next_resource = self.resources.values().filter_map(|one| one.expire_time).min();
        let next_due = [next_job, next_resource].into_iter().flatten().min();
        Ok(Cleaned { removed: removed + gone.len() as u64, next_due })
    }

    /// A job is kept while its run goes on, which may read its result.
    fn is_of_open_run(&self, key: JobKey) -> bool {
        let run = self.jobs.get(&key).and_then(|job| run_of_job(&job.id, &job.namespace));
        run.and_then(|run| self.resources.get(&run)).is_some_and(|run| run.is_live)
    }
}

fn page(rows: impl Iterator<Item = Row>, limit: usize) -> Page {
    let mut rows: Vec<Row> = rows.take(limit.saturating_add(1)).collect();
    let more = rows.len() > limit;
    rows.truncate(limit);
    Page { rows, more }
}
