//! Tokens, good and forged. The keys made or kept here protect nothing but these tests.

use super::server;
use crate::running_server::{Server, reason, spec};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coretex_contract::v1 as pb;
use coretex_domain::Span;
use coretex_domain::access::{Role, Roles};
use coretex_gateway::{Access, Algorithm, ClaimRules, Issuer, KeySource};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
    RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use tonic::{Code, Status};

const RSA_PEM: &str = include_str!("rsa.pem");
const ISSUER: &str = "https://id.example.org";
const PINNED: &str = "https://pinned.example.org";

/// An identity provider, and whoever pretends to be one.
struct Provider {
    ed: Ed25519KeyPair,
    other_ed: Ed25519KeyPair,
    ec: EcdsaKeyPair,
    rsa: RsaKeyPair,
    chance: SystemRandom,
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// An object with some of its members replaced; null takes one away.
fn with(base: Value, changes: Value) -> Value {
    let mut all = base.as_object().cloned().expect("an object");
    for (name, value) in changes.as_object().cloned().expect("an object") {
        match value {
            Value::Null => drop(all.remove(&name)),
            value => drop(all.insert(name, value)),
        }
    }
    all.into()
}

fn claims(changes: Value) -> Value {
    let now = now();
    let base = json!({
        "iss": ISSUER, "aud": "coretex", "sub": "ann", "groups": ["devs"],
        "iat": now - 10, "nbf": now - 10, "exp": now + 600,
    });
    with(base, changes)
}

fn head(changes: Value) -> Value {
    with(json!({"alg": "EdDSA", "typ": "JWT", "kid": "ed"}), changes)
}

impl Provider {
    fn new() -> Provider {
        let chance = SystemRandom::new();
        let ed = || {
            let made = Ed25519KeyPair::generate_pkcs8(&chance).expect("a key");
            Ed25519KeyPair::from_pkcs8(made.as_ref()).expect("a key")
        };
        let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &chance).expect("a key");
        let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &chance);
        let body: String = RSA_PEM.lines().filter(|line| !line.starts_with("---")).collect();
        let rsa = RsaKeyPair::from_pkcs8(&STANDARD.decode(body).expect("base64")).expect("a key");
        Provider { ed: ed(), other_ed: ed(), ec: ec.expect("a key"), rsa, chance }
    }

    fn jwks(&self) -> Value {
        let point = self.ec.public_key().as_ref();
        let rsa = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        let (n, e) = (b64(rsa.n), b64(rsa.e));
        json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": b64(self.ed.public_key())},
            {"kty": "EC", "crv": "P-256", "kid": "ec", "x": b64(&point[1..33]), "y": b64(&point[33..])},
            {"kty": "RSA", "kid": "rsa", "n": n, "e": e},
            {"kty": "RSA", "kid": "ps-only", "n": n, "e": e, "alg": "PS256"},
            {"kty": "RSA", "kid": "for-encryption", "n": n, "e": e, "use": "enc"},
            {"kty": "oct", "kid": "shared", "k": b64([7; 32])},
        ]})
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let rsa = |padding: &'static dyn ring::signature::RsaEncoding| {
            let mut signature = vec![0; self.rsa.public().modulus_len()];
            self.rsa.sign(padding, &self.chance, message, &mut signature).expect("signed");
            signature
        };
        match algorithm {
            "EdDSA" => self.ed.sign(message).as_ref().to_vec(),
            "other EdDSA" => self.other_ed.sign(message).as_ref().to_vec(),
            "ES256" => self.ec.sign(&self.chance, message).expect("signed").as_ref().to_vec(),
            "RS256" => rsa(&RSA_PKCS1_SHA256),
            "PS256" => rsa(&RSA_PSS_SHA256),
            _ => Vec::new(),
        }
    }

    /// A token with this header and these claims, signed in this way.
    fn token(&self, head: &Value, claims: &Value, signed: &str) -> String {
        let message = format!("{}.{}", b64(head.to_string()), b64(claims.to_string()));
        format!("{message}.{}", b64(self.sign(signed, message.as_bytes())))
    }

    /// The same, made a message code of by a secret.
    fn hmac(&self, head: &Value, secret: &[u8]) -> String {
        let message = format!("{}.{}", b64(head.to_string()), b64(claims(json!({})).to_string()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
        format!("{message}.{}", b64(ring::hmac::sign(&key, message.as_bytes())))
    }

    fn good(&self) -> String {
        self.token(&head(json!({})), &claims(json!({})), "EdDSA")
    }

    fn issuers(&self, jwks: &std::path::Path) -> Vec<Issuer> {
        std::fs::write(jwks, self.jwks().to_string()).expect("written");
        let rules = ClaimRules {
            subject: "sub".into(),
            roles: Some("groups".into()),
            role_names: [("devs".to_owned(), Roles::of(&[Role::Submitter]))].into(),
            default_roles: Roles::NONE,
            namespaces: None,
            namespaces_max: Vec::new(),
            leeway: Span(30_000),
        };
        let issuer = Issuer {
            name: "corp".into(),
            issuer: ISSUER.into(),
            audiences: vec!["coretex".into()],
            algorithms: Algorithm::ALL.to_vec(),
            keys: KeySource::File(jwks.to_owned()),
            claims: ClaimRules { ..rules.clone() },
        };
        let pinned = Issuer {
            name: "pinned".into(),
            issuer: PINNED.into(),
            algorithms: vec![Algorithm::Rs256],
            claims: ClaimRules { namespaces: Some("tenants".into()), ..rules },
            ..issuer.clone()
        };
        vec![issuer, pinned]
    }

    /// Tokens nobody may come in with, each with what is wrong with it.
    fn forged(&self) -> Vec<(&'static str, String)> {
        [self.of_claims(), self.of_headers(), self.of_signatures(), self.of_shapes()].concat()
    }

    fn of_claims(&self) -> Vec<(&'static str, String)> {
        let now = now();
        let changed = [
            ("no issuer", json!({"iss": null})),
            ("another issuer", json!({"iss": "https://evil.example"})),
            ("an issuer with a slash more", json!({"iss": format!("{ISSUER}/")})),
            ("two issuers", json!({"iss": [ISSUER, "https://evil.example"]})),
            ("no audience", json!({"aud": null})),
            ("another audience", json!({"aud": "billing"})),
            ("other audiences", json!({"aud": ["billing", "Coretex"]})),
            ("an empty list of audiences", json!({"aud": []})),
            ("an audience that is a number", json!({"aud": 1})),
            ("no end", json!({"exp": null})),
            ("an end in the past", json!({"exp": now - 60})),
            ("an end that is a text", json!({"exp": (now + 600).to_string()})),
            ("an end below zero", json!({"exp": -1})),
            ("an end beyond all time", json!({"exp": 1e300})),
            ("a start in the future", json!({"nbf": now + 90})),
            ("a start that is a text", json!({"nbf": "yesterday"})),
            ("made in the future", json!({"iat": now + 90})),
            ("neither start nor making", json!({"iat": null, "nbf": null})),
            ("no subject", json!({"sub": null})),
            ("an empty subject", json!({"sub": ""})),
            ("a subject with a line break", json!({"sub": "ann\nadmin"})),
            ("a subject that is a number", json!({"sub": 1})),
            ("an endless subject", json!({"sub": "a".repeat(200)})),
            ("roles that are no names", json!({"groups": [1]})),
        ];
        let forge = |(what, claim): (&'static str, Value)| {
            (what, self.token(&head(json!({})), &claims(claim), "EdDSA"))
        };
        let mut all: Vec<_> = changed.into_iter().map(forge).collect();
        let rsa = head(json!({"alg": "RS256", "kid": "rsa"}));
        all.push(("no namespaces", self.token(&rsa, &claims(json!({"iss": PINNED})), "RS256")));
        let tenants = claims(json!({"iss": PINNED, "tenants": ["*"]}));
        all.push(("all namespaces", self.token(&rsa, &tenants, "RS256")));
        let ed = claims(json!({"iss": PINNED, "tenants": "a"}));
        all.push(("an algorithm its issuer does not use", self.token(&head(json!({})), &ed, "EdDSA")));
        all
    }

    fn of_headers(&self) -> Vec<(&'static str, String)> {
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": b64(self.other_ed.public_key())});
        let changed = [
            ("alg none", json!({"alg": "none"}), ""),
            ("alg None", json!({"alg": "None"}), ""),
            ("alg nOnE and a signature", json!({"alg": "nOnE"}), "EdDSA"),
            ("no alg", json!({"alg": null}), "EdDSA"),
            ("alg in small letters", json!({"alg": "eddsa"}), "EdDSA"),
            ("alg that is a list", json!({"alg": ["EdDSA"]}), "EdDSA"),
            ("an alg we do not take", json!({"alg": "RS512", "kid": "rsa"}), "RS256"),
            ("another alg than signed", json!({"alg": "ES256", "kid": "ec"}), "EdDSA"),
            ("a key of another kind", json!({"kid": "rsa"}), "EdDSA"),
            ("RS256 with a key for PS256", json!({"alg": "RS256", "kid": "ps-only"}), "RS256"),
            ("PS256 signed as RS256", json!({"alg": "PS256", "kid": "rsa"}), "RS256"),
            ("a key for encryption", json!({"alg": "RS256", "kid": "for-encryption"}), "RS256"),
            ("an unknown key", json!({"kid": "nobody"}), "EdDSA"),
            ("no key", json!({"kid": null}), "EdDSA"),
            ("a key id that is a path", json!({"kid": "../../../../dev/null"}), "EdDSA"),
            ("crit", json!({"crit": ["exp"]}), "EdDSA"),
            ("an unknown crit", json!({"crit": ["urn:x"], "urn:x": true}), "EdDSA"),
            ("an empty crit", json!({"crit": []}), "EdDSA"),
            ("a body that is not encoded", json!({"b64": false, "crit": ["b64"]}), "EdDSA"),
            ("a packed body", json!({"zip": "DEF"}), "EdDSA"),
            ("another type", json!({"typ": "dpop+jwt"}), "EdDSA"),
            ("its own key", json!({"kid": null, "jwk": jwk}), "other EdDSA"),
            ("its own key under a known id", json!({"jwk": jwk}), "other EdDSA"),
            ("an address of keys", json!({"jku": "https://evil.example/jwks"}), "other EdDSA"),
        ];
        let forge = |(what, header, signed): (&'static str, Value, &str)| {
            (what, self.token(&head(header), &claims(json!({})), signed))
        };
        changed.into_iter().map(forge).collect()
    }

    fn of_signatures(&self) -> Vec<(&'static str, String)> {
        let good = self.good();
        let (message, signature) = good.rsplit_once('.').expect("three parts");
        let (header, _) = message.split_once('.').expect("three parts");
        let admin = b64(claims(json!({"sub": "root"})).to_string());
        let RsaPublicKeyComponents { n, .. } = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        let secret = head(json!({"alg": "HS256", "kid": "shared"}));
        let confused = head(json!({"alg": "HS256", "kid": "rsa"}));
        vec![
            ("no signature", format!("{message}.")),
            ("a signature of nulls", format!("{message}.{}", b64([0; 64]))),
            ("half a signature", format!("{message}.{}", &signature[..42])),
            ("another body", format!("{header}.{admin}.{signature}")),
            ("signed by somebody else", self.token(&head(json!({})), &claims(json!({})), "other EdDSA")),
            ("an ES256 signature of nulls", {
                let es = b64(head(json!({"alg": "ES256", "kid": "ec"})).to_string());
                format!("{es}.{}.{}", b64(claims(json!({})).to_string()), b64([0; 64]))
            }),
            ("a shared secret of the key set", self.hmac(&secret, &[7; 32])),
            ("a public key as a secret", self.hmac(&confused, &n)),
            ("the file of keys as a secret", self.hmac(&confused, self.jwks().to_string().as_bytes())),
        ]
    }

    fn of_shapes(&self) -> Vec<(&'static str, String)> {
        let good = self.good();
        let (message, signature) = good.rsplit_once('.').expect("three parts");
        let list = format!("{}.{}.{signature}", b64("[]"), b64("[]"));
        let jws = json!({"payload": "e30", "signatures": [{"protected": "e30", "signature": signature}, {}]});
        vec![
            ("several signatures", jws.to_string()),
            ("nothing between dots", "..".into()),
            ("a part more", format!("{good}.{signature}")),
            ("five parts", "a.b.c.d.e".into()),
            ("parts that are lists", list),
            ("parts that are no base64", format!("{message}.{signature}=")),
            ("a header with padding", format!("e30=.e30.{signature}")),
            ("a space at the end", format!("{good} ")),
            ("too large by far", self.token(&head(json!({})), &claims(json!({"x": "y".repeat(9_000)})), "")),
        ]
    }
}

async fn submit(server: &Server, token: &str) -> Result<pb::Job, Status> {
    let mut request =
        tonic::Request::new(pb::SubmitJobRequest { spec: Some(spec("job.t")), ..Default::default() });
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
    request.metadata_mut().insert("coretex-namespace", "a".parse().expect("a header"));
    server.jobs().submit_job(request).await.map(|r| r.into_inner().job.expect("a job"))
}

async fn start(provider: &Provider, directory: &tempfile::TempDir) -> Server {
    let mut access = Access::closed().issuers(provider.issuers(&directory.path().join("jwks.json")));
    access.failed_logins_max = 0;
    server(access).await
}

#[tokio::test]
async fn good_tokens_of_every_algorithm_come_in() {
    let (provider, directory) = (Provider::new(), tempfile::tempdir().expect("a directory"));
    let server = start(&provider, &directory).await;
    for (algorithm, kid) in
        [("EdDSA", "ed"), ("ES256", "ec"), ("RS256", "rsa"), ("PS256", "rsa"), ("PS256", "ps-only")]
    {
        let token =
            provider.token(&head(json!({"alg": algorithm, "kid": kid})), &claims(json!({})), algorithm);
        let job = submit(&server, &token).await.unwrap_or_else(|status| panic!("{algorithm}: {status:?}"));
        let full = pb::GetJobRequest { job_id: job.job_id, ..Default::default() };
        let mut request = tonic::Request::new(full);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a header"));
        request.metadata_mut().insert("coretex-namespace", "a".parse().expect("a header"));
        let found = server.jobs().get_job(request).await.expect("there").into_inner().job.expect("a job");
        assert_eq!(found.submitter, "corp:ann");
    }
    let several = claims(json!({"aud": ["billing", "coretex"], "nbf": null, "groups": "x devs"}));
    submit(&server, &provider.token(&head(json!({"typ": "at+jwt"})), &several, "EdDSA")).await.expect("good");
    let nobody = claims(json!({"groups": ["others"]}));
    let refused =
        submit(&server, &provider.token(&head(json!({})), &nobody, "EdDSA")).await.expect_err("no role");
    assert_eq!(reason(&refused), "PERMISSION_DENIED");
    let rsa = head(json!({"alg": "RS256", "kid": "rsa"}));
    let tenant = |names: Value| claims(json!({"iss": PINNED, "tenants": names}));
    submit(&server, &provider.token(&rsa, &tenant(json!(["b", "a"])), "RS256")).await.expect("its namespace");
    let refused =
        submit(&server, &provider.token(&rsa, &tenant(json!(["b"])), "RS256")).await.expect_err("not a");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
    server.stop().await;
}

#[tokio::test]
async fn a_token_that_was_good_ends_with_its_time() {
    let (provider, directory) = (Provider::new(), tempfile::tempdir().expect("a directory"));
    let mut issuers = provider.issuers(&directory.path().join("jwks.json"));
    issuers[0].claims.leeway = Span(0);
    let server = server(Access::closed().issuers(issuers)).await;
    let token = provider.token(&head(json!({})), &claims(json!({"exp": now() + 3})), "EdDSA");
    for _ in 0..3 {
        submit(&server, &token).await.expect("good, and remembered");
    }
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let status = submit(&server, &token).await.expect_err("over");
    assert_eq!(reason(&status), "CREDENTIAL_INVALID");
    server.stop().await;
}

#[tokio::test]
async fn forged_tokens_hear_one_message() {
    let (provider, directory) = (Provider::new(), tempfile::tempdir().expect("a directory"));
    let server = start(&provider, &directory).await;
    submit(&server, &provider.good()).await.expect("the way is open");
    let forged = provider.forged();
    assert!(forged.len() >= 40, "{}", forged.len());
    for (what, token) in &forged {
        let status = submit(&server, token).await.expect_err(what);
        let seen = (status.code(), status.message(), reason(&status));
        let expected =
            (Code::Unauthenticated, "the credential is not valid", "CREDENTIAL_INVALID".to_owned());
        assert_eq!(seen, expected, "{what}");
    }
    submit(&server, &provider.good()).await.expect("the way is open still");
    server.stop().await;
}
