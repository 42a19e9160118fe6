//! Appending frames: finds room, writes, syncs, and knows what a failure means.

use crate::frame::{
    BODY_LEN_MAX, FRAME_HEADER_LEN, Header, Kind, SEGMENT_HEADER_LEN, SegmentHeader, frame_len,
};
use crate::segment::{Place, Segment};
use crate::settings::WriteFault;
use crate::shared::{Shared, lock};
use coretex_ports::StoreError;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a commit waits for disk space before it is refused.
const SPACE_PATIENCE: Duration = Duration::from_secs(5);
const SPACE_RETRY: Duration = Duration::from_millis(50);

/// What a failed append left behind.
pub(super) enum Failure {
    /// Nothing was written and nothing ever will be.
    Nothing(StoreError),
    /// Nobody knows.
    Unknown(String),
}

pub(super) struct Appender {
    shared: Arc<Shared>,
    end: Place,
    segment: Option<Segment>,
    /// Since when something is written and not synced (relaxed stores only).
    unsynced: Option<Instant>,
}

impl Appender {
    pub(super) fn new(shared: Arc<Shared>, end: Place, segment: Option<Segment>) -> Appender {
        Appender { shared, end, segment, unsynced: None }
    }

    pub(super) fn end(&self) -> &Place {
        &self.end
    }

    pub(super) fn end_mut(&mut self) -> &mut Place {
        &mut self.end
    }

    pub(super) fn unsynced_for(&self) -> Option<Duration> {
        self.unsynced.map(|since| since.elapsed())
    }

    pub(super) fn append_claim(&mut self, frame: &mut Vec<u8>, epoch: u64) -> Result<(), Failure> {
        let time = self.end.time;
        self.append(frame, Kind::Claim, 0, epoch, time, true)
    }

    pub(super) fn append_batch(
        &mut self,
        frame: &mut Vec<u8>,
        writes: u32,
        epoch: u64,
        time: u64,
        sync: bool,
    ) -> Result<(), Failure> {
        self.append(frame, Kind::Batch, writes, epoch, time, sync)
    }

    fn append(
        &mut self,
        frame: &mut Vec<u8>,
        kind: Kind,
        writes: u32,
        epoch: u64,
        time: u64,
        sync: bool,
    ) -> Result<(), Failure> {
        let body_len = frame.len() - FRAME_HEADER_LEN;
        if body_len > BODY_LEN_MAX {
            return Err(Failure::Nothing(StoreError::Unsupported("commit more than 64 MiB at once")));
        }
        self.make_room(frame_len(body_len) as u64)?;
        let segment = self.segment.as_ref().ok_or_else(|| Failure::Unknown("no segment is open".into()))?;
        let header = Header {
            kind,
            body_len: body_len as u32,
            writes,
            segment: segment.number,
            ordinal: self.end.ordinal + 1,
            epoch,
            time,
            prev: self.end.hash,
        };
        let hash = header.seal(&self.shared.key, frame);
        self.write(frame)?;
        self.unsynced.get_or_insert_with(Instant::now);
        if sync {
            self.sync().map_err(|e| Failure::Unknown(e.to_string()))?;
        }
        self.end.offset += frame.len() as u64;
        self.end.ordinal += 1;
        self.end.hash = hash;
        self.end.epoch = epoch;
        self.end.time = time;
        let mut segments = lock(&self.shared.segments);
        if let Some(last) = segments.back_mut() {
            last.end = self.end.offset;
        }
        Ok(())
    }

