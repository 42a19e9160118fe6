//! `DlqService`: jobs that gave up.

mod redrive;

use super::Replies;
use super::jobs::check_request_id;
use super::list::{self, bound, filter, order, page_size};
use super::lookup::{fit, look, query};
use crate::call::{Answer, Call};
use crate::gate::{Gate, job_id};
use crate::wire::job::{Look, ack_level, reference};
use crate::wire::{Faults, dead_letter, time};
use coretex_contract::v1 as pb;
use coretex_domain::dead_letter::{DEAD_LETTER_FIELDS, DeadLetter, LetterRow};
use coretex_domain::filter::Filter;
use coretex_domain::limits::PAGE_MAX;
use coretex_domain::{Refusal, Time};
use coretex_engine::api::{Accepted, JobQuery, JobSet};
use std::sync::Arc;
use tonic::Request;

const ORDERS: [&str; 2] = ["create_time desc", "create_time asc"];

#[derive(Clone)]
pub(crate) struct Dlq(pub(crate) Arc<Gate>);

/// A question for the engine about dead letters.
fn letters(call: &Call, filter: Filter) -> JobQuery {
    let all = query(call, filter.clone());
    let accepts = move |job: &coretex_domain::Job| {
        DeadLetter::kept(job).is_some_and(|letter| filter.matches_row(&LetterRow { letter: &letter, job }))
    };
    JobQuery { set: JobSet::DeadLetters, accepts: Arc::new(accepts), ..all }
}

/// Of those, the ones whose job gave up before a time.
fn left_before(letters: JobQuery, before: Time) -> JobQuery {
    let accepts = letters.accepts.clone();
    let is_before =
        move |job: &coretex_domain::Job| job.end_time.is_some_and(|end| end < before) && accepts(job);
    // A job is not older than its end.
    JobQuery { to: letters.to.min(before), accepts: Arc::new(is_before), ..letters }
}

impl Dlq {
    async fn list(
        &self,
        call: &Call,
        request: pb::ListDeadLettersRequest,
    ) -> Result<pb::ListDeadLettersResponse, Refusal> {
        let look = look(request.view, request.payload_format, pb::View::Basic)?;
        let filter = filter(DEAD_LETTER_FIELDS, &request.filter)?;
        let page_size = page_size(request.page_size, list::DEFAULT)?;
        let order = order(&request.order_by, &ORDERS)?;
        let bound = bound("ListDeadLetters", call, &filter, order);
        let after = self.0.tokens.open_job(&bound, &request.page_token)?;
        let descending = order == ORDERS[0];
        let query = JobQuery { after, page_size, descending, ..letters(call, filter) };
        let page = self.0.engine.list(query).await?;
        let (dead_letters, next) = fit(page, |job| dead_letter::write(job, look));
        let next_page_token = next.map(|key| self.0.tokens.seal_job(&bound, &key)).unwrap_or_default();
        Ok(pb::ListDeadLettersResponse { dead_letters, next_page_token })
    }

    async fn get(
        &self,
        call: &Call,
        request: pb::GetDeadLetterRequest,
    ) -> Result<pb::GetDeadLetterResponse, Refusal> {
        let look = look(request.view, request.payload_format, pb::View::Full)?;
        let id = job_id("dead_letter_id", &request.dead_letter_id)?;
        let job = self.0.engine.dead_letter(&call.namespace, &id).await?;
        Ok(pb::GetDeadLetterResponse { dead_letter: Some(dead_letter::write(&job, look)) })
    }

    async fn group(
        &self,
        call: &Call,
        request: pb::GroupDeadLettersRequest,
    ) -> Result<pb::GroupDeadLettersResponse, Refusal> {
        let filter = filter(DEAD_LETTER_FIELDS, &request.filter)?;
        let most = match usize::try_from(request.max_groups) {
            Ok(0) => list::DEFAULT,
            Ok(most) if most <= PAGE_MAX => most,
            _ => {
                let message = format!("must be 0..={PAGE_MAX}, got {}", request.max_groups);
                return Err(Refusal::field("max_groups", message));
            }
        };
        let found = self.0.engine.group_dead_letters(letters(call, filter)).await?;
        Ok(pb::GroupDeadLettersResponse {
            groups: found.groups.iter().take(most).map(dead_letter::group).collect(),
            group_count: found.groups.len() as u64,
            count: found.count,
            exact: found.is_exact,
        })
    }

    async fn retry(
        &self,
        call: &Call,
        request: pb::RetryDeadLetterRequest,
    ) -> Result<pb::RetryDeadLetterResponse, Refusal> {
        let id = job_id("dead_letter_id", &request.dead_letter_id)?;
        check_request_id(&request.request_id)?;
        let edited = self.0.reader(call).edited(request.edited_input)?;
        let engine = &self.0.engine;
        let Accepted { job, existing } =
            engine.retry_dead_letter(&call.caller(), &id, edited, &request.request_id).await?;
        self.0.learn_paused(&call.namespace).await;
        let warnings = self.0.paused_warning(&call.namespace, &job.spec.topic).into_iter().collect();
        let old = engine.dead_letters(&call.namespace, vec![id]).await?.pop();
        Ok(pb::RetryDeadLetterResponse {
            job: Some(reference(&job)),
            dead_letter: old.map(|old| dead_letter::write(&old, Look::BASIC)),
            existing,
            ack_level: ack_level(engine.guarantees().ack).into(),
            warnings,
        })
    }

