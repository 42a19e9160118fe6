//! The public keys of an issuer: read once, kept, and read again when a token names one that is not among them.

use super::Algorithm;
use super::fetch::{self, Fetch};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coretex_domain::{Span, Time};
use jsonwebtoken::DecodingKey;
use rustc_hash::FxHashMap;
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// Keys one issuer may publish.
const KEYS_MAX: usize = 100;
/// A made-up key id must not make us call the issuer again and again.
const AGAIN_AFTER: Span = Span(60_000);
/// After this the keys are read again, so that one the issuer took back is no longer believed.
const FRESH_FOR: Span = Span(3_600_000);
/// Keys that could not be read again for so long are not believed any more.
const KEPT_FOR: Span = Span(24 * 3_600_000);

/// Where the public keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file with a JWKS.
    File(PathBuf),
    /// An address that begins with `https://`. `ca_pem`: the authorities of its certificate, instead of the system's.
    Url { url: String, ca_pem: Option<Vec<u8>> },
}

/// A public key, for the algorithms it may be used with.
pub(super) struct PublicKey {
    key: DecodingKey,
    algorithms: Vec<Algorithm>,
}

pub(super) struct KeySet(Arc<Shared>);

struct Shared {
    source: Box<dyn Fetch>,
    known: RwLock<Known>,
    /// When the source was asked last. Held while it is being asked.
    asked: Arc<Mutex<Option<Time>>>,
}

#[derive(Default)]
struct Known {
    by_kid: FxHashMap<String, Arc<PublicKey>>,
    since: Option<Time>,
}

// === impl KeySource ===

impl KeySource {
    /// What is wrong with the keys in a text, if anything.
    pub fn check(jwks: &[u8]) -> Result<(), String> {
        parse(jwks).map(|_| ())
    }

    /// What is wrong with an address, if anything.
    pub fn check_url(url: &str) -> Result<(), String> {
        fetch::Place::parse(url).map(|_| ())
    }
}

// === impl PublicKey ===

impl PublicKey {
    pub(super) fn for_algorithm(&self, algorithm: Algorithm) -> Option<&DecodingKey> {
        self.algorithms.contains(&algorithm).then_some(&self.key)
    }
}

// === impl KeySet ===

impl KeySet {
    pub(super) fn new(source: KeySource) -> KeySet {
        KeySet::of(fetch::of(source))
    }

    pub(super) fn of(source: Box<dyn Fetch>) -> KeySet {
        KeySet(Arc::new(Shared { source, known: RwLock::default(), asked: Arc::default() }))
    }

    /// Whether this is still the key with this id.
    pub(super) fn has(&self, kid: &str, key: &Arc<PublicKey>, now: Time) -> bool {
        let Some((known, is_fresh)) = self.0.look_up(kid, now) else { return false };
        if !is_fresh {
            self.0.clone().ask_meanwhile(now);
        }
        Arc::ptr_eq(&known, key)
    }

    /// The key with this id.
    pub(super) async fn find(&self, kid: &str, now: Time) -> Option<Arc<PublicKey>> {
        if let Some((key, is_fresh)) = self.0.look_up(kid, now) {
            if !is_fresh {
                self.0.clone().ask_meanwhile(now);
            }
            return Some(key);
        }
        let asked = self.0.asked.clone().lock_owned().await;
        self.0.ask(asked, now).await;
        self.0.look_up(kid, now).map(|(key, _)| key)
    }
}

impl Shared {
    fn look_up(&self, kid: &str, now: Time) -> Option<(Arc<PublicKey>, bool)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let age = Span(now.0.saturating_sub(known.since?.0));
        let key = known.by_kid.get(kid).filter(|_| age < KEPT_FOR)?;
        Some((key.clone(), age < FRESH_FOR))
    }

    /// Reads the keys while those known go on being used: nobody waits for the issuer.
    fn ask_meanwhile(self: Arc<Self>, now: Time) {
        if let Ok(asked) = self.asked.clone().try_lock_owned()
            && is_due(*asked, now)
        {
            tokio::spawn(async move { self.ask(asked, now).await });
        }
    }

    /// Reads the keys, unless they were read a moment ago.
    async fn ask(&self, mut asked: OwnedMutexGuard<Option<Time>>, now: Time) {
        if !is_due(*asked, now) {
            return;
        }
        *asked = Some(now);
        let read = self.source.fetch().await.and_then(|bytes| parse(&bytes));
        match read {
            Ok(by_kid) => {
                *self.known.write().unwrap_or_else(PoisonError::into_inner) =
                    Known { by_kid, since: Some(now) };
            }
            Err(why) => {
                tracing::warn!(%why, "the public keys of an issuer cannot be read; those known are kept")
            }
        }
    }
}

fn is_due(asked: Option<Time>, now: Time) -> bool {
    asked.is_none_or(|last| now.0.saturating_sub(last.0) >= AGAIN_AFTER.0)
}

/// The usable keys of a JWKS. Those for other purposes are left out; a set that contradicts itself is refused.
fn parse(jwks: &[u8]) -> Result<FxHashMap<String, Arc<PublicKey>>, String> {
    let set: Map<String, Value> =
        serde_json::from_slice(jwks).map_err(|error| format!("it is no JWKS: {error}"))?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or("it is no JWKS: there is no list `keys`")?;
    if keys.len() > KEYS_MAX {
        return Err(format!("it has {} keys, more than {KEYS_MAX}", keys.len()));
    }
    let mut by_kid = FxHashMap::default();
    for key in keys.iter().filter_map(Value::as_object) {
        let Some((kid, key)) = public_key(key) else { continue };
        if by_kid.insert(kid.to_owned(), Arc::new(key)).is_some() {
            return Err(format!("two of its keys have the id {}", coretex_domain::names::shown(kid)));
        }
    }
    if by_kid.is_empty() {
        return Err("no key in it has an id and is of use: RSA from 2048 bits, P-256 or Ed25519".into());
    }
    Ok(by_kid)
}

