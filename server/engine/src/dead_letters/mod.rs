//! The façade for dead letters: look, group, retry, delete. Lists and counts are those of jobs, over their set.

mod follow;
mod group;
mod redrive;
mod source;
mod told;

pub use group::{Group, Groups};
pub use redrive::RedriveRun;
pub use source::Which;
pub use told::{Redrive, RedriveCounts, RedriveEnd, RedrivePhase, RedriveStep};

use crate::api::{Accepted, Caller, JobQuery};
use crate::events::refusal_of;
use crate::retry::{Retried, Retry, retry};
use crate::{Engine, ask};
use coretex_domain::limits::{COUNT_EXAMINED_MAX, PURGE_MAX};
use coretex_domain::{Job, JobId, Namespace, Payload, Reason, Refusal};
use coretex_kernel::input::{Input, Reply};
use coretex_ports::{Row, Scan};
use std::sync::Arc;

/// Rows read from the store at a time.
const PAGE: usize = 500;
/// Dead letters deleted in one group: each writes its job once more.
const DELETED_AT_A_TIME: usize = 128;
/// Dead letters a preview shows.
const SAMPLE: usize = 10;

/// What a change of many dead letters would meet.
#[derive(Clone, Debug, Default)]
pub struct Preview {
    pub matched: u64,
    /// False if it stopped at the bound of rows looked at.
    pub is_exact: bool,
    pub sample: Vec<Arc<Job>>,
}

/// What a purge did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    pub purged: u64,
    pub has_more: bool,
}

impl Engine {
    /// The job of a dead letter that is kept.
    pub async fn dead_letter(&self, namespace: &Namespace, id: &JobId) -> Result<Arc<Job>, Refusal> {
        let found = self.dead_letters(namespace, vec![id.clone()]).await?.pop();
        found.ok_or_else(|| not_found(id))
    }

    /// The jobs of those dead letters that are kept, in the order of the ids.
    pub async fn dead_letters(
        &self,
        namespace: &Namespace,
        ids: Vec<JobId>,
    ) -> Result<Vec<Arc<Job>>, Refusal> {
        let scan = Scan::DeadLetters { namespace: namespace.clone(), ids };
        let page = self.shared.store.scan(scan).await.map_err(refusal_of)?;
        let job = |row| match row {
            Row::Job(job) => Some(job),
            Row::Event(_) | Row::Output { .. } | Row::Resource(_) => None,
        };
        Ok(page.rows.into_iter().filter_map(job).collect())
    }

    /// Groups what a query accepts by fingerprint.
    pub async fn group_dead_letters(&self, query: JobQuery) -> Result<Groups, Refusal> {
        let mut groups = group::Grouping::default();
        let is_exact = self.each_of(query, COUNT_EXAMINED_MAX, |job| groups.take(job)).await?;
        Ok(groups.finish(is_exact))
    }

    /// How many dead letters a query accepts, and some of them.
    pub async fn preview_dead_letters(&self, query: JobQuery) -> Result<Preview, Refusal> {
        let mut preview = Preview::default();
        let take = |job: &Arc<Job>| {
            preview.matched += 1;
            if preview.sample.len() < SAMPLE {
                preview.sample.push(job.clone());
            }
        };
        preview.is_exact = self.each_of(query, COUNT_EXAMINED_MAX, take).await?;
        Ok(preview)
    }

    /// Retries one. Without a request id one that was retried before gives that job again.
    pub async fn retry_dead_letter(
        &self,
        caller: &Caller,
        id: &JobId,
        edited: Option<Payload>,
        request_id: &str,
    ) -> Result<Accepted, Refusal> {
        self.dead_letter(&caller.namespace, id).await?;
        let mut asked = Retry { edited, request_id, only_first: request_id.is_empty(), follow: None };
        loop {
            match retry(self, caller, id, asked.clone()).await? {
                Retried::As(accepted) => return Ok(accepted),
                Retried::Before(first) => {
                    let found = self.batch_get(&caller.namespace, vec![first]).await?;
                    if let Some(job) = found.into_iter().flatten().next() {
                        return Ok(Accepted { job, existing: true });
                    }
                    // The job of that retry is not kept any more: this is a new one.
                    asked.only_first = false;
                }
            }
        }
    }

    /// Deletes one; false if it had been deleted before.
    pub async fn delete_dead_letter(&self, caller: &Caller, id: &JobId) -> Result<bool, Refusal> {
        let kept = self.dead_letters(&caller.namespace, vec![id.clone()]).await?;
        if !kept.is_empty() {
            return Ok(self.delete_of_one_loop(caller, kept).await? > 0);
        }
        let job = self.batch_get(&caller.namespace, vec![id.clone()]).await?.into_iter().flatten().next();
        match job.filter(|job| job.has_deleted_dead_letter()) {
            Some(_) => Ok(false),
            None => Err(not_found(id)),
        }
    }

    /// Deletes what a query accepts, oldest first, up to a bound.
    pub async fn purge_dead_letters(&self, caller: &Caller, query: JobQuery) -> Result<Purged, Refusal> {
        let mut done = Purged::default();
        let mut query = JobQuery { descending: false, page_size: PAGE, ..query };
        loop {
            let page = self.list(query.clone()).await?;
            let room = PURGE_MAX - usize::try_from(done.purged).unwrap_or(PURGE_MAX);
            done.has_more = page.next.is_some() || page.jobs.len() > room;
            let mut by_loop: Vec<Vec<Arc<Job>>> = vec![Vec::new(); self.shared.mailboxes.len()];
            for job in page.jobs.into_iter().take(room) {
                by_loop[self.shared.loop_of(job.shard)].push(job);
            }
            for chunk in by_loop.iter().flat_map(|jobs| jobs.chunks(DELETED_AT_A_TIME)) {
                done.purged += self.delete_of_one_loop(caller, chunk.to_vec()).await? as u64;
            }
            query.after = page.next;
            if query.after.is_none() || done.purged >= PURGE_MAX as u64 {
                return Ok(done);
            }
        }
    }

    async fn delete_of_one_loop(&self, caller: &Caller, jobs: Vec<Arc<Job>>) -> Result<usize, Refusal> {
        let Some(who) = jobs.first().map(|job| self.shared.loop_of(job.shard)) else { return Ok(0) };
        let input = Input::DeleteDeadLetters { jobs, actor: caller.actor.clone() };
        match ask(&self.shared, who, input).await? {
            Reply::Deleted(count) => Ok(count),
            _ => Err(crate::reloaded()),
        }
    }

    /// Shows every job a query accepts to `take`; false if it stopped at `examined_max` rows.
    async fn each_of(
        &self,
        query: JobQuery,
        examined_max: usize,
        mut take: impl FnMut(&Arc<Job>),
    ) -> Result<bool, Refusal> {
        let mut after = query.after.clone();
        let mut examined = 0;
        loop {
            let page = self.scan(&query, after.clone()).await?;
            for row in page.rows {
                let Row::Job(job) = row else { continue };
                examined += 1;
                after = Some((job.create_time, job.id.clone()));
                if (query.accepts)(&job) {
                    take(&job);
                }
            }
            if !page.more || examined >= examined_max {
                return Ok(!page.more);
            }
        }
    }
}

fn not_found(id: &JobId) -> Refusal {
    Refusal::new(Reason::DeadLetterNotFound, format!("dead letter {id} not found"))
        .fact("dead_letter_id", id.to_string())
}
