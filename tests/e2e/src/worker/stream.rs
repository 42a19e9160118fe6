//! One stream of the worker protocol: frames out without delay, frames in one by one.

use crate::api::Api;
use coretex_contract::v1 as pb;
use coretex_contract::v1::connect_request::Frame as Out;
use coretex_contract::v1::connect_response::Frame as In;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

/// How long a test waits for a frame before it counts as a hang.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Stream {
    out: Option<Sender>,
    frames: Streaming<pb::ConnectResponse>,
    kept: VecDeque<In>,
}

/// The way out of a stream.
#[derive(Clone)]
pub struct Sender(mpsc::UnboundedSender<pb::ConnectRequest>);

// === impl Sender ===

impl Sender {
    /// False when the stream is gone.
    pub fn send(&self, seq: u64, frame: Out) -> bool {
        self.0.send(pb::ConnectRequest { seq, frame: Some(frame) }).is_ok()
    }
}

// === impl Stream ===

impl Stream {
    /// Opens a stream whose first frame is on its way before the answer is awaited.
    pub async fn open(api: &Api, first: Out) -> Result<Stream, Status> {
        let (out, requests) = mpsc::unbounded_channel();
        let out = Sender(out);
        out.send(0, first);
        let opening = api.workers().connect(UnboundedReceiverStream::new(requests)).await;
        let frames = opening?.into_inner();
        Ok(Stream { out: Some(out), frames, kept: VecDeque::new() })
    }

    /// The status a first frame is refused with, wherever in the stream it comes; or the frame that welcomes it.
    pub async fn try_refused(api: &Api, first: Out) -> Result<Status, Option<In>> {
        match Stream::open(api, first).await {
            Ok(mut stream) => match stream.next(PATIENCE).await {
                Err(status) => Ok(status),
                Ok(frame) => Err(frame),
            },
            Err(status) => Ok(status),
        }
    }

    pub async fn refused(api: &Api, first: Out) -> Status {
        Stream::try_refused(api, first).await.unwrap_or_else(|frame| panic!("it was answered by {frame:?}"))
    }

    pub fn send(&self, frame: Out) {
        self.send_numbered(0, frame);
    }

    pub fn send_numbered(&self, seq: u64, frame: Out) {
        if let Some(out) = &self.out {
            out.send(seq, frame);
        }
    }

    pub fn sender(&self) -> Sender {
        self.out.clone().expect("the stream is not half-closed")
    }

    /// Says that nothing more will come.
    pub fn half_close(&mut self) {
        self.out = None;
    }

    /// The next frame; `None` when the server ended the stream with OK.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<In>, Status> {
        match tokio::time::timeout(patience, self.frames.message()).await {
            Ok(Ok(Some(response))) => Ok(Some(response.frame.expect("a frame is never empty"))),
            Ok(Ok(None)) => Ok(None),
            Ok(Err(status)) => Err(status),
            Err(_) => panic!("no frame came for {patience:?}"),
        }
    }

    /// Keeps a frame for later.
    pub fn keep(&mut self, frame: In) {
        self.kept.push_back(frame);
    }

    /// The first kept frame that the test wants.
    pub fn pick_kept<T>(&mut self, pick: &mut impl FnMut(&In) -> Option<T>) -> Option<T> {
        let (place, found) = self.kept.iter().enumerate().find_map(|(n, frame)| Some((n, pick(frame)?)))?;
        self.kept.remove(place);
        Some(found)
    }

    /// Reads to the end; the status, OK included.
    pub async fn end(&mut self) -> Status {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            match self.next(left).await {
                Ok(Some(frame)) => self.keep(frame),
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }
}
