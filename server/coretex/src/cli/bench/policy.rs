//! Judging in process: what one judgement costs, and how long the slowest take.

use super::super::shown::line;
use crate::outcome::{Failure, Outcome};
use coretex_policy::{Bundle, Compiled, Facts, Memo, compile};
use hdrhistogram::Histogram;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// What to judge by, and how often.
#[derive(Clone, Debug, clap::Args)]
pub struct PolicyArgs {
    /// YAML file
    file: PathBuf,
    /// Topics of the jobs: TOPIC.0, TOPIC.1 …
    #[arg(long, default_value = "noop")]
    topic: String,
    /// How many topics
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    topics: u32,
    /// Label every n-th job env=prod; 0: none
    #[arg(long, default_value_t = 10)]
    risky_every: u64,
    /// Judgements of each kind
    #[arg(long, default_value_t = 1_000_000)]
    judgements: u64,
}

type Labels = Vec<(Arc<str>, Arc<str>)>;

/// Measures judging with a memory of earlier jobs, and without.
pub(super) fn run(args: &PolicyArgs) -> Outcome {
    let text = std::fs::read_to_string(&args.file)
        .map_err(|error| Failure::machine(format!("cannot read {}", args.file.display()), error))?;
    let bundle = Bundle::parse(&text).map_err(|problems| Failure::Machine(problems.to_string()))?;
    let rules = bundle.rules.len();
    let policy = compile(bundle);
    let topics: Vec<String> =
        (0..u64::from(args.topics)).map(|n| super::stream::topic_of(&args.topic, n)).collect();
    let (plain, risky): (Labels, Labels) = (Vec::new(), vec![("env".into(), "prod".into())]);
    let mut memo = Memo::default();
    let kinds: [(&str, u64); 3] =
        [("cached", 0), ("cached, some reach a condition", args.risky_every), ("uncached", 0)];
    for (what, risky_every) in kinds {
        let mut times: Histogram<u64> =
            Histogram::new_with_bounds(1, 10_000_000_000, 3).expect("invariant: the bounds are in order");
        let start = Instant::now();
        for n in 0..args.judgements {
            let is_risky = risky_every > 0 && n.is_multiple_of(risky_every);
            let facts = Facts {
                namespace: "default",
                topic: topics.get(usize::try_from(n).unwrap_or(0) % topics.len()).map_or("", String::as_str),
                labels: if is_risky { &risky } else { &plain },
                ..Facts::default()
            };
            let begin = Instant::now();
            judge(&policy, (what != "uncached").then_some(&mut memo), &facts);
            times.saturating_record(u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1));
        }
        let mean = start.elapsed().as_nanos() as f64 / args.judgements.max(1) as f64;
        line(
            json!({
                "what": what, "rules": rules, "n": args.judgements, "mean_ns": mean.round(),
                "p50_ns": times.value_at_quantile(0.5), "p99_ns": times.value_at_quantile(0.99),
                "p9999_ns": times.value_at_quantile(0.9999), "max_ns": times.max(),
            })
            .to_string(),
        )?;
    }
    Ok(())
}

fn judge(policy: &Compiled, memo: Option<&mut Memo>, facts: &Facts<'_>) {
    let outcome = match memo {
        Some(memo) => memo.judge(policy, facts),
        None => policy.judge(facts),
    };
    std::hint::black_box(outcome);
}
