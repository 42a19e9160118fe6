//! Redrive: many dead letters in; new jobs out, at a rate, in stages, until one fails as before or there are no more.
//!
//! It runs as fast as it is asked for its next step, and stops where it is when it is dropped. With the same request
//! id it makes no job twice: the ids of its jobs follow from it.

use super::follow::{Following, OPEN_MAX};
use super::source::{Source, Which, is_ours};
use super::told::{Redrive, RedriveCounts, RedriveEnd, RedrivePhase, RedriveStep};
use super::{Preview, SAMPLE};
use crate::Engine;
use crate::api::{Accepted, Caller, FollowAs, JobQuery};
use crate::retry::{Retried, Retry, retry};
use coretex_domain::dead_letter::DeadLetter;
use coretex_domain::refusal::Class;
use coretex_domain::{Job, JobId, Reason, Refusal, Span, Time};
use std::sync::Arc;

/// Retries on their way at a time.
const AT_A_TIME: usize = 64;
/// Changes are told this often, silence is broken after that.
const TELL_EVERY: Span = Span(500);
const SILENCE_MAX: Span = Span::secs(10);
/// Results one step tells.
const RESULTS_MAX: usize = 500;
/// Waits for a loop that is busy before a redrive gives up.
const BUSY_WAITS_MAX: usize = 50;
/// Jobs of the first stages of a canary.
const STAGES: [u64; 2] = [1, 10];

/// A redrive under way.
pub struct RedriveRun {
    engine: Engine,
    caller: Caller,
    asked: Redrive,
    source: Source,
    following: Following,
    stage: u32,
    /// Jobs the stage still lacks; none for the last one.
    left: Option<u64>,
    /// Microseconds of the monotonic clock before which nothing more is retried.
    not_before: u64,
    step: RedriveStep,
    told: (Time, RedriveCounts, RedrivePhase, u32),
    refusal: Option<Refusal>,
    is_over: bool,
}

impl Engine {
    pub fn redrive(&self, caller: &Caller, asked: Redrive) -> RedriveRun {
        let now = self.env().clock.now();
        let step = RedriveStep {
            phase: RedrivePhase::Retrying,
            stage: 1,
            counts: RedriveCounts::default(),
            results: Vec::new(),
            first_error: None,
            end: None,
        };
        RedriveRun {
            engine: self.clone(),
            caller: caller.clone(),
            source: Source::new(asked.which.clone(), now.wall),
            following: Following::new(now.mono),
            stage: 1,
            left: asked.canary.then_some(STAGES[0]),
            not_before: 0,
            told: (now.mono, step.counts, step.phase, 1),
            step,
            asked,
            refusal: None,
            is_over: false,
        }
    }

    /// What a redrive would retry.
    pub async fn preview_redrive(&self, caller: &Caller, asked: &Redrive) -> Result<Preview, Refusal> {
        let (namespace, request_id) = (caller.namespace.clone(), asked.request_id.clone());
        match asked.which.clone() {
            Which::Query(query) => {
                let accepts = query.accepts.clone();
                let ours = move |job: &Job| accepts(job) && is_ours(&namespace, &request_id, job);
                let query = JobQuery { descending: false, accepts: Arc::new(ours), ..query };
                self.preview_dead_letters(query).await
            }
            Which::Ids(ids) => {
                let mut found = self.dead_letters(&namespace, ids).await?;
                found.retain(|job| is_ours(&namespace, &request_id, job));
                let matched = found.len() as u64;
                found.truncate(SAMPLE);
                Ok(Preview { matched, is_exact: true, sample: found })
            }
        }
    }
}

// === impl RedriveRun ===

impl RedriveRun {
    /// The next piece of news; none after the last one, or after a refusal.
    pub async fn next(&mut self) -> Option<Result<RedriveStep, Refusal>> {
        while !self.is_over {
            if let Some(refusal) = self.refusal.take() {
                self.is_over = true;
                return Some(Err(refusal));
            }
            if let Err(refusal) = self.advance().await {
                // What was done until then is told first.
                self.refusal = Some(refusal);
                return Some(Ok(self.tell()));
            }
            if self.step.end.is_some() {
                self.is_over = true;
                self.step.phase = RedrivePhase::Over;
                return Some(Ok(self.tell()));
            }
            if self.is_news() {
                return Some(Ok(self.tell()));
            }
        }
        None
    }

    fn is_followed(&self) -> bool {
        self.asked.canary || self.asked.stop_on_repeat
    }

    fn now(&self) -> Time {
        self.engine.env().clock.now().mono
    }

    fn is_news(&self) -> bool {
        let (at, counts, phase, stage) = self.told;
        let silence = self.now().since(at);
        let is_turn = (phase, stage) != (self.step.phase, self.stage);
        is_turn
            || self.step.results.len() >= RESULTS_MAX
            || (counts != self.step.counts && silence >= TELL_EVERY)
            || silence >= SILENCE_MAX
    }

    fn tell(&mut self) -> RedriveStep {
        self.step.stage = self.stage;
        self.step.counts.skipped += std::mem::take(&mut self.source.unknown);
        self.told = (self.now(), self.step.counts, self.step.phase, self.stage);
        let results = std::mem::take(&mut self.step.results);
        RedriveStep { results, ..self.step.clone() }
    }

