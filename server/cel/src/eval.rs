//! Evaluation: a pure walk over the tree that pays for every step and stops when the purse is empty.

use crate::call::{arithmetic, call, negate};
use crate::compare::{entry, equal, order};
use crate::expression::Expression;
use crate::fault::{Fault, wanted};
use crate::inputs::Inputs;
use crate::node::{Form, Node};
use crate::operator::Operator;
use crate::purse::{Meter, steps};
use crate::value::Value;

pub(crate) struct Walk<'a, 'm, 'p> {
    inputs: &'a dyn Inputs,
    /// Variables of macros, outermost first.
    pub(crate) names: Vec<Value<'a>>,
    meter: &'m mut Meter<'p>,
    null_selects: bool,
}

pub(crate) fn evaluate<'a>(
    expression: &'a Expression,
    inputs: &'a dyn Inputs,
    meter: &mut Meter<'_>,
) -> Result<Value<'a>, Fault> {
    let names = Vec::with_capacity(expression.names_max);
    let null_selects = expression.scope.null_selects;
    Walk { inputs, names, meter, null_selects }.value(&expression.root)
}

impl<'a> Walk<'a, '_, '_> {
    pub(crate) fn value(&mut self, node: &'a Node) -> Result<Value<'a>, Fault> {
        self.meter.pay(1)?;
        match &node.form {
            Form::Null => Ok(Value::Null),
            Form::Bool(value) => Ok(Value::Bool(*value)),
            Form::Int(value) => Ok(Value::Int(*value)),
            Form::Double(value) => Ok(Value::Double(*value)),
            Form::Text(text) => Ok(Value::Text(text)),
            Form::Root(source) => self.inputs.read(source.number),
            Form::Name(number) => {
                self.names.get(*number).cloned().ok_or_else(|| Fault::new("a variable is out of force"))
            }
            Form::List(items) => {
                let items: Result<Vec<_>, _> = items.iter().map(|item| self.value(item)).collect();
                Value::list(items?)
            }
            Form::Map(entries) => self.map(entries),
            Form::Select(of, field) => self.select(of, field),
            Form::Has(of, field) => {
                let of = self.value(of)?.opened()?;
                let is_there = !self.passes(&of) && entry(&of, &Value::Text(field), self.meter)?.is_some();
                Ok(Value::Bool(is_there))
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
                call(*function, &args?, self.meter)
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

    pub(crate) fn claim(&mut self, node: &'a Node) -> Result<bool, Fault> {
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
                Err(fault) if fault.is_limit() => return Err(fault),
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
                if equal(known, &key, self.meter)? {
                    return Err(Fault::new("a map has a key twice"));
                }
            }
            made.push((key, self.value(value)?));
        }
        Value::map(made)
    }

    /// True for a null whose fields and items are null too.
    fn passes(&self, of: &Value<'_>) -> bool {
        self.null_selects && matches!(of, Value::Null)
    }

    fn select(&mut self, of: &'a Node, field: &'a str) -> Result<Value<'a>, Fault> {
        let of = self.value(of)?.opened()?;
        if self.passes(&of) {
            return Ok(Value::Null);
        }
        let found = entry(&of, &Value::Text(field), self.meter)?;
        found.ok_or_else(|| Fault::new(format!("there is no field `{}`", field.get(..64).unwrap_or(field))))
    }

    fn index(&mut self, of: &'a Node, key: &'a Node) -> Result<Value<'a>, Fault> {
        let (of, key) = (self.value(of)?.opened()?, self.value(key)?.opened()?);
        if self.passes(&of) {
            return Ok(Value::Null);
        }
        if let Some(count) = of.count().filter(|_| of.is_list()) {
            let Value::Int(at) = key else {
                return Err(wanted("the index of a list", "a whole number", &key));
            };
            let found = usize::try_from(at).ok().and_then(|at| of.item(at));
            return found.ok_or_else(|| Fault::new(format!("there is no item {at} in a list of {count}")));
        }
        entry(&of, &key, self.meter)?.ok_or_else(|| Fault::new("the map has no such key"))
    }

    fn binary(&mut self, operator: Operator, left: &'a Node, right: &'a Node) -> Result<Value<'a>, Fault> {
        let (left, right) = (self.value(left)?, self.value(right)?);
        let meter = &mut *self.meter;
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
}

/// `x in y`
fn contains<'a>(item: &Value<'a>, of: &Value<'a>, meter: &mut Meter<'_>) -> Result<bool, Fault> {
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
