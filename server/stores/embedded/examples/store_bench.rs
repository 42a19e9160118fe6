//! Figures of the file store: `store_bench [DIR] [JOBS]`.
//!
//! One thread commits jobs in two writes each (made and leased, then done) with many groups on their way, as a
//! shard loop does; then the store is opened again with 10k and 100k open jobs.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program for people, run by hand")]

use coretex_domain::job::{Entry, Event, Job, Lease, Spec};
use coretex_domain::policy::{Answer, Decision, Facts, Policy};
use coretex_domain::{JobId, Namespace, Payload, SessionId, ShardId, Time};
use coretex_ports::{BoxFuture, Group, Outcome, Store, Write};
use coretex_store_embedded::{FileStore, Settings};
use futures::executor::block_on;
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Owner {
    store: FileStore,
    epoch: u64,
    sequences: Box<[u64; 256]>,
    namespace: Namespace,
    topic: Arc<str>,
    worker: Arc<str>,
    lane: Arc<str>,
    decision: Arc<Decision>,
    waiting: VecDeque<BoxFuture<Outcome>>,
    in_flight: usize,
}

fn decision() -> Arc<Decision> {
    let spec = Spec::new("job.echo", Payload::empty());
    match Policy::built_in()
        .judge(Facts { namespace: "default", submitter: None, spec: &spec, config: None }, Time(0))
    {
        Answer::Decided(decision) => decision,
        Answer::Deferred { .. } | Answer::Asked => unreachable!("the built-in policy answers"),
    }
}

impl Owner {
    fn open(directory: &Path, in_flight: usize) -> Owner {
        let store = FileStore::open(Settings::new(directory)).unwrap();
        let claim = block_on(store.claim("bench")).unwrap();
        Owner {
            store,
            epoch: claim.epoch,
            sequences: claim.sequences,
            namespace: Namespace::new("default"),
            topic: "job.echo".into(),
            worker: "worker-1".into(),
            lane: "default".into(),
            decision: decision(),
            waiting: VecDeque::new(),
            in_flight,
        }
    }

    fn apply(&mut self, job: &mut Job, event: Event) {
        let seq = &mut self.sequences[usize::from(job.shard.0)];
        *seq += 1;
        job.apply(Entry { seq: *seq, time: job.update_time, event }).unwrap();
    }

