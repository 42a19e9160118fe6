//! Recover: open jobs, topics and sessions in; a view ready for its first decision out.
//!
//! The same filing as for live changes does it; afterwards the dispatcher is told what is already leased.

use crate::dispatcher::TopicKey;
use crate::path::dispatch::slot_of;
use crate::{Dispatcher, View};
use coretex_domain::topic::Topic;
use coretex_domain::{Job, Time};
use std::sync::Arc;

/// Fills a view and makes its open leases known to the dispatcher.
pub fn recover(
    view: &mut View,
    dispatcher: &mut Dispatcher,
    jobs: Vec<Arc<Job>>,
    topics: &[Arc<Topic>],
    now: Time,
) {
    for topic in topics {
        dispatcher.set_topic(topic.clone(), now);
        view.set_topic(topic.clone(), now);
    }
    // In order of place, so that ready queues append; order within a place is by key.
    let mut jobs = jobs;
    jobs.sort_by_key(|job| (job.place, job.key()));
    for job in jobs {
        if let Some(lease) = job.state.lease() {
            let topic = TopicKey { namespace: job.namespace.clone(), topic: job.spec.topic.clone() };
            dispatcher.count_open(&topic);
            if let Some((key, holder)) = slot_of(&job, lease.serial) {
                dispatcher.hold_slot(&key, holder);
            }
        }
        view.load(job, now);
    }
}
