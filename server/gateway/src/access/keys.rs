//! API keys of the settings: kept as keyed hashes, found by their public prefix, compared in constant time.
//!
//! A key is `ctx_PREFIX_SECRET`: eight characters that are no secret, and 43 that are 256 bits. Keys of another form are
//! whatever an operator wrote; they have no prefix, and are compared with every call.

use super::principal::{Principal, PrincipalKind};
use super::{Authority, KeyFault};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coretex_domain::Time;
use coretex_domain::access::Roles;
use ring::hmac;
use ring::rand::SecureRandom as _;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

const KEY_START: &str = "ctx_";
const HASH_START: &str = "hmac_";
const PREFIX_LEN: usize = 8;
/// 256 bits in base64 without padding.
const SECRET_LEN: usize = 43;
/// No key is longer; nothing longer is hashed.
pub(super) const KEY_LEN_MAX: usize = 1_024;
const ALPHANUMERIC: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Who a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    /// Namespaces it may use. Empty: all.
    pub namespaces: Vec<String>,
    pub roles: Roles,
    /// When the key ends.
    pub expires: Option<Time>,
}

/// A key as it may be kept: its public prefix, and the HMAC-SHA-256 of the whole key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyHash {
    prefix: String,
    hash: [u8; 32],
}

/// API keys, kept as keyed hashes.
pub struct ApiKeys {
    pepper: hmac::Key,
    by_prefix: FxHashMap<String, Entry>,
    /// Keys without a prefix.
    free: Vec<Entry>,
    changed: watch::Sender<u64>,
}

struct Entry {
    hash: [u8; 32],
    principal: Arc<Principal>,
}

/// Bytes nobody can guess. None: this machine has none to give.
pub fn random_bytes<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    ring::rand::SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}

/// Makes a key out of random bytes: eight for its public prefix, 32 for its secret.
pub fn key_of(random: [u8; 40]) -> String {
    let (prefix, secret) = random.split_at(PREFIX_LEN);
    let prefix: String = prefix.iter().map(|byte| letter(*byte)).collect();
    format!("{KEY_START}{prefix}_{}", URL_SAFE_NO_PAD.encode(secret))
}

/// Names a pepper and tells nothing about it, so that it is known which hashes were made with it.
pub fn pepper_id(pepper: &[u8]) -> String {
    let made = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, pepper), b"coretex: the name of this pepper");
    URL_SAFE_NO_PAD.encode(made.as_ref().get(..12).unwrap_or_default())
}

fn letter(byte: u8) -> char {
    ALPHANUMERIC.get(usize::from(byte) % ALPHANUMERIC.len()).map_or('0', |letter| char::from(*letter))
}

/// The public prefix of a key of our form.
pub fn prefix_of(key: &str) -> Option<&str> {
    let (prefix, secret) = key.strip_prefix(KEY_START)?.split_at_checked(PREFIX_LEN)?;
    let secret = secret.strip_prefix('_')?;
    let is_prefix = prefix.bytes().all(|b| b.is_ascii_alphanumeric());
    let is_secret = secret.len() == SECRET_LEN && URL_SAFE_NO_PAD.decode(secret).is_ok();
    (is_prefix && is_secret).then_some(prefix)
}

pub(super) fn hash(pepper: &hmac::Key, key: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    // A digest of SHA-256 has 32 bytes, so all of it is taken.
    hash.iter_mut().zip(hmac::sign(pepper, key.as_bytes()).as_ref()).for_each(|(to, from)| *to = *from);
    hash
}

// === impl KeyHash ===

impl KeyHash {
    /// The hash of a key of our form.
    pub fn of(pepper: &[u8], key: &str) -> Option<KeyHash> {
        let prefix = prefix_of(key)?.to_owned();
        Some(KeyHash { prefix, hash: hash(&hmac::Key::new(hmac::HMAC_SHA256, pepper), key) })
    }

    /// Reads what [`Display`](std::fmt::Display) writes: `hmac_PREFIX_HASH`.
    pub fn parse(text: &str) -> Option<KeyHash> {
        let (prefix, rest) = text.strip_prefix(HASH_START)?.split_at_checked(PREFIX_LEN)?;
        let bytes = URL_SAFE_NO_PAD.decode(rest.strip_prefix('_')?).ok()?;
        let is_prefix = prefix.bytes().all(|b| b.is_ascii_alphanumeric());
        let hash = <[u8; 32]>::try_from(bytes).ok().filter(|_| is_prefix)?;
        Some(KeyHash { prefix: prefix.to_owned(), hash })
    }

    /// Whether a text was meant to be one.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(HASH_START)
    }

    pub(super) fn made(prefix: &str, hash: [u8; 32]) -> KeyHash {
        KeyHash { prefix: prefix.to_owned(), hash }
    }

    pub(super) fn bytes(&self) -> [u8; 32] {
        self.hash
    }

    /// The public prefix of the key.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl std::fmt::Display for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{HASH_START}{}_{}", self.prefix, URL_SAFE_NO_PAD.encode(self.hash))
    }
}

