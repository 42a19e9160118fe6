//! Section `auth`: keys, issuers and certificates as they are written.

use super::*;
use coretex_domain::access::{Role, Roles};
use coretex_gateway::KeyHash;

const OURS: &str = "ctx_aB3dE5gH_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

fn jwks(dir: &tempfile::TempDir) -> String {
    let path = dir.path().join("jwks.json");
    let key = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}]}"#;
    std::fs::write(&path, key).expect("written");
    path.display().to_string()
}

#[test]
fn keys_are_lines_or_maps_with_roles_namespaces_and_expiry() {
    let dir = tempfile::tempdir().expect("a directory");
    let pepper = dir.path().join("pepper");
    std::fs::write(&pepper, "0123456789abcdef0123456789abcdef\n").expect("written");
    std::fs::set_permissions(&pepper, std::fs::Permissions::from_mode(0o600)).expect("mode");
    let hash = KeyHash::of(b"0123456789abcdef0123456789abcdef", OURS).expect("of our form");
    let file = format!(
        "auth:\n  pepper_file: {}\n  keys:\n    - \"a:short:x+y:viewer+worker:2030-01-31T00:00:00Z\"\n    - {{name: b, hash: {hash}, roles: [operator], namespaces: [z], expires: \"2031-01-01T00:00:00Z\"}}\n    - \"c:in dev without a role\"\n",
        pepper.display()
    );
    let settings = dev(Some(&file), &[], &[]).expect("good in dev");
    let [a, b, c] = &settings.auth.keys[..] else { panic!("{:?}", settings.auth) };
    assert_eq!(a.roles, Roles::of(&[Role::Viewer, Role::Worker]));
    assert_eq!((a.namespaces.len(), a.expires), (2, Some(coretex_domain::Time(1_896_048_000_000))));
    assert!(matches!(&b.secret, Secret::Hash(kept) if *kept == hash) && b.namespaces == ["z"]);
    assert_eq!(c.roles, Roles::ADMIN);
    assert_eq!(settings.auth.pepper.as_deref(), Some(&b"0123456789abcdef0123456789abcdef"[..]));
    let shown = format!("{settings:?}");
    assert!(!shown.contains("short") && !shown.contains(&hash.to_string()), "{shown}");
}

