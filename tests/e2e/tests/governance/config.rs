//! A layer that changes is seen by the next job, and by no job before.

use crate::{cli, count, document, start};
use coretex_sdk::{Ctx, HandlerError, JobRequest, Payload, Worker};
use serde_json::{Value, json};

async fn tell(ctx: Ctx, _: Payload) -> Result<Value, HandlerError> {
    Ok(ctx.config().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_layer_reaches_the_next_job() {
    let (mut server, client) = start(&[]).await;
    let addr = server.url();
    let set = async |scope: &str, what: &str| {
        let (code, _, why) = cli(&addr, &["config", "set", scope, "--set", what]).await;
        assert_eq!(code, 0, "{why}");
    };
    set("system", "llm.model=small").await;
    set("team/a", "llm.limit=5").await;
    let request = || JobRequest::new("job.t").label("team", "a");
    let before = client.submit(request()).await.unwrap();
    set("team/a", "llm.limit=7").await;
    let after = client.submit(request()).await.unwrap();
    // Before anybody has run.
    server.kill();
    server.restart().await;
    let worker = Worker::builder(&client).bind_fn("job.t", tell).build().unwrap();
    let serving = tokio::spawn(worker.run_until(std::future::pending::<()>()));
    let seen = async |id: &str| client.wait(id).await.unwrap().result.unwrap().parse::<Value>().unwrap();
    assert_eq!(seen(before.job_id()).await, json!({"llm": {"model": "small", "limit": 5}}));
    assert_eq!(seen(after.job_id()).await, json!({"llm": {"model": "small", "limit": 7}}));
    let rolled = document(&addr, &["config", "rollback", "team/a", "--to", "1"]).await;
    assert_eq!(rolled["config"]["data"], json!({"llm": {"limit": 5}}), "{rolled}");
    let last = client.run(request()).await.unwrap();
    assert_eq!(seen(&last.job_id).await["llm"]["limit"], 5);
    serving.abort();
    count();
}
