//! Namespaces: what each may hold and use. Rows of the catalog; what is used is counted in memory, where there is a quota for it.

mod quotas;
mod tenant;

pub use tenant::Place;

use crate::Engine;
use crate::api::Once;
use crate::catalog::{check_revision, named_row};
use crate::shared::Shared;
use coretex_domain::job::StateKind;
use coretex_domain::resource::{Kind, Resource, ResourceKey};
use coretex_domain::topic::Retention;
use coretex_domain::{Job, JobId, Namespace, Reason, Refusal, Span, Time};
use coretex_kernel::Retentions;
use coretex_kernel::input::Input;
use coretex_ports::{Row, Scan, Write};
use rustc_hash::{FxHashMap, FxHashSet};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tenant::Tenant;

/// The namespace that is always there.
pub const DEFAULT: &str = "default";
/// Open jobs read from the store at a time.
const PAGE: usize = 500;

/// How a namespace is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceSettings {
    pub description: String,
    /// Topics must be declared before they are submitted to.
    pub topics_declared: bool,
    pub quotas: Quotas,
    /// How long ended jobs and dead letters are kept, in milliseconds, where neither the job nor its topic says so.
    pub retention_ms: Option<u64>,
    pub dead_letter_retention_ms: Option<u64>,
}

/// What a namespace may hold and use; `None` is no quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quotas {
    pub open_jobs_max: Option<u64>,
    pub submits_per_second: Option<u64>,
    pub payload_bytes_per_second: Option<u64>,
    pub worker_sessions_max: Option<u64>,
    pub watches_max: Option<u64>,
}

/// A namespace, and what it uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceInfo {
    pub name: Arc<str>,
    pub settings: NamespaceSettings,
    pub revision: u64,
    pub create_time: Option<Time>,
    pub update_time: Option<Time>,
    /// None where it is not counted.
    pub open_jobs: Option<u64>,
    pub worker_sessions: u64,
    pub watches: u64,
}

/// What is known of namespaces while the engine runs.
#[derive(Default)]
pub(crate) struct Namespaces {
    /// Whether some namespace was created. Without, nothing is looked up or counted.
    has_any: AtomicBool,
    retentions: RwLock<Arc<Retentions>>,
    /// One at a time tells the loops, so that none is left with an older state.
    telling: tokio::sync::Mutex<()>,
    by_name: RwLock<FxHashMap<Arc<str>, Arc<Tenant>>>,
}

fn key(name: &str) -> ResourceKey {
    ResourceKey::new(Kind::Namespace, Namespace::installation(), name)
}

fn read(row: &Resource) -> Result<NamespaceSettings, Refusal> {
    serde_json::from_slice(&row.body)
        .map_err(|error| Refusal::new(Reason::DataCorruption, format!("namespace {}: {error}", row.name)))
}

fn not_found(name: &str) -> Refusal {
    let message = format!("there is no namespace {name}");
    Refusal::new(Reason::NamespaceNotFound, message).fact("namespace", name)
}

/// Puts in force what the catalog says: quotas, and in every loop how long things are kept. Returns when they know.
async fn put_in_force(shared: &Arc<Shared>) {
    let _turn = shared.namespaces.telling.lock().await;
    let before = shared.namespaces.retentions();
    shared.namespaces.refresh(shared);
    let retentions = shared.namespaces.retentions();
    if Arc::ptr_eq(&before, &retentions) {
        return;
    }
    for who in 0..shared.mailboxes.len() {
        // A loop that is loaded meanwhile begins with them.
        if let Err(refusal) = crate::tell(shared, who, Input::SetRetentions(retentions.clone())).await {
            tracing::debug!(%refusal, who, "a loop was not told how long namespaces keep things");
        }
    }
}

impl NamespaceSettings {
    fn retention(&self) -> Option<Retention> {
        let retention = Retention {
            jobs: self.retention_ms.map(Span),
            dead_letters: self.dead_letter_retention_ms.map(Span),
        };
        (retention != Retention::default()).then_some(retention)
    }
}

