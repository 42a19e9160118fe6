//! Values as JSON, so that they can be kept. Paid for by their size: what is shared in a value is written out.

use crate::fault::{Fault, wanted};
use crate::inputs::Table;
use crate::purse::Meter;
use crate::value::Value;
use serde_json::{Map, Number, Value as Json};

impl Value<'_> {
    /// The value as JSON. A double must be a number, and the keys of a map texts.
    pub fn to_json(&self, meter: &mut Meter<'_>) -> Result<Json, Fault> {
        meter.pay(1)?;
        Ok(match self {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Int(value) => Json::Number((*value).into()),
            Value::Double(value) => Json::Number(number(*value)?),
            Value::Text(text) => owned(text, meter)?,
            Value::Made(text) => owned(text, meter)?,
            Value::JsonList(items) => {
                items.iter().try_for_each(|item| pay_for(item, meter))?;
                Json::Array(items.to_vec())
            }
            Value::JsonMap(map) => {
                pay_for_map(map, meter)?;
                Json::Object((*map).clone())
            }
            Value::Texts(texts) => {
                Json::Array(texts.iter().map(|text| owned(text, meter)).collect::<Result<_, _>>()?)
            }
            Value::Labels(labels) => {
                let mut made = Map::new();
                for (key, value) in labels.iter() {
                    made.insert(key_of(key, meter)?, owned(value, meter)?);
                }
                Json::Object(made)
            }
            Value::Table(table) => Json::Object(entries(*table, meter)?),
            Value::Lazy(lazy) => match lazy.open()? {
                Value::Lazy(_) => return Err(Fault::new(format!("{} does not open", lazy.told()))),
                opened => opened.to_json(meter)?,
            },
            Value::List(items, _) => {
                Json::Array(items.iter().map(|item| item.to_json(meter)).collect::<Result<_, _>>()?)
            }
            Value::Map(entries, _) => {
                let mut made = Map::new();
                for (key, value) in entries.iter() {
                    let text = key.text().ok_or_else(|| wanted("the key of a map in JSON", "a text", key))?;
                    made.insert(key_of(text, meter)?, value.to_json(meter)?);
                }
                Json::Object(made)
            }
        })
    }
}

fn number(value: f64) -> Result<Number, Fault> {
    Number::from_f64(value).ok_or_else(|| Fault::new(format!("{value} cannot be written as JSON")))
}

fn owned(text: &str, meter: &mut Meter<'_>) -> Result<Json, Fault> {
    meter.pay_bytes(text.len())?;
    Ok(Json::String(text.to_owned()))
}

fn key_of(key: &str, meter: &mut Meter<'_>) -> Result<String, Fault> {
    meter.pay(1)?;
    meter.pay_bytes(key.len())?;
    Ok(key.to_owned())
}

fn entries(table: &dyn Table, meter: &mut Meter<'_>) -> Result<Map<String, Json>, Fault> {
    let mut made = Map::new();
    for key in (0..table.count()).map_while(|at| table.key(at)) {
        if let Some(value) = table.get(key) {
            made.insert(key_of(key, meter)?, value.to_json(meter)?);
        }
    }
    Ok(made)
}

fn pay_for(json: &Json, meter: &mut Meter<'_>) -> Result<(), Fault> {
    meter.pay(1)?;
    match json {
        Json::Null | Json::Bool(_) | Json::Number(_) => Ok(()),
        Json::String(text) => meter.pay_bytes(text.len()),
        Json::Array(items) => items.iter().try_for_each(|item| pay_for(item, meter)),
        Json::Object(map) => pay_for_map(map, meter),
    }
}

fn pay_for_map(map: &Map<String, Json>, meter: &mut Meter<'_>) -> Result<(), Fault> {
    map.iter().try_for_each(|(key, value)| {
        meter.pay_bytes(key.len())?;
        pay_for(value, meter)
    })
}
