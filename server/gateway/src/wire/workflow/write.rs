//! The normal form of a workflow as a message. A number that a message cannot keep exactly is not rounded: its path is told.

use crate::wire::json;
use crate::wire::time::duration;
use coretex_contract::{Duration, Struct, Value, v1 as pb};
use coretex_workflow::span;
use pb::workflow_step::Kind;
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;

/// A map of the normal form. Where its keys are missing, so are the fields.
struct Part<'v> {
    fields: &'v Map<String, Json>,
    path: String,
    /// The first path that a message cannot say.
    lost: &'v mut Option<String>,
}

/// The message, or the path of what it cannot say.
pub(crate) fn definition(normal: &Json) -> Result<pb::WorkflowDefinition, String> {
    let mut lost = None;
    let empty = Map::new();
    let fields = normal.as_object().unwrap_or(&empty);
    let mut part = Part { fields, path: String::new(), lost: &mut lost };
    let message = pb::WorkflowDefinition {
        name: part.text("name"),
        description: part.text("description"),
        input_schema: part.object("input_schema"),
        timeout: part.span("timeout"),
        concurrency: part.inner("concurrency", |part| pb::WorkflowConcurrency {
            key: part.text("key"),
            limit: part.count("limit"),
            on_conflict: match part.word("on_conflict") {
                "queue" => pb::WorkflowConflict::Queue,
                "reject" => pb::WorkflowConflict::Reject,
                "cancel_oldest" => pb::WorkflowConflict::CancelOldest,
                _ => pb::WorkflowConflict::Unspecified,
            }
            .into(),
        }),
        steps: part.steps("steps"),
        output: part.value("output"),
        on_failure: part.steps("on_failure"),
    };
    match lost {
        None => Ok(message),
        Some(path) => Err(path),
    }
}

// === impl Part ===

