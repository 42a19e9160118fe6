//! Workers: honest ones, and those that crash, forget, lie, dawdle, refuse and will not be cancelled.

use crate::event::{Act, Event};
use crate::fault::Fault;
use crate::handler::{Gift, Script, body_of};
use crate::rng::Rng;
use crate::sessions::SLOTS;
use crate::wire::{Ask, Assignment, Caller, Down, HeldLease, Name, Resumed, Token, Up, Word};
use crate::world::World;
use coretex_domain::{SessionId, Span};
use coretex_kernel::input::{Directive, RejectCode, Stop, Verdict};
use std::collections::BTreeMap;

/// How a worker behaves, besides what happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Honest,
    Slow,
    Liar,
    NeverAcks,
    NeverStarts,
    Refuser,
    Releaser,
    Stubborn,
}

const KINDS: [Kind; 8] = [
    Kind::Honest,
    Kind::Honest,
    Kind::Slow,
    Kind::Liar,
    Kind::NeverAcks,
    Kind::Stubborn,
    Kind::Refuser,
    Kind::Releaser,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Offered,
    Running,
    /// Done; the report with this number is not acknowledged yet.
    Reported(u64),
}

/// A lease in a worker's hands.
#[derive(Clone, Debug)]
pub(crate) struct Holding {
    pub(crate) token: Token,
    pub(crate) stage: Stage,
    is_poison: bool,
    is_destined_to_fail: bool,
    is_stopping: bool,
    /// What a step of a run gives.
    gives: Option<Gift>,
    /// What its handler has to ask before it is done.
    pub(crate) script: Script,
}

pub(crate) struct Worker {
    pub(crate) roll: Rng,
    pub(crate) kind: Kind,
    /// Counts processes.
    pub(crate) process: u32,
    pub(crate) stream: Option<u64>,
    pub(crate) is_welcome: bool,
    pub(crate) session: Option<SessionId>,
    pub(crate) ttl: Span,
    pub(crate) leases: BTreeMap<u64, Holding>,
    granted: u64,
    beat_no: u64,
    beats: BTreeMap<u64, u64>,
    /// When the newest acknowledged heartbeat was sent.
    pub(crate) acked_beat: u64,
    opened_at: u64,
    last_assign: u64,
    report_seq: u64,
    unacked: BTreeMap<u64, Vec<(Name, Word)>>,
    outbox: Vec<(Name, Word)>,
    pub(crate) silent_until: u64,
    /// Leases once held, for lies.
    pub(crate) old: Vec<(u64, Token)>,
    is_connecting: bool,
}

impl Worker {
    pub(crate) fn new(number: usize, mut roll: Rng) -> Worker {
        let kind = if number < 2 { Kind::Honest } else { *roll.pick(&KINDS) };
        let kind = if kind == Kind::NeverAcks && roll.chance(5_000) { Kind::NeverStarts } else { kind };
        Worker {
            roll,
            kind,
            process: 0,
            stream: None,
            is_welcome: false,
            session: None,
            ttl: Span::ZERO,
            leases: BTreeMap::new(),
            granted: 0,
            beat_no: 0,
            beats: BTreeMap::new(),
            acked_beat: 0,
            opened_at: 0,
            last_assign: 0,
            report_seq: 0,
            unacked: BTreeMap::new(),
            outbox: Vec::new(),
            silent_until: 0,
            old: Vec::new(),
            is_connecting: false,
        }
    }

    fn digest(&self) -> u64 {
        let held = self.leases.iter().filter(|(_, h)| !matches!(h.stage, Stage::Reported(_)));
        held.fold(0, |sum, (lease, _)| sum ^ crate::rng::mix(*lease))
    }

    fn held(&self) -> Vec<HeldLease> {
        let one = |(lease, h): (&u64, &Holding)| HeldLease {
            lease: *lease,
            token: h.token,
            is_finished: matches!(h.stage, Stage::Reported(_)),
        };
        self.leases.iter().map(one).collect()
    }
}

// === impl World: the life of a worker ===

impl World {
    pub(crate) fn plan_act(&mut self, w: usize, wait: u64, act: Act) {
        let process = self.workers[w].process;
        self.push(self.now + wait, Event::Worker { worker: w, process, act });
    }

