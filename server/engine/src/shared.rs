//! What the loops, the sessions and the façade of one engine share.

use crate::api::Settings;
use crate::audit;
use crate::catalog::Catalog;
use crate::events::Events;
use crate::house::Rooms;
use crate::mail::Mail;
use crate::metrics::EngineMetrics;
use crate::namespaces::Namespaces;
use crate::output::Outputs;
use crate::policies::force::InForce;
use crate::remote::Link;
use crate::runs::{Plans, Watches};
use crate::sessions::Sessions;
use crate::tokens::Tokens;
use crate::workflows::Definitions;
use coretex_domain::policy::Policy;
use coretex_domain::topic::Topic;
use coretex_domain::{Job, Namespace, Reason, Refusal, ShardId, Span, Time};
use coretex_kernel::Dispatcher;
use coretex_kernel::dispatcher::{Holder, LimitKey, Wake};
use coretex_kernel::input::{Closed, Input};
use coretex_ports::{Env, Store};
use rustc_hash::FxHashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::{Notify, mpsc};

/// Sites of runs that are worked out at a time.
const EVALUATIONS_MAX: usize = 64;

pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) env: Env,
    pub(crate) settings: Settings,
    dispatcher: Mutex<Dispatcher>,
    pub(crate) mailboxes: Vec<mpsc::Sender<Mail>>,
    pub(crate) nudges: Vec<Arc<Nudge>>,
    pub(crate) halt: Halt,
    /// Set when the loops have stopped for good.
    pub(crate) gone: Halt,
    pub(crate) sessions: Sessions,
    pub(crate) events: Events,
    pub(crate) outputs: Outputs,
    pub(crate) metrics: Arc<EngineMetrics>,
    tokens: RwLock<Arc<Tokens>>,
    pub(crate) epoch: AtomicU64,
    /// Per loop: open jobs, and jobs that have left memory.
    pub(crate) open_jobs: Vec<AtomicU64>,
    pub(crate) departed: Vec<AtomicU64>,
    /// Per loop: approvals that are open.
    pub(crate) pending_approvals: Vec<AtomicU64>,
    pub(crate) is_up: AtomicBool,
    pub(crate) is_draining: AtomicBool,
    pub(crate) start_time: Time,
    /// The catalog's topic rows, as committed.
    topic_rows: RwLock<Vec<Arc<Topic>>>,
    pub(crate) topic_turn: tokio::sync::Mutex<()>,
    pub(crate) catalog: Catalog,
    pub(crate) namespaces: Arc<Namespaces>,
    pub(crate) in_force: InForce,
    pub(crate) definitions: Definitions,
    pub(crate) plans: Plans,
    pub(crate) run_watches: Arc<Watches>,
    /// Room for what runs ask to be worked out beside their loops.
    pub(crate) evaluations: tokio::sync::Semaphore,
    pub(crate) house: Rooms,
    pub(crate) remote: Link,
    /// Jobs a kernel elsewhere is to be asked about.
    pub(crate) to_judge: mpsc::UnboundedSender<Arc<Job>>,
    pub(crate) audit: mpsc::Sender<audit::Entry>,
    policy: RwLock<Arc<Policy>>,
    /// Rung when the time of the next retention pass may have moved closer.
    pub(crate) clean_soon: Notify,
}

/// Inputs that reach a loop beside its mailbox, so that a full mailbox never holds them up.
#[derive(Default)]
pub(crate) struct Nudge {
    inputs: Mutex<Vec<Input>>,
    pub(crate) notify: Notify,
}

