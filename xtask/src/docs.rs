//! Makes the pages that follow from the domain: one per refusal reason, the job state machine, and what roles may do.
//! In: the lists of `coretex-domain`. Out: `docs/errors/*.md`, `docs/machines/job.md` and `docs/access/roles.md`. Refuses, with `--check`: pages that are not fresh.

use anyhow::{Context, Result, bail};
use coretex_domain::access;
use coretex_domain::job::machine;
use coretex_domain::refusal::{Class, Reason};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const HINT: &str = "run `cargo run -p xtask -- docs` and commit the result";

pub(crate) fn run(args: &[String]) -> Result<()> {
    let check = match args {
        [] => false,
        [flag] if flag == "--check" => true,
        _ => bail!("docs takes only `--check`, got `{}`", args.join(" ")),
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent directory")?;
    let pages = pages();
    let stale = stale(root, &pages)?;
    if !check {
        return write(root, &pages, &stale);
    }
    if stale.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = stale.iter().map(|path| path.display().to_string()).collect();
    bail!("these pages are stale:\n  {}\n{HINT}", names.join("\n  "))
}

fn pages() -> BTreeMap<PathBuf, String> {
    let mut pages = BTreeMap::new();
    pages.insert(PathBuf::from("docs/machines/job.md"), machine::to_markdown());
    pages.insert(PathBuf::from("docs/access/roles.md"), access::to_markdown());
    pages.insert(PathBuf::from("docs/errors/README.md"), index());
    for reason in Reason::ALL {
        pages.insert(PathBuf::from(format!("docs/errors/{}.md", reason.name())), page(*reason));
    }
    pages
}

fn page(reason: Reason) -> String {
    format!(
        "# {}\n\n{}\n\n| | |\n|---|---|\n| comes as | {} |\n| in `google.rpc.ErrorInfo` | domain `coretex`, reason `{}` |\n| worth repeating unchanged | {} |\n\n## What to do\n\n{}\n\n<!-- Generated from `coretex_domain::refusal::Reason`; do not edit. -->\n",
        reason.name(),
        reason.meaning(),
        code(reason.class()),
        reason.name(),
        repeating(reason),
        reason.advice(),
    )
}

fn index() -> String {
    let mut out = String::from(
        "# Why something was refused\n\nEvery error carries one of these reasons. Programs may depend on the names; they never change.\n\n| reason | comes as | meaning |\n|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let name = reason.name();
        let _ = writeln!(out, "| [{name}]({name}.md) | {} | {} |", code(reason.class()), reason.meaning());
    }
    out.push_str("\n<!-- Generated from `coretex_domain::refusal::Reason`; do not edit. -->\n");
    out
}

fn code(class: Class) -> &'static str {
    match class {
        Class::InvalidArgument => "`INVALID_ARGUMENT`, HTTP 400",
        Class::NotFound => "`NOT_FOUND`, HTTP 404",
        Class::AlreadyExists => "`ALREADY_EXISTS`, HTTP 409",
        Class::FailedPrecondition => "`FAILED_PRECONDITION`, HTTP 409",
        Class::PermissionDenied => "`PERMISSION_DENIED`, HTTP 403",
        Class::Unauthenticated => "`UNAUTHENTICATED`, HTTP 401",
        Class::ResourceExhausted => "`RESOURCE_EXHAUSTED`, HTTP 429",
        Class::OutOfRange => "`OUT_OF_RANGE`, HTTP 400",
        Class::Unavailable => "`UNAVAILABLE`, HTTP 503",
        Class::DataLoss => "`DATA_LOSS`, HTTP 500",
        Class::Unimplemented => "`UNIMPLEMENTED`, HTTP 501",
        Class::Aborted => "`ABORTED`, HTTP 409",
        Class::Cancelled => "`CANCELLED`, HTTP 499",
        Class::DeadlineExceeded => "`DEADLINE_EXCEEDED`, HTTP 504",
        Class::Recorded => "no status: found in records, warnings and frames",
    }
}

fn repeating(reason: Reason) -> &'static str {
    match reason.class() {
        Class::Unavailable => "yes, with the same keys, after the hint",
        Class::ResourceExhausted => match reason {
            Reason::Overloaded
            | Reason::RateLimited
            | Reason::QuotaExceeded
            | Reason::StoreFull
            | Reason::DiskFull => "yes, after a wait",
            _ => "no",
        },
        Class::DeadlineExceeded => "yes",
        Class::Recorded => "does not apply",
        _ => "no",
    }
}

/// Pages that are missing, differ, or have no reason any more.
fn stale(root: &Path, pages: &BTreeMap<PathBuf, String>) -> Result<Vec<PathBuf>> {
    let mut stale: Vec<PathBuf> = pages
        .iter()
        .filter(|(path, text)| fs::read_to_string(root.join(path)).ok().as_ref() != Some(*text))
        .map(|(path, _)| path.clone())
        .collect();
    let dir = root.join("docs/errors");
    if dir.is_dir() {
        for entry in fs::read_dir(&dir)? {
            let path = Path::new("docs/errors").join(entry?.file_name());
            if !pages.contains_key(&path) {
                stale.push(path);
            }
        }
    }
    Ok(stale)
}

fn write(root: &Path, pages: &BTreeMap<PathBuf, String>, stale: &[PathBuf]) -> Result<()> {
    for path in stale {
        let full = root.join(path);
        let Some(text) = pages.get(path) else {
            fs::remove_file(&full)?;
            continue;
        };
        fs::create_dir_all(full.parent().context("a page has a directory")?)?;
        fs::write(&full, text).with_context(|| format!("cannot write {}", full.display()))?;
    }
    Ok(())
}
