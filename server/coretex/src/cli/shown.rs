//! What goes to standard output: documents for programs, tables for people.

use crate::outcome::{Failure, Outcome};
use coretex_sdk::raw::FILE_DESCRIPTOR_SET;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Map, Value};
use std::io::{IsTerminal, Write};
use std::sync::LazyLock;

/// How results are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: the message of the contract as a document.
    Json,
    /// The same document as YAML.
    Yaml,
}

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("invariant: the committed descriptors are complete")
});

/// Writes to standard output. A reader that went away ends the program quietly, as it would a filter.
pub(super) fn out(text: &str) -> Outcome {
    write_all(text.as_bytes())
}

/// Writes a line to standard output.
pub(super) fn line(text: impl AsRef<str>) -> Outcome {
    out(&format!("{}\n", text.as_ref()))
}

/// Writes bytes to standard output.
pub(super) fn write_all(bytes: &[u8]) -> Outcome {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Said(crate::outcome::OK))
        }
        Err(error) => Err(Failure::machine("cannot write to standard output", error)),
    }
}

/// Writes a line to standard error. Nobody can be told when that fails.
pub(super) fn note(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.as_ref());
}

/// True when a person reads along.
pub(super) fn is_terminal() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// What a message of the contract is made of.
pub(super) fn descriptor(name: &str) -> MessageDescriptor {
    let full = format!("coretex.v1.{name}");
    POOL.get_message_by_name(&full).expect("invariant: the message is part of the contract")
}

/// A message of the contract as a document: names as in the proto, 64-bit numbers as numbers.
/// At the top everything is there, below only what is set.
pub(super) fn document<M: Message>(name: &str, message: &M) -> Value {
    let message = DynamicMessage::decode(descriptor(name), message.encode_to_vec().as_slice())
        .expect("invariant: a message of the contract fits its own descriptor");
    let options = SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    let write = |options: &SerializeOptions| {
        let written = message.serialize_with_options(serde_json::value::Serializer, options);
        match written.expect("invariant: a message can be written as JSON") {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    };
    let (mut fields, all) = (write(&options), write(&options.clone().skip_default_fields(false)));
    for (name, value) in all {
        fields.entry(name).or_insert(value);
    }
    let mut document = Value::Object(fields);
    shorten(&mut document);
    document
}

/// Writes whole numbers without a fraction: the contract's free-form numbers are doubles, `1` comes back as `1.0`.
fn shorten(value: &mut Value) {
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) => {
            if let Some(double) = number.as_f64().filter(|double| number.is_f64() && double.fract() == 0.0)
                && double.abs() <= WHOLE_MAX
            {
                #[expect(clippy::cast_possible_truncation, reason = "whole, and within the exact range")]
                let whole = double as i64;
                *value = whole.into();
            }
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// Prints a document. `is_last` is false in streams, where JSON is one line each and YAML one document each.
pub(super) fn print_document(format: Format, document: &Value, is_last: bool) -> Outcome {
    match (format, is_last) {
        (Format::Yaml, true) => out(&yaml(document)?),
        (Format::Yaml, false) => out(&format!("---\n{}", yaml(document)?)),
        (Format::Table | Format::Json, true) => line(format!("{document:#}")),
        (Format::Table | Format::Json, false) => line(document.to_string()),
    }
}

/// A document as YAML.
pub(super) fn yaml(document: &Value) -> Outcome<String> {
    let text =
        serde_saphyr::to_string(document).map_err(|error| Failure::machine("cannot write YAML", error))?;
    Ok(if text.ends_with('\n') { text } else { format!("{text}\n") })
}

/// Text that came from elsewhere, safe to show on a terminal: control characters are made visible.
pub(super) fn clean(text: &str) -> String {
    let is_plain = |c: char| c == '\n' || c == '\t' || !c.is_control();
    if text.chars().all(is_plain) {
        return text.to_owned();
    }
    text.chars().flat_map(|c| if is_plain(c) { vec![c] } else { c.escape_default().collect() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_sdk::raw::v1;

    #[test]
    fn documents_have_their_lists_even_when_empty() {
        let empty = document("ListJobsResponse", &v1::ListJobsResponse::default());
        assert_eq!(empty, serde_json::json!({"jobs": [], "next_page_token": ""}));
        let count = document("CountJobsResponse", &v1::CountJobsResponse { count: 3, exact: false });
        assert_eq!(count, serde_json::json!({"count": 3, "exact": false}));
    }

    #[test]
    fn states_are_shown_by_name() {
        let job = v1::Job { job_id: "a".into(), state: v1::JobState::Succeeded.into(), ..Default::default() };
        let shown = document("GetJobResponse", &v1::GetJobResponse { job: Some(job) });
        assert_eq!(shown["job"]["state"], "JOB_STATE_SUCCEEDED");
        assert!(yaml(&shown).expect("yaml").contains("state: JOB_STATE_SUCCEEDED"));
    }

    #[test]
    fn whole_numbers_have_no_fraction() {
        let mut value = serde_json::json!({"a": [1.0, 1.5, -2.0, 3], "b": 1e300});
        shorten(&mut value);
        assert_eq!(value.to_string(), r#"{"a":[1,1.5,-2,3],"b":1e+300}"#);
    }

    #[test]
    fn escape_sequences_do_not_reach_a_terminal() {
        assert_eq!(clean("a\x1b[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(clean("plain\ttext\n"), "plain\ttext\n");
    }
}
