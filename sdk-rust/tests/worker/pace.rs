//! How many no-op jobs a worker does, and what they cost. Run with `--release --ignored --nocapture`.

use crate::fake::*;
use crate::worker;
use coretex_sdk::raw::v1::connect_request::Frame as Up;
use std::time::Instant;

#[test]
#[ignore = "prints figures; it proves nothing"]
fn no_op_jobs() {
    const JOBS: u64 = 2_000_000;
    let mut fake = None;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("handlers")
        .enable_all()
        .build()
        .unwrap();
    let (addr_to, addr) = std::sync::mpsc::channel();
    let server = std::thread::Builder::new().name("scripted".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let fake = fake.insert(Fake::start().await);
            addr_to.send(fake.addr.clone()).unwrap();
            let (mut conn, _) = fake.welcomed().await;
            let (mut sent, mut done) = (0, 0);
            let mut started = None;
            while done < JOBS {
                let granted = conn.granted.get("default").copied().unwrap_or(0).min(JOBS);
                while sent < granted {
                    started.get_or_insert_with(Instant::now);
                    let to = granted.min(sent + 256);
                    conn.assign((sent + 1..=to).map(|id| assignment(id, "echo", "1"))).await;
                    sent = to;
                }
                if let Some(Up::Report(report)) = conn.recv().await {
                    done += report.updates.len() as u64;
                    conn.ack(u64::MAX);
                }
            }
            started.unwrap().elapsed()
        })
    });
    let builder = worker(&addr.recv().unwrap()).slots(4_096).prefetch(4_096);
    let took = runtime.block_on(async {
        let (_handle, _running) = crate::run(builder);
        tokio::task::spawn_blocking(move || server.unwrap().join().unwrap()).await.unwrap()
    });
    println!("{:.0} jobs/s over the whole loop, scripted server included", JOBS as f64 / took.as_secs_f64());
    let mut worker_seconds = 0.0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
        let Some((head, rest)) = stat.rsplit_once(')') else { continue };
        let name = head.split_once('(').map_or("", |(_, name)| name).to_owned();
        let fields: Vec<i64> = rest.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        // utime and stime, in ticks of 10 ms; the state letter before them is no number.
        let seconds = (fields[10] + fields[11]) as f64 / 100.0;
        if name == "coretex-worker" || name == "handlers" {
            worker_seconds += seconds;
            println!(
                "{name}: {seconds:.2} s of processor time, {:.2} µs per job",
                seconds * 1e6 / JOBS as f64
            );
        }
    }
    println!("{:.0} jobs/s per core of the worker", JOBS as f64 / worker_seconds);
}
