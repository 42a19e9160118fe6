//! The unary side of the contract: clients with a namespace and a key, and what a refusal says.

use coretex_contract::v1::admin_service_client::AdminServiceClient;
use coretex_contract::v1::dlq_service_client::DlqServiceClient;
use coretex_contract::v1::event_service_client::EventServiceClient;
use coretex_contract::v1::job_service_client::JobServiceClient;
use coretex_contract::v1::topic_service_client::TopicServiceClient;
use coretex_contract::v1::worker_service_client::WorkerServiceClient;
use coretex_contract::v1::{self as pb, JobEventType, JobState};
use coretex_contract::{Duration as ProtoDuration, NAMESPACE_METADATA};
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

/// A message larger than any the server sends.
const REPLY_MAX: usize = 64 << 20;

pub type Scoped = InterceptedService<Channel, Scope>;

/// Puts namespace and key on every call.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    namespace: Option<MetadataValue<Ascii>>,
    key: Option<MetadataValue<Ascii>>,
}

/// A way to the server.
#[derive(Clone, Debug)]
pub struct Api {
    channel: Channel,
    scope: Scope,
}

/// What a refusal says to programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: Code,
    pub reason: String,
    pub fields: Vec<String>,
    pub message: String,
    pub retry_after: Option<Duration>,
}

// === impl Scope ===

impl Interceptor for Scope {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(namespace) = &self.namespace {
            request.metadata_mut().insert(NAMESPACE_METADATA, namespace.clone());
        }
        if let Some(key) = &self.key {
            request.metadata_mut().insert("x-api-key", key.clone());
        }
        Ok(request)
    }
}

// === impl Api: ways in ===

impl Api {
    /// One connection. It is dialled with the first call, and again after it breaks.
    pub fn to(url: &str) -> Api {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL");
        let endpoint = endpoint
            .connect_timeout(Duration::from_secs(5))
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(8 << 20)
            .tcp_nodelay(true);
        Api { channel: endpoint.connect_lazy(), scope: Scope::default() }
    }

    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Api {
        let namespace = Some(namespace.parse().expect("a metadata value"));
        Api { channel: self.channel.clone(), scope: Scope { namespace, ..self.scope.clone() } }
    }

    #[must_use]
    pub fn with_key(&self, key: &str) -> Api {
        let key = Some(key.parse().expect("a metadata value"));
        Api { channel: self.channel.clone(), scope: Scope { key, ..self.scope.clone() } }
    }

    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub fn jobs(&self) -> JobServiceClient<Scoped> {
        JobServiceClient::with_interceptor(self.channel.clone(), self.scope.clone())
            .max_decoding_message_size(REPLY_MAX)
    }

    pub fn workers(&self) -> WorkerServiceClient<Scoped> {
        WorkerServiceClient::with_interceptor(self.channel.clone(), self.scope.clone())
            .max_decoding_message_size(REPLY_MAX)
    }

    pub fn topics(&self) -> TopicServiceClient<Scoped> {
        TopicServiceClient::with_interceptor(self.channel.clone(), self.scope.clone())
    }

    pub fn dlq(&self) -> DlqServiceClient<Scoped> {
        DlqServiceClient::with_interceptor(self.channel.clone(), self.scope.clone())
    }

    pub fn events(&self) -> EventServiceClient<Scoped> {
        EventServiceClient::with_interceptor(self.channel.clone(), self.scope.clone())
    }

    pub fn admin(&self) -> AdminServiceClient<Scoped> {
        AdminServiceClient::with_interceptor(self.channel.clone(), self.scope.clone())
    }
}

// === impl Api: what the suites ask most ===

impl Api {
    pub async fn try_submit(&self, spec: pb::JobSpec) -> Result<pb::SubmitJobResponse, Status> {
        let request = pb::SubmitJobRequest { spec: Some(spec), request_id: String::new() };
        self.jobs().submit_job(request).await.map(tonic::Response::into_inner)
    }

    /// Submits one job; its id.
    pub async fn submit(&self, spec: pb::JobSpec) -> String {
        let reply = self.try_submit(spec).await.expect("the job is accepted");
        reply.job.expect("a reply names its job").job_id
    }

