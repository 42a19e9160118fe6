//! House rules that a machine can hold: dependency law, lengths, names, where the wire may be spoken of.

use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

const FILE_LINES_MAX: usize = 600;

/// Which of our crates a crate may name. Everything not listed is forbidden.
const LAW: &[(&str, &[&str])] = &[
    ("coretex-contract", &[]),
    ("coretex-domain", &[]),
    ("coretex-kernel", &["coretex-domain", "coretex-workflow"]),
    ("coretex-cel", &["coretex-domain"]),
    ("coretex-document", &["coretex-domain"]),
    ("coretex-policy", &["coretex-cel", "coretex-document", "coretex-domain"]),
    ("coretex-workflow", &["coretex-cel", "coretex-document", "coretex-domain"]),
    ("coretex-schedule", &["coretex-domain"]),
    ("coretex-ports", &["coretex-domain"]),
    ("coretex-records", &["coretex-domain", "coretex-ports", "coretex-schedule"]),
    ("coretex-conformance", &["coretex-domain", "coretex-ports"]),
    ("coretex-store-embedded", &["coretex-domain", "coretex-ports", "coretex-records"]),
    ("coretex-secrets", &["coretex-domain"]),
    ("coretex-steps", &["coretex-domain"]),
    (
        "coretex-engine",
        &[
            "coretex-domain",
            "coretex-kernel",
            "coretex-policy",
            "coretex-ports",
            "coretex-records",
            "coretex-schedule",
            "coretex-secrets",
            "coretex-workflow",
        ],
    ),
    (
        "coretex-gateway",
        &[
            "coretex-contract",
            "coretex-domain",
            "coretex-engine",
            "coretex-policy",
            "coretex-ports",
            "coretex-schedule",
            "coretex-secrets",
            "coretex-workflow",
        ],
    ),
    ("coretex-sdk-macros", &[]),
    ("coretex-sdk", &["coretex-contract", "coretex-sdk-macros"]),
];

/// Third-party crates that a crate must not know.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "coretex-domain",
        &["tokio", "tonic", "prost", "rand", "rusqlite", "redis", "async-nats", "axum", "hyper"],
    ),
    (
        "coretex-kernel",
        &["tokio", "tonic", "prost", "rand", "rusqlite", "redis", "async-nats", "axum", "hyper"],
    ),
    ("coretex-cel", &["tokio", "tonic", "prost", "rand", "rusqlite", "redis", "async-nats", "axum", "hyper"]),
    (
        "coretex-document",
        &["tokio", "tonic", "prost", "rand", "rusqlite", "redis", "async-nats", "axum", "hyper"],
    ),
    (
        "coretex-policy",
        &["tokio", "tonic", "prost", "rand", "rusqlite", "redis", "async-nats", "axum", "hyper"],
    ),
    (
        "coretex-workflow",
        &["tokio", "tonic", "prost", "rand", "rusqlite", "redis", "async-nats", "axum", "hyper"],
    ),
    (
        "coretex-schedule",
        &["tokio", "tonic", "prost", "rand", "rusqlite", "redis", "async-nats", "axum", "hyper"],
    ),
    ("coretex-ports", &["tokio", "tonic", "prost", "rusqlite", "redis", "async-nats"]),
    ("coretex-engine", &["tonic", "prost", "rusqlite", "redis", "async-nats", "axum", "hyper"]),
    ("coretex-steps", &["tonic", "prost", "rusqlite", "redis", "async-nats", "axum"]),
    ("coretex-store-embedded", &["tonic", "axum", "redis", "async-nats"]),
    ("coretex-sdk", &["rusqlite", "axum", "redis", "async-nats"]),
];

/// Names that say nothing.
const BANNED_NAMES: &[&str] = &["Manager", "Helper", "Util", "Utils", "Impl", "Info2"];
const BANNED_FILES: &[&str] = &["util.rs", "utils.rs", "helpers.rs", "common.rs", "misc.rs", "types.rs"];

pub(crate) fn run() -> Result<()> {
    let root = crate::root();
    let mut faults = Vec::new();
    let manifests = find(&root, "Cargo.toml")?;
    check_law(&manifests, &mut faults)?;
    for file in find(&root, ".rs")? {
        check_source(&root, &file, &mut faults)?;
    }
    check_shape(&root, &mut faults)?;
    match faults.len() {
        0 => {
            crate::say(&format!("tidy: {} manifests and the sources keep the house rules", manifests.len()));
            Ok(())
        }
        n => bail!("{n} house rules broken:\n  {}", faults.join("\n  ")),
    }
}

