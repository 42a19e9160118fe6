//! Identifiers and the shard each one belongs to.
//!
//! A server-made id is a prefix and 26 lower-case base32 characters of a UUIDv7 whose last byte is its shard,
//! so every id finds its shard without a look-up. Printed order is creation order.

use crate::limits;
use std::fmt;
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

/// One of the 256 virtual shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u8);

impl ShardId {
    /// The catalog: topics, keys, definitions.
    pub const CATALOG: ShardId = ShardId(0);

    /// The shard of a hash over `parts`, which are kept apart by a zero byte.
    pub fn of(parts: &[&str]) -> ShardId {
        let mut hash = Xxh3::new();
        for (n, part) in parts.iter().enumerate() {
            if n > 0 {
                hash.update(&[0]);
            }
            hash.update(part.as_bytes());
        }
        ShardId((hash.digest() % limits::SHARDS as u64).to_le_bytes()[0])
    }
}

/// A tenant's name. Every key of the system begins with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Arc<str>);

impl Namespace {
    pub fn new(name: impl Into<Arc<str>>) -> Namespace {
        Namespace(name.into())
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Where things are kept that belong to no tenant. No tenant can have this name.
    pub fn installation() -> Namespace {
        Namespace("*".into())
    }
    pub fn is_installation(&self) -> bool {
        &*self.0 == "*"
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a job: made by the server, or chosen by the client.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JobId {
    /// UUIDv7 whose last byte is the shard; printed `job_` and 26 characters.
    Made(u128),
    Named(Arc<str>),
}

/// Why a text is not an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdError(pub String);

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const MADE_LEN: usize = 26;

impl JobId {
    /// Makes an id from a time, 74 bits of chance and a shard.
    pub fn make(time_ms: u64, chance: u128, shard: ShardId) -> JobId {
        JobId::Made(uuid_v7(time_ms, chance, shard.0))
    }

    /// Parses an id that names an existing job.
    pub fn parse(text: &str) -> Result<JobId, IdError> {
        if let Some(rest) = text.strip_prefix("job_") {
            return decode32(rest).map(JobId::Made).ok_or_else(|| {
                IdError("after `job_` must come 26 characters of 0-9a-z without i, l, o, u".into())
            });
        }
        // A step of a run is named by its run and the places it is at, which may be several.
        let most =
            if text.starts_with("run_") { limits::STEP_JOB_ID_LEN_MAX } else { limits::JOB_ID_LEN_MAX };
        check_chars(text, ":~", most)?;
        Ok(JobId::Named(text.into()))
    }

    /// Parses an id a client chose for a new job.
    pub fn parse_chosen(text: &str) -> Result<JobId, IdError> {
        if text.starts_with("job_") || text.starts_with("run_") {
            return Err(IdError("must not start with `job_` or `run_`: those are made by the server".into()));
        }
        check_chars(text, "", limits::JOB_ID_LEN_MAX)?;
        Ok(JobId::Named(text.into()))
    }

    pub fn shard(&self, namespace: &Namespace) -> ShardId {
        match self {
            JobId::Made(uuid) => ShardId(uuid.to_be_bytes()[15]),
            JobId::Named(name) => {
                let root = name.split(':').next().unwrap_or_default();
                match root.strip_prefix("run_").and_then(decode32) {
                    Some(uuid) => ShardId(uuid.to_be_bytes()[15]),
                    None => ShardId::of(&[namespace.as_str(), root]),
                }
            }
        }
    }

    /// Milliseconds since 1970 inside a server-made id.
    pub fn made_at_ms(&self) -> Option<u64> {
        match self {
            JobId::Made(uuid) => Some(u64::try_from(uuid >> 80).unwrap_or(u64::MAX)),
            JobId::Named(_) => None,
        }
    }

    pub fn key(&self, namespace: &Namespace) -> JobKey {
        match self {
            JobId::Made(uuid) => JobKey(*uuid),
            JobId::Named(name) => {
                let mut hash = blake3::Hasher::new();
                hash.update(namespace.as_str().as_bytes()).update(&[0]).update(name.as_bytes());
                let mut bytes = [0; 16];
                bytes.copy_from_slice(&hash.finalize().as_bytes()[..16]);
                // Version nibble 8 keeps hashed names apart from every UUIDv7.
                bytes[6] = (bytes[6] & 0x0f) | 0x80;
                JobKey(u128::from_be_bytes(bytes))
            }
        }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobId::Made(uuid) => {
                let mut text = *b"job_00000000000000000000000000";
                encode32(*uuid, &mut text[4..]);
                f.write_str(std::str::from_utf8(&text).unwrap_or_default())
            }
            JobId::Named(name) => f.write_str(name),
        }
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a job is filed under in memory: the UUID of a made id, or a hash of (namespace, name).
/// A look-up by it still compares namespace and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobKey(pub u128);

/// The name of a worker's stay, printed `ses_` and 26 characters; its last byte is its shard.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u128);

impl SessionId {
    pub fn make(time_ms: u64, chance: u128, shard: ShardId) -> SessionId {
        SessionId(uuid_v7(time_ms, chance, shard.0))
    }
    pub fn parse(text: &str) -> Result<SessionId, IdError> {
        text.strip_prefix("ses_")
            .and_then(decode32)
            .map(SessionId)
            .ok_or_else(|| IdError("must be `ses_` and 26 characters".into()))
    }
    pub fn shard(self) -> ShardId {
        ShardId(self.0.to_be_bytes()[15])
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = *b"ses_00000000000000000000000000";
        encode32(self.0, &mut text[4..]);
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn uuid_v7(time_ms: u64, chance: u128, last: u8) -> u128 {
    const VERSION: u128 = 0x7 << 76;
    const VARIANT: u128 = 0x2 << 62;
    let rand_a = (chance >> 62) & 0xfff;
    let rand_b = chance & ((1 << 62) - 1) & !0xff;
    (u128::from(time_ms & 0xffff_ffff_ffff) << 80)
        | VERSION
        | (rand_a << 64)
        | VARIANT
        | rand_b
        | u128::from(last)
}

fn encode32(mut value: u128, into: &mut [u8]) {
    for slot in into.iter_mut().rev() {
        *slot = ALPHABET[usize::from((value & 31).to_le_bytes()[0])];
        value >>= 5;
    }
}

pub(crate) fn decode32(text: &str) -> Option<u128> {
    if text.len() != MADE_LEN {
        return None;
    }
    let mut value: u128 = 0;
    for (n, byte) in text.bytes().enumerate() {
        let digit = ALPHABET.iter().position(|known| *known == byte)?;
        if n == 0 && digit > 7 {
            return None;
        }
        value = (value << 5) | digit as u128;
    }
    Some(value)
}

fn check_chars(text: &str, also: &str, most: usize) -> Result<(), IdError> {
    if text.is_empty() || text.len() > most {
        return Err(IdError(format!("must be 1..={most} characters, got {}", text.len())));
    }
    for (at, c) in text.char_indices() {
        let inner = at > 0 && ("._@-".contains(c) || also.contains(c));
        let known = c.is_ascii_alphanumeric() || inner || (at > 0 && c == '_');
        if !known {
            return Err(IdError(format!(
                "must match [A-Za-z0-9][A-Za-z0-9._@-]{{0,127}}; position {at} is {:?}",
                c
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_ids_print_parse_and_keep_their_order() {
        let ns = Namespace::new("default");
        let a = JobId::make(1_700_000_000_000, 77 << 8, ShardId(9));
        let b = JobId::make(1_700_000_000_001, 1 << 8, ShardId(200));
        assert_eq!(JobId::parse(&a.to_string()), Ok(a.clone()));
        assert!(a.to_string() < b.to_string());
        assert_eq!((a.shard(&ns), b.shard(&ns)), (ShardId(9), ShardId(200)));
        assert_eq!(a.made_at_ms(), Some(1_700_000_000_000));
    }

    #[test]
    fn shard_hash_is_golden() {
        let ns = Namespace::new("default");
        let shards: Vec<u8> =
            ["a", "order-1", "x@y.z"].iter().map(|n| JobId::Named((*n).into()).shard(&ns).0).collect();
        assert_eq!(shards, [178, 118, 65], "these numbers are on disk for ever");
        assert_eq!(ShardId::of(&["default", "a"]), JobId::Named("a:b:1".into()).shard(&ns));
    }

    #[test]
    fn chosen_ids_are_checked() {
        assert!(JobId::parse_chosen("order-1_2.A@x").is_ok());
        for bad in ["", "job_1", "run_x", "-a", "a b", "a/b", "a:b", "é", &"x".repeat(129)] {
            assert!(JobId::parse_chosen(bad).is_err(), "{bad:?}");
        }
        assert!(JobId::parse("job_0123456789abcdefghijklmnop").is_err(), "i, l and o are no digits");
    }
}
