//! Submitting: one job, many jobs, a job and its outcome.

use super::jobs::WAIT_MARGIN;
use super::{Client, request_id};
use crate::error::{Error, Result};
use crate::job::{Decision, Job, Warning};
use crate::names::{AckLevel, JobState};
use crate::payload::FromPayload;
use crate::raw::{Raw, pb};
use crate::request::JobRequest;
use crate::time::{of_stamp, span};
use prost::Message as _;
use std::marker::PhantomData;
use std::time::{Duration, SystemTime};

/// Most specs in one batch, and the bytes it aims at.
pub(crate) const BATCH_MAX: usize = 10_000;
pub(crate) const BATCH_BYTES: usize = 1 << 20;

/// How long a run waits on the server before the client goes on by waiting for the job.
const RUN_STEP: Duration = Duration::from_secs(60);

/// What became of a submit. The job is durable.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Submitted {
    /// Id of the job.
    pub job_id: String,
    /// Where it stood when the reply left. A job that policy denies is DENIED, which is not an error.
    pub state: JobState,
    /// When it was accepted.
    pub create_time: Option<SystemTime>,
    /// The policy's answer when it is not a plain yes.
    pub decision: Option<Decision>,
    /// True when the job was there before.
    pub existing: bool,
    /// What the store had done with it when the reply left.
    pub ack_level: AckLevel,
    /// What the caller should know.
    pub warnings: Vec<Warning>,
}

/// A submitted job whose result is an `O`.
#[derive(Debug)]
pub struct JobHandle<O> {
    client: Client,
    submitted: Submitted,
    output: PhantomData<fn() -> O>,
}

impl Client {
    /// Submits one job. Returns when it is durable.
    pub async fn submit<O>(&self, request: JobRequest<O>) -> Result<JobHandle<O>> {
        let request = pb::SubmitJobRequest { spec: Some(request.into_pb()?), request_id: request_id() };
        let reply =
            self.call(request, |raw, request| async move { raw.jobs().submit_job(request).await }).await?;
        let job = reply.job.ok_or_else(|| Error::unexpected("the reply has no job"))?;
        let submitted = Submitted::from_pb(job, reply.existing, reply.ack_level, reply.warnings);
        Ok(JobHandle { client: self.clone(), submitted, output: PhantomData })
    }

    /// Submits many jobs. Each stands on its own: the results are in the order of the requests.
    ///
    /// More than fit one call are sent in several. When a call is refused as a whole, its jobs and all after them get its error.
    pub async fn submit_many<O>(
        &self,
        requests: impl IntoIterator<Item = JobRequest<O>>,
    ) -> Vec<Result<Submitted>> {
        let mut results: Vec<Option<Result<Submitted>>> = Vec::new();
        let (mut batch, mut places, mut bytes) = (Vec::new(), Vec::new(), 0);
        for request in requests {
            let spec = match request.into_pb() {
                Ok(spec) => spec,
                Err(error) => {
                    results.push(Some(Err(error)));
                    continue;
                }
            };
            let size = spec.encoded_len() + 8;
            if batch.len() == BATCH_MAX || (!batch.is_empty() && bytes + size > BATCH_BYTES) {
                let (specs, places) = (std::mem::take(&mut batch), std::mem::take(&mut places));
                self.submit_batch(specs, places, &mut results).await;
                bytes = 0;
            }
            bytes += size;
            places.push(results.len());
            batch.push(spec);
            results.push(None);
        }
        self.submit_batch(batch, places, &mut results).await;
        let missing = || Err(Error::unexpected("the reply has no result for this job"));
        results.into_iter().map(|result| result.unwrap_or_else(missing)).collect()
    }

