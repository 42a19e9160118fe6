//! Tokens of identity providers: signed, for us, in time, and by a key the provider publishes; or refused.
//!
//! The reason of a refusal goes to the log. The caller hears one message, whatever was wrong.

mod claims;
mod fetch;
mod key_set;
mod provider;

pub use claims::{ClaimRules, RoleNames};
pub use key_set::KeySource;

use super::principal::{Principal, PrincipalKind};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claims::Claims;
use coretex_domain::Time;
use key_set::{KeySet, PublicKey};
use rustc_hash::FxHashMap;
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex, PoisonError};

/// No token is larger.
const TOKEN_LEN_MAX: usize = 16 << 10;
/// Tokens kept in mind. Beyond, they are proved each time.
const PROVED_MAX: usize = 10_000;
/// Longest name of an identity, with its issuer.
const NAME_LEN_MAX: usize = 128;

/// How tokens are signed. Only these: never by a secret that both sides hold, and never not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Rs256,
    Ps256,
    Es256,
    EdDsa,
}

/// A provider whose tokens are believed.
#[derive(Clone, Debug)]
pub struct Issuer {
    /// Ours; the first part of the names of its identities.
    pub name: String,
    /// Its own: the claim `iss`, letter for letter.
    pub issuer: String,
    /// One of them must be in the claim `aud`.
    pub audiences: Vec<String>,
    /// What its tokens may be signed with.
    pub algorithms: Vec<Algorithm>,
    /// Where its public keys are.
    pub keys: KeySource,
    /// What its claims mean.
    pub claims: ClaimRules,
}

/// Why a token was refused: for the log, never for the caller.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Why(pub(crate) &'static str);

/// All issuers that are believed.
#[derive(Default)]
pub(crate) struct Issuers {
    all: Vec<(Issuer, KeySet)>,
    /// Tokens that were found good, by their digest: a signature is dear, and a caller shows one token many times.
    proved: Mutex<FxHashMap<[u8; 32], Proved>>,
}

/// A token that was found good, for as long as its key is the issuer's.
#[derive(Clone)]
struct Proved {
    principal: Arc<Principal>,
    issuer: usize,
    key: Arc<PublicKey>,
}

/// Whether a credential is meant to be a token: three parts with dots between them, or more.
pub(crate) fn is_token(credential: &str) -> bool {
    credential.bytes().filter(|b| *b == b'.').count() >= 2
}

// === impl Algorithm ===

impl Algorithm {
    pub const ALL: [Algorithm; 4] = [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa];

