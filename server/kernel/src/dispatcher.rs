//! The node's dispatcher: which sessions may take what, how much credit they have, and what limits allow.
//!
//! One per node, pure and synchronous. A shard borrows credit for a class of jobs, commits leases against it
//! and gives the rest back in the same turn, so credit is never in two places.

mod registration;

pub use registration::LaneTotals;

use crate::rate::Bucket;
use coretex_domain::house;
use coretex_domain::job::spec::Placement;
use coretex_domain::session::Session;
use coretex_domain::topic::{Rate, Topic};
use coretex_domain::{JobKey, Namespace, SessionId, Span, Time};
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A kind of work within a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicKey {
    pub namespace: Namespace,
    pub topic: Arc<str>,
}

/// A concurrency or rate key within a topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimitKey {
    pub namespace: Namespace,
    pub topic: Arc<str>,
    pub key: Arc<str>,
}

/// One open lease as limits see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    pub job: JobKey,
    pub serial: u32,
}

/// Credit lent to a shard for the length of one turn.
#[derive(Clone, Debug)]
pub struct Loan {
    pub session: SessionId,
    pub worker_id: Arc<str>,
    pub lane_id: Arc<str>,
    lane: usize,
    pub left: u32,
}

/// Why nothing was lent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dry {
    /// No live session serves the class at all.
    NoWorker,
    /// Sessions serve it, but all their credit is used.
    NoCredit,
    Paused,
    /// The topic's `max_running` is reached.
    MaxRunning,
    /// The topic's rate allows the next start then.
    RateUntil(Time),
}

#[derive(Debug)]
struct LaneState {
    granted_total: u64,
    assigned_total: u64,
    /// Open leases.
    outstanding: u32,
    /// Orders equally loaded lanes: the one served longest ago comes first.
    served: u64,
}

#[derive(Debug)]
struct Member {
    session: Arc<Session>,
    lanes: Vec<LaneState>,
    /// The stream is up and the worker does not drain.
    is_schedulable: bool,
}

/// Where a lane stands in its topics' order of choice: least loaded first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Open leases per thousand slots.
    load: u32,
    served: u64,
    session: SessionId,
    lane: usize,
}

#[derive(Debug, Default)]
struct TopicLanes {
    with_credit: BTreeSet<Rank>,
    /// Lanes that serve the topic, with credit or without.
    lanes: u32,
    /// Loops that found nothing to borrow.
    hungry: FxHashSet<usize>,
    running: u32,
    row: Option<Arc<Topic>>,
    bucket: Option<Bucket>,
}

#[derive(Debug, Default)]
struct Slots {
    holders: FxHashSet<Holder>,
    waiting: FxHashSet<usize>,
}

/// Credit, placement and limits of a node.
#[derive(Debug, Default)]
pub struct Dispatcher {
    members: FxHashMap<SessionId, Member>,
    topics: FxHashMap<TopicKey, TopicLanes>,
    slots: FxHashMap<LimitKey, Slots>,
    rates: FxHashMap<LimitKey, Bucket>,
    served: u64,
    /// Namespaces with work for the house, where it does not serve yet.
    houseless: Vec<Namespace>,
}

/// A topic whose waiting loops should be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wake {
    pub topic: TopicKey,
    pub loops: Vec<usize>,
}

// === impl Dispatcher: sessions ===

impl Dispatcher {
    /// Takes in a session, or the next stream of one. Credit starts again from what the stream grants.
    pub fn join(&mut self, session: Arc<Session>, outstanding: &FxHashMap<Arc<str>, u32>) {
        self.leave(session.session_id);
        let lanes = session
            .lanes
            .iter()
            .map(|lane| LaneState {
                granted_total: 0,
                assigned_total: 0,
                outstanding: outstanding.get(&lane.lane_id).copied().unwrap_or(0),
                served: 0,
            })
            .collect();
        for lane in &session.lanes {
            for topic in &lane.topics {
                self.topic_mut(&session.namespace, topic).lanes += 1;
            }
        }
        self.members.insert(session.session_id, Member { session, lanes, is_schedulable: true });
    }

    /// True while a session may be lent credit: it joined, and has not left since.
    pub fn has_joined(&self, session: SessionId) -> bool {
        self.members.contains_key(&session)
    }

