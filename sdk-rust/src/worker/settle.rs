//! Jobs as they start and end: what is begun, what is stopped, and what each end is reported as.

use super::EndedBy;
use super::executor::{End, Outcome};
use super::leases::{Lease, Stage, Why};
use super::session::{Alarm, Drain, Session};
use crate::ctx::{News, Said};
use crate::payload::Payload;
use crate::raw::pb;
use crate::raw::pb::JobUpdateKind as Kind;
use crate::raw::pb::connect_request::Frame;
use crate::time::{span, stamp};
use crate::verdict::{HandlerError, Next, RESULT_TOO_LARGE};
use std::time::{Duration, Instant, SystemTime};

/// What an update says besides its kind.
struct About {
    progress: Option<pb::Progress>,
    usage: Option<pb::Usage>,
}

impl About {
    fn progress(progress: pb::Progress) -> Self {
        Self { progress: Some(progress), usage: None }
    }
}

// === starting and ending ===

impl Session {
    pub(super) fn begin_ready(&mut self, now: Instant) {
        if self.outbox.is_full(self.terms.unacked_max) {
            return;
        }
        for lane in &mut self.lanes {
            while let Some(start) = lane.next_start() {
                let lease_id = start.ctx.lease_id();
                // Given back or lost while it waited.
                let Some(lease) = self.leases.get_mut(lease_id) else { continue };
                if lease.is_acked {
                    self.young.push_back((now, lease_id));
                }
                lease.stage = Stage::Running(now);
                lane.begin(lease.cost, start);
            }
            lane.launch();
        }
    }

    pub(super) fn ended(&mut self, end: End, now: Instant) {
        let Some(lease) = self.leases.end(end.lease_id) else {
            if let Some((lane, cost)) = self.leases.buried(end.lease_id) {
                self.lanes[lane].leave(cost, true);
            }
            return;
        };
        self.lanes[lease.lane].leave(lease.cost, true);
        if let Stage::Running(since) = lease.stage {
            self.lanes[lease.lane].ran(now - since);
        }
        self.report_end(end.lease_id, &lease, end.outcome, now);
    }

    fn report_end(&mut self, lease_id: u64, lease: &Lease, outcome: Outcome, now: Instant) {
        let (kind, result, failure) = verdict(outcome, lease.stop.as_ref(), self.terms.payload_max);
        let News { checkpoint, usage, .. } = lease.ctx.take_news().unwrap_or_default();
        let mut progress = None;
        if let Some(checkpoint) = checkpoint {
            let kept = pb::Progress { checkpoint: Some(checkpoint.into_pb()), ..Default::default() };
            match kind {
                Kind::Released => progress = Some(kept),
                Kind::Failed => self.update(lease_id, lease, Kind::Checkpoint, About::progress(kept), now),
                _ => {}
            }
        }
        match kind {
            Kind::Succeeded => self.report.finished += 1,
            Kind::Cancelled => self.report.cancelled += 1,
            Kind::Released => self.report.released += 1,
            _ => self.report.failed += 1,
        }
        let update = pb::JobUpdate {
            lease_id,
            lease_token: lease.ctx.lease_token().clone(),
            kind: kind.into(),
            result: result.map(Payload::into_pb),
            failure: failure.map(HandlerError::into_pb),
            progress,
            usage,
            ..Default::default()
        };
        self.outbox.push(&update, true, now);
    }

    fn update(
        &mut self,
        lease_id: u64,
        lease: &Lease,
        kind: Kind,
        About { progress, usage }: About,
        now: Instant,
    ) {
        let update = pb::JobUpdate {
            lease_id,
            lease_token: lease.ctx.lease_token().clone(),
            kind: kind.into(),
            progress,
            usage,
            observed_at: Some(stamp(SystemTime::now())),
            ..Default::default()
        };
        self.outbox.push(&update, false, now);
    }

    /// Passes on what a handler said about itself.
    pub(super) fn pass_on(&mut self, lease_id: u64, now: Instant) {
        let Some(lease) = self.leases.get_mut(lease_id) else { return };
        let Some(news) = lease.ctx.take_news() else { return };
        (lease.is_started_told, lease.is_acked) = (true, true);
        let lease = lease.clone();
        if news.usage.is_some() {
            // A start that is told again changes nothing: it only carries what was used.
            self.update(lease_id, &lease, Kind::Started, About { progress: None, usage: news.usage }, now);
        }
        if let Some(Said { fraction, message }) = news.progress {
            let progress = pb::Progress { fraction, message, ..Default::default() };
            self.update(lease_id, &lease, Kind::Progress, About::progress(progress), now);
        }
        if let Some(checkpoint) = news.checkpoint {
            let progress = pb::Progress { checkpoint: Some(checkpoint.into_pb()), ..Default::default() };
            self.update(lease_id, &lease, Kind::Checkpoint, About::progress(progress), now);
        }
    }
}

