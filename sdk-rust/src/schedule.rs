//! Schedules: what is started by itself, and when.

use crate::error::{Error, Result};
use crate::job::Warning;
use crate::names::{ScheduleCatchUp, ScheduleFireCause, ScheduleFireOutcome, ScheduleOverlap};
use crate::payload::Payload;
use crate::raw::pb;
use crate::request::JobRequest;
use crate::time::{of_span, of_stamp, span, stamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What is started, and when.
///
/// ```
/// # use coretex_sdk::{JobRequest, ScheduleOverlap, ScheduleSpec};
/// let spec = ScheduleSpec::cron("30 2 * * MON-FRI", JobRequest::new("report.make"))
///     .time_zone("Europe/Berlin")
///     .overlap(ScheduleOverlap::Queue)
///     .catch_up_all(10);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a spec does nothing until it is applied"]
pub struct ScheduleSpec {
    pub(crate) spec: Box<pb::ScheduleSpec>,
    refused: Option<Arc<Error>>,
}

/// A run of a workflow to start.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ScheduledRun {
    /// The workflow.
    pub workflow: String,
    /// Its version. `None`: the newest one at each start.
    pub version: Option<u32>,
    /// Input of the run.
    pub input: Option<Payload>,
    /// Labels of the run.
    pub labels: BTreeMap<String, String>,
}

/// A schedule, and how far it has come.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Schedule {
    /// Its id.
    pub schedule_id: String,
    /// As it was applied. Left out of the REF view.
    pub spec: Option<ScheduleSpec>,
    /// Who applied it last. Empty: anonymous.
    pub creator: String,
    /// Set while it is paused.
    pub pause: Option<SchedulePause>,
    /// The next nominal time. `None` after the end, and while paused.
    pub next_nominal_time: Option<SystemTime>,
    /// When that is handled.
    pub next_fire_time: Option<SystemTime>,
    /// What became of the newest time that was handled.
    pub last_fire: Option<ScheduleFire>,
    /// Starts that were made.
    pub started: i64,
    /// How often nothing was started, as the schedule wants it.
    pub skipped: i64,
    /// Starts that were refused.
    pub failed: i64,
    /// Times that wait for their turn.
    pub pending: i32,
    /// Backfills that are not done.
    pub backfills: usize,
    /// Rises by one with each change of the spec.
    pub revision: u64,
    /// When it was made.
    pub create_time: Option<SystemTime>,
    /// Last change of the spec.
    pub update_time: Option<SystemTime>,
}

/// That a schedule is paused.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SchedulePause {
    /// Why.
    pub reason: String,
    /// Who. Empty: anonymous.
    pub actor: String,
    /// Since when.
    pub time: Option<SystemTime>,
}

/// What became of one nominal time.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ScheduleFire {
    /// The schedule.
    pub schedule_id: String,
    /// The time it was meant for.
    pub nominal_time: Option<SystemTime>,
    /// Why.
    pub cause: ScheduleFireCause,
    /// What came of it.
    pub outcome: ScheduleFireOutcome,
    /// When it was handled.
    pub fire_time: Option<SystemTime>,
    /// Id of the job or run. Empty where none was made.
    pub target_id: String,
    /// Stable reason where nothing was started.
    pub reason: String,
    /// The same in words.
    pub message: String,
}

/// A schedule as it was applied.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AppliedSchedule {
    /// The schedule, without its input.
    pub schedule: Schedule,
    /// Whether there was none of this id before.
    pub created: bool,
    /// What the caller should know.
    pub warnings: Vec<Warning>,
}

/// A nominal time to come.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PreviewedTime {
    /// The nominal time.
    pub nominal_time: Option<SystemTime>,
    /// When it is handled.
    pub fire_time: Option<SystemTime>,
    /// As clocks in the zone show it, RFC 3339.
    pub local_time: String,
    /// What clocks do there. Empty as a rule.
    pub note: String,
}

