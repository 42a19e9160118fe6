//! Beginning and resuming: what is said first, and what becomes of leases when a stream begins anew.

use super::leases::{Stage, Why};
use super::session::{Session, Stay};
use crate::raw::pb;
use crate::raw::pb::connect_request::Frame;
use crate::time::{of_span, stamp};
use std::time::{Duration, Instant, SystemTime};

/// How long a handler gets to stop when the server orders it in passing.
const GRACE: Duration = Duration::from_secs(30);

impl Session {
    /// Resume when there is a session, Hello otherwise.
    pub(super) fn first_frame(&mut self) -> Frame {
        let hello = self.plan.hello.clone();
        let Some(stay) = self.stay.clone() else { return Frame::Hello(hello) };
        let mut held = self.running_leases();
        held.extend(self.outbox.ended_leases());
        Frame::Resume(pb::Resume {
            session_id: stay.session_id,
            resume_token: stay.resume_token,
            worker_id: hello.worker_id.clone(),
            held,
            last_report_seq: self.outbox.last_seq(),
            // The account begins anew with the stream; see `Lane::restart`.
            lanes: Vec::new(),
            drain: self.drain.is_some(),
            hello: Some(hello),
        })
    }

    pub(super) fn running_leases(&self) -> Vec<pb::HeldLease> {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let leases = self.leases.iter().map(|(lease_id, lease)| {
            let (state, started_at) = match lease.stage {
                Stage::Queued => (pb::HeldLeaseState::Offered, None),
                Stage::Running(since) => (pb::HeldLeaseState::Running, Some(stamp(wall - (now - since)))),
            };
            pb::HeldLease {
                lease_id,
                lease_token: lease.ctx.lease_token().clone(),
                state: state.into(),
                started_at,
            }
        });
        leases.collect()
    }

    pub(super) fn welcomed(&mut self, welcome: pb::Welcome, now: Instant) {
        let had_session = self.stay.is_some();
        for refused in &welcome.refused_topics {
            tracing::warn!(topic = refused.topic, message = refused.message, "the topic is not served here");
        }
        self.plan.hello.worker_id.clone_from(&welcome.worker_id);
        self.stay = Some(Stay { session_id: welcome.session_id, resume_token: welcome.resume_token });
        let limits = welcome.limits.unwrap_or_default();
        self.outgoing.open(&limits, welcome.features);
        let or = |value: u32, default: usize| if value == 0 { default } else { value as usize };
        self.terms.payload_max = or(limits.payload_max_bytes, 1 << 20);
        self.terms.unacked_max = or(limits.max_unacked_reports, 4_096);
        if let Some(offer_ttl) = of_span(welcome.offer_ttl) {
            self.terms.young = self.terms.young.min(offer_ttl / 4);
        }
        self.set_pace(of_span(welcome.heartbeat_interval), of_span(welcome.session_ttl));
        if had_session {
            self.settle_new_session(&welcome.verdicts, now);
        }
        self.lanes.iter_mut().for_each(|lane| lane.restart(0, true));
        self.configured(&welcome.config.unwrap_or_default());
        self.link.greeted(welcome.endpoints);
        self.opened(now);
    }

    /// The old session was gone: leases are kept only where the server says so, and reports are numbered anew.
    fn settle_new_session(&mut self, verdicts: &[pb::LeaseVerdict], now: Instant) {
        use pb::LeaseVerdictKind as Kind;
        let verdict_of = |lease_id: u64| {
            let verdict = verdicts.iter().find(|verdict| verdict.lease_id == lease_id);
            verdict.map_or(Kind::Lost, |verdict| verdict.verdict())
        };
        for lease_id in self.leases.ids() {
            match verdict_of(lease_id) {
                Kind::Keep | Kind::ResendResult => {}
                Kind::Cancel => self.stop(lease_id, Why::Order, "cancelled", GRACE, now),
                Kind::Unspecified | Kind::Lost | Kind::AlreadyTerminal => {
                    self.lose(lease_id, "the session was lost");
                }
            }
        }
        let is_kept = |lease_id: u64| {
            self.leases.contains(lease_id)
                || matches!(verdict_of(lease_id), Kind::Keep | Kind::Cancel | Kind::ResendResult)
        };
        self.report.discarded += self.outbox.renumber(is_kept, now) as u64;
        self.leases.recount(self.outbox.ended());
    }

    pub(super) fn resumed(&mut self, resumed: pb::Resumed, now: Instant) {
        use pb::LeaseVerdictKind as Kind;
        for verdict in &resumed.verdicts {
            match verdict.verdict() {
                Kind::Unspecified | Kind::Keep | Kind::ResendResult => {}
                Kind::Cancel => self.stop(verdict.lease_id, Why::Order, "cancelled", GRACE, now),
                Kind::Lost | Kind::AlreadyTerminal => self.lose(verdict.lease_id, "the lease is closed"),
            }
        }
        if self.is_open {
            return; // the answer to Sync
        }
        if let Some(stay) = self.stay.as_mut().filter(|_| !resumed.resume_token.is_empty()) {
            stay.resume_token = resumed.resume_token;
        }
        self.set_pace(of_span(resumed.heartbeat_interval), of_span(resumed.session_ttl));
        self.outbox.resumed(resumed.last_report_seq_durable);
        for lane in &mut self.lanes {
            let used = resumed.lanes.iter().find(|used| used.lane_id == lane.plan.name);
            lane.restart(used.map_or(0, |used| used.assigned_total), false);
        }
        self.outgoing.reopen();
        self.link.greeted(Vec::new());
        self.opened(now);
    }

    fn set_pace(&mut self, interval: Option<Duration>, ttl: Option<Duration>) {
        const INTERVAL_MIN: Duration = Duration::from_millis(10);
        self.terms.heartbeat_interval = interval.unwrap_or(self.terms.heartbeat_interval).max(INTERVAL_MIN);
        self.terms.session_ttl = ttl.unwrap_or(self.terms.session_ttl);
    }

    fn opened(&mut self, now: Instant) {
        (self.is_open, self.was_ever_open, self.greeted_by) = (true, true, None);
        (self.beats.last_no, self.last_assign_no) = (0, 0);
        self.beats.sent.clear();
        self.beats.due = now + self.terms.heartbeat_interval;
        self.licence = Some(self.hailed_at + self.terms.session_ttl.mul_f32(0.8));
        if let Some(drain) = &mut self.drain {
            drain.is_told = false;
        }
        tracing::info!(worker = self.plan.hello.worker_id, "the worker is connected");
    }

    /// The session is over for good: its handlers stop and its reports are dropped.
    pub(super) fn forget_session(&mut self, reason: &str) {
        for lease_id in self.leases.ids() {
            self.lose(lease_id, reason);
        }
        self.report.discarded += self.outbox.renumber(|_| false, Instant::now()) as u64;
        self.leases.recount(std::iter::empty());
        (self.stay, self.is_open, self.licence) = (None, false, None);
    }
}
