//! Time of one judgement with 100 rules: cached, uncached, and with conditions.
//!
//! `cargo run --release -p coretex-policy --example policy_bench`

use coretex_policy::{Bundle, Compiled, Facts, Memo, compile};
use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const RULES: usize = 100;
const TOPICS: usize = 20;
const ROUNDS: usize = 200_000;

fn main() {
    let plain = policy(0);
    let mixed = policy(10);
    let mut out = String::new();
    let _ = writeln!(out, "{RULES} rules, {TOPICS} topics; ns per judgement, best of 5");
    for (name, policy) in [("no CEL", &plain), ("10 conditions asked", &mixed)] {
        let uncached = best(|facts| {
            black_box(policy.judge(facts));
        });
        let mut memo = Memo::default();
        let cached = best(|facts| {
            black_box(memo.judge(policy, facts));
        });
        let _ = writeln!(out, "{name:<26} cached {cached:>6}   uncached {uncached:>6}");
    }
    use std::io::Write as _;
    let _ = std::io::stdout().write_all(out.as_bytes());
}

/// A quarter each of: other topics in full; patterns that share a beginning; rules about the topic that miss by a risk
/// tag; rules about all topics that miss by a label. Only the last one matches.
fn policy(conditions_every: usize) -> Compiled {
    let mut text = String::from("name: bench\ndefault: allow\nrules:\n");
    for n in 0..RULES {
        let matching = match n % 4 {
            _ if n == RULES - 1 => "topics: ['job.*']".to_owned(),
            0 => format!("topics: [sys.{n}]"),
            1 => format!("topics: ['job.*.x{n}']"),
            2 => format!("topics: ['job.*'], risk_tags: [prod, absent{n}]"),
            _ => format!("tenants: ['*'], labels: {{ env: [stage, 'test{n}*'] }}"),
        };
        // These meet the match keys of the job, so their conditions are asked each time.
        let has_condition = conditions_every > 0 && n % conditions_every == 0;
        let (matching, when) = match has_condition {
            true => (
                "topics: ['job.*']".to_owned(),
                ", when: \"job.labels.env == 'dev' && size(job.payload) < 65536\"",
            ),
            false => (matching, ""),
        };
        let _ =
            writeln!(text, "  - {{ id: r{n}, match: {{ {matching} }}{when}, verdict: require_approval }}");
    }
    match Bundle::parse(&text) {
        Ok(bundle) => compile(bundle),
        Err(problems) => panic!("{problems}"),
    }
}

fn best(mut judge: impl FnMut(&Facts<'_>)) -> u128 {
    let topics: Vec<String> = (0..TOPICS).map(|n| format!("job.topic{n}")).collect();
    let labels: [(Arc<str>, Arc<str>); 2] = [("team".into(), "a".into()), ("env".into(), "prod".into())];
    let tags: [Arc<str>; 2] = ["prod".into(), "write".into()];
    let facts: Vec<Facts<'_>> = topics
        .iter()
        .map(|topic| Facts {
            namespace: "default",
            topic,
            actor: "ann",
            actor_type: "service",
            risk_tags: &tags,
            labels: &labels,
            payload: br#"{"path": "/tmp/x"}"#,
            content_type: "application/json",
            ..Facts::default()
        })
        .collect();
    let round = |_: u32| {
        let begun = Instant::now();
        for n in 0..ROUNDS {
            judge(&facts[n % TOPICS]);
        }
        begun.elapsed().as_nanos() / ROUNDS as u128
    };
    (0..5).map(round).min().unwrap_or_default()
}
