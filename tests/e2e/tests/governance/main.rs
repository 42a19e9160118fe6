//! Who decides, on the real binary: policies near and far, people, configuration, dead letters by the thousand, the audit,
//! and jobs that jobs make. By gRPC through the SDK or by hand, and by the command line.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod approvals;
mod audit;
mod children;
mod config;
mod destroy;
mod kernel;
mod redrive;
mod voided;

use coretex_e2e::evidence::Evidence;
use coretex_e2e::process::{Server, Setup, coretex};
use coretex_sdk::Client;
use serde_json::Value;

static EVIDENCE: Evidence = Evidence::of("governance");

/// A case ended well.
pub(crate) fn count() {
    EVIDENCE.add("cases", 1);
}

/// A server on files, with these settings.
pub(crate) async fn start(settings: &[(&str, &str)]) -> (Server, Client) {
    let set = |setup: Setup, (key, value): &(&str, &str)| setup.arg("--set").arg(format!("{key}={value}"));
    let server = Server::start(settings.iter().fold(Setup::file(), set)).await;
    let client = Client::connect(server.url()).await.unwrap();
    (server, client)
}

/// Exit code, standard output, standard error of a command.
pub(crate) async fn cli(addr: &str, args: &[&str]) -> (i32, String, String) {
    cli_as(addr, "", args).await
}

/// The same with an API key.
pub(crate) async fn cli_as(addr: &str, key: &str, args: &[&str]) -> (i32, String, String) {
    let mut command = coretex();
    command.args(args).args(["--addr", addr]);
    if !key.is_empty() {
        command.env("CORETEX_API_KEY", key);
    }
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// The documents a command prints.
pub(crate) async fn documents(addr: &str, args: &[&str]) -> Vec<Value> {
    let (code, out, why) = cli(addr, &[args, &["-o", "json"]].concat()).await;
    assert_eq!(code, 0, "{args:?}: {why}");
    let all = serde_json::Deserializer::from_str(&out).into_iter::<Value>();
    all.collect::<Result<_, _>>().unwrap()
}

pub(crate) async fn document(addr: &str, args: &[&str]) -> Value {
    documents(addr, args).await.pop().unwrap()
}
