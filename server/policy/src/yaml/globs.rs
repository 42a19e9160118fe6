//! Patterns in a bundle.

use crate::glob::{Alphabet, Glob};
use coretex_document::{Fields, LIST_MAX, Node, Notes, Spot, items, text};

/// A list of patterns, at least one; a single pattern may stand for its list.
pub(super) fn field(fields: &Fields<'_>, name: &str, alphabet: Alphabet, notes: &mut Notes) -> Vec<Glob> {
    fields.spot(name).map(|spot| globs(spot, &fields.path(name), alphabet, notes)).unwrap_or_default()
}

pub(super) fn globs(spot: &Spot, path: &str, alphabet: Alphabet, notes: &mut Notes) -> Vec<Glob> {
    if !matches!(spot.value, Node::List(_)) {
        return glob(spot, path, alphabet, notes).into_iter().collect();
    }
    let Some(items) = items(spot, path, LIST_MAX, notes) else { return Vec::new() };
    if items.is_empty() {
        notes.at(spot, path, "is empty and would never match; leave it out, or write [\"*\"] for any");
    }
    let read = |(number, item): (usize, &Spot)| glob(item, &format!("{path}[{number}]"), alphabet, notes);
    items.iter().enumerate().filter_map(read).collect()
}

fn glob(spot: &Spot, path: &str, alphabet: Alphabet, notes: &mut Notes) -> Option<Glob> {
    let pattern = text(spot, path, usize::MAX, notes)?;
    Glob::parse(&pattern, alphabet).map_err(|told| notes.at(spot, path, told)).ok()
}
