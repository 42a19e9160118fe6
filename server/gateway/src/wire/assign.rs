//! Frames from the server to a worker.

use super::job::{newest_decision_id, trace_part};
use super::put::{self, Put};
use super::spec::{labels, write_metadata};
use super::time::{duration, timestamp};
use super::worker;
use super::{ask, constraints, payload};
use bytes::Bytes;
use coretex_contract::v1::{self as pb, connect_response::Frame, control};
use coretex_domain::job::Share;
use coretex_domain::{Span, Time};
use coretex_engine::api::{
    Assignment, ControlAction, ControlEntry, Drain, HeldVerdict, RejectCode, Rejection, Resumed, ServerFrame,
};
use prost::Message;
use std::sync::Arc;

/// What is known of a session when its frames are written.
#[derive(Clone, Debug)]
pub(crate) struct SessionFacts {
    pub(crate) epoch: u64,
    pub(crate) heartbeat_interval: Span,
    pub(crate) session_ttl: Span,
    pub(crate) paused: std::collections::BTreeSet<String>,
}

/// Leases on their way, written as the `ConnectResponse` that holds them.
pub(crate) fn assign(assign_no: u64, assignments: &[Assignment], now: Time) -> Bytes {
    let data: usize = assignments.iter().map(|a| a.job.spec.payload.data.len() + ASSIGNMENT_LEN).sum();
    let mut put = Put::with_capacity(data);
    put.nested(4, |put| {
        put.number(1, assign_no);
        assignments.iter().for_each(|a| put::assignment(put, 2, a, now));
    });
    put.finish()
}

/// About what an assignment takes besides its payload.
const ASSIGNMENT_LEN: usize = 320;

/// One frame of the engine as a frame of the wire. `Assign` has a function of its own.
pub(crate) fn frame(frame: ServerFrame, facts: &mut SessionFacts, now: Time) -> pb::ConnectResponse {
    let frame = match frame {
        ServerFrame::Assign { assign_no, assignments } => Frame::Assign(pb::Assign {
            assign_no,
            assignments: assignments.iter().map(|a| assignment(a, now)).collect(),
        }),
        ServerFrame::ReportAck { durable_up_to, rejected } => Frame::ReportAck(pb::ReportAck {
            durable_up_to_seq: durable_up_to,
            rejected: rejected.into_iter().map(rejection).collect(),
        }),
        ServerFrame::Control(entries) => {
            Frame::Control(pb::Control { entries: entries.into_iter().map(control).collect() })
        }
        ServerFrame::Resumed(r) => Frame::Resumed(resumed(r, facts, Vec::new(), now)),
        ServerFrame::SyncRequest => Frame::SyncRequest(pb::SyncRequest::default()),
        ServerFrame::GoAway { reason, drain, reconnect_after, is_replaced } => {
            Frame::GoAway(go_away(&reason, drain, reconnect_after, is_replaced))
        }
        ServerFrame::Drain(order) => Frame::GoAway(drained(&order)),
        ServerFrame::Answer { lease_id, ask_id, decision_id, answer } => {
            Frame::Answer(ask::write(lease_id, ask_id, &decision_id, *answer))
        }
        ServerFrame::Secrets { lease_id, ask_id, values } => {
            Frame::Answer(ask::write_secrets(lease_id, ask_id, values))
        }
        ServerFrame::HeartbeatAck { heartbeat_no, session_ttl } => {
            Frame::HeartbeatAck(pb::HeartbeatAck { heartbeat_no, session_ttl: Some(duration(session_ttl)) })
        }
        ServerFrame::Ping { nonce } => Frame::Ping(pb::Ping { server_time: Some(timestamp(now)), nonce }),
        ServerFrame::ProtocolError { reason, message } => {
            Frame::ProtocolError(protocol_error(reason, message))
        }
        ServerFrame::TopicPaused { topic, is_paused } => {
            if is_paused {
                facts.paused.insert(topic.to_string());
            } else {
                facts.paused.remove(topic.as_ref());
            }
            Frame::ConfigUpdate(config(facts))
        }
    };
    pb::ConnectResponse { seq: 0, frame: Some(frame) }
}

pub(crate) fn config(facts: &SessionFacts) -> pb::ConfigUpdate {
    pb::ConfigUpdate { paused_topics: facts.paused.iter().cloned().collect(), ..pb::ConfigUpdate::default() }
}

pub(crate) fn protocol_error(reason: &str, message: String) -> pb::ProtocolError {
    let code = match reason {
        "CREDIT" if message.starts_with("unknown lane") => pb::ErrorReason::UnknownLane,
        "CREDIT" if message.contains("fell from") => pb::ErrorReason::CreditDecreased,
        "CREDIT" => pb::ErrorReason::SessionNotFound,
        reason => pb::ErrorReason::from_short_name(reason).unwrap_or(pb::ErrorReason::InvalidField),
    };
    let message = coretex_secrets::text(&message).into_owned();
    pb::ProtocolError { code: code.into(), message, ..pb::ProtocolError::default() }
}

