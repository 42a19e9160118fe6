//! A job service that breaks where the test wants it to.

use coretex_sdk::raw::tonic::{Code, Request, Response, Status, Streaming};
use coretex_sdk::raw::v1::job_service_server::{JobService, JobServiceServer};
use coretex_sdk::raw::v1::*;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic_types::{ErrorDetails, StatusExt as _};

type Replies<T> = Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

/// What the service saw, and what it shall refuse next.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) refusals: VecDeque<Status>,
    pub(crate) request_ids: Vec<String>,
    pub(crate) metadata: Vec<(String, String)>,
    /// Batches after which a submit stream breaks, once each: before or after the batch is stored.
    pub(crate) breaks: VecDeque<(u64, bool)>,
    /// Jobs by request id and index: a repeat meets the same one.
    pub(crate) jobs: BTreeMap<(String, usize), Job>,
    pub(crate) pages: u32,
}

#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<Book>>);

pub(crate) fn refusal(code: Code, reason: &str, retry: Option<Duration>) -> Status {
    let mut details =
        ErrorDetails::with_error_info(reason, "coretex", [("fact".to_owned(), "42".to_owned())]);
    details.set_retry_info(retry);
    if code == Code::InvalidArgument {
        details.add_bad_request_violation("spec.topic", "is not a topic");
        details.add_bad_request_violation("spec.priority", "is 0 to 9");
    }
    Status::with_error_details(code, "refused", details)
}

impl Fake {
    /// Starts it and returns its address.
    pub(crate) async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let service = JobServiceServer::new(self.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        format!("http://{addr}")
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap()
    }

    fn store(&self, request_id: &str, index: usize, spec: JobSpec) -> SubmitResult {
        let mut book = self.book();
        let next = book.jobs.len();
        let key = (request_id.to_owned(), index);
        let existing = book.jobs.contains_key(&key);
        let job = book.jobs.entry(key).or_insert_with(|| Job {
            job_id: format!("job_{next}"),
            state: JobState::Succeeded.into(),
            result: spec.payload.clone(),
            spec: Some(spec),
            ..Default::default()
        });
        let job = Job { result: None, spec: None, ..job.clone() };
        SubmitResult { outcome: Some(submit_result::Outcome::Job(job)), existing, warnings: Vec::new() }
    }

    fn seen<T>(&self, request: &Request<T>, request_id: &str) -> Result<(), Status> {
        let mut book = self.book();
        book.request_ids.push(request_id.to_owned());
        for name in ["coretex-namespace", "authorization"] {
            if let Some(value) = request.metadata().get(name) {
                book.metadata.push((name.into(), value.to_str().unwrap().into()));
            }
        }
        book.refusals.pop_front().map_or(Ok(()), Err)
    }

    async fn stream(
        self,
        mut batches: Streaming<SubmitJobStreamRequest>,
        replies: mpsc::UnboundedSender<Result<SubmitJobStreamResponse, Status>>,
    ) {
        while let Ok(Some(batch)) = batches.message().await {
            self.book().request_ids.push(batch.request_id.clone());
            let next = self.book().breaks.front().copied();
            let breaks = next.is_some_and(|(sequence, _)| sequence == batch.sequence);
            if breaks && !next.unwrap().1 {
                self.book().breaks.pop_front();
                let _ = replies.send(Err(Status::unavailable("the node is gone")));
                return;
            }
            let jobs = batch.specs.into_iter().enumerate();
            let results: Vec<_> =
                jobs.map(|(index, spec)| self.store(&batch.request_id, index, spec)).collect();
            let completions = (0..).zip(&results).map(|(index, result)| {
                let Some(submit_result::Outcome::Job(job)) = &result.outcome else { unreachable!() };
                JobCompletion {
                    sequence: batch.sequence,
                    index,
                    job_id: job.job_id.clone(),
                    state: job.state,
                    ..Default::default()
                }
            });
            let completions = completions.collect();
            if breaks {
                self.book().breaks.pop_front();
                let _ = replies.send(Err(Status::unavailable("the node is gone")));
                return;
            }
            let sequence = batch.sequence;
            let _ = replies.send(Ok(SubmitJobStreamResponse { sequence, results, ..Default::default() }));
            if batch.follow {
                let _ = replies.send(Ok(SubmitJobStreamResponse { completions, ..Default::default() }));
            }
        }
    }
}

