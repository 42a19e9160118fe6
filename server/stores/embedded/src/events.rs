//! Watching: events read back from the log segments that are still kept.

use crate::frame::{FRAME_HEADER_LEN, Header, Kind, SEGMENT_HEADER_LEN, frame_len};
use crate::segment::{Segment, Sequences, segment_name};
use crate::shared::{Shared, lock};
use coretex_ports::{EventRow, Page, Row, StoreError};
use coretex_records::{Interner, LogWrite, decode_batch};
use std::collections::VecDeque;
use std::os::unix::fs::FileExt as _;
use std::sync::Mutex;

/// Places remembered of watchers that come back for more.
const CURSORS_MAX: usize = 256;
/// Bytes read at a time when looking for the next frame.
const CHUNK: usize = 1 << 20;

/// Where watchers stood.
#[derive(Default)]
pub(crate) struct Cursors(Mutex<VecDeque<Cursor>>);

/// The sequences a watcher had seen, and the place in the log that goes with them.
struct Cursor {
    seen: Sequences,
    segment: u64,
    offset: u64,
}

impl Cursors {
    fn find(&self, after: &[u64; 256]) -> Option<(u64, u64)> {
        let cursors = lock(&self.0);
        cursors.iter().rev().find(|c| *c.seen == *after).map(|c| (c.segment, c.offset))
    }

    fn put(&self, seen: Sequences, segment: u64, offset: u64) {
        let mut cursors = lock(&self.0);
        if cursors.len() >= CURSORS_MAX {
            cursors.pop_front();
        }
        cursors.push_back(Cursor { seen, segment, offset });
    }
}

/// Up to `limit` events after `after`, in the order of the log.
pub(crate) fn scan(
    shared: &Shared,
    cursors: &Cursors,
    interner: &mut Interner,
    after: &[u64; 256],
    limit: usize,
) -> Result<Page, StoreError> {
    let segments: Vec<Segment> = lock(&shared.segments).iter().cloned().collect();
    let Some(first) = segments.first() else { return Ok(Page { rows: Vec::new(), more: false }) };
    if after.iter().zip(first.sequences.iter()).any(|(after, before)| after < before) {
        return Err(StoreError::Compacted { oldest: first.sequences.clone() });
    }
    let known = cursors.find(after);
    // The last segment that begins before anything new; all earlier ones were seen whole.
    let seen_before = |segment: &Segment| after.iter().zip(segment.sequences.iter()).all(|(a, s)| a >= s);
    let start = match known {
        Some((number, _)) => segments.iter().position(|s| s.number == number),
        None => segments.iter().rposition(seen_before),
    };
    let start = start.unwrap_or(0);
    let mut rows = Vec::new();
    let (mut more, mut reached) = (false, None);
    'walk: for (n, segment) in segments.iter().enumerate().skip(start) {
        let mut newest = None;
        let mut offset = match known {
            Some((number, offset)) if number == segment.number => offset,
            Some(_) | None => SEGMENT_HEADER_LEN as u64,
        };
        while offset < segment.end {
            if rows.len() >= limit {
                more = true;
                break 'walk;
            }
            let frame = read_frame(shared, segment, offset)?;
            newest = Some(frame.ordinal);
            if frame.kind == Kind::Batch {
                take(&frame.body, segment, offset, interner, after, &mut rows)?;
            }
            if rows.len() > limit {
                // The rest of this frame is read again for the next page.
                rows.truncate(limit);
                reached = Some((segment.number, offset));
                more = true;
                break 'walk;
            }
            offset += frame.len;
            reached = Some((segment.number, offset));
        }
        if let (Some(newest), Some(next)) = (newest, segments.get(n + 1))
            && newest != next.ordinal
        {
            return Err(StoreError::Corrupt {
                place: format!("log/{} at {offset}", segment_name(segment.number)),
                what: format!("frame {} is damaged", newest + 1),
            });
        }
    }
    if let Some((segment, offset)) = reached {
        let mut seen: Box<[u64; 256]> = Box::new(*after);
        for row in &rows {
            let newest = &mut seen[usize::from(row.shard.0)];
            *newest = (*newest).max(row.entry.seq);
        }
        cursors.put(seen, segment, offset);
    }
    Ok(Page { rows: rows.into_iter().map(Row::Event).collect(), more })
}

struct Frame {
    kind: Kind,
    ordinal: u64,
    body: Vec<u8>,
    len: u64,
}

fn read_frame(shared: &Shared, segment: &Segment, offset: u64) -> Result<Frame, StoreError> {
    let gone = || StoreError::Compacted {
        oldest: lock(&shared.segments).front().map_or_else(|| Box::new([0; 256]), |s| s.sequences.clone()),
    };
    let damaged = |what: &str| StoreError::Corrupt {
        place: format!("log/{} at {offset}", segment_name(segment.number)),
        what: what.into(),
    };
    let mut bytes = vec![0; CHUNK.min((segment.end - offset) as usize)];
    let read =
        |bytes: &mut [u8]| segment.file.read_exact_at(bytes, offset).map_err(|e| damaged(&e.to_string()));
    read(&mut bytes)?;
    let body_len =
        bytes.get(8..12).and_then(|b| <[u8; 4]>::try_from(b).ok()).map_or(0, u32::from_le_bytes) as usize;
    let len = frame_len(body_len);
    if len > bytes.len() && offset + len as u64 <= segment.end {
        bytes = vec![0; len];
        read(&mut bytes)?;
    }
    let parsed = Header::parse(&shared.key, &bytes).filter(|(header, _)| header.segment == segment.number);
    let Some((header, _)) = parsed else {
        // The file may have been taken for a new segment while we read.
        let kept = lock(&shared.segments).iter().any(|s| s.number == segment.number);
        return Err(if kept { damaged("frame fails its checksum") } else { gone() });
    };
    bytes.truncate(FRAME_HEADER_LEN + body_len);
    bytes.drain(..FRAME_HEADER_LEN);
    Ok(Frame { kind: header.kind, ordinal: header.ordinal, body: bytes, len: len as u64 })
}

fn take(
    body: &[u8],
    segment: &Segment,
    offset: u64,
    interner: &mut Interner,
    after: &[u64; 256],
    rows: &mut Vec<EventRow>,
) -> Result<(), StoreError> {
    let damaged = |e: coretex_records::Damaged| StoreError::Corrupt {
        place: format!("log/{} at {offset}", segment_name(segment.number)),
        what: e.to_string(),
    };
    for group in decode_batch(body, interner).map_err(damaged)? {
        for write in group.writes {
            let LogWrite::Job(job) = write else { continue };
            let shard = usize::from(job.shard().0);
            job.event_rows(interner, |row| {
                if row.entry.seq > after[shard] {
                    rows.push(row);
                }
            })
            .map_err(damaged)?;
        }
    }
    Ok(())
}
