//! Approvals by the command line and by the SDK, on a real server that is killed while people think.

use crate::{cli, count, document, start};
use coretex_sdk::{ApprovalState, Ctx, HandlerError, JobRequest, JobState, Payload, Worker};
use std::time::Duration;

const RULES: &str = "
name: default
default: allow
rules:
  - { id: look, match: { topics: [job.deploy] }, verdict: require_approval, reason: somebody must look,
      approval: { approvers: [oncall], expires: 1h } }
";

async fn approval(addr: &str, args: &[&str]) -> (i32, String, String) {
    cli(addr, &[&["approval"], args].concat()).await
}

async fn echo(_: Ctx, input: Payload) -> Result<Payload, HandlerError> {
    Ok(input)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_people_waits_through_a_kill_and_runs_after_their_yes() {
    let directory = tempfile::tempdir().expect("temp dir");
    let rules = directory.path().join("rules.yaml");
    std::fs::write(&rules, RULES).expect("written");
    let (mut server, client) = start(&[("policy.file", &rules.display().to_string())]).await;
    let addr = server.url();
    for name in ["yes", "no", "edit"] {
        let request = JobRequest::new("job.deploy").job_id(name).json(&serde_json::json!({"to": name}));
        client.submit(request.expect("JSON")).await.expect("accepted");
    }
    // SIGKILL, and the same server again.
    server.kill();
    server.restart().await;
    assert_eq!(client.get("yes").await.expect("a job").state, JobState::AwaitingApproval);
    let listed = document(&addr, &["approval", "list", "--topic", "job.deploy", "--oldest-first"]).await;
    let ids: Vec<_> =
        listed["approvals"].as_array().expect("a list").iter().map(|a| &a["approval_id"]).collect();
    assert_eq!(ids, ["apr_1_yes", "apr_1_no", "apr_1_edit"]);
    let (_, table, _) = approval(&addr, &["list", "--mine"]).await;
    assert!(
        table.contains("0 of 1") && table.contains("oncall") && table.contains("somebody must look"),
        "{table}"
    );
    let (_, shown, _) = approval(&addr, &["get", "apr_1_yes"]).await;
    assert!(shown.contains("default/look") && shown.contains(r#"{"to":"yes"}"#), "{shown}");

    let (code, told, warned) = approval(&addr, &["approve", "apr_1_yes", "--comment", "looks good"]).await;
    assert_eq!((code, told.as_str()), (0, "apr_1_yes  APPROVED, 1 of 1 approvals, job yes is SCHEDULED\n"));
    assert!(warned.contains("nobody is asked to log in"), "{warned}");
    let (code, told, _) = approval(&addr, &["reject", "apr_1_no", "--comment", "not now"]).await;
    assert_eq!((code, told.as_str()), (0, "apr_1_no  REJECTED, 0 of 1 approvals, job no is DENIED\n"));
    let edited = document(&addr, &["approval", "approve", "apr_1_edit", "--data", r#"{"to":"test"}"#]).await;
    assert_eq!(edited["approval"]["approval_id"], "apr_2_edit");
    assert_eq!(edited["approval"]["state"], "APPROVAL_STATE_APPROVED");

    // Killed between the yes and the work.
    server.kill();
    server.restart().await;
    let worker = Worker::builder(&client).bind_fn("job.deploy", echo).build().expect("worker");
    let serving = tokio::spawn(worker.run_until(std::future::pending::<()>()));
    let wait = Duration::from_secs(30);
    assert_eq!(client.wait_for("yes", wait).await.expect("ended").state, JobState::Succeeded);
    let edited = client.wait_for("edit", wait).await.expect("ended");
    assert_eq!(edited.result.expect("a result").data()[..], br#"{"to":"test"}"#[..]);
    let (told, job) = client.get_approval("apr_1_no").await.expect("kept");
    assert_eq!((told.state, told.note.as_str()), (ApprovalState::Rejected, "by anonymous: not now"));
    assert_eq!(job.and_then(|job| job.failure).map(|failure| failure.kind), Some("APPROVAL_REJECTED".into()));

    let (code, _, why) = approval(&addr, &["approve", "apr_1_no"]).await;
    assert!(code == 1 && why.contains("APPROVAL_DECIDED") && why.contains("REJECTED: by anonymous"), "{why}");
    let (code, _, why) = approval(&addr, &["delegate", "apr_1_no", "--to", "bob"]).await;
    assert!(code == 1 && why.contains("APPROVAL_DECIDED"), "{why}");
    assert_eq!(
        client.approve("apr_1_yes", "").await.expect("a repeat").approval.state,
        ApprovalState::Approved
    );
    let (code, _, why) = approval(&addr, &["get", "apr_1_nobody"]).await;
    assert!(code == 1 && why.contains("APPROVAL_NOT_FOUND"), "{why}");
    let all = document(&addr, &["approval", "list", "--any-state"]).await;
    assert_eq!(all["approvals"].as_array().map(Vec::len), Some(4));
    assert_eq!(document(&addr, &["approval", "list"]).await["approvals"].as_array().map(Vec::len), Some(0));
    serving.abort();
    count();
}
