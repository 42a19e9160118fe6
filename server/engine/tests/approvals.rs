//! Approvals in an engine: in one commit with their jobs, over crashes, lost outcomes and changed policies.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use coretex_domain::approval::{Approval, ApprovalId, ApprovalState, Choice, Voter};
use coretex_domain::job::{Spec, StateKind};
use coretex_domain::resource::Kind;
use coretex_domain::{Job, JobId, Namespace, Payload, Reason, Refusal, Span};
use coretex_engine::api::{Ask, Ballot, Caller, Settings};
use coretex_engine::clock::{SystemClock, SystemDice};
use coretex_engine::{Apply, ApprovalQuery, Engine};
use coretex_policy::Bundle;
use coretex_ports::memory::{Fault, Faults, MemoryStore, Settings as MemorySettings};
use coretex_ports::{Env, Group, Store, Write};
use coretex_store_embedded::{FileStore, Settings as FileSettings};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const RULES: &str = "
name: default
default: allow
rules:
  - { id: two, match: { topics: [deploy] }, verdict: require_approval, approval: { quorum: 2 } }
";

fn ns() -> Namespace {
    Namespace::new("default")
}

async fn engine(store: Arc<dyn Store>) -> Engine {
    let env = Env { clock: Arc::new(SystemClock::new()), dice: Arc::new(SystemDice::new()) };
    let settings = Settings { loops: 2, drain_grace: Span(200), ..Settings::default() };
    Engine::start(store, env, settings).await.unwrap()
}

async fn apply(engine: &Engine, yaml: &str) {
    let apply = Apply {
        bundle: Bundle::parse(yaml).unwrap(),
        yaml: yaml.into(),
        is_shadow: false,
        revision: 0,
        comment: "".into(),
    };
    engine.apply_policy(&caller("ops"), apply, None).await.unwrap();
}

fn caller(actor: &str) -> Caller {
    Caller { namespace: ns(), actor: actor.into() }
}

async fn submit(engine: &Engine, name: &str, input: &str) -> Result<Arc<Job>, Refusal> {
    let spec = Arc::new(Spec::new("deploy", Payload::json(input.to_owned())));
    let ask = Ask { spec, job_id: Some(JobId::Named(name.into())) };
    let mut answers = engine.submit(&caller("ann"), vec![ask], "", None).await?;
    answers.pop().unwrap().map(|accepted| accepted.job)
}

async fn vote(engine: &Engine, id: &str, who: &str, edited: Option<&str>) -> Result<Approval, Refusal> {
    let ballot = Ballot {
        namespace: ns(),
        id: ApprovalId::parse(id).unwrap(),
        voter: Voter::named(who),
        choice: Choice::Approve,
        comment: "".into(),
        edited: edited.map(|text| Payload::json(text.to_owned())),
    };
    engine.vote(ballot).await
}

async fn state(engine: &Engine, name: &str) -> StateKind {
    engine.get(&ns(), &JobId::Named(name.into())).await.unwrap().state.kind()
}

async fn listed(engine: &Engine) -> Vec<(String, ApprovalState)> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let accepts = Arc::new(|_: &Approval| true);
        let query = ApprovalQuery { namespace: ns(), accepts, descending: false, after, page_size: 2 };
        let page = engine.list_approvals(query).await.unwrap();
        found.extend(page.approvals.iter().map(|one| (one.id().to_string(), one.state)));
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

#[tokio::test]
async fn a_question_and_its_votes_survive_in_the_file_store() {
    let directory = tempfile::tempdir().unwrap();
    let open = || async {
        let store = FileStore::open(FileSettings::new(directory.path())).unwrap();
        engine(Arc::new(store)).await
    };
    let first = open().await;
    apply(&first, RULES).await;
    // Big enough to be written as changes where nothing of the spec has changed.
    let (input, edited) = (format!("\"{}\"", "a".repeat(9_000)), format!("\"{}\"", "b".repeat(9_000)));
    for name in ["one", "two", "three"] {
        submit(&first, name, &input).await.unwrap();
    }
    vote(&first, "apr_1_one", "bob", None).await.unwrap();
    vote(&first, "apr_1_two", "bob", Some(&edited)).await.unwrap();
    assert_eq!(first.pending_approvals(), 3);
    first.stop().await;
    drop(first);
    let second = open().await;
    assert_eq!(second.pending_approvals(), 3);
    assert!(second.resources(Kind::Approval, &ns()).is_empty(), "the catalog does not carry them");
    assert_eq!(state(&second, "one").await, StateKind::AwaitingApproval);
    let done = vote(&second, "apr_1_one", "cid", None).await.unwrap();
    assert_eq!(done.state, ApprovalState::Approved);
    assert_eq!(state(&second, "one").await, StateKind::Scheduled);
    vote(&second, "apr_2_two", "cid", None).await.unwrap();
    let two = second.get(&ns(), &JobId::Named("two".into())).await.unwrap();
    assert_eq!((two.state.kind(), &two.spec.payload.data[..]), (StateKind::Scheduled, edited.as_bytes()));
    // The submit that made it is known again, although its input is another one now.
    assert_eq!(submit(&second, "two", &input).await.unwrap().id, two.id);
    assert_eq!(submit(&second, "two", &edited).await.unwrap_err().reason, Reason::JobExists);
    let wanted = [
        ("apr_1_one", ApprovalState::Approved),
        ("apr_1_two", ApprovalState::Voided),
        ("apr_1_three", ApprovalState::Pending),
        ("apr_2_two", ApprovalState::Approved),
    ];
    let found: BTreeMap<_, _> = listed(&second).await.into_iter().collect();
    assert_eq!(found.len(), 4);
    for (id, state) in wanted {
        assert_eq!(found.get(id), Some(&state), "{id}");
    }
    assert_eq!(vote(&second, "apr_1_one", "dan", None).await.unwrap_err().reason, Reason::ApprovalDecided);
    assert_eq!(vote(&second, "apr_7_one", "dan", None).await.unwrap_err().reason, Reason::ApprovalNotFound);
    second.cancel(&caller("ann"), &JobId::Named("three".into()), "".into()).await.unwrap();
    assert_eq!(
        second.approval(&ns(), &ApprovalId::parse("apr_1_three").unwrap()).await.unwrap().state,
        ApprovalState::Cancelled
    );
    assert_eq!(second.pending_approvals(), 0);
    second.stop().await;
}

