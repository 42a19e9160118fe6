//! Rerun: an ended run and a step of it in; a new run that begins with that step, with what the steps beside it gave, out.

use super::evaluate::pieces_of;
use super::start::{Ready, start_ready, value_of};
use super::{RunView, not_found, plan, stored};
use crate::Engine;
use crate::api::Caller;
use crate::runs::StartRun;
use coretex_domain::limits::RUN_VALUE_MAX;
use coretex_domain::run::{At, Lineage, Part, RunState, STEPS, StepState};
use coretex_domain::{Payload, Reason, Refusal, Run, RunId};
use coretex_kernel::input::KeptStep;
use coretex_workflow::Plan;
use std::sync::Arc;

/// What is done again.
#[derive(Clone, Debug)]
pub struct Rerun {
    pub run_id: RunId,
    /// A step of the workflow itself, not of a group.
    pub step: Arc<str>,
    /// JSON in the place of the input of the earlier run.
    pub edited_input: Option<Payload>,
}

impl Engine {
    /// A new run from a step on; true if an earlier request with the same id made it.
    pub async fn rerun(
        &self,
        caller: &Caller,
        asked: Rerun,
        request_id: &str,
    ) -> Result<(RunView, bool), Refusal> {
        let shared = &self.shared;
        let id = &asked.run_id;
        let old = stored(shared, &caller.namespace, id).await?.ok_or_else(|| not_found(id))?;
        if !old.is_over() {
            let message = format!("run {id} is {}; it can be rerun once it is over", old.state());
            return Err(Refusal::new(Reason::RunNotEnded, message));
        }
        let plan = plan(shared, &caller.namespace, &old.plea.workflow, old.plea.version).await?;
        let first = first_place(&plan, &asked.step)?;
        let given = match &asked.edited_input {
            Some(input) => input.data.clone(),
            None => value_of(shared, &old, &old.plea.input, Part::Input).await?.unwrap_or_default(),
        };
        let input = serde_json::from_slice(&given).map_err(|error| {
            Refusal::new(Reason::InvalidJson, format!("edited_input: a run takes JSON; {error}"))
        })?;
        let input = plan.definition.input_of(Some(input)).map_err(|violations| Refusal {
            violations,
            ..Refusal::new(
                Reason::RunInputInvalid,
                "the edited input breaks the input_schema of the workflow",
            )
        })?;
        let mut kept = Vec::new();
        for place in kept_places(&plan, &old, first) {
            kept.push(self.keep(&old, &plan, place).await?);
        }
        let lineage = Lineage { run_id: id.name().clone(), step: asked.step.clone() };
        let start = StartRun {
            workflow: old.plea.workflow.clone(),
            version: old.plea.version,
            input: Payload::json(given),
            labels: old.plea.labels.clone(),
            ..StartRun::default()
        };
        let ready = Ready { plan, input, kept, lineage: Some(lineage) };
        // The same request about another run is another request.
        let request = if request_id.is_empty() { String::new() } else { format!("{request_id}\0{id}") };
        start_ready(shared, caller, start, ready, &request).await
    }

    /// What a step gave, to be taken over.
    async fn keep(&self, old: &Arc<Run>, plan: &Arc<Plan>, place: u32) -> Result<KeptStep, Refusal> {
        let at = At { scope: 0, place };
        let wanted = plan.pieces_of_output(old, at);
        let pieces = pieces_of(&self.shared, old, plan, &wanted).await?;
        let told = |message: String| Refusal::new(Reason::PayloadExpired, message);
        let output = plan
            .output_of(old, at, &pieces)
            .map_err(|trouble| told(trouble.message.to_string()))?
            .to_string();
        if output.len() > RUN_VALUE_MAX {
            let id = plan.step(old, at).map_or("", |planned| planned.id());
            let message = format!(
                "the output of step {id} is {} bytes, at most {RUN_VALUE_MAX} are taken over",
                output.len()
            );
            return Err(Refusal::new(Reason::PayloadTooLarge, message));
        }
        let step = old.step(at);
        Ok(KeptStep {
            place,
            state: step.map_or(StepState::Skipped, |step| step.state),
            error: step.and_then(|step| step.error()).cloned(),
            attempts: step.map_or(0, |step| step.attempts()),
            output: (output != "null").then(|| output.into()),
        })
    }
}

fn first_place(plan: &Plan, step: &str) -> Result<u32, Refusal> {
    match plan.by_id(step) {
        Some(planned) if planned.list == STEPS => Ok(planned.place),
        Some(_) => {
            let message = format!(
                "step {step} is in a group or done after a failure; name a step of the workflow itself"
            );
            Err(Refusal::field("step_id", message))
        }
        None => {
            let known = plan.list(STEPS).map(|list| list.steps.clone()).unwrap_or_default();
            let ids = known.iter().filter_map(|n| plan.steps.get(*n)).map(|planned| &**planned.id());
            let near = coretex_domain::nearest::hint(step, ids);
            Err(Refusal::field("step_id", format!("workflow {} has no step {step}{near}", plan.workflow)))
        }
    }
}

/// Steps whose outputs stay: those that were done or skipped, and need neither the first step nor one that is done again.
fn kept_places(plan: &Plan, old: &Run, first: u32) -> Vec<u32> {
    let Some(root) = old.scope(0) else { return Vec::new() };
    let is_good = |place: u32| {
        let state = root.steps.get(place as usize).map(|step| step.state);
        matches!(state, Some(StepState::Succeeded | StepState::Skipped))
    };
    let again: Vec<bool> = (0..plan.size(STEPS)).map(|place| place == first || !is_good(place)).collect();
    let is_kept = |place: &u32| {
        !again[*place as usize] && plan.before(*place).into_iter().all(|earlier| !again[earlier as usize])
    };
    debug_assert!(old.state() != RunState::Running);
    (0..plan.size(STEPS)).filter(is_kept).collect()
}
