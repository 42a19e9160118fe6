//! Looking at runs: one, pages of them, histories, explanations.

use super::{Runs, only_id};
use crate::api::list::{self, bound, filter, order, page_size};
use crate::api::lookup::look;
use crate::call::Call;
use crate::tokens::Bound;
use crate::wire::job::PAGE_BYTES_AIM;
use crate::wire::run as write;
use crate::wire::time::duration;
use coretex_contract::v1 as pb;
use coretex_domain::filter::{Field, Found, Kind, Row, Schema, optional};
use coretex_domain::run::RunState;
use coretex_domain::{Refusal, Run};
use coretex_engine::RunQuery;
use prost::Message;
use std::borrow::Cow;
use std::sync::Arc;

const STATES: [&str; RunState::ALL.len()] = {
    let mut names = [""; RunState::ALL.len()];
    let mut n = 0;
    while n < names.len() {
        names[n] = RunState::ALL[n].name();
        n += 1;
    }
    names
};
const FIELDS: Schema = &[
    Field { name: "state", kind: Kind::Word(&STATES) },
    Field { name: "workflow", kind: Kind::Text },
    Field { name: "version", kind: Kind::Number },
    Field { name: "run_id", kind: Kind::Text },
    Field { name: "labels", kind: Kind::Map },
    Field { name: "create_time", kind: Kind::Time },
    Field { name: "start_time", kind: Kind::Time },
    Field { name: "end_time", kind: Kind::Time },
    Field { name: "actor", kind: Kind::Text },
    Field { name: "error.type", kind: Kind::Text },
];
const ORDERS: [&str; 2] = ["create_time desc", "create_time asc"];

struct RunRow<'a>(&'a Run);

impl Row for RunRow<'_> {
    fn field(&self, name: &'static str, key: &str) -> Found<'_> {
        let run = self.0;
        let text = |text| Found::Text(Cow::Borrowed(text));
        let time = |time: Option<coretex_domain::Time>| time.map_or(Found::Unset, Found::Time);
        match name {
            "state" => text(run.state().name()),
            "workflow" => text(&*run.plea.workflow),
            "version" => Found::Number(i64::try_from(run.plea.version).unwrap_or(i64::MAX)),
            "run_id" => text(run.id().as_str()),
            "labels" => {
                let label = run.plea.labels.iter().find(|(name, _)| **name == *key);
                optional(label.map(|(_, value)| &**value))
            }
            "create_time" => Found::Time(run.create_time),
            "start_time" => time(run.start_time),
            "end_time" => time(run.end_time),
            "actor" => optional(Some(&*run.plea.actor).filter(|actor| !actor.is_empty())),
            "error.type" => optional(run.error().map(|error| &*error.kind)),
            _ => Found::Unset,
        }
    }
}

impl Runs {
    pub(super) async fn get(
        &self,
        call: &Call,
        request: pb::GetRunRequest,
    ) -> Result<pb::GetRunResponse, Refusal> {
        let look = look(request.view, request.payload_format, pb::View::Full)?;
        let id = only_id(&request.run_id)?;
        let run = self.0.engine.get_run(&call.namespace, &id, look.view == pb::View::Full).await?;
        Ok(pb::GetRunResponse { run: Some(write::write(&run, look, self.0.settings.message_max)) })
    }

    pub(super) async fn list(
        &self,
        call: &Call,
        request: pb::ListRunsRequest,
    ) -> Result<pb::ListRunsResponse, Refusal> {
        let look = look(request.view, request.payload_format, pb::View::Basic)?;
        let filter = filter(FIELDS, &request.filter)?;
        let page_size = page_size(request.page_size, list::DEFAULT)?;
        let order = order(&request.order_by, &ORDERS)?;
        let bound = bound("ListRuns", call, &filter, order);
        let after = self.0.tokens.open_row(&bound, &request.page_token)?;
        let query = RunQuery {
            namespace: call.namespace.clone(),
            accepts: Arc::new(move |run| filter.matches_row(&RunRow(run))),
            descending: order == ORDERS[0],
            after,
            page_size,
        };
        let page = self.0.engine.list_runs(query).await?;
        let message_max = self.0.settings.message_max;
        let bytes_max = PAGE_BYTES_AIM.min(message_max.saturating_sub(64 << 10));
        let (mut runs, mut bytes, mut next, mut last) = (Vec::new(), 0, page.next, None);
        for mut run in page.runs {
            if look.view == pb::View::Full {
                run = self.0.engine.view_run(run.run, true).await?;
            }
            let written = write::write(&run, look, message_max);
            bytes += written.encoded_len() + 8;
            if bytes > bytes_max && !runs.is_empty() {
                next = last;
                break;
            }
            runs.push(written);
            last = Some((run.run.create_time, run.run.id().name().clone()));
        }
        let next_page_token = next.map(|key| self.0.tokens.seal_row(&bound, &key)).unwrap_or_default();
        Ok(pb::ListRunsResponse { runs, next_page_token })
    }

    pub(super) async fn history(
        &self,
        call: &Call,
        request: pb::GetRunHistoryRequest,
    ) -> Result<pb::GetRunHistoryResponse, Refusal> {
        let size = page_size(request.page_size, list::DEFAULT)?;
        let bound = Bound::new("GetRunHistory", call.namespace.as_str(), 0, &request.run_id);
        let after = self.0.tokens.open_name(&bound, &request.page_token)?;
        let after: u64 = after.and_then(|n| n.parse().ok()).unwrap_or(0);
        let run = self.known(&call.namespace, &request.run_id).await?;
        let entries = self.0.engine.history_of(&run.run, after, size).await?;
        let (events, last) = write::events(&run, &entries, after, PAGE_BYTES_AIM);
        let next_page_token = match last < run.run.revision {
            true => self.0.tokens.seal_name(&bound, &last.to_string()),
            false => String::new(),
        };
        Ok(pb::GetRunHistoryResponse { events, next_page_token })
    }

    pub(super) async fn explain(
        &self,
        call: &Call,
        request: pb::ExplainRunRequest,
    ) -> Result<pb::ExplainRunResponse, Refusal> {
        let id = only_id(&request.run_id)?;
        let found = self.0.engine.explain_run(&call.namespace, &id).await?;
        let now = self.0.now();
        let mut causes = Vec::with_capacity(found.causes.len().max(1));
        for cause in found.causes {
            let (kind, job_kind) = write::cause_kinds(cause.kind);
            causes.push(pb::RunCause {
                kind: kind.into(),
                message: cause.message,
                holders: cause.holders.into_iter().take(20).collect(),
                eta: cause.eta.map(|at| duration(at.since(now))),
                job_kind: job_kind.into(),
            });
        }
        if causes.is_empty() {
            let run = self.0.engine.get_run(&call.namespace, &id, false).await?;
            let kind = if run.run.is_over() { pb::RunCauseKind::Ended } else { pb::RunCauseKind::Going };
            let message = found.summary.clone();
            causes.push(pb::RunCause { kind: kind.into(), message, ..pb::RunCause::default() });
        }
        Ok(pb::ExplainRunResponse { summary: found.summary, causes })
    }
}
