//! Backups: whole, consistent, and safe to go on from.

use crate::Harness;
use crate::kit::{Kit, default_ns, made, new_write, open, walk};
use coretex_ports::{StoreError, Write};
use std::sync::Arc;

pub async fn a_backup_is_whole(h: &dyn Harness) {
    let mut kit = open(h).await;
    let Some(directory) = h.backup_directory() else { return };
    let jobs = kit.submit_all(0..200).await;
    let done = kit.run(200, u64::MAX).await;
    let key = kit.key("k", &done.id);
    kit.commit(vec![Write::Key(Arc::new(key.clone())), Write::Secret(4, [4; 32])]).await;
    let report = kit.backup(directory.clone()).await.expect("a backup");
    assert_eq!(report.jobs, 201);
    kit.submit_all(300..310).await;
    let restored = Kit::claim(h.restore(directory).expect("a restored store")).await;
    for job in jobs.iter().chain([&done]) {
        restored.assert_stored(job).await;
    }
    assert_eq!(restored.walk_all(&walk(), 50).await.len(), 201);
    assert_eq!(restored.store.read_key(default_ns(), "k".into()).await, Ok(Some(key)));
    assert_eq!(restored.claim.secrets, [(4, [4; 32])]);
    assert_eq!(restored.claim.open.len(), 200);
    assert!(restored.read(&made(305)).await.is_none());
}

pub async fn a_restored_store_fences_the_old_owner(h: &dyn Harness) {
    let mut kit = open(h).await;
    let Some(directory) = h.backup_directory() else { return };
    kit.submit(1).await;
    kit.backup(directory.clone()).await.expect("a backup");
    let kit = kit.reclaim().await;
    let mut restored = Kit::claim(h.restore(directory).expect("a restored store")).await;
    assert!(restored.epoch > kit.epoch + 1_000_000);
    let job = restored.submit(2).await;
    restored.assert_stored(&job).await;
    let sequences = restored.sequences.clone();
    let restored = restored.reclaim().await;
    assert_eq!(restored.claim.sequences, sequences);
}

pub async fn a_backup_while_writing_is_consistent(h: &dyn Harness) {
    let mut kit = open(h).await;
    let Some(directory) = h.backup_directory() else { return };
    let before = kit.submit_all(0..100).await;
    let pairs: Vec<_> = (100..400).map(|n| (kit.plain(n), kit.plain(n + 1_000))).collect();
    let backup = kit.store.backup(directory.clone());
    for (a, b) in &pairs {
        kit.commit(vec![new_write(a), new_write(b)]).await;
    }
    backup.await.expect("a backup");
    let restored = Kit::claim(h.restore(directory).expect("a restored store")).await;
    for job in &before {
        restored.assert_stored(job).await;
    }
    for (a, b) in &pairs {
        let both = (restored.read(&a.id).await.is_some(), restored.read(&b.id).await.is_some());
        assert_eq!(both.0, both.1, "a group is all there or not at all");
    }
}

pub async fn a_backup_needs_an_empty_directory(h: &dyn Harness) {
    let mut kit = open(h).await;
    let Some(directory) = h.backup_directory() else { return };
    kit.submit(1).await;
    kit.backup(directory.clone()).await.expect("a backup");
    assert!(matches!(kit.backup(directory).await, Err(StoreError::Unavailable(_))));
}