impl Nudge {
    fn push(&self, input: Input) {
        self.inputs.lock().unwrap_or_else(PoisonError::into_inner).push(input);
        self.notify.notify_one();
    }
    pub(crate) fn take(&self) -> Vec<Input> {
        std::mem::take(&mut *self.inputs.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Stops all loops of an engine at once.
#[derive(Default)]
pub(crate) struct Halt {
    is_set: AtomicBool,
    notify: Notify,
}

impl Halt {
    pub(crate) fn set(&self) {
        self.is_set.store(true, Ordering::Release);
        self.notify.notify_waiters();
    }
    pub(crate) fn clear(&self) {
        self.is_set.store(false, Ordering::Release);
    }
    /// Completes once [`Halt::set`] was called.
    pub(crate) async fn notified_for(&self, _who: usize) {
        loop {
            let notified = self.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.is_set.load(Ordering::Acquire) {
                return;
            }
            notified.await;
        }
    }
}

/// What a new engine starts from.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) env: Env,
    pub(crate) settings: Settings,
    pub(crate) mailboxes: Vec<mpsc::Sender<Mail>>,
    pub(crate) sequences: Box<[u64; 256]>,
    pub(crate) audit: mpsc::Sender<audit::Entry>,
    pub(crate) to_judge: mpsc::UnboundedSender<Arc<Job>>,
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Shared {
        let loops = parts.mailboxes.len();
        let namespaces = Arc::<Namespaces>::default();
        let start_time = parts.env.clock.now().wall;
        let policy = match &parts.settings.remote_kernel {
            // Its version is learnt with the first answer.
            Some(_) => Arc::new(Policy::remote(0)),
            None => parts.settings.policy.clone(),
        };
        let house = Rooms::new(parts.settings.house.as_ref());
        Shared {
            store: parts.store,
            env: parts.env,
            settings: parts.settings,
            dispatcher: Mutex::new(Dispatcher::default()),
            mailboxes: parts.mailboxes,
            nudges: (0..loops).map(|_| Arc::default()).collect(),
            halt: Halt::default(),
            gone: Halt::default(),
            sessions: Sessions::default(),
            events: Events::new(parts.sequences, namespaces.clone()),
            outputs: Outputs::default(),
            metrics: Arc::default(),
            tokens: RwLock::new(Arc::new(Tokens::new(Vec::new()))),
            epoch: AtomicU64::new(0),
            open_jobs: (0..loops).map(|_| AtomicU64::new(0)).collect(),
            pending_approvals: (0..loops).map(|_| AtomicU64::new(0)).collect(),
            departed: (0..loops).map(|_| AtomicU64::new(0)).collect(),
            is_up: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            start_time,
            topic_rows: RwLock::default(),
            topic_turn: tokio::sync::Mutex::default(),
            catalog: Catalog::default(),
            namespaces,
            in_force: InForce::default(),
            definitions: Definitions::default(),
            plans: Plans::default(),
            run_watches: Arc::default(),
            evaluations: tokio::sync::Semaphore::new(EVALUATIONS_MAX),
            house,
            remote: Link::default(),
            to_judge: parts.to_judge,
            audit: parts.audit,
            policy: RwLock::new(policy),
            clean_soon: Notify::new(),
        }
    }

    pub(crate) fn dispatcher(&self) -> MutexGuard<'_, Dispatcher> {
        self.dispatcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tokens(&self) -> Arc<Tokens> {
        self.tokens.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_tokens(&self, tokens: Tokens) {
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
    }

    /// The policy in force.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.policy.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_policy(&self, policy: Arc<Policy>) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    pub(crate) fn topic_rows(&self, namespace: &Namespace) -> Vec<Arc<Topic>> {
        let rows = self.topic_rows.read().unwrap_or_else(PoisonError::into_inner);
        rows.iter().filter(|row| row.namespace == *namespace).cloned().collect()
    }

    pub(crate) fn keep_topic_row(&self, topic: Arc<Topic>) {
        let mut rows = self.topic_rows.write().unwrap_or_else(PoisonError::into_inner);
        rows.retain(|row| row.namespace != topic.namespace || row.name != topic.name);
        rows.push(topic);
    }

    pub(crate) fn loop_of(&self, shard: ShardId) -> usize {
        usize::from(shard.0) % self.mailboxes.len()
    }

    /// Sends without waiting; a full mailbox is an honest refusal.
    pub(crate) fn post(&self, to: usize, mail: Mail) -> Result<(), Refusal> {
        if !self.is_up.load(Ordering::Acquire) {
            return Err(
                Refusal::new(Reason::StoreUnavailable, "the store is not ready").retry_after(Span::secs(1))
            );
        }
        self.mailboxes[to].try_send(mail).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Refusal::new(Reason::Overloaded, "too many requests wait for this shard")
                    .retry_after(Span(100))
            }
            mpsc::error::TrySendError::Closed(_) => Refusal::new(Reason::ShuttingDown, "the server stops"),
        })
    }

    /// Sends and waits for room: for frames of workers, which must not be refused.
    pub(crate) async fn post_waiting(&self, to: usize, mail: Mail) -> Result<(), Refusal> {
        self.mailboxes[to]
            .send(mail)
            .await
            .map_err(|_| Refusal::new(Reason::ShuttingDown, "the server stops"))
    }

    /// Tells loops that something they waited for may be had again.
    pub(crate) fn wake(&self, wakes: Vec<Wake>) {
        for wake in wakes {
            for who in wake.loops {
                self.nudges[who].push(Input::Work(vec![wake.topic.clone()]));
            }
        }
    }

    /// A run gave its place back, and that is committed.
    pub(crate) fn free_slot(&self, key: &LimitKey, holder: Holder) {
        let waiting = self.dispatcher().free_slot(key, holder);
        for who in waiting {
            self.nudges[who].push(Input::SlotFree(key.clone()));
        }
    }

    /// Frees what closed leases held, now that their end is committed.
    pub(crate) fn release(&self, closed: &[Closed]) {
        if closed.is_empty() {
            return;
        }
        let mut wakes = Vec::new();
        let mut slots = FxHashSet::default();
        // Closed leases come in runs of one lane and topic: each run is one step.
        let is_alike =
            |a: &Closed, b: &Closed| a.session == b.session && a.lane_id == b.lane_id && a.topic == b.topic;
        {
            let mut dispatcher = self.dispatcher();
            for run in closed.chunk_by(is_alike) {
                let count = u32::try_from(run.len()).unwrap_or(u32::MAX);
                wakes.extend(dispatcher.closed(&run[0].topic, run[0].session, &run[0].lane_id, count));
            }
            for (key, holder) in closed.iter().flat_map(Closed::slots) {
                for who in dispatcher.free_slot(key, *holder) {
                    slots.insert((who, key.clone()));
                }
            }
        }
        for run in closed.chunk_by(|a, b| a.session == b.session) {
            self.sessions.leases_closed(run[0].session, run.iter().map(|one| one.lease_id));
        }
        self.wake(wakes);
        for (who, key) in slots {
            self.nudges[who].push(Input::SlotFree(key));
        }
    }
}
