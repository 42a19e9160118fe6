//! Follows the effective configuration of a chain: its state, then every change of one of its layers, in order.

use super::body::{ScopeConfig, revision_key};
use super::{EffectiveConfig, data_of, history, layer_of};
use crate::Engine;
use crate::shared::Shared;
use coretex_domain::config::{Chain, Scope};
use coretex_domain::{Namespace, Refusal};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::watch;

/// Revisions that are told one by one after a gap; a longer gap is told as the state at its end.
const GAP_MAX: u64 = 100;

/// A reader of one chain.
pub struct ConfigWatch {
    shared: Arc<Shared>,
    namespace: Namespace,
    scopes: Vec<Scope>,
    /// Revision of each scope as told, 0 for none, and its state there.
    told: Vec<(u64, Option<ScopeConfig>)>,
    /// Changes that are to be told: the place of the scope, and its new state.
    pending: VecDeque<(usize, ScopeConfig)>,
    changes: watch::Receiver<u64>,
    is_new: bool,
}

/// One thing a watch tells.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigStep {
    pub config: EffectiveConfig,
    /// The change that led here; none for the state at the begin of a watch or after a long gap.
    pub change: Option<ScopeConfig>,
}

// === impl Engine ===

impl Engine {
    /// Follows a chain, from the revisions a watch of the same chain has told last, if they are given.
    pub async fn watch_config(
        &self,
        namespace: &Namespace,
        chain: &Chain,
        from: Option<Vec<u64>>,
    ) -> Result<ConfigWatch, Refusal> {
        let scopes = chain.scopes();
        let mut watch = ConfigWatch {
            shared: self.shared.clone(),
            namespace: namespace.clone(),
            told: vec![(0, None); scopes.len()],
            scopes,
            pending: VecDeque::new(),
            changes: self.catalog_changes(),
            is_new: true,
        };
        if let Some(from) = from.filter(|from| from.len() == watch.scopes.len()) {
            watch.is_new = !watch.go_back(&from).await?;
        }
        Ok(watch)
    }
}

// === impl ConfigWatch ===

impl ConfigWatch {
    /// The revisions told last: a later watch goes on from here.
    pub fn position(&self) -> Vec<u64> {
        self.told.iter().map(|(revision, _)| *revision).collect()
    }

    /// The next state. Waits for a change.
    pub async fn next(&mut self) -> Result<ConfigStep, Refusal> {
        loop {
            if let Some((place, state)) = self.pending.pop_front() {
                if let Some(told) = self.told.get_mut(place) {
                    *told = (state.revision, Some(state.clone()));
                }
                return Ok(ConfigStep { config: self.effective(), change: Some(state) });
            }
            self.changes.borrow_and_update();
            let heads = self.heads()?;
            if std::mem::take(&mut self.is_new) || !self.gather(&heads).await? {
                self.told = heads;
                return Ok(ConfigStep { config: self.effective(), change: None });
            }
            if self.pending.is_empty() && self.changes.changed().await.is_err() {
                return Err(crate::reloaded());
            }
        }
    }

    /// Takes the place of an earlier watch; false when what it was told is no longer kept.
    async fn go_back(&mut self, from: &[u64]) -> Result<bool, Refusal> {
        let at = |(scope, revision): (&Scope, &u64)| (*revision > 0).then(|| (scope.clone(), *revision));
        let wanted: Vec<(Scope, u64)> = self.scopes.iter().zip(from).filter_map(at).collect();
        let keys = wanted.iter().map(|(scope, revision)| revision_key(&self.namespace, scope, *revision));
        let found = history::read(&self.shared, keys.collect()).await?;
        if found.len() != wanted.len() {
            return Ok(false);
        }
        for ((told, scope), revision) in self.told.iter_mut().zip(&self.scopes).zip(from) {
            *told = (*revision, found.iter().find(|one| one.scope == *scope).cloned());
        }
        Ok(true)
    }

    fn heads(&self) -> Result<Vec<(u64, Option<ScopeConfig>)>, Refusal> {
        let snapshot = self.shared.catalog.configs.snapshot();
        let read = |scope: &Scope| match snapshot.head(&self.namespace, scope) {
            Some(head) => ScopeConfig::read(head).map(|state| (state.revision, Some(state))),
            None => Ok((0, None)),
        };
        self.scopes.iter().map(read).collect()
    }

    /// Puts all that came since into `pending`; false when the gap is too long or not kept.
    async fn gather(&mut self, heads: &[(u64, Option<ScopeConfig>)]) -> Result<bool, Refusal> {
        let mut keys = Vec::new();
        let mut gap = 0;
        let mut found = Vec::new();
        for ((place, (head, state)), (told, _)) in heads.iter().enumerate().zip(&self.told) {
            let Some(behind) = head.checked_sub(*told) else { return Ok(false) };
            gap += behind;
            if gap > GAP_MAX {
                return Ok(false);
            }
            // The newest is at hand; those between are read.
            found.extend(state.clone().filter(|_| behind > 0).map(|state| (place, state)));
            if let Some(scope) = self.scopes.get(place) {
                keys.extend((told + 1..*head).map(|n| revision_key(&self.namespace, scope, n)));
            }
        }
        for state in history::read(&self.shared, keys).await? {
            let place = self.scopes.iter().position(|scope| *scope == state.scope);
            found.extend(place.map(|place| (place, state)));
        }
        if found.len() as u64 != gap {
            return Ok(false);
        }
        found.sort_by_key(|(_, state)| state.update_time);
        self.pending.extend(found);
        Ok(true)
    }

    fn effective(&self) -> EffectiveConfig {
        let states = self.told.iter().filter_map(|(_, state)| state.clone());
        let layers: Vec<ScopeConfig> = states.filter(|state| state.data.is_some()).collect();
        EffectiveConfig::of(layers.iter().map(layer_of).collect(), &data_of(&layers))
    }
}
