//! What the attributes make of functions and values.

use coretex_sdk::testing::{self, Call};
use coretex_sdk::{Bind, Ctx, HandlerError, JobType, job, jobs};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Mail {
    to: String,
}

/// Sends a mail.
#[job(topic = "mail.send", retries = 4, timeout = "30s", priority = 6, pool = "mail")]
async fn send(ctx: Ctx, mail: Mail) -> Result<String, HandlerError> {
    ctx.progress(0.5, "half");
    Ok(format!("{} in attempt {}", mail.to, ctx.attempt()))
}

#[job]
async fn tick() -> Result<(), HandlerError> {
    Ok(())
}

#[job(slots = 2, idempotent)]
fn crunch(number: u64) -> Result<u64, HandlerError> {
    Ok(number * 2)
}

#[derive(Default)]
struct Counter {
    count: AtomicU32,
}

#[jobs]
impl Counter {
    #[job(topic = "count.add")]
    async fn add(&self, _ctx: Ctx, by: u32) -> Result<u32, HandlerError> {
        Ok(self.count.fetch_add(by, Ordering::Relaxed) + by)
    }

    #[job(topic = "count.read")]
    async fn read(&self) -> Result<u32, HandlerError> {
        Ok(self.count())
    }

    #[job(topic = "count.slow")]
    fn slow(&self, ctx: Ctx) -> Result<u32, HandlerError> {
        ctx.check()?;
        Ok(self.count())
    }

    fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn a_function_is_a_handler_and_a_typed_request() {
    let called = Call::new(send::TOPIC).attempt(2).call(send, Mail { to: "a".into() }).await;
    assert_eq!(called.result.unwrap(), "a in attempt 2");
    assert_eq!(called.progress, [(Some(0.5), "half".to_owned())]);
    let request = send::job(Mail { to: "b".into() });
    assert_eq!(request.topic(), "mail.send");
    assert_eq!(request.input().unwrap().parse::<Mail>().unwrap(), Mail { to: "b".into() });
    assert_eq!(request.priority_level(), Some(6));
    assert_eq!(request.retries().unwrap().max_attempts, Some(5), "four more than the first");
    assert_eq!(request.limits().unwrap().start_to_close, Some(Duration::from_secs(30)));
    testing::call(tick, ()).await.result.unwrap();
    assert_eq!(tick::TOPIC, "tick");
    assert_eq!(crunch::call(4).unwrap(), 8);
    assert_eq!(crunch.bindings()[0].topic(), "crunch");
}

#[tokio::test]
async fn methods_are_handlers_that_share_their_value() {
    let counter = Arc::new(Counter::default());
    let topics: Vec<_> =
        counter.clone().bindings().iter().map(|binding| binding.topic().to_owned()).collect();
    assert_eq!(topics, ["count.add", "count.read", "count.slow"]);
    let called = testing::call(|ctx, by| counter.add(ctx, by), 3).await;
    assert_eq!(called.result.unwrap(), 3);
    assert_eq!(counter.read().await.unwrap(), 3);
    assert_eq!(Counter::add_job(7).input().unwrap().parse::<u32>().unwrap(), 7);
    let stopped = Call::new("count.slow").cancelled("enough");
    let called = stopped.call(|ctx: Ctx, (): ()| async { counter.slow(ctx) }, ()).await;
    assert!(called.result.unwrap_err().is_cancelled());
}
