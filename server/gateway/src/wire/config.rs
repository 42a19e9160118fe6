//! Configuration: scopes and data from the wire, states and schemas to it.

use super::time::timestamp;
use super::{Faults, json};
use bytes::Bytes;
use coretex_contract::{Struct, v1 as pb};
use coretex_domain::config::{Chain, Layer, Level, Path, Scope, hex};
use coretex_domain::limits::CONFIG_INLINE_MAX;
use coretex_domain::names::{check_worker_name, shown};
use coretex_domain::payload::ContentType;
use coretex_domain::{Namespace, Reason};
use coretex_engine::{ConfigChange, ConfigSchema, EffectiveConfig, ScopeConfig};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

// === from the wire ===

/// A scope that must be given.
pub(crate) fn scope(faults: &mut Faults, given: Option<pb::ConfigScope>, namespace: &Namespace) -> Scope {
    let Some(given) = given else {
        faults.add("scope", "required");
        return Scope::system();
    };
    let level = match pb::ConfigLevel::try_from(given.level) {
        Ok(pb::ConfigLevel::System) => Level::System,
        Ok(pb::ConfigLevel::Org) => Level::Org,
        Ok(pb::ConfigLevel::Team) => Level::Team,
        Ok(pb::ConfigLevel::Workflow) => Level::Workflow,
        Ok(pb::ConfigLevel::Step) => Level::Step,
        Ok(pb::ConfigLevel::Unspecified) => {
            faults.add("scope.level", "required: SYSTEM, ORG, TEAM, WORKFLOW or STEP");
            return Scope::system();
        }
        Err(_) => {
            let message = format!("must be SYSTEM, ORG, TEAM, WORKFLOW or STEP, got {}", given.level);
            faults.add("scope.level", message);
            return Scope::system();
        }
    };
    Scope::new(level, &given.id, namespace).unwrap_or_else(|message| {
        faults.add("scope.id", message);
        Scope::system()
    })
}

/// The names of a chain of layers.
pub(crate) fn chain(faults: &mut Faults, names: [&str; 4], namespace: &Namespace) -> Chain {
    let [org, team, workflow, step] = names;
    if !org.is_empty() && org != namespace.as_str() {
        let own = shown(namespace.as_str());
        faults.add("org", format!("must be empty or the namespace of the call, {own}; got {}", shown(org)));
    }
    let mut name = |field: &str, text: &str| -> Option<Arc<str>> {
        if text.is_empty() {
            return None;
        }
        faults.check(field, check_worker_name(text));
        Some(text.into())
    };
    Chain { team: name("team", team), workflow: name("workflow", workflow), step: name("step", step) }
}

/// A map that must be given; its own limits are checked behind the door.
pub(crate) fn object(faults: &mut Faults, field: &str, given: Option<Struct>) -> Value {
    let Some(given) = given else {
        faults.add(field, "required");
        return Value::Null;
    };
    let text = json::canonical_object(&given);
    let value = text.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
    value.unwrap_or_else(|rule| {
        faults.add_as(Reason::InvalidJson, field, rule);
        Value::Null
    })
}

/// The path of a part; a dot at its end makes no difference.
pub(crate) fn prefix(faults: &mut Faults, given: &str) -> Path {
    let text = given.strip_suffix('.').unwrap_or(given);
    text.parse().unwrap_or_else(|message: String| {
        faults.add("prefix", message);
        Path::default()
    })
}

// === to the wire ===

pub(crate) fn level(level: Level) -> pb::ConfigLevel {
    match level {
        Level::System => pb::ConfigLevel::System,
        Level::Org => pb::ConfigLevel::Org,
        Level::Team => pb::ConfigLevel::Team,
        Level::Workflow => pb::ConfigLevel::Workflow,
        Level::Step => pb::ConfigLevel::Step,
    }
}

/// The id callers know a scope by.
pub(crate) fn id_of(scope: &Scope, namespace: &Namespace) -> String {
    match scope.level {
        Level::System => String::new(),
        Level::Org => namespace.to_string(),
        Level::Team | Level::Workflow | Level::Step => scope.id.to_string(),
    }
}

fn write_scope(scope: &Scope, namespace: &Namespace) -> Option<pb::ConfigScope> {
    Some(pb::ConfigScope { level: level(scope.level).into(), id: id_of(scope, namespace) })
}

fn change(change: ConfigChange) -> pb::ConfigChange {
    match change {
        ConfigChange::Set => pb::ConfigChange::Set,
        ConfigChange::Delete => pb::ConfigChange::Delete,
        ConfigChange::Rollback => pb::ConfigChange::Rollback,
    }
}

pub(crate) fn write(state: &ScopeConfig, with_data: bool) -> pb::Config {
    pb::Config {
        scope: write_scope(&state.scope, &state.namespace),
        data: state.data.clone().filter(|_| with_data).and_then(json::object_of),
        revision: state.revision,
        create_time: Some(timestamp(state.create_time)),
        update_time: Some(timestamp(state.update_time)),
        actor: state.actor.to_string(),
        comment: state.comment.to_string(),
    }
}

pub(crate) fn revision(state: &ScopeConfig, with_data: bool) -> pb::ConfigRevision {
    pb::ConfigRevision {
        scope: write_scope(&state.scope, &state.namespace),
        revision: state.revision,
        data: state.data.clone().filter(|_| with_data).and_then(json::object_of),
        time: Some(timestamp(state.update_time)),
        actor: state.actor.to_string(),
        comment: state.comment.to_string(),
        change: change(state.change).into(),
        restored_revision: state.restored.unwrap_or_default(),
    }
}

pub(crate) fn schema(schema: ConfigSchema) -> pb::ConfigSchema {
    pb::ConfigSchema {
        scope: write_scope(&schema.scope, &schema.namespace),
        prefix: schema.prefix.to_string(),
        schema: json::object_of(schema.schema),
        revision: schema.revision,
        create_time: Some(timestamp(schema.create_time)),
        update_time: Some(timestamp(schema.update_time)),
        actor: schema.actor.to_string(),
    }
}

fn source(layer: &Layer, namespace: &Namespace) -> pb::ConfigSource {
    pb::ConfigSource {
        level: level(layer.scope.level).into(),
        id: id_of(&layer.scope, namespace),
        revision: layer.revision,
    }
}

pub(crate) fn layers(config: &EffectiveConfig, namespace: &Namespace) -> Vec<pb::ConfigSource> {
    config.layers.iter().map(|layer| source(layer, namespace)).collect()
}

pub(crate) fn effective(
    config: EffectiveConfig,
    namespace: &Namespace,
    with_sources: bool,
) -> pb::GetEffectiveConfigResponse {
    let layers = layers(&config, namespace);
    let named = |(path, by): (String, usize)| layers.get(by).map(|layer| (path, layer.clone()));
    let sources: BTreeMap<String, pb::ConfigSource> = match with_sources {
        true => config.sources.into_iter().filter_map(named).collect(),
        false => BTreeMap::new(),
    };
    let digest = hex(&config.digest);
    pb::GetEffectiveConfigResponse { data: json::object_of(config.data), sources, digest, layers }
}

/// The configuration that travels with an assignment, if it is small.
pub(crate) fn inline(text: &Bytes) -> Option<pb::Payload> {
    (text.len() <= CONFIG_INLINE_MAX).then(|| pb::Payload::data(ContentType::Json.name(), text.clone()))
}
