//! What a run does next, worked out from its values: pure, and the same wherever it is asked.
//!
//! In: a site, how the run stands, and the pieces it needs. Out: what is to be done there. A site that has no value
//! gives the trouble its step fails with.

use crate::expression::{Expression, Read};
use crate::facts::{Facts, Piece, Pieces, Stand, event_of, needed};
use crate::limits::{
    EXPRESSION_COST_BESIDE_MAX, EXPRESSION_COST_MAX, ITEMS_MAX, STEP_COST_BESIDE_MAX, STEP_COST_MAX,
    TIMER_MAX,
};
use crate::model::{Approval, Definition, Delay, Kind, Step, Work};
use crate::plan::{Plan, Planned};
use coretex_cel::{Fault, Purse};
use coretex_domain::config::Chain;
use coretex_domain::filter::parse_time;
use coretex_domain::job::Spec;
use coretex_domain::limits::{KEY_LEN_MAX, LABEL_LEN_MAX, LABELS_MAX, PAYLOAD_MAX, RUN_VALUE_MAX};
use coretex_domain::run::{At, Run, Trouble};
use coretex_domain::{Payload, Span, Time};
use serde_json::{Value as Json, json};
use std::sync::Arc;

/// A place in a run where values decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Site {
    /// A step may begin.
    Begin(At),
    /// So many items of a step, from one on.
    Items { at: At, first: u32, count: u32 },
    /// What was done is to be undone.
    Undo(At, Option<u32>),
    /// A step waits for a signal, and there are some.
    Hear(At),
    /// All steps are over.
    Output,
}

/// What working out a site may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Others wait meanwhile.
    Loop,
    Beside,
}

/// What is to be done at a site.
#[derive(Clone, Debug)]
pub enum Decided {
    /// Its condition does not hold.
    Skip,
    Job(Box<Spec>),
    /// A question to people, as the input of a job.
    Approval(Box<Spec>),
    /// What the step is done for: a list.
    Items(Arc<Json>),
    Timer(Time),
    Signal {
        due: Option<Time>,
    },
    Group,
    /// A job for each item.
    Jobs(Vec<Spec>),
    /// The signal a step gets, by its number in the history.
    Heard(Option<u64>),
    /// JSON.
    Output(Option<Arc<str>>),
}

/// What writing out one output may cost: it was paid for when it was made.
const TAKE_OVER_COST_MAX: u32 = 100_000_000;

type Labels = Vec<(Arc<str>, Arc<str>)>;
type Outcome<T> = Result<T, Box<Trouble>>;

// === impl Plan: what a site needs, and gives ===

impl Plan {
    /// The pieces that must be at hand to decide a site.
    pub fn pieces(&self, run: &Run, site: &Site) -> Vec<Piece> {
        let Some((stand, reads)) = self.reads(run, site) else { return Vec::new() };
        let mut pieces = needed(self, run, stand, reads);
        if let Site::Items { at, .. } = site {
            pieces.push(Piece::Items(*at));
        }
        pieces
    }

