//! Fields of a map, each taken out by what it must be. What is wrong is noted, and reading goes on.

use crate::node::{Node, Spot, place};
use crate::problem::{Problem, Problems};
use crate::span;
use coretex_domain::Span;
use coretex_domain::names::shown;
use coretex_domain::nearest::hint;
use std::sync::Arc;

/// Entries of one list of texts.
pub const LIST_MAX: usize = 256;

/// Everything noted so far.
#[derive(Debug, Default)]
pub struct Notes {
    list: Vec<Problem>,
}

/// The fields of one map, under the path of the map.
#[derive(Debug)]
pub struct Fields<'n> {
    path: String,
    entries: Vec<(&'n str, &'n Spot)>,
}

// === impl Notes ===

impl Notes {
    /// True if nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How much was noted.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// What was noted, in the order it was.
    pub fn into_list(self) -> Vec<Problem> {
        self.list
    }

    /// What was noted, in the order of the text.
    pub fn into_problems(self) -> Problems {
        Problems::new(self.list)
    }

    /// Notes that something is wrong with the value at `spot`.
    pub fn at(&mut self, spot: &Spot, field: &str, message: impl Into<String>) {
        let (line, column) = place(spot);
        self.list.push(Problem { line, column, field: field.into(), message: message.into() });
    }

    /// Opens a map and notes the keys it should not have.
    pub fn map<'n>(&mut self, spot: &'n Spot, path: &str, known: &[&str]) -> Option<Fields<'n>> {
        let Node::Map(fields) = &spot.value else {
            let message = format!("is {}, where a map is wanted: {}", spot.value.kind(), known.join(", "));
            self.at(spot, path, message);
            return None;
        };
        let mut entries: Vec<(&str, &Spot)> = Vec::new();
        for (key, value) in fields {
            let (line, column) = (key.referenced.line(), key.referenced.column());
            let field = join(path, &key.value);
            let message = if !known.contains(&key.value.as_str()) {
                format!(
                    "is no key here; the keys are {}{}",
                    known.join(", "),
                    hint(&key.value, known.iter().copied())
                )
            } else if entries.iter().any(|(name, _)| *name == key.value) {
                "is given twice".into()
            } else {
                // `key:` with nothing after it is as if it was not there.
                entries.push((&key.value, value));
                continue;
            };
            let field = if field.len() > 200 { join(path, "…") } else { field };
            self.list.push(Problem { line, column, field, message });
        }
        entries.retain(|(_, spot)| !matches!(spot.value, Node::Null));
        Some(Fields { path: path.into(), entries })
    }

    /// Names that are written into records and addresses.
    pub fn check_id(&mut self, spot: &Spot, field: &str, id: &str, bytes_max: usize) {
        let is_good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if id.len() > bytes_max {
            self.at(spot, field, format!("has {} bytes, at most {bytes_max}", id.len()));
        } else if let Some((at, c)) = id.char_indices().find(|(_, c)| !is_good(*c)) {
            self.at(
                spot,
                field,
                format!("position {at} is {c:?} in {}; it has letters, digits, `.`, `_` and `-`", shown(id)),
            );
        }
    }
}

/// The path of a field below a path.
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

// === impl Fields ===

