//! How keys end, and what of them ends with it.

use super::{auth, get, is_turned_away, last_record, make, revoke, rotate, server, settings, submit, wanted};
use crate::running_server::{In, Out, Server, frame, hello, reason};
use coretex_contract::v1 as pb;
use coretex_domain::access::Role;
use coretex_gateway::GatewaySettings;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tonic::{Code, Status, Streaming};

async fn end_of<T>(stream: &mut Streaming<T>) -> Status {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(50), stream.message()).await;
        match next.expect("it ends within 5 s, or 50 on a busy machine") {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ended well"),
            Err(status) => return status,
        }
    }
}

/// Opens a worker's stream, and keeps its sending side open.
async fn connect(
    server: &Server,
    key: &str,
) -> (tokio::sync::mpsc::Sender<pb::ConnectRequest>, Streaming<pb::ConnectResponse>) {
    let (send, frames) = tokio::sync::mpsc::channel(8);
    send.send(frame(Out::Hello(hello(&["job.a"])))).await.expect("room");
    let frames = futures::stream::unfold(frames, |mut f| async move { f.recv().await.map(|one| (one, f)) });
    let opened = server.workers().connect(Server::with_key(frames, key)).await;
    let mut stream = opened.expect("a stream").into_inner();
    let first = stream.message().await.expect("no error").and_then(|m| m.frame);
    assert!(matches!(first, Some(In::Welcome(_))), "{first:?}");
    (send, stream)
}

async fn watch(server: &Server, key: &str) -> Streaming<pb::WatchEventsResponse> {
    let request = Server::with_key(pb::WatchEventsRequest::default(), key);
    server.events().watch_events(request).await.expect("a watch").into_inner()
}

#[tokio::test]
async fn a_revoked_key_ends_its_open_streams_and_no_others() {
    let server = server().await;
    let (worker, works) = make(&server, wanted("w", Role::Worker)).await;
    let (viewer, views) = make(&server, wanted("v", Role::Viewer)).await;
    let (_, stays) = make(&server, wanted("stays", Role::Viewer)).await;
    let (_send, mut jobs) = connect(&server, &works).await;
    let (mut events, mut others) = (watch(&server, &views).await, watch(&server, &stays).await);
    revoke(&server, &worker.key_id).await;
    revoke(&server, &viewer.key_id).await;
    let since = Instant::now();
    for status in [end_of(&mut jobs).await, end_of(&mut events).await] {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "CREDENTIAL_INVALID"));
    }
    println!("both streams ended {:?} after the second answer", since.elapsed());
    let quiet = tokio::time::timeout(Duration::from_millis(100), others.message()).await;
    assert!(quiet.is_err() || quiet.is_ok_and(|m| m.is_ok()), "the watch of another goes on");
    drop(others);
    server.stop().await;
}

