//! What calls leave in the audit.

use crate::access::roles::{Found, call_with, methods};
use crate::access::{keys, server_of_roles};
use crate::running_server::{Out, Server, frame, hello, reason, spec};
use bytes::Bytes;
use coretex_contract::{Struct, Value, v1 as pb, value};
use coretex_domain::Refusal;
use coretex_domain::access::{self, Role};
use coretex_domain::resource::Kind;
use coretex_engine::Engine;
use coretex_engine::audit::Record;
use coretex_engine::clock::{SystemClock, SystemDice};
use coretex_gateway::{Access, GatewaySettings};
use coretex_ports::memory::{Fault, Faults, MemoryStore, Settings};
use coretex_ports::{Env, Group, StoreError, Write};
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tonic::{Code, Status};

const ADMIN: &str = "admin";

async fn records(engine: &Engine, after: u64) -> Vec<Record> {
    let after = (after > 0).then_some(after);
    let found: Result<(Vec<Record>, bool), Refusal> = engine.audit_records(false, after, 10_000).await;
    found.expect("readable").0
}

async fn last(server: &Server) -> u64 {
    records(&server.engine, 0).await.last().map_or(0, |record| record.sequence)
}

/// The name of a code in a record, from what the caller was told.
fn outcome(answer: &Result<(), Status>) -> String {
    let code = answer.as_ref().map_or_else(Status::code, |()| Code::Ok);
    match code {
        Code::Ok => "OK".into(),
        code => format!("{code:?}").chars().fold(String::new(), |mut name, letter| {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
            name
        }),
    }
}

async fn submit(server: &Server, topic: &str) -> String {
    let request = pb::SubmitJobRequest { spec: Some(spec(topic)), ..Default::default() };
    let reply = server.jobs().submit_job(Server::with_key(request, ADMIN)).await.expect("accepted");
    reply.into_inner().job.expect("a job").job_id
}

/// A call, what it is done to, and whether it is done.
struct Asked {
    message: Bytes,
    subject: String,
    is_done: bool,
}

fn asked(message: &impl Message, subject: &str) -> Asked {
    Asked { message: message.encode_to_vec().into(), subject: subject.into(), is_done: true }
}

const POLICY: &str = "{ name: default, default: allow, rules: [{ id: a, match: { topics: [sys.destroy] }, verdict: deny, reason: no }] }";

/// A good call of every method whose record is the history of its jobs.
fn good_call_by_history(method: &str) -> Option<Asked> {
    let specs = vec![spec("job.a"), spec("job.b")];
    let asked = match method {
        "SubmitJob" | "SubmitJobStream" => {
            asked(&pb::SubmitJobRequest { spec: Some(spec("job.a")), ..Default::default() }, "")
        }
        "BatchSubmitJobs" => asked(&pb::BatchSubmitJobsRequest { specs, ..Default::default() }, ""),
        "RunJob" => {
            let timeout = Some(coretex_contract::Duration { seconds: 0, nanos: 0 });
            asked(&pb::RunJobRequest { spec: Some(spec("job.a")), timeout, ..Default::default() }, "")
        }
        "Connect" => asked(&frame(Out::Hello(hello(&["job.z"]))), ""),
        "PollJobs" => Asked { message: good_call_of_poll(), subject: String::new(), is_done: true },
        "ReportJobs" => asked(&pb::ReportJobsRequest::default(), ""),
        _ => return None,
    };
    Some(asked)
}

fn of_key(method: &str) -> Option<Asked> {
    let key_id = "zzzzzzzz".to_owned();
    Some(match method {
        "CreateApiKey" => {
            let roles = vec!["viewer".to_owned()];
            // This server has nothing to hash keys with.
            let request = pb::CreateApiKeyRequest { name: "ci".into(), roles, ..Default::default() };
            Asked { is_done: false, ..asked(&request, "ci") }
        }
        "RotateApiKey" => {
            let request = pb::RotateApiKeyRequest { key_id: key_id.clone(), ..Default::default() };
            Asked { is_done: false, ..asked(&request, &key_id) }
        }
        "RevokeApiKey" => {
            let request = pb::RevokeApiKeyRequest { key_id: key_id.clone(), ..Default::default() };
            Asked { is_done: false, ..asked(&request, &key_id) }
        }
        _ => return None,
    })
}

