//! API keys of the store: an index by public prefix over the rows of the catalog, as new as the last change.
//!
//! In: rows of the engine. Out: whom a key stands for. When a key is used is kept in mind here, and written down once a minute.

use super::keys::{KEY_LEN_MAX, KeyHash, hash, pepper_id, prefix_of};
use super::principal::{Principal, PrincipalKind};
use super::{Authority, KeyFault};
use coretex_domain::resource::Resource;
use coretex_domain::{Reason, Refusal, Time};
use coretex_engine::Engine;
use coretex_engine::keys::ApiKey;
use ring::hmac;
use rustc_hash::FxHashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

/// How often it is written down when keys were last used.
const NOTE_EVERY: Duration = Duration::from_secs(60);
/// Uses are told apart to the second.
const USED_EVERY: u64 = 1_000;

type Index = FxHashMap<Arc<str>, Arc<Entry>>;

/// Keys the server keeps.
pub(crate) struct StoredKeys {
    engine: Engine,
    pepper: hmac::Key,
    pepper_id: String,
    index: RwLock<Arc<Index>>,
    /// One at a time makes the index anew, so that an older one never takes the place of a newer.
    turn: Mutex<()>,
    changed: watch::Sender<u64>,
}

struct Entry {
    /// What it was made of.
    row: Arc<Resource>,
    key: ApiKey,
    now: Secret,
    former: Option<Secret>,
    /// In milliseconds since 1970; 0: not since the server started.
    used: AtomicU64,
}

/// One secret of a key, and whom it stands for.
struct Secret {
    hash: [u8; 32],
    principal: Arc<Principal>,
}

// === impl Entry ===

impl Entry {
    fn of(row: &Arc<Resource>, before: Option<&Arc<Entry>>) -> Result<Entry, Refusal> {
        let key = ApiKey::read(row)?;
        let secret = |written: &str, serial: u64, end: Option<Time>| {
            let parsed = KeyHash::parse(written).ok_or_else(|| {
                Refusal::new(Reason::DataCorruption, format!("the hash of API key {} is none", key.id))
            })?;
            let principal = Principal {
                name: key.identity().into(),
                kind: PrincipalKind::Key,
                namespaces: key.facts.namespaces.clone().into(),
                roles: key.roles,
                // Which of its secrets, so that streams that began with an older one are known.
                credential: format!("{}.{serial}", key.id).into(),
                expires: end,
            };
            Ok::<_, Refusal>(Secret { hash: parsed.bytes(), principal: Arc::new(principal) })
        };
        let (serial, end) = (key.facts.serial, key.expires());
        let former = key.facts.former.as_ref().map(|former| {
            let until = end.map_or(former.until(), |end| end.min(former.until()));
            secret(&former.hash, serial.saturating_sub(1), Some(until))
        });
        let (now, former) = (secret(&key.facts.hash, serial, end)?, former.transpose()?);
        let used = before.map_or(0, |entry| entry.used.load(Ordering::Relaxed));
        Ok(Entry { row: row.clone(), key, now, former, used: AtomicU64::new(used) })
    }

    fn note_use(&self, now: Time) {
        // Most calls only read it.
        if now.0 >= self.used.load(Ordering::Relaxed).saturating_add(USED_EVERY) {
            self.used.store(now.0, Ordering::Relaxed);
        }
    }

    fn used(&self) -> Option<Time> {
        let seen = Some(Time(self.used.load(Ordering::Relaxed))).filter(|at| at.0 > 0);
        seen.max(self.key.used())
    }
}

// === impl StoredKeys ===

impl StoredKeys {
    pub(crate) fn new(engine: Engine, pepper: &[u8]) -> StoredKeys {
        let keys = StoredKeys {
            engine,
            pepper: hmac::Key::new(hmac::HMAC_SHA256, pepper),
            pepper_id: pepper_id(pepper),
            index: RwLock::default(),
            turn: Mutex::default(),
            changed: watch::Sender::new(0),
        };
        keys.refresh();
        keys
    }

    /// The hash of a key of our form, as it is kept, and the name of what it is made with.
    pub(crate) fn hash(&self, key: &str) -> Option<(String, String)> {
        let kept = KeyHash::made(prefix_of(key)?, hash(&self.pepper, key));
        Some((kept.to_string(), self.pepper_id.clone()))
    }

