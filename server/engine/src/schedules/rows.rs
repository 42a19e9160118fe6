//! Rows of the catalog that schedules are, and records of what they did.

use super::ScheduleInfo;
use crate::catalog::{Draft, Rows};
use bytes::Bytes;
use coretex_domain::resource::{Kind, Resource, ResourceKey};
use coretex_domain::{Namespace, Reason, Refusal, ShardId, Time};
use coretex_records::Damaged;
use coretex_records::schedule::{fire_of, schedule_of, state_of, write_fire, write_state};
use coretex_schedule::limits::FIRE_RETENTION;
use coretex_schedule::{Fire, Schedule, State};
use std::sync::Arc;

/// After the id of a schedule, in the name of the row that says how far it has come. No id has a blank.
const STATE: &str = " state";

/// Both rows of a schedule, and what they say.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) definition_row: Arc<Resource>,
    pub(super) state_row: Arc<Resource>,
    pub(super) schedule: Arc<Schedule>,
    pub(super) state: Arc<State>,
}

pub(super) fn key(namespace: &Namespace, id: &str) -> ResourceKey {
    ResourceKey::new(Kind::Schedule, namespace.clone(), id)
}

pub(super) fn state_key(namespace: &Namespace, id: &str) -> ResourceKey {
    ResourceKey::new(Kind::Schedule, namespace.clone(), format!("{id}{STATE}"))
}

pub(super) fn fire_key(namespace: &Namespace, name: Arc<str>) -> ResourceKey {
    ResourceKey::new(Kind::ScheduleFire, namespace.clone(), name)
}

/// A schedule from its rows; none if it is not there.
pub(super) fn pair(
    namespace: &Namespace,
    id: &str,
    get: impl Fn(&ResourceKey) -> Option<Arc<Resource>>,
) -> Result<Option<Pair>, Refusal> {
    let rows = get(&key(namespace, id)).zip(get(&state_key(namespace, id)));
    let Some((definition_row, state_row)) = rows else { return Ok(None) };
    let schedule = schedule_of(&definition_row).map_err(|why| damaged(&definition_row, &why))?;
    let state = state_of(&state_row.body).map_err(|why| damaged(&state_row, &why))?;
    Ok(Some(Pair { definition_row, state_row, schedule: schedule.into(), state: state.into() }))
}

fn damaged(one: &Resource, why: &Damaged) -> Refusal {
    let message = format!("{} {} of namespace {}: {why}", one.kind, one.name, one.namespace);
    Refusal::new(Reason::DataCorruption, message)
}

fn is_definition(name: &str) -> bool {
    !name.ends_with(STATE)
}

/// Ids of the schedules of a namespace, in order.
pub(super) fn of_namespace<'a>(
    rows: &'a Rows,
    namespace: &'a Namespace,
) -> impl Iterator<Item = Arc<str>> + 'a {
    let ours = rows.range(key(namespace, "")..);
    let ours = ours.take_while(|(key, _)| key.kind == Kind::Schedule && key.namespace == *namespace);
    ours.filter(|(key, _)| is_definition(&key.name)).map(|(key, _)| key.name.clone())
}

/// All schedules there are.
pub(super) fn all(rows: &Rows) -> impl Iterator<Item = (&ResourceKey, &Arc<Resource>)> {
    let ours = rows.range(key(&Namespace::new(""), "")..).take_while(|(key, _)| key.kind == Kind::Schedule);
    ours.filter(|(key, _)| is_definition(&key.name))
}

pub(super) fn count(draft: &Draft<'_>, namespace: &Namespace) -> usize {
    draft.all(Kind::Schedule, namespace).iter().filter(|one| is_definition(&one.name)).count()
}

pub(super) fn definition_row(
    key: &ResourceKey,
    body: Bytes,
    present: Option<&Resource>,
    now: Time,
) -> Resource {
    row(key.clone(), body, present, now)
}

pub(super) fn state_row(
    namespace: &Namespace,
    id: &str,
    state: &State,
    present: Option<&Resource>,
    now: Time,
) -> Resource {
    row(state_key(namespace, id), write_state(state), present, now)
}

/// Changes how far a schedule has come, if that is a change.
pub(super) fn put_state(draft: &mut Draft<'_>, pair: &Pair, state: &State) {
    if *state != *pair.state {
        let (namespace, id) = (&pair.schedule.namespace, &pair.schedule.id);
        draft.put(state_row(namespace, id, state, Some(&pair.state_row), draft.now));
    }
}

fn row(key: ResourceKey, body: Bytes, present: Option<&Resource>, now: Time) -> Resource {
    Resource {
        kind: key.kind,
        namespace: key.namespace,
        name: key.name,
        shard: ShardId::CATALOG,
        revision: present.map_or(0, |one| one.revision) + 1,
        is_live: true,
        create_time: present.map_or(now, |one| one.create_time),
        update_time: now,
        expire_time: None,
        body,
    }
}

/// The record of a fire, filed by its nominal time.
pub(super) fn fire_row(namespace: &Namespace, fire: &Fire) -> Resource {
    Resource {
        kind: Kind::ScheduleFire,
        namespace: namespace.clone(),
        name: fire.name(),
        shard: ShardId::CATALOG,
        revision: 1,
        is_live: false,
        create_time: fire.nominal,
        update_time: fire.time,
        expire_time: Some(fire.time.max(fire.nominal) + FIRE_RETENTION),
        body: write_fire(fire),
    }
}

pub(super) fn fire(one: &Resource) -> Result<Fire, Refusal> {
    fire_of(&one.body).map_err(|why| damaged(one, &why))
}

// === impl Pair ===

impl Pair {
    pub(super) fn into_info(self) -> ScheduleInfo {
        ScheduleInfo { schedule: self.schedule, state: self.state }
    }
}
