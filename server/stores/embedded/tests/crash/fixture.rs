//! What the crash tests share: small stores, recorded disks, copies of directories.

use coretex_conformance::block_on;
use coretex_conformance::kit::Kit;
use coretex_domain::Job;
use coretex_ports::{Store, StoreError};
use coretex_store_embedded::{Faults, FileStore, Settings, WriteFault, fsck};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(crate) const SEGMENT_BYTES: u64 = 256 << 10;

/// Small segments; the index waits until it is asked, so that the log alone has to hold everything.
pub(crate) fn lazy(directory: &Path) -> Settings {
    let mut settings = Settings::new(directory);
    settings.segment_bytes = SEGMENT_BYTES;
    settings.index_round = Duration::from_secs(3_600);
    settings.readers = 1;
    settings
}

pub(crate) fn open(settings: Settings) -> Kit {
    let store = FileStore::open(settings).unwrap();
    block_on(Kit::claim(Arc::new(store)))
}

pub(crate) fn copy_dir(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

pub(crate) fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join("log").join(format!("{number:016}.log"))
}

/// What became of a damaged copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Opened, and every answered job is there as it was.
    Whole,
    /// Refused as corrupt, at opening or at reading.
    Refused,
}

/// Opens a damaged copy and looks for every answered job. A job that is missing or changed without a word is
/// what must never happen.
pub(crate) fn judge(directory: &Path, jobs: &[Job]) -> Verdict {
    let store = match FileStore::open(lazy(directory)) {
        Ok(store) => store,
        Err(StoreError::Corrupt { .. }) => return Verdict::Refused,
        Err(other) => panic!("a damaged store must say that it is corrupt, said {other:?}"),
    };
    for job in jobs {
        match block_on(store.read(job.namespace.clone(), vec![job.id.clone()])) {
            Ok(found) => {
                assert_eq!(found[0].as_deref(), Some(job), "job {} was silently lost or changed", job.id)
            }
            Err(StoreError::Corrupt { .. }) => return Verdict::Refused,
            Err(other) => panic!("reading a damaged store said {other:?}"),
        }
    }
    match block_on(store.claim("judge")) {
        Ok(_) => Verdict::Whole,
        Err(StoreError::Corrupt { .. }) => Verdict::Refused,
        Err(other) => panic!("claiming a damaged store said {other:?}"),
    }
}

pub(crate) fn assert_clean(directory: &Path) {
    let report = fsck(directory).unwrap();
    assert!(report.is_clean(), "{report:#?}");
}

/// One thing the log asked of the disk.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    Write { segment: u64, offset: u64, bytes: Vec<u8> },
    Sync,
}

/// A disk that remembers what it was asked.
#[derive(Default)]
pub(crate) struct Recorder(pub(crate) Mutex<Vec<Op>>);

impl Faults for Recorder {
    fn on_write(&self, segment: u64, offset: u64, bytes: &[u8]) -> WriteFault {
        self.0.lock().unwrap().push(Op::Write { segment, offset, bytes: bytes.to_vec() });
        WriteFault::Pass
    }
    fn on_sync(&self, _segment: u64) -> io::Result<()> {
        self.0.lock().unwrap().push(Op::Sync);
        Ok(())
    }
}

/// Numbers that look like chance and are the same every time.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
