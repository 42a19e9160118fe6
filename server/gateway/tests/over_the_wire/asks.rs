//! Questions of workers in the middle of an attempt.

use crate::running_server::{In, Out, Server, Worker, connect, frame, hello, spec, succeeded};
use coretex_contract::v1 as pb;
use coretex_contract::v1::safety_service_client::SafetyServiceClient;
use pb::answer::Answer;
use pb::ask::Question;

const POLICY: &str = "
name: default
default: allow
rules:
  - id: no-push
    match: { topics: [ask.repo.push], labels: { resource: 'git://prod*' } }
    verdict: deny
    reason: nobody pushes to production from a job
  - id: look-twice
    match: { topics: ['ask.*'], risk_tags: [prod, write] }
    verdict: require_approval
    reason: a human looks at this
  - id: careful
    match: { topics: [ask.repo.write], labels: { team: core } }
    when: \"${job.payload.files < 5}\"
    verdict: allow_with_constraints
    constraints: { diff: { max_files: 4 } }
";

fn asking(topics: &[&str]) -> pb::Hello {
    let mut hello = hello(topics);
    hello.features.extend(["ask.policy".into(), "ask.budget".into()]);
    hello
}

/// A worker that may ask, and its one job.
async fn at_work(server: &Server, spec: pb::JobSpec) -> (Worker, pb::Assignment) {
    let mut worker = Worker::join_as(server, asking(&[&spec.topic])).await;
    server.submit(spec).await.expect("accepted");
    let assigned = worker.assigned().await.remove(0);
    (worker, assigned)
}

async fn put_in_force(server: &Server, yaml: &str) {
    let request = pb::ApplyPolicyRequest { name: "default".into(), yaml: yaml.into(), ..Default::default() };
    SafetyServiceClient::new(server.channel.clone()).apply_policy(request).await.expect("in force");
}

async fn ask(worker: &mut Worker, lease_id: u64, ask_id: u64, question: Question) -> Answer {
    worker.send(Out::Ask(pb::Ask { ask_id, lease_id, question: Some(question) })).await;
    answer(worker, lease_id, ask_id).await
}

async fn answer(worker: &mut Worker, lease_id: u64, ask_id: u64) -> Answer {
    loop {
        match worker.next().await.expect("the stream is open") {
            In::Answer(answer) => {
                assert_eq!((answer.lease_id, answer.ask_id), (lease_id, ask_id));
                return answer.answer.expect("an answer");
            }
            In::ProtocolError(error) => panic!("{error:?}"),
            _other => {}
        }
    }
}

fn may(action: &str, resource: &str, risk_tags: &[&str], args: &'static str) -> Question {
    Question::Policy(pb::PolicyAsk {
        action: action.into(),
        resource: resource.into(),
        args: (!args.is_empty()).then(|| pb::Payload::data("application/json", args.as_bytes())),
        risk_tags: risk_tags.iter().map(ToString::to_string).collect(),
        ..Default::default()
    })
}

fn spend(amount: u64) -> Question {
    let dimension = pb::BudgetDimension::Tokens.into();
    Question::Budget(pb::BudgetAsk { dimension, amount, model: "m".into() })
}

fn error(answer: Answer) -> (pb::ErrorReason, String) {
    match answer {
        Answer::Error(error) => (error.code(), error.message),
        other => panic!("not refused: {other:?}"),
    }
}

fn verdict(answer: Answer) -> pb::PolicyVerdict {
    match answer {
        Answer::Policy(verdict) => verdict,
        other => panic!("no verdict: {other:?}"),
    }
}

fn grant(answer: Answer) -> (pb::BudgetVerdict, u64, Option<u64>) {
    match answer {
        Answer::Budget(grant) => (grant.verdict(), grant.granted, grant.remaining),
        other => panic!("no grant: {other:?}"),
    }
}

