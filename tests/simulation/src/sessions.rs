//! Sessions on their node: frames of workers in, deliveries and controls out, the end by silence.

use crate::calls::{Flow, NewStream};
use crate::event::Event;
use crate::node::{Mail, Node, ReplyTo, Stay, WaitingReport};
use crate::ownership::LEASE_MS;
use crate::wire::{Assignment, Caller, Down, HeldLease, Name, Token, Up, Word};
use crate::world::World;
use coretex_domain::job::{Failure, Usage};
use coretex_domain::session::{Lane, Session};
use coretex_domain::{Job, Payload, SessionId, ShardId};
use coretex_kernel::input::{Closed, Input, LeaseRef, Rejected, Stop, Update, UpdateKind};
use coretex_kernel::mutant::Mutant;
use coretex_ports::Write;
use std::sync::Arc;

pub(crate) const SLOTS: u32 = 4;

/// What a worker says when it comes back.
struct Return {
    session: SessionId,
    held: Vec<HeldLease>,
    granted: u64,
}

/// The shard in the top byte of a lease id.
pub(crate) fn shard_of(lease: u64) -> ShardId {
    ShardId(lease.to_be_bytes()[0])
}

pub(crate) fn payload(text: &str) -> Payload {
    Payload::json(text.as_bytes().to_vec())
}

impl World {
    /// A frame of a worker arrives at its node.
    pub(crate) fn on_up(&mut self, stream: u64, frame: Up) {
        let n = self.streams[&stream].node;
        if !self.nodes[n].is_up() && matches!(frame, Up::Hello { .. } | Up::Resume { .. }) {
            return self.refuse_stream(stream);
        }
        let Some(session) = self.streams[&stream].session else {
            return match frame {
                Up::Hello { worker } => self.hello(n, stream, worker),
                Up::Resume { worker, session, held, granted } => {
                    self.resume(n, stream, worker, Return { session, held, granted });
                }
                _ => {}
            };
        };
        let mono = self.clock_of(n).mono;
        let is_sure = self.now <= self.nodes[n].confirmed_at + LEASE_MS;
        let Some(stay) = self.nodes[n].stays.get_mut(&session) else { return };
        stay.last_seen = stay.last_seen.max(mono);
        match frame {
            Up::Hello { .. } | Up::Resume { .. } => {}
            Up::Credit { granted_total } => {
                if let Ok(wakes) = self.nodes[n].dispatcher.grant(session, "main", granted_total) {
                    self.wake_for(n, wakes);
                }
            }
            Up::Heartbeat { no, digest, last_assign, last_report } => {
                let differs = stay.differs(digest, last_assign, last_report);
                if is_sure {
                    self.send_down(n, session, Down::HeartbeatAck { no });
                }
                if differs {
                    self.send_down(n, session, Down::SyncRequest);
                }
            }
            Up::Acked { accepted, refused } => {
                for lease in &refused {
                    stay.leases.remove(lease);
                }
                self.acked(n, session, &accepted, &refused);
            }
            Up::Report { seq, updates } => self.report(n, session, seq, updates),
            Up::ControlsAcked(ids) => ids.iter().for_each(|id| drop(stay.controls.remove(id))),
            Up::Ask { lease, ask_id, question } => self.asked(n, session, lease, ask_id, question),
            Up::Sync { held } => {
                let worker = self.streams[&stream].worker;
                let flow = Flow::reconcile(session, held, None);
                let call = self.nodes[n].add_call(Caller::Worker { worker }, 0, flow);
                self.reconcile_next(n, call);
            }
        }
    }

    fn acked(&mut self, n: usize, session: SessionId, accepted: &[u64], refused: &[u64]) {
        for who in 0..self.opt.loops {
            let mine = |lease: &&u64| usize::from(shard_of(**lease).0) % self.opt.loops == who;
            let accepted: Vec<u64> = accepted.iter().filter(mine).copied().collect();
            let refused: Vec<u64> = refused.iter().filter(mine).copied().collect();
            if !accepted.is_empty() || !refused.is_empty() {
                self.post(n, who, Mail::Decide(Input::Acked { session, accepted, refused }, ReplyTo::Nobody));
            }
        }
    }

