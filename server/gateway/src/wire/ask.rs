//! Questions of workers from the wire, and their answers to it.

mod spawn;

use super::spec::SpecReader;
use super::time::duration;
use super::{Faults, json, payload};
use coretex_contract::v1::{self as pb, answer, ask};
use coretex_domain::limits::{
    ASK_ARGS_MAX, ASK_RESOURCE_LEN_MAX, ASK_SECRETS_MAX, ASK_VERDICT_TTL, MODEL_NAME_LEN_MAX, RISK_TAGS_MAX,
};
use coretex_domain::names::shown;
use coretex_domain::{Reason, Refusal};
use coretex_engine::api::{AskOfWorker, AskQuestion, Dimension, Grant, PolicyAsk, Ruling, Told};
use coretex_secrets::Secret;
use std::sync::Arc;

const ACTION_LEN_MAX: usize = 64;
const DIGEST_LEN_MAX: usize = 128;

/// The feature a question belongs to; none if there is no question.
pub(crate) fn feature(given: &pb::Ask) -> Option<&'static str> {
    match given.question.as_ref()? {
        ask::Question::Policy(_) => Some("ask.policy"),
        ask::Question::Budget(_) => Some("ask.budget"),
        ask::Question::Secret(_) => Some("ask.secret"),
        ask::Question::Spawn(_) => Some("ask.spawn"),
    }
}

/// Reads a question. All that is wrong with it is said at once.
pub(crate) fn read(given: pb::Ask, reader: &mut SpecReader) -> Result<AskOfWorker, Refusal> {
    let mut faults = Faults::default();
    if given.ask_id == 0 {
        faults.add("ask.ask_id", "must be at least 1, got 0");
    }
    let question = match given.question {
        None => return Err(Refusal::field("ask.question", "required")),
        Some(ask::Question::Policy(ask)) => AskQuestion::Policy(Box::new(policy(&mut faults, ask))),
        Some(ask::Question::Budget(ask)) => budget(&mut faults, &ask),
        Some(ask::Question::Secret(ask)) => secret(&mut faults, &ask.names),
        Some(ask::Question::Spawn(ask)) => {
            AskQuestion::Spawn(Box::new(spawn::read(&mut faults, ask, given.ask_id, reader)))
        }
    };
    faults.into_result()?;
    Ok(AskOfWorker::new(given.lease_id, given.ask_id, question))
}

fn policy(faults: &mut Faults, ask: pb::PolicyAsk) -> PolicyAsk {
    check_action(faults, &ask.action);
    faults.text("ask.policy.resource", &ask.resource, ASK_RESOURCE_LEN_MAX);
    if ask.resource.chars().any(char::is_control) {
        faults.add("ask.policy.resource", format!("must be printable, got {}", shown(&ask.resource)));
    }
    let args = payload::read(faults, "ask.policy.args", ask.args, ASK_ARGS_MAX, usize::MAX);
    let is_digest = |c: char| c.is_ascii_alphanumeric() || "-_:".contains(c);
    if ask.args_digest.len() > DIGEST_LEN_MAX || !ask.args_digest.chars().all(is_digest) {
        let rule = format!(
            "must be at most {DIGEST_LEN_MAX} letters, digits, `:`, `-` and `_`, got {}",
            shown(&ask.args_digest)
        );
        faults.add("ask.policy.args_digest", rule);
    }
    if !ask.args_digest.is_empty() && !args.data.is_empty() {
        faults.add("ask.policy.args_digest", "must be left out with `args`: the server makes it");
    }
    PolicyAsk {
        action: ask.action.into(),
        resource: ask.resource.into(),
        args,
        args_digest: ask.args_digest.into(),
        risk_tags: faults.names("ask.policy.risk_tags", &ask.risk_tags, RISK_TAGS_MAX),
    }
}

