//! What a shard group knows: the fold of its committed writes, kept ready for decisions.
//!
//! Ready queues, timers and lease indexes are functions of the jobs in it: [`View::settle_in`] is the one place
//! that keeps them so, for live decisions and for recovery alike.

mod families;
mod leases;

use crate::dispatcher::{LimitKey, TopicKey};
use crate::mutant::Mutant;
use crate::packed::Packed;
use crate::parked::{Parked, revive_behind};
use crate::ready::{ReadyQueue, Waiting};
use crate::runs::Runs;
use crate::throttle::Throttled;
use crate::timers;
use coretex_domain::approval::Approval;
use coretex_domain::job::spec::Placement;
use coretex_domain::job::{PLACE_ORDER_BITS, State, StateKind};
use coretex_domain::policy::Policy;
use coretex_domain::topic::{Retention, Settings, Topic};
use coretex_domain::{Job, JobId, JobKey, Namespace, SessionId, Time};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Keys of jobs that left memory lately, so that a stale look-up is noticed.
const DEPARTED_KEPT: usize = 65_536;

/// Jobs of a class that wait in full before the rest is packed: about one second of work.
const PACK_FROM: usize = 20_000;

/// How long namespaces keep things, for those that say so.
pub type Retentions = FxHashMap<Namespace, Retention>;

/// Number of a topic within a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TopicNo(pub(crate) u32);

/// Number of a class: jobs of one topic with the same placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClassNo(pub(crate) u32);

#[derive(Debug)]
pub(crate) struct Class {
    pub(crate) topic: TopicNo,
    pub(crate) placement: Placement,
    pub(crate) ready: ReadyQueue,
    /// Ready jobs, without dead entries.
    pub(crate) live: usize,
}

#[derive(Debug)]
pub(crate) struct TopicState {
    pub(crate) key: TopicKey,
    pub(crate) row: Option<Arc<Topic>>,
    /// What its namespace says, looked up when the topic is first seen and when it changes.
    of_namespace: Retention,
    free_class: ClassNo,
    pub(crate) classes: Vec<ClassNo>,
    pub(crate) by_state: [u64; 13],
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) job: Arc<Job>,
    /// The one entry this job has among the timers.
    timer: Time,
    /// It has a live entry in its ready queue.
    pub(crate) is_queued: bool,
}

#[derive(Debug)]
pub(crate) struct LeaseEntry {
    pub(crate) key: JobKey,
    pub(crate) is_acked: bool,
}

/// Leases of one session, and the offers among them that wait for an ack.
#[derive(Debug, Default)]
pub(crate) struct SessionLeases {
    pub(crate) leases: FxHashMap<u64, LeaseEntry>,
    /// (deadline on the monotonic clock, lease), oldest first; answered ones are dropped from the front.
    pub(crate) offers: VecDeque<(Time, u64)>,
    offer_deadline: Option<Time>,
}

