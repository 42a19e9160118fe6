//! One session: what was sent on it, what is held by it, and when it was last heard of.

mod asking;

pub(crate) use asking::Asking;

use super::written::Searched;
use crate::api::{ControlAction, ControlEntry, LaneTotals, Load, Rejection, ServerFrame, WorkerInfo};
use coretex_domain::session::Session;
use coretex_domain::{Namespace, Time};
use coretex_kernel::input::Rejected;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Data frames that may wait for a slow worker before its stream is closed.
pub(crate) const OUTBOX_MAX: usize = 4_096;
/// Control frames that may wait likewise: acks of reports above all, so a worker that only writes is cut off too.
pub(crate) const CONTROL_OUTBOX_MAX: usize = 16_384;
/// Control entries kept until the worker acknowledges them.
const CONTROLS_MAX: usize = 4_096;

/// The sending side of a live stream.
pub(crate) struct Stream {
    /// Counts streams of the session: closing an old one never touches a newer.
    pub(crate) generation: u32,
    pub(crate) control: mpsc::Sender<ServerFrame>,
    pub(crate) data: mpsc::Sender<ServerFrame>,
}

/// A report that waits for the commits of its parts.
struct Waiting {
    parts: usize,
    rejected: Vec<Rejection>,
}

/// A lease as the stream knows it.
#[derive(Clone, Copy, Default)]
struct Holding {
    /// Number of the Assign frame it went out with.
    assign_no: u64,
    is_started: bool,
    asked: asking::Asked,
    /// A secret was refused to it.
    was_refused: bool,
}

/// A worker that leaves.
pub(crate) struct Leaving {
    /// Monotonic time at which what it still holds is released.
    pub(crate) until: Option<Time>,
    pub(crate) request_id: Arc<str>,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) stream: Option<Stream>,
    pub(crate) assign_no: u64,
    control_no: u64,
    controls: BTreeMap<u64, ControlEntry>,
    /// Leases handed out and not yet reported or taken back.
    leases: FxHashMap<u64, Holding>,
    pub(crate) drain: Option<Leaving>,
    load: Option<Load>,
    /// The receiving end of a polling session, between its calls.
    pub(crate) parked_outbox: Option<mpsc::Receiver<ServerFrame>>,
    reports: BTreeMap<u64, Waiting>,
    /// Newest report received, and newest with all before it committed.
    last_seq: u64,
    durable_up_to: u64,
    mismatches: u32,
    /// Leases whose job had ended when the worker came back: a last word on them again changes nothing.
    ended_before: FxHashSet<u64>,
    /// Questions on their way: lease and number.
    asking: FxHashSet<(u64, u64)>,
}

pub(crate) struct Stay {
    session: Mutex<Arc<Session>>,
    inner: Mutex<Inner>,
    /// Monotonic time of the last sign of life.
    last_seen: AtomicU64,
    last_seen_wall: AtomicU64,
    pub(crate) searched: Searched,
}

/// What the stream said about a report.
pub(crate) enum Receipt {
    New,
    /// Already durable, or on its way: nothing to do but ack again.
    Repeat,
}

impl Stay {
    pub(crate) fn new(session: Arc<Session>, mono: Time, wall: Time) -> Stay {
        Stay {
            session: Mutex::new(session),
            inner: Mutex::default(),
            last_seen: AtomicU64::new(mono.0),
            last_seen_wall: AtomicU64::new(wall.0),
            searched: Searched::default(),
        }
    }

    pub(crate) fn session(&self) -> Arc<Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_session(&self, session: Arc<Session>) {
        *self.session.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }

    pub(crate) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn seen(&self, now: coretex_domain::time::Now) {
        self.last_seen.fetch_max(now.mono.0, Ordering::Relaxed);
        self.last_seen_wall.fetch_max(now.wall.0, Ordering::Relaxed);
    }

    pub(crate) fn deadline(&self) -> Time {
        Time(self.last_seen.load(Ordering::Relaxed)) + self.session().ttl
    }

    pub(crate) fn namespace(&self) -> Namespace {
        self.session().namespace.clone()
    }

