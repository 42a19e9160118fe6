//! Who owns the store: claims, reloads after a failed commit, crashes, pauses and take-overs.

use crate::clock::NodeClock;
use crate::event::Event;
use crate::fault::Fault;
use crate::hands::whole;
use crate::node::{Committing, EXCUSE_MS, Mail, Node, Phase, ReplyTo, ShardLoop, Stay};
use crate::planted::Shell;
use crate::store::Claimed;
use crate::wire::{Down, Refused};
use crate::world::World;
use coretex_kernel::input::Input;
use coretex_kernel::path::recover::recover;
use coretex_kernel::{Dispatcher, View};
use coretex_ports::{Outcome, StoreError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const BEAT_MS: u64 = 2_000;
/// Time a taker waits after the last beat it saw.
pub(crate) const LEASE_MS: u64 = 8_000;

impl World {
    pub(crate) fn on_boot(&mut self, n: usize) {
        let (now, boot) = (self.now, self.nodes[n].boot + 1);
        if self.nodes[n].is_alive() {
            return;
        }
        let (loops, pipe_at) = (self.opt.loops, self.nodes[n].pipe_at);
        let node = &mut self.nodes[n];
        *node = Node { boot, pipe_at, ..Node::new(node.offset) };
        node.clock = NodeClock::new(now, node.offset);
        node.phase = Phase::Standby;
        node.excuse(now + EXCUSE_MS);
        node.mails = (0..loops).map(|_| VecDeque::new()).collect();
        if self.owner.is_none() || self.owner == Some(n) {
            self.elect(n, 0);
        }
    }

    /// Makes `n` the owner to be; it claims after `wait`.
    pub(crate) fn elect(&mut self, n: usize, wait: u64) {
        self.owner = Some(n);
        let boot = self.nodes[n].boot;
        let at = self.now + wait + self.roll_store.below(20);
        self.push(at, Event::Claim { node: n, boot });
    }

    pub(crate) fn on_claim(&mut self, n: usize) {
        if self.owner != Some(n) {
            return self.stand_down(n);
        }
        if !matches!(self.nodes[n].phase, Phase::Standby | Phase::Reclaiming) {
            return;
        }
        if self.roll_store.chance(2_000) && self.strikes(Fault::ClaimFailed) {
            let wait = self.roll_store.skewed(50, 5_000);
            return self.elect(n, wait);
        }
        let claimed = self.store.claim();
        self.cover.claims += 1;
        self.prepare(n, claimed);
    }

    /// An owner looks every two seconds whether it still is one. Too long without a look, and it stops saying so.
    pub(crate) fn on_beat(&mut self, n: usize, epoch: u64) {
        if self.nodes[n].epoch != epoch || matches!(self.nodes[n].phase, Phase::Down | Phase::Standby) {
            return;
        }
        if self.store.epoch != epoch {
            return self.stand_down(n);
        }
        self.nodes[n].confirmed_at = self.now;
        let boot = self.nodes[n].boot;
        self.push(self.now + BEAT_MS, Event::Beat { node: n, boot, epoch });
    }

    /// Fills one view per loop from what the store has.
    fn prepare(&mut self, n: usize, claimed: Claimed) {
        if !self.opt.has(Shell::ClockNotRaised) {
            let (now, node) = (self.now, &mut self.nodes[n]);
            node.clock.now(now, node.offset);
            node.clock.raise(claimed.newest);
        }
        let now = self.clock_of(n);
        let count = self.opt.loops;
        let mut dispatcher = Dispatcher::default();
        let mut jobs = vec![Vec::new(); count];
        for job in claimed.open {
            jobs[usize::from(job.shard.0) % count].push(job);
        }
        let mut loops = Vec::new();
        for (who, jobs) in jobs.into_iter().enumerate() {
            let mut view = View::new(who, self.policy.clone(), claimed.sequences.clone(), now.wall);
            view.mutant = self.opt.planted.and_then(crate::planted::Planted::kernel);
            view.pack_from = self.opt.pack_from;
            view.set_retentions(self.retentions.clone());
            for approval in claimed.approvals.iter().filter(|one| usize::from(one.shard.0) % count == who) {
                view.load_approval(approval.clone());
            }
            recover(&mut view, &mut dispatcher, jobs, &claimed.topics, now.wall);
            for run in claimed.runs.iter().filter(|one| usize::from(one.shard.0) % count == who) {
                let rest = View::must_load(run).then(|| whole(&self.plans, run.clone())).flatten();
                view.recover_run(&mut dispatcher, run, rest);
            }
            loops.push(ShardLoop {
                departed: view.departed(),
                view,
                // What waits for people under an older policy is asked anew.
                nudges: vec![Input::SetPolicy(self.policy.clone())],
                inflight: VecDeque::new(),
                again: true,
                wake_at: u64::MAX,
                alarm_at: u64::MAX,
                waiters: BTreeMap::new(),
            });
        }
        let holders: BTreeSet<_> = loops.iter().flat_map(|l| l.view.lease_sessions()).collect();
        let node = &mut self.nodes[n];
        node.epoch = claimed.epoch;
        node.life += 1;
        node.dispatcher = dispatcher;
        node.loops = loops;
        node.phase = Phase::Up;
        node.excuse(self.now + EXCUSE_MS);
        node.confirmed_at = self.now;
        node.topic_rows = claimed.topics.into_iter().map(|t| (t.name.clone(), t)).collect();
        for session in claimed.sessions {
            let id = session.session_id;
            if !node.stays.contains_key(&id) {
                node.by_worker.insert(session.worker_id.clone(), id);
                node.stays.insert(id, Stay::new(session, now.mono));
            }
        }
        let orphans: Vec<_> = holders.into_iter().filter(|s| !node.stays.contains_key(s)).collect();
        for session in orphans {
            for who in 0..count {
                self.post(n, who, Mail::Decide(Input::SessionEnd { session }, ReplyTo::Nobody));
            }
        }
        self.trace(|| format!("node {n} owns the store, epoch {}", claimed.epoch));
        self.arm_sessions(n);
        let boot = self.nodes[n].boot;
        self.push(self.now + BEAT_MS, Event::Beat { node: n, boot, epoch: claimed.epoch });
        (0..count).for_each(|who| self.wake(n, who));
    }

    /// A commit did not succeed: memory is not to be trusted any more.
    pub(crate) fn fail(&mut self, n: usize, who: usize, done: Committing, outcome: &Outcome) {
        self.trace(|| format!("node {n} loop {who}: a group ended as {outcome:?}"));
        self.cover.failed_groups += 1;
        if matches!(outcome, Outcome::Unknown(_)) {
            self.cover.unknown_outcomes += 1;
        }
        self.refuse_all(n, done.replies, outcome);
        if matches!(outcome, Outcome::Refused(StoreError::Fenced { .. })) || self.owner != Some(n) {
            return self.stand_down(n);
        }
        self.nodes[n].phase = Phase::Failing { who };
        // The other loops are told to stop: what they wait for is dropped, and their callers hear that nobody knows.
        for other in (0..self.opt.loops).filter(|other| *other != who) {
            let dropped: Vec<_> = self.nodes[n].loops[other].inflight.drain(..).collect();
            let unknown = Outcome::Unknown("the loop was stopped".into());
            dropped.into_iter().for_each(|c| self.refuse_all(n, c.replies, &unknown));
            self.drop_waiters(n, other);
        }
        self.drop_waiters(n, who);
    }

    fn drop_waiters(&mut self, n: usize, who: usize) {
        let waiters = std::mem::take(&mut self.nodes[n].loops[who].waiters);
        for to in waiters.into_values().flatten() {
            if let ReplyTo::Call(call) = to {
                self.got(n, call, crate::node::Got::Ended(None));
            }
        }
    }

    /// Loads everything again, under a new epoch.
    pub(crate) fn reload(&mut self, n: usize) {
        self.nodes[n].phase = Phase::Reclaiming;
        self.nodes[n].life += 1;
        self.cover.reloads += 1;
        if !self.opt.has(Shell::ReportsKept) {
            for stay in self.nodes[n].stays.values_mut() {
                stay.reports.clear();
                stay.last_seq = stay.durable;
            }
        }
        let all: Vec<_> = self.nodes[n].stays.keys().copied().collect();
        for session in all {
            self.send_down(n, session, Down::GoAway { is_replaced: false });
        }
        let wait = self.roll_store.below(50);
        if self.owner == Some(n) { self.elect(n, wait) } else { self.stand_down(n) }
    }

    /// Another node owns the store now: this one keeps nothing.
    pub(crate) fn stand_down(&mut self, n: usize) {
        if !self.nodes[n].is_alive() || self.nodes[n].phase == Phase::Standby {
            return;
        }
        self.trace(|| format!("node {n} stands down"));
        self.drop_calls(n);
        self.cut_streams_of(n, true);
        let node = &mut self.nodes[n];
        node.forget();
        node.phase = Phase::Standby;
        node.life += 1;
    }

    fn drop_calls(&mut self, n: usize) {
        let calls = std::mem::take(&mut self.nodes[n].calls);
        for (_, call) in calls {
            self.say(n, call.from, call.exec, crate::wire::Said::Refused(Refused::Unknown));
        }
    }

    pub(crate) fn crash(&mut self, n: usize, down_for: u64) {
        if !self.nodes[n].is_alive() || !self.strikes(Fault::Crash) {
            return;
        }
        self.cover.crashes += 1;
        self.kill(n, down_for);
    }

    pub(crate) fn kill(&mut self, n: usize, down_for: u64) {
        self.trace(|| format!("node {n} dies for {down_for} ms"));
        self.lose_groups(n);
        let callers: Vec<_> = self.nodes[n].calls.values().map(|c| c.from).collect();
        for from in callers {
            self.hang_up(n, from);
        }
        self.cut_streams_of(n, false);
        let node = &mut self.nodes[n];
        node.forget();
        node.phase = Phase::Down;
        node.boot += 1;
        node.paused_until = 0;
        self.push(self.now + down_for, Event::Boot { node: n });
        if self.owner == Some(n) {
            self.owner = None;
            self.hand_over(n, 2_000);
        }
    }

    /// Another live node takes over once it has waited long enough; without one the store waits for its owner.
    fn hand_over(&mut self, from: usize, least: u64) {
        let others: Vec<usize> = (0..self.nodes.len())
            .filter(|o| *o != from && self.nodes[*o].is_alive() && self.nodes[*o].paused_until <= self.now)
            .collect();
        if others.is_empty() || !self.strikes(Fault::TakeOver) {
            if self.owner.is_none() {
                self.owner = Some(from);
            }
            return;
        }
        let next = *self.roll_plan.pick(&others);
        let wait = self.roll_plan.between(least, 12_000);
        self.cover.take_overs += 1;
        self.elect(next, wait);
    }

    pub(crate) fn pause(&mut self, n: usize, length: u64) {
        if !self.nodes[n].is_alive() || !self.strikes(Fault::Pause) {
            return;
        }
        self.trace(|| format!("node {n} is paused for {length} ms"));
        let until = self.now + length;
        self.nodes[n].paused_until = self.nodes[n].paused_until.max(until);
        self.nodes[n].excuse(until + EXCUSE_MS);
        if self.owner == Some(n) && length > LEASE_MS {
            self.hand_over(n, LEASE_MS);
        }
    }
}
