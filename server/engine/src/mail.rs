//! What reaches a shard loop, and how its answers find their way back.

use crate::api::FollowAs;
use crate::sessions::Stay;
use coretex_domain::{Job, JobId, Namespace, Refusal};
use coretex_kernel::input::{Input, Reply};
use coretex_ports::Write;
use std::sync::Arc;
use tokio::sync::oneshot;

pub(crate) type Answer<T> = oneshot::Sender<Result<T, Refusal>>;

/// One thing for a loop to do.
pub(crate) enum Mail {
    Decide(Input, ReplyTo),
    /// Rows that need no decision: sessions and durable output.
    Rows(Vec<Write>, Answer<()>),
    /// Answers the ended job, or `None` at once if it is not open here.
    Wait {
        namespace: Namespace,
        job_id: JobId,
        answer: oneshot::Sender<Option<Arc<Job>>>,
    },
    /// Open jobs per shard.
    Census(Answer<Vec<u64>>),
}

/// Who waits for the reply to an input. Nothing is answered before the commit.
pub(crate) enum ReplyTo {
    Nobody,
    One(Answer<Reply>),
    Submit {
        answer: Answer<Submitted>,
        follow: Option<FollowAs>,
    },
    /// Part of a report frame: `indexes` maps the part's updates to the frame's, if it was split.
    Report {
        stay: Arc<Stay>,
        seq: u64,
        indexes: Option<Vec<u32>>,
    },
}

/// The answer to a submit mail.
pub(crate) enum Submitted {
    Done(Vec<Result<crate::api::Accepted, Refusal>>),
    /// Ask the store again and send it once more.
    LookAgain(coretex_kernel::input::Submit),
}

/// Who wants to know that a job has ended.
pub(crate) enum Waiter {
    One(oneshot::Sender<Option<Arc<Job>>>),
    Follow(FollowAs),
}
