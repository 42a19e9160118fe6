//! Looking at jobs: pages, reads by id, histories, explanations.

use super::jobs::Jobs;
use super::list::{self, bound, filter, order, page_size, view};
use crate::call::Call;
use crate::gate::job_id;
use crate::wire::job::{self, Look, PAGE_BYTES_AIM};
use crate::wire::time::duration;
use crate::wire::{Faults, event};
use coretex_contract::v1 as pb;
use coretex_domain::filter::{Filter, JOB_FIELDS};
use coretex_domain::limits;
use coretex_domain::{Reason, Refusal, Time};
use coretex_engine::api::{JobPage, JobQuery, JobSet};
use prost::Message;
use std::sync::Arc;

/// Most ids of one read.
const BATCH_GET_MAX: usize = 1_000;
const ORDERS: [&str; 2] = ["create_time desc", "create_time asc"];

impl Jobs {
    pub(super) async fn list(
        &self,
        call: &Call,
        request: pb::ListJobsRequest,
    ) -> Result<pb::ListJobsResponse, Refusal> {
        let look = look(request.view, request.payload_format, pb::View::Basic)?;
        let filter = filter(JOB_FIELDS, &request.filter)?;
        let size = page_size(request.page_size, list::DEFAULT)?;
        let order = order(&request.order_by, &ORDERS)?;
        let bound = bound("ListJobs", call, &filter, order);
        let after = self.0.tokens.open_job(&bound, &request.page_token)?;
        let query =
            JobQuery { after, page_size: size, descending: order == ORDERS[0], ..query(call, filter) };
        let page = self.0.engine.list(query).await?;
        let (jobs, next) = fit(page, |job| job::write(job, look));
        let next_page_token = next.map(|key| self.0.tokens.seal_job(&bound, &key)).unwrap_or_default();
        Ok(pb::ListJobsResponse { jobs, next_page_token })
    }

    pub(super) async fn batch_get(
        &self,
        call: &Call,
        request: pb::BatchGetJobsRequest,
    ) -> Result<pb::BatchGetJobsResponse, Refusal> {
        let look = look(request.view, request.payload_format, pb::View::Basic)?;
        if request.job_ids.len() > BATCH_GET_MAX {
            let message = format!("job_ids: at most {BATCH_GET_MAX}, got {}", request.job_ids.len());
            return Err(Refusal::new(Reason::BatchTooLarge, message));
        }
        if request.job_ids.is_empty() {
            return Err(Refusal::field("job_ids", "required"));
        }
        let mut faults = Faults::default();
        let mut ids = Vec::with_capacity(request.job_ids.len());
        for (n, text) in request.job_ids.iter().enumerate() {
            match job_id(&format!("job_ids[{n}]"), text) {
                Ok(id) => ids.push(id),
                Err(refusal) => refusal.violations.into_iter().for_each(|v| faults.add(v.field, v.message)),
            }
        }
        faults.into_result()?;
        let found = self.0.engine.batch_get(&call.namespace, ids).await?;
        let mut out = pb::BatchGetJobsResponse::default();
        for (id, job) in request.job_ids.into_iter().zip(found) {
            match job {
                Some(job) => out.jobs.push(job::write(&job, look)),
                None => out.missing.push(id),
            }
        }
        Ok(out)
    }

    pub(super) async fn history(
        &self,
        call: &Call,
        request: pb::GetJobHistoryRequest,
    ) -> Result<pb::GetJobHistoryResponse, Refusal> {
        let id = job_id("job_id", &request.job_id)?;
        let size = page_size(request.page_size, list::DEFAULT)?;
        let bound = crate::tokens::Bound::new("GetJobHistory", call.namespace.as_str(), 0, &request.job_id);
        let from = self.0.tokens.open_name(&bound, &request.page_token)?;
        let from: usize = from.and_then(|n| n.parse().ok()).unwrap_or(0);
        let job = self.0.engine.get(&call.namespace, &id).await?;
        let events = event::history(&job, from, size);
        let next = from + events.len();
        let next_page_token = match next < job.history.len() {
            true => self.0.tokens.seal_name(&bound, &next.to_string()),
            false => String::new(),
        };
        Ok(pb::GetJobHistoryResponse { events, next_page_token })
    }

    pub(super) async fn explain(
        &self,
        call: &Call,
        request: pb::ExplainJobRequest,
    ) -> Result<pb::ExplainJobResponse, Refusal> {
        let id = job_id("job_id", &request.job_id)?;
        let found = self.0.engine.explain(&call.namespace, &id).await?;
        let now = self.0.now();
        let mut causes: Vec<pb::JobCause> = found
            .causes
            .into_iter()
            .map(|cause| pb::JobCause {
                kind: job::cause_kind(cause.kind).into(),
                message: cause.message,
                holders: cause.holders.into_iter().take(20).collect(),
                eta: cause.eta.map(|at| duration(at.since(now))),
            })
            .collect();
        if causes.is_empty() {
            let kind = pb::JobCauseKind::Ended.into();
            causes.push(pb::JobCause { kind, message: found.summary.clone(), ..pb::JobCause::default() });
        }
        Ok(pb::ExplainJobResponse { summary: found.summary, causes })
    }
}

/// A question for the engine from a filter.
pub(crate) fn query(call: &Call, filter: Filter) -> JobQuery {
    let (from, to) = filter.create_time_bounds();
    JobQuery {
        namespace: call.namespace.clone(),
        topic: filter.topic().cloned(),
        state: filter.state(),
        from,
        to,
        descending: true,
        after: None,
        page_size: limits::PAGE_MAX,
        set: JobSet::All,
        accepts: Arc::new(move |job| filter.matches(job)),
    }
}

/// Writes a page, and cuts it where it would not fit a message.
pub(super) fn fit<T: Message>(
    page: JobPage,
    write: impl Fn(&coretex_domain::Job) -> T,
) -> (Vec<T>, Option<(Time, coretex_domain::JobId)>) {
    let mut jobs = Vec::with_capacity(page.jobs.len());
    let mut bytes = 0;
    let mut last = None;
    for job in &page.jobs {
        let written = write(job);
        bytes += written.encoded_len() + 8;
        if bytes > PAGE_BYTES_AIM && !jobs.is_empty() {
            return (jobs, last);
        }
        jobs.push(written);
        last = Some((job.create_time, job.id.clone()));
    }
    (jobs, page.next)
}

pub(super) fn look(given: i32, format: i32, default: pb::View) -> Result<Look, Refusal> {
    let format = pb::PayloadFormat::try_from(format)
        .map_err(|_| Refusal::field("payload_format", format!("must be DATA or JSON, got {format}")))?;
    Ok(Look { view: view(given, default)?, format })
}
