//! `coretex worker run`: any program is a worker.

use super::super::client::ClientArgs;
use super::super::input;
use super::super::shown::note;
use super::exec::Program;
use crate::logging;
use crate::outcome::{Failure, Outcome, REFUSED};
use crate::units::{Size, Span};
use coretex_sdk::{Ctx, EndedBy, HandlerError, Payload, Worker, WorkerBuilder, WorkerReport};
use std::time::Duration;

/// What to serve, and with what.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("handler").required(true).args(["echo", "exec"]))]
pub struct RunArgs {
    /// Topic to serve; may be repeated
    #[arg(long = "topic", value_name = "TOPIC", required = true)]
    topics: Vec<String>,
    /// Jobs at a time [default: as many as there are processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    slots: Option<u32>,
    /// Return the payload as it came
    #[arg(long)]
    echo: bool,
    /// Run this program for each job: payload on standard input, result on standard output. Takes the rest of the line
    #[arg(long, value_name = "CMD", num_args = 1.., allow_hyphen_values = true)]
    exec: Vec<String>,
    /// Give the program a secret the job refers to, as a variable; may be repeated. A job without it fails
    #[arg(long = "secret", value_name = "NAME=VARIABLE", value_parser = secret, requires = "exec")]
    secrets: Vec<(String, String)>,
    /// Name of this worker [default: host name and a random part]
    #[arg(long, value_name = "ID")]
    worker_id: Option<String>,
    /// Group it belongs to
    #[arg(long, value_name = "NAME")]
    pool: Option<String>,
    /// What it has, for example gpu; may be repeated
    #[arg(long = "capability", value_name = "NAME")]
    capabilities: Vec<String>,
    /// Label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = input::pair)]
    labels: Vec<(String, String)>,
    /// How long its session should outlive silence
    #[arg(long, value_name = "SPAN")]
    session_grace: Option<Span>,
    /// How long it may finish what it holds when told to leave
    #[arg(long, value_name = "SPAN", default_value_t = Span(Duration::from_secs(30)))]
    drain_grace: Span,
    /// Time between SIGTERM and SIGKILL for a program whose job is cancelled
    #[arg(long, value_name = "SPAN", default_value_t = Span(Duration::from_secs(10)))]
    kill_grace: Span,
    /// Largest result of a program
    #[arg(long, value_name = "SIZE", default_value_t = Size(1 << 20))]
    result_max: Size,
    /// Media type of a program's results [default: told from the bytes]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
}

/// Serves until told to leave.
pub(super) async fn run(args: RunArgs, options: &ClientArgs) -> Outcome {
    logging::start_quiet();
    let slots = args.slots.unwrap_or_else(|| {
        std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1))
    });
    let mut builder = Worker::builder(options.builder()?).slots(slots).drain_grace(args.drain_grace.0);
    if let Some(worker_id) = &args.worker_id {
        builder = builder.worker_id(worker_id);
    }
    if let Some(pool) = &args.pool {
        builder = builder.pool(pool);
    }
    if let Some(Span(grace)) = args.session_grace {
        builder = builder.session_grace(grace);
    }
    builder = args.capabilities.iter().fold(builder, |builder, name| builder.capability(name));
    builder = args.labels.iter().fold(builder, |builder, (key, value)| builder.label(key, value));
    builder = bind(&args, builder);
    let worker = builder.build()?;
    note(format!(
        "worker {} serves {} at {} with {slots} slots",
        worker.worker_id(),
        args.topics.join(", "),
        options.address()
    ));
    let report = worker.run().await?;
    note(summary(&report));
    match report.ended_by {
        EndedBy::Replaced => Err(Failure::Machine("another worker has taken this worker's id".into())),
        EndedBy::Credential => Err(Failure::Machine("the credential was revoked or has expired".into())),
        _ if report.abandoned > 0 => Err(Failure::Said(REFUSED)),
        _ => Ok(()),
    }
}

fn bind(args: &RunArgs, builder: WorkerBuilder) -> WorkerBuilder {
    if args.echo {
        return args.topics.iter().fold(builder, |builder, topic| builder.bind_fn(topic, echo));
    }
    let program = Program {
        argv: args.exec.clone(),
        kill_grace: args.kill_grace.0,
        result_max: usize::try_from(args.result_max.0).unwrap_or(usize::MAX),
        content_type: args.content_type.clone(),
        secrets: args.secrets.clone(),
    };
    args.topics.iter().fold(builder, |builder, topic| {
        let program = program.clone();
        builder.bind_fn(topic, move |ctx: Ctx, input: Payload| {
            let program = program.clone();
            async move { program.run(ctx, input).await }
        })
    })
}

/// Name of a secret, and of the variable that gets its value.
fn secret(text: &str) -> Result<(String, String), String> {
    let (name, variable) = input::pair(text)?;
    coretex_secrets::check_name(&name)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !variable.chars().all(is_plain)
        || variable.starts_with(|c: char| c.is_ascii_digit())
        || variable.is_empty()
    {
        return Err(format!("`{variable}` is no name of a variable: letters, digits and _"));
    }
    Ok((name, variable))
}

/// Returns the payload as it came.
pub(super) async fn echo(_: Ctx, input: Payload) -> Result<Payload, HandlerError> {
    Ok(input)
}

/// What a worker did, on one line.
pub(super) fn summary(report: &WorkerReport) -> String {
    let counts = [
        ("succeeded", report.finished),
        ("failed", report.failed),
        ("cancelled", report.cancelled),
        ("given back", report.released + report.returned),
        ("left behind", report.abandoned),
        ("reconnects", report.reconnects),
    ];
    let shown: Vec<_> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    format!("worker left: {}", if shown.is_empty() { "nothing to do".to_owned() } else { shown.join(", ") })
}
