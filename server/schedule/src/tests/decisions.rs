//! What is done about times that were missed, and about targets that still run.

use super::{at, cron, every};
use crate::{CatchUp, Move, Overlap, Plan, Rule, Skipped, plan};
use coretex_domain::{Span, Time};

fn planned(plan: &Plan) -> Vec<(Time, bool)> {
    plan.start.iter().map(|one| (one.nominal, one.is_late)).collect()
}

#[test]
fn what_comes_in_time_is_started_whatever_the_catch_up() {
    let rule = cron("0 * * * *", "");
    let (cursor, now) = (at("2026-01-01T08:00:00Z"), at("2026-01-01T09:00:01Z"));
    for catch_up in [CatchUp::Skip, CatchUp::One, CatchUp::All { most: 5 }] {
        let plan = plan(&rule, 0, catch_up, cursor, now);
        assert_eq!(planned(&plan), [(at("2026-01-01T09:00:00Z"), false)]);
        assert_eq!((plan.skipped, plan.cursor), (None, at("2026-01-01T09:00:00Z")));
        assert_eq!(plan.next, Some(at("2026-01-01T10:00:00Z")));
    }
    let early = plan(&rule, 0, CatchUp::One, cursor, at("2026-01-01T08:59:59Z"));
    assert_eq!((planned(&early), early.cursor), (Vec::new(), cursor));
    assert_eq!(early.next, Some(at("2026-01-01T09:00:00Z")));
}

#[test]
fn what_was_missed_is_left_made_up_for_once_or_up_to_a_number() {
    let rule = cron("0 * * * *", "");
    let (cursor, now) = (at("2026-01-01T00:00:00Z"), at("2026-01-01T05:00:10Z"));
    let hour = |hour: u64| Time(cursor.0 + hour * 3_600_000);
    let skipped = |first, last| Some(Skipped { first: hour(first), last: hour(last) });
    let table = [
        (CatchUp::Skip, vec![], skipped(1, 4)),
        (CatchUp::One, vec![4], skipped(1, 3)),
        (CatchUp::All { most: 2 }, vec![3, 4], skipped(1, 2)),
        (CatchUp::All { most: 4 }, vec![1, 2, 3, 4], None),
        (CatchUp::All { most: 1_000 }, vec![1, 2, 3, 4], None),
    ];
    for (catch_up, late, skipped) in table {
        let plan = plan(&rule, 0, catch_up, cursor, now);
        let mut wanted: Vec<_> = late.into_iter().map(|n| (hour(n), true)).collect();
        wanted.push((hour(5), false));
        assert_eq!((planned(&plan), plan.skipped), (wanted, skipped), "{catch_up:?}");
        assert_eq!((plan.cursor, plan.next), (hour(5), Some(hour(6))));
    }
}

#[test]
fn ten_years_away_are_planned_in_no_time_and_bounded() {
    for rule in [cron("* * * * *", "America/New_York"), every(Span::secs(10)), cron("0 0 29 2 *", "")] {
        let plan = plan(
            &rule,
            7,
            CatchUp::All { most: 1_000 },
            at("2016-01-01T00:00:00Z"),
            at("2026-01-01T00:00:00Z"),
        );
        assert!(plan.start.len() <= 1_000 + 16, "{}", plan.start.len());
        assert!(plan.start.is_sorted_by(|a, b| a.nominal < b.nominal));
        assert!(plan.next.is_some());
    }
}

#[test]
fn after_the_end_there_is_nothing() {
    let rule = Rule { end: Some(at("2026-01-01T09:00:00Z")), ..cron("0 * * * *", "") };
    let plan = plan(&rule, 0, CatchUp::One, at("2026-01-01T08:00:00Z"), at("2026-01-01T12:00:00Z"));
    assert_eq!((planned(&plan), plan.next, plan.skipped), (Vec::new(), None, None));
}

#[test]
fn jitter_waits_its_own_share_of_each_time() {
    let rule = Rule { jitter: Span::mins(10), ..cron("0 * * * *", "") };
    let nine = at("2026-01-01T09:00:00Z");
    let fire = rule.fire_time(3, nine);
    assert!(fire >= nine && fire <= nine + Span::mins(10));
    assert_eq!(fire, rule.fire_time(3, nine), "stable");
    let differs = (0..20).any(|seed| rule.fire_time(seed, nine) != fire);
    assert!(differs, "schedules differ");
    let cursor = at("2026-01-01T08:00:00Z");
    let before = plan(&rule, 3, CatchUp::Skip, cursor, Time(fire.0 - 1));
    assert_eq!((planned(&before), before.next), (Vec::new(), Some(fire)));
    assert_eq!(planned(&plan(&rule, 3, CatchUp::Skip, cursor, fire)), [(nine, false)]);
}

#[test]
fn overlaps_are_decided_as_asked() {
    for overlap in [Overlap::Skip, Overlap::Queue, Overlap::Allow, Overlap::CancelRunning] {
        assert_eq!(overlap.decide(false), Move::Start);
    }
    assert_eq!(Overlap::Skip.decide(true), Move::Skip);
    assert_eq!(Overlap::Queue.decide(true), Move::Wait);
    assert_eq!(Overlap::Allow.decide(true), Move::Start);
    assert_eq!(Overlap::CancelRunning.decide(true), Move::CancelAndStart);
}