fn check_action(faults: &mut Faults, action: &str) {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_fine = action.chars().next().is_some_and(plain)
        && action.len() <= ACTION_LEN_MAX
        && action.chars().all(|c| plain(c) || "._-".contains(c));
    if !is_fine {
        let rule = format!("must be [a-z0-9][a-z0-9._-]{{0,63}}, got {}", shown(action));
        faults.add("ask.policy.action", rule);
    }
}

fn budget(faults: &mut Faults, ask: &pb::BudgetAsk) -> AskQuestion {
    let dimension = match ask.dimension() {
        pb::BudgetDimension::Tokens => Dimension::Tokens,
        pb::BudgetDimension::CostMicros => Dimension::CostMicros,
        pb::BudgetDimension::Unspecified => {
            faults
                .add("ask.budget.dimension", format!("must be TOKENS or COST_MICROS, got {}", ask.dimension));
            Dimension::Tokens
        }
    };
    if ask.amount == 0 {
        faults.add("ask.budget.amount", "must be at least 1, got 0");
    }
    faults.text("ask.budget.model", &ask.model, MODEL_NAME_LEN_MAX);
    AskQuestion::Budget { dimension, amount: ask.amount, model: ask.model.as_str().into() }
}

fn secret(faults: &mut Faults, names: &[String]) -> AskQuestion {
    let count = names.len();
    if !(1..=ASK_SECRETS_MAX).contains(&count) {
        faults.add("ask.secret.names", format!("must have 1 to {ASK_SECRETS_MAX} items, got {count}"));
        return AskQuestion::Secret { names: Vec::new() };
    }
    for (n, name) in names.iter().enumerate() {
        let field = format!("ask.secret.names[{n}]");
        match coretex_secrets::check_name(name) {
            Err(message) => faults.add(field, message),
            Ok(()) if names.iter().take(n).any(|other| other == name) => {
                faults.add(field, format!("{} is named twice", shown(name)));
            }
            Ok(()) => {}
        }
    }
    AskQuestion::Secret { names: names.iter().map(|name| name.as_str().into()).collect() }
}

/// Values of secrets on their way to the worker.
pub(crate) fn write_secrets(lease_id: u64, ask_id: u64, values: Vec<(Arc<str>, Secret)>) -> pb::Answer {
    let one = |(name, value): (Arc<str>, Secret)| pb::SecretValue {
        name: name.to_string(),
        value: value.expose().to_owned(),
    };
    let values = values.into_iter().map(one).collect();
    pb::Answer { ask_id, lease_id, answer: Some(answer::Answer::Secrets(pb::Secrets { values })) }
}

/// What was asked, on its way to the worker.
pub(crate) fn write(
    lease_id: u64,
    ask_id: u64,
    decision_id: &Arc<str>,
    told: Result<Told, Refusal>,
) -> pb::Answer {
    let answer = match told {
        Ok(Told::Ruling(ruling)) => answer::Answer::Policy(verdict(&ruling, decision_id)),
        Ok(Told::Grant(grant)) => answer::Answer::Budget(granted(&grant)),
        // Their values come in a frame of their own.
        Ok(Told::Secrets(_)) => answer::Answer::Secrets(pb::Secrets::default()),
        Ok(Told::Spawned(spawned)) => answer::Answer::Spawned(spawn::write(&spawned)),
        Err(refusal) => answer::Answer::Error(error(refusal)),
    };
    pb::Answer { ask_id, lease_id, answer: Some(answer) }
}

fn verdict(ruling: &Ruling, decision_id: &Arc<str>) -> pb::PolicyVerdict {
    let constraints = (!ruling.constraints.is_empty())
        .then(|| json::object_of(serde_json::Value::Object(ruling.constraints.clone())));
    pb::PolicyVerdict {
        verdict: super::job::verdict(ruling.verdict).into(),
        decision_id: decision_id.to_string(),
        policy: ruling.policy.to_string(),
        policy_version: ruling.policy_version.to_string(),
        rule_id: ruling.rule_id.to_string(),
        reason: ruling.reason.to_string(),
        constraints: constraints.flatten(),
        ttl: Some(duration(ASK_VERDICT_TTL)),
    }
}

