//! What happens with time: heartbeats, the licence, deadlines, news that is due; and the writing of what has gathered.

use super::leases::{Stage, Why};
use super::session::{Alarm, NOTES_INTERVAL, Session};
use crate::raw::pb;
use crate::raw::pb::connect_request::Frame;
use crate::time::{below, of_span, span, stamp};
use crate::worker::codec;
use std::cmp::Reverse;
use std::time::{Duration, Instant, SystemTime};

/// What a handler gets beyond its deadline before it is stopped here: the server's own word should come first.
const DEADLINE_MARGIN: Duration = Duration::from_millis(500);
/// What a handler that was told to stop gets before its task is ended.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(2);

impl Session {
    pub(super) fn on_time(&mut self, now: Instant) {
        if self.greeted_by.is_some_and(|by| now >= by) {
            self.greeted_by = None;
            tracing::warn!("the server does not greet");
            self.link.broke(None);
        }
        if self.is_open && now >= self.beats.due {
            self.beat(now);
        }
        if self.licence.is_some_and(|until| now >= until) {
            self.licence = None;
            self.stop_all(
                Why::Licence,
                "the server was silent for too long",
                self.terms.session_ttl.mul_f32(0.15),
                now,
            );
        }
        while let Some((since, lease_id)) = self.young.front().copied() {
            if now < since + self.terms.young {
                break;
            }
            self.young.pop_front();
            self.grew_up(lease_id, now);
        }
        while let Some(Reverse((at, lease_id, alarm))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            match alarm {
                Alarm::Deadline => self.out_of_time(lease_id, now),
                Alarm::Abort => self.abort(lease_id, now),
            }
        }
        if !self.noted.is_empty() && now >= self.noted_at + NOTES_INTERVAL {
            self.noted_at = now;
            for lease_id in std::mem::take(&mut self.noted) {
                self.pass_on(lease_id, now);
            }
        }
        self.drain_on_time(now);
    }

    /// A lease that is not done at once: the server learns that it arrived, or that it started.
    fn grew_up(&mut self, lease_id: u64, now: Instant) {
        let Some(lease) = self.leases.get_mut(lease_id) else { return };
        match lease.stage {
            Stage::Queued if !lease.is_acked => {
                lease.is_acked = true;
                self.ack.accepted.push(lease_id);
            }
            Stage::Queued => {}
            Stage::Running(since) => {
                let deadline = lease.ctx.deadline();
                if !std::mem::replace(&mut lease.is_started_told, true) {
                    lease.is_acked = true;
                    let token = lease.ctx.lease_token().clone();
                    let started = pb::JobUpdateKind::Started;
                    let observed_at = Some(stamp(SystemTime::now() - (now - since)));
                    let update = pb::JobUpdate {
                        lease_id,
                        lease_token: token,
                        kind: started.into(),
                        observed_at,
                        ..Default::default()
                    };
                    self.outbox.push(&update, false, now);
                }
                self.timers
                    .extend(deadline.map(|at| Reverse((at + DEADLINE_MARGIN, lease_id, Alarm::Deadline))));
            }
        }
    }

    /// Alarms of leases that have ended are swept out before they outnumber the others.
    pub(super) fn set_alarm(&mut self, at: Instant, lease_id: u64, alarm: Alarm) {
        const FEW: usize = 1_024;
        if self.timers.len() > FEW.max(4 * self.leases.len()) {
            self.timers.retain(|Reverse((_, lease_id, _))| self.leases.contains(*lease_id));
        }
        self.timers.push(Reverse((at, lease_id, alarm)));
    }

    fn out_of_time(&mut self, lease_id: u64, now: Instant) {
        let Some(lease) = self.leases.get_mut(lease_id) else { return };
        if lease.ctx.deadline().is_none_or(|deadline| now < deadline) {
            return; // it was extended since; another alarm is set
        }
        let kind = lease.ctx.deadline_kind();
        self.stop(lease_id, Why::Deadline(kind), "out of time", STOP_GRACE, now);
    }

    pub(super) fn beat(&mut self, now: Instant) {
        let jitter = below(self.terms.heartbeat_interval / 10);
        self.beats.due = now + self.terms.heartbeat_interval - jitter;
        self.beats.last_no += 1;
        self.beats.sent.push_back((self.beats.last_no, now));
        let (count, digest) = self.leases.count_and_digest();
        let queued: usize = self.lanes.iter().map(super::lanes::Lane::queued).sum();
        let queue_depth = u32::try_from(queued).unwrap_or(u32::MAX);
        let last_seq = self.outbox.last_written();
        self.outgoing.heartbeat(|unwritten| pb::Heartbeat {
            sent_at: Some(stamp(SystemTime::now())),
            held_count: count + unwritten.ended,
            held_digest: digest ^ unwritten.digest,
            last_assign_no: self.last_assign_no,
            last_report_seq: unwritten.first_seq.map_or(last_seq, |seq| seq - 1),
            load: Some(pb::WorkerLoad {
                queue_depth,
                event_loop_lag: Some(span(Duration::ZERO)),
                ..Default::default()
            }),
            ack_of_server_ping: self.beats.nonce,
            heartbeat_no: self.beats.last_no,
        });
    }

    pub(super) fn beat_acked(&mut self, ack: &pb::HeartbeatAck) {
        if let Some(ttl) = of_span(ack.session_ttl) {
            self.terms.session_ttl = ttl;
        }
        while let Some((no, sent)) = self.beats.sent.front().copied() {
            if no > ack.heartbeat_no {
                break;
            }
            self.beats.sent.pop_front();
            let licence = sent + self.terms.session_ttl.mul_f32(0.8);
            self.licence = Some(self.licence.map_or(licence, |before| before.max(licence)));
        }
    }

    /// Writes what has gathered: acknowledgements, reports, credit.
    pub(super) fn flush(&mut self, now: Instant) {
        if !self.is_open {
            return;
        }
        self.tell_drain();
        let has_refused = !self.ack.rejected.is_empty();
        if has_refused || !self.ack.accepted.is_empty() || !self.ack.controls_acked.is_empty() {
            self.outgoing.control(Frame::AssignAck(std::mem::take(&mut self.ack)));
        }
        if self.outbox.is_due(now) {
            let leases = &mut self.leases;
            self.outbox
                .write(|ended, digest| leases.reported(ended, digest), |frame| self.outgoing.data(frame));
        } else if self.outbox.due_at().is_some() {
            return; // credit goes with the report
        }
        if self.drain.is_some() || self.outbox.is_full(self.terms.unacked_max) {
            return;
        }
        let grants = self.lanes.iter_mut().filter_map(|lane| {
            let granted_total = lane.grant()?;
            Some(pb::CreditGrant {
                lane_id: lane.plan.name.clone(),
                granted_total,
                slots_free: lane.slots_free(),
            })
        });
        let grants: Vec<_> = grants.collect();
        if !grants.is_empty() {
            self.outgoing.data(codec::Frame::message(Frame::Credit(pb::Credit { grants })));
        }
    }

    /// Answers SyncRequest: first all reports, then every lease that no report has ended.
    pub(super) fn synced(&mut self) {
        let leases = &mut self.leases;
        self.outbox.write(|ended, digest| leases.reported(ended, digest), |frame| self.outgoing.data(frame));
        let sync = pb::Sync {
            leases: self.running_leases(),
            last_assign_no: self.last_assign_no,
            last_report_seq: self.outbox.last_seq(),
        };
        self.outgoing.data(codec::Frame::message(Frame::Sync(sync)));
    }
}
