//! `transform`: a jq filter and data in; what the filter makes of it out.

mod child;
mod filter;

pub use child::answer;

use crate::given::Given;
use crate::{Facts, StepFailure};
use child::{Answer, CPU_MAX, MEMORY_MAX, Question, own_program};
use serde_json::Value;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

/// How filters are run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A program that calls [`answer`] when it is given `arguments`.
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// Filters at a time.
    pub slots: usize,
}

impl Default for Settings {
    /// The program that runs now, as `coretex step jq`.
    fn default() -> Settings {
        let slots = std::thread::available_parallelism().map_or(2, usize::from);
        Settings { program: own_program(), arguments: vec!["step".into(), "jq".into()], slots }
    }
}

const FILTER_MAX: usize = 64 << 10;
const OUTPUTS_MAX: usize = 10_000;
const BYTES_MAX: usize = 4 << 20;
/// From the start of the process to its end.
const WITHIN: Duration = Duration::from_secs(10);
/// Bytes of an answer: the outputs, and what JSON adds to them.
const ANSWER_MAX: u64 = 2 * BYTES_MAX as u64;

/// Filters of strangers, each in a process of its own.
#[derive(Debug)]
pub(crate) struct Filters {
    settings: Settings,
    slots: Semaphore,
}

// === impl Filters ===

impl Filters {
    pub(crate) fn new(settings: Settings) -> Filters {
        let slots = Semaphore::new(settings.slots.clamp(1, 64));
        Filters { settings, slots }
    }

    pub(crate) async fn step(&self, input: Value, facts: &Facts) -> Result<Value, StepFailure> {
        let mut given = Given::read("transform", input, &["jq", "data"])?;
        let (jq, data) = (given.needed_text("jq", FILTER_MAX), given.needed("data"));
        given.finish()?;
        let question = Question { jq, data, outputs_max: OUTPUTS_MAX, bytes_max: BYTES_MAX };
        // Never closed.
        let _slot = self.slots.acquire().await;
        let within = WITHIN.min(facts.within);
        let asked = tokio::time::timeout(within, self.ask(&question)).await;
        let answer = asked.unwrap_or_else(|_| Err(limit(format!("it took longer than {within:?}"))))?;
        match answer {
            Answer::Outputs(mut all) => Ok(match all.len() {
                0 => Value::Null,
                1 => all.pop().unwrap_or_default(),
                _ => Value::Array(all),
            }),
            Answer::Mistake(told) => Err(StepFailure::new("JQ_INVALID", format!("input.jq: {told}"))),
            Answer::Error(told) => Err(StepFailure::new("JQ_ERROR", told)),
            Answer::TooMuch(told) => Err(limit(told)),
        }
    }

    /// Asks a process of its own; it is killed when nobody waits for it any more.
    async fn ask(&self, question: &Question) -> Result<Answer, StepFailure> {
        let broken = |error: &dyn std::fmt::Display| {
            StepFailure::passing("STEP_BROKEN", format!("the process of the filter: {error}"))
        };
        let text = serde_json::to_vec(question).map_err(|error| broken(&error))?;
        let mut child = self.start().map_err(|error| broken(&error))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let write = async {
            if let Some(mut input) = input {
                // One that ends early says so by its status.
                let _ = input.write_all(&text).await;
            }
        };
        let read = async {
            let mut text = Vec::new();
            match output {
                Some(output) => output.take(ANSWER_MAX).read_to_end(&mut text).await.map(|_| text),
                None => Ok(text),
            }
        };
        let ((), text) = tokio::join!(write, read);
        let status = child.wait().await.map_err(|error| broken(&error))?;
        if !status.success() {
            return Err(ended(status));
        }
        let text = text.map_err(|error| broken(&error))?;
        serde_json::from_slice(&text).map_err(|error| broken(&error))
    }

    fn start(&self) -> std::io::Result<Child> {
        Command::new(&self.settings.program)
            .args(&self.settings.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
    }
}

/// A filter that took more than it may. Trying again would take it again.
fn limit(told: impl std::fmt::Display) -> StepFailure {
    StepFailure::new("STEP_LIMIT", format!("the filter was stopped: {told}"))
}

fn ended(status: ExitStatus) -> StepFailure {
    use std::os::unix::process::ExitStatusExt as _;
    match status.signal() {
        // SIGKILL and SIGXCPU: the limit of the processor. The others: memory that was not given, a stack that was full.
        Some(9 | 24) => limit(format!("it took more than {CPU_MAX} s of the processor")),
        Some(_) => {
            limit(format!("it recursed too deep, or took more than {} MiB of memory", MEMORY_MAX >> 20))
        }
        None => {
            let told = format!("the process of the filter ended with {status}");
            StepFailure::passing("STEP_BROKEN", told)
        }
    }
}
