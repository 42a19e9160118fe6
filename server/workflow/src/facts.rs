//! What an expression of a run reads: which pieces have to be at hand, and their values.

use crate::expression::{Key, Read, root};
use crate::plan::Plan;
use coretex_cel::{Fault, Inputs, Value};
use coretex_domain::filter::print_time;
use coretex_domain::run::{At, Run, Signal, StepState, Work};
use rustc_hash::FxHashMap;
use serde_json::Value as Json;
use std::sync::Arc;

/// A value of a run that is not in its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Piece {
    Input,
    Config,
    /// The items a step is done for.
    Items(At),
    /// What the job of a step or of an item gave.
    Result(At, Option<u32>),
    /// The output of a step that is no job, where it is long.
    Step(At),
}

/// Pieces at hand. A job that gave nothing is here with null.
pub type Pieces = FxHashMap<Piece, Arc<Json>>;

/// Where an expression stands in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stand {
    pub at: At,
    /// The item, where the step itself is done for items.
    pub index: Option<u32>,
}

/// The values behind the names, made once for all expressions of a step.
pub(crate) struct Facts<'a> {
    input: &'a Json,
    config: &'a Json,
    steps: Value<'a>,
    item: Value<'a>,
    index: Value<'a>,
    labels: &'a [(Arc<str>, Arc<str>)],
    run: &'a Run,
    start_time: String,
    error: Json,
    event: &'a Json,
}

static NULL: Json = Json::Null;

// === which pieces ===

/// Every piece these reads need.
pub(crate) fn needed(plan: &Plan, run: &Run, stand: Stand, reads: &[Read]) -> Vec<Piece> {
    let mut found = Vec::new();
    for read in reads {
        match (read.number, read.path.first(), read.path.get(1)) {
            (root::INPUT, ..) => found.push(Piece::Input),
            (root::CONFIG, ..) if run.plea.has_config => found.push(Piece::Config),
            (root::ITEM, ..) => found.extend(items_at(run, stand).map(|(owner, _)| Piece::Items(owner))),
            (root::STEPS, Some(Key::Field(id)), field) => {
                let is_output = match field {
                    Some(Key::Field(name)) => matches!(&**name, "output" | "item_outputs"),
                    _ => true,
                };
                if let Some(at) = find(plan, run, stand.at.scope, id).filter(|_| is_output) {
                    pieces_of(run, at, &mut found);
                }
            }
            _ => {}
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// What the output of a step is made of.
pub(crate) fn pieces_of(run: &Run, at: At, found: &mut Vec<Piece>) {
    let Some(step) = run.step(at).filter(|step| step.state == StepState::Succeeded) else { return };
    if step.more.as_ref().is_some_and(|more| more.output.is_some()) {
        return found.push(Piece::Step(at));
    }
    match step.work {
        Some(Work::Job | Work::Approval) => found.push(Piece::Result(at, None)),
        Some(Work::Items { count }) => {
            let good = (0..count).filter(|n| step.items().is_some_and(|items| !items.failed.has(*n)));
            found.extend(good.map(|n| Piece::Result(at, Some(n))));
        }
        Some(Work::Group | Work::Groups { .. }) => {
            for scope in step.scopes() {
                let size = run.scope(*scope).map_or(0, |scope| scope.steps.len() as u32);
                (0..size).for_each(|place| pieces_of(run, At { scope: *scope, place }, found));
            }
        }
        Some(Work::Timer { .. } | Work::Signal { .. }) | None => {}
    }
}

/// The step done for items that is nearest to a place, and the item.
pub(crate) fn items_at(run: &Run, stand: Stand) -> Option<(At, u32)> {
    if let Some(index) = stand.index {
        return Some((stand.at, index));
    }
    let mut scope = run.scope(stand.at.scope);
    while let Some(one) = scope {
        if let (Some(owner), Some(index)) = (one.owner, one.index) {
            return Some((owner, index));
        }
        scope = run.scope(one.owner?.scope);
    }
    None
}

/// Where the step of that name was begun, as seen from a list of the run: in the list itself, in one around it, or in
/// a group of these.
pub(crate) fn find(plan: &Plan, run: &Run, from: u32, id: &str) -> Option<At> {
    let planned = plan.by_id(id)?;
    // The groups around it, the innermost first.
    let mut owners = Vec::new();
    let mut list = planned.list;
    loop {
        let mut above = Some(from);
        while let Some(number) = above {
            let one = run.scope(number)?;
            if one.list == list {
                return descend(plan, run, number, &owners, planned.place);
            }
            above = one.owner.map(|owner| owner.scope);
        }
        let Some(owner) = plan.list(list)?.owner else {
            // What is done after a failure looks back on the steps.
            let other = run.scopes.iter().position(|one| one.owner.is_none() && one.list == list)?;
            return descend(plan, run, other as u32, &owners, planned.place);
        };
        owners.push(owner);
        list = plan.steps.get(owner)?.list;
    }
}

fn descend(plan: &Plan, run: &Run, mut scope: u32, owners: &[usize], place: u32) -> Option<At> {
    for owner in owners.iter().rev() {
        let at = At { scope, place: plan.steps.get(*owner)?.place };
        scope = *run.step(at)?.scopes().first()?;
    }
    Some(At { scope, place })
}

// === their values ===

impl<'a> Facts<'a> {
    pub(crate) fn new(
        plan: &'a Plan,
        run: &'a Run,
        stand: Stand,
        reads: &[Read],
        pieces: &'a Pieces,
    ) -> Result<Facts<'a>, Fault> {
        let at = |piece| pieces.get(&piece).map_or(&NULL, |value| &**value);
        let (mut item, mut index) = (Value::Null, Value::Null);
        if let Some((owner, number)) = items_at(run, stand) {
            item = at(Piece::Items(owner)).get(number as usize).map_or(Value::Null, Value::of_json);
            index = Value::Int(number.into());
        }
        let mut ids: Vec<&Arc<str>> = reads
            .iter()
            .filter(|read| read.number == root::STEPS)
            .filter_map(|read| match read.path.first() {
                Some(Key::Field(id)) => plan.by_id(id).map(|planned| planned.id()),
                _ => None,
            })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let steps = ids
            .into_iter()
            .map(|id| {
                Ok((Value::Text(id), step_value(plan, run, find(plan, run, stand.at.scope, id), pieces)?))
            })
            .collect::<Result<_, Fault>>()?;
        Ok(Facts {
            input: at(Piece::Input),
            config: at(Piece::Config),
            steps: Value::map(steps)?,
            item,
            index,
            labels: &run.plea.labels,
            run,
            start_time: print_time(run.start_time.unwrap_or(run.create_time)),
            error: run.error().map_or(Json::Null, trouble),
            event: &NULL,
        })
    }

    pub(crate) fn with_event(mut self, event: &'a Json) -> Facts<'a> {
        self.event = event;
        self
    }
}

/// A signal, as `match` reads it: what came with it.
pub(crate) fn event_of(signal: &Signal) -> Json {
    serde_json::from_str(&signal.data).unwrap_or_default()
}

fn trouble(error: &coretex_domain::run::Trouble) -> Json {
    serde_json::json!({ "step": *error.step, "type": *error.kind, "message": *error.message })
}

fn step_value<'a>(
    plan: &'a Plan,
    run: &'a Run,
    at: Option<At>,
    pieces: &'a Pieces,
) -> Result<Value<'a>, Fault> {
    let step = at.and_then(|at| run.step(at));
    let state = step.map_or(StepState::Pending, |step| step.state);
    let output = match at {
        Some(at) => output_of(plan, run, at, pieces)?,
        None => Value::Null,
    };
    let error = match step.and_then(|step| step.error()) {
        Some(error) => Value::map(vec![
            (Value::Text("type"), Value::Text(&error.kind)),
            (Value::Text("message"), Value::Text(&error.message)),
            (Value::Text("step"), Value::Text(&error.step)),
        ])?,
        None => Value::Null,
    };
    Value::map(vec![
        (Value::Text("state"), Value::Text(state.name())),
        (Value::Text("attempts"), Value::Int(step.map_or(0, |step| step.attempts()).into())),
        (Value::Text("error"), error),
        (Value::Text("output"), output.clone()),
        (Value::Text("item_outputs"), output),
    ])
}

/// What a step gave: null unless it succeeded.
pub(crate) fn output_of<'a>(
    plan: &'a Plan,
    run: &'a Run,
    at: At,
    pieces: &'a Pieces,
) -> Result<Value<'a>, Fault> {
    let Some(step) = run.step(at).filter(|step| step.state == StepState::Succeeded) else {
        return Ok(Value::Null);
    };
    let piece = |piece| pieces.get(&piece).map_or(Value::Null, |value| Value::of_json(value));
    if step.more.as_ref().is_some_and(|more| more.output.is_some()) {
        return Ok(piece(Piece::Step(at)));
    }
    match step.work {
        Some(Work::Job | Work::Approval) => Ok(piece(Piece::Result(at, None))),
        Some(Work::Items { count }) => {
            Value::list((0..count).map(|n| piece(Piece::Result(at, Some(n)))).collect())
        }
        Some(Work::Group) => match step.scopes().first() {
            Some(scope) => outputs_of(plan, run, *scope, pieces),
            None => Ok(Value::Null),
        },
        Some(Work::Groups { .. }) => {
            let all: Result<Vec<_>, Fault> =
                step.scopes().iter().map(|scope| outputs_of(plan, run, *scope, pieces)).collect();
            Value::list(all?)
        }
        Some(Work::Timer { .. } | Work::Signal { .. }) | None => Ok(Value::Null),
    }
}

