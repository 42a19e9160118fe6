//! Runtime, retries, tokens and cost: what a rule allows is all there is.

use crate::kit::{Kit, constrained, policy};
use coretex_domain::job::{Close, Event, Spec, StateKind, Usage};
use coretex_domain::{JobKey, Payload, Span};
use coretex_kernel::Input;
use coretex_kernel::input::{RejectCode, Stop, UpdateKind};

fn llm() -> Spec {
    Spec::new("llm", Payload::empty())
}

fn tokens(count: u64) -> Option<Usage> {
    Some(Usage { tokens_in: count, ..Usage::default() })
}

fn progress() -> UpdateKind {
    UpdateKind::Progress { fraction: 0.5, message: "".into(), attributes: Vec::new() }
}

/// A running job under a budget of a hundred tokens.
fn metered() -> (Kit, JobKey) {
    let (verdict, terms) = constrained(|c| c.budgets.max_tokens = Some(100));
    let mut kit = Kit::new(policy(1, vec![("llm", verdict, terms)]));
    kit.join(&["llm"], 5);
    let job = kit.submit(llm());
    let lease = kit.lease_of(job);
    assert!(kit.report(lease, UpdateKind::Started, None).is_empty());
    (kit, job)
}

fn failure(kit: &Kit, job: JobKey) -> (StateKind, String) {
    let job = &kit.stored[&job];
    (job.state.kind(), job.failure().map(|f| f.kind.to_string()).unwrap_or_default())
}

const SPENT: (StateKind, &str) = (StateKind::Failed, "BUDGET_EXCEEDED");

fn is(found: (StateKind, String), wanted: (StateKind, &str)) -> bool {
    found == (wanted.0, wanted.1.to_owned())
}

#[test]
fn an_attempt_that_goes_beyond_its_budget_is_stopped_and_not_retried() {
    let (mut kit, job) = metered();
    let lease = kit.lease_of(job);
    assert!(kit.report(lease, progress(), tokens(60)).is_empty());
    assert_eq!(kit.state(job), StateKind::Running);
    assert!(
        kit.report(lease, progress(), tokens(41)).is_empty(),
        "it counts, and the order to stop says the rest"
    );
    assert!(is(failure(&kit, job), SPENT));
    let message = &kit.stored[&job].failure().unwrap().message;
    assert_eq!(&**message, "101 tokens used of a budget of 100");
    assert_eq!(kit.stops, [(lease, Stop::OverBudget)]);
    let last = &kit.stored[&job].history.last().unwrap().event;
    assert!(matches!(last, Event::Failed(closed) if closed.close == Close::OverBudget), "{last:?}");
    assert!(kit.view.footprint().is_at_rest());
}

#[test]
fn success_does_not_excuse_what_was_spent() {
    let (mut kit, job) = metered();
    let lease = kit.lease_of(job);
    let rejected = kit.report(lease, UpdateKind::Succeeded(Payload::json("1")), tokens(500));
    assert_eq!(rejected[0].code, RejectCode::Cancelled);
    assert!(is(failure(&kit, job), SPENT));
    assert_eq!((kit.stored[&job].result.clone(), kit.stops.len()), (None, 0), "there is nothing to stop");
    assert!(matches!(kit.stored[&job].history.last().unwrap().event, Event::Annotated(_)), "and it is noted");
}

#[test]
fn a_budget_that_is_just_kept_lets_the_job_succeed() {
    let (mut kit, job) = metered();
    let lease = kit.lease_of(job);
    assert!(kit.report(lease, UpdateKind::Succeeded(Payload::json("1")), tokens(100)).is_empty());
    assert_eq!(kit.state(job), StateKind::Succeeded);
}

