//! When: a cron expression in a zone or an interval, between bounds, with jitter.

use crate::cron::Cron;
use crate::zone::{Meant, Zone};
use coretex_domain::{Span, Time};
use jiff::civil::DateTime;
use std::collections::VecDeque;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The nominal times of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub timing: Timing,
    /// No time before it.
    pub start: Option<Time>,
    /// No time at it or after.
    pub end: Option<Time>,
    /// Each time is put off by its own share of this, always the same one.
    pub jitter: Span,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Timing {
    Cron {
        cron: Cron,
        zone: Zone,
    },
    /// Times whose distance from the anchor is a multiple of the interval, before it as well as after.
    Every {
        interval: Span,
        anchor: Time,
    },
}

/// One nominal time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occurrence {
    pub time: Time,
    pub note: Option<Note>,
}

/// What clocks did at a nominal time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The local time does not exist on that day: it is the end of the jump.
    Gap { wanted: DateTime },
    /// The local time comes twice on that day: it is the first.
    Fold { wanted: DateTime },
}

/// A stretch that is looked through backwards at first; then four times as much.
const STRETCH: Span = Span::hours(1);

// === impl Rule ===

impl Rule {
    /// The first nominal time after an instant.
    pub fn next(&self, after: Time) -> Option<Occurrence> {
        let after = match self.start {
            Some(start) => after.max(Time(start.0.saturating_sub(1))),
            None => after,
        };
        self.timing.next(after).filter(|found| self.end.is_none_or(|end| found.time < end))
    }

    /// The newest nominal times after one instant and up to another, oldest first, at most so many.
    pub fn latest(&self, after: Time, until: Time, most: usize) -> Vec<Time> {
        let after = self.start.map_or(after, |start| after.max(Time(start.0.saturating_sub(1))));
        let until = self.end.map_or(until, |end| until.min(Time(end.0.saturating_sub(1))));
        match until > after {
            true => self.timing.latest(after, until, most),
            false => Vec::new(),
        }
    }

    /// Nominal times from one instant up to and without another, oldest first, at most so many.
    pub fn between(&self, from: Time, to: Time, most: usize) -> Vec<Time> {
        let first = self.next(Time(from.0.saturating_sub(1)));
        let times = std::iter::successors(first, |last| self.next(last.time)).map(|one| one.time);
        times.take_while(|time| *time < to).take(most).collect()
    }

    /// When a nominal time is handled: put off by jitter, but never as far as the next one. `seed` is that of the schedule.
    pub fn fire_time(&self, seed: u64, nominal: Time) -> Time {
        if self.jitter == Span::ZERO {
            return nominal;
        }
        let room = self.timing.next(nominal).map_or(self.jitter, |next| Span(next.time.since(nominal).0 - 1));
        let width = self.jitter.0.min(room.0);
        nominal + Span(xxh3_64_with_seed(&nominal.0.to_le_bytes(), seed) % (width + 1))
    }
}

// === impl Timing ===

impl Timing {
    fn next(&self, after: Time) -> Option<Occurrence> {
        match self {
            Timing::Cron { cron, zone } => next_of_cron(cron, zone, after),
            Timing::Every { interval, anchor } => {
                let phase = anchor.0 % interval.0.max(1);
                let time = match after.0.checked_sub(phase) {
                    None => phase,
                    Some(past) => {
                        let whole = past - past % interval.0.max(1);
                        whole.checked_add(phase)?.checked_add(interval.0.max(1))?
                    }
                };
                Some(Occurrence { time: Time(time), note: None })
            }
        }
    }

    fn latest(&self, after: Time, until: Time, most: usize) -> Vec<Time> {
        let mut stretch = STRETCH;
        loop {
            let from = match self {
                Timing::Cron { .. } => after.max(until - stretch),
                Timing::Every { interval, .. } => {
                    after.max(until - Span(interval.0.saturating_mul(most as u64 + 1)))
                }
            };
            let first = self.next(from);
            let mut newest = VecDeque::new();
            for found in std::iter::successors(first, |last| self.next(last.time)) {
                if found.time > until {
                    break;
                }
                if newest.len() == most {
                    newest.pop_front();
                }
                if most > 0 {
                    newest.push_back(found.time);
                }
            }
            if newest.len() == most || from == after {
                return newest.into();
            }
            stretch = Span(stretch.0.saturating_mul(4));
        }
    }

    /// A time as clocks of the schedule show it; UTC for intervals.
    pub fn print(&self, time: Time) -> String {
        match self {
            Timing::Cron { zone, .. } => zone.print(time),
            Timing::Every { .. } => Zone::utc().print(time),
        }
    }
}

/// Local times are walked, and each is asked when it is. A later local time is never an earlier instant, so nothing
/// before the local time of `after` need be looked at.
fn next_of_cron(cron: &Cron, zone: &Zone, after: Time) -> Option<Occurrence> {
    let mut from = zone.local(after)?;
    loop {
        let wanted = cron.next_local(from)?;
        let (time, meant) = zone.instant(wanted)?;
        if time > after {
            let note = match meant {
                Meant::Once => None,
                Meant::Gap => Some(Note::Gap { wanted }),
                Meant::Fold => Some(Note::Fold { wanted }),
            };
            return Some(Occurrence { time, note });
        }
        from = wanted.checked_add(jiff::SignedDuration::from_secs(60)).ok()?;
    }
}

// === impl Note ===

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Note::Gap { wanted } => {
                write!(f, "{} does not exist: clocks jump over it", wanted.strftime("%Y-%m-%dT%H:%M"))
            }
            Note::Fold { wanted } => {
                write!(f, "{} comes twice: this is the first", wanted.strftime("%Y-%m-%dT%H:%M"))
            }
        }
    }
}
