//! `coretex demo`: a server, workers in processes of their own, a real load, and a check of every result.

mod cast;
mod digest;
mod handlers;
mod plot;
mod review;
mod stage;

use super::shown::{line, note, out};
use crate::outcome::{Failure, INTERRUPTED, Outcome, REFUSED};
use crate::settings::raise_files;
use stage::{Show, Stage};
use std::path::PathBuf;
use std::time::Instant;

pub use handlers::{HandlerCommand, handle};

/// What to digest.
#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Directory whose files become jobs; .git, target and node_modules are left out
    #[arg(default_value = ".", value_name = "DIR")]
    directory: PathBuf,
    /// Most files to take
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    files: u32,
    /// Keep the store and the logs of the workers
    #[arg(long)]
    keep: bool,
}

/// Runs the demo. Refused unless everything went as expected.
pub fn run(args: DemoArgs) -> Outcome {
    crate::logging::start_quiet();
    raise_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::machine("cannot start", error))?;
    let outcome = runtime.block_on(async {
        tokio::select! {
            outcome = play(args) => outcome,
            _ = tokio::signal::ctrl_c() => Err(Failure::Said(INTERRUPTED)),
        }
    });
    runtime.shutdown_background();
    outcome
}

async fn play(args: DemoArgs) -> Outcome {
    let start = Instant::now();
    let wanted = args.directory.clone();
    let most = args.files as usize;
    let files = tokio::task::spawn_blocking(move || digest::files(&wanted, most))
        .await
        .map_err(|error| Failure::machine("cannot look for files", error))??;
    let show = Show::new();
    let mut stage = Stage::open(args.keep).await?;
    show.say(&format!("server on {}, store in {}", stage.addr(), stage.directory().display()));
    let played = plot::play(&mut stage, &show, files).await;
    let reviewed = match &played {
        Ok(story) => review::review(stage.client(), story).await,
        Err(_) => Ok(review::Review::default()),
    };
    show.done();
    let is_good = reviewed.as_ref().is_ok_and(|review| review.problems.is_empty()) && played.is_ok();
    stage.close(is_good).await;
    if let Err(failure) = played {
        note(format!("logs of the workers, and the store, are in {}", stage.directory().display()));
        return Err(failure);
    }
    let review = reviewed?;
    out(&review.text)?;
    for problem in &review.problems {
        note(format!("NOT AS EXPECTED: {problem}"));
    }
    let took = start.elapsed().as_secs_f64();
    if !is_good {
        note(format!(
            "{} things were not as expected; logs and store are in {}",
            review.problems.len(),
            stage.directory().display()
        ));
        return Err(Failure::Said(REFUSED));
    }
    line(format!("\nEverything went as expected, in {took:.1} s.\n"))?;
    out("To look further:\n  \
         coretex dev                                                  a server that stays\n  \
         coretex worker run --topic job.echo --echo                   a worker; --exec CMD makes any program one\n  \
         coretex job submit --topic job.echo --data '{\"prompt\":\"hi\"}' --wait\n  \
         coretex job list · coretex job history ID · coretex job explain ID · coretex topic list\n")
}