    /// Takes in the next stream of a session with the credit it had used so far, per lane. What was granted beyond
    /// that is granted anew by the worker.
    pub fn rejoin(
        &mut self,
        session: Arc<Session>,
        outstanding: &FxHashMap<Arc<str>, u32>,
        assigned: &FxHashMap<Arc<str>, u64>,
    ) {
        let session_id = session.session_id;
        self.join(session.clone(), outstanding);
        if let Some(member) = self.members.get_mut(&session_id) {
            for (lane, state) in session.lanes.iter().zip(&mut member.lanes) {
                let used = assigned.get(&lane.lane_id).copied().unwrap_or(0);
                (state.granted_total, state.assigned_total) = (used, used);
            }
        }
    }

    /// Per lane: units assigned so far, and open leases. Empty if the session is not here.
    pub fn accounts(&self, session: SessionId) -> Vec<(Arc<str>, u64, u32)> {
        let Some(member) = self.members.get(&session) else { return Vec::new() };
        let lanes = member.session.lanes.iter().zip(&member.lanes);
        lanes.map(|(lane, state)| (lane.lane_id.clone(), state.assigned_total, state.outstanding)).collect()
    }

    pub fn leave(&mut self, session: SessionId) {
        let Some(member) = self.members.get(&session) else { return };
        let stay = member.session.clone();
        for lane in 0..stay.lanes.len() {
            self.unrank(session, lane);
        }
        self.members.remove(&session);
        for lane in &stay.lanes {
            for topic in &lane.topics {
                let lanes = self.topic_mut(&stay.namespace, topic);
                lanes.lanes = lanes.lanes.saturating_sub(1);
            }
        }
    }

    /// A dropped stream or a drain stops new work; credit stays as it was.
    pub fn set_schedulable(&mut self, session: SessionId, is_schedulable: bool) {
        let Some(lanes) = self.members.get(&session).map(|m| m.lanes.len()) else { return };
        for lane in 0..lanes {
            self.unrank(session, lane);
        }
        if let Some(member) = self.members.get_mut(&session) {
            member.is_schedulable = is_schedulable;
        }
        for lane in 0..lanes {
            self.rank(session, lane);
        }
    }

    /// Raises a lane's cumulative grant. `Err` names the rule that was broken; nothing is changed then.
    pub fn grant(
        &mut self,
        session: SessionId,
        lane_id: &str,
        granted_total: u64,
    ) -> Result<Vec<Wake>, String> {
        let Some(member) = self.members.get(&session) else { return Err("session is gone".into()) };
        let Some(lane) = member.session.lanes.iter().position(|l| &*l.lane_id == lane_id) else {
            return Err(format!("unknown lane `{lane_id}`"));
        };
        let before = member.lanes[lane].granted_total;
        if granted_total < before {
            return Err(format!("granted_total of lane `{lane_id}` fell from {before} to {granted_total}"));
        }
        self.unrank(session, lane);
        if let Some(member) = self.members.get_mut(&session) {
            member.lanes[lane].granted_total = granted_total;
        }
        self.rank(session, lane);
        Ok(self.wakes_of(session, lane))
    }

    /// Takes back all credit that is not used: a poll is over.
    pub fn withdraw(&mut self, session: SessionId) {
        let lanes = self.members.get(&session).map_or(0, |m| m.lanes.len());
        for lane in 0..lanes {
            self.unrank(session, lane);
            if let Some(member) = self.members.get_mut(&session) {
                member.lanes[lane].granted_total = member.lanes[lane].assigned_total;
            }
        }
    }

    /// Units assigned on a lane so far, for `Resumed`.
    pub fn assigned_total(&self, session: SessionId, lane_id: &str) -> u64 {
        let Some(member) = self.members.get(&session) else { return 0 };
        let lane = member.session.lanes.iter().position(|l| &*l.lane_id == lane_id);
        lane.map_or(0, |lane| member.lanes[lane].assigned_total)
    }

    /// Open leases of a session, over all lanes.
    pub fn outstanding(&self, session: SessionId) -> u32 {
        self.members.get(&session).map_or(0, |m| m.lanes.iter().map(|l| l.outstanding).sum())
    }