/// In the order of the contract: applied first, and deleted before it would be backfilled.
fn of_schedule(method: &str) -> Option<Asked> {
    let schedule_id = "nightly".to_owned();
    Some(match method {
        "ApplySchedule" => {
            let target = Some(pb::schedule_spec::Target::Job(spec("job.a")));
            let spec = pb::ScheduleSpec { cron: "0 3 * * *".into(), target, ..Default::default() };
            let spec = Some(spec);
            asked(&pb::ApplyScheduleRequest { schedule_id, spec, ..Default::default() }, "nightly")
        }
        "PauseSchedule" => asked(&pb::PauseScheduleRequest { schedule_id, ..Default::default() }, "nightly"),
        "ResumeSchedule" => {
            asked(&pb::ResumeScheduleRequest { schedule_id, ..Default::default() }, "nightly")
        }
        "TriggerSchedule" => {
            asked(&pb::TriggerScheduleRequest { schedule_id, ..Default::default() }, "nightly")
        }
        "DeleteSchedule" => {
            asked(&pb::DeleteScheduleRequest { schedule_id, ..Default::default() }, "nightly")
        }
        "BackfillSchedule" => {
            let from_time = Some(coretex_contract::Timestamp { seconds: 1_767_225_600, nanos: 0 });
            let request = pb::BackfillScheduleRequest { schedule_id, from_time, ..Default::default() };
            Asked { is_done: false, ..asked(&request, "nightly") }
        }
        _ => return None,
    })
}

fn of_namespace(method: &str) -> Option<Asked> {
    let (namespace, request_id) = ("team-a".to_owned(), String::new());
    Some(match method {
        "CreateNamespace" => {
            asked(&pb::CreateNamespaceRequest { namespace, settings: None, request_id }, "team-a")
        }
        "UpdateNamespace" => {
            let request = pb::UpdateNamespaceRequest { namespace, ..Default::default() };
            asked(&request, "team-a")
        }
        "DeleteNamespace" => {
            asked(&pb::DeleteNamespaceRequest { namespace, revision: 0, request_id }, "team-a")
        }
        _ => return None,
    })
}

fn of_workflow(method: &str) -> Option<Asked> {
    let workflow = "greet".to_owned();
    Some(match method {
        // Its subject is the name in the text.
        "ApplyWorkflow" => {
            let yaml = "name: greet\nsteps: [{ id: a, topic: job.a }]\n".to_owned();
            let source = Some(pb::apply_workflow_request::Source::Yaml(yaml));
            asked(&pb::ApplyWorkflowRequest { source, ..Default::default() }, "greet")
        }
        "DeleteWorkflow" => asked(&pb::DeleteWorkflowRequest { workflow, ..Default::default() }, "greet"),
        _ => return None,
    })
}

/// A run of its own, so that the order of the calls means nothing.
async fn run_of(server: &Server, topic: &str) -> String {
    let yaml = format!("name: greet\nsteps: [{{ id: a, topic: {topic} }}]\n");
    let source = Some(pb::apply_workflow_request::Source::Yaml(yaml));
    let apply = pb::ApplyWorkflowRequest { source, ..Default::default() };
    let path = "/coretex.v1.WorkflowService/ApplyWorkflow";
    call_with(server, path, ADMIN, apply.encode_to_vec().into()).await.expect("applied");
    let start = pb::StartRunRequest { workflow: "greet".into(), ..Default::default() };
    let mut client = pb::run_service_client::RunServiceClient::new(server.channel.clone());
    let reply = client.start_run(Server::with_key(start, ADMIN)).await.expect("started").into_inner();
    reply.run.expect("a run").run_id
}

async fn of_run(server: &Server, method: &str) -> Option<Asked> {
    Some(match method {
        "StartRun" => {
            run_of(server, "job.a").await;
            asked(&pb::StartRunRequest { workflow: "greet".into(), ..Default::default() }, "greet")
        }
        "CancelRun" => {
            let run_id = run_of(server, "job.a").await;
            asked(&pb::CancelRunRequest { run_id: run_id.clone(), ..Default::default() }, &run_id)
        }
        "SignalRun" => {
            let run_id = run_of(server, "job.a").await;
            let name = "go".to_owned();
            asked(&pb::SignalRunRequest { run_id: run_id.clone(), name, ..Default::default() }, &run_id)
        }
        "RerunFrom" => {
            // The policy lets no such job be done: the run is over at once.
            let run_id = run_of(server, "sys.destroy").await;
            let wait = pb::WaitRunRequest { run_id: run_id.clone(), ..Default::default() };
            let path = "/coretex.v1.RunService/WaitRun";
            call_with(server, path, ADMIN, wait.encode_to_vec().into()).await.expect("over");
            let step_id = "a".to_owned();
            asked(&pb::RerunFromRequest { run_id: run_id.clone(), step_id, ..Default::default() }, &run_id)
        }
        _ => return None,
    })
}

