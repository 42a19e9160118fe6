//! Times that come: each is handled once, by what the schedule says about missed times and targets that still run.

use crate::kit::{HOUR, MINUTE, apply, at, finish_one, fires, fires_of, job, jobs, server_at, told};
use coretex_sdk::ScheduleFireOutcome::{Failed, Skipped, Started};
use coretex_sdk::{JobRequest, JobState, ScheduleFireCause, ScheduleOverlap, ScheduleSpec};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn each_time_starts_one_job_that_says_whose_it_is() {
    let (server, client) = server_at("2026-03-01T08:30:00Z").await;
    let spec = ScheduleSpec::cron("0 * * * *", job().label("team", "a")).overlap(ScheduleOverlap::Allow);
    apply(&client, "hourly", spec).await;
    let info = client.get_schedule("hourly").await.expect("there");
    assert_eq!(info.next_fire_time, Some(at("2026-03-01T09:00:00Z")));
    server.advance(29 * MINUTE).await;
    assert!(fires(&client, "hourly").await.is_empty(), "not before its time");
    // Never more than a minute past a time before it is seen to be handled: otherwise it was missed.
    server.advance(90 * SECOND).await;
    fires_of(&client, "hourly", 1).await;
    server.advance(HOUR).await;
    let found = fires_of(&client, "hourly", 2).await;
    assert_eq!(told(&found), [("01 09:00".into(), Started), ("01 10:00".into(), Started)]);
    assert!(found.iter().all(|fire| fire.cause == ScheduleFireCause::Time));
    let made = jobs(&client).await;
    assert_eq!(made.len(), 2);
    for (job, fire) in made.iter().zip(&found) {
        assert_eq!(job.job_id, fire.target_id);
        let labels = job.request.as_ref().expect("a spec").labels();
        assert_eq!((labels["coretex.schedule"].as_str(), labels["team"].as_str()), ("hourly", "a"));
        let history = client.history(&job.job_id).await.expect("history");
        assert_eq!(history.first().expect("an event").actor, "schedule:hourly (anonymous)");
    }
    let second = made[1].request.as_ref().expect("a spec").labels();
    assert_eq!(second["coretex.nominal_time"], "2026-03-01T10:00:00+00:00");
    let info = client.get_schedule("hourly").await.expect("there");
    assert_eq!((info.started, info.skipped, info.failed), (2, 0, 0));
    assert_eq!(info.last_fire.expect("a fire").target_id, made[1].job_id);
    assert!(server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_jump_make_no_time_come_twice_or_never() {
    // 02:30 does not exist in New York on 8 March 2026; 01:30 comes twice on 1 November.
    let (server, client) = server_at("2026-03-08T06:00:00Z").await;
    let spec = |expression: &str| {
        ScheduleSpec::cron(expression, job()).time_zone("America/New_York").overlap(ScheduleOverlap::Allow)
    };
    apply(&client, "gap", spec("30 2 * * *")).await;
    server.advance(3 * HOUR).await;
    let found = fires_of(&client, "gap", 1).await;
    assert_eq!(found[0].nominal_time, Some(at("2026-03-08T07:00:00Z")), "the end of the jump");
    let times = client.preview_spec(spec("30 2 * * *"), 2).await.expect("times");
    assert_eq!(times[0].local_time, "2026-03-09T02:30:00-04:00");
    server.stop().await;
    let (server, client) = server_at("2026-11-01T05:00:00Z").await;
    let times = client.preview_spec(spec("30 1 * * *"), 2).await.expect("times");
    assert!(times[0].note.contains("comes twice"), "{times:?}");
    assert_eq!(times[1].local_time, "2026-11-02T01:30:00-05:00");
    apply(&client, "fold", spec("30 1 * * *")).await;
    server.advance(3 * HOUR).await;
    let found = fires_of(&client, "fold", 1).await;
    assert_eq!(found[0].nominal_time, Some(at("2026-11-01T05:30:00Z")), "the first of both");
    assert!(server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_still_runs_is_skipped_waited_for_doubled_or_cancelled() {
    let (server, client) = server_at("2026-03-01T08:59:00Z").await;
    for (id, overlap) in [
        ("skip", ScheduleOverlap::Skip),
        ("queue", ScheduleOverlap::Queue),
        ("allow", ScheduleOverlap::Allow),
        ("cancel", ScheduleOverlap::CancelRunning),
    ] {
        let topic = if id == "queue" { "job.report".into() } else { format!("job.{id}") };
        apply(&client, id, ScheduleSpec::cron("0 * * * *", JobRequest::new(topic)).overlap(overlap)).await;
    }
    server.advance(2 * MINUTE).await;
    for id in ["skip", "queue", "allow", "cancel"] {
        fires_of(&client, id, 1).await;
    }
    server.advance(HOUR).await;
    let skip = fires_of(&client, "skip", 2).await;
    assert_eq!(told(&skip), [("01 09:00".into(), Started), ("01 10:00".into(), Skipped)]);
    assert_eq!(skip[1].reason, "SCHEDULE_OVERLAP");
    assert!(skip[1].message.contains(&skip[0].target_id), "{}", skip[1].message);
    assert_eq!(fires_of(&client, "allow", 2).await[1].outcome, Started);
    let cancel = fires_of(&client, "cancel", 2).await;
    let state = |id: String| async { client.get(id).await.expect("a job").state };
    assert_eq!(state(cancel[0].target_id.clone()).await, JobState::Cancelled);
    assert_eq!(state(cancel[1].target_id.clone()).await, JobState::Scheduled);
    // The second of the queue waits for the end of the first, and for nothing else.
    let queue = fires_of(&client, "queue", 1).await;
    assert_eq!(client.get_schedule("queue").await.expect("there").pending, 1);
    assert_eq!(finish_one(&client).await, queue[0].target_id);
    let queue = fires_of(&client, "queue", 2).await;
    assert_eq!(told(&queue), [("01 09:00".into(), Started), ("01 10:00".into(), Started)]);
    assert_eq!(client.get_schedule("queue").await.expect("there").pending, 0);
    assert!(server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_start_is_recorded_and_the_next_time_comes_all_the_same() {
    let (server, client) = server_at("2026-03-01T08:59:00Z").await;
    apply(&client, "denied", ScheduleSpec::cron("0 * * * *", JobRequest::new("sys.destroy"))).await;
    let run = coretex_sdk::ScheduledRun::default();
    let no_workflow = client.apply_schedule("run", ScheduleSpec::cron_run("0 * * * *", run), 0).await;
    assert!(no_workflow.expect_err("no workflow").message().contains("spec.run.workflow"));
    server.advance(2 * MINUTE).await;
    let found = fires_of(&client, "denied", 1).await;
    assert_eq!((found[0].outcome, found[0].reason.as_str()), (Failed, "POLICY_DENIED"));
    assert_eq!(client.get(&found[0].target_id).await.expect("a job").state, JobState::Denied);
    server.advance(HOUR).await;
    assert_eq!(fires_of(&client, "denied", 2).await[1].outcome, Failed);
    let info = client.get_schedule("denied").await.expect("there");
    assert_eq!((info.failed, info.started), (2, 0));
    assert!(info.next_fire_time.is_some(), "it goes on");
    assert!(server.stop().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn intervals_bounds_and_jitter_are_kept() {
    let (server, client) = server_at("2026-03-01T09:00:30Z").await;
    let spec = ScheduleSpec::every(15 * MINUTE, job())
        .overlap(ScheduleOverlap::Allow)
        .start_time(at("2026-03-01T09:20:00Z"))
        .end_time(at("2026-03-01T10:00:00Z"));
    apply(&client, "bounded", spec).await;
    let jitter = ScheduleSpec::cron("30 9 * * *", job()).jitter(20 * MINUTE);
    apply(&client, "jitter", jitter).await;
    let info = client.get_schedule("jitter").await.expect("there");
    let (nominal, fire) = (info.next_nominal_time.expect("one"), info.next_fire_time.expect("one"));
    assert_eq!(nominal, at("2026-03-01T09:30:00Z"));
    let late = fire.duration_since(nominal).expect("not before");
    assert!(late > Duration::ZERO && late <= 20 * MINUTE, "{late:?}");
    server.advance(30 * MINUTE).await;
    fires_of(&client, "bounded", 1).await;
    server.advance(15 * MINUTE).await;
    let found = fires_of(&client, "bounded", 2).await;
    server.advance(45 * MINUTE).await;
    assert_eq!(told(&found), [("01 09:30".into(), Started), ("01 09:45".into(), Started)]);
    assert_eq!(client.get_schedule("bounded").await.expect("there").next_fire_time, None);
    let found = fires_of(&client, "jitter", 1).await;
    assert_eq!(found[0].nominal_time, Some(nominal));
    assert!(found[0].fire_time.expect("a time") >= fire, "not before its share");
    assert!(server.stop().await);
}
