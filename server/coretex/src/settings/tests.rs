//! Settings, source by source, and the reasons not to start.

mod access;
mod production;
mod secrets;
mod steps;

use super::*;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

const KEY: &str = "q1W2e3R4t5Y6u7I8o9P0a1S2d3F4g5H6";

fn sources(file: Option<&str>, env: &[(&str, &str)], flags: &[(&str, &str)]) -> (tempfile::TempDir, Sources) {
    let dir = tempfile::tempdir().expect("temp dir");
    let config = file.map(|text| {
        let path = dir.path().join("coretex.yaml");
        std::fs::write(&path, text).expect("write");
        path
    });
    let own = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>()
    };
    let sources =
        Sources { config, env: own(env).into_iter().collect(), flags: own(flags), ..Sources::default() };
    (dir, sources)
}

fn dev(file: Option<&str>, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, Refusals> {
    let (_dir, sources) = sources(file, env, flags);
    load(Profile::Dev, &sources)
}

fn refused(
    profile: Profile,
    file: Option<&str>,
    env: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Vec<String> {
    let (dir, sources) = sources(file, env, flags);
    let refusals = load(profile, &sources).expect_err("refused");
    let name = |text: String| text.replace(&format!("{}/", dir.path().display()), "");
    assert!(refusals.0.iter().all(|refusal| !refusal.mend.is_empty()), "every reason has a mend");
    refusals.0.iter().map(|refusal| name(refusal.to_string())).collect()
}

#[test]
fn defaults_start_a_dev_server() {
    let settings = dev(None, &[], &[]).expect("defaults");
    assert_eq!(settings.listen.address.to_string(), "127.0.0.1:7070");
    assert_eq!(settings.store.place, Place::File(PathBuf::from("./data")));
    assert_eq!(settings.store.ack, Ack::Durable);
    assert!(settings.listen.hosts().contains(&"localhost".to_owned()));
}

#[test]
fn the_stronger_source_wins() {
    let file = "listen: 127.0.0.1:1111\nstore:\n  url: memory\nengine:\n  loops: 4\n";
    let env = [("CORETEX_LISTEN", "127.0.0.1:2222"), ("CORETEX_ENGINE_LOOPS", "3")];
    let settings = dev(Some(file), &env, &[("listen.address", "127.0.0.1:3333")]).expect("settings");
    assert_eq!(settings.listen.address.port(), 3333);
    assert_eq!(settings.engine.loops, 3);
    assert_eq!(settings.store.place, Place::Memory);
}

#[test]
fn a_file_may_be_empty_or_start_with_a_mark() {
    for text in ["", "\u{feff}", "\n# nothing\n", "\u{feff}store: memory\n", "store:\n"] {
        dev(Some(text), &[], &[]).unwrap_or_else(|refusals| panic!("{text:?}: {}", refusals.lines(false)));
    }
}

#[test]
fn unknown_keys_are_refused_with_place_and_nearest_name() {
    let file = "store:\n  ulr: memory\n";
    assert_eq!(
        refused(Profile::Dev, Some(file), &[], &[]),
        ["R15 coretex.yaml:2:store.ulr: there is no setting `store.ulr`; did you mean `store.url`?"]
    );
    assert_eq!(
        refused(Profile::Dev, None, &[("CORETEX_LISTN", "x"), ("CORETEX_ADDR", "ignored")], &[]),
        ["R15 CORETEX_LISTN: no setting has this variable; did you mean `CORETEX_LISTEN`?"]
    );
    let lines = refused(Profile::Dev, None, &[], &[("stor.url", "memory:")]);
    assert!(lines[0].contains("did you mean `store.url`"), "{lines:?}");
}

#[test]
fn wrong_values_are_refused_with_place_and_example() {
    let file = "listen: 127.0.0.1:70000\nengine:\n  loops: -1\n  heartbeat: abc\n  session_ttl: [1s, 2s]\nlog:\n  format: xml\n";
    let lines = refused(Profile::Dev, Some(file), &[], &[]);
    assert_eq!(lines.len(), 5, "{lines:#?}");
    assert!(lines[0].starts_with(
        "V1 coretex.yaml:1:listen.address: `127.0.0.1:70000` cannot be used: port 70000 is above 65535"
    ));
    assert!(
        lines[1].starts_with("V1 coretex.yaml:3:engine.loops: `-1` is not a whole number from 1 to 256"),
        "{lines:#?}"
    );
    assert!(
        lines.iter().any(|line| line.contains("coretex.yaml:4:engine.heartbeat") && line.contains("1h30m"))
    );
    for (address, why) in
        [("127.0.0.1:0", "port 0"), ("example.org:80", "is a name"), ("7070", "not IP:PORT")]
    {
        let lines = refused(Profile::Dev, None, &[], &[("listen.address", address)]);
        assert!(lines[0].contains(why), "{lines:?}");
    }
}

#[test]
fn files_that_are_none_are_refused() {
    for text in
        ["a: [", "- 1\n- 2\n", "just text", "store: memory\nstore: memory\n", "store:\n  url: {a: b}\n"]
    {
        let lines = refused(Profile::Dev, Some(text), &[], &[]);
        assert!(lines[0].contains("coretex.yaml"), "{text:?}: {lines:?}");
    }
    let nowhere = Sources { config: Some("/nowhere/coretex.yaml".into()), ..Sources::default() };
    let lines = load(Profile::Dev, &nowhere).expect_err("refused").lines(true);
    assert!(lines.contains("/nowhere/coretex.yaml: cannot read it") && lines.contains("mend: "), "{lines}");
    let dir = Sources { config: Some("/tmp".into()), ..Sources::default() };
    assert!(load(Profile::Dev, &dir).expect_err("refused").lines(false).contains("is a directory"));
}

#[test]
fn variables_in_the_file_are_filled_in_or_refused() {
    let file = "store:\n  url: file:${CORETEX_TEST_DIR}/jobs\n";
    let (_dir, mut wanted) = sources(Some(file), &[], &[]);
    let lines = load(Profile::Dev, &wanted).expect_err("refused").lines(false);
    assert!(lines.starts_with("R16 ") && lines.contains("CORETEX_TEST_DIR"), "{lines}");
    let path = wanted.config.clone().expect("a file was asked for");
    std::fs::write(path, file.replace("CORETEX_TEST_DIR", "CORETEX_ADDR")).expect("write");
    wanted.env.insert("CORETEX_ADDR".into(), "/srv".into());
    assert_eq!(load(Profile::Dev, &wanted).expect("settings").store.place, Place::File("/srv/jobs".into()));
}

#[test]
fn dev_listens_on_loopback_only() {
    let lines = refused(Profile::Dev, None, &[], &[("listen.address", "0.0.0.0:7070")]);
    assert!(lines[0].starts_with("R5 ") && lines[0].contains("loopback only"), "{lines:?}");
}

#[test]
fn production_refuses_to_start_insecurely_and_says_everything_at_once() {
    let file = "listen: 0.0.0.0:7070\nstore: memory\nauth:\n  keys: [ci:short, \"ops:changeme-changeme-changeme-changeme\"]\n";
    let lines = refused(Profile::Production, Some(file), &[], &[]);
    let codes: Vec<_> = lines.iter().map(|line| line.split([' ', ':']).next().unwrap_or_default()).collect();
    assert_eq!(codes, ["R3", "R3", "R1", "R6", "R2"], "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains("changeme")), "keys are not shown: {lines:#?}");
}

#[test]
fn production_starts_once_mended() {
    let dir = tempfile::tempdir().expect("temp dir");
    let keys = dir.path().join("keys");
    std::fs::write(&keys, format!("# who\nci:{KEY}:default+builds:submitter\n")).expect("write");
    let data = dir.path().join("data");
    let env = [
        ("CORETEX_STORE".to_owned(), format!("file:{}", data.display())),
        ("CORETEX_API_KEYS_FILE".to_owned(), keys.display().to_string()),
        ("CORETEX_LIMITS_CONNECTIONS_MAX".to_owned(), "100".to_owned()),
    ];
    let sources = Sources { env: env.into_iter().collect(), ..Sources::default() };
    let mode = |path: &PathBuf, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("mode")
    };
    mode(&keys, 0o644);
    let lines = load(Profile::Production, &sources).expect_err("open key file").lines(false);
    assert!(lines.starts_with("R3 ") && lines.contains("other users"), "{lines}");
    mode(&keys, 0o600);
    let settings = load(Profile::Production, &sources).expect("mended");
    assert_eq!(settings.auth.keys[0].namespaces, ["default", "builds"]);
    assert!(!format!("{settings:?}").contains(KEY), "keys are not shown");
    std::fs::create_dir(&data).expect("dir");
    mode(&data, 0o777);
    let lines = load(Profile::Production, &sources).expect_err("open directory").lines(false);
    assert!(lines.starts_with("R12 ") && lines.contains("mode 777"), "{lines}");
}

#[test]
fn tls_files_are_checked() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let path = |path: &PathBuf| path.display().to_string();
    let (cert_path, key_path) = (path(&cert), path(&key));
    let refused_with = |flags: &[(&str, &str)], code: &str, what: &str| {
        let lines = refused(Profile::Dev, None, &[], flags);
        assert!(lines.iter().any(|line| line.starts_with(code) && line.contains(what)), "{what}: {lines:#?}");
    };
    refused_with(&[("tls.cert", &cert_path)], "R4", "no tls.key");
    refused_with(&[("tls.key", &key_path)], "R4", "no tls.cert");
    let both = [("tls.cert", cert_path.as_str()), ("tls.key", key_path.as_str())];
    refused_with(&both, "R4", "cannot read");
    std::fs::write(&key, "-----BEGIN ENCRYPTED PRIVATE KEY-----\n").expect("write");
    std::fs::write(&cert, "-----BEGIN PRIVATE KEY-----\n").expect("write");
    refused_with(&both, "R4", "has a key in it");
}

#[test]
fn the_example_and_the_guide_list_all_settings() {
    let guide = include_str!("../../../../docs/guide/cli.md");
    let text = include_str!("../../../../deploy/coretex.example.yaml");
    for known in catalog::CATALOG {
        let name = known.key.rsplit('.').next().expect("section.name");
        assert!(text.contains(&format!("{name}:")), "{} is not in the example", known.key);
        assert!(text.contains(known.env), "{} is not in the example", known.env);
        let row = format!("| `{}` | `{}` | ", known.key, known.env);
        assert!(guide.contains(&row), "{} is not in the guide", known.key);
    }
    let (_dir, sources) = sources(Some(text), &[], &[]);
    let refusals = load(Profile::Dev, &sources).map(|_| ()).err().map(|refusals| refusals.lines(false));
    assert!(
        refusals.as_ref().is_none_or(|lines| !lines.contains("R15") && !lines.contains("V1")),
        "{refusals:?}"
    );
}
