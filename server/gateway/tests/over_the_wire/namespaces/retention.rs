//! How long a namespace keeps what ends in it.

use super::{cancel, client, create, in_namespace, submit};
use crate::running_server::{Server, reason, spec};
use coretex_contract::{Duration, v1 as pb};
use coretex_gateway::GatewaySettings;
use coretex_ports::memory::MemoryStore;
use tonic_types::StatusExt;

const DAY: i64 = 86_400;

fn keep(jobs: Option<i64>, dead_letters: Option<i64>) -> pb::NamespaceSettings {
    let span = |seconds: Option<i64>| seconds.map(|seconds| Duration { seconds, nanos: 0 });
    pb::NamespaceSettings {
        retention: span(jobs),
        dead_letter_retention: span(dead_letters),
        ..Default::default()
    }
}

/// Seconds from the end of a job to the end of its record.
async fn kept(server: &Server, namespace: &str, job_id: &str) -> i64 {
    let request = pb::GetJobRequest { job_id: job_id.into(), ..Default::default() };
    let reply = server.jobs().get_job(in_namespace(request, namespace)).await.expect("there");
    let job = reply.into_inner().job.expect("a job");
    let seconds = |stamp: Option<coretex_contract::Timestamp>| stamp.expect("it has ended").seconds;
    seconds(job.expire_time) - seconds(job.end_time)
}

async fn kept_when_cancelled(server: &Server, namespace: &str, topic: &str) -> i64 {
    let job_id = submit(server, namespace, topic).await.expect("accepted");
    cancel(server, namespace, &job_id).await;
    kept(server, namespace, &job_id).await
}

async fn update(server: &Server, namespace: &str, settings: pb::NamespaceSettings) -> pb::Namespace {
    let (namespace, settings) = (namespace.into(), Some(settings));
    let request = pb::UpdateNamespaceRequest { namespace, settings, ..Default::default() };
    let reply = client(server).update_namespace(request).await.expect("updated");
    reply.into_inner().namespace.expect("a namespace")
}

#[tokio::test]
async fn what_neither_job_nor_topic_say_the_namespace_says() {
    let store = MemoryStore::new(Default::default());
    let server = Server::over(store.clone(), GatewaySettings::default()).await;
    let made = create(&server, "brief", keep(Some(300), Some(3_600))).await;
    let settings = made.settings.expect("settings");
    assert_eq!(settings.retention.map(|span| span.seconds), Some(300));
    assert_eq!(settings.dead_letter_retention.map(|span| span.seconds), Some(3_600));
    assert_eq!(kept_when_cancelled(&server, "brief", "job.a").await, 300);
    assert_eq!(kept_when_cancelled(&server, "other", "job.a").await, DAY, "of no namespace that says so");

    let own = pb::JobSpec { retention: Some(Duration { seconds: 60, nanos: 0 }), ..spec("job.a") };
    let request = pb::SubmitJobRequest { spec: Some(own), ..Default::default() };
    let reply = server.jobs().submit_job(in_namespace(request, "brief")).await.expect("accepted");
    let job_id = reply.into_inner().job.expect("a job").job_id;
    cancel(&server, "brief", &job_id).await;
    assert_eq!(kept(&server, "brief", &job_id).await, 60, "the job's own wish goes first");
    let settings = Some(pb::TopicSettings {
        retention: Some(Duration { seconds: 600, nanos: 0 }),
        ..Default::default()
    });
    let topic = pb::UpdateTopicRequest { topic: "job.t".into(), settings, ..Default::default() };
    server.topics().update_topic(in_namespace(topic, "brief")).await.expect("updated");
    assert_eq!(kept_when_cancelled(&server, "brief", "job.t").await, 600, "then its topic's");
    let denied = submit(&server, "brief", "sys.destroy").await.expect("accepted");
    assert_eq!(kept(&server, "brief", &denied).await, 3_600, "a dead letter as long as dead letters are");

    let (early, open) = (submit(&server, "brief", "job.a").await, submit(&server, "brief", "job.a").await);
    let (early, open) = (early.expect("accepted"), open.expect("accepted"));
    cancel(&server, "brief", &early).await;
    update(&server, "brief", keep(Some(7_200), None)).await;
    cancel(&server, "brief", &open).await;
    assert_eq!(kept(&server, "brief", &open).await, 7_200, "in force at the answer");
    assert_eq!(kept(&server, "brief", &early).await, 300, "what had ended keeps its time");
    let denied = submit(&server, "brief", "sys.destroy").await.expect("accepted");
    assert_eq!(kept(&server, "brief", &denied).await, 14 * DAY);
    server.stop().await;

    let server = Server::over(store.reopen(), GatewaySettings::default()).await;
    assert_eq!(kept_when_cancelled(&server, "brief", "job.a").await, 7_200, "after a restart");
    assert_eq!(kept_when_cancelled(&server, "brief", "job.t").await, 600);
    let delete = pb::DeleteNamespaceRequest { namespace: "brief".into(), ..Default::default() };
    client(&server).delete_namespace(delete).await.expect("deleted");
    assert_eq!(kept_when_cancelled(&server, "brief", "job.a").await, DAY);
    server.stop().await;
}

#[tokio::test]
async fn spans_beyond_the_bounds_are_refused() {
    let server = Server::start().await;
    for (settings, field) in [
        (keep(Some(59), None), "settings.retention"),
        (keep(Some(3_661 * DAY), None), "settings.retention"),
        (keep(None, Some(0)), "settings.dead_letter_retention"),
        (keep(None, Some(-1)), "settings.dead_letter_retention"),
    ] {
        let (namespace, settings) = ("brief".into(), Some(settings));
        let request = pb::CreateNamespaceRequest { namespace, settings, ..Default::default() };
        let refused = client(&server).create_namespace(request).await.expect_err(field);
        assert_eq!(reason(&refused), "INVALID_FIELD");
        let details = refused.get_error_details();
        let violations = &details.bad_request().expect("fields").field_violations;
        assert_eq!(violations.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(), [field]);
        assert!(violations[0].description.contains("from 1m to 3660d"), "{violations:?}");
    }
    server.stop().await;
}
