//! An idle store costs nothing: no thread of it wakes up while nothing is asked of it.
#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use coretex_conformance::block_on;
use coretex_conformance::kit::Kit;
use coretex_store_embedded::{FileStore, Settings};
use std::sync::Arc;
use std::time::Duration;

/// Times that threads of the store went to sleep so far.
fn sleeps() -> u64 {
    let mut total = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        let Ok(name) = std::fs::read_to_string(path.join("comm")) else { continue };
        if !name.starts_with("store-") {
            continue;
        }
        let status = std::fs::read_to_string(path.join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        total += line.trim().parse::<u64>().unwrap();
    }
    total
}

#[test]
fn an_idle_store_sleeps() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = Settings::new(root.path());
    settings.segment_bytes = 1 << 20;
    let mut kit = block_on(Kit::claim(Arc::new(FileStore::open(settings).unwrap())));
    block_on(kit.submit_all(0..1_000));
    // The round after the last commit, and the segments made for the next ones.
    std::thread::sleep(Duration::from_millis(1_500));
    let before = sleeps();
    std::thread::sleep(Duration::from_secs(2));
    let woken = sleeps() - before;
    println!("idle for 2 s: {woken} wake-ups");
    assert_eq!(woken, 0);
}