#[test]
fn usage_adds_up_over_attempts_and_nothing_left_is_no_attempt() {
    let (mut kit, job) = metered();
    let lease = kit.lease_of(job);
    kit.fail(lease, tokens(70));
    assert_eq!(kit.state(job), StateKind::Retrying);
    kit.pass(Span::secs(60));
    let lease = kit.lease_of(job);
    kit.report(lease, UpdateKind::Started, None);
    kit.fail(lease, tokens(30));
    assert!(is(failure(&kit, job), SPENT), "{:?}", failure(&kit, job));
    let message = kit.stored[&job].failure().unwrap().message.to_string();
    assert!(message.contains("100 tokens") && message.contains("Oops: no"), "{message}");
}

#[test]
fn a_job_given_back_with_nothing_left_does_not_go_on() {
    let (mut kit, job) = metered();
    let lease = kit.lease_of(job);
    kit.report(lease, progress(), tokens(100));
    kit.report(lease, UpdateKind::Released { checkpoint: None }, None);
    assert!(is(failure(&kit, job), SPENT));
}

#[test]
fn a_cancel_comes_before_the_budget() {
    let (mut kit, job) = metered();
    let lease = kit.lease_of(job);
    kit.cancel(job);
    kit.report(lease, progress(), tokens(500));
    assert_eq!(kit.state(job), StateKind::Running, "the worker has its grace");
    kit.report(lease, UpdateKind::Cancelled, None);
    assert_eq!(kit.state(job), StateKind::Cancelled);
}

#[test]
fn a_budget_of_the_jobs_own_is_kept_too() {
    let mut kit = Kit::new(policy(1, Vec::new()));
    kit.join(&["llm"], 5);
    let mut spec = llm();
    spec.options_mut().budget.max_cost_micros = Some(10);
    let job = kit.submit(spec);
    let lease = kit.lease_of(job);
    kit.report(lease, progress(), Some(Usage { cost_micros: 11, ..Usage::default() }));
    assert!(is(failure(&kit, job), SPENT));
}

#[test]
fn a_later_policy_binds_from_the_next_lease_on() {
    let (mut kit, job) = metered();
    let lease = kit.lease_of(job);
    kit.report(lease, progress(), tokens(50));
    let (verdict, terms) = constrained(|c| c.budgets.max_tokens = Some(20));
    kit.turn(vec![Input::SetPolicy(policy(2, vec![("llm", verdict, terms)]))]);
    assert!(kit.report(lease, progress(), tokens(10)).is_empty(), "a running job keeps what it was given");
    kit.fail(lease, None);
    assert_eq!(kit.state(job), StateKind::Retrying);
    kit.pass(Span::secs(60));
    assert!(is(failure(&kit, job), (StateKind::Denied, "BUDGET_EXCEEDED")), "{:?}", failure(&kit, job));
}

#[test]
fn a_rule_caps_attempts_and_runtime_and_raises_neither() {
    let (verdict, terms) = constrained(|c| {
        c.budgets.max_retries = Some(1);
        c.budgets.max_runtime = Some(Span::secs(2));
    });
    let mut kit = Kit::new(policy(1, vec![("llm", verdict, terms)]));
    kit.join(&["llm"], 5);
    let mut modest = llm();
    modest.options_mut().retry.max_attempts = Some(1);
    modest.options_mut().timeouts.start_to_close = Some(Span::secs(1));
    let (greedy, modest) = (kit.submit(llm()), kit.submit(modest));
    for job in [greedy, modest] {
        let lease = kit.lease_of(job);
        kit.report(lease, UpdateKind::Started, None);
    }
    kit.pass(Span(1_000));
    assert!(is(failure(&kit, modest), (StateKind::TimedOut, "START_TO_CLOSE_TIMEOUT")));
    kit.pass(Span(999));
    assert_eq!(kit.state(greedy), StateKind::Running);
    kit.pass(Span(1));
    assert_eq!(
        kit.state(greedy),
        StateKind::Retrying,
        "an hour was allowed by default, two seconds by the rule"
    );
    kit.pass(Span::secs(10));
    let lease = kit.lease_of(greedy);
    kit.report(lease, UpdateKind::Started, None);
    kit.fail(lease, None);
    assert_eq!((kit.state(greedy), kit.stored[&greedy].counters.attempts), (StateKind::Failed, 2));
}