#[tokio::test]
async fn a_policy_that_changed_while_the_engine_was_down_asks_anew() {
    let store = MemoryStore::default();
    let first = engine(Arc::new(store.clone())).await;
    apply(&first, RULES).await;
    submit(&first, "one", "1").await.unwrap();
    vote(&first, "apr_1_one", "bob", None).await.unwrap();
    first.stop().await;
    // As if the loops had not heard of it before the end: the catalog has it, the job does not.
    let env = Env { clock: Arc::new(SystemClock::new()), dice: Arc::new(SystemDice::new()) };
    let built_in = coretex_domain::policy::Policy::built_in_at(7);
    let settings = Settings { policy: Arc::new(built_in), ..Settings::default() };
    let second = Engine::start(Arc::new(store.reopen()), env, settings).await.unwrap();
    assert_eq!(state(&second, "one").await, StateKind::AwaitingApproval, "the same policy is in force again");
    second.delete_policy("default", false, 0, None).await.unwrap();
    assert_eq!(state(&second, "one").await, StateKind::Scheduled);
    let old = second.approval(&ns(), &ApprovalId::parse("apr_1_one").unwrap()).await.unwrap();
    assert_eq!((old.state, &*old.note), (ApprovalState::Voided, "the policy changed"));
    second.stop().await;
}

/// Loses the outcome of the next commit that holds an approval.
#[derive(Default)]
struct Lost(AtomicBool, AtomicBool);

impl Faults for Lost {
    fn on_commit(&self, group: &Group) -> Fault {
        let is_ours = |write: &Write| matches!(write, Write::Resource(one) if one.kind == Kind::Approval);
        if !group.writes.iter().any(is_ours) || !self.0.swap(false, Ordering::AcqRel) {
            return Fault::Pass;
        }
        if self.1.load(Ordering::Acquire) { Fault::UnknownCommitted } else { Fault::UnknownLost }
    }
}

#[tokio::test]
async fn a_vote_whose_fate_is_not_known_is_given_again_and_counts_once() {
    for was_committed in [false, true] {
        let faults = Arc::new(Lost::default());
        let settings = MemorySettings { faults: Some(faults.clone()), ..MemorySettings::default() };
        let engine = engine(Arc::new(MemoryStore::new(settings))).await;
        apply(&engine, RULES).await;
        submit(&engine, "one", "1").await.unwrap();
        for who in ["bob", "cid"] {
            faults.1.store(was_committed, Ordering::Release);
            faults.0.store(true, Ordering::Release);
            assert_eq!(
                vote(&engine, "apr_1_one", who, None).await.unwrap_err().reason,
                Reason::OutcomeUnknown
            );
            let mut tries = 0;
            let told = loop {
                match vote(&engine, "apr_1_one", who, None).await {
                    Ok(told) => break told,
                    Err(refusal) => assert!(
                        tries < 500 && refusal.retry_after.is_some(),
                        "{who} {was_committed}: {refusal}; {:?}",
                        listed(&engine).await
                    ),
                }
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            };
            assert_eq!(told.votes.iter().filter(|vote| &*vote.actor == who).count(), 1, "{told:?}");
        }
        assert_eq!(state(&engine, "one").await, StateKind::Scheduled);
        engine.stop().await;
    }
}

const QUESTIONS: &str = "
name: default
default: allow
rules:
  - { id: asked, match: { topics: [sys.approval] }, verdict: require_approval, approval: { quorum: 2 } }
";

#[tokio::test]
async fn an_answered_question_is_handed_back_with_who_said_yes_and_what_they_agreed_to() {
    let engine = engine(Arc::new(coretex_ports::memory::MemoryStore::new(Default::default()))).await;
    apply(&engine, QUESTIONS).await;
    let spec = Spec::new("sys.approval", Payload::json(r#"{"title":"Publish?","details":{"files":9}}"#));
    let ask = Ask { spec: Arc::new(spec), job_id: Some(JobId::Named("q".into())) };
    engine.submit(&caller("ann"), vec![ask], "", None).await.unwrap().remove(0).unwrap();
    let edited = r#"{"title":"Publish?","details":{"files":3}}"#;
    vote(&engine, "apr_1_q", "bob", Some(edited)).await.unwrap();
    assert_eq!(state(&engine, "q").await, StateKind::AwaitingApproval);
    vote(&engine, "apr_2_q", "cid", None).await.unwrap();
    let job = engine.wait(&ns(), &JobId::Named("q".into()), Span::secs(20)).await.unwrap();
    assert_eq!(job.state.kind(), StateKind::Succeeded, "{:?}", job.failure());
    let result: serde_json::Value = serde_json::from_slice(&job.result.as_ref().unwrap().data).unwrap();
    let wanted = serde_json::json!(
        { "approved": true, "by": ["bob", "cid"], "comment": "", "details": { "files": 3 } }
    );
    assert_eq!(result, wanted);
    assert_eq!(job.worker_id.as_deref(), Some("house"));
    engine.stop().await;
}
