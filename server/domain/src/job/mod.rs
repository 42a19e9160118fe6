//! A job: one durable unit of work, and the fold of its history.

mod allowance;
pub mod event;
mod family;
pub mod machine;
mod of_run;
pub mod retry;
pub mod spec;
#[cfg(test)]
mod tests;
mod usage;

pub use crate::id::JobId;
pub use allowance::{Reserved, Share};
pub use event::{Cancel, Close, Closed, Entry, Event, EventKind, Grounds, Lease, Note, Return, Ruling};
pub use family::{Family, Spawn};
pub use machine::StateKind;
pub use of_run::OfRun;
pub use spec::Spec;
pub use usage::Usage;

use crate::config::Applied;
use crate::id::{JobKey, Namespace, ShardId};
use crate::payload::Payload;
use crate::policy::Decision;
use crate::time::Time;
use std::sync::Arc;

/// Where a job stands, with the data of that state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for a verdict; after an outage or a throttle with the time and reason of the next question.
    Pending(Option<Box<(Time, Arc<str>)>>),
    AwaitingApproval,
    /// Admitted; runnable from its ready time on.
    Scheduled,
    /// A lease is open and has not started.
    Dispatched(Box<Lease>),
    /// A lease is open and has started.
    Running(Box<Lease>),
    Retrying {
        due: Time,
    },
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
    Denied,
    Expired,
}

/// How often things happened to a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Leases that started.
    pub attempts: u32,
    /// Started attempts lost with their worker.
    pub lost: u32,
    /// Started attempts given back by the worker.
    pub released: u32,
    /// Leases that never started, since the last start.
    pub deliveries: u32,
    /// Number of the newest lease.
    pub lease_serial: u32,
}

impl Counters {
    /// Attempts that count against `max_attempts`.
    pub fn spent(&self) -> u32 {
        self.attempts.saturating_sub(self.lost).saturating_sub(self.released)
    }
}

/// What a worker said when it could not do the job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Type of the failure, for example `TimeoutError`.
    pub kind: Arc<str>,
    pub message: Arc<str>,
    pub retryable: bool,
    pub details: Payload,
    pub stack: Arc<str>,
}

/// What a worker said while it worked; the newest wins.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// 0.0 ..= 1.0
    pub fraction: f64,
    pub message: Arc<str>,
    /// Facts for people, by name.
    pub attributes: Vec<(Arc<str>, Arc<str>)>,
    pub time: Time,
}

/// Parts of a job that most jobs never have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rare {
    pub cancel: Option<Cancel>,
    pub progress: Option<Progress>,
    pub checkpoint: Option<Payload>,
    pub failure: Option<Failure>,
    pub retry_of: Option<JobId>,
    pub retried_as: Option<JobId>,
    /// Last time the running worker gave a sign of progress.
    pub last_sign: Option<Time>,
    pub usage: Option<Usage>,
    /// The configuration it was submitted under.
    pub config: Option<Arc<Applied>>,
    /// The fingerprint of what was submitted, if its input was edited since.
    pub submitted_as: Option<u128>,
    /// What the running attempt asked for of its budget.
    pub reserved: Reserved,
    /// Its parent and children, if jobs made jobs.
    pub family: Option<Box<Family>>,
    /// Its place in a run, if it is a step of one.
    pub of_run: Option<Box<OfRun>>,
}

/// A job and all that happened to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub id: JobId,
    pub namespace: Namespace,
    pub shard: ShardId,
    pub spec: Arc<Spec>,
    pub state: State,
    /// Length of the history; rises by one with each entry.
    pub revision: u64,
    /// Place in the queue: ready time in milliseconds above bit 20, order below.
    pub place: u64,
    pub counters: Counters,
    pub create_time: Time,
    pub update_time: Time,
    pub start_time: Option<Time>,
    pub end_time: Option<Time>,
    /// Set when the job ends: its record may be cleaned from then on.
    pub expire_time: Option<Time>,
    pub decision: Option<Arc<Decision>>,
    pub worker_id: Option<Arc<str>>,
    pub result: Option<Payload>,
    pub rare: Option<Box<Rare>>,
    pub history: Vec<Entry>,
}

