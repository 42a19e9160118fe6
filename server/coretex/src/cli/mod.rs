//! The command line: one file per family of commands.

mod admin;
mod approval;
pub mod bench;
mod client;
mod config;
pub mod demo;
mod dlq;
mod errors;
mod input;
mod job;
mod keys;
mod policy;
mod problems;
mod run;
mod schedule;
mod server;
mod shown;
mod step;
mod table;
mod topic;
pub mod worker;
mod workflow;

use crate::outcome::{Failure, INTERRUPTED, OK, Outcome, USAGE};
use clap::{CommandFactory as _, Parser as _};
use client::ClientArgs;
use shown::Format;
use std::ffi::OsString;

/// Durable jobs: one binary for the server, the workers and the command line.
#[derive(Debug, clap::Parser)]
#[command(name = "coretex", version, arg_required_else_help = true, max_term_width = 110)]
#[command(
    after_help = "First steps: `coretex dev` in one terminal, `coretex worker run --topic job.echo --echo` in another,\n`coretex job submit --topic job.echo --data '{\"prompt\":\"hi\"}' --wait` in a third."
)]
struct Cli {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start a server on loopback, with the store in ./.coretex and no login
    Dev(Box<server::DevArgs>),
    /// Start a production server; refuses to start insecurely
    Server(Box<server::ServerArgs>),
    /// Start a server and workers, run a real load, check every result
    Demo(demo::DemoArgs),
    /// Submit jobs, look at them, wait for them, stop them
    #[command(subcommand)]
    Job(job::JobCommand),
    /// Jobs that gave up: group them, retry them, let go of them
    #[command(subcommand)]
    Dlq(dlq::DlqCommand),
    /// Jobs that wait for people: look at them, say yes or no
    #[command(subcommand)]
    Approval(approval::ApprovalCommand),
    /// Check policy bundles and ask what they would decide
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// The policy kernel as a process of its own
    #[command(subcommand)]
    Safety(server::SafetyCommand),
    /// Configuration in layers: system, org, team, workflow, step
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// What is started by itself, and when: cron expressions, intervals, backfills
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Graphs of steps: check them, draw them, keep them on a server
    #[command(subcommand)]
    Workflow(workflow::WorkflowCommand),
    /// Runs of workflows: start them, look at them, wait for them, change them
    #[command(subcommand)]
    Run(run::RunCommand),
    /// How kinds of work are run
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Be a worker, or look after those that are
    #[command(subcommand)]
    Worker(worker::WorkerCommand),
    /// Look after a server and its store
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    /// Measure a server
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Print the completion script of a shell
    Completion {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
    /// Handler of the demo's jobs: payload on standard input, result on standard output
    #[command(hide = true, subcommand)]
    DemoHandler(demo::HandlerCommand),
    /// A process of the step library
    #[command(hide = true, subcommand)]
    Step(step::StepCommand),
}

/// Runs a command line. Returns the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let format = wanted_format(&args);
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return say_usage(&error, format),
    };
    let is_explained = args.iter().any(|arg| arg == "--explain");
    match run(cli) {
        Ok(()) => OK,
        Err(failure) => {
            errors::say(&failure, format, is_explained);
            failure.code()
        }
    }
}

/// Help and versions are not errors; what is one may be wanted as a document.
fn say_usage(error: &clap::Error, format: Format) -> u8 {
    if error.use_stderr() && format != Format::Table {
        let message = error.to_string();
        let message = message.trim().strip_prefix("error: ").unwrap_or(message.trim()).to_owned();
        errors::say(&Failure::Usage(message), format, false);
    } else {
        // A reader that went away has seen enough.
        let _ = error.print();
    }
    if error.use_stderr() { USAGE } else { OK }
}

