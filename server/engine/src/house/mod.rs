//! The house: the worker inside of the server. It does the steps of the library, and hands back answered questions.
//!
//! It is a worker like others, over sessions like others, but these are of this process: none is stored, none expires,
//! nothing beats. One is opened in a namespace when the dispatcher finds work there that only the house may do.

mod approval;
mod stay;

use crate::mail::{Mail, ReplyTo};
use crate::sessions::{self, Attached};
use crate::shared::Shared;
use coretex_domain::job::{Failure, Spec};
use coretex_domain::nearest::hint;
use coretex_domain::session::Lane;
use coretex_domain::{Job, Namespace, Payload, Reason, Refusal, SessionId, Span, house};
use coretex_kernel::input::Input;
use futures::future::BoxFuture;
use rustc_hash::FxHashMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::AbortHandle;

/// Does the steps of the library.
pub trait House: fmt::Debug + Send + Sync + 'static {
    /// Names of all steps there are, in order: `sys.step.` and one of them is a topic.
    fn steps(&self) -> &[&'static str];

    /// How many run at a time, over all namespaces, of those that are not quick.
    fn slots(&self) -> u32;

    /// True if a step takes no time to speak of: it needs no slot and no start of its own in the history.
    fn is_quick(&self, step: &str) -> bool;

    /// Does one job. Dropping the future stops it.
    fn work(&self, step: &str, task: HouseTask) -> BoxFuture<'static, Result<Payload, HouseFailure>>;
}

/// One attempt at a job.
#[derive(Clone, Debug)]
pub struct HouseTask {
    pub job: Arc<Job>,
    /// The attempt may take this long.
    pub within: Span,
}

/// Why an attempt did not succeed.
#[derive(Clone, Debug)]
pub struct HouseFailure {
    pub failure: Box<Failure>,
    /// When to try again, if somebody said so.
    pub retry_after: Option<Span>,
}

/// The lane of steps.
const STEPS: &str = "steps";
/// The lane of answered questions.
const APPROVALS: &str = "approvals";
/// Answered questions on their way at a time, per namespace: each takes no time.
const APPROVAL_SLOTS: u32 = 256;
/// Jobs of quick steps on their way at a time, per namespace, besides those in slots.
const QUICK_SLOTS: u32 = 64;

/// The house of one engine.
pub(crate) struct Rooms {
    /// Open sessions, one per namespace.
    open: Mutex<FxHashMap<Namespace, Room>>,
    slots: Arc<Semaphore>,
}

struct Room {
    session: SessionId,
    task: AbortHandle,
}

// === impl Rooms ===

impl Rooms {
    pub(crate) fn new(house: Option<&Arc<dyn House>>) -> Rooms {
        let slots = house.map_or(0, |house| house.slots() as usize);
        Rooms { open: Mutex::default(), slots: Arc::new(Semaphore::new(slots)) }
    }

    fn open(&self) -> MutexGuard<'_, FxHashMap<Namespace, Room>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> Vec<SessionId> {
        self.open().values().map(|room| room.session).collect()
    }
}

/// Makes sure that the house serves a namespace. Cheap where it does.
pub(crate) fn serve(shared: &Arc<Shared>, namespace: &Namespace) {
    if shared.is_draining.load(Ordering::Acquire) {
        return;
    }
    let mut open = shared.house.open();
    if open.contains_key(namespace) {
        return;
    }
    let lanes = lanes(shared.settings.house.as_ref());
    let grants = lanes.iter().map(|lane| (lane.lane_id.clone(), u64::from(lane.slots))).collect();
    let attached = sessions::open_own(shared, namespace, lanes);
    let session = attached.handle.session_id();
    let task = tokio::spawn(inhabit(shared.clone(), namespace.clone(), attached, grants));
    open.insert(namespace.clone(), Room { session, task: task.abort_handle() });
}

fn lanes(house: Option<&Arc<dyn House>>) -> Vec<Lane> {
    let mut lanes = vec![Lane {
        lane_id: APPROVALS.into(),
        topics: vec![house::APPROVALS.into()],
        slots: APPROVAL_SLOTS,
    }];
    if let Some(house) = house {
        let topic = |step: &&str| format!("{}{step}", house::STEPS).into();
        let topics = house.steps().iter().map(topic).collect();
        lanes.push(Lane { lane_id: STEPS.into(), topics, slots: house.slots() + QUICK_SLOTS });
    }
    lanes
}

