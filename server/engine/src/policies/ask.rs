//! Asking the policies in force, or a candidate, without anything being decided.

use super::force::{bundles, joined};
use super::judge::facts_of;
use crate::Engine;
use crate::api::JobQuery;
use crate::shared::Shared;
use coretex_domain::config::Applied;
use coretex_domain::job::Spec;
use coretex_domain::policy::{Answer, Decision, Facts};
use coretex_domain::{Namespace, Reason, Refusal, Span};
use coretex_policy::{Bundle, Considered, Report, Simulation, compile, explain};
use coretex_ports::Row;
use std::sync::Arc;

/// A simulation answers with what it has rather than take longer.
const SIMULATION_TIME_MAX: Span = Span::secs(10);

/// What the policies in force say, and why.
#[derive(Clone, Debug)]
pub struct Asked {
    pub decision: Arc<Decision>,
    /// Ids are those of the joined bundle: `policy/rule`, or the rule alone where the policy is `default`.
    pub considered: Vec<Considered>,
}

/// What a candidate would change.
#[derive(Clone, Debug)]
pub struct Simulated {
    pub report: Report,
    /// Every job that matches was judged.
    pub is_exact: bool,
}

/// Policies are kept by a kernel elsewhere; here is nobody to ask or to change them.
pub(super) fn elsewhere() -> Refusal {
    let message = "the policies of this server are kept by another policy kernel (setting `policy.kernel`); ask it there";
    Refusal::new(Reason::UnsupportedByStore, message)
}

/// What the policies kept here say of these facts. Nothing is recorded or used up.
pub(crate) fn judge_now(shared: &Shared, facts: Facts<'_>) -> Result<Arc<Decision>, Refusal> {
    if let Some(rules) = shared.in_force.rules() {
        return Ok(Arc::new(rules.decision(&rules.compiled.judge(&facts_of(facts)))));
    }
    let now = shared.env.clock.now().wall;
    match shared.policy().judge(facts, now) {
        Answer::Decided(decision) => Ok(decision),
        Answer::Asked => Err(elsewhere()),
        Answer::Deferred { until, reason } => {
            let message = format!("the policy kernel does not answer: {reason}");
            Err(Refusal::new(Reason::ShardUnavailable, message).retry_after(until.since(now)))
        }
    }
}

impl Engine {
    /// The configuration a job would be submitted under.
    pub fn config_for(&self, namespace: &Namespace, spec: &Spec) -> Result<Option<Arc<Applied>>, Refusal> {
        match self.shared.catalog.configs.of(namespace) {
            Some(configs) => configs.for_job(spec),
            None => Ok(None),
        }
    }

    /// What the policies in force say of a job, as it travels: the rule that decided, and the count of its rate.
    pub fn carried_policy(&self, facts: Facts<'_>) -> (Option<String>, Arc<str>) {
        let outcome = self.shared.in_force.compiled().judge(&facts_of(facts));
        (outcome.carried(), outcome.rate_key)
    }

    /// What the policies in force say of a job. Nothing is recorded or used up.
    pub fn check_policy(&self, facts: Facts<'_>) -> Result<Arc<Decision>, Refusal> {
        judge_now(&self.shared, facts)
    }

    /// The same, with every rule.
    pub fn explain_policy(&self, facts: Facts<'_>) -> Result<Asked, Refusal> {
        if self.shared.settings.remote_kernel.is_some() {
            return Err(elsewhere());
        }
        let considered = explain(&self.shared.in_force.compiled(), &facts_of(facts));
        Ok(Asked { decision: self.check_policy(facts)?, considered })
    }

    /// The number that stands for all policies in force in decisions.
    pub fn policy_version_in_force(&self) -> u64 {
        self.shared.policy().version
    }

    /// Judges recorded jobs by the policies in force and again with a candidate in the place of its name.
    pub async fn simulate_policy(
        &self,
        query: JobQuery,
        candidate: Bundle,
        jobs_max: u64,
        samples_max: usize,
    ) -> Result<Simulated, Refusal> {
        let mut all = bundles(&self.shared.catalog.rows(), false)?;
        all.retain(|bundle| bundle.name != candidate.name);
        all.push(candidate);
        all.sort_by(|one, other| one.name.cmp(&other.name));
        let candidate = Arc::new(compile(joined(all)));
        let mut simulation = Simulation::new(self.shared.in_force.compiled(), candidate, samples_max);
        let start = self.shared.env.clock.now().mono;
        let (mut after, mut has_more) = (query.after.clone(), true);
        while has_more
            && simulation.report().judged < jobs_max
            && self.shared.env.clock.now().mono.since(start) < SIMULATION_TIME_MAX
        {
            let page = self.scan(&query, after.clone()).await?;
            has_more = page.more;
            for row in page.rows {
                let Row::Job(job) = row else { continue };
                after = Some((job.create_time, job.id.clone()));
                if !(query.accepts)(&job) {
                    continue;
                }
                if simulation.report().judged == jobs_max {
                    has_more = true;
                    break;
                }
                let (namespace, submitter) = (job.namespace.as_str(), job.submitter());
                let config = job.rare().config.as_ref().map(|config| config.value());
                let facts = Facts { namespace, submitter, spec: &job.spec, config };
                simulation.see(&job.id.to_string(), &facts_of(facts));
            }
            // Judging is work for the processor: let others have it in between.
            tokio::task::yield_now().await;
        }
        Ok(Simulated { report: simulation.report().clone(), is_exact: !has_more })
    }
}
