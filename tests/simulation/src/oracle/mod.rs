//! The judges: each promise is checked where it could be broken, from the outside, against committed state.

mod approval;
mod commit;
mod deadline;
mod family;
mod life;
mod policy;
mod retention;
mod runs;

use crate::cover::Cover;
use crate::hands::Plans;
use crate::options::Options;
use crate::store::SimStore;
use crate::wire::{Refused, Said, Why};
use coretex_domain::job::{EventKind, Job, StateKind};
use coretex_domain::policy::Verdict;
use coretex_domain::topic::Topic;
use coretex_domain::{JobId, JobKey};
use coretex_kernel::View;
use coretex_kernel::input::Write as KernelWrite;
use family::Kin;
use life::Life;
pub(crate) use policy::LifeOfNode;
use policy::Promised;
use retention::Kept;
use runs::Runs;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// One execution of a request on a node.
#[derive(Default)]
struct Exec {
    /// Told that nothing was done and never will be.
    was_denied: bool,
    /// Jobs it made and cancels it wrote, as committed.
    traces: u32,
}

/// Memory of what was promised.
pub(crate) struct Oracle {
    pub(crate) violation: Option<String>,
    is_steady: bool,
    execs: FxHashMap<u64, Exec>,
    acked: FxHashSet<JobKey>,
    cancelled: FxHashSet<JobKey>,
    /// The job each idempotency key was said to name.
    keys: FxHashMap<Arc<str>, JobId>,
    lives: FxHashMap<JobKey, Life>,
    /// Open leases per (topic, concurrency key), and per topic.
    slots: FxHashMap<(Arc<str>, Arc<str>), u32>,
    running: FxHashMap<Arc<str>, u32>,
    /// Every row a topic ever had, with the simulated time of its commit.
    rows: FxHashMap<Arc<str>, Vec<(u64, Arc<Topic>)>>,
    outages: FxHashSet<u64>,
    promised: Promised,
    kin: Kin,
    kept: Kept,
    runs: Runs,
    pub(crate) plans: Arc<Plans>,
    /// Lives of which a group was not written: what comes after it must not be either.
    broken_lives: FxHashSet<(usize, u32, u32)>,
    pub(crate) conflicts: u64,
}

impl Oracle {
    pub(crate) fn new(opt: &Options) -> Oracle {
        Oracle {
            violation: None,
            is_steady: opt.steady,
            execs: FxHashMap::default(),
            acked: FxHashSet::default(),
            cancelled: FxHashSet::default(),
            keys: FxHashMap::default(),
            lives: FxHashMap::default(),
            slots: FxHashMap::default(),
            running: FxHashMap::default(),
            rows: FxHashMap::default(),
            outages: FxHashSet::default(),
            promised: Promised::default(),
            kin: Kin::default(),
            kept: Kept::default(),
            runs: Runs::default(),
            plans: Arc::default(),
            broken_lives: FxHashSet::default(),
            conflicts: 0,
        }
    }

