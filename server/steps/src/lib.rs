//! The step library: what a workflow or a caller may have done without a worker of their own.
//!
//! In: the name of a step, its input as JSON, and facts of the job. Out: its output as JSON, or why there is none. Each step
//! has bounds on what it takes, gives, and how long; none of them can take the server with it.

mod failure;
mod given;
pub mod http;
pub mod jq;
mod plain;
#[cfg(test)]
mod tests;
mod validate;

pub use failure::StepFailure;

use coretex_domain::limits::PAYLOAD_MAX;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// Names of all steps, in order.
pub const STEPS: &[&str] = &["emit", "http", "log", "set", "transform", "validate"];

/// What the library may do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Steps that are done; the others fail with `STEP_DISABLED`.
    pub enabled: BTreeSet<String>,
    /// Bytes of an output.
    pub output_max: usize,
    pub http: http::Settings,
    pub jq: jq::Settings,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            enabled: STEPS.iter().map(ToString::to_string).collect(),
            output_max: PAYLOAD_MAX,
            http: http::Settings::default(),
            jq: jq::Settings::default(),
        }
    }
}

/// What a step knows of the job it is done for.
#[derive(Clone, Debug)]
pub struct Facts {
    pub namespace: String,
    pub job_id: String,
    pub attempt: u32,
    /// The same over all attempts.
    pub idempotency_token: String,
    /// The attempt may take this long.
    pub within: Duration,
    /// Hosts that the policy lets the job reach, as `HOST` or `HOST:PORT`. Absent: it does not say.
    pub hosts: Option<Vec<String>>,
}

/// The steps, ready to be done.
#[derive(Debug)]
pub struct Library {
    enabled: BTreeSet<String>,
    output_max: usize,
    http: http::Client,
    jq: jq::Filters,
}

// === impl Library ===

impl Library {
    pub fn new(settings: Settings) -> Library {
        let Settings { enabled, output_max, http, jq } = settings;
        Library { enabled, output_max, http: http::Client::new(http), jq: jq::Filters::new(jq) }
    }

    /// True if a step takes no time to speak of.
    pub fn is_quick(name: &str) -> bool {
        matches!(name, "emit" | "log" | "set")
    }

    /// Does a step. Dropping the future stops it.
    pub async fn run(&self, name: &str, input: Value, facts: &Facts) -> Result<Value, StepFailure> {
        if !self.enabled.contains(name) && STEPS.contains(&name) {
            let message = format!(
                "the step `{name}` is not enabled on this server; `steps.enabled` names those that are"
            );
            return Err(StepFailure::new("STEP_DISABLED", message));
        }
        let output = match name {
            "emit" => plain::emit(input, facts)?,
            "http" => self.http.step(input, facts).await?,
            "log" => plain::log(input, facts)?,
            "set" => input,
            "transform" => self.jq.step(input, facts).await?,
            "validate" => validate::step(input).await?,
            _ => return Err(StepFailure::new("STEP_UNKNOWN", format!("there is no step `{name}`"))),
        };
        let len = output.to_string().len();
        match len <= self.output_max {
            true => Ok(output),
            false => {
                let message = format!("the output has {len} bytes, at most {} are kept", self.output_max);
                Err(StepFailure::new("RESULT_TOO_LARGE", message))
            }
        }
    }
}
