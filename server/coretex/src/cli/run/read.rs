//! `run get`, `list`, `history`, `explain`.

use super::super::client::ClientArgs;
use super::super::input::{all_of, equals};
use super::super::shown::{Format, clean, document, note, out, print_document};
use super::super::table::{self, Rows, facts, number};
use super::Id;
use crate::outcome::Outcome;
use coretex_sdk::raw::v1;
use coretex_sdk::{ListRequest, Run, RunError, RunEvent, RunExplanation, RunStep};
use futures::StreamExt as _;

/// Which runs to list.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Filter, for example: state = FAILED AND labels.team = "a"
    #[arg(long, value_name = "EXPR")]
    filter: Option<String>,
    /// Only this state, for example FAILED
    #[arg(long)]
    state: Option<String>,
    /// Only this workflow
    #[arg(long)]
    workflow: Option<String>,
    /// Oldest first
    #[arg(long)]
    oldest_first: bool,
    /// Most runs to show
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Show all of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Continue after a page
    #[arg(long, value_name = "TOKEN")]
    page_token: Option<String>,
}

/// Most runs on one page.
const PAGE_MAX: u32 = 1_000;

impl ListArgs {
    fn filter(&self) -> String {
        let state = self.state.as_ref();
        let state = state.map(|state| format!("state = {}", state.to_uppercase().replace('-', "_")));
        let workflow = self.workflow.as_ref().map(|workflow| equals("workflow", workflow));
        all_of([self.filter.clone(), state, workflow].into_iter().flatten())
    }
}

/// Shows a run.
pub(super) async fn get(id: Id, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    if options.output == Format::Table {
        return out(&run_text(&client.get_run(id.run_id).await?));
    }
    let request = v1::GetRunRequest {
        run_id: id.run_id,
        view: v1::View::Full.into(),
        payload_format: v1::PayloadFormat::Json.into(),
    };
    let reply = client.raw().runs().get_run(request).await?.into_inner();
    print_document(options.output, &document("GetRunResponse", &reply), true)
}

/// A run as people read it: facts, then its steps.
pub(super) fn run_text(run: &Run) -> String {
    let labels = run.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>();
    let took = match (run.start_time, run.end_time) {
        (Some(from), Some(to)) => to.duration_since(from).map(table::rough).unwrap_or_default(),
        _ => String::new(),
    };
    let lineage = run.lineage.as_ref().map(|(run_id, step)| format!("{run_id}, from step {step}"));
    let mut text = facts(&[
        ("run", run.run_id.clone()),
        ("workflow", format!("{} {}", run.workflow, run.version)),
        ("state", run.state.to_string()),
        ("error", run.error.as_ref().map(error_text).unwrap_or_default()),
        ("labels", labels.join("\n")),
        ("concurrency", run.concurrency_key.clone()),
        ("forked from", lineage.unwrap_or_default()),
        ("started by", run.actor.clone()),
        ("created", table::time(run.create_time)),
        ("ended", table::time(run.end_time)),
        ("took", took),
        ("deadline", table::time(run.deadline_time.filter(|_| run.end_time.is_none()))),
        ("kept until", table::time(run.expire_time)),
        ("input", table::payload(run.input.as_ref())),
        ("output", table::payload(run.output.as_ref())),
    ]);
    if !run.steps.is_empty() {
        text.push('\n');
        text.push_str(&steps_text(&run.steps));
    }
    if run.more_steps {
        text.push_str("… and more steps; `run history` tells of all\n");
    }
    text
}

fn error_text(error: &RunError) -> String {
    match error.step_id.as_str() {
        "" => format!("{}: {}", error.kind, error.message),
        step => format!("step {step}: {}: {}", error.kind, error.message),
    }
}

fn steps_text(steps: &[RunStep]) -> String {
    let mut rows = Rows::new(["STEP", "KIND", "STATE", "ATTEMPTS", "ITEMS", "TOOK", "NOTE"]);
    for step in steps {
        let items = step.items.map(|items| match items.failed {
            0 => format!("{}/{}", items.over, items.count),
            failed => format!("{}/{}, {failed} failed", items.over, items.count),
        });
        let took = match (step.start_time, step.end_time) {
            (Some(from), Some(to)) => to.duration_since(from).map(table::rough).unwrap_or_default(),
            (Some(from), None) => table::age(Some(from)),
            (None, _) => String::new(),
        };
        let undo = step.undo_state.map(|state| format!("undo {state}"));
        let due = step.due_time.map(|due| format!("due {}", table::time(Some(due))));
        let error = step.error.as_ref().map(|error| format!("{}: {}", error.kind, error.message));
        rows.add([
            step.path.as_str().into(),
            step.kind.as_str().into(),
            step.state.into(),
            number(if step.attempts == 0 { String::new() } else { step.attempts.to_string() }),
            items.unwrap_or_default().into(),
            took.into(),
            [error, due, undo].into_iter().flatten().collect::<Vec<_>>().join("; ").into(),
        ]);
    }
    rows.text()
}

