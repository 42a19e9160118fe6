//! The store of the simulation: committed rows in maps, an epoch, and a gate.
//!
//! The gate is what a real store owes its owner: once a group of an epoch was refused or its fate is unknown, no
//! later group of that epoch is taken, because later groups rest on earlier ones.

use coretex_domain::dead_letter::DeadLetter;
use coretex_domain::session::Session;
use coretex_domain::topic::Topic;
use coretex_domain::{Job, JobId, JobKey, Namespace, SessionId, Time};
use coretex_ports::{Group, KeyRow, StoreError, Write};
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Committed state.
pub(crate) struct SimStore {
    pub(crate) epoch: u64,
    is_gated: bool,
    /// Planted fault: groups of an older epoch are taken.
    pub(crate) takes_old_epochs: bool,
    pub(crate) jobs: FxHashMap<JobKey, Arc<Job>>,
    pub(crate) order: Vec<JobKey>,
    pub(crate) open: BTreeSet<JobKey>,
    pub(crate) keys: FxHashMap<Arc<str>, Arc<KeyRow>>,
    pub(crate) letters: FxHashMap<JobKey, Arc<DeadLetter>>,
    pub(crate) sessions: BTreeMap<SessionId, Arc<Session>>,
    pub(crate) topics: BTreeMap<Arc<str>, Arc<Topic>>,
    pub(crate) sequences: Box<[u64; 256]>,
    pub(crate) commits: u64,
    /// The newest time of any committed group.
    pub(crate) newest: Time,
}

/// What an owner finds.
pub(crate) struct Claimed {
    pub(crate) epoch: u64,
    pub(crate) open: Vec<Arc<Job>>,
    pub(crate) topics: Vec<Arc<Topic>>,
    pub(crate) sessions: Vec<Arc<Session>>,
    pub(crate) sequences: Box<[u64; 256]>,
    pub(crate) newest: Time,
}

impl SimStore {
    pub(crate) fn new() -> SimStore {
        SimStore {
            epoch: 0,
            is_gated: false,
            takes_old_epochs: false,
            jobs: FxHashMap::default(),
            order: Vec::new(),
            open: BTreeSet::new(),
            keys: FxHashMap::default(),
            letters: FxHashMap::default(),
            sessions: BTreeMap::new(),
            topics: BTreeMap::new(),
            sequences: Box::new([0; 256]),
            commits: 0,
            newest: Time(0),
        }
    }

    pub(crate) fn claim(&mut self) -> Claimed {
        self.epoch += 1;
        self.is_gated = false;
        Claimed {
            epoch: self.epoch,
            open: self.open.iter().filter_map(|key| self.jobs.get(key)).cloned().collect(),
            topics: self.topics.values().cloned().collect(),
            sessions: self.sessions.values().cloned().collect(),
            sequences: self.sequences.clone(),
            newest: self.newest,
        }
    }

    /// Whether a group would be taken now.
    pub(crate) fn check(&self, group: &Group) -> Result<(), StoreError> {
        if group.epoch != self.epoch && !self.takes_old_epochs {
            return Err(StoreError::Fenced { ours: group.epoch, theirs: self.epoch });
        }
        if self.is_gated {
            return Err(StoreError::Unavailable("an earlier group of this epoch failed; claim again".into()));
        }
        Ok(())
    }

    /// Nothing more of this epoch.
    pub(crate) fn gate(&mut self) {
        self.is_gated = true;
    }

    pub(crate) fn find(&self, namespace: &Namespace, id: &JobId) -> Option<&Arc<Job>> {
        self.jobs.get(&id.key(namespace)).filter(|job| job.id == *id && job.namespace == *namespace)
    }

    pub(crate) fn apply(&mut self, group: Group) {
        self.commits += 1;
        self.newest = self.newest.max(group.time);
        for write in group.writes {
            match write {
                Write::Job { job, fresh } => self.put_job(job, fresh as usize),
                Write::Key(row) => drop(self.keys.insert(row.key.clone(), row)),
                Write::DeadLetter(row) => drop(self.letters.insert(row.job_id.key(&row.namespace), row)),
                Write::DeadLetterEnd { namespace, job_id } => {
                    drop(self.letters.remove(&job_id.key(&namespace)));
                }
                Write::Session(row) => drop(self.sessions.insert(row.session_id, row)),
                Write::SessionEnd(id) => drop(self.sessions.remove(&id)),
                Write::Topic(row) => drop(self.topics.insert(row.name.clone(), row)),
                Write::Secret(..) | Write::Resource(_) | Write::ResourceEnd(_) | Write::Output { .. } => {}
            }
        }
    }

    fn put_job(&mut self, job: Arc<Job>, fresh: usize) {
        let highest = &mut self.sequences[usize::from(job.shard.0)];
        for entry in job.history.iter().rev().take(fresh) {
            *highest = (*highest).max(entry.seq);
        }
        let key = job.key();
        if job.state.kind().is_terminal() {
            self.open.remove(&key);
        } else {
            self.open.insert(key);
        }
        if self.jobs.insert(key, job).is_none() {
            self.order.push(key);
        }
    }
}
