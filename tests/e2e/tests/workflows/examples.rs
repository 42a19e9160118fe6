//! The workflows and schedules of `examples/`, each on a real server with small real workers.

use crate::{EVIDENCE, apply, begin, count, end, example, output, root, start};
use coretex_e2e::process::coretex;
use coretex_sdk::{Client, Ctx, HandlerError, ListRequest, RunState, Worker};
use serde_json::{Value, json};
use std::time::Duration;

async fn book(_: Ctx, asked: Value) -> Result<Value, HandlerError> {
    match asked["what"].as_str().unwrap_or_default() {
        "limousine" => Err(HandlerError::new("SoldOut", "no limousine is left")),
        what => Ok(json!({ "ref": format!("{what}-1") })),
    }
}

async fn echo(_: Ctx, asked: Value) -> Result<Value, HandlerError> {
    Ok(asked)
}

async fn digest(_: Ctx, asked: Value) -> Result<Value, HandlerError> {
    let path = asked["path"].as_str().unwrap_or_default().to_owned();
    let text = std::fs::read_to_string(root().join(&path))
        .map_err(|error| HandlerError::new("Unreadable", error.to_string()).terminal())?;
    Ok(json!({ "path": path, "size": text.len(), "lines": text.lines().count() }))
}

pub(crate) fn serve(client: &Client) -> tokio::task::JoinHandle<()> {
    let worker = Worker::builder(client)
        .bind_fn("job.book", book)
        .bind_fn("job.unbook", echo)
        .bind_fn("job.notify", echo)
        .bind_fn("job.refund", echo)
        .bind_fn("job.file.digest", digest)
        .bind_fn("job.noop", echo)
        .slots(64)
        .build()
        .unwrap();
    tokio::spawn(async move { drop(worker.run_until(std::future::pending::<()>()).await) })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trip_is_booked_whole_or_undone() {
    let (server, client) = start().await;
    apply(&client, &example("trip.yaml")).await;
    let worker = serve(&client);
    let good = begin(&client, "trip", json!({ "traveller": "ann" })).await;
    let run = end(&client, &good).await;
    assert_eq!(
        output(&run),
        json!({ "flight": "flight-1", "hotel": "hotel-1", "car": "small-1" }),
        "{:?}",
        run.error
    );
    let bad = begin(&client, "trip", json!({ "traveller": "bob", "car": "limousine" })).await;
    let run = end(&client, &bad).await;
    assert_eq!(run.state, RunState::Failed);
    let undone: Vec<String> = client
        .run_history(&bad)
        .await
        .unwrap()
        .into_iter()
        .filter(|event| format!("{:?}", event).contains("UndoStarted"))
        .map(|event| event.step_id)
        .collect();
    assert_eq!(undone, ["hotel", "flight"]);
    let told = client.get(format!("{bad}:tell")).await.unwrap();
    let told: Value = told.result.unwrap().parse().unwrap();
    assert_eq!(told, json!({ "traveller": "bob", "why": "no limousine is left" }));
    EVIDENCE.add("undone", undone.len() as u64);
    worker.abort();
    drop(server);
    count();
}

#[tokio::test(flavor = "multi_thread")]
async fn real_files_are_digested_side_by_side_and_reported() {
    let (server, client) = start().await;
    apply(&client, &example("digest-files.yaml")).await;
    let worker = serve(&client);
    let mut files: Vec<String> = std::fs::read_dir(root().join("docs/guide"))
        .unwrap()
        .map(|entry| format!("docs/guide/{}", entry.unwrap().file_name().to_string_lossy()))
        .collect();
    files.push("no/such/file".into());
    let id = begin(&client, "digest-files", json!({ "files": files })).await;
    let run = end(&client, &id).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    let report = output(&run);
    assert_eq!(report["files"], json!(files.len() - 1));
    let lines: usize = files
        .iter()
        .filter_map(|file| std::fs::read_to_string(root().join(file)).ok())
        .map(|text| text.lines().count())
        .sum();
    assert_eq!(report["lines"], json!(lines));
    EVIDENCE.add("files", files.len() as u64 - 1);
    worker.abort();
    drop(server);
    count();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_refund_waits_for_a_person() {
    let (server, client) = start().await;
    apply(&client, &example("refund.yaml")).await;
    let worker = serve(&client);
    let small = begin(&client, "refund", json!({ "order": "o-1", "amount": 20 })).await;
    assert_eq!(output(&end(&client, &small).await), json!({ "paid": 20, "asked": "SKIPPED" }));
    let large = begin(&client, "refund", json!({ "order": "o-2", "amount": 500 })).await;
    let mut asked = Vec::new();
    for _ in 0..1_000 {
        asked = client.list_approvals(ListRequest::all()).await.unwrap().items;
        if !asked.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(client.get_run(&large).await.unwrap().state, RunState::Waiting);
    client.approve(asked[0].approval_id.clone(), "fine").await.unwrap();
    assert_eq!(output(&end(&client, &large).await), json!({ "paid": 500, "asked": "SUCCEEDED" }));
    worker.abort();
    drop(server);
    count();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_graph_of_a_thousand_steps_comes_to_its_end() {
    const LAYERS: usize = 20;
    const WIDE: usize = 50;
    let mut text = String::from("name: grid\nsteps:\n");
    for layer in 0..LAYERS {
        for at in 0..WIDE {
            let needs = match layer {
                0 => String::new(),
                _ => format!(" needs: [s{}-{at}, s{}-{}],", layer - 1, layer - 1, (at + 1) % WIDE),
            };
            text.push_str(&format!("  - {{ id: s{layer}-{at},{needs} topic: job.noop, input: {at} }}\n"));
        }
    }
    let (server, client) = start().await;
    apply(&client, &text).await;
    let worker = serve(&client);
    let id = begin(&client, "grid", Value::Null).await;
    let run = end(&client, &id).await;
    assert_eq!(run.state, RunState::Succeeded, "{:?}", run.error);
    assert_eq!(
        client.count(format!("run_id = \"{id}\" AND state = SUCCEEDED")).await.unwrap().0,
        (LAYERS * WIDE) as u64
    );
    EVIDENCE.add("steps", (LAYERS * WIDE) as u64);
    worker.abort();
    drop(server);
    count();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nightly_schedule_starts_a_run() {
    let (server, client) = start().await;
    apply(&client, &example("digest-files.yaml")).await;
    let worker = serve(&client);
    let file = root().join("examples/schedules/nightly-digest.yaml");
    let (url, file) = (server.url(), file.to_string_lossy().into_owned());
    let cli = |args: Vec<String>| {
        let url = url.clone();
        async move {
            let mut command = coretex();
            command.arg("schedule").args(args).args(["--addr", &url]);
            let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
            let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{text}");
            text
        }
    };
    let preview = cli(vec!["preview".into(), "--file".into(), file.clone()]).await;
    assert!(preview.contains("02:30"), "{preview}");
    cli(vec!["apply".into(), file]).await;
    cli(vec!["trigger".into(), "nightly-digest".into()]).await;
    let mut runs = Vec::new();
    for _ in 0..1_000 {
        runs = client.list_runs(ListRequest::all()).await.unwrap().items;
        if !runs.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let run = end(&client, &runs[0].run_id).await;
    assert_eq!(output(&run)["files"], json!(3), "{:?}", run.error);
    assert!(run.actor.contains("schedule:nightly-digest"), "{}", run.actor);
    worker.abort();
    drop(server);
    count();
}
