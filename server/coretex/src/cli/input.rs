//! Input from the command line: payloads, labels, times.

use crate::outcome::{Failure, Outcome};
use coretex_contract::{Duration as PbDuration, Timestamp, v1};
use std::io::Read;
use std::time::Duration;

/// Above what any server accepts in one request; read no further.
const DATA_MAX: u64 = 64 << 20;

/// `JSON`, `@FILE` or `-` (standard input) as a payload. Without a content type it must be JSON, and is sent as it is written.
pub(super) fn payload(data: &str, content_type: Option<&str>) -> Outcome<v1::Payload> {
    let bytes = match data.strip_prefix('@') {
        Some(path) => file(path)?,
        None if data == "-" => file(data)?,
        None => data.as_bytes().to_vec(),
    };
    if let Some(content_type) = content_type {
        return Ok(v1::Payload::data(content_type, bytes));
    }
    match serde_json::from_slice::<serde::de::IgnoredAny>(&bytes) {
        Ok(_) => Ok(v1::Payload::data(coretex_sdk::JSON, bytes)),
        Err(error) => Err(Failure::Usage(format!(
            "--data is not JSON: {error}\n  text is written '\"text\"'; bytes of another kind are sent with --content-type, for example --content-type text/plain"
        ))),
    }
}

/// `JSON`, `@FILE` or `-` where nothing but JSON is taken; `option` is what it was given as.
pub(super) fn json(option: &str, data: &str) -> Outcome<v1::Payload> {
    let payload = payload(data, Some(coretex_sdk::JSON))?;
    let Some(v1::payload::Body::Data(bytes)) = &payload.body else { return Ok(payload) };
    match serde_json::from_slice::<serde::de::IgnoredAny>(bytes) {
        Ok(_) => Ok(payload),
        Err(error) => Err(Failure::Usage(format!("{option} is not JSON: {error}"))),
    }
}

/// The content of a file; `-` is standard input.
pub(super) fn file(path: &str) -> Outcome<Vec<u8>> {
    if path == "-" {
        return read("standard input", std::io::stdin().lock());
    }
    let file =
        std::fs::File::open(path).map_err(|error| Failure::machine(format!("cannot read {path}"), error))?;
    read(path, file)
}

fn read(what: &str, source: impl Read) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    let count = source.take(DATA_MAX + 1).read_to_end(&mut bytes);
    count.map_err(|error| Failure::machine(format!("cannot read {what}"), error))?;
    if bytes.len() as u64 > DATA_MAX {
        return Err(Failure::Machine(format!(
            "{what} has more than {} MiB; no server accepts that",
            DATA_MAX >> 20
        )));
    }
    Ok(bytes)
}

/// `KEY=VALUE`, for clap.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

/// A time with a zone, for clap.
pub(super) fn time(text: &str) -> Result<jiff::Timestamp, String> {
    text.parse().map_err(|_| {
        format!("`{text}` is not a time; write RFC 3339 with a zone, for example 2027-01-31T09:00:00Z or 2027-01-31T09:00:00+01:00")
    })
}

/// A span as the contract has it.
pub(super) fn span(value: Duration) -> PbDuration {
    PbDuration {
        seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or_default(),
    }
}

/// A time as the contract has it.
pub(super) fn stamp(value: jiff::Timestamp) -> Timestamp {
    let (mut seconds, mut nanos) = (value.as_second(), value.subsec_nanosecond());
    if nanos < 0 {
        (seconds, nanos) = (seconds - 1, nanos + 1_000_000_000);
    }
    Timestamp { seconds, nanos }
}

/// A span of the contract as the standard library has it.
pub(super) fn of_span(value: PbDuration) -> Duration {
    Duration::new(
        u64::try_from(value.seconds).unwrap_or_default(),
        u32::try_from(value.nanos).unwrap_or_default(),
    )
}

/// A time of the contract as the standard library has it.
pub(super) fn of_stamp(value: Timestamp) -> Option<std::time::SystemTime> {
    let stamp = jiff::Timestamp::new(value.seconds, value.nanos).ok()?;
    Some(stamp.into())
}

/// A filter that holds when all parts do.
pub(super) fn all_of(parts: impl IntoIterator<Item = String>) -> String {
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.trim().is_empty()).collect();
    match parts.as_slice() {
        [one] => one.clone(),
        many => many.iter().map(|part| format!("({part})")).collect::<Vec<_>>().join(" AND "),
    }
}

/// A filter that compares a field with a value.
pub(super) fn equals(field: &str, value: &str) -> String {
    format!("{field} = {}", serde_json::Value::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_json_unless_said_otherwise() {
        let sent = payload(r#"{"a": 1}"#, None).expect("JSON");
        assert_eq!(sent, v1::Payload::data("application/json", r#"{"a": 1}"#));
        let Err(Failure::Usage(why)) = payload("hello", None) else { panic!("refused") };
        assert!(why.contains("--content-type"), "{why}");
        assert_eq!(
            payload("hello", Some("text/plain")).expect("text"),
            v1::Payload::data("text/plain", "hello")
        );
    }

    #[test]
    fn files_are_named_when_they_are_missing() {
        let Err(Failure::Machine(why)) = payload("@/nowhere/at.all", None) else { panic!("refused") };
        assert!(why.contains("/nowhere/at.all"), "{why}");
    }

    #[test]
    fn filters_are_joined_and_quoted() {
        assert_eq!(equals("topic", "a\"b"), r#"topic = "a\"b""#);
        assert_eq!(all_of(["a = b".into(), String::new()]), "a = b");
        assert_eq!(all_of(["a = b OR c = d".into(), "e = f".into()]), "(a = b OR c = d) AND (e = f)");
        assert_eq!(all_of([]), "");
    }

    #[test]
    fn times_before_the_epoch_keep_positive_nanos() {
        let early = time("1969-12-31T23:59:59.250Z").expect("time");
        assert_eq!(stamp(early), Timestamp { seconds: -1, nanos: 250_000_000 });
        assert!(time("tomorrow").expect_err("refused").contains("RFC 3339"));
    }
}
