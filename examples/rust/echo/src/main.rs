//! A worker and a client in one program.
#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use coretex_sdk::{Client, Ctx, HandlerError, Result, Worker, job};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Message {
    text: String,
}

#[job(topic = "example.echo", retries = 2, timeout = "10s")]
async fn echo(ctx: Ctx, message: Message) -> Result<Message, HandlerError> {
    ctx.log(format!("echoing {} characters", message.text.chars().count()));
    Ok(message)
}

#[tokio::main]
async fn main() -> Result<()> {
    let client = Client::from_env().await?;
    let worker = Worker::builder(&client).slots(16).bind(echo).build()?;
    let handle = worker.handle();
    let serving = tokio::spawn(worker.run());

    for text in ["hello", "durable", "world"] {
        let message = Message { text: text.into() };
        let submitted = client.submit(echo::job(message.clone())).await?;
        let answer = submitted.output().await?;
        assert_eq!(answer, message);
        println!("{} answered {:?}", submitted.job_id(), answer.text);
    }

    handle.drain(Duration::from_secs(10)).await;
    let report = serving.await.expect("the worker does not panic")?;
    println!("the worker finished {} jobs", report.finished);
    Ok(())
}
