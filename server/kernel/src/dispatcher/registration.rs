//! A session that changes what it serves, and what its lanes have been given so far.

use super::{Dispatcher, LaneState, Member, Wake};
use coretex_domain::SessionId;
use coretex_domain::session::Session;
use std::sync::Arc;

/// Credit of one lane since the session began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneTotals {
    pub lane_id: Arc<str>,
    pub granted: u64,
    pub assigned: u64,
}

impl Dispatcher {
    /// Takes in what a session serves now. Lanes that were there keep their credit and their open leases; new ones
    /// begin with none. Says whom the credit may wake.
    pub fn re_register(&mut self, session: Arc<Session>) -> Vec<Wake> {
        let id = session.session_id;
        let Some(member) = self.members.get(&id) else { return Vec::new() };
        let is_schedulable = member.is_schedulable;
        let before = member.session.clone();
        self.unrank_all(id);
        let mut kept = self.members.remove(&id).map(|member| member.lanes).unwrap_or_default();
        self.count_lanes(&before, false);
        self.count_lanes(&session, true);
        let mut lanes = Vec::with_capacity(session.lanes.len());
        for lane in &session.lanes {
            let old = before.lanes.iter().position(|b| b.lane_id == lane.lane_id);
            let nothing = LaneState { granted_total: 0, assigned_total: 0, outstanding: 0, served: 0 };
            lanes.push(match old.and_then(|at| kept.get_mut(at)) {
                Some(state) => std::mem::replace(state, nothing),
                None => nothing,
            });
        }
        let count = lanes.len();
        self.members.insert(id, Member { session, lanes, is_schedulable });
        let mut wakes = Vec::new();
        for lane in 0..count {
            self.rank(id, lane);
            wakes.extend(self.wakes_of(id, lane));
        }
        wakes
    }

    /// What each lane was granted and assigned. Empty if the session is not here.
    pub fn lane_totals(&self, session: SessionId) -> Vec<LaneTotals> {
        let Some(member) = self.members.get(&session) else { return Vec::new() };
        let lanes = member.session.lanes.iter().zip(&member.lanes);
        let totals = |(lane, state): (&coretex_domain::session::Lane, &LaneState)| LaneTotals {
            lane_id: lane.lane_id.clone(),
            granted: state.granted_total,
            assigned: state.assigned_total,
        };
        lanes.map(totals).collect()
    }

    fn unrank_all(&mut self, session: SessionId) {
        let lanes = self.members.get(&session).map_or(0, |member| member.lanes.len());
        for lane in 0..lanes {
            self.unrank(session, lane);
        }
    }

    fn count_lanes(&mut self, session: &Session, add: bool) {
        for topic in session.lanes.iter().flat_map(|lane| &lane.topics) {
            let state = self.topic_mut(&session.namespace, topic);
            state.lanes = if add { state.lanes + 1 } else { state.lanes.saturating_sub(1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatcher::{Dry, TopicKey};
    use coretex_domain::job::spec::Placement;
    use coretex_domain::session::Lane;
    use coretex_domain::{Namespace, Span, Time};
    use rustc_hash::FxHashMap;

    fn session(lanes: &[(&str, &[&str])]) -> Arc<Session> {
        let lane = |(id, topics): &(&str, &[&str])| Lane {
            lane_id: (*id).into(),
            topics: topics.iter().map(|t| (*t).into()).collect(),
            slots: 4,
        };
        Arc::new(Session {
            session_id: SessionId(7),
            epoch: 1,
            namespace: Namespace::new("default"),
            worker_id: "w".into(),
            principal: "".into(),
            pool: "default".into(),
            capabilities: Vec::new(),
            labels: Vec::new(),
            lanes: lanes.iter().map(lane).collect(),
            ttl: Span(1),
            sdk: "".into(),
            host: "".into(),
            create_time: Time(0),
            is_polling: false,
        })
    }

    fn topic(name: &str) -> TopicKey {
        TopicKey { namespace: Namespace::new("default"), topic: name.into() }
    }

    #[test]
    fn credit_outlives_a_change_of_topics() {
        let mut dispatcher = Dispatcher::default();
        let lend = |d: &mut Dispatcher, name: &str| {
            d.lend(&topic(name), &Placement::default(), 9, Time(0), 0).map(|loan| loan.left)
        };
        dispatcher.join(session(&[("main", &["a"])]), &FxHashMap::default());
        dispatcher.grant(SessionId(7), "main", 5).expect("granted");
        assert_eq!(dispatcher.lend(&topic("a"), &Placement::default(), 2, Time(0), 0).map(|l| l.left), Ok(2));
        assert_eq!(lend(&mut dispatcher, "b"), Err(Dry::NoWorker));
        let wakes = dispatcher.re_register(session(&[("extra", &["c"]), ("main", &["b"])]));
        assert_eq!(wakes.iter().map(|w| &*w.topic.topic).collect::<Vec<_>>(), ["b"], "who waited is told");
        assert_eq!(lend(&mut dispatcher, "a"), Err(Dry::NoWorker), "the topic is served no more");
        assert_eq!(lend(&mut dispatcher, "c"), Err(Dry::NoCredit), "a new lane begins with none");
        assert_eq!(lend(&mut dispatcher, "b"), Ok(3), "three of five are left");
        let main = LaneTotals { lane_id: "main".into(), granted: 5, assigned: 5 };
        assert_eq!(dispatcher.lane_totals(SessionId(7)).get(1), Some(&main));
        assert_eq!(dispatcher.outstanding(SessionId(7)), 5, "open leases are still counted");
    }
}
