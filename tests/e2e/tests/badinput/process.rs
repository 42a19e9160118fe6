//! Rows 63 and 68: settings and command lines.

use crate::{EVIDENCE, Target};
use coretex_e2e::process::coretex;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

/// A server is refused its settings with this code.
const CONFIG: i32 = 78;

fn run(args: &[&str]) -> (i32, String) {
    let mut command = coretex();
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let until = Instant::now() + Duration::from_secs(20);
    while child.try_wait().expect("it can be asked").is_none() {
        if Instant::now() > until {
            let _ = child.kill();
            panic!("{args:?} has not ended");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it has ended");
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(!said.contains("panicked at") && !said.contains("RUST_BACKTRACE"), "{args:?}: {said}");
    EVIDENCE.add("cases", 1);
    (status.code().unwrap_or(-1), said)
}

fn with_file(folder: &Path, text: &[u8]) -> (i32, String) {
    let path = folder.join("coretex.yaml");
    fs::write(&path, text).expect("a file");
    let path = path.display().to_string();
    let store = format!("file:{}", folder.join("store").display());
    run(&["dev", "--listen", "127.0.0.1:0", "--store", &store, "--config", &path])
}

#[test]
fn row_63_settings_files_that_cannot_be_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let rows: [(&str, &[u8], &str); 9] = [
        ("an unknown key", b"listen:\n  adress: 127.0.0.1:7070\n", "address"),
        ("an unknown section", b"listne:\n  address: 127.0.0.1:7070\n", "listne"),
        ("a wrong type", b"engine:\n  loops: many\n", "engine.loops"),
        ("a negative number", b"engine:\n  loops: -1\n", "engine.loops"),
        ("a list for one value", b"engine:\n  loops: [1, 2]\n", "engine.loops"),
        ("a typo in a size", b"limits:\n  message_max: 4 megs\n", "limits.message_max"),
        ("a span without a unit", b"engine:\n  session_ttl: 5\n", "engine.session_ttl"),
        ("no YAML", b"{{{{ nonsense", "coretex.yaml"),
        ("bytes that are no text", b"listen:\n  address: \xff\xfe\n", "coretex.yaml"),
    ];
    for (what, text, named) in rows {
        let (code, said) = with_file(folder.path(), text);
        assert_eq!(code, CONFIG, "row 63, {what}: {said}");
        assert!(said.contains(named), "row 63, {what}: {named} is not named in {said}");
        assert!(said.contains("coretex.yaml"), "row 63, {what}: the file is not named in {said}");
    }
    assert!(!folder.path().join("store").exists(), "a refused server made a store");
    let missing = run(&["dev", "--config", "/no/such/file.yaml"]);
    assert_eq!(missing.0, CONFIG, "{}", missing.1);
    let directory = run(&["dev", "--config", &folder.path().display().to_string()]);
    assert_eq!(directory.0, CONFIG, "{}", directory.1);
    for (what, listen) in
        [("port 70000", "127.0.0.1:70000"), ("no port", "127.0.0.1"), ("words", "everywhere")]
    {
        let (code, said) = run(&["dev", "--memory", "--listen", listen]);
        assert_eq!(code, CONFIG, "row 63, {what}: {said}");
        assert!(said.contains("listen.address"), "row 63, {what}: {said}");
    }
    EVIDENCE.add("rows", 1);
}

#[test]
fn row_63_a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let (code, said) = run(&["dev", "--memory", "--listen", &address.to_string()]);
    assert_eq!(code, CONFIG, "{said}");
    assert!(said.contains(&address.port().to_string()) && said.contains("in use"), "{said}");
}

#[test]
fn row_68_command_lines_that_make_no_sense() {
    let rows: [(&str, &[&str]); 6] = [
        ("no command", &["nonsense"]),
        ("an unknown flag", &["job", "submit", "--no-such-flag"]),
        ("no topic", &["job", "submit"]),
        ("a timeout that is none", &["job", "submit", "--topic", "job.x", "--wait", "--timeout=abc"]),
        ("a priority in words", &["job", "submit", "--topic", "job.x", "--priority", "high"]),
        ("an unknown output", &["job", "list", "--output", "xml"]),
    ];
    for (what, args) in rows {
        let (code, said) = run(args);
        assert_eq!(code, 2, "row 68, {what}: {said}");
        assert!(said.to_lowercase().contains("usage") || said.contains("--help"), "row 68, {what}: {said}");
    }
    // An error is a document where documents are wanted.
    let (code, said) = run(&["--addr", "127.0.0.1:1", "-o", "json", "job", "get", "job-1"]);
    assert_eq!(code, 1, "{said}");
    let last = said.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("\n");
    serde_json::from_str::<serde_json::Value>(&last).unwrap_or_else(|e| panic!("no JSON ({e}): {said}"));
    EVIDENCE.add("rows", 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_68_a_reader_that_goes_away_and_no_input() {
    let target = Target::start().await;
    target.api.submit_many(&coretex_e2e::api::spec("job.list"), 500).await;
    let mut command = coretex();
    command.args(["--addr", &target.server.url(), "-o", "json", "job", "list", "--limit", "500"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut pipe = child.stdout.take().expect("a pipe");
    let mut first = [0; 1];
    let _ = pipe.read(&mut first);
    drop(pipe);
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    let mut command = coretex();
    command.args(["--addr", &target.server.url(), "job", "submit", "--topic", "job.in", "--data", "@-"]);
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    EVIDENCE.add("cases", 2);
}
