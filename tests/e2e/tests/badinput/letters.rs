//! Row 49: dead letters that are not there, that were retried already, and too many at once.

use crate::{Target, check, field, refusal};
use coretex_contract::v1 as pb;
use coretex_e2e::api::spec;
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn row_49_redrives_of_what_is_not_there_or_was_done() {
    let mut target = Target::start().await;
    let api = target.api.clone();
    // Policy denies it, so that it leaves a dead letter without a worker.
    let dead = api.submit(pb::JobSpec { job_id: "dead".into(), ..spec("sys.destroy") }).await;
    let waiting = api.submit(spec("job.waiting")).await;
    let mut dlq = api.dlq();
    let retry = |id: &str| pb::RetryDeadLetterRequest { dead_letter_id: id.into(), ..Default::default() };
    let first = dlq.retry_dead_letter(retry(&dead)).await.expect("retried").into_inner();
    target.mark().await;

    let again = dlq.retry_dead_letter(retry(&dead)).await.expect("retried before").into_inner();
    assert!(again.existing);
    assert_eq!(again.job.map(|job| job.job_id), first.job.map(|job| job.job_id), "the same new id");
    let missing = refusal(Code::NotFound, &["DEAD_LETTER_NOT_FOUND"]);
    for id in ["no-such-job", waiting.as_str(), "job_01m7yxyh2gekhrdvnze1hhcs4j"] {
        let status = dlq.retry_dead_letter(retry(id)).await.expect_err("none");
        check(49, &format!("retry {id}"), &status, missing);
    }
    for id in ["", "../x", "job_short", "x\0"] {
        let status = dlq.retry_dead_letter(retry(id)).await.expect_err("malformed");
        check(49, &format!("retry {id:?}"), &status, field("dead_letter_id"));
    }
    type Many = pb::BatchRetryDeadLettersRequest;
    let many = |request| {
        let mut dlq = api.dlq();
        async move { dlq.batch_retry_dead_letters(request).await.expect_err("refused") }
    };
    let ids = Many { dead_letter_ids: vec!["x".into(); 1_001], ..Default::default() };
    check(49, "too many ids", &many(ids).await, refusal(Code::ResourceExhausted, &["BATCH_TOO_LARGE"]));
    check(49, "nothing named", &many(Many::default()).await, field("filter"));
    let fast = Many { all: true, rate: 1_000_000, ..Default::default() };
    check(49, "too fast", &many(fast).await, field("rate"));
    target.unharmed(1).await;
}