    /// Decides a site. Every piece of [`Plan::pieces`] must be among `pieces`.
    pub fn decide(
        &self,
        run: &Run,
        site: &Site,
        pieces: &Pieces,
        (now, bound): (Time, Bound),
    ) -> Outcome<Decided> {
        let purse = &bound.purse();
        let Some((stand, reads)) = self.reads(run, site) else { return Ok(Decided::Skip) };
        let told = |fault: Fault| self.trouble(run, stand, &fault);
        match site {
            Site::Begin(at) => {
                let Some(planned) = self.step(run, *at) else { return Ok(Decided::Skip) };
                let facts = Facts::new(self, run, stand, reads, pieces).map_err(told)?;
                begin(&With { run, planned, facts: &facts, purse }, now).map_err(told)
            }
            Site::Items { at, first, count } => {
                let Some(planned) = self.step(run, *at) else { return Ok(Decided::Skip) };
                let Kind::Work(work) = &planned.step.kind else { return Ok(Decided::Skip) };
                let mut specs = Vec::with_capacity(*count as usize);
                for index in *first..first + count {
                    let stand = Stand { at: *at, index: Some(index) };
                    let told = |fault: Fault| self.trouble(run, stand, &fault);
                    let facts = Facts::new(self, run, stand, reads, pieces).map_err(told)?;
                    let with = With { run, planned, facts: &facts, purse: &bound.purse() };
                    specs.push(spec(&with, work, planned.topic.as_ref()).map_err(told)?);
                }
                Ok(Decided::Jobs(specs))
            }
            Site::Undo(at, _) => {
                let Some(planned) = self.step(run, *at) else { return Ok(Decided::Skip) };
                let Some(work) = &planned.step.compensate else { return Ok(Decided::Skip) };
                let facts = Facts::new(self, run, stand, reads, pieces).map_err(told)?;
                let with = With { run, planned, facts: &facts, purse };
                let spec = spec(&with, work, planned.undo_topic.as_ref()).map_err(told)?;
                Ok(Decided::Job(Box::new(spec)))
            }
            Site::Hear(at) => self.hears(run, *at, pieces, bound).map(Decided::Heard),
            Site::Output => {
                let Some(output) = &self.definition.output else { return Ok(Decided::Output(None)) };
                let facts = Facts::new(self, run, stand, reads, pieces).map_err(told)?;
                let value = output.value(&facts, purse).map_err(told)?;
                let text = text_of(&value, "output", RUN_VALUE_MAX).map_err(told)?;
                Ok(Decided::Output(Some(text.into())))
            }
        }
    }

    /// The first of the signals a step waits for; by its number in the history.
    fn hears(&self, run: &Run, at: At, pieces: &Pieces, bound: Bound) -> Outcome<Option<u64>> {
        let Some(planned) = self.step(run, at) else { return Ok(None) };
        let Kind::WaitEvent(wait) = &planned.step.kind else { return Ok(None) };
        let stand = Stand { at, index: None };
        for (seq, signal) in run.signals.iter().filter(|(_, signal)| signal.name == wait.name) {
            let Some(matching) = &wait.matching else { return Ok(Some(*seq)) };
            let event = event_of(signal);
            let told = |fault: Fault| self.trouble(run, stand, &fault);
            let facts = Facts::new(self, run, stand, &planned.reads.hear, pieces).map_err(told)?;
            let facts = facts.with_event(&event);
            // What has no value for this signal does not match it.
            if matching.value(&facts, &bound.purse()).is_ok_and(|holds| holds == Json::Bool(true)) {
                return Ok(Some(*seq));
            }
        }
        Ok(None)
    }

    /// What runs with the same text share, if they share anything; worked out from the input and the labels of a run.
    pub fn concurrency_key(&self, run: &Run, pieces: &Pieces) -> Outcome<Option<String>> {
        let Some(concurrency) = &self.definition.concurrency else { return Ok(None) };
        let stand = Stand { at: At { scope: 0, place: u32::MAX }, index: None };
        let told = |fault: Fault| self.trouble(run, stand, &fault);
        let facts = Facts::new(self, run, stand, &[], pieces).map_err(told)?;
        let key = concurrency.key.text(&facts, &Bound::Beside.purse()).map_err(told)?;
        match key.len() {
            1..=KEY_LEN_MAX => Ok(Some(key)),
            n => Err(told(Fault::limit(format!("concurrency.key: {n} bytes, 1..={KEY_LEN_MAX} wanted")))),
        }
    }

    /// What a step of a run gave, as a later run takes it over.
    pub fn output_of(&self, run: &Run, at: At, pieces: &Pieces) -> Outcome<Json> {
        let told = |fault: Fault| self.trouble(run, Stand { at, index: None }, &fault);
        let value = crate::facts::output_of(self, run, at, pieces).map_err(told)?;
        let purse = Purse::new(TAKE_OVER_COST_MAX, TAKE_OVER_COST_MAX, "the outputs that are taken over");
        value.to_json(&mut purse.meter()).map_err(told)
    }

    /// The pieces the output of a step is made of.
    pub fn pieces_of_output(&self, run: &Run, at: At) -> Vec<Piece> {
        let mut found = Vec::new();
        crate::facts::pieces_of(run, at, &mut found);
        found
    }