    /// One thing at a time: a stage ends, or something is waited for, or a few dead letters are retried.
    async fn advance(&mut self) -> Result<(), Refusal> {
        self.count_ends();
        if self.step.end.is_some() {
            return Ok(());
        }
        let now = self.now();
        if self.left == Some(0) {
            if self.following.count() > 0 {
                return self.wait(now + TELL_EVERY).await;
            }
            let next = STAGES.get(self.stage as usize);
            self.stage += 1;
            self.left = next.copied();
            return Ok(());
        }
        if self.following.count() >= OPEN_MAX {
            return self.wait(now + TELL_EVERY).await;
        }
        if self.not_before > now.0 * 1_000 {
            return self
                .following
                .wait(&self.engine, &self.caller.namespace, Time(self.not_before / 1_000 + 1))
                .await;
        }
        let room = OPEN_MAX - self.following.count();
        let stage_room = self.left.map_or(room, |left| usize::try_from(left).unwrap_or(room));
        let count = self.share().min(room).min(stage_room);
        let jobs = self.source.next(&self.engine, &self.caller.namespace, count).await?;
        if jobs.is_empty() && self.following.count() > 0 {
            return self.wait(now + TELL_EVERY).await;
        }
        if jobs.is_empty() {
            self.step.end = Some(RedriveEnd::Done);
            return Ok(());
        }
        self.retry(jobs).await
    }

    /// Dead letters to be retried together: what a tenth of a second holds.
    fn share(&self) -> usize {
        match self.asked.rate {
            0 => AT_A_TIME,
            rate => (rate as usize / 10).clamp(1, AT_A_TIME),
        }
    }

    async fn wait(&mut self, until: Time) -> Result<(), Refusal> {
        self.step.phase = RedrivePhase::Waiting;
        self.following.wait(&self.engine, &self.caller.namespace, until).await
    }

    fn count_ends(&mut self) {
        let is_early = self.asked.canary && self.stage as usize <= STAGES.len();
        for ended in self.following.take() {
            let counts = &mut self.step.counts;
            counts.succeeded += u64::from(ended.has_succeeded);
            counts.failed += u64::from(!ended.has_succeeded);
            counts.repeated += u64::from(ended.is_repeat);
            if self.step.end.is_some() {
                continue;
            }
            if self.asked.stop_on_repeat && ended.is_repeat {
                self.step.end = Some(RedriveEnd::Repeated(ended.job_id));
            } else if is_early && !ended.has_succeeded {
                self.step.end = Some(RedriveEnd::CanaryFailed(ended.job_id));
            }
        }
    }

    async fn retry(&mut self, jobs: Vec<Arc<Job>>) -> Result<(), Refusal> {
        self.step.phase = RedrivePhase::Retrying;
        let (namespace, request_id) = (self.caller.namespace.clone(), self.asked.request_id.clone());
        let found = jobs.len();
        let ours: Vec<Arc<Job>> =
            jobs.into_iter().filter(|job| is_ours(&namespace, &request_id, job)).collect();
        self.step.counts.skipped += (found - ours.len()) as u64;
        let is_followed = self.is_followed();
        let places: Vec<Option<FollowAs>> =
            ours.iter().map(|_| is_followed.then(|| self.following.place())).collect();
        let retries = ours.iter().zip(&places).map(|(job, place)| {
            let follow = place.clone();
            let asked = Retry { edited: None, request_id: &request_id, only_first: true, follow };
            patiently(&self.engine, &self.caller, &job.id, asked)
        });
        let outcomes = futures::future::join_all(retries).await;
        let mut fatal = None;
        let mut made = 0;
        for ((job, place), outcome) in ours.iter().zip(places).zip(outcomes) {
            match outcome {
                Ok(Retried::As(accepted)) => {
                    made += 1;
                    self.made(job, place, accepted);
                }
                Ok(Retried::Before(_)) => self.step.counts.skipped += 1,
                Err(refusal) if refusal.reason == Reason::JobNotFound => self.step.counts.skipped += 1,
                Err(refusal) if refusal.reason.class() == Class::FailedPrecondition => {
                    self.step.counts.refused += 1;
                    self.step.first_error.get_or_insert(refusal);
                }
                Err(refusal) => fatal = fatal.or(Some(refusal)),
            }
        }
        self.left = self.left.map(|left| left.saturating_sub(made));
        if self.asked.rate > 0 {
            let now = self.now().0 * 1_000;
            self.not_before = self.not_before.max(now) + made * 1_000_000 / u64::from(self.asked.rate);
        }
        fatal.map_or(Ok(()), Err)
    }

    fn made(&mut self, old: &Arc<Job>, place: Option<FollowAs>, accepted: Accepted) {
        self.step.counts.retried += 1;
        self.step.counts.existing += u64::from(accepted.existing);
        if let Some((place, letter)) = place.zip(DeadLetter::of(old, Time::NEVER)) {
            self.following.began(&place, accepted.job.id.clone(), letter.fingerprint);
        }
        self.step.results.push((old.id.clone(), accepted));
    }
}

/// Retries one, and waits while its loop is busy: a redrive is in no hurry.
async fn patiently(
    engine: &Engine,
    caller: &Caller,
    id: &JobId,
    asked: Retry<'_>,
) -> Result<Retried, Refusal> {
    let mut waits = 0;
    loop {
        match retry(engine, caller, id, asked.clone()).await {
            Err(refusal) if refusal.reason == Reason::Overloaded && waits < BUSY_WAITS_MAX => {
                waits += 1;
                let clock = &engine.env().clock;
                let until = clock.now().mono + refusal.retry_after.unwrap_or(Span(100));
                clock.sleep_until(until).await;
            }
            outcome => return outcome,
        }
    }
}
