//! Reopening: what was answered is there again, as far as the backend promises.

use crate::Harness;
use crate::kit::{Kit, START, default_ns, made, new_write, open, walk};
use coretex_domain::job::{Event, Spec};
use coretex_domain::{JobId, Payload, ShardId, Time};
use coretex_ports::{Outcome, Row, Scan, StoreError, Write};
use std::sync::Arc;

pub async fn a_clean_close_keeps_everything(h: &dyn Harness) {
    let mut kit = open(h).await;
    let jobs = kit.submit_all(0..300).await;
    let done = kit.run(300, u64::MAX).await;
    let kit = kit.reopen_cleanly(h).await;
    for job in jobs.iter().chain([&done]) {
        kit.assert_stored(job).await;
    }
    assert_eq!(kit.claim.open.len(), 300);
}

pub async fn a_crash_keeps_what_was_answered(h: &dyn Harness) {
    let mut kit = open(h).await;
    let jobs = kit.submit_all(0..300).await;
    let kit = kit.reopen_after_crash(h).await;
    if kit.forgets() {
        return;
    }
    for job in &jobs {
        kit.assert_stored(job).await;
    }
    assert_eq!(kit.walk_all(&walk(), 77).await.len(), 300);
}

pub async fn epochs_rise_over_a_reopen(h: &dyn Harness) {
    let mut kit = open(h).await;
    for round in 0..6 {
        let before = kit.epoch;
        let forgets = kit.forgets();
        kit = if round % 2 == 0 { kit.reopen_cleanly(h).await } else { kit.reopen_after_crash(h).await };
        assert!(kit.epoch > before || forgets);
    }
}

