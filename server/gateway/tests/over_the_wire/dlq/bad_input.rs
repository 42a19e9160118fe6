//! Requests about dead letters that are refused, each naming what is wrong, and none changing anything.

use super::{Handler, list, once, run_all};
use crate::running_server::{Server, reason};
use coretex_contract::v1 as pb;
use tonic::{Code, Status};
use tonic_types::StatusExt;

fn named(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|b| b.field_violations.clone()).unwrap_or_default();
    violations.into_iter().map(|v| v.field).collect()
}

#[tokio::test]
async fn bad_redrives_are_refused_and_nothing_is_retried() {
    let server = Server::start().await;
    let _handler = Handler::broken(&server, &["job.m"]).await;
    let ids = run_all(&server, vec![once("job.m")]).await;
    type Request = pb::BatchRetryDeadLettersRequest;
    let all = || Request { all: true, ..Default::default() };
    let rows: Vec<(&str, Request, Code, &str, &[&str])> = vec![
        ("nothing named", Request::default(), Code::InvalidArgument, "INVALID_FIELD", &["filter"]),
        (
            "two ways at once",
            Request { filter: "topic = job.m".into(), ..all() },
            Code::InvalidArgument,
            "INVALID_FIELD",
            &["filter"],
        ),
        (
            "too fast, and an id that is none",
            Request { rate: 10_001, dead_letter_ids: vec!["a b".into()], ..Default::default() },
            Code::InvalidArgument,
            "INVALID_FIELD",
            &["rate", "dead_letter_ids[0]"],
        ),
        (
            "too many ids",
            Request { dead_letter_ids: vec![ids[0].clone(); 1_001], ..Default::default() },
            Code::ResourceExhausted,
            "BATCH_TOO_LARGE",
            &[],
        ),
        (
            "a field that is none",
            Request { filter: "fingreprint = a".into(), ..Default::default() },
            Code::InvalidArgument,
            "INVALID_FILTER",
            &[],
        ),
        (
            "a request id with a line feed",
            Request { request_id: "a\nb".into(), ..all() },
            Code::InvalidArgument,
            "INVALID_FIELD",
            &["request_id"],
        ),
    ];
    for (what, request, code, why, fields) in rows {
        for preview in [false, true] {
            let request = Request { preview, ..request.clone() };
            let refused = server.dlq().batch_retry_dead_letters(request).await.expect_err(what);
            assert_eq!((refused.code(), reason(&refused).as_str()), (code, why), "{what}: {refused}");
            assert_eq!(named(&refused), fields, "{what}");
        }
    }
    assert_eq!(list(&server, "retried_as = \"\"").await.len(), 1, "nothing was retried");
    server.stop().await;
}

fn assert_names(what: &str, status: &Status, field: &str) {
    assert_eq!((status.code(), reason(status).as_str()), (Code::InvalidArgument, "INVALID_FIELD"), "{what}");
    assert_eq!(named(status), [field], "{what}: {status}");
}

#[tokio::test]
async fn bad_looks_are_refused() {
    let server = Server::start().await;
    let mut dlq = server.dlq();
    type List = pb::ListDeadLettersRequest;
    for (what, request, field) in [
        ("page size below zero", List { page_size: -1, ..Default::default() }, "page_size"),
        ("unknown order", List { order_by: "topic".into(), ..Default::default() }, "order_by"),
        ("unknown view", List { view: 9, ..Default::default() }, "view"),
        ("unknown format", List { payload_format: 9, ..Default::default() }, "payload_format"),
    ] {
        assert_names(what, &dlq.list_dead_letters(request).await.expect_err(what), field);
    }
    for max_groups in [-1, 1_001] {
        let request = pb::GroupDeadLettersRequest { max_groups, ..Default::default() };
        let refused = dlq.group_dead_letters(request).await.expect_err("refused");
        assert_names("number of groups", &refused, "max_groups");
        assert!(refused.message().contains(&max_groups.to_string()), "{refused}");
    }
    for id in ["", "job_x", "a b", &"x".repeat(129)] {
        let request = pb::GetDeadLetterRequest { dead_letter_id: id.into(), ..Default::default() };
        assert_names(id, &dlq.get_dead_letter(request).await.expect_err("refused"), "dead_letter_id");
    }
    let token = List { page_token: "AAAA".into(), ..Default::default() };
    assert_eq!(reason(&dlq.list_dead_letters(token).await.expect_err("refused")), "INVALID_PAGE_TOKEN");
    server.stop().await;
}

