//! `EventService`: what happens, as it happens.

use super::Replies;
use super::jobs::end_with;
use super::list::filter;
use super::watch::{SILENCE_MAX, next_batch, stream_end};
use crate::call::{Answer, Call};
use crate::gate::Gate;
use crate::tokens::Bound;
use crate::wire::event;
use coretex_contract::v1 as pb;
use coretex_domain::filter::{Field, Filter, Found, Kind, Row, Schema, optional};
use coretex_domain::{Reason, Refusal, Time};
use coretex_engine::EventStream;
use futures::stream;
use std::collections::VecDeque;
use std::sync::Arc;
use tonic::Request;

const TYPES: [&str; 22] = [
    "SUBMITTED",
    "ADMITTED",
    "DENIED",
    "DEFERRED",
    "DISPATCHED",
    "STARTED",
    "RELEASED",
    "RETURNED",
    "SUCCEEDED",
    "FAILED",
    "TIMED_OUT",
    "RETRY_SCHEDULED",
    "RETRY_DUE",
    "EXPIRED",
    "CANCEL_REQUESTED",
    "CANCELLED",
    "WORKER_LOST",
    "ANNOTATED",
    "APPROVAL_REQUESTED",
    "APPROVED",
    "REJECTED",
    "REJUDGED",
];
const STATES: [&str; 12] = [
    "PENDING",
    "AWAITING_APPROVAL",
    "SCHEDULED",
    "DISPATCHED",
    "RUNNING",
    "RETRYING",
    "SUCCEEDED",
    "FAILED",
    "TIMED_OUT",
    "CANCELLED",
    "DENIED",
    "EXPIRED",
];
const FIELDS: Schema = &[
    Field { name: "type", kind: Kind::Word(&TYPES) },
    Field { name: "topic", kind: Kind::Text },
    Field { name: "job_id", kind: Kind::Text },
    Field { name: "run_id", kind: Kind::Text },
    Field { name: "worker_id", kind: Kind::Text },
    Field { name: "actor", kind: Kind::Text },
    Field { name: "from_state", kind: Kind::Word(&STATES) },
    Field { name: "to_state", kind: Kind::Word(&STATES) },
    Field { name: "attempt", kind: Kind::Number },
    Field { name: "shard", kind: Kind::Number },
    Field { name: "time", kind: Kind::Time },
    Field { name: "labels", kind: Kind::Map },
];

#[derive(Clone)]
pub(crate) struct Events(pub(crate) Arc<Gate>);

/// An event as a filter sees it.
struct Seen<'a> {
    event: &'a pb::Event,
    labels: &'a [(Arc<str>, Arc<str>)],
    time: Time,
}