/// A good call of every method that changes something.
async fn good_call(server: &Server, method: &str) -> Asked {
    let known = good_call_by_history(method).or_else(|| of_namespace(method)).or_else(|| of_key(method));
    if let Some(asked) = known.or_else(|| of_workflow(method)).or_else(|| of_schedule(method)) {
        return asked;
    }
    if let Some(asked) = of_run(server, method).await {
        return asked;
    }
    let (worker_id, topic) = ("w1".to_owned(), "job.a".to_owned());
    match method {
        "CancelJob" => {
            let job_id = submit(server, "job.a").await;
            asked(&pb::CancelJobRequest { job_id: job_id.clone(), ..Default::default() }, &job_id)
        }
        "RetryJob" => {
            let job_id = submit(server, "sys.destroy").await;
            asked(&pb::RetryJobRequest { job_id: job_id.clone(), ..Default::default() }, &job_id)
        }
        "RetryDeadLetter" => {
            let id = submit(server, "sys.destroy").await;
            let request = pb::RetryDeadLetterRequest { dead_letter_id: id.clone(), ..Default::default() };
            asked(&request, &id)
        }
        "DeleteDeadLetter" => {
            let id = submit(server, "sys.destroy").await;
            let request = pb::DeleteDeadLetterRequest { dead_letter_id: id.clone(), ..Default::default() };
            asked(&request, &id)
        }
        "BatchRetryDeadLetters" => {
            asked(&pb::BatchRetryDeadLettersRequest { all: true, ..Default::default() }, "all")
        }
        "PurgeDeadLetters" => asked(&pb::PurgeDeadLettersRequest { all: true, ..Default::default() }, "all"),
        "ApplyPolicy" => {
            let (name, yaml) = ("default".into(), POLICY.into());
            asked(&pb::ApplyPolicyRequest { name, yaml, ..Default::default() }, "default")
        }
        "RollbackPolicy" => {
            let name = "default".into();
            asked(&pb::RollbackPolicyRequest { name, version: 1, ..Default::default() }, "default")
        }
        "DeletePolicy" => {
            asked(&pb::DeletePolicyRequest { name: "default".into(), ..Default::default() }, "default")
        }
        "UpdateTopic" => asked(&pb::UpdateTopicRequest { topic, ..Default::default() }, "job.a"),
        "PauseTopic" => asked(&pb::PauseTopicRequest { topic, ..Default::default() }, "job.a"),
        "ResumeTopic" => asked(&pb::ResumeTopicRequest { topic, ..Default::default() }, "job.a"),
        "DrainWorker" => {
            let poll = good_call_of_poll();
            call_with(server, "/coretex.v1.WorkerService/PollJobs", ADMIN, poll).await.expect("a worker");
            asked(&pb::DrainWorkerRequest { worker_id, ..Default::default() }, "w1")
        }
        "DrainNode" => {
            asked(&pb::DrainNodeRequest { node_id: "local".into(), ..Default::default() }, "local")
        }
        "BackupStore" => {
            let directory = "/nowhere/backup".to_owned();
            let message = pb::BackupStoreRequest { directory, ..Default::default() };
            // This store has no backups.
            Asked { is_done: false, ..asked(&message, "/nowhere/backup") }
        }
        other => good_call_of_people_and_config(other),
    }
}

