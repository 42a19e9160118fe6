//! Figures: how many, how fast, how long each took.

use super::super::shown::line;
use crate::outcome::Outcome;
use bytes::Bytes;
use coretex_contract::v1;
use hdrhistogram::Histogram;
use serde_json::json;
use std::time::Duration;

/// Longest time that is told apart, microseconds.
const MICROS_MAX: u64 = 600_000_000;
/// About a hundred bytes of JSON: the same as the floor program sends.
const PAYLOAD: &[u8] =
    br#"{"op":"noop","tenant":"t-001","key":"0123456789abcdef","n":12345,"note":"xxxxxxxxxxxxxxxxxxxxxxxxx"}"#;

/// Times, in microseconds.
pub(super) struct Meter(Histogram<u64>);

impl Meter {
    pub(super) fn new() -> Meter {
        Meter(Histogram::new_with_bounds(1, MICROS_MAX, 3).expect("invariant: the bounds are in order"))
    }

    /// Records one time.
    pub(super) fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    /// Adds what another meter recorded.
    pub(super) fn add(&mut self, other: &Meter) {
        self.0.add(&other.0).expect("invariant: all meters have the same bounds");
    }

    /// How many were recorded.
    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Prints the line of a measurement. `count` things happened in `took`.
    pub(super) fn report(&self, what: &str, count: u64, took: Duration) -> Outcome {
        line(self.figures(what, count, took).to_string())
    }

    fn figures(&self, what: &str, count: u64, took: Duration) -> serde_json::Value {
        let secs = took.as_secs_f64().max(1e-6);
        let micros = took.as_micros().max(1);
        let per_s = u64::try_from(u128::from(count) * 1_000_000 / micros).unwrap_or(u64::MAX);
        json!({
            "what": what,
            "n": count,
            "secs": (secs * 1_000.0).round() / 1_000.0,
            "per_s": per_s,
            "p50_us": self.0.value_at_quantile(0.5),
            "p99_us": self.0.value_at_quantile(0.99),
            "max_us": self.0.max(),
        })
    }
}

/// The job that is submitted.
pub(super) fn spec(topic: &str) -> v1::JobSpec {
    let payload = v1::Payload::data(coretex_sdk::JSON, Bytes::from_static(PAYLOAD));
    v1::JobSpec { topic: topic.to_owned(), payload: Some(payload), ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_rates_and_quantiles() {
        let mut meter = Meter::new();
        (1..=100).for_each(|ms| meter.record(Duration::from_millis(ms)));
        let figures = meter.figures("x", 100, Duration::from_secs(2));
        assert_eq!((figures["n"].as_u64(), figures["per_s"].as_u64()), (Some(100), Some(50)));
        let p50 = figures["p50_us"].as_u64().expect("number");
        assert!((49_000..=51_000).contains(&p50), "{p50}");
        assert_eq!(PAYLOAD.len(), 100);
    }
}
