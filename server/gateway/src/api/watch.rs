//! `WatchJobs`: jobs that are there, then every change, resumable after any message.

use super::Replies;
use super::jobs::end_with;
use super::list::filter;
use super::lookup::query;
use crate::call::Call;
use crate::gate::{Gate, job_id};
use crate::tokens::Bound;
use crate::wire::event::kind;
use crate::wire::job::{self, Look};
use coretex_contract::v1 as pb;
use coretex_domain::filter::{Filter, JOB_FIELDS};
use coretex_domain::job::StateKind;
use coretex_domain::{Job, JobId, Reason, Refusal, Time};
use coretex_engine::api::JobQuery;
use coretex_engine::{Amended, AmendedStream, EventStream};
use coretex_ports::EventRow;
use futures::stream;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Ids one watch may name.
const IDS_MAX: usize = 1_000;
/// Silence after which a sign of life is sent.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(15);

struct Watch {
    gate: Arc<Gate>,
    call: Arc<Call>,
    filter: Arc<Filter>,
    /// Ids asked for; none means all.
    ids: Option<FxHashSet<JobId>>,
    /// Of those, the ones that have not ended.
    waiting: FxHashSet<JobId>,
    bound: Bound,
    events: EventStream,
    amended: AmendedStream,
    /// Position after the last message made.
    seen: Box<[u64; 256]>,
    phase: Phase,
    ready: VecDeque<pb::WatchJobsResponse>,
    _place: crate::gate::WatchPlace,
}

/// What comes next on a live watch.
enum Next {
    Batch(Option<Result<Arc<Vec<EventRow>>, Refusal>>),
    Amended(Amended),
}

enum Phase {
    /// Existing jobs are being listed; the key of the last one.
    Listing(Option<(Time, JobId)>),
    /// Progress was missed: running jobs are being looked at again; the key of the last one.
    Looking(Option<(Time, JobId)>),
    Live,
    /// Everything asked for has ended.
    Over,
}

/// Opens a watch.
pub(crate) fn open(
    gate: Arc<Gate>,
    call: Arc<Call>,
    request: pb::WatchJobsRequest,
) -> Result<Replies<pb::WatchJobsResponse>, Refusal> {
    let filter = filter(JOB_FIELDS, &request.filter)?;
    let ids = read_ids(&request.job_ids)?;
    let mut names: Vec<&str> = request.job_ids.iter().map(String::as_str).collect();
    names.sort_unstable();
    let bound = Bound::new("WatchJobs", call.namespace.as_str(), filter.hash(), &names.join(" "));
    let newest = gate.engine.sequences();
    let resumed = gate.tokens.open_position(&bound, &request.resume_token, &newest)?;
    let lists = resumed.is_none() && (request.include_existing || ids.is_some());
    let seen = resumed.unwrap_or(newest);
    let watch = Watch {
        events: gate.engine.watch(Some(seen.clone())),
        amended: gate.engine.watch_amended(),
        waiting: ids.clone().unwrap_or_default(),
        filter: Arc::new(filter),
        phase: if lists { Phase::Listing(None) } else { Phase::Live },
        ready: VecDeque::new(),
        _place: gate.watch_place(&call.namespace)?,
        gate,
        call,
        ids,
        bound,
        seen,
    };
    let is_silent = !request.include_existing;
    Ok(Box::pin(stream::unfold((watch, is_silent), |(mut watch, is_silent)| async move {
        let message = watch.next(is_silent).await?;
        let message = message.or_else(|refusal| end_with(&refusal, &watch.call));
        Some((message, (watch, is_silent)))
    })))
}

fn read_ids(given: &[String]) -> Result<Option<FxHashSet<JobId>>, Refusal> {
    if given.len() > IDS_MAX {
        return Err(Refusal::new(
            Reason::BatchTooLarge,
            format!("job_ids: at most {IDS_MAX}, got {}", given.len()),
        ));
    }
    let mut ids = FxHashSet::default();
    for (n, text) in given.iter().enumerate() {
        ids.insert(job_id(&format!("job_ids[{n}]"), text)?);
    }
    Ok((!ids.is_empty()).then_some(ids))
}

