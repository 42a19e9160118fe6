//! Lanes: what may run at a time, what waits for it, and how much more is asked for.

use crate::worker::executor::Start;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;

/// The first grant of a session.
const FIRST_GRANT_MAX: u32 = 8;
/// Jobs that run shorter than this on the average are worth holding in advance.
const SHORT: Duration = Duration::from_millis(50);

/// What is fixed about a lane.
#[derive(Clone, Debug)]
pub(crate) struct LanePlan {
    pub(crate) name: String,
    pub(crate) slots: u32,
    pub(crate) prefetch_max: u32,
    /// Prefetch only while jobs are short.
    pub(crate) is_prefetch_auto: bool,
    pub(crate) slot_class: &'static str,
}

pub(crate) struct Lane {
    pub(crate) plan: LanePlan,
    starts: mpsc::UnboundedSender<Vec<Start>>,
    queue: VecDeque<Start>,
    ready: Vec<Start>,
    /// Costs held, and of those running.
    held: u32,
    running: u32,
    /// Caps the server set.
    running_max: u32,
    prefetch_cap: u32,
    is_paused: bool,
    /// How much is asked for; grows from the first grant to all there is room for.
    window: u32,
    granted: u64,
    assigned: u64,
    mean_ms: f32,
    samples: u32,
}

// === impl Lane ===

impl Lane {
    pub(crate) fn new(plan: LanePlan, starts: mpsc::UnboundedSender<Vec<Start>>) -> Self {
        Self {
            window: plan.slots.min(FIRST_GRANT_MAX),
            running_max: plan.slots,
            prefetch_cap: plan.prefetch_max,
            plan,
            starts,
            queue: VecDeque::new(),
            ready: Vec::new(),
            held: 0,
            running: 0,
            is_paused: false,
            granted: 0,
            assigned: 0,
            mean_ms: 0.0,
            samples: 0,
        }
    }

    /// Takes an assignment against its credit. False when it was not granted.
    pub(crate) fn assign(&mut self, cost: u32) -> bool {
        self.assigned += u64::from(cost);
        self.assigned <= self.granted
    }

    pub(crate) fn hold(&mut self, cost: u32, start: Start) {
        self.held += cost;
        self.queue.push_back(start);
    }

    /// A lease left the lane, having run or not.
    pub(crate) fn leave(&mut self, cost: u32, has_run: bool) {
        self.held = self.held.saturating_sub(cost);
        if has_run {
            self.running = self.running.saturating_sub(cost);
        }
    }

    pub(crate) fn ran(&mut self, took: Duration) {
        self.samples = self.samples.saturating_add(1);
        let weight = 1.0 / self.samples.min(64) as f32;
        self.mean_ms += (took.as_secs_f32() * 1e3 - self.mean_ms) * weight;
    }

    /// The next job that may start, with its cost.
    pub(crate) fn next_start(&mut self) -> Option<Start> {
        if self.is_paused || self.running >= self.running_max {
            return None;
        }
        self.queue.pop_front()
    }

    pub(crate) fn begin(&mut self, cost: u32, start: Start) {
        self.running += cost;
        self.ready.push(start);
    }

    /// Hands over what begins.
    pub(crate) fn launch(&mut self) {
        if !self.ready.is_empty() {
            // The executor ends with its runtime; then the guards of its tasks report for it.
            let _ = self.starts.send(std::mem::take(&mut self.ready));
        }
    }

    fn room(&self) -> u32 {
        let is_short = self.samples >= 8 && self.mean_ms < SHORT.as_secs_f32() * 1e3;
        let prefetch = if self.plan.is_prefetch_auto && !is_short { 0 } else { self.prefetch_cap };
        self.running_max.saturating_add(prefetch)
    }

    /// An acknowledgement came: twice as much may be asked for.
    pub(crate) fn grow(&mut self) {
        self.window =
            self.window.saturating_mul(2).min(self.plan.slots.saturating_add(self.plan.prefetch_max));
    }

    /// The new total, when there is something to grant.
    pub(crate) fn grant(&mut self) -> Option<u64> {
        let free = self.window.min(self.room()).saturating_sub(self.held);
        let total = self.assigned + u64::from(free);
        (total > self.granted).then(|| {
            self.granted = total;
            total
        })
    }

    /// A new stream: the account begins at what the server says was used.
    pub(crate) fn restart(&mut self, assigned: u64, is_new_session: bool) {
        (self.assigned, self.granted) = (assigned, assigned);
        if is_new_session {
            self.window = self.plan.slots.min(FIRST_GRANT_MAX);
        }
    }

    pub(crate) fn pause(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    pub(crate) fn configure(&mut self, running_max: u32, prefetch: u32) {
        let slots = self.plan.slots;
        self.running_max = if running_max == 0 { slots } else { running_max.min(slots) };
        self.prefetch_cap = prefetch.min(self.plan.prefetch_max);
    }

    pub(crate) fn slots_free(&self) -> u32 {
        self.running_max.saturating_sub(self.running)
    }

    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(slots: u32, prefetch_max: u32) -> Lane {
        let plan = LanePlan {
            name: "default".into(),
            slots,
            prefetch_max,
            is_prefetch_auto: false,
            slot_class: "async",
        };
        Lane::new(plan, mpsc::unbounded_channel().0)
    }

    #[test]
    fn the_first_grant_is_small_and_doubles_to_all_there_is_room_for() {
        let mut lane = lane(100, 20);
        assert_eq!(lane.grant(), Some(8));
        assert_eq!(lane.grant(), None, "nothing new to grant");
        for expected in [16, 32, 64, 120] {
            lane.grow();
            assert_eq!(lane.grant(), Some(expected));
        }
        lane.grow();
        assert_eq!(lane.grant(), None);
    }

    #[test]
    fn a_lease_that_leaves_is_granted_again() {
        let mut lane = lane(2, 0);
        assert_eq!(lane.grant(), Some(2));
        assert!(lane.assign(1) && lane.assign(1));
        lane.held = 2;
        assert_eq!(lane.grant(), None);
        assert!(!lane.assign(1), "beyond what was granted");
        lane.leave(1, false);
        assert_eq!(lane.grant(), Some(4));
    }

    #[test]
    fn a_new_stream_grants_what_is_free_from_the_servers_count() {
        let mut lane = lane(8, 0);
        lane.grant();
        for _ in 0..5 {
            lane.assign(1);
        }
        lane.held = 3;
        lane.restart(0, false);
        assert_eq!(lane.grant(), Some(5));
        lane.restart(40, false);
        assert_eq!(lane.grant(), Some(45));
    }

    #[test]
    fn a_smaller_cap_grants_nothing_until_there_is_room() {
        let mut lane = lane(8, 0);
        assert_eq!(lane.grant(), Some(8));
        for _ in 0..8 {
            lane.assign(1);
        }
        lane.held = 8;
        lane.configure(4, 0);
        lane.leave(3, false);
        assert_eq!(lane.grant(), None);
        lane.leave(2, false);
        assert_eq!(lane.grant(), Some(9));
    }
}