/// The memory of one shard group.
#[derive(Debug)]
pub struct View {
    /// Which loop of the node this is.
    pub(crate) who: usize,
    pub(crate) jobs: FxHashMap<JobKey, Slot>,
    /// Jobs that only wait, in their small form; a key is here or in `jobs`, never in both.
    packed: FxHashMap<JobKey, (Box<Packed>, TopicNo)>,
    /// Jobs of the last turn that may be packed.
    to_pack: Vec<JobKey>,
    /// Queues longer than this are packed.
    pub pack_from: usize,
    pub(crate) keys: FxHashMap<Namespace, FxHashMap<Arc<str>, (JobKey, u128)>>,
    /// Keys given to jobs of other shards lately.
    pub(crate) claims: FxHashMap<(Namespace, Arc<str>), (JobId, u128)>,
    pub(crate) topics: Vec<TopicState>,
    topic_numbers: FxHashMap<Namespace, FxHashMap<Arc<str>, TopicNo>>,
    /// Of namespaces that say so.
    retentions: Arc<Retentions>,
    pub(crate) classes: Vec<Class>,
    placed_classes: FxHashMap<(TopicNo, Placement), ClassNo>,
    /// Classes that may have something to dispatch.
    pub(crate) dirty: BTreeSet<ClassNo>,
    /// Where the next look begins, so that each gets its turn.
    pub(crate) next_class: ClassNo,
    /// Jobs that wait for a slot or a start of their key.
    pub(crate) parked: Parked,
    timers: BTreeSet<(Time, JobKey)>,
    /// Classes and rate keys that sleep until a start is allowed.
    pub(crate) class_wakes: BTreeSet<(Time, ClassNo)>,
    pub(crate) key_wakes: BTreeSet<(Time, LimitKey)>,
    pub(crate) throttled: Throttled,
    /// Questions to people that are open, by job.
    pub(crate) approvals: FxHashMap<JobKey, Arc<Approval>>,
    /// Of those, the ones that no store has yet.
    pub(crate) unfiled: Vec<JobKey>,
    pub(crate) runs: Runs,
    /// Open children by the parent whose end, unless it succeeds, is theirs.
    families: FxHashMap<JobKey, BTreeSet<JobKey>>,
    pub(crate) sessions: FxHashMap<SessionId, SessionLeases>,
    offer_deadlines: BTreeSet<(Time, SessionId)>,
    pub(crate) sequences: Box<[u64; 256]>,
    last_place: u64,
    /// Orders delayed jobs that become ready in the same millisecond.
    delayed: u64,
    next_lease: u64,
    pub(crate) policy: Arc<Policy>,
    /// Jobs that were loaded while a kernel elsewhere was asked about them: it has to be asked again.
    pub(crate) unasked: Vec<JobKey>,
    departed: u64,
    departed_keys: FxHashSet<JobKey>,
    departed_order: VecDeque<JobKey>,
    /// Ended jobs that were annotated lately, newest version.
    pub(crate) annotated: FxHashMap<JobKey, Arc<Job>>,
    pub(crate) annotated_order: VecDeque<JobKey>,
    pub mutant: Option<Mutant>,
}

/// Entries of a view's maps. All but the history of what was is empty when no job is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    pub jobs: usize,
    pub keys: usize,
    pub parked: usize,
    pub approvals: usize,
    pub families: usize,
    pub runs: usize,
    pub ready: usize,
    pub timers: usize,
    pub sessions: usize,
    pub offers: usize,
}

impl Footprint {
    /// True if nothing is left of jobs that have ended.
    pub fn is_at_rest(&self) -> bool {
        *self == Footprint::default()
    }
}

// === impl View: filling ===

impl View {
    /// An empty view of loop `who`. `sequences` are the highest event numbers used so far, per shard.
    pub fn new(who: usize, policy: Arc<Policy>, sequences: Box<[u64; 256]>, now: Time) -> View {
        View {
            who,
            jobs: FxHashMap::default(),
            packed: FxHashMap::default(),
            to_pack: Vec::new(),
            pack_from: PACK_FROM,
            keys: FxHashMap::default(),
            claims: FxHashMap::default(),
            topics: Vec::new(),
            topic_numbers: FxHashMap::default(),
            retentions: Arc::default(),
            classes: Vec::new(),
            placed_classes: FxHashMap::default(),
            dirty: BTreeSet::new(),
            next_class: ClassNo(0),
            parked: Parked::default(),
            timers: BTreeSet::new(),
            class_wakes: BTreeSet::new(),
            key_wakes: BTreeSet::new(),
            throttled: Throttled::default(),
            approvals: FxHashMap::default(),
            unfiled: Vec::new(),
            runs: Runs::default(),
            families: FxHashMap::default(),
            sessions: FxHashMap::default(),
            offer_deadlines: BTreeSet::new(),
            sequences,
            last_place: now.0 << PLACE_ORDER_BITS,
            delayed: 0,
            // 56 bits; a millisecond holds 32,768, more than a loop can lease, so restarts never reuse one.
            next_lease: (now.0 << 15) & LEASE_COUNTER_MASK,
            policy,
            unasked: Vec::new(),
            // Look-ups made before this view was filled are older than anything it knows.
            departed: now.0 << DEPARTED_BITS,
            departed_keys: FxHashSet::default(),
            departed_order: VecDeque::new(),
            annotated: FxHashMap::default(),
            annotated_order: VecDeque::new(),
            mutant: None,
        }
    }