    pub(crate) fn on_act(&mut self, w: usize, act: Act) {
        match act {
            Act::Connect => self.connect(w),
            Act::Beat => self.beat(w),
            Act::Start(lease) => self.start(w, lease),
            Act::Work(lease) => self.finish_work(w, lease),
            Act::AskAgain(lease) => self.ask_again(w, lease),
            Act::Flush => self.flush(w),
            Act::Restart => self.connect_soon(w, 0),
        }
    }

    fn connect_soon(&mut self, w: usize, wait: u64) {
        if !self.workers[w].is_connecting {
            self.workers[w].is_connecting = true;
            self.plan_act(w, wait, Act::Connect);
        }
    }

    fn connect(&mut self, w: usize) {
        let worker = &mut self.workers[w];
        worker.is_connecting = false;
        if let Some(stream) = worker.stream.take() {
            self.close_at_worker(stream);
        }
        let node = self.believed_owner(w, true);
        let stream = self.open_stream(w, node);
        let now = self.now;
        let worker = &mut self.workers[w];
        worker.stream = Some(stream);
        worker.is_welcome = false;
        worker.opened_at = now;
        worker.last_assign = 0;
        worker.beats.clear();
        let frame = match worker.session {
            Some(session) => Up::Resume { worker: w, session, held: worker.held(), granted: worker.granted },
            None => Up::Hello { worker: w },
        };
        self.send_up(stream, frame);
        if !self.nodes[node].is_alive() {
            self.close_at_worker(stream);
            self.stream_lost(w);
        }
    }

    /// The stream ended; the session may go on.
    pub(crate) fn stream_lost(&mut self, w: usize) {
        self.workers[w].stream = None;
        let wait = self.workers[w].roll.skewed(50, 3_000);
        self.connect_soon(w, wait);
    }

    pub(crate) fn restart_worker(&mut self, w: usize, wait: u64, forgets: bool) {
        let session = self.workers[w].session.filter(|_| forgets);
        if let Some(stream) = self.workers[w].stream.take() {
            self.close_at_worker(stream);
        }
        let worker = &mut self.workers[w];
        worker.process += 1;
        worker.is_connecting = false;
        worker.leases.clear();
        worker.unacked.clear();
        worker.outbox.clear();
        worker.session = session;
        worker.report_seq = if session.is_some() { worker.report_seq } else { 0 };
        self.plan_act(w, wait, Act::Restart);
        self.plan_act(w, wait + 1, Act::Beat);
    }

    fn beat(&mut self, w: usize) {
        let every = (self.opt.session_ttl.0 / 3).min(5_000);
        let wait = every - every / 10 + self.workers[w].roll.below(every / 5);
        self.plan_act(w, wait, Act::Beat);
        let (now, ttl) = (self.now, self.opt.session_ttl.0);
        let worker = &mut self.workers[w];
        let Some(stream) = worker.stream else { return };
        if !worker.is_welcome {
            if now > worker.opened_at + 5_000 {
                self.close_at_worker(stream);
                self.stream_lost(w);
            }
            return;
        }
        // Its licence has run out: whatever it does now may be done by another.
        if now > worker.acked_beat + ttl * 8 / 10 && worker.kind != Kind::Liar && worker.silent_until < now {
            worker.leases.clear();
            worker.unacked.clear();
            worker.outbox.clear();
            worker.session = None;
            worker.report_seq = 0;
            self.close_at_worker(stream);
            return self.stream_lost(w);
        }
        if now > worker.acked_beat.max(worker.opened_at) + 2 * every + 1_000 && worker.silent_until < now {
            self.close_at_worker(stream);
            return self.stream_lost(w);
        }
        if worker.silent_until > now {
            return;
        }
        worker.beat_no += 1;
        worker.beats.insert(worker.beat_no, now);
        let frame = Up::Heartbeat {
            no: worker.beat_no,
            digest: worker.digest(),
            last_assign: worker.last_assign,
            last_report: worker.report_seq,
        };
        self.send_up(stream, frame);
        self.maybe_lie(w);
    }
}

// === impl World: frames from the node ===

