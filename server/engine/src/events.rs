//! Committed events for watchers: live ones by broadcast, missed ones from the store.

use crate::namespaces::Namespaces;
use coretex_domain::{Job, Reason, Refusal};
use coretex_ports::memory::events::event_rows;
use coretex_ports::{EventRow, Row, Scan, Store, StoreError, Write};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use tokio::sync::broadcast;

/// Batches a watcher may lag behind before it is cut off.
const LAG_MAX: usize = 1_024;
/// Amended jobs a watcher may lag behind before it looks at all of them again.
const AMENDED_MAX: usize = 1_024;
/// Events read from the store at a time while catching up.
const CATCH_UP_BATCH: usize = 1_000;

pub(crate) struct Events {
    live: broadcast::Sender<Arc<Vec<EventRow>>>,
    /// Jobs that changed without an event: progress, checkpoints, usage.
    amended: broadcast::Sender<Arc<Job>>,
    newest: Mutex<Box<[u64; 256]>>,
    /// Count what is open, before anybody is answered.
    namespaces: Arc<Namespaces>,
}

impl Events {
    pub(crate) fn new(sequences: Box<[u64; 256]>, namespaces: Arc<Namespaces>) -> Events {
        Events {
            live: broadcast::channel(LAG_MAX).0,
            amended: broadcast::channel(AMENDED_MAX).0,
            newest: Mutex::new(sequences),
            namespaces,
        }
    }

    pub(crate) fn sequences(&self) -> Box<[u64; 256]> {
        self.newest.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Tells watchers what a committed group did. Costs next to nothing when nobody watches.
    pub(crate) fn publish(&self, writes: &[Write]) {
        self.namespaces.committed(writes);
        let is_watched = self.live.receiver_count() > 0;
        let tells_amended = self.amended.receiver_count() > 0;
        let mut rows = Vec::new();
        {
            let mut newest = self.newest.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for write in writes {
                let Write::Job { job, fresh } = write else { continue };
                if let Some(last) = job.history.last() {
                    let slot = &mut newest[usize::from(job.shard.0)];
                    *slot = (*slot).max(last.seq);
                }
                if is_watched {
                    event_rows(job, *fresh as usize, |row| rows.push(row));
                }
                if *fresh == 0 && tells_amended {
                    let _ = self.amended.send(job.clone());
                }
            }
        }
        if !rows.is_empty() {
            let _ = self.live.send(Arc::new(rows));
        }
    }
}

/// Jobs as progress, a checkpoint or usage left them. What nobody read in time is joined.
pub struct AmendedStream(broadcast::Receiver<Arc<Job>>);

/// What an [`AmendedStream`] tells.
pub enum Amended {
    Job(Arc<Job>),
    /// Some were missed: whoever must know looks at the jobs themselves.
    Missed,
}

impl AmendedStream {
    pub(crate) fn new(events: &Events) -> AmendedStream {
        AmendedStream(events.amended.subscribe())
    }

