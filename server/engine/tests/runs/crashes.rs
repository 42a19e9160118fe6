//! Runs over the ends of engines: whatever was committed goes on, and nothing is done twice.

use crate::kit::{apply, caller, end, engine_on, ns, output, serve, start};
use coretex_domain::run::{RunState, Signal};
use coretex_engine::Engine;
use coretex_ports::memory::MemoryStore;
use coretex_store_embedded::{FileStore, Settings};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;

const MIXED: &str = "
name: mixed
steps:
  - { id: a, topic: t, input: { n: \"${input.n}\" } }
  - { id: each, needs: [a], for_each: \"${[1, 2, 3, 4, 5, 6, 7, 8]}\", max_parallel: 3, topic: t, input: \"${item * steps.a.output.n}\" }
  - { id: nap, needs: [a], delay: 15ms }
  - id: group
    needs: [each, nap]
    parallel:
      - { id: g1, topic: t, input: \"${steps.each.output[7]}\" }
      - { id: g2, needs: [g1], when: \"${steps.g1.output > 0}\", topic: t, input: \"${steps.g1.output + 1}\" }
output: \"${steps.group.output}\"
";

fn echo(_: &str, _: &str, input: Json) -> Result<Json, String> {
    Ok(input)
}

/// Stops an engine in the middle, again and again, until the run is over.
async fn over_restarts(mut open: impl AsyncFnMut() -> Engine) {
    let mut engine = open().await;
    apply(&engine, MIXED).await;
    let id = start(&engine, "mixed", "{\"n\":3}").await;
    let mut restarts = 0;
    for pause in (0..60u64).map(|n| n % 9 * 12 + 4) {
        let worker = serve(&engine, &["t"], echo);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let is_over = engine.get_run(&ns(), &id, false).await.unwrap().run.is_over();
        // What the worker holds is reported while the engine drains.
        engine.stop().await;
        worker.abort();
        engine = open().await;
        restarts += 1;
        if is_over {
            break;
        }
    }
    let worker = serve(&engine, &["t"], echo);
    let view = end(&engine, &id).await;
    worker.abort();
    assert_eq!(view.run.state(), RunState::Succeeded, "{:?}", view.run.error());
    assert_eq!(output(&view), json!({ "g1": 24, "g2": 25 }));
    assert!(restarts > 1);
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_over_restarts_in_memory() {
    let store = MemoryStore::default();
    over_restarts(async || engine_on(Arc::new(store.reopen())).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_goes_on_over_restarts_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    over_restarts(async || {
        let store = FileStore::open(Settings::new(directory.path())).unwrap();
        engine_on(Arc::new(store)).await
    })
    .await;
}

const TURNS: &str = "
name: turns
concurrency: { key: one }
steps:
  - { id: wait, wait_event: go }
";

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_wait_for_a_place_get_it_after_a_restart() {
    let store = MemoryStore::default();
    let engine = engine_on(Arc::new(store.reopen())).await;
    apply(&engine, TURNS).await;
    let first = start(&engine, "turns", "{}").await;
    let second = start(&engine, "turns", "{}").await;
    assert_eq!(engine.get_run(&ns(), &second, false).await.unwrap().run.state(), RunState::Pending);
    engine.stop().await;
    let engine = engine_on(Arc::new(store.reopen())).await;
    for id in [&first, &second] {
        let go = Signal { id: "".into(), name: "go".into(), data: "1".into(), actor: "".into() };
        engine.signal_run(&caller(), id, go).await.unwrap();
    }
    for id in [&first, &second] {
        assert_eq!(end(&engine, id).await.run.state(), RunState::Succeeded);
    }
    engine.stop().await;
}
