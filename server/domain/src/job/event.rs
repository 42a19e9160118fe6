//! What can happen to a job. The history of a job is a list of these, and folding it gives the state.

use super::JobId;
use crate::id::SessionId;
use crate::time::Time;
use std::sync::Arc;

/// One line of a job's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Sequence in the job's shard; with the shard it is the event's id.
    pub seq: u64,
    pub time: Time,
    pub event: Event,
}

/// A committed hand-out of a job to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// 1, 2, 3 … per job, never reused: the fence.
    pub serial: u32,
    /// Short name used in frames; its top byte is the shard.
    pub id: u64,
    pub session: SessionId,
    pub worker_id: Arc<str>,
    pub lane_id: Arc<str>,
}

/// Why a started attempt ended without success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    pub close: Close,
    /// Failure type as the worker named it, or ours.
    pub kind: Arc<str>,
    pub message: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Close {
    /// The worker reported a failure.
    Failed = 1,
    /// The worker reported a failure that must not be tried again.
    NonRetryable = 2,
    /// Start-to-close ran out.
    TimedOut = 3,
    /// No sign of progress for the stall time.
    Stalled = 4,
    /// The session of the worker expired while the job ran.
    WorkerLost = 5,
    /// The lease never started, too often.
    Undeliverable = 6,
    /// The attempts of the job used more than its budget, or all of it.
    OverBudget = 7,
}

impl Close {
    pub const ALL: [Close; 7] = [
        Close::Failed,
        Close::NonRetryable,
        Close::TimedOut,
        Close::Stalled,
        Close::WorkerLost,
        Close::Undeliverable,
        Close::OverBudget,
    ];
    pub fn from_number(number: u32) -> Option<Close> {
        Close::ALL.into_iter().find(|c| *c as u32 == number)
    }
}

/// Why a lease ended before it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Return {
    /// Not acknowledged within the offer time.
    NotAcked = 1,
    /// The worker refused it.
    Refused = 2,
    /// Taken back by the server or handed back by a draining worker.
    Reclaimed = 3,
    /// The session ended or expired first.
    SessionLost = 4,
    /// The worker resumed and did not hold it.
    NeverArrived = 5,
}

impl Return {
    pub const ALL: [Return; 5] =
        [Return::NotAcked, Return::Refused, Return::Reclaimed, Return::SessionLost, Return::NeverArrived];
    pub fn from_number(number: u32) -> Option<Return> {
        Return::ALL.into_iter().find(|r| *r as u32 == number)
    }
    pub fn text(self) -> &'static str {
        match self {
            Return::NotAcked => "offer not acknowledged in time",
            Return::Refused => "refused by the worker",
            Return::Reclaimed => "taken back before it started",
            Return::SessionLost => "worker session ended before it started",
            Return::NeverArrived => "offer never reached the worker",
        }
    }
}

/// A note on an ended job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A result that came after the end.
    LateResult(Arc<str>),
    /// The job was retried by hand under this id.
    RetriedAs(JobId),
    /// Its dead letter was deleted, by this actor; empty when nobody was asked to log in.
    DeadLetterDeleted(Arc<str>),
}

/// What became of a question to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub grounds: Grounds,
    /// Who decided, in the order of their votes; an empty name is somebody who was not asked to log in.
    pub by: Vec<Arc<str>>,
    /// What the last of them said.
    pub comment: Arc<str>,
}

/// What a question to people was decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Grounds {
    Votes = 1,
    /// The input was edited: it is another question now.
    Edit = 2,
    /// The time for it was over.
    Expiry = 3,
    /// Another policy is in force: it may be another question now.
    Policy = 4,
}

impl Grounds {
    pub const ALL: [Grounds; 4] = [Grounds::Votes, Grounds::Edit, Grounds::Expiry, Grounds::Policy];
    pub fn from_number(number: u32) -> Option<Grounds> {
        Grounds::ALL.into_iter().find(|g| *g as u32 == number)
    }
}

impl Ruling {
    pub fn by_time() -> Ruling {
        Ruling { grounds: Grounds::Expiry, by: Vec::new(), comment: "".into() }
    }

    pub fn by_policy() -> Ruling {
        Ruling { grounds: Grounds::Policy, by: Vec::new(), comment: "".into() }
    }

