//! Votes hold for the input they were given for.

use crate::{cli_as, count, start};
use coretex_sdk::{ApprovalState, Client, JobRequest, JobState};
use serde_json::{Value, json};

const RULES: &str = "
name: default
default: allow
rules:
  - { id: two, match: { topics: [job.deploy] }, verdict: require_approval, reason: four eyes,
      approval: { quorum: 2, expires: 1h } }
";

const SUBMITTER: &str = "submitter-key-0123456789abcdef";
const ANN: &str = "ann-key-0123456789abcdef0123456";
const BOB: &str = "bob-key-0123456789abcdef0123456";

async fn approval(addr: &str, key: &str, args: &[&str]) -> Value {
    let (code, out, why) = cli_as(addr, key, &[&["approval"], args, &["-o", "json"]].concat()).await;
    assert_eq!(code, 0, "{args:?}: {why}");
    serde_json::from_str(&out).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_after_a_yes_voids_it_also_through_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let rules = directory.path().join("rules.yaml");
    std::fs::write(&rules, RULES).unwrap();
    let roles = [("sue", SUBMITTER, "submitter"), ("ann", ANN, "operator"), ("bob", BOB, "operator")];
    let keys = roles.map(|(name, key, role)| format!("{name}:{key}:default:{role}")).join(",");
    let (mut server, _) = start(&[("policy.file", &rules.display().to_string()), ("auth.keys", &keys)]).await;
    let addr = server.url();
    let client = Client::builder(&addr).api_key(SUBMITTER).connect().await.unwrap();
    let request = JobRequest::new("job.deploy").job_id("d").json(&json!({"to": "prod"})).unwrap();
    client.submit(request).await.unwrap();

    let first = approval(&addr, ANN, &["approve", "apr_1_d", "--comment", "fine"]).await;
    assert_eq!(first["approval"]["state"], "APPROVAL_STATE_PENDING", "one of two: {first}");
    server.kill();
    server.restart().await;
    let edited = approval(&addr, BOB, &["approve", "apr_1_d", "--data", r#"{"to": "test"}"#]).await;
    assert_eq!(edited["approval"]["approval_id"], "apr_2_d", "{edited}");
    assert_eq!(edited["approval"]["state"], "APPROVAL_STATE_PENDING", "{edited}");
    let (old, job) = client.get_approval("apr_1_d").await.unwrap();
    assert_eq!(old.state, ApprovalState::Voided);
    assert_eq!(job.unwrap().state, JobState::AwaitingApproval, "what was said about the old input is void");
    let (new, _) = client.get_approval("apr_2_d").await.unwrap();
    assert!(new.input_edited && new.approvals == 1 && new.votes[0].actor == "bob", "{new:?}");
    let (code, _, why) = cli_as(&addr, SUBMITTER, &["approval", "approve", "apr_2_d"]).await;
    assert!(code == 1 && why.contains("PERMISSION_DENIED"), "{why}");
    let second = approval(&addr, ANN, &["approve", "apr_2_d"]).await;
    assert_eq!(second["approval"]["state"], "APPROVAL_STATE_APPROVED", "{second}");
    let job = client.get("d").await.unwrap();
    assert_eq!(job.state, JobState::Scheduled);
    let (_, shown, _) = cli_as(&addr, SUBMITTER, &["job", "get", "d"]).await;
    assert!(shown.contains(r#"{"to": "test"}"#), "{shown}");
    count();
}
