//! Processes and directories: one owner at a time, and nothing lost when it is killed.

use crate::fixture::{Dice, assert_clean, open};
use coretex_conformance::block_on;
use coretex_conformance::kit::made;
use coretex_ports::StoreError;
use coretex_store_embedded::{FileStore, Settings};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PLACE: &str = "CORETEX_STORE_TEST_DIR";

fn settings(directory: &Path) -> Settings {
    let mut settings = Settings::new(directory);
    settings.segment_bytes = 1 << 20;
    settings.index_round = Duration::from_millis(20);
    settings.checkpoint_bytes = 256 << 10;
    settings.events_keep_bytes = 2 << 20;
    settings
}

/// Not a test: a process of its own that commits jobs and prints each one that was answered.
#[test]
#[ignore = "started by the tests below"]
fn helper_commits_until_it_is_killed() {
    let Some(directory) = std::env::var_os(PLACE) else { return };
    let mut kit = open(settings(Path::new(&directory)));
    println!("\nready {}", kit.claim.open.len());
    let first = kit.sequences.iter().sum::<u64>();
    for n in first.. {
        if n % 3 == 0 {
            block_on(kit.run(n, u64::MAX / 4));
        } else {
            block_on(kit.submit(n));
        }
        println!("answered {n}");
    }
}

fn helper(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "processes::helper_commits_until_it_is_killed", "--ignored", "--nocapture"])
        .env(PLACE, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_second_process_is_told_who_holds_the_directory() {
    let root = tempfile::tempdir().unwrap();
    let mut child = helper(root.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("ready")));
    let refused = FileStore::open(settings(root.path())).err();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(refused, Some(StoreError::InUse { by: format!("process {}", child.id()) }));
    open(settings(root.path()));
}

#[test]
fn a_killed_process_loses_nothing_it_answered() {
    let root = tempfile::tempdir().unwrap();
    let mut dice = Dice(5);
    let mut answered: Vec<u64> = Vec::new();
    let rounds = 10;
    for _ in 0..rounds {
        let mut child = helper(root.path());
        let id = child.id();
        let reader = BufReader::new(child.stdout.take().unwrap());
        let patience = Duration::from_millis(50 + dice.below(400));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(patience);
            let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
        });
        for line in reader.lines() {
            let Ok(line) = line else { break };
            if let Some(n) = line.strip_prefix("answered ") {
                answered.extend(n.parse::<u64>());
            }
        }
        killer.join().unwrap();
        child.wait().unwrap();
    }
    assert_clean(root.path());
    let kit = open(settings(root.path()));
    for n in &answered {
        assert!(block_on(kit.read(&made(*n))).is_some(), "job {n} was answered and is gone");
    }
    println!("killed {rounds} times: {} jobs answered, 0 lost, fsck clean", answered.len());
}

#[test]
fn a_directory_everyone_may_write_is_refused() {
    let root = tempfile::tempdir().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let refused = FileStore::open(settings(root.path())).err();
    assert!(
        matches!(&refused, Some(StoreError::Unavailable(why)) if why.contains("chmod o-w")),
        "{refused:?}"
    );
}

#[test]
fn a_read_only_directory_is_refused_with_its_name() {
    // A file system nobody can write to, not even root.
    let refused = FileStore::open(settings(Path::new("/proc/self/store"))).err();
    assert!(
        matches!(&refused, Some(StoreError::Unavailable(why)) if why.contains("/proc/self/store")),
        "{refused:?}"
    );
    let root = tempfile::tempdir().unwrap();
    drop(open(settings(root.path())));
    fs::set_permissions(root.path().join("LOCK"), fs::Permissions::from_mode(0o400)).unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o500)).unwrap();
    let outcome = FileStore::open(settings(root.path())).err();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
    match outcome {
        Some(StoreError::Unavailable(why)) => println!("read-only directory: {why}"),
        None => println!("SKIP read-only directory: this user may write anywhere"),
        Some(other) => panic!("{other:?}"),
    }
}

#[test]
fn files_are_private() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("data");
    let mut kit = open(settings(&directory));
    block_on(kit.submit_all(0..100));
    block_on(kit.settle());
    let mut seen = 0;
    for entry in [&directory, &directory.join("log")].into_iter().flat_map(|d| fs::read_dir(d).unwrap()) {
        let meta = entry.unwrap().metadata().unwrap();
        assert_eq!(meta.permissions().mode() & 0o077, 0);
        seen += 1;
    }
    assert!(seen > 4);
}

#[test]
fn a_copied_directory_opens_on_its_own() {
    let root = tempfile::tempdir().unwrap();
    let (here, there) = (root.path().join("here"), root.path().join("there"));
    let mut kit = open(settings(&here));
    let jobs = block_on(kit.submit_all(0..100));
    drop(kit);
    crate::fixture::copy_dir(&here, &there);
    let (a, b) = (open(settings(&here)), open(settings(&there)));
    for job in &jobs {
        block_on(a.assert_stored(job));
        block_on(b.assert_stored(job));
    }
}
