//! Calls about jobs that exist.

use super::list::{ListRequest, Page, all_pages};
use super::{Client, request_id};
use crate::client::submit::Submitted;
use crate::error::{Error, Result};
use crate::job::{Explanation, Job, JobEvent};
use crate::names::View;
use crate::payload::Payload;
use crate::raw::pb;
use crate::receipt::AskReceipt;
use crate::time::span;
use futures::Stream;
use std::time::Duration;
use tokio::time::Instant;

/// How long one wait on the server takes at most, before it is asked again.
pub(crate) const WAIT_STEP: Duration = Duration::from_secs(60);
/// What the network gets on top of a wait.
pub(crate) const WAIT_MARGIN: Duration = Duration::from_secs(15);

/// Most ids in one call.
const BATCH_GET_MAX: usize = 1_000;

impl Client {
    /// One job, payloads included.
    pub async fn get(&self, job_id: impl Into<String>) -> Result<Job> {
        self.get_view(job_id, View::Full).await
    }

    /// One job, as much of it as asked for.
    pub async fn get_view(&self, job_id: impl Into<String>, view: View) -> Result<Job> {
        let request =
            pb::GetJobRequest { job_id: job_id.into(), view: View::number(Some(view)), ..Default::default() };
        let reply =
            self.call(request, |raw, request| async move { raw.jobs().get_job(request).await }).await?;
        Job::of(reply.job)
    }

    /// Several jobs without payloads, and the ids that are not there.
    pub async fn batch_get(
        &self,
        job_ids: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<(Vec<Job>, Vec<String>)> {
        let ids: Vec<String> = job_ids.into_iter().map(Into::into).collect();
        let (mut jobs, mut missing) = (Vec::with_capacity(ids.len()), Vec::new());
        for ids in ids.chunks(BATCH_GET_MAX) {
            let request = pb::BatchGetJobsRequest { job_ids: ids.to_vec(), ..Default::default() };
            let send =
                |raw: crate::raw::Raw, request| async move { raw.jobs().batch_get_jobs(request).await };
            let reply = self.call(request, send).await?;
            jobs.extend(reply.jobs.into_iter().map(Job::from_pb));
            missing.extend(reply.missing);
        }
        Ok((jobs, missing))
    }

    /// A page of jobs, newest first unless asked otherwise.
    pub async fn list(&self, request: impl Into<ListRequest>) -> Result<Page<Job>> {
        let ListRequest { filter, page_size, page_token, order_by, view } = request.into();
        let view = View::number(view);
        let request =
            pb::ListJobsRequest { filter, page_size, page_token, order_by, view, ..Default::default() };
        let reply =
            self.call(request, |raw, request| async move { raw.jobs().list_jobs(request).await }).await?;
        let items = reply.jobs.into_iter().map(Job::from_pb).collect();
        Ok(Page { items, next_page_token: reply.next_page_token })
    }

    /// All jobs of a list, page after page. A job that exists throughout appears exactly once.
    pub fn list_all(
        &self,
        request: impl Into<ListRequest>,
    ) -> impl Stream<Item = Result<Job>> + Send + 'static {
        let client = self.clone();
        all_pages(request.into(), move |request| {
            let client = client.clone();
            async move { client.list(request).await }
        })
    }

    /// How many jobs match, and whether that is exact: counting stops at 100,000 rows examined.
    pub async fn count(&self, filter: impl Into<String>) -> Result<(u64, bool)> {
        let request = pb::CountJobsRequest { filter: filter.into() };
        let reply =
            self.call(request, |raw, request| async move { raw.jobs().count_jobs(request).await }).await?;
        Ok((reply.count, reply.exact))
    }

    /// Waits until the job is terminal, however long that takes.
    pub async fn wait(&self, job_id: impl Into<String>) -> Result<Job> {
        let job_id = job_id.into();
        loop {
            let job = self.wait_step(job_id.clone(), WAIT_STEP).await?;
            if job.state.is_terminal() {
                return Ok(job);
            }
        }
    }

