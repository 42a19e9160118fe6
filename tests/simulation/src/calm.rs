//! The end of a run: faults stop, healthy workers come, and everything that was begun must end.

use crate::event::Event;
use crate::node::EXCUSE_MS;
use crate::wire::TopicChange;
use crate::worker::Kind;
use crate::workload::TOPICS;
use crate::world::World;
use coretex_domain::Span;
use coretex_kernel::dispatcher::{LimitKey, TopicKey};
use std::sync::Arc;

/// The longest that work may take to drain once nothing is broken any more.
const DRAIN_MAX: Span = Span::mins(40);
/// Quiet time before the last look, so that acknowledgements arrive.
const SETTLE_MS: u64 = 12_000;

impl World {
    pub(crate) fn calm(&mut self) {
        self.trace(|| "faults stop".into());
        self.is_calm = true;
        self.cuts.clear();
        self.slow_until = 0;
        self.full_until = 0;
        let now = self.now;
        for node in &mut self.nodes {
            node.offset = 0;
            node.excuse(now + EXCUSE_MS);
        }
        for worker in 0..self.workers.len() {
            let wait = self.roll_plan.between(200, 3_000);
            self.workers[worker].silent_until = 0;
            // The honest go on as they are, so that what was left undone for them shows.
            if self.workers[worker].kind == Kind::Honest && !self.is_eaten(worker) {
                continue;
            }
            self.restart_worker(worker, wait, false);
        }
        self.flip_policy(false);
        self.calm_since = self.now;
        self.push(self.now + 1_000, Event::CalmCheck);
    }

    /// Paused topics are resumed, once no change of a topic is on its way any more.
    fn unpause(&mut self) {
        if self.clients.iter().any(crate::client::Client::changes_topics) {
            return;
        }
        for topic in TOPICS {
            if self.store.topics.get(topic).is_some_and(|row| row.paused.is_some()) {
                self.set_topic(topic, TopicChange::Pause(false), 0);
            }
        }
    }

    fn is_eaten(&self, worker: usize) -> bool {
        let stream = self.workers[worker].stream.and_then(|id| self.streams.get(&id));
        stream.is_some_and(|s| s.eats_up || s.eats_down)
    }

    pub(crate) fn calm_check(&mut self) {
        let spent = self.now - self.calm_since;
        let has_no_runs = self.settle_runs(spent);
        let is_settled = self.store.open.is_empty()
            && has_no_runs
            && !self.clients.iter().any(crate::client::Client::owes);
        if !is_settled {
            self.settled_since = None;
        }
        match self.settled_since {
            None if is_settled => {
                self.settled_since = Some(self.now);
                self.cover.calm_ms_max = spent;
            }
            Some(since) if self.now >= since + SETTLE_MS => return self.last_look(),
            _ if spent > DRAIN_MAX.0 => return self.give_up(),
            _ => {}
        }
        if spent.is_multiple_of(20_000) {
            self.unpause();
        }
        // Without clients nobody unpauses, without workers nobody works: such narrowed runs just end.
        if self.clients.is_empty() || self.workers.len() < 2 {
            self.is_over = true;
        }
        self.push(self.now + 1_000, Event::CalmCheck);
    }

    fn give_up(&mut self) {
        let mut stuck = Vec::new();
        for key in self.store.open.iter().take(5) {
            if let Some(job) = self.store.jobs.get(key) {
                let options = job.spec.options();
                stuck.push(format!(
                    "{} topic={} prio={} state={:?} key={:?} rate={:?} cancel={} last={:?}",
                    job.id,
                    job.spec.topic,
                    job.spec.priority,
                    job.state,
                    options.concurrency_key,
                    options.rate_key,
                    job.is_cancel_requested(),
                    job.history.iter().rev().take(3).map(|e| e.event.kind().name()).collect::<Vec<_>>(),
                ));
            }
        }
        for run in self.store.open_runs().take(5) {
            let open: Vec<_> = run.open_steps().collect();
            let last: Vec<_> = run.history.iter().rev().take(4).map(|e| e.event.name()).collect();
            stuck.push(format!(
                "{} {:?} key={:?} open={open:?} last={last:?}",
                run.id(),
                run.phase,
                run.plea.concurrency
            ));
        }
        let (open, runs) = (self.store.open.len(), self.store.open_runs().count());
        let owed: usize = self.clients.iter().map(|c| c.wishes.len()).sum();
        let phases: Vec<_> = self.nodes.iter().map(|n| n.phase).collect();
        let owner = self.owner;
        self.oracle.violate("I-06", || {
            format!("{open} jobs and {runs} runs do not end, {owed} wishes are open, nodes {phases:?}, owner {owner:?}: {stuck:#?}")
        });
    }

