//! Workers: what they serve, how they run, how they leave.

mod build;
mod codec;
mod executor;
mod handshake;
mod host;
mod inbound;
mod lanes;
mod leases;
mod link;
mod outbox;
mod outgoing;
mod pace;
mod session;
mod settle;

pub use build::{Server, WorkerBuilder};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::fleet::DrainMode;
use crate::raw::pb;
use executor::{Bound, Start, run_lane};
use lanes::{Lane, LanePlan};
use outgoing::Outgoing;
use rustc_hash::FxHashMap;
use session::{Plan, Session};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// A process that serves topics. Made by [`Worker::builder`].
///
/// Handlers run on the runtime that calls [`run`](Worker::run); the stream to the server, heartbeats included, has a thread of its own, so
/// that a busy handler never costs the worker its leases.
#[must_use = "a worker does nothing until it runs"]
pub struct Worker {
    client: Client,
    hello: pb::Hello,
    bound: FxHashMap<String, Arc<Bound>>,
    lanes: Vec<LanePlan>,
    drain_grace: Duration,
    commands: (mpsc::UnboundedSender<Command>, mpsc::UnboundedReceiver<Command>),
    finished: watch::Sender<bool>,
}

/// Tells a running worker to leave. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    commands: mpsc::UnboundedSender<Command>,
    finished: watch::Receiver<bool>,
}

/// What a worker did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkerReport {
    /// Jobs that succeeded.
    pub finished: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Jobs stopped because they were cancelled.
    pub cancelled: u64,
    /// Attempts given back unfinished.
    pub released: u64,
    /// Leases given back before they started.
    pub returned: u64,
    /// Leases not taken.
    pub refused: u64,
    /// Ends that no longer counted: the lease was closed by then.
    pub discarded: u64,
    /// Leases left behind: running or not acknowledged when the worker had to go.
    pub abandoned: u64,
    /// Times the stream broke and was taken up again.
    pub reconnects: u64,
    /// Why it left.
    pub ended_by: EndedBy,
}

/// Why a worker left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndedBy {
    /// The program asked, by its handle or by `run_until`.
    #[default]
    Asked,
    /// SIGINT or SIGTERM.
    Signal,
    /// An operator drained it.
    Operator,
    /// A newer session has its worker id.
    Replaced,
    /// The credential was revoked or has expired.
    Credential,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Command {
    Drain {
        mode: pb::DrainMode,
        grace: Duration,
        by: EndedBy,
    },
    /// Leave at once, whatever is left behind.
    Abandon,
}

// === impl Worker ===

impl Worker {
    /// Options for a worker of a server: an address, a [`Client`] or its builder.
    pub fn builder(server: impl Into<Server>) -> WorkerBuilder {
        WorkerBuilder::new(server.into())
    }

    /// Its id.
    pub fn worker_id(&self) -> &str {
        &self.hello.worker_id
    }

    /// Tells it to leave while it runs.
    pub fn handle(&self) -> WorkerHandle {
        WorkerHandle { commands: self.commands.0.clone(), finished: self.finished.subscribe() }
    }

    /// Serves until SIGINT or SIGTERM, then finishes what it holds. A second signal makes it give back what still runs.
    pub async fn run(self) -> Result<WorkerReport> {
        let (handle, grace) = (self.handle(), self.drain_grace);
        let mut running = std::pin::pin!(self.serve());
        tokio::select! {
            ended = &mut running => return ended,
            () = signalled() => handle.send(DrainMode::Finish, grace, EndedBy::Signal),
        }
        tokio::select! {
            ended = &mut running => return ended,
            () = signalled() => handle.send(DrainMode::Handover, Duration::ZERO, EndedBy::Signal),
        }
        running.await
    }

    /// Serves until the future is done, then finishes what it holds.
    pub async fn run_until(self, until: impl Future<Output = ()>) -> Result<WorkerReport> {
        let (handle, grace) = (self.handle(), self.drain_grace);
        let mut running = std::pin::pin!(self.serve());
        tokio::select! {
            ended = &mut running => return ended,
            () = until => handle.send(DrainMode::Finish, grace, EndedBy::Asked),
        }
        running.await
    }

    async fn serve(self) -> Result<WorkerReport> {
        let Self { client, hello, bound, lanes, commands: (leash, commands), finished, .. } = self;
        // Dropping this future must not leave a worker behind.
        let _leash = Leash(leash);
        let _finished = Finished(finished);
        let (news_to, news) = mpsc::unbounded_channel();
        let lanes = lanes.into_iter().map(|plan| {
            let (starts, incoming) = mpsc::unbounded_channel::<Vec<Start>>();
            tokio::spawn(run_lane(incoming, news_to.clone()));
            Lane::new(plan, starts)
        });
        let lanes: Vec<Lane> = lanes.collect();
        let outgoing = Outgoing::new(news_to, client.clone());
        let session = move || {
            let link = link::Link::new(&client);
            Session::new(Plan { hello, bound }, link, outgoing, lanes, news, commands)
        };
        let (done, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("coretex-worker".into());
        thread
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let outcome = match runtime {
                    Ok(runtime) => runtime.block_on(async { Box::pin(session().run()).await }),
                    Err(error) => Err(Error::option(format!("cannot make a runtime: {error}"))),
                };
                // Nobody waits when the worker was dropped.
                let _ = done.send(outcome);
            })
            .map_err(|error| Error::option(format!("cannot start a thread: {error}")))?;
        ended.await.unwrap_or_else(|_| Err(Error::closed("the worker's thread has ended")))
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("worker_id", &self.worker_id()).finish_non_exhaustive()
    }
}

struct Leash(mpsc::UnboundedSender<Command>);

impl Drop for Leash {
    fn drop(&mut self) {
        // The session has ended already in the ordinary case.
        let _ = self.0.send(Command::Abandon);
    }
}

struct Finished(watch::Sender<bool>);

impl Drop for Finished {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

#[cfg(unix)]
async fn signalled() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be caught");
            interrupted().await;
        }
    }
}

#[cfg(not(unix))]
async fn signalled() {
    interrupted().await;
}

async fn interrupted() {
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::warn!(%error, "interrupts cannot be caught");
        std::future::pending::<()>().await;
    }
}

// === impl WorkerHandle ===

impl WorkerHandle {
    /// Finishes what it holds, for at most `grace`; what still runs then is stopped and given back. Returns when the worker has left.
    pub async fn drain(&self, grace: Duration) {
        self.drain_as(DrainMode::Finish, grace).await;
    }

    /// Leaves in a mode of choice. Returns when the worker has left.
    pub async fn drain_as(&self, mode: DrainMode, grace: Duration) {
        self.send(mode, grace, EndedBy::Asked);
        let mut finished = self.finished.clone();
        // An error means that the worker was dropped.
        let _ = finished.wait_for(|finished| *finished).await;
    }

    fn send(&self, mode: DrainMode, grace: Duration, by: EndedBy) {
        let mode = pb::DrainMode::try_from(mode.number()).unwrap_or_default();
        // The worker may have left already.
        let _ = self.commands.send(Command::Drain { mode, grace, by });
    }
}
