//! What is committed and not yet in the index: the newest version of each row, in two generations. The index
//! writer seals the current one and writes it out, while commits go on in a new one.
//!
//! A reader looks in the current generation, then in the sealed one, then in the index; the generations change
//! under one lock, so a row is always in at least one of the three.

use crate::segment::Place;
use crate::shared::lock;
use bytes::Bytes;
use coretex_domain::dead_letter::DeadLetter;
use coretex_domain::resource::{Resource, ResourceKey};
use coretex_domain::session::Session;
use coretex_domain::topic::Topic;
use coretex_domain::{Job, JobId, JobKey, Namespace, SessionId};
use coretex_ports::{KeyRow, Write};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

/// Parts of the job map: a scan holds one of them at a time, so commits never wait long for it.
const PARTS: usize = 32;

pub(crate) type Jobs = FxHashMap<JobKey, Arc<Job>>;

/// Rows other than jobs.
#[derive(Default)]
pub(crate) struct Side {
    pub(crate) keys: FxHashMap<(Namespace, Arc<str>), Arc<KeyRow>>,
    pub(crate) dead: FxHashMap<JobKey, Arc<DeadLetter>>,
    /// Dead letters that were deleted.
    pub(crate) dead_ended: FxHashMap<JobKey, (Namespace, JobId)>,
    /// None: the session ended.
    pub(crate) sessions: FxHashMap<SessionId, Option<Arc<Session>>>,
    pub(crate) topics: FxHashMap<(Namespace, Arc<str>), Arc<Topic>>,
    pub(crate) secrets: BTreeMap<u32, [u8; 32]>,
    /// None: it is gone.
    pub(crate) resources: FxHashMap<ResourceKey, Option<Arc<Resource>>>,
    pub(crate) outputs: FxHashMap<JobKey, Outputs>,
}

/// Output chunks of one job.
pub(crate) struct Outputs {
    pub(crate) namespace: Namespace,
    pub(crate) job_id: JobId,
    pub(crate) chunks: BTreeMap<(Arc<str>, u64), Bytes>,
}

/// Rows that came in one round. Only the current generation changes, so readers of an older one never wait.
#[derive(Default)]
pub(crate) struct Generation {
    pub(crate) parts: [RwLock<Jobs>; PARTS],
    pub(crate) side: RwLock<Side>,
}

/// A generation that no longer changes, and the place in the log it reaches to.
#[derive(Clone)]
pub(crate) struct Sealed {
    pub(crate) generation: Arc<Generation>,
    pub(crate) end: Place,
}

struct Generations {
    current: Arc<Generation>,
    sealed: Option<Sealed>,
}

pub(crate) struct Overlay {
    generations: RwLock<Generations>,
    end: Mutex<Place>,
    weight: Mutex<Weight>,
    changed: Condvar,
    weight_max: usize,
}

/// Bytes held and who waits for what.
#[derive(Default)]
struct Weight {
    current: usize,
    sealed: usize,
    /// When the oldest change of the current generation came.
    since: Option<Instant>,
    /// Someone wants a round now.
    kicked: bool,
    woken: bool,
}

/// What the index writer should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Round,
    Woken,
}

// === impl Side ===

impl Side {
    /// Takes one write; returns about how many bytes it holds.
    pub(crate) fn put(&mut self, write: &Write) -> usize {
        match write {
            Write::Job { .. } => return 0,
            Write::Key(row) => {
                self.keys.insert((row.namespace.clone(), row.key.clone()), row.clone());
                return size_of::<KeyRow>() + row.key.len();
            }
            Write::DeadLetter(letter) => {
                let key = letter.job_id.key(&letter.namespace);
                self.dead_ended.remove(&key);
                self.dead.insert(key, letter.clone());
                return size_of::<DeadLetter>();
            }
            Write::DeadLetterEnd { namespace, job_id } => {
                let key = job_id.key(namespace);
                self.dead.remove(&key);
                self.dead_ended.insert(key, (namespace.clone(), job_id.clone()));
            }
            Write::Session(session) => {
                self.sessions.insert(session.session_id, Some(session.clone()));
            }
            Write::SessionEnd(id) => {
                self.sessions.insert(*id, None);
            }
            Write::Topic(topic) => {
                self.topics.insert((topic.namespace.clone(), topic.name.clone()), topic.clone());
            }
            Write::Secret(id, secret) => {
                self.secrets.insert(*id, *secret);
            }
            Write::Resource(one) => {
                self.resources.insert(one.key(), Some(one.clone()));
                return one.weight();
            }
            Write::ResourceEnd(key) => {
                self.resources.insert(key.clone(), None);
            }
            Write::Output { namespace, job_id, stream, offset, chunk } => {
                let outputs = self.outputs.entry(job_id.key(namespace)).or_insert_with(|| Outputs {
                    namespace: namespace.clone(),
                    job_id: job_id.clone(),
                    chunks: BTreeMap::new(),
                });
                outputs.chunks.insert((stream.clone(), *offset), chunk.clone());
                return chunk.len() + 64;
            }
        }
        256
    }

    /// True if the dead letter is here, false if it was deleted here, none if only older rows can tell.
    pub(crate) fn has_dead_letter(&self, key: JobKey) -> Option<bool> {
        let ended = || self.dead_ended.contains_key(&key).then_some(false);
        self.dead.contains_key(&key).then_some(true).or_else(ended)
    }
}

fn part_of(key: JobKey) -> usize {
    // The low bytes of a made id are chance and shard; of a hashed name anything.
    ((key.0 >> 16) as usize ^ key.0 as usize) % PARTS
}

// === impl Overlay ===

