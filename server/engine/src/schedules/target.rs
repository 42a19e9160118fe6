//! What schedules start: jobs by the path of every submit, and runs of workflows.
//!
//! In: a schedule and a time that is its turn. Out: the id of what was started, the same for the same time for ever.

use crate::api::{Ask, Caller};
use crate::events::refusal_of;
use crate::mail::Mail;
use crate::shared::Shared;
use crate::{ask, runs, submit};
use coretex_domain::job::{Spec, StateKind};
use coretex_domain::names::schedule_actor;
use coretex_domain::{Job, JobId, Namespace, Payload, Reason, Refusal, RunId, ShardId, Span};
use coretex_kernel::input::{Input, Reply};
use coretex_schedule::{Pending, Schedule, Target, target_bits};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Labels of the jobs that schedules make. No caller may use the prefix.
const LABEL_SCHEDULE: &str = "coretex.schedule";
const LABEL_NOMINAL_TIME: &str = "coretex.nominal_time";

/// Wait before a target is looked at again of which nobody says that it has ended.
const ASK_AGAIN: Span = Span(100);

/// A run that is to be started. A repeat with the same id starts nothing more.
#[derive(Clone, Debug)]
pub struct StartAs {
    pub workflow: Arc<str>,
    /// The newest one if left out.
    pub version: Option<u32>,
    pub input: Payload,
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    pub run_id: Arc<str>,
}

/// What was started.
pub(super) struct Started {
    pub(super) target_id: Arc<str>,
    /// It was made, and denied by policy at once: why.
    pub(super) denied: Option<String>,
}

/// Starts the target for a time. Whatever was started for it before is met again.
pub(super) async fn start(
    shared: &Arc<Shared>,
    schedule: &Schedule,
    pending: &Pending,
) -> Result<Started, Refusal> {
    let caller = caller_of(schedule);
    let bits = target_bits(&schedule.namespace, &schedule.id, pending.nominal, pending.token);
    let shard = ShardId::of(&[schedule.namespace.as_str(), "schedule", &schedule.id]);
    let id = JobId::make(pending.nominal.0, bits, shard);
    match &schedule.definition.target {
        Target::Job(spec) => start_job(shared, &caller, labelled(spec, schedule, pending), id).await,
        Target::Run { workflow, version, input, labels } => {
            let run_id: Arc<str> = id.to_string().replacen("job_", "run_", 1).into();
            let start = StartAs {
                workflow: workflow.clone(),
                version: *version,
                input: input.clone(),
                labels: with_own(labels, schedule, pending),
                run_id: run_id.clone(),
            };
            start_target_run(shared, &caller, start).await?;
            Ok(Started { target_id: run_id, denied: None })
        }
    }
}

async fn start_job(shared: &Arc<Shared>, caller: &Caller, spec: Spec, id: JobId) -> Result<Started, Refusal> {
    let target_id: Arc<str> = id.to_string().into();
    let asks = vec![Ask { spec: Arc::new(spec), job_id: Some(id) }];
    let answer = submit::submit(shared, caller, asks, "", None).await?.pop();
    shared.clean_soon.notify_one();
    match answer {
        Some(Ok(accepted)) => {
            let decision = accepted.job.decision.as_deref();
            let is_denied = accepted.job.state.kind() == StateKind::Denied;
            let denied = is_denied.then(|| {
                decision.map_or_else(
                    || "policy denied the job".into(),
                    |d| format!("rule {}: {}", d.rule_id, d.reason),
                )
            });
            Ok(Started { target_id, denied })
        }
        // Nobody else can make this id: it was started before the schedule was changed.
        Some(Err(refusal)) if refusal.reason == Reason::JobExists => Ok(Started { target_id, denied: None }),
        Some(Err(refusal)) => Err(refusal),
        None => Err(Refusal::new(Reason::OutcomeUnknown, "no answer for this job")),
    }
}

/// Starts a run of a workflow in somebody's name.
pub(crate) async fn start_target_run(
    shared: &Arc<Shared>,
    caller: &Caller,
    start: StartAs,
) -> Result<(), Refusal> {
    let run_id = RunId::parse(&start.run_id).map_err(|error| Refusal::field("run_id", error.0))?;
    let asked = runs::StartRun {
        workflow: start.workflow,
        version: start.version.map_or(0, u64::from),
        input: start.input,
        run_id: Some(run_id),
        labels: start.labels,
        ..runs::StartRun::default()
    };
    match runs::start_named(shared, caller, asked, "").await {
        Ok(_) => Ok(()),
        // Nobody else can make this id: it was started before the schedule was changed.
        Err(refusal) if refusal.reason == Reason::IdempotencyConflict => Ok(()),
        Err(refusal) => Err(refusal),
    }
}

