//! The worker protocol, bare: what a benchmark needs of it and no more.

use super::super::input;
use crate::outcome::{Failure, Outcome};
use coretex_contract::v1::{self, connect_request::Frame as Up, connect_response::Frame as Down};
use coretex_sdk::Client;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tonic::Streaming;

/// The one lane of these workers.
pub(super) const LANE: &str = "default";
/// Frames that may wait for the transport.
const QUEUE_MAX: usize = 64;

/// A session, and the way to it.
pub(super) struct Session {
    pub welcome: v1::Welcome,
    pub frames: Streaming<v1::ConnectResponse>,
    pub up: mpsc::Sender<v1::ConnectRequest>,
    /// From Hello to Welcome.
    pub took: Duration,
}

/// A frame without a number: all but reports.
pub(super) fn frame(frame: Up) -> v1::ConnectRequest {
    v1::ConnectRequest { seq: 0, frame: Some(frame) }
}

/// Opens a session that serves a topic with so many slots.
pub(super) async fn open(
    client: &Client,
    worker_id: String,
    topics: &[String],
    slots: u32,
    ttl: Duration,
) -> Outcome<Session> {
    let (up, outgoing) = mpsc::channel(QUEUE_MAX);
    let start = Instant::now();
    let hello = v1::Hello {
        worker_id,
        namespace: client.namespace().to_owned(),
        protocol_min: 1,
        protocol_max: 1,
        features: vec!["batch".into()],
        sdk: Some(v1::SdkInfo {
            name: "coretex-bench".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        }),
        topics: topics
            .iter()
            .map(|topic| v1::TopicRegistration {
                name: topic.clone(),
                lane: LANE.into(),
                ..Default::default()
            })
            .collect(),
        lanes: vec![v1::LaneRegistration {
            lane_id: LANE.into(),
            topics: topics.to_vec(),
            slots,
            ..Default::default()
        }],
        session_grace: Some(input::span(ttl)),
        ..Default::default()
    };
    let send = |frame| up.send(frame);
    let closed = || Failure::Machine("the server closed the stream before it said Welcome".into());
    send(frame(Up::Hello(hello))).await.map_err(|_| closed())?;
    let outgoing =
        futures::stream::unfold(
            outgoing,
            |mut outgoing| async move { Some((outgoing.recv().await?, outgoing)) },
        );
    let mut frames = client.raw().workers().connect(outgoing).await?.into_inner();
    while let Some(reply) = frames.message().await? {
        if let Some(Down::Welcome(welcome)) = reply.frame {
            return Ok(Session { welcome, frames, up, took: start.elapsed() });
        }
    }
    Err(closed())
}

/// The digest of held leases: exclusive or of the hashes of their ids.
pub(super) fn heartbeat(number: u64) -> v1::Heartbeat {
    v1::Heartbeat { heartbeat_no: number, ..Default::default() }
}

/// A span of the contract. Left out, it is zero.
pub(super) fn span(value: Option<coretex_contract::Duration>) -> Duration {
    value.map(input::of_span).unwrap_or_default()
}
