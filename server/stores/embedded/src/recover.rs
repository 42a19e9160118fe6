//! Opening: the index at its watermark, then the log after it. Only a torn tail that nobody was told about is
//! dropped; everything else that fails a check is refused, with file and offset (I-39).

use crate::frame::{FRAME_HEADER_LEN, Header, Kind, SEGMENT_HEADER_LEN, find_later};
use crate::index::Identity;
use crate::index::read::Reader;
use crate::overlay::Jobs;
use crate::segment::{Found, Place, Segment, segment_name};
use crate::space::Ready;
use coretex_domain::JobKey;
use coretex_ports::{StoreError, Write};
use coretex_records::{Damaged, Interner, LogWrite, decode_batch};
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

/// What the log says beyond the index.
pub(crate) struct Recovered {
    pub(crate) jobs: Jobs,
    pub(crate) others: Vec<Write>,
    pub(crate) end: Place,
    /// Segments with frames, oldest first.
    pub(crate) segments: VecDeque<Segment>,
    /// Segments that were made and never used.
    pub(crate) ready: VecDeque<Ready>,
    /// Number for the next new segment.
    pub(crate) next: u64,
}

fn corrupt(segment: u64, offset: u64, what: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt {
        place: format!("log/{} at {offset}", segment_name(segment)),
        what: what.to_string(),
    }
}

/// Reads what the log holds after the watermark of `identity`. `write` also repairs and makes durable.
pub(crate) fn recover(
    identity: &Identity,
    found: Vec<Found>,
    reader: &mut Reader,
    write: bool,
) -> Result<Recovered, StoreError> {
    let (used, unused) = divide(identity, found)?;
    let next =
        used.iter().chain(&unused).map(|f| f.number).max().unwrap_or(0).max(identity.place.segment - 1) + 1;
    let mut replay = Replay {
        reader,
        interner: Interner::default(),
        jobs: Jobs::default(),
        others: Vec::new(),
        sequences: identity.place.sequences.clone(),
    };
    let mut end = identity.place.clone();
    let mut segments = VecDeque::new();
    for (n, found) in used.into_iter().enumerate() {
        let Some(header) = found.header else { continue };
        let mut segment = Segment {
            number: found.number,
            size: header.size,
            file: Arc::new(found.file),
            ordinal: header.ordinal,
            sequences: header.sequences,
            end: header.size,
        };
        if found.number >= identity.place.segment {
            enter(&mut end, &segment, header.ordinal, header.prev, n == 0)?;
            let from = end.offset;
            let last = replay_segment(identity, &segment, &mut end, |header, body| {
                replay.take(header, body, found.number)
            })?;
            segment.end = end.offset;
            if write && end.offset > from {
                rewrite(&segment, last, end.offset)?;
            }
        }
        segments.push_back(segment);
    }
    end.sequences.clone_from(&replay.sequences);
    check_end(&end, &segments, identity)?;
    trim_ends(&mut segments, identity, &end)?;
    let ready = unused.into_iter().map(|f| Ready { number: f.number, file: f.file, size: f.len }).collect();
    Ok(Recovered { jobs: replay.jobs, others: replay.others, end, segments, ready, next })
}

/// Parts files with a header from those never used, and checks that the parting is clean.
fn divide(identity: &Identity, found: Vec<Found>) -> Result<(Vec<Found>, Vec<Found>), StoreError> {
    let (mut used, mut unused) = (Vec::new(), Vec::new());
    for file in found {
        match &file.header {
            Some(header) => {
                if header.key != identity.key {
                    return Err(corrupt(file.number, 0, "segment of another store"));
                }
                if header.size != file.len {
                    let what =
                        format!("segment is {} bytes long, it was made with {}", file.len, header.size);
                    return Err(corrupt(file.number, file.len, what));
                }
                if let Some(lost) = unused.first() {
                    let lost: &Found = lost;
                    return Err(corrupt(lost.number, 0, "segment header fails its checksum"));
                }
                if used.last().is_some_and(|last: &Found| last.number + 1 != file.number) {
                    return Err(corrupt(file.number - 1, 0, "segment is missing"));
                }
                used.push(file);
            }
            None if file.number < identity.place.segment
                || (file.number == identity.place.segment && identity.place.offset > 0) =>
            {
                return Err(corrupt(file.number, 0, "segment header fails its checksum"));
            }
            None => unused.push(file),
        }
    }
    // A header that was torn leaves no frame behind it; one that was damaged does.
    for file in &unused {
        let bytes = read_from(&file.file, 0, file.len, file.number)?;
        if find_later(&identity.key, &bytes, file.number, 0).is_some() {
            return Err(corrupt(file.number, 0, "segment header fails its checksum"));
        }
    }
    Ok((used, unused))
}

/// Moves from one segment to the next: the new one must go on where the old one ends.
fn enter(
    end: &mut Place,
    segment: &Segment,
    ordinal: u64,
    prev: crate::frame::Hash,
    is_first: bool,
) -> Result<(), StoreError> {
    if segment.number == end.segment && end.offset > 0 {
        return Ok(());
    }
    if is_first && segment.number > end.segment {
        return Err(corrupt(end.segment, end.offset, "segment is missing"));
    }
    if ordinal != end.ordinal || prev != end.hash {
        let what = format!(
            "frame {} is damaged: segment {} goes on after frame {ordinal}",
            end.ordinal + 1,
            segment.number
        );
        return Err(corrupt(end.segment, end.offset, what));
    }
    end.segment = segment.number;
    end.offset = SEGMENT_HEADER_LEN as u64;
    Ok(())
}

