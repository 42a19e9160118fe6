//! Time and chance as things that are handed in.

use coretex_domain::time::Now;
use std::sync::Arc;

/// Tells the time. Wall time never runs backwards within a process: when the system clock is set back it goes
/// on at the pace of the monotonic clock, when it is set forward it follows.
pub trait Clock: Send + Sync {
    fn now(&self) -> Now;
    /// Makes wall time at least `floor` from now on: what is stored was written by an earlier clock.
    fn raise(&self, floor: coretex_domain::Time);
    /// Completes no earlier than `at` on the monotonic clock.
    fn sleep_until(&self, at: coretex_domain::Time) -> crate::BoxFuture<()>;
}

/// Rolls dice: random bits for ids, jitter and tokens.
pub trait Dice: Send + Sync {
    fn bits(&self) -> u128;
}

/// What a server gets from the world besides its store.
#[derive(Clone)]
pub struct Env {
    pub clock: Arc<dyn Clock>,
    pub dice: Arc<dyn Dice>,
}
