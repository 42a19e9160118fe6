//! `AuthService`: API keys the server keeps.

mod read;

use super::jobs::check_request_id;
use super::list::{self, Named, bound, filter, order, page_size};
use super::topics::once;
use crate::access::keys::{key_of, prefix_of, random_bytes};
use crate::access::principal::Principal;
use crate::access::stored::StoredKeys;
use crate::call::{Answer, Call};
use crate::gate::Gate;
use crate::wire::time::span;
use crate::wire::{Faults, time};
use coretex_contract::v1 as pb;
use coretex_domain::access::{Role, Roles};
use coretex_domain::limits::{
    API_KEY_NAMESPACES_MAX, API_KEY_OVERLAP_DEFAULT, API_KEY_OVERLAP_MAX, IDENTITY_LEN_MAX,
    IDENTITY_NAME_LEN_MAX,
};
use coretex_domain::names::{check_identity, check_namespace};
use coretex_domain::{Reason, Refusal, Span, Time};
use coretex_engine::catalog::Change;
use coretex_engine::keys::{ApiKey, May, NewApiKey, NewSecret, identity, not_found};
use prost::Message;
use read::{FIELDS, KeyRow, ORDERS, sort_key, write};
use std::sync::Arc;
use tonic::Request;

#[derive(Clone)]
pub(crate) struct Auth(pub(crate) Arc<Gate>);

/// A key that is asked for, read and checked.
struct Wanted {
    name: String,
    roles: Roles,
    namespaces: Vec<String>,
    expires: Option<Time>,
}

fn read_wanted(request: &pb::CreateApiKeyRequest, now: Time) -> Result<Wanted, Refusal> {
    let mut faults = Faults::default();
    match request.name.is_empty() {
        true => faults.add("name", "required"),
        false => faults.check("name", check_identity(&request.name)),
    }
    if request.roles.is_empty() {
        faults.add("roles", "at least one is required");
    }
    let mut roles = Roles::NONE;
    // Each once, however often it is named: what is wrong with many is said about the first few.
    for (n, name) in request.roles.iter().enumerate().take(Role::ALL.len()) {
        match Role::parse(name) {
            Ok(role) => roles = roles.with(role),
            Err(message) => faults.add(format!("roles[{n}]"), message),
        }
    }
    if request.roles.len() > Role::ALL.len() {
        let most = Role::ALL.len();
        faults.add("roles", format!("must have at most {most} items, got {}", request.roles.len()));
    }
    let namespaces = namespaces(&request.namespaces, &mut faults);
    let length = identity(&namespaces, &request.name).len();
    if length > IDENTITY_LEN_MAX {
        let message = format!("with the name they must have at most {IDENTITY_LEN_MAX} bytes, got {length}");
        faults.add("namespaces", message);
    }
    let expires = time::instant(&mut faults, "expire_time", request.expire_time, now);
    if expires.is_some_and(|end| end <= now) {
        faults.add("expire_time", "must lie ahead");
    }
    faults.into_result()?;
    Ok(Wanted { name: request.name.clone(), roles, namespaces, expires })
}

/// Sorted, each once: they are a part of who calls.
fn namespaces(given: &[String], faults: &mut Faults) -> Vec<String> {
    if given.len() > API_KEY_NAMESPACES_MAX {
        let message = format!("must have at most {API_KEY_NAMESPACES_MAX} items, got {}", given.len());
        faults.add("namespaces", message);
        return Vec::new();
    }
    for (n, name) in given.iter().enumerate() {
        faults.check(&format!("namespaces[{n}]"), check_namespace(name));
    }
    let mut namespaces = given.to_vec();
    namespaces.sort();
    namespaces.dedup();
    namespaces
}

// === what one may hand out ===

fn denied(message: String) -> Refusal {
    Refusal::new(Reason::PermissionDenied, message)
}

/// Nobody hands out more than they may do themselves.
fn check_roles(own: Roles, wanted: Roles) -> Result<(), Refusal> {
    let Some(beyond) = wanted.iter().find(|role| !own.cover(*role)) else { return Ok(()) };
    let message = format!("the role `{}` may do more than the roles of this identity", beyond.name());
    Err(denied(message).fact("role", beyond.name()))
}

/// Nobody hands out namespaces they may not use. Whether there are such is not told.
fn check_namespaces(own: &Principal, wanted: &[String]) -> Result<(), Refusal> {
    if wanted.is_empty() && !own.namespaces.is_empty() {
        let own = own.namespaces.join(", ");
        return Err(denied(format!(
            "a key for all namespaces is beyond this identity; name some of its own: {own}"
        )));
    }
    let Some(beyond) = wanted.iter().find(|name| !own.may_use(name)) else { return Ok(()) };
    let message = format!("this identity may not make keys for namespace {beyond}");
    Err(denied(message).fact("namespace", beyond.as_str()))
}

