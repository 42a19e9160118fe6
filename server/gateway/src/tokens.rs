//! Page and resume tokens: opaque to callers, signed, bound to the list or watch that gave them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coretex_domain::{JobId, Reason, Refusal, Time};
use std::sync::Arc;

const MAC_LEN: usize = 16;
const VERSION: u8 = 1;
/// No token of ours is longer.
const TOKEN_LEN_MAX: usize = 8 << 10;

/// Which list or watch a token belongs to: its method, and everything that must stay the same.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    parts: Vec<u8>,
}

impl Bound {
    pub(crate) fn new(method: &str, namespace: &str, filter: u64, order: &str) -> Bound {
        let mut parts = Vec::with_capacity(64);
        for part in [method.as_bytes(), namespace.as_bytes(), &filter.to_le_bytes(), order.as_bytes()] {
            parts.extend_from_slice(&(part.len() as u64).to_le_bytes());
            parts.extend_from_slice(part);
        }
        Bound { parts }
    }
}

#[derive(Clone)]
pub(crate) struct Tokens {
    key: [u8; 32],
}

impl Tokens {
    pub(crate) fn new(key: [u8; 32]) -> Tokens {
        // Tokens have a key of their own, whatever else the given one is used for.
        Tokens { key: blake3::derive_key("coretex 2026 gateway tokens", &key) }
    }