/// An event that table T does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegal {
    pub from: StateKind,
    pub event: EventKind,
}

impl std::fmt::Display for Illegal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "event {} is not legal in state {}", self.event.name(), self.from.name())
    }
}

impl std::error::Error for Illegal {}

/// Bits of a place that order jobs which become ready in the same millisecond.
pub const PLACE_ORDER_BITS: u32 = 20;

static NOTHING_RARE: Rare = Rare {
    cancel: None,
    progress: None,
    checkpoint: None,
    failure: None,
    retry_of: None,
    retried_as: None,
    last_sign: None,
    usage: None,
    config: None,
    submitted_as: None,
    reserved: Reserved { tokens: 0, cost_micros: 0 },
    family: None,
    of_run: None,
};

// === impl State ===

impl State {
    pub fn kind(&self) -> StateKind {
        match self {
            State::Pending(_) => StateKind::Pending,
            State::AwaitingApproval => StateKind::AwaitingApproval,
            State::Scheduled => StateKind::Scheduled,
            State::Dispatched(_) => StateKind::Dispatched,
            State::Running(_) => StateKind::Running,
            State::Retrying { .. } => StateKind::Retrying,
            State::Succeeded => StateKind::Succeeded,
            State::Failed => StateKind::Failed,
            State::TimedOut => StateKind::TimedOut,
            State::Cancelled => StateKind::Cancelled,
            State::Denied => StateKind::Denied,
            State::Expired => StateKind::Expired,
        }
    }

    /// The open lease, started or not.
    pub fn lease(&self) -> Option<&Lease> {
        match self {
            State::Dispatched(lease) | State::Running(lease) => Some(lease),
            State::Pending(_)
            | State::AwaitingApproval
            | State::Scheduled
            | State::Retrying { .. }
            | State::Succeeded
            | State::Failed
            | State::TimedOut
            | State::Cancelled
            | State::Denied
            | State::Expired => None,
        }
    }
}

// === impl Job ===

impl Job {
    /// A new job in PENDING with its first history entry.
    pub fn submitted(
        id: JobId,
        namespace: Namespace,
        spec: Arc<Spec>,
        seq: u64,
        now: Time,
        actor: Option<Box<str>>,
    ) -> Job {
        let shard = id.shard(&namespace);
        let mut history = Vec::with_capacity(5);
        history.push(Entry { seq, time: now, event: Event::Submitted { actor } });
        Job {
            id,
            namespace,
            shard,
            spec,
            state: State::Pending(None),
            revision: 1,
            place: 0,
            counters: Counters::default(),
            create_time: now,
            update_time: now,
            start_time: None,
            end_time: None,
            expire_time: None,
            decision: None,
            worker_id: None,
            result: None,
            rare: None,
            history,
        }
    }

    /// Rebuilds a job from its history. Payloads, decision and rare parts are not part of the fold.
    pub fn fold(id: JobId, namespace: Namespace, spec: Arc<Spec>, history: &[Entry]) -> Result<Job, Illegal> {
        let [first, rest @ ..] = history else {
            return Err(Illegal { from: StateKind::Pending, event: EventKind::Submitted });
        };
        let Event::Submitted { actor } = &first.event else {
            return Err(Illegal { from: StateKind::Pending, event: first.event.kind() });
        };
        let mut job = Job::submitted(id, namespace, spec, first.seq, first.time, actor.clone());
        for entry in rest {
            job.apply(entry.clone())?;
        }
        Ok(job)
    }

    /// True if the record says what its history says (I-17).
    pub fn is_fold_of_history(&self) -> bool {
        Job::fold(self.id.clone(), self.namespace.clone(), self.spec.clone(), &self.history).is_ok_and(|f| {
            f.state == self.state
                && f.revision == self.revision
                && f.counters == self.counters
                && f.place == self.place
                && f.start_time == self.start_time
                && f.end_time == self.end_time
        })
    }