/// Whether somebody may know of a key: it is bound to nothing that is not theirs.
fn is_seen_by(own: &Principal, key: &ApiKey) -> bool {
    let bound = &key.facts.namespaces;
    own.namespaces.is_empty() || !bound.is_empty() && bound.iter().all(|name| own.may_use(name))
}

fn check_seen(own: &Principal, key: &ApiKey) -> Result<(), Refusal> {
    if is_seen_by(own, key) { Ok(()) } else { Err(not_found(&key.id)) }
}

/// The check of a change, made when the key is known and nobody else can change it.
fn may(call: &Call, with_roles: bool) -> May {
    let own = call.principal.clone();
    Box::new(move |key| {
        check_seen(&own, key)?;
        if with_roles { check_roles(own.roles, key.roles) } else { Ok(()) }
    })
}

fn check_id(id: &str) -> Result<(), Refusal> {
    if id.is_empty() {
        return Err(Refusal::field("key_id", "required"));
    }
    let is_prefix = id.len() == 8 && id.bytes().all(|b| b.is_ascii_alphanumeric());
    // Somebody may have sent the whole key: it is not said again.
    let message = "must be the eight letters and digits after `ctx_`";
    if is_prefix { Ok(()) } else { Err(Refusal::field("key_id", message)) }
}

/// A repeat is one of the same caller: what others made is not told, whatever they called their request.
fn once_of(
    call: &Call,
    method: &str,
    request_id: &str,
    request: &impl Message,
) -> Option<coretex_engine::api::Once> {
    let own = &call.principal;
    once(&format!("{method}\0{}\0{}", own.name, own.namespaces.join("+")), request_id, request)
}

// === impl Auth ===

impl Auth {
    fn keys(&self) -> Result<&Arc<StoredKeys>, Refusal> {
        self.0.keys.as_ref().ok_or_else(|| {
            let message = "auth.pepper_file is not set: there is nothing to hash API keys with";
            Refusal::new(Reason::UnsupportedByStore, message)
        })
    }

    fn used(&self, key: &ApiKey) -> Option<Time> {
        self.0.keys.as_ref().and_then(|keys| keys.used(&key.id)).max(key.used())
    }

    fn write(&self, key: &ApiKey) -> pb::ApiKey {
        write(key, self.used(key), self.0.now())
    }

    async fn create(
        &self,
        call: &Call,
        request: pb::CreateApiKeyRequest,
    ) -> Result<pb::CreateApiKeyResponse, Refusal> {
        check_request_id(&request.request_id)?;
        let wanted = read_wanted(&request, self.0.now())?;
        check_roles(call.principal.roles, wanted.roles)?;
        check_namespaces(&call.principal, &wanted.namespaces)?;
        if wanted.namespaces.is_empty() && self.0.guard.is_name_of_others(&wanted.name) {
            let message = "is the name of an issuer or of a certificate of the settings; choose another";
            return Err(Refusal::field("name", message));
        }
        let keys = self.keys()?;
        let (secret, hash, pepper) = new_secret(keys, None)?;
        let new = NewApiKey {
            id: prefix_of(&secret).unwrap_or_default().into(),
            name: wanted.name,
            roles: wanted.roles,
            namespaces: wanted.namespaces,
            expires: wanted.expires,
            hash,
            pepper,
            actor: call.actor(),
        };
        let once = once_of(call, "CreateApiKey", &request.request_id, &request);
        let (made, change) = self.0.engine.make_api_key(new, once).await?;
        keys.refresh();
        call.subject(&format!("{} {}", made.facts.name, made.id));
        let secret = told_once(secret, change);
        Ok(pb::CreateApiKeyResponse { api_key: Some(self.write(&made)), secret })
    }

    fn get(&self, call: &Call, id: &str) -> Result<pb::GetApiKeyResponse, Refusal> {
        check_id(id)?;
        let key = self.0.engine.api_key(id)?;
        check_seen(&call.principal, &key)?;
        Ok(pb::GetApiKeyResponse { api_key: Some(self.write(&key)) })
    }

    fn list(
        &self,
        call: &Call,
        request: &pb::ListApiKeysRequest,
    ) -> Result<pb::ListApiKeysResponse, Refusal> {
        let filter = filter(FIELDS, &request.filter)?;
        let page_size = page_size(request.page_size, list::DEFAULT)?;
        let order = order(&request.order_by, &ORDERS)?;
        let mut faults = Faults::default();
        faults.text("name_prefix", &request.name_prefix, IDENTITY_NAME_LEN_MAX);
        faults.into_result()?;
        let mut rows = Vec::new();
        for row in self.0.engine.api_key_rows() {
            let key = ApiKey::read(&row)?;
            if !is_seen_by(&call.principal, &key) || !key.facts.name.starts_with(&request.name_prefix) {
                continue;
            }
            let shown = self.write(&key);
            if filter.matches_row(&KeyRow { key: &key, shown: &shown, used: self.used(&key) }) {
                rows.push((sort_key(&key, order), shown));
            }
        }
        let bound_to = format!("{order}\0{}", request.name_prefix);
        let named = Named {
            rows,
            bound: bound("ListApiKeys", call, &filter, &bound_to),
            tokens: &self.0.tokens,
            descending: order.ends_with("desc"),
            page_size,
            page_token: &request.page_token,
        };
        let (api_keys, next_page_token) = named.page()?;
        Ok(pb::ListApiKeysResponse { api_keys, next_page_token })
    }

