//! Packs: ended jobs of one namespace that were made within a few milliseconds, together in one row.
//!
//! A row of its own costs an ended job three to four times as much as its share of a pack. A pack is a directory of
//! fixed entries in key order, the records, and one checksum over both. A job is in a pack or has a row, never both.

use super::{seal, unsealed};
use coretex_domain::job::StateKind;
use coretex_domain::{Job, JobId};
use coretex_records::Damaged;

/// Jobs in one pack.
const JOBS_MAX: usize = 64;
/// Records in one pack, bytes.
const BYTES_MAX: usize = 48 << 10;
/// A job with a longer record has a row of its own.
pub(crate) const RECORD_MAX: usize = 4 << 10;
/// Create times of a pack lie this close together, so that one job is found among few packs.
pub(crate) const SPAN_MAX_MS: i64 = 16;

const COUNT_LEN: usize = 2;
const ENTRY_LEN: usize = 8 + 16 + 8 + 1 + 8 + 4;

/// What the directory says of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) create_ms: i64,
    pub(crate) uuid: u128,
    pub(crate) topic: i64,
    pub(crate) state: u8,
    pub(crate) expire_ms: i64,
    /// End of its record among the records.
    end: u32,
}

/// The columns of a pack's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
    /// When the first of its jobs may be cleaned.
    pub(crate) expire_ms: i64,
    pub(crate) count: i64,
}

/// A pack in the making. Jobs come in key order.
#[derive(Default)]
pub(crate) struct Builder {
    entries: Vec<Entry>,
    records: Vec<u8>,
}

/// A pack as read, checked.
pub(crate) struct Pack {
    pub(crate) entries: Vec<Entry>,
    records: Box<[u8]>,
}

/// True for jobs that may be packed: they ended without a dead letter and are filed under the time their id tells.
pub(crate) fn is_packable(job: &Job) -> bool {
    matches!(job.state.kind(), StateKind::Succeeded | StateKind::Cancelled)
        && job.expire_time.is_some()
        && job.id.made_at_ms() == Some(job.create_time.0)
        && job.spec.payload.data.len() <= RECORD_MAX
}

// === impl Entry ===

impl Entry {
    pub(crate) fn new(create_ms: i64, uuid: u128, topic: i64, state: u8, expire_ms: i64) -> Entry {
        Entry { create_ms, uuid, topic, state, expire_ms, end: 0 }
    }

    /// The id as a key of the index.
    pub(crate) fn id(&self) -> Vec<u8> {
        super::id_bytes(&JobId::Made(self.uuid))
    }

    fn put(&self, buf: &mut Vec<u8>) {
        buf.extend_from_slice(&self.create_ms.to_le_bytes());
        buf.extend_from_slice(&self.uuid.to_le_bytes());
        buf.extend_from_slice(&self.topic.to_le_bytes());
        buf.push(self.state);
        buf.extend_from_slice(&self.expire_ms.to_le_bytes());
        buf.extend_from_slice(&self.end.to_le_bytes());
    }

    fn read(bytes: &[u8; ENTRY_LEN]) -> Option<Entry> {
        let (create_ms, rest) = bytes.split_first_chunk::<8>()?;
        let (uuid, rest) = rest.split_first_chunk::<16>()?;
        let (topic, rest) = rest.split_first_chunk::<8>()?;
        let (state, rest) = rest.split_first()?;
        let (expire_ms, rest) = rest.split_first_chunk::<8>()?;
        Some(Entry {
            create_ms: i64::from_le_bytes(*create_ms),
            uuid: u128::from_le_bytes(*uuid),
            topic: i64::from_le_bytes(*topic),
            state: *state,
            expire_ms: i64::from_le_bytes(*expire_ms),
            end: u32::from_le_bytes(*rest.first_chunk::<4>()?),
        })
    }
}

// === impl Builder ===

impl Builder {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True if a job made at `create_ms` still fits.
    pub(crate) fn has_room(&self, create_ms: i64) -> bool {
        self.entries.first().is_none_or(|first| {
            self.entries.len() < JOBS_MAX
                && self.records.len() < BYTES_MAX
                && create_ms - first.create_ms <= SPAN_MAX_MS
        })
    }

    pub(crate) fn push(&mut self, mut entry: Entry, record: &[u8]) {
        self.records.extend_from_slice(record);
        entry.end = self.records.len() as u32;
        self.entries.push(entry);
    }

    /// Writes the pack over `buf` and starts a new one.
    pub(crate) fn finish(&mut self, buf: &mut Vec<u8>) -> Summary {
        buf.clear();
        buf.extend_from_slice(&(self.entries.len() as u16).to_le_bytes());
        self.entries.iter().for_each(|entry| entry.put(buf));
        buf.extend_from_slice(&self.records);
        seal(buf);
        let summary = summary_of(&self.entries);
        self.entries.clear();
        self.records.clear();
        summary
    }
}

