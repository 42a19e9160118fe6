//! `SubmitJobStream`: batches in, results in their order, ends of followed jobs as they come.
//!
//! One stream polled by its connection does it all: it reads no further ahead than `IN_FLIGHT_MAX` batches that are not
//! durable yet, and not at all while too many followed jobs are open. A reader that stops reading stops being read.

use super::Replies;
use super::batch::{Batch, Outcome};
use super::jobs::{check_batch, check_request_id};
use crate::call::Call;
use crate::gate::Gate;
use crate::status;
use crate::wire::job::ack_level;
use crate::wire::put::{self, Put};
use crate::wire::spec::SpecReader;
use bytes::Bytes;
use coretex_contract::v1 as pb;
use coretex_domain::{Job, Refusal};
use coretex_engine::api::{Follow, FollowAs};
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::task::AtomicWaker;
use futures::{Stream, StreamExt};
use rustc_hash::FxHashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tonic::{Status, Streaming};

/// Field numbers of `SubmitJobStreamResponse`.
const SEQUENCE: u32 = 1;
const COMPLETIONS: u32 = 3;
const ACK_LEVEL: u32 = 4;
/// About what one result or completion takes.
const RESULT_LEN: usize = 64;

/// Batches read and not answered yet.
const IN_FLIGHT_MAX: usize = 16;
/// Followed jobs open on one stream; beyond that nothing is read until some end.
const FOLLOWED_MAX: usize = 1 << 20;
/// Completions of one message, and about how many bytes.
const COMPLETIONS_MAX: usize = 512;
const COMPLETIONS_BYTES_AIM: usize = 1 << 20;
/// Bits of a tag that are the index in the batch; a batch has at most 10,000 items.
const INDEX_BITS: u32 = 16;

// === followed jobs ===

/// Where the engine says that followed jobs have ended.
#[derive(Default)]
struct Ended {
    jobs: Mutex<Vec<(u64, Arc<Job>)>>,
    reader: AtomicWaker,
}

impl Follow for Ended {
    fn ended(&self, tag: u64, job: &Arc<Job>) {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.push((tag, job.clone()));
        let is_first = jobs.len() == 1;
        drop(jobs);
        if is_first {
            self.reader.wake();
        }
    }
}

