//! `JobService`: submit, look, wait, stop.

use super::batch::Batch;
use super::list::filter;
use super::lookup::{look, query};
use super::{Replies, decoded, output, submit_stream, watch};
use crate::call::{Answer, Call};
use crate::gate::{Gate, job_id};
use crate::status;
use crate::wire::Faults;
use crate::wire::job::{self, Look, ack_level, reference};
use crate::wire::time::span;
use coretex_contract::v1 as pb;
use coretex_domain::filter::JOB_FIELDS;
use coretex_domain::limits::{self, WAIT_DEFAULT, WAIT_MAX};
use coretex_domain::names;
use coretex_domain::{Job, Reason, Refusal, Span};
use coretex_engine::api::{Accepted, Ask};
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

#[derive(Clone)]
pub(crate) struct Jobs(pub(crate) Arc<Gate>);

impl Jobs {
    /// Submits one job.
    async fn submit(
        &self,
        call: &Call,
        spec: Option<pb::JobSpec>,
        request_id: &str,
    ) -> Result<(Accepted, Vec<pb::Warning>), Refusal> {
        let (ask, warnings) = self.ask(call, spec, request_id).await?;
        let mut answers = self.0.engine.submit(&call.caller(), vec![ask], request_id, None).await?;
        let answer = answers
            .pop()
            .unwrap_or_else(|| Err(Refusal::new(Reason::OutcomeUnknown, "no answer for this job")));
        Ok((answer?, warnings))
    }

    /// Reads what is to be submitted, with what the caller should know about it.
    async fn ask(
        &self,
        call: &Call,
        spec: Option<pb::JobSpec>,
        request_id: &str,
    ) -> Result<(Ask, Vec<pb::Warning>), Refusal> {
        check_request_id(request_id)?;
        let (ask, mut warnings) = self.0.reader(call).read(spec, 0)?;
        self.0.learn_paused(&call.namespace).await;
        warnings.extend(self.0.paused_warning(&call.namespace, &ask.spec.topic));
        Ok((ask, warnings))
    }

    fn ack(&self) -> i32 {
        ack_level(self.0.engine.guarantees().ack).into()
    }

    async fn run(&self, call: &Call, request: pb::RunJobRequest) -> Result<pb::RunJobResponse, Refusal> {
        let look = look(request.view, request.payload_format, pb::View::Full)?;
        let timeout = wait_time(request.timeout)?;
        let (ask, warnings) = self.ask(call, request.spec, &request.request_id).await?;
        let timeout = call.within_deadline(timeout);
        let accepted = self.0.engine.run(&call.caller(), ask, &request.request_id, timeout).await?;
        Ok(pb::RunJobResponse {
            job: Some(job::write(&accepted.job, look)),
            existing: accepted.existing,
            ack_level: self.ack(),
            warnings,
        })
    }

    async fn wait_for(&self, call: &Call, job: Arc<Job>, timeout: Span) -> Result<Arc<Job>, Refusal> {
        if job.state.kind().is_terminal() {
            return Ok(job);
        }
        self.0.engine.wait(&call.namespace, &job.id, call.within_deadline(timeout)).await
    }

    async fn batch(
        &self,
        call: &Call,
        request: pb::BatchSubmitJobsRequest,
    ) -> Result<pb::BatchSubmitJobsResponse, Refusal> {
        check_request_id(&request.request_id)?;
        check_batch(request.specs.len())?;
        self.0.learn_paused(&call.namespace).await;
        let batch = Batch::read(&self.0, call, &mut self.0.reader(call), request.specs);
        let outcomes = batch.submit(&self.0, call, &request.request_id).await?;
        let results = outcomes.into_iter().map(|outcome| outcome.write(call)).collect();
        Ok(pb::BatchSubmitJobsResponse { results, ack_level: self.ack() })
    }

