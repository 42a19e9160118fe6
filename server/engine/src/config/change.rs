//! Changes of a scope: decided on the mirror with compare-and-set, checked by the schemas above, kept as revisions.

use super::body::{ConfigChange, ScopeConfig, head_key, revision_key, scope_of};
use super::{not_found, schema};
use crate::Engine;
use crate::api::{Caller, Once};
use crate::catalog::{Change, Draft, check_revision};
use coretex_domain::config::{Scope, check_data, merge_patch};
use coretex_domain::limits::{CONFIG_REVISIONS_MAX, CONFIG_SCOPES_MAX, CONFIG_TOTAL_BYTES_MAX};
use coretex_domain::resource::Kind;
use coretex_domain::{Reason, Refusal, Span, Time};
use serde_json::{Map, Value};
use std::sync::{Arc, OnceLock};

/// What is to become of a scope's data.
#[derive(Clone, Debug)]
pub enum ConfigEdit {
    /// This and nothing else.
    Replace(Value),
    /// What there is, with a merge patch applied.
    Merge(Value),
    /// None.
    Delete,
}

/// An edit, or data of an earlier revision.
enum Edit {
    Asked(ConfigEdit),
    Restore(u64, Value),
}

struct Asked {
    caller: Caller,
    scope: Scope,
    /// The revision it rests on; 0 for any.
    revision: u64,
    comment: Arc<str>,
    edit: Edit,
}

// === impl Engine ===

impl Engine {
    /// Changes a scope if it is still at `revision` (0: whatever it is at), as one new revision of it.
    pub async fn change_config(
        &self,
        caller: &Caller,
        once: Option<Once>,
        scope: Scope,
        revision: u64,
        comment: Arc<str>,
        edit: ConfigEdit,
    ) -> Result<ScopeConfig, Refusal> {
        let edit = Edit::Asked(edit);
        self.commit_config(once, Asked { caller: caller.clone(), scope, revision, comment, edit }).await
    }

    /// Makes the data of an earlier revision the newest one.
    pub async fn rollback_config(
        &self,
        caller: &Caller,
        once: Option<Once>,
        scope: Scope,
        revision: u64,
        comment: Arc<str>,
        to: u64,
    ) -> Result<ScopeConfig, Refusal> {
        let key = revision_key(&caller.namespace, &scope, to);
        let found = self.read_resources(vec![key]).await?;
        let kept = found.first().map(|one| ScopeConfig::read(one)).transpose()?.ok_or_else(|| {
            let message = format!("to_revision: {scope} has no revision {to}, or no longer keeps it");
            Refusal::new(Reason::ConfigNotFound, message).fact("revision", to.to_string())
        })?;
        let data = kept.data.ok_or_else(|| {
            let message = format!("must be a revision with data; revision {to} deleted it: use DeleteConfig");
            Refusal::field("to_revision", message)
        })?;
        let edit = Edit::Restore(to, data);
        self.commit_config(once, Asked { caller: caller.clone(), scope, revision, comment, edit }).await
    }

    async fn commit_config(&self, once: Option<Once>, asked: Asked) -> Result<ScopeConfig, Refusal> {
        let (namespace, scope) = (asked.caller.namespace.clone(), asked.scope.clone());
        let made = Arc::new(OnceLock::new());
        let told = made.clone();
        let change = self.change_catalog(once, move |draft| {
            let next = decide(draft, asked)?;
            // Another task cannot have set it: this one is made once.
            let _ = told.set(next);
            Ok(())
        });
        match (change.await?, made.get()) {
            (Change::Made, Some(state)) => Ok(state.clone()),
            (Change::Made | Change::Repeat, _) => {
                self.config_state(&namespace, &scope)?.ok_or_else(|| not_found(&scope))
            }
        }
    }
}

/// The next state of the scope, written into the draft.
fn decide(draft: &mut Draft<'_>, asked: Asked) -> Result<ScopeConfig, Refusal> {
    let Asked { caller, scope, revision, comment, edit } = asked;
    let present = draft.get(&head_key(&caller.namespace, &scope));
    let present = present.map(|head| ScopeConfig::read(&head)).transpose()?;
    let at = present.as_ref().map_or(0, |state| state.revision);
    check_revision(&format!("configuration of {scope}"), revision, at)?;
    let old = present.as_ref().and_then(|state| state.data.clone());
    let (change, restored, data) = match edit {
        Edit::Asked(ConfigEdit::Replace(data)) => (ConfigChange::Set, None, Some(data)),
        Edit::Asked(ConfigEdit::Merge(patch)) => {
            let old = old.unwrap_or_else(|| Value::Object(Map::new()));
            (ConfigChange::Set, None, Some(merge_patch(old, patch)))
        }
        Edit::Asked(ConfigEdit::Delete) if old.is_none() => return Err(not_found(&scope)),
        Edit::Asked(ConfigEdit::Delete) => (ConfigChange::Delete, None, None),
        Edit::Restore(to, data) => (ConfigChange::Rollback, Some(to), Some(data)),
    };
    if let Some(data) = &data {
        let faults = check_data("data", data);
        if !faults.is_empty() {
            return Err(Refusal::fields(faults));
        }
    }
    schema::check(draft, &caller.namespace, &scope, data.as_ref())?;
    let time = next_time(draft);
    let next = ScopeConfig {
        namespace: scope.home(&caller.namespace),
        revision: at + 1,
        data,
        change,
        restored,
        actor: caller.actor,
        comment,
        create_time: present.map_or(time, |state| state.create_time),
        update_time: time,
        scope,
    };
    let [head, kept] = next.write()?;
    check_room(draft, &next, head.body.len())?;
    draft.put(head);
    draft.put(kept);
    if let Some(oldest) = next.revision.checked_sub(CONFIG_REVISIONS_MAX).filter(|oldest| *oldest > 0) {
        draft.end(revision_key(&caller.namespace, &next.scope, oldest));
    }
    Ok(next)
}

/// Later than every change of configuration before, so that changes have an order.
pub(super) fn next_time(draft: &Draft<'_>) -> Time {
    let newest = draft.every(Kind::Config).map(|one| one.update_time).max();
    newest.map_or(draft.now, |newest| draft.now.max(newest + Span(1)))
}

/// All of it is kept in memory.
fn check_room(draft: &Draft<'_>, next: &ScopeConfig, len: usize) -> Result<(), Refusal> {
    let own = next.scope.to_string();
    let all = draft.all(Kind::Config, &next.namespace);
    let others = all.iter().filter(|one| *one.name != *own);
    let (mut scopes, mut bytes) = (1, len);
    for one in others {
        scopes += usize::from(scope_of(&one.name).is_some());
        bytes += one.body.len();
    }
    let refuse = |message: String| Err(Refusal::new(Reason::TooMany, message));
    if next.revision == 1 && scopes > CONFIG_SCOPES_MAX {
        return refuse(format!(
            "scope: a namespace has at most {CONFIG_SCOPES_MAX} scopes, this is one more"
        ));
    }
    if next.data.is_some() && bytes > CONFIG_TOTAL_BYTES_MAX {
        let most = CONFIG_TOTAL_BYTES_MAX;
        return refuse(format!(
            "data: the configuration of a namespace has at most {most} bytes, this makes {bytes}"
        ));
    }
    Ok(())
}