impl Watch {
    /// The next message. With `is_silent` jobs that are there are looked at, but not told.
    async fn next(&mut self, is_silent: bool) -> Option<Result<pb::WatchJobsResponse, Refusal>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(Ok(message));
            }
            let step = match &self.phase {
                Phase::Over => return None,
                Phase::Listing(after) => {
                    let after = after.clone();
                    self.list(after, is_silent).await
                }
                Phase::Looking(after) => {
                    let after = after.clone();
                    self.look_again(after).await
                }
                Phase::Live if self.ids.is_some() && self.waiting.is_empty() => return None,
                Phase::Live => self.live().await,
            };
            if let Err(refusal) = step {
                self.phase = Phase::Over;
                return Some(Err(refusal));
            }
        }
    }

    async fn list(&mut self, after: Option<(Time, JobId)>, is_silent: bool) -> Result<(), Refusal> {
        let (jobs, next) = self.page(after, None).await?;
        for job in jobs {
            if job.state.kind().is_terminal() {
                self.waiting.remove(&job.id);
            }
            if !is_silent && self.filter.matches(&job) {
                self.tell(pb::JobWatchKind::Existing, pb::JobEventType::Unspecified, &job);
            }
        }
        self.phase = Phase::Listing(next.clone());
        if next.is_none() {
            self.phase = Phase::Live;
            if !is_silent {
                self.current();
            }
        }
        Ok(())
    }

    /// Jobs that were asked for, from a key on.
    async fn page(
        &self,
        after: Option<(Time, JobId)>,
        state: Option<StateKind>,
    ) -> Result<(Vec<Arc<Job>>, Option<(Time, JobId)>), Refusal> {
        if let Some(ids) = &self.ids {
            let wanted: Vec<JobId> = ids.iter().cloned().collect();
            let found = self.gate.engine.batch_get(&self.call.namespace, wanted).await?;
            return Ok((found.into_iter().flatten().collect(), None));
        }
        let all = query(&self.call, (*self.filter).clone());
        let query = JobQuery { after, descending: false, state: state.or(all.state), ..all };
        let page = self.gate.engine.list(query).await?;
        Ok((page.jobs, page.next))
    }

    /// Tells how far running jobs are, for what they said meanwhile was missed.
    async fn look_again(&mut self, after: Option<(Time, JobId)>) -> Result<(), Refusal> {
        let (jobs, next) = self.page(after, Some(StateKind::Running)).await?;
        for job in jobs.iter().filter(|job| job.rare().progress.is_some()) {
            self.amended(job);
        }
        self.phase = if next.is_some() { Phase::Looking(next) } else { Phase::Live };
        Ok(())
    }

    /// A job has changed without an event: it told of its progress, as a rule.
    fn amended(&mut self, job: &Job) {
        let is_named = self.ids.as_ref().is_none_or(|ids| ids.contains(&job.id));
        let is_mine = is_named && job.namespace == self.call.namespace && !job.state.kind().is_terminal();
        let Some(last) = job.history.last().filter(|_| is_mine && self.filter.matches(job)) else { return };
        let told = kind(&last.event, None);
        self.tell(pb::JobWatchKind::Updated, told, job);
    }

    async fn live(&mut self) -> Result<(), Refusal> {
        // While events are read back they come first: progress would only hold them up.
        let is_live = self.events.is_live();
        let next = tokio::time::timeout(SILENCE_MAX, async {
            tokio::select! {
                biased;
                batch = next_batch(&self.gate, &mut self.events) => Next::Batch(batch),
                Some(amended) = self.amended.next(), if is_live => Next::Amended(amended),
            }
        });
        let batch = match next.await {
            Err(_silence) => {
                self.current();
                return Ok(());
            }
            Ok(Next::Amended(Amended::Job(job))) => {
                self.amended(&job);
                return Ok(());
            }
            Ok(Next::Amended(Amended::Missed)) => {
                self.phase = Phase::Looking(None);
                return Ok(());
            }
            Ok(Next::Batch(None)) => {
                self.phase = Phase::Over;
                return Err(Refusal::new(
                    Reason::ShuttingDown,
                    "the server goes down; resume with the last token",
                ));
            }
            Ok(Next::Batch(Some(batch))) => {
                batch.map_err(|refusal| stream_end(&self.gate, &self.bound, refusal))?
            }
        };
        self.take(&batch).await
    }

    async fn take(&mut self, batch: &[EventRow]) -> Result<(), Refusal> {
        let wanted = self.wanted(batch);
        let jobs = self.look_up(&wanted).await?;
        let mut rows = batch.iter().peekable();
        let mut was_created = false;
        while let Some(row) = rows.next() {
            if let Some(slot) = self.seen.get_mut(usize::from(row.shard.0)) {
                *slot = (*slot).max(row.entry.seq);
            }
            was_created |= row.from.is_none();
            // Changes of one job that follow each other are joined.
            if rows.peek().is_some_and(|next| next.job_id == row.job_id && next.namespace == row.namespace) {
                continue;
            }
            let job = jobs.get(&row.job_id).filter(|_| self.is_mine(row));
            if let Some(job) = job {
                self.changed(row, job, was_created);
            }
            was_created = false;
        }
        Ok(())
    }

    fn changed(&mut self, row: &EventRow, job: &Job, was_created: bool) {
        if row.to.is_terminal() {
            self.waiting.remove(&row.job_id);
        }
        if !self.filter.matches(job) {
            return;
        }
        let told = match (row.to.is_terminal(), was_created) {
            (true, _) => pb::JobWatchKind::Ended,
            (false, true) => pb::JobWatchKind::Created,
            (false, false) => pb::JobWatchKind::Updated,
        };
        self.tell(told, kind(&row.entry.event, row.from), job);
    }

    fn is_mine(&self, row: &EventRow) -> bool {
        row.namespace == self.call.namespace && self.ids.as_ref().is_none_or(|ids| ids.contains(&row.job_id))
    }

    fn wanted(&self, batch: &[EventRow]) -> Vec<JobId> {
        let mut ids: Vec<JobId> =
            batch.iter().filter(|row| self.is_mine(row)).map(|row| row.job_id.clone()).collect();
        ids.dedup();
        ids
    }

    async fn look_up(&self, ids: &[JobId]) -> Result<FxHashMap<JobId, Arc<Job>>, Refusal> {
        if ids.is_empty() {
            return Ok(FxHashMap::default());
        }
        let found = self.gate.engine.batch_get(&self.call.namespace, ids.to_vec()).await?;
        Ok(ids.iter().cloned().zip(found).filter_map(|(id, job)| job.map(|job| (id, job))).collect())
    }

    fn tell(&mut self, told: pb::JobWatchKind, kind: pb::JobEventType, job: &Job) {
        let resume_token = self.gate.tokens.seal_position(&self.bound, &self.seen);
        self.ready.push_back(pb::WatchJobsResponse {
            kind: told.into(),
            job: Some(job::write(job, Look::BASIC)),
            resume_token,
            r#type: kind.into(),
        });
    }

    fn current(&mut self) {
        let resume_token = self.gate.tokens.seal_position(&self.bound, &self.seen);
        let kind = pb::JobWatchKind::Current.into();
        self.ready.push_back(pb::WatchJobsResponse {
            kind,
            resume_token,
            ..pb::WatchJobsResponse::default()
        });
    }
}

/// The next events; none when the server goes down.
pub(super) async fn next_batch(
    gate: &Gate,
    events: &mut EventStream,
) -> Option<Result<Arc<Vec<EventRow>>, Refusal>> {
    tokio::select! {
        batch = events.next() => batch,
        () = gate.closed() => None,
    }
}

/// Why a stream of events ended, in the words of a watch.
pub(super) fn stream_end(gate: &Gate, bound: &Bound, refusal: Refusal) -> Refusal {
    match refusal.reason {
        Reason::TooMany => {
            Refusal::new(Reason::ReaderTooSlow, "the reader fell too far behind; resume with the last token")
        }
        Reason::EventsCompacted => {
            let oldest =
                refusal.facts.iter().find(|(name, _)| *name == "oldest_sequences").map(|(_, value)| value);
            let mut position = [0; 256];
            for (slot, text) in position.iter_mut().zip(oldest.map_or("", |v| v.as_str()).split(',')) {
                *slot = text.parse().unwrap_or(0);
            }
            let token = gate.tokens.seal_position(bound, &position);
            Refusal::new(Reason::EventsCompacted, refusal.message).fact("oldest_token", token)
        }
        _ => refusal,
    }
}
