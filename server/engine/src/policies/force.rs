//! Which policies are in force, derived from the catalog: rebuilt when the heads say something else.

use super::judge::SetRules;
use super::rows::{head_of, version_key, version_of};
use crate::catalog::Rows;
use crate::shared::Shared;
use crate::tell;
use coretex_domain::resource::Kind;
use coretex_domain::{Reason, Refusal};
use coretex_kernel::input::Input;
use coretex_policy::{Bundle, Compiled, Report, compile, set};
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

/// What stands in the place of a policy `default` that was never applied. Says the same as the kernel's own.
const BUILT_IN: &str = "
name: default
description: The built-in policy
default: allow
rules:
  - id: no-destroy
    match: { topics: [sys.destroy, 'sys.destroy.*'] }
    verdict: deny
    reason: destructive system jobs are never run from the queue
    remediations:
      - { id: archive, title: Archive instead of destroying, replacement_topic: job.archive }
";

/// The built-in policy as a bundle.
pub static BUILT_IN_BUNDLE: LazyLock<Bundle> =
    LazyLock::new(|| Bundle::parse(BUILT_IN).unwrap_or_else(|problems| unreachable!("{problems}")));

/// The set in force, and which versions it is made of. None: what the settings gave.
#[derive(Default)]
pub(crate) struct InForce {
    state: RwLock<Option<State>>,
    /// One derivation at a time, so that an older one never comes out later.
    turn: tokio::sync::Mutex<()>,
}

struct State {
    made_of: Vec<Part>,
    rules: Arc<SetRules>,
}

/// (name, version in force, shadow).
type Part = (Arc<str>, Option<u64>, Option<u64>);

// === impl InForce ===

impl InForce {
    /// The compiled set; of the built-in policy where nothing was applied.
    pub(super) fn compiled(&self) -> Arc<Compiled> {
        static BUILT_IN: LazyLock<Arc<Compiled>> =
            LazyLock::new(|| Arc::new(compile(BUILT_IN_BUNDLE.clone())));
        self.rules().map_or_else(|| BUILT_IN.clone(), |rules| rules.compiled.clone())
    }

    pub(super) fn rules(&self) -> Option<Arc<SetRules>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.as_ref().map(|state| state.rules.clone())
    }

    pub(super) fn shadow_report(&self) -> Option<Report> {
        self.rules()?.shadow_report()
    }

    fn is_made_of(&self, parts: &[Part]) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.as_ref().map_or(&[][..], |state| &state.made_of) == parts
    }

    fn set(&self, state: Option<State>) {
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
    }
}

fn parts(rows: &Rows) -> Result<Vec<Part>, Refusal> {
    let heads = rows.values().filter(|one| one.kind == Kind::Policy);
    let mut parts = Vec::new();
    for one in heads {
        let head = head_of(one)?;
        if head.version.is_some() || head.shadow.is_some() {
            parts.push((one.name.clone(), head.version, head.shadow));
        }
    }
    Ok(parts)
}

/// The bundles in force by name, each with the one a shadow puts in its place.
pub(super) fn bundles(rows: &Rows, with_shadows: bool) -> Result<Vec<Bundle>, Refusal> {
    let mut bundles = Vec::new();
    for (name, version, shadow) in parts(rows)? {
        let chosen = if with_shadows { shadow.or(version) } else { version };
        let Some(chosen) = chosen else { continue };
        let key = version_key(&name, chosen);
        let missing = || Refusal::new(Reason::DataCorruption, format!("policy {name}: no version {chosen}"));
        let stored = version_of(rows.get(&key).ok_or_else(missing)?)?;
        let bundle = Bundle::parse(&stored.yaml).map_err(|problems| {
            let message = format!("policy {name}, version {chosen} cannot be read any more: {problems}");
            Refusal::new(Reason::DataCorruption, message)
        })?;
        bundles.push(bundle);
    }
    Ok(bundles)
}

/// All bundles as one, the built-in one in the place of a missing `default`.
pub(super) fn joined(bundles: Vec<Bundle>) -> Bundle {
    let (mut defaults, others): (Vec<_>, Vec<_>) =
        bundles.into_iter().partition(|bundle| &*bundle.name == set::DEFAULT);
    Bundle::join(defaults.pop().unwrap_or_else(|| BUILT_IN_BUNDLE.clone()), &others)
}

/// Puts in force what the catalog says. Returns when every loop judges by it; nothing to do if it does already.
pub(crate) async fn refresh(shared: &Arc<Shared>) -> Result<(), Refusal> {
    if shared.settings.remote_kernel.is_some() {
        return Ok(());
    }
    let _turn = shared.in_force.turn.lock().await;
    let rows = shared.catalog.rows();
    let made_of = parts(&rows)?;
    if shared.in_force.is_made_of(&made_of) {
        return Ok(());
    }
    let policy = if made_of.is_empty() {
        shared.in_force.set(None);
        shared.settings.policy.clone()
    } else {
        let has_shadow = made_of.iter().any(|(_, _, shadow)| shadow.is_some());
        let compiled = Arc::new(compile(joined(bundles(&rows, false)?)));
        let shadow = match has_shadow {
            true => Some(Arc::new(compile(joined(bundles(&rows, true)?)))),
            false => None,
        };
        let rules = Arc::new(SetRules::new(compiled, shadow, shared.metrics.policy_seconds.clone()));
        let policy = Arc::new(rules.policy());
        shared.in_force.set(Some(State { made_of, rules }));
        policy
    };
    // First, so that a loop that is loaded meanwhile starts with it.
    shared.set_policy(policy);
    tell_all(shared).await
}

/// Has every loop judge by the policy in force, and what waits under another one be judged again.
pub(crate) async fn tell_all(shared: &Arc<Shared>) -> Result<(), Refusal> {
    for who in 0..shared.mailboxes.len() {
        tell(shared, who, Input::SetPolicy(shared.policy())).await?;
    }
    Ok(())
}

/// Follows the catalog for as long as the engine lives.
pub(crate) async fn follow(shared: Arc<Shared>) {
    let mut changes = shared.catalog.changes();
    loop {
        if let Err(refusal) = refresh(&shared).await {
            tracing::error!(%refusal, "the policies in force could not be renewed; those before stay in force");
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}
