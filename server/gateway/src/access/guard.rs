//! The guard at the door: finds out who calls, and keeps an eye on streams for as long as they are open.

use super::failures::Failures;
use super::keys::prefix_of;
use super::leash::{Leash, Leashes};
use super::principal::{Principal, PrincipalKind};
use super::rates::Rates;
use super::{Access, KeyFault, jwt};
use crate::connection::Link;
use coretex_domain::access::Roles;
use coretex_domain::time::Now;
use coretex_domain::{Reason, Refusal, Time};
use http::HeaderMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tokio::task::JoinSet;

pub(crate) struct Guard {
    access: Access,
    anonymous: Arc<Principal>,
    /// Who asks for the health, and nothing else.
    nobody: Arc<Principal>,
    failures: Failures,
    rates: Option<Rates>,
    leashes: Arc<Leashes>,
}

// === impl Guard ===

impl Guard {
    pub(crate) fn new(access: Access) -> Guard {
        Guard {
            anonymous: Arc::new(Principal::anonymous(Roles::ADMIN)),
            nobody: Arc::new(Principal::anonymous(Roles::NONE)),
            failures: Failures::new(access.failed_logins_max),
            rates: access.calls_per_second.map(Rates::new),
            leashes: Arc::default(),
            access,
        }
    }

    /// Whether a name stands for callers that are not known by keys.
    pub(crate) fn is_name_of_others(&self, name: &str) -> bool {
        self.access.is_name_of_others(name)
    }

    pub(crate) fn nobody(&self) -> Arc<Principal> {
        self.nobody.clone()
    }

    /// Whose certificate this is.
    pub(crate) fn certified(&self, der: &rustls::pki_types::CertificateDer<'_>) -> Option<Arc<Principal>> {
        super::certificate::identify(der, &self.access.certificates).map(Arc::new)
    }

    /// Who calls. A key or token that comes with the call goes before the certificate of its connection.
    pub(crate) async fn who(
        &self,
        headers: &HeaderMap,
        link: Option<&Link>,
        now: impl Fn() -> Now,
    ) -> Result<Arc<Principal>, Turned> {
        if self.access.is_open {
            return Ok(self.anonymous.clone());
        }
        let now = now();
        let principal = match credential(headers) {
            Some(shown) => self.log_in(shown, link, now).await?,
            None => link
                .and_then(|link| link.certified.clone())
                .filter(|principal| !principal.is_expired(now.wall))
                .ok_or_else(credential_required)?,
        };
        Ok(principal)
    }

    /// Takes one call out of those an identity may make. Nobody is asked for the health.
    pub(crate) fn take_call(&self, principal: &Principal, now: impl Fn() -> Now) -> Result<(), Refusal> {
        match &self.rates {
            Some(rates) if !self.access.is_open => rates.take(&principal.name, now().mono),
            Some(_) | None => Ok(()),
        }
    }

    async fn log_in(
        &self,
        shown: Shown<'_>,
        link: Option<&Link>,
        now: Now,
    ) -> Result<Arc<Principal>, Turned> {
        let address = link.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |link| link.address);
        self.failures.check(address, now.mono)?;
        let found = match shown {
            // Where no tokens are believed, a text with two dots may be a key.
            Shown::Token(key) if self.access.issuers.is_empty() => self.find_key(key, now.wall),
            Shown::Key(key) => self.find_key(key, now.wall),
            // Boxed, so that calls with keys do not carry the room for it.
            Shown::Token(token) => match Box::pin(self.access.issuers.admit(token, now.wall)).await {
                Ok(principal) if principal.is_expired(now.wall) => Err("a token: it has expired".to_owned()),
                Ok(principal) => Ok(principal),
                Err(why) => Err(format!("a token: {}", why.0)),
            },
            Shown::Nothing => Err("no key and no token".to_owned()),
        };
        found.map_err(|why| {
            self.failures.count(address, now.mono);
            tracing::info!(target: "coretex::audit", %address, why, "a wrong credential was shown");
            // One message for all causes: it helps nobody to guess.
            let refusal = Refusal::new(Reason::Unauthenticated, "the credential is not valid");
            Turned { refusal, why }
        })
    }

    /// Whom a key stands for. All authorities are asked in turn, and who knows most about a key that is none says why.
    fn find_key(&self, key: &str, now: Time) -> Result<Arc<Principal>, String> {
        let mut fault = KeyFault::Unknown;
        for authority in &self.access.authorities {
            match authority.find(key, now) {
                Ok(principal) if principal.is_expired(now) => fault = fault.max(KeyFault::Expired),
                Ok(principal) => return Ok(principal),
                Err(found) => fault = fault.max(found),
            }
        }
        Err(told(fault, prefix_of(key)))
    }

    /// Ends the stream of this principal when it may no longer. Nobody ends those of nobody in particular.
    pub(crate) fn leash(&self, principal: &Arc<Principal>) -> Option<Leash> {
        match principal.kind {
            PrincipalKind::Anonymous => None,
            PrincipalKind::Key | PrincipalKind::Token | PrincipalKind::Certificate => {
                Some(self.leashes.take(principal.clone()))
            }
        }
    }

    fn may_stay(&self, principal: &Principal, now: Time) -> bool {
        !principal.is_expired(now)
            && match principal.kind {
                PrincipalKind::Key => self.access.authorities.iter().any(|a| a.is_valid(principal, now)),
                PrincipalKind::Anonymous | PrincipalKind::Token | PrincipalKind::Certificate => true,
            }
    }

    fn look_again(&self, now: Time) {
        let cut = self.leashes.cut_unless(|principal| self.may_stay(principal, now));
        if cut > 0 {
            tracing::info!(cut, "streams were ended: their credential is no longer valid");
        }
    }

    /// Looks at open streams again and again: as time passes, and when an authority says that something has changed.
    pub(crate) fn watch(self: &Arc<Self>, now: impl Fn() -> Time + Clone + Send + 'static) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        if self.access.is_open {
            return tasks;
        }
        for authority in &self.access.authorities {
            let (guard, now, mut changed) = (self.clone(), now.clone(), authority.changed());
            tasks.spawn(async move {
                while changed.changed().await.is_ok() {
                    guard.look_again(now());
                }
            });
        }
        let guard = self.clone();
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(guard.access.recheck_every).await;
                guard.look_again(now());
            }
        });
        tasks
    }
}

