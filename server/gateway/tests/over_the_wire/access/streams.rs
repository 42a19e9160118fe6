//! Streams of who may no longer.

use super::{identity, server};
use crate::running_server::{In, Out, Server, frame, hello, reason};
use coretex_contract::v1 as pb;
use coretex_domain::Time;
use coretex_domain::access::Role;
use coretex_gateway::{Access, ApiKeys, Authority, Identity, KeyFault, Principal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, watch};
use tonic::{Code, Status, Streaming};

/// Keys that can be taken back, as those of the store can.
struct Revocable {
    keys: ApiKeys,
    is_revoked: AtomicBool,
    changed: watch::Sender<u64>,
}

impl Authority for Revocable {
    fn find(&self, key: &str, now: Time) -> Result<Arc<Principal>, KeyFault> {
        let is_revoked = self.is_revoked.load(Ordering::Acquire);
        if is_revoked { Err(KeyFault::Revoked) } else { self.keys.find(key, now) }
    }

    fn is_valid(&self, principal: &Principal, now: Time) -> bool {
        !self.is_revoked.load(Ordering::Acquire) && self.keys.is_valid(principal, now)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl Revocable {
    fn new(key: &str, role: Role) -> Arc<Revocable> {
        let keys = ApiKeys::new(&[1; 32]).with(key, identity("goes", &[], role));
        Arc::new(Revocable { keys, is_revoked: AtomicBool::new(false), changed: watch::Sender::new(0) })
    }

    fn revoke(&self) {
        self.is_revoked.store(true, Ordering::Release);
        self.changed.send_modify(|count| *count += 1);
    }
}

async fn connect(
    server: &Server,
    first: Out,
    key: &str,
) -> (mpsc::Sender<pb::ConnectRequest>, Streaming<pb::ConnectResponse>) {
    let (send, frames) = mpsc::channel(64);
    send.send(frame(first)).await.expect("room");
    let frames =
        futures::stream::unfold(frames, |mut frames| async move { frames.recv().await.map(|f| (f, frames)) });
    let answer = server.workers().connect(Server::with_key(frames, key)).await;
    (send, answer.expect("a stream").into_inner())
}

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

#[tokio::test]
async fn a_revoked_key_ends_its_streams_and_no_others() {
    let authority = Revocable::new("goes", Role::Worker);
    let stays = ApiKeys::new(&[1; 32])
        .with("stays", identity("stays", &[], Role::Worker))
        .with("viewer", identity("viewer", &[], Role::Viewer));
    let server = server(Access::closed().keys(stays).authority(authority.clone())).await;
    let (_send, mut goes) = connect(&server, Out::Hello(hello(&["job.a"])), "goes").await;
    let (other, mut stays) = connect(&server, Out::Hello(hello(&["job.b"])), "stays").await;
    for stream in [&mut goes, &mut stays] {
        let first = stream.message().await.expect("no error").and_then(|m| m.frame);
        assert!(matches!(first, Some(In::Welcome(_))), "{first:?}");
    }
    let watch = Server::with_key(pb::WatchEventsRequest::default(), "viewer");
    let mut events = server.events().watch_events(watch).await.expect("a watch").into_inner();
    authority.revoke();
    let status = end_of(&mut goes).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "CREDENTIAL_INVALID"));
    let beat = pb::Heartbeat { heartbeat_no: 1, ..Default::default() };
    other.send(frame(Out::Heartbeat(beat))).await.expect("open");
    let answered = stays.message().await.expect("open").and_then(|m| m.frame);
    assert!(matches!(answered, Some(In::HeartbeatAck(_))), "{answered:?}");
    let quiet = tokio::time::timeout(Duration::from_millis(100), events.message()).await;
    assert!(quiet.is_err() || quiet.is_ok_and(|m| m.is_ok()), "the watch of another goes on");
    let again = server.workers().poll_jobs(Server::with_key(pb::PollJobsRequest::default(), "goes")).await;
    assert_eq!(again.expect_err("revoked").code(), Code::Unauthenticated);
    drop(events);
    server.stop().await;
}

#[tokio::test]
async fn streams_are_looked_at_again_and_end_with_their_key() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let expires = Some(Time(u64::try_from(now).expect("a time") + 1_500));
    let keys =
        ApiKeys::new(&[1; 32]).with("short", Identity { expires, ..identity("short", &[], Role::Admin) });
    let mut access = Access::closed().keys(keys);
    access.recheck_every = Duration::from_millis(50);
    let server = server(access).await;
    let watch = Server::with_key(pb::WatchJobsRequest::default(), "short");
    let mut jobs = server.jobs().watch_jobs(watch).await.expect("not yet").into_inner();
    let open = Server::with_key(futures::stream::pending::<pb::SubmitJobStreamRequest>(), "short");
    let mut submits = server.jobs().submit_job_stream(open).await.expect("not yet").into_inner();
    for status in [end_of(&mut jobs).await, end_of(&mut submits).await] {
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    }
    let late = server.admin().get_server_info(Server::with_key(pb::GetServerInfoRequest {}, "short")).await;
    assert_eq!(reason(&late.expect_err("expired")), "CREDENTIAL_INVALID");
    server.stop().await;
}

#[tokio::test]
async fn a_session_is_taken_up_by_its_own_identity_only() {
    let keys = ApiKeys::new(&[1; 32])
        .with("one", identity("one", &[], Role::Worker))
        .with("two", identity("two", &[], Role::Worker));
    let server = server(Access::closed().keys(keys)).await;
    let (send, mut stream) = connect(&server, Out::Hello(hello(&["job.a"])), "one").await;
    let Some(In::Welcome(welcome)) = stream.message().await.expect("no error").and_then(|m| m.frame) else {
        panic!("not welcomed")
    };
    drop((send, stream));
    let resume = pb::Resume {
        session_id: welcome.session_id.clone(),
        resume_token: welcome.resume_token.clone(),
        ..Default::default()
    };
    let (_send, mut stolen) = connect(&server, Out::Resume(resume.clone()), "two").await;
    let refused = stolen.message().await.expect_err("another identity");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "RESUME_REFUSED"));
    let (_send, mut own) = connect(&server, Out::Resume(resume), "one").await;
    let first = own.message().await.expect("no error").and_then(|m| m.frame);
    assert!(matches!(first, Some(In::Resumed(_))), "{first:?}");
    server.stop().await;
}
