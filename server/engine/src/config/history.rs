//! Earlier revisions: told page by page, and read again for jobs that were submitted under them.

use super::body::{ScopeConfig, revision_key};
use super::{applied, not_found};
use crate::Engine;
use crate::shared::Shared;
use coretex_domain::config::{Applied, Layer, Scope};
use coretex_domain::limits::CONFIG_REVISIONS_MAX;
use coretex_domain::resource::ResourceKey;
use coretex_domain::{Job, Namespace, Reason, Refusal};
use coretex_ports::Claim;
use rustc_hash::FxHashMap;
use std::sync::Arc;

impl Engine {
    /// Revisions of a scope, the newest first, from below `before` on; true if more may follow.
    pub async fn config_history(
        &self,
        namespace: &Namespace,
        scope: &Scope,
        before: Option<u64>,
        limit: usize,
    ) -> Result<(Vec<ScopeConfig>, bool), Refusal> {
        let head = self.config_state(namespace, scope)?.ok_or_else(|| not_found(scope))?;
        let newest = before.map_or(head.revision, |before| before.saturating_sub(1).min(head.revision));
        let oldest = head.revision.saturating_sub(CONFIG_REVISIONS_MAX - 1).max(1);
        let first = newest.saturating_sub((limit as u64).saturating_sub(1)).max(oldest);
        let keys = (first..=newest).map(|n| revision_key(namespace, scope, n)).collect();
        let mut found = read(&self.shared, keys).await?;
        found.sort_by_key(|one| std::cmp::Reverse(one.revision));
        Ok((found, first > oldest))
    }
}

/// Revisions by key, as far as they are kept, in no order.
pub(super) async fn read(shared: &Shared, keys: Vec<ResourceKey>) -> Result<Vec<ScopeConfig>, Refusal> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let found = shared.read_resources(keys).await?;
    found.iter().map(|one| ScopeConfig::read(one)).collect()
}

/// The layers as they were, in their order. Refuses when one is no longer kept.
pub(super) async fn read_layers(
    shared: &Shared,
    namespace: &Namespace,
    layers: &[Layer],
) -> Result<Vec<ScopeConfig>, Refusal> {
    let keys = layers.iter().map(|layer| revision_key(namespace, &layer.scope, layer.revision)).collect();
    let found = read(shared, keys).await?;
    let of = |layer: &Layer| {
        let same = |one: &&ScopeConfig| one.scope == layer.scope && one.revision == layer.revision;
        found.iter().find(same).cloned().ok_or_else(|| {
            let message = format!("revision {} of {} is no longer kept", layer.revision, layer.scope);
            Refusal::new(Reason::ConfigNotFound, message).fact("scope", layer.scope.to_string())
        })
    };
    layers.iter().map(of).collect()
}

/// Gives open jobs the data of their configuration again: records hold its digest and layers only, and policies ask
/// for its values. Jobs under one configuration share it.
pub(crate) async fn complete(shared: &Arc<Shared>, mut claim: Claim) -> Claim {
    let mut known: FxHashMap<(Namespace, [u8; 32]), Option<Arc<Applied>>> = FxHashMap::default();
    for job in &mut claim.open {
        let Some(config) = job.rare().config.clone() else { continue };
        let key = (job.namespace.clone(), config.digest);
        let whole = match known.get(&key) {
            Some(whole) if whole.as_ref().is_none_or(|whole| **whole == *config) => whole.clone(),
            // Equal data from other layers: the record keeps its own.
            Some(_) => read_again(shared, job, &config).await,
            None => {
                let whole = read_again(shared, job, &config).await;
                known.insert(key, whole.clone());
                whole
            }
        };
        if let Some(whole) = whole {
            Arc::make_mut(job).rare_mut().config = Some(whole);
        }
    }
    claim
}

/// None when it cannot be had: conditions about it then have no value, and the worker asks for it.
async fn read_again(shared: &Shared, job: &Job, config: &Applied) -> Option<Arc<Applied>> {
    match read_layers(shared, &job.namespace, &config.layers).await {
        Ok(layers) => Some(Arc::new(applied(&layers))).filter(|whole| **whole == *config),
        Err(refusal) => {
            tracing::warn!(%refusal, job = %job.id, "the configuration of a job cannot be read");
            None
        }
    }
}
