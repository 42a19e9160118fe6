//! The configuration in force, as submits ask for it: nothing to pay where there is none, one look-up where there is.

use super::body::{ScopeConfig, head_key, scope_of};
use crate::catalog::Rows;
use coretex_domain::config::{Applied, Chain, Level, Scope};
use coretex_domain::job::Spec;
use coretex_domain::resource::{Kind, Resource};
use coretex_domain::{Namespace, Refusal};
use coretex_ports::Write;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Answers one namespace remembers, and their bytes; made anew when there are more.
const ANSWERS_MAX: usize = 1_024;
const ANSWERS_BYTES_MAX: usize = 16 << 20;

/// Heads and schemas of all namespaces, one snapshot per change.
#[derive(Default)]
pub(crate) struct Configs {
    is_any: AtomicBool,
    now: RwLock<Arc<Snapshot>>,
}

#[derive(Default)]
pub(super) struct Snapshot {
    pub(super) rows: Rows,
    spaces: FxHashMap<Namespace, Arc<Answers>>,
    /// For namespaces without a configuration of their own.
    others: Arc<Answers>,
}

/// What is known of one namespace.
#[derive(Default)]
struct Answers {
    /// Names that have a scope: other names make no difference, and must not fill the memory.
    named: [FxHashSet<Arc<str>>; 3],
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    answers: FxHashMap<Chain, Option<Arc<Applied>>>,
    bytes: usize,
}

/// The configuration that jobs of a namespace are submitted under.
pub(crate) struct Submitting {
    namespace: Namespace,
    snapshot: Arc<Snapshot>,
    answers: Arc<Answers>,
}

// === impl Configs ===

impl Configs {
    pub(crate) fn fill(&self, rows: &Rows) {
        let ours = rows.iter().filter(|(key, _)| key.kind == Kind::Config);
        self.put(ours.map(|(key, one)| (key.clone(), one.clone())).collect());
    }

    pub(crate) fn take(&self, writes: &[Write]) {
        let is_ours = |write: &Write| match write {
            Write::Resource(one) => one.kind == Kind::Config,
            Write::ResourceEnd(key) => key.kind == Kind::Config,
            Write::Job { .. }
            | Write::Key(_)
            | Write::DeadLetter(_)
            | Write::DeadLetterEnd { .. }
            | Write::Session(_)
            | Write::SessionEnd(_)
            | Write::Topic(_)
            | Write::Secret(..)
            | Write::Output { .. } => false,
        };
        if !writes.iter().any(is_ours) {
            return;
        }
        let mut rows = self.snapshot().rows.clone();
        for write in writes.iter().filter(|write| is_ours(write)) {
            if let Write::Resource(one) = write {
                rows.insert(one.key(), one.clone());
            }
            if let Write::ResourceEnd(key) = write {
                rows.remove(key);
            }
        }
        self.put(rows);
    }

    fn put(&self, rows: Rows) {
        let is_any = rows.keys().any(|key| scope_of(&key.name).is_some());
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Snapshot::of(rows));
        self.is_any.store(is_any, Ordering::Release);
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What jobs of a namespace are submitted under; none where there is no configuration at all.
    pub(crate) fn of(&self, namespace: &Namespace) -> Option<Submitting> {
        if !self.is_any.load(Ordering::Acquire) {
            return None;
        }
        let snapshot = self.snapshot();
        let answers = snapshot.spaces.get(namespace).unwrap_or(&snapshot.others).clone();
        Some(Submitting { namespace: namespace.clone(), snapshot, answers })
    }
}

// === impl Snapshot ===

impl Snapshot {
    fn of(rows: Rows) -> Snapshot {
        let mut named: FxHashMap<Namespace, [FxHashSet<Arc<str>>; 3]> = FxHashMap::default();
        for key in rows.keys() {
            let Some(Scope { level, id }) = scope_of(&key.name) else { continue };
            let sets = named.entry(key.namespace.clone()).or_default();
            match level {
                Level::System | Level::Org => {}
                Level::Team => drop(sets[0].insert(id)),
                Level::Workflow => drop(sets[1].insert(id)),
                Level::Step => drop(sets[2].insert(id)),
            }
        }
        let answers = |named| Arc::new(Answers { named, known: RwLock::default() });
        let spaces = named.into_iter().map(|(namespace, named)| (namespace, answers(named))).collect();
        Snapshot { rows, spaces, others: Arc::default() }
    }

    pub(super) fn head(&self, namespace: &Namespace, scope: &Scope) -> Option<&Arc<Resource>> {
        self.rows.get(&head_key(namespace, scope))
    }

    /// The layers of a chain that have data, the first one lowest.
    pub(super) fn layers(&self, namespace: &Namespace, chain: &Chain) -> Result<Vec<ScopeConfig>, Refusal> {
        let heads = chain.scopes().into_iter().filter_map(|scope| self.head(namespace, &scope).cloned());
        let read: Result<Vec<ScopeConfig>, Refusal> = heads.map(|head| ScopeConfig::read(&head)).collect();
        Ok(read?.into_iter().filter(|layer| layer.data.is_some()).collect())
    }
}

// === impl Submitting ===

impl Submitting {
    /// True if some configuration is set for a step of this name.
    pub(crate) fn names_step(&self, id: &str) -> bool {
        self.answers.named[2].contains(id)
    }

    /// The configuration of one job; none where none of its layers has any.
    pub(crate) fn for_job(&self, spec: &Spec) -> Result<Option<Arc<Applied>>, Refusal> {
        let chain = match &spec.options {
            None => Chain::default(),
            Some(options) => self.answers.known_names(Chain::of_labels(&options.labels)),
        };
        let known = self.answers.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = known.answers.get(&chain) {
            return Ok(answer.clone());
        }
        drop(known);
        let layers = self.snapshot.layers(&self.namespace, &chain)?;
        let answer = (!layers.is_empty()).then(|| Arc::new(super::applied(&layers)));
        let mut known = self.answers.known.write().unwrap_or_else(PoisonError::into_inner);
        let data = answer.as_ref().and_then(|applied| applied.data.as_ref());
        let bytes = data.map_or(0, |data| data.text.len());
        if known.answers.len() >= ANSWERS_MAX || known.bytes + bytes > ANSWERS_BYTES_MAX {
            *known = Known::default();
        }
        known.bytes += bytes;
        // Jobs under one configuration share it.
        Ok(known.answers.entry(chain).or_insert(answer).clone())
    }
}

// === impl Answers ===

impl Answers {
    fn known_names(&self, chain: Chain) -> Chain {
        let [teams, workflows, steps] = &self.named;
        Chain {
            team: chain.team.filter(|id| teams.contains(id)),
            workflow: chain.workflow.filter(|id| workflows.contains(id)),
            step: chain.step.filter(|id| steps.contains(id)),
        }
    }
}
