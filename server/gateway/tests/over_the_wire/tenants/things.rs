//! What a tenant has, and the same that never was.

use super::ask;
use crate::running_server::{Server, spec};
use coretex_contract::{Struct, Value as Json, v1 as pb, value};
use coretex_domain::Namespace;
use coretex_engine::Apply;
use coretex_engine::api::Caller;
use coretex_policy::Bundle;
use prost::Message;

/// Stands in everything a tenant keeps, and in no name.
pub(super) const CANARY: &str = "zz-kept-by-the-other-tenant-zz";

/// What is compared before and after.
pub(super) const SNAPSHOT: [&str; 8] =
    ["jobs", "dead letters", "approvals", "configuration", "decisions", "API keys", "workflows", "runs"];

const RULES: &str = "
name: default
default: allow
rules:
  - { id: no-destroy, match: { topics: [sys.destroy] }, verdict: deny, reason: no }
  - { id: look, match: { topics: [job.deploy] }, verdict: require_approval, approval: { expires: 1h } }
";

/// Names of things, by what they name.
#[derive(Debug, Default)]
pub(super) struct Things {
    pub(super) jobs: Vec<String>,
    pub(super) letters: Vec<String>,
    pub(super) approvals: Vec<String>,
    pub(super) workers: Vec<String>,
    pub(super) sessions: Vec<String>,
    /// Bytes as characters.
    pub(super) leases: Vec<String>,
    pub(super) tokens: Vec<String>,
    pub(super) filters: Vec<String>,
    pub(super) fingerprints: Vec<String>,
    pub(super) requests: Vec<String>,
    pub(super) keys: Vec<String>,
    pub(super) api_keys: Vec<String>,
    pub(super) workflows: Vec<String>,
    pub(super) runs: Vec<String>,
}

async fn call<Q: Message, A: Message + Default>(
    server: &Server,
    namespace: &str,
    method: &str,
    request: Q,
) -> A {
    let path = format!("/coretex.v1.{method}");
    let answer = ask(server, &path, namespace, request.encode_to_vec().into()).await;
    A::decode(answer.expect(method)).expect("an answer of its type")
}

fn job(topic: &str) -> pb::JobSpec {
    let payload = pb::Payload::data("application/json", format!("{{\"kept\":\"{CANARY}\"}}").into_bytes());
    let labels = [("kept".to_owned(), CANARY.to_owned())].into();
    pb::JobSpec { payload: Some(payload), labels, ..spec(topic) }
}

/// Another of the same shape: its last characters but one are others.
fn other(name: &str) -> String {
    let at = name.chars().count().saturating_sub(4);
    let change = |(n, c): (usize, char)| match c {
        _ if n != at && n != at + 1 => c,
        '0' => '1',
        _ if c.is_ascii_alphanumeric() => '0',
        _ => char::from_u32(u32::from(c) ^ 1).unwrap_or(c),
    };
    name.chars().enumerate().map(change).collect()
}

// === impl Things ===

impl Things {
    /// Every name, the longest first, so that none is cut out of another.
    pub(super) fn all(&self) -> Vec<&String> {
        let lists =
            [&self.jobs, &self.letters, &self.approvals, &self.workers, &self.sessions, &self.workflows];
        let more = [
            &self.filters,
            &self.fingerprints,
            &self.requests,
            &self.keys,
            &self.tokens,
            &self.api_keys,
            &self.runs,
        ];
        let mut all: Vec<&String> = lists.into_iter().chain(more).flatten().collect();
        all.sort_by_key(|name| std::cmp::Reverse(name.len()));
        all
    }

    /// A tenant that uses what there is.
    pub(super) async fn make(server: &Server, namespace: &str) -> Things {
        let apply = Apply {
            bundle: Bundle::parse(RULES).expect("a bundle"),
            yaml: RULES.into(),
            is_shadow: false,
            revision: 0,
            comment: "".into(),
        };
        let caller = Caller { namespace: Namespace::installation(), actor: "root".into() };
        server.engine.apply_policy(&caller, apply, None).await.expect("applied");
        let mut things = Things::default();
        for (n, topic) in ["job.open", "job.open", "job.work", "job.deploy", "sys.destroy", "sys.destroy"]
            .iter()
            .enumerate()
        {
            let mut spec = job(topic);
            if n == 1 {
                spec.job_id = "named-one-0007".into();
                spec.idempotency_key = "key-of-b-0001".into();
            }
            let request_id = if n == 0 { "request-of-b-0001".to_owned() } else { String::new() };
            let request = pb::SubmitJobRequest { spec: Some(spec), request_id };
            let reply: pb::SubmitJobResponse = call(server, namespace, "JobService/SubmitJob", request).await;
            let id = reply.job.expect("a job").job_id;
            match *topic {
                "sys.destroy" => things.letters.push(id.clone()),
                "job.deploy" => things.approvals.push(format!("apr_1_{id}")),
                _ => {}
            }
            things.filters.push(format!("parent_job_id = \"{id}\" OR state = PENDING"));
            things.jobs.push(id);
        }
        things.requests.push("request-of-b-0001".into());
        things.keys.push("key-of-b-0001".into());
        things.workers.push("worker-of-b-0001".into());
        things.work(server, namespace).await;
        things.api_keys(server, namespace).await;
        things.workflows(server, namespace).await;
        things.runs(server, namespace).await;
        things.lists(server, namespace).await;
        things
    }