    /// Takes one event: checks it against table T, changes the state, appends to the history.
    pub fn apply(&mut self, entry: Entry) -> Result<(), Illegal> {
        let from = self.state.kind();
        let event = entry.event.kind();
        let to = machine::target(from, event).ok_or(Illegal { from, event })?;
        self.take(&entry);
        debug_assert_eq!(self.state.kind(), to, "the fold and table T agree");
        self.revision += 1;
        self.update_time = entry.time;
        if to.is_terminal() && !from.is_terminal() {
            self.end_time = Some(entry.time);
        }
        self.history.push(entry);
        Ok(())
    }

    fn take(&mut self, entry: &Entry) {
        match &entry.event {
            Event::Submitted { .. } | Event::CancelRequested(_) | Event::Annotated(_) => {
                self.take_flag(&entry.event)
            }
            Event::Admitted { place } | Event::Approved { place, .. } | Event::RetryDue { place } => {
                self.place = *place;
                self.state = State::Scheduled;
            }
            Event::Deferred(why) => self.state = State::Pending(Some(why.clone())),
            Event::ApprovalRequested => self.state = State::AwaitingApproval,
            Event::ApprovalVoided(_) | Event::Rejudged => self.state = State::Pending(None),
            Event::Denied(_) => self.state = State::Denied,
            Event::Dispatched(lease) => {
                self.counters.lease_serial = lease.serial;
                self.worker_id = Some(lease.worker_id.clone());
                self.state = State::Dispatched(lease.clone());
            }
            Event::Returned(_) => {
                self.counters.deliveries += 1;
                self.state = State::Scheduled;
            }
            Event::Started => self.take_started(entry.time),
            Event::Released => {
                self.counters.released += 1;
                self.state = State::Scheduled;
            }
            Event::Succeeded => self.state = State::Succeeded,
            Event::AttemptFailed(closed) => {
                self.count_close(closed.0.close);
                self.state = State::Retrying { due: closed.1 };
            }
            Event::Failed(closed) => {
                self.count_close(closed.close);
                self.state = State::Failed;
            }
            Event::TimedOut { .. } => self.state = State::TimedOut,
            Event::Expired => self.state = State::Expired,
            Event::Cancelled(_) => {
                self.take_flag(&entry.event);
                self.state = State::Cancelled;
            }
        }
    }

    /// True if it left a dead letter that was deleted since.
    pub fn has_deleted_dead_letter(&self) -> bool {
        let is_note = |entry: &&Entry| entry.event.kind() == EventKind::Annotated;
        self.history.iter().rev().take_while(is_note).any(|entry| match &entry.event {
            Event::Annotated(note) => matches!(**note, Note::DeadLetterDeleted(_)),
            _ => false,
        })
    }

    fn take_flag(&mut self, event: &Event) {
        if let Event::CancelRequested(cancel) | Event::Cancelled(Some(cancel)) = event {
            self.rare_mut().cancel = Some((**cancel).clone());
        }
        if let Event::Annotated(note) = event
            && let Note::RetriedAs(id) = &**note
        {
            self.rare_mut().retried_as = Some(id.clone());
        }
    }

    fn take_started(&mut self, time: Time) {
        self.counters.attempts += 1;
        self.counters.deliveries = 0;
        self.start_time = Some(time);
        let state = std::mem::replace(&mut self.state, State::Scheduled);
        if let State::Dispatched(lease) = state {
            self.state = State::Running(lease);
        }
        if let Some(rare) = &mut self.rare {
            rare.last_sign = None;
        }
    }

    fn count_close(&mut self, close: Close) {
        match close {
            Close::WorkerLost => self.counters.lost += 1,
            Close::Undeliverable => self.counters.deliveries += 1,
            Close::Failed | Close::NonRetryable | Close::TimedOut | Close::Stalled | Close::OverBudget => {}
        }
    }

    pub fn key(&self) -> JobKey {
        self.id.key(&self.namespace)
    }

    pub fn rare(&self) -> &Rare {
        self.rare.as_deref().unwrap_or(&NOTHING_RARE)
    }

    pub fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub fn failure(&self) -> Option<&Failure> {
        self.rare().failure.as_ref()
    }

    pub fn is_cancel_requested(&self) -> bool {
        self.rare().cancel.is_some()
    }

