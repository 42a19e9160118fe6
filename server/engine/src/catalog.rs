//! The catalog: live resources as committed, mirrored in memory, changed one group at a time.
//!
//! A change is decided on the mirror, committed by the loop that owns the catalog's shard, and only then seen here.
//! What is not live (versions, records, approvals that are over) is read from the store.

use crate::api::Once;
use crate::config::Configs;
use crate::mail::Mail;
use crate::shared::Shared;
use crate::{Engine, reloaded};
use coretex_domain::limits::REQUEST_ID_RETENTION;
use coretex_domain::resource::{Kind, Resource, ResourceKey};
use coretex_domain::{Namespace, Reason, Refusal, ShardId, Span, Time};
use coretex_ports::{Row, Scan, Write};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{Mutex, oneshot, watch};

pub type Rows = BTreeMap<ResourceKey, Arc<Resource>>;

/// The mirror, and the one place at its end of the queue.
pub(crate) struct Catalog {
    rows: RwLock<Arc<Rows>>,
    /// Apart from the rest: it changes with every record, and nobody derives anything from it.
    audit_head: RwLock<Option<Arc<Resource>>>,
    /// Whether the last records could not be written.
    pub(crate) is_audit_failing: AtomicBool,
    turn: Mutex<()>,
    /// Counts changes, so that whoever derives something from the catalog knows when to look.
    changed: watch::Sender<u64>,
    pub(crate) configs: Configs,
}

/// A change of the catalog in the making.
pub struct Draft<'a> {
    pub now: Time,
    rows: &'a Rows,
    writes: Vec<Write>,
}

/// How a change went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Made,
    /// The same call came before: nothing was changed now.
    Repeat,
}

// === impl Catalog ===

impl Default for Catalog {
    fn default() -> Catalog {
        Catalog {
            rows: RwLock::default(),
            audit_head: RwLock::default(),
            is_audit_failing: AtomicBool::new(false),
            turn: Mutex::default(),
            changed: watch::Sender::new(0),
            configs: Configs::default(),
        }
    }
}

impl Catalog {
    pub(crate) fn rows(&self) -> Arc<Rows> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts again from what a claim found.
    pub(crate) fn fill(&self, resources: &[Arc<Resource>]) {
        let is_head = |one: &&Arc<Resource>| one.kind == Kind::AuditHead;
        self.set_audit_head(resources.iter().find(is_head).cloned());
        let is_ours = |one: &&Arc<Resource>| !is_head(one) && !matches!(one.kind, Kind::Approval | Kind::Run);
        let rows: Rows = resources.iter().filter(is_ours).map(|one| (one.key(), one.clone())).collect();
        self.configs.fill(&rows);
        *self.rows.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rows);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Live resources of a kind and namespace, by name.
    pub(crate) fn all(&self, kind: Kind, namespace: &Namespace) -> Vec<Arc<Resource>> {
        all(&self.rows(), kind, namespace)
    }

