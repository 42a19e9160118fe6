//! Frames from the server.

use super::EndedBy;
use super::executor::Start;
use super::leases::{Lease, Stage, Why};
use super::session::{Alarm, Session};
use crate::ctx::Ctx;
use crate::error::Error;
use crate::payload::Payload;
use crate::raw::pb;
use crate::raw::pb::connect_response::Frame;
use crate::time::{below, of_span};
use std::time::{Duration, Instant};

/// Grace of a cancel that names none.
const GRACE: Duration = Duration::from_secs(30);

impl Session {
    pub(super) fn on_frame(&mut self, frame: pb::ConnectResponse, now: Instant) -> Result<(), Error> {
        match frame.frame {
            Some(frame) if !self.is_open && !is_greeting(&frame) => {
                tracing::debug!("a frame of a stream that is left behind");
            }
            Some(Frame::Welcome(welcome)) => self.welcomed(welcome, now),
            Some(Frame::Resumed(resumed)) => self.resumed(resumed, now),
            Some(Frame::Assign(assign)) => self.assigned(assign, now),
            Some(Frame::ReportAck(ack)) => self.acked(&ack, now),
            Some(Frame::Answer(answer)) => self.outgoing.answered(answer),
            Some(Frame::Control(control)) => {
                control.entries.into_iter().for_each(|entry| self.ordered(entry, now))
            }
            Some(Frame::ConfigUpdate(config)) => self.configured(&config),
            Some(Frame::SyncRequest(_)) => self.synced(),
            Some(Frame::GoAway(notice)) => return self.sent_away(notice, now),
            Some(Frame::Ping(ping)) => {
                self.beats.nonce = ping.nonce;
                self.beat(now);
            }
            Some(Frame::HeartbeatAck(ack)) => self.beat_acked(&ack),
            Some(Frame::ProtocolError(error)) => {
                let code = pb::ErrorReason::try_from(error.code).unwrap_or_default().short_name();
                tracing::warn!(
                    code,
                    message = error.message,
                    frame = error.frame_no,
                    "the server ignored a frame"
                );
            }
            // A frame of a later version.
            None => {}
        }
        Ok(())
    }

    fn assigned(&mut self, assign: pb::Assign, now: Instant) {
        self.last_assign_no = assign.assign_no;
        for assignment in assign.assignments {
            let (lease_id, cost) = (assignment.lease_id, assignment.cost.max(1));
            if let Err(reason) = self.take(assignment, cost, now) {
                self.report.refused += 1;
                self.ack.rejected.push(pb::RefusedLease { lease_id, reason: reason.into() });
            }
        }
    }

    fn take(
        &mut self,
        mut assignment: pb::Assignment,
        cost: u32,
        now: Instant,
    ) -> Result<(), pb::LeaseRefusal> {
        let lane = self.lanes.iter().position(|lane| lane.plan.name == assignment.lane_id);
        let lane = lane.ok_or(pb::LeaseRefusal::Decode)?;
        let is_granted = self.lanes[lane].assign(cost);
        let lease_id = assignment.lease_id;
        if self.leases.contains(lease_id) {
            return Ok(()); // said twice
        }
        if self.drain.is_some() {
            return Err(pb::LeaseRefusal::Draining);
        }
        let job = assignment.job.as_ref().ok_or(pb::LeaseRefusal::Decode)?;
        let Some(bound) = self.plan.bound.get(&job.topic).cloned() else {
            tracing::warn!(
                topic = job.topic,
                job = job.job_id,
                "no handler for the topic of an assigned job"
            );
            return Err(pb::LeaseRefusal::NoSuchTopic);
        };
        if !is_granted {
            tracing::warn!(job = job.job_id, "an assignment beyond the credit");
            return Err(pb::LeaseRefusal::Overloaded);
        }
        let input = assignment.input.take().map(Payload::from_pb).unwrap_or_default();
        let ctx = Ctx::new(assignment, now, self.outgoing.clone());
        self.lanes[lane].hold(cost, Start { ctx: ctx.clone(), input, bound: bound.clone() });
        let lease = Lease {
            ctx,
            bound,
            lane,
            cost,
            stage: Stage::Queued,
            is_acked: false,
            is_started_told: false,
            stop: None,
        };
        self.leases.add(lease_id, lease);
        self.young.push_back((now, lease_id));
        Ok(())
    }

    fn acked(&mut self, ack: &pb::ReportAck, now: Instant) {
        let (mut stale, mut cancelled) = (Vec::new(), Vec::new());
        let report = &mut self.report;
        self.outbox.acked(ack, |update, mark| {
            let code = pb::UpdateRejection::try_from(update.code).unwrap_or_default();
            match (code, mark.is_end) {
                (pb::UpdateRejection::StaleLease, true) => report.discarded += 1,
                (pb::UpdateRejection::StaleLease, false) => stale.push(mark.lease_id),
                (pb::UpdateRejection::Cancelled, true) => {}
                // The order to stop comes in a frame of its own; no need to wait for it.
                (pb::UpdateRejection::Cancelled, false) => cancelled.push(mark.lease_id),
                _ => tracing::warn!(
                    code = code.as_str_name(),
                    message = update.message,
                    "an update was not applied"
                ),
            }
        });
        for lease_id in stale {
            self.lose(lease_id, "the lease is closed");
        }
        for lease_id in cancelled {
            self.stop(lease_id, Why::Order, "cancelled", GRACE, now);
        }
        self.lanes.iter_mut().for_each(super::lanes::Lane::grow);
    }

