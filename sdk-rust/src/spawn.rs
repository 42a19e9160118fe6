//! Jobs that a handler makes of its own job.

use crate::client::Client;
use crate::ctx::{Ctx, Sink};
use crate::error::{Code, Error, Result};
use crate::job::Job;
use crate::payload::{FromPayload, Payload};
use crate::raw::pb;
use crate::raw::pb::answer::Answer;
use crate::raw::pb::ask::Question;
use crate::request::JobRequest;
use std::marker::PhantomData;
use std::sync::Arc;

/// Children to be made together: all of them, or none. A list of requests is one.
///
/// Children pass policy and quotas like any submit, and stand for whoever submitted the parent. They inherit its namespace and, without one
/// of their own, its trace; nothing else. Where the parent has a limit in its budget, each child needs one out of it.
#[must_use = "children are made with `ctx.spawn_all`"]
pub struct Spawn<O = Payload> {
    requests: Vec<JobRequest<O>>,
    name: Option<String>,
    cancel_with_parent: bool,
}

/// A job made of the handler's own, whose result is an `O`.
pub struct Child<O = Payload> {
    job_id: String,
    sink: Arc<dyn Sink>,
    output: PhantomData<fn() -> O>,
}

// === impl Spawn ===

impl<O> Spawn<O> {
    /// These children, 1 to 256. Ids and keys of their own they may not have.
    pub fn of(requests: impl IntoIterator<Item = JobRequest<O>>) -> Self {
        Self { requests: requests.into_iter().collect(), name: None, cancel_with_parent: false }
    }

    /// Cancels those still open when the parent ends otherwise than SUCCEEDED. Without it they go on.
    pub fn cancel_with_parent(mut self) -> Self {
        self.cancel_with_parent = true;
        self
    }

    /// Names them among what the job spawns, over all its attempts, at most 64 bytes. Without it they are counted: the third call of every
    /// attempt is about the same children, and must ask for the same.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl<O> From<Vec<JobRequest<O>>> for Spawn<O> {
    fn from(requests: Vec<JobRequest<O>>) -> Self {
        Self::of(requests)
    }
}

// === impl Ctx: children ===

impl Ctx {
    /// Makes a job of this one. Returns when it is durable. See [`spawn_all`](Ctx::spawn_all).
    pub async fn spawn<O>(&self, request: JobRequest<O>) -> Result<Child<O>> {
        let mut made = self.spawn_all(Spawn::of([request])).await?;
        made.pop().ok_or_else(|| Error::unexpected("the answer names no job"))
    }

    /// Makes jobs of this one: all, or an error that names the first that cannot be. They are in the order of the requests. An attempt that
    /// comes after a crash gets the children of the one before, and an error with the reason `IDEMPOTENCY_CONFLICT` if it asks for other ones.
    pub async fn spawn_all<O>(&self, children: impl Into<Spawn<O>>) -> Result<Vec<Child<O>>> {
        let Spawn { requests, name, cancel_with_parent } = children.into();
        // Counted apart from other questions: a handler that asks more of those has the same children all the same.
        let number = self.next_spawn();
        let policy = match cancel_with_parent {
            true => pb::ParentClosePolicy::Cancel,
            false => pb::ParentClosePolicy::Abandon,
        };
        let spawn = pb::SpawnAsk {
            specs: requests.into_iter().map(JobRequest::into_pb).collect::<Result<_>>()?,
            parent_close_policy: policy.into(),
            name: name.unwrap_or_else(|| format!("#{number}")),
        };
        match self.ask("ask.spawn", Question::Spawn(spawn)).await? {
            Answer::Spawned(made) => Ok(made.job_ids.into_iter().map(|id| self.child(id)).collect()),
            _ => Err(Error::unexpected("another answer than was asked for")),
        }
    }

    /// A child by its id, for example one that an earlier attempt kept in a checkpoint.
    pub fn child<O>(&self, job_id: impl Into<String>) -> Child<O> {
        Child { job_id: job_id.into(), sink: self.shared_sink(), output: PhantomData }
    }
}

// === impl Child ===

impl<O> Child<O> {
    /// Id of the job.
    pub fn job_id(&self) -> &str {
        &self.job_id
    }

    /// The job as it stands. The worker's identity needs the permission `jobs.read`.
    pub async fn job(&self) -> Result<Job> {
        match self.sink.client() {
            Some(client) => client.get(self.job_id()).await,
            None => self.told(),
        }
    }

    /// Waits for the end of the job. The worker's identity needs the permission `jobs.read`. Its own slot stays taken meanwhile: a worker that
    /// serves parents and children in one lane needs slots for both.
    pub async fn wait(&self) -> Result<Job> {
        match self.sink.client() {
            Some(client) => client.wait(self.job_id()).await,
            None => self.told(),
        }
    }

    /// Waits for the end of the job and returns what its handler returned. Any other end is an error that holds the job.
    pub async fn output(&self) -> Result<O>
    where
        O: FromPayload,
    {
        self.wait().await?.output()
    }

    /// Stops the job for good. The worker's identity needs the permission `jobs.cancel`.
    pub async fn cancel(&self, reason: impl Into<String>) -> Result<Job> {
        self.client()?.cancel(self.job_id(), reason).await
    }

    fn client(&self) -> Result<&Client> {
        self.sink.client().ok_or_else(|| {
            Error::new(Code::FailedPrecondition, "FEATURE_UNAVAILABLE", "there is no server behind a test")
        })
    }

    fn told(&self) -> Result<Job> {
        let missing = || {
            let message = format!("no job {}; a test names results with `Call::child`", self.job_id);
            Error::new(Code::NotFound, "JOB_NOT_FOUND", message)
        };
        self.sink.child(&self.job_id).ok_or_else(missing)
    }
}

impl<O> Clone for Child<O> {
    fn clone(&self) -> Self {
        Self { job_id: self.job_id.clone(), sink: self.sink.clone(), output: PhantomData }
    }
}

impl<O> std::fmt::Debug for Child<O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Child").field("job_id", &self.job_id).finish_non_exhaustive()
    }
}