impl Ended {
    fn take(&self) -> Vec<(u64, Arc<Job>)> {
        std::mem::take(&mut *self.jobs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A batch whose jobs are followed.
struct Followed {
    sequence: u64,
    /// Index in the batch by index of the ask, when they differ.
    indexes: Option<Vec<u32>>,
    /// Jobs that have not ended; known once the batch is answered.
    open: usize,
    is_answered: bool,
    /// Ended before the batch was answered.
    early: Vec<(u32, Arc<Job>)>,
}

// === the stream ===

struct Answered {
    number: u64,
    sequence: u64,
    followed: bool,
    outcomes: Vec<Outcome>,
}

struct SubmitStream {
    gate: Arc<Gate>,
    call: Arc<Call>,
    requests: Option<Streaming<pb::SubmitJobStreamRequest>>,
    reader: SpecReader,
    in_flight: FuturesOrdered<BoxFuture<'static, Answered>>,
    ended: Arc<Ended>,
    followed: FxHashMap<u64, Followed>,
    /// Followed jobs that have not ended, those of batches in flight included.
    open: usize,
    completions: std::collections::VecDeque<(u64, u32, Arc<Job>)>,
    next_number: u64,
    /// Completions go before the next results.
    owes_completions: bool,
    failure: Option<Refusal>,
}

/// Opens a stream.
pub(crate) fn open(
    gate: Arc<Gate>,
    call: Arc<Call>,
    requests: Streaming<pb::SubmitJobStreamRequest>,
) -> Replies<Bytes> {
    let reader = gate.reader(&call);
    Box::pin(SubmitStream {
        gate,
        call,
        requests: Some(requests),
        reader,
        in_flight: FuturesOrdered::new(),
        ended: Arc::default(),
        followed: FxHashMap::default(),
        open: 0,
        completions: std::collections::VecDeque::new(),
        next_number: 0,
        owes_completions: false,
        failure: None,
    })
}

impl SubmitStream {
    /// Reads requests as long as there is room for what they ask.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<(), Refusal> {
        while self.in_flight.len() < IN_FLIGHT_MAX && self.open < FOLLOWED_MAX {
            let Some(requests) = &mut self.requests else { return Ok(()) };
            match requests.poll_next_unpin(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(None) => self.requests = None,
                Poll::Ready(Some(Err(status))) => return Err(status::inbound(&status)),
                Poll::Ready(Some(Ok(request))) => self.begin(request)?,
            }
        }
        Ok(())
    }

    fn begin(&mut self, request: pb::SubmitJobStreamRequest) -> Result<(), Refusal> {
        check_request_id(&request.request_id)?;
        check_batch(request.specs.len())?;
        self.reader.now = self.gate.now();
        let batch = Batch::read(&self.gate, &self.call, &mut self.reader, request.specs);
        let number = self.next_number;
        self.next_number += 1;
        let follow = request.follow.then(|| {
            let open = batch.asks.len();
            self.open += open;
            let indexes = batch.indexes();
            let sequence = request.sequence;
            let followed = Followed { sequence, indexes, open, is_answered: false, early: Vec::new() };
            self.followed.insert(number, followed);
            FollowAs { sink: self.ended.clone(), first_tag: number << INDEX_BITS }
        });
        let (gate, call) = (self.gate.clone(), self.call.clone());
        self.in_flight.push_back(Box::pin(async move {
            let outcomes = batch.submit_patiently(&gate, &call, &request.request_id, follow).await;
            Answered { number, sequence: request.sequence, followed: request.follow, outcomes }
        }));
        Ok(())
    }

    /// The answer of a batch. Its completions may go out from now on.
    fn answered(&mut self, answered: Answered) -> Bytes {
        let Answered { number, sequence, followed, outcomes } = answered;
        if followed {
            let accepted = outcomes.iter().filter(|o| o.answer.is_ok()).count();
            self.open_completions(number, accepted);
        }
        let mut put = Put::with_capacity(16 + outcomes.len() * RESULT_LEN);
        put.number(SEQUENCE, sequence);
        outcomes.into_iter().for_each(|outcome| outcome.put(&mut put, &self.call));
        let ack_level: i32 = ack_level(self.gate.engine.guarantees().ack).into();
        put.number(ACK_LEVEL, u64::try_from(ack_level).unwrap_or_default());
        put.finish()
    }

    fn open_completions(&mut self, number: u64, accepted: usize) {
        let Some(followed) = self.followed.get_mut(&number) else { return };
        followed.is_answered = true;
        self.open -= followed.open - accepted;
        followed.open = accepted;
        for (index, job) in std::mem::take(&mut followed.early) {
            self.completions.push_back((number, index, job));
        }
        if accepted == 0 {
            self.followed.remove(&number);
        }
    }

    /// Takes in what the engine says has ended.
    fn gather(&mut self) {
        let mask = (1 << INDEX_BITS) - 1;
        for (tag, job) in self.ended.take() {
            let number = tag >> INDEX_BITS;
            let index = u32::try_from(tag & mask).unwrap_or(u32::MAX);
            let Some(followed) = self.followed.get_mut(&number) else { continue };
            if followed.is_answered {
                self.completions.push_back((number, index, job));
            } else {
                followed.early.push((index, job));
            }
        }
    }

    /// As many completions as fit one message.
    fn completed(&mut self) -> Option<Bytes> {
        if self.completions.is_empty() {
            return None;
        }
        let mut put = Put::with_capacity(self.completions.len().min(COMPLETIONS_MAX) * RESULT_LEN);
        let mut count = 0;
        while count < COMPLETIONS_MAX
            && let Some((number, ask, job)) = self.completions.pop_front()
        {
            let size = job.result.as_ref().map_or(0, |r| r.data.len());
            if put.len() + size > COMPLETIONS_BYTES_AIM && count > 0 {
                self.completions.push_front((number, ask, job));
                break;
            }
            let Some(followed) = self.followed.get_mut(&number) else { continue };
            let indexes = followed.indexes.as_ref();
            let index = indexes.map_or(ask, |i| i.get(ask as usize).copied().unwrap_or(ask));
            put::completion(&mut put, COMPLETIONS, followed.sequence, index, &job);
            count += 1;
            followed.open -= 1;
            self.open -= 1;
            if followed.open == 0 {
                self.followed.remove(&number);
            }
        }
        (count > 0).then(|| put.finish())
    }

    fn is_done(&self) -> bool {
        self.requests.is_none() && self.in_flight.is_empty() && self.open == 0
    }

    /// The next message, if there is one: results and completions take turns.
    fn next_message(&mut self, cx: &mut Context<'_>) -> Option<Bytes> {
        self.gather();
        if std::mem::take(&mut self.owes_completions)
            && let Some(message) = self.completed()
        {
            return Some(message);
        }
        if let Poll::Ready(Some(answered)) = self.in_flight.poll_next_unpin(cx) {
            self.owes_completions = true;
            return Some(self.answered(answered));
        }
        self.completed()
    }
}

impl Stream for SubmitStream {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.ended.reader.register(cx.waker());
        if let Err(refusal) = this.read(cx) {
            // What is under way is answered before the stream ends with the refusal.
            this.requests = None;
            this.failure = Some(refusal);
        }
        if let Some(message) = this.next_message(cx) {
            return Poll::Ready(Some(Ok(message)));
        }
        if this.in_flight.is_empty()
            && let Some(refusal) = this.failure.take()
        {
            this.open = 0;
            return Poll::Ready(Some(Err(this.call.refuse(&refusal))));
        }
        if this.is_done() { Poll::Ready(None) } else { Poll::Pending }
    }
}
