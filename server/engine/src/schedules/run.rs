//! The task that runs schedules: plans what is due, makes the starts in line, and sleeps until the next time.

use super::rows::{self, Pair, pair};
use super::serve::{count, serve};
use super::steps::{Served, plan_due, record, refill};
use super::target;
use crate::catalog::change;
use crate::shard::WALL_SLEEP_MAX;
use crate::shared::Shared;
use coretex_domain::resource::{Resource, ResourceKey};
use coretex_domain::time::Now;
use coretex_domain::{Refusal, Span, Time};
use coretex_schedule::limits::{BACKFILL_BATCH, RETRY_FOR};
use coretex_schedule::{Cause, Fire, Outcome, fire_name};
use futures::{StreamExt as _, stream};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::JoinSet;

/// Schedules whose starts are made at a time.
const AT_ONCE: usize = 32;
/// Waits between tries of a start that meets a passing fault.
const RETRY_FIRST: Span = Span::secs(1);
const RETRY_MOST: Span = Span::secs(30);
/// Wait after a commit that did not succeed.
const COMMIT_RETRY: Span = Span::secs(1);

/// What the task knows of one schedule.
struct Known {
    pair: Pair,
    /// When its next time is handled.
    due: Option<Time>,
    retry: Option<Retry>,
    /// It was gone through as it stands, and nothing more can be done.
    is_done: bool,
}

/// A start that met a passing fault.
#[derive(Clone, Copy)]
struct Retry {
    first: Time,
    tries: u32,
    /// On the monotonic clock, as all here.
    not_before: Time,
}

#[derive(Default)]
struct Desk {
    known: BTreeMap<ResourceKey, Known>,
    /// Those that cannot be read, so that each is said once.
    unreadable: BTreeMap<ResourceKey, Arc<Resource>>,
    /// Schedules for which somebody waits for the end of a target.
    watched: BTreeSet<ResourceKey>,
}

/// Runs schedules for as long as the engine runs.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut changes = shared.catalog.changes();
    let mut desk = Desk::default();
    let mut watches = JoinSet::new();
    loop {
        changes.borrow_and_update();
        desk.refresh(&shared);
        match desk.step(&shared, &mut watches).await {
            // Something changed: there may be more to do.
            Ok(true) => continue,
            Ok(false) => {}
            Err(refusal) => {
                tracing::warn!(%refusal, "schedules could not be written; trying again");
                let soon = shared.env.clock.now().mono + COMMIT_RETRY;
                shared.env.clock.sleep_until(soon).await;
                continue;
            }
        }
        let alarm = desk.alarm(shared.env.clock.now()).map(|at| shared.env.clock.sleep_until(at));
        tokio::select! {
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            Some(ended) = watches.join_next() => {
                if let Ok(key) = ended {
                    desk.look_again(&key);
                }
            }
            () = async { match alarm { Some(alarm) => alarm.await, None => std::future::pending().await } } => {}
        }
    }
}

// === impl Desk ===

impl Desk {
    /// Takes in what has changed in the catalog.
    fn refresh(&mut self, shared: &Shared) {
        let catalog = shared.catalog.rows();
        let mut before = std::mem::take(&mut self.known);
        for (key, definition) in rows::all(&catalog) {
            let state = catalog.get(&rows::state_key(&key.namespace, &key.name));
            let known = before.remove(key);
            let is_same = |known: &Known| {
                Arc::ptr_eq(&known.pair.definition_row, definition)
                    && state.is_some_and(|state| Arc::ptr_eq(&known.pair.state_row, state))
            };
            if let Some(known) = known {
                let retry = known.retry;
                if is_same(&known) {
                    self.known.insert(key.clone(), known);
                    continue;
                }
                self.read(&catalog, key, definition, retry);
            } else if !self.unreadable.get(key).is_some_and(|seen| Arc::ptr_eq(seen, definition)) {
                self.read(&catalog, key, definition, None);
            }
        }
        self.unreadable.retain(|key, _| catalog.contains_key(key));
    }

    fn read(
        &mut self,
        catalog: &crate::catalog::Rows,
        key: &ResourceKey,
        definition: &Arc<Resource>,
        retry: Option<Retry>,
    ) {
        match pair(&key.namespace, &key.name, |key| catalog.get(key).cloned()) {
            Ok(Some(pair)) => {
                let due = pair.clone().into_info().next().map(|(_, fire_time)| fire_time);
                let retry = retry.filter(|_| !pair.state.pending.is_empty());
                self.known.insert(key.clone(), Known { pair, due, retry, is_done: false });
            }
            Ok(None) => {}
            Err(refusal) => {
                tracing::error!(%refusal, "a schedule cannot be read; it is not run");
                self.unreadable.insert(key.clone(), definition.clone());
            }
        }
    }

    fn look_again(&mut self, key: &ResourceKey) {
        self.watched.remove(key);
        if let Some(known) = self.known.get_mut(key) {
            known.is_done = false;
        }
    }

    /// Does what can be done now; whether anything was committed.
    async fn step(
        &mut self,
        shared: &Arc<Shared>,
        watches: &mut JoinSet<ResourceKey>,
    ) -> Result<bool, Refusal> {
        let has_planned = self.plan(shared).await?;
        let has_refilled = self.refill(shared).await?;
        if has_planned || has_refilled {
            return Ok(true);
        }
        let served = self.serve(shared).await;
        self.take_in(shared, watches, served).await
    }

