//! `NamespaceService`: tenants, their quotas and what they use.

use super::jobs::check_request_id;
use super::list::{self, Named, bound, filter, order, page_size};
use super::topics::once;
use crate::call::{Answer, Call};
use crate::gate::Gate;
use crate::wire::Faults;
use crate::wire::time::{duration, span, timestamp};
use coretex_contract::v1 as pb;
use coretex_domain::filter::{Field, Found, Kind, Row, Schema, optional};
use coretex_domain::limits;
use coretex_domain::names::check_namespace;
use coretex_domain::{Reason, Refusal, Span};
use coretex_engine::namespaces::{NamespaceInfo, NamespaceSettings, Quotas};
use std::sync::Arc;
use tonic::Request;

const FIELDS: Schema = &[Field { name: "name", kind: Kind::Text }];
const ORDERS: [&str; 2] = ["name asc", "name desc"];
const DESCRIPTION_LEN_MAX: usize = 1_024;
/// No quota is higher.
const AMOUNT_MAX: u64 = 1_000_000_000_000;
const COUNT_MAX: u64 = 1_000_000;

#[derive(Clone)]
pub(crate) struct Namespaces(pub(crate) Arc<Gate>);

struct NamespaceRow<'a>(&'a NamespaceInfo);

impl Row for NamespaceRow<'_> {
    fn field(&self, name: &'static str, _key: &str) -> Found<'_> {
        match name {
            "name" => optional(Some(&self.0.name)),
            _ => Found::Unset,
        }
    }
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::field("namespace", "required"));
    }
    check_namespace(name).map_err(|message| Refusal::field("namespace", message))
}

fn read(settings: Option<pb::NamespaceSettings>) -> Result<NamespaceSettings, Refusal> {
    let given = settings.unwrap_or_default();
    let quotas = given.quotas.unwrap_or_default();
    let mut faults = Faults::default();
    faults.text("settings.description", &given.description, DESCRIPTION_LEN_MAX);
    for (name, value, least, most) in [
        ("open_jobs_max", quotas.open_jobs_max, 0, AMOUNT_MAX),
        ("submits_per_second", quotas.submits_per_second, 1, COUNT_MAX),
        ("payload_bytes_per_second", quotas.payload_bytes_per_second, 1, AMOUNT_MAX),
        ("worker_sessions_max", quotas.worker_sessions_max, 0, COUNT_MAX),
        ("watches_max", quotas.watches_max, 0, COUNT_MAX),
    ] {
        if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
            faults.add(format!("settings.quotas.{name}"), format!("must be {least}..={most}, got {value}"));
        }
    }
    let (least, most) = (limits::RETENTION_MIN, limits::RETENTION_MAX);
    let retention = span(&mut faults, "settings.retention", given.retention, least, most);
    let name = "settings.dead_letter_retention";
    let dead_letters = span(&mut faults, name, given.dead_letter_retention, least, most);
    faults.into_result()?;
    Ok(NamespaceSettings {
        description: given.description,
        topics_declared: given.topics_declared,
        quotas: Quotas {
            open_jobs_max: quotas.open_jobs_max,
            submits_per_second: quotas.submits_per_second,
            payload_bytes_per_second: quotas.payload_bytes_per_second,
            worker_sessions_max: quotas.worker_sessions_max,
            watches_max: quotas.watches_max,
        },
        retention_ms: retention.map(|span| span.0),
        dead_letter_retention_ms: dead_letters.map(|span| span.0),
    })
}

fn write(info: &NamespaceInfo) -> pb::Namespace {
    let quotas = info.settings.quotas;
    pb::Namespace {
        name: info.name.to_string(),
        settings: Some(pb::NamespaceSettings {
            description: info.settings.description.clone(),
            topics_declared: info.settings.topics_declared,
            retention: info.settings.retention_ms.map(|ms| duration(Span(ms))),
            dead_letter_retention: info.settings.dead_letter_retention_ms.map(|ms| duration(Span(ms))),
            quotas: (quotas != Quotas::default()).then_some(pb::NamespaceQuotas {
                open_jobs_max: quotas.open_jobs_max,
                submits_per_second: quotas.submits_per_second,
                payload_bytes_per_second: quotas.payload_bytes_per_second,
                worker_sessions_max: quotas.worker_sessions_max,
                watches_max: quotas.watches_max,
            }),
        }),
        r#use: Some(pb::NamespaceUse {
            open_jobs: info.open_jobs,
            worker_sessions: info.worker_sessions,
            watches: info.watches,
        }),
        revision: info.revision,
        create_time: info.create_time.map(timestamp),
        update_time: info.update_time.map(timestamp),
    }
}