/// Lists runs.
pub(super) async fn list(args: ListArgs, options: &ClientArgs) -> Outcome {
    let filter = args.filter();
    let order_by = if args.oldest_first { "create_time asc" } else { "" };
    let most = if args.all { u32::MAX } else { args.limit };
    let client = options.connect().await?;
    if options.output != Format::Table {
        let mut reply = v1::ListRunsResponse {
            next_page_token: args.page_token.unwrap_or_default(),
            ..Default::default()
        };
        loop {
            let left = most.saturating_sub(u32::try_from(reply.runs.len()).unwrap_or(u32::MAX));
            let request = v1::ListRunsRequest {
                filter: filter.clone(),
                page_size: i32::try_from(left.min(PAGE_MAX)).unwrap_or_default(),
                page_token: std::mem::take(&mut reply.next_page_token),
                order_by: order_by.into(),
                ..Default::default()
            };
            let page = client.raw().runs().list_runs(request).await?.into_inner();
            reply.runs.extend(page.runs);
            reply.next_page_token = page.next_page_token;
            if reply.next_page_token.is_empty() || reply.runs.len() >= most as usize {
                return print_document(options.output, &document("ListRunsResponse", &reply), true);
            }
        }
    }
    let request = ListRequest::filter(filter)
        .order_by(order_by)
        .page_token(args.page_token.unwrap_or_default())
        .page_size(u16::try_from(most.min(PAGE_MAX)).unwrap_or(u16::MAX));
    let mut rows = Rows::new(["RUN", "WORKFLOW", "VERSION", "STATE", "AGE", "TOOK", "ERROR"]);
    let mut runs = std::pin::pin!(client.list_all_runs(request).take(most as usize));
    let mut count = 0;
    while let Some(run) = runs.next().await.transpose()? {
        count += 1;
        let took = run.end_time.zip(run.start_time).and_then(|(to, from)| to.duration_since(from).ok());
        rows.add([
            run.run_id.as_str().into(),
            run.workflow.as_str().into(),
            number(run.version),
            run.state.into(),
            table::age(run.create_time).into(),
            took.map(table::rough).unwrap_or_default().into(),
            run.error.as_ref().map(|error| error.kind.clone()).unwrap_or_default().into(),
        ]);
    }
    if rows.is_empty() {
        note("no runs");
        return Ok(());
    }
    out(&rows.text())?;
    if count == most {
        note(format!("the first {most}; `--all` shows all"));
    }
    Ok(())
}

/// Shows what happened to a run.
pub(super) async fn history(id: Id, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    if options.output == Format::Table {
        return out(&history_text(&client.run_history(id.run_id).await?));
    }
    let mut reply = v1::GetRunHistoryResponse::default();
    loop {
        let page_token = std::mem::take(&mut reply.next_page_token);
        let request = v1::GetRunHistoryRequest { run_id: id.run_id.clone(), page_size: 1_000, page_token };
        let page = client.raw().runs().get_run_history(request).await?.into_inner();
        reply.events.extend(page.events);
        reply.next_page_token = page.next_page_token;
        if reply.next_page_token.is_empty() {
            return print_document(options.output, &document("GetRunHistoryResponse", &reply), true);
        }
    }
}

/// The step of an event, with its item.
pub(super) fn place(event: &RunEvent) -> String {
    match event.index {
        Some(index) => format!("{}:{index}", event.step_id),
        None => event.step_id.clone(),
    }
}

fn history_text(events: &[RunEvent]) -> String {
    let mut rows = Rows::new(["#", "TIME", "EVENT", "STEP", "ACTOR", "MESSAGE"]);
    for event in events {
        rows.add([
            number(event.sequence),
            table::time(event.time).into(),
            event.kind.as_str().into(),
            place(event).into(),
            event.actor.as_str().into(),
            event.message.as_str().into(),
        ]);
    }
    rows.text()
}

/// Says why a run is where it is.
pub(super) async fn explain(id: Id, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    if options.output == Format::Table {
        return out(&explanation_text(&client.explain_run(id.run_id).await?));
    }
    let request = v1::ExplainRunRequest { run_id: id.run_id };
    let reply = client.raw().runs().explain_run(request).await?.into_inner();
    print_document(options.output, &document("ExplainRunResponse", &reply), true)
}

fn explanation_text(explanation: &RunExplanation) -> String {
    let mut text = format!("{}\n", clean(&explanation.summary));
    let mut rows = Rows::new(["CAUSE", "MESSAGE", "LEFT", "HOLDERS"]);
    for cause in &explanation.causes {
        let kind = cause.job_kind.map_or(cause.kind.as_str(), |kind| kind.as_str());
        rows.add([
            kind.into(),
            cause.message.as_str().into(),
            cause.eta.map(table::rough).unwrap_or_default().into(),
            cause.holders.join(", ").into(),
        ]);
    }
    if !rows.is_empty() {
        text.push('\n');
        text.push_str(&rows.text());
    }
    text
}
