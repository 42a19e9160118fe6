//! Functions and arithmetic. Whatever has no exact result is a fault, never a wrapped or rounded number.

use crate::fault::{Fault, wanted};
use crate::operator::{Function, Operator};
use crate::purse::{Meter, steps};
use crate::value::Value;

pub(crate) fn call<'a>(
    function: Function,
    args: &[Value<'a>],
    meter: &mut Meter<'_>,
) -> Result<Value<'a>, Fault> {
    let Some(first) = args.first() else { return Err(Fault::new("a function has no argument")) };
    if let (Function::Size, Value::Lazy(lazy)) = (function, first)
        && let Some(size) = lazy.size()
    {
        return Ok(Value::Int(whole(size)));
    }
    let first = first.clone().opened()?;
    match function {
        Function::Size => size(&first, meter),
        Function::Contains | Function::StartsWith | Function::EndsWith => {
            let second = match args.get(1) {
                Some(second) => second.clone().opened()?,
                None => return Err(Fault::new("a function lacks its argument")),
            };
            let text = first.text().ok_or_else(|| wanted("this function", "a text", &first))?;
            let part = second.text().ok_or_else(|| wanted("this function", "a text", &second))?;
            meter.pay_bytes(text.len())?;
            Ok(Value::Bool(match function {
                Function::StartsWith => text.starts_with(part),
                Function::EndsWith => text.ends_with(part),
                _ => text.contains(part),
            }))
        }
        Function::LowerAscii | Function::UpperAscii => {
            let text = first.text().ok_or_else(|| wanted("this function", "a text", &first))?;
            meter.pay_bytes(text.len())?;
            let made = if function == Function::LowerAscii {
                text.to_ascii_lowercase()
            } else {
                text.to_ascii_uppercase()
            };
            Ok(Value::Made(made.into()))
        }
        Function::Int => int(&first),
        Function::Double => double(&first),
        Function::String => string(first),
    }
}

fn size<'a>(of: &Value<'_>, meter: &mut Meter<'_>) -> Result<Value<'a>, Fault> {
    if let Some(text) = of.text() {
        meter.pay_bytes(text.len())?;
        return Ok(Value::Int(whole(text.chars().count())));
    }
    of.count()
        .map(|count| Value::Int(whole(count)))
        .ok_or_else(|| wanted("`size`", "a text, a list or a map", of))
}

fn int<'a>(of: &Value<'_>) -> Result<Value<'a>, Fault> {
    match of {
        Value::Int(value) => Ok(Value::Int(*value)),
        // 2^63 itself is one too many.
        Value::Double(value)
            if *value >= -9_223_372_036_854_775_808.0 && *value < 9_223_372_036_854_775_808.0 =>
        {
            Ok(Value::Int(*value as i64))
        }
        other => {
            let text = other.text().ok_or_else(|| wanted("`int`", "a number or a text", other))?;
            text.parse().map(Value::Int).map_err(|_| Fault::new("the text is no whole number of 64 bits"))
        }
    }
}

fn double<'a>(of: &Value<'_>) -> Result<Value<'a>, Fault> {
    match of {
        Value::Int(value) => Ok(Value::Double(*value as f64)),
        Value::Double(value) => Ok(Value::Double(*value)),
        other => {
            let text = other.text().ok_or_else(|| wanted("`double`", "a number or a text", other))?;
            text.parse().map(Value::Double).map_err(|_| Fault::new("the text is no number"))
        }
    }
}

fn string(of: Value<'_>) -> Result<Value<'_>, Fault> {
    Ok(match of {
        Value::Bool(value) => Value::Made(value.to_string().into()),
        Value::Int(value) => Value::Made(value.to_string().into()),
        Value::Double(value) => Value::Made(value.to_string().into()),
        Value::Text(_) | Value::Made(_) => of,
        other => return Err(wanted("`string`", "a text, a number, true or false", &other)),
    })
}

pub(crate) fn negate(of: Value<'_>) -> Result<Value<'_>, Fault> {
    match of {
        Value::Int(value) => {
            value.checked_neg().map(Value::Int).ok_or_else(|| Fault::new("the number is too large"))
        }
        Value::Double(value) => Ok(Value::Double(-value)),
        other => Err(wanted("`-`", "a number", &other)),
    }
}

pub(crate) fn arithmetic<'a>(
    operator: Operator,
    left: &Value<'a>,
    right: &Value<'a>,
    meter: &mut Meter<'_>,
) -> Result<Value<'a>, Fault> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => whole_numbers(operator, *left, *right),
        (Value::Double(left), Value::Double(right)) => doubles(operator, *left, *right),
        _ if operator == Operator::Add => add(left, right, meter),
        _ => Err(mixed(left, right)),
    }
}

fn mixed(left: &Value<'_>, right: &Value<'_>) -> Fault {
    Fault::new(format!(
        "{} and {} do not go together here; `int`, `double` and `string` convert",
        left.told(),
        right.told()
    ))
}

fn whole_numbers<'a>(operator: Operator, left: i64, right: i64) -> Result<Value<'a>, Fault> {
    let divides = matches!(operator, Operator::Divide | Operator::Remainder);
    if divides && right == 0 {
        return Err(Fault::new("a number is divided by zero"));
    }
    let result = match operator {
        Operator::Add => left.checked_add(right),
        Operator::Subtract => left.checked_sub(right),
        Operator::Multiply => left.checked_mul(right),
        Operator::Divide => left.checked_div(right),
        Operator::Remainder => left.checked_rem(right),
        _ => return Err(Fault::new("this is no arithmetic")),
    };
    result.map(Value::Int).ok_or_else(|| Fault::new("the result is outside of the whole numbers of 64 bits"))
}

fn doubles<'a>(operator: Operator, left: f64, right: f64) -> Result<Value<'a>, Fault> {
    Ok(Value::Double(match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        Operator::Divide => left / right,
        _ => return Err(Fault::new("`%` wants whole numbers")),
    }))
}

/// Texts and lists put together, paid for by their length: doubling over and over ends at the purse.
fn add<'a>(left: &Value<'a>, right: &Value<'a>, meter: &mut Meter<'_>) -> Result<Value<'a>, Fault> {
    if let (Some(one), Some(other)) = (left.text(), right.text()) {
        meter.pay_bytes(one.len() + other.len())?;
        return Ok(Value::Made(format!("{one}{other}").into()));
    }
    if !left.is_list() || !right.is_list() {
        return Err(mixed(left, right));
    }
    let count = |list: &Value<'_>| list.count().unwrap_or(0);
    meter.pay(steps(count(left) + count(right)))?;
    let items = |list: &Value<'a>| (0..count(list)).filter_map(|at| list.item(at)).collect::<Vec<_>>();
    let mut all = items(left);
    all.extend(items(right));
    Value::list(all)
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
