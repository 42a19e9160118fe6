//! A workflow as it is run: its lists and steps by number, and what waits for what.
//!
//! Numbers follow from the text alone: list 0 are the steps, list 1 those of `on_failure`, then those of groups in
//! the order in which they stand. Runs keep numbers, so this order is for ever.

use crate::decide::{StepReads, reads_of_output};
use crate::expression::{Expression, Read};
use crate::model::{Definition, Doer, Kind, OnFailure, Step, Work};
use coretex_domain::house;
use coretex_domain::run::{At, Run, STEPS};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// One version of a workflow, ready to be run. Shared by all of its runs.
#[derive(Debug)]
pub struct Plan {
    pub workflow: Arc<str>,
    pub version: u64,
    pub definition: Definition,
    pub lists: Vec<List>,
    pub steps: Vec<Planned>,
    by_id: FxHashMap<Arc<str>, usize>,
    pub(crate) output_reads: Vec<Read>,
}

#[derive(Debug, Default)]
pub struct List {
    /// Numbers of its steps, by place.
    pub steps: Vec<usize>,
    /// The group it is in.
    pub owner: Option<usize>,
}

/// One step.
#[derive(Debug)]
pub struct Planned {
    pub step: Step,
    pub list: u32,
    pub place: u32,
    /// The list in it, if it is a group.
    pub inner: Option<u32>,
    /// Places in its own list.
    pub needs: Vec<u32>,
    pub dependents: Vec<u32>,
    /// Topic of its jobs.
    pub topic: Option<Arc<str>>,
    /// Topic of the job that undoes it.
    pub undo_topic: Option<Arc<str>>,
    pub(crate) reads: StepReads,
}

// === impl Plan ===

impl Plan {
    pub fn new(definition: Definition, version: u64) -> Plan {
        let mut plan = Plan {
            workflow: definition.name.clone(),
            version,
            lists: vec![List::default(), List::default()],
            steps: Vec::new(),
            by_id: FxHashMap::default(),
            output_reads: reads_of_output(&definition),
            definition,
        };
        let (steps, on_failure) = (plan.definition.steps.clone(), plan.definition.on_failure.clone());
        plan.file(0, &steps);
        plan.file(1, &on_failure);
        plan
    }

    fn file(&mut self, list: u32, steps: &[Step]) {
        let places: FxHashMap<&str, u32> =
            steps.iter().enumerate().map(|(place, step)| (&*step.id, place as u32)).collect();
        let first = self.steps.len();
        for (place, step) in steps.iter().enumerate() {
            let needs = step.needs.iter().filter_map(|(id, _)| places.get(&**id).copied()).collect();
            self.by_id.insert(step.id.clone(), self.steps.len());
            self.lists[list as usize].steps.push(self.steps.len());
            self.steps.push(Planned {
                list,
                place: place as u32,
                inner: None,
                needs,
                dependents: Vec::new(),
                topic: topic_of(step),
                undo_topic: step.compensate.as_deref().map(topic_of_work),
                reads: StepReads::of(step),
                step: step.clone(),
            });
        }
        for place in 0..steps.len() {
            for need in self.steps[first + place].needs.clone() {
                self.steps[first + need as usize].dependents.push(place as u32);
            }
        }
        for (place, step) in steps.iter().enumerate() {
            if let Kind::Parallel(inner) = &step.kind {
                let number = self.lists.len() as u32;
                self.lists.push(List { steps: Vec::new(), owner: Some(first + place) });
                self.steps[first + place].inner = Some(number);
                self.file(number, inner);
            }
        }
    }

    pub fn list(&self, list: u32) -> Option<&List> {
        self.lists.get(list as usize)
    }

    pub fn size(&self, list: u32) -> u32 {
        self.list(list).map_or(0, |list| list.steps.len() as u32)
    }

    /// The step at a place of a list.
    pub fn step_in(&self, list: u32, place: u32) -> Option<&Planned> {
        self.steps.get(*self.list(list)?.steps.get(place as usize)?)
    }

