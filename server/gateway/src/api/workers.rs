//! `WorkerService`: the stream of workers, work without a stream, and who is there.

use super::jobs::check_request_id;
use super::list::{self, Named, bound, filter, order, page_size, view};
use super::{Replies, decoded};
use crate::call::{Answer, Call};
use crate::gate::Gate;
use crate::stream::worker as stream;
use crate::wire::assign::{assignment, cancel_notice, rejection};
use crate::wire::time::{duration, span};
use crate::wire::{Faults, report, worker};
use coretex_contract::v1 as pb;
use coretex_domain::filter::{Field, Found, Kind, Row, Schema, optional};
use coretex_domain::limits::{ASSIGN_BATCH_MAX, SESSION_TOPICS_MAX};
use coretex_domain::names::{check_topic, check_worker_name};
use coretex_domain::{Refusal, SessionId, Span};
use coretex_engine::api::{Poll, WorkerInfo};
use std::sync::Arc;
use tonic::{Request, Response, Streaming};

const POLL_DEFAULT: Span = Span::secs(10);
const POLL_MAX: Span = Span::secs(60);
/// How long a worker may take to leave when the caller does not say.
const DRAIN_DEFAULT: Span = Span::secs(30);
const CAPABILITIES_MAX: usize = 64;
/// How long a session of PollJobs lives; what the engine keeps to when it is not told otherwise.
const POLL_SESSION_TTL: Span = Span::secs(60);

const STATES: [&str; 4] = ["CONNECTED", "DISCONNECTED", "DRAINING", "GONE"];
const FIELDS: Schema = &[
    Field { name: "state", kind: Kind::Word(&STATES) },
    Field { name: "worker_id", kind: Kind::Text },
    Field { name: "pool", kind: Kind::Text },
    Field { name: "topic", kind: Kind::Text },
    Field { name: "node_id", kind: Kind::Text },
    Field { name: "labels", kind: Kind::Map },
];
const ORDERS: [&str; 4] = ["worker_id asc", "worker_id desc", "connect_time asc", "connect_time desc"];

#[derive(Clone)]
pub(crate) struct Workers(pub(crate) Arc<Gate>);

struct WorkerRow<'a> {
    info: &'a WorkerInfo,
    node_id: &'a str,
}

impl Row for WorkerRow<'_> {
    fn field(&self, name: &'static str, key: &str) -> Found<'_> {
        let session = &self.info.session;
        match name {
            "state" => optional(worker::state(self.info).as_str_name().strip_prefix("WORKER_STATE_")),
            "worker_id" => optional(Some(&session.worker_id)),
            "pool" => optional(Some(&session.pool)),
            "topic" => {
                Found::Texts(session.lanes.iter().flat_map(|l| l.topics.iter().map(|t| t.as_ref())).collect())
            }
            "node_id" => optional(self.info.is_connected.then_some(self.node_id)),
            "labels" => {
                optional(session.labels.iter().find(|(k, _)| k.as_ref() == key).map(|(_, v)| v.as_ref()))
            }
            _ => Found::Unset,
        }
    }
}

fn worker_name(text: &str) -> Result<(), Refusal> {
    if text.is_empty() {
        return Err(Refusal::field("worker_id", "required"));
    }
    check_worker_name(text).map_err(|message| Refusal::field("worker_id", message))
}

fn session_id(faults: &mut Faults, text: &str) -> Option<SessionId> {
    if text.is_empty() {
        return None;
    }
    match SessionId::parse(text) {
        Ok(id) => Some(id),
        Err(fault) => {
            faults.add("session_id", format!("{}, got {}", fault.0, coretex_domain::names::shown(text)));
            None
        }
    }
}

impl Workers {
    fn write(&self, info: &WorkerInfo) -> Option<pb::Worker> {
        Some(worker::write(info, &self.0.engine.info().node_id))
    }

    async fn poll(&self, call: &Call, request: pb::PollJobsRequest) -> Result<pb::PollJobsResponse, Refusal> {
        let poll = read_poll(call, request)?;
        let polled = self.0.engine.poll(poll).await?;
        let now = self.0.now();
        Ok(pb::PollJobsResponse {
            session_id: polled.session_id.to_string(),
            assignments: polled.assignments.iter().map(|a| assignment(a, now)).collect(),
            session_ttl: Some(duration(polled.session_ttl)),
            cancel: polled.cancel.into_iter().filter_map(cancel_notice).collect(),
        })
    }

    async fn report(
        &self,
        call: &Call,
        request: pb::ReportJobsRequest,
    ) -> Result<pb::ReportJobsResponse, Refusal> {
        let mut faults = Faults::default();
        let session = session_id(&mut faults, &request.session_id);
        if session.is_none() && request.updates.is_empty() {
            faults.add("session_id", "required for a heartbeat");
        }
        faults.into_result()?;
        let read = report::read(request.updates, 0, self.0.settings.payload_max, true)?;
        let (rejected, controls) =
            self.0.engine.report_by_token(&call.caller(), session, read.updates).await?;
        let mut all = read.rejected;
        for mut one in rejected.into_iter().map(rejection) {
            one.index = match &read.indexes {
                Some(indexes) => indexes.get(one.index as usize).copied().unwrap_or(one.index),
                None => one.index,
            };
            all.push(one);
        }
        all.sort_by_key(|r| r.index);
        all.dedup_by_key(|r| r.index);
        Ok(pb::ReportJobsResponse {
            rejected: all,
            cancel: controls.into_iter().filter_map(cancel_notice).collect(),
            session_ttl: session.map(|_| duration(POLL_SESSION_TTL)),
        })
    }

