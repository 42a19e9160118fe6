//! `WorkflowService`: workflows, read, kept with all their versions, and told.

mod validate;

use super::jobs::check_request_id;
use super::list::{self, Named, bound, filter, order, page_size, view};
use super::topics::once_in;
use crate::call::{Answer, Call};
use crate::gate::Gate;
use crate::tokens::Bound;
use crate::wire::{Faults, workflow as write};
use coretex_contract::v1 as pb;
use coretex_domain::filter::{Field, Found, Kind, Row, Schema, optional};
use coretex_domain::limits::REASON_LEN_MAX;
use coretex_domain::names::shown;
use coretex_domain::{Reason, Refusal};
use coretex_engine::{ApplyWorkflow, WorkflowInfo};
use coretex_workflow::limits::NAME_LEN_MAX;
use coretex_workflow::{Problems, Workflow};
use prost::Message;
use std::sync::Arc;
use tonic::Request;

const FIELDS: Schema = &[Field { name: "name", kind: Kind::Text }];
const ORDERS: [&str; 2] = ["name asc", "name desc"];
/// Bytes of texts after which a page of workflows ends.
const PAGE_BYTES: usize = 1 << 20;

#[derive(Clone)]
pub(crate) struct Workflows(pub(crate) Arc<Gate>);

struct WorkflowRow<'a>(&'a WorkflowInfo);

/// What a caller gives to be read.
enum Source {
    Yaml(String),
    Definition(pb::WorkflowDefinition),
}

/// A text, and what became of reading it.
struct ReadBack {
    text: Arc<str>,
    /// It was made from a message: its lines mean nothing to the caller.
    is_message: bool,
    workflow: Result<Arc<Workflow>, Problems>,
}

impl Row for WorkflowRow<'_> {
    fn field(&self, name: &'static str, _key: &str) -> Found<'_> {
        match name {
            "name" => optional(Some(&self.0.name)),
            _ => Found::Unset,
        }
    }
}

/// The name of a workflow in a request.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::field("workflow", "required"));
    }
    let is_good = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.len() > NAME_LEN_MAX || !name.chars().all(is_good) {
        let message =
            format!("must be 1..={NAME_LEN_MAX} letters, digits, `.`, `_` and `-`, got {}", shown(name));
        return Err(Refusal::field("workflow", message));
    }
    Ok(())
}

/// Every mistake as a violation of its own.
fn invalid(problems: &Problems, is_message: bool) -> Refusal {
    let mut faults = Faults::default();
    for problem in &problems.list {
        let field = write::field_of(problem, is_message);
        faults.add_as(Reason::WorkflowInvalid, field, problem.message.clone());
    }
    let whole = if is_message { "definition" } else { "yaml" };
    if problems.more > 0 {
        faults.add_as(Reason::WorkflowInvalid, whole, format!("has {} more mistakes", problems.more));
    }
    match faults.into_result() {
        Err(refusal) => refusal,
        Ok(()) => Refusal::new(Reason::WorkflowInvalid, format!("{whole}: cannot be read")),
    }
}

impl Workflows {
    async fn read(&self, source: Option<Source>) -> Result<ReadBack, Refusal> {
        let (text, is_message): (Arc<str>, bool) = match source {
            None => {
                let message = "exactly one of `yaml` and `definition` is required";
                return Err(Refusal::field("yaml", message));
            }
            Some(Source::Yaml(text)) if text.is_empty() => return Err(Refusal::field("yaml", "required")),
            Some(Source::Yaml(text)) => (text.into(), false),
            Some(Source::Definition(definition)) => (write::document(definition)?.into(), true),
        };
        let workflow = self.0.engine.read_workflow(text.clone()).await?;
        Ok(ReadBack { text, is_message, workflow })
    }