    /// The step at a place of a run.
    pub fn step(&self, run: &Run, at: At) -> Option<&Planned> {
        self.step_in(run.scope(at.scope)?.list, at.place)
    }

    pub fn by_id(&self, id: &str) -> Option<&Planned> {
        self.steps.get(*self.by_id.get(id)?)
    }

    /// What the name of a job of this step says after the run: the groups it is in that are done for items, outermost
    /// first, then the step; `~undo` for the job that undoes it.
    pub fn job_path(&self, run: &Run, at: At, index: Option<u32>, is_undo: bool) -> String {
        let mut parts: Vec<(&str, u32)> = Vec::new();
        let mut scope = run.scope(at.scope);
        while let Some((one, owner)) = scope.and_then(|one| Some((one, one.owner?))) {
            if let (Some(index), Some(group)) = (one.index, self.step(run, owner)) {
                parts.push((&group.step.id, index));
            }
            scope = run.scope(owner.scope);
        }
        let mut path = String::new();
        for (group, index) in parts.into_iter().rev() {
            path.push_str(group);
            path.push_str(&format!(":{index}:"));
        }
        path.push_str(self.step(run, at).map_or("", |planned| &planned.step.id));
        if is_undo {
            path.push_str("~undo");
        }
        if let Some(index) = index {
            path.push_str(&format!(":{index}"));
        }
        path
    }

    /// Places of a list whose steps need none beside them.
    pub fn roots(&self, list: u32) -> Vec<u32> {
        (0..self.size(list))
            .filter(|place| self.step_in(list, *place).is_some_and(|planned| planned.needs.is_empty()))
            .collect()
    }

    /// Topics its jobs go to, those of the server itself included.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<str>> {
        self.steps.iter().flat_map(|planned| planned.topic.iter().chain(&planned.undo_topic))
    }

    /// The steps of the workflow itself that a step of it looks back on.
    pub fn before(&self, place: u32) -> Vec<u32> {
        let (mut found, mut open) = (vec![false; self.size(STEPS) as usize], vec![place]);
        while let Some(one) = open.pop() {
            for need in self.step_in(STEPS, one).map(|planned| &planned.needs).into_iter().flatten() {
                if !std::mem::replace(&mut found[*need as usize], true) {
                    open.push(*need);
                }
            }
        }
        (0..found.len() as u32).filter(|place| found[*place as usize]).collect()
    }
}

fn topic_of(step: &Step) -> Option<Arc<str>> {
    match &step.kind {
        Kind::Work(work) => Some(topic_of_work(work)),
        Kind::Approval(_) => Some(house::APPROVALS.into()),
        Kind::Delay(_) | Kind::Until(_) | Kind::WaitEvent(_) | Kind::Parallel(_) => None,
    }
}

fn topic_of_work(work: &Work) -> Arc<str> {
    match &work.doer {
        Doer::Topic(topic) => topic.clone(),
        Doer::BuiltIn(name) => format!("{}{name}", house::STEPS).into(),
    }
}

// === impl Planned ===

impl Planned {
    pub fn id(&self) -> &Arc<str> {
        &self.step.id
    }

    /// Whether its failure is the failure of its list.
    pub fn fails_its_list(&self) -> bool {
        self.step.on_failure == OnFailure::Fail
    }

    /// Whether the failure of an item is the failure of the step.
    pub fn fails_with_item(&self) -> bool {
        self.step.for_each.as_ref().is_none_or(|each| each.on_item_failure == OnFailure::Fail)
    }

    pub fn max_parallel(&self) -> u32 {
        self.step.for_each.as_ref().map_or(1, |each| each.max_parallel)
    }

    pub fn is_undoable(&self) -> bool {
        self.step.compensate.is_some()
    }

    /// Which of the signals a wait is for.
    pub fn matching(&self) -> Option<&Expression> {
        match &self.step.kind {
            Kind::WaitEvent(wait) => wait.matching.as_ref(),
            Kind::Work(_) | Kind::Approval(_) | Kind::Delay(_) | Kind::Until(_) | Kind::Parallel(_) => None,
        }
    }
}