/// What a backfill goes through.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Backfill {
    /// Nominal times in the stretch.
    pub count: i32,
    /// The first of them.
    pub first_time: Option<SystemTime>,
    /// The last of them.
    pub last_time: Option<SystemTime>,
}

// === impl ScheduleSpec ===

impl ScheduleSpec {
    /// A job at the times of a cron expression, in UTC unless [`time_zone`](Self::time_zone) says otherwise.
    pub fn cron<O>(expression: impl Into<String>, job: JobRequest<O>) -> Self {
        Self::of(pb::ScheduleSpec { cron: expression.into(), ..Default::default() }).job(job)
    }

    /// A job at every so much, counted from 1970 unless [`anchor`](Self::anchor) says otherwise.
    pub fn every<O>(interval: Duration, job: JobRequest<O>) -> Self {
        Self::of(pb::ScheduleSpec { interval: Some(span(interval)), ..Default::default() }).job(job)
    }

    /// A run of a workflow at the times of a cron expression.
    pub fn cron_run(expression: impl Into<String>, run: ScheduledRun) -> Self {
        Self::of(pb::ScheduleSpec { cron: expression.into(), ..Default::default() }).run(run)
    }

    /// A run of a workflow at every so much.
    pub fn every_run(interval: Duration, run: ScheduledRun) -> Self {
        Self::of(pb::ScheduleSpec { interval: Some(span(interval)), ..Default::default() }).run(run)
    }

    pub(crate) fn of(spec: pb::ScheduleSpec) -> Self {
        Self { spec: Box::new(spec), refused: None }
    }

    fn job<O>(mut self, job: JobRequest<O>) -> Self {
        match job.into_pb() {
            Ok(job) => self.spec.target = Some(pb::schedule_spec::Target::Job(job)),
            Err(error) => self.refused = Some(Arc::new(error)),
        }
        self
    }

    fn run(mut self, run: ScheduledRun) -> Self {
        self.spec.target = Some(pb::schedule_spec::Target::Run(pb::ScheduledRun {
            workflow: run.workflow,
            version: run.version,
            input: run.input.map(Payload::into_pb),
            labels: run.labels,
        }));
        self
    }

