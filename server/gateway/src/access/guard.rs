//! The guard at the door: finds out who calls, and keeps an eye on streams for as long as they are open.

use super::failures::Failures;
use super::leash::{Leash, Leashes};
use super::principal::{Principal, PrincipalKind};
use super::rates::Rates;
use super::{Access, jwt};
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
    ) -> Result<Arc<Principal>, Refusal> {
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
    ) -> Result<Arc<Principal>, Refusal> {
        let address = link.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |link| link.address);
        self.failures.check(address, now.mono)?;
        let found = match shown {
            // Where no tokens are believed, a text with two dots may be a key.
            Shown::Token(key) if self.access.issuers.is_empty() => self.find_key(key),
            Shown::Key(key) => self.find_key(key),
            // Boxed, so that calls with keys do not carry the room for it.
            Shown::Token(token) => match Box::pin(self.access.issuers.admit(token, now.wall)).await {
                Ok(principal) => Some(principal),
                Err(why) => {
                    tracing::info!(target: "coretex::audit", %address, why = why.0, "a token was refused");
                    None
                }
            },
            Shown::Nothing => None,
        };
        found.filter(|principal| !principal.is_expired(now.wall)).ok_or_else(|| {
            self.failures.count(address, now.mono);
            tracing::info!(target: "coretex::audit", %address, "a wrong credential was shown");
            // One message for all causes: it helps nobody to guess.
            Refusal::new(Reason::Unauthenticated, "the credential is not valid")
        })
    }

    fn find_key(&self, key: &str) -> Option<Arc<Principal>> {
        self.access.authorities.iter().find_map(|authority| authority.find(key))
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
                PrincipalKind::Key => self.access.authorities.iter().any(|a| a.is_valid(principal)),
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

fn credential_required() -> Refusal {
    Refusal::new(Reason::CredentialRequired, "send `authorization: Bearer KEY` or `x-api-key: KEY`")
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
