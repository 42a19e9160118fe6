//! Workflows on the real binary: the examples with real workers, and runs whose server is killed in their middle.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod examples;
mod kills;

use coretex_e2e::evidence::Evidence;
use coretex_e2e::process::{Server, Setup};
use coretex_sdk::{ApplyWorkflow, Client, Run, RunRequest};
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

static EVIDENCE: Evidence = Evidence::of("workflows");

const LONG: Duration = Duration::from_secs(120);

/// A case ended well.
pub(crate) fn count() {
    EVIDENCE.add("cases", 1);
}

pub(crate) async fn start() -> (Server, Client) {
    let server = Server::start(Setup::file()).await;
    let client = Client::connect(server.url()).await.unwrap();
    (server, client)
}

/// The folder of the repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

pub(crate) fn example(name: &str) -> String {
    std::fs::read_to_string(root().join("examples/workflows").join(name)).unwrap()
}

pub(crate) async fn apply(client: &Client, text: &str) {
    client.apply_workflow(ApplyWorkflow::yaml(text)).await.unwrap();
}

pub(crate) async fn begin(client: &Client, workflow: &str, input: Value) -> String {
    let request = RunRequest::new(workflow).input(input).unwrap();
    client.start_run(request).await.unwrap().run.run_id
}

pub(crate) async fn end(client: &Client, id: &str) -> Run {
    client.wait_run_for(id, LONG).await.unwrap()
}

pub(crate) fn output(run: &Run) -> Value {
    run.output.as_ref().map_or(Value::Null, |output| output.parse().unwrap())
}
