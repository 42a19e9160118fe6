//! Workflows drawn from the seed: of every kind of step, written as text and read by the reader that people's texts go
//! through. JSON is YAML.

use crate::clock::WALL_START_MS;
use crate::rng::Rng;
use crate::rules::PEOPLE;
use coretex_domain::Time;
use coretex_domain::filter::print_time;
use coretex_workflow::{Plan, parse};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most steps of a workflow, those in groups and after a failure included.
const STEPS_MAX: u64 = 30;
const DEPTH_MAX: u32 = 3;
/// Names of signals.
pub(crate) const SIGNALS: [&str; 3] = ["go", "stop", "more"];
/// Topics of steps, besides those of the step library. The last is one the built-in policy denies.
const TOPICS: [&str; 8] =
    ["plain", "plain", "capped", "rated", "timed", "metered", "asked", "sys.destroy.all"];

/// What the output of a step can be read as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Work,
    List,
    Other,
}

/// A step that is over where it is read.
#[derive(Clone)]
struct Known {
    id: String,
    shape: Shape,
}

struct Pen<'r> {
    roll: &'r mut Rng,
    left: u64,
    next: u64,
    /// What is done after a failure is never undone.
    is_last: bool,
}

/// A workflow, ready to be run. Panics if the reader does not take what is drawn: then one of the two is wrong.
#[expect(clippy::panic, reason = "a run of the simulator reports it as a broken promise")]
pub(crate) fn draw(roll: &mut Rng, name: &str) -> Arc<Plan> {
    let text = text(roll, name);
    match parse(&text) {
        Ok(workflow) => Arc::new(Plan::new(workflow.definition, 1)),
        Err(problems) => panic!("a drawn workflow is not taken: {problems}\n{text}"),
    }
}

fn text(roll: &mut Rng, name: &str) -> String {
    let most = roll.skewed(2, STEPS_MAX);
    let mut pen = Pen { roll, left: most, next: 0, is_last: false };
    let (steps, known) = pen.list(&[], 0, false);
    let mut top = json!({ "name": name, "steps": steps });
    if pen.next < STEPS_MAX && pen.roll.chance(5_000) {
        pen.left = (STEPS_MAX - pen.next).min(3);
        pen.is_last = true;
        top["on_failure"] = pen.list(&[], DEPTH_MAX, false).0.into();
    }
    if pen.roll.chance(2_500) {
        top["timeout"] = span(pen.roll.between(20_000, 300_000)).into();
    }
    if pen.roll.chance(6_000) {
        let key = if pen.roll.chance(5_000) { "${input.key}" } else { "one" };
        let on_conflict = *pen.roll.pick(&["queue", "reject", "cancel_oldest"]);
        top["concurrency"] =
            json!({ "key": key, "limit": pen.roll.between(1, 2), "on_conflict": on_conflict });
    }
    if pen.roll.chance(6_000) {
        let one = known.get(pen.roll.index(known.len().max(1)));
        let read = one.map_or("input.n".into(), |known| format!("{}.output", access(&known.id)));
        top["output"] = json!({ "last": format!("${{{read}}}"), "n": "${input.n}" });
    }
    top.to_string()
}

fn span(ms: u64) -> String {
    format!("{ms}ms")
}

/// A step as expressions name it.
fn access(id: &str) -> String {
    if id.contains('-') { format!("steps[\"{id}\"]") } else { format!("steps.{id}") }
}

// === impl Pen ===

