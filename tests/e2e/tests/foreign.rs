//! Clients that have never heard of our libraries: `buf curl` with nothing but reflection, gRPC-Web over HTTP/1.1, and
//! plain HTTP probes.

use coretex_contract::v1 as pb;
use coretex_e2e::api::{Api, spec};
use coretex_e2e::evidence::Evidence;
use coretex_e2e::process::{Server, Setup};
use coretex_e2e::steady::Steady;
use coretex_e2e::{frames, http1, skip};
use prost::Message;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tokio::process::Command;

static EVIDENCE: Evidence = Evidence::of("foreign");

const SERVICES: [&str; 5] = [
    "coretex.v1.JobService",
    "coretex.v1.WorkerService",
    "coretex.v1.TopicService",
    "coretex.v1.EventService",
    "coretex.v1.AdminService",
];

/// `buf`, or a loud word on why these tests do not run.
fn buf(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("BUF").map(PathBuf::from).filter(|path| path.is_file());
    if found.is_none() {
        skip(test, "BUF does not name the buf binary");
    }
    found
}

/// What `buf curl` said.
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Said {
    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }
}

async fn curl(buf: &PathBuf, server: &Server, args: &[&str], path: &str) -> Said {
    let mut command = Command::new(buf);
    command
        .args(["curl", "--protocol", "grpc", "--http2-prior-knowledge"])
        .args(args)
        .arg(format!("{}{path}", server.url()))
        .env("HOME", std::env::temp_dir())
        .kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await;
    let output = output.expect("buf curl ends").expect("buf curl runs");
    EVIDENCE.add("foreign_calls", 1);
    Said {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

async fn call(buf: &PathBuf, server: &Server, method: &str, data: Value) -> Said {
    curl(buf, server, &["-d", &data.to_string()], &format!("/coretex.v1.{method}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_every_service_in_both_versions() {
    let Some(buf) = buf("foreign: reflection") else { return };
    let server = Server::start(Setup::memory()).await;
    for protocol in ["grpc-v1", "grpc-v1alpha"] {
        let said = curl(&buf, &server, &["--reflect-protocol", protocol, "--list-services"], "").await;
        assert_eq!(said.code, 0, "{}", said.stderr);
        for service in SERVICES {
            assert!(
                said.stdout.lines().any(|line| line == service),
                "{protocol}: no {service} in\n{}",
                said.stdout
            );
        }
        let said = curl(&buf, &server, &["--reflect-protocol", protocol, "--list-methods"], "").await;
        assert!(said.stdout.contains("coretex.v1.JobService/RunJob"), "{protocol}: {}", said.stdout);
        let data = ["--reflect-protocol", protocol, "-d", "{}"];
        let info = curl(&buf, &server, &data, "/coretex.v1.AdminService/GetServerInfo").await.json();
        assert_eq!(info["server"]["ready"], json!(true), "{info}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_client_runs_a_job_with_plain_json() {
    let Some(buf) = buf("foreign: run a job") else { return };
    let server = Server::start(Setup::memory()).await;
    let _worker =
        Steady::echo(&server.url(), frames::hello("echo", &["job.echo"], 4, Duration::from_secs(15)));
    let input = json!({"text": "grüße", "n": 1.5, "list": [1, null, true]});
    let request = json!({
        "spec": {"topic": "job.echo", "payload": {"json": input}, "labels": {"team": "foreign"}},
        "timeout": "20s",
        "payloadFormat": "PAYLOAD_FORMAT_JSON",
    });
    let reply = call(&buf, &server, "JobService/RunJob", request).await.json();
    assert_eq!(reply["job"]["state"], "JOB_STATE_SUCCEEDED", "{reply}");
    assert_eq!(reply["job"]["result"]["json"], input, "{reply}");
    let id = reply["job"]["jobId"].as_str().expect("an id").to_owned();
    let got = call(&buf, &server, "JobService/GetJob", json!({"jobId": id})).await.json();
    assert_eq!(got["job"]["spec"]["labels"]["team"], "foreign");
    let history = call(&buf, &server, "JobService/GetJobHistory", json!({"jobId": id})).await.json();
    let last = history["events"].as_array().and_then(|events| events.last()).cloned().unwrap_or_default();
    assert_eq!(last["type"], "JOB_EVENT_TYPE_SUCCEEDED", "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_client_works_a_job_from_end_to_end() {
    let Some(buf) = buf("foreign: poll and report") else { return };
    let server = Server::start(Setup::file()).await;
    let submit = json!({"spec": {"topic": "job.shell", "payload": {"json": {"cmd": "date"}}}});
    let id = call(&buf, &server, "JobService/SubmitJob", submit).await.json()["job"]["jobId"].clone();
    let poll = json!({"workerId": "shell-1", "topics": ["job.shell"], "maxJobs": 1, "timeout": "10s"});
    let polled = call(&buf, &server, "WorkerService/PollJobs", poll).await.json();
    let assignment = &polled["assignments"][0];
    assert_eq!(assignment["job"]["jobId"], id, "{polled}");
    let session = polled["sessionId"].clone();
    let progress = json!({
        "sessionId": session,
        "updates": [{
            "leaseToken": assignment["leaseToken"],
            "kind": "JOB_UPDATE_KIND_PROGRESS",
            "progress": {"fraction": 0.5, "message": "half"},
        }],
    });
    let reply = call(&buf, &server, "WorkerService/ReportJobs", progress).await.json();
    assert!(reply["rejected"].is_null(), "{reply}");
    let got = call(&buf, &server, "JobService/GetJob", json!({"jobId": id})).await.json();
    assert_eq!(got["job"]["progress"]["message"], "half", "{got}");
    assert_eq!(got["job"]["state"], "JOB_STATE_RUNNING", "{got}");
    let done = json!({
        "sessionId": session,
        "updates": [{
            "leaseToken": assignment["leaseToken"],
            "kind": "JOB_UPDATE_KIND_SUCCEEDED",
            "result": {"json": {"ok": true}},
        }],
    });
    let reply = call(&buf, &server, "WorkerService/ReportJobs", done.clone()).await.json();
    assert!(reply["rejected"].is_null(), "{reply}");
    let reply = call(&buf, &server, "WorkerService/ReportJobs", done).await.json();
    assert!(reply["rejected"].is_null(), "a repeat is refused: {reply}");
    let waited = json!({"jobId": id, "payloadFormat": "PAYLOAD_FORMAT_JSON"});
    let job = call(&buf, &server, "JobService/WaitJob", waited).await.json();
    assert_eq!(job["job"]["state"], "JOB_STATE_SUCCEEDED", "{job}");
    assert_eq!(job["job"]["result"]["json"], json!({"ok": true}), "{job}");
    assert_eq!(job["job"]["attempts"], 1, "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_client_sees_typed_errors() {
    let Some(buf) = buf("foreign: errors") else { return };
    let server = Server::start(Setup::memory()).await;
    let said = call(&buf, &server, "JobService/GetJob", json!({"jobId": "job_nosuchjob"})).await;
    let text = format!("{}{}", said.stdout, said.stderr);
    assert!(said.code != 0, "{text}");
    let error: Value = serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert!(
        ["not_found", "invalid_argument"].contains(&error["code"].as_str().unwrap_or_default()),
        "{error}"
    );
    let said = call(&buf, &server, "JobService/SubmitJob", json!({"spec": {"priority": 77}})).await;
    let text = format!("{}{}", said.stdout, said.stderr);
    let error: Value = serde_json::from_str(text.trim()).unwrap_or_else(|e| panic!("{e}: {text}"));
    assert_eq!((said.code, error["code"].as_str()), (3 << 3, Some("invalid_argument")), "{error}");
    let details: Vec<&str> =
        error["details"].as_array().into_iter().flatten().filter_map(|d| d["type"].as_str()).collect();
    for kind in ["google.rpc.ErrorInfo", "google.rpc.BadRequest"] {
        assert!(details.contains(&kind), "no {kind} in {error}");
    }
}

// === gRPC-Web ===

/// One unary call over HTTP/1.1: status, reason and messages.
async fn web_call(server: &Server, method: &str, message: &impl Message) -> (u16, String, Vec<Vec<u8>>) {
    let payload = message.encode_to_vec();
    let mut body = vec![0];
    body.extend_from_slice(&u32::try_from(payload.len()).expect("small").to_be_bytes());
    body.extend_from_slice(&payload);
    let headers = [("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")];
    let path = format!("/coretex.v1.{method}");
    let reply = http1::request(server.addr(), "POST", &path, &headers, &body).await.expect("an answer");
    let (mut messages, mut trailers) = (Vec::new(), String::new());
    let mut rest = reply.body.as_slice();
    while let Some((head, after)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let (frame, after) = after.split_at(length);
        match head[0] & 0x80 {
            0 => messages.push(frame.to_vec()),
            _ => trailers = String::from_utf8_lossy(frame).into_owned(),
        }
        rest = after;
    }
    let in_headers = reply.header("grpc-status").map(str::to_owned);
    let in_trailers = trailers
        .lines()
        .find_map(|line| line.split_once(':').filter(|(name, _)| *name == "grpc-status"))
        .map(|(_, value)| value.trim().to_owned());
    (reply.status, in_trailers.or(in_headers).unwrap_or_default(), messages)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_submits_over_http1() {
    let server = Server::start(Setup::memory()).await;
    let request = pb::SubmitJobRequest { spec: Some(spec("job.web")), request_id: "web-1".into() };
    let (status, code, messages) = web_call(&server, "JobService/SubmitJob", &request).await;
    assert_eq!((status, code.as_str(), messages.len()), (200, "0", 1));
    let reply = pb::SubmitJobResponse::decode(messages[0].as_slice()).expect("a reply");
    let id = reply.job.expect("a job").job_id;
    assert_eq!(Api::to(&server.url()).job(&id).await.spec.map(|s| s.topic).as_deref(), Some("job.web"));
    let missing = pb::GetJobRequest { job_id: "no-such-job".into(), ..Default::default() };
    let (status, code, _) = web_call(&server, "JobService/GetJob", &missing).await;
    assert_eq!((status, code.as_str()), (200, "5"));
    EVIDENCE.add("web_calls", 2);
}

// === probes ===

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_answer_by_http() {
    let server = Server::start(Setup::memory()).await;
    for path in ["/healthz", "/livez", "/readyz"] {
        let reply = http1::get(server.addr(), path).await.expect("an answer");
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    }
    let api = Api::to(&server.url());
    api.submit_many(&spec("job.metrics"), 3).await;
    let reply = http1::get(server.addr(), "/metrics").await.expect("an answer");
    assert_eq!(reply.status, 200);
    let text = reply.text();
    assert!(text.contains("# TYPE coretex_"), "{text}");
    assert!(text.trim_end().ends_with("# EOF"), "{text}");
    let reply = http1::get(server.addr(), "/no/such/page").await.expect("an answer");
    assert_eq!(reply.status, 404, "{}", reply.text());
    EVIDENCE.add("probes", 5);
}

/// `grpc.health.v1`, written down by hand as a foreign client would have it.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthReply {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_health_service_answers_for_the_whole_and_for_each_service() {
    const SERVING: i32 = 1;
    let server = Server::start(Setup::memory()).await;
    let api = Api::to(&server.url());
    for service in ["", "coretex.v1.JobService", "coretex.v1.WorkerService"] {
        let status = health(&api, service).await.unwrap_or_else(|e| panic!("{service:?}: {e}"));
        assert_eq!(status, SERVING, "{service:?}");
    }
    let unknown = health(&api, "no.such.Service").await.expect_err("it is not there");
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    EVIDENCE.add("probes", 4);
}

async fn health(api: &Api, service: &str) -> Result<i32, tonic::Status> {
    let mut client = tonic::client::Grpc::new(api.channel());
    client.ready().await.expect("a connection");
    let codec = tonic_prost::ProstCodec::<HealthRequest, HealthReply>::default();
    let path = http::uri::PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = tonic::Request::new(HealthRequest { service: service.to_owned() });
    client.unary(request, path, codec).await.map(|reply| reply.into_inner().status)
}
