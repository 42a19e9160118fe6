//! Rates of rules: in order, on time, without history to spare, and over restarts and changed policies.

use crate::kit::{Kit, START, constrained, policy, throttled};
use coretex_domain::job::{EventKind, Spec, StateKind};
use coretex_domain::policy::{Policy, Verdict};
use coretex_domain::{JobKey, Payload, Span, Time};
use coretex_kernel::Input;
use std::sync::Arc;

fn mail() -> Spec {
    Spec::new("mail", Payload::empty())
}

fn two_per_second(version: u64) -> Arc<Policy> {
    let (verdict, terms) = throttled(2, Span::secs(1));
    policy(version, vec![("mail", verdict, terms)])
}

fn deferrals(kit: &Kit, key: JobKey) -> usize {
    kit.stored[&key].history.iter().filter(|e| e.event.kind() == EventKind::Deferred).count()
}

#[test]
fn jobs_are_let_in_at_the_rate_and_in_order() {
    let mut kit = Kit::new(two_per_second(1));
    let jobs: Vec<JobKey> = (0..6).map(|_| kit.submit(mail())).collect();
    let states: Vec<StateKind> = jobs.iter().map(|key| kit.state(*key)).collect();
    assert_eq!(states[..2], [StateKind::Scheduled; 2]);
    assert_eq!(states[2..], [StateKind::Pending; 4]);
    assert_eq!(kit.stored[&jobs[0]].decision.as_ref().unwrap().verdict, Verdict::Throttle);
    let told: Vec<Option<u64>> = jobs.iter().map(|key| kit.not_before(*key)).collect();
    assert_eq!(told, [None, None, Some(500), Some(1_000), Some(1_500), Some(2_000)]);
    assert_eq!(kit.view.next_due(), Some(Time(START + 500)), "one alarm for the line");
    for _ in 0..2_000 {
        kit.pass(Span(1));
    }
    let times: Vec<u64> = kit.let_in.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [0, 0, 500, 1_000, 1_500, 2_000]);
    assert_eq!(kit.let_in.iter().map(|(_, key)| *key).collect::<Vec<_>>(), jobs);
    assert!(jobs.iter().all(|key| deferrals(&kit, *key) <= 1 && kit.stored[key].history.len() <= 3));
}

#[test]
fn who_leaves_the_line_makes_room() {
    let mut kit = Kit::new(two_per_second(1));
    let jobs: Vec<JobKey> = (0..5).map(|_| kit.submit(mail())).collect();
    kit.cancel(jobs[2]);
    kit.cancel(jobs[3]);
    kit.pass(Span(500));
    assert_eq!(kit.state(jobs[4]), StateKind::Scheduled, "before the time it was told");
    assert!(kit.view.footprint().parked == 0 && kit.view.next_due().is_none(), "nothing is left of the line");
}

#[test]
fn a_hundred_thousand_wait_without_being_asked_about() {
    let (verdict, terms) = throttled(1_000, Span::secs(1));
    let mut kit = Kit::new(policy(1, vec![("mail", verdict, terms)]));
    for _ in 0..100_000 {
        kit.submit(mail());
    }
    let begun = std::time::Instant::now();
    for _ in 0..10 {
        kit.pass(Span::secs(1));
    }
    assert_eq!(kit.let_in.len(), 1_000 + 10_000);
    // Linear work per admission would be 10^9 steps; this is a guard against that, not a measurement.
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    kit.restart();
    kit.pass(Span::secs(1));
    assert!(
        kit.let_in.len() <= 11_000 + 2_000,
        "at most one burst more after a restart: {}",
        kit.let_in.len()
    );
}

#[test]
fn a_restart_keeps_the_line_and_counts_what_is_open() {
    let mut kit = Kit::new(two_per_second(1));
    let jobs: Vec<JobKey> = (0..5).map(|_| kit.submit(mail())).collect();
    kit.restart();
    kit.settle();
    assert_eq!(kit.state(jobs[2]), StateKind::Pending, "both starts of the rate are known to be taken");
    for at in [500, 1_000, 1_500] {
        kit.now = START + at;
        kit.settle();
    }
    assert_eq!(kit.let_in.iter().map(|(_, key)| *key).collect::<Vec<_>>(), jobs, "in order, also after it");
    assert!(jobs.iter().all(|key| deferrals(&kit, *key) <= 1));
}