impl<'v> Part<'v> {
    fn get(&self, key: &str) -> Option<&'v Json> {
        self.fields.get(key)
    }

    fn word(&self, key: &str) -> &'v str {
        self.get(key).and_then(Json::as_str).unwrap_or_default()
    }

    fn text(&self, key: &str) -> String {
        self.word(key).to_owned()
    }

    fn texts(&self, key: &str) -> Vec<String> {
        let items = self.get(key).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(Json::as_str).map(str::to_owned).collect()
    }

    fn count(&self, key: &str) -> u32 {
        self.get(key).and_then(Json::as_u64).and_then(|n| u32::try_from(n).ok()).unwrap_or_default()
    }

    fn flag(&self, key: &str) -> bool {
        self.get(key).and_then(Json::as_bool).unwrap_or_default()
    }

    fn whole(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(Json::as_u64)
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.get(key).and_then(Json::as_f64)
    }

    fn span(&self, key: &str) -> Option<Duration> {
        self.get(key).and_then(Json::as_str).and_then(|text| span::parse(text).ok()).map(duration)
    }

    fn failure(&self, key: &str) -> i32 {
        match self.word(key) {
            "fail" => pb::WorkflowFailure::Fail,
            "continue" => pb::WorkflowFailure::Continue,
            _ => pb::WorkflowFailure::Unspecified,
        }
        .into()
    }

    fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn value(&mut self, key: &str) -> Option<Value> {
        let json = self.get(key)?;
        let value = json::value_of(json.clone());
        if value.is_none() {
            let path = self.path(key);
            self.lost.get_or_insert(path);
        }
        value
    }

    fn object(&mut self, key: &str) -> Option<Struct> {
        use coretex_contract::value::Kind;
        match self.value(key)?.kind? {
            Kind::StructValue(object) => Some(object),
            Kind::NullValue(_)
            | Kind::NumberValue(_)
            | Kind::StringValue(_)
            | Kind::BoolValue(_)
            | Kind::ListValue(_) => None,
        }
    }

    fn within(&mut self, fields: &'v Map<String, Json>, path: String) -> Part<'_> {
        Part { fields, path, lost: self.lost }
    }

    fn inner<T>(&mut self, key: &str, read: impl FnOnce(&mut Part<'_>) -> T) -> Option<T> {
        let fields = self.get(key)?.as_object()?;
        let path = self.path(key);
        Some(read(&mut self.within(fields, path)))
    }

    fn steps(&mut self, key: &str) -> Vec<pb::WorkflowStep> {
        let items = self.get(key).and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        let mut steps = Vec::with_capacity(items.len());
        for (n, fields) in items.iter().filter_map(Json::as_object).enumerate() {
            let id = fields.get("id").and_then(Json::as_str).unwrap_or_default();
            let path = format!("{}[{n}]({id})", self.path(key));
            steps.push(self.within(fields, path).step());
        }
        steps
    }

    fn step(&mut self) -> pb::WorkflowStep {
        pb::WorkflowStep {
            id: self.text("id"),
            description: self.text("description"),
            needs: self.texts("needs"),
            when: self.text("when"),
            on_failure: self.failure("on_failure"),
            for_each: self.text("for_each"),
            max_parallel: self.count("max_parallel"),
            on_item_failure: self.failure("on_item_failure"),
            compensate: self.inner("compensate", |part| as_compensation(part.work())),
            ..self.work()
        }
    }

    /// What it does, and the settings of work.
    fn work(&mut self) -> pb::WorkflowStep {
        pb::WorkflowStep {
            kind: self.kind(),
            input: self.value("input"),
            retry: self.inner("retry", |part| part.retry()),
            timeouts: self.inner("timeouts", |part| pb::Timeouts {
                schedule_to_start: part.span("schedule_to_start"),
                start_to_close: part.span("start_to_close"),
                stall: part.span("stall"),
                total: part.span("total"),
            }),
            labels: self.labels(),
            pool: self.text("pool"),
            pool_required: self.flag("pool_required"),
            worker_id: self.text("worker_id"),
            worker_required: self.flag("worker_required"),
            requires: self.texts("requires"),
            priority: self.whole("priority").and_then(|n| i32::try_from(n).ok()),
            concurrency_key: self.text("concurrency_key"),
            rate_key: self.text("rate_key"),
            idempotency_key: self.text("idempotency_key"),
            capability: self.text("capability"),
            risk_tags: self.texts("risk_tags"),
            budget: self.inner("budget", |part| pb::WorkflowBudget {
                max_tokens: part.whole("max_tokens"),
                max_cost_micros: part.whole("max_cost_micros"),
            }),
            config: self.object("config"),
            ..pb::WorkflowStep::default()
        }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let entries = self.get("labels").and_then(Json::as_object).into_iter().flatten();
        let text = |(key, value): (&String, &Json)| Some((key.clone(), value.as_str()?.to_owned()));
        entries.filter_map(text).collect()
    }

    fn retry(&self) -> pb::RetryPolicy {
        pb::RetryPolicy {
            max_attempts: self.whole("max_attempts").and_then(|n| u32::try_from(n).ok()),
            initial_backoff: self.span("initial_backoff"),
            multiplier: self.number("multiplier"),
            max_backoff: self.span("max_backoff"),
            jitter: self.number("jitter"),
            non_retryable_errors: self.texts("non_retryable_errors"),
        }
    }

    fn kind(&mut self) -> Option<Kind> {
        let has = |key: &str| self.fields.contains_key(key);
        if has("topic") {
            return Some(Kind::Topic(self.text("topic")));
        }
        if has("uses") {
            return Some(Kind::Uses(self.text("uses")));
        }
        if has("delay") {
            return Some(match self.span("delay") {
                Some(span) => Kind::Delay(span),
                None => Kind::DelayExpression(self.text("delay")),
            });
        }
        if has("until") {
            return Some(Kind::Until(self.text("until")));
        }
        if has("parallel") {
            return Some(Kind::Parallel(pb::WorkflowGroup { steps: self.steps("parallel") }));
        }
        if has("wait_event") {
            return self.inner("wait_event", |part| {
                Kind::WaitEvent(pb::WorkflowWaitEvent {
                    name: part.text("name"),
                    r#match: part.text("match"),
                    timeout: part.span("timeout"),
                })
            });
        }
        self.inner("approval", |part| Kind::Approval(part.approval()))
    }

    fn approval(&mut self) -> pb::WorkflowApproval {
        pb::WorkflowApproval {
            title: self.text("title"),
            details: self.value("details"),
            approvers: self.texts("approvers"),
            quorum: self.count("quorum"),
            expires: self.span("expires"),
            on_expiry: match self.word("on_expiry") {
                "reject" => pb::ApprovalExpiry::Reject,
                "approve" => pb::ApprovalExpiry::Approve,
                _ => pb::ApprovalExpiry::Unspecified,
            }
            .into(),
            requester_may_approve: self.flag("requester_may_approve"),
        }
    }
}

/// The fields of a compensation are those of a step.
fn as_compensation(step: pb::WorkflowStep) -> pb::WorkflowCompensation {
    use pb::workflow_compensation::Kind as Undo;
    pb::WorkflowCompensation {
        kind: match step.kind {
            Some(Kind::Topic(topic)) => Some(Undo::Topic(topic)),
            Some(Kind::Uses(name)) => Some(Undo::Uses(name)),
            _ => None,
        },
        input: step.input,
        retry: step.retry,
        timeouts: step.timeouts,
        labels: step.labels,
        pool: step.pool,
        pool_required: step.pool_required,
        worker_id: step.worker_id,
        worker_required: step.worker_required,
        requires: step.requires,
        priority: step.priority,
        concurrency_key: step.concurrency_key,
        rate_key: step.rate_key,
        idempotency_key: step.idempotency_key,
        capability: step.capability,
        risk_tags: step.risk_tags,
        budget: step.budget,
        config: step.config,
    }
}
