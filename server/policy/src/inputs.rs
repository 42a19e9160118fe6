//! What the expressions of a bundle read: the job as `job.…`, and `config`.

use crate::facts::Facts;
use crate::limits::{EXPRESSION_COST_MAX, JUDGEMENT_COST_MAX, PAYLOAD_READ_MAX};
use coretex_cel::{Fault, Field, Kinds, Payload, Purse, Root, Scope, Value};
use serde_json::Value as Json;

const TOPIC: u16 = 0;
const NAMESPACE: u16 = 1;
const ACTOR: u16 = 2;
const ACTOR_TYPE: u16 = 3;
const CAPABILITIES: u16 = 4;
const RISK_TAGS: u16 = 5;
const REQUIRES: u16 = 6;
const LABELS: u16 = 7;
const PACK: u16 = 8;
const PRIORITY: u16 = 9;
const PAYLOAD: u16 = 10;
const SIZE: u16 = 11;
const CONTENT_TYPE: u16 = 12;
const CONFIG: u16 = 13;

/// The names of a bundle's expressions.
pub(crate) static SCOPE: Scope = Scope {
    roots: &[
        Root::fields(
            "job",
            &[
                Field::new("topic", TOPIC, Kinds::TEXT),
                Field::new("namespace", NAMESPACE, Kinds::TEXT),
                Field::new("tenant", NAMESPACE, Kinds::TEXT),
                Field::new("actor", ACTOR, Kinds::TEXT),
                Field::new("actor_type", ACTOR_TYPE, Kinds::TEXT),
                Field::new("capabilities", CAPABILITIES, Kinds::LIST),
                Field::new("risk_tags", RISK_TAGS, Kinds::LIST),
                Field::new("requires", REQUIRES, Kinds::LIST),
                Field::new("labels", LABELS, Kinds::MAP),
                Field::new("pack", PACK, Kinds::TEXT),
                Field::new("priority", PRIORITY, Kinds::INT),
                // A payload may be just `true`.
                Field::new("payload", PAYLOAD, Kinds::ANY),
                Field::new("size", SIZE, Kinds::INT),
                Field::new("content_type", CONTENT_TYPE, Kinds::TEXT),
            ],
        ),
        Root::value("config", CONFIG, Kinds::MAP),
    ],
    null_selects: false,
};

/// The facts of one judgement, and what its expressions may cost.
#[derive(Debug)]
pub(crate) struct Inputs<'f> {
    facts: Facts<'f>,
    payload: Payload<'f>,
    pub(crate) purse: Purse,
}

