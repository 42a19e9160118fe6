//! Walks: every job that is there throughout appears exactly once, in order.

use crate::Harness;
use crate::kit::{Kit, START, default_ns, ids_of, made, named, new_write, ns, open, walk};
use coretex_domain::job::{Event, Note, Spec, StateKind};
use coretex_domain::{JobId, Payload, Time};
use coretex_ports::{JobSet, Scan, Write};
use std::sync::Arc;

/// The parts of a walk that cases change.
struct Parts<'a> {
    descending: &'a mut bool,
    topic: &'a mut Option<Arc<str>>,
    state: &'a mut Option<StateKind>,
    set: &'a mut JobSet,
    from: &'a mut Time,
    to: &'a mut Time,
}

fn with(mut scan: Scan, change: impl FnOnce(Parts<'_>)) -> Scan {
    if let Scan::Jobs { descending, topic, state, set, from, to, .. } = &mut scan {
        change(Parts { descending, topic, state, set, from, to });
    }
    scan
}

fn descending(scan: Scan) -> Scan {
    with(scan, |walk| *walk.descending = true)
}

fn numbers(jobs: &[Arc<coretex_domain::Job>]) -> Vec<u64> {
    jobs.iter().map(|job| job.create_time.0 - START).collect()
}

/// Jobs 0..n, half of them indexed, in an order that is not theirs.
async fn filled(kit: &mut Kit, n: u64) {
    for half in [1, 0] {
        let mut jobs = Vec::new();
        for n in (0..n).rev().filter(|n| n % 2 == half) {
            let mut job = kit.plain(n);
            kit.admit(&mut job);
            jobs.push(job);
        }
        for chunk in jobs.chunks(100) {
            kit.commit(chunk.iter().map(new_write).collect()).await;
        }
        if half == 1 {
            kit.settle().await;
        }
    }
}

pub async fn jobs_come_in_create_order(h: &dyn Harness) {
    let mut kit = open(h).await;
    filled(&mut kit, 300).await;
    assert_eq!(numbers(&kit.walk_all(&walk(), 1_000).await), (0..300).collect::<Vec<_>>());
}

pub async fn descending_is_the_reverse(h: &dyn Harness) {
    let mut kit = open(h).await;
    filled(&mut kit, 300).await;
    let walked = kit.walk_all(&descending(walk()), 1_000).await;
    assert_eq!(numbers(&walked), (0..300).rev().collect::<Vec<_>>());
}

pub async fn ties_are_broken_by_id(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut ids: Vec<JobId> = (0..40).map(made).collect();
    ids.extend((0..40).map(|n| named(&format!("n-{n:02}"))));
    for (n, id) in ids.iter().enumerate() {
        let job = kit.new_job(&default_ns(), id.clone(), START, Spec::new("t", Payload::empty()));
        kit.put_new(&job).await;
        if n == 50 {
            kit.settle().await;
        }
    }
    ids.sort();
    let walked: Vec<JobId> = kit.walk_all(&walk(), 7).await.iter().map(|job| job.id.clone()).collect();
    assert_eq!(walked, ids);
    ids.reverse();
    let walked: Vec<JobId> =
        kit.walk_all(&descending(walk()), 7).await.iter().map(|job| job.id.clone()).collect();
    assert_eq!(walked, ids);
}

pub async fn pages_join_without_gaps_ascending(h: &dyn Harness) {
    let mut kit = open(h).await;
    filled(&mut kit, 500).await;
    for limit in [1, 3, 64, 499, 500, 501] {
        assert_eq!(numbers(&kit.walk_all(&walk(), limit).await), (0..500).collect::<Vec<_>>(), "{limit}");
    }
}

pub async fn pages_join_without_gaps_descending(h: &dyn Harness) {
    let mut kit = open(h).await;
    filled(&mut kit, 500).await;
    for limit in [1, 3, 64, 499, 500, 501] {
        let walked = kit.walk_all(&descending(walk()), limit).await;
        assert_eq!(numbers(&walked), (0..500).rev().collect::<Vec<_>>(), "{limit}");
    }
}

pub async fn bounds_are_inclusive(h: &dyn Harness) {
    let mut kit = open(h).await;
    filled(&mut kit, 50).await;
    let scan = with(walk(), |walk| (*walk.from, *walk.to) = (Time(START + 10), Time(START + 20)));
    assert_eq!(numbers(&kit.walk_all(&scan, 4).await), (10..=20).collect::<Vec<_>>());
    let scan = descending(scan);
    assert_eq!(numbers(&kit.walk_all(&scan, 4).await), (10..=20).rev().collect::<Vec<_>>());
}

pub async fn a_walk_skips_other_namespaces(h: &dyn Harness) {
    let mut kit = open(h).await;
    for n in 0..30 {
        let namespace = ns(["default", "alpha", "zulu"][(n % 3) as usize]);
        let job = kit.new_job(&namespace, made(n), START + n, Spec::new("t", Payload::empty()));
        kit.put_new(&job).await;
        if n == 15 {
            kit.settle().await;
        }
    }
    assert_eq!(numbers(&kit.walk_all(&walk(), 4).await), (0..10).map(|n| n * 3).collect::<Vec<_>>());
}

pub async fn new_jobs_do_not_disturb_a_walk(h: &dyn Harness) {
    for backwards in [false, true] {
        let mut kit = open(h).await;
        let base = if backwards { 10_000 } else { 0 };
        let there: Vec<u64> = (0..200).map(|n| base + n * 10).collect();
        for n in &there {
            kit.submit(*n).await;
        }
        let scan = if backwards { descending(walk()) } else { walk() };
        let mut met = Vec::new();
        let mut after = None;
        for step in 0.. {
            let mut page = scan.clone();
            if let Scan::Jobs { after: mark, limit, .. } = &mut page {
                (*mark, *limit) = (after.clone(), 9);
            }
            let page = kit.scan(page).await;
            let jobs = crate::kit::jobs_of(&page);
            after = jobs.last().map(|job| (job.create_time, job.id.clone())).or(after);
            met.extend(numbers(&jobs));
            // Before, amid and behind the walk.
            for n in [step * 10 + 1, step * 70 + 3, 1_990 - step % 100] {
                if base + n != *there.last().expect("some")
                    && n % 10 != 0
                    && kit.read(&made(base + n)).await.is_none()
                {
                    kit.submit(base + n).await;
                }
            }
            if step % 7 == 0 {
                kit.settle().await;
            }
            if !page.more {
                break;
            }
        }
        let mut unique = met.clone();
        unique.dedup();
        assert_eq!(unique, met, "nothing appears twice");
        assert!(there.iter().all(|n| met.contains(n)), "everything there throughout appears");
        let kit = kit.reclaim().await;
        drop(kit);
    }
}

pub async fn a_filtered_walk_finds_all_that_match(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut jobs = Vec::new();
    for n in 0..2_000 {
        let topic = if n % 50 == 7 { "rare" } else { "common" };
        jobs.push(kit.new_job(&default_ns(), made(n), START + n, Spec::new(topic, Payload::empty())));
    }
    for (n, chunk) in jobs.chunks(500).enumerate() {
        kit.commit(chunk.iter().map(new_write).collect()).await;
        if n == 2 {
            kit.settle().await;
        }
    }
    for scan in [walk(), descending(walk())] {
        let scan = with(scan, |walk| *walk.topic = Some("rare".into()));
        let walked = kit.walk_all(&scan, 6).await;
        let mut found: Vec<u64> = numbers(&walked)
            .into_iter()
            .filter(|n| jobs[*n as usize].spec.topic.as_ref() == "rare")
            .collect();
        found.sort_unstable();
        assert_eq!(found, (0..40).map(|n| n * 50 + 7).collect::<Vec<_>>());
    }
}

pub async fn a_walk_by_state_sees_the_newest_state(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut jobs = kit.submit_all(0..40).await;
    kit.settle().await;
    for job in jobs.iter_mut().skip(10).take(10) {
        kit.apply(job, Event::Cancelled(None));
        kit.put(job, 1).await;
    }
    for state in [StateKind::Cancelled, StateKind::Scheduled] {
        let scan = with(walk(), |walk| *walk.state = Some(state));
        let walked = kit.walk_all(&scan, 3).await;
        let matching = walked.iter().filter(|job| job.state.kind() == state).count();
        assert_eq!(matching, if state == StateKind::Cancelled { 10 } else { 30 });
    }
}

pub async fn an_empty_walk_says_so(h: &dyn Harness) {
    let mut kit = open(h).await;
    let page = kit.scan(walk()).await;
    assert!(page.rows.is_empty() && !page.more);
    kit.submit(1).await;
    let page = kit.scan(with(walk(), |walk| *walk.from = Time(START + 2))).await;
    assert!(page.rows.is_empty() && !page.more);
}

fn dead(scan: Scan) -> Scan {
    with(scan, |walk| *walk.set = JobSet::DeadLetters)
}

pub async fn dead_letters_are_walked(h: &dyn Harness) {
    let mut kit = open(h).await;
    for n in 0..60 {
        if n % 3 == 0 {
            kit.run_to_failure(n, u64::MAX).await;
        } else {
            kit.run(n, u64::MAX).await;
        }
        if n == 30 {
            kit.settle().await;
        }
    }
    let expected: Vec<u64> = (0..20).map(|n| n * 3).collect();
    assert_eq!(numbers(&kit.walk_all(&dead(walk()), 7).await), expected);
    kit.settle().await;
    assert_eq!(numbers(&kit.walk_all(&dead(walk()), 100).await), expected);
    let backwards = kit.walk_all(&dead(descending(walk())), 7).await;
    assert_eq!(numbers(&backwards), expected.into_iter().rev().collect::<Vec<_>>());
}

fn end_of(n: u64) -> Write {
    Write::DeadLetterEnd { namespace: default_ns(), job_id: made(n) }
}

pub async fn deleted_dead_letters_are_not_walked(h: &dyn Harness) {
    let mut kit = open(h).await;
    for n in 0..30 {
        kit.run_to_failure(n, u64::MAX).await;
        if n == 20 {
            kit.settle().await;
        }
    }
    // Of those below 20 the store may have filed the letter away, of those above hardly.
    kit.commit([3, 7, 25].into_iter().map(end_of).collect()).await;
    let expected: Vec<u64> = (0..30).filter(|n| ![3, 7, 25].contains(n)).collect();
    for round in 0..2 {
        assert_eq!(numbers(&kit.walk_all(&dead(walk()), 4).await), expected, "round {round}");
        let backwards = kit.walk_all(&dead(descending(walk())), 4).await;
        assert_eq!(numbers(&backwards), expected.iter().rev().copied().collect::<Vec<_>>(), "round {round}");
        kit.settle().await;
    }
    assert_eq!(kit.walk_all(&walk(), 100).await.len(), 30, "the jobs stay");
}

pub async fn a_dead_letter_deleted_with_a_change_of_its_job_is_gone(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut job = kit.run_to_failure(1, u64::MAX).await;
    kit.run_to_failure(2, u64::MAX).await;
    kit.settle().await;
    kit.apply(&mut job, Event::Annotated(Box::new(Note::DeadLetterDeleted("ada".into()))));
    kit.commit(vec![end_of(1), Write::Job { job: Arc::new(job.clone()), fresh: 1 }]).await;
    for _ in 0..2 {
        assert_eq!(ids_of(&kit.scan(dead(walk())).await), [made(2)]);
        kit.assert_stored(&job).await;
        kit.settle().await;
    }
    // Deleting what is not there changes nothing.
    kit.commit(vec![end_of(1), end_of(77)]).await;
    assert_eq!(ids_of(&kit.scan(dead(walk())).await), [made(2)]);
}

pub async fn dead_letters_are_found_by_id(h: &dyn Harness) {
    let mut kit = open(h).await;
    for n in 0..6 {
        kit.run_to_failure(n, u64::MAX).await;
    }
    kit.run(6, u64::MAX).await;
    kit.settle().await;
    kit.commit(vec![end_of(2)]).await;
    let ids = [5, 2, 6, 99, 0].map(made).to_vec();
    let by_id = |namespace| Scan::DeadLetters { namespace, ids: ids.clone() };
    for _ in 0..2 {
        assert_eq!(ids_of(&kit.scan(by_id(default_ns())).await), [made(5), made(0)]);
        assert!(kit.scan(by_id(ns("other"))).await.rows.is_empty());
        kit.settle().await;
    }
}

pub async fn a_walk_mixes_old_and_new_rows(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut jobs = kit.submit_all(0..100).await;
    kit.settle().await;
    for job in jobs.iter_mut().step_by(3) {
        kit.start(job, "w");
        kit.put(job, 2).await;
    }
    for job in kit.walk_all(&walk(), 8).await {
        assert_eq!(*job, jobs[(job.create_time.0 - START) as usize]);
    }
}

pub async fn a_dead_letter_apart_from_its_job_is_walked(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut job = kit.submit(1).await;
    kit.start(&mut job, "w");
    kit.fail(&mut job, u64::MAX);
    kit.put(&job, 3).await;
    kit.settle().await;
    kit.commit(vec![Kit::letter(&job)]).await;
    assert_eq!(ids_of(&kit.scan(dead(walk())).await), [made(1)]);
    kit.settle().await;
    kit.apply(&mut job, Event::Annotated(Box::new(Note::LateResult("x".into()))));
    kit.commit(vec![Write::Job { job: Arc::new(job.clone()), fresh: 1 }]).await;
    let page = kit.scan(dead(walk())).await;
    assert_eq!(crate::kit::jobs_of(&page).iter().map(|j| j.revision).collect::<Vec<_>>(), [job.revision]);
}

pub async fn a_page_of_one_still_moves(h: &dyn Harness) {
    let mut kit = open(h).await;
    filled(&mut kit, 20).await;
    let scan = with(walk(), |walk| *walk.topic = Some("no.such.topic".into()));
    let walked = kit.walk_all(&scan, 1).await;
    assert!(walked.iter().all(|job| job.spec.topic.as_ref() != "no.such.topic"));
}