pub async fn a_closed_store_refuses(h: &dyn Harness) {
    let mut kit = open(h).await;
    let job = kit.submit(1).await;
    kit.store.close().await.expect("a clean close");
    let outcome = kit.store.commit(kit.group(vec![new_write(&job)])).await;
    assert!(matches!(outcome, Outcome::Refused(StoreError::Unavailable(_))), "{outcome:?}");
    assert!(matches!(kit.store.read(default_ns(), vec![job.id]).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(kit.store.scan(walk()).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(kit.store.clean(Time(1), 1).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(kit.store.claim("late").await, Err(StoreError::Unavailable(_))));
}

pub async fn many_reopens_lose_nothing(h: &dyn Harness) {
    let mut kit = open(h).await;
    if kit.forgets() {
        return;
    }
    let mut jobs = Vec::new();
    for round in 0..12 {
        for n in 0..5 {
            jobs.push(kit.submit(round * 5 + n).await);
        }
        if round % 4 == 1 {
            kit.settle().await;
        }
        kit = if round % 3 == 0 { kit.reopen_cleanly(h).await } else { kit.reopen_after_crash(h).await };
    }
    for job in &jobs {
        kit.assert_stored(job).await;
    }
    assert_eq!(kit.claim.open.len(), 60);
}

pub async fn deltas_survive_a_crash(h: &dyn Harness) {
    let mut kit = open(h).await;
    if kit.forgets() {
        return;
    }
    let mut job = kit.submit(1).await;
    for round in 0..8 {
        kit.start(&mut job, "w-1");
        kit.put(&job, 2).await;
        if round % 2 == 0 {
            kit = kit.reopen_after_crash(h).await;
        } else {
            kit.settle().await;
        }
        kit.apply(&mut job, Event::Released);
        kit.put(&job, 1).await;
        kit.assert_stored(&job).await;
        if round % 3 == 0 {
            kit = kit.reopen_after_crash(h).await;
        }
    }
    kit.assert_stored(&job).await;
    assert!(job.is_fold_of_history());
}

pub async fn rows_survive_a_crash(h: &dyn Harness) {
    let mut kit = open(h).await;
    if kit.forgets() {
        return;
    }
    let failed = kit.run_to_failure(1, u64::MAX).await;
    let key = kit.key("k", &failed.id);
    let output = Write::Output {
        namespace: default_ns(),
        job_id: failed.id.clone(),
        stream: "o".into(),
        offset: 0,
        chunk: bytes::Bytes::from_static(b"x"),
    };
    kit.commit(vec![Write::Key(Arc::new(key.clone())), Write::Secret(1, [9; 32]), output]).await;
    let kit = kit.reopen_after_crash(h).await;
    assert_eq!(kit.store.read_key(default_ns(), "k".into()).await, Ok(Some(key)));
    assert_eq!(kit.claim.secrets, [(1, [9; 32])]);
    let output =
        Scan::Output { namespace: default_ns(), job_id: failed.id, stream: "o".into(), offset: 0, limit: 5 };
    assert_eq!(kit.scan(output).await.rows.len(), 1);
}

pub async fn a_deleted_dead_letter_stays_deleted(h: &dyn Harness) {
    let mut kit = open(h).await;
    if kit.forgets() {
        return;
    }
    for n in 1..=3 {
        kit.run_to_failure(n, u64::MAX).await;
    }
    kit.settle().await;
    let end = |n| Write::DeadLetterEnd { namespace: default_ns(), job_id: made(n) };
    kit.commit(vec![end(1)]).await;
    let kit = kit.reopen_after_crash(h).await;
    kit.commit(vec![end(3)]).await;
    let kit = kit.reopen_cleanly(h).await;
    let left = Scan::DeadLetters { namespace: default_ns(), ids: vec![made(1), made(2), made(3)] };
    assert_eq!(crate::kit::ids_of(&kit.scan(left).await), [made(2)]);
    assert!(kit.read(&made(1)).await.is_some() && kit.read(&made(3)).await.is_some());
}

pub async fn events_survive_a_reopen(h: &dyn Harness) {
    let mut kit = open(h).await;
    if kit.forgets() {
        return;
    }
    kit.submit_all(0..100).await;
    let mut kit = kit.reopen_cleanly(h).await;
    kit.submit_all(100..200).await;
    let kit = kit.reopen_after_crash(h).await;
    let page = kit.scan(Scan::Events { after: Box::new([0; 256]), limit: 10_000 }).await;
    assert_eq!((page.rows.len(), page.more), (400, false));
    assert!(page.rows.iter().all(|row| matches!(row, Row::Event(_))));
}

pub async fn a_large_payload_is_written_once_and_survives(h: &dyn Harness) {
    let mut kit = open(h).await;
    let spec = Spec::new("t", Payload::json(vec![b'p'; 500_000]));
    let mut job = kit.new_job(&default_ns(), made(1), START + 1, spec);
    kit.put_new(&job).await;
    kit.settle().await;
    kit.admit(&mut job);
    kit.put(&job, 1).await;
    let kit = if kit.forgets() { kit } else { kit.reopen_after_crash(h).await };
    kit.assert_stored(&job).await;
}

pub async fn an_owner_before_a_reopen_is_fenced(h: &dyn Harness) {
    let mut kit = open(h).await;
    let old = kit.epoch;
    let job = kit.plain(1);
    let kit = kit.reopen_cleanly(h).await;
    if kit.epoch == old {
        return;
    }
    let mut group = kit.group(vec![new_write(&job)]);
    group.epoch = old;
    assert!(matches!(kit.store.commit(group).await, Outcome::Refused(StoreError::Fenced { .. })));
    let kit = Kit::claim(kit.store).await;
    assert_eq!(kit.read(&made(1)).await, None);
}

/// Ids tell times, and a store may use that to know what it cannot have: not for ids that tell another time than theirs.
pub async fn ids_that_tell_another_time_are_found(h: &dyn Harness) {
    let mut kit = open(h).await;
    let far = |ms: u64, n: u8| JobId::make(START + ms, u128::from(n) << 20, ShardId(n));
    let early = [far(0, 1), far(0, 2)];
    let late = [far(3_600_000, 3), far(86_400_000, 4)];
    for (n, id) in early.iter().chain(&late).enumerate() {
        let spec = Spec::new("job.echo", Payload::json("1"));
        let job = kit.new_job(&default_ns(), id.clone(), START + 500 + n as u64, spec);
        kit.put_new(&job).await;
    }
    let nobody = far(3_000_000, 5);
    for step in 0..3 {
        for id in early.iter().chain(&late) {
            assert!(kit.read(id).await.is_some(), "step {step}: {id} is there");
        }
        assert!(kit.read(&nobody).await.is_none(), "step {step}");
        match step {
            0 => kit.settle().await,
            _ if kit.forgets() => return,
            _ => kit = kit.reopen_cleanly(h).await,
        }
    }
}