fn good_call_of_people_and_config(method: &str) -> Asked {
    match method {
        "Approve" | "Reject" | "DelegateApproval" => {
            let (approval_id, to) = ("apr_1_job_00000000000000000000000000".to_owned(), "ann".to_owned());
            let request =
                pb::DelegateApprovalRequest { approval_id: approval_id.clone(), to, ..Default::default() };
            let message = match method {
                "Approve" => pb::ApproveRequest { approval_id: approval_id.clone(), ..Default::default() }
                    .encode_to_vec(),
                "Reject" => pb::RejectRequest { approval_id: approval_id.clone(), ..Default::default() }
                    .encode_to_vec(),
                _ => request.encode_to_vec(),
            };
            // Nobody asked for one.
            Asked { message: message.into(), subject: approval_id, is_done: false }
        }
        "SetConfig" => {
            let message = pb::SetConfigRequest { scope: org(), data: object("n"), ..Default::default() };
            asked(&message, "org")
        }
        "DeleteConfig" => asked(&pb::DeleteConfigRequest { scope: org(), ..Default::default() }, "org"),
        "RollbackConfig" => {
            let message = pb::RollbackConfigRequest { scope: org(), to_revision: 1, ..Default::default() };
            asked(&message, "org")
        }
        "SetConfigSchema" => {
            let (prefix, schema) = ("llm".to_owned(), object("type"));
            asked(&pb::SetConfigSchemaRequest { scope: org(), prefix, schema, ..Default::default() }, "org")
        }
        "DeleteConfigSchema" => {
            let prefix = "llm".to_owned();
            asked(&pb::DeleteConfigSchemaRequest { scope: org(), prefix, ..Default::default() }, "org")
        }
        other => panic!("{other} changes something, and this test does not know how to call it"),
    }
}

fn org() -> Option<pb::ConfigScope> {
    Some(pb::ConfigScope { level: pb::ConfigLevel::Org.into(), ..Default::default() })
}

/// A map with one text.
fn object(key: &str) -> Option<Struct> {
    let text = Value { kind: Some(value::Kind::StringValue("object".into())) };
    Some(Struct { fields: [(key.to_owned(), text)].into() })
}

fn good_call_of_poll() -> Bytes {
    let timeout = Some(coretex_contract::Duration { seconds: 0, nanos: 0 });
    let (worker_id, topics) = ("w1".to_owned(), vec!["job.z".to_owned()]);
    let request = pb::PollJobsRequest { worker_id, topics, timeout, max_jobs: 1, ..Default::default() };
    request.encode_to_vec().into()
}

fn name(method: &Found) -> &str {
    method.path.rsplit('/').next().expect("a name")
}

#[tokio::test]
async fn each_change_leaves_one_record_and_each_submit_none() {
    let server = server_of_roles().await;
    let all = methods();
    let changing = all.iter().filter(|m| m.audited && name(m) != "DrainNode");
    let leaving = all.iter().filter(|m| name(m) == "DrainNode");
    let (mut recorded, mut by_history) = (0, 0);
    for method in changing.chain(leaving) {
        let good = good_call(&server, name(method)).await;
        let before = last(&server).await;
        let answer = call_with(&server, &method.path, ADMIN, good.message).await;
        let found = records(&server.engine, before).await;
        // `ReportJobs` and the like may be refused here: that one, too, is said by the record.
        if method.by_history {
            let is_refused = usize::from(answer.is_err());
            assert_eq!(found.len(), is_refused, "{}: {answer:?} {found:#?}", method.path);
            by_history += 1;
            continue;
        }
        assert_eq!(answer.is_ok(), good.is_done, "{}: {answer:?}", method.path);
        let [record] = found.as_slice() else { panic!("{}: {found:#?}", method.path) };
        let service = method.path.trim_start_matches("/coretex.v1.");
        assert_eq!(*record.method, *service);
        assert_eq!((&*record.actor, &*record.actor_kind), (ADMIN, "key"));
        assert_eq!((&*record.namespace, &*record.address), ("default", "127.0.0.1"));
        assert_eq!(*record.outcome, *outcome(&answer), "{}", method.path);
        assert_eq!(*record.reason, *answer.as_ref().err().map(reason).unwrap_or_default());
        assert_eq!(*record.subject, *good.subject, "{}", method.path);
        assert!(!record.request_id.is_empty());
        recorded += 1;
    }
    assert!(recorded >= 15 && by_history == 9, "{recorded} and {by_history}");
    let verified = server.engine.verify_audit().await.expect("walked");
    assert_eq!(verified.broken, None);
    every_job_names_its_submitter(&server).await;
    every_run_names_who_started_and_signalled_it(&server).await;
    server.stop().await;
}

