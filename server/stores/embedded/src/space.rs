//! Room for the log: a thread of its own keeps written-out segments ready, made from retired ones where it can,
//! so that the log thread never fills a file with zeroes. The ready ones are also the reserve that lets jobs end
//! while the disk is full.

use crate::directory::{log_dir, private, refuse, sync_dir};
use crate::segment::segment_path;
use crate::settings::Faults;
use crate::shared::lock;
use coretex_ports::StoreError;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Segments kept ready once the log has begun to move.
const READY_AIM: usize = 2;
/// How often space is asked for while the disk is full; recovery is due within 5 s.
const RETRY: Duration = Duration::from_millis(500);
static ZEROES: [u8; 1 << 20] = [0; 1 << 20];

/// A segment file without frames.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) number: u64,
    pub(crate) file: File,
    pub(crate) size: u64,
}

pub(crate) struct Space {
    root: PathBuf,
    segment_bytes: u64,
    faults: Option<Arc<dyn Faults>>,
    state: Mutex<State>,
    changed: Condvar,
    disk_full: AtomicBool,
}

struct State {
    ready: VecDeque<Ready>,
    aim: usize,
    /// Number of the next file to be made.
    next: u64,
    retired: Vec<u64>,
    stop: bool,
    failed: Option<StoreError>,
}

// === impl Space ===

impl Space {
    pub(crate) fn new(
        root: PathBuf,
        segment_bytes: u64,
        faults: Option<Arc<dyn Faults>>,
        ready: VecDeque<Ready>,
        next: u64,
    ) -> Space {
        let state = State { ready, aim: 1, next, retired: Vec::new(), stop: false, failed: None };
        Space {
            root,
            segment_bytes,
            faults,
            state: Mutex::new(state),
            changed: Condvar::new(),
            disk_full: AtomicBool::new(false),
        }
    }

    /// True while no reserve could be made.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed)
    }

    /// Noted by others who met a full disk; cleared when the reserve is whole again.
    pub(crate) fn note_disk_full(&self) {
        self.disk_full.store(true, Ordering::Relaxed);
        self.changed.notify_all();
    }

    /// The next segment, at least `bytes` long; waits for `patience` while there is none.
    pub(crate) fn take(&self, bytes: u64, patience: Duration) -> Result<Ready, StoreError> {
        let deadline = Instant::now() + patience;
        let mut state = lock(&self.state);
        state.aim = READY_AIM;
        let mut ready = loop {
            if let Some(ready) = state.ready.pop_front() {
                break ready;
            }
            if let Some(why) = &state.failed {
                return Err(why.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.stop {
                return Err(StoreError::DiskFull);
            }
            self.changed.notify_all();
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        };
        self.changed.notify_all();
        drop(state);
        if ready.size < bytes
            && let Err(e) = self.fill(&mut ready.file, ready.size, bytes)
        {
            let refusal = refuse("cannot grow a log segment", &e);
            lock(&self.state).ready.push_front(ready);
            return Err(refusal);
        }
        ready.size = ready.size.max(bytes);
        Ok(ready)
    }

    /// Hands back a segment that nobody needs any more.
    pub(crate) fn retire(&self, number: u64) {
        lock(&self.state).retired.push(number);
        self.changed.notify_all();
    }

    pub(crate) fn stop(&self) {
        lock(&self.state).stop = true;
        self.changed.notify_all();
    }

    /// Bytes held ready.
    pub(crate) fn ready_bytes(&self) -> u64 {
        lock(&self.state).ready.iter().map(|r| r.size).sum()
    }

    /// The thread: keeps the aim until it is stopped.
    pub(crate) fn run(&self) {
        let mut state = lock(&self.state);
        loop {
            if state.stop {
                return;
            }
            let lacking = state.ready.len() < state.aim && state.failed.is_none();
            if !lacking {
                self.disk_full.store(false, Ordering::Relaxed);
                let surplus = std::mem::take(&mut state.retired);
                if surplus.is_empty() {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                drop(state);
                for number in surplus {
                    let _ = fs::remove_file(segment_path(&self.root, number));
                }
                state = lock(&self.state);
                continue;
            }
            let (number, retired) = (state.next, state.retired.pop());
            drop(state);
            let made = self.prepare(number, retired);
            state = lock(&self.state);
            match made {
                Ok(ready) => {
                    state.next = number + 1;
                    state.ready.push_back(ready);
                }
                Err(e) => match refuse("cannot make a log segment", &e) {
                    StoreError::DiskFull => {
                        self.disk_full.store(true, Ordering::Relaxed);
                        state =
                            self.changed.wait_timeout(state, RETRY).unwrap_or_else(PoisonError::into_inner).0;
                    }
                    other => state.failed = Some(other),
                },
            }
            self.changed.notify_all();
        }
    }

    /// Makes segment `number`, from a retired one if there is one of the right size.
    pub(crate) fn prepare(&self, number: u64, retired: Option<u64>) -> io::Result<Ready> {
        let path = segment_path(&self.root, number);
        if let Some(old) = retired {
            let old = segment_path(&self.root, old);
            if fs::metadata(&old)?.len() == self.segment_bytes {
                fs::rename(&old, &path)?;
                sync_dir(&log_dir(&self.root))?;
                return Ok(Ready { number, file: private().open(&path)?, size: self.segment_bytes });
            }
            fs::remove_file(&old)?;
        }
        let draft = log_dir(&self.root).join("new");
        let mut file = private().create(true).truncate(true).open(&draft)?;
        if let Err(e) = self.fill(&mut file, 0, self.segment_bytes) {
            // What was written so far must not stand in the way of those who end jobs.
            let _ = fs::remove_file(&draft);
            return Err(e);
        }
        fs::rename(&draft, &path)?;
        sync_dir(&log_dir(&self.root))?;
        Ok(Ready { number, file, size: self.segment_bytes })
    }

    /// Writes zeroes from `from` to `to` and syncs: blocks that are written once need no metadata later.
    fn fill(&self, file: &mut File, from: u64, to: u64) -> io::Result<()> {
        if let Some(faults) = &self.faults {
            faults.on_allocate(to - from)?;
        }
        io::Seek::seek(file, io::SeekFrom::Start(from))?;
        let mut left = to - from;
        while left > 0 {
            let piece = left.min(ZEROES.len() as u64);
            file.write_all(&ZEROES[..piece as usize])?;
            left -= piece;
        }
        file.sync_all()
    }
}
