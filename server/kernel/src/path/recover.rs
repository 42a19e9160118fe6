//! Recover: open jobs, topics and sessions in; a view ready for its first decision out.
//!
//! The same filing as for live changes does it; afterwards the dispatcher is told what is already leased.

use crate::dispatcher::TopicKey;
use crate::limits::{own_slot, rule_slot};
use crate::path::approval;
use crate::{Dispatcher, View, throttle};
use coretex_domain::job::State;
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
    let submitted =
        |job: &Job| job.history.first().map_or((job.create_time, 0), |entry| (entry.time, entry.seq));
    jobs.sort_by_key(|job| (job.place, submitted(job), job.key()));
    for job in jobs {
        if let Some(lease) = job.state.lease() {
            let topic = TopicKey { namespace: job.namespace.clone(), topic: job.spec.topic.clone() };
            dispatcher.count_open(&topic);
            for (key, holder) in own_slot(&job, lease.serial)
                .into_iter()
                .chain(rule_slot(&job, lease.serial).map(|slot| *slot))
            {
                dispatcher.hold_slot(&key, holder);
            }
        }
        throttle::count(dispatcher, &job, now);
        let key = job.key();
        if view.policy.is_remote() && matches!(job.state, State::Pending(None)) {
            view.unasked.push(key);
        }
        view.load(job, now);
        throttle::rejoin(view, key, now);
    }
    approval::recover(view);
}
