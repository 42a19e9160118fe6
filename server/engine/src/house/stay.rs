//! One session of the house: jobs in, each done by a task of its own; starts, results and failures out.

use super::{APPROVALS, HouseFailure, HouseTask, approval};
use crate::api::{Assignment, ControlAction, ControlEntry, LeaseName, ServerFrame, Update, UpdateKind};
use crate::sessions::{Attached, SessionHandle};
use crate::shared::Shared;
use coretex_domain::job::Failure;
use coretex_domain::{Payload, Span, house};
use coretex_kernel::input::Directive;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

/// Ends and starts told in one report.
const REPORT_MAX: usize = 64;
/// A session without work for so long is closed: namespaces that wanted something once are not kept for ever.
const IDLE_MAX: Span = Span::mins(1);
/// A message of a failure is for people.
const MESSAGE_MAX: usize = 1_024;

type Outcome = Result<Payload, HouseFailure>;

/// A session and what is done in it.
pub(super) struct Stay {
    shared: Arc<Shared>,
    /// Cumulative, per lane.
    granted: Vec<(Arc<str>, u64)>,
    has_room: bool,
    seq: u64,
    running: FxHashMap<u64, Running>,
    /// The lease of each task, for those that end without a word.
    leases: FxHashMap<Id, u64>,
    tasks: JoinSet<(u64, Outcome)>,
    starts: mpsc::UnboundedSender<u64>,
    started: mpsc::UnboundedReceiver<u64>,
}

struct Running {
    lane: Arc<str>,
    task: AbortHandle,
}

// === impl Stay ===

impl Stay {
    pub(super) fn new(shared: Arc<Shared>, granted: Vec<(Arc<str>, u64)>) -> Stay {
        // As many wait in it as leases are open: bounded by the credit.
        let (starts, started) = mpsc::unbounded_channel();
        Stay {
            shared,
            granted,
            has_room: true,
            seq: 0,
            running: FxHashMap::default(),
            leases: FxHashMap::default(),
            tasks: JoinSet::new(),
            starts,
            started,
        }
    }

    /// Works until the session ends. What still runs then is stopped.
    pub(super) async fn run(mut self, attached: Attached) {
        let Attached { mut outbox, handle } = attached;
        self.grant(&handle);
        loop {
            let mut updates = Vec::new();
            let clock = self.shared.env.clock.clone();
            let idle_until = clock.now().mono + IDLE_MAX;
            let is_idle = self.running.is_empty() && self.tasks.is_empty();
            tokio::select! {
                frame = outbox.next() => match frame {
                    Some(ServerFrame::Assign { assignments, .. }) => self.take(&handle, assignments).await,
                    Some(ServerFrame::Control(entries)) => self.obey(&handle, entries, &mut updates),
                    // Reports are settled by their leases, not by their acks; the rest is for workers elsewhere.
                    Some(_) => {}
                    None => return,
                },
                Some(lease) = self.started.recv() => self.tell_start(lease, &mut updates),
                Some(ended) = self.tasks.join_next_with_id() => self.tell_end(ended, &mut updates),
                // A namespace that wants something again opens another session.
                () = clock.sleep_until(idle_until), if is_idle => return,
            }
            while updates.len() < REPORT_MAX {
                if let Ok(lease) = self.started.try_recv() {
                    self.tell_start(lease, &mut updates);
                } else if let Some(ended) = self.tasks.try_join_next_with_id() {
                    self.tell_end(ended, &mut updates);
                } else {
                    break;
                }
            }
            if !self.report(&handle, updates).await {
                return;
            }
        }
    }

    /// False when the engine stops.
    async fn report(&mut self, handle: &SessionHandle, updates: Vec<Update>) -> bool {
        if !updates.is_empty() {
            self.seq += 1;
            if handle.report(self.seq, updates).await.is_err() {
                return false;
            }
        }
        self.grant(handle);
        true
    }

    fn grant(&mut self, handle: &SessionHandle) {
        if std::mem::take(&mut self.has_room) {
            handle.credit(self.granted.clone());
        }
    }

    async fn take(&mut self, handle: &SessionHandle, assignments: Vec<Assignment>) {
        handle.acked(assignments.iter().map(|one| one.lease_id).collect(), Vec::new()).await;
        for assignment in assignments {
            self.begin(assignment);
        }
    }