    fn trouble(&self, run: &Run, stand: Stand, fault: &Fault) -> Box<Trouble> {
        let kind = if fault.is_limit() { "EXPRESSION_LIMIT" } else { "EXPRESSION" };
        let step = if run.scope(stand.at.scope).is_some() {
            self.job_path(run, stand.at, stand.index, false)
        } else {
            String::new()
        };
        Box::new(Trouble { step: step.into(), kind: kind.into(), message: fault.to_string().into() })
    }

    /// Where a site stands, and all that its expressions read.
    fn reads(&self, run: &Run, site: &Site) -> Option<(Stand, &[Read])> {
        Some(match site {
            Site::Begin(at) => (Stand { at: *at, index: None }, &self.step(run, *at)?.reads.begin),
            Site::Items { at, first, .. } => {
                (Stand { at: *at, index: Some(*first) }, &self.step(run, *at)?.reads.item)
            }
            Site::Undo(at, index) => (Stand { at: *at, index: *index }, &self.step(run, *at)?.reads.undo),
            Site::Hear(at) => (Stand { at: *at, index: None }, &self.step(run, *at)?.reads.hear),
            // Beside every step: it looks back on all of them.
            Site::Output => (Stand { at: At { scope: 0, place: u32::MAX }, index: None }, &self.output_reads),
        })
    }
}

/// One place where expressions are evaluated.
struct With<'w> {
    run: &'w Run,
    planned: &'w Planned,
    facts: &'w Facts<'w>,
    purse: &'w Purse,
}

fn begin(with: &With<'_>, now: Time) -> Result<Decided, Fault> {
    let step = &with.planned.step;
    if let Some(when) = &step.when
        && when.value(with.facts, with.purse)? == Json::Bool(false)
    {
        return Ok(Decided::Skip);
    }
    if let Some(each) = &step.for_each {
        return items(each.items.value(with.facts, with.purse)?).map(|items| Decided::Items(Arc::new(items)));
    }
    match &step.kind {
        Kind::Work(work) => Ok(Decided::Job(Box::new(spec(with, work, with.planned.topic.as_ref())?))),
        Kind::Approval(approval) => question(with, approval).map(Decided::Approval),
        Kind::Delay(delay) => length(delay, with).map(|span| Decided::Timer(now + span)),
        Kind::Until(text) => {
            let text = text.text(with.facts, with.purse)?;
            let at = parse_time(&text).map_err(|told| Fault::new(format!("until: {told}")))?;
            within(at.since(now), "until")?;
            Ok(Decided::Timer(at.max(now)))
        }
        Kind::WaitEvent(wait) => Ok(Decided::Signal { due: wait.timeout.map(|span| now + span) }),
        Kind::Parallel(_) => Ok(Decided::Group),
    }
}

// === what a step reads, found once ===

/// All that the expressions of a step read, by what is asked of it.
#[derive(Debug, Default)]
pub(crate) struct StepReads {
    begin: Vec<Read>,
    item: Vec<Read>,
    undo: Vec<Read>,
    hear: Vec<Read>,
}

impl StepReads {
    pub(crate) fn of(step: &Step) -> StepReads {
        let mut reads = StepReads::default();
        let work = |into: &mut Vec<Read>| each_of(&step.kind, &mut |one| into.extend(one.reads()));
        reads.begin.extend(step.when.iter().flat_map(Expression::reads));
        match &step.for_each {
            Some(each) => {
                reads.begin.extend(each.items.reads());
                work(&mut reads.item);
            }
            None => work(&mut reads.begin),
        }
        if let Some(undo) = &step.compensate {
            each_of_work(undo, &mut |one| reads.undo.extend(one.reads()));
        }
        if let Kind::WaitEvent(wait) = &step.kind {
            reads.hear.extend(wait.matching.iter().flat_map(Expression::reads));
        }
        reads
    }
}

/// All that the output of a workflow reads.
pub(crate) fn reads_of_output(definition: &Definition) -> Vec<Read> {
    let mut reads = Vec::new();
    if let Some(output) = &definition.output {
        output.each(&mut |one| reads.extend(one.reads()));
    }
    reads
}

impl Bound {
    fn purse(self) -> Purse {
        let (each, all) = match self {
            Bound::Loop => (EXPRESSION_COST_MAX, STEP_COST_MAX),
            Bound::Beside => (EXPRESSION_COST_BESIDE_MAX, STEP_COST_BESIDE_MAX),
        };
        Purse::new(each, all, "the expressions of one step")
    }
}

