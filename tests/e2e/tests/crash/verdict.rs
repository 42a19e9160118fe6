//! The reckoning after a round: every job the server said yes to is looked up, waited for and its history read.

use super::load::{Book, Script};
use coretex_contract::v1 as pb;
use coretex_contract::v1::{JobEventType, JobState};
use coretex_e2e::api::{Api, endings, times};
use futures::stream::{self, StreamExt};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// How long the backlog may take to run dry once the kills have stopped.
const DRAIN_GUARD: Duration = Duration::from_secs(90);
const AT_A_TIME: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) acked: u64,
    pub(crate) unknown_resolved: u64,
    pub(crate) cancels: u64,
    pub(crate) extra_starts: u64,
    pub(crate) lost: Vec<String>,
    pub(crate) unended: Vec<String>,
    pub(crate) double_ends: Vec<String>,
    pub(crate) wrong_ends: Vec<String>,
    pub(crate) gaps: Vec<String>,
    pub(crate) conflicts: Vec<String>,
    /// Workers that were sent more than they granted.
    pub(crate) overruns: Vec<String>,
    /// What fsck had against the store after a kill.
    pub(crate) unsound: Vec<String>,
}

impl Verdict {
    /// Fails with everything that is wrong.
    pub(crate) fn check(&self) {
        let faults = [
            ("lost", &self.lost),
            ("not ended", &self.unended),
            ("ended twice", &self.double_ends),
            ("ended wrong", &self.wrong_ends),
            ("gaps in attempts", &self.gaps),
            ("contradictions", &self.conflicts),
            ("workers overrun", &self.overruns),
            ("unsound stores", &self.unsound),
        ];
        let found: Vec<String> = faults
            .iter()
            .filter(|(_, list)| !list.is_empty())
            .map(|(what, list)| format!("{} {what}: {:?}", list.len(), &list[..list.len().min(5)]))
            .collect();
        assert!(found.is_empty(), "{}", found.join("\n"));
        assert!(self.acked > 0, "no job was accepted");
    }
}

pub(crate) async fn of(api: &Api, book: Book) -> Verdict {
    let mut verdict = Verdict {
        acked: book.acked.len() as u64,
        unknown_resolved: book.unknown_resolved,
        cancels: book.cancelled.len() as u64,
        conflicts: book.conflicts,
        ..Verdict::default()
    };
    let ids: Vec<String> = book.acked.keys().cloned().collect();
    let cancelled: HashSet<String> = book.cancelled.into_iter().collect();
    let jobs = wait_for_all(api, &ids, &mut verdict).await;
    let histories = stream::iter(jobs.iter().map(|job| async move { (job, api.history(&job.job_id).await) }));
    let mut histories = histories.buffer_unordered(AT_A_TIME);
    while let Some((job, history)) = histories.next().await {
        let script = book.acked[&job.job_id];
        judge(job, &history, script, cancelled.contains(&job.job_id), &mut verdict);
    }
    verdict
}

/// Looks all jobs up until all have ended.
async fn wait_for_all(api: &Api, ids: &[String], verdict: &mut Verdict) -> Vec<pb::Job> {
    let until = Instant::now() + DRAIN_GUARD;
    let mut open: Vec<String> = ids.to_vec();
    let mut ended = Vec::with_capacity(ids.len());
    loop {
        let mut still_open = Vec::new();
        for part in open.chunks(1_000) {
            let request = pb::BatchGetJobsRequest { job_ids: part.to_vec(), ..Default::default() };
            let reply = api.jobs().batch_get_jobs(request).await.expect("jobs can be read").into_inner();
            verdict.lost.extend(reply.missing);
            for job in reply.jobs {
                if job.state().is_terminal() {
                    ended.push(job);
                } else {
                    still_open.push(job.job_id);
                }
            }
        }
        open = still_open;
        if open.is_empty() || Instant::now() > until {
            verdict.unended.extend(open);
            return ended;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn judge(job: &pb::Job, history: &[pb::JobEvent], script: Script, cancelled: bool, verdict: &mut Verdict) {
    let id = &job.job_id;
    if endings(history) != 1 {
        verdict.double_ends.push(format!("{id}: {} ends", endings(history)));
    }
    let is_right = match job.state() {
        JobState::Cancelled => cancelled,
        JobState::Succeeded => !cancelled && script != Script::FailsAlways,
        JobState::Failed => !cancelled && script == Script::FailsAlways,
        _ => false,
    };
    if !is_right {
        verdict.wrong_ends.push(format!("{id} ({script:?}, cancelled: {cancelled}) is {:?}", job.state()));
    }
    // Attempts are numbered from 1 without gaps; the same number starts again only after a release.
    let starts: Vec<u32> =
        history.iter().filter(|e| e.r#type() == JobEventType::Started).map(|e| e.attempt).collect();
    let released = times(history, JobEventType::Released);
    let expected: Vec<u32> = (1..).take(starts.len()).collect();
    if released == 0 && starts != expected {
        verdict.gaps.push(format!("{id}: {starts:?}"));
    }
    let planned = match script {
        Script::Quick | Script::Slow => 1,
        Script::FailsOnce | Script::FailsAlways => 2,
    };
    verdict.extra_starts += starts.len().saturating_sub(planned) as u64;
}
