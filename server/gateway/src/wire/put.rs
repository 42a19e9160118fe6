//! Protobuf written by hand, for the few messages that are written a million times a second. Fields that hold their
//! default are left out, as prost does; tests compare the two.

use super::job::{reference, state};
use bytes::Bytes;
use coretex_contract::v1 as pb;
use coretex_domain::payload::Payload;
use coretex_domain::policy::Verdict;
use coretex_domain::{Job, Span, Time};
use coretex_engine::api::Assignment;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use std::fmt::Display;
use std::io::Write as _;

/// A message under construction.
#[derive(Default)]
pub(crate) struct Put {
    out: Vec<u8>,
}

impl Put {
    pub(crate) fn with_capacity(bytes: usize) -> Put {
        Put { out: Vec::with_capacity(bytes) }
    }

    pub(crate) fn finish(self) -> Bytes {
        self.out.into()
    }

    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            encode_key(field, WireType::Varint, &mut self.out);
            encode_varint(value, &mut self.out);
        }
    }

    pub(crate) fn bytes(&mut self, field: u32, value: &[u8]) {
        if !value.is_empty() {
            encode_key(field, WireType::LengthDelimited, &mut self.out);
            encode_varint(value.len() as u64, &mut self.out);
            self.out.extend_from_slice(value);
        }
    }

    /// A text that is never empty.
    fn shown(&mut self, field: u32, value: &dyn Display) {
        self.nested(field, |put| {
            // Writing to a vector does not fail.
            let _ = write!(put.out, "{value}");
        });
    }

    /// A message within, present even when it is empty.
    pub(crate) fn nested(&mut self, field: u32, write: impl FnOnce(&mut Put)) {
        encode_key(field, WireType::LengthDelimited, &mut self.out);
        // Most are short: one byte of length is set aside, and the rest is moved when that does not do.
        let at = self.out.len();
        self.out.push(0);
        write(self);
        let len = self.out.len() - at - 1;
        let width = encoded_len_varint(len as u64);
        if width > 1 {
            self.out.resize(self.out.len() + width - 1, 0);
            self.out.copy_within(at + 1..at + 1 + len, at + width);
        }
        let mut length = &mut self.out[at..at + width];
        encode_varint(len as u64, &mut length);
    }

    /// A message of prost as a field.
    pub(crate) fn message(&mut self, field: u32, message: &impl Message) {
        encode_key(field, WireType::LengthDelimited, &mut self.out);
        // A vector grows as it must: there is always room.
        let _ = message.encode_length_delimited(&mut self.out);
    }

    /// Fields of a message of prost among ours.
    fn rest(&mut self, message: &impl Message) {
        let _ = message.encode(&mut self.out);
    }

    fn time(&mut self, field: u32, time: Time) {
        self.nested(field, |put| {
            put.number(1, time.0 / 1_000);
            put.number(2, (time.0 % 1_000) * 1_000_000);
        });
    }

    fn span(&mut self, field: u32, span: Span) {
        self.time(field, Time(span.0));
    }

    fn payload(&mut self, field: u32, payload: &Payload) {
        if payload.is_empty() {
            return;
        }
        encode_key(field, WireType::LengthDelimited, &mut self.out);
        let kind = payload.content_type.name();
        let data = payload.data.len();
        let text_len =
            if kind.is_empty() { 0 } else { 1 + encoded_len_varint(kind.len() as u64) + kind.len() };
        encode_varint((1 + encoded_len_varint(data as u64) + data + text_len) as u64, &mut self.out);
        // `data` is one of a choice: it is there even when it is empty.
        encode_key(1, WireType::LengthDelimited, &mut self.out);
        encode_varint(data as u64, &mut self.out);
        self.out.extend_from_slice(&payload.data);
        self.bytes(3, kind.as_bytes());
    }
}

// === the messages ===

/// `SubmitResult` of a job that was made or met.
pub(crate) fn accepted(put: &mut Put, field: u32, job: &Job, existing: bool, warnings: &[pb::Warning]) {
    put.nested(field, |put| {
        if job.decision.as_ref().is_some_and(|d| d.verdict != Verdict::Allow) {
            put.message(1, &reference(job));
        } else {
            put.nested(1, |put| {
                put.shown(1, &job.id);
                put.number(4, state_number(job));
                put.time(6, job.create_time);
            });
        }
        put.number(3, existing.into());
        warnings.iter().for_each(|warning| put.message(4, warning));
    });
}

/// `JobCompletion`.
pub(crate) fn completion(put: &mut Put, field: u32, sequence: u64, index: u32, job: &Job) {
    put.nested(field, |put| {
        put.number(1, sequence);
        put.number(2, index.into());
        put.shown(3, &job.id);
        put.number(4, state_number(job));
        if let Some(result) = &job.result {
            put.payload(5, result);
        }
        if let Some(failure) = job.failure() {
            put.message(6, &super::job::failure(failure, pb::View::Full));
        }
    });
}

fn state_number(job: &Job) -> u64 {
    u64::try_from(i32::from(state(job.state.kind()))).unwrap_or_default()
}

