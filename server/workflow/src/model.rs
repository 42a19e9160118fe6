//! A workflow as read: what its author wrote, in the words of the contract. Nothing here was checked against the rest of
//! the workflow; that is [`crate::check`]'s.

use crate::expression::{Expression, Shape, Template};
use coretex_domain::Span;
use coretex_domain::config::Schema;
use coretex_domain::job::spec::{Budget, Placement, RetryPolicy, Timeouts};
use coretex_domain::policy::ApprovalTerms;
use serde_json::Value;
use std::sync::Arc;

/// A line and a column of the text, from 1; 0 where there is none.
pub type Place = (u64, u64);

/// A workflow.
#[derive(Clone, Debug)]
pub struct Definition {
    pub name: Arc<str>,
    pub description: Option<Arc<str>>,
    /// What a run must be given; none: anything.
    pub input: Option<InputSchema>,
    /// Of a whole run; none: no limit but that of its steps.
    pub timeout: Option<Span>,
    pub concurrency: Option<Concurrency>,
    pub steps: Vec<Step>,
    /// What a run gives; none: nothing.
    pub output: Option<Shape>,
    /// What is done once a run has failed.
    pub on_failure: Vec<Step>,
}

/// What a run must be given.
#[derive(Clone, Debug)]
pub struct InputSchema {
    /// As written.
    pub value: Value,
    /// Ready to judge by.
    pub schema: Schema,
}

/// How many runs that share a key go on at a time.
#[derive(Clone, Debug)]
pub struct Concurrency {
    pub key: Template,
    pub limit: u32,
    pub on_conflict: OnConflict,
}

/// What becomes of a run that finds its key taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnConflict {
    #[default]
    Queue,
    Reject,
    CancelOldest,
}

/// One step.
#[derive(Clone, Debug)]
pub struct Step {
    pub id: Arc<str>,
    /// Where its id stands.
    pub place: Place,
    pub description: Option<Arc<str>>,
    /// Steps of the same list that must be over before.
    pub needs: Vec<(Arc<str>, Place)>,
    /// Whether it is done at all.
    pub when: Option<Expression>,
    pub for_each: Option<ForEach>,
    pub on_failure: OnFailure,
    pub kind: Kind,
    pub compensate: Option<Box<Work>>,
}

/// Whether the failure of a step is the failure of what it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    #[default]
    Fail,
    Continue,
}

/// A step done once for each item of a list.
#[derive(Clone, Debug)]
pub struct ForEach {
    pub items: Expression,
    /// Items at a time.
    pub max_parallel: u32,
    pub on_item_failure: OnFailure,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Kind {
    Work(Box<Work>),
    Approval(Box<Approval>),
    /// Waits for a length of time, written or computed.
    Delay(Delay),
    /// Waits until a time, as RFC 3339.
    Until(Template),
    WaitEvent(Box<WaitEvent>),
    /// Steps of their own, under one id.
    Parallel(Vec<Step>),
}

/// How long a timer runs.
#[derive(Clone, Debug)]
pub enum Delay {
    Fixed(Span),
    /// Gives a text as in `5m`, or a number of seconds.
    Computed(Expression),
}

/// Who does the work of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Doer {
    /// A worker that serves this topic.
    Topic(Arc<str>),
    /// A step of the step library, run by the server.
    BuiltIn(Arc<str>),
}

/// Work: a job, or a step of the step library.
#[derive(Clone, Debug)]
pub struct Work {
    pub doer: Doer,
    pub input: Option<Shape>,
    pub retry: RetryPolicy,
    pub timeouts: Timeouts,
    pub labels: Vec<(Arc<str>, Template)>,
    pub placement: Placement,
    pub priority: Option<u8>,
    pub concurrency_key: Option<Template>,
    pub rate_key: Option<Template>,
    pub idempotency_key: Option<Template>,
    pub capability: Option<Arc<str>>,
    pub risk_tags: Vec<Arc<str>>,
    pub budget: Budget,
    /// Laid over the configuration of the run.
    pub config: Option<Value>,
}

/// A question to people.
#[derive(Clone, Debug)]
pub struct Approval {
    pub title: Template,
    /// What they are asked about; its hash is what they answer for.
    pub details: Option<Shape>,
    /// Who may answer, how many must, and what becomes of it when nobody does.
    pub terms: ApprovalTerms,
}

/// A wait for a signal to the run.
#[derive(Clone, Debug)]
pub struct WaitEvent {
    pub name: Arc<str>,
    /// Which of them; none: the first.
    pub matching: Option<Expression>,
    /// None: as long as the run may take.
    pub timeout: Option<Span>,
}

// === impl Step ===

impl Step {
    /// The steps in it, if it is a group.
    pub fn inner(&self) -> &[Step] {
        match &self.kind {
            Kind::Parallel(steps) => steps,
            Kind::Work(_) | Kind::Approval(_) | Kind::Delay(_) | Kind::Until(_) | Kind::WaitEvent(_) => &[],
        }
    }

    /// The key that says what it does.
    pub fn word(&self) -> &'static str {
        match &self.kind {
            Kind::Work(work) => match work.doer {
                Doer::Topic(_) => "topic",
                Doer::BuiltIn(_) => "uses",
            },
            Kind::Approval(_) => "approval",
            Kind::Delay(_) => "delay",
            Kind::Until(_) => "until",
            Kind::WaitEvent(_) => "wait_event",
            Kind::Parallel(_) => "parallel",
        }
    }
}

// === impl Definition ===

impl Definition {
    /// Shows every step, a group before the steps in it, those of `on_failure` last.
    pub fn visit<'d>(&'d self, visit: &mut dyn FnMut(&'d Step)) {
        fn walk<'d>(steps: &'d [Step], visit: &mut dyn FnMut(&'d Step)) {
            for step in steps {
                visit(step);
                walk(step.inner(), visit);
            }
        }
        walk(&self.steps, visit);
        walk(&self.on_failure, visit);
    }

    /// Topics its steps and compensations are sent to, each once, in order.
    pub fn topics(&self) -> Vec<Arc<str>> {
        let mut topics = std::collections::BTreeSet::new();
        self.visit(&mut |step| {
            let own = match &step.kind {
                Kind::Work(work) => Some(work),
                Kind::Approval(_)
                | Kind::Delay(_)
                | Kind::Until(_)
                | Kind::WaitEvent(_)
                | Kind::Parallel(_) => None,
            };
            for work in own.into_iter().chain(&step.compensate) {
                if let Doer::Topic(topic) = &work.doer {
                    topics.insert(topic.clone());
                }
            }
        });
        topics.into_iter().collect()
    }
}
