//! Audit records: durable when the call returns, in one chain over restarts, and a changed one is told.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use coretex_domain::resource::{Kind, Resource};
use coretex_domain::{Namespace, Reason, Span};
use coretex_engine::Engine;
use coretex_engine::api::Settings;
use coretex_engine::audit::{Record, verify_store};
use coretex_engine::clock::{SystemClock, SystemDice};
use coretex_ports::memory::{Fault, Faults, MemoryStore, Settings as MemorySettings};
use coretex_ports::{Env, Group, Outcome, Row, Scan, Store, Write};
use coretex_store_embedded::{FileStore, Settings as FileSettings};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

async fn engine(store: Arc<dyn Store>) -> Engine {
    let env = Env { clock: Arc::new(SystemClock::new()), dice: Arc::new(SystemDice::new()) };
    let settings = Settings { loops: 2, drain_grace: Span(200), ..Settings::default() };
    Engine::start(store, env, settings).await.unwrap()
}

fn record(subject: &str) -> Record {
    Record {
        actor: "ops".into(),
        method: "JobService/CancelJob".into(),
        subject: subject.into(),
        outcome: "OK".into(),
        ..Record::default()
    }
}

#[tokio::test]
async fn records_are_chained_in_order_and_paged_both_ways() {
    let engine = engine(Arc::new(MemoryStore::default())).await;
    let all = (0..300).map(|n| engine.audit(record(&format!("job-{n}"))));
    for written in futures::future::join_all(all).await {
        written.unwrap();
    }
    let found = engine.verify_audit().await.unwrap();
    assert_eq!((found.checked, found.first, found.end.sequence, found.broken), (300, 1, 300, None));
    for descending in [false, true] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let (page, more) = engine.audit_records(descending, after, 37).await.unwrap();
            seen.extend(page.iter().map(|record| record.sequence));
            after = seen.last().copied();
            if !more {
                break;
            }
        }
        let mut wanted: Vec<u64> = (1..=300).collect();
        if descending {
            wanted.reverse();
        }
        assert_eq!(seen, wanted);
    }
}

#[tokio::test]
async fn the_chain_goes_on_over_restarts() {
    let directory = tempfile::tempdir().unwrap();
    for round in 0..3_u64 {
        let store = Arc::new(FileStore::open(FileSettings::new(directory.path())).unwrap());
        let engine = engine(store).await;
        for n in 0..20 {
            engine.audit(record(&format!("{round}-{n}"))).await.unwrap();
        }
        let found = engine.verify_audit().await.unwrap();
        assert_eq!((found.checked, found.broken), ((round + 1) * 20, None));
        engine.stop().await;
    }
}

/// Loses the outcome of every third commit with an audit record; every other time it was written all the same.
#[derive(Default)]
struct Lossy(AtomicU64);

impl Faults for Lossy {
    fn on_commit(&self, group: &Group) -> Fault {
        let is_audit = |write: &Write| matches!(write, Write::Resource(one) if one.kind == Kind::Audit);
        if !group.writes.iter().any(is_audit) {
            return Fault::Pass;
        }
        match self.0.fetch_add(1, Ordering::AcqRel) % 6 {
            2 => Fault::UnknownCommitted,
            5 => Fault::UnknownLost,
            _ => Fault::Pass,
        }
    }
}

#[tokio::test]
async fn lost_outcomes_neither_fork_the_chain_nor_lose_what_was_answered() {
    let settings = MemorySettings { faults: Some(Arc::new(Lossy::default())), ..MemorySettings::default() };
    let engine = engine(Arc::new(MemoryStore::new(settings))).await;
    let mut answered = Vec::new();
    for n in 0..40 {
        match engine.audit(record(&format!("job-{n}"))).await {
            Ok(()) => answered.push(format!("job-{n}")),
            Err(refusal) => assert_eq!(refusal.reason, Reason::OutcomeUnknown),
        }
    }
    assert!(answered.len() < 40, "some outcomes were lost");
    let found = engine.verify_audit().await.unwrap();
    assert_eq!(found.broken, None);
    let (records, _) = engine.audit_records(false, None, 1_000).await.unwrap();
    let subjects: Vec<&str> = records.iter().map(|record| &*record.subject).collect();
    assert!(answered.iter().all(|subject| subjects.contains(&subject.as_str())));
}

#[tokio::test]
async fn a_changed_byte_in_the_store_is_told() {
    let store = MemoryStore::default();
    let first = engine(Arc::new(store.clone())).await;
    for n in 0..9 {
        first.audit(record(&format!("job-{n}"))).await.unwrap();
    }
    first.stop().await;
    let store = store.reopen();
    assert_eq!(verify_store(&store).await.unwrap().broken, None);
    let scan = Scan::Resources {
        kind: Kind::Audit,
        namespace: Namespace::installation(),
        descending: false,
        after: None,
        limit: 100,
    };
    let Row::Resource(fifth) = store.scan(scan).await.unwrap().rows.remove(4) else { panic!("a record") };
    let text = String::from_utf8(fifth.body.to_vec()).unwrap().replace("job-4", "job-5");
    let forged = Resource { body: text.into(), ..(*fifth).clone() };
    let epoch = store.claim("forger").await.unwrap().epoch;
    let group = Group { epoch, time: fifth.update_time, writes: vec![Write::Resource(Arc::new(forged))] };
    assert_eq!(store.commit(group).await, Outcome::Committed);
    let broken = verify_store(&store).await.unwrap().broken.unwrap();
    assert_eq!((broken.sequence, broken.what.as_str()), (5, "it is not what it was when it was written"));
}