#[test]
fn a_changed_policy_asks_nobody_to_pay_twice() {
    let mut kit = Kit::new(two_per_second(1));
    let jobs: Vec<JobKey> = (0..4).map(|_| kit.submit(mail())).collect();
    kit.turn(vec![Input::SetPolicy(two_per_second(2))]);
    assert_eq!(kit.not_before(jobs[2]), Some(500), "the line stays as it was");
    assert_eq!(kit.stored[&jobs[2]].decision.as_ref().unwrap().policy_version, 2);
    assert_eq!(deferrals(&kit, jobs[2]), 1);
    kit.join(&["mail"], 10);
    kit.settle();
    assert_eq!(kit.offers.len(), 2, "those let in before are judged anew and go on");
    // A policy without the rule lets all in; one with constraints too, under them.
    let (verdict, terms) = constrained(|c| c.budgets.max_retries = Some(0));
    kit.turn(vec![Input::SetPolicy(policy(3, vec![("mail", verdict, terms)]))]);
    kit.settle();
    assert_eq!(kit.offers.len(), 4);
    assert_eq!(kit.stored[&jobs[3]].decision.as_ref().unwrap().verdict, Verdict::AllowWithConstraints);
    assert_eq!(kit.stored[&jobs[0]].decision.as_ref().unwrap().policy_version, 2, "what it runs under stays");
}

#[test]
fn a_line_does_not_wait_for_a_rule_that_is_gone_after_a_restart() {
    let (verdict, terms) = throttled(1, Span::days(30));
    let mut kit = Kit::new(policy(1, vec![("mail", verdict, terms)]));
    let jobs: Vec<JobKey> = (0..5).map(|_| kit.submit(mail())).collect();
    kit.restart_with(two_per_second(2));
    kit.settle();
    assert_eq!(kit.not_before(jobs[1]), Some(501), "a month was told before");
    kit.restart_with(policy(3, Vec::new()));
    kit.settle();
    assert!(jobs.iter().all(|key| kit.state(*key) == StateKind::Scheduled));
    assert_eq!(kit.let_in.iter().map(|(_, key)| *key).collect::<Vec<_>>(), jobs, "in order");
}

#[test]
fn an_outage_and_a_throttle_do_not_mix() {
    let mut kit = Kit::new(two_per_second(1));
    let jobs: Vec<JobKey> = (0..3).map(|_| kit.submit(mail())).collect();
    kit.turn(vec![Input::SetPolicy(Arc::new(Policy::unreachable(2, Span::secs(30), "nobody is there")))]);
    assert_eq!(kit.not_before(jobs[2]), Some(30_000));
    assert_eq!(kit.stored[&jobs[2]].decision, None);
    kit.pass(Span::secs(10));
    assert_eq!(kit.state(jobs[2]), StateKind::Pending, "the line is not followed without a verdict");
    assert_eq!(kit.why(jobs[2])[0].kind, "POLICY_DEFERRED");
    kit.turn(vec![Input::SetPolicy(two_per_second(3))]);
    assert_eq!(kit.state(jobs[2]), StateKind::Scheduled);
}

#[test]
fn a_job_for_later_takes_its_start_then() {
    let mut kit = Kit::new(two_per_second(1));
    let mut later = mail();
    later.options_mut().schedule_time = Some(Time(START + 5_000));
    let job = kit.submit(later);
    assert_eq!((kit.state(job), kit.not_before(job)), (StateKind::Pending, Some(5_000)));
    let now: Vec<JobKey> = (0..2).map(|_| kit.submit(mail())).collect();
    assert!(now.iter().all(|key| kit.state(*key) == StateKind::Scheduled), "it has taken none");
    kit.turn(vec![Input::SetPolicy(two_per_second(2))]);
    assert_eq!(deferrals(&kit, job), 1);
    kit.restart();
    kit.pass(Span::secs(5));
    assert_eq!(kit.state(job), StateKind::Scheduled);
}

#[test]
fn the_actor_of_a_judgement_is_who_logged_in() {
    let mut kit = Kit::new(two_per_second(1));
    let mut spec = mail();
    spec.options_mut().metadata.actor_id = Some("root".into());
    let (posing, open) = (kit.submit_by(Some("agent-7"), spec.clone()), kit.submit(spec));
    let asked = |key| kit.stored[&key].decision.as_ref().unwrap().reason.to_string();
    assert_eq!((asked(posing), asked(open)), ("agent-7 asks".to_owned(), "root asks".to_owned()));
}

#[test]
fn a_caller_is_told_when_its_turn_comes() {
    let mut kit = Kit::new(two_per_second(1));
    let jobs: Vec<JobKey> = (0..4).map(|_| kit.submit(mail())).collect();
    let causes = kit.why(jobs[3]);
    assert_eq!((causes[0].kind, causes[0].eta), ("THROTTLED", Some(Time(START + 1_000))));
    assert!(causes[0].message.contains("rule mail lets 2 in per 1s; 1 wait before it"), "{causes:?}");
}
