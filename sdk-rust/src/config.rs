//! Configuration in layers, as the server shows it.

use crate::error::{Error, Result};
use crate::names::{ConfigLevel, ConfigWatchKind};
use crate::payload::{json_of_struct, struct_of};
use crate::raw::{pb, wkt};
use crate::time::of_stamp;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// What a configuration is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConfigScope {
    level: ConfigLevel,
    id: String,
}

/// Which layers lie on each other: system and org always, the others as named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a chain does nothing until it is asked about"]
pub struct ConfigChain {
    pub(crate) team: String,
    pub(crate) workflow: String,
    pub(crate) step: String,
}

/// A change of the configuration of a scope.
#[derive(Clone, Debug)]
#[must_use = "a change does nothing until it is made"]
pub struct SetConfig {
    scope: ConfigScope,
    data: Value,
    revision: u64,
    merge: bool,
    comment: String,
}

/// The configuration of one scope.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ScopeConfig {
    /// What it is for.
    pub scope: ConfigScope,
    /// The data. `None` where it was not asked for, and after a delete.
    pub data: Option<Value>,
    /// Rises by one with each change.
    pub revision: u64,
    /// First change of the scope.
    pub create_time: Option<SystemTime>,
    /// This change.
    pub update_time: Option<SystemTime>,
    /// Who made it. Empty when nobody was asked to log in.
    pub actor: String,
    /// Why.
    pub comment: String,
}

/// One revision of a scope.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ConfigRevision {
    /// What it is for.
    pub scope: ConfigScope,
    /// Its number.
    pub revision: u64,
    /// The data from then on. `None` after a delete, and in a watch.
    pub data: Option<Value>,
    /// When it was made.
    pub time: Option<SystemTime>,
    /// Who made it.
    pub actor: String,
    /// Why.
    pub comment: String,
    /// `SET`, `DELETE` or `ROLLBACK`.
    pub change: &'static str,
    /// For a rollback, the revision whose data it has.
    pub restored_revision: Option<u64>,
}

/// A layer of an effective configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigSource {
    /// The scope.
    pub scope: ConfigScope,
    /// Its revision.
    pub revision: u64,
}

/// What the layers give together.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EffectiveConfig {
    /// A map.
    pub data: Value,
    /// Path of each leaf to the layer that set it, where that was asked for.
    pub sources: BTreeMap<String, ConfigSource>,
    /// Equal data has equal digests.
    pub digest: String,
    /// The layers that have a configuration, the lowest first.
    pub layers: Vec<ConfigSource>,
}

/// A message of a watch.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ConfigStep {
    /// Why it was sent.
    pub kind: ConfigWatchKind,
    /// The configuration from then on.
    pub config: EffectiveConfig,
    /// The revision that led here.
    pub change: Option<ConfigRevision>,
    /// Continue exactly after this message.
    pub resume_token: String,
}

/// A schema for a part of the configuration.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ConfigSchema {
    /// The scope it binds, with what lies below.
    pub scope: ConfigScope,
    /// Path of the part. Empty for the whole.
    pub prefix: String,
    /// The schema.
    pub schema: Value,
    /// Rises by one with each change.
    pub revision: u64,
    /// Last change.
    pub update_time: Option<SystemTime>,
    /// Who made it.
    pub actor: String,
}

// === impl ConfigScope ===

impl ConfigScope {
    /// The whole installation.
    pub fn system() -> Self {
        Self { level: ConfigLevel::System, id: String::new() }
    }

    /// The namespace of the client.
    pub fn org() -> Self {
        Self { level: ConfigLevel::Org, id: String::new() }
    }

    /// A team; jobs name theirs by the label `team`.
    pub fn team(id: impl Into<String>) -> Self {
        Self { level: ConfigLevel::Team, id: id.into() }
    }

    /// A workflow; jobs name theirs by the label `workflow`.
    pub fn workflow(id: impl Into<String>) -> Self {
        Self { level: ConfigLevel::Workflow, id: id.into() }
    }

    /// A step; jobs name theirs by the label `step`.
    pub fn step(id: impl Into<String>) -> Self {
        Self { level: ConfigLevel::Step, id: id.into() }
    }