    async fn work(&mut self, server: &Server, namespace: &str) {
        let request = pb::PollJobsRequest {
            worker_id: self.workers[0].clone(),
            topics: vec!["job.work".into()],
            max_jobs: 1,
            ..Default::default()
        };
        let polled: pb::PollJobsResponse = call(server, namespace, "WorkerService/PollJobs", request).await;
        self.sessions.push(polled.session_id);
        let token = &polled.assignments[0].lease_token;
        self.leases.push(token.iter().map(|byte| char::from(*byte)).collect());
    }

    async fn api_keys(&mut self, server: &Server, namespace: &str) {
        for request_id in ["request-of-b-0001", "request-of-b-0002"] {
            let request = pb::CreateApiKeyRequest {
                name: "ci".into(),
                roles: vec!["viewer".into()],
                namespaces: vec![namespace.into()],
                request_id: request_id.into(),
                ..Default::default()
            };
            let made: pb::CreateApiKeyResponse =
                call(server, namespace, "AuthService/CreateApiKey", request).await;
            self.api_keys.push(made.api_key.expect("a key").key_id);
        }
        let request = pb::ListApiKeysRequest { page_size: 1, ..Default::default() };
        let page: pb::ListApiKeysResponse = call(server, namespace, "AuthService/ListApiKeys", request).await;
        self.tokens.push(page.next_page_token);
    }

    async fn workflows(&mut self, server: &Server, namespace: &str) {
        for name in ["workflow-of-b-0001", "workflow-of-b-0002"] {
            let yaml = format!("name: {name}\ndescription: {CANARY}\nsteps: [{{ id: a, topic: job.a }}]\n");
            let source = Some(pb::apply_workflow_request::Source::Yaml(yaml));
            let request = pb::ApplyWorkflowRequest { source, ..Default::default() };
            let _: pb::ApplyWorkflowResponse =
                call(server, namespace, "WorkflowService/ApplyWorkflow", request).await;
            self.workflows.push(name.into());
        }
        let request = pb::ListWorkflowsRequest { page_size: 1, ..Default::default() };
        let page: pb::ListWorkflowsResponse =
            call(server, namespace, "WorkflowService/ListWorkflows", request).await;
        self.tokens.push(page.next_page_token);
    }

    /// One that waits for a signal, one that waits for a worker, one that is over.
    async fn runs(&mut self, server: &Server, namespace: &str) {
        let workflows = [
            "{ name: waits, steps: [{ id: a, wait_event: go }] }",
            "{ name: works, steps: [{ id: a, topic: job.run }] }",
            "{ name: ended, steps: [{ id: a, topic: sys.destroy }] }",
        ];
        for (n, text) in workflows.into_iter().enumerate() {
            let source = Some(pb::apply_workflow_request::Source::Yaml(text.into()));
            let request = pb::ApplyWorkflowRequest { source, ..Default::default() };
            let applied: pb::ApplyWorkflowResponse =
                call(server, namespace, "WorkflowService/ApplyWorkflow", request).await;
            let run_id = format!("run_of-b-000{n}");
            let input = format!("{{\"kept\":\"{CANARY}\"}}").into_bytes();
            let request = pb::StartRunRequest {
                workflow: applied.workflow.expect("a workflow").name,
                run_id: run_id.clone(),
                input: Some(pb::Payload::data("application/json", input)),
                labels: [("kept".to_owned(), CANARY.to_owned())].into(),
                ..Default::default()
            };
            let _: pb::StartRunResponse = call(server, namespace, "RunService/StartRun", request).await;
            self.runs.push(run_id);
        }
        let run_id = self.runs[2].clone();
        let request = pb::WaitRunRequest { run_id, ..Default::default() };
        let _: pb::WaitRunResponse = call(server, namespace, "RunService/WaitRun", request).await;
        let request = pb::ListRunsRequest { page_size: 1, ..Default::default() };
        let page: pb::ListRunsResponse = call(server, namespace, "RunService/ListRuns", request).await;
        self.tokens.push(page.next_page_token);
    }

