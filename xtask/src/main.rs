//! Chores of the repository: `cargo run -p xtask -- <chore>`. One file per chore.

use std::process::ExitCode;

mod bench;
mod codegen;
mod docs;
mod evidence;
mod tidy;

const USAGE: &str = "usage: cargo run -p xtask -- <chore>

chores:
  codegen [--check]   make the Rust code of the contract; with --check only say whether it is fresh
  docs [--check]      make docs/errors, docs/machines and docs/access from the domain; with --check only say whether they are fresh
  tidy                house rules: dependency law, lengths, names, links
  evidence DIR        print what the suites of this run counted; fail if an expected one did not run
  bench [PART …]      rates and latencies beside the empty path, alternating, in one run";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.first().map(String::as_str) {
        Some("codegen") => codegen::run(&args[1..]),
        Some("docs") => docs::run(&args[1..]),
        Some("tidy") => tidy::run(),
        Some("evidence") => evidence::run(&args[1..]),
        Some("bench") => bench::run(&args[1..]),
        Some("help" | "--help" | "-h") => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        _ => {
            complain(USAGE);
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "a chore talks to its terminal")]
fn say(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "a chore talks to its terminal")]
fn complain(text: &str) {
    eprintln!("{text}");
}

/// The top of the repository.
fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(std::path::Path::new("."))
        .to_path_buf()
}