    /// Takes in an open job as it was stored.
    pub fn load(&mut self, job: Arc<Job>, now: Time) {
        if job.ready_time() <= now {
            self.last_place = self.last_place.max(job.place);
        }
        if let Some(key) = job.spec.options().idempotency_key.clone() {
            let at = (job.key(), job.fingerprint());
            self.keys.entry(job.namespace.clone()).or_default().insert(key, at);
        }
        if let Some(lease) = job.state.lease() {
            // Which offers were acked is not stored: they count as held until the session says otherwise.
            let entry = LeaseEntry { key: job.key(), is_acked: true };
            self.sessions.entry(lease.session).or_default().leases.insert(lease.id, entry);
        }
        let key = job.key();
        self.insert(key, job, now);
        self.pack(key);
    }

    /// Notes a job that may be packed once the turn is over.
    pub(crate) fn may_pack(&mut self, key: JobKey) {
        self.to_pack.push(key);
    }

    /// Puts a queued job into its small form, if it is plain and its queue is long.
    fn pack(&mut self, key: JobKey) {
        let Some(slot) = self.jobs.get(&key).filter(|slot| slot.is_queued && slot.timer == Time::NEVER)
        else {
            return;
        };
        let job = slot.job.clone();
        let class = self.class_of(&job);
        if self.classes[class.0 as usize].live <= self.pack_from {
            return;
        }
        if let Some(packed) = Packed::of(&job) {
            let topic = self.classes[class.0 as usize].topic;
            self.jobs.remove(&key);
            self.packed.insert(key, (Box::new(packed), topic));
        }
    }

    /// Makes a packed job whole again.
    pub(crate) fn thaw(&mut self, key: JobKey) {
        if self.packed.is_empty() {
            return;
        }
        if let Some((packed, topic)) = self.packed.remove(&key) {
            let job = packed.unpack(key, &self.topics[topic.0 as usize].key);
            self.jobs.insert(key, Slot { job: Arc::new(job), timer: Time::NEVER, is_queued: true });
        }
    }

    /// Makes all packed jobs of a topic whole, because their deadlines change.
    pub(crate) fn thaw_topic(&mut self, topic: TopicNo) {
        let keys: Vec<JobKey> =
            self.packed.iter().filter(|(_, (_, t))| *t == topic).map(|(key, _)| *key).collect();
        for key in keys {
            self.thaw(key);
        }
    }

    /// Brings counters, ready queue and timer of a job in line after a change. `before` is the state it had.
    pub(crate) fn settle_in(&mut self, key: JobKey, before: Option<StateKind>, now: Time) {
        let Some(slot) = self.jobs.get(&key) else { return };
        let job = slot.job.clone();
        let kind = job.state.kind();
        let class_no = self.class_of(&job);
        let topic = self.classes[class_no.0 as usize].topic;
        let counts = &mut self.topics[topic.0 as usize].by_state;
        if let Some(before) = before {
            counts[before as usize] = counts[before as usize].saturating_sub(1);
        }
        if !kind.is_terminal() {
            counts[kind as usize] += 1;
        }
        let settings = self.topics[topic.0 as usize].row.as_ref().map(|row| &row.settings);
        let due = timers::next_due(&job, settings, now).unwrap_or(Time::NEVER);
        self.set_timer(key, due);
        if before == Some(StateKind::Pending) && kind != StateKind::Pending {
            self.stop_waiting(key);
        }
        if kind == StateKind::Scheduled {
            if before != Some(StateKind::Scheduled) && job.ready_time() <= now {
                self.push_ready(class_no, &job, key);
            }
        } else if before == Some(StateKind::Scheduled) {
            // Also a parked job may have been the one whose turn it was.
            self.unqueue(class_no, key);
            revive_behind(self, class_no, &job);
        }
    }