impl<'n> Fields<'n> {
    /// The value of a field that is given; one with nothing after its colon is not.
    pub fn spot(&self, name: &str) -> Option<&'n Spot> {
        self.entries.iter().find(|(known, _)| *known == name).map(|(_, spot)| *spot)
    }

    /// True if a field is given.
    pub fn has(&self, name: &str) -> bool {
        self.spot(name).is_some()
    }

    /// True if no field is given.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The path of a field of this map.
    pub fn path(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// A text that is not blank and at most `bytes_max` long.
    pub fn text(&self, name: &str, bytes_max: usize, notes: &mut Notes) -> Option<Arc<str>> {
        text(self.spot(name)?, &self.path(name), bytes_max, notes)
    }

    /// One of some words.
    pub fn word<T: Copy>(&self, name: &str, words: &[(&str, T)], notes: &mut Notes) -> Option<T> {
        let spot = self.spot(name)?;
        let known = || words.iter().map(|(word, _)| *word);
        let listed = || known().collect::<Vec<_>>().join(", ");
        let Node::Text(found) = &spot.value else {
            notes.at(
                spot,
                &self.path(name),
                format!("is {}, where a word is wanted: {}", spot.value.kind(), listed()),
            );
            return None;
        };
        if let Some((_, value)) = words.iter().find(|(word, _)| word == found) {
            return Some(*value);
        }
        let message = format!("is {}; it is one of {}{}", shown(found), listed(), hint(found, known()));
        notes.at(spot, &self.path(name), message);
        None
    }

    /// A whole number within bounds.
    pub fn whole(&self, name: &str, least: u64, most: u64, notes: &mut Notes) -> Option<u64> {
        let spot = self.spot(name)?;
        let told = match &spot.value {
            Node::Whole(value) => match u64::try_from(*value) {
                Ok(value) if (least..=most).contains(&value) => return Some(value),
                _ => format!("is {value}, outside of {least} … {most}"),
            },
            Node::Float(value) => format!("is {value}, where a whole number of {least} … {most} is wanted"),
            Node::Text(text) => {
                format!("is the text {}, where a whole number of {least} … {most} is wanted", shown(text))
            }
            other => format!("is {}, where a whole number of {least} … {most} is wanted", other.kind()),
        };
        notes.at(spot, &self.path(name), told);
        None
    }

    /// The same, of 32 bits.
    pub fn count(&self, name: &str, least: u32, most: u32, notes: &mut Notes) -> Option<u32> {
        let found = self.whole(name, least.into(), most.into(), notes)?;
        u32::try_from(found).ok()
    }

    /// A length of time, as in `30s`.
    pub fn span(&self, name: &str, least: Span, most: Span, notes: &mut Notes) -> Option<Span> {
        let spot = self.spot(name)?;
        let told = match &spot.value {
            Node::Text(text) => match span::parse(text) {
                Ok(found) if (least..=most).contains(&found) => return Some(found),
                Ok(_) => {
                    format!("is {}, outside of {} … {}", shown(text), least, most)
                }
                Err(told) => told,
            },
            Node::Whole(value) => format!("is {value} without a unit; write 500ms, 30s, 5m, 1h30m or 2d"),
            other => format!("is {}, where a length of time is wanted, as in 30s", other.kind()),
        };
        notes.at(spot, &self.path(name), told);
        None
    }

    /// `true` or `false`.
    pub fn is_true(&self, name: &str, notes: &mut Notes) -> Option<bool> {
        let spot = self.spot(name)?;
        if let Node::Bool(value) = spot.value {
            return Some(value);
        }
        notes.at(spot, &self.path(name), format!("is {}, where true or false is wanted", spot.value.kind()));
        None
    }

    /// A list of texts.
    pub fn texts(&self, name: &str, bytes_max: usize, notes: &mut Notes) -> Option<Vec<Arc<str>>> {
        let (spot, path) = (self.spot(name)?, self.path(name));
        let items = items(spot, &path, LIST_MAX, notes)?;
        let read =
            |(number, item): (usize, &Spot)| text(item, &format!("{path}[{number}]"), bytes_max, notes);
        Some(items.iter().enumerate().filter_map(read).collect())
    }
}

/// The entries of a list.
pub fn items<'n>(spot: &'n Spot, path: &str, most: usize, notes: &mut Notes) -> Option<&'n [Spot]> {
    let Node::List(items) = &spot.value else {
        notes.at(spot, path, format!("is {}, where a list is wanted", spot.value.kind()));
        return None;
    };
    if items.len() > most {
        notes.at(spot, path, format!("has {} entries, at most {most}", items.len()));
        return None;
    }
    Some(items)
}

/// A text that is not blank and at most `bytes_max` long.
pub fn text(spot: &Spot, path: &str, bytes_max: usize, notes: &mut Notes) -> Option<Arc<str>> {
    let told = match &spot.value {
        Node::Text(text) if text.trim().is_empty() => "is blank".to_owned(),
        Node::Text(text) if text.len() > bytes_max => {
            format!("has {} bytes, at most {bytes_max}", text.len())
        }
        Node::Text(text) => match text.char_indices().find(|(_, c)| c.is_control() && !"\n\r\t".contains(*c))
        {
            Some((at, c)) => format!("position {at} is {c:?}; a text is printable"),
            None => return Some(text.as_str().into()),
        },
        Node::Bool(value) => format!("is {value}, where a text is wanted; put it in quotes"),
        Node::Whole(value) => format!("is the number {value}, where a text is wanted; put it in quotes"),
        Node::Float(value) => format!("is the number {value}, where a text is wanted; put it in quotes"),
        other => format!("is {}, where a text is wanted", other.kind()),
    };
    notes.at(spot, path, told);
    None
}
