//! Evaluation: a pure walk over the tree that pays for every step and stops when the purse is empty.

use super::call::{arithmetic, call, negate};
use super::compare::{entry, equal, order};
use super::node::{Fold, FoldKind, Form, JobField, Node, Operator};
use super::value::Value;
use crate::facts::Facts;
use crate::limits::{EXPRESSION_COST_MAX, JUDGEMENT_COST_MAX, PAYLOAD_READ_MAX};
use serde_json::Value as Json;
use std::cell::{Cell, OnceCell};
use std::fmt;

/// What an expression reads. The payload is parsed once, and only if an expression looks inside.
#[derive(Debug)]
pub(crate) struct Inputs<'f> {
    facts: Facts<'f>,
    parsed: OnceCell<Result<Json, Fault>>,
    /// Steps taken by all expressions that read these.
    spent: Cell<u32>,
}

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    message: Box<str>,
    /// It cost too much: nothing absorbs that.
    is_limit: bool,
}

/// The purse of one evaluation.
pub(super) struct Meter {
    spent: u32,
    most: u32,
}

struct Walk<'a> {
    inputs: &'a Inputs<'a>,
    names: Vec<Value<'a>>,
    meter: Meter,
}

/// The value, and the steps it took.
pub(super) fn evaluate<'a>(
    root: &'a Node,
    names_max: usize,
    inputs: &'a Inputs<'a>,
) -> (Result<Value<'a>, Fault>, u32) {
    let most = EXPRESSION_COST_MAX.min(JUDGEMENT_COST_MAX.saturating_sub(inputs.spent.get()));
    let mut walk = Walk { inputs, names: Vec::with_capacity(names_max), meter: Meter { spent: 0, most } };
    let value = walk.value(root);
    inputs.spent.set(inputs.spent.get().saturating_add(walk.meter.spent));
    (value, walk.meter.spent)
}

// === impl Walk ===

impl<'a> Walk<'a> {
    fn value(&mut self, node: &'a Node) -> Result<Value<'a>, Fault> {
        self.meter.pay(1)?;
        match &node.form {
            Form::Null => Ok(Value::Null),
            Form::Bool(value) => Ok(Value::Bool(*value)),
            Form::Int(value) => Ok(Value::Int(*value)),
            Form::Double(value) => Ok(Value::Double(*value)),
            Form::Text(text) => Ok(Value::Text(text)),
            Form::Job(field) => Ok(self.inputs.field(*field)),
            Form::Config => self.inputs.config(),
            Form::Name(number) => {
                self.names.get(*number).cloned().ok_or_else(|| Fault::new("a variable is out of force"))
            }
            Form::List(items) => {
                let items: Result<Vec<_>, _> = items.iter().map(|item| self.value(item)).collect();
                Ok(Value::List(items?.into()))
            }
            Form::Map(entries) => self.map(entries),
            Form::Select(of, field) => self.select(of, field),
            Form::Has(of, field) => {
                let of = self.value(of)?.opened()?;
                Ok(Value::Bool(entry(&of, &Value::Text(field), &mut self.meter)?.is_some()))
            }
            Form::Index(of, key) => self.index(of, key),
            Form::Not(of) => Ok(Value::Bool(!self.claim(of)?)),
            Form::Negate(of) => negate(self.value(of)?.opened()?),
            Form::Binary(operator, left, right) => self.binary(*operator, left, right),
            Form::And(sides) => self.sides(sides, false),
            Form::Or(sides) => self.sides(sides, true),
            Form::If(parts) => {
                let chosen = if self.claim(&parts[0])? { &parts[1] } else { &parts[2] };
                self.value(chosen)
            }
            Form::Call(function, args) => {
                let args: Result<Vec<_>, _> = args.iter().map(|arg| self.value(arg)).collect();
                call(*function, &args?, &mut self.meter)
            }
            Form::Matches(of, regex) => {
                let of = self.value(of)?.opened()?;
                let text = of.text().ok_or_else(|| wanted("`matches`", "a text", &of))?;
                // Linear in the text; a step of it is dearer than a comparison.
                self.meter.pay(steps(text.len() / 8))?;
                Ok(Value::Bool(regex.is_match(text)))
            }
            Form::Fold(fold) => self.fold(fold),
        }
    }

    fn claim(&mut self, node: &'a Node) -> Result<bool, Fault> {
        match self.value(node)?.opened()? {
            Value::Bool(value) => Ok(value),
            other => Err(wanted("a condition", "true or false", &other)),
        }
    }

    /// `||` is decided by any true side and `&&` by any false one, whatever fails beside it.
    fn sides(&mut self, sides: &'a [Node], decides: bool) -> Result<Value<'a>, Fault> {
        let mut failed = None;
        for side in sides {
            match self.claim(side) {
                Ok(value) if value == decides => return Ok(Value::Bool(decides)),
                Ok(_) => {}
                Err(fault) if fault.is_limit => return Err(fault),
                Err(fault) => failed = failed.or(Some(fault)),
            }
        }
        match failed {
            Some(fault) => Err(fault),
            None => Ok(Value::Bool(!decides)),
        }
    }

    fn map(&mut self, entries: &'a [(Node, Node)]) -> Result<Value<'a>, Fault> {
        let mut made: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let key = self.value(key)?.opened()?;
            if key.text().is_none() && !matches!(key, Value::Bool(_) | Value::Int(_)) {
                return Err(wanted("the key of a map", "a text, a whole number, true or false", &key));
            }
            for (known, _) in &made {
                if equal(known, &key, &mut self.meter)? {
                    return Err(Fault::new("a map has a key twice"));
                }
            }
            made.push((key, self.value(value)?));
        }
        Ok(Value::Map(made.into()))
    }

    fn select(&mut self, of: &'a Node, field: &'a str) -> Result<Value<'a>, Fault> {
        let of = self.value(of)?.opened()?;
        let found = entry(&of, &Value::Text(field), &mut self.meter)?;
        found.ok_or_else(|| Fault::new(format!("there is no field `{}`", field.get(..64).unwrap_or(field))))
    }

    fn index(&mut self, of: &'a Node, key: &'a Node) -> Result<Value<'a>, Fault> {
        let (of, key) = (self.value(of)?.opened()?, self.value(key)?.opened()?);
        if let Some(count) = of.count().filter(|_| of.is_list()) {
            let Value::Int(at) = key else {
                return Err(wanted("the index of a list", "a whole number", &key));
            };
            let found = usize::try_from(at).ok().and_then(|at| of.item(at));
            return found.ok_or_else(|| Fault::new(format!("there is no item {at} in a list of {count}")));
        }
        entry(&of, &key, &mut self.meter)?.ok_or_else(|| Fault::new("the map has no such key"))
    }

