//! The messages on disk. Numbers are for ever: a field may be added, never changed or used again.
//!
//! Absent and empty differ only where a field is `optional`.

mod catalog;
mod config;
mod entry;
mod log;
mod of_run;
mod schedule;
mod terms;

pub use catalog::{Output, Resource, Secret};
pub use config::{Applied, Layer};
pub use entry::{Entry, Ruling};
pub use log::{Batch, Group, Write};
pub use of_run::OfRun;
pub use schedule::{Backfill, PendingFire, RunTarget, Schedule, ScheduleFire, SchedulePause, ScheduleState};
pub use terms::{Approval, Constraints, Terms, Texts, Throttle};

use prost::Message;

/// A 128-bit id in two halves, or a name.
#[derive(Clone, PartialEq, Message)]
pub struct Id {
    #[prost(fixed64, tag = "1")]
    pub high: u64,
    #[prost(fixed64, tag = "2")]
    pub low: u64,
    #[prost(string, optional, tag = "3")]
    pub name: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Pair {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Payload {
    /// 0 none, 1 JSON, 2 binary, 3 as named.
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub data: bytes::Bytes,
}

/// One job: whole (index, first log record) or what changed (later log records, with `prior`).
#[derive(Clone, PartialEq, Message)]
pub struct Job {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(message, optional, tag = "2")]
    pub id: Option<Id>,
    #[prost(string, tag = "3")]
    pub namespace: String,
    #[prost(message, optional, tag = "4")]
    pub spec: Option<Spec>,
    #[prost(message, optional, tag = "5")]
    pub head: Option<Head>,
    #[prost(message, repeated, tag = "6")]
    pub entries: Vec<Entry>,
    #[prost(message, optional, tag = "7")]
    pub result: Option<Payload>,
    #[prost(message, optional, tag = "8")]
    pub rare: Option<Rare>,
    #[prost(message, optional, tag = "9")]
    pub prior: Option<Prior>,
    /// The checkpoint is the one of the record before.
    #[prost(bool, tag = "10")]
    pub keeps_checkpoint: bool,
    /// How many of the last entries are new with this record.
    #[prost(uint32, tag = "11")]
    pub fresh: u32,
}

/// What a reader of the log alone needs to tell the story of the fresh entries.
#[derive(Clone, PartialEq, Message)]
pub struct Prior {
    /// Entries before the fresh ones.
    #[prost(uint32, tag = "1")]
    pub known: u32,
    #[prost(uint32, tag = "2")]
    pub state: u32,
    #[prost(uint32, tag = "3")]
    pub attempts: u32,
    #[prost(string, optional, tag = "4")]
    pub worker_id: Option<String>,
    #[prost(string, tag = "5")]
    pub topic: String,
    #[prost(message, repeated, tag = "6")]
    pub labels: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Spec {
    #[prost(string, tag = "1")]
    pub topic: String,
    #[prost(message, optional, tag = "2")]
    pub payload: Option<Payload>,
    #[prost(uint32, tag = "3")]
    pub priority: u32,
    #[prost(message, optional, tag = "4")]
    pub options: Option<Options>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Options {
    #[prost(string, optional, tag = "1")]
    pub idempotency_key: Option<String>,
    #[prost(message, repeated, tag = "2")]
    pub labels: Vec<Pair>,
    #[prost(uint64, optional, tag = "3")]
    pub schedule_time: Option<u64>,
    #[prost(message, optional, tag = "4")]
    pub retry: Option<Retry>,
    #[prost(message, optional, tag = "5")]
    pub timeouts: Option<Timeouts>,
    #[prost(string, optional, tag = "6")]
    pub concurrency_key: Option<String>,
    #[prost(string, optional, tag = "7")]
    pub rate_key: Option<String>,
    #[prost(string, optional, tag = "8")]
    pub pool: Option<String>,
    #[prost(bool, tag = "9")]
    pub pool_required: bool,
    #[prost(string, optional, tag = "10")]
    pub worker_id: Option<String>,
    #[prost(bool, tag = "11")]
    pub worker_required: bool,
    #[prost(string, repeated, tag = "12")]
    pub requires: Vec<String>,
    #[prost(string, optional, tag = "13")]
    pub parent_job_id: Option<String>,
    #[prost(string, optional, tag = "14")]
    pub actor_id: Option<String>,
    #[prost(string, optional, tag = "15")]
    pub actor_type: Option<String>,
    #[prost(string, optional, tag = "16")]
    pub capability: Option<String>,
    #[prost(string, repeated, tag = "17")]
    pub risk_tags: Vec<String>,
    #[prost(uint64, optional, tag = "18")]
    pub max_tokens: Option<u64>,
    #[prost(uint64, optional, tag = "19")]
    pub max_cost_micros: Option<u64>,
    #[prost(uint64, optional, tag = "20")]
    pub retention: Option<u64>,
    #[prost(string, optional, tag = "21")]
    pub trace_id: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Retry {
    #[prost(uint32, optional, tag = "1")]
    pub max_attempts: Option<u32>,
    #[prost(uint64, optional, tag = "2")]
    pub initial_backoff: Option<u64>,
    #[prost(double, optional, tag = "3")]
    pub multiplier: Option<f64>,
    #[prost(uint64, optional, tag = "4")]
    pub max_backoff: Option<u64>,
    #[prost(double, optional, tag = "5")]
    pub jitter: Option<f64>,
    #[prost(string, repeated, tag = "6")]
    pub non_retryable_errors: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Timeouts {
    #[prost(uint64, optional, tag = "1")]
    pub schedule_to_start: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    pub start_to_close: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    pub stall: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    pub total: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Head {
    #[prost(uint32, tag = "1")]
    pub state: u32,
    /// The open lease; absent where it is the one of the newest DISPATCHED entry.
    #[prost(message, optional, tag = "2")]
    pub lease: Option<Lease>,
    /// PENDING: the time of the next question, with `pending_reason`.
    #[prost(uint64, tag = "3")]
    pub pending_until: u64,
    #[prost(string, optional, tag = "4")]
    pub pending_reason: Option<String>,
    #[prost(uint64, tag = "5")]
    pub retry_due: u64,
    #[prost(uint64, tag = "6")]
    pub revision: u64,
    #[prost(uint64, tag = "7")]
    pub place: u64,
    #[prost(uint32, tag = "8")]
    pub attempts: u32,
    #[prost(uint32, tag = "9")]
    pub lost: u32,
    #[prost(uint32, tag = "10")]
    pub released: u32,
    #[prost(uint32, tag = "11")]
    pub deliveries: u32,
    #[prost(uint32, tag = "12")]
    pub lease_serial: u32,
    #[prost(uint64, tag = "13")]
    pub create_time: u64,
    #[prost(uint64, tag = "14")]
    pub update_time: u64,
    #[prost(uint64, optional, tag = "15")]
    pub start_time: Option<u64>,
    #[prost(uint64, optional, tag = "16")]
    pub end_time: Option<u64>,
    #[prost(uint64, optional, tag = "17")]
    pub expire_time: Option<u64>,
    /// One more than the number of the decision in the table that goes with the record.
    #[prost(uint32, tag = "18")]
    pub decision_ref: u32,
    #[prost(message, optional, tag = "19")]
    pub decision: Option<Decision>,
    #[prost(string, optional, tag = "20")]
    pub worker_id: Option<String>,
    #[prost(uint32, tag = "21")]
    pub shard: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Lease {
    #[prost(uint32, tag = "1")]
    pub serial: u32,
    #[prost(uint64, tag = "2")]
    pub id: u64,
    #[prost(fixed64, tag = "3")]
    pub session_high: u64,
    #[prost(fixed64, tag = "4")]
    pub session_low: u64,
    #[prost(string, tag = "5")]
    pub worker_id: String,
    #[prost(string, tag = "6")]
    pub lane_id: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Closed {
    #[prost(uint32, tag = "1")]
    pub close: u32,
    #[prost(string, tag = "2")]
    pub kind: String,
    #[prost(string, tag = "3")]
    pub message: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Cancel {
    #[prost(string, tag = "1")]
    pub reason: String,
    #[prost(string, tag = "2")]
    pub actor: String,
    #[prost(uint64, tag = "3")]
    pub time: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Rare {
    #[prost(message, optional, tag = "1")]
    pub cancel: Option<Cancel>,
    #[prost(message, optional, tag = "2")]
    pub progress: Option<Progress>,
    #[prost(message, optional, tag = "3")]
    pub checkpoint: Option<Payload>,
    #[prost(message, optional, tag = "4")]
    pub failure: Option<Failure>,
    #[prost(message, optional, tag = "5")]
    pub retry_of: Option<Id>,
    #[prost(message, optional, tag = "6")]
    pub retried_as: Option<Id>,
    #[prost(uint64, optional, tag = "7")]
    pub last_sign: Option<u64>,
    #[prost(message, optional, tag = "8")]
    pub usage: Option<Usage>,
    #[prost(message, optional, tag = "40")]
    pub config: Option<Applied>,
    /// Big-endian: 16 bytes.
    #[prost(bytes = "bytes", optional, tag = "9")]
    pub submitted_as: Option<bytes::Bytes>,
    #[prost(uint64, tag = "41")]
    pub reserved_tokens: u64,
    #[prost(uint64, tag = "42")]
    pub reserved_cost_micros: u64,
    #[prost(message, optional, tag = "43")]
    pub family: Option<Family>,
    #[prost(message, optional, tag = "44")]
    pub of_run: Option<OfRun>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Family {
    #[prost(uint32, tag = "1")]
    pub depth: u32,
    #[prost(bool, tag = "2")]
    pub closes_with_parent: bool,
    #[prost(uint64, tag = "3")]
    pub borrowed_tokens: u64,
    #[prost(uint64, tag = "4")]
    pub borrowed_cost_micros: u64,
    #[prost(uint64, tag = "5")]
    pub lent_tokens: u64,
    #[prost(uint64, tag = "6")]
    pub lent_cost_micros: u64,
    #[prost(message, repeated, tag = "7")]
    pub spawns: Vec<Spawn>,
    #[prost(message, optional, tag = "8")]
    pub root: Option<Id>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Spawn {
    #[prost(string, tag = "1")]
    pub name: String,
    /// Big-endian: 16 bytes.
    #[prost(bytes = "bytes", tag = "2")]
    pub asked: bytes::Bytes,
    #[prost(uint32, tag = "3")]
    pub count: u32,
    #[prost(uint64, tag = "4")]
    pub time: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Progress {
    #[prost(double, tag = "1")]
    pub fraction: f64,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(uint64, tag = "3")]
    pub time: u64,
    #[prost(message, repeated, tag = "4")]
    pub attributes: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Usage {
    #[prost(uint64, tag = "1")]
    pub cpu_ms: u64,
    #[prost(uint64, tag = "2")]
    pub peak_rss: u64,
    #[prost(uint64, tag = "3")]
    pub tokens_in: u64,
    #[prost(uint64, tag = "4")]
    pub tokens_out: u64,
    #[prost(uint64, tag = "5")]
    pub cost_micros: u64,
    #[prost(uint64, tag = "6")]
    pub tool_calls: u64,
    #[prost(string, tag = "7")]
    pub model: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Failure {
    #[prost(string, tag = "1")]
    pub kind: String,
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(bool, tag = "3")]
    pub retryable: bool,
    #[prost(message, optional, tag = "4")]
    pub details: Option<Payload>,
    #[prost(string, tag = "5")]
    pub stack: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Decision {
    #[prost(uint32, tag = "1")]
    pub verdict: u32,
    #[prost(string, tag = "2")]
    pub rule_id: String,
    #[prost(string, tag = "3")]
    pub reason: String,
    #[prost(message, repeated, tag = "4")]
    pub remediations: Vec<Remediation>,
    #[prost(string, tag = "5")]
    pub policy: String,
    #[prost(uint64, tag = "6")]
    pub policy_version: u64,
    #[prost(message, optional, tag = "7")]
    pub terms: Option<Terms>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Remediation {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub title: String,
    #[prost(string, optional, tag = "3")]
    pub replacement_topic: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub summary: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub replacement_capability: Option<String>,
    #[prost(message, repeated, tag = "6")]
    pub add_labels: Vec<Pair>,
    #[prost(string, repeated, tag = "7")]
    pub remove_labels: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Key {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(string, tag = "3")]
    pub key: String,
    #[prost(message, optional, tag = "4")]
    pub job_id: Option<Id>,
    #[prost(fixed64, tag = "5")]
    pub fingerprint_high: u64,
    #[prost(fixed64, tag = "6")]
    pub fingerprint_low: u64,
    #[prost(uint64, tag = "7")]
    pub create_time: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct DeadLetter {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(message, optional, tag = "3")]
    pub job_id: Option<Id>,
    #[prost(uint32, tag = "4")]
    pub shard: u32,
    #[prost(string, tag = "5")]
    pub topic: String,
    #[prost(uint32, tag = "6")]
    pub state: u32,
    #[prost(string, tag = "7")]
    pub reason: String,
    #[prost(fixed64, tag = "8")]
    pub fingerprint: u64,
    #[prost(uint64, tag = "9")]
    pub create_time: u64,
    #[prost(uint64, tag = "10")]
    pub expire_time: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Lane {
    #[prost(string, tag = "1")]
    pub lane_id: String,
    #[prost(string, repeated, tag = "2")]
    pub topics: Vec<String>,
    #[prost(uint32, tag = "3")]
    pub slots: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Session {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(fixed64, tag = "2")]
    pub id_high: u64,
    #[prost(fixed64, tag = "3")]
    pub id_low: u64,
    #[prost(uint32, tag = "4")]
    pub epoch: u32,
    #[prost(string, tag = "5")]
    pub namespace: String,
    #[prost(string, tag = "6")]
    pub worker_id: String,
    #[prost(string, tag = "7")]
    pub principal: String,
    #[prost(string, tag = "8")]
    pub pool: String,
    #[prost(string, repeated, tag = "9")]
    pub capabilities: Vec<String>,
    #[prost(message, repeated, tag = "10")]
    pub labels: Vec<Pair>,
    #[prost(message, repeated, tag = "11")]
    pub lanes: Vec<Lane>,
    #[prost(uint64, tag = "12")]
    pub ttl: u64,
    #[prost(string, tag = "13")]
    pub sdk: String,
    #[prost(string, tag = "14")]
    pub host: String,
    #[prost(uint64, tag = "15")]
    pub create_time: u64,
    #[prost(bool, tag = "16")]
    pub is_polling: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct Rate {
    #[prost(uint32, tag = "1")]
    pub limit: u32,
    #[prost(uint64, tag = "2")]
    pub per: u64,
}

/// Two hashes in halves.
#[derive(Clone, PartialEq, Message)]
pub struct TopicCall {
    #[prost(fixed64, tag = "1")]
    pub id_high: u64,
    #[prost(fixed64, tag = "2")]
    pub id_low: u64,
    #[prost(fixed64, tag = "3")]
    pub body_high: u64,
    #[prost(fixed64, tag = "4")]
    pub body_low: u64,
    #[prost(uint64, tag = "5")]
    pub time: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct Topic {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(uint32, optional, tag = "4")]
    pub concurrency_per_key: Option<u32>,
    #[prost(uint32, optional, tag = "5")]
    pub max_running: Option<u32>,
    #[prost(message, optional, tag = "6")]
    pub rate: Option<Rate>,
    #[prost(message, optional, tag = "7")]
    pub rate_per_key: Option<Rate>,
    #[prost(uint64, optional, tag = "8")]
    pub ageing: Option<u64>,
    #[prost(uint64, optional, tag = "9")]
    pub retention: Option<u64>,
    #[prost(uint64, optional, tag = "10")]
    pub dead_letter_retention: Option<u64>,
    #[prost(bool, tag = "11")]
    pub dead_letters_off: bool,
    #[prost(message, optional, tag = "12")]
    pub retry: Option<Retry>,
    #[prost(message, optional, tag = "13")]
    pub timeouts: Option<Timeouts>,
    #[prost(message, optional, tag = "14")]
    pub paused: Option<Pause>,
    #[prost(uint64, tag = "15")]
    pub revision: u64,
    #[prost(uint64, tag = "16")]
    pub update_time: u64,
    #[prost(message, repeated, tag = "17")]
    pub calls: Vec<TopicCall>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Pause {
    #[prost(string, tag = "1")]
    pub reason: String,
    #[prost(uint64, tag = "2")]
    pub since: u64,
    #[prost(string, tag = "3")]
    pub actor: String,
}