/// Works in a session until that ends. What it still has then goes on in the next one.
async fn inhabit(
    shared: Arc<Shared>,
    namespace: Namespace,
    attached: Attached,
    grants: Vec<(Arc<str>, u64)>,
) {
    let session = attached.handle.session_id();
    stay::Stay::new(shared.clone(), grants).run(attached).await;
    let is_mine = {
        let mut open = shared.house.open();
        open.get(&namespace).is_some_and(|room| room.session == session) && open.remove(&namespace).is_some()
    };
    if is_mine {
        sessions::close_own(&shared, session);
        give_back(&shared, session, true).await;
    }
}

/// The loops are loaded anew: what was done for the ones before is not done any more. Says whose leases go back.
pub(crate) fn reset(shared: &Shared) -> Vec<SessionId> {
    let rooms = std::mem::take(&mut *shared.house.open());
    let close = |room: Room| {
        room.task.abort();
        sessions::close_own(shared, room.session);
        room.session
    };
    rooms.into_values().map(close).collect()
}

/// Nothing new; what has not started comes back at once.
pub(crate) async fn drain(shared: &Shared) {
    for session in shared.house.sessions() {
        shared.dispatcher().set_schedulable(session, false);
        give_back(shared, session, false).await;
    }
}

/// The time of a stop is over: what still runs is released, and goes on with the next process.
pub(crate) async fn leave(shared: &Shared) {
    for session in reset(shared) {
        give_back(shared, session, true).await;
    }
}

/// Leases of a session of the house go back. Returns when that is committed, or cannot be.
pub(crate) async fn give_back(shared: &Shared, session: SessionId, with_started: bool) {
    let mut answers = Vec::with_capacity(shared.mailboxes.len());
    for who in 0..shared.mailboxes.len() {
        let (answer, done) = oneshot::channel();
        let mail = Mail::Decide(Input::ReturnLeases { session, with_started }, ReplyTo::One(answer));
        if shared.post_waiting(who, mail).await.is_ok() {
            answers.push(done);
        }
    }
    for done in answers {
        let _ = done.await;
    }
}

// === what others may not ===

/// Other workers serve other topics, under other names.
pub(crate) fn refuse_foreign(worker_id: &str, lanes: &[Lane]) -> Result<(), Refusal> {
    if worker_id == house::WORKER {
        return Err(own_worker("worker_id"));
    }
    refuse_topics(lanes)
}

pub(crate) fn refuse_topics(lanes: &[Lane]) -> Result<(), Refusal> {
    let mut topics = lanes.iter().flat_map(|lane| &lane.topics);
    match topics.find(|topic| house::is_reserved(topic)) {
        None => Ok(()),
        Some(topic) => {
            let message =
                format!("topics: {topic} begins with `{}`; the server itself does such jobs", house::TOPICS);
            Err(Refusal::new(Reason::TopicReserved, message).fact("topic", &**topic))
        }
    }
}

pub(crate) fn own_worker(field: &str) -> Refusal {
    Refusal::new(Reason::WorkerReserved, format!("{field}: `{}` is the server itself", house::WORKER))
}

/// A job for the house is one that it can do: a step there is, with no wish for another worker.
pub(crate) fn check(shared: &Shared, spec: &Spec) -> Result<(), Refusal> {
    if !house::does(&spec.topic) {
        return Ok(());
    }
    let placement = &spec.options().placement;
    if placement.pool_required || placement.worker_required || !placement.requires.is_empty() {
        let message = "the server itself does it: no pool, worker or capability can be required";
        return Err(Refusal::field("topic", format!("{}: {message}", spec.topic)));
    }
    let (Some(step), Some(house)) = (house::step_of(&spec.topic), &shared.settings.house) else {
        return Ok(());
    };
    let steps = house.steps();
    match steps.contains(&step) {
        true => Ok(()),
        false => {
            let hint = hint(step, steps.iter().copied());
            let message =
                format!("{}: there is no such step; there are {}{hint}", spec.topic, steps.join(", "));
            Err(Refusal::field("topic", message))
        }
    }
}