    pub(crate) fn audit_head(&self) -> Option<Arc<Resource>> {
        self.audit_head.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_audit_head(&self, head: Option<Arc<Resource>>) {
        *self.audit_head.write().unwrap_or_else(PoisonError::into_inner) = head;
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes in what was committed.
    pub(crate) fn take(&self, writes: &[Write]) {
        let mut guard = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        let rows = Arc::make_mut(&mut guard);
        let mut is_changed = false;
        for write in writes {
            is_changed |= match write {
                Write::Resource(one) if one.is_live => {
                    rows.insert(one.key(), one.clone()).is_none_or(|old| old != *one)
                }
                Write::Resource(one) => rows.remove(&one.key()).is_some(),
                Write::ResourceEnd(key) => rows.remove(key).is_some(),
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
        }
        drop(guard);
        self.configs.take(writes);
        if is_changed {
            self.changed.send_modify(|count| *count += 1);
        }
    }
}

// === impl Draft ===

impl Draft<'_> {
    /// A live resource as it stands, with what this draft has changed.
    pub fn get(&self, key: &ResourceKey) -> Option<Arc<Resource>> {
        for write in self.writes.iter().rev() {
            match write {
                Write::Resource(one) if one.key() == *key => return Some(one.clone()),
                Write::ResourceEnd(gone) if gone == key => return None,
                _ => {}
            }
        }
        self.rows.get(key).cloned()
    }

    /// Live resources of a kind and namespace by name, as they stood before this draft.
    pub fn all(&self, kind: Kind, namespace: &Namespace) -> Vec<Arc<Resource>> {
        all(self.rows, kind, namespace)
    }

    /// Live resources of a kind in every namespace, as they stood before this draft.
    pub fn every(&self, kind: Kind) -> impl Iterator<Item = &Arc<Resource>> {
        let first = ResourceKey::new(kind, Namespace::new(""), "");
        self.rows.range(first..).take_while(move |(key, _)| key.kind == kind).map(|(_, one)| one)
    }

    pub fn put(&mut self, one: Resource) {
        self.writes.push(Write::Resource(Arc::new(one)));
    }

    pub fn end(&mut self, key: ResourceKey) {
        self.writes.push(Write::ResourceEnd(key));
    }
}

fn all(rows: &Rows, kind: Kind, namespace: &Namespace) -> Vec<Arc<Resource>> {
    let first = ResourceKey::new(kind, namespace.clone(), "");
    let ours = rows.range(first..).take_while(|(key, _)| key.kind == kind && key.namespace == *namespace);
    ours.map(|(_, one)| one.clone()).collect()
}

/// A row of the catalog. `present` is the row it takes the place of.
pub(crate) fn named_row<T: serde::Serialize>(
    key: ResourceKey,
    body: &T,
    is_live: bool,
    present: Option<&Resource>,
    now: Time,
) -> Result<Resource, Refusal> {
    let body = serde_json::to_vec(body)
        .map_err(|error| Refusal::new(Reason::ServerFault, format!("{} {}: {error}", key.kind, key.name)))?;
    Ok(Resource {
        kind: key.kind,
        namespace: key.namespace,
        name: key.name,
        shard: ShardId::CATALOG,
        revision: present.map_or(0, |one| one.revision) + 1,
        is_live,
        create_time: present.map_or(now, |one| one.create_time),
        update_time: now,
        expire_time: None,
        body: body.into(),
    })
}

/// The refusal of a change that rests on an older state than the present one. Zero asks for no check.
pub fn check_revision(what: &str, asked: u64, present: u64) -> Result<(), Refusal> {
    if asked == 0 || asked == present {
        return Ok(());
    }
    let message = format!("revision: {what} is at revision {present}, not {asked}");
    Err(Refusal::new(Reason::RevisionMismatch, message).fact("revision", present.to_string()))
}

impl Engine {
    /// A live resource.
    pub fn resource(&self, key: &ResourceKey) -> Option<Arc<Resource>> {
        self.shared.catalog.rows().get(key).cloned()
    }

    /// Live resources of a kind and namespace, by name.
    pub fn resources(&self, kind: Kind, namespace: &Namespace) -> Vec<Arc<Resource>> {
        self.shared.catalog.all(kind, namespace)
    }

    /// Rises with every change of what is live.
    pub fn catalog_changes(&self) -> watch::Receiver<u64> {
        self.shared.catalog.changes()
    }

    /// Resources by key, live or not, as far as they exist.
    pub async fn read_resources(&self, keys: Vec<ResourceKey>) -> Result<Vec<Arc<Resource>>, Refusal> {
        self.shared.read_resources(keys).await
    }

    /// One step through resources by (create time, name), live or not; true if more may follow.
    pub async fn walk_resources(
        &self,
        kind: Kind,
        namespace: &Namespace,
        descending: bool,
        after: Option<(Time, Arc<str>)>,
        limit: usize,
    ) -> Result<(Vec<Arc<Resource>>, bool), Refusal> {
        let scan = Scan::Resources { kind, namespace: namespace.clone(), descending, after, limit };
        let page = self.shared.store.scan(scan).await.map_err(crate::events::refusal_of)?;
        Ok((page.rows.into_iter().filter_map(resource_in).collect(), page.more))
    }

    /// Decides a change on the present state and commits it, all of it or nothing. `once` makes a repeat of the
    /// call harmless for 24 hours.
    pub async fn change_catalog(
        &self,
        once: Option<Once>,
        decide: impl FnOnce(&mut Draft<'_>) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<Change, Refusal> {
        // In a task of its own: a caller that goes away half-way must not leave the mirror behind the store.
        let shared = self.shared.clone();
        let changing = tokio::spawn(async move { change(&shared, once, decide).await });
        changing.await.unwrap_or_else(|_| Err(reloaded()))
    }
}

fn resource_in(row: Row) -> Option<Arc<Resource>> {
    match row {
        Row::Resource(one) => Some(one),
        Row::Job(_) | Row::Event(_) | Row::Output { .. } => None,
    }
}

impl Shared {
    pub(crate) async fn read_resources(&self, keys: Vec<ResourceKey>) -> Result<Vec<Arc<Resource>>, Refusal> {
        let page = self.store.scan(Scan::Named(keys)).await.map_err(crate::events::refusal_of)?;
        Ok(page.rows.into_iter().filter_map(resource_in).collect())
    }
}

/// As [`Engine::change_catalog`], for tasks that nobody drops half-way.
pub(crate) async fn change(
    shared: &Arc<Shared>,
    once: Option<Once>,
    decide: impl FnOnce(&mut Draft<'_>) -> Result<(), Refusal>,
) -> Result<Change, Refusal> {
    let _turn = shared.catalog.turn.lock().await;
    if let Some(once) = once
        && is_repeat(shared, once).await?
    {
        return Ok(Change::Repeat);
    }
    let rows = shared.catalog.rows();
    let now = shared.env.clock.now().wall;
    let mut draft = Draft { now, rows: &rows, writes: Vec::new() };
    decide(&mut draft)?;
    let mut writes = draft.writes;
    if writes.is_empty() {
        return Ok(Change::Made);
    }
    writes.extend(once.map(|once| Write::Resource(Arc::new(call(once, now)))));
    commit(shared, writes.clone()).await?;
    shared.catalog.take(&writes);
    Ok(Change::Made)
}

/// Writes rows on the catalog's loop. After a failure it returns when the mirror has been filled anew: whoever decides
/// next must not do so on a state that may be older than the store's.
pub(crate) async fn commit(shared: &Arc<Shared>, writes: Vec<Write>) -> Result<(), Refusal> {
    let epoch = shared.epoch.load(Ordering::Acquire);
    let (answer, done) = oneshot::channel();
    let home = shared.loop_of(ShardId::CATALOG);
    shared.post_waiting(home, Mail::Rows(writes, answer)).await?;
    let committed = done.await.unwrap_or_else(|_| Err(reloaded()));
    if committed.is_err() {
        while shared.epoch.load(Ordering::Acquire) == epoch && !shared.mailboxes[home].is_closed() {
            let soon = shared.env.clock.now().mono + Span(20);
            shared.env.clock.sleep_until(soon).await;
        }
    }
    committed
}

/// A call that changed the catalog, remembered so that its repeat is known.
fn call(once: Once, now: Time) -> Resource {
    Resource {
        kind: Kind::Call,
        namespace: Namespace::installation(),
        name: call_name(once),
        shard: ShardId::CATALOG,
        revision: 1,
        is_live: false,
        create_time: now,
        update_time: now,
        expire_time: Some(now + REQUEST_ID_RETENTION),
        body: once.body.to_be_bytes().to_vec().into(),
    }
}

fn call_name(once: Once) -> Arc<str> {
    format!("{:032x}", once.id).into()
}

async fn is_repeat(shared: &Shared, once: Once) -> Result<bool, Refusal> {
    let key = ResourceKey::new(Kind::Call, Namespace::installation(), call_name(once));
    let found = shared.read_resources(vec![key]).await?;
    let now = shared.env.clock.now().wall;
    match found.first().filter(|call| call.expire_time > Some(now)) {
        None => Ok(false),
        Some(call) if *call.body == once.body.to_be_bytes() => Ok(true),
        Some(_) => {
            let message = "request_id: it came before with another request";
            Err(Refusal::new(Reason::IdempotencyConflict, message))
        }
    }
}
