//! Approvals: whose votes count, what they make of a job, and that nothing else does.

use crate::kit::{Kit, constrained, policy};
use coretex_domain::approval::{Approval, ApprovalId, ApprovalState, Choice, Voter};
use coretex_domain::job::spec::Timeouts;
use coretex_domain::job::{Spec, StateKind};
use coretex_domain::policy::{ApprovalTerms, OnExpiry, Policy, Terms, Verdict};
use coretex_domain::{JobKey, Namespace, Payload, Reason, Refusal, Span};
use coretex_kernel::input::{Ballot, HandOver};
use coretex_kernel::{Input, Reply};
use proptest::prelude::*;
use std::sync::Arc;

fn asking(version: u64, terms: ApprovalTerms) -> Arc<Policy> {
    let terms = Terms { approval: Some(terms), ..Terms::default() };
    policy(version, vec![("deploy", Verdict::RequireApproval, terms)])
}

fn allowing(version: u64) -> Arc<Policy> {
    policy(version, Vec::new())
}

fn quorum(quorum: u32) -> ApprovalTerms {
    ApprovalTerms { quorum, ..ApprovalTerms::default() }
}

fn deploy() -> Spec {
    Spec::new("deploy", Payload::json("{\"to\":\"prod\"}"))
}

fn vote_as(kit: &mut Kit, id: ApprovalId, voter: Voter, choice: Choice, edited: Option<&str>) -> Reply {
    let ballot = Ballot {
        namespace: Namespace::new("default"),
        id,
        voter,
        choice,
        comment: "seen".into(),
        edited: edited.map(|text| Payload::json(text.to_owned())),
    };
    kit.turn(vec![Input::Vote(Box::new(ballot))]).pop().unwrap()
}

fn vote(kit: &mut Kit, key: JobKey, who: &str, choice: Choice) -> Result<Arc<Approval>, Refusal> {
    let id = kit.approval_id(key);
    match vote_as(kit, id, Voter::named(who), choice, None) {
        Reply::Approval(answer) => answer,
        other => panic!("not an answer: {other:?}"),
    }
}

fn approve(kit: &mut Kit, key: JobKey, who: &str) -> Result<Arc<Approval>, Refusal> {
    vote(kit, key, who, Choice::Approve)
}

fn edit(kit: &mut Kit, key: JobKey, who: &str, input: &str) -> Result<Arc<Approval>, Refusal> {
    let id = kit.approval_id(key);
    match vote_as(kit, id, Voter::named(who), Choice::Approve, Some(input)) {
        Reply::Approval(answer) => answer,
        other => panic!("not an answer: {other:?}"),
    }
}

fn delegate(kit: &mut Kit, key: JobKey, from: &str, to: &str) -> Result<Arc<Approval>, Refusal> {
    let (namespace, id) = (Namespace::new("default"), kit.approval_id(key));
    let order = HandOver { namespace, id, voter: Voter::named(from), to: to.into(), comment: "away".into() };
    match kit.turn(vec![Input::Delegate(Box::new(order))]).pop().unwrap() {
        Reply::Approval(answer) => answer,
        other => panic!("not an answer: {other:?}"),
    }
}

fn reason(answer: Result<Arc<Approval>, Refusal>) -> Reason {
    answer.unwrap_err().reason
}

#[test]
fn as_many_people_as_the_quorum_let_a_job_in() {
    let mut kit = Kit::new(asking(1, quorum(2)));
    let key = kit.submit_by(Some("ann"), deploy());
    assert_eq!(kit.state(key), StateKind::AwaitingApproval);
    let revision = kit.stored[&key].revision;
    let asked = approve(&mut kit, key, "bob").unwrap();
    assert_eq!((asked.state, asked.votes.len()), (ApprovalState::Pending, 1));
    assert_eq!(kit.stored[&key].revision, revision, "a vote below the quorum is none of the job's history");
    assert_eq!(approve(&mut kit, key, "bob").unwrap(), asked, "said again, it changes nothing");
    assert!(kit.why(key)[0].message.contains("1 of 2 approvals (bob)"), "{:?}", kit.why(key));
    let done = approve(&mut kit, key, "cid").unwrap();
    assert_eq!((done.state, &*done.note), (ApprovalState::Approved, "by bob, cid: seen"));
    assert_eq!(kit.state(key), StateKind::Scheduled);
    assert!(matches!(
        vote_as(&mut kit, done.id(), Voter::named("dan"), Choice::Approve, None),
        Reply::NotOpen
    ));
    assert_eq!(kit.view.footprint().approvals, 0);
}