    fn wakes_of(&mut self, session: SessionId, lane: usize) -> Vec<Wake> {
        let Some(member) = self.members.get(&session) else { return Vec::new() };
        let stay = member.session.clone();
        let mut wakes = Vec::new();
        for topic in &stay.lanes[lane].topics {
            let key = TopicKey { namespace: stay.namespace.clone(), topic: topic.clone() };
            if let Some(state) = self.topics.get_mut(&key)
                && !state.hungry.is_empty()
            {
                wakes.push(Wake { topic: key, loops: state.hungry.drain().collect() });
            }
        }
        wakes
    }

    fn rank(&mut self, session: SessionId, lane: usize) {
        self.change_rank(session, lane, true);
    }

    fn unrank(&mut self, session: SessionId, lane: usize) {
        self.change_rank(session, lane, false);
    }

    fn change_rank(&mut self, session: SessionId, lane: usize, add: bool) {
        let Some(member) = self.members.get(&session) else { return };
        let state = &member.lanes[lane];
        if add && (!member.is_schedulable || state.granted_total <= state.assigned_total) {
            return;
        }
        let stay = member.session.clone();
        let slots = stay.lanes[lane].slots.max(1);
        let load = state.outstanding.saturating_mul(1_000) / slots;
        let rank = Rank { load, served: state.served, session, lane };
        for topic in &stay.lanes[lane].topics {
            let lanes = self.topic_mut(&stay.namespace, topic);
            if add {
                lanes.with_credit.insert(rank);
            } else {
                lanes.with_credit.remove(&rank);
            }
        }
    }

    fn topic_mut(&mut self, namespace: &Namespace, topic: &Arc<str>) -> &mut TopicLanes {
        self.topics.entry(TopicKey { namespace: namespace.clone(), topic: topic.clone() }).or_default()
    }
}

// === impl Dispatcher: lending ===

impl Dispatcher {
    /// Lends credit of the least loaded session that may serve `placement`. `want` is at least 1.
    pub fn lend(
        &mut self,
        topic: &TopicKey,
        placement: &Placement,
        want: u32,
        now: Time,
        who: usize,
    ) -> Result<Loan, Dry> {
        let state = self.topics.entry(topic.clone()).or_default();
        if state.row.as_ref().is_some_and(|row| row.paused.is_some()) {
            state.hungry.insert(who);
            return Err(Dry::Paused);
        }
        let mut want = want;
        if let Some(max) = state.row.as_ref().and_then(|row| row.settings.max_running) {
            let room = max.saturating_sub(state.running);
            if room == 0 {
                state.hungry.insert(who);
                return Err(Dry::MaxRunning);
            }
            want = want.min(room);
        }
        if let Some(bucket) = &mut state.bucket {
            bucket.fill(now);
            match bucket.whole_tokens() {
                0 => return Err(Dry::RateUntil(bucket.token_at(1, now))),
                tokens => want = want.min(tokens),
            }
        }
        let Some(rank) = choose(&state.with_credit, placement, &self.members) else {
            state.hungry.insert(who);
            if self.serves(topic, placement) {
                return Err(Dry::NoCredit);
            }
            self.want_house(topic);
            return Err(Dry::NoWorker);
        };
        let share = want.div_ceil(u32::try_from(state.with_credit.len()).unwrap_or(u32::MAX).max(1));
        Ok(self.borrow(topic, rank, share))
    }

    /// Notes that the server is wanted as a worker: nobody else may serve the topic.
    fn want_house(&mut self, topic: &TopicKey) {
        if house::does(&topic.topic) && !self.houseless.contains(&topic.namespace) {
            self.houseless.push(topic.namespace.clone());
        }
    }

    /// Where the house was wanted since the last call.
    pub fn take_houseless(&mut self) -> Vec<Namespace> {
        std::mem::take(&mut self.houseless)
    }

    fn borrow(&mut self, topic: &TopicKey, rank: Rank, share: u32) -> Loan {
        self.unrank(rank.session, rank.lane);
        self.served += 1;
        let served = self.served;
        let member = self.members.get_mut(&rank.session).expect("invariant: ranked lanes have members");
        let lane = &mut member.lanes[rank.lane];
        let free = lane.granted_total.saturating_sub(lane.assigned_total);
        let left = share.min(u32::try_from(free).unwrap_or(u32::MAX)).max(1);
        lane.assigned_total += u64::from(left);
        lane.outstanding += left;
        lane.served = served;
        let loan = Loan {
            session: rank.session,
            worker_id: member.session.worker_id.clone(),
            lane_id: member.session.lanes[rank.lane].lane_id.clone(),
            lane: rank.lane,
            left,
        };
        self.rank(rank.session, rank.lane);
        let state = self.topics.entry(topic.clone()).or_default();
        state.running += left;
        if let Some(bucket) = &mut state.bucket {
            bucket.spend(left);
        }
        loan
    }

