//! Calls about workflows.

use super::list::{ListRequest, Page, all_pages};
use super::{Client, request_id};
use crate::error::{Error, Result};
use crate::job::Warning;
use crate::names::View;
use crate::raw::{Raw, pb};
use crate::workflow::{AppliedWorkflow, ApplyWorkflow, Workflow, WorkflowCheck, WorkflowDrawing};
use futures::Stream;

impl Client {
    /// Keeps a workflow as a new version, unless its newest one says the same.
    pub async fn apply_workflow(&self, apply: ApplyWorkflow) -> Result<AppliedWorkflow> {
        let send = |raw: Raw, request| async move { raw.workflows().apply_workflow(request).await };
        let reply = self.call(apply.into_pb(request_id()), send).await?;
        let warnings = Warning::from_pb(reply.warnings);
        Ok(AppliedWorkflow { workflow: Workflow::found(reply.workflow)?, created: reply.created, warnings })
    }

    /// Says all that is wrong with a workflow, who serves its topics now, and draws it. Nothing is kept.
    pub async fn validate_workflow(
        &self,
        workflow: ApplyWorkflow,
        drawing: Option<WorkflowDrawing>,
    ) -> Result<WorkflowCheck> {
        let send = |raw: Raw, request| async move { raw.workflows().validate_workflow(request).await };
        Ok(WorkflowCheck::from_pb(self.call(workflow.into_check(drawing), send).await?))
    }

    /// A workflow with its text; `version` 0 for the newest.
    pub async fn get_workflow(&self, workflow: impl Into<String>, version: u64) -> Result<Workflow> {
        let workflow = workflow.into();
        self.workflow(pb::GetWorkflowRequest { workflow, version, ..Default::default() }).await
    }

    /// A workflow as a message; `version` 0 for the newest.
    pub async fn workflow_definition(
        &self,
        workflow: impl Into<String>,
        version: u64,
    ) -> Result<pb::WorkflowDefinition> {
        let (workflow, view) = (workflow.into(), View::number(Some(View::Ref)));
        let request = pb::GetWorkflowRequest { workflow, version, view, with_definition: true };
        let found = self.workflow(request).await?.definition;
        found.ok_or_else(|| Error::unexpected("the reply has no definition"))
    }

    async fn workflow(&self, request: pb::GetWorkflowRequest) -> Result<Workflow> {
        let send = |raw: Raw, request| async move { raw.workflows().get_workflow(request).await };
        Workflow::found(self.call(request, send).await?.workflow)
    }

    /// A page of workflows by name, each as its newest version.
    pub async fn list_workflows(&self, request: impl Into<ListRequest>) -> Result<Page<Workflow>> {
        let ListRequest { filter, page_size, page_token, order_by, view } = request.into();
        let view = View::number(view);
        let request =
            pb::ListWorkflowsRequest { filter, page_size, page_token, order_by, view, show_deleted: false };
        let send = |raw: Raw, request| async move { raw.workflows().list_workflows(request).await };
        let reply = self.call(request, send).await?;
        let items = reply.workflows.into_iter().map(Workflow::from_pb).collect();
        Ok(Page { items, next_page_token: reply.next_page_token })
    }

    /// All workflows of a list, page after page.
    pub fn list_all_workflows(
        &self,
        request: impl Into<ListRequest>,
    ) -> impl Stream<Item = Result<Workflow>> + Send + 'static {
        let client = self.clone();
        all_pages(request.into(), move |request| {
            let client = client.clone();
            async move { client.list_workflows(request).await }
        })
    }

    /// The versions of a workflow, newest first, page after page.
    pub fn workflow_versions(
        &self,
        workflow: impl Into<String>,
    ) -> impl Stream<Item = Result<Workflow>> + Send + 'static {
        let (client, workflow) = (self.clone(), workflow.into());
        all_pages(ListRequest::default(), move |asked| {
            let (client, workflow) = (client.clone(), workflow.clone());
            async move {
                let ListRequest { page_size, page_token, .. } = asked;
                let request = pb::ListWorkflowVersionsRequest { workflow, page_size, page_token, view: 0 };
                let send =
                    |raw: Raw, request| async move { raw.workflows().list_workflow_versions(request).await };
                let reply = client.call(request, send).await?;
                let items = reply.workflows.into_iter().map(Workflow::from_pb).collect();
                Ok::<_, Error>(Page { items, next_page_token: reply.next_page_token })
            }
        })
    }

    /// Takes a workflow away, if it is at `revision` (0: whatever it is at); its versions stay. True if it was there.
    pub async fn delete_workflow(&self, workflow: impl Into<String>, revision: u64) -> Result<bool> {
        let (workflow, request_id) = (workflow.into(), request_id());
        let request = pb::DeleteWorkflowRequest { workflow, revision, request_id };
        let send = |raw: Raw, request| async move { raw.workflows().delete_workflow(request).await };
        Ok(self.call(request, send).await?.deleted)
    }
}
