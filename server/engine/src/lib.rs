//! The hands of Coretex: shard loops around the kernel, sessions of workers, waits and watches.
//!
//! [`Engine`] is the façade the gateway talks to. A job's path: `submit` chooses ids and looks up repeats, a
//! `shard` loop decides and commits, `sessions` deliver leases and take reports.

pub mod api;
mod approvals;
mod asks;
pub mod audit;
pub mod catalog;
pub mod clock;
mod config;
mod counting;
mod dead_letters;
mod events;
mod house;
mod jobs;
pub mod keys;
mod mail;
pub mod metrics;
pub mod namespaces;
mod output;
mod policies;
mod redact;
mod remote;
mod retry;
mod run;
mod runs;
mod schedules;
mod sessions;
mod shard;
mod shared;
mod submit;
mod supervisor;
mod tokens;
mod topics;
mod workflows;

pub use approvals::{ApprovalPage, ApprovalQuery};
pub use asks::{ReceiptPage, ReceiptQuery};
pub use config::{
    ConfigChange, ConfigEdit, ConfigSchema, ConfigStep, ConfigWatch, EffectiveConfig, ScopeConfig, Unresolved,
};
pub use dead_letters::{
    Group, Groups, Preview, Purged, Redrive, RedriveCounts, RedriveEnd, RedrivePhase, RedriveRun,
    RedriveStep, Which,
};
pub use events::{Amended, AmendedStream, EventStream};
pub use house::{House, HouseFailure, HouseTask};
pub use policies::{
    Applied, Apply, Asked, BUILT_IN_BUNDLE, PolicyInfo, Simulated, carried_decision, differences,
};
pub use remote::{Question, RemoteKernel, Standing};
pub use runs::{ItemsView, Rerun, RunPage, RunQuery, RunView, RunWatch, StartRun, StepView};
pub use schedules::{ApplySchedule, Backfilled, FirePage, FireQuery, ScheduleInfo, StartAs};
pub use sessions::{Attached, Outbox, OutputPiece, SessionHandle, lease_hash};
pub use topics::TopicView;
pub use workflows::{ApplyWorkflow, TopicServed, Versioned, WorkflowApplied, WorkflowInfo};

use api::{
    Caller, ControlEntry, Drain, Hello, NodeInfo, Poll, Polled, Rejection, Resume, Settings, ShardInfo,
    Update, Welcome, WorkerInfo,
};
use coretex_domain::policy::Policy;
use coretex_domain::{Namespace, Reason, Refusal, SessionId, Span};
use coretex_kernel::input::{Input, Reply};
use coretex_ports::{BackupReport, Env, Guarantees, Stats, Store, StoreError};
use mail::{Mail, ReplyTo};
use metrics::EngineMetrics;
use shared::{Parts, Shared};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

/// A running engine. Clones share it.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
    supervisor: Arc<Mutex<Option<JoinHandle<()>>>>,
}

// === impl Engine: life ===