    /// The lease is no longer ours: stop the handler and report nothing.
    pub(super) fn lose(&mut self, lease_id: u64, reason: &str) {
        let Some(lease) = self.leases.drop_lease(lease_id) else { return };
        self.outgoing.forget_asks(lease_id);
        lease.ctx.stop(reason);
        lease.ctx.abort();
        self.report.discarded += 1;
        match lease.stage {
            Stage::Queued => self.lanes[lease.lane].leave(lease.cost, false),
            Stage::Running(_) => self.leases.outlived(lease_id, lease.lane, lease.cost),
        }
    }

    fn ordered(&mut self, entry: pb::control::Entry, now: Instant) {
        use pb::control::entry::Action;
        let lease_id = entry.lease_id;
        match entry.action {
            Some(Action::Cancel(cancel)) => {
                let grace =
                    if cancel.force { Duration::ZERO } else { of_span(cancel.grace).unwrap_or(GRACE) };
                self.stop(lease_id, Why::Order, &cancel.reason, grace, now);
            }
            Some(Action::Reclaim(_)) => self.reclaimed(lease_id),
            Some(Action::Pause(pause)) => self.pause(&pause.lane_id, true),
            Some(Action::Resume(resume)) => self.pause(&resume.lane_id, false),
            Some(Action::ExtendDeadline(change)) => {
                let deadline = of_span(change.remaining).and_then(|left| now.checked_add(left));
                if let Some(lease) = self.leases.get_mut(lease_id) {
                    lease.ctx.extend(deadline);
                    if let Some(at) = deadline {
                        self.set_alarm(at, lease_id, Alarm::Deadline);
                    }
                }
            }
            // An order of a later version: not acknowledged.
            None => return,
        }
        self.ack.controls_acked.push(entry.control_id);
    }

    /// Gives back what has not started. What has started is kept.
    fn reclaimed(&mut self, lease_id: u64) {
        let is_queued = self.leases.get_mut(lease_id).is_some_and(|lease| lease.stage == Stage::Queued);
        if is_queued {
            let reason = match self.drain {
                Some(_) => pb::LeaseRefusal::Draining,
                None => pb::LeaseRefusal::Overloaded,
            };
            self.give_back(lease_id, reason);
        }
    }

    /// Refuses a lease that waits.
    pub(super) fn give_back(&mut self, lease_id: u64, reason: pb::LeaseRefusal) {
        let Some(lease) = self.leases.drop_lease(lease_id) else { return };
        self.lanes[lease.lane].leave(lease.cost, false);
        self.report.returned += 1;
        self.ack.rejected.push(pb::RefusedLease { lease_id, reason: reason.into() });
    }

    fn pause(&mut self, lane_id: &str, is_paused: bool) {
        let named = |lane: &&mut super::lanes::Lane| lane_id.is_empty() || lane.plan.name == lane_id;
        self.lanes.iter_mut().filter(named).for_each(|lane| lane.pause(is_paused));
    }

    pub(super) fn configured(&mut self, config: &pb::ConfigUpdate) {
        for lane in &mut self.lanes {
            match config.lanes.iter().find(|named| named.lane_id == lane.plan.name) {
                Some(named) => lane.configure(named.concurrency_max, named.prefetch),
                None => lane.configure(0, lane.plan.prefetch_max),
            }
        }
        if !config.paused_topics.is_empty() {
            tracing::info!(topics = ?config.paused_topics, "topics are paused on the server");
        }
    }

    fn sent_away(&mut self, notice: pb::GoAway, now: Instant) -> Result<(), Error> {
        use pb::GoAwayReason as Why;
        let reason = pb::GoAwayReason::try_from(notice.reason).unwrap_or_default();
        tracing::info!(
            reason = reason.as_str_name(),
            message = notice.message,
            "the server asks to leave the stream"
        );
        if self.drain.is_some_and(|drain| drain.has_closed) {
            return Ok(()); // it is leaving
        }
        let grace = of_span(notice.drain_deadline).unwrap_or(GRACE);
        match reason {
            Why::Replaced => self.leave(pb::DrainMode::Finish, grace, EndedBy::Replaced, now),
            Why::WorkerDrained => {
                let mode = match notice.drain_mode() {
                    pb::DrainMode::Unspecified => pb::DrainMode::Finish,
                    mode => mode,
                };
                self.leave(mode, grace, EndedBy::Operator, now);
            }
            Why::CredentialEnded => self.leave(pb::DrainMode::Finish, grace, EndedBy::Credential, now),
            Why::SessionExpired => {
                self.forget_session("the session has expired");
                self.link.broke(None);
            }
            Why::Unspecified | Why::NodeDraining | Why::MaxAge | Why::Overloaded => {
                let least = of_span(notice.reconnect_after_min).unwrap_or_default();
                let most = of_span(notice.reconnect_after_max).unwrap_or(least).max(least);
                let wait = least + below(most - least);
                if notice.keep_existing_leases {
                    self.link.move_on(wait, notice.endpoints);
                } else {
                    self.forget_session("the server closed the leases");
                    self.link.broke(Some(wait));
                }
            }
        }
        Ok(())
    }
}

fn is_greeting(frame: &Frame) -> bool {
    matches!(frame, Frame::Welcome(_) | Frame::Resumed(_))
}
