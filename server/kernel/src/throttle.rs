//! Throttle: jobs whose rule has a rate wait in line, PENDING, until the rate lets them in.
//!
//! One line per (namespace, rule, key) in order of arrival, and one alarm per line: a job that waits costs nothing
//! until its turn, and has one history entry for it. The rate itself is the node's, in its dispatcher.

use crate::dispatcher::LimitKey;
use crate::mutant::Mutant;
use crate::path::admit::admit;
use crate::timers::is_paced;
use crate::{Dispatcher, Turn, View};
use coretex_domain::job::{Event, State};
use coretex_domain::policy::{Decision, Throttle};
use coretex_domain::{Job, JobKey, Span, Time};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most jobs one line lets in per turn.
const LET_IN_MAX: usize = 8_192;

/// The lines of one loop.
#[derive(Debug, Default)]
pub(crate) struct Throttled {
    lines: FxHashMap<LimitKey, Line>,
    places: FxHashMap<JobKey, (LimitKey, u64)>,
    arrivals: u64,
}

#[derive(Debug)]
struct Line {
    jobs: BTreeMap<u64, JobKey>,
    /// When the first may come in.
    alarm: Time,
}

/// What a throttle says to a job.
pub(crate) enum Paced {
    /// It may come in now.
    In,
    /// It waits until then, or a little longer.
    Waits(Time),
    /// It is in line already.
    Stays,
}

// === impl Throttled ===

impl Throttled {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    fn is_in(&self, job: JobKey, limit: &LimitKey) -> bool {
        self.places.get(&job).is_some_and(|(line, _)| line == limit)
    }

    fn first(&self, limit: &LimitKey) -> Option<JobKey> {
        self.lines.get(limit)?.jobs.first_key_value().map(|(_, job)| *job)
    }

    /// How many wait in line before a job, and when the first of them may come in.
    pub(crate) fn ahead_of(&self, job: JobKey) -> (usize, Time) {
        let place = self.places.get(&job).and_then(|(limit, place)| Some((self.lines.get(limit)?, *place)));
        place.map_or((0, Time(0)), |(line, place)| (line.jobs.range(..place).count(), line.alarm))
    }

    /// How many wait in a line.
    pub(crate) fn waiting(&self, limit: &LimitKey) -> u64 {
        self.lines.get(limit).map_or(0, |line| line.jobs.len() as u64)
    }
}

// === impl View: lines ===

impl View {
    fn wait_in_line(&mut self, job: JobKey, limit: &LimitKey, alarm: Time) {
        self.throttled.arrivals += 1;
        let place = self.throttled.arrivals;
        self.throttled.places.insert(job, (limit.clone(), place));
        if let Some(line) = self.throttled.lines.get_mut(limit) {
            line.jobs.insert(place, job);
            return;
        }
        let line = Line { jobs: BTreeMap::from([(place, job)]), alarm };
        self.throttled.lines.insert(limit.clone(), line);
        self.key_wakes.insert((alarm, limit.clone()));
    }

    /// The job is not in line any more, if it was. The last one takes the line's alarm with it.
    pub(crate) fn stop_waiting(&mut self, job: JobKey) {
        if self.throttled.places.is_empty() {
            return;
        }
        let Some((limit, place)) = self.throttled.places.remove(&job) else { return };
        let Some(line) = self.throttled.lines.get_mut(&limit) else { return };
        line.jobs.remove(&place);
        if line.jobs.is_empty() {
            let alarm = line.alarm;
            self.throttled.lines.remove(&limit);
            self.key_wakes.remove(&(alarm, limit));
        }
    }

    fn set_line_alarm(&mut self, limit: &LimitKey, at: Time) {
        let Some(line) = self.throttled.lines.get_mut(limit) else { return };
        let before = std::mem::replace(&mut line.alarm, at);
        self.key_wakes.remove(&(before, limit.clone()));
        self.key_wakes.insert((at, limit.clone()));
    }
}

