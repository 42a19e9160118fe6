//! Workflows as the server keeps them.

use crate::error::{Error, Result};
use crate::job::Warning;
use crate::raw::pb;
use crate::time::of_stamp;
use std::time::SystemTime;

/// A workflow to be applied or checked: a text in YAML (or JSON), or a message that says the same.
///
/// ```
/// # use coretex_sdk::ApplyWorkflow;
/// let apply = ApplyWorkflow::yaml("name: hello\nsteps: [{ id: a, topic: job.echo }]\n").comment("the first one");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a workflow is kept when this is sent"]
pub struct ApplyWorkflow {
    source: Source,
    validate_only: bool,
    revision: u64,
    comment: String,
}

#[derive(Clone, Debug)]
enum Source {
    Yaml(String),
    Definition(Box<pb::WorkflowDefinition>),
}

/// How a workflow is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkflowDrawing {
    /// As text, for a terminal.
    Text,
    /// In DOT, for Graphviz.
    Dot,
    /// In Mermaid, for documents.
    Mermaid,
}

/// A workflow, as one of its versions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Workflow {
    /// Its name.
    pub name: String,
    /// Number of this version, from 1. 0 for one that was only checked and would be new.
    pub version: u64,
    /// Number of the newest version.
    pub newest_version: u64,
    /// What it says about itself.
    pub description: String,
    /// Hash of what it says: texts that say the same have the same.
    pub digest: String,
    /// The text as it was applied. `None` where it was not asked for.
    pub yaml: Option<String>,
    /// The same as a message. `None` where it was not asked for.
    pub definition: Option<pb::WorkflowDefinition>,
    /// Steps, those in groups and of `on_failure` included.
    pub step_count: u32,
    /// Topics that its steps are sent to.
    pub topic_count: u32,
    /// Who applied this version.
    pub actor: String,
    /// What they said about it.
    pub comment: String,
    /// When this version was made.
    pub create_time: Option<SystemTime>,
    /// Revision of the workflow as a whole.
    pub revision: u64,
    /// When it was deleted. `None` for one that can be started.
    pub delete_time: Option<SystemTime>,
}

/// What became of applying a workflow.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AppliedWorkflow {
    /// The newest version, without its text.
    pub workflow: Workflow,
    /// Whether a new version was made.
    pub created: bool,
    /// What is not wrong but looks like a mistake.
    pub warnings: Vec<Warning>,
}

/// Something wrong with a workflow, or something that may be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct WorkflowProblem {
    /// Line in the text, from 1; 0 where there is none.
    pub line: u32,
    /// Column in the line, from 1; 0 where there is none.
    pub column: u32,
    /// Path of the field. Empty for the text as a whole.
    pub path: String,
    /// What is wrong, with the value and the limit.
    pub message: String,
    /// The nearest name, where a name does not exist.
    pub suggestion: Option<String>,
}

/// All that is to be said of a workflow that is not kept yet.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkflowCheck {
    /// Whether it could be applied as far as its text goes.
    pub valid: bool,
    /// All that is wrong.
    pub problems: Vec<WorkflowProblem>,
    /// How many more there are than are told.
    pub more_problems: u32,
    /// What may be a mistake, and topics that no worker serves now.
    pub warnings: Vec<WorkflowProblem>,
    /// The drawing, where one was asked for.
    pub drawing: String,
    /// Topics that its steps are sent to, with the number of workers that serve each now.
    pub topics: Vec<(String, u32)>,
    /// Its name. Empty when something is wrong.
    pub workflow: String,
    /// Steps, those in groups and of `on_failure` included.
    pub step_count: u32,
}

// === impl ApplyWorkflow ===

impl ApplyWorkflow {
    fn of(source: Source) -> Self {
        Self { source, validate_only: false, revision: 0, comment: String::new() }
    }

    /// A text in YAML or JSON, at most 1 MiB.
    pub fn yaml(text: impl Into<String>) -> Self {
        Self::of(Source::Yaml(text.into()))
    }