    /// Gives back what a turn did not use.
    pub fn give_back(&mut self, topic: &TopicKey, loan: &Loan) {
        if loan.left == 0 {
            return;
        }
        self.unrank(loan.session, loan.lane);
        if let Some(member) = self.members.get_mut(&loan.session)
            && let Some(lane) = member.lanes.get_mut(loan.lane)
        {
            lane.assigned_total = lane.assigned_total.saturating_sub(u64::from(loan.left));
            lane.outstanding = lane.outstanding.saturating_sub(loan.left);
        }
        self.rank(loan.session, loan.lane);
        let state = self.topics.entry(topic.clone()).or_default();
        state.running = state.running.saturating_sub(loan.left);
        if let Some(bucket) = &mut state.bucket {
            bucket.refund(loan.left);
        }
    }

    /// So many leases of one lane and topic were closed, and that is committed.
    pub fn closed(
        &mut self,
        topic: &TopicKey,
        session: SessionId,
        lane_id: &str,
        count: u32,
    ) -> Option<Wake> {
        let member = self.members.get(&session);
        if let Some(lane) = member.and_then(|m| m.session.lanes.iter().position(|l| &*l.lane_id == lane_id)) {
            self.unrank(session, lane);
            if let Some(member) = self.members.get_mut(&session) {
                let outstanding = &mut member.lanes[lane].outstanding;
                *outstanding = outstanding.saturating_sub(count);
            }
            self.rank(session, lane);
        }
        let state = self.topics.get_mut(topic)?;
        state.running = state.running.saturating_sub(count);
        let is_capped = state.row.as_ref().is_some_and(|row| row.settings.max_running.is_some());
        if !is_capped || state.hungry.is_empty() {
            return None;
        }
        Some(Wake { topic: topic.clone(), loops: state.hungry.drain().collect() })
    }

    /// Counts a lease that was open before this process began.
    pub fn count_open(&mut self, topic: &TopicKey) {
        self.topics.entry(topic.clone()).or_default().running += 1;
    }

    /// True if a live session serves the class, with credit or without.
    pub fn serves(&self, topic: &TopicKey, placement: &Placement) -> bool {
        if self.topics.get(topic).is_none_or(|t| t.lanes == 0) {
            return false;
        }
        placement.is_free()
            || self.members.values().any(|m| {
                m.session.namespace == topic.namespace
                    && m.session.lane_of(&topic.topic).is_some()
                    && fits(&m.session, placement)
            })
    }

    /// Live sessions that serve a topic.
    pub fn workers_of(&self, topic: &TopicKey) -> u32 {
        self.topics.get(topic).map_or(0, |t| t.lanes)
    }

    /// Open leases of a topic.
    pub fn running(&self, topic: &TopicKey) -> u32 {
        self.topics.get(topic).map_or(0, |t| t.running)
    }
}

/// Walks lanes from the least loaded; a preferred pool or worker wins if it has credit at all.
fn choose(
    ranks: &BTreeSet<Rank>,
    placement: &Placement,
    members: &FxHashMap<SessionId, Member>,
) -> Option<Rank> {
    if placement.is_free() {
        return ranks.first().copied();
    }
    let able = |rank: &&Rank| members.get(&rank.session).is_some_and(|m| fits(&m.session, placement));
    let preferred = |rank: &&Rank| {
        members.get(&rank.session).is_some_and(|m| {
            placement.worker_id.as_ref().is_none_or(|w| *w == m.session.worker_id)
                && placement.pool.as_ref().is_none_or(|p| *p == m.session.pool)
        })
    };
    ranks.iter().filter(able).find(preferred).or_else(|| ranks.iter().find(able)).copied()
}

fn fits(session: &Session, placement: &Placement) -> bool {
    let pool = !placement.pool_required || placement.pool.as_ref().is_none_or(|p| *p == session.pool);
    let worker =
        !placement.worker_required || placement.worker_id.as_ref().is_none_or(|w| *w == session.worker_id);
    pool && worker && session.covers(&placement.requires)
}