    fn binary(&mut self, operator: Operator, left: &'a Node, right: &'a Node) -> Result<Value<'a>, Fault> {
        let (left, right) = (self.value(left)?, self.value(right)?);
        let meter = &mut self.meter;
        Ok(Value::Bool(match operator {
            Operator::Equal => equal(&left, &right, meter)?,
            Operator::Differ => !equal(&left, &right, meter)?,
            Operator::Less => order(&left, &right, meter)?.is_some_and(|order| order.is_lt()),
            Operator::LessOrEqual => order(&left, &right, meter)?.is_some_and(|order| order.is_le()),
            Operator::Greater => order(&left, &right, meter)?.is_some_and(|order| order.is_gt()),
            Operator::GreaterOrEqual => order(&left, &right, meter)?.is_some_and(|order| order.is_ge()),
            Operator::In => contains(&left, &right.opened()?, meter)?,
            Operator::Add
            | Operator::Subtract
            | Operator::Multiply
            | Operator::Divide
            | Operator::Remainder => {
                return arithmetic(operator, &left.opened()?, &right.opened()?, meter);
            }
        }))
    }

    fn fold(&mut self, fold: &'a Fold) -> Result<Value<'a>, Fault> {
        let over = self.value(&fold.over)?.opened()?;
        let keys = over.keys();
        let Some(count) = over.count() else { return Err(wanted("a macro", "a list or a map", &over)) };
        // Names of an outer branch that ended in an error may be left over.
        self.names.truncate(fold.name);
        let (mut kept, mut met, mut failed) = (Vec::new(), 0, None);
        for at in 0..count {
            let item = keys.as_ref().map_or_else(|| over.item(at), |keys| keys.get(at).cloned());
            let Some(item) = item else { break };
            self.names.truncate(fold.name);
            self.names.push(item.clone());
            let holds = match &fold.claim {
                None => Ok(true),
                Some(claim) => self.claim(claim),
            };
            match (fold.kind, holds) {
                (FoldKind::All, Ok(false)) => return Ok(Value::Bool(false)),
                (FoldKind::Exists, Ok(true)) => return Ok(Value::Bool(true)),
                (FoldKind::All | FoldKind::Exists, Err(fault)) if !fault.is_limit => {
                    failed = failed.or(Some(fault))
                }
                (_, Err(fault)) => return Err(fault),
                (FoldKind::Map, Ok(true)) => {
                    self.names.truncate(fold.name + 1);
                    if let Some(made) = &fold.made {
                        kept.push(self.value(made)?);
                    }
                }
                (FoldKind::Filter, Ok(true)) => kept.push(item),
                (FoldKind::ExistsOne, Ok(true)) => met += 1,
                (_, Ok(_)) => {}
            }
        }
        if let Some(fault) = failed {
            return Err(fault);
        }
        Ok(match fold.kind {
            FoldKind::All => Value::Bool(true),
            FoldKind::Exists => Value::Bool(false),
            FoldKind::ExistsOne => Value::Bool(met == 1),
            FoldKind::Filter | FoldKind::Map => Value::List(kept.into()),
        })
    }
}

