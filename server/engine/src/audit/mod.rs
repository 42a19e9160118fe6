//! Audit: who did what, or was refused. Records are resources, chained, written in batches by one task.
//!
//! A record is durable before the call it is about is answered. What submits do is in the histories of their jobs.

mod chain;

pub use chain::{Broken, End, Record, Verifier};

use crate::catalog::{commit, named_row};
use crate::shared::Shared;
use crate::{Engine, reloaded};
use coretex_domain::resource::{Kind, Resource, ResourceKey};
use coretex_domain::{Namespace, Reason, Refusal, Span, Time};
use coretex_ports::{Row, Scan, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{mpsc, oneshot};

/// Records written together.
const BATCH_MAX: usize = 512;
/// Records that wait to be written; calls wait behind them.
pub(crate) const QUEUE_MAX: usize = 4_096;
/// Records read from the store at a time.
const PAGE: usize = 500;
const HEAD: &str = "head";

/// A record and who waits for it to be durable.
pub(crate) struct Entry {
    record: Record,
    answer: oneshot::Sender<Result<(), Refusal>>,
}

/// What a walk over all records found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub checked: u64,
    /// Sequence of the oldest record that is kept; 0 without any.
    pub first: u64,
    pub end: End,
    pub broken: Option<Broken>,
}

fn head_key() -> ResourceKey {
    ResourceKey::new(Kind::AuditHead, Namespace::installation(), HEAD)
}

fn record_key(sequence: u64) -> ResourceKey {
    ResourceKey::new(Kind::Audit, Namespace::installation(), format!("{sequence:020}"))
}

fn read<T: for<'de> serde::Deserialize<'de>>(one: &Resource) -> Result<T, Refusal> {
    serde_json::from_slice(&one.body)
        .map_err(|error| Refusal::new(Reason::DataCorruption, format!("{} {}: {error}", one.kind, one.name)))
}

/// Writes records for as long as the engine lives.
pub(crate) async fn run(shared: Arc<Shared>, mut inbox: mpsc::Receiver<Entry>) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while inbox.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let (mut records, mut answers) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for entry in batch.drain(..) {
            records.push(entry.record);
            answers.push(entry.answer);
        }
        let written = append(&shared, records).await;
        shared.catalog.is_audit_failing.store(written.is_err(), Ordering::Release);
        for answer in answers {
            // A caller that went away does not need to know.
            let _ = answer.send(written.clone());
        }
    }
}

/// Where the chain ends, as committed.
fn end_of(shared: &Shared) -> Result<End, Refusal> {
    shared.catalog.audit_head().map_or_else(|| Ok(End::default()), |one| read(&one))
}

async fn append(shared: &Arc<Shared>, records: Vec<Record>) -> Result<(), Refusal> {
    let mut end = end_of(shared)?;
    let present = shared.catalog.audit_head();
    let now = shared.env.clock.now().wall;
    let expire = now + shared.settings.audit_retention;
    let mut writes = Vec::with_capacity(records.len() + 1);
    for mut record in records {
        record.time_ms = now.0;
        record.link(&mut end);
        let row = named_row(record_key(record.sequence), &record, false, None, now)?;
        writes.push(Write::Resource(Arc::new(Resource { expire_time: Some(expire), ..row })));
    }
    let head = Arc::new(named_row(head_key(), &end, true, present.as_deref(), now)?);
    writes.push(Write::Resource(head.clone()));
    commit(shared, writes).await?;
    shared.catalog.set_audit_head(Some(head));
    Ok(())
}

/// Adds a record to the chain, without the values of secrets. Returns when it is durable.
pub(crate) async fn write(shared: &Shared, mut record: Record) -> Result<(), Refusal> {
    if coretex_secrets::is_on() {
        record.texts().into_iter().for_each(coretex_secrets::arc);
    }
    let (answer, done) = oneshot::channel();
    let stopped = || Refusal::new(Reason::ShuttingDown, "the server stops");
    shared.audit.send(Entry { record, answer }).await.map_err(|_| stopped())?;
    done.await.unwrap_or_else(|_| Err(reloaded()))
}

impl Engine {
    /// Adds a record to the chain; its time and place are given by the chain. Returns when it is durable.
    pub async fn audit(&self, record: Record) -> Result<(), Refusal> {
        write(&self.shared, record).await
    }

    /// Whether the last records were written. While they are not, what must leave one is better not done; the next
    /// record that is written makes it sound again.
    pub fn is_audit_sound(&self) -> bool {
        !self.shared.catalog.is_audit_failing.load(Ordering::Acquire)
    }

    /// Records in order of their sequence, strictly beyond `after`; true if more may follow.
    pub async fn audit_records(
        &self,
        descending: bool,
        after: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<Record>, bool), Refusal> {
        // Records are walked by time and name. Times do not fall along the chain, and the name tells the sequence.
        let after = match after {
            None => None,
            Some(sequence) => {
                let found = self.read_resources(vec![record_key(sequence)]).await?;
                let at = found.first().map(|one| one.create_time);
                let gone = || if descending { Time(0) } else { Time::NEVER };
                Some((at.unwrap_or_else(gone), record_key(sequence).name))
            }
        };
        let namespace = Namespace::installation();
        let (rows, more) = self.walk_resources(Kind::Audit, &namespace, descending, after, limit).await?;
        let records: Result<Vec<Record>, Refusal> = rows.iter().map(|one| read(one)).collect();
        Ok((records?, more))
    }

    /// Walks every record that is kept and checks the chain.
    pub async fn verify_audit(&self) -> Result<Verified, Refusal> {
        let end = end_of(&self.shared)?;
        let store = self.shared.store.clone();
        verify(&*store, end).await
    }
}

/// Checks the chain in a store that no engine has open, or up to an end known from before the walk.
pub async fn verify(store: &dyn coretex_ports::Store, end: End) -> Result<Verified, Refusal> {
    let mut verifier = Verifier::default();
    let mut after = None;
    let mut broken = None;
    'walk: loop {
        let scan = Scan::Resources {
            kind: Kind::Audit,
            namespace: Namespace::installation(),
            descending: false,
            after: after.clone(),
            limit: PAGE,
        };
        let page = store.scan(scan).await.map_err(crate::events::refusal_of)?;
        for row in page.rows {
            let Row::Resource(one) = row else { continue };
            after = Some((one.create_time, one.name.clone()));
            let record: Record = match read::<Record>(&one) {
                Ok(record) => record,
                Err(refusal) => {
                    broken = Some(Broken { sequence: one.name.parse().unwrap_or(0), what: refusal.message });
                    break 'walk;
                }
            };
            // Records written since the walk began.
            if record.sequence > end.sequence {
                break 'walk;
            }
            if let Err(found) = verifier.see(&record) {
                broken = Some(found);
                break 'walk;
            }
        }
        if !page.more {
            break;
        }
    }
    let broken = broken.or_else(|| verifier.finish(&end).err());
    Ok(Verified { checked: verifier.checked, first: verifier.first, end, broken })
}

/// Checks the chain of a store that was just claimed, and hands nothing out.
pub async fn verify_store(store: &dyn coretex_ports::Store) -> Result<Verified, Refusal> {
    let claim = store.claim("audit").await.map_err(crate::events::refusal_of)?;
    let head = claim.resources.iter().find(|one| one.key() == head_key());
    let end = head.map(|one| read(one)).transpose()?.unwrap_or_default();
    verify(store, end).await
}

/// How long records are kept unless the settings say otherwise.
pub const RETENTION_DEFAULT: Span = Span::days(365);