    /// Nothing may be left over: no row, no timer, no slot, no credit in use (I-03, I-28, I-32).
    fn last_look(&mut self) {
        let Some(n) = self.owner.filter(|n| self.nodes[*n].is_up()) else { return self.give_up() };
        if self.nodes[n].loops.iter().any(|l| !l.inflight.is_empty()) {
            // A session may end at any time: its row is on the way.
            return self.push(self.now + 500, Event::CalmCheck);
        }
        let mut left = Vec::new();
        for (who, shard_loop) in self.nodes[n].loops.iter().enumerate() {
            let mut size = shard_loop.view.footprint();
            // A live session may keep an empty entry until its next frame.
            if size.sessions <= self.nodes[n].stays.len() {
                size.sessions = 0;
            }
            if !size.is_at_rest() {
                left.push(format!("loop {who}: {size:?}"));
            }
        }
        let node = &self.nodes[n];
        for topic in &self.topics {
            let running = node
                .dispatcher
                .running(&TopicKey { namespace: self.namespace.clone(), topic: topic.clone() });
            if running > 0 {
                left.push(format!("topic {topic}: {running} running"));
            }
        }
        let mut slots: Vec<(Arc<str>, Arc<str>)> = self.oracle.slot_names();
        slots.sort();
        for (topic, key) in slots {
            let limit = LimitKey { namespace: self.namespace.clone(), topic, key };
            let holders = node.dispatcher.holders(&limit).len();
            if holders > 0 {
                left.push(format!("key {}: {holders} holders", limit.key));
            }
        }
        for limit in self.oracle.rule_names() {
            let holders = node.dispatcher.holders(&limit).len();
            if holders > 0 {
                left.push(format!("rule {}: {holders} holders", limit.key));
            }
        }
        for limit in self.oracle.run_slots() {
            let holders = node.dispatcher.holders(&limit).len();
            if holders > 0 {
                left.push(format!("runs with {}: {holders} holders", limit.key));
            }
        }
        for (session, stay) in &node.stays {
            let outstanding = node.dispatcher.outstanding(*session);
            if outstanding > 0 || !stay.leases.is_empty() || !stay.reports.is_empty() {
                let (leases, reports) = (stay.leases.len(), stay.reports.len());
                left.push(format!(
                    "session {session}: outstanding {outstanding}, leases {leases}, reports {reports}"
                ));
            }
        }
        if !node.calls.is_empty() {
            left.push(format!("{} calls under way", node.calls.len()));
        }
        if !left.is_empty() {
            self.oracle.violate("I-32", || format!("left over after the end: {left:#?}"));
        }
        self.oracle.finish(&self.store, &mut self.cover);
        self.is_over = true;
    }

    /// A session may end by silence only when its worker cannot believe that it still holds it (I-10).
    pub(crate) fn check_expiry(&mut self, n: usize, session: coretex_domain::SessionId, worker: usize) {
        let is_owner = self.owner == Some(n) && self.store.epoch == self.nodes[n].epoch;
        let Some(worker) = self.workers.get(worker).filter(|w| is_owner && w.session == Some(session)) else {
            return;
        };
        let licence = worker.acked_beat + self.opt.session_ttl.0;
        if licence > self.now {
            let early = licence - self.now;
            self.oracle.violate("I-10", || format!("session {session} expired {early} ms before its TTL"));
        }
    }
}
