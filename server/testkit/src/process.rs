//! The real binary as a process: started, waited for, killed, started again.

use crate::Error;
use coretex_sdk::Client;
use rustix::process::{Pid, Signal, kill_process};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// How long a server may take until it answers. Recovery of a large store is part of it.
const READY_MAX: Duration = Duration::from_secs(120);

/// Options of a [`ServerProcess`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it starts"]
pub struct ProcessBuilder {
    binary: PathBuf,
    directory: Option<PathBuf>,
    port: u16,
    args: Vec<String>,
    env: Vec<(String, String)>,
    log: Option<PathBuf>,
}

/// `coretex dev` in a process of its own. Killed when dropped.
#[derive(Debug)]
pub struct ServerProcess {
    options: ProcessBuilder,
    child: Child,
    /// Time from its start to its first answer.
    ready_in: Duration,
}

/// The binary under test: `CARGO_BIN_EXE_coretex`, `CORETEX_BIN`, or the one beside the test in the target directory.
pub fn binary() -> Result<PathBuf, Error> {
    for name in ["CARGO_BIN_EXE_coretex", "CORETEX_BIN"] {
        if let Some(path) = std::env::var_os(name) {
            return Ok(path.into());
        }
    }
    let own = std::env::current_exe()?;
    // target/debug/deps/test-0123 → target/debug/coretex
    let beside = own.ancestors().skip(1).take(3).map(|directory| directory.join("coretex"));
    let mut found = beside.filter(|path| path.is_file());
    found.next().ok_or_else(|| {
        format!("no `coretex` beside {}; run `cargo build --bin coretex` first", own.display()).into()
    })
}

/// A port that is free now.
fn free_port() -> Result<u16, Error> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

// === impl ProcessBuilder ===

impl ProcessBuilder {
    /// Keeps jobs in this directory. Default: in memory.
    pub fn directory(mut self, directory: impl AsRef<Path>) -> ProcessBuilder {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// Listens on this port. Default: a free one.
    pub fn port(mut self, port: u16) -> ProcessBuilder {
        self.port = port;
        self
    }

    /// Any setting, by its key in the settings file.
    pub fn set(mut self, key: &str, value: &str) -> ProcessBuilder {
        self.args.extend(["--set".to_owned(), format!("{key}={value}")]);
        self
    }

    /// A variable of its environment.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> ProcessBuilder {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Another binary than the one found by [`binary`].
    pub fn binary(mut self, binary: impl Into<PathBuf>) -> ProcessBuilder {
        self.binary = binary.into();
        self
    }

    /// Where its output goes. Default: to that of the test.
    pub fn log(mut self, path: impl Into<PathBuf>) -> ProcessBuilder {
        self.log = Some(path.into());
        self
    }

    /// Starts it and waits until it answers.
    pub async fn start(mut self) -> Result<ServerProcess, Error> {
        if self.port == 0 {
            self.port = free_port()?;
        }
        let start = Instant::now();
        let mut child = self.spawn()?;
        let give_up = start + READY_MAX;
        let addr = self.addr();
        while !is_ready(&addr).await {
            if let Some(status) = child.try_wait()? {
                return Err(format!("the server ended before it answered: {status}").into());
            }
            if Instant::now() > give_up {
                return Err(format!("the server did not answer within {} s", READY_MAX.as_secs()).into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(ServerProcess { options: self, child, ready_in: start.elapsed() })
    }

    fn addr(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn spawn(&self) -> Result<Child, Error> {
        let store = match &self.directory {
            Some(directory) => format!("file:{}", directory.display()),
            None => "memory:".to_owned(),
        };
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CORETEX_") && name != "CORETEX_LOG") {
                command.env_remove(name);
            }
        }
        let listen = format!("127.0.0.1:{}", self.port);
        command.args(["dev", "--listen", &listen, "--store", &store]).args(&self.args);
        command
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        match &self.log {
            Some(path) => {
                let log = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
                command.stdout(log.try_clone()?).stderr(log);
            }
            None => {
                command.stdout(Stdio::null());
            }
        }
        Ok(command.spawn()?)
    }
}

async fn is_ready(addr: &str) -> bool {
    let builder = Client::builder(addr).retry_for(Duration::ZERO).connect_timeout(Duration::from_secs(2));
    let Ok(client) = builder.call_timeout(Duration::from_secs(2)).connect().await else { return false };
    client.server_info().await.is_ok_and(|server| server.ready)
}

// === impl ServerProcess ===

impl ServerProcess {
    /// Options for one.
    pub fn builder() -> Result<ProcessBuilder, Error> {
        Ok(ProcessBuilder {
            binary: binary()?,
            directory: None,
            port: 0,
            args: Vec::new(),
            env: Vec::new(),
            log: None,
        })
    }

    /// Starts one on a directory.
    pub async fn start(directory: impl AsRef<Path>) -> Result<ServerProcess, Error> {
        ServerProcess::builder()?.directory(directory).start().await
    }

    /// Where it listens, as clients write it.
    pub fn addr(&self) -> String {
        self.options.addr()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.options.port))
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Time from its start to its first answer.
    pub fn ready_in(&self) -> Duration {
        self.ready_in
    }

    /// A client of it.
    pub async fn client(&self) -> coretex_sdk::Result<Client> {
        Client::connect(self.addr()).await
    }

    /// SIGKILL, as a crash. Start it again with [`restart`](ServerProcess::restart).
    pub async fn kill(&mut self) -> Result<(), Error> {
        self.child.kill().await?;
        Ok(())
    }

    /// SIGTERM, and waits until it has left.
    pub async fn stop(&mut self) -> Result<ExitStatus, Error> {
        self.signal(Signal::TERM)?;
        Ok(self.child.wait().await?)
    }

    /// Sends a signal, for example [`Signal::STOP`] to freeze it.
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        kill_process(pid.ok_or("the server has ended")?, signal)?;
        Ok(())
    }

    /// Kills it if it still runs, and starts it on the same directory and port.
    pub async fn restart(mut self) -> Result<ServerProcess, Error> {
        if self.child.try_wait()?.is_none() {
            self.kill().await?;
        }
        self.options.clone().start().await
    }
}