    async fn retry(
        &self,
        call: &Call,
        request: pb::RetryJobRequest,
    ) -> Result<pb::RetryJobResponse, Refusal> {
        let id = job_id("job_id", &request.job_id)?;
        check_request_id(&request.request_id)?;
        let edited = self.0.reader(call).edited(request.edited_input)?;
        let Accepted { job, existing } =
            self.0.engine.retry(&call.caller(), &id, edited, &request.request_id).await?;
        let warnings = self.0.paused_warning(&call.namespace, &job.spec.topic).into_iter().collect();
        Ok(pb::RetryJobResponse { job: Some(reference(&job)), existing, ack_level: self.ack(), warnings })
    }
}

pub(crate) fn check_request_id(request_id: &str) -> Result<(), Refusal> {
    if request_id.is_empty() {
        return Ok(());
    }
    names::check_key(request_id).map_err(|message| Refusal::field("request_id", message))
}

pub(crate) fn check_batch(count: usize) -> Result<(), Refusal> {
    match count {
        0 => Err(Refusal::field("specs", "required: at least one")),
        n if n > limits::SUBMIT_BATCH_MAX => {
            let message = format!("specs: at most {}, got {n}", limits::SUBMIT_BATCH_MAX);
            Err(Refusal::new(Reason::BatchTooLarge, message))
        }
        _ => Ok(()),
    }
}

pub(super) fn wait_time(given: Option<coretex_contract::Duration>) -> Result<Span, Refusal> {
    let mut faults = Faults::default();
    let wait = span(&mut faults, "timeout", given, Span::ZERO, WAIT_MAX);
    faults.into_result().map(|()| wait.unwrap_or(WAIT_DEFAULT))
}

#[tonic::async_trait]
impl pb::job_service_server::JobService for Jobs {
    type SubmitJobStreamStream = Replies<pb::SubmitJobStreamResponse>;
    type WatchJobsStream = Replies<pb::WatchJobsResponse>;
    type ReadJobOutputStream = Replies<pb::ReadJobOutputResponse>;

