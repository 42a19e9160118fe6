//! Worker processes of the demo.

use crate::outcome::{Failure, Outcome};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::process::{Child, Command};

/// How long a worker may take to leave.
const LEAVE_MAX: Duration = Duration::from_secs(8);

/// The processes, each with its name. Ended when dropped.
pub(super) struct Cast {
    own: PathBuf,
    logs: PathBuf,
    members: Vec<(String, Child)>,
}

impl Cast {
    /// Nobody yet. Logs go into a directory.
    pub(super) fn new(logs: &Path) -> Outcome<Cast> {
        let own =
            std::env::current_exe().map_err(|error| Failure::machine("cannot find this program", error))?;
        Ok(Cast { own, logs: logs.to_owned(), members: Vec::new() })
    }

    /// The program every process is.
    pub(super) fn program(&self) -> &Path {
        &self.own
    }

    /// Starts a process of this very program: the words of `line`, then `rest` as it is.
    pub(super) fn start(&mut self, name: &str, line: &str, rest: &[&str]) -> Outcome {
        let path = self.logs.join(format!("{name}.log"));
        let log = std::fs::File::create(&path)
            .map_err(|error| Failure::machine(format!("cannot write {}", path.display()), error))?;
        let other = log.try_clone().map_err(|error| Failure::machine("cannot share a log", error))?;
        let mut command = Command::new(&self.own);
        for (variable, _) in std::env::vars_os() {
            // The demo is its own world, whatever server this shell is set up for.
            if variable.to_str().is_some_and(|name| name.starts_with("CORETEX_") && name != "CORETEX_LOG") {
                command.env_remove(variable);
            }
        }
        let child = command
            .args(line.split_whitespace())
            .args(rest)
            .stdin(std::process::Stdio::null())
            .stdout(log)
            .stderr(other)
            .kill_on_drop(true)
            .spawn();
        let child = child.map_err(|error| Failure::machine(format!("cannot start {name}"), error))?;
        self.members.push((name.to_owned(), child));
        Ok(())
    }

    /// Ends a process as a power cut would. Says its process id.
    pub(super) async fn kill(&mut self, name: &str) -> Outcome<u32> {
        let at = self.members.iter().position(|(member, _)| member == name);
        let Some(at) = at else { return Err(Failure::Machine(format!("there is no worker {name}"))) };
        let (_, mut child) = self.members.remove(at);
        let pid = child.id().unwrap_or_default();
        child.kill().await.map_err(|error| Failure::machine(format!("cannot kill {name}"), error))?;
        Ok(pid)
    }

    /// Asks everybody to leave, and ends those that do not.
    pub(super) async fn leave(&mut self) {
        for (_, child) in &self.members {
            if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
                // It may have left by itself.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        for (_, mut child) in self.members.drain(..) {
            if tokio::time::timeout(LEAVE_MAX, child.wait()).await.is_err() {
                // Gone either way.
                let _ = child.kill().await;
            }
        }
    }
}
