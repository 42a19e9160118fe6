//! Expressions of a workflow: the names they may read, texts and values with them inside, and where they stand.

use crate::model::Place;
use coretex_cel::{Condition, Fault, Field, Inputs, Kinds, Mistake, Purse, Reads, Scope, Writes};
use serde_json::{Map, Value};

pub(crate) use coretex_cel::{Key, Read};

/// Numbers of the names.
pub(crate) mod root {
    pub(crate) const INPUT: u16 = 0;
    pub(crate) const STEPS: u16 = 1;
    pub(crate) const ITEM: u16 = 2;
    pub(crate) const INDEX: u16 = 3;
    pub(crate) const CONFIG: u16 = 4;
    pub(crate) const LABELS: u16 = 5;
    pub(crate) const EVENT: u16 = 6;
    /// Fields of the run.
    pub(crate) const RUN_ID: u16 = 10;
    pub(crate) const RUN_WORKFLOW: u16 = 11;
    pub(crate) const RUN_VERSION: u16 = 12;
    pub(crate) const RUN_START_TIME: u16 = 13;
    pub(crate) const RUN_ERROR: u16 = 14;
}

const RUN: &[Field] = &[
    Field::new("id", root::RUN_ID, Kinds::TEXT),
    Field::new("workflow", root::RUN_WORKFLOW, Kinds::TEXT),
    Field::new("version", root::RUN_VERSION, Kinds::INT),
    Field::new("start_time", root::RUN_START_TIME, Kinds::TEXT),
    Field::new("error", root::RUN_ERROR, Kinds::ANY),
];

static SCOPE: Scope = Scope {
    roots: &[
        coretex_cel::Root::value("input", root::INPUT, Kinds::ANY),
        // Which steps there are, and their fields, is checked with the workflow at hand.
        coretex_cel::Root::value("steps", root::STEPS, Kinds::MAP),
        coretex_cel::Root::value("item", root::ITEM, Kinds::ANY),
        coretex_cel::Root::value("index", root::INDEX, Kinds::INT),
        coretex_cel::Root { name: "run", reads: Reads::Fields(RUN) },
        coretex_cel::Root::value("config", root::CONFIG, Kinds::MAP),
        coretex_cel::Root::value("labels", root::LABELS, Kinds::MAP),
        coretex_cel::Root::value("event", root::EVENT, Kinds::ANY),
    ],
    null_selects: true,
};

/// What is known of a name and the path inside it.
pub(crate) type Known<'k> = &'k dyn Fn(u16, &[Key]) -> Kinds;

/// One expression: `${…}`, or a condition.
#[derive(Clone, Debug)]
pub struct Expression {
    inner: Inner,
    place: Place,
}

#[derive(Clone, Debug)]
enum Inner {
    Value(coretex_cel::Template),
    Condition(Condition),
}

/// A text in which every `${…}` is an expression.
#[derive(Clone, Debug)]
pub struct Template {
    inner: coretex_cel::Template,
    place: Place,
}

/// A value in whose texts there may be expressions.
#[derive(Clone, Debug)]
pub enum Shape {
    /// None anywhere.
    Fixed(Value),
    Template(Template),
    List(Vec<Shape>),
    Map(Vec<(String, Shape)>),
}

// === impl Expression ===

impl Expression {
    /// Reads a text that is one expression and nothing else.
    pub(crate) fn parse(text: &str, place: Place) -> Result<Expression, String> {
        let inner = coretex_cel::Template::parse(text.trim(), &SCOPE, Writes::Documents).map_err(told)?;
        if inner.expression().is_none() {
            return Err("is text with expressions in it, where one expression is wanted".into());
        }
        Ok(Expression { inner: Inner::Value(inner), place })
    }

    /// Reads an expression that gives true or false; it may stand without `${` and `}`.
    pub(crate) fn condition(text: &str, place: Place) -> Result<Expression, String> {
        let inner = Condition::parse(text, &SCOPE).map_err(told)?;
        Ok(Expression { inner: Inner::Condition(inner), place })
    }

    /// As written; a condition without `${` and `}`.
    pub fn as_str(&self) -> &str {
        match &self.inner {
            Inner::Value(value) => value.as_str(),
            Inner::Condition(condition) => condition.as_str(),
        }
    }

    /// Where its text begins.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    pub(crate) fn reads(&self) -> Vec<Read> {
        match &self.inner {
            Inner::Value(value) => value.reads(),
            Inner::Condition(condition) => condition.reads(),
        }
    }

    /// Its value. That of a condition is true or false.
    pub(crate) fn value(&self, inputs: &dyn Inputs, purse: &Purse) -> Result<Value, Fault> {
        match &self.inner {
            Inner::Value(value) => json_of(value, inputs, purse),
            Inner::Condition(condition) => condition.holds(inputs, purse).map(Value::Bool),
        }
    }

    /// The kinds it may give, or why it never has a value.
    pub(crate) fn check(&self, known: Known<'_>) -> Result<Kinds, String> {
        match &self.inner {
            Inner::Value(value) => value.check(known).map_err(told),
            Inner::Condition(condition) => condition.check(known).map(|()| Kinds::BOOL).map_err(told),
        }
    }
}