    fn list(
        &self,
        call: &Call,
        request: &pb::ListWorkersRequest,
    ) -> Result<pb::ListWorkersResponse, Refusal> {
        let filter = filter(FIELDS, &request.filter)?;
        let page_size = page_size(request.page_size, list::DEFAULT)?;
        let order = order(&request.order_by, &ORDERS)?;
        let view = view(request.view, pb::View::Basic)?;
        let node_id = self.0.engine.info().node_id;
        let key = |info: &WorkerInfo| match order.starts_with("connect_time") {
            // Ids break ties, so that a page ends at one place only.
            true => format!("{:020}{}", info.session.create_time.0, info.session.worker_id),
            false => info.session.worker_id.to_string(),
        };
        let found = self.0.engine.workers(&call.namespace);
        let rows = found
            .into_iter()
            .filter(|info| filter.matches_row(&WorkerRow { info, node_id: &node_id }))
            .map(|info| (key(&info), info))
            .collect();
        let named = Named {
            rows,
            bound: bound("ListWorkers", call, &filter, order),
            tokens: &self.0.tokens,
            descending: order.ends_with("desc"),
            page_size,
            page_token: &request.page_token,
        };
        let (page, next_page_token) = named.page()?;
        let write = |info: &WorkerInfo| match view {
            pb::View::Ref => worker::reference(info),
            pb::View::Basic | pb::View::Full | pb::View::Unspecified => worker::write(info, &node_id),
        };
        Ok(pb::ListWorkersResponse { workers: page.iter().map(write).collect(), next_page_token })
    }

    async fn drain(
        &self,
        call: &Call,
        request: pb::DrainWorkerRequest,
    ) -> Result<pb::DrainWorkerResponse, Refusal> {
        worker_name(&request.worker_id)?;
        check_request_id(&request.request_id)?;
        let mut faults = Faults::default();
        let mut order = worker::drain(&mut faults, request.mode, request.deadline, &request.reason);
        faults.into_result()?;
        order.deadline.get_or_insert(DRAIN_DEFAULT);
        order.request_id = request.request_id.as_str().into();
        let info = self.0.engine.drain_worker(&call.namespace, &request.worker_id, order).await?;
        Ok(pb::DrainWorkerResponse { worker: self.write(&info) })
    }
}

fn read_poll(call: &Call, request: pb::PollJobsRequest) -> Result<Poll, Refusal> {
    let mut faults = Faults::default();
    let session_id = session_id(&mut faults, &request.session_id);
    let worker_id = faults.name("worker_id", &request.worker_id).unwrap_or_default();
    let pool = faults.name("pool", &request.pool);
    let capabilities = faults.names("capabilities", &request.capabilities, CAPABILITIES_MAX);
    let labels = faults.labels("labels", request.labels.into_iter());
    let timeout = span(&mut faults, "timeout", request.timeout, Span::ZERO, POLL_MAX).unwrap_or(POLL_DEFAULT);
    let most = u32::try_from(ASSIGN_BATCH_MAX).unwrap_or(u32::MAX);
    if request.max_jobs > most {
        faults.add("max_jobs", format!("must be 1..={most}, got {}", request.max_jobs));
    }
    if request.topics.is_empty() || request.topics.len() > SESSION_TOPICS_MAX {
        faults
            .add("topics", format!("must have 1..={SESSION_TOPICS_MAX} items, got {}", request.topics.len()));
    }
    for (n, topic) in request.topics.iter().enumerate().take(SESSION_TOPICS_MAX) {
        faults.check(&format!("topics[{n}]"), check_topic(topic));
    }
    faults.into_result()?;
    let mut topics: Vec<Arc<str>> = request.topics.iter().map(|t| t.as_str().into()).collect();
    topics.sort();
    topics.dedup();
    Ok(Poll {
        namespace: call.namespace.clone(),
        principal: call.actor(),
        worker_id,
        session_id,
        topics,
        pool,
        capabilities,
        labels,
        max_jobs: request.max_jobs.max(1),
        timeout: call.within_deadline(timeout),
    })
}

#[tonic::async_trait]
impl pb::worker_service_server::WorkerService for Workers {
    type ConnectStream = Replies<pb::ConnectResponse>;

    async fn connect(&self, request: Request<Streaming<pb::ConnectRequest>>) -> Answer<Self::ConnectStream> {
        let call = Call::of(&request);
        Ok(Response::new(decoded(stream::open(self.0.clone(), call, request.into_inner()))))
    }

    async fn poll_jobs(&self, request: Request<pb::PollJobsRequest>) -> Answer<pb::PollJobsResponse> {
        let call = Call::of(&request);
        call.answer(self.poll(&call, request.into_inner()).await)
    }

    async fn report_jobs(&self, request: Request<pb::ReportJobsRequest>) -> Answer<pb::ReportJobsResponse> {
        let call = Call::of(&request);
        call.answer(self.report(&call, request.into_inner()).await)
    }

    async fn list_workers(
        &self,
        request: Request<pb::ListWorkersRequest>,
    ) -> Answer<pb::ListWorkersResponse> {
        let call = Call::of(&request);
        call.answer(self.list(&call, request.get_ref()))
    }

    async fn get_worker(&self, request: Request<pb::GetWorkerRequest>) -> Answer<pb::GetWorkerResponse> {
        let call = Call::of(&request);
        let id = &request.get_ref().worker_id;
        let found = worker_name(id).and_then(|()| self.0.engine.worker(&call.namespace, id));
        call.answer(found.map(|info| pb::GetWorkerResponse { worker: self.write(&info) }))
    }

    async fn drain_worker(
        &self,
        request: Request<pb::DrainWorkerRequest>,
    ) -> Answer<pb::DrainWorkerResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().worker_id);
        call.answer(self.drain(&call, request.into_inner()).await)
    }
}
