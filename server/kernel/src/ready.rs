//! The jobs of one class that may start now, in the order they should.
//!
//! Ten priority levels, each in order of place. A level gains one step per ageing span its oldest job has
//! waited, so nothing starves. Entries are checked when taken: a job that moved on leaves a dead entry behind.

use coretex_domain::job::PLACE_ORDER_BITS;
use coretex_domain::limits::PRIORITY_MAX;
use coretex_domain::{JobKey, Span, Time};
use std::collections::{BTreeMap, VecDeque};

const LEVELS: usize = PRIORITY_MAX as usize + 1;
/// Dead entries tolerated before a level is swept.
const SLACK: usize = 4_096;

/// One waiting job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub place: u64,
    pub key: JobKey,
}

impl Waiting {
    pub fn ready_time(self) -> Time {
        Time(self.place >> PLACE_ORDER_BITS)
    }
}

#[derive(Debug, Default)]
struct Level {
    /// In order of place: the common case appends.
    queue: VecDeque<Waiting>,
    /// Entries that came later than their place, such as returned offers.
    early: BTreeMap<(u64, JobKey), ()>,
}

/// The ready queue of one class.
#[derive(Debug, Default)]
pub struct ReadyQueue {
    levels: [Level; LEVELS],
    len: usize,
}

impl ReadyQueue {
    /// Entries, dead ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn push(&mut self, priority: u8, waiting: Waiting) {
        let level = &mut self.levels[usize::from(priority.min(PRIORITY_MAX))];
        self.len += 1;
        if level.queue.back().is_none_or(|last| last.place < waiting.place) {
            level.queue.push_back(waiting);
        } else {
            level.early.insert((waiting.place, waiting.key), ());
        }
    }

    /// The job that should start next, and its priority level.
    pub fn front(&self, now: Time, ageing: Span) -> Option<(u8, Waiting)> {
        let mut best: Option<(u64, u8, Waiting)> = None;
        for (number, level) in (0u8..).zip(&self.levels) {
            let Some(first) = level.first() else { continue };
            let waited = now.since(first.ready_time()).0;
            let score = u64::from(number).saturating_add(waited.checked_div(ageing.0).unwrap_or(0));
            let wins =
                best.is_none_or(|(top, _, other)| score > top || (score == top && first.place < other.place));
            if wins {
                best = Some((score, number, first));
            }
        }
        best.map(|(_, number, first)| (number, first))
    }

    /// Takes the front that [`ReadyQueue::front`] named.
    pub fn take(&mut self, priority: u8, waiting: Waiting) {
        let level = &mut self.levels[usize::from(priority)];
        if level.queue.front() == Some(&waiting) {
            level.queue.pop_front();
            self.len -= 1;
            if level.queue.is_empty() && level.queue.capacity() > SLACK {
                level.queue.shrink_to(SLACK);
            }
        } else if level.early.remove(&(waiting.place, waiting.key)).is_some() {
            self.len -= 1;
        }
    }

    /// The oldest ready time of all levels.
    pub fn oldest(&self) -> Option<Time> {
        self.levels.iter().filter_map(Level::first).map(Waiting::ready_time).min()
    }

    /// Drops dead entries when they are the larger part. `is_live` knows which are not.
    pub fn sweep(&mut self, live: usize, mut is_live: impl FnMut(Waiting) -> bool) {
        if self.len <= live.saturating_mul(2) + SLACK {
            return;
        }
        for level in &mut self.levels {
            level.queue.retain(|w| is_live(*w));
            level.early.retain(|(place, key), ()| is_live(Waiting { place: *place, key: *key }));
        }
        self.len = self.levels.iter().map(|l| l.queue.len() + l.early.len()).sum();
    }
}

impl Level {
    fn first(&self) -> Option<Waiting> {
        let early = self.early.keys().next().map(|(place, key)| Waiting { place: *place, key: *key });
        match (self.queue.front().copied(), early) {
            (Some(a), Some(b)) => Some(if b.place < a.place { b } else { a }),
            (a, b) => a.or(b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn w(ready_ms: u64, n: u128) -> Waiting {
        Waiting { place: (ready_ms << PLACE_ORDER_BITS) | n as u64, key: JobKey(n) }
    }

    fn drain(queue: &mut ReadyQueue, now: Time) -> Vec<u128> {
        std::iter::from_fn(|| {
            let (level, first) = queue.front(now, Span::secs(30))?;
            queue.take(level, first);
            Some(first.key.0)
        })
        .collect()
    }

    #[test]
    fn higher_priority_first_then_place_and_returned_jobs_keep_theirs() {
        let mut queue = ReadyQueue::default();
        queue.push(4, w(10, 1));
        queue.push(4, w(11, 2));
        queue.push(8, w(12, 3));
        queue.push(4, w(9, 4));
        assert_eq!(drain(&mut queue, Time(20)), [3, 4, 1, 2]);
        assert!(queue.is_empty());
    }

    #[test]
    fn waiting_raises_a_job_above_fresh_ones_of_higher_priority() {
        let mut queue = ReadyQueue::default();
        queue.push(2, w(0, 1));
        queue.push(6, w(119_000, 2));
        assert_eq!(drain(&mut queue, Time(119_500)), [2, 1]);
        queue.push(2, w(0, 1));
        queue.push(6, w(119_000, 2));
        assert_eq!(drain(&mut queue, Time(150_001)), [1, 2]);
    }

    proptest! {
        #[test]
        fn one_level_comes_out_in_order_of_place(places in prop::collection::vec(0u64..1_000, 0..200)) {
            let mut queue = ReadyQueue::default();
            for (n, ready) in places.iter().enumerate() {
                queue.push(4, w(*ready, n as u128));
            }
            let mut expected: Vec<Waiting> = places.iter().enumerate().map(|(n, r)| w(*r, n as u128)).collect();
            expected.sort_by_key(|x| x.place);
            let got = drain(&mut queue, Time(5_000));
            prop_assert_eq!(got, expected.into_iter().map(|x| x.key.0).collect::<Vec<_>>());
        }
    }
}
