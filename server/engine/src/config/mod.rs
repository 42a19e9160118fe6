//! Configuration in layers: the state of scopes, changes of it, and what jobs get of it.

mod body;
mod change;
mod history;
mod mirror;
mod schema;
mod secrets;
mod watch;

pub use body::{ConfigChange, ConfigSchema, ScopeConfig};
pub use change::ConfigEdit;
pub(crate) use history::complete;
pub(crate) use mirror::Configs;
pub use secrets::Unresolved;
pub use watch::{ConfigStep, ConfigWatch};

use crate::Engine;
use coretex_domain::config::{Applied, Chain, Digest, Layer, Level, Scope, canonical, digest_of, effective};
use coretex_domain::{Job, Namespace, Reason, Refusal};
use serde_json::Value;
use std::collections::BTreeMap;

/// What the layers of a chain give together.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectiveConfig {
    /// A map.
    pub data: Value,
    pub layers: Vec<Layer>,
    /// Path of each leaf to its place in `layers`.
    pub sources: BTreeMap<String, usize>,
    pub digest: Digest,
}

// === impl EffectiveConfig ===

impl EffectiveConfig {
    fn of(layers: Vec<Layer>, data: &[&Value]) -> EffectiveConfig {
        let merged = effective(data);
        let digest = digest_of(canonical(&merged.data).as_bytes());
        EffectiveConfig { data: merged.data, layers, sources: merged.sources, digest }
    }
}

/// Layers as a job gets them.
fn applied(layers: &[ScopeConfig]) -> Applied {
    Applied::of(layers.iter().map(layer_of).collect(), &data_of(layers))
}

fn layer_of(one: &ScopeConfig) -> Layer {
    Layer { scope: one.scope.clone(), revision: one.revision }
}

fn data_of(layers: &[ScopeConfig]) -> Vec<&Value> {
    layers.iter().filter_map(|layer| layer.data.as_ref()).collect()
}

pub(crate) fn not_found(scope: &Scope) -> Refusal {
    let message = format!("scope: {scope} has no configuration");
    Refusal::new(Reason::ConfigNotFound, message).fact("scope", scope.to_string())
}

// === impl Engine ===

impl Engine {
    /// The configuration of a scope as it is.
    pub fn config(&self, namespace: &Namespace, scope: &Scope) -> Result<ScopeConfig, Refusal> {
        let found = self.config_state(namespace, scope)?;
        found.filter(|state| state.data.is_some()).ok_or_else(|| not_found(scope))
    }

    /// The state of a scope, also after a delete.
    fn config_state(&self, namespace: &Namespace, scope: &Scope) -> Result<Option<ScopeConfig>, Refusal> {
        let snapshot = self.shared.catalog.configs.snapshot();
        snapshot.head(namespace, scope).map(|head| ScopeConfig::read(head)).transpose()
    }

    /// Scopes that callers of a namespace see: those of the namespace, and the system's.
    pub fn configs(&self, namespace: &Namespace) -> Result<Vec<ScopeConfig>, Refusal> {
        let snapshot = self.shared.catalog.configs.snapshot();
        let installation = Namespace::installation();
        let ours = snapshot.rows.iter().filter(|(key, _)| {
            let scope = body::scope_of(&key.name);
            let is_system = |scope: &Scope| scope.level == Level::System;
            (key.namespace == *namespace && scope.is_some())
                || (key.namespace == installation && scope.as_ref().is_some_and(is_system))
        });
        let read: Result<Vec<ScopeConfig>, Refusal> = ours.map(|(_, one)| ScopeConfig::read(one)).collect();
        Ok(read?.into_iter().filter(|state| state.data.is_some()).collect())
    }

    /// What the layers of a chain give together now.
    pub fn effective_config(&self, namespace: &Namespace, chain: &Chain) -> Result<EffectiveConfig, Refusal> {
        let layers = self.shared.catalog.configs.snapshot().layers(namespace, chain)?;
        Ok(EffectiveConfig::of(layers.iter().map(layer_of).collect(), &data_of(&layers)))
    }

    /// The configuration a job was submitted under, from the history of its layers.
    pub async fn config_of_job(&self, job: &Job) -> Result<EffectiveConfig, Refusal> {
        let layers = job.rare().config.as_ref().map(|config| config.layers.clone()).unwrap_or_default();
        let read = history::read_layers(&self.shared, &job.namespace, &layers).await?;
        Ok(EffectiveConfig::of(layers, &data_of(&read)))
    }
}
