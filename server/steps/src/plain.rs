//! `log` and `emit`: an event of the server's log with the facts of the job.

use crate::given::Given;
use crate::{Facts, StepFailure};
use coretex_domain::redact::{REDACTED, is_telling_name};
use serde_json::{Map, Value};

const MESSAGE_MAX: usize = 8 << 10;
const NAME_MAX: usize = 128;
const FIELDS_MAX: usize = 64;
/// Characters of all fields together; a log line is for people.
const FIELDS_SHOWN: usize = 8 << 10;
const LEVELS: &[&str] = &["info", "debug", "warn", "error"];

/// Says something in the log. Gives nothing.
pub(crate) fn log(input: Value, facts: &Facts) -> Result<Value, StepFailure> {
    let mut given = Given::read("log", input, &["message", "level", "fields"])?;
    let message = given.needed_text("message", MESSAGE_MAX);
    let level = given.word("level", LEVELS);
    let fields = given.map("fields", FIELDS_MAX);
    given.finish()?;
    let (message, fields) = (line(&message), fields_of(fields));
    let Facts { namespace, job_id, attempt, .. } = facts;
    match level {
        "debug" => {
            tracing::debug!(target: "coretex::step", %namespace, %job_id, attempt, %fields, "{message}")
        }
        "warn" => tracing::warn!(target: "coretex::step", %namespace, %job_id, attempt, %fields, "{message}"),
        "error" => {
            tracing::error!(target: "coretex::step", %namespace, %job_id, attempt, %fields, "{message}")
        }
        _ => tracing::info!(target: "coretex::step", %namespace, %job_id, attempt, %fields, "{message}"),
    }
    Ok(Value::Null)
}

/// Notes that something happened: the event is the job itself, its name and data are in its record. Gives nothing.
pub(crate) fn emit(input: Value, facts: &Facts) -> Result<Value, StepFailure> {
    let mut given = Given::read("emit", input, &["name", "data"])?;
    let name = given.needed_text("name", NAME_MAX);
    let is_named = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:".contains(c));
    if !is_named && !name.is_empty() {
        given.fault("name", "must match [A-Za-z0-9][A-Za-z0-9._/:-]{0,127}");
    } else if name.is_empty() {
        given.fault("name", "must not be empty");
    }
    given.any("data");
    given.finish()?;
    let Facts { namespace, job_id, attempt, .. } = facts;
    tracing::info!(target: "coretex::step", %namespace, %job_id, attempt, event = %name, "event");
    Ok(Value::Null)
}

/// In one line, whatever was given: nobody writes lines of the log that are not there.
fn line(text: &str) -> String {
    let plain = |c: char| match c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(plain).collect()
}

/// As JSON, without what stands under names that tell that it is secret, cut where it is long.
fn fields_of(fields: Map<String, Value>) -> String {
    if fields.is_empty() {
        return String::new();
    }
    let text = line(&Value::Object(fields.into_iter().map(hidden).collect()).to_string());
    match text.char_indices().nth(FIELDS_SHOWN) {
        Some((cut, _)) => format!("{}…", text.get(..cut).unwrap_or_default()),
        None => text,
    }
}

fn hidden((name, value): (String, Value)) -> (String, Value) {
    if is_telling_name(&name) {
        return (name, REDACTED.into());
    }
    let value = match value {
        Value::Object(map) => Value::Object(map.into_iter().map(hidden).collect()),
        Value::Array(items) => {
            let inside = |item| match item {
                Value::Object(map) => Value::Object(map.into_iter().map(hidden).collect()),
                other => other,
            };
            Value::Array(items.into_iter().map(inside).collect())
        }
        other => other,
    };
    (name, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_of_the_log_is_one_line_and_tells_no_secrets() {
        assert_eq!(line("a\nb\u{1b}[31m\u{2028}ü"), "a\\nb\\u{1b}[31m\\u{2028}ü");
        let fields =
            json!({ "n": 1, "password": "hunter2", "deep": [{ "api_key": "k" }], "in": { "token": "t" } });
        let Value::Object(fields) = fields else { unreachable!() };
        let shown = fields_of(fields);
        for value in ["hunter2", "\"k\"", "\"t\""] {
            assert!(!shown.contains(value), "{shown}");
        }
        assert!(shown.contains("\"n\":1"), "{shown}");
        let long = Map::from_iter([("x".to_owned(), Value::from("é".repeat(100_000)))]);
        assert_eq!(fields_of(long).chars().count(), FIELDS_SHOWN + 1);
    }
}
