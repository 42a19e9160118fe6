//! Finds values in texts, whatever form they have there.

use crate::forms::{self, Form, REDACTED_LEN_MIN, is_base64};
use crate::views::View;
use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind};
use coretex_domain::redact::REDACTED;
use std::ops::Range;

/// So many bytes of a form are looked for at first; the rest is compared where they are. Keeps the automaton small.
const ANCHOR_LEN: usize = 24;
/// Escapes within escapes that are followed: JSON in a text in JSON in a log line.
const DEPTH_MAX: usize = 4;

/// Finds a set of values.
pub struct Redactor {
    anchors: AhoCorasick,
    /// The forms that begin with each anchor.
    groups: Vec<Range<usize>>,
    /// In order.
    forms: Vec<Form>,
    longest: usize,
}

// === impl Redactor ===

impl Redactor {
    /// Of these values; those with fewer than eight bytes are left alone. None if there are none.
    pub fn of<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Option<Redactor>, String> {
        let mut forms = Vec::new();
        values.into_iter().for_each(|value| forms::of(value, &mut forms));
        forms.sort_unstable();
        forms.dedup();
        let Some(longest) = forms.iter().map(|form| form.bytes.len()).max() else { return Ok(None) };
        let anchor = |form: &Form| form.bytes.len().min(ANCHOR_LEN);
        let (mut groups, mut patterns) = (Vec::<Range<usize>>::new(), Vec::<&[u8]>::new());
        for (at, form) in forms.iter().enumerate() {
            let start = form.bytes.get(..anchor(form)).unwrap_or_default();
            match (patterns.last(), groups.last_mut()) {
                (Some(last), Some(group)) if *last == start => group.end = at + 1,
                _ => {
                    patterns.push(start);
                    groups.push(at..at + 1);
                }
            }
        }
        let anchors = AhoCorasickBuilder::new()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&patterns)
            .map_err(|error| format!("the values cannot be looked for: {error}"))?;
        Ok(Some(Redactor { anchors, groups, forms, longest }))
    }

    /// Where values are, in order, without overlaps.
    pub fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        self.search(text, &|at| at, &mut found);
        self.each_view(text, &mut |view| self.search(&view.bytes, &|at| view.source(at), &mut found));
        merged(found)
    }

    /// The text with `[redacted]` in the place of every value. None if there is none in it.
    pub fn redact(&self, text: &[u8]) -> Option<Vec<u8>> {
        replaced(text, self.find(text))
    }

    /// The same of a text that may have been cut: parts of values at its ends go as well.
    pub fn redact_text(&self, text: &str) -> Option<String> {
        let bytes = text.as_bytes();
        let mut found = self.find(bytes);
        found.extend(self.tail(bytes));
        found.extend(self.head(bytes));
        for (at, _) in text.match_indices('…') {
            let cut = bytes.get(..at).unwrap_or_default();
            found.extend(self.tail(cut));
        }
        let out = replaced(bytes, merged(found))?;
        Some(
            String::from_utf8(out)
                .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        )
    }

    /// Where the first value begins that the end of the text may cut off; the end of the text if there is none.
    pub(crate) fn open_at(&self, text: &[u8]) -> usize {
        let mut open = self.open_in(text).unwrap_or(text.len());
        self.each_view(text, &mut |view| {
            let at = self.open_in(&view.bytes).map_or(view.open, |at| view.source(at));
            open = open.min(at);
        });
        open
    }

    fn search(&self, text: &[u8], source: &dyn Fn(usize) -> usize, found: &mut Vec<Range<usize>>) {
        for hit in self.anchors.find_overlapping_iter(text) {
            let group = self.groups.get(hit.pattern().as_usize()).cloned().unwrap_or_default();
            let Some(rest) = text.get(hit.start()..) else { continue };
            for form in self.forms.get(group).unwrap_or_default() {
                if rest.starts_with(&form.bytes) {
                    let (start, end) = with_mixed(text, hit.start()..hit.start() + form.bytes.len(), form);
                    found.push(source(start)..source(end));
                }
            }
        }
    }

    /// Every way to read the text that differs from what is there.
    fn each_view(&self, text: &[u8], take: &mut dyn FnMut(&View)) {
        let has = |bytes: &[u8], byte| memchr::memchr(byte, bytes).is_some();
        let urls = |view: &View, take: &mut dyn FnMut(&View)| {
            if has(&view.bytes, b'%') {
                take(&view.unpercented());
            }
            if has(&view.bytes, b'+') {
                let spaced = view.unplussed();
                take(&spaced);
                if has(&view.bytes, b'%') {
                    take(&spaced.unpercented());
                }
            }
        };
        if !(has(text, b'\\') || has(text, b'%') || has(text, b'+')) {
            return;
        }
        let mut view = View::plain(text);
        urls(&view, take);
        for _ in 0..DEPTH_MAX {
            if !has(&view.bytes, b'\\') {
                break;
            }
            view = view.unescaped();
            take(&view);
            urls(&view, take);
        }
    }

    /// Where the longest beginning of a form is that the text ends with, the whole form excepted.
    fn open_in(&self, text: &[u8]) -> Option<usize> {
        let from = text.len().saturating_sub(self.longest.saturating_sub(1));
        (from..text.len()).find(|at| {
            let rest = text.get(*at..).unwrap_or_default();
            // The first form that is not before the rest: if any begins with the rest, this does. One that is the rest
            // is whole; one that goes on comes after it.
            let first = self.forms.partition_point(|form| *form.bytes <= *rest);
            self.forms.get(first).is_some_and(|form| form.bytes.starts_with(rest))
        })
    }

    /// The beginning of a value that the text ends with, if it is long enough to tell.
    fn tail(&self, text: &[u8]) -> Option<Range<usize>> {
        let mut open = self.open_in(text).filter(|at| text.len() - at >= REDACTED_LEN_MIN);
        self.each_view(text, &mut |view| {
            let at = self.open_in(&view.bytes).filter(|at| view.bytes.len() - at >= REDACTED_LEN_MIN);
            open = [open, at.map(|at| view.source(at))].into_iter().flatten().min();
        });
        open.map(|at| at..text.len())
    }

    /// The end of a value that the text begins with.
    fn head(&self, text: &[u8]) -> Option<Range<usize>> {
        let start = text.get(..REDACTED_LEN_MIN)?;
        // Places may overlap: a value may repeat itself.
        let begins =
            |form: &&Form, at: &usize| form.bytes.get(*at..).is_some_and(|end| end.starts_with(start));
        let ends = self.forms.iter().flat_map(|form| {
            (0..form.bytes.len()).filter(move |at| begins(&form, at)).filter_map(|at| form.bytes.get(at..))
        });
        let longest = ends.filter(|end| text.starts_with(end)).map(<[u8]>::len).max()?;
        Some(0..longest)
    }
}

