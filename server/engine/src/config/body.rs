//! What resources of configuration hold, and how they are named.
//!
//! The head of a scope is live and stays for ever, also after a delete: its revision only rises. Every revision is a
//! resource of its own. Schemas lie beside the heads.

use coretex_domain::config::{Path, Scope};
use coretex_domain::resource::{Kind, Resource, ResourceKey};
use coretex_domain::{Namespace, Reason, Refusal, ShardId, Time};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// What made a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigChange {
    Set,
    Delete,
    Rollback,
}

/// The configuration of one scope at one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct ScopeConfig {
    pub namespace: Namespace,
    pub scope: Scope,
    pub revision: u64,
    /// None after a delete.
    pub data: Option<Value>,
    pub change: ConfigChange,
    /// The revision a rollback went back to.
    pub restored: Option<u64>,
    pub actor: Arc<str>,
    pub comment: Arc<str>,
    /// First change of the scope.
    pub create_time: Time,
    /// This change. No two changes of configuration have the same time, so it orders them.
    pub update_time: Time,
}

/// A schema for a part of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigSchema {
    pub namespace: Namespace,
    pub scope: Scope,
    pub prefix: Path,
    pub schema: Value,
    pub revision: u64,
    pub actor: Arc<str>,
    pub create_time: Time,
    pub update_time: Time,
}

#[derive(Serialize, Deserialize)]
struct Body {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    change: ConfigChange,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    restored: Option<u64>,
    #[serde(default)]
    actor: String,
    #[serde(default)]
    comment: String,
}

#[derive(Serialize, Deserialize)]
struct SchemaBody {
    schema: Value,
    #[serde(default)]
    actor: String,
}

/// Before the name of a schema; no scope begins so.
const SCHEMA: &str = "schema ";

pub(super) fn head_key(namespace: &Namespace, scope: &Scope) -> ResourceKey {
    ResourceKey::new(Kind::Config, scope.home(namespace), scope.to_string())
}

pub(super) fn revision_key(namespace: &Namespace, scope: &Scope, revision: u64) -> ResourceKey {
    ResourceKey::new(Kind::ConfigRevision, scope.home(namespace), format!("{scope}@{revision:020}"))
}

pub(super) fn schema_key(namespace: &Namespace, scope: &Scope, prefix: &Path) -> ResourceKey {
    ResourceKey::new(Kind::Config, scope.home(namespace), format!("{SCHEMA}{scope} {prefix}"))
}

/// The scope of a head; none for a schema.
pub(super) fn scope_of(name: &str) -> Option<Scope> {
    name.parse().ok()
}

/// Scope and prefix of a schema; none for a head.
fn schema_name(name: &str) -> Option<(Scope, Path)> {
    let (scope, prefix) = name.strip_prefix(SCHEMA)?.split_once(' ')?;
    Some((scope.parse().ok()?, prefix.parse().ok()?))
}

fn damaged(one: &Resource, why: impl std::fmt::Display) -> Refusal {
    let message = format!("{} {} of namespace {}: {why}", one.kind, one.name, one.namespace);
    Refusal::new(Reason::DataCorruption, message)
}

fn written(body: &impl Serialize) -> Result<bytes::Bytes, Refusal> {
    let fault =
        |error| Refusal::new(Reason::ServerFault, format!("configuration cannot be written: {error}"));
    serde_json::to_vec(body).map(Into::into).map_err(fault)
}

// === impl ScopeConfig ===

impl ScopeConfig {
    /// From a head or from a revision.
    pub(super) fn read(one: &Resource) -> Result<ScopeConfig, Refusal> {
        let name = one.name.split_once('@').filter(|_| one.kind == Kind::ConfigRevision);
        let name = name.map_or(&*one.name, |(scope, _)| scope);
        let scope = scope_of(name).ok_or_else(|| damaged(one, "no name of a scope"))?;
        let body: Body = serde_json::from_slice(&one.body).map_err(|error| damaged(one, error))?;
        Ok(ScopeConfig {
            namespace: one.namespace.clone(),
            scope,
            revision: one.revision,
            data: body.data,
            change: body.change,
            restored: body.restored,
            actor: body.actor.into(),
            comment: body.comment.into(),
            create_time: one.create_time,
            update_time: one.update_time,
        })
    }

    /// The head and the revision that say this.
    pub(super) fn write(&self) -> Result<[Resource; 2], Refusal> {
        let body = written(&Body {
            data: self.data.clone(),
            change: self.change,
            restored: self.restored,
            actor: self.actor.to_string(),
            comment: self.comment.to_string(),
        })?;
        let ResourceKey { kind, namespace, name } = head_key(&self.namespace, &self.scope);
        let head = Resource {
            kind,
            namespace,
            name,
            shard: ShardId::CATALOG,
            revision: self.revision,
            is_live: true,
            create_time: self.create_time,
            update_time: self.update_time,
            expire_time: None,
            body,
        };
        let ResourceKey { kind, name, .. } = revision_key(&self.namespace, &self.scope, self.revision);
        let revision = Resource { kind, name, is_live: false, create_time: self.create_time, ..head.clone() };
        Ok([head, revision])
    }
}

// === impl ConfigSchema ===

impl ConfigSchema {
    /// None for a head.
    pub(super) fn read(one: &Resource) -> Result<Option<ConfigSchema>, Refusal> {
        let Some((scope, prefix)) = schema_name(&one.name) else { return Ok(None) };
        let body: SchemaBody = serde_json::from_slice(&one.body).map_err(|error| damaged(one, error))?;
        Ok(Some(ConfigSchema {
            namespace: one.namespace.clone(),
            scope,
            prefix,
            schema: body.schema,
            revision: one.revision,
            actor: body.actor.into(),
            create_time: one.create_time,
            update_time: one.update_time,
        }))
    }

    pub(super) fn write(&self) -> Result<Resource, Refusal> {
        let body = written(&SchemaBody { schema: self.schema.clone(), actor: self.actor.to_string() })?;
        let ResourceKey { kind, namespace, name } = schema_key(&self.namespace, &self.scope, &self.prefix);
        Ok(Resource {
            kind,
            namespace,
            name,
            shard: ShardId::CATALOG,
            revision: self.revision,
            is_live: true,
            create_time: self.create_time,
            update_time: self.update_time,
            expire_time: None,
            body,
        })
    }
}
