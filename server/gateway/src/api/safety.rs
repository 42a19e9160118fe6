//! `SafetyService`: policies, what they say, and what they have said.

mod change;

use super::list::{self, Named, bound, filter, order, page_size, view};
use super::lookup::{fit, query};
use crate::call::{Answer, Call};
use crate::gate::Gate;
use crate::tokens::Bound;
use crate::wire::policy as write;
use crate::wire::{Faults, config, job};
use coretex_contract::v1 as pb;
use coretex_domain::config::Applied;
use coretex_domain::filter::{Field, Found, JOB_FIELDS, Kind, Row, Schema, optional};
use coretex_domain::job::Spec;
use coretex_domain::limits::KEY_LEN_MAX;
use coretex_domain::names::shown;
use coretex_domain::policy::{Decision, Facts};
use coretex_domain::{Job, Reason, Refusal, filter::Filter};
use coretex_engine::PolicyInfo;
use coretex_engine::api::JobQuery;
use coretex_policy::{Bundle, Problems, limits, word};
use std::sync::{Arc, LazyLock};
use tonic::Request;

const POLICY_FIELDS: Schema = &[
    Field { name: "name", kind: Kind::Text },
    Field { name: "in_force", kind: Kind::Word(&["true", "false"]) },
    Field { name: "shadow", kind: Kind::Word(&["true", "false"]) },
];
const POLICY_ORDERS: [&str; 2] = ["name asc", "name desc"];
const DECISION_ORDERS: [&str; 2] = ["create_time desc", "create_time asc"];
const VERDICTS: [&str; 5] = ["ALLOW", "DENY", "REQUIRE_APPROVAL", "THROTTLE", "ALLOW_WITH_CONSTRAINTS"];

/// Fields of `ListDecisions`: those of jobs, and of the decision.
static DECISION_FIELDS: LazyLock<Vec<Field>> = LazyLock::new(|| {
    let own = [
        Field { name: "decision.verdict", kind: Kind::Word(&VERDICTS) },
        Field { name: "decision.rule_id", kind: Kind::Text },
        Field { name: "decision.policy", kind: Kind::Text },
        Field { name: "decision.policy_version", kind: Kind::Text },
    ];
    JOB_FIELDS.iter().copied().chain(own).collect()
});

const SIMULATED_DEFAULT: u32 = 10_000;
const SIMULATED_MAX: u32 = 100_000;
const SAMPLES_DEFAULT: u32 = 10;
const SAMPLES_MAX: u32 = 100;

#[derive(Clone)]
pub(crate) struct Safety(pub(crate) Arc<Gate>);

struct PolicyRow<'a>(&'a PolicyInfo);

struct DecisionRow<'a>(&'a Job, &'a Decision);

impl Row for PolicyRow<'_> {
    fn field(&self, name: &'static str, _key: &str) -> Found<'_> {
        let flag = |is: bool| optional(Some(if is { "true" } else { "false" }));
        match name {
            "name" => optional(Some(&self.0.name)),
            "in_force" => flag(self.0.in_force),
            "shadow" => flag(self.0.is_shadow),
            _ => Found::Unset,
        }
    }
}

impl Row for DecisionRow<'_> {
    fn field(&self, name: &'static str, key: &str) -> Found<'_> {
        match name {
            "decision.verdict" => Found::Text(word(self.1.verdict).to_ascii_uppercase().into()),
            "decision.rule_id" => optional(Some(&self.1.rule_id)),
            "decision.policy" => optional(Some(&self.1.policy)),
            "decision.policy_version" => Found::Text(self.1.policy_version.to_string().into()),
            _ => self.0.field(name, key),
        }
    }
}

/// The name of a policy in a request.
fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::field("name", "required"));
    }
    let is_good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.len() > limits::NAME_LEN_MAX || !name.chars().all(is_good) {
        let message = format!(
            "must be 1..={} letters, digits, `.`, `_` and `-`, got {}",
            limits::NAME_LEN_MAX,
            shown(name)
        );
        return Err(Refusal::field("name", message));
    }
    Ok(())
}

