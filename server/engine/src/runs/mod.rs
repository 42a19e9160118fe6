//! Runs of workflows: asked for, read, waited for, changed. What happens to them is the kernel's concern.

mod change;
mod evaluate;
mod history;
mod read;
mod recover;
mod rerun;
mod start;
mod view;
mod watch;

pub use read::{RunPage, RunQuery};
pub use rerun::Rerun;
pub use start::StartRun;
pub use view::{ItemsView, RunView, StepView};
pub use watch::RunWatch;

pub(crate) use change::{cancel, take_place};
pub(crate) use evaluate::{evaluate, load};
pub(crate) use recover::{Recovered, gather};
pub(crate) use start::start_named;
pub(crate) use watch::Watches;

use crate::events::refusal_of;
use crate::shared::Shared;
use crate::workflows::definitions::definition;
use coretex_domain::config::Applied;
use coretex_domain::resource::{Kind, ResourceKey};
use coretex_domain::run::Part;
use coretex_domain::{Namespace, Reason, Refusal, Run, RunId};
use coretex_kernel::input::Configs;
use coretex_ports::{Row, Scan};
use coretex_workflow::Plan;
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Plans that are kept ready. Runs share theirs, so a plan in use costs nothing more here.
const PLANS_MAX: usize = 1_024;

type PlanKey = (Namespace, Arc<str>, u64);

/// Workflows made ready to be run.
#[derive(Default)]
pub(crate) struct Plans {
    kept: Mutex<FxHashMap<PlanKey, Arc<Plan>>>,
}

/// A version of a workflow, ready to be run; 0 for the newest.
pub(crate) async fn plan(
    shared: &Shared,
    namespace: &Namespace,
    workflow: &str,
    version: u64,
) -> Result<Arc<Plan>, Refusal> {
    let found = definition(shared, namespace, workflow, version).await?;
    let key = (namespace.clone(), found.name.clone(), found.version);
    let mut kept = shared.plans.kept.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(plan) = kept.get(&key) {
        return Ok(plan.clone());
    }
    if kept.len() >= PLANS_MAX {
        kept.clear();
    }
    let plan = Arc::new(Plan::new(found.workflow.definition.clone(), found.version));
    kept.insert(key, plan.clone());
    Ok(plan)
}

pub(crate) fn not_found(id: &RunId) -> Refusal {
    Refusal::new(Reason::RunNotFound, format!("run {id} not found")).fact("run_id", id.as_str())
}

/// A run as the store has it.
pub(crate) async fn stored(
    shared: &Shared,
    namespace: &Namespace,
    id: &RunId,
) -> Result<Option<Arc<Run>>, Refusal> {
    let key = ResourceKey::new(Kind::Run, namespace.clone(), id.name().clone());
    let page = shared.store.scan(Scan::Named(vec![key])).await.map_err(refusal_of)?;
    let Some(Row::Resource(row)) = page.rows.into_iter().next() else { return Ok(None) };
    Run::of_resource(&row)
        .map(|run| Some(Arc::new(run)))
        .map_err(|what| Refusal::new(Reason::DataCorruption, what))
}

/// Parts of a run, in the order asked; none where there is no such part.
pub(crate) async fn parts(
    shared: &Shared,
    run: &Run,
    wanted: &[Part],
) -> Result<Vec<Option<bytes::Bytes>>, Refusal> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<_> = wanted.iter().map(|part| part.key(run.id(), &run.plea.namespace)).collect();
    let page = shared.store.scan(Scan::Named(keys.clone())).await.map_err(refusal_of)?;
    let mut found: FxHashMap<Arc<str>, bytes::Bytes> = FxHashMap::default();
    for row in page.rows {
        if let Row::Resource(row) = row {
            found.insert(row.name.clone(), row.body.clone());
        }
    }
    Ok(keys.iter().map(|key| found.get(&key.name).cloned()).collect())
}

/// The configuration a run was started under.
pub(crate) async fn configs(shared: &Shared, run: &Run) -> Result<Configs, Refusal> {
    if !run.plea.has_config {
        return Ok(Configs::default());
    }
    let body = parts(shared, run, &[Part::Config]).await?.into_iter().flatten().next();
    let lost = || {
        Refusal::new(Reason::DataCorruption, format!("the configuration of run {} is not there", run.id()))
    };
    let read: serde_json::Value = serde_json::from_slice(&body.ok_or_else(lost)?).map_err(|_| lost())?;
    let mut configs = Configs::default();
    let mut of_steps = Vec::new();
    for (id, one) in read.as_object().into_iter().flatten() {
        let applied = Arc::new(Applied::of_json(one).ok_or_else(lost)?);
        match id.is_empty() {
            true => configs.of_run = Some(applied),
            false => of_steps.push((Arc::from(id.as_str()), applied)),
        }
    }
    configs.of_steps = of_steps.into();
    Ok(configs)
}
