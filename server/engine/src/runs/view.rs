//! A run as callers see it: its steps by name, each with its job.

use bytes::Bytes;
use coretex_domain::run::{At, StepState, Trouble, Work};
use coretex_domain::{JobId, Run, Time};
use coretex_workflow::Plan;
use coretex_workflow::model::Kind;
use std::sync::Arc;

/// A run with its workflow.
#[derive(Clone, Debug)]
pub struct RunView {
    pub run: Arc<Run>,
    pub plan: Arc<Plan>,
    /// JSON; absent where only the head was asked for.
    pub input: Option<Bytes>,
    /// JSON; absent where only the head was asked for, and where it gave nothing.
    pub output: Option<Bytes>,
}

/// One step of a run, in one place where it is or would be done.
#[derive(Clone, Debug)]
pub struct StepView {
    /// The step, with the items of groups it is in: `group:3:step`.
    pub path: String,
    pub id: Arc<str>,
    /// `topic`, `uses`, `approval`, `delay`, `until`, `wait_event` or `parallel`.
    pub kind: &'static str,
    pub state: StepState,
    pub attempts: u32,
    /// The job it is; none for a step that is no job, or many.
    pub job_id: Option<JobId>,
    pub start_time: Option<Time>,
    pub end_time: Option<Time>,
    /// What it waits for, if that is a time.
    pub due_time: Option<Time>,
    pub error: Option<Trouble>,
    /// Set for a step that is done for items.
    pub items: Option<ItemsView>,
    /// How undoing it went, if it was undone.
    pub undo: Option<StepState>,
    /// Which list of the run it is in, and where: names it in the history.
    pub at: Option<At>,
}

#[derive(Clone, Copy, Debug)]
pub struct ItemsView {
    pub count: u32,
    pub begun: u32,
    pub over: u32,
    pub failed: u32,
}

/// Steps told of one run.
const STEPS_TOLD_MAX: usize = 10_000;

// === impl RunView ===

impl RunView {
    /// Its steps in the order of the workflow, those of groups behind their group; those of lists that were not begun
    /// as well.
    pub fn steps(&self) -> Vec<StepView> {
        let mut found = Vec::new();
        let mut roots: Vec<u32> = vec![0, 1];
        for (number, scope) in self.run.scopes.iter().enumerate() {
            if scope.owner.is_none() {
                roots.retain(|list| *list != scope.list);
                self.list(number as u32, &mut found);
            }
        }
        for list in roots.into_iter().filter(|list| *list == 0) {
            self.unopened(list, "", &mut found);
        }
        found
    }

    fn list(&self, scope: u32, found: &mut Vec<StepView>) {
        let Some(opened) = self.run.scope(scope) else { return };
        for place in 0..opened.steps.len() as u32 {
            if found.len() >= STEPS_TOLD_MAX {
                return;
            }
            let at = At { scope, place };
            let Some(view) = self.step(at) else { continue };
            found.push(view);
            let scopes = self.run.step(at).map(|step| step.scopes().to_vec()).unwrap_or_default();
            for inner in &scopes {
                self.list(*inner, found);
            }
        }
    }

    fn step(&self, at: At) -> Option<StepView> {
        let (planned, step) = (self.plan.step(&self.run, at)?, self.run.step(at)?);
        let path = self.plan.job_path(&self.run, at, None, false);
        let is_job = matches!(step.work, Some(Work::Job | Work::Approval));
        let due_time = match step.work {
            Some(Work::Timer { due }) => Some(due),
            Some(Work::Signal { due }) => due,
            _ => None,
        };
        Some(StepView {
            id: planned.id().clone(),
            kind: planned.step.word(),
            state: step.state,
            attempts: step.attempts(),
            job_id: is_job.then(|| self.run.id().job(&path)),
            start_time: step.start_time,
            end_time: step.end_time,
            due_time: due_time.filter(|_| step.is_open()),
            error: step.error().cloned(),
            items: step.items().map(|items| ItemsView {
                count: items.count,
                begun: items.begun,
                over: items.over.count(),
                failed: items.failed.count(),
            }),
            undo: step.more.as_ref().and_then(|more| more.undo),
            at: Some(at),
            path,
        })
    }

    /// Steps of a list that was not begun, as they stand in the workflow.
    fn unopened(&self, list: u32, before: &str, found: &mut Vec<StepView>) {
        for place in 0..self.plan.size(list) {
            let Some(planned) = self.plan.step_in(list, place) else { continue };
            if found.len() >= STEPS_TOLD_MAX {
                return;
            }
            found.push(StepView {
                path: format!("{before}{}", planned.id()),
                id: planned.id().clone(),
                kind: planned.step.word(),
                state: StepState::Pending,
                attempts: 0,
                job_id: None,
                start_time: None,
                end_time: None,
                due_time: None,
                error: None,
                items: None,
                undo: None,
                at: None,
            });
        }
    }

    /// Name of a step where it stands in the history.
    pub fn name_of(&self, at: At, index: Option<u32>) -> String {
        self.plan.job_path(&self.run, at, index, false)
    }

    /// The signal a step waits for, by its name.
    pub fn signal_of(&self, at: At) -> Option<&str> {
        match &self.plan.step(&self.run, at)?.step.kind {
            Kind::WaitEvent(wait) => Some(&wait.name),
            Kind::Work(_) | Kind::Approval(_) | Kind::Delay(_) | Kind::Until(_) | Kind::Parallel(_) => None,
        }
    }
}