    /// Its name in tokens and settings.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Ps256 => "PS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    pub fn parse(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    fn of_crate(self) -> jsonwebtoken::Algorithm {
        match self {
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::Ps256 => jsonwebtoken::Algorithm::PS256,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

// === impl Issuers ===

impl Issuers {
    pub(crate) fn new(issuers: Vec<Issuer>) -> Issuers {
        provider::install();
        let with_keys = |issuer: Issuer| {
            let keys = KeySet::new(issuer.keys.clone());
            (issuer, keys)
        };
        Issuers { all: issuers.into_iter().map(with_keys).collect(), proved: Mutex::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|(issuer, _)| issuer.name.as_str())
    }

    /// Whom a token stands for. One that has ended since it was found good is for the caller to refuse.
    pub(crate) async fn admit(&self, token: &str, now: Time) -> Result<Arc<Principal>, Why> {
        if token.len() > TOKEN_LEN_MAX {
            return Err(Why("it is too large"));
        }
        let mut digest = [0; 32];
        let made = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
        digest.iter_mut().zip(made.as_ref()).for_each(|(to, from)| *to = *from);
        if let Some(principal) = self.recall(&digest, now) {
            return Ok(principal);
        }
        let proved = self.prove(token, now).await?;
        let principal = proved.principal.clone();
        let mut all = self.proved.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= PROVED_MAX {
            all.retain(|_, proved| !proved.principal.is_expired(now));
        }
        if all.len() < PROVED_MAX {
            all.insert(digest, proved);
        }
        Ok(principal)
    }

    fn recall(&self, digest: &[u8; 32], now: Time) -> Option<Arc<Principal>> {
        let proved = self.proved.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()?;
        let (_, keys) = self.all.get(proved.issuer)?;
        keys.has(&proved.principal.credential, &proved.key, now).then_some(proved.principal)
    }

    async fn prove(&self, token: &str, now: Time) -> Result<Proved, Why> {
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(_), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Why("it does not have three parts"));
        };
        let head = Head::read(&object(header)?)?;
        // Not believed yet: it only tells whose key to try.
        let said = object(payload)?;
        let iss = said.get("iss").and_then(Value::as_str).ok_or(Why("it names no issuer"))?;
        let mut all = self.all.iter().enumerate();
        let (number, (issuer, keys)) =
            all.find(|(_, (issuer, _))| issuer.issuer == iss).ok_or(Why("its issuer is unknown"))?;
        if !issuer.algorithms.contains(&head.algorithm) {
            return Err(Why("its algorithm is not one of the issuer's"));
        }
        let public = keys.find(&head.kid, now).await.ok_or(Why("its key is unknown"))?;
        let key = public.for_algorithm(head.algorithm).ok_or(Why("its key is for another algorithm"))?;
        let mut rules = jsonwebtoken::Validation::new(head.algorithm.of_crate());
        rules.set_audience(&issuer.audiences);
        rules.set_issuer(&[&issuer.issuer]);
        rules.set_required_spec_claims(&["iss", "aud"]);
        // Times are checked below, against the clock of the server.
        (rules.validate_exp, rules.validate_nbf) = (false, false);
        let proved: jsonwebtoken::TokenData<Map<String, Value>> = jsonwebtoken::decode(token, key, &rules)
            .map_err(|_| Why("its signature or audience is wrong"))?;
        let claims = Claims::read(&proved.claims, &issuer.claims, now)?;
        let name = format!("{}:{}", issuer.name, claims.subject);
        if name.len() > NAME_LEN_MAX {
            return Err(Why("its subject is too long"));
        }
        let principal = Arc::new(Principal {
            name: name.into(),
            kind: PrincipalKind::Token,
            namespaces: claims.namespaces.into(),
            roles: claims.roles,
            credential: head.kid.into(),
            expires: Some(claims.expires),
        });
        Ok(Proved { principal, issuer: number, key: public })
    }
}

/// A part of a token as an object.
fn object(part: &str) -> Result<Map<String, Value>, Why> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| Why("a part is not base64url"))?;
    serde_json::from_slice(&bytes).map_err(|_| Why("a part is no object of JSON"))
}

/// What the header of a token may say.
struct Head {
    algorithm: Algorithm,
    kid: String,
}

impl Head {
    fn read(header: &Map<String, Value>) -> Result<Head, Why> {
        // `crit` names extensions we must understand, and we know none; the others change what the parts mean.
        if ["crit", "b64", "zip", "enc"].iter().any(|name| header.contains_key(*name)) {
            return Err(Why("its header asks for what is not supported"));
        }
        let text = |name: &str| header.get(name).and_then(Value::as_str);
        let algorithm = text("alg").and_then(Algorithm::parse).ok_or(Why("its algorithm is not allowed"))?;
        let kinds = ["jwt", "at+jwt", "application/at+jwt"];
        let is_jwt = |kind: &str| kinds.iter().any(|known| kind.eq_ignore_ascii_case(known));
        if header.contains_key("typ") && !text("typ").is_some_and(is_jwt) {
            return Err(Why("it is another type of token"));
        }
        let kid = text("kid").filter(|kid| !kid.is_empty()).ok_or(Why("it names no key"))?;
        Ok(Head { algorithm, kid: kid.to_owned() })
    }
}

#[cfg(test)]
mod tests;
