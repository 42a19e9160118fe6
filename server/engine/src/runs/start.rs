//! Start: a run asked for; its workflow found, its input checked, its id and shard chosen, sent to its loop.

use super::evaluate::bring;
use super::{RunView, plan, stored};
use crate::api::Caller;
use crate::shared::Shared;
use crate::submit::refuse_growth;
use crate::{Engine, ask, namespaces};
use coretex_domain::job::Spec;
use coretex_domain::limits::{RUN_INLINE_MAX, RUN_VALUE_MAX};
use coretex_domain::run::{Lineage, Part, Plea, Signal, Value};
use coretex_domain::{Namespace, Payload, Reason, Refusal, Run, RunId, ShardId, Span, Time};
use coretex_kernel::input::{Configs, Input, KeptStep, Reply, StartRun as Starting};
use coretex_workflow::{Piece, Pieces, Plan};
use serde_json::Value as Json;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Look-ups before a start that keeps meeting departing runs is refused.
const LOOKS_MAX: usize = 4;

/// One run asked for.
#[derive(Clone, Debug, Default)]
pub struct StartRun {
    pub workflow: Arc<str>,
    /// 0: the newest.
    pub version: u64,
    /// JSON, or nothing.
    pub input: Payload,
    /// The same key is the same run; empty: none.
    pub idempotency_key: Arc<str>,
    /// Chosen by the client.
    pub run_id: Option<RunId>,
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    /// A signal that comes with the start; given to the run if it exists already.
    pub signal: Option<Signal>,
}

/// What a start is made of, beside what was asked for.
pub(super) struct Ready {
    pub(super) plan: Arc<Plan>,
    pub(super) input: Json,
    pub(super) kept: Vec<KeptStep>,
    pub(super) lineage: Option<Lineage>,
}

impl Engine {
    /// Starts a run, or finds the one an earlier request with the same key made (true).
    pub async fn start_run(
        &self,
        caller: &Caller,
        asked: StartRun,
        request_id: &str,
    ) -> Result<(RunView, bool), Refusal> {
        start(&self.shared, caller, asked, request_id).await
    }
}

pub(crate) async fn start(
    shared: &Arc<Shared>,
    caller: &Caller,
    asked: StartRun,
    request_id: &str,
) -> Result<(RunView, bool), Refusal> {
    if asked.run_id.as_ref().is_some_and(RunId::is_made) {
        let message = "looks like an id the server makes; choose another, as run_nightly-7";
        return Err(Refusal::field("run_id", message));
    }
    start_named(shared, caller, asked, request_id).await
}

/// The same, also under an id in the form of our own.
pub(crate) async fn start_named(
    shared: &Arc<Shared>,
    caller: &Caller,
    asked: StartRun,
    request_id: &str,
) -> Result<(RunView, bool), Refusal> {
    if asked.version > 0 {
        // Versions of a workflow that was deleted are there for the runs that are on them.
        plan(shared, &caller.namespace, &asked.workflow, 0).await?;
    }
    let plan = plan(shared, &caller.namespace, &asked.workflow, asked.version).await?;
    let input = input_of(&plan, &asked.input)?;
    let ready = Ready { plan, input, kept: Vec::new(), lineage: None };
    start_ready(shared, caller, asked, ready, request_id).await
}

fn input_of(plan: &Plan, given: &Payload) -> Result<Json, Refusal> {
    let given = match given.data.is_empty() {
        true => None,
        false => Some(serde_json::from_slice(&given.data).map_err(|error| {
            Refusal::new(Reason::InvalidJson, format!("input: a run takes JSON; {error}"))
        })?),
    };
    plan.definition.input_of(given).map_err(|violations| {
        let message = format!("the input breaks the input_schema of workflow {}", plan.workflow);
        Refusal { violations, ..Refusal::new(Reason::RunInputInvalid, message) }
    })
}

