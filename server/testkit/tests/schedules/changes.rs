//! What people do with schedules: apply, pause, resume, trigger, backfill, delete.

use crate::kit::{HOUR, MINUTE, apply, at, finish_one, fires, fires_of, job, jobs, server_at, told, until};
use coretex_sdk::ScheduleFireOutcome::{Failed, Started};
use coretex_sdk::raw::v1 as pb;
use coretex_sdk::{JobRequest, ListRequest, ScheduleFireCause, ScheduleOverlap, ScheduleSpec};
use futures::TryStreamExt as _;

fn hourly() -> ScheduleSpec {
    ScheduleSpec::cron("0 * * * *", job()).overlap(ScheduleOverlap::Allow)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_is_read_listed_changed_and_deleted() {
    let (server, client) = server_at("2026-03-01T08:30:00Z").await;
    let input = coretex_sdk::Payload::json(&["a", "b"]).expect("json");
    let spec = hourly().description("reports").time_zone("europe/berlin").catch_up_all(7);
    let made = client.apply_schedule("a", spec.clone(), 0).await.expect("applied");
    assert!(made.created && made.schedule.revision == 1);
    let again = client.apply_schedule("a", spec, 0).await.expect("applied");
    assert_eq!((again.created, again.schedule.revision), (true, 1), "nothing changed");
    let with_input = ScheduleSpec::every(HOUR, job().payload(input.clone()).priority(7));
    let changed = client.apply_schedule("a", with_input.clone(), 1).await.expect("applied");
    assert_eq!((changed.created, changed.schedule.revision), (false, 2));
    let stale = client.apply_schedule("a", hourly(), 1).await.expect_err("changed meanwhile");
    assert_eq!(stale.reason(), "REVISION_MISMATCH");
    let read = client.get_schedule("a").await.expect("there").spec.expect("a spec");
    let request = read.job_request().expect("a job");
    assert_eq!((read.interval(), request.priority_level()), (Some(HOUR), Some(7)));
    assert_eq!(request.input(), Some(input));
    apply(&client, "b", hourly().time_zone("europe/berlin")).await;
    client.pause_schedule("b", "holidays").await.expect("paused");
    let ids = |filter: &'static str| {
        let client = client.clone();
        async move {
            let list = client.list_all_schedules(ListRequest::filter(filter).page_size(1));
            let all: Vec<_> = list.try_collect().await.expect("listed");
            all.iter().map(|one| one.schedule_id.clone()).collect::<Vec<_>>()
        }
    };
    assert_eq!(ids("").await, ["a", "b"]);
    assert_eq!(ids("paused = true").await, ["b"]);
    assert_eq!(ids("topic = \"job.report\" AND schedule_id = \"a\"").await, ["a"]);
    let b = client.get_schedule("b").await.expect("there").spec.expect("a spec");
    assert_eq!(b.zone(), "Europe/Berlin");
    assert_eq!(client.delete_schedule("a", 1).await.expect_err("stale").reason(), "REVISION_MISMATCH");
    assert!(client.delete_schedule("a", 2).await.expect("deleted"));
    assert!(!client.delete_schedule("a", 0).await.expect("twice is fine"));
    assert_eq!(client.get_schedule("a").await.expect_err("gone").reason(), "SCHEDULE_NOT_FOUND");
    server.advance(2 * HOUR).await;
    assert!(jobs(&client).await.is_empty(), "one is gone, the other paused");
    assert!(server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_workflows_are_targets_and_an_unknown_one_fails_each_time() {
    let (server, client) = server_at("2026-03-01T08:30:00Z").await;
    let mut run = coretex_sdk::ScheduledRun::default();
    (run.workflow, run.version) = ("no-such-workflow".into(), Some(3));
    run.labels.insert("team".into(), "a".into());
    apply(&client, "s", ScheduleSpec::cron_run("0 * * * *", run)).await;
    let spec = client.get_schedule("s").await.expect("there").spec.expect("a spec");
    assert_eq!((spec.workflow(), spec.job_request().is_none()), (Some("no-such-workflow"), true));
    let by_workflow = client.list_schedules("workflow = \"no-such-workflow\"").await.expect("listed");
    assert_eq!(by_workflow.items.len(), 1);
    let fire = client.trigger_schedule("s").await.expect("told");
    assert_eq!((fire.outcome, fire.target_id.as_str()), (Failed, ""));
    assert!(!fire.reason.is_empty() && fire.message.contains("no-such-workflow"), "{fire:?}");
    server.advance(HOUR).await;
    let found = fires_of(&client, "s", 2).await;
    assert!(found.iter().all(|fire| fire.outcome == Failed), "{found:?}");
    assert!(server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_starts_nothing_and_is_not_made_up_for() {
    let (server, client) = server_at("2026-03-01T08:30:00Z").await;
    apply(&client, "s", hourly().catch_up_all(100)).await;
    let paused = client.pause_schedule("s", "too loud").await.expect("paused");
    assert_eq!((paused.pause.expect("a pause").reason.as_str(), paused.next_fire_time), ("too loud", None));
    server.advance(3 * HOUR).await;
    // By hand it is started all the same.
    let fire = client.trigger_schedule("s").await.expect("triggered");
    assert_eq!((fire.cause, fire.outcome), (ScheduleFireCause::Trigger, Started));
    let resumed = client.resume_schedule("s").await.expect("resumed");
    assert_eq!(resumed.next_fire_time, Some(at("2026-03-01T12:00:00Z")));
    server.advance(31 * MINUTE).await;
    let found = fires_of(&client, "s", 2).await;
    assert_eq!(told(&found), [("01 11:30".into(), Started), ("01 12:00".into(), Started)]);
    assert!(client.resume_schedule("s").await.expect("twice is fine").pause.is_none());
    assert!(server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_with_the_same_name_starts_once() {
    let (server, client) = server_at("2026-03-01T08:30:00Z").await;
    apply(&client, "s", hourly()).await;
    let request = || pb::TriggerScheduleRequest { schedule_id: "s".into(), request_id: "call-1".into() };
    let mut told = Vec::new();
    for _ in 0..3 {
        let reply = client.raw().schedules().trigger_schedule(request()).await.expect("triggered");
        told.push(reply.into_inner().fire.expect("a fire").target_id);
        server.advance(MINUTE).await;
    }
    assert!(told.iter().all(|id| *id == told[0] && !id.is_empty()), "{told:?}");
    assert_eq!(jobs(&client).await.len(), 1);
    let other = client.trigger_schedule("s").await.expect("another call");
    assert_ne!(other.target_id, told[0]);
    assert_eq!(fires_of(&client, "s", 2).await.len(), 2);
    assert_eq!(client.get_schedule("s").await.expect("there").started, 2);
    assert!(server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_starts_what_was_not_started_and_nothing_twice() {
    let (server, client) = server_at("2026-03-01T08:30:00Z").await;
    apply(&client, "s", hourly()).await;
    server.advance(HOUR).await;
    fires_of(&client, "s", 1).await;
    let stretch = || at("2026-02-28T22:00:00Z")..at("2026-03-01T09:30:00Z");
    let backfill = client.backfill_schedule("s", stretch(), false).await.expect("backfilled");
    assert_eq!((backfill.count, backfill.first_time), (12, Some(at("2026-02-28T22:00:00Z"))));
    let found = fires_of(&client, "s", 12).await;
    assert!(found.iter().all(|fire| fire.outcome == Started), "{found:#?}");
    let by_hand = found.iter().filter(|fire| fire.cause == ScheduleFireCause::Backfill).count();
    assert_eq!((by_hand, jobs(&client).await.len()), (11, 12), "09:00 had its turn");
    // Again, and all of it is known.
    client.backfill_schedule("s", stretch(), false).await.expect("backfilled");
    until("the backfill is through", || async {
        client.get_schedule("s").await.expect("there").backfills == 0
    })
    .await;
    server.advance(MINUTE).await;
    assert_eq!(jobs(&client).await.len(), 12);
    let in_parts = ListRequest::filter("cause = BACKFILL AND outcome = STARTED").page_size(4);
    let page = client.list_schedule_fires("s", in_parts).await.expect("a page");
    assert_eq!(page.items.len(), 4);
    assert!(!page.next_page_token.is_empty());
    assert!(server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequential_backfill_waits_for_each_of_its_jobs() {
    let (server, client) = server_at("2026-03-01T08:30:00Z").await;
    apply(&client, "s", hourly()).await;
    let stretch = at("2026-03-01T05:30:00Z")..at("2026-03-01T08:30:00Z");
    let backfill = client.backfill_schedule("s", stretch, true).await.expect("backfilled");
    assert_eq!(backfill.count, 3);
    for count in 1..=3 {
        let found = fires_of(&client, "s", count).await;
        assert_eq!(finish_one(&client).await, found[count - 1].target_id);
    }
    assert_eq!(jobs(&client).await.len(), 3);
    assert!(server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_timing_does_not_bring_back_what_is_past() {
    let (server, client) = server_at("2026-03-01T08:30:00Z").await;
    apply(&client, "s", hourly().catch_up_all(100)).await;
    server.advance(HOUR).await;
    fires_of(&client, "s", 1).await;
    let often = ScheduleSpec::cron("*/10 * * * *", job()).overlap(ScheduleOverlap::Allow).catch_up_all(100);
    apply(&client, "s", often).await;
    server.advance(11 * MINUTE).await;
    let found = fires_of(&client, "s", 2).await;
    assert_eq!(told(&found), [("01 09:00".into(), Started), ("01 09:40".into(), Started)]);
    assert!(server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_with_schedules_is_not_deleted() {
    let (server, client) = server_at("2026-03-01T08:30:00Z").await;
    let create = pb::CreateNamespaceRequest { namespace: "team-a".into(), ..Default::default() };
    client.raw().namespaces().create_namespace(create).await.expect("created");
    let theirs =
        coretex_sdk::Client::builder(server.addr()).namespace("team-a").connect().await.expect("client");
    apply(&theirs, "s", ScheduleSpec::cron("0 * * * *", JobRequest::new("job.a"))).await;
    assert_eq!(client.get_schedule("s").await.expect_err("theirs").reason(), "SCHEDULE_NOT_FOUND");
    let delete = || pb::DeleteNamespaceRequest { namespace: "team-a".into(), ..Default::default() };
    let refused = client.raw().namespaces().delete_namespace(delete()).await.expect_err("it has one");
    assert!(refused.message().contains("schedules"), "{refused}");
    assert!(theirs.delete_schedule("s", 0).await.expect("deleted"));
    client.raw().namespaces().delete_namespace(delete()).await.expect("deleted");
    assert!(fires(&client, "").await.is_empty());
    assert!(server.stop().await);
}