/// What an end is reported as.
fn verdict(
    outcome: Outcome,
    stop: Option<&Why>,
    payload_max: usize,
) -> (Kind, Option<Payload>, Option<HandlerError>) {
    let error = match outcome {
        Outcome::Returned(Ok(result)) if result.len() > payload_max => {
            let message = format!("a result has at most {payload_max} bytes, this one {}", result.len());
            return (Kind::Failed, None, Some(HandlerError::terminal_of(RESULT_TOO_LARGE, message)));
        }
        Outcome::Returned(Ok(result)) => return (Kind::Succeeded, Some(result), None),
        Outcome::Returned(Err(error)) => Some(error),
        Outcome::Aborted => None,
    };
    match (stop, error) {
        (Some(Why::Order), error) => (Kind::Cancelled, None, error.filter(|error| !error.is_cancelled())),
        (Some(Why::Licence | Why::Drain), _) | (None, None) => (Kind::Released, None, None),
        (Some(Why::Deadline(kind)), _) => {
            (Kind::Failed, None, Some(HandlerError::new(*kind, "the handler was stopped at its deadline")))
        }
        (None, Some(error)) if error.next() == Next::Released => (Kind::Released, None, None),
        (None, Some(error)) => (Kind::Failed, None, Some(error)),
    }
}

// === stopping ===

impl Session {
    /// Tells a handler to stop, and ends its task after the grace. What has not started ends here.
    pub(super) fn stop(&mut self, lease_id: u64, why: Why, reason: &str, grace: Duration, now: Instant) {
        let Some(lease) = self.leases.get_mut(lease_id) else { return };
        if lease.stop.is_none() || why == Why::Order {
            lease.stop = Some(why);
        }
        lease.ctx.stop(reason);
        match lease.stage {
            Stage::Queued => {
                let Some(lease) = self.leases.end(lease_id) else { return };
                self.lanes[lease.lane].leave(lease.cost, false);
                self.report_end(lease_id, &lease, Outcome::Aborted, now);
            }
            Stage::Running(_) if grace.is_zero() => self.abort(lease_id, now),
            Stage::Running(_) => self.set_alarm(now + grace, lease_id, Alarm::Abort),
        }
    }

    /// Ends a handler's task. One that blocks cannot be ended: its lease is, where that is harmless.
    pub(super) fn abort(&mut self, lease_id: u64, now: Instant) {
        let Some(lease) = self.leases.get_mut(lease_id) else { return };
        if lease.stop.is_none() {
            return; // an alarm of an order that was taken back
        }
        lease.ctx.abort();
        // A job given back while its handler still runs would run twice at a time.
        let is_final = matches!(lease.stop, Some(Why::Order | Why::Deadline(_)));
        if lease.bound.is_blocking && is_final {
            let Some(lease) = self.leases.end(lease_id) else { return };
            self.leases.outlived(lease_id, lease.lane, lease.cost);
            self.report_end(lease_id, &lease, Outcome::Aborted, now);
        }
    }

    pub(super) fn stop_all(&mut self, why: Why, reason: &str, grace: Duration, now: Instant) {
        for lease_id in self.leases.ids() {
            self.stop(lease_id, why.clone(), reason, grace, now);
        }
    }
}

// === leaving ===

impl Session {
    /// Begins to leave, or leaves sooner than it meant to.
    pub(super) fn leave(&mut self, mode: pb::DrainMode, grace: Duration, by: EndedBy, now: Instant) {
        /// What the last reports and the end of the stream may take on top.
        const FAREWELL: Duration = Duration::from_secs(10);
        let ends = now + grace;
        let leaves = ends + FAREWELL;
        match &mut self.drain {
            Some(drain) => {
                (drain.ends, drain.leaves) = (drain.ends.min(ends), drain.leaves.min(leaves));
            }
            None => {
                self.ended_by = by;
                let (is_told, has_stopped, has_closed) = (false, false, false);
                self.drain = Some(Drain { mode, ends, leaves, is_told, has_stopped, has_closed });
                tracing::info!(?by, held = self.leases.len(), "the worker leaves");
            }
        }
        if matches!(mode, pb::DrainMode::ReleaseUnstarted | pb::DrainMode::Handover) {
            self.give_back_queued();
        }
        if mode == pb::DrainMode::Handover {
            self.stop_all(Why::Drain, "the worker leaves", super::pace::STOP_GRACE, now);
        }
    }

    fn give_back_queued(&mut self) {
        for lease_id in self.leases.ids() {
            if self.leases.get_mut(lease_id).is_some_and(|lease| lease.stage == Stage::Queued) {
                self.give_back(lease_id, pb::LeaseRefusal::Draining);
            }
        }
    }

    pub(super) fn drain_on_time(&mut self, now: Instant) {
        let Some(drain) = &mut self.drain else { return };
        if now >= drain.ends && !std::mem::replace(&mut drain.has_stopped, true) {
            self.give_back_queued();
            self.stop_all(Why::Drain, "the worker leaves", super::pace::STOP_GRACE, now);
        }
    }

    pub(super) fn tell_drain(&mut self) {
        let Some(drain) = self.drain.as_mut().filter(|drain| !drain.is_told) else { return };
        drain.is_told = true;
        let left = drain.ends.saturating_duration_since(Instant::now());
        let reason = format!("{:?}", self.ended_by).to_lowercase();
        let drain = pb::Drain { mode: drain.mode.into(), deadline: Some(span(left)), reason };
        self.outgoing.control(Frame::Drain(drain));
    }
}
