//! Jobs that jobs make: all of them or none, once, out of their parent's budget, and with its end where that is wanted.

use crate::kit::{Kit, constrained, policy};
use coretex_domain::job::{Event, Reserved, Spec, StateKind, Usage};
use coretex_domain::policy::{Terms, Verdict};
use coretex_domain::receipt::{Dimension, Receipt, Spawned, Told};
use coretex_domain::{JobId, JobKey, Namespace, Payload, Reason, Refusal};
use coretex_kernel::input::{Ask, Child, Input, Reply, RetryByHand, Spawn, Stop, UpdateKind};
use std::sync::Arc;

const CLOSE: bool = true;
const GO_ON: bool = false;

fn child(parent: JobKey, kit: &Kit, topic: &str, tokens: Option<u64>) -> Spec {
    let mut spec = Spec::new(topic, Payload::empty());
    let options = spec.options_mut();
    options.parent_job_id = Some(kit.stored[&parent].id.to_string().into());
    options.budget.max_tokens = tokens;
    spec
}

fn of(specs: &[Spec]) -> Vec<Child> {
    specs.iter().map(|spec| Child { spec: Arc::new(spec.clone()), config: None }).collect()
}

fn spawn_as(
    kit: &mut Kit,
    parent: JobKey,
    (ask_id, name): (u64, &str),
    specs: &[Spec],
    close_with_parent: bool,
) -> Result<Vec<JobKey>, Refusal> {
    let lease = kit.stored[&parent].state.lease().cloned().expect("an open lease");
    let asked = specs.iter().fold(1, |sum, spec| sum ^ spec.fingerprint());
    let told = Told::Spawned(Spawned { name: name.into(), jobs: Vec::new() });
    let receipt = Receipt { serial: lease.serial, ask_id, asked, told };
    let looked_at = kit.view.departed();
    let ask = Ask { session: lease.session, lease_id: lease.id, job: parent, looked_at, receipt };
    let spawn = Spawn { ask, name: name.into(), children: of(specs), close_with_parent };
    let reply = kit.turn(vec![Input::Spawn(Box::new(spawn))]).pop();
    kit.settle();
    let Some(Reply::Told(Some(told))) = reply else { panic!("no answer: {reply:?}") };
    told.map(|told| match told {
        Told::Spawned(made) => made.jobs.iter().map(|id| id.key(&Namespace::new("default"))).collect(),
        other => panic!("{other:?}"),
    })
}

fn spawn(kit: &mut Kit, parent: JobKey, name: &str, specs: &[Spec], close: bool) -> Vec<JobKey> {
    spawn_as(kit, parent, (1, name), specs, close).expect("made")
}

fn refused(kit: &mut Kit, parent: JobKey, name: &str, specs: &[Spec], close: bool) -> (Reason, String) {
    let count = kit.stored.len();
    let refusal = spawn_as(kit, parent, (1, name), specs, close).expect_err("refused");
    assert_eq!(kit.stored.len(), count, "nothing was made");
    (refusal.reason, refusal.message)
}

/// A parent at work; nobody serves `child`.
fn at_work() -> (Kit, JobKey) {
    let mut kit = Kit::new(policy(1, vec![("no", Verdict::Deny, Terms::default())]));
    kit.join(&["parent"], 50);
    let parent = kit.submit_by(Some("ann"), Spec::new("parent", Payload::empty()));
    (kit, parent)
}

fn succeed(kit: &mut Kit, job: JobKey) {
    let lease = kit.lease_of(job);
    assert!(kit.report(lease, UpdateKind::Succeeded(Payload::empty()), None).is_empty());
}

#[test]
fn children_are_made_with_their_receipt_and_stand_for_who_submitted_the_parent() {
    let (mut kit, parent) = at_work();
    let specs = [child(parent, &kit, "child", None), child(parent, &kit, "no", None)];
    let made = spawn(&mut kit, parent, "1", &specs, GO_ON);
    assert_eq!(kit.state(parent), StateKind::Running, "who asks has started");
    assert_eq!((kit.state(made[0]), kit.state(made[1])), (StateKind::Scheduled, StateKind::Denied));
    let first = &kit.stored[&made[0]];
    assert_eq!((first.submitter(), first.depth()), (Some("ann"), 1));
    assert_eq!(first.shard, kit.stored[&parent].shard);
    let receipt = kit.receipts.first().and_then(|row| Receipt::of(row)).expect("a receipt");
    let Told::Spawned(told) = receipt.told else { panic!("{receipt:?}") };
    assert_eq!(told.jobs, [kit.stored[&made[0]].id.clone(), kit.stored[&made[1]].id.clone()]);
    succeed(&mut kit, parent);
    assert_eq!(kit.state(made[0]), StateKind::Scheduled, "it goes on");
}