    async fn submit_job(&self, request: Request<pb::SubmitJobRequest>) -> Answer<pb::SubmitJobResponse> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let answer = self.submit(&call, request.spec, &request.request_id).await;
        call.answer(answer.map(|(accepted, warnings)| pb::SubmitJobResponse {
            job: Some(reference(&accepted.job)),
            existing: accepted.existing,
            ack_level: self.ack(),
            warnings,
        }))
    }

    async fn batch_submit_jobs(
        &self,
        request: Request<pb::BatchSubmitJobsRequest>,
    ) -> Answer<pb::BatchSubmitJobsResponse> {
        let call = Call::of(&request);
        call.answer(self.batch(&call, request.into_inner()).await)
    }

    async fn submit_job_stream(
        &self,
        request: Request<Streaming<pb::SubmitJobStreamRequest>>,
    ) -> Answer<Self::SubmitJobStreamStream> {
        let call = Call::of(&request);
        Ok(Response::new(decoded(submit_stream::open(self.0.clone(), call, request.into_inner()))))
    }

    async fn run_job(&self, request: Request<pb::RunJobRequest>) -> Answer<pb::RunJobResponse> {
        let call = Call::of(&request);
        call.answer(self.run(&call, request.into_inner()).await)
    }

    async fn get_job(&self, request: Request<pb::GetJobRequest>) -> Answer<pb::GetJobResponse> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let answer = async {
            let look = look(request.view, request.payload_format, pb::View::Full)?;
            let id = job_id("job_id", &request.job_id)?;
            let job = self.0.engine.get(&call.namespace, &id).await?;
            Ok(pb::GetJobResponse { job: Some(job::write(&job, look)) })
        };
        call.answer(answer.await)
    }

    async fn batch_get_jobs(
        &self,
        request: Request<pb::BatchGetJobsRequest>,
    ) -> Answer<pb::BatchGetJobsResponse> {
        let call = Call::of(&request);
        call.answer(self.batch_get(&call, request.into_inner()).await)
    }

    async fn list_jobs(&self, request: Request<pb::ListJobsRequest>) -> Answer<pb::ListJobsResponse> {
        let call = Call::of(&request);
        call.answer(self.list(&call, request.into_inner()).await)
    }

    async fn count_jobs(&self, request: Request<pb::CountJobsRequest>) -> Answer<pb::CountJobsResponse> {
        let call = Call::of(&request);
        let answer = async {
            let filter = filter(JOB_FIELDS, &request.get_ref().filter)?;
            let (count, exact) = self.0.engine.count(query(&call, filter)).await?;
            Ok(pb::CountJobsResponse { count, exact })
        };
        call.answer(answer.await)
    }

    async fn wait_job(&self, request: Request<pb::WaitJobRequest>) -> Answer<pb::WaitJobResponse> {
        let call = Call::of(&request);
        let request = request.into_inner();
        let answer = async {
            let look = look(request.view, request.payload_format, pb::View::Full)?;
            let timeout = wait_time(request.timeout)?;
            let id = job_id("job_id", &request.job_id)?;
            let job = self.0.engine.get(&call.namespace, &id).await?;
            let job = self.wait_for(&call, job, timeout).await?;
            Ok(pb::WaitJobResponse { job: Some(job::write(&job, look)) })
        };
        call.answer(answer.await)
    }

    async fn watch_jobs(&self, request: Request<pb::WatchJobsRequest>) -> Answer<Self::WatchJobsStream> {
        let call = Call::of(&request);
        let opened = watch::open(self.0.clone(), call.clone(), request.into_inner());
        call.answer(opened)
    }

    async fn get_job_history(
        &self,
        request: Request<pb::GetJobHistoryRequest>,
    ) -> Answer<pb::GetJobHistoryResponse> {
        let call = Call::of(&request);
        call.answer(self.history(&call, request.into_inner()).await)
    }

    async fn list_ask_receipts(
        &self,
        request: Request<pb::ListAskReceiptsRequest>,
    ) -> Answer<pb::ListAskReceiptsResponse> {
        let call = Call::of(&request);
        call.answer(self.receipts(&call, request.into_inner()).await)
    }

    async fn cancel_job(&self, request: Request<pb::CancelJobRequest>) -> Answer<pb::CancelJobResponse> {
        let call = Call::of(&request);
        let request = request.into_inner();
        call.subject(&request.job_id);
        let answer = async {
            let id = job_id("job_id", &request.job_id)?;
            check_request_id(&request.request_id)?;
            let mut faults = Faults::default();
            faults.text("reason", &request.reason, limits::REASON_LEN_MAX);
            faults.into_result()?;
            let job = self.0.engine.cancel(&call.caller(), &id, request.reason.as_str().into()).await?;
            Ok(pb::CancelJobResponse { job: Some(job::write(&job, Look::BASIC)) })
        };
        call.answer(answer.await)
    }

    async fn retry_job(&self, request: Request<pb::RetryJobRequest>) -> Answer<pb::RetryJobResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().job_id);
        call.answer(self.retry(&call, request.into_inner()).await)
    }

    async fn explain_job(&self, request: Request<pb::ExplainJobRequest>) -> Answer<pb::ExplainJobResponse> {
        let call = Call::of(&request);
        call.answer(self.explain(&call, request.into_inner()).await)
    }

    async fn read_job_output(
        &self,
        request: Request<pb::ReadJobOutputRequest>,
    ) -> Answer<Self::ReadJobOutputStream> {
        let call = Call::of(&request);
        let opened = output::open(self.0.clone(), call.clone(), request.into_inner()).await;
        call.answer(opened)
    }
}

/// One item of a batch that was refused.
pub(crate) fn refused(refusal: &Refusal, call: &Call) -> pb::SubmitResult {
    let error = status::item(refusal, &call.request_id);
    pb::SubmitResult {
        outcome: Some(pb::submit_result::Outcome::Error(error)),
        ..pb::SubmitResult::default()
    }
}

/// A stream that ends with a refusal.
pub(crate) fn end_with<T>(refusal: &Refusal, call: &Call) -> Result<T, Status> {
    Err(call.refuse(refusal))
}
