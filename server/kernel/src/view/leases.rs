//! Numbers a view gives out, and the leases it holds.

use super::{LEASE_COUNTER_MASK, LeaseEntry, View};
use coretex_domain::job::PLACE_ORDER_BITS;
use coretex_domain::{JobKey, SessionId, Time};

impl View {
    /// The place of a job that becomes ready at `ready`: unique, and in order of the calls within a millisecond.
    pub(crate) fn next_place(&mut self, ready: Time) -> u64 {
        let floor = ready.0 << PLACE_ORDER_BITS;
        if floor > self.last_place {
            // A time to come does not push back the jobs that are ready before it.
            self.delayed += 1;
            return floor | (self.delayed & ((1 << PLACE_ORDER_BITS) - 1));
        }
        self.last_place += 1;
        self.last_place
    }

    /// Moves the clock of places forward; called once per group.
    pub fn begin(&mut self, now: Time) {
        for key in std::mem::take(&mut self.to_pack) {
            self.pack(key);
        }
        self.last_place = self.last_place.max(now.0 << PLACE_ORDER_BITS);
    }

    pub(crate) fn next_lease_id(&mut self, shard: coretex_domain::ShardId) -> u64 {
        self.next_lease = (self.next_lease + 1) & LEASE_COUNTER_MASK;
        (u64::from(shard.0) << 56) | self.next_lease
    }

    pub(crate) fn open_lease(&mut self, session: SessionId, lease_id: u64, key: JobKey, offer_until: Time) {
        let leases = self.sessions.entry(session).or_default();
        leases.leases.insert(lease_id, LeaseEntry { key, is_acked: false });
        leases.offers.push_back((offer_until, lease_id));
        if leases.offer_deadline.is_none() {
            leases.offer_deadline = Some(offer_until);
            self.offer_deadlines.insert((offer_until, session));
        }
    }

    pub(crate) fn close_lease(&mut self, session: SessionId, lease_id: u64) {
        if let Some(leases) = self.sessions.get_mut(&session) {
            leases.leases.remove(&lease_id);
        }
    }

    /// Drops answered offers and sets the session's next deadline. Called once per frame of the session.
    pub(crate) fn trim_offers(&mut self, session: SessionId) {
        let Some(state) = self.sessions.get_mut(&session) else { return };
        while let Some((_, lease)) = state.offers.front() {
            if state.leases.get(lease).is_some_and(|entry| !entry.is_acked) {
                break;
            }
            state.offers.pop_front();
        }
        let deadline = state.offers.front().map(|(at, _)| *at);
        if deadline != state.offer_deadline {
            if let Some(old) = state.offer_deadline {
                self.offer_deadlines.remove(&(old, session));
            }
            if let Some(new) = deadline {
                self.offer_deadlines.insert((new, session));
            }
            state.offer_deadline = deadline;
        }
        if state.leases.is_empty() && state.offers.is_empty() {
            self.sessions.remove(&session);
        }
    }

    /// An offer that ran out by `mono`, if any.
    pub(crate) fn overdue_offer(&mut self, mono: Time) -> Option<(SessionId, u64, JobKey)> {
        loop {
            let (at, session) = *self.offer_deadlines.first()?;
            if at > mono {
                return None;
            }
            self.trim_offers(session);
            let state = self.sessions.get_mut(&session);
            if let Some(state) = state
                && let Some((due, lease)) = state.offers.front().copied()
                && due <= mono
                && let Some(entry) = state.leases.get(&lease)
            {
                return Some((session, lease, entry.key));
            }
        }
    }
}