async fn every_job_names_its_submitter(server: &Server) {
    let request = Server::with_key(pb::ListJobsRequest { page_size: 1_000, ..Default::default() }, ADMIN);
    let jobs = server.jobs().list_jobs(request).await.expect("listed").into_inner().jobs;
    assert!(jobs.len() >= 6, "{}", jobs.len());
    for job in jobs {
        assert_eq!(job.submitter, ADMIN, "also of what a schedule of theirs made");
        let request = pb::GetJobHistoryRequest { job_id: job.job_id, ..Default::default() };
        let reply = server.jobs().get_job_history(Server::with_key(request, ADMIN)).await.expect("told");
        let first = reply.into_inner().events.into_iter().next().expect("an event");
        let is_scheduled = first.actor == "schedule:nightly as admin";
        assert!(first.actor == ADMIN || is_scheduled, "{first:?}");
    }
}

async fn every_run_names_who_started_and_signalled_it(server: &Server) {
    let mut client = pb::run_service_client::RunServiceClient::new(server.channel.clone());
    let request = Server::with_key(pb::ListRunsRequest::default(), ADMIN);
    let runs = client.list_runs(request).await.expect("listed").into_inner().runs;
    assert!(runs.len() >= 6, "{}", runs.len());
    let mut signals = 0;
    for run in runs {
        assert_eq!(run.actor, ADMIN, "{run:?}");
        let request = pb::GetRunHistoryRequest { run_id: run.run_id, ..Default::default() };
        let reply = client.get_run_history(Server::with_key(request, ADMIN)).await.expect("told");
        let told = [pb::RunEventType::RunStarted, pb::RunEventType::SignalReceived];
        for event in reply.into_inner().events.iter().filter(|event| told.contains(&event.r#type())) {
            assert_eq!(event.actor, ADMIN, "{event:?}");
            signals += usize::from(event.r#type() == pb::RunEventType::SignalReceived);
        }
    }
    assert_eq!(signals, 1);
}

#[tokio::test]
async fn whoever_may_not_leaves_one_record_whatever_the_method() {
    let server = server_of_roles().await;
    let mut denied = 0;
    for method in methods() {
        let known = access::find(&method.permission).expect("a permission of the table");
        let Some(role) = Role::ALL.into_iter().find(|role| !known.roles.has(*role)) else { continue };
        let before = last(&server).await;
        let refused = call_with(&server, &method.path, role.name(), Bytes::new()).await.expect_err("denied");
        assert_eq!(refused.code(), Code::PermissionDenied, "{}", method.path);
        let found = records(&server.engine, before).await;
        let [record] = found.as_slice() else { panic!("{}: {found:#?}", method.path) };
        let expected = ("PERMISSION_DENIED", "PERMISSION_DENIED", role.name());
        assert_eq!((&*record.outcome, &*record.reason, &*record.actor), expected);
        denied += 1;
    }
    assert!(denied >= 45, "{denied}");
    // Where one may, and there is nothing there or something is wrong, a read leaves none.
    let before = last(&server).await;
    for key in ["viewer", ADMIN] {
        let request = pb::GetJobRequest { job_id: "nowhere".into(), ..Default::default() };
        server.jobs().get_job(Server::with_key(request, key)).await.expect_err("not there");
    }
    assert_eq!(last(&server).await, before);
    server.stop().await;
}

#[tokio::test]
async fn a_flood_of_wrong_credentials_leaves_twenty_records_and_a_count() {
    let server = server_of_roles().await;
    for _ in 0..300 {
        let request = pb::CancelJobRequest { job_id: "a".into(), ..Default::default() };
        server.jobs().cancel_job(Server::with_key(request, "wrong")).await.expect_err("refused");
    }
    let found = records(&server.engine, 0).await;
    assert_eq!(found.len(), 20);
    assert!(found.iter().all(|record| record.actor.is_empty() && *record.method == *"JobService/CancelJob"));
    assert_eq!(found.iter().filter(|record| *record.reason == *"CREDENTIAL_INVALID").count(), 10);
    assert_eq!(found.iter().filter(|record| *record.reason == *"RATE_LIMITED").count(), 10);
    let store = server.store.clone();
    server.stop().await;
    let env = Env { clock: Arc::new(SystemClock::new()), dice: Arc::new(SystemDice::new()) };
    let engine = Engine::start(Arc::new(store.reopen()), env, Default::default()).await.expect("starts");
    let found = records(&engine, 20).await;
    let [count] = found.as_slice() else { panic!("{found:#?}") };
    assert_eq!(&*count.detail, "280 more calls were refused within a minute");
    assert_eq!((&*count.address, &*count.outcome), ("127.0.0.1", "UNAUTHENTICATED"));
    engine.stop().await;
}

#[tokio::test]
async fn refused_submits_of_one_identity_are_recorded_up_to_a_number() {
    let server = server_of_roles().await;
    for _ in 0..100 {
        let request = pb::SubmitJobRequest { spec: Some(spec("not a topic")), ..Default::default() };
        let refused = server.jobs().submit_job(Server::with_key(request, "submitter")).await;
        assert_eq!(refused.expect_err("refused").code(), Code::InvalidArgument);
    }
    assert_eq!(records(&server.engine, 0).await.len(), 20);
    server.stop().await;
}

/// Refuses groups with audit records while it is told to.
#[derive(Default)]
struct NoAudit(AtomicBool);

impl Faults for NoAudit {
    fn on_commit(&self, group: &Group) -> Fault {
        let is_audit = |write: &Write| matches!(write, Write::Resource(one) if one.kind == Kind::Audit);
        match self.0.load(Ordering::Acquire) && group.writes.iter().any(is_audit) {
            true => Fault::Refuse(StoreError::DiskFull),
            false => Fault::Pass,
        }
    }
}

#[tokio::test]
async fn without_its_record_a_change_is_refused_before_it_is_made() {
    let faults = Arc::new(NoAudit::default());
    let store = MemoryStore::new(Settings { faults: Some(faults.clone()), ..Default::default() });
    let named = [("admin", "admin", &[][..], Role::Admin)];
    let access = Access::closed().keys(keys(&named));
    let server = Server::over(store, GatewaySettings { access, ..Default::default() }).await;
    let cancel = async |job_id: &str| {
        let request = pb::CancelJobRequest { job_id: job_id.into(), ..Default::default() };
        let answer = server.jobs().cancel_job(Server::with_key(request, ADMIN)).await;
        answer.map(|_| "done".to_owned()).unwrap_or_else(|status| reason(&status))
    };
    let state = async |job_id: &str| {
        let request = pb::GetJobRequest { job_id: job_id.into(), ..Default::default() };
        let reply = server.jobs().get_job(Server::with_key(request, ADMIN)).await.expect("reads go on");
        reply.into_inner().job.expect("a job").state()
    };
    let (one, two) = (submit(&server, "job.a").await, submit(&server, "job.a").await);
    faults.0.store(true, Ordering::Release);
    assert_eq!(cancel(&one).await, "OUTCOME_UNKNOWN", "nobody could know before");
    assert_eq!(cancel(&two).await, "STORE_UNAVAILABLE");
    assert_eq!(state(&two).await, pb::JobState::Scheduled, "nothing was done");
    submit(&server, "job.a").await;
    assert_eq!(records(&server.engine, 0).await, []);
    faults.0.store(false, Ordering::Release);
    assert_eq!(cancel(&two).await, "STORE_UNAVAILABLE", "its record shows that records are written again");
    assert_eq!(cancel(&two).await, "done");
    assert_eq!(state(&two).await, pb::JobState::Cancelled);
    let found = records(&server.engine, 0).await;
    let outcomes: Vec<&str> = found.iter().map(|record| &*record.outcome).collect();
    assert_eq!(outcomes, ["UNAVAILABLE", "OK"]);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_that_is_cut_leaves_a_record_of_why() {
    let server = server_of_roles().await;
    let (send, frames) = tokio::sync::mpsc::channel::<pb::ConnectRequest>(1);
    let frames = futures::stream::unfold(frames, |mut f| async move { f.recv().await.map(|one| (one, f)) });
    let opened = server.workers().connect(Server::with_key(frames, "worker")).await;
    let mut stream = opened.expect("opened").into_inner();
    send.send(frame(Out::Credit(pb::Credit::default()))).await.expect("room");
    let refused = tokio::time::timeout(Duration::from_secs(5), stream.message()).await.expect("an end");
    let refused = refused.expect_err("hello comes first");
    let found = records(&server.engine, 0).await;
    let [record] = found.as_slice() else { panic!("{found:#?}") };
    assert_eq!((&*record.method, &*record.actor), ("WorkerService/Connect", "worker"));
    assert_eq!(*record.reason, *reason(&refused));
    server.stop().await;
}
