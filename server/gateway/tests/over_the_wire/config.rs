//! Configuration as callers see it: set, merged, followed, kept apart.

mod bad_input;

use crate::access::keys;
use crate::running_server::{Server, Worker, reason, spec};
use coretex_contract::{ListValue, Struct, Value, v1 as pb, value::Kind};
use coretex_domain::access::Role;
use coretex_gateway::{Access, GatewaySettings};
use serde_json::{Value as Json, json};
use std::time::Duration;
use tonic::{Code, Request, Status, Streaming};

fn value(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(is) => Kind::BoolValue(is),
        Json::Number(number) => Kind::NumberValue(number.as_f64().expect("a double")),
        Json::String(text) => Kind::StringValue(text),
        Json::Array(items) => Kind::ListValue(ListValue { values: items.into_iter().map(value).collect() }),
        Json::Object(_) => Kind::StructValue(data(json)),
    };
    Value { kind: Some(kind) }
}

fn data(json: Json) -> Struct {
    let Json::Object(fields) = json else { panic!("no map: {json}") };
    Struct { fields: fields.into_iter().map(|(key, item)| (key, value(item))).collect() }
}

fn scope(level: pb::ConfigLevel, id: &str) -> Option<pb::ConfigScope> {
    Some(pb::ConfigScope { level: level.into(), id: id.into() })
}

fn org() -> Option<pb::ConfigScope> {
    scope(pb::ConfigLevel::Org, "")
}

fn team(id: &str) -> Option<pb::ConfigScope> {
    scope(pb::ConfigLevel::Team, id)
}

async fn set(
    server: &Server,
    scope: Option<pb::ConfigScope>,
    revision: u64,
    json: Json,
) -> Result<pb::Config, Status> {
    let request = pb::SetConfigRequest {
        scope,
        revision,
        data: Some(data(json)),
        comment: "c".into(),
        ..Default::default()
    };
    let reply = server.configs().set_config(request).await?;
    Ok(reply.into_inner().config.expect("a config"))
}

async fn effective(server: &Server, team: &str) -> pb::GetEffectiveConfigResponse {
    let request = pb::GetEffectiveConfigRequest { team: team.into(), ..Default::default() };
    server.configs().get_effective_config(request).await.expect("a config").into_inner()
}

async fn watch(server: &Server, token: &str) -> Result<Streaming<pb::WatchConfigResponse>, Status> {
    let request =
        pb::WatchConfigRequest { team: "a".into(), resume_token: token.into(), ..Default::default() };
    Ok(server.configs().watch_config(request).await?.into_inner())
}

async fn told(stream: &mut Streaming<pb::WatchConfigResponse>) -> pb::WatchConfigResponse {
    let message = tokio::time::timeout(Duration::from_secs(10), stream.message()).await;
    message.expect("a message within 10 s").expect("no error").expect("not the end")
}

#[tokio::test]
async fn layers_give_one_configuration_that_names_its_sources() {
    let server = Server::start().await;
    assert_eq!(effective(&server, "a").await.layers, []);
    let system = scope(pb::ConfigLevel::System, "");
    set(&server, system, 0, json!({"llm": {"model": "small", "tags": [1, 2]}, "region": "eu"}))
        .await
        .expect("set");
    set(&server, org(), 0, json!({"llm": {"model": "big"}, "region": null})).await.expect("set");
    set(&server, team("a"), 0, json!({"llm": {"a.b": 1.5}})).await.expect("set");
    let found = effective(&server, "a").await;
    assert_eq!(found.data, Some(data(json!({"llm": {"model": "big", "tags": [1, 2], "a.b": 1.5}}))));
    let sources: Vec<(&str, pb::ConfigLevel, &str, u64)> = found
        .sources
        .iter()
        .map(|(path, by)| (path.as_str(), by.level(), by.id.as_str(), by.revision))
        .collect();
    assert_eq!(
        sources,
        [
            ("llm.\"a.b\"", pb::ConfigLevel::Team, "a", 1),
            ("llm.model", pb::ConfigLevel::Org, "default", 1),
            ("llm.tags", pb::ConfigLevel::System, "", 1),
        ]
    );
    assert_eq!(found.layers.len(), 3);
    let text = r#"{"llm":{"a.b":1.5,"model":"big","tags":[1,2]}}"#;
    assert_eq!(found.digest, blake3::hash(text.as_bytes()).to_hex().to_string());

    let all = pb::ListConfigsRequest { page_size: 2, view: pb::View::Full.into(), ..Default::default() };
    let first = server.configs().list_configs(all.clone()).await.expect("a page").into_inner();
    assert_eq!(first.configs.len(), 2);
    let rest = pb::ListConfigsRequest { page_token: first.next_page_token, ..all };
    let rest = server.configs().list_configs(rest).await.expect("a page").into_inner();
    assert_eq!((rest.configs[0].scope.clone(), rest.next_page_token.as_str()), (team("a"), ""));
    assert!(rest.configs[0].data.is_some());
    let teams = pb::ListConfigsRequest { filter: "level = TEAM AND id = a".into(), ..Default::default() };
    let teams = server.configs().list_configs(teams).await.expect("a page").into_inner().configs;
    assert_eq!((teams.len(), teams[0].data.clone()), (1, None), "the BASIC view has no data");
    server.stop().await;
}