fn granted(grant: &Grant) -> pb::BudgetGrant {
    let verdict = match (grant.remaining, grant.granted >= grant.asked) {
        (None, _) => pb::BudgetVerdict::Unlimited,
        (Some(_), true) => pb::BudgetVerdict::Granted,
        (Some(_), false) => pb::BudgetVerdict::Exceeded,
    };
    pb::BudgetGrant { granted: grant.granted, remaining: grant.remaining, verdict: verdict.into() }
}

/// Refusals that name fields say so in words: this error has no place for them.
pub(crate) fn error(refusal: Refusal) -> pb::AskError {
    let code =
        pb::ErrorReason::from_short_name(refusal.reason.name()).unwrap_or(pb::ErrorReason::ServerFault);
    let message = match refusal.reason {
        Reason::ServerFault => "a defect of the server; it is logged there".to_owned(),
        _ => refusal.message,
    };
    pb::AskError { code: code.into(), message, retry_after: refusal.retry_after.map(duration) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_domain::Time;

    fn refused(question: ask::Question, field: &str) {
        let mut reader = SpecReader::new(Time(1), 1 << 20, None);
        let asked = pb::Ask { ask_id: 1, lease_id: 1, question: Some(question) };
        let refusal = read(asked, &mut reader).expect_err(field);
        assert!(refusal.violations.iter().any(|v| v.field == field), "{field}: {refusal}");
    }

    #[test]
    fn nonsense_is_refused_by_field() {
        let policy = |change: fn(&mut pb::PolicyAsk)| {
            let mut ask = pb::PolicyAsk { action: "repo.write".into(), ..Default::default() };
            change(&mut ask);
            ask::Question::Policy(ask)
        };
        for action in ["", "Repo", ".a", "a b", &"a".repeat(65)] {
            let ask = pb::PolicyAsk { action: action.into(), ..Default::default() };
            refused(ask::Question::Policy(ask), "ask.policy.action");
        }
        refused(policy(|ask| ask.resource = "x".repeat(257)), "ask.policy.resource");
        refused(policy(|ask| ask.resource = "a\nb".into()), "ask.policy.resource");
        refused(policy(|ask| ask.args_digest = "a b".into()), "ask.policy.args_digest");
        refused(
            policy(|ask| {
                ask.args_digest = "ab".into();
                ask.args = Some(pb::Payload::data("text/plain", &b"x"[..]));
            }),
            "ask.policy.args_digest",
        );
        refused(
            policy(|ask| ask.args = Some(pb::Payload::data("", vec![0; ASK_ARGS_MAX + 1]))),
            "ask.policy.args",
        );
        refused(policy(|ask| ask.risk_tags = vec!["x".into(); 33]), "ask.policy.risk_tags");
        let budget = |dimension, amount| pb::BudgetAsk { dimension, amount, ..Default::default() };
        refused(ask::Question::Budget(budget(0, 1)), "ask.budget.dimension");
        refused(ask::Question::Budget(budget(9, 1)), "ask.budget.dimension");
        refused(ask::Question::Budget(budget(1, 0)), "ask.budget.amount");
        let secret = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            ask::Question::Secret(pb::SecretAsk { names })
        };
        refused(secret(&[]), "ask.secret.names");
        refused(secret(&["A"; ASK_SECRETS_MAX + 1]), "ask.secret.names");
        refused(secret(&["A", "a/b"]), "ask.secret.names[1]");
        refused(secret(&["A", "B", "A"]), "ask.secret.names[2]");
        let without = pb::Ask { ask_id: 0, lease_id: 1, question: None };
        let mut reader = SpecReader::new(Time(1), 1 << 20, None);
        assert!(read(without, &mut reader).is_err());
        let fine = pb::Ask { ask_id: 1, lease_id: 1, question: Some(policy(|_| ())) };
        assert!(read(fine, &mut reader).is_ok());
    }
}