impl Pen<'_> {
    /// The steps of one list, and what may be read of them when they are over.
    fn list(&mut self, outer: &[Known], depth: u32, has_item: bool) -> (Vec<Json>, Vec<Known>) {
        let count = if depth == 0 { self.left } else { self.roll.between(1, 4).min(self.left.max(1)) };
        let (mut steps, mut known): (Vec<Json>, Vec<Known>) = (Vec::new(), Vec::new());
        let mut before: Vec<BTreeSet<usize>> = Vec::new();
        while steps.len() < count as usize && (self.left > 0 || steps.is_empty()) {
            self.left = self.left.saturating_sub(1);
            self.next += 1;
            let id =
                if self.roll.chance(1_000) { format!("s-{}", self.next) } else { format!("s{}", self.next) };
            let mut needs = BTreeSet::new();
            for _ in 0..self.roll.below(3).min(steps.len() as u64) {
                // Mostly what was drawn last, so that there are chains.
                let back = self.roll.skewed(1, steps.len() as u64) as usize;
                needs.insert(steps.len() - back.min(steps.len()));
            }
            let mut all = needs.clone();
            needs.iter().for_each(|need| all.extend(&before[*need]));
            let seen: Vec<Known> =
                outer.iter().cloned().chain(all.iter().map(|place| known[*place].clone())).collect();
            let (mut step, shape) = self.step(&id, &seen, depth, has_item);
            if !needs.is_empty() {
                step.insert("needs".into(), needs.iter().map(|n| known[*n].id.as_str()).collect());
            }
            step.insert("id".into(), id.as_str().into());
            steps.push(Json::Object(step));
            known.push(Known { id, shape });
            before.push(all);
        }
        (steps, known)
    }

    fn step(&mut self, id: &str, seen: &[Known], depth: u32, has_item: bool) -> (Map<String, Json>, Shape) {
        let mut step = Map::new();
        if self.roll.chance(1_500) {
            step.insert("when".into(), self.condition(seen).into());
        }
        if self.roll.chance(4_000) {
            step.insert("on_failure".into(), "continue".into());
        }
        let shape = match self.roll.below(100) {
            0..=5 => self.approval(&mut step),
            6..=13 => self.delay(&mut step),
            14..=23 => self.wait(&mut step, seen),
            24..=37 if depth < DEPTH_MAX && self.left > 0 => self.group(&mut step, seen, depth, has_item),
            _ => self.work(&mut step, id, seen, has_item),
        };
        (step, shape)
    }

    fn approval(&mut self, step: &mut Map<String, Json>) -> Shape {
        let people = &PEOPLE[..self.roll.between(1, 3) as usize];
        let on_expiry = if self.roll.chance(6_000) { "approve" } else { "reject" };
        step.insert(
            "approval".into(),
            json!({
                "title": "Go on with ${input.n}?", "approvers": people,
                "quorum": self.roll.between(1, people.len() as u64), "on_expiry": on_expiry,
                "expires": span(self.roll.skewed(2_000, 60_000)),
            }),
        );
        Shape::Other
    }

    fn delay(&mut self, step: &mut Map<String, Json>) -> Shape {
        match self.roll.below(4) {
            0 => {
                let at = Time(WALL_START_MS + self.roll.below(600_000));
                step.insert("until".into(), print_time(at).into());
            }
            1 => drop(step.insert("delay".into(), "${input.n}".into())),
            _ => drop(step.insert("delay".into(), span(self.roll.skewed(1, 60_000)).into())),
        }
        Shape::Other
    }

    fn wait(&mut self, step: &mut Map<String, Json>, seen: &[Known]) -> Shape {
        let mut wait = json!({ "name": *self.roll.pick(&SIGNALS) });
        match self.roll.below(6) {
            0 => wait["match"] = "${event.n > 2}".into(),
            1 | 2 => wait["match"] = format!("${{event.n >= {}}}", self.number(seen, false)).into(),
            _ => {}
        }
        if self.roll.chance(4_000) {
            wait["timeout"] = span(self.roll.skewed(500, 60_000)).into();
        }
        step.insert("wait_event".into(), wait);
        Shape::Other
    }

    fn group(&mut self, step: &mut Map<String, Json>, seen: &[Known], depth: u32, has_item: bool) -> Shape {
        let for_each = self.roll.chance(4_000);
        if for_each {
            self.for_each(step, seen);
        }
        let (inner, _) = self.list(seen, depth + 1, has_item || for_each);
        step.insert("parallel".into(), inner.into());
        if for_each { Shape::List } else { Shape::Other }
    }

    fn for_each(&mut self, step: &mut Map<String, Json>, seen: &[Known]) {
        let known = seen.get(self.roll.index(seen.len().max(1)));
        let items = match (self.roll.below(4), known) {
            (0, _) | (_, None) => "[3, 1, 2]".into(),
            (1, _) => "input.list".into(),
            (_, Some(Known { id, shape: Shape::Work })) => format!("{}.output.list", access(id)),
            (_, Some(Known { id, shape: Shape::List })) => format!("{}.output", access(id)),
            (_, Some(Known { shape: Shape::Other, .. })) => "input.list".into(),
        };
        step.insert("for_each".into(), format!("${{{items}}}").into());
        if self.roll.chance(7_000) {
            step.insert("max_parallel".into(), self.roll.between(1, 3).into());
        }
        if self.roll.chance(5_000) {
            step.insert("on_item_failure".into(), "continue".into());
        }
    }

    fn work(&mut self, step: &mut Map<String, Json>, id: &str, seen: &[Known], has_item: bool) -> Shape {
        let for_each = self.roll.chance(2_500);
        if for_each {
            self.for_each(step, seen);
        }
        let does = self.body();
        let number = self.number(seen, has_item || for_each);
        let text = format!("{does} {} of ${{{number}}}", self.roll.below(1_000));
        if self.roll.chance(2_500) {
            let (uses, input) = match self.roll.below(3) {
                0 => ("set", json!({ "do": text })),
                1 => ("log", json!({ "message": text })),
                _ => ("emit", json!({ "name": "it-happened", "data": text })),
            };
            step.insert("uses".into(), uses.into());
            step.insert("input".into(), input);
        } else {
            step.insert("topic".into(), (*self.roll.pick(&TOPICS)).into());
            let as_map = self.roll.chance(3_000);
            step.insert("input".into(), if as_map { json!({ "do": text }) } else { text.into() });
        }
        self.terms(step);
        if !self.is_last && self.roll.chance(3_000) {
            // Of an item it is read in full, too.
            let own = if for_each { "input.n".into() } else { format!("{}.output.n", access(id)) };
            let retry = json!({ "max_attempts": self.roll.between(1, 4), "max_backoff": "2s" });
            step.insert(
                "compensate".into(),
                json!({ "topic": "plain", "input": format!("work 1 of ${{{own}}}"), "retry": retry }),
            );
        }
        if for_each { Shape::List } else { Shape::Work }
    }

    fn terms(&mut self, step: &mut Map<String, Json>) {
        if self.roll.chance(6_000) {
            let attempts = self.roll.between(1, 4);
            step.insert("retry".into(), json!({ "max_attempts": attempts, "max_backoff": "3s" }));
        }
        if self.roll.chance(1_000) {
            step.insert("timeout".into(), span(self.roll.skewed(500, 30_000)).into());
        }
        if self.roll.chance(1_000) {
            step.insert("idempotency_key".into(), "${run.id}/once".into());
        }
        if self.roll.chance(800) {
            step.insert("concurrency_key".into(), format!("c{}", self.roll.below(3)).into());
        }
        if self.roll.chance(1_000) {
            step.insert("priority".into(), self.roll.below(10).into());
            step.insert("labels".into(), json!({ "of": "${run.workflow}" }));
        }
    }

    /// What the handler is told to do.
    fn body(&mut self) -> &'static str {
        match self.roll.below(100) {
            0 => "poison",
            1..=9 => "fail",
            10 => "unwanted",
            11 | 12 => "family",
            _ => "work",
        }
    }

    /// A number, if the steps that are read gave one.
    fn number(&mut self, seen: &[Known], has_item: bool) -> String {
        let known = seen.get(self.roll.index(seen.len().max(1)));
        match (self.roll.below(4), known) {
            (0, _) if has_item => "index".into(),
            (0, _) | (_, None) => "input.n".into(),
            (_, Some(Known { id, shape: Shape::Work })) => format!("{}.output.n", access(id)),
            (_, Some(Known { id, shape: Shape::List })) => format!("size({}.output)", access(id)),
            (_, Some(Known { id, shape: Shape::Other })) => {
                format!("({}.state == \"SUCCEEDED\" ? 1 : 0)", access(id))
            }
        }
    }

    fn condition(&mut self, seen: &[Known]) -> String {
        let number = self.number(seen, false);
        match self.roll.below(3) {
            0 => "${input.n % 2 == 0}".into(),
            1 => format!("${{{number} < 6}}"),
            _ => match seen.get(self.roll.index(seen.len().max(1))) {
                Some(known) => format!("${{{}.state != \"FAILED\"}}", access(&known.id)),
                None => "${size(input.list) > 1}".into(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_workflow::model::Kind;

    #[test]
    fn drawn_workflows_are_sound_and_of_every_kind() {
        let mut kinds = BTreeSet::new();
        for seed in 0..300 {
            let plan = draw(&mut Rng::new(seed, 9), "drawn");
            assert!(plan.steps.len() as u64 <= STEPS_MAX, "{}", plan.steps.len());
            for planned in &plan.steps {
                let is_each = planned.step.for_each.is_some();
                let name = match &planned.step.kind {
                    Kind::Work(_) if planned.is_undoable() => "undoable",
                    Kind::Work(_) => "work",
                    Kind::Approval(_) => "approval",
                    Kind::Delay(_) => "delay",
                    Kind::Until(_) => "until",
                    Kind::WaitEvent(wait) if wait.matching.is_some() => "match",
                    Kind::WaitEvent(_) => "wait",
                    Kind::Parallel(_) => "group",
                };
                kinds.insert((name, is_each, planned.list > 1));
            }
        }
        assert!(kinds.len() >= 20, "{kinds:?}");
    }
}
