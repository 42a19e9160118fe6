//! One server process: shard loops, their dispatcher, sessions, and calls that wait for something.

use crate::clock::NodeClock;
use crate::wire::{Caller, Refused};
use coretex_domain::session::Session;
use coretex_domain::topic::Topic;
use coretex_domain::{Job, JobId, JobKey, SessionId, Time};
use coretex_kernel::input::{Effect, Input, RejectCode, Reply, Stop, Submit};
use coretex_kernel::{Dispatcher, View};
use coretex_ports::{Outcome, Write};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// After a disturbance timers may be late for this long.
pub(crate) const EXCUSE_MS: u64 = 20_000;

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Down,
    /// Runs, owns nothing.
    Standby,
    Up,
    /// A commit failed: the failed loop hears the rest of its commits, then all is loaded again.
    Failing {
        who: usize,
    },
    Reclaiming,
}

pub(crate) struct Node {
    /// Counts processes on this machine.
    pub(crate) boot: u32,
    /// Counts loads of the views within a process.
    pub(crate) life: u32,
    pub(crate) phase: Phase,
    pub(crate) paused_until: u64,
    /// How far the machine's wall clock is off.
    pub(crate) offset: i64,
    pub(crate) clock: NodeClock,
    pub(crate) epoch: u64,
    pub(crate) loops: Vec<ShardLoop>,
    /// Mail outlives a reload, as a channel does.
    pub(crate) mails: Vec<VecDeque<Mail>>,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) stays: BTreeMap<SessionId, Stay>,
    pub(crate) by_worker: BTreeMap<Arc<str>, SessionId>,
    pub(crate) calls: BTreeMap<u64, crate::calls::Call>,
    pub(crate) next_call: u64,
    /// What runs asked for; it outlives a reload.
    pub(crate) tasks: BTreeMap<u64, crate::hands::Task>,
    pub(crate) next_task: u64,
    pub(crate) topic_rows: BTreeMap<Arc<str>, Arc<Topic>>,
    /// Calls that change a topic: the first one runs.
    pub(crate) topic_turn: VecDeque<u64>,
    /// Arrival time at the store of the newest group: groups stay in order.
    pub(crate) pipe_at: u64,
    pub(crate) next_commit_no: u64,
    /// Dies right after its next group has left, for so long.
    pub(crate) doomed: Option<u64>,
    /// When this owner last saw that it is one.
    pub(crate) confirmed_at: u64,
    /// The earliest look at session deadlines that is planned.
    pub(crate) sessions_at: u64,
    /// Until then a late timer has an excuse.
    pub(crate) excused_until: u64,
}

pub(crate) struct ShardLoop {
    pub(crate) view: View,
    pub(crate) nudges: Vec<Input>,
    pub(crate) inflight: VecDeque<Committing>,
    pub(crate) again: bool,
    /// A look for work that is planned for now, and the earliest alarm that is set.
    pub(crate) wake_at: u64,
    pub(crate) alarm_at: u64,
    /// Jobs that have left memory, as look-ups are told.
    pub(crate) departed: u64,
    pub(crate) waiters: BTreeMap<JobKey, Vec<ReplyTo>>,
}

/// A group on its way, or replies that wait behind one.
pub(crate) struct Committing {
    pub(crate) no: u64,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) has_writes: bool,
    pub(crate) effects: Vec<Effect>,
    pub(crate) replies: Vec<Pending>,
    /// Jobs that had left memory when the group was decided.
    pub(crate) departed: u64,
}

pub(crate) enum Mail {
    Decide(Input, ReplyTo),
    Rows(Vec<Write>, ReplyTo),
    Wait { job: JobId, to: ReplyTo },
}

/// Where an answer of a loop goes.
#[derive(Clone, Debug)]
pub(crate) enum ReplyTo {
    Nobody,
    Call(u64),
    Report { session: SessionId, seq: u64, indexes: Vec<u32> },
}

pub(crate) enum Pending {
    Reply(Reply, ReplyTo),
    Submit(Vec<Result<(Arc<Job>, bool), Refused>>, ReplyTo),
    Rows(ReplyTo),
    Wait(ReplyTo),
}

