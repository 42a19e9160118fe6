//! Dead letters: one row per job that gave up, written in the commit that ended it.

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

impl DeadLetter {
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
