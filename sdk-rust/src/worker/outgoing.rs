//! What waits to be written to the stream, in the order of its worth: control first, then reports, credit and output in turn.
//!
//! Lives longer than a stream: each stream is a generation, and an old one sees only its end.

use super::codec::Frame;
use crate::client::Client;
use crate::ctx::Sink;
use crate::error::{Code, Error, Result};
use crate::raw::pb;
use crate::worker::executor::{News, NewsSender};
use futures::Stream;
use prost::Message;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::{Notify, oneshot};

/// Largest frame where the server does not say.
const FRAME_MAX: usize = 4 << 20;
/// What a frame adds to the message in it.
const FRAME_HEAD: usize = 32;

pub(crate) struct Outgoing {
    state: Mutex<State>,
    room: Notify,
    news: NewsSender,
    client: Client,
}

#[derive(Default)]
struct State {
    generation: u64,
    /// The handshake is over: data may be written.
    is_open: bool,
    /// Nothing more will come; end the stream when all is written.
    is_closing: bool,
    control: VecDeque<Frame>,
    data: VecDeque<Frame>,
    output_bytes: usize,
    output_max: usize,
    /// What both sides may use.
    features: Vec<String>,
    payload_max: usize,
    frame_max: usize,
    waker: Option<Waker>,
    /// Questions without an answer, by lease and number. They go out again with every stream.
    asks: BTreeMap<(u64, u64), Asked>,
    /// The session is over: nothing will be answered any more.
    has_ended: bool,
}

struct Asked {
    ask: pb::Ask,
    answer: oneshot::Sender<pb::Answer>,
}

impl State {
    fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|known| known == feature)
    }

    fn ask_again(&mut self) {
        let asks = self
            .asks
            .values()
            .map(|asked| Frame::message(pb::connect_request::Frame::Ask(asked.ask.clone())));
        self.control.extend(asks);
    }
}

/// Reports that wait: what the server cannot know yet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unwritten {
    pub(crate) ended: u32,
    pub(crate) digest: u64,
    pub(crate) first_seq: Option<u64>,
}

// === impl Outgoing ===

impl Outgoing {
    pub(crate) fn new(news: NewsSender, client: Client) -> Arc<Self> {
        let state = State { payload_max: 1 << 20, frame_max: FRAME_MAX, ..State::default() };
        Arc::new(Self { state: Mutex::new(state), room: Notify::new(), news, client })
    }

    /// Begins a stream with its first frame. What was written for the old one is forgotten, output aside.
    pub(crate) fn begin(self: &Arc<Self>, first: pb::connect_request::Frame) -> Writer {
        let mut state = self.lock();
        state.generation += 1;
        (state.is_open, state.is_closing) = (false, false);
        state.control.clear();
        state.data.retain(|frame| frame.output_len().is_some());
        state.control.push_back(Frame::message(first));
        let generation = state.generation;
        wake(state);
        Writer { queue: self.clone(), generation }
    }

    /// The handshake is over: these are the terms.
    pub(crate) fn open(&self, limits: &pb::StreamLimits, features: Vec<String>) {
        let mut state = self.lock();
        let or = |value: u32, default: usize| if value == 0 { default } else { value as usize };
        state.output_max = or(limits.max_output_inflight_bytes, 1 << 20);
        state.payload_max = or(limits.payload_max_bytes, 1 << 20);
        state.frame_max = or(limits.max_frame_bytes, FRAME_MAX);
        (state.is_open, state.features) = (true, features);
        if !state.has("output") {
            state.data.retain(|frame| frame.output_len().is_none());
            state.output_bytes = 0;
        }
        state.ask_again();
        wake(state);
    }

    /// The stream goes on after a resume, on the terms it had.
    pub(crate) fn reopen(&self) {
        let mut state = self.lock();
        state.is_open = true;
        state.ask_again();
        wake(state);
    }

    /// Hands an answer to whoever asked. One that nobody waits for is of no use any more.
    pub(crate) fn answered(&self, answer: pb::Answer) {
        let asked = self.lock().asks.remove(&(answer.lease_id, answer.ask_id));
        if let Some(asked) = asked {
            // The handler may have gone meanwhile.
            let _ = asked.answer.send(answer);
        }
    }

