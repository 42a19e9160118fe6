//! Names that follow from (namespace, schedule, time): the same on every machine and after every restart.

use crate::limits::SCHEDULE_ID_LEN_MAX;
use coretex_domain::names::shown;
use coretex_domain::{Namespace, Time};
use std::sync::Arc;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Checks the id of a schedule: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`.
pub fn check_schedule_id(id: &str) -> Result<(), String> {
    let is_known = |at: usize, c: char| c.is_ascii_alphanumeric() || (at > 0 && "._-".contains(c));
    let fault = match id.char_indices().find(|(at, c)| !is_known(*at, *c)) {
        _ if id.is_empty() => Some("it is empty".to_owned()),
        Some((at, c)) => Some(format!("position {at} is {c:?} in {}", shown(id))),
        None if id.len() > SCHEDULE_ID_LEN_MAX => {
            Some(format!("it has {} characters: {}", id.len(), shown(id)))
        }
        None => None,
    };
    match fault {
        None => Ok(()),
        Some(fault) => Err(format!("must match [A-Za-z0-9][A-Za-z0-9._-]{{0,63}}; {fault}")),
    }
}

/// Name of the record of a nominal time.
pub fn fire_name(id: &str, nominal: Time) -> Arc<str> {
    format!("{id}/{:015}", nominal.0).into()
}

/// Name of the record of a start by hand.
pub fn token_name(id: &str, token: u128) -> Arc<str> {
    format!("{id}/by-hand-{token:032x}").into()
}

/// Bits that no other start has: of a time of a schedule, or of a start by hand.
pub fn target_bits(namespace: &Namespace, id: &str, nominal: Time, token: u128) -> u128 {
    let mut hash = Xxh3::new();
    for part in [namespace.as_str().as_bytes(), &[0], id.as_bytes(), &[0]] {
        hash.update(part);
    }
    // A start by hand is known by its call, not by when it came.
    let time = if token == 0 { nominal.0 } else { 0 };
    hash.update(&time.to_le_bytes());
    hash.update(&token.to_le_bytes());
    hash.digest128()
}

/// What the jitter of a schedule is drawn from.
pub fn seed(namespace: &Namespace, id: &str) -> u64 {
    xxh3_64(format!("{namespace}\0{id}").as_bytes())
}
