//! `validate`: data and a schema in; the data out if it fits, else every fault.

use crate::StepFailure;
use crate::given::Given;
use coretex_domain::Violation;
use coretex_domain::config::Schema;
use serde_json::{Value, json};

/// Faults that the message itself tells; all are in the details.
const TOLD_MAX: usize = 8;

pub(crate) async fn step(input: Value) -> Result<Value, StepFailure> {
    // Bounded, but not short: data of a MiB and a schema of some hundred KiB.
    let judged = tokio::task::spawn_blocking(move || judge(input)).await;
    judged.unwrap_or_else(|error| Err(StepFailure::passing("STEP_BROKEN", error.to_string())))
}

fn judge(input: Value) -> Result<Value, StepFailure> {
    let mut given = Given::read("validate", input, &["schema", "data"])?;
    let (schema, data) = (given.needed("schema"), given.needed("data"));
    given.finish()?;
    let schema = Schema::read("input.schema", &schema).map_err(|faults| told("SCHEMA_INVALID", &faults))?;
    let faults = schema.faults("data", &data);
    match faults.is_empty() {
        true => Ok(data),
        false => Err(told("VALIDATION_FAILED", &faults)),
    }
}

fn told(kind: &'static str, faults: &[Violation]) -> StepFailure {
    let line = |fault: &Violation| format!("{}: {}", fault.field, fault.message);
    let mut message = faults.iter().take(TOLD_MAX).map(line).collect::<Vec<_>>().join("; ");
    if let Some(more) = faults.len().checked_sub(TOLD_MAX).filter(|more| *more > 0) {
        message.push_str(&format!("; and {more} more"));
    }
    let item = |fault: &Violation| json!({ "field": fault.field, "message": fault.message });
    StepFailure::new(kind, message).with(json!({ "faults": faults.iter().map(item).collect::<Vec<_>>() }))
}
