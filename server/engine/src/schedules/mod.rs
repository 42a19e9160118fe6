//! The façade for schedules: applied, paused, triggered and backfilled as changes of the catalog.
//!
//! What was applied and how far it has come are two rows, so that a start does not write the input again. A start is
//! *planned* (its time is put in line), made, and *recorded*: three steps, of which the first and the last are commits. The id of
//! what is started follows from the time, so whatever happens between them is made up for by doing it again.

mod fires;
mod rows;
mod run;
mod serve;
mod steps;
mod target;

pub use fires::{FirePage, FireQuery};
pub(crate) use run::run;
pub use target::StartAs;

use crate::Engine;
use crate::api::{Caller, Once};
use crate::catalog::{Draft, check_revision};
use coretex_domain::{Namespace, Reason, Refusal, Time};
use coretex_records::schedule::write_schedule;
use coretex_schedule::limits::{
    BACKFILL_MAX, BACKFILLS_MAX, DEFINITION_BYTES_MAX, FIRE_RETENTION, PENDING_MAX, SCHEDULES_MAX,
};
use coretex_schedule::{
    Backfill, Cause, Definition, Fire, Outcome, Pause, Pending, Rule, Schedule, State, token_name,
};
use rows::{Pair, pair, put_state, state_row};
use std::sync::Arc;

/// A schedule, and how far it has come.
#[derive(Clone, Debug)]
pub struct ScheduleInfo {
    pub schedule: Arc<Schedule>,
    pub state: Arc<State>,
}

/// What is to be applied.
#[derive(Clone, Debug)]
pub struct ApplySchedule {
    pub id: Arc<str>,
    pub definition: Definition,
    /// The revision it rests on; 0 for any.
    pub revision: u64,
}

/// What a backfill will go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backfilled {
    pub count: usize,
    pub first: Option<Time>,
    pub last: Option<Time>,
}

// === impl ScheduleInfo ===

impl ScheduleInfo {
    /// The next nominal time and when it is handled; none after the end, and while paused.
    pub fn next(&self) -> Option<(Time, Time)> {
        if self.state.pause.is_some() {
            return None;
        }
        let rule = &self.schedule.definition.rule;
        let nominal = rule.next(self.state.cursor)?.time;
        Some((nominal, rule.fire_time(self.schedule.seed(), nominal)))
    }
}

pub(super) fn not_found(id: &str) -> Refusal {
    Refusal::new(Reason::ScheduleNotFound, format!("schedule {id} not found")).fact("schedule_id", id)
}

// === impl Engine ===

impl Engine {
    pub fn schedule(&self, namespace: &Namespace, id: &str) -> Result<ScheduleInfo, Refusal> {
        let rows = self.shared.catalog.rows();
        let found = pair(namespace, id, |key| rows.get(key).cloned())?;
        found.map(Pair::into_info).ok_or_else(|| not_found(id))
    }

    /// All of a namespace, by id. One that cannot be read is left out, and logged when it is to be run.
    pub fn schedules(&self, namespace: &Namespace) -> Vec<ScheduleInfo> {
        let rows = self.shared.catalog.rows();
        let named = rows::of_namespace(&rows, namespace);
        let read = |id: Arc<str>| pair(namespace, &id, |key| rows.get(key).cloned()).ok().flatten();
        named.filter_map(read).map(Pair::into_info).collect()
    }

    /// Makes a schedule or changes it; whether there was none before.
    pub async fn apply_schedule(
        &self,
        caller: &Caller,
        apply: ApplySchedule,
        once: Option<Once>,
    ) -> Result<(ScheduleInfo, bool), Refusal> {
        let (namespace, id) = (caller.namespace.clone(), apply.id.clone());
        let caller = caller.clone();
        self.change_catalog(once, move |draft| apply_to(draft, &caller, &apply)).await?;
        let info = self.schedule(&namespace, &id)?;
        let is_new = info.schedule.revision == 1;
        Ok((info, is_new))
    }

    pub async fn pause_schedule(
        &self,
        caller: &Caller,
        id: Arc<str>,
        reason: Arc<str>,
        once: Option<Once>,
    ) -> Result<ScheduleInfo, Refusal> {
        let actor = caller.actor.clone();
        self.change_state(&caller.namespace, &id, once, move |_, state, now| {
            state.pause = Some(Pause { reason, actor, time: now });
            Ok(())
        })
        .await?;
        self.schedule(&caller.namespace, &id)
    }