/// The outputs of the steps of a list, by their ids; null for one that failed.
fn outputs_of<'a>(plan: &'a Plan, run: &'a Run, scope: u32, pieces: &'a Pieces) -> Result<Value<'a>, Fault> {
    let Some(found) = run.scope(scope).filter(|found| found.closing.is_none()) else {
        return Ok(Value::Null);
    };
    let mut entries = Vec::with_capacity(found.steps.len());
    for place in 0..found.steps.len() as u32 {
        if let Some(planned) = plan.step_in(found.list, place) {
            entries.push((Value::Text(planned.id()), output_of(plan, run, At { scope, place }, pieces)?));
        }
    }
    Value::map(entries)
}

impl Inputs for Facts<'_> {
    fn read(&self, number: u16) -> Result<Value<'_>, Fault> {
        Ok(match number {
            root::INPUT => Value::of_json(self.input),
            root::STEPS => self.steps.clone(),
            root::ITEM => self.item.clone(),
            root::INDEX => self.index.clone(),
            root::CONFIG if self.config.is_null() => Value::map(Vec::new())?,
            root::CONFIG => Value::of_json(self.config),
            root::LABELS => Value::Labels(self.labels),
            root::EVENT => Value::of_json(self.event),
            root::RUN_ID => Value::Text(self.run.id().as_str()),
            root::RUN_WORKFLOW => Value::Text(&self.run.plea.workflow),
            root::RUN_VERSION => Value::Int(i64::try_from(self.run.plea.version).unwrap_or(i64::MAX)),
            root::RUN_START_TIME => Value::Text(&self.start_time),
            root::RUN_ERROR => Value::of_json(&self.error),
            _ => return Err(Fault::new("there is no such name".to_owned())),
        })
    }
}
