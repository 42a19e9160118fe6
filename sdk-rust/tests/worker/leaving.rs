//! Leaving: what is finished, what is given back, and how the stream ends.

use crate::fake::*;
use crate::{run, worker};
use coretex_sdk::raw::v1::connect_request::Frame as Up;
use coretex_sdk::raw::v1::connect_response::Frame as Down;
use coretex_sdk::raw::v1::{DrainMode, GoAway, GoAwayReason, JobUpdateKind as Kind, LeaseRefusal};
use coretex_sdk::{EndedBy, WorkerHandle};
use std::time::Duration;

fn drain(handle: WorkerHandle, grace: Duration) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move { handle.drain(grace).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_worker_finishes_flushes_waits_and_half_closes() {
    let mut fake = Fake::start().await;
    let (handle, running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "sleep", "400")]).await;
    assert_eq!(kinds(&conn.report().await.1), [Kind::Started]);
    let leaving = drain(handle, Duration::from_secs(10));
    let mode =
        conn.until(|_, frame| if let Up::Drain(drain) = frame { Some(drain.mode()) } else { None }).await;
    assert_eq!(mode, DrainMode::Finish);
    conn.assign([assignment(2, "echo", "2")]).await;
    let granted = conn.granted["default"];
    let (seq, updates) = conn.report().await;
    assert_eq!((updates[0].lease_id, updates[0].kind()), (1, Kind::Succeeded));
    let refused = conn.acks.iter().flat_map(|ack| &ack.rejected).next().unwrap();
    assert_eq!((refused.lease_id, refused.reason()), (2, LeaseRefusal::Draining));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!running.is_finished(), "it waits for the acknowledgement");
    conn.ack(seq);
    assert!(conn.recv().await.is_none(), "and closes its half");
    assert_eq!(conn.granted["default"], granted, "a leaving worker asks for nothing");
    conn.end(None);
    within(leaving).await.unwrap();
    let report = within(running).await.unwrap().unwrap();
    assert_eq!(
        (report.finished, report.refused, report.abandoned, report.ended_by),
        (1, 1, 0, EndedBy::Asked)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_still_runs_at_the_end_of_the_grace_is_given_back_with_its_checkpoint() {
    let mut fake = Fake::start().await;
    let (handle, running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "keep", r#""here""#), assignment(2, "ignore", "null")]).await;
    assert_eq!(kinds(&conn.report().await.1), [Kind::Started, Kind::Started]);
    let leaving = drain(handle, Duration::ZERO);
    let first = conn.updates_of(1).await.pop().unwrap();
    assert_eq!(first.kind(), Kind::Released);
    let checkpoint = first.progress.unwrap().checkpoint.unwrap();
    assert_eq!(checkpoint, coretex_sdk::raw::v1::Payload::data("application/json", r#""here""#));
    assert_eq!(conn.updates_of(2).await.pop().unwrap().kind(), Kind::Released);
    while conn.recv().await.is_some() {}
    conn.end(None);
    within(leaving).await.unwrap();
    assert_eq!(within(running).await.unwrap().unwrap().released, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_drained_by_an_operator_leaves() {
    let mut fake = Fake::start().await;
    let (_handle, running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.credit().await;
    let reason = GoAwayReason::WorkerDrained.into();
    conn.send(Down::GoAway(GoAway { reason, ..Default::default() }));
    while conn.recv().await.is_some() {}
    conn.end(None);
    assert_eq!(within(running).await.unwrap().unwrap().ended_by, EndedBy::Operator);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_worker_reports_what_it_holds_and_leaves() {
    let mut fake = Fake::start().await;
    let (_handle, running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "sleep", "300")]).await;
    let (reason, keep_existing_leases) = (GoAwayReason::Replaced.into(), true);
    conn.send(Down::GoAway(GoAway { reason, keep_existing_leases, ..Default::default() }));
    assert_eq!(conn.updates_of(1).await.pop().unwrap().kind(), Kind::Succeeded);
    while conn.recv().await.is_some() {}
    conn.end(None);
    assert_eq!(within(running).await.unwrap().unwrap().ended_by, EndedBy::Replaced);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_never_connected_leaves_at_once() {
    let (handle, running) = run(worker("http://127.0.0.1:1"));
    within(drain(handle, Duration::from_secs(30))).await.unwrap();
    assert_eq!(within(running).await.unwrap().unwrap().abandoned, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_future_of_a_worker_ends_it() {
    let mut fake = Fake::start().await;
    let (_handle, running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "ignore", "null")]).await;
    conn.report().await;
    running.abort();
    while conn.recv().await.is_some() {}
}
