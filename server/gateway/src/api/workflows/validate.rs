//! `ValidateWorkflow`: all that is wrong and all that may be, who serves the topics now, and a drawing.

use super::{ReadBack, Source, Workflows};
use crate::call::Call;
use crate::wire::workflow as write;
use coretex_contract::v1 as pb;
use coretex_domain::{Namespace, Refusal};
use coretex_engine::TopicServed;
use coretex_workflow::model::{Definition, Doer, Place};
use coretex_workflow::{Format, Problem, Problems, Workflow, draw, model};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How to draw; none: not at all.
fn format(number: i32) -> Result<Option<Format>, Refusal> {
    match pb::WorkflowDrawing::try_from(number) {
        Ok(pb::WorkflowDrawing::Unspecified) => Ok(None),
        Ok(pb::WorkflowDrawing::Text) => Ok(Some(Format::Text)),
        Ok(pb::WorkflowDrawing::Dot) => Ok(Some(Format::Dot)),
        Ok(pb::WorkflowDrawing::Mermaid) => Ok(Some(Format::Mermaid)),
        Err(_) => Err(Refusal::field("drawing", format!("must be TEXT, DOT or MERMAID, got {number}"))),
    }
}

/// For each topic, the first step that needs it.
fn users(definition: &Definition) -> BTreeMap<Arc<str>, (Arc<str>, Place)> {
    let mut users = BTreeMap::new();
    definition.visit(&mut |step| {
        let own = match &step.kind {
            model::Kind::Work(work) => Some(work),
            model::Kind::Approval(_)
            | model::Kind::Delay(_)
            | model::Kind::Until(_)
            | model::Kind::WaitEvent(_)
            | model::Kind::Parallel(_) => None,
        };
        for work in own.into_iter().chain(&step.compensate) {
            if let Doer::Topic(topic) = &work.doer {
                users.entry(topic.clone()).or_insert_with(|| (step.id.clone(), step.place));
            }
        }
    });
    users
}

/// What is to be said of the topics: those that nobody serves, and those that jobs could not be submitted to.
fn unserved(definition: &Definition, topics: &[TopicServed]) -> Vec<Problem> {
    let users = users(definition);
    let told = |one: &TopicServed| {
        let (step, (line, column)) = users.get(&one.topic)?;
        let topic = &one.topic;
        let message = match (one.is_unknown, one.workers) {
            (true, _) => format!(
                "topic {topic} is not declared, and this namespace wants topics declared; step {step} would fail"
            ),
            (false, 0) => format!("no worker serves topic {topic} now; step {step} would wait for one"),
            (false, _) => return None,
        };
        Some(Problem { line: *line, column: *column, field: String::new(), message })
    };
    topics.iter().filter_map(told).collect()
}

impl Workflows {
    pub(super) async fn validate(
        &self,
        call: &Call,
        request: pb::ValidateWorkflowRequest,
    ) -> Result<pb::ValidateWorkflowResponse, Refusal> {
        let format = format(request.drawing)?;
        let source = request.source.map(|source| match source {
            pb::validate_workflow_request::Source::Yaml(text) => Source::Yaml(text),
            pb::validate_workflow_request::Source::Definition(message) => Source::Definition(message),
        });
        let ReadBack { is_message, workflow, .. } = self.read(source).await?;
        let reply = match workflow {
            Err(problems) => unsound(&problems, is_message),
            Ok(workflow) => self.sound(&call.namespace, &workflow, format, is_message),
        };
        self.check_size(&reply, "drawing", "ask without one")?;
        Ok(reply)
    }

    fn sound(
        &self,
        namespace: &Namespace,
        workflow: &Workflow,
        format: Option<Format>,
        is_message: bool,
    ) -> pb::ValidateWorkflowResponse {
        let definition = &workflow.definition;
        let topics = self.0.engine.served_topics(namespace, &definition.topics());
        let unserved = unserved(definition, &topics);
        let warnings = workflow.warnings.iter().chain(&unserved);
        let served =
            |one: &TopicServed| pb::WorkflowTopic { topic: one.topic.to_string(), workers: one.workers };
        pb::ValidateWorkflowResponse {
            valid: true,
            problems: Vec::new(),
            more_problems: 0,
            warnings: warnings.map(|one| write::problem(one, is_message)).collect(),
            drawing: format.map(|format| draw(definition, format)).unwrap_or_default(),
            topics: topics.iter().map(served).collect(),
            workflow: definition.name.to_string(),
            step_count: u32::try_from(definition.step_count()).unwrap_or(u32::MAX),
        }
    }
}

fn unsound(problems: &Problems, is_message: bool) -> pb::ValidateWorkflowResponse {
    pb::ValidateWorkflowResponse {
        problems: problems.list.iter().map(|one| write::problem(one, is_message)).collect(),
        more_problems: u32::try_from(problems.more).unwrap_or(u32::MAX),
        ..pb::ValidateWorkflowResponse::default()
    }
}
