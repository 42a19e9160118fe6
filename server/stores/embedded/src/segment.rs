//! Segment files: names, headers and positions in the log.

use crate::directory::{log_dir, private, refuse};
use crate::frame::{Hash, SEGMENT_HEADER_LEN, SegmentHeader};
use coretex_ports::StoreError;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Highest event sequence per shard.
pub(crate) type Sequences = Box<[u64; 256]>;

/// The end of the log, or a place in it that the index has reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    /// Where the next frame goes; 0 if the segment has no header yet.
    pub(crate) offset: u64,
    /// Ordinal and hash of the last frame before it.
    pub(crate) ordinal: u64,
    pub(crate) hash: Hash,
    pub(crate) epoch: u64,
    pub(crate) time: u64,
    pub(crate) sequences: Sequences,
}

/// A segment in use.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) size: u64,
    pub(crate) file: Arc<File>,
    /// Ordinal of the last frame before it.
    pub(crate) ordinal: u64,
    /// Sequences before its first frame.
    pub(crate) sequences: Sequences,
    /// End of its last frame.
    pub(crate) end: u64,
}

/// A file of the log directory.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) number: u64,
    pub(crate) file: File,
    pub(crate) len: u64,
    /// None if the file was never used under its number.
    pub(crate) header: Option<SegmentHeader>,
}

pub(crate) fn segment_path(root: &Path, number: u64) -> PathBuf {
    log_dir(root).join(segment_name(number))
}

pub(crate) fn segment_name(number: u64) -> String {
    format!("{number:016}.log")
}

/// All segment files in the order of their numbers.
pub(crate) fn list(root: &Path, write: bool) -> Result<Vec<Found>, StoreError> {
    let dir = log_dir(root);
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).map_err(|e| refuse(dir.display(), &e))? {
        let path = entry.map_err(|e| refuse(dir.display(), &e))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let Some(number) = name.strip_suffix(".log").and_then(|n| n.parse::<u64>().ok()) else { continue };
        found.push(open(&path, number, write).map_err(|e| refuse(path.display(), &e))?);
    }
    found.sort_by_key(|f| f.number);
    Ok(found)
}

fn open(path: &Path, number: u64, write: bool) -> io::Result<Found> {
    let file = private().write(write).open(path)?;
    let len = file.metadata()?.len();
    let mut bytes = vec![0; SEGMENT_HEADER_LEN];
    let header = match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => SegmentHeader::parse(&bytes).filter(|h| h.number == number),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => None,
        Err(e) => return Err(e),
    };
    Ok(Found { number, file, len, header })
}

// === impl Segment ===

impl Segment {
    /// Reads its header again, which was sound when it was found.
    pub(crate) fn read_header(&self) -> Result<SegmentHeader, StoreError> {
        let mut bytes = vec![0; SEGMENT_HEADER_LEN];
        let read = self.file.read_exact_at(&mut bytes, 0).map_err(|e| refuse(segment_name(self.number), &e));
        read.and_then(|()| {
            SegmentHeader::parse(&bytes).ok_or_else(|| StoreError::Corrupt {
                place: format!("log/{}", segment_name(self.number)),
                what: "segment header fails its checksum".into(),
            })
        })
    }
}

// === impl Place ===

impl Place {
    /// Where the log of a new store begins.
    pub(crate) fn start() -> Place {
        Place {
            segment: 1,
            offset: 0,
            ordinal: 0,
            hash: [0; 16],
            epoch: 0,
            time: 0,
            sequences: Box::new([0; 256]),
        }
    }
}
