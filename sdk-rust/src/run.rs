//! Runs of workflows, as the server shows them.

use crate::error::{Error, Result};
use crate::names::{JobCauseKind, RunCauseKind, RunEventType, RunState, StepState};
use crate::payload::{IntoPayload, Payload};
use crate::raw::pb;
use crate::time::{of_span, of_stamp};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// A run of a workflow, to be started.
///
/// ```
/// # use coretex_sdk::RunRequest;
/// let run = RunRequest::new("greet").input(&serde_json::json!({"name": "ann"}))?.idempotency_key("order-7");
/// # Ok::<(), coretex_sdk::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a request does nothing until it is sent"]
pub struct RunRequest {
    pub(crate) request: pb::StartRunRequest,
}

/// A run and where it stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Run {
    /// Id, unique in the namespace.
    pub run_id: String,
    /// Namespace it lives in.
    pub namespace: String,
    /// Name of the workflow.
    pub workflow: String,
    /// Version of the workflow, for its whole life.
    pub version: u64,
    /// Where it stands.
    pub state: RunState,
    /// What it was given. FULL view only.
    pub input: Option<Payload>,
    /// What it gave. FULL view only, and only when SUCCEEDED.
    pub output: Option<Payload>,
    /// Its steps in the order of the workflow. FULL view only.
    pub steps: Vec<RunStep>,
    /// There are more steps than are told.
    pub more_steps: bool,
    /// Why it did not succeed, or is about not to.
    pub error: Option<RunError>,
    /// As given at the start.
    pub labels: BTreeMap<String, String>,
    /// Who started it.
    pub actor: String,
    /// The run it was forked from, and the first step that was done again.
    pub lineage: Option<(String, String)>,
    /// Key of the workflow's `concurrency`.
    pub concurrency_key: String,
    /// When it was accepted.
    pub create_time: Option<SystemTime>,
    /// Last change.
    pub update_time: Option<SystemTime>,
    /// When its first steps could begin.
    pub start_time: Option<SystemTime>,
    /// When it was over.
    pub end_time: Option<SystemTime>,
    /// When it is ended as TIMED_OUT.
    pub deadline_time: Option<SystemTime>,
    /// When its record may be deleted.
    pub expire_time: Option<SystemTime>,
    /// Number of its newest history entry.
    pub revision: u64,
}

/// One step of a run, in one place where it is or would be done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunStep {
    /// Id of the step in the workflow.
    pub step_id: String,
    /// The step with the items of the groups it is in: `group:3:step`.
    pub path: String,
    /// `topic`, `uses`, `approval`, `delay`, `until`, `wait_event` or `parallel`.
    pub kind: String,
    /// Where it stands.
    pub state: StepState,
    /// Attempts of its job.
    pub attempts: u32,
    /// The job it is. Empty for a step that is none, or many.
    pub job_id: String,
    /// When it began.
    pub start_time: Option<SystemTime>,
    /// When it was over.
    pub end_time: Option<SystemTime>,
    /// The time it waits for.
    pub due_time: Option<SystemTime>,
    /// Why it failed, or was cancelled.
    pub error: Option<RunError>,
    /// Set for a step that is done for items.
    pub items: Option<RunItems>,
    /// How undoing it went, if it was undone.
    pub undo_state: Option<StepState>,
}

/// How far a step is with its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunItems {
    /// How many there are.
    pub count: u32,
    /// How many were begun.
    pub begun: u32,
    /// How many are over, the failed ones included.
    pub over: u32,
    /// How many failed.
    pub failed: u32,
}

/// Why a run or a step did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunError {
    /// Path of the step it began with. Empty where it is about the run.
    pub step_id: String,
    /// Kind of failure.
    pub kind: String,
    /// For people.
    pub message: String,
}

/// One thing that happened to a run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunEvent {
    /// Number in the history of the run, from 1 without a gap.
    pub sequence: u64,
    /// When.
    pub time: Option<SystemTime>,
    /// What.
    pub kind: RunEventType,
    /// Path of the step it is about. Empty when about the run.
    pub step_id: String,
    /// The item of the step.
    pub index: Option<u32>,
    /// The job it is about.
    pub job_id: String,
    /// Attempts the job took, once it is over.
    pub attempt: u32,
    /// Who caused it.
    pub actor: String,
    /// State of the step from then on.
    pub state: Option<StepState>,
    /// How the run ended, or is to end.
    pub run_state: Option<RunState>,
    /// In words.
    pub message: String,
    /// Kind of the error, where there is one.
    pub error_kind: String,
    /// Name of the signal.
    pub signal: String,
}

/// What happened to a watched run, and the run after it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunChange {
    /// The next entries of its history. None in a sign of life.
    pub events: Vec<RunEvent>,
    /// The run after them, or a little later when more follow.
    pub run: Run,
    /// Where a later watch goes on.
    pub last_sequence: u64,
}

/// Why a run is where it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunExplanation {
    /// In one or two sentences.
    pub summary: String,
    /// What it waits for, or how it ended, most important first.
    pub causes: Vec<RunCause>,
}

/// One thing a run waits for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunCause {
    /// Which.
    pub kind: RunCauseKind,
    /// What the job of a step waits for, with JOB.
    pub job_kind: Option<JobCauseKind>,
    /// In words.
    pub message: String,
    /// Who stands in the way.
    pub holders: Vec<String>,
    /// Time left as far as it can be known.
    pub eta: Option<Duration>,
}

/// A run that was asked for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StartedRun {
    /// The run, without steps and payloads.
    pub run: Run,
    /// Whether it was there before.
    pub existing: bool,
}