// === what is evaluated ===

fn each_of(kind: &Kind, add: &mut dyn FnMut(&Expression)) {
    match kind {
        Kind::Work(work) => each_of_work(work, add),
        Kind::Approval(approval) => {
            approval.title.expression().iter().for_each(&mut *add);
            if let Some(details) = &approval.details {
                details.each(add);
            }
        }
        Kind::Delay(Delay::Computed(expression)) => add(expression),
        Kind::Until(text) => text.expression().iter().for_each(add),
        // What a signal must be is asked when there is one.
        Kind::Delay(Delay::Fixed(_)) | Kind::WaitEvent(_) | Kind::Parallel(_) => {}
    }
}

fn each_of_work(work: &Work, add: &mut dyn FnMut(&Expression)) {
    if let Some(input) = &work.input {
        input.each(add);
    }
    let keys = [&work.concurrency_key, &work.rate_key, &work.idempotency_key];
    let texts = work.labels.iter().map(|(_, text)| text).chain(keys.into_iter().flatten());
    texts.for_each(|text| text.expression().iter().for_each(&mut *add));
}

fn items(value: Json) -> Result<Json, Fault> {
    let items = match value {
        Json::Array(items) => items,
        Json::Object(map) => {
            map.into_iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
        }
        Json::Null => return Err(Fault::new("for_each: it gives null; a list or a map is wanted")),
        other => {
            let kind = crate::expression::kind_of(&other);
            return Err(Fault::new(format!("for_each: it gives {kind}; a list or a map is wanted")));
        }
    };
    if items.len() > ITEMS_MAX {
        return Err(Fault::limit(format!("for_each: {} items, at most {ITEMS_MAX}", items.len())));
    }
    Ok(Json::Array(items))
}

fn length(delay: &Delay, with: &With<'_>) -> Result<Span, Fault> {
    let expression = match delay {
        Delay::Fixed(span) => return Ok(*span),
        Delay::Computed(expression) => expression,
    };
    let span = match expression.value(with.facts, with.purse)? {
        Json::String(text) => {
            coretex_document::span::parse(&text).map_err(|told| Fault::new(format!("delay: {told}")))?
        }
        Json::Number(number) => {
            let seconds = number.as_f64().unwrap_or(-1.0);
            if !(0.0..=TIMER_MAX.0 as f64 / 1_000.0).contains(&seconds) {
                return Err(Fault::new(format!("delay: {seconds} seconds is not within 0..={TIMER_MAX}")));
            }
            // In range, so nothing is cut but a part of a millisecond.
            Span((seconds * 1_000.0).ceil() as u64)
        }
        other => {
            let kind = crate::expression::kind_of(&other);
            return Err(Fault::new(format!(
                "delay: it gives {kind}; a text as in 5m or a number of seconds is wanted"
            )));
        }
    };
    within(span, "delay").map(|()| span)
}

fn within(span: Span, what: &str) -> Result<(), Fault> {
    if span > TIMER_MAX {
        return Err(Fault::limit(format!("{what}: {span} from now, at most {TIMER_MAX}")));
    }
    Ok(())
}

fn text_of(value: &Json, what: &str, most: usize) -> Result<String, Fault> {
    let text = value.to_string();
    if text.len() > most {
        return Err(Fault::limit(format!("{what}: {} bytes of JSON, at most {most}", text.len())));
    }
    Ok(text)
}

// === jobs ===

