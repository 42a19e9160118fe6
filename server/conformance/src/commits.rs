//! Commits: atomic, ordered, fenced.

use crate::Harness;
use crate::kit::{Kit, made, new_write, open};
use coretex_domain::job::StateKind;
use coretex_domain::{JobId, Time};
use coretex_ports::{Group, Outcome, StoreError, Write};
use futures::future::join_all;
use std::sync::Arc;

pub async fn a_claim_raises_the_epoch(h: &dyn Harness) {
    let kit = open(h).await;
    let first = kit.epoch;
    let kit = kit.reclaim().await;
    assert!(kit.epoch > first);
}

pub async fn commits_before_a_claim_are_refused(h: &dyn Harness) {
    let store = h.open();
    for epoch in [0, 1] {
        let outcome = store.commit(Group { epoch, time: Time(1), writes: vec![] }).await;
        assert!(matches!(outcome, Outcome::Refused(StoreError::Fenced { .. })), "{outcome:?}");
    }
}

pub async fn an_old_epoch_is_fenced(h: &dyn Harness) {
    let mut old = open(h).await;
    let new = Kit::claim(old.store.clone()).await;
    let job = old.plain(1);
    let outcome = old.store.commit(old.group(vec![new_write(&job)])).await;
    assert_eq!(outcome, Outcome::Refused(StoreError::Fenced { ours: old.epoch, theirs: new.epoch }));
    assert_eq!(new.read(&made(1)).await, None);
}

pub async fn a_future_epoch_is_fenced(h: &dyn Harness) {
    let mut kit = open(h).await;
    let job = kit.plain(1);
    let mut group = kit.group(vec![new_write(&job)]);
    group.epoch += 1;
    assert!(matches!(kit.store.commit(group).await, Outcome::Refused(StoreError::Fenced { .. })));
    assert_eq!(kit.read(&made(1)).await, None);
}

pub async fn an_empty_group_commits(h: &dyn Harness) {
    let kit = open(h).await;
    kit.commit(vec![]).await;
}

pub async fn a_group_is_all_there(h: &dyn Harness) {
    let mut kit = open(h).await;
    let jobs: Vec<_> = (0..10).map(|n| kit.plain(n)).collect();
    let mut writes: Vec<Write> = jobs.iter().map(new_write).collect();
    writes.push(Write::Key(Arc::new(kit.key("k", &made(3)))));
    kit.commit(writes).await;
    for job in &jobs {
        kit.assert_stored(job).await;
    }
    let key = kit.store.read_key(crate::kit::default_ns(), "k".into()).await;
    assert_eq!(key.expect("a read").map(|row| row.job_id), Some(made(3)));
}

pub async fn a_refused_group_leaves_nothing(h: &dyn Harness) {
    let mut kit = open(h).await;
    let job = kit.plain(1);
    let mut group = kit.group(vec![new_write(&job), Write::Key(Arc::new(kit.key("k", &job.id)))]);
    group.epoch -= 1;
    assert!(matches!(kit.store.commit(group).await, Outcome::Refused(_)));
    assert_eq!(kit.read(&job.id).await, None);
    assert_eq!(kit.store.read_key(crate::kit::default_ns(), "k".into()).await, Ok(None));
}

pub async fn groups_apply_in_the_order_of_the_calls(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut job = kit.plain(1);
    let mut answers = vec![kit.store.commit(kit.group(vec![new_write(&job)]))];
    kit.admit(&mut job);
    answers.push(kit.store.commit(kit.group(vec![Write::Job { job: Arc::new(job.clone()), fresh: 1 }])));
    for round in 0..50 {
        kit.apply(&mut job, coretex_domain::job::Event::Dispatched(crate::kit::lease(round + 1, "w")));
        answers.push(kit.store.commit(kit.group(vec![Write::Job { job: Arc::new(job.clone()), fresh: 1 }])));
        kit.apply(&mut job, coretex_domain::job::Event::Returned(coretex_domain::job::Return::NotAcked));
        answers.push(kit.store.commit(kit.group(vec![Write::Job { job: Arc::new(job.clone()), fresh: 1 }])));
    }
    for answer in join_all(answers).await {
        assert_eq!(answer, Outcome::Committed);
    }
    kit.assert_stored(&job).await;
}

pub async fn pipelined_commits_all_answer(h: &dyn Harness) {
    let mut kit = open(h).await;
    let jobs: Vec<_> = (0..500).map(|n| kit.plain(n)).collect();
    let answers: Vec<_> = jobs.iter().map(|job| kit.store.commit(kit.group(vec![new_write(job)]))).collect();
    assert!(join_all(answers).await.iter().all(|outcome| *outcome == Outcome::Committed));
    for job in &jobs {
        kit.assert_stored(job).await;
    }
}