/// A lease on its way to a worker.
pub(crate) fn assignment(a: &Assignment, now: Time) -> pb::Assignment {
    let mut put = Put::default();
    put::assignment(&mut put, 2, a, now);
    let assign = pb::Assign::decode(put.finish()).unwrap_or_default();
    assign.assignments.into_iter().next().unwrap_or_default()
}

/// The part of an assignment that most do not have.
pub(super) fn rare(a: &Assignment, now: Time) -> Option<pb::Assignment> {
    let job = &a.job;
    let is_constrained =
        job.decision.as_ref().is_some_and(|d| d.verdict != coretex_domain::policy::Verdict::Allow);
    let config = job.rare().config.as_ref();
    let is_plain = job.rare().checkpoint.is_none() && config.is_none() && a.secret_refs.is_empty();
    if job.spec.options.is_none() && is_plain && !is_constrained {
        return None;
    }
    let mut out = pb::Assignment {
        secret_refs: a.secret_refs.iter().map(ToString::to_string).collect(),
        ..pb::Assignment::default()
    };
    if let Some(checkpoint) = &job.rare().checkpoint {
        out.last_checkpoint = payload::write(checkpoint, pb::PayloadFormat::Data);
    }
    if let Some(config) = config {
        out.config_digest = config.digest_text();
        out.config = config.data.as_ref().and_then(|data| super::config::inline(&data.text));
    }
    if let Some(options) = &job.spec.options {
        out.labels = labels(&options.labels);
        out.metadata = write_metadata(&options.metadata);
        out.concurrency_keys = options.concurrency_key.iter().map(ToString::to_string).collect();
        out.trace_context = options.trace_id.as_deref().map(traceparent).unwrap_or_default();
        let from = options.schedule_time.map_or(job.create_time, |t| t.max(job.create_time));
        out.deadline = options.timeouts.total.map(|total| duration((from + total).since(now)));
        // Parts of one message are joined: this adds to the names that are there.
        let root = job.family().and_then(|family| family.root.as_ref());
        out.job = options.parent_job_id.as_ref().map(|parent| pb::JobRef {
            parent_job_id: parent.to_string(),
            root_job_id: root.map(ToString::to_string).unwrap_or_default(),
            ..pb::JobRef::default()
        });
    }
    out.budget = job.shares().map(share).collect();
    if is_constrained {
        let constraints = job.constraints().map(constraints::write);
        out.policy = Some(pb::AssignmentPolicy { decision_id: newest_decision_id(job), constraints });
    }
    Some(out)
}

/// Chance for handlers, the same over attempts: drawn from the job's place in the key space.
pub(super) fn seed(job: &coretex_domain::Job) -> u64 {
    let key = job.key().0;
    let mixed = (key >> 64) ^ key.rotate_left(32);
    u64::try_from(mixed & u128::from(u64::MAX)).unwrap_or_default()
}

fn traceparent(trace: &str) -> String {
    if trace.len() == 55 {
        return trace.to_owned();
    }
    // The job's own span is not known to the caller; its id is cut from the trace's.
    format!("00-{}-{}-01", trace, trace_part(trace).get(..16).unwrap_or("0000000000000001"))
}

/// All that is left is this attempt's: there is one at a time.
fn share(share: Share) -> pb::BudgetShare {
    pb::BudgetShare { dimension: share.dimension.into(), reserved: share.left(), remaining_hint: 0 }
}

pub(crate) fn resumed(r: Resumed, facts: &SessionFacts, resume_token: Vec<u8>, now: Time) -> pb::Resumed {
    pb::Resumed {
        verdicts: verdicts(&r.verdicts),
        epoch: facts.epoch,
        resume_token: resume_token.into(),
        last_report_seq_durable: r.last_report_seq,
        unknown_to_worker: r.unknown_to_worker,
        lanes: r.assigned.iter().map(lane_assigned).collect(),
        heartbeat_interval: Some(duration(facts.heartbeat_interval)),
        session_ttl: Some(duration(facts.session_ttl)),
        server_time: Some(timestamp(now)),
    }
}

fn lane_assigned((lane, total): &(Arc<str>, u64)) -> pb::LaneAssigned {
    pb::LaneAssigned { lane_id: lane.to_string(), assigned_total: *total }
}

pub(crate) fn verdicts(verdicts: &[(u64, HeldVerdict)]) -> Vec<pb::LeaseVerdict> {
    let kind = |verdict: &HeldVerdict| match verdict {
        HeldVerdict::Keep => pb::LeaseVerdictKind::Keep,
        HeldVerdict::Cancel => pb::LeaseVerdictKind::Cancel,
        HeldVerdict::Lost => pb::LeaseVerdictKind::Lost,
        HeldVerdict::AlreadyTerminal => pb::LeaseVerdictKind::AlreadyTerminal,
        HeldVerdict::ResendResult => pb::LeaseVerdictKind::ResendResult,
    };
    verdicts.iter().map(|(id, v)| pb::LeaseVerdict { lease_id: *id, verdict: kind(v).into() }).collect()
}