// === impl Namespaces ===

impl Namespaces {
    fn tenant(&self, name: &str) -> Option<Arc<Tenant>> {
        if !self.has_any.load(Ordering::Relaxed) {
            return None;
        }
        self.by_name.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Takes in the rows of the catalog. Counts of those that stay stay.
    pub(crate) fn refresh(&self, shared: &Shared) {
        let mut all = self.by_name.write().unwrap_or_else(PoisonError::into_inner);
        let rows = shared.catalog.all(Kind::Namespace, &Namespace::installation());
        all.retain(|name, _| rows.iter().any(|row| row.name == *name));
        let mut retentions = Retentions::default();
        for row in rows {
            match read(&row) {
                Ok(settings) => {
                    if let Some(retention) = settings.retention() {
                        retentions.insert(Namespace::new(row.name.clone()), retention);
                    }
                    all.entry(row.name.clone()).or_default().set(settings);
                }
                Err(refusal) => tracing::error!(%refusal, "a namespace cannot be read; it has no quotas"),
            }
        }
        self.has_any.store(!all.is_empty(), Ordering::Release);
        let mut present = self.retentions.write().unwrap_or_else(PoisonError::into_inner);
        if **present != retentions {
            *present = Arc::new(retentions);
        }
    }

    /// How long namespaces keep things, for those that say so.
    pub(crate) fn retentions(&self) -> Arc<Retentions> {
        self.retentions.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts counting again from what a claim found open.
    pub(crate) fn fill(&self, shared: &Shared, open: &[Arc<Job>]) {
        self.refresh(shared);
        let all = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        for (name, tenant) in all.iter() {
            tenant.fill(open.iter().filter(|job| job.namespace.as_str() == &**name).count() as u64);
        }
    }

    /// Counts what a group did, before anybody is told that it is durable.
    pub(crate) fn committed(&self, writes: &[Write]) {
        if !self.has_any.load(Ordering::Relaxed) {
            return;
        }
        let all = self.by_name.read().unwrap_or_else(PoisonError::into_inner);
        for write in writes {
            let Write::Job { job, fresh } = write else { continue };
            if *fresh > 0
                && let Some(tenant) = all.get(job.namespace.as_str())
            {
                tenant.changed(job, *fresh as usize);
            }
        }
    }
}

// === places ===

/// Takes a place for jobs that are about to be made, with what they cost.
pub(crate) async fn place_of_jobs(
    shared: &Shared,
    namespace: &Namespace,
    count: u64,
    bytes: impl FnOnce() -> u64,
) -> Result<Option<Place>, Refusal> {
    match shared.namespaces.tenant(namespace.as_str()) {
        None => Ok(None),
        Some(tenant) => tenant.place_of_jobs(&shared.env, count, bytes()).await.map(Some),
    }
}

/// Topics that may be submitted to; none: all.
pub(crate) fn declared_topics(shared: &Shared, namespace: &Namespace) -> Option<FxHashSet<Arc<str>>> {
    let tenant = shared.namespaces.tenant(namespace.as_str())?;
    let rows = || shared.topic_rows(namespace).into_iter().map(|topic| topic.name.clone()).collect();
    tenant.topics_declared().then(rows)
}

/// The refusal of a topic that is not declared.
pub(crate) fn undeclared(topic: &str) -> Refusal {
    let message = format!("topic {topic} is not declared, and this namespace wants topics declared");
    Refusal::new(Reason::TopicNotFound, message).fact("topic", topic)
}

/// Takes a place for a session that is about to begin. A session of the same worker makes room for it.
pub(crate) fn place_of_session(
    shared: &Shared,
    namespace: &Namespace,
    worker_id: &str,
) -> Result<Option<Place>, Refusal> {
    let Some(tenant) = shared.namespaces.tenant(namespace.as_str()) else { return Ok(None) };
    let others = || {
        let all = shared.sessions.all();
        let is_other = |stay: &&Arc<crate::sessions::Stay>| {
            stay.namespace() == *namespace && *stay.session().worker_id != *worker_id
        };
        all.iter().filter(is_other).count() as u64
    };
    tenant.place_of_session(others).map(Some)
}

impl Engine {
    /// Whether a namespace was created.
    pub fn has_namespace(&self, name: &str) -> bool {
        name == DEFAULT || self.shared.namespaces.tenant(name).is_some()
    }

    /// Refuses a topic that must be declared first.
    pub fn check_topic_declared(&self, namespace: &Namespace, topic: &str) -> Result<(), Refusal> {
        match declared_topics(&self.shared, namespace) {
            Some(declared) if !declared.contains(topic) => Err(undeclared(topic)),
            Some(_) | None => Ok(()),
        }
    }

    /// A place among the watches of a namespace, for as long as it is held.
    pub fn place_of_watch(&self, namespace: &Namespace) -> Result<Option<Place>, Refusal> {
        match self.shared.namespaces.tenant(namespace.as_str()) {
            None => Ok(None),
            Some(tenant) => tenant.place_of_watch().map(Some),
        }
    }

    pub fn namespace(&self, name: &str) -> Result<NamespaceInfo, Refusal> {
        match self.resource(&key(name)) {
            Some(row) => self.info_of_namespace(&row),
            None if name == DEFAULT => Ok(self.with_use(NamespaceInfo {
                name: DEFAULT.into(),
                settings: NamespaceSettings::default(),
                revision: 0,
                create_time: None,
                update_time: None,
                open_jobs: None,
                worker_sessions: 0,
                watches: 0,
            })),
            None => Err(not_found(name)),
        }
    }

    /// Those that were created, and `default`.
    pub fn namespaces(&self) -> Result<Vec<NamespaceInfo>, Refusal> {
        let rows = self.resources(Kind::Namespace, &Namespace::installation());
        let mut all: Vec<NamespaceInfo> =
            rows.iter().map(|row| self.info_of_namespace(row)).collect::<Result<_, _>>()?;
        if !all.iter().any(|one| &*one.name == DEFAULT) {
            all.push(self.namespace(DEFAULT)?);
        }
        Ok(all)
    }

    fn info_of_namespace(&self, row: &Resource) -> Result<NamespaceInfo, Refusal> {
        Ok(self.with_use(NamespaceInfo {
            name: row.name.clone(),
            settings: read(row)?,
            revision: row.revision,
            create_time: Some(row.create_time),
            update_time: Some(row.update_time),
            open_jobs: None,
            worker_sessions: 0,
            watches: 0,
        }))
    }

    fn with_use(&self, info: NamespaceInfo) -> NamespaceInfo {
        let sessions = self.shared.sessions.all();
        let worker_sessions = sessions.iter().filter(|stay| stay.namespace().as_str() == &*info.name).count();
        let (open_jobs, watches) =
            self.shared.namespaces.tenant(&info.name).map_or((None, 0), |tenant| tenant.in_use());
        NamespaceInfo { open_jobs, worker_sessions: worker_sessions as u64, watches, ..info }
    }

    /// Creates a namespace, or replaces its settings. Its quotas are in force at the answer.
    pub async fn set_namespace(
        &self,
        name: &str,
        settings: NamespaceSettings,
        is_new: bool,
        revision: u64,
        once: Option<Once>,
    ) -> Result<NamespaceInfo, Refusal> {
        let key = key(name);
        let decide = move |draft: &mut crate::catalog::Draft<'_>| {
            let present = draft.get(&key);
            match &present {
                Some(_) if is_new => {
                    let message = format!("there is a namespace {}", key.name);
                    return Err(Refusal::new(Reason::NamespaceExists, message).fact("namespace", &*key.name));
                }
                None if !is_new && &*key.name != DEFAULT => return Err(not_found(&key.name)),
                Some(_) | None => {}
            }
            check_revision("the namespace", revision, present.as_ref().map_or(0, |row| row.revision))?;
            let now = draft.now;
            draft.put(named_row(key, &settings, true, present.as_deref(), now)?);
            Ok(())
        };
        self.change_catalog(once, decide).await?;
        // In a task of its own: what was begun to be counted is counted to the end, whoever waits.
        let engine = self.clone();
        let counting = tokio::spawn(async move { engine.count_open().await });
        counting.await.unwrap_or_else(|_| Err(crate::reloaded()))?;
        self.namespace(name)
    }

    /// Whether it was there.
    pub async fn delete_namespace(
        &self,
        name: &str,
        revision: u64,
        once: Option<Once>,
    ) -> Result<bool, Refusal> {
        let key = key(name);
        let Some(present) = self.resource(&key) else { return Ok(false) };
        if &*key.name != DEFAULT {
            let open = self.open_ids(&Namespace::new(key.name.clone()), 1).await?;
            if !open.is_empty() {
                let message = format!("jobs are open in namespace {name}");
                return Err(Refusal::new(Reason::NamespaceNotEmpty, message).fact("namespace", name));
            }
        }
        check_revision("the namespace", revision, present.revision)?;
        let decide = move |draft: &mut crate::catalog::Draft<'_>| {
            let Some(present) = draft.get(&key) else { return Ok(()) };
            check_revision("the namespace", revision, present.revision)?;
            // They would go on making jobs.
            let schedules = draft.all(Kind::Schedule, &Namespace::new(key.name.clone()));
            if &*key.name != DEFAULT && !schedules.is_empty() {
                let message = format!("there are schedules in namespace {}", key.name);
                return Err(Refusal::new(Reason::NamespaceNotEmpty, message).fact("namespace", &*key.name));
            }
            draft.end(key);
            Ok(())
        };
        self.change_catalog(once, decide).await?;
        put_in_force(&self.shared).await;
        Ok(true)
    }

