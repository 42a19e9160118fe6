//! What is refused, and with which words.

use crate::kit::{apply, at, job, server_at};
use coretex_sdk::raw::v1 as pb;
use coretex_sdk::{Code, JobRequest, Payload, ScheduleSpec, ScheduledRun};
use std::time::Duration;

fn run(workflow: &str) -> ScheduledRun {
    let mut run = ScheduledRun::default();
    run.workflow = workflow.into();
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_field_is_named_with_rule_and_value() {
    let (server, client) = server_at("2026-03-01T08:30:00Z").await;
    let cron = |text: &str| ScheduleSpec::cron(text, job());
    let table = [
        (cron("61 * * * *"), "spec.cron", "0..=59"),
        (cron("0 0 30 2 *"), "spec.cron", "never happens"),
        (cron(""), "spec.cron", "required"),
        (cron("0 * * * *").time_zone("Europe/Berlim"), "spec.time_zone", "Europe/Berlin"),
        (cron("0 * * * *").anchor(at("2026-01-01T00:00:00Z")), "spec.anchor", "spec.interval"),
        (ScheduleSpec::every(Duration::from_secs(9), job()), "spec.interval", "got 9s"),
        (ScheduleSpec::every(Duration::from_secs(60), job()).time_zone("UTC"), "spec.time_zone", "spec.cron"),
        (cron("0 * * * *").jitter(Duration::from_secs(86_401)), "spec.jitter", "1d"),
        (
            cron("0 * * * *").start_time(at("2026-05-01T00:00:00Z")).end_time(at("2026-04-01T00:00:00Z")),
            "spec.end_time",
            "after spec.start_time",
        ),
        (cron("0 * * * *").catch_up_all(1_001), "spec.catch_up_max", "1..=1000"),
        (cron("0 * * * *").description("x".repeat(1_025)), "spec.description", "1024"),
        (ScheduleSpec::cron("0 * * * *", JobRequest::new("Bad Topic")), "spec.job.topic", "position 0"),
        (ScheduleSpec::cron("0 * * * *", job().job_id("a")), "spec.job.job_id", "must be left out"),
        (
            ScheduleSpec::cron("0 * * * *", job().idempotency_key("a")),
            "spec.job.idempotency_key",
            "must be left out",
        ),
        (
            ScheduleSpec::cron("0 * * * *", job().run_at(at("2027-01-01T00:00:00Z"))),
            "spec.job.schedule_time",
            "must be left out",
        ),
        (ScheduleSpec::cron_run("0 * * * *", run("")), "spec.run.workflow", "required"),
    ];
    for (spec, field, rule) in table {
        let refused = client.apply_schedule("s", spec, 0).await.expect_err(field);
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        let [violation] = refused.violations() else { panic!("{field}: {refused:?}") };
        assert_eq!(violation.field, field);
        assert!(violation.message.contains(rule), "{field}: {}", violation.message);
    }
    for id in ["a/b", "..", &"x".repeat(300), "", "é"] {
        let refused = client.apply_schedule(id, cron("0 * * * *"), 0).await.expect_err(id);
        assert_eq!(refused.violations()[0].field, "schedule_id", "{id}");
    }
    let all_at_once = pb::ApplyScheduleRequest {
        schedule_id: "/".into(),
        spec: Some(pb::ScheduleSpec { overlap: 9, catch_up: 9, ..Default::default() }),
        ..Default::default()
    };
    let refused = client.raw().schedules().apply_schedule(all_at_once).await.expect_err("five faults");
    let refused = coretex_sdk::Error::from(refused);
    assert_eq!(refused.violations().len(), 5, "{refused:?}");
    assert!(client.list_schedules("").await.expect("listed").items.is_empty());
    assert!(server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_or_too_many_is_refused_with_the_limit() {
    let (server, client) = server_at("2026-03-01T08:30:00Z").await;
    let large = Payload::json(&"x".repeat(65 << 10)).expect("json");
    let spec = ScheduleSpec::cron("0 * * * *", job().payload(large));
    let refused = client.apply_schedule("s", spec, 0).await.expect_err("too large");
    assert_eq!(refused.reason(), "PAYLOAD_TOO_LARGE");
    assert!(refused.message().contains("65536"), "{refused}");
    apply(&client, "s", ScheduleSpec::every(Duration::from_secs(10), job())).await;
    let stretch = at("2026-01-01T00:00:00Z")..at("2026-03-01T00:00:00Z");
    let refused = client.backfill_schedule("s", stretch, false).await.expect_err("too many");
    assert_eq!(refused.reason(), "BATCH_TOO_LARGE");
    assert!(refused.message().contains("509760 runs > 10000"), "{refused}");
    let stretch = at("2016-01-01T00:00:00Z")..at("2026-01-01T00:00:00Z");
    let refused = client.backfill_schedule("s", stretch, false).await.expect_err("too old");
    assert!(refused.violations()[0].message.contains("90d"), "{refused}");
    let stretch = at("2026-03-01T08:00:00Z")..at("2026-03-01T07:00:00Z");
    assert!(client.backfill_schedule("s", stretch, false).await.is_err());
    let refused = client.preview_schedule("s", 101).await.expect_err("too many");
    assert!(refused.message().contains("0..=100"), "{refused}");
    let nothing = client.raw().schedules().preview_schedule(pb::PreviewScheduleRequest::default()).await;
    assert!(nothing.expect_err("nothing asked").message().contains("schedule_id"));
    assert!(server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_found_and_tokens_belong_to_their_lists() {
    let (server, client) = server_at("2026-03-01T08:30:00Z").await;
    let not_found = [
        client.get_schedule("s").await.err(),
        client.pause_schedule("s", "").await.err(),
        client.resume_schedule("s").await.err(),
        client.trigger_schedule("s").await.err(),
        client.preview_schedule("s", 3).await.err(),
        client
            .backfill_schedule("s", at("2026-02-01T00:00:00Z")..at("2026-02-02T00:00:00Z"), false)
            .await
            .err(),
    ];
    for error in not_found {
        let error = error.expect("not there");
        assert_eq!((error.code(), error.reason()), (Code::NotFound, "SCHEDULE_NOT_FOUND"));
        assert_eq!(error.fact("schedule_id"), Some("s"));
    }
    for id in ["a", "b", "c"] {
        apply(&client, id, ScheduleSpec::cron("0 * * * *", job())).await;
        client.trigger_schedule(id).await.expect("triggered");
    }
    let first = client.list_schedules(coretex_sdk::ListRequest::all().page_size(1)).await.expect("a page");
    let other = coretex_sdk::ListRequest::filter("paused = false").page_token(first.next_page_token);
    assert_eq!(client.list_schedules(other).await.expect_err("another list").reason(), "INVALID_PAGE_TOKEN");
    let fires =
        client.list_schedule_fires("", coretex_sdk::ListRequest::all().page_size(2)).await.expect("a page");
    assert_eq!(fires.items.len(), 2);
    let token = coretex_sdk::ListRequest::all().page_token(fires.next_page_token);
    assert_eq!(client.list_schedule_fires("", token.clone()).await.expect("the rest").items.len(), 1);
    let wrong = client.list_schedule_fires("a", token).await.expect_err("another list");
    assert_eq!(wrong.reason(), "INVALID_PAGE_TOKEN");
    let filter = client.list_schedule_fires("a", "outcome = BROKEN").await.expect_err("no such word");
    assert_eq!(filter.reason(), "INVALID_FILTER");
    assert!(server.stop().await);
}
