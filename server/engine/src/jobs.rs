//! The façade for jobs: submit, read, wait, cancel, retry, explain, output.

use crate::api::{Accepted, Ask, Caller, Explanation, FollowAs, JobPage, JobQuery, OutputChunk};
use crate::events::refusal_of;
use crate::mail::Mail;
use crate::retry::{Retried, Retry, retry};
use crate::{Engine, ask, submit};
use coretex_domain::limits::{COUNT_EXAMINED_MAX, PAGE_EXAMINED_MAX};
use coretex_domain::{Job, JobId, Namespace, Payload, Reason, Refusal, Span};
use coretex_kernel::input::{Input, Reply};
use coretex_ports::{Row, Scan};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Rows read from the store at a time.
const SCAN_BATCH: usize = 500;
/// A page answers short rather than take longer than this.
const PAGE_TIME_MAX: Span = Span(100);

/// What a read of an output stream found.
#[derive(Clone, Debug, Default)]
pub struct OutputRead {
    pub chunks: Vec<OutputChunk>,
    /// Nothing more will come.
    pub has_ended: bool,
}

impl Engine {
    /// Accepts jobs. Answers are in order; each is its own success or refusal.
    pub async fn submit(
        &self,
        caller: &Caller,
        asks: Vec<Ask>,
        request_id: &str,
        follow: Option<FollowAs>,
    ) -> Result<Vec<Result<Accepted, Refusal>>, Refusal> {
        let answers = submit::submit(&self.shared, caller, asks, request_id, follow).await;
        self.shared.clean_soon.notify_one();
        answers
    }

    pub async fn get(&self, namespace: &Namespace, id: &JobId) -> Result<Arc<Job>, Refusal> {
        let found = self.batch_get(namespace, vec![id.clone()]).await?.into_iter().flatten().next();
        found.ok_or_else(|| Refusal::job_not_found(&id.to_string()))
    }

    /// By index; absent ones are `None`.
    pub async fn batch_get(
        &self,
        namespace: &Namespace,
        ids: Vec<JobId>,
    ) -> Result<Vec<Option<Arc<Job>>>, Refusal> {
        self.shared.store.read(namespace.clone(), ids).await.map_err(refusal_of)
    }

    /// One page in order of (create time, id). It may be short and still have a next one.
    pub async fn list(&self, query: JobQuery) -> Result<JobPage, Refusal> {
        let mut jobs = Vec::new();
        let mut after = query.after.clone();
        let (mut examined, mut has_more) = (0, true);
        let start = self.shared.env.clock.now().mono;
        while has_more && jobs.len() < query.page_size && examined < PAGE_EXAMINED_MAX {
            let page = self.scan(&query, after.clone()).await?;
            has_more = page.more;
            for row in page.rows {
                let Row::Job(job) = row else { continue };
                if jobs.len() == query.page_size {
                    has_more = true;
                    break;
                }
                examined += 1;
                after = Some((job.create_time, job.id.clone()));
                if (query.accepts)(&job) {
                    jobs.push(job);
                }
            }
            if self.shared.env.clock.now().mono.since(start) > PAGE_TIME_MAX {
                break;
            }
        }
        Ok(JobPage { jobs, next: after.filter(|_| has_more) })
    }

    /// Counts what a query accepts; not exact beyond a bound of rows looked at.
    pub async fn count(&self, query: JobQuery) -> Result<(u64, bool), Refusal> {
        let mut after = query.after.clone();
        let (mut examined, mut count, mut has_more) = (0, 0, true);
        while has_more && examined < COUNT_EXAMINED_MAX {
            let page = self.scan(&query, after.clone()).await?;
            has_more = page.more;
            for row in page.rows {
                let Row::Job(job) = row else { continue };
                examined += 1;
                after = Some((job.create_time, job.id.clone()));
                count += u64::from((query.accepts)(&job));
            }
        }
        Ok((count, !has_more))
    }

    pub(crate) async fn scan(
        &self,
        query: &JobQuery,
        after: Option<(coretex_domain::Time, JobId)>,
    ) -> Result<coretex_ports::Page, Refusal> {
        let scan = Scan::Jobs {
            namespace: query.namespace.clone(),
            set: query.set.clone(),
            topic: query.topic.clone(),
            state: query.state,
            descending: query.descending,
            after,
            from: query.from,
            to: query.to,
            limit: SCAN_BATCH,
        };
        self.shared.store.scan(scan).await.map_err(refusal_of)
    }

    /// The job as it ended, or as it stands at the timeout.
    pub async fn wait(&self, namespace: &Namespace, id: &JobId, timeout: Span) -> Result<Arc<Job>, Refusal> {
        let who = self.shared.loop_of(id.shard(namespace));
        let until = self.shared.env.clock.now().mono + timeout;
        loop {
            let (answer, done) = oneshot::channel();
            self.shared.post(who, Mail::Wait { namespace: namespace.clone(), job_id: id.clone(), answer })?;
            let ended = tokio::select! {
                ended = done => ended,
                () = self.shared.env.clock.sleep_until(until) => return self.get(namespace, id).await,
            };
            if let Ok(Some(job)) = ended {
                return Ok(job);
            }
            let job = self.get(namespace, id).await?;
            if job.state.kind().is_terminal() {
                return Ok(job);
            }
            // The loop was reloaded between the two questions: ask again, not at once.
            let next = self.shared.env.clock.now().mono + Span(10);
            if next >= until {
                return Ok(job);
            }
            self.shared.env.clock.sleep_until(next).await;
        }
    }

