//! What holds for every schedule: no time twice, never backwards, never more than asked for.

use crate::{CatchUp, Cron, Rule, Timing, Zone, plan, target_bits};
use coretex_domain::{Namespace, Span, Time};
use proptest::prelude::*;
use std::collections::BTreeSet;

const ZONES: [&str; 8] = [
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/St_Johns",
    "Pacific/Apia",
    "Asia/Kathmandu",
];

fn field(least: u8, most: u8) -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("*".to_owned()),
        2 => (least..=most).prop_map(|n| n.to_string()),
        1 => (least..=most, least..=most).prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        1 => (1..=most).prop_map(|n| format!("*/{n}")),
        1 => (least..=most, least..=most).prop_map(|(a, b)| format!("{a},{b}")),
    ]
}

fn timing() -> impl Strategy<Value = Timing> {
    let cron = (field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 7), 0..ZONES.len());
    let cron = cron.prop_map(|(minute, hour, day, month, weekday, zone)| Timing::Cron {
        cron: Cron::parse(&format!("{minute} {hour} {day} {month} {weekday}")).expect("well made"),
        zone: Zone::find(ZONES[zone]).expect("known"),
    });
    let every = (10u64..400_000, 0u64..u64::from(u32::MAX))
        .prop_map(|(seconds, anchor)| Timing::Every { interval: Span::secs(seconds), anchor: Time(anchor) });
    prop_oneof![3 => cron, 1 => every]
}

/// From 2010 to 2040.
fn instant() -> impl Strategy<Value = Time> {
    (1_262_304_000_000u64..2_208_988_800_000).prop_map(Time)
}

fn rule() -> impl Strategy<Value = Rule> {
    let jitter = prop_oneof![Just(0), 1u64..86_400_000].prop_map(Span);
    (timing(), jitter).prop_map(|(timing, jitter)| Rule { timing, start: None, end: None, jitter })
}

fn catch_up() -> impl Strategy<Value = CatchUp> {
    let all = (1u32..40).prop_map(|most| CatchUp::All { most });
    prop_oneof![Just(CatchUp::Skip), Just(CatchUp::One), all]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn times_only_rise(rule in rule(), start in instant()) {
        let mut last = start;
        for _ in 0..50 {
            let Some(found) = rule.next(last) else { break };
            prop_assert!(found.time > last);
            let fire = rule.fire_time(9, found.time);
            prop_assert!(fire >= found.time);
            if let Some(after) = rule.next(found.time) {
                prop_assert!(fire < after.time, "jitter reaches the next time");
            }
            last = found.time;
        }
    }

    /// However one arrives at a time, it is the same: from any instant between it and the one before.
    #[test]
    fn a_time_does_not_depend_on_when_one_asks(rule in rule(), start in instant(), share in 0.0..1.0f64) {
        let Some(first) = rule.next(start) else { return Ok(()) };
        let Some(second) = rule.next(first.time) else { return Ok(()) };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share of a span")]
        let between = first.time + Span((second.time.since(first.time).0 as f64 * share) as u64);
        if between < second.time {
            prop_assert_eq!(rule.next(between), Some(second));
        }
    }

    #[test]
    fn the_newest_are_the_end_of_all(rule in rule(), start in instant(), length in 0u64..10_000_000_000, most in 1usize..30) {
        let until = start + Span(length);
        let walk = std::iter::successors(rule.next(start), |last| rule.next(last.time));
        let all: Vec<Time> = walk.map(|one| one.time).take_while(|time| *time <= until).take(20_000).collect();
        prop_assume!(all.len() < 20_000);
        let newest = rule.latest(start, until, most);
        prop_assert_eq!(&newest[..], &all[all.len().saturating_sub(most)..]);
    }

    /// A clock that moves by any steps, with a restart at every one: no time twice, none before one that was handled,
    /// no more made up for than asked for, and nothing lost but what is said to be skipped.
    #[test]
    fn no_time_is_planned_twice_and_catching_up_is_bounded(
        rule in rule(), catch_up in catch_up(), start in instant(),
        steps in proptest::collection::vec(prop_oneof![1u64..120_000, 1u64..90_000_000], 1..30),
    ) {
        let (mut cursor, mut now) = (start, start);
        let mut seen = BTreeSet::new();
        for step in steps {
            now = now + Span(step);
            let plan = plan(&rule, 5, catch_up, cursor, now);
            let late = plan.start.iter().filter(|one| one.is_late).count();
            let most = match catch_up { CatchUp::Skip => 0, CatchUp::One => 1, CatchUp::All { most } => most as usize };
            prop_assert!(late <= most, "{late} made up for");
            for one in &plan.start {
                prop_assert!(one.nominal > cursor && one.nominal <= plan.cursor && one.nominal <= now);
                prop_assert!(seen.insert(one.nominal), "twice");
            }
            if plan.skipped.is_none() {
                let due = rule.between(Time(cursor.0 + 1), Time(plan.cursor.0 + 1), 5_000);
                prop_assert_eq!(due, plan.start.iter().map(|one| one.nominal).collect::<Vec<_>>());
            }
            prop_assert!(plan.cursor >= cursor);
            if let Some(next) = plan.next {
                prop_assert!(next > now, "what is due is planned");
            }
            cursor = plan.cursor;
        }
    }

    #[test]
    fn whatever_is_written_is_read_or_refused(text in "[-*/,0-9A-Za-z@# L]{0,40}") {
        if let Ok(cron) = Cron::parse(&text) {
            let rule = Rule {
                timing: Timing::Cron { cron, zone: Zone::utc() }, start: None, end: None, jitter: Span::ZERO,
            };
            prop_assert!(rule.next(Time(1_767_225_600_000)).is_some());
        }
    }
}

#[test]
fn starts_have_names_of_their_own() {
    let (a, b) = (Namespace::new("a"), Namespace::new("b"));
    let bits = [
        target_bits(&a, "s", Time(1), 0),
        target_bits(&b, "s", Time(1), 0),
        target_bits(&a, "t", Time(1), 0),
        target_bits(&a, "s", Time(2), 0),
        target_bits(&a, "s", Time(1), 7),
    ];
    assert_eq!(bits.iter().collect::<BTreeSet<_>>().len(), bits.len());
    assert_eq!(bits[0], target_bits(&a, "s", Time(1), 0));
    // These numbers decide what is started: they are the same for ever.
    assert_eq!(bits[0], 154_926_323_337_432_129_837_120_567_032_553_855_996, "golden");
}