impl World {
    pub(crate) fn on_down(&mut self, w: usize, frame: Down) {
        let Some(stream) = self.workers[w].stream else { return };
        match frame {
            Down::Welcome { session, ttl, resumed, is_new } => {
                self.welcomed(w, stream, session, ttl, resumed, is_new)
            }
            Down::Refused => {
                self.close_at_worker(stream);
                self.stream_lost(w);
            }
            Down::HeartbeatAck { no } => {
                let worker = &mut self.workers[w];
                if let Some(sent) = worker.beats.remove(&no) {
                    worker.acked_beat = worker.acked_beat.max(sent);
                }
            }
            Down::Assign { no, list } => {
                self.workers[w].last_assign = no;
                self.assigned(w, stream, list);
            }
            Down::ReportAck { durable, rejected } => self.report_acked(w, durable, &rejected),
            Down::Controls(list) => {
                let ids = list.iter().map(|(no, ..)| *no).collect();
                self.send_up(stream, Up::ControlsAcked(ids));
                for (_, lease, why) in list {
                    self.controlled(w, lease, &why);
                }
            }
            Down::Answer { lease, ask_id, answer } => self.answered(w, lease, ask_id, answer),
            Down::SyncRequest => {
                let held = self.workers[w].held();
                self.send_up(stream, Up::Sync { held });
            }
            Down::Resumed(resumed) => self.reconcile_here(w, resumed),
            Down::GoAway { is_replaced: true } => {}
            Down::GoAway { is_replaced: false } => {
                self.close_at_worker(stream);
                self.workers[w].stream = None;
                self.connect_soon(w, 500);
            }
        }
    }

    fn welcomed(
        &mut self,
        w: usize,
        stream: u64,
        id: SessionId,
        ttl: Span,
        resumed: Option<Resumed>,
        is_new: bool,
    ) {
        let worker = &mut self.workers[w];
        worker.is_welcome = true;
        worker.ttl = ttl;
        worker.acked_beat = worker.opened_at;
        if is_new {
            worker.session = Some(id);
            worker.leases.clear();
            worker.unacked.clear();
            worker.outbox.clear();
            worker.report_seq = 0;
        }
        // Grants go on from what was used; what is dropped on the way is granted as it is dropped.
        let used = resumed.as_ref().map_or(0, |r| r.assigned);
        worker.granted = used + u64::from(SLOTS).saturating_sub(worker.leases.len() as u64);
        if let Some(resumed) = resumed {
            self.reconcile_here(w, resumed);
        }
        let granted_total = self.workers[w].granted;
        self.send_up(stream, Up::Credit { granted_total });
    }

    /// Takes the node's verdicts on what is held, and sends again what is not durable.
    fn reconcile_here(&mut self, w: usize, resumed: Resumed) {
        for (lease, verdict) in &resumed.verdicts {
            match verdict {
                Verdict::Keep | Verdict::ResendResult => {}
                Verdict::Cancel => {
                    self.controlled(w, *lease, &Stop::Cancel { reason: "told on resume".into() })
                }
                Verdict::Lost | Verdict::AlreadyTerminal => self.drop_lease(w, *lease),
            }
        }
        let worker = &mut self.workers[w];
        worker.unacked.retain(|seq, _| *seq > resumed.last_report);
        let again: Vec<_> = worker.unacked.iter().map(|(seq, updates)| (*seq, updates.clone())).collect();
        let Some(stream) = worker.stream else { return };
        for (seq, updates) in again {
            self.send_up(stream, Up::Report { seq, updates });
        }
        let asking: Vec<u64> = self.workers[w].leases.keys().copied().collect();
        asking.into_iter().for_each(|lease| self.ask_again(w, lease));
    }

    fn assigned(&mut self, w: usize, stream: u64, list: Vec<Assignment>) {
        let kind = if self.is_calm { Kind::Honest } else { self.workers[w].kind };
        let (mut accepted, mut refused) = (Vec::new(), Vec::new());
        for Assignment { lease, token, job } in list {
            self.oracle.on_received(&job, token.serial);
            let worker = &mut self.workers[w];
            let body = body_of(&job);
            let holding = Holding {
                token,
                stage: Stage::Offered,
                is_poison: body.starts_with("poison"),
                is_destined_to_fail: ["fail", "swarm", "family 7"].iter().any(|f| body.starts_with(f)),
                is_stopping: false,
                gives: Gift::of(&job),
                script: Script::of(&job),
            };
            worker.leases.insert(lease, holding);
            worker.old.push((lease, token));
            let roll = worker.roll.below(100);
            let wait = worker.roll.skewed(1, 100);
            match kind {
                _ if body.starts_with("unwanted") && self.strikes(Fault::OfferRefused) => refused.push(lease),
                Kind::NeverAcks if roll < 70 && self.strikes(Fault::NoAck) => continue,
                Kind::Refuser if roll < 60 && self.strikes(Fault::OfferRefused) => refused.push(lease),
                Kind::NeverStarts if roll < 70 && self.strikes(Fault::NoStart) => accepted.push(lease),
                _ => {
                    accepted.push(lease);
                    self.plan_act(w, wait, Act::Start(lease));
                }
            }
        }
        let gone = refused.clone();
        self.send_up(stream, Up::Acked { accepted, refused });
        gone.into_iter().for_each(|lease| self.drop_lease(w, lease));
    }

