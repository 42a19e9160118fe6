//! Batch after batch on one stream, with a bound on what is on the way.
//!
//! In: batches of requests. Out: one ticket per batch, and the ends of followed jobs. A break is mended by opening the stream again and
//! sending everything that is not settled once more under the same request ids, so nothing is submitted twice.

use super::submit::{BATCH_MAX, Submitted};
use super::{Client, request_id};
use crate::error::{Code, Error, Result};
use crate::job::Failure;
use crate::names::JobState;
use crate::payload::Payload;
use crate::raw::pb;
use crate::request::JobRequest;
use crate::time::backoff;
use futures::{Stream, StreamExt as _};
use prost::Message as _;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

/// Largest batch in bytes: the server's request limit less some room.
const BATCH_BYTES_MAX: usize = 3 << 20;
/// Batches that may wait for the transport.
const SEND_QUEUE_MAX: usize = 16;

/// Options of a submit stream.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is opened"]
pub struct SubmitStreamBuilder {
    client: Client,
    in_flight: usize,
    follow_max: Option<usize>,
}

/// A submit stream. Dropped, it lets what was sent settle in the background; [`finish`](SubmitStream::finish) waits for it.
#[derive(Debug)]
pub struct SubmitStream {
    batches: mpsc::Sender<Batch>,
    window: Arc<Semaphore>,
    followed: Option<Follow>,
    driver: tokio::task::JoinHandle<Result<()>>,
    sequence: u64,
}

#[derive(Debug)]
struct Follow {
    room: Arc<Semaphore>,
    most: usize,
    ends: mpsc::UnboundedReceiver<End>,
}

/// An end and the place it frees once it is read: so many can wait as may be followed.
type End = (Completion, Option<OwnedSemaphorePermit>);

/// The acknowledgement of one batch, to come.
#[derive(Debug)]
#[must_use = "await it to learn what became of the batch"]
pub struct Ticket {
    answer: oneshot::Receiver<Result<Vec<Result<Submitted>>>>,
}

/// The end of a followed job.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Completion {
    /// Number of the batch it was submitted in, from 1.
    pub sequence: u64,
    /// Its index in that batch.
    pub index: usize,
    /// Its id.
    pub job_id: String,
    /// Its terminal state.
    pub state: JobState,
    /// What the handler returned, when it succeeded.
    pub result: Option<Payload>,
    /// Why it did not succeed, otherwise.
    pub failure: Option<Failure>,
}

struct Batch {
    request: pb::SubmitJobStreamRequest,
    answer: Option<oneshot::Sender<Result<Vec<Result<Submitted>>>>>,
    /// Frees its place in the window when it is acknowledged.
    place: Option<OwnedSemaphorePermit>,
    /// Frees the places of its followed jobs as they end.
    followed: Option<OwnedSemaphorePermit>,
    /// Followed jobs that have not ended, by index.
    open: Vec<bool>,
}

impl Client {
    /// Options for a stream that submits batch after batch.
    pub fn submit_stream(&self) -> SubmitStreamBuilder {
        SubmitStreamBuilder { client: self.clone(), in_flight: 8, follow_max: None }
    }
}

// === impl SubmitStreamBuilder ===

impl SubmitStreamBuilder {
    /// Batches on the way at a time. Default 8.
    pub fn in_flight(mut self, batches: usize) -> Self {
        self.in_flight = batches.max(1);
        self
    }

    /// Also report when jobs end. At most so many are open, or ended and not read, at a time: beyond that [`SubmitStream::send`] waits.
    pub fn follow(mut self, jobs_max: usize) -> Self {
        self.follow_max = Some(jobs_max.clamp(1, Semaphore::MAX_PERMITS));
        self
    }

    /// Opens the stream. The connection is made as batches come.
    pub fn open(self) -> SubmitStream {
        let (batches, incoming) = mpsc::channel(SEND_QUEUE_MAX);
        let (ends_to, ends) = mpsc::unbounded_channel();
        let followed =
            self.follow_max.map(|most| Follow { room: Arc::new(Semaphore::new(most)), most, ends });
        let driver =
            Driver { client: self.client, incoming, ends: ends_to, unsettled: BTreeMap::new(), tries: 0 };
        SubmitStream {
            batches,
            window: Arc::new(Semaphore::new(self.in_flight)),
            followed,
            driver: tokio::spawn(driver.run()),
            sequence: 0,
        }
    }
}

// === impl SubmitStream ===

