//! Schedules in files: the fields of the contract as YAML, with spans and names of choices as people write them.

use super::super::input;
use super::super::shown::descriptor;
use crate::outcome::{Failure, Outcome};
use crate::units::Span;
use coretex_sdk::raw::v1;
use prost::Message as _;
use prost_reflect::{DynamicMessage, EnumDescriptor, Kind, MessageDescriptor};
use serde_json::Value;

/// A schedule as a file has it.
#[derive(Debug, PartialEq)]
pub(super) struct Written {
    /// Empty where the file names none.
    pub(super) schedule_id: String,
    pub(super) spec: v1::ScheduleSpec,
}

/// Reads a YAML or JSON file; `-` is standard input.
pub(super) fn read(path: &str) -> Outcome<Written> {
    let text = String::from_utf8(input::file(path)?)
        .map_err(|error| Failure::machine(format!("{path} is no text"), error))?;
    let value = serde_saphyr::from_str(&text)
        .map_err(|error| Failure::machine(format!("{path} is not YAML"), error))?;
    of_value(value).map_err(|why| Failure::Machine(format!("{path}: {why}")))
}

fn of_value(mut value: Value) -> Result<Written, String> {
    let Value::Object(fields) = &mut value else { return Err("a schedule is a map of fields".into()) };
    let schedule_id = match fields.remove("schedule_id") {
        None => String::new(),
        Some(Value::String(id)) => id,
        Some(other) => return Err(format!("schedule_id must be a text, got {other}")),
    };
    let message = descriptor("ScheduleSpec");
    mend(&message, &mut value)?;
    let message = DynamicMessage::deserialize(message, value).map_err(|error| error.to_string())?;
    let spec =
        v1::ScheduleSpec::decode(message.encode_to_vec().as_slice()).map_err(|error| error.to_string())?;
    Ok(Written { schedule_id, spec })
}

/// Writes spans and names of choices as the contract wants them.
fn mend(message: &MessageDescriptor, value: &mut Value) -> Result<(), String> {
    let Value::Object(fields) = value else { return Ok(()) };
    for (name, value) in fields {
        let Some(field) = message.get_field_by_name(name) else { continue };
        let within = |why: String| format!("{name}: {why}");
        match field.kind() {
            Kind::Enum(choice) => mend_choice(&choice, value),
            // Free-form content is left alone.
            Kind::Message(inner) if inner.full_name() == "google.protobuf.Duration" => {
                mend_span(value).map_err(within)?;
            }
            Kind::Message(inner) if inner.full_name().starts_with("google.") || field.is_map() => {}
            Kind::Message(inner) => mend(&inner, value).map_err(within)?,
            _ => {}
        }
    }
    Ok(())
}

fn mend_span(value: &mut Value) -> Result<(), String> {
    if let Value::String(text) = value {
        let Span(span) = text.parse()?;
        *value = format!("{}.{:03}s", span.as_secs(), span.subsec_millis()).into();
    }
    Ok(())
}

/// `queue` as `SCHEDULE_OVERLAP_QUEUE`.
fn mend_choice(choice: &EnumDescriptor, value: &mut Value) {
    let Value::String(text) = value else { return };
    let unset = choice.default_value().name().to_owned();
    let Some(prefix) = unset.strip_suffix("UNSPECIFIED") else { return };
    let full = format!("{prefix}{}", text.to_uppercase());
    if choice.get_value_by_name(&full).is_some() {
        *value = full.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Written, String> {
        of_value(serde_saphyr::from_str(text).expect("YAML"))
    }

    #[test]
    fn files_are_read_as_people_write_them() {
        let written = of("
schedule_id: nightly
cron: 30 2 * * MON-FRI
time_zone: Europe/Berlin
jitter: 5m
overlap: cancel_running
catch_up: ALL
catch_up_max: 7
start_time: 2026-01-01T00:00:00Z
job:
  topic: report.make
  labels: { team: a }
  timeouts: { start_to_close: 1h30m }
  payload: { json: { overlap: queue, jitter: 5m } }
")
        .expect("readable");
        let spec = written.spec;
        assert_eq!((written.schedule_id.as_str(), spec.cron.as_str()), ("nightly", "30 2 * * MON-FRI"));
        assert_eq!(spec.jitter.map(|span| span.seconds), Some(300));
        assert_eq!(
            (spec.overlap(), spec.catch_up()),
            (v1::ScheduleOverlap::CancelRunning, v1::ScheduleCatchUp::All)
        );
        assert_eq!(spec.start_time.map(|time| time.seconds), Some(1_767_225_600));
        let Some(v1::schedule_spec::Target::Job(job)) = spec.target else { panic!("a job") };
        assert_eq!(job.timeouts.and_then(|t| t.start_to_close).map(|span| span.seconds), Some(5_400));
        let Some(v1::payload::Body::Json(json)) = job.payload.and_then(|p| p.body) else { panic!("JSON") };
        assert!(format!("{json:?}").contains("queue") && format!("{json:?}").contains("5m"), "left alone");
    }

    #[test]
    fn the_example_of_the_guide_is_one() {
        let guide = include_str!("../../../../../docs/guide/schedules.md");
        let example = guide.split("```yaml").nth(1).and_then(|rest| rest.split("```").next());
        let written = of(example.expect("an example")).expect("readable");
        assert_eq!((written.schedule_id.as_str(), written.spec.catch_up_max), ("nightly-report", 10));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, why) in [
            ("cronn: x", "cronn"),
            ("overlap: sometimes", "sometimes"),
            ("interval: 5 minutes", "interval: `5 minutes`"),
            ("job: { topic: a, timeouts: { total: soon } }", "job: timeouts: total: `soon`"),
            ("schedule_id: 7", "schedule_id"),
            ("- a", "map"),
        ] {
            let refused = of(text).expect_err(text);
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }
}
