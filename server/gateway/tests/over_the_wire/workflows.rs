//! Workflows as their authors meet them: applied, told apart by what they say, checked, listed, deleted.

use crate::running_server::{Server, reason};
use coretex_contract::v1 as pb;
use coretex_contract::v1::namespace_service_client::NamespaceServiceClient;
use coretex_contract::v1::workflow_service_client::WorkflowServiceClient;
use coretex_contract::{Duration, Struct, Value, value};
use coretex_gateway::GatewaySettings;
use pb::apply_workflow_request::Source;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

const FIRST: &str = "
name: greet
description: Says hello.
steps:
  - { id: fetch, topic: job.fetch }
  - { id: greet, needs: fetch, topic: job.echo, input: { text: 'Hello ${steps.fetch.output.name}' } }
";

fn client(server: &Server) -> WorkflowServiceClient<Channel> {
    WorkflowServiceClient::new(server.channel.clone()).max_decoding_message_size(64 << 20)
}

fn yaml(text: &str) -> pb::ApplyWorkflowRequest {
    pb::ApplyWorkflowRequest { source: Some(Source::Yaml(text.into())), ..Default::default() }
}

fn message(definition: pb::WorkflowDefinition) -> pb::ApplyWorkflowRequest {
    pb::ApplyWorkflowRequest { source: Some(Source::Definition(definition)), ..Default::default() }
}

async fn applied(server: &Server, request: pb::ApplyWorkflowRequest) -> (u64, bool) {
    let reply = client(server).apply_workflow(request).await.expect("applied").into_inner();
    (reply.workflow.expect("a workflow").version, reply.created)
}

async fn refused(server: &Server, request: pb::ApplyWorkflowRequest) -> Status {
    client(server).apply_workflow(request).await.expect_err("refused")
}

async fn get(server: &Server, workflow: &str, version: u64) -> Result<pb::Workflow, Status> {
    let request = pb::GetWorkflowRequest {
        workflow: workflow.into(),
        version,
        with_definition: true,
        ..Default::default()
    };
    client(server).get_workflow(request).await.map(|reply| reply.into_inner().workflow.expect("a workflow"))
}

async fn names(server: &Server, show_deleted: bool) -> Vec<String> {
    let request = pb::ListWorkflowsRequest { show_deleted, ..Default::default() };
    let reply = client(server).list_workflows(request).await.expect("a page").into_inner();
    reply.workflows.into_iter().map(|one| one.name).collect()
}

async fn delete(server: &Server, workflow: &str) -> Result<bool, Status> {
    let request = pb::DeleteWorkflowRequest { workflow: workflow.into(), ..Default::default() };
    client(server).delete_workflow(request).await.map(|reply| reply.into_inner().deleted)
}

fn fields(status: &Status) -> Vec<(String, String)> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
    violations.into_iter().map(|one| (one.field, one.description)).collect()
}

#[tokio::test]
async fn what_says_something_else_is_a_new_version_and_what_does_not_is_none() {
    let server = Server::start().await;
    assert_eq!(applied(&server, yaml(FIRST)).await, (1, true));
    assert_eq!(applied(&server, yaml(FIRST)).await, (1, false));
    let reworded = format!(
        "# the same\n{}",
        FIRST.replace("needs: fetch, topic: job.echo", "topic: \"job.echo\", needs: [fetch]")
    );
    assert_eq!(applied(&server, yaml(&reworded)).await, (1, false));
    let first = get(&server, "greet", 0).await.expect("found");
    assert_eq!((first.yaml.as_str(), first.step_count, first.topic_count), (FIRST, 2, 2));
    assert_eq!((first.description.as_str(), first.revision), ("Says hello.", 1));
    let definition = first.definition.expect("asked for");
    assert_eq!(definition.steps[1].needs, ["fetch"]);
    // As a message it says the same.
    assert_eq!(applied(&server, message(definition.clone())).await, (1, false));
    let mut changed = definition;
    changed.steps[0].timeouts =
        Some(pb::Timeouts { start_to_close: Some(Duration { seconds: 90, nanos: 0 }), ..Default::default() });
    let request = pb::ApplyWorkflowRequest { comment: "slow".into(), ..message(changed) };
    assert_eq!(applied(&server, request).await, (2, true));
    let second = get(&server, "greet", 0).await.expect("found");
    assert_eq!((second.version, second.newest_version, second.comment.as_str()), (2, 2, "slow"));
    assert!(second.yaml.contains("\"start_to_close\": \"90s\""), "{}", second.yaml);
    assert_ne!(second.digest, first.digest);
    assert_eq!(get(&server, "greet", 1).await.expect("kept").yaml, FIRST);
    // Its text says the same as the message it came as.
    assert_eq!(applied(&server, yaml(&second.yaml)).await, (2, false));
    server.stop().await;
}