    /// As people see it, with what the dispatcher knows of its lanes.
    pub(crate) fn info(&self, lanes: Vec<LaneTotals>) -> WorkerInfo {
        let inner = self.inner();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        WorkerInfo {
            session: self.session(),
            lanes,
            held: count(inner.leases.len()),
            running: count(inner.leases.values().filter(|held| held.is_started).count()),
            load: inner.load,
            is_connected: inner.stream.is_some(),
            is_draining: inner.drain.is_some(),
            last_seen: Time(self.last_seen_wall.load(Ordering::Relaxed)),
        }
    }

    // === frames out ===

    pub(crate) fn send_control(&self, frame: ServerFrame) {
        self.inner().tell(frame);
    }

    pub(crate) fn control(&self, lease_id: u64, action: ControlAction) {
        let mut inner = self.inner();
        inner.control_no += 1;
        let entry = ControlEntry { control_id: inner.control_no, lease_id, action };
        if inner.controls.len() >= CONTROLS_MAX {
            inner.controls.pop_first();
        }
        inner.controls.insert(entry.control_id, entry.clone());
        if matches!(entry.action, ControlAction::Reclaim) {
            inner.leases.remove(&lease_id);
        }
        inner.tell(ServerFrame::Control(vec![entry]));
    }

    pub(crate) fn controls_acked(&self, ids: &[u64]) {
        let mut inner = self.inner();
        for id in ids {
            inner.controls.remove(id);
        }
    }

    /// Control entries nobody has acknowledged; polling workers get them with their next call.
    pub(crate) fn open_controls(&self) -> Vec<ControlEntry> {
        self.inner().controls.values().cloned().collect()
    }

    pub(crate) fn take_controls(&self) -> Vec<ControlEntry> {
        std::mem::take(&mut self.inner().controls).into_values().collect()
    }

    // === leases ===

    pub(crate) fn hold(inner: &mut Inner, lease_id: u64, assign_no: u64) {
        inner.leases.insert(lease_id, Holding { assign_no, ..Holding::default() });
    }

    /// Handlers of these leases were called.
    pub(crate) fn started(&self, leases: impl Iterator<Item = u64>) {
        let mut inner = self.inner();
        for lease in leases {
            if let Some(held) = inner.leases.get_mut(&lease) {
                held.is_started = true;
            }
        }
    }

    pub(crate) fn set_load(&self, load: Load) {
        self.inner().load = Some(load);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.inner().drain.is_some()
    }

    pub(crate) fn forget_all(&self, leases: impl Iterator<Item = u64> + Clone) {
        {
            let mut inner = self.inner();
            for lease in leases.clone() {
                inner.leases.remove(&lease);
            }
        }
        self.searched.forget(leases);
    }

    pub(crate) fn holds(&self, lease_id: u64) -> bool {
        self.inner().leases.contains_key(&lease_id)
    }

    pub(crate) fn is_idle(&self) -> bool {
        let inner = self.inner();
        inner.leases.is_empty() && inner.reports.is_empty()
    }

    pub(crate) fn set_ended_before(&self, leases: impl Iterator<Item = u64>) {
        self.inner().ended_before = leases.collect();
    }

    pub(crate) fn had_ended_before(&self, lease_id: u64) -> bool {
        self.inner().ended_before.contains(&lease_id)
    }

    /// Replaces the set of held leases after a reconciliation: each with whether its handler was called.
    pub(crate) fn set_held(&self, leases: impl Iterator<Item = (u64, bool)>) {
        let mut inner = self.inner();
        inner.leases =
            leases.map(|(lease, is_started)| (lease, Holding { is_started, ..Holding::default() })).collect();
        inner.mismatches = 0;
    }

