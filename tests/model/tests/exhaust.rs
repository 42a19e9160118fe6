//! Exhausts the model within its bounds, and checks that planted flaws are noticed.

use coretex_model::{Flaw, Rules};
use stateright::{Checker, HasDiscoveries, Model};
use std::time::{Duration, Instant};

/// A run that takes longer has bounds that are too wide for a test.
const TIME_MAX: Duration = Duration::from_secs(300);
/// Fewer states than this and the bounds have become too small to mean anything.
const STATES_MIN: usize = 2_000_000;

#[test]
fn every_order_of_every_fault_keeps_the_promises() {
    let mut total = 0;
    for (name, rules) in [("one-job", Rules::new()), ("two-jobs", Rules::two_jobs())] {
        let begun = Instant::now();
        let checker = rules.checker().threads(2).spawn_bfs().join();
        let unique = checker.unique_state_count();
        let seconds = begun.elapsed().as_secs_f64();
        println!("model.{name}.unique_states = {unique}");
        println!("model.{name}.states = {}", checker.state_count());
        println!("model.{name}.depth = {}", checker.max_depth());
        println!("model.{name}.wall_seconds = {seconds:.1}");
        checker.assert_properties();
        assert!(begun.elapsed() < TIME_MAX, "the model was not exhausted");
        total += unique;
    }
    assert!(total >= STATES_MIN, "{total} states");
}

#[test]
fn planted_flaws_are_noticed() {
    let flaws = [
        (Flaw::SerialNotChecked, "I-09 results are fenced"),
        (Flaw::EpochNotChecked, "I-18 writes are fenced"),
        (Flaw::CancelForgotten, "I-13 a cancelled job ends so or was done before"),
    ];
    for (flaw, property) in flaws {
        let rules = Rules { flaw, ..Rules::new() };
        let found = HasDiscoveries::AnyOf([property].into());
        let checker = rules.checker().threads(2).finish_when(found).spawn_bfs().join();
        assert!(checker.discovery(property).is_some(), "{flaw:?} was not noticed");
        println!("model.flaw.{flaw:?} = noticed");
    }
}
