//! Backoff: `initial × multiplier^(n−1)`, capped, plus jitter. Pure; the dice roll is an argument.

use super::spec::RetryPolicy;
use crate::limits;
use crate::time::Span;

/// The wait before the next attempt after `failures` failed ones (at least 1). `dice` is in `0.0..1.0`.
///
/// The result lies in `[base, base × (1 + jitter)]` where base is the capped exponential, and jitter is never
/// below 10 %. Formula: "Exponential Backoff And Jitter", equal-jitter variant with a floor.
pub fn backoff(policy: &RetryPolicy, failures: u32, dice: f64) -> Span {
    let initial = policy.initial_backoff.unwrap_or(limits::INITIAL_BACKOFF_DEFAULT).0 as f64;
    let cap = policy.max_backoff.unwrap_or(limits::BACKOFF_MAX_DEFAULT).0 as f64;
    let multiplier = policy.multiplier.unwrap_or(limits::MULTIPLIER_DEFAULT);
    let jitter = policy.jitter.unwrap_or(limits::JITTER_DEFAULT).max(limits::JITTER_MIN);
    let exponent = f64::from(failures.saturating_sub(1)).min(10_000.0);
    let base = (initial * multiplier.powf(exponent)).min(cap);
    let base = if base.is_finite() { base } else { cap };
    // Saturating by definition of `as` on floats.
    Span((base * (1.0 + jitter * dice.clamp(0.0, 1.0))).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn backoff_is_bounded_and_monotone(
            initial in 1u64..100_000, cap in 1u64..10_000_000, multiplier in 1.0f64..1000.0,
            jitter in 0.0f64..1.0, n in 1u32..u32::MAX, dice in 0.0f64..1.0,
        ) {
            let policy = RetryPolicy {
                initial_backoff: Some(Span(initial)), max_backoff: Some(Span(cap)),
                multiplier: Some(multiplier), jitter: Some(jitter), ..RetryPolicy::default()
            };
            let wait = backoff(&policy, n, dice).0 as f64;
            let most = cap as f64 * (1.0 + jitter.max(0.1)) + 1.0;
            prop_assert!(wait <= most);
            prop_assert!(wait + 1.0 >= (initial.min(cap)) as f64);
            prop_assert!(backoff(&policy, n.saturating_add(1), 0.0) >= backoff(&policy, n, 0.0));
        }
    }
}
