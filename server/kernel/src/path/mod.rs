//! The path of a job, one verb per file.

pub mod admit;
mod annotate;
pub(crate) mod approval;
mod ask;
pub mod cancel;
mod dead_letter;
pub mod dispatch;
pub mod due;
pub mod explain;
pub(crate) mod family;
pub mod recover;
pub mod retry;
pub mod session;
pub mod settle;
mod spawn;
pub mod submit;

use crate::dispatcher::LimitKey;
use crate::input::{Input, Reply, TopicCounts, Write};
use crate::limits::LimitKind;
use crate::{Dispatcher, Turn, View, parked, runs};
use coretex_domain::job::State;
use coretex_domain::policy::Policy;
use coretex_domain::topic::Topic;
use coretex_domain::{Namespace, Time};
use std::sync::Arc;

/// Decides one input. Dispatch is not part of it: the caller runs [`dispatch::dispatch`] once per group.
pub fn decide(view: &mut View, dispatcher: &mut Dispatcher, input: Input, turn: &mut Turn) -> Reply {
    let reply = decide_one(view, dispatcher, input, turn);
    runs::follow(view, dispatcher, turn);
    reply
}

/// Hands out what may be handed out, once per group. True if work was left behind.
pub fn dispatch(view: &mut View, dispatcher: &mut Dispatcher, turn: &mut Turn) -> bool {
    let again = dispatch::dispatch(view, dispatcher, turn);
    // A job may end instead of being handed out: what follows from it is handed out in the next group.
    runs::follow(view, dispatcher, turn);
    again || view.has_work()
}

fn decide_one(view: &mut View, dispatcher: &mut Dispatcher, input: Input, turn: &mut Turn) -> Reply {
    match input {
        Input::Submit(submit) => submit::submit(view, dispatcher, submit, turn),
        Input::ClaimKey { namespace, key, job_id, fingerprint, known } => {
            submit::claim_key(view, namespace, key, job_id, fingerprint, known, turn)
        }
        Input::Report { session, updates } => Reply::Reported(settle::report(view, session, updates, turn)),
        Input::Acked { session, accepted, refused } => {
            session::acked(view, session, &accepted, &refused, turn)
        }
        Input::Reconcile { session, held } => {
            Reply::Reconciled(session::reconcile(view, session, &held, turn))
        }
        Input::SessionEnd { session } => session::end(view, session, turn),
        Input::ReturnLeases { session, with_started } => {
            session::return_leases(view, session, with_started, turn)
        }
        Input::Cancel { namespace, job_id, reason, actor } => {
            cancel::cancel(view, &namespace, &job_id, reason, actor, turn)
        }
        Input::Vote(ballot) => approval::vote(view, dispatcher, *ballot, turn),
        Input::Delegate(hand_over) => approval::delegate(view, dispatcher, *hand_over, turn),
        Input::RetryByHand(retry, looked_at) => {
            retry::by_hand_as_of(view, dispatcher, *retry, looked_at, turn)
        }
        Input::DeleteDeadLetters { jobs, actor } => dead_letter::delete(view, jobs, &actor, turn),
        Input::SetTopic(topic) => set_topic(view, topic, turn),
        Input::MirrorTopic(topic) => {
            view.set_topic(topic, turn.now.wall);
            Reply::None
        }
        Input::SetPolicy(policy) => set_policy(view, dispatcher, policy, turn),
        Input::SetRetentions(retentions) => {
            view.set_retentions(retentions);
            Reply::None
        }
        Input::Ruled(ruled) => {
            admit::ruled(view, dispatcher, *ruled, turn);
            Reply::None
        }
        Input::Work(topics) => {
            topics.iter().for_each(|topic| view.mark_topic(&topic.namespace, &topic.topic));
            Reply::None
        }
        Input::SlotFree(key) => slot_free(view, dispatcher, &key, turn),
        Input::Tick => {
            due::tick(view, dispatcher, turn);
            Reply::None
        }
        Input::Get { namespace, job_id } => {
            view.look(&namespace, &job_id).map_or(Reply::NotOpen, |job| Reply::Job(Ok(job.clone())))
        }
        Input::JobOfLease { session, lease_id } => {
            session::job_of_lease(view, session, lease_id).map_or(Reply::NotOpen, |job| Reply::Job(Ok(job)))
        }
        Input::Ask(asked) => Reply::Told(ask::ask(view, *asked, turn)),
        Input::Spawn(spawn) => Reply::Told(spawn::spawn(view, dispatcher, *spawn, turn)),
        Input::Explain { namespace, job_id } => {
            explain::explain(view, dispatcher, &namespace, &job_id, turn.now)
        }
        Input::StartRun(_)
        | Input::LoadRun(_)
        | Input::Evaluated(_)
        | Input::CancelRun { .. }
        | Input::SignalRun { .. }
        | Input::GetRun { .. }
        | Input::ExplainRun { .. } => runs::decide(view, dispatcher, input, turn),
        Input::Topics { namespace } => Reply::Topics(topic_counts(view, namespace.as_ref())),
    }
}