    /// The time from which the job may be dispatched.
    pub fn ready_time(&self) -> Time {
        Time(self.place >> PLACE_ORDER_BITS)
    }

    /// The number the open or next attempt carries.
    pub fn attempt(&self) -> u32 {
        match self.state.kind() {
            StateKind::Dispatched | StateKind::Scheduled => self.counters.attempts + 1,
            StateKind::Pending
            | StateKind::AwaitingApproval
            | StateKind::Running
            | StateKind::Retrying
            | StateKind::Succeeded
            | StateKind::Failed
            | StateKind::TimedOut
            | StateKind::Cancelled
            | StateKind::Denied
            | StateKind::Expired => self.counters.attempts,
        }
    }

    /// The token handlers use to make effects happen once: the same over attempts.
    pub fn idempotency_token(&self) -> String {
        let mut hash = blake3::Hasher::new();
        hash.update(self.namespace.as_str().as_bytes()).update(&[0]);
        match self.of_run().and_then(|of_run| of_run.token_key.as_ref()) {
            // Kept apart from ids, none of which has a zero byte.
            Some(key) => hash.update(b"key").update(&[0]).update(key.as_bytes()),
            None => hash.update(self.id.to_string().as_bytes()),
        };
        hash.finalize().to_hex()[..32].to_owned()
    }

    /// Whoever logged in to submit the job, or the schedule that did so in their name.
    pub fn submitter(&self) -> Option<&str> {
        match self.history.first().map(|entry| &entry.event) {
            Some(Event::Submitted { actor }) => actor.as_deref().and_then(crate::names::principal_of),
            Some(_) | None => None,
        }
    }

    /// The fingerprint of the request that made it, whatever was edited since: a repeat of it has the same.
    pub fn fingerprint(&self) -> u128 {
        self.rare().submitted_as.unwrap_or_else(|| self.spec.fingerprint())
    }

    /// True if one of the last `fresh` entries gave it another input.
    pub fn is_edited_within(&self, fresh: usize) -> bool {
        let is_edit = |entry: &Entry| match &entry.event {
            Event::ApprovalVoided(Some(ruling)) => ruling.grounds == Grounds::Edit,
            _ => false,
        };
        self.history[self.history.len().saturating_sub(fresh)..].iter().any(is_edit)
    }

    // === approvals ===

    /// How often people were asked about it.
    pub fn approval_round(&self) -> u32 {
        let asked = self.history.iter().filter(|entry| entry.event.kind() == EventKind::ApprovalRequested);
        asked.count() as u32
    }

    /// When people were asked last.
    pub fn asked_time(&self) -> Time {
        let asked = self.history.iter().rfind(|entry| entry.event.kind() == EventKind::ApprovalRequested);
        asked.map_or(self.update_time, |entry| entry.time)
    }

    /// When the answer is due, while people are asked.
    pub fn approval_deadline(&self) -> Option<Time> {
        if self.state != State::AwaitingApproval {
            return None;
        }
        let expires =
            self.decision.as_ref().and_then(|decision| decision.approval()).map(|terms| terms.expires);
        Some(self.asked_time() + expires.unwrap_or(crate::limits::APPROVAL_EXPIRES_DEFAULT))
    }

    /// When it last went on after people were asked: what it waited for them is not held against it.
    pub fn answered_time(&self) -> Option<Time> {
        let is_answer =
            |entry: &&Entry| matches!(entry.event.kind(), EventKind::Approved | EventKind::ApprovalVoided);
        self.history.iter().rfind(is_answer).map(|entry| entry.time)
    }

    /// A rough count of the bytes this job holds in memory.
    pub fn weight(&self) -> usize {
        size_of::<Job>()
            + size_of::<Spec>()
            + self.spec.payload.data.len()
            + self.result.as_ref().map_or(0, |r| r.data.len())
            + self.history.len() * (size_of::<Entry>() + 32)
            + self.rare.as_ref().map_or(0, |r| {
                size_of::<Rare>()
                    + r.checkpoint.as_ref().map_or(0, |c| c.data.len())
                    + r.failure.as_ref().map_or(0, |f| f.message.len() + f.stack.len() + f.details.data.len())
            })
    }
}
