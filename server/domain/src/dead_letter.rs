//! Dead letters: one row per job that gave up, written in the commit that ended it.

use crate::filter::{Field, Found, Kind, Row, STATES, Schema, optional};
use crate::id::{JobId, Namespace, ShardId};
use crate::job::{Job, StateKind};
use crate::time::Time;
use std::sync::Arc;

/// A job that gave up. Its id is the job's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub namespace: Namespace,
    pub job_id: JobId,
    pub shard: ShardId,
    pub topic: Arc<str>,
    pub state: StateKind,
    /// Failure type, or the state's name where there is none.
    pub reason: Arc<str>,
    /// Jobs that failed alike share it.
    pub fingerprint: u64,
    pub create_time: Time,
    pub expire_time: Time,
}

/// Fields of `ListDeadLetters`. Times, labels and the like are those of the job.
pub const DEAD_LETTER_FIELDS: Schema = &[
    Field { name: "state", kind: Kind::Word(&STATES) },
    Field { name: "topic", kind: Kind::Text },
    Field { name: "reason", kind: Kind::Text },
    Field { name: "fingerprint", kind: Kind::Text },
    Field { name: "priority", kind: Kind::Number },
    Field { name: "pool", kind: Kind::Text },
    Field { name: "run_id", kind: Kind::Text },
    Field { name: "worker_id", kind: Kind::Text },
    Field { name: "labels", kind: Kind::Map },
    Field { name: "create_time", kind: Kind::Time },
    Field { name: "end_time", kind: Kind::Time },
    Field { name: "retry_of", kind: Kind::Text },
    Field { name: "retried_as", kind: Kind::Text },
];

/// A dead letter with its job, as a filter sees it.
pub struct LetterRow<'a> {
    pub letter: &'a DeadLetter,
    pub job: &'a Job,
}

impl DeadLetter {
    /// The dead letter of an ended job, if it left one that was not deleted since. A topic may be told to keep none:
    /// only the store knows that of an ended job.
    pub fn kept(job: &Job) -> Option<DeadLetter> {
        let letter = DeadLetter::of(job, job.expire_time.unwrap_or(Time::NEVER));
        letter.filter(|_| !job.has_deleted_dead_letter())
    }

    /// The fingerprint as it is written: 16 hex digits.
    pub fn fingerprint_text(&self) -> String {
        format!("{:016x}", self.fingerprint)
    }

    /// The row an ended job leaves; none for SUCCEEDED, CANCELLED and open states.
    pub fn of(job: &Job, expire_time: Time) -> Option<DeadLetter> {
        let state = job.state.kind();
        if !state.leaves_dead_letter() {
            return None;
        }
        let failure = job.failure();
        let reason: Arc<str> = failure.map_or_else(|| state.name().into(), |f| f.kind.clone());
        let message = failure.map_or("", |f| f.message.as_ref());
        // Digits vary from one failure to the next (ids, times, sizes); the rest names the cause.
        let shape: String = message.chars().filter(|c| !c.is_ascii_digit()).take(512).collect();
        let text = format!("{}\0{}\0{}\0{}", job.spec.topic, state.name(), reason, shape);
        Some(DeadLetter {
            namespace: job.namespace.clone(),
            job_id: job.id.clone(),
            shard: job.shard,
            topic: job.spec.topic.clone(),
            state,
            reason,
            fingerprint: xxhash_rust::xxh3::xxh3_64(text.as_bytes()),
            create_time: job.end_time.unwrap_or(job.update_time),
            expire_time,
        })
    }
}

// === impl LetterRow ===

impl Row for LetterRow<'_> {
    fn field(&self, name: &'static str, key: &str) -> Found<'_> {
        let id = |id: &Option<JobId>| match id {
            Some(id) => Found::Text(id.to_string().into()),
            None => Found::Unset,
        };
        match name {
            "reason" => optional(Some(&self.letter.reason)),
            "fingerprint" => Found::Text(self.letter.fingerprint_text().into()),
            "retry_of" => id(&self.job.rare().retry_of),
            "retried_as" => id(&self.job.rare().retried_as),
            _ => self.job.field(name, key),
        }
    }
}
