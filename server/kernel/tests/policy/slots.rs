//! `max_concurrent`: a slot of the rule besides that of the concurrency key, both or none, and none left at the end.

use crate::kit::{Kit, constrained, policy};
use coretex_domain::job::{Spec, StateKind};
use coretex_domain::policy::{Policy, Verdict};
use coretex_domain::{JobKey, Payload, Span};
use coretex_kernel::Input;
use coretex_kernel::dispatcher::LimitKey;
use coretex_kernel::input::UpdateKind;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

fn at_most(version: u64, most: u32) -> Arc<Policy> {
    let rule = |topic| {
        let (verdict, terms) = constrained(|c| c.budgets.max_concurrent = Some(most));
        (topic, verdict, terms)
    };
    policy(version, vec![rule("a"), rule("b")])
}

fn job(topic: &str, key: Option<&str>) -> Spec {
    let mut spec = Spec::new(topic, Payload::empty());
    if let Some(key) = key {
        spec.options_mut().concurrency_key = Some(key.into());
    }
    spec
}

#[test]
fn jobs_of_a_rule_wait_for_its_slots_and_the_caller_is_told_who_holds_them() {
    let mut kit = Kit::new(at_most(1, 2));
    kit.join(&["a", "b"], 10);
    let jobs: Vec<JobKey> = (0..4).map(|_| kit.submit(job("a", None))).collect();
    let other = kit.submit(job("b", None));
    assert_eq!(kit.offers.len(), 3, "two of the one rule, one of the other");
    let causes = kit.why(jobs[2]);
    assert_eq!(causes[0].kind, "POLICY_CONCURRENCY");
    assert!(causes[0].message.contains("rule a is held by 2"), "{causes:?}");
    assert_eq!(causes[0].holders.len(), 2);
    assert_eq!(kit.state(other), StateKind::Dispatched);
    let lease = kit.lease_of(jobs[0]);
    kit.report(lease, UpdateKind::Succeeded(Payload::empty()), None);
    assert_eq!((kit.state(jobs[2]), kit.state(jobs[3])), (StateKind::Dispatched, StateKind::Scheduled));
}

#[test]
fn a_slot_of_the_key_is_given_back_where_the_rule_has_none() {
    let mut kit = Kit::new(at_most(1, 1));
    kit.join(&["a"], 10);
    let first = kit.submit(job("a", None));
    let keyed = kit.submit(job("a", Some("k")));
    assert_eq!(kit.state(keyed), StateKind::Scheduled);
    let own =
        LimitKey { namespace: kit.stored[&keyed].namespace.clone(), topic: "a".into(), key: "k".into() };
    assert!(kit.dispatcher.holders(&own).is_empty());
    kit.cancel(first);
    let lease = kit.lease_of(first);
    kit.report(lease, UpdateKind::Cancelled, None);
    assert_eq!((kit.state(keyed), kit.dispatcher.holders(&own).len()), (StateKind::Dispatched, 1));
}

#[test]
fn a_key_that_is_held_does_not_hold_up_its_rule() {
    let mut kit = Kit::new(at_most(1, 2));
    kit.join(&["a"], 10);
    let leader = kit.submit(job("a", Some("k")));
    let filler = kit.submit(job("a", None));
    let behind: Vec<JobKey> = (0..100).map(|_| kit.submit(job("a", Some("k")))).collect();
    let free = kit.submit(job("a", Some("other")));
    assert_eq!(kit.state(free), StateKind::Scheduled);
    let lease = kit.lease_of(filler);
    kit.report(lease, UpdateKind::Succeeded(Payload::empty()), None);
    assert_eq!(kit.state(free), StateKind::Dispatched, "a hundred before it wait for another key");
    kit.cancel(behind[0]);
    let lease = kit.lease_of(leader);
    kit.report(lease, UpdateKind::Succeeded(Payload::empty()), None);
    assert_eq!(kit.state(behind[1]), StateKind::Dispatched);
}

#[test]
fn a_topic_nobody_serves_does_not_hold_up_the_others_of_its_rule() {
    let (verdict, terms) = constrained(|c| c.budgets.max_concurrent = Some(1));
    // One rule over both topics: the test's rules are by topic, so this one gives both the same name.
    #[derive(Debug)]
    struct One(Verdict, Arc<coretex_domain::policy::Terms>);
    impl coretex_domain::policy::Rules for One {
        fn judge(&self, _: coretex_domain::policy::Facts<'_>) -> Arc<coretex_domain::policy::Decision> {
            Arc::new(coretex_domain::policy::Decision {
                verdict: self.0,
                rule_id: "one".into(),
                reason: "".into(),
                remediations: Vec::new(),
                policy: "test".into(),
                policy_version: 1,
                terms: Some(self.1.clone()),
            })
        }
    }
    let mut kit = Kit::new(Arc::new(Policy::of(1, Arc::new(One(verdict, Arc::new(terms))))));
    kit.join(&["a"], 10);
    let first = kit.submit(job("a", None));
    for _ in 0..200 {
        kit.submit(job("unserved", None));
    }
    let next = kit.submit(job("a", None));
    let lease = kit.lease_of(first);
    kit.report(lease, UpdateKind::Succeeded(Payload::empty()), None);
    assert_eq!(kit.state(next), StateKind::Dispatched);
}