/// Where a form is, with the characters of base64 around it that hold a part of it, and the padding.
fn with_mixed(text: &[u8], at: Range<usize>, form: &Form) -> (usize, usize) {
    let (mut start, mut end) = (at.start, at.end);
    if !form.is_base64 {
        return (start, end);
    }
    let is_one = |at: usize| text.get(at).copied().is_some_and(is_base64);
    if form.mixed.0 && start > 0 && is_one(start - 1) {
        start -= 1;
    }
    if form.mixed.1 && is_one(end) {
        end += 1;
    }
    while end - at.end < 3 && text.get(end) == Some(&b'=') {
        end += 1;
    }
    (start, end)
}

fn merged(mut found: Vec<Range<usize>>) -> Vec<Range<usize>> {
    found.sort_unstable_by_key(|range| (range.start, range.end));
    let mut out: Vec<Range<usize>> = Vec::with_capacity(found.len());
    for range in found.into_iter().filter(|range| !range.is_empty()) {
        match out.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => out.push(range),
        }
    }
    out
}

fn replaced(text: &[u8], found: Vec<Range<usize>>) -> Option<Vec<u8>> {
    if found.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(text.len());
    let mut from = 0;
    for range in found {
        out.extend_from_slice(text.get(from..range.start).unwrap_or_default());
        out.extend_from_slice(REDACTED.as_bytes());
        from = range.end;
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default());
    Some(out)
}

#[cfg(test)]
mod tests;
