//! One process per job: payload on standard input, result on standard output, never through a shell.

use coretex_sdk::{Cancelled, Ctx, HandlerError, JSON, Payload, Secret};
use rustix::process::{Pid, Signal, kill_process_group};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

/// How much of standard error a failure quotes.
const TAIL_MAX: usize = 4 << 10;
/// How long output may still come once the program has ended: from children it left behind.
const LEFTOVER_MAX: Duration = Duration::from_secs(2);

/// A program that is a handler.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Time between SIGTERM and SIGKILL.
    pub kill_grace: Duration,
    /// Largest result, bytes.
    pub result_max: usize,
    /// Media type of results. Absent: told from the bytes.
    pub content_type: Option<String>,
    /// Names of secrets, and of the variables that get their values.
    pub secrets: Vec<(String, String)>,
}

/// How a process ended.
enum Ended {
    Exited(ExitStatus),
    Cancelled(Cancelled),
    TooMuch,
}

impl Program {
    /// Runs one attempt.
    pub async fn run(&self, ctx: Ctx, input: Payload) -> Result<Payload, HandlerError> {
        let mut secrets = Vec::with_capacity(self.secrets.len());
        for (name, variable) in &self.secrets {
            secrets.push((variable, ctx.secret(name).await?));
        }
        let mut child = self.spawn(&ctx, &secrets)?;
        drop(secrets);
        let group = Group(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw));
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feed = tokio::spawn(async move {
            if let Some(mut stdin) = stdin {
                // A program need not read its input.
                let _ = stdin.write_all(input.data()).await;
            }
        });
        let (too_much, mut flooded) = tokio::sync::oneshot::channel();
        let most = self.result_max;
        let mut result = tokio::spawn(async move { collect(stdout, most, too_much).await });
        let talker = ctx.clone();
        let mut tail = tokio::spawn(async move { follow(stderr, &talker).await });
        let (result_handle, tail_handle) = (result.abort_handle(), tail.abort_handle());
        let ended = tokio::select! {
            status = child.wait() => Ended::Exited(status?),
            cancelled = ctx.cancelled() => Ended::Cancelled(cancelled),
            Ok(()) = &mut flooded => Ended::TooMuch,
        };
        match ended {
            Ended::Exited(_) => {}
            Ended::Cancelled(_) => group.end(&mut child, self.kill_grace).await,
            Ended::TooMuch => group.kill(),
        }
        let written = futures::future::join(&mut result, &mut tail);
        let mut written = std::pin::pin!(written);
        let mut gathered = tokio::time::timeout(LEFTOVER_MAX, &mut written).await;
        // What the program left behind ends with it.
        group.kill();
        if gathered.is_err() {
            gathered = tokio::time::timeout(LEFTOVER_MAX, &mut written).await;
        }
        let (bytes, tail_bytes) = gathered.unwrap_or_else(|_| (Ok(Vec::new()), Ok(Vec::new())));
        let (bytes, said) = (bytes.unwrap_or_default(), tail_bytes.unwrap_or_default());
        [&feed.abort_handle(), &result_handle, &tail_handle]
            .into_iter()
            .for_each(tokio::task::AbortHandle::abort);
        match ended {
            Ended::Cancelled(cancelled) => Err(cancelled.into()),
            // A program that met the closed pipe may have ended before the flood was seen.
            Ended::Exited(_) if bytes.len() > most => Err(self.too_large()),
            Ended::TooMuch => Err(self.too_large()),
            Ended::Exited(status) if status.success() => Ok(self.payload(bytes)),
            Ended::Exited(status) => Err(failed(status, &said)),
        }
    }

    fn spawn(&self, ctx: &Ctx, secrets: &[(&String, Secret)]) -> Result<Child, HandlerError> {
        let (program, args) = self.argv.split_first().expect("invariant: clap wants at least the program");
        Command::new(program)
            .args(args)
            .env("CORETEX_JOB_ID", ctx.id())
            .env("CORETEX_ATTEMPT", ctx.attempt().to_string())
            .env("CORETEX_TOPIC", ctx.topic())
            // The worker's credential is not the program's.
            .env_remove("CORETEX_API_KEY")
            .envs(secrets.iter().map(|(variable, secret)| (variable, secret.expose())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| HandlerError::new("SPAWN", format!("cannot start {program}: {error}")))
    }

    fn too_large(&self) -> HandlerError {
        let message = format!("the program wrote more than {} bytes to standard output", self.result_max);
        HandlerError::new("RESULT_TOO_LARGE", message).terminal()
    }

    fn payload(&self, bytes: Vec<u8>) -> Payload {
        let told = || match std::str::from_utf8(&bytes) {
            Ok(_) if serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_ok() => JSON,
            Ok(_) => "text/plain; charset=utf-8",
            Err(_) => "application/octet-stream",
        };
        match &self.content_type {
            Some(content_type) => Payload::new(content_type, bytes),
            None if bytes.is_empty() => Payload::empty(),
            None => Payload::new(told(), bytes),
        }
    }
}

fn failed(status: ExitStatus, tail: &[u8]) -> HandlerError {
    use std::os::unix::process::ExitStatusExt as _;
    let (kind, what) = match (status.code(), status.signal()) {
        (Some(code), _) => (format!("EXIT_{code}"), format!("the program ended with exit code {code}")),
        (None, Some(signal)) => {
            (format!("SIGNAL_{signal}"), format!("the program was ended by signal {signal}"))
        }
        (None, None) => ("EXIT".to_owned(), "the program ended".to_owned()),
    };
    let said = String::from_utf8_lossy(tail);
    let said = said.trim();
    HandlerError::new(kind, if said.is_empty() { what } else { said.to_owned() })
}

/// Reads to the end, or until there is more than may be.
async fn collect(
    source: Option<impl AsyncRead + Unpin>,
    most: usize,
    too_much: tokio::sync::oneshot::Sender<()>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(source) = source {
        // A pipe that breaks has ended.
        let _ = source.take(most as u64 + 1).read_to_end(&mut bytes).await;
    }
    if bytes.len() > most {
        // Nobody listens once the program has ended.
        let _ = too_much.send(());
    }
    bytes
}

/// Passes standard error on as the job's `log`, and keeps its tail.
async fn follow(source: Option<impl AsyncRead + Unpin>, ctx: &Ctx) -> Vec<u8> {
    let mut tail = Vec::new();
    let Some(mut source) = source else { return tail };
    let mut piece = vec![0; TAIL_MAX];
    while let Ok(count @ 1..) = source.read(&mut piece).await {
        ctx.output("log", piece[..count].to_vec());
        tail.extend_from_slice(&piece[..count]);
        let excess = tail.len().saturating_sub(TAIL_MAX);
        tail.drain(..excess);
    }
    tail
}

/// The process group of a program: ended with everything in it, also when the attempt is dropped.
struct Group(Option<Pid>);

impl Group {
    /// SIGTERM, and SIGKILL when the grace is over.
    async fn end(&self, child: &mut Child, grace: Duration) {
        self.signal(Signal::TERM);
        // Waiting fails only when the process is gone.
        let _ = tokio::time::timeout(grace, child.wait()).await;
        self.kill();
    }

    fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // The group may be gone.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests;
