//! Runs to the wire, in the view that was asked for; and what a run is given, from it.

mod event;

pub(crate) use event::events;

use super::job::Look;
use super::spec::labels;
use super::time::timestamp;
use super::{Faults, payload};
use bytes::Bytes;
use coretex_contract::v1 as pb;
use coretex_domain::limits::{SIGNAL_MAX, SIGNAL_NAME_LEN_MAX};
use coretex_domain::names::shown;
use coretex_domain::payload::Payload;
use coretex_domain::run::{RunState, Signal, StepState, Trouble};
use coretex_engine::{ItemsView, RunView, StepView};
use prost::Message;

/// Steps told of one run, and their bytes: with input and output they fit a message.
const STEPS_MAX: usize = 10_000;
const STEPS_BYTES_MAX: usize = 1 << 20;

/// The run as asked for. Payloads that would not fit a message as `json` go as `data`.
pub(crate) fn write(view: &RunView, look: Look, message_max: usize) -> pb::Run {
    let run = match look.view {
        pb::View::Ref => return reference(view),
        pb::View::Basic | pb::View::Unspecified => return head(view),
        pb::View::Full => with_steps(view),
    };
    let told = |format| pb::Run {
        input: written(view.input.as_ref(), format),
        output: written(view.output.as_ref(), format),
        ..run.clone()
    };
    // What wraps it has room as well.
    let room = message_max.saturating_sub(1 << 10);
    let as_asked = told(look.format);
    match look.format {
        pb::PayloadFormat::Json if as_asked.encoded_len() > room => told(pb::PayloadFormat::Data),
        pb::PayloadFormat::Json | pb::PayloadFormat::Data | pb::PayloadFormat::Unspecified => as_asked,
    }
}

fn written(value: Option<&Bytes>, format: pb::PayloadFormat) -> Option<pb::Payload> {
    payload::write(&Payload::json(value?.clone()), format)
}

fn reference(view: &RunView) -> pb::Run {
    let run = &view.run;
    pb::Run {
        run_id: run.id().to_string(),
        state: state(run.state()).into(),
        create_time: Some(timestamp(run.create_time)),
        ..pb::Run::default()
    }
}

/// All but payloads and steps.
pub(crate) fn head(view: &RunView) -> pb::Run {
    let run = &view.run;
    let plea = &run.plea;
    let lineage = plea.lineage.as_ref().map(|lineage| pb::RunLineage {
        run_id: lineage.run_id.to_string(),
        step_id: lineage.step.to_string(),
    });
    pb::Run {
        run_id: plea.id.to_string(),
        namespace: plea.namespace.to_string(),
        workflow: plea.workflow.to_string(),
        version: plea.version,
        state: state(run.state()).into(),
        error: run.error().map(error),
        labels: labels(&plea.labels),
        actor: plea.actor.to_string(),
        lineage,
        concurrency_key: plea.concurrency.as_ref().map(|(key, _)| key.to_string()).unwrap_or_default(),
        create_time: Some(timestamp(run.create_time)),
        update_time: Some(timestamp(run.update_time)),
        start_time: run.start_time.map(timestamp),
        end_time: run.end_time.map(timestamp),
        deadline_time: plea.deadline.map(timestamp),
        expire_time: run.expire_time.map(timestamp),
        revision: run.revision,
        input: None,
        output: None,
        steps: Vec::new(),
        more_steps: false,
    }
}

fn with_steps(view: &RunView) -> pb::Run {
    let found = view.steps();
    let mut steps = Vec::with_capacity(found.len());
    let (mut bytes, mut more_steps) = (0, found.len() >= STEPS_MAX);
    for one in &found {
        let written = step(one);
        bytes += written.encoded_len() + 4;
        if bytes > STEPS_BYTES_MAX {
            more_steps = true;
            break;
        }
        steps.push(written);
    }
    pb::Run { steps, more_steps, ..head(view) }
}

fn step(step: &StepView) -> pb::RunStep {
    let items = |items: ItemsView| pb::RunItems {
        count: items.count,
        begun: items.begun,
        over: items.over,
        failed: items.failed,
    };
    pb::RunStep {
        step_id: step.id.to_string(),
        path: step.path.clone(),
        kind: step.kind.to_owned(),
        state: step_state(step.state).into(),
        attempts: step.attempts,
        job_id: step.job_id.as_ref().map(ToString::to_string).unwrap_or_default(),
        start_time: step.start_time.map(timestamp),
        end_time: step.end_time.map(timestamp),
        due_time: step.due_time.map(timestamp),
        error: step.error.as_ref().map(error),
        items: step.items.map(items),
        undo_state: step.undo.map_or(pb::StepState::Unspecified, step_state).into(),
    }
}

fn error(trouble: &Trouble) -> pb::RunError {
    pb::RunError {
        step_id: trouble.step.to_string(),
        r#type: trouble.kind.to_string(),
        message: trouble.message.to_string(),
    }
}

fn state(state: RunState) -> pb::RunState {
    match state {
        RunState::Pending => pb::RunState::Pending,
        RunState::Running => pb::RunState::Running,
        RunState::Waiting => pb::RunState::Waiting,
        RunState::Succeeded => pb::RunState::Succeeded,
        RunState::Failed => pb::RunState::Failed,
        RunState::Cancelled => pb::RunState::Cancelled,
        RunState::TimedOut => pb::RunState::TimedOut,
    }
}

fn step_state(state: StepState) -> pb::StepState {
    match state {
        StepState::Pending => pb::StepState::Pending,
        StepState::Ready => pb::StepState::Ready,
        StepState::Running => pb::StepState::Running,
        StepState::Waiting => pb::StepState::Waiting,
        StepState::Succeeded => pb::StepState::Succeeded,
        StepState::Failed => pb::StepState::Failed,
        StepState::Skipped => pb::StepState::Skipped,
        StepState::Cancelled => pb::StepState::Cancelled,
    }
}

