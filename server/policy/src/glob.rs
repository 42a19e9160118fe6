//! Patterns over names. In: a pattern of the bundle. Out: whether a name has that form. Refused: what can never match.
//!
//! `*` is any run of characters, dots and nothing included; `?` is exactly one character; all else is itself. So
//! `sys.destroy.*` covers everything below `sys.destroy` at any depth (as the built-in policy does) but not
//! `sys.destroy` or `sys.destroyer`, and `job.*.llm` covers `job.code.llm` and `job.code.review.llm`. A star that
//! stopped at a dot would let `sys.destroy.disk.all` slip past a rule that forbids `sys.destroy.*`.

use crate::limits::{PATTERN_LEN_MAX, PATTERN_STARS_MAX};
use coretex_domain::names::shown;
use serde::{Serialize, Serializer};
use std::sync::Arc;

/// A checked pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    text: Arc<str>,
    form: Form,
}

/// How to compare, chosen once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    All,
    Exact,
    /// One star, at the end.
    Prefix,
    General,
}

/// Which names a pattern is meant for; characters these never have are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// `[a-z0-9._-]`
    Topic,
    /// `[a-z0-9_-]`
    Namespace,
    /// Anything printable.
    Free,
}

impl Glob {
    /// Checks a pattern.
    pub fn parse(text: &str, alphabet: Alphabet) -> Result<Glob, String> {
        if text.is_empty() {
            return Err("is empty; write \"*\" for any".into());
        }
        if text.len() > PATTERN_LEN_MAX {
            return Err(format!("has {} bytes, at most {PATTERN_LEN_MAX}: {}", text.len(), shown(text)));
        }
        let may = |c: char| match alphabet {
            Alphabet::Topic => c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c),
            Alphabet::Namespace => c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c),
            Alphabet::Free => !c.is_control(),
        };
        if let Some((at, c)) = text.char_indices().find(|(_, c)| !"*?".contains(*c) && !may(*c)) {
            let known = match alphabet {
                Alphabet::Topic => "letters a-z, digits, `.`, `_`, `-`, `*` and `?`",
                Alphabet::Namespace => "letters a-z, digits, `_`, `-`, `*` and `?`",
                Alphabet::Free => "printable characters",
            };
            return Err(format!("position {at} is {c:?} in {}; a pattern here has {known}", shown(text)));
        }
        if text.contains("**") {
            return Err(format!("has `**` in {}; one `*` already spans dots", shown(text)));
        }
        let stars = text.matches('*').count();
        if stars > PATTERN_STARS_MAX {
            return Err(format!("has {stars} stars, at most {PATTERN_STARS_MAX}: {}", shown(text)));
        }
        let form = match (stars, text.contains('?')) {
            _ if text == "*" => Form::All,
            (0, false) => Form::Exact,
            (1, false) if text.ends_with('*') => Form::Prefix,
            _ => Form::General,
        };
        Ok(Glob { text: text.into(), form })
    }

    /// True if it is a plain name.
    pub fn is_exact(&self) -> bool {
        self.form == Form::Exact
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn matches(&self, name: &str) -> bool {
        match self.form {
            Form::All => true,
            Form::Exact => *self.text == *name,
            Form::Prefix => name.as_bytes().starts_with(&self.text.as_bytes()[..self.text.len() - 1]),
            Form::General => matches_general(&self.text, name),
        }
    }

    /// True if every name of `other` is one of this pattern's. May say no where the answer is yes.
    pub fn covers(&self, other: &Glob) -> bool {
        // A star of `other` stands for texts that hold no star, so only a literal star of ours may meet it.
        self.form == Form::All
            || self == other
            || (!other.text.contains(['*', '?']) && self.matches(other.as_str()))
    }
}

/// Two hands and a place to go back to: at most |pattern| × |name| steps and no recursion.
fn matches_general(pattern: &str, name: &str) -> bool {
    let (p, n) = (pattern.as_bytes(), name.as_bytes());
    let (mut i, mut j, mut back) = (0, 0, None);
    while j < n.len() {
        match p.get(i) {
            Some(b'*') => {
                back = Some((i, j));
                i += 1;
            }
            Some(b'?') => {
                i += 1;
                j += char_len(n[j]);
            }
            Some(c) if *c == n[j] => {
                i += 1;
                j += 1;
            }
            Some(_) | None => {
                let Some((star, from)) = back else { return false };
                let next = from + char_len(n[from]);
                back = Some((star, next));
                (i, j) = (star + 1, next);
            }
        }
    }
    p[i..].iter().all(|c| *c == b'*')
}

/// Bytes of the character that begins with this byte.
fn char_len(first: u8) -> usize {
    match first {
        0xF0.. => 4,
        0xE0.. => 3,
        0xC0.. => 2,
        _ => 1,
    }
}

impl Serialize for Glob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> Glob {
        Glob::parse(text, Alphabet::Topic).unwrap()
    }

    #[test]
    fn a_star_spans_dots_and_nothing() {
        for (pattern, name, expected) in [
            ("sys.destroy", "sys.destroy", true),
            ("sys.destroy", "sys.destroyer", false),
            ("sys.destroy.*", "sys.destroy.disk", true),
            ("sys.destroy.*", "sys.destroy.disk.all", true),
            ("sys.destroy.*", "sys.destroy", false),
            ("sys.destroy.*", "sys.destroyer", false),
            ("job.*.llm", "job.code.llm", true),
            ("job.*.llm", "job.code.review.llm", true),
            ("job.*.llm", "job.llm", false),
            ("job.*.llm", "job.code.llm.x", false),
            ("*.llm", "a.llm", true),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*ab*ab", "abab", true),
            ("*ab*ab", "aab", false),
        ] {
            assert_eq!(topic(pattern).matches(name), expected, "{pattern} against {name}");
        }
        let free = Glob::parse("?é*", Alphabet::Free).unwrap();
        assert!(free.matches("éé") && free.matches("xé…") && !free.matches("é"));
    }

    #[test]
    fn what_can_never_match_is_refused() {
        for (bad, part) in [
            ("", "empty"),
            ("Job.*", "position 0"),
            ("job.>", "position 4"),
            ("job.[ab]", "position 4"),
            ("job.**", "one `*` already"),
            ("*a*a*a*a*a*a*a*a*a", "9 stars, at most 8"),
            (&"a".repeat(257), "257 bytes, at most 256"),
        ] {
            let told = Glob::parse(bad, Alphabet::Topic).unwrap_err();
            assert!(told.contains(part), "{bad}: {told}");
        }
        assert!(Glob::parse("a.b", Alphabet::Namespace).is_err());
    }

    #[test]
    fn covering_is_never_claimed_wrongly() {
        assert!(topic("*").covers(&topic("a.*")) && topic("a.*").covers(&topic("a.b")));
        assert!(!topic("a?").covers(&topic("a*")) && !topic("a.b").covers(&topic("a.*")));
    }
}