/// Of these targets, those that have not ended.
pub(super) async fn running(
    shared: &Shared,
    namespace: &Namespace,
    ids: &[Arc<str>],
) -> Result<Vec<Arc<str>>, Refusal> {
    let mut open: Vec<Arc<str>> = Vec::new();
    for id in ids.iter().filter_map(|id| run_id(id)) {
        let run = runs::stored(shared, namespace, &id).await?;
        open.extend(run.filter(|run| !run.is_over()).map(|run| run.id().name().clone()));
    }
    let jobs: Vec<JobId> = ids.iter().filter_map(|id| job_id(id)).collect();
    if jobs.is_empty() {
        return Ok(open);
    }
    let found = shared.store.read(namespace.clone(), jobs).await.map_err(refusal_of)?;
    let is_open = |job: &Arc<Job>| !job.state.kind().is_terminal();
    open.extend(found.into_iter().flatten().filter(is_open).map(|job| job.id.to_string().into()));
    Ok(open)
}

/// Completes when a target may have ended. It is asked again then.
pub(super) async fn ended(shared: Arc<Shared>, namespace: Namespace, id: Arc<str>) {
    if let Some(run_id) = run_id(&id) {
        return run_ended(&shared, &namespace, &run_id).await;
    }
    let Some(job_id) = job_id(&id) else { return };
    let (answer, done) = oneshot::channel();
    let who = shared.loop_of(job_id.shard(&namespace));
    if shared.post_waiting(who, Mail::Wait { namespace, job_id, answer }).await.is_ok() {
        if let Ok(Some(_)) = done.await {
            return;
        }
        // A loop that is loaded again forgets who waits: ask again, not at once.
        let soon = shared.env.clock.now().mono + ASK_AGAIN;
        shared.env.clock.sleep_until(soon).await;
    }
}

/// Completes when a run has ended, or when it is time to look again.
async fn run_ended(shared: &Arc<Shared>, namespace: &Namespace, id: &RunId) {
    // Watched before it is read, so that no end falls between the two.
    let mut watch = shared.run_watches.watch(id.key(namespace));
    match runs::stored(shared, namespace, id).await {
        Ok(Some(run)) if !run.is_over() => {}
        Ok(_) => return,
        Err(_) => {
            let soon = shared.env.clock.now().mono + ASK_AGAIN;
            return shared.env.clock.sleep_until(soon).await;
        }
    }
    while let Some(run) = watch.next().await {
        if run.is_over() {
            return;
        }
    }
}

/// Cancels a target. One that has ended meanwhile needs no cancelling.
pub(super) async fn cancel(shared: &Arc<Shared>, schedule: &Schedule, id: &Arc<str>) -> Result<(), Refusal> {
    let reason: Arc<str> = format!("the next time of schedule {} has come", schedule.id).into();
    let actor = caller_of(schedule).actor;
    if let Some(run_id) = run_id(id) {
        return runs::cancel(shared, &schedule.namespace, &run_id, (reason, actor)).await;
    }
    let Some(job_id) = job_id(id) else { return Ok(()) };
    let who = shared.loop_of(job_id.shard(&schedule.namespace));
    let input = Input::Cancel { namespace: schedule.namespace.clone(), job_id, reason, actor };
    match ask(shared, who, input).await? {
        Reply::Job(Err(refusal)) if refusal.reason != Reason::JobTerminal => Err(refusal),
        _ => Ok(()),
    }
}

/// A job; none for a run.
fn job_id(id: &str) -> Option<JobId> {
    JobId::parse(id).ok().filter(|_| id.starts_with("job_"))
}

/// A run; none for a job.
fn run_id(id: &str) -> Option<RunId> {
    RunId::parse(id).ok()
}

fn caller_of(schedule: &Schedule) -> Caller {
    let actor = schedule_actor(&schedule.id, &schedule.creator).into();
    Caller { namespace: schedule.namespace.clone(), actor }
}

fn labelled(spec: &Spec, schedule: &Schedule, pending: &Pending) -> Spec {
    let mut spec = spec.clone();
    let options = spec.options_mut();
    options.labels = with_own(&options.labels, schedule, pending);
    spec
}

fn with_own(
    labels: &[(Arc<str>, Arc<str>)],
    schedule: &Schedule,
    pending: &Pending,
) -> Vec<(Arc<str>, Arc<str>)> {
    let mut labels = labels.to_vec();
    labels.push((LABEL_SCHEDULE.into(), schedule.id.clone()));
    let nominal_time = schedule.definition.rule.timing.print(pending.nominal);
    labels.push((LABEL_NOMINAL_TIME.into(), nominal_time.into()));
    labels
}
