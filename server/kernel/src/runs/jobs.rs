//! The jobs of a run: made as any other, in the turn in which they may begin, and judged by the policy like any other.

use crate::input::{NewJob, Origin};
use crate::path::submit;
use crate::{Dispatcher, Turn, View};
use coretex_domain::RunKey;
use coretex_domain::config::Applied;
use coretex_domain::job::{OfRun, Spec};
use coretex_domain::run::At;
use coretex_workflow::plan::Planned;
use std::sync::Arc;

/// Makes the job of a step, of an item, or of what undoes one.
pub(super) fn make(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    key: RunKey,
    (at, index, is_undo): (At, Option<u32>, bool),
    spec: Spec,
    turn: &mut Turn,
) {
    let Some(open) = view.run(key) else { return };
    let Some(planned) = open.plan.step(&open.run, at) else { return };
    let run = &open.run;
    let of_run = OfRun {
        at,
        index,
        is_undo,
        asks: planned.terms().filter(|_| !is_undo).cloned(),
        token_key: spec.options().idempotency_key.clone(),
    };
    let mut spec = spec;
    if of_run.token_key.is_some() {
        // It is what handlers make their effects once with; the job itself is named by its run.
        spec.options_mut().idempotency_key = None;
    }
    let item = NewJob {
        id: run.id().job(&open.plan.job_path(run, at, index, is_undo)),
        spec: Arc::new(spec),
        origin: Origin::Fresh,
        known: None,
        retry_of: None,
        config: config_of(open, planned, is_undo),
        family: None,
        of_run: Some(Box::new(of_run)),
    };
    let namespace = run.plea.namespace.clone();
    let actor: Option<Box<str>> = (!run.plea.actor.is_empty()).then(|| (&*run.plea.actor).into());
    submit::make(view, dispatcher, &namespace, actor, item, turn);
}

/// The configuration of a job: that of the run or of the step, and what the step lays over it.
fn config_of(open: &super::OpenRun, planned: &Planned, is_undo: bool) -> Option<Arc<Applied>> {
    let of_step = open.configs.of_steps.iter().find(|(id, _)| id == planned.id()).map(|(_, config)| config);
    let base = of_step.or(open.configs.of_run.as_ref());
    let Some(own) = planned.own_config(is_undo) else { return base.cloned() };
    let layers = base.map(|base| base.layers.clone()).unwrap_or_default();
    let below = base.map(|base| base.value());
    let all: Vec<_> = below.into_iter().filter(|value| value.is_object()).chain([own]).collect();
    Some(Arc::new(Applied::of(layers, &all)))
}

impl View {
    /// Jobs whose step lays something over its configuration have it again after a restart, when their run is loaded.
    pub(crate) fn complete_configs(&mut self, key: RunKey) {
        let Some(open) = self.runs.open.get(&key) else { return };
        let steps: Vec<At> = open.run.open_steps().map(|(at, _)| at).collect();
        let mut found = Vec::new();
        for at in steps {
            let Some(planned) = open.plan.step(&open.run, at) else { continue };
            if planned.own_config(false).is_some() {
                let config = config_of(open, planned, false);
                found.extend(super::open_jobs(open, at).into_iter().map(|job| (job, config.clone())));
            }
        }
        if let Some((at, index)) = open.run.undoing
            && let Some(planned) = open.plan.step(&open.run, at)
            && planned.own_config(true).is_some()
        {
            let path = open.plan.job_path(&open.run, at, index, true);
            let job = open.run.id().job(&path).key(&open.run.plea.namespace);
            found.push((job, config_of(open, planned, true)));
        }
        for (job, config) in found {
            if let Some(slot) = self.jobs.get_mut(&job) {
                Arc::make_mut(&mut slot.job).rare_mut().config = config;
            }
        }
    }
}
