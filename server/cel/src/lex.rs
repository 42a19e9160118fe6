//! Words of an expression. In: a text. Out: its words with their places. Refused: what is no word of the language.

use crate::expression::Mistake;
use crate::limits::EXPRESSION_BYTES_MAX;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Word {
    Int(i64),
    /// 2^63, which only a minus in front makes a number.
    IntBeyond,
    Double(f64),
    Text(Arc<str>),
    Name(Arc<str>),
    Sign(&'static str),
    End,
}

pub(crate) struct Placed {
    pub(crate) at: usize,
    pub(crate) word: Word,
}

/// Longest first.
const SIGNS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "+", "-", "*", "/", "%", "?", ":", ".", ",", "(", ")",
    "[", "]", "{", "}",
];

/// The words of a whole text, or of one up to the brace that closes a `${`; and where they end.
pub(crate) fn words(text: &str, is_embedded: bool) -> Result<(Vec<Placed>, usize), Mistake> {
    let mut found = Vec::new();
    let (mut at, mut open) = (0, 0u32);
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        if c.is_whitespace() {
            at += c.len_utf8();
        } else if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else {
            let (word, length) = word(rest, c).map_err(|mistake| mistake.after(at))?;
            match word {
                Word::Sign("{") => open += 1,
                Word::Sign("}") if open > 0 => open -= 1,
                Word::Sign("}") if is_embedded => break,
                _ => {}
            }
            found.push(Placed { at, word });
            at += length;
        }
        if at > EXPRESSION_BYTES_MAX {
            let message = format!("the expression has more than {EXPRESSION_BYTES_MAX} bytes");
            return Err(Mistake { at: 0, message });
        }
    }
    found.push(Placed { at, word: Word::End });
    Ok((found, at))
}

/// The word a text begins with, and its length.
fn word(rest: &str, c: char) -> Result<(Word, usize), Mistake> {
    if c.is_ascii_digit() || (c == '.' && rest[1..].starts_with(|d: char| d.is_ascii_digit())) {
        return number(rest).map_err(|message| Mistake { at: 0, message });
    }
    if let Some(found) = text_literal(rest).map_err(|(at, message)| Mistake { at, message })? {
        return Ok(found);
    }
    if c.is_ascii_alphabetic() || c == '_' {
        let length = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        return Ok((Word::Name(rest[..length].into()), length));
    }
    match SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
        Some(sign) => Ok((Word::Sign(sign), sign.len())),
        None => Err(Mistake { at: 0, message: format!("{c:?} is no part of an expression") }),
    }
}

fn number(rest: &str) -> Result<(Word, usize), String> {
    let bytes = rest.as_bytes();
    let digits = |from: usize, hex: bool| {
        let is = |b: &&u8| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() };
        bytes[from..].iter().take_while(is).count()
    };
    if rest.starts_with("0x") || rest.starts_with("0X") {
        let length = 2 + digits(2, true);
        let value = i64::from_str_radix(&rest[2..length], 16);
        let value = value.map_err(|_| format!("`{}` is no whole number of 64 bits", cut(&rest[..length])))?;
        return ends(rest, length).map(|()| (Word::Int(value), length));
    }
    let mut length = digits(0, false);
    let mut is_double = false;
    if bytes.get(length) == Some(&b'.') && digits(length + 1, false) > 0 {
        is_double = true;
        length += 1 + digits(length + 1, false);
    }
    if matches!(bytes.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
        let exponent = digits(length + 1 + sign, false);
        if exponent > 0 {
            is_double = true;
            length += 1 + sign + exponent;
        }
    }
    ends(rest, length)?;
    let shown = &rest[..length];
    if is_double {
        let value: f64 = shown.parse().map_err(|_| format!("`{}` is no number", cut(shown)))?;
        return if value.is_finite() {
            Ok((Word::Double(value), length))
        } else {
            Err(format!("`{}` is too large", cut(shown)))
        };
    }
    match shown.parse::<u64>() {
        Ok(value) if value == 1 << 63 => Ok((Word::IntBeyond, length)),
        Ok(value) => {
            i64::try_from(value).map(|value| (Word::Int(value), length)).map_err(|_| too_large(shown))
        }
        Err(_) => Err(too_large(shown)),
    }
}

fn too_large(shown: &str) -> String {
    format!("`{}` is outside of the whole numbers of 64 bits", cut(shown))
}

fn ends(rest: &str, length: usize) -> Result<(), String> {
    match rest[length..].chars().next() {
        Some('u' | 'U') => Err("unsigned numbers are not part of this language; leave out the `u`".into()),
        Some(c) if c.is_alphanumeric() || c == '_' => Err(format!("a number runs into {c:?}")),
        _ => Ok(()),
    }
}

fn cut(text: &str) -> &str {
    text.get(..40).unwrap_or(text)
}

/// A text in quotes, if there is one here.
fn text_literal(rest: &str) -> Result<Option<(Word, usize)>, (usize, String)> {
    let is_raw = rest.starts_with(['r', 'R']);
    let opened = &rest[usize::from(is_raw)..];
    if !opened.starts_with(['"', '\'']) {
        let prefix = rest.len() - rest.trim_start_matches(['b', 'B', 'r', 'R']).len();
        let is_bytes = (1..=2).contains(&prefix) && rest[prefix..].starts_with(['"', '\'']);
        return if is_bytes {
            Err((0, "byte literals are not part of this language".into()))
        } else {
            Ok(None)
        };
    }
    let triple = ["\"\"\"", "'''"].into_iter().find(|quote| opened.starts_with(quote));
    let quote = triple.unwrap_or(&opened[..1]);
    let mut at = usize::from(is_raw) + quote.len();
    let mut out = String::new();
    loop {
        if rest[at..].starts_with(quote) {
            return Ok(Some((Word::Text(out.into()), at + quote.len())));
        }
        match rest[at..].chars().next() {
            None => return Err((0, "a text is not closed".into())),
            Some('\n' | '\r') if triple.is_none() => {
                return Err((0, "a text is not closed on its line".into()));
            }
            Some('\\') if !is_raw => {
                let (c, length) = escape(&rest[at + 1..]).map_err(|message| (at, message))?;
                out.push(c);
                at += 1 + length;
            }
            Some(c) => {
                out.push(c);
                at += c.len_utf8();
            }
        }
    }
}

/// What stands after a backslash, and its length.
fn escape(rest: &str) -> Result<(char, usize), String> {
    let simple = |c| Ok((c, 1));
    let coded = |from: usize, length: usize, radix| {
        let digits = rest.get(from..from + length).filter(|d| d.chars().all(|c| c.is_digit(radix)));
        let code = digits.and_then(|digits| u32::from_str_radix(digits, radix).ok());
        let c = code.and_then(char::from_u32);
        c.map(|c| (c, from + length)).ok_or_else(|| "an escape names no character".to_owned())
    };
    match rest.chars().next() {
        Some('n') => simple('\n'),
        Some('t') => simple('\t'),
        Some('r') => simple('\r'),
        Some('a') => simple('\u{7}'),
        Some('b') => simple('\u{8}'),
        Some('f') => simple('\u{c}'),
        Some('v') => simple('\u{b}'),
        Some(c @ ('\\' | '\'' | '"' | '`' | '?')) => simple(c),
        Some('x' | 'X') => coded(1, 2, 16),
        Some('u') => coded(1, 4, 16),
        Some('U') => coded(1, 8, 16),
        Some('0'..='3') => coded(0, 3, 8),
        Some(c) => Err(format!("`\\{c}` is no escape; write `\\\\` for a backslash")),
        None => Err("a text is not closed".into()),
    }
}