    fn report(&mut self, n: usize, session: SessionId, seq: u64, updates: Vec<(Name, Word)>) {
        let loops = self.opt.loops;
        let mut parts: Vec<(Vec<Update>, Vec<u32>)> = (0..loops).map(|_| Default::default()).collect();
        let mut ended = Vec::new();
        let had_ended = self.nodes[n].stays.get(&session).map(|s| s.ended_before.clone()).unwrap_or_default();
        for (index, (name, word)) in (0u32..).zip(updates) {
            let (lease, shard) = match name {
                Name::Id(id) => {
                    if word.is_last() {
                        if had_ended.contains(&id) {
                            continue;
                        }
                        ended.push(id);
                    }
                    (LeaseRef::Id(id), shard_of(id).0)
                }
            };
            let part = &mut parts[usize::from(shard) % loops];
            let usage = usage_of(&word);
            part.0.push(Update { lease, kind: kind_of(word), usage });
            part.1.push(index);
        }
        let Some(stay) = self.nodes[n].stays.get_mut(&session) else { return };
        for lease in &ended {
            stay.leases.remove(lease);
        }
        let used = parts.iter().filter(|(updates, _)| !updates.is_empty()).count();
        if seq <= stay.last_seq {
            let durable = stay.durable;
            if seq <= durable {
                self.send_down(n, session, Down::ReportAck { durable, rejected: Vec::new() });
            }
            return;
        }
        stay.last_seq = seq;
        stay.reports.insert(seq, WaitingReport { parts: used, rejected: Vec::new() });
        if used == 0 {
            self.report_done(n, session, seq, &[], &[]);
        }
        for (who, (updates, indexes)) in parts.into_iter().enumerate() {
            if !updates.is_empty() {
                let to = ReplyTo::Report { session, seq, indexes };
                self.post(n, who, Mail::Decide(Input::Report { session, updates }, to));
            }
        }
    }

    /// One part of a report is committed; the ack counts up to the first that is not.
    pub(crate) fn report_done(
        &mut self,
        n: usize,
        session: SessionId,
        seq: u64,
        rejected: &[Rejected],
        indexes: &[u32],
    ) {
        let Some(stay) = self.nodes[n].stays.get_mut(&session) else { return };
        let Some(waiting) = stay.reports.get_mut(&seq) else { return };
        for one in rejected {
            waiting.rejected.push((seq, indexes.get(one.index).copied().unwrap_or(u32::MAX), one.code));
        }
        waiting.parts = waiting.parts.saturating_sub(1);
        let mut all = Vec::new();
        let mut has_moved = false;
        while let Some(first) = stay.reports.first_entry() {
            if first.get().parts > 0 {
                break;
            }
            let (done, waiting) = first.remove_entry();
            all.extend(waiting.rejected);
            stay.durable = done;
            has_moved = true;
        }
        let durable = stay.durable;
        for (_, _, code) in &all {
            self.cover.rejected(*code);
        }
        if has_moved {
            self.send_down(n, session, Down::ReportAck { durable, rejected: all });
        }
    }

    /// Hands committed leases to a worker. Without a session or a stream the offers run out by themselves.
    pub(crate) fn deliver(&mut self, n: usize, session: SessionId, list: Vec<(u64, Arc<Job>)>) {
        let Some(stay) = self.nodes[n].stays.get_mut(&session).filter(|s| s.stream.is_some()) else { return };
        stay.assign_no += 1;
        let no = stay.assign_no;
        let mut assignments = Vec::new();
        for (lease, job) in list {
            let Some(open) = job.state.lease() else { continue };
            stay.leases.insert(lease, no);
            let token = Token { job: job.key(), serial: open.serial, shard: job.shard.0 };
            assignments.push(Assignment { lease, token, job });
        }
        self.send_down(n, session, Down::Assign { no, list: assignments });
    }

    pub(crate) fn control(&mut self, n: usize, session: SessionId, lease: u64, why: Stop) {
        let Some(stay) = self.nodes[n].stays.get_mut(&session) else { return };
        stay.control_no += 1;
        let no = stay.control_no;
        if why == Stop::Reclaim {
            stay.leases.remove(&lease);
        }
        stay.controls.insert(no, (lease, why.clone()));
        self.send_down(n, session, Down::Controls(vec![(no, lease, why)]));
    }

    /// Frees what closed leases held, now that their end is committed.
    pub(crate) fn release(&mut self, n: usize, closed: &[Closed]) {
        let mut wakes = Vec::new();
        let mut slots = Vec::new();
        let is_alike =
            |a: &Closed, b: &Closed| a.session == b.session && a.lane_id == b.lane_id && a.topic == b.topic;
        let Node { dispatcher, stays, .. } = &mut self.nodes[n];
        for run in closed.chunk_by(is_alike) {
            let count = u32::try_from(run.len()).unwrap_or(u32::MAX);
            wakes.extend(dispatcher.closed(&run[0].topic, run[0].session, &run[0].lane_id, count));
        }
        for one in closed {
            for (key, holder) in one.slots() {
                for who in dispatcher.free_slot(key, *holder) {
                    if !slots.contains(&(who, key.clone())) {
                        slots.push((who, key.clone()));
                    }
                }
            }
            if let Some(stay) = stays.get_mut(&one.session) {
                stay.leases.remove(&one.lease_id);
            }
        }
        self.wake_for(n, wakes);
        for (who, key) in slots {
            self.nudge(n, who, Input::SlotFree(key));
        }
    }

