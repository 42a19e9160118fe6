//! A text as it reads once its escapes are resolved, with the place each byte came from.

/// A text without its escapes.
pub(crate) struct View {
    pub(crate) bytes: Vec<u8>,
    /// Where in the source each byte begins; one more for the end.
    at: Vec<usize>,
    /// Where an escape begins that the end of the source cuts off; else the end.
    pub(crate) open: usize,
}

/// What an escape stands for.
enum Escape {
    /// These bytes, after so many of the source.
    Is([u8; 4], usize, usize),
    /// The source ends within it.
    CutOff,
    No,
}

// === impl View ===

impl View {
    /// The source itself.
    pub(crate) fn plain(source: &[u8]) -> View {
        View { bytes: source.to_vec(), at: (0..=source.len()).collect(), open: source.len() }
    }

    /// Where in the source a place of the view is.
    pub(crate) fn source(&self, at: usize) -> usize {
        self.at.get(at).copied().unwrap_or(self.open)
    }

    /// Resolves what stands behind backslashes in JSON, in Rust and in Python.
    pub(crate) fn unescaped(&self) -> View {
        self.resolved(b'\\', &|rest| backslash(rest))
    }

    /// Resolves `%XX`.
    pub(crate) fn unpercented(&self) -> View {
        self.resolved(b'%', &|rest| match (rest.first().map(hex), rest.get(1).map(hex)) {
            (Some(Some(high)), Some(Some(low))) => one(high << 4 | low, 3),
            (Some(None), _) | (_, Some(None)) => Escape::No,
            (None, _) | (_, None) => Escape::CutOff,
        })
    }

    /// Reads `+` as a space, as forms write it.
    pub(crate) fn unplussed(&self) -> View {
        let bytes = self.bytes.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        View { bytes, at: self.at.clone(), open: self.open }
    }

    fn resolved(&self, mark: u8, escape: &dyn Fn(&[u8]) -> Escape) -> View {
        let mut view = View {
            bytes: Vec::with_capacity(self.bytes.len()),
            at: Vec::with_capacity(self.at.len()),
            open: self.open,
        };
        let mut from = 0;
        while let Some(byte) = self.bytes.get(from) {
            let rest = self.bytes.get(from + 1..).unwrap_or_default();
            let found = if *byte == mark { escape(rest) } else { Escape::No };
            let (bytes, len, taken) = match found {
                Escape::Is(bytes, len, taken) => (bytes, len, taken),
                Escape::No => ([*byte, 0, 0, 0], 1, 1),
                Escape::CutOff => {
                    view.open = self.source(from);
                    break;
                }
            };
            let at = self.source(from);
            for byte in bytes.iter().take(len) {
                view.bytes.push(*byte);
                view.at.push(at);
            }
            from += taken;
        }
        view.at.push(view.open);
        view
    }
}

fn one(byte: u8, taken: usize) -> Escape {
    Escape::Is([byte, 0, 0, 0], 1, taken)
}

/// What comes after a backslash.
fn backslash(rest: &[u8]) -> Escape {
    match rest.first() {
        None => Escape::CutOff,
        Some(byte @ (b'"' | b'\\' | b'/' | b'\'')) => one(*byte, 2),
        Some(b'b') => one(8, 2),
        Some(b'f') => one(12, 2),
        Some(b'n') => one(b'\n', 2),
        Some(b'r') => one(b'\r', 2),
        Some(b't') => one(b'\t', 2),
        Some(b'0') => one(0, 2),
        Some(b'x') => match (rest.get(1).map(hex), rest.get(2).map(hex)) {
            (Some(Some(high)), Some(Some(low))) => one(high << 4 | low, 4),
            (Some(None), _) | (_, Some(None)) => Escape::No,
            (None, _) | (_, None) => Escape::CutOff,
        },
        Some(b'u') if rest.get(1) == Some(&b'{') => braced(rest),
        Some(b'u') => unicode(rest),
        Some(_) => Escape::No,
    }
}

/// `u{XXXXXX}`, as Rust writes it.
fn braced(rest: &[u8]) -> Escape {
    let digits = rest.get(2..).unwrap_or_default();
    let len = digits.iter().take(7).take_while(|byte| hex(byte).is_some()).count();
    match digits.get(len) {
        Some(b'}') if (1..=6).contains(&len) => character(number(digits, len), len + 4),
        None if len <= 6 => Escape::CutOff,
        _ => Escape::No,
    }
}

/// `uXXXX`, and two of them where a character needs it.
fn unicode(rest: &[u8]) -> Escape {
    let digits = |from: usize| {
        let rest = rest.get(from..).unwrap_or_default();
        let len = rest.iter().take(4).take_while(|byte| hex(byte).is_some()).count();
        match (len, rest.len()) {
            (4, _) => Ok(number(rest, 4)),
            (len, all) if len == all => Err(Escape::CutOff),
            _ => Err(Escape::No),
        }
    };
    let high = match digits(1) {
        Ok(number) => number,
        Err(why) => return why,
    };
    if !(0xd800..0xdc00).contains(&high) {
        return character(high, 6);
    }
    match rest.get(5..7) {
        Some(b"\\u") => match digits(7) {
            Ok(low @ 0xdc00..0xe000) => character(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00), 12),
            Err(Escape::CutOff) => Escape::CutOff,
            Ok(_) | Err(_) => Escape::No,
        },
        None if rest.get(5).is_none_or(|byte| *byte == b'\\') => Escape::CutOff,
        Some(_) | None => Escape::No,
    }
}

fn character(code: u32, taken: usize) -> Escape {
    let Some(c) = char::from_u32(code) else { return Escape::No };
    let mut bytes = [0; 4];
    let len = c.encode_utf8(&mut bytes).len();
    Escape::Is(bytes, len, taken)
}

fn number(digits: &[u8], len: usize) -> u32 {
    digits.iter().take(len).filter_map(hex).fold(0, |sum, digit| sum << 4 | u32::from(digit))
}

fn hex(byte: &u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(view: &View) -> (String, usize) {
        (String::from_utf8_lossy(&view.bytes).into_owned(), view.open)
    }

    #[test]
    fn escapes_of_all_kinds_are_resolved_and_know_their_place() {
        let text = r#"a\"\n\u00e9\ud83d\ude00\u{1f600}\x41\/\q"#;
        let view = View::plain(text.as_bytes()).unescaped();
        assert_eq!(read(&view), ("a\"\né😀😀A/\\q".to_owned(), text.len()));
        assert_eq!((view.source(1), view.source(2), view.source(3)), (1, 3, 5));
        assert_eq!(view.source(view.bytes.len()), text.len());
        let text = "a%20b%2fc%zz%";
        assert_eq!(read(&View::plain(text.as_bytes()).unpercented()), ("a b/c%zz".to_owned(), 12));
        assert_eq!(read(&View::plain(b"a+b").unplussed()).0, "a b");
        for cut in ["\\", "\\u", "\\u00e", "\\ud83d", "\\ud83d\\", "\\ud83d\\ude0", "\\x4", "\\u{1f"] {
            let text = format!("a{cut}");
            assert_eq!(read(&View::plain(text.as_bytes()).unescaped()), ("a".to_owned(), 1), "{cut}");
        }
        for wrong in ["\\ud83dx", "\\u00zz", "\\u{}", "\\u{1234567}", "\\ud83d\\u0041", "\\xzz"] {
            assert_eq!(read(&View::plain(wrong.as_bytes()).unescaped()).1, wrong.len(), "{wrong}");
        }
    }
}
