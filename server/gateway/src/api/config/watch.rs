//! `WatchConfig`: the effective configuration as it is, then after every change, resumable after any message.

use crate::api::Replies;
use crate::api::jobs::end_with;
use crate::api::watch::SILENCE_MAX;
use crate::call::Call;
use crate::gate::{Gate, WatchPlace};
use crate::tokens::Bound;
use crate::wire::{Faults, config, json};
use coretex_contract::v1 as pb;
use coretex_domain::config::hex;
use coretex_domain::{Reason, Refusal};
use coretex_engine::{ConfigStep, ConfigWatch};
use futures::stream;
use std::sync::Arc;

struct Watch {
    gate: Arc<Gate>,
    call: Arc<Call>,
    bound: Bound,
    steps: ConfigWatch,
    is_over: bool,
    _place: WatchPlace,
}

/// Opens a watch.
pub(super) async fn open(
    gate: Arc<Gate>,
    call: Arc<Call>,
    request: pb::WatchConfigRequest,
) -> Result<Replies<pb::WatchConfigResponse>, Refusal> {
    let names = [&request.org, &request.team, &request.workflow, &request.step].map(String::as_str);
    let mut faults = Faults::default();
    let chain = config::chain(&mut faults, names, &call.namespace);
    faults.into_result()?;
    let scopes: Vec<String> = chain.scopes().iter().map(ToString::to_string).collect();
    let bound = Bound::new("WatchConfig", call.namespace.as_str(), 0, &scopes.join(" "));
    let from = gate.tokens.open_revisions(&bound, &request.resume_token)?;
    let place = gate.watch_place(&call.namespace)?;
    let steps = gate.engine.watch_config(&call.namespace, &chain, from).await?;
    let watch = Watch { gate, call, bound, steps, is_over: false, _place: place };
    Ok(Box::pin(stream::unfold(watch, |mut watch| async move {
        if watch.is_over {
            return None;
        }
        let message = watch.next().await;
        watch.is_over = message.is_err();
        let message = message.or_else(|refusal| end_with(&refusal, &watch.call));
        Some((message, watch))
    })))
}

impl Watch {
    async fn next(&mut self) -> Result<pb::WatchConfigResponse, Refusal> {
        let step = tokio::select! {
            step = tokio::time::timeout(SILENCE_MAX, self.steps.next()) => step.ok().transpose()?,
            () = self.gate.closed() => {
                let message = "the server goes down; resume with the last token";
                return Err(Refusal::new(Reason::ShuttingDown, message));
            }
        };
        let resume_token = self.gate.tokens.seal_revisions(&self.bound, &self.steps.position());
        let Some(ConfigStep { config: found, change }) = step else {
            let kind = pb::ConfigWatchKind::Current.into();
            return Ok(pb::WatchConfigResponse { kind, resume_token, ..Default::default() });
        };
        let kind =
            if change.is_some() { pb::ConfigWatchKind::Changed } else { pb::ConfigWatchKind::Existing };
        let is_foreign = |change: &coretex_engine::ScopeConfig| {
            change.namespace.is_installation() && !self.call.principal.namespaces.is_empty()
        };
        let told = change.map(|change| {
            let written = config::revision(&change, false);
            // Who changes the system's layer is not for its readers.
            let hidden =
                || pb::ConfigRevision { actor: String::new(), comment: String::new(), ..written.clone() };
            if is_foreign(&change) { hidden() } else { written }
        });
        Ok(pb::WatchConfigResponse {
            kind: kind.into(),
            layers: config::layers(&found, &self.call.namespace),
            digest: hex(&found.digest),
            data: json::object_of(found.data),
            change: told,
            resume_token,
        })
    }
}