    /// The lease is not ours any more: its questions are not answered.
    pub(crate) fn forget_asks(&self, lease_id: u64) {
        self.lock().asks.retain(|(lease, _), _| *lease != lease_id);
    }

    /// The session is over.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.has_ended = true;
        state.asks.clear();
    }

    pub(crate) fn control(&self, frame: pb::connect_request::Frame) {
        let mut state = self.lock();
        state.control.push_back(Frame::message(frame));
        wake(state);
    }

    pub(crate) fn data(&self, frame: Frame) {
        let mut state = self.lock();
        state.data.push_back(frame);
        wake(state);
    }

    /// Queues a heartbeat made from what is not written yet; one that was never written makes room for it.
    pub(crate) fn heartbeat(&self, make: impl FnOnce(Unwritten) -> pb::Heartbeat) {
        let mut state = self.lock();
        let mut unwritten = Unwritten::default();
        for frame in &state.data {
            if let Frame::Report { seq, ended, digest, .. } = frame {
                unwritten.ended += ended;
                unwritten.digest ^= digest;
                unwritten.first_seq.get_or_insert(*seq);
            }
        }
        let beat = make(unwritten);
        state.control.retain(|frame| !frame.is_heartbeat());
        state.control.push_back(Frame::message(pb::connect_request::Frame::Heartbeat(beat)));
        wake(state);
    }

    /// Ends the stream when all is written.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closing = true;
        wake(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Sink for Outgoing {
    fn client(&self) -> Option<&Client> {
        Some(&self.client)
    }

    fn noted(&self, lease_id: u64) {
        // The session may be gone.
        let _ = self.news.send(News::Noted(lease_id));
    }

    fn output(&self, output: pb::Output) -> Result<(), pb::Output> {
        let mut state = self.lock();
        if !state.has("output") {
            return Ok(());
        }
        let size: usize = output.chunks.iter().map(bytes::Bytes::len).sum();
        if state.output_bytes > 0 && state.output_bytes + size > state.output_max {
            return Err(output);
        }
        state.output_bytes += size;
        state.data.push_back(Frame::message(pb::connect_request::Frame::Output(output)));
        wake(state);
        Ok(())
    }

    fn ask(&self, feature: &str, ask: pb::Ask) -> Result<oneshot::Receiver<pb::Answer>> {
        let mut state = self.lock();
        if !state.has(feature) {
            let message = format!("the server does not answer questions of the feature `{feature}`");
            return Err(Error::new(Code::Unimplemented, "FEATURE_NOT_NEGOTIATED", message));
        }
        // The server would end the stream, and the next one just as well.
        let size = ask.encoded_len() + FRAME_HEAD;
        if size > state.frame_max {
            let message = format!("a question has at most {} bytes, this one {size}", state.frame_max);
            return Err(Error::new(Code::ResourceExhausted, "FRAME_TOO_LARGE", message));
        }
        let (answer, answered) = oneshot::channel();
        if state.has_ended {
            return Ok(answered); // and never comes
        }
        if state.is_open {
            state.control.push_back(Frame::message(pb::connect_request::Frame::Ask(ask.clone())));
        }
        state.asks.insert((ask.lease_id, ask.ask_id), Asked { ask, answer });
        wake(state);
        Ok(answered)
    }

    fn forget_ask(&self, lease_id: u64, ask_id: u64) {
        self.lock().asks.remove(&(lease_id, ask_id));
    }

    fn room(&self) -> &Notify {
        &self.room
    }

    fn payload_max(&self) -> usize {
        self.lock().payload_max
    }
}

/// One stream's view of the queue.
pub(crate) struct Writer {
    queue: Arc<Outgoing>,
    generation: u64,
}

impl Stream for Writer {
    type Item = Frame;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        let mut state = self.queue.lock();
        if state.generation != self.generation {
            return Poll::Ready(None);
        }
        if let Some(frame) = state.control.pop_front() {
            return Poll::Ready(Some(frame));
        }
        let frame = if state.is_open { state.data.pop_front() } else { None };
        if let Some(frame) = frame {
            if let Some(size) = frame.output_len() {
                state.output_bytes = state.output_bytes.saturating_sub(size);
                drop(state);
                self.queue.room.notify_waiters();
            }
            return Poll::Ready(Some(frame));
        }
        if state.is_closing {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}