#[tokio::test]
async fn a_repeat_of_a_call_is_told_the_same_and_another_call_of_that_id_is_not() {
    let server = Server::start().await;
    let request = pb::ApplyWorkflowRequest { request_id: "r-1".into(), revision: 0, ..yaml(FIRST) };
    for _ in 0..2 {
        assert_eq!(applied(&server, request.clone()).await, (1, true));
    }
    let other = pb::ApplyWorkflowRequest { comment: "other".into(), ..request };
    assert_eq!(reason(&refused(&server, other).await), "IDEMPOTENCY_CONFLICT");
    let old = pb::ApplyWorkflowRequest { revision: 7, ..yaml(&FIRST.replace("hello", "hi")) };
    assert_eq!(reason(&refused(&server, old.clone()).await), "REVISION_MISMATCH");
    assert_eq!(applied(&server, pb::ApplyWorkflowRequest { revision: 1, ..old }).await, (2, true));
    let gone = pb::DeleteWorkflowRequest { workflow: "greet".into(), request_id: "r-2".into(), revision: 2 };
    for _ in 0..2 {
        let reply = client(&server).delete_workflow(gone.clone()).await.expect("deleted").into_inner();
        assert!(reply.deleted, "a repeat is told the same");
    }
    server.stop().await;
}

#[tokio::test]
async fn nothing_is_kept_of_what_is_only_checked() {
    let server = Server::start().await;
    let check = |text: &str| pb::ApplyWorkflowRequest { validate_only: true, ..yaml(text) };
    assert_eq!(applied(&server, check(FIRST)).await, (0, false));
    assert!(names(&server, true).await.is_empty());
    applied(&server, yaml(FIRST)).await;
    assert_eq!(applied(&server, check(FIRST)).await, (1, false));
    assert_eq!(applied(&server, check(&FIRST.replace("hello", "hi"))).await, (0, false));
    assert_eq!(get(&server, "greet", 0).await.expect("found").version, 1);
    server.stop().await;
}

#[tokio::test]
async fn every_mistake_is_a_violation_and_nothing_is_changed() {
    let server = Server::start().await;
    let bad = FIRST.replace("topic: job.fetch", "topick: job.fetch").replace("needs: fetch", "needs: fitch");
    let status = refused(&server, yaml(&bad)).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "WORKFLOW_INVALID"));
    let found = fields(&status);
    assert_eq!(found.len(), 4, "{found:?}");
    let told = |field: &str, what: &str| {
        assert!(found.iter().any(|(f, d)| f == field && d.contains(what)), "{field} {what}: {found:?}");
    };
    told("yaml:5:5 steps[0](fetch)", "does nothing");
    told("yaml:5:18 steps[0](fetch).topick", "did you mean `topic`?");
    told("yaml:6:25 steps[1](greet).needs", "did you mean `fetch`?");
    // The same as a message: by path.
    let mut definition = pb::WorkflowDefinition { name: "greet".into(), ..Default::default() };
    definition.steps =
        vec![pb::WorkflowStep { id: "1".into(), needs: vec!["no".into()], ..Default::default() }];
    let found = fields(&refused(&server, message(definition)).await);
    assert!(found.iter().any(|(f, _)| f == "definition.steps[0](1).id"), "{found:?}");
    assert!(
        found.iter().any(|(f, d)| f == "definition.steps[0](1)" && d.contains("does nothing")),
        "{found:?}"
    );
    for (request, field) in [
        (pb::ApplyWorkflowRequest::default(), "yaml"),
        (yaml(""), "yaml"),
        (pb::ApplyWorkflowRequest { workflow: "other".into(), ..yaml(FIRST) }, "workflow"),
        (pb::ApplyWorkflowRequest { workflow: "a/b".into(), ..yaml(FIRST) }, "workflow"),
        (pb::ApplyWorkflowRequest { comment: "x".repeat(5_000), ..yaml(FIRST) }, "comment"),
        (pb::ApplyWorkflowRequest { request_id: "x".repeat(500), ..yaml(FIRST) }, "request_id"),
        (yaml(&format!("{FIRST}#{}", "x".repeat(1 << 20))), "yaml"),
    ] {
        let status = refused(&server, request).await;
        assert_eq!(fields(&status)[0].0, field, "{status:?}");
    }
    assert!(names(&server, true).await.is_empty());
    server.stop().await;
}

