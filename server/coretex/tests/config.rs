//! Configuration by the command line and by the SDK, on a real server: set, followed, gone back to, and seen by jobs.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use coretex_sdk::{
    ConfigChain, ConfigLevel, ConfigScope, Ctx, HandlerError, JobRequest, JobState, Payload, SetConfig,
    Worker,
};
use coretex_testkit::ServerProcess;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_coretex");

fn command(addr: &str, args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("config").args(args).args(["--addr", addr]).stdin(Stdio::null());
    command.env_remove("CORETEX_NAMESPACE").env_remove("CORETEX_API_KEY");
    command
}

/// Exit code, standard output, standard error.
async fn config(addr: &str, args: &[&str]) -> (i32, String, String) {
    let mut command = command(addr, args);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

async fn document(addr: &str, args: &[&str]) -> Value {
    let (code, out, why) = config(addr, &[args, &["-o", "json"]].concat()).await;
    assert_eq!(code, 0, "{args:?}: {why}");
    serde_json::from_str(&out).unwrap()
}

async fn said(addr: &str, args: &[&str]) -> String {
    let (code, out, why) = config(addr, args).await;
    assert_eq!(code, 0, "{args:?}: {why}");
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_keeps_configuration_by_the_command_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    std::fs::write(path("base.yaml"), "llm:\n  model: small\n  limit: 5\nregion: eu\n").unwrap();
    std::fs::write(path("schema.json"), r#"{"properties": {"limit": {"maximum": 10}}}"#).unwrap();
    let builder = ServerProcess::builder().unwrap().binary(BINARY).directory(path("store"));
    let mut server = builder.start().await.unwrap();
    let addr = server.addr();

    assert_eq!(
        said(&addr, &["set", "system", "--file", &path("base.yaml"), "-m", "first"]).await,
        "system  revision 1\n"
    );
    said(&addr, &["set", "--data", r#"{"llm": {"model": "big"}, "region": null}"#]).await;
    assert_eq!(
        said(&addr, &["set", "team/a", "--set", "llm.limit=7", "--set", "note=hi"]).await,
        "team/a  revision 1\n"
    );
    let set = document(&addr, &["set", "team/a", "--set", "note=null", "--revision", "1"]).await;
    assert_eq!(set["config"]["data"], json!({"llm": {"limit": 7}}));
    let (code, _, why) = config(&addr, &["set", "team/a", "--set", "x=1", "--revision", "1"]).await;
    assert!(
        code == 1 && why.contains("REVISION_MISMATCH") && why.contains("is at revision 2, not 1"),
        "{why}"
    );

    let table = said(&addr, &["effective", "--team", "a"]).await;
    let rows: Vec<Vec<&str>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows[1], ["llm.limit", "7", "team/a", "2"], "{table}");
    assert_eq!(rows[2], ["llm.model", "\"big\"", "org/default", "1"], "{table}");
    assert_eq!(rows.len(), 3, "{table}");
    let effective = document(&addr, &["effective", "--team", "a"]).await;
    assert_eq!(effective["data"], json!({"llm": {"limit": 7, "model": "big"}}));
    assert_eq!(effective["sources"]["llm.limit"]["level"], "CONFIG_LEVEL_TEAM");

    let listed = document(&addr, &["list", "--full"]).await;
    assert_eq!(listed["configs"].as_array().unwrap().len(), 3);
    assert!(listed["configs"][0]["data"].is_object());
    assert!(said(&addr, &["list"]).await.lines().nth(1).unwrap().ends_with("first"));
    assert!(said(&addr, &["get", "system"]).await.contains("\nllm:\n"));
    assert!(said(&addr, &["get", "system", "-o", "yaml"]).await.contains("model: small"));

    assert_eq!(said(&addr, &["rollback", "team/a", "--to", "1"]).await, "team/a  revision 3\n");
    assert_eq!(said(&addr, &["delete", "team/a", "--revision", "3"]).await, "team/a  revision 4  deleted\n");
    let history = said(&addr, &["history", "team/a"]).await;
    let changes: Vec<&str> =
        history.lines().skip(1).map(|row| row.split_whitespace().nth(2).unwrap()).collect();
    assert_eq!(changes, ["delete", "rollback", "set", "set"], "{history}");
    assert!(said(&addr, &["history", "team/a", "--data", "--limit", "2"]).await.contains("note: hi"));
    let (code, _, why) = config(&addr, &["get", "team/a"]).await;
    assert!(code == 1 && why.contains("CONFIG_NOT_FOUND"), "{why}");

    assert!(
        said(&addr, &["schema", "set", "org", "llm", "--file", &path("schema.json")])
            .await
            .contains("revision 1")
    );
    let (code, _, why) = config(&addr, &["set", "team/b", "--set", "llm.limit=11"]).await;
    assert!(code == 1 && why.contains("SCHEMA_VIOLATION"), "{why}");
    assert!(why.contains("data.llm.limit: maximum: must be at most 10, got 11"), "{why}");
    assert!(said(&addr, &["schema", "list"]).await.contains("\"llm\""));
    assert_eq!(said(&addr, &["schema", "delete", "org", "llm"]).await, "deleted\n");

    server.stop().await.unwrap();
    let report =
        Command::new(BINARY).args(["admin", "fsck", "-o", "json"]).arg(path("store")).output().unwrap();
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    assert_eq!(report["sound"].as_bool(), Some(true), "{report}");
}

#[tokio::test]
async fn bad_command_lines_are_refused_before_a_server_is_asked() {
    for (args, wanted) in [
        (&["set"][..], "nothing to set"),
        (&["set", "--data", "{"], "--data is not JSON"),
        (&["set", "--data", "[1]"], "must be a map"),
        (&["set", "squad/a", "--set", "a=1"], "is no scope"),
        (&["set", "--set", "a..b=1"], "it is empty"),
        (&["rollback", "--to", "0"], "--to"),
        (&["history", "--limit", "0"], "--limit"),
    ] {
        let (code, _, why) = config("http://127.0.0.1:9", args).await;
        assert!(code == 2 && why.contains(wanted), "{args:?}: {code} {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_prints_the_state_and_every_change() {
    let server = ServerProcess::builder().unwrap().binary(BINARY).start().await.unwrap();
    let addr = server.addr();
    let mut watching = command(&addr, &["watch", "--team", "a"]).stdout(Stdio::piped()).spawn().unwrap();
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
    let first = told.recv().await.unwrap();
    assert!(first.starts_with("EXISTING") && first.ends_with("{}"), "{first}");
    said(&addr, &["set", "team/a", "--set", "n=1"]).await;
    let second = told.recv().await.unwrap();
    assert!(second.contains("SET  team/a  revision 1") && second.ends_with(r#"{"n":1}"#), "{second}");
    watching.kill().unwrap();
    watching.wait().unwrap();
}

async fn tell(ctx: Ctx, _: Payload) -> Result<Value, HandlerError> {
    let config: Value = ctx.config().await?;
    let size = config["text"].as_str().map_or(0, str::len);
    Ok(json!({"size": size, "model": config["llm"]["model"], "digest": ctx.config_digest()}))
}

const RULES: &str = r#"
name: house
default: allow
rules:
  - id: frozen
    match: { topics: ["job.*"] }
    when: "${config.frozen == true}"
    verdict: deny
    reason: the team is frozen
"#;

#[tokio::test(flavor = "multi_thread")]
async fn handlers_and_policies_see_the_configuration_of_a_job() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rules.yaml");
    std::fs::write(&path, RULES).unwrap();
    let builder = ServerProcess::builder().unwrap().binary(BINARY);
    let server = builder.set("policy.file", &path.display().to_string()).start().await.unwrap();
    let client = server.client().await.unwrap();
    let org = ConfigScope::org();
    let made = client.set_config(SetConfig::replace(org.clone(), json!({"frozen": false}))).await.unwrap();
    let merged = client.set_config(
        SetConfig::merge(org.clone(), json!({"llm": {"model": "big"}}))
            .if_revision(made.revision)
            .comment("why"),
    );
    let merged = merged.await.unwrap();
    assert_eq!(
        (merged.revision, merged.comment.as_str(), merged.scope.level()),
        (2, "why", ConfigLevel::Org)
    );
    client.set_config(SetConfig::replace(ConfigScope::team("cold"), json!({"frozen": true}))).await.unwrap();
    let large = json!({"text": "x".repeat(50_000)});
    client.set_config(SetConfig::replace(ConfigScope::team("large"), large)).await.unwrap();

    let worker = Worker::builder(&client).bind_fn("job.t", tell).build().unwrap();
    let running = tokio::spawn(worker.run_until(std::future::pending::<()>()));
    for (team, size) in [("none", 0), ("large", 50_000)] {
        let request = JobRequest::new("job.t").label("team", team);
        let job = client.run(request).await.unwrap();
        let effective = client.effective_config(ConfigChain::org().team(team)).await.unwrap();
        let told: Value = job.result.as_ref().unwrap().parse().unwrap();
        assert_eq!(told, json!({"size": size, "model": "big", "digest": effective.digest}));
        assert_eq!(job.config_digest, effective.digest);
        assert_eq!(effective.sources["llm.model"].scope.to_string(), "org/default");
    }
    let denied = client.submit(JobRequest::new("job.t").label("team", "cold")).await.unwrap();
    assert_eq!(client.get(denied.job_id()).await.unwrap().state, JobState::Denied);

    let listed: Vec<_> = client.list_all_configs("level = TEAM").try_collect().await.unwrap();
    assert_eq!(listed.iter().map(|one| one.scope.id()).collect::<Vec<_>>(), ["cold", "large"]);
    let back = client.rollback_config(org.clone(), 1).await.unwrap();
    assert_eq!(back.data, Some(json!({"frozen": false})));
    let history: Vec<_> = client.config_history(org.clone()).try_collect().await.unwrap();
    assert_eq!(history.iter().map(|one| one.change).collect::<Vec<_>>(), ["ROLLBACK", "SET", "SET"]);

    let mut steps = std::pin::pin!(client.watch_config(ConfigChain::org(), ""));
    let first = steps.next().await.unwrap().unwrap();
    assert_eq!(first.config.data, json!({"frozen": false}));
    client.delete_config(org.clone(), 0).await.unwrap();
    let mut resumed = std::pin::pin!(client.watch_config(ConfigChain::org(), first.resume_token));
    let second = resumed.next().await.unwrap().unwrap();
    assert_eq!((second.config.data, second.change.unwrap().change), (json!({}), "DELETE"));
    assert_eq!(client.get_config(org.clone()).await.unwrap_err().reason(), "CONFIG_NOT_FOUND");

    let schema = json!({"type": "object", "required": ["a"]});
    assert_eq!(
        client.set_config_schema(org.clone(), "", schema).await.unwrap_err().reason(),
        "SCHEMA_VIOLATION"
    );
    let made = client.set_config_schema(org.clone(), "x", json!({"minimum": 1})).await.unwrap();
    assert_eq!((made.prefix.as_str(), client.list_config_schemas("").await.unwrap().items.len()), ("x", 1));
    assert!(client.delete_config_schema(org.clone(), "x").await.unwrap());
    let rounded = client.set_config(SetConfig::replace(org, json!({"n": u64::MAX}))).await.unwrap_err();
    assert!(rounded.message().contains("cannot be kept exactly"), "{rounded}");
    running.abort();
}