    /// Puts all that is due in line, in one commit.
    async fn plan(&mut self, shared: &Arc<Shared>) -> Result<bool, Refusal> {
        let now = shared.env.clock.now().wall;
        let is_due = |known: &Known| known.due.is_some_and(|due| due <= now);
        let due: Vec<ResourceKey> =
            self.known.iter().filter(|(_, known)| is_due(known)).map(|(key, _)| key.clone()).collect();
        if due.is_empty() {
            return Ok(false);
        }
        let skipped: Arc<Mutex<Vec<Fire>>> = Arc::default();
        let told = skipped.clone();
        change(shared, None, move |draft| {
            for key in &due {
                let fires = plan_due(draft, key)?;
                told.lock().unwrap_or_else(PoisonError::into_inner).extend(fires);
            }
            Ok(())
        })
        .await?;
        count(shared, &skipped.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(true)
    }

    /// Puts the next times of backfills in line whose last ones have been made.
    async fn refill(&self, shared: &Arc<Shared>) -> Result<bool, Refusal> {
        let mut has_any = false;
        for (key, known) in &self.known {
            let (schedule, state) = (&known.pair.schedule, &known.pair.state);
            let has_some = state.pending.iter().any(|one| one.cause == Cause::Backfill);
            let Some(backfill) = state.backfills.first().filter(|_| !has_some && state.pause.is_none())
            else {
                continue;
            };
            let times = schedule.definition.rule.between(backfill.next, backfill.to, BACKFILL_BATCH);
            let names = times.iter().map(|time| fire_name(&schedule.id, *time));
            let keys = names.map(|name| rows::fire_key(&key.namespace, name)).collect();
            let mut done = Vec::new();
            for row in shared.read_resources(keys).await? {
                let fire = rows::fire(&row)?;
                if fire.outcome == Outcome::Started {
                    done.push(fire.nominal);
                }
            }
            let (key, revision) = (key.clone(), schedule.revision);
            change(shared, None, move |draft| refill(draft, &key, revision, &times, &done)).await?;
            has_any = true;
        }
        Ok(has_any)
    }

    /// Goes through the lines of all schedules that have one.
    async fn serve(&self, shared: &Arc<Shared>) -> Vec<(ResourceKey, Served)> {
        let now = shared.env.clock.now().mono;
        let is_turn = |known: &Known| {
            !known.is_done
                && !known.pair.state.pending.is_empty()
                && known.retry.is_none_or(|retry| retry.not_before <= now)
        };
        let turns = self.known.iter().filter(|(_, known)| is_turn(known));
        let work: Vec<_> = turns
            .map(|(key, known)| {
                let is_last_try = known.retry.is_some_and(|retry| now.since(retry.first) >= RETRY_FOR);
                serve_one(shared.clone(), key.clone(), known.pair.clone(), is_last_try)
            })
            .collect();
        stream::iter(work).buffer_unordered(AT_ONCE).collect().await
    }

    /// Records what was made, in one commit, and remembers what is to be tried or waited for.
    async fn take_in(
        &mut self,
        shared: &Arc<Shared>,
        watches: &mut JoinSet<ResourceKey>,
        all: Vec<(ResourceKey, Served)>,
    ) -> Result<bool, Refusal> {
        let now = shared.env.clock.now().mono;
        for (key, served) in &all {
            let Some(known) = self.known.get_mut(key) else { continue };
            known.is_done = served.refused.is_none();
            known.retry = served.refused.as_ref().map(|refusal| {
                tracing::info!(%refusal, schedule = %key.name, namespace = %key.namespace, "a start is tried again");
                next_try(known.retry, now)
            });
            if let Some(id) = served.waits_for.clone()
                && self.watched.insert(key.clone())
            {
                let (ended, key) = (target::ended(shared.clone(), key.namespace.clone(), id), key.clone());
                watches.spawn(async move {
                    ended.await;
                    key
                });
            }
        }
        let made: Vec<_> = all.into_iter().filter(|(_, served)| !served.fires.is_empty()).collect();
        if made.is_empty() {
            return Ok(false);
        }
        let recorded: Arc<Mutex<Vec<Fire>>> = Arc::default();
        let told = recorded.clone();
        change(shared, None, move |draft| {
            for (key, served) in &made {
                let fires = record(draft, key, served)?;
                told.lock().unwrap_or_else(PoisonError::into_inner).extend(fires);
            }
            Ok(())
        })
        .await?;
        count(shared, &recorded.lock().unwrap_or_else(PoisonError::into_inner));
        shared.clean_soon.notify_one();
        Ok(true)
    }

    /// When to look again, on the monotonic clock. Wall time may be set forward while we sleep: it is looked at now and
    /// then while something waits for it.
    fn alarm(&self, now: Now) -> Option<Time> {
        let due = self.known.values().filter_map(|known| known.due).min();
        let due = due.map(|at| now.mono + at.since(now.wall).min(WALL_SLEEP_MAX));
        let retry = self.known.values().filter_map(|known| known.retry).map(|retry| retry.not_before).min();
        [due, retry].into_iter().flatten().min()
    }
}

async fn serve_one(
    shared: Arc<Shared>,
    key: ResourceKey,
    pair: Pair,
    is_last_try: bool,
) -> (ResourceKey, Served) {
    let served = serve(&shared, &pair.schedule, &pair.state, is_last_try).await;
    (key, served)
}

fn next_try(before: Option<Retry>, now: Time) -> Retry {
    let (first, tries) = before.map_or((now, 0), |before| (before.first, before.tries + 1));
    let wait = Span((RETRY_FIRST.0 << tries.min(5)).min(RETRY_MOST.0));
    Retry { first, tries, not_before: now + wait }
}