pub(crate) fn rejection(r: Rejection) -> pb::RejectedUpdate {
    let code = match r.code {
        RejectCode::StaleLease => pb::UpdateRejection::StaleLease,
        RejectCode::Cancelled => pb::UpdateRejection::Cancelled,
        RejectCode::TooLarge => pb::UpdateRejection::TooLarge,
    };
    pb::RejectedUpdate { seq: r.seq, index: r.index, code: code.into(), message: r.message }
}

fn control(entry: ControlEntry) -> control::Entry {
    let action = match entry.action {
        ControlAction::Cancel { reason, grace, force } => control::entry::Action::Cancel(control::Cancel {
            reason: reason.to_string(),
            grace: Some(duration(grace)),
            force,
        }),
        ControlAction::Reclaim => control::entry::Action::Reclaim(control::Reclaim::default()),
    };
    control::Entry { control_id: entry.control_id, lease_id: entry.lease_id, action: Some(action) }
}

/// The order to stop a lease, for workers without a stream.
pub(crate) fn cancel_notice(entry: ControlEntry) -> Option<pb::CancelNotice> {
    match entry.action {
        ControlAction::Cancel { reason, grace, .. } => Some(pb::CancelNotice {
            lease_id: entry.lease_id,
            job_id: String::new(),
            reason: reason.to_string(),
            grace: Some(duration(grace)),
        }),
        ControlAction::Reclaim => None,
    }
}

fn go_away(message: &str, drain: Span, reconnect_after: Span, is_replaced: bool) -> pb::GoAway {
    let reason = match message {
        "WORKER_DRAINED" | "DRAIN" => pb::GoAwayReason::WorkerDrained,
        "SESSION_EXPIRED" | "session expired" => pb::GoAwayReason::SessionExpired,
        "OVERLOADED" => pb::GoAwayReason::Overloaded,
        _ if is_replaced => pb::GoAwayReason::Replaced,
        _ => pb::GoAwayReason::NodeDraining,
    };
    pb::GoAway {
        reason: reason.into(),
        drain_deadline: Some(duration(drain)),
        reconnect_after_min: Some(duration(reconnect_after)),
        reconnect_after_max: Some(duration(Span(reconnect_after.0.saturating_mul(2)))),
        endpoints: Vec::new(),
        keep_existing_leases: reason != pb::GoAwayReason::SessionExpired,
        message: message.to_owned(),
        drain_mode: pb::DrainMode::Unspecified.into(),
    }
}

/// The connection is old: the session goes on over another one.
pub(crate) fn too_old(grace: std::time::Duration) -> pb::GoAway {
    let grace = Span(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
    pb::GoAway {
        reason: pb::GoAwayReason::MaxAge.into(),
        drain_deadline: Some(duration(grace)),
        reconnect_after_min: Some(duration(Span::ZERO)),
        reconnect_after_max: Some(duration(RECONNECT_WITHIN)),
        keep_existing_leases: true,
        message: "the connection is old".to_owned(),
        ..pb::GoAway::default()
    }
}

/// Workers of an old connection come back within this time, not all at once.
const RECONNECT_WITHIN: Span = Span::secs(1);

fn drained(order: &Drain) -> pb::GoAway {
    let message = if order.reason.is_empty() { "WORKER_DRAINED" } else { &order.reason };
    pb::GoAway {
        reason: pb::GoAwayReason::WorkerDrained.into(),
        drain_deadline: order.deadline.map(duration),
        keep_existing_leases: true,
        message: message.to_owned(),
        drain_mode: worker::drain_mode_to_wire(order.mode).into(),
        ..pb::GoAway::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_farewells_keep_their_meaning() {
        let code = |reason, message: &str| protocol_error(reason, message.to_owned()).code();
        assert_eq!(code("CREDIT", "unknown lane `x`"), pb::ErrorReason::UnknownLane);
        assert_eq!(
            code("CREDIT", "granted_total of lane `x` fell from 3 to 2"),
            pb::ErrorReason::CreditDecreased
        );
        assert_eq!(code("UNKNOWN_LEASE", ""), pb::ErrorReason::UnknownLease);
        let reason = |message, is_replaced| go_away(message, Span(1), Span(1), is_replaced).reason();
        assert_eq!(reason("DRAIN", true), pb::GoAwayReason::WorkerDrained);
        assert_eq!(reason("REPLACED", true), pb::GoAwayReason::Replaced);
        assert_eq!(reason("the node drains", false), pb::GoAwayReason::NodeDraining);
        assert!(!go_away("session expired", Span(1), Span(1), false).keep_existing_leases);
    }
}
