//! `job get`, `list`, `history`, `explain`, `count`.

use super::super::client::ClientArgs;
use super::super::input::{all_of, equals};
use super::super::shown::{Format, document, line, note, out, print_document};
use super::super::table::{self, Rows, facts, number};
use super::Id;
use crate::outcome::Outcome;
use coretex_sdk::raw::v1;
use coretex_sdk::{Job, ListRequest};
use futures::StreamExt as _;

/// Which jobs to list.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Filter, for example: state = FAILED AND labels.team = "a"
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
    /// Only this state, for example FAILED
    #[arg(long)]
    state: Option<String>,
    /// Only this topic
    #[arg(long)]
    topic: Option<String>,
    /// Oldest first
    #[arg(long)]
    oldest_first: bool,
    /// Most jobs to show
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Show all of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Continue after a page
    #[arg(long, value_name = "TOKEN")]
    page_token: Option<String>,
}

/// Which jobs to count.
#[derive(Debug, clap::Args)]
pub(crate) struct CountArgs {
    /// Filter, as for list
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
    /// Only this state
    #[arg(long)]
    state: Option<String>,
    /// Only this topic
    #[arg(long)]
    topic: Option<String>,
}

/// Most jobs on one page.
const PAGE_MAX: u32 = 1_000;

fn filter(filter: Option<String>, state: Option<String>, topic: Option<&str>) -> String {
    let state = state.map(|state| format!("state = {}", state.to_uppercase().replace('-', "_")));
    all_of([filter, state, topic.map(|topic| equals("topic", topic))].into_iter().flatten())
}

/// Shows a job.
pub(super) async fn get(id: Id, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    if options.output == Format::Table {
        return out(&job_text(&client.get(id.job_id).await?));
    }
    let request = v1::GetJobRequest {
        job_id: id.job_id,
        view: v1::View::Full.into(),
        payload_format: v1::PayloadFormat::Json.into(),
    };
    let reply = client.raw().jobs().get_job(request).await?.into_inner();
    print_document(options.output, &document("GetJobResponse", &reply), true)
}

fn job_text(job: &Job) -> String {
    let request = job.request.as_ref();
    let labels = request.map(|request| {
        request.labels().iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("\n")
    });
    let failure = job.failure.as_ref().map(|failure| format!("{}: {}", failure.kind, failure.message));
    let decision = job.decision.as_ref().map(|decision| {
        let rule = if decision.rule_id.is_empty() { "default" } else { &decision.rule_id };
        format!(
            "{} by {}/{rule}{}{}",
            decision.verdict,
            decision.policy,
            if decision.reason.is_empty() { "" } else { ": " },
            decision.reason
        )
    });
    let progress = job.progress.as_ref().map(|progress| {
        let share = progress.fraction.map(|share| format!("{:.0} % ", share * 100.0)).unwrap_or_default();
        format!("{share}{}", progress.message)
    });
    let cancel =
        if job.cancel_requested { format!("requested: {}", job.cancel_reason) } else { String::new() };
    facts(&[
        ("job", job.job_id.clone()),
        ("namespace", job.namespace.clone()),
        ("topic", job.topic().to_owned()),
        ("state", job.state.to_string()),
        ("pending", job.pending_reason.clone()),
        ("attempts", format!("{} started, {} lost, {} released", job.attempts, job.lost, job.released)),
        (
            "priority",
            request
                .and_then(|request| request.priority_level())
                .map(|level| level.to_string())
                .unwrap_or_default(),
        ),
        ("labels", labels.unwrap_or_default()),
        ("decision", decision.unwrap_or_default()),
        ("worker", job.worker_id.clone()),
        ("created", table::time(job.create_time)),
        ("scheduled", table::time(job.schedule_time)),
        ("not before", table::time(job.not_before)),
        ("started", table::time(job.start_time)),
        ("ended", table::time(job.end_time)),
        ("kept until", table::time(job.expire_time)),
        ("cancel", cancel),
        ("progress", progress.unwrap_or_default()),
        ("failure", failure.unwrap_or_default()),
        ("retry of", job.retry_of.clone()),
        ("retried as", job.retried_as.clone()),
        ("parent run", job.run_id.clone()),
        ("submitter", job.submitter.clone()),
        ("trace", job.trace_id.clone()),
        ("input", table::payload(request.and_then(|request| request.input()).as_ref())),
        ("result", table::payload(job.result.as_ref())),
    ])
}