pub(super) async fn start_ready(
    shared: &Arc<Shared>,
    caller: &Caller,
    asked: StartRun,
    ready: Ready,
    request_id: &str,
) -> Result<(RunView, bool), Refusal> {
    refuse_growth(shared, 1)?;
    let bytes = || asked.input.data.len() as u64;
    let _place = namespaces::place_of_jobs(shared, &caller.namespace, 1, bytes).await?;
    if let Some(declared) = namespaces::declared_topics(shared, &caller.namespace) {
        let is_unknown =
            |topic: &&Arc<str>| !coretex_domain::house::does(topic) && !declared.contains(*topic);
        if let Some(topic) = ready.plan.topics().find(is_unknown) {
            return Err(namespaces::undeclared(topic));
        }
    }
    let input: Arc<str> = ready.input.to_string().into();
    if input.len() > RUN_VALUE_MAX {
        let message =
            format!("input: {} bytes of JSON with its defaults, at most {RUN_VALUE_MAX}", input.len());
        return Err(Refusal::new(Reason::PayloadTooLarge, message));
    }
    let mut starting = starting_of(shared, caller, &asked, &ready, input, request_id)?;
    let id = starting.plea.id.clone();
    let who = shared.loop_of(id.shard(&caller.namespace));
    for _ in 0..LOOKS_MAX {
        starting.looked_at = shared.departed[who].load(Ordering::Acquire);
        if let Some(run) = stored(shared, &caller.namespace, &id).await? {
            return met(shared, caller, run, &starting, asked.signal).await;
        }
        match ask(shared, who, Input::StartRun(Box::new(starting))).await? {
            Reply::Started(Ok((run, existing))) => {
                shared.clean_soon.notify_one();
                let view = RunView { run, plan: ready.plan, input: None, output: None };
                return Ok((view, existing));
            }
            Reply::Started(Err(refusal)) => return Err(refusal),
            Reply::StartAgain(again) => starting = *again,
            Reply::RunAway => {
                bring(shared, &caller.namespace, &id).await?;
                starting =
                    starting_of(shared, caller, &asked, &ready, ready.input.to_string().into(), request_id)?;
                starting.plea.id = id.clone();
            }
            _ => return Err(crate::reloaded()),
        }
    }
    Err(Refusal::new(Reason::Overloaded, "runs with this id keep leaving memory").retry_after(Span(100)))
}

/// A run that is there already: it hears the signal that came with the start.
async fn met(
    shared: &Arc<Shared>,
    caller: &Caller,
    run: Arc<Run>,
    starting: &Starting,
    signal: Option<Signal>,
) -> Result<(RunView, bool), Refusal> {
    if run.plea.fingerprint != starting.plea.fingerprint {
        let message = format!("run {} exists, and was started with something else", run.id());
        return Err(Refusal::new(Reason::IdempotencyConflict, message).fact("run_id", run.id().as_str()));
    }
    let run = match signal {
        Some(signal) if !run.is_over() => {
            super::change::signal(shared, &caller.namespace, run.id(), signal).await?
        }
        _ => run,
    };
    let plan = plan(shared, &caller.namespace, &run.plea.workflow, run.plea.version).await?;
    Ok((RunView { run, plan, input: None, output: None }, true))
}

fn starting_of(
    shared: &Arc<Shared>,
    caller: &Caller,
    asked: &StartRun,
    ready: &Ready,
    input: Arc<str>,
    request_id: &str,
) -> Result<Starting, Refusal> {
    let now = shared.env.clock.now().wall;
    let plan = &ready.plan;
    let configs = configs_of(shared, &caller.namespace, plan, &asked.labels)?;
    let kept_input = match input.len() {
        n if n > RUN_INLINE_MAX => Value::Apart(u32::try_from(n).unwrap_or(u32::MAX)),
        _ => Value::Here(input.clone()),
    };
    let mut plea = Plea {
        id: RunId::make(now.0, 0, ShardId(0)),
        namespace: caller.namespace.clone(),
        workflow: plan.workflow.clone(),
        version: plan.version,
        input: kept_input,
        labels: asked.labels.clone(),
        actor: caller.actor.clone(),
        fingerprint: fingerprint(asked, &input, ready.lineage.as_ref()),
        deadline: plan.definition.timeout.map(|span| now + span),
        concurrency: None,
        has_config: configs.of_run.is_some() || !configs.of_steps.is_empty(),
        lineage: ready.lineage.clone(),
    };
    plea.concurrency = concurrency_of(plan, &plea, &ready.input, configs.of_run.as_ref(), now)?;
    plea.id = id_of(shared, caller, asked, &plea, request_id, now);
    let on_conflict = plan.definition.concurrency.as_ref().map(|one| one.on_conflict).unwrap_or_default();
    Ok(Starting {
        plea,
        plan: plan.clone(),
        configs,
        input: input.as_bytes().to_vec().into(),
        on_conflict,
        signal: asked.signal.clone(),
        kept: ready.kept.clone(),
        looked_at: 0,
    })
}