impl SubmitStream {
    /// Sends a batch of up to 10,000 requests. Waits for a place in the window, not for the acknowledgement: that is the ticket's.
    pub async fn send<O>(&mut self, requests: impl IntoIterator<Item = JobRequest<O>>) -> Result<Ticket> {
        let specs: Vec<_> = requests.into_iter().map(JobRequest::into_pb).collect::<Result<_>>()?;
        let too_large = |message: String| Error::new(Code::ResourceExhausted, "BATCH_TOO_LARGE", message);
        if specs.is_empty() {
            return Err(Error::option("a batch has at least one job"));
        }
        if specs.len() > BATCH_MAX {
            return Err(too_large(format!("a batch has at most {BATCH_MAX} jobs, this one {}", specs.len())));
        }
        let jobs = specs.len();
        self.sequence += 1;
        let request = pb::SubmitJobStreamRequest {
            sequence: self.sequence,
            specs,
            request_id: request_id(),
            follow: self.followed.is_some(),
        };
        if request.encoded_len() > BATCH_BYTES_MAX {
            return Err(too_large(format!("a batch has at most {BATCH_BYTES_MAX} bytes")));
        }
        let closed = || Error::closed("the submit stream has ended");
        let followed = match &self.followed {
            Some(follow) => {
                let places = u32::try_from(jobs.min(follow.most)).expect("invariant: at most BATCH_MAX");
                Some(follow.room.clone().acquire_many_owned(places).await.map_err(|_| closed())?)
            }
            None => None,
        };
        let place = Some(self.window.clone().acquire_owned().await.map_err(|_| closed())?);
        let (answer, ticket) = oneshot::channel();
        let open = vec![followed.is_some(); jobs];
        let batch = Batch { request, answer: Some(answer), place, followed, open };
        self.batches.send(batch).await.map_err(|_| closed())?;
        Ok(Ticket { answer: ticket })
    }

    /// The next end of a followed job. `None` when the stream does not follow, or has ended.
    pub async fn next_completion(&mut self) -> Option<Completion> {
        let (end, _place) = self.followed.as_mut()?.ends.recv().await?;
        Some(end)
    }

    /// Takes the ends of followed jobs away, to be read by another task.
    pub fn completions(&mut self) -> Option<impl Stream<Item = Completion> + Send + use<>> {
        let follow = self.followed.as_mut()?;
        let ends = std::mem::replace(&mut follow.ends, mpsc::unbounded_channel().1);
        Some(futures::stream::unfold(ends, |mut ends| async move {
            let (end, _place) = ends.recv().await?;
            Some((end, ends))
        }))
    }

    /// Sends no more, and waits until everything sent is acknowledged and all followed jobs have ended. Ends not read by then are dropped.
    pub async fn finish(self) -> Result<()> {
        let Self { batches, mut followed, mut driver, .. } = self;
        drop(batches);
        loop {
            let unread = async {
                match &mut followed {
                    Some(follow) => follow.ends.recv().await,
                    None => None,
                }
            };
            tokio::select! {
                ended = &mut driver => return ended.unwrap_or_else(|_| Err(Error::closed("the submit stream was stopped"))),
                Some(_) = unread => {}
            }
        }
    }
}

impl Future for Ticket {
    type Output = Result<Vec<Result<Submitted>>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let gone = |_| Err(Error::closed("the submit stream ended before the batch was acknowledged"));
        Pin::new(&mut self.answer).poll(cx).map(|answer| answer.unwrap_or_else(gone))
    }
}

// === the driver ===

struct Driver {
    client: Client,
    incoming: mpsc::Receiver<Batch>,
    ends: mpsc::UnboundedSender<End>,
    /// Everything sent that is not acknowledged or whose followed jobs have not all ended, by sequence.
    unsettled: BTreeMap<u64, Batch>,
    tries: u32,
}

enum Served {
    Done,
    Broken(Error),
}

impl Driver {
    async fn run(mut self) -> Result<()> {
        let mut broken_since: Option<Instant> = None;
        loop {
            let error = match self.serve().await {
                Served::Done => return Ok(()),
                Served::Broken(error) => error,
            };
            let since = *broken_since.get_or_insert_with(Instant::now);
            if self.tries == 0 {
                broken_since = Some(Instant::now());
            }
            if !error.is_passing() || since.elapsed() > self.client.shared().options.retry_for {
                self.fail_all(&error);
                return Err(error);
            }
            tokio::time::sleep(error.retry_after().unwrap_or_default() + backoff(self.tries)).await;
            self.tries += 1;
        }
    }