    /// Its level.
    pub fn level(&self) -> ConfigLevel {
        self.level
    }

    /// Its name at that level.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn into_pb(self) -> Option<pb::ConfigScope> {
        let level = match self.level {
            ConfigLevel::System => pb::ConfigLevel::System,
            ConfigLevel::Org => pb::ConfigLevel::Org,
            ConfigLevel::Team => pb::ConfigLevel::Team,
            ConfigLevel::Workflow => pb::ConfigLevel::Workflow,
            ConfigLevel::Step => pb::ConfigLevel::Step,
            ConfigLevel::Unknown => pb::ConfigLevel::Unspecified,
        };
        Some(pb::ConfigScope { level: level.into(), id: self.id })
    }

    fn from_pb(scope: Option<pb::ConfigScope>) -> Self {
        let scope = scope.unwrap_or_default();
        Self { level: ConfigLevel::of(scope.level), id: scope.id }
    }
}

/// `system`, or level and name: `team/a`.
impl std::fmt::Display for ConfigScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = self.level.as_str().to_lowercase();
        if self.id.is_empty() { f.pad(&level) } else { f.pad(&format!("{level}/{}", self.id)) }
    }
}

// === impl ConfigChain ===

impl ConfigChain {
    /// System and org only.
    pub fn org() -> Self {
        Self::default()
    }

    /// With the layer of a team.
    pub fn team(mut self, id: impl Into<String>) -> Self {
        self.team = id.into();
        self
    }

    /// With the layer of a workflow.
    pub fn workflow(mut self, id: impl Into<String>) -> Self {
        self.workflow = id.into();
        self
    }

    /// With the layer of a step.
    pub fn step(mut self, id: impl Into<String>) -> Self {
        self.step = id.into();
        self
    }
}

// === impl SetConfig ===

impl SetConfig {
    /// `data`, a map, and nothing else.
    pub fn replace(scope: ConfigScope, data: Value) -> Self {
        Self { scope, data, revision: 0, merge: false, comment: String::new() }
    }

    /// What there is, with a merge patch applied: null removes a key of the scope's own.
    pub fn merge(scope: ConfigScope, patch: Value) -> Self {
        Self { merge: true, ..Self::replace(scope, patch) }
    }

    /// Only if the scope is at this revision.
    pub fn if_revision(mut self, revision: u64) -> Self {
        self.revision = revision;
        self
    }

    /// Why, for the history.
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = comment.into();
        self
    }

    pub(crate) fn into_pb(self, request_id: String) -> Result<pb::SetConfigRequest> {
        Ok(pb::SetConfigRequest {
            data: Some(object("data", self.data)?),
            scope: self.scope.into_pb(),
            revision: self.revision,
            merge: self.merge,
            comment: self.comment,
            request_id,
        })
    }
}

/// A map for the wire, where numbers are doubles: one that would be rounded is refused.
pub(crate) fn object(what: &str, value: Value) -> Result<wkt::Struct> {
    fn inexact(value: &Value) -> Option<&serde_json::Number> {
        const EXACT: u64 = 1 << 53;
        match value {
            Value::Number(number) => {
                let size = number.as_u64().or(number.as_i64().map(i64::unsigned_abs));
                Some(number).filter(|_| size.is_some_and(|size| size > EXACT))
            }
            Value::Array(items) => items.iter().find_map(inexact),
            Value::Object(fields) => fields.values().find_map(inexact),
            Value::Null | Value::Bool(_) | Value::String(_) => None,
        }
    }
    if let Some(number) = inexact(&value) {
        return Err(Error::option(format!("{what}: {number} cannot be kept exactly; write it as a text")));
    }
    if !value.is_object() {
        return Err(Error::option(format!("{what}: must be a map, got {value}")));
    }
    Ok(struct_of(value))
}

// === from the wire ===

impl ScopeConfig {
    pub(crate) fn from_pb(config: Option<pb::Config>) -> Result<Self> {
        let config = config.ok_or_else(|| Error::unexpected("the reply has no config"))?;
        Ok(Self {
            scope: ConfigScope::from_pb(config.scope),
            data: config.data.map(json_of_struct),
            revision: config.revision,
            create_time: of_stamp(config.create_time),
            update_time: of_stamp(config.update_time),
            actor: config.actor,
            comment: config.comment,
        })
    }
}