impl Row for Seen<'_> {
    fn field(&self, name: &'static str, key: &str) -> Found<'_> {
        let event = self.event;
        let state = |state: pb::JobState| match state {
            pb::JobState::Unspecified => Found::Unset,
            state => optional(Some(state.short_name())),
        };
        match name {
            "type" => optional(Some(event.r#type().short_name())),
            "topic" => optional(Some(&event.topic)),
            "job_id" => optional(Some(&event.job_id)),
            "run_id" => optional(Some(&event.run_id)),
            "worker_id" => optional(Some(&event.worker_id)),
            "actor" => optional(Some(&event.actor)),
            "from_state" => state(event.from_state()),
            "to_state" => state(event.to_state()),
            "attempt" => Found::Number(event.attempt.into()),
            "shard" => Found::Number(event.shard.into()),
            "time" => Found::Time(self.time),
            "labels" => {
                optional(self.labels.iter().find(|(k, _)| k.as_ref() == key).map(|(_, v)| v.as_ref()))
            }
            _ => Found::Unset,
        }
    }
}

struct Watch {
    gate: Arc<Gate>,
    call: Arc<Call>,
    filter: Filter,
    bound: Bound,
    events: EventStream,
    seen: Box<[u64; 256]>,
    ready: VecDeque<pb::WatchEventsResponse>,
    has_ended: bool,
    _place: crate::gate::WatchPlace,
}

fn open(
    gate: Arc<Gate>,
    call: Arc<Call>,
    request: &pb::WatchEventsRequest,
) -> Result<Replies<pb::WatchEventsResponse>, Refusal> {
    let filter = filter(FIELDS, &request.filter)?;
    let bound = Bound::new("WatchEvents", call.namespace.as_str(), filter.hash(), "");
    let newest = gate.engine.sequences();
    let resumed = gate.tokens.open_position(&bound, &request.resume_token, &newest)?;
    let start = if request.from_beginning { Box::new([0; 256]) } else { newest };
    let seen = resumed.unwrap_or(start);
    let watch = Watch {
        events: gate.engine.watch(Some(seen.clone())),
        _place: gate.watch_place(&call.namespace)?,
        ready: VecDeque::new(),
        has_ended: false,
        gate,
        call,
        filter,
        bound,
        seen,
    };
    Ok(Box::pin(stream::unfold(watch, |mut watch| async move {
        let message = watch.next().await?;
        let message = message.or_else(|refusal| end_with(&refusal, &watch.call));
        Some((message, watch))
    })))
}

impl Watch {
    async fn next(&mut self) -> Option<Result<pb::WatchEventsResponse, Refusal>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(Ok(message));
            }
            if self.has_ended {
                return None;
            }
            if let Err(refusal) = self.read().await {
                self.has_ended = true;
                return Some(Err(refusal));
            }
        }
    }

    async fn read(&mut self) -> Result<(), Refusal> {
        let next = next_batch(&self.gate, &mut self.events);
        let batch = match tokio::time::timeout(SILENCE_MAX, next).await {
            Err(_silence) => {
                let resume_token = self.gate.tokens.seal_position(&self.bound, &self.seen);
                self.ready.push_back(pb::WatchEventsResponse { event: None, resume_token });
                return Ok(());
            }
            Ok(None) => {
                return Err(Refusal::new(
                    Reason::ShuttingDown,
                    "the server goes down; resume with the last token",
                ));
            }
            Ok(Some(batch)) => batch.map_err(|refusal| stream_end(&self.gate, &self.bound, refusal))?,
        };
        for row in batch.iter() {
            if let Some(slot) = self.seen.get_mut(usize::from(row.shard.0)) {
                *slot = (*slot).max(row.entry.seq);
            }
            if row.namespace != self.call.namespace {
                continue;
            }
            let event = event::event(row);
            let seen = Seen { event: &event, labels: &row.labels, time: row.entry.time };
            if self.filter.matches_row(&seen) {
                let resume_token = self.gate.tokens.seal_position(&self.bound, &self.seen);
                self.ready.push_back(pb::WatchEventsResponse { event: Some(event), resume_token });
            }
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl pb::event_service_server::EventService for Events {
    type WatchEventsStream = Replies<pb::WatchEventsResponse>;

    async fn watch_events(
        &self,
        request: Request<pb::WatchEventsRequest>,
    ) -> Answer<Self::WatchEventsStream> {
        let call = Call::of(&request);
        call.answer(open(self.0.clone(), call.clone(), request.get_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::time::timestamp;

    #[test]
    fn words_of_the_filter_are_those_of_the_contract() {
        for name in TYPES {
            assert!(pb::JobEventType::from_short_name(name).is_some(), "{name}");
        }
        let types = (1..100).filter(|n| pb::JobEventType::try_from(*n).is_ok()).count();
        assert_eq!(types, TYPES.len());
        for name in STATES {
            assert!(pb::JobState::from_short_name(name).is_some(), "{name}");
        }
    }

    #[test]
    fn events_are_filtered_by_what_they_say() {
        let event = pb::Event {
            r#type: pb::JobEventType::Started.into(),
            topic: "job.mail".into(),
            attempt: 2,
            to_state: pb::JobState::Running.into(),
            time: Some(timestamp(Time(5_000))),
            ..pb::Event::default()
        };
        let seen = Seen { event: &event, labels: &[], time: Time(5_000) };
        let accepts = |text| filter(FIELDS, text).expect(text).matches_row(&seen);
        assert!(accepts("type = STARTED AND topic = job.mail AND attempt >= 2 AND to_state = RUNNING"));
        assert!(accepts("from_state = \"\" AND time > \"1970-01-01T00:00:04Z\""));
        assert!(!accepts("type IN (FAILED, SUCCEEDED)"));
        assert!(filter(FIELDS, "state = FAILED").is_err());
    }
}