    /// The next one; `None` when the engine is gone.
    pub async fn next(&mut self) -> Option<Amended> {
        match self.0.recv().await {
            Ok(job) => Some(Amended::Job(job)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Amended::Missed),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Events in commit order, exactly once each, from a point on.
pub struct EventStream {
    live: broadcast::Receiver<Arc<Vec<EventRow>>>,
    store: Arc<dyn Store>,
    seen: Box<[u64; 256]>,
    is_catching_up: bool,
    ready: VecDeque<Arc<Vec<EventRow>>>,
    has_ended: bool,
}

impl EventStream {
    pub(crate) fn new(events: &Events, store: Arc<dyn Store>, after: Option<Box<[u64; 256]>>) -> EventStream {
        let live = events.live.subscribe();
        let is_catching_up = after.is_some();
        let seen = after.unwrap_or_else(|| events.sequences());
        EventStream { live, store, seen, is_catching_up, ready: VecDeque::new(), has_ended: false }
    }

    /// The newest sequence handed out, per shard: where to resume after everything seen so far.
    pub fn position(&self) -> &[u64; 256] {
        &self.seen
    }

    /// False while events of the past are read from the store.
    pub fn is_live(&self) -> bool {
        !self.is_catching_up
    }

    /// The next batch; an empty one says that the past has been read. A refusal is the last answer.
    pub async fn next(&mut self) -> Option<Result<Arc<Vec<EventRow>>, Refusal>> {
        if self.has_ended {
            return None;
        }
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Some(Ok(batch));
            }
            let step = if self.is_catching_up { self.catch_up().await } else { self.receive().await };
            match step {
                Ok(true) => {}
                Ok(false) => {
                    self.has_ended = true;
                    return None;
                }
                Err(refusal) => {
                    self.has_ended = true;
                    return Some(Err(refusal));
                }
            }
        }
    }

    async fn catch_up(&mut self) -> Result<bool, Refusal> {
        let scan = Scan::Events { after: self.seen.clone(), limit: CATCH_UP_BATCH };
        let page = self.store.scan(scan).await.map_err(refusal_of)?;
        let rows: Vec<EventRow> = page
            .rows
            .into_iter()
            .filter_map(|row| match row {
                Row::Event(event) => Some(event),
                Row::Job(_) | Row::Output { .. } | Row::Resource(_) => None,
            })
            .collect();
        let found = rows.len();
        self.take(&Arc::new(rows));
        self.is_catching_up = page.more || found >= CATCH_UP_BATCH;
        if !self.is_catching_up {
            self.ready.push_back(Arc::default());
        }
        Ok(true)
    }

    async fn receive(&mut self) -> Result<bool, Refusal> {
        match self.live.recv().await {
            Ok(batch) => {
                self.take(&batch);
                Ok(true)
            }
            Err(broadcast::error::RecvError::Closed) => Ok(false),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                // What was missed is in the store: read it from there, as far as it is kept.
                tracing::debug!(missed, "a watcher lags; it catches up from the store");
                self.is_catching_up = true;
                Ok(true)
            }
        }
    }

    /// Queues what was not seen yet.
    fn take(&mut self, batch: &Arc<Vec<EventRow>>) {
        let is_new = |row: &EventRow, seen: &[u64; 256]| row.entry.seq > seen[usize::from(row.shard.0)];
        let all_new = batch.iter().all(|row| is_new(row, &self.seen));
        let fresh = if all_new {
            batch.clone()
        } else {
            Arc::new(batch.iter().filter(|row| is_new(row, &self.seen)).cloned().collect())
        };
        for row in fresh.iter() {
            let slot = &mut self.seen[usize::from(row.shard.0)];
            *slot = (*slot).max(row.entry.seq);
        }
        if !fresh.is_empty() {
            self.ready.push_back(fresh);
        }
    }
}

/// What a failed store call means to a caller whose request was certainly not committed.
pub(crate) fn refusal_of(error: StoreError) -> Refusal {
    let message = error.to_string();
    match error {
        StoreError::Full { .. } => Refusal::new(Reason::StoreFull, message),
        StoreError::DiskFull => Refusal::new(Reason::DiskFull, message),
        StoreError::Corrupt { .. } => Refusal::new(Reason::DataCorruption, message),
        StoreError::Compacted { oldest } => {
            let oldest = oldest.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
            Refusal::new(Reason::EventsCompacted, message).fact("oldest_sequences", oldest)
        }
        StoreError::Unsupported(_) => Refusal::new(Reason::UnsupportedByStore, message),
        StoreError::Fenced { .. }
        | StoreError::InUse { .. }
        | StoreError::Newer { .. }
        | StoreError::Unavailable(_) => {
            Refusal::new(Reason::StoreUnavailable, message).retry_after(coretex_domain::Span::secs(1))
        }
    }
}