    async fn apply(
        &self,
        call: &Call,
        request: pb::ApplyWorkflowRequest,
    ) -> Result<pb::ApplyWorkflowResponse, Refusal> {
        if !request.workflow.is_empty() {
            check_name(&request.workflow)?;
        }
        let mut faults = Faults::default();
        faults.text("comment", &request.comment, REASON_LEN_MAX);
        faults.into_result()?;
        check_request_id(&request.request_id)?;
        let once = once_in(&call.namespace, "ApplyWorkflow", &request.request_id, &request);
        let source = request.source.map(|source| match source {
            pb::apply_workflow_request::Source::Yaml(text) => Source::Yaml(text),
            pb::apply_workflow_request::Source::Definition(message) => Source::Definition(message),
        });
        let ReadBack { text, is_message, workflow } = self.read(source).await?;
        let workflow = workflow.map_err(|problems| invalid(&problems, is_message))?;
        let name = &workflow.definition.name;
        call.subject(name);
        if !request.workflow.is_empty() && *request.workflow != **name {
            let message =
                format!("is {}, the name in the definition is {}", shown(&request.workflow), shown(name));
            return Err(Refusal::field("workflow", message));
        }
        let warning = |problem| pb::Warning {
            reason: "LIKELY_MISTAKE".into(),
            field: write::field_of(problem, is_message),
            message: problem.message.clone(),
        };
        let warnings = workflow.warnings.iter().map(warning).collect();
        let comment = request.comment.into();
        let apply = ApplyWorkflow { workflow, text, revision: request.revision, comment };
        let done = match request.validate_only {
            true => self.0.engine.preview_workflow(&call.caller(), &apply)?,
            false => self.0.engine.apply_workflow(&call.caller(), apply, once).await?,
        };
        Ok(pb::ApplyWorkflowResponse {
            workflow: Some(write::info(&done.workflow, pb::View::Basic)),
            created: done.created && !request.validate_only,
            warnings,
        })
    }

    async fn get(
        &self,
        call: &Call,
        request: pb::GetWorkflowRequest,
    ) -> Result<pb::GetWorkflowResponse, Refusal> {
        check_name(&request.workflow)?;
        let view = view(request.view, pb::View::Full)?;
        let (engine, namespace, name) = (&self.0.engine, &call.namespace, &request.workflow);
        let found = engine.workflow_info(namespace, name, request.version, view == pb::View::Full).await?;
        let mut workflow = write::info(&found, view);
        if request.with_definition {
            let read = engine.workflow_definition(namespace, name, found.version).await?;
            let told = write::definition(&read.workflow.definition.normal());
            workflow.definition = Some(told.map_err(|path| inexact(name, &path))?);
        }
        let reply = pb::GetWorkflowResponse { workflow: Some(workflow) };
        self.check_size(&reply, "workflow", "ask for `yaml` or `definition` alone")?;
        if request.with_definition
            && pb::GetWorkflowResponse::decode(reply.encode_to_vec().as_slice()).is_err()
        {
            return Err(inexact(name, "definition"));
        }
        Ok(reply)
    }

    /// Refuses an answer that would not be sent.
    fn check_size(&self, reply: &impl Message, field: &str, advice: &str) -> Result<(), Refusal> {
        let (len, most) = (reply.encoded_len(), self.0.settings.message_max);
        if len <= most {
            return Ok(());
        }
        let message = format!("{field}: the answer has {len} bytes, at most {most} are sent; {advice}");
        Err(Refusal::new(Reason::MessageTooLarge, message))
    }

    async fn list(
        &self,
        call: &Call,
        request: pb::ListWorkflowsRequest,
    ) -> Result<pb::ListWorkflowsResponse, Refusal> {
        let filter = filter(FIELDS, &request.filter)?;
        let page_size = page_size(request.page_size, list::DEFAULT)?;
        let order = order(&request.order_by, &ORDERS)?;
        let view = view(request.view, pb::View::Basic)?;
        let found = self.0.engine.workflows(&call.namespace, request.show_deleted)?;
        let is_wanted = |one: &WorkflowInfo| filter.matches_row(&WorkflowRow(one));
        let rows = found.into_iter().filter(is_wanted).map(|one| (one.name.to_string(), one)).collect();
        // The token of one list is none of the other.
        let method = if request.show_deleted { "ListWorkflows deleted" } else { "ListWorkflows" };
        let (tokens, bound) = (&self.0.tokens, || bound(method, call, &filter, order));
        let (descending, page_token) = (order.ends_with("desc"), request.page_token.as_str());
        let named = Named { rows, bound: bound(), tokens, descending, page_size, page_token };
        let (page, next_page_token) = named.page()?;
        let mut workflows: Vec<pb::Workflow> = Vec::with_capacity(page.len());
        let mut bytes = 0;
        for one in page {
            let written = match view {
                pb::View::Full => self.whole(call, &one).await?,
                pb::View::Ref | pb::View::Basic | pb::View::Unspecified => write::info(&one, view),
            };
            bytes += written.encoded_len();
            if let (true, Some(last)) = (bytes > PAGE_BYTES, workflows.last()) {
                let next_page_token = tokens.seal_name(&bound(), &last.name);
                return Ok(pb::ListWorkflowsResponse { workflows, next_page_token });
            }
            workflows.push(written);
        }
        Ok(pb::ListWorkflowsResponse { workflows, next_page_token })
    }

