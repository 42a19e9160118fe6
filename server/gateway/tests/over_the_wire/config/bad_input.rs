//! What is refused, and in which words.

use super::{data, org, scope, set, team};
use crate::running_server::{Server, reason};
use coretex_contract::{Struct, Value, v1 as pb, value::Kind};
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

fn named(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    violations.into_iter().map(|violation| violation.field).collect()
}

fn check(what: &str, refused: &Status, why: &str, fields: &[&str]) {
    assert_eq!((refused.code(), reason(refused).as_str()), (Code::InvalidArgument, why), "{what}: {refused}");
    assert_eq!(named(refused), fields, "{what}: {refused}");
}

type Set = pb::SetConfigRequest;

fn asked(scope: Option<pb::ConfigScope>) -> Set {
    Set { scope, data: Some(data(json!({"a": 1}))), ..Set::default() }
}

async fn check_all(rows: Vec<(&str, Set, &str, &[&str])>) {
    let server = Server::start().await;
    for (what, request, why, fields) in rows {
        check(what, &server.configs().set_config(request).await.expect_err(what), why, fields);
    }
    let list = server.configs().list_configs(pb::ListConfigsRequest::default()).await.expect("a page");
    assert_eq!(list.into_inner().configs, [], "nothing was kept");
    server.stop().await;
}

#[tokio::test]
async fn bad_scopes_are_refused_with_every_field_at_once() {
    const BAD: &str = "INVALID_FIELD";
    let level = |level: i32, id: &str| Some(pb::ConfigScope { level, id: id.into() });
    let with = |comment: &str| Set { comment: comment.into(), ..asked(org()) };
    check_all(vec![
        ("nothing at all", Set::default(), BAD, &["data", "scope"]),
        ("no level", asked(level(0, "a")), BAD, &["scope.level"]),
        ("an unknown level", asked(level(9, "a")), BAD, &["scope.level"]),
        ("a team without a name", asked(team("")), BAD, &["scope.id"]),
        ("a name with a space", asked(team("a b")), BAD, &["scope.id"]),
        ("a long name", asked(team(&"a".repeat(129))), BAD, &["scope.id"]),
        ("a named system", asked(level(1, "x")), BAD, &["scope.id"]),
        ("another org", asked(level(2, "x")), BAD, &["scope.id"]),
        ("a long comment", with(&"x".repeat(1_025)), BAD, &["comment"]),
        ("a bell", with("\u{7}"), BAD, &["comment"]),
        ("a long request id", Set { request_id: "x".repeat(257), ..asked(org()) }, BAD, &["request_id"]),
    ])
    .await;
}

#[tokio::test]
async fn bad_data_is_refused_with_path_limit_and_value() {
    const BAD: &str = "INVALID_FIELD";
    let with = |data: Struct| Set { data: Some(data), ..asked(org()) };
    // Deeper maps are more than a message may be nested, and are refused before anybody looks at them.
    let deep = (0..32).fold(json!(1), |inner, _| json!([inner]));
    let too_deep = format!("data.k{}", "[0]".repeat(31));
    let too_deep = [too_deep.as_str()];
    let wide: serde_json::Map<_, _> = (0..10_001).map(|n| (n.to_string(), json!(1))).collect();
    let one = |kind: Option<Kind>| Struct { fields: [("a".to_owned(), Value { kind })].into() };
    check_all(vec![
        ("bad keys", with(data(json!({"a b": 1, "x": {"é": 1}}))), BAD, &["data", "data.x"]),
        ("deep", with(data(json!({ "k": deep }))), BAD, &too_deep),
        ("wide", with(data(wide.into())), BAD, &["data"]),
        ("large", with(data(json!({"x": "a".repeat(300_000)}))), BAD, &["data"]),
        ("no number", with(one(Some(Kind::NumberValue(f64::NAN)))), "INVALID_JSON", &["data"]),
        ("no kind", with(one(None)), "INVALID_JSON", &["data"]),
    ])
    .await;
}

#[tokio::test]
async fn the_deepest_configuration_comes_back_by_every_way() {
    let server = Server::start().await;
    let mut configs = server.configs();
    let deep = (0..32).fold(json!("x"), |inner, _| json!({"k": inner}));
    let wanted = Some(data(deep.clone()));
    assert_eq!(set(&server, org(), 0, deep.clone()).await.expect("set").data, wanted);
    let history = pb::GetConfigHistoryRequest { scope: org(), ..Default::default() };
    let history = configs.get_config_history(history).await.expect("a page").into_inner();
    assert_eq!(history.revisions[0].data, wanted);
    let list = pb::ListConfigsRequest { view: pb::View::Full.into(), ..Default::default() };
    let list = configs.list_configs(list).await.expect("a page").into_inner();
    assert_eq!(list.configs[0].data, wanted);
    let mut live =
        configs.watch_config(pb::WatchConfigRequest::default()).await.expect("a watch").into_inner();
    assert_eq!(live.message().await.expect("no error").expect("a message").data, wanted);
    let deeper = json!({ "k": deep });
    assert!(
        set(&server, org(), 0, deeper).await.is_err_and(|refused| refused.code() == Code::InvalidArgument)
    );
    server.stop().await;
}

