//! Deliveries: committed leases, gathered per session and sent as few frames.

use super::Stay;
use crate::api::{Assignment, ServerFrame};
use crate::shared::Shared;
use crate::tokens::{LeaseClaim, Tokens};
use coretex_domain::limits::{ASSIGN_BATCH_MAX, BATCH_BYTES_AIM};
use coretex_domain::{Job, SessionId};
use std::sync::Arc;

/// What one group hands out.
#[derive(Default)]
pub(crate) struct Deliveries {
    by_session: Vec<(SessionId, Vec<Assignment>)>,
    tokens: Option<Arc<Tokens>>,
}

impl Deliveries {
    pub(crate) fn add(
        &mut self,
        shared: &Shared,
        session: SessionId,
        lane_id: Arc<str>,
        lease_id: u64,
        job: Arc<Job>,
    ) {
        let Some(lease) = job.state.lease() else { return };
        let tokens = self.tokens.get_or_insert_with(|| shared.tokens());
        let claim = LeaseClaim { job: job.key(), serial: lease.serial, shard: job.shard };
        let token = tokens.lease(&job.namespace, claim, &job.id);
        let options = job.spec.options();
        let assignment = Assignment {
            lease_id,
            token,
            lane_id,
            max_attempts: job.capped_attempts(options.retry.max_attempts()),
            start_to_close: job.capped_runtime(options.timeouts.start_to_close()),
            stall: options.timeouts.stall,
            secret_refs: match shared.settings.secrets.is_used() {
                true => coretex_secrets::refs::of_job(&job),
                false => Vec::new(),
            },
            job,
        };
        // Sessions come in runs: the last one is nearly always the right one.
        match self.by_session.iter_mut().rev().find(|(id, _)| *id == session) {
            Some((_, list)) => list.push(assignment),
            None => self.by_session.push((session, vec![assignment])),
        }
    }

    pub(crate) fn send(self, shared: &Shared) {
        for (session, assignments) in self.by_session {
            // Without a session or a stream the offers run out by themselves.
            if let Some(stay) = shared.sessions.find(session) {
                deliver(&stay, assignments);
            }
        }
    }
}

fn deliver(stay: &Stay, assignments: Vec<Assignment>) {
    let mut inner = stay.inner();
    if inner.stream.is_none() {
        return;
    }
    let mut frame = Vec::with_capacity(assignments.len().min(ASSIGN_BATCH_MAX));
    let mut bytes = 0;
    inner.assign_no += 1;
    for assignment in assignments {
        let size = assignment.job.spec.payload.data.len();
        if frame.len() >= ASSIGN_BATCH_MAX || (bytes + size > BATCH_BYTES_AIM && !frame.is_empty()) {
            let assign_no = inner.assign_no;
            inner.send_data(ServerFrame::Assign { assign_no, assignments: std::mem::take(&mut frame) });
            inner.assign_no += 1;
            bytes = 0;
        }
        bytes += size;
        let assign_no = inner.assign_no;
        Stay::hold(&mut inner, assignment.lease_id, assign_no);
        frame.push(assignment);
    }
    let assign_no = inner.assign_no;
    inner.send_data(ServerFrame::Assign { assign_no, assignments: frame });
}
