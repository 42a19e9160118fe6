//! `run start` and `run wait`.

use super::super::client::{ClientArgs, request_id};
use super::super::input;
use super::super::shown::{Format, document, line, out, print_document};
use super::{WaitArgs, read, watch};
use crate::outcome::{Failure, Outcome, REFUSED};
use crate::units::Span;
use coretex_sdk::Client;
use coretex_sdk::raw::v1;
use std::time::{Duration, Instant};

/// How long one call waits on the server.
const WAIT_STEP: Duration = Duration::from_secs(60);
/// What the network gets on top.
const WAIT_MARGIN: Duration = Duration::from_secs(15);
/// How long a start may take.
const CALL_MAX: Duration = Duration::from_secs(30);

/// What to start.
#[derive(Debug, clap::Args)]
pub(crate) struct StartArgs {
    /// Name of the workflow
    #[arg(value_name = "WORKFLOW")]
    workflow: String,
    /// Version of it; without it, the newest
    #[arg(long, value_name = "N", default_value_t = 0)]
    version: u64,
    /// What it is given: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    input: Option<String>,
    /// Wait for the end and print the output; exit 1 unless it succeeds
    #[arg(long, conflicts_with = "watch")]
    wait: bool,
    /// How long to wait; without it, until the run is over
    #[arg(long, value_name = "SPAN", requires = "wait")]
    wait_timeout: Option<Span>,
    /// Watch its steps until it is over; exit 1 unless it succeeds
    #[arg(long)]
    watch: bool,
    /// Business key: the same key gives the same run
    #[arg(long, value_name = "KEY", conflicts_with = "id")]
    key: Option<String>,
    /// Id of your own choice, `run_…`
    #[arg(long, value_name = "RUN_ID")]
    id: Option<String>,
    /// Label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = input::pair)]
    labels: Vec<(String, String)>,
    /// Signal that is there from the start
    #[arg(long, value_name = "NAME")]
    signal: Option<String>,
    /// What the signal brings: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-", requires = "signal")]
    signal_data: Option<String>,
    /// Makes a repeat of this very call safe
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

impl StartArgs {
    fn request(&self) -> Outcome<v1::StartRunRequest> {
        let given = |option: &str, data: &Option<String>| {
            data.as_deref().map(|data| input::json(option, data)).transpose()
        };
        let payload = given("--signal-data", &self.signal_data)?;
        let signal = self.signal.clone().map(|name| v1::RunSignal { name, payload, ..Default::default() });
        Ok(v1::StartRunRequest {
            workflow: self.workflow.clone(),
            version: self.version,
            input: given("--input", &self.input)?,
            idempotency_key: self.key.clone().unwrap_or_default(),
            labels: self.labels.iter().cloned().collect(),
            run_id: self.id.clone().unwrap_or_default(),
            signal,
            request_id: self.request_id.clone().unwrap_or_else(request_id),
        })
    }
}

/// Starts a run; waits for it or watches it if asked to.
pub(super) async fn start(args: StartArgs, options: &ClientArgs) -> Outcome {
    let request = args.request()?;
    let client = options.connect().await?;
    let mut request = coretex_sdk::raw::tonic::Request::new(request);
    request.set_timeout(CALL_MAX);
    let reply = client.raw().runs().start_run(request).await?.into_inner();
    let run_id = reply.run.as_ref().map(|run| run.run_id.clone()).unwrap_or_default();
    if args.wait {
        return print_end(&client, run_id, args.wait_timeout, options.output).await;
    }
    if args.watch {
        return by_state(watch::until_over(&client, run_id, 0, options.output).await?);
    }
    match options.output {
        Format::Table => {
            let state = reply.run.unwrap_or_default().state().short_name();
            line(format!("{run_id}  {state}{}", if reply.existing { "  (was there before)" } else { "" }))
        }
        format => print_document(format, &document("StartRunResponse", &reply), true),
    }
}

/// Waits for a run that is there.
pub(super) async fn wait(args: WaitArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    print_end(&client, args.run_id, args.timeout, options.output).await
}

/// The exit code of a run.
fn by_state(state: v1::RunState) -> Outcome {
    match state {
        v1::RunState::Succeeded => Ok(()),
        _ => Err(Failure::Said(REFUSED)),
    }
}

/// Prints the run at its end, or as it stands when the time is over.
async fn print_end(client: &Client, run_id: String, timeout: Option<Span>, format: Format) -> Outcome {
    let reply = until_over(client, &run_id, timeout.map(|Span(span)| span)).await?;
    let state = reply.run.as_ref().map(v1::Run::state).unwrap_or_default();
    match format {
        Format::Table => out(&read::run_text(&client.get_run(run_id).await?))?,
        format => print_document(format, &document("WaitRunResponse", &reply), true)?,
    }
    by_state(state)
}

async fn until_over(
    client: &Client,
    run_id: &str,
    timeout: Option<Duration>,
) -> Outcome<v1::WaitRunResponse> {
    let end = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let left = end.map_or(WAIT_STEP, |end| end.saturating_duration_since(Instant::now()));
        let step = left.min(WAIT_STEP);
        let mut request = coretex_sdk::raw::tonic::Request::new(v1::WaitRunRequest {
            run_id: run_id.to_owned(),
            timeout: Some(input::span(step)),
            view: v1::View::Full.into(),
            payload_format: v1::PayloadFormat::Json.into(),
        });
        request.set_timeout(step + WAIT_MARGIN);
        let reply = client.raw().runs().wait_run(request).await?.into_inner();
        let is_over = reply.run.as_ref().is_some_and(|run| run.state().is_terminal());
        if is_over || end.is_some_and(|end| Instant::now() >= end) {
            return Ok(reply);
        }
    }
}
