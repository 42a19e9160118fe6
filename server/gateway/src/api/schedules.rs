//! `ScheduleService`: what is started by itself, and when.

use super::jobs::check_request_id;
use super::topics::once_in;
use crate::call::{Answer, Call};
use crate::gate::Gate;
use crate::wire::spec::SpecReader;
use crate::wire::time::instant;
use crate::wire::{Faults, schedule as wire};
use coretex_contract::v1 as pb;
use coretex_domain::Refusal;
use coretex_domain::limits::REASON_LEN_MAX;
use coretex_engine::{ApplySchedule, ScheduleInfo};
use coretex_schedule::{Target, check_schedule_id};
use std::sync::Arc;
use tonic::Request;

mod read;

#[derive(Clone)]
pub(crate) struct Schedules(pub(crate) Arc<Gate>);

fn id_of(faults: &mut Faults, text: &str) -> Arc<str> {
    match text {
        "" => faults.add("schedule_id", "required"),
        text => faults.check("schedule_id", check_schedule_id(text)),
    }
    text.into()
}

/// Reads what every change says: the schedule, and the name of the call.
fn asked(schedule_id: &str, request_id: &str, mut faults: Faults) -> Result<Arc<str>, Refusal> {
    let id = id_of(&mut faults, schedule_id);
    if let Err(refusal) = check_request_id(request_id) {
        refusal.violations.into_iter().for_each(|v| faults.add(v.field, v.message));
    }
    faults.into_result()?;
    Ok(id)
}

/// Without its input.
fn shown(info: &ScheduleInfo) -> Option<pb::Schedule> {
    Some(wire::write(info, pb::View::Basic, None))
}

impl Schedules {
    async fn apply(
        &self,
        call: &Call,
        request: pb::ApplyScheduleRequest,
    ) -> Result<pb::ApplyScheduleResponse, Refusal> {
        let once = once_in(&call.namespace, "ApplySchedule", &request.request_id, &request);
        let mut faults = Faults::default();
        let payload_max = self.0.settings.payload_max;
        // Each start has a trace of its own: that of this call is not theirs.
        let mut reader = SpecReader::new(self.0.now(), payload_max, None);
        let read = wire::definition(&mut reader, payload_max, request.spec);
        if let Err(refusal) = &read {
            for violation in &refusal.violations {
                faults.add_as(refusal.reason, violation.field.clone(), violation.message.clone());
            }
        }
        let id = asked(&request.schedule_id, &request.request_id, faults)?;
        let (definition, mut warnings) = read?;
        if let Target::Job(spec) = &definition.target {
            self.0.learn_paused(&call.namespace).await;
            let paused = self.0.paused_warning(&call.namespace, &spec.topic);
            warnings.extend(paused.map(|one| pb::Warning { field: "spec.job.topic".into(), ..one }));
        }
        let apply = ApplySchedule { id, definition, revision: request.revision };
        let (info, created) = self.0.engine.apply_schedule(&call.caller(), apply, once).await?;
        Ok(pb::ApplyScheduleResponse { schedule: shown(&info), created, warnings })
    }

    async fn pause(
        &self,
        call: &Call,
        request: pb::PauseScheduleRequest,
    ) -> Result<pb::PauseScheduleResponse, Refusal> {
        let once = once_in(&call.namespace, "PauseSchedule", &request.request_id, &request);
        let mut faults = Faults::default();
        faults.text("reason", &request.reason, REASON_LEN_MAX);
        let id = asked(&request.schedule_id, &request.request_id, faults)?;
        let paused = self.0.engine.pause_schedule(&call.caller(), id, request.reason.into(), once).await?;
        Ok(pb::PauseScheduleResponse { schedule: shown(&paused) })
    }

    async fn resume(
        &self,
        call: &Call,
        request: pb::ResumeScheduleRequest,
    ) -> Result<pb::ResumeScheduleResponse, Refusal> {
        let once = once_in(&call.namespace, "ResumeSchedule", &request.request_id, &request);
        let id = asked(&request.schedule_id, &request.request_id, Faults::default())?;
        let resumed = self.0.engine.resume_schedule(&call.caller(), id, once).await?;
        Ok(pb::ResumeScheduleResponse { schedule: shown(&resumed) })
    }

    async fn trigger(
        &self,
        call: &Call,
        request: pb::TriggerScheduleRequest,
    ) -> Result<pb::TriggerScheduleResponse, Refusal> {
        let once = once_in(&call.namespace, "TriggerSchedule", &request.request_id, &request);
        let id = asked(&request.schedule_id, &request.request_id, Faults::default())?;
        let fire = self.0.engine.trigger_schedule(&call.caller(), id, once).await?;
        Ok(pb::TriggerScheduleResponse { fire: Some(wire::fire(&fire)) })
    }

