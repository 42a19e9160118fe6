//! The step library as the house of the engine: payloads in its words, failures in those of jobs.

use crate::settings::Steps;
use coretex_domain::job::Failure;
use coretex_domain::payload::ContentType;
use coretex_domain::{Job, Payload, Span};
use coretex_engine::{House, HouseFailure, HouseTask};
use coretex_steps::{Facts, Library, STEPS, StepFailure};
use futures::future::BoxFuture;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// The steps of this server.
#[derive(Clone, Debug)]
pub(crate) struct StepHouse {
    library: Arc<Library>,
    slots: u32,
}

// === impl StepHouse ===

impl StepHouse {
    pub(crate) fn new(steps: &Steps, output_max: usize) -> StepHouse {
        let http = coretex_steps::http::Settings {
            allow: steps.http_allow.clone(),
            authorities: steps.http_ca.clone(),
            ..Default::default()
        };
        let (enabled, jq) = (steps.enabled.clone(), steps.jq.clone());
        let settings = coretex_steps::Settings { enabled, output_max, http, jq };
        StepHouse { library: Arc::new(Library::new(settings)), slots: steps.slots }
    }
}

impl House for StepHouse {
    fn steps(&self) -> &[&'static str] {
        STEPS
    }

    fn slots(&self) -> u32 {
        self.slots
    }

    fn is_quick(&self, step: &str) -> bool {
        Library::is_quick(step)
    }

    fn work(&self, step: &str, task: HouseTask) -> BoxFuture<'static, Result<Payload, HouseFailure>> {
        let (library, step) = (self.library.clone(), step.to_owned());
        Box::pin(async move {
            let facts = facts(&task);
            let input = input(&task.job).map_err(failure)?;
            let output = library.run(&step, input, &facts).await.map_err(failure)?;
            Ok(Payload::json(output.to_string()))
        })
    }
}

fn facts(task: &HouseTask) -> Facts {
    let job = &task.job;
    Facts {
        namespace: job.namespace.to_string(),
        job_id: job.id.to_string(),
        attempt: job.attempt(),
        idempotency_token: job.idempotency_token(),
        within: Duration::from_millis(task.within.0),
        hosts: job.constraints().and_then(|all| {
            let hosts = all.sandbox.network_allowlist.as_ref()?;
            Some(hosts.iter().map(ToString::to_string).collect())
        }),
    }
}

fn input(job: &Job) -> Result<Value, StepFailure> {
    let payload = &job.spec.payload;
    if payload.data.is_empty() {
        return Ok(Value::Null);
    }
    if !payload.content_type.is_json() && payload.content_type != ContentType::None {
        let message = format!("input: must be JSON, is {}", payload.content_type.name());
        return Err(StepFailure::new("INVALID_INPUT", message));
    }
    serde_json::from_slice(&payload.data)
        .map_err(|error| StepFailure::new("INVALID_INPUT", format!("input: is no JSON: {error}")))
}

fn failure(failed: StepFailure) -> HouseFailure {
    let StepFailure { kind, message, retryable, retry_after, details } = failed;
    let details = details.map_or_else(Payload::empty, |details| Payload::json(details.to_string()));
    let millis = |wait: Duration| Span(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    let failure =
        Failure { kind: kind.into(), message: message.into(), retryable, details, stack: "".into() };
    HouseFailure { failure: Box::new(failure), retry_after: retry_after.map(millis) }
}
