//! Queued jobs in a small form: what a plain job that only waits is made of, without its records.
//!
//! A long backlog is mostly such jobs. They are packed when their queue is long and made whole again, exactly as they
//! were, before anything looks at them.

use crate::dispatcher::TopicKey;
use coretex_domain::config::Applied;
use coretex_domain::job::{Entry, Event, Rare, Spec, State};
use coretex_domain::payload::ContentType;
use coretex_domain::policy::Decision;
use coretex_domain::{Job, JobId, JobKey, Payload, ShardId, Time};
use std::sync::Arc;

/// A plain job in SCHEDULED that was never handed out.
#[derive(Debug)]
pub(crate) struct Packed {
    payload: Box<[u8]>,
    actor: Option<Box<str>>,
    decision: Option<Arc<Decision>>,
    config: Option<Arc<Applied>>,
    submitted: (u64, Time),
    admitted: (u64, Time),
    pub(crate) place: u64,
    pub(crate) priority: u8,
    content: Content,
}

#[derive(Clone, Copy, Debug)]
enum Content {
    None,
    Json,
    Binary,
}

impl Packed {
    /// The small form of `job`, if it is plain enough to have one.
    pub(crate) fn of(job: &Job) -> Option<Packed> {
        let [first, second] = job.history.as_slice() else { return None };
        let (Event::Submitted { actor }, Event::Admitted { place }) = (&first.event, &second.event) else {
            return None;
        };
        let is_plain = matches!(job.state, State::Scheduled)
            && matches!(job.id, JobId::Made(_))
            && job.spec.options.is_none()
            && job.rare.as_ref().is_none_or(|rare| has_config_only(rare))
            && *place == job.place;
        let content = match job.spec.payload.content_type {
            ContentType::None => Content::None,
            ContentType::Json => Content::Json,
            ContentType::Binary => Content::Binary,
            ContentType::Other(_) => return None,
        };
        is_plain.then(|| Packed {
            payload: job.spec.payload.data.as_ref().into(),
            actor: actor.clone(),
            decision: job.decision.clone(),
            config: job.rare().config.clone(),
            submitted: (first.seq, first.time),
            admitted: (second.seq, second.time),
            place: job.place,
            priority: job.spec.priority,
            content,
        })
    }

    /// The whole job again.
    pub(crate) fn unpack(self, key: JobKey, topic: &TopicKey) -> Job {
        let content_type = match self.content {
            Content::None => ContentType::None,
            Content::Json => ContentType::Json,
            Content::Binary => ContentType::Binary,
        };
        let spec = Spec {
            topic: topic.topic.clone(),
            payload: Payload { content_type, data: self.payload.into() },
            priority: self.priority,
            options: None,
        };
        let (seq, time) = self.submitted;
        let id = JobId::Made(key.0);
        let mut job = Job::submitted(id, topic.namespace.clone(), Arc::new(spec), seq, time, self.actor);
        let (seq, time) = self.admitted;
        let admitted = Entry { seq, time, event: Event::Admitted { place: self.place } };
        job.apply(admitted).expect("invariant: a new job may be admitted");
        job.decision = self.decision;
        if let Some(config) = self.config {
            job.rare_mut().config = Some(config);
        }
        job
    }

    pub(crate) fn shard(key: JobKey) -> ShardId {
        ShardId(key.0.to_be_bytes()[15])
    }
}

/// True if the only rare thing about a job is its configuration, which it shares with others.
fn has_config_only(rare: &Rare) -> bool {
    rare.config.is_some() && *rare == Rare { config: rare.config.clone(), ..Rare::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coretex_domain::Namespace;
    use coretex_domain::policy::{Answer, Facts, Policy};

    #[test]
    fn packing_and_unpacking_changes_nothing() {
        let topic = TopicKey { namespace: Namespace::new("default"), topic: "job.echo".into() };
        let id = JobId::make(1_700_000_000_000, 99 << 8, ShardId(7));
        let spec = Arc::new(Spec::new(topic.topic.clone(), Payload::json("{\"a\":1}")));
        let mut job = Job::submitted(id, topic.namespace.clone(), spec, 5, Time(10), Some("me".into()));
        assert!(Packed::of(&job).is_none(), "a job that was not admitted is not packed");
        job.apply(Entry { seq: 6, time: Time(11), event: Event::Admitted { place: 11 << 20 } }).unwrap();
        let facts = Facts { namespace: "default", submitter: None, spec: &job.spec.clone(), config: None };
        if let Answer::Decided(decision) = Policy::built_in().judge(facts, Time(1)) {
            job.decision = Some(decision);
        }
        let packed = Packed::of(&job).unwrap();
        assert!(size_of::<Packed>() <= 112, "{}", size_of::<Packed>());
        assert_eq!(packed.unpack(job.key(), &topic), job);
        job.rare_mut().config = Some(Arc::new(Applied { digest: [7; 32], layers: Vec::new(), data: None }));
        assert_eq!(Packed::of(&job).unwrap().unpack(job.key(), &topic), job);
        job.rare_mut().last_sign = Some(Time(1));
        assert!(Packed::of(&job).is_none());
        assert_eq!(Packed::shard(job.key()), job.shard);
    }
}