impl<'f> Inputs<'f> {
    pub(crate) fn new(facts: Facts<'f>) -> Inputs<'f> {
        let payload = Payload::new(facts.payload, facts.content_type, PAYLOAD_READ_MAX).sized_in_bytes();
        let purse = Purse::new(EXPRESSION_COST_MAX, JUDGEMENT_COST_MAX, "the conditions of this judgement");
        Inputs { facts, payload, purse }
    }
}

impl coretex_cel::Inputs for Inputs<'_> {
    fn read(&self, number: u16) -> Result<Value<'_>, Fault> {
        let facts = &self.facts;
        Ok(match number {
            TOPIC => Value::Text(facts.topic),
            NAMESPACE => Value::Text(facts.namespace),
            ACTOR => Value::Text(facts.actor),
            ACTOR_TYPE => Value::Text(facts.actor_type),
            CAPABILITIES => Value::Texts(facts.capabilities),
            RISK_TAGS => Value::Texts(facts.risk_tags),
            REQUIRES => Value::Texts(facts.requires),
            LABELS => Value::Labels(facts.labels),
            PACK => Value::Text(facts.pack),
            PRIORITY => Value::Int(facts.priority.into()),
            PAYLOAD => Value::Lazy(&self.payload),
            SIZE => Value::Int(i64::try_from(facts.payload.len()).unwrap_or(i64::MAX)),
            CONTENT_TYPE => Value::Text(facts.content_type),
            CONFIG => match facts.config {
                None => Value::map(Vec::new())?,
                Some(map @ Json::Object(_)) => Value::of_json(map),
                Some(_) => return Err(Fault::new("the configuration is not a map")),
            },
            other => return Err(Fault::new(format!("there is no value number {other}"))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_cel::Expression;
    use std::sync::Arc;

    fn holds(text: &str, facts: &Facts<'_>) -> Result<bool, String> {
        let condition = crate::Condition::parse(text).map_err(|(at, message)| format!("{at}: {message}"))?;
        condition.holds(&Inputs::new(*facts))
    }

    #[test]
    fn every_name_reads_its_fact() {
        let list = |name: &str| [Arc::<str>::from(name)];
        let (capabilities, risk_tags, requires) = (list("cap"), list("tag"), list("gpu"));
        let labels: [(Arc<str>, Arc<str>); 1] = [("env".into(), "prod".into())];
        let config = serde_json::json!({ "model": "small" });
        let facts = Facts {
            namespace: "acme",
            topic: "job.mail",
            actor: "ann",
            actor_type: "human",
            capabilities: &capabilities,
            risk_tags: &risk_tags,
            requires: &requires,
            labels: &labels,
            pack: "review",
            priority: 4,
            payload: b"{\"n\": 3}",
            content_type: "application/json; charset=utf-8",
            config: Some(&config),
        };
        for text in [
            "job.topic == 'job.mail' && job.namespace == 'acme' && job.tenant == 'acme'",
            "job.actor == 'ann' && job.actor_type == 'human' && job.pack == 'review'",
            "job.capabilities == ['cap'] && job.risk_tags == ['tag'] && job.requires == ['gpu']",
            "job.labels == {'env': 'prod'} && job.priority == 4",
            "job.payload.n == 3 && size(job.payload) == 8 && job.size == 8",
            "job.content_type.startsWith('application/json') && config.model == 'small'",
            "has(job.topic) && has(job.payload.n) && !has(config.limit)",
        ] {
            assert_eq!(holds(text, &facts), Ok(true), "{text}");
        }
        let count = SCOPE.roots.iter().flat_map(|root| match root.reads {
            coretex_cel::Reads::Value { number, .. } => vec![number],
            coretex_cel::Reads::Fields(fields) => fields.iter().map(|field| field.number).collect(),
        });
        let inputs = Inputs::new(facts);
        for number in count {
            assert!(coretex_cel::Inputs::read(&inputs, number).is_ok(), "number {number} has a value");
        }
        assert_eq!(holds("config == {}", &Facts::default()), Ok(true));
    }

    #[test]
    fn a_wrong_name_is_refused_with_the_nearest_one() {
        let told = |text: &str| holds(text, &Facts::default()).expect_err(text);
        assert_eq!(
            told("jop.topic"),
            "0: there is no `jop`; the names are `job` and `config`; did you mean `job`?"
        );
        assert!(told("job.lables.x == 'y'").ends_with("did you mean `labels`?"));
        assert!(told("job == 1").contains("`job` is read by its fields: `topic`, `namespace`, `tenant`"));
    }

    #[test]
    fn a_judgement_costs_at_most_its_purse() {
        let payload = format!("[{}]", vec!["1"; 20_000].join(","));
        let facts =
            Facts { payload: payload.as_bytes(), content_type: "application/json", ..Facts::default() };
        let expression = Expression::parse("job.payload.all(x, x == 1)", &SCOPE).unwrap();
        let inputs = Inputs::new(facts);
        let told: Vec<String> =
            (0..100).map(|_| expression.evaluate(&inputs, &inputs.purse).unwrap_err().to_string()).collect();
        assert_eq!(told[0], "it costs more than 10000 steps");
        assert_eq!(told[99], "the conditions of this judgement cost more than 100000 steps together");
        // A condition that looks at null is not lenient here: a rule never guesses.
        let null = Facts { payload: b"null", content_type: "application/json", ..Facts::default() };
        assert_eq!(holds("job.payload.a == null", &null), Err("null has no fields".into()));
    }

    /// A payload that is just `true` is a condition like any other.
    #[test]
    fn a_payload_may_be_the_condition() {
        let facts = |payload| Facts { payload, content_type: "application/json", ..Facts::default() };
        assert_eq!(holds("job.payload", &facts(b"true")), Ok(true));
        assert_eq!(holds("job.payload", &facts(b"false")), Ok(false));
        assert_eq!(
            holds("job.payload", &facts(b"1")),
            Err("it gives a whole number, not true or false".into())
        );
    }
}