    /// What came during the pause is not made up for.
    pub async fn resume_schedule(
        &self,
        caller: &Caller,
        id: Arc<str>,
        once: Option<Once>,
    ) -> Result<ScheduleInfo, Refusal> {
        self.change_state(&caller.namespace, &id, once, |_, state, now| {
            if state.pause.take().is_some() {
                state.cursor = state.cursor.max(now);
            }
            Ok(())
        })
        .await?;
        self.schedule(&caller.namespace, &id)
    }

    /// Starts the target once, now. A repeat of the call is told what came of the first.
    pub async fn trigger_schedule(
        &self,
        caller: &Caller,
        id: Arc<str>,
        once: Option<Once>,
    ) -> Result<Fire, Refusal> {
        let namespace = &caller.namespace;
        let token = once.map_or_else(|| self.shared.env.dice.bits(), |once| once.id).max(1);
        self.change_state(namespace, &id, once, move |_, state, now| {
            if state.pending.len() >= PENDING_MAX {
                let message = format!("{PENDING_MAX} starts of this schedule wait for their turn already");
                return Err(Refusal::new(Reason::TooMany, message));
            }
            state.pending.push(Pending { nominal: now, cause: Cause::Trigger, token, is_in_line: false });
            Ok(())
        })
        .await?;
        // In a task of its own: a caller that goes away must not leave it half done for long.
        let (shared, space, asked) = (self.shared.clone(), namespace.clone(), id.clone());
        let serving = tokio::spawn(async move { serve::trigger(&shared, &space, &asked, token).await });
        if let Some(fire) = serving.await.unwrap_or_else(|_| Err(crate::reloaded()))? {
            return Ok(fire);
        }
        let key = rows::fire_key(namespace, token_name(&id, token));
        let found = self.read_resources(vec![key]).await?;
        rows::fire(found.first().ok_or_else(|| not_found(&id))?)
    }

