//! What verdicts promise: no rate is exceeded, no rule has more leases than slots, no budget is gone beyond.

use super::Oracle;
use super::family::limit_of;
use coretex_domain::job::{Close, Event, EventKind, Job, StateKind};
use coretex_domain::topic::Rate;
use coretex_domain::{Span, Time};
use coretex_kernel::dispatcher::LimitKey;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;

/// Times kept per line: more than any burst of these runs, so that every window is looked at.
const TIMES_KEPT: usize = 256;

/// One life of a node: its buckets begin full with it.
pub(crate) type LifeOfNode = (usize, u32, u32);

#[derive(Default)]
pub(super) struct Promised {
    /// When jobs were let in, per line and life of a node.
    lines: FxHashMap<(LifeOfNode, LimitKey), (Option<Rate>, VecDeque<Time>)>,
    /// Open leases per rule, and the most any version of it allowed.
    pub(super) rules: FxHashMap<LimitKey, (u32, u32)>,
}

/// Tokens used.
fn tokens(job: &Job) -> u64 {
    job.rare().usage.as_ref().map_or(0, |used| used.tokens_in + used.tokens_out)
}

impl Oracle {
    /// Jobs let in by a turn. One that was let in before and is only judged again takes no start.
    pub(super) fn check_rate(&mut self, life: LifeOfNode, job: &Job, fresh: usize) {
        let Some(decision) = &job.decision else { return };
        let Some(throttle) = decision.throttle() else { return };
        let first = job.history.len().saturating_sub(fresh);
        for at in first..job.history.len() {
            let entry = &job.history[at];
            let before = at.checked_sub(1).map(|n| job.history[n].event.kind());
            if entry.event.kind() != EventKind::Admitted || before == Some(EventKind::Rejudged) {
                continue;
            }
            if job.history[at..].iter().any(|later| later.event.kind() == EventKind::Rejudged) {
                // Let in by the version before, at its rate; the decision of that is not seen here any more.
                continue;
            }
            let line = (life, LimitKey::throttle(job, decision, throttle));
            let (rate, times) = self.promised.lines.entry(line).or_default();
            if *rate != Some(throttle.rate()) {
                (*rate, *times) = (Some(throttle.rate()), VecDeque::new());
            }
            times.push_back(entry.time);
            if times.len() > TIMES_KEPT {
                times.pop_front();
            }
            if let Some((count, span)) = worst(times, throttle.limit, throttle.per) {
                let (limit, per) = (throttle.limit, throttle.per);
                let id = job.id.clone();
                self.violate("RATE", || {
                    format!("job {id}: {count} let in within {span:?}, where {limit} per {per:?} may be")
                });
            }
        }
    }

    /// Open leases of a rule against its slots.
    pub(super) fn count_rule(&mut self, old: Option<&Job>, job: &Job) {
        let rule = |job: &Job| {
            let decision = job.decision.as_ref().filter(|_| job.state.lease().is_some())?;
            let most = decision.constraints()?.budgets.max_concurrent?;
            Some((LimitKey::rule(job, decision), most))
        };
        if let Some((key, _)) = old.and_then(rule) {
            self.promised.rules.entry(key).or_default().0 -= 1;
        }
        let Some((key, most)) = rule(job) else { return };
        let (count, limit) = self.promised.rules.entry(key).or_default();
        *count += 1;
        *limit = most.max(*limit);
        if *count > *limit {
            let (count, limit, id) = (*count, *limit, job.id.clone());
            self.violate("I-28", || {
                format!("job {id}: {count} open leases of its rule, at most {limit} may be")
            });
        }
    }

    /// No success beyond the budget, no lease with nothing left, and none is said to be spent that is not.
    pub(super) fn check_budget(
        &mut self,
        old: Option<&Job>,
        job: &Job,
        fresh: &[coretex_domain::job::Entry],
    ) {
        let has_ended = old.is_none_or(|old| !old.state.kind().is_terminal());
        let (used, lent) = (tokens(job), job.lent().tokens);
        if let Some(limit) = limit_of(job) {
            if has_ended && job.state.kind() == StateKind::Succeeded && used > 0 && used + lent > limit {
                let id = job.id.clone();
                self.violate("BUDGET", || {
                    format!("job {id} succeeded with {used} tokens of {limit}, {lent} lent")
                });
            }
            let before = old.map_or(0, tokens);
            let is_leased = fresh.iter().any(|entry| entry.event.kind() == EventKind::Dispatched);
            if is_leased && before > 0 && before >= limit {
                let id = job.id.clone();
                self.violate("BUDGET", || {
                    format!("job {id} was leased with {before} tokens used of {limit}")
                });
            }
        }
        let is_spent = |entry: &coretex_domain::job::Entry| matches!(&entry.event, Event::Failed(closed) if closed.close == Close::OverBudget);
        if fresh.iter().any(is_spent) {
            let is_beyond = |limit| used > 0 && (used >= limit || used + lent > limit);
            let is_right = limit_of(job).is_some_and(is_beyond);
            if !is_right {
                let id = job.id.clone();
                self.violate("BUDGET", || format!("job {id} was stopped within its budget"));
            }
        }
    }
}

/// A window that ends now and has more in it than a bucket of `limit` can give.
fn worst(times: &VecDeque<Time>, limit: u32, per: Span) -> Option<(u64, Span)> {
    let now = *times.back()?;
    (1u64..).zip(times.iter().rev()).find_map(|(count, at)| {
        let span = now.since(*at);
        let most = u64::from(limit) + span.0 * u64::from(limit) / per.0.max(1);
        (count > most).then_some((count, span))
    })
}
