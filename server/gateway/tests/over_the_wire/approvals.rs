//! Approvals as people meet them: with keys of their own, or without a login.

use crate::access::keys;
use crate::running_server::{Server, Worker, reason, spec, succeeded, update};
use coretex_contract::v1 as pb;
use coretex_contract::v1::approval_service_client::ApprovalServiceClient;
use coretex_contract::v1::safety_service_client::SafetyServiceClient;
use coretex_domain::access::Role;
use coretex_gateway::{Access, GatewaySettings};
use pb::{ApprovalState, JobState};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

const HOUSE: &str = "
name: default
default: allow
rules:
  - { id: four-eyes, match: { topics: [job.deploy] }, verdict: require_approval, reason: look first,
      approval: { quorum: 2, expires: 1h } }
  - { id: oncall, match: { topics: [job.page] }, verdict: require_approval,
      approval: { approvers: [bob, cid], expires: 1h } }
  - { id: shift, match: { topics: [job.shift] }, verdict: require_approval,
      approval: { approvers: [operator], expires: 1h } }
  - { id: soon, match: { topics: [job.soon] }, verdict: require_approval, approval: { expires: 1s } }
";

struct House {
    server: Server,
}

impl House {
    async fn open() -> House {
        // One of them has a role that a rule names.
        let people: [(&str, &str, &[&str], Role); 4] = [
            ("key-ann", "ann", &[], Role::Admin),
            ("key-bob", "bob", &[], Role::Admin),
            ("key-cid", "cid", &[], Role::Admin),
            ("key-dan", "dan", &[], Role::Operator),
        ];
        let access = Access::closed().keys(keys(&people));
        House::with(GatewaySettings { access, ..GatewaySettings::default() }).await
    }

    async fn with(settings: GatewaySettings) -> House {
        let house = House { server: Server::with(settings).await };
        house.rules(HOUSE).await;
        house
    }

    async fn rules(&self, yaml: &str) {
        let mut safety = SafetyServiceClient::new(self.server.channel.clone());
        let request =
            pb::ApplyPolicyRequest { name: "default".into(), yaml: yaml.into(), ..Default::default() };
        safety.apply_policy(by("ann", request)).await.expect("applied");
    }

    fn approvals(&self) -> ApprovalServiceClient<Channel> {
        ApprovalServiceClient::new(self.server.channel.clone())
    }

    async fn submit(&self, who: &str, topic: &str) -> String {
        let request = pb::SubmitJobRequest { spec: Some(spec(topic)), ..Default::default() };
        let reply = self.server.jobs().submit_job(by(who, request)).await.expect("accepted").into_inner();
        reply.job.expect("a job").job_id
    }

    async fn get(&self, id: &str) -> pb::GetApprovalResponse {
        let request = pb::GetApprovalRequest { approval_id: id.into(), ..Default::default() };
        self.approvals().get_approval(by("bob", request)).await.expect("found").into_inner()
    }

    async fn approve(&self, who: &str, id: &str) -> Result<pb::ApproveResponse, Status> {
        self.approve_with(who, id, None).await
    }

    async fn approve_with(
        &self,
        who: &str,
        id: &str,
        input: Option<&'static str>,
    ) -> Result<pb::ApproveResponse, Status> {
        let request = pb::ApproveRequest {
            approval_id: id.into(),
            comment: "seen".into(),
            edited_input: input.map(|text| pb::Payload::data("application/json", text.as_bytes())),
            request_id: String::new(),
        };
        self.approvals().approve(by(who, request)).await.map(tonic::Response::into_inner)
    }

    async fn reject(&self, who: &str, id: &str) -> Result<pb::RejectResponse, Status> {
        let request =
            pb::RejectRequest { approval_id: id.into(), comment: "no".into(), ..Default::default() };
        self.approvals().reject(by(who, request)).await.map(tonic::Response::into_inner)
    }