pub async fn later_versions_win(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut job = kit.submit(1).await;
    for _ in 0..3 {
        kit.start(&mut job, "w");
        kit.put(&job, 2).await;
        kit.apply(&mut job, coretex_domain::job::Event::Released);
        kit.put(&job, 1).await;
        kit.assert_stored(&job).await;
    }
}

pub async fn sixty_four_writers_lose_nothing(h: &dyn Harness) {
    let mut kit = open(h).await;
    let jobs: Vec<_> = (0..64 * 20).map(|n| kit.plain(n)).collect();
    std::thread::scope(|scope| {
        for writer in 0..64 {
            let (kit, jobs) = (&kit, &jobs);
            scope.spawn(move || {
                for job in jobs.iter().skip(writer).step_by(64) {
                    crate::block_on(kit.commit(vec![new_write(job)]));
                    crate::block_on(kit.assert_stored(job));
                }
            });
        }
    });
    for job in &jobs {
        kit.assert_stored(job).await;
    }
}

pub async fn one_key_under_contention_has_one_winner_per_commit(h: &dyn Harness) {
    let kit = open(h).await;
    std::thread::scope(|scope| {
        for n in 0..64 {
            let kit = &kit;
            scope.spawn(move || {
                crate::block_on(kit.commit(vec![Write::Key(Arc::new(kit.key("same", &made(n))))]));
                let row = crate::block_on(kit.store.read_key(crate::kit::default_ns(), "same".into()));
                assert!(row.expect("a read").is_some());
            });
        }
    });
    kit.settle().await;
    let row =
        kit.store.read_key(crate::kit::default_ns(), "same".into()).await.expect("a read").expect("a row");
    assert!((0..64).any(|n| row.job_id == made(n)));
}

pub async fn a_group_of_a_thousand_jobs_commits(h: &dyn Harness) {
    let mut kit = open(h).await;
    let jobs: Vec<_> = (0..1_000).map(|n| kit.plain(n)).collect();
    kit.commit(jobs.iter().map(new_write).collect()).await;
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id.clone()).collect();
    let found = kit.store.read(crate::kit::default_ns(), ids).await.expect("a read");
    assert!(found.iter().zip(&jobs).all(|(found, job)| found.as_deref() == Some(job)));
}

pub async fn a_job_twice_in_a_group_keeps_the_last(h: &dyn Harness) {
    let mut kit = open(h).await;
    let first = kit.plain(1);
    let mut second = first.clone();
    kit.admit(&mut second);
    kit.commit(vec![new_write(&first), Write::Job { job: Arc::new(second.clone()), fresh: 1 }]).await;
    kit.assert_stored(&second).await;
    kit.settle().await;
    kit.assert_stored(&second).await;
}

pub async fn stats_count_commits(h: &dyn Harness) {
    let mut kit = open(h).await;
    let before = kit.store.stats();
    kit.submit(1).await;
    kit.submit(2).await;
    let after = kit.store.stats();
    assert_eq!(after.commits - before.commits, 2);
    assert_eq!(after.records - before.records, 2);
    assert!(after.bytes > 0);
}

pub async fn a_claim_hands_out_what_is_open(h: &dyn Harness) {
    let mut kit = open(h).await;
    let pending = kit.plain(1);
    kit.put_new(&pending).await;
    let scheduled = kit.submit(2).await;
    let mut running = kit.submit(3).await;
    kit.start(&mut running, "w");
    kit.put(&running, 2).await;
    kit.run(4, u64::MAX).await;
    kit.settle().await;
    let late = kit.submit(5).await;
    let kit = kit.reclaim().await;
    let mut open: Vec<_> = kit.claim.open.iter().map(|job| (**job).clone()).collect();
    open.sort_by_key(|job| job.create_time);
    assert_eq!(open, [pending, scheduled, running, late]);
    assert!(open.iter().all(|job| job.state.kind() != StateKind::Succeeded));
}

pub async fn a_claim_reports_the_highest_sequences(h: &dyn Harness) {
    let mut kit = open(h).await;
    kit.submit_all(0..600).await;
    kit.settle().await;
    kit.run(600, u64::MAX).await;
    let expected = kit.sequences.clone();
    let kit = kit.reclaim().await;
    assert_eq!(kit.claim.sequences, expected);
}

pub async fn claims_repeat_and_epochs_never_do(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut seen = vec![kit.epoch];
    for n in 0..10 {
        kit.submit(n).await;
        kit = kit.reclaim().await;
        assert!(kit.epoch > *seen.last().expect("one at least"));
        assert_eq!(kit.claim.open.len() as u64, n + 1);
        seen.push(kit.epoch);
    }
}