    fn seal(&self, bound: &Bound, body: &[u8]) -> String {
        let mut bytes = Vec::with_capacity(1 + body.len() + MAC_LEN);
        bytes.push(VERSION);
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(&self.mac(bound, body)[..MAC_LEN]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn open(&self, bound: &Bound, token: &str) -> Option<Vec<u8>> {
        if token.len() > TOKEN_LEN_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (body, mac) = rest.split_at_checked(rest.len().checked_sub(MAC_LEN)?)?;
        let wanted = self.mac(bound, body);
        let differs = wanted.iter().zip(mac).fold(0, |all, (a, b)| all | (a ^ b));
        (*version == VERSION && differs == 0).then(|| body.to_vec())
    }

    fn mac(&self, bound: &Bound, body: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&bound.parts).update(body);
        *hasher.finalize().as_bytes()
    }

    // === pages ===

    pub(crate) fn seal_job(&self, bound: &Bound, (time, id): &(Time, JobId)) -> String {
        let mut body = time.0.to_le_bytes().to_vec();
        body.extend_from_slice(id.to_string().as_bytes());
        self.seal(bound, &body)
    }

    pub(crate) fn open_job(&self, bound: &Bound, token: &str) -> Result<Option<(Time, JobId)>, Refusal> {
        let read = |body: Vec<u8>| {
            let (time, id) = body.split_first_chunk::<8>()?;
            let id = JobId::parse(std::str::from_utf8(id).ok()?).ok()?;
            Some((Time(u64::from_le_bytes(*time)), id))
        };
        self.page(bound, token, read)
    }

    pub(crate) fn seal_row(&self, bound: &Bound, (time, name): &(Time, Arc<str>)) -> String {
        self.seal(bound, &[&time.0.to_le_bytes()[..], name.as_bytes()].concat())
    }

    pub(crate) fn open_row(&self, bound: &Bound, token: &str) -> Result<Option<(Time, Arc<str>)>, Refusal> {
        let read = |body: Vec<u8>| {
            let (time, name) = body.split_first_chunk::<8>()?;
            Some((Time(u64::from_le_bytes(*time)), std::str::from_utf8(name).ok()?.into()))
        };
        self.page(bound, token, read)
    }

    pub(crate) fn seal_name(&self, bound: &Bound, name: &str) -> String {
        self.seal(bound, name.as_bytes())
    }

    pub(crate) fn open_name(&self, bound: &Bound, token: &str) -> Result<Option<String>, Refusal> {
        self.page(bound, token, |body| String::from_utf8(body).ok())
    }

    fn page<T>(
        &self,
        bound: &Bound,
        token: &str,
        read: impl FnOnce(Vec<u8>) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        if token.is_empty() {
            return Ok(None);
        }
        let found = self.open(bound, token).and_then(read);
        let message =
            "page_token: not a token of this list with this filter and order; begin again without it";
        found.map(Some).ok_or_else(|| Refusal::new(Reason::InvalidPageToken, message))
    }

    // === watches ===

    pub(crate) fn seal_position(&self, bound: &Bound, seen: &[u64; 256]) -> String {
        let least = seen.iter().copied().min().unwrap_or_default();
        let mut body = Vec::with_capacity(300);
        prost::encoding::encode_varint(least, &mut body);
        for sequence in seen {
            prost::encoding::encode_varint(sequence - least, &mut body);
        }
        self.seal(bound, &body)
    }

    pub(crate) fn seal_revisions(&self, bound: &Bound, revisions: &[u64]) -> String {
        let mut body = Vec::with_capacity(16);
        revisions.iter().for_each(|revision| prost::encoding::encode_varint(*revision, &mut body));
        self.seal(bound, &body)
    }

    /// The revisions in a token; none without one.
    pub(crate) fn open_revisions(&self, bound: &Bound, token: &str) -> Result<Option<Vec<u64>>, Refusal> {
        if token.is_empty() {
            return Ok(None);
        }
        let read = |body: Vec<u8>| {
            let (mut body, mut revisions) = (body.as_slice(), Vec::new());
            while !body.is_empty() {
                revisions.push(prost::encoding::decode_varint(&mut body).ok()?);
            }
            Some(revisions)
        };
        let message = "resume_token: not a token of this watch of these layers";
        let found = self.open(bound, token).and_then(read);
        found.map(Some).ok_or_else(|| Refusal::new(Reason::InvalidResumeToken, message))
    }

    /// The position in a token; none without one. `newest` bounds what can have been seen.
    pub(crate) fn open_position(
        &self,
        bound: &Bound,
        token: &str,
        newest: &[u64; 256],
    ) -> Result<Option<Box<[u64; 256]>>, Refusal> {
        if token.is_empty() {
            return Ok(None);
        }
        let refuse =
            |message: &str| Refusal::new(Reason::InvalidResumeToken, format!("resume_token: {message}"));
        let position = self.open(bound, token).and_then(|body| read_position(&body));
        let position = position.ok_or_else(|| refuse("not a token of this watch with this filter"))?;
        if position.iter().zip(newest).any(|(token, newest)| token > newest) {
            return Err(refuse("is ahead of everything that has happened"));
        }
        Ok(Some(position))
    }
}

fn read_position(mut body: &[u8]) -> Option<Box<[u64; 256]>> {
    let least = prost::encoding::decode_varint(&mut body).ok()?;
    let mut seen = Box::new([0; 256]);
    for slot in seen.iter_mut() {
        *slot = least.checked_add(prost::encoding::decode_varint(&mut body).ok()?)?;
    }
    body.is_empty().then_some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_open_only_where_they_belong() {
        let tokens = Tokens::new([3; 32]);
        let bound = Bound::new("ListJobs", "default", 7, "desc");
        let key = (Time(5), JobId::Named("order-1".into()));
        let token = tokens.seal_job(&bound, &key);
        assert_eq!(tokens.open_job(&bound, &token), Ok(Some(key)));
        assert_eq!(tokens.open_job(&bound, ""), Ok(None));
        for other in [
            Bound::new("ListJobs", "other", 7, "desc"),
            Bound::new("ListJobs", "default", 8, "desc"),
            Bound::new("ListJobs", "default", 7, "asc"),
            Bound::new("ListTopics", "default", 7, "desc"),
        ] {
            assert!(tokens.open_job(&other, &token).is_err());
        }
        assert!(Tokens::new([4; 32]).open_job(&bound, &token).is_err());
        for bad in ["x", "AAAA", "%%%", &token[1..], &"A".repeat(10_000)] {
            assert!(tokens.open_job(&bound, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn positions_ahead_of_time_are_refused() {
        let tokens = Tokens::new([3; 32]);
        let bound = Bound::new("WatchJobs", "default", 0, "");
        let mut seen = Box::new([10u64; 256]);
        seen[9] = u64::MAX / 2;
        let token = tokens.seal_position(&bound, &seen);
        assert_eq!(tokens.open_position(&bound, &token, &[u64::MAX; 256]), Ok(Some(seen)));
        let ahead = tokens.open_position(&bound, &token, &[10; 256]).expect_err("ahead");
        assert_eq!(ahead.reason, Reason::InvalidResumeToken);
    }
}
