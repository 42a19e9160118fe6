//! API keys the server keeps, as it shows them.

use crate::raw::pb;
use crate::time::{of_stamp, stamp};
use std::fmt;
use std::time::{Duration, SystemTime};

/// Whether a key opens anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ApiKeyState {
    /// It does.
    Active,
    /// Its time has passed.
    Expired,
    /// It was revoked.
    Revoked,
    /// One this SDK does not know.
    Unknown,
}

/// What is known of a key, which is never the key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ApiKey {
    /// Its public prefix.
    pub key_id: String,
    /// What it is for.
    pub name: String,
    /// Who its calls are made by: the name, and for a key bound to namespaces `NAMESPACE+NAMESPACE/NAME`.
    pub identity: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// Namespaces it may use. Empty: all.
    pub namespaces: Vec<String>,
    /// Whether it opens anything.
    pub state: ApiKeyState,
    /// When it was made.
    pub create_time: Option<SystemTime>,
    /// Who made it.
    pub created_by: String,
    /// When it ends.
    pub expire_time: Option<SystemTime>,
    /// When it was revoked.
    pub revoke_time: Option<SystemTime>,
    /// Who revoked it.
    pub revoked_by: String,
    /// When it was last used.
    pub last_used_time: Option<SystemTime>,
    /// When it last got a new secret.
    pub rotate_time: Option<SystemTime>,
    /// Up to when the key before it is valid as well.
    pub overlap_end_time: Option<SystemTime>,
}

/// A key to be made.
///
/// ```
/// # use coretex_sdk::NewApiKey;
/// # use std::time::Duration;
/// let wanted = NewApiKey::new("ci", "submitter").namespace("builds").expires_in(Duration::from_secs(30 * 86_400));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a key is made when this is sent"]
pub struct NewApiKey {
    name: String,
    roles: Vec<String>,
    namespaces: Vec<String>,
    expires: Option<SystemTime>,
}

/// A key that was made or got a new secret. Its secret is not shown by `Debug`.
#[derive(Clone)]
#[non_exhaustive]
pub struct IssuedApiKey {
    /// What it is.
    pub api_key: ApiKey,
    /// The key itself, told this once. None when the answer of the first try was lost and a repeat was answered: rotate the key.
    pub secret: Option<String>,
}

// === impl ApiKeyState ===

impl ApiKeyState {
    /// Its name in filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::Expired => "EXPIRED",
            Self::Revoked => "REVOKED",
            Self::Unknown => "UNKNOWN",
        }
    }

    fn from_pb(state: pb::ApiKeyState) -> Self {
        match state {
            pb::ApiKeyState::Active => Self::Active,
            pb::ApiKeyState::Expired => Self::Expired,
            pb::ApiKeyState::Revoked => Self::Revoked,
            pb::ApiKeyState::Unspecified => Self::Unknown,
        }
    }
}

// === impl ApiKey ===

impl ApiKey {
    pub(crate) fn from_pb(key: pb::ApiKey) -> Self {
        Self {
            state: ApiKeyState::from_pb(key.state()),
            key_id: key.key_id,
            name: key.name,
            identity: key.identity,
            roles: key.roles,
            namespaces: key.namespaces,
            create_time: of_stamp(key.create_time),
            created_by: key.created_by,
            expire_time: of_stamp(key.expire_time),
            revoke_time: of_stamp(key.revoke_time),
            revoked_by: key.revoked_by,
            last_used_time: of_stamp(key.last_used_time),
            rotate_time: of_stamp(key.rotate_time),
            overlap_end_time: of_stamp(key.overlap_end_time),
        }
    }
}

// === impl NewApiKey ===

impl NewApiKey {
    /// A key with a name and a role, for all namespaces and for ever.
    pub fn new(name: impl Into<String>, role: impl Into<String>) -> Self {
        Self { name: name.into(), roles: vec![role.into()], namespaces: Vec::new(), expires: None }
    }

    /// One more role.
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.roles.push(role.into());
        self
    }

    /// A namespace it may use; the first one binds it to namespaces.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespaces.push(namespace.into());
        self
    }

    /// When it ends.
    pub fn expires_at(mut self, end: SystemTime) -> Self {
        self.expires = Some(end);
        self
    }

    /// How long from now it lasts. What is beyond all time is for the server to refuse.
    pub fn expires_in(self, span: Duration) -> Self {
        let end = SystemTime::now().checked_add(span);
        self.expires_at(end.unwrap_or(SystemTime::UNIX_EPOCH))
    }

    pub(crate) fn into_pb(self, request_id: String) -> pb::CreateApiKeyRequest {
        pb::CreateApiKeyRequest {
            name: self.name,
            roles: self.roles,
            namespaces: self.namespaces,
            expire_time: self.expires.map(stamp),
            request_id,
        }
    }
}

// === impl IssuedApiKey ===

impl IssuedApiKey {
    pub(crate) fn from_pb(key: pb::ApiKey, secret: String) -> Self {
        Self { api_key: ApiKey::from_pb(key), secret: Some(secret).filter(|secret| !secret.is_empty()) }
    }
}

impl fmt::Debug for IssuedApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedApiKey").field("api_key", &self.api_key).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_shown_by_mistake() {
        let made = IssuedApiKey::from_pb(pb::ApiKey::default(), "ctx_hidden".into());
        assert!(!format!("{made:?}").contains("hidden"));
        assert_eq!(made.secret.as_deref(), Some("ctx_hidden"));
        assert_eq!(IssuedApiKey::from_pb(pb::ApiKey::default(), String::new()).secret, None);
    }
}