/// Why a run stands where it stands, in the contract's kinds. What is none of its own a job of it waits for.
pub(crate) fn cause_kinds(kind: &str) -> (pb::RunCauseKind, pb::JobCauseKind) {
    let own = match kind {
        "RUN_QUEUED" => pb::RunCauseKind::Queued,
        "RUN_ENDING" => pb::RunCauseKind::Ending,
        "UNDOING" => pb::RunCauseKind::Undoing,
        "TIMER" => pb::RunCauseKind::Timer,
        "SIGNAL" => pb::RunCauseKind::Signal,
        "ITEMS" => pb::RunCauseKind::Items,
        "STEP" => pb::RunCauseKind::Step,
        "EVALUATING" => pb::RunCauseKind::Evaluating,
        job => return (pb::RunCauseKind::Job, super::job::cause_kind(job)),
    };
    (own, pb::JobCauseKind::Unspecified)
}

// === from the wire ===

/// A payload that must be JSON, or nothing.
pub(crate) fn json(faults: &mut Faults, field: &str, given: Option<pb::Payload>, most: usize) -> Payload {
    // What comes as `json` and declares something else is refused by the reader of payloads.
    let is_data = given.as_ref().is_some_and(|given| matches!(given.body, Some(pb::payload::Body::Data(_))));
    let read = payload::read(faults, field, given, most, usize::MAX);
    if is_data && !read.data.is_empty() && !read.content_type.is_json() {
        let message = format!(
            "a run takes JSON: `json`, or `data` with the content type application/json; got {}",
            shown(read.content_type.name())
        );
        faults.add(format!("{field}.content_type"), message);
    }
    read
}

/// A signal; `before` is the path of its fields.
pub(crate) fn signal(faults: &mut Faults, before: &str, given: pb::RunSignal) -> Signal {
    let name_field = format!("{before}name");
    let name = given.name.as_str();
    if name.is_empty() {
        faults.add(name_field, "required");
    } else if name.len() > SIGNAL_NAME_LEN_MAX {
        faults.text(&name_field, name, SIGNAL_NAME_LEN_MAX);
    } else if name.chars().any(char::is_control) {
        faults.add(name_field, format!("must be printable, got {}", shown(name)));
    }
    let id = faults.key(&format!("{before}signal_id"), &given.signal_id);
    let payload = json(faults, &format!("{before}payload"), given.payload, SIGNAL_MAX);
    let text = match std::str::from_utf8(&payload.data) {
        Ok("") => "null",
        Ok(text) => text,
        // Bytes of another kind are a fault already.
        Err(_) => "null",
    };
    Signal {
        id: id.unwrap_or_default(),
        name: given.name.as_str().into(),
        data: text.into(),
        actor: "".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_domain::Reason;

    fn read(given: pb::Payload) -> Result<Payload, coretex_domain::Refusal> {
        let mut faults = Faults::default();
        let read = json(&mut faults, "input", Some(given), 16);
        faults.into_result().map(|()| read)
    }

    #[test]
    fn runs_take_json_and_nothing_else() {
        let given = |kind: &str, data: &'static [u8]| pb::Payload::data(kind, data);
        assert_eq!(&read(given("application/json", b"{\"a\":1}")).expect("JSON").data[..], b"{\"a\":1}");
        assert!(read(pb::Payload::default()).expect("nothing").data.is_empty());
        let value = coretex_contract::Value { kind: Some(coretex_contract::value::Kind::BoolValue(true)) };
        let body = Some(pb::payload::Body::Json(value));
        let declared = pb::Payload { content_type: "text/plain".into(), body };
        assert_eq!(read(declared).expect_err("declared").violations.len(), 1);
        for (kind, data) in [("text/plain", &b"{}"[..]), ("", b"{}"), ("application/octet-stream", b"\xff")] {
            let refusal = read(given(kind, data)).expect_err(kind);
            assert_eq!(refusal.violations[0].field, "input.content_type", "{kind}");
        }
        assert_eq!(
            read(given("application/json", b"{\"a\":1,\"a\":2}")).expect_err("twice").reason,
            Reason::InvalidJson
        );
        let refusal = read(given("application/json", b"\"12345678901234567\"")).expect_err("long");
        assert_eq!(refusal.reason, Reason::PayloadTooLarge);
    }

    #[test]
    fn every_fault_of_a_signal_is_told() {
        let mut faults = Faults::default();
        let given = pb::RunSignal {
            name: "x".repeat(65),
            payload: Some(pb::Payload::data("text/plain", &b"x"[..])),
            signal_id: " ".into(),
        };
        signal(&mut faults, "signal.", given);
        let refusal = faults.into_result().expect_err("faults");
        let fields: Vec<&str> = refusal.violations.iter().map(|one| one.field.as_str()).collect();
        assert_eq!(fields, ["signal.name", "signal.signal_id", "signal.payload.content_type"]);
        let mut faults = Faults::default();
        let read = signal(&mut faults, "", pb::RunSignal { name: "go".into(), ..Default::default() });
        assert_eq!((&*read.data, faults.into_result()), ("null", Ok(())));
    }

    #[test]
    fn every_cause_has_a_kind() {
        assert_eq!(cause_kinds("TIMER"), (pb::RunCauseKind::Timer, pb::JobCauseKind::Unspecified));
        assert_eq!(cause_kinds("NO_CREDIT"), (pb::RunCauseKind::Job, pb::JobCauseKind::WorkersBusy));
        assert_eq!(cause_kinds("NO_WORKER"), (pb::RunCauseKind::Job, pb::JobCauseKind::NoWorker));
    }
}