// === impl Dispatcher: limits ===

impl Dispatcher {
    /// Makes a topic's settings known. Says whom to wake.
    pub fn set_topic(&mut self, row: Arc<Topic>, now: Time) -> Option<Wake> {
        let key = TopicKey { namespace: row.namespace.clone(), topic: row.name.clone() };
        let state = self.topics.entry(key.clone()).or_default();
        state.bucket = match (row.settings.rate, state.bucket.take()) {
            (Some(rate), Some(bucket)) if bucket.rate == rate => Some(bucket),
            (Some(rate), _) => Some(Bucket::full(rate, now)),
            (None, _) => None,
        };
        state.row = Some(row);
        let loops: Vec<usize> = state.hungry.drain().collect();
        (!loops.is_empty()).then_some(Wake { topic: key, loops })
    }

    /// Takes a slot of a concurrency key for a lease. False if all are held; `who` is told when one is freed.
    pub fn take_slot(&mut self, key: &LimitKey, holder: Holder, limit: u32, who: usize) -> bool {
        let slots = self.slots.entry(key.clone()).or_default();
        if slots.holders.contains(&holder) {
            return true;
        }
        if slots.holders.len() >= limit.max(1) as usize {
            slots.waiting.insert(who);
            return false;
        }
        slots.holders.insert(holder)
    }

    /// Frees a slot after the commit that closed its lease. Says which loops wait for one.
    pub fn free_slot(&mut self, key: &LimitKey, holder: Holder) -> Vec<usize> {
        let Some(slots) = self.slots.get_mut(key) else { return Vec::new() };
        slots.holders.remove(&holder);
        let waiting = slots.waiting.drain().collect();
        if slots.holders.is_empty() {
            self.slots.remove(key);
        }
        waiting
    }

    /// Puts back a slot that was taken in this turn and not used: nobody was told that it was held.
    pub fn return_slot(&mut self, key: &LimitKey, holder: Holder) {
        if let Some(slots) = self.slots.get_mut(key) {
            slots.holders.remove(&holder);
            if slots.holders.is_empty() && slots.waiting.is_empty() {
                self.slots.remove(key);
            }
        }
    }

    /// Counts a lease that was open before this process began as a holder, whatever the limit says now.
    pub fn hold_slot(&mut self, key: &LimitKey, holder: Holder) {
        self.slots.entry(key.clone()).or_default().holders.insert(holder);
    }

    /// Jobs that hold a slot of `key`.
    pub fn holders(&self, key: &LimitKey) -> Vec<Holder> {
        self.slots.get(key).map(|s| s.holders.iter().copied().collect()).unwrap_or_default()
    }

    /// Takes one start of a rate key, or says when the next one is.
    pub fn take_rate(&mut self, key: &LimitKey, rate: Rate, now: Time) -> Result<(), Time> {
        if self.rates.len() > RATES_SWEEP {
            self.rates.retain(|_, bucket| !bucket.is_full_at(now));
        }
        let bucket = self.bucket(key, rate, now);
        if bucket.whole_tokens() == 0 {
            return Err(bucket.token_at(1, now));
        }
        bucket.spend(1);
        Ok(())
    }

    fn bucket(&mut self, key: &LimitKey, rate: Rate, now: Time) -> &mut Bucket {
        let bucket = self.rates.entry(key.clone()).or_insert_with(|| Bucket::full(rate, now));
        bucket.fill(now);
        bucket.set_rate(rate);
        bucket
    }

    /// When the `nth` start from now on is allowed.
    pub fn start_at(&mut self, key: &LimitKey, rate: Rate, nth: u64, now: Time) -> Time {
        self.bucket(key, rate, now).token_at(nth, now)
    }

    /// Counts a start made before this process began, so long ago: what it took has come back in part since.
    pub fn count_start(&mut self, key: &LimitKey, rate: Rate, ago: Span, now: Time) {
        self.bucket(key, rate, now).owe(ago);
    }

    /// Puts back a start that was taken and not used.
    pub fn refund_rate(&mut self, key: &LimitKey) {
        if let Some(bucket) = self.rates.get_mut(key) {
            bucket.refund(1);
        }
    }
}

/// Rate buckets kept before full ones, which carry no information, are dropped.
const RATES_SWEEP: usize = 10_000;
