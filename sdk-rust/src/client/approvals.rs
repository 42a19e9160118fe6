//! Calls about approvals.

use super::list::{ListRequest, Page, all_pages};
use super::{Client, request_id};
use crate::approval::{Approval, Decided};
use crate::error::{Error, Result};
use crate::job::{Job, Warning};
use crate::payload::Payload;
use crate::raw::{Raw, pb};
use futures::Stream;

impl Client {
    /// A page of approvals, newest first unless asked otherwise. `mine = true` is those the caller may decide.
    pub async fn list_approvals(&self, request: impl Into<ListRequest>) -> Result<Page<Approval>> {
        let ListRequest { filter, page_size, page_token, order_by, view: _ } = request.into();
        let request = pb::ListApprovalsRequest { filter, page_size, page_token, order_by };
        let send = |raw: Raw, request| async move { raw.approvals().list_approvals(request).await };
        let reply = self.call(request, send).await?;
        let items = reply.approvals.into_iter().map(Approval::from_pb).collect();
        Ok(Page { items, next_page_token: reply.next_page_token })
    }

    /// All approvals of a list, page after page.
    pub fn list_all_approvals(
        &self,
        request: impl Into<ListRequest>,
    ) -> impl Stream<Item = Result<Approval>> + Send + 'static {
        let client = self.clone();
        all_pages(request.into(), move |request| {
            let client = client.clone();
            async move { client.list_approvals(request).await }
        })
    }

    /// An approval, and its job with the input it is about, as far as that is kept.
    pub async fn get_approval(&self, id: impl Into<String>) -> Result<(Approval, Option<Job>)> {
        let request = pb::GetApprovalRequest { approval_id: id.into(), ..Default::default() };
        let send = |raw: Raw, request| async move { raw.approvals().get_approval(request).await };
        let reply = self.call(request, send).await?;
        Ok((found(reply.approval)?, reply.job.map(Job::from_pb)))
    }

    /// Says yes.
    pub async fn approve(&self, id: impl Into<String>, comment: impl Into<String>) -> Result<Decided> {
        self.approve_as(id.into(), comment.into(), None).await
    }

    /// Says yes to another input in the place of the one asked about.
    pub async fn approve_with(
        &self,
        id: impl Into<String>,
        comment: impl Into<String>,
        input: Payload,
    ) -> Result<Decided> {
        self.approve_as(id.into(), comment.into(), Some(input)).await
    }

    async fn approve_as(
        &self,
        approval_id: String,
        comment: String,
        input: Option<Payload>,
    ) -> Result<Decided> {
        let edited_input = input.map(Payload::into_pb);
        let request = pb::ApproveRequest { approval_id, comment, edited_input, request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.approvals().approve(request).await };
        let reply = self.call(request, send).await?;
        decided(reply.approval, reply.job, reply.warnings)
    }

    /// Says no, which ends it.
    pub async fn reject(&self, id: impl Into<String>, comment: impl Into<String>) -> Result<Decided> {
        let request =
            pb::RejectRequest { approval_id: id.into(), comment: comment.into(), request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.approvals().reject(request).await };
        let reply = self.call(request, send).await?;
        decided(reply.approval, reply.job, reply.warnings)
    }

    /// Gives the caller's vote on an approval into other hands.
    pub async fn delegate_approval(
        &self,
        id: impl Into<String>,
        to: impl Into<String>,
        comment: impl Into<String>,
    ) -> Result<Approval> {
        let request = pb::DelegateApprovalRequest {
            approval_id: id.into(),
            to: to.into(),
            comment: comment.into(),
            request_id: request_id(),
        };
        let send = |raw: Raw, request| async move { raw.approvals().delegate_approval(request).await };
        found(self.call(request, send).await?.approval)
    }
}

fn found(approval: Option<pb::Approval>) -> Result<Approval> {
    approval.map(Approval::from_pb).ok_or_else(|| Error::unexpected("the reply has no approval"))
}

fn decided(
    approval: Option<pb::Approval>,
    job: Option<pb::Job>,
    warnings: Vec<pb::Warning>,
) -> Result<Decided> {
    let job = job.map(Job::from_pb);
    Ok(Decided { approval: found(approval)?, job, warnings: Warning::from_pb(warnings) })
}