impl Overlay {
    pub(crate) fn new(end: Place, weight_max: usize) -> Overlay {
        Overlay {
            generations: RwLock::new(Generations { current: Arc::default(), sealed: None }),
            end: Mutex::new(end),
            weight: Mutex::default(),
            changed: Condvar::new(),
            weight_max,
        }
    }

    fn generations(&self) -> RwLockReadGuard<'_, Generations> {
        read(&self.generations)
    }

    /// The generations as they are now, newest first. What leaves them meanwhile is in the index already.
    fn held(&self) -> impl Iterator<Item = Arc<Generation>> + use<> {
        let generations = self.generations();
        let sealed = generations.sealed.as_ref().map(|sealed| sealed.generation.clone());
        [Some(generations.current.clone()), sealed].into_iter().flatten()
    }

    /// Waits until there is room. The index writer makes it; `stop` ends the wait.
    pub(crate) fn wait_for_room(&self, mut stop: impl FnMut() -> bool) {
        let mut weight = lock(&self.weight);
        while weight.current + weight.sealed > self.weight_max && !stop() {
            weight.kicked = true;
            self.changed.notify_all();
            weight = self.changed.wait(weight).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Shows durable changes to readers: the newest version of each job, the other rows, and the new end.
    pub(crate) fn publish<'a>(&self, jobs: &mut Jobs, others: impl Iterator<Item = &'a Write>, end: &Place) {
        // Held to the end: a generation is sealed between two groups, never within one.
        let generations = self.generations();
        let current = &generations.current;
        let mut published = lock(&self.end);
        let (mut added, mut dropped) = (0, 0);
        for (key, job) in jobs.drain() {
            added += job.weight();
            if let Some(old) = write(&current.parts[part_of(key)]).insert(key, job) {
                dropped += old.weight();
            }
        }
        let mut side = write(&current.side);
        for row in others {
            added += side.put(row);
        }
        drop(side);
        published.clone_from(end);
        drop(published);
        drop(generations);
        let mut weight = lock(&self.weight);
        weight.current = (weight.current + added).saturating_sub(dropped);
        if weight.since.is_none() {
            weight.since = Some(Instant::now());
            self.changed.notify_all();
        } else if weight.current > self.weight_max / 4 && !weight.kicked {
            weight.kicked = true;
            self.changed.notify_all();
        }
    }

    /// Blocks until a round is due (`round` after the oldest change, or at once if kicked) or someone wakes it.
    pub(crate) fn wait_for_work(&self, round: std::time::Duration) -> Next {
        let mut weight = lock(&self.weight);
        loop {
            if std::mem::take(&mut weight.woken) {
                return Next::Woken;
            }
            let Some(since) = weight.since else {
                weight = self.changed.wait(weight).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = round.saturating_sub(since.elapsed());
            if left.is_zero() || weight.kicked {
                return Next::Round;
            }
            weight = self.changed.wait_timeout(weight, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Makes `wait_for_work` and `wait_for_room` look around.
    pub(crate) fn wake(&self) {
        lock(&self.weight).woken = true;
        self.changed.notify_all();
    }

    /// Starts a new generation and hands out the old one; None if nothing came since the last.
    pub(crate) fn seal(&self) -> Option<Sealed> {
        let mut generations = write(&self.generations);
        if let Some(sealed) = &generations.sealed {
            // The last round did not succeed; it is tried again before anything newer.
            return Some(sealed.clone());
        }
        let mut weight = lock(&self.weight);
        weight.since.take()?;
        weight.kicked = false;
        weight.sealed = std::mem::take(&mut weight.current);
        drop(weight);
        let generation = std::mem::take(&mut generations.current);
        let sealed = Sealed { generation, end: self.end() };
        generations.sealed = Some(sealed.clone());
        Some(sealed)
    }

    /// Lets go of the sealed generation: the index has it.
    pub(crate) fn release(&self) {
        let sealed = write(&self.generations).sealed.take();
        lock(&self.weight).sealed = 0;
        self.changed.notify_all();
        // Freed outside the lock: it may hold the last reference to a hundred thousand jobs.
        drop(sealed);
    }

    pub(crate) fn end(&self) -> Place {
        lock(&self.end).clone()
    }

    /// Jobs not yet indexed.
    pub(crate) fn lag(&self) -> u64 {
        let count =
            |generation: Arc<Generation>| generation.parts.iter().map(|part| read(part).len()).sum::<usize>();
        self.held().map(count).sum::<usize>() as u64
    }

    pub(crate) fn job(&self, key: JobKey) -> Option<Arc<Job>> {
        let generations = self.generations();
        let find = |generation: &Generation| read(&generation.parts[part_of(key)]).get(&key).cloned();
        let sealed = || generations.sealed.as_ref().and_then(|sealed| find(&sealed.generation));
        find(&generations.current).or_else(sealed)
    }

    /// Looks something up in the rows other than jobs, newest generation first.
    pub(crate) fn side<T>(&self, find: impl Fn(&Side) -> Option<T>) -> Option<T> {
        self.held().find_map(|generation| find(&read(&generation.side)))
    }

    /// Shows all rows other than jobs to `visit`, the older generation first.
    pub(crate) fn visit_side(&self, mut visit: impl FnMut(&Side)) {
        let held: Vec<Arc<Generation>> = self.held().collect();
        for generation in held.iter().rev() {
            visit(&read(&generation.side));
        }
    }

    /// The newest version of every job here that `wanted` picks by what never changes about a job.
    pub(crate) fn jobs(&self, wanted: impl Fn(&Job) -> bool) -> Jobs {
        let mut found = Jobs::default();
        for generation in self.held() {
            for part in &generation.parts {
                for (key, job) in read(part).iter().filter(|(_, job)| wanted(job)) {
                    found.entry(*key).or_insert_with(|| job.clone());
                }
            }
        }
        found
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