    /// A workflow of a list with its text.
    async fn whole(&self, call: &Call, one: &WorkflowInfo) -> Result<pb::Workflow, Refusal> {
        let found = self.0.engine.workflow_info(&call.namespace, &one.name, one.version, true).await?;
        Ok(write::info(&found, pb::View::Full))
    }

    async fn versions(
        &self,
        call: &Call,
        request: pb::ListWorkflowVersionsRequest,
    ) -> Result<pb::ListWorkflowVersionsResponse, Refusal> {
        check_name(&request.workflow)?;
        let page_size = page_size(request.page_size, list::DEFAULT)?;
        let view = view(request.view, pb::View::Basic)?;
        let bound = Bound::new("ListWorkflowVersions", call.namespace.as_str(), 0, &request.workflow);
        let before = self.0.tokens.open_name(&bound, &request.page_token)?;
        let before = before.and_then(|version| version.parse().ok());
        let (engine, name, with_text) = (&self.0.engine, &request.workflow, view == pb::View::Full);
        let (found, more) =
            engine.workflow_versions(&call.namespace, name, before, page_size, with_text).await?;
        let last = found.last().filter(|_| more).map(|one| one.version.to_string());
        let next_page_token = last.map(|last| self.0.tokens.seal_name(&bound, &last)).unwrap_or_default();
        let workflows = found.iter().map(|one| write::info(one, view)).collect();
        Ok(pb::ListWorkflowVersionsResponse { workflows, next_page_token })
    }

    async fn delete(
        &self,
        call: &Call,
        request: pb::DeleteWorkflowRequest,
    ) -> Result<pb::DeleteWorkflowResponse, Refusal> {
        check_name(&request.workflow)?;
        check_request_id(&request.request_id)?;
        let once = once_in(&call.namespace, "DeleteWorkflow", &request.request_id, &request);
        let (name, revision) = (&request.workflow, request.revision);
        let deleted = self.0.engine.delete_workflow(&call.namespace, name, revision, once).await?;
        Ok(pb::DeleteWorkflowResponse { deleted })
    }
}

fn inexact(name: &str, path: &str) -> Refusal {
    let message = format!("{path}: a message cannot say this part of workflow {name} exactly; its text does");
    Refusal::new(Reason::WorkflowInexact, message).fact("workflow", name).fact("path", path)
}

#[tonic::async_trait]
impl pb::workflow_service_server::WorkflowService for Workflows {
    async fn apply_workflow(
        &self,
        request: Request<pb::ApplyWorkflowRequest>,
    ) -> Answer<pb::ApplyWorkflowResponse> {
        let call = Call::of(&request);
        if !request.get_ref().workflow.is_empty() {
            call.subject(&request.get_ref().workflow);
        }
        call.answer(self.apply(&call, request.into_inner()).await)
    }

    async fn validate_workflow(
        &self,
        request: Request<pb::ValidateWorkflowRequest>,
    ) -> Answer<pb::ValidateWorkflowResponse> {
        let call = Call::of(&request);
        call.answer(self.validate(&call, request.into_inner()).await)
    }

    async fn get_workflow(
        &self,
        request: Request<pb::GetWorkflowRequest>,
    ) -> Answer<pb::GetWorkflowResponse> {
        let call = Call::of(&request);
        call.answer(self.get(&call, request.into_inner()).await)
    }

    async fn list_workflows(
        &self,
        request: Request<pb::ListWorkflowsRequest>,
    ) -> Answer<pb::ListWorkflowsResponse> {
        let call = Call::of(&request);
        call.answer(self.list(&call, request.into_inner()).await)
    }

    async fn list_workflow_versions(
        &self,
        request: Request<pb::ListWorkflowVersionsRequest>,
    ) -> Answer<pb::ListWorkflowVersionsResponse> {
        let call = Call::of(&request);
        call.answer(self.versions(&call, request.into_inner()).await)
    }

    async fn delete_workflow(
        &self,
        request: Request<pb::DeleteWorkflowRequest>,
    ) -> Answer<pb::DeleteWorkflowResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().workflow);
        call.answer(self.delete(&call, request.into_inner()).await)
    }
}
