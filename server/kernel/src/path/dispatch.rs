//! Dispatch: ready jobs × session credit in; committed leases and deliveries out.
//!
//! A class at a time, best job first. What is held back by a limit is parked and comes back at its place when
//! the limit allows; nothing is polled.

use super::{admit, family};
use crate::dispatcher::{Dry, LimitKey, Loan};
use crate::limits::{own_slot, rule_slot};
use crate::mutant::Mutant;
use crate::parked::pass_on;
use crate::ready::Waiting;
use crate::view::{Class, ClassNo};
use crate::{Dispatcher, Turn, View};
use coretex_domain::Job;
use coretex_domain::job::{Event, Lease};
use coretex_domain::limits::OFFER_TTL;
use coretex_domain::topic::Rate;
use std::sync::Arc;

/// Most leases one turn opens, so that a group stays small enough to commit quickly.
const TURN_MAX: u32 = 4_096;

/// Lets every class with work borrow credit. Returns true if work was left behind for the next turn.
pub fn dispatch(view: &mut View, dispatcher: &mut Dispatcher, turn: &mut Turn) -> bool {
    for key in std::mem::take(&mut view.unasked) {
        admit::admit(view, dispatcher, key, turn);
    }
    // What ends with its parent is not handed out in the same turn.
    family::follow(view, turn);
    let mut budget = TURN_MAX;
    while let Some(class) = view.next_dirty() {
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
    /// The next class to look at, in turn: what classes share, such as the slots of a rule, is not always the first one's.
    fn next_dirty(&mut self) -> Option<ClassNo> {
        let class = self.dirty.range(self.next_class..).next().or(self.dirty.first()).copied()?;
        self.dirty.remove(&class);
        self.next_class = ClassNo(class.0.wrapping_add(1));
        Some(class)
    }

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
        admit::admit(view, dispatcher, key, turn);
        return false;
    }
    if !take_limits(view, dispatcher, &job, (class_no, waiting), turn) {
        return false;
    }
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

/// Takes a start of the rate key, a slot of the concurrency key and one of the rule: all or none. A job that misses
/// one is parked behind it.
fn take_limits(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    job: &Arc<Job>,
    (class, waiting): (ClassNo, Waiting),
    turn: &Turn,
) -> bool {
    let serial = job.counters.lease_serial + 1;
    let rate = rate_of(view, job);
    let rule = rule_slot(job, serial);
    if let Some((key, rate)) = &rate
        && let Err(at) = dispatcher.take_rate(key, *rate, turn.now.wall)
    {
        view.key_wakes.insert((at, key.clone()));
        view.parked.park(key.clone(), class, waiting);
        pass_on(view, class, rule.as_deref());
        return false;
    }
    let own = own_slot(job, serial);
    if let Some((key, holder)) = &own {
        let limit = view.settings(job).and_then(|s| s.concurrency_per_key).unwrap_or(1);
        if !dispatcher.take_slot(key, *holder, limit, view.who) {
            refund(dispatcher, rate.as_ref());
            view.parked.park(key.clone(), class, waiting);
            pass_on(view, class, rule.as_deref());
            return false;
        }
        if view.is_planted(Mutant::SlotReleasedTwice) {
            dispatcher.free_slot(key, *holder);
        }
    }
    let Some((key, holder)) = rule.as_deref() else { return true };
    let limit = job.constraints().and_then(|constraints| constraints.budgets.max_concurrent).unwrap_or(1);
    if dispatcher.take_slot(key, *holder, limit, view.who) || view.is_planted(Mutant::RuleSlotIgnored) {
        return true;
    }
    // What shares the concurrency key does not overtake: it goes on when this job leaves the queue.
    if let Some((key, holder)) = &own {
        dispatcher.return_slot(key, *holder);
    }
    refund(dispatcher, rate.as_ref());
    view.parked.park(key.clone(), class, waiting);
    false
}

fn refund(dispatcher: &mut Dispatcher, rate: Option<&(LimitKey, Rate)>) {
    if let Some((key, _)) = rate {
        dispatcher.refund_rate(key);
    }
}

pub(crate) fn rate_of(view: &View, job: &Job) -> Option<(LimitKey, Rate)> {
    let name = job.spec.options.as_ref()?.rate_key.as_ref()?;
    let rate = view.settings(job)?.rate_per_key?;
    Some((LimitKey::rate(job, name), rate))
}