    /// Puts quotas in force, and counts what they need to know.
    async fn count_open(&self) -> Result<(), Refusal> {
        put_in_force(&self.shared).await;
        let all: Vec<(Arc<str>, Arc<Tenant>)> = {
            let all = self.shared.namespaces.by_name.read().unwrap_or_else(PoisonError::into_inner);
            all.iter().map(|(name, tenant)| (name.clone(), tenant.clone())).collect()
        };
        for (name, tenant) in all {
            if tenant.begin_count() {
                let found = self.open_ids(&Namespace::new(name), usize::MAX).await;
                tenant.end_count(found?);
            }
        }
        Ok(())
    }

    /// Jobs that have not ended, up to about a number.
    async fn open_ids(&self, namespace: &Namespace, most: usize) -> Result<FxHashSet<JobId>, Refusal> {
        let mut found = FxHashSet::default();
        for state in StateKind::ALL.into_iter().filter(|state| !state.is_terminal()) {
            let mut after = None;
            let mut more = true;
            while more && found.len() < most {
                let scan = Scan::Jobs {
                    namespace: namespace.clone(),
                    set: coretex_ports::JobSet::All,
                    topic: None,
                    state: Some(state),
                    descending: false,
                    after: after.clone(),
                    from: Time(0),
                    to: Time::NEVER,
                    limit: PAGE,
                };
                let page = self.shared.store.scan(scan).await.map_err(crate::events::refusal_of)?;
                more = page.more;
                for row in page.rows {
                    let Row::Job(job) = row else { continue };
                    after = Some((job.create_time, job.id.clone()));
                    // The state is a hint to the store.
                    if !job.state.kind().is_terminal() {
                        found.insert(job.id.clone());
                    }
                }
            }
        }
        Ok(found)
    }
}
