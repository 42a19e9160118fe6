//! The catalog: changes are seen once they are committed, survive, and are made once per call.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use coretex_domain::resource::{Kind, Resource, ResourceKey};
use coretex_domain::{Namespace, Reason, Refusal, ShardId, Span};
use coretex_engine::Engine;
use coretex_engine::api::{Once, Settings};
use coretex_engine::catalog::{Change, Draft, check_revision};
use coretex_engine::clock::{SystemClock, SystemDice};
use coretex_ports::memory::{Fault, Faults, MemoryStore, Settings as MemorySettings};
use coretex_ports::{Env, Group, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

async fn engine(store: &MemoryStore) -> Engine {
    let env = Env { clock: Arc::new(SystemClock::new()), dice: Arc::new(SystemDice::new()) };
    let settings = Settings { loops: 2, drain_grace: Span(200), ..Settings::default() };
    Engine::start(Arc::new(store.clone()), env, settings).await.unwrap()
}

fn key() -> ResourceKey {
    ResourceKey::new(Kind::Config, Namespace::new("default"), "x")
}

/// Makes or changes the one resource of these tests.
fn bump(draft: &mut Draft<'_>, asked: u64) -> Result<(), Refusal> {
    let present = draft.get(&key()).map_or(0, |one| one.revision);
    check_revision("x", asked, present)?;
    let ResourceKey { kind, namespace, name } = key();
    let (now, is_live) = (draft.now, true);
    draft.put(Resource {
        kind,
        namespace,
        name,
        shard: ShardId::CATALOG,
        revision: present + 1,
        is_live,
        create_time: now,
        update_time: now,
        expire_time: None,
        body: "{}".into(),
    });
    Ok(())
}

async fn change(engine: &Engine, once: Option<Once>, asked: u64) -> Result<Change, Refusal> {
    engine.change_catalog(once, move |draft| bump(draft, asked)).await
}

fn revision(engine: &Engine) -> u64 {
    engine.resource(&key()).map_or(0, |one| one.revision)
}

#[tokio::test]
async fn a_change_is_seen_and_survives() {
    let store = MemoryStore::default();
    let first = engine(&store).await;
    let mut changes = first.catalog_changes();
    changes.mark_unchanged();
    assert_eq!(change(&first, None, 0).await, Ok(Change::Made));
    assert!(changes.has_changed().unwrap());
    assert_eq!(change(&first, None, 1).await, Ok(Change::Made));
    assert_eq!(revision(&first), 2);
    assert_eq!(first.resources(Kind::Config, &Namespace::new("default")).len(), 1);
    assert!(first.resources(Kind::Config, &Namespace::new("other")).is_empty());
    first.stop().await;
    let second = engine(&store.reopen()).await;
    assert_eq!(revision(&second), 2);
    second
        .change_catalog(None, |draft| {
            draft.end(key());
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!((revision(&second), second.read_resources(vec![key()]).await.unwrap().len()), (0, 0));
}

#[tokio::test]
async fn an_older_revision_is_refused() {
    let engine = engine(&MemoryStore::default()).await;
    change(&engine, None, 0).await.unwrap();
    let refused = change(&engine, None, 7).await.unwrap_err();
    assert_eq!(refused.reason, Reason::RevisionMismatch);
    assert_eq!(revision(&engine), 1);
}

#[tokio::test]
async fn sixty_four_changes_at_once_are_made_one_after_another() {
    let engine = engine(&MemoryStore::default()).await;
    let all = (0..64).map(|_| change(&engine, None, 0));
    for made in futures::future::join_all(all).await {
        made.unwrap();
    }
    assert_eq!(revision(&engine), 64);
}

#[tokio::test]
async fn a_repeated_call_changes_nothing() {
    let engine = engine(&MemoryStore::default()).await;
    let once = Once { id: 7, body: 1 };
    assert_eq!(change(&engine, Some(once), 0).await, Ok(Change::Made));
    assert_eq!(change(&engine, Some(once), 0).await, Ok(Change::Repeat));
    let other = Once { body: 2, ..once };
    assert_eq!(change(&engine, Some(other), 0).await.unwrap_err().reason, Reason::IdempotencyConflict);
    assert_eq!(revision(&engine), 1);
}

/// Loses the outcome of the next commit that holds a resource.
#[derive(Default)]
struct Lost(AtomicBool, AtomicBool);

impl Faults for Lost {
    fn on_commit(&self, group: &Group) -> Fault {
        let is_ours = group.writes.iter().any(|write| matches!(write, Write::Resource(_)));
        if !is_ours || !self.0.swap(false, Ordering::AcqRel) {
            return Fault::Pass;
        }
        if self.1.load(Ordering::Acquire) { Fault::UnknownCommitted } else { Fault::UnknownLost }
    }
}

#[tokio::test]
async fn after_an_unknown_outcome_the_mirror_says_what_the_store_says() {
    for was_committed in [false, true] {
        let faults = Arc::new(Lost::default());
        let settings = MemorySettings { faults: Some(faults.clone()), ..MemorySettings::default() };
        let engine = engine(&MemoryStore::new(settings)).await;
        faults.1.store(was_committed, Ordering::Release);
        faults.0.store(true, Ordering::Release);
        assert_eq!(change(&engine, None, 0).await.unwrap_err().reason, Reason::OutcomeUnknown);
        for _ in 0..500 {
            if engine.is_ready() {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(revision(&engine), u64::from(was_committed));
        change(&engine, None, 0).await.unwrap();
    }
}
