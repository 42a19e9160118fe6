//! A workflow in its normal form: one document for all texts that say the same. Read again, it gives the same workflow.
//!
//! What the format takes in several ways (one step for a list of needs, `timeout` for `timeouts.start_to_close`, a number for a text)
//! stands in one of them, and a default that means a number or a word is written out: should a later release have another
//! one, that workflow says something else.

use crate::expression::{Expression, Shape, Template};
use crate::model::{
    Approval, Definition, Delay, Doer, ForEach, Kind, OnConflict, OnFailure, Step, WaitEvent, Work,
};
use coretex_domain::Span;
use coretex_domain::config::{canonical, digest_of, hex};
use coretex_domain::job::spec::{Budget, Placement, RetryPolicy, Timeouts};
use serde_json::{Map, Number, Value};
use std::sync::Arc;

/// A map under construction.
#[derive(Default)]
struct Doc(Map<String, Value>);

// === impl Definition ===

impl Definition {
    /// The normal form.
    pub fn normal(&self) -> Value {
        let mut doc = Doc::default();
        doc.put("name", &*self.name);
        doc.text("description", self.description.as_deref());
        doc.some("input_schema", self.input.as_ref().map(|input| input.value.clone()));
        doc.span("timeout", self.timeout);
        if let Some(one) = &self.concurrency {
            let mut inner = Doc::default();
            inner.put("key", one.key.as_str());
            inner.put("limit", one.limit);
            inner.put("on_conflict", conflict(one.on_conflict));
            doc.put("concurrency", inner.0);
        }
        doc.put("steps", steps(&self.steps));
        doc.some("output", self.output.as_ref().map(shape));
        if !self.on_failure.is_empty() {
            doc.put("on_failure", steps(&self.on_failure));
        }
        Value::Object(doc.0)
    }

    /// What stands for everything it says: 64 hexadecimal digits, the same for texts that say the same.
    pub fn digest(&self) -> String {
        hex(&digest_of(canonical(&self.normal()).as_bytes()))
    }

    /// How many steps it has, those in groups and of `on_failure` included.
    pub fn step_count(&self) -> usize {
        let mut count = 0;
        self.visit(&mut |_| count += 1);
        count
    }
}

// === impl Doc ===

impl Doc {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.insert(key.to_owned(), value.into());
    }

    fn some(&mut self, key: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    fn text(&mut self, key: &str, text: Option<&str>) {
        self.some(key, text.map(Value::from));
    }

    fn template(&mut self, key: &str, template: Option<&Template>) {
        self.text(key, template.map(Template::as_str));
    }

    fn span(&mut self, key: &str, span: Option<Span>) {
        self.some(key, span.map(|span| span.to_string().into()));
    }

    fn number(&mut self, key: &str, number: Option<f64>) {
        self.some(key, number.and_then(Number::from_f64).map(Value::Number));
    }

    fn flag(&mut self, key: &str, is_set: bool) {
        if is_set {
            self.put(key, true);
        }
    }

    fn texts(&mut self, key: &str, texts: &[Arc<str>]) {
        if !texts.is_empty() {
            self.put(key, texts.iter().map(|text| Value::from(&**text)).collect::<Vec<_>>());
        }
    }

    /// A map, unless there is nothing in it.
    fn inner(&mut self, key: &str, inner: Doc) {
        if !inner.0.is_empty() {
            self.put(key, inner.0);
        }
    }

    fn failure(&mut self, key: &str, on_failure: OnFailure) {
        match on_failure {
            OnFailure::Fail => {}
            OnFailure::Continue => self.put(key, "continue"),
        }
    }
}

fn conflict(on_conflict: OnConflict) -> &'static str {
    match on_conflict {
        OnConflict::Queue => "queue",
        OnConflict::Reject => "reject",
        OnConflict::CancelOldest => "cancel_oldest",
    }
}

fn steps(list: &[Step]) -> Vec<Value> {
    list.iter().map(step).collect()
}