/// Asks the rate for a job that was judged just now. A job that was let in before, and is judged again, comes in free
/// where the same rate says so.
pub(crate) fn pace(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    job: &Job,
    decision: &Decision,
    throttle: &Throttle,
    now: Time,
) -> Paced {
    let key = job.key();
    let limit = LimitKey::throttle(job, decision, throttle);
    if view.throttled.is_in(key, &limit) {
        return Paced::Stays;
    }
    view.stop_waiting(key);
    if was_let_in(job, &limit) {
        return Paced::In;
    }
    if let Some(at) = job.spec.options().schedule_time.filter(|at| *at > now) {
        let waits = matches!(&job.state, State::Pending(Some(why)) if why.0 == at);
        return if waits { Paced::Stays } else { Paced::Waits(at) };
    }
    let ahead = view.throttled.waiting(&limit);
    if ahead == 0 && dispatcher.take_rate(&limit, throttle.rate(), now).is_ok() {
        return Paced::In;
    }
    let first = dispatcher.start_at(&limit, throttle.rate(), 1, now);
    view.wait_in_line(key, &limit, first);
    Paced::Waits(dispatcher.start_at(&limit, throttle.rate(), ahead + 1, now))
}

/// True if the job comes from the queue, where this very rate let it in.
fn was_let_in(job: &Job, limit: &LimitKey) -> bool {
    let was_in = job.place != 0 && matches!(job.state, State::Pending(None));
    was_in && job.decision.as_deref().is_some_and(|old| limit_of(job, old).as_ref() == Some(limit))
}

fn limit_of(job: &Job, decision: &Decision) -> Option<LimitKey> {
    Some(LimitKey::throttle(job, decision, decision.throttle()?))
}

/// A line's time has come: as many as the rate allows come in, first come first served.
pub(crate) fn let_in(view: &mut View, dispatcher: &mut Dispatcher, limit: &LimitKey, turn: &mut Turn) {
    let now = turn.now.wall;
    for _ in 0..LET_IN_MAX {
        let Some(key) = view.throttled.first(limit) else { return };
        if view.job(key).is_some_and(|job| !view.is_judged(job)) {
            return judge_again(view, dispatcher, limit, turn);
        }
        let rate = view.job(key).and_then(|job| Some(job.decision.as_ref()?.throttle()?.rate()));
        let Some(rate) = rate else {
            view.stop_waiting(key);
            continue;
        };
        if !view.is_planted(Mutant::ThrottleForgotten)
            && let Err(at) = dispatcher.take_rate(limit, rate, now)
        {
            return view.set_line_alarm(limit, at);
        }
        let place = view.next_place(now);
        if !view.apply(key, Event::Admitted { place }, turn) {
            view.stop_waiting(key);
        }
    }
    view.set_line_alarm(limit, now + Span(1));
}

/// The policy changed while nobody was here: it may have another rate, or none. All in line are asked about, in order.
fn judge_again(view: &mut View, dispatcher: &mut Dispatcher, limit: &LimitKey, turn: &mut Turn) {
    let line: Vec<JobKey> =
        view.throttled.lines.get(limit).map(|line| line.jobs.values().copied().collect()).unwrap_or_default();
    line.iter().for_each(|key| view.stop_waiting(*key));
    line.iter().for_each(|key| admit(view, dispatcher, *key, turn));
}

/// A job that waited in line before this process began goes back there.
pub(crate) fn rejoin(view: &mut View, key: JobKey, now: Time) {
    let Some(job) = view.job(key).filter(|job| is_paced(job)) else { return };
    let limit = job.decision.as_deref().and_then(|decision| limit_of(job, decision));
    if let Some(limit) = limit {
        view.wait_in_line(key, &limit, now);
    }
}

/// Counts a job that was let in before this process began against its rate, as far as it is still open and not long ago.
/// What has ended since is not known any more: at most one burst too many may start.
pub(crate) fn count(dispatcher: &mut Dispatcher, job: &Arc<Job>, now: Time) {
    if job.place == 0 || matches!(job.state, State::Pending(_)) {
        return;
    }
    let Some((decision, throttle)) = job.decision.as_deref().and_then(|d| Some((d, d.throttle()?))) else {
        return;
    };
    let let_in = job.history.iter().rev().find(|entry| matches!(entry.event, Event::Admitted { .. }));
    let ago = let_in.map_or(throttle.per, |entry| now.since(entry.time));
    if ago < throttle.per {
        dispatcher.count_start(&LimitKey::throttle(job, decision, throttle), throttle.rate(), ago, now);
    }
}
