//! References to secrets in configuration that lead nowhere.

use super::body::{ScopeConfig, scope_of};
use crate::Engine;
use coretex_domain::config::Level;
use coretex_domain::{Namespace, Refusal};
use coretex_secrets::refs;
use serde_json::Value;

/// A reference that no provider has a value for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    /// Whose configuration it is in.
    pub namespace: Namespace,
    /// The scope, as people write it.
    pub scope: String,
    /// Name of the secret.
    pub name: String,
    /// It is in what the operator of the installation says, not a tenant.
    pub is_of_system: bool,
}

impl Engine {
    /// Those of all scopes, as they are now.
    pub fn unresolved_secrets(&self) -> Result<Vec<Unresolved>, Refusal> {
        let values = self.shared.settings.secrets.values();
        let snapshot = self.shared.catalog.configs.snapshot();
        let mut out = Vec::new();
        for one in snapshot.rows.values().filter(|one| scope_of(&one.name).is_some()) {
            let config = ScopeConfig::read(one)?;
            let is_of_system = config.scope.level == Level::System;
            let mut names = Vec::new();
            config.data.iter().for_each(|data| collect(data, &mut names));
            // The system's is for every namespace: one of them has to have it.
            let is_missing = |name: &&str| match is_of_system {
                true => !values.has_somewhere(name),
                false => values.get(config.namespace.as_str(), name).is_none(),
            };
            out.extend(names.into_iter().filter(is_missing).map(|name| Unresolved {
                namespace: config.namespace.clone(),
                scope: config.scope.to_string(),
                name: name.to_owned(),
                is_of_system,
            }));
        }
        Ok(out)
    }
}

fn collect<'a>(data: &'a Value, names: &mut Vec<&'a str>) {
    match data {
        Value::String(text) => names.extend(refs::of_text(text)),
        Value::Array(items) => items.iter().for_each(|item| collect(item, names)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