#[test]
fn what_is_wrong_with_a_key_is_said_without_the_key() {
    for (line, why) in [
        ("a:SECRET1::viwer", "there is no role `viwer`; did you mean `viewer`?"),
        ("a:SECRET1:Not A Name", "a namespace of `a` must match"),
        ("a:SECRET1::viewer:tomorrow", "\"tomorrow\" is no time of RFC 3339"),
        ("a b:SECRET1::viewer", "the name \"a b\" does not match"),
        ("a:hmac_SECRET1::viewer", "the hash of `a` is no hash"),
        ("SECRET1", "it is not NAME:KEY"),
        (r#"{"name": "a"}"#, "either `key` or `hash` is wanted"),
        (
            r#"{"name": "a", "key": "SECRET1", "role": "viewer"}"#,
            "there is no field \"role\"; did you mean `roles`?",
        ),
        (r#"{"name": "a", "hash": "SECRET1"}"#, "`hash` is not what"),
        (r#"{"name": "a", "key": "SECRET1", "namespaces": []}"#, "`namespaces` is empty"),
    ] {
        let lines = refused(Profile::Dev, None, &[("CORETEX_API_KEYS_FILE", &keys_file(line))], &[]);
        assert!(lines.iter().any(|said| said.contains(why)), "{line}: {lines:#?}");
        assert!(lines.iter().all(|said| !said.contains("SECRET1")), "{lines:#?}");
    }
}

/// A file with one line, that stays for as long as the test process.
fn keys_file(line: &str) -> String {
    let path = tempfile::NamedTempFile::new().expect("a file").into_temp_path().keep().expect("kept");
    std::fs::write(&path, line).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("mode");
    path.display().to_string()
}

#[test]
fn issuers_are_read_from_the_file_and_from_a_variable() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = format!(
        "auth:\n  jwt:\n    - name: corp\n      issuer: https://id.example.org\n      audiences: coretex\n      algorithms: [RS256, EdDSA]\n      jwks_file: {}\n      roles_claim: groups\n      roles: {{devs: submitter, ops: [operator, auditor]}}\n      leeway: 1m\n",
        jwks(&dir)
    );
    let settings = dev(Some(&file), &[], &[]).expect("good");
    let issuer = &settings.auth.issuers[0];
    assert_eq!((issuer.name.as_str(), issuer.audiences.len(), issuer.algorithms.len()), ("corp", 1, 2));
    assert_eq!(issuer.claims.role_names["ops"], Roles::of(&[Role::Operator, Role::Auditor]));
    assert_eq!(issuer.claims.leeway, coretex_domain::Span(60_000));
    let json = r#"[{"name":"x","issuer":"https://x","audiences":["c"],"algorithms":["ES256"],"jwks_url":"https://x/jwks","default_roles":["viewer"]}]"#;
    let settings = dev(None, &[("CORETEX_AUTH_JWT", json)], &[]).expect("good");
    assert_eq!(settings.auth.issuers[0].claims.default_roles, Roles::of(&[Role::Viewer]));
    assert!(!settings.auth.is_open());
}

#[test]
fn issuers_that_would_believe_too_much_are_refused() {
    let good = [
        ("name", r#""corp""#),
        ("issuer", r#""https://id.example.org""#),
        ("audiences", r#"["coretex"]"#),
        ("algorithms", r#"["RS256"]"#),
        ("jwks_url", r#""https://id.example.org/jwks""#),
        ("default_roles", r#"["viewer"]"#),
    ];
    let with = |name: &str, value: Option<&str>| {
        let mut fields: Vec<(&str, &str)> =
            good.iter().filter(|(known, _)| *known != name).copied().collect();
        fields.extend(value.map(|value| (name, value)));
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("[{{{}}}]", fields.join(","))
    };
    dev(None, &[("CORETEX_AUTH_JWT", &with("leeway", None))], &[]).expect("good");
    for (name, value, why) in [
        ("name", None, "`name` is missing"),
        ("name", Some(r#""a:b""#), "does not match"),
        ("issuer", None, "`issuer` is missing"),
        ("audiences", None, "`audiences` must name at least one audience"),
        ("audiences", Some("[]"), "`audiences` must name at least one audience"),
        ("algorithms", None, "`algorithms` must name at least one of"),
        ("algorithms", Some(r#"["none"]"#), "\"none\" is not one of RS256, PS256, ES256, EdDSA"),
        ("algorithms", Some(r#"["RS256", "HS256"]"#), "\"HS256\" is not one of"),
        ("jwks_url", None, "either `jwks_file` or `jwks_url` is wanted"),
        ("jwks_url", Some(r#""http://id.example.org/jwks""#), "does not begin with `https://`"),
        ("jwks_file", Some(r#""/nowhere""#), "either `jwks_file` or `jwks_url` is wanted"),
        ("jwks_ca", Some(r#""/nowhere""#), "`jwks_ca` /nowhere: cannot be read"),
        ("leeway", Some(r#""2m""#), "`leeway` is more than 1m"),
        ("default_roles", None, "no token would have a role"),
        ("default_roles", Some(r#"["root"]"#), "there is no role `root`"),
        ("roles_claim", Some(r#""groups""#), "`roles_claim` and `roles` go together"),
        ("audience", Some(r#""x""#), "did you mean `audiences`?"),
        ("namespaces", Some("[]"), "`namespaces` is empty"),
    ] {
        let lines = refused(Profile::Dev, None, &[("CORETEX_AUTH_JWT", &with(name, value))], &[]);
        assert!(lines.iter().any(|line| line.contains(why)), "{name} {value:?}: {lines:#?}");
    }
    let lines = refused(Profile::Dev, None, &[("CORETEX_AUTH_JWT", "[{")], &[]);
    assert!(lines[0].contains("it is no list of JSON"), "{lines:?}");
}

#[test]
fn certificates_need_an_authority_and_their_own_names() {
    let rule = |uri: &str, name: &str| format!(r#"[{{"uri":"{uri}","name":"{name}","roles":["operator"]}}]"#);
    let said = |rules: &str, key: &str| {
        let env = [("CORETEX_AUTH_CERTIFICATES", rules), ("CORETEX_API_KEYS", key)];
        refused(Profile::Dev, None, &env, &[("tls.client_ca", "/nowhere")]).join("\n")
    };
    let lines =
        refused(Profile::Dev, None, &[("CORETEX_AUTH_CERTIFICATES", &rule("spiffe://a/b", "b"))], &[]);
    assert!(lines[0].contains("there is no tls.client_ca"), "{lines:?}");
    assert!(
        said(&rule("spiffe://a/b", "ann"), "ann:k")
            .contains("`ann` is the name of a key and of a certificate")
    );
    for bad in ["a/b", "spiffe://", "spiffe://a/*/b", "spiffe://a/b*", "*"] {
        assert!(said(&rule(bad, "b"), "ann:k").contains("is no URI"), "{bad}");
    }
    assert!(
        said(r#"[{"uri":"spiffe://a/b","name":"b"}]"#, "ann:k")
            .contains("`roles` must name at least one role")
    );
}
