//! What a stream handler holds: the way in for frames of a worker, and the way out for frames to it.

use super::stay::Receipt;
use super::{Stay, attach, drain, expire, written};
use crate::api::{AskOfWorker, Drain, HeldLease, LeaseName, Load, ServerFrame, Update, UpdateKind};
use crate::asks;
use crate::mail::{Mail, ReplyTo};
use crate::metrics::add;
use crate::redact;
use crate::shared::Shared;
use bytes::Bytes;
use coretex_domain::session::{Lane, Session};
use coretex_domain::{Refusal, ShardId};
use coretex_kernel::input::{Input, LeaseRef, Update as KernelUpdate};
use std::sync::Arc;
use tokio::sync::mpsc;

/// A stream that has been welcomed.
pub struct Attached {
    pub outbox: Outbox,
    pub handle: SessionHandle,
}

/// Frames on their way to the worker: control before data.
pub struct Outbox {
    pub(crate) control: mpsc::Receiver<ServerFrame>,
    pub(crate) data: mpsc::Receiver<ServerFrame>,
}

impl Outbox {
    /// The next frame; `None` when the server has closed this stream.
    pub async fn next(&mut self) -> Option<ServerFrame> {
        tokio::select! {
            biased;
            frame = self.control.recv() => frame,
            frame = self.data.recv() => match frame {
                Some(frame) => Some(frame),
                None => self.control.recv().await,
            },
        }
    }
}

/// The way in. Dropping it means that the stream is gone; the session lives on until its TTL.
pub struct SessionHandle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stay: Arc<Stay>,
    pub(crate) generation: u32,
}

impl SessionHandle {
    pub fn credit(&self, grants: Vec<(Arc<str>, u64)>) {
        self.seen();
        let session = self.stay.session().session_id;
        for (lane, total) in grants {
            let granted = self.shared.dispatcher().grant(session, &lane, total);
            match granted {
                Ok(wakes) => self.shared.wake(wakes),
                Err(message) if self.lanes().iter().any(|known| known.lane_id == lane) => {
                    self.protocol_error("CREDIT_DECREASED", message);
                }
                Err(message) => self.protocol_error("UNKNOWN_LANE", message),
            }
        }
    }

    pub fn heartbeat(
        &self,
        no: u64,
        held_count: u32,
        held_digest: u64,
        last_assign_no: u64,
        last_report_seq: u64,
    ) {
        self.seen();
        let session_ttl = self.stay.session().ttl;
        self.stay.send_control(ServerFrame::HeartbeatAck { heartbeat_no: no, session_ttl });
        if self.stay.digest_differs(held_digest, last_assign_no, last_report_seq) {
            tracing::debug!(held_count, "a worker's set of leases differs from ours; asking for all of it");
            self.stay.send_control(ServerFrame::SyncRequest);
        }
    }

