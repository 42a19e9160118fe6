//! Jobs that workers make of their jobs, and the receipts of what was asked.

use crate::running_server::{In, Out, Server, Worker, hello, reason, spec, succeeded};
use coretex_contract::v1 as pb;
use coretex_contract::v1::namespace_service_client::NamespaceServiceClient;
use pb::answer::Answer;
use pb::ask::Question;
use tonic::{Code, Request};

const TEAM: &str = "team-a";

fn asking(topics: &[&str], namespace: &str) -> pb::Hello {
    let mut hello = pb::Hello { namespace: namespace.into(), ..hello(topics) };
    hello.features.extend(["ask.policy", "ask.budget", "ask.spawn"].map(Into::into));
    hello
}

fn within<T>(message: T, namespace: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("coretex-namespace", namespace.parse().expect("a header"));
    request
}

async fn namespace(server: &Server, settings: pb::NamespaceSettings) {
    let namespace = TEAM.into();
    let request = pb::CreateNamespaceRequest { namespace, settings: Some(settings), ..Default::default() };
    NamespaceServiceClient::new(server.channel.clone()).create_namespace(request).await.expect("created");
}

/// A worker of a namespace, and its one job.
async fn at_work(server: &Server, parent: pb::JobSpec, namespace: &str) -> (Worker, pb::Assignment) {
    let mut worker = Worker::join_as(server, asking(&[&parent.topic], namespace)).await;
    let request = pb::SubmitJobRequest { spec: Some(parent), ..Default::default() };
    server.jobs().submit_job(within(request, namespace)).await.expect("accepted");
    let assigned = worker.assigned().await.remove(0);
    (worker, assigned)
}

async fn ask(worker: &mut Worker, lease_id: u64, ask_id: u64, question: Question) -> Answer {
    worker.send(Out::Ask(pb::Ask { ask_id, lease_id, question: Some(question) })).await;
    loop {
        match worker.next().await.expect("the stream is open") {
            In::Answer(answer) => return answer.answer.expect("an answer"),
            In::ProtocolError(error) => panic!("{error:?}"),
            _other => {}
        }
    }
}

fn spawn(specs: Vec<pb::JobSpec>) -> Question {
    Question::Spawn(pb::SpawnAsk { specs, ..Default::default() })
}

fn made(answer: Answer) -> Vec<String> {
    match answer {
        Answer::Spawned(spawned) => spawned.job_ids,
        other => panic!("not made: {other:?}"),
    }
}

fn refused(answer: Answer) -> (pb::ErrorReason, String) {
    match answer {
        Answer::Error(error) => (error.code(), error.message),
        other => panic!("not refused: {other:?}"),
    }
}

async fn children(server: &Server, parent: &str, namespace: &str) -> Vec<String> {
    let request = pb::ListJobsRequest {
        filter: format!("parent_job_id = \"{parent}\""),
        order_by: "create_time asc".into(),
        ..Default::default()
    };
    let found = server.jobs().list_jobs(within(request, namespace)).await.expect("a page").into_inner();
    found.jobs.into_iter().map(|job| job.job_id).collect()
}

fn id_of(lease: &pb::Assignment) -> String {
    lease.job.clone().expect("a job").job_id
}