/// What `async_trait` would write; it does not look into macros.
macro_rules! absent {
    ($($method:ident($request:ty) -> $reply:ty;)*) => {
        $(
            fn $method<'a, 't>(&'a self, _: Request<$request>) -> Answer<'t, $reply>
            where
                'a: 't,
                Self: 't,
            {
                Box::pin(async { Err(Status::unimplemented(stringify!($method))) })
            }
        )*
    };
}

type Answer<'t, T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send + 't>>;

#[tonic::async_trait]
impl JobService for Fake {
    type SubmitJobStreamStream = Replies<SubmitJobStreamResponse>;
    type WatchJobsStream = Replies<WatchJobsResponse>;
    type ReadJobOutputStream = Replies<ReadJobOutputResponse>;

    async fn submit_job(
        &self,
        request: Request<SubmitJobRequest>,
    ) -> Result<Response<SubmitJobResponse>, Status> {
        self.seen(&request, &request.get_ref().request_id)?;
        let SubmitJobRequest { spec, request_id } = request.into_inner();
        let SubmitResult { outcome, existing, .. } = self.store(&request_id, 0, spec.unwrap());
        let Some(submit_result::Outcome::Job(job)) = outcome else { unreachable!() };
        let ack_level = AckLevel::Fsync.into();
        Ok(Response::new(SubmitJobResponse { job: Some(job), existing, ack_level, warnings: Vec::new() }))
    }

    async fn batch_submit_jobs(
        &self,
        request: Request<BatchSubmitJobsRequest>,
    ) -> Result<Response<BatchSubmitJobsResponse>, Status> {
        self.seen(&request, &request.get_ref().request_id)?;
        let BatchSubmitJobsRequest { specs, request_id } = request.into_inner();
        let results = specs.into_iter().enumerate().map(|(index, spec)| match spec.topic.as_str() {
            "bad" => {
                let status = refusal(Code::InvalidArgument, "INVALID_FIELD", None);
                let status: coretex_contract::Status = prost::Message::decode(status.details()).unwrap();
                SubmitResult { outcome: Some(submit_result::Outcome::Error(status)), ..Default::default() }
            }
            _ => self.store(&request_id, index, spec),
        });
        Ok(Response::new(BatchSubmitJobsResponse { results: results.collect(), ..Default::default() }))
    }

    async fn submit_job_stream(
        &self,
        request: Request<Streaming<SubmitJobStreamRequest>>,
    ) -> Result<Response<Self::SubmitJobStreamStream>, Status> {
        let (replies, stream) = mpsc::unbounded_channel();
        tokio::spawn(self.clone().stream(request.into_inner(), replies));
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(stream))))
    }

    async fn wait_job(&self, request: Request<WaitJobRequest>) -> Result<Response<WaitJobResponse>, Status> {
        let book = self.book();
        let job = book.jobs.values().find(|job| job.job_id == request.get_ref().job_id);
        let job = job.cloned().ok_or_else(|| refusal(Code::NotFound, "JOB_NOT_FOUND", None))?;
        Ok(Response::new(WaitJobResponse { job: Some(job) }))
    }

    async fn list_jobs(
        &self,
        request: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        let page: usize = request.get_ref().page_token.parse().unwrap_or(0);
        let mut book = self.book();
        book.pages += 1;
        // The second page is empty and still has a next one.
        let jobs: Vec<Job> =
            if page == 1 { Vec::new() } else { book.jobs.values().take(2).cloned().collect() };
        let next_page_token = if page < 2 { (page + 1).to_string() } else { String::new() };
        Ok(Response::new(ListJobsResponse { jobs, next_page_token }))
    }

    async fn watch_jobs(
        &self,
        request: Request<WatchJobsRequest>,
    ) -> Result<Response<Self::WatchJobsStream>, Status> {
        let from: u32 = request.get_ref().resume_token.parse().unwrap_or(0);
        let step = |n: u32| Ok(WatchJobsResponse { resume_token: (n + 1).to_string(), ..Default::default() });
        let steps: Vec<_> = match from {
            0 => vec![step(0), step(1), Err(Status::unavailable("the node is gone"))],
            4 => vec![step(4)],
            _ => vec![step(from), step(from + 1), Err(refusal(Code::Unavailable, "SHUTTING_DOWN", None))],
        };
        Ok(Response::new(Box::pin(tokio_stream::iter(steps))))
    }

    async fn read_job_output(
        &self,
        _: Request<ReadJobOutputRequest>,
    ) -> Result<Response<Self::ReadJobOutputStream>, Status> {
        Err(Status::unimplemented("read_job_output"))
    }

    absent! {
        run_job(RunJobRequest) -> RunJobResponse;
        get_job(GetJobRequest) -> GetJobResponse;
        batch_get_jobs(BatchGetJobsRequest) -> BatchGetJobsResponse;
        count_jobs(CountJobsRequest) -> CountJobsResponse;
        get_job_history(GetJobHistoryRequest) -> GetJobHistoryResponse;
        cancel_job(CancelJobRequest) -> CancelJobResponse;
        list_ask_receipts(ListAskReceiptsRequest) -> ListAskReceiptsResponse;
        retry_job(RetryJobRequest) -> RetryJobResponse;
        explain_job(ExplainJobRequest) -> ExplainJobResponse;
    }
}