// === impl RunRequest ===

impl RunRequest {
    /// A run of this workflow.
    pub fn new(workflow: impl Into<String>) -> Self {
        Self { request: pb::StartRunRequest { workflow: workflow.into(), ..Default::default() } }
    }

    /// Version of the workflow. Without it, the newest.
    pub fn version(mut self, version: u64) -> Self {
        self.request.version = version;
        self
    }

    /// What it is given, as JSON.
    pub fn input(mut self, input: impl IntoPayload) -> Result<Self> {
        self.request.input = Some(input.into_payload()?.into_pb());
        Ok(self)
    }

    /// Business key: the same key gives the same run. Not together with [`Self::run_id`].
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.request.idempotency_key = key.into();
        self
    }

    /// An id of your own: `run_[a-z0-9-]{1,60}`.
    pub fn run_id(mut self, run_id: impl Into<String>) -> Self {
        self.request.run_id = run_id.into();
        self
    }

    /// A name for filters and people.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.labels.insert(key.into(), value.into());
        self
    }

    /// A signal that is there from the start. Where the run exists already it is sent to it.
    pub fn signal(mut self, name: impl Into<String>, payload: impl IntoPayload) -> Result<Self> {
        let payload = Some(payload.into_payload()?.into_pb());
        let signal = self.request.signal.get_or_insert_default();
        (signal.name, signal.payload) = (name.into(), payload);
        Ok(self)
    }

    /// Names the signal that comes with the start, so that a repeat of it is known.
    pub fn signal_id(mut self, id: impl Into<String>) -> Self {
        self.request.signal.get_or_insert_default().signal_id = id.into();
        self
    }

    /// Makes a repeat of this very call safe. Made up where it is left out.
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.request.request_id = id.into();
        self
    }
}

// === impl Run ===

impl Run {
    pub(crate) fn of(run: Option<pb::Run>) -> Result<Self> {
        run.map(Self::from_pb).ok_or_else(|| Error::unexpected("the reply has no run"))
    }

    pub(crate) fn from_pb(run: pb::Run) -> Self {
        Self {
            run_id: run.run_id,
            namespace: run.namespace,
            workflow: run.workflow,
            version: run.version,
            state: RunState::of(run.state),
            input: run.input.map(Payload::from_pb),
            output: run.output.map(Payload::from_pb),
            steps: run.steps.into_iter().map(RunStep::from_pb).collect(),
            more_steps: run.more_steps,
            error: run.error.map(RunError::from_pb),
            labels: run.labels.into_iter().collect(),
            actor: run.actor,
            lineage: run.lineage.map(|lineage| (lineage.run_id, lineage.step_id)),
            concurrency_key: run.concurrency_key,
            create_time: of_stamp(run.create_time),
            update_time: of_stamp(run.update_time),
            start_time: of_stamp(run.start_time),
            end_time: of_stamp(run.end_time),
            deadline_time: of_stamp(run.deadline_time),
            expire_time: of_stamp(run.expire_time),
            revision: run.revision,
        }
    }

    /// The step with this path.
    pub fn step(&self, path: &str) -> Option<&RunStep> {
        self.steps.iter().find(|step| step.path == path)
    }
}

impl RunStep {
    fn from_pb(step: pb::RunStep) -> Self {
        let items = |items: pb::RunItems| RunItems {
            count: items.count,
            begun: items.begun,
            over: items.over,
            failed: items.failed,
        };
        Self {
            step_id: step.step_id,
            path: step.path,
            kind: step.kind,
            state: StepState::of(step.state),
            attempts: step.attempts,
            job_id: step.job_id,
            start_time: of_stamp(step.start_time),
            end_time: of_stamp(step.end_time),
            due_time: of_stamp(step.due_time),
            error: step.error.map(RunError::from_pb),
            items: step.items.map(items),
            undo_state: set(step.undo_state).map(StepState::of),
        }
    }
}

impl RunError {
    fn from_pb(error: pb::RunError) -> Self {
        Self { step_id: error.step_id, kind: error.r#type, message: error.message }
    }
}

impl RunEvent {
    pub(crate) fn from_pb(event: pb::RunEvent) -> Self {
        Self {
            sequence: event.sequence,
            time: of_stamp(event.time),
            kind: RunEventType::of(event.r#type),
            step_id: event.step_id,
            index: event.index,
            job_id: event.job_id,
            attempt: event.attempt,
            actor: event.actor,
            state: set(event.state).map(StepState::of),
            run_state: set(event.run_state).map(RunState::of),
            message: event.message,
            error_kind: event.error_type,
            signal: event.signal,
        }
    }
}

impl RunChange {
    pub(crate) fn from_pb(reply: pb::WatchRunResponse) -> Result<Self> {
        Ok(Self {
            events: reply.events.into_iter().map(RunEvent::from_pb).collect(),
            run: Run::of(reply.run)?,
            last_sequence: reply.last_sequence,
        })
    }
}

impl RunExplanation {
    pub(crate) fn from_pb(reply: pb::ExplainRunResponse) -> Self {
        let cause = |cause: pb::RunCause| RunCause {
            kind: RunCauseKind::of(cause.kind),
            job_kind: set(cause.job_kind).map(JobCauseKind::of),
            message: cause.message,
            holders: cause.holders,
            eta: of_span(cause.eta),
        };
        Self { summary: reply.summary, causes: reply.causes.into_iter().map(cause).collect() }
    }
}

/// A number of an enum, unless it is the one that says nothing.
fn set(number: i32) -> Option<i32> {
    (number != 0).then_some(number)
}
