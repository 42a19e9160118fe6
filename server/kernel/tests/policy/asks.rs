//! Questions of workers: what is granted is set aside once, written down in the same commit, and given back at the end.

use crate::kit::{Kit, constrained, policy};
use coretex_domain::job::{Spec, StateKind, Usage};
use coretex_domain::receipt::{Dimension, Grant, Receipt, Told};
use coretex_domain::{JobKey, Payload, Reason, Refusal};
use coretex_kernel::input::UpdateKind;

fn ask(amount: u64) -> Told {
    let dimension = Dimension::Tokens;
    Told::Grant(Grant { dimension, asked: amount, granted: 0, remaining: None, model: "".into() })
}

/// A job that was handed out and not started, under a budget of a hundred tokens.
fn handed_out() -> (Kit, JobKey) {
    let (verdict, terms) = constrained(|c| c.budgets.max_tokens = Some(100));
    let mut kit = Kit::new(policy(1, vec![("llm", verdict, terms)]));
    kit.join(&["llm"], 5);
    let job = kit.submit(Spec::new("llm", Payload::empty()));
    (kit, job)
}

fn granted(told: Result<Told, Refusal>) -> (u64, Option<u64>) {
    match told {
        Ok(Told::Grant(grant)) => (grant.granted, grant.remaining),
        other => panic!("not granted: {other:?}"),
    }
}

#[test]
fn a_question_implies_the_start_and_leaves_a_receipt_in_the_same_commit() {
    let (mut kit, job) = handed_out();
    assert_eq!(kit.state(job), StateKind::Dispatched);
    assert_eq!(granted(kit.ask(job, 1, ask(60))), (60, Some(40)));
    assert_eq!(kit.state(job), StateKind::Running);
    let row = kit.receipts.first().expect("a receipt");
    let receipt = Receipt::of(row).expect("it can be read");
    assert_eq!((receipt.ask_id, receipt.serial), (1, 1));
    assert_eq!(granted(Ok(receipt.told)), (60, Some(40)), "the receipt says what was granted");
    let kept_until = row.expire_time;
    let lease = kit.lease_of(job);
    assert!(kit.report(lease, UpdateKind::Succeeded(Payload::empty()), None).is_empty());
    assert!(kept_until >= kit.stored[&job].expire_time, "it is kept as long as the job");
}

#[test]
fn budgets_are_set_aside_whole_or_not_at_all_and_settle_against_what_is_used() {
    let (mut kit, job) = handed_out();
    assert_eq!(granted(kit.ask(job, 1, ask(60))), (60, Some(40)));
    assert_eq!(granted(kit.ask(job, 2, ask(41))), (0, Some(40)));
    let lease = kit.lease_of(job);
    let progress = || UpdateKind::Progress { fraction: 0.5, message: "".into(), attributes: Vec::new() };
    let used = Some(Usage { tokens_in: 60, ..Usage::default() });
    assert!(kit.report(lease, progress(), used).is_empty());
    assert_eq!(granted(kit.ask(job, 3, ask(40))), (40, Some(0)), "used tokens count once");
    // The attempt ends without having used its last grant: the next one has it.
    assert!(kit.fail(lease, None).is_empty());
    assert!(kit.stored[&job].rare().reserved.is_empty());
    assert_eq!(kit.stored[&job].unreserved(Dimension::Tokens), Some(40));
}

#[test]
fn only_the_open_lease_may_ask() {
    let (mut kit, job) = handed_out();
    let lease = kit.lease_of(job);
    assert!(kit.report(lease, UpdateKind::Succeeded(Payload::empty()), None).is_empty());
    let refused = kit.ask_as(job, lease, 1, 1, ask(1)).expect_err("the lease is closed");
    assert_eq!(refused.reason, Reason::StaleLease);
    assert!(kit.receipts.is_empty(), "and nothing is written");
    let (mut kit, job) = handed_out();
    let lease = kit.lease_of(job);
    let refused = kit.ask_as(job, lease, 2, 1, ask(1)).expect_err("another lease of the job");
    assert_eq!((refused.reason, kit.state(job)), (Reason::StaleLease, StateKind::Dispatched));
}

#[test]
fn a_look_up_of_before_a_restart_decides_nothing() {
    let (mut kit, job) = handed_out();
    let before = kit.view.departed();
    assert_eq!(granted(kit.ask(job, 1, ask(60))), (60, Some(40)));
    kit.restart();
    let lease = kit.lease_of(job);
    let receipt = Receipt { serial: 1, ask_id: 1, asked: 0, told: ask(60) };
    assert_eq!(kit.ask_after(before, job, lease, receipt), None, "the receipt may be there by now");
    assert_eq!(kit.receipts.len(), 1);
    assert_eq!(granted(kit.ask(job, 2, ask(41))), (0, Some(40)), "what was set aside outlives the process");
}
