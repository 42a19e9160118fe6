//! `job submit` and `job wait`.

use super::super::client::{ClientArgs, request_id};
use super::super::input;
use super::super::shown::{Format, document, line, note, out, print_document};
use super::super::table;
use super::WaitArgs;
use crate::outcome::{Failure, Outcome, REFUSED};
use crate::units::Span;
use coretex_sdk::raw::v1;
use coretex_sdk::{Client, Job, JobState};
use std::time::{Duration, Instant};

/// How long one call waits on the server.
const WAIT_STEP: Duration = Duration::from_secs(60);
/// What the network gets on top.
const WAIT_MARGIN: Duration = Duration::from_secs(15);
/// How long a submit may take.
const CALL_MAX: Duration = Duration::from_secs(30);

/// What to submit.
#[derive(Debug, clap::Args)]
pub(crate) struct SubmitArgs {
    /// Kind of work, for example job.echo
    #[arg(long)]
    topic: String,
    /// Input: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    data: Option<String>,
    /// Media type of the input, when it is not JSON
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Wait for the end and print the result; exit 1 unless it succeeds
    #[arg(long)]
    wait: bool,
    /// How long to wait; without it, until the job ends
    #[arg(long, value_name = "SPAN", requires = "wait")]
    wait_timeout: Option<Span>,
    /// 0 (last) to 9 (first)
    #[arg(long, value_name = "0-9", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Business key: the same key gives the same job
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Id of your own choice
    #[arg(long, value_name = "ID")]
    job_id: Option<String>,
    /// Label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = input::pair)]
    labels: Vec<(String, String)>,
    /// Do not start before this time
    #[arg(long, value_name = "TIME", value_parser = input::time, conflicts_with = "run_in")]
    run_at: Option<jiff::Timestamp>,
    /// Do not start before this span is over
    #[arg(long = "in", value_name = "SPAN")]
    run_in: Option<Span>,
    /// Attempts in all
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Wait before the second attempt
    #[arg(long, value_name = "SPAN")]
    backoff: Option<Span>,
    /// Longest wait between attempts
    #[arg(long, value_name = "SPAN")]
    max_backoff: Option<Span>,
    /// Failure type that is not retried; may be repeated
    #[arg(long, value_name = "TYPE")]
    no_retry_on: Vec<String>,
    /// Time limit of one attempt
    #[arg(long, value_name = "SPAN")]
    timeout: Option<Span>,
    /// Time limit until the first start
    #[arg(long, value_name = "SPAN")]
    start_timeout: Option<Span>,
    /// Longest silence of an attempt
    #[arg(long, value_name = "SPAN")]
    stall_timeout: Option<Span>,
    /// Time limit over all attempts
    #[arg(long, value_name = "SPAN")]
    total_timeout: Option<Span>,
    /// Jobs with the same key run one after the other, or as many at a time as the topic says
    #[arg(long, value_name = "KEY")]
    concurrency_key: Option<String>,
    /// Jobs with the same key start at the topic's rate
    #[arg(long, value_name = "KEY")]
    rate_key: Option<String>,
    /// Pool it must go to
    #[arg(long, value_name = "NAME", conflicts_with = "prefer_pool")]
    pool: Option<String>,
    /// Pool it should go to
    #[arg(long, value_name = "NAME")]
    prefer_pool: Option<String>,
    /// Worker it must go to
    #[arg(long, value_name = "ID", conflicts_with = "prefer_worker")]
    worker: Option<String>,
    /// Worker it should go to
    #[arg(long, value_name = "ID")]
    prefer_worker: Option<String>,
    /// Capability its worker must have; may be repeated
    #[arg(long, value_name = "NAME")]
    requires: Vec<String>,
    /// Job it comes from
    #[arg(long, value_name = "JOB_ID")]
    parent: Option<String>,
    /// How long its record is kept after its end
    #[arg(long, value_name = "SPAN")]
    retention: Option<Span>,
    /// Makes a repeat of this very call safe
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

// === impl SubmitArgs ===

impl SubmitArgs {
    fn spec(&self) -> Outcome<v1::JobSpec> {
        let data = self.data.as_deref();
        let payload = data.map(|data| input::payload(data, self.content_type.as_deref())).transpose()?;
        let run_in = match self.run_in {
            Some(delay) => {
                let time = jiff::Timestamp::now().checked_add(delay.0);
                Some(
                    time.map_err(|_| Failure::Usage(format!("--in {delay} is further ahead than times go")))?,
                )
            }
            None => None,
        };
        let (pool, worker) = (self.pool.as_ref(), self.worker.as_ref());
        Ok(v1::JobSpec {
            topic: self.topic.clone(),
            payload,
            job_id: self.job_id.clone().unwrap_or_default(),
            idempotency_key: self.key.clone().unwrap_or_default(),
            priority: self.priority,
            labels: self.labels.iter().cloned().collect(),
            schedule_time: self.run_at.or(run_in).map(input::stamp),
            retry_policy: self.retry_policy(),
            timeouts: self.timeouts(),
            concurrency_key: self.concurrency_key.clone().unwrap_or_default(),
            rate_key: self.rate_key.clone().unwrap_or_default(),
            pool: pool.or(self.prefer_pool.as_ref()).cloned().unwrap_or_default(),
            pool_required: pool.is_some(),
            worker_id: worker.or(self.prefer_worker.as_ref()).cloned().unwrap_or_default(),
            worker_required: worker.is_some(),
            requires: self.requires.clone(),
            parent_job_id: self.parent.clone().unwrap_or_default(),
            retention: self.retention.map(|Span(span)| input::span(span)),
            ..Default::default()
        })
    }