async fn checked(server: &Server, text: &str, drawing: pb::WorkflowDrawing) -> pb::ValidateWorkflowResponse {
    let source = Some(pb::validate_workflow_request::Source::Yaml(text.into()));
    let request = pb::ValidateWorkflowRequest { source, drawing: drawing.into() };
    client(server).validate_workflow(request).await.expect("answered").into_inner()
}

#[tokio::test]
async fn a_check_tells_mistakes_and_who_serves_what_as_an_answer() {
    let server = Server::start().await;
    let bad = FIRST.replace("topic: job.fetch", "topick: job.fetch").replace("'Hello", "'Hello ${inptu.x}");
    let found = checked(&server, &bad, pb::WorkflowDrawing::Text).await;
    assert!(!found.valid && found.drawing.is_empty() && found.problems.len() >= 3, "{found:?}");
    let one = found.problems.iter().find(|one| one.path.ends_with("topick")).expect("told");
    assert_eq!((one.line, one.column, one.suggestion.as_str()), (5, 18, "topic"));
    // Somebody serves one of its topics.
    let request = pb::PollJobsRequest {
        worker_id: "w".into(),
        topics: vec!["job.echo".into()],
        timeout: Some(Duration { seconds: 0, nanos: 1_000_000 }),
        max_jobs: 1,
        ..Default::default()
    };
    server.workers().poll_jobs(request).await.expect("polled");
    for (drawing, part) in [
        (pb::WorkflowDrawing::Unspecified, ""),
        (pb::WorkflowDrawing::Text, "greet"),
        (pb::WorkflowDrawing::Dot, "digraph"),
        (pb::WorkflowDrawing::Mermaid, "flowchart"),
    ] {
        let found = checked(&server, FIRST, drawing).await;
        assert!(found.valid && found.drawing.contains(part), "{found:?}");
        assert_eq!(found.drawing.is_empty(), part.is_empty());
        assert_eq!((found.workflow.as_str(), found.step_count), ("greet", 2));
        let served: Vec<_> = found.topics.iter().map(|one| (one.topic.as_str(), one.workers)).collect();
        assert_eq!(served, [("job.echo", 1), ("job.fetch", 0)]);
        let [warning] = found.warnings.as_slice() else { panic!("{:?}", found.warnings) };
        assert!(warning.message.contains("no worker serves topic job.fetch now; step fetch"), "{warning:?}");
        assert_eq!(warning.line, 5);
    }
    let nothing = client(&server).validate_workflow(pb::ValidateWorkflowRequest::default()).await;
    assert_eq!(nothing.expect_err("refused").code(), Code::InvalidArgument);
    let source = Some(pb::validate_workflow_request::Source::Yaml(FIRST.into()));
    let odd = pb::ValidateWorkflowRequest { source, drawing: 9 };
    assert_eq!(fields(&client(&server).validate_workflow(odd).await.expect_err("refused"))[0].0, "drawing");
    assert!(names(&server, true).await.is_empty(), "nothing is kept");
    server.stop().await;
}

