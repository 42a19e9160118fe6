//! The real clock and the real dice.

use coretex_domain::Time;
use coretex_domain::time::Now;
use coretex_ports::{BoxFuture, Clock, Dice};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall time that follows the system clock forward and never back; monotonic time since start.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    last: Mutex<Now>,
}

impl SystemClock {
    #[expect(clippy::new_without_default, reason = "a clock has a beginning: making one is an act")]
    pub fn new() -> SystemClock {
        // Monotonic time starts at one hour, so that subtracting a span never meets zero.
        let start = Now { wall: system_wall(), mono: Time(HEAD_START_MS) };
        SystemClock { start: Instant::now(), last: Mutex::new(start) }
    }
}

const HEAD_START_MS: u64 = 3_600_000;

fn system_wall() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Clock for SystemClock {
    fn now(&self) -> Now {
        let elapsed = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mono = Time(HEAD_START_MS + elapsed);
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let own_pace = last.wall + mono.since(last.mono);
        let now = Now { wall: system_wall().max(own_pace), mono: mono.max(last.mono) };
        *last = now;
        now
    }

    fn raise(&self, floor: Time) {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        last.wall = last.wall.max(floor);
    }

    fn sleep_until(&self, at: Time) -> BoxFuture<()> {
        let deadline = self.start + Duration::from_millis(at.0.saturating_sub(HEAD_START_MS));
        Box::pin(tokio::time::sleep_until(deadline.into()))
    }
}

/// Random bits from the operating system's hasher keys, stretched by BLAKE3.
pub struct SystemDice {
    stream: Mutex<blake3::OutputReader>,
}

impl SystemDice {
    #[expect(clippy::new_without_default, reason = "dice draw entropy: making them is an act")]
    pub fn new() -> SystemDice {
        use std::hash::{BuildHasher, Hasher};
        let mut seed = blake3::Hasher::new();
        // Each RandomState carries keys drawn from the operating system.
        for _ in 0..4 {
            let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
            hasher.write_u64(u64::from(std::process::id()));
            seed.update(&hasher.finish().to_le_bytes());
        }
        if let Ok(mut random) = std::fs::File::open("/dev/urandom") {
            let mut bytes = [0u8; 64];
            if std::io::Read::read_exact(&mut random, &mut bytes).is_ok() {
                seed.update(&bytes);
            }
        }
        seed.update(&system_wall().0.to_le_bytes());
        SystemDice { stream: Mutex::new(seed.finalize_xof()) }
    }
}

impl Dice for SystemDice {
    fn bits(&self) -> u128 {
        let mut bytes = [0u8; 16];
        self.stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner).fill(&mut bytes);
        u128::from_le_bytes(bytes)
    }
}