    /// Who decided, as one text. Empty: nobody did.
    pub fn actors(&self) -> String {
        let name = |name: &Arc<str>| if name.is_empty() { "anonymous".to_owned() } else { name.to_string() };
        self.by.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

impl std::fmt::Display for Ruling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.grounds {
            Grounds::Votes => write!(f, "by {}", self.actors())?,
            Grounds::Edit => write!(f, "the input was edited by {}", self.actors())?,
            Grounds::Expiry => f.write_str("nobody decided in time")?,
            Grounds::Policy => f.write_str("the policy changed")?,
        }
        match &*self.comment {
            "" => Ok(()),
            comment => write!(f, ": {comment}"),
        }
    }
}

/// One thing that happened. Small, so that histories are: anything bulky is boxed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Submitted {
        actor: Option<Box<str>>,
    },
    /// The place it takes in its queue: ready time in the upper bits, order in the lower.
    Admitted {
        place: u64,
    },
    Deferred(Box<(Time, Arc<str>)>),
    ApprovalRequested,
    /// By whom is not known of entries of earlier releases; nor is it below.
    Approved {
        place: u64,
        ruling: Option<Box<Ruling>>,
    },
    ApprovalVoided(Option<Box<Ruling>>),
    Rejudged,
    /// By the policy, or with a ruling by people or the lack of them.
    Denied(Option<Box<Ruling>>),
    Dispatched(Box<Lease>),
    Returned(Return),
    Started,
    Released,
    Succeeded,
    AttemptFailed(Box<(Closed, Time)>),
    Failed(Box<Closed>),
    TimedOut {
        total: bool,
    },
    RetryDue {
        place: u64,
    },
    Expired,
    CancelRequested(Box<Cancel>),
    /// With the wish where the job had no lease; one with a lease has it in a line of its own. Entries of earlier
    /// releases have none.
    Cancelled(Option<Box<Cancel>>),
    Annotated(Box<Note>),
}

/// A wish to stop a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancel {
    pub reason: Arc<str>,
    pub actor: Arc<str>,
    pub time: Time,
}

macro_rules! kinds {
    ($($kind:ident = $name:literal,)*) => {
        /// The kind of an [`Event`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum EventKind { $($kind,)* }
        impl EventKind {
            pub const ALL: &[EventKind] = &[$(EventKind::$kind,)*];
            pub const COUNT: usize = EventKind::ALL.len();
            pub const fn name(self) -> &'static str { match self { $(EventKind::$kind => $name,)* } }
        }
    };
}

kinds! {
    Submitted = "SUBMITTED",
    Admitted = "ADMITTED",
    Deferred = "DEFERRED",
    ApprovalRequested = "APPROVAL_REQUESTED",
    Approved = "APPROVED",
    ApprovalVoided = "APPROVAL_VOIDED",
    Rejudged = "REJUDGED",
    Denied = "DENIED",
    Dispatched = "DISPATCHED",
    Returned = "RETURNED",
    Started = "STARTED",
    Released = "RELEASED",
    Succeeded = "SUCCEEDED",
    AttemptFailed = "ATTEMPT_FAILED",
    Failed = "FAILED",
    TimedOut = "TIMED_OUT",
    RetryDue = "RETRY_DUE",
    Expired = "EXPIRED",
    CancelRequested = "CANCEL_REQUESTED",
    Cancelled = "CANCELLED",
    Annotated = "ANNOTATED",
}

impl Event {
    pub fn kind(&self) -> EventKind {
        match self {
            Event::Submitted { .. } => EventKind::Submitted,
            Event::Admitted { .. } => EventKind::Admitted,
            Event::Deferred(_) => EventKind::Deferred,
            Event::ApprovalRequested => EventKind::ApprovalRequested,
            Event::Approved { .. } => EventKind::Approved,
            Event::ApprovalVoided(_) => EventKind::ApprovalVoided,
            Event::Rejudged => EventKind::Rejudged,
            Event::Denied(_) => EventKind::Denied,
            Event::Dispatched(_) => EventKind::Dispatched,
            Event::Returned(_) => EventKind::Returned,
            Event::Started => EventKind::Started,
            Event::Released => EventKind::Released,
            Event::Succeeded => EventKind::Succeeded,
            Event::AttemptFailed(_) => EventKind::AttemptFailed,
            Event::Failed(_) => EventKind::Failed,
            Event::TimedOut { .. } => EventKind::TimedOut,
            Event::RetryDue { .. } => EventKind::RetryDue,
            Event::Expired => EventKind::Expired,
            Event::CancelRequested(_) => EventKind::CancelRequested,
            Event::Cancelled(_) => EventKind::Cancelled,
            Event::Annotated(_) => EventKind::Annotated,
        }
    }
}
