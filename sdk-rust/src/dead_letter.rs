//! Jobs that gave up, as the server shows them, and what may be done about many of them at once.

use crate::error::Error;
use crate::job::Job;
use crate::names::{JobState, RedrivePhase, RedriveStopReason};
use crate::raw::pb;
use crate::time::{of_stamp, stamp};
use std::time::SystemTime;

/// What a job left when it gave up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its id: that of the job.
    pub dead_letter_id: String,
    /// Namespace it lives in.
    pub namespace: String,
    /// Topic of the job.
    pub topic: String,
    /// How the job ended.
    pub state: JobState,
    /// Type of the last failure, or the state where there is none.
    pub reason: String,
    /// Message of the last failure.
    pub message: String,
    /// Dead letters with the same cause share it.
    pub fingerprint: String,
    /// When the job was accepted.
    pub create_time: Option<SystemTime>,
    /// When the job gave up.
    pub end_time: Option<SystemTime>,
    /// When it may be deleted, with the job.
    pub expire_time: Option<SystemTime>,
    /// Attempts the job had.
    pub attempts: u32,
    /// The newest job that repeats this one. Empty while it was not retried.
    pub retried_as: String,
    /// The job that this one repeated.
    pub retry_of: String,
    /// The job itself, where it was asked for.
    pub job: Option<Job>,
    /// What its attempts came to, oldest first, where it was asked for.
    pub attempt_list: Vec<DeadLetterAttempt>,
}

/// One attempt of a job that gave up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetterAttempt {
    /// Its number.
    pub attempt: u32,
    /// Worker that had it.
    pub worker_id: String,
    /// When it started.
    pub start_time: Option<SystemTime>,
    /// When it was closed.
    pub end_time: Option<SystemTime>,
    /// Type of its failure, or `RELEASED`.
    pub reason: String,
    /// Message of its failure.
    pub message: String,
}

/// Dead letters with the same cause.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetterGroup {
    /// What they share.
    pub fingerprint: String,
    /// Topic of all of them.
    pub topic: String,
    /// State of all of them.
    pub state: JobState,
    /// Reason of all of them.
    pub reason: String,
    /// Message of the one that came last.
    pub message: String,
    /// How many there are.
    pub count: u64,
    /// How many of them were retried.
    pub retried: u64,
    /// When the first of them was left.
    pub first_time: Option<SystemTime>,
    /// When the last of them was left.
    pub last_time: Option<SystemTime>,
    /// Ids of some of them.
    pub sample_ids: Vec<String>,
}

/// Groups of dead letters, the largest first.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetterGroups {
    /// The groups.
    pub groups: Vec<DeadLetterGroup>,
    /// How many there are, those not returned included.
    pub group_count: u64,
    /// Dead letters in all of them.
    pub count: u64,
    /// False when there are at least this many.
    pub exact: bool,
}

/// What a change of many dead letters would meet.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetterPreview {
    /// How many.
    pub matched: u64,
    /// False when there are at least this many.
    pub exact: bool,
    /// Some of them, oldest first.
    pub sample: Vec<DeadLetter>,
}

/// Which dead letters to retry, and how.
///
/// ```
/// # use coretex_sdk::Redrive;
/// let careful = Redrive::filter("topic = job.mail").canary().rate(50).stop_on_repeat();
/// ```
#[derive(Clone, Debug)]
#[must_use = "a redrive does nothing until it is started"]
pub struct Redrive {
    pub(crate) request: pb::BatchRetryDeadLettersRequest,
}

/// How a redrive goes. Numbers are totals since it began.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RedriveProgress {
    /// How far it is.
    pub phase: RedrivePhase,
    /// Stage of a canary: 1, 2 or 3. 1 otherwise.
    pub stage: u32,
    /// Jobs there are for retried dead letters.
    pub retried: u64,
    /// Of those, the ones an earlier call with the same request id had made.
    pub existing: u64,
    /// Dead letters left alone: retried before by another request, deleted meanwhile, or unknown.
    pub skipped: u64,
    /// Dead letters that could not be retried.
    pub refused: u64,
    /// Why one of them could not.
    pub first_error: Option<String>,
    /// Retried jobs that have succeeded, where they are followed.
    pub succeeded: u64,
    /// Retried jobs that have ended in another way, where they are followed.
    pub failed: u64,
    /// Of those, the ones that failed as before.
    pub repeated: u64,
    /// Pairs of dead letter and new job since the message before.
    pub results: Vec<(String, String)>,
    /// Why it stopped before its end.
    pub stop_reason: Option<RedriveStopReason>,
    /// The job it stopped for.
    pub stop_job_id: String,
}

/// Which dead letters to delete.
#[derive(Clone, Debug)]
#[must_use = "a purge does nothing until it is sent"]
pub struct Purge {
    pub(crate) request: pb::PurgeDeadLettersRequest,
}

// === impl DeadLetter, groups, previews ===