    async fn submit_batch(
        &self,
        specs: Vec<pb::JobSpec>,
        places: Vec<usize>,
        results: &mut [Option<Result<Submitted>>],
    ) {
        if specs.is_empty() {
            return;
        }
        let request = pb::BatchSubmitJobsRequest { specs, request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.jobs().batch_submit_jobs(request).await };
        match self.call(request, send).await {
            Ok(reply) => {
                for (place, result) in places.into_iter().zip(reply.results) {
                    results[place] = Some(Submitted::of_result(result, reply.ack_level));
                }
            }
            Err(error) => places.into_iter().for_each(|place| results[place] = Some(Err(error.again()))),
        }
    }

    /// Submits a job and waits for its end, however long that takes. Look at `state`: it may have failed.
    pub async fn run<O>(&self, request: JobRequest<O>) -> Result<Job> {
        let job = self.run_for(request, RUN_STEP).await?;
        match job.state.is_terminal() {
            true => Ok(job),
            false => self.wait(job.job_id).await,
        }
    }

    /// Submits a job and waits for its end up to so long. Returns it as it then stands; it goes on.
    pub async fn run_for<O>(&self, request: JobRequest<O>, timeout: Duration) -> Result<Job> {
        let first = timeout.min(RUN_STEP);
        let request = pb::RunJobRequest {
            spec: Some(request.into_pb()?),
            timeout: Some(span(first)),
            request_id: request_id(),
            ..Default::default()
        };
        let send = |raw: Raw, request| async move { raw.jobs().run_job(request).await };
        let job = Job::of(self.call_within(first + WAIT_MARGIN, request, send).await?.job)?;
        match timeout.saturating_sub(first) {
            Duration::ZERO => Ok(job),
            left if !job.state.is_terminal() => self.wait_for(job.job_id, left).await,
            _ => Ok(job),
        }
    }

    /// Submits a job, waits for its end and returns what its handler returned. Any other end is an error that holds the job.
    pub async fn output<O: FromPayload>(&self, request: JobRequest<O>) -> Result<O> {
        self.run(request).await?.output()
    }
}

// === impl Submitted ===

impl Submitted {
    pub(crate) fn from_pb(job: pb::Job, existing: bool, ack_level: i32, warnings: Vec<pb::Warning>) -> Self {
        Self {
            job_id: job.job_id,
            state: JobState::of(job.state),
            create_time: of_stamp(job.create_time),
            decision: job.decision.map(Decision::from_pb),
            existing,
            ack_level: AckLevel::of(ack_level),
            warnings: Warning::from_pb(warnings),
        }
    }

    pub(crate) fn of_result(result: pb::SubmitResult, ack_level: i32) -> Result<Self> {
        match result.outcome {
            Some(pb::submit_result::Outcome::Job(job)) => {
                Ok(Self::from_pb(job, result.existing, ack_level, result.warnings))
            }
            Some(pb::submit_result::Outcome::Error(status)) => {
                let code = tonic::Code::from(status.code);
                let details = status.encode_to_vec().into();
                Err(Error::from(tonic::Status::with_details(code, status.message, details)))
            }
            None => Err(Error::unexpected("the reply has neither a job nor an error for this spec")),
        }
    }
}

// === impl JobHandle ===

impl<O> JobHandle<O> {
    /// Id of the job.
    pub fn job_id(&self) -> &str {
        &self.submitted.job_id
    }

    /// What became of the submit.
    pub fn submitted(&self) -> &Submitted {
        &self.submitted
    }

    /// What became of the submit, on its own.
    pub fn into_submitted(self) -> Submitted {
        self.submitted
    }

    /// The job as it stands.
    pub async fn job(&self) -> Result<Job> {
        self.client.get(self.job_id()).await
    }

    /// Waits for the end of the job.
    pub async fn wait(&self) -> Result<Job> {
        self.client.wait(self.job_id()).await
    }

    /// Stops the job for good.
    pub async fn cancel(&self, reason: impl Into<String>) -> Result<Job> {
        self.client.cancel(self.job_id(), reason).await
    }

    /// Waits for the end of the job and returns what its handler returned. Any other end is an error that holds the job.
    pub async fn output(&self) -> Result<O>
    where
        O: FromPayload,
    {
        self.wait().await?.output()
    }
}
