//! Tokens for leases and sessions: facts under a keyed hash, so that nobody can make or change one.

use bytes::Bytes;
use coretex_domain::{JobId, JobKey, Namespace, SessionId, ShardId};

const LEASE: u8 = 1;
const RESUME: u8 = 2;
const MAC_LEN: usize = 16;

/// The keys that sign tokens, newest last.
#[derive(Clone)]
pub(crate) struct Tokens {
    keys: Vec<(u32, [u8; 32])>,
}

/// What a lease token says. The namespace is under the hash, not in the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseClaim {
    pub(crate) job: JobKey,
    pub(crate) serial: u32,
    pub(crate) shard: ShardId,
}

impl Tokens {
    pub(crate) fn new(keys: Vec<(u32, [u8; 32])>) -> Tokens {
        Tokens { keys }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// A token for a lease. A chosen name travels along, because its key is only a hash of it.
    pub(crate) fn lease(&self, namespace: &Namespace, claim: LeaseClaim, id: &JobId) -> Bytes {
        let mut body = Vec::with_capacity(1 + 4 + 16 + 4 + 1 + MAC_LEN);
        body.push(LEASE);
        body.extend_from_slice(&self.newest().to_le_bytes());
        body.extend_from_slice(&claim.job.0.to_be_bytes());
        body.extend_from_slice(&claim.serial.to_le_bytes());
        body.push(claim.shard.0);
        if let JobId::Named(name) = id {
            body.extend_from_slice(name.as_bytes());
        }
        self.sign(body, namespace.as_str())
    }

    /// The job a verified lease token names.
    pub(crate) fn job_in(token: &[u8]) -> Option<JobId> {
        let name = token.get(26..token.len().checked_sub(MAC_LEN)?)?;
        if name.is_empty() {
            let key = token.get(5..21)?.try_into().ok()?;
            return Some(JobId::Made(u128::from_be_bytes(key)));
        }
        Some(JobId::Named(std::str::from_utf8(name).ok()?.into()))
    }

    pub(crate) fn open_lease(&self, namespace: &Namespace, token: &[u8]) -> Option<LeaseClaim> {
        let body = self.verify(token, LEASE, namespace.as_str())?;
        let job = JobKey(u128::from_be_bytes(body.get(5..21)?.try_into().ok()?));
        let serial = u32::from_le_bytes(body.get(21..25)?.try_into().ok()?);
        Some(LeaseClaim { job, serial, shard: ShardId(*body.get(25)?) })
    }

    pub(crate) fn resume(&self, namespace: &Namespace, session: SessionId, worker_id: &str) -> Bytes {
        let mut body = Vec::with_capacity(1 + 4 + 16 + MAC_LEN);
        body.push(RESUME);
        body.extend_from_slice(&self.newest().to_le_bytes());
        body.extend_from_slice(&session.0.to_be_bytes());
        self.sign(body, &format!("{namespace}\0{worker_id}"))
    }

    pub(crate) fn opens_session(
        &self,
        namespace: &Namespace,
        session: SessionId,
        worker_id: &str,
        token: &[u8],
    ) -> bool {
        self.verify(token, RESUME, &format!("{namespace}\0{worker_id}"))
            .is_some_and(|body| body.get(5..21) == Some(session.0.to_be_bytes().as_slice()))
    }

    fn newest(&self) -> u32 {
        self.keys.last().map_or(0, |(id, _)| *id)
    }

    fn sign(&self, mut body: Vec<u8>, context: &str) -> Bytes {
        let mac = self.mac(self.newest(), &body, context).unwrap_or_default();
        body.extend_from_slice(&mac);
        body.into()
    }

    fn verify<'t>(&self, token: &'t [u8], kind: u8, context: &str) -> Option<&'t [u8]> {
        let (body, mac) = token.split_at_checked(token.len().checked_sub(MAC_LEN)?)?;
        let key_id = u32::from_le_bytes(body.get(1..5)?.try_into().ok()?);
        let expected = self.mac(key_id, body, context)?;
        // Every byte is looked at, whatever the first difference.
        let differs = expected.iter().zip(mac).fold(0u8, |acc, (a, b)| acc | (a ^ b));
        (differs == 0 && body.first() == Some(&kind)).then_some(body)
    }

    fn mac(&self, key_id: u32, body: &[u8], context: &str) -> Option<[u8; MAC_LEN]> {
        let (_, key) = self.keys.iter().find(|(id, _)| *id == key_id)?;
        let mut hash = blake3::Hasher::new_keyed(key);
        hash.update(body).update(context.as_bytes());
        let mut mac = [0; MAC_LEN];
        mac.copy_from_slice(&hash.finalize().as_bytes()[..MAC_LEN]);
        Some(mac)
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokens({} keys)", self.keys.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_only_in_its_namespace_and_unchanged() {
        let tokens = Tokens::new(vec![(1, [7; 32])]);
        let (a, b) = (Namespace::new("a"), Namespace::new("b"));
        let claim = LeaseClaim { job: JobKey(42), serial: 3, shard: ShardId(9) };
        let token = tokens.lease(&a, claim, &JobId::Named("order-1".into()));
        assert_eq!(Tokens::job_in(&token), Some(JobId::Named("order-1".into())));
        assert_eq!(Tokens::job_in(&tokens.lease(&a, claim, &JobId::Made(42))), Some(JobId::Made(42)));
        assert_eq!(tokens.open_lease(&a, &token), Some(claim));
        assert_eq!(tokens.open_lease(&b, &token), None);
        for at in 0..token.len() {
            let mut bent = token.to_vec();
            bent[at] ^= 1;
            assert_eq!(tokens.open_lease(&a, &bent), None, "byte {at}");
        }
        assert_eq!(tokens.open_lease(&a, b""), None);
        let resume = tokens.resume(&a, SessionId(5), "w");
        assert!(tokens.opens_session(&a, SessionId(5), "w", &resume));
        assert!(!tokens.opens_session(&a, SessionId(6), "w", &resume));
        assert!(!tokens.opens_session(&a, SessionId(5), "x", &resume));
        assert_eq!(tokens.open_lease(&a, &resume), None);
    }
}
