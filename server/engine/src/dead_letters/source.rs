//! What a redrive takes, oldest first: the dead letters of a query page by page, or those that were named.

use super::PAGE;
use crate::Engine;
use crate::api::{JobPage, JobQuery};
use crate::retry::id_of;
use coretex_domain::{Job, JobId, Namespace, Refusal, Time};
use std::collections::VecDeque;
use std::sync::Arc;

/// Which dead letters.
#[derive(Clone)]
pub enum Which {
    /// Those a query accepts.
    Query(JobQuery),
    Ids(Vec<JobId>),
}

pub(super) struct Source {
    which: Which,
    /// When the redrive began: what its own jobs leave is not taken up again.
    begun: Time,
    is_at_end: bool,
    ready: VecDeque<Arc<Job>>,
    /// Ids that name no dead letter.
    pub(super) unknown: u64,
}

impl Source {
    pub(super) fn new(which: Which, begun: Time) -> Source {
        let which = match which {
            Which::Query(query) => Which::Query(JobQuery { descending: false, page_size: PAGE, ..query }),
            Which::Ids(mut ids) => {
                ids.sort();
                ids.dedup();
                Which::Ids(ids)
            }
        };
        Source { which, begun, is_at_end: false, ready: VecDeque::new(), unknown: 0 }
    }

    /// The next ones, at most `count`; none when there are no more. A page of a walk may hold none to be had.
    pub(super) async fn next(
        &mut self,
        engine: &Engine,
        namespace: &Namespace,
        count: usize,
    ) -> Result<Vec<Arc<Job>>, Refusal> {
        while self.ready.is_empty() && !self.is_at_end {
            self.fill(engine, namespace).await?;
        }
        let count = count.min(self.ready.len());
        Ok(self.ready.drain(..count).collect())
    }

    async fn fill(&mut self, engine: &Engine, namespace: &Namespace) -> Result<(), Refusal> {
        match &mut self.which {
            Which::Ids(ids) => {
                let named = ids.len();
                let found = engine.dead_letters(namespace, std::mem::take(ids)).await?;
                self.unknown = (named - found.len()) as u64;
                self.is_at_end = true;
                self.ready.extend(found);
            }
            Which::Query(query) => {
                let JobPage { jobs, next } = engine.list(query.clone()).await?;
                self.is_at_end = next.is_none();
                query.after = next;
                let begun = self.begun;
                self.ready.extend(jobs.into_iter().filter(|job| !is_newer_retry(job, begun)));
            }
        }
        Ok(())
    }
}

fn is_newer_retry(job: &Job, begun: Time) -> bool {
    job.rare().retry_of.is_some() && job.history.first().is_some_and(|made| made.time >= begun)
}

/// Whether a redrive with this request id has to do with a job: not if another request retried it, nor if the job is
/// itself the retry that an earlier call of the same request made.
pub(super) fn is_ours(namespace: &Namespace, request_id: &str, job: &Job) -> bool {
    let rare = job.rare();
    let is_derived =
        |new: &JobId, old: &JobId| !request_id.is_empty() && id_of(namespace, request_id, old) == *new;
    let is_free = rare.retried_as.as_ref().is_none_or(|new| is_derived(new, &job.id));
    is_free && !rare.retry_of.as_ref().is_some_and(|old| is_derived(&job.id, old))
}
