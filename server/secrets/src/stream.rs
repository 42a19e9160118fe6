//! Output as it comes in, piece by piece: a value may begin in one piece and end in another.
//!
//! Streams are read by offset, so every byte keeps its place: a value becomes `[redacted]` filled up with `*`.

use crate::forms::REDACTED_LEN_MIN;
use crate::redactor::Redactor;
use coretex_domain::redact::REDACTED;
use std::ops::Range;

/// A stream under way: what may be the beginning of a value waits for what comes next.
#[derive(Default)]
pub struct Stream {
    held: Vec<u8>,
    /// So many bytes of what is held are the end of a value.
    covered: usize,
    /// Offset after the last byte taken in.
    next: Option<u64>,
}

/// Bytes that may go on, and where they are in the stream.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub offset: u64,
    pub bytes: Vec<u8>,
}

// === impl Stream ===

impl Stream {
    /// Takes bytes in and gives those that may go on. Bytes that came before are skipped; a gap ends what was held.
    pub fn take(&mut self, redactor: &Redactor, offset: u64, bytes: &[u8]) -> Vec<Passed> {
        let mut out = Vec::new();
        let next = self.next.unwrap_or(offset);
        if offset > next {
            out.extend(self.finish());
        }
        let next = next.max(offset);
        // How much of it is new; a resend begins before what is known.
        let known = usize::try_from(next - offset).unwrap_or(usize::MAX);
        let new = bytes.get(known..).unwrap_or_default();
        let first = next - self.held.len() as u64;
        self.next = Some(next + new.len() as u64);
        self.held.extend_from_slice(new);
        let mut found = redactor.find(&self.held);
        if self.covered > 0 {
            found.push(0..self.covered);
        }
        let open = redactor.open_at(&self.held);
        let end = found.iter().map(|range| range.end).max().unwrap_or_default();
        let mut passed = self.held.split_off(open);
        std::mem::swap(&mut passed, &mut self.held);
        found.iter().for_each(|range| cover(&mut passed, range.clone()));
        self.covered = end.saturating_sub(open);
        if !passed.is_empty() {
            out.push(Passed { offset: first, bytes: passed });
        }
        out
    }

    /// What is held, now that nothing comes after it.
    pub fn finish(&mut self) -> Option<Passed> {
        let mut bytes = std::mem::take(&mut self.held);
        let covered = std::mem::take(&mut self.covered);
        let offset = self.next? - bytes.len() as u64;
        // Fewer bytes than that tell nothing.
        let open = if bytes.len() - covered >= REDACTED_LEN_MIN { bytes.len() } else { covered };
        cover(&mut bytes, 0..open);
        (!bytes.is_empty()).then_some(Passed { offset, bytes })
    }
}

/// Covers a part of a text without changing its length.
fn cover(text: &mut [u8], range: Range<usize>) {
    let end = range.end.min(text.len());
    let Some(part) = text.get_mut(range.start.min(end)..end) else { return };
    let word = if range.len() >= REDACTED.len() { REDACTED } else { "" };
    let fill = word.bytes().chain(std::iter::repeat(b'*'));
    part.iter_mut().zip(fill).for_each(|(byte, with)| *byte = with);
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = "s3cr3t-s3cr3t-value";

    fn passed(redactor: &Redactor, pieces: &[&[u8]]) -> Vec<u8> {
        let mut stream = Stream::default();
        let (mut at, mut out) = (0, Vec::new());
        let mut see = |passed: Passed| {
            assert_eq!(passed.offset, out.len() as u64, "every byte keeps its place");
            out.extend(passed.bytes);
        };
        for piece in pieces {
            stream.take(redactor, at, piece).into_iter().for_each(&mut see);
            at += piece.len() as u64;
        }
        stream.finish().into_iter().for_each(&mut see);
        assert_eq!(out.len() as u64, at);
        out
    }

    #[test]
    fn a_value_over_any_pieces_is_covered_and_all_else_passes() {
        let redactor = Redactor::of([VALUE]).unwrap().unwrap();
        for text in [
            format!("before {VALUE} after s3cr"),
            format!("{VALUE}{VALUE}"),
            format!("s3cr3t-{VALUE}s3cr3t-"),
        ] {
            let whole = passed(&redactor, &[text.as_bytes()]);
            let shown = String::from_utf8(whole.clone()).unwrap();
            assert!(!shown.contains(VALUE) && shown.contains("[redacted]*********"), "{shown}");
            for size in 1..text.len() {
                let pieces: Vec<&[u8]> = text.as_bytes().chunks(size).collect();
                assert_eq!(passed(&redactor, &pieces), whole, "pieces of {size}");
            }
        }
        let escaped = "{\"a\":\"s3cr3t\\u002ds3cr3t-value\"}";
        for size in 1..escaped.len() {
            let pieces: Vec<&[u8]> = escaped.as_bytes().chunks(size).collect();
            let out = String::from_utf8(passed(&redactor, &pieces)).unwrap();
            assert_eq!(out, "{\"a\":\"[redacted]**************\"}", "pieces of {size}");
        }
    }

    #[test]
    fn resends_and_gaps_do_not_confuse_it() {
        let redactor = Redactor::of([VALUE]).unwrap().unwrap();
        let mut stream = Stream::default();
        let at = |offset, bytes: &str| Passed { offset, bytes: bytes.into() };
        assert_eq!(stream.take(&redactor, 10, b"abs3c"), [at(10, "ab")]);
        assert_eq!(stream.take(&redactor, 10, b"abs3c"), []);
        assert_eq!(stream.take(&redactor, 10, b"abs3cx"), [at(12, "s3cx")]);
        assert_eq!(stream.take(&redactor, 16, b"s3cr3t-s3cr"), []);
        assert_eq!(stream.take(&redactor, 100, b"ab"), [at(16, "[redacted]*"), at(100, "ab")]);
        assert_eq!(stream.finish(), None);
        let mut short = Stream::default();
        assert_eq!(short.take(&redactor, 0, b"s3"), []);
        assert_eq!(short.finish(), Some(at(0, "s3")));
    }
}
