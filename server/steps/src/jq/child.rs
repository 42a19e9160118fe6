//! A filter in a process of its own: what it takes of time, memory and stack ends with it.
//!
//! jq can loop, recurse and fill memory without end, and nothing inside of a process can stop that for sure.

use super::filter::{Fault, outputs};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

/// What the process is given on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) jq: String,
    pub(super) data: Value,
    pub(super) outputs_max: usize,
    pub(super) bytes_max: usize,
}

/// What it says on its standard output.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Outputs(Vec<Value>),
    Mistake(String),
    Error(String),
    TooMuch(String),
}

/// Bytes the process may have in memory that is its own.
pub(super) const MEMORY_MAX: u64 = 256 << 20;
/// Seconds of the processor.
pub(super) const CPU_MAX: u64 = 5;
/// Bytes of a question: an input, and what JSON adds to it.
const QUESTION_MAX: u64 = 64 << 20;

/// Answers one question. To be called by a process that does nothing else.
pub fn answer() -> std::io::Result<()> {
    if getrlimit(Resource::Data).maximum != Some(MEMORY_MAX) {
        confine()?;
        // What an allocator has set aside by now is beyond the limits: they hold for the program that comes next.
        return Err(Command::new(own_program()).args(std::env::args_os().skip(1)).exec());
    }
    let mut text = Vec::new();
    std::io::stdin().lock().take(QUESTION_MAX).read_to_end(&mut text)?;
    let question: Question = serde_json::from_slice(&text)?;
    let answer = match outputs(&question.jq, &question.data, question.outputs_max, question.bytes_max) {
        Ok(all) => Answer::Outputs(all),
        Err(Fault::Mistake(told)) => Answer::Mistake(told),
        Err(Fault::Error(told)) => Answer::Error(told),
        Err(Fault::TooMuch(told)) => Answer::TooMuch(told),
    };
    let mut out = std::io::stdout().lock();
    out.write_all(&serde_json::to_vec(&answer)?)?;
    out.flush()
}

/// The program of this process, also after its file was replaced by a newer one.
pub(super) fn own_program() -> PathBuf {
    match cfg!(target_os = "linux") {
        true => PathBuf::from("/proc/self/exe"),
        false => std::env::current_exe().unwrap_or_default(),
    }
}

/// The limits of this process, before it has seen anything of a stranger.
fn confine() -> std::io::Result<()> {
    let limits = [
        (Resource::Data, MEMORY_MAX),
        (Resource::Cpu, CPU_MAX),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nofile, 16),
    ];
    for (resource, most) in limits {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}