fn credential_required() -> Turned {
    Refusal::new(Reason::CredentialRequired, "send `authorization: Bearer KEY` or `x-api-key: KEY`").into()
}

/// What is wrong with a key, without its secret. The public part is said of keys of our form only: the rest may be anything.
fn told(fault: KeyFault, prefix: Option<&str>) -> String {
    let Some(prefix) = prefix else {
        return match fault {
            KeyFault::Expired => "a key: it has expired".to_owned(),
            KeyFault::Unknown | KeyFault::WrongSecret | KeyFault::Rotated | KeyFault::Revoked => {
                "a key: it is unknown and not of our form".to_owned()
            }
        };
    };
    let what = match fault {
        KeyFault::Unknown => "it is unknown",
        KeyFault::WrongSecret => "its secret is another",
        KeyFault::Rotated => "it was given a new secret, and the overlap is over",
        KeyFault::Expired => "it has expired",
        KeyFault::Revoked => "it was revoked",
    };
    format!("key {prefix}: {what}")
}

/// Somebody who was not let in, and why, for the audit only.
#[derive(Debug)]
pub(crate) struct Turned {
    pub(crate) refusal: Refusal,
    /// Empty where the refusal says all.
    pub(crate) why: String,
}

impl From<Refusal> for Turned {
    fn from(refusal: Refusal) -> Turned {
        Turned { refusal, why: String::new() }
    }
}

/// What a caller shows.
#[derive(Debug, PartialEq, Eq)]
enum Shown<'a> {
    Key(&'a str),
    Token(&'a str),
    /// A header is there, and nothing usable in it.
    Nothing,
}

/// The key or token of a call. Two of one kind contradict each other, and are as good as none.
fn credential(headers: &HeaderMap) -> Option<Shown<'_>> {
    let single = |name: http::HeaderName| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => None,
            (Some(value), None) => Some(value.to_str().unwrap_or_default()),
            (Some(_), Some(_)) => Some(""),
        }
    };
    if let Some(text) = single(http::header::AUTHORIZATION) {
        let scheme = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        return Some(match scheme {
            Some((_, token)) if jwt::is_token(token) => Shown::Token(token),
            Some((_, key)) if !key.is_empty() => Shown::Key(key),
            Some(_) | None => Shown::Nothing,
        });
    }
    match single(http::HeaderName::from_static("x-api-key"))? {
        "" => Some(Shown::Nothing),
        key => Some(Shown::Key(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_str(value).expect("a header"));
        }
        headers
    }

    #[test]
    fn credentials_come_in_three_forms() {
        let shown = |pairs: &[(&'static str, &str)]| format!("{:?}", credential(&headers(pairs)));
        assert_eq!(shown(&[("authorization", "Bearer k1")]), "Some(Key(\"k1\"))");
        assert_eq!(shown(&[("authorization", "bearer k1")]), "Some(Key(\"k1\"))");
        assert_eq!(shown(&[("authorization", "Bearer a.b.c")]), "Some(Token(\"a.b.c\"))");
        assert_eq!(shown(&[("x-api-key", "k2")]), "Some(Key(\"k2\"))");
        assert_eq!(shown(&[]), "None");
        for nothing in ["Basic k1", "Bearer", "Bearer ", ""] {
            assert_eq!(shown(&[("authorization", nothing)]), "Some(Nothing)", "{nothing:?}");
        }
        assert_eq!(shown(&[("x-api-key", "k1"), ("x-api-key", "k2")]), "Some(Nothing)");
    }
}
