//! `run cancel`, `signal`, `rerun`.

use super::super::client::{ClientArgs, request_id};
use super::super::input;
use super::super::shown::{Format, clean, document, line, print_document};
use crate::outcome::Outcome;
use coretex_sdk::raw::v1;

/// What to end.
#[derive(Debug, clap::Args)]
pub(crate) struct CancelArgs {
    /// Id of the run
    #[arg(value_name = "RUN_ID")]
    run_id: String,
    /// Why, for the history
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// What to send.
#[derive(Debug, clap::Args)]
pub(crate) struct SignalArgs {
    /// Id of the run
    #[arg(value_name = "RUN_ID")]
    run_id: String,
    /// Name of the signal
    #[arg(value_name = "NAME")]
    name: String,
    /// What it brings: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    data: Option<String>,
    /// Names the signal, so that sending it twice is sending it once
    #[arg(long, value_name = "ID", default_value = "")]
    signal_id: String,
}

/// What to do again.
#[derive(Debug, clap::Args)]
pub(crate) struct RerunArgs {
    /// Id of the run that is over
    #[arg(value_name = "RUN_ID")]
    run_id: String,
    /// The step to begin with; what does not depend on it keeps what it gave
    #[arg(long = "from", value_name = "STEP")]
    step: String,
    /// Another input: JSON, @FILE, or - for standard input
    #[arg(long, value_name = "JSON|@FILE|-")]
    input: Option<String>,
    /// Makes a repeat of this very call safe
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

/// Ends a run.
pub(super) async fn cancel(args: CancelArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let CancelArgs { run_id, reason } = args;
    let request = v1::CancelRunRequest { run_id, reason, request_id: request_id() };
    let reply = client.raw().runs().cancel_run(request).await?.into_inner();
    match options.output {
        Format::Table => {
            let run = reply.run.unwrap_or_default();
            let note = if run.state().is_terminal() { "" } else { "  (it is being stopped and undone)" };
            line(clean(&format!("{}  {}{note}", run.run_id, run.state().short_name())))
        }
        format => print_document(format, &document("CancelRunResponse", &reply), true),
    }
}

/// Sends a signal.
pub(super) async fn signal(args: SignalArgs, options: &ClientArgs) -> Outcome {
    let payload = args.data.as_deref().map(|data| input::json("--data", data)).transpose()?;
    let client = options.connect().await?;
    let SignalArgs { run_id, name, signal_id, .. } = args;
    let request = v1::SignalRunRequest { run_id, name, payload, signal_id, request_id: request_id() };
    let reply = client.raw().runs().signal_run(request).await?.into_inner();
    match options.output {
        Format::Table => {
            let run = reply.run.unwrap_or_default();
            line(clean(&format!("{}  {}", run.run_id, run.state().short_name())))
        }
        format => print_document(format, &document("SignalRunResponse", &reply), true),
    }
}

/// Makes a new run from one that is over.
pub(super) async fn rerun(args: RerunArgs, options: &ClientArgs) -> Outcome {
    let edited_input = args.input.as_deref().map(|data| input::json("--input", data)).transpose()?;
    let client = options.connect().await?;
    let request = v1::RerunFromRequest {
        run_id: args.run_id.clone(),
        step_id: args.step.clone(),
        edited_input,
        request_id: args.request_id.unwrap_or_else(request_id),
    };
    let reply = client.raw().runs().rerun_from(request).await?.into_inner();
    match options.output {
        Format::Table => {
            let run = reply.run.unwrap_or_default();
            let state = run.state().short_name();
            let was = if reply.existing { ", was there before" } else { "" };
            line(clean(&format!("{}  {state}  ({} again from {}{was})", run.run_id, args.run_id, args.step)))
        }
        format => print_document(format, &document("RerunFromResponse", &reply), true),
    }
}
