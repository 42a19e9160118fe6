//! Damaged files: a store opens with everything it answered, or refuses. It never loses a job in silence.

use crate::fixture::{
    Dice, Op, Recorder, SEGMENT_BYTES, Verdict, assert_clean, copy_dir, judge, lazy, open, segment_path,
};
use coretex_conformance::block_on;
use coretex_conformance::kit::Kit;
use coretex_domain::Job;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

/// A store with jobs `0..n`, one commit each, dropped without a close. Returns the jobs and the recorded disk.
fn made(directory: &Path, n: u64) -> (Vec<Job>, Vec<Op>) {
    let recorder = Arc::new(Recorder::default());
    let mut settings = lazy(directory);
    settings.faults = Some(recorder.clone());
    let mut kit = open(settings);
    let jobs = (0..n).map(|n| block_on(kit.submit(n))).collect();
    drop(kit);
    let ops = recorder.0.lock().unwrap().clone();
    (jobs, ops)
}

/// Offsets and lengths of the frames written, marks and segment headers left out.
fn frames(ops: &[Op]) -> Vec<(u64, u64, u64)> {
    let frame = |op: &Op| match op {
        Op::Write { segment, offset, bytes } if *offset > 0 && bytes[6] != 3 => {
            Some((*segment, *offset, bytes.len() as u64))
        }
        Op::Write { .. } | Op::Sync => None,
    };
    ops.iter().filter_map(frame).collect()
}

#[test]
fn a_torn_tail_that_nobody_was_told_about_is_dropped() {
    let root = tempfile::tempdir().unwrap();
    let (base, all) = (root.path().join("base"), root.path().join("all"));
    let (jobs, _) = made(&base, 20);
    copy_dir(&base, &all);
    let recorder = Arc::new(Recorder::default());
    let mut settings = lazy(&all);
    settings.faults = Some(recorder.clone());
    let store = coretex_store_embedded::FileStore::open(settings).unwrap();
    let mut kit = block_on(Kit::claim(Arc::new(store)));
    copy_dir(&all, &base);
    let late = block_on(kit.submit(20));
    drop(kit);
    let ops = recorder.0.lock().unwrap().clone();
    let frame = ops.iter().rev().find_map(|op| match op {
        Op::Write { segment, offset, bytes } if bytes[6] != 3 => Some((*segment, *offset, bytes.clone())),
        Op::Write { .. } | Op::Sync => None,
    });
    let (segment, offset, bytes) = frame.unwrap();
    let copy = root.path().join("copy");
    let mut whole = 0;
    for cut in 0..=bytes.len() {
        copy_dir(&base, &copy);
        let file = OpenOptions::new().write(true).open(segment_path(&copy, segment)).unwrap();
        file.write_all_at(&bytes[..cut], offset).unwrap();
        assert_eq!(judge(&copy, &jobs), Verdict::Whole, "cut at {cut}");
        let kit = open(lazy(&copy));
        whole += usize::from(block_on(kit.read(&late.id)).is_some());
    }
    println!(
        "torn tails: {} cuts, all opened with 20 of 20 answered jobs; the unanswered one was there {whole} times",
        bytes.len() + 1
    );
    assert!(whole >= 1);
}

#[test]
fn a_log_cut_short_is_refused_or_whole() {
    let root = tempfile::tempdir().unwrap();
    let base = root.path().join("base");
    let (jobs, ops) = made(&base, 20);
    let frames = frames(&ops);
    let (segment, offset, _) = frames[frames.len() - 2];
    let end = frames.last().map(|(_, offset, len)| offset + len).unwrap();
    let copy = root.path().join("copy");
    let (mut refused, mut whole) = (0, 0);
    for cut in offset..=end {
        copy_dir(&base, &copy);
        let file = OpenOptions::new().write(true).open(segment_path(&copy, segment)).unwrap();
        file.set_len(cut).unwrap();
        match judge(&copy, &jobs) {
            Verdict::Whole => whole += 1,
            Verdict::Refused => refused += 1,
        }
    }
    println!("log cut short: {} cuts, {refused} refused, {whole} whole, 0 silent losses", end - offset + 1);
}