#[tokio::test]
async fn bad_questions_are_refused() {
    let server = Server::start().await;
    let mut configs = server.configs();
    set(&server, org(), 0, json!({"a": 1})).await.expect("set");
    type Ask = pb::GetEffectiveConfigRequest;
    for (what, request, fields) in [
        ("another org", Ask { org: "x".into(), ..Default::default() }, &["org"][..]),
        (
            "bad names",
            Ask { team: " ".into(), workflow: "é".into(), step: "a\n".into(), ..Default::default() },
            &["team", "workflow", "step"],
        ),
        ("a job and a team", Ask { job_id: "a".into(), team: "b".into(), ..Default::default() }, &["job_id"]),
        ("a bad job", Ask { job_id: "job_x".into(), ..Default::default() }, &["job_id"]),
    ] {
        check(what, &configs.get_effective_config(request).await.expect_err(what), "INVALID_FIELD", fields);
    }
    let unknown = Ask { job_id: "nobody".into(), ..Default::default() };
    assert_eq!(reason(&configs.get_effective_config(unknown).await.expect_err("no job")), "JOB_NOT_FOUND");
    type List = pb::ListConfigsRequest;
    for (what, request, why) in [
        ("a bad filter", List { filter: "levl = TEAM".into(), ..Default::default() }, "INVALID_FILTER"),
        ("an unknown level", List { filter: "level = SQUAD".into(), ..Default::default() }, "INVALID_FILTER"),
        ("a bad token", List { page_token: "AAAA".into(), ..Default::default() }, "INVALID_PAGE_TOKEN"),
        ("a bad order", List { order_by: "id".into(), ..Default::default() }, "INVALID_FIELD"),
        ("a bad size", List { page_size: -1, ..Default::default() }, "INVALID_FIELD"),
        ("a bad view", List { view: 9, ..Default::default() }, "INVALID_FIELD"),
    ] {
        let refused = configs.list_configs(request).await.expect_err(what);
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, why),
            "{what}: {refused}"
        );
    }
    let back = |to_revision| pb::RollbackConfigRequest { scope: org(), to_revision, ..Default::default() };
    check(
        "revision 0",
        &configs.rollback_config(back(0)).await.expect_err("0"),
        "INVALID_FIELD",
        &["to_revision"],
    );
    let refused = configs.rollback_config(back(9)).await.expect_err("9");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "CONFIG_NOT_FOUND"));
    let nobody = pb::GetConfigHistoryRequest { scope: team("x"), ..Default::default() };
    assert_eq!(reason(&configs.get_config_history(nobody).await.expect_err("none")), "CONFIG_NOT_FOUND");
    let conflict = |n: u32| pb::SetConfigRequest {
        scope: org(),
        data: Some(data(json!({"a": n}))),
        request_id: "r".into(),
        ..Default::default()
    };
    configs.set_config(conflict(1)).await.expect("set");
    let refused = configs.set_config(conflict(2)).await.expect_err("another body");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::AlreadyExists, "IDEMPOTENCY_CONFLICT"));
    server.stop().await;
}

#[tokio::test]
async fn schemas_are_set_listed_and_told_in_full() {
    let server = Server::start().await;
    let mut configs = server.configs();
    let put = |prefix: &str, schema| pb::SetConfigSchemaRequest {
        scope: org(),
        prefix: prefix.into(),
        schema: Some(data(schema)),
        ..Default::default()
    };
    for (prefix, schema, fields) in [
        ("a..b", json!({}), &["prefix"][..]),
        ("a b", json!({}), &["prefix"]),
        ("\"a", json!({}), &["prefix"]),
        ("a", json!({"typ": "x", "minimum": "y"}), &["schema.minimum", "schema.typ"]),
    ] {
        let refused = configs.set_config_schema(put(prefix, schema)).await.expect_err(prefix);
        check(prefix, &refused, "INVALID_FIELD", fields);
    }
    let nothing = pb::SetConfigSchemaRequest { scope: org(), ..Default::default() };
    check(
        "nothing",
        &configs.set_config_schema(nothing).await.expect_err("refused"),
        "INVALID_FIELD",
        &["schema"],
    );

    let schema = json!({"required": ["model"], "properties": {"limit": {"maximum": 10}}});
    let made = configs.set_config_schema(put("llm.", schema)).await.expect("set").into_inner().schema;
    assert_eq!(made.map(|schema| (schema.prefix, schema.revision)), Some(("llm".into(), 1)));
    let refused = set(&server, team("a"), 0, json!({"llm": {"limit": 11}})).await.expect_err("refused");
    check("both violations", &refused, "SCHEMA_VIOLATION", &["data.llm.model", "data.llm.limit"]);
    let details = refused.get_error_details();
    let said = &details.bad_request().expect("violations").field_violations[1].description;
    assert_eq!(said, "maximum: must be at most 10, got 11");

    let listed = configs.list_config_schemas(pb::ListConfigSchemasRequest::default()).await.expect("a page");
    assert_eq!(listed.into_inner().schemas.len(), 1);
    let filter = "level = SYSTEM OR prefix = x".to_owned();
    let none = pb::ListConfigSchemasRequest { filter, ..Default::default() };
    assert_eq!(configs.list_config_schemas(none).await.expect("a page").into_inner().schemas, []);
    let gone = pb::DeleteConfigSchemaRequest { scope: org(), prefix: "llm".into(), ..Default::default() };
    assert!(configs.delete_config_schema(gone.clone()).await.expect("gone").into_inner().deleted);
    let refused = configs.delete_config_schema(gone).await.expect_err("gone before");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "CONFIG_NOT_FOUND"));
    let system = scope(pb::ConfigLevel::System, "");
    let request =
        pb::SetConfigSchemaRequest { scope: system, schema: Some(Struct::default()), ..Default::default() };
    configs.set_config_schema(request).await.expect("whole and empty");
    server.stop().await;
}
