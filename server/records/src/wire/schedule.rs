//! Schedules: what was applied, how far each has come, and what became of its times.

use super::{Pair, Payload, Spec};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct Schedule {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(string, tag = "2")]
    pub description: String,
    /// With `zone`; or an interval with its anchor.
    #[prost(string, tag = "3")]
    pub cron: String,
    #[prost(string, tag = "4")]
    pub zone: String,
    #[prost(uint64, tag = "5")]
    pub interval: u64,
    #[prost(uint64, tag = "6")]
    pub anchor: u64,
    #[prost(uint64, optional, tag = "7")]
    pub start: Option<u64>,
    #[prost(uint64, optional, tag = "8")]
    pub end: Option<u64>,
    #[prost(uint64, tag = "9")]
    pub jitter: u64,
    /// 0: skip, 1: one, 2: all, with `catch_up_most`.
    #[prost(uint32, tag = "10")]
    pub catch_up: u32,
    #[prost(uint32, tag = "11")]
    pub catch_up_most: u32,
    #[prost(uint32, tag = "12")]
    pub overlap: u32,
    #[prost(string, tag = "13")]
    pub creator: String,
    #[prost(message, optional, tag = "14")]
    pub job: Option<Spec>,
    #[prost(message, optional, tag = "15")]
    pub run: Option<RunTarget>,
}

#[derive(Clone, PartialEq, Message)]
pub struct RunTarget {
    #[prost(string, tag = "1")]
    pub workflow: String,
    #[prost(uint32, optional, tag = "2")]
    pub workflow_version: Option<u32>,
    #[prost(message, optional, tag = "3")]
    pub input: Option<Payload>,
    #[prost(message, repeated, tag = "4")]
    pub labels: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ScheduleState {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(uint64, tag = "2")]
    pub cursor: u64,
    #[prost(message, optional, tag = "3")]
    pub pause: Option<SchedulePause>,
    #[prost(message, repeated, tag = "4")]
    pub pending: Vec<PendingFire>,
    #[prost(message, repeated, tag = "5")]
    pub backfills: Vec<Backfill>,
    #[prost(string, repeated, tag = "6")]
    pub running: Vec<String>,
    #[prost(uint64, tag = "7")]
    pub started: u64,
    #[prost(uint64, tag = "8")]
    pub skipped: u64,
    #[prost(uint64, tag = "9")]
    pub failed: u64,
    #[prost(message, optional, tag = "10")]
    pub last: Option<ScheduleFire>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SchedulePause {
    #[prost(string, tag = "1")]
    pub reason: String,
    #[prost(string, tag = "2")]
    pub actor: String,
    #[prost(uint64, tag = "3")]
    pub time: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct PendingFire {
    #[prost(uint64, tag = "1")]
    pub nominal: u64,
    #[prost(uint32, tag = "2")]
    pub cause: u32,
    /// 16 bytes, or none.
    #[prost(bytes = "bytes", tag = "3")]
    pub token: bytes::Bytes,
    #[prost(bool, tag = "4")]
    pub is_in_line: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct Backfill {
    #[prost(uint64, tag = "1")]
    pub from: u64,
    #[prost(uint64, tag = "2")]
    pub to: u64,
    #[prost(uint64, tag = "3")]
    pub next: u64,
    #[prost(bool, tag = "4")]
    pub is_in_line: bool,
    #[prost(string, tag = "5")]
    pub actor: String,
    #[prost(uint64, tag = "6")]
    pub create_time: u64,
}

#[derive(Clone, PartialEq, Message)]
pub struct ScheduleFire {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(string, tag = "2")]
    pub schedule_id: String,
    #[prost(uint64, tag = "3")]
    pub nominal: u64,
    #[prost(uint32, tag = "4")]
    pub cause: u32,
    #[prost(bytes = "bytes", tag = "5")]
    pub token: bytes::Bytes,
    #[prost(uint32, tag = "6")]
    pub outcome: u32,
    #[prost(uint64, tag = "7")]
    pub time: u64,
    #[prost(string, tag = "8")]
    pub target_id: String,
    #[prost(string, tag = "9")]
    pub reason: String,
    #[prost(string, tag = "10")]
    pub message: String,
}