    /// Goes on in the next segment if `len` more bytes do not fit.
    fn make_room(&mut self, len: u64) -> Result<(), Failure> {
        if self.segment.as_ref().is_some_and(|s| self.end.offset + len <= s.size) {
            return Ok(());
        }
        // The frames before must be durable before one that says they are.
        self.sync().map_err(|e| Failure::Unknown(e.to_string()))?;
        let needed = SEGMENT_HEADER_LEN as u64 + len;
        let ready = self.shared.space.take(needed, SPACE_PATIENCE).map_err(Failure::Nothing)?;
        let header = SegmentHeader {
            number: ready.number,
            size: ready.size,
            ordinal: self.end.ordinal,
            prev: self.end.hash,
            key: self.shared.key,
            // The groups at hand have already raised ours; readers need those before them.
            sequences: self.shared.overlay.end().sequences,
        };
        let segment = Segment {
            number: ready.number,
            size: ready.size,
            file: Arc::new(ready.file),
            ordinal: header.ordinal,
            sequences: header.sequences.clone(),
            end: SEGMENT_HEADER_LEN as u64,
        };
        self.segment = Some(segment.clone());
        self.end.segment = ready.number;
        self.end.offset = 0;
        // A segment without a whole header cannot be gone back on, so even a full disk is a failure here.
        self.write(&header.to_bytes()).map_err(|failure| match failure {
            Failure::Nothing(why) => Failure::Unknown(why.to_string()),
            Failure::Unknown(why) => Failure::Unknown(why),
        })?;
        self.end.offset = SEGMENT_HEADER_LEN as u64;
        lock(&self.shared.segments).push_back(segment);
        Ok(())
    }

    /// Writes at the end of the log. A full disk that took no byte is waited for: the place is as it was.
    fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        let deadline = Instant::now() + SPACE_PATIENCE;
        loop {
            match self.write_once(bytes) {
                Ok(()) => return Ok(()),
                Err((0, e)) if e.kind() == io::ErrorKind::StorageFull => {
                    self.shared.space.note_disk_full();
                    if Instant::now() >= deadline {
                        return Err(Failure::Nothing(StoreError::DiskFull));
                    }
                    std::thread::sleep(SPACE_RETRY);
                }
                Err((written, e)) => {
                    return Err(Failure::Unknown(format!(
                        "writing {} bytes to segment {} failed after {written}: {e}",
                        bytes.len(),
                        self.end.segment
                    )));
                }
            }
        }
    }

    fn write_once(&self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let Some(segment) = &self.segment else { return Ok(()) };
        let mut bytes = bytes;
        let mut short = false;
        if let Some(faults) = &self.shared.settings.faults {
            match faults.on_write(segment.number, self.end.offset, bytes) {
                WriteFault::Pass => {}
                WriteFault::Fail(e) => return Err((0, e)),
                WriteFault::Short(len) => {
                    bytes = &bytes[..len.min(bytes.len())];
                    short = true;
                }
            }
        }
        let mut done = 0;
        while done < bytes.len() {
            match segment.file.write_at(&bytes[done..], self.end.offset + done as u64) {
                Ok(0) => return Err((done, io::ErrorKind::WriteZero.into())),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err((done, e)),
            }
        }
        if short { Err((done, io::ErrorKind::WriteZero.into())) } else { Ok(()) }
    }

    /// Makes everything written durable.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        if self.unsynced.take().is_none() {
            return Ok(());
        }
        let Some(segment) = &self.segment else { return Ok(()) };
        let faulty = self.shared.settings.faults.as_ref().map_or(Ok(()), |f| f.on_sync(segment.number));
        faulty.and_then(|()| segment.file.sync_data()).map_err(|e| {
            let why = StoreError::Unavailable(format!("syncing segment {} failed: {e}", segment.number));
            self.shared.fail(why.clone());
            why
        })
    }

    /// Vouches for the last frame where the next one will be. It is a hint: losing it loses no commit.
    pub(super) fn mark(&self) {
        let Some(segment) = &self.segment else { return };
        if self.end.offset + FRAME_HEADER_LEN as u64 > segment.size {
            return;
        }
        let mut mark = vec![0; FRAME_HEADER_LEN];
        let header = Header {
            kind: Kind::Mark,
            body_len: 0,
            writes: 0,
            segment: segment.number,
            ordinal: self.end.ordinal,
            epoch: self.end.epoch,
            time: self.end.time,
            prev: self.end.hash,
        };
        header.seal(&self.shared.key, &mut mark);
        let _ = self.write_once(&mark);
    }
}
