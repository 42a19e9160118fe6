//! Looking at schedules: what there is, what comes, and what became of what came.

use super::super::list::{self, Named, bound, filter, order, page_size, view};
use super::{Schedules, id_of};
use crate::call::Call;
use crate::tokens::Bound;
use crate::wire::job::PAGE_BYTES_AIM;
use crate::wire::time::instant;
use crate::wire::{Faults, schedule as wire};
use coretex_contract::v1 as pb;
use coretex_domain::Refusal;
use coretex_domain::filter::{Field, Found, Kind, Row, Schema, optional};
use coretex_engine::{FireQuery, ScheduleInfo};
use coretex_schedule::limits::{PREVIEW_DEFAULT, PREVIEW_MAX};
use coretex_schedule::{Cause, Fire, Outcome, Target, check_schedule_id, seed};
use prost::Message;
use std::sync::Arc;

const FIELDS: Schema = &[
    Field { name: "schedule_id", kind: Kind::Text },
    Field { name: "paused", kind: Kind::Word(&["true", "false"]) },
    Field { name: "topic", kind: Kind::Text },
    Field { name: "workflow", kind: Kind::Text },
    Field { name: "creator", kind: Kind::Text },
];
const ORDERS: [&str; 2] = ["schedule_id asc", "schedule_id desc"];
const FIRE_FIELDS: Schema = &[
    Field { name: "outcome", kind: Kind::Word(&["STARTED", "SKIPPED", "FAILED"]) },
    Field { name: "cause", kind: Kind::Word(&["TIME", "CATCH_UP", "TRIGGER", "BACKFILL"]) },
    Field { name: "reason", kind: Kind::Text },
    Field { name: "target_id", kind: Kind::Text },
    Field { name: "nominal_time", kind: Kind::Time },
];
const FIRE_ORDERS: [&str; 2] = ["nominal_time desc", "nominal_time asc"];
/// Any schedule, where a path needs a word.
const ANY: &str = "-";
/// Jitter of what is not applied yet is drawn as for a schedule of this name.
const UNAPPLIED: &str = "preview";

struct ScheduleRow<'a>(&'a ScheduleInfo);

impl Row for ScheduleRow<'_> {
    fn field(&self, name: &'static str, _key: &str) -> Found<'_> {
        let schedule = &self.0.schedule;
        match (name, &schedule.definition.target) {
            ("schedule_id", _) => optional(Some(&schedule.id)),
            ("paused", _) => optional(Some(if self.0.state.pause.is_some() { "true" } else { "false" })),
            ("topic", Target::Job(spec)) => optional(Some(&spec.topic)),
            ("workflow", Target::Run { workflow, .. }) => optional(Some(workflow)),
            ("creator", _) => optional(Some(&schedule.creator)),
            _ => Found::Unset,
        }
    }
}

struct FireRow<'a>(&'a Fire);

impl Row for FireRow<'_> {
    fn field(&self, name: &'static str, _key: &str) -> Found<'_> {
        match name {
            "outcome" => optional(Some(match self.0.outcome {
                Outcome::Pending => "PENDING",
                Outcome::Started => "STARTED",
                Outcome::Skipped => "SKIPPED",
                Outcome::Failed => "FAILED",
            })),
            "cause" => optional(Some(match self.0.cause {
                Cause::Time => "TIME",
                Cause::CatchUp => "CATCH_UP",
                Cause::Trigger => "TRIGGER",
                Cause::Backfill => "BACKFILL",
            })),
            "reason" => optional(Some(&self.0.reason)),
            "target_id" => optional(Some(&self.0.target_id)),
            "nominal_time" => Found::Time(self.0.nominal),
            _ => Found::Unset,
        }
    }
}

impl Schedules {
    pub(super) fn get(
        &self,
        call: &Call,
        request: &pb::GetScheduleRequest,
    ) -> Result<pb::GetScheduleResponse, Refusal> {
        let mut faults = Faults::default();
        let id = id_of(&mut faults, &request.schedule_id);
        let format = pb::PayloadFormat::try_from(request.payload_format);
        if format.is_err() {
            faults.add("payload_format", format!("must be DATA or JSON, got {}", request.payload_format));
        }
        faults.into_result()?;
        let info = self.0.engine.schedule(&call.namespace, &id)?;
        let schedule = wire::write(&info, pb::View::Full, Some(format.unwrap_or_default()));
        Ok(pb::GetScheduleResponse { schedule: Some(schedule) })
    }

