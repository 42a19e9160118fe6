//! API keys the server keeps: what each of them is, as rows of the catalog. The keys themselves are not here, only their
//! keyed hashes, as texts: who makes hashes and compares them is the gateway.

use crate::Engine;
use crate::api::Once;
use crate::catalog::{Change, Draft, named_row};
use coretex_domain::access::{Role, Roles};
use coretex_domain::limits::{
    API_KEY_OVERLAP_MAX, API_KEY_RETENTION, API_KEYS_MAX, API_KEYS_PER_NAMESPACE_MAX,
};
use coretex_domain::resource::{Kind, Resource, ResourceKey};
use coretex_domain::{Namespace, Reason, Refusal, Span, Time};
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its public prefix.
    pub id: Arc<str>,
    pub create_time: Time,
    pub roles: Roles,
    pub facts: Facts,
}

/// What is kept of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    pub name: String,
    /// Sorted. Empty: all.
    pub namespaces: Vec<String>,
    /// Names of roles.
    roles: Vec<String>,
    pub hash: String,
    /// Names what the hash was made with, and tells nothing about it.
    pub pepper: String,
    /// Secrets it has had, the present one included.
    pub serial: u64,
    /// The secret before this one, while it is valid.
    pub former: Option<Former>,
    pub created_by: String,
    /// In milliseconds since 1970, as all times here.
    expires: Option<u64>,
    revoked: Option<u64>,
    pub revoked_by: String,
    rotated: Option<u64>,
    used: Option<u64>,
    /// The call that made it, so that its repeat finds it.
    call: Option<String>,
}

/// The secret before a rotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    pub hash: String,
    until: u64,
}

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    pub id: Arc<str>,
    pub name: String,
    pub roles: Roles,
    pub namespaces: Vec<String>,
    pub expires: Option<Time>,
    pub hash: String,
    pub pepper: String,
    pub actor: Arc<str>,
}

/// A new secret for a key.
#[derive(Clone, Debug)]
pub struct NewSecret {
    pub hash: String,
    pub pepper: String,
    /// How long the one before stays valid.
    pub overlap: Span,
}

/// Who asks for a change: whether it may, once the key is known. A key it may not know of is refused with [`not_found`].
pub type May = Box<dyn FnOnce(&ApiKey) -> Result<(), Refusal> + Send>;

fn key(id: &str) -> ResourceKey {
    ResourceKey::new(Kind::ApiKey, Namespace::installation(), id)
}

/// The refusal of a key that is not there, or that the caller may not know of.
pub fn not_found(id: &str) -> Refusal {
    Refusal::new(Reason::ApiKeyNotFound, format!("there is no API key {id}")).fact("key_id", id)
}

// === impl ApiKey ===

impl ApiKey {
    /// Reads a row of the catalog.
    pub fn read(row: &Resource) -> Result<ApiKey, Refusal> {
        let refuse = |error: String| {
            Refusal::new(Reason::DataCorruption, format!("API key {} cannot be read: {error}", row.name))
        };
        let facts: Facts = serde_json::from_slice(&row.body).map_err(|error| refuse(error.to_string()))?;
        let roles = facts.roles.iter().map(|name| Role::parse(name)).collect::<Result<Roles, String>>();
        let roles = roles.map_err(refuse)?;
        Ok(ApiKey { id: row.name.clone(), create_time: row.create_time, roles, facts })
    }

    /// Whom its calls are made by. The namespaces are part of it, so that a tenant cannot take the name of somebody else.
    pub fn identity(&self) -> String {
        identity(&self.facts.namespaces, &self.facts.name)
    }

    pub fn expires(&self) -> Option<Time> {
        self.facts.expires.map(Time)
    }

    pub fn revoked(&self) -> Option<Time> {
        self.facts.revoked.map(Time)
    }

    pub fn rotated(&self) -> Option<Time> {
        self.facts.rotated.map(Time)
    }

