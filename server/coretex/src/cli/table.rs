//! Tables and blocks for people.

use super::shown::{clean, is_terminal};
use crate::units::Span;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use coretex_sdk::{JobState, Payload, RunState, StepState};
use std::time::{Duration, SystemTime};

/// A table with these headings. Cells come from elsewhere and are cleaned.
pub(super) struct Rows {
    table: Table,
    has_colour: bool,
}

/// A cell, and what it says.
pub(super) enum Shown {
    /// Text as it is.
    Text(String),
    /// A number, to the right.
    Number(String),
    /// A state, in its colour.
    State(&'static str, Color),
}

impl Rows {
    /// A table without rows.
    pub(super) fn new<const N: usize>(headings: [&str; N]) -> Rows {
        let has_colour = is_terminal();
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        let heading = |text: &&str| match has_colour {
            true => Cell::new(text).add_attribute(Attribute::Bold),
            false => Cell::new(text),
        };
        table.set_header(headings.iter().map(heading).collect::<Vec<_>>());
        if let Some(first) = table.column_mut(0) {
            first.set_padding((0, 1));
        }
        Rows { table, has_colour }
    }

    /// Adds a row.
    pub(super) fn add<const N: usize>(&mut self, cells: [Shown; N]) {
        let has_colour = self.has_colour;
        let cell = |shown| match shown {
            Shown::Text(text) => Cell::new(clean(&text).replace('\n', " ")),
            Shown::Number(text) => Cell::new(text).set_alignment(comfy_table::CellAlignment::Right),
            Shown::State(state, colour) if has_colour => Cell::new(state).fg(colour),
            Shown::State(state, _) => Cell::new(state),
        };
        self.table.add_row(cells.map(cell).into_iter().collect::<Vec<_>>());
    }

    /// True without rows.
    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The table as text.
    pub(super) fn text(&self) -> String {
        let lines = self.table.lines().map(|line| format!("{}\n", line.trim_end()));
        lines.collect()
    }
}

fn colour(state: JobState) -> Color {
    match state {
        JobState::Succeeded => Color::Green,
        JobState::Failed | JobState::TimedOut | JobState::Denied | JobState::Expired => Color::Red,
        JobState::Running | JobState::Dispatched => Color::Cyan,
        JobState::Retrying | JobState::Cancelled => Color::Yellow,
        _ => Color::Reset,
    }
}

impl From<String> for Shown {
    fn from(text: String) -> Shown {
        Shown::Text(text)
    }
}

impl From<&str> for Shown {
    fn from(text: &str) -> Shown {
        Shown::Text(text.to_owned())
    }
}

impl From<JobState> for Shown {
    fn from(state: JobState) -> Shown {
        Shown::State(state.as_str(), colour(state))
    }
}

impl From<RunState> for Shown {
    fn from(state: RunState) -> Shown {
        let colour = match state {
            RunState::Succeeded => Color::Green,
            RunState::Failed | RunState::TimedOut => Color::Red,
            RunState::Running => Color::Cyan,
            RunState::Waiting | RunState::Cancelled => Color::Yellow,
            _ => Color::Reset,
        };
        Shown::State(state.as_str(), colour)
    }
}

impl From<StepState> for Shown {
    fn from(state: StepState) -> Shown {
        let colour = match state {
            StepState::Succeeded => Color::Green,
            StepState::Failed => Color::Red,
            StepState::Running => Color::Cyan,
            StepState::Waiting | StepState::Cancelled => Color::Yellow,
            _ => Color::Reset,
        };
        Shown::State(state.as_str(), colour)
    }
}

/// A number for a cell.
pub(super) fn number(value: impl std::fmt::Display) -> Shown {
    Shown::Number(value.to_string())
}

/// `name  value` lines, the names padded. Empty values are left out.
pub(super) fn facts(pairs: &[(&str, String)]) -> String {
    let shown: Vec<_> = pairs.iter().filter(|(_, value)| !value.is_empty()).collect();
    let width = shown.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &&(&str, String)| {
        let value = clean(value).replace('\n', &format!("\n{}", " ".repeat(width + 2)));
        format!("{name:width$}  {value}\n")
    };
    shown.iter().map(line).collect()
}

/// A time as people compare them: RFC 3339, to the millisecond, in UTC.
pub(super) fn time(time: Option<SystemTime>) -> String {
    let stamp = time.and_then(|time| jiff::Timestamp::try_from(time).ok());
    stamp.map(|stamp| format!("{stamp:.3}")).unwrap_or_default()
}

/// How long ago, roughly.
pub(super) fn age(time: Option<SystemTime>) -> String {
    match time.map(|time| time.elapsed().unwrap_or_default()) {
        Some(age) => rough(age),
        None => String::new(),
    }
}

/// A span to two units at most.
pub(super) fn rough(span: Duration) -> String {
    let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let rounded = match ms {
        0..1_000 => ms,
        1_000..60_000 => ms / 100 * 100,
        60_000..3_600_000 => ms / 1_000 * 1_000,
        3_600_000..86_400_000 => ms / 60_000 * 60_000,
        _ => ms / 3_600_000 * 3_600_000,
    };
    if (1_000..60_000).contains(&rounded) && rounded % 1_000 != 0 {
        return format!("{}.{}s", rounded / 1_000, rounded % 1_000 / 100);
    }
    Span(Duration::from_millis(rounded)).to_string()
}

/// A payload for people: text if it is text, else its size.
pub(super) fn payload(payload: Option<&Payload>) -> String {
    const SHOWN_MAX: usize = 4_096;
    let Some(payload) = payload.filter(|payload| !payload.is_empty()) else { return String::new() };
    match std::str::from_utf8(payload.data()) {
        Ok(text) if text.len() <= SHOWN_MAX => text.to_owned(),
        Ok(text) => {
            let end = (0..=SHOWN_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            format!("{}… ({} bytes; `-o json` shows all)", &text[..end], text.len())
        }
        Err(_) => format!("{} bytes of {}", payload.len(), payload.content_type()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_rounded_to_what_matters() {
        for (ms, text) in
            [(5, "5ms"), (1_234, "1.2s"), (61_500, "1m1s"), (7_265_000, "2h1m"), (90_000_000, "1d1h")]
        {
            assert_eq!(rough(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn facts_leave_out_what_is_empty() {
        assert_eq!(
            facts(&[("a", "1".into()), ("empty", String::new()), ("long", "x\ny".into())]),
            "a     1\nlong  x\n      y\n"
        );
    }

    #[test]
    fn tables_are_plain_away_from_a_terminal() {
        let mut rows = Rows::new(["ID", "STATE"]);
        rows.add(["job_a".into(), JobState::Failed.into()]);
        let text = rows.text();
        assert!(text.contains("job_a") && text.contains("FAILED") && !text.contains('\u{1b}'), "{text}");
    }
}