/// The format asked for, read before anything else, so that even a wrong command line is answered in it.
fn wanted_format(args: &[OsString]) -> Format {
    let text = |arg: &OsString| arg.to_string_lossy().into_owned();
    let args: Vec<String> = args.iter().map(text).take_while(|arg| arg != "--" && arg != "--exec").collect();
    let named = args.iter().enumerate().find_map(|(index, arg)| match arg.as_str() {
        "-o" | "--output" => args.get(index + 1).cloned(),
        arg => arg
            .strip_prefix("--output=")
            .or_else(|| arg.strip_prefix("-o"))
            .map(|name| name.trim_start_matches('=').to_owned()),
    });
    match named.as_deref() {
        Some("json") => Format::Json,
        Some("yaml") => Format::Yaml,
        _ => Format::Table,
    }
}

fn run(cli: Cli) -> Outcome {
    let Cli { client, command } = cli;
    if let (Some(option), true) = (client.given(), is_serverless(&command)) {
        return Err(Failure::Usage(format!(
            "{option} is an option of commands that talk to a server; this one does not"
        )));
    }
    match command {
        Command::Completion { shell } => completion(shell),
        Command::Version => shown::line(format!("coretex {}", env!("CARGO_PKG_VERSION"))),
        Command::DemoHandler(command) => demo::handle(command),
        Command::Step(command) => step::run(command),
        Command::Policy(command) => policy::run(command, &client),
        Command::Workflow(command) => workflow::run(command, &client),
        Command::Dev(args) => server::dev(*args),
        Command::Server(args) => server::server(*args),
        Command::Safety(command) => server::safety(command),
        Command::Demo(args) => demo::run(args),
        Command::Bench(command) => bench::run(command, &client),
        Command::Worker(command) => on_runtime(worker::run(command, &client), IsPatient::Yes),
        Command::Job(command) => on_runtime(job::run(command, &client), IsPatient::No),
        Command::Dlq(command) => on_runtime(dlq::run(command, &client), IsPatient::No),
        Command::Config(command) => on_runtime(config::run(command, &client), IsPatient::No),
        Command::Approval(command) => on_runtime(approval::run(command, &client), IsPatient::No),
        Command::Run(command) => on_runtime(run::run(command, &client), IsPatient::No),
        Command::Schedule(command) => on_runtime(schedule::run(command, &client), IsPatient::No),
        Command::Topic(command) => on_runtime(topic::run(command, &client), IsPatient::No),
        Command::Admin(command) => on_runtime(admin::run(command, &client), IsPatient::No),
    }
}

fn is_serverless(command: &Command) -> bool {
    match command {
        Command::Dev(_)
        | Command::Server(_)
        | Command::Safety(_)
        | Command::Demo(_)
        | Command::Completion { .. }
        | Command::Version
        | Command::DemoHandler(_)
        | Command::Step(_) => true,
        Command::Workflow(command) => command.is_serverless(),
        Command::Admin(command) => command.is_serverless(),
        Command::Policy(command) => command.is_serverless(),
        Command::Job(_)
        | Command::Dlq(_)
        | Command::Config(_)
        | Command::Approval(_)
        | Command::Run(_)
        | Command::Schedule(_)
        | Command::Topic(_)
        | Command::Worker(_)
        | Command::Bench(_) => false,
    }
}

/// Whether a command sees Ctrl-C itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IsPatient {
    Yes,
    No,
}

fn on_runtime(work: impl Future<Output = Outcome>, patience: IsPatient) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::machine("cannot start", error))?;
    let outcome = runtime.block_on(async {
        match patience {
            IsPatient::Yes => work.await,
            IsPatient::No => tokio::select! {
                outcome = work => outcome,
                _ = tokio::signal::ctrl_c() => Err(Failure::Said(INTERRUPTED)),
            },
        }
    });
    // A read of standard input cannot be interrupted; it must not hold up the end.
    runtime.shutdown_background();
    outcome
}

fn completion(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "coretex", &mut script);
    shown::write_all(&script)
}

#[cfg(test)]
mod tests;
