//! The end of sessions: by silence for longer than their TTL, or by a goodbye with nothing left to do.

use super::{Sessions, Stay};
use crate::api::ServerFrame;
use crate::mail::{Mail, ReplyTo};
use crate::shared::Shared;
use coretex_domain::{SessionId, Span, Time};
use coretex_kernel::input::Input;
use coretex_ports::Write;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Watches over deadlines for as long as the engine lives. Sleeps until the earliest one; heartbeats do not wake it.
pub(crate) async fn watch(shared: Arc<Shared>) {
    loop {
        let next = [shared.sessions.next_alarm(), shared.sessions.next_drain()].into_iter().flatten().min();
        let changed = shared.sessions.alarm_changed.notified();
        match next {
            None => changed.await,
            Some(at) => {
                tokio::select! {
                    () = changed => {}
                    () = shared.env.clock.sleep_until(at) => expire_due(&shared).await,
                }
            }
        }
    }
}

impl Sessions {
    fn next_alarm(&self) -> Option<Time> {
        self.registry().alarms.first().map(|(at, _)| *at)
    }

    /// Sessions whose alarm has rung and whose deadline has truly passed; the others get a new alarm.
    fn take_expired(&self, now: Time) -> Vec<Arc<Stay>> {
        let mut registry = self.registry();
        let mut expired = Vec::new();
        while let Some((at, session)) = registry.alarms.first().copied().filter(|(at, _)| *at <= now) {
            registry.alarms.remove(&(at, session));
            let Some(stay) = registry.stays.get(&session).cloned() else { continue };
            let deadline = stay.deadline();
            if deadline <= now {
                expired.push(stay);
            } else {
                registry.alarms.insert((deadline, session));
            }
        }
        expired
    }
}

async fn expire_due(shared: &Arc<Shared>) {
    let now = shared.env.clock.now().mono;
    super::drain::end_overdue(shared, now).await;
    for stay in shared.sessions.take_expired(now) {
        let session = stay.session();
        tracing::info!(session = %session.session_id, worker = %session.worker_id, "session expired");
        end(shared, &stay, "SESSION_EXPIRED").await;
    }
}

/// Ends a session: no more work, its leases are closed, its row goes.
pub(crate) async fn end(shared: &Arc<Shared>, stay: &Arc<Stay>, reason: &str) {
    let session_id = stay.session().session_id;
    shared.dispatcher().leave(session_id);
    shared.sessions.remove(stay);
    stay.send_control(ServerFrame::GoAway {
        reason: reason.into(),
        drain: Span::ZERO,
        reconnect_after: Span::ZERO,
        is_replaced: false,
    });
    stay.inner().stream = None;
    for who in 0..shared.mailboxes.len() {
        let input = Input::SessionEnd { session: session_id };
        let _ = shared.post_waiting(who, Mail::Decide(input, ReplyTo::Nobody)).await;
    }
    let (answer, done) = oneshot::channel();
    let row = Mail::Rows(vec![Write::SessionEnd(session_id)], answer);
    if shared.post_waiting(0, row).await.is_ok() {
        let _ = done.await;
    }
}

/// Ends a session by id, if it is still here.
pub(crate) async fn end_by_id(shared: &Arc<Shared>, session: SessionId, reason: &str) {
    if let Some(stay) = shared.sessions.find(session) {
        end(shared, &stay, reason).await;
    }
}
