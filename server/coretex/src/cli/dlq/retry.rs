//! `dlq retry`: one dead letter, or many with previews, stages and rates.

use super::super::client::{ClientArgs, request_id};
use super::super::input;
use super::super::shown::{Format, clean, document, is_terminal, line, note, out, print_document};
use super::MatchArgs;
use super::read::{add_letter, letter_rows};
use crate::outcome::{Failure, Outcome, REFUSED};
use coretex_sdk::raw::v1;
use coretex_sdk::{DeadLetterPreview, Redrive, RedrivePhase, RedriveProgress, RedriveStopReason};
use futures::StreamExt as _;

/// What to retry, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    /// Ids of dead letters
    #[arg(value_name = "ID", conflicts_with_all = ["filter", "topic", "state", "fingerprint", "all"])]
    ids: Vec<String>,
    #[command(flatten)]
    which: MatchArgs,
    /// All of the namespace
    #[arg(long, conflicts_with_all = ["filter", "topic", "state", "fingerprint"])]
    all: bool,
    /// Only say how many would be retried, and show some
    #[arg(long, conflicts_with = "data")]
    preview: bool,
    /// One, then ten, then all others; each stage when the jobs of the one before have succeeded
    #[arg(long, conflicts_with = "data")]
    canary: bool,
    /// Most retries per second
    #[arg(long, value_name = "N", conflicts_with = "data", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: Option<u32>,
    /// Stop when a retried job fails as before
    #[arg(long, conflicts_with = "data")]
    stop_on_repeat: bool,
    /// Name of this retry: repeating it makes no job twice
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Another input for one dead letter: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    data: Option<String>,
    /// Media type of the input, when it is not JSON
    #[arg(long, value_name = "TYPE", requires = "data")]
    content_type: Option<String>,
}

/// Retries one or many.
pub(super) async fn retry(args: RetryArgs, options: &ClientArgs) -> Outcome {
    let filter = args.which.filter();
    let is_plain = !args.preview && !args.canary && !args.stop_on_repeat && args.rate.is_none();
    match args.ids.as_slice() {
        [id] if is_plain => one(id.clone(), args, options).await,
        _ if args.data.is_some() => Err(Failure::Usage("--data goes with exactly one ID".into())),
        [] if filter.is_empty() && !args.all => Err(Failure::Usage(
            "which dead letters? give ids, --filter, --topic, --state, --fingerprint, or --all".into(),
        )),
        _ => many(filter, args, options).await,
    }
}

async fn one(id: String, args: RetryArgs, options: &ClientArgs) -> Outcome {
    let content_type = args.content_type.as_deref();
    let edited_input = args.data.as_deref().map(|data| input::payload(data, content_type)).transpose()?;
    let client = options.connect().await?;
    let request = v1::RetryDeadLetterRequest {
        dead_letter_id: id.clone(),
        edited_input,
        request_id: args.request_id.unwrap_or_else(request_id),
    };
    let reply = client.raw().dlq().retry_dead_letter(request).await?.into_inner();
    for warning in &reply.warnings {
        note(format!("warning: {} ({})", warning.message, warning.reason));
    }
    match options.output {
        Format::Table => {
            let job = reply.job.unwrap_or_default();
            let again = if reply.existing { ", asked for before" } else { "" };
            line(format!("{}  {}  (retry of {id}{again})", job.job_id, job.state().short_name()))
        }
        format => print_document(format, &document("RetryDeadLetterResponse", &reply), true),
    }
}

async fn many(filter: String, args: RetryArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let request_id = args.request_id.clone().unwrap_or_else(request_id);
    if options.output != Format::Table {
        let request = v1::BatchRetryDeadLettersRequest {
            filter,
            dead_letter_ids: args.ids,
            all: args.all,
            request_id,
            preview: args.preview,
            rate: args.rate.unwrap_or_default(),
            stop_on_repeat: args.stop_on_repeat,
            canary: args.canary,
        };
        let mut told = client.raw().dlq().batch_retry_dead_letters(request).await?.into_inner();
        let mut is_done = false;
        while let Some(message) = told.message().await? {
            let phase = message.phase();
            is_done = phase == v1::RedrivePhase::Preview
                || (phase == v1::RedrivePhase::Done && message.refused == 0);
            print_document(options.output, &document("BatchRetryDeadLettersResponse", &message), false)?;
        }
        return if is_done { Ok(()) } else { Err(Failure::Said(REFUSED)) };
    }
    let redrive = match (args.ids.is_empty(), args.all) {
        (false, _) => Redrive::ids(args.ids),
        (true, true) => Redrive::all(),
        (true, false) => Redrive::filter(filter),
    };
    let mut redrive = redrive.request_id(request_id.clone());
    if let Some(rate) = args.rate {
        redrive = redrive.rate(rate);
    }
    if args.stop_on_repeat {
        redrive = redrive.stop_on_repeat();
    }
    if args.canary {
        redrive = redrive.canary();
    }
    if args.preview {
        return show_preview(client.preview_redrive(&redrive).await?, "would be retried");
    }
    let mut told = std::pin::pin!(client.redrive(redrive));
    let mut last = None;
    while let Some(progress) = told.next().await.transpose()? {
        if is_terminal() && progress.phase != RedrivePhase::Done {
            note(progress_text(&progress));
        }
        last = Some(progress);
    }
    let Some(last) = last else { return Err(Failure::Machine("the server told nothing".into())) };
    line(clean(&end_text(&last)))?;
    if last.is_done() {
        return Ok(());
    }
    note(format!("to go on: the same command with --request-id {request_id}"));
    Err(Failure::Said(REFUSED))
}

/// How many dead letters a change would meet, and some of them.
pub(super) fn show_preview(preview: DeadLetterPreview, would: &str) -> Outcome {
    let at_least = if preview.exact { "" } else { "at least " };
    line(format!("{at_least}{} dead letters {would}", preview.matched))?;
    if preview.sample.is_empty() {
        return Ok(());
    }
    let mut rows = letter_rows();
    preview.sample.into_iter().for_each(|letter| add_letter(&mut rows, letter));
    out(&rows.text())
}

fn progress_text(progress: &RedriveProgress) -> String {
    let ended = match progress.succeeded + progress.failed {
        0 => String::new(),
        _ => format!(", {} succeeded, {} failed", progress.succeeded, progress.failed),
    };
    format!("stage {} {}: {} retried{ended}", progress.stage, progress.phase, progress.retried)
}

fn end_text(last: &RedriveProgress) -> String {
    let mut text = format!("{} retried", last.retried);
    for (count, what) in [
        (last.existing, "of them before"),
        (last.skipped, "skipped"),
        (last.refused, "refused"),
        (last.succeeded, "succeeded"),
        (last.failed, "failed"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {what}"));
        }
    }
    if let Some(why) = &last.first_error {
        text.push_str(&format!("; refused: {why}"));
    }
    match last.stop_reason {
        None => {}
        Some(RedriveStopReason::Repeated) => {
            text.push_str(&format!("; stopped: job {} failed as before", last.stop_job_id));
        }
        Some(_) => text.push_str(&format!(
            "; stopped in stage {}: job {} did not succeed",
            last.stage, last.stop_job_id
        )),
    }
    text
}
