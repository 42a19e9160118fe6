//! Sentences about the language. Names and values here are those of a job, as policies read it.

mod bounds;
mod checks;
mod guide;
mod hostile;
mod language;
mod nulls;
mod reads;
mod templates;

use crate::{Expression, Fault, Field, Inputs, Kinds, Mistake, Payload, Purse, Root, Scope, Value};
use serde_json::Value as Json;
use std::sync::Arc;

pub(super) const EACH: u32 = 10_000;
pub(super) const ALL: u32 = 100_000;

static SCOPE: Scope = Scope {
    roots: &[
        Root::fields(
            "job",
            &[
                Field::new("topic", 0, Kinds::TEXT),
                Field::new("risk_tags", 1, Kinds::LIST),
                Field::new("labels", 2, Kinds::MAP),
                Field::new("payload", 3, Kinds::ANY),
                Field::new("size", 4, Kinds::INT),
            ],
        ),
        Root::value("config", 5, Kinds::MAP),
    ],
    null_selects: false,
};

#[derive(Clone, Copy, Default)]
pub(super) struct Job<'a> {
    pub(super) topic: &'a str,
    pub(super) risk_tags: &'a [Arc<str>],
    pub(super) labels: &'a [(Arc<str>, Arc<str>)],
    pub(super) payload: &'a [u8],
    pub(super) content_type: &'a str,
    pub(super) config: Option<&'a Json>,
}

pub(super) struct World<'a> {
    job: Job<'a>,
    payload: Payload<'a>,
}

impl<'a> World<'a> {
    pub(super) fn new(job: Job<'a>) -> World<'a> {
        World { job, payload: Payload::new(job.payload, job.content_type, 64 << 10).sized_in_bytes() }
    }
}

impl Inputs for World<'_> {
    fn read(&self, number: u16) -> Result<Value<'_>, Fault> {
        Ok(match number {
            0 => Value::Text(self.job.topic),
            1 => Value::Texts(self.job.risk_tags),
            2 => Value::Labels(self.job.labels),
            3 => Value::Lazy(&self.payload),
            4 => Value::Int(self.job.payload.len() as i64),
            _ => {
                self.job.config.map_or_else(|| Value::map(Vec::new()), |config| Ok(Value::of_json(config)))?
            }
        })
    }
}

pub(super) fn purse() -> Purse {
    Purse::new(EACH, ALL, "the expressions of this test")
}

pub(super) fn parse(text: &str) -> Result<Expression, Mistake> {
    Expression::parse(text, &SCOPE)
}

pub(super) fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Double(value) => format!("{value:?}"),
        other => other.text().map_or_else(|| other.told().into(), |text| format!("{text:?}")),
    }
}

pub(super) fn evaluate(text: &str, job: &Job<'_>) -> Result<String, String> {
    let expression = parse(text).map_err(|mistake| format!("{}: {}", mistake.at, mistake.message))?;
    // Neither may end, whatever the text.
    let (_, _) = (expression.reads(), expression.check(&|_, _| Kinds::ANY));
    let world = World::new(*job);
    expression.evaluate(&world, &purse()).map(|value| shown(&value)).map_err(|fault| fault.to_string())
}

pub(super) fn with_job<T>(judge: impl FnOnce(&Job<'_>) -> T) -> T {
    let labels: [(Arc<str>, Arc<str>); 2] = [("env".into(), "prod".into()), ("a.b".into(), "c".into())];
    let tags: [Arc<str>; 2] = ["prod".into(), "write".into()];
    let config = serde_json::json!({"model": "small", "limits": {"tokens": 5}});
    let payload = br#"{"items": [1, 2.5, "x", null], "user": {"name": "Ann", "admin": false}, "n": 3}"#;
    judge(&Job {
        topic: "job.mail",
        risk_tags: &tags,
        labels: &labels,
        payload,
        content_type: "application/json",
        config: Some(&config),
    })
}
