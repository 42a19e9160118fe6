//! Processes of a measurement: started on free ports with their own folders, gone when dropped.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(super) struct Process {
    child: Child,
}

impl Process {
    pub(super) fn spawn(command: &mut Command) -> Result<Process> {
        let child = command.stdin(Stdio::null()).spawn().with_context(|| format!("{command:?}"))?;
        Ok(Process { child })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, bytes.
    pub(super) fn rss(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find(|l| l.starts_with("VmRSS"));
        let kib: u64 = line.and_then(|l| l.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0);
        kib * 1024
    }

    /// Processor time used so far, seconds.
    pub(super) fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        let fields: Vec<&str> = after.split_whitespace().collect();
        let ticks: u64 = [11, 12].iter().filter_map(|n| fields.get(*n)?.parse::<u64>().ok()).sum();
        ticks as f64 / 100.0
    }

    pub(super) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command run to its end; its standard output.
pub(super) fn output(command: &mut Command) -> Result<String> {
    let out = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{command:?}"))?;
    if !out.status.success() {
        bail!("{command:?} ended with {}", out.status);
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

pub(super) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

pub(super) fn wait_for_port(port: u16, patience: Duration) -> Result<Duration> {
    let start = Instant::now();
    while start.elapsed() < patience {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!("nothing listens on port {port} after {patience:?}")
}

/// Waits until the server on `port` says that it can commit; listening comes earlier, while it still recovers.
fn wait_until_ready(port: u16, patience: Duration) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < patience {
        if is_ready(port).unwrap_or(false) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    bail!("the server on port {port} is not ready after {patience:?}")
}

fn is_ready(port: u16) -> std::io::Result<bool> {
    use std::io::{Read as _, Write as _};
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

/// The product's server on its own folder.
pub(super) struct Server {
    pub(super) process: Process,
    pub(super) port: u16,
    pub(super) dir: PathBuf,
}

impl Server {
    pub(super) fn start(name: &str) -> Result<Server> {
        Server::start_with(name, &[])
    }

    /// The same with settings, each as `KEY=VALUE`.
    pub(super) fn start_with(name: &str, settings: &[String]) -> Result<Server> {
        let dir = crate::root().join("target/bench").join(name);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir)?;
        Server::run(dir, settings)
    }

    pub(super) fn start_on(dir: PathBuf) -> Result<Server> {
        Server::run(dir, &[])
    }

    fn run(dir: PathBuf, settings: &[String]) -> Result<Server> {
        let port = free_port()?;
        let log = std::fs::File::create(dir.join("server.log"))?;
        let process = Process::spawn(
            Command::new(coretex())
                .args(["dev", "--listen", &format!("127.0.0.1:{port}"), "--store"])
                .arg(format!("file:{}", dir.join("store").display()))
                .args(settings.iter().flat_map(|setting| ["--set", setting]))
                .stdout(log.try_clone()?)
                .stderr(log),
        )?;
        wait_until_ready(port, Duration::from_secs(120))?;
        Ok(Server { process, port, dir })
    }

    pub(super) fn addr(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A bench sub-command against this server; the JSON lines it printed.
    pub(super) fn bench(&self, args: &[&str]) -> Result<Vec<serde_json::Value>> {
        let text = output(Command::new(coretex()).args(["--addr", &self.addr(), "bench"]).args(args))?;
        Ok(json_lines(&text))
    }

    /// Queues jobs that nobody serves.
    pub(super) fn fill(&self, jobs: &str) -> Result<()> {
        let args = ["--addr", &self.addr(), "bench", "backlog", "--jobs", jobs];
        let mut child =
            Command::new(coretex()).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let out = BufReader::new(child.stdout.take().context("stdout is piped")?);
        let filled = out.lines().map_while(Result::ok).any(|line| line.contains("PREFILLED"));
        let _ = child.kill();
        let _ = child.wait();
        anyhow::ensure!(filled, "the backlog was not filled");
        Ok(())
    }

    pub(super) fn worker(&self) -> Result<Process> {
        self.worker_of(0)
    }

    /// A worker of so many topics; 0: of the one topic of all measures.
    pub(super) fn worker_of(&self, topics: u32) -> Result<Process> {
        Process::spawn(
            Command::new(coretex())
                .args(["--addr", &self.addr(), "bench", "worker", "--topics", &topics.to_string()])
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

pub(super) fn coretex() -> PathBuf {
    crate::root().join("target/release/coretex")
}

pub(super) fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().filter_map(|line| serde_json::from_str(line.trim()).ok()).collect()
}

/// The empty path, built once into `target/floor`.
pub(super) struct Floor {
    binary: PathBuf,
}

impl Floor {
    pub(super) fn build() -> Result<Option<Floor>> {
        let source = std::env::var_os("FLOOR_DIR")
            .map_or_else(|| crate::root().join("../shared/bench/floor"), PathBuf::from);
        if !source.join("Cargo.toml").exists() {
            return Ok(None);
        }
        let copy = crate::root().join("target/floor");
        copy_tree(&source, &copy)?;
        // Its own workspace: it must not become a member of ours.
        let manifest = std::fs::read_to_string(source.join("Cargo.toml"))?;
        std::fs::write(copy.join("Cargo.toml"), format!("{manifest}\n[workspace]\n"))?;
        output(Command::new("cargo").args(["build", "--release", "-q"]).current_dir(&copy))?;
        Ok(Some(Floor { binary: copy.join("target/release/floor") }))
    }

    pub(super) fn server(&self, out_batch: usize) -> Result<(Process, u16)> {
        let port = free_port()?;
        let log = crate::root().join("target/floor/wal.log");
        let mut command = Command::new(&self.binary);
        command
            .args([
                "server",
                &format!("port={port}"),
                "threads=2",
                &format!("out_batch={out_batch}"),
                "prealloc=1",
                "sync=1",
            ])
            .arg(format!("log={}", log.display()))
            .stdout(Stdio::null());
        let process = Process::spawn(&mut command)?;
        wait_for_port(port, Duration::from_secs(10))?;
        Ok((process, port))
    }

    pub(super) fn worker(&self, port: u16, batch: usize) -> Result<Process> {
        Process::spawn(Command::new(&self.binary).args([
            "worker",
            &format!("port={port}"),
            &format!("batch={batch}"),
        ]))
    }

    pub(super) fn run(&self, args: &[String]) -> Result<Vec<serde_json::Value>> {
        Ok(json_lines(&output(Command::new(&self.binary).args(args))?))
    }

    /// Starts a client that fills a backlog first; answers once it is filled.
    pub(super) fn prefill(&self, args: &[String]) -> Result<(Child, BufReader<std::process::ChildStdout>)> {
        let mut child =
            Command::new(&self.binary).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut out = BufReader::new(child.stdout.take().context("stdout is piped")?);
        let mut line = String::new();
        while out.read_line(&mut line)? > 0 {
            if line.contains("PREFILLED") {
                return Ok((child, out));
            }
            line.clear();
        }
        bail!("the backlog of the empty path was not filled")
    }
}

pub(super) fn rest_of(
    mut child: Child,
    mut out: BufReader<std::process::ChildStdout>,
) -> Result<Vec<serde_json::Value>> {
    let mut text = String::new();
    out.read_to_string(&mut text)?;
    child.wait()?;
    Ok(json_lines(&text))
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            if entry.file_name() != "target" {
                copy_tree(&entry.path(), &target)?;
            }
        } else {
            let _ = std::fs::remove_file(&target);
            std::fs::write(&target, std::fs::read(entry.path())?)?;
        }
    }
    Ok(())
}
