//! Explain: an open job in; why it stands where it stands out, in words a caller can act on.

use crate::View;
use crate::dispatcher::{Dispatcher, LimitKey, TopicKey};
use crate::input::{Cause, Explanation, Reply};
use crate::limits::LimitKind;
use coretex_domain::job::State;
use coretex_domain::policy::OnExpiry;
use coretex_domain::time::Now;
use coretex_domain::{Job, JobId, Namespace, Time};
use std::sync::Arc;

pub(crate) fn explain(
    view: &mut View,
    dispatcher: &Dispatcher,
    namespace: &Namespace,
    job_id: &JobId,
    now: Now,
) -> Reply {
    match view.look(namespace, job_id).cloned() {
        Some(job) => Reply::Explained(explain_open(view, dispatcher, &job, now)),
        None => Reply::NotOpen,
    }
}

fn cause(kind: &'static str, message: impl Into<String>) -> Cause {
    Cause { kind, message: message.into(), holders: Vec::new(), eta: None }
}

fn at(kind: &'static str, message: impl Into<String>, eta: Time) -> Cause {
    Cause { eta: Some(eta), ..cause(kind, message) }
}

fn explain_open(view: &View, dispatcher: &Dispatcher, job: &Job, now: Now) -> Explanation {
    let causes = causes_of(view, dispatcher, job, now);
    let first = causes.last().map_or_else(String::new, |c| format!(": {}", c.message));
    Explanation { summary: format!("{}{first}", job.state.kind().name()), causes }
}

/// What an open job waits for.
pub(crate) fn causes_of(view: &View, dispatcher: &Dispatcher, job: &Job, now: Now) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some(cancel) = &job.rare().cancel {
        causes
            .push(cause("CANCEL_REQUESTED", format!("{} asked to cancel: {}", cancel.actor, cancel.reason)));
    }
    match &job.state {
        State::Pending(Some(why)) => causes.push(deferred(view, job, why)),
        State::Pending(None) => causes.push(cause("POLICY_PENDING", "waits for a policy verdict")),
        State::AwaitingApproval => causes.push(asked(view, job)),
        State::Scheduled if job.ready_time() > now.wall => {
            causes.push(at("SCHEDULE_TIME", "its schedule time has not come", job.ready_time()));
        }
        State::Scheduled => causes.extend(why_not_dispatched(view, dispatcher, job, now)),
        State::Dispatched(lease) => {
            causes.push(Cause {
                holders: vec![lease.worker_id.to_string()],
                ..cause("OFFERED", format!("handed to worker {}, which has not started it", lease.worker_id))
            });
        }
        State::Running(lease) => causes.push(Cause {
            holders: vec![lease.worker_id.to_string()],
            ..cause("RUNNING", format!("worker {} runs attempt {}", lease.worker_id, job.attempt()))
        }),
        State::Retrying { due } => {
            let kind = job.failure().map_or("", |f| f.kind.as_ref());
            causes.push(at(
                "BACKOFF",
                format!("attempt {} failed with {kind}; waits to retry", job.counters.attempts),
                *due,
            ));
        }
        State::Succeeded
        | State::Failed
        | State::TimedOut
        | State::Cancelled
        | State::Denied
        | State::Expired => {}
    }
    causes
}

/// Who is asked about a job, what they said so far, and what silence will mean.
fn asked(view: &View, job: &Job) -> Cause {
    let Some(approval) = view.approvals.get(&job.key()) else {
        return cause("APPROVAL", "waits for a person to approve it");
    };
    let (votes, quorum) = (approval.approvers(), approval.terms.quorum);
    let named = |names: &[&Arc<str>]| {
        names.iter().map(|n| if n.is_empty() { "anonymous" } else { n }).collect::<Vec<_>>().join(", ")
    };
    let said = if votes.is_empty() { String::new() } else { format!(" ({})", named(&votes)) };
    let who = match approval.terms.approvers.iter().collect::<Vec<_>>().as_slice() {
        [] => "whoever may decide approvals".to_owned(),
        names => named(names),
    };
    let end = match approval.terms.on_expiry {
        OnExpiry::Reject => "denied",
        OnExpiry::Approve => "let in",
    };
    let message = format!(
        "{} waits for {who}: {} of {quorum} approvals{said}; without a decision it is {end}",
        approval.id(),
        votes.len()
    );
    let holders = approval.terms.approvers.iter().map(ToString::to_string).collect();
    Cause { holders, ..at("APPROVAL", message, approval.expire_time) }
}