#[tokio::test]
async fn thirty_two_setters_at_once_lose_nothing() {
    let server = Server::start().await;
    set(&server, team("a"), 0, json!({})).await.expect("set");
    let start = tokio::sync::Barrier::new(32);
    let add = |n: u32| {
        let (server, start) = (&server, &start);
        async move {
            for conflicts in 0.. {
                let request = pb::GetConfigRequest { scope: team("a") };
                let reply = server.configs().get_config(request).await.expect("there").into_inner();
                let now = reply.config.expect("a config");
                if conflicts == 0 {
                    start.wait().await;
                }
                let mut fields = now.data.unwrap_or_default();
                fields.fields.insert(format!("k{n}"), value(json!(n)));
                let (scope, revision) = (team("a"), now.revision);
                let request =
                    pb::SetConfigRequest { scope, data: Some(fields), revision, ..Default::default() };
                let Err(refused) = server.configs().set_config(request).await else { return conflicts };
                assert_eq!(refused.code(), Code::FailedPrecondition);
                assert_eq!(reason(&refused), "REVISION_MISMATCH");
            }
            0
        }
    };
    let conflicts: u32 = futures::future::join_all((0..32).map(add)).await.into_iter().sum();
    assert!(conflicts >= 31, "all started from one revision: {conflicts}");
    let found = server.configs().get_config(pb::GetConfigRequest { scope: team("a") }).await;
    let found = found.expect("there").into_inner().config.expect("a config");
    assert_eq!((found.data.expect("data").fields.len(), found.revision), (32, 33));
    server.stop().await;
}

