//! `AuditService`: who did what, or was refused.

use super::list::{self, bound, filter, order, page_size};
use crate::call::{Answer, Call};
use crate::gate::Gate;
use crate::wire::time::timestamp;
use coretex_contract::v1 as pb;
use coretex_domain::Refusal;
use coretex_domain::filter::{Field, Found, Kind, Row, Schema, optional};
use coretex_domain::limits::PAGE_EXAMINED_MAX;
use coretex_engine::audit::Record;
use std::sync::Arc;
use tonic::Request;

const FIELDS: Schema = &[
    Field { name: "actor", kind: Kind::Text },
    Field { name: "namespace", kind: Kind::Text },
    Field { name: "method", kind: Kind::Text },
    Field { name: "subject", kind: Kind::Text },
    Field { name: "outcome", kind: Kind::Text },
    Field { name: "reason", kind: Kind::Text },
    Field { name: "request_id", kind: Kind::Text },
    Field { name: "time", kind: Kind::Time },
];
const ORDERS: [&str; 2] = ["sequence desc", "sequence asc"];
/// Records read at a time.
const STEP: usize = 500;

#[derive(Clone)]
pub(crate) struct Audit(pub(crate) Arc<Gate>);

struct AuditRow<'a>(&'a Record);

impl Row for AuditRow<'_> {
    fn field(&self, name: &'static str, _key: &str) -> Found<'_> {
        let record = self.0;
        match name {
            "actor" => optional(Some(&record.actor)),
            "namespace" => optional(Some(&record.namespace)),
            "method" => optional(Some(&record.method)),
            "subject" => optional(Some(&record.subject)),
            "outcome" => optional(Some(&record.outcome)),
            "reason" => optional(Some(&record.reason)),
            "request_id" => optional(Some(&record.request_id)),
            "time" => Found::Time(record.time()),
            _ => Found::Unset,
        }
    }
}

fn write(record: &Record) -> pb::AuditRecord {
    pb::AuditRecord {
        sequence: record.sequence,
        time: Some(timestamp(record.time())),
        actor: record.actor.to_string(),
        actor_kind: record.actor_kind.to_string(),
        namespace: record.namespace.to_string(),
        method: record.method.to_string(),
        subject: record.subject.to_string(),
        outcome: record.outcome.to_string(),
        reason: record.reason.to_string(),
        request_id: record.request_id.to_string(),
        address: record.address.to_string(),
        detail: record.detail.to_string(),
        previous: record.previous.to_string(),
        hash: record.hash.to_string(),
    }
}

impl Audit {
    async fn list(
        &self,
        call: &Call,
        request: pb::ListAuditRecordsRequest,
    ) -> Result<pb::ListAuditRecordsResponse, Refusal> {
        let filter = filter(FIELDS, &request.filter)?;
        let page_size = page_size(request.page_size, list::DEFAULT)?;
        let order = order(&request.order_by, &ORDERS)?;
        let bound = bound("ListAuditRecords", call, &filter, order);
        let after = self.0.tokens.open_name(&bound, &request.page_token)?;
        let mut after: Option<u64> = after.and_then(|sequence| sequence.parse().ok());
        let descending = order == ORDERS[0];
        let (mut records, mut examined, mut more) = (Vec::new(), 0, true);
        'walk: while more && examined < PAGE_EXAMINED_MAX {
            let (step, has_more) = self.0.engine.audit_records(descending, after, STEP).await?;
            more = has_more;
            for record in step {
                if records.len() == page_size {
                    more = true;
                    break 'walk;
                }
                examined += 1;
                after = Some(record.sequence);
                if call.may_use(&record.namespace) && filter.matches_row(&AuditRow(&record)) {
                    records.push(write(&record));
                }
            }
        }
        let next = after.filter(|_| more).map(|sequence| sequence.to_string());
        let next_page_token = next.map(|next| self.0.tokens.seal_name(&bound, &next)).unwrap_or_default();
        Ok(pb::ListAuditRecordsResponse { records, next_page_token })
    }

    async fn verify(&self) -> Result<pb::VerifyAuditRecordsResponse, Refusal> {
        let found = self.0.engine.verify_audit().await?;
        let (broken_sequence, broken) =
            found.broken.map_or((0, String::new()), |broken| (broken.sequence, broken.what));
        Ok(pb::VerifyAuditRecordsResponse {
            sound: broken.is_empty(),
            checked: found.checked,
            first_sequence: found.first,
            last_sequence: found.end.sequence,
            last_hash: found.end.hash.to_string(),
            broken_sequence,
            broken,
        })
    }
}

#[tonic::async_trait]
impl pb::audit_service_server::AuditService for Audit {
    async fn list_audit_records(
        &self,
        request: Request<pb::ListAuditRecordsRequest>,
    ) -> Answer<pb::ListAuditRecordsResponse> {
        let call = Call::of(&request);
        call.answer(self.list(&call, request.into_inner()).await)
    }

    async fn verify_audit_records(
        &self,
        request: Request<pb::VerifyAuditRecordsRequest>,
    ) -> Answer<pb::VerifyAuditRecordsResponse> {
        let call = Call::of(&request);
        call.answer(self.verify().await)
    }
}
