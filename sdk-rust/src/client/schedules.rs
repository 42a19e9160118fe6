//! Calls about schedules.

use super::list::{ListRequest, Page, all_pages};
use super::{Client, request_id};
use crate::error::{Error, Result};
use crate::job::Warning;
use crate::names::View;
use crate::raw::{Raw, pb};
use crate::schedule::{AppliedSchedule, Backfill, PreviewedTime, Schedule, ScheduleFire, ScheduleSpec};
use crate::time::{of_stamp, stamp};
use futures::Stream;
use std::ops::Range;
use std::time::SystemTime;

impl Client {
    /// Makes a schedule, or changes it if it is at `revision` (0: whatever it is at).
    pub async fn apply_schedule(
        &self,
        id: impl Into<String>,
        spec: ScheduleSpec,
        revision: u64,
    ) -> Result<AppliedSchedule> {
        let spec = Some(spec.into_pb()?);
        let request =
            pb::ApplyScheduleRequest { schedule_id: id.into(), spec, revision, request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.schedules().apply_schedule(request).await };
        let reply = self.call(request, send).await?;
        let warnings = Warning::from_pb(reply.warnings);
        Ok(AppliedSchedule { schedule: found(reply.schedule)?, created: reply.created, warnings })
    }

    /// A schedule, how far it has come, and when it starts its target next.
    pub async fn get_schedule(&self, id: impl Into<String>) -> Result<Schedule> {
        let request = pb::GetScheduleRequest { schedule_id: id.into(), ..Default::default() };
        let send = |raw: Raw, request| async move { raw.schedules().get_schedule(request).await };
        found(self.call(request, send).await?.schedule)
    }

    /// A page of schedules, by id.
    pub async fn list_schedules(&self, request: impl Into<ListRequest>) -> Result<Page<Schedule>> {
        let ListRequest { filter, page_size, page_token, order_by, view } = request.into();
        let view = View::number(view);
        let request = pb::ListSchedulesRequest { filter, page_size, page_token, order_by, view };
        let send = |raw: Raw, request| async move { raw.schedules().list_schedules(request).await };
        let reply = self.call(request, send).await?;
        let items = reply.schedules.into_iter().map(Schedule::from_pb).collect();
        Ok(Page { items, next_page_token: reply.next_page_token })
    }

    /// All schedules of a list, page after page.
    pub fn list_all_schedules(
        &self,
        request: impl Into<ListRequest>,
    ) -> impl Stream<Item = Result<Schedule>> + Send + 'static {
        let client = self.clone();
        all_pages(request.into(), move |request| {
            let client = client.clone();
            async move { client.list_schedules(request).await }
        })
    }

    /// Starts nothing until the schedule is resumed.
    pub async fn pause_schedule(&self, id: impl Into<String>, reason: impl Into<String>) -> Result<Schedule> {
        let (schedule_id, reason) = (id.into(), reason.into());
        let request = pb::PauseScheduleRequest { schedule_id, reason, request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.schedules().pause_schedule(request).await };
        found(self.call(request, send).await?.schedule)
    }

    /// Goes on with the first time after now.
    pub async fn resume_schedule(&self, id: impl Into<String>) -> Result<Schedule> {
        let request = pb::ResumeScheduleRequest { schedule_id: id.into(), request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.schedules().resume_schedule(request).await };
        found(self.call(request, send).await?.schedule)
    }

    /// Starts the target once, now.
    pub async fn trigger_schedule(&self, id: impl Into<String>) -> Result<ScheduleFire> {
        let request = pb::TriggerScheduleRequest { schedule_id: id.into(), request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.schedules().trigger_schedule(request).await };
        let fire = self.call(request, send).await?.fire;
        fire.map(ScheduleFire::from_pb).ok_or_else(|| Error::unexpected("the reply has no fire"))
    }

    /// The next times of a schedule, 1 to 100 of them.
    pub async fn preview_schedule(&self, id: impl Into<String>, count: u8) -> Result<Vec<PreviewedTime>> {
        self.preview(pb::preview_schedule_request::Of::ScheduleId(id.into()), count).await
    }

    /// The next times of a spec that is not applied, 1 to 100 of them.
    pub async fn preview_spec(&self, spec: ScheduleSpec, count: u8) -> Result<Vec<PreviewedTime>> {
        self.preview(pb::preview_schedule_request::Of::Spec(spec.into_pb()?), count).await
    }

    async fn preview(&self, of: pb::preview_schedule_request::Of, count: u8) -> Result<Vec<PreviewedTime>> {
        let request = pb::PreviewScheduleRequest { of: Some(of), count: count.into(), ..Default::default() };
        let send = |raw: Raw, request| async move { raw.schedules().preview_schedule(request).await };
        Ok(self.call(request, send).await?.times.into_iter().map(PreviewedTime::from_pb).collect())
    }

    /// Takes a schedule away, if it is at `revision` (0: whatever it is at). Whether it was there.
    pub async fn delete_schedule(&self, id: impl Into<String>, revision: u64) -> Result<bool> {
        let request =
            pb::DeleteScheduleRequest { schedule_id: id.into(), revision, request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.schedules().delete_schedule(request).await };
        Ok(self.call(request, send).await?.deleted)
    }

    /// Starts the target for the nominal times of a stretch of the past that it was not started for: all at once, or one after the other.
    pub async fn backfill_schedule(
        &self,
        id: impl Into<String>,
        stretch: Range<SystemTime>,
        sequential: bool,
    ) -> Result<Backfill> {
        let request = pb::BackfillScheduleRequest {
            schedule_id: id.into(),
            from_time: Some(stamp(stretch.start)),
            to_time: Some(stamp(stretch.end)),
            sequential,
            request_id: request_id(),
        };
        let send = |raw: Raw, request| async move { raw.schedules().backfill_schedule(request).await };
        let reply = self.call(request, send).await?;
        let (first_time, last_time) = (of_stamp(reply.first_time), of_stamp(reply.last_time));
        Ok(Backfill { count: reply.count, first_time, last_time })
    }

    /// A page of what became of nominal times, the latest first unless asked otherwise. An empty id is every schedule.
    pub async fn list_schedule_fires(
        &self,
        id: impl Into<String>,
        request: impl Into<ListRequest>,
    ) -> Result<Page<ScheduleFire>> {
        let ListRequest { filter, page_size, page_token, order_by, view: _ } = request.into();
        let schedule_id = id.into();
        let request = pb::ListScheduleFiresRequest { schedule_id, filter, page_size, page_token, order_by };
        let send = |raw: Raw, request| async move { raw.schedules().list_schedule_fires(request).await };
        let reply = self.call(request, send).await?;
        let items = reply.fires.into_iter().map(ScheduleFire::from_pb).collect();
        Ok(Page { items, next_page_token: reply.next_page_token })
    }

    /// All fires of a list, page after page.
    pub fn list_all_schedule_fires(
        &self,
        id: impl Into<String>,
        request: impl Into<ListRequest>,
    ) -> impl Stream<Item = Result<ScheduleFire>> + Send + 'static {
        let (client, id) = (self.clone(), id.into());
        all_pages(request.into(), move |request| {
            let (client, id) = (client.clone(), id.clone());
            async move { client.list_schedule_fires(id, request).await }
        })
    }
}

fn found(schedule: Option<pb::Schedule>) -> Result<Schedule> {
    schedule.map(Schedule::from_pb).ok_or_else(|| Error::unexpected("the reply has no schedule"))
}
