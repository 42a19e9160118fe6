//! Disks that fail: nothing is answered that is not durable, and nothing more once the disk has lied.

use crate::fixture::{assert_clean, lazy, open};
use coretex_conformance::block_on;
use coretex_conformance::kit::{Kit, new_write};
use coretex_ports::{Outcome, StoreError};
use coretex_store_embedded::{Faults, Settings, WriteFault};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Fails the n-th write or sync from now, or refuses space while it is told to.
#[derive(Default)]
struct Broken {
    writes_left: AtomicU64,
    syncs_left: AtomicU64,
    /// Bytes of the failing write that still get through.
    short: AtomicU64,
    is_full: AtomicBool,
}

fn hits(left: &AtomicU64) -> bool {
    left.load(Ordering::SeqCst) > 0 && left.fetch_sub(1, Ordering::SeqCst) == 1
}

impl Faults for Broken {
    fn on_write(&self, _segment: u64, _offset: u64, bytes: &[u8]) -> WriteFault {
        // Marks are 80 bytes and nobody waits for them.
        if bytes.len() > 80 && hits(&self.writes_left) {
            return match self.short.load(Ordering::SeqCst) {
                0 => WriteFault::Fail(io::Error::from_raw_os_error(5)),
                len => WriteFault::Short(len as usize),
            };
        }
        WriteFault::Pass
    }
    fn on_sync(&self, _segment: u64) -> io::Result<()> {
        if hits(&self.syncs_left) { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
    fn on_allocate(&self, _bytes: u64) -> io::Result<()> {
        if self.is_full.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

fn broken(directory: &Path) -> (Settings, Arc<Broken>) {
    let broken = Arc::new(Broken::default());
    let mut settings = lazy(directory);
    settings.faults = Some(broken.clone());
    (settings, broken)
}

/// Commits until something fails; returns how many were answered, and the outcomes after that.
fn drive(kit: &mut Kit, jobs: u64) -> (u64, Vec<Outcome>) {
    let mut answered = 0;
    let mut after = Vec::new();
    for n in 0..jobs {
        let job = kit.plain(n);
        match block_on(kit.store.commit(kit.group(vec![new_write(&job)]))) {
            Outcome::Committed => {
                assert!(after.is_empty(), "nothing is answered after a failure");
                answered += 1;
            }
            other => after.push(other),
        }
    }
    (answered, after)
}

fn failure_stops_the_store(arm: impl Fn(&Broken, u64)) -> u64 {
    let mut failures = 0;
    for n in 1..=12 {
        let root = tempfile::tempdir().unwrap();
        let (settings, disk) = broken(root.path());
        let mut kit = open(settings.clone());
        arm(&disk, n);
        let (answered, after) = drive(&mut kit, 30);
        assert_eq!(answered, n - 1);
        assert!(matches!(after[0], Outcome::Unknown(_)), "{:?}", after[0]);
        assert!(
            after[1..].iter().all(|o| matches!(o, Outcome::Refused(StoreError::Unavailable(_)))),
            "{after:?}"
        );
        assert!(block_on(kit.store.claim("again")).is_err(), "it must be opened again");
        assert!(block_on(kit.store.read(coretex_conformance::kit::default_ns(), vec![])).is_err());
        drop(kit);
        let kit = open(settings);
        let there = kit.claim.open.len() as u64;
        assert!(there == answered || there == answered + 1, "{there} of {answered}");
        drop(kit);
        assert_clean(root.path());
        failures += 1;
    }
    failures
}

#[test]
fn a_failed_write_stops_the_store() {
    let n = failure_stops_the_store(|disk, n| disk.writes_left.store(n, Ordering::SeqCst));
    println!("failed writes: {n}, all fail-stop, all reopened with every answered job");
}

#[test]
fn a_failed_sync_stops_the_store() {
    let n = failure_stops_the_store(|disk, n| disk.syncs_left.store(n, Ordering::SeqCst));
    println!("failed syncs: {n}, all fail-stop, all reopened with every answered job");
}

#[test]
fn a_short_write_stops_the_store() {
    for len in [1, 63, 79, 80, 200] {
        failure_stops_the_store(|disk, n| {
            disk.short.store(len, Ordering::SeqCst);
            disk.writes_left.store(n, Ordering::SeqCst);
        });
    }
    println!("short writes: 60, all fail-stop, all reopened with every answered job");
}

#[test]
fn pending_commits_behind_a_failure_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let (settings, disk) = broken(root.path());
    let mut kit = open(settings);
    block_on(kit.submit(10_000));
    disk.syncs_left.store(1, Ordering::SeqCst);
    let jobs: Vec<_> = (0..500).map(|n| kit.plain(n)).collect();
    let answers: Vec<_> = jobs.iter().map(|job| kit.store.commit(kit.group(vec![new_write(job)]))).collect();
    let (mut committed, mut unknown, mut refused) = (0, 0, 0);
    for answer in answers {
        match block_on(answer) {
            Outcome::Committed => {
                assert_eq!((unknown, refused), (0, 0));
                committed += 1;
            }
            Outcome::Unknown(_) => unknown += 1,
            Outcome::Refused(_) => refused += 1,
        }
    }
    println!("pipelined over a failed sync: {committed} committed, {unknown} unknown, {refused} refused");
    assert!(unknown > 0 && committed + unknown + refused == 500);
    drop(kit);
    let kit = open(lazy(root.path()));
    let there = kit.claim.open.len();
    assert!((committed + 1..=committed + unknown + 1).contains(&there));
}

#[test]
fn a_full_disk_refuses_growth_lets_jobs_end_and_recovers() {
    let root = tempfile::tempdir().unwrap();
    let (settings, disk) = broken(root.path());
    let mut kit = open(settings);
    let mut jobs = block_on(kit.submit_all(0..50));
    wait_for("a reserve", || kit.store.refuses_growth().is_none());
    disk.is_full.store(true, Ordering::SeqCst);
    // Fill the segment in use: the reserve is taken, and no new one can be made.
    let mut n = 1_000;
    while kit.store.refuses_growth().is_none() {
        block_on(kit.submit(n));
        n += 1;
        assert!(n < 100_000, "growth is never refused");
    }
    assert_eq!(kit.store.refuses_growth(), Some(StoreError::DiskFull));
    for job in &mut jobs {
        kit.apply(job, coretex_domain::job::Event::Cancelled(None));
        block_on(kit.put(job, 1));
        block_on(kit.assert_stored(job));
    }
    disk.is_full.store(false, Ordering::SeqCst);
    let freed = Instant::now();
    wait_for("growth again", || kit.store.refuses_growth().is_none());
    block_on(kit.submit(500));
    println!(
        "full disk: refused growth after {} jobs, 50 of 50 ended, recovered {} ms after space was freed",
        n - 1_000,
        freed.elapsed().as_millis()
    );
    assert!(freed.elapsed() < Duration::from_secs(5));
    drop(kit);
    assert_clean(root.path());
}

#[test]
fn a_disk_full_to_the_last_byte_refuses_and_recovers_after_a_claim() {
    let root = tempfile::tempdir().unwrap();
    let (settings, disk) = broken(root.path());
    let mut kit = open(settings);
    block_on(kit.submit(0));
    disk.is_full.store(true, Ordering::SeqCst);
    let mut n = 1;
    let refused = loop {
        let mut job = kit.plain(n);
        kit.admit(&mut job);
        match block_on(kit.store.commit(kit.group(vec![new_write(&job)]))) {
            Outcome::Committed => n += 1,
            other => break other,
        }
    };
    assert_eq!(refused, Outcome::Refused(StoreError::DiskFull));
    // What may build on the refused one is refused too, until the owner looks.
    let job = kit.plain(n + 1);
    let later = block_on(kit.store.commit(kit.group(vec![new_write(&job)])));
    assert!(matches!(later, Outcome::Refused(StoreError::Unavailable(_))), "{later:?}");
    disk.is_full.store(false, Ordering::SeqCst);
    let freed = Instant::now();
    wait_for("growth again", || kit.store.refuses_growth().is_none());
    let mut kit = block_on(kit.reclaim());
    assert_eq!(kit.claim.open.len() as u64, n);
    block_on(kit.submit(n + 2));
    println!(
        "disk full to the last byte: {n} jobs kept, recovered {} ms after space was freed",
        freed.elapsed().as_millis()
    );
    assert!(freed.elapsed() < Duration::from_secs(5));
}

#[test]
fn the_size_limit_refuses_growth() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = lazy(root.path());
    settings.bytes_max = Some(1 << 20);
    let mut kit = open(settings);
    assert_eq!(kit.store.refuses_growth(), None);
    block_on(kit.submit_all(0..4_000));
    block_on(kit.settle());
    assert!(matches!(kit.store.refuses_growth(), Some(StoreError::Full { max: 1_048_576, .. })));
    block_on(kit.submit(5_000));
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(50), "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