impl ConfigRevision {
    pub(crate) fn from_pb(one: pb::ConfigRevision) -> Self {
        let change = match one.change() {
            pb::ConfigChange::Set => "SET",
            pb::ConfigChange::Delete => "DELETE",
            pb::ConfigChange::Rollback => "ROLLBACK",
            pb::ConfigChange::Unspecified => "UNKNOWN",
        };
        Self {
            scope: ConfigScope::from_pb(one.scope),
            revision: one.revision,
            data: one.data.map(json_of_struct),
            time: of_stamp(one.time),
            actor: one.actor,
            comment: one.comment,
            change,
            restored_revision: Some(one.restored_revision).filter(|revision| *revision > 0),
        }
    }
}

impl ConfigSource {
    fn from_pb(source: pb::ConfigSource) -> Self {
        let scope = ConfigScope { level: ConfigLevel::of(source.level), id: source.id };
        Self { scope, revision: source.revision }
    }
}

impl EffectiveConfig {
    /// The data as a value.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        crate::payload::Payload::json(&self.data)?.parse()
    }

    pub(crate) fn from_pb(reply: pb::GetEffectiveConfigResponse) -> Self {
        let source = |(path, source)| (path, ConfigSource::from_pb(source));
        Self {
            data: json_of_struct(reply.data.unwrap_or_default()),
            sources: reply.sources.into_iter().map(source).collect(),
            digest: reply.digest,
            layers: reply.layers.into_iter().map(ConfigSource::from_pb).collect(),
        }
    }
}

impl ConfigStep {
    pub(crate) fn from_pb(step: pb::WatchConfigResponse) -> Self {
        let kind = ConfigWatchKind::of(step.kind);
        let config = EffectiveConfig::from_pb(pb::GetEffectiveConfigResponse {
            data: step.data,
            sources: BTreeMap::new(),
            digest: step.digest,
            layers: step.layers,
        });
        Self {
            kind,
            config,
            change: step.change.map(ConfigRevision::from_pb),
            resume_token: step.resume_token,
        }
    }
}

impl ConfigSchema {
    pub(crate) fn from_pb(schema: pb::ConfigSchema) -> Self {
        Self {
            scope: ConfigScope::from_pb(schema.scope),
            prefix: schema.prefix,
            schema: json_of_struct(schema.schema.unwrap_or_default()),
            revision: schema.revision,
            update_time: of_stamp(schema.update_time),
            actor: schema.actor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::Ctx;
    use crate::payload::Payload;
    use crate::testing::Call;
    use crate::verdict::HandlerError;
    use serde_json::json;

    #[test]
    fn numbers_that_would_be_rounded_are_refused() {
        assert!(object("data", json!({"a": [1, 2.5, -3, 9_007_199_254_740_992_u64]})).is_ok());
        for bad in [json!({"a": [{"b": 9_007_199_254_740_993_u64}]}), json!({"a": i64::MIN})] {
            assert!(object("data", bad).is_err_and(|why| why.message().contains("cannot be kept exactly")));
        }
        assert!(object("data", json!("x")).is_err_and(|why| why.message().contains("must be a map")));
    }

    #[test]
    fn scopes_are_shown_as_the_command_line_takes_them() {
        let shown =
            [ConfigScope::system(), ConfigScope::org(), ConfigScope::team("a")].map(|s| s.to_string());
        assert_eq!(shown, ["system", "org", "team/a"]);
    }

    async fn limit(ctx: Ctx, _: Payload) -> Result<Value, HandlerError> {
        Ok(ctx.config().await?)
    }

    #[tokio::test]
    async fn a_handler_under_test_gets_the_configuration_of_its_call() {
        let call = Call::new("t").config(Payload::json(&json!({"limit": 5})).expect("JSON")).expect("a map");
        assert_eq!(call.call(limit, Payload::empty()).await.result.ok(), Some(json!({"limit": 5})));
        let without = Call::new("t").call(limit, Payload::empty()).await;
        assert_eq!(without.result.ok(), Some(json!({})));
    }
}