fn summary_of(entries: &[Entry]) -> Summary {
    Summary {
        first_ms: entries.first().map_or(0, |entry| entry.create_ms),
        last_ms: entries.last().map_or(0, |entry| entry.create_ms),
        expire_ms: entries.iter().map(|entry| entry.expire_ms).min().unwrap_or(0),
        count: entries.len() as i64,
    }
}

// === impl Pack ===

impl Pack {
    /// Reads the record of a row.
    pub(crate) fn read(bytes: &[u8]) -> Result<Pack, Damaged> {
        let short = || Damaged("pack shorter than its directory".into());
        let bytes = unsealed(bytes)?;
        let (count, rest) = bytes.split_first_chunk::<COUNT_LEN>().ok_or_else(short)?;
        let len = usize::from(u16::from_le_bytes(*count)) * ENTRY_LEN;
        let (directory, records) = rest.split_at_checked(len).ok_or_else(short)?;
        let (directory, _) = directory.as_chunks::<ENTRY_LEN>();
        let entries: Option<Vec<Entry>> = directory.iter().map(Entry::read).collect();
        let entries = entries.ok_or_else(short)?;
        let in_order = entries.windows(2).all(|pair| {
            (pair[0].create_ms, pair[0].uuid) < (pair[1].create_ms, pair[1].uuid)
                && pair[0].end <= pair[1].end
        });
        let end = entries.last().map_or(0, |entry| entry.end as usize);
        if !in_order || end != records.len() {
            return Err(Damaged("pack whose directory is out of order".into()));
        }
        Ok(Pack { entries, records: records.into() })
    }

    pub(crate) fn summary(&self) -> Summary {
        summary_of(&self.entries)
    }

    pub(crate) fn find(&self, create_ms: i64, uuid: u128) -> Option<usize> {
        self.entries.binary_search_by_key(&(create_ms, uuid), |entry| (entry.create_ms, entry.uuid)).ok()
    }

    /// The record of entry `n`.
    pub(crate) fn record(&self, n: usize) -> &[u8] {
        let start = n.checked_sub(1).and_then(|n| self.entries.get(n)).map_or(0, |entry| entry.end as usize);
        let end = self.entries.get(n).map_or(start, |entry| entry.end as usize);
        self.records.get(start..end).unwrap_or_default()
    }

    /// The same pack with only those entries that `keep` picks.
    pub(crate) fn retain(&self, mut keep: impl FnMut(&Entry) -> bool) -> Builder {
        let mut kept = Builder::default();
        for (n, entry) in self.entries.iter().enumerate() {
            if keep(entry) {
                kept.push(entry.clone(), self.record(n));
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(count: i64) -> (Vec<u8>, Summary) {
        let mut builder = Builder::default();
        for n in 0..count {
            let entry = Entry::new(1_000 + n / 8, n as u128, 7, 6, 9_000 - n);
            assert!(builder.has_room(entry.create_ms));
            builder.push(entry, format!("record {n}").as_bytes());
        }
        let mut bytes = Vec::new();
        let summary = builder.finish(&mut bytes);
        (bytes, summary)
    }

    #[test]
    fn what_goes_in_comes_out() {
        let (bytes, summary) = pack(20);
        let read = Pack::read(&bytes).unwrap();
        assert_eq!(summary, Summary { first_ms: 1_000, last_ms: 1_002, expire_ms: 8_981, count: 20 });
        assert_eq!(read.summary(), summary);
        for n in 0..20 {
            let found = read.find(1_000 + n / 8, n as u128).unwrap();
            assert_eq!(read.record(found), format!("record {n}").as_bytes());
        }
        assert!(read.find(1_000, 8).is_none());
    }

    #[test]
    fn what_is_left_is_a_pack() {
        let (bytes, _) = pack(20);
        let mut left = Pack::read(&bytes).unwrap().retain(|entry| entry.uuid % 5 == 0);
        let mut smaller = Vec::new();
        let summary = left.finish(&mut smaller);
        let read = Pack::read(&smaller).unwrap();
        assert_eq!((summary.count, read.record(3)), (4, "record 15".as_bytes()));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (bytes, _) = pack(9);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Pack::read(&damaged).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(Pack::read(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_pack_is_full_by_count_or_time() {
        let mut builder = Builder::default();
        builder.push(Entry::new(100, 1, 0, 6, 0), b"x");
        assert!(builder.has_room(100 + SPAN_MAX_MS) && !builder.has_room(101 + SPAN_MAX_MS));
        for n in 2..=JOBS_MAX as u128 {
            builder.push(Entry::new(100, n, 0, 6, 0), b"x");
        }
        assert!(!builder.has_room(100));
    }
}
