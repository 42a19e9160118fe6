//! Taking jobs without a stream, and reporting for leases held elsewhere: for cron-like pollers and for work that another system completes.
//!
//! Programs that can hold a connection want a [`Worker`](crate::Worker) instead.

use crate::client::Client;
use crate::error::Result;
use crate::payload::{FromPayload, IntoPayload, Payload};
use crate::raw::{Raw, pb};
use crate::time::{of_span, span};
use crate::verdict::HandlerError;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the network gets on top of a poll's own timeout.
const MARGIN: Duration = Duration::from_secs(15);

/// A poll for jobs.
#[derive(Clone, Debug)]
#[must_use = "a poll does nothing until it is sent"]
pub struct Poll {
    request: pb::PollJobsRequest,
    timeout: Duration,
}

/// What a poll brought.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Polled {
    /// Name it in the next poll and in reports.
    pub session_id: String,
    /// Jobs to do; possibly none.
    pub jobs: Vec<PolledJob>,
    /// Leases whose handlers should stop.
    pub cancel: Vec<CancelNotice>,
    /// Poll or report again within this time, or the leases are lost.
    pub session_ttl: Option<Duration>,
}

/// A job taken by a poll.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PolledJob {
    /// Its lease, to report by.
    pub lease: LeaseToken,
    /// Short name of the lease within the session, as in [`CancelNotice`].
    pub lease_id: u64,
    /// Id of the job.
    pub job_id: String,
    /// Its topic.
    pub topic: String,
    /// Number of the attempt.
    pub attempt: u32,
    /// Its input.
    pub input: Payload,
    /// Last checkpoint of an earlier attempt.
    pub checkpoint: Option<Payload>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Hand this to systems that deduplicate.
    pub idempotency_token: String,
    /// Time left until the total deadline.
    pub deadline: Option<Duration>,
    /// Longest run of this attempt.
    pub start_to_close: Option<Duration>,
    /// The configuration it was submitted under, if there is one of at most 16 KiB.
    pub config: Option<Payload>,
    /// Digest of that configuration; larger ones are asked for with [`Client::config_of_job`](crate::Client::config_of_job).
    pub config_digest: String,
}

/// Proof of a lease. Whoever has it may report what became of the job.
#[derive(Clone, PartialEq, Eq)]
pub struct LeaseToken(Bytes);

/// A lease whose handler should stop.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CancelNotice {
    /// The lease, by its id in the session.
    pub lease_id: u64,
    /// Its job.
    pub job_id: String,
    /// Why.
    pub reason: String,
    /// How long the handler may take.
    pub grace: Option<Duration>,
}

/// One thing that happened to a leased job.
#[derive(Clone, Debug)]
#[must_use = "a report does nothing until it is sent"]
pub struct LeaseReport {
    update: pb::JobUpdate,
}

/// What became of reports.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reported {
    /// Reports that were not applied, by index, and why. All others are durable.
    pub rejected: Vec<(usize, String)>,
    /// Leases whose handlers should stop.
    pub cancel: Vec<CancelNotice>,
    /// Poll or report again within this time.
    pub session_ttl: Option<Duration>,
}

// === impl Poll ===

impl Poll {
    /// A poll for jobs of these topics.
    pub fn topics(topics: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let topics = topics.into_iter().map(Into::into).collect();
        Self {
            request: pb::PollJobsRequest { topics, ..Default::default() },
            timeout: Duration::from_secs(10),
        }
    }

    /// Stable name of the poller.
    pub fn worker_id(mut self, worker_id: impl Into<String>) -> Self {
        self.request.worker_id = worker_id.into();
        self
    }

    /// Session of an earlier poll.
    pub fn session(mut self, session_id: impl Into<String>) -> Self {
        self.request.session_id = session_id.into();
        self
    }

    /// Named group it belongs to.
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        self.request.pool = pool.into();
        self
    }

    /// Most jobs to take, 1 to 256. Default 1.
    pub fn max_jobs(mut self, jobs: u32) -> Self {
        self.request.max_jobs = jobs;
        self
    }

    /// How long to wait for the first one, up to 60 s. Default 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

impl Client {
    /// Takes jobs without a stream. A poll that finds nothing is no error.
    ///
    /// It is not repeated by itself: jobs of a lost reply go back when their offer is over.
    pub async fn poll_jobs(&self, poll: Poll) -> Result<Polled> {
        let request = pb::PollJobsRequest { timeout: Some(span(poll.timeout)), ..poll.request };
        let mut message = tonic::Request::new(request);
        message.set_timeout(poll.timeout + MARGIN);
        let reply = self.raw().workers().poll_jobs(message).await?.into_inner();
        Ok(Polled {
            session_id: reply.session_id,
            jobs: reply.assignments.into_iter().map(PolledJob::from_pb).collect(),
            cancel: CancelNotice::from_pb(reply.cancel),
            session_ttl: of_span(reply.session_ttl),
        })
    }