    pub(super) fn list(
        &self,
        call: &Call,
        request: &pb::ListSchedulesRequest,
    ) -> Result<pb::ListSchedulesResponse, Refusal> {
        let filter = filter(FIELDS, &request.filter)?;
        let page_size = page_size(request.page_size, list::DEFAULT)?;
        let order = order(&request.order_by, &ORDERS)?;
        let view = view(request.view, pb::View::Basic)?;
        let found = self.0.engine.schedules(&call.namespace).into_iter();
        let rows = found
            .filter(|info| filter.matches_row(&ScheduleRow(info)))
            .map(|info| (info.schedule.id.to_string(), info))
            .collect();
        let bound = bound("ListSchedules", call, &filter, order);
        let named = Named {
            rows,
            bound: bound.clone(),
            tokens: &self.0.tokens,
            descending: order.ends_with("desc"),
            page_size,
            page_token: &request.page_token,
        };
        let (page, mut next_page_token) = named.page()?;
        let format = (view == pb::View::Full).then_some(pb::PayloadFormat::Unspecified);
        let (mut schedules, mut bytes) = (Vec::new(), 0);
        for info in &page {
            let written = wire::write(info, view, format);
            bytes += written.encoded_len() + 8;
            if let Some(last) = schedules.last().filter(|_| bytes > PAGE_BYTES_AIM) {
                let last: &pb::Schedule = last;
                next_page_token = self.0.tokens.seal_name(&bound, &last.schedule_id);
                break;
            }
            schedules.push(written);
        }
        Ok(pb::ListSchedulesResponse { schedules, next_page_token })
    }

    pub(super) fn preview(
        &self,
        call: &Call,
        request: pb::PreviewScheduleRequest,
    ) -> Result<pb::PreviewScheduleResponse, Refusal> {
        let now = self.0.now();
        let mut faults = Faults::default();
        let count = match usize::try_from(request.count) {
            Ok(0) => PREVIEW_DEFAULT,
            Ok(count) if count <= PREVIEW_MAX => count,
            Ok(_) | Err(_) => {
                faults.add("count", format!("must be 0..={PREVIEW_MAX}, got {}", request.count));
                PREVIEW_DEFAULT
            }
        };
        let after = instant(&mut faults, "after_time", request.after_time, now).unwrap_or(now);
        let id = match &request.of {
            Some(pb::preview_schedule_request::Of::ScheduleId(id)) => Some(id_of(&mut faults, id)),
            Some(pb::preview_schedule_request::Of::Spec(_)) => None,
            None => {
                faults.add("schedule_id", "required: the id of a schedule, or a spec");
                None
            }
        };
        faults.into_result()?;
        let times = match (id, request.of) {
            (Some(id), _) => {
                let schedule = self.0.engine.schedule(&call.namespace, &id)?.schedule;
                wire::write_preview(&schedule.definition.rule, schedule.seed(), after, count)
            }
            (None, Some(pb::preview_schedule_request::Of::Spec(spec))) => {
                let seed = seed(&call.namespace, UNAPPLIED);
                wire::write_preview(&wire::rule(&spec, now)?, seed, after, count)
            }
            (None, _) => Vec::new(),
        };
        Ok(pb::PreviewScheduleResponse { times })
    }

    pub(super) async fn fires(
        &self,
        call: &Call,
        request: pb::ListScheduleFiresRequest,
    ) -> Result<pb::ListScheduleFiresResponse, Refusal> {
        let schedule_id: Option<Arc<str>> = match request.schedule_id.as_str() {
            "" | ANY => None,
            id => {
                check_schedule_id(id).map_err(|message| Refusal::field("schedule_id", message))?;
                Some(id.into())
            }
        };
        let filter = filter(FIRE_FIELDS, &request.filter)?;
        let page_size = page_size(request.page_size, list::DEFAULT)?;
        let order = order(&request.order_by, &FIRE_ORDERS)?;
        let about = format!("{order}\0{}", schedule_id.as_deref().unwrap_or_default());
        let bound = Bound::new("ListScheduleFires", call.namespace.as_str(), filter.hash(), &about);
        let after = self.0.tokens.open_row(&bound, &request.page_token)?;
        let query = FireQuery {
            namespace: call.namespace.clone(),
            schedule_id,
            accepts: Arc::new(move |fire| filter.matches_row(&FireRow(fire))),
            descending: order == FIRE_ORDERS[0],
            after,
            page_size,
        };
        let page = self.0.engine.list_fires(query).await?;
        let (mut fires, mut bytes, mut next) = (Vec::new(), 0, page.next);
        let mut last = None;
        for fire in &page.fires {
            let written = wire::fire(fire);
            bytes += written.encoded_len() + 8;
            if bytes > PAGE_BYTES_AIM && !fires.is_empty() {
                next = last;
                break;
            }
            fires.push(written);
            last = Some((fire.nominal, fire.name()));
        }
        let next_page_token = next.map(|key| self.0.tokens.seal_row(&bound, &key)).unwrap_or_default();
        Ok(pb::ListScheduleFiresResponse { fires, next_page_token })
    }
}
