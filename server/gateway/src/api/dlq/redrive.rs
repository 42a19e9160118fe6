//! `BatchRetryDeadLetters`: what is to be retried read and checked, then the redrive told step by step.

use super::letters;
use crate::api::Replies;
use crate::api::jobs::{check_request_id, end_with};
use crate::api::list::filter;
use crate::call::Call;
use crate::gate::{Gate, job_id};
use crate::wire::job::Look;
use crate::wire::{Faults, dead_letter};
use coretex_contract::v1 as pb;
use coretex_domain::dead_letter::DEAD_LETTER_FIELDS;
use coretex_domain::limits::{REDRIVE_IDS_MAX, REDRIVE_RATE_MAX};
use coretex_domain::{Reason, Refusal};
use coretex_engine::{Redrive, RedriveRun, Which};
use futures::stream;
use std::sync::Arc;

type Reply = pb::BatchRetryDeadLettersResponse;

struct Running {
    gate: Arc<Gate>,
    call: Arc<Call>,
    run: RedriveRun,
    is_over: bool,
    _place: crate::gate::WatchPlace,
}

pub(super) async fn open(
    gate: Arc<Gate>,
    call: Arc<Call>,
    request: pb::BatchRetryDeadLettersRequest,
) -> Result<Replies<Reply>, Refusal> {
    let is_preview = request.preview;
    let asked = read(&call, request)?;
    let place = gate.watch_place(&call.namespace)?;
    if is_preview {
        let found = gate.engine.preview_redrive(&call.caller(), &asked).await?;
        let reply = Reply {
            phase: pb::RedrivePhase::Preview.into(),
            matched: found.matched,
            exact: found.is_exact,
            sample: found.sample.iter().map(|job| dead_letter::write(job, Look::BASIC)).collect(),
            ..Reply::default()
        };
        return Ok(Box::pin(stream::once(async move { Ok(reply) })));
    }
    let run = gate.engine.redrive(&call.caller(), asked);
    let running = Running { gate, call, run, is_over: false, _place: place };
    Ok(Box::pin(stream::unfold(running, |mut running| async move {
        let message = running.next().await?;
        let message = message.or_else(|refusal| end_with(&refusal, &running.call));
        Some((message, running))
    })))
}

fn read(call: &Call, request: pb::BatchRetryDeadLettersRequest) -> Result<Redrive, Refusal> {
    check_request_id(&request.request_id)?;
    let mut faults = Faults::default();
    let ways = [!request.filter.is_empty(), !request.dead_letter_ids.is_empty(), request.all];
    match ways.iter().filter(|is_used| **is_used).count() {
        1 => {}
        0 => faults.add("filter", "required: exactly one of `filter`, `dead_letter_ids` and `all`"),
        _ => faults.add("filter", "must be the only one of `filter`, `dead_letter_ids` and `all`"),
    }
    if request.rate > REDRIVE_RATE_MAX {
        faults.add("rate", format!("must be 0..={REDRIVE_RATE_MAX}, got {}", request.rate));
    }
    if request.dead_letter_ids.len() > REDRIVE_IDS_MAX {
        let message =
            format!("dead_letter_ids: at most {REDRIVE_IDS_MAX}, got {}", request.dead_letter_ids.len());
        return Err(Refusal::new(Reason::BatchTooLarge, message));
    }
    let mut ids = Vec::with_capacity(request.dead_letter_ids.len());
    for (n, text) in request.dead_letter_ids.iter().enumerate() {
        match job_id(&format!("dead_letter_ids[{n}]"), text) {
            Ok(id) => ids.push(id),
            Err(refusal) => refusal.violations.into_iter().for_each(|v| faults.add(v.field, v.message)),
        }
    }
    faults.into_result()?;
    let which = match ids.is_empty() {
        true => Which::Query(letters(call, filter(DEAD_LETTER_FIELDS, &request.filter)?)),
        false => Which::Ids(ids),
    };
    Ok(Redrive {
        which,
        request_id: request.request_id,
        rate: request.rate,
        stop_on_repeat: request.stop_on_repeat,
        canary: request.canary,
    })
}

impl Running {
    async fn next(&mut self) -> Option<Result<Reply, Refusal>> {
        if self.is_over {
            return None;
        }
        let step = tokio::select! {
            step = self.run.next() => step?,
            () = self.gate.closed() => Err(Refusal::new(
                Reason::ShuttingDown,
                "the server goes down; call again with the same request_id to go on",
            )),
        };
        self.is_over = step.is_err();
        Some(step.map(|step| dead_letter::redrive(step, &self.call)))
    }
}
