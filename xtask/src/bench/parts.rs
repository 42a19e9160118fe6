//! The measures, one function each, and the table of what they found.

use super::process::{Floor, Server, rest_of};
use anyhow::{Context, Result};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Seconds of a sustained run.
fn sustained() -> u64 {
    std::env::var("SUSTAINED").ok().and_then(|s| s.parse().ok()).unwrap_or(60)
}

/// Figures of one run, a row per measure.
#[derive(Default)]
pub(super) struct Table {
    rows: Vec<[String; 4]>,
}

impl Table {
    pub(super) fn row(&mut self, what: &str, ours: String, floor: Option<String>, ratio: Option<f64>) {
        let ratio = ratio.map_or_else(|| "–".to_owned(), |r| format!("{r:.3}"));
        let row = [what.to_owned(), ours, floor.unwrap_or_else(|| "–".to_owned()), ratio];
        crate::say(&format!("{:<44} {:>22} {:>22} {:>8}", row[0], row[1], row[2], row[3]));
        self.rows.push(row);
    }

    pub(super) fn print(&self) {
        crate::say(&format!("\n{:<44} {:>22} {:>22} {:>8}", "measure", "coretex", "empty path", "ratio"));
        for row in &self.rows {
            crate::say(&format!("{:<44} {:>22} {:>22} {:>8}", row[0], row[1], row[2], row[3]));
        }
    }
}

pub(super) fn number(value: &Value, field: &str) -> f64 {
    value.get(field).and_then(Value::as_f64).unwrap_or(f64::NAN)
}

pub(super) fn last(lines: Vec<Value>) -> Result<Value> {
    lines.into_iter().next_back().context("the program printed no figures")
}

pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(super) fn rate(value: f64) -> String {
    format!("{value:.0}/s")
}

/// End to end: streamed submit, policy, two durable records, worker, at most 4,096 in flight.
pub(super) fn path(floor: Option<&Floor>, runs: usize, table: &mut Table) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..runs {
        if let Some(floor) = floor {
            theirs.push(number(&floor_path(floor, 64, 256, 4_096, 6)?, "per_s"));
        }
        let server = Server::start(&format!("burst-{n}"))?;
        let _worker = server.worker()?;
        let args = ["submit-stream", "--batch", "64", "--in-flight", "4096", "--seconds", "6"];
        ours.push(number(&last(server.bench(&args)?)?, "per_s"));
        crate::say(&format!(
            "   burst {:.0}/s, empty path {:.0}/s",
            ours[n],
            theirs.get(n).copied().unwrap_or(f64::NAN)
        ));
    }
    let yardstick = (!theirs.is_empty()).then(|| median(theirs));
    let burst = median(ours);
    table.row("end to end, burst (6 s)", rate(burst), yardstick.map(rate), yardstick.map(|f| burst / f));
    let server = Server::start("sustained")?;
    let _worker = server.worker()?;
    let seconds = sustained().to_string();
    let args = ["submit-stream", "--batch", "64", "--in-flight", "4096", "--seconds", &seconds];
    let result = last(server.bench(&args)?)?;
    let sustained = number(&result, "per_s");
    let what = format!("end to end, sustained ({seconds} s)");
    table.row(&what, rate(sustained), yardstick.map(rate), yardstick.map(|f| sustained / f));
    table.row("  latency under that load, p50 / p99 ms", millis(&result), None, None);
    let finished = number(&result, "n") as u64;
    let listed = wait_until_listed(&server, finished)?;
    table.row("  every finished job listable after", format!("{:.1} s", listed.as_secs_f64()), None, None);
    table.row(
        "  index follows at",
        rate(finished as f64 / (sustained_secs(&result) + listed.as_secs_f64())),
        None,
        None,
    );
    table.row("  server RSS at the end", mib(server.process.rss()), None, None);
    Ok(())
}

fn sustained_secs(result: &Value) -> f64 {
    number(result, "secs")
}

fn millis(result: &Value) -> String {
    format!("{:.2} / {:.2}", number(result, "p50_us") / 1e3, number(result, "p99_us") / 1e3)
}