    /// For people.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.spec.description = text.into();
        self
    }

    /// IANA name of the zone the expression is read in.
    pub fn time_zone(mut self, name: impl Into<String>) -> Self {
        self.spec.time_zone = name.into();
        self
    }

    /// A time from which intervals are counted.
    pub fn anchor(mut self, time: SystemTime) -> Self {
        self.spec.anchor = Some(stamp(time));
        self
    }

    /// No nominal time before it.
    pub fn start_time(mut self, time: SystemTime) -> Self {
        self.spec.start_time = Some(stamp(time));
        self
    }

    /// No nominal time at it or after.
    pub fn end_time(mut self, time: SystemTime) -> Self {
        self.spec.end_time = Some(stamp(time));
        self
    }

    /// Each start is put off by its own share of this.
    pub fn jitter(mut self, most: Duration) -> Self {
        self.spec.jitter = Some(span(most));
        self
    }

    /// What happens when an earlier target still runs. Default: the new one is skipped.
    pub fn overlap(mut self, overlap: ScheduleOverlap) -> Self {
        self.spec.overlap = match overlap {
            ScheduleOverlap::Skip => pb::ScheduleOverlap::Skip,
            ScheduleOverlap::Queue => pb::ScheduleOverlap::Queue,
            ScheduleOverlap::Allow => pb::ScheduleOverlap::Allow,
            ScheduleOverlap::CancelRunning => pb::ScheduleOverlap::CancelRunning,
            ScheduleOverlap::Unknown => pb::ScheduleOverlap::Unspecified,
        }
        .into();
        self
    }

    /// Missed times are made up for: none of them, or the newest. Default: the newest.
    pub fn catch_up(mut self, newest: bool) -> Self {
        let catch_up = if newest { pb::ScheduleCatchUp::One } else { pb::ScheduleCatchUp::Skip };
        (self.spec.catch_up, self.spec.catch_up_max) = (catch_up.into(), 0);
        self
    }

    /// The newest missed times are made up for, at most so many (1 to 1,000; 0: 100).
    pub fn catch_up_all(mut self, most: u32) -> Self {
        (self.spec.catch_up, self.spec.catch_up_max) = (pb::ScheduleCatchUp::All.into(), most);
        self
    }

    /// Its cron expression. Empty: it has an interval.
    pub fn expression(&self) -> &str {
        &self.spec.cron
    }

    /// From each nominal time to the next. `None`: it has a cron expression.
    pub fn interval(&self) -> Option<Duration> {
        of_span(self.spec.interval)
    }

    /// The zone its expression is read in.
    pub fn zone(&self) -> &str {
        &self.spec.time_zone
    }

    /// What happens when an earlier target still runs.
    pub fn on_overlap(&self) -> ScheduleOverlap {
        ScheduleOverlap::of(self.spec.overlap)
    }

    /// What is done about missed times, and for how many at most where it is all of them.
    pub fn on_missed(&self) -> (ScheduleCatchUp, u32) {
        (ScheduleCatchUp::of(self.spec.catch_up), self.spec.catch_up_max)
    }

    /// The job it starts. `None`: it starts a run.
    pub fn job_request(&self) -> Option<JobRequest> {
        match &self.spec.target {
            Some(pb::schedule_spec::Target::Job(job)) => Some(JobRequest::from_pb(job.clone())),
            Some(pb::schedule_spec::Target::Run(_)) | None => None,
        }
    }

    /// The workflow whose runs it starts. `None`: it starts a job.
    pub fn workflow(&self) -> Option<&str> {
        match &self.spec.target {
            Some(pb::schedule_spec::Target::Run(run)) => Some(&run.workflow),
            Some(pb::schedule_spec::Target::Job(_)) | None => None,
        }
    }

    /// Its text for people.
    pub fn about(&self) -> &str {
        &self.spec.description
    }

    pub(crate) fn into_pb(self) -> Result<pb::ScheduleSpec> {
        match self.refused {
            Some(error) => Err(error.again()),
            None => Ok(*self.spec),
        }
    }
}

// === from the wire ===

impl Schedule {
    pub(crate) fn from_pb(one: pb::Schedule) -> Self {
        Self {
            schedule_id: one.schedule_id,
            spec: one.spec.map(ScheduleSpec::of),
            creator: one.creator,
            pause: one.pause.map(|pause| SchedulePause {
                reason: pause.reason,
                actor: pause.actor,
                time: of_stamp(pause.time),
            }),
            next_nominal_time: of_stamp(one.next_nominal_time),
            next_fire_time: of_stamp(one.next_fire_time),
            last_fire: one.last_fire.map(ScheduleFire::from_pb),
            started: one.started,
            skipped: one.skipped,
            failed: one.failed,
            pending: one.pending,
            backfills: one.backfills.len(),
            revision: one.revision,
            create_time: of_stamp(one.create_time),
            update_time: of_stamp(one.update_time),
        }
    }
}

impl ScheduleFire {
    pub(crate) fn from_pb(fire: pb::ScheduleFire) -> Self {
        Self {
            schedule_id: fire.schedule_id,
            nominal_time: of_stamp(fire.nominal_time),
            cause: ScheduleFireCause::of(fire.cause),
            outcome: ScheduleFireOutcome::of(fire.outcome),
            fire_time: of_stamp(fire.fire_time),
            target_id: fire.target_id,
            reason: fire.reason,
            message: fire.message,
        }
    }
}

impl PreviewedTime {
    pub(crate) fn from_pb(one: pb::PreviewedTime) -> Self {
        Self {
            nominal_time: of_stamp(one.nominal_time),
            fire_time: of_stamp(one.fire_time),
            local_time: one.local_time,
            note: one.note,
        }
    }
}
