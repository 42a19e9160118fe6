//! The scanner: one pass over the bytes, recursion bounded by the depth limit.

use super::{JsonFault, Keys};
use coretex_domain::limits::JSON_DEPTH_MAX;
use std::borrow::Cow;

/// Checks a text that declares itself JSON: well formed, no duplicate keys, bounded depth, every number kept as it is.
pub(crate) fn check(bytes: &[u8]) -> Result<(), JsonFault> {
    let mut scanner = Scanner { bytes, at: 0 };
    scanner.document().map_err(|rule| scanner.fault(rule))
}

type Scanned = Result<(), String>;

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn document(&mut self) -> Scanned {
        if self.bytes.starts_with(b"\xef\xbb\xbf") {
            return Err("begins with a byte order mark".into());
        }
        self.space();
        self.value(0)?;
        self.space();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err("something follows the value".into()),
        }
    }

    fn value(&mut self, depth: usize) -> Scanned {
        if depth > JSON_DEPTH_MAX {
            return Err(format!("nested deeper than {JSON_DEPTH_MAX}"));
        }
        match self.peek() {
            None => Err("the text ends before the value does".into()),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word(b"true"),
            Some(b'f') => self.word(b"false"),
            Some(b'n') => self.word(b"null"),
            Some(b'N' | b'I') => Err("NaN and Infinity are no JSON".into()),
            Some(other) => Err(format!("expected a value, got {:?}", char::from(other))),
        }
    }

    fn object(&mut self, depth: usize) -> Scanned {
        self.at += 1;
        let mut keys = Keys::default();
        self.space();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            let start = self.at;
            match self.peek() {
                Some(b'"') => {}
                Some(b'}') => return Err("a comma with nothing after it".into()),
                None => return Err("the text ends before the object does".into()),
                Some(_) => return Err("expected a key in double quotes".into()),
            }
            let key = self.string()?;
            let end = self.at;
            if !keys.insert(key) {
                self.at = start;
                let shown: String =
                    String::from_utf8_lossy(&self.bytes[start..end]).chars().take(40).collect();
                return Err(format!("key {shown} comes twice"));
            }
            self.space();
            if !self.take(b':') {
                return Err(self.unexpected("`:`"));
            }
            self.space();
            self.value(depth)?;
            self.space();
            if self.take(b'}') {
                return Ok(());
            }
            if !self.take(b',') {
                return Err(self.unexpected("`,` or `}`"));
            }
            self.space();
        }
    }

    fn array(&mut self, depth: usize) -> Scanned {
        self.at += 1;
        self.space();
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value(depth)?;
            self.space();
            if self.take(b']') {
                return Ok(());
            }
            if !self.take(b',') {
                return Err(self.unexpected("`,` or `]`"));
            }
            self.space();
            if self.peek() == Some(b']') {
                return Err("a comma with nothing after it".into());
            }
        }
    }

    /// A string; what it says, with its escapes resolved.
    fn string(&mut self) -> Result<Cow<'a, [u8]>, String> {
        self.at += 1;
        let start = self.at;
        let mut owned: Option<Vec<u8>> = None;
        let mut plain = start;
        loop {
            match self.peek() {
                None => return Err("the text ends before the string does".into()),
                Some(b'"') => {
                    let tail = &self.bytes[plain..self.at];
                    if std::str::from_utf8(&self.bytes[start..self.at]).is_err() {
                        return Err("a string that is not UTF-8".into());
                    }
                    self.at += 1;
                    return Ok(match owned {
                        None => Cow::Borrowed(tail),
                        Some(mut all) => {
                            all.extend_from_slice(tail);
                            Cow::Owned(all)
                        }
                    });
                }
                Some(b'\\') => {
                    let all = owned.get_or_insert_default();
                    all.extend_from_slice(&self.bytes[plain..self.at]);
                    let c = self.escape()?;
                    all.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    plain = self.at;
                }
                Some(0..0x20) => return Err("a control character in a string must be escaped".into()),
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let letter = self.bytes.get(self.at + 1).copied();
        let plain = match letter {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err("no escape of JSON".into()),
        };
        self.at += 2;
        Ok(plain)
    }

    fn unicode(&mut self) -> Result<char, String> {
        let high = self.unit(self.at + 2)?;
        if !(0xd800..=0xdfff).contains(&high) {
            self.at += 6;
            return char::from_u32(high).ok_or_else(|| "no character".into());
        }
        let follows = self.bytes.get(self.at + 6..self.at + 8) == Some(b"\\u");
        let low = if follows { self.unit(self.at + 8)? } else { 0 };
        if high > 0xdbff || !(0xdc00..=0xdfff).contains(&low) {
            return Err("a lone surrogate".into());
        }
        self.at += 12;
        char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
            .ok_or_else(|| "no character".into())
    }

    fn unit(&self, at: usize) -> Result<u32, String> {
        let digits = self.bytes.get(at..at + 4).ok_or("the text ends before the escape does")?;
        digits
            .iter()
            .try_fold(0, |n, d| char::from(*d).to_digit(16).map(|d| n * 16 + d))
            .ok_or_else(|| "an escape needs four hex digits".into())
    }

    fn number(&mut self) -> Scanned {
        let start = self.at;
        self.take(b'-');
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err("a number needs a digit".into()),
        }
        if matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err("a number must not begin with 0".into());
        }
        let whole_end = self.at;
        if self.take(b'.') {
            self.some_digits("after the point")?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.some_digits("in the exponent")?;
        }
        let text = std::str::from_utf8(&self.bytes[start..self.at]).unwrap_or_default();
        let fits = if self.at == whole_end { whole_fits(text) } else { fraction_fits(text) };
        if fits {
            return Ok(());
        }
        self.at = start;
        Err(format!("number {} is not representable", text.chars().take(40).collect::<String>()))
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    fn some_digits(&mut self, place: &str) -> Scanned {
        let start = self.at;
        self.digits();
        if self.at == start { Err(format!("a number needs a digit {place}")) } else { Ok(()) }
    }

    fn word(&mut self, word: &[u8]) -> Scanned {
        if self.bytes[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        Err(format!("expected {}", String::from_utf8_lossy(word)))
    }

    fn unexpected(&self, wanted: &str) -> String {
        match self.peek() {
            None => format!("the text ends where {wanted} should be"),
            Some(byte) => format!("expected {wanted}, got {:?}", char::from(byte)),
        }
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn fault(&self, rule: String) -> JsonFault {
        let before = &self.bytes[..self.at.min(self.bytes.len())];
        let line = 1 + before.iter().filter(|b| **b == b'\n').count();
        let begin = before.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        // Continuation bytes of UTF-8 are no columns of their own.
        let column = 1 + before[begin..].iter().filter(|b| **b & 0xc0 != 0x80).count();
        JsonFault { line, column, rule }
    }
}

/// A whole number must fit 64 bits, or be a double exactly.
fn whole_fits(text: &str) -> bool {
    if text.len() <= 18 || text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok() {
        return true;
    }
    text.parse::<f64>().is_ok_and(|n| n.is_finite() && format!("{n:.0}") == text)
}

/// Any other must be a finite double, and not vanish.
fn fraction_fits(text: &str) -> bool {
    let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
    let is_zero = !mantissa.bytes().any(|b| matches!(b, b'1'..=b'9'));
    text.parse::<f64>().is_ok_and(|n| n.is_finite() && (n != 0.0 || is_zero))
}
