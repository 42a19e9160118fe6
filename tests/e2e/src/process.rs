//! The real server as a process: started on a port of its own, killed, restarted on the same data, gone when dropped.

use crate::{http1, say};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a start may take before it counts as a hang.
const START_GUARD: Duration = Duration::from_secs(60);
/// Lines of the server's log shown when a test fails.
const LOG_TAIL: usize = 40;

/// Where a server keeps its jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Store {
    Memory,
    /// In a folder of its own that goes with it.
    File,
    /// In this folder, which stays.
    At(PathBuf),
}

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Setup {
    pub store: Store,
    pub env: Vec<(String, String)>,
    pub args: Vec<String>,
}

/// A running server, or one that was killed and can be started again.
pub struct Server {
    setup: Setup,
    scratch: TempDir,
    port: u16,
    child: Option<Child>,
}

// === impl Setup ===

impl Setup {
    pub fn on(store: Store) -> Setup {
        Setup { store, env: Vec::new(), args: Vec::new() }
    }

    pub fn memory() -> Setup {
        Setup::on(Store::Memory)
    }

    pub fn file() -> Setup {
        Setup::on(Store::File)
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl ToString) -> Setup {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Setup {
        self.args.push(arg.into());
        self
    }
}

// === impl Server ===

impl Server {
    /// Starts a server and waits until it is ready.
    pub async fn start(setup: Setup) -> Server {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let mut server = Server { setup, scratch, port: free_port(), child: None };
        server.launch();
        server.ready().await;
        server
    }

    /// Starts a server that may refuse to: what became of it within the patience.
    pub async fn attempt(setup: Setup, patience: Duration) -> Result<Server, (ExitStatus, String)> {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let mut server = Server { setup, scratch, port: free_port(), child: None };
        server.launch();
        let until = Instant::now() + patience;
        while Instant::now() < until {
            if let Some(status) = server.exited() {
                server.child = None;
                return Err((status, server.log()));
            }
            if server.answers_ready().await {
                return Ok(server);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the server neither started nor stopped within {patience:?}:\n{}", server.log_tail());
    }

    /// Starts the process again on the same port and data. Returns how long it took to be ready.
    pub async fn restart(&mut self) -> Duration {
        assert!(self.child.is_none(), "it still runs");
        let begin = Instant::now();
        self.launch();
        self.ready().await;
        begin.elapsed()
    }

    fn launch(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let mut command = coretex();
        command
            .args(["dev", "--listen", &self.addr().to_string(), "--store", &self.store_url()])
            .args(&self.setup.args)
            .envs(self.setup.env.iter().map(|(name, value)| (name, value)))
            .stdout(log.try_clone().expect("the log twice"))
            .stderr(log);
        self.child = Some(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")));
    }

    async fn ready(&mut self) {
        let until = Instant::now() + START_GUARD;
        while !self.answers_ready().await {
            if let Some(status) = self.exited() {
                panic!("the server ended with {status} instead of starting:\n{}", self.log_tail());
            }
            assert!(
                Instant::now() < until,
                "the server is not ready after {START_GUARD:?}:\n{}",
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn answers_ready(&self) -> bool {
        http1::get(self.addr(), "/readyz").await.is_ok_and(|reply| reply.status == 200)
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("the child can be asked")
    }

    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.is_some() && self.exited().is_none()
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().map(Child::id).expect("it runs")
    }

    /// Resident memory, bytes.
    pub fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS"));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// Ends the process as `kill -9` does, and waits for its body.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it can be waited for");
    }

    /// Asks the process to stop, as an operator would.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(self.child.as_ref().expect("it runs"));
        kill_process(pid, signal).expect("it takes the signal");
    }

    /// SIGTERM, then how it ended.
    pub async fn stop(&mut self, patience: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended(patience).await
    }

    /// Waits until the process has ended by itself.
    pub async fn ended(&mut self, patience: Duration) -> ExitStatus {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.exited() {
                self.child = None;
                return status;
            }
            assert!(
                Instant::now() < until,
                "the server has not ended after {patience:?}:\n{}",
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The folder of the file store.
    pub fn data(&self) -> PathBuf {
        match &self.setup.store {
            Store::Memory => panic!("a memory store has no folder"),
            Store::File => self.scratch.path().join("store"),
            Store::At(path) => path.clone(),
        }
    }

    fn store_url(&self) -> String {
        match &self.setup.store {
            Store::Memory => "memory:".to_owned(),
            Store::File | Store::At(_) => format!("file:{}", self.data().display()),
        }
    }

    fn log_path(&self) -> PathBuf {
        self.scratch.path().join("server.log")
    }

    /// All it has written so far, over its restarts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n")
    }

    /// Checks the stopped store with `coretex admin fsck`.
    pub fn fsck(&self) -> Output {
        assert!(self.child.is_none(), "fsck wants a stopped store");
        fsck(&self.data())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let has_panicked = self.log().contains("panicked at");
        if std::thread::panicking() {
            say(&format!("--- the server's log ends so ---\n{}", self.log_tail()));
        } else if has_panicked {
            panic!("the server panicked:\n{}", self.log_tail());
        }
    }
}

/// Runs `coretex admin fsck` on a folder.
pub fn fsck(folder: &Path) -> Output {
    let mut command = coretex();
    command.args(["admin", "fsck"]).arg(folder);
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

/// The command line, without settings that the environment of the tests may hold.
pub fn coretex() -> Command {
    let mut command = Command::new(binary("coretex"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CORETEX_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// A binary of this build: the one `CORETEX_BIN` names, or the one beside the tests.
pub fn binary(name: &str) -> PathBuf {
    if let (Some(path), "coretex") = (std::env::var_os("CORETEX_BIN"), name) {
        return PathBuf::from(path);
    }
    let here = std::env::current_exe().expect("the test has a path");
    let folder = here.ancestors().find(|dir| dir.join(name).is_file());
    folder.unwrap_or_else(|| panic!("`{name}` is not built: cargo build --bin {name}")).join(name)
}

/// A port outside the range the system gives to outgoing connections, so that a restart finds it free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 12_000 + u16::try_from(std::process::id() % 180).expect("small") * 100;
    for _ in 0..100 {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 100;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {base} on");
}
