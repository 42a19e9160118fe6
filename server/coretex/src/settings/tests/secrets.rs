//! Secrets from files and variables, and references that lead nowhere.

use super::*;
use coretex_secrets::Secret as Value;

const CANARY: &str = "canary-4f1b09-value";

/// A file of secrets with a mode, and a server that names it.
fn with_file(profile: Profile, text: &str, mode: u32) -> (tempfile::TempDir, Result<Settings, Refusals>) {
    let (dir, mut sources) = sources(None, &[], &[("store.url", "memory")]);
    let path = dir.path().join("secrets.yaml");
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
    sources.flags.push(("secrets.file".into(), path.display().to_string()));
    let settings = load(profile, &sources);
    (dir, settings)
}

fn why(settings: Result<Settings, Refusals>) -> String {
    settings.map(drop).expect_err("refused").lines(true)
}

#[test]
fn a_file_gives_each_namespace_its_own() {
    let text = format!("'*':\n  SHARED: all\nteam-a:\n  DB: \"{CANARY}\"\n");
    let (_dir, settings) = with_file(Profile::Dev, &text, 0o600);
    let settings = settings.expect("settings");
    let values = settings.secrets.vault.values();
    let get = |namespace, name| values.get(namespace, name).map(Value::expose);
    assert_eq!(get("team-a", "DB"), Some(CANARY));
    assert_eq!((get("team-b", "DB"), get("team-b", "SHARED")), (None, Some("all")));
    assert!(!format!("{settings:?}").contains(CANARY));
}

#[test]
fn a_file_that_cannot_be_used_is_refused_without_its_values() {
    let long = "x".repeat(64 * 1024 + 1);
    for (text, wanted) in [
        (format!("default:\n  DB: [{CANARY}]\n"), "is not a map of namespaces"),
        (format!("{CANARY}\n"), "is not a map of namespaces"),
        (format!("default:\n  A: 1\n  DB: \"{CANARY}"), "is not a map of namespaces"),
        (format!("default:\n  'a b': {CANARY}\n"), "must match [A-Za-z0-9._-]{1,64}"),
        (format!("Team:\n  A: {CANARY}\n"), "a namespace must match"),
        (format!("default:\n  A: '{long}'\n"), "default/A has a value of 65537 bytes, more than 65536"),
        ("default:\n  A: ''\n".into(), "default/A has an empty value"),
        ("default:\n  A: secret://B\n  B: x\n".into(), "default/A has a value that is itself a reference"),
    ] {
        let (_dir, settings) = with_file(Profile::Dev, &text, 0o600);
        let why = why(settings);
        assert!(why.contains(wanted), "{why}");
        assert!(!why.contains(CANARY) && !why.contains("xxxx"), "{why}");
    }
    for profile in [Profile::Dev, Profile::Production] {
        let (_dir, settings) = with_file(profile, "default:\n  A: b\n", 0o640);
        let why = why(settings);
        assert!(why.contains("R3 command line:secrets.file: ") && why.contains("chmod 600"), "{why}");
    }
    assert!(
        refused(Profile::Dev, None, &[], &[("secrets.file", "/nowhere/at/all")])[0].contains("cannot read")
    );
}

#[test]
fn variables_are_secrets_only_behind_their_prefix() {
    let env = [
        ("CORETEX_SECRETS_ENV_PREFIX", "CORETEX_SECRET_"),
        ("CORETEX_SECRET_DB", "all"),
        ("CORETEX_SECRET_TEAM_A__DB", "own"),
    ];
    let settings = dev(None, &env, &[]).expect("settings");
    let values = settings.secrets.vault.values();
    let get = |namespace| values.get(namespace, "DB").map(Value::expose);
    assert_eq!((get("default"), get("team-a")), (Some("all"), Some("own")));
    let typo = refused(Profile::Dev, None, &env[1..2], &[]);
    assert!(typo[0].starts_with("R15 CORETEX_SECRET_DB: no setting has this variable"), "{typo:?}");
    for wrong in ["CORETEX_", "CORETEX_API", "CORETEX_SECRETS_", "abcd", "A_"] {
        let why = refused(Profile::Dev, None, &[], &[("secrets.env_prefix", wrong)]);
        assert!(why[0].starts_with("V1 command line:secrets.env_prefix: "), "{why:?}");
    }
    let empty = refused(Profile::Dev, None, &[env[0], ("CORETEX_SECRET_X", "")], &[]);
    assert_eq!(empty, ["V1 CORETEX_SECRET_X: */X has an empty value; it must have at least 1 byte"]);
}

#[test]
fn settings_may_be_references_and_those_that_lead_nowhere_are_refused() {
    let env = [
        ("CORETEX_SECRETS_ENV_PREFIX", "CORETEX_SECRET_"),
        ("CORETEX_SECRET_URL", "memory"),
        ("CORETEX_SECRET_BAD", CANARY),
    ];
    let settings = dev(None, &env, &[("store.url", "secret://URL")]).expect("settings");
    assert_eq!(settings.store.place, Place::Memory);
    assert_eq!(
        refused(Profile::Dev, None, &env, &[("policy.kernel_key", "secret://NONE")]),
        ["R16 command line:policy.kernel_key: no provider has secret://NONE for every namespace"]
    );
    let quoted = refused(Profile::Dev, None, &env, &[("engine.loops", "secret://BAD")]);
    assert_eq!(quoted, ["V1 command line:engine.loops: `[redacted]` is not a whole number from 1 to 256"]);
}