    async fn delete(
        &self,
        call: &Call,
        request: pb::DeleteScheduleRequest,
    ) -> Result<pb::DeleteScheduleResponse, Refusal> {
        let once = once_in(&call.namespace, "DeleteSchedule", &request.request_id, &request);
        let id = asked(&request.schedule_id, &request.request_id, Faults::default())?;
        let (namespace, revision) = (&call.namespace, request.revision);
        let deleted = self.0.engine.delete_schedule(namespace, id, revision, once).await?;
        Ok(pb::DeleteScheduleResponse { deleted })
    }

    async fn backfill(
        &self,
        call: &Call,
        request: pb::BackfillScheduleRequest,
    ) -> Result<pb::BackfillScheduleResponse, Refusal> {
        let once = once_in(&call.namespace, "BackfillSchedule", &request.request_id, &request);
        let mut faults = Faults::default();
        let from = instant(&mut faults, "from_time", request.from_time, self.0.now());
        if request.from_time.is_none() {
            faults.add("from_time", "required");
        }
        let to = instant(&mut faults, "to_time", request.to_time, self.0.now());
        let id = asked(&request.schedule_id, &request.request_id, faults)?;
        let stretch = (from.unwrap_or_default(), to);
        let engine = &self.0.engine;
        let found = engine.backfill_schedule(&call.caller(), id, stretch, request.sequential, once).await?;
        Ok(pb::BackfillScheduleResponse {
            count: i32::try_from(found.count).unwrap_or(i32::MAX),
            first_time: found.first.map(crate::wire::time::timestamp),
            last_time: found.last.map(crate::wire::time::timestamp),
        })
    }
}

#[tonic::async_trait]
impl pb::schedule_service_server::ScheduleService for Schedules {
    async fn apply_schedule(
        &self,
        request: Request<pb::ApplyScheduleRequest>,
    ) -> Answer<pb::ApplyScheduleResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().schedule_id);
        call.answer(self.apply(&call, request.into_inner()).await)
    }

    async fn get_schedule(
        &self,
        request: Request<pb::GetScheduleRequest>,
    ) -> Answer<pb::GetScheduleResponse> {
        let call = Call::of(&request);
        call.answer(self.get(&call, request.get_ref()))
    }

    async fn list_schedules(
        &self,
        request: Request<pb::ListSchedulesRequest>,
    ) -> Answer<pb::ListSchedulesResponse> {
        let call = Call::of(&request);
        call.answer(self.list(&call, request.get_ref()))
    }

    async fn pause_schedule(
        &self,
        request: Request<pb::PauseScheduleRequest>,
    ) -> Answer<pb::PauseScheduleResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().schedule_id);
        call.answer(self.pause(&call, request.into_inner()).await)
    }

    async fn resume_schedule(
        &self,
        request: Request<pb::ResumeScheduleRequest>,
    ) -> Answer<pb::ResumeScheduleResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().schedule_id);
        call.answer(self.resume(&call, request.into_inner()).await)
    }

    async fn trigger_schedule(
        &self,
        request: Request<pb::TriggerScheduleRequest>,
    ) -> Answer<pb::TriggerScheduleResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().schedule_id);
        call.answer(self.trigger(&call, request.into_inner()).await)
    }

    async fn preview_schedule(
        &self,
        request: Request<pb::PreviewScheduleRequest>,
    ) -> Answer<pb::PreviewScheduleResponse> {
        let call = Call::of(&request);
        call.answer(self.preview(&call, request.into_inner()))
    }

    async fn delete_schedule(
        &self,
        request: Request<pb::DeleteScheduleRequest>,
    ) -> Answer<pb::DeleteScheduleResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().schedule_id);
        call.answer(self.delete(&call, request.into_inner()).await)
    }

    async fn backfill_schedule(
        &self,
        request: Request<pb::BackfillScheduleRequest>,
    ) -> Answer<pb::BackfillScheduleResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().schedule_id);
        call.answer(self.backfill(&call, request.into_inner()).await)
    }

    async fn list_schedule_fires(
        &self,
        request: Request<pb::ListScheduleFiresRequest>,
    ) -> Answer<pb::ListScheduleFiresResponse> {
        let call = Call::of(&request);
        call.answer(self.fires(&call, request.into_inner()).await)
    }
}