#[tokio::test]
async fn topics_that_must_be_declared_first_are_told() {
    let server = Server::start().await;
    let request = pb::CreateNamespaceRequest {
        namespace: "strict".into(),
        settings: Some(pb::NamespaceSettings { topics_declared: true, ..Default::default() }),
        request_id: String::new(),
    };
    let mut namespaces = NamespaceServiceClient::new(server.channel.clone());
    namespaces.create_namespace(request).await.expect("created");
    let inside = |name: &str| name.parse::<tonic::metadata::MetadataValue<_>>().expect("a header");
    let topic = pb::UpdateTopicRequest { topic: "job.echo".into(), ..Default::default() };
    let mut declare = Request::new(topic);
    declare.metadata_mut().insert("coretex-namespace", inside("strict"));
    server.topics().update_topic(declare).await.expect("declared");
    let source = Some(pb::validate_workflow_request::Source::Yaml(FIRST.into()));
    let mut request = Request::new(pb::ValidateWorkflowRequest { source, drawing: 0 });
    request.metadata_mut().insert("coretex-namespace", inside("strict"));
    let found = client(&server).validate_workflow(request).await.expect("answered").into_inner();
    let told: Vec<&str> = found.warnings.iter().map(|one| one.message.as_str()).collect();
    assert!(found.valid && told.len() == 2, "{told:?}");
    assert!(told[0].starts_with("no worker serves topic job.echo"), "{told:?}");
    assert!(told[1].starts_with("topic job.fetch is not declared"), "{told:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_deleted_workflow_keeps_its_versions_and_comes_back_with_the_next_number() {
    let server = Server::start().await;
    applied(&server, yaml(FIRST)).await;
    applied(&server, yaml(&FIRST.replace("hello", "hi"))).await;
    assert_eq!(delete(&server, "greet").await.ok(), Some(true));
    assert_eq!(delete(&server, "greet").await.ok(), Some(false), "again is OK");
    assert_eq!(reason(&delete(&server, "nobody").await.expect_err("refused")), "WORKFLOW_NOT_FOUND");
    let status = get(&server, "greet", 0).await.expect_err("gone");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "WORKFLOW_NOT_FOUND"));
    let old = get(&server, "greet", 1).await.expect("kept");
    assert!(old.yaml == FIRST && old.delete_time.is_some() && old.definition.is_some());
    for absent in [3, u64::MAX] {
        assert_eq!(reason(&get(&server, "greet", absent).await.expect_err("none")), "WORKFLOW_NOT_FOUND");
    }
    assert_eq!((names(&server, false).await, names(&server, true).await), (vec![], vec!["greet".to_owned()]));
    // What was the newest one before is new now.
    assert_eq!(applied(&server, yaml(&FIRST.replace("hello", "hi"))).await, (3, true));
    assert_eq!(names(&server, false).await, ["greet"]);
    assert!(get(&server, "greet", 1).await.expect("kept").delete_time.is_none());
    server.stop().await;
}

