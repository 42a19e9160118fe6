//! The worker against a scripted server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod asks;
mod credit;
mod endings;
mod fake;
mod leaving;
mod liveness;
mod pace;
mod resume;

use coretex_sdk::{Binding, Ctx, HandlerError, Result, Worker, WorkerBuilder, WorkerReport};
use std::time::Duration;
use tokio::task::JoinHandle;

/// A worker of the fake server with handlers for all scenes.
pub(crate) fn worker(addr: &str) -> WorkerBuilder {
    Worker::builder(addr)
        .worker_id("w")
        .bind_fn("echo", |_: Ctx, input: serde_json::Value| async move { Ok(input) })
        .bind_fn("sleep", |_: Ctx, ms: u64| async move {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(ms)
        })
        .bind_fn("obey", |ctx: Ctx, _: serde_json::Value| async move {
            Err::<(), _>(ctx.cancelled().await.into())
        })
        .bind_fn("ignore", |_: Ctx, _: serde_json::Value| std::future::pending::<Result<(), HandlerError>>())
        .bind_fn("keep", |ctx: Ctx, state: String| async move {
            let stopped = ctx.cancelled().await;
            ctx.checkpoint(&state)?;
            Err::<(), _>(stopped.into())
        })
        .bind_fn("panic", |_: Ctx, text: String| async move {
            assert!(text.is_empty(), "{text}");
            Ok(())
        })
}

pub(crate) fn run(worker: WorkerBuilder) -> (coretex_sdk::WorkerHandle, JoinHandle<Result<WorkerReport>>) {
    let worker = worker.build().unwrap();
    (worker.handle(), tokio::spawn(worker.run_until(std::future::pending())))
}

#[tokio::test]
async fn what_cannot_work_is_refused_by_build() {
    let echo = || Binding::new("echo", |_: Ctx, input: String| async move { Ok(input) });
    let refused = |builder: WorkerBuilder| builder.build().unwrap_err().to_string();
    let addr = "http://127.0.0.1:1";
    assert!(refused(Worker::builder(addr)).contains("bind a handler first"));
    assert!(refused(Worker::builder(addr).bind(echo()).bind(echo())).contains("two handlers are bound"));
    let bad = Binding::new("Not A Topic", |_: Ctx, input: String| async move { Ok(input) });
    assert!(refused(Worker::builder(addr).bind(bad)).contains("is not a topic"));
    assert!(refused(Worker::builder(addr).slots(0).bind(echo())).contains("slots"));
    assert!(refused(Worker::builder("not an address").bind(echo())).contains("is not an address"));
}
