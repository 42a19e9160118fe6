//! The evidence block: one stable, greppable form. What is not in it is not claimed.

use crate::cover::{Cover, RUN_ENDS};
use crate::fault::Fault;
use coretex_domain::job::machine::TABLE;
use std::fmt::Write as _;
use std::time::Duration;

/// Seeds from which on the gates are enforced: fewer prove little either way.
pub const GATE_SEEDS: u64 = 1_000;
/// Least share of seeds each fault must strike in, percent.
const STRUCK_MIN: u64 = 5;
const MOVES_MIN: u64 = 100;
const REJECTED_MIN: u64 = 10;
const RUNS_MIN: u64 = 20;

/// The block for a batch of seeds.
pub fn block(cover: &Cover, wall: Duration, violations: usize) -> String {
    let mut out = String::from("--- evidence: simulation ---\n");
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "sim.{name} = {value}");
    };
    let seconds = wall.as_secs_f64().max(0.001);
    line("seeds", cover.seeds.to_string());
    line("violations", violations.to_string());
    line("sim_hours", format!("{:.1}", cover.sim_ms as f64 / 3_600_000.0));
    line("events", cover.events.to_string());
    line("events_per_second", format!("{:.0}", cover.events as f64 / seconds));
    line("wall_seconds", format!("{seconds:.1}"));
    line("crashes", cover.crashes.to_string());
    line("take_overs", cover.take_overs.to_string());
    line("claims", cover.claims.to_string());
    line("reloads", cover.reloads.to_string());
    line("jobs", cover.jobs.to_string());
    line("acked", cover.acked.to_string());
    line("lost", cover.lost.to_string());
    line("dead_letters", cover.dead_letters.to_string());
    line("duplicate_starts", cover.duplicate_starts.to_string());
    line("fenced_results", cover.stale_updates.to_string());
    line("fenced_groups", cover.fenced_groups.to_string());
    line("refused_groups", cover.refused_groups.to_string());
    line("unknown_groups", cover.unknown_outcomes.to_string());
    line("unknown_outcomes", cover.unknown_calls.to_string());
    line("unknown_outcomes_resolved", cover.unknown_calls_resolved.to_string());
    line("expired_sessions", cover.expired_sessions.to_string());
    line("reconciliations", cover.reconciled.to_string());
    line("key_conflicts", cover.conflicts.to_string());
    line("looked_again", cover.looked_again.to_string());
    line("spawned", cover.spawned.to_string());
    for (name, count) in reached(cover) {
        line(name, count.to_string());
    }
    for (name, count) in runs(cover) {
        line(&format!("runs.{name}"), count.to_string());
    }
    line("timer_lag_max_ms", cover.timer_lag_max.to_string());
    line("drain_max_ms", cover.calm_ms_max.to_string());
    for fault in Fault::ALL {
        let n = *fault as usize;
        line(
            &format!("fault.{}", fault.name()),
            format!("{} in {} seeds", cover.strikes[n], cover.struck_seeds[n]),
        );
    }
    for (row, count) in TABLE.iter().zip(&cover.moves) {
        line(&format!("move.{}.{}", row.from.name(), row.event.name()), count.to_string());
    }
    for (name, count) in rejections(cover) {
        line(&format!("rejected.{name}"), count.to_string());
    }
    out.push_str("--- end ---");
    out
}

/// What must have happened for the promises about it to have been put to the test.
fn reached(cover: &Cover) -> [(&'static str, u64); 4] {
    [
        ("asks", cover.asks),
        ("asks_repeated", cover.asks_repeated),
        ("spawned_before", cover.spawned_before),
        ("closed_with_parent", cover.closed_with_parent),
    ]
}

/// What happened in runs of workflows.
fn runs(cover: &Cover) -> Vec<(String, u64)> {
    let mut found: Vec<(String, u64)> = [
        ("started", cover.runs),
        ("steps", cover.steps),
        ("items", cover.run_items),
        ("undone", cover.undone),
        ("signals", cover.signals),
        ("queued", cover.runs_queued),
        ("evaluated_apart", cover.evaluated),
        ("reads_failed", cover.run_reads_failed),
        ("loaded", cover.runs_loaded),
        ("brought_for_calls", cover.runs_brought),
        ("refused", cover.runs_refused),
        ("cancelled_for_newer", cover.runs_taken),
    ]
    .map(|(name, count)| (name.to_owned(), count))
    .to_vec();
    let ends = RUN_ENDS.iter().zip(cover.runs_ended);
    found.extend(ends.map(|(state, count)| (format!("ended.{}", state.name().to_lowercase()), count)));
    found
}

fn rejections(cover: &Cover) -> [(&'static str, u64); 16] {
    [
        ("stale-lease", cover.stale_updates),
        ("cancelled", cover.cancelled_updates),
        ("lie-by-id", cover.lies_by_id),
        ("lie-by-token", cover.lies_by_token),
        ("key-conflict", cover.conflicts),
        ("cancel-of-ended", cover.refused_cancels),
        ("vote", cover.refused_votes),
        ("retry-of-open", cover.refused_retries),
        ("not-owner", cover.not_owner),
        ("fenced-group", cover.fenced_groups),
        ("ask-stale", cover.asks_stale),
        ("ask-beyond-budget", cover.grants_refused),
        ("spawn-conflict", cover.spawn_conflicts),
        ("spawn-too-many", cover.spawn_too_many),
        ("spawn-beyond-budget", cover.spawn_over_budget),
        ("spawn-without-budget", cover.spawn_invalid),
    ]
}

/// Gates that are not met; empty below [`GATE_SEEDS`].
pub fn gates(cover: &Cover) -> Vec<String> {
    let mut open = Vec::new();
    if cover.seeds < GATE_SEEDS {
        return open;
    }
    for fault in Fault::ALL {
        let struck = cover.struck_seeds[*fault as usize];
        if struck * 100 < cover.seeds * STRUCK_MIN {
            open.push(format!("fault {} struck in {struck} of {} seeds", fault.name(), cover.seeds));
        }
    }
    for (row, count) in TABLE.iter().zip(&cover.moves) {
        if *count < MOVES_MIN {
            open.push(format!("move {} {} was made {count} times", row.from.name(), row.event.name()));
        }
    }
    for (name, count) in rejections(cover) {
        if count < REJECTED_MIN {
            open.push(format!("{name} was rejected {count} times"));
        }
    }
    for (name, count) in runs(cover) {
        if count < RUNS_MIN {
            open.push(format!("runs.{name} was reached {count} times"));
        }
    }
    for (name, count) in reached(cover) {
        if count < REJECTED_MIN {
            open.push(format!("{name} was reached {count} times"));
        }
    }
    open
}
