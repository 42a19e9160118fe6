//! What is remembered of tokens. Forged ones are in `tests/over_the_wire/access/tokens.rs`.

use super::*;
use coretex_domain::Span;
use coretex_domain::access::Roles;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;
use std::path::Path;

fn key() -> Ed25519KeyPair {
    let made = Ed25519KeyPair::generate_pkcs8(&ring::rand::SystemRandom::new()).expect("a key");
    Ed25519KeyPair::from_pkcs8(made.as_ref()).expect("a key")
}

fn publish(path: &Path, key: &Ed25519KeyPair) {
    let x = URL_SAFE_NO_PAD.encode(key.public_key());
    let jwks = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "a", "x": x}]});
    std::fs::write(path, jwks.to_string()).expect("written");
}

fn issuers(path: &Path) -> Issuers {
    let claims = ClaimRules {
        subject: "sub".into(),
        roles: None,
        role_names: RoleNames::new(),
        default_roles: Roles::ADMIN,
        namespaces: None,
        namespaces_max: Vec::new(),
        leeway: Span(0),
    };
    Issuers::new(vec![Issuer {
        name: "corp".into(),
        issuer: "i".into(),
        audiences: vec!["c".into()],
        algorithms: vec![Algorithm::EdDsa],
        keys: KeySource::File(path.to_owned()),
        claims,
    }])
}

fn token(key: &Ed25519KeyPair) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({"iss": "i", "aud": "c", "sub": "ann", "iat": 0, "exp": 1_000_000});
    let message = format!("{}.{}", part(json!({"alg": "EdDSA", "kid": "a"})), part(claims));
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(key.sign(message.as_bytes())))
}

#[tokio::test]
async fn a_good_token_is_remembered_until_its_key_is_taken_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("jwks");
    let (old, new) = (key(), key());
    publish(&path, &old);
    let (issuers, token) = (issuers(&path), token(&old));
    let first = issuers.admit(&token, Time(0)).await.expect("good");
    let again = issuers.admit(&token, Time(1_000)).await.expect("good");
    assert!(Arc::ptr_eq(&first, &again) && &*first.name == "corp:ann");
    publish(&path, &new);
    // After an hour the keys are read again, behind the back of the next call.
    let hour = 3_600_000;
    let mut tries = 0;
    while issuers.admit(&token, Time(hour)).await.is_ok() && tries < 1_000 {
        tries += 1;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(issuers.admit(&token, Time(hour)).await.is_err(), "the same id, and another key");
    assert_eq!(issuers.proved.lock().expect("no panic").len(), 1, "remembered, and not believed");
}

#[tokio::test]
async fn what_is_too_large_is_not_looked_at() {
    let directory = tempfile::tempdir().expect("a directory");
    let issuers = issuers(&directory.path().join("none"));
    let large = format!("{}.a.b", "x".repeat(TOKEN_LEN_MAX));
    assert_eq!(issuers.admit(&large, Time(0)).await.map(|_| ()), Err(Why("it is too large")));
    assert_eq!(issuers.admit("a.b", Time(0)).await.map(|_| ()), Err(Why("it does not have three parts")));
}
