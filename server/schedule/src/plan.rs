//! Which nominal times are to be handled now, and which were missed for good.

use crate::limits::LATE_AFTER;
use crate::rule::Rule;
use coretex_domain::Time;

/// What is done about times that were missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatchUp {
    /// Nothing.
    Skip,
    /// The newest of them is made up for.
    One,
    /// The newest ones are made up for, so many at most.
    All { most: u32 },
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Oldest first.
    pub start: Vec<Planned>,
    pub skipped: Option<Skipped>,
    /// The last time that is handled by this plan, or was before.
    pub cursor: Time,
    /// When to plan again. None: there is no further time.
    pub next: Option<Time>,
    /// The nominal time that is handled then.
    pub next_nominal: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    pub nominal: Time,
    pub is_late: bool,
}

/// Times that nothing is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skipped {
    pub first: Time,
    pub last: Time,
}

/// More times than can lie within [`LATE_AFTER`], whatever the jitter.
const ON_TIME_MAX: usize = 16;

/// Decides about all times after `cursor` whose turn it is.
pub fn plan(rule: &Rule, seed: u64, catch_up: CatchUp, cursor: Time, now: Time) -> Plan {
    let most = match catch_up {
        CatchUp::Skip => 0,
        CatchUp::One => 1,
        CatchUp::All { most } => most as usize,
    };
    let mut due = rule.latest(cursor, now, most + ON_TIME_MAX);
    // Jitter never reaches the next time, so only the newest may still have to wait.
    while due.last().is_some_and(|newest| rule.fire_time(seed, *newest) > now) {
        due.pop();
    }
    let is_late = |nominal: &Time| rule.fire_time(seed, *nominal) + LATE_AFTER < now;
    let late = due.iter().take_while(|nominal| is_late(nominal)).count();
    let dropped = late.saturating_sub(most);
    let last_dropped = dropped.checked_sub(1).and_then(|at| due.get(at)).copied();
    let skipped =
        last_dropped.map(|last| Skipped { first: rule.next(cursor).map_or(last, |found| found.time), last });
    let start = due.iter().enumerate().skip(dropped);
    let start = start.map(|(at, nominal)| Planned { nominal: *nominal, is_late: at < late }).collect();
    let cursor = due.last().copied().unwrap_or(cursor).max(cursor);
    let next_nominal = rule.next(cursor).map(|found| found.time);
    let next = next_nominal.map(|nominal| rule.fire_time(seed, nominal));
    Plan { start, skipped, cursor, next, next_nominal }
}
