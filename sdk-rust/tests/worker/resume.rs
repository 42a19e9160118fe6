//! Breaks: what is resumed, sent again, dropped, and what cannot be mended.

use crate::fake::*;
use crate::{run, worker};
use coretex_sdk::raw::tonic::{Code, Status};
use coretex_sdk::raw::v1::connect_response::Frame as Down;
use coretex_sdk::raw::v1::{
    GoAway, GoAwayReason, HeldLeaseState, JobUpdateKind as Kind, LeaseVerdict, LeaseVerdictKind, Resumed,
    Welcome,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_was_not_acknowledged_is_sent_again_under_its_number() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "echo", "1")]).await;
    let (seq, first) = conn.report().await;
    conn.ack(seq);
    conn.assign([assignment(3, "ignore", "null")]).await;
    let (seq, started) = conn.report().await;
    assert_eq!((seq, kinds(&started)), (2, vec![Kind::Started]));
    conn.ack(seq);
    conn.assign([assignment(2, "echo", "2")]).await;
    let (seq, lost) = conn.report().await;
    assert_eq!((seq, first.len(), lost.len()), (3, 1, 1));
    conn.end(None);
    let (mut conn, resume) = fake.resumed().await;
    assert_eq!((resume.session_id.as_str(), resume.last_report_seq), ("session", 3));
    assert_eq!(&resume.resume_token[..], b"token-1");
    let mut held: Vec<_> =
        resume.held.iter().map(|held| (held.lease_id, held.state(), held.lease_token.clone())).collect();
    held.sort_unstable_by_key(|held| held.0);
    assert_eq!(
        held,
        [
            (2, HeldLeaseState::FinishedUnacked, "lease-2".into()),
            (3, HeldLeaseState::Running, "lease-3".into())
        ]
    );
    assert_eq!(resume.hello.unwrap().worker_id, "w");
    conn.send(Down::Resumed(Resumed { last_report_seq_durable: 2, ..resumed() }));
    let (seq, again) = conn.report().await;
    assert_eq!((seq, again), (3, lost), "byte for byte");
    assert_eq!(conn.granted.get("default").copied().unwrap_or_default(), 0, "no credit before the reports");
    conn.ack(seq);
    conn.assign([assignment(4, "echo", "4")]).await;
    loop {
        let (seq, updates) = conn.report().await;
        if updates.iter().any(|update| update.lease_id == 4) {
            assert!(seq >= 4, "numbers go on over the streams of a session");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_was_durable_all_the_same_is_not_sent_again() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "echo", "1")]).await;
    conn.report().await;
    conn.end(Some(Status::unavailable("the node is gone")));
    let (mut conn, _) = fake.resumed().await;
    conn.send(Down::Resumed(Resumed { last_report_seq_durable: 1, ..resumed() }));
    conn.assign([assignment(2, "echo", "2")]).await;
    let (seq, updates) = conn.report().await;
    assert_eq!((seq, updates.len(), updates[0].lease_id), (2, 1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_resume_credit_is_what_is_free() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr).slots(8).prefetch(0));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign((1..=3).map(|id| assignment(id, "ignore", "null"))).await;
    let (seq, _) = conn.report().await;
    conn.ack(seq);
    conn.end(None);
    let (mut conn, resume) = fake.resumed().await;
    assert_eq!(resume.held.len(), 3);
    conn.send(Down::Resumed(resumed()));
    assert_eq!(conn.credit().await, 5, "the account begins anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_stop_what_is_no_longer_ours() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr).slots(8).prefetch(0));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign((1..=3).map(|id| assignment(id, "obey", "null"))).await;
    let (seq, _) = conn.report().await;
    conn.ack(seq);
    conn.end(None);
    let (mut conn, _) = fake.resumed().await;
    let verdict = |lease_id, kind: LeaseVerdictKind| LeaseVerdict { lease_id, verdict: kind.into() };
    let verdicts = vec![
        verdict(1, LeaseVerdictKind::Lost),
        verdict(2, LeaseVerdictKind::Cancel),
        verdict(3, LeaseVerdictKind::Keep),
    ];
    conn.send(Down::Resumed(Resumed { verdicts, last_report_seq_durable: seq, ..resumed() }));
    let updates = conn.updates_of(2).await;
    assert_eq!(kinds(&updates), [Kind::Cancelled]);
    conn.until(|conn, _| (conn.granted["default"] == 7).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_session_is_gone_only_kept_leases_go_on() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "echo", "1")]).await;
    let (seq, _) = conn.report().await;
    conn.ack(seq);
    conn.assign([assignment(2, "echo", "2"), assignment(3, "echo", "3"), assignment(4, "obey", "null")])
        .await;
    let mut ended = 0;
    while ended < 2 {
        ended += conn.report().await.1.iter().filter(|update| is_end(update.kind())).count();
    }
    conn.end(None);
    let (mut conn, _) = fake.resumed().await;
    let verdict = |lease_id, kind: LeaseVerdictKind| LeaseVerdict { lease_id, verdict: kind.into() };
    let verdicts = vec![
        verdict(2, LeaseVerdictKind::Lost),
        verdict(3, LeaseVerdictKind::Keep),
        verdict(4, LeaseVerdictKind::Lost),
    ];
    conn.send(Down::Welcome(Welcome { session_id: "another".into(), verdicts, ..welcome() }));
    let (seq, updates) = conn.report().await;
    assert_eq!((seq, updates.len(), updates[0].lease_id), (1, 1, 3), "numbers begin anew");
    conn.ack(seq);
    conn.until(|conn, _| (conn.granted["default"] >= 8).then_some(())).await;
    conn.end(None);
    let (_, resume) = fake.resumed().await;
    assert_eq!((resume.session_id.as_str(), resume.held.len()), ("another", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_sent_away_takes_its_leases_along() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "sleep", "500")]).await;
    conn.send(Down::GoAway(GoAway {
        reason: GoAwayReason::NodeDraining.into(),
        reconnect_after_min: Some(millis(50)),
        reconnect_after_max: Some(millis(150)),
        keep_existing_leases: true,
        ..Default::default()
    }));
    let (mut next, resume) = fake.resumed().await;
    assert_eq!(resume.held[0].lease_id, 1);
    next.send(Down::Resumed(Resumed { last_report_seq_durable: resume.last_report_seq, ..resumed() }));
    while conn.recv().await.is_some() {}
    assert_eq!(next.updates_of(1).await.pop().unwrap().kind(), Kind::Succeeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_session_begins_anew() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "obey", "null")]).await;
    let reason = GoAwayReason::SessionExpired.into();
    conn.send(Down::GoAway(GoAway { reason, ..Default::default() }));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "echo", "1")]).await;
    assert_eq!(kinds(&conn.updates_of(1).await), [Kind::Succeeded], "ids begin anew with the session");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_credential_ends_the_worker_and_an_absent_server_does_not() {
    let mut fake = Fake::start().await;
    let (_handle, running) = run(worker(&fake.addr));
    fake.conn().await.end(Some(Status::unavailable("not yet")));
    fake.conn().await.end(Some(Status::new(Code::Unauthenticated, "who are you")));
    let error = within(running).await.unwrap().unwrap_err();
    assert_eq!(error.code(), coretex_sdk::Code::Unauthenticated);
}
