//! Expressions in a bundle: the condition of a rule, and texts with expressions in them.

use crate::cel::{Expression, Inputs, Value};
use serde::{Serialize, Serializer};
use std::sync::Arc;

/// A condition in CEL, compiled once.
#[derive(Clone, Debug)]
pub struct Condition {
    text: Arc<str>,
    expression: Arc<Expression>,
}

/// A text in which `${…}` is replaced by the value of the expression.
#[derive(Clone, Debug)]
pub struct Template {
    text: Arc<str>,
    parts: Arc<[Part]>,
}

#[derive(Debug)]
enum Part {
    Text(Arc<str>),
    Expression(Expression),
}

/// What is wrong with an expression, and at which byte of the text it stands in.
pub(crate) type Wrong = (usize, String);

// === impl Condition ===

impl Condition {
    /// Reads `${expression}`, or the expression by itself.
    pub(crate) fn parse(text: &str) -> Result<Condition, Wrong> {
        let trimmed = text.trim();
        let inner = match trimmed.strip_prefix("${") {
            Some(rest) => {
                rest.strip_suffix('}').ok_or((text.len(), "the `${` is not closed at the end".to_owned()))?
            }
            None => trimmed,
        };
        let before = inner.as_ptr() as usize - text.as_ptr() as usize;
        let expression =
            Expression::parse(inner).map_err(|mistake| (before + mistake.at, mistake.message))?;
        if let Some(kind) = expression.kind().filter(|kind| *kind != "true or false") {
            return Err((before, format!("a condition gives true or false; this gives {kind}")));
        }
        Ok(Condition { text: inner.trim().into(), expression: Arc::new(expression) })
    }

    /// The expression as written, without `${` and `}`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it holds; an error where it has no value.
    pub(crate) fn holds(&self, inputs: &Inputs<'_>) -> Result<bool, String> {
        match self.expression.evaluate(inputs).0 {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it gives {}, not true or false", other.kind())),
            Err(fault) => Err(fault.to_string()),
        }
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Condition) -> bool {
        self.text == other.text
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("${{{}}}", self.text))
    }
}

// === impl Template ===

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Template, Wrong> {
        let (mut parts, mut at) = (Vec::new(), 0);
        while let Some(start) = text[at..].find("${").map(|start| at + start) {
            if start > at {
                parts.push(Part::Text(text[at..start].into()));
            }
            let inner = start + 2;
            let end = inner + closing(&text[inner..]).ok_or((start, "this `${` is not closed".to_owned()))?;
            let expression = Expression::parse(&text[inner..end])
                .map_err(|mistake| (inner + mistake.at, mistake.message))?;
            if let Some(kind @ ("a list" | "a map" | "null")) = expression.kind() {
                return Err((inner, format!("a key is made of texts and numbers; this gives {kind}")));
            }
            parts.push(Part::Expression(expression));
            at = end + 1;
        }
        if at < text.len() {
            parts.push(Part::Text(text[at..].into()));
        }
        Ok(Template { text: text.into(), parts: parts.into() })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn fill(&self, inputs: &Inputs<'_>) -> Result<String, String> {
        let mut out = String::new();
        for part in self.parts.iter() {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Expression(expression) => {
                    match expression.evaluate(inputs).0.map_err(|fault| fault.to_string())? {
                        Value::Bool(value) => out.push_str(&value.to_string()),
                        Value::Int(value) => out.push_str(&value.to_string()),
                        Value::Double(value) => out.push_str(&value.to_string()),
                        other => match other.text() {
                            Some(text) => out.push_str(text),
                            None => return Err(format!("it gives {}, not a text or a number", other.kind())),
                        },
                    }
                }
            }
        }
        Ok(out)
    }
}

/// Where the brace is that closes an expression: not within a text, nor one that closes a map.
fn closing(text: &str) -> Option<usize> {
    let (mut open, mut quote, mut is_escaped) = (0u32, None, false);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(mark), c) if c == mark => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{') => open += 1,
            (None, '}') if open == 0 => return Some(at),
            (None, '}') => open -= 1,
            (None, _) => {}
        }
    }
    None
}

impl PartialEq for Template {
    fn eq(&self, other: &Template) -> bool {
        self.text == other.text
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
