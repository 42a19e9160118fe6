//! Schemas for parts of the configuration.
//!
//! What a change of a scope leaves is judged by the schemas of the scope and of the levels every job of it has above
//! (system, org): these layers and the scope's own data, laid on each other, must satisfy each schema whose part is
//! there at all.

use super::body::{ConfigSchema, ScopeConfig, head_key, schema_key};
use super::change::next_time;
use crate::Engine;
use crate::api::{Caller, Once};
use crate::catalog::{Change, Draft, check_revision};
use coretex_domain::config::{Level, Path, Schema, Scope, effective, lookup};
use coretex_domain::limits::{CONFIG_FAULTS_MAX, CONFIG_SCHEMAS_MAX};
use coretex_domain::resource::Kind;
use coretex_domain::{Namespace, Reason, Refusal};
use serde_json::Value;
use std::sync::{Arc, OnceLock};

impl Engine {
    /// Schemas that callers of a namespace see, those of one scope if it is given.
    pub fn config_schemas(
        &self,
        namespace: &Namespace,
        scope: Option<&Scope>,
    ) -> Result<Vec<ConfigSchema>, Refusal> {
        let snapshot = self.shared.catalog.configs.snapshot();
        let homes = [Namespace::installation(), namespace.clone()];
        let mut found = Vec::new();
        for (_, one) in snapshot.rows.iter().filter(|(key, _)| homes.contains(&key.namespace)) {
            let schema = ConfigSchema::read(one)?;
            found.extend(schema.filter(|schema| scope.is_none_or(|scope| schema.scope == *scope)));
        }
        Ok(found)
    }

    /// Sets the schema of a part at a scope. What is there must satisfy it already.
    pub async fn set_config_schema(
        &self,
        caller: &Caller,
        once: Option<Once>,
        scope: Scope,
        prefix: Path,
        revision: u64,
        schema: Value,
    ) -> Result<ConfigSchema, Refusal> {
        let judge = Schema::read("schema", &schema).map_err(Refusal::fields)?;
        let made = Arc::new(OnceLock::new());
        let told = made.clone();
        let (who, at, part) = (caller.clone(), scope.clone(), prefix.clone());
        let change = self.change_catalog(once, move |draft| {
            let present = present(draft, &who.namespace, &at, &part)?;
            check_revision(
                &format!("schema of {at}"),
                revision,
                present.as_ref().map_or(0, |one| one.revision),
            )?;
            check_room(draft, &who.namespace, &at, present.is_some())?;
            let own = draft.get(&head_key(&who.namespace, &at)).map(|head| ScopeConfig::read(&head));
            let data = own.transpose()?.and_then(|state| state.data);
            let merged = merged(draft, &who.namespace, &at, data.as_ref())?;
            refuse(faults(&judge, &part, &merged))?;
            let time = next_time(draft);
            let next = ConfigSchema {
                namespace: at.home(&who.namespace),
                scope: at,
                prefix: part,
                schema,
                revision: present.as_ref().map_or(0, |one| one.revision) + 1,
                actor: who.actor,
                create_time: present.map_or(time, |one| one.create_time),
                update_time: time,
            };
            draft.put(next.write()?);
            let _ = told.set(next);
            Ok(())
        });
        match (change.await?, made.get()) {
            (Change::Made, Some(schema)) => Ok(schema.clone()),
            (Change::Made | Change::Repeat, _) => {
                let found = self.config_schemas(&caller.namespace, Some(&scope))?;
                found.into_iter().find(|one| one.prefix == prefix).ok_or_else(|| not_found(&scope, &prefix))
            }
        }
    }

    /// Takes a schema away. False if the same call has done so before.
    pub async fn delete_config_schema(
        &self,
        caller: &Caller,
        once: Option<Once>,
        scope: Scope,
        prefix: Path,
        revision: u64,
    ) -> Result<bool, Refusal> {
        let namespace = caller.namespace.clone();
        let change = self.change_catalog(once, move |draft| {
            let present = present(draft, &namespace, &scope, &prefix)?;
            let present = present.ok_or_else(|| not_found(&scope, &prefix))?;
            check_revision(&format!("schema of {scope}"), revision, present.revision)?;
            draft.end(schema_key(&namespace, &scope, &prefix));
            Ok(())
        });
        Ok(change.await? == Change::Made)
    }
}

