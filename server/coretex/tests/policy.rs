//! `coretex policy`: bundles are checked, asked and compared without a server.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use coretex_sdk::{Ctx, HandlerError, JobRequest, JobState, Payload};
use coretex_testkit::ServerProcess;
use serde_json::Value;
use std::process::Command;
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_coretex");

const BUNDLE: &str = r#"
name: default
default: allow
rules:
  - id: no-destroy
    match: { topics: [sys.destroy, "sys.destroy.*"] }
    verdict: deny
    reason: never from the queue
  - id: prod-writes
    match: { risk_tags: [prod, write] }
    when: "${job.labels.env == 'prod' && job.payload.rows > 10}"
    verdict: require_approval
    approval: { approvers: [oncall], expires: 1h }
"#;

/// Exit code, standard output, standard error.
fn policy(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(BINARY).arg("policy").args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn file(name: &str, text: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    (directory, path.display().to_string())
}

#[test]
fn every_mistake_is_told_with_its_line() {
    let (_good, good) = file("good.yaml", BUNDLE);
    let (code, out, _) = policy(&["check", &good]);
    assert_eq!(code, 0);
    assert!(out.contains("default is sound, 2 rules"), "{out}");
    let (_bad, bad) = file("bad.yaml", &BUNDLE.replace("verdict: deny", "verdit: deny").replace("1h", "1x"));
    let (code, out, _) = policy(&["check", &good, &bad]);
    assert_eq!(code, 1);
    assert!(out.contains("bad.yaml:7:5: ") && out.contains("did you mean `verdict`?"), "{out}");
    assert!(out.contains("approval.expires"), "{out}");
    let (code, out, _) = policy(&["check", &bad, "-o", "json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, document["bundles"][0]["sound"].as_bool()), (1, Some(false)));
    assert_eq!(document["bundles"][0]["problems"].as_array().unwrap().len(), 3);
}

#[test]
fn a_bundle_says_what_it_decides_and_why() {
    let (_kept, path) = file("p.yaml", BUNDLE);
    let ask = |more: &[&str]| {
        let (code, out, why) = policy(&[&["explain", &path, "-o", "json"], more].concat());
        assert_eq!(code, 0, "{why}");
        serde_json::from_str::<Value>(&out).unwrap()
    };
    let denied = ask(&["--topic", "sys.destroy.disk"]);
    assert_eq!((denied["verdict"].as_str(), denied["rule"].as_str()), (Some("deny"), Some("no-destroy")));
    let risky = ["--topic", "job.x", "--risk-tag", "prod", "--risk-tag", "write", "--label", "env=prod"];
    let asked = ask(&[&risky[..], &["--data", r#"{"rows":11}"#]].concat());
    assert_eq!(asked["verdict"], "require_approval");
    assert_eq!(ask(&[&risky[..], &["--data", r#"{"rows":3}"#]].concat())["verdict"], "allow");
    let unsure = ask(&risky);
    assert_eq!(unsure["verdict"], "require_approval", "a condition without a value is not an allow");
    assert!(unsure["fault"].is_string());
}

#[test]
fn bundles_are_compared_rule_by_rule() {
    let (_old, old) = file("old.yaml", BUNDLE);
    let changed = BUNDLE.replace("default: allow", "default: deny").replace("1h", "2h");
    let (_new, new) = file("new.yaml", &changed);
    let (code, out, _) = policy(&["diff", &old, &new]);
    assert_eq!(code, 0);
    assert!(out.contains("~ default: allow -> deny") && out.contains("approval.expires"), "{out}");
    assert_eq!(policy(&["diff", &old, &old]).1, "the bundles say the same\n");
    let (code, _, why) = policy(&["diff", &old, "/nowhere/new.yaml"]);
    assert_eq!(code, 1);
    assert!(why.contains("cannot read /nowhere/new.yaml"), "{why}");
}

const RULES: &str = r#"
name: house
default: allow
rules:
  - id: no-prod
    match: { topics: ["job.deploy.*"], labels: { env: prod } }
    when: "${!(job.payload.approved_by == 'ops')}"
    verdict: deny
    reason: production is deployed by ops
    remediations: [{ id: staging, title: Deploy to staging first, replacement_topic: job.deploy.staging }]
"#;

fn deploy(env: &str, by: &str) -> JobRequest {
    let input = serde_json::json!({"approved_by": by});
    JobRequest::new("job.deploy.web").label("env", env).json(&input).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_judges_by_a_bundle_of_its_own() {
    let (rules, path) = file("rules.yaml", RULES);
    let store = tempfile::tempdir().unwrap();
    let start = async || {
        let builder = ServerProcess::builder().unwrap().binary(BINARY).directory(store.path().join("s"));
        builder.set("policy.file", &path).start().await.unwrap()
    };
    let mut server = start().await;
    let client = server.client().await.unwrap();
    let denied = client.submit(deploy("prod", "me")).await.unwrap();
    let denied = client.get(denied.job_id()).await.unwrap();
    assert_eq!(denied.state, JobState::Denied);
    let decision = denied.decision.unwrap();
    assert_eq!((decision.policy.as_str(), decision.rule_id.as_str()), ("house", "no-prod"));
    assert_eq!(decision.reason, "production is deployed by ops");
    let by_ops = client.submit(deploy("prod", "ops")).await.unwrap();
    let staging = client.submit(deploy("staging", "me")).await.unwrap();
    assert_eq!(client.get(by_ops.job_id()).await.unwrap().state, JobState::Scheduled);
    // A bundle that was changed judges what waits anew, before it is handed out.
    std::fs::write(rules.path().join("rules.yaml"), RULES.replace("env: prod", "env: staging")).unwrap();
    server.stop().await.unwrap();
    let server = start().await;
    let client = server.client().await.unwrap();
    let worker = coretex_sdk::Worker::builder(client.clone())
        .bind_fn("job.deploy.web", async |_: Ctx, input: Payload| Ok::<_, HandlerError>(input))
        .build()
        .unwrap();
    let serving = tokio::spawn(worker.run_until(std::future::pending::<()>()));
    let wait = Duration::from_secs(20);
    assert_eq!(client.wait_for(by_ops.job_id(), wait).await.unwrap().state, JobState::Succeeded);
    assert_eq!(client.wait_for(staging.job_id(), wait).await.unwrap().state, JobState::Denied);
    serving.abort();
}

#[test]
fn a_server_does_not_start_with_rules_it_cannot_keep() {
    let (_kept, unnamed) = file("unnamed.yaml", &RULES.replace("default: allow", "default: deny"));
    let start = |policy: &str| {
        let set = format!("policy.file={policy}");
        let output = Command::new(BINARY)
            .args(["dev", "--memory", "--listen", "127.0.0.1:0", "--set", &set])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, why) = start(&unnamed);
    assert_eq!(code, Some(78), "{why}");
    assert!(
        why.contains("R10") && why.contains("only the policy named default decides by its default"),
        "{why}"
    );
    let (code, why) = start("/nowhere.yaml");
    assert!(code == Some(78) && why.contains("R10") && why.contains("cannot read /nowhere.yaml"), "{why}");
    let (_bad, bad) = file("bad.yaml", &RULES.replace("topics", "topic"));
    let (code, why) = start(&bad);
    assert!(code == Some(78) && why.contains("did you mean `topics`?"), "{why}");
}

/// The same at a server.
fn ask(server: &ServerProcess, args: &[&str]) -> (i32, String, String) {
    policy(&[args, &["--addr", &server.addr()]].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_applied_tried_and_rolled_back_from_the_command_line() {
    let server = ServerProcess::builder().unwrap().binary(BINARY).start().await.unwrap();
    let client = server.client().await.unwrap();
    let (_one, one) = file("one.yaml", RULES);
    let (_two, two) = file("two.yaml", &RULES.replace("env: prod", "env: staging"));
    let (code, out, why) = ask(&server, &["apply", &one, "--comment", "ops own prod"]);
    assert!(code == 0 && out.starts_with("house version 1 is in force\n"), "{out}{why}");
    client.submit(deploy("prod", "me")).await.unwrap();
    client.submit(deploy("staging", "me")).await.unwrap();
    let (_, out, why) = ask(&server, &["decisions", "--verdict", "deny"]);
    assert!(out.contains("no-prod") && out.lines().count() == 2, "{out}{why}");
    let (_, out, why) = ask(&server, &["simulate", &two]);
    assert!(out.contains("2 jobs judged: 2 with another verdict"), "{out}{why}");
    assert!(out.contains("ALLOW -> DENY: 1") && out.contains("house/no-prod"), "{out}");
    let (_, out, _) = ask(&server, &["apply", &two, "--validate-only"]);
    assert!(out.contains("nothing was changed") && out.contains("match.labels"), "{out}");
    assert_eq!(ask(&server, &["apply", &two]).0, 0);
    let job = ["--topic", "job.deploy.web", "--label", "env=staging", "--data", r#"{"approved_by":"me"}"#];
    let (_, out, why) = ask(&server, &[&["explain"], &job[..]].concat());
    assert!(out.contains("DENY") && out.contains("house/no-prod (DENY): decides"), "{out}{why}");
    assert!(out.contains("default/no-destroy"), "{out}");
    let (_, out, why) = ask(&server, &["rollback", "house", "1"]);
    assert!(out.starts_with("house version 1 is in force\n"), "{out}{why}");
    let (_, out, _) = ask(&server, &[&["check"], &job[..]].concat());
    assert!(out.contains("ALLOW"), "{out}");
    let (_, out, _) = ask(&server, &["versions", "house"]);
    assert!(out.contains("in force") && out.lines().count() == 3, "{out}");
    let (_, out, _) = ask(&server, &["list", "-o", "json"]);
    let document: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(document["policies"].as_array().map(Vec::len), Some(2), "{document}");
    assert!(ask(&server, &["get", "house"]).1.contains("ops own prod"));
    let (code, _, why) = ask(&server, &["rollback", "house", "9"]);
    assert!(code == 1 && why.contains("version 9 not found"), "{why}");
    assert_eq!(ask(&server, &["delete", "house"]).1, "house is out of force\n");
    assert_eq!(ask(&server, &["delete", "house"]).1, "house was not in force\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_applied_survives_a_kill_and_a_file_is_taken_when_it_changes() {
    let (rules, path) = file("rules.yaml", RULES);
    let store = tempfile::tempdir().unwrap();
    let start = async |with_file: bool| {
        let builder = ServerProcess::builder().unwrap().binary(BINARY).directory(store.path().join("s"));
        let builder = if with_file { builder.set("policy.file", &path) } else { builder };
        builder.start().await.unwrap()
    };
    let mut server = start(true).await;
    let allowed = async |server: &ServerProcess, env: &str| {
        let client = server.client().await.unwrap();
        let job = client.submit(deploy(env, "me")).await.unwrap();
        client.get(job.job_id()).await.unwrap().state == JobState::Scheduled
    };
    assert!(!allowed(&server, "prod").await);
    // A file that cannot be used changes nothing; the next that can is taken without a restart.
    std::fs::write(rules.path().join("rules.yaml"), "name: house\nrules: 7\n").unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!allowed(&server, "prod").await);
    std::fs::write(rules.path().join("rules.yaml"), RULES.replace("env: prod", "env: staging")).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !allowed(&server, "prod").await {
        assert!(std::time::Instant::now() < deadline, "the file was not taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(!allowed(&server, "staging").await);
    server.kill().await.unwrap();
    let server = start(false).await;
    assert!(!allowed(&server, "staging").await, "what was in force is in force again");
    assert!(allowed(&server, "prod").await);
}