    async fn delete(
        &self,
        call: &Call,
        request: pb::DeleteDeadLetterRequest,
    ) -> Result<pb::DeleteDeadLetterResponse, Refusal> {
        let id = job_id("dead_letter_id", &request.dead_letter_id)?;
        check_request_id(&request.request_id)?;
        let deleted = self.0.engine.delete_dead_letter(&call.caller(), &id).await?;
        Ok(pb::DeleteDeadLetterResponse { deleted })
    }

    async fn purge(
        &self,
        call: &Call,
        request: pb::PurgeDeadLettersRequest,
    ) -> Result<pb::PurgeDeadLettersResponse, Refusal> {
        check_request_id(&request.request_id)?;
        let mut faults = Faults::default();
        let before = time::instant(&mut faults, "before_time", request.before_time, self.0.now());
        let is_narrowed = !request.filter.is_empty() || request.before_time.is_some();
        if request.all && is_narrowed {
            faults.add("all", "must not come with `filter` or `before_time`");
        } else if !request.all && !is_narrowed {
            faults.add("filter", "required: `filter`, `before_time` or both, or `all`");
        }
        faults.into_result()?;
        let letters = letters(call, filter(DEAD_LETTER_FIELDS, &request.filter)?);
        let letters = match before {
            Some(before) => left_before(letters, before),
            None => letters,
        };
        if request.preview {
            let letters = JobQuery { descending: false, ..letters };
            let preview = self.0.engine.preview_dead_letters(letters).await?;
            return Ok(pb::PurgeDeadLettersResponse {
                matched: preview.matched,
                exact: preview.is_exact,
                sample: preview.sample.iter().map(|job| dead_letter::write(job, Look::BASIC)).collect(),
                ..pb::PurgeDeadLettersResponse::default()
            });
        }
        let done = self.0.engine.purge_dead_letters(&call.caller(), letters).await?;
        let (purged, more) = (done.purged, done.has_more);
        Ok(pb::PurgeDeadLettersResponse { purged, more, ..pb::PurgeDeadLettersResponse::default() })
    }
}

/// What a change of several is done to, for the audit.
fn several(filter: &str, ids: &[String]) -> String {
    match (ids, filter) {
        ([], "") => "all".into(),
        ([], filter) => filter.into(),
        (ids, _) => ids.iter().take(16).map(String::as_str).collect::<Vec<_>>().join(" "),
    }
}

#[tonic::async_trait]
impl pb::dlq_service_server::DlqService for Dlq {
    type BatchRetryDeadLettersStream = Replies<pb::BatchRetryDeadLettersResponse>;

    async fn list_dead_letters(
        &self,
        request: Request<pb::ListDeadLettersRequest>,
    ) -> Answer<pb::ListDeadLettersResponse> {
        let call = Call::of(&request);
        call.answer(self.list(&call, request.into_inner()).await)
    }

    async fn get_dead_letter(
        &self,
        request: Request<pb::GetDeadLetterRequest>,
    ) -> Answer<pb::GetDeadLetterResponse> {
        let call = Call::of(&request);
        call.answer(self.get(&call, request.into_inner()).await)
    }

    async fn group_dead_letters(
        &self,
        request: Request<pb::GroupDeadLettersRequest>,
    ) -> Answer<pb::GroupDeadLettersResponse> {
        let call = Call::of(&request);
        call.answer(self.group(&call, request.into_inner()).await)
    }

    async fn retry_dead_letter(
        &self,
        request: Request<pb::RetryDeadLetterRequest>,
    ) -> Answer<pb::RetryDeadLetterResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().dead_letter_id);
        call.answer(self.retry(&call, request.into_inner()).await)
    }

    async fn batch_retry_dead_letters(
        &self,
        request: Request<pb::BatchRetryDeadLettersRequest>,
    ) -> Answer<Self::BatchRetryDeadLettersStream> {
        let call = Call::of(&request);
        call.subject(&several(&request.get_ref().filter, &request.get_ref().dead_letter_ids));
        let opened = redrive::open(self.0.clone(), call.clone(), request.into_inner()).await;
        call.answer(opened)
    }

    async fn delete_dead_letter(
        &self,
        request: Request<pb::DeleteDeadLetterRequest>,
    ) -> Answer<pb::DeleteDeadLetterResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().dead_letter_id);
        call.answer(self.delete(&call, request.into_inner()).await)
    }

    async fn purge_dead_letters(
        &self,
        request: Request<pb::PurgeDeadLettersRequest>,
    ) -> Answer<pb::PurgeDeadLettersResponse> {
        let call = Call::of(&request);
        call.subject(&several(&request.get_ref().filter, &[]));
        call.answer(self.purge(&call, request.into_inner()).await)
    }
}