impl Engine {
    /// Claims the store, loads what is open, starts the loops. Returns when requests can be served.
    pub async fn start(store: Arc<dyn Store>, env: Env, settings: Settings) -> Result<Engine, StoreError> {
        let claim = store.claim(&settings.node_id).await?;
        let count = settings.loops.clamp(1, coretex_domain::limits::SHARDS);
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..count).map(|_| mpsc::channel(settings.mailbox_max)).unzip();
        let sequences = claim.sequences.clone();
        let (audit, audit_inbox) = mpsc::channel(audit::QUEUE_MAX);
        let (to_judge, judge_inbox) = mpsc::unbounded_channel();
        let kernel = settings.remote_kernel.clone();
        let parts = Parts { store, env, settings, mailboxes: senders, sequences, audit, to_judge };
        let shared = Arc::new(Shared::new(parts));
        let supervised = shared.clone();
        let supervisor = tokio::spawn(async move {
            supervisor::run(supervised.clone(), receivers, claim).await;
            supervised.gone.set();
        });
        let mut tasks = vec![
            tokio::spawn(sessions::watch(shared.clone())),
            tokio::spawn(supervisor::clean(shared.clone())),
            tokio::spawn(policies::force::follow(shared.clone())),
            tokio::spawn(audit::run(shared.clone(), audit_inbox)),
        ];
        if let Some(kernel) = kernel {
            tasks.push(tokio::spawn(remote::run(shared.clone(), kernel.clone(), judge_inbox)));
            tasks.push(tokio::spawn(remote::follow(shared.clone(), kernel)));
        }
        while !shared.is_up.load(Ordering::Acquire) && !supervisor.is_finished() {
            tokio::task::yield_now().await;
        }
        let unready = |refusal: Refusal| StoreError::Unavailable(refusal.message);
        supervisor::ensure_secret(&shared).await.map_err(unready)?;
        // Before anybody is served: what was in force when the engine stopped is in force again.
        policies::force::refresh(&shared).await.map_err(unready)?;
        policies::force::tell_all(&shared).await.map_err(unready)?;
        tasks.push(tokio::spawn(schedules::run(shared.clone())));
        Ok(Engine {
            shared,
            tasks: Arc::new(Mutex::new(tasks)),
            supervisor: Arc::new(Mutex::new(Some(supervisor))),
        })
    }

    /// No new sessions, no new jobs; workers are told to go elsewhere.
    pub async fn drain(&self) {
        self.shared.is_draining.store(true, Ordering::Release);
        self.shared.sessions.go_away_all("the node drains", self.shared.settings.drain_grace);
        house::drain(&self.shared).await;
    }

    /// Drains, waits for running jobs up to the grace, makes everything durable, lets go of the store.
    pub async fn stop(&self) {
        self.drain().await;
        let until = self.shared.env.clock.now().mono + self.shared.settings.drain_grace;
        while self.shared.env.clock.now().mono < until && self.has_running() {
            let next = self.shared.env.clock.now().mono + Span(20);
            self.shared.env.clock.sleep_until(next).await;
        }
        house::leave(&self.shared).await;
        for task in self.tasks.lock().await.drain(..) {
            task.abort();
        }
        self.shared.halt.set();
        if let Some(supervisor) = self.supervisor.lock().await.take() {
            let _ = supervisor.await;
        }
        self.shared.is_up.store(false, Ordering::Release);
        for stay in self.shared.sessions.all() {
            stay.inner().stream = None;
        }
        if let Err(error) = self.shared.store.close().await {
            tracing::warn!(%error, "the store did not close cleanly; it recovers at the next start");
        }
    }

    fn has_running(&self) -> bool {
        self.shared.sessions.all().iter().any(|stay| stay.inner().stream.is_some() && !stay.is_idle())
    }

    /// Completes when the engine has stopped for good because its store failed.
    pub async fn failed(&self) {
        self.shared.gone.notified_for(0).await;
    }
}

// === impl Engine: workers ===

impl Engine {
    pub async fn hello(&self, hello: Hello) -> Result<(Welcome, Attached), Refusal> {
        sessions::hello(&self.shared, hello).await
    }

    pub async fn resume(&self, resume: Resume) -> Result<(Welcome, Attached), Refusal> {
        sessions::resume(&self.shared, resume).await
    }

    pub async fn poll(&self, poll: Poll) -> Result<Polled, Refusal> {
        sessions::poll(&self.shared, poll).await
    }

    pub async fn report_by_token(
        &self,
        caller: &Caller,
        session: Option<SessionId>,
        updates: Vec<Update>,
    ) -> Result<(Vec<Rejection>, Vec<ControlEntry>), Refusal> {
        sessions::report_by_token(&self.shared, caller, session, updates).await
    }

    pub fn workers(&self, namespace: &Namespace) -> Vec<WorkerInfo> {
        let all = self.shared.sessions.all();
        let mine = all.iter().filter(|stay| stay.namespace() == *namespace);
        let mut found: Vec<WorkerInfo> = mine.map(|stay| self.info_of(stay)).collect();
        found.sort_by(|a, b| a.session.worker_id.cmp(&b.session.worker_id));
        found
    }

    /// Workers of every namespace, in no order.
    pub fn all_workers(&self) -> Vec<WorkerInfo> {
        self.shared.sessions.all().iter().map(|stay| self.info_of(stay)).collect()
    }

    pub fn worker(&self, namespace: &Namespace, worker_id: &str) -> Result<WorkerInfo, Refusal> {
        let found = self.shared.sessions.of_worker(namespace, worker_id);
        found.map(|stay| self.info_of(&stay)).ok_or_else(|| worker_not_found(worker_id))
    }

