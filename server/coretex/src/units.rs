//! How people write spans and sizes: `90s`, `1h30m`, `64MiB`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What a span may look like, for refusals and help.
pub const SPAN_GRAMMAR: &str =
    "numbers with units `ms`, `s`, `m`, `h` or `d`, largest first, for example `90s`, `5m` or `1h30m`";
/// What a size may look like, for refusals and help.
pub const SIZE_GRAMMAR: &str =
    "a number of bytes, with a unit `KiB`, `MiB`, `GiB` or `TiB` if wanted, for example `64MiB`";

/// A span of time as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// A number of bytes as people write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Units of a span, largest first, in milliseconds.
const SPAN_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: [(&str, u64); 6] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40), ("", 1)];

// === impl Span ===

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let refuse = |why: &str| format!("`{text}` is not a span{why}; write {SPAN_GRAMMAR}");
        if text == "0" {
            return Ok(Span(Duration::ZERO));
        }
        let (mut rest, mut total, mut last) = (text, 0u64, SPAN_UNITS.len());
        let mut is_first = true;
        while !rest.is_empty() {
            let (number, after) = rest.split_at(digits(rest));
            let (unit, after) =
                after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
            if number.is_empty() {
                return Err(refuse(""));
            }
            let Some(place) = SPAN_UNITS.iter().position(|(name, _)| *name == unit) else {
                return Err(refuse(if unit.is_empty() { ": a unit is missing" } else { ": unknown unit" }));
            };
            if !is_first && place <= last {
                return Err(refuse(": larger units come first, each once"));
            }
            let value = number.parse::<u64>().ok().and_then(|n| n.checked_mul(SPAN_UNITS[place].1));
            total = value.and_then(|ms| total.checked_add(ms)).ok_or_else(|| refuse(": it is too long"))?;
            (rest, last, is_first) = (after, place, false);
        }
        if is_first { Err(refuse("")) } else { Ok(Span(Duration::from_millis(total))) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        for (unit, ms) in SPAN_UNITS {
            if left >= ms {
                write!(f, "{}{unit}", left / ms)?;
                left %= ms;
            }
        }
        Ok(())
    }
}

fn digits(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())
}

// === impl Size ===

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let refuse = || format!("`{text}` is not a size; write {SIZE_GRAMMAR}");
        let (number, unit) = text.split_at(digits(text));
        let unit = SIZE_UNITS.iter().find(|(name, _)| *name == unit.trim()).ok_or_else(refuse)?;
        let number: u64 = number.parse().map_err(|_| refuse())?;
        number.checked_mul(unit.1).map(Size).ok_or_else(refuse)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        let Some((unit, bytes)) = units.into_iter().find(|(_, bytes)| self.0 >= *bytes) else {
            return write!(f, "{} B", self.0);
        };
        match self.0 % bytes {
            0 => write!(f, "{} {unit}", self.0 / bytes),
            #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
            _ => write!(f, "{:.1} {unit}", self.0 as f64 / bytes as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, ms) in [
            ("0", 0),
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("2d1h", 176_400_000),
            ("1s500ms", 1_500),
        ] {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(ms))), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_span_is_refused_with_the_grammar() {
        for text in
            ["", "abc", "5", "5x", "m", "-5s", "1.5h", "30m1h", "1s1s", "99999999999999999999d", " 5s", "5 s"]
        {
            let refusal = text.parse::<Span>().expect_err(text);
            assert!(refusal.contains("1h30m"), "{refusal}");
        }
    }

    #[test]
    fn spans_survive_being_shown() {
        for text in ["90s", "1h30m", "2d1h", "250ms", "1m30s500ms"] {
            let span: Span = text.parse().expect(text);
            assert_eq!(span.to_string().parse(), Ok(span));
        }
        assert_eq!(Span(Duration::from_secs(90)).to_string(), "1m30s");
    }

    #[test]
    fn sizes_are_read_and_shown() {
        assert_eq!("64MiB".parse(), Ok(Size(64 << 20)));
        assert_eq!("4096".parse(), Ok(Size(4096)));
        assert_eq!("10 GiB".parse(), Ok(Size(10 << 30)));
        for text in ["", "x", "1MB", "-1", "99999999999TiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        assert_eq!(Size(64 << 20).to_string(), "64 MiB");
        assert_eq!(Size(1500).to_string(), "1.5 KiB");
    }
}