#[test]
fn nobody_approves_what_they_asked_for_unless_the_rule_says_so() {
    let mut kit = Kit::new(asking(1, quorum(1)));
    let key = kit.submit_by(Some("ann"), deploy());
    assert_eq!(reason(approve(&mut kit, key, "ann")), Reason::ApprovalOwnRequest);
    assert_eq!(reason(edit(&mut kit, key, "ann", "{}")), Reason::ApprovalOwnRequest);
    assert_eq!(kit.state(key), StateKind::AwaitingApproval);
    let mut kit = Kit::new(asking(1, ApprovalTerms { requester_may_approve: true, ..quorum(1) }));
    let key = kit.submit_by(Some("ann"), deploy());
    approve(&mut kit, key, "ann").unwrap();
    assert_eq!(kit.state(key), StateKind::Scheduled);
}

#[test]
fn approvers_are_names_or_roles() {
    let mut kit =
        Kit::new(asking(1, ApprovalTerms { approvers: vec!["oncall".into(), "bob".into()], ..quorum(2) }));
    let key = kit.submit_by(Some("ann"), deploy());
    assert_eq!(reason(approve(&mut kit, key, "eve")), Reason::NotAnApprover);
    assert_eq!(reason(vote(&mut kit, key, "eve", Choice::Reject)), Reason::NotAnApprover);
    approve(&mut kit, key, "bob").unwrap();
    let (id, eve) = (kit.approval_id(key), Voter { name: "eve".into(), roles: vec!["oncall".into()] });
    assert!(matches!(vote_as(&mut kit, id, eve, Choice::Approve, None), Reply::Approval(Ok(_))));
    assert_eq!(kit.state(key), StateKind::Scheduled);
}

#[test]
fn one_no_ends_it() {
    let mut kit = Kit::new(asking(1, quorum(3)));
    let key = kit.submit_by(Some("ann"), deploy());
    approve(&mut kit, key, "bob").unwrap();
    let ended = vote(&mut kit, key, "bob", Choice::Reject).unwrap();
    assert_eq!((ended.state, &*ended.note), (ApprovalState::Rejected, "by bob: seen"));
    let job = &kit.stored[&key];
    assert_eq!(job.state.kind(), StateKind::Denied);
    assert_eq!(job.failure().map(|f| (&*f.kind, &*f.message)), Some(("APPROVAL_REJECTED", "by bob: seen")));
    assert!(kit.view.footprint().is_at_rest());
}

#[test]
fn a_delegated_vote_is_the_delegators_and_counts_once() {
    let terms = ApprovalTerms { approvers: vec!["bob".into(), "cid".into(), "ann".into()], ..quorum(2) };
    let mut kit = Kit::new(asking(1, terms));
    let key = kit.submit_by(Some("ann"), deploy());
    assert_eq!(reason(delegate(&mut kit, key, "eve", "dan")), Reason::NotAnApprover);
    assert_eq!(reason(delegate(&mut kit, key, "ann", "dan")), Reason::ApprovalOwnRequest);
    assert_eq!(reason(delegate(&mut kit, key, "bob", "ann")), Reason::ApprovalOwnRequest);
    assert_eq!(reason(delegate(&mut kit, key, "bob", "bob")), Reason::InvalidField);
    delegate(&mut kit, key, "bob", "eve").unwrap();
    delegate(&mut kit, key, "cid", "eve").unwrap();
    let voted = approve(&mut kit, key, "eve").unwrap();
    assert_eq!(voted.votes[0].on_behalf_of.as_deref(), Some("bob"));
    assert_eq!(approve(&mut kit, key, "eve").unwrap(), voted, "one person, one vote");
    assert_eq!(approve(&mut kit, key, "bob").unwrap(), voted, "bob has voted, by eve's hand");
    assert_eq!(reason(delegate(&mut kit, key, "bob", "dan")), Reason::ApprovalVoted);
    assert_eq!(kit.state(key), StateKind::AwaitingApproval);
    approve(&mut kit, key, "cid").unwrap();
    assert_eq!(kit.state(key), StateKind::Scheduled);
}

