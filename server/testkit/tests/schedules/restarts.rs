//! Servers that go away: what was missed is made up for as asked, and nothing is started twice.

use crate::kit::{HOUR, MINUTE, apply, at, clock, fires, fires_of, job, jobs, started, told, until};
use coretex_sdk::ScheduleFireOutcome::{Skipped, Started};
use coretex_sdk::{Client, ScheduleFireCause, ScheduleOverlap, ScheduleSpec};
use coretex_testkit::{Builder, TestServer};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::runtime::Runtime;

#[tokio::test(flavor = "multi_thread")]
async fn after_a_downtime_missed_times_are_made_up_for_as_asked() {
    let directory = tempfile::tempdir().expect("temp dir");
    let clock = clock("2026-03-01T08:30:00Z");
    let builder = || TestServer::builder().directory(directory.path().join("s")).clock(clock.clone());
    let (server, client) = started(builder()).await;
    let spec = || ScheduleSpec::cron("0 * * * *", job()).overlap(ScheduleOverlap::Allow);
    apply(&client, "skip", spec().catch_up(false)).await;
    apply(&client, "one", spec()).await;
    apply(&client, "all", spec().catch_up_all(3)).await;
    assert!(server.stop().await);
    clock.advance(5 * HOUR).await;
    let (server, client) = started(builder()).await;
    let skip = fires_of(&client, "skip", 1).await;
    assert_eq!((skip[0].outcome, skip[0].reason.as_str()), (Skipped, "SCHEDULE_MISSED"));
    assert!(skip[0].message.contains("2026-03-01T09:00") && skip[0].message.contains("2026-03-01T13:00"));
    let one = fires_of(&client, "one", 2).await;
    assert_eq!(told(&one), [("01 12:00".into(), Skipped), ("01 13:00".into(), Started)]);
    assert_eq!(one[1].cause, ScheduleFireCause::CatchUp);
    let all = fires_of(&client, "all", 4).await;
    let started_at = |hour: &str| (format!("01 {hour}:00"), Started);
    let wanted = [("01 10:00".into(), Skipped), started_at("11"), started_at("12"), started_at("13")];
    assert_eq!(told(&all), wanted);
    assert!(server.stop().await);
}

/// A server in a runtime of its own: when that ends, all of it ends at once, as in a crash.
pub(crate) struct Mortal {
    pub(crate) runtime: Runtime,
    pub(crate) server: TestServer,
    pub(crate) client: Client,
}

impl Mortal {
    pub(crate) fn start(builder: impl Fn() -> Builder) -> Mortal {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let (server, client) = runtime.block_on(async {
            for _ in 0..500 {
                // The one before may not have let go of the directory yet.
                match builder().start().await {
                    Ok(server) => {
                        let client = server.client().await.expect("client");
                        return (server, client);
                    }
                    Err(error) if error.to_string().contains("in use") => {}
                    Err(error) => panic!("{error}"),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            panic!("the directory is not let go of");
        });
        Mortal { runtime, server, client }
    }

    pub(crate) fn crash(self) {
        let Mortal { runtime, server, client } = self;
        runtime.shutdown_timeout(Duration::from_secs(10));
        drop((server, client));
    }
}

/// Killed again and again in the middle of catching up: each time is started once.
#[test]
fn killed_while_catching_up_no_time_is_started_twice_and_none_is_lost() {
    let directory = tempfile::tempdir().expect("temp dir");
    let clock = clock("2026-03-01T08:30:00Z");
    let builder = || TestServer::builder().directory(directory.path().join("s")).clock(clock.clone());
    let first = Mortal::start(builder);
    first.runtime.block_on(async {
        let spec = ScheduleSpec::every(MINUTE, job()).overlap(ScheduleOverlap::Allow).catch_up_all(500);
        apply(&first.client, "s", spec).await;
    });
    first.crash();
    Runtime::new().expect("a runtime").block_on(clock.advance(8 * HOUR));
    let mut was_halfway = 0;
    for round in 0..7_u64 {
        let mortal = Mortal::start(builder);
        let made = mortal.runtime.block_on(async {
            // At once, or a little later: in every step of it.
            tokio::time::sleep(Duration::from_millis(round * 5)).await;
            jobs(&mortal.client).await.len()
        });
        was_halfway += usize::from((1..480).contains(&made));
        mortal.crash();
    }
    assert!(was_halfway > 0, "no kill came in the middle");
    let last = Mortal::start(builder);
    last.runtime.block_on(async {
        let client = &last.client;
        until("all are started", || async { jobs(client).await.len() >= 480 }).await;
        let pending = || async { client.get_schedule("s").await.expect("there").pending == 0 };
        until("all are recorded", pending).await;
        let (made, found) = (jobs(client).await, fires(client, "s").await);
        assert_eq!((made.len(), found.len()), (480, 480));
        let nominal: BTreeSet<_> = found.iter().map(|fire| fire.nominal_time).collect();
        assert_eq!(nominal.len(), 480);
        assert!(found.iter().all(|fire| fire.outcome == Started));
        let ids: BTreeSet<&String> = made.iter().map(|job| &job.job_id).collect();
        assert!(found.iter().all(|fire| ids.contains(&fire.target_id)));
        let info = client.get_schedule("s").await.expect("there");
        assert_eq!((info.started, info.skipped, info.failed), (480, 0, 0));
    });
    last.crash();
}

#[test]
fn a_queue_and_a_backfill_go_on_after_a_crash() {
    let directory = tempfile::tempdir().expect("temp dir");
    let clock = clock("2026-03-01T08:30:00Z");
    let builder = || TestServer::builder().directory(directory.path().join("s")).clock(clock.clone());
    let first = Mortal::start(builder);
    first.runtime.block_on(async {
        let spec = ScheduleSpec::cron("0 * * * *", job()).overlap(ScheduleOverlap::Queue);
        apply(&first.client, "s", spec).await;
        first.server.advance(31 * MINUTE).await;
        fires_of(&first.client, "s", 1).await;
        first.server.advance(HOUR).await;
        let stretch = at("2026-02-01T00:00:00Z")..at("2026-02-08T00:00:00Z");
        first.client.backfill_schedule("s", stretch, false).await.expect("backfilled");
    });
    first.crash();
    let second = Mortal::start(builder);
    second.runtime.block_on(async {
        let client = &second.client;
        // A week of hours, and the first of the queue; the second still waits for the first.
        fires_of(client, "s", 7 * 24 + 1).await;
        until("one waits", || async { client.get_schedule("s").await.expect("there").pending == 1 }).await;
        assert_eq!(jobs(client).await.len(), 7 * 24 + 1);
    });
    second.crash();
}