#[test]
fn the_same_name_has_the_same_children_over_all_attempts_and_reloads() {
    let (mut kit, parent) = at_work();
    let specs = vec![child(parent, &kit, "child", None); 3];
    let made = spawn(&mut kit, parent, "1", &specs, GO_ON);
    assert_eq!(
        spawn_as(&mut kit, parent, (2, "1"), &specs, GO_ON).ok(),
        Some(made.clone()),
        "another number"
    );
    let lease = kit.lease_of(parent);
    assert!(kit.fail(lease, None).is_empty());
    kit.pass(coretex_domain::Span::secs(1));
    assert_eq!(spawn(&mut kit, parent, "1", &specs, GO_ON), made, "the next attempt");
    kit.restart();
    assert_eq!(spawn(&mut kit, parent, "1", &specs, GO_ON), made, "after a crash");
    assert_eq!(kit.stored.len(), 4);
    let other = [child(parent, &kit, "other", None)];
    assert_eq!(refused(&mut kit, parent, "1", &other, GO_ON).0, Reason::IdempotencyConflict);
    assert_ne!(spawn(&mut kit, parent, "2", &specs, GO_ON), made);
}

#[test]
fn children_end_with_a_parent_that_did_not_succeed_down_to_the_last() {
    let (mut kit, parent) = at_work();
    let specs = [child(parent, &kit, "parent", None), child(parent, &kit, "child", None)];
    let bound = spawn(&mut kit, parent, "bound", &specs, CLOSE);
    let free = spawn(&mut kit, parent, "free", &specs[1..], GO_ON);
    // The first one is at work by now, and has children of its own.
    let specs = vec![child(bound[0], &kit, "child", None); 2];
    let below = spawn(&mut kit, bound[0], "1", &specs, CLOSE);
    kit.restart();
    kit.cancel(parent);
    let lease = kit.lease_of(parent);
    kit.report(lease, UpdateKind::Cancelled, None);
    assert_eq!(kit.state(parent), StateKind::Cancelled);
    assert_eq!(kit.state(bound[1]), StateKind::Cancelled, "in the commit of its parent's end");
    let cancel = kit.stored[&bound[1]].rare().cancel.clone().expect("a reason");
    assert!(cancel.reason.contains("ended as CANCELLED"), "{}", cancel.reason);
    let last = kit.stored[&bound[1]].history.last().map(|entry| entry.event.clone());
    assert_eq!(last, Some(Event::Cancelled(Some(Box::new(cancel)))), "its history says by whom, and why");
    assert_eq!(kit.state(bound[0]), StateKind::Running, "its worker is told");
    assert!(kit.stops.iter().any(|(_, why)| matches!(why, Stop::Cancel { .. })));
    assert_eq!(kit.state(below[0]), StateKind::Scheduled);
    let lease = kit.lease_of(bound[0]);
    kit.report(lease, UpdateKind::Cancelled, None);
    assert_eq!((kit.state(below[0]), kit.state(below[1])), (StateKind::Cancelled, StateKind::Cancelled));
    assert_eq!(kit.state(free[0]), StateKind::Scheduled);
    kit.cancel(free[0]);
    assert!(kit.view.footprint().is_at_rest(), "{:?}", kit.view.footprint());
}

#[test]
fn children_outlive_a_parent_that_succeeded_whatever_was_asked() {
    let (mut kit, parent) = at_work();
    let specs = [child(parent, &kit, "child", None)];
    let made = spawn(&mut kit, parent, "1", &specs, CLOSE);
    succeed(&mut kit, parent);
    kit.restart();
    assert_eq!(kit.state(made[0]), StateKind::Scheduled);
}

#[test]
fn what_children_may_use_is_taken_from_the_parent_and_what_they_do_not_use_comes_back() {
    let (verdict, terms) = constrained(|c| c.budgets.max_tokens = Some(100));
    let mut kit = Kit::new(policy(1, vec![("parent", verdict, terms)]));
    kit.join(&["parent", "child"], 50);
    let parent = kit.submit(Spec::new("parent", Payload::empty()));
    let left = |kit: &Kit| kit.stored[&parent].unreserved(Dimension::Tokens);
    let without = [child(parent, &kit, "child", Some(1)), child(parent, &kit, "child", None)];
    let (reason, message) = refused(&mut kit, parent, "1", &without, GO_ON);
    assert_eq!(reason, Reason::InvalidField);
    assert!(message.contains("specs[1].budget.max_tokens_total"), "{message}");
    let beyond = [child(parent, &kit, "child", Some(60)), child(parent, &kit, "child", Some(41))];
    let (reason, message) = refused(&mut kit, parent, "1", &beyond, GO_ON);
    assert_eq!(reason, Reason::BudgetExceeded);
    assert!(message.contains("specs[1]") && message.contains("41 wanted, 40 left"), "{message}");

    let specs = [child(parent, &kit, "child", Some(60)), child(parent, &kit, "child", Some(30))];
    let made = spawn(&mut kit, parent, "1", &specs, GO_ON);
    assert_eq!(left(&kit), Some(10));
    assert_eq!(spawn(&mut kit, parent, "1", &specs, GO_ON), made);
    assert_eq!(left(&kit), Some(10), "given once");
    kit.restart();
    kit.join(&["parent", "child"], 50);
    let used = Some(Usage { tokens_in: 45, ..Usage::default() });
    let lease = kit.lease_of(made[0]);
    assert!(kit.report(lease, UpdateKind::Succeeded(Payload::empty()), used).is_empty());
    assert_eq!(left(&kit), Some(25), "fifteen came back");
    kit.cancel(made[1]);
    let lease = kit.lease_of(made[1]);
    kit.report(lease, UpdateKind::Cancelled, None);
    assert_eq!(left(&kit), Some(55));
    assert_eq!(kit.stored[&parent].lent(), Reserved { tokens: 45, cost_micros: 0 });
    // What its children used is not its own to use.
    let lease = kit.lease_of(parent);
    let used = Some(Usage { tokens_out: 56, ..Usage::default() });
    kit.report(lease, UpdateKind::Succeeded(Payload::empty()), used);
    let failure = kit.stored[&parent].failure().map(|f| (f.kind.to_string(), f.message.to_string()));
    let (kind, message) = failure.expect("a failure");
    assert_eq!(kind, "BUDGET_EXCEEDED");
    assert!(message.contains("45 of it given to children"), "{message}");
}