    /// Submits many equal jobs, in batches; their ids in order.
    pub async fn submit_many(&self, spec: &pb::JobSpec, count: usize) -> Vec<String> {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            let specs = vec![spec.clone(); (count - ids.len()).min(2_000)];
            let request = pb::BatchSubmitJobsRequest { specs, request_id: String::new() };
            let reply =
                self.jobs().batch_submit_jobs(request).await.expect("the batch is taken").into_inner();
            for result in reply.results {
                match result.outcome {
                    Some(pb::submit_result::Outcome::Job(job)) => ids.push(job.job_id),
                    other => panic!("a job of the batch was refused: {other:?}"),
                }
            }
        }
        ids
    }

    pub async fn try_job(&self, job_id: &str) -> Result<pb::Job, Status> {
        let request = pb::GetJobRequest { job_id: job_id.to_owned(), ..Default::default() };
        self.jobs().get_job(request).await.map(|reply| reply.into_inner().job.expect("a reply has its job"))
    }

    pub async fn job(&self, job_id: &str) -> pb::Job {
        self.try_job(job_id).await.unwrap_or_else(|status| panic!("{job_id}: {status}"))
    }

    pub async fn state(&self, job_id: &str) -> JobState {
        self.job(job_id).await.state()
    }

    /// The job once it has ended.
    pub async fn ended(&self, job_id: &str, patience: Duration) -> pb::Job {
        let timeout = Some(proto_duration(patience));
        let request = pb::WaitJobRequest { job_id: job_id.to_owned(), timeout, ..Default::default() };
        let job = self.jobs().wait_job(request).await.unwrap_or_else(|status| panic!("{job_id}: {status}"));
        let job = job.into_inner().job.expect("a reply has its job");
        assert!(job.state().is_terminal(), "{job_id} is {:?} after {patience:?}", job.state());
        job
    }

    /// Waits until the job has a state. Polls: some states are passed through too fast for a watch to show them.
    pub async fn reaches(&self, job_id: &str, state: JobState, patience: Duration) -> pb::Job {
        let until = tokio::time::Instant::now() + patience;
        loop {
            let job = self.job(job_id).await;
            if job.state() == state {
                return job;
            }
            let now = tokio::time::Instant::now();
            assert!(now < until, "{job_id} is {:?} instead of {state:?} after {patience:?}", job.state());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// All that happened to a job, oldest first.
    pub async fn history(&self, job_id: &str) -> Vec<pb::JobEvent> {
        let mut events = Vec::new();
        let mut page_token = String::new();
        loop {
            let request =
                pb::GetJobHistoryRequest { job_id: job_id.to_owned(), page_size: 1_000, page_token };
            let page = self.jobs().get_job_history(request).await;
            let page = page.unwrap_or_else(|status| panic!("{job_id}: {status}")).into_inner();
            events.extend(page.events);
            if page.next_page_token.is_empty() {
                return events;
            }
            page_token = page.next_page_token;
        }
    }

    pub async fn cancel(&self, job_id: &str) -> Result<pb::Job, Status> {
        let reason = "a test says so".to_owned();
        let request = pb::CancelJobRequest { job_id: job_id.to_owned(), reason, request_id: String::new() };
        self.jobs()
            .cancel_job(request)
            .await
            .map(|reply| reply.into_inner().job.expect("a reply has its job"))
    }

    pub async fn count(&self, filter: &str) -> u64 {
        let request = pb::CountJobsRequest { filter: filter.to_owned() };
        let reply = self.jobs().count_jobs(request).await.expect("jobs can be counted").into_inner();
        assert!(reply.exact, "counted only {} of them", reply.count);
        reply.count
    }
}

// === impl Refused ===

impl Refused {
    pub fn of(status: &Status) -> Refused {
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
        let fields = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        Refused {
            code: status.code(),
            reason,
            fields: fields.iter().map(|violation| violation.field.clone()).collect(),
            message: status.message().to_owned(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }
}

// === facts of a history ===

/// How often something happened.
pub fn times(history: &[pb::JobEvent], what: JobEventType) -> usize {
    history.iter().filter(|event| event.r#type() == what).count()
}

/// Moves into a terminal state. A sound history has at most one.
pub fn endings(history: &[pb::JobEvent]) -> usize {
    history.iter().filter(|e| e.to_state().is_terminal() && !e.from_state().is_terminal()).count()
}

/// A job of a topic, everything else left to the defaults.
pub fn spec(topic: &str) -> pb::JobSpec {
    pb::JobSpec { topic: topic.to_owned(), ..Default::default() }
}

/// A job that is not tried twice.
pub fn once(topic: &str) -> pb::JobSpec {
    let retry_policy = Some(pb::RetryPolicy { max_attempts: Some(1), ..Default::default() });
    pb::JobSpec { retry_policy, ..spec(topic) }
}

pub fn proto_duration(span: Duration) -> ProtoDuration {
    let seconds = i64::try_from(span.as_secs()).expect("a span of a test");
    ProtoDuration { seconds, nanos: i32::try_from(span.subsec_nanos()).expect("below a second") }
}
