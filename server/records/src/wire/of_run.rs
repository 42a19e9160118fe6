//! The place of a job in its run.

use super::Approval;
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct OfRun {
    #[prost(uint32, tag = "1")]
    pub scope: u32,
    #[prost(uint32, tag = "2")]
    pub place: u32,
    #[prost(uint32, optional, tag = "3")]
    pub index: Option<u32>,
    #[prost(bool, tag = "4")]
    pub is_undo: bool,
    #[prost(message, optional, tag = "5")]
    pub asks: Option<Approval>,
    #[prost(string, optional, tag = "6")]
    pub token_key: Option<String>,
}
