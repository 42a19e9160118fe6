//! What travels between clients, workers and nodes: the words of the real API, without its encoding.

use crate::runs::RunWish;
use coretex_domain::approval::{Approval, ApprovalId, Choice};
use coretex_domain::job::{Job, Spec};
use coretex_domain::receipt::Told;
use coretex_domain::topic::Settings;
use coretex_domain::{JobId, JobKey, Payload, Reason, Run, SessionId, Span};
use coretex_kernel::input::{Directive, RejectCode, Stop, Verdict};
use std::sync::Arc;

/// Who waits for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Client {
        client: usize,
        call: u64,
    },
    Worker {
        worker: usize,
    },
    /// The process itself: what it asks of a run on its own account.
    Nobody,
}

/// A unary call.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Submit {
        request_id: Option<Arc<str>>,
        wants: Vec<Want>,
    },
    Cancel {
        job: JobId,
    },
    Retry {
        job: JobId,
        request_id: Arc<str>,
    },
    Get {
        job: JobId,
    },
    Wait {
        job: JobId,
    },
    Explain {
        job: JobId,
    },
    Topic {
        name: Arc<str>,
        change: TopicChange,
    },
    Vote {
        id: ApprovalId,
        voter: Arc<str>,
        choice: Choice,
        edited: Option<Payload>,
    },
    Delegate {
        id: ApprovalId,
        voter: Arc<str>,
        to: Arc<str>,
    },
    /// Something about a run.
    Run(RunWish),
    /// Results by token, outside a stream.
    Report {
        said: Vec<(Token, Word)>,
    },
}

/// One job asked for.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    pub(crate) spec: Arc<Spec>,
    pub(crate) job_id: Option<JobId>,
}

#[derive(Clone, Debug)]
pub(crate) enum TopicChange {
    Settings(Box<Settings>),
    Pause(bool),
}

/// The answer to a unary call.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    Submitted(Vec<Result<(Arc<Job>, bool), Refused>>),
    Job(Arc<Job>),
    Run(Arc<Run>),
    Explained,
    Voted(Arc<Approval>),
    TopicSet,
    Reported,
    Refused(Refused),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not done and never will be.
    Definite(Why),
    /// It may or may not be done.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    NotOwner,
    NotReady,
    StoreFull,
    Store,
    Conflict,
    NotFound,
    Terminal,
    NotTerminal,
    Overloaded,
    /// Whoever votes may not, and whoever was late.
    Barred,
    Decided,
}

/// The lease token: which job, which lease, which shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) job: JobKey,
    pub(crate) serial: u32,
    pub(crate) shard: u8,
}

/// What a worker says about a lease.
#[derive(Clone, Debug)]
pub(crate) enum Word {
    Started,
    Progress,
    Checkpoint(String),
    Succeeded(String),
    Failed { kind: Arc<str>, retryable: bool, retry: Directive },
    Cancelled,
    Released,
}

impl Word {
    /// After it the worker no longer holds the lease.
    pub(crate) fn is_last(&self) -> bool {
        match self {
            Word::Succeeded(_) | Word::Failed { .. } | Word::Cancelled | Word::Released => true,
            Word::Started | Word::Progress | Word::Checkpoint(_) => false,
        }
    }
}

/// What a handler asks in the middle of an attempt.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// May so many tokens be used?
    Tokens(u64),
    Spawn(Arc<Brood>),
}

/// Jobs to be made of the job of a lease.
#[derive(Debug)]
pub(crate) struct Brood {
    pub(crate) name: Arc<str>,
    pub(crate) specs: Vec<Arc<Spec>>,
    pub(crate) close_with_parent: bool,
}

/// How a worker names a lease.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Name {
    Id(u64),
}

/// A lease a returning worker names.
#[derive(Clone, Debug)]
pub(crate) struct HeldLease {
    pub(crate) lease: u64,
    pub(crate) token: Token,
    pub(crate) is_finished: bool,
}

/// Frames from a worker.
#[derive(Clone, Debug)]
pub(crate) enum Up {
    Hello { worker: usize },
    Resume { worker: usize, session: SessionId, held: Vec<HeldLease>, granted: u64 },
    Credit { granted_total: u64 },
    Heartbeat { no: u64, digest: u64, last_assign: u64, last_report: u64 },
    Acked { accepted: Vec<u64>, refused: Vec<u64> },
    Report { seq: u64, updates: Vec<(Name, Word)> },
    ControlsAcked(Vec<u64>),
    Sync { held: Vec<HeldLease> },
    Ask { lease: u64, ask_id: u64, question: Question },
}

/// Frames to a worker.
#[derive(Clone, Debug)]
pub(crate) enum Down {
    Welcome { session: SessionId, ttl: Span, resumed: Option<Resumed>, is_new: bool },
    Refused,
    HeartbeatAck { no: u64 },
    Assign { no: u64, list: Vec<Assignment> },
    ReportAck { durable: u64, rejected: Vec<(u64, u32, RejectCode)> },
    Controls(Vec<(u64, u64, Stop)>),
    SyncRequest,
    Resumed(Resumed),
    GoAway { is_replaced: bool },
    Answer { lease: u64, ask_id: u64, answer: Result<Told, Reason> },
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Resumed {
    pub(crate) verdicts: Vec<(u64, Verdict)>,
    pub(crate) unknown_to_worker: Vec<u64>,
    pub(crate) last_report: u64,
    /// Credit used so far: grants go on from here.
    pub(crate) assigned: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    pub(crate) lease: u64,
    pub(crate) token: Token,
    pub(crate) job: Arc<Job>,
}