    /// When it was last used, as far as that was written down.
    pub fn used(&self) -> Option<Time> {
        self.facts.used.map(Time)
    }

    /// When it ended, if it has.
    pub fn ended(&self, now: Time) -> Option<Time> {
        let expired = self.expires().filter(|end| *end <= now);
        self.revoked().into_iter().chain(expired).min()
    }
}

impl Former {
    /// Up to when it is valid.
    pub fn until(&self) -> Time {
        Time(self.until)
    }
}

/// Whom the calls of a key with these namespaces and this name are made by.
pub fn identity(namespaces: &[String], name: &str) -> String {
    match namespaces {
        [] => name.to_owned(),
        bound => format!("{}/{name}", bound.join("+")),
    }
}

impl Engine {
    /// A key that is there.
    pub fn api_key(&self, id: &str) -> Result<ApiKey, Refusal> {
        ApiKey::read(&*self.resource(&key(id)).ok_or_else(|| not_found(id))?)
    }

    /// Rows of all keys, ended ones included.
    pub fn api_key_rows(&self) -> Vec<Arc<Resource>> {
        self.resources(Kind::ApiKey, &Namespace::installation())
    }

    /// Makes a key. A repeat of the call gives the key it made.
    pub async fn make_api_key(
        &self,
        new: NewApiKey,
        once: Option<Once>,
    ) -> Result<(ApiKey, Change), Refusal> {
        let id = new.id.clone();
        let call = once.map(|once| format!("{:032x}", once.id));
        let made_by = call.clone();
        let change = self.change_catalog(once, move |draft| make(draft, new, call)).await?;
        if change == Change::Made {
            return Ok((self.api_key(&id)?, change));
        }
        let rows = self.api_key_rows();
        let mut all = rows.iter().filter_map(|row| ApiKey::read(row).ok());
        let first = all.find(|one| one.facts.call == made_by);
        first.map(|one| (one, change)).ok_or_else(|| {
            Refusal::new(Reason::ApiKeyNotFound, "the key that this call made is no longer kept")
        })
    }

    /// Gives a key a new secret.
    pub async fn rotate_api_key(
        &self,
        id: &str,
        secret: NewSecret,
        may: May,
        once: Option<Once>,
    ) -> Result<(ApiKey, Change), Refusal> {
        let wanted = key(id);
        let change = self.change_catalog(once, move |draft| rotate(draft, wanted, secret, may)).await?;
        Ok((self.api_key(id)?, change))
    }

    /// Ends a key for ever.
    pub async fn revoke_api_key(
        &self,
        id: &str,
        actor: Arc<str>,
        may: May,
        once: Option<Once>,
    ) -> Result<ApiKey, Refusal> {
        let wanted = key(id);
        self.change_catalog(once, move |draft| revoke(draft, wanted, &actor, may)).await?;
        self.api_key(id)
    }

    /// Writes down when keys were last used, and forgets those that ended long ago. Commits nothing when there is nothing new.
    pub async fn keep_api_keys(&self, uses: FxHashMap<Arc<str>, Time>) -> Result<(), Refusal> {
        self.change_catalog(None, move |draft| keep(draft, uses)).await.map(|_| ())
    }
}

// === decisions ===

