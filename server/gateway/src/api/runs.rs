//! `RunService`: runs of workflows, started, looked at, waited for, changed.

mod read;
mod watch;

use super::Replies;
use super::jobs::{check_request_id, wait_time};
use super::lookup::look;
use super::workflows::check_name;
use crate::call::{Answer, Call};
use crate::gate::Gate;
use crate::wire::{Faults, run as write};
use coretex_contract::v1 as pb;
use coretex_domain::limits::{REASON_LEN_MAX, RUN_VALUE_MAX};
use coretex_domain::names::shown;
use coretex_domain::run::RunId;
use coretex_domain::{Namespace, Refusal};
use coretex_engine::{Rerun, StartRun};
use coretex_workflow::limits::STEP_ID_LEN_MAX;
use std::sync::Arc;
use tonic::Request;

#[derive(Clone)]
pub(crate) struct Runs(pub(crate) Arc<Gate>);

/// The id of a run that exists.
fn run_id(faults: &mut Faults, text: &str) -> Option<RunId> {
    if text.is_empty() {
        faults.add("run_id", "required");
        return None;
    }
    chosen_id(faults, text)
}

/// The id of a run that may have to be made.
fn chosen_id(faults: &mut Faults, text: &str) -> Option<RunId> {
    match RunId::parse(text) {
        Ok(id) => Some(id),
        Err(fault) => {
            faults.add("run_id", format!("{}, got {}", fault.0, shown(text)));
            None
        }
    }
}

/// The id in a request that has nothing else to check.
fn only_id(text: &str) -> Result<RunId, Refusal> {
    let mut faults = Faults::default();
    let id = run_id(&mut faults, text);
    checked(faults, id)
}

/// What was read, unless something was wrong.
fn checked<T>(faults: Faults, read: Option<T>) -> Result<T, Refusal> {
    faults.into_result()?;
    read.ok_or_else(|| Refusal::field("run_id", "required"))
}

/// Takes in what another check found.
fn also(faults: &mut Faults, found: Result<(), Refusal>) {
    if let Err(refusal) = found {
        let reason = refusal.reason;
        refusal.violations.into_iter().for_each(|one| faults.add_as(reason, one.field, one.message));
    }
}

impl Runs {
    async fn start(
        &self,
        call: &Call,
        request: pb::StartRunRequest,
    ) -> Result<pb::StartRunResponse, Refusal> {
        let mut faults = Faults::default();
        also(&mut faults, check_name(&request.workflow));
        also(&mut faults, check_request_id(&request.request_id));
        let input = write::json(&mut faults, "input", request.input, self.value_max());
        let idempotency_key = faults.key("idempotency_key", &request.idempotency_key).unwrap_or_default();
        if !request.run_id.is_empty() && !idempotency_key.is_empty() {
            faults.add("idempotency_key", "must not come with `run_id`, which names the run by itself");
        }
        let labels = faults.labels("labels", request.labels.into_iter());
        let run_id = match request.run_id.as_str() {
            "" => None,
            text => chosen_id(&mut faults, text),
        };
        let signal = request.signal.map(|given| write::signal(&mut faults, "signal.", given));
        faults.into_result()?;
        let (workflow, version) = (request.workflow.as_str().into(), request.version);
        let signal = signal.map(|signal| coretex_domain::run::Signal { actor: call.actor(), ..signal });
        let asked = StartRun { workflow, version, input, idempotency_key, run_id, labels, signal };
        let (run, existing) = self.0.engine.start_run(&call.caller(), asked, &request.request_id).await?;
        Ok(pb::StartRunResponse { run: Some(write::head(&run)), existing })
    }

    /// Bytes of a value of a run.
    fn value_max(&self) -> usize {
        self.0.settings.payload_max.min(RUN_VALUE_MAX)
    }

    async fn wait(&self, call: &Call, request: pb::WaitRunRequest) -> Result<pb::WaitRunResponse, Refusal> {
        let look = look(request.view, request.payload_format, pb::View::Full)?;
        let timeout = wait_time(request.timeout)?;
        let id = only_id(&request.run_id)?;
        let view = self.0.engine.wait_run(&call.namespace, &id, call.within_deadline(timeout)).await?;
        Ok(pb::WaitRunResponse { run: Some(write::write(&view, look, self.0.settings.message_max)) })
    }

    async fn cancel(
        &self,
        call: &Call,
        request: pb::CancelRunRequest,
    ) -> Result<pb::CancelRunResponse, Refusal> {
        let mut faults = Faults::default();
        let id = run_id(&mut faults, &request.run_id);
        faults.text("reason", &request.reason, REASON_LEN_MAX);
        also(&mut faults, check_request_id(&request.request_id));
        let id = checked(faults, id)?;
        let run = self.0.engine.cancel_run(&call.caller(), &id, request.reason.into()).await?;
        Ok(pb::CancelRunResponse { run: Some(write::head(&run)) })
    }

