//! The terms of a decision.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct Terms {
    #[prost(message, optional, tag = "1")]
    pub approval: Option<Approval>,
    #[prost(message, optional, tag = "2")]
    pub throttle: Option<Throttle>,
    #[prost(message, optional, tag = "3")]
    pub constraints: Option<Constraints>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Approval {
    #[prost(string, repeated, tag = "1")]
    pub approvers: Vec<String>,
    #[prost(uint32, tag = "2")]
    pub quorum: u32,
    #[prost(uint64, tag = "3")]
    pub expires: u64,
    /// 0 reject, 1 approve.
    #[prost(uint32, tag = "4")]
    pub on_expiry: u32,
    #[prost(bool, tag = "5")]
    pub requester_may_approve: bool,
}

#[derive(Clone, PartialEq, Message)]
pub struct Throttle {
    #[prost(uint32, tag = "1")]
    pub limit: u32,
    #[prost(uint64, tag = "2")]
    pub per: u64,
    #[prost(string, tag = "3")]
    pub key: String,
}

/// A list that may be set and empty.
#[derive(Clone, PartialEq, Message)]
pub struct Texts {
    #[prost(string, repeated, tag = "1")]
    pub all: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Constraints {
    #[prost(uint64, optional, tag = "1")]
    pub max_runtime: Option<u64>,
    #[prost(uint32, optional, tag = "2")]
    pub max_retries: Option<u32>,
    #[prost(uint64, optional, tag = "3")]
    pub max_tokens: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    pub max_cost_micros: Option<u64>,
    #[prost(uint32, optional, tag = "5")]
    pub max_concurrent: Option<u32>,
    #[prost(bool, optional, tag = "6")]
    pub isolated: Option<bool>,
    #[prost(message, optional, tag = "7")]
    pub network_allowlist: Option<Texts>,
    #[prost(message, optional, tag = "8")]
    pub fs_read_only: Option<Texts>,
    #[prost(message, optional, tag = "9")]
    pub fs_read_write: Option<Texts>,
    #[prost(message, optional, tag = "10")]
    pub allowed_tools: Option<Texts>,
    #[prost(message, optional, tag = "11")]
    pub allowed_commands: Option<Texts>,
    #[prost(uint32, optional, tag = "12")]
    pub max_files: Option<u32>,
    #[prost(uint32, optional, tag = "13")]
    pub max_lines: Option<u32>,
    #[prost(string, repeated, tag = "14")]
    pub deny_path_globs: Vec<String>,
    /// 0 not set, 1 none, 2 standard, 3 strict.
    #[prost(uint32, tag = "15")]
    pub redaction: u32,
}
