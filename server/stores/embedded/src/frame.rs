//! Bytes of the log: the header of a segment and of each frame, and what proves them.
//!
//! A frame's hash covers its header, the hash of the frame before it and its body: it is checksum and chain in
//! one. It is keyed with a number made with the store, so no payload can be mistaken for a frame.

use crate::segment::Sequences;

/// Bytes before the first frame of a segment.
pub(crate) const SEGMENT_HEADER_LEN: usize = 4096;
pub(crate) const FRAME_HEADER_LEN: usize = 80;
/// Frames start at multiples of this, so that a search for them is cheap.
pub(crate) const ALIGN: usize = 8;
/// Longest body of one frame; bigger groups are refused.
pub(crate) const BODY_LEN_MAX: usize = 64 << 20;

const SEGMENT_MAGIC: &[u8; 8] = b"CTXLOG01";
const FRAME_MAGIC: &[u8; 4] = b"CTXF";
const FORMAT: u16 = 1;
const SEQUENCES_AT: usize = 88;
const SEGMENT_HASH_AT: usize = SEGMENT_HEADER_LEN - 16;

pub(crate) type Hash = [u8; 16];
pub(crate) type Key = [u8; 32];

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Groups that became durable together.
    Batch = 1,
    /// A new owner; the body is its name.
    Claim = 2,
    /// The frame before it was answered. Written where the next frame will be, never waited for.
    Mark = 3,
}

/// Header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) body_len: u32,
    pub(crate) writes: u32,
    pub(crate) segment: u64,
    /// 1, 2, 3 … over the life of the store; of a mark: that of the frame it vouches for.
    pub(crate) ordinal: u64,
    pub(crate) epoch: u64,
    pub(crate) time: u64,
    pub(crate) prev: Hash,
}

/// Header of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) number: u64,
    pub(crate) size: u64,
    /// Ordinal and hash of the last frame before the segment.
    pub(crate) ordinal: u64,
    pub(crate) prev: Hash,
    pub(crate) key: Key,
    /// Highest event sequences before the segment.
    pub(crate) sequences: Sequences,
}

fn truncated(hash: blake3::Hash) -> Hash {
    let mut out = [0; 16];
    out.copy_from_slice(&hash.as_bytes()[..16]);
    out
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut out = [0; 8];
    out.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(out)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut out = [0; 4];
    out.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(out)
}

/// Length of a frame with this body, padding included.
pub(crate) fn frame_len(body_len: usize) -> usize {
    (FRAME_HEADER_LEN + body_len).next_multiple_of(ALIGN)
}

impl Header {
    /// Fills in the header before the body that `frame` holds behind it, pads the frame and returns its hash.
    pub(crate) fn seal(&self, key: &Key, frame: &mut Vec<u8>) -> Hash {
        let head = &mut frame[..FRAME_HEADER_LEN];
        head[..4].copy_from_slice(FRAME_MAGIC);
        head[4..6].copy_from_slice(&FORMAT.to_le_bytes());
        head[6..8].copy_from_slice(&(self.kind as u16).to_le_bytes());
        head[8..12].copy_from_slice(&self.body_len.to_le_bytes());
        head[12..16].copy_from_slice(&self.writes.to_le_bytes());
        head[16..24].copy_from_slice(&self.segment.to_le_bytes());
        head[24..32].copy_from_slice(&self.ordinal.to_le_bytes());
        head[32..40].copy_from_slice(&self.epoch.to_le_bytes());
        head[40..48].copy_from_slice(&self.time.to_le_bytes());
        head[48..64].copy_from_slice(&self.prev);
        let hash = frame_hash(key, &frame[..64], &frame[FRAME_HEADER_LEN..]);
        frame[64..80].copy_from_slice(&hash);
        let padded = frame.len().next_multiple_of(ALIGN);
        frame.resize(padded, 0);
        hash
    }

    /// Kind, segment and body length as the header claims them, unchecked.
    pub(crate) fn peek(head: &[u8; FRAME_HEADER_LEN]) -> Option<(Kind, u64, usize)> {
        if head[..4] != *FRAME_MAGIC || head[4..6] != FORMAT.to_le_bytes() {
            return None;
        }
        let kind = match u32::from(head[6]) | u32::from(head[7]) << 8 {
            1 => Kind::Batch,
            2 => Kind::Claim,
            3 => Kind::Mark,
            _ => return None,
        };
        Some((kind, u64_at(head, 16), u32_at(head, 8) as usize))
    }

