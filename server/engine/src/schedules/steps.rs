//! What is committed of a schedule: that times are in line, and what became of them. Decided on the newest state.

use super::rows::{self, Pair, pair, put_state};
use crate::catalog::Draft;
use coretex_domain::resource::ResourceKey;
use coretex_domain::{Reason, Refusal, Time};
use coretex_schedule::limits::{PENDING_MAX, RUNNING_MAX};
use coretex_schedule::{CatchUp, Cause, Fire, Outcome, Pending, Planned, Schedule, Skipped, State, plan};
use std::sync::Arc;

/// What was made of the line of a schedule.
#[derive(Default)]
pub(super) struct Served {
    pub(super) fires: Vec<Fire>,
    /// Targets that were found to have ended, or were cancelled.
    pub(super) ended: Vec<Arc<str>>,
    /// A passing fault: what is left is tried again.
    pub(super) refused: Option<Refusal>,
    /// What is left waits for this target.
    pub(super) waits_for: Option<Arc<str>>,
}

fn present(draft: &Draft<'_>, key: &ResourceKey) -> Result<Option<Pair>, Refusal> {
    pair(&key.namespace, &key.name, |key| draft.get(key))
}

/// Puts what is due in line, and says what was missed.
pub(super) fn plan_due(draft: &mut Draft<'_>, key: &ResourceKey) -> Result<Vec<Fire>, Refusal> {
    let Some(found) = present(draft, key)?.filter(|found| found.state.pause.is_none()) else {
        return Ok(Vec::new());
    };
    let (schedule, mut state) = (&found.schedule, (*found.state).clone());
    let definition = &schedule.definition;
    let plan = plan(&definition.rule, schedule.seed(), definition.catch_up, state.cursor, draft.now);
    state.cursor = plan.cursor;
    let mut fires: Vec<Fire> =
        plan.skipped.map(|skipped| missed(schedule, skipped, draft.now)).into_iter().collect();
    for planned in plan.start {
        let pending = pending_of(planned);
        if state.pending.len() < PENDING_MAX {
            state.pending.push(pending);
        } else {
            let message = format!("{PENDING_MAX} times wait for their turn already");
            fires.push(skipped(schedule, &pending, Reason::ScheduleQueueFull, message, draft.now));
        }
    }
    for fire in &fires {
        count(&mut state, fire);
        draft.put(rows::fire_row(&schedule.namespace, fire));
    }
    put_state(draft, &found, &state);
    Ok(fires)
}

fn pending_of(planned: Planned) -> Pending {
    let cause = if planned.is_late { Cause::CatchUp } else { Cause::Time };
    Pending { nominal: planned.nominal, cause, token: 0, is_in_line: false }
}

/// One record stands for all that was missed in a row.
fn missed(schedule: &Schedule, skipped_times: Skipped, now: Time) -> Fire {
    let timing = &schedule.definition.rule.timing;
    let catch_up = match schedule.definition.catch_up {
        CatchUp::Skip => "SKIP".to_owned(),
        CatchUp::One => "ONE".to_owned(),
        CatchUp::All { most } => format!("ALL, at most {most}"),
    };
    let message = format!(
        "all times from {} to {} were missed; catch_up is {catch_up}",
        timing.print(skipped_times.first),
        timing.print(skipped_times.last)
    );
    let pending = Pending { nominal: skipped_times.last, cause: Cause::CatchUp, token: 0, is_in_line: false };
    skipped(schedule, &pending, Reason::ScheduleMissed, message, now)
}

pub(super) fn skipped(
    schedule: &Schedule,
    pending: &Pending,
    reason: Reason,
    message: String,
    now: Time,
) -> Fire {
    Fire {
        schedule_id: schedule.id.clone(),
        nominal: pending.nominal,
        cause: pending.cause,
        token: pending.token,
        outcome: Outcome::Skipped,
        time: now,
        target_id: "".into(),
        reason: reason.name().into(),
        message: message.into(),
    }
}

/// Records what was made of the line. A time that is not in line any more was recorded by somebody else, or its schedule
/// is gone; what was started all the same is kept on record. The answer is what was recorded now.
pub(super) fn record(
    draft: &mut Draft<'_>,
    key: &ResourceKey,
    served: &Served,
) -> Result<Vec<Fire>, Refusal> {
    let found = present(draft, key)?;
    let mut state = found.as_ref().map(|found| (*found.state).clone()).unwrap_or_default();
    state.running.retain(|id| !served.ended.contains(id));
    let mut recorded = Vec::new();
    for fire in &served.fires {
        let is_it =
            |one: &Pending| (one.nominal, one.cause, one.token) == (fire.nominal, fire.cause, fire.token);
        let at = state.pending.iter().position(is_it);
        if at.is_none() && (found.is_some() || fire.outcome != Outcome::Started) {
            continue;
        }
        at.map(|at| state.pending.remove(at));
        count(&mut state, fire);
        if fire.outcome == Outcome::Started && !state.running.contains(&fire.target_id) {
            state.running.push(fire.target_id.clone());
        }
        draft.put(rows::fire_row(&key.namespace, fire));
        recorded.push(fire.clone());
    }
    let beyond = state.running.len().saturating_sub(RUNNING_MAX);
    state.running.drain(..beyond);
    if let Some(found) = found {
        put_state(draft, &found, &state);
    }
    Ok(recorded)
}

fn count(state: &mut State, fire: &Fire) {
    match fire.outcome {
        Outcome::Started => state.started += 1,
        Outcome::Skipped => state.skipped += 1,
        Outcome::Failed => state.failed += 1,
        Outcome::Pending => {}
    }
    state.last = Some(fire.clone());
}

/// Puts the next times of a backfill in line. `times` were found under `revision`, and those among them that were started
/// before are in `done`.
pub(super) fn refill(
    draft: &mut Draft<'_>,
    key: &ResourceKey,
    revision: u64,
    times: &[Time],
    done: &[Time],
) -> Result<(), Refusal> {
    let Some(found) = present(draft, key)? else { return Ok(()) };
    let mut state = (*found.state).clone();
    if found.schedule.revision != revision || state.pause.is_some() {
        return Ok(());
    }
    let Some(backfill) = state.backfills.first_mut() else { return Ok(()) };
    let is_in_line = backfill.is_in_line;
    match times.last() {
        Some(last) if last.0 + 1 < backfill.to.0 => backfill.next = Time(last.0 + 1),
        Some(_) | None => {
            state.backfills.remove(0);
        }
    }
    for nominal in times.iter().filter(|time| !done.contains(time)) {
        let is_there = state.pending.iter().any(|one| one.token == 0 && one.nominal == *nominal);
        if !is_there {
            let cause = Cause::Backfill;
            state.pending.push(Pending { nominal: *nominal, cause, token: 0, is_in_line });
        }
    }
    put_state(draft, &found, &state);
    Ok(())
}
