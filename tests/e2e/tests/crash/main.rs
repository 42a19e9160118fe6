//! `kill -9` on the real binary under load: nothing acknowledged is lost, nothing ends twice, and the store is sound
//! after every kill. The seed is printed; `CORETEX_CRASH_SEED` repeats it.

mod load;
mod verdict;

use coretex_contract::v1::{JobEventType, JobState};
use coretex_e2e::api::{Api, endings, proto_duration, spec, times};
use coretex_e2e::evidence::Evidence;
use coretex_e2e::frames;
use coretex_e2e::process::{Server, Setup};
use coretex_e2e::say;
use coretex_e2e::steady::{Ledger, Steady};
use load::{Load, TOPIC};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

static EVIDENCE: Evidence = Evidence::of("crash");

/// Kills of one round.
const CYCLES: u32 = 20;
const WORKERS: u32 = 4;
const SLOTS: u32 = 25;
/// The promise is 2 s with 10,000 open jobs on an idle machine; this is the guard against hangs.
const READY_GUARD: Duration = Duration::from_secs(20);

fn seed() -> u64 {
    let given = std::env::var("CORETEX_CRASH_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| rand::rng().random_range(0..1_000_000));
    say(&format!("crash: seed {seed} (CORETEX_CRASH_SEED={seed} repeats it)"));
    seed
}

/// What one round of load and kills came to.
#[derive(Default)]
struct Round {
    ready: Vec<Duration>,
    /// How long the clients submitted.
    loaded: Duration,
    ledgers: Vec<Ledger>,
    verdict: verdict::Verdict,
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_under_load_lose_nothing_and_end_nothing_twice() {
    let mut dice = StdRng::seed_from_u64(seed());
    let mut server = Server::start(Setup::file()).await;
    let begin = Instant::now();
    let round = round(&mut server, &mut dice, CYCLES, (200, 3_000)).await;
    note(&round, CYCLES, begin.elapsed());
    round.verdict.check();
}

/// `make soak`: round after round until the time is over, each fully checked, memory watched.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs for CORETEX_SOAK_SECONDS"]
async fn soak() {
    let seconds =
        std::env::var("CORETEX_SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(600);
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut dice = StdRng::seed_from_u64(seed());
    let mut server = Server::start(Setup::file()).await;
    let mut rounds = 0;
    while Instant::now() < until {
        let begin = Instant::now();
        let round = round(&mut server, &mut dice, 3, (5_000, 40_000)).await;
        note(&round, 3, begin.elapsed());
        round.verdict.check();
        rounds += 1;
        say(&format!("soak: round {rounds}, server at {} MiB", server.rss() >> 20));
    }
}

async fn round(server: &mut Server, dice: &mut StdRng, kills: u32, pause_ms: (u64, u64)) -> Round {
    let workers: Vec<Steady> = (0..WORKERS)
        .map(|n| {
            let hello = frames::hello(&format!("crash-{n}"), &[TOPIC], SLOTS, Duration::from_secs(15));
            Steady::start(&server.url(), hello, load::planner())
        })
        .collect();
    let begin = Instant::now();
    let load = Load::start(&server.url(), dice.random());
    let mut round = Round::default();
    let mut unsound = Vec::new();
    for _ in 0..kills {
        let pause = Duration::from_millis(dice.random_range(pause_ms.0..=pause_ms.1));
        tokio::time::sleep(pause).await;
        server.kill();
        unsound.extend(unsoundness(server));
        let ready = server.restart().await;
        assert!(ready < READY_GUARD, "ready only after {ready:?}");
        round.ready.push(ready);
    }
    let book = load.stop().await;
    round.loaded = begin.elapsed();
    let api = Api::to(&server.url());
    round.verdict = verdict::of(&api, book).await;
    round.verdict.unsound = unsound;
    for worker in workers {
        let ledger = worker.stop().await;
        if ledger.overrun > 0 {
            round.verdict.overruns.push(format!("{} jobs beyond the credit", ledger.overrun));
        }
        round.ledgers.push(ledger);
    }
    round
}

/// What `coretex admin fsck` has against the stopped store.
fn unsoundness(server: &Server) -> Option<String> {
    let checked = server.fsck();
    if checked.status.success() {
        return None;
    }
    let said =
        [checked.stdout, checked.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Some(said.lines().take(5).collect::<Vec<_>>().join("; "))
}

fn note(round: &Round, kills: u32, took: Duration) {
    let verdict = &round.verdict;
    let mut ready = round.ready.clone();
    ready.sort();
    let slowest = ready.last().copied().unwrap_or_default();
    let sum = |pick: fn(&Ledger) -> u64| round.ledgers.iter().map(pick).sum::<u64>();
    let (fenced, resumed) = (sum(|l| l.fenced), sum(|l| l.resumed));
    EVIDENCE.add("cycles", kills.into());
    EVIDENCE.add("acked", verdict.acked);
    EVIDENCE.max("acked_per_s", (verdict.acked as f64 / round.loaded.as_secs_f64()) as u64);
    EVIDENCE.add("unknown_resolved", verdict.unknown_resolved);
    EVIDENCE.add("lost", verdict.lost.len() as u64);
    EVIDENCE.add("double_ends", verdict.double_ends.len() as u64);
    EVIDENCE.add("key_conflicts", verdict.conflicts.len() as u64);
    EVIDENCE.add("cancels", verdict.cancels);
    EVIDENCE.add("extra_starts", verdict.extra_starts);
    EVIDENCE.add("fenced", fenced);
    EVIDENCE.add("overruled_by_cancel", sum(|l| l.overruled));
    EVIDENCE.add("resumed", resumed);
    EVIDENCE.max("ready_p99_ms", slowest.as_millis() as u64);
    say(&format!(
        "crash: {kills} kills, {} acked ({:.0}/s), {} unknown resolved, {} lost, {} ended twice, {} key conflicts, \
         {} cancelled, {} extra starts, {fenced} fenced, {resumed} resumes, ready p99 {slowest:?}, {took:?}",
        verdict.acked,
        verdict.acked as f64 / round.loaded.as_secs_f64(),
        verdict.unknown_resolved,
        verdict.lost.len(),
        verdict.double_ends.len(),
        verdict.conflicts.len(),
        verdict.cancels,
        verdict.extra_starts,
    ));
}

/// A worker process of ten slots with a session of one second.
fn worker_process(server: &Server, n: u32) -> Child {
    Command::new(env!("CARGO_BIN_EXE_coretex-e2e-worker"))
        .args([&server.url(), &format!("victim-{n}"), "job.victims", "10", "1000", "30"])
        .stdin(Stdio::null())
        .spawn()
        .expect("the worker starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_workers_and_servers_cost_only_what_is_counted() {
    const JOBS: usize = 600;
    const KILLS: u32 = 10;
    let mut dice = StdRng::seed_from_u64(seed());
    let mut server = Server::start(Setup::file()).await;
    let api = Api::to(&server.url());
    let mut spec = spec("job.victims");
    spec.retry_policy = Some(coretex_contract::v1::RetryPolicy {
        initial_backoff: Some(proto_duration(Duration::from_millis(100))),
        ..Default::default()
    });
    let jobs = api.submit_many(&spec, JOBS).await;
    let mut workers: Vec<Child> = (0..3).map(|n| worker_process(&server, n)).collect();
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(dice.random_range(100..600))).await;
        let n = dice.random_range(0..workers.len());
        workers[n].kill().expect("it can be killed");
        workers[n].wait().expect("it has ended");
        if kill % 4 == 3 {
            server.kill();
            assert_eq!(unsoundness(&server), None);
            server.restart().await;
        }
        workers[n] = worker_process(&server, 3 + kill);
    }
    let mut lost = 0;
    for id in &jobs {
        let job = api.ended(id, Duration::from_secs(60)).await;
        let history = api.history(id).await;
        let starts = times(&history, JobEventType::Started) as u32;
        assert_eq!(endings(&history), 1, "{id}");
        assert_eq!(job.attempts, starts, "{id}: {history:#?}");
        // An attempt is repeated only if it was lost with its worker.
        let failed = u32::from(job.state() == JobState::Failed);
        assert_eq!(starts, job.lost + 1 - failed, "{id}: {history:#?}");
        assert!(failed == 0 || job.lost == 3, "{id}: {job:?}");
        lost += u64::from(job.lost);
    }
    for mut worker in workers {
        let _ = worker.kill();
        let _ = worker.wait();
    }
    EVIDENCE.add("workers_killed", KILLS.into());
    EVIDENCE.add("attempts_lost", lost);
    say(&format!(
        "crash: {KILLS} workers killed, {JOBS} jobs ended once each, {lost} attempts lost and counted"
    ));
}