    /// Says what became of leased jobs, up to 512 at a time. Without reports it renews the session; `session_id` may be empty otherwise.
    pub async fn report_jobs(
        &self,
        session_id: impl Into<String>,
        reports: impl IntoIterator<Item = LeaseReport>,
    ) -> Result<Reported> {
        let updates = reports.into_iter().map(|report| report.update).collect();
        let request = pb::ReportJobsRequest { session_id: session_id.into(), updates };
        let send = |raw: Raw, request| async move { raw.workers().report_jobs(request).await };
        let reply = self.call(request, send).await?;
        Ok(Reported {
            rejected: reply
                .rejected
                .into_iter()
                .map(|update| (update.index as usize, update.message))
                .collect(),
            cancel: CancelNotice::from_pb(reply.cancel),
            session_ttl: of_span(reply.session_ttl),
        })
    }
}

// === impl PolledJob, CancelNotice ===

impl PolledJob {
    fn from_pb(job: pb::Assignment) -> Self {
        let names = job.job.unwrap_or_default();
        Self {
            lease: LeaseToken(job.lease_token),
            lease_id: job.lease_id,
            job_id: names.job_id,
            topic: names.topic,
            attempt: job.attempt,
            input: job.input.map(Payload::from_pb).unwrap_or_default(),
            checkpoint: job.last_checkpoint.map(Payload::from_pb),
            labels: job.labels,
            idempotency_token: job.idempotency_token,
            deadline: of_span(job.deadline),
            start_to_close: of_span(job.start_to_close),
            config: job.config.map(Payload::from_pb),
            config_digest: job.config_digest,
        }
    }

    /// Its input as a value.
    pub fn parse<T: FromPayload>(&self) -> Result<T> {
        T::from_payload(self.input.clone())
    }
}

impl CancelNotice {
    fn from_pb(notices: Vec<pb::CancelNotice>) -> Vec<Self> {
        let of = |notice: pb::CancelNotice| Self {
            lease_id: notice.lease_id,
            job_id: notice.job_id,
            reason: notice.reason,
            grace: of_span(notice.grace),
        };
        notices.into_iter().map(of).collect()
    }
}

// === impl LeaseToken, LeaseReport ===

impl LeaseToken {
    /// A token that was kept as bytes.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The token as bytes, to be kept or handed on. It is a secret.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LeaseToken(…)")
    }
}

impl LeaseReport {
    fn new(lease: &LeaseToken, kind: pb::JobUpdateKind) -> Self {
        let update = pb::JobUpdate { lease_token: lease.0.clone(), kind: kind.into(), ..Default::default() };
        Self { update }
    }

    /// The work has begun.
    pub fn started(lease: &LeaseToken) -> Self {
        Self::new(lease, pb::JobUpdateKind::Started)
    }

    /// How far it is, from 0 to 1.
    pub fn progress(lease: &LeaseToken, fraction: f64, message: impl Into<String>) -> Self {
        let mut report = Self::new(lease, pb::JobUpdateKind::Progress);
        let fraction = fraction.is_finite().then(|| fraction.clamp(0.0, 1.0));
        report.update.progress =
            Some(pb::Progress { fraction, message: message.into(), ..Default::default() });
        report
    }

    /// Done, with a result.
    pub fn succeeded(lease: &LeaseToken, result: impl IntoPayload) -> Result<Self> {
        let mut report = Self::new(lease, pb::JobUpdateKind::Succeeded);
        report.update.result = Some(result.into_payload()?.into_pb());
        Ok(report)
    }

    /// Not done. The error decides what follows.
    pub fn failed(lease: &LeaseToken, error: impl Into<HandlerError>) -> Self {
        let mut report = Self::new(lease, pb::JobUpdateKind::Failed);
        report.update.failure = Some(error.into().into_pb());
        report
    }

    /// Stopped because it was told to.
    pub fn cancelled(lease: &LeaseToken) -> Self {
        Self::new(lease, pb::JobUpdateKind::Cancelled)
    }

    /// Given back unfinished.
    pub fn released(lease: &LeaseToken) -> Self {
        Self::new(lease, pb::JobUpdateKind::Released)
    }
}