#[tokio::test]
async fn both_secrets_are_valid_until_the_overlap_ends_and_then_its_streams_end() {
    let mut settings = settings();
    settings.access.recheck_every = Duration::from_millis(100);
    let server = Server::with(settings).await;
    let (made, old) = make(&server, wanted("ci", Role::Admin)).await;
    let mut began_with_old = watch(&server, &old).await;
    let rotated = rotate(&server, &made.key_id, 2_000).await.expect("rotated");
    let (new, key) = (rotated.secret, rotated.api_key.expect("a key"));
    assert_eq!(key.key_id, made.key_id);
    assert!(new != old && new[..13] == old[..13], "the public part stays");
    assert!(key.overlap_end_time.is_some() && key.rotate_time.is_some());
    for secret in [&old, &new] {
        submit(&server, secret, "default").await.expect("both are valid");
    }
    let mut began_with_new = watch(&server, &new).await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    is_turned_away(&server, &old, "it was given a new secret, and the overlap is over").await;
    submit(&server, &new, "default").await.expect("stays");
    assert_eq!(end_of(&mut began_with_old).await.code(), Code::Unauthenticated);
    let quiet = tokio::time::timeout(Duration::from_millis(300), began_with_new.message()).await;
    assert!(quiet.is_err() || quiet.is_ok_and(|m| m.is_ok()), "the new one's goes on");
    assert_eq!(get(&server, &made.key_id).await.overlap_end_time, None);

    // Without an overlap the one before ends with the answer, and so do its streams.
    let newest = rotate(&server, &made.key_id, 0).await.expect("rotated").secret;
    is_turned_away(&server, &new, "its secret is another").await;
    assert_eq!(end_of(&mut began_with_new).await.code(), Code::Unauthenticated);
    submit(&server, &newest, "default").await.expect("valid");
    // A second rotation ends the overlap of the first.
    let next = rotate(&server, &made.key_id, 60_000).await.expect("rotated").secret;
    let last = rotate(&server, &made.key_id, 60_000).await.expect("rotated").secret;
    is_turned_away(&server, &newest, "its secret is another").await;
    for secret in [&next, &last] {
        submit(&server, secret, "default").await.expect("valid");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_expired_key_opens_nothing_and_cannot_be_rotated() {
    let server = server().await;
    let now =
        SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970") + Duration::from_millis(1_200);
    let expire_time = Some(coretex_contract::Timestamp {
        seconds: i64::try_from(now.as_secs()).expect("a time"),
        nanos: i32::try_from(now.subsec_nanos()).expect("a time"),
    });
    let short = pb::CreateApiKeyRequest { expire_time, ..wanted("short", Role::Submitter) };
    let (made, secret) = make(&server, short).await;
    submit(&server, &secret, "default").await.expect("not yet");
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    is_turned_away(&server, &secret, "it has expired").await;
    assert_eq!(get(&server, &made.key_id).await.state(), pb::ApiKeyState::Expired);
    assert_eq!(reason(&rotate(&server, &made.key_id, 0).await.expect_err("ended")), "API_KEY_ENDED");
    let past = pb::CreateApiKeyRequest { expire_time, ..wanted("past", Role::Viewer) };
    let refused = auth(&server).create_api_key(Server::with_key(past, super::ROOT)).await;
    assert_eq!(reason(&refused.expect_err("past")), "INVALID_FIELD");
    let week = rotate(&server, &made.key_id, 7 * 86_400_000 + 1).await.expect_err("too long");
    assert!(reason(&week) == "INVALID_FIELD" && week.message().contains("7d"), "{week:?}");
    server.stop().await;
}

#[tokio::test]
async fn whatever_is_wrong_with_a_key_is_refused_alike() {
    let server = server().await;
    let (made, secret) = make(&server, wanted("ci", Role::Submitter)).await;
    let (_, other) = make(&server, wanted("cd", Role::Submitter)).await;
    let tail = format!("{}{}", &secret[..13], &other[13..]);
    is_turned_away(&server, &tail, "its secret is another").await;
    assert_eq!(*last_record(&server).await.detail, format!("key {}: its secret is another", made.key_id));
    is_turned_away(&server, &format!("ctx_zzzzzzzz_{}", &secret[13..]), "it is unknown").await;
    let tabbed = format!("{}\t{}", &secret[..13], &secret[13..]);
    for mangled in [
        &format!("{secret} "),
        &format!("{secret} x"),
        &tabbed,
        &secret[..55],
        &secret[1..],
        "ctx_",
        "x",
        "a.b.c",
    ] {
        is_turned_away(&server, mangled, "it is unknown and not of our form").await;
    }
    // A newline cannot be sent in a header at all, nor in one of HTTP/1.1.
    let smuggled = format!("{secret}\n");
    assert!(tonic::metadata::MetadataValue::try_from(smuggled.as_str()).is_err());
    submit(&server, &secret, "default").await.expect("the key itself");
    server.stop().await;
}

#[tokio::test]
async fn wrong_keys_make_an_address_wait_and_others_of_it_too() {
    let mut settings = settings();
    settings.access.failed_logins_max = 10;
    let server = Server::with(GatewaySettings { ..settings }).await;
    let (made, secret) = make(&server, wanted("ci", Role::Submitter)).await;
    let mut seen = Vec::new();
    for n in 0..64 {
        let guess = format!("ctx_{}_{n:043}", made.key_id);
        seen.push(reason(&submit(&server, &guess, "default").await.expect_err("a guess")));
    }
    assert_eq!(seen.iter().filter(|reason| *reason == "CREDENTIAL_INVALID").count(), 10, "{seen:?}");
    assert!(seen[10..].iter().all(|reason| reason == "RATE_LIMITED"), "{seen:?}");
    assert_eq!(reason(&submit(&server, &secret, "default").await.expect_err("waits")), "RATE_LIMITED");
    server.stop().await;
}
