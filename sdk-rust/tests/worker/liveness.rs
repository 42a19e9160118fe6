//! Heartbeats, the licence, and what the server can ask.

use crate::fake::*;
use crate::{run, worker};
use coretex_sdk::raw::v1::connect_request::Frame as Up;
use coretex_sdk::raw::v1::connect_response::Frame as Down;
use coretex_sdk::raw::v1::{HeldLeaseState, JobUpdateKind as Kind, Ping, SyncRequest, Welcome};
use std::time::Duration;

fn digest(leases: &[u64]) -> u64 {
    leases.iter().fold(0, |digest, id| digest ^ xxhash_rust::xxh3::xxh3_64(&id.to_le_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_names_what_is_held() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([
        assignment(11, "ignore", "null"),
        assignment(12, "ignore", "null"),
        assignment(13, "echo", "1"),
    ])
    .await;
    conn.updates_of(13).await;
    conn.send(Down::Ping(Ping { nonce: 99, ..Default::default() }));
    let beat = conn
        .until(|conn, _| conn.heartbeats.iter().find(|beat| beat.ack_of_server_ping == 99).cloned())
        .await;
    assert_eq!((beat.held_count, beat.held_digest), (2, digest(&[11, 12])));
    assert_eq!(beat.last_assign_no, 1);
    assert!(beat.last_report_seq >= 1);
    conn.send(Down::SyncRequest(SyncRequest::default()));
    let sync =
        conn.until(|_, frame| if let Up::Sync(sync) = frame { Some(sync.clone()) } else { None }).await;
    let mut held: Vec<_> = sync.leases.iter().map(|held| (held.lease_id, held.state())).collect();
    held.sort_unstable();
    assert_eq!(held, [(11, HeldLeaseState::Running), (12, HeldLeaseState::Running)]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_handler_that_blocks_the_runtime_does_not_stop_heartbeats() {
    let mut fake = Fake::start().await;
    let builder = worker(&fake.addr).bind_fn("block", |_: coretex_sdk::Ctx, ms: u64| async move {
        std::thread::sleep(Duration::from_millis(ms));
        Ok(())
    });
    let (_handle, _running) = run(builder);
    let welcome = Welcome { heartbeat_interval: Some(millis(50)), ..welcome() };
    let (mut conn, _) = fake.welcomed_as(welcome).await;
    conn.assign([assignment(1, "block", "1000")]).await;
    conn.updates_of(1).await;
    let beats = conn.heartbeats.len();
    assert!(beats >= 8, "{beats} heartbeats in the second the handler blocked");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_answer_to_its_heartbeats_a_worker_stops_its_jobs() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr));
    let welcome =
        Welcome { heartbeat_interval: Some(millis(100)), session_ttl: Some(millis(1_500)), ..welcome() };
    let (mut conn, _) = fake.welcomed_as(welcome).await;
    conn.answers_heartbeats = false;
    let before = std::time::Instant::now();
    conn.assign([assignment(1, "obey", "null"), assignment(2, "ignore", "null")]).await;
    let first = conn.updates_of(1).await.pop().unwrap();
    assert_eq!(first.kind(), Kind::Released, "given back: it is not the job's fault");
    assert!(before.elapsed() >= Duration::from_millis(1_000), "not before 0.8 of the time to live");
    let second = conn.updates_of(2).await.pop().unwrap();
    assert_eq!(second.kind(), Kind::Released, "ended, though it does not listen");
}

#[tokio::test(flavor = "multi_thread")]
async fn answered_heartbeats_keep_the_licence() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr));
    let welcome =
        Welcome { heartbeat_interval: Some(millis(100)), session_ttl: Some(millis(800)), ..welcome() };
    let (mut conn, _) = fake.welcomed_as(welcome).await;
    conn.assign([assignment(1, "sleep", "2000")]).await;
    assert_eq!(kinds(&conn.updates_of(1).await), [Kind::Started, Kind::Succeeded]);
}
