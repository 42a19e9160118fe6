//! What expressions read: names that are there, of steps that are over by then.

use super::order::{Chain, Lists};
use super::{Findings, Found, path_of};
use crate::expression::{Expression, Key, Read, Template, root};
use crate::model::{Definition, Delay, Kind, Step, Work};
use coretex_cel::Kinds;
use coretex_domain::names::shown;
use coretex_domain::nearest::hint;
use std::sync::Arc;

/// Fields of a step in an expression.
pub(super) const STEP_FIELDS: [&str; 5] = ["output", "state", "attempts", "error", "item_outputs"];

/// Where an expression stands, as far as that decides what it may read.
#[derive(Clone, Copy)]
pub(super) struct Site<'s> {
    /// The step it belongs to; none: it is read when all steps are over.
    chain: Option<&'s Chain>,
    /// It is read once the step itself is over.
    is_after_own: bool,
    has_item: bool,
    has_event: bool,
    has_steps: bool,
}

pub(super) struct Reads<'c, 'd> {
    pub(super) definition: &'d Definition,
    lists: &'c Lists,
    pub(super) found: &'c Found<'d>,
    pub(super) findings: &'c mut Findings,
    /// Groups that are done for each item.
    groups: Vec<(Arc<str>, Chain)>,
}

pub(super) fn check(definition: &Definition, lists: &Lists, found: &Found<'_>, findings: &mut Findings) {
    let is_of_items = |step: &Step| step.for_each.is_some() && !step.inner().is_empty();
    let groups = found.values().filter(|(step, _)| is_of_items(step));
    let groups = groups.map(|(step, chain)| (step.id.clone(), chain.clone())).collect();
    let mut reads = Reads { definition, lists, found, findings, groups };
    let nowhere =
        Site { chain: None, is_after_own: false, has_item: false, has_event: false, has_steps: false };
    if let Some(concurrency) = &definition.concurrency {
        reads.template(&concurrency.key, "concurrency.key", nowhere);
    }
    let steps = Site { has_steps: true, ..nowhere };
    reads.steps(&definition.steps, "steps", steps);
    reads.steps(&definition.on_failure, "on_failure", steps);
    if let Some(output) = &definition.output {
        output.each(&mut |one| reads.expression(one, "output", steps));
    }
}

impl Reads<'_, '_> {
    fn steps(&mut self, steps: &[Step], list: &str, outer: Site<'_>) {
        for (n, step) in steps.iter().enumerate() {
            let path = path_of(list, n, step);
            let found = self.found;
            // A second step of the same id has no place of its own; that is told already.
            let Some((_, chain)) = found.get(&step.id).filter(|(first, _)| std::ptr::eq(*first, step)) else {
                continue;
            };
            let before = Site { chain: Some(chain), ..outer };
            if let Some(when) = &step.when {
                self.expression(when, &format!("{path}.when"), before);
            }
            if let Some(each) = &step.for_each {
                let list = Kinds::LIST.or(Kinds::MAP);
                self.wanted(&each.items, &format!("{path}.for_each"), before, list, "a list or a map");
            }
            let own = Site { has_item: outer.has_item || step.for_each.is_some(), ..before };
            self.kind(step, &path, own);
            if let Some(work) = &step.compensate {
                self.work(work, &format!("{path}.compensate"), Site { is_after_own: true, ..own });
            }
        }
    }

    fn kind(&mut self, step: &Step, path: &str, site: Site<'_>) {
        let at = format!("{path}.{}", step.word());
        match &step.kind {
            Kind::Work(work) => self.work(work, path, site),
            Kind::Approval(approval) => {
                self.template(&approval.title, &format!("{at}.title"), site);
                if let Some(details) = &approval.details {
                    details.each(&mut |one| self.expression(one, &format!("{at}.details"), site));
                }
            }
            Kind::Delay(Delay::Computed(one)) => {
                let length = Kinds::NUMBER.or(Kinds::TEXT);
                self.wanted(one, &at, site, length, "a text as in 5m, or a number of seconds,");
            }
            Kind::Delay(Delay::Fixed(_)) => {}
            Kind::Until(time) => self.template(time, &at, site),
            Kind::WaitEvent(wait) => {
                if let Some(one) = &wait.matching {
                    self.expression(one, &format!("{at}.match"), Site { has_event: true, ..site });
                }
            }
            Kind::Parallel(steps) => self.steps(steps, &at, site),
        }
    }

    fn work(&mut self, work: &Work, path: &str, site: Site<'_>) {
        if let Some(input) = &work.input {
            input.each(&mut |one| self.expression(one, &format!("{path}.input"), site));
        }
        for (key, value) in &work.labels {
            self.template(value, &format!("{path}.labels.{key}"), site);
        }
        let keys = [
            ("concurrency_key", &work.concurrency_key),
            ("rate_key", &work.rate_key),
            ("idempotency_key", &work.idempotency_key),
        ];
        for (name, key) in keys {
            if let Some(key) = key {
                self.template(key, &format!("{path}.{name}"), site);
            }
        }
    }

    fn template(&mut self, one: &Template, path: &str, site: Site<'_>) {
        if let Some(one) = one.expression() {
            self.expression(&one, path, site);
        }
    }

    fn expression(&mut self, one: &Expression, path: &str, site: Site<'_>) {
        self.wanted(one, path, site, Kinds::ANY, "");
    }