#[test]
fn without_names_all_votes_are_one() {
    let mut kit = Kit::new(asking(1, ApprovalTerms { approvers: vec!["bob".into()], ..quorum(2) }));
    let key = kit.submit(deploy());
    let once = approve(&mut kit, key, "").unwrap();
    assert_eq!(approve(&mut kit, key, "").unwrap(), once);
    assert_eq!(kit.state(key), StateKind::AwaitingApproval);
    assert_eq!(reason(delegate(&mut kit, key, "", "bob")), Reason::UnsupportedByStore);
    let mut kit = Kit::new(asking(1, quorum(1)));
    let key = kit.submit(deploy());
    approve(&mut kit, key, "").unwrap();
    assert_eq!(kit.state(key), StateKind::Scheduled);
}

#[test]
fn silence_means_what_the_terms_say() {
    for (on_expiry, state) in
        [(OnExpiry::Reject, StateKind::Denied), (OnExpiry::Approve, StateKind::Scheduled)]
    {
        let terms = ApprovalTerms { expires: Span::secs(10), on_expiry, ..quorum(1) };
        let mut kit = Kit::new(asking(1, terms));
        let key = kit.submit(deploy());
        kit.pass(Span(9_999));
        assert_eq!(kit.state(key), StateKind::AwaitingApproval, "not early");
        kit.pass(Span(1));
        assert_eq!((kit.state(key), kit.asked(key).state), (state, ApprovalState::Expired));
        assert_eq!(&*kit.asked(key).note, "nobody decided in time");
    }
}

#[test]
fn another_policy_asks_anew_and_no_vote_carries_over() {
    let mut kit = Kit::new(asking(1, quorum(2)));
    let (one, two) = (kit.submit(deploy()), kit.submit(deploy()));
    approve(&mut kit, one, "bob").unwrap();
    let first = kit.approval_id(one);
    kit.turn(vec![Input::SetPolicy(asking(2, quorum(2)))]);
    assert_eq!(kit.approvals[&(one, 1)].state, ApprovalState::Voided);
    let asked = kit.asked(one).clone();
    assert_eq!((asked.round, asked.policy_version, asked.votes.len()), (2, 2, 0));
    assert!(matches!(vote_as(&mut kit, first, Voter::named("cid"), Choice::Approve, None), Reply::NotOpen));
    approve(&mut kit, one, "cid").unwrap();
    assert_eq!(kit.state(one), StateKind::AwaitingApproval);
    // Set again, the same policy is the same question.
    kit.turn(vec![Input::SetPolicy(asking(2, quorum(2)))]);
    assert_eq!(kit.asked(one).round, 2);
    kit.turn(vec![Input::SetPolicy(allowing(3))]);
    assert_eq!((kit.state(one), kit.state(two)), (StateKind::Scheduled, StateKind::Scheduled));
}

#[test]
fn an_answer_under_an_older_policy_does_not_hand_the_job_out() {
    let mut kit = Kit::new(asking(1, quorum(1)));
    let key = kit.submit(deploy());
    approve(&mut kit, key, "bob").unwrap();
    kit.turn(vec![Input::SetPolicy(asking(2, quorum(1)))]);
    kit.join(&["deploy"], 1);
    kit.settle();
    assert_eq!((kit.state(key), kit.asked(key).round), (StateKind::AwaitingApproval, 2));
    approve(&mut kit, key, "bob").unwrap();
    kit.settle();
    assert_eq!(
        kit.state(key),
        StateKind::Dispatched,
        "one answer lasts for one policy, and for all attempts"
    );
    let lease = kit.lease_of(key);
    kit.fail(lease, None);
    kit.pass(Span::secs(20));
    assert_eq!(kit.state(key), StateKind::Dispatched);
}

#[test]
fn an_edited_input_is_another_question() {
    let mut kit = Kit::new(asking(1, quorum(2)));
    let key = kit.submit_by(Some("ann"), deploy());
    let submitted = kit.stored[&key].fingerprint();
    approve(&mut kit, key, "bob").unwrap();
    let asked = edit(&mut kit, key, "cid", "{\"to\":\"staging\"}").unwrap();
    assert_eq!((asked.round, asked.state, asked.is_edited), (2, ApprovalState::Pending, true));
    assert_eq!(asked.votes.iter().map(|v| &*v.actor).collect::<Vec<_>>(), ["cid"], "bob saw something else");
    let old = &kit.approvals[&(key, 1)];
    assert_eq!((old.state, &*old.note), (ApprovalState::Voided, "the input was edited by cid: seen"));
    assert_ne!(old.spec_hash, asked.spec_hash);
    let job = &kit.stored[&key];
    assert_eq!(&job.spec.payload.data[..], b"{\"to\":\"staging\"}");
    assert_eq!(job.fingerprint(), submitted, "a repeat of the submit still finds it");
    assert_ne!(job.spec.fingerprint(), submitted);
    approve(&mut kit, key, "bob").unwrap();
    assert_eq!(kit.state(key), StateKind::Scheduled);
    // The same input is no edit.
    let key = kit.submit_by(Some("ann"), deploy());
    assert_eq!(edit(&mut kit, key, "cid", "{\"to\":\"prod\"}").unwrap().round, 1);
}