#[test]
fn a_changed_rule_does_not_leave_jobs_waiting_for_the_old_one() {
    let mut kit = Kit::new(at_most(1, 1));
    kit.join(&["a"], 10);
    let jobs: Vec<JobKey> = (0..5).map(|_| kit.submit(job("a", None))).collect();
    assert_eq!(kit.offers.len(), 1);
    kit.turn(vec![Input::SetPolicy(at_most(2, 3))]);
    kit.settle();
    assert_eq!(kit.offers.len(), 3, "the one that runs is counted by the new rule too");
    kit.turn(vec![Input::SetPolicy(policy(3, Vec::new()))]);
    kit.settle();
    assert!(jobs.iter().all(|key| kit.state(*key) == StateKind::Dispatched));
}

/// One step of a random life.
#[derive(Clone, Debug)]
enum Step {
    Submit(usize, usize),
    Succeed(usize),
    Fail(usize),
    Release(usize),
    Refuse(usize),
    Cancel(usize),
    Pass(u64),
    Restart,
    Policy(u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2_usize, 0..4_usize).prop_map(|(topic, key)| Step::Submit(topic, key)),
        3 => any::<usize>().prop_map(Step::Succeed),
        1 => any::<usize>().prop_map(Step::Fail),
        1 => any::<usize>().prop_map(Step::Release),
        1 => any::<usize>().prop_map(Step::Refuse),
        1 => any::<usize>().prop_map(Step::Cancel),
        2 => (1..20_000_u64).prop_map(Step::Pass),
        1 => Just(Step::Restart),
        1 => (1..4_u32).prop_map(Step::Policy),
    ]
}

const TOPICS: [&str; 2] = ["a", "b"];
const KEYS: [Option<&str>; 4] = [None, None, Some("k"), Some("l")];

fn take(kit: &mut Kit, step: &Step, version: &mut u64) {
    let leases: Vec<u64> = kit.offers.keys().copied().collect();
    let lease = |pick: usize| (!leases.is_empty()).then(|| leases[pick % leases.len()]);
    match step {
        Step::Submit(topic, key) => drop(kit.submit(job(TOPICS[*topic], KEYS[*key]))),
        Step::Succeed(pick) => {
            lease(*pick).map(|lease| kit.report(lease, UpdateKind::Succeeded(Payload::empty()), None));
        }
        Step::Fail(pick) => drop(lease(*pick).map(|lease| kit.fail(lease, None))),
        Step::Release(pick) => {
            lease(*pick).map(|lease| kit.report(lease, UpdateKind::Released { checkpoint: None }, None));
        }
        Step::Refuse(pick) => {
            let session = coretex_domain::SessionId(1);
            let refused = lease(*pick).into_iter().collect();
            kit.turn(vec![Input::Acked { session, accepted: Vec::new(), refused }]);
            kit.settle();
        }
        Step::Cancel(pick) => {
            let open: Vec<JobKey> = kit
                .stored
                .iter()
                .filter(|(_, job)| !job.state.kind().is_terminal())
                .map(|(key, _)| *key)
                .collect();
            if let Some(key) = open.get(pick % open.len().max(1)) {
                kit.cancel(*key);
            }
        }
        Step::Pass(span) => kit.pass(Span(*span)),
        Step::Restart => {
            kit.restart();
            kit.join(&TOPICS, 1_000);
            kit.settle();
        }
        Step::Policy(most) => {
            *version += 1;
            kit.turn(vec![Input::SetPolicy(at_most(*version, *most))]);
            kit.settle();
        }
    }
}

/// Open leases per limit, as the store has them.
fn held(kit: &Kit) -> BTreeMap<LimitKey, u32> {
    let mut held = BTreeMap::new();
    for job in kit.stored.values().filter(|job| job.state.lease().is_some()) {
        let decision = job.decision.as_ref().unwrap();
        *held.entry(LimitKey::rule(job, decision)).or_default() += 1;
        if let Some(key) = job.spec.options().concurrency_key.clone() {
            let own = LimitKey { namespace: job.namespace.clone(), topic: job.spec.topic.clone(), key };
            *held.entry(own).or_default() += 1;
        }
    }
    held
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn slots_are_never_exceeded_and_all_free_at_the_end(steps in prop::collection::vec(step(), 1..120)) {
        let mut kit = Kit::new(at_most(1, 2));
        kit.join(&TOPICS, 1_000);
        let (mut version, mut most) = (1, 2);
        for step in &steps {
            take(&mut kit, step, &mut version);
            if let Step::Policy(limit) = step {
                most = most.max(*limit);
            }
            for (key, count) in held(&kit) {
                let limit = if key.topic.is_empty() { most } else { 1 };
                prop_assert!(count <= limit, "{count} of {limit} slots of {key:?} after {step:?}");
                prop_assert_eq!(kit.dispatcher.holders(&key).len(), count as usize, "{:?} after {:?}", key, step);
            }
        }
        let seen: Vec<Arc<coretex_domain::Job>> = kit.stored.values().cloned().collect();
        for _ in 0..10_000 {
            let Some((lease, _)) = kit.offers.first_key_value() else {
                if kit.view.open_count() == 0 { break }
                kit.pass(Span::secs(600));
                continue;
            };
            let lease = *lease;
            kit.report(lease, UpdateKind::Succeeded(Payload::empty()), None);
        }
        prop_assert_eq!(kit.view.open_count(), 0, "jobs are stuck");
        prop_assert!(kit.view.footprint().is_at_rest(), "{:?}", kit.view.footprint());
        for job in seen {
            if let Some(decision) = &job.decision {
                prop_assert!(kit.dispatcher.holders(&LimitKey::rule(&job, decision)).is_empty());
            }
        }
    }
}