#[test]
fn flipped_bits_in_the_log_are_refused_or_harmless() {
    let root = tempfile::tempdir().unwrap();
    let base = root.path().join("base");
    let (jobs, ops) = made(&base, 60);
    let frames = frames(&ops);
    let (segment, ..) = *frames.last().unwrap();
    let end = frames.last().map(|(_, offset, len)| offset + len).unwrap() + 80;
    let mut places: Vec<u64> = (end.saturating_sub(8 << 10)..end).step_by(8).collect();
    let mut dice = Dice(7);
    places.extend((0..300).map(|_| dice.below(SEGMENT_BYTES)));
    let copy = root.path().join("copy");
    copy_dir(&base, &copy);
    let (mut refused, mut whole) = (0, 0);
    for at in &places {
        copy_dir(&base, &copy);
        flip(&segment_path(&copy, segment), *at, dice.below(8) as u8);
        match judge(&copy, &jobs) {
            Verdict::Whole => whole += 1,
            Verdict::Refused => refused += 1,
        }
    }
    println!(
        "flipped bits in the log: {} places, {refused} refused, {whole} whole, 0 silent losses",
        places.len()
    );
    assert!(refused > 500);
}

fn flip(path: &Path, at: u64, bit: u8) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, at).unwrap();
}

#[test]
fn flipped_bits_in_the_index_are_never_read_as_something_else() {
    let root = tempfile::tempdir().unwrap();
    let base = root.path().join("base");
    let mut kit = open(lazy(&base));
    let jobs: Vec<Job> = (0..400).map(|n| block_on(kit.run(n, u64::MAX / 4))).collect();
    block_on(kit.store.close()).unwrap();
    drop(kit);
    let len = fs::metadata(base.join("index.db")).unwrap().len();
    let mut dice = Dice(11);
    let copy = root.path().join("copy");
    let (mut refused, mut whole, mut missing) = (0, 0, 0);
    let rounds = 300;
    for _ in 0..rounds {
        copy_dir(&base, &copy);
        flip(&copy.join("index.db"), dice.below(len), dice.below(8) as u8);
        let Ok(store) = coretex_store_embedded::FileStore::open(lazy(&copy)) else {
            refused += 1;
            continue;
        };
        let mut lost = false;
        let mut said = false;
        for job in &jobs {
            match block_on(coretex_ports::Store::read(&store, job.namespace.clone(), vec![job.id.clone()])) {
                Ok(found) => match &found[0] {
                    Some(found) => assert_eq!(**found, *job, "a job was changed in silence"),
                    None => lost = true,
                },
                Err(_) => said = true,
            }
        }
        drop(store);
        if said {
            refused += 1;
        } else if lost {
            let report = coretex_store_embedded::fsck(&copy);
            assert!(
                report.is_err() || report.is_ok_and(|report| !report.is_clean()),
                "fsck sees what reads cannot"
            );
            missing += 1;
        } else {
            whole += 1;
        }
    }
    println!(
        "flipped bits in the index: {rounds} places, {refused} refused, {whole} whole, \
         {missing} with rows out of reach that only fsck finds, 0 changed in silence"
    );
}