/// Files whose name ends so, outside of build output, vendored and generated code.
fn find(root: &Path, suffix: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            if path.is_dir() {
                if !name.starts_with('.')
                    && !["target", "node_modules", "gen", "vendor"].contains(&name.as_str())
                {
                    open.push(path);
                }
            } else if name.ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn check_law(manifests: &[PathBuf], faults: &mut Vec<String>) -> Result<()> {
    let law: BTreeMap<&str, BTreeSet<&str>> =
        LAW.iter().map(|(n, d)| (*n, d.iter().copied().collect())).collect();
    let forbidden: BTreeMap<&str, &[&str]> = FORBIDDEN.iter().copied().collect();
    for path in manifests {
        let text = fs::read_to_string(path)?;
        let Some(name) = value_of(&text, "name") else { continue };
        for dependency in dependencies(&text) {
            if let Some(allowed) = law.get(name.as_str())
                && (dependency == "coretex" || dependency.starts_with("coretex-"))
                && !allowed.contains(dependency.as_str())
            {
                faults.push(format!("{name} must not depend on {dependency} (dependency law)"));
            }
            if forbidden.get(name.as_str()).is_some_and(|list| list.contains(&dependency.as_str())) {
                faults.push(format!("{name} must not know {dependency}"));
            }
        }
    }
    Ok(())
}

fn value_of(manifest: &str, key: &str) -> Option<String> {
    let line = manifest.lines().find(|l| l.trim_start().starts_with(&format!("{key} = ")))?;
    Some(line.split('"').nth(1)?.to_owned())
}

/// Names in `[dependencies]`; development dependencies are free.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut names = Vec::new();
    for line in manifest.lines() {
        if let Some(head) = line.strip_prefix('[') {
            section = head.trim_end_matches(']');
        } else if section == "dependencies" && !line.trim().is_empty() && !line.trim_start().starts_with('#')
        {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            names.push(name.trim().to_owned());
        }
    }
    names
}

fn check_source(root: &Path, file: &Path, faults: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(file)?;
    let shown = file.strip_prefix(root).unwrap_or(file).display().to_string();
    let lines = text.lines().count();
    if lines > FILE_LINES_MAX {
        faults.push(format!("{shown}: {lines} lines, at most {FILE_LINES_MAX}"));
    }
    let name = file.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    if BANNED_FILES.contains(&name) {
        faults.push(format!("{shown}: a file is named for what it does"));
    }
    let is_code = shown.contains("/src/") && !shown.starts_with("xtask/");
    if is_code && !text.starts_with("//!") && !text.starts_with("#!") && !name.ends_with("tests.rs") {
        faults.push(format!("{shown}: no header that says what it is for"));
    }
    let speaks_wire = [
        "server/gateway/",
        "proto/",
        "sdk-rust/",
        "xtask/",
        "tests/",
        "examples/",
        "server/coretex/src/cli/",
    ]
    .iter()
    .any(|allowed| shown.starts_with(allowed));
    if !speaks_wire && text.contains("coretex_contract") {
        faults.push(format!("{shown}: the wire stops at the gateway's door"));
    }
    for (number, line) in text.lines().enumerate() {
        let declares = ["pub struct ", "struct ", "pub enum ", "enum ", "pub trait ", "trait "];
        let Some(rest) = declares.iter().find_map(|d| line.trim_start().strip_prefix(d)) else { continue };
        let declared = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        if BANNED_NAMES.iter().any(|banned| declared.ends_with(banned)) {
            faults.push(format!("{shown}:{}: the name {declared} says nothing", number + 1));
        }
    }
    Ok(())
}

/// What must stand at the top of the repository, and links in the guides that must lead somewhere.
fn check_shape(root: &Path, faults: &mut Vec<String>) -> Result<()> {
    for needed in [
        "README.md",
        "ARCHITECTURE.md",
        "STYLE.md",
        "GLOSSARY.md",
        "CHANGELOG.md",
        "LICENSE",
        "buf.yaml",
        ".ci/run",
    ] {
        if !root.join(needed).exists() {
            faults.push(format!("{needed} is missing"));
        }
    }
    for file in find(root, ".md")? {
        let text = fs::read_to_string(&file)?;
        let dir = file.parent().unwrap_or(root);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            let is_local = !path.is_empty()
                && !path.contains("://")
                && !path.contains(' ')
                && !path.starts_with("mailto:");
            if is_local && !dir.join(path).exists() {
                faults.push(format!(
                    "{}: link to {path} leads nowhere",
                    file.strip_prefix(root).unwrap_or(&file).display()
                ));
            }
        }
    }
    Ok(())
}
