//! Cron expressions of five fields: minute, hour, day of month, month, day of week.

use crate::field::{Field, Shape};
use crate::limits::{CRON_LEN_MAX, YEARS_AHEAD};
use coretex_domain::names::shown;
use coretex_domain::nearest::hint;
use jiff::civil::{Date, DateTime, Weekday};
use std::sync::Arc;

/// A cron expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: Arc<str>,
    minutes: Field,
    hours: Field,
    days: Field,
    has_last_day: bool,
    months: Field,
    /// 0 is Sunday.
    weekdays: Field,
}

const MINUTE: Shape = Shape { name: "minute", least: 0, most: 59, names: &[] };
const HOUR: Shape = Shape { name: "hour", least: 0, most: 23, names: &[] };
const DAY: Shape = Shape { name: "day of month", least: 1, most: 31, names: &[] };
const MONTH: Shape = Shape {
    name: "month",
    least: 1,
    most: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
/// 7 is Sunday as well.
const WEEKDAY: Shape = Shape {
    name: "day of week",
    least: 0,
    most: 7,
    names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"],
};

/// Names for common expressions.
const NAMED: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

// === impl Cron ===

impl Cron {
    /// Reads an expression. Refuses what breaks a rule, and what never happens, such as 30 February.
    pub fn parse(text: &str) -> Result<Cron, String> {
        if text.len() > CRON_LEN_MAX {
            return Err(format!("must be at most {CRON_LEN_MAX} bytes, got {}", text.len()));
        }
        let written = match text.trim() {
            name if name.starts_with('@') => named(name)?,
            fields => fields,
        };
        let fields: Vec<&str> = written.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err(format!(
                "must have 5 fields (minute, hour, day of month, month, day of week), got {}: {}",
                fields.len(),
                shown(text)
            ));
        };
        let (days, has_last_day) = read_days(day)?;
        let weekdays = WEEKDAY.read(weekday)?;
        let cron = Cron {
            text: text.trim().into(),
            minutes: MINUTE.read(minute)?,
            hours: HOUR.read(hour)?,
            days,
            has_last_day,
            months: MONTH.read(month)?,
            weekdays: Field { bits: (weekdays.bits | weekdays.bits >> 7) & 0x7f, ..weekdays },
        };
        // Every combination of days that exists at all comes within any nine years.
        match cron.next_local(jiff::civil::date(2096, 3, 1).at(0, 0, 0, 0)) {
            Some(_) => Ok(cron),
            None => Err(format!("never happens: no such day exists, got {}", shown(text))),
        }
    }

    /// As it was written.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The first local minute of the expression, from the minute of `from` on.
    pub(crate) fn next_local(&self, from: DateTime) -> Option<DateTime> {
        let last_year = from.year().saturating_add(YEARS_AHEAD);
        let (mut date, mut earliest) = (from.date(), (from.hour(), from.minute()));
        while date.year() <= last_year {
            if !self.months.has(unsigned(date.month())) {
                date = date.last_of_month().tomorrow().ok()?;
                earliest = (0, 0);
                continue;
            }
            if self.has_day(date)
                && let Some((hour, minute)) = self.time_from(earliest)
            {
                return Some(date.at(hour, minute, 0, 0));
            }
            date = date.tomorrow().ok()?;
            earliest = (0, 0);
        }
        None
    }

    /// Where both fields of days are restricted, either of them is enough.
    fn has_day(&self, date: Date) -> bool {
        let is_last = self.has_last_day && date.day() == date.days_in_month();
        let by_day = self.days.has(unsigned(date.day())) || is_last;
        let by_weekday = self.weekdays.has(unsigned(date.weekday().since(Weekday::Sunday)));
        match self.days.is_free || self.weekdays.is_free {
            true => by_day && by_weekday,
            false => by_day || by_weekday,
        }
    }

    /// The first time of day that is not before the given one.
    fn time_from(&self, (hour, minute): (i8, i8)) -> Option<(i8, i8)> {
        let first =
            |field: Field, from: i8, most: i8| (from..=most).find(|value| field.has(unsigned(*value)));
        let hour_found = first(self.hours, hour, 23)?;
        if hour_found == hour
            && let Some(minute_found) = first(self.minutes, minute, 59)
        {
            return Some((hour, minute_found));
        }
        let later = if hour_found == hour { first(self.hours, hour + 1, 23)? } else { hour_found };
        Some((later, first(self.minutes, 0, 59)?))
    }
}

fn named(name: &str) -> Result<&'static str, String> {
    let found = NAMED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, written)| *written).ok_or_else(|| {
        let hint = hint(name, NAMED.iter().map(|(known, _)| *known));
        format!("there is no {}{hint}", shown(name))
    })
}

/// Days of the month, and whether `L`, the last one, is among them.
fn read_days(text: &str) -> Result<(Field, bool), String> {
    let items: Vec<&str> = text.split(',').collect();
    let rest: Vec<&str> = items.iter().copied().filter(|item| !item.eq_ignore_ascii_case("L")).collect();
    let has_last_day = rest.len() < items.len();
    if rest.is_empty() {
        return Ok((Field { bits: 0, is_free: false }, true));
    }
    Ok((DAY.read(&rest.join(","))?, has_last_day))
}

fn unsigned(value: i8) -> u8 {
    value.unsigned_abs()
}
