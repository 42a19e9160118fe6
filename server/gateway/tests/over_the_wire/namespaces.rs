//! Namespaces and their quotas.

mod retention;

use crate::access::keys;
use crate::running_server::{Out, Server, Worker, connect, frame, hello, reason, spec};
use coretex_contract::v1 as pb;
use coretex_contract::v1::namespace_service_client::NamespaceServiceClient;
use coretex_domain::access::Role;
use coretex_engine::Engine;
use coretex_engine::clock::{SystemClock, SystemDice};
use coretex_gateway::{Access, GatewaySettings};
use coretex_ports::Env;
use std::sync::Arc;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

fn client(server: &Server) -> NamespaceServiceClient<Channel> {
    NamespaceServiceClient::new(server.channel.clone())
}

fn in_namespace<T>(message: T, namespace: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("coretex-namespace", namespace.parse().expect("a header"));
    request
}

async fn create(server: &Server, namespace: &str, settings: pb::NamespaceSettings) -> pb::Namespace {
    let request = pb::CreateNamespaceRequest {
        namespace: namespace.into(),
        settings: Some(settings),
        request_id: String::new(),
    };
    let made = client(server).create_namespace(request).await.expect("created");
    made.into_inner().namespace.expect("a namespace")
}

fn quotas(quotas: pb::NamespaceQuotas) -> pb::NamespaceSettings {
    pb::NamespaceSettings { quotas: Some(quotas), ..Default::default() }
}

async fn submit(server: &Server, namespace: &str, topic: &str) -> Result<String, Status> {
    let request = pb::SubmitJobRequest { spec: Some(spec(topic)), ..Default::default() };
    let reply = server.jobs().submit_job(in_namespace(request, namespace)).await?;
    Ok(reply.into_inner().job.expect("a job").job_id)
}

async fn cancel(server: &Server, namespace: &str, job_id: &str) {
    let request = pb::CancelJobRequest { job_id: job_id.into(), ..Default::default() };
    server.jobs().cancel_job(in_namespace(request, namespace)).await.expect("cancelled");
}

async fn open_jobs(server: &Server, namespace: &str) -> Option<u64> {
    let request = pb::GetNamespaceRequest { namespace: namespace.into() };
    let found = client(server).get_namespace(request).await.expect("found").into_inner();
    found.namespace.and_then(|one| one.r#use).and_then(|used| used.open_jobs)
}

#[tokio::test]
async fn a_namespace_is_made_changed_listed_and_deleted() {
    let server = Server::start().await;
    let made =
        create(&server, "team-a", quotas(pb::NamespaceQuotas { watches_max: Some(3), ..Default::default() }));
    assert_eq!(made.await.revision, 1);
    let again = pb::CreateNamespaceRequest { namespace: "team-a".into(), ..Default::default() };
    let refused = client(&server).create_namespace(again).await.expect_err("it is there");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "NAMESPACE_EXISTS"));
    let update = |revision| pb::UpdateNamespaceRequest {
        namespace: "team-a".into(),
        settings: Some(pb::NamespaceSettings { description: "A".into(), ..Default::default() }),
        revision,
        request_id: "u1".into(),
    };
    let refused = client(&server).update_namespace(update(7)).await.expect_err("another revision");
    assert_eq!(reason(&refused), "REVISION_MISMATCH");
    for _ in 0..2 {
        let changed = client(&server).update_namespace(update(1)).await.expect("a repeat is OK");
        let changed = changed.into_inner().namespace.expect("a namespace");
        assert_eq!((changed.revision, changed.settings.expect("settings").quotas), (2, None));
    }
    let listed = client(&server).list_namespaces(pb::ListNamespacesRequest::default()).await.expect("listed");
    let names: Vec<String> = listed.into_inner().namespaces.into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["default", "team-a"]);
    let job = submit(&server, "team-a", "job.a").await.expect("accepted");
    let delete = || pb::DeleteNamespaceRequest { namespace: "team-a".into(), ..Default::default() };
    let refused = client(&server).delete_namespace(delete()).await.expect_err("a job is open");
    assert_eq!(reason(&refused), "NAMESPACE_NOT_EMPTY");
    cancel(&server, "team-a", &job).await;
    assert!(client(&server).delete_namespace(delete()).await.expect("empty").into_inner().deleted);
    assert!(!client(&server).delete_namespace(delete()).await.expect("gone").into_inner().deleted);
    let missing = pb::UpdateNamespaceRequest { namespace: "team-a".into(), ..Default::default() };
    let refused = client(&server).update_namespace(missing).await.expect_err("gone");
    assert_eq!(reason(&refused), "NAMESPACE_NOT_FOUND");
    server.stop().await;
}

