//! Events: the history as a stream, in commit order, resumable.

use crate::Harness;
use crate::kit::{Kit, START, default_ns, made, new_write, open};
use coretex_domain::job::{Event, EventKind, Spec, StateKind};
use coretex_domain::{Job, Payload};
use coretex_ports::{EventRow, Row, Scan, Write};
use std::sync::Arc;

fn events_of(rows: &[Row]) -> Vec<EventRow> {
    let event = |row: &Row| match row {
        Row::Event(event) => event.clone(),
        Row::Job(_) | Row::Output { .. } | Row::Resource(_) => panic!("not an event"),
    };
    rows.iter().map(event).collect()
}

/// All events after `after`, `limit` to a page; moves `after` on.
async fn watch(kit: &Kit, after: &mut Box<[u64; 256]>, limit: usize) -> Vec<EventRow> {
    let mut all = Vec::new();
    loop {
        let page = kit.scan(Scan::Events { after: after.clone(), limit }).await;
        assert!(page.rows.len() <= limit);
        let events = events_of(&page.rows);
        for event in &events {
            let seen = &mut after[usize::from(event.shard.0)];
            assert!(event.entry.seq > *seen, "sequences rise");
            *seen = event.entry.seq;
        }
        all.extend(events);
        if !page.more {
            return all;
        }
        assert!(!page.rows.is_empty(), "a page without rows must be the last");
    }
}

fn zero() -> Box<[u64; 256]> {
    Box::new([0; 256])
}

pub async fn events_come_in_commit_order(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut jobs = [kit.submit(5).await, kit.submit(3).await, kit.submit(9).await];
    for job in jobs.iter_mut().rev() {
        kit.start(job, "w");
        kit.put(job, 2).await;
    }
    let events = watch(&kit, &mut zero(), 1_000).await;
    let order: Vec<_> = events.iter().map(|e| (e.job_id.clone(), e.entry.event.kind())).collect();
    let (submitted, admitted) = (EventKind::Submitted, EventKind::Admitted);
    let (dispatched, started) = (EventKind::Dispatched, EventKind::Started);
    let mut expected = Vec::new();
    for n in [5, 3, 9] {
        expected.extend([(made(n), submitted), (made(n), admitted)]);
    }
    for n in [9, 3, 5] {
        expected.extend([(made(n), dispatched), (made(n), started)]);
    }
    assert_eq!(order, expected);
}

pub async fn events_resume_where_they_stopped(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut after = zero();
    let mut total = 0;
    for round in 0..20 {
        for n in 0..10 {
            kit.submit(round * 10 + n).await;
        }
        let events = watch(&kit, &mut after, 7).await;
        assert_eq!(events.len(), 20, "round {round}");
        total += events.len();
    }
    assert_eq!(watch(&kit, &mut zero(), 33).await.len(), total);
}

pub async fn every_event_says_from_and_to(h: &dyn Harness) {
    let mut kit = open(h).await;
    kit.run(1, u64::MAX).await;
    let events = watch(&kit, &mut zero(), 100).await;
    let moves: Vec<_> = events.iter().map(|e| (e.from, e.to)).collect();
    let (pending, scheduled, dispatched) = (StateKind::Pending, StateKind::Scheduled, StateKind::Dispatched);
    let (running, succeeded) = (StateKind::Running, StateKind::Succeeded);
    assert_eq!(
        moves,
        [
            (None, pending),
            (Some(pending), scheduled),
            (Some(scheduled), dispatched),
            (Some(dispatched), running),
            (Some(running), succeeded),
        ]
    );
}

pub async fn events_after_the_end_are_none(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut after = zero();
    assert!(watch(&kit, &mut after, 10).await.is_empty());
    kit.submit(1).await;
    assert_eq!(watch(&kit, &mut after, 10).await.len(), 2);
    assert!(watch(&kit, &mut after, 10).await.is_empty());
}

pub async fn events_carry_topic_and_labels(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut spec = Spec::new("job.labelled", Payload::empty());
    spec.options_mut().labels = vec![("team".into(), "a".into())];
    let mut job = kit.new_job(&default_ns(), made(1), START + 1, spec);
    kit.put_new(&job).await;
    kit.admit(&mut job);
    kit.put(&job, 1).await;
    kit.settle().await;
    kit.start(&mut job, "w");
    kit.put(&job, 2).await;
    for event in watch(&kit, &mut zero(), 100).await {
        assert_eq!(event.topic.as_ref(), "job.labelled");
        assert_eq!(event.labels, [("team".into(), "a".into())]);
        assert_eq!((event.namespace.as_str(), &event.job_id), ("default", &made(1)));
        assert_eq!(event.shard, job.shard);
        let entry = job.history.iter().find(|entry| entry.seq == event.entry.seq);
        assert_eq!(entry, Some(&event.entry));
    }
}

pub async fn events_of_many_shards_resume_exactly(h: &dyn Harness) {
    let mut kit = open(h).await;
    kit.submit_all(0..700).await;
    let mut after = zero();
    let events = watch(&kit, &mut after, 100).await;
    assert_eq!(events.len(), 1_400);
    assert_eq!(after, kit.sequences);
    // A watcher that has seen only some shards gets exactly the others.
    let mut partly = after.clone();
    for shard in (0..256).step_by(2) {
        partly[shard] = 0;
    }
    let again = watch(&kit, &mut partly, 100).await;
    assert!(again.iter().all(|event| event.shard.0 % 2 == 0));
    assert_eq!(again.len(), events.iter().filter(|event| event.shard.0 % 2 == 0).count());
}

pub async fn several_events_of_one_commit_come_in_order(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut a = kit.plain(1);
    let mut b = kit.plain(257);
    assert_eq!(a.shard, b.shard);
    let first = (new_write(&a), new_write(&b));
    kit.admit(&mut b);
    kit.admit(&mut a);
    let write = |job: &Job| Write::Job { job: Arc::new(job.clone()), fresh: 1 };
    kit.commit(vec![first.0, first.1, write(&b), write(&a)]).await;
    let events = watch(&kit, &mut zero(), 3).await;
    let order: Vec<_> = events.iter().map(|e| e.entry.seq).collect();
    assert_eq!(order, [1, 2, 3, 4]);
}

pub async fn attempts_and_workers_are_told(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut job = kit.submit(1).await;
    for worker in ["w-1", "w-2"] {
        kit.start(&mut job, worker);
        kit.put(&job, 2).await;
        kit.apply(&mut job, Event::Released);
        kit.put(&job, 1).await;
        kit.settle().await;
    }
    let events = watch(&kit, &mut zero(), 100).await;
    let told: Vec<_> =
        events.iter().map(|e| (e.attempt, e.worker_id.as_deref().unwrap_or("-").to_owned())).collect();
    let expected =
        [(0, "-"), (1, "-"), (1, "w-1"), (1, "w-1"), (2, "w-1"), (2, "w-2"), (2, "w-2"), (3, "w-2")];
    assert_eq!(told, expected.map(|(attempt, worker)| (attempt, worker.to_owned())));
}

pub async fn events_survive_indexing(h: &dyn Harness) {
    let mut kit = open(h).await;
    for n in 0..30 {
        kit.run(n, u64::MAX).await;
        if n % 10 == 0 {
            kit.settle().await;
        }
    }
    kit.settle().await;
    assert_eq!(watch(&kit, &mut zero(), 11).await.len(), 150);
}
