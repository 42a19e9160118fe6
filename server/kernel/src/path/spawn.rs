//! Spawn: jobs that a worker makes of its job in; all of them, or a refusal that names the item, and a receipt out.
//!
//! They live on the shard of their parent: children, what they take of its budget and the receipt are one commit. What
//! was spawned under a name is the same over all attempts of the job, so a worker that died may ask again.
//!
//! Refuses: a lease that is not open, a job that is being cancelled, other children under the same name, too many, too
//! deep, more than is left of a budget.

use super::{ask, submit};
use crate::input::{Child, NewJob, Origin, Spawn as Spawning};
use crate::mutant::Mutant;
use crate::{Dispatcher, Turn, View};
use coretex_domain::job::{Family, Reserved, Spawn};
use coretex_domain::limits::{SPAWN_BOUND_MAX, SPAWN_DEPTH_MAX, SPAWNS_MAX};
use coretex_domain::receipt::{Dimension, Spawned, Told};
use coretex_domain::{Job, JobKey, Reason, Refusal};
use std::sync::Arc;

/// Nothing is told where the look-up for an earlier answer may be stale.
pub(crate) fn spawn(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    spawning: Spawning,
    turn: &mut Turn,
) -> Option<Result<Told, Refusal>> {
    let is_stale = view.may_have_departed(spawning.ask.job, spawning.ask.looked_at);
    (!is_stale).then(|| answer(view, dispatcher, spawning, turn))
}

fn answer(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    spawning: Spawning,
    turn: &mut Turn,
) -> Result<Told, Refusal> {
    ask::enter(view, &spawning.ask, turn)?;
    let key = spawning.ask.job;
    let Some(job) = view.job(key).cloned() else { return Err(ask::stale(spawning.ask.lease_id)) };
    let Spawning { ask, name, children, close_with_parent } = spawning;
    let met = known(&job, &name, ask.receipt.asked)?;
    let spawn = match met.filter(|_| !view.is_planted(Mutant::SpawnMadeTwice)) {
        Some(known) => known,
        None => {
            let count = u32::try_from(children.len()).unwrap_or(u32::MAX);
            let spawn = Spawn { name, asked: ask.receipt.asked, count, time: turn.now.wall };
            let given = allow(view, &job, &children, close_with_parent)?;
            note(view, key, &spawn, &given, turn);
            make(view, dispatcher, &job, Made { spawn: &spawn, children, given, close_with_parent }, turn);
            spawn
        }
    };
    let jobs = spawn.child_ids(&job.namespace, &job.id);
    let mut receipt = ask.receipt;
    receipt.told = Told::Spawned(Spawned { name: spawn.name, jobs });
    ask::write_down(view, key, ask.lease_id, &receipt, turn)?;
    Ok(receipt.told)
}

/// What the job spawned under this name before.
fn known(job: &Job, name: &str, asked: u128) -> Result<Option<Spawn>, Refusal> {
    let found = job.family().and_then(|family| family.spawns.iter().find(|spawn| &*spawn.name == name));
    match found {
        Some(spawn) if spawn.asked != asked => {
            let message = format!("the job spawned other children as `{name}` before");
            Err(Refusal::new(Reason::IdempotencyConflict, message))
        }
        found => Ok(found.cloned()),
    }
}

/// What each child is given of its parent's budget, if all of them may be made.
fn allow(
    view: &View,
    job: &Job,
    children: &[Child],
    close_with_parent: bool,
) -> Result<Vec<Reserved>, Refusal> {
    if job.is_cancel_requested() {
        let message = format!("job {} is being cancelled and makes no more jobs", job.id);
        return Err(Refusal::new(Reason::StaleLease, message));
    }
    let spawned = job.family().map_or(0, |family| family.spawns.len());
    if spawned >= SPAWNS_MAX {
        let message = format!("a job spawns at most {SPAWNS_MAX} times; ask for more children at a time");
        return Err(Refusal::new(Reason::TooMany, message));
    }
    if job.depth() >= SPAWN_DEPTH_MAX && !view.is_planted(Mutant::DepthNotChecked) {
        let message = format!("jobs spawn jobs at most {SPAWN_DEPTH_MAX} deep; job {} is that deep", job.id);
        return Err(Refusal::new(Reason::TooMany, message));
    }
    if close_with_parent {
        let bound = view.bound_together(job.key(), SPAWN_BOUND_MAX);
        if bound + children.len() > SPAWN_BOUND_MAX && !view.is_planted(Mutant::BoundNotChecked) {
            let message = format!(
                "at most {SPAWN_BOUND_MAX} open jobs end with one parent; {bound} do, \
                 and {} more were asked for",
                children.len()
            );
            return Err(Refusal::new(Reason::TooMany, message));
        }
    }
    shares(job, children)
}

/// A parent with a budget gives each child its own out of it.
fn shares(job: &Job, children: &[Child]) -> Result<Vec<Reserved>, Refusal> {
    let mut given = vec![Reserved::default(); children.len()];
    for dimension in Dimension::ALL {
        let Some(mut left) = job.unreserved(dimension) else { continue };
        for (index, (child, given)) in children.iter().zip(&mut given).enumerate() {
            let budget = &child.spec.options().budget;
            let wanted = match dimension {
                Dimension::Tokens => budget.max_tokens,
                Dimension::CostMicros => budget.max_cost_micros,
            };
            let field = format!("ask.spawn.specs[{index}].budget.max_{}", dimension.name());
            let Some(wanted) = wanted else {
                return Err(Refusal::field(
                    field,
                    "required: the parent has such a limit, and gives of its own",
                ));
            };
            if wanted > left {
                let message = format!("{field}: {wanted} wanted, {left} left of the parent's budget");
                return Err(Refusal::new(Reason::BudgetExceeded, message).fact("remaining", left.to_string()));
            }
            left -= wanted;
            *given.of_mut(dimension) = wanted;
        }
    }
    Ok(given)
}

fn note(view: &mut View, key: JobKey, spawn: &Spawn, given: &[Reserved], turn: &mut Turn) {
    let forgets = view.is_planted(Mutant::LoanForgotten);
    view.amend(key, turn, |job| {
        let family = job.family_mut();
        for dimension in Dimension::ALL.into_iter().filter(|_| !forgets) {
            let sum = given.iter().map(|one| one.of(dimension)).fold(0, u64::saturating_add);
            let lent = family.lent.of_mut(dimension);
            *lent = lent.saturating_add(sum);
        }
        family.spawns.push(spawn.clone());
    });
}

struct Made<'a> {
    spawn: &'a Spawn,
    children: Vec<Child>,
    given: Vec<Reserved>,
    close_with_parent: bool,
}

fn make(view: &mut View, dispatcher: &mut Dispatcher, job: &Arc<Job>, made: Made<'_>, turn: &mut Turn) {
    let ids = made.spawn.child_ids(&job.namespace, &job.id);
    let root = job.root();
    let actor: Option<Box<str>> = job.submitter().map(Into::into);
    for ((child, id), borrowed) in made.children.into_iter().zip(ids).zip(made.given) {
        let family = Family {
            root: root.clone(),
            depth: job.depth() + 1,
            closes_with_parent: made.close_with_parent,
            borrowed,
            ..Family::default()
        };
        let item = NewJob {
            id,
            spec: child.spec,
            origin: Origin::Fresh,
            known: None,
            retry_of: None,
            config: child.config,
            family: Some(Box::new(family)),
            of_run: None,
        };
        submit::make(view, dispatcher, &job.namespace, actor.clone(), item, turn);
    }
}