    async fn delegate(&self, who: &str, id: &str, to: &str) -> Result<pb::Approval, Status> {
        let request =
            pb::DelegateApprovalRequest { approval_id: id.into(), to: to.into(), ..Default::default() };
        let reply = self.approvals().delegate_approval(by(who, request)).await;
        reply.map(|reply| reply.into_inner().approval.expect("an approval"))
    }

    async fn list(&self, who: &str, filter: &str) -> Vec<String> {
        let (mut ids, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListApprovalsRequest {
                filter: filter.into(),
                page_size: 2,
                page_token,
                ..Default::default()
            };
            let reply = self.approvals().list_approvals(by(who, request)).await.expect("listed").into_inner();
            ids.extend(reply.approvals.into_iter().map(|approval| approval.approval_id));
            page_token = reply.next_page_token;
            if page_token.is_empty() {
                return ids;
            }
        }
    }

    async fn state(&self, job: &str) -> JobState {
        let request = pb::GetJobRequest { job_id: job.into(), ..Default::default() };
        self.server
            .jobs()
            .get_job(by("ann", request))
            .await
            .expect("found")
            .into_inner()
            .job
            .expect("a job")
            .state()
    }

    async fn events(&self, job: &str) -> Vec<pb::JobEvent> {
        let request = pb::GetJobHistoryRequest { job_id: job.into(), ..Default::default() };
        self.server.jobs().get_job_history(by("ann", request)).await.expect("told").into_inner().events
    }
}

fn by<T>(who: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let key = format!("Bearer key-{who}").parse().expect("a header");
    request.metadata_mut().insert("authorization", key);
    request
}

fn first(job: &str) -> String {
    format!("apr_1_{job}")
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.expect_err("refused");
    (status.code(), reason(&status))
}