fn public_key(key: &Map<String, Value>) -> Option<(&str, PublicKey)> {
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let is_for_signatures = text("use").is_none_or(|purpose| purpose == "sig")
        && key.get("key_ops").and_then(Value::as_array).is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    let kid = text("kid").filter(|kid| !kid.is_empty() && is_for_signatures)?;
    let bytes = |name: &str| text(name).and_then(|value| URL_SAFE_NO_PAD.decode(value).ok());
    let is_32 = |name: &str| bytes(name).is_some_and(|bytes| bytes.len() == 32);
    let (made, fitting) = match (text("kty")?, text("crv")) {
        ("RSA", None) => {
            let n = bytes("n").filter(|n| (256..=1_024).contains(&n.len()))?;
            let made = DecodingKey::from_rsa_raw_components(&n, &bytes("e").filter(|e| e.len() <= 8)?);
            (made, &[Algorithm::Rs256, Algorithm::Ps256][..])
        }
        ("EC", Some("P-256")) if is_32("x") && is_32("y") => {
            (DecodingKey::from_ec_components(text("x")?, text("y")?).ok()?, &[Algorithm::Es256][..])
        }
        ("OKP", Some("Ed25519")) if is_32("x") => {
            (DecodingKey::from_ed_components(text("x")?).ok()?, &[Algorithm::EdDsa][..])
        }
        _ => return None,
    };
    let named = text("alg");
    let algorithms = fitting.iter().copied().filter(|a| named.is_none_or(|name| name == a.name())).collect();
    Some((kid, PublicKey { key: made, algorithms }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::BoxFuture;
    use serde_json::json;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Scripted(Arc<AtomicUsize>, fn(usize) -> Result<Vec<u8>, String>);

    impl Fetch for Scripted {
        fn fetch(&self) -> BoxFuture<'_, Result<Vec<u8>, String>> {
            let answer = (self.1)(self.0.fetch_add(1, Ordering::AcqRel));
            Box::pin(async move { answer })
        }
    }

    fn jwks(kids: &[&str]) -> Vec<u8> {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        let keys: Vec<Value> =
            kids.iter().map(|kid| json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x})).collect();
        json!({ "keys": keys }).to_string().into_bytes()
    }

    #[tokio::test]
    async fn unknown_keys_are_asked_for_once_a_minute() {
        let asked = Arc::new(AtomicUsize::new(0));
        let answers = |n| Ok(if n == 0 { jwks(&["old"]) } else { jwks(&["new"]) });
        let keys = KeySet::of(Box::new(Scripted(asked.clone(), answers)));
        assert!(keys.find("old", Time(0)).await.is_some());
        for at in 0..60 {
            assert!(keys.find("new", Time(at * 1_000)).await.is_none());
        }
        assert_eq!(asked.load(Ordering::Acquire), 1);
        assert!(keys.find("new", Time(60_000)).await.is_some());
        assert!(keys.find("old", Time(60_000)).await.is_none(), "taken back");
        assert_eq!(asked.load(Ordering::Acquire), 2);
    }

    #[tokio::test]
    async fn keys_outlive_a_source_that_is_away_for_a_day() {
        let asked = Arc::new(AtomicUsize::new(0));
        let answers = |n| if n == 0 { Ok(jwks(&["a"])) } else { Err("away".into()) };
        let keys = KeySet::of(Box::new(Scripted(asked.clone(), answers)));
        for hours in [0, 2, 23] {
            assert!(keys.find("a", Time(hours * 3_600_000)).await.is_some(), "{hours} h");
            tokio::task::yield_now().await;
        }
        assert!(asked.load(Ordering::Acquire) >= 2, "asked again in the background");
        assert!(keys.find("a", Time(25 * 3_600_000)).await.is_none());
    }

    #[test]
    fn keys_for_other_purposes_are_left_out() {
        let n = URL_SAFE_NO_PAD.encode([0xff; 256]);
        let (x, small) = (URL_SAFE_NO_PAD.encode([7; 32]), URL_SAFE_NO_PAD.encode([0xff; 128]));
        let set = json!({"keys": [
            {"kty": "RSA", "kid": "rsa", "n": n, "e": "AQAB"},
            {"kty": "RSA", "kid": "pinned", "n": n, "e": "AQAB", "alg": "PS256"},
            {"kty": "RSA", "kid": "small", "n": small, "e": "AQAB"},
            {"kty": "RSA", "kid": "enc", "n": n, "e": "AQAB", "use": "enc"},
            {"kty": "oct", "kid": "secret", "k": x},
            {"kty": "EC", "crv": "P-384", "kid": "p384", "x": x, "y": x},
            {"kty": "EC", "crv": "P-256", "kid": "short", "x": "AQ", "y": x},
            {"kty": "OKP", "crv": "Ed25519", "x": x},
        ]});
        let keys = parse(set.to_string().as_bytes()).expect("two are of use");
        let mut kids: Vec<&String> = keys.keys().collect();
        kids.sort();
        assert_eq!(kids, ["pinned", "rsa"]);
        assert!(keys["pinned"].for_algorithm(Algorithm::Rs256).is_none());
        assert!(keys["rsa"].for_algorithm(Algorithm::Es256).is_none());
        for bad in [&b""[..], b"[]", b"{}", b"{\"keys\":[]}", &jwks(&["a", "a"]), &jwks(&["a"; 101])] {
            assert!(parse(bad).is_err());
        }
    }
}
