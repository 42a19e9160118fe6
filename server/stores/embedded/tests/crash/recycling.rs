//! Segments that come round again: the log stays bounded, old events are compacted, nothing answered is lost.

use crate::fixture::{assert_clean, open};
use coretex_conformance::block_on;
use coretex_ports::{Row, Scan, StoreError};
use coretex_store_embedded::Settings;
use std::path::Path;
use std::time::Duration;

fn settings(directory: &Path) -> Settings {
    let mut settings = Settings::new(directory);
    settings.segment_bytes = 256 << 10;
    settings.events_keep_bytes = 512 << 10;
    settings.index_round = Duration::from_millis(5);
    settings.checkpoint_bytes = 256 << 10;
    settings
}

fn log_bytes(directory: &Path) -> u64 {
    let files = std::fs::read_dir(directory.join("log")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn the_log_is_recycled_and_old_events_are_compacted() {
    let root = tempfile::tempdir().unwrap();
    let mut kit = open(settings(root.path()));
    let mut jobs = Vec::new();
    for round in 0..40 {
        jobs.extend(block_on(kit.submit_all(round * 500..(round + 1) * 500)));
        block_on(kit.settle());
        if round % 15 == 7 {
            drop(kit);
            kit = open(settings(root.path()));
        }
    }
    let kept = log_bytes(root.path());
    assert!(kept < 4 << 20, "{kept} bytes of log");
    let all = Scan::Events { after: Box::new([0; 256]), limit: 10 };
    let oldest = match block_on(kit.store.scan(all)) {
        Err(StoreError::Compacted { oldest }) => oldest,
        other => panic!("{other:?}"),
    };
    let page = block_on(kit.store.scan(Scan::Events { after: oldest.clone(), limit: 1_000_000 })).unwrap();
    let mut after = oldest.clone();
    for row in &page.rows {
        let Row::Event(event) = row else { panic!("not an event") };
        let seen = &mut after[usize::from(event.shard.0)];
        assert_eq!(event.entry.seq, *seen + 1, "no event is left out");
        *seen = event.entry.seq;
    }
    assert_eq!(after, kit.sequences);
    for job in &jobs {
        block_on(kit.assert_stored(job));
    }
    println!(
        "recycling: {} jobs, {} KiB of log kept, {} of {} events still there",
        jobs.len(),
        kept >> 10,
        page.rows.len(),
        2 * jobs.len()
    );
    drop(kit);
    assert_clean(root.path());
    let kit = open(settings(root.path()));
    assert_eq!(kit.claim.open.len(), jobs.len());
}

#[test]
fn a_small_overlay_slows_commits_and_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings(root.path());
    settings.overlay_bytes_max = 64 << 10;
    settings.index_round = Duration::from_secs(3_600);
    let mut kit = open(settings.clone());
    let jobs = block_on(kit.submit_all(0..5_000));
    for job in &jobs {
        block_on(kit.assert_stored(job));
    }
    drop(kit);
    assert_clean(root.path());
    assert_eq!(open(settings).claim.open.len(), 5_000);
}

#[test]
fn a_relaxed_store_survives_its_process() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings(root.path());
    settings.durability = coretex_store_embedded::Durability::Relaxed;
    let mut kit = open(settings.clone());
    assert_eq!(kit.store.guarantees().ack, coretex_ports::AckLevel::Os);
    let jobs = block_on(kit.submit_all(0..2_000));
    std::thread::sleep(Duration::from_millis(250));
    drop(kit);
    assert_clean(root.path());
    let kit = open(settings);
    for job in &jobs {
        block_on(kit.assert_stored(job));
    }
}
