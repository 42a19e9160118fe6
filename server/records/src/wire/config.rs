//! Which configuration a job was submitted under.

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct Applied {
    #[prost(bytes = "bytes", tag = "1")]
    pub digest: bytes::Bytes,
    #[prost(message, repeated, tag = "2")]
    pub layers: Vec<Layer>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Layer {
    #[prost(uint32, tag = "1")]
    pub level: u32,
    #[prost(string, tag = "2")]
    pub id: String,
    #[prost(uint64, tag = "3")]
    pub revision: u64,
}
