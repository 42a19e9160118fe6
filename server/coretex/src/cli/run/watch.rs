//! `run watch`: the history as it happens; on a terminal the steps as they stand.

use super::super::client::ClientArgs;
use super::super::shown::{Format, clean, document, line, out, print_document};
use super::super::table;
use super::live::Live;
use super::read;
use crate::outcome::Outcome;
use coretex_sdk::raw::v1;
use coretex_sdk::{Client, RunEvent, View};
use futures::StreamExt as _;
use std::io::IsTerminal as _;

/// Which run to watch.
#[derive(Debug, clap::Args)]
pub(crate) struct WatchArgs {
    /// Id of the run
    #[arg(value_name = "RUN_ID")]
    run_id: String,
    /// Number of the last entry that was seen; 0 for all of the history
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,
    /// One line for each entry, on a terminal as well
    #[arg(long)]
    plain: bool,
}

/// Watches a run until it is over.
pub(super) async fn watch(args: WatchArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    match args.plain && options.output == Format::Table {
        true => plain(&client, args.run_id, args.after).await.map(drop),
        false => until_over(&client, args.run_id, args.after, options.output).await.map(drop),
    }
}

/// Shows a run until it is over, and says how it ended.
pub(super) async fn until_over(
    client: &Client,
    run_id: String,
    after: u64,
    format: Format,
) -> Outcome<v1::RunState> {
    match format {
        Format::Table if is_watched_by_people() => live(client, run_id).await,
        Format::Table => plain(client, run_id, after).await,
        format => documents(client, run_id, after, format).await,
    }
}

fn is_watched_by_people() -> bool {
    std::io::stdout().is_terminal() && std::io::stderr().is_terminal()
}

async fn documents(
    client: &Client,
    run_id: String,
    after_sequence: u64,
    format: Format,
) -> Outcome<v1::RunState> {
    let view = v1::View::Full.into();
    let payload_format = v1::PayloadFormat::Json.into();
    let request = v1::WatchRunRequest { run_id, after_sequence, view, payload_format };
    let mut changes = client.raw().runs().watch_run(request).await?.into_inner();
    let mut state = v1::RunState::Unspecified;
    while let Some(change) = changes.message().await? {
        state = change.run.as_ref().map_or(state, v1::Run::state);
        print_document(format, &document("WatchRunResponse", &change), false)?;
    }
    Ok(state)
}

async fn plain(client: &Client, run_id: String, after: u64) -> Outcome<v1::RunState> {
    let mut changes = std::pin::pin!(client.watch_run(run_id.as_str(), after, View::Basic));
    while let Some(change) = changes.next().await.transpose()? {
        change.events.iter().try_for_each(|event| line(clean(&event_line(event))))?;
    }
    end_of(client, run_id).await
}

/// How a run ended whose watch is over.
async fn end_of(client: &Client, run_id: String) -> Outcome<v1::RunState> {
    let request = v1::GetRunRequest { run_id, view: v1::View::Ref.into(), ..Default::default() };
    let reply = client.raw().runs().get_run(request).await?.into_inner();
    Ok(reply.run.unwrap_or_default().state())
}

fn event_line(event: &RunEvent) -> String {
    let step = read::place(event);
    let parts =
        [table::time(event.time), format!("{:<15}", event.kind.as_str()), step, event.message.clone()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  ")
}

async fn live(client: &Client, run_id: String) -> Outcome<v1::RunState> {
    let mut changes = std::pin::pin!(client.watch_run(run_id.as_str(), 0, View::Full));
    let mut picture = Live::new();
    let mut clock = tokio::time::interval(std::time::Duration::from_millis(500));
    loop {
        tokio::select! {
            change = changes.next() => match change.transpose()? {
                Some(change) => picture.show(change.run),
                None => break,
            },
            _ = clock.tick() => picture.tick(),
        }
    }
    picture.clear();
    let run = client.get_run(run_id.as_str()).await?;
    out(&read::run_text(&run))?;
    end_of(client, run_id).await
}