    /// Checks an expression of which a kind of value is wanted.
    fn wanted(&mut self, one: &Expression, path: &str, site: Site<'_>, wanted: Kinds, what: &str) {
        let mut is_sound = true;
        for read in one.reads() {
            if let Err(told) = self.read(&read, site) {
                is_sound = false;
                self.findings.problem(one.place(), path, format!("position {}: {told}", read.at));
            } else {
                self.doubt(one, &read, path);
            }
        }
        // A name that is not there has no kind either; one mistake is told once.
        if !is_sound {
            return;
        }
        let is_after_failure =
            site.chain.is_some_and(|chain| chain.0.first().is_none_or(|(list, _)| *list != 0));
        match one.check(&|root, path| self.kinds_of(root, path, is_after_failure || site.is_after_own)) {
            Err(told) => self.findings.problem(one.place(), path, told),
            Ok(kinds) if !kinds.meets(wanted) => {
                self.findings.problem(one.place(), path, format!("gives {kinds}, where {what} is wanted"));
            }
            Ok(_) => {}
        }
    }

    fn read(&self, read: &Read, site: Site<'_>) -> Result<(), String> {
        match read.number {
            root::ITEM | root::INDEX if !site.has_item => {
                Err(format!("`{}` is only there for the items of a `for_each`", read.root))
            }
            root::EVENT if !site.has_event => {
                Err("`event` is only there in the `match` of a `wait_event`".into())
            }
            root::STEPS if !site.has_steps => Err("no step is over when this is read".into()),
            root::STEPS => self.step(read, site),
            _ => Ok(()),
        }
    }

    fn step(&self, read: &Read, site: Site<'_>) -> Result<(), String> {
        let Some(Key::Field(id)) = read.path.first() else {
            return Err(
                "a step is read by its name, as in steps.fetch.output or steps[\"fetch-all\"].output".into(),
            );
        };
        let Some((step, chain)) = self.found.get(id) else {
            let names = self.found.keys().map(|name| &**name);
            return Err(format!("there is no step {}{}", shown(id), hint(id, names)));
        };
        field_of(&format!("steps.{id}"), &STEP_FIELDS, read.path.get(1))?;
        if let Some(Key::Field(field)) = read.path.get(1)
            && **field == *"item_outputs"
            && step.for_each.is_none()
        {
            return Err(format!(
                "the step {id} has no `for_each`, so it has no item_outputs; read its output"
            ));
        }
        self.is_over(id, chain, site)
    }

    /// Whether a step is surely over where it is read.
    fn is_over(&self, id: &str, chain: &Chain, site: Site<'_>) -> Result<(), String> {
        let Some(own) = site.chain else { return self.is_single(id, chain, 0) };
        for (level, (list, n)) in chain.0.iter().enumerate() {
            let Some((own_list, own_n)) = own.0.get(level) else {
                return Err(format!(
                    "the step {id} is inside of this one; read the output of this step after it"
                ));
            };
            if list != own_list {
                // What is done after a failure looks back on everything.
                let is_after_failure = level == 0 && *list == 0;
                return match is_after_failure {
                    true => self.is_single(id, chain, 0),
                    false => Err(format!("the step {id} is done after a failure, and this is not")),
                };
            }
            if n == own_n {
                continue;
            }
            return match self.lists.is_before(*list, *n, *own_n) {
                true => self.is_single(id, chain, level),
                false => Err(format!("the step {id} is not over when this is read; put it into `needs`")),
            };
        }
        if own.0.len() > chain.0.len() {
            return Err(format!("the step {id} is the group this one is in; it is not over yet"));
        }
        if site.is_after_own { Ok(()) } else { Err(format!("the step {id} cannot read itself")) }
    }

    /// A step in a group that is done for each item is not one step; only its group can be read from outside.
    fn is_single(&self, id: &str, chain: &Chain, from: usize) -> Result<(), String> {
        let mut of_items = self.groups.iter().filter(|(_, group)| {
            group.0.len() > from && group.0.len() < chain.0.len() && chain.0.starts_with(&group.0)
        });
        match of_items.next().map(|(id, _)| id) {
            Some(group) => {
                Err(format!("the step {id} is done for each item of {group}; read steps.{group}.output"))
            }
            None => Ok(()),
        }
    }

    /// Reading a field that the schema of the input does not know is allowed where others may be given, but doubtful.
    fn doubt(&mut self, one: &Expression, read: &Read, path: &str) {
        let (root::INPUT, Some(Key::Field(field)), Some(input)) =
            (read.number, read.path.first(), &self.definition.input)
        else {
            return;
        };
        let Some(known) = input.value.get("properties").and_then(|properties| properties.as_object()) else {
            return;
        };
        if known.contains_key(&**field) {
            return;
        }
        let is_closed = input.value.get("additionalProperties") == Some(&serde_json::Value::Bool(false));
        let near = hint(field, known.keys().map(String::as_str));
        let told = format!("position {}: `input_schema` names no {}{near}", read.at, shown(field));
        if is_closed {
            self.findings.problem(one.place(), path, told);
        } else {
            self.findings.warning(one.place(), path, told);
        }
    }
}

fn field_of(of: &str, known: &[&str], key: Option<&Key>) -> Result<(), String> {
    match key {
        Some(Key::Field(name)) if known.contains(&&**name) => Ok(()),
        Some(Key::Field(name)) => {
            let near = hint(name, known.iter().copied());
            Err(format!("`{of}` has no field {}; it has {}{near}", shown(name), known.join(", ")))
        }
        Some(Key::Index(_)) | None => Err(format!("`{of}` is read by its fields: {}", known.join(", "))),
    }
}