#[tokio::test]
async fn history_and_rollback_over_the_wire() {
    let server = Server::start().await;
    for n in 1..=5 {
        assert_eq!(set(&server, org(), n - 1, json!({"n": n})).await.expect("set").revision, n);
    }
    let delete = pb::DeleteConfigRequest { scope: org(), revision: 5, ..Default::default() };
    let gone = server.configs().delete_config(delete).await.expect("gone").into_inner().config;
    assert_eq!(gone.map(|config| (config.revision, config.data)), Some((6, None)));
    let back = pb::RollbackConfigRequest {
        scope: org(),
        to_revision: 2,
        revision: 6,
        request_id: "once".into(),
        ..Default::default()
    };
    for _ in 0..2 {
        let reply = server.configs().rollback_config(back.clone()).await.expect("back").into_inner();
        let config = reply.config.expect("a config");
        assert_eq!((config.revision, config.data), (7, Some(data(json!({"n": 2})))));
    }
    let (mut told, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::GetConfigHistoryRequest { scope: org(), page_size: 3, page_token };
        let page = server.configs().get_config_history(request).await.expect("a page").into_inner();
        assert!(page.revisions.len() <= 3);
        told.extend(page.revisions);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let told: Vec<(u64, pb::ConfigChange, u64)> =
        told.iter().map(|one| (one.revision, one.change(), one.restored_revision)).collect();
    use pb::ConfigChange::{Delete, Rollback, Set};
    assert_eq!(
        told,
        [(7, Rollback, 2), (6, Delete, 0), (5, Set, 0), (4, Set, 0), (3, Set, 0), (2, Set, 0), (1, Set, 0)]
    );
    server.stop().await;
}

#[tokio::test]
async fn a_watch_resumes_exactly() {
    let server = Server::start().await;
    set(&server, org(), 0, json!({"n": 1})).await.expect("set");
    let mut live = watch(&server, "").await.expect("a watch");
    let first = told(&mut live).await;
    assert_eq!((first.kind(), first.data), (pb::ConfigWatchKind::Existing, Some(data(json!({"n": 1})))));
    set(&server, team("a"), 0, json!({"m": 1})).await.expect("set");
    set(&server, team("b"), 0, json!({"m": 9})).await.expect("set");
    let second = told(&mut live).await;
    assert_eq!(
        (second.kind(), second.change.map(|change| change.revision)),
        (pb::ConfigWatchKind::Changed, Some(1))
    );
    set(&server, team("a"), 0, json!({"m": 2})).await.expect("set");
    set(&server, org(), 0, json!({"n": 2})).await.expect("set");
    let mut resumed = watch(&server, &second.resume_token).await.expect("a watch");
    for stream in [&mut live, &mut resumed] {
        let third = told(stream).await;
        assert_eq!(third.data, Some(data(json!({"n": 1, "m": 2}))));
        let fourth = told(stream).await;
        assert_eq!(fourth.data, Some(data(json!({"n": 2, "m": 2}))));
        assert_eq!(fourth.digest, effective(&server, "a").await.digest);
    }
    for bad in ["AAAA", "x", &second.resume_token[1..]] {
        let refused = watch(&server, bad).await.expect_err("refused");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::InvalidArgument, "INVALID_RESUME_TOKEN")
        );
    }
    let other = pb::WatchConfigRequest {
        team: "b".into(),
        resume_token: second.resume_token.clone(),
        ..Default::default()
    };
    let refused = server.configs().watch_config(other).await.expect_err("another watch");
    assert_eq!(reason(&refused), "INVALID_RESUME_TOKEN");
    let stopping = tokio::spawn(server.stop());
    let end = tokio::time::timeout(Duration::from_secs(10), live.message()).await.expect("an end");
    assert_eq!(reason(&end.expect_err("told why")), "SHUTTING_DOWN");
    stopping.await.expect("no panic");
}

#[tokio::test]
async fn watches_are_bounded() {
    let server = Server::with(GatewaySettings { watches_max: 1, ..Default::default() }).await;
    let _first = watch(&server, "").await.expect("a watch");
    let refused = watch(&server, "").await.expect_err("one is open");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "TOO_MANY_WATCHES"));
    server.stop().await;
}

fn of<T>(key: &'static str, namespace: &'static str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-api-key", key.parse().expect("a value"));
    request.metadata_mut().insert("coretex-namespace", namespace.parse().expect("a value"));
    request
}

