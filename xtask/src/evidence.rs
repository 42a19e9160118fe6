//! The evidence block: what the suites counted in this run, gathered from the files they left.

use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// Suites that must have left a line, or the run is a failure.
const EXPECTED: &str = "tests/suites.expected";

pub(crate) fn run(args: &[String]) -> Result<()> {
    let dir = args.first().context("evidence: a folder is needed")?;
    let mut blocks = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("no evidence in {dir}"))? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        let text = fs::read_to_string(&path)?;
        blocks.push((name, text));
    }
    blocks.sort();
    crate::say("\n== evidence ==");
    for (name, text) in &blocks {
        for line in text.lines().filter(|l| !l.trim().is_empty()) {
            crate::say(&format!("{name:<14} {line}"));
        }
    }
    let expected = fs::read_to_string(crate::root().join(Path::new(EXPECTED))).context(EXPECTED)?;
    let wanted = expected.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let missing: Vec<&str> = wanted.filter(|suite| !blocks.iter().any(|(name, _)| name == suite)).collect();
    if !missing.is_empty() {
        bail!("suites that did not run: {}", missing.join(", "));
    }
    crate::say("== all expected suites ran ==");
    Ok(())
}