/// `Assignment`: what every one has by hand, what few have through prost.
pub(crate) fn assignment(put: &mut Put, field: u32, a: &Assignment, now: Time) {
    let job = &a.job;
    put.nested(field, |put| {
        put.number(1, a.lease_id);
        put.bytes(2, &a.token);
        put.nested(3, |put| {
            put.shown(1, &job.id);
            put.bytes(2, job.spec.topic.as_bytes());
        });
        put.bytes(4, a.lane_id.as_bytes());
        put.number(5, 1);
        put.number(6, job.attempt().into());
        put.number(7, (job.counters.deliveries + 1).into());
        put.number(8, a.max_attempts.into());
        put.payload(9, &job.spec.payload);
        put.number(11, job.spec.priority.into());
        put.time(12, job.create_time);
        encode_key(19, WireType::SixtyFourBit, &mut put.out);
        put.out.extend_from_slice(&super::assign::seed(job).to_le_bytes());
        put.bytes(20, job.idempotency_token().as_bytes());
        put.time(22, job.ready_time());
        put.span(24, a.start_to_close);
        if let Some(stall) = a.stall {
            put.span(25, stall);
        }
        if let Some(rare) = super::assign::rare(a, now) {
            put.rest(&rare);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::payload;
    use crate::wire::time::timestamp;
    use coretex_domain::job::{Entry, Event, Lease, Spec};
    use coretex_domain::{JobId, Namespace, SessionId, ShardId};
    use std::sync::Arc;

    fn job(id: JobId, data: usize, with_options: bool) -> Job {
        let mut spec = Spec::new("job.echo", Payload::json(vec![b'1'; data]));
        if with_options {
            let options = spec.options_mut();
            options.labels = vec![("team".into(), "a".into())];
            options.parent_job_id = Some("parent-1".into());
            options.timeouts.total = Some(Span::secs(60));
            options.trace_id = Some("0af7651916cd43dd8448eb211c80319c".into());
            options.concurrency_key = Some("k".into());
            options.budget.max_tokens = Some(5);
        }
        let mut job =
            Job::submitted(id, Namespace::new("default"), Arc::new(spec), 1, Time(1_767_225_600_123), None);
        let lease =
            Lease { serial: 1, id: 7, session: SessionId(1), worker_id: "w".into(), lane_id: "main".into() };
        let place = 1_767_225_600_125 << coretex_domain::job::PLACE_ORDER_BITS;
        for (seq, event) in [(2, Event::Admitted { place }), (3, Event::Dispatched(Box::new(lease)))] {
            job.apply(Entry { seq, time: Time(1_767_225_600_130), event }).expect("legal");
        }
        if with_options {
            job.rare_mut().checkpoint = Some(Payload::json("{}"));
        }
        job
    }

    fn ids() -> [JobId; 2] {
        [JobId::make(1_767_225_600_123, 77 << 8, ShardId(3)), JobId::Named("order-1".into())]
    }

    #[test]
    fn results_read_as_those_of_prost() {
        for id in ids() {
            for existing in [false, true] {
                let job = job(id.clone(), 3, false);
                let warnings = vec![pb::Warning { reason: "X".into(), ..Default::default() }];
                let mut put = Put::default();
                accepted(&mut put, 2, &job, existing, &warnings);
                let read = pb::SubmitJobStreamResponse::decode(put.finish()).expect("decodes");
                let outcome = Some(pb::submit_result::Outcome::Job(reference(&job)));
                assert_eq!(read.results, [pb::SubmitResult { outcome, existing, warnings }]);
            }
        }
    }

    #[test]
    fn completions_read_as_those_of_prost() {
        for (id, len) in ids().into_iter().zip([0, 70_000]) {
            let mut job = job(id, 3, false);
            job.result = Some(Payload::json(vec![b'2'; len]));
            let mut put = Put::default();
            completion(&mut put, 3, 9, 300, &job);
            let read = pb::SubmitJobStreamResponse::decode(put.finish()).expect("decodes");
            let wanted = pb::JobCompletion {
                sequence: 9,
                index: 300,
                job_id: job.id.to_string(),
                state: pb::JobState::Dispatched.into(),
                result: job.result.as_ref().and_then(|r| payload::write(r, pb::PayloadFormat::Data)),
                failure: None,
            };
            assert_eq!(read.completions, [wanted]);
        }
    }

    #[test]
    fn assignments_read_as_those_of_prost() {
        for (id, len) in ids().into_iter().zip([3, 70_000]) {
            for with_options in [false, true] {
                let assigned = Assignment {
                    lease_id: 7,
                    token: Bytes::from_static(b"token"),
                    lane_id: "main".into(),
                    job: Arc::new(job(id.clone(), len, with_options)),
                    max_attempts: 3,
                    start_to_close: Span(1_500),
                    stall: with_options.then_some(Span::secs(5)),
                    secret_refs: if with_options { vec!["DB".into()] } else { Vec::new() },
                };
                let now = Time(1_767_225_601_000);
                let mut put = Put::default();
                assignment(&mut put, 2, &assigned, now);
                let read = pb::Assign::decode(put.finish()).expect("decodes");
                assert_eq!(read.assignments, [super::super::assign::assignment(&assigned, now)]);
                let written = &read.assignments[0];
                assert_eq!((written.attempt, written.max_attempts, written.priority), (1, 3, 4));
                assert_eq!(written.submitted_at, Some(timestamp(Time(1_767_225_600_123))));
                assert_eq!(written.secret_refs.len(), usize::from(with_options));
                assert_eq!(written.labels.len(), usize::from(with_options));
                assert_eq!(written.deadline.is_some(), with_options);
                assert_eq!(written.last_checkpoint.is_some(), with_options);
            }
        }
    }
}
