//! The engine without the wire: jobs through submit, policy, lease, report and the file store, in one process.
//! `cargo run --release -p coretex-engine --example engine_bench -- [jobs] [in-flight]`; with 0 in flight it only fills

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring program")]

use coretex_domain::job::spec::Spec;
use coretex_domain::session::Lane;
use coretex_domain::{Job, Namespace, Payload};
use coretex_engine::api::*;
use coretex_engine::clock::{SystemClock, SystemDice};
use coretex_engine::{Engine, SessionHandle};
use coretex_ports::Env;
use coretex_store_embedded::{FileStore, Settings as StoreSettings};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

struct Count {
    ended: AtomicU64,
    room: tokio::sync::Semaphore,
}

impl Follow for Count {
    fn ended(&self, _: u64, _: &Arc<Job>) {
        self.ended.fetch_add(1, Ordering::Relaxed);
        self.room.add_permits(1);
    }
}

fn main() {
    let mut args = std::env::args().skip(1).map(|a| a.parse::<u64>().unwrap());
    let jobs = args.next().unwrap_or(1_000_000);
    let in_flight = args.next().unwrap_or(4_096);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(run(jobs, in_flight));
}

async fn run(jobs: u64, in_flight: u64) {
    let dir = std::env::temp_dir().join(format!("coretex-engine-bench-{}", std::process::id()));
    let store = FileStore::open(StoreSettings::new(&dir)).unwrap();
    let env = Env { clock: Arc::new(SystemClock::new()), dice: Arc::new(SystemDice::new()) };
    let engine = Engine::start(Arc::new(store), env, Settings::default()).await.unwrap();
    if in_flight == 0 {
        return fill(&engine, jobs).await;
    }
    worker(&engine).await;
    let count =
        Arc::new(Count { ended: AtomicU64::new(0), room: tokio::sync::Semaphore::new(in_flight as usize) });
    let caller = Caller { namespace: Namespace::new("default"), actor: "".into() };
    let topic: Arc<str> = "job.noop".into();
    let payload = bytes::Bytes::from_static(&[b'x'; 100]);
    let start = Instant::now();
    let mut sent = 0;
    while sent < jobs {
        count.room.acquire_many(64).await.unwrap().forget();
        let asks = (0..64)
            .map(|_| Ask {
                spec: Arc::new(Spec::new(
                    topic.clone(),
                    Payload::json(bytes::Bytes::copy_from_slice(&payload)),
                )),
                job_id: None,
            })
            .collect();
        let follow = FollowAs { sink: count.clone(), first_tag: sent };
        let (engine, caller) = (engine.clone(), caller.clone());
        tokio::spawn(async move { engine.submit(&caller, asks, "", Some(follow)).await.unwrap() });
        sent += 64;
    }
    while count.ended.load(Ordering::Relaxed) < sent {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let secs = start.elapsed().as_secs_f64();
    println!(
        "{{\"what\":\"engine\",\"n\":{sent},\"secs\":{secs:.3},\"per_s\":{:.0},\"stats\":\"{:?}\"}}",
        sent as f64 / secs,
        engine.stats()
    );
    engine.stop().await;
    std::fs::remove_dir_all(dir).unwrap();
}

/// Queues jobs that nobody serves, and says what they weigh.
async fn fill(engine: &Engine, jobs: u64) {
    let caller = Caller { namespace: Namespace::new("default"), actor: "".into() };
    let start = Instant::now();
    for _ in 0..jobs / 64 {
        let asks = (0..64)
            .map(|_| Ask {
                spec: Arc::new(Spec::new(
                    "job.noop",
                    Payload::json(bytes::Bytes::copy_from_slice(&[b'x'; 100])),
                )),
                job_id: None,
            })
            .collect();
        engine.submit(&caller, asks, "", None).await.unwrap();
    }
    let rate = jobs as f64 / start.elapsed().as_secs_f64();
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let rss = status.lines().find(|l| l.starts_with("VmRSS")).unwrap_or_default();
    println!(
        "{{\"what\":\"fill\",\"n\":{jobs},\"per_s\":{rate:.0},\"rss\":\"{rss}\",\"stats\":\"{:?}\"}}",
        engine.stats()
    );
}

async fn worker(engine: &Engine) {
    let lane = Lane { lane_id: "default".into(), topics: vec!["job.noop".into()], slots: 8_192 };
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
        ttl: None,
    };
    let (_, attached) = engine.hello(hello).await.unwrap();
    let handle: Arc<SessionHandle> = Arc::new(attached.handle);
    let mut outbox = attached.outbox;
    let mut granted = 8_192;
    handle.credit(vec![("default".into(), granted)]);
    tokio::spawn(async move {
        let mut seq = 0;
        while let Some(frame) = outbox.next().await {
            if let ServerFrame::Assign { assignments, .. } = frame {
                seq += 1;
                granted += assignments.len() as u64;
                let updates = assignments
                    .iter()
                    .map(|a| {
                        let result = Payload::json(bytes::Bytes::from_static(b"{\"ok\":true}"));
                        Update::new(LeaseName::Id(a.lease_id), UpdateKind::Succeeded(result))
                    })
                    .collect();
                handle.report(seq, updates).await.unwrap();
                handle.credit(vec![("default".into(), granted)]);
            }
        }
    });
}