    fn report_acked(&mut self, w: usize, durable: u64, rejected: &[(u64, u32, RejectCode)]) {
        let mut stale = Vec::new();
        let mut cancelled = Vec::new();
        for (seq, index, code) in rejected {
            let update = self.workers[w].unacked.get(seq).and_then(|u| u.get(*index as usize));
            let Some((Name::Id(lease), _)) = update else { continue };
            match code {
                RejectCode::StaleLease => stale.push(*lease),
                RejectCode::Cancelled => cancelled.push(*lease),
                RejectCode::TooLarge => {}
            }
        }
        let worker = &mut self.workers[w];
        worker.unacked.retain(|seq, _| *seq > durable);
        let done =
            worker.leases.iter().filter(|(_, h)| matches!(h.stage, Stage::Reported(seq) if seq <= durable));
        let done: Vec<u64> = done.map(|(lease, _)| *lease).collect();
        done.into_iter().chain(stale).for_each(|lease| self.drop_lease(w, lease));
        for lease in cancelled {
            self.controlled(w, lease, &Stop::Cancel { reason: "told by a reject".into() });
        }
    }

    fn controlled(&mut self, w: usize, lease: u64, why: &Stop) {
        let worker = &mut self.workers[w];
        let is_stubborn = worker.kind == Kind::Stubborn;
        let Some(holding) = worker.leases.get_mut(&lease) else { return };
        if matches!(holding.stage, Stage::Reported(_)) {
            return;
        }
        match why {
            Stop::Cancel { .. } => {
                if is_stubborn && self.strikes(Fault::CancelIgnored) {
                    return;
                }
                let worker = &mut self.workers[w];
                if let Some(holding) = worker.leases.get_mut(&lease).filter(|h| !h.is_stopping) {
                    holding.is_stopping = true;
                    let wait = worker.roll.skewed(1, 2_000);
                    self.plan_act(w, wait, Act::Work(lease));
                }
            }
            Stop::Reclaim if holding.stage == Stage::Running => {}
            Stop::TimedOut | Stop::Stalled | Stop::OverBudget | Stop::Drained | Stop::Reclaim => {
                self.drop_lease(w, lease)
            }
        }
    }

    /// The lease is out of the worker's hands: its slot can be given again.
    fn drop_lease(&mut self, w: usize, lease: u64) {
        let worker = &mut self.workers[w];
        if worker.leases.remove(&lease).is_none() {
            return;
        }
        worker.granted += 1;
        let granted_total = worker.granted;
        if let Some(stream) = worker.stream.filter(|_| worker.is_welcome) {
            self.send_up(stream, Up::Credit { granted_total });
        }
    }
}

// === impl World: work ===

impl World {
    fn start(&mut self, w: usize, lease: u64) {
        let is_slow = self.workers[w].kind == Kind::Slow && !self.is_calm;
        let worker = &mut self.workers[w];
        let Some(holding) = worker.leases.get_mut(&lease).filter(|h| h.stage == Stage::Offered) else {
            return;
        };
        holding.stage = Stage::Running;
        if holding.is_poison {
            self.cover.strike(Fault::Poison);
            // The start is told before the job kills its worker: sent, but not always received.
            self.say_of(w, lease, Word::Started);
            self.flush(w);
            let wait = self.workers[w].roll.skewed(500, 8_000);
            return self.restart_worker(w, wait, false);
        }
        if !holding.script.is_done() {
            return self.begin_to_ask(w, lease);
        }
        let length = match (is_slow, worker.roll.below(10)) {
            (true, _) => worker.roll.skewed(5_000, 60_000),
            (false, 0..=3) => worker.roll.skewed(1, 50),
            (false, _) => worker.roll.skewed(50, 10_000),
        };
        if length > 50 {
            self.say_of(w, lease, Word::Started);
        }
        self.plan_act(w, length, Act::Work(lease));
    }