#[tokio::test]
async fn children_live_in_the_namespace_of_their_parent_and_are_found_by_it() {
    let server = Server::start().await;
    namespace(&server, pb::NamespaceSettings::default()).await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = pb::JobSpec { trace_id: trace.into(), ..spec("job.parent") };
    let (mut worker, lease) = at_work(&server, parent, TEAM).await;
    let parent = id_of(&lease);
    let own = pb::JobSpec { parent_job_id: parent.clone(), priority: Some(9), ..spec("job.child") };
    let ids = made(ask(&mut worker, lease.lease_id, 1, spawn(vec![spec("job.child"), own])).await);
    assert_eq!(ids, children(&server, &parent, TEAM).await);
    assert!(children(&server, &parent, "default").await.is_empty());
    let get = pb::GetJobRequest { job_id: ids[0].clone(), ..Default::default() };
    let child = server.jobs().get_job(within(get.clone(), TEAM)).await.expect("there").into_inner().job;
    let child = child.and_then(|job| job.spec).expect("a spec");
    assert_eq!((&*child.parent_job_id, &*child.trace_id), (&*parent, trace));
    let foreign = server.jobs().get_job(within(get, "default")).await.expect_err("foreign");
    assert_eq!(foreign.code(), Code::NotFound);
    // Asked again under its number, and under another one with the same name.
    let again = vec![
        spec("job.child"),
        pb::JobSpec { parent_job_id: parent.clone(), priority: Some(9), ..spec("job.child") },
    ];
    assert_eq!(made(ask(&mut worker, lease.lease_id, 1, spawn(again.clone())).await), ids);
    let named = pb::SpawnAsk { specs: again, name: "1".into(), ..Default::default() };
    assert_eq!(made(ask(&mut worker, lease.lease_id, 2, Question::Spawn(named)).await), ids);
    let other = refused(ask(&mut worker, lease.lease_id, 1, spawn(vec![spec("job.other")])).await);
    assert_eq!(other.0, pb::ErrorReason::IdempotencyConflict);
    assert_eq!(children(&server, &parent, TEAM).await.len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn assignments_of_children_name_the_job_above_them_all() {
    let server = Server::start().await;
    let (mut worker, lease) = at_work(&server, spec("job.parent"), "default").await;
    let top = lease.job.clone().expect("a job");
    assert_eq!((&*top.parent_job_id, &*top.root_job_id), ("", ""), "nobody made it");
    made(ask(&mut worker, lease.lease_id, 1, spawn(vec![spec("job.child")])).await);
    let mut below = Worker::join_as(&server, asking(&["job.child"], "default")).await;
    let child = below.assigned().await.remove(0);
    let child_id = id_of(&child);
    assert_eq!(child.job.clone().expect("a job").root_job_id, top.job_id);
    made(ask(&mut below, child.lease_id, 1, spawn(vec![spec("job.child")])).await);
    let grandchild = below.assigned().await.remove(0).job.expect("a job");
    assert_eq!((grandchild.parent_job_id, grandchild.root_job_id), (child_id, top.job_id));
    server.stop().await;
}

#[tokio::test]
async fn all_are_made_or_none_and_the_item_is_named() {
    let server = Server::start().await;
    let quotas = Some(pb::NamespaceQuotas { open_jobs_max: Some(4), ..Default::default() });
    let settings = pb::NamespaceSettings { topics_declared: true, quotas, ..Default::default() };
    namespace(&server, settings).await;
    for topic in ["job.parent", "job.child"] {
        let settings = Some(pb::TopicSettings { max_running: Some(5), ..Default::default() });
        let declare = pb::UpdateTopicRequest { topic: topic.into(), settings, ..Default::default() };
        server.topics().update_topic(within(declare, TEAM)).await.expect("declared");
    }
    let (mut worker, lease) = at_work(&server, spec("job.parent"), TEAM).await;
    let parent = id_of(&lease);
    let mut number = 0;
    let mut answer = async |specs| {
        number += 1;
        refused(ask(&mut worker, lease.lease_id, number, spawn(specs)).await)
    };
    let fine = || spec("job.child");
    let (code, message) = answer(vec![fine(), spec("job.undeclared")]).await;
    assert_eq!(code, pb::ErrorReason::TopicNotFound);
    assert!(message.contains("ask.spawn.specs[1]") && message.contains("job.undeclared"), "{message}");
    let foreign = pb::JobSpec { parent_job_id: "somebody".into(), ..fine() };
    let (code, message) = answer(vec![fine(), fine(), foreign]).await;
    assert_eq!(code, pb::ErrorReason::InvalidField);
    assert!(message.contains("ask.spawn.specs[2].parent_job_id"), "{message}");
    let (code, message) = answer(vec![fine(), pb::JobSpec { priority: Some(77), ..fine() }]).await;
    assert_eq!(code, pb::ErrorReason::InvalidField);
    assert!(message.contains("ask.spawn.specs[1].priority"), "{message}");
    let (code, message) = answer(vec![fine(); 4]).await;
    assert_eq!(code, pb::ErrorReason::QuotaExceeded);
    assert!(message.contains("open_jobs_max"), "{message}");
    assert!(children(&server, &parent, TEAM).await.is_empty(), "none of them");
    assert_eq!(made(ask(&mut worker, lease.lease_id, 9, spawn(vec![fine(); 3])).await).len(), 3);
    server.stop().await;
}

#[tokio::test]
async fn children_are_not_made_without_the_feature() {
    let server = Server::start().await;
    let mut worker = Worker::join(&server, &["job.parent"]).await;
    server.submit(spec("job.parent")).await.expect("accepted");
    let lease = worker.assigned().await.remove(0);
    let question = Some(spawn(vec![spec("job.child")]));
    worker.send(Out::Ask(pb::Ask { ask_id: 1, lease_id: lease.lease_id, question })).await;
    loop {
        match worker.next().await.expect("the stream is open") {
            In::ProtocolError(error) => {
                assert_eq!(error.code(), pb::ErrorReason::FeatureNotNegotiated);
                assert!(error.message.contains("ask.spawn"), "{}", error.message);
                break;
            }
            In::Answer(answer) => panic!("{answer:?}"),
            _other => {}
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn receipts_tell_what_was_asked_and_told_page_by_page() {
    use pb::ask_receipt::Told;
    let server = Server::start().await;
    let budget = Some(pb::Budget { max_tokens_total: Some(100), ..Default::default() });
    let parent = pb::JobSpec { budget, ..spec("job.parent") };
    let (mut worker, lease) = at_work(&server, parent, "default").await;
    let parent = id_of(&lease);
    // Those of other jobs stand between them.
    server.submit(spec("job.parent")).await.expect("accepted");
    let other = worker.assigned().await.remove(0);
    let spend = |amount| {
        let dimension = pb::BudgetDimension::Tokens.into();
        Question::Budget(pb::BudgetAsk { dimension, amount, model: "m".into() })
    };
    let may =
        pb::PolicyAsk { action: "repo.write".into(), resource: "git://core".into(), ..Default::default() };
    ask(&mut worker, lease.lease_id, 1, Question::Policy(may)).await;
    ask(&mut worker, other.lease_id, 1, spend(1)).await;
    ask(&mut worker, lease.lease_id, 2, spend(60)).await;
    ask(&mut worker, lease.lease_id, 3, spend(60)).await;
    let child_budget = Some(pb::Budget { max_tokens_total: Some(40), ..Default::default() });
    let child = pb::JobSpec { budget: child_budget, ..spec("job.child") };
    let ids = made(ask(&mut worker, lease.lease_id, 4, spawn(vec![child])).await);
    worker.report(vec![succeeded(&lease)]).await;

    let page = async |job_id: &str, page_size, page_token: &str| {
        let (job_id, page_token) = (job_id.to_owned(), page_token.to_owned());
        let request = pb::ListAskReceiptsRequest { job_id, page_size, page_token };
        server.jobs().list_ask_receipts(request).await.map(tonic::Response::into_inner)
    };
    let (mut receipts, mut token) = (Vec::new(), String::new());
    loop {
        let found = page(&parent, 1, &token).await.expect("a page");
        assert!(found.receipts.len() <= 1);
        receipts.extend(found.receipts);
        token = found.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let ask_ids: Vec<u64> = receipts.iter().map(|receipt| receipt.ask_id).collect();
    assert_eq!(ask_ids, [1, 2, 3, 4], "oldest first, and none of another job");
    assert_eq!(receipts[0].receipt_id, format!("{parent}/1/1"));
    assert!(receipts.iter().all(|receipt| receipt.lease_serial == 1 && receipt.create_time.is_some()));
    let mut told = receipts.into_iter().map(|receipt| receipt.told.expect("an answer"));
    let Some(Told::Policy(action)) = told.next() else { panic!("no action") };
    assert_eq!(
        (&*action.action, &*action.resource, &*action.rule_id),
        ("repo.write", "git://core", "default")
    );
    assert_eq!(action.verdict(), pb::Verdict::Allow);
    let budgets: Vec<_> = told.by_ref().take(2).collect();
    let grant = |granted| pb::BudgetReceipt {
        dimension: "tokens_total".into(),
        asked: 60,
        granted,
        remaining: Some(40),
        model: "m".into(),
    };
    assert_eq!(budgets, [Told::Budget(grant(60)), Told::Budget(grant(0))]);
    assert_eq!(told.next(), Some(Told::Spawned(pb::SpawnReceipt { name: "4".into(), job_ids: ids })));

    assert_eq!(page(&id_of(&other), 0, "").await.expect("a page").receipts.len(), 1);
    let unknown = page("nobody", 0, "").await.expect_err("no such job");
    assert_eq!((unknown.code(), &*reason(&unknown)), (Code::NotFound, "JOB_NOT_FOUND"));
    for (job_id, size, token) in [("", 0, ""), (&*parent, -1, "")] {
        let refused = page(job_id, size, token).await.expect_err("malformed");
        assert_eq!((refused.code(), &*reason(&refused)), (Code::InvalidArgument, "INVALID_FIELD"));
    }
    let refused = page(&parent, 1, "made-up").await.expect_err("malformed");
    assert_eq!(reason(&refused), "INVALID_PAGE_TOKEN");
    server.stop().await;
}
