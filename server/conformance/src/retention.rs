//! Retention: ended jobs go when due, with all that is theirs, and nothing else goes.

use crate::Harness;
use crate::kit::{START, default_ns, made, named, new_write, open, walk};
use bytes::Bytes;
use coretex_domain::job::Spec;
use coretex_domain::resource::{Kind, Resource};
use coretex_domain::{Payload, ShardId, Time};
use coretex_ports::{JobSet, Scan, Write};
use std::sync::Arc;

pub async fn due_jobs_are_removed(h: &dyn Harness) {
    let mut kit = open(h).await;
    for n in 0..10 {
        kit.run(n, 1_000 + n).await;
    }
    let cleaned = kit.clean(1_004, 100).await;
    assert_eq!(cleaned.removed, 5);
    for n in 0..10 {
        assert_eq!(kit.read(&made(n)).await.is_some(), n > 4, "job {n}");
    }
    assert_eq!(kit.walk_all(&walk(), 100).await.len(), 5);
}

pub async fn jobs_not_yet_due_stay(h: &dyn Harness) {
    let mut kit = open(h).await;
    kit.run(1, 5_000).await;
    assert_eq!(kit.clean(4_999, 100).await.removed, 0);
    assert!(kit.read(&made(1)).await.is_some());
}

pub async fn jobs_of_an_open_run_stay_and_its_parts_go_with_it(h: &dyn Harness) {
    let mut kit = open(h).await;
    let run = |is_live: bool, revision: u64| Resource {
        kind: Kind::Run,
        namespace: default_ns(),
        name: "run_nightly".into(),
        shard: ShardId(0),
        revision,
        is_live,
        create_time: Time(START),
        update_time: Time(START),
        expire_time: (!is_live).then_some(Time(3_000)),
        body: "{}".into(),
    };
    let part = |name: &str| Resource { kind: Kind::RunPart, name: name.into(), ..run(true, 1) };
    let parts = ["run_nightly/input", "run_nightly/history/0", "run_nightly2/input"]
        .map(|name| Write::Resource(Arc::new(Resource { is_live: false, expire_time: None, ..part(name) })));
    kit.commit(parts.into_iter().chain([Write::Resource(Arc::new(run(true, 1)))]).collect()).await;
    let mut jobs = Vec::new();
    for name in ["run_nightly:a", "run_nightly:b:0", "run_nightly2:a"] {
        let mut job = kit.new_job(&default_ns(), named(name), START, Spec::new("t", Payload::json("1")));
        kit.put_new(&job).await;
        kit.apply(&mut job, coretex_domain::job::Event::Cancelled(None));
        job.expire_time = Some(Time(1_000));
        kit.put(&job, 1).await;
        jobs.push(job.id);
    }
    kit.settle().await;
    assert_eq!(kit.clean(2_000, 100).await.removed, 1, "the job without an open run");
    assert!(kit.read(&jobs[0]).await.is_some() && kit.read(&jobs[1]).await.is_some());
    assert!(kit.read(&jobs[2]).await.is_none());
    kit.commit(vec![Write::Resource(Arc::new(run(false, 2)))]).await;
    kit.settle().await;
    let later = 2_000 + coretex_domain::limits::RUN_JOBS_PUT_OFF.0;
    assert_eq!(kit.clean(later - 1, 100).await.removed, 1, "the run; its jobs were put off");
    assert_eq!(kit.clean(later, 100).await.removed, 2);
    let parts = Scan::Resources {
        kind: Kind::RunPart,
        namespace: default_ns(),
        descending: false,
        after: None,
        limit: 10,
    };
    assert_eq!(kit.scan(parts).await.rows.len(), 1, "those of another run stay");
}

pub async fn open_jobs_are_never_removed(h: &dyn Harness) {
    let mut kit = open(h).await;
    let mut running = kit.submit(2).await;
    kit.submit(1).await;
    kit.start(&mut running, "w");
    kit.put(&running, 2).await;
    let cleaned = kit.clean(u64::MAX / 4, 100).await;
    assert_eq!((cleaned.removed, cleaned.next_due), (0, None));
    assert!(kit.read(&made(1)).await.is_some() && kit.read(&made(2)).await.is_some());
}

