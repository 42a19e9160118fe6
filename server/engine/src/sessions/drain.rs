//! How a worker leaves: nothing new for it, what has not started comes back, and what is not done in time too.

use super::stay::Leaving;
use super::{Sessions, Stay};
use crate::api::{Drain, ServerFrame};
use crate::mail::{Mail, ReplyTo};
use crate::shared::Shared;
use coretex_domain::Time;
use coretex_domain::limits::DRAIN_SLACK;
use coretex_kernel::input::Input;
use std::sync::Arc;

/// An operator asks a worker to leave. A repeat of the same call changes nothing.
pub(crate) async fn drain_worker(shared: &Arc<Shared>, stay: &Arc<Stay>, order: Drain) {
    let is_repeat =
        |leaving: &Leaving| !order.request_id.is_empty() && leaving.request_id == order.request_id;
    if stay.inner().drain.as_ref().is_some_and(is_repeat) {
        return;
    }
    begin(shared, stay, &order).await;
    stay.send_control(ServerFrame::Drain(order));
}

/// No more work for this worker; what it has not started comes back at once, the rest at the deadline.
pub(crate) async fn begin(shared: &Arc<Shared>, stay: &Arc<Stay>, order: &Drain) {
    let session = stay.session().session_id;
    let until = order.deadline.map(|span| shared.env.clock.now().mono + span + DRAIN_SLACK);
    let until = stay.leaves(until, &order.request_id);
    shared.dispatcher().set_schedulable(session, false);
    if let Some(until) = until {
        shared.sessions.set_drain_alarm(until, stay);
    }
    give_back(shared, stay, false).await;
}

/// The time of these workers is over: what they hold goes on elsewhere, and they are told to stop.
pub(super) async fn end_overdue(shared: &Arc<Shared>, now: Time) {
    for stay in shared.sessions.take_overdue(now) {
        let session = stay.session();
        tracing::info!(session = %session.session_id, worker = %session.worker_id, "drain deadline passed");
        give_back(shared, &stay, true).await;
    }
}

async fn give_back(shared: &Arc<Shared>, stay: &Stay, with_started: bool) {
    let session = stay.session().session_id;
    for who in 0..shared.mailboxes.len() {
        let input = Input::ReturnLeases { session, with_started };
        let _ = shared.post_waiting(who, Mail::Decide(input, ReplyTo::Nobody)).await;
    }
}

impl Stay {
    /// Notes that the worker leaves, and returns when its time is over. What it says by itself never puts off the
    /// time an operator has set.
    fn leaves(&self, until: Option<Time>, request_id: &Arc<str>) -> Option<Time> {
        let mut inner = self.inner();
        let leaving = match inner.drain.take() {
            Some(before) if request_id.is_empty() => {
                let until = [before.until, until].into_iter().flatten().min();
                Leaving { until, request_id: before.request_id }
            }
            Some(_) | None => Leaving { until, request_id: request_id.clone() },
        };
        inner.drain.insert(leaving).until
    }
}

impl Sessions {
    fn set_drain_alarm(&self, until: Time, stay: &Stay) {
        self.registry().drains.insert((until, stay.session().session_id));
        self.alarm_changed.notify_one();
    }

    pub(super) fn next_drain(&self) -> Option<Time> {
        self.registry().drains.first().map(|(at, _)| *at)
    }

    /// Leaving workers whose time is over. A later order has set another time: then this one means nothing.
    fn take_overdue(&self, now: Time) -> Vec<Arc<Stay>> {
        let mut registry = self.registry();
        let mut overdue = Vec::new();
        while let Some((at, session)) = registry.drains.first().copied().filter(|(at, _)| *at <= now) {
            registry.drains.remove(&(at, session));
            let Some(stay) = registry.stays.get(&session).cloned() else { continue };
            if stay.inner().drain.as_ref().is_some_and(|leaving| leaving.until == Some(at)) {
                overdue.push(stay);
            }
        }
        overdue
    }
}