/// Lists jobs.
pub(super) async fn list(args: ListArgs, options: &ClientArgs) -> Outcome {
    let filter = filter(args.filter, args.state, args.topic.as_deref());
    let order_by = if args.oldest_first { "create_time asc" } else { "" };
    let page_size = if args.all { PAGE_MAX } else { args.limit.min(PAGE_MAX) };
    let client = options.connect().await?;
    let most = if args.all { u32::MAX } else { args.limit };
    if options.output != Format::Table {
        let mut reply = v1::ListJobsResponse {
            next_page_token: args.page_token.unwrap_or_default(),
            ..Default::default()
        };
        loop {
            let left = most.saturating_sub(u32::try_from(reply.jobs.len()).unwrap_or(u32::MAX));
            let request = v1::ListJobsRequest {
                filter: filter.clone(),
                page_size: i32::try_from(left.min(page_size)).unwrap_or_default(),
                page_token: std::mem::take(&mut reply.next_page_token),
                order_by: order_by.into(),
                ..Default::default()
            };
            let page = client.raw().jobs().list_jobs(request).await?.into_inner();
            reply.jobs.extend(page.jobs);
            reply.next_page_token = page.next_page_token;
            if reply.next_page_token.is_empty() || reply.jobs.len() >= most as usize {
                return print_document(options.output, &document("ListJobsResponse", &reply), true);
            }
        }
    }
    let request = ListRequest::filter(filter)
        .order_by(order_by)
        .page_token(args.page_token.unwrap_or_default())
        .page_size(u16::try_from(page_size).unwrap_or(u16::MAX));
    let mut rows = Rows::new(["JOB", "TOPIC", "STATE", "ATTEMPTS", "AGE", "WORKER"]);
    let jobs = client.list_all(request).take(most as usize);
    let mut jobs = std::pin::pin!(jobs);
    let mut count = 0;
    while let Some(job) = jobs.next().await.transpose()? {
        count += 1;
        rows.add([
            job.job_id.as_str().into(),
            job.topic().into(),
            job.state.into(),
            number(job.attempts),
            table::age(job.create_time).into(),
            job.worker_id.as_str().into(),
        ]);
    }
    if rows.is_empty() {
        note("no jobs");
        return Ok(());
    }
    out(&rows.text())?;
    if count == most {
        note(format!("the first {most}; `--all` shows all"));
    }
    Ok(())
}

/// Shows what happened to a job.
pub(super) async fn history(id: Id, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    if options.output == Format::Table {
        return out(&history_text(&client.history(id.job_id).await?));
    }
    let mut reply = v1::GetJobHistoryResponse::default();
    loop {
        let page_token = std::mem::take(&mut reply.next_page_token);
        let request = v1::GetJobHistoryRequest { job_id: id.job_id.clone(), page_size: 1_000, page_token };
        let page = client.raw().jobs().get_job_history(request).await?.into_inner();
        reply.events.extend(page.events);
        reply.next_page_token = page.next_page_token;
        if reply.next_page_token.is_empty() {
            return print_document(options.output, &document("GetJobHistoryResponse", &reply), true);
        }
    }
}

/// A history as a table.
pub(crate) fn history_text(events: &[coretex_sdk::JobEvent]) -> String {
    let mut rows = Rows::new(["TIME", "EVENT", "STATE", "ATTEMPT", "ACTOR", "MESSAGE"]);
    for event in events {
        let attempt = if event.attempt == 0 { String::new() } else { event.attempt.to_string() };
        let message = match event.failure_kind.as_str() {
            "" => event.message.clone(),
            kind => format!("{kind}: {}", event.message),
        };
        rows.add([
            table::time(event.time).into(),
            event.kind.as_str().into(),
            event.to_state.into(),
            number(attempt),
            event.actor.as_str().into(),
            message.into(),
        ]);
    }
    rows.text()
}

/// Says why a job is where it is.
pub(super) async fn explain(id: Id, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    if options.output != Format::Table {
        let request = v1::ExplainJobRequest { job_id: id.job_id };
        let reply = client.raw().jobs().explain_job(request).await?.into_inner();
        return print_document(options.output, &document("ExplainJobResponse", &reply), true);
    }
    out(&explanation_text(&client.explain(id.job_id).await?))
}

/// An explanation as lines.
pub(crate) fn explanation_text(explanation: &coretex_sdk::Explanation) -> String {
    let mut text = format!("{}\n", super::super::shown::clean(&explanation.summary));
    let mut rows = Rows::new(["CAUSE", "MESSAGE", "LEFT", "HOLDERS"]);
    for cause in &explanation.causes {
        let left = cause.eta.map(table::rough).unwrap_or_default();
        rows.add([
            cause.kind.as_str().into(),
            cause.message.as_str().into(),
            left.into(),
            cause.holders.join(", ").into(),
        ]);
    }
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&rows.text());
    }
    text
}

/// Counts jobs.
pub(super) async fn count(args: CountArgs, options: &ClientArgs) -> Outcome {
    let filter = filter(args.filter, args.state, args.topic.as_deref());
    let client = options.connect().await?;
    let reply = client.raw().jobs().count_jobs(v1::CountJobsRequest { filter }).await?.into_inner();
    match options.output {
        Format::Table => line(format!("{}{}", if reply.exact { "" } else { "at least " }, reply.count)),
        format => print_document(format, &document("CountJobsResponse", &reply), true),
    }
}