    /// Notes a broken promise; the first one ends the run.
    pub(crate) fn violate(&mut self, promise: &str, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(format!("{promise}: {}", what()));
        }
    }

    pub(crate) fn on_exec(&mut self, exec: u64) {
        self.execs.insert(exec, Exec::default());
    }

    pub(crate) fn on_policy(&mut self, version: u64, is_out: bool) {
        if is_out {
            self.outages.insert(version);
        }
    }

    /// Groups rest on the groups before them: none may be written after one that was not (I-04).
    pub(crate) fn on_order(&mut self, life: (usize, u32, u32), is_written: bool) {
        if !is_written {
            self.broken_lives.insert(life);
        } else if self.broken_lives.contains(&life) {
            self.violate("I-04", || format!("a group of {life:?} was written after one that was not"));
        }
    }

    pub(crate) fn acked_count(&self) -> u64 {
        self.acked.len() as u64
    }

    /// Concurrency keys that were ever used, with their topics.
    pub(crate) fn slot_names(&self) -> Vec<(Arc<str>, Arc<str>)> {
        self.slots.keys().cloned().collect()
    }

    /// Rules whose slots were ever used.
    pub(crate) fn rule_names(&self) -> Vec<coretex_kernel::dispatcher::LimitKey> {
        self.promised.rules.keys().cloned().collect()
    }

    /// A node gives an answer; from here on it binds (I-03, I-04, I-05, I-13, I-44).
    pub(crate) fn on_answer(&mut self, exec: u64, said: &Said, store: &SimStore) {
        match said {
            Said::Submitted(answers) => {
                for answer in answers {
                    match answer {
                        Ok((job, _)) => {
                            self.check_record(job, store);
                            self.check_key(job);
                            self.acked.insert(job.key());
                        }
                        Err(Refused::Definite(Why::Conflict)) => self.conflicts += 1,
                        Err(_) => {}
                    }
                }
            }
            Said::Job(job) => {
                self.check_record(job, store);
                if job.is_cancel_requested() || job.state.kind() == StateKind::Cancelled {
                    self.cancelled.insert(job.key());
                }
            }
            Said::Refused(Refused::Definite(why)) if *why != Why::NotFound => {
                let known = self.execs.entry(exec).or_default();
                known.was_denied = true;
                if known.traces > 0 {
                    self.violate("I-04", || {
                        format!("request e{exec} was refused ({why:?}) although it is committed")
                    });
                }
            }
            Said::Voted(approval) => {
                let stored = store.approvals.get(&(approval.key(), approval.round));
                if stored.is_none_or(|stored| stored.revision < approval.revision) {
                    self.violate("I-04", || format!("{} was told ahead of its commit", approval.id()));
                }
            }
            Said::Refused(_) | Said::Run(_) | Said::Explained | Said::TopicSet | Said::Reported => {}
        }
    }

    /// Nothing that is told may be ahead of what is committed.
    fn check_record(&mut self, job: &Arc<Job>, store: &SimStore) {
        match store.jobs.get(&job.key()) {
            None => self.violate("I-03", || format!("job {} was told of and is not in the store", job.id)),
            Some(stored) if stored.revision < job.revision => {
                let (told, has) = (job.revision, stored.revision);
                self.violate("I-04", || {
                    format!("job {} was told at revision {told}, the store has {has}", job.id)
                });
            }
            Some(stored) if stored.history[..job.history.len()] != job.history[..] => {
                self.violate("I-17", || format!("job {} was told with another history than stored", job.id));
            }
            Some(_) => {}
        }
    }

    fn check_key(&mut self, job: &Arc<Job>) {
        let Some(key) = job.spec.options().idempotency_key.clone() else { return };
        let first = self.keys.entry(key.clone()).or_insert_with(|| job.id.clone()).clone();
        if first != job.id {
            self.violate("I-05", || format!("key {key} named {first} before and {} now", job.id));
        }
    }

    /// A lease leaves for its worker (I-19).
    pub(crate) fn on_deliver(&mut self, job: &Arc<Job>, store: &SimStore) {
        let is_committed = store.jobs.get(&job.key()).is_some_and(|stored| stored.revision >= job.revision);
        if !is_committed {
            self.violate("I-19", || format!("a lease of job {} left before its commit", job.id));
        }
    }

    /// A worker holds a lease now.
    pub(crate) fn on_received(&mut self, job: &Arc<Job>, serial: u32) {
        if job.state.lease().is_none_or(|lease| lease.serial != serial) {
            self.violate("I-08", || format!("job {} was handed out under a lease it has not", job.id));
        }
    }

    /// A group was decided, not yet committed (I-15, I-16, I-21).
    pub(crate) fn on_turn(&mut self, life: LifeOfNode, view: &View, writes: &[KernelWrite]) {
        let version = view.policy().version;
        for write in writes {
            if let KernelWrite::Run { run, .. } = write
                && let Some(due) = run.next_due()
                && view.next_due().is_none_or(|next| next > due)
            {
                let next = view.next_due();
                self.violate("I-12", || format!("run {} is due at {due:?}, its loop at {next:?}", run.id()));
            }
            let KernelWrite::Job { job, fresh } = write else { continue };
            self.check_rate(life, job, *fresh as usize);
            self.check_bound(version, job, *fresh as usize);
            let from = job.history.len().saturating_sub(*fresh as usize);
            let fresh = &job.history[from..];
            let is_leased = fresh.iter().any(|e| e.event.kind() == EventKind::Dispatched);
            if is_leased && job.state.lease().is_some() {
                let decision = job.decision.as_ref();
                let allows = decision.is_some_and(|d| {
                    let may = match d.verdict {
                        Verdict::Allow | Verdict::AllowWithConstraints | Verdict::Throttle => true,
                        Verdict::RequireApproval => approval::is_answered(job),
                        Verdict::Deny => false,
                    };
                    may && d.policy_version == version
                });
                if !allows {
                    self.violate("I-15", || {
                        format!("job {} leased under {decision:?}, policy {version} is in force", job.id)
                    });
                }
            }
            if let Some(decision) = job.decision.as_ref().filter(|d| self.outages.contains(&d.policy_version))
            {
                let text = format!("{decision:?}");
                self.violate("I-16", || format!("job {} was judged while nobody could: {text}", job.id));
            }
            if !job.state.kind().is_terminal()
                && let Some(due) = deadline::earliest(job)
                && view.next_due().is_none_or(|next| next > due)
            {
                let next = view.next_due();
                self.violate("I-12", || {
                    format!(
                        "job {} ({}) is due at {due:?}, its loop at {next:?}",
                        job.id,
                        job.state.kind().name()
                    )
                });
            }
        }
    }

    pub(crate) fn finish(&mut self, store: &SimStore, cover: &mut Cover) {
        cover.jobs = store.jobs.len() as u64;
        cover.dead_letters = store.letters.len() as u64;
        cover.conflicts = self.conflicts;
        let mut lost = self.acked.iter().filter(|key| !store.jobs.contains_key(key));
        cover.lost = lost.clone().count() as u64;
        if let Some(key) = lost.next().copied() {
            self.violate("I-03", || format!("an acknowledged job is gone: {key:?}"));
        }
    }
}
