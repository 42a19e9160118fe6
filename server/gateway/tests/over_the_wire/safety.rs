//! Policies as their authors meet them: applied, asked, compared, rolled back.

use crate::running_server::{Server, reason, spec};
use coretex_contract::v1 as pb;
use coretex_contract::v1::safety_service_client::SafetyServiceClient;
use pb::{JobState, Verdict};
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt;

const FIRST: &str = "
name: default
default: allow
rules:
  - { id: no-mail, match: { topics: [job.mail] }, verdict: deny, reason: nobody writes,
      remediations: [{ id: chat, title: Chat instead, replacement_topic: job.chat }] }
  - { id: ops, match: { actors: [ops] }, when: '${job.priority > 5}', verdict: allow }
";

fn safety(server: &Server) -> SafetyServiceClient<Channel> {
    SafetyServiceClient::new(server.channel.clone())
}

fn apply_request(name: &str, yaml: &str) -> pb::ApplyPolicyRequest {
    pb::ApplyPolicyRequest { name: name.into(), yaml: yaml.into(), ..Default::default() }
}

async fn apply(server: &Server, yaml: &str) -> pb::ApplyPolicyResponse {
    let reply = safety(server).apply_policy(apply_request("default", yaml)).await;
    reply.expect("applied").into_inner()
}

async fn check(server: &Server, topic: &str) -> pb::Decision {
    let request = pb::CheckPolicyRequest { spec: Some(spec(topic)), ..Default::default() };
    safety(server).check_policy(request).await.expect("answered").into_inner().decision.expect("a decision")
}

async fn state_of(server: &Server, topic: &str) -> JobState {
    server.submit(spec(topic)).await.expect("accepted").job.expect("a job").state()
}

#[tokio::test]
async fn a_policy_is_in_force_at_the_reply() {
    let server = Server::start().await;
    assert_eq!(state_of(&server, "job.mail").await, JobState::Scheduled);
    let done = apply(&server, FIRST).await;
    let policy = done.policy.expect("a policy");
    assert!(done.created && policy.in_force && policy.version == 1 && policy.revision == 1, "{policy:?}");
    assert_eq!(done.differences.len(), 4, "{:?}", done.differences);
    assert_eq!(state_of(&server, "job.mail").await, JobState::Denied);
    let decision = check(&server, "job.mail").await;
    assert_eq!(decision.verdict(), Verdict::Deny);
    assert_eq!((decision.policy.as_str(), decision.rule_id.as_str()), ("default", "no-mail"));
    assert_eq!(decision.remediations[0].replacement_topic, "job.chat");
    assert!(decision.decision_id.is_empty(), "nothing was recorded");
    // The same text again is no new version.
    let again = apply(&server, &format!("# a comment\n{FIRST}")).await;
    assert!(!again.created && again.differences.is_empty(), "{again:?}");
    assert_eq!(again.policy.map(|p| (p.version, p.revision)), Some((1, 1)));
    server.stop().await;
}

#[tokio::test]
async fn every_rule_is_explained() {
    let server = Server::start().await;
    apply(&server, FIRST).await;
    let mut asked = spec("job.other");
    asked.priority = Some(3);
    let request = pb::ExplainPolicyRequest { spec: Some(asked), actor: "ops".into() };
    let reply = safety(&server).explain_policy(request).await.expect("answered").into_inner();
    assert_eq!(reply.decision.expect("a decision").verdict(), Verdict::Allow);
    let standings: Vec<_> =
        reply.considered.iter().map(|one| (one.rule_id.as_str(), one.standing())).collect();
    assert_eq!(
        standings,
        [("no-mail", pb::RuleStanding::NoMatch), ("ops", pb::RuleStanding::ConditionFalse)]
    );
    assert!(reply.considered[0].message.contains("no match by topics"), "{:?}", reply.considered);
    server.stop().await;
}