#[tokio::test]
async fn namespaces_are_apart_and_the_system_is_not_theirs() {
    let named: [(&str, &str, &[&str], Role); 2] =
        [("ctx_all", "root", &[], Role::Admin), ("ctx_a", "ann", &["a", "b"], Role::Admin)];
    let access = Access::closed().keys(keys(&named));
    let server = Server::with(GatewaySettings { access, ..Default::default() }).await;
    let mut configs = server.configs();
    let to = |scope, n: u32| pb::SetConfigRequest {
        scope,
        data: Some(data(json!({"n": n}))),
        comment: "private".into(),
        ..Default::default()
    };
    let system = || scope(pb::ConfigLevel::System, "");
    let made = configs.set_config(of("ctx_a", "a", to(org(), 1))).await.expect("set").into_inner();
    assert_eq!(made.config.expect("a config").actor, "ann");
    for request in [pb::GetConfigRequest { scope: org() }, pb::GetConfigRequest { scope: team("t") }] {
        let refused = configs.get_config(of("ctx_a", "b", request)).await.expect_err("not there");
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "CONFIG_NOT_FOUND"));
    }
    let refused = configs.set_config(of("ctx_a", "a", to(system(), 1))).await.expect_err("refused");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
    configs.set_config(of("ctx_all", "a", to(system(), 7))).await.expect("set");
    let history = pb::GetConfigHistoryRequest { scope: system(), ..Default::default() };
    let refused = configs.get_config_history(of("ctx_a", "a", history.clone())).await.expect_err("refused");
    assert_eq!(reason(&refused), "PERMISSION_DENIED");
    configs.get_config_history(of("ctx_all", "b", history)).await.expect("read");
    let shown = configs.get_config(of("ctx_a", "b", pb::GetConfigRequest { scope: system() })).await;
    let shown = shown.expect("read").into_inner().config.expect("a config");
    assert_eq!(
        (shown.data, shown.actor.as_str(), shown.comment.as_str()),
        (Some(data(json!({"n": 7}))), "", "")
    );
    let asked = pb::GetEffectiveConfigRequest::default();
    let here =
        configs.get_effective_config(of("ctx_a", "a", asked.clone())).await.expect("read").into_inner();
    let there = configs.get_effective_config(of("ctx_a", "b", asked)).await.expect("read").into_inner();
    assert_eq!((here.data, there.data), (Some(data(json!({"n": 1}))), Some(data(json!({"n": 7})))));
    server.stop().await;
}

#[tokio::test]
async fn jobs_carry_their_configuration_to_the_worker() {
    let server = Server::start().await;
    set(&server, org(), 0, json!({"llm": {"model": "big"}})).await.expect("set");
    let mut worker = Worker::join(&server, &["job.c"]).await;
    let job_id = server.submit(spec("job.c")).await.expect("accepted").job.expect("a job").job_id;
    let assigned = worker.assigned().await.remove(0);
    let digest = effective(&server, "").await.digest;
    assert_eq!(assigned.config_digest, digest);
    assert_eq!(
        assigned.config,
        Some(pb::Payload::data("application/json", &br#"{"llm":{"model":"big"}}"#[..]))
    );
    assert_eq!(server.get(&job_id).await.expect("there").config_digest, digest);

    // Large ones are asked for, as they were when the job was submitted.
    let large = json!({"text": "x".repeat(16 << 10)});
    set(&server, org(), 0, large.clone()).await.expect("set");
    let large_id = server.submit(spec("job.c")).await.expect("accepted").job.expect("a job").job_id;
    let assigned = worker.assigned().await.remove(0);
    assert_eq!((assigned.config, assigned.config_digest.len()), (None, 64));
    set(&server, org(), 0, json!({})).await.expect("set");
    let asked = pb::GetEffectiveConfigRequest { job_id: large_id, omit_sources: true, ..Default::default() };
    let found = server.configs().get_effective_config(asked).await.expect("found").into_inner();
    assert_eq!((found.data, found.digest), (Some(data(large)), assigned.config_digest));
    assert!(found.sources.is_empty() && found.layers.len() == 1);
    server.stop().await;
}

#[tokio::test]
async fn a_request_id_of_one_tenant_is_none_of_another() {
    let server = Server::start().await;
    let set = async |namespace: &str, n: u32| {
        let mut request = Request::new(pb::SetConfigRequest {
            scope: org(),
            data: Some(data(json!({ "n": n }))),
            request_id: "same".into(),
            ..Default::default()
        });
        request.metadata_mut().insert("coretex-namespace", namespace.parse().expect("a value"));
        server
            .configs()
            .set_config(request)
            .await
            .map(|reply| reply.into_inner().config.expect("a config").revision)
    };
    assert_eq!(set("a", 1).await.expect("set"), 1);
    assert_eq!(set("b", 1).await.expect("set as well, and no repeat"), 1);
    assert_eq!(set("c", 2).await.expect("no conflict either"), 1);
    assert_eq!(set("a", 1).await.expect("a repeat"), 1);
    assert_eq!(reason(&set("a", 2).await.expect_err("another request")), "IDEMPOTENCY_CONFLICT");
    server.stop().await;
}