fn slot_free(view: &mut View, dispatcher: &mut Dispatcher, key: &LimitKey, turn: &mut Turn) -> Reply {
    match key.kind() {
        LimitKind::Run(_) => runs::admit_queued(view, dispatcher, key, turn),
        LimitKind::Concurrency | LimitKind::Rate(_) | LimitKind::Rule(_) | LimitKind::Throttle => {
            parked::unpark(view, key);
        }
    }
    Reply::None
}

/// The dispatcher learns of it from the caller once it is committed, together with whom to wake.
fn set_topic(view: &mut View, topic: Arc<Topic>, turn: &mut Turn) -> Reply {
    view.set_topic(topic.clone(), turn.now.wall);
    turn.rows.push(Write::Topic(topic));
    Reply::None
}

/// Jobs that wait for a verdict are asked again at once, and those that wait for people: an answer to the old question
/// would be none to the new one. Admitted ones are asked at their dispatch.
fn set_policy(view: &mut View, dispatcher: &mut Dispatcher, policy: Arc<Policy>, turn: &mut Turn) -> Reply {
    view.policy = policy;
    let mut pending: Vec<_> = view
        .open_jobs()
        .filter(|job| match job.state {
            State::Pending(_) => true,
            State::AwaitingApproval => !view.is_judged(job),
            _ => false,
        })
        .map(|job| (job.create_time, job.history.first().map_or(0, |entry| entry.seq), job.key()))
        .collect();
    // Where they must stand in line, they stand as they came.
    pending.sort_unstable();
    for (.., key) in pending {
        approval::void(view, key, turn);
        admit::admit(view, dispatcher, key, turn);
    }
    parked::revive_rules(view);
    Reply::None
}

fn topic_counts(view: &View, namespace: Option<&Namespace>) -> Vec<TopicCounts> {
    let counts = |state: &crate::view::TopicState| TopicCounts {
        topic: state.key.clone(),
        by_state: state.by_state,
        oldest_ready: view.oldest_ready(state),
    };
    let is_asked = |t: &&crate::view::TopicState| namespace.is_none_or(|n| t.key.namespace == *n);
    view.topics.iter().filter(is_asked).map(counts).collect()
}

// === impl View: topics ===

impl View {
    /// Looks at every class of a topic again.
    pub(crate) fn mark_topic(&mut self, namespace: &Namespace, topic: &Arc<str>) {
        let no = self.topic_no(namespace, topic);
        let classes = self.topics[no.0 as usize].classes.clone();
        self.dirty.extend(classes.into_iter().filter(|c| self.classes[c.0 as usize].live > 0));
    }

    /// Takes in a topic's settings; deadlines of its open jobs follow.
    pub fn set_topic(&mut self, topic: Arc<Topic>, now: Time) {
        let no = self.topic_no(&topic.namespace, &topic.name);
        let (namespace, name) = (topic.namespace.clone(), topic.name.clone());
        let old = self.topics[no.0 as usize].row.replace(topic);
        let has_new_deadlines = {
            let row = self.topics[no.0 as usize].row.as_ref();
            old.map(|o| o.settings.timeouts.clone()).unwrap_or_default()
                != row.map(|r| r.settings.timeouts.clone()).unwrap_or_default()
        };
        if has_new_deadlines {
            self.thaw_topic(no);
            let keys: Vec<_> = self
                .open_jobs()
                .filter(|job| job.namespace == namespace && job.spec.topic == name)
                .map(|job| (job.key(), job.state.kind()))
                .collect();
            for (key, kind) in keys {
                self.settle_in(key, Some(kind), now);
            }
        }
        self.mark_topic(&namespace, &name);
    }

    fn oldest_ready(&self, topic: &crate::view::TopicState) -> Option<Time> {
        topic.classes.iter().filter_map(|c| self.classes[c.0 as usize].ready.oldest()).min()
    }
}