    fn fail_all(&mut self, error: &Error) {
        self.incoming.close();
        let waiting = std::iter::from_fn(|| self.incoming.try_recv().ok());
        for mut batch in std::mem::take(&mut self.unsettled).into_values().chain(waiting) {
            if let Some(answer) = batch.answer.take() {
                // The caller may have dropped its ticket.
                let _ = answer.send(Err(error.again()));
            }
        }
    }

    /// One stream, from its opening to its end.
    async fn serve(&mut self) -> Served {
        let mut again: std::collections::VecDeque<_> =
            self.unsettled.values().map(|batch| batch.request.clone()).collect();
        if again.is_empty() {
            let Some(batch) = self.incoming.recv().await else { return Served::Done };
            again.push_back(self.keep(batch));
        }
        let (outgoing, messages) = mpsc::channel(SEND_QUEUE_MAX);
        let messages = futures::stream::unfold(messages, |mut messages: mpsc::Receiver<_>| async move {
            Some((messages.recv().await?, messages))
        });
        let mut replies = match self.client.raw().jobs().submit_job_stream(messages).await {
            Ok(replies) => replies.into_inner(),
            Err(status) => return Served::Broken(status.into()),
        };
        let mut outgoing = Some(outgoing);
        loop {
            let can_send = outgoing.is_some();
            let next = async {
                let out = outgoing.as_ref()?;
                let permit = out.reserve().await.ok()?;
                match again.pop_front() {
                    Some(request) => permit.send(request),
                    None => {
                        let request =
                            self.incoming.recv().await.map(|batch| keep(&mut self.unsettled, batch))?;
                        permit.send(request);
                    }
                }
                Some(())
            };
            tokio::select! {
                reply = replies.next() => match reply {
                    Some(Ok(reply)) => self.settle(reply),
                    Some(Err(status)) => return Served::Broken(status.into()),
                    None if self.unsettled.is_empty() && !can_send => return Served::Done,
                    None => return Served::Broken(Error::new(
                        Code::Unavailable,
                        crate::error::reason::CONNECTION_LOST,
                        "the server closed the submit stream",
                    )),
                },
                sent = next, if can_send => if sent.is_none() {
                    outgoing = None;
                },
            }
        }
    }

    fn keep(&mut self, batch: Batch) -> pb::SubmitJobStreamRequest {
        keep(&mut self.unsettled, batch)
    }

    fn settle(&mut self, reply: pb::SubmitJobStreamResponse) {
        self.tries = 0;
        if let Some(batch) = self.unsettled.get_mut(&reply.sequence) {
            batch.acknowledge(reply.results, reply.ack_level);
            if batch.is_settled() {
                self.unsettled.remove(&reply.sequence);
            }
        }
        for end in reply.completions {
            let Some(batch) = self.unsettled.get_mut(&end.sequence) else { continue };
            let (sequence, index) = (end.sequence, end.index as usize);
            let Some(place) = batch.close(index) else { continue };
            if batch.is_settled() {
                self.unsettled.remove(&sequence);
            }
            let end = Completion {
                sequence,
                index,
                job_id: end.job_id,
                state: JobState::of(end.state),
                result: end.result.map(Payload::from_pb),
                failure: end.failure.map(Failure::from_pb),
            };
            // Nobody may be reading any more.
            let _ = self.ends.send((end, place));
        }
    }
}

fn keep(unsettled: &mut BTreeMap<u64, Batch>, batch: Batch) -> pb::SubmitJobStreamRequest {
    let request = batch.request.clone();
    unsettled.insert(request.sequence, batch);
    request
}

impl Batch {
    fn acknowledge(&mut self, results: Vec<pb::SubmitResult>, ack_level: i32) {
        let Some(answer) = self.answer.take() else { return };
        self.place = None;
        let results: Vec<_> =
            results.into_iter().map(|result| Submitted::of_result(result, ack_level)).collect();
        // What was refused, or is terminal already, will not be followed by the server.
        for (index, result) in results.iter().enumerate() {
            if result.is_err() {
                self.close(index);
            }
        }
        // The caller may have dropped its ticket.
        let _ = answer.send(Ok(results));
    }

    /// The place of a followed job that was open.
    fn close(&mut self, index: usize) -> Option<Option<OwnedSemaphorePermit>> {
        let was_open = self.open.get_mut(index).is_some_and(|open| std::mem::replace(open, false));
        was_open.then(|| self.followed.as_mut().and_then(|places| places.split(1)))
    }

    fn is_settled(&self) -> bool {
        self.answer.is_none() && !self.open.contains(&true)
    }
}
