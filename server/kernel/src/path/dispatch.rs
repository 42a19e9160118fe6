//! Dispatch: ready jobs × session credit in; committed leases and deliveries out.
//!
//! A class at a time, best job first. What is held back by a limit is parked and comes back at its place when
//! the limit allows; nothing is polled.

use super::admit;
use crate::dispatcher::{Dry, Holder, LimitKey, Loan};
use crate::mutant::Mutant;
use crate::ready::Waiting;
use crate::view::{Class, ClassNo};
use crate::{Dispatcher, Turn, View};
use coretex_domain::job::{Event, Lease, State};
use coretex_domain::limits::OFFER_TTL;
use coretex_domain::topic::Rate;
use coretex_domain::{Job, JobKey};
use std::sync::Arc;

/// Most leases one turn opens, so that a group stays small enough to commit quickly.
const TURN_MAX: u32 = 4_096;

/// Lets every class with work borrow credit. Returns true if work was left behind for the next turn.
pub fn dispatch(view: &mut View, dispatcher: &mut Dispatcher, turn: &mut Turn) -> bool {
    let mut budget = TURN_MAX;
    while let Some(class) = view.dirty.pop_first() {
        serve(view, dispatcher, class, &mut budget, turn);
        if budget == 0 {
            view.dirty.insert(class);
            return true;
        }
    }
    false
}

fn serve(view: &mut View, dispatcher: &mut Dispatcher, class_no: ClassNo, budget: &mut u32, turn: &mut Turn) {
    let topic = view.topics[view.classes[class_no.0 as usize].topic.0 as usize].key.clone();
    while *budget > 0 {
        let Some((_, first)) = view.front(class_no, turn) else { return };
        let class: &Class = &view.classes[class_no.0 as usize];
        let want = u32::try_from(class.live.max(1)).unwrap_or(u32::MAX).min(*budget);
        let mut loan = match dispatcher.lend(&topic, &class.placement, want, turn.now.wall, view.who) {
            Ok(loan) => loan,
            Err(Dry::RateUntil(at)) => {
                view.class_wakes.insert((at, class_no));
                return;
            }
            Err(Dry::NoWorker | Dry::NoCredit | Dry::Paused | Dry::MaxRunning) => return,
        };
        let mut next = Some(first);
        while loan.left > 0 && *budget > 0 {
            let Some(waiting) = next else { break };
            if lease(view, dispatcher, class_no, waiting, &mut loan, turn) {
                *budget -= 1;
            }
            next = view.front(class_no, turn).map(|(_, w)| w);
        }
        dispatcher.give_back(&topic, &loan);
        view.trim_offers(loan.session);
    }
}

impl View {
    /// The best live entry of a class; dead ones are dropped on the way.
    fn front(&mut self, class_no: ClassNo, turn: &Turn) -> Option<(u8, Waiting)> {
        loop {
            let class = &mut self.classes[class_no.0 as usize];
            let topic = &self.topics[class.topic.0 as usize];
            let ageing =
                topic.row.as_ref().map_or(coretex_domain::limits::AGEING_DEFAULT, |r| r.settings.ageing());
            let (level, waiting) = class.ready.front(turn.now.wall, ageing)?;
            if self.is_waiting(waiting) {
                return Some((level, waiting));
            }
            self.classes[class_no.0 as usize].ready.take(level, waiting);
        }
    }
}

/// Opens a lease for one job. False if the job was parked, judged again or passed over.
fn lease(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    class_no: ClassNo,
    waiting: Waiting,
    loan: &mut Loan,
    turn: &mut Turn,
) -> bool {
    let key = waiting.key;
    view.thaw(key);
    let Some(job) = view.job(key).cloned() else { return false };
    view.classes[class_no.0 as usize].ready.take(job.spec.priority, waiting);
    view.unqueue(class_no, key);
    if !view.is_judged(&job) && !view.is_planted(Mutant::SkipPolicyRecheck) {
        view.apply(key, Event::Rejudged, turn);
        admit::admit(view, key, turn);
        revive_behind(view, &job);
        return false;
    }
    if !take_limits(view, dispatcher, &job, waiting, turn) {
        return false;
    }
    revive_behind(view, &job);
    let serial = match view.is_planted(Mutant::LeaseSerialReused) {
        true => job.counters.attempts + 1,
        false => job.counters.lease_serial + 1,
    };
    let lease = Box::new(Lease {
        serial,
        id: view.next_lease_id(job.shard),
        session: loan.session,
        worker_id: loan.worker_id.clone(),
        lane_id: loan.lane_id.clone(),
    });
    let lease_id = lease.id;
    drop(job);
    if !view.apply(key, Event::Dispatched(lease), turn) {
        return false;
    }
    loan.left -= 1;
    view.open_lease(loan.session, lease_id, key, turn.now.mono + OFFER_TTL);
    turn.delivered.push((loan.session, loan.lane_id.clone(), lease_id, key));
    true
}

