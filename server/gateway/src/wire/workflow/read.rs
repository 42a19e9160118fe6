//! A definition that came as a message, as the text its author would have written: the one reader of workflows reads both.
//! What no text can say (a number that is none, an enum that does not exist) is refused here, everything else there.

use crate::wire::{Faults, json, time};
use coretex_contract::{Duration, Struct, Value, v1 as pb};
use coretex_domain::limits::HORIZON;
use coretex_domain::{Refusal, Span};
use coretex_workflow::limits::STEP_ID_LEN_MAX;
use pb::workflow_step::Kind;
use serde_json::{Map, Number, Value as Json};
use std::mem::take;

/// A map under construction.
struct Doc<'f> {
    fields: Map<String, Json>,
    path: String,
    faults: &'f mut Faults,
}

/// A definition as JSON, which is YAML.
pub(crate) fn document(definition: pb::WorkflowDefinition) -> Result<String, Refusal> {
    let mut faults = Faults::default();
    let mut doc = Doc::new("definition".into(), &mut faults);
    doc.text("name", definition.name);
    doc.text("description", definition.description);
    doc.object("input_schema", definition.input_schema);
    doc.span("timeout", definition.timeout);
    if let Some(given) = definition.concurrency {
        let conflict = |number| match pb::WorkflowConflict::try_from(number) {
            Ok(pb::WorkflowConflict::Unspecified) => Ok(None),
            Ok(pb::WorkflowConflict::Queue) => Ok(Some("queue")),
            Ok(pb::WorkflowConflict::Reject) => Ok(Some("reject")),
            Ok(pb::WorkflowConflict::CancelOldest) => Ok(Some("cancel_oldest")),
            Err(_) => Err("QUEUE, REJECT or CANCEL_OLDEST"),
        };
        doc.inner("concurrency", true, |doc| {
            doc.text("key", given.key);
            doc.count("limit", given.limit);
            doc.word("on_conflict", given.on_conflict, conflict);
        });
    }
    doc.steps("steps", definition.steps);
    doc.value("output", definition.output);
    doc.steps("on_failure", definition.on_failure);
    let fields = doc.fields;
    faults.into_result()?;
    Ok(escaped(&format!("{:#}", Json::Object(fields))))
}

/// JSON takes characters as they are that YAML does not. They stand in texts only, where both read an escape.
fn escaped(json: &str) -> String {
    let is_odd = |c: char| {
        matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match is_odd(c) {
            true => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => text.push(c),
        }
    }
    text
}

fn failure(number: i32) -> Result<Option<&'static str>, &'static str> {
    match pb::WorkflowFailure::try_from(number) {
        Ok(pb::WorkflowFailure::Unspecified) => Ok(None),
        Ok(pb::WorkflowFailure::Fail) => Ok(Some("fail")),
        Ok(pb::WorkflowFailure::Continue) => Ok(Some("continue")),
        Err(_) => Err("FAIL or CONTINUE"),
    }
}

fn expiry(number: i32) -> Result<Option<&'static str>, &'static str> {
    match pb::ApprovalExpiry::try_from(number) {
        Ok(pb::ApprovalExpiry::Unspecified) => Ok(None),
        Ok(pb::ApprovalExpiry::Reject) => Ok(Some("reject")),
        Ok(pb::ApprovalExpiry::Approve) => Ok(Some("approve")),
        Err(_) => Err("REJECT or APPROVE"),
    }
}

/// The fields of a compensation are those of a step.
fn as_step(given: pb::WorkflowCompensation) -> pb::WorkflowStep {
    use pb::workflow_compensation::Kind as Undo;
    pb::WorkflowStep {
        kind: given.kind.map(|kind| match kind {
            Undo::Topic(topic) => Kind::Topic(topic),
            Undo::Uses(name) => Kind::Uses(name),
        }),
        input: given.input,
        retry: given.retry,
        timeouts: given.timeouts,
        labels: given.labels,
        pool: given.pool,
        pool_required: given.pool_required,
        worker_id: given.worker_id,
        worker_required: given.worker_required,
        requires: given.requires,
        priority: given.priority,
        concurrency_key: given.concurrency_key,
        rate_key: given.rate_key,
        idempotency_key: given.idempotency_key,
        capability: given.capability,
        risk_tags: given.risk_tags,
        budget: given.budget,
        config: given.config,
        ..pb::WorkflowStep::default()
    }
}