// === impl ApiKeys ===

impl ApiKeys {
    /// No keys yet: nobody may call.
    pub fn new(pepper: &[u8]) -> ApiKeys {
        ApiKeys {
            pepper: hmac::Key::new(hmac::HMAC_SHA256, pepper),
            by_prefix: FxHashMap::default(),
            free: Vec::new(),
            changed: watch::Sender::new(0),
        }
    }

    /// Adds a key.
    #[must_use]
    pub fn with(mut self, key: &str, identity: Identity) -> ApiKeys {
        let hash = hash(&self.pepper, key);
        match prefix_of(key) {
            Some(prefix) => self.with_hash(&KeyHash { prefix: prefix.to_owned(), hash }, identity),
            None => {
                let credential = identity.name.clone();
                self.free.push(Entry { hash, principal: identity.principal(&credential) });
                self
            }
        }
    }

    /// Adds a key of which only the hash is known.
    #[must_use]
    pub fn with_hash(mut self, key: &KeyHash, identity: Identity) -> ApiKeys {
        let entry = Entry { hash: key.hash, principal: identity.principal(&key.prefix) };
        self.by_prefix.insert(key.prefix.clone(), entry);
        self
    }
}

impl Authority for ApiKeys {
    fn find(&self, key: &str, _now: Time) -> Result<Arc<Principal>, KeyFault> {
        if key.len() > KEY_LEN_MAX {
            return Err(KeyFault::Unknown);
        }
        // The hash is made and one comparison is done whether or not the prefix is known.
        let given = hash(&self.pepper, key);
        let named = prefix_of(key).and_then(|prefix| self.by_prefix.get(prefix));
        let expected = named.map_or([0; 32], |entry| entry.hash);
        let is_equal = bool::from(expected.ct_eq(&given));
        let mut found = named.filter(|_| is_equal);
        for entry in &self.free {
            if bool::from(entry.hash.ct_eq(&given)) {
                found = Some(entry);
            }
        }
        let fault = if named.is_some() { KeyFault::WrongSecret } else { KeyFault::Unknown };
        found.map(|entry| entry.principal.clone()).ok_or(fault)
    }

    fn is_valid(&self, principal: &Principal, _now: Time) -> bool {
        let mut all = self.by_prefix.values().chain(&self.free);
        all.any(|entry| *entry.principal == *principal)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl Identity {
    fn principal(self, credential: &str) -> Arc<Principal> {
        Arc::new(Principal {
            name: self.name.into(),
            kind: PrincipalKind::Key,
            namespaces: self.namespaces.into(),
            roles: self.roles,
            credential: credential.into(),
            expires: self.expires,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str) -> Identity {
        Identity { name: name.into(), namespaces: Vec::new(), roles: Roles::ADMIN, expires: None }
    }

    #[test]
    fn keys_are_made_in_one_form() {
        let key = key_of(std::array::from_fn(|n| u8::try_from(n * 7 % 256).unwrap_or(0)));
        assert_eq!(key.len(), 4 + 8 + 1 + 43, "{key}");
        assert_eq!(prefix_of(&key), Some(&key[4..12]));
        for bad in ["", "ctx_", "ctx_abcdefgh", "ctx_abcdefgh_short", &key[1..], &format!("{key}A"), "ctx_ü"]
        {
            assert_eq!(prefix_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn keys_are_found_whole_only() {
        let (one, two) = (key_of([1; 40]), key_of([2; 40]));
        let keys = ApiKeys::new(&[7; 32]).with(&one, identity("one")).with("free text", identity("free"));
        let name = |key: &str| keys.find(key, Time(0)).ok().map(|p| p.name.to_string());
        assert_eq!(name(&one).as_deref(), Some("one"));
        assert_eq!(name("free text").as_deref(), Some("free"));
        let other_secret = format!("{}{}", &one[..13], &two[13..]);
        let endless = "x".repeat(KEY_LEN_MAX + 1);
        for wrong in ["", "free tex", "free text ", &one[..55], &two, &other_secret, &endless] {
            assert_eq!(name(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_hash_stands_for_its_key_under_one_pepper() {
        let key = key_of([9; 40]);
        let hash = KeyHash::of(b"pepper", &key).expect("of our form");
        let read = KeyHash::parse(&hash.to_string()).expect("what was written");
        assert!(
            read == hash && KeyHash::is_meant(&hash.to_string()) && !hash.to_string().contains(&key[13..])
        );
        assert!(ApiKeys::new(b"pepper").with_hash(&read, identity("a")).find(&key, Time(0)).is_ok());
        assert!(ApiKeys::new(b"another").with_hash(&read, identity("a")).find(&key, Time(0)).is_err());
        for bad in ["", "hmac_", "hmac_abcdefgh_x", "hmac_abc defg_AAAA", &hash.to_string()[1..]] {
            assert!(KeyHash::parse(bad).is_none(), "{bad}");
        }
        assert!(KeyHash::of(b"pepper", "free text").is_none());
    }
}