#[tokio::test]
async fn lists_are_paged_and_long_texts_make_short_pages() {
    let server = Server::start().await;
    let long = format!("{FIRST}#{}", "x".repeat(700_000));
    for n in 0..5 {
        let text = long.replace("name: greet", &format!("name: w{n}"));
        assert_eq!(applied(&server, yaml(&text)).await, (1, true));
        assert_eq!(applied(&server, yaml(&text.replace("hello", "hi"))).await, (2, true));
    }
    for (view, least) in [(pb::View::Basic, 3), (pb::View::Full, 5)] {
        let mut request = pb::ListWorkflowsRequest { page_size: 2, view: view.into(), ..Default::default() };
        request.order_by = "name desc".into();
        let (mut seen, mut pages) = (Vec::new(), 0);
        loop {
            let page = client(&server).list_workflows(request.clone()).await.expect("a page").into_inner();
            pages += 1;
            for one in page.workflows {
                assert_eq!((one.version, one.yaml.is_empty()), (2, view == pb::View::Basic));
                seen.push(one.name);
            }
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!((seen.join(" ").as_str(), pages), ("w4 w3 w2 w1 w0", least));
        let mut request = pb::ListWorkflowVersionsRequest {
            workflow: "w1".into(),
            view: view.into(),
            ..Default::default()
        };
        let mut seen = Vec::new();
        loop {
            let page =
                client(&server).list_workflow_versions(request.clone()).await.expect("a page").into_inner();
            seen.extend(page.workflows.iter().map(|one| (one.version, one.yaml.len() > 700_000)));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(seen, [2, 1].map(|version| (version, view == pb::View::Full)));
    }
    let filtered = pb::ListWorkflowsRequest { filter: "name = \"w3\"".into(), ..Default::default() };
    let page = client(&server).list_workflows(filtered).await.expect("a page").into_inner();
    assert_eq!(page.workflows.len(), 1);
    let odd = pb::ListWorkflowsRequest { filter: "steps > 3".into(), ..Default::default() };
    assert_eq!(reason(&client(&server).list_workflows(odd).await.expect_err("refused")), "INVALID_FILTER");
    let absent = pb::ListWorkflowVersionsRequest { workflow: "nobody".into(), ..Default::default() };
    let status = client(&server).list_workflow_versions(absent).await.expect_err("refused");
    assert_eq!(reason(&status), "WORKFLOW_NOT_FOUND");
    server.stop().await;
}

#[tokio::test]
async fn a_restart_keeps_workflows_and_namespaces_are_apart() {
    let server = Server::start().await;
    applied(&server, yaml(FIRST)).await;
    applied(&server, yaml(&FIRST.replace("hello", "hi"))).await;
    let elsewhere = |request: pb::GetWorkflowRequest| {
        let mut request = Request::new(request);
        request.metadata_mut().insert("coretex-namespace", "other".parse().expect("a header"));
        request
    };
    let asked = pb::GetWorkflowRequest { workflow: "greet".into(), ..Default::default() };
    let mut told = Vec::new();
    for version in [0, 1] {
        let asked = pb::GetWorkflowRequest { version, ..asked.clone() };
        let status = client(&server).get_workflow(elsewhere(asked)).await.expect_err("not there");
        told.push((status.code(), reason(&status), status.message().to_owned()));
    }
    assert_eq!(told[0], (Code::NotFound, "WORKFLOW_NOT_FOUND".into(), told[0].2.clone()));
    assert_eq!(told[0], told[1], "whether there is such a version is not said");
    let store = server.store.clone();
    server.stop().await;
    let server = Server::over(store.reopen(), GatewaySettings::default()).await;
    assert_eq!(get(&server, "greet", 0).await.expect("kept").version, 2);
    assert_eq!(get(&server, "greet", 1).await.expect("kept").yaml, FIRST);
    assert_eq!(applied(&server, yaml(FIRST)).await, (3, true));
    assert_eq!(delete(&server, "greet").await.ok(), Some(true));
    let store = server.store.clone();
    server.stop().await;
    let server = Server::over(store.reopen(), GatewaySettings::default()).await;
    assert!(get(&server, "greet", 0).await.is_err(), "still deleted");
    assert_eq!(applied(&server, yaml(FIRST)).await, (4, true));
    server.stop().await;
}

#[tokio::test]
async fn what_a_message_cannot_say_is_refused_and_its_text_can_be_had() {
    let server = Server::start().await;
    let text = "name: exact\nsteps: [{ id: a, topic: job.a, input: { n: 9007199254740993 } }]\n";
    applied(&server, yaml(text)).await;
    let status = get(&server, "exact", 0).await.expect_err("refused");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "WORKFLOW_INEXACT"));
    assert!(status.message().contains("steps[0](a).input"), "{status:?}");
    let asked = pb::GetWorkflowRequest { workflow: "exact".into(), ..Default::default() };
    let found = client(&server).get_workflow(asked).await.expect("found").into_inner().workflow;
    assert_eq!(found.expect("a workflow").yaml, text);
    // Groups as deep as they may be can be told; with a deep input in the innermost a message would be too deep.
    let nested = |levels: usize| {
        let input = format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        let innermost = format!("[{{ id: x, topic: job.a, input: {input} }}]");
        let steps = (0..31).fold(innermost, |steps, n| format!("[{{ id: g{n}, parallel: {steps} }}]"));
        format!("name: deep{levels}\nsteps: {steps}\n")
    };
    for levels in [1, 40] {
        applied(&server, yaml(&nested(levels))).await;
    }
    let told = get(&server, "deep1", 0).await.expect("told").definition.expect("asked for");
    assert_eq!(applied(&server, message(told)).await, (1, false));
    assert_eq!(reason(&get(&server, "deep40", 0).await.expect_err("refused")), "WORKFLOW_INEXACT");
    let mut bad = pb::WorkflowDefinition { name: "n".into(), ..Default::default() };
    let none = Value { kind: Some(value::Kind::NumberValue(f64::NAN)) };
    bad.input_schema = Some(Struct { fields: [("type".to_owned(), none)].into() });
    let status = refused(&server, message(bad)).await;
    assert_eq!(fields(&status)[0].0, "definition.input_schema", "{status:?}");
    server.stop().await;
}