    /// Takes a job into memory and files it.
    pub(crate) fn insert(&mut self, key: JobKey, job: Arc<Job>, now: Time) {
        self.bind(key, &job);
        self.jobs.insert(key, Slot { job, timer: Time::NEVER, is_queued: false });
        self.settle_in(key, None, now);
    }

    /// Its entry in the ready queue, if any, is dead from now on.
    pub(crate) fn unqueue(&mut self, class_no: ClassNo, key: JobKey) {
        if let Some(slot) = self.jobs.get_mut(&key)
            && slot.is_queued
        {
            slot.is_queued = false;
            self.classes[class_no.0 as usize].live -= 1;
        }
    }

    /// Puts a scheduled job whose time has come into its queue.
    pub(crate) fn push_ready(&mut self, class_no: ClassNo, job: &Job, key: JobKey) {
        let Some(slot) = self.jobs.get_mut(&key) else { return };
        if slot.is_queued {
            return;
        }
        slot.is_queued = true;
        let class = &mut self.classes[class_no.0 as usize];
        class.ready.push(job.spec.priority, Waiting { place: job.place, key });
        class.live += 1;
        self.dirty.insert(class_no);
        let (jobs, packed) = (&self.jobs, &self.packed);
        class.ready.sweep(class.live, |w| is_waiting(jobs, packed, w));
    }

    fn set_timer(&mut self, key: JobKey, due: Time) {
        let Some(slot) = self.jobs.get_mut(&key) else { return };
        if slot.timer == due {
            return;
        }
        if slot.timer != Time::NEVER {
            self.timers.remove(&(slot.timer, key));
        }
        slot.timer = due;
        if due != Time::NEVER {
            self.timers.insert((due, key));
        }
    }

    /// Lets go of an ended job.
    pub(crate) fn remove(&mut self, key: JobKey) {
        self.set_timer(key, Time::NEVER);
        let Some(slot) = self.jobs.remove(&key) else { return };
        self.unbind(key, &slot.job);
        if let Some(idempotency) = &slot.job.spec.options().idempotency_key
            && let Some(keys) = self.keys.get_mut(&slot.job.namespace)
        {
            keys.remove(idempotency);
        }
        self.note_departed(key);
    }

    /// Something left memory: a look-up from before may not have seen it.
    pub(crate) fn note_departed(&mut self, key: JobKey) {
        self.departed += 1;
        if self.departed_keys.insert(key) {
            self.departed_order.push_back(key);
        }
        if self.departed_order.len() > DEPARTED_KEPT
            && let Some(oldest) = self.departed_order.pop_front()
        {
            self.departed_keys.remove(&oldest);
        }
    }
}

const LEASE_COUNTER_MASK: u64 = (1 << 56) - 1;
/// Room for the departures of one millisecond.
const DEPARTED_BITS: u32 = 20;

fn is_waiting(
    jobs: &FxHashMap<JobKey, Slot>,
    packed: &FxHashMap<JobKey, (Box<Packed>, TopicNo)>,
    waiting: Waiting,
) -> bool {
    match jobs.get(&waiting.key) {
        Some(slot) => {
            slot.is_queued && matches!(slot.job.state, State::Scheduled) && slot.job.place == waiting.place
        }
        None => packed.get(&waiting.key).is_some_and(|(small, _)| small.place == waiting.place),
    }
}

// === impl View: looking things up ===