// === impl Template ===

impl Template {
    pub(crate) fn parse(text: &str, place: Place) -> Result<Template, String> {
        let inner = coretex_cel::Template::parse(text, &SCOPE, Writes::Documents).map_err(told)?;
        Ok(Template { inner, place })
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        self.inner.as_str()
    }

    /// What it says, if it says the same in every run.
    pub(crate) fn fixed(&self) -> Option<&str> {
        self.inner.constant()
    }

    /// What it says with the values of a run.
    pub(crate) fn text(&self, inputs: &dyn Inputs, purse: &Purse) -> Result<String, Fault> {
        self.inner.fill(inputs, purse)
    }

    /// Itself as an expression, if there is any in it.
    pub(crate) fn expression(&self) -> Option<Expression> {
        let inner = Inner::Value(self.inner.clone());
        self.inner.constant().is_none().then_some(Expression { inner, place: self.place })
    }
}

// === impl Shape ===

impl Shape {
    /// A list; fixed if all its items are.
    pub(crate) fn list(items: Vec<Shape>) -> Shape {
        match items.iter().all(Shape::is_fixed) {
            true => Shape::Fixed(Value::Array(items.into_iter().filter_map(|item| item.fixed()).collect())),
            false => Shape::List(items),
        }
    }

    /// A map; fixed if all its values are.
    pub(crate) fn map(entries: Vec<(String, Shape)>) -> Shape {
        if !entries.iter().all(|(_, value)| value.is_fixed()) {
            return Shape::Map(entries);
        }
        let fixed = entries.into_iter().filter_map(|(key, value)| Some((key, value.fixed()?)));
        Shape::Fixed(Value::Object(fixed.collect::<Map<_, _>>()))
    }

    fn is_fixed(&self) -> bool {
        match self {
            Shape::Fixed(_) => true,
            Shape::Template(template) => template.inner.constant().is_some(),
            Shape::List(_) | Shape::Map(_) => false,
        }
    }

    /// The value, if it is the same in every run.
    pub(crate) fn fixed(&self) -> Option<Value> {
        match self {
            Shape::Fixed(value) => Some(value.clone()),
            Shape::Template(template) => template.fixed().map(Value::from),
            Shape::List(_) | Shape::Map(_) => None,
        }
    }

    /// The entries of a map; none if it is something else, or only a run can tell.
    pub(crate) fn entries(&self) -> Option<Vec<(String, Shape)>> {
        match self {
            Shape::Map(entries) => Some(entries.clone()),
            Shape::Fixed(Value::Object(map)) => {
                Some(map.iter().map(|(key, value)| (key.clone(), Shape::Fixed(value.clone()))).collect())
            }
            Shape::Fixed(_) | Shape::Template(_) | Shape::List(_) => None,
        }
    }

    /// The value with those of a run in it.
    pub(crate) fn value(&self, inputs: &dyn Inputs, purse: &Purse) -> Result<Value, Fault> {
        Ok(match self {
            Shape::Fixed(value) => value.clone(),
            Shape::Template(template) => json_of(&template.inner, inputs, purse)?,
            Shape::List(items) => {
                Value::Array(items.iter().map(|item| item.value(inputs, purse)).collect::<Result<_, _>>()?)
            }
            Shape::Map(entries) => {
                let made = entries.iter().map(|(key, value)| Ok((key.clone(), value.value(inputs, purse)?)));
                Value::Object(made.collect::<Result<Map<_, _>, Fault>>()?)
            }
        })
    }

    /// True if only a run can tell what it is.
    pub(crate) fn is_template(&self) -> bool {
        matches!(self, Shape::Template(template) if template.inner.constant().is_none())
    }

    /// What it is, for a message.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Shape::Fixed(value) => kind_of(value),
            Shape::Template(_) => "a text",
            Shape::List(_) => "a list",
            Shape::Map(_) => "a map",
        }
    }

    /// Shows every expression in it.
    pub(crate) fn each(&self, visit: &mut dyn FnMut(&Expression)) {
        match self {
            Shape::Fixed(_) => {}
            Shape::Template(template) => template.expression().iter().for_each(visit),
            Shape::List(items) => items.iter().for_each(|item| item.each(visit)),
            Shape::Map(entries) => entries.iter().for_each(|(_, value)| value.each(visit)),
        }
    }
}

/// What a value is, for a message.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

fn json_of(template: &coretex_cel::Template, inputs: &dyn Inputs, purse: &Purse) -> Result<Value, Fault> {
    match template.expression() {
        Some(expression) => {
            let mut meter = purse.meter();
            expression.evaluate_on(inputs, &mut meter)?.opened()?.to_json(&mut meter)
        }
        None => template.fill(inputs, purse).map(Value::from),
    }
}

fn told(mistake: Mistake) -> String {
    format!("position {}: {}", mistake.at, mistake.message)
}