    /// Cancels a job. OK means that no new attempt starts, ever.
    pub async fn cancel(&self, caller: &Caller, id: &JobId, reason: Arc<str>) -> Result<Arc<Job>, Refusal> {
        let input = Input::Cancel {
            namespace: caller.namespace.clone(),
            job_id: id.clone(),
            reason,
            actor: caller.actor.clone(),
        };
        let who = self.shared.loop_of(id.shard(&caller.namespace));
        if let Reply::Job(answer) = ask(&self.shared, who, input).await? {
            return answer;
        }
        let job = self.get(&caller.namespace, id).await?;
        match job.state.kind() {
            coretex_domain::job::StateKind::Cancelled => Ok(job),
            state if state.is_terminal() => {
                let message = format!("job {id} has ended as {}", state.name());
                Err(Refusal::new(Reason::JobTerminal, message).fact("state", state.name()))
            }
            _ => Err(crate::reloaded()),
        }
    }

    /// A new job of an ended one's spec, linked both ways, judged again.
    pub async fn retry(
        &self,
        caller: &Caller,
        id: &JobId,
        edited: Option<Payload>,
        request_id: &str,
    ) -> Result<Accepted, Refusal> {
        let asked = Retry { edited, request_id, only_first: false, follow: None };
        match retry(self, caller, id, asked).await? {
            Retried::As(accepted) => Ok(accepted),
            Retried::Before(_) => Err(crate::reloaded()),
        }
    }

    /// Why a job stands where it stands.
    pub async fn explain(&self, namespace: &Namespace, id: &JobId) -> Result<Explanation, Refusal> {
        let who = self.shared.loop_of(id.shard(namespace));
        let input = Input::Explain { namespace: namespace.clone(), job_id: id.clone() };
        if let Reply::Explained(found) = ask(&self.shared, who, input).await? {
            return Ok(found);
        }
        let job = self.get(namespace, id).await?;
        let state = job.state.kind().name();
        let summary = match (job.failure(), &job.decision) {
            (Some(failure), _) => format!("{state}: {}: {}", failure.kind, failure.message),
            (None, Some(decision)) if job.state == coretex_domain::job::State::Denied => {
                format!("{state}: rule {}: {}", decision.rule_id, decision.reason)
            }
            (None, _) => match &job.rare().cancel {
                Some(cancel) => format!("{state}: {}", cancel.reason),
                None => state.to_owned(),
            },
        };
        Ok(Explanation { summary, causes: Vec::new() })
    }

    /// Output of a job from an offset on. With `wait` it returns when there is something, or nothing more to come.
    pub async fn read_output(
        &self,
        namespace: &Namespace,
        id: &JobId,
        stream: &str,
        offset: u64,
        wait: bool,
    ) -> Result<OutputRead, Refusal> {
        let stream: Arc<str> = stream.into();
        loop {
            let job = self.get(namespace, id).await?;
            let live = self.shared.outputs.read(job.key(), &stream, offset);
            let changed = live.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let mut chunks = Vec::new();
            if offset < live.oldest || live.chunks.is_empty() {
                chunks = self.stored_output(namespace, id, &stream, offset).await?;
            }
            let stored_end = chunks.last().map_or(offset, |c| c.offset + c.chunk.len() as u64);
            chunks.extend(live.chunks.into_iter().filter(|c| c.offset >= stored_end));
            if let Some(first) = chunks.first_mut() {
                // What neither memory nor the store has any more was lost on the way.
                first.dropped = first.dropped.max(first.offset.saturating_sub(offset));
            }
            let has_ended = live.is_closed || job.state.kind().is_terminal();
            if !chunks.is_empty() || has_ended || !wait {
                return Ok(OutputRead { chunks, has_ended });
            }
            let pause = self.shared.env.clock.now().mono + Span::secs(1);
            tokio::select! {
                () = changed => {}
                () = self.shared.env.clock.sleep_until(pause) => {}
            }
        }
    }

    async fn stored_output(
        &self,
        namespace: &Namespace,
        id: &JobId,
        stream: &Arc<str>,
        offset: u64,
    ) -> Result<Vec<OutputChunk>, Refusal> {
        let scan = Scan::Output {
            namespace: namespace.clone(),
            job_id: id.clone(),
            stream: stream.clone(),
            offset,
            limit: SCAN_BATCH,
        };
        let page = self.shared.store.scan(scan).await.map_err(refusal_of)?;
        let chunk = |row| match row {
            Row::Output { offset, chunk } => Some(OutputChunk { offset, chunk, is_end: false, dropped: 0 }),
            Row::Job(_) | Row::Event(_) | Row::Resource(_) => None,
        };
        Ok(page.rows.into_iter().filter_map(chunk).collect())
    }
}
