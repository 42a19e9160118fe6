//! Streams from the server that go on after a break exactly where they were.

use super::Client;
use crate::error::{Error, Result};
use crate::fleet::Event;
use crate::job::{JobChange, OutputChunk};
use crate::raw::pb;
use crate::time::backoff;
use futures::{Stream, StreamExt as _};
use tonic::Streaming;

/// Breaks in a row that a stream survives before it gives up: about a minute of trying.
const BREAKS_MAX: u32 = 20;

/// Which jobs to watch.
#[derive(Clone, Debug, Default)]
#[must_use = "a watch does nothing until it is opened"]
pub struct JobWatch {
    request: pb::WatchJobsRequest,
}

/// Which events to watch.
#[derive(Clone, Debug, Default)]
#[must_use = "a watch does nothing until it is opened"]
pub struct EventWatch {
    request: pb::WatchEventsRequest,
}

// === impl JobWatch ===

impl JobWatch {
    /// All jobs of the namespace.
    pub fn all() -> Self {
        Self::default()
    }

    /// These jobs. The stream ends when all of them have ended.
    pub fn jobs(job_ids: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let job_ids = job_ids.into_iter().map(Into::into).collect();
        Self { request: pb::WatchJobsRequest { job_ids, ..Default::default() } }
    }

    /// Those that match.
    pub fn filter(mut self, filter: impl Into<String>) -> Self {
        self.request.filter = filter.into();
        self
    }

    /// Every job that matches as it stands first, then CURRENT, then changes.
    pub fn include_existing(mut self) -> Self {
        self.request.include_existing = true;
        self
    }

    /// Continue exactly after the message that carried this token.
    pub fn resume(mut self, token: impl Into<String>) -> Self {
        self.request.resume_token = token.into();
        self
    }
}

// === impl EventWatch ===

impl EventWatch {
    /// All events from now.
    pub fn all() -> Self {
        Self::default()
    }

    /// Those that match.
    pub fn filter(mut self, filter: impl Into<String>) -> Self {
        self.request.filter = filter.into();
        self
    }

    /// From the oldest event kept.
    pub fn from_beginning(mut self) -> Self {
        self.request.from_beginning = true;
        self
    }

    /// Continue exactly after the message that carried this token.
    pub fn resume(mut self, token: impl Into<String>) -> Self {
        self.request.resume_token = token.into();
        self
    }
}

impl Client {
    /// Streams the changes of jobs. Breaks are mended with the resume token; what cannot be mended ends the stream with its error.
    pub fn watch(&self, watch: JobWatch) -> impl Stream<Item = Result<JobChange>> + Send + 'static {
        let client = self.clone();
        let open = move |request: pb::WatchJobsRequest| {
            let client = client.clone();
            async move { Ok(client.raw().jobs().watch_jobs(request).await?.into_inner()) }
        };
        let mark = |request: &mut pb::WatchJobsRequest, reply: &pb::WatchJobsResponse| {
            request.resume_token.clone_from(&reply.resume_token);
        };
        mended(watch.request, open, mark).map(|step| Ok(JobChange::from_pb(step?)))
    }

    /// Streams events: every one that matches, none twice, in order for each job. Signs of life are not passed on.
    pub fn watch_events(&self, watch: EventWatch) -> impl Stream<Item = Result<Event>> + Send + 'static {
        let client = self.clone();
        let open = move |request: pb::WatchEventsRequest| {
            let client = client.clone();
            async move { Ok(client.raw().events().watch_events(request).await?.into_inner()) }
        };
        let mark = |request: &mut pb::WatchEventsRequest, reply: &pb::WatchEventsResponse| {
            request.resume_token.clone_from(&reply.resume_token);
        };
        mended(watch.request, open, mark).filter_map(|step| async move {
            match step {
                Ok(pb::WatchEventsResponse { event: Some(event), resume_token }) => {
                    Some(Ok(Event::from_pb(event, resume_token)))
                }
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            }
        })
    }

    /// Streams what a job's worker wrote to a stream of it. With `follow`, until the stream ends.
    pub fn read_output(
        &self,
        job_id: impl Into<String>,
        stream: impl Into<String>,
        follow: bool,
    ) -> impl Stream<Item = Result<OutputChunk>> + Send + 'static {
        let client = self.clone();
        let open = move |request: pb::ReadJobOutputRequest| {
            let client = client.clone();
            async move { Ok(client.raw().jobs().read_job_output(request).await?.into_inner()) }
        };
        let mark = |request: &mut pb::ReadJobOutputRequest, reply: &pb::ReadJobOutputResponse| {
            request.offset = reply.offset + reply.chunk.len() as u64;
        };
        let request =
            pb::ReadJobOutputRequest { job_id: job_id.into(), stream: stream.into(), offset: 0, follow };
        mended(request, open, mark).map(|piece| {
            let pb::ReadJobOutputResponse { stream, offset, chunk, end, dropped } = piece?;
            Ok(OutputChunk { stream, offset, chunk, end, dropped })
        })
    }
}

/// A server stream that is opened again after a passing break, from the mark its last message left in the request.
pub(super) fn mended<Q, R, O, Fut, M>(request: Q, open: O, mark: M) -> impl Stream<Item = Result<R>> + Send
where
    Q: Clone + Send,
    R: Send + 'static,
    O: Fn(Q) -> Fut + Send,
    Fut: Future<Output = Result<Streaming<R>, tonic::Status>> + Send,
    M: Fn(&mut Q, &R) + Send,
{
    let start = Some((request, None::<Streaming<R>>, 0, open, mark));
    futures::stream::unfold(start, |state| async move {
        let (mut request, mut stream, mut breaks, open, mark) = state?;
        loop {
            let step = match &mut stream {
                Some(live) => live.message().await,
                None => match open(request.clone()).await {
                    Ok(live) => {
                        stream = Some(live);
                        continue;
                    }
                    Err(status) => Err(status),
                },
            };
            let error = match step {
                Ok(Some(reply)) => {
                    mark(&mut request, &reply);
                    return Some((Ok(reply), Some((request, stream, 0, open, mark))));
                }
                Ok(None) => return None,
                Err(status) => Error::from(status),
            };
            let can_go_on = error.is_passing() || error.reason() == "READER_TOO_SLOW";
            if !can_go_on || breaks == BREAKS_MAX {
                return Some((Err(error), None));
            }
            tokio::time::sleep(error.retry_after().unwrap_or_default() + backoff(breaks)).await;
            (stream, breaks) = (None, breaks + 1);
        }
    })
}
