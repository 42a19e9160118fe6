//! Every example runs against a real server and ends well.

use coretex_e2e::evidence::Evidence;
use coretex_e2e::process::{Server, Setup, binary};
use coretex_e2e::{say, skip};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::Command;

static EVIDENCE: Evidence = Evidence::of("examples");

const PATIENCE: Duration = Duration::from_secs(120);

/// The examples: each folder with a manifest, and the binary it makes.
fn examples() -> Vec<(String, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/rust");
    let mut found = Vec::new();
    for entry in fs::read_dir(&root).into_iter().flatten() {
        let folder = entry.expect("an entry").path();
        let Ok(manifest) = fs::read_to_string(folder.join("Cargo.toml")) else { continue };
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        found.push((name.expect("a package has a name").to_owned(), folder));
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_ends_well() {
    let examples = examples();
    if examples.is_empty() {
        return skip("examples", "there are no examples in examples/rust");
    }
    for (name, folder) in examples {
        let server = Server::start(Setup::file()).await;
        let mut command = Command::new(binary(&name));
        command
            .current_dir(&folder)
            .env_remove("CORETEX_EVIDENCE")
            .env("CORETEX_ADDR", server.url())
            .kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        let output = output.unwrap_or_else(|_| panic!("{name} has not ended after {PATIENCE:?}"));
        let output = output.unwrap_or_else(|e| panic!("{name}: {e}"));
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{name} ended with {}:\n{said}", output.status);
        assert!(!said.contains("panicked"), "{name}:\n{said}");
        say(&format!("examples: {name} ended well"));
        EVIDENCE.add("examples", 1);
    }
}
