//! One step: what all steps have, and which kind it is.

use super::work::{FOR_EACH_KEYS, WORK_KEYS};
use super::{Reader, step_items};
use crate::expression::Expression;
use crate::limits::*;
use crate::model::{ForEach, Kind, OnFailure, Step, WaitEvent};
use coretex_document::{Fields, Node, Notes, Spot, place, text};
use coretex_domain::names::shown;
use std::sync::Arc;

/// Keys that every step may have.
pub(crate) const STEP_KEYS: &[&str] = &["id", "description", "needs", "when", "on_failure"];
/// Keys that say what a step does; it has one of them.
pub(crate) const KIND_KEYS: &[&str] =
    &["topic", "uses", "approval", "delay", "until", "wait_event", "parallel"];

pub(crate) const ON_FAILURE: &[(&str, OnFailure)] =
    &[("fail", OnFailure::Fail), ("continue", OnFailure::Continue)];

impl Reader {
    /// A list of steps, `depth` lists deep.
    pub(super) fn steps(&mut self, spot: &Spot, path: &str, depth: usize) -> Vec<Step> {
        if depth > GROUPS_DEEP_MAX {
            self.notes.at(spot, path, format!("is nested {depth} groups deep, at most {GROUPS_DEEP_MAX}"));
            return Vec::new();
        }
        let found = step_items(spot, path, &mut self.notes);
        let before = self.steps;
        self.steps += found.len();
        if before <= STEPS_MAX && self.steps > STEPS_MAX {
            let told = format!("brings the workflow to {} steps, at most {STEPS_MAX}", self.steps);
            self.notes.at(spot, path, told);
        }
        if self.steps > STEPS_MAX {
            return Vec::new();
        }
        found.iter().enumerate().map(|(n, item)| self.step(item, &format!("{path}[{n}]"), depth)).collect()
    }

    /// A step that cannot be read stands there all the same: what is said of its neighbours does not depend on it.
    fn step(&mut self, spot: &Spot, bare: &str, depth: usize) -> Step {
        // The id belongs in every message about the step, so it is looked up before the rest is read.
        let path = named(spot).map_or_else(|| bare.to_owned(), |id| format!("{bare}({id})"));
        let word = self.kind_word(spot, &path);
        let Some(fields) = self.notes.map(spot, &path, &keys_of(word)) else { return unread(spot) };
        let id = self.id(spot, &fields);
        let description = fields.text("description", TEXT_LEN_MAX, &mut self.notes);
        let needs = self.needs(&fields);
        let when = fields.spot("when").and_then(|spot| self.condition(spot, &fields.path("when")));
        let for_each = self.for_each(&fields);
        let on_failure = fields.word("on_failure", ON_FAILURE, &mut self.notes).unwrap_or_default();
        let compensate =
            fields.spot("compensate").and_then(|spot| self.compensation(spot, &fields.path("compensate")));
        let kind = word.and_then(|word| self.kind(word, &fields, depth));
        let stand_in = unread(spot);
        let (id, place) = id.unwrap_or((stand_in.id, stand_in.place));
        let kind = kind.unwrap_or(stand_in.kind);
        Step { id, place, description, needs, when, for_each, on_failure, kind, compensate }
    }

