//! What the policies in force say about an action inside a job: the job's own facts, and the action in the place of its topic.

use crate::api::PolicyAsk;
use crate::policies::judge_now;
use crate::remote::Question;
use crate::shared::Shared;
use coretex_domain::job::Spec;
use coretex_domain::policy::{Decision, Facts};
use coretex_domain::receipt::Ruling;
use coretex_domain::{Job, Reason, Refusal, Span};
use std::sync::Arc;

/// Topics of actions begin with it, so that rules can tell them from jobs.
const TOPIC_PREFIX: &str = "ask.";
/// The label that names what the action is done to.
const RESOURCE: &str = "resource";
/// A kernel elsewhere that takes longer does not answer.
const ANSWER_MAX: Span = Span::secs(2);

pub(super) async fn rule(shared: &Arc<Shared>, job: &Arc<Job>, ask: &PolicyAsk) -> Result<Ruling, Refusal> {
    let spec = spec_of(job, ask);
    let decision = match &shared.settings.remote_kernel {
        None => {
            let config = job.rare().config.as_ref().map(|config| config.value());
            let (namespace, submitter) = (job.namespace.as_str(), job.submitter());
            judge_now(shared, Facts { namespace, submitter, spec: &spec, config })?
        }
        Some(kernel) => {
            let question = Question {
                namespace: job.namespace.clone(),
                submitter: job.submitter().map(Into::into),
                spec: Arc::new(spec),
                config: job.rare().config.clone(),
            };
            let until = shared.env.clock.now().mono + ANSWER_MAX;
            let answer = tokio::select! {
                answer = kernel.judge(question) => answer,
                () = shared.env.clock.sleep_until(until) => Err("it took longer than 2 s".to_owned()),
            };
            answer.map_err(|why| {
                let message = format!("the policy kernel cannot be asked: {why}");
                Refusal::new(Reason::PolicyUnavailable, message)
            })?
        }
    };
    Ok(ruling(ask, &decision))
}

fn ruling(ask: &PolicyAsk, decision: &Decision) -> Ruling {
    let args_digest = match ask.args.data.is_empty() {
        true => ask.args_digest.clone(),
        false => blake3::hash(&ask.args.data).to_hex().as_str().into(),
    };
    Ruling {
        action: ask.action.clone(),
        resource: ask.resource.clone(),
        args_digest,
        verdict: decision.verdict,
        policy: decision.policy.clone(),
        policy_version: decision.policy_version,
        rule_id: decision.rule_id.clone(),
        reason: decision.reason.clone(),
        constraints: decision.constraints().map(|constraints| constraints.json()).unwrap_or_default(),
    }
}

/// The job as rules see it when they judge the action.
fn spec_of(job: &Job, ask: &PolicyAsk) -> Spec {
    let mut spec = Spec::new(format!("{TOPIC_PREFIX}{}", ask.action), ask.args.clone());
    spec.priority = job.spec.priority;
    let own = job.spec.options();
    let options = spec.options_mut();
    options.labels = own.labels.clone();
    if !ask.resource.is_empty() {
        options.labels.retain(|(key, _)| &**key != RESOURCE);
        options.labels.push((RESOURCE.into(), ask.resource.clone()));
    }
    options.placement = own.placement.clone();
    options.parent_job_id = Some(job.id.to_string().into());
    options.metadata = own.metadata.clone();
    options.metadata.capability = Some(ask.action.clone());
    for tag in &ask.risk_tags {
        if !options.metadata.risk_tags.contains(tag) {
            options.metadata.risk_tags.push(tag.clone());
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_domain::{JobId, Namespace, Payload, ShardId, Time};

    #[test]
    fn an_action_has_the_facts_of_its_job_and_its_own() {
        let mut own = Spec::new("job.agent", Payload::json("{\"secret\":1}"));
        own.priority = 7;
        let options = own.options_mut();
        options.labels = vec![("team".into(), "core".into()), ("resource".into(), "none".into())];
        options.metadata.actor_type = Some("agent".into());
        options.metadata.capability = Some("repo.read".into());
        options.metadata.risk_tags = vec!["prod".into()];
        let id = JobId::make(1, 1, ShardId(0));
        let job = Job::submitted(id, Namespace::new("default"), Arc::new(own), 1, Time(1), None);
        let ask = PolicyAsk {
            action: "repo.write".into(),
            resource: "git://core".into(),
            args: Payload::json("{\"n\":2}"),
            args_digest: "".into(),
            risk_tags: vec!["prod".into(), "write".into()],
        };
        let spec = spec_of(&job, &ask);
        assert_eq!((&*spec.topic, spec.priority, &spec.payload), ("ask.repo.write", 7, &ask.args));
        let options = spec.options();
        assert_eq!(
            options.labels,
            [("team".into(), "core".into()), ("resource".into(), "git://core".into())]
        );
        assert_eq!(options.metadata.risk_tags, ["prod".into(), "write".into()]);
        assert_eq!(options.metadata.capability.as_deref(), Some("repo.write"));
        assert_eq!(options.metadata.actor_type.as_deref(), Some("agent"));
    }
}
