//! Runs of workflows: three steps one after the other, fan-outs, the time of a hop, and what a million waiting ones weigh.

use super::parts::{Table, number};
use super::process::{json_lines, output};
use anyhow::{Context, Result};
use serde_json::Value;
use std::process::Command;

/// One process of its own, engine, file store and worker together: no wire.
pub(super) fn run(table: &mut Table) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "-q", "--release", "--locked", "-p", "coretex-engine", "--example", "runs_bench"]);
    anyhow::ensure!(build.current_dir(crate::root()).status()?.success(), "runs_bench does not build");
    let printed = output(&mut Command::new(crate::root().join("target/release/examples/runs_bench")))?;
    let lines = json_lines(&printed);
    let line = |what: &str| {
        let is_it = |line: &&Value| line.get("what").and_then(Value::as_str) == Some(what);
        lines.iter().find(is_it).cloned().with_context(|| format!("runs_bench says nothing of {what}"))
    };
    let three = line("three steps")?;
    let rates = format!(
        "{:.0} runs/s, started {:.0}/s",
        number(&three, "runs_per_s"),
        number(&three, "started_per_s")
    );
    table.row("runs of three steps, begun together (in process)", rates, None, None);
    let fan = line("fan-out")?;
    let times =
        format!("{:.0} ms, of 1,000 {:.0} ms", number(&fan, "of_10000_ms"), number(&fan, "of_1000_ms"));
    table.row("a fan-out of 10,000 (ratio to one of 1,000)", times, None, Some(number(&fan, "ratio")));
    let hop = line("hop")?;
    let times = format!("{:.0} us, a job {:.0} us", number(&hop, "hop_us"), number(&hop, "job_us"));
    table.row("a hop from step to step (ratio to a job)", times, None, Some(number(&hop, "ratio")));
    let timers = line("timers")?;
    let weight = format!(
        "{:.0} B each, {:.0} commits and {:.0} ms of a core in 10 s",
        number(&timers, "bytes_each"),
        number(&timers, "commits_in_10_s"),
        number(&timers, "cpu_ms_in_10_s")
    );
    table.row(&format!("{:.0} runs that wait for a time", number(&timers, "timers")), weight, None, None);
    Ok(())
}