    /// Compares the worker's digest at its cut with ours. True if they differ for the second time in a row: one
    /// difference may be a frame in flight.
    pub(crate) fn digest_differs(&self, held_digest: u64, last_assign_no: u64, last_report_seq: u64) -> bool {
        let mut inner = self.inner();
        if last_report_seq < inner.last_seq {
            return false;
        }
        let ours = inner
            .leases
            .iter()
            .filter(|(_, held)| held.assign_no <= last_assign_no)
            .fold(0, |digest, (lease, _)| digest ^ lease_hash(*lease));
        if ours == held_digest {
            inner.mismatches = 0;
            return false;
        }
        inner.mismatches += 1;
        inner.mismatches >= 2
    }

    // === reports ===

    /// Notes that a report has come in `parts` parts. A repeat is answered at once if it is durable.
    pub(crate) fn report_begins(&self, seq: u64, parts: usize) -> Receipt {
        let mut inner = self.inner();
        if seq <= inner.last_seq {
            if seq <= inner.durable_up_to {
                inner.ack(Vec::new());
            }
            return Receipt::Repeat;
        }
        inner.last_seq = seq;
        inner.reports.insert(seq, Waiting { parts, rejected: Vec::new() });
        Receipt::New
    }

    /// One part of a report is committed.
    pub(crate) fn report_done(&self, seq: u64, rejected: Vec<Rejected>, indexes: Option<&[u32]>) {
        let mut inner = self.inner();
        let Some(waiting) = inner.reports.get_mut(&seq) else { return };
        waiting.rejected.extend(rejected.into_iter().map(|r| {
            Rejection {
                seq,
                index: indexes
                    .and_then(|map| map.get(r.index).copied())
                    .unwrap_or(u32::try_from(r.index).unwrap_or(u32::MAX)),
                code: r.code,
                message: r.message,
            }
        }));
        waiting.parts = waiting.parts.saturating_sub(1);
        let mut all_rejected = Vec::new();
        let mut has_moved = false;
        while let Some(first) = inner.reports.first_entry() {
            if first.get().parts > 0 {
                break;
            }
            let (done, waiting) = first.remove_entry();
            all_rejected.extend(waiting.rejected);
            inner.durable_up_to = done;
            has_moved = true;
        }
        if has_moved {
            inner.ack(all_rejected);
        }
    }

    pub(crate) fn durable_up_to(&self) -> u64 {
        self.inner().durable_up_to
    }

    /// The shard was reloaded: reports that were on their way are resent by the worker.
    pub(crate) fn forget_reports(&self) {
        let mut inner = self.inner();
        inner.reports.clear();
        inner.last_seq = inner.durable_up_to;
    }

    /// After a resume reports are counted from what is durable; those in flight are resent or rejected by lease.
    pub(crate) fn rewind_reports(&self) {
        let mut inner = self.inner();
        if inner.reports.is_empty() {
            inner.last_seq = inner.durable_up_to;
        }
    }
}

impl Inner {
    fn ack(&mut self, rejected: Vec<Rejection>) {
        self.tell(ServerFrame::ReportAck { durable_up_to: self.durable_up_to, rejected });
    }

    /// Sends a control frame; a worker that does not read loses its stream, not its session.
    fn tell(&mut self, frame: ServerFrame) {
        let sent = self.stream.as_ref().map(|stream| stream.control.try_send(frame));
        if let Some(Err(mpsc::error::TrySendError::Full(_))) = sent {
            tracing::warn!("a worker does not read its stream; the stream is closed");
            self.stream = None;
        }
    }

    /// Sends a data frame; a worker that does not read loses its stream, not its session.
    pub(crate) fn send_data(&mut self, frame: ServerFrame) {
        if let Some(stream) = &self.stream
            && stream.data.try_send(frame).is_err()
        {
            tracing::warn!("a worker does not read its stream; the stream is closed");
            self.stream = None;
        }
    }

    pub(crate) fn resend_controls(&mut self) {
        let entries: Vec<ControlEntry> = self.controls.values().cloned().collect();
        if !entries.is_empty() {
            self.tell(ServerFrame::Control(entries));
        }
    }
}

/// The hash whose XOR over all held leases is the digest of a heartbeat: XXH3-64 of the eight little-endian bytes.
pub fn lease_hash(lease_id: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&lease_id.to_le_bytes())
}
