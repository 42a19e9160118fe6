//! One batch of specs: read whole, submitted at once, answered item by item.

use super::jobs::refused;
use crate::call::Call;
use crate::gate::Gate;
use crate::wire::job::reference;
use crate::wire::put::{self, Put};
use crate::wire::spec::SpecReader;
use coretex_contract::v1 as pb;
use coretex_domain::{Reason, Refusal};
use coretex_engine::api::{Accepted, Ask, FollowAs};
use std::sync::Arc;
use std::time::Duration;

/// Waits between tries while the server is overloaded; they double from the first to the last.
const OVERLOAD_WAIT_FIRST: Duration = Duration::from_millis(2);
const OVERLOAD_WAIT_MAX: Duration = Duration::from_secs(4);
/// Field of `SubmitJobStreamResponse`.
const RESULTS: u32 = 2;

/// A batch, read: what is asked, and what is refused already.
pub(crate) struct Batch {
    pub(super) asks: Vec<Ask>,
    /// By index: `None` stands for the next ask.
    slots: Option<Vec<Option<Refusal>>>,
    /// Warnings by index, few.
    warnings: Vec<(usize, Vec<pb::Warning>)>,
}

impl Batch {
    pub(crate) fn read(gate: &Gate, call: &Call, reader: &mut SpecReader, specs: Vec<pb::JobSpec>) -> Batch {
        let count = specs.len();
        let frame: usize = specs.iter().map(payload_len).sum();
        let mut batch = Batch { asks: Vec::with_capacity(count), slots: None, warnings: Vec::new() };
        let mut paused: Option<(Arc<str>, Option<pb::Warning>)> = None;
        for (index, spec) in specs.into_iter().enumerate() {
            match reader.read(Some(spec), frame) {
                Ok((ask, mut warnings)) => {
                    if paused.as_ref().is_none_or(|(topic, _)| *topic != ask.spec.topic) {
                        let warning = gate.paused_warning(&call.namespace, &ask.spec.topic);
                        paused = Some((ask.spec.topic.clone(), warning));
                    }
                    warnings.extend(paused.iter().filter_map(|(_, warning)| warning.clone()));
                    if !warnings.is_empty() {
                        batch.warnings.push((index, warnings));
                    }
                    batch.asks.push(ask);
                    if let Some(slots) = &mut batch.slots {
                        slots.push(None);
                    }
                }
                Err(refusal) => batch.slots.get_or_insert_with(|| vec![None; index]).push(Some(refusal)),
            }
        }
        batch
    }

    /// Submits what is left of it; results are by index of the batch as it came.
    pub(crate) async fn submit(
        mut self,
        gate: &Gate,
        call: &Call,
        request_id: &str,
    ) -> Result<Vec<Outcome>, Refusal> {
        let asks = std::mem::take(&mut self.asks);
        let answers = match asks.is_empty() {
            true => Vec::new(),
            false => gate.engine.submit(&call.caller(), asks, request_id, None).await?,
        };
        Ok(self.outcomes(answers))
    }

    /// As `submit`, but waits while the server has too much to do: a stream feels that as flow control. What is
    /// refused as a whole is refused for each item, and the stream goes on.
    pub(super) async fn submit_patiently(
        mut self,
        gate: &Gate,
        call: &Call,
        request_id: &str,
        follow: Option<FollowAs>,
    ) -> Vec<Outcome> {
        let asks = std::mem::take(&mut self.asks);
        let count = asks.len();
        if count == 0 {
            return self.outcomes(Vec::new());
        }
        let caller = call.caller();
        let mut wait = OVERLOAD_WAIT_FIRST;
        loop {
            let refusal = match gate.engine.submit(&caller, asks.clone(), request_id, follow.clone()).await {
                Ok(answers) => return self.outcomes(answers),
                Err(refusal) => refusal,
            };
            if refusal.reason != Reason::Overloaded || wait > OVERLOAD_WAIT_MAX {
                return self.outcomes(vec![Err(refusal); count]);
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    fn outcomes(self, answers: Vec<Result<Accepted, Refusal>>) -> Vec<Outcome> {
        let plain = |answer| Outcome { answer, warnings: Vec::new() };
        let mut outcomes: Vec<Outcome> = match self.slots {
            None => answers.into_iter().map(plain).collect(),
            Some(slots) => {
                let mut answers = answers.into_iter();
                let missing = || Err(Refusal::new(Reason::OutcomeUnknown, "no answer for this job"));
                let fill = |slot: Option<Refusal>| match slot {
                    Some(refusal) => plain(Err(refusal)),
                    None => plain(answers.next().unwrap_or_else(missing)),
                };
                slots.into_iter().map(fill).collect()
            }
        };
        for (index, warnings) in self.warnings {
            if let Some(outcome) = outcomes.get_mut(index) {
                outcome.warnings = warnings;
            }
        }
        outcomes
    }

    /// Index in the batch of each ask.
    pub(super) fn indexes(&self) -> Option<Vec<u32>> {
        let slots = self.slots.as_ref()?;
        Some((0u32..).zip(slots).filter(|(_, slot)| slot.is_none()).map(|(index, _)| index).collect())
    }
}

fn payload_len(spec: &pb::JobSpec) -> usize {
    match spec.payload.as_ref().and_then(|p| p.body.as_ref()) {
        Some(pb::payload::Body::Data(data)) => data.len(),
        Some(pb::payload::Body::Json(_)) | None => 0,
    }
}

/// What became of one spec.
pub(crate) struct Outcome {
    pub(super) answer: Result<Accepted, Refusal>,
    warnings: Vec<pb::Warning>,
}

impl Outcome {
    pub(crate) fn write(self, call: &Call) -> pb::SubmitResult {
        match self.answer {
            Ok(accepted) => pb::SubmitResult {
                outcome: Some(pb::submit_result::Outcome::Job(reference(&accepted.job))),
                existing: accepted.existing,
                warnings: self.warnings,
            },
            Err(refusal) => pb::SubmitResult { warnings: self.warnings, ..refused(&refusal, call) },
        }
    }

    pub(super) fn put(self, into: &mut Put, call: &Call) {
        match &self.answer {
            Ok(done) => put::accepted(into, RESULTS, &done.job, done.existing, &self.warnings),
            Err(_) => into.message(RESULTS, &self.write(call)),
        }
    }
}