#[tokio::test]
async fn bad_quotas_are_named() {
    let server = Server::start().await;
    let bad = pb::NamespaceQuotas {
        submits_per_second: Some(0),
        watches_max: Some(1_000_001),
        ..Default::default()
    };
    let request = pb::CreateNamespaceRequest {
        namespace: "team-a".into(),
        settings: Some(quotas(bad)),
        request_id: String::new(),
    };
    let refused = client(&server).create_namespace(request).await.expect_err("bad");
    let details = refused.get_error_details();
    let fields: Vec<&str> = details
        .bad_request()
        .expect("violations")
        .field_violations
        .iter()
        .map(|v| v.field.as_str())
        .collect();
    assert_eq!(fields, ["settings.quotas.submits_per_second", "settings.quotas.watches_max"]);
    for name in ["", "Team A", "*"] {
        let request = pb::CreateNamespaceRequest { namespace: name.into(), ..Default::default() };
        let refused = client(&server).create_namespace(request).await.expect_err(name);
        assert_eq!(refused.code(), Code::InvalidArgument, "{name}");
    }
    server.stop().await;
}

#[tokio::test]
async fn where_they_are_declared_unknown_and_forbidden_look_alike() {
    let named = [
        ("admin", "admin", &[][..], Role::Admin),
        ("bound", "bound", &["team-a", "team-c"][..], Role::Operator),
    ];
    let access = Access::closed().keys(keys(&named));
    let settings = GatewaySettings { access, namespaces_declared: true, ..Default::default() };
    let server = Server::with(settings).await;
    for name in ["team-a", "team-b"] {
        let request = pb::CreateNamespaceRequest { namespace: name.into(), ..Default::default() };
        client(&server).create_namespace(Server::with_key(request, "admin")).await.expect("created");
    }
    let list = async |key: &str, namespace: &str| {
        let mut request = Server::with_key(pb::ListJobsRequest::default(), key);
        request.metadata_mut().insert("coretex-namespace", namespace.parse().expect("a header"));
        let answer = server.jobs().list_jobs(request).await;
        answer.map(|_| "listed".to_owned()).unwrap_or_else(|status| {
            assert_eq!(status.code(), Code::NotFound);
            format!("{} {}", reason(&status), status.message().replace(namespace, "X"))
        })
    };
    assert_eq!(list("bound", "team-a").await, "listed");
    assert_eq!(list("admin", "default").await, "listed");
    let unknown = list("admin", "nowhere").await;
    assert_eq!(unknown, "NAMESPACE_NOT_FOUND there is no namespace X");
    let before = server.engine.audit_records(true, None, 1).await.expect("read").0[0].sequence;
    for (key, namespace) in
        [("bound", "team-b"), ("bound", "team-c"), ("bound", "default"), ("bound", "nowhere")]
    {
        assert_eq!(list(key, namespace).await, unknown, "{key} in {namespace}");
    }
    let after = server.engine.audit_records(true, None, 1).await.expect("read").0[0].sequence;
    assert_eq!(after - before, 4, "each refusal is recorded");
    server.stop().await;
}

#[tokio::test]
async fn topics_are_declared_where_the_namespace_says_so() {
    let server = Server::start().await;
    create(&server, "team-a", pb::NamespaceSettings { topics_declared: true, ..Default::default() }).await;
    let refused = submit(&server, "team-a", "job.a").await.expect_err("not declared");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "TOPIC_NOT_FOUND"));
    let pause = pb::PauseTopicRequest { topic: "job.a".into(), ..Default::default() };
    let refused = server.topics().pause_topic(in_namespace(pause, "team-a")).await.expect_err("not declared");
    assert_eq!(reason(&refused), "TOPIC_NOT_FOUND");
    let settings = Some(pb::TopicSettings { max_running: Some(5), ..Default::default() });
    let declare = pb::UpdateTopicRequest { topic: "job.a".into(), settings, ..Default::default() };
    server.topics().update_topic(in_namespace(declare, "team-a")).await.expect("declared");
    submit(&server, "team-a", "job.a").await.expect("declared");
    let specs = vec![spec("job.b"), spec("job.a")];
    let batch = pb::BatchSubmitJobsRequest { specs, ..Default::default() };
    let results = server.jobs().batch_submit_jobs(in_namespace(batch, "team-a")).await.expect("answered");
    let are_jobs: Vec<bool> = results
        .into_inner()
        .results
        .iter()
        .map(|one| matches!(one.outcome, Some(pb::submit_result::Outcome::Job(_))))
        .collect();
    assert_eq!(are_jobs, [false, true]);
    submit(&server, "default", "job.b").await.expect("elsewhere all are open");
    server.stop().await;
}