    /// A message.
    pub fn definition(definition: pb::WorkflowDefinition) -> Self {
        Self::of(Source::Definition(Box::new(definition)))
    }

    /// Only check it: nothing is changed.
    pub fn validate_only(mut self) -> Self {
        self.validate_only = true;
        self
    }

    /// Apply only if the workflow is at this revision; 0 means any.
    pub fn at_revision(mut self, revision: u64) -> Self {
        self.revision = revision;
        self
    }

    /// Kept with the version, at most 1,024 bytes.
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = comment.into();
        self
    }

    pub(crate) fn into_pb(self, request_id: String) -> pb::ApplyWorkflowRequest {
        use pb::apply_workflow_request::Source as Given;
        pb::ApplyWorkflowRequest {
            source: Some(match self.source {
                Source::Yaml(text) => Given::Yaml(text),
                Source::Definition(definition) => Given::Definition(*definition),
            }),
            validate_only: self.validate_only,
            workflow: String::new(),
            revision: self.revision,
            comment: self.comment,
            request_id,
        }
    }

    pub(crate) fn into_check(self, drawing: Option<WorkflowDrawing>) -> pb::ValidateWorkflowRequest {
        use pb::validate_workflow_request::Source as Given;
        pb::ValidateWorkflowRequest {
            source: Some(match self.source {
                Source::Yaml(text) => Given::Yaml(text),
                Source::Definition(definition) => Given::Definition(*definition),
            }),
            drawing: match drawing {
                None => pb::WorkflowDrawing::Unspecified,
                Some(WorkflowDrawing::Text) => pb::WorkflowDrawing::Text,
                Some(WorkflowDrawing::Dot) => pb::WorkflowDrawing::Dot,
                Some(WorkflowDrawing::Mermaid) => pb::WorkflowDrawing::Mermaid,
            }
            .into(),
        }
    }
}

// === impl Workflow ===

impl Workflow {
    pub(crate) fn from_pb(workflow: pb::Workflow) -> Self {
        Self {
            name: workflow.name,
            version: workflow.version,
            newest_version: workflow.newest_version,
            description: workflow.description,
            digest: workflow.digest,
            yaml: Some(workflow.yaml).filter(|text| !text.is_empty()),
            definition: workflow.definition,
            step_count: workflow.step_count,
            topic_count: workflow.topic_count,
            actor: workflow.actor,
            comment: workflow.comment,
            create_time: of_stamp(workflow.create_time),
            revision: workflow.revision,
            delete_time: of_stamp(workflow.delete_time),
        }
    }

    pub(crate) fn found(workflow: Option<pb::Workflow>) -> Result<Self> {
        workflow.map(Self::from_pb).ok_or_else(|| Error::unexpected("the reply has no workflow"))
    }
}

// === impl WorkflowCheck ===

impl WorkflowCheck {
    pub(crate) fn from_pb(reply: pb::ValidateWorkflowResponse) -> Self {
        Self {
            valid: reply.valid,
            problems: reply.problems.into_iter().map(WorkflowProblem::from_pb).collect(),
            more_problems: reply.more_problems,
            warnings: reply.warnings.into_iter().map(WorkflowProblem::from_pb).collect(),
            drawing: reply.drawing,
            topics: reply.topics.into_iter().map(|one| (one.topic, one.workers)).collect(),
            workflow: reply.workflow,
            step_count: reply.step_count,
        }
    }
}

// === impl WorkflowProblem ===

impl WorkflowProblem {
    fn from_pb(problem: pb::WorkflowProblem) -> Self {
        Self {
            line: problem.line,
            column: problem.column,
            path: problem.path,
            message: problem.message,
            suggestion: Some(problem.suggestion).filter(|name| !name.is_empty()),
        }
    }
}

/// `3:5: steps[0](read).topic: is blank`, as a compiler tells it.
impl std::fmt::Display for WorkflowProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}
