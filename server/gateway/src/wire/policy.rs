//! Policies, comparisons and rules on the wire.

use super::job::{decision_on, state, verdict};
use super::time::timestamp;
use coretex_contract::v1 as pb;
use coretex_domain::Job;
use coretex_engine::{Asked, PolicyInfo};
use coretex_policy::{Considered, Report, Sample, Standing, set};

pub(crate) fn write(policy: &PolicyInfo, view: pb::View, report: Option<&Report>) -> pb::Policy {
    let is_full = view == pb::View::Full;
    pb::Policy {
        name: policy.name.to_string(),
        version: policy.version,
        in_force: policy.in_force,
        is_shadow: policy.is_shadow,
        digest: policy.digest.to_string(),
        yaml: if is_full { policy.yaml.to_string() } else { String::new() },
        description: policy.description.to_string(),
        rule_count: policy.rule_count,
        actor: policy.actor.to_string(),
        comment: policy.comment.to_string(),
        create_time: (policy.version > 0).then(|| timestamp(policy.create_time)),
        revision: policy.revision,
        shadow_report: report.filter(|_| is_full).map(comparison),
    }
}

pub(crate) fn comparison(report: &Report) -> pb::PolicyComparison {
    let pair = |((old, new), seen): (&(&'static str, &'static str), &coretex_policy::Seen)| pb::VerdictPair {
        old: named(old).into(),
        new: named(new).into(),
        count: seen.count,
        samples: seen.samples.iter().map(sample).collect(),
    };
    pb::PolicyComparison {
        judged: report.judged,
        changed: report.changed,
        other_terms: report.other_terms,
        pairs: report.verdicts.iter().map(pair).collect(),
        rules: report
            .rules
            .iter()
            .map(|(rule, seen)| pb::RuleComparison {
                rule_id: rule_name(rule),
                old_count: seen.active,
                new_count: seen.candidate,
                changed: seen.changed,
            })
            .collect(),
    }
}

fn sample(one: &Sample) -> pb::ComparedJob {
    pb::ComparedJob {
        name: one.name.to_string(),
        old: verdict(one.old).into(),
        new: verdict(one.new).into(),
        old_rule_id: rule_name(&one.old_rule),
        new_rule_id: rule_name(&one.new_rule),
        reason: one.reason.to_string(),
    }
}

/// The default has no rule; it is named like its policy.
fn rule_name(rule_id: &str) -> String {
    if rule_id.is_empty() { set::DEFAULT.to_owned() } else { rule_id.to_owned() }
}

/// A verdict by its word in bundles.
fn named(word: &str) -> pb::Verdict {
    match word {
        "allow" => pb::Verdict::Allow,
        "deny" => pb::Verdict::Deny,
        "require_approval" => pb::Verdict::RequireApproval,
        "throttle" => pb::Verdict::Throttle,
        "allow_with_constraints" => pb::Verdict::AllowWithConstraints,
        _ => pb::Verdict::Unspecified,
    }
}

pub(crate) fn considered(asked: &Asked) -> Vec<pb::ConsideredRule> {
    let write = |one: &Considered| {
        let (policy, rule_id) = set::part(&one.rule_id);
        let text = one.to_string();
        pb::ConsideredRule {
            policy: policy.to_owned(),
            rule_id: rule_id.to_owned(),
            verdict: verdict(one.verdict).into(),
            standing: standing(&one.standing).into(),
            // The text begins with the rule and its verdict, which have fields of their own.
            message: text.split_once("): ").map_or(&*text, |(_, rest)| rest).to_owned(),
        }
    };
    asked.considered.iter().map(write).collect()
}

fn standing(standing: &Standing) -> pb::RuleStanding {
    match standing {
        Standing::Decides | Standing::DecidesByFault(_) => pb::RuleStanding::Decides,
        Standing::Misses { .. } => pb::RuleStanding::NoMatch,
        Standing::ConditionFalse => pb::RuleStanding::ConditionFalse,
        Standing::ConditionFails(_) => pb::RuleStanding::ConditionFailed,
        Standing::TooLate => pb::RuleStanding::TooLate,
    }
}

/// The decision a job stands on, with what it was about.
pub(crate) fn record(job: &Job) -> pb::DecisionRecord {
    pb::DecisionRecord {
        decision: decision_on(job),
        job_id: job.id.to_string(),
        namespace: job.namespace.to_string(),
        topic: job.spec.topic.to_string(),
        state: state(job.state.kind()).into(),
        spec_hash: format!("{:032x}", job.spec.fingerprint()),
        actor: job.submitter().unwrap_or_default().to_owned(),
    }
}