/// So many at a time, each submitting until it is refused; how many were accepted.
async fn race(server: &Arc<Server>, callers: usize) -> Vec<String> {
    let racing = (0..callers).map(|_| {
        let server = server.clone();
        tokio::spawn(async move {
            let mut made = Vec::new();
            loop {
                match submit(&server, "team-a", "job.a").await {
                    Ok(id) => made.push(id),
                    Err(status) if reason(&status) == "QUOTA_EXCEEDED" => return made,
                    Err(status) => panic!("{status:?}"),
                }
            }
        })
    });
    let mut all = Vec::new();
    for made in racing.collect::<Vec<_>>() {
        all.extend(made.await.expect("no panic"));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_callers_fill_a_quota_exactly() {
    let server = Arc::new(Server::start().await);
    // Some are there before there is a quota, and some end while it is counted.
    let mut there = Vec::new();
    for _ in 0..30 {
        there.push(submit(&server, "team-a", "job.a").await.expect("accepted"));
    }
    cancel(&server, "team-a", &there.pop().expect("one")).await;
    let limit = quotas(pb::NamespaceQuotas { open_jobs_max: Some(500), ..Default::default() });
    create(&server, "team-a", limit).await;
    assert_eq!(open_jobs(&server, "team-a").await, Some(29));
    let made = race(&server, 64).await;
    assert_eq!(made.len(), 500 - 29, "not one more, and not one less");
    assert_eq!(open_jobs(&server, "team-a").await, Some(500));
    let refused = submit(&server, "team-a", "job.a").await.expect_err("full");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let facts = refused.get_error_details().error_info().expect("facts").metadata.clone();
    let fact = |name: &str| facts.get(name).map(String::as_str);
    assert_eq!(
        (fact("quota"), fact("limit"), fact("value")),
        (Some("open_jobs_max"), Some("500"), Some("500"))
    );
    for id in made.iter().take(100) {
        cancel(&server, "team-a", id).await;
    }
    let batch = pb::BatchSubmitJobsRequest { specs: vec![spec("job.a"); 101], ..Default::default() };
    let refused = server.jobs().batch_submit_jobs(in_namespace(batch, "team-a")).await.expect_err("too many");
    assert_eq!(reason(&refused), "QUOTA_EXCEEDED", "whole or not at all");
    assert_eq!(race(&server, 64).await.len(), 100);
    submit(&server, "default", "job.a").await.expect("other namespaces have no quota");
    let store = server.store.clone();
    Arc::into_inner(server).expect("the last").stop().await;
    let env = Env { clock: Arc::new(SystemClock::new()), dice: Arc::new(SystemDice::new()) };
    let engine = Engine::start(Arc::new(store.reopen()), env, Default::default()).await.expect("starts");
    let again = engine.namespace("team-a").expect("there");
    assert_eq!(again.open_jobs, Some(500), "counted again at the start");
    engine.stop().await;
}

#[tokio::test]
async fn what_was_denied_or_refused_takes_no_room() {
    let server = Server::start().await;
    create(&server, "team-a", quotas(pb::NamespaceQuotas { open_jobs_max: Some(2), ..Default::default() }))
        .await;
    for _ in 0..5 {
        submit(&server, "team-a", "sys.destroy").await.expect("denied by policy, and kept");
    }
    assert_eq!(open_jobs(&server, "team-a").await, Some(0));
    submit(&server, "team-a", "job.a").await.expect("room");
    let id = submit(&server, "team-a", "job.a").await.expect("room");
    cancel(&server, "team-a", &id).await;
    let retry = pb::RetryJobRequest { job_id: id.clone(), ..Default::default() };
    server.jobs().retry_job(in_namespace(retry.clone(), "team-a")).await.expect("a retry is a new job");
    let refused = server.jobs().retry_job(in_namespace(retry, "team-a")).await.expect_err("full");
    assert_eq!(reason(&refused), "QUOTA_EXCEEDED");
    assert_eq!(open_jobs(&server, "team-a").await, Some(2));
    server.stop().await;
}

#[tokio::test]
async fn rates_sessions_and_watches_have_quotas() {
    let server = Server::start().await;
    let limits = pb::NamespaceQuotas {
        submits_per_second: Some(5),
        worker_sessions_max: Some(1),
        watches_max: Some(1),
        ..Default::default()
    };
    // The namespace of calls that name none.
    let request = pb::UpdateNamespaceRequest {
        namespace: "default".into(),
        settings: Some(quotas(limits)),
        ..Default::default()
    };
    client(&server).update_namespace(request).await.expect("changed");
    let batch = pb::BatchSubmitJobsRequest { specs: vec![spec("job.a"); 50], ..Default::default() };
    server.jobs().batch_submit_jobs(batch).await.expect("beyond once");
    let refused = server.submit(spec("job.a")).await.expect_err("to be paid back");
    assert_eq!(reason(&refused), "QUOTA_EXCEEDED");
    let wait = refused.get_error_details().retry_info().and_then(|info| info.retry_delay).expect("a hint");
    assert!(wait > Duration::from_secs(8) && wait <= Duration::from_secs(10), "{wait:?}");
    let _worker = Worker::join(&server, &["job.a"]).await;
    let (_send, mut receive) = connect(&server, vec![frame(Out::Hello(hello(&["job.a"])))]).await;
    let refused = receive.message().await.expect_err("one session");
    assert_eq!(reason(&refused), "QUOTA_EXCEEDED");
    let watch = async || server.jobs().watch_jobs(pb::WatchJobsRequest::default()).await;
    let open = watch().await.expect("one watch");
    assert_eq!(reason(&watch().await.expect_err("no more")), "QUOTA_EXCEEDED");
    drop(open);
    let mut tries = 0;
    while watch().await.is_err() {
        tries += 1;
        assert!(tries < 100, "the place is given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.stop().await;
}
