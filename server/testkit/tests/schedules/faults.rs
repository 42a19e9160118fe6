//! Starts that are refused, faults that pass, and clocks that are set.

use crate::kit::{HOUR, MINUTE, apply, clock, fires, fires_of, job, jobs, server_at, told, until};
use crate::restarts::Mortal;
use coretex_domain::Time;
use coretex_sdk::ScheduleFireOutcome::{Failed, Started};
use coretex_sdk::raw::v1 as pb;
use coretex_sdk::{ScheduleOverlap, ScheduleSpec};
use coretex_testkit::TestServer;
use std::time::Duration;

fn hourly() -> ScheduleSpec {
    ScheduleSpec::cron("0 * * * *", job()).overlap(ScheduleOverlap::Allow)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undeclared_topic_fails_until_it_is_declared() {
    let (server, client) = server_at("2026-03-01T08:59:00Z").await;
    let settings = Some(pb::NamespaceSettings { topics_declared: true, ..Default::default() });
    let create = pb::CreateNamespaceRequest { namespace: "strict".into(), settings, ..Default::default() };
    client.raw().namespaces().create_namespace(create).await.expect("created");
    let strict = coretex_sdk::Client::builder(server.addr()).namespace("strict");
    let strict = strict.connect().await.expect("client");
    apply(&strict, "s", hourly()).await;
    server.advance(2 * MINUTE).await;
    let found = fires_of(&strict, "s", 1).await;
    assert_eq!((found[0].outcome, found[0].reason.as_str()), (Failed, "TOPIC_NOT_FOUND"));
    assert!(found[0].target_id.is_empty());
    let by_hand = strict.trigger_schedule("s").await.expect("told");
    assert_eq!((by_hand.outcome, by_hand.reason.as_str()), (Failed, "TOPIC_NOT_FOUND"));
    let declare = pb::UpdateTopicRequest { topic: "job.report".into(), ..Default::default() };
    strict.raw().topics().update_topic(declare).await.expect("declared");
    server.advance(HOUR).await;
    let found = fires_of(&strict, "s", 3).await;
    assert_eq!(told(&found[2..]), [("01 10:00".into(), Started)]);
    assert!(server.stop().await);
}

#[test]
fn what_a_draining_server_cannot_start_the_next_one_does() {
    let directory = tempfile::tempdir().expect("temp dir");
    let clock = clock("2026-03-01T08:59:00Z");
    let builder = || TestServer::builder().directory(directory.path().join("s")).clock(clock.clone());
    let first = Mortal::start(builder);
    first.runtime.block_on(async {
        apply(&first.client, "s", hourly().catch_up(false)).await;
        first.server.drain().await;
        first.server.advance(2 * MINUTE).await;
        let client = &first.client;
        let pending = || async { client.get_schedule("s").await.expect("there").pending == 1 };
        until("its turn came", pending).await;
        first.server.advance(3 * MINUTE).await;
        assert!(fires(&first.client, "s").await.is_empty(), "it is tried again");
        assert_eq!(first.client.get_schedule("s").await.expect("there").pending, 1);
    });
    first.crash();
    let second = Mortal::start(builder);
    second.runtime.block_on(async {
        let found = fires_of(&second.client, "s", 1).await;
        assert_eq!(told(&found), [("01 09:00".into(), Started)], "its turn came in time");
    });
    second.crash();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_does_not_pass_is_recorded_in_the_end() {
    let (server, client) = server_at("2026-03-01T08:59:00Z").await;
    apply(&client, "s", hourly()).await;
    server.drain().await;
    server.advance(2 * MINUTE).await;
    assert!(fires(&client, "s").await.is_empty());
    server.advance(12 * MINUTE).await;
    let found = fires_of(&client, "s", 1).await;
    assert_eq!((found[0].outcome, found[0].reason.as_str()), (Failed, "SHUTTING_DOWN"));
    assert!(jobs(&client).await.is_empty());
    let info = client.get_schedule("s").await.expect("there");
    assert!(info.pending == 0 && info.next_fire_time.is_some(), "it goes on");
    assert!(server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_ahead_is_seen_within_seconds() {
    let (server, client) = server_at("2026-03-01T08:30:00Z").await;
    apply(&client, "s", hourly()).await;
    let clock = server.clock().expect("a test clock").clone();
    clock.set_wall(Time(crate::kit::ms("2026-03-01T09:00:05Z")));
    server.advance(Duration::from_secs(3)).await;
    let found = fires_of(&client, "s", 1).await;
    assert_eq!(told(&found), [("01 09:00".into(), Started)]);
    // Set back, it goes on at its own pace, and what was handled is not handled again.
    clock.set_wall(Time(crate::kit::ms("2026-03-01T08:00:00Z")));
    server.advance(Duration::from_secs(30)).await;
    until("one job", || async { jobs(&client).await.len() == 1 }).await;
    assert_eq!(fires(&client, "s").await.len(), 1);
    assert!(server.stop().await);
}
