//! The policy in the path: a hundred rules beside the built-in policy, and what one judgement costs.

use super::parts::{Table, last, median, number, rate};
use super::process::{Server, coretex, json_lines, output};
use anyhow::Result;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

const TOPICS: u32 = 20;

/// Five rules for each topic. None of them decides about the jobs of the measure; every tenth job meets the match keys of a
/// rule with a condition.
fn bundle() -> String {
    let mut text = String::from("name: default\ndefault: allow\nrules:\n");
    for topic in 0..TOPICS {
        let rules = [
            "actors: [nobody] }, verdict: deny",
            "risk_tags: [wipe] }, verdict: deny",
            "labels: { env: prod } }, when: '${size(job.payload) > 60000 || job.priority > 8}', verdict: deny",
            "labels: { env: test } }, verdict: allow",
            "capabilities: [root] }, verdict: deny",
        ];
        for (n, rule) in rules.iter().enumerate() {
            let _ = writeln!(text, "  - {{ id: r{topic}.{n}, match: {{ topics: [noop.{topic}], {rule} }}");
        }
    }
    text
}

/// End to end with a hundred rules and without, alternating, on the same jobs; and judgements alone.
pub(super) fn run(runs: usize, table: &mut Table) -> Result<()> {
    let directory = crate::root().join("target/bench");
    std::fs::create_dir_all(&directory)?;
    let file = directory.join("policy.yaml");
    std::fs::write(&file, bundle())?;
    let (mut plain, mut ruled) = (Vec::new(), Vec::new());
    for n in 0..runs.max(1) {
        plain.push(rate_with(&format!("policy-built-in-{n}"), &[])?);
        ruled.push(rate_with(&format!("policy-rules-{n}"), &[format!("policy.file={}", file.display())])?);
        crate::say(&format!("   built-in {:.0}/s, 100 rules {:.0}/s", plain[n], ruled[n]));
    }
    let (plain, ruled) = (median(plain), median(ruled));
    table.row("end to end, 20 topics, built-in policy", rate(plain), None, None);
    table.row("end to end, 100 rules (ratio to built-in)", rate(ruled), None, Some(ruled / plain));
    judgements(&file, table)
}

fn rate_with(name: &str, settings: &[String]) -> Result<f64> {
    let server = Server::start_with(name, settings)?;
    let _worker = server.worker_of(TOPICS)?;
    let topics = TOPICS.to_string();
    let args = [
        "submit-stream",
        "--batch",
        "64",
        "--in-flight",
        "4096",
        "--seconds",
        "6",
        "--topics",
        &topics,
        "--risky-every",
        "10",
    ];
    Ok(number(&last(server.bench(&args)?)?, "per_s"))
}

fn judgements(file: &Path, table: &mut Table) -> Result<()> {
    let printed = output(Command::new(coretex()).args(["bench", "policy"]).arg(file))?;
    for line in json_lines(&printed) {
        let what = line.get("what").and_then(serde_json::Value::as_str).unwrap_or_default();
        let times = format!(
            "{:.0} ns, p99 {:.0}, p99.99 {:.0}",
            number(&line, "mean_ns"),
            number(&line, "p99_ns"),
            number(&line, "p9999_ns")
        );
        table.row(&format!("  a judgement, {what}"), times, None, None);
    }
    Ok(())
}