    pub async fn acked(&self, accepted: Vec<u64>, refused: Vec<(u64, &'static str)>) {
        self.seen();
        let session = self.stay.session().session_id;
        let refused: Vec<u64> = refused.into_iter().map(|(lease, _)| lease).collect();
        self.stay.forget_all(refused.iter().copied());
        for who in 0..self.shared.mailboxes.len() {
            let mine = |lease: &&u64| self.shared.loop_of(shard_of(**lease)) == who;
            let accepted: Vec<u64> = accepted.iter().filter(mine).copied().collect();
            let refused: Vec<u64> = refused.iter().filter(mine).copied().collect();
            if !accepted.is_empty() || !refused.is_empty() {
                let mail = Mail::Decide(Input::Acked { session, accepted, refused }, ReplyTo::Nobody);
                let _ = self.shared.post_waiting(who, mail).await;
            }
        }
    }

    pub fn controls_acked(&self, ids: &[u64]) {
        self.stay.controls_acked(ids);
    }

    /// Hands a report to the shards; the ack goes out when all of it is committed.
    pub async fn report(&self, seq: u64, mut updates: Vec<Update>) -> Result<(), Refusal> {
        self.seen();
        if coretex_secrets::is_on() {
            redact::updates(&mut updates);
            let ended = updates.iter().filter(|update| is_last_word(&update.kind));
            let ended: Vec<u64> = ended.filter_map(|update| update.lease.id()).collect();
            written::finish(&self.shared, &self.stay, &ended).await;
        }
        let parts = self.split(updates);
        if matches!(self.stay.report_begins(seq, parts.len()), Receipt::Repeat) {
            return Ok(());
        }
        if parts.is_empty() {
            self.stay.report_done(seq, Vec::new(), None);
        }
        let session = self.stay.session().session_id;
        for (who, updates, indexes) in parts {
            let to = ReplyTo::Report { stay: self.stay.clone(), seq, indexes };
            self.shared.post_waiting(who, Mail::Decide(Input::Report { session, updates }, to)).await?;
        }
        Ok(())
    }

    /// Sorts updates by the loop that owns their lease.
    fn split(&self, updates: Vec<Update>) -> Vec<(usize, Vec<KernelUpdate>, Option<Vec<u32>>)> {
        let loops = self.shared.mailboxes.len();
        let namespace = self.stay.namespace();
        let tokens = self.shared.tokens();
        let (mut started, mut ended) = (Vec::new(), Vec::new());
        let mut parts: Vec<(usize, Vec<KernelUpdate>, Option<Vec<u32>>)> =
            (0..loops).map(|who| (who, Vec::new(), (loops > 1).then(Vec::new))).collect();
        for (index, update) in (0u32..).zip(updates) {
            let (lease, shard) = match update.lease {
                LeaseName::Id(id) => {
                    if is_last_word(&update.kind) {
                        if self.stay.had_ended_before(id) {
                            continue;
                        }
                        ended.push(id);
                    } else {
                        started.push(id);
                    }
                    (LeaseRef::Id(id), shard_of(id))
                }
                LeaseName::Token(token) => match tokens.open_lease(&namespace, &token) {
                    Some(claim) => (LeaseRef::Token { job: claim.job, serial: claim.serial }, claim.shard),
                    None => (LeaseRef::Id(0), ShardId(0)),
                },
            };
            let part = &mut parts[self.shared.loop_of(shard)];
            part.1.push(KernelUpdate { lease, kind: update.kind, usage: update.usage });
            if let Some(indexes) = &mut part.2 {
                indexes.push(index);
            }
        }
        self.stay.started(started.into_iter());
        self.stay.forget_all(ended.into_iter());
        parts.retain(|(_, updates, _)| !updates.is_empty());
        parts
    }

    /// Takes a piece of a job's output stream. Output of leases the session does not hold is ignored and counted.
    pub async fn output(&self, lease_id: u64, stream: Arc<str>, piece: OutputPiece) {
        self.seen();
        if !self.stay.holds(lease_id) {
            return self
                .protocol_error("UNKNOWN_LEASE", format!("output for lease {lease_id}, which is not held"));
        }
        written::take(&self.shared, &self.stay, lease_id, stream, piece).await;
    }

    /// Takes a question about a lease; its answer comes as a frame.
    pub fn ask(&self, ask: AskOfWorker) {
        self.seen();
        asks::take(&self.shared, &self.stay, ask);
    }

    /// Says why a question is not even asked.
    pub fn refuse_ask(&self, lease_id: u64, ask_id: u64, refusal: Refusal) {
        self.seen();
        let answer = Box::new(Err(refusal));
        let decision_id = Arc::default();
        self.stay.send_control(ServerFrame::Answer { lease_id, ask_id, decision_id, answer });
    }

    /// The worker drains: nothing new, and what has not started comes back.
    pub async fn drain(&self, order: Drain) {
        self.seen();
        drain::begin(&self.shared, &self.stay, &order).await;
    }

    /// How busy the worker says it is, for people.
    pub fn load(&self, load: Load) {
        self.stay.set_load(load);
    }

    /// The whole set of held leases, asked for by a `SyncRequest`.
    pub async fn sync(&self, held: Vec<HeldLease>) -> Result<(), Refusal> {
        self.seen();
        let resumed = attach::reconcile(&self.shared, &self.stay, held).await?;
        self.stay.send_control(ServerFrame::Resumed(resumed));
        Ok(())
    }

    /// Changes what the session serves; its credit and its leases stay.
    pub async fn update_registration(
        &self,
        lanes: Vec<Lane>,
        labels: Vec<(Arc<str>, Arc<str>)>,
    ) -> Result<(), Refusal> {
        self.seen();
        let change = |session: &mut Session| (session.lanes, session.labels) = (lanes, labels);
        attach::change_registration(&self.shared, &self.stay, change).await
    }

    pub fn session_id(&self) -> coretex_domain::SessionId {
        self.stay.session().session_id
    }

    /// What the session serves now.
    pub fn lanes(&self) -> Vec<Lane> {
        self.stay.session().lanes.clone()
    }

    pub fn labels(&self) -> Vec<(Arc<str>, Arc<str>)> {
        self.stay.session().labels.clone()
    }

    fn seen(&self) {
        self.stay.seen(self.shared.env.clock.now());
    }

    fn protocol_error(&self, reason: &'static str, message: String) {
        add(&self.shared.metrics.protocol_errors, 1);
        self.stay.send_control(ServerFrame::ProtocolError { reason, message });
    }
}

/// A piece of output as the worker sent it.
pub struct OutputPiece {
    pub first_offset: u64,
    pub chunks: Vec<Bytes>,
    pub is_durable: bool,
    pub is_end: bool,
    pub dropped: u64,
}

impl Drop for SessionHandle {
    fn drop(&mut self) {
        {
            let mut inner = self.stay.inner();
            if inner.stream.as_ref().is_some_and(|s| s.generation != self.generation) {
                return;
            }
            inner.stream = None;
        }
        let session = self.stay.session().session_id;
        self.shared.dispatcher().set_schedulable(session, false);
        let is_done = self.stay.is_draining() && self.stay.is_idle();
        if is_done && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let shared = self.shared.clone();
            runtime.spawn(async move { expire::end_by_id(&shared, session, "WORKER_DRAINED").await });
        }
    }
}

/// The shard in the top byte of a lease id.
pub(crate) fn shard_of(lease_id: u64) -> ShardId {
    ShardId(lease_id.to_be_bytes()[0])
}

/// After it the worker no longer holds the lease.
fn is_last_word(kind: &UpdateKind) -> bool {
    match kind {
        UpdateKind::Succeeded(_)
        | UpdateKind::Failed { .. }
        | UpdateKind::Cancelled
        | UpdateKind::Released { .. } => true,
        UpdateKind::Started | UpdateKind::Progress { .. } | UpdateKind::Checkpoint(_) => false,
    }
}