#[test]
fn a_power_cut_at_any_point_keeps_what_was_answered() {
    let root = tempfile::tempdir().unwrap();
    let (base, work) = (root.path().join("base"), root.path().join("work"));
    // The image before the first recorded write; the index learns nothing afterwards.
    drop(coretex_store_embedded::FileStore::open(lazy(&work)).unwrap());
    for _ in 0..100 {
        if segment_path(&work, 1).exists() {
            break;
        }
        let store = coretex_store_embedded::FileStore::open(lazy(&work)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        drop(store);
    }
    copy_dir(&work, &base);
    let (jobs, ops) = made(&work, 120);
    let mut dice = Dice(3);
    let copy = root.path().join("copy");
    let (cuts, mut dropped) = (200, 0);
    for _ in 0..cuts {
        let cut = dice.below(ops.len() as u64 + 1) as usize;
        copy_dir(&base, &copy);
        let synced = ops[..cut].iter().rposition(|op| matches!(op, Op::Sync)).map_or(0, |at| at + 1);
        // Everything before the last sync is on disk; of the rest any prefix, and of its last write any part.
        let kept = synced + dice.below((cut - synced) as u64 + 1) as usize;
        for (n, op) in ops[..kept].iter().enumerate() {
            let Op::Write { segment, offset, bytes } = op else { continue };
            let path = segment_path(&copy, *segment);
            if !path.exists() {
                fs::write(&path, vec![0; SEGMENT_BYTES as usize]).unwrap();
            }
            let torn = n + 1 == kept && n >= synced;
            let len = if torn { dice.below(bytes.len() as u64 + 1) as usize } else { bytes.len() };
            OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&bytes[..len], *offset).unwrap();
        }
        dropped += cut - kept;
        // The first sync is the claim's; each further one answered one job.
        let answered = ops[..synced].iter().filter(|op| matches!(op, Op::Sync)).count().saturating_sub(1);
        assert_eq!(
            judge(&copy, &jobs[..answered.min(jobs.len())]),
            Verdict::Whole,
            "cut at {cut} of {}",
            ops.len()
        );
    }
    println!(
        "power cuts: {cuts} points over {} operations, {dropped} unsynced ones dropped, 0 answered jobs lost",
        ops.len()
    );
}

#[test]
fn a_log_without_its_index_is_read_from_the_beginning() {
    let root = tempfile::tempdir().unwrap();
    let (jobs, _) = made(root.path(), 50);
    for name in ["index.db", "index.db-wal", "index.db-shm"] {
        let _ = fs::remove_file(root.path().join(name));
    }
    assert_eq!(judge(root.path(), &jobs), Verdict::Whole);
    assert_clean(root.path());
}

#[test]
fn a_missing_log_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut kit = open(lazy(root.path()));
    block_on(kit.submit_all(0..10));
    block_on(kit.store.close()).unwrap();
    drop(kit);
    fs::remove_dir_all(root.path().join("log")).unwrap();
    let refused = coretex_store_embedded::FileStore::open(lazy(root.path())).err();
    assert!(matches!(refused, Some(coretex_ports::StoreError::Corrupt { .. })), "{refused:?}");
}

#[test]
fn fsck_finds_nothing_in_a_sound_store_and_damage_in_a_broken_one() {
    let root = tempfile::tempdir().unwrap();
    let mut settings = lazy(root.path());
    settings.index_round = std::time::Duration::from_millis(20);
    let mut kit = open(settings);
    for n in 0..100 {
        if n % 3 == 0 {
            block_on(kit.run_to_failure(n, u64::MAX / 4));
        } else {
            block_on(kit.run(n, u64::MAX / 4));
        }
    }
    block_on(kit.submit_all(100..2_000));
    drop(kit);
    let report = coretex_store_embedded::fsck(root.path()).unwrap();
    println!("{report:?}");
    assert!(report.is_clean());
    assert_eq!((report.jobs, report.open, report.dead_letters), (2_000, 1_900, 34));
    assert!(report.segments > 1 && report.compared > 0 && report.frames > 100);
    // A job whose history does not fold to its state.
    let mut kit = open(lazy(root.path()));
    let mut liar = kit.plain(9_000);
    liar.state = coretex_domain::job::State::Succeeded;
    block_on(kit.put_new(&liar));
    drop(kit);
    let report = coretex_store_embedded::fsck(root.path()).unwrap();
    assert_eq!(report.findings_total, 1, "{report:?}");
}