fn step(step: &Step) -> Value {
    let mut doc = Doc::default();
    doc.put("id", &*step.id);
    doc.text("description", step.description.as_deref());
    let needs: Vec<Arc<str>> = step.needs.iter().map(|(id, _)| id.clone()).collect();
    doc.texts("needs", &needs);
    doc.some("when", step.when.as_ref().map(condition));
    if let Some(ForEach { items, max_parallel, on_item_failure }) = &step.for_each {
        doc.put("for_each", items.as_str());
        doc.put("max_parallel", *max_parallel);
        doc.failure("on_item_failure", *on_item_failure);
    }
    doc.failure("on_failure", step.on_failure);
    match &step.kind {
        Kind::Work(work) => write_work(work, &mut doc),
        Kind::Approval(one) => doc.put("approval", approval(one).0),
        Kind::Delay(Delay::Fixed(span)) => doc.span("delay", Some(*span)),
        Kind::Delay(Delay::Computed(one)) => doc.put("delay", one.as_str()),
        Kind::Until(time) => doc.put("until", time.as_str()),
        Kind::WaitEvent(one) => doc.put("wait_event", wait_event(one).0),
        Kind::Parallel(inner) => doc.put("parallel", steps(inner)),
    }
    if let Some(work) = &step.compensate {
        let mut inner = Doc::default();
        write_work(work, &mut inner);
        doc.inner("compensate", inner);
    }
    Value::Object(doc.0)
}

/// A condition keeps its text without `${` and `}`, which belong to it in a document.
fn condition(one: &Expression) -> Value {
    format!("${{{}}}", one.as_str()).into()
}

fn wait_event(one: &WaitEvent) -> Doc {
    let mut doc = Doc::default();
    doc.put("name", &*one.name);
    doc.some("match", one.matching.as_ref().map(condition));
    doc.span("timeout", one.timeout);
    doc
}

fn approval(one: &Approval) -> Doc {
    let mut doc = Doc::default();
    doc.put("title", one.title.as_str());
    doc.some("details", one.details.as_ref().map(shape));
    doc.texts("approvers", &one.terms.approvers);
    doc.put("quorum", one.terms.quorum);
    doc.span("expires", Some(one.terms.expires));
    doc.put("on_expiry", one.terms.on_expiry.word());
    doc.flag("requester_may_approve", one.terms.requester_may_approve);
    doc
}

fn write_work(work: &Work, doc: &mut Doc) {
    match &work.doer {
        Doer::Topic(topic) => doc.put("topic", &**topic),
        Doer::BuiltIn(name) => doc.put("uses", &**name),
    }
    doc.some("input", work.input.as_ref().map(shape));
    doc.inner("retry", retry(&work.retry));
    doc.inner("timeouts", timeouts(&work.timeouts));
    let mut labels = Doc::default();
    for (key, value) in &work.labels {
        labels.put(key, value.as_str());
    }
    doc.inner("labels", labels);
    let Placement { pool, pool_required, worker_id, worker_required, requires } = &work.placement;
    doc.text("pool", pool.as_deref());
    doc.flag("pool_required", *pool_required);
    doc.text("worker_id", worker_id.as_deref());
    doc.flag("worker_required", *worker_required);
    doc.texts("requires", requires);
    doc.some("priority", work.priority.map(Value::from));
    doc.template("concurrency_key", work.concurrency_key.as_ref());
    doc.template("rate_key", work.rate_key.as_ref());
    doc.template("idempotency_key", work.idempotency_key.as_ref());
    doc.text("capability", work.capability.as_deref());
    doc.texts("risk_tags", &work.risk_tags);
    let Budget { max_tokens, max_cost_micros } = &work.budget;
    let mut budget = Doc::default();
    budget.some("max_tokens", max_tokens.map(Value::from));
    budget.some("max_cost_micros", max_cost_micros.map(Value::from));
    doc.inner("budget", budget);
    doc.some("config", work.config.clone());
}