    fn finish_work(&mut self, w: usize, lease: u64) {
        let is_calm = self.is_calm;
        let worker = &mut self.workers[w];
        let kind = if is_calm { Kind::Honest } else { worker.kind };
        let Some(holding) = worker.leases.get(&lease).filter(|h| !matches!(h.stage, Stage::Reported(_)))
        else {
            return;
        };
        let (serial, is_stopping, fails, gives) =
            (holding.token.serial, holding.is_stopping, holding.is_destined_to_fail, holding.gives);
        let roll = worker.roll.below(100);
        let word = if is_stopping {
            if roll < 80 { Word::Cancelled } else { Word::Released }
        } else if kind == Kind::Releaser && roll < 40 {
            Word::Released
        } else if fails || roll < 6 {
            let kind = if roll.is_multiple_of(3) { "FatalError" } else { "TransientError" };
            let retry = match roll % 5 {
                0 => Directive::NoRetry,
                1 => Directive::After(Span(worker.roll.skewed(100, 5_000))),
                _ => Directive::Default,
            };
            Word::Failed { kind: kind.into(), retryable: !roll.is_multiple_of(7), retry }
        } else if roll < 15 && !is_calm {
            let wait = worker.roll.skewed(100, 5_000);
            let word = if roll < 11 { Word::Progress } else { Word::Checkpoint(format!("{serial}:cp")) };
            self.say_of(w, lease, word);
            return self.plan_act(w, wait, Act::Work(lease));
        } else if roll == 15 && !is_calm {
            Word::Cancelled
        } else {
            let by = format!("{serial}:w{w}");
            Word::Succeeded(gives.map_or(by.clone(), |gift| gift.given(&by)))
        };
        self.say_of(w, lease, word);
    }

    pub(crate) fn say_of(&mut self, w: usize, lease: u64, word: Word) {
        let worker = &mut self.workers[w];
        let is_first = worker.outbox.is_empty();
        worker.outbox.push((Name::Id(lease), word));
        if is_first {
            self.plan_act(w, 2, Act::Flush);
        }
    }

    fn flush(&mut self, w: usize) {
        let worker = &mut self.workers[w];
        if worker.outbox.is_empty() {
            return;
        }
        let Some(stream) = worker.stream.filter(|_| worker.is_welcome) else {
            // The outbox goes out with the next stream.
            return self.plan_act(w, 500, Act::Flush);
        };
        let updates = std::mem::take(&mut worker.outbox);
        worker.report_seq += 1;
        let seq = worker.report_seq;
        for (name, word) in &updates {
            if let Name::Id(lease) = name
                && word.is_last()
                && let Some(holding) = worker.leases.get_mut(lease)
            {
                holding.stage = Stage::Reported(seq);
            }
        }
        worker.unacked.insert(seq, updates.clone());
        self.send_up(stream, Up::Report { seq, updates });
    }

    /// Says things it may not say: results of closed leases, of leases that never were, twice over.
    fn maybe_lie(&mut self, w: usize) {
        let worker = &mut self.workers[w];
        if worker.kind != Kind::Liar || worker.old.is_empty() || !worker.roll.chance(4_000) {
            return;
        }
        if !self.strikes(Fault::Lie) {
            return;
        }
        let node = self.believed_owner(w, true);
        if self.workers[w].roll.chance(2_000) {
            return self.ask_late(w);
        }
        let worker = &mut self.workers[w];
        let recent = worker.old.len().min(30);
        let at = worker.old.len() - 1 - worker.roll.index(recent);
        let (lease, mut token) = worker.old[at];
        match worker.roll.below(5) {
            0 => token.serial = token.serial.saturating_sub(1),
            1 => token.serial += 1 + worker.roll.below(3) as u32,
            2 => {
                // A short id it does not hold any more, or never held.
                let id = if worker.roll.chance(5_000) { lease } else { lease ^ 1 };
                worker.outbox.push((Name::Id(id), Word::Succeeded("*:lie".into())));
                self.cover.lies_by_id += 1;
                return self.flush(w);
            }
            _ => {}
        }
        let word = match worker.roll.below(4) {
            0 => Word::Failed { kind: "Lie".into(), retryable: true, retry: Directive::Default },
            1 => Word::Progress,
            _ => Word::Succeeded(format!("{}:lie", token.serial)),
        };
        self.cover.lies_by_token += 1;
        let ask = Ask::Report { said: vec![(token, word)] };
        self.send_call(Caller::Worker { worker: w }, node, &ask);
    }
}