fn spec(with: &With<'_>, work: &Work, topic: Option<&Arc<str>>) -> Result<Spec, Fault> {
    let With { facts, purse, .. } = with;
    let payload = match &work.input {
        Some(input) => Payload::json(text_of(&input.value(*facts, purse)?, "input", PAYLOAD_MAX)?),
        None => Payload::empty(),
    };
    let mut spec = Spec::new(topic.cloned().unwrap_or_default(), payload);
    spec.priority = work.priority.unwrap_or(spec.priority);
    let key = |text: &Option<crate::Template>, name: &str| -> Result<Option<Arc<str>>, Fault> {
        let Some(text) = text else { return Ok(None) };
        let text = text.text(*facts, purse)?;
        match text.len() {
            1..=KEY_LEN_MAX => Ok(Some(text.into())),
            n => Err(Fault::limit(format!("{name}: {n} bytes, 1..={KEY_LEN_MAX} wanted"))),
        }
    };
    let (concurrency, rate) =
        (key(&work.concurrency_key, "concurrency_key")?, key(&work.rate_key, "rate_key")?);
    let labels = labels(with, work)?;
    let options = spec.options_mut();
    options.labels = labels;
    options.retry = work.retry.clone();
    options.timeouts = work.timeouts.clone();
    options.concurrency_key = concurrency;
    options.rate_key = rate;
    options.idempotency_key = key(&work.idempotency_key, "idempotency_key")?;
    options.placement = work.placement.clone();
    options.metadata.capability.clone_from(&work.capability);
    options.metadata.risk_tags.clone_from(&work.risk_tags);
    options.budget = work.budget.clone();
    Ok(spec)
}

/// Those of the run, where the step says nothing else; and the workflow and the step, which configuration goes by.
fn labels(with: &With<'_>, work: &Work) -> Result<Labels, Fault> {
    let With { run, planned, facts, purse } = with;
    let mut labels: Labels = Vec::with_capacity(run.plea.labels.len() + work.labels.len() + 2);
    let mut put = |key: Arc<str>, value: Arc<str>| match labels.iter_mut().find(|(known, _)| *known == key) {
        Some(known) => known.1 = value,
        None => labels.push((key, value)),
    };
    run.plea.labels.iter().for_each(|(key, value)| put(key.clone(), value.clone()));
    for (key, text) in &work.labels {
        let value = text.text(*facts, purse)?;
        if value.len() > LABEL_LEN_MAX {
            let told = format!("labels.{key}: {} bytes, at most {LABEL_LEN_MAX}", value.len());
            return Err(Fault::limit(told));
        }
        put(key.clone(), value.into());
    }
    put("workflow".into(), run.plea.workflow.clone());
    put("step".into(), planned.id().clone());
    if labels.len() > LABELS_MAX {
        let told = format!(
            "labels: {} with those of the run, the workflow and the step; at most {LABELS_MAX}",
            labels.len()
        );
        return Err(Fault::limit(told));
    }
    labels.sort_unstable();
    debug_assert!(Chain::of_labels(&labels).step.is_some());
    Ok(labels)
}

fn question(with: &With<'_>, approval: &Approval) -> Result<Box<Spec>, Fault> {
    let With { run, planned, facts, purse } = with;
    let title = approval.title.text(*facts, purse)?;
    let mut asked = json!({ "title": title, "workflow": *run.plea.workflow, "run_id": run.id().as_str(), "step": **planned.id() });
    if let Some(details) = &approval.details {
        asked["details"] = details.value(*facts, purse)?;
    }
    let payload = Payload::json(text_of(&asked, "details", PAYLOAD_MAX)?);
    let mut spec = Spec::new(planned.topic.clone().unwrap_or_default(), payload);
    let options = spec.options_mut();
    let mut labels = run.plea.labels.clone();
    labels.retain(|(key, _)| !matches!(&**key, "workflow" | "step"));
    labels.push(("workflow".into(), run.plea.workflow.clone()));
    labels.push(("step".into(), planned.id().clone()));
    labels.sort_unstable();
    options.labels = labels;
    Ok(Box::new(spec))
}

// === impl Planned: what few steps have ===

impl Planned {
    /// Who may answer, if it asks people.
    pub fn terms(&self) -> Option<&coretex_domain::policy::ApprovalTerms> {
        match &self.step.kind {
            Kind::Approval(approval) => Some(&approval.terms),
            Kind::Work(_) | Kind::Delay(_) | Kind::Until(_) | Kind::WaitEvent(_) | Kind::Parallel(_) => None,
        }
    }

    /// What it lays over the configuration of its run.
    pub fn own_config(&self, is_undo: bool) -> Option<&Json> {
        match (&self.step.kind, is_undo) {
            (_, true) => self.step.compensate.as_ref()?.config.as_ref(),
            (Kind::Work(work), false) => work.config.as_ref(),
            _ => None,
        }
    }
}