/// What a call hears from a loop.
#[derive(Debug)]
pub(crate) enum Got {
    Reply(Reply),
    Submitted(Vec<Result<(Arc<Job>, bool), Refused>>),
    LookAgain(Submit),
    Rows,
    Ended(Option<Arc<Job>>),
    Failed(Refused),
}

/// A report that waits for the commits of its parts.
#[derive(Debug, Default)]
pub(crate) struct WaitingReport {
    pub(crate) parts: usize,
    pub(crate) rejected: Vec<(u64, u32, RejectCode)>,
}

/// One session on its node.
pub(crate) struct Stay {
    pub(crate) session: Arc<Session>,
    /// Monotonic time of the last sign of life.
    pub(crate) last_seen: Time,
    pub(crate) stream: Option<u64>,
    pub(crate) assign_no: u64,
    pub(crate) control_no: u64,
    pub(crate) controls: BTreeMap<u64, (u64, Stop)>,
    /// Leases handed out and not yet reported or taken back: id → number of the Assign frame.
    pub(crate) leases: BTreeMap<u64, u64>,
    pub(crate) is_draining: bool,
    pub(crate) reports: BTreeMap<u64, WaitingReport>,
    pub(crate) last_seq: u64,
    pub(crate) durable: u64,
    pub(crate) mismatches: u32,
    /// Leases whose job had ended when the worker came back: a last word on them again changes nothing.
    pub(crate) ended_before: Vec<u64>,
}

// === impl Node ===

impl Node {
    pub(crate) fn new(offset: i64) -> Node {
        Node {
            boot: 0,
            life: 0,
            phase: Phase::Down,
            paused_until: 0,
            offset,
            clock: NodeClock::new(0, offset),
            epoch: 0,
            loops: Vec::new(),
            mails: Vec::new(),
            dispatcher: Dispatcher::default(),
            stays: BTreeMap::new(),
            by_worker: BTreeMap::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            tasks: BTreeMap::new(),
            next_task: 0,
            topic_rows: BTreeMap::new(),
            topic_turn: VecDeque::new(),
            pipe_at: 0,
            next_commit_no: 0,
            doomed: None,
            confirmed_at: 0,
            sessions_at: u64::MAX,
            excused_until: 0,
        }
    }

    /// Forgets everything a process keeps in memory.
    pub(crate) fn forget(&mut self) {
        self.loops.clear();
        self.mails.iter_mut().for_each(VecDeque::clear);
        self.dispatcher = Dispatcher::default();
        self.stays.clear();
        self.by_worker.clear();
        self.calls.clear();
        self.tasks.clear();
        self.topic_rows.clear();
        self.topic_turn.clear();
    }

    pub(crate) fn excuse(&mut self, until: u64) {
        self.excused_until = self.excused_until.max(until);
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.phase != Phase::Down
    }

    pub(crate) fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    pub(crate) fn add_call(&mut self, from: Caller, exec: u64, flow: crate::calls::Flow) -> u64 {
        self.next_call += 1;
        self.calls.insert(self.next_call, crate::calls::Call { from, exec, flow });
        self.next_call
    }
}

// === impl Stay ===

impl Stay {
    pub(crate) fn new(session: Arc<Session>, mono: Time) -> Stay {
        Stay {
            session,
            last_seen: mono,
            stream: None,
            assign_no: 0,
            control_no: 0,
            controls: BTreeMap::new(),
            leases: BTreeMap::new(),
            is_draining: false,
            reports: BTreeMap::new(),
            last_seq: 0,
            durable: 0,
            mismatches: 0,
            ended_before: Vec::new(),
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.leases.is_empty() && self.reports.is_empty()
    }

    /// Compares the worker's digest at its cut with ours; true when they differ twice in a row.
    pub(crate) fn differs(&mut self, digest: u64, last_assign: u64, last_report: u64) -> bool {
        if last_report < self.last_seq {
            return false;
        }
        let ours = self
            .leases
            .iter()
            .filter(|(_, assign)| **assign <= last_assign)
            .fold(0, |sum, (lease, _)| sum ^ crate::rng::mix(*lease));
        if ours == digest {
            self.mismatches = 0;
            return false;
        }
        self.mismatches += 1;
        self.mismatches >= 2
    }
}
