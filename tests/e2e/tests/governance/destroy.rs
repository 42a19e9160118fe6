//! What nobody runs from a queue is denied, and says what to do instead.

use crate::{cli, count, document, start};
use coretex_sdk::{JobRequest, JobState};

#[tokio::test(flavor = "multi_thread")]
async fn destruction_is_denied_with_a_remediation_and_leaves_a_dead_letter() {
    let (mut server, client) = start(&[]).await;
    let addr = server.url();
    for topic in ["sys.destroy", "sys.destroy.disk"] {
        let submitted = client.submit(JobRequest::new(topic).job_id(topic)).await.unwrap();
        assert_eq!(submitted.submitted().state, JobState::Denied, "an answer, not an error");
        let decision = submitted.submitted().decision.clone().unwrap();
        assert_eq!(decision.rule_id, "no-destroy");
        assert_eq!(decision.remediations[0].replacement_topic, "job.archive");
    }
    let args = ["job", "submit", "--topic", "sys.destroy", "-o", "json"];
    let (_, out, _) = cli(&addr, &args).await;
    assert!(out.contains("JOB_STATE_DENIED") && out.contains("job.archive"), "{out}");
    let (code, table, _) = cli(&addr, &["job", "get", "sys.destroy"]).await;
    assert!(code == 0 && table.contains("no-destroy"), "{table}");
    let letter = document(&addr, &["dlq", "get", "sys.destroy"]).await;
    assert_eq!(letter["dead_letter"]["state"], "JOB_STATE_DENIED", "{letter}");
    // The verdict is as durable as the job.
    server.kill();
    server.restart().await;
    assert_eq!(client.get("sys.destroy.disk").await.unwrap().state, JobState::Denied);
    let fine = client.submit(JobRequest::new("sys.destroyer")).await.unwrap();
    assert_eq!(fine.submitted().state, JobState::Scheduled);
    count();
}
