//! Equality and order of values, paid for by what is looked at.

use crate::fault::Fault;
use crate::items::Items;
use crate::purse::Meter;
use crate::value::Value;
use std::cmp::Ordering;

/// Numbers of both kinds compare by value; other kinds differ from one another.
pub(crate) fn equal<'a>(left: &Value<'a>, right: &Value<'a>, meter: &mut Meter<'_>) -> Result<bool, Fault> {
    meter.pay(1)?;
    let (left, right) = (left.clone().opened()?, right.clone().opened()?);
    if let (Some(left), Some(right)) = (left.text(), right.text()) {
        meter.pay_bytes(left.len().min(right.len()))?;
        return Ok(left == right);
    }
    match (&left, &right) {
        (Value::Null, Value::Null) => return Ok(true),
        (Value::Bool(left), Value::Bool(right)) => return Ok(left == right),
        _ => {}
    }
    if let Some(order) = order_of_numbers(&left, &right) {
        return Ok(order == Some(Ordering::Equal));
    }
    if left.is_list() && right.is_list() {
        if left.count() != right.count() {
            return Ok(false);
        }
        let mut at = 0;
        while let (Some(one), Some(other)) = (left.item(at), right.item(at)) {
            if !equal(&one, &other, meter)? {
                return Ok(false);
            }
            at += 1;
        }
        return Ok(true);
    }
    if !left.is_map() || !right.is_map() || left.count() != right.count() {
        return Ok(false);
    }
    for key in Items::of(&left).into_iter().flatten() {
        let (one, other) = (entry(&left, &key, meter)?, entry(&right, &key, meter)?);
        match (one, other) {
            (Some(one), Some(other)) if equal(&one, &other, meter)? => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Order of two values, if they have one.
pub(crate) fn order(
    left: &Value<'_>,
    right: &Value<'_>,
    meter: &mut Meter<'_>,
) -> Result<Option<Ordering>, Fault> {
    let (left, right) = (left.clone().opened()?, right.clone().opened()?);
    if let (Some(left), Some(right)) = (left.text(), right.text()) {
        meter.pay_bytes(left.len().min(right.len()))?;
        return Ok(Some(left.cmp(right)));
    }
    if let (Value::Bool(left), Value::Bool(right)) = (&left, &right) {
        return Ok(Some(left.cmp(right)));
    }
    match order_of_numbers(&left, &right) {
        Some(order) => Ok(order),
        None => Err(Fault::new(format!("{} and {} have no order", left.told(), right.told()))),
    }
}

/// None: not both are numbers. Some(None): one of them is not a number.
fn order_of_numbers(left: &Value<'_>, right: &Value<'_>) -> Option<Option<Ordering>> {
    Some(match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Double(left), Value::Double(right)) => left.partial_cmp(right),
        (Value::Int(left), Value::Double(right)) => int_to_double(*left, *right),
        (Value::Double(left), Value::Int(right)) => int_to_double(*right, *left).map(Ordering::reverse),
        _ => return None,
    })
}

/// Exact, also where a double no longer holds every whole number.
fn int_to_double(int: i64, double: f64) -> Option<Ordering> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if double.is_nan() {
        None
    } else if double >= BEYOND {
        Some(Ordering::Less)
    } else if double < -BEYOND {
        Some(Ordering::Greater)
    } else {
        // Within the range, so the whole part fits.
        let whole = double.trunc();
        Some(
            int.cmp(&(whole as i64))
                .then_with(|| 0.0.partial_cmp(&(double - whole)).unwrap_or(Ordering::Equal)),
        )
    }
}

/// What a map has under a key. A key that no map can have is simply not there.
pub(crate) fn entry<'a>(
    map: &Value<'a>,
    key: &Value<'a>,
    meter: &mut Meter<'_>,
) -> Result<Option<Value<'a>>, Fault> {
    meter.pay(1)?;
    match map {
        Value::JsonMap(map) => Ok(key.text().and_then(|key| map.get(key)).map(Value::of_json)),
        Value::Labels(labels) => {
            let Some(key) = key.text() else { return Ok(None) };
            let found = labels.iter().find(|(known, _)| **known == *key);
            Ok(found.map(|(_, value)| Value::Text(value)))
        }
        Value::Table(table) => Ok(key.text().and_then(|key| table.get(key))),
        Value::Map(entries, _) => {
            for (known, value) in entries.iter() {
                if equal(known, key, meter)? {
                    return Ok(Some(value.clone()));
                }
            }
            Ok(None)
        }
        other => Err(Fault::new(format!("{} has no fields", other.told()))),
    }
}
