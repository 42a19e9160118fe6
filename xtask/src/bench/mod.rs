//! `make bench`: the product beside the empty path, alternating, several times, in one run.
//!
//! The empty path is a program of the same shapes without logic (`../shared/bench/floor`, or FLOOR_DIR). Rates are
//! only ever compared within one run.

mod parts;
mod policy;
mod process;
mod runs;

use anyhow::Result;
use process::Floor;

pub(crate) fn run(args: &[String]) -> Result<()> {
    let floor = Floor::build()?;
    if floor.is_none() {
        crate::say("SKIP the empty path: no ../shared/bench/floor and no FLOOR_DIR; figures without ratios");
    }
    let all =
        ["path", "latency", "unary", "drain", "memory", "sessions", "recovery", "curve", "policy", "runs"];
    let wanted: Vec<&str> = match args.is_empty() {
        true => all.to_vec(),
        false => args.iter().map(String::as_str).collect(),
    };
    let runs: usize = std::env::var("RUNS").ok().and_then(|r| r.parse().ok()).unwrap_or(3);
    let mut table = parts::Table::default();
    for part in wanted {
        crate::say(&format!("-- {part}"));
        match part {
            "path" => parts::path(floor.as_ref(), runs, &mut table)?,
            "latency" => parts::latency(floor.as_ref(), runs, &mut table)?,
            "unary" => parts::unary(floor.as_ref(), runs, &mut table)?,
            "drain" => parts::drain(floor.as_ref(), runs, &mut table)?,
            "memory" => parts::memory(&mut table)?,
            "sessions" => parts::sessions(&mut table)?,
            "recovery" => parts::recovery(&mut table)?,
            "curve" => parts::curve(&mut table)?,
            "policy" => policy::run(runs, &mut table)?,
            "runs" => runs::run(&mut table)?,
            other => anyhow::bail!("unknown part {other}; known: {}", all.join(" ")),
        }
    }
    table.print();
    Ok(())
}
