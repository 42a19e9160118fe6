//! `job watch` and `job output`: streams.

use super::super::client::ClientArgs;
use super::super::shown::{Format, clean, document, line, note, print_document, write_all};
use super::super::table;
use crate::outcome::Outcome;
use coretex_sdk::raw::v1;
use coretex_sdk::{JobState, JobWatch, JobWatchKind};
use futures::StreamExt as _;
use std::time::SystemTime;

/// Which jobs to watch.
#[derive(Debug, clap::Args)]
pub(crate) struct WatchArgs {
    /// Ids of jobs; the watch ends with the last of them. Without ids: all that match, for ever
    #[arg(value_name = "JOB_ID")]
    job_ids: Vec<String>,
    /// Filter, as for list
    #[arg(long, value_name = "EXPR", default_value = "")]
    filter: String,
    /// Show the jobs that match as they stand first
    #[arg(long)]
    existing: bool,
    /// Continue exactly after the message that carried this token
    #[arg(long, value_name = "TOKEN", default_value = "")]
    resume: String,
}

/// Which output to show.
#[derive(Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// Id of the job
    #[arg(value_name = "JOB_ID")]
    job_id: String,
    /// Stream, for example log; without it, all of them
    #[arg(long, value_name = "NAME", default_value = "")]
    stream: String,
    /// Go on with what is written from now
    #[arg(long, short)]
    follow: bool,
}

/// Prints changes as they come.
pub(super) async fn watch(args: WatchArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let has_ids = !args.job_ids.is_empty();
    if options.output != Format::Table {
        let request = v1::WatchJobsRequest {
            job_ids: args.job_ids,
            filter: args.filter,
            resume_token: args.resume,
            include_existing: args.existing || has_ids,
        };
        let mut changes = client.raw().jobs().watch_jobs(request).await?.into_inner();
        while let Some(change) = changes.message().await? {
            print_document(options.output, &document("WatchJobsResponse", &change), false)?;
        }
        return Ok(());
    }
    let mut watch = JobWatch::jobs(args.job_ids).filter(args.filter);
    if args.existing || has_ids {
        watch = watch.include_existing();
    }
    if !args.resume.is_empty() {
        watch = watch.resume(args.resume);
    }
    let mut changes = std::pin::pin!(client.watch(watch));
    while let Some(change) = changes.next().await.transpose()? {
        let Some(job) = change.job else { continue };
        let event = if change.kind == JobWatchKind::Existing { "EXISTING" } else { change.event.as_str() };
        let failure = job.failure.as_ref().filter(|_| job.state != JobState::Succeeded);
        let why =
            failure.map(|failure| format!("  {}: {}", failure.kind, failure.message)).unwrap_or_default();
        let time = table::time(job.update_time.or_else(|| Some(SystemTime::now())));
        let (topic, state, id) = (job.topic(), job.state, &job.job_id);
        line(clean(&format!("{time}  {event:<16}  {state:<10}  {id}  {topic}{why}")))?;
    }
    Ok(())
}

/// Prints what a worker wrote, byte for byte.
pub(super) async fn output(args: OutputArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    if options.output != Format::Table {
        let request = v1::ReadJobOutputRequest {
            job_id: args.job_id,
            stream: args.stream,
            offset: 0,
            follow: args.follow,
        };
        let mut pieces = client.raw().jobs().read_job_output(request).await?.into_inner();
        while let Some(piece) = pieces.message().await? {
            print_document(options.output, &document("ReadJobOutputResponse", &piece), false)?;
        }
        return Ok(());
    }
    let mut pieces = std::pin::pin!(client.read_output(args.job_id, args.stream, args.follow));
    while let Some(piece) = pieces.next().await.transpose()? {
        if piece.dropped > 0 {
            note(format!("[{} bytes are no longer kept]", piece.dropped));
        }
        write_all(&piece.chunk)?;
    }
    Ok(())
}