#[tokio::test]
async fn all_mistakes_are_named_and_nothing_is_changed() {
    let server = Server::start().await;
    let bad = FIRST.replace("verdict: deny", "verdit: deny").replace("default: allow", "default: perhaps");
    let refused = safety(&server).apply_policy(apply_request("default", &bad)).await.expect_err("refused");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "POLICY_INVALID"));
    let details = refused.get_error_details();
    let violations = &details.bad_request().expect("violations").field_violations;
    assert!(violations.len() >= 2, "{violations:?}");
    assert!(
        violations.iter().any(|v| v.field.starts_with("yaml:3:") && v.field.contains("default")),
        "{violations:?}"
    );
    for (name, yaml, field) in
        [("", FIRST, "name"), ("a b", FIRST, "name"), ("other", FIRST, "name"), ("default", "", "yaml")]
    {
        let refused = safety(&server).apply_policy(apply_request(name, yaml)).await.expect_err("refused");
        let details = refused.get_error_details();
        assert_eq!(
            details.bad_request().expect("a violation").field_violations[0].field,
            field,
            "{refused:?}"
        );
    }
    let old = apply_request("default", FIRST);
    let refused = safety(&server)
        .apply_policy(pb::ApplyPolicyRequest { revision: 7, ..old })
        .await
        .expect_err("refused");
    assert_eq!(reason(&refused), "REVISION_MISMATCH");
    let request = pb::GetPolicyRequest { name: "default".into(), ..Default::default() };
    let present = safety(&server).get_policy(request).await.expect("answered").into_inner().policy;
    assert_eq!(present.map(|p| (p.version, p.in_force)), Some((0, true)), "still the built-in one");
    let absent = pb::GetPolicyRequest { name: "nobody".into(), ..Default::default() };
    assert_eq!(reason(&safety(&server).get_policy(absent).await.expect_err("refused")), "POLICY_NOT_FOUND");
    server.stop().await;
}

#[tokio::test]
async fn versions_are_kept_and_come_back() {
    let server = Server::start().await;
    apply(&server, FIRST).await;
    let second = FIRST.replace("[job.mail]", "[job.fax]");
    let request = pb::ApplyPolicyRequest {
        comment: "mail again".into(),
        revision: 1,
        request_id: "r-1".into(),
        ..apply_request("default", &second)
    };
    for _ in 0..2 {
        // The repeat is the same call: it is not told that the revision has moved on.
        let reply = safety(&server).apply_policy(request.clone()).await.expect("applied").into_inner();
        assert_eq!(reply.policy.map(|p| (p.version, p.revision)), Some((2, 2)));
    }
    assert_eq!(state_of(&server, "job.mail").await, JobState::Scheduled);
    assert_eq!(state_of(&server, "job.fax").await, JobState::Denied);
    let back = pb::RollbackPolicyRequest { name: "default".into(), version: 1, ..Default::default() };
    let reply = safety(&server).rollback_policy(back).await.expect("rolled back").into_inner();
    assert_eq!(reply.policy.map(|p| (p.version, p.in_force)), Some((1, true)));
    assert!(!reply.differences.is_empty());
    assert_eq!(state_of(&server, "job.mail").await, JobState::Denied);
    let mut request =
        pb::ListPolicyVersionsRequest { name: "default".into(), page_size: 1, ..Default::default() };
    let mut seen = Vec::new();
    loop {
        let page = safety(&server).list_policy_versions(request.clone()).await.expect("a page").into_inner();
        seen.extend(page.policies.into_iter().map(|p| (p.version, p.in_force, p.comment)));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen, [(2, false, "mail again".to_owned()), (1, true, String::new())]);
    server.stop().await;
}

#[tokio::test]
async fn policies_are_judged_by_together() {
    let server = Server::start().await;
    let team = "name: team\ndefault: allow\nrules: [{ id: r, match: { topics: [job.x] }, verdict: deny }]\n";
    let done = safety(&server).apply_policy(apply_request("team", team)).await.expect("applied").into_inner();
    assert!(done.warnings.is_empty(), "{:?}", done.warnings);
    let decision = check(&server, "job.x").await;
    assert_eq!((decision.policy.as_str(), decision.rule_id.as_str()), ("team", "r"));
    assert_eq!(check(&server, "sys.destroy").await.rule_id, "no-destroy", "the built-in policy stands");
    apply(&server, "name: default\ndefault: deny\nrules: []\n").await;
    assert_eq!(check(&server, "job.y").await.verdict(), Verdict::Deny);
    let all =
        safety(&server).list_policies(pb::ListPoliciesRequest::default()).await.expect("a list").into_inner();
    let names: Vec<_> = all.policies.iter().map(|p| (p.name.as_str(), p.in_force)).collect();
    assert_eq!(names, [("default", true), ("team", true)]);
    assert_eq!(all.policy_version, check(&server, "job.y").await.policy_version);
    for name in ["team", "default"] {
        let request = pb::DeletePolicyRequest { name: name.into(), ..Default::default() };
        assert!(safety(&server).delete_policy(request.clone()).await.expect("deleted").into_inner().deleted);
        assert!(!safety(&server).delete_policy(request).await.expect("answered").into_inner().deleted);
    }
    assert_eq!(check(&server, "job.x").await.verdict(), Verdict::Allow);
    server.stop().await;
}