    /// When a key was last used, as far as it is known.
    pub(crate) fn used(&self, id: &str) -> Option<Time> {
        self.index().get(id).and_then(|entry| entry.used())
    }

    fn index(&self) -> Arc<Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes in what the catalog says. Returns when calls are judged by it.
    pub(crate) fn refresh(&self) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, rows) = (self.index(), self.engine.api_key_rows());
        let is_same = |row: &Arc<Resource>| before.get(&row.name).is_some_and(|e| Arc::ptr_eq(&e.row, row));
        if before.len() == rows.len() && rows.iter().all(is_same) {
            return;
        }
        let mut next = Index::default();
        for row in &rows {
            let present = before.get(&row.name);
            let entry = match present {
                Some(entry) if Arc::ptr_eq(&entry.row, row) => Ok(entry.clone()),
                _ => Entry::of(row, present).map(Arc::new),
            };
            match entry {
                Ok(entry) => drop(next.insert(row.name.clone(), entry)),
                Err(refusal) => tracing::error!(%refusal, "an API key cannot be read; it opens nothing"),
            }
        }
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        self.changed.send_modify(|count| *count += 1);
    }

    /// Follows the catalog, and writes down uses, for as long as it is polled.
    pub(crate) async fn follow(self: Arc<Self>) {
        let mut changes = self.engine.catalog_changes();
        let mut ticks = tokio::time::interval(NOTE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // The first one comes at once, and there is nothing to note yet.
        ticks.tick().await;
        loop {
            tokio::select! {
                changed = changes.changed() => match changed {
                    Ok(()) => self.refresh(),
                    Err(_) => return,
                },
                _ = ticks.tick() => self.note().await,
            }
        }
    }

    /// Writes down when keys were last used. What is lost with a crash is a minute of it.
    pub(crate) async fn note(&self) {
        let index = self.index();
        let is_new = |entry: &&Arc<Entry>| entry.used() > entry.key.used();
        let used = index.values().filter(is_new);
        let uses = used.filter_map(|entry| Some((entry.key.id.clone(), entry.used()?))).collect();
        if let Err(refusal) = self.engine.keep_api_keys(uses).await {
            tracing::warn!(%refusal, "when API keys were last used could not be written down");
        }
    }
}

impl Authority for StoredKeys {
    fn find(&self, key: &str, now: Time) -> Result<Arc<Principal>, KeyFault> {
        if key.len() > KEY_LEN_MAX {
            return Err(KeyFault::Unknown);
        }
        // The hash is made and two comparisons are done whether or not the prefix is known.
        let given = hash(&self.pepper, key);
        let index = self.index();
        let entry = prefix_of(key).and_then(|prefix| index.get(prefix));
        let former = entry.and_then(|entry| entry.former.as_ref());
        let is_now = bool::from(entry.map_or([0; 32], |entry| entry.now.hash).ct_eq(&given));
        let is_former = bool::from(former.map_or([0; 32], |secret| secret.hash).ct_eq(&given));
        let entry = entry.ok_or(KeyFault::Unknown)?;
        let secret = match (is_now, former.filter(|_| is_former)) {
            (true, _) => &entry.now,
            (false, Some(former)) => former,
            (false, None) => return Err(KeyFault::WrongSecret),
        };
        if entry.key.revoked().is_some() {
            return Err(KeyFault::Revoked);
        }
        if entry.key.ended(now).is_some() {
            return Err(KeyFault::Expired);
        }
        if secret.principal.is_expired(now) {
            return Err(KeyFault::Rotated);
        }
        entry.note_use(now);
        Ok(secret.principal.clone())
    }

    fn is_valid(&self, principal: &Principal, now: Time) -> bool {
        let index = self.index();
        let id = principal.credential.split_once('.').map(|(id, _)| id);
        let Some(entry) = id.and_then(|id| index.get(id)) else { return false };
        if entry.key.ended(now).is_some() {
            return false;
        }
        // When a secret ends may have been said after a stream began with it.
        let is_of = |secret: &Secret| {
            let one = &secret.principal;
            let is_same = (&one.credential, &one.name) == (&principal.credential, &principal.name)
                && (one.roles, &one.namespaces) == (principal.roles, &principal.namespaces);
            is_same && !one.is_expired(now)
        };
        is_of(&entry.now) || entry.former.as_ref().is_some_and(is_of)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