    fn begin(&mut self, assignment: Assignment) {
        let Assignment { lease_id, lane_id, job, start_to_close, .. } = assignment;
        let task = match (house::step_of(&job.spec.topic), self.shared.settings.house.clone()) {
            (Some(step), Some(house)) => {
                let step = step.to_owned();
                let (slots, starts) = (self.shared.house.slots.clone(), self.starts.clone());
                self.tasks.spawn(async move {
                    let mut _slot = None;
                    if !house.is_quick(&step) {
                        // Closed never; a step without a slot waits.
                        _slot = slots.acquire_owned().await.ok();
                        let _ = starts.send(lease_id);
                    }
                    (lease_id, house.work(&step, HouseTask { job, within: start_to_close }).await)
                })
            }
            (Some(_) | None, _) => {
                debug_assert_eq!(&*lane_id, APPROVALS);
                self.tasks.spawn(async move { (lease_id, approval::answer(&job)) })
            }
        };
        self.leases.insert(task.id(), lease_id);
        self.running.insert(lease_id, Running { lane: lane_id, task });
    }

    fn tell_start(&mut self, lease: u64, updates: &mut Vec<Update>) {
        if self.running.contains_key(&lease) {
            updates.push(Update::new(LeaseName::Id(lease), UpdateKind::Started));
        }
    }

    fn tell_end(&mut self, ended: Result<(Id, (u64, Outcome)), JoinError>, updates: &mut Vec<Update>) {
        let (id, outcome) = match ended {
            Ok((id, (_, outcome))) => (id, outcome),
            // It was told to stop, and that was its last word.
            Err(error) if error.is_cancelled() => {
                self.leases.remove(&error.id());
                return;
            }
            Err(error) => (error.id(), Err(broken(&error))),
        };
        let Some(lease) = self.leases.remove(&id) else { return };
        if self.forget(lease) {
            let kind = match outcome {
                Ok(result) => UpdateKind::Succeeded(result),
                Err(failed) => failure(failed),
            };
            updates.push(Update::new(LeaseName::Id(lease), kind));
        }
    }

    /// The lease is over here: there is room for another. False if it was so before.
    fn forget(&mut self, lease: u64) -> bool {
        let Some(running) = self.running.remove(&lease) else { return false };
        running.task.abort();
        if let Some((_, total)) = self.granted.iter_mut().find(|(lane, _)| *lane == running.lane) {
            *total += 1;
            self.has_room = true;
        }
        true
    }

    fn obey(&mut self, handle: &SessionHandle, entries: Vec<ControlEntry>, updates: &mut Vec<Update>) {
        for entry in &entries {
            let is_over = match entry.action {
                // The lease is open until we say so, and nothing has to be tidied up.
                ControlAction::Cancel { force: false, .. } => false,
                ControlAction::Cancel { force: true, .. } | ControlAction::Reclaim => true,
            };
            if self.forget(entry.lease_id) && !is_over {
                updates.push(Update::new(LeaseName::Id(entry.lease_id), UpdateKind::Cancelled));
            }
        }
        handle.controls_acked(&entries.iter().map(|entry| entry.control_id).collect::<Vec<_>>());
    }
}

fn failure(failed: HouseFailure) -> UpdateKind {
    let HouseFailure { mut failure, retry_after } = failed;
    if failure.message.len() > MESSAGE_MAX {
        let cut = (0..=MESSAGE_MAX).rev().find(|at| failure.message.is_char_boundary(*at)).unwrap_or(0);
        failure.message = format!("{}…", &failure.message[..cut]).into();
    }
    let retry = match (failure.retryable, retry_after) {
        (false, _) => Directive::NoRetry,
        (true, Some(span)) => Directive::After(span),
        (true, None) => Directive::Default,
    };
    UpdateKind::Failed { failure, retry }
}

/// A task that ended without a word has a fault of ours in it.
fn broken(error: &JoinError) -> HouseFailure {
    tracing::error!(%error, "a step of the library ended without a word");
    let failure = Failure {
        kind: "STEP_BROKEN".into(),
        message: "the step ended without a word; the log of the server says why".into(),
        retryable: true,
        details: Payload::empty(),
        stack: "".into(),
    };
    HouseFailure { failure: Box::new(failure), retry_after: None }
}