    fn retry_policy(&self) -> Option<v1::RetryPolicy> {
        let policy = v1::RetryPolicy {
            max_attempts: self.max_attempts,
            initial_backoff: self.backoff.map(|Span(span)| input::span(span)),
            max_backoff: self.max_backoff.map(|Span(span)| input::span(span)),
            non_retryable_errors: self.no_retry_on.clone(),
            ..Default::default()
        };
        (policy != v1::RetryPolicy::default()).then_some(policy)
    }

    fn timeouts(&self) -> Option<v1::Timeouts> {
        let of = |span: Option<Span>| span.map(|Span(span)| input::span(span));
        let timeouts = v1::Timeouts {
            schedule_to_start: of(self.start_timeout),
            start_to_close: of(self.timeout),
            stall: of(self.stall_timeout),
            total: of(self.total_timeout),
        };
        (timeouts != v1::Timeouts::default()).then_some(timeouts)
    }
}

/// Submits, and waits if asked to.
pub(super) async fn submit(args: SubmitArgs, options: &ClientArgs) -> Outcome {
    let spec = args.spec()?;
    let client = options.connect().await?;
    let mut request = coretex_sdk::raw::tonic::Request::new(v1::SubmitJobRequest {
        spec: Some(spec),
        request_id: args.request_id.clone().unwrap_or_else(request_id),
    });
    request.set_timeout(CALL_MAX);
    let reply = client.raw().jobs().submit_job(request).await?.into_inner();
    for warning in &reply.warnings {
        note(format!("warning: {} ({})", warning.message, warning.reason));
    }
    if args.wait {
        let job_id = reply.job.map(|job| job.job_id).unwrap_or_default();
        return print_end(&client, job_id, args.wait_timeout, options.output).await;
    }
    match options.output {
        Format::Table => {
            let job = reply.job.unwrap_or_default();
            let state = v1::JobState::try_from(job.state).unwrap_or_default().short_name();
            line(format!(
                "{}  {state}{}",
                job.job_id,
                if reply.existing { "  (was there before)" } else { "" }
            ))
        }
        format => print_document(format, &document("SubmitJobResponse", &reply), true),
    }
}

/// Waits for a job that is there.
pub(super) async fn wait(args: WaitArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    print_end(&client, args.job_id, args.timeout, options.output).await
}

/// Prints the job at its end, or as it stands when the time is over.
async fn print_end(client: &Client, job_id: String, timeout: Option<Span>, format: Format) -> Outcome {
    let reply = until_ended(client, job_id, timeout.map(|Span(span)| span)).await?;
    let state = reply.job.as_ref().map(|job| job.state).unwrap_or_default();
    let state = v1::JobState::try_from(state).unwrap_or_default();
    match format {
        Format::Table => {
            let job_id = reply.job.map(|job| job.job_id).unwrap_or_default();
            let job = client.get(job_id).await?;
            out(&outcome_text(&job))?;
        }
        format => print_document(format, &document("WaitJobResponse", &reply), true)?,
    }
    match state {
        v1::JobState::Succeeded => Ok(()),
        _ => Err(Failure::Said(REFUSED)),
    }
}

async fn until_ended(
    client: &Client,
    job_id: String,
    timeout: Option<Duration>,
) -> Outcome<v1::WaitJobResponse> {
    let end = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = end.map_or(WAIT_STEP, |end| end.saturating_duration_since(Instant::now()));
        let step = left.min(WAIT_STEP);
        let mut request = coretex_sdk::raw::tonic::Request::new(v1::WaitJobRequest {
            job_id: job_id.clone(),
            timeout: Some(input::span(step)),
            view: v1::View::Full.into(),
            payload_format: v1::PayloadFormat::Json.into(),
        });
        request.set_timeout(step + WAIT_MARGIN);
        let reply = client.raw().jobs().wait_job(request).await?.into_inner();
        let state = reply.job.as_ref().map(|job| job.state).unwrap_or_default();
        let has_ended = v1::JobState::try_from(state).is_ok_and(v1::JobState::is_terminal);
        if has_ended || end.is_some_and(|end| Instant::now() >= end) {
            return Ok(reply);
        }
    }
}

fn outcome_text(job: &Job) -> String {
    let took = match (job.create_time, job.end_time) {
        (Some(from), Some(to)) => to.duration_since(from).map(table::rough).unwrap_or_default(),
        _ => String::new(),
    };
    let failure = job.failure.as_ref().filter(|_| job.state != JobState::Succeeded);
    table::facts(&[
        ("job", job.job_id.clone()),
        ("state", job.state.to_string()),
        ("attempts", job.attempts.to_string()),
        ("took", took),
        ("worker", job.worker_id.clone()),
        (
            "failure",
            failure.map(|failure| format!("{}: {}", failure.kind, failure.message)).unwrap_or_default(),
        ),
        (
            "decision",
            job.decision
                .as_ref()
                .filter(|_| job.state == JobState::Denied)
                .map(|d| d.reason.clone())
                .unwrap_or_default(),
        ),
        ("result", table::payload(job.result.as_ref())),
    ])
}