#[tokio::test]
async fn bad_changes_are_refused_and_change_nothing() {
    let server = Server::start().await;
    let _handler = Handler::broken(&server, &["job.m"]).await;
    let ids = run_all(&server, vec![once("job.m")]).await;
    let mut dlq = server.dlq();
    type Purge = pb::PurgeDeadLettersRequest;
    let before_all = coretex_contract::Timestamp { seconds: -5, nanos: 0 };
    for (what, request, field) in [
        ("a purge of nothing named", Purge::default(), "filter"),
        (
            "a purge of all, but only some",
            Purge { all: true, filter: "topic = job.m".into(), ..Default::default() },
            "all",
        ),
        (
            "a purge before no time",
            Purge { before_time: Some(before_all), ..Default::default() },
            "before_time",
        ),
        (
            "a request id that is too long",
            Purge { all: true, request_id: "x".repeat(257), ..Default::default() },
            "request_id",
        ),
    ] {
        assert_names(what, &dlq.purge_dead_letters(request).await.expect_err(what), field);
    }
    let malformed = pb::DeleteDeadLetterRequest { dead_letter_id: "job_x".into(), ..Default::default() };
    let refused = dlq.delete_dead_letter(malformed).await.expect_err("refused");
    assert_names("a malformed id", &refused, "dead_letter_id");
    let request_id = "a\nb".to_owned();
    let dead_letter_id = ids[0].clone();
    let named_badly = pb::RetryDeadLetterRequest { dead_letter_id, request_id, ..Default::default() };
    let refused = dlq.retry_dead_letter(named_badly).await.expect_err("refused");
    assert_names("a request id with a line feed", &refused, "request_id");
    let unknown = pb::RetryDeadLetterRequest { dead_letter_id: "nobody".into(), ..Default::default() };
    let refused = dlq.retry_dead_letter(unknown).await.expect_err("refused");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "DEAD_LETTER_NOT_FOUND"));
    assert_eq!(list(&server, "retried_as = \"\"").await.len(), 1, "nothing was changed");
    server.stop().await;
}

#[tokio::test]
async fn another_namespace_knows_of_none() {
    let server = Server::start().await;
    let _handler = Handler::broken(&server, &["job.m"]).await;
    let ids = run_all(&server, vec![once("job.m")]).await;
    fn elsewhere<T>(message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("coretex-namespace", "elsewhere".parse().expect("a value"));
        request
    }
    let mut dlq = server.dlq();
    let page = dlq.list_dead_letters(elsewhere(pb::ListDeadLettersRequest::default())).await.expect("a page");
    assert!(page.into_inner().dead_letters.is_empty());
    let groups =
        dlq.group_dead_letters(elsewhere(pb::GroupDeadLettersRequest::default())).await.expect("groups");
    assert_eq!(groups.into_inner().count, 0);
    let dead_letter_id = ids[0].clone();
    let get = pb::GetDeadLetterRequest { dead_letter_id: dead_letter_id.clone(), ..Default::default() };
    let delete = pb::DeleteDeadLetterRequest { dead_letter_id: dead_letter_id.clone(), ..Default::default() };
    let retry = pb::RetryDeadLetterRequest { dead_letter_id, ..Default::default() };
    for refused in [
        dlq.get_dead_letter(elsewhere(get)).await.expect_err("unknown"),
        dlq.delete_dead_letter(elsewhere(delete)).await.expect_err("unknown"),
        dlq.retry_dead_letter(elsewhere(retry)).await.expect_err("unknown"),
    ] {
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "DEAD_LETTER_NOT_FOUND"));
    }
    let purge = pb::PurgeDeadLettersRequest { all: true, ..Default::default() };
    assert_eq!(dlq.purge_dead_letters(elsewhere(purge)).await.expect("purged").into_inner().purged, 0);
    let redrive = pb::BatchRetryDeadLettersRequest { dead_letter_ids: ids, ..Default::default() };
    let mut told = dlq.batch_retry_dead_letters(elsewhere(redrive)).await.expect("a stream").into_inner();
    let last = told.message().await.expect("no error").expect("a message");
    assert_eq!((last.phase(), last.retried, last.skipped), (pb::RedrivePhase::Done, 0, 1));
    assert_eq!(list(&server, "retried_as = \"\"").await.len(), 1);
    server.stop().await;
}
