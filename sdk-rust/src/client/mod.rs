//! The client: one connection, typed calls, retries that keep their request id.

mod approvals;
mod auth;
mod config;
mod connect;
mod dlq;
mod fleet;
mod jobs;
mod list;
mod runs;
mod schedules;
mod submit;
mod submit_stream;
mod watch;
mod workflows;

pub use connect::{ClientBuilder, DEFAULT_ADDR};
pub use list::{ListRequest, Page};
pub use submit::{JobHandle, Submitted};
pub use submit_stream::{Completion, SubmitStream, SubmitStreamBuilder, Ticket};
pub use watch::{EventWatch, JobWatch};

use crate::error::{Error, Result};
use crate::raw::{Identity, Raw, Wire};
use crate::time::backoff;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::transport::Channel;

/// A connection to Coretex. Cheap to clone; clones share the connection.
///
/// Calls that meet a server that is not there, or whose outcome is not known, are repeated with the same request id for as long as
/// [`ClientBuilder::retry_for`] says: nothing is done twice.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) channel: Channel,
    pub(crate) identity: Identity,
    pub(crate) options: ClientBuilder,
    /// False over a channel made elsewhere.
    pub(crate) can_dial: bool,
}

impl Client {
    /// Connects to an address such as `http://127.0.0.1:7070`, with default options.
    pub async fn connect(addr: impl Into<String>) -> Result<Self> {
        Self::builder(addr).connect().await
    }

    /// Connects as the environment says: `CORETEX_ADDR`, `CORETEX_NAMESPACE`, `CORETEX_API_KEY`.
    pub async fn from_env() -> Result<Self> {
        ClientBuilder::from_env().connect().await
    }

    /// Options for a connection to an address.
    pub fn builder(addr: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(addr)
    }

    /// Options for a connection as the environment says.
    pub fn builder_from_env() -> ClientBuilder {
        ClientBuilder::from_env()
    }

    /// A client over a channel made elsewhere, for example in memory.
    pub fn over(channel: Channel, namespace: impl Into<String>) -> Result<Self> {
        let options = ClientBuilder::new(DEFAULT_ADDR).namespace(namespace);
        let identity = options.identity()?;
        Ok(Self::of(Shared { channel, identity, options, can_dial: false }))
    }

    pub(crate) fn of(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Namespace of its calls.
    pub fn namespace(&self) -> &str {
        &self.shared.options.namespace
    }

    /// Generated clients over the same connection.
    pub fn raw(&self) -> Raw {
        Raw::new(Wire::new(self.shared.channel.clone(), self.shared.identity.clone()))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// A call with the usual timeout.
    pub(crate) async fn call<Q, R, F, Fut>(&self, request: Q, send: F) -> Result<R>
    where
        Q: Clone,
        F: Fn(Raw, tonic::Request<Q>) -> Fut,
        Fut: Future<Output = Result<tonic::Response<R>, tonic::Status>>,
    {
        self.call_within(self.shared.options.call_timeout, request, send).await
    }

    /// A call, repeated while the refusal is a passing one. `request` carries its request id, so that repeats are one call.
    pub(crate) async fn call_within<Q, R, F, Fut>(&self, timeout: Duration, request: Q, send: F) -> Result<R>
    where
        Q: Clone,
        F: Fn(Raw, tonic::Request<Q>) -> Fut,
        Fut: Future<Output = Result<tonic::Response<R>, tonic::Status>>,
    {
        let give_up = Instant::now() + self.shared.options.retry_for;
        for tries in 0.. {
            let mut message = tonic::Request::new(request.clone());
            message.set_timeout(timeout);
            let error = match send(self.raw(), message).await {
                Ok(reply) => return Ok(reply.into_inner()),
                Err(status) => Error::from(status),
            };
            let wait = error.retry_after().unwrap_or_default() + backoff(tries);
            if !error.is_passing() || Instant::now() + wait >= give_up {
                return Err(error);
            }
            tracing::debug!(%error, ?wait, "repeating a call");
            tokio::time::sleep(wait).await;
        }
        unreachable!("the loop ends by returning")
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("namespace", &self.namespace()).finish_non_exhaustive()
    }
}

/// The id under which repeats of one call are one call.
pub(crate) fn request_id() -> String {
    uuid::Uuid::now_v7().to_string()
}