/// Reads a bundle; every mistake is a violation of its own.
fn read_bundle(name: &str, yaml: &str) -> Result<Bundle, Refusal> {
    if yaml.is_empty() {
        return Err(Refusal::field("yaml", "required"));
    }
    let bundle = Bundle::parse(yaml).map_err(|problems| invalid(&problems))?;
    if *bundle.name != *name {
        let message = format!("is {}, the name of the bundle is {}", shown(name), shown(&bundle.name));
        return Err(Refusal::field("name", message));
    }
    Ok(bundle)
}

fn invalid(problems: &Problems) -> Refusal {
    let mut faults = Faults::default();
    for problem in &problems.list {
        let place = match problem.line {
            0 => "yaml".to_owned(),
            line => format!("yaml:{line}:{}", problem.column),
        };
        let field = if problem.field.is_empty() { place } else { format!("{place} {}", problem.field) };
        faults.add_as(Reason::PolicyInvalid, field, problem.message.clone());
    }
    if problems.more > 0 {
        faults.add_as(Reason::PolicyInvalid, "yaml", format!("has {} more mistakes", problems.more));
    }
    match faults.into_result() {
        Err(refusal) => refusal,
        Ok(()) => Refusal::new(Reason::PolicyInvalid, "yaml: cannot be read"),
    }
}

/// A job that is asked about, with the configuration it would be submitted under.
struct AskedAbout {
    spec: Arc<Spec>,
    config: Option<Arc<Applied>>,
    /// In its place: the one of the server that asks on behalf of others.
    given: Option<serde_json::Value>,
}

// === impl AskedAbout ===

impl AskedAbout {
    /// As if `actor` submitted it, or else the caller.
    fn facts<'a>(&'a self, call: &'a Call, actor: &'a str) -> Facts<'a> {
        let submitter = [actor, &*call.principal.name].into_iter().find(|name| !name.is_empty());
        let config = self.given.as_ref().or_else(|| self.config.as_ref().map(|config| config.value()));
        Facts { namespace: call.namespace.as_str(), submitter, spec: &self.spec, config }
    }
}

impl Safety {
    /// Reads the spec of a question.
    fn asked(&self, call: &Call, spec: Option<pb::JobSpec>, actor: &str) -> Result<AskedAbout, Refusal> {
        let mut faults = Faults::default();
        faults.text("actor", actor, KEY_LEN_MAX);
        faults.into_result()?;
        let spec = self.0.reader(call).read(spec, 0)?.0.spec;
        let config = self.0.engine.config_for(&call.namespace, &spec)?;
        Ok(AskedAbout { spec, config, given: None })
    }

    fn check(
        &self,
        call: &Call,
        request: pb::CheckPolicyRequest,
    ) -> Result<pb::CheckPolicyResponse, Refusal> {
        let mut asked = self.asked(call, request.spec, &request.actor)?;
        if let Some(config) = request.config {
            let mut faults = Faults::default();
            asked.given = Some(config::object(&mut faults, "config", Some(config)));
            faults.into_result()?;
        }
        let mut facts = asked.facts(call, &request.actor);
        if request.on_behalf && request.actor.is_empty() {
            facts.submitter = None;
        }
        let decision = self.0.engine.check_policy(facts)?;
        let (rule, rate_key) = self.0.engine.carried_policy(facts);
        Ok(pb::CheckPolicyResponse {
            decision: Some(job::unrecorded(&decision)),
            rule: rule.unwrap_or_default(),
            rate_key: rate_key.to_string(),
        })
    }

    fn explain(
        &self,
        call: &Call,
        request: pb::ExplainPolicyRequest,
    ) -> Result<pb::ExplainPolicyResponse, Refusal> {
        let about = self.asked(call, request.spec, &request.actor)?;
        let asked = self.0.engine.explain_policy(about.facts(call, &request.actor))?;
        Ok(pb::ExplainPolicyResponse {
            decision: Some(job::unrecorded(&asked.decision)),
            considered: write::considered(&asked),
        })
    }

