//! What a frame of the log holds: changes, the groups they commit in, and the decisions they refer to.

use super::{DeadLetter, Decision, Id, Job, Key, Output, Resource, Secret, Session, Topic};
use prost::Message;

/// One change in the log; exactly one field is present.
#[derive(Clone, PartialEq, Message)]
pub struct Write {
    #[prost(message, optional, tag = "1")]
    pub job: Option<Job>,
    #[prost(message, optional, tag = "2")]
    pub key: Option<Key>,
    #[prost(message, optional, tag = "3")]
    pub dead_letter: Option<DeadLetter>,
    #[prost(message, optional, tag = "4")]
    pub session: Option<Session>,
    /// A session that ended: only its id is set.
    #[prost(message, optional, tag = "5")]
    pub session_end: Option<Id>,
    #[prost(message, optional, tag = "6")]
    pub topic: Option<Topic>,
    #[prost(message, optional, tag = "7")]
    pub secret: Option<Secret>,
    #[prost(message, optional, tag = "8")]
    pub output: Option<Output>,
    /// A dead letter that is no longer kept: only its namespace and job id are set.
    #[prost(message, optional, tag = "9")]
    pub dead_letter_end: Option<DeadLetter>,
    #[prost(message, optional, tag = "10")]
    pub resource: Option<Resource>,
    /// A resource that is gone: only its kind, namespace and name are set.
    #[prost(message, optional, tag = "11")]
    pub resource_end: Option<Resource>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Group {
    #[prost(uint64, tag = "1")]
    pub time: u64,
    #[prost(message, repeated, tag = "2")]
    pub writes: Vec<Write>,
}

/// What one frame of the log holds: groups that became durable together.
#[derive(Clone, PartialEq, Message)]
pub struct Batch {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(message, repeated, tag = "2")]
    pub groups: Vec<Group>,
    #[prost(message, repeated, tag = "3")]
    pub decisions: Vec<Decision>,
}
