//! `ApprovalService`: what people are asked about jobs, and what they say.

use super::jobs::check_request_id;
use super::list::{self, bound, filter, order, page_size};
use super::lookup::look;
use crate::call::{Answer, Call};
use crate::gate::Gate;
use crate::wire::job::PAGE_BYTES_AIM;
use crate::wire::spec::warning;
use crate::wire::{Faults, approval as write, job};
use coretex_contract::v1 as pb;
use coretex_domain::approval::{APPROVAL_FIELDS, Approval, ApprovalId, ApprovalRow, Choice, Voter};
use coretex_domain::limits::REASON_LEN_MAX;
use coretex_domain::names::shown;
use coretex_domain::{Job, Payload, Reason, Refusal};
use coretex_engine::ApprovalQuery;
use coretex_engine::api::{Ballot, HandOver};
use prost::Message;
use std::sync::Arc;
use tonic::Request;

const ORDERS: [&str; 2] = ["create_time desc", "create_time asc"];

#[derive(Clone)]
pub(crate) struct Approvals(pub(crate) Arc<Gate>);

impl Call {
    /// The identity in the words of rules: its name, and the names of its roles.
    fn voter(&self) -> Voter {
        let principal = &self.principal;
        let roles = principal.roles.iter().map(|role| role.name().into()).collect();
        Voter { name: principal.name.clone(), roles }
    }
}

/// Reads the id of an approval together with what is said about it.
fn asked(approval_id: &str, comment: &str, request_id: &str, also: Faults) -> Result<ApprovalId, Refusal> {
    let mut faults = also;
    let id = match approval_id {
        "" => Err("required".to_owned()),
        text => ApprovalId::parse(text).map_err(|fault| format!("{}, got {}", fault.0, shown(text))),
    };
    if let Err(message) = &id {
        faults.add("approval_id", message.clone());
    }
    faults.text("comment", comment, REASON_LEN_MAX);
    if let Err(refusal) = check_request_id(request_id) {
        refusal.violations.into_iter().for_each(|v| faults.add(v.field, v.message));
    }
    faults.into_result()?;
    id.map_err(|message| Refusal::field("approval_id", message))
}

/// Without names nobody can be told from anybody else: whoever votes should know.
fn warnings(call: &Call, approval: &Approval) -> Vec<pb::Warning> {
    if !call.principal.name.is_empty() {
        return Vec::new();
    }
    let quorum = approval.terms.quorum;
    let message = match quorum {
        0 | 1 => "nobody is asked to log in: who approves is not checked".to_owned(),
        _ => format!(
            "nobody is asked to log in: all votes without a name count as one, and {quorum} are needed"
        ),
    };
    vec![warning(Reason::AnonymousVote, "approval_id", &message)]
}

impl Approvals {
    async fn list(
        &self,
        call: &Call,
        request: pb::ListApprovalsRequest,
    ) -> Result<pb::ListApprovalsResponse, Refusal> {
        let filter = filter(APPROVAL_FIELDS, &request.filter)?;
        let page_size = page_size(request.page_size, list::DEFAULT)?;
        let order = order(&request.order_by, &ORDERS)?;
        let bound = bound("ListApprovals", call, &filter, order);
        let after = self.0.tokens.open_row(&bound, &request.page_token)?;
        let voter = call.voter();
        let query = ApprovalQuery {
            namespace: call.namespace.clone(),
            accepts: Arc::new(move |approval| filter.matches_row(&ApprovalRow { approval, voter: &voter })),
            descending: order == ORDERS[0],
            after,
            page_size,
        };
        let page = self.0.engine.list_approvals(query).await?;
        let (mut approvals, mut bytes, mut next) = (Vec::new(), 0, page.next);
        let mut last = None;
        for approval in &page.approvals {
            let written = write::write(approval);
            bytes += written.encoded_len() + 8;
            if bytes > PAGE_BYTES_AIM && !approvals.is_empty() {
                next = last;
                break;
            }
            approvals.push(written);
            last = Some((approval.create_time, approval.id().to_string().into()));
        }
        let next_page_token = next.map(|key| self.0.tokens.seal_row(&bound, &key)).unwrap_or_default();
        Ok(pb::ListApprovalsResponse { approvals, next_page_token })
    }

