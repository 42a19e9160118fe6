//! The one source of chance: splitmix64, forked per actor so that dropping one leaves the others' rolls alone.

/// A stream of random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Rng {
    state: u64,
}

pub(crate) fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Rng {
    /// The stream of `actor` within `seed`.
    pub(crate) fn new(seed: u64, actor: u64) -> Rng {
        Rng { state: mix(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ mix(actor.wrapping_add(0x51_7c_c1_b7))) }
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    pub(crate) fn wide(&mut self) -> u128 {
        (u128::from(self.bits()) << 64) | u128::from(self.bits())
    }

    /// A number below `n`; zero for zero.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    /// True `parts` times in ten thousand.
    pub(crate) fn chance(&mut self, parts: u32) -> bool {
        self.below(10_000) < u64::from(parts)
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.index(list.len())]
    }

    /// Mostly small, sometimes large: between `low` and `high` on a logarithmic scale.
    pub(crate) fn skewed(&mut self, low: u64, high: u64) -> u64 {
        let steps = 64 - (high / low.max(1)).leading_zeros();
        let top = (low << self.below(u64::from(steps) + 1)).clamp(low, high);
        self.between(low, top)
    }
}