    async fn lists(&mut self, server: &Server, namespace: &str) {
        let request = pb::ListJobsRequest { page_size: 1, ..Default::default() };
        let page: pb::ListJobsResponse = call(server, namespace, "JobService/ListJobs", request).await;
        self.tokens.push(page.next_page_token);
        let request = pb::ListDeadLettersRequest { page_size: 1, ..Default::default() };
        let page: pb::ListDeadLettersResponse =
            call(server, namespace, "DlqService/ListDeadLetters", request).await;
        self.tokens.push(page.next_page_token);
        let request = pb::GroupDeadLettersRequest::default();
        let groups: pb::GroupDeadLettersResponse =
            call(server, namespace, "DlqService/GroupDeadLetters", request).await;
        self.fingerprints.push(groups.groups[0].fingerprint.clone());
        let kept = Json { kind: Some(value::Kind::StringValue(CANARY.into())) };
        let request = pb::SetConfigRequest {
            scope: Some(pb::ConfigScope { level: pb::ConfigLevel::Org.into(), ..Default::default() }),
            data: Some(Struct { fields: [("kept".to_owned(), kept)].into() }),
            ..Default::default()
        };
        let _: pb::SetConfigResponse = call(server, namespace, "ConfigService/SetConfig", request).await;
    }

    /// As many things of the same shapes that nobody ever had.
    pub(super) fn never(theirs: &Things) -> Things {
        let others = |names: &Vec<String>| names.iter().map(|name| other(name)).collect::<Vec<_>>();
        let jobs = others(&theirs.jobs);
        Things {
            letters: others(&theirs.letters),
            approvals: others(&theirs.approvals),
            workers: others(&theirs.workers),
            sessions: others(&theirs.sessions),
            leases: others(&theirs.leases),
            tokens: others(&theirs.tokens),
            filters: jobs.iter().map(|id| format!("parent_job_id = \"{id}\" OR state = PENDING")).collect(),
            fingerprints: others(&theirs.fingerprints),
            requests: others(&theirs.requests),
            keys: others(&theirs.keys),
            api_keys: others(&theirs.api_keys),
            workflows: others(&theirs.workflows),
            runs: others(&theirs.runs),
            jobs,
        }
    }
}

/// Keeps the worker's stay alive.
pub(super) async fn beat(server: &Server, things: &Things, namespace: &str) {
    let request = pb::ReportJobsRequest { session_id: things.sessions[0].clone(), updates: Vec::new() };
    let _: pb::ReportJobsResponse = call(server, namespace, "WorkerService/ReportJobs", request).await;
}

/// Everything of a tenant that must stay as it is, in the order of [`SNAPSHOT`].
pub(super) async fn snapshot(server: &Server, namespace: &str) -> Vec<Vec<u8>> {
    let (view, page_size) = (pb::View::Full.into(), 1_000);
    let jobs = pb::ListJobsRequest { view, page_size, ..Default::default() };
    let letters = pb::ListDeadLettersRequest { view, page_size, ..Default::default() };
    let approvals = pb::ListApprovalsRequest { page_size, ..Default::default() };
    let decisions = pb::ListDecisionsRequest { page_size, ..Default::default() };
    let runs = pb::ListRunsRequest { view, page_size, ..Default::default() };
    let workflows = pb::ListWorkflowsRequest { view, page_size, show_deleted: true, ..Default::default() };
    let asked = [
        ("JobService/ListJobs", jobs.encode_to_vec()),
        ("DlqService/ListDeadLetters", letters.encode_to_vec()),
        ("ApprovalService/ListApprovals", approvals.encode_to_vec()),
        ("ConfigService/GetEffectiveConfig", pb::GetEffectiveConfigRequest::default().encode_to_vec()),
        ("SafetyService/ListDecisions", decisions.encode_to_vec()),
        ("AuthService/ListApiKeys", pb::ListApiKeysRequest::default().encode_to_vec()),
        ("WorkflowService/ListWorkflows", workflows.encode_to_vec()),
        ("RunService/ListRuns", runs.encode_to_vec()),
    ];
    let mut found = Vec::new();
    for (method, message) in asked {
        let answer = ask(server, &format!("/coretex.v1.{method}"), namespace, message.into()).await;
        found.push(answer.expect(method).to_vec());
    }
    found
}