// === impl Doc ===

impl<'f> Doc<'f> {
    fn new(path: String, faults: &'f mut Faults) -> Doc<'f> {
        Doc { fields: Map::new(), path, faults }
    }

    fn put(&mut self, key: &str, value: impl Into<Json>) {
        self.fields.insert(key.to_owned(), value.into());
    }

    fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// A map in it; one with nothing in it stands there only where it `stays`.
    fn inner(&mut self, key: &str, stays: bool, fill: impl FnOnce(&mut Doc<'_>)) {
        let mut inner = Doc::new(self.path(key), self.faults);
        fill(&mut inner);
        let fields = inner.fields;
        if stays || !fields.is_empty() {
            self.put(key, fields);
        }
    }

    fn text(&mut self, key: &str, text: String) {
        if !text.is_empty() {
            self.put(key, text);
        }
    }

    fn texts(&mut self, key: &str, texts: Vec<String>) {
        if !texts.is_empty() {
            self.put(key, texts);
        }
    }

    fn count(&mut self, key: &str, count: u32) {
        if count > 0 {
            self.put(key, count);
        }
    }

    fn flag(&mut self, key: &str, is_set: bool) {
        if is_set {
            self.put(key, true);
        }
    }

    fn some(&mut self, key: &str, value: Option<impl Into<Json>>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    fn number(&mut self, key: &str, number: Option<f64>) {
        let Some(number) = number else { return };
        match Number::from_f64(number) {
            Some(number) => self.put(key, Json::Number(number)),
            None => self.faults.add(self.path(key), format!("must be a number, got {number}")),
        }
    }

    fn span(&mut self, key: &str, given: Option<Duration>) {
        let path = self.path(key);
        let span = time::span(self.faults, &path, given, Span(0), HORIZON);
        self.some(key, span.map(|span| span.to_string()));
    }

    fn word(
        &mut self,
        key: &str,
        number: i32,
        word: impl FnOnce(i32) -> Result<Option<&'static str>, &'static str>,
    ) {
        match word(number) {
            Ok(word) => self.some(key, word),
            Err(known) => self.faults.add(self.path(key), format!("must be {known}, got {number}")),
        }
    }

    /// A value in its canonical text, read back: whole numbers are whole.
    fn canonical(&mut self, key: &str, text: Result<Vec<u8>, String>) {
        match text.and_then(|text| serde_json::from_slice::<Json>(&text).map_err(|error| error.to_string())) {
            Ok(value) => self.put(key, value),
            Err(rule) => self.faults.add(self.path(key), rule),
        }
    }

    fn value(&mut self, key: &str, given: Option<Value>) {
        if let Some(given) = given {
            self.canonical(key, json::canonical(&given));
        }
    }

    fn object(&mut self, key: &str, given: Option<Struct>) {
        if let Some(given) = given {
            self.canonical(key, json::canonical_object(&given));
        }
    }

    fn steps(&mut self, key: &str, steps: Vec<pb::WorkflowStep>) {
        if steps.is_empty() {
            return;
        }
        let mut list = Vec::with_capacity(steps.len());
        for (n, step) in steps.into_iter().enumerate() {
            let is_fit = step.id.len() <= STEP_ID_LEN_MAX && step.id.bytes().all(|b| b.is_ascii_graphic());
            let id = if is_fit && !step.id.is_empty() { format!("({})", step.id) } else { String::new() };
            let mut doc = Doc::new(format!("{}.{key}[{n}]{id}", self.path), self.faults);
            doc.step(step);
            list.push(Json::Object(doc.fields));
        }
        self.put(key, list);
    }

    fn step(&mut self, mut step: pb::WorkflowStep) {
        self.text("id", take(&mut step.id));
        self.text("description", take(&mut step.description));
        self.texts("needs", take(&mut step.needs));
        self.text("when", take(&mut step.when));
        self.text("for_each", take(&mut step.for_each));
        self.count("max_parallel", step.max_parallel);
        self.word("on_item_failure", step.on_item_failure, failure);
        self.word("on_failure", step.on_failure, failure);
        if let Some(given) = step.compensate.take() {
            self.inner("compensate", true, |doc| doc.work(as_step(given)));
        }
        self.work(step);
    }

    /// What it does, and the settings of work.
    fn work(&mut self, step: pb::WorkflowStep) {
        if let Some(kind) = step.kind {
            self.kind(kind);
        }
        self.value("input", step.input);
        if let Some(retry) = step.retry {
            self.inner("retry", false, |doc| doc.retry(retry));
        }
        if let Some(given) = step.timeouts {
            self.inner("timeouts", false, |doc| {
                doc.span("schedule_to_start", given.schedule_to_start);
                doc.span("start_to_close", given.start_to_close);
                doc.span("stall", given.stall);
                doc.span("total", given.total);
            });
        }
        if !step.labels.is_empty() {
            self.put(
                "labels",
                step.labels.into_iter().map(|(key, value)| (key, value.into())).collect::<Map<_, _>>(),
            );
        }
        self.text("pool", step.pool);
        self.flag("pool_required", step.pool_required);
        self.text("worker_id", step.worker_id);
        self.flag("worker_required", step.worker_required);
        self.texts("requires", step.requires);
        self.some("priority", step.priority);
        self.text("concurrency_key", step.concurrency_key);
        self.text("rate_key", step.rate_key);
        self.text("idempotency_key", step.idempotency_key);
        self.text("capability", step.capability);
        self.texts("risk_tags", step.risk_tags);
        if let Some(budget) = step.budget {
            self.inner("budget", false, |doc| {
                doc.some("max_tokens", budget.max_tokens);
                doc.some("max_cost_micros", budget.max_cost_micros);
            });
        }
        self.object("config", step.config);
    }

    fn kind(&mut self, kind: Kind) {
        match kind {
            Kind::Topic(topic) => self.put("topic", topic),
            Kind::Uses(name) => self.put("uses", name),
            Kind::Delay(span) => self.span("delay", Some(span)),
            Kind::DelayExpression(text) => self.put("delay", text),
            Kind::Until(text) => self.put("until", text),
            Kind::Parallel(group) if group.steps.is_empty() => self.put("parallel", Vec::<Json>::new()),
            Kind::Parallel(group) => self.steps("parallel", group.steps),
            Kind::WaitEvent(given) => self.inner("wait_event", true, |doc| {
                doc.text("name", given.name);
                doc.text("match", given.r#match);
                doc.span("timeout", given.timeout);
            }),
            Kind::Approval(given) => self.inner("approval", true, |doc| {
                doc.text("title", given.title);
                doc.value("details", given.details);
                doc.texts("approvers", given.approvers);
                doc.count("quorum", given.quorum);
                doc.span("expires", given.expires);
                doc.word("on_expiry", given.on_expiry, expiry);
                doc.flag("requester_may_approve", given.requester_may_approve);
            }),
        }
    }

    fn retry(&mut self, retry: pb::RetryPolicy) {
        self.some("max_attempts", retry.max_attempts);
        self.span("initial_backoff", retry.initial_backoff);
        self.number("multiplier", retry.multiplier);
        self.span("max_backoff", retry.max_backoff);
        self.number("jitter", retry.jitter);
        self.texts("non_retryable_errors", retry.non_retryable_errors);
    }
}