fn mib(bytes: u64) -> String {
    format!("{:.0} MB", bytes as f64 / 1e6)
}

/// Time until the index has everything that was finished: the server says how far it lags.
fn wait_until_listed(server: &Server, finished: u64) -> Result<Duration> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(300) {
        let lag = metric(server.port, "coretex_store_lag_records")?;
        if lag == 0.0 {
            crate::say(&format!("   {finished} finished jobs are in the index"));
            return Ok(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("the index still lags after five minutes")
}

fn metric(port: u16, name: &str) -> Result<f64> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let line = text.lines().find(|l| l.starts_with(name)).with_context(|| format!("no metric {name}"))?;
    Ok(line.split_whitespace().next_back().and_then(|v| v.parse().ok()).unwrap_or(f64::NAN))
}

fn floor_path(floor: &Floor, batch: usize, out_batch: usize, window: usize, secs: u64) -> Result<Value> {
    let (_server, port) = floor.server(out_batch)?;
    let _worker = floor.worker(port, out_batch)?;
    std::thread::sleep(Duration::from_millis(200));
    let args =
        ["client".into(), format!("port={port}"), format!("batch={batch}"), format!("window={window}")];
    let more = ["n=20000000".to_string(), format!("secs={secs}")];
    last(floor.run(&[&args[..], &more[..]].concat())?)
}

/// One job in flight: what a single caller feels.
pub(super) fn latency(floor: Option<&Floor>, runs: usize, table: &mut Table) -> Result<()> {
    let (mut p50, mut p99, mut f50, mut f99) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for n in 0..runs {
        if let Some(floor) = floor {
            let value = floor_path(floor, 1, 1, 1, 4)?;
            f50.push(number(&value, "p50_us"));
            f99.push(number(&value, "p99_us"));
        }
        let server = Server::start(&format!("latency-{n}"))?;
        let _worker = server.worker()?;
        let value = last(server.bench(&["latency", "--seconds", "4"])?)?;
        p50.push(number(&value, "p50_us"));
        p99.push(number(&value, "p99_us"));
    }
    for (what, ours, theirs) in [("p50", p50, f50), ("p99", p99, f99)] {
        let yardstick = (!theirs.is_empty()).then(|| median(theirs));
        let ours = median(ours);
        let show = |us: f64| format!("{:.2} ms", us / 1e3);
        table.row(
            &format!("latency, one in flight, {what}"),
            show(ours),
            yardstick.map(show),
            yardstick.map(|f| ours / f),
        );
    }
    Ok(())
}

/// Unary submit-and-wait, 256 in flight over four connections.
pub(super) fn unary(floor: Option<&Floor>, runs: usize, table: &mut Table) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..runs {
        if let Some(floor) = floor {
            let (_server, port) = floor.server(256)?;
            let _worker = floor.worker(port, 256)?;
            std::thread::sleep(Duration::from_millis(200));
            let args = [
                "unary".into(),
                format!("port={port}"),
                "rpc=run".into(),
                "conns=4".into(),
                "conc=256".into(),
                "secs=4".into(),
            ];
            theirs.push(number(&last(floor.run(&args)?)?, "per_s"));
        }
        let server = Server::start(&format!("unary-{n}"))?;
        let _worker = server.worker()?;
        ours.push(number(
            &last(server.bench(&["run", "--in-flight", "256", "--connections", "4", "--seconds", "4"])?)?,
            "per_s",
        ));
    }
    let yardstick = (!theirs.is_empty()).then(|| median(theirs));
    let ours = median(ours);
    table.row(
        "unary submit-and-wait, 256 in flight",
        rate(ours),
        yardstick.map(rate),
        yardstick.map(|f| ours / f),
    );
    Ok(())
}

