//! Due: the time in; deadlines fired, retries and delayed jobs made ready, offers taken back out.

use super::{admit, approval};
use crate::input::Stop;
use crate::limits::LimitKind;
use crate::mutant::Mutant;
use crate::parked::unpark;
use crate::path::settle::{close_with, end_attempt, give_back, plain_failure};
use crate::throttle::let_in;
use crate::timers::{self, Due};
use crate::{Dispatcher, Turn, View, runs};
use coretex_domain::JobKey;
use coretex_domain::job::{Close, Event, Return, StateKind};

/// Most timers one turn fires, so that a flood of them (a clock jump) does not hold up the rest.
const TICK_MAX: usize = 8_192;

pub(crate) fn tick(view: &mut View, dispatcher: &mut Dispatcher, turn: &mut Turn) {
    let now = turn.now.wall;
    for _ in 0..TICK_MAX {
        let Some(key) = view.pop_due(now) else { break };
        fire(view, dispatcher, key, turn);
    }
    while let Some((at, class)) = view.class_wakes.first().copied().filter(|(at, _)| *at <= now) {
        view.class_wakes.remove(&(at, class));
        view.dirty.insert(class);
    }
    while let Some((at, key)) = view.key_wakes.first().cloned().filter(|(at, _)| *at <= now) {
        view.key_wakes.remove(&(at, key.clone()));
        match key.kind() {
            LimitKind::Throttle => let_in(view, dispatcher, &key, turn),
            LimitKind::Concurrency | LimitKind::Rate(_) | LimitKind::Rule(_) => unpark(view, &key),
            // Places of runs have no rate.
            LimitKind::Run(_) => {}
        }
    }
    runs::tick(view, dispatcher, turn);
    for _ in 0..TICK_MAX {
        let Some((session, lease, key)) = view.overdue_offer(turn.now.mono) else { break };
        give_back(view, key, Return::NotAcked, turn);
        turn.stop(session, lease, Stop::Reclaim);
        view.close_lease(session, lease);
        view.trim_offers(session);
    }
}

fn fire(view: &mut View, dispatcher: &mut Dispatcher, key: JobKey, turn: &mut Turn) {
    let Some(job) = view.job(key).cloned() else { return };
    let settings = view.settings(&job);
    let Some(due) = timers::due(&job, settings, turn.now.wall) else {
        // A deadline moved back: file the job under its new time.
        return view.settle_in(key, Some(job.state.kind()), turn.now.wall);
    };
    let limits = timers::timeouts(&job, settings);
    let lease = job.state.lease().cloned();
    let kind = job.state.kind();
    let is_cancelling =
        lease.is_some() && job.is_cancel_requested() && !view.is_planted(Mutant::IgnoreCancelAtDispatch);
    drop(job);
    match due {
        // Whatever ends the lease of a job that is being cancelled ends the job as CANCELLED (I-13).
        Due::Total | Due::ScheduleToStart | Due::StartToClose | Due::Stall if is_cancelling => {
            close_with(view, key, Event::Cancelled(None), turn, |_| {});
            stop(lease, Stop::TimedOut, turn);
        }
        Due::Total => {
            let failure = plain_failure("TOTAL_TIMEOUT", "the total deadline of the job passed", false);
            close_with(view, key, Event::TimedOut { total: true }, turn, |job| {
                job.rare_mut().failure = Some(failure)
            });
            stop(lease, Stop::TimedOut, turn);
        }
        Due::CancelGrace => close_with(view, key, Event::Cancelled(None), turn, |_| {}),
        Due::ScheduleToStart => {
            if kind == StateKind::Dispatched {
                give_back(view, key, Return::Reclaimed, turn);
                stop(lease, Stop::Reclaim, turn);
                if view.job(key).is_none_or(|job| job.state.kind().is_terminal()) {
                    // It was the last offer it could have: UNDELIVERABLE.
                    return;
                }
            }
            let failure = plain_failure("SCHEDULE_TO_START_TIMEOUT", "the job did not start in time", false);
            close_with(view, key, Event::Expired, turn, |job| job.rare_mut().failure = Some(failure));
        }
        Due::StartToClose => {
            let message = format!("the attempt ran longer than {} ms", limits.start_to_close().0);
            end_attempt(
                view,
                key,
                Close::TimedOut,
                plain_failure("START_TO_CLOSE_TIMEOUT", &message, true),
                None,
                turn,
            );
            stop(lease, Stop::TimedOut, turn);
        }
        Due::Stall => {
            let message = format!("no sign of progress for {} ms", limits.stall.unwrap_or_default().0);
            end_attempt(view, key, Close::Stalled, plain_failure("STALLED", &message, true), None, turn);
            stop(lease, Stop::Stalled, turn);
        }
        Due::Approval => approval::expire(view, key, turn),
        Due::Judge => {
            admit::admit(view, dispatcher, key, turn);
        }
        Due::Retry => {
            if !view.is_planted(Mutant::TimerLost) {
                let place = view.next_place(turn.now.wall);
                view.apply(key, Event::RetryDue { place }, turn);
            }
        }
        Due::Ready => {
            if let Some(job) = view.job(key).cloned() {
                let class = view.class_of(&job);
                view.push_ready(class, &job, key);
                view.settle_in(key, Some(kind), turn.now.wall);
            }
        }
    }
}

fn stop(lease: Option<coretex_domain::job::Lease>, why: Stop, turn: &mut Turn) {
    if let Some(lease) = lease {
        turn.stop(lease.session, lease.id, why);
    }
}