    /// Stops handing work to a worker and tells it to leave.
    pub async fn drain_worker(
        &self,
        namespace: &Namespace,
        worker_id: &str,
        order: Drain,
    ) -> Result<WorkerInfo, Refusal> {
        if worker_id == coretex_domain::house::WORKER {
            return Err(house::own_worker("worker_id"));
        }
        let found = self.shared.sessions.of_worker(namespace, worker_id);
        let stay = found.ok_or_else(|| worker_not_found(worker_id))?;
        sessions::drain_worker(&self.shared, &stay, order).await;
        Ok(self.info_of(&stay))
    }

    fn info_of(&self, stay: &sessions::Stay) -> WorkerInfo {
        let lanes = self.shared.dispatcher().lane_totals(stay.session().session_id);
        stay.info(lanes)
    }
}

fn worker_not_found(worker_id: &str) -> Refusal {
    Refusal::new(Reason::WorkerNotFound, format!("worker {worker_id} not found")).fact("worker_id", worker_id)
}

// === impl Engine: policy ===

impl Engine {
    /// The policy in force.
    pub fn policy(&self) -> Arc<Policy> {
        self.shared.policy()
    }
}

// === impl Engine: facts ===

impl Engine {
    pub fn info(&self) -> NodeInfo {
        NodeInfo {
            node_id: self.shared.settings.node_id.clone(),
            loops: self.shared.mailboxes.len(),
            is_draining: self.shared.is_draining.load(Ordering::Acquire),
            open_jobs: self.shared.open_jobs.iter().map(|n| n.load(Ordering::Relaxed)).sum(),
            sessions: self.shared.sessions.count() as u64,
            start_time: self.shared.start_time,
        }
    }

    pub fn is_ready(&self) -> bool {
        self.shared.is_up.load(Ordering::Acquire) && !self.shared.is_draining.load(Ordering::Acquire)
    }

    pub async fn shards(&self) -> Result<Vec<ShardInfo>, Refusal> {
        let mut open = vec![0u64; coretex_domain::limits::SHARDS];
        for who in 0..self.shared.mailboxes.len() {
            let (answer, done) = oneshot::channel();
            self.shared.post(who, Mail::Census(answer))?;
            let counts = done.await.unwrap_or_else(|_| Err(reloaded()))?;
            open.iter_mut().zip(counts).for_each(|(total, n)| *total += n);
        }
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        Ok((0u8..=255).zip(open).map(|(shard, open_jobs)| ShardInfo { shard, epoch, open_jobs }).collect())
    }

    pub fn guarantees(&self) -> Guarantees {
        self.shared.store.guarantees()
    }

    pub fn stats(&self) -> Stats {
        self.shared.store.stats()
    }

    pub fn metrics(&self) -> &EngineMetrics {
        &self.shared.metrics
    }

    pub async fn backup(&self, directory: PathBuf) -> Result<BackupReport, Refusal> {
        self.shared.store.backup(directory).await.map_err(events::refusal_of)
    }

    /// The clock and the dice this engine uses.
    pub fn env(&self) -> &Env {
        &self.shared.env
    }

    /// Live events, or everything after a known point.
    pub fn watch(&self, after: Option<Box<[u64; 256]>>) -> EventStream {
        EventStream::new(&self.shared.events, self.shared.store.clone(), after)
    }

    /// Jobs that change without an event, from now on.
    pub fn watch_amended(&self) -> AmendedStream {
        AmendedStream::new(&self.shared.events)
    }

    /// The newest committed event sequence of every shard.
    pub fn sequences(&self) -> Box<[u64; 256]> {
        self.shared.events.sequences()
    }
}

pub(crate) fn reloaded() -> Refusal {
    Refusal::new(Reason::OutcomeUnknown, "the shard was reloaded meanwhile; ask again").retry_after(Span(500))
}

/// Sends an input to a loop and waits for its reply.
pub(crate) async fn ask(shared: &Shared, who: usize, input: Input) -> Result<Reply, Refusal> {
    let (answer, done) = oneshot::channel();
    shared.post(who, Mail::Decide(input, ReplyTo::One(answer)))?;
    done.await.unwrap_or_else(|_| Err(reloaded()))
}

/// The same for workers, whose words must not be refused: waits for room.
pub(crate) async fn tell(shared: &Shared, who: usize, input: Input) -> Result<Reply, Refusal> {
    let (answer, done) = oneshot::channel();
    shared.post_waiting(who, Mail::Decide(input, ReplyTo::One(answer))).await?;
    done.await.unwrap_or_else(|_| Err(reloaded()))
}