#[tokio::test]
async fn actions_are_judged_by_the_policies_in_force_and_recorded() {
    let server = Server::start().await;
    put_in_force(&server, POLICY).await;
    let mut job = spec("job.agent");
    job.labels.insert("team".into(), "core".into());
    let metadata = pb::JobMetadata { risk_tags: vec!["prod".into()], ..Default::default() };
    job.metadata = Some(metadata);
    let (mut worker, lease) = at_work(&server, job).await;
    let id = lease.lease_id;
    let job_id = lease.job.clone().expect("a job").job_id;

    let denied = verdict(ask(&mut worker, id, 1, may("repo.push", "git://prod-eu", &[], "")).await);
    assert_eq!((denied.verdict(), &*denied.rule_id), (pb::Verdict::Deny, "no-push"));
    assert_eq!(denied.reason, "nobody pushes to production from a job");
    assert_eq!(denied.decision_id, format!("{job_id}/1/1"));
    let allowed = verdict(ask(&mut worker, id, 2, may("repo.push", "git://test", &[], "")).await);
    assert_eq!((allowed.verdict(), &*allowed.rule_id), (pb::Verdict::Allow, "default"));
    assert!(allowed.ttl.is_some() && allowed.constraints.is_none());
    // The risk tags of the job and those of the action together.
    let human = verdict(ask(&mut worker, id, 3, may("repo.write", "", &["write"], "{\"files\":1}")).await);
    assert_eq!((human.verdict(), &*human.rule_id), (pb::Verdict::RequireApproval, "look-twice"));
    let careful = verdict(ask(&mut worker, id, 4, may("repo.write", "", &[], "{\"files\":1}")).await);
    assert_eq!(careful.verdict(), pb::Verdict::AllowWithConstraints);
    assert!(careful.constraints.is_some_and(|all| all.fields.contains_key("diff")));
    // A condition about arguments that are not there is on the safe side.
    let unsure = verdict(ask(&mut worker, id, 5, may("repo.write", "", &[], "")).await);
    assert_eq!(unsure.verdict(), pb::Verdict::Deny);

    // The same question has the same answer, whatever is in force by now; another one under its number has none.
    put_in_force(&server, "{name: default, default: allow, rules: []}").await;
    let again = verdict(ask(&mut worker, id, 1, may("repo.push", "git://prod-eu", &[], "")).await);
    assert_eq!((again.verdict(), again.decision_id), (pb::Verdict::Deny, denied.decision_id));
    let other = ask(&mut worker, id, 1, may("repo.push", "git://test", &[], "")).await;
    assert_eq!(error(other).0, pb::ErrorReason::IdempotencyConflict);
    assert_eq!(server.get(&job_id).await.expect("the job").state(), pb::JobState::Running);
    server.stop().await;
}

#[tokio::test]
async fn budgets_are_granted_once_also_after_a_reconnect() {
    let server = Server::start().await;
    let mut job = spec("job.llm");
    job.budget = Some(pb::Budget { max_tokens_total: Some(100), ..Default::default() });
    let (mut worker, lease) = at_work(&server, job).await;
    let id = lease.lease_id;
    assert_eq!(grant(ask(&mut worker, id, 1, spend(60)).await), (pb::BudgetVerdict::Granted, 60, Some(40)));
    // The stream breaks, and the question is sent again on the next one.
    let Worker { send, receive, welcome, .. } = worker;
    drop((send, receive));
    let resume = pb::Resume {
        session_id: welcome.session_id.clone(),
        resume_token: welcome.resume_token.clone(),
        worker_id: welcome.worker_id.clone(),
        held: vec![pb::HeldLease {
            lease_id: id,
            lease_token: lease.lease_token.clone(),
            state: pb::HeldLeaseState::Running.into(),
            started_at: None,
        }],
        hello: Some(pb::Hello { worker_id: welcome.worker_id.clone(), ..asking(&["job.llm"]) }),
        ..Default::default()
    };
    let (send, receive) = connect(&server, vec![frame(Out::Resume(resume))]).await;
    let mut worker = Worker::on(send, receive, welcome);
    assert_eq!(grant(ask(&mut worker, id, 1, spend(60)).await), (pb::BudgetVerdict::Granted, 60, Some(40)));
    assert_eq!(grant(ask(&mut worker, id, 2, spend(41)).await), (pb::BudgetVerdict::Exceeded, 0, Some(40)));
    assert_eq!(grant(ask(&mut worker, id, 3, spend(40)).await), (pb::BudgetVerdict::Granted, 40, Some(0)));
    let cost =
        pb::BudgetAsk { dimension: pb::BudgetDimension::CostMicros.into(), amount: 7, model: String::new() };
    let cost = grant(ask(&mut worker, id, 4, Question::Budget(cost)).await);
    assert_eq!(cost, (pb::BudgetVerdict::Unlimited, 7, None));
    worker.report(vec![succeeded(&lease)]).await;
    let late = ask(&mut worker, id, 5, spend(1)).await;
    assert_eq!(error(late).0, pb::ErrorReason::StaleLease);
    server.stop().await;
}

