//! Worker sessions: a registered worker's stay, which outlives a dropped stream.

use crate::id::{Namespace, SessionId};
use crate::time::{Span, Time};
use std::sync::Arc;

/// Topics that share one executor inside a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    pub lane_id: Arc<str>,
    pub topics: Vec<Arc<str>>,
    pub slots: u32,
}

/// What is stored of a session: written on Hello, Resume and close, never on heartbeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub session_id: SessionId,
    /// Rises by one with each Resume; also called the stream generation.
    pub epoch: u32,
    pub namespace: Namespace,
    pub worker_id: Arc<str>,
    pub principal: Arc<str>,
    pub pool: Arc<str>,
    pub capabilities: Vec<Arc<str>>,
    pub labels: Vec<(Arc<str>, Arc<str>)>,
    pub lanes: Vec<Lane>,
    pub ttl: Span,
    pub sdk: Arc<str>,
    pub host: Arc<str>,
    pub create_time: Time,
    /// True for sessions made by `PollJobs`, which have no stream.
    pub is_polling: bool,
}

impl Session {
    pub fn lane_of(&self, topic: &str) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.topics.iter().any(|t| &**t == topic))
    }
    pub fn covers(&self, requires: &[Arc<str>]) -> bool {
        requires.iter().all(|need| self.capabilities.contains(need))
    }
}