/// The slot a job's lease holds, if its topic or spec asks for one.
pub(crate) fn slot_of(job: &Job, serial: u32) -> Option<(LimitKey, Holder)> {
    let key = job.spec.options.as_ref()?.concurrency_key.clone()?;
    let limit = LimitKey { namespace: job.namespace.clone(), topic: job.spec.topic.clone(), key };
    Some((limit, Holder { job: job.key(), serial }))
}

/// Takes a start of the rate key and a slot of the concurrency key, or parks the job behind what is missing.
fn take_limits(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    job: &Arc<Job>,
    waiting: Waiting,
    turn: &Turn,
) -> bool {
    let rate = rate_of(view, job);
    if let Some((key, rate)) = &rate
        && let Err(at) = dispatcher.take_rate(key, *rate, turn.now.wall)
    {
        view.key_wakes.insert((at, key.clone()));
        view.park(key.clone(), waiting, job.spec.priority);
        return false;
    }
    let Some((key, holder)) = slot_of(job, job.counters.lease_serial + 1) else { return true };
    let limit = view.settings(job).and_then(|s| s.concurrency_per_key).unwrap_or(1);
    if dispatcher.take_slot(&key, holder, limit, view.who) {
        if view.is_planted(Mutant::SlotReleasedTwice) {
            dispatcher.free_slot(&key, holder);
        }
        return true;
    }
    if let Some((rate_key, _)) = &rate {
        dispatcher.refund_rate(rate_key);
    }
    view.park(key, waiting, job.spec.priority);
    false
}

fn rate_of(view: &View, job: &Job) -> Option<(LimitKey, Rate)> {
    let name = job.spec.options.as_ref()?.rate_key.as_ref()?;
    let rate = view.settings(job)?.rate_per_key?;
    let key = format!("rate\0{name}").into();
    Some((LimitKey { namespace: job.namespace.clone(), topic: job.spec.topic.clone(), key }, rate))
}

impl View {
    fn park(&mut self, key: LimitKey, waiting: Waiting, priority: u8) {
        self.parked.entry(key).or_default().insert((waiting.place, waiting.key), priority);
    }
}

/// Brings parked jobs back to their places. A slot key frees few at a time, so only as many as may start come
/// back: the first, and those behind them as they leave the queue.
pub(crate) fn unpark(view: &mut View, key: &LimitKey) {
    revive(view, key, UNPARK_MAX);
}

/// A job has left the queue, started or not: the next one parked behind its keys takes its turn there. Without it
/// the rest would wait for a slot or start that nobody is going to free.
pub(crate) fn revive_behind(view: &mut View, job: &Job) {
    if view.parked.is_empty() || view.is_planted(Mutant::ParkedForgotten) {
        return;
    }
    let slot = slot_of(job, 0).map(|(key, _)| key);
    let rate = rate_of(view, job).map(|(key, _)| key);
    for key in [slot, rate].into_iter().flatten() {
        revive(view, &key, 1);
    }
}

fn revive(view: &mut View, key: &LimitKey, most: usize) {
    let Some(mut parked) = view.parked.remove(key) else { return };
    let mut revived = 0;
    while revived < most {
        let Some(((place, job_key), _)) = parked.pop_first() else { break };
        let Some(job) = view.job(job_key).cloned() else { continue };
        if matches!(job.state, State::Scheduled) && job.place == place {
            let class = view.class_of(&job);
            view.push_ready(class, &job, job_key);
            revived += 1;
        }
    }
    if !parked.is_empty() {
        view.parked.insert(key.clone(), parked);
    }
}

/// Jobs that return to the queue per freed slot or due start; the rest stay parked behind them.
const UNPARK_MAX: usize = 64;

/// True if the job is parked behind a limit.
pub(crate) fn parked_behind<'v>(view: &'v View, job: &Job, key: JobKey) -> Option<&'v LimitKey> {
    view.parked.iter().find(|(_, jobs)| jobs.contains_key(&(job.place, key))).map(|(limit, _)| limit)
}