fn read_from(file: &File, from: u64, to: u64, number: u64) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; to.saturating_sub(from) as usize];
    file.read_exact_at(&mut bytes, from).map_err(|e| corrupt(number, from, e))?;
    Ok(bytes)
}

/// Walks the frames of a segment from `end` on and moves `end` behind them. Returns where the last one starts.
pub(crate) fn replay_segment(
    identity: &Identity,
    segment: &Segment,
    end: &mut Place,
    mut take: impl FnMut(&Header, &[u8]) -> Result<(), StoreError>,
) -> Result<u64, StoreError> {
    let start = end.offset;
    let bytes = read_from(&segment.file, start, segment.size, segment.number)?;
    let mut last = start;
    loop {
        let at = (end.offset - start) as usize;
        let next = Header::parse(&identity.key, &bytes[at..]).filter(|(header, _)| {
            header.segment == segment.number && header.ordinal == end.ordinal + 1 && header.prev == end.hash
        });
        let Some((header, hash)) = next.filter(|(header, _)| header.kind != Kind::Mark) else { break };
        let body = &bytes[at + FRAME_HEADER_LEN..at + FRAME_HEADER_LEN + header.body_len as usize];
        take(&header, body)?;
        last = end.offset;
        end.offset += crate::frame::frame_len(header.body_len as usize) as u64;
        end.ordinal = header.ordinal;
        end.hash = hash;
        end.epoch = end.epoch.max(header.epoch);
        end.time = header.time;
    }
    let rest = &bytes[(end.offset - start) as usize..];
    if let Some(at) = find_later(&identity.key, rest, segment.number, end.ordinal + 1) {
        let what =
            format!("frame {} is damaged: a later one stands at {}", end.ordinal + 1, end.offset + at as u64);
        return Err(corrupt(segment.number, end.offset, what));
    }
    Ok(last)
}

/// The log must reach what the index has already seen.
fn check_end(end: &Place, segments: &VecDeque<Segment>, identity: &Identity) -> Result<(), StoreError> {
    let place = &identity.place;
    if place.offset > 0 && !segments.iter().any(|s| s.number == place.segment) {
        return Err(corrupt(place.segment, place.offset, "the index has seen more than the log holds"));
    }
    if end.ordinal < place.ordinal {
        return Err(corrupt(end.segment, end.offset, "the log ends before the watermark of the index"));
    }
    Ok(())
}

/// Segments before the watermark were not walked; their last frame ends somewhere before their size.
fn trim_ends(segments: &mut VecDeque<Segment>, identity: &Identity, end: &Place) -> Result<(), StoreError> {
    for segment in segments.iter_mut().filter(|s| s.number < identity.place.segment) {
        segment.end = frames_end(segment)?;
    }
    if let Some(last) = segments.back_mut()
        && last.number == end.segment
    {
        last.end = end.offset;
    }
    Ok(())
}

/// End of the last frame of an old segment, found by its frame lengths alone; its frames are checked when read.
fn frames_end(segment: &Segment) -> Result<u64, StoreError> {
    let mut offset = SEGMENT_HEADER_LEN as u64;
    let mut head = [0; FRAME_HEADER_LEN];
    while offset + FRAME_HEADER_LEN as u64 <= segment.size {
        segment.file.read_exact_at(&mut head, offset).map_err(|e| corrupt(segment.number, offset, e))?;
        match Header::peek(&head) {
            Some((kind, number, body_len)) if kind != Kind::Mark && number == segment.number => {
                offset += crate::frame::frame_len(body_len) as u64;
            }
            Some(_) | None => break,
        }
    }
    Ok(offset.min(segment.size))
}

/// Writes the last frame again and syncs: after a failed sync the page cache may say that it is there while the
/// disk never got it, and from here on others will build on it.
fn rewrite(segment: &Segment, from: u64, to: u64) -> Result<(), StoreError> {
    let bytes = read_from(&segment.file, from, to, segment.number)?;
    let written = segment.file.write_all_at(&bytes, from).and_then(|()| segment.file.sync_data());
    written.map_err(|e| crate::directory::refuse(segment_name(segment.number), &e))
}

/// The state that grows while the log is replayed.
struct Replay<'a> {
    reader: &'a mut Reader,
    interner: Interner,
    jobs: Jobs,
    others: Vec<Write>,
    sequences: crate::segment::Sequences,
}

impl Replay<'_> {
    fn take(&mut self, header: &Header, body: &[u8], segment: u64) -> Result<(), StoreError> {
        if header.kind != Kind::Batch {
            return Ok(());
        }
        let damaged = |e: Damaged| corrupt(segment, 0, format_args!("frame {}: {e}", header.ordinal));
        for group in decode_batch(body, &mut self.interner).map_err(damaged)? {
            for write in group.writes {
                match write {
                    LogWrite::Other(write) => self.others.push(write),
                    LogWrite::Job(record) => {
                        let highest = &mut self.sequences[usize::from(record.shard().0)];
                        *highest = (*highest).max(record.newest_seq());
                        let key: JobKey = record.id.key(&record.namespace);
                        let base = match self.jobs.get(&key) {
                            Some(job) => Some(job.clone()),
                            None if record.is_whole() => None,
                            None => self.reader.job(&record.namespace, &record.id)?,
                        };
                        let job = record.restore(base.as_deref(), &mut self.interner).map_err(damaged)?;
                        self.jobs.insert(key, Arc::new(job));
                    }
                }
            }
        }
        Ok(())
    }
}