    /// The frame at the start of `bytes` with its hash, if there is a whole and unharmed one.
    pub(crate) fn parse(key: &Key, bytes: &[u8]) -> Option<(Header, Hash)> {
        let head = bytes.first_chunk::<FRAME_HEADER_LEN>()?;
        let (kind, segment, body_len) = Header::peek(head)?;
        let body = bytes.get(FRAME_HEADER_LEN..FRAME_HEADER_LEN + body_len)?;
        let hash = frame_hash(key, &head[..64], body);
        if head[64..80] != hash {
            return None;
        }
        let mut prev = [0; 16];
        prev.copy_from_slice(&head[48..64]);
        let header = Header {
            kind,
            body_len: body_len as u32,
            writes: u32_at(head, 12),
            segment,
            ordinal: u64_at(head, 24),
            epoch: u64_at(head, 32),
            time: u64_at(head, 40),
            prev,
        };
        Some((header, hash))
    }
}

fn frame_hash(key: &Key, head: &[u8], body: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(head).update(body);
    truncated(hasher.finalize())
}

impl SegmentHeader {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; SEGMENT_HEADER_LEN];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.size.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.ordinal.to_le_bytes());
        bytes[40..56].copy_from_slice(&self.prev);
        bytes[56..88].copy_from_slice(&self.key);
        for (n, sequence) in self.sequences.iter().enumerate() {
            let at = SEQUENCES_AT + n * 8;
            bytes[at..at + 8].copy_from_slice(&sequence.to_le_bytes());
        }
        let hash = truncated(blake3::keyed_hash(&self.key, &bytes[..SEGMENT_HASH_AT]));
        bytes[SEGMENT_HASH_AT..].copy_from_slice(&hash);
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<SegmentHeader> {
        let bytes = bytes.get(..SEGMENT_HEADER_LEN)?;
        if bytes[..8] != *SEGMENT_MAGIC {
            return None;
        }
        let (mut prev, mut key) = ([0; 16], [0; 32]);
        prev.copy_from_slice(&bytes[40..56]);
        key.copy_from_slice(&bytes[56..88]);
        if bytes[SEGMENT_HASH_AT..] != truncated(blake3::keyed_hash(&key, &bytes[..SEGMENT_HASH_AT])) {
            return None;
        }
        let mut sequences: Sequences = Box::new([0; 256]);
        for (n, sequence) in sequences.iter_mut().enumerate() {
            *sequence = u64_at(bytes, SEQUENCES_AT + n * 8);
        }
        Some(SegmentHeader {
            number: u64_at(bytes, 16),
            size: u64_at(bytes, 24),
            ordinal: u64_at(bytes, 32),
            prev,
            key,
            sequences,
        })
    }
}

/// The first whole frame or mark of `segment` with an ordinal of at least `ordinal` in `bytes`, which start at
/// an aligned place: proof that what stands before it was once complete.
pub(crate) fn find_later(key: &Key, bytes: &[u8], segment: u64, ordinal: u64) -> Option<usize> {
    let mut at = 0;
    while at + FRAME_HEADER_LEN <= bytes.len() {
        // Frames of an earlier life of the file carry another number; hashing them all would take long.
        if let Some(head) = bytes[at..].first_chunk()
            && Header::peek(head).is_some_and(|(_, number, _)| number == segment)
            && let Some((header, _)) = Header::parse(key, &bytes[at..])
            && header.ordinal >= ordinal
        {
            return Some(at);
        }
        at += ALIGN;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(body: &[u8]) -> Header {
        Header {
            kind: Kind::Batch,
            body_len: body.len() as u32,
            writes: 3,
            segment: 7,
            ordinal: 9,
            epoch: 2,
            time: 55,
            prev: [4; 16],
        }
    }

    #[test]
    fn a_frame_parses_and_any_flipped_bit_is_noticed() {
        let body = b"some bytes that matter";
        let mut frame = vec![0; FRAME_HEADER_LEN];
        frame.extend_from_slice(body);
        let hash = header(body).seal(&[1; 32], &mut frame);
        assert_eq!(frame.len(), frame_len(body.len()));
        assert_eq!(Header::parse(&[1; 32], &frame), Some((header(body), hash)));
        assert_eq!(Header::parse(&[2; 32], &frame), None, "another store's frame");
        for bit in 0..(FRAME_HEADER_LEN + body.len()) * 8 {
            frame[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::parse(&[1; 32], &frame), None, "bit {bit}");
            frame[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_segment_header_survives_and_a_flipped_bit_is_noticed() {
        let mut sequences: Sequences = Box::new([0; 256]);
        sequences[200] = 99;
        let header =
            SegmentHeader { number: 3, size: 1 << 20, ordinal: 8, prev: [9; 16], key: [5; 32], sequences };
        let mut bytes = header.to_bytes();
        assert_eq!(SegmentHeader::parse(&bytes), Some(header));
        bytes[SEQUENCES_AT + 1] ^= 1;
        assert_eq!(SegmentHeader::parse(&bytes), None);
    }
}
