//! A clock that stands still until a test moves it.

use coretex_domain::Time;
use coretex_domain::time::Now;
use coretex_ports::{BoxFuture, Clock};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// Monotonic time at the beginning: an hour, so that subtracting a span never meets zero.
const MONO_START: Time = Time(3_600_000);
/// Steps of a move: whatever wakes up within one has run before the next begins.
const STEPS_MAX: u64 = 64;
/// How long everybody gets to do what has become due.
const SETTLE: Duration = Duration::from_millis(2);

/// Wall and monotonic time, moved together by [`advance`](TestClock::advance).
#[derive(Debug)]
pub struct TestClock {
    now: watch::Sender<Now>,
    /// Two moves at a time would overtake each other.
    moving: tokio::sync::Mutex<()>,
    /// Wall time set back and forth by tests is kept from running backwards, as the real clock does.
    newest_wall: Mutex<Time>,
}

impl TestClock {
    /// A clock that starts at the present time.
    #[expect(clippy::new_without_default, reason = "a clock has a beginning: making one is an act")]
    pub fn new() -> TestClock {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        TestClock::starting_at(Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
    }

    /// A clock that starts at this wall time.
    pub fn starting_at(wall: Time) -> TestClock {
        let now = watch::channel(Now { wall, mono: MONO_START }).0;
        TestClock { now, moving: tokio::sync::Mutex::new(()), newest_wall: Mutex::new(wall) }
    }

    /// Moves time forward, in steps, so that what becomes due on the way happens on the way.
    pub async fn advance(&self, span: Duration) {
        let _only = self.moving.lock().await;
        let total = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let step = total.div_ceil(STEPS_MAX).max(1);
        let mut left = total;
        while left > 0 {
            let ms = step.min(left);
            left -= ms;
            self.now.send_modify(|now| {
                now.mono = Time(now.mono.0.saturating_add(ms));
                now.wall = Time(now.wall.0.saturating_add(ms));
            });
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// Sets wall time alone, as an operator or a time server would. Backwards has no effect until it has caught up.
    pub fn set_wall(&self, wall: Time) {
        self.now.send_modify(|now| now.wall = wall);
    }
}

impl Clock for TestClock {
    fn raise(&self, floor: Time) {
        let mut newest = self.newest_wall.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *newest = (*newest).max(floor);
    }

    fn now(&self) -> Now {
        let mut now = *self.now.borrow();
        let mut newest = self.newest_wall.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *newest = (*newest).max(now.wall);
        now.wall = *newest;
        now
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<()> {
        let mut seen = self.now.subscribe();
        Box::pin(async move {
            // A clock that is gone never strikes.
            if seen.wait_for(|now| now.mono >= at).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn sleepers_wake_when_time_has_passed_them() {
        let clock = Arc::new(TestClock::new());
        let start = clock.now().mono;
        let sleeper = tokio::spawn(clock.sleep_until(Time(start.0 + 1_000)));
        clock.advance(Duration::from_millis(999)).await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_millis(1)).await;
        sleeper.await.expect("woken");
        assert_eq!(clock.now().mono, Time(start.0 + 1_000));
    }

    #[tokio::test]
    async fn wall_time_never_runs_backwards() {
        let clock = TestClock::starting_at(Time(10_000));
        assert_eq!(clock.now().wall, Time(10_000));
        clock.set_wall(Time(5_000));
        assert_eq!(clock.now().wall, Time(10_000));
        clock.set_wall(Time(20_000));
        assert_eq!(clock.now().wall, Time(20_000));
    }
}