    async fn rotate(
        &self,
        call: &Call,
        request: pb::RotateApiKeyRequest,
    ) -> Result<pb::RotateApiKeyResponse, Refusal> {
        check_id(&request.key_id)?;
        check_request_id(&request.request_id)?;
        let mut faults = Faults::default();
        let overlap = span(&mut faults, "overlap", request.overlap, Span::ZERO, API_KEY_OVERLAP_MAX);
        faults.into_result()?;
        let keys = self.keys()?;
        let (secret, hash, pepper) = new_secret(keys, Some(&request.key_id))?;
        let new = NewSecret { hash, pepper, overlap: overlap.unwrap_or(API_KEY_OVERLAP_DEFAULT) };
        let once = once_of(call, "RotateApiKey", &request.request_id, &request);
        let (key, change) = self.0.engine.rotate_api_key(&request.key_id, new, may(call, true), once).await?;
        keys.refresh();
        let secret = told_once(secret, change);
        Ok(pb::RotateApiKeyResponse { api_key: Some(self.write(&key)), secret })
    }

    async fn revoke(
        &self,
        call: &Call,
        request: pb::RevokeApiKeyRequest,
    ) -> Result<pb::RevokeApiKeyResponse, Refusal> {
        check_id(&request.key_id)?;
        check_request_id(&request.request_id)?;
        let once = once_of(call, "RevokeApiKey", &request.request_id, &request);
        let (id, actor) = (&request.key_id, call.actor());
        let key = self.0.engine.revoke_api_key(id, actor, may(call, false), once).await?;
        if let Some(keys) = &self.0.keys {
            keys.refresh();
        }
        Ok(pb::RevokeApiKeyResponse { api_key: Some(self.write(&key)) })
    }
}

/// A new key, its hash as it is kept, and the name of the pepper. One that is rotated keeps its public part.
fn new_secret(keys: &StoredKeys, id: Option<&str>) -> Result<(String, String, String), Refusal> {
    let none = || Refusal::new(Reason::ServerFault, "this machine gives no random bytes");
    let mut secret = key_of(random_bytes().ok_or_else(none)?);
    if let Some(id) = id {
        secret.replace_range(4..12, id);
    }
    let (hash, pepper) = keys.hash(&secret).ok_or_else(none)?;
    Ok((secret, hash, pepper))
}

/// The secret of a repeat was made for nothing: it opens nothing.
fn told_once(secret: String, change: Change) -> String {
    match change {
        Change::Made => secret,
        Change::Repeat => String::new(),
    }
}

#[tonic::async_trait]
impl pb::auth_service_server::AuthService for Auth {
    async fn create_api_key(
        &self,
        request: Request<pb::CreateApiKeyRequest>,
    ) -> Answer<pb::CreateApiKeyResponse> {
        let call = Call::of(&request);
        let name = request.get_ref().name.clone();
        let made = self.create(&call, request.into_inner()).await;
        // What was made has said so itself.
        call.subject(&name);
        call.answer(made)
    }

    async fn get_api_key(&self, request: Request<pb::GetApiKeyRequest>) -> Answer<pb::GetApiKeyResponse> {
        let call = Call::of(&request);
        call.answer(self.get(&call, &request.get_ref().key_id))
    }

    async fn list_api_keys(
        &self,
        request: Request<pb::ListApiKeysRequest>,
    ) -> Answer<pb::ListApiKeysResponse> {
        let call = Call::of(&request);
        call.answer(self.list(&call, request.get_ref()))
    }

    async fn rotate_api_key(
        &self,
        request: Request<pb::RotateApiKeyRequest>,
    ) -> Answer<pb::RotateApiKeyResponse> {
        let call = Call::of(&request);
        call.subject(subject(&request.get_ref().key_id));
        call.answer(self.rotate(&call, request.into_inner()).await)
    }

    async fn revoke_api_key(
        &self,
        request: Request<pb::RevokeApiKeyRequest>,
    ) -> Answer<pb::RevokeApiKeyResponse> {
        let call = Call::of(&request);
        call.subject(subject(&request.get_ref().key_id));
        call.answer(self.revoke(&call, request.into_inner()).await)
    }
}

/// What the audit keeps of the id of a key: nothing of a text that may be the key itself.
fn subject(id: &str) -> &str {
    if check_id(id).is_ok() { id } else { "" }
}

#[cfg(test)]
mod tests;
