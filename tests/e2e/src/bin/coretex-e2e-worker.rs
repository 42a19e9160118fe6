//! A worker process to be killed: `coretex-e2e-worker URL WORKER_ID TOPIC SLOTS TTL_MS DELAY_MS`. A job whose input is
//! `poison` ends the process in the middle; any other is answered with its input after the delay.

use coretex_contract::v1::payload::Body;
use coretex_e2e::frames;
use coretex_e2e::steady::{Outcome, Plan, Steady};
use std::sync::Arc;
use std::time::Duration;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, worker_id, topic, slots, ttl, delay] = args.as_slice() else {
        coretex_e2e::say("usage: coretex-e2e-worker URL WORKER_ID TOPIC SLOTS TTL_MS DELAY_MS");
        std::process::exit(2);
    };
    let millis = |text: &String| Duration::from_millis(text.parse().expect("a number of milliseconds"));
    let slots = slots.parse().expect("a number of slots");
    let delay = millis(delay);
    let hello = frames::hello(worker_id, &[topic], slots, millis(ttl));
    let _worker = Steady::start(
        url,
        hello,
        Arc::new(move |assignment| {
            if is_poison(assignment) {
                // Late enough for the start to be reported.
                std::thread::spawn(|| {
                    std::thread::sleep(Duration::from_millis(150));
                    std::process::abort();
                });
                return Plan::after(delay, Outcome::Hang);
            }
            Plan::after(delay, Outcome::Echo)
        }),
    );
    std::future::pending::<()>().await;
}

fn is_poison(assignment: &coretex_contract::v1::Assignment) -> bool {
    let body = assignment.input.as_ref().and_then(|payload| payload.body.as_ref());
    matches!(body, Some(Body::Data(data)) if data.as_ref() == b"poison")
}