fn concurrency_of(
    plan: &Plan,
    plea: &Plea,
    input: &Json,
    config: Option<&Arc<coretex_domain::config::Applied>>,
    now: Time,
) -> Result<Option<(Arc<str>, u32)>, Refusal> {
    let Some(concurrency) = &plan.definition.concurrency else { return Ok(None) };
    let mut pieces = Pieces::default();
    pieces.insert(Piece::Input, Arc::new(input.clone()));
    if let Some(config) = config {
        pieces.insert(Piece::Config, Arc::new(config.value().clone()));
    }
    let run = Run::made(Arc::new(plea.clone()), now);
    let key = plan
        .concurrency_key(&run, &pieces)
        .map_err(|trouble| Refusal::field("workflow.concurrency.key", trouble.message.to_string()))?;
    Ok(key.map(|key| (key.into(), concurrency.limit)))
}

/// The id asked for; the same one for the same key or request; otherwise a new one, beside those with its concurrency key.
fn id_of(
    shared: &Shared,
    caller: &Caller,
    asked: &StartRun,
    plea: &Plea,
    request_id: &str,
    now: Time,
) -> RunId {
    if let Some(id) = &asked.run_id {
        return id.clone();
    }
    let namespace = caller.namespace.as_str();
    if !asked.idempotency_key.is_empty() {
        return derived(&[namespace, "run key", &plea.workflow, &asked.idempotency_key]);
    }
    if !request_id.is_empty() {
        return derived(&[namespace, "run request", request_id]);
    }
    let bits = shared.env.dice.bits();
    let shard = match &plea.concurrency {
        Some((key, _)) => ShardId::of(&[namespace, "run", &plea.workflow, key]),
        None => ShardId((bits & 0xff).to_le_bytes()[0]),
    };
    RunId::make(now.0, bits >> 8 << 8, shard)
}

/// The id that these parts always give.
fn derived(parts: &[&str]) -> RunId {
    let mut hash = blake3::Hasher::new();
    for part in parts {
        hash.update(part.as_bytes()).update(&[0]);
    }
    let mut bits = [0; 16];
    bits.copy_from_slice(&hash.finalize().as_bytes()[..16]);
    RunId::make(0, u128::from_le_bytes(bits), ShardId::of(parts))
}

/// A hash over all that was asked for.
fn fingerprint(asked: &StartRun, input: &str, lineage: Option<&Lineage>) -> u128 {
    let mut hash = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(asked.workflow.as_bytes());
    part(&asked.version.to_le_bytes());
    part(input.as_bytes());
    for (key, value) in &asked.labels {
        part(key.as_bytes());
        part(value.as_bytes());
    }
    if let Some(lineage) = lineage {
        part(lineage.run_id.as_bytes());
        part(lineage.step.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize().as_bytes()[..16]);
    u128::from_be_bytes(bytes)
}

/// The configuration of a run and of its steps, as it is now.
fn configs_of(
    shared: &Shared,
    namespace: &Namespace,
    plan: &Plan,
    labels: &[(Arc<str>, Arc<str>)],
) -> Result<Configs, Refusal> {
    let Some(submitting) = shared.catalog.configs.of(namespace) else { return Ok(Configs::default()) };
    let with = |step: Option<&Arc<str>>| {
        let mut spec = Spec::new("", Payload::empty());
        let own = labels.iter().filter(|(key, _)| !matches!(&**key, "workflow" | "step")).cloned();
        let step = step.map(|id| (Arc::from("step"), id.clone()));
        spec.options_mut().labels =
            own.chain([(Arc::from("workflow"), plan.workflow.clone())]).chain(step).collect();
        submitting.for_job(&spec)
    };
    let of_run = with(None)?;
    let mut of_steps = Vec::new();
    for planned in plan.steps.iter().filter(|planned| submitting.names_step(planned.id())) {
        if let Some(config) = with(Some(planned.id()))?.filter(|config| Some(config) != of_run.as_ref()) {
            of_steps.push((planned.id().clone(), config));
        }
    }
    Ok(Configs { of_run, of_steps: of_steps.into() })
}

/// A value of a run in full, from its record or from the part that holds it.
pub(super) async fn value_of(
    shared: &Shared,
    run: &Run,
    value: &Value,
    part: Part,
) -> Result<Option<bytes::Bytes>, Refusal> {
    match value {
        Value::Here(text) => Ok(Some(bytes::Bytes::copy_from_slice(text.as_bytes()))),
        Value::Apart(_) => Ok(super::parts(shared, run, &[part]).await?.into_iter().flatten().next()),
    }
}
