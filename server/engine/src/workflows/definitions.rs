//! Workflows as they can be run: versions read again from their texts, and kept for a while, since many runs share one.

use super::rows::{Version, head_key, read, version_key};
use super::{deleted, head_of, not_found};
use crate::shared::Shared;
use coretex_domain::{Namespace, Reason, Refusal, Span};
use coretex_workflow::{Problems, Workflow};
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// Versions kept.
const KEPT_MAX: usize = 256;
/// Bytes of their texts; in memory a definition takes several times as much.
const KEPT_BYTES_MAX: usize = 8 << 20;
/// A longer text is not read on the threads that serve calls.
const AT_HAND_BYTES_MAX: usize = 16 << 10;
/// Long texts read at the same time.
const READERS_MAX: usize = 4;
/// Calls that wait for one of them.
const WAITING_MAX: usize = 64;

/// A version of a workflow, ready to be run.
#[derive(Clone, Debug)]
pub struct Versioned {
    pub name: Arc<str>,
    pub version: u64,
    pub workflow: Arc<Workflow>,
    /// As it was applied.
    pub text: Arc<str>,
}

type Key = (Namespace, Arc<str>, u64);

/// The versions that were used last.
pub(crate) struct Definitions {
    kept: Mutex<Kept>,
    /// Room for calls that read a long text or wait to.
    room: Semaphore,
    readers: Semaphore,
}

#[derive(Default)]
struct Kept {
    by_key: FxHashMap<Key, (Arc<Versioned>, u64)>,
    bytes: usize,
    /// Counts uses, so that the one longest unused is known.
    uses: u64,
}

// === impl Kept ===

impl Kept {
    fn get(&mut self, key: &Key) -> Option<Arc<Versioned>> {
        self.uses += 1;
        let (one, used) = self.by_key.get_mut(key)?;
        *used = self.uses;
        Some(one.clone())
    }

    /// Keeps one, and lets go of those longest unused until there is room for it.
    fn put(&mut self, key: Key, one: Arc<Versioned>) {
        self.uses += 1;
        self.bytes += one.text.len();
        if let Some((old, _)) = self.by_key.insert(key, (one, self.uses)) {
            self.bytes = self.bytes.saturating_sub(old.text.len());
        }
        while self.by_key.len() > KEPT_MAX || (self.bytes > KEPT_BYTES_MAX && self.by_key.len() > 1) {
            let oldest = self.by_key.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| key.clone());
            let Some((gone, _)) = oldest.and_then(|key| self.by_key.remove(&key)) else { return };
            self.bytes = self.bytes.saturating_sub(gone.text.len());
        }
    }
}

// === impl Definitions ===

impl Default for Definitions {
    fn default() -> Definitions {
        Definitions {
            kept: Mutex::default(),
            room: Semaphore::new(READERS_MAX + WAITING_MAX),
            readers: Semaphore::new(READERS_MAX),
        }
    }
}

impl Definitions {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads and checks a text; a long one on a thread of its own, when its turn comes.
    pub(crate) async fn read(&self, text: Arc<str>) -> Result<Result<Arc<Workflow>, Problems>, Refusal> {
        if text.len() <= AT_HAND_BYTES_MAX {
            return Ok(coretex_workflow::parse(&text).map(Arc::new));
        }
        let Ok(_room) = self.room.try_acquire() else {
            let message = "too many calls wait for a long workflow to be read";
            return Err(Refusal::new(Reason::Overloaded, message).retry_after(Span::secs(1)));
        };
        let stopped = || Refusal::new(Reason::ShuttingDown, "the server stops");
        let _turn = self.readers.acquire().await.map_err(|_| stopped())?;
        let reading = tokio::task::spawn_blocking(move || coretex_workflow::parse(&text).map(Arc::new));
        reading.await.map_err(|error| {
            Refusal::new(Reason::ServerFault, format!("the workflow could not be read: {error}"))
        })
    }
}

/// A version of a workflow as it can be run; 0 for the newest, which one that was deleted has not.
pub(crate) async fn definition(
    shared: &Shared,
    namespace: &Namespace,
    name: &str,
    version: u64,
) -> Result<Arc<Versioned>, Refusal> {
    let wanted = match version {
        0 => {
            let rows = shared.catalog.rows();
            let (head, _) = head_of(rows.get(&head_key(namespace, name)).map(|row| &**row), name)?;
            match head.deleted {
                Some(_) => return Err(deleted(name, head.newest.version)),
                None => head.newest.version,
            }
        }
        version => version,
    };
    let key: Key = (namespace.clone(), name.into(), wanted);
    if let Some(found) = shared.definitions.kept().get(&key) {
        return Ok(found);
    }
    let found = shared.read_resources(vec![version_key(namespace, name, wanted)]).await?;
    let Version { text, .. } = read(found.first().ok_or_else(|| not_found(name, wanted))?)?;
    let workflow = shared.definitions.read(text.clone()).await?.map_err(|problems| {
        let message = format!("workflow {name}, version {wanted} cannot be read any more: {problems}");
        Refusal::new(Reason::DataCorruption, message)
    })?;
    let one = Arc::new(Versioned { name: name.into(), version: wanted, workflow, text });
    shared.definitions.kept().put(key, one.clone());
    Ok(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(version: u64, bytes: usize) -> (Key, Arc<Versioned>) {
        let text = "name: a\nsteps: [{id: x, topic: t}]\n#";
        let text: Arc<str> = format!("{text}{}", "x".repeat(bytes)).into();
        let workflow = Arc::new(coretex_workflow::parse(&text).expect("sound"));
        let name: Arc<str> = "a".into();
        let kept = Versioned { name: name.clone(), version, workflow, text };
        ((Namespace::new("n"), name, version), Arc::new(kept))
    }

    #[test]
    fn those_longest_unused_go_first_and_both_bounds_hold() {
        let mut kept = Kept::default();
        for version in 0..400 {
            let (key, value) = one(version, 0);
            kept.put(key, value);
            assert!(kept.get(&one(0, 0).0).is_some(), "used all the time");
        }
        assert_eq!(kept.by_key.len(), KEPT_MAX);
        assert!(kept.get(&one(399, 0).0).is_some() && kept.get(&one(100, 0).0).is_none());
        for version in 1_000..1_020 {
            let (key, value) = one(version, 1_000_000);
            kept.put(key, value);
        }
        let bytes: usize = kept.by_key.values().map(|(one, _)| one.text.len()).sum();
        assert_eq!(kept.bytes, bytes);
        assert!(bytes <= KEPT_BYTES_MAX && kept.get(&one(1_019, 0).0).is_some(), "{bytes}");
    }
}
