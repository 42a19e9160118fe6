//! A node's two clocks, as the engine keeps them: wall time that follows its source forward and never back.

use coretex_domain::Time;
use coretex_domain::time::Now;

/// Wall time at the beginning of every run, milliseconds since 1970.
pub(crate) const WALL_START_MS: u64 = 1_767_225_600_000;
/// Monotonic time of a process that has just begun.
const HEAD_START_MS: u64 = 3_600_000;

/// The clocks of one process.
#[derive(Clone, Debug)]
pub(crate) struct NodeClock {
    booted: u64,
    last: Now,
}

impl NodeClock {
    /// `offset` is how far the machine's wall clock is off.
    pub(crate) fn new(now: u64, offset: i64) -> NodeClock {
        NodeClock { booted: now, last: Now { wall: source(now, offset), mono: Time(HEAD_START_MS) } }
    }

    pub(crate) fn now(&mut self, now: u64, offset: i64) -> Now {
        let mono = Time(HEAD_START_MS + now.saturating_sub(self.booted));
        let own_pace = self.last.wall + mono.since(self.last.mono);
        self.last = Now { wall: source(now, offset).max(own_pace), mono };
        self.last
    }

    /// History has reached `floor`: time goes on from there.
    pub(crate) fn raise(&mut self, floor: Time) {
        self.last.wall = self.last.wall.max(floor);
    }

    /// Simulated time at which the monotonic clock shows `mono`.
    pub(crate) fn when(&self, mono: Time) -> u64 {
        self.booted + mono.0.saturating_sub(HEAD_START_MS)
    }
}

fn source(now: u64, offset: i64) -> Time {
    Time((WALL_START_MS + now).saturating_add_signed(offset))
}
