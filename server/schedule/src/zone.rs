//! Time zones by their IANA names, from the data that comes with the program.

use coretex_domain::Time;
use coretex_domain::names::shown;
use coretex_domain::nearest::hint;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use std::sync::LazyLock;

/// The machine's own data is not asked: a schedule means the same on every machine of one release.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Longest name that is looked up.
const NAME_LEN_MAX: usize = 64;

/// A time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// What became of a local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    Once,
    /// Clocks jump over it: the time is the end of the jump.
    Gap,
    /// Clocks show it twice: the time is the first.
    Fold,
}

// === impl Zone ===

impl Zone {
    pub fn utc() -> Zone {
        Zone(TimeZone::UTC)
    }

    /// The zone of a name; none is UTC.
    pub fn find(name: &str) -> Result<Zone, String> {
        if name.is_empty() {
            return Ok(Zone::utc());
        }
        let found = (name.len() <= NAME_LEN_MAX).then(|| ZONES.get(name).ok()).flatten();
        found.filter(|zone| zone.iana_name().is_some()).map(Zone).ok_or_else(|| {
            let known: Vec<String> = ZONES.available().map(|known| known.as_str().to_owned()).collect();
            let hint = hint(name, known.iter().map(String::as_str));
            format!(
                "must be the name of an IANA time zone, for example Europe/Berlin, got {}{hint}",
                shown(name)
            )
        })
    }

    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// What clocks in the zone show.
    pub(crate) fn local(&self, time: Time) -> Option<DateTime> {
        Some(self.0.to_datetime(stamp(time)?))
    }

    /// A time as clocks in the zone show it, with the offset from UTC: RFC 3339.
    pub fn print(&self, time: Time) -> String {
        let Some(stamp) = stamp(time) else { return String::new() };
        let zoned = stamp.to_zoned(self.0.clone());
        zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }

    /// When clocks in the zone show a local time. It never runs backwards: a later local time is no earlier instant.
    pub(crate) fn instant(&self, local: DateTime) -> Option<(Time, Meant)> {
        match self.0.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => {
                Some((time(offset.to_timestamp(local).ok()?)?, Meant::Once))
            }
            AmbiguousOffset::Fold { before, .. } => {
                Some((time(before.to_timestamp(local).ok()?)?, Meant::Fold))
            }
            AmbiguousOffset::Gap { before, .. } => {
                // By the clock of before, the local time lies at or after the jump: the jump is the last before it.
                let after_jump =
                    before.to_timestamp(local).ok()?.checked_add(jiff::SignedDuration::from_nanos(1));
                let jump = self.0.preceding(after_jump.ok()?).next()?;
                Some((time(jump.timestamp())?, Meant::Gap))
            }
        }
    }
}

fn stamp(time: Time) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(time.0).ok()?).ok()
}

fn time(stamp: Timestamp) -> Option<Time> {
    u64::try_from(stamp.as_millisecond()).ok().map(Time)
}
