//! API keys that a server keeps, by the command line, on a real server that is killed and started again.

use serde_json::Value;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_coretex");

/// Ended when dropped, as a power cut would.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Site {
    directory: tempfile::TempDir,
    listen: String,
}

fn coretex(args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CORETEX_")) {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Site {
    fn new() -> Site {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
        Site { directory: tempfile::tempdir().expect("a directory"), listen: format!("127.0.0.1:{port}") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, kind: &str, settings: &[String]) -> Command {
        let store = format!("file:{}", self.path("store").display());
        let mut command = coretex(&[kind, "--listen", &self.listen, "--store", &store]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        command
    }

    /// A dev server with these settings, that answers this key.
    fn dev(&self, settings: &[&str], key: Option<&str>) -> Process {
        let settings: Vec<String> = settings.iter().map(ToString::to_string).collect();
        let open = || {
            let mut options = std::fs::OpenOptions::new();
            options.create(true).append(true).open(self.path("log")).expect("a log")
        };
        let mut command = self.command("dev", &settings);
        command.env("CORETEX_LOG", "debug").stdout(open()).stderr(open());
        let process = Process(command.spawn().expect("runs"));
        let give_up = Instant::now() + Duration::from_secs(60);
        while !self.call(key, &["admin", "info"]).status.success() {
            let why = || text(&self.call(key, &["admin", "info"]).stderr);
            assert!(Instant::now() < give_up, "{}", why());
            std::thread::sleep(Duration::from_millis(50));
        }
        process
    }

    fn call(&self, key: Option<&str>, args: &[&str]) -> Output {
        let mut command = coretex(&["--addr", &format!("http://{}", self.listen)]);
        if let Some(key) = key {
            command.env("CORETEX_API_KEY", key);
        }
        command.args(args).output().expect("runs")
    }

    fn keys(&self, key: Option<&str>, args: &[&str]) -> Value {
        let output = self.call(key, &[&["admin", "keys"], args, &["-o", "json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("a document")
    }

    /// Code and standard error of a server that does not start.
    fn refused(&self, kind: &str, settings: &[String]) -> (Option<i32>, String) {
        let output = self.command(kind, settings).arg("--explain").output().expect("ends");
        (output.status.code(), text(&output.stderr))
    }
}

fn field<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

/// Every file below a directory that holds a text.
fn holding(directory: &Path, needle: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(holding(&path, needle));
        } else {
            let bytes = std::fs::read(&path).expect("a file");
            if bytes.windows(needle.len()).any(|window| window == needle.as_bytes()) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn the_first_key_is_made_on_an_open_server_which_then_asks_for_it() {
    let site = Site::new();
    let (code, said) = site.refused("dev", &["auth.required=true".to_owned()]);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("R2 auth.required: ") && said.contains("mend: start once without it"), "{said}");

    let server = site.dev(&[], None);
    let output = site.call(None, &["admin", "keys", "create", "--name", "root", "--role", "admin"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    let root = shown.lines().next().expect("the key").to_owned();
    assert!(root.starts_with("ctx_") && root.len() == 56 && shown.contains("name        root"), "{shown}");
    assert!(text(&output.stderr).contains("shown this once"), "{}", text(&output.stderr));
    assert!(site.call(None, &["job", "list"]).status.success(), "it stays open until it is told to ask");
    drop(server);

    let server = site.dev(&["auth.required=true"], Some(&root));
    assert_eq!(site.call(None, &["job", "list"]).status.code(), Some(1));
    let ci =
        ["create", "--name", "ci", "--role", "submitter", "--namespace", "builds", "--expires-in", "30d"];
    let made = site.keys(Some(&root), &ci);
    let (ci, id) = (field(&made, "secret"), field(&made["api_key"], "key_id"));
    assert_eq!(made["api_key"]["namespaces"], serde_json::json!(["builds"]));
    assert_eq!(field(&made["api_key"], "identity"), "builds/ci");
    assert!(made["api_key"]["expire_time"].is_string());
    let submit = ["--namespace", "builds", "job", "submit", "--topic", "job.a", "--data", "{}"];
    assert!(site.call(Some(ci), &submit).status.success());
    assert_eq!(site.call(Some(ci), &["job", "list"]).status.code(), Some(1), "another namespace");

    let rotated = site.keys(Some(&root), &["rotate", id, "--overlap", "1h"]);
    let new = field(&rotated, "secret");
    assert!(site.call(Some(new), &submit).status.success() && site.call(Some(ci), &submit).status.success());
    let table = text(&site.call(Some(&root), &["admin", "keys", "list", "--name-prefix", "c"]).stdout);
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows.len() == 2 && rows[1].contains(id) && rows[1].contains("ACTIVE"), "{table}");
    assert!(!table.contains(&ci[13..]) && !table.contains(&new[13..]));
    drop(server);

    // SIGKILL lost nothing.
    let server = site.dev(&["auth.required=true"], Some(&root));
    assert!(site.call(Some(new), &submit).status.success());
    let revoked = site.keys(Some(&root), &["revoke", id]);
    assert_eq!(field(&revoked["api_key"], "state"), "API_KEY_STATE_REVOKED");
    let late = site.call(Some(new), &submit);
    assert!(text(&late.stderr).contains("CREDENTIAL_INVALID"), "{}", text(&late.stderr));
    assert_eq!(field(&site.keys(Some(&root), &["get", id])["api_key"], "revoked_by"), "root");
    let audit = site.call(Some(&root), &["admin", "audit", "list", "-o", "json"]);
    let audit = text(&audit.stdout);
    assert!(audit.contains(&format!("key {id}: it was revoked")), "{audit}");
    drop(server);

    let mode = std::fs::metadata(site.path("store/keys.pepper")).expect("kept").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!holding(&site.path("store"), id).is_empty(), "the public part is there to be found");
    for secret in [&root, ci, new] {
        for part in [secret, &secret[13..]] {
            let found = holding(site.directory.path(), part);
            assert!(found.is_empty(), "a secret is in the data or the log: {found:?}");
            assert!(!audit.contains(part));
        }
    }
    production_wants_the_same_pepper(&site);
}

/// The store of a dev server, taken into production.
fn production_wants_the_same_pepper(site: &Site) {
    let write = |name: &str, text: &str| {
        std::fs::write(site.path(name), text).expect("written");
        std::fs::set_permissions(site.path(name), std::fs::Permissions::from_mode(0o600)).expect("mode");
        site.path(name).display().to_string()
    };
    let keys = write("keys", "boot:ctx_aB3dE5gH_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8::admin\n");
    let rules =
        "name: default\ndefault: allow\nrules: [{ id: no, match: { topics: [job.never] }, verdict: deny }]\n";
    let policy = write("policy.yaml", rules);
    let mut settings = vec![
        format!("auth.keys_file={keys}"),
        format!("policy.file={policy}"),
        "limits.connections_max=100".to_owned(),
    ];
    for other in [None, Some("0123456789abcdef0123456789abcdef")] {
        let mut with = settings.clone();
        with.extend(other.map(|pepper| format!("auth.pepper_file={}", write("pepper", pepper))));
        let (code, said) = site.refused("server", &with);
        assert_eq!(code, Some(78), "{said}");
        assert!(said.contains("R17 auth.pepper_file: 1 API keys of file:"), "{said}");
        assert!(said.contains("mend: set auth.pepper_file to the file they were made with"), "{said}");
    }
    settings.push(format!("auth.pepper_file={}", site.path("store/keys.pepper").display()));
    let mut server = Process(site.command("server", &settings).stderr(Stdio::null()).spawn().expect("runs"));
    let boot = Some("ctx_aB3dE5gH_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8");
    let give_up = Instant::now() + Duration::from_secs(60);
    while !site.call(boot, &["admin", "info"]).status.success() {
        assert!(server.0.try_wait().expect("asked").is_none() && Instant::now() < give_up, "it starts");
        std::thread::sleep(Duration::from_millis(50));
    }
    let listed = site.keys(boot, &["list", "--filter", "state = ACTIVE"]);
    assert_eq!(field(&listed["api_keys"][0], "name"), "root");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_keep_keys_by_the_sdk() {
    let server = coretex_testkit::ServerProcess::builder().expect("options").binary(BINARY).start();
    let server = server.await.expect("a server");
    let client = server.client().await.expect("a client");
    let wanted = coretex_sdk::NewApiKey::new("ci", "submitter").role("viewer").namespace("builds");
    let made = client.create_api_key(wanted.expires_in(Duration::from_secs(3_600))).await.expect("made");
    let (key, secret) = (&made.api_key, made.secret.clone().expect("told once"));
    assert!(secret.starts_with(&format!("ctx_{}_", key.key_id)));
    assert_eq!((key.identity.as_str(), key.state.as_str()), ("builds/ci", "ACTIVE"));
    assert_eq!((key.roles.join(" "), key.expire_time.is_some()), ("viewer submitter".to_owned(), true));
    let rotated = client.rotate_api_key(&key.key_id, Some(Duration::ZERO)).await.expect("rotated");
    assert!(rotated.secret.is_some_and(|new| new != secret) && rotated.api_key.rotate_time.is_some());
    let page = client.list_api_keys("name = \"ci\"").await.expect("a page");
    assert_eq!((page.items.len(), page.next_page_token.as_str()), (1, ""));
    let revoked = client.revoke_api_key(&key.key_id).await.expect("revoked");
    assert_eq!(revoked.state, coretex_sdk::ApiKeyState::Revoked);
    let again = client.get_api_key(&key.key_id).await.expect("still shown");
    assert_eq!(again.revoke_time, revoked.revoke_time);
    let absent = client.get_api_key("zzzzzzzz").await.expect_err("never was");
    assert_eq!(absent.reason(), "API_KEY_NOT_FOUND");
}