    /// Whether it was there.
    pub async fn delete_schedule(
        &self,
        namespace: &Namespace,
        id: Arc<str>,
        revision: u64,
        once: Option<Once>,
    ) -> Result<bool, Refusal> {
        let (key, state_key) = (rows::key(namespace, &id), rows::state_key(namespace, &id));
        let was_there = self.resource(&key).is_some();
        let decide = move |draft: &mut Draft<'_>| {
            let Some(present) = draft.get(&key) else { return Ok(()) };
            check_revision("the schedule", revision, present.revision)?;
            draft.end(key);
            draft.end(state_key);
            Ok(())
        };
        self.change_catalog(once, decide).await?;
        Ok(was_there)
    }

    /// Puts the nominal times of a stretch of the past in line, as far as nothing was started for them.
    pub async fn backfill_schedule(
        &self,
        caller: &Caller,
        id: Arc<str>,
        (from, to): (Time, Option<Time>),
        is_in_line: bool,
        once: Option<Once>,
    ) -> Result<Backfilled, Refusal> {
        let now = self.shared.env.clock.now().wall;
        let to = to.unwrap_or(now).min(now);
        let info = self.schedule(&caller.namespace, &id)?;
        let found = stretch(&info, from, to, now)?;
        let actor = caller.actor.clone();
        self.change_state(&caller.namespace, &id, once, move |_, state, now| {
            if state.backfills.len() >= BACKFILLS_MAX {
                let message = format!("{BACKFILLS_MAX} backfills of this schedule are under way already");
                return Err(Refusal::new(Reason::TooMany, message));
            }
            if found.count > 0 {
                let to = found.last.map_or(to, |last| Time(last.0 + 1));
                let backfill = Backfill { from, to, next: from, is_in_line, actor, create_time: now };
                state.backfills.push(backfill);
            }
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// Changes how far a schedule has come.
    async fn change_state(
        &self,
        namespace: &Namespace,
        id: &Arc<str>,
        once: Option<Once>,
        change: impl FnOnce(&Schedule, &mut State, Time) -> Result<(), Refusal> + Send + 'static,
    ) -> Result<(), Refusal> {
        let (namespace, id) = (namespace.clone(), id.clone());
        let decide = move |draft: &mut Draft<'_>| {
            let found = pair(&namespace, &id, |key| draft.get(key))?.ok_or_else(|| not_found(&id))?;
            let mut state = (*found.state).clone();
            change(&found.schedule, &mut state, draft.now)?;
            put_state(draft, &found, &state);
            Ok(())
        };
        self.change_catalog(once, decide).await?;
        Ok(())
    }
}

/// What a backfill would go through. A time that has not been handled yet is not in it: its own turn comes.
fn stretch(info: &ScheduleInfo, from: Time, to: Time, now: Time) -> Result<Backfilled, Refusal> {
    if from >= to {
        return Err(Refusal::field("from_time", "must be before to_time and before now"));
    }
    if now.since(from) > FIRE_RETENTION {
        let rule =
            format!("must be at most {FIRE_RETENTION} ago: what was started before is not known any more");
        return Err(Refusal::field("from_time", rule));
    }
    let to = match info.state.pause {
        Some(_) => to,
        None => to.min(Time(info.state.cursor.0 + 1)),
    };
    let times = info.schedule.definition.rule.between(from, to, BACKFILL_MAX + 1);
    if times.len() > BACKFILL_MAX {
        let runs = estimate(&info.schedule.definition.rule, &times, from, to);
        let message = format!("from_time: {runs} runs > {BACKFILL_MAX}; backfill it in parts");
        return Err(Refusal::new(Reason::BatchTooLarge, message).fact("limit", BACKFILL_MAX.to_string()));
    }
    Ok(Backfilled { count: times.len(), first: times.first().copied(), last: times.last().copied() })
}

/// How many times a stretch has: counted where that is cheap, told as a lower bound otherwise.
fn estimate(rule: &Rule, times: &[Time], from: Time, to: Time) -> String {
    match &rule.timing {
        coretex_schedule::Timing::Every { interval, .. } => {
            let (from, to) =
                (rule.start.map_or(from, |at| at.max(from)), rule.end.map_or(to, |at| at.min(to)));
            (to.since(from).0 / interval.0.max(1)).max(times.len() as u64).to_string()
        }
        coretex_schedule::Timing::Cron { .. } => format!("at least {}", times.len()),
    }
}

fn apply_to(draft: &mut Draft<'_>, caller: &Caller, apply: &ApplySchedule) -> Result<(), Refusal> {
    let (key, now) = (rows::key(&caller.namespace, &apply.id), draft.now);
    let present = draft.get(&key);
    check_revision("the schedule", apply.revision, present.as_ref().map_or(0, |row| row.revision))?;
    if present.is_none() && rows::count(draft, &caller.namespace) >= SCHEDULES_MAX {
        let message = format!("there are {SCHEDULES_MAX} schedules in the namespace, as many as allowed");
        return Err(Refusal::new(Reason::TooMany, message));
    }
    let body = write_schedule(&caller.actor, &apply.definition);
    if body.len() > DEFINITION_BYTES_MAX {
        let message =
            format!("spec: must be at most {DEFINITION_BYTES_MAX} bytes as it is kept, got {}", body.len());
        return Err(Refusal::new(Reason::PayloadTooLarge, message));
    }
    if present.as_ref().is_some_and(|row| row.body == body) {
        return Ok(());
    }
    let before = pair(&caller.namespace, &apply.id, |key| draft.get(key));
    draft.put(rows::definition_row(&key, body, present.as_deref(), now));
    let rule = &apply.definition.rule;
    let state = match before {
        Ok(Some(before)) if is_same_time(&before.schedule.definition.rule, rule) => return Ok(()),
        // What the new times would have been until now is past.
        Ok(Some(before)) => State { cursor: before.state.cursor.max(now), ..(*before.state).clone() },
        // New, or past reading: it begins now.
        Ok(None) | Err(_) => State { cursor: now, ..State::default() },
    };
    let present = draft.get(&rows::state_key(&caller.namespace, &apply.id));
    draft.put(state_row(&caller.namespace, &apply.id, &state, present.as_deref(), now));
    Ok(())
}

fn is_same_time(a: &Rule, b: &Rule) -> bool {
    (&a.timing, a.start, a.end) == (&b.timing, b.start, b.end)
}

/// The fire of a start that has not been made yet.
fn waiting(id: &Arc<str>, pending: &Pending, refusal: &Refusal, now: Time) -> Fire {
    Fire {
        schedule_id: id.clone(),
        nominal: pending.nominal,
        cause: pending.cause,
        token: pending.token,
        outcome: Outcome::Pending,
        time: now,
        target_id: "".into(),
        reason: refusal.reason.name().into(),
        message: refusal.message.as_str().into(),
    }
}
