//! Children of a job, on their way to its owner: checked like any submit, and made there in one commit with the answer.

use crate::api::SpawnAsk;
use crate::shared::Shared;
use crate::submit::refuse_growth;
use crate::{house, namespaces, tell};
use coretex_domain::job::Spec;
use coretex_domain::{Job, Refusal};
use coretex_kernel::input::{Ask, Child, Input, Reply, Spawn};
use std::sync::Arc;

pub(super) async fn make(
    shared: &Arc<Shared>,
    who: usize,
    job: &Job,
    asked: &SpawnAsk,
    ask: Ask,
) -> Result<Reply, Refusal> {
    // What was spawned before is told again, whatever the limits say by now.
    let is_repeat = job.family().is_some_and(|family| family.spawns.iter().any(|s| s.name == asked.name));
    let _place = match is_repeat {
        true => None,
        false => {
            refuse_growth(shared, asked.specs.len())?;
            // Held until all is answered.
            let bytes = || asked.specs.iter().map(|spec| spec.payload.data.len() as u64).sum();
            namespaces::place_of_jobs(shared, &job.namespace, asked.specs.len() as u64, bytes).await?
        }
    };
    let spawn = Spawn {
        ask,
        name: asked.name.clone(),
        children: children(shared, job, &asked.specs, is_repeat)?,
        close_with_parent: asked.close_with_parent,
    };
    tell(shared, who, Input::Spawn(Box::new(spawn))).await
}

fn children(shared: &Shared, job: &Job, specs: &[Arc<Spec>], is_repeat: bool) -> Result<Vec<Child>, Refusal> {
    let declared = namespaces::declared_topics(shared, &job.namespace).filter(|_| !is_repeat);
    let configs = shared.catalog.configs.of(&job.namespace);
    let child = |(index, spec): (usize, &Arc<Spec>)| {
        if declared.as_ref().is_some_and(|declared| !declared.contains(&spec.topic)) {
            return Err(of_item(index, namespaces::undeclared(&spec.topic)));
        }
        house::check(shared, spec).map_err(|refusal| of_item(index, refusal))?;
        let parent = spec.options().parent_job_id.as_deref();
        if let Some(other) = parent.filter(|parent| **parent != *job.id.to_string()) {
            let field = format!("ask.spawn.specs[{index}].parent_job_id");
            let rule = format!("must be empty or {}, the job that spawns it, got {other}", job.id);
            return Err(Refusal::field(field, rule));
        }
        let spec = born_of(job, spec);
        let config = match &configs {
            Some(configs) => configs.for_job(&spec).map_err(|refusal| of_item(index, refusal))?,
            None => None,
        };
        Ok(Child { spec, config })
    };
    specs.iter().enumerate().map(child).collect()
}

/// The spec of a child: it names its parent, and goes on with its trace where it has none of its own.
fn born_of(job: &Job, spec: &Spec) -> Arc<Spec> {
    let mut spec = spec.clone();
    let options = spec.options_mut();
    options.parent_job_id = Some(job.id.to_string().into());
    if options.trace_id.is_none() {
        options.trace_id = job.spec.options().trace_id.clone();
    }
    Arc::new(spec)
}

fn of_item(index: usize, refusal: Refusal) -> Refusal {
    Refusal { message: format!("ask.spawn.specs[{index}]: {}", refusal.message), ..refusal }
}
