//! The leases a worker holds, and the digest by which the server checks that both sides see the same.

use crate::ctx::Ctx;
use crate::worker::executor::Bound;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::Instant;

/// One lease that has not been reported as ended.
#[derive(Clone)]
pub(crate) struct Lease {
    pub(crate) ctx: Ctx,
    pub(crate) bound: Arc<Bound>,
    /// The lane whose credit it uses.
    pub(crate) lane: usize,
    pub(crate) cost: u32,
    pub(crate) stage: Stage,
    /// The server knows that it arrived.
    pub(crate) is_acked: bool,
    /// The server knows that it started.
    pub(crate) is_started_told: bool,
    pub(crate) stop: Option<Why>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Queued,
    Running(Instant),
}

/// Why a handler was told to stop: decides what its end is reported as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The server ordered it.
    Order,
    /// Its time is over; the kind of the failure.
    Deadline(&'static str),
    /// The session may be over: the licence ran out.
    Licence,
    /// The worker leaves.
    Drain,
}

#[derive(Default)]
pub(crate) struct Leases {
    held: FxHashMap<u64, Lease>,
    /// Held as the server counts: until the report of the end is made.
    count: u32,
    digest: u64,
    /// Handlers that outlived their lease, and what they still occupy.
    zombies: FxHashMap<u64, (usize, u32)>,
}

/// xxh3-64 of the id's 8 little-endian bytes.
pub(crate) fn hash(lease_id: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&lease_id.to_le_bytes())
}

// === impl Leases ===

impl Leases {
    pub(crate) fn add(&mut self, lease_id: u64, lease: Lease) {
        self.held.insert(lease_id, lease);
        self.count += 1;
        self.digest ^= hash(lease_id);
    }

    pub(crate) fn get_mut(&mut self, lease_id: u64) -> Option<&mut Lease> {
        self.held.get_mut(&lease_id)
    }

    pub(crate) fn contains(&self, lease_id: u64) -> bool {
        self.held.contains_key(&lease_id)
    }

    /// Takes a lease whose end will be in a report; the server counts it until then.
    pub(crate) fn end(&mut self, lease_id: u64) -> Option<Lease> {
        self.held.remove(&lease_id)
    }

    /// Takes a lease that leaves without a report.
    pub(crate) fn drop_lease(&mut self, lease_id: u64) -> Option<Lease> {
        let lease = self.held.remove(&lease_id)?;
        self.reported(1, hash(lease_id));
        Some(lease)
    }

    /// Reports were made that end so many leases with this digest.
    pub(crate) fn reported(&mut self, ended: u32, digest: u64) {
        self.count = self.count.saturating_sub(ended);
        self.digest ^= digest;
    }

    /// Counts anew from these ids, for a new session.
    pub(crate) fn recount(&mut self, ended: impl Iterator<Item = u64>) {
        (self.count, self.digest) = (0, 0);
        for lease_id in self.held.keys().copied().chain(ended) {
            self.count += 1;
            self.digest ^= hash(lease_id);
        }
    }

    /// The handler of an ended lease goes on all the same.
    pub(crate) fn outlived(&mut self, lease_id: u64, lane: usize, cost: u32) {
        self.zombies.insert(lease_id, (lane, cost));
    }

    pub(crate) fn buried(&mut self, lease_id: u64) -> Option<(usize, u32)> {
        self.zombies.remove(&lease_id)
    }

    pub(crate) fn count_and_digest(&self) -> (u32, u64) {
        (self.count, self.digest)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Lease)> {
        self.held.iter().map(|(id, lease)| (*id, lease))
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.held.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}
