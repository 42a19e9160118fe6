//! The services of the contract, one file each. A handler reads, asks the engine, and writes; it decides nothing.

pub(crate) mod admin;
pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod auth;
mod batch;
pub(crate) mod config;
pub(crate) mod dlq;
pub(crate) mod events;
pub(crate) mod jobs;
pub(crate) mod list;
mod lookup;
pub(crate) mod namespaces;
mod output;
mod receipts;
pub(crate) mod runs;
pub(crate) mod safety;
pub(crate) mod schedules;
pub(crate) mod submit_stream;
pub(crate) mod topics;
mod watch;
pub(crate) mod workers;
pub(crate) mod workflows;

pub(crate) use output::check_name as check_output_name;

use bytes::Bytes;
use futures::StreamExt;
use prost::Message;
use std::pin::Pin;
use tonic::Status;

/// A stream of responses.
pub(crate) type Replies<T> = Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

/// Messages that were written by hand, as messages: for callers of the services that are not at the end of a wire.
fn decoded<T: Message + Default + 'static>(replies: Replies<Bytes>) -> Replies<T> {
    let decode = |bytes: Bytes| T::decode(bytes).map_err(|_| crate::status::fault(""));
    Box::pin(replies.map(move |reply| reply.and_then(decode)))
}
