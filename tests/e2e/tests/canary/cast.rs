//! Handlers that give away what they were told, each in its own way.

use crate::search::ways;
use coretex_sdk::{Action, Ctx, HandlerError, Worker, WorkerHandle};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

/// What handlers were told, and what holds the late one back.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) told: Arc<Mutex<Vec<(String, String)>>>,
    pub(crate) is_waiting: Arc<Notify>,
    pub(crate) go_on: Arc<Notify>,
}

pub(crate) const TOPICS: [&str; 2] = ["canary.leak", "canary.review"];

async fn leak(ctx: Ctx, input: Value, seen: Seen) -> Result<Value, HandlerError> {
    let how = input["how"].as_str().unwrap_or_default().to_owned();
    let secret = ctx.secret("CANARY").await?;
    let value = secret.expose().to_owned();
    seen.told.lock().expect("no panic under it").push((how.clone(), value.clone()));
    let marker = input["marker"].as_str().unwrap_or_default();
    match how.as_str() {
        "result" => {
            Ok(json!({"marker": marker, "ways": all(&value), value.as_str(): "as a name", "echo": [&value]}))
        }
        "failure" => {
            let failure = HandlerError::new(
                &value,
                format!("{marker}: cannot log in with {value} at https://a:{value}@b"),
            );
            Err(failure.with_details(json!({"ways": all(&value)})).terminal())
        }
        "cut" => {
            // The command line keeps the end of what a program said: a value may be cut at both ends of a message.
            let tail: String = value.chars().skip(3).collect();
            Err(HandlerError::new("CUT", format!("{tail} {marker} {}", &value[..20])).terminal())
        }
        "panic" => panic!("{marker}: {value} is wrong"),
        "progress" => {
            ctx.progress(0.5, format!("{marker} with {value}"));
            ctx.checkpoint(json!({"ways": all(&value), "marker": marker}))?;
            ctx.output("log", format!("{marker} {value}\n"));
            for piece in format!("{marker} {value} {}", all(&value)).as_bytes().chunks(7) {
                ctx.output("pieces", piece.to_vec());
                ctx.output_durable("kept", piece.to_vec()).await;
            }
            // The last word is given away as well, and never finished.
            ctx.output("pieces", value.as_bytes()[..20].to_vec());
            let asked = Action::new("canary.look").resource(value.as_str());
            ctx.guard(asked, json!({"with": value})).await?;
            // What is only kept in memory is there before the job ends.
            tokio::time::sleep(Duration::from_millis(300)).await;
            Ok(json!(marker))
        }
        "late" => {
            seen.is_waiting.notify_one();
            seen.go_on.notified().await;
            Ok(json!({"late": value, "marker": marker}))
        }
        "refused" => {
            let other = ctx.secret("OTHER").await.err().map(|error| error.message().to_owned());
            let none = ctx.secret("NONE").await.err().map(|error| error.message().to_owned());
            Ok(json!([other, none]))
        }
        other => Err(HandlerError::new("HOW", other).terminal()),
    }
}

fn all(value: &str) -> Value {
    ways(value).into_iter().map(|(_, text)| Value::from(text)).collect()
}

/// A worker in this process, until the handle is drained.
pub(crate) fn serve(url: &str, seen: &Seen) -> (WorkerHandle, tokio::task::JoinHandle<()>) {
    let builder = Worker::builder(url).worker_id("canary").slots(8);
    let builder = TOPICS.iter().fold(builder, |builder, topic| {
        let seen = seen.clone();
        builder.bind_fn(*topic, move |ctx: Ctx, input: Value| leak(ctx, input, seen.clone()))
    });
    let worker = builder.build().expect("a worker");
    let handle = worker.handle();
    let running = tokio::spawn(async move { drop(worker.run_until(std::future::pending()).await) });
    (handle, running)
}