fn make(draft: &mut Draft<'_>, new: NewApiKey, call: Option<String>) -> Result<(), Refusal> {
    let key = key(&new.id);
    if draft.get(&key).is_some() {
        let message = "the public part that chance gave is taken; send the request again";
        return Err(Refusal::new(Reason::Overloaded, message).retry_after(Span(1)));
    }
    let rows = draft.all(Kind::ApiKey, &Namespace::installation());
    if rows.len() >= API_KEYS_MAX {
        return Err(too_many(format!("{} of {API_KEYS_MAX} API keys are kept", rows.len())));
    }
    let bound = match new.namespaces.is_empty() {
        true => Vec::new(),
        false => rows.iter().filter_map(|row| ApiKey::read(row).ok()).collect::<Vec<_>>(),
    };
    for namespace in &new.namespaces {
        let there = bound.iter().filter(|one| one.facts.namespaces.contains(namespace)).count();
        if there >= API_KEYS_PER_NAMESPACE_MAX {
            let most = API_KEYS_PER_NAMESPACE_MAX;
            return Err(too_many(format!("{there} of {most} API keys of namespace {namespace} are kept")));
        }
    }
    let facts = Facts {
        name: new.name,
        namespaces: new.namespaces,
        roles: new.roles.iter().map(|role| role.name().to_owned()).collect(),
        hash: new.hash,
        pepper: new.pepper,
        serial: 1,
        created_by: new.actor.to_string(),
        expires: new.expires.map(|end| end.0),
        call,
        ..Facts::default()
    };
    let row = named_row(key, &facts, true, None, draft.now)?;
    draft.put(row);
    Ok(())
}

fn too_many(message: String) -> Refusal {
    Refusal::new(Reason::TooMany, format!("{message}; ended ones are forgotten after 90 days"))
}

/// The row of a key, if whoever asks may change it.
fn found(draft: &Draft<'_>, key: &ResourceKey, may: May) -> Result<(Arc<Resource>, ApiKey), Refusal> {
    let row = draft.get(key).ok_or_else(|| not_found(&key.name))?;
    let one = ApiKey::read(&row)?;
    may(&one)?;
    Ok((row, one))
}

fn rotate(draft: &mut Draft<'_>, key: ResourceKey, new: NewSecret, may: May) -> Result<(), Refusal> {
    let (row, one) = found(draft, &key, may)?;
    let now = draft.now;
    if one.ended(now).is_some() {
        let how = if one.revoked().is_some() { "was revoked" } else { "has expired" };
        let message = format!("API key {} {how}", key.name);
        return Err(Refusal::new(Reason::ApiKeyEnded, message).fact("key_id", &*key.name));
    }
    let overlap = new.overlap.min(API_KEY_OVERLAP_MAX);
    // What was hashed with another pepper opens nothing any more.
    let stays = overlap > Span::ZERO && one.facts.pepper == new.pepper;
    let former = stays.then(|| Former { hash: one.facts.hash.clone(), until: (now + overlap).0 });
    let facts = Facts {
        hash: new.hash,
        pepper: new.pepper,
        serial: one.facts.serial.saturating_add(1),
        former,
        rotated: Some(now.0),
        ..one.facts
    };
    draft.put(named_row(key, &facts, true, Some(&row), now)?);
    Ok(())
}

fn revoke(draft: &mut Draft<'_>, key: ResourceKey, actor: &str, may: May) -> Result<(), Refusal> {
    let (row, one) = found(draft, &key, may)?;
    if one.revoked().is_some() {
        return Ok(());
    }
    let now = draft.now;
    let facts = Facts { revoked: Some(now.0), revoked_by: actor.to_owned(), former: None, ..one.facts };
    draft.put(named_row(key, &facts, true, Some(&row), now)?);
    Ok(())
}

fn keep(draft: &mut Draft<'_>, uses: FxHashMap<Arc<str>, Time>) -> Result<(), Refusal> {
    let now = draft.now;
    for row in draft.all(Kind::ApiKey, &Namespace::installation()) {
        // One that cannot be read stays as it is.
        let Ok(one) = ApiKey::read(&row) else { continue };
        if one.ended(now).is_some_and(|end| end + API_KEY_RETENTION <= now) {
            draft.end(row.key());
            continue;
        }
        if let Some(at) = uses.get(&row.name).filter(|at| Some(**at) > one.used()) {
            let facts = Facts { used: Some(at.0), ..one.facts };
            // A use is no change: neither the revision nor the time of the last change moves.
            let next = named_row(row.key(), &facts, true, Some(&row), now)?;
            draft.put(Resource { revision: row.revision, update_time: row.update_time, ..next });
        }
    }
    Ok(())
}
