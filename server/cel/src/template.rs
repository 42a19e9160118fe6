//! Texts with `${…}` in them.

use crate::expression::{Expression, Mistake};
use crate::fault::Fault;
use crate::inputs::Inputs;
use crate::kind::Kinds;
use crate::limits::{TEMPLATE_BYTES_MAX, TEMPLATE_EXPRESSIONS_MAX};
use crate::parse::embedded;
use crate::purse::{Meter, Purse};
use crate::reads::{Key, Read};
use crate::scope::Scope;
use crate::value::Value;
use serde::{Serialize, Serializer};
use std::sync::Arc;

/// A text in which `${…}` is replaced by the value of the expression. What the value says is never read again: a `${`
/// in it is just text.
#[derive(Clone, Debug)]
pub struct Template {
    text: Arc<str>,
    writes: Writes,
    parts: Arc<[Part]>,
}

/// How a template is written, and what may stand in its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// A key: texts, numbers, true and false. Every `${` begins an expression.
    Keys,
    /// Text of a document: lists, maps and null are written as JSON, and `$${` is a `${` that begins nothing.
    Documents,
}

#[derive(Debug)]
enum Part {
    Text(Arc<str>),
    /// And its first byte in the text.
    Expression(usize, Expression),
}

impl Template {
    /// Reads a text in whose expressions the names of a scope may be used.
    pub fn parse(text: &str, scope: &'static Scope, writes: Writes) -> Result<Template, Mistake> {
        if text.len() > TEMPLATE_BYTES_MAX {
            let message = format!("the text has {} bytes, at most {TEMPLATE_BYTES_MAX}", text.len());
            return Err(Mistake { at: 0, message });
        }
        let (mut parts, mut plain, mut at, mut count) = (Vec::new(), String::new(), 0, 0);
        while let Some(start) = text[at..].find("${").map(|start| at + start) {
            let is_escaped = writes == Writes::Documents && text[at..start].ends_with('$');
            // The second dollar of an escape is left out, the first one and the brace stay.
            plain.push_str(if is_escaped { &text[at..start - 1] } else { &text[at..start] });
            at = start + 2;
            if is_escaped {
                plain.push_str("${");
                continue;
            }
            if count == TEMPLATE_EXPRESSIONS_MAX {
                let message = format!("the text has more than {TEMPLATE_EXPRESSIONS_MAX} expressions");
                return Err(Mistake { at: start, message });
            }
            count += 1;
            let read = embedded(&text[at..], scope).map_err(|mistake| mistake.after(at))?;
            let (expression, length) =
                read.ok_or(Mistake { at: start, message: "this `${` is not closed".into() })?;
            if let Some(told) = writes.refuses(&expression) {
                let message = format!("a key is made of texts and numbers; this gives {told}");
                return Err(Mistake { at, message });
            }
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(Part::Expression(at, expression));
            at += length + 1;
        }
        plain.push_str(&text[at..]);
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Ok(Template { text: text.into(), writes, parts: parts.into() })
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The expression that is all there is: its value keeps its kind.
    pub fn expression(&self) -> Option<&Expression> {
        match &*self.parts {
            [Part::Expression(_, expression)] => Some(expression),
            _ => None,
        }
    }

    /// What it says, if it says the same whatever is read.
    pub fn constant(&self) -> Option<&str> {
        match &*self.parts {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Every name its expressions read, with their places in the text.
    pub fn reads(&self) -> Vec<Read> {
        let reads = |(before, expression): (usize, &Expression)| {
            expression.reads().into_iter().map(move |read| Read { at: before + read.at, ..read })
        };
        self.expressions().flat_map(reads).collect()
    }

    /// The kinds its value may have, or why it can never have one; as [`Expression::check`].
    pub fn check(&self, known: &dyn Fn(u16, &[Key]) -> Kinds) -> Result<Kinds, Mistake> {
        let mut kinds = Kinds::TEXT;
        for (before, expression) in self.expressions() {
            kinds = expression.check(known).map_err(|mistake| mistake.after(before))?;
        }
        Ok(if self.expression().is_some() { kinds } else { Kinds::TEXT })
    }

    /// Its value: that of its only expression, otherwise a text.
    pub fn value<'a>(&'a self, inputs: &'a dyn Inputs, purse: &Purse) -> Result<Value<'a>, Fault> {
        match (self.constant(), self.expression()) {
            (Some(text), _) => Ok(Value::Text(text)),
            (None, Some(expression)) => expression.evaluate(inputs, purse)?.opened(),
            (None, None) => Ok(Value::Made(self.fill(inputs, purse)?.into())),
        }
    }

    /// Its value as a text, whatever it is. Every expression is an evaluation of its own, which also pays for what is
    /// written of it.
    pub fn fill(&self, inputs: &dyn Inputs, purse: &Purse) -> Result<String, Fault> {
        let mut out = String::new();
        for part in self.parts.iter() {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Expression(_, expression) => {
                    let mut meter = purse.meter();
                    let value = expression.evaluate_on(inputs, &mut meter)?.opened()?;
                    self.writes.write(&value, &mut out, &mut meter)?;
                }
            }
        }
        Ok(out)
    }

    fn expressions(&self) -> impl Iterator<Item = (usize, &Expression)> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Expression(at, expression) => Some((*at, expression)),
        })
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Template) -> bool {
        self.text == other.text && self.writes == other.writes
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

// === impl Writes ===

impl Writes {
    /// What an expression surely gives, if that cannot be written.
    fn refuses(self, expression: &Expression) -> Option<&'static str> {
        let is_written = expression.kinds().meets(Kinds::NUMBER.or(Kinds::TEXT).or(Kinds::BOOL));
        if self == Writes::Documents || is_written { None } else { expression.kinds().told() }
    }

    fn write(self, value: &Value<'_>, out: &mut String, meter: &mut Meter<'_>) -> Result<(), Fault> {
        if let Some(text) = value.text() {
            meter.pay_bytes(text.len())?;
            out.push_str(text);
            return Ok(());
        }
        match value {
            Value::Bool(value) => out.push_str(&value.to_string()),
            Value::Int(value) => out.push_str(&value.to_string()),
            Value::Double(value) => out.push_str(&value.to_string()),
            other if self == Writes::Documents => out.push_str(&other.to_json(meter)?.to_string()),
            other => return Err(Fault::new(format!("it gives {}, not a text or a number", other.told()))),
        }
        Ok(())
    }
}