/// `x in y`
fn contains<'a>(item: &Value<'a>, of: &Value<'a>, meter: &mut Meter) -> Result<bool, Fault> {
    if !of.is_list() {
        return Ok(entry(of, &item.clone().opened()?, meter)?.is_some());
    }
    let mut at = 0;
    while let Some(known) = of.item(at) {
        if equal(&known, item, meter)? {
            return Ok(true);
        }
        at += 1;
    }
    Ok(false)
}

pub(super) fn wanted(who: &str, what: &str, got: &Value<'_>) -> Fault {
    Fault::new(format!("{who} wants {what}, not {}", got.kind()))
}

pub(super) fn steps(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

// === impl Inputs ===

impl<'f> Inputs<'f> {
    pub(crate) fn new(facts: Facts<'f>) -> Inputs<'f> {
        Inputs { facts, parsed: OnceCell::new(), spent: Cell::new(0) }
    }

    fn field<'a>(&'a self, field: JobField) -> Value<'a> {
        let facts = &self.facts;
        match field {
            JobField::Topic => Value::Text(facts.topic),
            JobField::Namespace => Value::Text(facts.namespace),
            JobField::Actor => Value::Text(facts.actor),
            JobField::ActorType => Value::Text(facts.actor_type),
            JobField::Capabilities => Value::Texts(facts.capabilities),
            JobField::RiskTags => Value::Texts(facts.risk_tags),
            JobField::Requires => Value::Texts(facts.requires),
            JobField::Labels => Value::Labels(facts.labels),
            JobField::Pack => Value::Text(facts.pack),
            JobField::Priority => Value::Int(facts.priority.into()),
            JobField::Payload => Value::Payload(self),
            JobField::Size => Value::Int(i64::try_from(facts.payload.len()).unwrap_or(i64::MAX)),
            JobField::ContentType => Value::Text(facts.content_type),
        }
    }

    fn config<'a>(&'a self) -> Result<Value<'a>, Fault> {
        match self.facts.config {
            None => Ok(Value::Map([].into())),
            Some(map @ Json::Object(_)) => Ok(Value::of_json(map)),
            Some(_) => Err(Fault::new("the configuration is not a map")),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.facts.payload.len()
    }

    /// What is inside the payload.
    pub(super) fn payload(&self) -> Result<&Json, Fault> {
        let parsed = self.parsed.get_or_init(|| {
            let bytes = self.facts.payload;
            if !self.facts.is_json() {
                return Err(Fault::new("the payload is not declared as JSON"));
            }
            if bytes.len() > PAYLOAD_READ_MAX {
                return Err(Fault::new(format!(
                    "the payload has {} bytes, at most {PAYLOAD_READ_MAX} can be looked into",
                    bytes.len()
                )));
            }
            serde_json::from_slice(bytes)
                .map_err(|error| Fault::new(format!("the payload is not JSON: {error}")))
        });
        parsed.as_ref().map_err(Fault::clone)
    }
}

// === impl Fault ===

impl Fault {
    pub(super) fn new(message: impl Into<Box<str>>) -> Fault {
        Fault { message: message.into(), is_limit: false }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

// === impl Meter ===

impl Meter {
    pub(super) fn pay(&mut self, steps: u32) -> Result<(), Fault> {
        self.spent = self.spent.saturating_add(steps);
        if self.spent <= self.most {
            return Ok(());
        }
        let message = match self.most {
            EXPRESSION_COST_MAX => format!("it costs more than {EXPRESSION_COST_MAX} steps"),
            _ => {
                format!("the conditions of this judgement cost more than {JUDGEMENT_COST_MAX} steps together")
            }
        };
        Err(Fault { message: message.into(), is_limit: true })
    }

    /// Texts cost by their length.
    pub(super) fn pay_bytes(&mut self, bytes: usize) -> Result<(), Fault> {
        self.pay(steps(bytes / 64))
    }
}