    pub(crate) fn wake_for(
        &mut self,
        n: usize,
        wakes: impl IntoIterator<Item = coretex_kernel::dispatcher::Wake>,
    ) {
        for wake in wakes {
            for who in wake.loops {
                self.nudge(n, who, Input::Work(vec![wake.topic.clone()]));
            }
        }
    }

    pub(crate) fn nudge(&mut self, n: usize, who: usize, input: Input) {
        if let Some(shard_loop) = self.nodes[n].loops.get_mut(who) {
            shard_loop.nudges.push(input);
            self.wake(n, who);
        }
    }
}

// === impl World: begin and end of sessions ===

impl World {
    fn hello(&mut self, n: usize, stream: u64, worker: usize) {
        let id = worker_name(worker);
        if let Some(older) = self.nodes[n].by_worker.get(&id).copied() {
            self.nodes[n].dispatcher.set_schedulable(older, false);
            self.send_down(n, older, Down::GoAway { is_replaced: true });
        }
        let now = self.clock_of(n).wall;
        let chance = self.chance.wide();
        let session = Session {
            session_id: SessionId::make(now.0, chance, ShardId((chance & 0xff) as u8)),
            epoch: 1,
            namespace: self.namespace.clone(),
            worker_id: id.clone(),
            principal: id,
            pool: if worker.is_multiple_of(3) { "gpu".into() } else { "".into() },
            capabilities: if worker.is_multiple_of(2) { vec!["even".into()] } else { Vec::new() },
            labels: Vec::new(),
            lanes: vec![Lane { lane_id: "main".into(), topics: self.topics.clone(), slots: SLOTS }],
            ttl: self.opt.session_ttl,
            sdk: "sim".into(),
            host: "sim".into(),
            create_time: now,
            is_polling: false,
        };
        let session = Arc::new(session);
        let flow = Flow::Hello { stream, session: session.clone() };
        let call = self.nodes[n].add_call(Caller::Worker { worker }, 0, flow);
        self.post(n, 0, Mail::Rows(vec![Write::Session(session)], ReplyTo::Call(call)));
    }

    /// The row is committed: the worker is welcome.
    pub(crate) fn welcome(&mut self, n: usize, stream: u64, session: Arc<Session>) {
        let mono = self.clock_of(n).mono;
        let id = session.session_id;
        self.nodes[n].stays.insert(id, Stay::new(session.clone(), mono));
        self.nodes[n].by_worker.insert(session.worker_id.clone(), id);
        self.nodes[n].dispatcher.join(session, &Default::default());
        self.attach(n, stream, id);
        self.arm_sessions(n);
        let ttl = self.opt.session_ttl;
        self.send_down(n, id, Down::Welcome { session: id, ttl, resumed: None, is_new: true });
    }

    pub(crate) fn attach(&mut self, n: usize, stream: u64, session: SessionId) {
        let is_open = self.streams.get(&stream).is_some_and(|s| s.is_open_at_node);
        let Some(stay) = self.nodes[n].stays.get_mut(&session) else { return };
        stay.assign_no = 0;
        stay.is_draining = false;
        stay.stream = is_open.then_some(stream);
        if let Some(s) = self.streams.get_mut(&stream) {
            s.session = Some(session);
        }
        if !is_open {
            self.nodes[n].dispatcher.set_schedulable(session, false);
        }
    }

    fn resume(&mut self, n: usize, stream: u64, worker: usize, back: Return) {
        let Return { session, held, granted } = back;
        let mono = self.clock_of(n).mono;
        let Some(stay) = self.nodes[n].stays.get_mut(&session) else {
            return self.hello(n, stream, worker);
        };
        let mut next = (*stay.session).clone();
        next.epoch += 1;
        let next = Arc::new(next);
        // Until the new stream is there nothing is delivered: what is committed meanwhile counts as never arrived.
        stay.stream = None;
        stay.session = next.clone();
        stay.last_seen = stay.last_seen.max(mono);
        self.nodes[n].dispatcher.set_schedulable(session, false);
        let accounts = self.nodes[n].dispatcher.accounts(session);
        let flow = Flow::reconcile(session, held, Some(NewStream { stream, accounts, granted }));
        let call = self.nodes[n].add_call(Caller::Worker { worker }, 0, flow);
        self.post(n, 0, Mail::Rows(vec![Write::Session(next)], ReplyTo::Call(call)));
    }