#[tokio::test]
async fn two_people_with_keys_let_a_job_in() {
    let house = House::open().await;
    let job = house.submit("ann", "job.deploy").await;
    let id = first(&job);
    let asked = house.get(&id).await;
    let approval = asked.approval.expect("an approval");
    assert_eq!(
        (approval.state(), approval.quorum, approval.requester.as_str()),
        (ApprovalState::Pending, 2, "ann")
    );
    assert_eq!((approval.rule_id.as_str(), approval.reason.as_str()), ("four-eyes", "look first"));
    let input = asked.job.and_then(|job| job.spec).and_then(|spec| spec.payload).expect("what it is about");
    assert_eq!(input, pb::Payload::data("text/plain", &b"hi"[..]));
    assert_eq!(
        refused(house.approve("ann", &id).await),
        (Code::PermissionDenied, "APPROVAL_OWN_REQUEST".into())
    );
    let voted = house.approve("bob", &id).await.expect("counted");
    assert!(voted.warnings.is_empty(), "{voted:?}");
    assert_eq!(voted.approval.as_ref().map(|a| (a.approvals, a.revision)), Some((1, 2)));
    let again = house.approve("bob", &id).await.expect("a repeat is no fault");
    assert_eq!(again, voted);
    let request = pb::ExplainJobRequest { job_id: job.clone() };
    let told = house.server.jobs().explain_job(by("ann", request)).await.expect("explained").into_inner();
    let cause = &told.causes[0];
    assert_eq!(cause.kind(), pb::JobCauseKind::Approval);
    assert!(cause.message.contains(&id) && cause.message.contains("1 of 2 approvals (bob)"), "{told:?}");
    assert!(cause.eta.as_ref().is_some_and(|eta| eta.seconds > 3_500), "{told:?}");
    let done = house.approve("cid", &id).await.expect("counted").approval.expect("an approval");
    assert_eq!((done.state(), done.note.as_str()), (ApprovalState::Approved, "by bob, cid: seen"));
    assert_eq!(house.state(&job).await, JobState::Scheduled);
    // Told once, it is told for good.
    assert_eq!(house.approve("cid", &id).await.expect("a repeat").approval, Some(done));
    let late = house.approve("dan", &id).await;
    assert!(
        late.as_ref().is_err_and(|status| status.message().contains("APPROVED: by bob, cid")),
        "{late:?}"
    );
    assert_eq!(refused(late), (Code::FailedPrecondition, "APPROVAL_DECIDED".into()));
    assert_eq!(refused(house.reject("bob", &id).await).1, "APPROVAL_DECIDED");
    let events = house.events(&job).await;
    let last = events.last().expect("an event");
    assert_eq!((last.r#type(), last.actor.as_str()), (pb::JobEventType::Approved, "cid"));
    assert_eq!(last.message, "by bob, cid: seen");
    let metrics = house.server.http("GET /metrics HTTP/1.1\r\nHost: localhost\r\nauthorization: Bearer key-ann\r\nConnection: close\r\n\r\n").await;
    assert!(metrics.contains("coretex_approvals_total{state=\"APPROVED\"} 1"), "{metrics}");
    assert!(metrics.contains("coretex_approvals_pending 0"), "{metrics}");
    house.server.stop().await;
}

#[tokio::test]
async fn one_no_denies_and_leaves_a_dead_letter() {
    let house = House::open().await;
    let job = house.submit("ann", "job.deploy").await;
    let ended = house.reject("bob", &first(&job)).await.expect("counted");
    assert_eq!(ended.job.map(|job| job.state()), Some(JobState::Denied));
    assert_eq!(
        ended.approval.map(|a| (a.state(), a.note)),
        Some((ApprovalState::Rejected, "by bob: no".into()))
    );
    assert_eq!(
        house.reject("bob", &first(&job)).await.expect("a repeat").approval.map(|a| a.revision),
        Some(3)
    );
    let events = house.events(&job).await;
    assert_eq!(
        events.last().map(|e| (e.r#type(), e.actor.as_str())),
        Some((pb::JobEventType::Rejected, "bob"))
    );
    let request = pb::GetDeadLetterRequest { dead_letter_id: job.clone(), ..Default::default() };
    let letter = house.server.dlq().get_dead_letter(by("ann", request)).await.expect("left").into_inner();
    assert_eq!(letter.dead_letter.map(|letter| letter.reason), Some("APPROVAL_REJECTED".into()));
    house.server.stop().await;
}

#[tokio::test]
async fn an_edit_is_judged_at_once_and_nothing_said_before_counts() {
    let house = House::open().await;
    let job = house.submit("ann", "job.deploy").await;
    house.approve("bob", &first(&job)).await.expect("counted");
    let next = house.approve_with("cid", &first(&job), Some("{\"to\":\"x\"}")).await.expect("counted");
    let next = next.approval.expect("an approval");
    assert_eq!((next.round, next.approvals, next.input_edited), (2, 1, true));
    assert_eq!(refused(house.approve("dan", &first(&job)).await).1, "APPROVAL_DECIDED");
    let repeat = house.approve_with("cid", &first(&job), Some("{\"to\":\"x\"}")).await.expect("a repeat");
    assert_eq!(repeat.approval, Some(next.clone()));
    let events = house.events(&job).await;
    assert!(
        events.iter().any(|e| e.message.starts_with("the input was edited by cid") && e.actor == "cid"),
        "{events:?}"
    );
    let job_now = house.approve("bob", &next.approval_id).await.expect("counted").job.expect("a job");
    assert_eq!(job_now.state(), JobState::Scheduled);
    let asked = house.get(&next.approval_id).await.job.and_then(|job| job.spec).and_then(|spec| spec.payload);
    assert_eq!(asked, Some(pb::Payload::data("application/json", &b"{\"to\":\"x\"}"[..])));
    // An input that the rules forbid is denied at once, whoever sends it.
    house.rules(&HOUSE.replace("rules:", "rules:\n  - { id: no-prod, match: { topics: [job.deploy] }, when: \"${job.payload.to == 'prod'}\", verdict: deny }")).await;
    let mut asked = spec("job.deploy");
    asked.payload = Some(pb::Payload::data("application/json", &b"{\"to\":\"test\"}"[..]));
    let request = pb::SubmitJobRequest { spec: Some(asked), ..Default::default() };
    let job = house
        .server
        .jobs()
        .submit_job(by("ann", request))
        .await
        .expect("accepted")
        .into_inner()
        .job
        .expect("a job");
    let denied =
        house.approve_with("bob", &first(&job.job_id), Some("{\"to\":\"prod\"}")).await.expect("counted");
    assert_eq!(denied.job.map(|job| job.state()), Some(JobState::Denied));
    assert_eq!(denied.approval.map(|a| a.state()), Some(ApprovalState::Voided));
    house.server.stop().await;
}

#[tokio::test]
async fn a_rule_may_name_a_role() {
    let house = House::open().await;
    let job = house.submit("ann", "job.shift").await;
    let id = format!("apr_1_{job}");
    let refused = house.approve("bob", &id).await.expect_err("bob is no operator");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    assert_eq!(house.state(&job).await, JobState::AwaitingApproval);
    house.approve("dan", &id).await.expect("dan is");
    assert_eq!(house.state(&job).await, JobState::Scheduled);
    house.server.stop().await;
}

#[tokio::test]
async fn a_vote_can_be_given_into_other_hands() {
    let house = House::open().await;
    let job = house.submit("bob", "job.page").await;
    let id = first(&job);
    assert_eq!(refused(house.approve("dan", &id).await), (Code::PermissionDenied, "NOT_AN_APPROVER".into()));
    assert_eq!(refused(house.delegate("bob", &id, "dan").await).1, "APPROVAL_OWN_REQUEST");
    assert_eq!(refused(house.delegate("cid", &id, "bob").await).1, "APPROVAL_OWN_REQUEST");
    assert_eq!(house.list("dan", "mine = true").await, [""; 0]);
    let given = house.delegate("cid", &id, "dan").await.expect("given");
    assert_eq!(house.delegate("cid", &id, "dan").await.expect("a repeat"), given);
    assert_eq!(house.list("dan", "mine = true AND state = PENDING").await, [id.as_str()]);
    let done = house.approve("dan", &id).await.expect("counted").approval.expect("an approval");
    assert_eq!((done.state(), done.votes[0].on_behalf_of.as_str()), (ApprovalState::Approved, "cid"));
    house.server.stop().await;
}

#[tokio::test]
async fn silence_and_other_rules_end_it() {
    let house = House::open().await;
    let mut events = house
        .server
        .events()
        .watch_events(by("ann", pb::WatchEventsRequest::default()))
        .await
        .expect("a watch")
        .into_inner();
    let job = house.submit("ann", "job.soon").await;
    let request = pb::WaitJobRequest { job_id: job.clone(), ..Default::default() };
    let ended = house
        .server
        .jobs()
        .wait_job(by("ann", request))
        .await
        .expect("ended")
        .into_inner()
        .job
        .expect("a job");
    assert_eq!(
        (ended.state(), ended.failure.map(|f| f.r#type)),
        (JobState::Denied, Some("APPROVAL_EXPIRED".into()))
    );
    let late = refused(house.approve("bob", &first(&job)).await);
    assert_eq!(late.1, "APPROVAL_DECIDED");
    let mut seen = Vec::new();
    while seen.last() != Some(&pb::JobEventType::Rejected) {
        let message = events.message().await.expect("no error").expect("open");
        seen.extend(message.event.iter().map(pb::Event::r#type));
    }
    assert!(seen.contains(&pb::JobEventType::ApprovalRequested), "{seen:?}");
    let waiting = house.submit("ann", "job.deploy").await;
    house.approve("bob", &first(&waiting)).await.expect("counted");
    house.rules(&HOUSE.replace("look first", "look twice")).await;
    let voided = house.get(&first(&waiting)).await.approval.expect("kept");
    assert_eq!((voided.state(), voided.note.as_str()), (ApprovalState::Voided, "the policy changed"));
    let next = format!("apr_2_{waiting}");
    assert_eq!(
        house.get(&next).await.approval.map(|a| (a.approvals, a.reason)),
        Some((0, "look twice".into()))
    );
    assert_eq!(house.list("bob", &format!("job_id = \"{waiting}\"")).await, [next, first(&waiting)]);
    house.server.stop().await;
}

#[tokio::test]
async fn without_a_login_all_votes_are_one_and_the_reply_says_so() {
    let house = House::with(GatewaySettings::default()).await;
    let job = house.submit("x", "job.page").await;
    let done = house.approve("x", &first(&job)).await.expect("counted");
    assert_eq!(done.job.map(|job| job.state()), Some(JobState::Scheduled));
    assert_eq!(done.warnings[0].reason, "ANONYMOUS_VOTE");
    let job = house.submit("x", "job.deploy").await;
    for _ in 0..2 {
        let voted = house.approve("x", &first(&job)).await.expect("counted");
        assert_eq!(voted.approval.map(|a| (a.approvals, a.revision)), Some((1, 2)));
        assert!(voted.warnings[0].message.contains("2 are needed"), "{:?}", voted.warnings);
    }
    assert_eq!(
        refused(house.delegate("x", &first(&job), "bob").await),
        (Code::Unimplemented, "FEATURE_UNAVAILABLE".into())
    );
    // What was approved is handed out, once.
    let mut worker = Worker::join(&house.server, &["job.page"]).await;
    let assigned = worker.assigned().await;
    worker.report(vec![update(&assigned[0], pb::JobUpdateKind::Started), succeeded(&assigned[0])]).await;
    let job = assigned[0].job.as_ref().expect("a job");
    assert_eq!(house.state(&job.job_id).await, JobState::Succeeded);
    house.server.stop().await;
}

#[tokio::test]
async fn bad_input_is_named_field_by_field() {
    let house = House::open().await;
    let long = "x".repeat(1_025);
    let request = pb::ApproveRequest {
        approval_id: "apr_x".into(),
        comment: long.clone(),
        edited_input: Some(pb::Payload::data("application/json", &b"{"[..])),
        request_id: " ".into(),
    };
    let status = house.approvals().approve(by("bob", request)).await.expect_err("refused");
    let details = status.get_error_details();
    let mut fields: Vec<&str> = details
        .bad_request()
        .expect("violations")
        .field_violations
        .iter()
        .map(|v| v.field.as_str())
        .collect();
    fields.sort_unstable();
    assert_eq!(fields, ["approval_id", "comment", "edited_input.data", "request_id"], "{status:?}");
    let request = pb::DelegateApprovalRequest { to: "a b".into(), comment: long, ..Default::default() };
    let status = house.approvals().delegate_approval(by("bob", request)).await.expect_err("refused");
    let details = status.get_error_details();
    assert_eq!(details.bad_request().expect("violations").field_violations.len(), 3, "{status:?}");
    for id in ["", "apr_0_x", "job_1", "apr_1_", "apr_1_a b"] {
        assert_eq!(refused(house.approve("bob", id).await).0, Code::InvalidArgument, "{id:?}");
    }
    for id in ["apr_1_nobody", "apr_7_job_00000000000000000000000000"] {
        assert_eq!(refused(house.approve("bob", id).await), (Code::NotFound, "APPROVAL_NOT_FOUND".into()));
        assert_eq!(refused(house.delegate("bob", id, "cid").await).1, "APPROVAL_NOT_FOUND");
    }
    // Another namespace sees nothing of it.
    let job = house.submit("ann", "job.deploy").await;
    let mut request = by("bob", pb::ApproveRequest { approval_id: first(&job), ..Default::default() });
    request.metadata_mut().insert("coretex-namespace", "other".parse().expect("a name"));
    assert_eq!(refused(house.approvals().approve(request).await).1, "APPROVAL_NOT_FOUND");
    let request = pb::ListApprovalsRequest { filter: "stat = PENDING".into(), ..Default::default() };
    assert_eq!(refused(house.approvals().list_approvals(by("bob", request)).await).1, "INVALID_FILTER");
    let request = pb::ListApprovalsRequest { page_token: "x".into(), ..Default::default() };
    assert_eq!(refused(house.approvals().list_approvals(by("bob", request)).await).1, "INVALID_PAGE_TOKEN");
    house.server.stop().await;
}