    async fn simulate(
        &self,
        call: &Call,
        request: pb::SimulatePolicyRequest,
    ) -> Result<pb::SimulatePolicyResponse, Refusal> {
        check_name(&request.name)?;
        let bounded = |field: &str, given: u32, default: u32, most: u32| match given {
            0 => Ok(default),
            given if given <= most => Ok(given),
            given => Err(Refusal::field(field, format!("must be 1..={most}, got {given}"))),
        };
        let jobs_max = bounded("max_jobs", request.max_jobs, SIMULATED_DEFAULT, SIMULATED_MAX)?;
        let samples_max = bounded("max_samples", request.max_samples, SAMPLES_DEFAULT, SAMPLES_MAX)?;
        let filter = filter(JOB_FIELDS, &request.filter)?;
        let candidate = match (request.yaml.is_empty(), request.version) {
            (false, 0) => read_bundle(&request.name, &request.yaml)?,
            (true, version) if version > 0 => {
                let stored = self.0.engine.policy_info(&request.name, version).await?;
                read_bundle(&request.name, &stored.yaml)?
            }
            _ => return Err(Refusal::field("yaml", "exactly one of `yaml` and `version` is required")),
        };
        let present = self.0.engine.policy_info(&request.name, 0).await.ok().filter(|p| p.in_force);
        let present = present.and_then(|p| Bundle::parse(&p.yaml).ok());
        let differences = coretex_engine::differences(present.as_ref(), &candidate);
        let query = query(call, filter);
        let done = self
            .0
            .engine
            .simulate_policy(query, candidate, u64::from(jobs_max), samples_max as usize)
            .await?;
        Ok(pb::SimulatePolicyResponse {
            comparison: Some(write::comparison(&done.report)),
            exact: done.is_exact,
            differences,
        })
    }

    async fn get(&self, request: pb::GetPolicyRequest) -> Result<pb::GetPolicyResponse, Refusal> {
        check_name(&request.name)?;
        let view = view(request.view, pb::View::Full)?;
        let policy = self.0.engine.policy_info(&request.name, request.version).await?;
        Ok(pb::GetPolicyResponse { policy: Some(self.shown(&policy, view)) })
    }

    /// A policy with the report of its shadow, where it has one.
    fn shown(&self, policy: &PolicyInfo, view: pb::View) -> pb::Policy {
        let has_shadow = policy.is_shadow || (policy.in_force && self.0.engine.has_shadow(&policy.name));
        let report = self.0.engine.shadow_report().filter(|_| has_shadow);
        write::write(policy, view, report.as_ref())
    }

    async fn list(
        &self,
        call: &Call,
        request: pb::ListPoliciesRequest,
    ) -> Result<pb::ListPoliciesResponse, Refusal> {
        let filter = filter(POLICY_FIELDS, &request.filter)?;
        let page_size = page_size(request.page_size, list::DEFAULT)?;
        let order = order(&request.order_by, &POLICY_ORDERS)?;
        let view = view(request.view, pb::View::Basic)?;
        let engine = &self.0.engine;
        let mut rows = Vec::new();
        for name in engine.policy_names() {
            let policy = engine.policy_info(&name, 0).await?;
            if filter.matches_row(&PolicyRow(&policy)) {
                rows.push((name.to_string(), policy));
            }
        }
        let named = Named {
            rows,
            bound: bound("ListPolicies", call, &filter, order),
            tokens: &self.0.tokens,
            descending: order.ends_with("desc"),
            page_size,
            page_token: &request.page_token,
        };
        let (page, next_page_token) = named.page()?;
        let policies = page.iter().map(|policy| self.shown(policy, view)).collect();
        let policy_version = engine.policy_version_in_force().to_string();
        Ok(pb::ListPoliciesResponse { policies, next_page_token, policy_version })
    }

    async fn versions(
        &self,
        call: &Call,
        request: pb::ListPolicyVersionsRequest,
    ) -> Result<pb::ListPolicyVersionsResponse, Refusal> {
        check_name(&request.name)?;
        let page_size = page_size(request.page_size, list::DEFAULT)?;
        let view = view(request.view, pb::View::Basic)?;
        let bound = Bound::new("ListPolicyVersions", call.namespace.as_str(), 0, &request.name);
        let before = self.0.tokens.open_name(&bound, &request.page_token)?;
        let before = before.and_then(|version| version.parse().ok());
        let (found, more) = self.0.engine.policy_versions(&request.name, before, page_size).await?;
        let last = found.last().filter(|_| more).map(|policy| policy.version.to_string());
        let next_page_token = last.map(|last| self.0.tokens.seal_name(&bound, &last)).unwrap_or_default();
        let policies = found.iter().map(|policy| write::write(policy, view, None)).collect();
        Ok(pb::ListPolicyVersionsResponse { policies, next_page_token })
    }