#[tokio::test]
async fn a_shadow_counts_and_decides_nothing() {
    let server = Server::start().await;
    apply(&server, FIRST).await;
    let candidate = FIRST.replace("[job.mail]", "[job.mail, job.news]");
    let shadow = pb::ApplyPolicyRequest { shadow: true, ..apply_request("default", &candidate) };
    let done =
        safety(&server).apply_policy(shadow).await.expect("applied").into_inner().policy.expect("a policy");
    assert!(done.is_shadow && !done.in_force && done.version == 2, "{done:?}");
    for topic in ["job.news", "job.news", "job.mail", "job.fine"] {
        let wanted = if topic == "job.mail" { JobState::Denied } else { JobState::Scheduled };
        assert_eq!(state_of(&server, topic).await, wanted);
    }
    let request = pb::GetPolicyRequest { name: "default".into(), ..Default::default() };
    let policy =
        safety(&server).get_policy(request).await.expect("answered").into_inner().policy.expect("one");
    let report = policy.shadow_report.expect("a report");
    assert_eq!((policy.version, report.judged, report.changed), (1, 4, 2));
    let changed = report.pairs.iter().find(|pair| pair.old != pair.new).expect("a pair");
    assert_eq!((changed.old(), changed.new(), changed.count), (Verdict::Allow, Verdict::Deny, 2));
    assert_eq!(changed.samples[0].name, "default/job.news");
    let promote = pb::RollbackPolicyRequest { name: "default".into(), version: 2, ..Default::default() };
    safety(&server).rollback_policy(promote).await.expect("promoted");
    assert_eq!(state_of(&server, "job.news").await, JobState::Denied);
    server.stop().await;
}

#[tokio::test]
async fn a_candidate_is_tried_on_jobs_there_were() {
    let server = Server::start().await;
    for n in 0..30 {
        server.submit(spec(["job.a", "job.b", "job.c"][n % 3])).await.expect("accepted");
    }
    let candidate =
        "name: default\ndefault: allow\nrules: [{ id: no-b, match: { topics: [job.b] }, verdict: deny }]\n";
    let request = pb::SimulatePolicyRequest {
        name: "default".into(),
        yaml: candidate.into(),
        max_samples: 3,
        ..Default::default()
    };
    let reply = safety(&server).simulate_policy(request.clone()).await.expect("answered").into_inner();
    assert!(reply.exact, "{reply:?}");
    let found = reply.comparison.expect("a comparison");
    assert_eq!((found.judged, found.changed), (30, 10));
    let pair = found.pairs.iter().find(|pair| pair.old != pair.new).expect("a pair");
    assert_eq!((pair.count, pair.samples.len()), (10, 3));
    assert!(pair.samples[0].name.starts_with("job_"));
    let few = pb::SimulatePolicyRequest { max_jobs: 7, filter: "topic = job.b".into(), ..request.clone() };
    let reply = safety(&server).simulate_policy(few).await.expect("answered").into_inner();
    assert!(!reply.exact);
    assert_eq!(reply.comparison.map(|c| (c.judged, c.changed)), Some((7, 7)));
    for bad in [
        pb::SimulatePolicyRequest { yaml: String::new(), ..request.clone() },
        pb::SimulatePolicyRequest { version: 3, ..request.clone() },
        pb::SimulatePolicyRequest { max_jobs: 100_001, ..request.clone() },
        pb::SimulatePolicyRequest { filter: "topik = x".into(), ..request },
    ] {
        let refused = safety(&server).simulate_policy(bad).await.expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    }
    // Nothing was changed by asking.
    assert_eq!(state_of(&server, "job.b").await, JobState::Scheduled);
    server.stop().await;
}

#[tokio::test]
async fn decisions_are_listed_with_what_they_were_about() {
    let server = Server::start().await;
    apply(&server, FIRST).await;
    for topic in ["job.mail", "job.fine", "job.mail"] {
        server.submit(spec(topic)).await.expect("accepted");
    }
    let list = async |filter: &str| {
        let request = pb::ListDecisionsRequest { filter: filter.into(), ..Default::default() };
        safety(&server).list_decisions(request).await.map(|reply| reply.into_inner().decisions)
    };
    assert_eq!(list("").await.expect("a list").len(), 3);
    let denied = list("decision.verdict = DENY AND topic = job.mail").await.expect("a list");
    assert_eq!(denied.len(), 2);
    let one = &denied[0];
    assert_eq!((one.state(), one.spec_hash.len()), (JobState::Denied, 32));
    assert_eq!(one.spec_hash, denied[1].spec_hash, "the same was asked twice");
    assert!(
        one.decision.as_ref().is_some_and(|d| d.decision_id.starts_with("dec:") && d.rule_id == "no-mail")
    );
    assert_eq!(reason(&list("verdict = DENY").await.expect_err("refused")), "INVALID_FILTER");
    server.stop().await;
}