    /// The one key that says what the step does.
    fn kind_word(&mut self, spot: &Spot, path: &str) -> Option<&'static str> {
        let Node::Map(found) = &spot.value else { return None };
        let mut words = KIND_KEYS.iter().filter(|word| {
            found.iter().any(|(key, value)| key.value == **word && !matches!(value.value, Node::Null))
        });
        let first = words.next();
        if let (Some(one), Some(other)) = (first, words.next()) {
            let told = format!("has both `{one}` and `{other}`; a step does one thing");
            self.notes.at(spot, path, told);
            return None;
        } else if first.is_none() {
            let told = format!("does nothing; it has one of {}", KIND_KEYS.join(", "));
            self.notes.at(spot, path, told);
        }
        first.copied()
    }

    fn id(&mut self, spot: &Spot, fields: &Fields<'_>) -> Option<(Arc<str>, (u64, u64))> {
        let Some(at) = fields.spot("id") else {
            self.notes.at(spot, &fields.path("id"), "is missing; every step has an id of its own");
            return None;
        };
        let path = fields.path("id");
        let id = fields.text("id", STEP_ID_LEN_MAX, &mut self.notes)?;
        check_step_id(at, &path, &id, &mut self.notes);
        Some((id, place(at)))
    }

    fn needs(&mut self, fields: &Fields<'_>) -> Vec<(Arc<str>, (u64, u64))> {
        let Some(spot) = fields.spot("needs") else { return Vec::new() };
        let (path, notes) = (fields.path("needs"), &mut self.notes);
        // One step may stand for its list.
        let items = match &spot.value {
            Node::List(items) => items.as_slice(),
            _ => std::slice::from_ref(spot),
        };
        if items.len() > NEEDS_MAX {
            notes.at(spot, &path, format!("has {} entries, at most {NEEDS_MAX}", items.len()));
            return Vec::new();
        }
        let mut needs: Vec<(Arc<str>, (u64, u64))> = Vec::with_capacity(items.len());
        for (n, item) in items.iter().enumerate() {
            let path = format!("{path}[{n}]");
            let Some(id) = text(item, &path, STEP_ID_LEN_MAX, notes) else { continue };
            if needs.iter().any(|(known, _)| *known == id) {
                notes.at(item, &path, format!("names {} a second time", shown(&id)));
                continue;
            }
            needs.push((id, place(item)));
        }
        needs
    }

    pub(super) fn condition(&mut self, spot: &Spot, path: &str) -> Option<Expression> {
        if let Node::Bool(value) = spot.value {
            self.notes.at(spot, path, format!("is always {value}; leave it out, or write an expression"));
            return None;
        }
        let source = text(spot, path, TEMPLATE_BYTES_MAX, &mut self.notes)?;
        Expression::condition(&source, place(spot)).map_err(|told| self.notes.at(spot, path, told)).ok()
    }

    /// A text that is one expression.
    pub(super) fn expression(&mut self, spot: &Spot, path: &str, wanted: &str) -> Option<Expression> {
        let source = match &spot.value {
            Node::Text(source) if source.trim_start().starts_with("${") => source,
            other => {
                let told = format!("is {}, where an expression is wanted, as in {wanted}", other.kind());
                self.notes.at(spot, path, told);
                return None;
            }
        };
        if source.len() > TEMPLATE_BYTES_MAX {
            self.notes.at(spot, path, format!("has {} bytes, at most {TEMPLATE_BYTES_MAX}", source.len()));
            return None;
        }
        Expression::parse(source, place(spot)).map_err(|told| self.notes.at(spot, path, told)).ok()
    }

    fn for_each(&mut self, fields: &Fields<'_>) -> Option<ForEach> {
        let Some(spot) = fields.spot("for_each") else {
            for name in ["max_parallel", "on_item_failure"] {
                if let Some(spot) = fields.spot(name) {
                    self.notes.at(spot, &fields.path(name), "belongs to `for_each`, which is not there");
                }
            }
            return None;
        };
        let items = self.expression(spot, &fields.path("for_each"), "${input.files}");
        // One that cannot be read has items all the same.
        let items = items.or_else(|| Expression::parse("${config}", place(spot)).ok());
        let notes = &mut self.notes;
        let max_parallel = fields.count("max_parallel", 1, PARALLEL_MAX, notes).unwrap_or(PARALLEL_DEFAULT);
        let on_item_failure = fields.word("on_item_failure", ON_FAILURE, notes).unwrap_or_default();
        Some(ForEach { items: items?, max_parallel, on_item_failure })
    }

    fn kind(&mut self, word: &str, fields: &Fields<'_>, depth: usize) -> Option<Kind> {
        let spot = fields.spot(word)?;
        let path = fields.path(word);
        match word {
            "approval" => self.approval(spot, &path).map(Box::new).map(Kind::Approval),
            "delay" => self.delay(spot, &path).map(Kind::Delay),
            "until" => self.until(spot, &path).map(Kind::Until),
            "wait_event" => self.wait_event(spot, &path).map(Box::new).map(Kind::WaitEvent),
            "parallel" => Some(Kind::Parallel(self.steps(spot, &path, depth + 1))),
            _ => self.work(word, fields).map(Box::new).map(Kind::Work),
        }
    }
}

/// What stands for a step, or for a part of one, that cannot be read: nothing is known of what it gives. Without an id to
/// be named by it has none.
fn unread(spot: &Spot) -> Step {
    let wait = WaitEvent { name: "".into(), matching: None, timeout: None };
    Step {
        id: named(spot).unwrap_or_default().into(),
        place: place(spot),
        description: None,
        needs: Vec::new(),
        when: None,
        for_each: None,
        on_failure: OnFailure::Fail,
        kind: Kind::WaitEvent(Box::new(wait)),
        compensate: None,
    }
}

/// The keys a step of a kind may have. Of one that says nothing, all of them: its keys are not what is wrong with it.
fn keys_of(word: Option<&str>) -> Vec<&'static str> {
    let kind: &[&[&str]] = match word {
        Some("topic") => &[&["topic"], FOR_EACH_KEYS, WORK_KEYS, &["compensate"]],
        Some("uses") => &[&["uses"], FOR_EACH_KEYS, WORK_KEYS, &["compensate"]],
        Some("approval") => &[&["approval"]],
        Some("delay") => &[&["delay"]],
        Some("until") => &[&["until"]],
        Some("wait_event") => &[&["wait_event"]],
        Some("parallel") => &[&["parallel"], FOR_EACH_KEYS],
        _ => &[KIND_KEYS, FOR_EACH_KEYS, WORK_KEYS, &["compensate"]],
    };
    STEP_KEYS.iter().chain(kind.iter().copied().flatten()).copied().collect()
}

/// Ids stand in the ids of jobs, between colons, and in expressions.
fn check_step_id(spot: &Spot, path: &str, id: &str, notes: &mut Notes) {
    let is_good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if let Some((at, c)) = id.char_indices().find(|(_, c)| !is_good(*c)) {
        let told = format!("position {at} is {c:?} in {}; it has letters, digits, `_` and `-`", shown(id));
        notes.at(spot, path, told);
    } else if !id.starts_with(|c: char| c.is_ascii_alphabetic()) {
        notes.at(spot, path, format!("is {}; it begins with a letter", shown(id)));
    }
}

/// The id of a step if it is fit to be shown.
fn named(spot: &Spot) -> Option<&str> {
    let Node::Map(fields) = &spot.value else { return None };
    let (_, id) = fields.iter().find(|(key, _)| key.value == "id")?;
    match &id.value {
        Node::Text(id) if id.len() <= STEP_ID_LEN_MAX && !id.contains(char::is_control) => Some(id),
        _ => None,
    }
}