    /// A stream is gone, as the node sees it. The session lives on.
    pub(crate) fn detach(&mut self, n: usize, stream: u64) {
        let Some(session) = self.streams.get(&stream).and_then(|s| s.session) else { return };
        let Some(stay) = self.nodes[n].stays.get_mut(&session).filter(|s| s.stream == Some(stream)) else {
            return;
        };
        stay.stream = None;
        let is_done = stay.is_draining && stay.is_idle();
        self.nodes[n].dispatcher.set_schedulable(session, false);
        if is_done {
            self.end_session(n, session);
        }
    }

    /// Plans the next look at the deadlines.
    pub(crate) fn arm_sessions(&mut self, n: usize) {
        let boot = self.nodes[n].boot;
        let deadline = self.nodes[n].stays.values().map(|s| self.deadline(s)).min();
        if let Some(at) = deadline {
            let at = self.nodes[n].clock.when(at).max(self.now + 1);
            if at < self.nodes[n].sessions_at {
                self.nodes[n].sessions_at = at;
                self.push(at, Event::Sessions { node: n, boot });
            }
        }
    }

    fn deadline(&self, stay: &Stay) -> coretex_domain::Time {
        let mut ttl = stay.session.ttl;
        if self.opt.has_kernel(Mutant::EarlySessionExpiry) {
            ttl.0 /= 2;
        }
        stay.last_seen + ttl
    }

    pub(crate) fn on_sessions(&mut self, n: usize) {
        if !self.nodes[n].is_alive() {
            return;
        }
        if self.nodes[n].sessions_at <= self.now {
            self.nodes[n].sessions_at = u64::MAX;
        }
        let mono = self.clock_of(n).mono;
        let due = |stay: &&Stay| self.deadline(stay) <= mono;
        let expired: Vec<SessionId> =
            self.nodes[n].stays.values().filter(due).map(|s| s.session.session_id).collect();
        for session in expired {
            let worker =
                self.nodes[n].stays.get(&session).map_or(usize::MAX, |s| worker_number(&s.session.worker_id));
            self.check_expiry(n, session, worker);
            self.trace(|| format!("node {n}: session of worker {worker} expired"));
            self.cover.expired_sessions += 1;
            self.end_session(n, session);
        }
        self.arm_sessions(n);
    }

    /// No more work, leases closed, row gone.
    pub(crate) fn end_session(&mut self, n: usize, session: SessionId) {
        self.nodes[n].dispatcher.leave(session);
        self.send_down(n, session, Down::GoAway { is_replaced: false });
        let Some(stay) = self.nodes[n].stays.remove(&session) else { return };
        let Node { by_worker, .. } = &mut self.nodes[n];
        if by_worker.get(&stay.session.worker_id) == Some(&session) {
            by_worker.remove(&stay.session.worker_id);
        }
        for who in 0..self.opt.loops {
            self.post(n, who, Mail::Decide(Input::SessionEnd { session }, ReplyTo::Nobody));
        }
        self.post(n, 0, Mail::Rows(vec![Write::SessionEnd(session)], ReplyTo::Nobody));
    }
}

pub(crate) fn worker_name(worker: usize) -> Arc<str> {
    format!("w{worker}").into()
}

pub(crate) fn worker_number(name: &str) -> usize {
    name[1..].parse().unwrap_or(usize::MAX)
}

/// What a worker says it used with a word: those that run long or end say something.
pub(crate) fn usage_of(word: &Word) -> Option<Box<Usage>> {
    let tokens_in = match word {
        Word::Progress => 20,
        Word::Failed { .. } => 30,
        Word::Succeeded(_) => 15,
        Word::Started | Word::Checkpoint(_) | Word::Cancelled | Word::Released => return None,
    };
    Some(Box::new(Usage { tokens_in, ..Usage::default() }))
}

pub(crate) fn kind_of(word: Word) -> UpdateKind {
    match word {
        Word::Started => UpdateKind::Started,
        Word::Progress => {
            UpdateKind::Progress { fraction: 0.5, message: "half".into(), attributes: Vec::new() }
        }
        Word::Checkpoint(text) => UpdateKind::Checkpoint(payload(&text)),
        Word::Succeeded(text) => UpdateKind::Succeeded(payload(&text)),
        Word::Failed { kind, retryable, retry } => {
            let message = kind.clone();
            let details = Payload::empty();
            let failure = Failure { kind, message, retryable, details, stack: "".into() };
            UpdateKind::Failed { failure: Box::new(failure), retry }
        }
        Word::Cancelled => UpdateKind::Cancelled,
        Word::Released => UpdateKind::Released { checkpoint: None },
    }
}