    async fn decisions(
        &self,
        call: &Call,
        request: pb::ListDecisionsRequest,
    ) -> Result<pb::ListDecisionsResponse, Refusal> {
        let filter = filter(&DECISION_FIELDS, &request.filter)?;
        let page_size = page_size(request.page_size, list::DEFAULT)?;
        let order = order(&request.order_by, &DECISION_ORDERS)?;
        let bound = bound("ListDecisions", call, &filter, order);
        let after = self.0.tokens.open_job(&bound, &request.page_token)?;
        let descending = order == DECISION_ORDERS[0];
        let page =
            self.0.engine.list(JobQuery { after, page_size, descending, ..decided(call, filter) }).await?;
        let (decisions, next) = fit(page, write::record);
        let next_page_token = next.map(|key| self.0.tokens.seal_job(&bound, &key)).unwrap_or_default();
        Ok(pb::ListDecisionsResponse { decisions, next_page_token })
    }
}

/// A question for the engine about jobs that were decided on.
fn decided(call: &Call, filter: Filter) -> JobQuery {
    let accepts = {
        let filter = filter.clone();
        move |job: &Job| {
            job.decision.as_deref().is_some_and(|decision| filter.matches_row(&DecisionRow(job, decision)))
        }
    };
    JobQuery { accepts: Arc::new(accepts), ..query(call, filter) }
}

#[tonic::async_trait]
impl pb::safety_service_server::SafetyService for Safety {
    async fn check_policy(
        &self,
        request: Request<pb::CheckPolicyRequest>,
    ) -> Answer<pb::CheckPolicyResponse> {
        let call = Call::of(&request);
        call.answer(self.check(&call, request.into_inner()))
    }

    async fn explain_policy(
        &self,
        request: Request<pb::ExplainPolicyRequest>,
    ) -> Answer<pb::ExplainPolicyResponse> {
        let call = Call::of(&request);
        call.answer(self.explain(&call, request.into_inner()))
    }

    async fn simulate_policy(
        &self,
        request: Request<pb::SimulatePolicyRequest>,
    ) -> Answer<pb::SimulatePolicyResponse> {
        let call = Call::of(&request);
        call.answer(self.simulate(&call, request.into_inner()).await)
    }

    async fn apply_policy(
        &self,
        request: Request<pb::ApplyPolicyRequest>,
    ) -> Answer<pb::ApplyPolicyResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().name);
        call.answer(self.apply(&call, request.into_inner()).await)
    }

    async fn get_policy(&self, request: Request<pb::GetPolicyRequest>) -> Answer<pb::GetPolicyResponse> {
        let call = Call::of(&request);
        call.answer(self.get(request.into_inner()).await)
    }

    async fn list_policies(
        &self,
        request: Request<pb::ListPoliciesRequest>,
    ) -> Answer<pb::ListPoliciesResponse> {
        let call = Call::of(&request);
        call.answer(self.list(&call, request.into_inner()).await)
    }

    async fn list_policy_versions(
        &self,
        request: Request<pb::ListPolicyVersionsRequest>,
    ) -> Answer<pb::ListPolicyVersionsResponse> {
        let call = Call::of(&request);
        call.answer(self.versions(&call, request.into_inner()).await)
    }

    async fn rollback_policy(
        &self,
        request: Request<pb::RollbackPolicyRequest>,
    ) -> Answer<pb::RollbackPolicyResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().name);
        call.answer(self.rollback(request.into_inner()).await)
    }

    async fn delete_policy(
        &self,
        request: Request<pb::DeletePolicyRequest>,
    ) -> Answer<pb::DeletePolicyResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().name);
        call.answer(self.delete(request.into_inner()).await)
    }

    async fn list_decisions(
        &self,
        request: Request<pb::ListDecisionsRequest>,
    ) -> Answer<pb::ListDecisionsResponse> {
        let call = Call::of(&request);
        call.answer(self.decisions(&call, request.into_inner()).await)
    }
}
