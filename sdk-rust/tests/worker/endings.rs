//! How jobs end: results, failures, panics, cancels, stale leases.

use crate::fake::*;
use crate::{run, worker};
use coretex_sdk::raw::v1::connect_response::Frame as Down;
use coretex_sdk::raw::v1::control::entry::Action;
use coretex_sdk::raw::v1::{
    JobUpdateKind as Kind, RejectedUpdate, ReportAck, RetryMode, StreamLimits, UpdateRejection, control,
};
use coretex_sdk::{Ctx, RetryAfter, Terminal};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_result_over_the_limit_fails_here() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr));
    let limits = Some(StreamLimits { payload_max_bytes: 100, ..Default::default() });
    let (mut conn, _) = fake.welcomed_as(coretex_sdk::raw::v1::Welcome { limits, ..welcome() }).await;
    conn.assign([assignment(1, "echo", &format!("{:?}", "x".repeat(200)))]).await;
    let failure = conn.updates_of(1).await.pop().unwrap().failure.unwrap();
    assert_eq!(failure.r#type, "RESULT_TOO_LARGE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_failure_and_the_worker_lives_on() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    for id in 1..=40 {
        conn.assign([assignment(id, "panic", if id % 20 == 0 { r#""boom""# } else { r#""""# })]).await;
        let end = conn.updates_of(id).await.pop().unwrap();
        match id % 20 {
            0 => {
                let failure = end.failure.unwrap();
                assert_eq!((failure.r#type.as_str(), failure.message.as_str()), ("PANIC", "boom"));
            }
            _ => assert_eq!(end.kind(), Kind::Succeeded),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_input_that_cannot_be_read_is_not_retried() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "sleep", r#""not a number""#)]).await;
    let failure = conn.updates_of(1).await.pop().unwrap().failure.unwrap();
    assert_eq!(failure.r#type, "INPUT_DECODE");
    assert_eq!(failure.retry.unwrap().mode(), RetryMode::NoRetry);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handlers_decision_goes_with_the_failure() {
    let mut fake = Fake::start().await;
    let (_handle, _running) =
        run(worker(&fake.addr).bind_fn("decide", |ctx: Ctx, what: String| async move {
            match what.as_str() {
                "terminal" => Err(Terminal::new("never").kind("Never").into()),
                "later" => Err(RetryAfter::new(Duration::from_secs(9)).into()),
                "release" => Err(ctx.release()),
                _ => Err(std::io::Error::other("by policy").into()),
            }
            .map(|(): ()| ())
        }));
    let (mut conn, _) = fake.welcomed().await;
    let cases = [
        ("terminal", Kind::Failed, RetryMode::NoRetry),
        ("later", Kind::Failed, RetryMode::RetryAfter),
        ("policy", Kind::Failed, RetryMode::Default),
    ];
    for (id, (what, kind, mode)) in (1..).zip(cases) {
        conn.assign([assignment(id, "decide", &format!("{what:?}"))]).await;
        let end = conn.updates_of(id).await.pop().unwrap();
        let retry = end.failure.clone().unwrap().retry.unwrap();
        assert_eq!((end.kind(), retry.mode()), (kind, mode), "{what}");
    }
    conn.assign([assignment(9, "decide", r#""release""#)]).await;
    assert_eq!(conn.updates_of(9).await.pop().unwrap().kind(), Kind::Released);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_the_handler_and_is_acknowledged() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "obey", "null")]).await;
    conn.order(5, 1, Action::Cancel(control::Cancel { reason: "enough".into(), ..Default::default() }));
    assert_eq!(conn.updates_of(1).await.pop().unwrap().kind(), Kind::Cancelled);
    assert!(conn.acks.iter().any(|ack| ack.controls_acked == [5]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_ignores_a_cancel_is_ended_after_the_grace() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "ignore", "null"), assignment(2, "ignore", "null")]).await;
    let grace = Some(millis(200));
    conn.order(1, 1, Action::Cancel(control::Cancel { grace, ..Default::default() }));
    conn.order(2, 2, Action::Cancel(control::Cancel { force: true, grace, ..Default::default() }));
    let first = conn.updates_of(2).await.pop().unwrap();
    assert_eq!(first.kind(), Kind::Cancelled);
    assert_eq!(conn.updates_of(1).await.pop().unwrap().kind(), Kind::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_lease_stops_its_handler_and_is_not_reported() {
    let mut fake = Fake::start().await;
    let (handle, running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "obey", "null")]).await;
    let (seq, updates) = conn.report().await;
    assert_eq!(kinds(&updates), [Kind::Started]);
    let code = UpdateRejection::StaleLease.into();
    let rejected = vec![RejectedUpdate { seq, index: 0, code, message: "attempt 2 is open".into() }];
    conn.send(Down::ReportAck(ReportAck { durable_up_to_seq: seq, rejected }));
    conn.until(|conn, _| (conn.granted["default"] > 16).then_some(())).await;
    let leaving = tokio::spawn(async move { handle.drain(Duration::from_secs(5)).await });
    while conn
        .recv()
        .await
        .is_some_and(|frame| !matches!(frame, coretex_sdk::raw::v1::connect_request::Frame::Report(_)))
    {}
    conn.end(None);
    within(leaving).await.unwrap();
    let report = within(running).await.unwrap().unwrap();
    assert_eq!((report.discarded, report.cancelled, report.released, report.abandoned), (1, 0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_is_stopped_at_its_deadline() {
    let mut fake = Fake::start().await;
    let (_handle, _running) = run(worker(&fake.addr));
    let (mut conn, _) = fake.welcomed().await;
    let job = assignment(1, "obey", "null");
    conn.assign([coretex_sdk::raw::v1::Assignment { start_to_close: Some(millis(100)), ..job }]).await;
    let end = conn.updates_of(1).await.pop().unwrap();
    assert_eq!((end.kind(), end.failure.unwrap().r#type.as_str()), (Kind::Failed, "START_TO_CLOSE_TIMEOUT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_checkpoints_and_output_are_passed_on() {
    let mut fake = Fake::start().await;
    let (_handle, _running) =
        run(worker(&fake.addr).bind_fn("talk", |ctx: Ctx, _: serde_json::Value| async move {
            ctx.output("tokens", "one ");
            ctx.output("tokens", "two");
            ctx.log("a line");
            for step in 0..1_000 {
                ctx.progress(f64::from(step) / 1_000.0, format!("step {step}"));
            }
            ctx.checkpoint("half")?;
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(ctx.last_checkpoint::<String>()?.as_deref(), Some("half"));
            Ok(())
        }));
    let (mut conn, _) = fake.welcomed().await;
    conn.assign([assignment(1, "talk", "null")]).await;
    let updates = conn.updates_of(1).await;
    assert_eq!(updates.last().unwrap().kind(), Kind::Succeeded);
    let said = |kind| updates.iter().find(|update| update.kind() == kind).unwrap().progress.clone().unwrap();
    let progress = said(Kind::Progress);
    assert_eq!((progress.fraction, progress.message.as_str()), (Some(0.999), "step 999"), "the latest wins");
    assert!(said(Kind::Checkpoint).checkpoint.is_some());
    assert!(updates.len() <= 5, "a thousand words are a few updates");
    let written: Vec<_> =
        conn.outputs.iter().map(|o| (o.stream.as_str(), o.first_offset, &o.chunks[0][..])).collect();
    assert_eq!(written, [("tokens", 0, &b"one "[..]), ("tokens", 4, b"two"), ("log", 0, b"a line\n")]);
}
