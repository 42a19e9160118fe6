//! Makes the starts that are in line: one schedule at a time, oldest first, as far as its overlap policy lets them.

use super::rows::{Pair, key, pair};
use super::steps::{Served, record, skipped};
use super::{target, waiting};
use crate::catalog::change;
use crate::metrics::add;
use crate::shared::Shared;
use coretex_domain::refusal::Class;
use coretex_domain::{Namespace, Reason, Refusal};
use coretex_schedule::limits::BACKFILL_BATCH;
use coretex_schedule::{Cause, Fire, Move, Outcome, Overlap, Pending, Schedule, State};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Starts made before they are recorded. What is more waits for the next round.
const BATCH: usize = BACKFILL_BATCH;

/// Goes through the line of a schedule. With `is_last_try`, passing faults are failures too.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    schedule: &Schedule,
    state: &State,
    is_last_try: bool,
) -> Served {
    let mut served = Served::default();
    let overlap = |pending: &Pending| pending.overlap(schedule.definition.overlap);
    let is_turn = |pending: &&Pending| state.pause.is_none() || pending.cause == Cause::Trigger;
    let line: Vec<&Pending> = state.pending.iter().filter(is_turn).collect();
    let mut running = Vec::new();
    if line.iter().any(|pending| overlap(pending) != Overlap::Allow) {
        match target::running(shared, &schedule.namespace, &state.running).await {
            Ok(open) => running = open,
            Err(refusal) => return Served { refused: Some(refusal), ..served },
        }
        served.ended = state.running.iter().filter(|id| !running.contains(id)).cloned().collect();
    }
    for pending in line {
        if served.fires.len() >= BATCH {
            break;
        }
        match overlap(pending).decide(!running.is_empty()) {
            Move::Wait => {
                served.waits_for = running.last().cloned();
                continue;
            }
            Move::Skip => {
                let still = running.last().map_or("", |id| id);
                let message = format!("{still}, started for an earlier time, still runs; overlap is SKIP");
                let now = shared.env.clock.now().wall;
                served.fires.push(skipped(schedule, pending, Reason::ScheduleOverlap, message, now));
                continue;
            }
            Move::CancelAndStart => {
                if let Err(refusal) = cancel_all(shared, schedule, &mut running, &mut served).await {
                    served.refused = Some(refusal);
                    return served;
                }
            }
            Move::Start => {}
        }
        match start(shared, schedule, pending, is_last_try).await {
            Ok(fire) => {
                if fire.outcome == Outcome::Started {
                    running.push(fire.target_id.clone());
                }
                served.fires.push(fire);
            }
            Err(refusal) => {
                served.refused = Some(refusal);
                return served;
            }
        }
    }
    served
}

async fn cancel_all(
    shared: &Arc<Shared>,
    schedule: &Schedule,
    running: &mut Vec<Arc<str>>,
    served: &mut Served,
) -> Result<(), Refusal> {
    while let Some(id) = running.last() {
        target::cancel(shared, schedule, id).await?;
        served.ended.extend(running.pop());
    }
    Ok(())
}

/// Makes one start. Refused: faults that pass.
async fn start(
    shared: &Arc<Shared>,
    schedule: &Schedule,
    pending: &Pending,
    is_last_try: bool,
) -> Result<Fire, Refusal> {
    let started = target::start(shared, schedule, pending).await;
    let (outcome, target_id, reason, message) = match started {
        Ok(started) => match started.denied {
            None => (Outcome::Started, started.target_id, "", String::new()),
            Some(why) => (Outcome::Failed, started.target_id, Reason::PolicyDenied.name(), why),
        },
        Err(refusal) if is_passing(&refusal) && !is_last_try => return Err(refusal),
        Err(refusal) => (Outcome::Failed, "".into(), refusal.reason.name(), refusal.message),
    };
    Ok(Fire {
        schedule_id: schedule.id.clone(),
        nominal: pending.nominal,
        cause: pending.cause,
        token: pending.token,
        outcome,
        time: shared.env.clock.now().wall,
        target_id,
        reason: reason.into(),
        message: message.into(),
    })
}

/// Whether the same start may well succeed in a moment. What is full or used up is no such fault: it is said at once.
fn is_passing(refusal: &Refusal) -> bool {
    refusal.reason.class() == Class::Unavailable || refusal.reason == Reason::Overloaded
}

/// Counts what was recorded.
pub(super) fn count(shared: &Shared, fires: &[Fire]) {
    let [started, skipped, failed] = &shared.metrics.schedule_fires;
    for fire in fires {
        match fire.outcome {
            Outcome::Started => add(started, 1),
            Outcome::Skipped => add(skipped, 1),
            Outcome::Failed => add(failed, 1),
            Outcome::Pending => {}
        }
    }
}

/// Makes a start that was asked for by hand, and records it. None if it is not in line any more.
pub(super) async fn trigger(
    shared: &Arc<Shared>,
    namespace: &Namespace,
    id: &Arc<str>,
    token: u128,
) -> Result<Option<Fire>, Refusal> {
    let rows = shared.catalog.rows();
    let found = pair(namespace, id, |key| rows.get(key).cloned())?;
    drop(rows);
    let Some(Pair { schedule, state, .. }) = found else { return Ok(None) };
    let Some(pending) = state.pending.iter().find(|one| one.token == token) else { return Ok(None) };
    let fire = match start(shared, &schedule, pending, false).await {
        Ok(fire) => fire,
        Err(refusal) => return Ok(Some(waiting(id, pending, &refusal, shared.env.clock.now().wall))),
    };
    let served = Served { fires: vec![fire.clone()], ..Served::default() };
    let key = key(namespace, id);
    let is_ours = Arc::new(AtomicBool::new(false));
    let told = is_ours.clone();
    change(shared, None, move |draft| {
        told.store(!record(draft, &key, &served)?.is_empty(), Ordering::Relaxed);
        Ok(())
    })
    .await?;
    // The task that runs schedules may have been faster.
    if is_ours.load(Ordering::Relaxed) {
        count(shared, std::slice::from_ref(&fire));
    }
    Ok(Some(fire))
}
