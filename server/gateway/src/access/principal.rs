//! Who calls: a name, how it was proved, and what it is bounded to.

use coretex_domain::Time;
use coretex_domain::access::Roles;
use std::sync::Arc;

/// Who calls. Two principals with the same name are the same identity: of a key by its name, of a token as
/// `ISSUER:SUBJECT`, of a certificate by the name of its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Empty when nobody was asked.
    pub name: Arc<str>,
    pub kind: PrincipalKind,
    /// Namespaces it may use. Empty: all.
    pub namespaces: Arc<[String]>,
    pub roles: Roles,
    /// What its authority knows the credential by: of a key its public prefix, or its name. Never a secret.
    pub credential: Arc<str>,
    /// When the credential ends.
    pub expires: Option<Time>,
}

/// How a principal was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalKind {
    Anonymous,
    Key,
    Token,
    Certificate,
}

// === impl Principal ===

impl Principal {
    /// Everybody, where nobody is asked.
    pub(crate) fn anonymous(roles: Roles) -> Principal {
        Principal {
            name: "".into(),
            kind: PrincipalKind::Anonymous,
            namespaces: Arc::default(),
            roles,
            credential: "".into(),
            expires: None,
        }
    }

    pub(crate) fn may_use(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|name| name == namespace)
    }

    pub(crate) fn is_expired(&self, now: Time) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }
}