#[tokio::test]
async fn many_questions_at_once_never_grant_more_than_there_is() {
    let server = Server::start().await;
    let mut job = spec("job.llm");
    job.budget = Some(pb::Budget { max_tokens_total: Some(100), ..Default::default() });
    let (mut worker, lease) = at_work(&server, job).await;
    for ask_id in 1..=50 {
        // Each of them twice: a repeat is not another question.
        for _ in 0..2 {
            let ask = pb::Ask { ask_id, lease_id: lease.lease_id, question: Some(spend(7)) };
            worker.send(Out::Ask(ask)).await;
        }
    }
    let mut granted = std::collections::BTreeMap::new();
    while granted.len() < 50 {
        let Some(In::Answer(found)) = worker.next().await else { continue };
        match found.answer.expect("an answer") {
            Answer::Budget(grant) => drop(granted.insert(found.ask_id, grant.granted)),
            Answer::Error(error) if error.code() == pb::ErrorReason::RateLimited => {
                panic!("a hundred a second may be asked: {error:?}")
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(granted.values().sum::<u64>(), 98, "fourteen times seven");
    server.stop().await;
}

#[tokio::test]
async fn questions_are_bounded_and_must_make_sense() {
    let server = Server::start().await;
    let (mut worker, lease) = at_work(&server, spec("job.ask")).await;
    let id = lease.lease_id;
    let nonsense = ask(&mut worker, id, 1, may("Repo Push", "", &[], "")).await;
    let (code, message) = error(nonsense);
    assert_eq!(code, pb::ErrorReason::InvalidField);
    assert!(message.contains("ask.policy.action"), "{message}");
    let foreign = ask(&mut worker, id + 1, 1, spend(1)).await;
    assert_eq!(error(foreign).0, pb::ErrorReason::StaleLease);
    let mut limited = 0;
    for ask_id in 1..=400 {
        let ask = pb::Ask { ask_id, lease_id: id, question: Some(spend(1)) };
        worker.send(Out::Ask(ask)).await;
    }
    for _ in 0..400 {
        let Some(In::Answer(found)) = worker.next().await else { panic!("an answer for each") };
        if let Some(Answer::Error(error)) = found.answer {
            assert_eq!(error.code(), pb::ErrorReason::RateLimited);
            assert!(error.retry_after.is_some());
            limited += 1;
        }
    }
    assert!(limited >= 1, "400 in a moment are too many");
    server.stop().await;
}

#[tokio::test]
async fn what_was_not_negotiated_is_not_answered() {
    let server = Server::start().await;
    let mut worker = Worker::join(&server, &["job.ask"]).await;
    assert!(!worker.welcome.features.iter().any(|feature| feature.starts_with("ask.")));
    server.submit(spec("job.ask")).await.expect("accepted");
    let lease = worker.assigned().await.remove(0);
    worker.send(Out::Ask(pb::Ask { ask_id: 1, lease_id: lease.lease_id, question: Some(spend(1)) })).await;
    loop {
        match worker.next().await.expect("the stream is open") {
            In::ProtocolError(error) => {
                assert_eq!(error.code(), pb::ErrorReason::FeatureNotNegotiated);
                assert_eq!(error.frame_no, 9);
                break;
            }
            In::Answer(answer) => panic!("{answer:?}"),
            _other => {}
        }
    }
    server.stop().await;
}
