//! Runs of workflows without the wire: engine, file store and worker in one process, on all its cores.
//! `cargo run --release -p coretex-engine --example runs_bench -- [runs] [timers]` prints one JSON line per figure.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring program")]

use coretex_domain::job::spec::Spec;
use coretex_domain::session::Lane;
use coretex_domain::{Namespace, Payload, RunId, Span};
use coretex_engine::api::*;
use coretex_engine::clock::{SystemClock, SystemDice};
use coretex_engine::{ApplyWorkflow, Engine, SessionHandle, StartRun};
use coretex_ports::Env;
use coretex_store_embedded::{FileStore, Settings as StoreSettings};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SLOTS: u32 = 8_192;
/// As in the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Starts on their way at a time.
const STARTERS: u64 = 256;

const CHAIN: &str = "
name: chain
steps:
  - { id: a, topic: job.noop, input: { n: \"${input.n}\" } }
  - { id: b, needs: [a], topic: job.noop, input: \"${steps.a.output}\" }
  - { id: c, needs: [b], topic: job.noop, input: \"${steps.b.output}\" }
";
const FAN: &str = "
name: fan
steps:
  - { id: each, for_each: \"${input.items}\", max_parallel: 1000, topic: job.noop, input: \"${item}\" }
";
const NAP: &str = "name: nap\nsteps: [{ id: nap, delay: 30d }]";

fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<u64>().unwrap());
    let runs = args.next().unwrap_or(50_000);
    let timers = args.next().unwrap_or(1_000_000);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    runtime.unwrap().block_on(measure(runs, timers));
}

async fn measure(runs: u64, timers: u64) {
    let dir = std::env::temp_dir().join(format!("coretex-runs-bench-{}", std::process::id()));
    let store = FileStore::open(StoreSettings::new(&dir)).unwrap();
    let env = Env { clock: Arc::new(SystemClock::new()), dice: Arc::new(SystemDice::new()) };
    let settings = Settings { open_jobs_max: u64::MAX, ..Settings::default() };
    let engine = Engine::start(Arc::new(store), env, settings).await.unwrap();
    let hops = chain_of(200);
    for text in [CHAIN, FAN, NAP, &hops] {
        apply(&engine, text).await;
    }
    let _worker = worker(&engine).await;
    latency(&engine).await;
    fan_out(&engine).await;
    drain(&engine, runs).await;
    if timers > 0 {
        weigh(&engine, timers).await;
    }
    engine.stop().await;
    std::fs::remove_dir_all(dir).unwrap();
}

/// A chain of so many steps.
fn chain_of(steps: usize) -> String {
    let step = |n: usize| match n {
        0 => "  - { id: s0, topic: job.noop }\n".to_owned(),
        n => format!("  - {{ id: s{n}, needs: [s{}], topic: job.noop }}\n", n - 1),
    };
    format!("name: hops\nsteps:\n{}", (0..steps).map(step).collect::<String>())
}

fn caller() -> Caller {
    Caller { namespace: Namespace::new("default"), actor: "".into() }
}

async fn apply(engine: &Engine, text: &str) {
    let workflow = Arc::new(coretex_workflow::parse(text).unwrap());
    let apply = ApplyWorkflow { workflow, text: text.into(), revision: 0, comment: "".into() };
    engine.apply_workflow(&caller(), apply, None).await.unwrap();
}

async fn start(engine: &Engine, workflow: &str, input: String) -> RunId {
    let asked = StartRun { workflow: workflow.into(), input: Payload::json(input), ..StartRun::default() };
    engine.start_run(&caller(), asked, "").await.unwrap().0.run.id().clone()
}

async fn end(engine: &Engine, id: &RunId) {
    let view = engine.wait_run(&caller().namespace, id, Span::mins(10)).await.unwrap();
    assert_eq!(view.run.state(), coretex_domain::run::RunState::Succeeded, "{:?}", view.run.error());
}

async fn start_many(engine: &Engine, workflow: &'static str, count: u64) -> Vec<RunId> {
    let starters = (0..STARTERS).map(|starter| {
        let engine = engine.clone();
        tokio::spawn(async move {
            let mut ids = Vec::new();
            for n in (starter..count).step_by(STARTERS as usize) {
                ids.push(start(&engine, workflow, format!("{{\"n\":{n}}}")).await);
            }
            ids
        })
    });
    let mut ids = Vec::new();
    for starter in starters.collect::<Vec<_>>() {
        ids.extend(starter.await.unwrap());
    }
    ids
}

/// Time of a hop, step done to next step done, beside the time of a job.
async fn latency(engine: &Engine) {
    let mut jobs = Vec::new();
    for _ in 0..300 {
        let ask = Ask { spec: Arc::new(Spec::new("job.noop", Payload::json("{}"))), job_id: None };
        let begun = Instant::now();
        let job = engine.submit(&caller(), vec![ask], "", None).await.unwrap().remove(0).unwrap().job;
        engine.wait(&caller().namespace, &job.id, Span::secs(10)).await.unwrap();
        jobs.push(begun.elapsed());
    }
    let mut hops = Vec::new();
    for _ in 0..5 {
        let id = start(engine, "hops", "{}".into()).await;
        end(engine, &id).await;
        let (entries, _) = engine.run_history(&caller().namespace, &id, 0, usize::MAX).await.unwrap();
        let first = entries.first().map_or(0, |entry| entry.time.0);
        let last = entries.last().map_or(0, |entry| entry.time.0);
        hops.push(Duration::from_micros((last - first) * 1_000 / 200));
    }
    let (job, hop) = (middle(&mut jobs), middle(&mut hops));
    let ratio = hop.as_secs_f64() / job.as_secs_f64();
    println!(
        "{{\"what\":\"hop\",\"job_us\":{},\"hop_us\":{},\"ratio\":{ratio:.2}}}",
        job.as_micros(),
        hop.as_micros()
    );
}

fn middle(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// A thousand and ten thousand items, in turn.
async fn fan_out(engine: &Engine) {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..3 {
        for (which, count) in [1_000u32, 10_000].into_iter().enumerate() {
            let items: Vec<u32> = (0..count).collect();
            let begun = Instant::now();
            let id = start(engine, "fan", format!("{{\"items\":{items:?}}}")).await;
            end(engine, &id).await;
            times[which].push(begun.elapsed());
        }
    }
    let [small, large] = &mut times;
    let (small, large) = (middle(small), middle(large));
    let ratio = large.as_secs_f64() / small.as_secs_f64();
    println!(
        "{{\"what\":\"fan-out\",\"of_1000_ms\":{},\"of_10000_ms\":{},\"ratio\":{ratio:.1}}}",
        small.as_millis(),
        large.as_millis()
    );
}

/// Runs that were started before, all at once: how many end per second.
async fn drain(engine: &Engine, runs: u64) {
    engine.pause_topic(&caller(), "job.noop".into(), "until all are started".into(), None).await.unwrap();
    let begun = Instant::now();
    let ids = start_many(engine, "chain", runs).await;
    let started = begun.elapsed().as_secs_f64();
    let begun = Instant::now();
    engine.resume_topic(&caller(), "job.noop".into(), None).await.unwrap();
    // A run without an open job is over, or its next one is made in the same turn.
    while engine.info().open_jobs > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let secs = begun.elapsed().as_secs_f64();
    for id in &ids {
        end(engine, id).await;
    }
    println!(
        "{{\"what\":\"three steps\",\"runs\":{runs},\"started_per_s\":{:.0},\"runs_per_s\":{:.0}}}",
        runs as f64 / started,
        runs as f64 / secs
    );
}

/// Runs that only wait: what they weigh, and what they do meanwhile.
async fn weigh(engine: &Engine, timers: u64) {
    let before = rss();
    let begun = Instant::now();
    drop(start_many(engine, "nap", timers).await);
    let rate = timers as f64 / begun.elapsed().as_secs_f64();
    // What is on its way to the index is not theirs.
    while engine.stats().lag > 0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let grown = rss().saturating_sub(before);
    let (commits, cpu) = (engine.stats().commits, cpu_ms());
    tokio::time::sleep(Duration::from_secs(10)).await;
    println!(
        "{{\"what\":\"timers\",\"timers\":{timers},\"started_per_s\":{rate:.0},\"bytes_each\":{},\"commits_in_10_s\":{},\"cpu_ms_in_10_s\":{}}}",
        grown / timers,
        engine.stats().commits - commits,
        cpu_ms() - cpu
    );
}

/// Resident bytes of this process.
fn rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1_024
}

/// Time on a core so far.
fn cpu_ms() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks * 10
}

async fn worker(engine: &Engine) -> Arc<SessionHandle> {
    let lane = Lane { lane_id: "default".into(), topics: vec!["job.noop".into()], slots: SLOTS };
    let hello = Hello {
        namespace: Namespace::new("default"),
        principal: "".into(),
        worker_id: "w".into(),
        pool: "".into(),
        capabilities: vec![],
        labels: vec![],
        lanes: vec![lane],
        sdk: "".into(),
        host: "".into(),
        heartbeat: None,
        ttl: Some(Span::hours(1)),
    };
    let (_, attached) = engine.hello(hello).await.unwrap();
    let handle: Arc<SessionHandle> = Arc::new(attached.handle);
    let mut outbox = attached.outbox;
    let mut granted = u64::from(SLOTS);
    handle.credit(vec![("default".into(), granted)]);
    let reporting = handle.clone();
    tokio::spawn(async move {
        let mut seq = 0;
        while let Some(frame) = outbox.next().await {
            if let ServerFrame::Assign { assignments, .. } = frame {
                seq += 1;
                granted += assignments.len() as u64;
                let done = |a: &Assignment| {
                    let result = Payload::json(bytes::Bytes::from_static(b"{\"ok\":true}"));
                    Update::new(LeaseName::Id(a.lease_id), UpdateKind::Succeeded(result))
                };
                reporting.report(seq, assignments.iter().map(done).collect()).await.unwrap();
                reporting.credit(vec![("default".into(), granted)]);
            }
        }
    });
    handle
}