#[test]
fn an_edit_that_is_enough_goes_on_in_one_turn() {
    let mut kit = Kit::new(asking(1, quorum(1)));
    let key = kit.submit_by(Some("ann"), deploy());
    let done = edit(&mut kit, key, "bob", "{}").unwrap();
    assert_eq!((done.round, done.state), (2, ApprovalState::Approved));
    assert_eq!(kit.state(key), StateKind::Scheduled);
}

#[test]
fn an_end_of_the_job_ends_the_question() {
    let mut kit = Kit::new(asking(1, quorum(1)));
    let key = kit.submit(deploy());
    kit.cancel(key);
    assert_eq!(
        (kit.asked(key).state, &*kit.asked(key).note),
        (ApprovalState::Cancelled, "the job was cancelled")
    );
    let mut spec = deploy();
    spec.options_mut().timeouts = Timeouts { total: Some(Span::secs(5)), ..Timeouts::default() };
    let key = kit.submit(spec);
    kit.pass(Span::secs(5));
    assert_eq!((kit.state(key), kit.asked(key).state), (StateKind::TimedOut, ApprovalState::Cancelled));
    assert!(kit.view.footprint().is_at_rest());
}

#[test]
fn what_people_take_to_answer_is_not_held_against_the_job() {
    let mut kit = Kit::new(asking(1, quorum(1)));
    let mut spec = deploy();
    spec.options_mut().timeouts = Timeouts { schedule_to_start: Some(Span::secs(5)), ..Timeouts::default() };
    let key = kit.submit(spec);
    kit.pass(Span::hours(1));
    approve(&mut kit, key, "bob").unwrap();
    kit.pass(Span(4_999));
    assert_eq!(kit.state(key), StateKind::Scheduled);
    kit.pass(Span(1));
    assert_eq!(kit.state(key), StateKind::Expired);
}

#[test]
fn questions_and_votes_survive_a_restart() {
    let mut kit = Kit::new(asking(1, quorum(2)));
    let key = kit.submit_by(Some("ann"), deploy());
    approve(&mut kit, key, "bob").unwrap();
    kit.restart();
    let revision = kit.asked(key).revision;
    kit.turn(Vec::new());
    assert_eq!(kit.asked(key).revision, revision, "nothing to write");
    approve(&mut kit, key, "cid").unwrap();
    assert_eq!(kit.state(key), StateKind::Scheduled);
}

#[test]
fn a_job_that_waits_without_a_record_of_the_question_gets_one() {
    let mut kit = Kit::new(asking(1, quorum(1)));
    let key = kit.submit(deploy());
    let asked = kit.asked(key).clone();
    kit.approvals.clear();
    kit.restart();
    kit.turn(Vec::new());
    assert_eq!(*kit.asked(key), asked);
    approve(&mut kit, key, "bob").unwrap();
    assert_eq!(kit.state(key), StateKind::Scheduled);
}

