//! Dead letters many at once. Jobs that policy denies leave one at their submit, and again at each retry.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use coretex_domain::dead_letter::DeadLetter;
use coretex_domain::job::spec::Spec;
use coretex_domain::job::{Event, Note};
use coretex_domain::limits::PURGE_MAX;
use coretex_domain::{Job, JobId, Namespace, Payload, Reason, Span, Time};
use coretex_engine::api::*;
use coretex_engine::clock::{SystemClock, SystemDice};
use coretex_engine::{Engine, Redrive, RedriveEnd, RedriveRun, RedriveStep, Which};
use coretex_ports::memory::MemoryStore;
use coretex_ports::{Env, Store};
use coretex_store_embedded::{FileStore, Settings as FileSettings};
use std::collections::BTreeSet;
use std::sync::Arc;

fn caller() -> Caller {
    Caller { namespace: Namespace::new("default"), actor: "tester".into() }
}

async fn engine(store: Arc<dyn Store>, loops: usize) -> Engine {
    let env = Env { clock: Arc::new(SystemClock::new()), dice: Arc::new(SystemDice::new()) };
    let settings = Settings { loops, drain_grace: Span(200), ..Settings::default() };
    Engine::start(store, env, settings).await.unwrap()
}

async fn in_memory(loops: usize) -> Engine {
    engine(Arc::new(MemoryStore::new(coretex_ports::memory::Settings::default())), loops).await
}

/// Submits jobs that end DENIED at once.
async fn deny(engine: &Engine, count: usize) -> Vec<JobId> {
    let ask = || Ask { spec: Arc::new(Spec::new("sys.destroy", Payload::json("{}"))), job_id: None };
    let mut ids = Vec::new();
    for _ in 0..count.div_ceil(1_000) {
        let asks = (0..(count - ids.len()).min(1_000)).map(|_| ask()).collect();
        let made = engine.submit(&caller(), asks, "", None).await.unwrap();
        ids.extend(made.into_iter().map(|made| made.unwrap().job.id.clone()));
    }
    ids
}

fn letters() -> JobQuery {
    JobQuery {
        namespace: caller().namespace,
        accepts: Arc::new(|job| DeadLetter::kept(job).is_some()),
        topic: None,
        state: None,
        from: Time(0),
        to: Time::NEVER,
        descending: false,
        after: None,
        page_size: 500,
        set: JobSet::DeadLetters,
    }
}

fn all(request_id: &str) -> Redrive {
    Redrive {
        which: Which::Query(letters()),
        request_id: request_id.into(),
        rate: 0,
        stop_on_repeat: false,
        canary: false,
    }
}

async fn to_its_end(mut run: RedriveRun) -> RedriveStep {
    let mut last = None;
    while let Some(step) = run.next().await {
        last = Some(step.unwrap());
    }
    last.unwrap()
}

fn notes(job: &Job) -> Vec<&Note> {
    job.history
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Annotated(note) => Some(&**note),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_redrives_at_once_make_one_job_of_each_dead_letter() {
    for loops in [1, 3] {
        let engine = in_memory(loops).await;
        let ids = deny(&engine, 300).await;
        let (a, b) = tokio::join!(
            to_its_end(engine.redrive(&caller(), all("a"))),
            to_its_end(engine.redrive(&caller(), all("b")))
        );
        assert_eq!((&a.end, &b.end), (&Some(RedriveEnd::Done), &Some(RedriveEnd::Done)));
        assert_eq!(a.counts.retried + b.counts.retried, 300, "{:?} {:?}", a.counts, b.counts);
        for old in engine.batch_get(&caller().namespace, ids).await.unwrap().into_iter().flatten() {
            assert_eq!(notes(&old).len(), 1, "{}", old.id);
            let new = engine.get(&old.namespace, old.rare().retried_as.as_ref().unwrap()).await.unwrap();
            assert_eq!(new.rare().retry_of.as_ref(), Some(&old.id));
        }
        engine.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_a_job_at_once_is_all_in_its_history() {
    let engine = in_memory(2).await;
    let ids = deny(&engine, 200).await;
    let me = caller();
    let work = ids.iter().map(|id| async {
        let (deleted, first, second) = tokio::join!(
            engine.delete_dead_letter(&me, id),
            engine.retry(&me, id, None, "one"),
            engine.retry(&me, id, None, "two")
        );
        assert!(deleted.unwrap());
        [first.unwrap().job.id.clone(), second.unwrap().job.id.clone()]
    });
    let made = futures::future::join_all(work).await;
    for (id, new) in ids.iter().zip(made) {
        let job = engine.get(&me.namespace, id).await.unwrap();
        assert!(job.is_fold_of_history() && job.has_deleted_dead_letter());
        let sequences: BTreeSet<u64> = job.history.iter().map(|entry| entry.seq).collect();
        assert_eq!(sequences.len(), job.history.len(), "each event has its number");
        let retried: BTreeSet<&JobId> = notes(&job)
            .into_iter()
            .filter_map(|note| if let Note::RetriedAs(id) = note { Some(id) } else { None })
            .collect();
        assert_eq!(retried, new.iter().collect());
        assert_eq!(notes(&job).len(), 3);
    }
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_dead_letters_are_previewed_stopped_redriven_and_purged() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(Arc::new(FileStore::open(FileSettings::new(directory.path())).unwrap()), 2).await;
    let me = caller();
    deny(&engine, 10_000).await;
    let preview = engine.preview_redrive(&me, &all("r")).await.unwrap();
    assert_eq!((preview.matched, preview.is_exact, preview.sample.len()), (10_000, true, 10));

    let slow = Redrive { rate: 100, stop_on_repeat: true, ..all("slow") };
    let stopped = to_its_end(engine.redrive(&me, slow)).await;
    assert!(matches!(stopped.end, Some(RedriveEnd::Repeated(_))), "{:?}", stopped.end);
    let before = stopped.counts.retried;
    assert!(before < 50, "{before}");

    let done = to_its_end(engine.redrive(&me, all("r"))).await;
    assert_eq!((done.end, done.counts.existing), (Some(RedriveEnd::Done), 0));
    // What the first redrive left behind is taken up, what it had retried is not.
    assert_eq!((done.counts.retried, done.counts.skipped), (10_000, before));
    let again = to_its_end(engine.redrive(&me, all("r"))).await;
    assert_eq!((again.counts.retried, again.counts.existing), (10_000, 10_000));

    let total = 20_000 + before;
    let first = engine.purge_dead_letters(&me, letters()).await.unwrap();
    assert_eq!((first.purged, first.has_more), (PURGE_MAX as u64, true));
    let mut purged = first.purged;
    while purged < total {
        purged += engine.purge_dead_letters(&me, letters()).await.unwrap().purged;
    }
    assert_eq!(engine.preview_dead_letters(letters()).await.unwrap().matched, 0);
    let refusal = engine.delete_dead_letter(&me, &JobId::Made(1)).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::DeadLetterNotFound);
    engine.stop().await;
    drop(engine);
    let report = coretex_store_embedded::fsck(directory.path()).unwrap();
    assert!(report.is_clean(), "{:?}", report.findings);
    assert_eq!(report.dead_letters, 0);
}
