//! Keys from their making to their use: the command line, a production server, and calls that may and may not.

use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_coretex");

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

fn run(args: &[&str]) -> Output {
    coretex(args).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A key and its line.
fn generated(args: &[&str]) -> (String, String) {
    let output = run(&[&["admin", "keys", "generate", "-o", "json"], args].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let made: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a document");
    let field = |name: &str| made[name].as_str().expect(name).to_owned();
    (field("key"), field("line"))
}

fn write(path: &Path, lines: &str) {
    std::fs::write(path, lines).expect("written");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("mode");
}

/// Ended when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_key_that_was_made_opens_a_production_server_as_far_as_its_role() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let pepper = path("pepper");
    let submitter = ["--name", "ci", "--role", "submitter", "--only", "default", "--pepper-file", &pepper];
    let (key, line) = generated(&submitter);
    let (viewer, viewer_line) =
        generated(&["--name", "ann", "--role", "viewer", "--expires", "2999-01-31T00:00:00Z"]);
    assert!(key.starts_with("ctx_") && key.len() == 56 && !line.contains(&key[13..]), "{line}");
    assert!(line.starts_with("ci:hmac_") && line.ends_with(":default:submitter"), "{line}");
    let mode = std::fs::metadata(&pepper).expect("made").permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);

    let mut hashing = coretex(&["admin", "keys", "hash", "--pepper-file", &pepper]);
    let hashing = hashing.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs");
    hashing.stdin.as_ref().expect("a pipe").write_all(key.as_bytes()).expect("taken");
    let hash = text(&hashing.wait_with_output().expect("ends").stdout);
    assert!(line.contains(hash.trim()) && !hash.trim().is_empty(), "the same hash: {hash}");

    write(Path::new(&path("keys")), &format!("{line}\n{viewer_line}\n"));
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port();
    let (listen, store) = (format!("127.0.0.1:{port}"), format!("file:{}", path("data")));
    let keys_file = format!("auth.keys_file={}", path("keys"));
    let base = ["server", "--listen", &listen, "--store", &store, "--set", &keys_file];
    let without_pepper = run(&[&base[..], &["--set", "limits.connections_max=100", "--explain"]].concat());
    let said = text(&without_pepper.stderr);
    assert_eq!(without_pepper.status.code(), Some(78), "{said}");
    assert!(said.contains("R3 ") && said.contains("the hash of `ci` needs auth.pepper_file"), "{said}");
    assert!(said.contains("mend: set auth.pepper_file"), "{said}");

    let pepper_file = format!("auth.pepper_file={pepper}");
    let mended = [&base[..], &["--set", "limits.connections_max=100", "--set", &pepper_file]].concat();
    let without_policy = run(&[&mended[..], &["--explain"]].concat());
    let said = text(&without_policy.stderr);
    assert_eq!(without_policy.status.code(), Some(78), "{said}");
    assert!(said.contains("R10 policy.file: only the built-in policy would judge"), "{said}");
    let rules =
        "name: default\ndefault: allow\nrules: [{ id: no, match: { topics: [job.never] }, verdict: deny }]\n";
    write(Path::new(&path("policy.yaml")), rules);
    let policy_file = format!("policy.file={}", path("policy.yaml"));
    let mended = [&mended[..], &["--set", &policy_file]].concat();
    let _server = Process(coretex(&mended).stderr(Stdio::null()).spawn().expect("runs"));
    let addr = format!("http://{listen}");
    let call = |key: &str, args: &[&str]| run(&[&["--addr", &addr, "--api-key", key], args].concat());
    let give_up = Instant::now() + Duration::from_secs(60);
    while !call(&viewer, &["admin", "info"]).status.success() {
        assert!(Instant::now() < give_up, "{}", text(&call(&viewer, &["admin", "info"]).stderr));
        std::thread::sleep(Duration::from_millis(100));
    }
    let submit = ["job", "submit", "--topic", "job.a", "--data", "{}"];
    let output = call(&key, &submit);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let denied = call(&viewer, &submit);
    assert_eq!(denied.status.code(), Some(1));
    assert!(text(&denied.stderr).contains("`jobs.submit` is needed"), "{}", text(&denied.stderr));
    assert!(call(&viewer, &["job", "list"]).status.success());
    let elsewhere = call(&key, &["--namespace", "other", "job", "list"]);
    assert_eq!(elsewhere.status.code(), Some(1), "{}", text(&elsewhere.stderr));
}

#[test]
fn what_is_no_key_or_role_is_refused_by_the_command_line() {
    for args in [
        &["admin", "keys", "generate", "--name", "ci", "--role", "root"][..],
        &["admin", "keys", "generate", "--name", "ci"],
        &["admin", "keys", "generate", "--name", "a:b", "--role", "viewer"],
        &["admin", "keys", "generate", "--name", "ci", "--role", "viewer", "--expires", "tomorrow"],
        &["admin", "keys", "generate", "--name", "ci", "--role", "viewer", "--only", "A B"],
        &["--addr", "http://127.0.0.1:1", "admin", "keys", "generate", "--name", "ci", "--role", "viewer"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
    let output = run(&["admin", "keys", "hash", "--pepper-file", "/nowhere"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
}