#[derive(Clone, Debug)]
enum Step {
    Submit(u8),
    Vote(usize, u8, bool),
    Edit(usize, u8, u8),
    Delegate(usize, u8, u8),
    Policy(u8),
    Pass(u16),
    Cancel(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let job = 0..8_usize;
    prop_oneof![
        3 => (0..4_u8).prop_map(Step::Submit),
        8 => (job.clone(), 0..5_u8, prop::bool::weighted(0.85)).prop_map(|(j, w, yes)| Step::Vote(j, w, yes)),
        2 => (job.clone(), 0..5_u8, 0..3_u8).prop_map(|(j, w, input)| Step::Edit(j, w, input)),
        2 => (job.clone(), 0..5_u8, 0..5_u8).prop_map(|(j, from, to)| Step::Delegate(j, from, to)),
        1 => (0..4_u8).prop_map(Step::Policy),
        2 => (0..8_000_u16).prop_map(Step::Pass),
        1 => job.prop_map(Step::Cancel),
        1 => Just(Step::Restart),
    ]
}

const PEOPLE: [&str; 5] = ["ann", "bob", "cid", "dan", ""];

fn any_policy(version: u64, which: u8) -> Arc<Policy> {
    let terms = |approvers: &[&str], quorum, on_expiry| ApprovalTerms {
        approvers: approvers.iter().map(|name| (*name).into()).collect(),
        quorum,
        expires: Span::secs(20),
        on_expiry,
        requester_may_approve: quorum == 3,
    };
    match which {
        0 => asking(version, terms(&[], 2, OnExpiry::Reject)),
        1 => asking(version, terms(&["bob", "cid"], 2, OnExpiry::Approve)),
        2 => asking(version, terms(&["ann", "bob", "cid"], 3, OnExpiry::Reject)),
        _ => {
            let (verdict, terms) = constrained(|c| c.budgets.max_retries = Some(0));
            policy(version, vec![("deploy", verdict, terms)])
        }
    }
}

fn take(kit: &mut Kit, step: &Step, jobs: &mut Vec<JobKey>, version: &mut u64) {
    let at = |n: &usize, jobs: &[JobKey]| jobs.get(n % jobs.len().max(1)).copied();
    let who = |n: &u8| PEOPLE[usize::from(*n)];
    let id = |kit: &Kit, key: JobKey| (kit.stored[&key].approval_round() > 0).then(|| kit.approval_id(key));
    match step {
        Step::Submit(by) => {
            let by = Some(who(by)).filter(|name| !name.is_empty());
            jobs.push(kit.submit_by(by, deploy()));
        }
        Step::Vote(job, by, yes) => {
            let Some((key, id)) = at(job, jobs).and_then(|key| Some((key, id(kit, key)?))) else { return };
            let choice = if *yes { Choice::Approve } else { Choice::Reject };
            let is_over = !kit.asked(key).is_pending();
            let reply = vote_as(kit, id, Voter::named(who(by)), choice, None);
            assert!(!is_over || matches!(reply, Reply::NotOpen), "a late vote was taken: {reply:?}");
        }
        Step::Edit(job, by, input) => {
            let Some(id) = at(job, jobs).and_then(|key| id(kit, key)) else { return };
            let input = ["{}", "{\"to\":\"prod\"}", "[1]"][usize::from(*input)];
            vote_as(kit, id, Voter::named(who(by)), Choice::Approve, Some(input));
        }
        Step::Delegate(job, from, to) => {
            let Some(key) = at(job, jobs) else { return };
            if kit.state(key) == StateKind::AwaitingApproval {
                let _ = delegate(kit, key, who(from), who(to));
            }
        }
        Step::Policy(which) => {
            *version += 1;
            kit.turn(vec![Input::SetPolicy(any_policy(*version, *which))]);
        }
        Step::Pass(ms) => kit.pass(Span(u64::from(*ms))),
        Step::Cancel(job) => {
            if let Some(key) = at(job, jobs) {
                kit.cancel(key);
            }
        }
        Step::Restart => kit.restart(),
    }
}

/// What an approval that people gave must have behind it.
fn check(approval: &Approval) {
    let names: Vec<&str> = approval.approvers().into_iter().map(|name| &**name).collect();
    let distinct: std::collections::BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(distinct.len(), names.len());
    let actors: std::collections::BTreeSet<_> =
        approval.votes.iter().filter(|v| v.choice == Choice::Approve).map(|v| &v.actor).collect();
    if approval.state == ApprovalState::Approved {
        let quorum = approval.terms.quorum as usize;
        assert!(names.len() >= quorum && actors.len() >= quorum, "{approval:?}");
    }
    let own = &*approval.requester;
    let voted = names.contains(&own) || actors.iter().any(|actor| ***actor == *own);
    assert!(own.is_empty() || approval.terms.requester_may_approve || !voted, "{approval:?}");
    let known = &approval.terms.approvers;
    let is_known = |name: &&str| known.is_empty() || name.is_empty() || known.iter().any(|k| **k == **name);
    assert!(names.iter().all(is_known), "{approval:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    // The kit itself checks after each turn that questions and jobs agree, and that no end is changed.
    #[test]
    fn decisions_rest_on_the_votes_they_need(steps in prop::collection::vec(step(), 1..80)) {
        let mut kit = Kit::new(any_policy(1, 0));
        let (mut version, mut jobs) = (1, Vec::new());
        for step in &steps {
            take(&mut kit, step, &mut jobs, &mut version);
            kit.approvals.values().for_each(|approval| check(approval));
        }
        for key in jobs {
            kit.cancel(key);
        }
        kit.settle();
        prop_assert!(kit.view.footprint().is_at_rest(), "{:?}", kit.view.footprint());
    }
}
