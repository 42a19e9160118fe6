//! Section `limits`: how much of everything.

use super::Profile;
use super::engine::span;
use super::layers::Layers;
use super::refusal::Refusal;
use crate::units::Size;
use std::time::Duration;

/// Bounds of the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub connections_max: usize,
    pub connections_per_address_max: usize,
    pub connection_idle_max: Duration,
    pub connection_age_max: Option<Duration>,
    /// Per identity. Absent: any number.
    pub calls_per_second: Option<u32>,
    /// Per address. 0: any number.
    pub failed_logins_per_minute: u32,
    pub streams_max: u32,
    pub watches_max: usize,
    pub payload_max: usize,
    pub message_max: usize,
}

/// No request is larger, whatever the settings say.
const MESSAGE_MAX: u64 = 32 << 20;
/// Shorter, and connections would come and go all the time; longer is never.
const SPAN_MIN: Duration = Duration::from_secs(1);
const SPAN_MAX: Duration = Duration::from_secs(30 * 86_400);
/// A bucket holds whole microseconds per call.
const CALLS_MAX: u64 = 1_000_000;
/// What frames add around a payload.
const FRAME_ROOM: u64 = 64 << 10;
/// Files the server opens besides connections.
const FILES_BESIDES: u64 = 256;

impl Limits {
    pub fn build(layers: &mut Layers) -> Option<Limits> {
        let connections_max = layers.number("limits.connections_max", 1, 1 << 20);
        let per_address = layers.number("limits.connections_per_address_max", 1, 1 << 20);
        let idle = span(layers, "limits.connection_idle_max", SPAN_MIN, SPAN_MAX);
        let has_age = layers.value("limits.connection_age_max").is_some();
        let age = span(layers, "limits.connection_age_max", SPAN_MIN, SPAN_MAX);
        if has_age && age.is_none() {
            return None;
        }
        let has_rate = layers.value("limits.calls_per_second").is_some();
        let rate = layers.number("limits.calls_per_second", 1, CALLS_MAX);
        let failed_logins = layers.number("limits.failed_logins_per_minute", 0, 1_000_000);
        if has_rate && rate.is_none() {
            return None;
        }
        let streams_max = layers.number("limits.streams_max", 1, 1 << 16);
        let watches_max = layers.number("limits.watches_max", 1, 1 << 20);
        let payload_max = size(layers, "limits.payload_max", 1 << 10, MESSAGE_MAX - FRAME_ROOM);
        let message_max = size(layers, "limits.message_max", 64 << 10, MESSAGE_MAX);
        if let (Some(payload), Some(message)) = (payload_max, message_max)
            && payload + FRAME_ROOM > message
        {
            let least = Size(payload + FRAME_ROOM);
            layers.refuse_value(
                "limits.message_max",
                format!("a payload of limits.payload_max needs at least {least}"),
            );
        }
        Some(Limits {
            connections_max: usize::try_from(connections_max?).ok()?,
            connections_per_address_max: usize::try_from(per_address?).ok()?,
            connection_idle_max: idle?,
            connection_age_max: age,
            calls_per_second: rate.and_then(|rate| u32::try_from(rate).ok()),
            failed_logins_per_minute: u32::try_from(failed_logins?).ok()?,
            streams_max: u32::try_from(streams_max?).ok()?,
            watches_max: usize::try_from(watches_max?).ok()?,
            payload_max: usize::try_from(payload_max?).ok()?,
            message_max: usize::try_from(message_max?).ok()?,
        })
    }

    pub fn validate(&self, profile: Profile, layers: &mut Layers) {
        let files = files_max();
        let needed = self.connections_max as u64 * 5 / 4 + FILES_BESIDES;
        if profile == Profile::Production && files < needed {
            let message =
                format!("this process may open {files} files; {needed} are needed for so many connections");
            let mend = format!(
                "raise the limit (ulimit -n {needed}, LimitNOFILE={needed}), or lower limits.connections_max"
            );
            layers.refuse_at("limits.connections_max", Refusal::new("R18", message, mend));
        }
    }
}

fn size(layers: &mut Layers, key: &'static str, least: u64, most: u64) -> Option<u64> {
    let Size(bytes) = layers.parse(key)?;
    if (least..=most).contains(&bytes) {
        return Some(bytes);
    }
    layers.refuse_value(key, format!("{} is not from {} to {}", Size(bytes), Size(least), Size(most)));
    None
}

/// Files this process may open once the soft limit is raised to the hard one.
fn files_max() -> u64 {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// Raises the soft limit of open files to the hard one. What cannot be raised is left as it is.
pub fn raise_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
