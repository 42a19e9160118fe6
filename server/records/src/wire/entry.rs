//! Entries of histories.

use super::{Cancel, Closed, Id, Lease};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct Entry {
    #[prost(uint64, tag = "1")]
    pub seq: u64,
    #[prost(uint64, tag = "2")]
    pub time: u64,
    #[prost(uint32, tag = "3")]
    pub kind: u32,
    /// Actor or reason.
    #[prost(string, optional, tag = "4")]
    pub text: Option<String>,
    #[prost(uint64, tag = "5")]
    pub place: u64,
    #[prost(message, optional, tag = "6")]
    pub lease: Option<Lease>,
    #[prost(message, optional, tag = "7")]
    pub closed: Option<Closed>,
    /// When it is asked again, or tried again.
    #[prost(uint64, tag = "8")]
    pub at: u64,
    /// Return reason, or 1 for the total deadline.
    #[prost(uint32, tag = "9")]
    pub number: u32,
    #[prost(message, optional, tag = "10")]
    pub cancel: Option<Cancel>,
    #[prost(message, optional, tag = "11")]
    pub retried_as: Option<Id>,
    /// Who deleted the dead letter, in a note that says so.
    #[prost(string, optional, tag = "12")]
    pub letter_deleted_by: Option<String>,
    /// What became of a question to people.
    #[prost(message, optional, tag = "13")]
    pub ruling: Option<Ruling>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Ruling {
    #[prost(uint32, tag = "1")]
    pub grounds: u32,
    #[prost(string, repeated, tag = "2")]
    pub by: Vec<String>,
    #[prost(string, tag = "3")]
    pub comment: String,
}