    async fn signal(
        &self,
        call: &Call,
        request: pb::SignalRunRequest,
    ) -> Result<pb::SignalRunResponse, Refusal> {
        let mut faults = Faults::default();
        let id = run_id(&mut faults, &request.run_id);
        let is_named = check_request_id(&request.request_id);
        // A repeat of the call is a repeat of the signal.
        let signal_id = match request.signal_id.is_empty() && is_named.is_ok() {
            true => request.request_id,
            false => request.signal_id,
        };
        also(&mut faults, is_named);
        let given = pb::RunSignal { name: request.name, payload: request.payload, signal_id };
        let signal = write::signal(&mut faults, "", given);
        let id = checked(faults, id)?;
        let run = self.0.engine.signal_run(&call.caller(), &id, signal).await?;
        Ok(pb::SignalRunResponse { run: Some(write::head(&run)) })
    }

    async fn rerun(
        &self,
        call: &Call,
        request: pb::RerunFromRequest,
    ) -> Result<pb::RerunFromResponse, Refusal> {
        let mut faults = Faults::default();
        let id = run_id(&mut faults, &request.run_id);
        match request.step_id.is_empty() {
            true => faults.add("step_id", "required"),
            false => faults.text("step_id", &request.step_id, STEP_ID_LEN_MAX),
        }
        also(&mut faults, check_request_id(&request.request_id));
        let is_edited = request.edited_input.is_some();
        let edited = write::json(&mut faults, "edited_input", request.edited_input, self.value_max());
        if is_edited && edited.data.is_empty() {
            faults.add(
                "edited_input",
                "has no content; leave it out to keep the input, or send the JSON `null`",
            );
        }
        let run_id = checked(faults, id)?;
        let edited_input = is_edited.then_some(edited);
        let asked = Rerun { run_id, step: request.step_id.as_str().into(), edited_input };
        let (run, existing) = self.0.engine.rerun(&call.caller(), asked, &request.request_id).await?;
        Ok(pb::RerunFromResponse { run: Some(write::head(&run)), existing })
    }

    /// A run for the watch and the history: with its workflow, without its payloads.
    async fn known(&self, namespace: &Namespace, text: &str) -> Result<coretex_engine::RunView, Refusal> {
        self.0.engine.get_run(namespace, &only_id(text)?, false).await
    }
}

#[tonic::async_trait]
impl pb::run_service_server::RunService for Runs {
    type WatchRunStream = Replies<pb::WatchRunResponse>;

    async fn start_run(&self, request: Request<pb::StartRunRequest>) -> Answer<pb::StartRunResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().workflow);
        call.answer(self.start(&call, request.into_inner()).await)
    }

    async fn get_run(&self, request: Request<pb::GetRunRequest>) -> Answer<pb::GetRunResponse> {
        let call = Call::of(&request);
        call.answer(self.get(&call, request.into_inner()).await)
    }

    async fn list_runs(&self, request: Request<pb::ListRunsRequest>) -> Answer<pb::ListRunsResponse> {
        let call = Call::of(&request);
        call.answer(self.list(&call, request.into_inner()).await)
    }

    async fn wait_run(&self, request: Request<pb::WaitRunRequest>) -> Answer<pb::WaitRunResponse> {
        let call = Call::of(&request);
        call.answer(self.wait(&call, request.into_inner()).await)
    }

    async fn watch_run(&self, request: Request<pb::WatchRunRequest>) -> Answer<Self::WatchRunStream> {
        let call = Call::of(&request);
        let opened = watch::open(self.clone(), call.clone(), request.into_inner()).await;
        call.answer(opened)
    }

    async fn get_run_history(
        &self,
        request: Request<pb::GetRunHistoryRequest>,
    ) -> Answer<pb::GetRunHistoryResponse> {
        let call = Call::of(&request);
        call.answer(self.history(&call, request.into_inner()).await)
    }

    async fn cancel_run(&self, request: Request<pb::CancelRunRequest>) -> Answer<pb::CancelRunResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().run_id);
        call.answer(self.cancel(&call, request.into_inner()).await)
    }

    async fn signal_run(&self, request: Request<pb::SignalRunRequest>) -> Answer<pb::SignalRunResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().run_id);
        call.answer(self.signal(&call, request.into_inner()).await)
    }

    async fn rerun_from(&self, request: Request<pb::RerunFromRequest>) -> Answer<pb::RerunFromResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().run_id);
        call.answer(self.rerun(&call, request.into_inner()).await)
    }

    async fn explain_run(&self, request: Request<pb::ExplainRunRequest>) -> Answer<pb::ExplainRunResponse> {
        let call = Call::of(&request);
        call.answer(self.explain(&call, request.into_inner()).await)
    }
}