impl Namespaces {
    async fn create(
        &self,
        request: pb::CreateNamespaceRequest,
    ) -> Result<pb::CreateNamespaceResponse, Refusal> {
        check_name(&request.namespace)?;
        check_request_id(&request.request_id)?;
        let once = once("CreateNamespace", &request.request_id, &request);
        let settings = read(request.settings)?;
        let made = self.0.engine.set_namespace(&request.namespace, settings, true, 0, once).await?;
        Ok(pb::CreateNamespaceResponse { namespace: Some(write(&made)) })
    }

    async fn update(
        &self,
        request: pb::UpdateNamespaceRequest,
    ) -> Result<pb::UpdateNamespaceResponse, Refusal> {
        check_name(&request.namespace)?;
        check_request_id(&request.request_id)?;
        let once = once("UpdateNamespace", &request.request_id, &request);
        let settings = read(request.settings)?;
        let (name, revision) = (&request.namespace, request.revision);
        let made = self.0.engine.set_namespace(name, settings, false, revision, once).await?;
        Ok(pb::UpdateNamespaceResponse { namespace: Some(write(&made)) })
    }

    fn get(&self, call: &Call, name: &str) -> Result<pb::GetNamespaceResponse, Refusal> {
        check_name(name)?;
        if !call.may_use(name) {
            // As if it were not there.
            return Err(not_found(name));
        }
        Ok(pb::GetNamespaceResponse { namespace: Some(write(&self.0.engine.namespace(name)?)) })
    }

    fn list(
        &self,
        call: &Call,
        request: &pb::ListNamespacesRequest,
    ) -> Result<pb::ListNamespacesResponse, Refusal> {
        let filter = filter(FIELDS, &request.filter)?;
        let page_size = page_size(request.page_size, list::DEFAULT)?;
        let order = order(&request.order_by, &ORDERS)?;
        let found = self.0.engine.namespaces()?;
        let rows = found
            .into_iter()
            .filter(|info| call.may_use(&info.name) && filter.matches_row(&NamespaceRow(info)))
            .map(|info| (info.name.to_string(), info))
            .collect();
        let named = Named {
            rows,
            bound: bound("ListNamespaces", call, &filter, order),
            tokens: &self.0.tokens,
            descending: order.ends_with("desc"),
            page_size,
            page_token: &request.page_token,
        };
        let (page, next_page_token) = named.page()?;
        Ok(pb::ListNamespacesResponse { namespaces: page.iter().map(write).collect(), next_page_token })
    }

    async fn delete(
        &self,
        request: pb::DeleteNamespaceRequest,
    ) -> Result<pb::DeleteNamespaceResponse, Refusal> {
        check_name(&request.namespace)?;
        check_request_id(&request.request_id)?;
        let once = once("DeleteNamespace", &request.request_id, &request);
        let deleted = self.0.engine.delete_namespace(&request.namespace, request.revision, once).await?;
        Ok(pb::DeleteNamespaceResponse { deleted })
    }
}

/// The refusal of a namespace that is not there, or that the caller may not know of.
pub(crate) fn not_found(name: &str) -> Refusal {
    Refusal::new(Reason::NamespaceNotFound, format!("there is no namespace {name}")).fact("namespace", name)
}

#[tonic::async_trait]
impl pb::namespace_service_server::NamespaceService for Namespaces {
    async fn create_namespace(
        &self,
        request: Request<pb::CreateNamespaceRequest>,
    ) -> Answer<pb::CreateNamespaceResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().namespace);
        call.answer(self.create(request.into_inner()).await)
    }

    async fn update_namespace(
        &self,
        request: Request<pb::UpdateNamespaceRequest>,
    ) -> Answer<pb::UpdateNamespaceResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().namespace);
        call.answer(self.update(request.into_inner()).await)
    }

    async fn get_namespace(
        &self,
        request: Request<pb::GetNamespaceRequest>,
    ) -> Answer<pb::GetNamespaceResponse> {
        let call = Call::of(&request);
        call.answer(self.get(&call, &request.get_ref().namespace))
    }

    async fn list_namespaces(
        &self,
        request: Request<pb::ListNamespacesRequest>,
    ) -> Answer<pb::ListNamespacesResponse> {
        let call = Call::of(&request);
        call.answer(self.list(&call, request.get_ref()))
    }

    async fn delete_namespace(
        &self,
        request: Request<pb::DeleteNamespaceRequest>,
    ) -> Answer<pb::DeleteNamespaceResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().namespace);
        call.answer(self.delete(request.into_inner()).await)
    }
}