fn retry(retry: &RetryPolicy) -> Doc {
    let mut doc = Doc::default();
    doc.some("max_attempts", retry.max_attempts.map(Value::from));
    doc.span("initial_backoff", retry.initial_backoff);
    doc.number("multiplier", retry.multiplier);
    doc.span("max_backoff", retry.max_backoff);
    doc.number("jitter", retry.jitter);
    doc.texts("non_retryable_errors", &retry.non_retryable_errors);
    doc
}

fn timeouts(timeouts: &Timeouts) -> Doc {
    let mut doc = Doc::default();
    doc.span("schedule_to_start", timeouts.schedule_to_start);
    doc.span("start_to_close", timeouts.start_to_close);
    doc.span("stall", timeouts.stall);
    doc.span("total", timeouts.total);
    doc
}

fn shape(one: &Shape) -> Value {
    match one {
        Shape::Fixed(value) => value.clone(),
        Shape::Template(template) => template.as_str().into(),
        Shape::List(items) => items.iter().map(shape).collect(),
        Shape::Map(entries) => {
            Value::Object(entries.iter().map(|(key, value)| (key.clone(), shape(value))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    const REVIEW: &str = include_str!("../../../examples/workflows/code-review.yaml");
    /// Every key of the format.
    const EVERYTHING: &str = include_str!("everything.yaml");

    fn read(text: &str) -> Definition {
        parse(text).unwrap_or_else(|problems| panic!("{problems}\n{text}")).definition
    }

    #[test]
    fn the_normal_form_read_again_is_itself() {
        for text in [REVIEW, EVERYTHING] {
            let first = read(text);
            for again in [first.normal().to_string(), format!("{:#}", first.normal())] {
                let second = read(&again);
                assert_eq!(second.normal(), first.normal());
                assert_eq!(second.digest(), first.digest());
                assert_eq!(format!("{:?}", second.topics()), format!("{:?}", first.topics()));
            }
        }
    }

    #[test]
    fn texts_that_say_the_same_have_one_digest() {
        let same = [
            "name: a\nsteps:\n  - id: x\n    topic: job.a\n  - id: y\n    needs: x\n    topic: job.b\n    timeout: 90s\n",
            "# said otherwise\nsteps: [{topic: job.a, id: x}, {topic: \"job.b\", id: y, timeouts: {start_to_close: 1m30s}, needs: [x]}]\nname: 'a'\n",
        ];
        assert_eq!(read(same[0]).digest(), read(same[1]).digest());
        for (what, by) in
            [("job.b", "job.c"), ("90s", "91s"), ("needs: x", "needs: []"), ("name: a", "name: b")]
        {
            assert_ne!(read(&same[0].replace(what, by)).digest(), read(same[0]).digest(), "{by}");
        }
    }

    #[test]
    fn digests_never_change() {
        // They are kept with versions: with another one, applying the same text would make a new version.
        let text =
            "name: a\nsteps: [{id: x, topic: job.a, input: {n: 1.0, b: [null, -2, 9007199254740993]}}]";
        assert_eq!(read(text).digest(), "bf259b1d469d606cbd560c201c9c60a2febcf618358a3412105166dc52a6d931");
    }

    #[test]
    fn every_key_of_the_format_is_kept() {
        use crate::read::{
            APPROVAL_KEYS, BUDGET_KEYS, CONCURRENCY_KEYS, FOR_EACH_KEYS, KEYS, KIND_KEYS, RETRY_KEYS,
            STEP_KEYS, TIMEOUT_KEYS, WAIT_EVENT_KEYS, WORK_KEYS,
        };
        let all = [
            KEYS,
            CONCURRENCY_KEYS,
            STEP_KEYS,
            KIND_KEYS,
            FOR_EACH_KEYS,
            WORK_KEYS,
            RETRY_KEYS,
            TIMEOUT_KEYS,
            BUDGET_KEYS,
            APPROVAL_KEYS,
            WAIT_EVENT_KEYS,
        ]
        .concat();
        let text = read(EVERYTHING).normal().to_string();
        // `timeout` of work has another name in the normal form, and is there of runs and events.
        for key in all.into_iter().chain(["compensate"]) {
            assert!(text.contains(&format!("\"{key}\":")), "{key} is lost");
        }
    }
}
