//! What a run asks to be done beside its loop: values worked out from what is in the store, and runs brought back.

use super::{configs, parts, plan, stored};
use crate::mail::{Mail, ReplyTo};
use crate::shared::Shared;
use coretex_domain::run::{At, Part, Trouble, Value};
use coretex_domain::{JobId, Namespace, Refusal, Run, RunId, Span};
use coretex_kernel::input::{Evaluate, Evaluated, Input, LoadRun};
use coretex_kernel::value_of;
use coretex_workflow::{Bound, Piece, Pieces, Plan, Site};
use serde_json::Value as Json;
use std::sync::Arc;

/// Jobs read at a time.
const READ_BATCH: usize = 1_000;
/// Larger than this it is worked out on a thread of its own.
const THREAD_FROM: usize = 256 << 10;
/// Wait before something is tried again that the store refused.
const WAIT_MAX: Span = Span::secs(5);

/// Works out a site and tells the loop. Does not give up while the engine lives.
pub(crate) async fn evaluate(shared: Arc<Shared>, asked: Box<Evaluate>) {
    let Ok(_turn) = shared.evaluations.acquire().await else { return };
    let mut wait = Span(50);
    let found = loop {
        match work_out(&shared, &asked).await {
            Ok(found) => break found,
            Err(refusal) => {
                tracing::warn!(%refusal, run = %asked.run.id(), "values of a run cannot be read yet");
                pause(&shared, &mut wait).await;
            }
        }
    };
    let who = shared.loop_of(asked.run.shard);
    // A loop that is loaded again asks again.
    let _ = shared.post_waiting(who, Mail::Decide(Input::Evaluated(Box::new(found)), ReplyTo::Nobody)).await;
}

async fn pause(shared: &Shared, wait: &mut Span) {
    let until = shared.env.clock.now().mono + *wait;
    shared.env.clock.sleep_until(until).await;
    *wait = Span((wait.0 * 2).min(WAIT_MAX.0));
}

async fn work_out(shared: &Shared, asked: &Evaluate) -> Result<Evaluated, Refusal> {
    let wanted = asked.plan.pieces(&asked.run, &asked.site);
    let (pieces, bytes) = gather(shared, asked, &wanted).await?;
    let items = pieces.iter().find_map(|(piece, value)| match piece {
        Piece::Items(at) if value.is_array() => Some((*at, value.clone())),
        _ => None,
    });
    let (plan, run, site) = (asked.plan.clone(), asked.run.clone(), asked.site);
    let now = shared.env.clock.now().wall;
    let decide = move || plan.decide(&run, &site, &pieces, (now, Bound::Beside));
    let decided = match bytes > THREAD_FROM {
        false => decide(),
        true => tokio::task::spawn_blocking(decide).await.unwrap_or_else(|error| {
            let message = format!("it could not be worked out: {error}").into();
            Err(Box::new(Trouble { step: "".into(), kind: "EXPRESSION".into(), message }))
        }),
    };
    Ok(Evaluated { run: asked.run.key(), site: asked.site, decided, items })
}

