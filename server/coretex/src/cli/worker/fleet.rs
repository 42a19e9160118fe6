//! `worker list`, `get` and `drain`.

use super::super::client::{ClientArgs, request_id};
use super::super::input;
use super::super::shown::{Format, document, line, note, out, print_document};
use super::super::table::{self, Rows, facts, number};
use crate::outcome::Outcome;
use crate::units::Span;
use coretex_sdk::ListRequest;
use coretex_sdk::raw::v1;
use std::time::Duration;

/// Which workers to list.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Filter over state, worker_id, pool, topic, node_id and labels, for example: pool = gpu
    #[arg(long, value_name = "EXPR", default_value = "")]
    filter: String,
}

/// Which worker to show.
#[derive(Debug, clap::Args)]
pub struct GetArgs {
    /// Its id
    worker_id: String,
}

/// Which worker should leave, and how.
#[derive(Debug, clap::Args)]
pub struct DrainArgs {
    /// Its id
    worker_id: String,
    /// What becomes of the jobs it holds
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// How long it may take
    #[arg(long, value_name = "SPAN", default_value_t = Span(Duration::from_secs(30)))]
    deadline: Span,
    /// Why, for the audit and the worker's log
    #[arg(long, default_value = "")]
    reason: String,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Mode {
    /// It runs what it holds
    #[default]
    Finish,
    /// It gives back what is not started, and finishes the rest
    ReleaseUnstarted,
    /// It stops its handlers and gives everything back
    Handover,
}

/// Lists workers.
pub(super) async fn list(args: ListArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    if options.output != Format::Table {
        let mut reply = v1::ListWorkersResponse::default();
        loop {
            let request = v1::ListWorkersRequest {
                filter: args.filter.clone(),
                page_size: 1_000,
                page_token: std::mem::take(&mut reply.next_page_token),
                ..Default::default()
            };
            let page = client.raw().workers().list_workers(request).await?.into_inner();
            reply.workers.extend(page.workers);
            reply.next_page_token = page.next_page_token;
            if reply.next_page_token.is_empty() {
                return print_document(options.output, &document("ListWorkersResponse", &reply), true);
            }
        }
    }
    let mut rows = Rows::new(["WORKER", "STATE", "POOL", "TOPICS", "SLOTS", "RUNNING", "HEARD", "SDK"]);
    let mut request = ListRequest::filter(args.filter).page_size(1_000);
    loop {
        let page = client.list_workers(request.clone()).await?;
        for worker in page.items {
            rows.add([
                worker.worker_id.into(),
                worker.state.as_str().into(),
                worker.pool.into(),
                worker.topics.join(",").into(),
                number(worker.lanes.iter().map(|lane| lane.slots).sum::<u32>()),
                number(worker.running),
                table::age(worker.heartbeat_time).into(),
                worker.sdk.into(),
            ]);
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request = request.page_token(page.next_page_token);
    }
    if rows.is_empty() {
        note("no workers");
        return Ok(());
    }
    out(&rows.text())
}

/// Shows a worker.
pub(super) async fn get(args: GetArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let request = v1::GetWorkerRequest { worker_id: args.worker_id };
    let reply = client.raw().workers().get_worker(request).await?.into_inner();
    if options.output != Format::Table {
        return print_document(options.output, &document("GetWorkerResponse", &reply), true);
    }
    let worker = reply.worker.unwrap_or_default();
    out(&worker_text(&worker))
}

fn worker_text(worker: &v1::Worker) -> String {
    let lanes = worker.lanes.iter().map(|lane| {
        let left = lane.granted_total.saturating_sub(lane.assigned_total);
        format!("{}: {} slots, {left} free, topics {}", lane.lane_id, lane.slots, lane.topics.join(", "))
    });
    let labels = worker.labels.iter().map(|(key, value)| format!("{key}={value}"));
    let topics = worker.topics.iter().map(|topic| topic.name.as_str());
    let (host, sdk) = (worker.host.clone().unwrap_or_default(), worker.sdk.clone().unwrap_or_default());
    let pid = if host.pid > 0 { format!(" pid {}", host.pid) } else { String::new() };
    let state = v1::WorkerState::try_from(worker.state).unwrap_or_default().as_str_name();
    let ttl = worker.session_ttl.map(|ttl| Span(input::of_span(ttl)).to_string());
    facts(&[
        ("worker", worker.worker_id.clone()),
        ("state", state.trim_start_matches("WORKER_STATE_").to_owned()),
        ("pool", worker.pool.clone()),
        ("topics", topics.collect::<Vec<_>>().join(", ")),
        ("lanes", lanes.collect::<Vec<_>>().join("\n")),
        ("held", worker.held.to_string()),
        ("running", worker.running.to_string()),
        ("capabilities", worker.capabilities.join(", ")),
        ("labels", labels.collect::<Vec<_>>().join("\n")),
        ("host", format!("{}{pid}", host.hostname)),
        ("sdk", format!("{} {}", sdk.name, sdk.version).trim().to_owned()),
        ("build", worker.deployment.as_ref().map(|build| build.build_id.clone()).unwrap_or_default()),
        ("session", worker.session_id.clone()),
        ("session ttl", ttl.unwrap_or_default()),
        ("connected", table::time(worker.connect_time.and_then(input::of_stamp))),
        ("heard", table::time(worker.heartbeat_time.and_then(input::of_stamp))),
        ("node", worker.node_id.clone()),
        ("principal", worker.principal.clone()),
    ])
}

/// Asks a worker to leave.
pub(super) async fn drain(args: DrainArgs, options: &ClientArgs) -> Outcome {
    let mode = match args.mode {
        Mode::Finish => v1::DrainMode::Finish,
        Mode::ReleaseUnstarted => v1::DrainMode::ReleaseUnstarted,
        Mode::Handover => v1::DrainMode::Handover,
    };
    let client = options.connect().await?;
    let request = v1::DrainWorkerRequest {
        worker_id: args.worker_id.clone(),
        mode: mode.into(),
        deadline: Some(input::span(args.deadline.0)),
        reason: args.reason,
        request_id: request_id(),
    };
    let reply = client.raw().workers().drain_worker(request).await?.into_inner();
    match options.output {
        Format::Table => {
            let held = reply.worker.as_ref().map(|worker| worker.held).unwrap_or_default();
            line(format!("{}  DRAINING  {held} held", args.worker_id))
        }
        format => print_document(format, &document("DrainWorkerResponse", &reply), true),
    }
}
