//! A workflow as a picture: as text for a terminal, in DOT for Graphviz, in Mermaid for documents.

mod dot;
mod mermaid;
mod text;

use crate::model::{Definition, Delay, Doer, Kind, OnFailure, Step};
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// How a workflow is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    Dot,
    Mermaid,
}

/// Draws a workflow.
pub fn draw(definition: &Definition, format: Format) -> String {
    match format {
        Format::Text => text::draw(definition),
        Format::Dot => dot::draw(definition),
        Format::Mermaid => mermaid::draw(definition),
    }
}

/// What a step does, in a few words.
fn told(step: &Step) -> String {
    match &step.kind {
        Kind::Work(work) => doer(&work.doer),
        Kind::Approval(approval) => match approval.terms.approvers.as_slice() {
            [] => "approval".into(),
            names => format!("approval by {}", names.join(", ")),
        },
        Kind::Delay(Delay::Fixed(span)) => format!("wait {span}"),
        Kind::Delay(Delay::Computed(one)) => format!("wait {}", one.as_str()),
        Kind::Until(time) => format!("wait until {}", time.as_str()),
        Kind::WaitEvent(wait) => format!("wait for event {}", wait.name),
        Kind::Parallel(steps) => format!("group of {}", steps.len()),
    }
}

fn doer(doer: &Doer) -> String {
    match doer {
        Doer::Topic(topic) => topic.to_string(),
        Doer::BuiltIn(name) => format!("uses {name}"),
    }
}

/// What else is to be said of a step, each in a few words.
fn remarks(step: &Step) -> Vec<String> {
    let mut all = Vec::new();
    if let Some(when) = &step.when {
        all.push(format!("when {}", when.as_str()));
    }
    if let Some(each) = &step.for_each {
        all.push(format!("for each of {}, {} at a time", each.items.as_str(), each.max_parallel));
    }
    if step.on_failure == OnFailure::Continue {
        all.push("may fail".into());
    }
    if let Some(work) = &step.compensate {
        all.push(format!("undone by {}", doer(&work.doer)));
    }
    all
}

/// Steps of one list in an order in which they may be done; among those that may be next, as they are written.
fn in_order(steps: &[Step]) -> Vec<&Step> {
    let places: FxHashMap<&str, usize> = steps.iter().enumerate().map(|(n, step)| (&*step.id, n)).collect();
    let mut waits = vec![0; steps.len()];
    let mut after = vec![Vec::new(); steps.len()];
    for (n, step) in steps.iter().enumerate() {
        for need in step.needs.iter().filter_map(|(id, _)| places.get(&**id)) {
            after[*need].push(n);
            waits[n] += 1;
        }
    }
    let mut ready: BinaryHeap<_> = (0..steps.len()).filter(|n| waits[*n] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(steps.len());
    while let Some(Reverse(n)) = ready.pop() {
        order.push(&steps[n]);
        for later in &after[n] {
            waits[*later] -= 1;
            if waits[*later] == 0 {
                ready.push(Reverse(*later));
            }
        }
    }
    order
}

/// At most so many characters of a text, in one line.
fn cut(text: &str, most: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