impl View {
    /// True if the entry of a ready queue still stands for a waiting job.
    pub(crate) fn is_waiting(&self, waiting: Waiting) -> bool {
        is_waiting(&self.jobs, &self.packed, waiting)
    }

    /// An open job by name, whatever form it is kept in.
    pub fn look(&mut self, namespace: &Namespace, id: &JobId) -> Option<&Arc<Job>> {
        self.thaw(id.key(namespace));
        self.find(namespace, id)
    }

    /// Open jobs per shard.
    pub fn census(&self) -> Vec<u64> {
        let mut counts = vec![0; coretex_domain::limits::SHARDS];
        let live = self.jobs.values().map(|slot| slot.job.shard);
        for shard in live.chain(self.packed.keys().map(|key| Packed::shard(*key))) {
            counts[usize::from(shard.0)] += 1;
        }
        counts
    }

    /// An open job that is not packed.
    pub fn job(&self, key: JobKey) -> Option<&Arc<Job>> {
        self.jobs.get(&key).map(|slot| &slot.job)
    }

    /// An open job by name, with its namespace checked.
    pub fn find(&self, namespace: &Namespace, id: &JobId) -> Option<&Arc<Job>> {
        self.job(id.key(namespace)).filter(|job| job.namespace == *namespace && job.id == *id)
    }

    /// Open jobs that are not packed.
    pub fn open_jobs(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.values().map(|slot| &slot.job)
    }

    pub fn open_count(&self) -> usize {
        self.jobs.len() + self.packed.len()
    }

    /// Rises by one with each job that leaves memory. A new view starts above every older one of its process, so a
    /// look-up that began before a reload is seen to be stale.
    pub fn departed(&self) -> u64 {
        self.departed
    }

    /// True if `key` may have left memory after `looked_at`, so that a store answer from then is stale.
    pub(crate) fn may_have_departed(&self, key: JobKey, looked_at: u64) -> bool {
        self.departed > looked_at
            && (self.departed_keys.contains(&key) || self.departed - looked_at > DEPARTED_KEPT as u64)
    }

    /// Sessions that hold leases here.
    pub fn lease_sessions(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.iter().filter(|(_, s)| !s.leases.is_empty()).map(|(id, _)| *id)
    }

    /// Those of them in which the server itself was the worker.
    pub fn house_sessions(&self) -> impl Iterator<Item = SessionId> {
        let is_house = |key: JobKey| {
            let lease = self.job(key).and_then(|job| job.state.lease());
            lease.is_some_and(|lease| &*lease.worker_id == coretex_domain::house::WORKER)
        };
        let sessions = self.sessions.iter();
        sessions.filter(move |(_, s)| s.leases.values().any(|lease| is_house(lease.key))).map(|(id, _)| *id)
    }

    /// Open leases: (session, lane) → count, for the dispatcher after a restart.
    pub fn open_leases(&self) -> impl Iterator<Item = (&Arc<Job>, SessionId, Arc<str>)> {
        self.open_jobs().filter_map(|job| job.state.lease().map(|l| (job, l.session, l.lane_id.clone())))
    }

    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// How much the view holds, map by map.
    pub fn footprint(&self) -> Footprint {
        Footprint {
            jobs: self.open_count(),
            keys: self.keys.values().map(FxHashMap::len).sum(),
            parked: self.parked.len() + self.throttled.len(),
            approvals: self.approvals.len() + self.unfiled.len(),
            families: self.families.len(),
            runs: self.open_runs() + self.runs.queued.len(),
            ready: self.classes.iter().map(|class| class.live).sum(),
            timers: self.timers.len()
                + self.class_wakes.len()
                + self.key_wakes.len()
                + self.runs.timers.len(),
            sessions: self.sessions.len(),
            offers: self.offer_deadlines.len(),
        }
    }

