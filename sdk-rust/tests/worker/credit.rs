//! Credit, coalescing, what a job costs in frames, and what is given back.

use crate::fake::*;
use crate::{run, worker};
use coretex_sdk::raw::v1::connect_request::Frame as Up;
use coretex_sdk::raw::v1::control::entry::Action;
use coretex_sdk::raw::v1::{LeaseRefusal, control};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_grant_is_eight_and_doubles_with_each_acknowledgement() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr).slots(100).prefetch(20));
    let (mut conn, hello) = fake.welcomed().await;
    assert_eq!((hello.lanes[0].slots, hello.lanes[0].prefetch_max), (100, 20));
    assert_eq!(conn.credit().await, 8);
    let mut done = 0;
    for window in [16, 32, 64, 120, 120] {
        conn.assign([assignment(done + 1, "echo", "1")]).await;
        let (seq, updates) = conn.report().await;
        done += updates.len() as u64;
        conn.ack(seq);
        let granted =
            conn.until(|conn, _| conn.granted.get("default").copied().filter(|n| *n >= done + window)).await;
        assert_eq!(granted, done + window, "what is done, and the window");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credit_is_never_more_than_the_room_there_is() {
    const JOBS: u64 = 2_000;
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr).slots(20).prefetch(10));
    let (mut conn, _) = fake.welcomed().await;
    let (mut sent, mut done) = (0, 0);
    while done < JOBS {
        let granted = conn.credit().await;
        assert!(granted <= done + 30, "granted {granted} with {done} done");
        let next: Vec<_> = (sent + 1..=granted.min(JOBS)).map(|id| assignment(id, "echo", "1")).collect();
        sent += next.len() as u64;
        if !next.is_empty() {
            conn.assign(next).await;
        }
        if let Some(Up::Report(report)) = conn.recv().await {
            done += report.updates.len() as u64;
            conn.ack(u64::MAX);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_job_costs_one_update() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "echo", r#"{"a":1}"#)]).await;
    let (seq, updates) = conn.report().await;
    assert_eq!((seq, updates.len()), (1, 1));
    assert_eq!(kinds(&updates), [coretex_sdk::raw::v1::JobUpdateKind::Succeeded]);
    assert_eq!(updates[0].lease_token, "lease-1", "the token goes with the first word about a lease");
    let result = coretex_sdk::raw::v1::Payload::data("application/json", r#"{"a":1}"#);
    assert_eq!(updates[0].result, Some(result));
    assert!(conn.acks.is_empty(), "the end implies the acceptance");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_while_a_report_is_on_its_way_shares_the_next_ones() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr).slots(1_000).prefetch(0));
    let (mut conn, _) = fake.welcomed().await;
    let mut next = 1;
    for _ in 0..12 {
        conn.assign([assignment(next, "echo", "1")]).await;
        let (seq, _) = conn.report().await;
        conn.ack(seq);
        next += 1;
    }
    conn.assign((next..next + 900).map(|id| assignment(id, "echo", "1"))).await;
    let (mut reports, mut updates) = (0, 0);
    while updates < 900 {
        let (_, batch) = conn.report().await;
        assert!(batch.len() <= 512);
        (reports, updates) = (reports + 1, updates + batch.len());
    }
    assert!(reports <= 60, "{updates} updates came in {reports} reports");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_job_says_that_it_started_and_a_waiting_one_that_it_arrived() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr).slots(1).prefetch(1));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "echo", "1")]).await;
    conn.updates_of(1).await;
    conn.assign([assignment(2, "sleep", "300"), assignment(3, "echo", "3")]).await;
    let updates = conn.updates_of(2).await;
    use coretex_sdk::raw::v1::JobUpdateKind::{Started, Succeeded};
    assert_eq!(kinds(&updates), [Started, Succeeded]);
    assert_eq!(conn.acks.iter().flat_map(|ack| ack.accepted.clone()).collect::<Vec<_>>(), [3]);
    assert_eq!(kinds(&conn.updates_of(3).await), [Succeeded]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_not_started_is_given_back_on_reclaim_and_granted_again() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr).slots(1).prefetch(1));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "echo", "1")]).await;
    conn.updates_of(1).await;
    conn.assign([assignment(2, "obey", "null"), assignment(3, "echo", "3")]).await;
    conn.order(7, 3, Action::Reclaim(control::Reclaim::default()));
    conn.order(8, 2, Action::Reclaim(control::Reclaim::default()));
    let is_acked = |conn: &Conn| conn.acks.iter().any(|ack| ack.controls_acked.contains(&8));
    while !is_acked(&conn) {
        conn.recv().await;
    }
    let refused: Vec<u64> =
        conn.acks.iter().flat_map(|ack| &ack.rejected).map(|refused| refused.lease_id).collect();
    assert_eq!(refused, [3], "2 has started and is kept");
    conn.until(|conn, _| (conn.granted["default"] == 4).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_topic_is_refused_and_not_failed() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "nobody.knows", "1"), assignment(2, "echo", "2")]).await;
    conn.updates_of(2).await;
    let refused = conn.acks[0].rejected[0];
    assert_eq!((refused.lease_id, refused.reason()), (1, LeaseRefusal::NoSuchTopic));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_lane_starts_nothing_until_it_is_resumed() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.order(1, 0, Action::Pause(control::Pause::default()));
    conn.assign([assignment(1, "echo", "1")]).await;
    let accepted = |conn: &Conn| conn.acks.iter().any(|ack| ack.accepted == [1]);
    while !accepted(&conn) {
        conn.recv().await;
    }
    conn.order(2, 0, Action::Resume(control::Resume::default()));
    assert_eq!(conn.updates_of(1).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_may_have_lanes_of_their_own() {
    let mut fake = Fake::start().await;
    let cpu = coretex_sdk::Binding::blocking("cpu", |_: coretex_sdk::Ctx, ms: u64| {
        std::thread::sleep(Duration::from_millis(ms));
        Ok(ms)
    });
    let (_handle, _running) = run(worker(&fake.addr).bind(cpu.slots(2)));
    let (mut conn, hello) = fake.welcomed().await;
    let lane = hello.lanes.iter().find(|lane| lane.lane_id == "cpu").unwrap();
    assert_eq!(
        (lane.slots, lane.slot_class.as_str(), lane.topics.as_slice()),
        (2, "thread", ["cpu".to_owned()].as_slice())
    );
    conn.until(|conn, _| conn.granted.get("cpu").copied()).await;
    let job = coretex_sdk::raw::v1::Assignment { lane_id: "cpu".into(), ..assignment(1, "cpu", "10") };
    conn.assign([job]).await;
    assert_eq!(conn.updates_of(1).await.len(), 1);
    conn.until(|conn, _| (conn.granted["cpu"] >= 3).then_some(())).await;
}