    /// Waits until the job is terminal or the time is over, and returns it as it then stands.
    pub async fn wait_for(&self, job_id: impl Into<String>, timeout: Duration) -> Result<Job> {
        let job_id = job_id.into();
        let end = Instant::now() + timeout;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let job = self.wait_step(job_id.clone(), left.min(WAIT_STEP)).await?;
            if job.state.is_terminal() || left <= WAIT_STEP {
                return Ok(job);
            }
        }
    }

    async fn wait_step(&self, job_id: String, timeout: Duration) -> Result<Job> {
        let request = pb::WaitJobRequest { job_id, timeout: Some(span(timeout)), ..Default::default() };
        let send = |raw: crate::raw::Raw, request| async move { raw.jobs().wait_job(request).await };
        let reply = self.call_within(timeout + WAIT_MARGIN, request, send).await?;
        Job::of(reply.job)
    }

    /// All that happened to a job, oldest first.
    pub async fn history(&self, job_id: impl Into<String>) -> Result<Vec<JobEvent>> {
        let job_id = job_id.into();
        let (mut events, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::GetJobHistoryRequest { job_id: job_id.clone(), page_size: 1_000, page_token };
            let send =
                |raw: crate::raw::Raw, request| async move { raw.jobs().get_job_history(request).await };
            let reply = self.call(request, send).await?;
            events.extend(reply.events.into_iter().map(JobEvent::from_pb));
            page_token = reply.next_page_token;
            if page_token.is_empty() {
                return Ok(events);
            }
        }
    }

    /// All that the job's handlers asked the server and were told, oldest first.
    pub async fn ask_receipts(&self, job_id: impl Into<String>) -> Result<Vec<AskReceipt>> {
        let job_id = job_id.into();
        let (mut receipts, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListAskReceiptsRequest { job_id: job_id.clone(), page_size: 1_000, page_token };
            let send =
                |raw: crate::raw::Raw, request| async move { raw.jobs().list_ask_receipts(request).await };
            let reply = self.call(request, send).await?;
            receipts.extend(reply.receipts.into_iter().map(AskReceipt::from_pb));
            page_token = reply.next_page_token;
            if page_token.is_empty() {
                return Ok(receipts);
            }
        }
    }

    /// Stops a job for good. Returns it CANCELLED, or on its way there.
    pub async fn cancel(&self, job_id: impl Into<String>, reason: impl Into<String>) -> Result<Job> {
        let request =
            pb::CancelJobRequest { job_id: job_id.into(), reason: reason.into(), request_id: request_id() };
        let reply =
            self.call(request, |raw, request| async move { raw.jobs().cancel_job(request).await }).await?;
        Job::of(reply.job)
    }

    /// Makes a new job from a terminal one.
    pub async fn retry(&self, job_id: impl Into<String>) -> Result<Submitted> {
        self.retry_as(job_id, None).await
    }

    /// Makes a new job from a terminal one, with another input.
    pub async fn retry_with(&self, job_id: impl Into<String>, input: Payload) -> Result<Submitted> {
        self.retry_as(job_id, Some(input)).await
    }

    async fn retry_as(&self, job_id: impl Into<String>, input: Option<Payload>) -> Result<Submitted> {
        let edited_input = input.map(Payload::into_pb);
        let request = pb::RetryJobRequest { job_id: job_id.into(), edited_input, request_id: request_id() };
        let reply =
            self.call(request, |raw, request| async move { raw.jobs().retry_job(request).await }).await?;
        let job = reply.job.ok_or_else(|| Error::unexpected("the reply has no job"))?;
        Ok(Submitted::from_pb(job, reply.existing, reply.ack_level, reply.warnings))
    }

    /// Why a job is where it is.
    pub async fn explain(&self, job_id: impl Into<String>) -> Result<Explanation> {
        let request = pb::ExplainJobRequest { job_id: job_id.into() };
        let reply =
            self.call(request, |raw, request| async move { raw.jobs().explain_job(request).await }).await?;
        Ok(Explanation::from_pb(reply))
    }
}
