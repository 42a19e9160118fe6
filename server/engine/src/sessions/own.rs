//! Sessions of the house: of this process, and over with it. None is stored, none expires.

use super::attach::{attach, new_session};
use super::handle::Attached;
use super::stay::Stay;
use crate::api::Hello;
use crate::shared::Shared;
use coretex_domain::session::Lane;
use coretex_domain::{Namespace, SessionId, house};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Opens one.
pub(crate) fn open_own(shared: &Arc<Shared>, namespace: &Namespace, lanes: Vec<Lane>) -> Attached {
    let hello = Hello {
        namespace: namespace.clone(),
        principal: house::WORKER.into(),
        worker_id: house::WORKER.into(),
        pool: house::WORKER.into(),
        capabilities: Vec::new(),
        labels: Vec::new(),
        lanes,
        sdk: "server".into(),
        host: shared.settings.node_id.as_str().into(),
        heartbeat: None,
        ttl: None,
    };
    let session = Arc::new(new_session(shared, &hello, false));
    let now = shared.env.clock.now();
    let stay = Arc::new(Stay::new(session.clone(), now.mono, now.wall));
    shared.sessions.insert_lasting(&stay);
    shared.dispatcher().join(session, &FxHashMap::default());
    attach(shared, &stay).0
}

/// Closes one. Its leases are the caller's concern.
pub(crate) fn close_own(shared: &Shared, session: SessionId) {
    shared.dispatcher().leave(session);
    if let Some(stay) = shared.sessions.find(session) {
        shared.sessions.remove(&stay);
        stay.inner().stream = None;
    }
}