    /// A job as it is after its first commit: submitted, admitted, and leased if `lease`.
    fn make(&mut self, n: u64, lease: bool) -> Job {
        let now = 1_700_000_000_000 + n / 150;
        let shard = ShardId(n.to_le_bytes()[0]);
        let chance = u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 8;
        let spec = Spec {
            topic: self.topic.clone(),
            ..Spec::new(
                "",
                Payload::json(&br#"{"order":12345,"note":"a small payload of 64 bytes or so ....."}"#[..]),
            )
        };
        let seq = &mut self.sequences[usize::from(shard.0)];
        *seq += 1;
        let id = JobId::make(now, chance, shard);
        let mut job = Job::submitted(id, self.namespace.clone(), Arc::new(spec), *seq, Time(now), None);
        job.decision = Some(self.decision.clone());
        self.apply(&mut job, Event::Admitted { place: now << 20 });
        if lease {
            let lease = Lease {
                serial: 1,
                id: n,
                session: SessionId(u128::MAX / 3),
                worker_id: self.worker.clone(),
                lane_id: self.lane.clone(),
            };
            self.apply(&mut job, Event::Dispatched(Box::new(lease)));
        }
        job
    }

    fn finish(&mut self, job: &mut Job) {
        self.apply(job, Event::Started);
        self.apply(job, Event::Succeeded);
        job.result = Some(Payload::json(&br#"{"ok":true}"#[..]));
        job.expire_time = Some(Time(job.create_time.0 + 86_400_000));
    }

    fn commit(&mut self, writes: Vec<Write>) {
        let group = Group { epoch: self.epoch, time: Time(0), writes };
        self.waiting.push_back(self.store.commit(group));
        while self.waiting.len() >= self.in_flight {
            self.drain_one();
        }
    }

    fn drain_one(&mut self) {
        if let Some(answer) = self.waiting.pop_front() {
            assert_eq!(block_on(answer), Outcome::Committed);
        }
    }

    fn drain(&mut self) {
        while !self.waiting.is_empty() {
            self.drain_one();
        }
    }
}

/// CPU seconds per thread name.
fn cpu() -> HashMap<String, f64> {
    let mut seconds = HashMap::new();
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(')') else { continue };
        let name = head.split_once('(').map_or("", |(_, name)| name).to_owned();
        let fields: Vec<&str> = tail.split_whitespace().collect();
        let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        *seconds.entry(name).or_insert(0.0) += (ticks(11) + ticks(12)) / 100.0;
    }
    seconds
}

fn commit_figures(directory: &Path, jobs: u64, per_group: u64, in_flight: usize) {
    let _ = std::fs::remove_dir_all(directory);
    let mut owner = Owner::open(directory, in_flight);
    let before = cpu();
    let start = Instant::now();
    let mut open: VecDeque<Vec<Job>> = VecDeque::new();
    let mut n = 0;
    while n < jobs || !open.is_empty() {
        if n < jobs {
            let made: Vec<Job> = (n..(n + per_group).min(jobs)).map(|n| owner.make(n, true)).collect();
            n += made.len() as u64;
            let writes = made.iter().map(|job| Write::Job { job: Arc::new(job.clone()), fresh: 3 });
            let writes = writes.collect();
            owner.commit(writes);
            open.push_back(made);
        }
        if open.len() > 8 || n >= jobs {
            let mut done = open.pop_front().unwrap();
            done.iter_mut().for_each(|job| owner.finish(job));
            owner.commit(done.into_iter().map(|job| Write::Job { job: Arc::new(job), fresh: 2 }).collect());
        }
    }
    owner.drain();
    let committed = start.elapsed();
    block_on(owner.store.clean(Time(0), 0)).unwrap();
    let indexed = start.elapsed();
    let after = cpu();
    let used = |name: &str| after.get(name).unwrap_or(&0.0) - before.get(name).unwrap_or(&0.0);
    let rate = |time: Duration| jobs as f64 / time.as_secs_f64() / 1e3;
    println!(
        "{per_group:>5} jobs a group, {in_flight:>3} on their way: {:>6.0}k jobs/s committed, {:>6.0}k jobs/s indexed; \
         per million jobs: log {:.2} cpu-s, index {:.2} cpu-s; {} MiB on disk",
        rate(committed),
        rate(indexed),
        used("store-log") * 1e6 / jobs as f64,
        used("store-index") * 1e6 / jobs as f64,
        owner.store.stats().bytes >> 20,
    );
    block_on(owner.store.close()).unwrap();
}

fn recovery_figures(directory: &Path, open: u64) {
    let _ = std::fs::remove_dir_all(directory);
    let mut owner = Owner::open(directory, 64);
    for from in (0..open).step_by(100) {
        let jobs: Vec<Job> = (from..from + 100).map(|n| owner.make(n, n % 2 == 0)).collect();
        owner.commit(
            jobs.into_iter()
                .map(|job| Write::Job { fresh: job.history.len() as u32, job: Arc::new(job) })
                .collect(),
        );
    }
    owner.drain();
    for how in ["dropped before a round", "closed"] {
        if how == "closed" {
            block_on(owner.store.close()).unwrap();
        }
        drop(owner);
        let start = Instant::now();
        owner = Owner::open(directory, 64);
        let ready = start.elapsed();
        println!("{open:>7} open jobs, {how}: open and claimed in {} ms", ready.as_millis());
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().unwrap_or_else(|| "/tmp/coretex-store-bench".into());
    let jobs: u64 = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let directory = Path::new(&directory);
    commit_figures(directory, (jobs / 100).max(1), 1, 1);
    commit_figures(directory, (jobs / 10).max(1), 1, 256);
    commit_figures(directory, jobs, 64, 64);
    commit_figures(directory, jobs, 256, 64);
    recovery_figures(directory, 10_000);
    recovery_figures(directory, 100_000);
    let _ = std::fs::remove_dir_all(directory);
}
