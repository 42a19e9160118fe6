//! A well-behaved worker on the raw wire: it keeps its lanes full, comes back after every break, and notes what it did.

use crate::api::Api;
use crate::frames::{self, LANE};
use crate::worker::{Answer, Worker, is_terminal};
use coretex_contract::v1::connect_response::Frame as In;
use coretex_contract::v1::{self as pb, JobUpdateKind, LeaseVerdictKind, control::entry::Action};
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::{HashMap, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::Status;

/// What a worker does with a job.
#[derive(Clone, Debug)]
pub struct Plan {
    pub delay: Duration,
    pub outcome: Outcome,
}

#[derive(Clone, Debug)]
pub enum Outcome {
    /// The input, or what the plan says, goes back as the result.
    Echo,
    Result(Vec<u8>),
    Fail(&'static str),
    /// Runs until it is cancelled or the worker ends.
    Hang,
}

/// Decides what becomes of an assignment.
pub type Planner = Arc<dyn Fn(&pb::Assignment) -> Plan + Send + Sync>;

/// What a worker did, counted.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    pub received: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub cancelled: u64,
    /// Updates the server would not apply: their lease was over.
    pub fenced: u64,
    /// Updates the server would not apply for another reason: mostly results of jobs that were cancelled first.
    pub overruled: u64,
    pub resumed: u64,
    pub sessions: u64,
    /// Leases lost with a session or a resume.
    pub lost: u64,
    /// Jobs assigned beyond the credit granted.
    pub overrun: u64,
    /// How often each job's handler was begun here.
    pub starts: HashMap<String, u32>,
}

/// A running worker. Dropping it ends it without a word.
pub struct Steady {
    ledger: Arc<Mutex<Ledger>>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

type Due = Pin<Box<dyn Future<Output = u64> + Send>>;

struct Executor {
    api: Api,
    slots: u32,
    planner: Planner,
    ledger: Arc<Mutex<Ledger>>,
    running: HashMap<u64, (pb::Assignment, Outcome)>,
    due: FuturesUnordered<Due>,
    /// The server asked it to leave this stream.
    is_leaving: bool,
}

// === impl Plan ===

impl Plan {
    pub fn echo() -> Plan {
        Plan::after(Duration::ZERO, Outcome::Echo)
    }

    pub fn after(delay: Duration, outcome: Outcome) -> Plan {
        Plan { delay, outcome }
    }
}

// === impl Steady ===

impl Steady {
    /// A worker that answers every job with its own input.
    pub fn echo(url: &str, hello: pb::Hello) -> Steady {
        Steady::start(url, hello, Arc::new(|_| Plan::echo()))
    }

    pub fn start(url: &str, hello: pb::Hello, planner: Planner) -> Steady {
        let slots = hello.lanes.first().map_or(1, |lane| lane.slots);
        let ledger: Arc<Mutex<Ledger>> = Arc::default();
        let (stop, stopped) = watch::channel(false);
        let executor = Executor {
            api: Api::to(url),
            slots,
            planner,
            ledger: ledger.clone(),
            running: HashMap::new(),
            due: FuturesUnordered::new(),
            is_leaving: false,
        };
        let task = Some(tokio::spawn(executor.live(hello, stopped)));
        Steady { ledger, stop, task }
    }

    pub fn ledger(&self) -> Ledger {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the worker; its stream breaks off.
    pub async fn stop(mut self) -> Ledger {
        let _ = self.stop.send(true);
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
        self.ledger()
    }
}

impl Drop for Steady {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

// === impl Executor ===

impl Executor {
    async fn live(self, hello: pb::Hello, mut stopped: watch::Receiver<bool>) {
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => {}
            () = self.work(hello) => {}
        }
    }

    async fn work(mut self, hello: pb::Hello) {
        let mut worker = loop {
            match Worker::try_join(&self.api, hello.clone()).await {
                Ok(worker) => break worker,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        self.note(|ledger| ledger.sessions += 1);
        worker.is_lenient = true;
        worker.credit(LANE, self.slots.into());
        loop {
            let _: Status = self.serve(&mut worker).await;
            self.note(|ledger| ledger.overrun = worker.overrun);
            self.come_back(&mut worker).await;
        }
    }

    fn note(&self, change: impl FnOnce(&mut Ledger)) {
        change(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Works until the stream ends, or until it is asked to leave and has nothing left to do.
    async fn serve(&mut self, worker: &mut Worker) -> Status {
        self.is_leaving = false;
        loop {
            if self.is_leaving && worker.is_idle() {
                worker.silence();
                worker.stream.half_close();
            }
            tokio::select! {
                frame = worker.next(Duration::from_secs(3_600)) => match frame {
                    Ok(Some(frame)) => self.take(worker, frame),
                    Ok(None) => return Status::ok(""),
                    Err(status) => return status,
                },
                Some(first) = self.due.next(), if !self.due.is_empty() => {
                    let mut leases = vec![first];
                    while let Some(Some(more)) = futures::FutureExt::now_or_never(self.due.next()) {
                        leases.push(more);
                    }
                    self.finish(worker, leases);
                }
            }
        }
    }

    fn take(&mut self, worker: &mut Worker, frame: In) {
        match frame {
            In::Assign(assign) => self.begin(worker, assign.assignments),
            In::ReportAck(ack) => self.note(|ledger| {
                let is_stale = |r: &&pb::RejectedUpdate| r.code() == pb::UpdateRejection::StaleLease;
                let stale = ack.rejected.iter().filter(is_stale).count() as u64;
                ledger.fenced += stale;
                ledger.overruled += ack.rejected.len() as u64 - stale;
            }),
            In::Control(control) => self.obey(worker, control),
            In::SyncRequest(_) => {
                let resume = worker.resume_frame();
                let heartbeat = worker.heartbeat();
                worker.stream.send(coretex_contract::v1::connect_request::Frame::Sync(pb::Sync {
                    leases: resume.held,
                    last_assign_no: heartbeat.last_assign_no,
                    last_report_seq: heartbeat.last_report_seq,
                }));
            }
            In::Resumed(resumed) => self.judge(worker, &resumed.verdicts),
            In::GoAway(_) => self.is_leaving = true,
            _ => {}
        }
    }

    fn begin(&mut self, worker: &mut Worker, assignments: Vec<pb::Assignment>) {
        self.note(|ledger| ledger.overrun = worker.overrun);
        let mut updates = Vec::new();
        for assignment in assignments {
            let plan = (self.planner)(&assignment);
            let lease_id = assignment.lease_id;
            let job_id = assignment.job.as_ref().map(|job| job.job_id.clone()).unwrap_or_default();
            self.note(|ledger| {
                ledger.received += 1;
                *ledger.starts.entry(job_id).or_default() += 1;
            });
            let is_quick = plan.delay.is_zero() && !matches!(plan.outcome, Outcome::Hang);
            if is_quick {
                // A short job costs one frame: the end implies the start.
                updates.push(self.last_word(&assignment, &plan.outcome));
                continue;
            }
            updates.push(frames::started(lease_id));
            if !matches!(plan.outcome, Outcome::Hang) {
                let delay = plan.delay;
                self.due.push(Box::pin(async move {
                    tokio::time::sleep(delay).await;
                    lease_id
                }));
            }
            self.running.insert(lease_id, (assignment, plan.outcome));
        }
        self.report(worker, updates);
    }

    fn last_word(&self, assignment: &pb::Assignment, outcome: &Outcome) -> pb::JobUpdate {
        let lease_id = assignment.lease_id;
        self.note(|ledger| match outcome {
            Outcome::Fail(_) => ledger.failed += 1,
            Outcome::Hang => ledger.cancelled += 1,
            Outcome::Echo | Outcome::Result(_) => ledger.succeeded += 1,
        });
        match outcome {
            Outcome::Echo => {
                pb::JobUpdate { result: assignment.input.clone(), ..frames::succeeded(lease_id) }
            }
            Outcome::Result(bytes) => frames::succeeded_with(lease_id, bytes),
            Outcome::Fail(kind) => frames::failed(lease_id, kind),
            Outcome::Hang => frames::update(lease_id, JobUpdateKind::Cancelled),
        }
    }

    fn finish(&mut self, worker: &mut Worker, leases: Vec<u64>) {
        let ended: Vec<_> = leases.iter().filter_map(|lease| self.running.remove(lease)).collect();
        let updates = ended.iter().map(|(assignment, outcome)| self.last_word(assignment, outcome)).collect();
        self.report(worker, updates);
    }

    /// Reports, and grants again what ends with it.
    fn report(&self, worker: &mut Worker, mut updates: Vec<pb::JobUpdate>) {
        let ended = updates.iter().filter(|update| is_terminal(update.kind())).count() as u64;
        while !updates.is_empty() {
            let rest = updates.split_off(updates.len().min(512));
            worker.report(std::mem::replace(&mut updates, rest));
        }
        if ended > 0 {
            worker.credit(LANE, ended);
        }
    }

    fn obey(&mut self, worker: &mut Worker, control: pb::Control) {
        let mut updates = Vec::new();
        let mut controls_acked = Vec::new();
        for entry in control.entries {
            controls_acked.push(entry.control_id);
            if matches!(entry.action, Some(Action::Cancel(_)))
                && let Some((assignment, _)) = self.running.remove(&entry.lease_id)
            {
                updates.push(self.last_word(&assignment, &Outcome::Hang));
            }
        }
        let ack = pb::AssignAck { controls_acked, ..Default::default() };
        worker.stream.send(coretex_contract::v1::connect_request::Frame::AssignAck(ack));
        self.report(worker, updates);
    }

    /// Redials until the session goes on or a new one is open.
    async fn come_back(&mut self, worker: &mut Worker) {
        loop {
            match worker.try_resume(&self.api).await {
                Ok(Answer::Resumed(resumed)) => {
                    self.note(|ledger| ledger.resumed += 1);
                    self.judge(worker, &resumed.verdicts);
                    worker.resend_reports();
                    self.top_up(worker);
                    return;
                }
                Ok(Answer::Welcome(_)) => {
                    let lost = self.running.len() as u64;
                    self.running.clear();
                    self.note(|ledger| {
                        ledger.sessions += 1;
                        ledger.lost += lost;
                    });
                    worker.credit(LANE, self.slots.into());
                    return;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Obeys the verdicts on the leases it named.
    fn judge(&mut self, worker: &mut Worker, verdicts: &[pb::LeaseVerdict]) {
        let gone: HashSet<u64> = verdicts
            .iter()
            .filter(|v| matches!(v.verdict(), LeaseVerdictKind::Lost | LeaseVerdictKind::AlreadyTerminal))
            .map(|v| v.lease_id)
            .collect();
        let before = self.running.len();
        self.running.retain(|lease, _| !gone.contains(lease));
        let lost = (before - self.running.len()) as u64;
        worker.forget(&gone.into_iter().collect::<Vec<_>>());
        self.note(|ledger| ledger.lost += lost);
        self.top_up(worker);
    }

    /// Grants what is missing until every slot that is free is on offer.
    fn top_up(&self, worker: &mut Worker) {
        let free = u64::from(self.slots).saturating_sub(self.running.len() as u64);
        worker.credit(LANE, free.saturating_sub(worker.unused_credit(LANE)));
    }
}