pub async fn cleaning_is_bounded(h: &dyn Harness) {
    let mut kit = open(h).await;
    for n in 0..25 {
        kit.run(n, 1_000).await;
    }
    let mut removed = Vec::new();
    for _ in 0..4 {
        removed.push(kit.clean(2_000, 10).await.removed);
    }
    assert_eq!(removed, [10, 10, 5, 0]);
}

pub async fn the_next_due_time_is_told(h: &dyn Harness) {
    let mut kit = open(h).await;
    for n in [3, 1, 2] {
        kit.run(n, 1_000 * n).await;
    }
    assert_eq!(kit.clean(0, 10).await.next_due, Some(Time(1_000)));
    assert_eq!(kit.clean(1_500, 10).await.next_due, Some(Time(2_000)));
    assert_eq!(kit.clean(9_000, 10).await.next_due, None);
}

pub async fn everything_of_a_job_goes_with_it(h: &dyn Harness) {
    let mut kit = open(h).await;
    let job = kit.run_to_failure(1, 1_000).await;
    let output = Write::Output {
        namespace: default_ns(),
        job_id: job.id.clone(),
        stream: "o".into(),
        offset: 0,
        chunk: Bytes::from_static(b"x"),
    };
    kit.commit(vec![Write::Key(Arc::new(kit.key("k", &job.id))), output]).await;
    assert_eq!(kit.clean(2_000, 10).await.removed, 1);
    assert_eq!(kit.store.read_key(default_ns(), "k".into()).await, Ok(None));
    let mut letters = walk();
    if let Scan::Jobs { set, .. } = &mut letters {
        *set = JobSet::DeadLetters;
    }
    assert!(kit.scan(letters).await.rows.is_empty());
    let output =
        Scan::Output { namespace: default_ns(), job_id: job.id, stream: "o".into(), offset: 0, limit: 5 };
    assert!(kit.scan(output).await.rows.is_empty());
}

pub async fn a_cleaned_name_can_be_used_again(h: &dyn Harness) {
    let mut kit = open(h).await;
    for round in 0..3 {
        let spec = Spec::new("t", Payload::json(format!("{round}")));
        let mut job = kit.new_job(&default_ns(), named("again"), START + round * 10, spec);
        kit.put_new(&job).await;
        kit.assert_stored(&job).await;
        kit.apply(&mut job, coretex_domain::job::Event::Cancelled(None));
        job.expire_time = Some(Time(1_000));
        kit.put(&job, 1).await;
        kit.assert_stored(&job).await;
        assert_eq!(kit.walk_all(&walk(), 10).await.len(), 1);
        assert_eq!(kit.clean(2_000, 10).await.removed, 1);
        assert_eq!(kit.read(&named("again")).await, None);
    }
    let kit = if kit.forgets() { kit } else { kit.reopen_cleanly(h).await };
    assert_eq!(kit.read(&named("again")).await, None);
}

pub async fn cleaning_an_empty_store_is_fine(h: &dyn Harness) {
    let kit = open(h).await;
    let cleaned = kit.clean(u64::MAX, 10).await;
    assert_eq!((cleaned.removed, cleaned.next_due), (0, None));
}

pub async fn a_reused_key_survives_the_cleaning_of_its_first_job(h: &dyn Harness) {
    let mut kit = open(h).await;
    let first = kit.run(1, 1_000).await;
    kit.commit(vec![Write::Key(Arc::new(kit.key("k", &first.id)))]).await;
    let second = kit.plain(2);
    kit.commit(vec![new_write(&second), Write::Key(Arc::new(kit.key("k", &second.id)))]).await;
    assert_eq!(kit.clean(2_000, 10).await.removed, 1);
    let row = kit.store.read_key(default_ns(), "k".into()).await.expect("a read");
    assert_eq!(row.map(|row| row.job_id), Some(second.id));
}
