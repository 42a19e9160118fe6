//! `job cancel` and `job retry`.

use super::super::client::{ClientArgs, request_id};
use super::super::input;
use super::super::shown::{Format, document, line, print_document};
use crate::outcome::Outcome;
use coretex_sdk::raw::v1;

/// What to stop.
#[derive(Debug, clap::Args)]
pub(crate) struct CancelArgs {
    /// Id of the job
    #[arg(value_name = "JOB_ID")]
    job_id: String,
    /// Why, for the history and the worker
    #[arg(long, default_value = "")]
    reason: String,
}

/// What to repeat.
#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    /// Id of the job that ended
    #[arg(value_name = "JOB_ID")]
    job_id: String,
    /// Another input: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    data: Option<String>,
    /// Media type of the input, when it is not JSON
    #[arg(long, value_name = "TYPE", requires = "data")]
    content_type: Option<String>,
}

/// Stops a job.
pub(super) async fn cancel(args: CancelArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let request = v1::CancelJobRequest { job_id: args.job_id, reason: args.reason, request_id: request_id() };
    let reply = client.raw().jobs().cancel_job(request).await?.into_inner();
    match options.output {
        Format::Table => {
            let job = reply.job.unwrap_or_default();
            let state = v1::JobState::try_from(job.state).unwrap_or_default();
            let note = if state.is_terminal() { "" } else { "  (its worker is being told)" };
            line(format!("{}  {}{note}", job.job_id, state.short_name()))
        }
        format => print_document(format, &document("CancelJobResponse", &reply), true),
    }
}

/// Makes a new job from one that ended.
pub(super) async fn retry(args: RetryArgs, options: &ClientArgs) -> Outcome {
    let content_type = args.content_type.as_deref();
    let edited_input = args.data.as_deref().map(|data| input::payload(data, content_type)).transpose()?;
    let client = options.connect().await?;
    let request = v1::RetryJobRequest { job_id: args.job_id.clone(), edited_input, request_id: request_id() };
    let reply = client.raw().jobs().retry_job(request).await?.into_inner();
    match options.output {
        Format::Table => {
            let job = reply.job.unwrap_or_default();
            let state = v1::JobState::try_from(job.state).unwrap_or_default().short_name();
            line(format!("{}  {state}  (retry of {})", job.job_id, args.job_id))
        }
        format => print_document(format, &document("RetryJobResponse", &reply), true),
    }
}
