//! Configuration: scopes in layers, what they give together, and which of them set each value.
//!
//! Layers lie on each other in the order `system → org → team → workflow → step`. Maps merge key by key, everything
//! else replaces, and an explicit null takes away what an earlier layer has set.

mod data;
mod merge;
mod path;
mod schema;
#[cfg(test)]
mod tests;

pub use data::{canonical, check_data, digest_of, merge_patch};
pub use merge::{Effective, Node, effective};
pub use path::{Path, lookup};
pub use schema::Schema;

use crate::id::Namespace;
use crate::names::{check_worker_name, shown};
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;

/// How near to the job a scope is; later levels win.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// The whole installation.
    System = 1,
    /// The namespace.
    Org = 2,
    Team = 3,
    Workflow = 4,
    Step = 5,
}

/// What a configuration is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    pub level: Level,
    /// Name of the team, workflow or step; empty at the levels that have one scope only.
    pub id: Arc<str>,
}

/// Which team, workflow and step a job belongs to, as far as it belongs to any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Chain {
    pub team: Option<Arc<str>>,
    pub workflow: Option<Arc<str>>,
    pub step: Option<Arc<str>>,
}

/// One layer of an effective configuration: a scope as it was at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub scope: Scope,
    pub revision: u64,
}

/// BLAKE3 of the canonical JSON.
pub type Digest = [u8; 32];

/// The configuration a job was submitted under. Its record keeps the digest and the layers; the data follows from
/// these and from the history of the scopes, so it is no part of what makes two of them equal.
#[derive(Clone, Debug)]
pub struct Applied {
    pub digest: Digest,
    pub layers: Vec<Layer>,
    /// Absent in a record that was read back and not completed since.
    pub data: Option<Data>,
}

/// Effective data in the two forms that are read.
#[derive(Clone, Debug)]
pub struct Data {
    pub value: Value,
    /// Canonical JSON.
    pub text: Bytes,
}

// === impl Level ===

impl Level {
    pub const ALL: [Level; 5] = [Level::System, Level::Org, Level::Team, Level::Workflow, Level::Step];

    pub const fn name(self) -> &'static str {
        match self {
            Level::System => "system",
            Level::Org => "org",
            Level::Team => "team",
            Level::Workflow => "workflow",
            Level::Step => "step",
        }
    }

    pub fn from_name(name: &str) -> Option<Level> {
        Level::ALL.into_iter().find(|level| level.name() == name)
    }

    pub fn from_number(number: u32) -> Option<Level> {
        Level::ALL.into_iter().find(|level| *level as u32 == number)
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

// === impl Scope ===

impl Scope {
    pub fn system() -> Scope {
        Scope { level: Level::System, id: "".into() }
    }

    pub fn org() -> Scope {
        Scope { level: Level::Org, id: "".into() }
    }

    /// A scope by its parts. The one of the org is named by nothing or by its namespace; the one of the system by
    /// nothing.
    pub fn new(level: Level, id: &str, namespace: &Namespace) -> Result<Scope, String> {
        match level {
            Level::System if !id.is_empty() => {
                Err(format!("must be empty at level system, got {}", shown(id)))
            }
            Level::System => Ok(Scope::system()),
            Level::Org if !id.is_empty() && id != namespace.as_str() => Err(format!(
                "must be empty or the namespace of the call, {}, at level org; got {}",
                shown(namespace.as_str()),
                shown(id)
            )),
            Level::Org => Ok(Scope::org()),
            Level::Team | Level::Workflow | Level::Step if id.is_empty() => {
                Err(format!("required at level {level}"))
            }
            Level::Team | Level::Workflow | Level::Step => {
                check_worker_name(id).map(|()| Scope { level, id: id.into() })
            }
        }
    }

    /// The namespace it is kept in, for callers in this one.
    pub fn home(&self, namespace: &Namespace) -> Namespace {
        match self.level {
            Level::System => Namespace::installation(),
            Level::Org | Level::Team | Level::Workflow | Level::Step => namespace.clone(),
        }
    }
}

/// `system`, `org`, or level and id: `team/a`.
impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.level {
            Level::System | Level::Org => f.write_str(self.level.name()),
            Level::Team | Level::Workflow | Level::Step => write!(f, "{}/{}", self.level, self.id),
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = ();

    /// Reads what [`Scope`] displays.
    fn from_str(text: &str) -> Result<Scope, ()> {
        let (level, id) = text.split_once('/').unwrap_or((text, ""));
        let level = Level::from_name(level).ok_or(())?;
        let has_id = matches!(level, Level::Team | Level::Workflow | Level::Step);
        if has_id == id.is_empty() { Err(()) } else { Ok(Scope { level, id: id.into() }) }
    }
}

// === impl Chain ===

impl Chain {
    /// The labels that say where a job belongs.
    pub fn of_labels(labels: &[(Arc<str>, Arc<str>)]) -> Chain {
        let mut chain = Chain::default();
        for (key, value) in labels {
            match &**key {
                "team" => chain.team = Some(value.clone()),
                "workflow" => chain.workflow = Some(value.clone()),
                "step" => chain.step = Some(value.clone()),
                _ => {}
            }
        }
        chain
    }

    /// Its scopes, the first layer first.
    pub fn scopes(&self) -> Vec<Scope> {
        let deeper =
            [(Level::Team, &self.team), (Level::Workflow, &self.workflow), (Level::Step, &self.step)];
        let named = deeper
            .into_iter()
            .filter_map(|(level, id)| id.as_ref().map(|id| Scope { level, id: id.clone() }));
        [Scope::system(), Scope::org()].into_iter().chain(named).collect()
    }
}

// === impl Applied ===

impl Applied {
    /// The effective configuration of some layers, all of which are present.
    pub fn of(layers: Vec<Layer>, data: &[&Value]) -> Applied {
        let value = effective(data).data;
        let text: Bytes = canonical(&value).into();
        Applied { digest: digest_of(&text), layers, data: Some(Data { value, text }) }
    }

    /// The data, as policies look at it: null when it cannot be had any more, which no condition takes for a map.
    pub fn value(&self) -> &Value {
        static LOST: Value = Value::Null;
        self.data.as_ref().map_or(&LOST, |data| &data.value)
    }

    /// As it is kept with a run, data included.
    pub fn to_json(&self) -> Value {
        let layers: Vec<Value> = self
            .layers
            .iter()
            .map(|layer| serde_json::json!([layer.scope.to_string(), layer.revision]))
            .collect();
        serde_json::json!({ "layers": layers, "data": self.value() })
    }

    /// Reads what [`Applied::to_json`] gave.
    pub fn of_json(value: &Value) -> Option<Applied> {
        let layer = |one: &Value| {
            let scope = one.get(0)?.as_str()?.parse().ok()?;
            Some(Layer { scope, revision: one.get(1)?.as_u64()? })
        };
        let layers = value.get("layers")?.as_array()?.iter().map(layer).collect::<Option<_>>()?;
        Some(Applied::of(layers, &[value.get("data")?]))
    }

    pub fn digest_text(&self) -> String {
        hex(&self.digest)
    }
}

impl PartialEq for Applied {
    fn eq(&self, other: &Applied) -> bool {
        self.digest == other.digest && self.layers == other.layers
    }
}

/// A digest as people and programs see it.
pub fn hex(digest: &Digest) -> String {
    blake3::Hash::from_bytes(*digest).to_hex().to_string()
}