/// A backlog of 500,000 jobs, drained by one worker process.
pub(super) fn drain(floor: Option<&Floor>, runs: usize, table: &mut Table) -> Result<()> {
    const JOBS: &str = "500000";
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for n in 0..runs {
        if let Some(floor) = floor {
            let (_server, port) = floor.server(256)?;
            let args = [
                "client".into(),
                format!("port={port}"),
                "batch=64".into(),
                "prefill=1".into(),
                format!("n={JOBS}"),
                "secs=60".into(),
            ];
            let (child, out) = floor.prefill(&args)?;
            std::thread::sleep(Duration::from_millis(300));
            let _worker = floor.worker(port, 256)?;
            theirs.push(number(&last(rest_of(child, out)?)?, "per_s"));
        }
        let server = Server::start(&format!("drain-{n}"))?;
        ours.push(number(&last(server.bench(&["backlog", "--jobs", JOBS, "--spawn-worker"])?)?, "per_s"));
    }
    let yardstick = (!theirs.is_empty()).then(|| median(theirs));
    let ours = median(ours);
    table.row("drain of a 500k backlog", rate(ours), yardstick.map(rate), yardstick.map(|f| ours / f));
    Ok(())
}

/// Resident memory idle, and with a million queued jobs of 100 bytes.
pub(super) fn memory(table: &mut Table) -> Result<()> {
    let server = Server::start("memory")?;
    std::thread::sleep(Duration::from_secs(1));
    table.row("RSS idle", mib(server.process.rss()), None, None);
    server.fill("1000000")?;
    std::thread::sleep(Duration::from_secs(5));
    table.row("RSS with 1,000,000 queued jobs", mib(server.process.rss()), None, None);
    Ok(())
}

/// Ten thousand idle worker streams over 64 connections.
pub(super) fn sessions(table: &mut Table) -> Result<()> {
    let server = Server::start("sessions")?;
    let port = server.addr();
    let mut clients = super::process::Process::spawn(
        std::process::Command::new(super::process::coretex())
            .args([
                "--addr",
                &port,
                "bench",
                "sessions",
                "--streams",
                "10000",
                "--connections",
                "64",
                "--seconds",
                "40",
            ])
            .stdout(std::process::Stdio::null()),
    )?;
    let start = Instant::now();
    while metric(server.port, "coretex_worker_sessions").unwrap_or(0.0) < 10_000.0 {
        anyhow::ensure!(
            start.elapsed() < Duration::from_secs(60),
            "10,000 sessions did not come up within a minute"
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    table.row("10k worker streams up after", format!("{:.1} s", start.elapsed().as_secs_f64()), None, None);
    std::thread::sleep(Duration::from_secs(3));
    let (cpu, at) = (server.process.cpu(), Instant::now());
    std::thread::sleep(Duration::from_secs(10));
    let share = (server.process.cpu() - cpu) / at.elapsed().as_secs_f64();
    table.row("10k idle worker streams, RSS", mib(server.process.rss()), None, None);
    table.row("10k idle worker streams, share of a core", format!("{:.0} %", share * 100.0), None, None);
    clients.kill();
    Ok(())
}

/// Time from start to listening after SIGKILL, with open jobs in the store.
pub(super) fn recovery(table: &mut Table) -> Result<()> {
    for jobs in ["10000", "100000"] {
        let mut server = Server::start(&format!("recovery-{jobs}"))?;
        server.fill(jobs)?;
        server.process.kill();
        let dir = server.dir.clone();
        std::mem::forget(server);
        let start = Instant::now();
        let again = Server::start_on(dir)?;
        table.row(
            &format!("ready after SIGKILL, {jobs} open jobs"),
            format!("{:.2} s", start.elapsed().as_secs_f64()),
            None,
            None,
        );
        drop(again);
    }
    Ok(())
}

/// Cost per job from a thousand to a million queued: the curve should be flat.
pub(super) fn curve(table: &mut Table) -> Result<()> {
    for jobs in ["1000", "10000", "100000", "1000000"] {
        let server = Server::start(&format!("curve-{jobs}"))?;
        let fill = server.bench(&["backlog", "--jobs", jobs, "--spawn-worker"])?;
        let drained = number(&last(fill)?, "per_s");
        table.row(&format!("drain with {jobs} queued"), format!("{:.1} us/job", 1e6 / drained), None, None);
    }
    Ok(())
}