    async fn get(
        &self,
        call: &Call,
        request: pb::GetApprovalRequest,
    ) -> Result<pb::GetApprovalResponse, Refusal> {
        let look = look(request.view, request.payload_format, pb::View::Full)?;
        let id = asked(&request.approval_id, "", "", Faults::default())?;
        let approval = self.0.engine.approval(&call.namespace, &id).await?;
        let job = self.job(call, &approval).await?;
        Ok(pb::GetApprovalResponse {
            approval: Some(write::write(&approval)),
            job: job.map(|job| job::write(&job, look)),
        })
    }

    /// The job, as far as it is kept.
    async fn job(&self, call: &Call, approval: &Approval) -> Result<Option<Arc<Job>>, Refusal> {
        let found = self.0.engine.batch_get(&call.namespace, vec![approval.job_id.clone()]).await?;
        Ok(found.into_iter().flatten().next())
    }

    async fn vote(
        &self,
        call: &Call,
        id: ApprovalId,
        choice: Choice,
        comment: String,
        edited: Option<Payload>,
    ) -> Result<(Approval, Option<pb::Job>), Refusal> {
        let ballot = Ballot {
            namespace: call.namespace.clone(),
            id,
            voter: call.voter(),
            choice,
            comment: comment.into(),
            edited,
        };
        let approval = self.0.engine.vote(ballot).await?;
        let job = self.job(call, &approval).await?;
        Ok((approval, job.map(|job| job::reference(&job))))
    }

    async fn approve(
        &self,
        call: &Call,
        request: pb::ApproveRequest,
    ) -> Result<pb::ApproveResponse, Refusal> {
        let edited = self.0.reader(call).edited(request.edited_input);
        let mut faults = Faults::default();
        if let Err(refusal) = &edited {
            refusal
                .violations
                .iter()
                .for_each(|v| faults.add_as(refusal.reason, v.field.clone(), v.message.clone()));
        }
        let id = asked(&request.approval_id, &request.comment, &request.request_id, faults)?;
        let (approval, job) = self.vote(call, id, Choice::Approve, request.comment, edited?).await?;
        let warnings = warnings(call, &approval);
        Ok(pb::ApproveResponse { approval: Some(write::write(&approval)), job, warnings })
    }

    async fn reject(&self, call: &Call, request: pb::RejectRequest) -> Result<pb::RejectResponse, Refusal> {
        let id = asked(&request.approval_id, &request.comment, &request.request_id, Faults::default())?;
        let (approval, job) = self.vote(call, id, Choice::Reject, request.comment, None).await?;
        let warnings = warnings(call, &approval);
        Ok(pb::RejectResponse { approval: Some(write::write(&approval)), job, warnings })
    }

    async fn delegate(
        &self,
        call: &Call,
        request: pb::DelegateApprovalRequest,
    ) -> Result<pb::DelegateApprovalResponse, Refusal> {
        let mut faults = Faults::default();
        let to = faults.name("to", &request.to);
        if to.is_none() {
            faults.add("to", "required");
        }
        let id = asked(&request.approval_id, &request.comment, &request.request_id, faults)?;
        let hand_over = HandOver {
            namespace: call.namespace.clone(),
            id,
            voter: call.voter(),
            to: to.unwrap_or_default(),
            comment: request.comment.into(),
        };
        let approval = self.0.engine.delegate_approval(hand_over).await?;
        Ok(pb::DelegateApprovalResponse { approval: Some(write::write(&approval)) })
    }
}

#[tonic::async_trait]
impl pb::approval_service_server::ApprovalService for Approvals {
    async fn list_approvals(
        &self,
        request: Request<pb::ListApprovalsRequest>,
    ) -> Answer<pb::ListApprovalsResponse> {
        let call = Call::of(&request);
        call.answer(self.list(&call, request.into_inner()).await)
    }

    async fn get_approval(
        &self,
        request: Request<pb::GetApprovalRequest>,
    ) -> Answer<pb::GetApprovalResponse> {
        let call = Call::of(&request);
        call.answer(self.get(&call, request.into_inner()).await)
    }

    async fn approve(&self, request: Request<pb::ApproveRequest>) -> Answer<pb::ApproveResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().approval_id);
        call.answer(Approvals::approve(self, &call, request.into_inner()).await)
    }

    async fn reject(&self, request: Request<pb::RejectRequest>) -> Answer<pb::RejectResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().approval_id);
        call.answer(Approvals::reject(self, &call, request.into_inner()).await)
    }

    async fn delegate_approval(
        &self,
        request: Request<pb::DelegateApprovalRequest>,
    ) -> Answer<pb::DelegateApprovalResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().approval_id);
        call.answer(self.delegate(&call, request.into_inner()).await)
    }
}
