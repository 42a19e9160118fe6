//! The store of the simulation: committed rows in maps, an epoch, and a gate.
//!
//! The gate is what a real store owes its owner: once a group of an epoch was refused or its fate is unknown, no
//! later group of that epoch is taken, because later groups rest on earlier ones.

use bytes::Bytes;
use coretex_domain::approval::Approval;
use coretex_domain::dead_letter::DeadLetter;
use coretex_domain::resource::{Kind, Resource};
use coretex_domain::run::Part;
use coretex_domain::session::Session;
use coretex_domain::topic::Topic;
use coretex_domain::{Job, JobId, JobKey, Namespace, Run, RunId, SessionId, Time};
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
    /// By job and round.
    pub(crate) approvals: BTreeMap<(JobKey, u32), Arc<Approval>>,
    /// What workers were told, by the names of the receipts.
    pub(crate) receipts: FxHashMap<Arc<str>, Arc<Resource>>,
    /// Runs by name, read from their rows.
    pub(crate) runs: BTreeMap<Arc<str>, Arc<Run>>,
    /// Parts of runs by name.
    pub(crate) parts: FxHashMap<Arc<str>, Arc<Resource>>,
    /// Every version of an approval that was ever sent here; a resource names one by its number.
    sent: Vec<Arc<Approval>>,
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
    pub(crate) approvals: Vec<Arc<Approval>>,
    pub(crate) sessions: Vec<Arc<Session>>,
    /// Open ones.
    pub(crate) runs: Vec<Arc<Run>>,
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
            approvals: BTreeMap::new(),
            receipts: FxHashMap::default(),
            runs: BTreeMap::new(),
            parts: FxHashMap::default(),
            sent: Vec::new(),
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
            approvals: self.approvals.values().filter(|one| one.is_pending()).cloned().collect(),
            sessions: self.sessions.values().cloned().collect(),
            runs: self.open_runs().cloned().collect(),
            sequences: self.sequences.clone(),
            newest: self.newest,
        }
    }

    /// The row of an approval on its way here.
    pub(crate) fn row_of(&mut self, approval: Arc<Approval>, now: Time) -> Resource {
        let number = self.sent.len() as u64;
        let row = Resource {
            kind: Kind::Approval,
            namespace: approval.namespace.clone(),
            name: approval.id().to_string().into(),
            shard: approval.shard,
            revision: approval.revision,
            is_live: approval.is_pending(),
            create_time: approval.create_time,
            update_time: now,
            expire_time: None,
            body: number.to_le_bytes().to_vec().into(),
        };
        self.sent.push(approval);
        row
    }

    /// The approval of such a row.
    pub(crate) fn approval_in(&self, row: &Resource) -> Option<&Arc<Approval>> {
        if row.kind != Kind::Approval {
            return None;
        }
        let number = u64::from_le_bytes(row.body.get(..8)?.try_into().ok()?);
        self.sent.get(usize::try_from(number).ok()?)
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

    pub(crate) fn run(&self, namespace: &Namespace, id: &RunId) -> Option<&Arc<Run>> {
        self.runs.get(id.name()).filter(|run| run.plea.namespace == *namespace)
    }

    pub(crate) fn open_runs(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.runs.values().filter(|run| !run.is_over())
    }

    /// What a part of a run holds.
    pub(crate) fn part(&self, run: &Run, part: &Part) -> Option<Bytes> {
        self.parts.get(&part.name(run.id())).map(|row| row.body.clone())
    }

    /// The id of one of the last jobs that were made.
    pub(crate) fn recent(&self, back: u64) -> Option<JobId> {
        let key = self.order.iter().rev().nth(usize::try_from(back).ok()?)?;
        self.jobs.get(key).map(|job| job.id.clone())
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
                Write::Resource(row) if row.kind == Kind::Receipt => {
                    drop(self.receipts.insert(row.name.clone(), row));
                }
                Write::Resource(row) if row.kind == Kind::Run => {
                    // One that cannot be read was reported by the oracle.
                    if let Ok(run) = Run::of_resource(&row) {
                        self.runs.insert(row.name.clone(), Arc::new(run));
                    }
                }
                Write::Resource(row) if row.kind == Kind::RunPart => {
                    drop(self.parts.insert(row.name.clone(), row));
                }
                Write::Resource(row) => {
                    if let Some(approval) = self.approval_in(&row).cloned() {
                        self.approvals.insert((approval.key(), approval.round), approval);
                    }
                }
                Write::Secret(..) | Write::ResourceEnd(_) | Write::Output { .. } => {}
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