    /// The next wall time at which a job, class or key is due.
    pub fn next_due(&self) -> Option<Time> {
        let job = self.timers.first().map(|(at, _)| *at);
        let class = self.class_wakes.first().map(|(at, _)| *at);
        let key = self.key_wakes.first().map(|(at, _)| *at);
        let run = self.runs.timers.first().map(|(at, _)| *at);
        [job, class, key, run].into_iter().flatten().min()
    }

    /// The next monotonic time at which an offer runs out.
    pub fn next_offer_deadline(&self) -> Option<Time> {
        self.offer_deadlines.first().map(|(at, _)| *at)
    }

    /// True if a class may have something to dispatch, or runs have to go on.
    pub fn has_work(&self) -> bool {
        !self.dirty.is_empty() || self.has_loaded_runs()
    }

    pub(crate) fn pop_due(&mut self, now: Time) -> Option<JobKey> {
        let (at, key) = *self.timers.first()?;
        if at > now {
            return None;
        }
        self.set_timer(key, Time::NEVER);
        Some(key)
    }

    pub(crate) fn settings(&self, job: &Job) -> Option<&Settings> {
        self.kept_by(job).0
    }

    /// The settings of a job's topic, and how long its namespace keeps what they say nothing about.
    pub(crate) fn kept_by(&self, job: &Job) -> (Option<&Settings>, Retention) {
        let no = self.topic_numbers.get(&job.namespace).and_then(|topics| topics.get(&job.spec.topic));
        let Some(no) = no else { return (None, Retention::default()) };
        let topic = &self.topics[no.0 as usize];
        (topic.row.as_ref().map(|row| &row.settings), topic.of_namespace)
    }

    pub(crate) fn retention_of(&self, namespace: &Namespace) -> Retention {
        self.retentions.get(namespace).copied().unwrap_or_default()
    }

    /// How long namespaces keep things from now on. What has ended keeps its time.
    pub fn set_retentions(&mut self, retentions: Arc<Retentions>) {
        let forgets = self.is_planted(crate::mutant::Mutant::RetentionForgotten);
        for topic in self.topics.iter_mut().filter(|_| !forgets) {
            topic.of_namespace = retentions.get(&topic.key.namespace).copied().unwrap_or_default();
        }
        self.retentions = retentions;
    }

    pub(crate) fn topic_no(&mut self, namespace: &Namespace, topic: &Arc<str>) -> TopicNo {
        if let Some(no) = self.topic_numbers.get(namespace).and_then(|topics| topics.get(topic)) {
            return *no;
        }
        let no = TopicNo(u32::try_from(self.topics.len()).expect("invariant: fewer than 2^32 topics"));
        let free_class = self.add_class(no, Placement::default());
        self.topics.push(TopicState {
            key: TopicKey { namespace: namespace.clone(), topic: topic.clone() },
            row: None,
            of_namespace: self.retentions.get(namespace).copied().unwrap_or_default(),
            free_class,
            classes: vec![free_class],
            by_state: [0; 13],
        });
        self.topic_numbers.entry(namespace.clone()).or_default().insert(topic.clone(), no);
        no
    }

    pub(crate) fn class_of(&mut self, job: &Job) -> ClassNo {
        let topic = self.topic_no(&job.namespace, &job.spec.topic);
        let placement = &job.spec.options().placement;
        if placement.is_free() {
            return self.topics[topic.0 as usize].free_class;
        }
        if let Some(class) = self.placed_classes.get(&(topic, placement.clone())) {
            return *class;
        }
        let class = self.add_class(topic, placement.clone());
        self.placed_classes.insert((topic, placement.clone()), class);
        self.topics[topic.0 as usize].classes.push(class);
        class
    }

    fn add_class(&mut self, topic: TopicNo, placement: Placement) -> ClassNo {
        let no = ClassNo(u32::try_from(self.classes.len()).expect("invariant: fewer than 2^32 classes"));
        self.classes.push(Class { topic, placement, ready: ReadyQueue::default(), live: 0 });
        no
    }
}