fn not_found(scope: &Scope, prefix: &Path) -> Refusal {
    let message = format!("prefix: {scope} has no schema for \"{prefix}\"");
    Refusal::new(Reason::ConfigNotFound, message).fact("scope", scope.to_string())
}

fn present(
    draft: &Draft<'_>,
    namespace: &Namespace,
    scope: &Scope,
    prefix: &Path,
) -> Result<Option<ConfigSchema>, Refusal> {
    let found = draft.get(&schema_key(namespace, scope, prefix));
    Ok(found.map(|one| ConfigSchema::read(&one)).transpose()?.flatten())
}

fn check_room(
    draft: &Draft<'_>,
    namespace: &Namespace,
    scope: &Scope,
    is_there: bool,
) -> Result<(), Refusal> {
    let count = schemas(draft, namespace, scope)?.iter().filter(|one| one.scope == *scope).count();
    if is_there || count < CONFIG_SCHEMAS_MAX {
        return Ok(());
    }
    let message = format!("prefix: a scope has at most {CONFIG_SCHEMAS_MAX} schemas, this is one more");
    Err(Refusal::new(Reason::TooMany, message))
}

/// The scopes that bind a scope, itself the last.
fn above(scope: &Scope) -> Vec<Scope> {
    let mut all = vec![Scope::system(), Scope::org()];
    all.retain(|one| one.level < scope.level);
    all.push(scope.clone());
    all
}

/// Schemas of a scope and of those above it.
fn schemas(draft: &Draft<'_>, namespace: &Namespace, scope: &Scope) -> Result<Vec<ConfigSchema>, Refusal> {
    let above = above(scope);
    let mut homes = vec![Namespace::installation()];
    if scope.level != Level::System {
        homes.push(namespace.clone());
    }
    let mut found = Vec::new();
    for one in homes.iter().flat_map(|home| draft.all(Kind::Config, home)) {
        found.extend(ConfigSchema::read(&one)?.filter(|schema| above.contains(&schema.scope)));
    }
    Ok(found)
}

/// What a scope and those above it give together, with `data` as the scope's own.
fn merged(
    draft: &Draft<'_>,
    namespace: &Namespace,
    scope: &Scope,
    data: Option<&Value>,
) -> Result<Value, Refusal> {
    let mut layers = Vec::new();
    for one in above(scope).iter().filter(|one| *one != scope) {
        let head = draft.get(&head_key(namespace, one)).map(|head| ScopeConfig::read(&head));
        layers.extend(head.transpose()?.and_then(|state| state.data));
    }
    let all: Vec<&Value> = layers.iter().chain(data).collect();
    Ok(effective(&all).data)
}

fn faults(schema: &Schema, prefix: &Path, merged: &Value) -> Vec<coretex_domain::Violation> {
    let at = if prefix.0.is_empty() { "data".to_owned() } else { format!("data.{prefix}") };
    lookup(merged, prefix).map(|part| schema.faults(&at, part)).unwrap_or_default()
}

fn refuse(mut faults: Vec<coretex_domain::Violation>) -> Result<(), Refusal> {
    faults.truncate(CONFIG_FAULTS_MAX);
    if faults.is_empty() {
        return Ok(());
    }
    Err(Refusal { reason: Reason::SchemaViolation, ..Refusal::fields(faults) })
}

/// Refuses data that breaks a schema of the scope or above it, with all violations at once.
pub(super) fn check(
    draft: &Draft<'_>,
    namespace: &Namespace,
    scope: &Scope,
    data: Option<&Value>,
) -> Result<(), Refusal> {
    let schemas = schemas(draft, namespace, scope)?;
    if schemas.is_empty() {
        return Ok(());
    }
    let merged = merged(draft, namespace, scope, data)?;
    let mut found = Vec::new();
    for one in &schemas {
        // It was read when it was set.
        let schema = Schema::read("schema", &one.schema).map_err(Refusal::fields)?;
        found.extend(faults(&schema, &one.prefix, &merged));
    }
    refuse(found)
}