fn why_not_dispatched(view: &View, dispatcher: &Dispatcher, job: &Job, now: Now) -> Vec<Cause> {
    let topic = TopicKey { namespace: job.namespace.clone(), topic: job.spec.topic.clone() };
    let mut causes = Vec::new();
    let row = view.topics.iter().find(|t| t.key == topic).and_then(|t| t.row.clone());
    if let Some(pause) = row.as_ref().and_then(|r| r.paused.as_ref()) {
        causes.push(cause("TOPIC_PAUSED", format!("topic {} is paused: {}", topic.topic, pause.reason)));
    }
    let placement = &job.spec.options().placement;
    if !dispatcher.serves(&topic, placement) {
        let message = match (dispatcher.workers_of(&topic), placement.is_free()) {
            (0, _) => format!("no live worker serves topic {}", topic.topic),
            (n, _) => format!(
                "{n} live workers serve topic {}, none fits the job's pool, worker or requires",
                topic.topic
            ),
        };
        causes.push(cause("NO_WORKER", message));
    }
    if let Some(limit) = view.parked.limit_of(job) {
        causes.push(held_back(view, dispatcher, limit, now));
    }
    if let Some(max) = row.as_ref().and_then(|r| r.settings.max_running)
        && dispatcher.running(&topic) >= max
    {
        causes.push(cause(
            "MAX_RUNNING",
            format!("{} of {max} jobs of the topic run", dispatcher.running(&topic)),
        ));
    }
    if causes.is_empty() {
        let ahead = view
            .topics
            .iter()
            .find(|t| t.key == topic)
            .map_or(0, |t| t.classes.iter().map(|c| view.classes[c.0 as usize].live).sum::<usize>());
        causes.push(cause("NO_CREDIT", format!("all workers of the topic are busy; {ahead} jobs wait")));
    }
    causes
}

/// A job in PENDING that is asked about later: no verdict could be had, or its rule has a rate.
fn deferred(view: &View, job: &Job, why: &(Time, std::sync::Arc<str>)) -> Cause {
    let throttled = job.decision.as_deref().and_then(|decision| Some((decision, decision.throttle()?)));
    let Some((decision, throttle)) = throttled else {
        return at("POLICY_DEFERRED", why.1.to_string(), why.0);
    };
    let (ahead, first) = view.throttled.ahead_of(job.key());
    let (limit, per) = (throttle.limit, throttle.per);
    let message = format!("rule {} lets {limit} in per {per}; {ahead} wait before it", decision.rule_id);
    at("THROTTLED", message, why.0.max(first))
}

fn held_back(view: &View, dispatcher: &Dispatcher, limit: &LimitKey, now: Now) -> Cause {
    let holders = dispatcher.holders(limit);
    let names = || holders.iter().filter_map(|h| view.job(h.job)).map(|j| j.id.to_string()).collect();
    let count = holders.len();
    match limit.kind() {
        LimitKind::Rate(name) => {
            let next = view.key_wakes.iter().find(|(_, key)| key == limit).map_or(now.wall, |(at, _)| *at);
            at("RATE_KEY", format!("the rate of key `{name}` is used up"), next)
        }
        LimitKind::Rule(rule) => Cause {
            holders: names(),
            ..cause("POLICY_CONCURRENCY", format!("rule {rule} is held by {count} open leases"))
        },
        LimitKind::Concurrency | LimitKind::Throttle | LimitKind::Run(_) => Cause {
            holders: names(),
            ..cause("CONCURRENCY_KEY", format!("key `{}` is held by {count} open leases", limit.key))
        },
    }
}
