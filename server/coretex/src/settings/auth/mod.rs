//! Section `auth`: who may call, and how they prove it. By keys, by tokens of identity providers, by certificates.

mod certificates;
mod item;
mod jwt;
mod keys;

pub(super) use keys::check_mode;
pub use keys::{Key, Secret};
pub(crate) use keys::{line, read_pepper, time};

use super::Profile;
use super::layers::Layers;
use super::refusal::{Refusal, VALUE};
use coretex_domain::Time;
use coretex_domain::names::check_identity;
use coretex_gateway::{CertificateRule, Issuer};
use std::time::UNIX_EPOCH;

/// Who may call. Nobody named, on loopback: everybody.
#[derive(Clone, Default)]
pub struct Auth {
    pub keys: Vec<Key>,
    /// What hashes of keys are made with, if the operator says so.
    pub pepper: Option<Vec<u8>>,
    pub issuers: Vec<Issuer>,
    pub certificates: Vec<CertificateRule>,
    /// Callers are asked who they are, also where the settings name nobody.
    pub required: bool,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |issuer: &Issuer| issuer.name.clone();
        f.debug_struct("Auth")
            .field("keys", &self.keys)
            .field("issuers", &self.issuers.iter().map(names).collect::<Vec<_>>())
            .field("certificates", &self.certificates)
            .finish_non_exhaustive()
    }
}

impl Auth {
    pub fn build(profile: Profile, layers: &mut Layers) -> Auth {
        let pepper = keys::pepper(layers);
        Auth {
            keys: keys::build(profile, pepper.is_some(), layers),
            pepper,
            issuers: jwt::build(layers),
            certificates: certificates::build(layers),
            required: required(profile, layers),
        }
    }

    /// Whether nobody is asked who they are.
    pub fn is_open(&self) -> bool {
        !self.required && self.names_nobody()
    }

    /// Whether callers are known by the keys that the server keeps, or not at all.
    pub fn names_nobody(&self) -> bool {
        self.keys.is_empty() && self.issuers.is_empty() && self.certificates.is_empty()
    }

    pub fn validate(&self, profile: Profile, layers: &mut Layers) {
        self.names_are_apart(layers);
        if profile == Profile::Dev {
            return;
        }
        let now = now(layers);
        let has_key = self.keys.iter().any(|key| key.expires.is_none_or(|end| end > now));
        if !has_key && self.issuers.is_empty() && self.certificates.is_empty() {
            let was_given = ["auth.keys", "auth.keys_file", "auth.jwt", "auth.certificates"]
                .into_iter()
                .any(|key| layers.value(key).is_some());
            let message =
                if was_given { "there is no usable credential" } else { "nothing says who may call" };
            let mend = "set auth.keys_file to a file with the lines that `coretex admin keys generate` prints, mode 600";
            layers.refuse(Refusal::new("R2", message, mend).at("auth.keys_file"));
        }
    }

    /// A name is an identity, however it was proved: one name must not be two of them.
    fn names_are_apart(&self, layers: &mut Layers) {
        let keys = self.keys.iter().map(|key| ("a key", &key.name));
        let issuers = self.issuers.iter().map(|issuer| ("an issuer", &issuer.name));
        let rules = self.certificates.iter().map(|rule| ("a certificate", &rule.name));
        let all: Vec<_> = keys.chain(issuers).chain(rules).collect();
        for (index, (kind, name)) in all.iter().enumerate() {
            let before = all.iter().take(index).find(|(other, same)| same == name && other != kind);
            if let Some((other, _)) = before {
                let message = format!("`{name}` is the name of {other} and of {kind}");
                layers.refuse(Refusal::new(VALUE, message, "give each its own name").at("auth"));
            }
        }
    }
}

/// Whether callers must say who they are. Production always asks.
fn required(profile: Profile, layers: &mut Layers) -> bool {
    if layers.value("auth.required").is_none() {
        return profile == Profile::Production;
    }
    let is_required = layers.parse::<bool>("auth.required").unwrap_or(true);
    if !is_required && profile == Profile::Production {
        let message = "`false` would let everybody in";
        let mend = "take it out; `coretex dev` serves the person at this machine without a login";
        layers.refuse_at("auth.required", Refusal::new("R5", message, mend));
    }
    is_required
}

/// The time the settings are read at.
fn now(layers: &Layers) -> Time {
    let since = layers.now.duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Names of identities, as `check_identity` wants them.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    check_identity(name).map_err(|_| {
        format!(
            "the name {} does not match [A-Za-z0-9][A-Za-z0-9._@-]{{0,63}}",
            coretex_domain::names::shown(name)
        )
    })
}