impl DeadLetter {
    pub(crate) fn from_pb(letter: pb::DeadLetter) -> Self {
        let attempt = |one: pb::DeadLetterAttempt| DeadLetterAttempt {
            attempt: one.attempt,
            worker_id: one.worker_id,
            start_time: of_stamp(one.start_time),
            end_time: of_stamp(one.end_time),
            reason: one.reason,
            message: one.message,
        };
        Self {
            dead_letter_id: letter.dead_letter_id,
            namespace: letter.namespace,
            topic: letter.topic,
            state: JobState::of(letter.state),
            reason: letter.reason,
            message: letter.message,
            fingerprint: letter.fingerprint,
            create_time: of_stamp(letter.create_time),
            end_time: of_stamp(letter.end_time),
            expire_time: of_stamp(letter.expire_time),
            attempts: letter.attempts,
            retried_as: letter.retried_as,
            retry_of: letter.retry_of,
            job: letter.job.map(Job::from_pb),
            attempt_list: letter.attempt_list.into_iter().map(attempt).collect(),
        }
    }
}

impl DeadLetterGroups {
    pub(crate) fn from_pb(reply: pb::GroupDeadLettersResponse) -> Self {
        let group = |group: pb::DeadLetterGroup| DeadLetterGroup {
            fingerprint: group.fingerprint,
            topic: group.topic,
            state: JobState::of(group.state),
            reason: group.reason,
            message: group.message,
            count: group.count,
            retried: group.retried,
            first_time: of_stamp(group.first_time),
            last_time: of_stamp(group.last_time),
            sample_ids: group.sample_ids,
        };
        Self {
            groups: reply.groups.into_iter().map(group).collect(),
            group_count: reply.group_count,
            count: reply.count,
            exact: reply.exact,
        }
    }
}

impl DeadLetterPreview {
    pub(crate) fn new(matched: u64, exact: bool, sample: Vec<pb::DeadLetter>) -> Self {
        Self { matched, exact, sample: sample.into_iter().map(DeadLetter::from_pb).collect() }
    }
}

// === impl Redrive ===

impl Redrive {
    fn of(request: pb::BatchRetryDeadLettersRequest) -> Self {
        let request_id = crate::client::request_id();
        Self { request: pb::BatchRetryDeadLettersRequest { request_id, ..request } }
    }

    /// Those a filter accepts.
    pub fn filter(filter: impl Into<String>) -> Self {
        Self::of(pb::BatchRetryDeadLettersRequest { filter: filter.into(), ..Default::default() })
    }

    /// These, at most 1,000.
    pub fn ids(ids: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let dead_letter_ids = ids.into_iter().map(Into::into).collect();
        Self::of(pb::BatchRetryDeadLettersRequest { dead_letter_ids, ..Default::default() })
    }

    /// All of the namespace.
    pub fn all() -> Self {
        Self::of(pb::BatchRetryDeadLettersRequest { all: true, ..Default::default() })
    }

    /// Names the redrive: a repeat under the same id makes no job twice. Made up if not given.
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.request.request_id = id.into();
        self
    }

    /// Most retries per second, 1 to 10,000.
    pub fn rate(mut self, per_second: u32) -> Self {
        self.request.rate = per_second;
        self
    }

    /// Stop as soon as a retried job fails as before.
    pub fn stop_on_repeat(mut self) -> Self {
        self.request.stop_on_repeat = true;
        self
    }

    /// One, then ten, then all others, each stage when the one before has ended well.
    pub fn canary(mut self) -> Self {
        self.request.canary = true;
        self
    }
}

impl RedriveProgress {
    pub(crate) fn from_pb(told: pb::BatchRetryDeadLettersResponse) -> Self {
        let stop_reason = match told.stop_reason() {
            pb::RedriveStopReason::Unspecified => None,
            _ => Some(RedriveStopReason::of(told.stop_reason)),
        };
        let phase = RedrivePhase::of(told.phase);
        let error = told.first_error.map(|status| {
            let details = prost::Message::encode_to_vec(&status).into();
            let code = tonic::Code::from(status.code);
            Error::from(tonic::Status::with_details(code, status.message, details)).to_string()
        });
        Self {
            phase,
            stage: told.stage,
            retried: told.retried,
            existing: told.existing,
            skipped: told.skipped,
            refused: told.refused,
            first_error: error,
            succeeded: told.succeeded,
            failed: told.failed,
            repeated: told.repeated,
            results: told.results.into_iter().map(|one| (one.dead_letter_id, one.job_id)).collect(),
            stop_reason,
            stop_job_id: told.stop_job_id,
        }
    }

    /// True if everything asked for was retried, and no retry was refused.
    pub fn is_done(&self) -> bool {
        self.phase == RedrivePhase::Done && self.refused == 0
    }
}

// === impl Purge ===

impl Purge {
    /// Those a filter accepts.
    pub fn filter(filter: impl Into<String>) -> Self {
        Self { request: pb::PurgeDeadLettersRequest { filter: filter.into(), ..Default::default() } }
    }

    /// Those whose job gave up before a time.
    pub fn before(time: SystemTime) -> Self {
        Self::filter("").and_before(time)
    }

    /// All of the namespace.
    pub fn all() -> Self {
        Self { request: pb::PurgeDeadLettersRequest { all: true, ..Default::default() } }
    }

    /// Of those, only the ones whose job gave up before a time.
    pub fn and_before(mut self, time: SystemTime) -> Self {
        self.request.before_time = Some(stamp(time));
        self
    }
}
