//! Groups on their way to the store, and how they fare: late, refused, written without an answer, or lost.

use crate::event::Event;
use crate::fault::Fault;
use crate::plan::Plan;
use crate::planted::Shell;
use crate::world::World;
use coretex_ports::{Group, Outcome, StoreError};

/// What becomes of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Pass,
    Refused,
    UnknownWritten,
    UnknownLost,
    /// The node gives up waiting; the group arrives later, unless a new owner is faster.
    UnknownLate,
}

/// A group that has left its node.
pub(crate) struct Underway {
    pub(crate) node: usize,
    boot: u32,
    life: u32,
    who: usize,
    no: u64,
    group: Group,
    fate: Fate,
}

impl World {
    pub(crate) fn send_group(&mut self, n: usize, who: usize, no: u64, group: Group) {
        let fate = self.fate();
        let mut wait = self.store_wait();
        let node = &self.nodes[n];
        let (boot, life) = (node.boot, node.life);
        if fate == Fate::UnknownLate {
            let gives_up = self.now + wait + 20;
            let outcome = Outcome::Unknown("no answer in time".into());
            self.push(gives_up, Event::Answered { node: n, boot, life, who, no, outcome });
            wait += self.roll_store.between(20, 20_000);
        }
        let arrives = (self.now + wait).max(self.nodes[n].pipe_at);
        self.nodes[n].pipe_at = arrives;
        self.next_commit += 1;
        let commit = self.next_commit;
        self.underway.insert(commit, Underway { node: n, boot, life, who, no, group, fate });
        self.push(arrives, Event::Arrive { commit });
        if let Some(down_for) = self.nodes[n].doomed.take() {
            let at = self.now + self.roll_store.below(3);
            self.push(at, Event::Plan(Plan::CrashNow { node: n, boot, down_for }));
        }
    }

    fn fate(&mut self) -> Fate {
        // A slow store is a store in trouble, and several groups are on their way then.
        let is_slow = self.now < self.slow_until;
        let parts = self.opt.store_bad * if is_slow { 10 } else { 1 };
        if self.is_calm || !self.roll_store.chance(parts) {
            return Fate::Pass;
        }
        let (fault, fate) = *self.roll_store.pick(&[
            (Fault::StoreRefused, Fate::Refused),
            (Fault::UnknownWritten, Fate::UnknownWritten),
            (Fault::UnknownLost, Fate::UnknownLost),
            (Fault::UnknownLate, Fate::UnknownLate),
        ]);
        if self.strikes(fault) { fate } else { Fate::Pass }
    }

    /// How long the store takes for one step.
    pub(crate) fn store_wait(&mut self) -> u64 {
        if self.now < self.slow_until {
            let most = self.opt.store_slow_max.0;
            return self.roll_store.skewed(5, most.max(5));
        }
        self.roll_store.below(self.opt.store_wait_max.0)
    }

    pub(crate) fn on_arrive(&mut self, commit: u64) {
        let Some(Underway { node, boot, life, who, no, group, fate }) = self.underway.remove(&commit) else {
            return;
        };
        let outcome = match self.store.check(&group) {
            Err(why) => {
                self.cover.refused_groups += 1;
                if matches!(why, StoreError::Fenced { .. }) {
                    self.cover.fenced_groups += 1;
                }
                Outcome::Refused(why)
            }
            Ok(()) => self.take((node, boot, life), group, fate),
        };
        if fate != Fate::UnknownLate {
            let at = self.now + self.roll_store.below(3);
            self.push(at, Event::Answered { node, boot, life, who, no, outcome });
        }
    }

    fn take(&mut self, from: (usize, u32, u32), group: Group, fate: Fate) -> Outcome {
        let is_written = matches!(fate, Fate::Pass | Fate::UnknownWritten | Fate::UnknownLate);
        self.oracle.on_order(from, is_written);
        match fate {
            Fate::Pass => {
                self.apply(group);
                Outcome::Committed
            }
            Fate::Refused => {
                self.shut_gate();
                Outcome::Refused(StoreError::Unavailable("injected before the commit".into()))
            }
            Fate::UnknownWritten | Fate::UnknownLate => {
                self.apply(group);
                self.shut_gate();
                Outcome::Unknown("injected after the commit".into())
            }
            Fate::UnknownLost => {
                self.shut_gate();
                Outcome::Unknown("injected before the commit".into())
            }
        }
    }

    fn shut_gate(&mut self) {
        if !self.opt.has(Shell::GateOpen) {
            self.store.gate();
        }
    }

    fn apply(&mut self, group: Group) {
        for write in &group.writes {
            if let coretex_ports::Write::Job { job, fresh } = write {
                self.trace(|| commit_line(job, *fresh as usize));
                self.hash_in(job.key().0 as u64 ^ job.revision << 40 ^ (job.state.kind() as u64) << 56);
            }
        }
        for write in &group.writes {
            if let coretex_ports::Write::Resource(row) = write
                && row.kind == coretex_domain::resource::Kind::Run
            {
                self.trace(|| run_line(row));
                self.hash_in(row.revision << 32 ^ u64::from(row.shard.0));
            }
        }
        self.oracle.on_commit(&self.store, &group, &mut self.cover, self.now);
        let asked = crate::wanting::asked_of_runs(&group);
        self.store.apply(group);
        for job in asked {
            self.ask_people_of_run(&job);
        }
    }

    /// A process died: of the groups it had sent, those from a random one on were never sent after all.
    pub(crate) fn lose_groups(&mut self, n: usize) {
        let mine: Vec<u64> = self.underway.iter().filter(|(_, u)| u.node == n).map(|(id, _)| *id).collect();
        if mine.is_empty() || !self.strikes(Fault::CrashLost) {
            return;
        }
        let cut = self.roll_store.index(mine.len());
        for commit in &mine[cut..] {
            self.underway.remove(commit);
        }
    }
}

/// The newest of a run's history in one line.
fn run_line(row: &coretex_domain::Resource) -> String {
    let Ok(run) = coretex_domain::Run::of_resource(row) else { return format!("RUN {} unread", row.name) };
    let names: Vec<_> = run.history.iter().rev().take(6).map(|e| e.event.name()).collect();
    format!("RUN {} r{} {:?} ..{}", run.id(), run.revision, run.phase, names.join("<"))
}

/// A committed record in one line.
fn commit_line(job: &coretex_domain::Job, fresh: usize) -> String {
    let from = job.history.len().saturating_sub(fresh);
    let names: Vec<_> = job.history[from..].iter().map(|e| e.event.kind().name()).collect();
    let (id, topic, serial) = (&job.id, &job.spec.topic, job.counters.lease_serial);
    format!("COMMIT {id} {topic} r{} serial {serial} +{}", job.revision, names.join(","))
}