#[test]
fn a_family_is_32_deep_and_a_job_spawns_256_times() {
    let (mut kit, mut job) = at_work();
    let first = kit.stored[&job].id.clone();
    for depth in 1..=32 {
        let specs = [child(job, &kit, "parent", None)];
        job = spawn(&mut kit, job, "1", &specs, GO_ON)[0];
        assert_eq!(kit.stored[&job].depth(), depth);
        assert_eq!(kit.stored[&job].root(), Some(first.clone()));
    }
    let specs = [child(job, &kit, "parent", None)];
    let (reason, message) = refused(&mut kit, job, "1", &specs, GO_ON);
    assert_eq!(reason, Reason::TooMany);
    assert!(message.contains("32 deep"), "{message}");

    let (mut kit, parent) = at_work();
    let specs = [child(parent, &kit, "child", None)];
    for n in 0..256 {
        spawn(&mut kit, parent, &n.to_string(), &specs, GO_ON);
    }
    let (reason, message) = refused(&mut kit, parent, "256", &specs, GO_ON);
    assert_eq!(reason, Reason::TooMany);
    assert!(message.contains("256"), "{message}");
}

#[test]
fn as_many_end_together_as_fit_one_commit() {
    let (mut kit, parent) = at_work();
    let specs = vec![child(parent, &kit, "child", None); 256];
    let first = [child(parent, &kit, "parent", None)];
    let mut made = spawn(&mut kit, parent, "0", &first, CLOSE);
    for n in 1..16 {
        made.extend(spawn(&mut kit, parent, &n.to_string(), &specs, CLOSE));
    }
    // Those of a child count with those of its parent.
    let under = made[0];
    let own = child(under, &kit, "child", None);
    made.extend(spawn(&mut kit, under, "1", &vec![own.clone(); 255], CLOSE));
    let (reason, message) = refused(&mut kit, under, "2", std::slice::from_ref(&own), CLOSE);
    assert_eq!(reason, Reason::TooMany);
    assert!(message.contains("4096"), "{message}");
    assert_eq!(spawn(&mut kit, under, "2", &[own], GO_ON).len(), 1);
    kit.cancel(parent);
    let lease = kit.lease_of(parent);
    kit.report(lease, UpdateKind::Cancelled, None);
    let lease = kit.lease_of(under);
    kit.report(lease, UpdateKind::Cancelled, None);
    assert!(made.iter().all(|job| kit.state(*job) == StateKind::Cancelled));
}

#[test]
fn a_job_that_is_being_cancelled_or_whose_lease_is_closed_makes_none() {
    let (mut kit, parent) = at_work();
    let specs = [child(parent, &kit, "child", None)];
    kit.cancel(parent);
    let (reason, message) = refused(&mut kit, parent, "1", &specs, GO_ON);
    assert_eq!(reason, Reason::StaleLease);
    assert!(message.contains("being cancelled"), "{message}");
}

#[test]
fn a_retry_by_hand_is_on_its_own_and_as_deep() {
    let (mut kit, parent) = at_work();
    let specs = [child(parent, &kit, "no", None)];
    let made = spawn(&mut kit, parent, "1", &specs, CLOSE);
    let old = kit.stored[&made[0]].clone();
    let retry = RetryByHand {
        new_id: JobId::make(kit.now, 77, old.shard),
        old,
        edited: None,
        actor: None,
        known: None,
        only_first: false,
        config: None,
    };
    let new = retry.new_id.key(&Namespace::new("default"));
    let looked_at = kit.view.departed();
    kit.turn(vec![Input::RetryByHand(Box::new(retry), looked_at)]);
    let job = &kit.stored[&new];
    assert_eq!((job.depth(), job.bound_to(), job.borrowed_from()), (1, None, None));
    assert_eq!(job.root(), Some(kit.stored[&parent].id.clone()));
}
