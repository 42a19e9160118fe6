//! Rows that are neither jobs nor what leads to them: secrets that sign tokens, output chunks, resources.

use super::Id;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct Secret {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(uint32, tag = "2")]
    pub id: u32,
    #[prost(bytes = "bytes", tag = "3")]
    pub secret: bytes::Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub struct Output {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(string, tag = "2")]
    pub namespace: String,
    #[prost(message, optional, tag = "3")]
    pub job_id: Option<Id>,
    #[prost(string, tag = "4")]
    pub stream: String,
    #[prost(uint64, tag = "5")]
    pub offset: u64,
    #[prost(bytes = "bytes", tag = "6")]
    pub chunk: bytes::Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub struct Resource {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    #[prost(string, tag = "3")]
    pub namespace: String,
    #[prost(string, tag = "4")]
    pub name: String,
    #[prost(uint32, tag = "5")]
    pub shard: u32,
    #[prost(uint64, tag = "6")]
    pub revision: u64,
    #[prost(bool, tag = "7")]
    pub is_live: bool,
    #[prost(uint64, tag = "8")]
    pub create_time: u64,
    #[prost(uint64, tag = "9")]
    pub update_time: u64,
    #[prost(uint64, optional, tag = "10")]
    pub expire_time: Option<u64>,
    #[prost(bytes = "bytes", tag = "11")]
    pub body: bytes::Bytes,
}