/// Reads pieces that are not at hand.
async fn gather(shared: &Shared, asked: &Evaluate, wanted: &[Piece]) -> Result<(Pieces, usize), Refusal> {
    let mut pieces = Pieces::default();
    let mut bytes = 0;
    let mut put = |piece: Piece, data: &[u8]| {
        bytes += data.len();
        pieces.insert(piece, Arc::new(value_of(data)));
    };
    let mut of_parts = Vec::new();
    let mut of_jobs = Vec::new();
    for piece in wanted {
        if let Some((_, data)) = asked.at_hand.iter().find(|(known, _)| known == piece) {
            put(*piece, data);
        } else if let Some(text) = here(&asked.run, *piece) {
            put(*piece, text.as_bytes());
        } else {
            match piece {
                Piece::Result(at, index) => {
                    of_jobs.push((*piece, job_of(&asked.plan, &asked.run, *at, *index)))
                }
                Piece::Config => {
                    let config = asked.config.as_ref().map_or(Json::Null, |config| config.value().clone());
                    put(*piece, config.to_string().as_bytes());
                }
                Piece::Input => of_parts.push((*piece, Part::Input)),
                Piece::Items(at) => of_parts.push((*piece, Part::Items(*at))),
                Piece::Step(at) => of_parts.push((*piece, Part::Step(*at))),
            }
        }
    }
    let names: Vec<Part> = of_parts.iter().map(|(_, part)| part.clone()).collect();
    for ((piece, _), body) in of_parts.iter().zip(parts(shared, &asked.run, &names).await?) {
        put(*piece, &body.unwrap_or_default());
    }
    for batch in of_jobs.chunks(READ_BATCH) {
        let ids = batch.iter().map(|(_, id)| id.clone()).collect();
        let namespace = asked.run.plea.namespace.clone();
        let found = shared.store.read(namespace, ids).await.map_err(crate::events::refusal_of)?;
        for ((piece, _), job) in batch.iter().zip(found) {
            let result = job.as_ref().and_then(|job| job.result.as_ref());
            put(*piece, result.map_or(&[][..], |result| &result.data));
        }
    }
    Ok((pieces, bytes))
}

fn here(run: &Run, piece: Piece) -> Option<Arc<str>> {
    let value = match piece {
        Piece::Input => &run.plea.input,
        Piece::Step(at) => run.step(at)?.more.as_ref()?.output.as_ref()?,
        Piece::Config | Piece::Items(_) | Piece::Result(..) => return None,
    };
    match value {
        Value::Here(text) => Some(text.clone()),
        Value::Apart(_) => None,
    }
}

fn job_of(plan: &Plan, run: &Run, at: At, index: Option<u32>) -> JobId {
    run.id().job(&plan.job_path(run, at, index, false))
}

/// The values of these pieces of a run.
pub(super) async fn pieces_of(
    shared: &Shared,
    run: &Arc<Run>,
    plan: &Arc<Plan>,
    wanted: &[Piece],
) -> Result<Pieces, Refusal> {
    let config = configs(shared, run).await?.of_run;
    let asked =
        Evaluate { run: run.clone(), plan: plan.clone(), site: Site::Output, at_hand: Vec::new(), config };
    gather(shared, &asked, wanted).await.map(|(pieces, _)| pieces)
}

/// Brings a run back that only waited. Does not give up while the engine lives.
pub(crate) async fn load(shared: Arc<Shared>, namespace: Namespace, run_id: RunId) {
    let mut wait = Span(50);
    loop {
        match bring(&shared, &namespace, &run_id).await {
            Ok(()) => return,
            Err(refusal) => {
                tracing::warn!(%refusal, run = %run_id, "a run that waited cannot be loaded yet");
                pause(&shared, &mut wait).await;
            }
        }
    }
}

/// Reads an open run with what it needs, and gives it to its loop.
pub(super) async fn bring(
    shared: &Arc<Shared>,
    namespace: &Namespace,
    run_id: &RunId,
) -> Result<(), Refusal> {
    let Some(run) = stored(shared, namespace, run_id).await?.filter(|run| !run.is_over()) else {
        return Ok(());
    };
    let rest = whole(shared, run).await?;
    let who = shared.loop_of(rest.run.shard);
    let input = Input::LoadRun(Box::new(rest));
    crate::tell(shared, who, input).await.map(drop)
}

/// A run with its plan and its configuration.
pub(super) async fn whole(shared: &Shared, run: Arc<Run>) -> Result<LoadRun, Refusal> {
    let plan = plan(shared, &run.plea.namespace, &run.plea.workflow, run.plea.version).await?;
    let configs = configs(shared, &run).await?;
    Ok(LoadRun { run, plan, configs })
}
